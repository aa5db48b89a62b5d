/* An index that is filled without a graph, searched by partitions, and given a graph later. */
#include "support/test.h"

#include <dirent.h>
#include <infer/infer.h>
#include <unistd.h>

static char folder[512]; /* of the test that runs; removed after it */

static void remove_inside(const char *path)
{
    char name[1024];
    struct dirent *entry;
    DIR *dir = opendir(path);
    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name) != 0) {
            remove_inside(name);
            rmdir(name);
        }
    }
    closedir(dir);
}

static int set_up(void **state)
{
    const char *parent = getenv("TMPDIR");
    (void)state;
    snprintf(folder, sizeof folder, "%s/infer-api-XXXXXX", parent ? parent : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    remove_inside(folder);
    return rmdir(folder);
}

static const char *inside(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

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

/* In memory and in a folder. */
static void test_partitions(void **state)
{
    enum { N = 9000, WIDE = 64 };
    infer_index_options o = {.struct_size = sizeof o,
                             .dims = WIDE,
                             .metric = INFER_METRIC_L2,
                             .graph_degree = 4,
                             .graph_effort = 8,
                             .disable_compaction = 1,
                             .build = INFER_INDEX_BUILD_PARTITIONS};
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
    for (int folder_is = 0; folder_is < 2; folder_is++) {
        const char *path = folder_is ? inside("index") : NULL;
        infer_index *index = NULL;
        assert_ok(infer_index_open(&index, path, &o));
        assert_ok(infer_index_upsert(index, records, N / 2));
        assert_ok(infer_index_upsert(index, records + N / 2, N - N / 2));
        assert_int_equal(path_of(index, v, 0.9f), INFER_SEARCH_FLAT);
        assert_ok(infer_index_compact(index));
        assert_int_equal(path_of(index, v, 0.9f), INFER_SEARCH_PARTITIONS);
        assert_int_equal(path_of(index, v, 1), INFER_SEARCH_FLAT);
        if (path) {
            infer_index_options again = o;
            infer_index_destroy(&index);
            again.build = INFER_INDEX_BUILD_GRAPH;
            assert_ok(infer_index_open(&index, path, &again));
            assert_int_equal(path_of(index, v, 0.9f), INFER_SEARCH_PARTITIONS);
            infer_index_info info = {.struct_size = sizeof info}, then = info;
            assert_ok(infer_index_get_info(index, &info));
            assert_ok(infer_index_compact(index));
            assert_ok(infer_index_get_info(index, &then));
            assert_true(then.file_bytes >= info.file_bytes + N * 16); /* the links */
            assert_ok(infer_index_verify(index));
        }
        infer_index_destroy(&index);
    }
    free(v);
    free(records);
    free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_partitions, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
