/* An index under many threads: what a write replaced is never missing, never there twice, and never
 * a mixture; what a thread wrote it reads. For ThreadSanitizer too. */
#include "index_support.h"
#include "vector/state.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define N_HOT     24
#define N_WRITERS 5
#define N_READERS 8
#define ROUNDS    20

struct shared {
    struct infer_index *index;
    atomic_int writing, failed;
    atomic_uint n_reads;
    unsigned hot_rounds;
};

struct worker {
    struct shared *shared;
    pthread_t thread;
    int number;
};

/* cmocka's assertions are for the main thread. */
static int holds(struct shared *s, int condition, const char *what)
{
    if (!condition && !atomic_exchange(&s->failed, 1))
        print_message("# %s: %s\n", what, test_error_text());
    return condition;
}

static const struct base_view hot = {"hot", 3};

static infer_status upsert(struct infer_index *index, const char *space, const char *prefix,
                           int first, int n, unsigned version)
{
    infer_record records[N_HOT];
    char ids[N_HOT][32], metadata[N_HOT][64];
    float vectors[N_HOT][MODEL_DIMS];
    for (int i = 0; i < n; i++) {
        model_vector((uint64_t)(first + i) + 1000 * version, vectors[i]);
        snprintf(ids[i], sizeof ids[i], "%s%d", prefix, first + i);
        snprintf(metadata[i], sizeof metadata[i], "{\"v\": %u}", version);
        records[i] = (infer_record){
            .id = ids[i], .ns = space, .vector = vectors[i], .metadata = metadata[i]};
    }
    return vector_index_upsert(index, records, (size_t)n);
}

/* One thread replaces all of the hot records, again and again, in one call. */
static void *replace_hot(void *user)
{
    struct worker *w = user;
    const struct shared *s = w->shared;
    for (unsigned version = 2; version < 2 + s->hot_rounds; version++)
        if (!holds(w->shared, upsert(w->shared->index, hot.data, "h", 0, N_HOT, version) == 0,
                   "replacing"))
            break;
    atomic_fetch_sub(&w->shared->writing, 1);
    return NULL;
}

static void *write_own(void *user)
{
    struct worker *w = user;
    struct infer_index *index = w->shared->index;
    char prefix[16], id[32];
    const char *ids[1] = {id};
    snprintf(prefix, sizeof prefix, "w%d-", w->number);
    for (unsigned round = 0; round < ROUNDS && !atomic_load(&w->shared->failed); round++) {
        struct infer_hits *hits = NULL;
        const int first = (int)(round * 3);
        size_t deleted = 0;
        if (!holds(w->shared, upsert(index, NULL, prefix, first, 8, round) == 0, "writing"))
            break;
        snprintf(id, sizeof id, "%s%d", prefix, first + (int)round % 8);
        if (!holds(w->shared,
                   vector_index_get(&hits, index, (struct base_view){"", 0}, ids, 1, 0) == 0 &&
                       hits->lists[0].n == 1,
                   "reading what was written"))
            break;
        index_hits_destroy(&hits);
        if (!holds(w->shared,
                   vector_index_delete(index, (struct base_view){"", 0}, ids, 1, &deleted) == 0 &&
                       deleted == 1 &&
                       vector_index_get(&hits, index, (struct base_view){"", 0}, ids, 1, 0) == 0 &&
                       hits->lists[0].n == 0,
                   "reading what was deleted"))
            break;
        index_hits_destroy(&hits);
    }
    atomic_fetch_sub(&w->shared->writing, 1);
    return NULL;
}

/* All of the hot records, each once, all of one version. */
static int check_hot(struct shared *s, const struct index_hit_list *list, const char *what)
{
    int n = 0;
    if (!holds(s, list->n == N_HOT, what))
        return 0;
    for (size_t i = 0; i < list->n; i++) {
        const struct index_hit *hit = &list->items[i];
        n |= 1 << atoi(hit->id + 1);
        if (!holds(s, strcmp(hit->metadata, list->items[0].metadata) == 0, what))
            return 0;
    }
    return holds(s, n == (1 << N_HOT) - 1, what);
}

static void *read_hot(void *user)
{
    struct worker *w = user;
    struct shared *s = w->shared;
    float vector[MODEL_DIMS];
    for (unsigned i = 0; atomic_load(&s->writing) && !atomic_load(&s->failed); i++) {
        struct infer_hits *hits = NULL;
        uint64_t count = 0;
        model_vector(i + 1, vector);
        struct vector_query queries[2];
        for (int k = 0; k < 2; k++)
            queries[k] = (struct vector_query){.vector = vector,
                                               .space = hot,
                                               .k = 2 * N_HOT,
                                               .recall = 1,
                                               .with = INFER_INDEX_WITH_METADATA};
        infer_status st = INFER_OK;
        if (w->number % 3 == 0)
            st = vector_index_list(&hits, s->index, hot, NULL, (struct base_view){"", 0}, 100,
                                   INFER_INDEX_WITH_METADATA);
        else
            st = vector_index_search(&hits, s->index, queries, 1 + (size_t)(w->number % 2));
        if (!holds(s, st == INFER_OK, "reading") || !check_hot(s, &hits->lists[0], "a query"))
            break;
        index_hits_destroy(&hits);
        st = vector_index_count(s->index, hot, i % 2 ? "{\"v\": {\"$gte\": 0}}" : NULL, &count);
        if (!holds(s, st == INFER_OK && count == N_HOT, "counting"))
            break;
        atomic_fetch_add(&s->n_reads, 1);
    }
    return NULL;
}

