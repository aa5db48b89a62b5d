/* GPT-2 (Radford et al., 2019): learned positions, layer norm, a plain feed-forward. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,          {MODEL_POS_EMBD, 0},       {MODEL_OUTPUT_NORM_BIAS, 0},
    {MODEL_ATTN_NORM, 0},     {MODEL_ATTN_NORM_BIAS, 0}, {MODEL_ATTN_QKV, 0},
    {MODEL_ATTN_QKV_BIAS, 0}, {MODEL_ATTN_OUT, 0},       {MODEL_ATTN_OUT_BIAS, 0},
    {MODEL_FFN_NORM, 0},      {MODEL_FFN_NORM_BIAS, 0},  {MODEL_FFN_UP, 0},
    {MODEL_FFN_UP_BIAS, 0},   {MODEL_FFN_DOWN, 0},       {MODEL_FFN_DOWN_BIAS, 0},
};

static const char *const classes[] = {"GPT2LMHeadModel", "GPT2Model", NULL};
/* Its products are written as x . w rather than x . w^T. */
static const struct model_hf_tensor names[] = {
    {"wte", "token_embd", 0, NULL},
    {"wpe", "position_embd", 0, NULL},
    {"ln_f", "output_norm", 0, NULL},
    {"h.%d.ln_1", "blk.%d.attn_norm", 0, NULL},
    {"h.%d.ln_2", "blk.%d.ffn_norm", 0, NULL},
    {"h.%d.attn.c_attn", "blk.%d.attn_qkv", MODEL_HF_TRANSPOSE, NULL},
    {"h.%d.attn.c_proj", "blk.%d.attn_output", MODEL_HF_TRANSPOSE, NULL},
    {"h.%d.mlp.c_fc", "blk.%d.ffn_up", MODEL_HF_TRANSPOSE, NULL},
    {"h.%d.mlp.c_proj", "blk.%d.ffn_down", MODEL_HF_TRANSPOSE, NULL},
    {"h.%d.attn.bias", NULL, 0, NULL}, /* the causal mask */
    {"h.%d.attn.masked_bias", NULL, 0, NULL},
};

static infer_status set_keys(struct model_hf *hf)
{
    if (model_hf_get(hf, "n_inner"))
        return INFER_OK;
    return model_hf_set_u32(hf, "feed_forward_length", 4 * (uint32_t)model_hf_int(hf, "n_embd", 0));
}

static const struct model_hf_key keys[] = {
    {"activation_function", "hidden_activation", MODEL_HF_STRING},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};

const struct model_arch model_arch_gpt2 = {
    .name = "gpt2",
    .title = "GPT-2",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_NONE,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_GELU_TANH,
};
