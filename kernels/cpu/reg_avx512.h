/* One register of floats, 16 on AVX-512, for the templates that do not care how
 * many it holds. reg_avx2.h has the same words. */
#ifndef KERNELS_CPU_REG_AVX512_H
#define KERNELS_CPU_REG_AVX512_H

#include "kernels/cpu/vec_x86.h"

typedef __m512 reg;

enum {
    REG = 16,     /* floats */
    REG_ROWS = 4, /* query vectors that attention multiplies at a time */
    REG_SUMS = 16 /* and sums it keeps in registers meanwhile */
};

/* ------------------------------------------------------ loads and stores */

KERN_INLINE reg reg_zero(void)
{
    return _mm512_setzero_ps();
}

KERN_INLINE reg reg_set1(float x)
{
    return _mm512_set1_ps(x);
}

KERN_INLINE reg reg_load(const void *p)
{
    return _mm512_loadu_ps(p);
}

KERN_INLINE void reg_store(float *p, reg x)
{
    _mm512_storeu_ps(p, x);
}

KERN_INLINE reg reg_load_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

KERN_INLINE reg reg_load_bf16(const uint8_t *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* REG E4M3 numbers. */
KERN_INLINE reg reg_load_e4m3(const uint8_t *p)
{
    return _mm512_mul_ps(_mm512_cvtph_ps(kern_halves_of_e4m3(p)), _mm512_set1_ps(256.0f));
}

/* REG signed bytes as floats. */
KERN_INLINE reg reg_load_s8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* REG numbers of 4 bits as floats, the first in the low half of the first byte. */
KERN_INLINE reg reg_load_u4(const uint8_t *p)
{
    const __m512i pair = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)p));
    const __m512i both = _mm512_or_si512(pair, _mm512_slli_epi64(pair, 28));

    return _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15)));
}

/* A half in all lanes. */
KERN_INLINE reg reg_set1_f16(const uint8_t *p)
{
    int16_t half;

    memcpy(&half, p, sizeof(half));
    return _mm512_cvtph_ps(_mm256_set1_epi16(half));
}

/* Ones for the first n lanes, 0 <= n <= REG. */
KERN_INLINE __mmask16 reg_mask(int32_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

/* The first n floats, zeros after; touches no others. With a constant n of REG
 * it is a plain load. */
KERN_INLINE reg reg_load_part(const float *p, int32_t n)
{
    return n == REG ? reg_load(p) : _mm512_maskz_loadu_ps(reg_mask(n), p);
}

KERN_INLINE void reg_store_part(float *p, int32_t n, reg x)
{
    if (n == REG) {
        reg_store(p, x);
    } else {
        _mm512_mask_storeu_ps(p, reg_mask(n), x);
    }
}

/* The first n of REG / 2 floats, each twice: a a b b ... */
KERN_INLINE reg reg_load_twice_part(const float *p, int32_t n)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m256 x =
        n == REG / 2 ? _mm256_loadu_ps(p) : _mm256_maskz_loadu_ps((__mmask8)reg_mask(n), p);

    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(x));
}

/* n floats, `stride` apart, zeros after; touches no others. */
KERN_INLINE reg reg_gather_part(const float *p, int32_t stride, int32_t n)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i index = _mm512_mullo_epi32(lane, _mm512_set1_epi32(stride));

    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), reg_mask(n), index, p, 4);
}

/* ------------------------------------------------------------ arithmetic */

KERN_INLINE reg reg_add(reg a, reg b)
{
    return _mm512_add_ps(a, b);
}

KERN_INLINE reg reg_sub(reg a, reg b)
{
    return _mm512_sub_ps(a, b);
}

KERN_INLINE reg reg_mul(reg a, reg b)
{
    return _mm512_mul_ps(a, b);
}

KERN_INLINE reg reg_div(reg a, reg b)
{
    return _mm512_div_ps(a, b);
}

/* The second argument where one is NaN. */
KERN_INLINE reg reg_min(reg a, reg b)
{
    return _mm512_min_ps(a, b);
}

