/* Products of quantised weights on AVX2. */
#include "kernels/cpu/vec_avx2.h"

enum { TILE_ROWS = 2, TILE_GROUPS = 1 };

#include "kernels/cpu/gemm_quant_tmpl.h"

void kern_gemm_quant_init_avx2(struct kern_gemm *gemm)
{
    gemm_quant_init(gemm);
}
