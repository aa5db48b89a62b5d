/* Ids of a part's rows: those that grow, and what is asked of both kinds. */
#include "vector/ids.h"

#include "base/error.h"
#include "vector/ids_fixed.h"

#include <string.h>

infer_status vector_ids_create(struct vector_ids **out, const struct base_alloc *a)
{
    struct vector_ids *ids = base_new(a, 1, sizeof *ids);
    if (!ids)
        return INFER_ERR_NO_MEMORY;
    ids->alloc = *a;
    ids->path = "";
    ids->previous.bytes = sizeof(int32_t);
    ids->spaces.bytes = sizeof(struct ids_growing_space);
    infer_status st = vector_names_create(&ids->names, a);
    if (st == INFER_OK)
        st = vector_names_create(&ids->space_names, a);
    if (st != INFER_OK)
        vector_ids_destroy(&ids);
    else
        *out = ids;
    return st;
}

void vector_ids_destroy(struct vector_ids **ids)
{
    struct vector_ids *p = *ids;
    if (!p)
        return;
    const struct base_alloc a = p->alloc;
    vector_names_destroy(&p->names);
    vector_names_destroy(&p->space_names);
    vector_chunks_release(&p->previous, &a);
    vector_chunks_release(&p->spaces, &a);
    for (size_t i = 0; i < BASE_COUNT(p->owned); i++)
        base_free(&a, p->owned[i]);
    base_free(&a, p->alive);
    base_free(&a, p);
    *ids = NULL;
}

int32_t vector_ids_size(const struct vector_ids *ids)
{
    return ids->fixed ? ids->n_rows : ids->n_growing;
}

uint64_t vector_ids_bytes(const struct vector_ids *ids)
{
    if (ids->fixed)
        return sizeof *ids + ids->owned_bytes + (uint64_t)ids->n_spaces * sizeof *ids->alive;
    return sizeof *ids + vector_names_bytes(ids->names) + vector_names_bytes(ids->space_names) +
           vector_chunks_bytes(&ids->previous) + vector_chunks_bytes(&ids->spaces);
}

/* ------------------------------------------------------------------- writing */

static struct ids_growing_space *growing_space(const struct vector_ids *ids, int32_t space)
{
    return vector_chunks_at(&ids->spaces, space);
}

infer_status vector_ids_reserve(struct vector_ids *ids, int32_t n, size_t id_bytes,
                                size_t space_bytes)
{
    infer_status st = vector_names_reserve(ids->names, n, id_bytes);
    if (st == INFER_OK)
        st = vector_names_reserve(ids->space_names, n, space_bytes);
    if (st == INFER_OK)
        st = vector_chunks_reserve(&ids->previous, &ids->alloc, (int64_t)ids->n_growing + n);
    if (st == INFER_OK)
        st = vector_chunks_reserve(
            &ids->spaces, &ids->alloc,
            (int64_t)atomic_load_explicit(&ids->n_growing_spaces, memory_order_relaxed) + n);
    return st;
}

int32_t vector_ids_add(struct vector_ids *ids, struct base_view space, struct base_view id)
{
    int32_t s = vector_names_find(ids->space_names, 0, space, INT32_MAX);
    if (s < 0) {
        s = atomic_load_explicit(&ids->n_growing_spaces, memory_order_relaxed);
        atomic_init(&growing_space(ids, s)->last, -1);
        vector_names_add(ids->space_names, 0, space);
        atomic_store_explicit(&ids->n_growing_spaces, s + 1, memory_order_release);
    }
    struct ids_growing_space *g = growing_space(ids, s);
    const int32_t row = ids->n_growing++;
    *(int32_t *)vector_chunks_at(&ids->previous, row) =
        atomic_load_explicit(&g->last, memory_order_relaxed);
    vector_names_add(ids->names, (uint32_t)s, id);
    atomic_fetch_add_explicit(&g->count, 1, memory_order_relaxed);
    atomic_store_explicit(&g->last, row, memory_order_release);
    return row;
}

