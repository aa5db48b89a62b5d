/* Estimates from codes of few bits, and the rotation before coding, on AVX2. */
#include "kernels/cpu/init.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* ------------------------------------------------------------- estimates */

INLINE float finish(const struct kern_vector_estimate *args, const uint8_t *code, int32_t sum)
{
    float scale, base;

    memcpy(&scale, code + args->scale_at, sizeof(scale));
    memcpy(&base, code + args->base_at, sizeof(base));
    return scale * (args->scale * (float)sum - args->shift) + base;
}

INLINE int32_t sum_lanes(__m256i x)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* Pairs of products of a code and a query byte stay within 16 bits: 2 * 127 * 127 at most. */
INLINE __m256i half_block(__m256i sum, const uint8_t *code, const int8_t *query, int32_t bits)
{
    const __m256i mask = _mm256_set1_epi8((char)((1 << bits) - 1)), one = _mm256_set1_epi16(1);
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)code);

    for (int32_t j = 0; j < 8 / bits; j++) {
        const __m256i q = _mm256_loadu_si256((const __m256i *)(const void *)(query + j * 64));
        const __m256i c = _mm256_and_si256(_mm256_srli_epi16(x, j * bits), mask);

        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(c, q), one));
    }
    return sum;
}

INLINE void estimate(float *out, const void *const *codes, int32_t n,
                     const struct kern_vector_estimate *args, int32_t bits)
{
    for (int32_t i = 0; i < n; i++) {
        const uint8_t *code = codes[i];
        const int8_t *query = args->query;
        __m256i low = _mm256_setzero_si256(), high = low;

        for (int32_t b = 0; b < args->n_blocks; b++) {
            low = half_block(low, code + b * 64, query, bits);
            high = half_block(high, code + b * 64 + 32, query + 32, bits);
            query += 64 * (8 / bits);
        }
        out[i] = finish(args, code, sum_lanes(_mm256_add_epi32(low, high)));
    }
}

static void estimate2(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    estimate(out, codes, n, args, 2);
}

static void estimate4(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    estimate(out, codes, n, args, 4);
}

static void estimate8(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    estimate(out, codes, n, args, 8);
}

/* -------------------------------------------------------------- rotation */

/* Sums and differences of neighbours, of pairs, and of fours, in a register. */
INLINE __m256 hadamard8(__m256 x)
{
    __m256 a = _mm256_moveldup_ps(x), b = _mm256_movehdup_ps(x);

    x = _mm256_blend_ps(_mm256_add_ps(a, b), _mm256_sub_ps(a, b), 0xaa);
    a = _mm256_permute_ps(x, 0x44);
    b = _mm256_permute_ps(x, 0xee);
    x = _mm256_blend_ps(_mm256_add_ps(a, b), _mm256_sub_ps(a, b), 0xcc);
    a = _mm256_permute2f128_ps(x, x, 0x00);
    b = _mm256_permute2f128_ps(x, x, 0x11);
    return _mm256_blend_ps(_mm256_add_ps(a, b), _mm256_sub_ps(a, b), 0xf0);
}

static void hadamard(float *x, int32_t n) /* n a power of two, 8 at least */
{
    const __m256 scale = _mm256_set1_ps((float)(1.0 / sqrt((double)n)));

    for (int32_t i = 0; i < n; i += 8) {
        _mm256_storeu_ps(x + i, hadamard8(_mm256_loadu_ps(x + i)));
    }
    for (int32_t h = 8; h < n; h *= 2) {
        for (int32_t i = 0; i < n; i += 2 * h) {
            for (int32_t j = i; j < i + h; j += 8) {
                const __m256 a = _mm256_loadu_ps(x + j), b = _mm256_loadu_ps(x + j + h);

                _mm256_storeu_ps(x + j, _mm256_add_ps(a, b));
                _mm256_storeu_ps(x + j + h, _mm256_sub_ps(a, b));
            }
        }
    }
    for (int32_t i = 0; i < n; i += 8) {
        _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), scale));
    }
}

static void rotate(float *x, const float *signs, int32_t n)
{
    int32_t part = 8;

    while (part * 2 <= n) {
        part *= 2;
    }
    for (int32_t round = 0; round < KERN_VECTOR_ROUNDS; round++) {
        for (int32_t i = 0; i < n; i += 8) {
            _mm256_storeu_ps(x + i,
                             _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(signs + i)));
        }
        signs += n;
        hadamard(round % 2 ? x + (n - part) : x, part);
    }
}

void kern_vector_code_init_avx2(struct kern_vector *vector)
{
    vector->estimate2 = estimate2;
    vector->estimate4 = estimate4;
    vector->estimate8 = estimate8;
    vector->rotate = rotate;
}
