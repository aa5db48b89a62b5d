/* Products of float weights on NEON. */
#include "kernels/cpu/vec_neon.h"

enum { TILE_W = 3, TILE_X = 2, TILE_W_ALONE = 4, TILE_W_MAX = 4 };

#include "kernels/cpu/gemm_float_tmpl.h"

void kern_gemm_float_init_neon(struct kern_gemm *gemm)
{
    gemm_float_init(gemm);
}
