/* Weights that are evicted and come back, from every side of a session: what runs and waits goes
 * on bit-equal, memory goes and returns, nothing spins. Run under ThreadSanitizer too. */
#include "support/engine.h"
#include "support/hf_folder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define N_PROMPTS 4
#define N_TOKENS  16

static const char *const prompts[N_PROMPTS] = {"What is the capital of Italy?",
                                               "3 + 4 =", "Once upon a", "Name three colours."};

static infer_request *submit(infer_session *session, int i, uint64_t deadline_ns)
{
    infer_request_options o = {.struct_size = sizeof o,
                               .prompt = prompts[i % N_PROMPTS],
                               .max_tokens = N_TOKENS,
                               .ignore_eos = 1,
                               .logprobs = 1,
                               .deadline_ns = deadline_ns};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, session, &o));
    return request;
}

static int same(const struct engine_answer *a, const struct engine_answer *b)
{
    return a->n == b->n && memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0 &&
           memcmp(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs) == 0 &&
           strcmp(a->text, b->text) == 0;
}

static infer_model_info info_of(const infer_model *model)
{
    infer_model_info info = {.struct_size = sizeof info};
    assert_ok(infer_model_get_info(model, &info));
    return info;
}

/* What an undisturbed session answers. */
static void expect(struct engine_answer *answers)
{
    struct engine e;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int i = 0; i < N_PROMPTS; i++)
        engine_collect(submit(e.session, i, 0), &answers[i]);
    engine_close(&e);
}

static void forget(struct engine_answer *answers)
{
    for (int i = 0; i < N_PROMPTS; i++)
        engine_answer_free(&answers[i]);
}

static void collect_and_check(infer_request *request, const struct engine_answer *expected)
{
    struct engine_answer answer;
    engine_collect(request, &answer);
    assert_int_equal(answer.status, INFER_OK);
    assert_true(same(&answer, expected));
    engine_answer_free(&answer);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------- goes on bit-equal */

/* Evicted after so many steps: in a prompt, between tokens; one more is queued meanwhile. */
static void interrupt(int n_steps, const struct engine_answer *expected)
{
    struct engine e;
    infer_request *requests[N_PROMPTS];
    infer_event event = {.struct_size = sizeof event};
    infer_session_stats stats = {.struct_size = sizeof stats};
    const struct engine_setup setup = {.n_threads = 1, .step_tokens = 8, .max_requests = 2};
    engine_open(&e, test_source(TINY_MODEL), &setup);
    for (int i = 0; i < 3; i++)
        requests[i] = submit(e.session, i, 0);
    for (int i = 0; i < n_steps; i++)
        assert_int_equal(infer_session_step(e.session), INFER_OK);
    assert_ok(infer_model_evict(e.model));
    assert_ok(infer_model_evict(e.model));
    assert_ok(infer_session_get_stats(e.session, &stats));
    uint64_t steps = stats.n_steps;
    requests[3] = submit(e.session, 3, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(infer_session_step(e.session), INFER_AGAIN);
    while (infer_request_poll(requests[3], &event) == INFER_OK)
        fail_msg("a token without a model");
    assert_ok(infer_session_get_stats(e.session, &stats));
    assert_int_equal(stats.n_steps, steps);
    assert_int_equal(stats.model_evicted, 1);
    assert_ok(infer_model_restore(e.model, NULL));
    assert_ok(infer_model_restore(e.model, NULL));
    for (int i = 0; i < N_PROMPTS; i++)
        collect_and_check(requests[i], &expected[i]);
    assert_ok(infer_session_get_stats(e.session, &stats));
    assert_int_equal(stats.model_evicted, 0);
    engine_close(&e);
}

static void test_goes_on(void **state)
{
    (void)state;
    struct engine_answer expected[N_PROMPTS];
    expect(expected);
    for (int n_steps = 0; n_steps < 12; n_steps += 3)
        interrupt(n_steps, expected);
    forget(expected);
}

/* What needs no weights works without them. */
static void test_what_stays(void **state)
{
    (void)state;
    struct engine e;
    infer_message message = {.role = "user", .content = "Who are you?"};
    char before[512], after[512];
    size_t n_before = sizeof before, n_after = sizeof after, size = 1 << 20;
    infer_tensor_info tensor = {.struct_size = sizeof tensor};
    infer_restore_options o = {.struct_size = sizeof o};
    infer_event event = {.struct_size = sizeof event};
    infer_request *copy = NULL;
    char *snapshot = malloc(size);
    struct engine_answer expected[N_PROMPTS];
    expect(expected);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    infer_request *request = submit(e.session, 0, 0);
    assert_ok(infer_request_next(request, &event));
    assert_ok(infer_model_render_chat(e.model, &message, 1, before, &n_before));
    assert_ok(infer_model_evict(e.model));
    assert_ok(infer_model_render_chat(e.model, &message, 1, after, &n_after));
    assert_string_equal(before, after);
    assert_ok(infer_model_tensor_at(e.model, 0, &tensor));
    assert_true(tensor.bytes > 0 && tensor.dims[0] > 0);
    infer_token tokens[64];
    size_t n = 64;
    assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e.model), prompts[1], strlen(prompts[1]),
                                     NULL, tokens, &n));
    /* A snapshot names the model it is of, whose weights are away; and so is a session made. */
    assert_ok(infer_request_save_memory(request, snapshot, &size));
    assert_ok(infer_session_restore_memory(&copy, e.session, snapshot, size, &o));
    infer_session *second = NULL;
    assert_ok(infer_session_create(&second, e.model, NULL));
    infer_request *other = submit(second, 1, 0);
    assert_ok(infer_model_restore(e.model, NULL));
    collect_and_check(other, &expected[1]);
    struct engine_answer rest[2];
    engine_collect(request, &rest[0]);
    engine_collect(copy, &rest[1]);
    assert_true(rest[0].n == N_TOKENS - 1 && same(&rest[0], &rest[1]));
    assert_int_equal(rest[0].tokens[0], expected[0].tokens[1]);
    engine_answer_free(&rest[0]);
    engine_answer_free(&rest[1]);
    infer_session_destroy(&second);
    engine_close(&e);
    forget(expected);
    free(snapshot);
}

