/* Exact search: every row that may count is compared, and the best k are those of scores in the
 * precision of what is kept, whatever the number of queries and threads. */
#ifndef VECTOR_FLAT_H
#define VECTOR_FLAT_H

#include "vector/vectors.h"

/* Which rows are searched. */
struct vector_flat {
    const struct base_alloc *alloc;
    struct base_pool *pool;       /* NULL: this thread alone */
    const int32_t *rows;          /* a list, each row once, in any order; NULL: by `allowed` */
    int32_t n_list;               /* rows of the list */
    struct vector_rows allowed;   /* bits NULL: all */
    const _Atomic uint64_t *dead; /* bits of rows to leave out; NULL: none */
    int32_t n_rows;               /* rows from here on do not exist */
};

struct vector_flat_query {
    const float *query; /* dims floats, checked */
    int32_t k;
    struct vector_found *found; /* room for k; receives the best first, equals by row */
    int32_t n_found;
    int64_t n_compared;
};

/* A single query reads the kept rows, at the speed of memory. Several read their bytes, a block at
 * a time and made on the way, which the processor multiplies many times as fast; what may be among
 * the best by a bound of what the bytes lose is then compared as it is kept. */
infer_status vector_flat_search(const struct vector_view *view, const struct vector_flat *flat,
                                struct vector_flat_query *queries, int32_t n);

#endif
