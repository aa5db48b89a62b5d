/* A KV cache gets another size under requests in flight: no token changes, what is kept is found,
 * and what cannot be says so. */
#include "support/engine.h"
#include "support/test_alloc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define N_PROMPT   60
#define N_ANSWER   30
#define N_REQUESTS 8
#define ROUNDS     (TEST_SANITIZED ? 1 : 3) /* of each thread's requests */

static infer_token prompts[N_REQUESTS][N_PROMPT];
static infer_token answers[N_REQUESTS][N_ANSWER];
static uint64_t block_bytes;

static infer_request *submit(infer_session *session, int i)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = 3};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompts[i],
                               .n_tokens = N_PROMPT,
                               .sampling = &sampling,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, session, &o));
    return request;
}

/* To its end; gives back how many tokens were cached. */
static int64_t collect(infer_request *request, int i)
{
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    size_t n = 0;
    infer_status st;
    while ((st = infer_request_next(request, &event)) == INFER_OK)
        if (event.type == INFER_EVENT_TOKEN)
            assert_int_equal(event.token, answers[i][n++]);
    if (st != INFER_DONE)
        fail_msg("%s", infer_last_error());
    assert_int_equal(n, N_ANSWER);
    assert_ok(infer_request_get_info(request, &info));
    infer_request_destroy(&request);
    return info.n_cached_tokens;
}

static infer_kv_cache_stats stats_of(const struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    return kv;
}

static int make_all(void **state)
{
    (void)state;
    struct engine e;
    uint64_t seed = 11;
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .disable_prefix_cache = 1});
    block_bytes = stats_of(&e).block_bytes;
    for (int i = 0; i < N_REQUESTS; i++) {
        for (size_t k = 0; k < N_PROMPT; k++) /* two begin alike */
            prompts[i][k] =
                i % 2 && k < 40 ? prompts[i - 1][k] : (infer_token)(300 + test_rand(&seed) % 500);
        struct engine_answer a;
        engine_collect(submit(e.session, i), &a);
        assert_int_equal(a.n, N_ANSWER);
        memcpy(answers[i], a.tokens, sizeof answers[i]);
        engine_answer_free(&a);
    }
    engine_close(&e);
    return 0;
}

static void open_with(struct engine *e, uint64_t n_blocks, int no_prefix)
{
    struct engine_setup setup = {.n_threads = 1,
                                 .step_tokens = 24,
                                 .disable_prefix_cache = no_prefix,
                                 .kv_budget_bytes = n_blocks * block_bytes};
    engine_open(e, test_source(TINY_MODEL), &setup);
}

static void steps(struct engine *e, int n)
{
    while (n-- > 0)
        infer_session_step(e->session);
}

/* Larger, smaller, none at all, and back. */
static void run_resized(int no_prefix)
{
    struct engine e;
    infer_request *requests[N_REQUESTS];
    static const uint64_t sizes[] = {40, 7, 100, 0, 13, 6, 0, 25};
    open_with(&e, 12, no_prefix);
    for (int i = 0; i < 6; i++)
        requests[i] = submit(e.session, i);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        steps(&e, 7);
        assert_ok(infer_kv_cache_resize(e.cache, sizes[k] * block_bytes));
        infer_kv_cache_stats kv = stats_of(&e);
        assert_int_equal(kv.budget_bytes, sizes[k] * block_bytes);
        assert_int_equal(kv.n_blocks, sizes[k]);
        assert_int_equal(kv.n_blocks_used, 0);
        if (sizes[k])
            continue;
        assert_int_equal(infer_session_step(e.session), INFER_AGAIN); /* all wait */
        if (k == 3)                                                   /* and more may come */
            for (int i = 6; i < N_REQUESTS; i++)
                requests[i] = submit(e.session, i);
    }
    for (int i = 0; i < N_REQUESTS; i++)
        collect(requests[i], i);
    assert_int_equal(stats_of(&e).n_blocks_used, 0);
    engine_close(&e);
}

static void test_in_flight(void **state)
{
    (void)state;
    run_resized(0);
    run_resized(1);
}

