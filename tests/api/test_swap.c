/* Another model behind a session: who was there goes on with the old one, to the last bit, who
 * comes gets the new one, and the old one goes when nobody needs it. Run under ThreadSanitizer
 * too. */
#include "support/engine.h"
#include "support/hf_folder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define N_PROMPTS 3
#define N_TOKENS  16

static const char *const prompts[N_PROMPTS] = {"What is the capital of Italy?",
                                               "3 + 4 =", "Once upon a"};

struct counter {
    _Atomic int64_t live; /* blocks */
    _Atomic int64_t n_calls, fail_at;
};

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct counter *c = user_data;
    void *p = NULL;
    if (atomic_fetch_add(&c->n_calls, 1) + 1 == atomic_load(&c->fail_at))
        return NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    atomic_fetch_add(&c->live, 1);
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    struct counter *c = user_data;
    atomic_fetch_sub(&c->live, 1);
    free(ptr);
}

/* Two models whose answers differ, and what they say. */
static struct hf_folder folder;
static char paths[2][512];
static struct engine_answer expected[2][N_PROMPTS];

static infer_request *submit(infer_session *session, int prompt)
{
    infer_request_options o = {.struct_size = sizeof o,
                               .prompt = prompts[prompt],
                               .max_tokens = N_TOKENS,
                               .ignore_eos = 1,
                               .logprobs = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, session, &o));
    return request;
}

static int same(const struct engine_answer *a, const struct engine_answer *b)
{
    return a->n == b->n && memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0 &&
           memcmp(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs) == 0;
}

static void check(infer_request *request, int model, int prompt)
{
    struct engine_answer answer;
    engine_collect(request, &answer);
    assert_int_equal(answer.status, INFER_OK);
    assert_true(same(&answer, &expected[model][prompt]));
    engine_answer_free(&answer);
}

static int make_models(void **state)
{
    (void)state;
    infer_convert_options o = {.struct_size = sizeof o, .type = "Q4_0", .allow_requantize = 1};
    hf_folder_make(&folder);
    snprintf(paths[0], sizeof paths[0], "%s", test_source(TINY_MODEL));
    snprintf(paths[1], sizeof paths[1], "%s/q4.gguf", folder.path);
    assert_ok(infer_convert(NULL, paths[0], paths[1], &o));
    for (int m = 0; m < 2; m++) {
        struct engine e;
        engine_open(&e, paths[m], &(struct engine_setup){.n_threads = 1});
        for (int i = 0; i < N_PROMPTS; i++)
            engine_collect(submit(e.session, i), &expected[m][i]);
        engine_close(&e);
    }
    for (int i = 0; i < N_PROMPTS; i++)
        assert_false(same(&expected[0][i], &expected[1][i]));
    return 0;
}

static int drop_models(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * N_PROMPTS; i++)
        engine_answer_free(&expected[i / N_PROMPTS][i % N_PROMPTS]);
    hf_folder_remove(&folder);
    return 0;
}

/* A model whose memory, and that of all that hangs on it, is counted. */
static infer_model *load(int which, struct counter *c)
{
    infer_model *model = NULL;
    infer_allocator allocator = {sizeof allocator, counting_alloc, counting_free, c};
    infer_device *device = NULL;
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    assert_ok(infer_device_create(&device, 0, &d));
    infer_model_options o = {.struct_size = sizeof o, .device = device, .allocator = &allocator};
    assert_ok(infer_model_load(&model, paths[which], &o));
    infer_device_destroy(&device);
    return model;
}

static infer_session *open_session(infer_model *model, const infer_session_options *more)
{
    infer_session_options o = *more;
    static struct counter uncounted;
    infer_allocator plain = {sizeof plain, counting_alloc, counting_free, &uncounted};
    infer_session *session = NULL;
    o.struct_size = sizeof o;
    o.allocator = &plain;
    assert_ok(infer_session_create(&session, model, &o));
    return session;
}

static infer_session_stats stats_of(const infer_session *session)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_session_get_stats(session, &stats));
    return stats;
}

/* A worker may still be in the step that ended the last request of an older model. */
static void wait_for_one_model(const infer_session *session)
{
    for (int i = 0; i < 5000 && stats_of(session).n_models > 1; i++)
        usleep(1000);
    assert_int_equal(stats_of(session).n_models, 1);
}

/* It may be the worker that lets go of it. */
static void wait_until_gone(struct counter *c)
{
    for (int i = 0; i < 5000 && c->live; i++)
        usleep(1000);
    assert_int_equal(c->live, 0);
}

