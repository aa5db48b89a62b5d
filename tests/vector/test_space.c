/* Spaces: recall of the graph for all metrics and types, under filters and deletion, ef by recall,
 * few rows, many dims, copies; the same answers twice. */
#include "../support/test_alloc.h"
#include "space_sample.h"

#include "base/error.h"
#include "vector/graph.h"

enum { DIMS = 40, ROWS = 2500, QUERIES = 40 };

static struct infer_kernels kernels;

static const int32_t types[] = {INFER_INDEX_F32, INFER_INDEX_F16, INFER_INDEX_BF16, INFER_INDEX_I8,
                                INFER_INDEX_BINARY};
static const int32_t metrics[] = {INFER_METRIC_COSINE, INFER_METRIC_DOT, INFER_METRIC_L2};

struct set {
    struct vector_space *space;
    float *rows, *queries;
    int32_t n, dims;
};

static void make(struct set *s, int32_t n, int32_t dims, int32_t metric, int32_t type)
{
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, dims, metric, type);
    int32_t first;

    s->n = n;
    s->dims = dims;
    s->rows = malloc((size_t)n * (size_t)dims * sizeof(float));
    s->queries = malloc((size_t)QUERIES * (size_t)dims * sizeof(float));
    sample_fill(s->rows, n, dims, 25, 1);
    sample_fill(s->queries, QUERIES, dims, 25, 2);
    assert_ok(vector_space_create(&s->space, &config));
    assert_ok(vector_space_add(s->space, s->rows, n, &first, NULL));
    assert_int_equal(first, 0);
    assert_int_equal(vector_space_size(s->space), n);
}

static void drop(struct set *s)
{
    vector_space_destroy(&s->space);
    free(s->rows);
    free(s->queries);
}

static double recall_of(const struct set *s, const struct vector_search *search, int32_t path)
{
    return sample_recall(s->space, s->queries, QUERIES, s->dims, search, path);
}

/* ------------------------------------------------------------------ recall */

static void all_metrics_and_types_reach_what_is_asked_for(void **state)
{
    (void)state;
    for (size_t m = 0; m < BASE_COUNT(metrics); m++) {
        for (size_t t = 0; t < BASE_COUNT(types); t++) {
            const struct vector_search search = {.k = 10, .ef = 120, .n_rows = ROWS};
            struct set s;
            double recall;

            make(&s, ROWS, DIMS, metrics[m], types[t]);
            recall = recall_of(&s, &search, INFER_SEARCH_GRAPH);
            if (recall < 0.97) {
                fail_msg("metric %d, type %d: recall %.3f", (int)metrics[m], (int)types[t], recall);
            }
            drop(&s);
        }
    }
}

static void dims_from_1_to_8192_are_searched(void **state)
{
    static const int32_t dims[] = {1, 2, 15, 17, 48, 49, 193, 8192};
    (void)state;

    for (size_t i = 0; i < BASE_COUNT(dims); i++) {
        const int32_t n = dims[i] > 1000 ? 1060 : 1300;
        const struct vector_search search = {.k = 10, .ef = 100, .n_rows = n};
        struct set s;
        double recall;

        make(&s, n, dims[i], INFER_METRIC_L2, INFER_INDEX_I8);
        recall = recall_of(&s, &search, INFER_SEARCH_GRAPH);
        if (recall < 0.95) {
            fail_msg("%d dims: recall %.3f", (int)dims[i], recall);
        }
        drop(&s);
    }
}

static void ef_follows_from_recall_as_it_was_measured(void **state)
{
    static const float asked[] = {0.8f, 0.9f, 0.95f, 0.99f};
    struct set s;
    struct vector_scratch *scratch;
    int32_t before = 0;
    (void)state;

    make(&s, 4 * ROWS, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F16);
    assert_ok(vector_space_tune(s.space, NULL));
    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (size_t i = 0; i < BASE_COUNT(asked); i++) {
        const struct vector_search search = {
            .query = s.queries, .k = 10, .recall = asked[i], .n_rows = s.n};
        struct vector_found found[10];
        struct vector_how how;
        int32_t n_found;
        double recall = recall_of(&s, &search, 0);

        if (recall < (double)asked[i] - 0.03) {
            fail_msg("recall %.3f where %g was asked for", recall, (double)asked[i]);
        }
        assert_ok(vector_space_search(s.space, scratch, &search, found, &n_found, &how));
        assert_int_equal(how.path, INFER_SEARCH_GRAPH);
        assert_true(how.ef >= before && how.ef >= 10);
        assert_true(how.n_compared < s.n / 2);
        before = how.ef;
    }
    vector_scratch_destroy(&scratch);
    drop(&s);
}

