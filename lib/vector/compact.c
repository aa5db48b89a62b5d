/* What is done in the background: a part that no longer grows becomes a segment, and segments
 * become fewer. */
#include "base/error.h"
#include "vector/card.h"
#include "vector/state.h"

#include <string.h>

static int32_t take_fields(struct infer_index *index, const char **fields)
{
    pthread_mutex_lock(&index->commit);
    const int32_t n = index->n_fields;
    memcpy(fields, index->fields, sizeof index->fields);
    pthread_mutex_unlock(&index->commit);
    return n;
}

/* Opens what was just written. */
static infer_status open_made(struct infer_index *index, struct vector_part **out, const char *path,
                              uint64_t number)
{
    infer_status st = vector_part_open(out, &index->space, path, number, 0);
    if (st != INFER_OK)
        vector_folder_drop(index->folder, "segment", number);
    else
        vector_card_keep((*out)->space);
    return st;
}

/* ------------------------------------------------------------------- flushing */

static infer_status flush_one(struct infer_index *index, struct vector_part *part)
{
    char path[INDEX_PATH_MAX];
    const char *fields[VECTOR_FIELDS_MAX];
    struct vector_part *made = NULL;
    pthread_mutex_lock(&index->publish);
    const int32_t empty = part->n_dead == part->n_rows;
    pthread_mutex_unlock(&index->publish);
    if (!index->folder && !empty && !part->fixed && index->space.no_graph) {
        infer_status st = vector_space_tune(part->space, index_pool(index, &index->work_pool));
        if (st != INFER_OK)
            return st;
    }
    pthread_mutex_lock(&index->publish);
    if (!index->folder && !empty) { /* it stays as it is */
        part->fixed = 1;
        part->stale = 0;
    }
    pthread_mutex_unlock(&index->publish);
    if (empty)
        return index_replace(index, &part, 1, NULL, NULL);
    if (!index->folder)
        return INFER_OK;
    const int32_t n_fields = take_fields(index, fields);
    const uint64_t number = atomic_fetch_add(&index->next_file, 1);
    infer_status st = index_path(index, "segment", number, path);
    if (st == INFER_OK && !part->fixed) /* what has a file has been measured */
        st = vector_space_tune(part->space, index_pool(index, &index->work_pool));
    if (st == INFER_OK)
        st = vector_part_write(part, part->n_rows, path, fields, n_fields);
    if (st == INFER_OK)
        st = open_made(index, &made, path, number);
    return st == INFER_OK ? index_replace(index, &part, 1, NULL, made) : st;
}

/* The oldest part that waits to be written, the first time or with another field, or NULL. */
static struct vector_part *oldest_waiting(struct infer_index *index)
{
    struct vector_part *found = NULL;
    pthread_mutex_lock(&index->publish);
    for (int32_t i = 0; i + 1 < index->parts->n && !found; i++)
        if (!index->parts->part[i]->fixed || index->parts->part[i]->stale)
            found = vector_part_retain(index->parts->part[i]);
    pthread_mutex_unlock(&index->publish);
    return found;
}

infer_status index_flush(struct infer_index *index, int32_t all)
{
    struct vector_part *part;
    infer_status st = INFER_OK;
    if (all) {
        pthread_mutex_lock(&index->writer);
        if (index_growing(index)->n_rows)
            st = index_rotate(index);
        pthread_mutex_unlock(&index->writer);
    }
    while (st == INFER_OK && (part = oldest_waiting(index)) != NULL) {
        st = flush_one(index, part);
        vector_part_release(&part);
    }
    return st;
}

/* -------------------------------------------------------------------- merging */

struct merge {
    struct infer_index *index;
    struct vector_part *const *parts;
    int32_t n;
    uint64_t **gone; /* rows of each that were deleted when it began */
    struct vector_source *spaces;
    struct vector_meta_source *metas;
    struct vector_ids_source *ids;
    int64_t n_alive;
};