/* Swaps, and leaves the new model to the session alone. */
static void swap(infer_session *session, int which, struct counter *c)
{
    infer_model *model = load(which, c);
    assert_ok(infer_session_swap_model(session, model, NULL));
    infer_model_destroy(&model);
}

/* --------------------------------------------------------------------------- who goes on */

/* Swapped after so many steps, while one runs, one waits and one follows. */
static void swap_midway(int n_steps)
{
    struct counter c[2] = {{.live = 0}};
    infer_request *requests[5];
    infer_model *model = load(0, &c[0]);
    const infer_session_options o = {.max_requests = 1, .step_tokens = 8};
    infer_session *session = open_session(model, &o);
    infer_model_destroy(&model);
    for (int i = 0; i < 2; i++)
        requests[i] = submit(session, i);
    for (int i = 0; i < n_steps; i++)
        assert_int_equal(infer_session_step(session), INFER_OK);
    swap(session, 1, &c[1]);
    for (int i = 2; i < 5; i++)
        requests[i] = submit(session, i % N_PROMPTS);
    assert_int_equal(stats_of(session).n_models, 2);
    assert_true(c[0].live > 0);
    for (int i = 4; i >= 0; i--)
        check(requests[i], i >= 2, i % N_PROMPTS);
    infer_session_stats stats = stats_of(session);
    assert_int_equal(stats.n_models, 1);
    assert_int_equal(stats.n_submitted, 5);
    assert_int_equal(stats.n_finished, 5);
    assert_int_equal(stats.n_generated_tokens, 5 * N_TOKENS);
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
    struct counter c[2] = {{.live = 0}};
    infer_model *model = load(0, &c[0]);
    infer_session *session = open_session(model, &(infer_session_options){.n_context = 128});
    infer_model_destroy(&model);
    check(submit(session, 0), 0, 0);
    for (int i = 1; i < 6; i++) {
        swap(session, i % 2, &c[i % 2]);
        assert_int_equal(c[!(i % 2)].live, 0);
        assert_int_equal(stats_of(session).n_models, 1);
        check(submit(session, i % 3), i % 2, i % 3);
    }
    assert_int_equal(stats_of(session).n_finished, 6);
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

/* Ids go on, whichever model has the request. */
static void test_ids(void **state)
{
    (void)state;
    struct counter c = {.live = 0};
    infer_model *model = load(0, &c);
    infer_session *session = open_session(model, &(infer_session_options){.max_requests = 4});
    infer_request *requests[4];
    infer_request_info info = {.struct_size = sizeof info};
    requests[0] = submit(session, 0);
    swap(session, 1, &c);
    requests[1] = submit(session, 1);
    assert_ok(infer_request_fork(&requests[2], requests[0], NULL));
    requests[3] = submit(session, 2);
    for (int i = 0; i < 4; i++) {
        assert_ok(infer_request_get_info(requests[i], &info));
        assert_int_equal(info.id, i + 1);
        infer_request_destroy(&requests[i]);
    }
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    assert_int_equal(c.live, 0);
}

static void take_some(infer_request *request, int n)
{
    infer_event event = {.struct_size = sizeof event};
    for (int i = 0; i < n; i++) {
        assert_ok(infer_request_next(request, &event));
        assert_int_equal(event.type, INFER_EVENT_TOKEN);
    }
}

/* A fork says what its source would have said from here on. */
static void check_fork(infer_request *source)
{
    struct engine_answer answer;
    infer_request *fork = NULL;
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(source, &info));
    size_t from = (size_t)info.n_generated_tokens, n = N_TOKENS - from;
    infer_fork_options o = {.struct_size = sizeof o, .max_tokens = n ? (int64_t)n : 1};
    assert_ok(infer_request_fork(&fork, source, &o));
    engine_collect(fork, &answer);
    assert_int_equal(answer.n, n ? n : 1);
    assert_memory_equal(answer.tokens, expected[0][1].tokens + from, n * sizeof *answer.tokens);
    engine_answer_free(&answer);
}

/* Forks stay with the model of their source, also of one that has ended: its handle keeps the
 * model, and gets work for it. */
