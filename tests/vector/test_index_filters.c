/* Filters on fields without a column: what is asked late or kept gives the same answers as what is
 * asked of all rows at once. */
#include "index_support.h"
#include "support/test_alloc.h"

#include "vector/meta_internal.h"
#include "vector/state.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define ROWS    2300
#define QUERIES 12
#define K       10

/* p has nothing to do with the vector; c is larger the larger its first element is. */
struct row {
    float vector[MODEL_DIMS];
    int p, c, space;
};

struct rows {
    struct row *at;
    int n;
    struct infer_index *index;
};

static void write_rows(struct rows *r, int first, int n, int space)
{
    static infer_record records[ROWS];
    static char ids[ROWS][16], texts[ROWS][48];
    for (int i = first; i < first + n; i++) {
        struct row *row = &r->at[i];
        uint64_t state = (uint64_t)i * 977 + 5;
        for (int k = 0; k < MODEL_DIMS; k++)
            row->vector[k] = test_randf(&state);
        row->p = (int)(test_rand(&state) % 1000);
        row->c = (int)((row->vector[0] + 1) * 500);
        row->space = space;
        snprintf(ids[i - first], sizeof ids[0], "%d", i);
        snprintf(texts[i - first], sizeof texts[0], "{\"c\": %d, \"p\": %d}", row->c, row->p);
        records[i - first] = (infer_record){.id = ids[i - first],
                                            .ns = model_space(space).data,
                                            .vector = row->vector,
                                            .metadata = texts[i - first]};
    }
    assert_ok(vector_index_upsert(r->index, records, (size_t)n));
    r->n = first + n;
}

static void open_rows(struct rows *r, const struct base_alloc *a, int n)
{
    struct vector_index_config config = model_config(a, NULL);
    config.no_background = 1;
    config.freeze_rows = 100000; /* all in one part */
    config.n_threads = 1;
    *r = (struct rows){.at = calloc(ROWS, sizeof *r->at)};
    assert_non_null(r->at);
    assert_ok(vector_index_open(&r->index, &config));
    if (n)
        write_rows(r, 0, n, 0);
}

static void close_rows(struct rows *r)
{
    vector_index_close(&r->index);
    free(r->at);
}

/* What filters are of: a field, from where to where. */
struct want {
    char field;
    int low, high, space;
};

/* With a condition that all meet, so that texts differ. */
static const char *text_of(const struct want *w, int which, char out[96])
{
    snprintf(out, 96, "{\"%c\": {\"$gte\": %d, \"$lt\": %d}, \"x%d\": {\"$exists\": false}}",
             w->field, w->low, w->high, which);
    return out;
}

static int passes(const struct row *row, const struct want *w)
{
    const int value = w->field == 'p' ? row->p : row->c;
    return row->space == w->space && value >= w->low && value < w->high;
}

static double distance(const struct row *row, const float *q)
{
    double sum = 0;
    for (int k = 0; k < MODEL_DIMS; k++)
        sum += pow((double)row->vector[k] - (double)q[k], 2);
    return sum;
}

/* Queries lie where c is large. */
static void query_vector(int i, float out[MODEL_DIMS])
{
    uint64_t state = (uint64_t)i + 99;
    for (int k = 0; k < MODEL_DIMS; k++)
        out[k] = test_randf(&state);
    out[0] = 0.8f;
}

/* The share of the true hits among those of query i; whatever else is there fails. */
static double recall_of(const struct rows *r, const struct want *w, const float *q,
                        const struct index_hit_list *list)
{
    int n_pass = 0, n_good = 0;
    for (size_t i = 0; i < list->n; i++) {
        const struct row *row = &r->at[atoi(list->items[i].id)];
        int n_closer = 0;
        assert_true(passes(row, w));
        for (int k = 0; k < r->n; k++)
            n_closer += passes(&r->at[k], w) && distance(&r->at[k], q) < distance(row, q);
        n_good += n_closer < K;
    }
    for (int k = 0; k < r->n; k++)
        n_pass += passes(&r->at[k], w);
    return n_pass ? (double)n_good / BASE_MIN(n_pass, K) : 1;
}

