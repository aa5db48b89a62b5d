/* Phi 3 and 4 (arXiv:2404.14219): fused projections, LongRoPE. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ROPE_LONG, MODEL_OPTIONAL},
    {MODEL_ROPE_SHORT, MODEL_OPTIONAL},
    {MODEL_ATTN_NORM, 0},
    {MODEL_ATTN_QKV, 0},
    {MODEL_ATTN_OUT, 0},
    {MODEL_FFN_NORM, 0},
    {MODEL_FFN_GATE_UP, 0},
    {MODEL_FFN_DOWN, 0},
};

static const char *const classes[] = {"Phi3ForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.qkv_proj", "blk.%d.attn_qkv", 0, NULL},
    {"layers.%d.mlp.gate_up_proj", "blk.%d.ffn_up", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_phi3 = {
    .name = "phi3",
    .title = "Phi 3, Phi 3.5 mini, Phi 4",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
