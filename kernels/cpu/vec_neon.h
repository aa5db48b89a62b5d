/* Sixteen lanes of 32 bits as four NEON registers: the vocabulary of the kernel templates, each
 * word with the meaning it has in vec_avx512.h. Those for products of bytes: dot_neon.h. */
#ifndef KERNELS_CPU_VEC_NEON_H
#define KERNELS_CPU_VEC_NEON_H

#include "kernels/cpu/vec.h"

#include <arm_neon.h>

typedef struct {
    float32x4_t a, b, c, d; /* lanes 0-3, 4-7, 8-11, 12-15 */
} vf;

typedef struct {
    int32x4_t a, b, c, d;
} vi;

KERN_INLINE vf vf_make(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d)
{
    const vf v = {a, b, c, d};

    return v;
}

KERN_INLINE vi vi_make(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    const vi v = {a, b, c, d};

    return v;
}

/* A word that does the same to all four. */
#define VF_BINARY(name, op)                                                                        \
    KERN_INLINE vf name(vf x, vf y)                                                                \
    {                                                                                              \
        return vf_make(op(x.a, y.a), op(x.b, y.b), op(x.c, y.c), op(x.d, y.d));                    \
    }
#define VI_BINARY(name, op)                                                                        \
    KERN_INLINE vi name(vi x, vi y)                                                                \
    {                                                                                              \
        return vi_make(op(x.a, y.a), op(x.b, y.b), op(x.c, y.c), op(x.d, y.d));                    \
    }
#define VI_SHIFT(name, op)                                                                         \
    KERN_INLINE vi name(vi x, unsigned n)                                                          \
    {                                                                                              \
        return vi_make(op(x.a, n), op(x.b, n), op(x.c, n), op(x.d, n));                            \
    }
/* Of the bytes of four lanes. */
#define BYTES_BINARY(name, op)                                                                     \
    KERN_INLINE int32x4_t name(int32x4_t x, int32x4_t y)                                           \
    {                                                                                              \
        return vreinterpretq_s32_u8(op(vreinterpretq_u8_s32(x), vreinterpretq_u8_s32(y)));         \
    }

/* ------------------------------------------------------------------ float */

VF_BINARY(vf_add, vaddq_f32)
VF_BINARY(vf_sub, vsubq_f32)
VF_BINARY(vf_mul, vmulq_f32)
VF_BINARY(vf_div, vdivq_f32)

KERN_INLINE vf vf_set1(float f)
{
    const float32x4_t v = vdupq_n_f32(f);

    return vf_make(v, v, v, v);
}

KERN_INLINE vf vf_zero(void)
{
    return vf_set1(0.0f);
}

/* Bytes, which need no alignment. */
KERN_INLINE float32x4_t load4(const void *p)
{
    return vreinterpretq_f32_u8(vld1q_u8(p));
}

KERN_INLINE uint16x8_t load8_u16(const void *p)
{
    return vreinterpretq_u16_u8(vld1q_u8(p));
}

KERN_INLINE vf vf_load(const void *p)
{
    const uint8_t *const at = p;

    return vf_make(load4(at), load4(at + 16), load4(at + 32), load4(at + 48));
}

KERN_INLINE vf vf_of_f16x16(uint16x8_t low, uint16x8_t high)
{
    const float16x8_t l = vreinterpretq_f16_u16(low), h = vreinterpretq_f16_u16(high);

    return vf_make(vcvt_f32_f16(vget_low_f16(l)), vcvt_high_f32_f16(l),
                   vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h));
}

KERN_INLINE vf vf_load_f16(const void *p)
{
    return vf_of_f16x16(load8_u16(p), load8_u16((const uint8_t *)p + 16));
}

KERN_INLINE vf vf_load_bf16(const void *p)
{
    const uint16x8_t l = load8_u16(p), h = load8_u16((const uint8_t *)p + 16);

    return vf_make(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(l), 16)),
                   vreinterpretq_f32_u32(vshll_high_n_u16(l, 16)),
                   vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)),
                   vreinterpretq_f32_u32(vshll_high_n_u16(h, 16)));
}

