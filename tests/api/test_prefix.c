/* The prefix cache and forks as an application uses them: who finds whose blocks, pins, clearing,
 * the switch, errors, n samples of one prompt, and many threads on one cache. */
#include "support/engine.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#define N_PROMPT 100

struct text {
    infer_token tokens[N_PROMPT];
};

static void make_text(struct text *t, uint64_t seed)
{
    for (size_t i = 0; i < N_PROMPT; i++)
        t->tokens[i] = (infer_token)(300 + test_rand(&seed) % 500);
}

/* Runs the first n tokens; gives back how many were cached and how many were computed. */
static int64_t run_in(infer_session *session, const struct text *t, size_t n, const char *namespace,
                      uint64_t *computed)
{
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = t->tokens,
                               .n_tokens = n,
                               .max_tokens = 3,
                               .ignore_eos = 1,
                               .cache_namespace = namespace};
    infer_session_stats before = {.struct_size = sizeof before}, after = before;
    infer_request_info info = {.struct_size = sizeof info};
    infer_event event = {.struct_size = sizeof event};
    infer_request *request = NULL;
    assert_ok(infer_session_get_stats(session, &before));
    assert_ok(infer_session_submit(&request, session, &o));
    while (infer_request_next(request, &event) == INFER_OK)
        continue;
    assert_int_equal(event.finish, INFER_FINISH_LENGTH);
    assert_ok(infer_request_get_info(request, &info));
    infer_request_destroy(&request);
    assert_ok(infer_session_get_stats(session, &after));
    assert_int_equal(after.n_cached_tokens - before.n_cached_tokens, info.n_cached_tokens);
    if (computed)
        *computed = after.n_prompt_tokens - before.n_prompt_tokens;
    return info.n_cached_tokens;
}

static int64_t run(struct engine *e, const struct text *t, size_t n, const char *namespace)
{
    return run_in(e->session, t, n, namespace, NULL);
}

static infer_kv_cache_stats stats_of(const struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    return kv;
}

static void test_hits_are_told(void **state)
{
    (void)state;
    struct engine e;
    struct text t;
    make_text(&t, 1);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    assert_int_equal(run(&e, &t, 100, NULL), 0);
    assert_int_equal(run(&e, &t, 100, ""), 96); /* "" is the one without a name */
    assert_int_equal(run(&e, &t, 96, NULL), 80);
    assert_int_equal(run(&e, &t, 50, NULL), 48);
    infer_kv_cache_stats kv = stats_of(&e);
    assert_int_equal(kv.n_prefix_queries, 100 + 100 + 96 + 50);
    assert_int_equal(kv.n_prefix_hits, 96 + 80 + 48);
    assert_int_equal(kv.n_blocks_cached, 6);
    assert_int_equal(kv.n_blocks_used, 0);
    assert_int_equal(kv.n_evicted, 0);
    char text[32768];
    size_t size = sizeof text;
    assert_ok(infer_session_metrics(e.session, text, &size));
    assert_non_null(strstr(text, "\ninfer_prefix_cache_queries_total 346\n"));
    assert_non_null(strstr(text, "\ninfer_prefix_cache_hits_total 224\n"));
    assert_non_null(strstr(text, "\ninfer_cached_prompt_tokens_total 224\n"));
    assert_ok(infer_kv_cache_clear(e.cache));
    assert_int_equal(stats_of(&e).n_blocks_cached, 0);
    assert_int_equal(run(&e, &t, 100, NULL), 0);
    engine_close(&e);
}

/* An answer is found too when the next turn repeats it. */
static void test_next_turn(void **state)
{
    (void)state;
    struct engine e;
    struct text t;
    struct engine_answer answer;
    infer_token turn[200];
    make_text(&t, 2);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    engine_greedy(&e, t.tokens, 60, 30, &answer);
    memcpy(turn, t.tokens, 60 * sizeof *turn);
    memcpy(turn + 60, answer.tokens, answer.n * sizeof *turn);
    turn[60 + answer.n] = 301;
    infer_request_options o = {
        .struct_size = sizeof o, .tokens = turn, .n_tokens = 61 + answer.n, .max_tokens = 1};
    infer_request *request = NULL;
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_session_submit(&request, e.session, &o));
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    assert_ok(infer_request_get_info(request, &info));
    assert_int_equal(info.n_cached_tokens, 80); /* of 89 computed: the last said is not */
    infer_request_destroy(&request);
    engine_answer_free(&answer);
    engine_close(&e);
}

