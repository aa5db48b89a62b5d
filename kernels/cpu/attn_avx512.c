/* Paged causal attention, AVX-512. */
#include "kernels/cpu/reg_avx512.h"

#include "kernels/cpu/attn_tmpl.h"

void kern_attn_init_avx512(struct kern_attn *attn)
{
    attn->paged[INFER_DTYPE_F32] = paged_f32;
    attn->paged[INFER_DTYPE_F16] = paged_f16;
    attn->paged[INFER_DTYPE_BF16] = paged_bf16;
    attn->paged[INFER_DTYPE_Q8_0] = paged_q8;
    attn->paged[INFER_DTYPE_Q4_1] = paged_q4;
    attn->paged[INFER_DTYPE_F8_E4M3] = paged_f8;
}
