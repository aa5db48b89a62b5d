/* Vectors that grow beside their readers: chunks never move, and what a reader may see is whole. */
#include "../support/test.h"

#include "base/thread.h"
#include "vector/flat.h"

#include <infer/index.h>
#include <pthread.h>
#include <stdatomic.h>

enum { DIMS = 96, ROWS = 12000, READERS = 2 };

static struct infer_kernels kernels;

struct shared {
    struct vector_vectors *vectors;
    _Atomic int32_t done;
    _Atomic int32_t n_wrong;
    _Atomic int32_t n_checked;
};

/* Row number `row`, in whole numbers, which come back as they are. */
static void make_row(float *x, int32_t row)
{
    for (int32_t i = 0; i < DIMS; i++) {
        x[i] = (float)((row * 31 + i * 7) % 97) - 48.0f;
    }
    x[0] = (float)row;
}

static void *read_rows(void *arg)
{
    struct shared *s = arg;
    float want[DIMS], got[DIMS];
    uint64_t seed = 3;
    int32_t last = 0;

    while (!s->done || last < ROWS) {
        struct vector_view view;
        struct vector_found found[3];
        struct vector_flat flat = {.alloc = &base_alloc_default};
        struct vector_flat_query query = {.query = want, .k = 3, .found = found};

        vector_vectors_view(s->vectors, &view);
        s->n_wrong += view.n < last;
        last = view.n;
        if (view.n == 0) {
            continue;
        }
        for (int32_t i = 0; i < 50; i++) {
            const int32_t row =
                i == 0 ? view.n - 1 : (int32_t)(test_rand(&seed) % (uint32_t)view.n);

            make_row(want, row);
            vector_view_get(&view, row, got);
            s->n_wrong += memcmp(want, got, sizeof(got)) != 0;
        }
        flat.n_rows = BASE_MIN(view.n, 500);
        s->n_wrong += vector_flat_search(&view, &flat, &query, 1) != 0;
        s->n_wrong += query.n_found != BASE_MIN(3, flat.n_rows);
        s->n_checked++;
    }
    return NULL;
}

static void readers_see_whole_rows_while_others_are_appended(void **state)
{
    const struct vector_space_config config = {.alloc = &base_alloc_default,
                                               .kernels = &kernels,
                                               .shape = {DIMS, INFER_METRIC_L2, INFER_INDEX_F32}};
    struct shared s = {0};
    pthread_t readers[READERS];
    float x[7 * DIMS];
    int32_t first;

    BASE_UNUSED(state);
    assert_ok(vector_vectors_create(&s.vectors, &config));
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, read_rows, &s), 0);
    }
    for (int32_t row = 0; row < ROWS;) {
        const int32_t n = BASE_MIN(1 + row % 7, ROWS - row);

        for (int32_t i = 0; i < n; i++) {
            make_row(x + i * DIMS, row + i);
        }
        assert_ok(vector_vectors_add(s.vectors, x, n, &first, NULL));
        assert_int_equal(first, row);
        row += n;
    }
    s.done = 1;
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    assert_int_equal(s.n_wrong, 0);
    assert_true(s.n_checked >= READERS);
    vector_vectors_destroy(&s.vectors);
}

static void a_pool_stores_rows_as_one_thread_does(void **state)
{
    enum { N = 150, AT_ONCE = 50 };
    static const int32_t types[] = {INFER_INDEX_F32, INFER_INDEX_F16, INFER_INDEX_I8,
                                    INFER_INDEX_BINARY};
    struct base_pool *pool;
    float x[N * DIMS];

    BASE_UNUSED(state);
    for (int32_t i = 0; i < N * DIMS; i++) {
        x[i] = (float)(i * 7919 % 1009) - 500.0f;
    }
    assert_ok(base_pool_create(&pool, &base_alloc_default, 3, NULL));
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        const struct vector_space_config config = {.alloc = &base_alloc_default,
                                                   .kernels = &kernels,
                                                   .shape = {DIMS, INFER_METRIC_COSINE, types[t]}};
        struct vector_vectors *one, *many;
        struct vector_view a, b;
        int32_t first;

        assert_ok(vector_vectors_create(&one, &config));
        assert_ok(vector_vectors_create(&many, &config));
        assert_ok(vector_vectors_add(one, x, N, &first, NULL));
        for (int32_t at = 0; at < N; at += AT_ONCE) {
            assert_ok(vector_vectors_add(many, x + at * DIMS, AT_ONCE, &first, pool));
            assert_int_equal(first, at);
        }
        vector_vectors_view(one, &a);
        vector_vectors_view(many, &b);
        assert_int_equal(b.n, N);
        for (int32_t row = 0; row < N; row++) {
            assert_memory_equal(vector_view_row(&a, row), vector_view_row(&b, row), a.row_bytes);
            if (types[t] != INFER_INDEX_BINARY) {
                assert_memory_equal(vector_view_note(&a, row), vector_view_note(&b, row),
                                    sizeof(struct vector_note));
            }
        }
        vector_vectors_destroy(&one);
        vector_vectors_destroy(&many);
    }
    base_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_stores_rows_as_one_thread_does),
        cmocka_unit_test(readers_see_whole_rows_while_others_are_appended),
    };

    kern_init_cpu(&kernels, ~0u);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
