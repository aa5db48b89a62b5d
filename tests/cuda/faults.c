/* What happens when the card says no: each call of the runtime fails in turn, for want of memory or
 * because the card is lost, while a model is loaded and answers. Emulated only. */
#include "cuda/emulate_runtime.h"
#include "device/device.h"
#include "model/lora_fixture.h"
#include "support/hf_folder.h"

#include <infer/infer.h>
#include <stdatomic.h>

#define FIXTURE "llama"
#define N_NEXT  4 /* steps of one row: walked, captured, replayed */

static _Atomic long live;

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    void *p = NULL;
    (void)user_data;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    atomic_fetch_add(&live, 1);
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    (void)user_data;
    atomic_fetch_sub(&live, 1);
    free(ptr);
}

static const infer_allocator allocator = {
    .struct_size = sizeof allocator, .alloc = counting_alloc, .free = counting_free};

static struct arch_fixture fixture;
static char folder[512];

struct attempt {
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session;
    infer_request *requests[2];
    long calls[5]; /* of the runtime, until device, model, session, first token and all are there */
    char error[512];
};

static infer_status open_all(struct attempt *a)
{
    const infer_device_options device = {
        .struct_size = sizeof device, .allocator = &allocator, .n_threads = 1};
    infer_model_options model = {.struct_size = sizeof model, .allocator = &allocator};
    const infer_kv_cache_options cache = {
        .struct_size = sizeof cache, .budget_bytes = 1 << 20, .type = INFER_KV_F32};
    infer_session_options session = {
        .struct_size = sizeof session, .step_tokens = 32, .max_requests = 2};
    long before = emulated_calls();
    infer_status st = infer_device_create(&a->device, 1, &device);
    a->calls[0] = emulated_calls() - before;
    model.device = a->device;
    if (st == INFER_OK)
        st = infer_model_load(&a->model, folder, &model);
    a->calls[1] = emulated_calls() - before;
    if (st == INFER_OK)
        st = infer_kv_cache_create(&a->cache, a->model, &cache);
    session.kv_cache = a->cache;
    if (st == INFER_OK)
        st = infer_session_create(&a->session, a->model, &session);
    a->calls[2] = emulated_calls() - before;
    return st;
}

static infer_status submit(struct attempt *a, int i)
{
    const infer_sampling greedy = {.struct_size = sizeof greedy};
    const infer_request_options options = {.struct_size = sizeof options,
                                           .tokens = fixture.tokens,
                                           .n_tokens = fixture.n_prompt - (size_t)i,
                                           .sampling = &greedy,
                                           .max_tokens = N_NEXT,
                                           .ignore_eos = 1};
    return infer_session_submit(&a->requests[i], a->session, &options);
}

/* To the end of a request; a failure is told alike by the call, the request and its information. */
static infer_status finish(infer_request *request)
{
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    infer_status st;
    while ((st = infer_request_next(request, &event)) == INFER_OK)
        continue;
    if (st != INFER_DONE) {
        char sentence[512];
        snprintf(sentence, sizeof sentence, "%s", infer_last_error());
        assert_string_not_equal(sentence, "");
        assert_string_equal(sentence, infer_request_error(request));
        assert_ok(infer_request_get_info(request, &info));
        assert_int_equal(info.status, st);
        assert_int_equal(info.finish, INFER_FINISH_ERROR);
    }
    return st == INFER_DONE ? INFER_OK : st;
}

/* Opens all, answers two requests side by side, closes all. `fail_at` of the calls fails. */
static infer_status attempt(struct attempt *a, long fail_at, cudaError_t error)
{
    infer_event event = {.struct_size = sizeof event};
    const long before = emulated_calls();
    infer_status st, other = INFER_OK;
    memset(a, 0, sizeof *a);
    emulated_fail_after(fail_at, error);
    st = open_all(a);
    for (int i = 0; i < 2 && st == INFER_OK; i++)
        st = submit(a, i);
    if (st == INFER_OK)
        st = infer_request_next(a->requests[0], &event);
    a->calls[3] = emulated_calls() - before;
    if (a->requests[0] && a->requests[1]) {
        const infer_status first = finish(a->requests[0]);
        other = finish(a->requests[1]);
        st = st == INFER_OK ? first : st;
        if (error == cudaErrorLaunchFailure && st != INFER_OK)
            assert_int_equal(other, INFER_ERR_DEVICE);
    }
    a->calls[4] = emulated_calls() - before;
    if (st == INFER_OK)
        st = other;
    snprintf(a->error, sizeof a->error, "%s", st == INFER_OK ? "" : infer_last_error());
    for (int i = 0; i < 2; i++)
        infer_request_destroy(&a->requests[i]);
    infer_session_destroy(&a->session);
    infer_kv_cache_destroy(&a->cache);
    infer_model_destroy(&a->model);
    infer_device_destroy(&a->device);
    emulated_fail_after(0, cudaSuccess);
    if (live != 0 || emulated_memory_used() != 0 || emulated_contexts() != 0)
        fail_msg("call %ld: %ld blocks, %zu bytes and %d contexts of the card are left behind",
                 fail_at, live, emulated_memory_used(), emulated_contexts());
    return st;
}

