/* Two levels' products of many queries with rows of bytes. */
#ifndef TESTS_KERNELS_VECTOR_TILE_H
#define TESTS_KERNELS_VECTOR_TILE_H

#include "check.h"

/* Whether a and b find other hits of random rows and queries. */
int vector_tiles_differ(struct check *c, const struct infer_kernels *a,
                        const struct infer_kernels *b, int32_t n_queries, int32_t dims);

#endif