/* ---------------------------------------------------------------- namespaces */

int32_t vector_ids_space(const struct vector_ids *ids, struct base_view name)
{
    return ids->fixed ? ids_fixed_space(ids, name)
                      : vector_names_find(ids->space_names, 0, name, INT32_MAX);
}

int32_t vector_ids_spaces(const struct vector_ids *ids)
{
    return ids->fixed ? ids->n_spaces
                      : atomic_load_explicit(&ids->n_growing_spaces, memory_order_acquire);
}

struct base_view vector_ids_space_name(const struct vector_ids *ids, int32_t space)
{
    return ids->fixed ? ids_fixed_space_name(ids, space)
                      : vector_names_get(ids->space_names, space);
}

int32_t vector_ids_space_of(const struct vector_ids *ids, int32_t row)
{
    if (!ids->fixed)
        return (int32_t)vector_names_group(ids->names, row);
    const uint32_t space = ids->row_space ? ids->row_space[row] : 0;
    return space < (uint32_t)ids->n_spaces ? (int32_t)space : 0;
}

int32_t vector_ids_count(const struct vector_ids *ids, int32_t space)
{
    return ids->fixed
               ? ids->table[space].count
               : atomic_load_explicit(&growing_space(ids, space)->count, memory_order_relaxed);
}

_Atomic int32_t *vector_ids_alive(const struct vector_ids *ids, int32_t space)
{
    return ids->fixed ? &ids->alive[space] : &growing_space(ids, space)->alive;
}

/* ----------------------------------------------------------------------- ids */

infer_status vector_ids_get(const struct vector_ids *ids, int32_t row, struct base_view *id)
{
    if (!ids->fixed) {
        *id = vector_names_get(ids->names, row);
        return INFER_OK;
    }
    const int32_t behind = row + 1;
    if (row >= 0 && row < ids->n_rows) {
        const uint64_t begin = ids->base[row / IDS_BASE_ROWS] + ids->at[row];
        const uint64_t end = behind < ids->n_rows
                                 ? ids->base[behind / IDS_BASE_ROWS] + ids->at[behind]
                                 : ids->text_size;
        if (begin <= end && end <= ids->text_size && end - begin <= VECTOR_NAME_MAX) {
            *id = (struct base_view){(const char *)ids->text + begin, (size_t)(end - begin)};
            return INFER_OK;
        }
    }
    return base_error(INFER_ERR_FORMAT, "%s is damaged: the id of row %d lies outside", ids->path,
                      row);
}

void vector_ids_expect(const struct vector_ids *ids, int32_t row, int32_t text)
{
    if (!ids->fixed || row < 0 || row >= ids->n_rows)
        return;
    if (!text) {
        __builtin_prefetch(&ids->at[row]);
        return;
    }
    const uint64_t begin = ids->base[row / IDS_BASE_ROWS] + ids->at[row];
    if (begin < ids->text_size)
        __builtin_prefetch((const char *)ids->text + begin);
}

int32_t vector_ids_find(const struct vector_ids *ids, int32_t space, struct base_view id,
                        int32_t n_rows)
{
    if (!ids->fixed)
        return vector_names_find(ids->names, (uint32_t)space, id, n_rows);
    const int32_t at = ids_fixed_behind(ids, space, id) - 1;
    struct base_view found;
    if (at < ids->table[space].first)
        return -1;
    const int32_t row = ids->order[at];
    if (row < 0 || row >= ids->n_rows || vector_ids_get(ids, row, &found) != INFER_OK ||
        vector_names_compare(found, id) != 0)
        return -1;
    return row;
}

const uint64_t *vector_ids_bits(const struct vector_ids *ids, int32_t space)
{
    if (!ids->fixed || ids->table[space].bits < 0)
        return NULL;
    return ids->bitmaps + (size_t)ids->table[space].bits * (((size_t)ids->n_rows + 63) / 64);
}