static infer_search_info ask(const struct rows *r, const struct want *w, int i, int which,
                             float wanted, double *recall)
{
    char text[96];
    float vector[MODEL_DIMS];
    struct infer_hits *hits = NULL;
    query_vector(i, vector);
    const struct vector_query q = {.vector = vector,
                                   .space = model_space(w->space),
                                   .filter = text_of(w, which, text),
                                   .k = K,
                                   .recall = wanted};
    assert_ok(vector_index_search(&hits, r->index, &q, 1));
    const infer_search_info info = hits->lists[0].info;
    *recall = recall_of(r, w, vector, &hits->lists[0]);
    index_hits_destroy(&hits);
    return info;
}

static const struct vector_filter_slot *slot_of(const struct rows *r, const struct want *w,
                                                int which, int32_t group)
{
    char text[96];
    const struct index_parts *parts = r->index->parts;
    text_of(w, which, text);
    for (int i = 0; i < VECTOR_FILTERS_KEPT; i++) {
        const struct vector_filter_slot *slot = &parts->part[0]->meta->filters.slots[i];
        if (slot->text && slot->group == group && strcmp(slot->text, text) == 0)
            return slot;
    }
    return NULL;
}

/* Filters of all shares, also of what lies far from the query, each text once. */
static void test_recall(void **state)
{
    static const struct want wants[] = {{'p', 0, 1000, 0},  {'p', 0, 500, 0}, {'p', 0, 200, 0},
                                        {'p', 0, 50, 0},    {'p', 0, 5, 0},   {'p', 2000, 0, 0},
                                        {'c', 0, 500, 0},   {'c', 0, 100, 0}, {'c', 0, 10, 0},
                                        {'c', 500, 1000, 0}};
    struct rows r;
    int n_late = 0;
    (void)state;
    open_rows(&r, &base_alloc_default, ROWS);
    for (size_t i = 0; i < BASE_COUNT(wants); i++) {
        double sum = 0;
        for (int q = 0; q < QUERIES; q++) {
            double recall;
            ask(&r, &wants[i], q, q, 0.95f, &recall);
            sum += recall;
            const struct vector_filter_slot *slot = slot_of(&r, &wants[i], q, -1);
            assert_non_null(slot);
            n_late += slot->spent > 0 && !slot->kept;
        }
        if (sum < 0.95 * QUERIES)
            fail_msg("field %c from %d to %d: recall %.3f", wants[i].field, wants[i].low,
                     wants[i].high, sum / QUERIES);
    }
    assert_true(n_late >= 2 * QUERIES); /* those that leave most, at least */
    close_rows(&r);
}

/* A filter that comes again is asked of all rows, once; what came since alone is asked then. */
static void test_kept(void **state)
{
    const struct want w = {'p', 0, 950, 0};
    struct rows r;
    double recall;
    size_t n_gone;
    (void)state;
    open_rows(&r, &base_alloc_default, ROWS - 200);
    ask(&r, &w, 0, 0, 0.95f, &recall);
    assert_true(slot_of(&r, &w, 0, -1)->spent > 0);
    assert_null(slot_of(&r, &w, 0, -1)->kept);
    const infer_search_info late = ask(&r, &w, 0, 0, 0.95f, &recall);
    const struct vector_kept *kept = slot_of(&r, &w, 0, -1)->kept;
    assert_non_null(kept);
    assert_int_equal(kept->n_rows, ROWS - 200);
    ask(&r, &w, 0, 0, 0.95f, &recall);
    assert_ptr_equal(slot_of(&r, &w, 0, -1)->kept, kept);
    assert_true(late.n_candidates > 0);

    struct index_view before; /* of a reader who does not see what follows */
    struct index_allowed allowed;
    struct vector_filter *filter = NULL;
    char text[96];
    const int32_t n_before = kept->n_set;
    assert_ok(index_view_begin(&before, r.index, 1));
    write_rows(&r, r.n, 200, 0);
    ask(&r, &w, 1, 0, 1, &recall);
    assert_true(recall == 1);
    kept = slot_of(&r, &w, 0, -1)->kept;
    assert_int_equal(kept->n_rows, ROWS);
    int n_pass = 0;
    for (int i = 0; i < ROWS; i++)
        n_pass += passes(&r.at[i], &w);
    assert_int_equal(kept->n_set, n_pass);
    assert_true(n_pass > n_before && n_pass < n_before + 200);
    text_of(&w, 0, text);
    assert_ok(vector_filter_parse(&filter, &base_alloc_default, text, strlen(text)));
    assert_ok(index_allowed_find(&allowed, &before.seen[0], &base_alloc_default, NULL, filter, 0));
    assert_int_equal(allowed.rows.n, ROWS - 200);
    assert_int_equal(allowed.rows.n_set, n_before);
    index_allowed_release(&allowed, &base_alloc_default);
    vector_filter_destroy(&filter);
    index_view_end(&before);

    for (int i = 0; i < ROWS; i += 2) { /* what is kept says nothing about deletion */
        char id[16];
        const char *one = id;
        snprintf(id, sizeof id, "%d", i);
        assert_ok(vector_index_delete(r.index, model_space(0), &one, 1, &n_gone));
        r.at[i].space = -1;
    }
    ask(&r, &w, 2, 0, 1, &recall);
    assert_true(recall == 1);
    uint64_t count = 0, expected = 0;
    for (int i = 0; i < ROWS; i++)
        expected += (uint64_t)passes(&r.at[i], &w);
    assert_ok(vector_index_count(r.index, model_space(0), text, &count));
    assert_int_equal(count, expected);
    close_rows(&r);
}

