/* The ways in which the self-test computes its request. */
#include "engine/self_test.h"

#include "base/thread.h"

infer_status self_test_repeat(struct self_test *t)
{
    return self_test_once(t, &(struct self_test_way){0});
}

infer_status self_test_chunks(struct self_test *t)
{
    static const int32_t sizes[] = {64, 23, 7, 1};
    infer_status st = INFER_OK;
    int32_t n_run = 0;
    for (size_t i = 0; i < BASE_COUNT(sizes) && st == INFER_OK; i++) {
        if (sizes[i] >= t->step_tokens)
            continue;
        n_run++;
        st = self_test_once(t, &(struct self_test_way){.step_tokens = sizes[i]});
    }
    t->reason = "a step holds one token of the prompt";
    return st == INFER_OK && !n_run ? INFER_DONE : st;
}

/* On pools of its own, but for the number of threads that the device has. */
infer_status self_test_threads(struct self_test *t)
{
    struct base_pool *device = t->model->device->pool;
    infer_status st = INFER_OK;
    t->reason = "the device has no threads of its own";
    if (!device)
        return INFER_DONE;
    for (int32_t n = 1; n <= 2 && st == INFER_OK; n++) {
        struct self_test_way way = {0};
        if (n == base_pool_threads(device))
            continue;
        st = base_pool_create(&way.pool, &t->alloc, n, NULL);
        t->reason = "no more threads can be started";
        if (st == INFER_ERR_LIMIT)
            return INFER_DONE;
        if (st == INFER_OK)
            st = self_test_once(t, &way);
        base_pool_destroy(&way.pool);
    }
    return st;
}

/* A prompt that is the request's for its first half. */
static infer_status run_half(struct self_test_session *s)
{
    const struct self_test *t = s->test;
    int32_t n = t->config->n_prompt;
    struct infer_request *r = NULL;
    infer_token *prompt = base_new_raw(&t->alloc, (size_t)n, sizeof *prompt);
    if (!prompt)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n; i++)
        prompt[i] = i < n / 2 ? t->prompt[i] : (t->prompt[i] + 1) % t->model->hp.n_vocab;
    infer_status st = self_test_other(&r, s, prompt, n, 1);
    while (st == INFER_OK && r->state != REQUEST_FINISHED)
        st = self_test_step(s, NULL, 0);
    if (r)
        session_drop(r);
    base_free(&t->alloc, prompt);
    return st;
}

infer_status self_test_prefix(struct self_test *t)
{
    struct self_test_session s;
    int32_t n_cached = 0;
    infer_status st =
        self_test_open(&s, t, &(struct self_test_way){.prefix_cache = 1, .n_sequences = 4});
    if (st != INFER_OK)
        return st;
    if (!s.kv->blocks->prefix) {
        t->reason = "no prefixes are kept";
        st = INFER_DONE;
    }
    if (st == INFER_OK)
        st = run_half(&s);
    /* Of recurrent layers the second one like another may leave what the third finds. */
    for (int i = 0; i < 3 && st == INFER_OK && !(i == 2 && n_cached); i++) {
        struct self_test_watch w;
        st = self_test_submit(&w, &s, NULL);
        if (st == INFER_OK)
            st = self_test_finish(&s, &w, 1);
        n_cached = st == INFER_OK ? w.r->n_cached : 0;
        self_test_drop(&w);
    }
    self_test_close(&s);
    t->reason = st == INFER_OK ? "nothing of the prompt was found in the cache" : t->reason;
    return st == INFER_OK && !n_cached ? INFER_DONE : st;
}

/* Until half of its answer is there. */
static infer_status run_half_way(struct self_test_session *s, struct self_test_watch *watches,
                                 int32_t n)
{
    infer_status st = INFER_OK;
    while (st == INFER_OK && watches[0].n < s->test->config->n_tokens / 2)
        st = self_test_step(s, watches, n);
    return st;
}

static infer_status make_fork(struct self_test_watch *out, const struct self_test_watch *source)
{
    const struct fork_config config = {.max_tokens = source->r->max_tokens - source->n};
    *out = (struct self_test_watch){.first = source->n};
    return session_fork(&out->r, source->r, &config);
}

infer_status self_test_fork(struct self_test *t)
{
    struct self_test_session s;
    struct self_test_watch watches[3] = {{0}}; /* the source, an early fork, a late one */
    infer_status st = self_test_open(&s, t, &(struct self_test_way){.n_sequences = 3});
    if (st != INFER_OK)
        return st;
    st = self_test_submit(&watches[0], &s, NULL);
    if (st == INFER_OK)
        st = make_fork(&watches[1], &watches[0]);
    if (st == INFER_OK)
        st = run_half_way(&s, watches, 2);
    if (st == INFER_OK)
        st = make_fork(&watches[2], &watches[0]);
    if (st == INFER_OK)
        st = self_test_finish(&s, watches, 3);
    for (int32_t i = 0; i < 3; i++)
        self_test_drop(&watches[i]);
    self_test_close(&s);
    return st;
}

