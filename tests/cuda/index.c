/* The index with a GPU beside the index without: the same hits, bit by bit, whatever is written in
 * between and whatever the card refuses. */
#include "vector/index.h"
#include "base/alloc.h"
#include "device/device.h"
#include "support/test.h"
#include "vector/hits.h"

#ifdef KERN_CUDA_EMULATED
#include "cuda/emulate_runtime.h"
#endif

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#define DIMS      37
#define N_ROWS    270
#define N_QUERIES 17
#define CLUSTERS  40

static void need_gpu(const char *test)
{
    if (device_count() > 1)
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

static struct infer_device *open_card(void)
{
    struct infer_device *device = NULL;
    const struct device_config config = {.index = 1};
    assert_ok(device_create(&device, &config));
    return device;
}

static struct infer_index *open_index(int32_t metric, int32_t type, int32_t dims,
                                      struct infer_device *device)
{
    struct infer_index *index = NULL;
    const struct vector_index_config config = {
        .alloc = &base_alloc_default,
        .traits = {.dims = dims, .metric = metric, .type = type, .degree = 8, .effort = 32},
        .n_threads = 2,
        .no_background = 1,
        .no_graph = 1,
        .device = device,
        .device_rows = 32,
    };
    assert_ok(vector_index_open(&index, &config));
    return index;
}

/* Of all lengths; or near one of some centres. */
static void random_vector(float *v, int32_t dims, int32_t clusters, uint64_t *seed)
{
    const float size = clusters ? 0.25f : ldexpf(1.0f, (int)(test_rand(seed) % 5) - 2);
    uint64_t centre = clusters ? 1 + test_rand(seed) % (uint32_t)clusters : 0;
    for (int32_t i = 0; i < dims; i++)
        v[i] = test_randf(seed) * size + (clusters ? test_randf(&centre) : 0.0f);
}

/* Writes records `first` .. `first + n - 1`, some of them equal. */
static void write_some(struct infer_index *index, int32_t dims, int first, int n, int32_t clusters,
                       uint64_t seed)
{
    float *vectors = malloc((size_t)n * (size_t)dims * sizeof *vectors);
    infer_record *records = calloc((size_t)n, sizeof *records);
    char(*texts)[2][32] = calloc((size_t)n, sizeof *texts);
    for (int i = 0; i < n; i++) {
        float *v = vectors + (size_t)i * (size_t)dims;
        random_vector(v, dims, clusters, &seed);
        if (i % 11 == 3)
            memcpy(v, vectors, (size_t)dims * sizeof *v);
        snprintf(texts[i][0], sizeof texts[i][0], "id%d", first + i);
        snprintf(texts[i][1], sizeof texts[i][1], "{\"kind\": %d}", (first + i) % 4);
        records[i] = (infer_record){.id = texts[i][0],
                                    .ns = i % 5 == 0 ? "other" : "",
                                    .vector = v,
                                    .metadata = texts[i][1]};
    }
    assert_ok(vector_index_upsert(index, records, (size_t)n));
    free(vectors);
    free(records);
    free(texts);
}

static void delete_some(struct infer_index *index, int first, int n)
{
    for (int i = 0; i < n; i++) {
        char id[32];
        const char *ids[] = {id};
        snprintf(id, sizeof id, "id%d", first + 7 * i);
        assert_ok(vector_index_delete(index, (struct base_view){"", 0}, ids, 1, NULL));
    }
}

static infer_status search_for(struct infer_hits **hits, struct infer_index *index, int32_t dims,
                               int32_t k, const char *filter, int32_t n, int32_t clusters,
                               float recall)
{
    float *vectors = malloc((size_t)n * (size_t)dims * sizeof *vectors);
    struct vector_query *queries = calloc((size_t)n, sizeof *queries);
    uint64_t seed = 99;
    for (int32_t i = 0; i < n; i++) {
        random_vector(vectors + (size_t)i * (size_t)dims, dims, clusters, &seed);
        queries[i] = (struct vector_query){.vector = vectors + (size_t)i * (size_t)dims,
                                           .space = {"", 0},
                                           .filter = i % 3 == 0 ? filter : NULL,
                                           .k = k,
                                           .recall = recall};
    }
    const infer_status st = vector_index_search(hits, index, queries, (size_t)n);
    free(vectors);
    free(queries);
    return st;
}

/* What both find, to the bit; at least so many queries were the card's. */
static void same_hits(struct infer_index *with, struct infer_index *without, int32_t dims,
                      int32_t k, int32_t n, int32_t on_device)
{
    struct infer_hits *a = NULL, *b = NULL;
    const char *filter = "{\"kind\": {\"$lt\": 3}}";
    int32_t n_on = 0;
    assert_ok(search_for(&a, with, dims, k, filter, n, 0, 1.0f));
    assert_ok(search_for(&b, without, dims, k, filter, n, 0, 1.0f));
    for (int32_t q = 0; q < n; q++) {
        const struct index_hit_list *x = &a->lists[q], *y = &b->lists[q];
        assert_int_equal(x->n, y->n);
        n_on += x->info.on_device;
        assert_int_equal(y->info.on_device, 0);
        assert_int_equal(x->info.exact, 1);
        for (size_t i = 0; i < x->n; i++)
            if (strcmp(x->items[i].id, y->items[i].id) != 0 ||
                memcmp(&x->items[i].score, &y->items[i].score, sizeof(float)) != 0 ||
                memcmp(&x->items[i].distance, &y->items[i].distance, sizeof(float)) != 0)
                fail_msg("query %d hit %zu: %s %.9g, expected %s %.9g", q, i, x->items[i].id,
                         (double)x->items[i].score, y->items[i].id, (double)y->items[i].score);
    }
    assert_true(n_on >= on_device);
    index_hits_destroy(&a);
    index_hits_destroy(&b);
}

static void compare(int32_t metric, int32_t type, struct infer_device *device)
{
    struct infer_index *both[2] = {open_index(metric, type, DIMS, device),
                                   open_index(metric, type, DIMS, NULL)};
    struct vector_counts counts;
    for (int i = 0; i < 2; i++) {
        write_some(both[i], DIMS, 0, N_ROWS, 0, 5);
        assert_ok(vector_index_compact(both[i]));
    }
    same_hits(both[0], both[1], DIMS, 10, 1, 1);
    for (int i = 0; i < 2; i++) { /* some of the segment are replaced, others go, others come */
        write_some(both[i], DIMS, N_ROWS - 60, 120, 0, 6);
        delete_some(both[i], 3, 9);
    }
    same_hits(both[0], both[1], DIMS, 10, N_QUERIES, N_QUERIES);
    assert_ok(vector_index_counts(both[0], &counts));
    assert_true(counts.device_bytes > 0 && counts.n_on_device > N_ROWS / 2);
    assert_null(counts.device_failure);
    for (int i = 0; i < 2; i++)
        assert_ok(vector_index_compact(both[i]));
    same_hits(both[0], both[1], DIMS, 3, 2, 2);
    same_hits(both[0], both[1], DIMS, 600, 2, 2);
    for (int i = 0; i < 2; i++)
        vector_index_close(&both[i]);
}

static void hits_are_those_without_a_card(void **state)
{
    (void)state;
    need_gpu(__func__);
    struct infer_device *device = open_card();
    for (int32_t type = INFER_INDEX_F32; type <= INFER_INDEX_BINARY; type++)
        for (int32_t metric = INFER_METRIC_COSINE; metric <= INFER_METRIC_L2; metric++)
            compare(metric, type, device);
    device_release(&device);
}

struct writing {
    struct infer_index *index;
    int n_rounds;
};

enum { WRITTEN = 48 };

/* All records at once, each time all alike, and now and then a new segment of them. */
static void write_all(struct infer_index *index, int round)
{
    float vector[2] = {1.0f + (float)round, 0.5f};
    infer_record records[WRITTEN];
    char ids[WRITTEN][16];
    for (int i = 0; i < WRITTEN; i++) {
        snprintf(ids[i], sizeof ids[i], "%d", i);
        records[i] = (infer_record){.id = ids[i], .vector = vector};
    }
    assert_ok(vector_index_upsert(index, records, WRITTEN));
    if (round % 2 == 0)
        assert_ok(vector_index_compact(index));
}

static void *keep_writing(void *arg)
{
    const struct writing *w = arg;
    for (int i = 1; i < w->n_rounds; i++)
        write_all(w->index, i);
    return NULL;
}

/* A query sees all of one write, whatever moves to the card meanwhile. */
static void queries_see_one_moment(void **state)
{
    (void)state;
    need_gpu(__func__);
    struct infer_device *device = open_card();
    struct writing w = {open_index(INFER_METRIC_DOT, INFER_INDEX_F32, 2, device), 40};
    pthread_t thread;
    write_all(w.index, 0);
    assert_int_equal(pthread_create(&thread, NULL, keep_writing, &w), 0);
    for (int i = 0; i < 30; i++) {
        struct infer_hits *hits = NULL;
        assert_ok(search_for(&hits, w.index, 2, 2 * WRITTEN, NULL, 2, 0, 1.0f));
        for (size_t q = 0; q < 2; q++) {
            const struct index_hit_list *list = &hits->lists[q];
            assert_int_equal(list->n, WRITTEN);
            assert_memory_equal(&list->items[0].score, &list->items[WRITTEN - 1].score, 4);
        }
        index_hits_destroy(&hits);
    }
    pthread_join(thread, NULL);
    vector_index_close(&w.index);
    device_release(&device);
}

/* Of equal vectors as many as the card keeps and more: the bound says nothing, and all are
 * compared. */
static void many_equals_are_searched_without(void **state)
{
    enum { N = 3000 };
    (void)state;
    need_gpu(__func__);
    struct infer_device *device = open_card();
    struct infer_index *both[2] = {open_index(INFER_METRIC_DOT, INFER_INDEX_F16, 2, device),
                                   open_index(INFER_METRIC_DOT, INFER_INDEX_F16, 2, NULL)};
    float vector[2] = {1.0f, 0.5f};
    infer_record *records = calloc(N, sizeof *records);
    char(*ids)[16] = calloc(N, sizeof *ids);
    for (int i = 0; i < N; i++) {
        snprintf(ids[i], sizeof ids[i], "%d", i * 7919 % N);
        records[i] = (infer_record){.id = ids[i], .vector = vector};
    }
    for (int i = 0; i < 2; i++) {
        assert_ok(vector_index_upsert(both[i], records, N));
        assert_ok(vector_index_compact(both[i]));
    }
    same_hits(both[0], both[1], 2, 5, 2, 0);
    for (int i = 0; i < 2; i++)
        vector_index_close(&both[i]);
    free(records);
    free(ids);
    device_release(&device);
}

/* Through partitions: as many of the true hits as asked for, none that is not there. */
static void partitions(int32_t metric, int32_t type, struct infer_device *device)
{
    enum { DIM = 16, N = 4100, Q = 6, K = 10 };
    struct infer_index *with = open_index(metric, type, DIM, device);
    struct infer_index *without = open_index(metric, type, DIM, NULL);
    struct infer_hits *a = NULL, *b = NULL;
    int32_t found = 0, wanted = 0, n_probed = 0;
    for (int i = 0; i < 2; i++) {
        struct infer_index *index = i ? without : with;
        write_some(index, DIM, 0, N, CLUSTERS, 5);
        assert_ok(vector_index_compact(index));
        delete_some(index, 3, 40);
    }
    for (int one = 0; one < 2; one++) { /* many at once, and one alone */
        const int32_t n = one ? 1 : Q;
        assert_ok(search_for(&a, with, DIM, K, one ? NULL : "{\"kind\": {\"$lt\": 3}}", n, CLUSTERS,
                             0.9f));
        assert_ok(search_for(&b, without, DIM, K, one ? NULL : "{\"kind\": {\"$lt\": 3}}", n,
                             CLUSTERS, 1.0f));
        for (int32_t q = 0; q < n; q++) {
            const struct index_hit_list *x = &a->lists[q], *y = &b->lists[q];
            assert_int_equal(x->n, K);
            assert_int_equal(x->info.on_device, 1);
            n_probed += x->info.path == INFER_SEARCH_PARTITIONS;
            wanted += (int32_t)y->n;
            for (size_t i = 0; i < y->n; i++)
                for (size_t j = 0; j < x->n; j++)
                    if (strcmp(y->items[i].id, x->items[j].id) == 0) {
                        assert_memory_equal(&y->items[i].score, &x->items[j].score, 4);
                        found++;
                    }
        }
        index_hits_destroy(&a);
        index_hits_destroy(&b);
    }
    if (found < wanted * 8 / 10 || n_probed < Q / 2)
        fail_msg("metric %d type %d: %d of %d hits, %d queries through partitions", metric, type,
                 found, wanted, n_probed);
    vector_index_close(&with);
    vector_index_close(&without);
}

static void partitions_find_their_share(void **state)
{
    (void)state;
    need_gpu(__func__);
    struct infer_device *device = open_card();
    partitions(INFER_METRIC_L2, INFER_INDEX_F32, device);
    partitions(INFER_METRIC_DOT, INFER_INDEX_I8, device);
    device_release(&device);
}

#ifdef KERN_CUDA_EMULATED

/* Every call of the runtime fails in turn: the answers stay what they are. */
static void what_a_card_refuses_costs_no_answer(void **state)
{
    static const cudaError_t errors[] = {cudaErrorMemoryAllocation, cudaErrorLaunchFailure};
    struct infer_index *plain = open_index(INFER_METRIC_L2, INFER_INDEX_BF16, DIMS, NULL);
    (void)state;
    write_some(plain, DIMS, 0, 60, 0, 5);
    assert_ok(vector_index_compact(plain));
    for (size_t e = 0; e < BASE_COUNT(errors); e++) {
        long n_calls = 1;
        for (long at = 0; at <= n_calls; at++) { /* 0: none, to count them */
            struct infer_device *device = open_card();
            struct vector_counts counts;
            const long before = emulated_calls();
            emulated_fail_after(at, errors[e]);
            struct infer_index *index = open_index(INFER_METRIC_L2, INFER_INDEX_BF16, DIMS, device);
            write_some(index, DIMS, 0, 60, 0, 5);
            assert_ok(vector_index_compact(index));
            same_hits(index, plain, DIMS, 5, 2, at == 0 ? 2 : 0);
            same_hits(index, plain, DIMS, 5, 1, at == 0 ? 1 : 0);
            if (at == 0)
                n_calls = emulated_calls() - before;
            assert_ok(vector_index_counts(index, &counts));
            const int lost = errors[e] == cudaErrorLaunchFailure && at > 0;
            if (lost != (counts.device_failure != NULL))
                fail_msg("call %ld of %ld with error %d: %s", at, n_calls, (int)errors[e],
                         counts.device_failure ? counts.device_failure : "unseen");
            vector_index_close(&index);
            device_release(&device);
            emulated_fail_after(0, cudaSuccess);
            assert_int_equal(emulated_memory_used(), 0);
        }
    }
    vector_index_close(&plain);
}

/* On the way through partitions, too: an index of which each search fails somewhere else. */
static void what_a_probe_wants_costs_no_answer(void **state)
{
    enum { DIM = 16, N = 4100, K = 3 };
    struct infer_device *device = open_card();
    struct infer_index *index = open_index(INFER_METRIC_COSINE, INFER_INDEX_BF16, DIM, device);
    struct infer_hits *first = NULL;
    (void)state;
    write_some(index, DIM, 0, N, CLUSTERS, 5);
    assert_ok(vector_index_compact(index));
    long n_calls = 0;
    for (int i = 0; i < 2; i++) { /* the first one makes what the others find there */
        n_calls = emulated_calls();
        index_hits_destroy(&first);
        assert_ok(search_for(&first, index, DIM, K, NULL, 1, CLUSTERS, 0.99f));
        n_calls = emulated_calls() - n_calls;
    }
    assert_int_equal(first->lists[0].info.path, INFER_SEARCH_PARTITIONS);
    for (long at = 1; at <= n_calls; at++) {
        struct infer_hits *hits = NULL;
        emulated_fail_after(at, cudaErrorMemoryAllocation);
        assert_ok(search_for(&hits, index, DIM, K, NULL, 1, CLUSTERS, 0.99f));
        emulated_fail_after(0, cudaSuccess);
        assert_int_equal(hits->lists[0].info.on_device, 0);
        assert_int_equal(hits->lists[0].n, K);
        assert_string_equal(hits->lists[0].items[0].id, first->lists[0].items[0].id);
        index_hits_destroy(&hits);
    }
    index_hits_destroy(&first);
    vector_index_close(&index);
    device_release(&device);
    assert_int_equal(emulated_memory_used(), 0);
}

/* Where there is no room now there may be later. */
static void a_copy_waits_for_room(void **state)
{
    struct infer_device *device = open_card();
    struct infer_index *plain = open_index(INFER_METRIC_COSINE, INFER_INDEX_F32, DIMS, NULL);
    struct infer_index *first = open_index(INFER_METRIC_COSINE, INFER_INDEX_F32, DIMS, device);
    struct vector_counts counts;
    (void)state;
    write_some(plain, DIMS, 0, 100, 0, 5);
    emulated_set_memory(1000);
    write_some(first, DIMS, 0, 100, 0, 5);
    assert_ok(vector_index_compact(first));
    same_hits(first, plain, DIMS, 5, 2, 0);
    assert_ok(vector_index_counts(first, &counts));
    assert_int_equal(counts.device_bytes, 0);
    assert_null(counts.device_failure);
    emulated_set_memory((size_t)1 << 30);
    write_some(first, DIMS, 200, 100, 0, 7); /* a new part has a place of its own */
    write_some(plain, DIMS, 200, 100, 0, 7);
    assert_ok(vector_index_compact(first));
    same_hits(first, plain, DIMS, 5, 2, 2);
    vector_index_close(&first);
    vector_index_close(&plain);
    device_release(&device);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_are_those_without_a_card),
        cmocka_unit_test(queries_see_one_moment),
        cmocka_unit_test(many_equals_are_searched_without),
        cmocka_unit_test(partitions_find_their_share),
#ifdef KERN_CUDA_EMULATED
        cmocka_unit_test(what_a_card_refuses_costs_no_answer),
        cmocka_unit_test(what_a_probe_wants_costs_no_answer),
        cmocka_unit_test(a_copy_waits_for_room),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
