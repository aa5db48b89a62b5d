/* Products of float weights on AVX-512. */
#include "kernels/cpu/vec_avx512.h"

enum { TILE_W = 6, TILE_X = 4, TILE_W_ALONE = 8, TILE_W_MAX = 8 };

#include "kernels/cpu/gemm_float_tmpl.h"

void kern_gemm_float_init_avx512(struct kern_gemm *gemm)
{
    gemm_float_init(gemm);
    gemm->sgemm_rows = 0;
}
