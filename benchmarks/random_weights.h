/* Random weights in every element type that models use, fast and reproducible. */
#ifndef BENCHMARKS_RANDOM_WEIGHTS_H
#define BENCHMARKS_RANDOM_WEIGHTS_H

#include "base/types.h"

struct random_weights {
    uint64_t state;
    float std; /* wanted standard deviation of the values */
};

/* Fills `n` elements (whole blocks) of `type` with mean 0. False for a type
 * that this does not make. */
int random_weights_fill(struct random_weights *r, infer_dtype type, void *out, size_t n);

#endif