static void test_vocabulary_only(void **state)
{
    (void)state;
    infer_model *model = NULL;
    infer_model_options o = {.struct_size = sizeof o, .vocabulary_only = 1};
    assert_ok(infer_model_load(&model, test_source(TINY_MODEL), &o));
    assert_int_equal(infer_model_evict(model), INFER_ERR_INVALID);
    assert_ok(infer_model_restore(model, NULL));
    infer_model_destroy(&model);
    assert_int_equal(infer_model_evict(NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_model_restore(NULL, NULL), INFER_ERR_INVALID);
}

/* -------------------------------------------------------------------- time passes */

static uint64_t fake_clock(void *user_data)
{
    return atomic_load((_Atomic uint64_t *)user_data);
}

struct later {
    infer_model *model;
    infer_request *cancel;
    _Atomic uint64_t *clock;
};

static void *do_later(void *arg)
{
    struct later *l = arg;
    usleep(50000);
    if (l->clock)
        atomic_fetch_add(l->clock, 1000000000u);
    if (l->cancel)
        infer_request_cancel(l->cancel);
    if (l->model)
        assert_ok(infer_model_restore(l->model, NULL));
    return NULL;
}

/* Whoever waits learns of a deadline, a cancel, a restoration; with a worker and without. */
static void wait_for_each(int worker)
{
    struct engine e;
    struct engine_answer answer;
    pthread_t thread;
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .worker_thread = worker});
    assert_ok(infer_model_evict(e.model));
    uint64_t start = now_ns();
    engine_collect(submit(e.session, 0, 50000000), &answer);
    assert_int_equal(answer.finish, INFER_FINISH_DEADLINE);
    assert_true(now_ns() - start >= 50000000);
    engine_answer_free(&answer);

    infer_request *request = submit(e.session, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, do_later, &(struct later){.cancel = request}),
                     0);
    infer_event event = {.struct_size = sizeof event};
    assert_ok(infer_request_next(request, &event));
    assert_int_equal(event.finish, INFER_FINISH_CANCELLED);
    pthread_join(thread, NULL);
    infer_request_destroy(&request);

    request = submit(e.session, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, do_later, &(struct later){.model = e.model}), 0);
    engine_collect(request, &answer);
    pthread_join(thread, NULL);
    assert_int_equal(answer.n, N_TOKENS);
    engine_answer_free(&answer);
    engine_close(&e);
}

static void test_waiting(void **state)
{
    (void)state;
    wait_for_each(0);
    wait_for_each(1);
}

/* Deadlines of a host's clock, too. */
static void test_host_clock(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer answer;
    _Atomic uint64_t clock = 1000;
    pthread_t thread;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int worker = 0; worker < 2; worker++) {
        infer_session *session = NULL;
        infer_session_options o = {.struct_size = sizeof o,
                                   .clock = fake_clock,
                                   .clock_data = &clock,
                                   .worker_thread = worker};
        assert_ok(infer_session_create(&session, e.model, &o));
        assert_ok(infer_model_evict(e.model));
        infer_request *request = submit(session, 0, 1000000000u);
        assert_int_equal(pthread_create(&thread, NULL, do_later, &(struct later){.clock = &clock}),
                         0);
        engine_collect(request, &answer);
        pthread_join(thread, NULL);
        assert_int_equal(answer.finish, INFER_FINISH_DEADLINE);
        engine_answer_free(&answer);
        infer_session_destroy(&session);
        assert_ok(infer_model_restore(e.model, NULL));
    }
    engine_close(&e);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void *take_all(void *arg)
{
    struct engine_answer *answer = malloc(sizeof *answer);
    engine_collect(arg, answer);
    return answer;
}

