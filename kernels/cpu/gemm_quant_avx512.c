/* Products of quantised weights on AVX-512. */
#include "kernels/cpu/vec_avx512.h"

enum { TILE_ROWS = 4, TILE_GROUPS = 2 };

#include "kernels/cpu/gemm_quant_tmpl.h"

void kern_gemm_quant_init_avx512(struct kern_gemm *gemm)
{
    gemm_quant_init(gemm);
}
