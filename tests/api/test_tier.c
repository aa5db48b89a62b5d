/* The file tier of the prefix cache as an application uses it: what was evicted comes back, also
 * in the next process, and nothing that happens to the file changes an answer. */
#include "support/engine.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N_PROMPT 100
#define N_ANSWER 6

static char folder[256];
static infer_token prompts[12][N_PROMPT];
static infer_token answers[12][N_ANSWER];
static uint64_t block_bytes;

/* Names of the files in the folder; gives back their number and the last one's path. */
static int files(char *path, size_t size)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            n++;
            snprintf(path, size, "%s/%s", folder, e->d_name);
        }
    closedir(dir);
    return n;
}

static int empty_folder(void **state)
{
    char path[600];
    (void)state;
    while (files(path, sizeof path))
        unlink(path);
    return 0;
}

static void open_with(struct engine *e, uint64_t tier_bytes, int32_t thread)
{
    struct engine_setup setup = {.n_threads = 1,
                                 .kv_budget_bytes = block_bytes * 14,
                                 .tier_dir = tier_bytes ? folder : NULL,
                                 .tier_bytes = tier_bytes,
                                 .tier_thread = thread};
    engine_open(e, test_source(TINY_MODEL), &setup);
}

static infer_kv_cache_stats stats_of(const struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    return kv;
}

/* Runs prompt i; gives back how many tokens of it were there. The answer is always the same. */
static int64_t run(struct engine *e, int i, const char *namespace, infer_token *out)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = 3};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompts[i],
                               .n_tokens = N_PROMPT,
                               .sampling = &sampling,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1,
                               .cache_namespace = namespace};
    infer_request *request = NULL;
    infer_request_info info = {.struct_size = sizeof info};
    infer_event event = {.struct_size = sizeof event};
    infer_token said[N_ANSWER];
    size_t n = 0;
    assert_ok(infer_session_submit(&request, e->session, &o));
    while (infer_request_next(request, &event) == INFER_OK)
        if (event.type == INFER_EVENT_TOKEN)
            said[n++] = event.token;
    assert_int_equal(n, N_ANSWER);
    if (out)
        memcpy(out, said, sizeof said);
    else
        assert_memory_equal(said, answers[i], sizeof said);
    assert_ok(infer_request_get_info(request, &info));
    infer_request_destroy(&request);
    return info.n_cached_tokens;
}

static int make_all(void **state)
{
    (void)state;
    struct engine e;
    uint64_t seed = 11;
    snprintf(folder, sizeof folder, "%s/infer-tier-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder));
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    block_bytes = stats_of(&e).block_bytes;
    for (int i = 0; i < 12; i++) {
        for (size_t k = 0; k < N_PROMPT; k++)
            prompts[i][k] = (infer_token)(300 + test_rand(&seed) % 500);
        run(&e, i, NULL, answers[i]);
    }
    engine_close(&e);
    return 0;
}

static int remove_all(void **state)
{
    empty_folder(state);
    return rmdir(folder);
}

static uint64_t flush(struct engine *e)
{
    uint64_t n = 0;
    assert_ok(infer_kv_cache_flush(e->cache, &n));
    return n;
}

/* Fills the cache's 14 blocks with others' and leaves nothing of prompt 0 in them. */
static void evict_others(struct engine *e)
{
    for (int i = 9; i < 12; i++)
        run(e, i, "others", NULL);
}

static void test_back_again(void **state)
{
    (void)state;
    struct engine e;
    open_with(&e, 1 << 24, 0);
    assert_int_equal(run(&e, 0, NULL, NULL), 0);
    assert_int_equal(flush(&e), 6);
    assert_int_equal(flush(&e), 0);
    evict_others(&e);
    assert_int_equal(run(&e, 0, "tenant", NULL), 0); /* whose it is, it stays */
    evict_others(&e);
    assert_int_equal(run(&e, 0, NULL, NULL), 96);
    infer_kv_cache_stats kv = stats_of(&e);
    assert_int_equal(kv.n_tier_read, 6);
    assert_int_equal(kv.n_tier_written, 6);
    assert_int_equal(kv.n_tier_records, 6);
    assert_true(kv.n_tier_lost > 0); /* the others', that nobody wrote */
    assert_int_equal(run(&e, 0, NULL, NULL), 96);
    assert_int_equal(stats_of(&e).n_tier_read, 6); /* from memory */
    assert_int_equal(stats_of(&e).n_blocks_used, 0);
    assert_true(flush(&e) > 0); /* the others' last ones; what came from the file is there */
    engine_close(&e);
    open_with(&e, 1 << 24, 0); /* the next process */
    assert_int_equal(run(&e, 0, NULL, NULL), 96);
    assert_int_equal(run(&e, 0, "tenant", NULL), 0);
    engine_close(&e);
}

static void test_other_process(void **state)
{
    (void)state;
    struct engine e;
    int status = 1;
    fflush(NULL); /* ThreadSanitizer writes what is buffered even at _exit() */
    pid_t child = fork();
    if (child == 0) {
        open_with(&e, 1 << 24, 0);
        run(&e, 0, "x", NULL);
        _exit(flush(&e) != 6);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    open_with(&e, 1 << 24, 0);
    assert_int_equal(run(&e, 0, "x", NULL), 96);
    assert_int_equal(run(&e, 1, "x", NULL), 0);
    engine_close(&e);
}

/* The file does not grow beyond its bytes; what was used last stays. */
static void test_bounded(void **state)
{
    (void)state;
    struct engine e;
    struct stat st;
    char path[600];
    uint64_t bytes = (block_bytes + 192) * 13;
    open_with(&e, bytes, 0);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 8; i++) {
            run(&e, i, NULL, NULL);
            flush(&e);
            assert_true(stats_of(&e).n_tier_records <= 13);
        }
    assert_int_equal(files(path, sizeof path), 1);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_size <= bytes + 4096);
    evict_others(&e);
    assert_int_equal(run(&e, 7, NULL, NULL), 96);
    evict_others(&e);
    assert_int_equal(run(&e, 1, NULL, NULL), 0);
    engine_close(&e);
    open_with(&e, (block_bytes + 192) * 7, 0); /* with fewer bytes than the last time */
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_size <= (block_bytes + 192) * 7 + 4096);
    for (int i = 0; i < 8; i++)
        run(&e, i, NULL, NULL);
    engine_close(&e);
}

