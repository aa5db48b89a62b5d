/* The vector index as an application uses it: every function, what it refuses, and what it promises
 * about namespaces, pages, stamps and reading alone. */
#include "index_folder.h"

#include <infer/infer.h>
#include <math.h>
#include <unistd.h>

#define DIMS 4

static infer_index *open_index(const char *path, infer_metric metric)
{
    infer_index *index = NULL;
    const infer_index_options o = {
        .struct_size = sizeof o, .dims = DIMS, .metric = metric, .n_threads = 2};
    assert_ok(infer_index_open(&index, path, &o));
    return index;
}

static infer_status put(infer_index *index, const char *ns, const char *id, float a, float b,
                        const char *metadata)
{
    const float vector[DIMS] = {a, b, 0.5f, 0};
    const infer_record record = {.id = id, .ns = ns, .vector = vector, .metadata = metadata};
    return infer_index_upsert(index, &record, 1);
}

/* Ids of a query's hits, joined. */
static const char *ids_of(const infer_hits *hits, size_t query)
{
    static char text[512];
    text[0] = 0;
    for (size_t i = 0; i < infer_hits_count(hits, query); i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        assert_ok(infer_hits_at(hits, query, i, &hit));
        strcat(strcat(text, i ? " " : ""), hit.id);
    }
    return text;
}

static void assert_search(infer_index *index, infer_index_query q, const char *expected)
{
    infer_hits *hits = NULL;
    q.struct_size = sizeof q;
    assert_ok(infer_index_search(&hits, index, &q, 1));
    assert_string_equal(ids_of(hits, 0), expected);
    infer_hits_destroy(&hits);
}

static uint64_t count(infer_index *index, const char *ns, const char *filter)
{
    uint64_t n = 99;
    assert_ok(infer_index_count(index, ns, filter, &n));
    return n;
}

/* ---------------------------------------------------------------------- tests */

static void test_write_and_find(void **state)
{
    infer_index *index = open_index(index_folder_inside("index"), INFER_METRIC_L2);
    const float near_b[DIMS] = {2, 0.1f, 0.5f, 0};
    infer_hits *hits = NULL;
    infer_hit hit = {.struct_size = sizeof hit};
    infer_search_info info = {.struct_size = sizeof info};
    (void)state;
    assert_ok(put(index, NULL, "a", 1, 0, "{\"year\": 2001, \"tags\": [\"x\", \"y\"]}"));
    assert_ok(put(index, NULL, "b", 2, 0, "{\"year\": 2002}"));
    assert_ok(put(index, NULL, "c", 3, 0, NULL));
    const infer_index_query q = {.struct_size = sizeof q,
                                 .vector = near_b,
                                 .with = INFER_INDEX_WITH_METADATA | INFER_INDEX_WITH_VECTOR};
    assert_ok(infer_index_search(&hits, index, &q, 1));
    assert_int_equal(infer_hits_count(hits, 0), 3);
    assert_int_equal(infer_hits_count(hits, 1), 0);
    assert_ok(infer_hits_at(hits, 0, 0, &hit));
    assert_string_equal(hit.id, "b");
    assert_true(fabsf(hit.distance - 0.01f) < 1e-5f);
    assert_true(fabsf(hit.score + 0.01f) < 1e-5f);
    assert_string_equal(hit.metadata, "{\"year\": 2002}");
    assert_int_equal(hit.metadata_size, 14);
    assert_true(hit.vector[0] == 2);
    assert_ok(infer_hits_info(hits, 0, &info));
    assert_int_equal(info.exact, 1);
    assert_int_equal(info.precision, INFER_INDEX_F32);
    assert_int_equal(info.n_candidates, 3);
    assert_int_equal(info.n_compared, 3);
    assert_int_equal(infer_hits_at(hits, 0, 3, &hit), INFER_ERR_INVALID);
    assert_int_equal(infer_hits_at(hits, 1, 0, &hit), INFER_ERR_INVALID);
    assert_int_equal(infer_hits_info(hits, 1, &info), INFER_ERR_INVALID);
    infer_index_destroy(&index);
    assert_null(index);
    assert_ok(infer_hits_at(hits, 0, 2, &hit)); /* hits outlive the index */
    assert_string_equal(hit.id, "c");
    assert_null(hit.metadata);
    infer_hits_destroy(&hits);
    infer_hits_destroy(&hits);
}

