/* Many threads on one session: submit, cancel, generate, poll, statistics. Run
 * under ThreadSanitizer too. */
#include "support/engine.h"

#include <pthread.h>
#include <stdatomic.h>

#define N_THREADS  8
#define N_REQUESTS 6
#define N_TOKENS   12

struct work {
    struct engine *engine;
    const struct engine_answer *expected; /* for prompt i % 3 */
    int index;
    _Atomic int *n_wrong;
};

static const char *const prompts[3] = {"What is the capital of Italy?", "3 + 4 =", "Once upon a"};

static infer_request *submit(struct engine *e, int i)
{
    infer_request_options options = {.struct_size = sizeof options,
                                     .prompt = prompts[i % 3],
                                     .max_tokens = N_TOKENS,
                                     .ignore_eos = 1};
    infer_request *request = NULL;
    return infer_session_submit(&request, e->session, &options) == INFER_OK ? request : NULL;
}

static int same(const struct engine_answer *a, const struct engine_answer *b)
{
    return a->n == b->n && memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0;
}

/* Every third request is cancelled midway; the others must be right. */
static void *client(void *arg)
{
    struct work *w = arg;
    for (int i = 0; i < N_REQUESTS; i++) {
        int prompt = w->index + i;
        infer_request *request = submit(w->engine, prompt);
        if (!request) {
            atomic_fetch_add(w->n_wrong, 1);
            continue;
        }
        if (i % 3 == 2) {
            infer_event event = {.struct_size = sizeof event};
            infer_request_next(request, &event);
            infer_request_cancel(request);
            infer_request_destroy(&request);
            continue;
        }
        struct engine_answer answer;
        engine_collect(request, &answer);
        if (!same(&answer, &w->expected[prompt % 3]))
            atomic_fetch_add(w->n_wrong, 1);
        engine_answer_free(&answer);
        infer_session_stats stats = {.struct_size = sizeof stats};
        char text[32768];
        size_t size = sizeof text;
        infer_session_get_stats(w->engine->session, &stats);
        infer_session_metrics(w->engine->session, text, &size);
    }
    return NULL;
}

static void run_clients(const struct engine_setup *setup)
{
    struct engine e;
    struct engine_answer expected[3];
    struct work work[N_THREADS];
    pthread_t threads[N_THREADS];
    _Atomic int n_wrong = 0;
    engine_open(&e, test_source(TINY_MODEL), setup);
    for (int i = 0; i < 3; i++)
        engine_collect(submit(&e, i), &expected[i]);
    for (int i = 0; i < N_THREADS; i++) {
        work[i] = (struct work){&e, expected, i, &n_wrong};
        assert_int_equal(pthread_create(&threads[i], NULL, client, &work[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(n_wrong, 0);
    infer_kv_cache_stats stats = {.struct_size = sizeof stats};
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    for (int i = 0; i < 3; i++)
        engine_answer_free(&expected[i]);
    infer_session_destroy(&e.session);
    assert_int_equal(infer_kv_cache_get_stats(e.cache, &stats), INFER_OK);
    assert_int_equal(stats.n_blocks_used, 0);
    engine_close(&e);
}

static void test_callers_step(void **state)
{
    (void)state;
    run_clients(&(struct engine_setup){.n_threads = 2, .max_requests = 4});
}

static void test_worker_steps(void **state)
{
    (void)state;
    run_clients(&(struct engine_setup){.n_threads = 2, .worker_thread = 1});
}

static void test_small_cache(void **state)
{
    (void)state;
    struct engine e;
    struct engine_setup setup = {.n_threads = 1};
    engine_open(&e, test_source(TINY_MODEL), &setup);
    infer_kv_cache_stats stats = {.struct_size = sizeof stats};
    infer_kv_cache_get_stats(e.cache, &stats);
    engine_close(&e);
    setup.kv_budget_bytes = stats.block_bytes * 5;
    setup.n_threads = 2;
    run_clients(&setup);
}

/* Two sessions of one model take blocks from one cache. */
struct pair_work {
    infer_session *session;
    const char *expected;
    int n_wrong;
};

static int32_t append_text(const char *text, size_t size, void *user_data)
{
    strncat(user_data, text, size);
    return 0;
}

static void *pair_client(void *arg)
{
    struct pair_work *w = arg;
    infer_request_options o = {.struct_size = sizeof o, .max_tokens = N_TOKENS, .ignore_eos = 1};
    for (int i = 0; i < 4; i++) {
        char text[1024] = "";
        if (infer_session_generate(w->session, prompts[0], &o, append_text, text) != INFER_OK ||
            strcmp(text, w->expected) != 0)
            w->n_wrong++;
    }
    return NULL;
}

static void test_shared_cache(void **state)
{
    (void)state;
    struct engine e;
    struct engine_setup setup = {.n_threads = 1};
    char expected[1024] = "";
    engine_open(&e, test_source(TINY_MODEL), &setup);
    infer_request_options o = {.struct_size = sizeof o, .max_tokens = N_TOKENS, .ignore_eos = 1};
    assert_int_equal(infer_session_generate(e.session, prompts[0], &o, append_text, expected), 0);
    infer_session_options second = {.struct_size = sizeof second, .kv_cache = e.cache};
    infer_session *other = NULL;
    assert_int_equal(infer_session_create(&other, e.model, &second), INFER_OK);
    struct pair_work work[2] = {{e.session, expected, 0}, {other, expected, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pair_client, &work[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(work[i].n_wrong, 0);
    }
    infer_session_destroy(&other);
    engine_close(&e);
}

/* A session that is destroyed while its worker runs cancels what is in flight. */
static void test_destroy_while_running(void **state)
{
    (void)state;
    struct engine_setup setup = {.n_threads = 2, .worker_thread = 1};
    for (int round = 0; round < 5; round++) {
        struct engine e;
        infer_request *requests[4];
        engine_open(&e, test_source(TINY_MODEL), &setup);
        for (int i = 0; i < 4; i++)
            requests[i] = submit(&e, i);
        infer_session_destroy(&e.session);
        for (int i = 0; i < 4; i++) {
            struct engine_answer answer;
            engine_collect(requests[i], &answer);
            assert_int_not_equal(answer.finish, INFER_FINISH_NONE);
            engine_answer_free(&answer);
        }
        engine_close(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callers_step),          cmocka_unit_test(test_worker_steps),
        cmocka_unit_test(test_small_cache),           cmocka_unit_test(test_shared_cache),
        cmocka_unit_test(test_destroy_while_running),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
