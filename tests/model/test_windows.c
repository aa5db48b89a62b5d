/* Blocks of windows: how many there are at any time, that those that went from one sequence to
 * another change no token, and that sequences longer than all of them go on. */
#include "arch_fixture.h"
#include "support/engine.h"

static void open_fixture(struct arch_fixture *f, const char *name, char *folder, size_t size)
{
    arch_fixture_open(f, name);
    arch_folder_make(folder, size);
    arch_fixture_write(f, folder, "F32");
}

static void close_fixture(struct arch_fixture *f, const char *folder)
{
    arch_folder_remove(folder);
    arch_fixture_close(f);
}

static uint64_t used_blocks(const struct engine *e)
{
    infer_kv_cache_stats stats = {.struct_size = sizeof stats};
    infer_kv_cache_get_stats(e->cache, &stats);
    return stats.n_blocks_used;
}

static infer_request *submit_windowed(struct engine *e, const struct arch_fixture *f, size_t skip,
                                      int64_t max_tokens)
{
    infer_sampling plain = {.struct_size = sizeof plain};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = f->tokens + skip,
                                     .n_tokens = f->n_tokens - skip,
                                     .sampling = &plain,
                                     .max_tokens = max_tokens,
                                     .ignore_eos = 1,
                                     .logprobs = 1};
    infer_request *request = NULL;
    assert_int_equal(infer_session_submit(&request, e->session, &options), 0);
    return request;
}

/* Blocks in use step by step: kinds of layers with a window of 12 keep what 12 positions lie in,
 * at most two blocks of 16, once the prompt is through; others keep all. */
static void count_blocks(const char *name, uint64_t n_windowed, uint64_t n_full, int no_prefix)
{
    struct arch_fixture f;
    char folder[512];
    struct engine e;
    struct engine_setup setup = {
        .step_tokens = 8, .block_tokens = 16, .disable_prefix_cache = no_prefix};
    infer_event event = {.struct_size = sizeof event};
    uint64_t n = 0;
    open_fixture(&f, name, folder, sizeof folder);
    engine_open(&e, folder, &setup);
    infer_request *request = submit_windowed(&e, &f, 0, 60);
    infer_status more;
    while ((more = infer_session_step(e.session)) == INFER_OK) {
        while (infer_request_poll(request, &event) == INFER_OK)
            n += event.type == INFER_EVENT_TOKEN;
        if (!n) /* the prompt took blocks for itself at once */
            continue;
        /* After this step n tokens are known; the last one computed was that before. */
        uint64_t last = (uint64_t)f.n_tokens + n - 2, all = last / 16 + 1;
        uint64_t behind = last >= 12 ? (last - 11) / 16 : 0;
        assert_int_equal(used_blocks(&e), n_full * all + n_windowed * (all - behind));
    }
    assert_int_equal(more, INFER_DONE);
    assert_int_equal(used_blocks(&e), 0);
    infer_request_destroy(&request);
    engine_close(&e);
    close_fixture(&f, folder);
}

static void test_window_blocks(void **state)
{
    (void)state;
    for (int no_prefix = 0; no_prefix < 2; no_prefix++) {
        count_blocks("mistral-window", 1, 0, no_prefix);
        count_blocks("gemma3", 1, 1, no_prefix);
    }
}

/* A cache that holds two whole sequences of a windowed model serves more of them at once, and
 * blocks that went from one to another change no token. */
static void reuse_windows(int no_prefix)
{
    enum { N = 6, NEW = 50 };
    struct arch_fixture f;
    char folder[512];
    struct engine e;
    struct engine_setup setup = {
        .block_tokens = 16, .kv_type = INFER_KV_Q8, .disable_prefix_cache = no_prefix};
    infer_request *requests[N];
    struct engine_answer alone[N], together;
    infer_session_stats stats = {.struct_size = sizeof stats};
    open_fixture(&f, "mistral-window", folder, sizeof folder);
    engine_open(&e, folder, &setup);
    for (size_t i = 0; i < N; i++)
        engine_collect(submit_windowed(&e, &f, i, NEW), &alone[i]);
    infer_kv_cache_stats cache = {.struct_size = sizeof cache};
    infer_kv_cache_get_stats(e.cache, &cache);
    engine_close(&e);
    setup.kv_budget_bytes = 13 * cache.block_bytes; /* a sequence of 90 would have 6 at its end */
    engine_open(&e, folder, &setup);
    for (size_t i = 0; i < N; i++)
        requests[i] = submit_windowed(&e, &f, i, NEW);
    for (size_t i = 0; i < N; i++) {
        engine_collect(requests[i], &together);
        assert_int_equal(together.n, NEW);
        assert_memory_equal(together.tokens, alone[i].tokens, NEW * sizeof(infer_token));
        assert_memory_equal(together.logprobs, alone[i].logprobs, NEW * sizeof(float));
        engine_answer_free(&together);
        engine_answer_free(&alone[i]);
    }
    infer_session_get_stats(e.session, &stats);
    assert_int_equal(stats.n_preempted, 0);
    assert_int_equal(used_blocks(&e), 0);
    engine_close(&e);
    close_fixture(&f, folder);
}

