/* Products of float weights on AVX-512. */
#include "kernels/cpu/vec_avx512.h"

/* Fourteen packed rows would fit the registers to the last one; compilers then keep some of the
 * sums in memory. */
#define TILES(X)        X(4, 6) X(2, 8) X(1, 8)
#define PACKED_TILES(X) X(12, 2) X(8, 2) X(4, 4) X(2, 4) X(1, 4)

#include "kernels/cpu/gemm_float_tmpl.h"

void kern_gemm_float_init_avx512(struct kern_gemm *gemm)
{
    gemm_float_init(gemm);
    gemm->sgemm_rows = 0;
}
