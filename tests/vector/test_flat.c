/* Exact search against all rows compared in double: types, metrics, filters, batches, threads. */
#include "../support/test.h"
#include "../support/test_alloc.h"

#include "vector/flat.h"

#include <infer/index.h>
#include <math.h>

static struct infer_kernels kernels;

static const int32_t types[] = {INFER_INDEX_F32, INFER_INDEX_F16, INFER_INDEX_BF16, INFER_INDEX_I8,
                                INFER_INDEX_BINARY};
static const int32_t metrics[] = {INFER_METRIC_COSINE, INFER_METRIC_DOT, INFER_METRIC_L2};

/* Vectors around a few centres, so that the best stand out a little, as embeddings do. */
static void fill(float *x, int32_t n, int32_t dims, uint64_t *seed)
{
    for (int32_t i = 0; i < n; i++) {
        const float size = 0.5f + (float)(test_rand(seed) % 64) / 32.0f;
        const int32_t centre = (int32_t)(test_rand(seed) % 5);

        for (int32_t j = 0; j < dims; j++) {
            x[i * dims + j] = size * (test_randf(seed) + (float)((centre * 7 + j) % 3) * 0.3f);
        }
    }
}

struct set {
    struct vector_vectors *vectors;
    struct vector_view view;
    float *rows, *queries;
    int32_t n, n_queries;
};

static struct vector_space_config config_of(const struct base_alloc *a, int32_t dims,
                                            int32_t metric, int32_t type)
{
    return (struct vector_space_config){
        .alloc = a, .kernels = &kernels, .shape = {dims, metric, type}};
}

static void set_up(struct set *s, int32_t n, int32_t n_queries, int32_t dims, int32_t metric,
                   int32_t type)
{
    const struct vector_space_config config = config_of(&base_alloc_default, dims, metric, type);
    uint64_t seed = 11 + (uint64_t)dims;
    int32_t first;

    s->n = n;
    s->n_queries = n_queries;
    s->rows = malloc((size_t)n * (size_t)dims * 4 + 4);
    s->queries = malloc((size_t)n_queries * (size_t)dims * 4);
    fill(s->rows, n, dims, &seed);
    fill(s->queries, n_queries, dims, &seed);
    if (n > 9) { /* equals, at both ends of a block */
        memcpy(s->rows + (n - 1) * dims, s->rows, (size_t)dims * 4);
        memcpy(s->rows + 7 * dims, s->rows, (size_t)dims * 4);
        memcpy(s->queries, s->rows, (size_t)dims * 4);
    }
    assert_ok(vector_vectors_create(&s->vectors, &config));
    assert_ok(vector_vectors_check(&config.shape, s->rows, n));
    assert_ok(vector_vectors_add(s->vectors, s->rows, n, &first, NULL));
    vector_vectors_view(s->vectors, &s->view);
}

static void tear_down(struct set *s)
{
    vector_vectors_destroy(&s->vectors);
    free(s->rows);
    free(s->queries);
}

/* The score in double of what is kept. */
static double true_score(const struct vector_view *view, const float *query, int32_t row)
{
    const int32_t dims = view->shape.dims;
    float *y = malloc((size_t)dims * 4);
    double xy = 0.0, xx = 0.0, yy = 0.0, d2 = 0.0;

    vector_view_load(view, row, y);
    for (int32_t i = 0; i < dims; i++) {
        double x = (double)query[i];

        if (view->shape.type == INFER_INDEX_BINARY) {
            x = x >= 0.0 ? 1.0 : -1.0;
        }
        xy += x * (double)y[i];
        xx += x * x;
        yy += (double)y[i] * (double)y[i];
        d2 += (x - (double)y[i]) * (x - (double)y[i]);
    }
    free(y);
    return view->shape.metric == INFER_METRIC_COSINE ? xy / sqrt(xx * yy)
           : view->shape.metric == INFER_METRIC_DOT  ? xy
                                                     : -d2;
}

static double tolerance(const struct vector_view *view)
{
    return view->shape.metric == INFER_METRIC_COSINE ? 1e-6 : 4e-6 * (2.0 + view->shape.dims);
}

