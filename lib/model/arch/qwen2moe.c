/* Qwen 1.5 and 2 with experts and a gated shared expert (arXiv:2407.10671). */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
    MODEL_ROWS_EXPERTS,
    {MODEL_SHARED_ROUTER, 0},
    {MODEL_SHARED_GATE, 0},
    {MODEL_SHARED_UP, 0},
    {MODEL_SHARED_DOWN, 0},
};

static const char *const classes[] = {"Qwen2MoeForCausalLM", NULL};
static const struct model_hf_arch hf = {
    .classes = classes,
};

const struct model_arch model_arch_qwen2moe = {
    .name = "qwen2moe",
    .title = "Qwen 1.5 MoE, Qwen 2 MoE",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .defaults = {.n_experts_shared = 1},
};