static void few_rows_are_all_compared(void **state)
{
    const struct vector_search search = {.k = 10, .recall = 0.5f, .n_rows = 300};
    struct set s;
    (void)state;

    make(&s, 300, DIMS, INFER_METRIC_DOT, INFER_INDEX_F32);
    assert_true(recall_of(&s, &search, INFER_SEARCH_FLAT) == 1.0);
    drop(&s);
}

static void copies_of_one_vector_hide_no_others(void **state)
{
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_F32);
    const struct vector_search search = {.k = 10, .ef = 100, .n_rows = ROWS};
    struct set s = {.n = ROWS, .dims = DIMS};
    int32_t first;
    (void)state;

    s.rows = malloc((size_t)ROWS * DIMS * sizeof(float));
    s.queries = malloc((size_t)QUERIES * DIMS * sizeof(float));
    sample_fill(s.rows, ROWS, DIMS, 25, 1);
    sample_fill(s.queries, QUERIES, DIMS, 25, 2);
    for (int32_t i = 0; i < ROWS; i++) { /* of each of 5 vectors 300, the others alone */
        if (i % 5 < 3) {
            memcpy(s.rows + (size_t)i * DIMS, s.rows + (size_t)(i % 25 / 5) * DIMS,
                   DIMS * sizeof(float));
        }
    }
    memcpy(s.queries, s.rows, 2 * DIMS * sizeof(float));
    assert_ok(vector_space_create(&s.space, &config));
    assert_ok(vector_space_add(s.space, s.rows, ROWS, &first, NULL));
    assert_true(recall_of(&s, &search, INFER_SEARCH_GRAPH) >= 0.97);
    drop(&s);
}

static void rows_added_one_by_one_are_found_at_once(void **state)
{
    struct set s;
    struct vector_scratch *scratch;
    int32_t n_first = 0;
    (void)state;

    make(&s, 1500, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F16);
    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (int32_t i = 0; i < 200; i++) {
        float x[DIMS];
        struct vector_search search = {.query = x, .k = 1, .ef = 60};
        struct vector_found found;
        struct vector_how how;
        int32_t n_found, first;

        sample_fill(x, 1, DIMS, 25, 100 + (uint64_t)i);
        assert_ok(vector_space_add(s.space, x, 1, &first, NULL));
        assert_int_equal(first, 1500 + i);
        search.n_rows = first + 1;
        assert_ok(vector_space_search(s.space, scratch, &search, &found, &n_found, &how));
        n_first += n_found == 1 && found.row == first;
        search.n_rows = first; /* who does not know of it does not see it */
        assert_ok(vector_space_search(s.space, scratch, &search, &found, &n_found, &how));
        assert_true(n_found == 1 && found.row < first);
    }
    assert_true(n_first >= 198);
    vector_scratch_destroy(&scratch);
    drop(&s);
}

/* ----------------------------------------------------------------- filters */

static int32_t draw_bits(uint64_t *bits, int32_t n, double share, uint64_t seed)
{
    int32_t n_set = 0;

    memset(bits, 0, (size_t)(n + 63) / 64 * 8);
    for (int32_t i = 0; i < n; i++) {
        if ((double)test_rand(&seed) < share * 4294967296.0) {
            bits[i / 64] |= UINT64_C(1) << i % 64;
            n_set++;
        }
    }
    return n_set;
}

static void filters_of_any_share_leave_recall_as_it_was(void **state)
{
    static const double shares[] = {0.001, 0.01, 0.1, 0.5, 0.9};
    static const int32_t of_types[] = {INFER_INDEX_F16, INFER_INDEX_BINARY};
    (void)state;

    for (size_t t = 0; t < BASE_COUNT(of_types); t++) {
        uint64_t bits[(4 * ROWS + 63) / 64];
        struct set s;

        make(&s, 4 * ROWS, DIMS, INFER_METRIC_COSINE, of_types[t]);
        for (size_t i = 0; i < BASE_COUNT(shares); i++) {
            struct vector_search search = {.k = 10, .recall = 0.95f, .n_rows = s.n};
            double recall;

            search.allowed.bits = bits;
            search.allowed.n = s.n;
            search.allowed.n_set = draw_bits(bits, s.n, shares[i], 3);
            recall = recall_of(&s, &search, shares[i] < 0.05 ? INFER_SEARCH_LIST : 0);
            if (recall < 0.95) {
                fail_msg("type %d, share %g: recall %.3f", (int)of_types[t], shares[i], recall);
            }
            search.recall = 0.0f;
            search.ef = 40;
            recall = recall_of(&s, &search,
                               shares[i] > 0.8 && of_types[t] == INFER_INDEX_F16
                                   ? INFER_SEARCH_GRAPH_FILTERED
                                   : 0);
            if (recall < 0.9) {
                fail_msg("type %d, share %g: recall %.3f by ef", (int)of_types[t], shares[i],
                         recall);
            }
        }
        drop(&s);
    }
}

