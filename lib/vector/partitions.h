/* The rows of a space by the nearest of some centres: what a search reads of them is whole
 * partitions, the likely ones first. They need no graph, take a hundredth of the time of building
 * one, and pass rows that a filter drops for a bit each.
 *
 * How far a search goes is an angle. Seen from a row x at distance d from the query q, in a
 * partition whose rows are r from their centre c, |q - c|^2 = d^2 + r^2 - 2 d r cos: with d that of
 * the k-th best so far, partitions are read where the angle's -cos would be no more than `reach`.
 * At 1 that is the triangle inequality, which rules out nothing that counts; in many dimensions
 * the angles of the rows that are wanted lie close together, whatever the query and its filter,
 * and a sample of them says how far to go for which recall. A filter that leaves few near rows has
 * a far k-th best, and more is read. */
#ifndef VECTOR_PARTITIONS_H
#define VECTOR_PARTITIONS_H

#include "vector/codes.h"
#include "vector/vectors.h"

#include <infer/index.h>
#include <math.h>

#define VECTOR_PACE_KS         2      /* numbers of hits that are measured */
#define VECTOR_PACE_LEVELS     8      /* and recalls */
#define VECTOR_PARTITIONS_FROM 4096   /* rows from which on there are some; ... */
#define VECTOR_PARTITIONS_WITH 100000 /* ... and with a graph, which does as well for fewer */

/* Of a recall. */
struct vector_reach {
    _Atomic float reach;    /* INFINITY: all */
    _Atomic int32_t n_rows; /* that are read for it on average; 0: not measured */
};

/* Fixed once they are made, but for how far to read, which is measured then. */
struct vector_partitions {
    struct base_alloc alloc;
    int32_t n, n_rows;
    size_t slot;           /* bytes from a centre's code to the next */
    const uint32_t *begin; /* n + 1: where the rows of each begin */
    const uint32_t *rows;  /* each row once, those of a partition in order */
    const float *radius;   /* root of the mean squared distance from the centre */
    const uint8_t *codes;  /* of the centres, by the coder of the rows */
    void *own;             /* all of these; NULL: in a file */
    uint64_t bytes;
    struct vector_reach reach[VECTOR_PACE_KS][VECTOR_PACE_LEVELS];
    _Atomic float far; /* distance of the last hit beyond which nothing was measured */
};

/* Of a score, as the reach takes it. */
static inline float vector_partitions_distance(int32_t metric, float score)
{
    return metric == INFER_METRIC_DOT      ? -score
           : metric == INFER_METRIC_COSINE ? sqrtf(fmaxf(0.0f, 2.0f - 2.0f * score))
                                           : sqrtf(fmaxf(0.0f, -score));
}

/* Partitions of all rows of the view; the same ones for the same rows and seed, whatever the number
 * of threads. `codes` of the centres are by the coder. */
infer_status vector_partitions_build(struct vector_partitions **out, const struct base_alloc *a,
                                     const struct vector_view *view,
                                     const struct vector_coder *coder, uint64_t seed,
                                     struct base_pool *pool);
void vector_partitions_destroy(struct vector_partitions **partitions); /* NULL-safe */

infer_status vector_partitions_write(const struct vector_partitions *partitions,
                                     struct vector_file_writer *writer);
/* Of a file that outlives them, over n_rows rows with codes of `slot` bytes; *out is NULL where the
 * file has none. */
infer_status vector_partitions_open(struct vector_partitions **out, const struct base_alloc *a,
                                    const struct vector_file *file, int32_t n_rows, size_t slot);

#endif