/* Eight E4M3 numbers as halves of 2^-8 their size: the same bits, one exponent bit more. */
KERN_INLINE uint16x8_t halves_of_e4m3(uint8x8_t b)
{
    const uint8x8_t is_nan = vceq_u8(vorr_u8(b, vdup_n_u8(0x80)), vdup_n_u8(0xff));
    const int16x8_t bits = vshlq_n_s16(vmovl_s8(vreinterpret_s8_u8(b)), 7);

    return vorrq_u16(vandq_u16(vreinterpretq_u16_s16(bits), vdupq_n_u16(0xbf80)),
                     vreinterpretq_u16_s16(vmovl_s8(vreinterpret_s8_u8(is_nan))));
}

KERN_INLINE vf vf_load_e4m3(const void *p)
{
    const uint8x16_t b = vld1q_u8(p);

    return vf_mul(vf_of_f16x16(halves_of_e4m3(vget_low_u8(b)), halves_of_e4m3(vget_high_u8(b))),
                  vf_set1(256.0f));
}

/* E5M2 numbers are the upper bytes of halves. */
KERN_INLINE vf vf_load_e5m2(const void *p)
{
    const uint8x16_t b = vld1q_u8(p);

    return vf_of_f16x16(vshll_n_u8(vget_low_u8(b), 8), vshll_high_n_u8(b, 8));
}

KERN_INLINE void vf_store(void *p, vf x)
{
    uint8_t *const to = p;

    vst1q_u8(to, vreinterpretq_u8_f32(x.a));
    vst1q_u8(to + 16, vreinterpretq_u8_f32(x.b));
    vst1q_u8(to + 32, vreinterpretq_u8_f32(x.c));
    vst1q_u8(to + 48, vreinterpretq_u8_f32(x.d));
}

KERN_INLINE void vf_store_f16(void *p, vf x)
{
    const float16x8_t l = vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b);
    const float16x8_t h = vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d);

    vst1q_u8(p, vreinterpretq_u8_f16(l));
    vst1q_u8((uint8_t *)p + 16, vreinterpretq_u8_f16(h));
}

KERN_INLINE vf vf_fma(vf x, vf y, vf z)
{
    return vf_make(vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
                   vfmaq_f32(z.d, x.d, y.d));
}

KERN_INLINE float vf_sum(vf x)
{
    const float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));

    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* ---------------------------------------------------------------- integer */

BYTES_BINARY(add8, vaddq_u8)
BYTES_BINARY(sub8, vsubq_u8)
BYTES_BINARY(ge_u8, vcgeq_u8)
BYTES_BINARY(lookup, vqtbl1q_u8)

/* By vectors, so that a constant becomes part of the instruction. */
KERN_INLINE int32x4_t shl4(int32x4_t x, unsigned n)
{
    return vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) << vdupq_n_u32(n));
}

KERN_INLINE int32x4_t shr4(int32x4_t x, unsigned n)
{
    return vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) >> vdupq_n_u32(n));
}

KERN_INLINE int32x4_t sar4(int32x4_t x, unsigned n)
{
    return x >> vdupq_n_s32((int32_t)n);
}

/* Products of the two 16-bit halves of each lane, added. */
KERN_INLINE int32x4_t madd16(int32x4_t x, int32x4_t y)
{
    const int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(y);

    return vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
}

VI_BINARY(vi_add, vaddq_s32)
VI_BINARY(vi_sub, vsubq_s32)
VI_BINARY(vi_and, vandq_s32)
VI_BINARY(vi_or, vorrq_s32)
VI_BINARY(vi_xor, veorq_s32)
VI_BINARY(vi_max, vmaxq_s32)
VI_BINARY(vi_madd16, madd16)
VI_BINARY(vi_add8, add8)
VI_BINARY(vi_sub8, sub8)
VI_BINARY(vi_ge_u8, ge_u8)
VI_BINARY(vi_lookup, lookup)
VI_SHIFT(vi_shl, shl4)
VI_SHIFT(vi_shr, shr4)
VI_SHIFT(vi_sar, sar4)

