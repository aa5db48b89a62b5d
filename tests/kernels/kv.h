/* Checks of quantised KV types, which the entries of quant.c and attn.c share. */
#ifndef TESTS_KERNELS_KV_H
#define TESTS_KERNELS_KV_H

#include "check.h"

#include <math.h>
#include <string.h>

/* Squared error of attention over squared output, through a cache whose keys have two large
 * channels: twice what was measured. */
#define KV_ERROR_Q8         3e-4
#define KV_ERROR_Q8_ROTATED 1e-4
#define KV_ERROR_Q4         4e-2
#define KV_ERROR_Q4_ROTATED 2.6e-2

/* A number of E4M3 of at most 2, now and then a subnormal one; what finite ones are. */
static inline uint8_t kv_random_e4m3(uint32_t bits)
{
    return (uint8_t)((bits & 0x87) | (bits >> 8 & 15 ? 1 + (bits >> 12) % 7 : 0) << 3);
}

static inline double kv_e4m3_value(uint8_t code)
{
    const double size =
        code >> 3 & 15 ? ldexp((code & 7) + 8, (code >> 3 & 15) - 10) : ldexp(code & 7, -9);

    return code & 0x80 ? -size : size;
}

static inline double kv_half_value(const uint8_t *src)
{
    uint16_t h;
    int exponent;

    memcpy(&h, src, 2);
    exponent = h >> 10 & 31;
    return (h & 0x8000 ? -1.0 : 1.0) *
           (exponent ? ldexp((h & 0x3ff) + 1024, exponent - 25) : ldexp(h & 0x3ff, -24));
}

void check_kv_narrow(struct check *c);    /* quant.narrow of Q8_0 and Q4_1 */
void check_kv_attention(struct check *c); /* attn.paged of them, against float64 */

#endif
