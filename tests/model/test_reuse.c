/* What is found, evicted, preempted or forked gives the same logits, bit for bit, as the same
 * request alone without a prefix cache: on models of every kind of block. */
#include "arch_fixture.h"
#include "small_cache.h"

#include "engine/session.h"

#include <sys/stat.h>
#include <unistd.h>

#define N_PROMPT   57
#define N_ANSWER   30
#define N_REQUESTS 6
#define TRACE_MAX  64

/* Every model once: a fixture of arch/, or a file of the test data or the tree. */
static const struct model_case {
    const char *name, *path;
    int recurrent;
} models[] = {
    {"tiny", NULL, 0},
#if !TEST_SANITIZED
    {"stories260K", "llm/stories260K/stories260K.f32.gguf", 0},
    {"TinyStories-656K", "llm/TinyStories-656K/TinyStories-656K.f32.gguf", 0},
#endif
    {"llama", NULL, 0},
    {"mistral-window", NULL, 0},
    {"gemma3", NULL, 0},
    {"gemma4-e2b", NULL, 0},
    {"gpt-oss", NULL, 0},
    {"llama4-chunks", NULL, 0},
    {"deepseek-v2", NULL, 0},
    {"mamba2", NULL, 1},
    {"granite-hybrid", NULL, 1},
    {"qwen3next", NULL, 1},
};

#define N_MODELS (sizeof models / sizeof *models)

/* Tokens and a hash of the logits each was chosen from. */
struct trace {
    infer_token tokens[TRACE_MAX];
    uint64_t logits[TRACE_MAX];
    size_t n;
    int64_t n_cached;
    double logprob_sum;
};

struct request_case {
    infer_token prompt[N_PROMPT + N_ANSWER];
    size_t n;
    uint64_t seed;
    int64_t max_tokens;
};

static infer_request *submit(struct engine *e, const struct request_case *c)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = c->seed};
    sampling.repetition_penalty = 1.05f;
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = c->prompt,
                               .n_tokens = c->n,
                               .sampling = &sampling,
                               .max_tokens = c->max_tokens,
                               .ignore_eos = 1,
                               .logprobs = 1,
                               .want_logits = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, &o));
    return request;
}

static void add_event(struct trace *t, const infer_event *event)
{
    if (event->type != INFER_EVENT_TOKEN)
        return;
    assert_true(t->n < TRACE_MAX);
    t->tokens[t->n] = event->token;
    t->logits[t->n++] = arch_hash(event->logits, event->n_logits * sizeof *event->logits);
}

static void finish(infer_request *request, struct trace *t)
{
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    infer_status st;
    while ((st = infer_request_next(request, &event)) == INFER_OK)
        add_event(t, &event);
    if (st != INFER_DONE)
        fail_msg("%s", infer_last_error());
    assert_ok(infer_request_get_info(request, &info));
    t->n_cached = info.n_cached_tokens;
    t->logprob_sum = info.logprob_sum;
    infer_request_destroy(&request);
}

static void run(struct engine *e, const struct request_case *c, struct trace *t)
{
    memset(t, 0, sizeof *t);
    finish(submit(e, c), t);
}

static void assert_same(const struct trace *a, const struct trace *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, a->n * sizeof *a->tokens);
    assert_memory_equal(a->logits, b->logits, a->n * sizeof *a->logits);
    assert_memory_equal(&a->logprob_sum, &b->logprob_sum, sizeof a->logprob_sum);
}

/* ---------------------------------------------------------------- the model */

static void make_path(const struct model_case *m, char *path, size_t size)
{
    if (m == &models[0])
        snprintf(path, size, "%s", test_source(TINY_MODEL));
    else
        arch_model_path(m->name, m->path, path, size);
}

static void remove_path(const struct model_case *m, const char *path)
{
    if (m != &models[0])
        arch_model_remove(m->path, path);
}

