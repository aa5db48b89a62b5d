/* What steps ask of the allocator, and what requests cost that only wait. */
#include "support/engine.h"
#include "support/test_alloc.h"

#define STORIES    "llm/stories260K/stories260K.f32.gguf"
#define N_RUNNING  32
#define N_PROMPT   40
#define N_VOCAB    512
#define MAX_TOKENS 200
#define N_FORKS    5

struct steps {
    struct test_alloc alloc; /* of everything */
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session;
    infer_request *requests[N_RUNNING];
};

static void steps_open(struct steps *e, uint64_t n_blocks, infer_session_options s)
{
    memset(e, 0, sizeof *e);
    test_alloc_init(&e->alloc);
    infer_allocator a = {sizeof a, e->alloc.alloc.alloc, e->alloc.alloc.free, &e->alloc};
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1, .allocator = &a};
    infer_model_options m = {.struct_size = sizeof m, .allocator = &a};
    infer_kv_cache_options k = {.struct_size = sizeof k};
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_device_create(&e->device, 0, &d));
    m.device = e->device;
    assert_ok(infer_model_load(&e->model, test_data(STORIES), &m));
    assert_ok(infer_kv_cache_create(&e->cache, e->model, &k));
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    infer_kv_cache_destroy(&e->cache);
    k.budget_bytes = n_blocks * kv.block_bytes;
    assert_ok(infer_kv_cache_create(&e->cache, e->model, &k));
    s.struct_size = sizeof s;
    s.kv_cache = e->cache;
    assert_ok(infer_session_create(&e->session, e->model, &s));
}

static void steps_close(struct steps *e)
{
    for (int i = 0; i < N_RUNNING; i++)
        infer_request_destroy(&e->requests[i]);
    infer_session_destroy(&e->session);
    infer_kv_cache_destroy(&e->cache);
    infer_model_destroy(&e->model);
    infer_device_destroy(&e->device);
    assert_int_equal(e->alloc.live_blocks, 0);
}

/* -------------------------------------------------------------------- memory */

/* Requests of every kind that a step knows: greedy and drawn, with penalties, log-probabilities
 * and drafts, some that begin alike, some of tenants, some that end in the middle; the last ones
 * are forks. */
static void submit_all(struct steps *e)
{
    static const char *const tenants[] = {NULL, "a", "b", "c"};
    static const char *const stop[] = {"a text that nobody writes"};
    for (int i = 0; i < N_RUNNING; i++) {
        if (i >= N_RUNNING - N_FORKS) {
            assert_ok(infer_request_fork(&e->requests[i], e->requests[i % N_FORKS], NULL));
            continue;
        }
        infer_token prompt[N_PROMPT];
        infer_sampling sampling = {.struct_size = sizeof sampling, .seed = 1 + (uint64_t)i};
        sampling.temperature = i % 2 ? 0.9f : 0;
        sampling.top_k = i % 3 ? 0 : 20;
        sampling.repetition_penalty = i % 4 ? 0 : 1.1f;
        for (int k = 0; k < N_PROMPT; k++)
            prompt[k] = 3 + (k < 20 ? k * 7 : i * 13 + k * 5) % (N_VOCAB - 3);
        infer_request_options o = {.struct_size = sizeof o,
                                   .tokens = prompt,
                                   .n_tokens = N_PROMPT,
                                   .sampling = &sampling,
                                   .stop = stop,
                                   .n_stop = i % 5 == 0,
                                   .max_tokens = i % 8 == 7 ? MAX_TOKENS / 3 : MAX_TOKENS,
                                   .ignore_eos = 1,
                                   .logprobs = i % 3 == 1,
                                   .n_top_logprobs = i % 6 == 1 ? 4 : 0,
                                   .tenant = tenants[i % 4],
                                   .priority = i % 3,
                                   .speculation = i % 4 == 2 ? INFER_SPECULATION_NGRAM
                                                             : INFER_SPECULATION_OFF};
        assert_ok(infer_session_submit(&e->requests[i], e->session, &o));
    }
}

