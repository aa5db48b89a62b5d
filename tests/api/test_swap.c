/* The swap store as an application uses it: who is preempted goes on with the same tokens, whether
 * there was room for it or not, and what happened can be read. */
#include "support/engine.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#define N_PROMPT   60
#define N_ANSWER   40
#define N_REQUESTS 8

static char folder[256];
static infer_token prompts[N_REQUESTS][N_PROMPT];
static infer_token answers[N_REQUESTS][N_ANSWER];
static uint64_t block_bytes;

struct seen {
    int n_preempted;
    int64_t n_swapped_tokens;
};

static void watch(const infer_trace_event *event, void *user_data)
{
    struct seen *seen = user_data;
    seen->n_preempted += event->type == INFER_TRACE_PREEMPTED;
    seen->n_swapped_tokens += event->n_swapped_tokens;
    if (event->type != INFER_TRACE_PREEMPTED)
        assert_int_equal(event->n_swapped_tokens, 0);
    assert_true(event->n_swapped_tokens <= event->n_tokens);
}

static int files(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static infer_kv_cache_stats stats_of(const struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    return kv;
}

/* A cache for hardly two of the requests, which knows no prefixes. */
static void open_with(struct engine *e, struct seen *seen, const char *dir, uint64_t bytes,
                      int32_t always)
{
    struct engine_setup setup = {.n_threads = 1,
                                 .disable_prefix_cache = 1,
                                 .kv_budget_bytes = block_bytes * 13,
                                 .swap_dir = dir,
                                 .swap_bytes = bytes,
                                 .swap_always = always};
    infer_session_options o = {.struct_size = sizeof o, .trace = watch, .trace_data = seen};
    *seen = (struct seen){0, 0};
    engine_open(e, test_source(TINY_MODEL), &setup);
    infer_session_destroy(&e->session);
    o.kv_cache = e->cache;
    assert_ok(infer_session_create(&e->session, e->model, &o));
}

static infer_request *submit(struct engine *e, int i)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = 3};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompts[i],
                               .n_tokens = N_PROMPT,
                               .sampling = &sampling,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, &o));
    return request;
}

static void collect(infer_request *request, infer_token *out)
{
    infer_event event = {.struct_size = sizeof event};
    size_t n = 0;
    while (infer_request_next(request, &event) == INFER_OK)
        if (event.type == INFER_EVENT_TOKEN)
            out[n++] = event.token;
    assert_int_equal(n, N_ANSWER);
}

