/* Answers that a program can read: the model fills in a JSON Schema, and chooses from a list.
 * structured MODEL */
#include <infer/infer.h>
#include <stdio.h>

static const char schema[] =
    "{\"type\": \"object\","
    " \"properties\": {"
    "   \"name\": {\"type\": \"string\", \"pattern\": \"^[A-Z][a-z]{1,9}$\"},"
    "   \"age\":  {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 120},"
    "   \"city\": {\"enum\": [\"Rome\", \"Paris\", \"Bern\"]}},"
    " \"required\": [\"name\", \"age\", \"city\"],"
    " \"additionalProperties\": false}";

static int32_t print(const char *text, size_t size, void *user_data)
{
    (void)user_data;
    return fwrite(text, 1, size, stdout) != size;
}

/* One question under one grammar; the grammar may serve any number of requests. */
static infer_status ask(infer_session *session, const char *question, const infer_grammar *grammar)
{
    infer_message message = {.role = "user", .content = question};
    infer_request_options options = {.struct_size = sizeof options};
    infer_status status;
    options.messages = &message;
    options.n_messages = 1;
    options.grammar = grammar;
    options.max_tokens = 200;
    printf("%s\n  ", question);
    status = infer_session_generate(session, NULL, &options, print, NULL);
    puts("");
    return status;
}

static infer_status fill_schema(infer_session *session)
{
    infer_grammar_options options = {.struct_size = sizeof options, .text = schema};
    infer_grammar *grammar = NULL;
    infer_status status = infer_grammar_create(&grammar, &options);
    if (status == INFER_OK)
        status = ask(session, "Write a JSON object with name Anna, age 31 and city Rome.", grammar);
    infer_grammar_destroy(&grammar);
    return status;
}

static infer_status choose(infer_session *session)
{
    static const char *const words[] = {"Berlin", "Paris", "Warsaw"};
    infer_grammar_options options = {.struct_size = sizeof options};
    infer_grammar *grammar = NULL;
    infer_status status;
    options.kind = INFER_GRAMMAR_CHOICE;
    options.choices = words;
    options.n_choices = 3;
    status = infer_grammar_create(&grammar, &options);
    if (status == INFER_OK)
        status = ask(session, "What is the capital of France?", grammar);
    infer_grammar_destroy(&grammar);
    return status;
}

int main(int argc, char **argv)
{
    infer_model *model = NULL;
    infer_session *session = NULL;
    int failed = 1;
    if (argc != 2) {
        fprintf(stderr, "usage: structured MODEL\n");
        return 2;
    }
    if (infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_session_create(&session, model, NULL) == 0 && fill_schema(session) == 0 &&
        choose(session) == 0)
        failed = 0;
    if (failed)
        fprintf(stderr, "%s\n", infer_last_error());
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    return failed;
}
