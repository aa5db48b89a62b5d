/* Many requests at once: all prompts of the command line are generated side by
 * side, each step of the session advancing every one of them. For requests in a
 * file see infer batch, doc/batch.md. */
#include <infer/infer.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_TOKENS 40

/* Reads one request to its end. While this thread waits for one request, the
 * session runs the steps of all of them. */
static infer_status drain(infer_request *request, const char *prompt)
{
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    infer_status status;
    printf("%s", prompt);
    while ((status = infer_request_next(request, &event)) == INFER_OK)
        fwrite(event.text, 1, event.text_size, stdout);
    if (status != INFER_DONE)
        return status;
    infer_request_get_info(request, &info);
    printf("\n  [%lld (%lld cached) + %lld tokens, queued %.1f ms, prefill %.1f ms, decode %.1f "
           "ms]\n\n",
           (long long)info.n_prompt_tokens, (long long)info.n_cached_tokens,
           (long long)info.n_generated_tokens, (double)info.queue_ns / 1e6,
           (double)info.prefill_ns / 1e6, (double)info.decode_ns / 1e6);
    return INFER_OK;
}

/* Submits as many as the session takes. A full queue is no failure: the oldest request is read to
 * its end, and there is room again. That way any number of prompts needs bounded memory. */
static infer_status generate_all(infer_session *session, infer_request **requests,
                                 char *const *prompts, int n)
{
    infer_status status = INFER_OK;
    int first = 0; /* requests before it are done */
    for (int i = 0; i < n && status == INFER_OK; i++) {
        infer_request_options options = {.struct_size = sizeof options};
        options.prompt = prompts[i];
        options.max_tokens = MAX_TOKENS;
        while ((status = infer_session_submit(&requests[i], session, &options)) == INFER_ERR_BUSY &&
               first < i) {
            status = drain(requests[first], prompts[first]);
            infer_request_destroy(&requests[first++]);
            if (status != INFER_OK)
                return status;
        }
    }
    for (; first < n && status == INFER_OK; first++) {
        status = drain(requests[first], prompts[first]);
        infer_request_destroy(&requests[first]);
    }
    return status;
}

int main(int argc, char **argv)
{
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_session_options limits = {.struct_size = sizeof limits, .max_queue = 64};
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_request **requests = calloc((size_t)argc, sizeof(infer_request *));
    int n = argc - 2;
    int failed = 1;
    if (n < 1 || !requests) {
        fprintf(stderr, "usage: batch MODEL PROMPT...\n");
        free(requests);
        return 2;
    }
    if (infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_session_create(&session, model, &limits) == 0 &&
        generate_all(session, requests, argv + 2, n) == INFER_OK &&
        infer_session_get_stats(session, &stats) == INFER_OK) {
        printf("%d requests, %llu tokens generated in %llu steps\n", n,
               (unsigned long long)stats.n_generated_tokens, (unsigned long long)stats.n_steps);
        failed = 0;
    }
    if (failed)
        fprintf(stderr, "%s\n", infer_last_error());
    for (int i = 0; i < n; i++)
        infer_request_destroy(&requests[i]);
    free(requests);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    return failed;
}