/* The rows that a filter leaves are the farther half from each query: the graph leads away from
 * them. */
static void filters_against_the_query_are_answered_as_well(void **state)
{
    static uint64_t bits[(4 * ROWS + 63) / 64];
    struct set s;
    struct vector_scratch *scratch;
    struct vector_found *all;
    double sum = 0.0;
    (void)state;

    make(&s, 4 * ROWS, DIMS, INFER_METRIC_L2, INFER_INDEX_F16);
    all = malloc((size_t)s.n * sizeof(*all));
    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (int32_t q = 0; q < 10; q++) {
        struct vector_search search = {
            .query = s.queries + (size_t)q * DIMS, .k = s.n, .recall = 1.0f, .n_rows = s.n};
        struct vector_how how;
        int32_t n_found;

        assert_ok(vector_space_search(s.space, scratch, &search, all, &n_found, &how));
        assert_int_equal(n_found, s.n);
        memset(bits, 0, sizeof(bits));
        for (int32_t i = s.n / 2; i < s.n; i++) {
            bits[all[i].row / 64] |= UINT64_C(1) << all[i].row % 64;
        }
        search = (struct vector_search){.k = 10, .recall = 0.9f, .n_rows = s.n};
        search.allowed = (struct vector_rows){bits, s.n, s.n - s.n / 2};
        sum += sample_recall(s.space, s.queries + (size_t)q * DIMS, 1, DIMS, &search, 0);
    }
    assert_true(sum / 10 >= 0.9);
    vector_scratch_destroy(&scratch);
    free(all);
    drop(&s);
}

/* Seen from elsewhere all rows of a cluster are about equally far: its codes tell them apart badly,
 * and more of them must be compared as they are kept. */
static void a_list_of_rows_that_are_all_as_far_is_looked_at_closely(void **state)
{
    enum { FAR_DIMS = 384, FAR_ROWS = 1500, FAR_FROM = 200 };
    static uint64_t bits[(FAR_ROWS + 63) / 64];
    struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, FAR_DIMS, INFER_METRIC_L2, INFER_INDEX_F32);
    struct vector_space *space;
    float *rows = malloc(sizeof(float) * FAR_ROWS * FAR_DIMS);
    uint64_t random = 8;
    int32_t first;
    (void)state;

    for (int32_t i = 0; i < FAR_ROWS * FAR_DIMS; i++) {
        rows[i] = test_randf(&random) * (i < FAR_FROM * FAR_DIMS ? 1.0f : 0.04f);
        rows[i] += i < FAR_FROM * FAR_DIMS ? 0.0f : 0.5f;
    }
    config.degree = 8;
    config.effort = 16;
    assert_ok(vector_space_create(&space, &config));
    assert_ok(vector_space_add(space, rows, FAR_ROWS, &first, NULL));
    for (int32_t i = FAR_FROM; i < FAR_ROWS; i++) {
        bits[i / 64] |= UINT64_C(1) << i % 64;
    }
    const struct vector_search search = {.k = 10,
                                         .recall = 0.95f,
                                         .n_rows = FAR_ROWS,
                                         .allowed = {bits, FAR_ROWS, FAR_ROWS - FAR_FROM}};
    assert_true(sample_recall(space, rows, 20, FAR_DIMS, &search, INFER_SEARCH_LIST) >= 0.95);
    vector_space_destroy(&space);
    free(rows);
}

