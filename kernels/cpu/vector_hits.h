/* The test of kern_vector_tile_fn on sums of 16 queries with a row, AVX-512. */
#ifndef KERNELS_CPU_VECTOR_HITS_H
#define KERNELS_CPU_VECTOR_HITS_H

#include "kernels/cpu/vec_x86.h"
#include "kernels/kernels.h"

/* A bit for each query that the row is a hit of. */
KERN_INLINE uint32_t kern_vector_hits(__m512i sum, const struct kern_vector_note *note,
                                      const struct kern_vector_limits *limits)
{
    __m512 most = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(note->scale));

    most = _mm512_fmadd_ps(_mm512_load_ps(limits->length), _mm512_set1_ps(note->length), most);
    most = _mm512_fmadd_ps(_mm512_load_ps(limits->error), _mm512_set1_ps(note->error), most);
    most = _mm512_fmadd_ps(_mm512_load_ps(limits->square), _mm512_set1_ps(note->square), most);
    return _mm512_cmp_ps_mask(most, _mm512_load_ps(limits->least), _CMP_GE_OQ);
}

#endif
