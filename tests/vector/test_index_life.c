/* The life of an index: random writes beside a simple model, through freezing, merging, closing and
 * opening, snapshots and fields. */
#include "index_support.h"

#include <unistd.h>

static void reopen(struct infer_index **index, const struct vector_index_config *config)
{
    vector_index_close(index);
    assert_ok(vector_index_open(index, config));
}

static void check_copy(struct model *m, struct infer_index *index)
{
    char path[600];
    char *parent = index_folder();
    struct infer_index *copy = NULL;
    snprintf(path, sizeof path, "%s/copy", parent);
    assert_ok(vector_index_snapshot(index, path));
    struct vector_index_config config = model_config(&base_alloc_default, path);
    config.traits.dims = 0;
    config.read_only = (int32_t)(test_rand(&m->random) % 2);
    assert_ok(vector_index_open(&copy, &config));
    model_check(m, copy);
    assert_ok(vector_index_verify(copy));
    vector_index_close(&copy);
    index_folder_remove(parent);
}

static void live(const char *path, uint64_t seed, int steps, int background)
{
    struct model m = {.random = seed};
    struct infer_index *index = NULL;
    struct vector_index_config config = model_config(&base_alloc_default, path);
    config.no_background = !background;
    assert_ok(vector_index_open(&index, &config));
    for (int i = 0; i < steps; i++) {
        const int what = (int)(test_rand(&m.random) % 40);
        if (what < 20)
            model_upsert(&m, index, 1 + (int)(test_rand(&m.random) % 20));
        else if (what < 28)
            model_delete(&m, index, 1 + (int)(test_rand(&m.random) % 20));
        else if (what < 30)
            model_delete_kind(&m, index);
        else if (what < 33 && path)
            reopen(&index, &config);
        else if (what == 33)
            assert_ok(vector_index_compact(index));
        else if (what == 34)
            check_copy(&m, index);
        else if (what == 35)
            assert_ok(vector_index_add_field(index, i % 2 ? "kind" : "at.seed"));
        else if (what == 36)
            assert_ok(vector_index_verify(index));
        model_check(&m, index);
    }
    vector_index_close(&index);
    if (path) { /* what is on the disk is all of it */
        assert_ok(vector_index_open(&index, &config));
        model_check(&m, index);
        assert_ok(vector_index_verify(index));
        assert_ok(vector_index_compact(index));
        model_check(&m, index);
        vector_index_close(&index);
    }
}

static void test_folder(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        char *path = index_folder();
        live(path, seed, 150, 1);
        index_folder_remove(path);
    }
}

static void test_without_thread(void **state)
{
    char *path = index_folder();
    (void)state;
    live(path, 77, 150, 0);
    index_folder_remove(path);
}

static void test_memory(void **state)
{
    (void)state;
    live(NULL, 5, 200, 1);
    live(NULL, 6, 200, 0);
}

static int32_t cancel(double fraction, const char *stage, void *user)
{
    (void)fraction;
    (void)stage;
    ++*(int *)user;
    return 1;
}

static void test_compaction(void **state)
{
    char *path = index_folder();
    struct model m = {.random = 9};
    struct infer_index *index = NULL;
    struct vector_counts counts;
    int n_calls = 0;
    struct vector_index_config config = model_config(&base_alloc_default, path);
    (void)state;
    config.no_background = 1;
    config.progress = cancel;
    config.user = &n_calls;
    config.keep_rows = 1;
    for (int i = 0; i < 5; i++) { /* five segments */
        assert_ok(vector_index_open(&index, &config));
        for (int k = 0; k < 4; k++)
            model_upsert(&m, index, 20);
        vector_index_close(&index);
    }
    assert_ok(vector_index_open(&index, &config));
    assert_ok(vector_index_counts(index, &counts));
    assert_int_equal(counts.n_parts, 6);
    assert_int_equal(vector_index_compact(index), INFER_ERR_CANCELLED);
    assert_true(n_calls > 0);
    model_check(&m, index);
    vector_index_close(&index);
    config.progress = NULL;
    assert_ok(vector_index_open(&index, &config));
    assert_ok(vector_index_compact(index));
    model_check(&m, index);
    assert_ok(vector_index_counts(index, &counts));
    assert_int_equal(counts.n_parts, 2);
    assert_int_equal(counts.n_deleted, 0);
    for (int space = 0; space < MODEL_SPACES; space++)
        assert_ok(vector_index_delete_where(index, model_space(space), NULL, NULL));
    memset(m.records, 0, sizeof m.records);
    model_check(&m, index);
    assert_ok(vector_index_compact(index));
    assert_ok(vector_index_counts(index, &counts));
    assert_int_equal(counts.n_parts, 1);
    assert_int_equal(counts.mapped_bytes, 0);
    vector_index_close(&index);
    index_folder_remove(path);
}

/* Replacing the same records again and again leaves no more behind than the thread reclaims. */
static void test_churn(void **state)
{
    char *path = index_folder();
    struct model m = {.random = 10};
    struct infer_index *index = NULL;
    struct vector_counts counts;
    struct vector_index_config config = model_config(&base_alloc_default, path);
    (void)state;
    assert_ok(vector_index_open(&index, &config));
    for (int i = 0; i < 300; i++)
        model_upsert(&m, index, 40);
    for (int wait = 0; wait < 1000; wait++) { /* up to ten seconds on a busy machine */
        assert_ok(vector_index_counts(index, &counts));
        if (counts.n_parts < 6 && counts.n_deleted < 1000)
            break;
        usleep(10000);
    }
    assert_true(counts.n_parts < 6);
    assert_true(counts.n_deleted < 1000);
    assert_true(counts.n_compactions > 0);
    model_check(&m, index);
    vector_index_close(&index);
    index_folder_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),         cmocka_unit_test(test_folder),
        cmocka_unit_test(test_without_thread), cmocka_unit_test(test_compaction),
        cmocka_unit_test(test_churn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