/* Whether A's prompt is cached or not, B computes the same number of tokens in the same number
 * of steps: there is nothing to time. */
static void test_tenants(void **state)
{
    (void)state;
    struct engine e;
    struct text t;
    uint64_t computed[3], steps[3];
    make_text(&t, 3);
    for (int warm = 0; warm < 3; warm++) { /* nobody asked; A asked; A and nobody's did */
        infer_session_stats before = {.struct_size = sizeof before}, after = before;
        engine_open(&e, test_source(TINY_MODEL),
                    &(struct engine_setup){.n_threads = 1, .step_tokens = 32});
        if (warm)
            assert_int_equal(run(&e, &t, 100, "tenant A"), 0);
        if (warm > 1)
            assert_int_equal(run(&e, &t, 100, NULL), 0);
        if (warm)
            assert_int_equal(run(&e, &t, 100, "tenant A"), 96); /* but A finds its own */
        infer_session_get_stats(e.session, &before);
        assert_int_equal(run_in(e.session, &t, 100, "tenant B", &computed[warm]), 0);
        infer_session_get_stats(e.session, &after);
        steps[warm] = after.n_steps - before.n_steps;
        assert_int_equal(computed[warm], 100);
        assert_int_equal(computed[warm], computed[0]);
        assert_int_equal(steps[warm], steps[0]);
        engine_close(&e);
    }
}

static void test_off(void **state)
{
    (void)state;
    struct engine e;
    struct text t;
    size_t n = 9;
    make_text(&t, 4);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.disable_prefix_cache = 1});
    for (int i = 0; i < 2; i++)
        assert_int_equal(run(&e, &t, 100, NULL), 0);
    infer_kv_cache_stats kv = stats_of(&e);
    assert_int_equal(kv.n_blocks_cached + kv.n_prefix_queries + kv.n_prefix_hits, 0);
    infer_kv_prefix p = {.struct_size = sizeof p, .tokens = t.tokens, .n_tokens = 100};
    assert_ok(infer_kv_cache_pin(e.cache, &p, &n));
    assert_int_equal(n, 0);
    assert_int_equal(infer_kv_cache_unpin(e.cache, &p), INFER_ERR_NOT_FOUND);
    assert_ok(infer_kv_cache_clear(e.cache));
    engine_close(&e);
}