static void test_forks(void **state)
{
    (void)state;
    for (int worker = 0; worker < 2; worker++) {
        struct counter c[2] = {{.live = 0}};
        infer_event event = {.struct_size = sizeof event};
        infer_model *model = load(0, &c[0]);
        infer_session *session =
            open_session(model, &(infer_session_options){.worker_thread = worker});
        infer_model_destroy(&model);
        infer_request *request = submit(session, 1);
        assert_ok(infer_request_next(request, &event));
        swap(session, 1, &c[1]);
        check_fork(request);
        while (infer_request_next(request, &event) == INFER_OK)
            continue;
        wait_for_one_model(session);
        assert_true(c[0].live > 0);
        check_fork(request);
        check_fork(request);
        wait_for_one_model(session);
        infer_session_stats stats = stats_of(session);
        assert_int_equal(stats.n_finished, 4);
        infer_request_destroy(&request);
        wait_until_gone(&c[0]);
        infer_session_destroy(&session);
        assert_int_equal(c[1].live, 0);
    }
}

/* Ended early, the old model goes as well: cancelled or dropped, run by a worker or by nobody. */
static void test_cancel(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct counter c[2] = {{.live = 0}};
        infer_model *model = load(0, &c[0]);
        infer_session *session =
            open_session(model, &(infer_session_options){.worker_thread = way / 2});
        infer_model_destroy(&model);
        infer_request *request = submit(session, 0);
        swap(session, 1, &c[1]);
        if (way % 2)
            infer_request_cancel(request);
        infer_request_destroy(&request);
        wait_for_one_model(session);
        wait_until_gone(&c[0]);
        check(submit(session, 1), 1, 1);
        infer_session_destroy(&session);
        assert_int_equal(c[1].live, 0);
    }
}