/* The same filter of two namespaces, and more filters than are kept. */
static void test_groups(void **state)
{
    struct rows r;
    double recall;
    (void)state;
    open_rows(&r, &base_alloc_default, 0);
    write_rows(&r, 0, 1100, 0);
    write_rows(&r, 1100, 1100, 1);
    for (int q = 0; q < 2 * VECTOR_FILTERS_KEPT + 4; q++) {
        const struct want w = {'p', q / 2, 600, q % 2};
        ask(&r, &w, q, 0, 1, &recall);
        assert_true(recall == 1);
        assert_int_equal(slot_of(&r, &w, 0, q % 2)->kept->n_rows, 2200);
    }
    const struct want first = {'p', 0, 600, 0}, last = {'p', VECTOR_FILTERS_KEPT + 1, 600, 1};
    assert_null(slot_of(&r, &first, 0, 0));
    assert_non_null(slot_of(&r, &last, 0, 1));
    ask(&r, &first, 1, 0, 0.95f, &recall); /* forgotten, and right again */
    assert_true(recall > 0.6);
    /* With a column for one field of two: some rows are ruled out before the others are asked. */
    assert_ok(vector_index_add_field(r.index, "p"));
    for (int q = 0; q < 6; q++) {
        const struct want w = {'p', 20, 320 + q, q % 2};
        const infer_search_info info = ask(&r, &w, q, 0, q < 4 ? 0.95f : 1, &recall);
        assert_true(recall > (q < 4 ? 0.8 : 0.999));
        assert_in_range(info.n_candidates, 1100 / 5, 1100 / 2);
    }
    struct vector_counts counts;
    assert_ok(vector_index_counts(r.index, &counts));
    assert_true(counts.memory_bytes > VECTOR_FILTERS_KEPT * 2200 / 8);
    close_rows(&r);
}

/* Calls of many queries: of one filter, of several, exact ones among them. */
static void test_many(void **state)
{
    enum { N = 40 };
    static char texts[N][96];
    static float vectors[N][MODEL_DIMS];
    struct vector_query queries[N];
    struct want wants[N];
    struct infer_hits *hits = NULL;
    struct rows r;
    double sum = 0;
    (void)state;
    open_rows(&r, &base_alloc_default, ROWS);
    for (int i = 0; i < N; i++) {
        wants[i] = (struct want){i % 3 ? 'p' : 'c', 0, 100 + 100 * (i / 5), 0};
        query_vector(i, vectors[i]);
        queries[i] = (struct vector_query){.vector = vectors[i],
                                           .space = model_space(0),
                                           .filter = text_of(&wants[i], 0, texts[i]),
                                           .k = K,
                                           .recall = i % 7 == 6 ? 1 : 0.95f};
    }
    for (int i = 20; i < 30; i++) { /* one behind the other */
        wants[i] = wants[20];
        memcpy(texts[i], texts[20], sizeof texts[i]);
    }
    assert_ok(vector_index_search(&hits, r.index, queries, N));
    for (int i = 0; i < N; i++) {
        const double recall = recall_of(&r, &wants[i], vectors[i], &hits->lists[i]);
        if (queries[i].recall == 1)
            assert_true(recall == 1 && hits->lists[i].info.exact);
        sum += recall;
    }
    assert_true(sum >= 0.95 * N);
    index_hits_destroy(&hits);
    close_rows(&r);
}

