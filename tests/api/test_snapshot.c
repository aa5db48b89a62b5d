/* Snapshots as an application uses them: refusals, stop strings across the cut, other processes,
 * full disks, kills while saving, threads. That what is restored is the same to the last bit is
 * tests/model/test_snapshot.c's. */
#include "support/engine.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_PROMPT 50
#define N_ANSWER 40

static char folder[256], file[300], part[310];
static infer_token prompt[N_PROMPT];

static int make_folder(void **state)
{
    (void)state;
    uint64_t seed = 5;
    snprintf(folder, sizeof folder, "%s/infer-snap-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/saved", folder);
    snprintf(part, sizeof part, "%s.part", file);
    for (size_t i = 0; i < N_PROMPT; i++)
        prompt[i] = (infer_token)(300 + test_rand(&seed) % 500);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(file);
    unlink(part);
    return rmdir(folder);
}

static void assert_says(const char *text)
{
    if (!strstr(infer_last_error(), text))
        fail_msg("\"%s\" does not say \"%s\"", infer_last_error(), text);
}

static void open_tiny(struct engine *e)
{
    engine_open(e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
}

static infer_request *submit(struct engine *e, const char *stop)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = 4};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompt,
                               .n_tokens = N_PROMPT,
                               .sampling = &sampling,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1,
                               .stop = &stop,
                               .n_stop = stop != NULL};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, &o));
    return request;
}

static infer_request *after(struct engine *e, const char *stop, int steps)
{
    infer_request *request = submit(e, stop);
    for (int i = 0; i < steps; i++)
        infer_session_step(e->session);
    return request;
}

static char *save(infer_request *request, size_t *size)
{
    *size = 0;
    assert_ok(infer_request_save_memory(request, NULL, size));
    char *bytes = malloc(*size);
    assert_ok(infer_request_save_memory(request, bytes, size));
    return bytes;
}

static infer_status restore(struct engine *e, const void *bytes, size_t size)
{
    infer_request *request = NULL;
    infer_status st = infer_session_restore_memory(&request, e->session, bytes, size, NULL);
    assert_int_equal(request != NULL, st == INFER_OK);
    infer_request_destroy(&request);
    return st;
}

static void expect_unused(struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    assert_ok(infer_session_get_stats(e->session, &stats));
    assert_int_equal(kv.n_blocks_used, 0);
    assert_int_equal(stats.n_waiting + stats.n_running, 0);
}

/* Every cut and every flipped byte is noticed before anything is made of it. */
static void test_damage(void **state)
{
    (void)state;
    struct engine e;
    size_t size;
    open_tiny(&e);
    infer_request *request = after(&e, NULL, 6);
    char *bytes = save(request, &size);
    infer_request_destroy(&request);
    for (size_t n = 0; n < size; n += n < 2000 ? 1 : 997) {
        infer_status st = restore(&e, bytes, n);
        if (st != INFER_ERR_FORMAT)
            fail_msg("cut to %zu of %zu bytes: %d", n, size, (int)st);
    }
    for (size_t i = 0; i < size; i += i < 2000 ? 1 : 499) {
        bytes[i] ^= 0x10;
        infer_status st = restore(&e, bytes, size);
        bytes[i] ^= 0x10;
        if (st != INFER_ERR_FORMAT && !(i >= 8 && i < 12 && st == INFER_ERR_UNSUPPORTED))
            fail_msg("byte %zu of %zu changed: %d", i, size, (int)st);
    }
    bytes[8] = 3;
    assert_int_equal(restore(&e, bytes, size), INFER_ERR_UNSUPPORTED);
    assert_says("format version 3");
    bytes[8] = 2;
    assert_ok(restore(&e, bytes, size));
    assert_int_equal(restore(&e, "GGUF is something else altogether", 33), INFER_ERR_FORMAT);
    assert_says("no snapshot");
    expect_unused(&e);
    engine_close(&e);
    free(bytes);
}

