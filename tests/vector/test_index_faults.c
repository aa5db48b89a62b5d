/* An index where memory ends, where the disk is full, and where its files are damaged. */
#include "index_support.h"
#include "support/test_alloc.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#define MUTANTS 75 /* of each kind and file */

/* --------------------------------------------------------------------- memory */

/* Asks all kinds of things. */
static infer_status ask(struct infer_index *index)
{
    struct infer_hits *hits = NULL;
    float vector[MODEL_DIMS];
    uint64_t count;
    model_vector(99, vector);
    const struct vector_query queries[2] = {
        {.vector = vector, .space = model_space(0), .k = 5, .recall = 1, .with = 3},
        {.vector = vector,
         .space = model_space(1),
         .filter = "{\"kind\": {\"$gte\": 2}}",
         .k = 5,
         .recall = 1}};
    infer_status st = vector_index_search(&hits, index, queries, 2);
    if (st != INFER_OK)
        return st;
    index_hits_destroy(&hits);
    st = vector_index_list(&hits, index, model_space(1), "{\"kind\": 1}", (struct base_view){"", 0},
                           10, 3);
    if (st != INFER_OK)
        return st;
    index_hits_destroy(&hits);
    return vector_index_count(index, model_space(1), "{\"kind\": 1}", &count);
}

/* A short life; returns the first failure. *done counts the writes that were acknowledged. */
static infer_status short_life(struct model *m, const struct vector_index_config *config, int *done)
{
    struct infer_index *index = NULL;
    infer_status st = vector_index_open(&index, config);
    *done = 0;
    for (int i = 0; i < 4 && st == INFER_OK; i++) {
        float vectors[12][MODEL_DIMS];
        infer_record records[12];
        char ids[12][32], metadata[12][64];
        for (int k = 0; k < 12; k++) {
            const uint64_t seed = 1 + (uint64_t)(i * 12 + k);
            model_vector(seed, vectors[k]);
            records[k] = (infer_record){.id = model_id((i * 8 + k) % MODEL_IDS, ids[k]),
                                        .ns = model_space(k % 2).data,
                                        .vector = vectors[k],
                                        .metadata = model_metadata(seed, metadata[k])};
        }
        st = vector_index_upsert(index, records, 12);
        if (st == INFER_OK && m) {
            for (int k = 0; k < 12; k++)
                m->records[k % 2][(i * 8 + k) % MODEL_IDS].seed = 1 + (uint64_t)(i * 12 + k);
        }
        *done += st == INFER_OK;
        if (st == INFER_OK && i == 1)
            st = vector_index_add_field(index, "kind");
        if (st == INFER_OK && i == 2)
            st = vector_index_compact(index);
    }
    if (st == INFER_OK)
        st = ask(index);
    if (st == INFER_OK) {
        size_t n = 0;
        st = vector_index_delete_where(index, model_space(1), "{\"kind\": {\"$lt\": 3}}", &n);
        for (int id = 0; id < MODEL_IDS && st == INFER_OK && m; id++) {
            const uint64_t seed = m->records[1][id].seed;
            if (seed && model_kind(seed) >= 0 && model_kind(seed) < 3)
                m->records[1][id].seed = 0;
        }
    }
    vector_index_close(&index);
    return st;
}

static void fail_at_each(const char *path, size_t step)
{
    struct test_alloc t;
    infer_status st = INFER_ERR_NO_MEMORY;
    size_t fail_at = 1;
    for (; st != INFER_OK; fail_at += step) {
        struct model m = {.random = 1};
        int done;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        struct vector_index_config config = model_config(&t.alloc, path);
        config.no_background = 1;
        config.n_threads = 1;
        config.keep_rows = fail_at % 2 ? 1 : 1000;
        st = short_life(&m, &config, &done);
        assert_int_equal(t.live_blocks, 0);
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        if (path && st != INFER_OK) {
            struct infer_index *index = NULL;
            config.alloc = &base_alloc_default;
            assert_ok(vector_index_open(&index, &config));
            /* A write that failed is wholly there only where it failed after the log had it. */
            assert_true(model_is(&m, index));
            assert_ok(vector_index_verify(index));
            /* The next round begins with nothing. */
            for (int space = 0; space < MODEL_SPACES; space++)
                assert_ok(vector_index_delete_where(index, model_space(space), NULL, NULL));
            assert_ok(vector_index_compact(index));
            vector_index_close(&index);
        }
    }
    assert_true(fail_at > 100);
}

