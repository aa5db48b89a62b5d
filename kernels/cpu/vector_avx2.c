/* Comparing vectors, AVX2. */
#include "kernels/cpu/reg_avx2.h"

KERN_INLINE void reg_sums4(float out[4], const reg x[4])
{
    const reg four = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));

    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1)));
}

KERN_INLINE void reg_store_s8(int8_t *p, reg x)
{
    const __m256i wide = _mm256_cvtps_epi32(x);
    const __m128i half =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));

    _mm_storel_epi64((void *)p, _mm_packs_epi16(half, half));
}

#include "kernels/cpu/vector_tmpl.h"

/* Without products of bytes of its own: |row| times query with the row's sign, two of which fit 16
 * bits: 2 * 128 * 127 < 2^15. */
typedef __m256i bv, bi;

typedef struct {
    __m256i low, high; /* queries 0-7, 8-15 */
} tp, ti;

typedef struct {
    __m256i value, size;
} tr;

enum { BV = 32, BYTE_BIAS = 0, TILE_PANELS = 1, TILE_ROWS = 4 };

KERN_INLINE bv bv_zero(void)
{
    return _mm256_setzero_si256();
}

KERN_INLINE bv bv_load(const int8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

KERN_INLINE bv bv_load_part(const int8_t *p, int32_t n)
{
    int8_t part[BV] = {0};

    if (n == BV) {
        return bv_load(p);
    }
    memcpy(part, p, (size_t)n);
    return bv_load(part);
}

KERN_INLINE bi bi_zero(void)
{
    return _mm256_setzero_si256();
}

KERN_INLINE __m256i fours(__m256i row, __m256i row_size, __m256i query)
{
    return _mm256_madd_epi16(_mm256_maddubs_epi16(row_size, _mm256_sign_epi8(query, row)),
                             _mm256_set1_epi16(1));
}

KERN_INLINE bi bi_dot(bi sum, bv row, bv query)
{
    return _mm256_add_epi32(sum, fours(row, _mm256_abs_epi8(row), query));
}

KERN_INLINE int32_t bi_sum(bi x)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

KERN_INLINE tp tp_load(const int8_t *p)
{
    return (tp){_mm256_load_si256((const void *)p), _mm256_load_si256((const void *)(p + 32))};
}

KERN_INLINE tr tr_load(const int8_t *p)
{
    const __m256i value = _mm256_set1_epi32(kern_load_i32(p));

    return (tr){value, _mm256_abs_epi8(value)};
}

KERN_INLINE ti ti_start(const int8_t *sums)
{
    (void)sums;
    return (ti){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

KERN_INLINE ti ti_dot(ti sum, tp queries, tr row)
{
    return (ti){_mm256_add_epi32(sum.low, fours(row.value, row.size, queries.low)),
                _mm256_add_epi32(sum.high, fours(row.value, row.size, queries.high))};
}

KERN_INLINE uint32_t half_hits(__m256i sum, const struct kern_vector_note *note,
                               const struct kern_vector_limits *limits, int at)
{
    reg most = reg_mul(_mm256_cvtepi32_ps(sum), reg_set1(note->scale));

    most = reg_fma(reg_load(limits->length + at), reg_set1(note->length), most);
    most = reg_fma(reg_load(limits->error + at), reg_set1(note->error), most);
    most = reg_fma(reg_load(limits->square + at), reg_set1(note->square), most);
    return (uint32_t)_mm256_movemask_ps(
        _mm256_cmp_ps(most, reg_load(limits->least + at), _CMP_GE_OQ));
}

KERN_INLINE uint32_t ti_hits(ti sum, const struct kern_vector_note *note,
                             const struct kern_vector_limits *limits)
{
    return half_hits(sum.low, note, limits, 0) | half_hits(sum.high, note, limits, 8) << 8;
}

#include "kernels/cpu/vector_bytes_tmpl.h"

/* The processor counts the ones of 8 bytes as fast as of 32. */
static void hamming(int32_t *out, const void *query, const void *const *rows, int32_t n,
                    int32_t bytes)
{
    const uint8_t *x = query;

    for (int32_t r = 0; r < n; r++) {
        const uint8_t *y = rows[r];
        int64_t sum = 0;

        for (int32_t i = 0; i < bytes; i += 8) {
            sum += _mm_popcnt_u64((uint64_t)(kern_load_i64(x + i) ^ kern_load_i64(y + i)));
        }
        out[r] = (int32_t)sum;
    }
}

void kern_vector_init_avx2(struct kern_vector *vector)
{
    vector_init_floats(vector);
    vector->dot_i8 = dot_i8;
    vector->tile = tile;
    vector->hamming = hamming;
}
