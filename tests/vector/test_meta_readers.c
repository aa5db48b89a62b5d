/* Metadata that grows while others filter it. */
#include "meta_cases.h"

#include <pthread.h>
#include <stdatomic.h>

#define ROWS    6000
#define READERS 2

struct shared {
    struct vector_meta *meta;
    _Atomic int32_t n; /* rows that readers may see */
    _Atomic int32_t done;
    int64_t n_asked[READERS];
};

struct reader {
    struct shared *shared;
    int number;
};

/* Row i has year i % 50, so that every answer can be told from the rows' count. */
static int32_t expected(int32_t n)
{
    int32_t whole = n / 50 * 10, rest = n % 50;
    return whole + (rest > 30 ? 10 : rest > 20 ? rest - 20 : 0);
}

static void *read_rows(void *arg)
{
    static const char text[] =
        "{\"year\": {\"$gte\": 20, \"$lt\": 30}, \"late\": {\"$prefix\": \"x\"}}";
    struct reader *r = arg;
    uint64_t bits[(ROWS + 63) / 64];
    struct vector_filter *f = NULL;
    if (vector_filter_parse(&f, &base_alloc_default, text, strlen(text)) != INFER_OK)
        return NULL;
    int32_t last = 0;
    while (!last) {
        last = atomic_load(&r->shared->done);
        int32_t n = atomic_load(&r->shared->n), n_set = -1;
        if (vector_filter_rows(f, r->shared->meta, n, bits, &n_set) != INFER_OK ||
            n_set != expected(n) || vector_filter_most(f, r->shared->meta, n) < n_set ||
            vector_meta_bytes(r->shared->meta) == 0)
            break;
        r->shared->n_asked[r->number]++;
    }
    vector_filter_destroy(&f);
    return last ? r : NULL;
}

static void readers_see_their_rows_while_rows_and_fields_arrive(void **state)
{
    struct shared shared = {0};
    struct reader readers[READERS];
    pthread_t threads[READERS];
    const char *fields[] = {"year"};
    char json[64];
    BASE_UNUSED(state);
    assert_ok(vector_meta_create(&shared.meta, &base_alloc_default, fields, 1));
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){&shared, i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_rows, &readers[i]), 0);
    }
    for (int i = 0; i < ROWS; i++) {
        int n = sprintf(json, "{\"late\": \"x%d\", \"year\": %d}", i % 7, i % 50);
        assert_ok(vector_meta_add(shared.meta, json, (size_t)n));
        atomic_store(&shared.n, i + 1);
        if (i == ROWS / 2)
            assert_ok(vector_meta_add_field(shared.meta, "late"));
    }
    atomic_store(&shared.done, 1);
    for (int i = 0; i < READERS; i++) {
        void *ended_well = NULL;
        pthread_join(threads[i], &ended_well);
        assert_non_null(ended_well);
        assert_true(shared.n_asked[i] > 0);
    }
    vector_meta_destroy(&shared.meta);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_their_rows_while_rows_and_fields_arrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