static void test_no_memory(void **state)
{
    (void)state;
    fail_at_each(NULL, 1);
}

static void test_no_memory_in_folder(void **state)
{
    char *path = index_folder();
    (void)state;
    fail_at_each(path, 7);
    index_folder_remove(path);
}

/* ----------------------------------------------------------------- a full disk */

static void test_full_disk(void **state)
{
    char *path = index_folder();
    struct model m = {.random = 3}, before;
    struct infer_index *index = NULL;
    struct rlimit limit, full;
    struct vector_index_config config = model_config(&base_alloc_default, path);
    int refused = 0;
    (void)state;
    config.no_background = 1;
    assert_ok(vector_index_open(&index, &config));
    for (int i = 0; i < 20; i++)
        model_upsert(&m, index, 20);
    before = m;
    /* No file may grow beyond this: as a disk that is full, for this process alone. */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    full = limit;
    full.rlim_cur = 30000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    for (int i = 0; i < 20; i++) {
        float vector[MODEL_DIMS] = {1};
        const infer_record record = {.id = "x", .vector = vector, .metadata = "{\"a\": [1, 2]}"};
        const infer_status st = vector_index_upsert(index, &record, 1);
        refused += st == INFER_ERR_IO;
        if (st == INFER_OK) {
            size_t n;
            const char *id = "x";
            (void)vector_index_delete(index, model_space(0), &id, 1, &n);
        }
    }
    const infer_status compacted = vector_index_compact(index);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(compacted, INFER_ERR_IO);
    assert_true(refused > 0);
    model_check(&before, index); /* reads go on */
    model_upsert(&before, index, 20);
    model_check(&before, index); /* and writes, where there is room again */
    assert_ok(vector_index_compact(index));
    model_check(&before, index);
    vector_index_close(&index);
    assert_ok(vector_index_open(&index, &config));
    model_check(&before, index);
    assert_ok(vector_index_verify(index));
    vector_index_close(&index);
    signal(SIGXFSZ, SIG_DFL);
    index_folder_remove(path);
}

/* Up to ten seconds on a busy machine. */
static int wait_for_failure(struct infer_index *index, int failed)
{
    for (int i = 0; i < 1000; i++) {
        struct vector_counts counts;
        assert_ok(vector_index_counts(index, &counts));
        if ((counts.failure != NULL) == failed)
            return 1;
        usleep(10000);
    }
    return 0;
}

