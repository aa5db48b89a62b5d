/* An index that is filled without a graph, searched by partitions, and given a graph later. */
#include "index_folder.h"

#include <infer/infer.h>
#include <unistd.h>

static infer_search_path path_of(infer_index *index, const float *vector, float recall)
{
    const infer_index_query q = {
        .struct_size = sizeof q, .vector = vector, .top_k = 5, .recall = recall};
    infer_search_info info = {.struct_size = sizeof info};
    infer_hits *hits = NULL;
    assert_ok(infer_index_search(&hits, index, &q, 1));
    assert_int_equal(infer_hits_count(hits, 0), 5);
    assert_ok(infer_hits_info(hits, 0, &info));
    infer_hits_destroy(&hits);
    return info.path;
}

enum { N = 4500, WIDE = 96 };

static infer_index_info info_of(infer_index *index)
{
    infer_index_info info = {.struct_size = sizeof info};
    assert_ok(infer_index_get_info(index, &info));
    return info;
}

static infer_index *open_as(const char *path, infer_index_build build, int32_t in_background)
{
    const infer_index_options o = {.struct_size = sizeof o,
                                   .dims = WIDE,
                                   .metric = INFER_METRIC_L2,
                                   .graph_degree = 16,
                                   .graph_effort = 40,
                                   .disable_compaction = !in_background,
                                   .build = build};
    infer_index *index = NULL;
    assert_ok(infer_index_open(&index, path, &o));
    return index;
}

/* Opened again, it is searched as it is; then it has the graph's links too. */
static void check_graph_comes(const char *path, const float *v, int32_t in_background)
{
    infer_index *index = open_as(path, INFER_INDEX_BUILD_PARTITIONS, 0);
    const uint64_t bytes = info_of(index).file_bytes;
    assert_int_equal(path_of(index, v, 0.9f), INFER_SEARCH_PARTITIONS);
    assert_ok(infer_index_compact(index)); /* there is nothing to do */
    assert_true(info_of(index).file_bytes == bytes);
    infer_index_destroy(&index);
    index = open_as(path, INFER_INDEX_BUILD_GRAPH, in_background);
    if (!in_background)
        assert_ok(infer_index_compact(index));
    while (!info_of(index).n_compactions) {
        assert_null(info_of(index).failure);
        usleep(1000);
    }
    assert_true(info_of(index).file_bytes >= bytes + N * 16); /* links, less the partitions */
    assert_int_equal(info_of(index).n_records, N);
    assert_ok(infer_index_verify(index));
    infer_index_destroy(&index);
}

/* In memory, and in a folder that gets its graph by a call or in the background. */
static void test_partitions(void **state)
{
    float *v = malloc(N * WIDE * sizeof *v);
    infer_record *records = calloc(N, sizeof *records);
    char(*ids)[8] = calloc(N, sizeof *ids);
    uint64_t seed = 5;
    (void)state;
    for (int i = 0; i < N; i++) {
        uint64_t centre = (uint64_t)i % 200;
        for (int d = 0; d < WIDE; d++)
            v[i * WIDE + d] = 0.4f * test_randf(&seed) + test_randf(&centre);
        snprintf(ids[i], sizeof ids[i], "%d", i);
        records[i] = (infer_record){.id = ids[i], .vector = v + i * WIDE};
    }
    for (int kind = 0; kind < 3; kind++) {
        const char *path =
            kind == 0 ? NULL : index_folder_inside(kind == 1 ? "called" : "background");
        infer_index *index = open_as(path, INFER_INDEX_BUILD_PARTITIONS, 0);
        assert_ok(infer_index_upsert(index, records, N / 2));
        assert_ok(infer_index_upsert(index, records + N / 2, N - N / 2));
        assert_int_equal(path_of(index, v, 0.9f), INFER_SEARCH_FLAT);
        assert_ok(infer_index_compact(index));
        assert_int_equal(path_of(index, v, 0.9f), INFER_SEARCH_PARTITIONS);
        assert_int_equal(path_of(index, v, 1), INFER_SEARCH_FLAT);
        infer_index_destroy(&index);
        if (path)
            check_graph_comes(path, v, kind == 2);
    }
    free(v);
    free(records);
    free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_partitions, index_folder_set_up,
                                        index_folder_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
