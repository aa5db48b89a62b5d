/* Memory of one search, kept for the next. */
#ifndef VECTOR_SCRATCH_H
#define VECTOR_SCRATCH_H

#include "vector/walk.h"

struct vector_scratch {
    struct base_alloc alloc;
    struct vector_walk_room walk;
    void *query_room; /* of struct vector_query */
    void *code_room;  /* of struct vector_code_query */
    void *list;       /* struct vector_scored: what codes found */
    void *best;       /* and what is returned of it */
    void *partitions; /* of a probe: a struct vector_scored and a float each */
    size_t query_bytes, code_bytes, list_bytes, best_bytes, partitions_bytes;
};

#endif