static void test_replacing_and_deleting(void **state)
{
    infer_index *index = open_index(NULL, INFER_METRIC_COSINE);
    const float up[DIMS] = {0, 1, 0, 0};
    const char *const ids[] = {"a", "never", "b", "a"};
    size_t deleted = 9;
    (void)state;
    assert_ok(put(index, NULL, "a", 1, 0, "{\"n\": 1}"));
    assert_ok(put(index, NULL, "b", 1, 1, "{\"n\": 2}"));
    assert_ok(put(index, NULL, "c", 1, 2, "{\"n\": 3}"));
    assert_search(index, (infer_index_query){.vector = up}, "c b a");
    assert_ok(put(index, NULL, "a", 0, 5, "{\"n\": 4}"));
    assert_search(index, (infer_index_query){.vector = up}, "a c b");
    assert_search(index, (infer_index_query){.id = "a"}, "c b"); /* not among its own hits */
    assert_search(index, (infer_index_query){.id = "a", .top_k = 1}, "c");
    assert_int_equal(count(index, NULL, NULL), 3);
    assert_ok(infer_index_delete(index, NULL, ids, 4, &deleted));
    assert_int_equal(deleted, 2);
    assert_search(index, (infer_index_query){.vector = up}, "c");
    const infer_index_query gone = {.struct_size = sizeof gone, .id = "a"};
    infer_hits *hits = NULL;
    assert_int_equal(infer_index_search(&hits, index, &gone, 1), INFER_ERR_NOT_FOUND);
    assert_null(hits);
    assert_ok(put(index, NULL, "d", 1, 2, "{\"n\": 3}"));
    assert_ok(infer_index_delete_where(index, NULL, "{\"n\": {\"$gte\": 3}}", &deleted));
    assert_int_equal(deleted, 2);
    assert_int_equal(count(index, "", NULL), 0);
    infer_index_destroy(&index);
}

static void test_namespaces(void **state)
{
    infer_index *index = open_index(index_folder_inside("index"), INFER_METRIC_DOT);
    const float right[DIMS] = {1, 0, 0, 0};
    const char *const ids[] = {"same"};
    infer_hits *hits = NULL;
    infer_index_info info = {.struct_size = sizeof info};
    size_t deleted;
    (void)state;
    assert_ok(put(index, "one", "same", 1, 0, "{\"in\": 1}"));
    assert_ok(put(index, "two", "same", 2, 0, "{\"in\": 2}"));
    assert_ok(put(index, "two", "other", 3, 0, "{\"in\": 2}"));
    assert_search(index, (infer_index_query){.vector = right}, "");
    assert_search(index, (infer_index_query){.vector = right, .ns = "one"}, "same");
    assert_search(index, (infer_index_query){.vector = right, .ns = "two"}, "other same");
    assert_search(index, (infer_index_query){.vector = right, .ns = "two", .filter = "{\"in\": 1}"},
                  "");
    assert_int_equal(count(index, NULL, NULL), 3);
    assert_int_equal(count(index, "two", NULL), 2);
    assert_int_equal(count(index, NULL, "{\"in\": 2}"), 2);
    assert_ok(infer_index_get(&hits, index, "two", ids, 1, INFER_INDEX_WITH_METADATA));
    infer_hit hit = {.struct_size = sizeof hit};
    assert_ok(infer_hits_at(hits, 0, 0, &hit));
    assert_string_equal(hit.metadata, "{\"in\": 2}");
    infer_hits_destroy(&hits);
    assert_ok(infer_index_delete(index, "one", ids, 1, &deleted));
    assert_int_equal(deleted, 1);
    assert_int_equal(count(index, "two", NULL), 2);
    assert_ok(infer_index_get_info(index, &info));
    assert_int_equal(info.n_namespaces, 1);
    assert_ok(infer_index_delete_where(index, "two", NULL, NULL));
    assert_int_equal(count(index, NULL, NULL), 0);
    infer_index_destroy(&index);
}