static int32_t is_wanted(const struct vector_flat *flat, int32_t row)
{
    int32_t wanted = !flat->rows && !flat->allowed.bits;

    if (row >= flat->n_rows || (flat->dead && flat->dead[row / 64] >> row % 64 & 1)) {
        return 0;
    }
    for (int32_t i = 0; flat->rows && i < flat->n_list; i++) {
        wanted |= flat->rows[i] == row;
    }
    return wanted || (flat->allowed.bits && !flat->rows && row < flat->allowed.n &&
                      (flat->allowed.bits[row / 64] >> row % 64 & 1));
}

static struct vector_found room[300 * 64];

/* Found is exactly the best k by the scores of vector_view_score(), which are those in double
 * within the precision of floats. */
static void check_query(const struct set *s, const struct vector_flat *flat,
                        const struct vector_flat_query *q)
{
    const size_t bytes = vector_query_bytes(&s->view.shape);
    void *memory = aligned_alloc(64, BASE_ALIGN_UP(bytes, 64));
    float *scores = malloc((size_t)s->n * 4 + 4);
    char *taken = calloc((size_t)s->n + 1, 1);
    struct vector_query query;
    int64_t n_wanted = 0;

    vector_query_set(&query, memory, &s->view, q->query);
    for (int32_t r = 0; r < s->n; r++) {
        vector_view_score(&s->view, &query, &r, 1, &scores[r]);
        assert_true(fabs((double)scores[r] - true_score(&s->view, q->query, r)) <=
                    tolerance(&s->view));
        n_wanted += is_wanted(flat, r);
    }
    assert_int_equal(q->n_found, BASE_MIN((int64_t)q->k, n_wanted));
    assert_int_equal(q->n_compared, n_wanted);
    for (int32_t i = 0; i < q->n_found; i++) {
        int32_t best = -1;

        for (int32_t r = 0; r < s->n; r++) {
            if (!taken[r] && is_wanted(flat, r) && (best < 0 || scores[r] > scores[best])) {
                best = r;
            }
        }
        assert_int_equal(q->found[i].row, best);
        assert_true(q->found[i].score == scores[best]);
        assert_true(q->found[i].distance == vector_distance(s->view.shape.metric, scores[best]));
        taken[best] = 1;
    }
    free(memory);
    free(scores);
    free(taken);
}

static void search(const struct set *s, const struct vector_flat *flat, int32_t n, int32_t k)
{
    struct vector_flat_query queries[300];

    for (int32_t q = 0; q < n; q++) {
        queries[q] =
            (struct vector_flat_query){.query = s->queries + (size_t)q * (size_t)s->view.shape.dims,
                                       .k = k + q % 3,
                                       .found = &room[q * 64]};
    }
    assert_ok(vector_flat_search(&s->view, flat, queries, n));
    for (int32_t q = 0; q < n; q++) {
        check_query(s, flat, &queries[q]);
    }
}

static void single_queries_and_batches_are_exact_for_all_types_and_metrics(void **state)
{
    static const int32_t dims[] = {1, 7, 64, 100};

    BASE_UNUSED(state);
    for (size_t t = 0; t < BASE_COUNT(types) * BASE_COUNT(metrics) * BASE_COUNT(dims); t++) {
        struct set s;
        struct vector_flat flat = {.alloc = &base_alloc_default};

        set_up(&s, 300, 19, dims[t / 15], metrics[t % 3], types[t / 3 % 5]);
        flat.n_rows = s.n;
        search(&s, &flat, 1, 10);
        search(&s, &flat, 19, 3);
        flat.n_rows = 33;
        search(&s, &flat, 5, 50);
        tear_down(&s);
    }
}

static void long_vectors_are_searched_exactly(void **state)
{
    static const int32_t dims[] = {384, 1536, 8192};

    BASE_UNUSED(state);
    for (size_t t = 0; t < BASE_COUNT(types) * BASE_COUNT(dims); t++) {
        struct set s;
        struct vector_flat flat = {.alloc = &base_alloc_default, .n_rows = 70};

        set_up(&s, 70, 5, dims[t / 5], metrics[t % 3], types[t % 5]);
        search(&s, &flat, 1, 4);
        search(&s, &flat, 5, 4);
        tear_down(&s);
    }
}

