/* config.json and generation_config.json to GGUF keys. */
#include "model/hf.h"

#include "base/error.h"

#include <math.h>
#include <stdio.h>

#define KEY_MAX    160
#define MAX_LAYERS 1024 /* also of hparams.c: arrays of one value a layer are longer never */

/* Names that many models share; of several for one key the first that is there counts. */
static const struct model_hf_key shared[] = {
    {"vocab_size", "vocab_size", MODEL_HF_U32},
    {"max_position_embeddings", "context_length", MODEL_HF_U32},
    {"n_positions", "context_length", MODEL_HF_U32},
    {"n_ctx", "context_length", MODEL_HF_U32},
    {"seq_length", "context_length", MODEL_HF_U32},
    {"model_max_length", "context_length", MODEL_HF_U32},
    {"hidden_size", "embedding_length", MODEL_HF_U32},
    {"n_embd", "embedding_length", MODEL_HF_U32},
    {"d_model", "embedding_length", MODEL_HF_U32},
    {"num_hidden_layers", "block_count", MODEL_HF_U32},
    {"n_layer", "block_count", MODEL_HF_U32},
    {"num_layers", "block_count", MODEL_HF_U32},
    {"intermediate_size", "feed_forward_length", MODEL_HF_U32},
    {"n_inner", "feed_forward_length", MODEL_HF_U32},
    {"ffn_hidden_size", "feed_forward_length", MODEL_HF_U32},
    {"num_attention_heads", "attention.head_count", MODEL_HF_U32},
    {"n_head", "attention.head_count", MODEL_HF_U32},
    {"num_key_value_heads", "attention.head_count_kv", MODEL_HF_U32},
    {"num_kv_heads", "attention.head_count_kv", MODEL_HF_U32},
    {"multi_query_group_num", "attention.head_count_kv", MODEL_HF_U32},
    {"head_dim", "attention.key_length", MODEL_HF_U32},
    {"head_dim", "attention.value_length", MODEL_HF_U32},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", MODEL_HF_F32},
    {"layer_norm_eps", "attention.layer_norm_epsilon", MODEL_HF_F32},
    {"layer_norm_epsilon", "attention.layer_norm_epsilon", MODEL_HF_F32},
    {"norm_epsilon", "attention.layer_norm_epsilon", MODEL_HF_F32},
    {"norm_eps", "attention.layer_norm_epsilon", MODEL_HF_F32},
    {"attn_logit_softcapping", "attn_logit_softcapping", MODEL_HF_F32},
    {"final_logit_softcapping", "final_logit_softcapping", MODEL_HF_F32},
    {"attention_multiplier", "attention.scale", MODEL_HF_F32},
    {"embedding_multiplier", "embedding_scale", MODEL_HF_F32},
    {"residual_multiplier", "residual_scale", MODEL_HF_F32},
    {"logits_scaling", "logit_scale", MODEL_HF_F32},
    {"logit_scale", "logit_scale", MODEL_HF_F32},
    {"use_parallel_residual", "use_parallel_residual", MODEL_HF_BOOL},
    {"full_attention_interval", "full_attention_interval", MODEL_HF_U32},
    {"num_local_experts", "expert_count", MODEL_HF_U32},
    {"num_experts", "expert_count", MODEL_HF_U32},
    {"n_routed_experts", "expert_count", MODEL_HF_U32},
    {"num_experts_per_tok", "expert_used_count", MODEL_HF_U32},
    {"experts_per_token", "expert_used_count", MODEL_HF_U32},
    {"top_k_experts", "expert_used_count", MODEL_HF_U32},
    {"moe_intermediate_size", "expert_feed_forward_length", MODEL_HF_U32},
    {"n_shared_experts", "expert_shared_count", MODEL_HF_U32},
    {"num_shared_experts", "expert_shared_count", MODEL_HF_U32},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", MODEL_HF_U32},
    {"shared_intermediate_size", "expert_shared_feed_forward_length", MODEL_HF_U32},
    {"n_group", "expert_group_count", MODEL_HF_U32},
    {"topk_group", "expert_group_used_count", MODEL_HF_U32},
    {"norm_topk_prob", "expert_weights_norm", MODEL_HF_BOOL},
    {"routed_scaling_factor", "expert_weights_scale", MODEL_HF_F32},
    {"first_k_dense_replace", "leading_dense_block_count", MODEL_HF_U32},
    {"interleave_moe_layer_step", "interleave_moe_layer_step", MODEL_HF_U32},
    {"q_lora_rank", "attention.q_lora_rank", MODEL_HF_U32},
    {"kv_lora_rank", "attention.kv_lora_rank", MODEL_HF_U32},
    {"mamba_d_conv", "ssm.conv_kernel", MODEL_HF_U32},
    {"conv_kernel", "ssm.conv_kernel", MODEL_HF_U32},
    {"linear_conv_kernel_dim", "ssm.conv_kernel", MODEL_HF_U32},
    {"mamba_d_state", "ssm.state_size", MODEL_HF_U32},
    {"state_size", "ssm.state_size", MODEL_HF_U32},
    {"mamba_n_groups", "ssm.group_count", MODEL_HF_U32},
    {"mamba_n_heads", "ssm.time_step_rank", MODEL_HF_U32},
};

