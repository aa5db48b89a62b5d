/* Another model behind a session: who was there goes on with the old one, to the last bit, who
 * comes gets the new one, and the old one goes when nobody needs it. */
#include "model_swap.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

/* --------------------------------------------------------------------------- who goes on */

/* Swapped after so many steps, while one runs, one waits and one follows. */
static void swap_midway(int n_steps)
{
    struct swap_counter c[2] = {{.live = 0}};
    infer_request *requests[5];
    infer_model *model = swap_load(0, &c[0]);
    const infer_session_options o = {.max_requests = 1, .step_tokens = 8};
    infer_session *session = swap_open(model, &o);
    infer_model_destroy(&model);
    for (int i = 0; i < 2; i++)
        requests[i] = swap_submit(session, i);
    for (int i = 0; i < n_steps; i++)
        assert_int_equal(infer_session_step(session), INFER_OK);
    swap_now(session, 1, &c[1]);
    for (int i = 2; i < 5; i++)
        requests[i] = swap_submit(session, i % SWAP_PROMPTS);
    assert_int_equal(swap_stats(session).n_models, 2);
    assert_true(c[0].live > 0);
    for (int i = 4; i >= 0; i--)
        swap_check(requests[i], i >= 2, i % SWAP_PROMPTS);
    infer_session_stats stats = swap_stats(session);
    assert_int_equal(stats.n_models, 1);
    assert_int_equal(stats.n_submitted, 5);
    assert_int_equal(stats.n_finished, 5);
    assert_int_equal(stats.n_generated_tokens, 5 * SWAP_TOKENS);
    assert_int_equal(c[0].live, 0); /* the model, its file, its keys and values */
    infer_session_destroy(&session);
    assert_int_equal(c[1].live, 0);
}

static void test_midway(void **state)
{
    (void)state;
    for (int n_steps = 0; n_steps < 20; n_steps += 4)
        swap_midway(n_steps);
}

/* Nobody is there: the old model is gone when the call returns. */
static void test_idle(void **state)
{
    (void)state;
    struct swap_counter c[2] = {{.live = 0}};
    infer_model *model = swap_load(0, &c[0]);
    infer_session *session = swap_open(model, &(infer_session_options){.n_context = 128});
    infer_model_destroy(&model);
    swap_check(swap_submit(session, 0), 0, 0);
    for (int i = 1; i < 6; i++) {
        swap_now(session, i % 2, &c[i % 2]);
        assert_int_equal(c[!(i % 2)].live, 0);
        assert_int_equal(swap_stats(session).n_models, 1);
        swap_check(swap_submit(session, i % 3), i % 2, i % 3);
    }
    assert_int_equal(swap_stats(session).n_finished, 6);
    /* What the session was made with holds for later models. */
    infer_token tokens[128];
    for (int i = 0; i < 128; i++)
        tokens[i] = 300 + i;
    infer_request_options o = {.struct_size = sizeof o, .tokens = tokens, .n_tokens = 128};
    infer_request *request = NULL;
    assert_int_equal(infer_session_submit(&request, session, &o), INFER_ERR_LIMIT);
    infer_session_destroy(&session);
    assert_int_equal(c[0].live + c[1].live, 0);
}

/* The new model's cache may be one that is warm, and is its own in any case. */
static void test_cache(void **state)
{
    (void)state;
    struct swap_counter c = {.live = 0};
    infer_model *models[2] = {swap_load(0, &c), swap_load(1, &c)};
    infer_kv_cache *cache = NULL;
    infer_message message = {.role = "user", .content = "Who are you, and who are the others?"};
    infer_request_options r = {
        .struct_size = sizeof r, .messages = &message, .n_messages = 1, .max_tokens = 2};
    infer_session *session = swap_open(models[0], &(infer_session_options){.max_requests = 2});
    assert_ok(infer_kv_cache_create(&cache, models[1], NULL));
    infer_session *other = swap_open(models[1], &(infer_session_options){.kv_cache = cache});
    assert_ok(infer_session_generate(session, NULL, &r, NULL, NULL));
    swap_now(session, 1, &c);
    assert_ok(infer_session_generate(session, NULL, &r, NULL, NULL));
    assert_int_equal(swap_stats(session).n_cached_tokens, 0);
    assert_ok(infer_session_generate(other, NULL, &r, NULL, NULL));
    infer_swap_options o = {.struct_size = sizeof o, .kv_cache = cache};
    assert_ok(infer_session_swap_model(session, models[1], &o));
    assert_ok(infer_session_generate(session, NULL, &r, NULL, NULL));
    assert_true(swap_stats(session).n_cached_tokens >= 16);
    infer_session_destroy(&session);
    infer_session_destroy(&other);
    infer_kv_cache_destroy(&cache);
    infer_model_destroy(&models[0]);
    infer_model_destroy(&models[1]);
    assert_int_equal(c.live, 0);
}