/* Only one may run, and one of better priority comes when half of the answer is there. */
infer_status self_test_preemption(struct self_test *t)
{
    struct self_test_session s;
    struct self_test_watch w = {0};
    struct infer_request *other = NULL;
    int64_t n_preempted = 0;
    infer_status st =
        self_test_open(&s, t, &(struct self_test_way){.n_sequences = 2, .max_requests = 1});
    if (st != INFER_OK)
        return st;
    st = self_test_submit(
        &w, &s, &(struct self_test_variation){.priority = 1, .speculation = INFER_SPECULATION_OFF});
    if (st == INFER_OK)
        st = run_half_way(&s, &w, 1);
    if (st == INFER_OK)
        st = self_test_other(&other, &s, t->prompt, 1, 2);
    if (st == INFER_OK)
        st = self_test_finish(&s, &w, 1);
    n_preempted = st == INFER_OK ? w.r->n_preempted : 0;
    if (other)
        session_drop(other);
    self_test_drop(&w);
    self_test_close(&s);
    t->reason = "nothing gave way to a request of better priority";
    return st == INFER_OK && !n_preempted ? INFER_DONE : st;
}

/* What will come, but for each fourth token. */
static int32_t draft(void *data, const struct infer_request *r, infer_token *out, int32_t n)
{
    const struct self_test *t = data;
    int32_t said = (int32_t)r->tokens.size;
    n = BASE_MIN(n, t->n_known - said);
    for (int32_t i = 0; i < n; i++) {
        int32_t wrong = (said + i) % 4 == 3;
        out[i] = (t->tokens[said + i] + wrong) % t->model->hp.n_vocab;
    }
    return n;
}

infer_status self_test_speculation(struct self_test *t)
{
    struct self_test_session s;
    struct self_test_watch w = {0};
    int64_t n_accepted = 0;
    t->reason = "the recurrent state of the model cannot take tokens back";
    if (model_kv_state_bytes(t->model))
        return INFER_DONE;
    infer_status st = self_test_open(&s, t, &(struct self_test_way){0});
    if (st != INFER_OK)
        return st;
    s.session->draft.hook = draft;
    s.session->draft.hook_data = t;
    s.session->draft.fixed = 1;
    st = self_test_submit(&w, &s,
                          &(struct self_test_variation){.speculation = INFER_SPECULATION_NGRAM});
    if (st == INFER_OK)
        st = self_test_finish(&s, &w, 1);
    n_accepted = st == INFER_OK ? w.r->draft.n_accepted : 0;
    self_test_drop(&w);
    self_test_close(&s);
    t->reason = "a step has no room for drafts, or the answer is too short for them";
    return st == INFER_OK && !n_accepted ? INFER_DONE : st;
}

/* ------------------------------------------------------------------------ batch */

#define BATCH_MAX      256
#define WATCH_EVERY    4
#define BATCH_STEP_MAX 512

struct batch {
    struct self_test_watch watches[BATCH_MAX / WATCH_EVERY];
    struct infer_request *others[BATCH_MAX];
    int32_t n_watches, n_others;
};

/* Others begin, with short prompts and long answers; then the request comes many times over, so
 * that prompts and answers share steps, and all are in the last of them. */
static infer_status run_batch(struct batch *b, struct self_test_session *s, int32_t n)
{
    const struct self_test *t = s->test;
    int32_t n_prompt = t->config->n_prompt, watched = BASE_MAX(n / WATCH_EVERY, 1);
    infer_status st = INFER_OK;
    while (b->n_others < n - watched && st == INFER_OK) {
        int32_t length = 1 + b->n_others * 37 % BASE_MAX(n_prompt / 4, 1);
        st = self_test_other(&b->others[b->n_others], s, t->prompt + n_prompt - length, length,
                             n_prompt + t->config->n_tokens - length);
        b->n_others += st == INFER_OK;
    }
    for (int i = 0; i < 2 && st == INFER_OK; i++)
        st = self_test_step(s, NULL, 0);
    while (b->n_watches < watched && st == INFER_OK) {
        st = self_test_submit(&b->watches[b->n_watches], s, NULL);
        b->n_watches += st == INFER_OK;
    }
    return st == INFER_OK ? self_test_finish(s, b->watches, b->n_watches) : st;
}

/* So many that the last prompt is computed before the first answer has ended. */
static int32_t batch_step_tokens(const struct self_test *t, int32_t n)
{
    const struct self_test_config *c = t->config;
    int64_t prompts = (int64_t)n / WATCH_EVERY * c->n_prompt / BASE_MAX(c->n_tokens / 2, 1);
    return BASE_MAX((int32_t)BASE_MIN(n + prompts, BATCH_STEP_MAX), t->step_tokens);
}

infer_status self_test_batch(struct self_test *t)
{
    struct batch *b = base_new_raw(&t->alloc, 1, sizeof *b);
    infer_status st = INFER_ERR_NO_MEMORY;
    for (int32_t n = t->config->max_batch; b && n >= 2 && st == INFER_ERR_NO_MEMORY; n /= 2) {
        struct self_test_session s;
        *b = (struct batch){.n_others = 0};
        t->batch = t->n_compared = 0;
        st = self_test_open(
            &s, t,
            &(struct self_test_way){.n_sequences = n, .step_tokens = batch_step_tokens(t, n)});
        if (st == INFER_OK)
            st = run_batch(b, &s, n);
        for (int32_t i = 0; i < b->n_watches; i++)
            self_test_drop(&b->watches[i]);
        for (int32_t i = 0; i < b->n_others; i++)
            session_drop(b->others[i]);
        self_test_close(&s);
    }
    base_free(&t->alloc, b);
    return st;
}
