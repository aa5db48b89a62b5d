/* Eight floats as two NEON registers, for the templates that do not care how many a register
 * holds: with as many as reg_avx2.h has, everything is added in the same order as there. */
#ifndef KERNELS_CPU_REG_NEON_H
#define KERNELS_CPU_REG_NEON_H

#include "kernels/cpu/vec.h"

#include <arm_neon.h>

typedef struct {
    float32x4_t a, b; /* lanes 0-3, 4-7 */
} reg;

enum {
    REG = 8,      /* floats */
    REG_ROWS = 4, /* query vectors that attention multiplies at a time */
    REG_SUMS = 8  /* and sums it keeps in registers meanwhile */
};

KERN_INLINE reg reg_make(float32x4_t a, float32x4_t b)
{
    const reg v = {a, b};

    return v;
}

/* A word that does the same to both halves. */
#define REG_BINARY(name, op)                                                                       \
    KERN_INLINE reg name(reg x, reg y)                                                             \
    {                                                                                              \
        return reg_make(op(x.a, y.a), op(x.b, y.b));                                               \
    }

/* ------------------------------------------------------ loads and stores */

KERN_INLINE reg reg_set1(float x)
{
    return reg_make(vdupq_n_f32(x), vdupq_n_f32(x));
}

KERN_INLINE reg reg_zero(void)
{
    return reg_set1(0.0f);
}

KERN_INLINE reg reg_load(const void *p)
{
    return reg_make(vld1q_f32(p), vld1q_f32((const float *)p + 4));
}

KERN_INLINE void reg_store(float *p, reg x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
}

KERN_INLINE reg reg_of_f16(uint16x8_t h)
{
    const float16x8_t halves = vreinterpretq_f16_u16(h);

    return reg_make(vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves));
}

KERN_INLINE reg reg_of_s32(int32x4_t a, int32x4_t b)
{
    return reg_make(vcvtq_f32_s32(a), vcvtq_f32_s32(b));
}

/* Loads of bytes, which need no alignment. */
KERN_INLINE uint16x8_t reg_load_u16(const uint8_t *p)
{
    return vreinterpretq_u16_u8(vld1q_u8(p));
}

KERN_INLINE reg reg_load_f16(const uint8_t *p)
{
    return reg_of_f16(reg_load_u16(p));
}

KERN_INLINE reg reg_load_bf16(const uint8_t *p)
{
    const uint16x8_t h = reg_load_u16(p);

    return reg_make(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)),
                    vreinterpretq_f32_u32(vshll_high_n_u16(h, 16)));
}

/* REG E4M3 numbers: as halves they are 2^-8 of their size, with one exponent bit more. */
KERN_INLINE reg reg_load_e4m3(const uint8_t *p)
{
    const uint8x8_t b = vld1_u8(p);
    const int16x8_t bits = vshlq_n_s16(vmovl_s8(vreinterpret_s8_u8(b)), 7);
    const uint8x8_t is_nan = vceq_u8(vorr_u8(b, vdup_n_u8(0x80)), vdup_n_u8(0xff));
    const uint16x8_t halves = vandq_u16(vreinterpretq_u16_s16(bits), vdupq_n_u16(0xbf80));
    const int16x8_t nan = vmovl_s8(vreinterpret_s8_u8(is_nan));

    const float16x8_t small = vreinterpretq_f16_u16(vorrq_u16(halves, vreinterpretq_u16_s16(nan)));

    return reg_make(vmulq_n_f32(vcvt_f32_f16(vget_low_f16(small)), 256.0f),
                    vmulq_n_f32(vcvt_high_f32_f16(small), 256.0f));
}

/* REG signed bytes as floats. */
KERN_INLINE reg reg_load_s8(const uint8_t *p)
{
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p)));

    return reg_of_s32(vmovl_s16(vget_low_s16(wide)), vmovl_high_s16(wide));
}

/* REG numbers of 4 bits as floats, the first in the low half of the first byte. */
KERN_INLINE reg reg_load_u4(const uint8_t *p)
{
    const uint8x8_t bytes = vreinterpret_u8_s32(vdup_n_s32(kern_load_i32(p)));
    const uint8x8_t each = vzip1_u8(vand_u8(bytes, vdup_n_u8(15)), vshr_n_u8(bytes, 4));
    const uint16x8_t wide = vmovl_u8(each);

    return reg_make(vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))),
                    vcvtq_f32_u32(vmovl_high_u16(wide)));
}