static void dead_rows_are_never_found_and_the_others_are(void **state)
{
    static _Atomic uint64_t dead[(ROWS + 63) / 64];
    static uint64_t bits[(ROWS + 63) / 64];
    struct vector_search search = {.k = 10, .ef = 80, .dead = dead, .n_rows = ROWS};
    struct set s;
    (void)state;

    make(&s, ROWS, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F32);
    for (int32_t percent = 0; percent <= 99; percent += 33) {
        draw_bits(bits, ROWS, percent / 100.0, 9);
        for (size_t i = 0; i < BASE_COUNT(bits); i++) {
            dead[i] = bits[i];
        }
        assert_true(recall_of(&s, &search, 0) >= 0.97);
    }
    for (size_t i = 0; i < BASE_COUNT(bits); i++) {
        dead[i] = UINT64_MAX;
    }
    assert_true(recall_of(&s, &search, 0) == 1.0); /* none of none */
    drop(&s);
}

/* ------------------------------------------------------------------- others */

static void equal_calls_give_equal_answers(void **state)
{
    struct set a, b;
    struct vector_found found[2][QUERIES][10], *places[QUERIES];
    struct vector_search searches[QUERIES];
    struct vector_how how[QUERIES];
    int32_t n_found[QUERIES];
    struct base_pool *pool;
    (void)state;

    make(&a, ROWS, DIMS, INFER_METRIC_L2, INFER_INDEX_BF16);
    make(&b, ROWS, DIMS, INFER_METRIC_L2, INFER_INDEX_BF16);
    assert_ok(base_pool_create(&pool, &base_alloc_default, 3, NULL));
    memset(found, 0, sizeof(found));
    for (int32_t i = 0; i < QUERIES; i++) {
        searches[i] = (struct vector_search){.query = a.queries + (size_t)i * DIMS,
                                             .k = 10,
                                             .ef = i % 3 ? 50 : 0,
                                             .recall = 1.0f,
                                             .codes_alone = i % 2,
                                             .n_rows = ROWS};
    }
    for (int32_t i = 0; i < QUERIES; i++) {
        places[i] = found[0][i];
    }
    assert_ok(vector_space_search_many(a.space, NULL, searches, QUERIES, places, n_found, how));
    for (int32_t i = 0; i < QUERIES; i++) {
        places[i] = found[1][i];
    }
    assert_ok(vector_space_search_many(b.space, pool, searches, QUERIES, places, n_found, how));
    assert_memory_equal(found[0], found[1], sizeof(found[0]));
    for (int32_t i = 0; i < QUERIES; i++) {
        assert_int_equal(n_found[i], 10);
        assert_int_equal(how[i].exact, i % 3 == 0);
    }
    base_pool_destroy(&pool);
    drop(&a);
    drop(&b);
}

/* Scores by codes alone are near the exact ones: the mean error is small beside their spread. */
static void scores_by_codes_are_near(void **state)
{
    (void)state;
    for (size_t m = 0; m < BASE_COUNT(metrics); m++) {
        struct vector_search search = {.k = 10, .ef = 100, .n_rows = ROWS};
        struct vector_scratch *scratch;
        struct vector_found exact[10], codes[10];
        struct vector_how how;
        struct set s;
        double error = 0.0, spread = 0.0;
        int32_t n;

        make(&s, ROWS, 256, metrics[m], INFER_INDEX_F32);
        assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
        for (int32_t q = 0; q < QUERIES; q++) {
            search.query = s.queries + (size_t)q * 256;
            search.codes_alone = 0;
            assert_ok(vector_space_search(s.space, scratch, &search, exact, &n, &how));
            search.codes_alone = 1;
            assert_ok(vector_space_search(s.space, scratch, &search, codes, &n, &how));
            for (int32_t i = 0; i < n; i++) {
                for (int32_t j = 0; j < n; j++) {
                    if (codes[i].row == exact[j].row) {
                        error += fabs((double)codes[i].score - (double)exact[j].score);
                        spread += fabs((double)exact[j].score);
                    }
                }
            }
        }
        assert_true(spread > 0.0 && error < 0.05 * spread);
        vector_scratch_destroy(&scratch);
        drop(&s);
    }
}

