/* Comparing vectors, AVX-512. */
#include "kernels/cpu/reg_avx512.h"

KERN_INLINE void reg_sums4(float out[4], const reg x[4])
{
    const reg four = reg_fold_2(reg_fold_1(x[0], x[1]), reg_fold_1(x[2], x[3]));
    const __m256 two = _mm256_add_ps(_mm512_castps512_ps256(four), _mm512_extractf32x8_ps(four, 1));

    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1)));
}

KERN_INLINE void reg_store_s8(int8_t *p, reg x)
{
    _mm_storeu_si128((void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}

#include "kernels/cpu/vector_tmpl.h"

/* Ones in each byte: those of the two halves of four bits from a table. */
KERN_INLINE __m512i ones(__m512i x)
{
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i low = _mm512_set1_epi8(15);

    return _mm512_add_epi8(
        _mm512_shuffle_epi8(table, _mm512_and_si512(x, low)),
        _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), low)));
}

static void hamming(int32_t *out, const void *query, const void *const *rows, int32_t n,
                    int32_t bytes)
{
    const uint8_t *x = query;

    for (int32_t r = 0; r < n; r++) {
        const uint8_t *y = rows[r];
        __m512i sum = _mm512_setzero_si512();

        for (int32_t i = 0; i < bytes; i += 64) {
            const __mmask8 mask = (__mmask8)(bytes - i < 64 ? (1u << (bytes - i) / 8) - 1u : 0xffu);
            const __m512i differ = _mm512_xor_si512(_mm512_maskz_loadu_epi64(mask, x + i),
                                                    _mm512_maskz_loadu_epi64(mask, y + i));

            sum = _mm512_add_epi64(sum, _mm512_sad_epu8(ones(differ), _mm512_setzero_si512()));
        }
        out[r] = (int32_t)_mm512_reduce_add_epi64(sum);
    }
}

void kern_vector_init_avx512(struct kern_vector *vector)
{
    vector_init_floats(vector);
    vector->hamming = hamming;
}
