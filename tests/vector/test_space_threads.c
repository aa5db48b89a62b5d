/* Spaces under threads: searches while rows are added, on many threads too; under ThreadSanitizer
 * this shows that readers and writers agree. */
#include "space_sample.h"
#include "vector/parts.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { DIMS = 24, ROWS = 2200, READERS = 2 };

static struct infer_kernels kernels;

struct shared {
    struct vector_space *space;
    const float *rows;
    _Atomic int32_t n_rows, stop, n_searches;
    _Atomic uint64_t dead[(ROWS + 63) / 64];
};

/* The row itself must be found among those that were there when the search began, unless it died
 * meanwhile. */
static void *read_on(void *arg)
{
    struct shared *s = arg;
    struct vector_scratch *scratch;
    uint64_t seed = (uint64_t)(uintptr_t)&scratch;
    int32_t n_missed = 0, n = 0;

    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    while (!atomic_load(&s->stop)) {
        const int32_t n_rows = atomic_load(&s->n_rows);
        const int32_t row = n_rows ? (int32_t)(test_rand(&seed) % (uint32_t)n_rows) : 0;
        const struct vector_search search = {.query = s->rows + (size_t)row * DIMS,
                                             .k = 5,
                                             .ef = 40,
                                             .dead = s->dead,
                                             .n_rows = n_rows};
        struct vector_found found[5];
        struct vector_how how;
        int32_t n_found;

        assert_ok(vector_space_search(s->space, scratch, &search, found, &n_found, &how));
        if (n_rows == 0) {
            assert_int_equal(n_found, 0);
            continue;
        }
        for (int32_t i = 0; i < n_found; i++) {
            assert_in_range(found[i].row, 0, n_rows - 1);
        }
        n++;
        n_missed += (n_found == 0 || found[0].row != row) &&
                    !(atomic_load(&s->dead[row / 64]) >> row % 64 & 1);
        atomic_fetch_add(&s->n_searches, 1);
    }
    vector_scratch_destroy(&scratch);
    assert_true(n_missed * 20 <= n + 20);
    return NULL;
}

static void searches_go_on_while_rows_are_added(void **state)
{
    static const int32_t parts[] = {600, 500, 1, 300, 1, 798};
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F16);
    static struct shared s;
    pthread_t readers[READERS];
    struct base_pool *pool;
    float *rows = malloc((size_t)ROWS * DIMS * sizeof(float));
    int32_t at = 0, first;
    (void)state;

    sample_fill(rows, ROWS, DIMS, 25, 1);
    s.rows = rows;
    assert_ok(vector_space_create(&s.space, &config));
    assert_ok(base_pool_create(&pool, &base_alloc_default, 3, NULL));
    for (int32_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, read_on, &s), 0);
    }
    for (size_t i = 0; i < BASE_COUNT(parts); i++) {
        assert_ok(vector_space_add(s.space, rows + (size_t)at * DIMS, parts[i], &first,
                                   i % 2 ? pool : NULL));
        assert_int_equal(first, at);
        at += parts[i];
        atomic_store(&s.n_rows, at);
        for (int32_t row = at - parts[i]; row < at; row += 7) {
            atomic_fetch_or(&s.dead[row / 64], UINT64_C(1) << row % 64);
        }
        if (i == 1) {
            assert_ok(vector_space_tune(s.space, NULL));
        }
        assert_true(vector_space_bytes(s.space) > (uint64_t)at * DIMS * 2);
    }
    while (atomic_load(&s.n_searches) < 300) {
        sched_yield();
    }
    atomic_store(&s.stop, 1);
    for (int32_t i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    base_pool_destroy(&pool);
    vector_space_destroy(&s.space);
    free(rows);
}

static void threads_build_a_graph_as_good_as_one_does(void **state)
{
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_F16);
    const struct vector_search search = {.k = 10, .ef = 40, .n_rows = ROWS};
    float *rows = malloc((size_t)ROWS * DIMS * sizeof(float)), queries[40 * DIMS];
    struct vector_space *one, *many, *merged;
    struct vector_source source;
    struct base_pool *pool;
    double recall;
    int32_t first;
    (void)state;

    sample_fill(rows, ROWS, DIMS, 25, 1);
    sample_fill(queries, 40, DIMS, 25, 2);
    assert_ok(base_pool_create(&pool, &base_alloc_default, 4, NULL));
    assert_ok(vector_space_create(&one, &config));
    assert_ok(vector_space_create(&many, &config));
    assert_ok(vector_space_add(one, rows, ROWS, &first, NULL));
    assert_ok(vector_space_add(many, rows, ROWS, &first, pool));
    source = (struct vector_source){many, NULL, ROWS};
    assert_ok(vector_space_merge(&merged, &config, &source, 1, pool, NULL, NULL));
    recall = sample_recall(one, queries, 40, DIMS, &search, 0);
    assert_true(sample_recall(many, queries, 40, DIMS, &search, 0) >= recall - 0.03);
    assert_true(sample_recall(merged, queries, 40, DIMS, &search, 0) >= recall - 0.03);
    vector_space_destroy(&one);
    vector_space_destroy(&many);
    vector_space_destroy(&merged);
    base_pool_destroy(&pool);
    free(rows);
}

/* Rows find their centres on any thread; what is made is the same. */
static void threads_make_the_same_partitions_as_one(void **state)
{
    struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F16);
    float *rows = malloc((size_t)ROWS * DIMS * sizeof(float));
    const struct vector_graph *graph;
    struct vector_partitions *one, *many;
    struct vector_space *space;
    struct vector_view view;
    struct base_pool *pool;
    int32_t first;
    (void)state;

    sample_fill(rows, ROWS, DIMS, 25, 1);
    config.no_graph = 1;
    assert_ok(base_pool_create(&pool, &base_alloc_default, 3, NULL));
    assert_ok(vector_space_create(&space, &config));
    assert_ok(vector_space_add(space, rows, ROWS, &first, pool));
    graph = atomic_load(&space->graph);
    vector_vectors_view(space->vectors, &view);
    assert_ok(vector_partitions_build(&one, &base_alloc_default, &view, graph->coder, 7, NULL));
    assert_ok(vector_partitions_build(&many, &base_alloc_default, &view, graph->coder, 7, pool));
    assert_in_range(one->n, 100, 1000);
    assert_int_equal(one->n, many->n);
    assert_memory_equal(one->own, many->own, one->bytes - sizeof(*one));
    vector_partitions_destroy(&one);
    vector_partitions_destroy(&many);
    vector_space_destroy(&space);
    base_pool_destroy(&pool);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_go_on_while_rows_are_added),
        cmocka_unit_test(threads_build_a_graph_as_good_as_one_does),
        cmocka_unit_test(threads_make_the_same_partitions_as_one),
    };
    kern_init_cpu(&kernels, ~0u);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
