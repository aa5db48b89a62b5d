/* What a reader sees: the parts as they were at one moment. It takes a lock for that moment only,
 * never the writers'. */
#include "base/error.h"
#include "vector/filter.h"
#include "vector/state.h"

#include <string.h>

static infer_status copy_dead(struct index_seen *seen, const struct base_alloc *a)
{
    const size_t n = ((size_t)seen->n_rows + 63) / 64;
    seen->copy = base_new_raw(a, n, sizeof *seen->copy);
    if (!seen->copy)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        atomic_init(&seen->copy[i], atomic_load_explicit(&seen->dead[i], memory_order_relaxed));
    seen->dead = seen->copy;
    return INFER_OK;
}

infer_status index_view_begin(struct index_view *view, struct infer_index *index, int32_t copy)
{
    infer_status st = INFER_OK;
    int32_t room = INDEX_VIEW_PARTS;
    view->index = index;
    view->seen = view->some;
    for (;;) {
        pthread_mutex_lock(&index->publish);
        view->n = index->parts->n;
        if (view->n <= room)
            break;
        pthread_mutex_unlock(&index->publish);
        room = view->n;
        if (view->seen != view->some)
            base_free(&index->alloc, view->seen);
        view->seen = base_new_raw(&index->alloc, (size_t)room, sizeof *view->seen);
        if (!view->seen)
            return INFER_ERR_NO_MEMORY;
    }
    view->parts = index->parts;
    atomic_fetch_add_explicit(&view->parts->refs, 1, memory_order_relaxed);
    view->version = index->version;
    for (int32_t i = 0; i < view->n; i++) {
        struct vector_part *part = view->parts->part[i];
        view->seen[i] = (struct index_seen){part, part->n_rows, part->n_dead,
                                            part->n_dead ? part->dead->words : NULL, NULL};
        if (copy && part->n_dead && st == INFER_OK)
            st = copy_dead(&view->seen[i], &index->alloc);
    }
    pthread_mutex_unlock(&index->publish);
    if (st != INFER_OK)
        index_view_end(view);
    return st;
}

int32_t index_view_changed(const struct index_view *view)
{
    pthread_mutex_lock(&view->index->publish);
    const int32_t changed = view->index->version != view->version;
    pthread_mutex_unlock(&view->index->publish);
    return changed;
}

void index_view_end(struct index_view *view)
{
    const struct base_alloc *a = &view->index->alloc;
    for (int32_t i = 0; i < view->n; i++)
        base_free(a, view->seen[i].copy);
    if (view->seen != view->some)
        base_free(a, view->seen);
    index_parts_release(&view->parts);
}

int32_t index_view_find(const struct index_view *view, struct base_view space, struct base_view id,
                        int32_t *part)
{
    for (int32_t i = view->n - 1; i >= 0; i--) {
        const struct index_seen *seen = &view->seen[i];
        const int32_t s = vector_ids_space(seen->part->ids, space);
        const int32_t row = s < 0 ? -1 : vector_ids_find(seen->part->ids, s, id, seen->n_rows);
        if (index_seen_alive(seen, row)) {
            *part = i;
            return row;
        }
    }
    return -1;
}

/* ------------------------------------------------------- namespace and filter */

/* Asks the metadata of each row whose bit is set; clears the bits of those that fail. */
static infer_status test_rows(struct index_allowed *allowed, const struct index_seen *seen,
                              const struct vector_filter *filter)
{
    const size_t words = ((size_t)seen->n_rows + 63) / 64;
    infer_status st = INFER_OK;
    for (size_t w = 0; w < words; w++)
        for (uint64_t bits = allowed->own[w]; bits; bits &= bits - 1) {
            const int32_t row = (int32_t)w * 64 + __builtin_ctzll(bits);
            const char *json;
            size_t size;
            int32_t passes = 0;
            if (!index_seen_alive(seen, row)) {
                allowed->own[w] &= ~(bits & -bits);
                allowed->rows.n_set--;
                continue;
            }
            vector_meta_get(seen->part->meta, row, &json, &size);
            st = vector_filter_test(filter, size ? json : NULL, size, &passes);
            if (st != INFER_OK)
                return st;
            if (!passes) {
                allowed->own[w] &= ~(bits & -bits);
                allowed->rows.n_set--;
            }
        }
    return st;
}

