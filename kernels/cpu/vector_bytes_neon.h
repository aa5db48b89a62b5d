/* Words of vector_bytes_tmpl.h on 64-bit Arm: with products of four bytes where the compiler may
 * use them, else by pairs. */
#ifndef KERNELS_CPU_VECTOR_BYTES_NEON_H
#define KERNELS_CPU_VECTOR_BYTES_NEON_H

#include "kernels/cpu/vec.h"
#include "kernels/kernels.h"

#include <arm_neon.h>

typedef int8x16_t bv, tr;
typedef int32x4_t bi;

typedef struct {
    int8x16_t v[4]; /* queries 0-3, 4-7 ... */
} tp;

typedef struct {
    int32x4_t v[4];
} ti;

enum { BV = 16, BYTE_BIAS = 0, TILE_PANELS = 1, TILE_ROWS = 4 };

KERN_INLINE bv bv_zero(void)
{
    return vdupq_n_s8(0);
}

KERN_INLINE bv bv_load(const int8_t *p)
{
    return vld1q_s8(p);
}

KERN_INLINE bv bv_load_part(const int8_t *p, int32_t n)
{
    int8_t part[BV] = {0};

    if (n == BV) {
        return bv_load(p);
    }
    memcpy(part, p, (size_t)n);
    return bv_load(part);
}

KERN_INLINE bi bi_zero(void)
{
    return vdupq_n_s32(0);
}

/* Products of two bytes of which one is -127 at least fit 16 bits in pairs: 2 * 128 * 127 < 2^15.
 */
KERN_INLINE bi bi_dot(bi sum, bv row, bv query)
{
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, row, query);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(row), vget_low_s8(query));
    const int16x8_t high = vmull_high_s8(row, query);

    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

KERN_INLINE int32_t bi_sum(bi x)
{
    return vaddvq_s32(x);
}

KERN_INLINE tp tp_load(const int8_t *p)
{
    return (tp){{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
}

KERN_INLINE tr tr_load(const int8_t *p)
{
    return vreinterpretq_s8_s32(vdupq_n_s32(kern_load_i32(p)));
}

KERN_INLINE ti ti_start(const int8_t *sums)
{
    const int32x4_t zero = vdupq_n_s32(0);

    (void)sums;
    return (ti){{zero, zero, zero, zero}};
}

KERN_INLINE ti ti_dot(ti sum, tp queries, tr row)
{
    return (ti){{bi_dot(sum.v[0], row, queries.v[0]), bi_dot(sum.v[1], row, queries.v[1]),
                 bi_dot(sum.v[2], row, queries.v[2]), bi_dot(sum.v[3], row, queries.v[3])}};
}

KERN_INLINE uint32_t ti_hits(ti sum, const struct kern_vector_note *note,
                             const struct kern_vector_limits *limits)
{
    static const uint32_t bit[4] = {1, 2, 4, 8};
    uint32_t hits = 0;

    for (int i = 0; i < 4; i++) {
        const int at = 4 * i;
        float32x4_t most = vmulq_n_f32(vcvtq_f32_s32(sum.v[i]), note->scale);
        uint32x4_t is_hit;

        most = vfmaq_n_f32(most, vld1q_f32(limits->length + at), note->length);
        most = vfmaq_n_f32(most, vld1q_f32(limits->error + at), note->error);
        most = vfmaq_n_f32(most, vld1q_f32(limits->square + at), note->square);
        is_hit = vcgeq_f32(most, vld1q_f32(limits->least + at));
        hits |= vaddvq_u32(vandq_u32(is_hit, vld1q_u32(bit))) << at;
    }
    return hits;
}

#endif
