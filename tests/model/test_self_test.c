/* The self-test: passes with models of every kind, fails where something is planted that depends
 * on the way, keeps its budget and its time, can be cancelled, leaves nothing behind. */
#include "arch_fixture.h"
#include "support/engine.h"
#include "support/test_alloc.h"

#include "device/device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define N_CHECKS 9

static const struct model_case {
    const char *name, *path;
    int recurrent;
} models[] = {
    {"stories260K", "llm/stories260K/stories260K.f32.gguf", 0},
    {"mistral-window", NULL, 0},
    {"gemma4-e2b", NULL, 0},
    {"gpt-oss", NULL, 0},
    {"llama4-chunks", NULL, 0},
    {"deepseek-v2", NULL, 0},
    {"mamba2", NULL, 1},
    {"granite-hybrid", NULL, 1},
    {"qwen3next", NULL, 1},
};

static void load(infer_device **device, infer_model **model, const char *path, int32_t n_threads)
{
    infer_device_options d = {.struct_size = sizeof d, .n_threads = n_threads};
    infer_model_options m = {.struct_size = sizeof m};
    assert_ok(infer_device_create(device, 0, &d));
    m.device = *device;
    assert_ok(infer_model_load(model, path, &m));
}

static void unload(infer_device **device, infer_model **model)
{
    infer_model_destroy(model);
    infer_device_destroy(device);
}

/* ------------------------------------------------------------------- it passes */

static void check_model(const struct model_case *m)
{
    infer_device *device = NULL;
    infer_model *model = NULL;
    infer_self_test_report r = {.struct_size = sizeof r};
    infer_self_test_options o = {.struct_size = sizeof o, .n_prompt_tokens = 60, .n_tokens = 12};
    infer_model_info info = {.struct_size = sizeof info};
    char path[256];
    arch_model_path(m->name, m->path, path, sizeof path);
    load(&device, &model, path, 2);
    assert_ok(infer_model_get_info(model, &info));
    if (info.n_context < 80) /* short ones are tested with what they have */
        o.n_prompt_tokens = o.n_tokens = 0;
    assert_ok(infer_model_self_test(&r, model, &o));
    assert_int_equal(r.n_failed, 0);
    assert_int_equal(r.first_failed, -1);
    assert_int_equal(r.n_checks, N_CHECKS);
    for (int i = 0; i < N_CHECKS; i++) {
        const infer_check_result *c = &r.checks[i];
        int skipped = m->recurrent && i == INFER_CHECK_SPECULATION;
        if (c->state != (skipped ? INFER_CHECK_SKIPPED : INFER_CHECK_PASSED))
            fail_msg("%s: %s has state %d: %s", m->name, c->name, c->state, c->reason);
        assert_int_equal(*c->reason != 0, skipped);
        assert_true(skipped || c->n_compared >= r.n_tokens);
    }
    assert_int_equal(r.batch, 64);
    print_message("%s: %d + %d tokens, batch %d, %.1f MiB\n", m->name, r.n_prompt_tokens,
                  r.n_tokens, r.batch, (double)r.peak_bytes / 1048576);
    unload(&device, &model);
    arch_model_remove(m->path, path);
}

static void test_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check_model(&models[i]);
}

/* -------------------------------------------------------------------- it fails */

/* The product of the planted kernel is the real one's, but for one column where it goes wrong. */
static struct {
    kern_gemm_fn *real;
    int32_t rows;      /* wrong in calls of more rows than these; 0: never */
    int other_threads; /* wrong on threads but the one that plants */
    int always;
    float error;
    pthread_t self;
    const char *stage; /* wrong in this check; NULL: none */
    int in_stage, in_threads;
    _Atomic int32_t came; /* a thread but the one that plants */
} planted;

/* A caller does the parts of workers that do not come in time: here it gives them a moment. */
static void wait_for_others(void)
{
    for (int i = 0; i < 1000 && !atomic_load(&planted.came); i++)
        usleep(100);
}

static void planted_gemm(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)
{
    planted.real(args, n_begin, n_end);
    int wrong = planted.always || planted.in_stage;
    wrong |= planted.rows && args->m > planted.rows;
    if (planted.other_threads && !pthread_equal(pthread_self(), planted.self)) {
        atomic_store(&planted.came, 1);
        wrong = 1;
    } else if (planted.other_threads && planted.in_threads) {
        wait_for_others();
    }
    for (int32_t i = 0; i < args->m && wrong; i++)
        args->y[(size_t)i * args->y_stride + (size_t)n_begin] += planted.error;
}

