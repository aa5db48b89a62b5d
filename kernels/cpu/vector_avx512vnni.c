/* Products of bytes, AVX-512 VNNI. Its products are of an unsigned byte with a signed one: rows
 * become unsigned by 128 more, which adds 128 times the sum of the query. */
#include "kernels/cpu/vector_hits.h"

typedef __m512i bv, bi, tp, tr, ti;

enum { BV = 64, BYTE_BIAS = 128, TILE_PANELS = 4, TILE_ROWS = 6 };

KERN_INLINE __m512i more_by_128(__m512i x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
}

KERN_INLINE bv bv_zero(void)
{
    return _mm512_setzero_si512();
}

KERN_INLINE bv bv_load(const int8_t *p)
{
    return _mm512_loadu_si512(p);
}

KERN_INLINE bv bv_load_part(const int8_t *p, int32_t n)
{
    return _mm512_maskz_loadu_epi8(~(uint64_t)0 >> (64 - n), p);
}

KERN_INLINE bi bi_zero(void)
{
    return _mm512_setzero_si512();
}

KERN_INLINE bi bi_dot(bi sum, bv row, bv query)
{
    return _mm512_dpbusd_epi32(sum, more_by_128(row), query);
}

KERN_INLINE int32_t bi_sum(bi x)
{
    return _mm512_reduce_add_epi32(x);
}

KERN_INLINE tp tp_load(const int8_t *p)
{
    return _mm512_load_si512(p);
}

KERN_INLINE tr tr_load(const int8_t *p)
{
    return more_by_128(_mm512_set1_epi32(kern_load_i32(p)));
}

KERN_INLINE ti ti_start(const int8_t *sums)
{
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(_mm512_load_si512(sums), 7));
}

KERN_INLINE ti ti_dot(ti sum, tp queries, tr row)
{
    return _mm512_dpbusd_epi32(sum, row, queries);
}

KERN_INLINE uint32_t ti_hits(ti sum, const struct kern_vector_note *note,
                             const struct kern_vector_limits *limits)
{
    return kern_vector_hits(sum, note, limits);
}

#include "kernels/cpu/vector_bytes_tmpl.h"

void kern_vector_init_avx512vnni(struct kern_vector *vector)
{
    vector->dot_i8 = dot_i8;
    vector->tile = tile;
}
