/* Qwen 3.5 with experts beside a gated shared one. */
#include "model/arch.h"
#include "model/deltanet.h"
#include "model/hf_parts.h"
#include "model/hf_recurrent.h"
#include "model/recurrent.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    MODEL_ROWS_QK_NORM,
    {MODEL_FFN_NORM_POST, 0},
    {MODEL_ROUTER, 0},
    {MODEL_EXPERT_GATE_UP, MODEL_OPTIONAL},
    {MODEL_EXPERT_GATE, MODEL_OPTIONAL},
    {MODEL_EXPERT_UP, MODEL_OPTIONAL},
    {MODEL_EXPERT_DOWN, 0},
    {MODEL_SHARED_ROUTER, 0},
    {MODEL_SHARED_GATE, 0},
    {MODEL_SHARED_UP, 0},
    {MODEL_SHARED_DOWN, 0},
    MODEL_ROWS_DELTA,
    {MODEL_DELTA_QKV, 0},
    {MODEL_DELTA_Z, 0},
    {MODEL_DELTA_BETA, 0},
    {MODEL_DELTA_ALPHA, 0},
};

static const char *const classes[] = {"Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM",
                                      NULL};
static const struct model_hf_key keys[] = {MODEL_HF_KEYS_DELTA};
static const struct model_hf_tensor names[] = {
    MODEL_HF_ROWS_NORMS_PLUS_ONE,
    MODEL_HF_ROWS_TILED,
    {"layers.%d.mlp.experts.gate_up_proj", NULL, 0, model_hf_make_gate_up_exps},
    {"layers.%d.mlp.experts.down_proj", "blk.%d.ffn_down_exps.weight", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = model_hf_delta_keys,
};

const struct model_arch model_arch_qwen35moe = {
    .name = "qwen35moe",
    .title = "Qwen 3.5 MoE",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_QUERY_GATE,
    .recurrent = model_deltanet_tiled,
    .defaults = {.full_interval = 4, .n_experts_shared = 1, .expert_weights_sum = 1},
    .shape = model_recurrent_check,
};