/* Prompts that begin alike: request i shares 40 - 5 i tokens with the others. */
static void make_requests(struct request_case *c, const struct infer_model *model)
{
    uint64_t random = 7;
    infer_token text[N_PROMPT];
    int32_t n_vocab = model->hp.n_vocab;
    for (size_t i = 0; i < N_PROMPT; i++)
        text[i] = (infer_token)(test_rand(&random) % (uint32_t)n_vocab);
    for (size_t r = 0; r < N_REQUESTS; r++) {
        c[r] = (struct request_case){.n = N_PROMPT - r, .seed = 100 + r, .max_tokens = N_ANSWER};
        for (size_t i = 0; i < N_PROMPT; i++)
            c[r].prompt[i] = i < 40 - 5 * r || !r
                                 ? text[i]
                                 : (infer_token)(test_rand(&random) % (uint32_t)n_vocab);
    }
}

static void check_structures(struct engine *e, infer_request *const *requests, size_t n)
{
    const struct cache_table *tables[N_REQUESTS + 8];
    size_t n_tables = 0;
    for (size_t i = 0; i < n; i++)
        if (requests[i])
            tables[n_tables++] = &requests[i]->table;
    cache_check(e->cache->blocks, tables, n_tables);
}

static void check_unused(struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    assert_int_equal(kv.n_blocks_used, 0);
    check_structures(e, NULL, 0);
}

/* -------------------------------------------------------------------- ways */

/* One after the other: what the first left is found. */
static void check_hits(const char *path, const struct request_case *c, const struct trace *alone)
{
    struct engine e;
    struct trace t;
    int64_t n_cached = 0;
    engine_open(&e, path, &(struct engine_setup){.n_threads = 2, .step_tokens = 24});
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < N_REQUESTS; i++) {
            run(&e, &c[i], &t);
            assert_same(&t, &alone[i]);
            if (round)
                assert_int_equal(t.n_cached, (c[i].n - 1) / 16 * 16);
            n_cached += t.n_cached;
            check_unused(&e);
        }
    assert_true(n_cached > 0);
    engine_close(&e);
}

/* A system prompt of 40 tokens before three questions, and the next turn of a conversation. Where
 * prompts part is seen by the second question; a state that was kept there serves the third. More
 * threads than KV heads part query heads. */
static void check_turns(const struct model_case *m, const char *path, const struct request_case *c)
{
    struct engine plain, e;
    struct trace t, alone;
    struct request_case turn = c[0], next;
    engine_open(&plain, path, &(struct engine_setup){.n_threads = 1, .disable_prefix_cache = 1});
    engine_open(&e, path, &(struct engine_setup){.n_threads = 3, .step_tokens = 24});
    for (int32_t i = 0; i < 3; i++) {
        for (size_t k = 40; k < turn.n; k++)
            turn.prompt[k] = c[0].prompt[k] ^ (i + 1);
        run(&plain, &turn, &alone);
        run(&e, &turn, &t);
        assert_same(&t, &alone);
        assert_int_equal(t.n_cached, i > m->recurrent ? 32 : 0);
    }
    next = turn;
    memcpy(next.prompt + turn.n, t.tokens, (N_ANSWER - 1) * sizeof *t.tokens);
    next.n = turn.n + N_ANSWER - 1;
    next.prompt[next.n++] = c[0].prompt[0];
    run(&plain, &next, &alone);
    run(&e, &next, &t);
    assert_same(&t, &alone);
    assert_int_equal(t.n_cached, (turn.n + N_ANSWER - 1) / 16 * 16);
    check_unused(&e);
    engine_close(&e);
    engine_close(&plain);
}

