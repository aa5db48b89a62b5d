/* gpt-oss (arXiv:2508.10925): windows in every second layer, attention sinks, experts with biases
 * in MXFP4, a clamped SwiGLU. */
#include "model/arch.h"
#include "model/hf_parts.h"

#include <string.h>

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    MODEL_ROWS_QKV_BIAS,
    {MODEL_ATTN_OUT_BIAS, 0},
    {MODEL_ATTN_SINKS, 0},
    {MODEL_FFN_NORM_POST, 0},
    MODEL_ROWS_EXPERTS,
    {MODEL_ROUTER_BIAS, 0},
    {MODEL_EXPERT_GATE_BIAS, 0},
    {MODEL_EXPERT_UP_BIAS, 0},
    {MODEL_EXPERT_DOWN_BIAS, 0},
};

/* Columns (or elements of a bias): gate, up, gate, up ... */
static infer_status make_gate_up(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *suffix)
{
    static const char *const parts[2][2] = {{"ffn_gate_exps.weight", "ffn_up_exps.weight"},
                                            {"ffn_gate_exps.bias", "ffn_up_exps.bias"}};
    char name[GGUF_NAME_MAX + 1];
    int bias = value->n_dims == 2;
    infer_status st = INFER_OK;
    BASE_UNUSED(suffix);
    for (uint64_t i = 0; i < 2 && st == INFER_OK; i++) {
        struct model_hf_columns columns = {i, 2, value->dims[0] / 2, !bias};
        st = model_hf_add_columns(hf, model_hf_block(name, layer, parts[bias][i]), value, &columns);
    }
    return st;
}

static infer_status make_down(struct model_hf *hf, const struct model_hf_value *value,
                              int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    struct model_hf_columns columns = {0, 1, value->dims[0], 1};
    BASE_UNUSED(suffix);
    return model_hf_add_columns(hf, model_hf_block(name, layer, "ffn_down_exps.weight"), value,
                                &columns);
}

static const char *const classes[] = {"GptOssForCausalLM", NULL};
static const struct model_hf_key keys[] = {
    {"intermediate_size", "expert_feed_forward_length", MODEL_HF_U32},
};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.sinks", "blk.%d.attn_sinks.weight", 0, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", 0, NULL},
    {"layers.%d.mlp.router", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.mlp.experts.gate_up_proj", NULL, 0, make_gate_up},
    {"layers.%d.mlp.experts.gate_up_proj_bias", NULL, 0, make_gate_up},
    {"layers.%d.mlp.experts.down_proj", NULL, 0, make_down},
    {"layers.%d.mlp.experts.down_proj_bias", "blk.%d.ffn_down_exps.bias", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_gpt_oss = {
    .name = "gpt-oss",
    .title = "gpt-oss",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SWIGLU_OAI,
    .traits = MODEL_YARN_EXACT,
    .defaults = {.gating = MODEL_GATING_TOPK_SOFTMAX, .window_period = 2},
};