KERN_INLINE vi vi_set1(int32_t i)
{
    const int32x4_t v = vdupq_n_s32(i);

    return vi_make(v, v, v, v);
}

KERN_INLINE vi vi_zero(void)
{
    return vi_set1(0);
}

KERN_INLINE vi vi_table(const int8_t table[16])
{
    const int32x4_t t = vreinterpretq_s32_s8(vld1q_s8(table));

    return vi_make(t, t, t, t);
}

KERN_INLINE int32x4_t spread4(int32x4_t x, int j)
{
    const uint32x4_t lane = {0, 0x04040404, 0x08080808, 0x0c0c0c0c};
    const uint8x16_t pick = vaddq_u8(vreinterpretq_u8_u32(lane), vdupq_n_u8((uint8_t)(j / 2)));
    const uint8x16_t bits = vreinterpretq_u8_u32(vdupq_n_u32(j % 2 ? 0x80402010 : 0x08040201));

    return vreinterpretq_s32_u8(vtstq_u8(vqtbl1q_u8(vreinterpretq_u8_s32(x), pick), bits));
}

KERN_INLINE vi vi_spread(vi x, int j)
{
    return vi_make(spread4(x.a, j), spread4(x.b, j), spread4(x.c, j), spread4(x.d, j));
}

KERN_INLINE vi vi_of_s16(int16x8_t l, int16x8_t h)
{
    return vi_make(vmovl_s16(vget_low_s16(l)), vmovl_high_s16(l), vmovl_s16(vget_low_s16(h)),
                   vmovl_high_s16(h));
}

KERN_INLINE vi vi_load(const void *p)
{
    const uint8_t *const at = p;

    return vi_make(vreinterpretq_s32_u8(vld1q_u8(at)), vreinterpretq_s32_u8(vld1q_u8(at + 16)),
                   vreinterpretq_s32_u8(vld1q_u8(at + 32)),
                   vreinterpretq_s32_u8(vld1q_u8(at + 48)));
}

KERN_INLINE vi vi_load_u8(const void *p)
{
    const uint8x16_t b = vld1q_u8(p);

    return vi_of_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(b))),
                     vreinterpretq_s16_u16(vmovl_high_u8(b)));
}

KERN_INLINE vi vi_load_s8(const void *p)
{
    const int8x16_t b = vld1q_s8(p);

    return vi_of_s16(vmovl_s8(vget_low_s8(b)), vmovl_high_s8(b));
}

KERN_INLINE vi vi_load_s16(const void *p)
{
    return vi_of_s16(vreinterpretq_s16_u16(load8_u16(p)),
                     vreinterpretq_s16_u16(load8_u16((const uint8_t *)p + 16)));
}

KERN_INLINE void vi_store(void *p, vi x)
{
    uint8_t *const to = p;

    vst1q_u8(to, vreinterpretq_u8_s32(x.a));
    vst1q_u8(to + 16, vreinterpretq_u8_s32(x.b));
    vst1q_u8(to + 32, vreinterpretq_u8_s32(x.c));
    vst1q_u8(to + 48, vreinterpretq_u8_s32(x.d));
}

/* The lower halves of eight lanes. */
KERN_INLINE int16x8_t low_s16(int32x4_t x, int32x4_t y)
{
    return vuzp1q_s16(vreinterpretq_s16_s32(x), vreinterpretq_s16_s32(y));
}

KERN_INLINE void vi_store_s8(void *p, vi x)
{
    const int8x16_t l = vreinterpretq_s8_s16(low_s16(x.a, x.b));
    const int8x16_t h = vreinterpretq_s8_s16(low_s16(x.c, x.d));

    vst1q_s8(p, vuzp1q_s8(l, h));
}

KERN_INLINE void vi_store_u16(void *p, vi x)
{
    vst1q_u8(p, vreinterpretq_u8_s16(low_s16(x.a, x.b)));
    vst1q_u8((uint8_t *)p + 16, vreinterpretq_u8_s16(low_s16(x.c, x.d)));
}

