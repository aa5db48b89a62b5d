/* What the vector vocabularies vec_avx2.h and vec_avx512.h share. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include "base/types.h"

#include <immintrin.h>
#include <string.h>

#define KERN_INLINE static inline __attribute__((always_inline, unused))

/* Before a loop of constant length whose variables must live in registers. */
#if defined(__clang__)
#define KERN_UNROLL _Pragma("unroll")
#else
#define KERN_UNROLL _Pragma("GCC unroll 16")
#endif

/* What the bytes of a weight vector are; see the dot_* words. */
enum kern_dot { KERN_DOT_U4, KERN_DOT_U6, KERN_DOT_S8 };

KERN_INLINE int32_t kern_load_i32(const void *p)
{
    int32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE int16_t kern_load_i16(const void *p)
{
    int16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* The first two bytes of each of 8 rows. */
KERN_INLINE __m128i kern_rows8_u16(const uint8_t *p, size_t stride)
{
    __m128i v = _mm_cvtsi32_si128(kern_load_i16(p));

    v = _mm_insert_epi16(v, kern_load_i16(p + stride), 1);
    v = _mm_insert_epi16(v, kern_load_i16(p + 2 * stride), 2);
    v = _mm_insert_epi16(v, kern_load_i16(p + 3 * stride), 3);
    v = _mm_insert_epi16(v, kern_load_i16(p + 4 * stride), 4);
    v = _mm_insert_epi16(v, kern_load_i16(p + 5 * stride), 5);
    v = _mm_insert_epi16(v, kern_load_i16(p + 6 * stride), 6);
    return _mm_insert_epi16(v, kern_load_i16(p + 7 * stride), 7);
}

#endif
