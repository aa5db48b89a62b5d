/* Filters over JSON metadata: {"year": {"$gte": 2020}, "$or": [...]}. Parsed once, then asked of
 * the metadata of each part of an index. */
#ifndef VECTOR_FILTER_H
#define VECTOR_FILTER_H

#include "vector/meta.h"

#define VECTOR_FILTER_BYTES      (64 * 1024)
#define VECTOR_FILTER_DEPTH      32   /* arrays and objects within each other */
#define VECTOR_FILTER_CONDITIONS 1024 /* operators and values that fields are held against */
#define VECTOR_FILTER_NODES      4096 /* these, and what joins and negates them */

struct vector_filter;

/* FORMAT (no JSON; an operator that is unknown or has an operand of a wrong kind, by name), LIMIT
 * (depth, size, conditions, different fields). */
infer_status vector_filter_parse(struct vector_filter **out, const struct base_alloc *a,
                                 const char *text, size_t size);
void vector_filter_destroy(struct vector_filter **filter);

/* Bits of all rows below n_rows that pass, and how many. Uses the fields that are indexed, and
 * reads metadata for the rest. `bits` has (n_rows + 63) / 64 words. */
infer_status vector_filter_rows(const struct vector_filter *filter, const struct vector_meta *meta,
                                int32_t n_rows, uint64_t *bits, int32_t *n_set);
/* The same without reading metadata: rows that pass for certain, and where *any_open is set those
 * that it must be read of. */
infer_status vector_filter_sets(const struct vector_filter *filter, const struct vector_meta *meta,
                                int32_t n_rows, uint64_t *yes, uint64_t *open, int32_t *any_open);
/* Of one row. */
infer_status vector_filter_ask(const struct vector_filter *filter, const struct vector_meta *meta,
                               int32_t row, int32_t *passes);
/* At most so many rows pass: what is known without reading metadata. */
int32_t vector_filter_most(const struct vector_filter *filter, const struct vector_meta *meta,
                           int32_t n_rows);
/* One JSON text (NULL: none), which was checked before. FORMAT: it is damaged. */
infer_status vector_filter_test(const struct vector_filter *filter, const char *json, size_t size,
                                int32_t *passes);

#endif