/* Ids go on, whichever model has the request. */
static void test_ids(void **state)
{
    (void)state;
    struct swap_counter c = {.live = 0};
    infer_model *model = swap_load(0, &c);
    infer_session *session = swap_open(model, &(infer_session_options){.max_requests = 4});
    infer_request *requests[4];
    infer_request_info info = {.struct_size = sizeof info};
    requests[0] = swap_submit(session, 0);
    swap_now(session, 1, &c);
    requests[1] = swap_submit(session, 1);
    assert_ok(infer_request_fork(&requests[2], requests[0], NULL));
    requests[3] = swap_submit(session, 2);
    for (int i = 0; i < 4; i++) {
        assert_ok(infer_request_get_info(requests[i], &info));
        assert_int_equal(info.id, i + 1);
        infer_request_destroy(&requests[i]);
    }
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    assert_int_equal(c.live, 0);
}

/* A fork says what its source would have said from here on. */
static void check_fork(infer_request *source)
{
    struct engine_answer answer;
    infer_request *fork = NULL;
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(source, &info));
    size_t from = (size_t)info.n_generated_tokens, n = SWAP_TOKENS - from;
    infer_fork_options o = {.struct_size = sizeof o, .max_tokens = n ? (int64_t)n : 1};
    assert_ok(infer_request_fork(&fork, source, &o));
    engine_collect(fork, &answer);
    assert_int_equal(answer.n, n ? n : 1);
    assert_memory_equal(answer.tokens, swap_expected[0][1].tokens + from,
                        n * sizeof *answer.tokens);
    engine_answer_free(&answer);
}

/* Forks stay with the model of their source, also of one that has ended: its handle keeps the
 * model, and gets work for it. */
static void test_forks(void **state)
{
    (void)state;
    for (int worker = 0; worker < 2; worker++) {
        struct swap_counter c[2] = {{.live = 0}};
        infer_event event = {.struct_size = sizeof event};
        infer_model *model = swap_load(0, &c[0]);
        infer_session *session =
            swap_open(model, &(infer_session_options){.worker_thread = worker});
        infer_model_destroy(&model);
        infer_request *request = swap_submit(session, 1);
        assert_ok(infer_request_next(request, &event));
        swap_now(session, 1, &c[1]);
        check_fork(request);
        while (infer_request_next(request, &event) == INFER_OK)
            continue;
        swap_wait_for_one(session);
        assert_true(c[0].live > 0);
        check_fork(request);
        check_fork(request);
        swap_wait_for_one(session);
        infer_session_stats stats = swap_stats(session);
        assert_int_equal(stats.n_finished, 4);
        infer_request_destroy(&request);
        swap_wait_until_gone(&c[0]);
        infer_session_destroy(&session);
        assert_int_equal(c[1].live, 0);
    }
}

/* Ended early, the old model goes as well: cancelled or dropped, run by a worker or by nobody. */
static void test_cancel(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct swap_counter c[2] = {{.live = 0}};
        infer_model *model = swap_load(0, &c[0]);
        infer_session *session =
            swap_open(model, &(infer_session_options){.worker_thread = way / 2});
        infer_model_destroy(&model);
        infer_request *request = swap_submit(session, 0);
        swap_now(session, 1, &c[1]);
        if (way % 2)
            infer_request_cancel(request);
        infer_request_destroy(&request);
        swap_wait_for_one(session);
        swap_wait_until_gone(&c[0]);
        swap_check(swap_submit(session, 1), 1, 1);
        infer_session_destroy(&session);
        assert_int_equal(c[1].live, 0);
    }
}