static void change(const char *path, off_t at, int by)
{
    unsigned char byte;
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseeko(f, at, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, f), 1);
    byte = (unsigned char)(byte ^ by);
    assert_int_equal(fseeko(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, f), 1);
    fclose(f);
}

static void test_damage(void **state)
{
    (void)state;
    struct engine e;
    char path[600];
    struct stat st;
    open_with(&e, 1 << 24, 0);
    run(&e, 0, NULL, NULL);
    flush(&e);
    engine_close(&e);
    assert_int_equal(files(path, sizeof path), 1);
    assert_int_equal(stat(path, &st), 0);
    off_t record = (st.st_size - 4096) / 6;
    uint64_t seed = 1;
    for (int i = 0; i < 40; i++) { /* a byte of any record, found before or behind opening */
        off_t at = 4096 + (off_t)(test_rand(&seed) % (uint32_t)(st.st_size - 4096));
        int64_t k = (at - 4096) / record;
        if (i % 2)
            change(path, at, 1 << i % 8);
        open_with(&e, 1 << 24, 0);
        if (i % 2 == 0)
            change(path, at, 1 << i % 8);
        assert_int_equal(run(&e, 0, NULL, NULL), k * 16);
        infer_kv_cache_stats kv = stats_of(&e);
        assert_true(kv.n_tier_damaged + (uint64_t)(i % 2) >= 1);
        engine_close(&e);
        change(path, at, 1 << i % 8);
    }
    assert_int_equal(truncate(path, 4096 + 3 * record + 100), 0);
    open_with(&e, 1 << 24, 0);
    assert_int_equal(run(&e, 0, NULL, NULL), 48);
    assert_int_equal(flush(&e), 3);
    evict_others(&e);
    assert_int_equal(run(&e, 0, NULL, NULL), 96);
    engine_close(&e);
}

static infer_status try_open(struct engine *e, const infer_kv_cache_options *o)
{
    infer_kv_cache *cache = NULL;
    infer_status st = infer_kv_cache_create(&cache, e->model, o);
    infer_kv_cache_destroy(&cache);
    return st;
}

static void assert_says(const char *text)
{
    if (!strstr(infer_last_error(), text))
        fail_msg("\"%s\" does not say \"%s\"", infer_last_error(), text);
}