static void test_pins(void **state)
{
    (void)state;
    struct engine e;
    struct text t, other;
    size_t n = 0;
    make_text(&t, 5);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    struct engine_setup setup = {.n_threads = 1, .kv_budget_bytes = stats_of(&e).block_bytes * 12};
    engine_close(&e);
    engine_open(&e, test_source(TINY_MODEL), &setup);
    infer_kv_prefix p = {.struct_size = sizeof p, .tokens = t.tokens, .n_tokens = 70};
    p.cache_namespace = "a";
    assert_int_equal(run(&e, &t, 70, "a"), 0);
    assert_ok(infer_kv_cache_pin(e.cache, &p, &n));
    assert_int_equal(n, 64);
    assert_int_equal(stats_of(&e).n_blocks_used, 4);
    for (uint64_t seed = 10; seed < 20; seed++) {
        make_text(&other, seed);
        assert_int_equal(run(&e, &other, 100, NULL), 0);
    }
    assert_true(stats_of(&e).n_evicted > 0);
    assert_int_equal(run(&e, &t, 70, "a"), 64);
    /* A request that fits only where the pins are: it waits for ever, or until they go. */
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = other.tokens,
                               .n_tokens = 100,
                               .max_tokens = 60,
                               .ignore_eos = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e.session, &o));
    infer_status st;
    int steps = 0;
    while ((st = infer_session_step(e.session)) == INFER_OK)
        steps++;
    assert_int_equal(st, INFER_AGAIN);
    assert_ok(infer_kv_cache_unpin(e.cache, &p));
    assert_int_equal(infer_kv_cache_unpin(e.cache, &p), INFER_ERR_NOT_FOUND);
    while ((st = infer_session_step(e.session)) == INFER_OK)
        steps++;
    assert_int_equal(st, INFER_DONE);
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(request, &info));
    assert_int_equal(info.n_generated_tokens, 60);
    infer_request_destroy(&request);
    assert_int_equal(stats_of(&e).n_blocks_used, 0);
    assert_int_equal(run(&e, &t, 70, "a"), 32); /* its tail made room */
    p.n_tokens = 0;
    assert_int_equal(infer_kv_cache_pin(e.cache, &p, &n), INFER_ERR_INVALID);
    p.n_tokens = 1 << 30;
    assert_int_equal(infer_kv_cache_pin(e.cache, &p, &n), INFER_ERR_INVALID);
    assert_int_equal(infer_kv_cache_pin(e.cache, NULL, &n), INFER_ERR_INVALID);
    assert_int_equal(infer_kv_cache_pin(NULL, &p, &n), INFER_ERR_INVALID);
    assert_int_equal(infer_kv_cache_clear(NULL), INFER_ERR_INVALID);
    engine_close(&e);
}

/* Scores of a prompt need all its rows: nothing is skipped, and they are the same. */
static void test_scoring(void **state)
{
    (void)state;
    struct engine e;
    struct text t;
    float scores[2][N_PROMPT];
    make_text(&t, 6);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int i = 0; i < 2; i++) {
        infer_request_options o = {.struct_size = sizeof o,
                                   .tokens = t.tokens,
                                   .n_tokens = N_PROMPT,
                                   .prefill_only = 1,
                                   .prompt_logprobs = 1};
        infer_request *request = NULL;
        infer_request_info info = {.struct_size = sizeof info};
        infer_event event = {.struct_size = sizeof event};
        size_t n;
        assert_ok(infer_session_submit(&request, e.session, &o));
        while (infer_request_next(request, &event) == INFER_OK)
            continue;
        memcpy(scores[i], infer_request_prompt_logprobs(request, &n), sizeof scores[i]);
        assert_int_equal(n, N_PROMPT);
        assert_ok(infer_request_get_info(request, &info));
        assert_int_equal(info.n_cached_tokens, 0);
        infer_request_destroy(&request);
    }
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    assert_int_equal(run(&e, &t, N_PROMPT, NULL), 96); /* what scoring left is found */
    engine_close(&e);
}

/* ------------------------------------------------------------------- forks */

static void test_samples(void **state)
{
    (void)state;
    enum { N = 5 };
    struct engine e;
    struct text t;
    infer_request *requests[N] = {NULL};
    struct engine_answer answers[N];
    infer_request_info info[N];
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 2, .seed = 9};
    make_text(&t, 7);
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .step_tokens = 32});
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = t.tokens,
                               .n_tokens = N_PROMPT,
                               .sampling = &sampling,
                               .max_tokens = 12,
                               .ignore_eos = 1,
                               .logprobs = 1};
    assert_ok(infer_session_submit(&requests[0], e.session, &o));
    for (int i = 1; i < N; i++)
        assert_ok(infer_request_fork(&requests[i], requests[0], NULL));
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    for (int i = 0; i < N; i++) {
        info[i] = (infer_request_info){.struct_size = sizeof *info};
        assert_ok(infer_request_get_info(requests[i], &info[i]));
        assert_int_equal(info[i].n_cached_tokens, i ? N_PROMPT - 1 : 0);
        engine_collect(requests[i], &answers[i]);
        double sum = 0;
        for (size_t k = 0; k < answers[i].n; k++)
            sum += (double)answers[i].logprobs[k];
        assert_true(info[i].logprob_sum < 0 && fabs(sum - info[i].logprob_sum) < 1e-9);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(answers[i].tokens, answers[j].tokens, 12 * sizeof(infer_token));
    }
    /* The prompt was computed once, but for its last token. */
    assert_ok(infer_session_get_stats(e.session, &stats));
    assert_int_equal(stats.n_prompt_tokens, N_PROMPT + N - 1);
    assert_int_equal(stats.n_submitted, N);
    for (int i = 0; i < N; i++)
        engine_answer_free(&answers[i]);
    engine_close(&e);
}