const struct base_json *model_hf_get(const struct model_hf *hf, const char *path)
{
    const struct base_json *v = base_json_path(hf->text, path);
    if (!v || base_json_is(v, BASE_JSON_NULL))
        v = base_json_path(hf->config, path);
    return base_json_is(v, BASE_JSON_NULL) ? NULL : v;
}

int64_t model_hf_int(const struct model_hf *hf, const char *path, int64_t missing)
{
    base_json_i64(model_hf_get(hf, path), &missing);
    return missing;
}

double model_hf_real(const struct model_hf *hf, const char *path, double missing)
{
    base_json_f64(model_hf_get(hf, path), &missing);
    return missing;
}

infer_status model_hf_size(const struct model_hf *hf, const char *path, int64_t min, int64_t max,
                           int64_t *out)
{
    const struct base_json *v = model_hf_get(hf, path);
    int64_t value;
    if (!v && min > 0)
        return base_error(INFER_ERR_FORMAT, "config.json lacks \"%s\"", path);
    if (!v || base_json_is(v, BASE_JSON_ARRAY))
        return INFER_OK;
    if (!base_json_i64(v, &value) || value < min || value > max)
        return base_error(INFER_ERR_FORMAT,
                          "config.json: \"%s\" is no whole number from %lld to %lld", path,
                          (long long)min, (long long)max);
    *out = value;
    return INFER_OK;
}

/* "<architecture>.<key>"; 0 if the draft has it already. */
static int new_key(const struct model_hf *hf, const char *key, char full[KEY_MAX])
{
    snprintf(full, KEY_MAX, "%s.%s", hf->name, key);
    return !gguf_draft_find(hf->draft, full);
}

infer_status model_hf_set_u32(struct model_hf *hf, const char *key, uint32_t value)
{
    char full[KEY_MAX];
    return new_key(hf, key, full) ? gguf_draft_u32(hf->draft, full, value) : INFER_OK;
}

infer_status model_hf_set_f32(struct model_hf *hf, const char *key, double value)
{
    char full[KEY_MAX];
    if (!isfinite((float)value))
        return base_error(INFER_ERR_FORMAT,
                          "config.json: %s would be %g, a number of single precision was expected",
                          key, value);
    return new_key(hf, key, full) ? gguf_draft_f32(hf->draft, full, (float)value) : INFER_OK;
}

infer_status model_hf_set_bool(struct model_hf *hf, const char *key, int32_t value)
{
    char full[KEY_MAX];
    return new_key(hf, key, full) ? gguf_draft_bool(hf->draft, full, value) : INFER_OK;
}

infer_status model_hf_set_string(struct model_hf *hf, const char *key, const char *value)
{
    char full[KEY_MAX];
    struct base_view text = {value, strlen(value)};
    return new_key(hf, key, full) ? gguf_draft_string(hf->draft, full, text) : INFER_OK;
}

infer_status model_hf_set_i32s(struct model_hf *hf, const char *key, const int32_t *values,
                               size_t n)
{
    char full[KEY_MAX];
    return new_key(hf, key, full) ? gguf_draft_i32s(hf->draft, full, values, n) : INFER_OK;
}

static infer_status wrong_value(const struct model_hf_key *row, const char *expected)
{
    return base_error(INFER_ERR_FORMAT, "config.json: \"%s\" is no %s", row->from, expected);
}

/* One value a layer. */
static infer_status set_array(struct model_hf *hf, const struct model_hf_key *row,
                              const struct base_json *v)
{
    int32_t values[MAX_LAYERS];
    if (row->type != MODEL_HF_U32 || v->n > MAX_LAYERS)
        return wrong_value(row, "list of whole numbers, one a layer");
    for (uint32_t i = 0; i < v->n; i++) {
        int64_t value = -1;
        if (!base_json_i64(&v->as.items[i], &value) || value < 0 || value > INT32_MAX)
            return wrong_value(row, "list of whole numbers, one a layer");
        values[i] = (int32_t)value;
    }
    return model_hf_set_i32s(hf, row->to, values, v->n);
}