/* Where merging fails for want of room, reading and writing go on, and the index says so. */
static void test_failure_in_background(void **state)
{
    char *path = index_folder();
    struct model m = {.random = 8};
    struct infer_index *index = NULL;
    struct rlimit limit, full;
    const struct vector_index_config config = model_config(&base_alloc_default, path);
    (void)state;
    assert_ok(vector_index_open(&index, &config));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    full = limit;
    full.rlim_cur = 16000; /* a log and a segment of 60 records fit, many segments in one do not */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    for (int i = 0; i < 20; i++) {
        model_upsert(&m, index, 20);
        usleep(2000);
    }
    const int failed = wait_for_failure(index, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_true(failed);
    assert_true(model_is(&m, index));
    if (!wait_for_failure(index, 0)) { /* it is tried again */
        struct vector_counts counts;
        assert_ok(vector_index_counts(index, &counts));
        fail_msg("still: %s", counts.failure);
    }
    model_upsert(&m, index, 20);
    model_check(&m, index);
    vector_index_close(&index);
    signal(SIGXFSZ, SIG_DFL);
    index_folder_remove(path);
}

/* --------------------------------------------------------------------- damage */

/* Uses a damaged index wherever it lets itself be used: no crash; what it says is a clean error,
 * or it is as it was after one of `n` writes. Returns whether the damage was noticed. */
static int use_damaged(const char *path, const struct model *after, int n)
{
    struct infer_index *index = NULL;
    struct infer_hits *hits = NULL;
    struct vector_index_config config = model_config(&base_alloc_default, path);
    float vector[MODEL_DIMS];
    config.no_background = 1;
    config.n_threads = 1;
    config.keep_rows = 1000;
    model_vector(4, vector);
    infer_status st = vector_index_open(&index, &config);
    if (st != INFER_OK) {
        assert_true(st == INFER_ERR_FORMAT || st == INFER_ERR_UNSUPPORTED ||
                    st == INFER_ERR_INVALID || st == INFER_ERR_NOT_FOUND || st == INFER_ERR_LIMIT);
        return 1;
    }
    for (int space = 0; space < MODEL_SPACES; space++) {
        const struct vector_query q = {.vector = vector,
                                       .space = model_space(space),
                                       .filter = space ? "{\"kind\": {\"$gt\": 2}}" : NULL,
                                       .k = 10,
                                       .recall = space == 2 ? 0.5f : 1,
                                       .with = 3};
        const infer_status searched = vector_index_search(&hits, index, &q, 1);
        assert_true(searched == INFER_OK || searched == INFER_ERR_FORMAT);
        if (searched == INFER_OK)
            index_hits_destroy(&hits);
        const infer_status listed = vector_index_list(&hits, index, model_space(space), NULL,
                                                      (struct base_view){"", 0}, 1000, 3);
        assert_true(listed == INFER_OK || listed == INFER_ERR_FORMAT);
        if (listed == INFER_OK)
            index_hits_destroy(&hits);
    }
    st = vector_index_verify(index);
    assert_true(st == INFER_OK || st == INFER_ERR_FORMAT);
    int right = 0;
    for (int i = 0; i < n && st == INFER_OK && !right; i++)
        right = model_is(&after[i], index);
    assert_true(right || st != INFER_OK);
    vector_index_close(&index);
    return st != INFER_OK;
}

enum { CUT, ONE_BIT, EIGHT_BITS, KINDS };

/* One of the first bytes as often as any other: there lie the heads. */
static size_t damage(char *bytes, size_t size, int kind, uint64_t *random)
{
    if (kind == CUT)
        return test_rand(random) % size;
    for (int k = kind == EIGHT_BITS ? 8 : 1; k > 0; k--) {
        const size_t within = test_rand(random) % 2 ? BASE_MIN(size, 256) : size;
        bytes[test_rand(random) % within] ^= (char)(1 << test_rand(random) % 8);
    }
    return size;
}

static void write_file(const char *name, const char *bytes, size_t size)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

/* Each of the files of an index of two segments and a log, 300 times in each way or more. */
static void test_damage(void **state)
{
    char *good = index_folder(), *bad = index_folder();
    struct model m = {.random = 4}, after[3];
    struct infer_index *index = NULL;
    struct vector_index_config config = model_config(&base_alloc_default, good);
    struct dirent *entry;
    uint64_t random = 5;
    int noticed = 0, total = 0, n_files = 0;
    (void)state;
    config.no_background = 1;
    config.keep_rows = 1;
    for (int i = 0; i < 2; i++) {
        assert_ok(vector_index_open(&index, &config));
        for (int k = 0; k < 5; k++)
            model_upsert(&m, index, 20);
        vector_index_close(&index);
    }
    config.keep_rows = 1000;
    assert_ok(vector_index_open(&index, &config));
    after[2] = m;
    model_upsert(&m, index, 20);
    after[1] = m;
    model_delete(&m, index, 10);
    after[0] = m;
    vector_index_close(&index);
    DIR *dir = opendir(good);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char name[600];
        size_t size;
        const int is_log = strncmp(entry->d_name, "log", 3) == 0;
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lock") == 0)
            continue;
        n_files++;
        for (int i = 0; i < KINDS * MUTANTS; i++) {
            index_folder_copy(good, bad);
            snprintf(name, sizeof name, "%s/%s", bad, entry->d_name);
            char *bytes = test_read(name, &size);
            size = damage(bytes, size, i % KINDS, &random);
            write_file(name, bytes, size);
            free(bytes);
            /* A log that was cut off at its end is what a crash leaves. */
            noticed += use_damaged(bad, after, is_log ? 3 : 1);
            total++;
        }
    }
    closedir(dir);
    print_message("# %d of %d kinds of damage were noticed, in %d files\n", noticed, total,
                  n_files);
    assert_true(n_files * MUTANTS >= 300);
    assert_true(noticed > total * 8 / 10);
    index_folder_remove(good);
    index_folder_remove(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_no_memory_in_folder),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_failure_in_background),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
