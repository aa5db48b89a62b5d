/* ModernBERT (arXiv:2412.13663): norms in front of the parts, GeGLU, no biases, rotary positions of
 * two bases: every third layer sees all, the others a window around each token. */
#include "base/error.h"
#include "model/arch.h"
#include "model/hf_encoder.h"

static const struct model_tensor_row tensors[] = {
    {MODEL_TOKEN_EMBD, 0},
    {MODEL_EMBD_NORM, 0},
    {MODEL_EMBD_NORM_BIAS, MODEL_OPTIONAL},
    {MODEL_OUTPUT_NORM, 0},
    {MODEL_OUTPUT_NORM_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_NORM, MODEL_NOT_FIRST}, /* the embeddings' own serves there */
    {MODEL_ATTN_NORM_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_QKV, 0},
    {MODEL_ATTN_QKV_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT, 0},
    {MODEL_ATTN_OUT_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},
    {MODEL_FFN_NORM_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_GATE_UP, 0},
    {MODEL_FFN_DOWN, 0},
    {MODEL_CLS_NORM, MODEL_OPTIONAL},
    {MODEL_CLS_NORM_BIAS, MODEL_OPTIONAL},
    MODEL_ROWS_SEQUENCE_HEAD,
};

static const char *const classes[] = {"ModernBertModel", "ModernBertForMaskedLM",
                                      "ModernBertForSequenceClassification", NULL};
static const struct model_hf_tensor names[] = {
    {"embeddings.tok_embeddings", "token_embd", 0, NULL},
    {"embeddings.norm", "token_embd_norm", 0, NULL},
    {"final_norm", "output_norm", 0, NULL},
    {"layers.%d.attn_norm", "blk.%d.attn_norm", 0, NULL},
    {"layers.%d.attn.Wqkv", "blk.%d.attn_qkv", 0, NULL},
    {"layers.%d.attn.Wo", "blk.%d.attn_output", 0, NULL},
    {"layers.%d.mlp_norm", "blk.%d.ffn_norm", 0, NULL},
    {"layers.%d.mlp.Wi", "blk.%d.ffn_up", 0, NULL},
    {"layers.%d.mlp.Wo", "blk.%d.ffn_down", 0, NULL},
    {"head.dense", NULL, 0, model_hf_make_cls},
    {"head.norm", NULL, 0, model_hf_make_cls_norm},
    {"classifier", "cls.output", 0, NULL},
    {"decoder", NULL, 0, NULL}, /* predicts tokens */
};

static const struct model_hf_key keys[] = {
    {"local_attention", "attention.sliding_window", MODEL_HF_U32},
    {"global_attn_every_n_layers", "attention.sliding_window_pattern", MODEL_HF_U32},
    {"global_rope_theta", "rope.freq_base", MODEL_HF_F32},
    {"local_rope_theta", "rope.freq_base_swa", MODEL_HF_F32},
    {"hidden_activation", "hidden_activation", MODEL_HF_STRING},
};

static infer_status set_keys(struct model_hf *hf)
{
    struct base_view act = {"gelu", 4};
    base_json_string(model_hf_get(hf, "classifier_activation"), &act);
    if (model_hf_has_sequence_head(hf) && !base_view_equal(act, "gelu"))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: \"classifier_activation\" \"%.*s\" is not supported",
                          (int)BASE_MIN(act.size, (size_t)64), act.data);
    if (model_hf_int(hf, "global_attn_every_n_layers", 3) == 1) /* no layer has a window */
        return model_hf_set_u32(hf, "attention.sliding_window", 0);
    return INFER_OK;
}

static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};

const struct model_arch model_arch_modern_bert = {
    .name = "modern-bert",
    .title = "ModernBERT",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_GELU,
    .head_act = MODEL_HEAD_GELU,
    .traits = MODEL_ENCODER | MODEL_FULL_FIRST,
    .defaults = {.norm_eps = 1e-5f,
                 .rope_base = 160000,
                 .rope_base_window = 10000,
                 .window_period = 3},
};
