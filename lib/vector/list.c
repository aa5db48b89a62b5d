/* Records by their ids: one by one, in order, and how many there are. */
#include "base/error.h"
#include "vector/filter.h"
#include "vector/state.h"

#include <string.h>

/* A filter that the indexes of fields say leaves less than this share is asked of a whole part at
 * once; else each record is asked when it is its turn. */
#define FEW 16

static infer_status parse(struct vector_filter **out, const struct infer_index *index,
                          const char *filter)
{
    return filter ? vector_filter_parse(out, &index->alloc, filter, strlen(filter)) : INFER_OK;
}

/* ------------------------------------------------------------------------ get */

static infer_status get_all(struct infer_hits *hits, struct index_view *view,
                            struct base_view space, const char *const *ids, size_t n, uint32_t with)
{
    infer_status st = index_hits_room(hits, 0, n);
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        const struct base_view id = {ids[i], strnlen(ids[i], VECTOR_NAME_MAX + 1)};
        int32_t part;
        const int32_t row =
            id.size <= VECTOR_NAME_MAX ? index_view_find(view, space, id, &part) : -1;
        if (row >= 0)
            st = index_hits_add(hits, 0, view->seen[part].part, row, view->index->traits.dims, with,
                                0, 0);
    }
    return st;
}

infer_status vector_index_get(struct infer_hits **out, struct infer_index *index,
                              struct base_view space, const char *const *ids, size_t n,
                              uint32_t with)
{
    struct infer_hits *hits = NULL;
    for (int32_t copy = 0; copy < 2; copy++) {
        struct index_view view;
        infer_status st = index_hits_create(&hits, &index->alloc, 1);
        if (st == INFER_OK)
            st = index_view_begin(&view, index, copy);
        if (st == INFER_OK) {
            st = get_all(hits, &view, space, ids, n, with);
            const int32_t changed = !copy && index_view_changed(&view);
            index_view_end(&view);
            if (st == INFER_OK && !changed) {
                *out = hits;
                return INFER_OK;
            }
        }
        index_hits_destroy(&hits);
        if (st != INFER_OK)
            return st;
    }
    return base_error(INFER_ERR_INTERNAL, "a view that was copied has changed");
}

/* ----------------------------------------------------------------------- list */

/* One part of a page. */
struct page_part {
    const struct index_seen *seen;
    struct vector_ids_walk walk;
    struct index_allowed allowed; /* where the filter was asked of the whole part */
    int32_t whole, row;           /* row: the next one; -1: there is none */
    struct base_view id;
};

static infer_status passes(const struct page_part *p, const struct vector_filter *filter,
                           int32_t *yes)
{
    const char *json;
    size_t size;
    *yes = index_seen_alive(p->seen, p->row);
    if (!*yes || !filter)
        return INFER_OK;
    if (p->whole) {
        *yes = p->allowed.rows.n_set && p->allowed.rows.bits[p->row / 64] >> p->row % 64 & 1;
        return INFER_OK;
    }
    vector_meta_get(p->seen->part->meta, p->row, &json, &size);
    return vector_filter_test(filter, size ? json : NULL, size, yes);
}