static void test_fork_errors(void **state)
{
    (void)state;
    struct engine e;
    struct text t;
    make_text(&t, 8);
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .max_queue = 2, .n_context = 40});
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = t.tokens,
                               .n_tokens = 20,
                               .prefill_only = 1,
                               .cache_namespace = "x"};
    infer_fork_options f = {.struct_size = sizeof f, .max_tokens = -1};
    infer_request *source = NULL, *fork = NULL, *refused = NULL;
    assert_ok(infer_session_submit(&source, e.session, &o));
    assert_int_equal(infer_request_fork(&fork, source, &f), INFER_ERR_INVALID);
    assert_int_equal(infer_request_fork(NULL, source, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_request_fork(&fork, NULL, NULL), INFER_ERR_INVALID);
    infer_sampling wrong = {.struct_size = sizeof wrong, .top_p = 2};
    f = (infer_fork_options){.struct_size = sizeof f, .sampling = &wrong};
    assert_int_equal(infer_request_fork(&fork, source, &f), INFER_ERR_INVALID);
    assert_null(fork);
    assert_ok(infer_request_fork(&fork, source, NULL));
    assert_int_equal(infer_request_fork(&refused, source, NULL), INFER_ERR_BUSY);
    assert_null(refused);
    /* The source is cancelled before it computed anything, and its handle goes. */
    infer_request_cancel(source);
    infer_request_destroy(&source);
    struct engine_answer answer;
    engine_collect(fork, &answer);
    assert_int_equal(answer.n, 20); /* a fork of a scored prompt generates, up to the context */
    assert_int_equal(answer.finish, INFER_FINISH_CONTEXT);
    engine_answer_free(&answer);
    engine_close(&e);
}

/* Of a request that has filled the context; and of one that has ended, whose handle goes. */
static void test_fork_of_the_ended(void **state)
{
    (void)state;
    struct engine e;
    struct text t;
    make_text(&t, 8);
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .n_context = 40});
    infer_request_options o = {
        .struct_size = sizeof o, .tokens = t.tokens, .n_tokens = 20, .ignore_eos = 1};
    infer_request *source = NULL, *fork = NULL;
    assert_ok(infer_session_submit(&source, e.session, &o));
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    assert_int_equal(infer_request_fork(&fork, source, NULL), INFER_ERR_LIMIT);
    infer_request_destroy(&source);
    o.max_tokens = 5;
    assert_ok(infer_session_submit(&source, e.session, &o));
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    assert_ok(infer_request_fork(&fork, source, NULL));
    infer_request_destroy(&source);
    size_t n;
    infer_request_prompt(fork, &n);
    assert_int_equal(n, 25);
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(fork, &info));
    assert_int_equal(info.n_cached_tokens, 16); /* by its tokens: the blocks themselves had gone */
    assert_int_equal(info.n_generated_tokens, 5);
    infer_request_destroy(&fork);
    assert_int_equal(stats_of(&e).n_blocks_used, 0);
    engine_close(&e);
}

/* ----------------------------------------------------------------- threads */

#define N_THREADS 6

struct client {
    infer_session *session;
    infer_kv_cache *cache;
    const struct text *texts;
    infer_token (*expected)[8];
    int index;
    _Atomic int *n_wrong;
};

static void take_all(infer_request *request, infer_token *out, size_t *n)
{
    infer_event event = {.struct_size = sizeof event};
    *n = 0;
    while (infer_request_next(request, &event) == INFER_OK)
        if (event.type == INFER_EVENT_TOKEN && *n < 8)
            out[(*n)++] = event.token;
}

