/* One search through partitions: the best rows for a query by codes. */
#ifndef VECTOR_PROBE_H
#define VECTOR_PROBE_H

#include "vector/best.h"
#include "vector/graph.h"
#include "vector/partitions.h"

struct vector_probe {
    const struct vector_partitions *partitions;
    const struct vector_graph_view *graph; /* its codes */
    const struct vector_code_query *code;
    const struct vector_rows *allowed; /* NULL: all rows */
    const _Atomic uint64_t *dead;      /* NULL: none */
    int32_t n_rows;
    int32_t without; /* a row that is not there; -1: none */
    float reach, far;
    float share;                /* of all rows that are allowed */
    float surely;               /* that no estimate is off by */
    double length;              /* of the query */
    int32_t metric;             /* infer_metric */
    struct vector_best *list;   /* what was found */
    struct vector_best *near;   /* the best of these, which say how far to go */
    struct vector_scored *room; /* one a partition */
    float *keys;                /* and another */
    int64_t n_compared;
};

/* Whether that will do: not where a filter leaves less near the query than far from it, nor where
 * the hits are farther off than those that the reach was measured with. */
int vector_probe_run(struct vector_probe *probe);

#endif
