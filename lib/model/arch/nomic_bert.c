/* Nomic BERT (arXiv:2402.01613): BERT with rotary positions, SwiGLU and no biases. Folders come
 * with the names of its authors or with those of transformers. */
#include "base/error.h"
#include "model/arch.h"
#include "model/hf_encoder.h"

static const struct model_tensor_row tensors[] = {
    {MODEL_TOKEN_EMBD, 0},
    {MODEL_TYPE_EMBD, MODEL_OPTIONAL},
    {MODEL_EMBD_NORM, 0},
    {MODEL_EMBD_NORM_BIAS, 0},
    {MODEL_ATTN_QKV, MODEL_OPTIONAL},
    {MODEL_ATTN_Q, MODEL_OPTIONAL},
    {MODEL_ATTN_K, MODEL_OPTIONAL},
    {MODEL_ATTN_V, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT, 0},
    {MODEL_ATTN_OUT_NORM, 0},
    {MODEL_ATTN_OUT_NORM_BIAS, 0},
    MODEL_ROWS_GATED_FFN,
    {MODEL_LAYER_OUT_NORM, 0},
    {MODEL_LAYER_OUT_NORM_BIAS, 0},
    MODEL_ROWS_SEQUENCE_HEAD,
};

static const char *const classes[] = {"NomicBertModel", "NomicBertForMaskedLM",
                                      "NomicBertForPreTraining",
                                      "NomicBertForSequenceClassification", NULL};
static const struct model_hf_tensor names[] = {
    {"embeddings.word_embeddings", "token_embd", 0, NULL},
    {"embeddings.token_type_embeddings", "token_types", 0, NULL},
    {"embeddings.LayerNorm", "token_embd_norm", 0, NULL},
    {"emb_ln", "token_embd_norm", 0, NULL},
    {"encoder.layers.%d.attn.Wqkv", "blk.%d.attn_qkv", 0, NULL},
    {"encoder.layers.%d.attn.out_proj", "blk.%d.attn_output", 0, NULL},
    {"encoder.layers.%d.norm1", "blk.%d.attn_output_norm", 0, NULL},
    {"encoder.layers.%d.norm2", "blk.%d.layer_output_norm", 0, NULL},
    {"encoder.layers.%d.mlp.fc11", "blk.%d.ffn_up", 0, NULL},
    {"encoder.layers.%d.mlp.fc12", "blk.%d.ffn_gate", 0, NULL},
    {"encoder.layers.%d.mlp.fc2", "blk.%d.ffn_down", 0, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.attn_output_norm", 0, NULL},
    {"layers.%d.post_mlp_layernorm", "blk.%d.layer_output_norm", 0, NULL},
    MODEL_HF_BERT_HEADS,
};

static const struct model_hf_key keys[] = {
    {"hidden_act", "hidden_activation", MODEL_HF_STRING},
};

/* The authors' code has more forms of a layer than their models use. */
static infer_status set_keys(struct model_hf *hf)
{
    static const char *const others[] = {"prenorm", "parallel_block", "use_rms_norm",
                                         "rotary_emb_interleaved", "qkv_proj_bias"};
    struct base_view act = {"swiglu", 6};
    for (size_t i = 0; i < BASE_COUNT(others); i++) {
        int32_t on = 0;
        base_json_bool(model_hf_get(hf, others[i]), &on);
        if (on)
            return base_error(INFER_ERR_UNSUPPORTED, "config.json: \"%s\" is not supported",
                              others[i]);
    }
    base_json_string(model_hf_get(hf, "activation_function"), &act);
    if (!base_view_equal(act, "swiglu") || model_hf_real(hf, "rotary_emb_fraction", 1) < 1)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: Nomic BERT with \"%.*s\" and %g of each head rotated",
                          (int)BASE_MIN(act.size, (size_t)64), act.data,
                          model_hf_real(hf, "rotary_emb_fraction", 1));
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

const struct model_arch model_arch_nomic_bert = {
    .name = "nomic-bert",
    .title = "Nomic BERT (nomic-embed-text)",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_ENCODER,
    .defaults = {.norm_eps = 1e-12f, .rope_base = 1000},
};
