/* Jina BERT v2 (arXiv:2310.19923): BERT with ALiBi instead of positions, and GeGLU. */
#include "base/error.h"
#include "model/arch.h"
#include "model/hf_encoder.h"

#include <stdio.h>

static const struct model_tensor_row tensors[] = {
    {MODEL_TOKEN_EMBD, 0},     {MODEL_TYPE_EMBD, MODEL_OPTIONAL},
    {MODEL_EMBD_NORM, 0},      {MODEL_EMBD_NORM_BIAS, 0},
    {MODEL_ATTN_Q, 0},         {MODEL_ATTN_K, 0},
    {MODEL_ATTN_V, 0},         MODEL_ROWS_QKV_BIAS,
    {MODEL_ATTN_OUT, 0},       {MODEL_ATTN_OUT_BIAS, 0},
    {MODEL_ATTN_OUT_NORM, 0},  {MODEL_ATTN_OUT_NORM_BIAS, 0},
    MODEL_ROWS_GATED_FFN,      {MODEL_FFN_DOWN_BIAS, 0},
    {MODEL_LAYER_OUT_NORM, 0}, {MODEL_LAYER_OUT_NORM_BIAS, 0},
};

static const char *const classes[] = {"JinaBertModel", "JinaBertForMaskedLM", NULL};

/* Gates and ups in one matrix, the gates first. */
static infer_status make_gates(struct model_hf *hf, const struct model_hf_value *value,
                               int32_t layer, const char *suffix)
{
    static const char *const parts[] = {"gate", "up"};
    uint64_t half = value->dims[1] / 2;
    infer_status st = INFER_OK;
    for (uint64_t i = 0; i < BASE_COUNT(parts) && st == INFER_OK; i++) {
        char name[MODEL_HF_PLACE_MAX];
        struct model_hf_value rows;
        snprintf(name, sizeof name, "blk.%d.ffn_%s%s", layer, parts[i], suffix);
        st = model_hf_rows(value, i * half, (i + 1) * half, &rows);
        if (st == INFER_OK)
            st = model_hf_add(hf, name, &rows, 0);
    }
    return st;
}

static const struct model_hf_tensor names[] = {
    {"encoder.layer.%d.mlp.gated_layers", NULL, 0, make_gates},
    {"encoder.layer.%d.mlp.wo", "blk.%d.ffn_down", 0, NULL},
    {"encoder.layer.%d.mlp.layernorm", "blk.%d.layer_output_norm", 0, NULL},
    MODEL_HF_BERT_LAYERS,
    MODEL_HF_BERT_HEADS,
};

static const struct model_hf_key keys[] = {
    {"hidden_act", "hidden_activation", MODEL_HF_STRING},
};

static infer_status set_keys(struct model_hf *hf)
{
    struct base_view type = {"geglu", 5};
    base_json_string(model_hf_get(hf, "feed_forward_type"), &type);
    return base_view_equal(type, "geglu")
               ? INFER_OK
               : base_error(INFER_ERR_UNSUPPORTED,
                            "config.json: \"feed_forward_type\" \"%.*s\" is not supported",
                            (int)BASE_MIN(type.size, (size_t)64), type.data);
}

static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};

const struct model_arch model_arch_jina_bert_v2 = {
    .name = "jina-bert-v2",
    .title = "Jina BERT v2 (jina-embeddings-v2)",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_NONE,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_GELU,
    .traits = MODEL_ENCODER | MODEL_ALIBI,
    .defaults = {.norm_eps = 1e-12f},
};
