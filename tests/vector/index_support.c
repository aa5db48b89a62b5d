/* Folders and the model of tests of the index. */
#include "index_support.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

/* -------------------------------------------------------------------- folders */

char *index_folder(void)
{
    /* Memory where there is such a file system: what is tested here does not need the disk. */
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/infer-index-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(path));
    return strdup(path);
}

static void each_file(const char *path, void (*fn)(const char *from, const char *to),
                      const char *to)
{
    char name[1024], other[1024];
    struct dirent *entry;
    DIR *dir = opendir(path);
    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        snprintf(other, sizeof other, "%s/%s", to ? to : "", entry->d_name);
        fn(name, other);
    }
    closedir(dir);
}

static void remove_file(const char *from, const char *to)
{
    (void)to;
    if (unlink(from) != 0) { /* a folder in it */
        each_file(from, remove_file, NULL);
        rmdir(from);
    }
}

void index_folder_remove(char *path)
{
    each_file(path, remove_file, NULL);
    rmdir(path);
    free(path);
}

static void copy_file(const char *from, const char *to)
{
    size_t size;
    char *bytes = test_read(from, &size);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    free(bytes);
}

void index_folder_copy(const char *from, const char *to)
{
    each_file(to, remove_file, NULL);
    each_file(from, copy_file, to);
}

/* -------------------------------------------------------------------- records */

struct base_view model_space(int space)
{
    static const char *const names[MODEL_SPACES] = {"", "one", "two words"};
    return (struct base_view){names[space], strlen(names[space])};
}

const char *model_id(int id, char out[32])
{
    /* Some share their first eight bytes, and their order is not that of their numbers. */
    snprintf(out, 32, id % 3 ? "%d" : "a-long-beginning-%d", id * 7919 % 1000);
    return out;
}

void model_vector(uint64_t seed, float out[MODEL_DIMS])
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < MODEL_DIMS; i++)
        out[i] = test_randf(&state);
}

int model_kind(uint64_t seed)
{
    return seed % 5 == 0 ? -1 : (int)(seed % 7);
}

const char *model_metadata(uint64_t seed, char out[64])
{
    if (model_kind(seed) < 0)
        return NULL;
    snprintf(out, 64, "{\"kind\": %d, \"at\": {\"seed\": %llu}}", model_kind(seed),
             (unsigned long long)seed);
    return out;
}

struct vector_index_config model_config(const struct base_alloc *a, const char *path)
{
    return (struct vector_index_config){.alloc = a,
                                        .path = path,
                                        .traits = {.dims = MODEL_DIMS,
                                                   .metric = INFER_METRIC_L2,
                                                   .type = INFER_INDEX_F32,
                                                   .degree = 8,
                                                   .effort = 32},
                                        .sync = INFER_INDEX_SYNC_OS,
                                        .n_threads = 2,
                                        .freeze_rows = 60,
                                        .keep_rows = 20};
}

/* --------------------------------------------------------------------- writes */

void model_upsert(struct model *m, struct infer_index *index, int n)
{
    infer_record records[64];
    char ids[64][32], metadata[64][64];
    float vectors[64][MODEL_DIMS];
    assert_in_range(n, 1, 64);
    for (int i = 0; i < n; i++) {
        const int space = (int)(test_rand(&m->random) % MODEL_SPACES);
        const int id = (int)(test_rand(&m->random) % MODEL_IDS);
        const uint64_t seed = ++m->next_seed;
        model_vector(seed, vectors[i]);
        records[i] = (infer_record){.id = model_id(id, ids[i]),
                                    .ns = space ? model_space(space).data : NULL,
                                    .vector = vectors[i],
                                    .metadata = model_metadata(seed, metadata[i])};
        m->records[space][id].seed = seed;
    }
    if (index)
        assert_ok(vector_index_upsert(index, records, (size_t)n));
}

void model_delete(struct model *m, struct infer_index *index, int n)
{
    const int space = (int)(test_rand(&m->random) % MODEL_SPACES);
    const char *ids[64];
    char text[64][32];
    size_t there = 0, deleted = 0;
    for (int i = 0; i < n; i++) {
        const int id = (int)(test_rand(&m->random) % MODEL_IDS);
        ids[i] = model_id(id, text[i]);
        there += m->records[space][id].seed != 0;
        m->records[space][id].seed = 0;
    }
    if (!index)
        return;
    assert_ok(vector_index_delete(index, model_space(space), ids, (size_t)n, &deleted));
    assert_int_equal(deleted, there);
}

