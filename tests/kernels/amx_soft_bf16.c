/* See amx_soft.h. */
#include "amx_soft.h"
#include "tile_soft.h"

#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/gemm_bf16_amx_tmpl.h"

void amx_soft_init_bf16(struct kern_gemm *gemm)
{
    gemm_bf16_amx_init(gemm);
}
