/* What the vector vocabularies vec_avx2.h and vec_avx512.h share. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include "base/types.h"

#include <immintrin.h>
#include <string.h>

#define KERN_INLINE static inline __attribute__((always_inline, unused))

/* Before a loop of constant length whose variables must live in registers. */
#if defined(__clang__)
#define KERN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KERN_UNROLL _Pragma("GCC unroll 16")
#endif

/* What the bytes of a weight vector are; see the dot_* words. */
enum kern_dot { KERN_DOT_U4, KERN_DOT_U7, KERN_DOT_S8 };

/* Where sixteen weight rows lie that are read together: as in the file, `stride` bytes apart; or
 * packed (kernels.h, kern_pack_fn), where the column of bytes that begins at offset o of a plain
 * block begins at 16 * o of a packed one. Pointers are made by the offsets of the plain block
 * either way; the words vf_rows_f16(), vi_rows_*() of rows.h find the bytes. */
struct kern_rows {
    const uint8_t *block; /* packed: where the block begins that pointers are made from */
    size_t stride;
    int packed; /* a constant, so that the compiler sees through it */
};

KERN_INLINE int32_t kern_load_i32(const void *p)
{
    int32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE float kern_load_f32(const void *p)
{
    float v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* factor * (s[2i] + s[2i + 1]) */
KERN_INLINE void kern_pair_sums_i32(int32_t out[8], const int16_t s[16], int factor)
{
    const __m256i v = _mm256_loadu_si256((const void *)s);

    _mm256_storeu_si256((void *)out, _mm256_madd_epi16(v, _mm256_set1_epi16((short)factor)));
}

/* factor * s[i] */
KERN_INLINE void kern_scaled_i32(int32_t out[16], const int16_t s[16], int factor)
{
    const __m256i f = _mm256_set1_epi32(factor);

    for (int i = 0; i < 16; i += 8) {
        const __m256i wide = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)(s + i)));

        _mm256_storeu_si256((void *)(out + i), _mm256_mullo_epi32(wide, f));
    }
}

KERN_INLINE void kern_pair_sums_f32(float out[8], const int16_t s[16])
{
    const __m256i v = _mm256_loadu_si256((const void *)s);

    _mm256_storeu_ps(out, _mm256_cvtepi32_ps(_mm256_madd_epi16(v, _mm256_set1_epi16(1))));
}

/* Four bytes at p, four at q above them. */
KERN_INLINE int64_t kern_two_u32(const void *p, const void *q)
{
    return (int64_t)((uint64_t)(uint32_t)kern_load_i32(p) | (uint64_t)(uint32_t)kern_load_i32(q)
                                                                << 32);
}

/* Sixteen E4M3 numbers as halves of 2^-8 their size: the same bits, one exponent bit more. */
KERN_INLINE __m256i kern_halves_of_e4m3(const void *p)
{
    const __m128i b = _mm_loadu_si128(p), all = _mm_set1_epi8(-1);
    const __m128i is_nan = _mm_cmpeq_epi8(_mm_or_si128(b, _mm_set1_epi8(-128)), all);
    const __m256i bits = _mm256_slli_epi16(_mm256_cvtepi8_epi16(b), 7);

    return _mm256_or_si256(_mm256_and_si256(bits, _mm256_set1_epi16((short)0xbf80)),
                           _mm256_cvtepi8_epi16(is_nan));
}

/* Sixteen E5M2 numbers as halves: their upper bytes. */
KERN_INLINE __m256i kern_halves_of_e5m2(const void *p)
{
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128(p)), 8);
}

KERN_INLINE int64_t kern_load_i64(const void *p)
{
    int64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE uint64_t kern_load_u16x(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* The first two bytes of each of 4 rows. Put together by the integer units:
 * inserting words into vectors keeps the shuffle unit busy, which is what
 * unpacking waits for. */
KERN_INLINE uint64_t kern_rows4_u16(const uint8_t *p, size_t stride)
{
    return kern_load_u16x(p) | kern_load_u16x(p + stride) << 16 |
           kern_load_u16x(p + 2 * stride) << 32 | kern_load_u16x(p + 3 * stride) << 48;
}

/* The first two bytes of each of 8 rows. */
KERN_INLINE __m128i kern_rows8_u16(const uint8_t *p, size_t stride)
{
    return _mm_set_epi64x((long long)kern_rows4_u16(p + 4 * stride, stride),
                          (long long)kern_rows4_u16(p, stride));
}

#endif