static void wrong_shapes_and_vectors_are_refused(void **state)
{
    struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F32);
    const float nan[DIMS] = {NAN}, zeros[DIMS] = {0};
    struct vector_search search = {.query = nan, .k = 1, .n_rows = 1};
    struct vector_space *space = NULL;
    struct vector_scratch *scratch;
    struct vector_found found;
    struct vector_how how;
    float one[DIMS] = {1};
    int32_t first, n_found;
    (void)state;

    config.shape.dims = 0;
    assert_int_equal(vector_space_create(&space, &config), INFER_ERR_INVALID);
    config.shape.dims = 8193;
    assert_int_equal(vector_space_create(&space, &config), INFER_ERR_INVALID);
    config.shape = (struct vector_shape){DIMS, 3, 0};
    assert_int_equal(vector_space_create(&space, &config), INFER_ERR_INVALID);
    config.shape = (struct vector_shape){DIMS, 0, 5};
    assert_int_equal(vector_space_create(&space, &config), INFER_ERR_INVALID);
    config.shape = (struct vector_shape){DIMS, 0, 0};
    config.degree = 129;
    assert_int_equal(vector_space_create(&space, &config), INFER_ERR_INVALID);
    assert_null(space);
    config.degree = 16;
    config.max_rows = 2;
    assert_ok(vector_space_create(&space, &config));
    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    assert_int_equal(vector_space_add(space, nan, 1, &first, NULL), INFER_ERR_INVALID);
    assert_int_equal(vector_space_add(space, zeros, 1, &first, NULL), INFER_ERR_INVALID);
    assert_int_equal(vector_space_size(space), 0);
    assert_ok(vector_space_add(space, one, 1, &first, NULL));
    assert_ok(vector_space_add(space, one, 1, &first, NULL));
    assert_int_equal(vector_space_add(space, one, 1, &first, NULL), INFER_ERR_LIMIT);
    assert_int_equal(vector_space_search(space, scratch, &search, &found, &n_found, &how),
                     INFER_ERR_INVALID);
    search.query = one;
    search.k = 0;
    assert_ok(vector_space_search(space, scratch, &search, &found, &n_found, &how));
    assert_int_equal(n_found, 0);
    vector_scratch_destroy(&scratch);
    vector_space_destroy(&space);
}

/* Numbers of rows around each width, lists from empty to full; what lies behind a list stays. */
static void lists_are_packed_and_read_in_any_width(void **state)
{
    uint64_t seed = 8;
    (void)state;

    for (int32_t bits = 1; bits <= 30; bits++) {
        for (int32_t around = 0; around < 4; around++) {
            const int32_t n_rows = BASE_MAX((int32_t)(1u << bits) - 2 + around, 1);
            const int32_t degree = around < 2 ? 32 : 4 + (int32_t)(test_rand(&seed) % 125);
            const struct vector_list_shape shape = vector_list_shape(n_rows, degree);
            const int32_t n = (int32_t)(test_rand(&seed) % (uint32_t)(degree + 1));
            uint8_t list[VECTOR_DEGREE_MAX * 4 + VECTOR_LIST_TAIL];
            uint32_t links[VECTOR_DEGREE_MAX];

            assert_true(shape.none >= (uint32_t)n_rows && shape.none / 2 < (uint32_t)n_rows);
            assert_true(shape.bytes % 8 == 0 && shape.bytes <= VECTOR_DEGREE_MAX * 4);
            assert_true((int32_t)shape.bytes * 8 < degree * shape.bits + 64);
            for (int32_t i = 0; i < n; i++) {
                links[i] = i % 3 ? test_rand(&seed) % (uint32_t)n_rows : (uint32_t)n_rows - 1;
            }
            memset(list, 0xa5, sizeof(list));
            vector_list_pack(&shape, list, links, n);
            for (int32_t i = 0; i < degree; i++) {
                assert_int_equal(vector_list_get(&shape, list, (uint32_t)(i * shape.bits)),
                                 i < n ? links[i] : shape.none);
            }
            for (size_t i = shape.bytes; i < sizeof(list); i++) {
                assert_int_equal(list[i], 0xa5);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_metrics_and_types_reach_what_is_asked_for),
        cmocka_unit_test(dims_from_1_to_8192_are_searched),
        cmocka_unit_test(ef_follows_from_recall_as_it_was_measured),
        cmocka_unit_test(few_rows_are_all_compared),
        cmocka_unit_test(copies_of_one_vector_hide_no_others),
        cmocka_unit_test(rows_added_one_by_one_are_found_at_once),
        cmocka_unit_test(filters_of_any_share_leave_recall_as_it_was),
        cmocka_unit_test(filters_against_the_query_are_answered_as_well),
        cmocka_unit_test(a_list_of_rows_that_are_all_as_far_is_looked_at_closely),
        cmocka_unit_test(dead_rows_are_never_found_and_the_others_are),
        cmocka_unit_test(equal_calls_give_equal_answers),
        cmocka_unit_test(scores_by_codes_are_near),
        cmocka_unit_test(wrong_shapes_and_vectors_are_refused),
        cmocka_unit_test(lists_are_packed_and_read_in_any_width),
    };
    kern_init_cpu(&kernels, ~0u);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