static infer_status step(struct page_part *p, const struct vector_filter *filter)
{
    int32_t yes = 0;
    while (!yes) {
        infer_status st = vector_ids_walk_next(&p->walk, &p->row, &p->id);
        if (st == INFER_OK)
            st = passes(p, filter, &yes);
        if (st == INFER_DONE) {
            p->row = -1;
            return INFER_OK;
        }
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

static infer_status begin(struct page_part *p, const struct index_seen *seen,
                          const struct base_alloc *a, struct base_view space,
                          const struct vector_filter *filter, struct base_view after)
{
    const int32_t s = vector_ids_space(seen->part->ids, space);
    p->seen = seen;
    p->row = -1;
    if (s < 0 || !seen->n_rows)
        return INFER_OK;
    infer_status st = vector_ids_walk_begin(&p->walk, a, seen->part->ids, s, after, seen->n_rows);
    if (st == INFER_OK && filter &&
        vector_filter_most(filter, seen->part->meta, seen->n_rows) < seen->n_rows / FEW) {
        p->whole = 1;
        st = index_allowed_find(&p->allowed, seen, a, NULL, filter, 0);
    }
    return st == INFER_OK ? step(p, filter) : st;
}

static infer_status fill_page(struct infer_hits *hits, struct page_part *parts, int32_t n,
                              const struct vector_filter *filter, size_t limit, int32_t dims,
                              uint32_t with)
{
    infer_status st = INFER_OK;
    while (st == INFER_OK && hits->lists[0].n < limit) {
        struct page_part *first = NULL;
        for (int32_t i = 0; i < n; i++)
            if (parts[i].row >= 0 && (!first || vector_names_compare(parts[i].id, first->id) < 0))
                first = &parts[i];
        if (!first)
            break;
        st = index_hits_add(hits, 0, first->seen->part, first->row, dims, with, 0, 0);
        if (st == INFER_OK)
            st = step(first, filter);
    }
    return st;
}

static infer_status list_page(struct infer_hits *hits, struct index_view *view,
                              struct base_view space, const struct vector_filter *filter,
                              struct base_view after, size_t limit, uint32_t with)
{
    const struct base_alloc *a = &view->index->alloc;
    uint64_t most = 0;
    for (int32_t i = 0; i < view->n; i++)
        most += (uint64_t)view->seen[i].n_rows;
    limit = (size_t)BASE_MIN((uint64_t)limit, most);
    struct page_part *parts = base_new(a, (size_t)view->n, sizeof *parts);
    infer_status st = parts ? index_hits_room(hits, 0, limit) : INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < view->n && st == INFER_OK; i++)
        st = begin(&parts[i], &view->seen[i], a, space, filter, after);
    if (st == INFER_OK)
        st = fill_page(hits, parts, view->n, filter, limit, view->index->traits.dims, with);
    for (int32_t i = 0; parts && i < view->n; i++) {
        vector_ids_walk_end(&parts[i].walk, a);
        index_allowed_release(&parts[i].allowed, a);
    }
    base_free(a, parts);
    return st;
}

infer_status vector_index_list(struct infer_hits **out, struct infer_index *index,
                               struct base_view space, const char *filter, struct base_view after,
                               size_t limit, uint32_t with)
{
    struct vector_filter *parsed = NULL;
    struct infer_hits *hits = NULL;
    struct index_view view;
    infer_status st = parse(&parsed, index, filter);
    if (st == INFER_OK)
        st = index_hits_create(&hits, &index->alloc, 1);
    if (st == INFER_OK)
        st = index_view_begin(&view, index, 1);
    if (st == INFER_OK) {
        st = list_page(hits, &view, space, parsed, after, limit, with);
        index_view_end(&view);
    }
    vector_filter_destroy(&parsed);
    if (st == INFER_OK)
        *out = hits;
    else
        index_hits_destroy(&hits);
    return st;
}

/* ---------------------------------------------------------------------- count */

/* What is counted anyway. */
static uint64_t count_all(struct infer_index *index, const struct base_view *space)
{
    uint64_t n = 0;
    pthread_mutex_lock(&index->publish);
    for (int32_t i = 0; i < index->parts->n; i++) {
        const struct vector_part *part = index->parts->part[i];
        const int32_t s = space ? vector_ids_space(part->ids, *space) : -1;
        if (!space)
            n += (uint64_t)(part->n_rows - part->n_dead);
        else if (s >= 0)
            n += (uint64_t)BASE_MAX(0, atomic_load(vector_ids_alive(part->ids, s)));
    }
    pthread_mutex_unlock(&index->publish);
    return n;
}

static infer_status count_part(const struct index_seen *seen, const struct base_alloc *a,
                               const struct base_view *space, const struct vector_filter *filter,
                               uint64_t *n)
{
    struct index_allowed allowed;
    infer_status st = index_allowed_find(&allowed, seen, a, space, filter, 0);
    if (st == INFER_OK && allowed.rows.n_set)
        for (size_t w = 0; w < ((size_t)seen->n_rows + 63) / 64; w++) {
            uint64_t dead =
                seen->dead ? atomic_load_explicit(&seen->dead[w], memory_order_relaxed) : 0;
            *n += (uint64_t)__builtin_popcountll(allowed.rows.bits[w] & ~dead);
        }
    index_allowed_release(&allowed, a);
    return st;
}

infer_status vector_index_count(struct infer_index *index, struct base_view space,
                                const char *filter, uint64_t *count)
{
    const struct base_view *one = space.data ? &space : NULL;
    struct vector_filter *parsed = NULL;
    struct index_view view;
    uint64_t n = 0;
    if (!filter) {
        *count = count_all(index, one);
        return INFER_OK;
    }
    infer_status st = parse(&parsed, index, filter);
    if (st == INFER_OK)
        st = index_view_begin(&view, index, 1);
    if (st == INFER_OK) {
        for (int32_t i = 0; i < view.n && st == INFER_OK; i++)
            if (view.seen[i].n_rows)
                st = count_part(&view.seen[i], &index->alloc, one, parsed, &n);
        index_view_end(&view);
    }
    vector_filter_destroy(&parsed);
    if (st == INFER_OK)
        *count = n;
    return st;
}