static infer_status set_row(struct model_hf *hf, const struct model_hf_key *row,
                            const struct base_json *v)
{
    int64_t whole;
    double real;
    int32_t truth;
    struct base_view text;
    char full[KEY_MAX];
    if (v->type == BASE_JSON_ARRAY)
        return set_array(hf, row, v);
    switch (row->type) {
    case MODEL_HF_U32:
        if (!base_json_i64(v, &whole) || whole < 0 || whole > UINT32_MAX)
            return wrong_value(row, "whole number from 0 to 4294967295");
        return model_hf_set_u32(hf, row->to, (uint32_t)whole);
    case MODEL_HF_F32:
        if (!base_json_f64(v, &real) || !isfinite((float)real))
            return wrong_value(row, "number of single precision");
        return model_hf_set_f32(hf, row->to, real);
    case MODEL_HF_BOOL:
        if (!base_json_bool(v, &truth))
            return wrong_value(row, "true or false");
        return model_hf_set_bool(hf, row->to, truth);
    default:
        if (!base_json_string(v, &text))
            return wrong_value(row, "string");
        return new_key(hf, row->to, full) ? gguf_draft_string(hf->draft, full, text) : INFER_OK;
    }
}

/* Whether an architecture's row says that nothing becomes `to`. */
static int is_left_out(const struct model_hf_arch *arch, const char *to)
{
    for (size_t i = 0; i < arch->n_keys; i++)
        if (!arch->keys[i].from && strcmp(arch->keys[i].to, to) == 0)
            return 1;
    return 0;
}

static infer_status set_rows(struct model_hf *hf, const struct model_hf_key *rows, size_t n)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        const struct base_json *v = rows[i].from ? model_hf_get(hf, rows[i].from) : NULL;
        if (v && !is_left_out(hf->arch, rows[i].to))
            st = set_row(hf, &rows[i], v);
    }
    return st;
}

/* "layer_types": which layers have a window, which are recurrent. */
static infer_status set_layer_types(struct model_hf *hf)
{
    static const struct {
        const char *type, *key;
    } kinds[] = {
        {"sliding_attention", "attention.sliding_window_pattern"},
        {"chunked_attention", "attention.sliding_window_pattern"},
        {"linear_attention", "attention.recurrent_layers"},
        {"mamba", "attention.recurrent_layers"},
        {"recurrent", "attention.recurrent_layers"},
    };
    const struct base_json *types = model_hf_get(hf, "layer_types");
    infer_status st = INFER_OK;
    if (!types)
        return INFER_OK;
    if (!base_json_is(types, BASE_JSON_ARRAY) || types->n > MAX_LAYERS)
        return base_error(INFER_ERR_FORMAT,
                          "config.json: \"layer_types\" is no list of at most %d types",
                          MAX_LAYERS);
    for (size_t k = 0; k < BASE_COUNT(kinds) && st == INFER_OK; k++) {
        uint8_t is_kind[MAX_LAYERS] = {0};
        char full[KEY_MAX];
        int any = 0;
        for (uint32_t i = 0; i < types->n; i++) {
            struct base_view type = {"", 0};
            base_json_string(&types->as.items[i], &type);
            is_kind[i] = (uint8_t)base_view_equal(type, kinds[k].type);
            any |= is_kind[i];
        }
        if (any && !is_left_out(hf->arch, kinds[k].key) && new_key(hf, kinds[k].key, full))
            st = gguf_draft_bools(hf->draft, full, is_kind, types->n);
    }
    return st;
}

/* What a value decides about another. */
static infer_status set_derived(struct model_hf *hf)
{
    infer_status st = INFER_OK;
    int32_t uses_window = 1;
    base_json_bool(model_hf_get(hf, "use_sliding_window"), &uses_window);
    int64_t window = model_hf_int(hf, "sliding_window", 0);
    if (window > 0 && window <= INT32_MAX && uses_window &&
        !is_left_out(hf->arch, "attention.sliding_window"))
        st = model_hf_set_u32(hf, "attention.sliding_window", (uint32_t)window);
    int64_t period = model_hf_int(hf, "sliding_window_pattern", 0);
    if (st == INFER_OK && period > 1 && period <= MAX_LAYERS &&
        !is_left_out(hf->arch, "attention.sliding_window_pattern"))
        st = model_hf_set_u32(hf, "attention.sliding_window_pattern", (uint32_t)period);
    double scalar = model_hf_real(hf, "query_pre_attn_scalar", 0);
    if (st == INFER_OK && scalar > 0 && !is_left_out(hf->arch, "attention.scale"))
        st = model_hf_set_f32(hf, "attention.scale", 1 / sqrt(scalar));
    struct base_view scoring;
    if (st == INFER_OK && base_json_string(model_hf_get(hf, "scoring_func"), &scoring))
        st =
            model_hf_set_u32(hf, "expert_gating_func", base_view_equal(scoring, "sigmoid") ? 2 : 1);
    return st;
}

infer_status model_hf_keys(struct model_hf *hf)
{
    const struct model_hf_arch *arch = hf->arch;
    infer_status st = arch->set_keys ? arch->set_keys(hf) : INFER_OK;
    if (st == INFER_OK)
        st = set_rows(hf, arch->keys, arch->n_keys);
    if (st == INFER_OK) /* before layer_types would say the same as an array */
        st = set_layer_types(hf);
    if (st == INFER_OK)
        st = set_rows(hf, shared, BASE_COUNT(shared));
    return st == INFER_OK ? set_derived(hf) : st;
}
