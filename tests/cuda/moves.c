/* Keys and values that go from card to host and back: snapshots between sessions on the CPU and on
 * a GPU, and the file tier of one on a GPU. */
#include "support/engine.h"

#include <dirent.h>
#include <unistd.h>

#define N_NEXT 2

static void need_gpu(const char *test)
{
    if (infer_device_count() > 1)
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

static const char prompt[] = "<|im_start|>user\nHow many legs does a spider have? Please "
                             "answer in one short sentence.<|im_end|>\n<|im_start|>assistant\n";

static size_t tokens_of(const struct engine *e, infer_token *tokens, size_t n)
{
    infer_encode_options options = {.struct_size = sizeof options, .parse_special = 1};
    assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e->model), prompt, sizeof prompt - 1,
                                     &options, tokens, &n));
    return n < 18 ? n : 18; /* a full block, and one that is not */
}

static infer_request *submit(struct engine *e, const infer_token *tokens, size_t n)
{
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = tokens,
                                     .n_tokens = n,
                                     .sampling = &greedy,
                                     .max_tokens = N_NEXT + 1,
                                     .ignore_eos = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, &options));
    return request;
}

static infer_token next(infer_request *request)
{
    infer_event event = {.struct_size = sizeof event};
    assert_ok(infer_request_next(request, &event));
    assert_int_equal(event.type, INFER_EVENT_TOKEN);
    return event.token;
}

/* The first token is said by one, the others by whoever takes its snapshot, as on the CPU. */
static void check_way(struct engine *from, struct engine *to, const infer_token *tokens, size_t n,
                      const struct engine_answer *expected)
{
    infer_restore_options options = {.struct_size = sizeof options};
    infer_request *request = submit(from, tokens, n), *taken = NULL;
    struct engine_answer rest;
    size_t size = 0;
    assert_int_equal(next(request), expected->tokens[0]);
    assert_ok(infer_request_save_memory(request, NULL, &size));
    void *snapshot = malloc(size);
    assert_ok(infer_request_save_memory(request, snapshot, &size));
    infer_request_destroy(&request);
    assert_ok(infer_session_restore_memory(&taken, to->session, snapshot, size, &options));
    engine_collect(taken, &rest);
    assert_int_equal(rest.status, INFER_OK);
    assert_int_equal(rest.n, N_NEXT);
    assert_memory_equal(rest.tokens, expected->tokens + 1, N_NEXT * sizeof *rest.tokens);
    engine_answer_free(&rest);
    free(snapshot);
}

static void snapshots_go_both_ways(void **state)
{
    static const infer_kv_type types[] = {INFER_KV_F16, INFER_KV_Q8, INFER_KV_F8};
    (void)state;
    need_gpu(__func__);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct engine cpu, gpu;
        struct engine_answer expected;
        infer_token tokens[128];
        engine_open(&cpu, test_source(TINY_MODEL),
                    &(const struct engine_setup){.n_threads = 1, .kv_type = types[i]});
        engine_open(&gpu, test_source(TINY_MODEL),
                    &(const struct engine_setup){.device = 1, .kv_type = types[i]});
        size_t n = tokens_of(&cpu, tokens, 128);
        assert_true(n > 16);
        engine_greedy(&cpu, tokens, n, N_NEXT + 1, &expected);
        check_way(&cpu, &gpu, tokens, n, &expected);
        check_way(&gpu, &cpu, tokens, n, &expected);
        engine_answer_free(&expected);
        engine_close(&cpu);
        engine_close(&gpu);
    }
}

static void empty(const char *folder)
{
    char path[600];
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            unlink(path);
        }
    closedir(dir);
    rmdir(folder);
}

/* What one session leaves in the file the next one finds, and says the same. */
static void a_tier_outlives_its_session(void **state)
{
    char folder[256];
    (void)state;
    need_gpu(__func__);
    snprintf(folder, sizeof folder, "%s/infer-moves-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder));
    const struct engine_setup setup = {
        .device = 1, .kv_type = INFER_KV_F8, .tier_dir = folder, .tier_bytes = 1 << 24};
    infer_token said[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct engine e;
        infer_token tokens[128];
        infer_request_info info = {.struct_size = sizeof info};
        uint64_t written = 0;
        engine_open(&e, test_source(TINY_MODEL), &setup);
        const size_t n = tokens_of(&e, tokens, 128);
        infer_request *request = submit(&e, tokens, n);
        said[i] = next(request);
        assert_ok(infer_request_get_info(request, &info));
        assert_int_equal(info.n_cached_tokens, i ? (n - 1) / 16 * 16 : 0);
        infer_request_destroy(&request);
        assert_ok(infer_kv_cache_flush(e.cache, &written));
        assert_int_equal(written, i ? 0 : n / 16);
        engine_close(&e);
    }
    assert_int_equal(said[0], said[1]);
    empty(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshots_go_both_ways),
        cmocka_unit_test(a_tier_outlives_its_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
