/* Products of BF16 weights and BF16 activations on AVX-512 with BF16 and AMX. */
#include "kernels/cpu/tile_amx.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/gemm_bf16_amx_tmpl.h"

void kern_gemm_bf16_init_avx512amx(struct kern_gemm *gemm)
{
    gemm_bf16_amx_init(gemm);
}
