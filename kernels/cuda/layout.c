/* How the blocks of each type are cut for the card. */
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/quant_blocks.h"

#include <stddef.h>

/* Type, block, elements of one, and the members that begin and follow the body. */
#define PLAIN(dtype, type) [INFER_DTYPE_##dtype] = {sizeof(type), 1, 0, sizeof(type), 0}
#define CUT(dtype, type, elements, first, bytes)                                                   \
    [INFER_DTYPE_##dtype] = {sizeof(struct type), elements, offsetof(struct type, first), bytes,   \
                             sizeof(struct type) - (bytes)}

static const struct kern_cuda_layout layouts[KERN_DTYPES] = {
    PLAIN(F32, float),
    PLAIN(F16, uint16_t),
    PLAIN(BF16, uint16_t),
    PLAIN(F8_E4M3, uint8_t),
    PLAIN(F8_E5M2, uint8_t),
    CUT(Q8_0, kern_q8_0, KERN_BLOCK, q, 32),
    CUT(Q4_0, kern_q4_0, KERN_BLOCK, q, 16),
    CUT(Q4_1, kern_q4_1, KERN_BLOCK, q, 16),
    CUT(Q5_0, kern_q5_0, KERN_BLOCK, q, 16),
    CUT(Q5_1, kern_q5_1, KERN_BLOCK, q, 16),
    CUT(Q2_K, kern_q2_k, KERN_SUPER, scales, 80),
    CUT(Q3_K, kern_q3_k, KERN_SUPER, h, 96),
    CUT(Q4_K, kern_q4_k, KERN_SUPER, d, 144),
    CUT(Q5_K, kern_q5_k, KERN_SUPER, d, 176),
    CUT(Q6_K, kern_q6_k, KERN_SUPER, ql, 208),
    CUT(IQ4_NL, kern_iq4_nl, KERN_BLOCK, q, 16),
    CUT(IQ4_XS, kern_iq4_xs, KERN_SUPER, q, 128),
    CUT(IQ3_XXS, kern_iq3_xxs, KERN_SUPER, q, 96),
    CUT(IQ3_S, kern_iq3_s, KERN_SUPER, q, 64),
    CUT(IQ2_XXS, kern_iq2_xxs, KERN_SUPER, q, 64),
    CUT(IQ2_XS, kern_iq2_xs, KERN_SUPER, q, 64),
    CUT(IQ2_S, kern_iq2_s, KERN_SUPER, q, 64),
    CUT(IQ1_S, kern_iq1_s, KERN_SUPER, q, 48),
    CUT(IQ1_M, kern_iq1_m, KERN_SUPER, q, 48),
    CUT(TQ1_0, kern_tq1_0, KERN_SUPER, q, 48),
    CUT(TQ2_0, kern_tq2_0, KERN_SUPER, q, 64),
    CUT(MXFP4, kern_mxfp4, KERN_BLOCK, q, 16),
    CUT(NVFP4, kern_nvfp4, KERN_NVFP4, q, 32),
    CUT(F8_128, kern_f8_128, KERN_F8, q, 128),
};

const struct kern_cuda_layout *kern_cuda_layout_of(infer_dtype type)
{
    return (unsigned)type < KERN_DTYPES && layouts[type].block_bytes ? &layouts[type] : NULL;
}