/* Three threads and a worker wait for an evicted model, for nothing. */
static void test_nobody_spins(void **state)
{
    (void)state;
    struct engine_answer expected[N_PROMPTS];
    expect(expected);
    for (int worker = 0; worker < 2; worker++) {
        struct engine e;
        pthread_t threads[3];
        engine_open(&e, test_source(TINY_MODEL),
                    &(struct engine_setup){.n_threads = 1, .worker_thread = worker});
        assert_ok(infer_model_evict(e.model));
        for (int i = 0; i < 3; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, take_all, submit(e.session, i, 0)),
                             0);
        usleep(50000);
        double before = cpu_seconds();
        usleep(400000);
        double spent = cpu_seconds() - before;
        print_message("waiting 400 ms for an evicted model took %.1f ms of processor\n",
                      1e3 * spent);
        assert_true(spent < 0.04);
        assert_ok(infer_model_restore(e.model, NULL));
        for (int i = 0; i < 3; i++) {
            void *answer;
            pthread_join(threads[i], &answer);
            assert_true(same(answer, &expected[i]));
            engine_answer_free(answer);
            free(answer);
        }
        engine_close(&e);
    }
    forget(expected);
}

/* A session that is destroyed does not wait for its model. */
static void test_destroy_evicted(void **state)
{
    (void)state;
    for (int worker = 0; worker < 2; worker++) {
        struct engine e;
        struct engine_answer answer;
        engine_open(&e, test_source(TINY_MODEL),
                    &(struct engine_setup){.n_threads = 1, .worker_thread = worker});
        assert_ok(infer_model_evict(e.model));
        infer_request *request = submit(e.session, 0, 0);
        infer_session_destroy(&e.session);
        engine_collect(request, &answer);
        assert_int_equal(answer.finish, INFER_FINISH_CANCELLED);
        engine_answer_free(&answer);
        engine_close(&e); /* the model goes as it is */
    }
}

/* -------------------------------------------------------------- other files, no files */

static int32_t cancel_at_once(double fraction, const char *stage, void *user_data)
{
    (void)fraction, (void)stage;
    return ++*(int *)user_data == 2;
}

static void copy_model(const struct hf_folder *f, const char *name)
{
    size_t size;
    char *bytes = test_read(test_source(TINY_MODEL), &size);
    hf_folder_bytes(f, name, bytes, size);
    free(bytes);
}

static void refuse(infer_model *model, infer_status status, const char *path, const char *words)
{
    assert_int_equal(infer_model_restore(model, NULL), status);
    if (!strstr(infer_last_error(), path) || !strstr(infer_last_error(), words))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", infer_last_error(), path, words);
    assert_int_equal(info_of(model).evicted, 1);
}