static void test_foreign(void **state)
{
    (void)state;
    struct engine e, other;
    size_t size, n;
    open_tiny(&e);
    infer_request *request = after(&e, NULL, 6);
    assert_ok(infer_request_save(request, file));
    char *bytes = save(request, &size);
    struct engine_setup setup = {.n_threads = 1, .kv_type = INFER_KV_BF16};
    engine_open(&other, test_source(TINY_MODEL), &setup);
    assert_int_equal(restore(&other, bytes, size), INFER_ERR_INVALID);
    assert_says("of type");
    engine_close(&other);
    setup = (struct engine_setup){.n_threads = 1, .block_tokens = 32};
    engine_open(&other, test_source(TINY_MODEL), &setup);
    assert_int_equal(restore(&other, bytes, size), INFER_ERR_INVALID);
    assert_says("blocks of 16 tokens");
    engine_close(&other);
    setup = (struct engine_setup){.n_threads = 1, .n_context = 50};
    engine_open(&other, test_source(TINY_MODEL), &setup);
    assert_int_equal(restore(&other, bytes, size), INFER_ERR_LIMIT);
    expect_unused(&other);
    engine_close(&other);
    if (infer_has("openblas")) {
        setup = (struct engine_setup){.n_threads = 1, .numerics = INFER_NUMERICS_FAST};
        engine_open(&other, test_source(TINY_MODEL), &setup);
        assert_int_equal(restore(&other, bytes, size), INFER_ERR_INVALID);
        assert_says("numerics");
        engine_close(&other);
    }
    assert_int_equal(infer_kv_cache_load_prefix_memory(e.cache, bytes, size, NULL, &n),
                     INFER_ERR_INVALID);
    assert_says("of a request, not of a prefix");
    assert_int_equal(infer_session_restore(&request, e.session, "/no/such/file", NULL),
                     INFER_ERR_NOT_FOUND);
    infer_restore_options o = {.struct_size = sizeof o, .reserved = 1};
    infer_request *none = NULL;
    assert_int_equal(infer_session_restore(&none, e.session, file, &o), INFER_ERR_INVALID);
    assert_int_equal(infer_session_restore(&none, e.session, NULL, &o), INFER_ERR_INVALID);
    assert_int_equal(infer_request_save(request, NULL), INFER_ERR_INVALID);
    n = size - 1;
    assert_int_equal(infer_request_save_memory(request, bytes, &n), INFER_ERR_LIMIT);
    assert_int_equal(n, size);
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    assert_int_equal(infer_request_save(request, file), INFER_ERR_INVALID);
    assert_says("has ended");
    infer_request_destroy(&request);
    engine_close(&e);
    free(bytes);
}

static void test_another_model(void **state)
{
    (void)state;
    struct engine e;
    const char *path = test_data("llm/stories260K/stories260K.f32.gguf");
    engine_open(&e, path, &(struct engine_setup){.n_threads = 1});
    infer_request_options r = {
        .struct_size = sizeof r, .prompt = "Once upon a time there was a", .max_tokens = 9};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e.session, &r));
    for (int i = 0; i < 4; i++)
        infer_session_step(e.session);
    assert_ok(infer_request_save(request, file));
    infer_request_destroy(&request);
    engine_close(&e);
    open_tiny(&e);
    assert_int_equal(infer_session_restore(&request, e.session, file, NULL), INFER_ERR_INVALID);
    assert_says("another model");
    assert_says(file);
    engine_close(&e);
}

/* A stop string that began before the cut ends the answer behind it. */
static void test_stop_across(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer whole, rest;
    open_tiny(&e);
    engine_collect(submit(&e, NULL), &whole);
    size_t length = strlen(whole.text), n_tried = 0;
    for (size_t at = length / 3; at + 6 < length && n_tried < 12; at += 5, n_tried++) {
        char stop[6] = {0}, text[4096] = "";
        struct engine_answer expected;
        memcpy(stop, whole.text + at, 5);
        engine_collect(submit(&e, stop), &expected);
        infer_request *request = submit(&e, stop), *restored = NULL;
        infer_event event = {.struct_size = sizeof event};
        /* Somewhere before the end. */
        for (size_t i = 0; i + 1 < expected.n; i++) {
            assert_ok(infer_request_next(request, &event));
            strncat(text, event.text, event.text_size);
        }
        assert_ok(infer_request_save(request, file));
        infer_request_destroy(&request);
        assert_ok(infer_session_restore(&restored, e.session, file, NULL));
        engine_collect(restored, &rest);
        strcat(text, rest.text);
        assert_string_equal(text, expected.text);
        assert_int_equal(rest.finish, expected.finish);
        engine_answer_free(&rest);
        engine_answer_free(&expected);
    }
    assert_true(n_tried > 3);
    engine_answer_free(&whole);
    expect_unused(&e);
    engine_close(&e);
}

