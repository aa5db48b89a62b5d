/* One register of floats, 8 on AVX2, for the templates that do not care how
 * many it holds. reg_avx512.h has the same words. */
#ifndef KERNELS_CPU_REG_AVX2_H
#define KERNELS_CPU_REG_AVX2_H

#include "kernels/cpu/vec_x86.h"

typedef __m256 reg;

enum {
    REG = 8,      /* floats */
    REG_ROWS = 2, /* query vectors that attention multiplies at a time */
    REG_SUMS = 8  /* and sums it keeps in registers meanwhile */
};

/* ------------------------------------------------------ loads and stores */

KERN_INLINE reg reg_zero(void)
{
    return _mm256_setzero_ps();
}

KERN_INLINE reg reg_set1(float x)
{
    return _mm256_set1_ps(x);
}

KERN_INLINE reg reg_load(const void *p)
{
    return _mm256_loadu_ps(p);
}

KERN_INLINE void reg_store(float *p, reg x)
{
    _mm256_storeu_ps(p, x);
}

KERN_INLINE reg reg_load_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

KERN_INLINE reg reg_load_bf16(const uint8_t *p)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* REG E4M3 numbers. */
KERN_INLINE reg reg_load_e4m3(const uint8_t *p)
{
    const __m128i b = _mm_loadl_epi64((const __m128i *)p);
    const __m128i halves = _mm256_castsi256_si128(kern_halves_of_e4m3_in(b));

    return _mm256_mul_ps(_mm256_cvtph_ps(halves), _mm256_set1_ps(256.0f));
}

/* REG signed bytes as floats. */
KERN_INLINE reg reg_load_s8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

/* REG numbers of 4 bits as floats, the first in the low half of the first byte. */
KERN_INLINE reg reg_load_u4(const uint8_t *p)
{
    int32_t bytes;
    __m256i pair, both;

    memcpy(&bytes, p, sizeof(bytes));
    pair = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(bytes));
    both = _mm256_or_si256(pair, _mm256_slli_epi64(pair, 28));
    return _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(15)));
}

/* A half in all lanes. */
KERN_INLINE reg reg_set1_f16(const uint8_t *p)
{
    int16_t half;

    memcpy(&half, p, sizeof(half));
    return _mm256_cvtph_ps(_mm_set1_epi16(half));
}

/* All ones in the first n lanes, 0 <= n <= REG. */
KERN_INLINE __m256i reg_mask(int32_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}

/* The first n floats, zeros after; touches no others. With a constant n of REG
 * it is a plain load. */
KERN_INLINE reg reg_load_part(const float *p, int32_t n)
{
    return n == REG ? reg_load(p) : _mm256_maskload_ps(p, reg_mask(n));
}

KERN_INLINE void reg_store_part(float *p, int32_t n, reg x)
{
    if (n == REG) {
        reg_store(p, x);
    } else {
        _mm256_maskstore_ps(p, reg_mask(n), x);
    }
}

/* The first n of REG / 2 floats, each twice: a a b b ... */
KERN_INLINE reg reg_load_twice_part(const float *p, int32_t n)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m128i few = _mm256_castsi256_si128(reg_mask(n));
    const __m128 x = n == REG / 2 ? _mm_loadu_ps(p) : _mm_maskload_ps(p, few);

    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(x), twice);
}

/* n floats, `stride` apart, zeros after; touches no others. */
KERN_INLINE reg reg_gather_part(const float *p, int32_t stride, int32_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i index = _mm256_mullo_epi32(lane, _mm256_set1_epi32(stride));

    return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), p, index, _mm256_castsi256_ps(reg_mask(n)),
                                    4);
}

/* ------------------------------------------------------------ arithmetic */

KERN_INLINE reg reg_add(reg a, reg b)
{
    return _mm256_add_ps(a, b);
}

KERN_INLINE reg reg_sub(reg a, reg b)
{
    return _mm256_sub_ps(a, b);
}

KERN_INLINE reg reg_mul(reg a, reg b)
{
    return _mm256_mul_ps(a, b);
}

KERN_INLINE reg reg_div(reg a, reg b)
{
    return _mm256_div_ps(a, b);
}

/* The second argument where one is NaN. */
KERN_INLINE reg reg_min(reg a, reg b)
{
    return _mm256_min_ps(a, b);
}

KERN_INLINE reg reg_max(reg a, reg b)
{
    return _mm256_max_ps(a, b);
}

/* a * b + c */
KERN_INLINE reg reg_fma(reg a, reg b, reg c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* c - a * b */
KERN_INLINE reg reg_fnma(reg a, reg b, reg c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

/* a * b - c in even lanes, a * b + c in odd ones */
KERN_INLINE reg reg_fmaddsub(reg a, reg b, reg c)
{
    return _mm256_fmaddsub_ps(a, b, c);
}

KERN_INLINE reg reg_round(reg x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for n from -126 to 127 */
KERN_INLINE reg reg_exp2i(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* x * 2^n for whole n, |n| <= 252, rounded once: in two steps, of which only
 * the second can leave the normal range. */
KERN_INLINE reg reg_scale2(reg x, reg n)
{
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);

    x = _mm256_mul_ps(x, reg_exp2i(half));
    return _mm256_mul_ps(x, reg_exp2i(_mm256_sub_epi32(whole, half)));
}

/* ------------------------------------------------------------ across lanes */

/* Lanes begin .. end - 1 of x, `other` elsewhere. */
KERN_INLINE reg reg_keep(reg x, int32_t begin, int32_t end, reg other)
{
    const __m256i keep = _mm256_andnot_si256(reg_mask(begin), reg_mask(end));

    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(keep));
}

/* a where x > 0, else b (NaN: b). */
KERN_INLINE reg reg_select_positive(reg x, reg a, reg b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}

/* Neighbours exchanged: b a d c ... */
KERN_INLINE reg reg_swap_pairs(reg x)
{
    return _mm256_permute_ps(x, 0xb1);
}

/* The lanes folded in halves: a fixed order. */
KERN_INLINE float reg_max_all(reg x)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    return _mm_cvtss_f32(m);
}

KERN_INLINE float reg_sum_all(reg x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

/* Lane i becomes the sum of the lanes of x[i], all in the same order. */
KERN_INLINE reg reg_transpose_sum(const reg x[REG])
{
    const reg a = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    const reg b = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));

    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* ---------------------------------------------------------- sums in double */

struct reg_total {
    __m256d low, high;
};

KERN_INLINE struct reg_total reg_total_zero(void)
{
    return (struct reg_total){_mm256_setzero_pd(), _mm256_setzero_pd()};
}

KERN_INLINE void reg_total_add(struct reg_total *total, reg x)
{
    total->low = _mm256_add_pd(total->low, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    total->high = _mm256_add_pd(total->high, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

KERN_INLINE void reg_total_add_square(struct reg_total *total, reg x)
{
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));

    total->low = _mm256_fmadd_pd(low, low, total->low);
    total->high = _mm256_fmadd_pd(high, high, total->high);
}

KERN_INLINE double reg_total_value(struct reg_total total)
{
    const __m256d four = _mm256_add_pd(total.low, total.high);
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));

    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#include "kernels/cpu/reg_exp.h"

#endif