static void lists_bits_and_deleted_rows_narrow_the_search(void **state)
{
    uint64_t bits[5], seed = 5;
    _Atomic uint64_t dead[5];
    int32_t list[40];

    BASE_UNUSED(state);
    for (int32_t i = 0; i < 5; i++) {
        bits[i] = (uint64_t)test_rand(&seed) << 32 | test_rand(&seed);
        dead[i] = bits[i] & ((uint64_t)test_rand(&seed) << 32 | test_rand(&seed));
        dead[i] |= (uint64_t)test_rand(&seed);
    }
    for (int32_t i = 0; i < 40; i++) { /* each once, in no order, some that are not there */
        list[i] = i * 73 % 320;
    }
    list[11] = -5;
    list[12] = INT32_MAX;
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        struct set s;
        struct vector_flat flat = {.alloc = &base_alloc_default, .n_rows = 310};

        set_up(&s, 310, 20, 40, metrics[t % 3], types[t]);
        flat.dead = dead;
        search(&s, &flat, 20, 10);
        search(&s, &flat, 1, 60);
        flat.allowed = (struct vector_rows){bits, 250, 0};
        search(&s, &flat, 20, 10);
        search(&s, &flat, 2, 10);
        flat.rows = list;
        flat.n_list = 40;
        search(&s, &flat, 20, 7);
        search(&s, &flat, 1, 40);
        tear_down(&s);
    }
}

static void nothing_to_find_is_no_failure(void **state)
{
    struct set s;
    struct vector_flat flat = {.alloc = &base_alloc_default, .n_rows = 0};

    BASE_UNUSED(state);
    set_up(&s, 0, 6, 24, INFER_METRIC_DOT, INFER_INDEX_F16);
    search(&s, &flat, 1, 3);
    search(&s, &flat, 6, 3);
    flat.n_rows = 100; /* more than there are */
    search(&s, &flat, 6, 3);
    tear_down(&s);
    set_up(&s, 20, 6, 24, INFER_METRIC_DOT, INFER_INDEX_F16);
    search(&s, &flat, 6, 0);
    tear_down(&s);
}

/* A query of tiny numbers beside rows of large ones, a query of zeros, rows of zeros. */
static void the_ends_of_the_range_are_exact_too(void **state)
{
    BASE_UNUSED(state);
    for (int32_t m = 0; m < 8; m++) {
        struct set s;
        struct vector_flat flat = {.alloc = &base_alloc_default, .n_rows = 200};
        const int32_t type = types[m / 2], dims = 48;
        int32_t first;

        set_up(&s, 100, 8, dims, m % 2 ? INFER_METRIC_L2 : INFER_METRIC_DOT, type);
        for (int32_t i = 0; i < 100 * dims; i++) {
            const int32_t row = i / dims;

            s.rows[i] *= row % 5 == 0 ? 0.0f : row % 5 == 1 ? 1e-36f : row % 5 == 2 ? 1e3f : 1.0f;
        }
        for (int32_t i = 0; i < 8 * dims; i++) {
            s.queries[i] *= i / dims % 4 == 0 ? 0.0f : i / dims % 4 == 1 ? 1e-37f : 1.0f;
        }
        assert_ok(vector_vectors_add(s.vectors, s.rows, 100, &first, NULL));
        assert_int_equal(first, 100);
        vector_vectors_view(s.vectors, &s.view);
        s.n = 200;
        for (int32_t q = 0; q < 8; q++) {
            struct vector_flat_query one = {.query = s.queries + q * dims, .k = 9, .found = room};
            struct vector_flat_query many[8];

            for (int32_t i = 0; i < 8; i++) {
                many[i] = one;
                many[i].found = &room[64 + i * 16];
            }
            assert_ok(vector_flat_search(&s.view, &flat, &one, 1));
            assert_ok(vector_flat_search(&s.view, &flat, many, 8));
            assert_int_equal(many[7].n_found, 9);
            for (int32_t i = 0; i < 9; i++) {
                assert_int_equal(one.found[i].row, many[7].found[i].row);
                assert_true(one.found[i].score == many[7].found[i].score);
            }
        }
        tear_down(&s);
    }
}

/* The best row is one whose bytes say least: all that its elements are is lost in rounding, or all
 * that the query's are. Rows that lose nothing come before it and are nearly as good. */
