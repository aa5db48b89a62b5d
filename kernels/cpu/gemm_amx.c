/* Products of quantised weights on AVX-512 with VNNI and AMX. */
#include "kernels/cpu/tile_amx.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/gemm_amx_tmpl.h"

void kern_gemm_quant_init_avx512amx(struct kern_gemm *gemm)
{
    gemm_amx_init(gemm);
}