static infer_status begin_merge(struct merge *m, const struct index_seen *seen)
{
    const struct base_alloc *a = &m->index->alloc;
    const size_t n = (size_t)m->n;
    m->gone = base_new(a, n, sizeof *m->gone);
    m->spaces = base_new(a, n, sizeof *m->spaces);
    m->metas = base_new(a, n, sizeof *m->metas);
    m->ids = base_new(a, n, sizeof *m->ids);
    if (!m->gone || !m->spaces || !m->metas || !m->ids)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const struct vector_part *part = m->parts[i];
        const int32_t rows = seen ? seen[i].n_rows : part->n_rows; /* it is fixed */
        const _Atomic uint64_t *dead = seen ? seen[i].dead : part->dead->words;
        const size_t words = ((size_t)rows + 63) / 64;
        uint64_t *gone = m->gone[i] = base_new_raw(a, words, sizeof *gone);
        if (!gone)
            return INFER_ERR_NO_MEMORY;
        m->n_alive += rows;
        for (size_t w = 0; w < words; w++) {
            gone[w] = dead ? atomic_load_explicit(&dead[w], memory_order_relaxed) : 0;
            m->n_alive -= __builtin_popcountll(gone[w]);
        }
        m->spaces[i] = (struct vector_source){part->space, gone, rows};
        m->metas[i] = (struct vector_meta_source){part->meta, gone, rows};
        m->ids[i] = (struct vector_ids_source){part->ids, gone, rows};
    }
    return INFER_OK;
}

static void end_merge(struct merge *m)
{
    const struct base_alloc *a = &m->index->alloc;
    for (int32_t i = 0; m->gone && i < m->n; i++)
        base_free(a, m->gone[i]);
    base_free(a, m->gone);
    base_free(a, m->spaces);
    base_free(a, m->metas);
    base_free(a, m->ids);
}

/* The merged part in memory. */
static infer_status merge_in_memory(struct merge *m, struct vector_space **space,
                                    struct vector_part **made)
{
    struct infer_index *index = m->index;
    const char *fields[VECTOR_FIELDS_MAX];
    const int32_t n_fields = take_fields(index, fields);
    struct vector_meta *meta = NULL;
    struct vector_ids *ids = NULL;
    infer_status st = vector_meta_create(&meta, &index->alloc, fields, n_fields);
    for (int32_t i = 0; i < m->n && st == INFER_OK; i++)
        for (int32_t row = 0; row < m->metas[i].n_rows && st == INFER_OK; row++) {
            const char *json;
            size_t size;
            if (m->gone[i][row / 64] >> row % 64 & 1)
                continue;
            vector_meta_get(m->metas[i].meta, row, &json, &size);
            st = vector_meta_add(meta, json, size);
        }
    if (st == INFER_OK)
        st = vector_ids_merge(&ids, &index->alloc, m->ids, m->n);
    if (st != INFER_OK) {
        vector_meta_destroy(&meta);
        return st;
    }
    st = vector_part_make(made, &index->alloc, *space, meta, ids, NULL);
    *space = NULL;
    if (st == INFER_OK)
        (*made)->fixed = 1;
    return st;
}

static infer_status write_merge(struct merge *m, const struct vector_space *space, const char *path)
{
    const struct base_alloc *a = &m->index->alloc;
    const char *fields[VECTOR_FIELDS_MAX];
    const int32_t n_fields = take_fields(m->index, fields);
    struct vector_file_writer *writer = NULL;
    struct vector_ids *ids = NULL;
    infer_status st = vector_ids_merge(&ids, a, m->ids, m->n);
    if (st == INFER_OK)
        st = vector_file_create(&writer, a, path, "segment");
    if (st == INFER_OK)
        st = vector_ids_write(ids, writer);
    if (st == INFER_OK)
        st = vector_meta_write(m->metas, m->n, a, fields, n_fields, writer);
    if (st == INFER_OK)
        st = vector_space_write(space, writer);
    vector_ids_destroy(&ids);
    if (st == INFER_OK)
        return vector_file_finish(&writer);
    vector_file_abandon(&writer);
    return st;
}