/* What was cached is found in the larger and the smaller cache, the newest first. */
static void test_kept(void **state)
{
    (void)state;
    struct engine e;
    open_with(&e, 40, 0);
    for (int i = 0; i < 6; i += 2)
        assert_int_equal(collect(submit(e.session, i), i), 0);
    assert_int_equal(stats_of(&e).n_blocks_cached, 3 * 5);
    assert_ok(infer_kv_cache_resize(e.cache, 80 * block_bytes));
    assert_int_equal(stats_of(&e).n_blocks_cached, 3 * 5);
    for (int i = 0; i < 6; i += 2)
        assert_int_equal(collect(submit(e.session, i), i), 48);
    assert_ok(infer_kv_cache_resize(e.cache, 8 * block_bytes));
    infer_kv_cache_stats kv = stats_of(&e);
    assert_int_equal(kv.n_blocks_cached, 8);
    assert_int_equal(kv.n_evicted, 7);
    assert_int_equal(collect(submit(e.session, 4), 4), 48);
    assert_ok(infer_kv_cache_resize(e.cache, 0));
    assert_int_equal(stats_of(&e).n_blocks_cached, 0);
    assert_ok(infer_kv_cache_resize(e.cache, 8 * block_bytes));
    assert_int_equal(collect(submit(e.session, 4), 4), 0);
    engine_close(&e);
}

static void test_pins(void **state)
{
    (void)state;
    struct engine e;
    size_t n = 0;
    infer_kv_prefix p = {.struct_size = sizeof p, .tokens = prompts[0], .n_tokens = N_PROMPT};
    open_with(&e, 40, 0);
    collect(submit(e.session, 0), 0);
    assert_ok(infer_kv_cache_pin(e.cache, &p, &n));
    assert_int_equal(n, 48);
    infer_request *request = submit(e.session, 2);
    steps(&e, 5);
    assert_int_equal(infer_kv_cache_resize(e.cache, 2 * block_bytes), INFER_ERR_BUSY);
    assert_non_null(strstr(infer_last_error(), "pinned"));
    assert_int_equal(stats_of(&e).n_blocks, 40);
    collect(request, 2);
    assert_ok(infer_kv_cache_resize(e.cache, 10 * block_bytes));
    assert_int_equal(collect(submit(e.session, 0), 0),
                     48); /* it stayed, and where it can be found */
    assert_ok(infer_kv_cache_unpin(e.cache, &p));
    assert_ok(infer_kv_cache_resize(e.cache, 2 * block_bytes));
    assert_int_equal(infer_kv_cache_resize(e.cache, 1), INFER_ERR_LIMIT);
    assert_int_equal(stats_of(&e).n_blocks, 2);
    assert_int_equal(infer_kv_cache_resize(NULL, 1), INFER_ERR_INVALID);
    engine_close(&e);
}

/* Five blocks are 80 tokens: the answer of the one ends there, the other is too long by itself. */
static void test_too_long(void **state)
{
    (void)state;
    struct engine e;
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    infer_request *requests[2];
    size_t n = 0;
    open_with(&e, 40, 0);
    requests[0] = submit(e.session, 0);
    steps(&e, 5);
    assert_ok(infer_kv_cache_resize(e.cache, 5 * block_bytes));
    while (infer_request_next(requests[0], &event) == INFER_OK)
        if (event.type == INFER_EVENT_TOKEN)
            assert_int_equal(event.token, answers[0][n++]);
    assert_ok(infer_request_get_info(requests[0], &info));
    assert_int_equal(info.finish, INFER_FINISH_CONTEXT);
    assert_in_range(n, 80 - N_PROMPT, 80 - N_PROMPT + 1);
    requests[1] = submit(e.session, 1);
    steps(&e, 2);
    assert_ok(infer_kv_cache_resize(e.cache, 3 * block_bytes));
    infer_status st;
    while ((st = infer_request_next(requests[1], &event)) == INFER_OK)
        continue;
    assert_int_equal(st, INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "resized to 48"));
    infer_request_destroy(&requests[0]);
    infer_request_destroy(&requests[1]);
    engine_close(&e);
}

