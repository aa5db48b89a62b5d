/* The self-test's memory, sessions and comparisons; its order of checks. */
#include "engine/self_test.h"

#include <math.h>
#include <string.h>

#define N_CHECKS  9
#define STALL_MAX 1000 /* steps in which nothing can run */

/* ---------------------------------------------------------------------- memory */

struct head {
    void *start;
    size_t bytes;
};

static void note_peak(struct self_test_memory *m)
{
    uint64_t now = atomic_load(&m->used) + atomic_load(&m->held);
    if (now > atomic_load(&m->peak))
        atomic_store(&m->peak, now);
}

static void *take(size_t bytes, size_t alignment, void *user_data)
{
    struct self_test_memory *m = user_data;
    size_t front = BASE_ALIGN_UP(sizeof(struct head), alignment), all = front + bytes;
    if (all < bytes || atomic_fetch_add(&m->used, all) + all + m->held > m->budget_bytes) {
        atomic_fetch_sub(&m->used, all);
        m->is_short = 1;
        return NULL;
    }
    char *start = m->inner.alloc(all, alignment, m->inner.user_data);
    if (!start) {
        atomic_fetch_sub(&m->used, all);
        return NULL;
    }
    note_peak(m);
    struct head *head = (struct head *)(void *)(start + front) - 1;
    *head = (struct head){start, all};
    return start + front;
}

static void give(void *ptr, void *user_data)
{
    struct self_test_memory *m = user_data;
    const struct head *head = (const struct head *)ptr - 1;
    atomic_fetch_sub(&m->used, head->bytes);
    m->inner.free(head->start, m->inner.user_data);
}

/* -------------------------------------------------------------------- a session */

infer_status self_test_open(struct self_test_session *out, struct self_test *t,
                            const struct self_test_way *way)
{
    const struct self_test_config *c = t->config;
    int32_t n_sequences = way->n_sequences ? way->n_sequences : 1;
    int32_t n_tokens = c->n_prompt + c->n_tokens + 1;
    struct session_config config = {
        .alloc = &t->alloc,
        .n_context = t->model->hp.n_context,
        .max_queue = n_sequences + 1,
        .step_tokens = way->step_tokens ? way->step_tokens : t->step_tokens,
        .max_requests = way->max_requests ? way->max_requests : n_sequences,
        .numerics = INFER_NUMERICS_INVARIANT,
        .priority_age_ns = UINT64_MAX,
    };
    struct kv_cache_config kv = {
        .alloc = &t->alloc,
        .budget_bytes = kv_cache_budget_for(t->model, c->kv_type, n_sequences, n_tokens),
        .type = c->kv_type,
        .block_tokens = KV_CACHE_BLOCK_TOKENS,
        .disable_prefix = !way->prefix_cache,
        .sequence_tokens = n_tokens,
    };
    config.max_requests = BASE_MIN(config.max_requests, config.step_tokens);
    *out = (struct self_test_session){.test = t};
    uint64_t bytes =
        kv.budget_bytes + session_workspace_bytes(t->model, config.step_tokens, config.numerics);
    if (bytes > c->budget_bytes || t->memory.used > c->budget_bytes - bytes) {
        t->memory.is_short = 1;
        return INFER_ERR_NO_MEMORY;
    }
    t->memory.held = bytes;
    note_peak(&t->memory);
    infer_status st = kv_cache_create(&out->kv, t->model, &kv);
    config.kv = out->kv;
    if (st == INFER_OK)
        st = session_create(&out->session, t->model, &config);
    if (st != INFER_OK) {
        self_test_close(out);
        return st;
    }
    if (way->pool)
        out->session->ws.pool = way->pool;
    return INFER_OK;
}

void self_test_close(struct self_test_session *s)
{
    if (s->session)
        session_close(s->session);
    kv_cache_release(&s->kv);
    s->session = NULL;
    s->test->memory.held = 0;
}

infer_status self_test_other(struct infer_request **out, struct self_test_session *s,
                             const infer_token *prompt, int32_t n_prompt, int32_t n_tokens)
{
    const struct request_config config = {
        .prompt = prompt,
        .n_prompt = (size_t)n_prompt,
        .sampling = {.top_p = 1, .repetition_penalty = 1, .penalty_last_n = -1, .no_logprobs = 1},
        .max_tokens = n_tokens,
        .ignore_eos = 1,
        .speculation = INFER_SPECULATION_OFF,
    };
    return session_submit(out, s->session, &config);
}