/* Saved by a process that has ended since. */
static void test_other_process(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer whole, rest;
    infer_request *restored = NULL;
    fflush(NULL); /* ThreadSanitizer writes what is buffered even at _exit() */
    pid_t child = fork();
    int status = 1;
    if (child == 0) {
        open_tiny(&e);
        _exit(infer_request_save(after(&e, NULL, 9), file) != INFER_OK);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    open_tiny(&e);
    engine_collect(submit(&e, NULL), &whole);
    infer_kv_cache_clear(e.cache);
    assert_ok(infer_session_restore(&restored, e.session, file, NULL));
    engine_collect(restored, &rest);
    assert_string_equal(rest.text, whole.text); /* nothing was taken before */
    assert_int_equal(rest.n, whole.n);
    assert_memory_equal(rest.tokens, whole.tokens, whole.n * sizeof *whole.tokens);
    engine_answer_free(&whole);
    engine_answer_free(&rest);
    engine_close(&e);
}

/* A process killed while it saves over and over leaves a whole snapshot each time. */
static void test_kill(void **state)
{
    (void)state;
    struct engine e;
    int n_parts = 0;
    open_tiny(&e);
    unlink(file);
    for (int round = 0; round < 12; round++) {
        int ready[2], status;
        char go;
        assert_int_equal(pipe(ready), 0);
        fflush(NULL); /* ThreadSanitizer writes what is buffered even at _exit() */
        pid_t child = fork();
        if (child == 0) {
            infer_request *request = after(&e, NULL, 3 + round);
            infer_status st = infer_request_save(request, file);
            if (write(ready[1], "x", 1) == 1)
                while (st == INFER_OK)
                    st = infer_request_save(request, file);
            _exit(1);
        }
        assert_int_equal(read(ready[0], &go, 1), 1);
        usleep((useconds_t)(200 + 1700 * round));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        close(ready[0]);
        close(ready[1]);
        n_parts += access(part, F_OK) == 0;
        infer_request *restored = NULL;
        assert_ok(infer_session_restore(&restored, e.session, file, NULL));
        infer_request_destroy(&restored);
    }
    print_message("%d of 12 kills left a half-written file behind\n", n_parts);
    infer_request *request = after(&e, NULL, 3);
    assert_ok(infer_request_save(request, file)); /* over what is left of them */
    assert_int_equal(access(part, F_OK), -1);
    infer_request_destroy(&request);
    engine_close(&e);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct engine e;
    size_t size, before;
    open_tiny(&e);
    infer_request *request = after(&e, NULL, 2);
    assert_ok(infer_request_save(request, file));
    char *was = test_read(file, &before);
    for (int i = 0; i < 10; i++)
        infer_session_step(e.session);
    free(save(request, &size));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = size / 2;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    infer_status st = infer_request_save(request, file);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(st, INFER_ERR_IO);
    assert_says(part);
    assert_int_equal(access(part, F_OK), -1);
    char *is = test_read(file, &size);
    assert_int_equal(size, before);
    assert_memory_equal(is, was, size);
    assert_int_equal(infer_request_save(request, "/no/such/folder/file"), INFER_ERR_IO);
    assert_ok(infer_request_save(request, file));
    infer_request_destroy(&request);
    engine_close(&e);
    free(is);
    free(was);
}

/* ----------------------------------------------------------------- prefixes */

static void test_prefix_room(void **state)
{
    (void)state;
    struct engine e, small;
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_token text[400];
    uint64_t seed = 9;
    size_t n = 0, size = 0;
    for (size_t i = 0; i < 400; i++)
        text[i] = (infer_token)(300 + test_rand(&seed) % 500);
    infer_kv_prefix p = {.struct_size = sizeof p, .tokens = text, .n_tokens = 400};
    infer_request_options o = {
        .struct_size = sizeof o, .tokens = text, .n_tokens = 400, .prefill_only = 1};
    infer_request *request = NULL;
    open_tiny(&e);
    assert_int_equal(infer_kv_cache_save_prefix(e.cache, &p, file, &n), INFER_ERR_NOT_FOUND);
    assert_ok(infer_session_submit(&request, e.session, &o));
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    infer_request_destroy(&request);
    assert_ok(infer_kv_cache_save_prefix(e.cache, &p, file, &n));
    assert_int_equal(n, 400);
    assert_ok(infer_kv_cache_save_prefix_memory(e.cache, &p, NULL, &size));
    char *bytes = malloc(size), *same = test_read(file, &n);
    assert_ok(infer_kv_cache_save_prefix_memory(e.cache, &p, bytes, &size));
    assert_int_equal(n, size);
    assert_memory_equal(bytes, same, size);
    assert_int_equal(restore(&e, bytes, size), INFER_ERR_INVALID);
    assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
    /* Twelve blocks for 25. */
    struct engine_setup setup = {.n_threads = 1, .kv_budget_bytes = kv.block_bytes * 12};
    engine_open(&small, test_source(TINY_MODEL), &setup);
    assert_ok(infer_kv_cache_load_prefix_memory(small.cache, bytes, size, NULL, &n));
    assert_true(n >= 6 * 16 && n <= 12 * 16 && n % 16 == 0);
    p.n_tokens = n;
    size_t pinned = 0;
    assert_ok(infer_kv_cache_pin(small.cache, &p, &pinned));
    assert_int_equal(pinned, n);
    expect_unused(&e);
    engine_close(&small);
    setup = (struct engine_setup){.n_threads = 1, .disable_prefix_cache = 1};
    engine_open(&small, test_source(TINY_MODEL), &setup);
    assert_int_equal(infer_kv_cache_load_prefix_memory(small.cache, bytes, size, NULL, NULL),
                     INFER_ERR_INVALID);
    engine_close(&small);
    engine_close(&e);
    free(bytes);
    free(same);
}

/* ------------------------------------------------------------------ threads */

struct saver {
    infer_request *request;
    infer_session *session;
    _Atomic int *n_wrong, *n_saved;
};

static void *save_often(void *arg)
{
    struct saver *s = arg;
    size_t size = (size_t)1 << 24;
    char *bytes = malloc(size);
    for (int i = 0; i < 30; i++) {
        size_t n = size;
        infer_request *restored = NULL;
        infer_status st = infer_request_save_memory(s->request, bytes, &n);
        if (st != INFER_OK) { /* it has ended */
            atomic_fetch_add(s->n_wrong, st != INFER_ERR_INVALID);
            break;
        }
        atomic_fetch_add(s->n_saved, 1);
        st = infer_session_restore_memory(&restored, s->session, bytes, n, NULL);
        atomic_fetch_add(s->n_wrong, st != INFER_OK);
        infer_request_destroy(&restored);
    }
    free(bytes);
    return NULL;
}

/* Four requests, each saved all the time until it ends. */
static void save_four(struct engine *e, const char *expected, _Atomic int *n_wrong,
                      _Atomic int *n_saved)
{
    struct engine_answer answer;
    struct saver savers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        savers[i] = (struct saver){submit(e, NULL), e->session, n_wrong, n_saved};
        assert_int_equal(pthread_create(&threads[i], NULL, save_often, &savers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) {
        engine_collect(savers[i].request, &answer);
        assert_string_equal(answer.text, expected);
        engine_answer_free(&answer);
    }
}

/* A session that steps by itself all the time lets savers in, and nobody changes an answer. On a
 * busy machine the answers may end before anybody comes. */
static void test_threads(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer expected;
    _Atomic int n_wrong = 0, n_saved = 0;
    open_tiny(&e);
    engine_collect(submit(&e, NULL), &expected);
    engine_close(&e);
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .worker_thread = 1});
    for (int round = 0; round < 100 && n_saved < 4; round++)
        save_four(&e, expected.text, &n_wrong, &n_saved);
    print_message("%d snapshots beside a stepping thread\n", (int)n_saved);
    assert_int_equal(n_wrong, 0);
    assert_true(n_saved >= 4);
    engine_answer_free(&expected);
    infer_session_destroy(&e.session);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damage),        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_another_model), cmocka_unit_test(test_stop_across),
        cmocka_unit_test(test_other_process), cmocka_unit_test(test_kill),
        cmocka_unit_test(test_disk_full),     cmocka_unit_test(test_prefix_room),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("snapshot", tests, make_folder, remove_folder);
}
