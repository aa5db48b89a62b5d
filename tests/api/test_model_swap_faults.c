/* Swaps that fail, that are repeated, and that happen while threads submit and cancel. Run under
 * ThreadSanitizer too. */
#include "model_swap.h"

#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

/* ------------------------------------------------------------------------- what is refused */

static void test_refusals(void **state)
{
    (void)state;
    struct swap_counter c = {.live = 0};
    infer_model *models[2] = {swap_load(0, &c), swap_load(1, &c)}, *vocabulary = NULL;
    infer_kv_cache *cache = NULL;
    infer_model_options v = {.struct_size = sizeof v, .vocabulary_only = 1};
    infer_session *session = swap_open(models[0], &(infer_session_options){.max_requests = 2});
    infer_request *request = swap_submit(session, 0), *restored = NULL;
    swap_take(request, 2);
    assert_ok(infer_model_load(&vocabulary, swap_paths[1], &v));
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
    assert_int_equal(swap_stats(session).n_models, 1);

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
    assert_int_equal(answer.tokens[0], swap_expected[0][0].tokens[2]);
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
    struct swap_counter c = {.live = 0};
    infer_allocator allocator = {sizeof allocator, swap_alloc, swap_free, &c};
    infer_model *models[2] = {swap_load(0, &c), swap_load(1, &c)};
    infer_session *session = NULL;
    infer_session_options s = {
        .struct_size = sizeof s, .allocator = &allocator, .model_name = "name"};
    assert_ok(infer_session_create(&session, models[0], &s));
    infer_swap_options o = {.struct_size = sizeof o, .draft_model = models[0]};
    swap_check(swap_submit(session, 0), 0, 0); /* its tenant is known from now on */
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
            swap_check(swap_submit(session, 0), 0, 0);
    } while (n < 10000);
    assert_true(n > 20 && n < 10000);
    swap_check(swap_submit(session, 0), 1, 0);
    infer_session_destroy(&session);
    infer_model_destroy(&models[0]);
    infer_model_destroy(&models[1]);
    assert_int_equal(c.live, 0);
}

/* ---------------------------------------------------------------------- all of it, again */

static size_t count_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Mappings of the two models. */
static size_t count_mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[1024];
    size_t n = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, swap_paths[0]) || strstr(line, swap_paths[1]);
    fclose(f);
    return n;
}

/* Device, models, session, requests, eviction, swap, in an order of destruction that differs. */
static void live(int round, struct swap_counter *c)
{
    infer_allocator allocator = {sizeof allocator, swap_alloc, swap_free, c};
    infer_device *device = NULL;
    infer_model *models[2];
    infer_session *session = NULL;
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 2, .allocator = &allocator};
    assert_ok(infer_device_create(&device, 0, &d));
    infer_model_options o = {.struct_size = sizeof o, .device = device, .allocator = &allocator};
    for (int i = 0; i < 2; i++)
        assert_ok(infer_model_load(&models[i], swap_paths[i], &o));
    infer_session_options s = {.struct_size = sizeof s, .worker_thread = round % 2};
    assert_ok(infer_session_create(&session, models[0], &s));
    infer_request *requests[4];
    requests[0] = swap_submit(session, 0);
    assert_ok(infer_model_evict(models[0]));
    requests[1] = swap_submit(session, 1);
    assert_ok(infer_model_evict(models[1]));
    assert_ok(infer_session_swap_model(session, models[1], NULL));
    requests[2] = swap_submit(session, 2);
    assert_ok(infer_model_restore(models[1], NULL));
    swap_check(requests[2], 1, 2);
    assert_ok(infer_model_restore(models[0], NULL));
    swap_check(requests[0], 0, 0);
    requests[3] = swap_submit(session, 0);
    if (round % 3 == 0)
        infer_session_destroy(&session);
    infer_model_destroy(&models[round % 2]);
    infer_request_destroy(&requests[3]);
    infer_device_destroy(&device);
    infer_model_destroy(&models[!(round % 2)]);
    infer_request_destroy(&requests[1]);
    infer_session_destroy(&session);
}

static void test_again_and_again(void **state)
{
    (void)state;
    struct swap_counter c = {.live = 0};
    size_t n_files = count_files();
    assert_int_equal(count_mappings(), 0);
    for (int round = 0; round < 6; round++) {
        live(round, &c);
        assert_int_equal(c.live, 0);
        assert_int_equal(count_files(), n_files);
        assert_int_equal(count_mappings(), 0);
    }
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
        int prompt = (c->index + i) % SWAP_PROMPTS;
        struct engine_answer answer;
        infer_request *request = swap_submit(c->session, prompt);
        if (i % 3 == 1) {
            infer_event event = {.struct_size = sizeof event};
            infer_request_next(request, &event);
            infer_request_cancel(request);
            infer_request_destroy(&request);
            continue;
        }
        engine_collect(request, &answer);
        if (!swap_same(&answer, &swap_expected[0][prompt]) &&
            !swap_same(&answer, &swap_expected[1][prompt]))
            atomic_fetch_add(c->n_wrong, 1);
        engine_answer_free(&answer);
        swap_stats(c->session);
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
    struct swap_counter c = {.live = 0};
    infer_model *models[2] = {swap_load(0, &c), swap_load(1, &c)};
    infer_session *session =
        swap_open(models[0], &(infer_session_options){.worker_thread = worker});
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
    for (int i = 0; i < 2000 && swap_stats(session).n_models > 1; i++) {
        infer_session_step(session);
        usleep(1000);
    }
    infer_session_stats stats = swap_stats(session);
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
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_again_and_again),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("model swap faults", tests, swap_make_models,
                                       swap_drop_models);
}
