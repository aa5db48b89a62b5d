/* Weights of every element type for the checks of products and conversions. */
#ifndef TESTS_KERNELS_WEIGHTS_H
#define TESTS_KERNELS_WEIGHTS_H

#include "check.h"

struct weights_type {
    infer_dtype dtype;
    int32_t block; /* elements */
    size_t bytes;  /* of a block */
};

struct weights_type weights_type_of(infer_dtype dtype);
size_t weights_bytes(infer_dtype dtype, int32_t k);

/* A row of random weights of about 1 in size. `fill` >= 0: every byte but the scales of
 * blocks is that byte, to reach the corners of the integer range. */
void weights_fill(struct check *c, uint8_t *w, int32_t k, int fill);

/* Makes an element of the block at w NaN. False for a type that has none. */
int weights_poison(struct check *c, uint8_t *w);

#endif
