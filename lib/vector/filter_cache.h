/* Rows that filters left, kept with the metadata that was read for them. What a row has never
 * changes, so that only rows that came since are asked again. */
#ifndef VECTOR_FILTER_CACHE_H
#define VECTOR_FILTER_CACHE_H

#include "vector/filter.h"

#define VECTOR_FILTERS_KEPT 16
#define VECTOR_FILTER_KEPT  4096 /* bytes of a filter that is */

struct vector_kept {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    int32_t n_rows, n_set; /* of rows below n_rows so many passed */
    uint64_t bits[];
};

struct vector_filter_slot {
    char *text; /* of the filter; NULL: free */
    size_t size;
    int32_t group;
    uint64_t used;
    int64_t spent; /* on asking it of single rows, in rows */
    struct vector_kept *kept;
};

/* Belongs to the metadata, and is under its lock. */
struct vector_filter_cache {
    uint64_t clock;
    struct vector_filter_slot slots[VECTOR_FILTERS_KEPT];
};

void vector_filter_cache_clear(struct vector_filter_cache *cache, const struct base_alloc *a);
uint64_t vector_filter_cache_bytes(const struct vector_filter_cache *cache);

/* What is kept of a filter among the rows of a group (any number that the caller has for them), to
 * be released; NULL: nothing. */
struct vector_kept *vector_filter_find(const struct vector_filter *filter,
                                       const struct vector_meta *meta, int32_t group,
                                       int64_t *spent);
/* Keeps the bits of n_rows rows (NULL: none), and adds to what was spent. Best effort: where
 * memory is short nothing is kept. */
void vector_filter_keep(const struct vector_filter *filter, const struct vector_meta *meta,
                        int32_t group, const uint64_t *bits, int32_t n_rows, int64_t spent);
void vector_kept_release(struct vector_kept **kept);

#endif