/* All at once in a cache for hardly two: steps by hand, and all structures walked in between. */
static void check_small(const struct model_case *m, const char *path, const struct request_case *c,
                        const struct trace *alone)
{
    struct engine e;
    struct trace t[N_REQUESTS] = {{.n = 0}};
    infer_request *requests[N_REQUESTS];
    infer_event event = {.struct_size = sizeof event};
    struct engine_setup setup = {.n_threads = 2, .step_tokens = 20};
    setup.kv_budget_bytes = small_cache(path, INFER_KV_DEFAULT, 11);
    engine_open(&e, path, &setup);
    for (int round = 0; round < 2; round++) {
        memset(t, 0, sizeof t);
        for (size_t i = 0; i < N_REQUESTS; i++)
            requests[i] = submit(&e, &c[i]);
        for (int step = 0; infer_session_step(e.session) == INFER_OK; step++) {
            check_structures(&e, requests, N_REQUESTS);
            if (round && step % 9 == 8) { /* between this size, twice and three times it */
                assert_ok(infer_kv_cache_resize(e.cache, setup.kv_budget_bytes *
                                                             (uint64_t)(1 + step / 9 % 3)));
                check_structures(&e, requests, N_REQUESTS);
            }
            for (size_t i = 0; i < N_REQUESTS; i++)
                while (infer_request_poll(requests[i], &event) == INFER_OK)
                    add_event(&t[i], &event);
        }
        for (size_t i = 0; i < N_REQUESTS; i++) {
            finish(requests[i], &t[i]);
            assert_same(&t[i], &alone[i]);
        }
        check_unused(&e);
    }
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
    assert_ok(infer_session_get_stats(e.session, &stats));
    print_message("  %s: %d preemptions, %d of %d tokens cached, %d blocks evicted\n", m->name,
                  (int)stats.n_preempted, (int)kv.n_prefix_hits, (int)kv.n_prefix_queries,
                  (int)kv.n_evicted);
    assert_true(kv.n_evicted > 0);
    assert_true(kv.n_prefix_hits > 0 || m->recurrent); /* there is room for two states */
    if (!m->recurrent && cache_check_grows(e.cache->blocks))
        assert_true(stats.n_preempted > 0);
    engine_close(&e);
}

/* A fork and what it must say. */
struct branch {
    infer_request *request;
    struct request_case fresh; /* the same tokens as a request of its own */
    struct trace trace;
};

#define N_BRANCHES 5

static void fork_now(infer_request *source, struct branch *b, uint64_t seed, uint64_t expected_seed)
{
    infer_fork_options o = {.struct_size = sizeof o, .max_tokens = 20, .seed = seed};
    size_t n;
    assert_ok(infer_request_fork(&b->request, source, &o));
    const infer_token *prompt = infer_request_prompt(b->request, &n);
    assert_true(n <= sizeof b->fresh.prompt / sizeof *b->fresh.prompt);
    memcpy(b->fresh.prompt, prompt, n * sizeof *prompt);
    b->fresh.n = n;
    b->fresh.seed = expected_seed;
    b->fresh.max_tokens = 20;
}

static void take_events(struct branch *b, size_t n)
{
    infer_event event = {.struct_size = sizeof event};
    for (size_t i = 0; i < n; i++)
        while (b[i].request && infer_request_poll(b[i].request, &event) == INFER_OK)
            add_event(&b[i].trace, &event);
}

/* Forks at once, after some tokens and of a fork, against fresh requests with these tokens. */
static void check_forks(const char *path, const struct request_case *c, int disable)
{
    struct engine e, plain;
    struct engine_setup setup = {.n_threads = 2, .step_tokens = 30, .disable_prefix_cache = 1};
    engine_open(&plain, path, &setup);
    setup.disable_prefix_cache = disable;
    engine_open(&e, path, &setup);
    struct branch b[N_BRANCHES] = {{.request = submit(&e, &c[0]), .fresh = c[0]}};
    fork_now(b[0].request, &b[1], 0, c[0].seed + 1);
    infer_status st = INFER_OK;
    for (int step = 0; st == INFER_OK; step++) {
        if (step == 7)
            fork_now(b[0].request, &b[2], 0, c[0].seed + 2);
        if (step == 12)
            fork_now(b[0].request, &b[3], 77, 77);
        if (step == 15)
            fork_now(b[3].request, &b[4], 0, 78);
        if (step == 20)
            infer_request_destroy(&b[0].request); /* what they share stays */
        st = infer_session_step(e.session);
        infer_request *const requests[] = {b[0].request, b[1].request, b[2].request, b[3].request,
                                           b[4].request};
        check_structures(&e, requests, N_BRANCHES);
        take_events(b, N_BRANCHES);
    }
    for (size_t i = 1; i < N_BRANCHES; i++) {
        struct trace expected;
        finish(b[i].request, &b[i].trace);
        run(&plain, &b[i].fresh, &expected);
        assert_int_equal(b[i].trace.n, 20);
        assert_same(&b[i].trace, &expected);
        assert_int_equal(b[i].trace.n_cached, b[i].fresh.n - 1);
    }
    check_unused(&e);
    engine_close(&e);
    engine_close(&plain);
}