void model_delete_kind(struct model *m, struct infer_index *index)
{
    const int space = (int)(test_rand(&m->random) % MODEL_SPACES);
    const int kind = (int)(test_rand(&m->random) % 7);
    char filter[64];
    size_t there = 0, deleted = 0;
    for (int id = 0; id < MODEL_IDS; id++)
        if (m->records[space][id].seed && model_kind(m->records[space][id].seed) == kind) {
            m->records[space][id].seed = 0;
            there++;
        }
    snprintf(filter, sizeof filter, "{\"kind\": %d}", kind);
    if (!index)
        return;
    assert_ok(vector_index_delete_where(index, model_space(space), filter, &deleted));
    assert_int_equal(deleted, there);
}

/* --------------------------------------------------------------------- checks */

static int find(const struct model *m, int space, const char *id)
{
    char text[32];
    for (int i = 0; i < MODEL_IDS; i++)
        if (m->records[space][i].seed && strcmp(model_id(i, text), id) == 0)
            return i;
    return -1;
}

static void check_hit(const struct model *m, int space, const struct index_hit *hit)
{
    float vector[MODEL_DIMS];
    char text[64];
    const int id = find(m, space, hit->id);
    assert_true(id >= 0);
    const uint64_t seed = m->records[space][id].seed;
    model_vector(seed, vector);
    assert_memory_equal(hit->vector, vector, sizeof vector);
    const char *metadata = model_metadata(seed, text);
    assert_int_equal(hit->metadata_size, metadata ? strlen(metadata) : 0);
    if (metadata)
        assert_string_equal(hit->metadata, metadata);
}

static void check_list(struct model *m, struct infer_index *index, int space, int kind)
{
    const size_t limit = 1 + test_rand(&m->random) % 60;
    char filter[64], after[32] = "";
    size_t expected = 0, found = 0, page;
    snprintf(filter, sizeof filter, "{\"kind\": {\"$eq\": %d}}", kind);
    for (int id = 0; id < MODEL_IDS; id++)
        expected += m->records[space][id].seed &&
                    (kind < 0 || model_kind(m->records[space][id].seed) == kind);
    do {
        struct infer_hits *hits = NULL;
        assert_ok(vector_index_list(&hits, index, model_space(space), kind < 0 ? NULL : filter,
                                    (struct base_view){after, strlen(after)}, limit,
                                    INFER_INDEX_WITH_METADATA | INFER_INDEX_WITH_VECTOR));
        page = hits->lists[0].n;
        assert_true(page <= limit);
        for (size_t i = 0; i < page; i++) {
            const struct index_hit *hit = &hits->lists[0].items[i];
            check_hit(m, space, hit);
            assert_true(strcmp(hit->id, after) > 0);
            snprintf(after, sizeof after, "%s", hit->id);
        }
        found += page;
        index_hits_destroy(&hits);
    } while (page == limit);
    assert_int_equal(found, expected);
}

static void check_counts(struct model *m, struct infer_index *index)
{
    uint64_t all = 0, count;
    struct vector_counts counts;
    int spaces = 0;
    for (int space = 0; space < MODEL_SPACES; space++) {
        uint64_t n = 0;
        for (int id = 0; id < MODEL_IDS; id++)
            n += m->records[space][id].seed != 0;
        assert_ok(vector_index_count(index, model_space(space), NULL, &count));
        assert_int_equal(count, n);
        spaces += n > 0;
        all += n;
    }
    assert_ok(vector_index_count(index, (struct base_view){NULL, 0}, NULL, &count));
    assert_int_equal(count, all);
    assert_ok(vector_index_counts(index, &counts));
    assert_int_equal(counts.n_records, all);
    assert_int_equal(counts.n_spaces, spaces);
    if (counts.failure)
        fail_msg("in the background: %s", counts.failure);
}