KERN_INLINE vi vi_select_gt(vi x, vi y, vi then, vi otherwise)
{
    return vi_make(vbslq_s32(vcgtq_s32(x.a, y.a), then.a, otherwise.a),
                   vbslq_s32(vcgtq_s32(x.b, y.b), then.b, otherwise.b),
                   vbslq_s32(vcgtq_s32(x.c, y.c), then.c, otherwise.c),
                   vbslq_s32(vcgtq_s32(x.d, y.d), then.d, otherwise.d));
}

KERN_INLINE int32_t vi_reduce_add(vi x)
{
    return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d)));
}

KERN_INLINE int32_t vi_reduce_max(vi x)
{
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.a, x.b), vmaxq_s32(x.c, x.d)));
}

KERN_INLINE vf vf_of_int(vi x)
{
    return vf_make(vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d));
}

KERN_INLINE vi vi_of_float(vf x)
{
    return vi_make(vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b), vcvtnq_s32_f32(x.c),
                   vcvtnq_s32_f32(x.d));
}

KERN_INLINE vi vi_bits(vf x)
{
    return vi_make(vreinterpretq_s32_f32(x.a), vreinterpretq_s32_f32(x.b),
                   vreinterpretq_s32_f32(x.c), vreinterpretq_s32_f32(x.d));
}

KERN_INLINE vf vf_of_bits(vi x)
{
    return vf_make(vreinterpretq_f32_s32(x.a), vreinterpretq_f32_s32(x.b),
                   vreinterpretq_f32_s32(x.c), vreinterpretq_f32_s32(x.d));
}

KERN_INLINE vf vf_of_low_f16(vi x)
{
    return vf_of_f16x16(vreinterpretq_u16_s16(low_s16(x.a, x.b)),
                        vreinterpretq_u16_s16(low_s16(x.c, x.d)));
}

/* ------------------------------------------------------- sums of activations */

/* factor * (s[2i] + s[2i + 1]) */
KERN_INLINE void kern_pair_sums_i32(int32_t out[8], const int16_t s[16], int factor)
{
    vst1q_s32(out, vmulq_n_s32(vpaddlq_s16(vld1q_s16(s)), factor));
    vst1q_s32(out + 4, vmulq_n_s32(vpaddlq_s16(vld1q_s16(s + 8)), factor));
}

/* factor * s[i] */
KERN_INLINE void kern_scaled_i32(int32_t out[16], const int16_t s[16], int factor)
{
    for (int i = 0; i < 16; i += 4) {
        vst1q_s32(out + i, vmull_n_s16(vld1_s16(s + i), (int16_t)factor));
    }
}

KERN_INLINE void kern_pair_sums_f32(float out[8], const int16_t s[16])
{
    vst1q_f32(out, vcvtq_f32_s32(vpaddlq_s16(vld1q_s16(s))));
    vst1q_f32(out + 4, vcvtq_f32_s32(vpaddlq_s16(vld1q_s16(s + 8))));
}

/* -------------------------------------------- sixteen rows of a byte matrix */

KERN_INLINE float32x4_t rows4_f16(const uint8_t *p, size_t stride)
{
    return vcvt_f32_f16(vcreate_f16(kern_rows4_u16(p, stride)));
}

KERN_INLINE vf vf_strided_f16(const uint8_t *p, size_t stride)
{
    return vf_make(rows4_f16(p, stride), rows4_f16(p + 4 * stride, stride),
                   rows4_f16(p + 8 * stride, stride), rows4_f16(p + 12 * stride, stride));
}

KERN_INLINE int32x4_t rows4_4b(const uint8_t *p, size_t stride)
{
    const int32x4_t v = {kern_load_i32(p), kern_load_i32(p + stride), kern_load_i32(p + 2 * stride),
                         kern_load_i32(p + 3 * stride)};

    return v;
}

KERN_INLINE vi vi_strided_4b(const uint8_t *p, size_t stride)
{
    return vi_make(rows4_4b(p, stride), rows4_4b(p + 4 * stride, stride),
                   rows4_4b(p + 8 * stride, stride), rows4_4b(p + 12 * stride, stride));
}

