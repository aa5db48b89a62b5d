/* Products of float weights on AVX2, FMA and F16C. */
#include "kernels/cpu/vec_avx2.h"

enum { TILE_W = 3, TILE_X = 2, TILE_W_ALONE = 4, TILE_W_MAX = 4 };

#include "kernels/cpu/gemm_float_tmpl.h"

void kern_gemm_float_init_avx2(struct kern_gemm *gemm)
{
    gemm_float_init(gemm);
}
