/* One request in every way that must not change its answer: infer_model_self_test(). */
#ifndef ENGINE_SELF_TEST_H
#define ENGINE_SELF_TEST_H

#include "engine/session.h"

#include <infer/self_test.h>

struct self_test_config {
    const struct base_alloc *alloc;
    infer_progress_fn progress; /* NULL: none */
    void *progress_user_data;
    uint64_t budget_bytes, time_limit_ns; /* time: 0: any */
    int32_t n_prompt, n_tokens, max_batch;
    infer_dtype kv_type;
    uint64_t seed;
};

/* Fills the report but for struct_size, whatever happens. */
infer_status self_test_run(infer_self_test_report *report, struct infer_model *model,
                           const struct self_test_config *config);

/* ------------------------------------------------- between self_test.c and self_test_ways.c */

/* The caller's allocator within a budget, which what devices hold is taken off. */
struct self_test_memory {
    struct base_alloc inner;
    uint64_t budget_bytes;
    _Atomic uint64_t used, held, peak; /* held: by KV cache and step of the open session */
    _Atomic int32_t is_short;          /* the budget was too small for something */
};

struct self_test {
    const struct self_test_config *config;
    struct infer_model *model;
    struct self_test_memory memory;
    struct base_alloc alloc; /* of `memory` */
    const char *name;        /* of the check that runs */
    const char *reason;      /* why it does not apply */
    double done;             /* share of the checks before it */
    uint64_t end_ns;         /* 0: none */
    int32_t step_tokens;     /* with so many the budget holds a session */
    int32_t n_compared, batch;
    /* The request alone. */
    infer_token *prompt, *tokens;
    float *logits; /* n_tokens rows */
    int32_t n_known;
};

/* How a request is computed; zero fields are as in the request alone. */
struct self_test_way {
    int32_t step_tokens, n_sequences, max_requests, prefix_cache;
    struct base_pool *pool; /* NULL: the device's */
};

/* A session of the test's own. */
struct self_test_session {
    struct self_test *test;
    struct infer_kv_cache *kv;
    struct infer_session *session;
};

/* A request whose tokens are those of the one alone from `first` on. */
struct self_test_watch {
    struct infer_request *r;
    int32_t first, n;
    int32_t done;
};

/* How the request alone is varied. */
struct self_test_variation {
    int32_t priority;
    infer_speculation speculation;
};

infer_status self_test_open(struct self_test_session *out, struct self_test *t,
                            const struct self_test_way *way);
void self_test_close(struct self_test_session *s);
infer_status self_test_submit(struct self_test_watch *out, struct self_test_session *s,
                              const struct self_test_variation *variation);
/* Another request, of which nothing is compared. */
infer_status self_test_other(struct infer_request **out, struct self_test_session *s,
                             const infer_token *prompt, int32_t n_prompt, int32_t n_tokens);
void self_test_drop(struct self_test_watch *watch);
/* One step, and a comparison of what came of it. INFER_OK, INFER_AGAIN once the time is over,
 * INFER_ERR_CANCELLED, INFER_ERR_INTERNAL (something differs), or what a request ended with. */
infer_status self_test_step(struct self_test_session *s, struct self_test_watch *watches,
                            int32_t n);
/* Until all have ended. */
infer_status self_test_finish(struct self_test_session *s, struct self_test_watch *watches,
                              int32_t n);

/* One watched request from first to last, in a session of its own. */
infer_status self_test_once(struct self_test *t, const struct self_test_way *way);

/* INFER_OK, INFER_DONE (does not apply: `reason` says why), or as self_test_step(). */
typedef infer_status self_test_fn(struct self_test *t);
self_test_fn self_test_repeat, self_test_chunks, self_test_threads, self_test_prefix,
    self_test_fork, self_test_preemption, self_test_speculation, self_test_batch;

#endif
