/* A program of the first release: it is compiled against the headers of then
 * (headers-0.1) and runs on the library of today. Do not modernise it. */
#include <infer/infer.h>

#include <stdio.h>
#include <string.h>

static int n_cases;
static int n_failed;

static void check(int good, const char *name)
{
    n_cases++;
    n_failed += !good;
    printf("%s %d - %s\n", good ? "ok" : "not ok", n_cases, name);
    if (!good)
        printf("# %s\n", infer_last_error());
}

static int32_t count_text(const char *text, size_t size, void *user_data)
{
    *(size_t *)user_data += strlen(text) == size ? size : 0;
    return 0;
}

static void use_model(infer_model *model)
{
    infer_model_info info = {.struct_size = sizeof info};
    infer_sampling sampling = {.struct_size = sizeof sampling};
    check(infer_model_get_info(model, &info) == INFER_OK && info.n_vocab > 0 && info.n_layers > 0,
          "describes a model");
    check(info.struct_size == sizeof info, "keeps the caller's struct_size");
    check(infer_model_sampling(model, &sampling) == INFER_OK, "says the recommended sampling");
    check(infer_tokenizer_is_end(infer_model_tokenizer(model), -1) == 0, "lends a tokenizer");
}

static void use_session(infer_model *model)
{
    infer_session_options options = {.struct_size = sizeof options, .max_requests = 2};
    infer_request_options request_options = {.struct_size = sizeof request_options};
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_event event = {.struct_size = sizeof event};
    infer_session *session = NULL;
    infer_request *request = NULL;
    infer_status status;
    size_t size = 0;
    check(infer_session_create(&session, model, &options) == INFER_OK, "opens a session");
    request_options.max_tokens = 4;
    request_options.ignore_eos = 1;
    check(infer_session_generate(session, "Tell me a story.", &request_options, count_text,
                                 &size) == INFER_OK,
          "generates");
    request_options.prompt = "Once";
    check(infer_session_submit(&request, session, &request_options) == INFER_OK, "submits");
    while ((status = infer_request_next(request, &event)) == INFER_OK)
        if (event.type == INFER_EVENT_FINISH)
            check(event.finish == INFER_FINISH_LENGTH, "finishes for the reason of then");
    check(status == INFER_DONE, "reads the events");
    check(infer_session_get_stats(session, &stats) == INFER_OK && stats.n_generated_tokens == 8,
          "counts tokens");
    infer_request_destroy(&request);
    infer_session_destroy(&session);
}

static void use_table(void)
{
    const infer_api *api = infer_get_api(INFER_API_VERSION);
    infer_model *model = NULL;
    check(api && api->struct_size >= sizeof *api && api->version() >= INFER_VERSION,
          "finds the function table");
    check(api && api->model_load(&model, "/nowhere/model.gguf", NULL) == INFER_ERR_NOT_FOUND &&
              strstr(api->last_error(), "/nowhere/model.gguf"),
          "reads the error sentence");
}

int main(int argc, char **argv)
{
    infer_model *model = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: old_app MODEL\n");
        return 2;
    }
    check(infer_model_load(&model, argv[1], NULL) == INFER_OK, "loads a model");
    if (model) {
        use_model(model);
        use_session(model);
    }
    infer_model_destroy(&model);
    use_table();
    printf("1..%d\n", n_cases);
    return n_failed ? 1 : 0;
}
