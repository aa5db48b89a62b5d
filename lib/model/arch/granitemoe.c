/* Granite 3 and 4 with experts: Granite's scales around a mixture. */
#include "model/arch.h"
#include "model/hf_parts.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_EXPERTS,
    {MODEL_SHARED_GATE, MODEL_OPTIONAL},
    {MODEL_SHARED_UP, MODEL_OPTIONAL},
    {MODEL_SHARED_DOWN, MODEL_OPTIONAL},
};

static infer_status make_shared(struct model_hf *hf, const struct model_hf_value *value,
                                int32_t layer, const char *suffix)
{
    BASE_UNUSED(suffix);
    return model_hf_add_halves(hf, value, layer, "ffn_gate_shexp.weight", "ffn_up_shexp.weight");
}

static const char *const classes[] = {"GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", NULL};
static const struct model_hf_key keys[] = {
    {"intermediate_size", "expert_feed_forward_length", MODEL_HF_U32},
};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", MODEL_HF_PERMUTE_Q, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", MODEL_HF_PERMUTE_K, NULL},
    {"layers.%d.block_sparse_moe.router.layer", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.block_sparse_moe.input_linear", NULL, 0, model_hf_make_gate_up_exps},
    {"layers.%d.block_sparse_moe.output_linear", "blk.%d.ffn_down_exps", 0, NULL},
    {"layers.%d.shared_mlp.input_linear", NULL, 0, make_shared},
    {"layers.%d.shared_mlp.output_linear", "blk.%d.ffn_down_shexp", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_granitemoe = {
    .name = "granitemoe",
    .title = "Granite 3 MoE",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_LOGIT_DIVIDE,
    .defaults = {.gating = MODEL_GATING_TOPK_SOFTMAX},
};
