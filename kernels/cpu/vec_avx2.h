/* Sixteen lanes of 32 bits as two AVX2 registers: the vocabulary of the kernel
 * templates, each word with the meaning it has in vec_avx512.h. */
#ifndef KERNELS_CPU_VEC_AVX2_H
#define KERNELS_CPU_VEC_AVX2_H

#include "kernels/cpu/vec_x86.h"

typedef struct {
    __m256 a, b; /* lanes 0-7, 8-15 */
} vf;

typedef struct {
    __m256i a, b;
} vi;

KERN_INLINE vf vf_make(__m256 a, __m256 b)
{
    const vf v = {a, b};

    return v;
}

KERN_INLINE vi vi_make(__m256i a, __m256i b)
{
    const vi v = {a, b};

    return v;
}

/* A word that does the same to both halves. */
#define VF_BINARY(name, op)                                                                        \
    KERN_INLINE vf name(vf x, vf y)                                                                \
    {                                                                                              \
        return vf_make(op(x.a, y.a), op(x.b, y.b));                                                \
    }
#define VI_BINARY(name, op)                                                                        \
    KERN_INLINE vi name(vi x, vi y)                                                                \
    {                                                                                              \
        return vi_make(op(x.a, y.a), op(x.b, y.b));                                                \
    }
#define VI_SHIFT(name, op)                                                                         \
    KERN_INLINE vi name(vi x, int n)                                                               \
    {                                                                                              \
        return vi_make(op(x.a, n), op(x.b, n));                                                    \
    }

/* ------------------------------------------------------------------ float */

VF_BINARY(vf_add, _mm256_add_ps)
VF_BINARY(vf_sub, _mm256_sub_ps)
VF_BINARY(vf_mul, _mm256_mul_ps)
VF_BINARY(vf_div, _mm256_div_ps)

KERN_INLINE vf vf_zero(void)
{
    return vf_make(_mm256_setzero_ps(), _mm256_setzero_ps());
}

KERN_INLINE vf vf_set1(float f)
{
    return vf_make(_mm256_set1_ps(f), _mm256_set1_ps(f));
}

KERN_INLINE vf vf_load(const void *p)
{
    return vf_make(_mm256_loadu_ps(p), _mm256_loadu_ps((const float *)p + 8));
}

KERN_INLINE vf vf_of_f16x16(__m256i h)
{
    return vf_make(_mm256_cvtph_ps(_mm256_castsi256_si128(h)),
                   _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)));
}

KERN_INLINE vf vf_load_f16(const void *p)
{
    return vf_make(_mm256_cvtph_ps(_mm_loadu_si128(p)),
                   _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1)));
}

KERN_INLINE __m256 bf16x8(const void *p)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));

    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

KERN_INLINE vf vf_load_bf16(const void *p)
{
    return vf_make(bf16x8(p), bf16x8((const __m128i *)p + 1));
}

KERN_INLINE vf vf_load_e4m3(const void *p)
{
    return vf_mul(vf_of_f16x16(kern_halves_of_e4m3(p)), vf_set1(256.0f));
}

KERN_INLINE vf vf_load_e5m2(const void *p)
{
    return vf_of_f16x16(kern_halves_of_e5m2(p));
}

KERN_INLINE void vf_store(void *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps((float *)p + 8, x.b);
}

KERN_INLINE void vf_store_f16(void *p, vf x)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

KERN_INLINE vf vf_fma(vf x, vf y, vf z)
{
    return vf_make(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}

KERN_INLINE float vf_sum(vf x)
{
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* ---------------------------------------------------------------- integer */

VI_BINARY(vi_add, _mm256_add_epi32)
VI_BINARY(vi_sub, _mm256_sub_epi32)
VI_BINARY(vi_and, _mm256_and_si256)
VI_BINARY(vi_or, _mm256_or_si256)
VI_BINARY(vi_xor, _mm256_xor_si256)
VI_BINARY(vi_max, _mm256_max_epi32)
VI_BINARY(vi_add8, _mm256_add_epi8)
VI_BINARY(vi_sub8, _mm256_sub_epi8)
VI_BINARY(vi_madd16, _mm256_madd_epi16) /* of the two 16-bit halves of each lane, added */
VI_BINARY(vi_lookup, _mm256_shuffle_epi8)
VI_SHIFT(vi_shl, _mm256_slli_epi32)
VI_SHIFT(vi_shr, _mm256_srli_epi32)
VI_SHIFT(vi_sar, _mm256_srai_epi32)

KERN_INLINE vi vi_zero(void)
{
    return vi_make(_mm256_setzero_si256(), _mm256_setzero_si256());
}

KERN_INLINE vi vi_set1(int32_t i)
{
    return vi_make(_mm256_set1_epi32(i), _mm256_set1_epi32(i));
}

KERN_INLINE vi vi_ge_u8(vi x, vi y)
{
    return vi_make(_mm256_cmpeq_epi8(_mm256_max_epu8(x.a, y.a), x.a),
                   _mm256_cmpeq_epi8(_mm256_max_epu8(x.b, y.b), x.b));
}

KERN_INLINE vi vi_table(const int8_t table[16])
{
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));

    return vi_make(t, t);
}