static int32_t watch_stage(double fraction, const char *stage, void *user_data)
{
    (void)user_data;
    assert_true(fraction >= 0 && fraction < 1);
    planted.in_stage = planted.stage && strcmp(stage, planted.stage) == 0;
    planted.in_threads = strcmp(stage, "threads") == 0;
    return 0;
}

/* What the self-test of the tiny model says with the fault. */
static infer_status run_planted(infer_self_test_report *r, int32_t max_batch)
{
    infer_device *device = NULL;
    infer_model *model = NULL;
    infer_self_test_options o = {.struct_size = sizeof o, .progress = watch_stage};
    o.max_batch = max_batch;
    load(&device, &model, test_source(TINY_MODEL), 1);
    kern_gemm_fn **slot = &((struct infer_device *)device)->kernels.gemm.run[INFER_DTYPE_Q8_0];
    planted.real = *slot;
    planted.self = pthread_self();
    planted.in_stage = 0;
    *slot = planted_gemm;
    *r = (infer_self_test_report){.struct_size = sizeof *r};
    infer_status st = infer_model_self_test(r, model, &o);
    unload(&device, &model);
    return st;
}

static void assert_failed(const infer_self_test_report *r, infer_check check, const char *name)
{
    char begin[64];
    snprintf(begin, sizeof begin, "self-test \"%s\": ", name);
    assert_int_equal(r->first_failed, check);
    assert_int_equal(r->checks[check].state, INFER_CHECK_FAILED);
    assert_string_equal(r->checks[check].name, name);
    if (strncmp(infer_last_error(), begin, strlen(begin)) != 0)
        fail_msg("unexpected: %s", infer_last_error());
}

/* Every check compares: a fault that is there only while it runs is its own. */
static void test_every_check_can_fail(void **state)
{
    (void)state;
    static const char *const names[N_CHECKS] = {"finite",     "repeat",      "chunks",
                                                "threads",    "prefix",      "fork",
                                                "preemption", "speculation", "batch"};
    infer_self_test_report r;
    for (int i = INFER_CHECK_REPEAT; i < N_CHECKS; i++) {
        memset(&planted, 0, sizeof planted);
        planted.stage = names[i];
        planted.error = 0.01f;
        assert_int_equal(run_planted(&r, 8), INFER_ERR_INTERNAL);
        assert_failed(&r, i, names[i]);
        assert_int_equal(r.n_failed, 1);
        assert_int_equal(r.n_passed, N_CHECKS - 1);
        assert_true(strstr(infer_last_error(), "where the request is alone") != NULL);
    }
    print_message("the last one says: %s\n", infer_last_error());
}

static void test_batch_dependence(void **state)
{
    (void)state;
    infer_self_test_report r;
    memset(&planted, 0, sizeof planted);
    planted.rows = 100; /* more than the prompt has */
    planted.error = 1e-3f;
    assert_int_equal(run_planted(&r, 64), INFER_ERR_INTERNAL);
    assert_failed(&r, INFER_CHECK_BATCH, "batch");
    assert_int_equal(r.n_failed, 1);
}

static void test_thread_dependence(void **state)
{
    (void)state;
    infer_self_test_report r;
    memset(&planted, 0, sizeof planted);
    planted.other_threads = 1;
    planted.error = 1e-3f;
    assert_int_equal(run_planted(&r, 8), INFER_ERR_INTERNAL);
    assert_failed(&r, INFER_CHECK_THREADS, "threads");
    assert_int_equal(r.n_failed, 1);
}

static void test_not_finite(void **state)
{
    (void)state;
    infer_self_test_report r;
    memset(&planted, 0, sizeof planted);
    planted.always = 1;
    planted.error = 1e38f * 10;
    assert_int_equal(run_planted(&r, 8), INFER_ERR_INVALID);
    assert_int_equal(r.first_failed, INFER_CHECK_FINITE);
    assert_int_equal(r.n_failed, 1);
    assert_int_equal(r.n_skipped, N_CHECKS - 1);
    assert_true(*r.checks[INFER_CHECK_BATCH].reason);
    print_message("%s\n", infer_last_error());
}

/* ------------------------------------------------------------- budgets and limits */

struct counted {
    struct test_alloc alloc;
    infer_device *device;
    infer_model *model;
};

