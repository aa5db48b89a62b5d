/* What a reader sees: the parts as they were at one moment. It takes a lock for that moment only,
 * never the writers'. */
#include "base/error.h"
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
