/* The life of an index: random writes beside a simple model, through freezing, merging, closing and
 * opening, snapshots and fields. */
#include "index_support.h"

#include "vector/state.h"

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
    for (int wait = 0; wait < 6000; wait++) { /* up to a minute on a busy machine */
        assert_ok(vector_index_counts(index, &counts));
        if (counts.n_parts < 9 && counts.n_deleted < 1000)
            break;
        usleep(10000);
    }
    if (counts.failure)
        fail_msg("in the background: %s", counts.failure);
    assert_true(counts.n_parts < 9);
    assert_true(counts.n_deleted < 1000);
    assert_true(counts.n_compactions > 0);
    model_check(&m, index);
    vector_index_close(&index);
    index_folder_remove(path);
}

/* ------------------------------------------------------------------ with graphs */

#define GRAPH_DIMS 16
#define GRAPH_ROWS 2500

static void add_many(struct infer_index *index, int first)
{
    infer_record *records = calloc(GRAPH_ROWS, sizeof *records);
    float(*vectors)[GRAPH_DIMS] = calloc(GRAPH_ROWS, sizeof *vectors);
    char(*ids)[16] = calloc(GRAPH_ROWS, sizeof *ids);
    char(*metadata)[16] = calloc(GRAPH_ROWS, sizeof *metadata);
    uint64_t random = (uint64_t)first + 1;
    assert_true(records && vectors && ids && metadata);
    for (int i = 0; i < GRAPH_ROWS; i++) {
        for (int d = 0; d < GRAPH_DIMS; d++)
            vectors[i][d] = test_randf(&random);
        snprintf(ids[i], sizeof ids[i], "%d", first + i);
        snprintf(metadata[i], sizeof metadata[i], "{\"m\": %d}", i % 4);
        records[i] = (infer_record){.id = ids[i], .vector = vectors[i], .metadata = metadata[i]};
    }
    assert_ok(vector_index_upsert(index, records, GRAPH_ROWS));
    free(records);
    free(vectors);
    free(ids);
    free(metadata);
}

/* Share of the true best that is found; nothing that is deleted, or that the filter drops, is. */
static double recall(struct infer_index *index, const char *filter, int32_t *path)
{
    int found = 0, all = 0;
    uint64_t random = 99;
    for (int i = 0; i < 40; i++) {
        float vector[GRAPH_DIMS];
        struct infer_hits *exact = NULL, *hits = NULL;
        for (int d = 0; d < GRAPH_DIMS; d++)
            vector[d] = test_randf(&random);
        struct vector_query q = {.vector = vector,
                                 .space = {"", 0},
                                 .filter = filter,
                                 .k = 10,
                                 .recall = 1,
                                 .with = INFER_INDEX_WITH_METADATA};
        assert_ok(vector_index_search(&exact, index, &q, 1));
        assert_int_equal(exact->lists[0].info.exact, 1);
        q.ef = 100; /* so that a graph is walked, though so few are compared as quickly */
        assert_ok(vector_index_search(&hits, index, &q, 1));
        *path = hits->lists[0].info.path;
        for (size_t k = 0; k < exact->lists[0].n; k++, all++)
            for (size_t j = 0; j < hits->lists[0].n; j++)
                found += strcmp(exact->lists[0].items[k].id, hits->lists[0].items[j].id) == 0;
        for (size_t j = 0; j < hits->lists[0].n; j++) {
            assert_true(atoi(hits->lists[0].items[j].id) % 5 != 0);
            if (filter)
                assert_string_equal(hits->lists[0].items[j].metadata, "{\"m\": 3}");
        }
        index_hits_destroy(&exact);
        index_hits_destroy(&hits);
    }
    assert_int_equal(all, 400);
    return (double)found / all;
}

static void test_graphs(void **state)
{
    char *path = index_folder();
    struct infer_index *index = NULL;
    struct vector_index_config config = model_config(&base_alloc_default, path);
    int32_t how;
    (void)state;
    config.traits.dims = GRAPH_DIMS;
    config.traits.degree = 16;
    config.traits.effort = 64;
    config.freeze_rows = GRAPH_ROWS;
    assert_ok(vector_index_open(&index, &config));
    add_many(index, 0);
    add_many(index, GRAPH_ROWS);
    for (int i = 0; i < 2 * GRAPH_ROWS; i += 5) {
        char text[16];
        const char *id = text;
        size_t n = 0;
        snprintf(text, sizeof text, "%d", i);
        assert_ok(vector_index_delete(index, (struct base_view){"", 0}, &id, 1, &n));
        assert_int_equal(n, 1);
    }
    for (int round = 0; round < 3; round++) {
        assert_true(recall(index, NULL, &how) > 0.9);
        assert_int_equal(how, INFER_SEARCH_GRAPH);
        assert_true(recall(index, "{\"m\": 3}", &how) > 0.9);
        if (round == 0)
            assert_ok(vector_index_compact(index));
        else
            reopen(&index, &config);
    }
    vector_index_close(&index);
    index_folder_remove(path);
}

/* Calls of thousands fill parts of four times as many rows as single ones do, of which the next
 * begins a part of its own. */
static void test_large_calls(void **state)
{
    enum { FREEZE = 1500 };
    static float vectors[INDEX_BULK_ROWS][MODEL_DIMS];
    static char ids[INDEX_BULK_ROWS][16];
    static infer_record records[INDEX_BULK_ROWS];
    struct infer_index *index = NULL;
    struct vector_counts counts;
    struct vector_index_config config = model_config(&base_alloc_default, NULL);
    (void)state;
    config.freeze_rows = FREEZE;
    assert_ok(vector_index_open(&index, &config));
    for (int i = 0; i < INDEX_BULK_ROWS; i++) {
        snprintf(ids[i], sizeof ids[i], "%d", i);
        model_vector((uint64_t)i, vectors[i]);
        records[i] = (infer_record){.id = ids[i], .vector = vectors[i]};
    }
    assert_ok(vector_index_upsert(index, records, INDEX_BULK_ROWS));
    assert_int_equal(index_growing(index)->n_rows, INDEX_BULK_ROWS);
    assert_false(index_is_full(index)); /* another such call would join the part */
    index->freeze_rows = INDEX_BULK_ROWS / INDEX_BULK_FACTOR;
    assert_true(index_is_full(index)); /* one that has four times as many would not be joined */
    index->freeze_rows = FREEZE;
    records[0].id = "one more";
    assert_ok(vector_index_upsert(index, records, 1));
    assert_int_equal(index_growing(index)->n_rows, 1);
    assert_ok(vector_index_counts(index, &counts));
    assert_int_equal(counts.n_records, INDEX_BULK_ROWS + 1);
    vector_index_close(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),         cmocka_unit_test(test_folder),
        cmocka_unit_test(test_without_thread), cmocka_unit_test(test_compaction),
        cmocka_unit_test(test_churn),          cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_large_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