static infer_status merge_to_file(struct merge *m, struct vector_space **space,
                                  struct vector_part **made)
{
    struct infer_index *index = m->index;
    char path[INDEX_PATH_MAX];
    const uint64_t number = atomic_fetch_add(&index->next_file, 1);
    infer_status st = index_path(index, "segment", number, path);
    if (st == INFER_OK)
        st = write_merge(m, *space, path);
    vector_space_destroy(space); /* before the file takes its place in memory */
    return st == INFER_OK ? open_made(index, made, path, number) : st;
}

static infer_status make_merged(struct merge *m, struct vector_part **made,
                                infer_progress_fn progress, void *user)
{
    struct infer_index *index = m->index;
    struct base_pool *pool = index_pool(index, &index->work_pool);
    struct vector_space *space = NULL;
    if (!m->n_alive)
        return INFER_OK;
    infer_status st =
        vector_space_merge(&space, &index->space, m->spaces, m->n, pool, progress, user);
    if (st == INFER_OK)
        st = vector_space_tune(space, pool);
    if (st == INFER_OK)
        st = index->folder ? merge_to_file(m, &space, made) : merge_in_memory(m, &space, made);
    vector_space_destroy(&space);
    return st;
}

infer_status index_merge(struct infer_index *index, struct vector_part *const *parts, int32_t n,
                         infer_progress_fn progress, void *user)
{
    struct merge m = {.index = index, .parts = parts, .n = n};
    struct vector_part *made = NULL;
    pthread_mutex_lock(&index->writer);
    infer_status st = begin_merge(&m, NULL);
    pthread_mutex_unlock(&index->writer);
    if (st == INFER_OK)
        st = make_merged(&m, &made, progress, user);
    if (st == INFER_OK)
        st = index_replace(index, parts, n, m.gone, made);
    end_merge(&m);
    if (st == INFER_OK)
        atomic_fetch_add(&index->n_compactions, 1);
    return st;
}

infer_status index_copy_into(struct infer_index *index, const struct index_view *from,
                             infer_progress_fn progress, void *user)
{
    struct merge m = {.index = index, .parts = from->parts->part, .n = from->n};
    struct vector_part *made = NULL;
    infer_status st = begin_merge(&m, from->seen);
    if (st == INFER_OK)
        st = make_merged(&m, &made, progress, user);
    if (st == INFER_OK && made)
        st = index_replace(index, NULL, 0, NULL, made);
    end_merge(&m);
    return st;
}

/* ------------------------------------------------------------ the call for it */

infer_status vector_index_compact(struct infer_index *index)
{
    struct index_view view;
    if (index->read_only)
        return base_error(INFER_ERR_UNSUPPORTED, "the index was opened with read_only");
    pthread_mutex_lock(&index->work);
    infer_status st = index_flush(index, 1);
    if (st == INFER_OK)
        st = index_view_begin(&view, index, 0);
    if (st == INFER_OK) {
        int32_t n = 0;
        struct vector_part **parts = base_new(&index->alloc, (size_t)view.n, sizeof *parts);
        for (int32_t i = 0; parts && i + 1 < view.n; i++)
            if (view.parts->part[i]->fixed)
                parts[n++] = view.parts->part[i];
        if (!parts)
            st = INFER_ERR_NO_MEMORY;
        else if (n > 1 ||
                 (n == 1 && (view.seen[0].n_dead || vector_space_lacks_graph(parts[0]->space))))
            st = index_merge(index, parts, n, index->progress, index->user);
        base_free(&index->alloc, parts);
        index_view_end(&view);
    }
    pthread_mutex_unlock(&index->work);
    if (st == INFER_OK)
        index_fine(index);
    return st;
}