static void test_pages_under_writes(void **state)
{
    infer_index *index = open_index(NULL, INFER_METRIC_L2);
    char id[16], after[16] = "", all[2048] = "";
    int n = 0;
    (void)state;
    for (int i = 0; i < 50; i++) {
        snprintf(id, sizeof id, "%02d", i * 2);
        assert_ok(put(index, NULL, id, (float)i, 1, i % 2 ? "{\"odd\": true}" : NULL));
    }
    for (int page = 0;; page++) {
        infer_hits *hits = NULL;
        assert_ok(infer_index_list(&hits, index, NULL, NULL, *after ? after : NULL, 7, 0));
        const size_t found = infer_hits_count(hits, 0);
        for (size_t i = 0; i < found; i++) {
            infer_hit hit = {.struct_size = sizeof hit};
            assert_ok(infer_hits_at(hits, 0, i, &hit));
            snprintf(after, sizeof after, "%s", hit.id);
            strcat(strcat(all, " "), hit.id);
            n++;
        }
        infer_hits_destroy(&hits);
        if (!found)
            break;
        /* In front of the page and behind it; and what is there is written anew. */
        snprintf(id, sizeof id, "%02d", page * 2 + 1);
        assert_ok(put(index, NULL, id, 1, 1, NULL));
        snprintf(id, sizeof id, "%02d", page * 12);
        assert_ok(put(index, NULL, id, 2, 1, NULL));
        if (page == 2)
            assert_ok(infer_index_compact(index));
    }
    for (int i = 0; i < 50; i++) { /* each that was there all the time, once */
        snprintf(id, sizeof id, " %02d", i * 2);
        char *at = strstr(all, id);
        assert_non_null(at);
        assert_null(strstr(at + 1, id));
    }
    assert_true(n >= 50);
    infer_hits *hits = NULL;
    assert_ok(infer_index_list(&hits, index, NULL, "{\"odd\": true}", "89", 0, 0));
    assert_string_equal(ids_of(hits, 0), "90 94 98");
    infer_hits_destroy(&hits);
    infer_index_destroy(&index);
}

static void test_batches(void **state)
{
    infer_index *index = open_index(NULL, INFER_METRIC_L2);
    float vectors[40][DIMS];
    infer_index_query queries[40];
    infer_hits *hits = NULL;
    char id[16];
    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(id, sizeof id, "%d", i);
        assert_ok(put(index, i % 4 ? NULL : "fourth", id, (float)i, 1,
                      i % 2 ? "{\"odd\": true}" : "{\"odd\": false}"));
        vectors[i][0] = (float)i + 0.1f;
        vectors[i][1] = 1;
        vectors[i][2] = 0.5f;
        vectors[i][3] = 0;
        queries[i] = (infer_index_query){.struct_size = sizeof queries[i],
                                         .vector = vectors[i],
                                         .ns = i % 4 ? NULL : "fourth",
                                         .filter = i % 3 ? NULL : "{\"odd\": true}",
                                         .top_k = 1 + i % 3};
    }
    assert_ok(infer_index_search(&hits, index, queries, 40));
    for (int i = 0; i < 40; i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        const int none = i % 4 == 0 && i % 3 == 0; /* a fourth is not odd */
        assert_int_equal(infer_hits_count(hits, (size_t)i), none ? 0 : 1 + i % 3);
        if (none || (i % 3 == 0 && i % 2 == 0))
            continue;
        assert_ok(infer_hits_at(hits, (size_t)i, 0, &hit));
        snprintf(id, sizeof id, "%d", i);
        assert_string_equal(hit.id, id);
    }
    infer_hits_destroy(&hits);
    infer_index_destroy(&index);
}

