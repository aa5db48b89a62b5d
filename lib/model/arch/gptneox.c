/* GPT-NeoX and Pythia (Black et al., arXiv:2204.06745; arXiv:2304.01373): attention beside the
 * feed-forward, rotary positions over a part of each head. */
#include "model/arch.h"
#include "model/hf_parts.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,      {MODEL_OUTPUT_NORM_BIAS, 0},
    {MODEL_ATTN_NORM, 0}, {MODEL_ATTN_NORM_BIAS, 0},
    {MODEL_ATTN_QKV, 0},  {MODEL_ATTN_QKV_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT, 0},  {MODEL_ATTN_OUT_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},  {MODEL_FFN_NORM_BIAS, 0},
    {MODEL_FFN_UP, 0},    {MODEL_FFN_UP_BIAS, 0},
    {MODEL_FFN_DOWN, 0},  {MODEL_FFN_DOWN_BIAS, 0},
};

static const char *const classes[] = {"GPTNeoXForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"embed_in", "token_embd", 0, NULL},
    {"embed_out", "output", 0, NULL},
    {"final_layer_norm", "output_norm", 0, NULL},
    {"layers.%d.input_layernorm", "blk.%d.attn_norm", 0, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.ffn_norm", 0, NULL},
    {"layers.%d.attention.query_key_value", NULL, 0, model_hf_make_qkv},
    {"layers.%d.attention.dense", "blk.%d.attn_output", 0, NULL},
    {"layers.%d.mlp.dense_h_to_4h", "blk.%d.ffn_up", 0, NULL},
    {"layers.%d.mlp.dense_4h_to_h", "blk.%d.ffn_down", 0, NULL},
    {"layers.%d.attention.bias", NULL, 0, NULL}, /* the causal mask */
    {"layers.%d.attention.masked_bias", NULL, 0, NULL},
    {"layers.%d.attention.rotary_emb.inv_freq", NULL, 0, NULL},
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

const struct model_arch model_arch_gptneox = {
    .name = "gptneox",
    .title = "GPT-NeoX, Pythia",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_GELU,
    .defaults = {.parallel = 1},
};