/* ------------------------------------------------------------------ threads */

struct reader {
    const struct rows *rows;
    pthread_t thread;
    int number;
    atomic_int *writing;
    const char *failed;
};

/* Filters of which some are asked late, some are kept, and some are pushed out by others. */
static void *read_on(void *user)
{
    struct reader *r = user;
    for (int i = r->number; atomic_load(r->writing) && !r->failed; i++) {
        const struct want w = {'p', 0, 200 + i % 7 * 100, 0};
        struct infer_hits *hits = NULL;
        char text[96];
        float vector[MODEL_DIMS];
        query_vector(i, vector);
        const struct vector_query q = {.vector = vector,
                                       .space = model_space(0),
                                       .filter = text_of(&w, i % 3 ? i : 0, text),
                                       .k = K,
                                       .recall = i % 4 ? 0.9f : 1,
                                       .with = INFER_INDEX_WITH_METADATA};
        if (vector_index_search(&hits, r->rows->index, &q, 1) != INFER_OK) {
            r->failed = "a search failed";
            break;
        }
        if (hits->lists[0].n != K)
            r->failed = "hits are missing";
        for (size_t k = 0; k < hits->lists[0].n; k++) {
            const char *p = strstr(hits->lists[0].items[k].metadata, "\"p\": ");
            if (!p || atoi(p + 5) >= w.high)
                r->failed = "a hit does not pass";
        }
        index_hits_destroy(&hits);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct rows r;
    struct reader readers[3];
    atomic_int writing = 1;
    double recall;
    (void)state;
    open_rows(&r, &base_alloc_default, 1500);
    for (int i = 0; i < 3; i++) {
        readers[i] = (struct reader){.rows = &r, .number = i, .writing = &writing};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
    }
    for (int i = 0; i < 20; i++)
        write_rows(&r, r.n, 10, 0);
    atomic_store(&writing, 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(readers[i].thread, NULL);
        if (readers[i].failed)
            fail_msg("%s", readers[i].failed);
    }
    for (int high = 200; high < 900; high += 100) { /* what was kept meanwhile is right */
        ask(&r, &(struct want){'p', 0, high, 0}, high, 0, 1, &recall);
        assert_true(recall == 1);
    }
    close_rows(&r);
}

/* Without memory there is an error or the right answer, and nothing is lost. */
static void test_no_memory(void **state)
{
    struct test_alloc t;
    struct rows r;
    int n_failed = 0;
    (void)state;
    test_alloc_init(&t);
    open_rows(&r, &t.alloc, 2200);
    for (int i = 0, ended = 0; !ended; i++) {
        const struct want w = {'p', 0, i % 2 ? 700 : 20, 0};
        char text[96];
        float vector[MODEL_DIMS];
        struct infer_hits *hits = NULL;
        query_vector(i, vector);
        const struct vector_query q = {.vector = vector,
                                       .space = model_space(0),
                                       .filter = text_of(&w, i, text),
                                       .k = K,
                                       .recall = 0.95f};
        t.fail_at = t.n_calls + 1 + (size_t)i / 2;
        const size_t last = t.fail_at;
        const infer_status st = vector_index_search(&hits, r.index, &q, 1);
        ended = t.n_calls < last && i % 2;
        t.fail_at = 0;
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        n_failed += st != INFER_OK;
        if (st == INFER_OK)
            assert_true(recall_of(&r, &w, vector, &hits->lists[0]) > 0.6);
        index_hits_destroy(&hits);
    }
    assert_true(n_failed > 10);
    close_rows(&r);
    assert_int_equal(t.live_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall),  cmocka_unit_test(test_kept),
        cmocka_unit_test(test_groups),  cmocka_unit_test(test_many),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