static void test_types_and_metrics(void **state)
{
    (void)state;
    for (infer_index_type type = INFER_INDEX_F32; type <= INFER_INDEX_BINARY; type++)
        for (infer_metric metric = INFER_METRIC_COSINE; metric <= INFER_METRIC_L2; metric++) {
            infer_index *index = NULL;
            infer_hits *hits = NULL;
            infer_hit hit = {.struct_size = sizeof hit};
            const float vectors[2][DIMS] = {{1, 1, -1, 1}, {-1, 1, 1, -1}};
            const infer_index_options o = {
                .struct_size = sizeof o, .dims = DIMS, .metric = metric, .type = type};
            const infer_record records[2] = {{.id = "a", .vector = vectors[0]},
                                             {.id = "b", .vector = vectors[1]}};
            const infer_index_query q = {.struct_size = sizeof q, .vector = vectors[0]};
            assert_ok(infer_index_open(&index, NULL, &o));
            assert_ok(infer_index_upsert(index, records, 2));
            assert_ok(infer_index_search(&hits, index, &q, 1));
            assert_ok(infer_hits_at(hits, 0, 0, &hit));
            assert_string_equal(hit.id, "a");
            const float score[] = {1, 4, 0}, distance[] = {0, -4, 0};
            assert_true(fabsf(hit.score - score[metric]) < 0.05f);
            assert_true(fabsf(hit.distance - distance[metric]) < 0.05f);
            infer_hits_destroy(&hits);
            infer_index_destroy(&index);
        }
}

static void test_records_refused(void **state)
{
    infer_index *index = open_index(NULL, INFER_METRIC_COSINE);
    const float good[DIMS] = {1, 2, 3, 4}, zero[DIMS] = {0}, nan[DIMS] = {1, NAN, 0, 0};
    char long_id[300];
    memset(long_id, 'x', 299);
    long_id[299] = 0;
    (void)state;
    const struct {
        infer_record record;
        infer_status status;
    } bad[] = {
        {{.id = NULL, .vector = good}, INFER_ERR_INVALID},
        {{.id = "", .vector = good}, INFER_ERR_INVALID},
        {{.id = long_id, .vector = good}, INFER_ERR_INVALID},
        {{.id = "\xff\xfe", .vector = good}, INFER_ERR_INVALID},
        {{.id = "a", .ns = long_id, .vector = good}, INFER_ERR_INVALID},
        {{.id = "a", .vector = NULL}, INFER_ERR_INVALID},
        {{.id = "a", .vector = zero}, INFER_ERR_INVALID},
        {{.id = "a", .vector = nan}, INFER_ERR_INVALID},
        {{.id = "a", .vector = good, .metadata = "[1]"}, INFER_ERR_FORMAT},
        {{.id = "a", .vector = good, .metadata = "{\"a\": }"}, INFER_ERR_FORMAT},
        {{.id = "a", .vector = good, .metadata = "{}", .metadata_size = (1 << 20) + 1},
         INFER_ERR_LIMIT},
        {{.id = "a", .vector = good, .reserved = {1}}, INFER_ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const infer_record two[2] = {{.id = "first", .vector = good}, bad[i].record};
        assert_int_equal(infer_index_upsert(index, two, 2), bad[i].status);
        assert_non_null(strstr(infer_last_error(), "record 1"));
        assert_int_equal(count(index, NULL, NULL), 0); /* all or none */
    }
    infer_index_destroy(&index);
}

static void test_queries_refused(void **state)
{
    infer_index *index = open_index(NULL, INFER_METRIC_COSINE);
    infer_hits *hits = NULL;
    const float good[DIMS] = {1, 2, 3, 4}, zero[DIMS] = {0}, nan[DIMS] = {1, NAN, 0, 0};
    (void)state;
    const infer_index_query queries[] = {
        {.struct_size = 1, .vector = good},
        {.struct_size = sizeof queries[0]},
        {.struct_size = sizeof queries[0], .vector = good, .id = "a"},
        {.struct_size = sizeof queries[0], .vector = zero},
        {.struct_size = sizeof queries[0], .vector = nan},
        {.struct_size = sizeof queries[0], .vector = good, .top_k = -1},
        {.struct_size = sizeof queries[0], .vector = good, .recall = 1.5f},
        {.struct_size = sizeof queries[0], .vector = good, .recall = -1},
        {.struct_size = sizeof queries[0], .vector = good, .ef = -1},
        {.struct_size = sizeof queries[0], .vector = good, .approximate_scores = 2},
        {.struct_size = sizeof queries[0], .vector = good, .reserved = 1},
    };
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++)
        assert_int_equal(infer_index_search(&hits, index, &queries[i], 1), INFER_ERR_INVALID);
    infer_index_query q = {
        .struct_size = sizeof q, .vector = good, .filter = "{\"a\": {\"$no\": 1}}"};
    assert_int_equal(infer_index_search(&hits, index, &q, 1), INFER_ERR_FORMAT);
    assert_non_null(strstr(infer_last_error(), "$no"));
    q = (infer_index_query){.struct_size = sizeof q, .vector = good, .with = 8};
    assert_int_equal(infer_index_search(&hits, index, &q, 1), INFER_ERR_UNSUPPORTED);
    assert_int_equal(infer_index_search(&hits, index, &q, 0), INFER_ERR_INVALID);
    assert_int_equal(infer_index_search(NULL, index, &q, 1), INFER_ERR_INVALID);
    assert_int_equal(infer_index_list(&hits, index, NULL, NULL, NULL, 1 << 21, 0), INFER_ERR_LIMIT);
    assert_int_equal(infer_index_add_field(index, ""), INFER_ERR_INVALID);
    assert_null(hits);
    infer_index_destroy(&index);
}