/* Without memory for it nothing changes, and requests go on. */
static void test_failing_allocations(void **state)
{
    (void)state;
    struct test_alloc t;
    struct engine e;
    infer_kv_cache *cache = NULL;
    infer_session *session = NULL;
    test_alloc_init(&t);
    infer_allocator a = {sizeof a, t.alloc.alloc, t.alloc.free, &t};
    infer_kv_cache_options k = {
        .struct_size = sizeof k, .budget_bytes = 20 * block_bytes, .allocator = &a};
    open_with(&e, 20, 0);
    assert_ok(infer_kv_cache_create(&cache, e.model, &k));
    infer_session_options o = {.struct_size = sizeof o, .kv_cache = cache, .step_tokens = 24};
    assert_ok(infer_session_create(&session, e.model, &o));
    infer_request *request = submit(session, 0);
    infer_status st = INFER_ERR_NO_MEMORY;
    for (size_t fail = 1; st != INFER_OK; fail++) {
        infer_kv_cache_stats kv = {.struct_size = sizeof kv};
        infer_session_step(session);
        t.n_calls = 0;
        t.fail_at = fail;
        st = infer_kv_cache_resize(cache, 30 * block_bytes);
        t.fail_at = 0;
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        assert_ok(infer_kv_cache_get_stats(cache, &kv));
        assert_int_equal(kv.n_blocks, st == INFER_OK ? 30 : 20);
        assert_true(fail < 40);
    }
    collect(request, 0);
    infer_session_destroy(&session);
    infer_kv_cache_destroy(&cache);
    assert_int_equal(t.live_blocks, 0);
    engine_close(&e);
}

/* ------------------------------------------------------------------- threads */

struct crowd {
    struct engine e;
    infer_session *sessions[2]; /* one with a thread of its own, one that its clients step */
    _Atomic int32_t n_clients;
};

struct client {
    struct crowd *crowd;
    int number;
    int64_t n_saved;
};

static void *ask(void *arg)
{
    struct client *c = arg;
    static _Thread_local char bytes[1 << 20];
    for (int i = 0; i < ROUNDS; i++) {
        size_t size = sizeof bytes;
        int which = (c->number + i) % N_REQUESTS;
        infer_session *session = c->crowd->sessions[c->number % 2];
        infer_request *request = submit(session, which), *again = NULL;
        if (infer_request_save_memory(request, bytes, &size) == INFER_OK) {
            assert_ok(infer_session_restore_memory(&again, session, bytes, size, NULL));
            c->n_saved++;
        }
        collect(request, which);
        if (again)
            infer_request_destroy(&again);
    }
    atomic_fetch_sub(&c->crowd->n_clients, 1);
    return NULL;
}

