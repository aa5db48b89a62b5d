/* Products of quantised weights on NEON. */
#include "kernels/cpu/vec_neon.h"

enum { TILE_ROWS = 2, TILE_GROUPS = 1 };

#include "kernels/cpu/gemm_quant_tmpl.h"

void kern_gemm_quant_init_neon(struct kern_gemm *gemm)
{
    gemm_quant_init(gemm);
}
