/* GLM 4.5 and 4.6 (arXiv:2508.06471): experts chosen as in DeepSeek V3 around plain attention; the
 * layers that predict further tokens are left out. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_Q_NORM, MODEL_OPTIONAL},
    {MODEL_ATTN_K_NORM, MODEL_OPTIONAL},
    {MODEL_FFN_NORM_POST, 0},
    MODEL_ROWS_GATED_FFN,
    MODEL_ROWS_EXPERTS,
    {MODEL_ROUTER_CORRECTION, MODEL_OPTIONAL},
    {MODEL_SHARED_GATE, 0},
    {MODEL_SHARED_UP, 0},
    {MODEL_SHARED_DOWN, 0},
};

static const char *const classes[] = {"Glm4MoeForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_glm4moe = {
    .name = "glm4moe",
    .title = "GLM 4.5, GLM 4.6",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .defaults = {.gating = MODEL_GATING_SIGMOID, .expert_weights_sum = 1},
};