/* A half in all lanes. */
KERN_INLINE reg reg_set1_f16(const uint8_t *p)
{
    uint16_t half;
    float32x4_t x;

    memcpy(&half, p, sizeof(half));
    x = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
    return reg_make(x, x);
}

/* The first n floats, zeros after; touches no others. With a constant n of REG
 * it is a plain load. */
KERN_INLINE reg reg_load_part(const float *p, int32_t n)
{
    float few[REG] = {0};

    if (n == REG) {
        return reg_load(p);
    }
    for (int32_t i = 0; i < n; i++) {
        few[i] = p[i];
    }
    return reg_load(few);
}

KERN_INLINE void reg_store_part(float *p, int32_t n, reg x)
{
    float few[REG];

    if (n == REG) {
        reg_store(p, x);
        return;
    }
    reg_store(few, x);
    for (int32_t i = 0; i < n; i++) {
        p[i] = few[i];
    }
}

/* The first n of REG / 2 floats, each twice: a a b b ... */
KERN_INLINE reg reg_load_twice_part(const float *p, int32_t n)
{
    const float32x4_t x = n == REG / 2 ? vld1q_f32(p) : reg_load_part(p, n).a;

    return reg_make(vzip1q_f32(x, x), vzip2q_f32(x, x));
}

/* n floats, `stride` apart, zeros after; touches no others. */
KERN_INLINE reg reg_gather_part(const float *p, int32_t stride, int32_t n)
{
    float few[REG] = {0};

    for (int32_t i = 0; i < n; i++) {
        few[i] = p[(ptrdiff_t)i * stride];
    }
    return reg_load(few);
}

/* ------------------------------------------------------------ arithmetic */

REG_BINARY(reg_add, vaddq_f32)
REG_BINARY(reg_sub, vsubq_f32)
REG_BINARY(reg_mul, vmulq_f32)
REG_BINARY(reg_div, vdivq_f32)

/* The second argument where one is NaN: not what the instructions for it give. */
KERN_INLINE float32x4_t min4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

KERN_INLINE float32x4_t max4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

REG_BINARY(reg_min, min4)
REG_BINARY(reg_max, max4)

/* a * b + c */
KERN_INLINE reg reg_fma(reg a, reg b, reg c)
{
    return reg_make(vfmaq_f32(c.a, a.a, b.a), vfmaq_f32(c.b, a.b, b.b));
}

/* c - a * b */
KERN_INLINE reg reg_fnma(reg a, reg b, reg c)
{
    return reg_make(vfmsq_f32(c.a, a.a, b.a), vfmsq_f32(c.b, a.b, b.b));
}

/* Even lanes negated. */
KERN_INLINE float32x4_t minus_even(float32x4_t x)
{
    const uint32x4_t sign = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000u));

    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), sign));
}

/* a * b - c in even lanes, a * b + c in odd ones */
KERN_INLINE reg reg_fmaddsub(reg a, reg b, reg c)
{
    return reg_fma(a, b, reg_make(minus_even(c.a), minus_even(c.b)));
}

KERN_INLINE reg reg_round(reg x)
{
    return reg_make(vrndnq_f32(x.a), vrndnq_f32(x.b));
}

/* 2^n for n from -126 to 127 */
KERN_INLINE float32x4_t exp2i4(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

KERN_INLINE float32x4_t scale4(float32x4_t x, float32x4_t n)
{
    const int32x4_t whole = vcvtnq_s32_f32(n);
    const int32x4_t half = vshrq_n_s32(whole, 1);

    return vmulq_f32(vmulq_f32(x, exp2i4(half)), exp2i4(vsubq_s32(whole, half)));
}

/* x * 2^n for whole n, |n| <= 252, rounded once: in two steps, of which only
 * the second can leave the normal range. */
REG_BINARY(reg_scale2, scale4)

/* ------------------------------------------------------------ across lanes */

/* All ones in the first n lanes of four, none for n < 0. */
KERN_INLINE uint32x4_t mask4(int32_t n)
{
    static const int32_t lane[4] = {0, 1, 2, 3};

    return vcltq_s32(vld1q_s32(lane), vdupq_n_s32(n));
}

/* Lanes begin .. end - 1 of x, `other` elsewhere. */
KERN_INLINE reg reg_keep(reg x, int32_t begin, int32_t end, reg other)
{
    return reg_make(vbslq_f32(vbicq_u32(mask4(end), mask4(begin)), x.a, other.a),
                    vbslq_f32(vbicq_u32(mask4(end - 4), mask4(begin - 4)), x.b, other.b));
}

KERN_INLINE float32x4_t select_positive4(float32x4_t x, float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtzq_f32(x), a, b);
}