static void *keep_up(void *user)
{
    struct worker *w = user;
    struct shared *s = w->shared;
    while (atomic_load(&s->writing) && !atomic_load(&s->failed)) {
        struct vector_counts counts;
        if (!holds(s, vector_index_compact(s->index) == INFER_OK, "compacting") ||
            !holds(s, vector_index_counts(s->index, &counts) == INFER_OK, "asking") ||
            !holds(s, vector_index_verify(s->index) == INFER_OK, "verifying"))
            break;
        usleep(1000);
    }
    return NULL;
}

static void *add_fields(void *user)
{
    struct worker *w = user;
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, i ? "f%d" : "v", i);
        if (!holds(w->shared, vector_index_add_field(w->shared->index, name) == 0, "a field"))
            break;
    }
    atomic_fetch_sub(&w->shared->writing, 1);
    return NULL;
}

static void run(const char *path)
{
    struct shared s = {.hot_rounds = path ? ROUNDS : 10 * ROUNDS};
    struct worker workers[N_WRITERS + N_READERS + 3];
    struct vector_index_config config = model_config(&base_alloc_default, path);
    int n = 0;
    config.freeze_rows = 300;
    assert_ok(vector_index_open(&s.index, &config));
    assert_ok(upsert(s.index, hot.data, "h", 0, N_HOT, 1));
    atomic_store(&s.writing, N_WRITERS + 2);
    for (; n < N_WRITERS + N_READERS + 3; n++) {
        void *(*fn)(void *) = n < N_WRITERS                    ? write_own
                              : n < N_WRITERS + N_READERS      ? read_hot
                              : n == N_WRITERS + N_READERS     ? replace_hot
                              : n == N_WRITERS + N_READERS + 1 ? keep_up
                                                               : add_fields;
        workers[n] = (struct worker){.shared = &s, .number = n};
        assert_int_equal(pthread_create(&workers[n].thread, NULL, fn, &workers[n]), 0);
    }
    for (int i = 0; i < n; i++)
        pthread_join(workers[i].thread, NULL);
    assert_int_equal(atomic_load(&s.failed), 0);
    assert_true(atomic_load(&s.n_reads) > 0);
    assert_ok(vector_index_verify(s.index));
    vector_index_close(&s.index);
    if (path) {
        struct infer_hits *hits = NULL;
        config.read_only = 1;
        assert_ok(vector_index_open(&s.index, &config));
        assert_ok(vector_index_list(&hits, s.index, hot, NULL, (struct base_view){"", 0}, 100,
                                    INFER_INDEX_WITH_METADATA));
        assert_true(check_hot(&s, &hits->lists[0], "after opening"));
        index_hits_destroy(&hits);
        vector_index_close(&s.index);
    }
}

static void test_folder(void **state)
{
    char *path = index_folder();
    (void)state;
    run(path);
    index_folder_remove(path);
}

static void test_memory(void **state)
{
    (void)state;
    run(NULL);
}

/* What a view shows, and what it says, when a writer comes between. */
static void test_views(void **state)
{
    struct infer_index *index = NULL;
    struct index_view live, copy;
    int32_t part;
    const struct base_view id = {"h0", 2};
    const struct vector_index_config config = model_config(&base_alloc_default, NULL);
    (void)state;
    assert_ok(vector_index_open(&index, &config));
    assert_ok(upsert(index, hot.data, "h", 0, 4, 1));
    assert_ok(upsert(index, hot.data, "h", 3, 1, 2)); /* so that there are bits of deleted rows */
    assert_ok(index_view_begin(&live, index, 0));
    assert_ok(index_view_begin(&copy, index, 1));
    assert_ok(upsert(index, hot.data, "new", 0, 4, 1));
    assert_int_equal(index_view_changed(&live), 0); /* new rows are behind what it sees */
    assert_int_equal(index_view_find(&live, hot, (struct base_view){"new0", 4}, &part), -1);
    assert_ok(upsert(index, hot.data, "h", 0, 4, 3));
    assert_int_equal(index_view_changed(&live), 1);
    assert_int_equal(index_view_find(&live, hot, id, &part), -1); /* so it is asked again */
    assert_int_equal(index_view_find(&copy, hot, id, &part), 0);
    index_view_end(&live);
    index_view_end(&copy);
    assert_ok(index_view_begin(&live, index, 0));
    assert_int_equal(index_view_find(&live, hot, id, &part), 9);
    index_view_end(&live);
    vector_index_close(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
