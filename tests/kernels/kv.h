/* Checks of quantised KV types, which the entries of quant.c and attn.c share. */
#ifndef TESTS_KERNELS_KV_H
#define TESTS_KERNELS_KV_H

#include "check.h"

/* Squared error of attention over squared output, through a cache whose keys have two large
 * channels: twice what was measured. */
#define KV_ERROR_Q8         3e-4
#define KV_ERROR_Q8_ROTATED 1e-4
#define KV_ERROR_Q4         4e-2
#define KV_ERROR_Q4_ROTATED 2.6e-2

void check_kv_narrow(struct check *c);    /* quant.narrow of Q8_0 and Q4_1 */
void check_kv_attention(struct check *c); /* attn.paged of them, against float64 */

#endif
