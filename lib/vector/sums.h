/* Sums of floats in double precision, in eight lanes: one would wait for each addition. Their order
 * depends on n alone. */
#ifndef VECTOR_SUMS_H
#define VECTOR_SUMS_H

#include "base/types.h"

#include <math.h>

#define VECTOR_LANES 8

static inline double vector_sum_lanes(const double *lanes)
{
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/* <a, b> */
static inline double vector_sum_products(const float *a, const float *b, int32_t n)
{
    double lanes[VECTOR_LANES] = {0.0}, rest = 0.0;
    int32_t at = 0;

    for (; at + VECTOR_LANES <= n; at += VECTOR_LANES) {
        for (int32_t i = 0; i < VECTOR_LANES; i++) {
            lanes[i] += (double)a[at + i] * (double)b[at + i];
        }
    }
    for (; at < n; at++) {
        rest += (double)a[at] * (double)b[at];
    }
    return vector_sum_lanes(lanes) + rest;
}

/* Of finite floats neither this nor the sum above is beyond a double: it is finite exactly where
 * all elements are. 0 only where all are. */
static inline double vector_sum_sizes(const float *a, int32_t n)
{
    double lanes[VECTOR_LANES] = {0.0}, rest = 0.0;
    int32_t at = 0;

    for (; at + VECTOR_LANES <= n; at += VECTOR_LANES) {
        for (int32_t i = 0; i < VECTOR_LANES; i++) {
            lanes[i] += (double)fabsf(a[at + i]);
        }
    }
    for (; at < n; at++) {
        rest += (double)fabsf(a[at]);
    }
    return vector_sum_lanes(lanes) + rest;
}

#endif
