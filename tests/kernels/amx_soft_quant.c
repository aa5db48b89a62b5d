/* See amx_soft.h. */
#include "amx_soft.h"
#include "tile_soft.h"

#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/gemm_amx_tmpl.h"

void amx_soft_init_quant(struct kern_gemm *gemm)
{
    gemm_amx_init(gemm);
}