static void test_refusals(void **state)
{
    (void)state;
    struct engine e, plain;
    char path[600];
    infer_kv_cache_options o = {.struct_size = sizeof o, .tier_dir = folder, .tier_bytes = 1 << 24};
    open_with(&e, 1 << 24, 0);
    assert_int_equal(try_open(&e, &o), INFER_ERR_BUSY);
    o.type = INFER_KV_BF16; /* another file */
    assert_ok(try_open(&e, &o));
    o.type = INFER_KV_DEFAULT;
    o.tier_bytes = 100;
    assert_int_equal(try_open(&e, &o), INFER_ERR_LIMIT);
    o.tier_bytes = 0;
    assert_int_equal(try_open(&e, &o), INFER_ERR_INVALID);
    o.tier_bytes = 1 << 24;
    o.disable_prefix_cache = 1;
    assert_int_equal(try_open(&e, &o), INFER_ERR_INVALID);
    o.disable_prefix_cache = 0;
    o.tier_dir = "/no/such/folder";
    assert_int_equal(try_open(&e, &o), INFER_ERR_IO);
    open_with(&plain, 0, 0);
    assert_int_equal(infer_kv_cache_flush(plain.cache, NULL), INFER_ERR_INVALID);
    engine_close(&plain);
    engine_close(&e);
    empty_folder(NULL);
    open_with(&e, 1 << 24, 0);
    engine_close(&e);
    assert_int_equal(files(path, sizeof path), 1);
    open_with(&plain, 0, 0);
    o.tier_dir = folder;
    change(path, 100, 1); /* its secret */
    assert_int_equal(try_open(&plain, &o), INFER_ERR_FORMAT);
    assert_says(path);
    change(path, 100, 1);
    change(path, 8, 1); /* 3: the bits are turned */
    assert_int_equal(try_open(&plain, &o), INFER_ERR_UNSUPPORTED);
    assert_says("version 3");
    change(path, 8, 1);
    assert_ok(try_open(&plain, &o));
    assert_int_equal(truncate(path, 50), 0);
    assert_int_equal(try_open(&plain, &o), INFER_ERR_FORMAT);
    engine_close(&plain);
}

static void test_clear(void **state)
{
    (void)state;
    struct engine e;
    struct stat st;
    char path[600];
    open_with(&e, 1 << 24, 0);
    run(&e, 0, NULL, NULL);
    flush(&e);
    assert_ok(infer_kv_cache_clear(e.cache));
    assert_int_equal(stats_of(&e).n_tier_records, 0);
    assert_int_equal(files(path, sizeof path), 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4096);
    assert_int_equal(run(&e, 0, NULL, NULL), 0);
    assert_int_equal(flush(&e), 6);
    engine_close(&e);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct engine e;
    uint64_t n = 0;
    open_with(&e, 1 << 24, 0);
    run(&e, 0, NULL, NULL);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 4096 + block_bytes * 5 / 2;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    infer_status st = infer_kv_cache_flush(e.cache, &n);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(st, INFER_ERR_IO);
    assert_true(n > 0 && n < 6);
    assert_int_equal(stats_of(&e).n_tier_failed, 6 - n);
    assert_int_equal(stats_of(&e).n_tier_records, n);
    evict_others(&e);
    run(&e, 0, NULL, NULL);
    engine_close(&e);
}

/* Killed while it writes: the next process finds what is whole. */
static void test_kill(void **state)
{
    (void)state;
    uint64_t n_read = 0;
    for (int round = 0; round < 10; round++) {
        struct engine e;
        char path[600];
        fflush(NULL); /* ThreadSanitizer writes what is buffered even at _exit() */
        pid_t child = fork();
        if (child == 0) {
            open_with(&e, (block_bytes + 192) * 20, 1);
            for (;;)
                for (int i = 0; i < 9; i++)
                    run(&e, i, NULL, NULL);
        }
        struct stat st = {.st_size = 0};
        while (st.st_size < (off_t)(4096 + 3 * block_bytes)) {
            usleep(1000);
            if (files(path, sizeof path))
                stat(path, &st);
        }
        usleep((useconds_t)(3000 * round));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        open_with(&e, (block_bytes + 192) * 20, 0);
        for (int i = 0; i < 9; i++)
            run(&e, i, NULL, NULL);
        n_read += stats_of(&e).n_tier_read;
        engine_close(&e);
    }
    print_message("%d records read back after 10 kills\n", (int)n_read);
    assert_true(n_read > 0);
}

/* ------------------------------------------------------------------- memory */

struct counter {
    long n_calls, live, fail_at;
};

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct counter *c = user_data;
    void *p = NULL;
    if (++c->n_calls == c->fail_at || posix_memalign(&p, alignment, bytes) != 0)
        return NULL;
    c->live++;
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    struct counter *c = user_data;
    c->live--;
    free(ptr);
}

