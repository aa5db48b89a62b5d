/* Qwen 3 Next: of four layers three are gated delta networks, the fourth attends with gated
 * output; experts beside a gated shared one. */
#include "model/arch.h"
#include "model/deltanet.h"
#include "model/hf_recurrent.h"
#include "model/recurrent.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    MODEL_ROWS_QK_NORM,
    {MODEL_FFN_NORM_POST, 0},
    MODEL_ROWS_GATED_FFN,
    MODEL_ROWS_EXPERTS,
    {MODEL_SHARED_ROUTER, 0},
    {MODEL_SHARED_GATE, 0},
    {MODEL_SHARED_UP, 0},
    {MODEL_SHARED_DOWN, 0},
    MODEL_ROWS_DELTA,
    {MODEL_DELTA_QKV, MODEL_OPTIONAL},
    {MODEL_DELTA_Z, MODEL_OPTIONAL},
    {MODEL_DELTA_QKVZ, MODEL_OPTIONAL},
    {MODEL_DELTA_BETA_ALPHA, 0},
};

static const char *const classes[] = {"Qwen3NextForCausalLM", NULL};
static const struct model_hf_key keys[] = {MODEL_HF_KEYS_DELTA};
static const struct model_hf_tensor names[] = {
    MODEL_HF_ROWS_NORMS_PLUS_ONE,
    {"layers.%d.linear_attn.in_proj_qkvz", NULL, 0, model_hf_make_qkvz},
    {"layers.%d.linear_attn.in_proj_ba", "blk.%d.ssm_ba", 0, NULL},
    {"layers.%d.linear_attn.conv1d", "blk.%d.ssm_conv1d", MODEL_HF_SQUEEZE, NULL},
    {"layers.%d.linear_attn.dt_bias", "blk.%d.ssm_dt.bias", 0, NULL},
    {"layers.%d.linear_attn.A_log", "blk.%d.ssm_a", MODEL_HF_NEG_EXP, NULL},
    {"layers.%d.linear_attn.norm", "blk.%d.ssm_norm", 0, NULL},
    {"layers.%d.linear_attn.out_proj", "blk.%d.ssm_out", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = model_hf_delta_keys,
};

const struct model_arch model_arch_qwen3next = {
    .name = "qwen3next",
    .title = "Qwen 3 Next",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_QUERY_GATE,
    .recurrent = model_deltanet,
    .defaults = {.full_interval = 4, .n_experts_shared = 1, .expert_weights_sum = 1},
    .shape = model_recurrent_check,
};