static void test_other_files(void **state)
{
    (void)state;
    struct hf_folder f;
    struct engine e;
    struct engine_answer expected[N_PROMPTS];
    char path[512];
    int calls = 0;
    infer_model_restore_options o = {.struct_size = sizeof o,
                                     .progress = cancel_at_once,
                                     .progress_user_data = &calls,
                                     .read_weights = 1};
    infer_convert_options convert = {
        .struct_size = sizeof convert, .type = "Q4_0", .allow_requantize = 1};
    expect(expected);
    hf_folder_make(&f);
    copy_model(&f, "model.gguf");
    snprintf(path, sizeof path, "%s", hf_folder_path(&f, "model.gguf"));
    assert_ok(infer_convert(NULL, path, hf_folder_path(&f, "other.gguf"), &convert));
    engine_open(&e, path, &(struct engine_setup){.n_threads = 1});
    infer_request *request = submit(e.session, 0, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(infer_session_step(e.session), INFER_OK);
    assert_ok(infer_model_evict(e.model));
    assert_int_equal(infer_model_restore(e.model, &o), INFER_ERR_CANCELLED);
    assert_int_equal(rename(path, hf_folder_path(&f, "away.gguf")), 0);
    refuse(e.model, INFER_ERR_NOT_FOUND, path, "cannot open");
    assert_int_equal(rename(hf_folder_path(&f, "other.gguf"), path), 0);
    refuse(e.model, INFER_ERR_FORMAT, path, "another model");
    hf_folder_text(&f, "model.gguf", "GGUF");
    refuse(e.model, INFER_ERR_FORMAT, path, "");
    assert_int_equal(infer_session_step(e.session), INFER_AGAIN);
    copy_model(&f, "model.gguf"); /* of another time, and another inode */
    calls = 2;
    assert_ok(infer_model_restore(e.model, &o));
    assert_true(calls > 3);
    collect_and_check(request, &expected[0]);
    /* One weight more or less in a tensor's samples is another model. */
    size_t size;
    char *bytes = test_read(path, &size);
    bytes[size - 1] ^= 1;
    assert_ok(infer_model_evict(e.model));
    assert_int_equal(unlink(path), 0);
    hf_folder_bytes(&f, "model.gguf", bytes, size);
    refuse(e.model, INFER_ERR_FORMAT, path, "another model");
    free(bytes);
    engine_close(&e);
    hf_folder_remove(&f);
    forget(expected);
}

/* ------------------------------------------------------------------------ draft model */

/* Answers are the same with drafts, without them, and where they end midway. */
static void test_evicted_draft(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer expected[N_PROMPTS];
    infer_model *draft = NULL;
    infer_session *session = NULL;
    expect(expected);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    assert_ok(infer_model_load(&draft, test_source(TINY_MODEL), NULL));
    infer_session_options s = {.struct_size = sizeof s, .draft_model = draft};
    assert_ok(infer_session_create(&session, e.model, &s));
    infer_request_options o = {.struct_size = sizeof o,
                               .max_tokens = N_TOKENS,
                               .ignore_eos = 1,
                               .logprobs = 1,
                               .speculation = INFER_SPECULATION_DRAFT};
    for (int when = 0; when < 4; when++) {
        infer_request *request = NULL;
        o.prompt = prompts[when];
        if (when == 3)
            assert_ok(infer_model_evict(draft));
        assert_ok(infer_session_submit(&request, session, &o));
        for (int i = 0; i < 2; i++)
            infer_session_step(session);
        if (when == 1)
            assert_ok(infer_model_evict(draft));
        infer_session_step(session);
        if (when == 1 || when == 3)
            assert_ok(infer_model_restore(draft, NULL));
        collect_and_check(request, &expected[when]);
    }
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_session_get_stats(session, &stats));
    assert_true(stats.n_drafted_tokens > 0);
    infer_session_destroy(&session);
    infer_model_destroy(&draft);
    engine_close(&e);
    forget(expected);
}

/* ---------------------------------------------------------------------------- threads */

#define N_THREADS 4
#define N_ROUNDS  4

struct client {
    struct engine *engine;
    const struct engine_answer *expected;
    int index;
    _Atomic int *n_wrong, *n_left;
};

static void *run_client(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        int prompt = (c->index + i) % N_PROMPTS;
        infer_request *request = submit(c->engine->session, prompt, 0);
        if (i % 3 == 1) {
            infer_event event = {.struct_size = sizeof event};
            infer_request_next(request, &event);
            infer_request_cancel(request);
            infer_request_destroy(&request);
            continue;
        }
        struct engine_answer answer;
        engine_collect(request, &answer);
        if (!same(&answer, &c->expected[prompt]))
            atomic_fetch_add(c->n_wrong, 1);
        engine_answer_free(&answer);
        info_of(c->engine->model);
    }
    atomic_fetch_sub(c->n_left, 1);
    return NULL;
}

/* Weights come and go while clients submit, wait and cancel; two threads do it at once. */
static void *come_and_go(void *arg)
{
    struct client *c = arg;
    while (atomic_load(c->n_left) > 0) {
        if (infer_model_evict(c->engine->model) != INFER_OK)
            atomic_fetch_add(c->n_wrong, 1);
        usleep(300);
        if (infer_model_restore(c->engine->model, NULL) != INFER_OK)
            atomic_fetch_add(c->n_wrong, 1);
        usleep(2000);
    }
    return NULL;
}

static void run_threads(int worker)
{
    struct engine e;
    struct engine_answer expected[N_PROMPTS];
    pthread_t threads[N_THREADS + 2];
    struct client clients[N_THREADS + 2];
    _Atomic int n_wrong = 0, n_left = N_THREADS;
    expect(expected);
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 2, .worker_thread = worker});
    for (int i = 0; i < N_THREADS + 2; i++) {
        clients[i] = (struct client){&e, expected, i, &n_wrong, &n_left};
        assert_int_equal(pthread_create(&threads[i], NULL, i < N_THREADS ? run_client : come_and_go,
                                        &clients[i]),
                         0);
    }
    for (int i = 0; i < N_THREADS + 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(n_wrong, 0);
    engine_close(&e);
    forget(expected);
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
        cmocka_unit_test(test_goes_on),         cmocka_unit_test(test_what_stays),
        cmocka_unit_test(test_vocabulary_only), cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_host_clock),      cmocka_unit_test(test_nobody_spins),
        cmocka_unit_test(test_destroy_evicted), cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_evicted_draft),   cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("life", tests, NULL, NULL);
}
