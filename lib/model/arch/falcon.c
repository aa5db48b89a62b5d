/* Falcon (arXiv:2311.16867): attention beside the feed-forward; the smaller models have one KV
 * head and one norm, the larger ones groups of heads and a norm for each part. */
#include "base/error.h"
#include "model/arch.h"
#include "model/hf_parts.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_OUTPUT_NORM_BIAS, 0},
    {MODEL_ATTN_NORM, 0},
    {MODEL_ATTN_NORM_BIAS, 0},
    {MODEL_ATTN_NORM_2, MODEL_OPTIONAL},
    {MODEL_ATTN_NORM_2_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_QKV, 0},
    {MODEL_ATTN_QKV_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT, 0},
    {MODEL_ATTN_OUT_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_UP, 0},
    {MODEL_FFN_UP_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_DOWN, 0},
    {MODEL_FFN_DOWN_BIAS, MODEL_OPTIONAL},
};

static const char *const classes[] = {"FalconForCausalLM", "RWForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"word_embeddings", "token_embd", 0, NULL},
    {"ln_f", "output_norm", 0, NULL},
    {"h.%d.input_layernorm", "blk.%d.attn_norm", 0, NULL},
    {"h.%d.ln_mlp", "blk.%d.attn_norm", 0, NULL},
    {"h.%d.ln_attn", "blk.%d.attn_norm_2", 0, NULL},
    {"h.%d.self_attention.query_key_value", NULL, 0, model_hf_make_qkv},
    {"h.%d.self_attention.dense", "blk.%d.attn_output", 0, NULL},
    {"h.%d.mlp.dense_h_to_4h", "blk.%d.ffn_up", 0, NULL},
    {"h.%d.mlp.dense_4h_to_h", "blk.%d.ffn_down", 0, NULL},
};

static infer_status set_keys(struct model_hf *hf)
{
    struct base_json const *parallel = model_hf_get(hf, "parallel_attn");
    int32_t grouped = 0, beside = 1, alibi = 0;
    base_json_bool(model_hf_get(hf, "new_decoder_architecture"), &grouped);
    base_json_bool(parallel, &beside);
    base_json_bool(model_hf_get(hf, "alibi"), &alibi);
    if (alibi || (!grouped && !beside))
        return base_error(INFER_ERR_UNSUPPORTED, "Falcon with %s is not supported",
                          alibi ? "ALiBi positions" : "attention in front of the feed-forward");
    const char *name = model_hf_get(hf, "num_kv_heads") ? "num_kv_heads" : "n_head_kv";
    int64_t kv = grouped ? hf->n_heads : 1;
    infer_status st = grouped ? model_hf_size(hf, name, 0, hf->n_heads, &kv) : INFER_OK;
    hf->n_heads_kv = (int32_t)kv;
    if (st == INFER_OK)
        st = model_hf_set_u32(hf, "attention.head_count_kv", (uint32_t)kv);
    if (st == INFER_OK && !model_hf_get(hf, "max_position_embeddings"))
        st = model_hf_set_u32(hf, "context_length", 2048); /* not in the configuration */
    if (st == INFER_OK)
        st = model_hf_set_u32(
            hf, "feed_forward_length",
            (uint32_t)model_hf_int(hf, "ffn_hidden_size", 4 * model_hf_int(hf, "hidden_size", 0)));
    return st;
}

static const struct model_hf_key keys[] = {
    {"activation", "hidden_activation", MODEL_HF_STRING},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};

const struct model_arch model_arch_falcon = {
    .name = "falcon",
    .title = "Falcon",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_GELU,
    .traits = MODEL_PARALLEL,
};