KERN_INLINE reg reg_max(reg a, reg b)
{
    return _mm512_max_ps(a, b);
}

/* a * b + c */
KERN_INLINE reg reg_fma(reg a, reg b, reg c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* c - a * b */
KERN_INLINE reg reg_fnma(reg a, reg b, reg c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

/* a * b - c in even lanes, a * b + c in odd ones */
KERN_INLINE reg reg_fmaddsub(reg a, reg b, reg c)
{
    return _mm512_fmaddsub_ps(a, b, c);
}

KERN_INLINE reg reg_round(reg x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x * 2^n for whole n, rounded once */
KERN_INLINE reg reg_scale2(reg x, reg n)
{
    return _mm512_scalef_ps(x, n);
}

/* ------------------------------------------------------------ across lanes */

/* Lanes begin .. end - 1 of x, `other` elsewhere. */
KERN_INLINE reg reg_keep(reg x, int32_t begin, int32_t end, reg other)
{
    return _mm512_mask_mov_ps(other, (__mmask16)(reg_mask(end) & ~reg_mask(begin)), x);
}

/* a where x > 0, else b (NaN: b). */
KERN_INLINE reg reg_select_positive(reg x, reg a, reg b)
{
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), a);
}

/* Neighbours exchanged: b a d c ... */
KERN_INLINE reg reg_swap_pairs(reg x)
{
    return _mm512_permute_ps(x, 0xb1);
}

/* The lanes folded in halves: a fixed order. */
KERN_INLINE float reg_max_all(reg x)
{
    const __m256 e = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    return _mm_cvtss_f32(m);
}

KERN_INLINE float reg_sum_all(reg x)
{
    const __m256 e = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

/* a0+a2 b0+b2 a1+a3 b1+b3 in each quarter */
KERN_INLINE reg reg_fold_1(reg a, reg b)
{
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

/* Of two results of reg_fold_1: a b c d, each the sum of its quarter's lanes. */
KERN_INLINE reg reg_fold_2(reg ab, reg cd)
{
    const __m512d x = _mm512_castps_pd(ab);
    const __m512d y = _mm512_castps_pd(cd);

    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}

/* Quarters 0+2 and 1+3 of a, then of b. */
KERN_INLINE reg reg_fold_3(reg a, reg b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}

/* Lane i becomes the sum of the lanes of x[i], all in the same order. */
KERN_INLINE reg reg_transpose_sum(const reg x[REG])
{
    const reg a = reg_fold_2(reg_fold_1(x[0], x[1]), reg_fold_1(x[2], x[3]));
    const reg b = reg_fold_2(reg_fold_1(x[4], x[5]), reg_fold_1(x[6], x[7]));
    const reg c = reg_fold_2(reg_fold_1(x[8], x[9]), reg_fold_1(x[10], x[11]));
    const reg d = reg_fold_2(reg_fold_1(x[12], x[13]), reg_fold_1(x[14], x[15]));
    const reg ab = reg_fold_3(a, b);
    const reg cd = reg_fold_3(c, d);

    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/* ---------------------------------------------------------- sums in double */

struct reg_total {
    __m512d low, high;
};

KERN_INLINE struct reg_total reg_total_zero(void)
{
    return (struct reg_total){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

KERN_INLINE void reg_total_add(struct reg_total *total, reg x)
{
    total->low = _mm512_add_pd(total->low, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    total->high = _mm512_add_pd(total->high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
}

KERN_INLINE void reg_total_add_square(struct reg_total *total, reg x)
{
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));

    total->low = _mm512_fmadd_pd(low, low, total->low);
    total->high = _mm512_fmadd_pd(high, high, total->high);
}

KERN_INLINE double reg_total_value(struct reg_total total)
{
    const __m512d eight = _mm512_add_pd(total.low, total.high);
    const __m256d four =
        _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));

    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#include "kernels/cpu/reg_exp.h"

#endif
