/* What the model would have said: the most likely alternatives to each token of
 * a greedy continuation, with their probabilities. */
#include <infer/infer.h>
#include <math.h>
#include <stdio.h>

#define MAX_TOKENS 12
#define N_TOP      4

static void print_piece(const infer_tokenizer *tokenizer, const infer_top_logprob *top)
{
    char text[64] = "";
    size_t size = sizeof text;
    infer_decode_options options = {.struct_size = sizeof options};
    options.show_special = 1;
    options.continuing = 1;
    if (infer_tokenizer_decode(tokenizer, &top->token, 1, &options, text, &size) != INFER_OK)
        size = 0;
    printf("  %5.1f%% \"%.*s\"", 100 * exp((double)top->logprob), (int)size, text);
}

static infer_status print_alternatives(infer_session *session, const infer_tokenizer *tokenizer,
                                       const char *prompt)
{
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options};
    infer_event event = {.struct_size = sizeof event};
    infer_request *request = NULL;
    infer_status status;
    options.prompt = prompt;
    options.sampling = &greedy;
    options.max_tokens = MAX_TOKENS;
    options.logprobs = 1;
    options.n_top_logprobs = N_TOP;
    status = infer_session_submit(&request, session, &options);
    while (status == INFER_OK && (status = infer_request_next(request, &event)) == INFER_OK) {
        for (size_t i = 0; i < event.n_top; i++)
            print_piece(tokenizer, &event.top[i]);
        if (event.type == INFER_EVENT_TOKEN)
            printf("\n");
    }
    infer_request_destroy(&request);
    return status == INFER_DONE ? INFER_OK : status;
}

int main(int argc, char **argv)
{
    infer_model *model = NULL;
    infer_session *session = NULL;
    int failed = 1;
    if (argc != 3) {
        fprintf(stderr, "usage: logprobs MODEL PROMPT\n");
        return 2;
    }
    if (infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_session_create(&session, model, NULL) == 0 &&
        print_alternatives(session, infer_model_tokenizer(model), argv[2]) == INFER_OK)
        failed = 0;
    if (failed)
        fprintf(stderr, "%s\n", infer_last_error());
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    return failed;
}