static void *look(void *arg)
{
    struct crowd *crowd = arg;
    static _Thread_local char text[65536];
    while (atomic_load(&crowd->n_clients) > 0) {
        size_t size = sizeof text;
        assert_ok(infer_session_metrics(crowd->sessions[0], text, &size));
        (void)stats_of(&crowd->e);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { N_CLIENTS = 4 };
    static struct crowd crowd;
    struct client clients[N_CLIENTS];
    pthread_t threads[N_CLIENTS], watcher;
    uint64_t seed = 5;
    int n_resized = 0;
    open_with(&crowd.e, 30, 0);
    infer_session_options o = {
        .struct_size = sizeof o, .kv_cache = crowd.e.cache, .step_tokens = 24, .worker_thread = 1};
    crowd.sessions[0] = crowd.e.session;
    assert_ok(infer_session_create(&crowd.sessions[1], crowd.e.model, &o));
    crowd.n_clients = N_CLIENTS;
    for (int i = 0; i < N_CLIENTS; i++) {
        clients[i] = (struct client){&crowd, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &clients[i]), 0);
    }
    assert_int_equal(pthread_create(&watcher, NULL, look, &crowd), 0);
    while (atomic_load(&crowd.n_clients) > 0) {
        uint64_t n = test_rand(&seed) % 5 ? 6 + test_rand(&seed) % 60 : 0;
        assert_ok(infer_kv_cache_resize(crowd.e.cache, n * block_bytes));
        n_resized++;
        usleep(10000);
        if (!n)
            assert_ok(infer_kv_cache_resize(crowd.e.cache, 20 * block_bytes));
    }
    for (int i = 0; i < N_CLIENTS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(pthread_join(watcher, NULL), 0);
    print_message("resized %d times under %d requests\n", n_resized, N_CLIENTS * ROUNDS);
    infer_session_destroy(&crowd.sessions[1]);
    assert_int_equal(stats_of(&crowd.e).n_blocks_used, 0);
    engine_close(&crowd.e);
}

/* Half of the cache is pinned; the common part of two scores fills the other half, to the block.
 * Their own tokens find no room and the call says so, instead of taking what is not there. */
static void test_nothing_left(void **state)
{
    (void)state;
    struct engine e;
    infer_kv_prefix p = {.struct_size = sizeof p, .tokens = prompts[0], .n_tokens = 48};
    infer_continuation c[2] = {{.tokens = prompts[4], .n_tokens = 3},
                               {.tokens = prompts[6], .n_tokens = 3}};
    infer_score scores[2];
    infer_request_options o = {
        .struct_size = sizeof o, .tokens = prompts[2], .n_tokens = 49, .deadline_ns = 300000000};
    open_with(&e, 8, 0);
    collect(submit(e.session, 0), 0);
    assert_ok(infer_kv_cache_pin(e.cache, &p, NULL));
    assert_ok(infer_kv_cache_resize(e.cache, 6 * block_bytes));
    assert_int_equal(infer_session_score(scores, e.session, NULL, c, 2, &o), INFER_ERR_LIMIT);
    assert_int_equal(stats_of(&e).n_blocks_used, 3);
    assert_ok(infer_kv_cache_unpin(e.cache, &p));
    assert_ok(infer_session_score(scores, e.session, NULL, c, 2, &o));
    engine_close(&e);
}

/* ------------------------------------------------------- beside a swapped model */

struct polled {
    infer_request *request;
    _Atomic int32_t n_tokens, over;
};

static void *poll_always(void *arg)
{
    struct polled *p = arg;
    infer_event event = {.struct_size = sizeof event};
    while (!atomic_load(&p->over))
        if (infer_request_poll(p->request, &event) == INFER_OK)
            atomic_fetch_add(&p->n_tokens, event.type == INFER_EVENT_TOKEN);
    return NULL;
}

/* The last request of a model that was swapped for another is nowhere for a moment, while it goes
 * to the swap store: its session stays for it. */
static void test_last_of_a_model(void **state)
{
    (void)state;
    struct engine e;
    struct polled p = {.request = NULL};
    infer_swap_options o = {.struct_size = sizeof o};
    struct engine_setup setup = {.n_threads = 1,
                                 .kv_budget_bytes = 40 * block_bytes,
                                 .swap_bytes = 64 << 20,
                                 .swap_always = 1};
    pthread_t thread;
    infer_status st = INFER_OK;
    engine_open(&e, test_source(TINY_MODEL), &setup);
    p.request = submit(e.session, 0);
    infer_session_step(e.session);
    assert_ok(infer_session_swap_model(e.session, e.model, &o));
    assert_int_equal(pthread_create(&thread, NULL, poll_always, &p), 0);
    for (uint64_t i = 0; st == INFER_OK || st == INFER_AGAIN; i++) {
        assert_ok(infer_kv_cache_resize(e.cache, (40 + i % 2) * block_bytes));
        st = infer_session_step(e.session);
    }
    assert_int_equal(st, INFER_DONE);
    while (atomic_load(&p.n_tokens) < N_ANSWER)
        usleep(100);
    atomic_store(&p.over, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    infer_request_destroy(&p.request);
    engine_close(&e);
}

/* ------------------------------------------------------------------ hosts that step */

struct steered {
    struct engine *e;
    _Atomic int32_t over;
};

static void *resize_always(void *arg)
{
    struct steered *s = arg;
    for (uint64_t n = 13; !atomic_load(&s->over); n = 40 - n) {
        assert_ok(infer_kv_cache_resize(s->e->cache, n * block_bytes));
        if (TEST_SANITIZED) /* a step takes as long, and shall come to an end in between */
            usleep(1000);
    }
    return NULL;
}

/* A host with a loop of its own is not told of another step where there is none. */
static void test_stepping_host(void **state)
{
    (void)state;
    struct engine e;
    struct steered s = {.e = &e};
    infer_request *requests[4];
    pthread_t thread;
    infer_status st;
    open_with(&e, 20, 0);
    for (int i = 0; i < 4; i++)
        requests[i] = submit(e.session, i);
    assert_int_equal(pthread_create(&thread, NULL, resize_always, &s), 0);
    while ((st = infer_session_step(e.session)) == INFER_OK || st == INFER_AGAIN)
        continue;
    atomic_store(&s.over, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(st, INFER_DONE);
    for (int i = 0; i < 4; i++)
        collect(requests[i], i);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_flight),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_stepping_host),
        cmocka_unit_test(test_nothing_left),
        cmocka_unit_test(test_last_of_a_model),
    };
    return cmocka_run_group_tests_name("resize", tests, make_all, NULL);
}
