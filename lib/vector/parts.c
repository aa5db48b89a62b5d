/* The list of parts, and the part that grows. */
#include "base/error.h"
#include "vector/state.h"

#include <stdio.h>

infer_status index_parts_make(struct index_parts **out, const struct base_alloc *a,
                              struct vector_part *const *parts, int32_t n)
{
    struct index_parts *p = base_new(a, 1, sizeof *p + (size_t)n * sizeof p->part[0]);
    if (!p)
        return INFER_ERR_NO_MEMORY;
    p->alloc = *a;
    p->n = n;
    atomic_init(&p->refs, 1);
    for (int32_t i = 0; i < n; i++)
        p->part[i] = vector_part_retain(parts[i]);
    *out = p;
    return INFER_OK;
}

void index_parts_release(struct index_parts **parts)
{
    struct index_parts *p = *parts;
    *parts = NULL;
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (int32_t i = 0; i < p->n; i++)
        vector_part_release(&p->part[i]);
    const struct base_alloc a = p->alloc;
    base_free(&a, p);
}

struct vector_part *index_growing(const struct infer_index *index)
{
    return index->parts->part[index->parts->n - 1];
}

void index_parts_swap(struct infer_index *index, struct index_parts *parts)
{
    pthread_mutex_lock(&index->publish);
    struct index_parts *old = index->parts;
    index->parts = parts;
    pthread_mutex_unlock(&index->publish);
    index_parts_release(&old);
}

infer_status index_growing_create(struct vector_part **out, struct infer_index *index)
{
    struct vector_space *space = NULL;
    struct vector_meta *meta = NULL;
    struct vector_ids *ids = NULL;
    infer_status st = vector_space_create(&space, &index->space);
    if (st == INFER_OK)
        st = vector_meta_create(&meta, &index->alloc, index->fields, index->n_fields);
    if (st == INFER_OK)
        st = vector_ids_create(&ids, &index->alloc);
    if (st == INFER_OK)
        return vector_part_make(out, &index->alloc, space, meta, ids, NULL);
    vector_space_destroy(&space);
    vector_meta_destroy(&meta);
    return st;
}

static infer_status nothing_there(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    BASE_UNUSED(data);
    BASE_UNUSED(user);
    return base_error(INFER_ERR_INTERNAL, "a new log has a record of type %u and %zu bytes",
                      (unsigned)type, size);
}

infer_status index_path(const struct infer_index *index, const char *kind, uint64_t number,
                        char *out)
{
    return vector_folder_name(index->folder, kind, number, out, INDEX_PATH_MAX);
}

infer_status index_rotate(struct infer_index *index)
{
    struct vector_part *part = NULL;
    struct index_parts *parts = NULL, *old = index->parts;
    struct vector_part **list = base_new_raw(&index->alloc, (size_t)old->n + 1, sizeof(void *));
    infer_status st = list ? index_growing_create(&part, index) : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK && index->folder) {
        char path[INDEX_PATH_MAX];
        part->first_log = part->last_log = atomic_fetch_add(&index->next_file, 1);
        st = index_path(index, "log", part->first_log, path);
        if (st == INFER_OK)
            st = vector_log_open(&part->log, &index->alloc, path, 0, nothing_there, NULL);
    }
    if (st == INFER_OK) {
        for (int32_t i = 0; i < old->n; i++)
            list[i] = old->part[i];
        list[old->n] = part;
        st = index_parts_make(&parts, &index->alloc, list, old->n + 1);
    }
    if (st == INFER_OK)
        index_parts_swap(index, parts);
    vector_part_release(&part);
    base_free(&index->alloc, list);
    return st;
}

struct base_pool *index_pool(struct infer_index *index, struct base_pool **pool)
{
    pthread_mutex_lock(&index->pools);
    if (!*pool)
        (void)base_pool_create(pool, &index->alloc,
                               index->n_threads ? index->n_threads : base_cpu_count(), NULL);
    struct base_pool *made = *pool;
    pthread_mutex_unlock(&index->pools);
    return made;
}