static void open_counted(struct counted *c)
{
    test_alloc_init(&c->alloc);
    infer_allocator a = {sizeof a, c->alloc.alloc.alloc, c->alloc.alloc.free, &c->alloc};
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1, .allocator = &a};
    infer_model_options m = {.struct_size = sizeof m, .allocator = &a};
    c->device = NULL;
    c->model = NULL;
    assert_ok(infer_device_create(&c->device, 0, &d));
    m.device = c->device;
    assert_ok(infer_model_load(&c->model, test_source(TINY_MODEL), &m));
}

static void test_budget(void **state)
{
    (void)state;
    static const uint64_t budgets[] = {20000, 700000, 1500000, 3000000, 6000000, 40000000};
    struct counted c;
    int32_t n_passed = 0, batch = 0;
    open_counted(&c);
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        infer_self_test_report r = {.struct_size = sizeof r};
        infer_self_test_options o = {.struct_size = sizeof o, .budget_bytes = budgets[i]};
        size_t before = c.alloc.live_bytes;
        c.alloc.peak_bytes = before;
        infer_status st = infer_model_self_test(&r, c.model, &o);
        assert_int_equal(st, i ? INFER_OK : INFER_ERR_LIMIT);
        assert_int_equal(c.alloc.live_bytes, before);
        assert_true(c.alloc.peak_bytes - before <= budgets[i]);
        assert_true(r.peak_bytes <= budgets[i]);
        assert_true(r.peak_bytes >= c.alloc.peak_bytes - before);
        assert_true(r.n_passed >= n_passed && r.batch >= batch);
        n_passed = r.n_passed;
        batch = r.batch;
        print_message("%d bytes: %d passed, %d skipped, batch %d, %d bytes at once\n",
                      (int)budgets[i], r.n_passed, r.n_skipped, r.batch, (int)r.peak_bytes);
    }
    assert_int_equal(n_passed, N_CHECKS);
    assert_int_equal(batch, 64);
    unload(&c.device, &c.model);
    assert_int_equal(c.alloc.live_blocks, 0);
}

/* The host's allocator refuses once, at every third place. */
static void test_allocation_failures(void **state)
{
    (void)state;
    struct counted c;
    infer_status st;
    int n_skipped = 0, n = 0;
    open_counted(&c);
    infer_self_test_options o = {
        .struct_size = sizeof o, .n_prompt_tokens = 18, .n_tokens = 2, .max_batch = 4};
    size_t before = c.alloc.live_blocks;
    do {
        infer_self_test_report r = {.struct_size = sizeof r};
        c.alloc.n_calls = 0;
        c.alloc.fail_at = (size_t)(1 + 3 * n++);
        st = infer_model_self_test(&r, c.model, &o);
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        assert_int_equal(r.n_failed, 0);
        assert_int_equal(c.alloc.live_blocks, before);
        n_skipped += r.n_skipped;
    } while (c.alloc.n_calls >= c.alloc.fail_at);
    assert_int_equal(st, INFER_OK);
    print_message("%d runs, %d checks skipped\n", n, n_skipped);
    assert_true(n > 50 && n_skipped > 20);
    c.alloc.fail_at = 0;
    unload(&c.device, &c.model);
    assert_int_equal(c.alloc.live_blocks, 0);
}

static int32_t cancel_at(double fraction, const char *stage, void *user_data)
{
    (void)fraction;
    return strcmp(stage, user_data) == 0;
}

static void test_time_cancel_evict(void **state)
{
    (void)state;
    infer_device *device = NULL;
    infer_model *model = NULL;
    char stage[] = "preemption";
    load(&device, &model, test_source(TINY_MODEL), 1);
    infer_self_test_report r = {.struct_size = sizeof r};
    infer_self_test_options o = {.struct_size = sizeof o, .time_limit_ns = 1};
    assert_ok(infer_model_self_test(&r, model, &o));
    assert_int_equal(r.n_skipped, N_CHECKS);
    assert_string_equal(r.checks[INFER_CHECK_FINITE].reason, "the time limit has passed");

    o.time_limit_ns = 0;
    o.progress = cancel_at;
    o.progress_user_data = stage;
    assert_int_equal(infer_model_self_test(&r, model, &o), INFER_ERR_CANCELLED);
    assert_int_equal(r.n_passed, INFER_CHECK_PREEMPTION);
    assert_int_equal(r.n_failed, 0);
    assert_string_equal(r.checks[INFER_CHECK_BATCH].reason, "not begun");

    o = (infer_self_test_options){.struct_size = sizeof o, .max_batch = 4};
    assert_ok(infer_model_evict(model));
    assert_int_equal(infer_model_self_test(&r, model, &o), INFER_ERR_BUSY);
    assert_int_equal(r.n_skipped, N_CHECKS);
    assert_ok(infer_model_restore(model, NULL));
    assert_ok(infer_model_self_test(&r, model, &o));
    assert_int_equal(r.n_passed, N_CHECKS);
    unload(&device, &model);
}