static int make_all(void **state)
{
    (void)state;
    struct engine e;
    uint64_t seed = 11;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/infer-swap-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    block_bytes = stats_of(&e).block_bytes;
    for (int i = 0; i < N_REQUESTS; i++) {
        for (size_t k = 0; k < N_PROMPT; k++)
            prompts[i][k] = (infer_token)(300 + test_rand(&seed) % 500);
        infer_request *r = submit(&e, i);
        collect(r, answers[i]);
        infer_request_destroy(&r);
    }
    engine_close(&e);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* All at once. Gives back how many preemptions there were, and of them swaps. */
static int64_t run_all(struct engine *e, int64_t *n_swapped)
{
    infer_request *requests[N_REQUESTS];
    int64_t n_preempted = 0;
    *n_swapped = 0;
    for (int i = 0; i < N_REQUESTS; i++)
        requests[i] = submit(e, i);
    for (int i = 0; i < N_REQUESTS; i++) {
        infer_token said[N_ANSWER];
        infer_request_info info = {.struct_size = sizeof info};
        collect(requests[i], said);
        assert_memory_equal(said, answers[i], sizeof said);
        assert_ok(infer_request_get_info(requests[i], &info));
        n_preempted += info.n_preempted;
        *n_swapped += info.n_swapped;
        infer_request_destroy(&requests[i]);
    }
    assert_int_equal(stats_of(e).swap_used_bytes, 0);
    return n_preempted;
}

/* ------------------------------------------------------------------------- use */

static double metric(const struct engine *e, const char *name)
{
    static char text[65536];
    size_t size = sizeof text;
    assert_ok(infer_session_metrics(e->session, text, &size));
    const char *at = strstr(text, name);
    assert_non_null(at);
    return atof(at + strlen(name));
}

static void test_always(void **state)
{
    (void)state;
    for (int in_file = 0; in_file < 2; in_file++) {
        struct engine e;
        struct seen seen;
        int64_t n_swapped;
        infer_session_stats stats = {.struct_size = sizeof stats};
        open_with(&e, &seen, in_file ? folder : NULL, 1 << 24, 1);
        int64_t n = run_all(&e, &n_swapped);
        infer_kv_cache_stats kv = stats_of(&e);
        infer_session_get_stats(e.session, &stats);
        assert_true(n > 0);
        assert_int_equal(n_swapped, n);
        assert_int_equal(stats.n_preempted, n);
        assert_int_equal(stats.n_swapped, n);
        assert_int_equal(kv.n_swapped_out, n);
        assert_int_equal(kv.n_swapped_in, n);
        assert_int_equal(kv.swap_bytes, 1 << 24);
        assert_true(kv.swapped_out_bytes >= (uint64_t)n * 4 * block_bytes);
        assert_int_equal(kv.swapped_in_bytes, kv.swapped_out_bytes);
        assert_int_equal(seen.n_preempted, n);
        assert_true(seen.n_swapped_tokens >= n * N_PROMPT);
        assert_true(metric(&e, "\ninfer_swaps_total ") == (double)n);
        assert_true(metric(&e, "\ninfer_swapped_out_bytes_total ") == (double)kv.swapped_out_bytes);
        assert_true(metric(&e, "\ninfer_swapped_in_bytes_total ") == (double)kv.swapped_in_bytes);
        assert_true(metric(&e, "\ninfer_swap_failures_total ") == 0);
        assert_true(metric(&e, "\ninfer_swap_usage_ratio ") == 0);
        assert_int_equal(files(), 0); /* it has no name, so nothing is left by who is killed */
        /* Nothing that was in the store is computed: prompts once, each step one token more. */
        assert_int_equal(stats.n_prompt_tokens, N_REQUESTS * N_PROMPT);
        engine_close(&e);
    }
}

static void test_off_and_auto(void **state)
{
    (void)state;
    struct engine e;
    struct seen seen;
    int64_t n_swapped;
    infer_session_stats stats = {.struct_size = sizeof stats};
    open_with(&e, &seen, NULL, 0, 0);
    assert_true(run_all(&e, &n_swapped) > 0);
    assert_int_equal(n_swapped, 0);
    assert_int_equal(seen.n_swapped_tokens, 0);
    assert_int_equal(stats_of(&e).swap_bytes + stats_of(&e).n_swapped_out, 0);
    infer_session_get_stats(e.session, &stats);
    assert_true(stats.n_prompt_tokens > N_REQUESTS * N_PROMPT); /* some were computed twice */
    engine_close(&e);
    open_with(&e, &seen, folder, 1 << 24, 0);
    int64_t n = run_all(&e, &n_swapped);
    assert_true(n > 0 && n_swapped > 0); /* the first at least: what it takes is not known */
    print_message("%d of %d swapped\n", (int)n_swapped, (int)n);
    engine_close(&e);
}

/* ---------------------------------------------------------------- what goes wrong */

static void test_full(void **state)
{
    (void)state;
    struct engine e;
    struct seen seen;
    int64_t n_swapped;
    open_with(&e, &seen, folder, 64 << 10, 1); /* less than four blocks of the least request */
    int64_t n = run_all(&e, &n_swapped);
    assert_true(n > 0);
    assert_int_equal(n_swapped, 0);
    assert_int_equal(stats_of(&e).n_swap_full, n);
    assert_int_equal(stats_of(&e).n_swap_failed, 0);
    engine_close(&e);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct engine e;
    struct seen seen;
    int64_t n_swapped;
    open_with(&e, &seen, folder, 1 << 24, 1);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int64_t n = run_all(&e, &n_swapped);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_true(n > 0);
    assert_int_equal(n_swapped, 0);
    assert_int_equal(stats_of(&e).n_swap_failed, n);
    run_all(&e, &n_swapped); /* there is room again */
    assert_true(n_swapped > 0);
    engine_close(&e);
}

static void expect(struct engine *e, const infer_kv_cache_options *o, infer_status status,
                   const char *sentence)
{
    infer_kv_cache *cache = NULL;
    assert_int_equal(infer_kv_cache_create(&cache, e->model, o), status);
    assert_null(cache);
    if (!strstr(infer_last_error(), sentence))
        fail_msg("\"%s\" does not contain \"%s\"", infer_last_error(), sentence);
}

static void test_refusals(void **state)
{
    (void)state;
    struct engine e;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    infer_kv_cache_options o = {.struct_size = sizeof o, .swap_dir = folder};
    expect(&e, &o, INFER_ERR_INVALID, "swap_bytes");
    o = (infer_kv_cache_options){.struct_size = sizeof o, .swap_always = 1};
    expect(&e, &o, INFER_ERR_INVALID, "swap_bytes");
    o = (infer_kv_cache_options){.struct_size = sizeof o, .swap_bytes = 1 << 20, .swap_always = 2};
    expect(&e, &o, INFER_ERR_INVALID, "swap_always");
    o = (infer_kv_cache_options){.struct_size = sizeof o, .sequence_tokens = -1};
    expect(&e, &o, INFER_ERR_INVALID, "sequence_tokens");
    o = (infer_kv_cache_options){.struct_size = sizeof o, .swap_bytes = 100};
    expect(&e, &o, INFER_ERR_LIMIT, "swap_bytes is 100");
    o = (infer_kv_cache_options){
        .struct_size = sizeof o, .swap_bytes = 1 << 20, .swap_dir = "/no/such/folder"};
    expect(&e, &o, INFER_ERR_IO, "/no/such/folder");
    engine_close(&e);
    assert_int_equal(files(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_always),   cmocka_unit_test(test_off_and_auto),
        cmocka_unit_test(test_full),     cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("swap_session", tests, make_all, remove_folder);
}