/* Continuations of one prompt together, against whole prompts scored alone. */
static void check_scores(const char *path, const struct request_case *c, int disable)
{
    struct engine e, plain;
    struct engine_setup setup = {.n_threads = 2, .step_tokens = 30, .disable_prefix_cache = 1};
    infer_request_options o = {.struct_size = sizeof o, .tokens = c[0].prompt, .n_tokens = 35};
    infer_continuation parts[N_REQUESTS] = {{0}};
    infer_score scores[N_REQUESTS];
    float logprobs[N_REQUESTS][20];
    infer_event event = {.struct_size = sizeof event};
    infer_session_stats stats = {.struct_size = sizeof stats};
    uint64_t n_rows = 34; /* the last one's logits are wanted by each */
    engine_open(&plain, path, &setup);
    setup.disable_prefix_cache = disable;
    engine_open(&e, path, &setup);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        parts[i].tokens = c[i].prompt + 30;
        parts[i].n_tokens = 1 + 3 * i;
        parts[i].logprobs = logprobs[i];
        parts[i].n_logprobs = 20;
        n_rows += parts[i].n_tokens;
    }
    assert_ok(infer_session_score(scores, e.session, NULL, parts, N_REQUESTS, &o));
    assert_ok(infer_session_get_stats(e.session, &stats));
    assert_int_equal(stats.n_prompt_tokens, n_rows); /* the prompt once */
    assert_int_equal(stats.n_cancelled + stats.n_failed, 0);
    o.prefill_only = o.prompt_logprobs = 1;
    for (size_t i = 0; i < N_REQUESTS; i++) {
        infer_request *request = NULL;
        infer_token whole[80];
        double sum = 0;
        memcpy(whole, c[0].prompt, 35 * sizeof *whole);
        memcpy(whole + 35, parts[i].tokens, parts[i].n_tokens * sizeof *whole);
        o.tokens = whole;
        o.n_tokens = 35 + parts[i].n_tokens;
        assert_ok(infer_session_submit(&request, plain.session, &o));
        assert_ok(infer_request_next(request, &event));
        const float *expected = infer_request_prompt_logprobs(request, &(size_t){0});
        assert_memory_equal(expected + 35, logprobs[i], parts[i].n_tokens * sizeof(float));
        for (size_t k = 0; k < parts[i].n_tokens; k++)
            sum += (double)logprobs[i][k];
        assert_true(sum < 0 && sum == scores[i].logprob);
        assert_int_equal(scores[i].n_tokens, parts[i].n_tokens);
        infer_request_destroy(&request);
    }
    check_unused(&e);
    engine_close(&e);
    engine_close(&plain);
}

static void test_model(void **state)
{
    const struct model_case *m = *state;
    struct request_case c[N_REQUESTS];
    struct trace alone[N_REQUESTS];
    struct engine e;
    char path[512];
    make_path(m, path, sizeof path);
    engine_open(&e, path, &(struct engine_setup){.n_threads = 1, .disable_prefix_cache = 1});
    make_requests(c, e.model);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        run(&e, &c[i], &alone[i]);
        assert_int_equal(alone[i].n, N_ANSWER);
        assert_int_equal(alone[i].n_cached, 0);
    }
    engine_close(&e);
    check_hits(path, c, alone);
    check_turns(m, path, c);
    check_small(m, path, c, alone);
    check_forks(path, c, 0);
    check_forks(path, c, 1);
    check_scores(path, c, 0);
    check_scores(path, c, 1);
    remove_path(m, path);
}

int main(void)
{
    struct CMUnitTest tests[N_MODELS];
    for (size_t i = 0; i < N_MODELS; i++)
        tests[i] = (struct CMUnitTest){models[i].name, test_model, NULL, NULL,
                                       (void *)(uintptr_t)&models[i]};
    return cmocka_run_group_tests_name("reuse", tests, NULL, NULL);
}