static void *client(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < 8; i++) {
        int which = (c->index + i) % 3;
        infer_request_options o = {.struct_size = sizeof o,
                                   .tokens = c->texts[which].tokens,
                                   .n_tokens = 70,
                                   .max_tokens = 8,
                                   .ignore_eos = 1};
        infer_kv_prefix p = {
            .struct_size = sizeof p, .tokens = c->texts[which].tokens, .n_tokens = 32};
        infer_kv_cache_stats kv = {.struct_size = sizeof kv};
        infer_request *request = NULL, *fork = NULL;
        infer_token said[8];
        size_t n;
        if (infer_session_submit(&request, c->session, &o) != INFER_OK)
            atomic_fetch_add(c->n_wrong, 1);
        if (i % 2 == 0 && infer_request_fork(&fork, request, NULL) != INFER_OK)
            atomic_fetch_add(c->n_wrong, 1);
        if (infer_kv_cache_pin(c->cache, &p, NULL) != INFER_OK)
            atomic_fetch_add(c->n_wrong, 1);
        if (i == 5)
            infer_request_cancel(fork ? fork : request);
        take_all(request, said, &n);
        if (i != 5 && (n != 8 || memcmp(said, c->expected[which], sizeof said) != 0))
            atomic_fetch_add(c->n_wrong, 1);
        infer_request_destroy(&request);
        infer_request_destroy(&fork);
        infer_kv_cache_unpin(c->cache, &p);
        infer_kv_cache_get_stats(c->cache, &kv);
        if (c->index == 0 && i % 3 == 2)
            infer_kv_cache_clear(c->cache);
    }
    return NULL;
}

/* Three sessions of one model, two threads each, on a cache that is too small for all. */
static void test_threads(void **state)
{
    (void)state;
    struct engine e;
    struct text texts[3];
    infer_token expected[3][8];
    struct engine_setup setup = {.n_threads = 1};
    infer_session *sessions[3] = {NULL};
    struct client clients[N_THREADS];
    pthread_t threads[N_THREADS];
    _Atomic int n_wrong = 0;
    engine_open(&e, test_source(TINY_MODEL), &setup);
    for (int i = 0; i < 3; i++) {
        struct engine_answer answer;
        make_text(&texts[i], 50);
        texts[i].tokens[40] = 400 + i; /* two blocks in common */
        engine_greedy(&e, texts[i].tokens, 70, 8, &answer);
        memcpy(expected[i], answer.tokens, sizeof expected[i]);
        engine_answer_free(&answer);
    }
    setup.kv_budget_bytes = stats_of(&e).block_bytes * 14;
    engine_close(&e);
    engine_open(&e, test_source(TINY_MODEL), &setup);
    for (int i = 0; i < 3; i++) {
        infer_session_options o = {.struct_size = sizeof o, .kv_cache = e.cache, .step_tokens = 20};
        o.worker_thread = i == 1;
        assert_ok(infer_session_create(&sessions[i], e.model, &o));
    }
    for (int i = 0; i < N_THREADS; i++) {
        clients[i] = (struct client){sessions[i % 3], e.cache, texts, expected, i, &n_wrong};
        assert_int_equal(pthread_create(&threads[i], NULL, client, &clients[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(n_wrong, 0);
    for (int i = 0; i < 3; i++)
        infer_session_destroy(&sessions[i]);
    infer_kv_cache_stats kv = stats_of(&e);
    print_message("%d of %d tokens cached, %d blocks evicted\n", (int)kv.n_prefix_hits,
                  (int)kv.n_prefix_queries, (int)kv.n_evicted);
    assert_true(kv.n_prefix_hits > 0);
    assert_ok(infer_kv_cache_clear(e.cache)); /* pins that a clear made unpin miss */
    assert_int_equal(stats_of(&e).n_blocks_used, 0);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits_are_told),
        cmocka_unit_test(test_next_turn),
        cmocka_unit_test(test_tenants),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_scoring),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_fork_errors),
        cmocka_unit_test(test_fork_of_the_ended),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
