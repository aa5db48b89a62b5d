/* Qwen 3 (arXiv:2505.09388): each head of queries and keys is normalised. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    MODEL_ROWS_QK_NORM,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
    {MODEL_CLS_OUT, MODEL_OPTIONAL}, /* of rerankers: two rows of the output, which are there */
};

static const char *const classes[] = {"Qwen3ForCausalLM", NULL};
static const struct model_hf_arch hf = {
    .classes = classes,
};

const struct model_arch model_arch_qwen3 = {
    .name = "qwen3",
    .title = "Qwen 3",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
