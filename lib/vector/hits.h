/* What a query found, or a list of records: copies, so that hits outlive the index. */
#ifndef VECTOR_HITS_H
#define VECTOR_HITS_H

#include "vector/part.h"

#include <infer/index.h>

struct index_hit {
    const char *id, *metadata;
    const float *vector;
    size_t metadata_size;
    float score, distance;
};

struct index_hit_list {
    struct index_hit *items;
    size_t n;
    infer_search_info info;
};

struct infer_hits {
    struct base_alloc alloc;
    struct base_arena arena;
    struct index_hit_list *lists;
    size_t n_lists;
};

infer_status index_hits_create(struct infer_hits **out, const struct base_alloc *a, size_t n_lists);
void index_hits_destroy(struct infer_hits **hits);
infer_status index_hits_room(struct infer_hits *hits, size_t list, size_t n);
/* Copies a record behind the others of the list; there is room. */
infer_status index_hits_add(struct infer_hits *hits, size_t list, const struct vector_part *part,
                            int32_t row, int32_t dims, uint32_t with, float score, float distance);

#endif
