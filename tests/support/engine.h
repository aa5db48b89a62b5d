/* A model and a session through the public API, for tests that generate. */
#ifndef TESTS_SUPPORT_ENGINE_H
#define TESTS_SUPPORT_ENGINE_H

#include "support/test.h"

#include <infer/infer.h>

#define TINY_MODEL "examples/models/tiny-q8_0.gguf"

struct engine {
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session;
};

/* What differs from the defaults; all zero is the default session. */
struct engine_setup {
    int32_t device;
    int32_t n_threads;
    uint32_t disable_cpu_features;
    int32_t step_tokens, max_requests, max_queue, n_context, worker_thread, block_tokens;
    uint64_t kv_budget_bytes;
    infer_kv_type kv_type;
    infer_numerics numerics;
    int32_t disable_prefix_cache;
    infer_pack pack;
    const infer_allocator *allocator;
    const char *tier_dir;
    uint64_t tier_bytes;
    int32_t tier_thread;
    const char *swap_dir;
    uint64_t swap_bytes;
    int32_t swap_always;
};

void engine_open(struct engine *e, const char *path, const struct engine_setup *setup);
void engine_close(struct engine *e);

struct engine_answer {
    infer_token *tokens;
    float *logprobs;
    size_t n;
    char *text;
    infer_finish finish;
    infer_status status; /* INFER_OK or why it failed */
    char error[1024];
};

/* Takes all events of a request and destroys it. */
void engine_collect(infer_request *request, struct engine_answer *out);
void engine_answer_free(struct engine_answer *answer);

/* Greedy tokens for `tokens`; fails the test on an error. */
void engine_greedy(struct engine *e, const infer_token *tokens, size_t n, int64_t max_tokens,
                   struct engine_answer *out);

/* Logits after `tokens` as n_vocab floats; caller frees. */
float *engine_logits(struct engine *e, const infer_token *tokens, size_t n);

#endif