static void what_bytes_lose_hides_no_row(void **state)
{
    enum { D = 64, N = 200 }; /* beyond the first tile, which has nothing to drop by */

    BASE_UNUSED(state);
    for (int32_t lossy_query = 0; lossy_query < 2; lossy_query++) {
        const struct vector_space_config config =
            config_of(&base_alloc_default, D, INFER_METRIC_DOT, INFER_INDEX_F32);
        struct vector_flat flat = {.alloc = &base_alloc_default, .n_rows = N};
        struct vector_flat_query queries[16];
        static float rows[N * D];
        float query[D];
        struct vector_vectors *v;
        struct vector_view view;
        int32_t first;

        for (int32_t r = 0; r < N; r++) {
            rows[r * D] = lossy_query ? 0.0f : 127.0f;
            for (int32_t i = 1; i < D; i++) {
                if (lossy_query) { /* the query's first element counts, and all others together */
                    rows[r * D + i] = r == N - 1 ? 127.0f : 0.0f;
                    rows[r * D] = r == N - 1 ? 0.0f : 20.0f;
                } else {
                    rows[r * D + i] = r == N - 1 ? 0.49f : i < 30 ? 1.0f : 0.0f;
                }
            }
        }
        for (int32_t i = 0; i < D; i++) {
            query[i] = lossy_query ? (i == 0 ? 127.0f : 0.49f) : (i == 0 ? 0.0f : 127.0f);
        }
        for (int32_t q = 0; q < 16; q++) {
            queries[q] = (struct vector_flat_query){.query = query, .k = 2, .found = &room[q * 2]};
        }
        assert_ok(vector_vectors_create(&v, &config));
        assert_ok(vector_vectors_add(v, rows, N, &first, NULL));
        vector_vectors_view(v, &view);
        assert_ok(vector_flat_search(&view, &flat, queries, 16));
        for (int32_t q = 0; q < 16; q++) {
            assert_int_equal(queries[q].n_found, 2);
            assert_int_equal(queries[q].found[0].row, N - 1);
            assert_int_equal(queries[q].found[1].row, 0);
        }
        vector_vectors_destroy(&v);
    }
}

static void threads_find_the_same(void **state)
{
    struct base_pool *pool;

    BASE_UNUSED(state);
    assert_ok(base_pool_create(&pool, &base_alloc_default, 3, NULL));
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        struct set s;
        struct vector_flat flat = {.alloc = &base_alloc_default, .pool = pool, .n_rows = 2500};

        set_up(&s, 2500, 16, 96, metrics[t % 3], types[t]);
        search(&s, &flat, 1, 20);
        search(&s, &flat, 16, 20);
        tear_down(&s);
    }
    base_pool_destroy(&pool);
}

static void batches_larger_than_a_group_are_searched_in_turn(void **state)
{
    struct set s;
    struct vector_flat flat = {.alloc = &base_alloc_default, .n_rows = 90};

    BASE_UNUSED(state);
    set_up(&s, 90, 290, 2048, INFER_METRIC_COSINE, INFER_INDEX_F16);
    search(&s, &flat, 290, 3);
    tear_down(&s);
}

static void a_failing_allocation_is_reported_and_nothing_is_lost(void **state)
{
    struct test_alloc t;
    struct set s;

    BASE_UNUSED(state);
    set_up(&s, 100, 8, 32, INFER_METRIC_COSINE, INFER_INDEX_F16);
    for (int32_t n = 1; n <= 8; n += 7) {
        struct vector_flat flat = {.n_rows = 100};
        struct vector_flat_query queries[8];

        for (int32_t i = 0; i < 8; i++) {
            queries[i] = (struct vector_flat_query){
                .query = s.queries + i * 32, .k = 5, .found = &room[i * 64]};
        }
        test_alloc_init(&t);
        flat.alloc = &t.alloc;
        t.fail_at = 1;
        assert_int_equal(vector_flat_search(&s.view, &flat, queries, n), INFER_ERR_NO_MEMORY);
        assert_int_equal(t.live_blocks, 0);
        assert_ok(vector_flat_search(&s.view, &flat, queries, n));
        assert_int_equal(t.live_blocks, 0);
    }
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_queries_and_batches_are_exact_for_all_types_and_metrics),
        cmocka_unit_test(long_vectors_are_searched_exactly),
        cmocka_unit_test(lists_bits_and_deleted_rows_narrow_the_search),
        cmocka_unit_test(nothing_to_find_is_no_failure),
        cmocka_unit_test(the_ends_of_the_range_are_exact_too),
        cmocka_unit_test(what_bytes_lose_hides_no_row),
        cmocka_unit_test(threads_find_the_same),
        cmocka_unit_test(batches_larger_than_a_group_are_searched_in_turn),
        cmocka_unit_test(a_failing_allocation_is_reported_and_nothing_is_lost),
    };

    kern_init_cpu(&kernels, ~0u);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