static infer_status filter_part(struct index_allowed *allowed, const struct index_seen *seen,
                                const struct base_alloc *a, int32_t space,
                                const struct vector_filter *filter)
{
    const struct vector_ids *ids = seen->part->ids;
    const size_t words = ((size_t)seen->n_rows + 63) / 64;
    const uint64_t *bits = space < 0 ? NULL : vector_ids_bits(ids, space);
    infer_status st = vector_filter_rows(filter, seen->part->meta, seen->n_rows, allowed->own,
                                         &allowed->rows.n_set);
    if (st != INFER_OK || space < 0)
        return st;
    uint64_t *marked = NULL;
    if (!bits) {
        marked = base_new(a, words, sizeof *marked);
        if (!marked)
            return INFER_ERR_NO_MEMORY;
        vector_ids_mark(ids, space, seen->n_rows, marked);
        bits = marked;
    }
    allowed->rows.n_set = 0;
    for (size_t w = 0; w < words; w++) {
        allowed->own[w] &= bits[w];
        allowed->rows.n_set += __builtin_popcountll(allowed->own[w]);
    }
    base_free(a, marked);
    return INFER_OK;
}

static infer_status find_allowed(struct index_allowed *allowed, const struct index_seen *seen,
                                 const struct base_alloc *a, const struct base_view *space,
                                 const struct vector_filter *filter)
{
    const struct vector_ids *ids = seen->part->ids;
    int32_t s = -1, in_space = seen->n_rows;
    *allowed = (struct index_allowed){.rows = {.n = seen->n_rows}};
    if (space) {
        s = vector_ids_space(ids, *space);
        if (s < 0)
            return INFER_OK;
        if (vector_ids_spaces(ids) == 1)
            s = -1; /* all rows are in it */
        else
            in_space = BASE_MIN(vector_ids_count(ids, s), seen->n_rows);
    }
    if (!seen->n_rows)
        return INFER_OK;
    if (s < 0 && !filter) {
        allowed->rows.n_set = seen->n_rows;
        return INFER_OK;
    }
    if (!filter && (allowed->rows.bits = vector_ids_bits(ids, s)) != NULL) {
        allowed->rows.n_set = in_space;
        return INFER_OK;
    }
    allowed->own = base_new(a, ((size_t)seen->n_rows + 63) / 64, sizeof *allowed->own);
    if (!allowed->own)
        return INFER_ERR_NO_MEMORY;
    allowed->rows.bits = allowed->own;
    /* Where the namespace is small, or no index helps, its rows alone are asked. */
    if (filter &&
        (s < 0 || (in_space > seen->n_rows / 16 &&
                   vector_filter_most(filter, seen->part->meta, seen->n_rows) < in_space)))
        return filter_part(allowed, seen, a, s, filter);
    allowed->rows.n_set = vector_ids_mark(ids, s, seen->n_rows, allowed->own);
    return filter ? test_rows(allowed, seen, filter) : INFER_OK;
}

infer_status index_allowed_find(struct index_allowed *allowed, const struct index_seen *seen,
                                const struct base_alloc *a, const struct base_view *space,
                                const struct vector_filter *filter)
{
    infer_status st = find_allowed(allowed, seen, a, space, filter);
    if (st != INFER_OK)
        index_allowed_release(allowed, a);
    return st;
}

void index_allowed_release(struct index_allowed *allowed, const struct base_alloc *a)
{
    base_free(a, allowed->own);
    allowed->own = NULL;
}