KERN_INLINE __m256i spread8(__m256i x, int j)
{
    const __m256i pick = _mm256_add_epi8(_mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                           0x04040404, 0x08080808, 0x0c0c0c0c),
                                         _mm256_set1_epi8((char)(j / 2)));
    const __m256i bits = _mm256_set1_epi32(j % 2 ? (int)0x80402010 : 0x08040201);

    return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(x, pick), bits), bits);
}

KERN_INLINE vi vi_spread(vi x, int j)
{
    return vi_make(spread8(x.a, j), spread8(x.b, j));
}

KERN_INLINE vi vi_load(const void *p)
{
    const __m256i *const v = p;

    return vi_make(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
}

KERN_INLINE vi vi_load_u8(const void *p)
{
    return vi_make(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)),
                   _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)((const char *)p + 8))));
}

KERN_INLINE vi vi_load_s8(const void *p)
{
    return vi_make(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)),
                   _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)((const char *)p + 8))));
}

KERN_INLINE vi vi_load_s16(const void *p)
{
    return vi_make(_mm256_cvtepi16_epi32(_mm_loadu_si128(p)),
                   _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p + 1)));
}

KERN_INLINE void vi_store(void *p, vi x)
{
    _mm256_storeu_si256(p, x.a);
    _mm256_storeu_si256((__m256i *)p + 1, x.b);
}

KERN_INLINE void vi_store_s8(void *p, vi x)
{
    const __m256i words = _mm256_packs_epi32(x.a, x.b); /* 0-3 8-11 | 4-7 12-15 */
    const __m256i ordered = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));

    _mm_storeu_si128(
        p, _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}

KERN_INLINE __m256i u16x16(vi x)
{
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(x.a, x.b), _MM_SHUFFLE(3, 1, 2, 0));
}

KERN_INLINE void vi_store_u16(void *p, vi x)
{
    _mm256_storeu_si256(p, u16x16(x));
}

KERN_INLINE vi vi_select_gt(vi x, vi y, vi then, vi otherwise)
{
    return vi_make(_mm256_blendv_epi8(otherwise.a, then.a, _mm256_cmpgt_epi32(x.a, y.a)),
                   _mm256_blendv_epi8(otherwise.b, then.b, _mm256_cmpgt_epi32(x.b, y.b)));
}

KERN_INLINE int32_t vi_reduce_add(vi x)
{
    const __m256i eight = _mm256_add_epi32(x.a, x.b);
    const __m128i four =
        _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));

    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

KERN_INLINE int32_t vi_reduce_max(vi x)
{
    const __m256i eight = _mm256_max_epi32(x.a, x.b);
    const __m128i four =
        _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));

    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}

KERN_INLINE vf vf_of_int(vi x)
{
    return vf_make(_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b));
}

KERN_INLINE vi vi_of_float(vf x)
{
    return vi_make(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
}

KERN_INLINE vi vi_bits(vf x)
{
    return vi_make(_mm256_castps_si256(x.a), _mm256_castps_si256(x.b));
}

KERN_INLINE vf vf_of_bits(vi x)
{
    return vf_make(_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b));
}

KERN_INLINE vf vf_of_low_f16(vi x)
{
    return vf_of_f16x16(u16x16(vi_and(x, vi_set1(0xffff))));
}

/* -------------------------------------------- sixteen rows of a byte matrix */

KERN_INLINE vf vf_strided_f16(const uint8_t *p, size_t stride)
{
    return vf_make(_mm256_cvtph_ps(kern_rows8_u16(p, stride)),
                   _mm256_cvtph_ps(kern_rows8_u16(p + 8 * stride, stride)));
}

KERN_INLINE __m256i rows8_4b(const uint8_t *p, size_t stride)
{
    return _mm256_set_epi64x(
        kern_two_u32(p + 6 * stride, p + 7 * stride), kern_two_u32(p + 4 * stride, p + 5 * stride),
        kern_two_u32(p + 2 * stride, p + 3 * stride), kern_two_u32(p, p + stride));
}

KERN_INLINE vi vi_strided_4b(const uint8_t *p, size_t stride)
{
    return vi_make(rows8_4b(p, stride), rows8_4b(p + 8 * stride, stride));
}

KERN_INLINE __m256i entries8_4b(const int8_t (*table)[4], const int32_t i[8])
{
    return _mm256_set_epi64x(
        kern_two_u32(table[i[6]], table[i[7]]), kern_two_u32(table[i[4]], table[i[5]]),
        kern_two_u32(table[i[2]], table[i[3]]), kern_two_u32(table[i[0]], table[i[1]]));
}

