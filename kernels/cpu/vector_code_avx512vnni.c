/* Estimates from codes of few bits on AVX-512 with VNNI. */
#include "kernels/cpu/init.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE float finish(const struct kern_vector_estimate *args, const uint8_t *code, int32_t sum)
{
    float scale, base;

    memcpy(&scale, code + args->scale_at, sizeof(scale));
    memcpy(&base, code + args->base_at, sizeof(base));
    return scale * (args->scale * (float)sum - args->shift) + base;
}

INLINE __m512i field(const uint8_t *code, int32_t j, int32_t bits)
{
    const __m512i x = _mm512_loadu_si512(code);

    return _mm512_and_si512(_mm512_srli_epi16(x, (unsigned int)(j * bits)),
                            _mm512_set1_epi8((char)((1 << bits) - 1)));
}

/* The sums of four registers' lanes. */
INLINE __m128i sum_four(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i s =
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i t = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));

    return _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
}

INLINE void four(float *out, const void *const *codes, const struct kern_vector_estimate *args,
                 int32_t bits)
{
    const uint8_t *c0 = codes[0], *c1 = codes[1], *c2 = codes[2], *c3 = codes[3];
    const int8_t *query = args->query;
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    int32_t sums[4];

    for (int32_t b = 0; b < args->n_blocks; b++) {
        for (int32_t j = 0; j < 8 / bits; j++) {
            const __m512i q = _mm512_loadu_si512(query);

            s0 = _mm512_dpbusd_epi32(s0, field(c0 + b * 64, j, bits), q);
            s1 = _mm512_dpbusd_epi32(s1, field(c1 + b * 64, j, bits), q);
            s2 = _mm512_dpbusd_epi32(s2, field(c2 + b * 64, j, bits), q);
            s3 = _mm512_dpbusd_epi32(s3, field(c3 + b * 64, j, bits), q);
            query += 64;
        }
    }
    _mm_storeu_si128((__m128i *)(void *)sums, sum_four(s0, s1, s2, s3));
    out[0] = finish(args, c0, sums[0]);
    out[1] = finish(args, c1, sums[1]);
    out[2] = finish(args, c2, sums[2]);
    out[3] = finish(args, c3, sums[3]);
}

INLINE void one(float *out, const uint8_t *code, const struct kern_vector_estimate *args,
                int32_t bits)
{
    const int8_t *query = args->query;
    __m512i sum = _mm512_setzero_si512();

    for (int32_t b = 0; b < args->n_blocks; b++) {
        for (int32_t j = 0; j < 8 / bits; j++) {
            sum =
                _mm512_dpbusd_epi32(sum, field(code + b * 64, j, bits), _mm512_loadu_si512(query));
            query += 64;
        }
    }
    *out = finish(args, code, _mm512_reduce_add_epi32(sum));
}

INLINE void estimate(float *out, const void *const *codes, int32_t n,
                     const struct kern_vector_estimate *args, int32_t bits)
{
    int32_t i = 0;

    for (; i + 4 <= n; i += 4) {
        four(out + i, codes + i, args, bits);
    }
    for (; i < n; i++) {
        one(out + i, codes[i], args, bits);
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

void kern_vector_code_init_avx512vnni(struct kern_vector *vector)
{
    vector->estimate2 = estimate2;
    vector->estimate4 = estimate4;
    vector->estimate8 = estimate8;
}