KERN_INLINE int32x4_t entries4_4b(const int8_t (*table)[4], const int32_t i[4])
{
    const int32x4_t v = {kern_load_i32(table[i[0]]), kern_load_i32(table[i[1]]),
                         kern_load_i32(table[i[2]]), kern_load_i32(table[i[3]])};

    return v;
}

KERN_INLINE vi vi_entries_4b(const int8_t (*table)[4], vi index)
{
    int32_t i[16];

    vi_store(i, index);
    return vi_make(entries4_4b(table, i), entries4_4b(table, i + 4), entries4_4b(table, i + 8),
                   entries4_4b(table, i + 12));
}

KERN_INLINE int32x4_t two_entries(const int8_t (*table)[8], const int32_t i[2])
{
    return vreinterpretq_s32_s8(vcombine_s8(vld1_s8(table[i[0]]), vld1_s8(table[i[1]])));
}

KERN_INLINE void vi_entries_8b(vi out[2], const int8_t (*table)[8], vi index)
{
    int32_t i[16];
    int32x4_t v[8];

    vi_store(i, index);
    KERN_UNROLL
    for (int j = 0; j < 8; j++) {
        v[j] = two_entries(table, i + 2 * j);
    }
    out[0] = vi_make(vuzp1q_s32(v[0], v[1]), vuzp1q_s32(v[2], v[3]), vuzp1q_s32(v[4], v[5]),
                     vuzp1q_s32(v[6], v[7]));
    out[1] = vi_make(vuzp2q_s32(v[0], v[1]), vuzp2q_s32(v[2], v[3]), vuzp2q_s32(v[4], v[5]),
                     vuzp2q_s32(v[6], v[7]));
}

KERN_INLINE int64x2_t load16_s64(const uint8_t *p)
{
    return vreinterpretq_s64_u8(vld1q_u8(p));
}

KERN_INLINE int64x2_t even_s32(int64x2_t x, int64x2_t y)
{
    return vreinterpretq_s64_s32(vtrn1q_s32(vreinterpretq_s32_s64(x), vreinterpretq_s32_s64(y)));
}

KERN_INLINE int64x2_t odd_s32(int64x2_t x, int64x2_t y)
{
    return vreinterpretq_s64_s32(vtrn2q_s32(vreinterpretq_s32_s64(x), vreinterpretq_s32_s64(y)));
}

/* 16 bytes of each of 4 rows, as vi_strided_16b. */
KERN_INLINE void rows4_16b(int32x4_t out[4], const uint8_t *p, size_t stride)
{
    const int64x2_t r0 = load16_s64(p), r1 = load16_s64(p + stride);
    const int64x2_t r2 = load16_s64(p + 2 * stride), r3 = load16_s64(p + 3 * stride);
    const int64x2_t t0 = even_s32(r0, r1), t1 = odd_s32(r0, r1);
    const int64x2_t t2 = even_s32(r2, r3), t3 = odd_s32(r2, r3);

    out[0] = vreinterpretq_s32_s64(vzip1q_s64(t0, t2));
    out[1] = vreinterpretq_s32_s64(vzip1q_s64(t1, t3));
    out[2] = vreinterpretq_s32_s64(vzip2q_s64(t0, t2));
    out[3] = vreinterpretq_s32_s64(vzip2q_s64(t1, t3));
}

KERN_INLINE void vi_strided_16b(vi out[4], const uint8_t *p, size_t stride)
{
    int32x4_t a[4], b[4], c[4], d[4];

    rows4_16b(a, p, stride);
    rows4_16b(b, p + 4 * stride, stride);
    rows4_16b(c, p + 8 * stride, stride);
    rows4_16b(d, p + 12 * stride, stride);
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        out[j] = vi_make(a[j], b[j], c[j], d[j]);
    }
}

#undef VF_BINARY
#undef VI_BINARY
#undef VI_SHIFT
#undef BYTES_BINARY

#include "kernels/cpu/dot_neon.h"

#endif