static void set_bit(uint64_t *bits, int32_t row)
{
    bits[row / 64] |= UINT64_C(1) << row % 64;
}

int32_t vector_ids_mark(const struct vector_ids *ids, int32_t space, int32_t n_rows, uint64_t *bits)
{
    int32_t n = 0;
    if (ids->fixed) {
        const struct ids_space *s = &ids->table[space];
        for (int32_t i = 0; i < s->count; i++) {
            const int32_t row = ids->order[s->first + i];
            if (row >= 0 && row < n_rows) {
                set_bit(bits, row);
                n++;
            }
        }
        return n;
    }
    struct ids_growing_space *g = growing_space(ids, space);
    /* A chain of rows is a walk through memory; where most rows are in it, asking all is faster. */
    if (atomic_load_explicit(&g->count, memory_order_relaxed) > n_rows / 4) {
        for (int32_t row = 0; row < n_rows; row++)
            if (vector_names_group(ids->names, row) == (uint32_t)space) {
                set_bit(bits, row);
                n++;
            }
        return n;
    }
    int32_t row = atomic_load_explicit(&g->last, memory_order_acquire);
    for (; row >= 0; row = *(int32_t *)vector_chunks_at(&ids->previous, row))
        if (row < n_rows) {
            set_bit(bits, row);
            n++;
        }
    return n;
}

/* ------------------------------------------------------------------- walking */

static infer_status gather(struct vector_ids_walk *walk, const struct base_alloc *a, int32_t space,
                           struct base_view after)
{
    const struct vector_ids *ids = walk->ids;
    struct ids_growing_space *g = growing_space(ids, space);
    const int32_t most = atomic_load_explicit(&g->count, memory_order_relaxed);
    struct ids_key *keys = base_new_raw(a, (size_t)most + 1, sizeof *keys);
    walk->own = base_new_raw(a, (size_t)most + 1, sizeof *walk->own);
    if (!keys || !walk->own) {
        base_free(a, keys);
        return INFER_ERR_NO_MEMORY;
    }
    int32_t row = atomic_load_explicit(&g->last, memory_order_acquire), n = 0;
    for (; row >= 0; row = *(int32_t *)vector_chunks_at(&ids->previous, row)) {
        const struct base_view id = vector_names_get(ids->names, row);
        if (row < walk->n_rows && n < most && (!after.size || vector_names_compare(id, after) > 0))
            keys[n++] = ids_key_of(id, (uint32_t)space, row);
    }
    ids_sort(ids, keys, n);
    for (int32_t i = 0; i < n; i++)
        walk->own[i] = keys[i].row;
    base_free(a, keys);
    walk->rows = walk->own;
    walk->n = n;
    return INFER_OK;
}

infer_status vector_ids_walk_begin(struct vector_ids_walk *walk, const struct base_alloc *a,
                                   const struct vector_ids *ids, int32_t space,
                                   struct base_view after, int32_t n_rows)
{
    *walk = (struct vector_ids_walk){.ids = ids, .n_rows = n_rows};
    if (!ids->fixed)
        return gather(walk, a, space, after);
    const struct ids_space *s = &ids->table[space];
    walk->rows = ids->order + s->first;
    walk->n = s->count;
    walk->at = after.size ? ids_fixed_behind(ids, space, after) - s->first : 0;
    return INFER_OK;
}

infer_status vector_ids_walk_next(struct vector_ids_walk *walk, int32_t *row, struct base_view *id)
{
    if (walk->at >= walk->n)
        return INFER_DONE;
    *row = walk->rows[walk->at++];
    return vector_ids_get(walk->ids, *row, id);
}

void vector_ids_walk_end(struct vector_ids_walk *walk, const struct base_alloc *a)
{
    base_free(a, walk->own);
    walk->own = NULL;
}