/* Every call but in the midst of the weights, which are copied alike, and of the steps. */
static long next_of(const struct attempt *all, long n)
{
    if (n >= all->calls[2])
        return n + 29;
    return n < 16 || n >= all->calls[1] - 8 ? n + 1 : n + 5;
}

static void every_call_may_want_memory(void **state)
{
    (void)state;
    struct attempt all, a;
    int refused = 0, went_on = 0;
    assert_ok(attempt(&all, 0, cudaSuccess));
    for (long n = 1; n <= all.calls[4]; n = next_of(&all, n)) {
        const infer_status st = attempt(&a, n, cudaErrorMemoryAllocation);
        if (st == INFER_OK) {
            went_on++; /* what is only faster is done without */
            continue;
        }
        if (st != INFER_ERR_NO_MEMORY && st != INFER_ERR_LIMIT)
            fail_msg("call %ld of %ld gave %d: %s", n, all.calls[4], st, a.error);
        assert_string_not_equal(a.error, "");
        refused++;
    }
    print_message("  %ld calls: %d times refused, %d times done otherwise\n", all.calls[4], refused,
                  went_on);
    assert_true(refused > went_on);
    assert_ok(attempt(&a, 0, cudaSuccess));
}

static void a_lost_card_ends_what_runs_and_a_new_one_works(void **state)
{
    (void)state;
    struct attempt all, a;
    int lost = 0;
    assert_ok(attempt(&all, 0, cudaSuccess));
    for (long n = 1; n <= all.calls[4]; n = n < all.calls[2] ? n + 9 : n + 47) {
        const infer_status st = attempt(&a, n, cudaErrorLaunchFailure);
        if (st != INFER_ERR_DEVICE)
            fail_msg("call %ld of %ld gave %d: %s", n, all.calls[4], st, a.error);
        assert_non_null(strstr(a.error, "GPU"));
        lost++;
    }
    print_message("  lost at %d of %ld calls\n", lost, all.calls[4]);
    assert_ok(attempt(&a, 0, cudaSuccess));
}

/* Too little for the weights, for the KV cache, for a session's steps. */
static void a_small_card_is_told_by_name(void **state)
{
    (void)state;
    struct attempt a;
    for (size_t bytes = 1 << 10; bytes <= (size_t)64 << 20; bytes *= 2) {
        emulated_set_memory(bytes);
        const infer_status st = attempt(&a, 0, cudaSuccess);
        if (st != INFER_OK && st != INFER_ERR_NO_MEMORY && st != INFER_ERR_LIMIT)
            fail_msg("%zu bytes gave %d: %s", bytes, st, a.error);
        if (st != INFER_OK)
            assert_non_null(strstr(a.error, "bytes"));
    }
    emulated_set_memory((size_t)4 << 30);
    assert_ok(attempt(&a, 0, cudaSuccess));
}

/* ---------------------------------------------------------------- adapters */

static infer_status with_adapter(struct attempt *a, const char *path, long fail_at,
                                 cudaError_t error)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    const infer_adapter_options options = {.struct_size = sizeof options, .allocator = &allocator};
    infer_adapter *adapter = NULL;
    infer_request *request = NULL;
    emulated_fail_after(fail_at, error);
    infer_status st = infer_adapter_load(&adapter, a->model, path, &options);
    const infer_request_options asked = {.struct_size = sizeof asked,
                                         .tokens = fixture.tokens,
                                         .n_tokens = 1,
                                         .sampling = &greedy,
                                         .max_tokens = 1,
                                         .ignore_eos = 1,
                                         .adapter = adapter};
    if (st == INFER_OK)
        st = infer_session_submit(&request, a->session, &asked);
    if (st == INFER_OK)
        st = finish(request);
    snprintf(a->error, sizeof a->error, "%s", st == INFER_OK ? "" : infer_last_error());
    infer_request_destroy(&request);
    infer_adapter_destroy(&adapter);
    emulated_fail_after(0, cudaSuccess);
    return st;
}