/* A session of the host's goes on as if nothing had been. */
static void test_host_untouched(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer alone, answer;
    infer_self_test_report r = {.struct_size = sizeof r};
    infer_kv_cache_stats before = {.struct_size = sizeof before}, after = before;
    infer_request_options o = {.struct_size = sizeof o,
                               .prompt = "What is the capital of Italy?",
                               .max_tokens = 20,
                               .ignore_eos = 1};
    infer_request *request = NULL;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 2});
    assert_ok(infer_session_submit(&request, e.session, &o));
    engine_collect(request, &alone);
    request = NULL;
    assert_ok(infer_session_submit(&request, e.session, &o));
    for (int i = 0; i < 5; i++)
        assert_ok(infer_session_step(e.session));
    assert_ok(infer_kv_cache_get_stats(e.cache, &before));
    assert_ok(infer_model_self_test(&r, e.model, NULL));
    assert_int_equal(r.n_passed, N_CHECKS);
    assert_ok(infer_kv_cache_get_stats(e.cache, &after));
    assert_memory_equal(&before, &after, sizeof before);
    engine_collect(request, &answer);
    assert_int_equal(answer.n, alone.n);
    assert_memory_equal(answer.tokens, alone.tokens, alone.n * sizeof *alone.tokens);
    engine_answer_free(&alone);
    engine_answer_free(&answer);
    engine_close(&e);
}

static void test_refusals(void **state)
{
    (void)state;
    infer_device *device = NULL;
    infer_model *model = NULL;
    infer_self_test_report r = {.struct_size = sizeof r};
    infer_self_test_report odd = {.struct_size = 3};
    load(&device, &model, test_source(TINY_MODEL), 1);
    infer_self_test_options o = {.struct_size = sizeof o, .max_batch = 1};
    assert_int_equal(infer_model_self_test(NULL, model, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_model_self_test(&r, NULL, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_model_self_test(&odd, model, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_model_self_test(&r, model, &o), INFER_ERR_INVALID);
    o = (infer_self_test_options){.struct_size = sizeof o, .n_tokens = -1};
    assert_int_equal(infer_model_self_test(&r, model, &o), INFER_ERR_INVALID);
    o = (infer_self_test_options){.struct_size = sizeof o, .kv_type = 77};
    assert_int_equal(infer_model_self_test(&r, model, &o), INFER_ERR_UNSUPPORTED);
    o = (infer_self_test_options){.struct_size = sizeof o, .n_prompt_tokens = 512};
    assert_int_equal(infer_model_self_test(&r, model, &o), INFER_ERR_LIMIT);
    /* The shortest that makes sense, and one that fills the context; in quantised caches too. */
    for (infer_kv_type type = INFER_KV_F32; type <= INFER_KV_F8; type++) {
        o = (infer_self_test_options){.struct_size = sizeof o, .n_prompt_tokens = 1, .n_tokens = 1};
        o.kv_type = type;
        o.max_batch = 8;
        assert_ok(infer_model_self_test(&r, model, &o));
        assert_int_equal(r.n_failed, 0);
        o.n_prompt_tokens = 40;
        o.n_tokens = 6;
        assert_ok(infer_model_self_test(&r, model, &o));
        assert_int_equal(r.n_passed, N_CHECKS);
    }
    o = (infer_self_test_options){
        .struct_size = sizeof o, .n_prompt_tokens = 495, .n_tokens = 16, .max_batch = 2};
    assert_ok(infer_model_self_test(&r, model, &o));
    assert_int_equal(r.n_failed, 0);
    assert_int_equal(r.n_prompt_tokens, 495);
    unload(&device, &model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_every_check_can_fail),
        cmocka_unit_test(test_batch_dependence),
        cmocka_unit_test(test_thread_dependence),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_time_cancel_evict),
        cmocka_unit_test(test_host_untouched),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("self_test", tests, NULL, NULL);
}