/* A session goes while both models have requests. */
static void test_destroy(void **state)
{
    (void)state;
    for (int worker = 0; worker < 2; worker++) {
        struct swap_counter c[2] = {{.live = 0}};
        struct engine_answer answer;
        infer_model *model = swap_load(0, &c[0]);
        infer_session *session =
            swap_open(model, &(infer_session_options){.worker_thread = worker});
        infer_model_destroy(&model);
        infer_request *requests[2] = {swap_submit(session, 0), NULL};
        swap_now(session, 1, &c[1]);
        requests[1] = swap_submit(session, 1);
        infer_session_destroy(&session);
        for (int i = 0; i < 2; i++) {
            engine_collect(requests[i], &answer);
            assert_true(answer.finish == INFER_FINISH_CANCELLED || answer.n == SWAP_TOKENS);
            engine_answer_free(&answer);
        }
        assert_int_equal(c[0].live + c[1].live, 0);
    }
}

/* ------------------------------------------------------------------------------- in turn */

static int64_t generated(infer_request *request)
{
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(request, &info));
    return info.n_generated_tokens;
}

/* Three models at once: after every three steps each has one token more. */
static void test_turns(void **state)
{
    (void)state;
    struct swap_counter c = {.live = 0};
    infer_model *model = swap_load(0, &c);
    infer_session *session = swap_open(model, &(infer_session_options){.step_tokens = 64});
    infer_request *requests[3];
    for (int i = 0; i < 3; i++) {
        if (i)
            swap_now(session, i % 2, &c);
        requests[i] = swap_submit(session, i);
    }
    assert_int_equal(swap_stats(session).n_models, 3);
    assert_int_equal(swap_stats(session).n_waiting, 3);
    for (int round = 1; round <= 5; round++) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(infer_session_step(session), INFER_OK);
        for (int i = 0; i < 3; i++)
            assert_int_equal(generated(requests[i]), round);
    }
    assert_int_equal(swap_stats(session).n_running, 3);
    assert_int_equal(swap_stats(session).n_steps, 15);
    /* Who waits for one of them steps for all. */
    swap_check(requests[2], 0, 2);
    assert_true(generated(requests[0]) >= SWAP_TOKENS - 1);
    /* One whose weights are away holds up nobody. */
    assert_ok(infer_model_evict(model));
    swap_check(requests[1], 1, 1);
    assert_ok(infer_model_restore(model, NULL));
    swap_check(requests[0], 0, 0);
    assert_int_equal(infer_session_step(session), INFER_DONE);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    assert_int_equal(c.live, 0);
}

struct late {
    infer_session *session;
    int number;
    _Atomic int32_t *n_left;
};

/* Forks of what has ended bring its session back, while others see it leave. */
static void *fork_late(void *arg)
{
    struct late *l = arg;
    infer_fork_options o = {.struct_size = sizeof o, .max_tokens = 2};
    for (int i = 0; i < 12; i++) {
        struct engine_answer answer;
        infer_event event = {.struct_size = sizeof event};
        infer_request *request = swap_submit(l->session, (l->number + i) % SWAP_PROMPTS);
        infer_request *forks[4] = {NULL};
        while (infer_request_next(request, &event) == INFER_OK)
            continue;
        for (int k = 0; k < 4; k++) {
            assert_ok(infer_request_fork(&forks[k], request, &o));
            if (k % 2)
                sched_yield();
        }
        for (int k = 0; k < 4; k++) {
            engine_collect(forks[k], &answer);
            assert_true(answer.n == 2 || answer.finish == INFER_FINISH_STOP);
            engine_answer_free(&answer);
        }
        infer_request_destroy(&request);
    }
    atomic_fetch_sub(l->n_left, 1);
    return NULL;
}