KERN_INLINE vi vi_entries_4b(const int8_t (*table)[4], vi index)
{
    int32_t i[16];

    vi_store(i, index);
    return vi_make(entries8_4b(table, i), entries8_4b(table, i + 8));
}

KERN_INLINE __m256 entries4_8b(const int8_t (*table)[8], const int32_t i[4])
{
    return _mm256_castsi256_ps(
        _mm256_set_epi64x(kern_load_i64(table[i[3]]), kern_load_i64(table[i[2]]),
                          kern_load_i64(table[i[1]]), kern_load_i64(table[i[0]])));
}

KERN_INLINE __m256i in_order(__m256 x)
{
    return _mm256_permute4x64_epi64(_mm256_castps_si256(x), _MM_SHUFFLE(3, 1, 2, 0));
}

KERN_INLINE void vi_entries_8b(vi out[2], const int8_t (*table)[8], vi index)
{
    int32_t i[16];
    __m256 v[4];

    vi_store(i, index);
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        v[j] = entries4_8b(table, i + 4 * j);
    }
    out[0] = vi_make(in_order(_mm256_shuffle_ps(v[0], v[1], _MM_SHUFFLE(2, 0, 2, 0))),
                     in_order(_mm256_shuffle_ps(v[2], v[3], _MM_SHUFFLE(2, 0, 2, 0))));
    out[1] = vi_make(in_order(_mm256_shuffle_ps(v[0], v[1], _MM_SHUFFLE(3, 1, 3, 1))),
                     in_order(_mm256_shuffle_ps(v[2], v[3], _MM_SHUFFLE(3, 1, 3, 1))));
}

/* 16 bytes of the rows 0 and 4. */
KERN_INLINE __m256i rows2(const uint8_t *p, size_t stride)
{
    const __m128i *const r0 = (const void *)p, *const r1 = (const void *)(p + 4 * stride);

    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(r0)), _mm_loadu_si128(r1),
                                   1);
}

/* 16 bytes of each of 8 rows, as vi_strided_16b. */
KERN_INLINE void rows8_16b(__m256i out[4], const uint8_t *p, size_t stride)
{
    const __m256i r0 = rows2(p, stride), r1 = rows2(p + stride, stride);
    const __m256i r2 = rows2(p + 2 * stride, stride), r3 = rows2(p + 3 * stride, stride);
    const __m256i t0 = _mm256_unpacklo_epi32(r0, r1), t1 = _mm256_unpackhi_epi32(r0, r1);
    const __m256i t2 = _mm256_unpacklo_epi32(r2, r3), t3 = _mm256_unpackhi_epi32(r2, r3);

    out[0] = _mm256_unpacklo_epi64(t0, t2);
    out[1] = _mm256_unpackhi_epi64(t0, t2);
    out[2] = _mm256_unpacklo_epi64(t1, t3);
    out[3] = _mm256_unpackhi_epi64(t1, t3);
}

KERN_INLINE void vi_strided_16b(vi out[4], const uint8_t *p, size_t stride)
{
    __m256i a[4], b[4];

    rows8_16b(a, p, stride);
    rows8_16b(b, p + 8 * stride, stride);
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        out[j] = vi_make(a[j], b[j]);
    }
}

/* ------------------------------------------- sums of products of four bytes */

enum { DOT_S8_OFFSET = 0 };

KERN_INLINE vi dot_prepare_s8(vi w)
{
    return w;
}

/* Below 16 the sums of a whole block fit 16 bits: 16 * 15 * 127 < 2^15. */
KERN_INLINE vi dot_start(vi initial, enum kern_dot kind)
{
    return kind == KERN_DOT_U4 ? vi_zero() : initial;
}

KERN_INLINE __m256i dot_half(__m256i sum, __m256i w, __m256i x, enum kern_dot kind)
{
    __m256i pairs;

    if (kind == KERN_DOT_S8) {
        x = _mm256_sign_epi8(x, w);
        w = _mm256_abs_epi8(w);
    }
    pairs = _mm256_maddubs_epi16(w, x);
    if (kind == KERN_DOT_U4) {
        return _mm256_add_epi16(sum, pairs);
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Products of bytes are added in pairs with saturation at 2^15, which
 * 2 * 128 * 127 does not reach. */
KERN_INLINE vi dot_step(vi sum, vi w, vi x, enum kern_dot kind)
{
    return vi_make(dot_half(sum.a, w.a, x.a, kind), dot_half(sum.b, w.b, x.b, kind));
}

KERN_INLINE vi dot_finish(vi sum, vi initial, enum kern_dot kind)
{
    const __m256i ones = _mm256_set1_epi16(1);

    if (kind == KERN_DOT_U4) {
        return vi_add(initial,
                      vi_make(_mm256_madd_epi16(sum.a, ones), _mm256_madd_epi16(sum.b, ones)));
    }
    return sum;
}

#undef VF_BINARY
#undef VI_BINARY
#undef VI_SHIFT

#endif
