/* What the vocabularies of AVX2 and AVX-512 share. */
#ifndef KERNELS_CPU_VEC_X86_H
#define KERNELS_CPU_VEC_X86_H

#include "kernels/cpu/vec.h"

#include <immintrin.h>

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

/* Sixteen E4M3 numbers as halves of 2^-8 their size: the same bits, one exponent bit more. */
KERN_INLINE __m256i kern_halves_of_e4m3_in(__m128i b)
{
    const __m128i all = _mm_set1_epi8(-1);
    const __m128i is_nan = _mm_cmpeq_epi8(_mm_or_si128(b, _mm_set1_epi8(-128)), all);
    const __m256i bits = _mm256_slli_epi16(_mm256_cvtepi8_epi16(b), 7);

    return _mm256_or_si256(_mm256_and_si256(bits, _mm256_set1_epi16((short)0xbf80)),
                           _mm256_cvtepi8_epi16(is_nan));
}

KERN_INLINE __m256i kern_halves_of_e4m3(const void *p)
{
    return kern_halves_of_e4m3_in(_mm_loadu_si128(p));
}

/* Sixteen E5M2 numbers as halves: their upper bytes. */
KERN_INLINE __m256i kern_halves_of_e5m2(const void *p)
{
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128(p)), 8);
}

/* The first two bytes of each of 8 rows. */
KERN_INLINE __m128i kern_rows8_u16(const uint8_t *p, size_t stride)
{
    return _mm_set_epi64x((long long)kern_rows4_u16(p + 4 * stride, stride),
                          (long long)kern_rows4_u16(p, stride));
}

#endif