/* A session goes while both models have requests. */
static void test_destroy(void **state)
{
    (void)state;
    for (int worker = 0; worker < 2; worker++) {
        struct counter c[2] = {{.live = 0}};
        struct engine_answer answer;
        infer_model *model = load(0, &c[0]);
        infer_session *session =
            open_session(model, &(infer_session_options){.worker_thread = worker});
        infer_model_destroy(&model);
        infer_request *requests[2] = {submit(session, 0), NULL};
        swap(session, 1, &c[1]);
        requests[1] = submit(session, 1);
        infer_session_destroy(&session);
        for (int i = 0; i < 2; i++) {
            engine_collect(requests[i], &answer);
            assert_true(answer.finish == INFER_FINISH_CANCELLED || answer.n == N_TOKENS);
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
    struct counter c = {.live = 0};
    infer_model *model = load(0, &c);
    infer_session *session = open_session(model, &(infer_session_options){.step_tokens = 64});
    infer_request *requests[3];
    for (int i = 0; i < 3; i++) {
        if (i)
            swap(session, i % 2, &c);
        requests[i] = submit(session, i);
    }
    assert_int_equal(stats_of(session).n_models, 3);
    assert_int_equal(stats_of(session).n_waiting, 3);
    for (int round = 1; round <= 5; round++) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(infer_session_step(session), INFER_OK);
        for (int i = 0; i < 3; i++)
            assert_int_equal(generated(requests[i]), round);
    }
    assert_int_equal(stats_of(session).n_running, 3);
    assert_int_equal(stats_of(session).n_steps, 15);
    /* Who waits for one of them steps for all. */
    check(requests[2], 0, 2);
    assert_true(generated(requests[0]) >= N_TOKENS - 1);
    /* One whose weights are away holds up nobody. */
    assert_ok(infer_model_evict(model));
    check(requests[1], 1, 1);
    assert_ok(infer_model_restore(model, NULL));
    check(requests[0], 0, 0);
    assert_int_equal(infer_session_step(session), INFER_DONE);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    assert_int_equal(c.live, 0);
}

/* The queue is one: waiting for the old model counts. */
static void test_queue(void **state)
{
    (void)state;
    struct counter c = {.live = 0};
    infer_model *model = load(0, &c);
    infer_session *session = open_session(model, &(infer_session_options){.max_queue = 3});
    infer_request *requests[4];
    infer_request_options o = {.struct_size = sizeof o, .prompt = "No", .max_tokens = 1};
    requests[0] = submit(session, 0);
    requests[1] = submit(session, 1);
    swap(session, 1, &c);
    requests[2] = submit(session, 2);
    assert_int_equal(infer_session_submit(&requests[3], session, &o), INFER_ERR_BUSY);
    assert_int_equal(stats_of(session).n_refused, 1);
    assert_int_equal(infer_session_step(session), INFER_OK);
    requests[3] = submit(session, 1);
    for (int i = 0; i < 4; i++)
        check(requests[i], i >= 2, i < 3 ? i : 1);
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
    struct counter c = {.live = 0};
    infer_model *model = load(0, &c);
    infer_session *session =
        open_session(model, &(infer_session_options){.model_name = "a", .max_requests = 4});
    infer_swap_options o = {.struct_size = sizeof o, .model_name = "b"};
    check(submit(session, 0), 0, 0);
    infer_request *request = submit(session, 1);
    assert_int_equal(metric(session, "\ninfer_models{model_name=\"a\"} "), 1);
    infer_model *other = load(1, &c);
    assert_ok(infer_session_swap_model(session, other, &o));
    assert_int_equal(metric(session, "\ninfer_models{model_name=\"b\"} "), 2);
    check(submit(session, 0), 1, 0);
    check(request, 0, 1);
    assert_int_equal(metric(session, "\ninfer_models{model_name=\"b\"} "), 1);
    assert_int_equal(metric(session, "\ninfer_requests_finished_total{model_name=\"b\"} "), 3);
    assert_int_equal(metric(session, "\ninfer_queue_seconds_count{model_name=\"b\"} "), 3);
    assert_int_equal(metric(session, "\ninfer_generated_tokens_total{model_name=\"b\"} "),
                     3 * N_TOKENS);
    assert_int_equal(metric(session, "\ninfer_model_evicted{model_name=\"b\"} "), 0);
    assert_ok(infer_model_evict(other));
    assert_int_equal(metric(session, "\ninfer_model_evicted{model_name=\"b\"} "), 1);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    infer_model_destroy(&other);
    assert_int_equal(c.live, 0);
}

/* ------------------------------------------------------------------------- what is refused */

static void test_refusals(void **state)
{
    (void)state;
    struct counter c = {.live = 0};
    infer_model *models[2] = {load(0, &c), load(1, &c)}, *vocabulary = NULL;
    infer_kv_cache *cache = NULL;
    infer_model_options v = {.struct_size = sizeof v, .vocabulary_only = 1};
    infer_session *session = open_session(models[0], &(infer_session_options){.max_requests = 2});
    infer_request *request = submit(session, 0), *restored = NULL;
    take_some(request, 2);
    assert_ok(infer_model_load(&vocabulary, paths[1], &v));
    assert_ok(infer_kv_cache_create(&cache, models[0], NULL));
    infer_swap_options o = {.struct_size = sizeof o, .kv_cache = cache};
    assert_int_equal(infer_session_swap_model(session, models[1], &o), INFER_ERR_INVALID);
    o = (infer_swap_options){.struct_size = sizeof o, .n_context = 1 << 20};
    assert_int_equal(infer_session_swap_model(session, models[1], &o), INFER_ERR_LIMIT);
    o.n_context = -1;
    assert_int_equal(infer_session_swap_model(session, models[1], &o), INFER_ERR_INVALID);
    o = (infer_swap_options){.struct_size = sizeof o, .reserved = 1};
    assert_int_equal(infer_session_swap_model(session, models[1], &o), INFER_ERR_INVALID);
    o = (infer_swap_options){.struct_size = sizeof o, .draft_model = vocabulary};
    assert_int_equal(infer_session_swap_model(session, models[1], &o), INFER_ERR_INVALID);
    assert_int_equal(infer_session_swap_model(session, vocabulary, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_swap_model(session, NULL, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_swap_model(NULL, models[1], NULL), INFER_ERR_INVALID);
    assert_int_equal(stats_of(session).n_models, 1);

    /* A snapshot goes to the model that is there, if it is of it. */
    size_t size = 1 << 20;
    void *snapshot = malloc(size);
    assert_ok(infer_request_save_memory(request, snapshot, &size));
    assert_ok(infer_session_swap_model(session, models[1], NULL));
    assert_int_equal(infer_session_restore_memory(&restored, session, snapshot, size, NULL),
                     INFER_ERR_INVALID);
    assert_ok(infer_session_swap_model(session, models[0], NULL));
    assert_ok(infer_session_restore_memory(&restored, session, snapshot, size, NULL));
    struct engine_answer answer;
    engine_collect(restored, &answer);
    assert_int_equal(answer.tokens[0], expected[0][0].tokens[2]);
    engine_answer_free(&answer);
    infer_request_destroy(&request);
    free(snapshot);
    infer_session_destroy(&session);
    infer_kv_cache_destroy(&cache);
    infer_model_destroy(&vocabulary);
    infer_model_destroy(&models[0]);
    infer_model_destroy(&models[1]);
    assert_int_equal(c.live, 0);
}

/* The n-th allocation fails: the session goes on with the model it has. */
static void test_allocations(void **state)
{
    (void)state;
    struct counter c = {.live = 0};
    infer_allocator allocator = {sizeof allocator, counting_alloc, counting_free, &c};
    infer_model *models[2] = {load(0, &c), load(1, &c)};
    infer_session *session = NULL;
    infer_session_options s = {
        .struct_size = sizeof s, .allocator = &allocator, .model_name = "name"};
    assert_ok(infer_session_create(&session, models[0], &s));
    infer_swap_options o = {.struct_size = sizeof o, .draft_model = models[0]};
    check(submit(session, 0), 0, 0); /* its tenant is known from now on */
    int64_t live = c.live, n = 0;
    infer_status st;
    do {
        c.n_calls = 0;
        c.fail_at = ++n;
        st = infer_session_swap_model(session, models[1], &o);
        c.fail_at = 0;
        if (st == INFER_OK)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_int_equal(c.live, live);
        if (n % 8 == 1)
            check(submit(session, 0), 0, 0);
    } while (n < 10000);
    assert_true(n > 20 && n < 10000);
    check(submit(session, 0), 1, 0);
    infer_session_destroy(&session);
    infer_model_destroy(&models[0]);
    infer_model_destroy(&models[1]);
    assert_int_equal(c.live, 0);
}

/* ------------------------------------------------------------------------------- threads */

#define N_THREADS 4
#define N_ROUNDS  6

struct client {
    infer_session *session;
    infer_model **models;
    int index;
    _Atomic int *n_wrong, *n_left;
};

/* An answer is one model's or the other's, never of both. */
static void *run_client(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        int prompt = (c->index + i) % N_PROMPTS;
        struct engine_answer answer;
        infer_request *request = submit(c->session, prompt);
        if (i % 3 == 1) {
            infer_event event = {.struct_size = sizeof event};
            infer_request_next(request, &event);
            infer_request_cancel(request);
            infer_request_destroy(&request);
            continue;
        }
        engine_collect(request, &answer);
        if (!same(&answer, &expected[0][prompt]) && !same(&answer, &expected[1][prompt]))
            atomic_fetch_add(c->n_wrong, 1);
        engine_answer_free(&answer);
        stats_of(c->session);
    }
    atomic_fetch_sub(c->n_left, 1);
    return NULL;
}

static void *run_swaps(void *arg)
{
    struct client *c = arg;
    for (int i = c->index; atomic_load(c->n_left) > 0; i++) {
        infer_model *model = c->models[i % 2];
        if (i % 4 == 0)
            infer_model_evict(model);
        if (infer_session_swap_model(c->session, model, NULL) != INFER_OK)
            atomic_fetch_add(c->n_wrong, 1);
        usleep(3000);
        if (infer_model_restore(model, NULL) != INFER_OK)
            atomic_fetch_add(c->n_wrong, 1);
    }
    return NULL;
}

static void run_threads(int worker)
{
    struct counter c = {.live = 0};
    infer_model *models[2] = {load(0, &c), load(1, &c)};
    infer_session *session =
        open_session(models[0], &(infer_session_options){.worker_thread = worker});
    pthread_t threads[N_THREADS + 2];
    struct client clients[N_THREADS + 2];
    _Atomic int n_wrong = 0, n_left = N_THREADS;
    for (int i = 0; i < N_THREADS + 2; i++) {
        clients[i] = (struct client){session, models, i, &n_wrong, &n_left};
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < N_THREADS ? run_client : run_swaps, &clients[i]),
            0);
    }
    for (int i = 0; i < N_THREADS + 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(n_wrong, 0);
    for (int i = 0; i < 2000 && stats_of(session).n_models > 1; i++) {
        infer_session_step(session);
        usleep(1000);
    }
    infer_session_stats stats = stats_of(session);
    assert_int_equal(stats.n_models, 1);
    assert_int_equal(stats.n_submitted, N_THREADS * N_ROUNDS);
    assert_int_equal(stats.n_finished + stats.n_cancelled, stats.n_submitted);
    assert_int_equal(stats.n_running + stats.n_waiting, 0);
    infer_session_destroy(&session);
    infer_model_destroy(&models[0]);
    infer_model_destroy(&models[1]);
    assert_int_equal(c.live, 0);
}

static void test_threads(void **state)
{
    (void)state;
    run_threads(0);
    run_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_midway),      cmocka_unit_test(test_idle),
        cmocka_unit_test(test_ids),         cmocka_unit_test(test_forks),
        cmocka_unit_test(test_cancel),      cmocka_unit_test(test_destroy),
        cmocka_unit_test(test_turns),       cmocka_unit_test(test_queue),
        cmocka_unit_test(test_metrics),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_allocations), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("swap", tests, make_models, drop_models);
}
