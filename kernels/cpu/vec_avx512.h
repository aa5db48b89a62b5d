/* Sixteen lanes of 32 bits on AVX-512: the vocabulary that the kernel templates
 * (*_tmpl.h) are written in. vec_avx2.h gives every word the same meaning, so
 * both compute the same bits. */
#ifndef KERNELS_CPU_VEC_AVX512_H
#define KERNELS_CPU_VEC_AVX512_H

#include "kernels/cpu/vec_x86.h"

typedef __m512 vf;
typedef __m512i vi;

/* ------------------------------------------------------------------ float */

KERN_INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}

KERN_INLINE vf vf_set1(float f)
{
    return _mm512_set1_ps(f);
}

KERN_INLINE vf vf_load(const void *p)
{
    return _mm512_loadu_ps(p);
}

KERN_INLINE vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

KERN_INLINE vf vf_load_bf16(const void *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));

    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

KERN_INLINE vf vf_load_e4m3(const void *p)
{
    return _mm512_mul_ps(_mm512_cvtph_ps(kern_halves_of_e4m3(p)), _mm512_set1_ps(256.0f));
}

KERN_INLINE vf vf_load_e5m2(const void *p)
{
    return _mm512_cvtph_ps(kern_halves_of_e5m2(p));
}

KERN_INLINE void vf_store(void *p, vf a)
{
    _mm512_storeu_ps(p, a);
}

KERN_INLINE void vf_store_f16(void *p, vf a)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

KERN_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

KERN_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

KERN_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

KERN_INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c, rounded once */
KERN_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Lane i is added to lane i + 8, then i + 4, i + 2, i + 1. */
KERN_INLINE float vf_sum(vf a)
{
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* ---------------------------------------------------------------- integer */

KERN_INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}

KERN_INLINE vi vi_set1(int32_t i)
{
    return _mm512_set1_epi32(i);
}

KERN_INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

KERN_INLINE vi vi_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}

KERN_INLINE vi vi_load_s8(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}

KERN_INLINE vi vi_load_s16(const void *p)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(p));
}

KERN_INLINE void vi_store(void *p, vi a)
{
    _mm512_storeu_si512(p, a);
}

/* Lanes hold values that fit. */
KERN_INLINE void vi_store_s8(void *p, vi a)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(a));
}

KERN_INLINE void vi_store_u16(void *p, vi a)
{
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(a));
}

KERN_INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

KERN_INLINE vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

KERN_INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

KERN_INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

KERN_INLINE vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}

KERN_INLINE vi vi_shl(vi a, unsigned n)
{
    return _mm512_slli_epi32(a, n);
}

KERN_INLINE vi vi_shr(vi a, unsigned n) /* zeros come in */
{
    return _mm512_srli_epi32(a, n);
}

KERN_INLINE vi vi_sar(vi a, unsigned n) /* the sign comes in */
{
    return _mm512_srai_epi32(a, n);
}

/* Products of the two 16-bit halves of each lane, added. */
KERN_INLINE vi vi_madd16(vi a, vi b)
{
    return _mm512_madd_epi16(a, b);
}

/* Of the four bytes of each lane. */
KERN_INLINE vi vi_add8(vi a, vi b)
{
    return _mm512_add_epi8(a, b);
}

KERN_INLINE vi vi_sub8(vi a, vi b)
{
    return _mm512_sub_epi8(a, b);
}

/* Bytes of -1 where a >= b, both unsigned. */
KERN_INLINE vi vi_ge_u8(vi a, vi b)
{
    return _mm512_movm_epi8(_mm512_cmpge_epu8_mask(a, b));
}

/* Sixteen bytes to look up in. */
KERN_INLINE vi vi_table(const int8_t table[16])
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table));
}

/* Bytes table[i] for bytes i below 16. */
KERN_INLINE vi vi_lookup(vi table, vi i)
{
    return _mm512_shuffle_epi8(table, i);
}