static infer_request *submit_long(struct engine *e, size_t n, int64_t max_tokens)
{
    infer_token tokens[200];
    infer_sampling plain = {.struct_size = sizeof plain};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = tokens,
                               .n_tokens = n,
                               .sampling = &plain,
                               .max_tokens = max_tokens,
                               .ignore_eos = 1};
    infer_request *request = NULL;
    for (size_t i = 0; i < n; i++)
        tokens[i] = (infer_token)(i * 37 + i / 7) % 280;
    assert_int_equal(infer_session_submit(&request, e->session, &o), 0);
    return request;
}

/* Steps until it has said n tokens; fails the test where that takes too many. */
static void step_until(struct engine *e, infer_request *request, int64_t n)
{
    infer_request_info info = {.struct_size = sizeof info};
    for (int i = 0; i < 300; i++) {
        infer_request_get_info(request, &info);
        if (info.n_generated_tokens >= n)
            return;
        infer_session_step(e->session);
    }
    fail_msg("%d of %d tokens, %d preemptions", (int)info.n_generated_tokens, (int)n,
             (int)info.n_preempted);
}

/* Sequences longer than what a cache has of a window go on: after they gave way amid an answer, and
 * behind a prefix that fills a window. */
static void test_narrow_windows(void **state)
{
    (void)state;
    struct arch_fixture f;
    char folder[512];
    struct engine e;
    struct engine_setup setup = {.n_threads = 1,
                                 .step_tokens = 64,
                                 .kv_type = INFER_KV_F32,
                                 .kv_budget_bytes = 131072,
                                 .disable_prefix_cache = 1};
    open_fixture(&f, "gemma3", folder, sizeof folder);
    engine_open(&e, folder, &setup);
    infer_request *request = submit_long(&e, 180, 30);
    step_until(&e, request, 3);
    assert_int_equal(infer_kv_cache_resize(e.cache, setup.kv_budget_bytes), 0);
    step_until(&e, request, 30);
    infer_request_destroy(&request);
    engine_close(&e);
    close_fixture(&f, folder);

    setup.kv_budget_bytes = 24576; /* two blocks: the window, and where it grows */
    setup.disable_prefix_cache = 0;
    open_fixture(&f, "mistral-window", folder, sizeof folder);
    engine_open(&e, folder, &setup);
    for (size_t n = 40; n <= 120; n += 40) {
        request = submit_long(&e, n, 4);
        step_until(&e, request, 4);
        infer_request_destroy(&request);
    }
    engine_close(&e);
    close_fixture(&f, folder);
}

/* The same bytes for long sequences and for short ones: more blocks where windows get few. */
static void test_sequence_tokens(void **state)
{
    (void)state;
    struct arch_fixture f;
    char folder[512];
    struct engine e;
    uint64_t n_blocks[2];
    open_fixture(&f, "gemma3", folder, sizeof folder);
    engine_open(&e, folder, &(struct engine_setup){.n_threads = 1});
    for (int i = 0; i < 2; i++) {
        infer_kv_cache_options o = {
            .struct_size = sizeof o, .budget_bytes = 1 << 18, .sequence_tokens = i ? 4096 : 16};
        infer_kv_cache_stats stats = {.struct_size = sizeof stats};
        infer_kv_cache *cache = NULL;
        assert_int_equal(infer_kv_cache_create(&cache, e.model, &o), 0);
        infer_kv_cache_get_stats(cache, &stats);
        assert_true(stats.budget_bytes <= o.budget_bytes);
        assert_true(stats.budget_bytes + stats.block_bytes > o.budget_bytes);
        n_blocks[i] = stats.n_blocks;
        infer_kv_cache_destroy(&cache);
    }
    print_message("%d blocks for sequences of 16 tokens, %d for 4096\n", (int)n_blocks[0],
                  (int)n_blocks[1]);
    assert_true(n_blocks[1] > n_blocks[0]);
    engine_close(&e);
    close_fixture(&f, folder);
}

static void test_window_reuse(void **state)
{
    (void)state;
    reuse_windows(0);
    reuse_windows(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_blocks),
        cmocka_unit_test(test_window_reuse),
        cmocka_unit_test(test_sequence_tokens),
        cmocka_unit_test(test_narrow_windows),
    };
    return cmocka_run_group_tests_name("windows", tests, NULL, NULL);
}
