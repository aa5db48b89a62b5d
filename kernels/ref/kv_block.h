/* Blocks of quantised vectors of the KV cache (kernels.h, kern_kv_bytes()): scales from the
 * extremes of a block. One truth for the reference and its variants. */
#ifndef KERNELS_REF_KV_BLOCK_H
#define KERNELS_REF_KV_BLOCK_H

#include "kernels/ref/half.h"

enum {
    KERN_KV_BLOCK = 32,    /* elements */
    KERN_KV_Q8_BYTES = 34, /* of a whole block */
    KERN_KV_Q4_BYTES = 20,
    KERN_KV_Q8_MAX = 127, /* largest code */
    KERN_KV_Q4_MAX = 15
};

#define KERN_KV_NAN 0x7e00u

static inline void kern_kv_store_half(uint8_t *dst, uint16_t h)
{
    dst[0] = (uint8_t)(h & 0xff);
    dst[1] = (uint8_t)(h >> 8);
}

/* Integers in the order of the floats: -0 below 0, NaN outermost. Its own inverse. */
static inline int32_t kern_kv_order(int32_t bits)
{
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

static inline int kern_kv_half_is_finite(uint16_t h)
{
    return (h & 0x7c00u) != 0x7c00u;
}

/* The scale of a Q8 block whose largest magnitude is amax. */
static inline uint16_t kern_kv_q8_scale(float amax)
{
    const uint16_t d = kern_f16_of_float(amax / (float)KERN_KV_Q8_MAX);

    return kern_kv_half_is_finite(d) ? d : KERN_KV_NAN;
}

struct kern_kv_q4_scale {
    uint16_t d, m;
};

/* Of a Q4 block: the range is counted from the least value as it is stored. */
static inline struct kern_kv_q4_scale kern_kv_q4_scale(float low, float high)
{
    struct kern_kv_q4_scale s;
    float range;

    s.m = kern_f16_of_float(low);
    range = high - kern_float_of_f16(s.m);
    s.d = kern_f16_of_float(range > 0.0f ? range / (float)KERN_KV_Q4_MAX : range * 0.0f);
    if (!kern_kv_half_is_finite(s.m) || !kern_kv_half_is_finite(s.d)) {
        s.m = s.d = KERN_KV_NAN;
    }
    s.d &= 0x7fffu;
    return s;
}

#endif