infer_status self_test_submit(struct self_test_watch *out, struct self_test_session *s,
                              const struct self_test_variation *variation)
{
    static const struct self_test_variation none = {.speculation = INFER_SPECULATION_OFF};
    const struct self_test *t = s->test;
    const struct self_test_variation *v = variation ? variation : &none;
    const struct request_config config = {
        .prompt = t->prompt,
        .n_prompt = (size_t)t->config->n_prompt,
        .sampling = {.top_p = 1, .repetition_penalty = 1, .penalty_last_n = -1, .no_logprobs = 1},
        .max_tokens = t->config->n_tokens,
        .ignore_eos = 1,
        .want_logits = 1,
        .priority = v->priority,
        .speculation = v->speculation,
    };
    *out = (struct self_test_watch){0};
    return session_submit(&out->r, s->session, &config);
}

void self_test_drop(struct self_test_watch *watch)
{
    if (watch->r)
        session_drop(watch->r);
    watch->r = NULL;
}

/* -------------------------------------------------------------------- comparing */

static infer_status compare_logits(struct self_test *t, int32_t k, const float *logits)
{
    size_t n_vocab = (size_t)t->model->hp.n_vocab;
    const float *alone = t->logits + (size_t)k * n_vocab;
    t->n_compared++;
    if (memcmp(alone, logits, n_vocab * sizeof *logits) == 0)
        return INFER_OK;
    size_t i = 0;
    while (memcmp(&alone[i], &logits[i], sizeof *logits) == 0)
        i++;
    return base_error(INFER_ERR_INTERNAL,
                      "for token %d of the answer, at position %d, the logit of id %zu is %.9g, "
                      "and %.9g where the request is alone",
                      k, t->config->n_prompt + k, i, (double)logits[i], (double)alone[i]);
}

/* The request alone is where numbers are looked at. */
static infer_status learn(struct self_test *t, const infer_event *event)
{
    int32_t n_vocab = t->model->hp.n_vocab;
    for (int32_t i = 0; i < n_vocab; i++)
        if (!isfinite(event->logits[i]))
            return base_error(
                INFER_ERR_INVALID,
                "for token %d of the answer the logit of id %d is %g: the model's weights "
                "are damaged",
                t->n_known, i, (double)event->logits[i]);
    memcpy(t->logits + (size_t)t->n_known * (size_t)n_vocab, event->logits,
           (size_t)n_vocab * sizeof *t->logits);
    t->tokens[t->n_known++] = event->token;
    t->n_compared++;
    return INFER_OK;
}

static infer_status look_at_token(struct self_test *t, struct self_test_watch *w,
                                  const infer_event *event)
{
    int32_t k = w->first + w->n++;
    if (t->n_known == k && t->n_known < t->config->n_tokens)
        return learn(t, event);
    if (k >= t->n_known)
        return base_error(INFER_ERR_INTERNAL, "the answer does not end");
    infer_status st = compare_logits(t, k, event->logits);
    if (st == INFER_OK && event->token != t->tokens[k])
        st = base_error(INFER_ERR_INTERNAL,
                        "token %d of the answer, at position %d, is %d, and %d "
                        "where the request is alone",
                        k, t->config->n_prompt + k, event->token, t->tokens[k]);
    return st;
}

static infer_status look(struct self_test *t, struct self_test_watch *w)
{
    infer_event event;
    infer_status st;
    while (!w->done && (st = session_next(w->r, &event, 0)) != INFER_AGAIN) {
        if (st == INFER_OK && event.type == INFER_EVENT_TOKEN)
            st = look_at_token(t, w, &event);
        else if (st == INFER_OK)
            w->done = 1;
        if (st != INFER_OK)
            return st;
    }
    if (w->done && w->first + w->n != t->config->n_tokens)
        return base_error(INFER_ERR_INTERNAL,
                          "the answer ends behind %d tokens, and behind %d where "
                          "the request is alone",
                          w->first + w->n, t->config->n_tokens);
    return INFER_OK;
}