static void test_late_forks(void **state)
{
    (void)state;
    enum { N = 3 };
    struct swap_counter c = {.live = 0};
    struct late late[N];
    pthread_t threads[N];
    _Atomic int32_t n_left = N;
    infer_model *model = swap_load(0, &c);
    infer_session *session = swap_open(model, &(infer_session_options){.worker_thread = 1});
    for (int i = 0; i < N; i++) {
        late[i] = (struct late){session, i, &n_left};
        assert_int_equal(pthread_create(&threads[i], NULL, fork_late, &late[i]), 0);
    }
    while (atomic_load(&n_left) > 0) {
        infer_swap_options o = {.struct_size = sizeof o};
        assert_ok(infer_session_swap_model(session, model, &o));
        usleep(1000);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    swap_wait_for_one(session);
    infer_session_stats stats = swap_stats(session);
    assert_int_equal(stats.n_finished, N * 12 * 5);
    assert_int_equal(stats.n_submitted, stats.n_finished);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    assert_int_equal(c.live, 0);
}

/* The queue is one: waiting for the old model counts. */
static void test_queue(void **state)
{
    (void)state;
    struct swap_counter c = {.live = 0};
    infer_model *model = swap_load(0, &c);
    infer_session *session = swap_open(model, &(infer_session_options){.max_queue = 3});
    infer_request *requests[4];
    infer_request_options o = {.struct_size = sizeof o, .prompt = "No", .max_tokens = 1};
    requests[0] = swap_submit(session, 0);
    requests[1] = swap_submit(session, 1);
    swap_now(session, 1, &c);
    requests[2] = swap_submit(session, 2);
    assert_int_equal(infer_session_submit(&requests[3], session, &o), INFER_ERR_BUSY);
    assert_int_equal(swap_stats(session).n_refused, 1);
    assert_int_equal(infer_session_step(session), INFER_OK);
    requests[3] = swap_submit(session, 1);
    for (int i = 0; i < 4; i++)
        swap_check(requests[i], i >= 2, i < 3 ? i : 1);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    assert_int_equal(c.live, 0);
}

static double metric(const infer_session *session, const char *name)
{
    static char text[65536];
    size_t size = sizeof text;
    assert_ok(infer_session_metrics(session, text, &size));
    const char *at = strstr(text, name);
    assert_non_null(at);
    return strtod(at + strlen(name), NULL);
}

static void test_metrics(void **state)
{
    (void)state;
    struct swap_counter c = {.live = 0};
    infer_model *model = swap_load(0, &c);
    infer_session *session =
        swap_open(model, &(infer_session_options){.model_name = "a", .max_requests = 4});
    infer_swap_options o = {.struct_size = sizeof o, .model_name = "b"};
    swap_check(swap_submit(session, 0), 0, 0);
    infer_request *request = swap_submit(session, 1);
    assert_int_equal(metric(session, "\ninfer_models{model_name=\"a\"} "), 1);
    infer_model *other = swap_load(1, &c);
    assert_ok(infer_session_swap_model(session, other, &o));
    assert_int_equal(metric(session, "\ninfer_models{model_name=\"b\"} "), 2);
    swap_check(swap_submit(session, 0), 1, 0);
    swap_check(request, 0, 1);
    assert_int_equal(metric(session, "\ninfer_models{model_name=\"b\"} "), 1);
    assert_int_equal(metric(session, "\ninfer_requests_finished_total{model_name=\"b\"} "), 3);
    assert_int_equal(metric(session, "\ninfer_queue_seconds_count{model_name=\"b\"} "), 3);
    assert_int_equal(metric(session, "\ninfer_generated_tokens_total{model_name=\"b\"} "),
                     3 * SWAP_TOKENS);
    assert_int_equal(metric(session, "\ninfer_model_evicted{model_name=\"b\"} "), 0);
    assert_ok(infer_model_evict(other));
    assert_int_equal(metric(session, "\ninfer_model_evicted{model_name=\"b\"} "), 1);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    infer_model_destroy(&other);
    assert_int_equal(c.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_midway), cmocka_unit_test(test_idle),
        cmocka_unit_test(test_ids),    cmocka_unit_test(test_forks),
        cmocka_unit_test(test_cancel), cmocka_unit_test(test_destroy),
        cmocka_unit_test(test_turns),  cmocka_unit_test(test_late_forks),
        cmocka_unit_test(test_queue),  cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests_name("model swap", tests, swap_make_models, swap_drop_models);
}
