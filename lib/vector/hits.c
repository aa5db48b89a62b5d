/* Hits: lists in an arena. */
#include "vector/hits.h"

#include <string.h>

infer_status index_hits_create(struct infer_hits **out, const struct base_alloc *a, size_t n_lists)
{
    struct infer_hits *hits = base_new(a, 1, sizeof *hits);
    if (!hits)
        return INFER_ERR_NO_MEMORY;
    hits->alloc = *a;
    hits->n_lists = n_lists;
    base_arena_init(&hits->arena, a);
    hits->lists = base_new(a, n_lists, sizeof *hits->lists);
    if (!hits->lists) {
        base_free(a, hits);
        return INFER_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < n_lists; i++)
        hits->lists[i].info.struct_size = sizeof hits->lists[i].info;
    *out = hits;
    return INFER_OK;
}

void index_hits_destroy(struct infer_hits **hits)
{
    struct infer_hits *h = *hits;
    *hits = NULL;
    if (!h)
        return;
    const struct base_alloc a = h->alloc;
    base_arena_release(&h->arena);
    base_free(&a, h->lists);
    base_free(&a, h);
}

infer_status index_hits_room(struct infer_hits *hits, size_t list, size_t n)
{
    struct index_hit_list *l = &hits->lists[list];
    l->n = 0;
    l->items = base_arena_new(&hits->arena, n ? n : 1, sizeof *l->items);
    return l->items ? INFER_OK : INFER_ERR_NO_MEMORY;
}

infer_status index_hits_add(struct infer_hits *hits, size_t list, const struct vector_part *part,
                            int32_t row, int32_t dims, uint32_t with, float score, float distance)
{
    struct index_hit_list *l = &hits->lists[list];
    struct index_hit *hit = &l->items[l->n];
    struct base_view id;
    infer_status st = vector_ids_get(part->ids, row, &id);
    if (st != INFER_OK)
        return st;
    *hit = (struct index_hit){.score = score, .distance = distance};
    hit->id = base_arena_strdup(&hits->arena, id.data, id.size);
    if (!hit->id)
        return INFER_ERR_NO_MEMORY;
    if (with & INFER_INDEX_WITH_METADATA) {
        const char *json = NULL;
        vector_meta_get(part->meta, row, &json, &hit->metadata_size);
        if (hit->metadata_size) {
            hit->metadata = base_arena_strdup(&hits->arena, json, hit->metadata_size);
            if (!hit->metadata)
                return INFER_ERR_NO_MEMORY;
        }
    }
    if (with & INFER_INDEX_WITH_VECTOR) {
        float *vector = base_arena_new(&hits->arena, (size_t)dims, sizeof *vector);
        if (!vector)
            return INFER_ERR_NO_MEMORY;
        vector_space_get(part->space, row, vector);
        hit->vector = vector;
    }
    l->n++;
    return INFER_OK;
}