infer_status self_test_step(struct self_test_session *s, struct self_test_watch *watches, int32_t n)
{
    struct self_test *t = s->test;
    const struct self_test_config *c = t->config;
    if (c->progress && c->progress(t->done, t->name, c->progress_user_data))
        return base_error(INFER_ERR_CANCELLED, "the host cancelled the self-test");
    for (int32_t i = 0; i < STALL_MAX; i++) {
        if (t->end_ns && base_clock_ns() >= t->end_ns)
            return INFER_AGAIN;
        infer_status st = session_step(s->session);
        if (st < 0)
            return st;
        if (st == INFER_AGAIN && model_is_evicted(t->model))
            return base_error(INFER_ERR_BUSY, "%s: its weights are evicted", t->model->path);
        t->batch = BASE_MAX(t->batch, s->session->n_parts);
        for (int32_t k = 0; k < n && st != INFER_AGAIN; k++)
            if (watches[k].r && (st = look(t, &watches[k])) != INFER_OK)
                return st;
        if (st != INFER_AGAIN)
            return INFER_OK;
    }
    return base_error(INFER_ERR_INTERNAL, "nothing can run");
}

infer_status self_test_finish(struct self_test_session *s, struct self_test_watch *watches,
                              int32_t n)
{
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < n && st == INFER_OK;)
        if (watches[i].done || !watches[i].r)
            i++;
        else
            st = self_test_step(s, watches, n);
    return st;
}

/* -------------------------------------------------------------- the request alone */

infer_status self_test_once(struct self_test *t, const struct self_test_way *way)
{
    struct self_test_session s;
    struct self_test_watch w = {0};
    infer_status st = self_test_open(&s, t, way);
    if (st != INFER_OK)
        return st;
    st = self_test_submit(&w, &s, NULL);
    if (st == INFER_OK)
        st = self_test_finish(&s, &w, 1);
    self_test_drop(&w);
    self_test_close(&s);
    return st;
}

/* The whole prompt at once, or what a quarter of the budget holds of it: other ways need more room
 * for other things. */
static infer_status learn_answer(struct self_test *t)
{
    infer_status st = INFER_ERR_NO_MEMORY;
    int32_t most = t->config->n_prompt;
    while (most > 1 && session_workspace_bytes(t->model, most, INFER_NUMERICS_INVARIANT) >
                           t->config->budget_bytes / 4)
        most /= 2;
    for (t->step_tokens = most; t->step_tokens > 0; t->step_tokens /= 2) {
        t->n_known = t->n_compared = 0;
        st = self_test_once(t, &(struct self_test_way){0});
        if (st != INFER_ERR_NO_MEMORY)
            break;
    }
    return st;
}

/* Any tokens: what they are is of no meaning to a comparison. */
static void make_prompt(struct self_test *t)
{
    uint64_t random = t->config->seed;
    for (int32_t i = 0; i < t->config->n_prompt; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u; /* Knuth, MMIX */
        t->prompt[i] = (infer_token)((random >> 33) % (uint64_t)t->model->hp.n_vocab);
    }
}

/* ------------------------------------------------------------------- the checks */

static const struct {
    const char *name;
    self_test_fn *run;
} checks[N_CHECKS] = {
    [INFER_CHECK_FINITE] = {"finite", learn_answer},
    [INFER_CHECK_REPEAT] = {"repeat", self_test_repeat},
    [INFER_CHECK_CHUNKS] = {"chunks", self_test_chunks},
    [INFER_CHECK_THREADS] = {"threads", self_test_threads},
    [INFER_CHECK_PREFIX] = {"prefix", self_test_prefix},
    [INFER_CHECK_FORK] = {"fork", self_test_fork},
    [INFER_CHECK_PREEMPTION] = {"preemption", self_test_preemption},
    [INFER_CHECK_SPECULATION] = {"speculation", self_test_speculation},
    [INFER_CHECK_BATCH] = {"batch", self_test_batch},
};

static infer_check_state state_of(infer_status st)
{
    switch (st) {
    case INFER_OK:
        return INFER_CHECK_PASSED;
    case INFER_AGAIN:
    case INFER_DONE:
    case INFER_ERR_NO_MEMORY:
    case INFER_ERR_BUSY:
    case INFER_ERR_CANCELLED:
        return INFER_CHECK_SKIPPED;
    default:
        return INFER_CHECK_FAILED;
    }
}

