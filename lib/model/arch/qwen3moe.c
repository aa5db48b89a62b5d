/* Qwen 3 with experts (arXiv:2505.09388). */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,     MODEL_ROWS_QK_NORM,
    {MODEL_FFN_NORM, 0}, MODEL_ROWS_GATED_FFN, MODEL_ROWS_EXPERTS,
};

static const char *const classes[] = {"Qwen3MoeForCausalLM", NULL};
static const struct model_hf_arch hf = {
    .classes = classes,
};

const struct model_arch model_arch_qwen3moe = {
    .name = "qwen3moe",
    .title = "Qwen 3 MoE",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .defaults = {.expert_weights_sum = 1},
};
