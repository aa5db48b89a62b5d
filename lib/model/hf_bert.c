/* Folders of BERT and of what shares its layers: names and keys. */
#include "base/error.h"
#include "model/hf_encoder.h"

static const char *const classes[] = {
    "BertModel",       "BertForMaskedLM",       "BertForSequenceClassification",
    "RobertaModel",    "RobertaForMaskedLM",    "RobertaForSequenceClassification",
    "XLMRobertaModel", "XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification",
    "CamembertModel",  "CamembertForMaskedLM",  "CamembertForSequenceClassification",
    "DistilBertModel", "DistilBertForMaskedLM", NULL};

/* Positions of RoBERTa count from the one behind padding: rows before it are never read. */
static int64_t first_position(const struct model_hf *hf)
{
    static const char *const types[] = {"roberta", "xlm-roberta", "camembert"};
    struct base_view type = {"", 0};
    base_json_string(model_hf_get(hf, "model_type"), &type);
    for (size_t i = 0; i < BASE_COUNT(types); i++)
        if (base_view_equal(type, types[i]))
            return model_hf_int(hf, "pad_token_id", 1) + 1;
    return 0;
}

static infer_status make_positions(struct model_hf *hf, const struct model_hf_value *value,
                                   int32_t layer, const char *suffix)
{
    struct model_hf_value rows;
    int64_t first = first_position(hf);
    BASE_UNUSED(layer);
    BASE_UNUSED(suffix);
    if (first < 0 || (uint64_t)first >= value->dims[1])
        return base_error(INFER_ERR_FORMAT,
                          "config.json: \"pad_token_id\" is behind %llu positions",
                          (unsigned long long)value->dims[1]);
    infer_status st = model_hf_rows(value, (uint64_t)first, value->dims[1], &rows);
    return st == INFER_OK ? model_hf_add(hf, "position_embd.weight", &rows, 0) : st;
}

/* Of a layer of BERT and of DistilBERT; names of norms as older files have them, too. */
static const struct model_hf_tensor names[] = {
    {"embeddings.position_embeddings", NULL, 0, make_positions},
    {"encoder.layer.%d.intermediate.dense", "blk.%d.ffn_up", 0, NULL},
    {"encoder.layer.%d.output.dense", "blk.%d.ffn_down", 0, NULL},
    {"encoder.layer.%d.output.LayerNorm", "blk.%d.layer_output_norm", 0, NULL},
    {"encoder.layer.%d.output.LayerNorm.gamma", "blk.%d.layer_output_norm.weight", 0, NULL},
    {"encoder.layer.%d.output.LayerNorm.beta", "blk.%d.layer_output_norm.bias", 0, NULL},
    {"layer.%d.attention.q_lin", "blk.%d.attn_q", 0, NULL},
    {"layer.%d.attention.k_lin", "blk.%d.attn_k", 0, NULL},
    {"layer.%d.attention.v_lin", "blk.%d.attn_v", 0, NULL},
    {"layer.%d.attention.out_lin", "blk.%d.attn_output", 0, NULL},
    {"layer.%d.sa_layer_norm", "blk.%d.attn_output_norm", 0, NULL},
    {"layer.%d.ffn.lin1", "blk.%d.ffn_up", 0, NULL},
    {"layer.%d.ffn.lin2", "blk.%d.ffn_down", 0, NULL},
    {"layer.%d.output_layer_norm", "blk.%d.layer_output_norm", 0, NULL},
    MODEL_HF_BERT_LAYERS,
    MODEL_HF_BERT_HEADS,
};

static const struct model_hf_key keys[] = {
    {"hidden_act", "hidden_activation", MODEL_HF_STRING},
    {"activation", "hidden_activation", MODEL_HF_STRING},
    {"dim", "embedding_length", MODEL_HF_U32},
    {"n_layers", "block_count", MODEL_HF_U32},
    {"n_heads", "attention.head_count", MODEL_HF_U32},
    {"hidden_dim", "feed_forward_length", MODEL_HF_U32},
};

static infer_status set_keys(struct model_hf *hf)
{
    int64_t context = model_hf_int(hf, "max_position_embeddings", 0) - first_position(hf);
    struct base_view positions = {"", 0};
    if (base_json_string(model_hf_get(hf, "position_embedding_type"), &positions) &&
        !base_view_equal(positions, "absolute"))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: positions of type \"%.*s\" are not supported",
                          (int)BASE_MIN(positions.size, (size_t)64), positions.data);
    return context > 0 && context <= INT32_MAX
               ? model_hf_set_u32(hf, "context_length", (uint32_t)context)
               : INFER_OK;
}

const struct model_hf_arch model_hf_bert = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};