/* a where x > 0, else b (NaN: b). */
KERN_INLINE reg reg_select_positive(reg x, reg a, reg b)
{
    return reg_make(select_positive4(x.a, a.a, b.a), select_positive4(x.b, a.b, b.b));
}

/* Neighbours exchanged: b a d c ... */
KERN_INLINE reg reg_swap_pairs(reg x)
{
    return reg_make(vrev64q_f32(x.a), vrev64q_f32(x.b));
}

/* The lanes folded in halves: a fixed order. */
KERN_INLINE float reg_max_all(reg x)
{
    const float32x4_t four = max4(x.a, x.b);
    const float32x4_t two = max4(four, vextq_f32(four, four, 2));

    return vgetq_lane_f32(max4(two, vrev64q_f32(two)), 0);
}

KERN_INLINE float reg_sum_all(reg x)
{
    const float32x4_t four = vaddq_f32(x.a, x.b);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));

    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* Lane i becomes the sum of the lanes of x[i], all in the same order. */
KERN_INLINE float32x4_t sums4(const reg *x)
{
    const float32x4_t low = vpaddq_f32(vpaddq_f32(x[0].a, x[1].a), vpaddq_f32(x[2].a, x[3].a));
    const float32x4_t high = vpaddq_f32(vpaddq_f32(x[0].b, x[1].b), vpaddq_f32(x[2].b, x[3].b));

    return vaddq_f32(low, high);
}

KERN_INLINE reg reg_transpose_sum(const reg x[REG])
{
    return reg_make(sums4(x), sums4(x + 4));
}

/* ---------------------------------------------------------- sums in double */

struct reg_total {
    float64x2_t sum[4]; /* lanes 0-1, 2-3, 4-5, 6-7 */
};

KERN_INLINE struct reg_total reg_total_zero(void)
{
    const float64x2_t zero = vdupq_n_f64(0.0);

    return (struct reg_total){{zero, zero, zero, zero}};
}

KERN_INLINE void reg_total_add(struct reg_total *total, reg x)
{
    total->sum[0] = vaddq_f64(total->sum[0], vcvt_f64_f32(vget_low_f32(x.a)));
    total->sum[1] = vaddq_f64(total->sum[1], vcvt_high_f64_f32(x.a));
    total->sum[2] = vaddq_f64(total->sum[2], vcvt_f64_f32(vget_low_f32(x.b)));
    total->sum[3] = vaddq_f64(total->sum[3], vcvt_high_f64_f32(x.b));
}

KERN_INLINE void reg_total_add_square(struct reg_total *total, reg x)
{
    const float64x2_t v[4] = {vcvt_f64_f32(vget_low_f32(x.a)), vcvt_high_f64_f32(x.a),
                              vcvt_f64_f32(vget_low_f32(x.b)), vcvt_high_f64_f32(x.b)};

    KERN_UNROLL
    for (int i = 0; i < 4; i++) {
        total->sum[i] = vfmaq_f64(total->sum[i], v[i], v[i]);
    }
}

KERN_INLINE double reg_total_value(struct reg_total total)
{
    const float64x2_t low = vaddq_f64(total.sum[0], total.sum[2]);
    const float64x2_t two = vaddq_f64(low, vaddq_f64(total.sum[1], total.sum[3]));

    return vgetq_lane_f64(two, 0) + vgetq_lane_f64(two, 1);
}

#undef REG_BINARY

#include "kernels/cpu/reg_exp.h"

#endif