static const char *reason_of(const struct self_test *t, infer_status st)
{
    return st == INFER_AGAIN           ? "the time limit has passed"
           : st == INFER_DONE          ? t->reason
           : st == INFER_ERR_NO_MEMORY ? "there is too little memory"
           : st == INFER_ERR_BUSY      ? "the weights are evicted"
           : st == INFER_ERR_CANCELLED ? "the host cancelled the self-test"
                                       : "";
}

static infer_status run_check(struct self_test *t, infer_check_result *out, int32_t number)
{
    uint64_t begin = base_clock_ns();
    t->name = out->name;
    t->done = (double)number / N_CHECKS;
    t->reason = "";
    t->n_compared = 0;
    infer_status st = t->end_ns && begin >= t->end_ns ? INFER_AGAIN : checks[number].run(t);
    out->time_ns = base_clock_ns() - begin;
    out->n_compared = t->n_compared;
    out->state = state_of(st);
    if (out->state == INFER_CHECK_FAILED)
        base_error_prefix(st, "self-test \"%s\"", t->name);
    out->reason = reason_of(t, st);
    return st;
}

static infer_status run_checks(struct self_test *t, infer_self_test_report *report)
{
    char sentence[BASE_ERROR_MAX];
    infer_status failed = INFER_OK;
    for (int32_t i = 0; i < N_CHECKS; i++) {
        infer_check_result *out = &report->checks[i];
        infer_status st = run_check(t, out, i);
        report->n_passed += out->state == INFER_CHECK_PASSED;
        report->n_failed += out->state == INFER_CHECK_FAILED;
        if (st == INFER_ERR_CANCELLED)
            return st;
        if (out->state == INFER_CHECK_FAILED && failed == INFER_OK) {
            report->first_failed = i;
            failed = i == INFER_CHECK_FINITE ? st : INFER_ERR_INTERNAL;
            memcpy(sentence, base_error_text(), sizeof sentence);
        }
        if (i > INFER_CHECK_FINITE || st == INFER_OK)
            continue;
        for (int32_t k = 1; k < N_CHECKS; k++)
            report->checks[k].reason = "there is nothing to compare with";
        if (st == INFER_ERR_NO_MEMORY || st == INFER_ERR_BUSY)
            return st;
        break;
    }
    if (failed != INFER_OK)
        base_error_restore(sentence);
    return failed;
}

infer_status self_test_run(infer_self_test_report *report, struct infer_model *model,
                           const struct self_test_config *c)
{
    struct self_test t = {
        .config = c,
        .model = model,
        .memory = {.inner = *c->alloc, .budget_bytes = c->budget_bytes},
        .alloc = {take, give, &t.memory},
        .end_ns = c->time_limit_ns ? base_clock_ns() + c->time_limit_ns : 0,
    };
    *report = (infer_self_test_report){.n_checks = N_CHECKS,
                                       .n_prompt_tokens = c->n_prompt,
                                       .n_tokens = c->n_tokens,
                                       .first_failed = -1};
    for (int32_t i = 0; i < N_CHECKS; i++)
        report->checks[i] = (infer_check_result){.name = checks[i].name, .reason = "not begun"};
    size_t n_vocab = (size_t)model->hp.n_vocab;
    t.prompt = base_new(&t.alloc, (size_t)c->n_prompt, sizeof *t.prompt);
    t.tokens = base_new(&t.alloc, (size_t)c->n_tokens, sizeof *t.tokens);
    t.logits = base_new_raw(&t.alloc, (size_t)c->n_tokens * n_vocab, sizeof *t.logits);
    infer_status st = t.prompt && t.tokens && t.logits ? INFER_OK : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK) {
        make_prompt(&t);
        st = run_checks(&t, report);
    }
    if (st == INFER_ERR_NO_MEMORY && t.memory.is_short)
        st = base_error(INFER_ERR_LIMIT,
                        "budget_bytes are %llu, too few for one request of %d + %d tokens",
                        (unsigned long long)c->budget_bytes, c->n_prompt, c->n_tokens);
    report->n_skipped = N_CHECKS - report->n_passed - report->n_failed;
    report->batch = t.batch;
    report->peak_bytes = t.memory.peak;
    base_free(&t.alloc, t.logits);
    base_free(&t.alloc, t.tokens);
    base_free(&t.alloc, t.prompt);
    return st;
}