/* Byte k of each lane becomes -1 where bit 4j + k of the lane is set. */
KERN_INLINE vi vi_spread(vi a, int j)
{
    const __m512i pick = _mm512_add_epi8(_mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0),
                                         _mm512_set1_epi8((char)(j / 2)));
    const __m512i bits = _mm512_set1_epi32(j % 2 ? (int)0x80402010 : 0x08040201);

    return _mm512_movm_epi8(_mm512_test_epi8_mask(_mm512_shuffle_epi8(a, pick), bits));
}

KERN_INLINE vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}

/* then where a > b, otherwise elsewhere */
KERN_INLINE vi vi_select_gt(vi a, vi b, vi then, vi otherwise)
{
    return _mm512_mask_mov_epi32(otherwise, _mm512_cmpgt_epi32_mask(a, b), then);
}

KERN_INLINE int32_t vi_reduce_add(vi a)
{
    return _mm512_reduce_add_epi32(a);
}

KERN_INLINE int32_t vi_reduce_max(vi a)
{
    return _mm512_reduce_max_epi32(a);
}

KERN_INLINE vf vf_of_int(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

KERN_INLINE vi vi_of_float(vf a) /* to nearest even */
{
    return _mm512_cvtps_epi32(a);
}

KERN_INLINE vi vi_bits(vf a)
{
    return _mm512_castps_si512(a);
}

KERN_INLINE vf vf_of_bits(vi a)
{
    return _mm512_castsi512_ps(a);
}

/* The half in the low 16 bits of each lane. */
KERN_INLINE vf vf_of_low_f16(vi a)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
}

/* -------------------------------------------- sixteen rows of a byte matrix */

/* The half at the start of each of 16 rows. */
KERN_INLINE vf vf_strided_f16(const uint8_t *p, size_t stride)
{
    return _mm512_cvtph_ps(
        _mm256_set_m128i(kern_rows8_u16(p + 8 * stride, stride), kern_rows8_u16(p, stride)));
}

/* The first four bytes of each of 16 rows. */
KERN_INLINE vi vi_strided_4b(const uint8_t *p, size_t stride)
{
    int64_t v[8];

    KERN_UNROLL
    for (size_t i = 0; i < 8; i++) {
        v[i] = kern_two_u32(p + 2 * i * stride, p + (2 * i + 1) * stride);
    }
    return _mm512_set_epi64(v[7], v[6], v[5], v[4], v[3], v[2], v[1], v[0]);
}

/* Entry i of a table for the i of each lane. */
KERN_INLINE vi vi_entries_4b(const int8_t (*table)[4], vi index)
{
    int32_t i[16];

    vi_store(i, index);
    return _mm512_set_epi64(
        kern_two_u32(table[i[14]], table[i[15]]), kern_two_u32(table[i[12]], table[i[13]]),
        kern_two_u32(table[i[10]], table[i[11]]), kern_two_u32(table[i[8]], table[i[9]]),
        kern_two_u32(table[i[6]], table[i[7]]), kern_two_u32(table[i[4]], table[i[5]]),
        kern_two_u32(table[i[2]], table[i[3]]), kern_two_u32(table[i[0]], table[i[1]]));
}

KERN_INLINE vi entries8(const int8_t (*table)[8], const int32_t i[8])
{
    return _mm512_set_epi64(kern_load_i64(table[i[7]]), kern_load_i64(table[i[6]]),
                            kern_load_i64(table[i[5]]), kern_load_i64(table[i[4]]),
                            kern_load_i64(table[i[3]]), kern_load_i64(table[i[2]]),
                            kern_load_i64(table[i[1]]), kern_load_i64(table[i[0]]));
}

