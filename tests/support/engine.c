/* Test sessions. */
#include "support/engine.h"

#define assert_infer(expr)                                                                         \
    do {                                                                                           \
        infer_status st_ = (expr);                                                                 \
        if (st_ != INFER_OK)                                                                       \
            fail_msg("%s gave %d: %s", #expr, (int)st_, infer_last_error());                       \
    } while (0)

void engine_open(struct engine *e, const char *path, const struct engine_setup *s)
{
    memset(e, 0, sizeof *e);
    infer_device_options device = {.struct_size = sizeof device,
                                   .n_threads = s->n_threads,
                                   .disable_cpu_features = s->disable_cpu_features,
                                   .allocator = s->allocator};
    assert_infer(infer_device_create(&e->device, s->device, &device));
    infer_model_options model = {.struct_size = sizeof model,
                                 .device = e->device,
                                 .allocator = s->allocator,
                                 .pack = s->pack};
    assert_infer(infer_model_load(&e->model, path, &model));
    infer_kv_cache_options cache = {.struct_size = sizeof cache,
                                    .budget_bytes = s->kv_budget_bytes,
                                    .type = s->kv_type,
                                    .block_tokens = s->block_tokens,
                                    .disable_prefix_cache = s->disable_prefix_cache,
                                    .tier_dir = s->tier_dir,
                                    .tier_bytes = s->tier_bytes,
                                    .tier_thread = s->tier_thread,
                                    .swap_dir = s->swap_dir,
                                    .swap_bytes = s->swap_bytes,
                                    .swap_always = s->swap_always};
    assert_infer(infer_kv_cache_create(&e->cache, e->model, &cache));
    infer_session_options session = {.struct_size = sizeof session,
                                     .kv_cache = e->cache,
                                     .n_context = s->n_context,
                                     .max_requests = s->max_requests,
                                     .max_queue = s->max_queue,
                                     .step_tokens = s->step_tokens,
                                     .worker_thread = s->worker_thread,
                                     .numerics = s->numerics};
    assert_infer(infer_session_create(&e->session, e->model, &session));
}

void engine_close(struct engine *e)
{
    infer_session_destroy(&e->session);
    infer_kv_cache_destroy(&e->cache);
    infer_model_destroy(&e->model);
    infer_device_destroy(&e->device);
}

static void append(struct engine_answer *out, const infer_event *event)
{
    size_t length = out->text ? strlen(out->text) : 0;
    out->text = realloc(out->text, length + event->text_size + 1);
    memcpy(out->text + length, event->text, event->text_size);
    out->text[length + event->text_size] = 0;
    if (event->type == INFER_EVENT_FINISH) {
        out->finish = event->finish;
        return;
    }
    out->tokens = realloc(out->tokens, (out->n + 1) * sizeof *out->tokens);
    out->logprobs = realloc(out->logprobs, (out->n + 1) * sizeof *out->logprobs);
    out->tokens[out->n] = event->token;
    out->logprobs[out->n++] = event->logprob;
}

void engine_collect(infer_request *request, struct engine_answer *out)
{
    infer_event event = {.struct_size = sizeof event};
    infer_status st;
    memset(out, 0, sizeof *out);
    out->text = calloc(1, 1);
    while ((st = infer_request_next(request, &event)) == INFER_OK)
        append(out, &event);
    if (st != INFER_DONE) {
        out->status = st;
        snprintf(out->error, sizeof out->error, "%s", infer_last_error());
        assert_string_equal(out->error, infer_request_error(request));
    }
    infer_request_destroy(&request);
}

void engine_answer_free(struct engine_answer *answer)
{
    free(answer->tokens);
    free(answer->logprobs);
    free(answer->text);
    memset(answer, 0, sizeof *answer);
}

void engine_greedy(struct engine *e, const infer_token *tokens, size_t n, int64_t max_tokens,
                   struct engine_answer *out)
{
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = tokens,
                                     .n_tokens = n,
                                     .sampling = &greedy,
                                     .max_tokens = max_tokens,
                                     .ignore_eos = 1,
                                     .logprobs = 1};
    infer_request *request = NULL;
    assert_infer(infer_session_submit(&request, e->session, &options));
    engine_collect(request, out);
    if (out->status != INFER_OK)
        fail_msg("%s", out->error);
}

float *engine_logits(struct engine *e, const infer_token *tokens, size_t n)
{
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = tokens,
                                     .n_tokens = n,
                                     .max_tokens = 1,
                                     .ignore_eos = 1,
                                     .want_logits = 1};
    infer_request *request = NULL;
    infer_event event = {.struct_size = sizeof event};
    assert_infer(infer_session_submit(&request, e->session, &options));
    assert_infer(infer_request_next(request, &event));
    assert_non_null(event.logits);
    float *copy = malloc(event.n_logits * sizeof *copy);
    memcpy(copy, event.logits, event.n_logits * sizeof *copy);
    infer_request_destroy(&request);
    return copy;
}