static void test_options_refused(void **state)
{
    infer_index *index = open_index(NULL, INFER_METRIC_COSINE), *other = NULL;
    (void)state;
    const infer_index_options options[] = {
        {.struct_size = 3, .dims = 4},
        {.struct_size = sizeof options[0]}, /* dims of an index in memory */
        {.struct_size = sizeof options[0], .dims = 8193},
        {.struct_size = sizeof options[0], .dims = 4, .metric = 3},
        {.struct_size = sizeof options[0], .dims = 4, .type = 5},
        {.struct_size = sizeof options[0], .dims = 4, .graph_degree = 3},
        {.struct_size = sizeof options[0], .dims = 4, .graph_effort = 5000},
        {.struct_size = sizeof options[0], .dims = 4, .read_only = 1},
        {.struct_size = sizeof options[0], .dims = 4, .n_threads = -1},
        {.struct_size = sizeof options[0], .dims = 4, .sync = 2},
        {.struct_size = sizeof options[0], .dims = 4, .build = 2},
        {.struct_size = sizeof options[0], .dims = 4, .reserved = 1},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        assert_int_equal(infer_index_open(&other, NULL, &options[i]), INFER_ERR_INVALID);
    assert_null(other);
    infer_index_destroy(&index);
    infer_index_destroy(&index);
    infer_index_destroy(NULL);
}

static void test_opening(void **state)
{
    infer_index *index = NULL, *second = NULL;
    infer_index_options o = {.struct_size = sizeof o, .must_exist = 1};
    (void)state;
    assert_int_equal(infer_index_open(&index, index_folder_inside("index"), &o),
                     INFER_ERR_NOT_FOUND);
    o.must_exist = 0; /* without dims none can be made */
    assert_int_equal(infer_index_open(&index, index_folder_inside("index"), &o),
                     INFER_ERR_NOT_FOUND);
    index = open_index(index_folder_inside("index"), INFER_METRIC_DOT);
    assert_int_equal(infer_index_open(&second, index_folder_inside("index"), &o), INFER_ERR_BUSY);
    assert_ok(put(index, NULL, "a", 1, 0, NULL));
    infer_index_destroy(&index);
    o.dims = 5;
    assert_int_equal(infer_index_open(&index, index_folder_inside("index"), &o), INFER_ERR_INVALID);
    o.dims = DIMS;
    o.metric = INFER_METRIC_L2;
    assert_int_equal(infer_index_open(&index, index_folder_inside("index"), &o), INFER_ERR_INVALID);
    o.dims = 0; /* what it has */
    assert_ok(infer_index_open(&index, index_folder_inside("index"), &o));
    infer_index_info info = {.struct_size = sizeof info};
    assert_ok(infer_index_get_info(index, &info));
    assert_int_equal(info.dims, DIMS);
    assert_int_equal(info.metric, INFER_METRIC_DOT);
    assert_int_equal(info.n_records, 1);
    assert_int_equal(info.graph_degree, 32);
    assert_true(info.file_bytes > 0);
    assert_true(info.memory_bytes > 0);
    assert_null(info.failure);
    infer_index_destroy(&index);
}

static void test_reading_alone(void **state)
{
    infer_index *index = open_index(index_folder_inside("index"), INFER_METRIC_L2), *reader = NULL;
    const infer_index_options o = {.struct_size = sizeof o, .read_only = 1};
    const float v[DIMS] = {1, 0, 0.5f, 0};
    const char *const ids[] = {"a"};
    (void)state;
    assert_ok(put(index, NULL, "a", 1, 0, "{\"a\": 1}"));
    assert_ok(infer_index_open(&reader, index_folder_inside("index"), &o)); /* beside the writer */
    assert_ok(put(index, NULL, "b", 1, 0, NULL));
    assert_search(reader, (infer_index_query){.vector = v, .filter = "{\"a\": 1}"}, "a");
    assert_int_equal(count(reader, NULL, NULL), 1);
    assert_int_equal(put(reader, NULL, "c", 1, 0, NULL), INFER_ERR_UNSUPPORTED);
    assert_int_equal(infer_index_delete(reader, NULL, ids, 1, NULL), INFER_ERR_UNSUPPORTED);
    assert_int_equal(infer_index_delete_where(reader, NULL, NULL, NULL), INFER_ERR_UNSUPPORTED);
    assert_int_equal(infer_index_compact(reader), INFER_ERR_UNSUPPORTED);
    assert_int_equal(infer_index_add_field(reader, "a"), INFER_ERR_UNSUPPORTED);
    assert_ok(infer_index_verify(reader));
    infer_index_info info = {.struct_size = sizeof info};
    assert_ok(infer_index_get_info(reader, &info));
    assert_int_equal(info.read_only, 1);
    infer_index_destroy(&reader);
    infer_index_destroy(&index);
}

static void test_stamps(void **state)
{
    infer_index *index = NULL;
    infer_index_stamp stamp = {
        .struct_size = sizeof stamp, .model = "abc", .pooling = "mean", .normalized = 1};
    infer_index_options o = {.struct_size = sizeof o, .dims = DIMS, .stamp = &stamp};
    const float v[DIMS] = {1, 0, 0, 0};
    infer_hits *hits = NULL;
    (void)state;
    assert_ok(infer_index_open(&index, index_folder_inside("index"), &o));
    infer_index_query q = {.struct_size = sizeof q, .vector = v, .stamp = &stamp};
    assert_ok(infer_index_search(&hits, index, &q, 1));
    infer_hits_destroy(&hits);
    infer_index_stamp wrong = stamp;
    wrong.model = "abd";
    q.stamp = &wrong;
    assert_int_equal(infer_index_search(&hits, index, &q, 1), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "abd"));
    wrong.model = "abc";
    wrong.pooling = "cls";
    assert_int_equal(infer_index_search(&hits, index, &q, 1), INFER_ERR_INVALID);
    wrong.model = NULL; /* not known: not checked */
    assert_ok(infer_index_search(&hits, index, &q, 1));
    infer_hits_destroy(&hits);
    infer_index_info info = {.struct_size = sizeof info};
    assert_ok(infer_index_get_info(index, &info));
    assert_string_equal(info.stamp.model, "abc");
    assert_string_equal(info.stamp.pooling, "mean");
    assert_int_equal(info.stamp.normalized, 1);
    infer_index_destroy(&index);
    wrong.model = "abd";
    o.stamp = &wrong;
    assert_int_equal(infer_index_open(&index, index_folder_inside("index"), &o), INFER_ERR_INVALID);
    o.stamp = &stamp;
    assert_ok(infer_index_open(&index, index_folder_inside("index"), &o));
    infer_index_destroy(&index);
}