/* Entry i of a table for the i of each lane: bytes 0-3 in out[0], 4-7 in out[1]. */
KERN_INLINE void vi_entries_8b(vi out[2], const int8_t (*table)[8], vi index)
{
    const vi even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    int32_t i[16];
    vi a, b;

    vi_store(i, index);
    a = entries8(table, i);
    b = entries8(table, i + 8);
    out[0] = _mm512_permutex2var_epi32(a, even, b);
    out[1] = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

/* 16 bytes of each of the rows 0, 4, 8, 12, side by side. */
KERN_INLINE vi rows4(const uint8_t *p, size_t stride)
{
    const __m128i *const r0 = (const void *)p, *const r1 = (const void *)(p + 4 * stride);
    const __m128i *const r2 = (const void *)(p + 8 * stride);
    const __m128i *const r3 = (const void *)(p + 12 * stride);
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(r0));

    v = _mm512_inserti32x4(v, _mm_loadu_si128(r1), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128(r2), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128(r3), 3);
}

/* 16 bytes of each of 16 rows: lane i of out[j] is bytes 4j .. 4j + 3 of row i. */
KERN_INLINE void vi_strided_16b(vi out[4], const uint8_t *p, size_t stride)
{
    const vi r0 = rows4(p, stride), r1 = rows4(p + stride, stride);
    const vi r2 = rows4(p + 2 * stride, stride), r3 = rows4(p + 3 * stride, stride);
    const vi t0 = _mm512_unpacklo_epi32(r0, r1), t1 = _mm512_unpackhi_epi32(r0, r1);
    const vi t2 = _mm512_unpacklo_epi32(r2, r3), t3 = _mm512_unpackhi_epi32(r2, r3);

    out[0] = _mm512_unpacklo_epi64(t0, t2);
    out[1] = _mm512_unpackhi_epi64(t0, t2);
    out[2] = _mm512_unpacklo_epi64(t1, t3);
    out[3] = _mm512_unpackhi_epi64(t1, t3);
}

/* ------------------------------------------- sums of products of four bytes
 *
 * A sum of products of one block starts with dot_start, takes four elements of
 * each lane's weight row and four activations (the same for all lanes) a step,
 * and dot_finish gives the 32-bit sums. Words on w: KERN_DOT_U4, unsigned below
 * 16; KERN_DOT_U7, unsigned below 128; KERN_DOT_S8, as dot_prepare_s8 left it. */

#if defined(__AVX512VNNI__)

enum { DOT_S8_OFFSET = 128 }; /* what dot_prepare_s8 adds to a weight */

KERN_INLINE vi dot_prepare_s8(vi w)
{
    return _mm512_xor_si512(w, _mm512_set1_epi8((char)-128));
}

KERN_INLINE vi dot_start(vi initial, enum kern_dot kind)
{
    (void)kind;
    return initial;
}

KERN_INLINE vi dot_step(vi sum, vi w, vi x, enum kern_dot kind)
{
    (void)kind;
    return _mm512_dpbusd_epi32(sum, w, x);
}

KERN_INLINE vi dot_finish(vi sum, vi initial, enum kern_dot kind)
{
    (void)initial;
    (void)kind;
    return sum;
}

#else

enum { DOT_S8_OFFSET = 0 };

KERN_INLINE vi dot_prepare_s8(vi w)
{
    return w;
}

/* Below 16 the sums of a whole block fit 16 bits: 16 * 15 * 127 < 2^15. */
KERN_INLINE vi dot_start(vi initial, enum kern_dot kind)
{
    return kind == KERN_DOT_U4 ? _mm512_setzero_si512() : initial;
}

/* Products of bytes are added in pairs with saturation at 2^15, which
 * 2 * 128 * 127 does not reach. */
KERN_INLINE vi dot_step(vi sum, vi w, vi x, enum kern_dot kind)
{
    __m512i pairs;

    if (kind == KERN_DOT_S8) {
        x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
        w = _mm512_abs_epi8(w);
    }
    pairs = _mm512_maddubs_epi16(w, x);
    if (kind == KERN_DOT_U4) {
        return _mm512_add_epi16(sum, pairs);
    }
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

KERN_INLINE vi dot_finish(vi sum, vi initial, enum kern_dot kind)
{
    if (kind == KERN_DOT_U4) {
        return _mm512_add_epi32(initial, _mm512_madd_epi16(sum, _mm512_set1_epi16(1)));
    }
    return sum;
}

#endif

#endif
