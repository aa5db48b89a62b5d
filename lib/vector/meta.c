/* Metadata in memory: texts that never move, and a table of them in chunks that double. */
#include "vector/meta_internal.h"

#include "base/error.h"
#include "base/json.h"

#include <string.h>

#define CHUNK_ROWS 1024 /* of the first chunk */

static size_t chunk_bytes(int32_t k)
{
    return ((size_t)CHUNK_ROWS << k) * sizeof(struct vector_meta_row);
}

/* The changes that are hidden from readers go through here: the lock, no more. */
static struct vector_meta *unlocked(const struct vector_meta *meta)
{
    return (struct vector_meta *)(uintptr_t)meta;
}

struct vector_meta_index *vector_meta_index_hold(const struct vector_meta *meta)
{
    pthread_mutex_lock(&unlocked(meta)->lock);
    struct vector_meta_index *index = meta->index;
    atomic_fetch_add_explicit(&index->n_holders, 1, memory_order_relaxed);
    pthread_mutex_unlock(&unlocked(meta)->lock);
    return index;
}

/* Takes `index` over. */
static void replace_index(struct vector_meta *m, struct vector_meta_index *index)
{
    pthread_mutex_lock(&m->lock);
    struct vector_meta_index *old = m->index;
    m->index = index;
    pthread_mutex_unlock(&m->lock);
    vector_meta_index_drop(&old);
}

infer_status vector_meta_new(struct vector_meta **out, const struct base_alloc *a)
{
    struct vector_meta *m = base_new(a, 1, sizeof *m);
    if (!m)
        return INFER_ERR_NO_MEMORY;
    m->alloc = *a;
    base_arena_init(&m->texts, a);
    if (!(m->index = vector_meta_index_copy(NULL, a, 0))) {
        base_free(a, m);
        return INFER_ERR_NO_MEMORY;
    }
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        vector_meta_index_drop(&m->index);
        base_free(a, m);
        return base_error(INFER_ERR_NO_MEMORY, "the system has no lock for metadata");
    }
    *out = m;
    return INFER_OK;
}

infer_status vector_meta_create(struct vector_meta **out, const struct base_alloc *a,
                                const char *const *fields, int32_t n_fields)
{
    struct vector_meta *m = NULL;
    infer_status st = vector_meta_new(&m, a);
    for (int32_t i = 0; i < n_fields && st == INFER_OK; i++)
        st = vector_meta_add_field(m, fields[i]);
    if (st == INFER_OK)
        *out = m;
    else
        vector_meta_destroy(&m);
    return st;
}

void vector_meta_destroy(struct vector_meta **meta)
{
    struct vector_meta *m = *meta;
    if (!m)
        return;
    struct base_alloc a = m->alloc;
    vector_meta_index_drop(&m->index);
    vector_filter_cache_clear(&m->filters, &a);
    for (size_t i = 0; i < BASE_COUNT(m->chunks); i++)
        base_free_pages(&a, atomic_load_explicit(&m->chunks[i], memory_order_relaxed),
                        chunk_bytes((int32_t)i));
    base_arena_release(&m->texts);
    pthread_mutex_destroy(&m->lock);
    base_free(&a, m);
    *meta = NULL;
}

infer_status vector_meta_check(const struct base_alloc *a, const char *json, size_t size)
{
    const struct base_json *tree;
    struct base_arena arena;
    if (size > VECTOR_META_MAX)
        return base_error(INFER_ERR_LIMIT, "metadata of %zu bytes; at most %d are kept", size,
                          VECTOR_META_MAX);
    base_arena_init(&arena, a);
    infer_status st = base_json_parse(&tree, &arena, json, size);
    if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
        base_error_prefix(st, "metadata");
    if (st == INFER_OK && tree->type != BASE_JSON_OBJECT)
        st =
            base_error(INFER_ERR_FORMAT,
                       "metadata is an object of JSON, {\"name\": value, ...}, and no other value");
    base_arena_release(&arena);
    return st;
}

/* ------------------------------------------------------------------ rows */

/* Chunk k begins with row CHUNK_ROWS * (2^k - 1). */
static int32_t chunk_of(int32_t row, int32_t *at)
{
    uint32_t from = (uint32_t)row + CHUNK_ROWS;
    int32_t k = 31 - __builtin_clz(from) - 10;
    *at = (int32_t)(from - ((uint32_t)CHUNK_ROWS << k));
    return k;
}

int32_t vector_meta_size(const struct vector_meta *meta)
{
    return atomic_load_explicit(&unlocked(meta)->n, memory_order_acquire);
}