/* Writes, evicts and reads back in a cache and a session under this allocator. */
static infer_status use_tier(struct engine *e, struct counter *c)
{
    infer_allocator a = {sizeof a, counting_alloc, counting_free, c};
    infer_kv_cache_options k = {.struct_size = sizeof k,
                                .budget_bytes = block_bytes * 8,
                                .allocator = &a,
                                .tier_dir = folder,
                                .tier_bytes = 1 << 24};
    infer_kv_cache *cache = NULL;
    infer_session *session = NULL;
    infer_session_options s = {.struct_size = sizeof s, .allocator = &a};
    infer_status st = infer_kv_cache_create(&cache, e->model, &k);
    s.kv_cache = cache;
    if (st == INFER_OK)
        st = infer_session_create(&session, e->model, &s);
    for (int i = 0; i < 4 && st == INFER_OK; i++) {
        infer_request *request = NULL;
        infer_event event = {.struct_size = sizeof event};
        infer_request_options o = {.struct_size = sizeof o,
                                   .tokens = prompts[i % 2],
                                   .n_tokens = N_PROMPT,
                                   .max_tokens = 1};
        st = infer_session_submit(&request, session, &o);
        while (st == INFER_OK)
            st = infer_request_next(request, &event);
        st = st == INFER_DONE ? INFER_OK : st;
        infer_request_destroy(&request);
        if (st == INFER_OK)
            st = infer_kv_cache_flush(cache, NULL);
    }
    infer_session_destroy(&session);
    infer_kv_cache_destroy(&cache);
    return st;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct engine e;
    long n_failed = 0, i = 1;
    open_with(&e, 0, 0);
    for (;; i++) {
        struct counter c = {.fail_at = i};
        infer_status st = use_tier(&e, &c);
        assert_int_equal(c.live, 0);
        if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
            fail_msg("allocation %ld: %d (%s)", i, (int)st, infer_last_error());
        n_failed += st != INFER_OK;
        if (c.n_calls < i)
            break;
        empty_folder(NULL);
    }
    print_message("%ld allocations, %ld of them needed\n", i - 1, n_failed);
    assert_true(n_failed > 20);
    engine_close(&e);
}

/* ------------------------------------------------------------------ threads */

struct client {
    struct engine *e;
    int first;
    _Atomic int *n_cached;
};

static void *client(void *arg)
{
    struct client *c = arg;
    for (int i = 0; i < 30; i++)
        atomic_fetch_add(c->n_cached, (int)run(c->e, (c->first + i) % 5, NULL, NULL));
    return NULL;
}

/* Requests, the tier's own thread, flushes and clears beside each other. */
static void test_threads(void **state)
{
    (void)state;
    struct engine e;
    struct client clients[3];
    pthread_t threads[3];
    _Atomic int n_cached = 0;
    open_with(&e, (block_bytes + 192) * 25, 1);
    for (int i = 0; i < 3; i++) {
        clients[i] = (struct client){&e, 2 * i, &n_cached};
        assert_int_equal(pthread_create(&threads[i], NULL, client, &clients[i]), 0);
    }
    for (int i = 0; i < 20; i++) {
        infer_kv_cache_flush(e.cache, NULL);
        if (i % 7 == 6)
            assert_ok(infer_kv_cache_clear(e.cache));
        usleep(3000);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    infer_kv_cache_stats kv = stats_of(&e);
    print_message("%d tokens cached; %d records written, %d read, %d lost\n", (int)n_cached,
                  (int)kv.n_tier_written, (int)kv.n_tier_read, (int)kv.n_tier_lost);
    assert_int_equal(kv.n_tier_damaged, 0);
    assert_int_equal(kv.n_blocks_used, 0);
    assert_true(kv.n_tier_written > 0);
    for (int i = 0; i < 2000 && stats_of(&e).n_tier_records < 5; i++)
        usleep(1000); /* the thread needs nobody who asks it */
    assert_true(stats_of(&e).n_tier_records >= 5);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_back_again, empty_folder),
        cmocka_unit_test_setup(test_other_process, empty_folder),
        cmocka_unit_test_setup(test_bounded, empty_folder),
        cmocka_unit_test_setup(test_damage, empty_folder),
        cmocka_unit_test_setup(test_refusals, empty_folder),
        cmocka_unit_test_setup(test_clear, empty_folder),
        cmocka_unit_test_setup(test_disk_full, empty_folder),
        cmocka_unit_test_setup(test_kill, empty_folder),
        cmocka_unit_test_setup(test_no_memory, empty_folder),
        cmocka_unit_test_setup(test_threads, empty_folder),
    };
    return cmocka_run_group_tests_name("tier", tests, make_all, remove_all);
}