/* A session stays what it was, whichever call of loading, submitting and stepping fails. */
static void an_adapter_may_want_memory(void **state)
{
    static const char *const modules[] = {"q_proj", "up_proj", "lm_head", NULL};
    const struct lora_spec spec = {.modules = modules, .seed = 1};
    struct hf_folder files;
    struct attempt a = {0};
    int refused = 0;
    (void)state;
    hf_folder_make(&files);
    lora_write_peft(&spec, &fixture, files.path);
    assert_ok(open_all(&a));
    const long blocks = live;
    const size_t bytes = emulated_memory_used();
    const long before = emulated_calls();
    infer_session_options again = {.struct_size = sizeof again, .step_tokens = 32};
    assert_ok(with_adapter(&a, files.path, 0, cudaSuccess));
    const long all = emulated_calls() - before;
    for (long n = 1; n <= all; n = n < 24 ? n + 1 : n + 17) {
        infer_session_destroy(&a.session); /* room for adapters is made anew */
        again.kv_cache = a.cache;
        assert_ok(infer_session_create(&a.session, a.model, &again));
        const infer_status st = with_adapter(&a, files.path, n, cudaErrorMemoryAllocation);
        if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
            fail_msg("call %ld of %ld gave %d: %s", n, all, st, a.error);
        refused += st != INFER_OK;
    }
    assert_ok(with_adapter(&a, files.path, 0, cudaSuccess));
    print_message("  %ld calls: %d times refused\n", all, refused);
    assert_true(refused > 10);
    infer_session_destroy(&a.session);
    again.max_requests = 2;
    assert_ok(infer_session_create(&a.session, a.model, &again));
    if (live != blocks || emulated_memory_used() != bytes)
        fail_msg("%ld blocks and %zu bytes of the card, at first %ld and %zu", live,
                 emulated_memory_used(), blocks, bytes);
    infer_session_destroy(&a.session);
    infer_kv_cache_destroy(&a.cache);
    infer_model_destroy(&a.model);
    infer_device_destroy(&a.device);
    hf_folder_remove(&files);
}

/* There and back through pinned pieces, more than they hold. */
static infer_status move_lists(struct device_buffer *b, uint8_t *bytes)
{
    struct device_range ranges[3];
    struct device_fetch f[2];
    for (int i = 0; i < 3; i++) {
        const size_t n = (size_t)5 << 20;
        ranges[i] = (struct device_range){(size_t)i * n, bytes + (size_t)i * n, n};
    }
    infer_status st = device_buffer_put(b, ranges, 3), ended[2];
    if (st != INFER_OK)
        return st;
    for (int i = 0; i < 2; i++) {
        infer_status begun = device_fetch_begin(&f[i], b, ranges + i, 2);
        infer_status ordered = device_fetch_order(&f[i]);
        st = st != INFER_OK ? st : begun != INFER_OK ? begun : ordered;
    }
    for (int i = 0; i < 2; i++)
        ended[i] = device_fetch_end(&f[i]);
    return st != INFER_OK ? st : ended[0] != INFER_OK ? ended[0] : ended[1];
}

/* Whatever call fails, an error is told, or none was lost by it; pieces come back: it works again.
 */
static void moves_may_fail_at_every_call(void **state)
{
    (void)state;
    const size_t n = (size_t)15 << 20;
    uint8_t *bytes = malloc(n);
    long n_calls = 0;
    for (long fail_at = 0; fail_at <= n_calls; fail_at++) {
        struct infer_device *device = NULL;
        struct device_buffer buffer;
        for (size_t i = 0; i < n; i += 4096)
            bytes[i] = (uint8_t)(i >> 12);
        assert_ok(device_create(&device, &(struct device_config){.index = 1}));
        assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, n, &buffer));
        const long before = emulated_calls();
        emulated_fail_after(fail_at, cudaErrorMemoryAllocation);
        infer_status st = move_lists(&buffer, bytes);
        emulated_fail_after(0, cudaSuccess);
        if (!fail_at) {
            assert_ok(st);
            n_calls = emulated_calls() - before;
        }
        for (size_t i = 0; i < n; i += 4096)
            bytes[i] = (uint8_t)(i >> 12);
        assert_ok(move_lists(&buffer, bytes));
        for (size_t i = 0; i < n; i += 4096)
            assert_int_equal(bytes[i], (uint8_t)(i >> 12));
        device_buffer_free(&buffer);
        device_release(&device);
    }
    assert_true(n_calls > 30);
    free(bytes);
}

static int make_model(void **state)
{
    (void)state;
    arch_fixture_make(&fixture, FIXTURE, folder, sizeof folder);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    arch_fixture_remove(&fixture, folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_may_want_memory),
        cmocka_unit_test(a_lost_card_ends_what_runs_and_a_new_one_works),
        cmocka_unit_test(a_small_card_is_told_by_name),
        cmocka_unit_test(an_adapter_may_want_memory),
        cmocka_unit_test(moves_may_fail_at_every_call),
    };
    return cmocka_run_group_tests_name("faults of a GPU", tests, make_model, remove_model);
}