infer_status vector_meta_text(const struct vector_meta *meta, int32_t row, const char **json,
                              size_t *size)
{
    *json = NULL;
    *size = 0;
    if (meta->bases) {
        const uint64_t base = meta->bases[row / META_BLOCK];
        const uint64_t begin = base + (row % META_BLOCK ? meta->ends[row - 1] : 0);
        const uint64_t end = base + meta->ends[row];
        if (begin > end || end > meta->n_bytes || end - begin > VECTOR_META_MAX)
            return base_error(
                INFER_ERR_FORMAT,
                "metadata of row %d of %s: bytes %llu to %llu of %llu are no place for "
                "it",
                row, vector_file_path(meta->file), (unsigned long long)begin,
                (unsigned long long)end, (unsigned long long)meta->n_bytes);
        *json = (const char *)meta->bytes + begin;
        *size = (size_t)(end - begin);
        return INFER_OK;
    }
    int32_t at, k = chunk_of(row, &at);
    const struct vector_meta_row *rows =
        atomic_load_explicit(&unlocked(meta)->chunks[k], memory_order_acquire);
    *json = rows[at].json;
    *size = rows[at].size;
    return INFER_OK;
}

void vector_meta_get(const struct vector_meta *meta, int32_t row, const char **json, size_t *size)
{
    *json = NULL;
    *size = 0;
    if (row >= 0 && row < vector_meta_size(meta) &&
        vector_meta_text(meta, row, json, size) == INFER_OK && !*size)
        *json = NULL;
}

uint64_t vector_meta_bytes(const struct vector_meta *meta)
{
    struct vector_meta_index *index = vector_meta_index_hold(meta);
    uint64_t bytes = sizeof *meta + vector_meta_index_bytes(index) +
                     atomic_load_explicit(&unlocked(meta)->text_bytes, memory_order_relaxed);
    vector_meta_index_drop(&index);
    pthread_mutex_lock(&unlocked(meta)->lock);
    bytes += vector_filter_cache_bytes(&meta->filters);
    pthread_mutex_unlock(&unlocked(meta)->lock);
    return bytes;
}

static infer_status store_row(struct vector_meta *m, int32_t row, const char *json, size_t size)
{
    int32_t at, k = chunk_of(row, &at);
    struct vector_meta_row *rows = atomic_load_explicit(&m->chunks[k], memory_order_relaxed);
    const size_t bytes = chunk_bytes(k);
    char *text = NULL;
    if (!rows) {
        if (!(rows = base_new_pages(&m->alloc, bytes)))
            return INFER_ERR_NO_MEMORY;
        atomic_store_explicit(&m->chunks[k], rows, memory_order_release);
        m->table_bytes += bytes;
    }
    if (size && !(text = base_arena_strdup(&m->texts, json, size)))
        return INFER_ERR_NO_MEMORY;
    rows[at] = (struct vector_meta_row){text, (uint32_t)size};
    atomic_store_explicit(&m->text_bytes, m->texts.used_bytes + m->table_bytes,
                          memory_order_relaxed);
    atomic_store_explicit(&m->n, row + 1, memory_order_release);
    return INFER_OK;
}

/* Indexes what came since. A filter reads the rows behind as text, so that a failure costs time
 * alone, and is tried again some rows later. */
static void follow(struct vector_meta *m, int32_t n)
{
    const int32_t behind = n - m->index->end;
    if (!m->index->n || behind <= 0 || behind % VECTOR_META_TAIL)
        return;
    struct vector_meta_index *index = vector_meta_index_copy(m->index, &m->alloc, 0);
    if (index && vector_meta_index_extend(index, m, n) == INFER_OK)
        replace_index(m, index);
    else
        vector_meta_index_drop(&index);
}

infer_status vector_meta_add(struct vector_meta *meta, const char *json, size_t size)
{
    const int32_t n = vector_meta_size(meta);
    if (meta->bases)
        return base_error(INFER_ERR_UNSUPPORTED, "metadata in a file is fixed: no row is added");
    if (n == INT32_MAX)
        return base_error(INFER_ERR_LIMIT, "metadata of %d rows: no more are counted", n);
    if (size > VECTOR_META_MAX)
        return base_error(INFER_ERR_LIMIT, "metadata of %zu bytes; at most %d are kept", size,
                          VECTOR_META_MAX);
    infer_status st = store_row(meta, n, json, json ? size : 0);
    if (st == INFER_OK)
        follow(meta, n + 1);
    return st;
}

infer_status vector_meta_add_field(struct vector_meta *meta, const char *path)
{
    const int32_t n = vector_meta_size(meta);
    struct base_view name = {path, strlen(path)};
    infer_status st = vector_meta_check_path(path);
    if (st != INFER_OK || vector_meta_index_field(meta->index, name))
        return st;
    if (meta->index->n == VECTOR_FIELDS_MAX)
        return base_error(INFER_ERR_LIMIT,
                          "the field \"%.64s\" is one more than %d, which are all "
                          "that can be indexed",
                          path, VECTOR_FIELDS_MAX);
    struct vector_meta_index *index = vector_meta_index_copy(meta->index, &meta->alloc, 1);
    if (!index)
        return INFER_ERR_NO_MEMORY;
    st = INFER_ERR_NO_MEMORY;
    if ((name.data = base_arena_strdup(&meta->texts, path, name.size))) {
        index->fields[index->n++].path = name;
        st = n ? vector_meta_index_extend(index, meta, n) : INFER_OK;
    }
    if (st == INFER_OK)
        replace_index(meta, index);
    else
        vector_meta_index_drop(&index);
    return st;
}
