/* GLM 4 (arXiv:2406.12793) of 2025: norms before and behind, rotary positions over half of a head.
 */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_POST_NORM, 0},
    {MODEL_FFN_NORM, 0},
    {MODEL_FFN_GATE_UP, 0},
    {MODEL_FFN_DOWN, 0},
    {MODEL_FFN_POST_NORM, 0},
};

static const char *const classes[] = {"Glm4ForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.post_self_attn_layernorm", "blk.%d.post_attention_norm", 0, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.ffn_norm", 0, NULL},
    {"layers.%d.post_mlp_layernorm", "blk.%d.post_ffw_norm", 0, NULL},
    {"layers.%d.mlp.gate_up_proj", "blk.%d.ffn_up", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_glm4 = {
    .name = "glm4",
    .title = "GLM 4",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