static float score_of(const float *a, const float *b)
{
    float sum = 0;
    for (int i = 0; i < MODEL_DIMS; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return -sum;
}

/* The scores that the best k should have. */
static size_t best_scores(const struct model *m, int space, int kind, const float *query, int self,
                          float *best, size_t k)
{
    size_t n = 0;
    for (int id = 0; id < MODEL_IDS; id++) {
        const uint64_t seed = m->records[space][id].seed;
        float vector[MODEL_DIMS];
        if (!seed || id == self || (kind >= 0 && model_kind(seed) != kind))
            continue;
        model_vector(seed, vector);
        const float score = score_of(query, vector);
        if (n == k && score <= best[k - 1])
            continue;
        size_t at = n < k ? n++ : k - 1;
        best[at] = score;
        for (; at > 0 && best[at] > best[at - 1]; at--) {
            const float other = best[at];
            best[at] = best[at - 1];
            best[at - 1] = other;
        }
    }
    return n;
}

static void check_search(struct model *m, struct infer_index *index, int space, int kind)
{
    struct vector_query queries[3];
    struct infer_hits *hits = NULL;
    float vectors[3][MODEL_DIMS], best[10];
    char filter[64], text[32];
    const int n = 1 + (int)(test_rand(&m->random) % 3);
    int selves[3] = {-1, -1, -1};
    snprintf(filter, sizeof filter, "{\"kind\": %d}", kind);
    for (int i = 0; i < n; i++) {
        model_vector(test_rand(&m->random), vectors[i]);
        queries[i] =
            (struct vector_query){.vector = vectors[i],
                                  .space = model_space(space),
                                  .filter = kind < 0 ? NULL : filter,
                                  .k = 10,
                                  .recall = 1,
                                  .with = INFER_INDEX_WITH_METADATA | INFER_INDEX_WITH_VECTOR};
    }
    for (int id = 0; id < MODEL_IDS && selves[0] < 0; id++)
        if (m->records[space][id].seed && test_rand(&m->random) % 4 == 0)
            selves[0] = id;
    if (selves[0] >= 0) {
        const char *id = model_id(selves[0], text);
        queries[0].vector = NULL;
        queries[0].id = (struct base_view){id, strlen(id)};
        model_vector(m->records[space][selves[0]].seed, vectors[0]);
    }
    assert_ok(vector_index_search(&hits, index, queries, (size_t)n));
    for (int i = 0; i < n; i++) {
        const size_t expected = best_scores(m, space, kind, vectors[i], selves[i], best, 10);
        const struct index_hit_list *list = &hits->lists[i];
        assert_int_equal(list->n, expected);
        assert_int_equal(list->info.exact, 1);
        for (size_t k = 0; k < expected; k++) {
            check_hit(m, space, &list->items[k]);
            assert_true(fabsf(list->items[k].score - best[k]) < 1e-4f);
            assert_true(fabsf(list->items[k].distance + best[k]) < 1e-4f);
        }
    }
    index_hits_destroy(&hits);
}

static void check_get(struct model *m, struct infer_index *index, int space)
{
    const char *ids[20];
    char text[20][32];
    struct infer_hits *hits = NULL;
    size_t there = 0;
    for (int i = 0; i < 20; i++) {
        const int id = (int)(test_rand(&m->random) % MODEL_IDS);
        ids[i] = model_id(id, text[i]);
    }
    assert_ok(vector_index_get(&hits, index, model_space(space), ids, 20,
                               INFER_INDEX_WITH_METADATA | INFER_INDEX_WITH_VECTOR));
    for (int i = 0; i < 20; i++) {
        if (find(m, space, ids[i]) < 0)
            continue;
        assert_true(there < hits->lists[0].n);
        assert_string_equal(hits->lists[0].items[there].id, ids[i]);
        check_hit(m, space, &hits->lists[0].items[there++]);
    }
    assert_int_equal(hits->lists[0].n, there);
    index_hits_destroy(&hits);
}

void model_check(struct model *m, struct infer_index *index)
{
    check_counts(m, index);
    for (int space = 0; space < MODEL_SPACES; space++) {
        const int kind = (int)(test_rand(&m->random) % 8) - 1;
        uint64_t expected = 0, count;
        char filter[64];
        for (int id = 0; id < MODEL_IDS; id++)
            expected += m->records[space][id].seed && model_kind(m->records[space][id].seed) == 3;
        snprintf(filter, sizeof filter, "{\"kind\": {\"$in\": [3]}}");
        assert_ok(vector_index_count(index, model_space(space), filter, &count));
        assert_int_equal(count, expected);
        check_list(m, index, space, kind);
        check_search(m, index, space, kind);
        check_get(m, index, space);
    }
}

int model_is(const struct model *m, struct infer_index *index)
{
    for (int space = 0; space < MODEL_SPACES; space++) {
        struct infer_hits *hits = NULL;
        size_t n = 0, same = 0;
        assert_ok(vector_index_list(&hits, index, model_space(space), NULL,
                                    (struct base_view){"", 0}, 1000, INFER_INDEX_WITH_VECTOR));
        for (int id = 0; id < MODEL_IDS; id++)
            n += m->records[space][id].seed != 0;
        for (size_t i = 0; i < hits->lists[0].n; i++) {
            const struct index_hit *hit = &hits->lists[0].items[i];
            const int id = find(m, space, hit->id);
            float vector[MODEL_DIMS];
            if (id < 0)
                break;
            model_vector(m->records[space][id].seed, vector);
            same += memcmp(vector, hit->vector, sizeof vector) == 0;
        }
        const int equal = same == n && hits->lists[0].n == n;
        index_hits_destroy(&hits);
        if (!equal)
            return 0;
    }
    return 1;
}
