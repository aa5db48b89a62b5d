/* Several answers to one prompt, and the one the model likes best: the prompt is computed once,
 * every fork begins with its keys and values. */
#include <infer/infer.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SAMPLES_MAX 16
#define MAX_TOKENS  40

/* Prints a request's text; its sum of log-probabilities goes into *score. */
static infer_status print_answer(infer_request *request, int number, double *score)
{
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    infer_status status;
    printf("%d:", number);
    while ((status = infer_request_next(request, &event)) == INFER_OK)
        fwrite(event.text, 1, event.text_size, stdout);
    if (status != INFER_DONE)
        return status;
    status = infer_request_get_info(request, &info);
    /* A sum alone would favour the shortest. */
    *score =
        info.n_generated_tokens ? info.logprob_sum / (double)info.n_generated_tokens : -INFINITY;
    printf("\n   [%lld of %lld prompt tokens shared, %.3f a token]\n",
           (long long)info.n_cached_tokens, (long long)info.n_prompt_tokens, *score);
    return status;
}

/* The first request computes the prompt; the others wait for it and go on from there. */
static infer_status sample(infer_session *session, const char *prompt, infer_request **requests,
                           int n)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 0.9f, .seed = 1};
    infer_request_options options = {.struct_size = sizeof options, .prompt = prompt};
    infer_status status;
    options.sampling = &sampling;
    options.max_tokens = MAX_TOKENS;
    options.logprobs = 1;
    status = infer_session_submit(&requests[0], session, &options);
    for (int i = 1; i < n && status == INFER_OK; i++)
        status = infer_request_fork(&requests[i], requests[0], NULL);
    return status;
}

int main(int argc, char **argv)
{
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_request *requests[SAMPLES_MAX] = {NULL};
    int n = argc > 3 ? atoi(argv[3]) : 4, best = 0;
    double scores[SAMPLES_MAX] = {0};
    infer_status status = INFER_ERR_INVALID;
    if (argc < 3 || n < 1 || n > SAMPLES_MAX) {
        fprintf(stderr, "usage: fork MODEL PROMPT [SAMPLES, at most %d]\n", SAMPLES_MAX);
        return 2;
    }
    if (infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_session_create(&session, model, NULL) == 0)
        status = sample(session, argv[2], requests, n);
    for (int i = 0; i < n && status == INFER_OK; i++) {
        status = print_answer(requests[i], i + 1, &scores[i]);
        if (scores[i] > scores[best])
            best = i;
    }
    if (status == INFER_OK)
        printf("best: %d\n", best + 1);
    else
        fprintf(stderr, "%s\n", infer_last_error());
    for (int i = 0; i < n; i++)
        infer_request_destroy(&requests[i]);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    return status != INFER_OK;
}