/* No step calls the allocator, from the first chunk of a prompt to the last token. */
static void run_without_memory(uint64_t n_blocks, int n_least_preempted)
{
    static struct steps e;
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_status st;
    steps_open(&e, n_blocks, (infer_session_options){.max_requests = N_RUNNING, .step_tokens = 64});
    submit_all(&e);
    size_t before = e.alloc.n_calls;
    do {
        st = infer_session_step(e.session);
        assert_true(st >= 0);
        if (e.alloc.n_calls != before) {
            infer_session_get_stats(e.session, &stats);
            fail_msg("step %d asked the allocator %d times", (int)stats.n_steps,
                     (int)(e.alloc.n_calls - before));
        }
    } while (st == INFER_OK);
    infer_session_get_stats(e.session, &stats);
    assert_int_equal(stats.n_finished, N_RUNNING);
    assert_true(stats.n_preempted >= (uint64_t)n_least_preempted);
    print_message("%d steps, %d tokens, %d preemptions, %d of %d drafts accepted\n",
                  (int)stats.n_steps, (int)stats.n_generated_tokens, (int)stats.n_preempted,
                  (int)stats.n_accepted_tokens, (int)stats.n_drafted_tokens);
    steps_close(&e);
}

static void test_no_allocation(void **state)
{
    (void)state;
    run_without_memory(N_RUNNING * 16, 0);
}

static void test_no_allocation_preempted(void **state)
{
    (void)state;
    run_without_memory(80, 10);
}

/* An answer that is longer than the room made for it, or holds more text, gets more. */
static void test_long_answer(void **state)
{
    (void)state;
    static struct steps e;
    infer_event event = {.struct_size = sizeof event};
    infer_token prompt[] = {1, 403, 407};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompt,
                               .n_tokens = 3,
                               .sampling = &greedy,
                               .ignore_eos = 1,
                               .n_top_logprobs = 2};
    int n = 0;
    steps_open(&e, 64, (infer_session_options){0});
    assert_ok(infer_session_submit(&e.requests[0], e.session, &o));
    size_t before = e.alloc.n_calls;
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    assert_true(e.alloc.n_calls > before);
    assert_true(e.alloc.n_calls < before + 16);
    while (infer_request_next(e.requests[0], &event) == INFER_OK &&
           event.type == INFER_EVENT_TOKEN) {
        assert_int_equal(event.n_top, 2);
        assert_int_equal(event.top[0].token, event.token);
        n++;
    }
    assert_int_equal(event.finish, INFER_FINISH_CONTEXT);
    assert_int_equal(n, 512 - 3);
    steps_close(&e);
}

/* ---------------------------------------------------------------------- time */

#define N_WAITING 8000

/* Nanoseconds of the fastest of some steps in which one request says a token and n wait. */
static uint64_t fastest_step(int32_t n)
{
    static struct steps e;
    static infer_request *waiting[N_WAITING];
    infer_token prompt[] = {1, 403, 407, 261};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompt,
                               .n_tokens = 4,
                               .sampling = &greedy,
                               .max_tokens = 100,
                               .ignore_eos = 1};
    infer_session_stats a = {.struct_size = sizeof a}, b = a;
    uint64_t best = UINT64_MAX;
    steps_open(&e, 64, (infer_session_options){.max_requests = 1, .max_queue = N_WAITING});
    assert_ok(infer_session_submit(&e.requests[0], e.session, &o));
    assert_ok(infer_session_step(e.session));
    o.max_tokens = 1;
    for (int32_t i = 0; i < n; i++)
        assert_ok(infer_session_submit(&waiting[i], e.session, &o));
    for (int i = 0; i < 60; i++) {
        infer_session_get_stats(e.session, &a);
        assert_ok(infer_session_step(e.session));
        infer_session_get_stats(e.session, &b);
        assert_int_equal(b.n_waiting, n);
        uint64_t ns = b.step_ns - a.step_ns - (b.compute_ns - a.compute_ns);
        best = ns < best ? ns : best;
    }
    for (int32_t i = 0; i < n; i++)
        infer_request_destroy(&waiting[i]);
    steps_close(&e);
    return best;
}

/* The promise is a microsecond for each; a step that looked at them all would take some. The
 * fastest of many is hardly disturbed by what else the machine does. */
static void test_idle_requests(void **state)
{
    (void)state;
    uint64_t few = fastest_step(8), many = fastest_step(N_WAITING);
    print_message("beside the model: %d ns with 8 waiting, %d ns with %d\n", (int)few, (int)many,
                  N_WAITING);
    assert_true(many < few + 1000 * (uint64_t)N_WAITING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_no_allocation_preempted),
        cmocka_unit_test(test_long_answer),
        cmocka_unit_test(test_idle_requests),
    };
    return cmocka_run_group_tests_name("steps", tests, NULL, NULL);
}