static int32_t count_calls(double fraction, const char *stage, void *user)
{
    assert_true(fraction >= 0 && fraction <= 1);
    assert_non_null(stage);
    ++*(int *)user;
    return 0;
}

static void test_upkeep(void **state)
{
    infer_index *index = NULL, *copy = NULL;
    int n_calls = 0;
    const infer_index_options o = {.struct_size = sizeof o,
                                   .dims = DIMS,
                                   .metric = INFER_METRIC_L2,
                                   .disable_compaction = 1,
                                   .progress = count_calls,
                                   .progress_user_data = &n_calls};
    const float v[DIMS] = {1, 0, 0.5f, 0};
    char path[600], name[32];
    (void)state;
    assert_ok(infer_index_open(&index, index_folder_inside("index"), &o));
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "%c", 'a' + i);
        assert_ok(put(index, NULL, name, (float)i, 0, i % 2 ? "{\"b\": {\"c\": 1}}" : NULL));
    }
    assert_ok(infer_index_add_field(index, "b.c"));
    assert_ok(infer_index_add_field(index, "b.c"));
    assert_int_equal(count(index, NULL, "{\"b.c\": 1}"), 10);
    snprintf(path, sizeof path, "%s", index_folder_inside("copy"));
    assert_ok(infer_index_snapshot(index, path));
    assert_ok(infer_index_delete_where(index, NULL, "{\"b.c\": 1}", NULL));
    assert_ok(infer_index_compact(index));
    infer_index_info info = {.struct_size = sizeof info};
    assert_ok(infer_index_get_info(index, &info));
    assert_int_equal(info.n_records, 10);
    assert_int_equal(info.n_deleted, 0);
    assert_int_equal(info.n_upserts, 20);
    assert_int_equal(info.n_deletes, 10);
    assert_ok(infer_index_verify(index));
    assert_ok(infer_index_open(&copy, path, &o));
    assert_int_equal(count(copy, NULL, NULL), 20);
    assert_search(copy, (infer_index_query){.vector = v, .top_k = 1}, "b");
    assert_search(index, (infer_index_query){.vector = v, .top_k = 2}, "a c");
    assert_int_not_equal(infer_index_snapshot(index, path), INFER_OK); /* it is there */
    for (int i = 1; i < 64; i++) {
        snprintf(name, sizeof name, "f%d", i);
        assert_ok(infer_index_add_field(index, name));
    }
    assert_int_equal(infer_index_add_field(index, "f64"), INFER_ERR_LIMIT);
    infer_index_destroy(&copy);
    infer_index_destroy(&index);
}

static void test_table(void **state)
{
    const infer_api *api = infer_get_api(INFER_API_VERSION);
    infer_index *index = NULL;
    const infer_index_options o = {.struct_size = sizeof o, .dims = 2};
    (void)state;
    assert_ok(api->index_open(&index, NULL, &o));
    assert_ok(api->index_compact(index));
    api->index_destroy(&index);
    assert_null(index);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, index_folder_set_up, index_folder_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_write_and_find),  TEST(test_replacing_and_deleting),
        TEST(test_namespaces),      TEST(test_pages_under_writes),
        TEST(test_batches),         TEST(test_types_and_metrics),
        TEST(test_records_refused), TEST(test_queries_refused),
        TEST(test_options_refused), TEST(test_opening),
        TEST(test_reading_alone),   TEST(test_stamps),
        TEST(test_upkeep),          TEST(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
