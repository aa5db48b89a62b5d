/* StarCoder 2 (arXiv:2402.19173): layer norm, biases, a plain feed-forward. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_OUTPUT_NORM_BIAS, 0},
    {MODEL_ATTN_NORM, 0},
    {MODEL_ATTN_NORM_BIAS, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},
    {MODEL_FFN_NORM_BIAS, 0},
    {MODEL_FFN_UP, 0},
    {MODEL_FFN_DOWN, 0},
    {MODEL_FFN_UP_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_DOWN_BIAS, MODEL_OPTIONAL},
};

static const char *const classes[] = {"Starcoder2ForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.mlp.c_fc", "blk.%d.ffn_up", 0, NULL},
    {"layers.%d.mlp.c_proj", "blk.%d.ffn_down", 0, NULL},
};
static const struct model_hf_key keys[] = {
    {"hidden_act", "hidden_activation", MODEL_HF_STRING},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_starcoder2 = {
    .name = "starcoder2",
    .title = "StarCoder 2",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_GELU_TANH,
};
