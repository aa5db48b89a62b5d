/* Products of quantised weights on NEON with products of matrices of bytes. */
#include "kernels/cpu/vec_neon.h"

enum { TILE_ROWS = 4, TILE_GROUPS = 1 };

#include "kernels/cpu/gemm_quant_tmpl.h"

void kern_gemm_quant_init_neon_i8mm(struct kern_gemm *gemm)
{
    gemm_quant_init(gemm);
}
