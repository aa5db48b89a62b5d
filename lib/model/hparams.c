/* Metadata to hyperparameters. */
#include "model/hparams.h"

#include "base/error.h"
#include "base/str.h"
#include "kernels/kernels.h"
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY_MAX 128
#define MAX_FF  (1 << 22)

enum { INT, FLOAT, BOOL, LAYERS };

/* `key` lacks the "<architecture>." prefix. */
struct row {
    const char *key;
    size_t offset; /* in struct model_hparams */
    int32_t kind;
    double min, max; /* inclusive */
};

#define ROW(key, field, kind, min, max)                                                            \
    {                                                                                              \
        key, offsetof(struct model_hparams, field), kind, min, max                                 \
    }

/* A key of one value, or of one a layer: the array goes to the second row's field. */
static const struct row rows[] = {
    ROW("block_count", n_layers, INT, 1, 1024),
    ROW("nextn_predict_layers", n_layers_mtp, INT, 0, 1024),
    ROW("context_length", n_context, INT, 1, 1 << 28),
    ROW("embedding_length", n_embd, INT, 1, 1 << 20),
    ROW("embedding_length_per_layer_input", n_input, INT, 0, 1 << 14),
    ROW("feed_forward_length", n_ff, INT, 0, MAX_FF),
    ROW("feed_forward_length", layer_ff, LAYERS, 0, MAX_FF),
    ROW("attention.head_count", n_heads, INT, 0, 4096),
    ROW("attention.head_count", layer_heads, LAYERS, 0, 4096),
    ROW("attention.head_count_kv", n_heads_kv, INT, 0, 4096),
    ROW("attention.head_count_kv", layer_heads_kv, LAYERS, 0, 4096),
    ROW("attention.key_length", head_dim, INT, 1, KERN_ATTN_HEAD_MAX),
    ROW("attention.value_length", head_dim_v, INT, 1, KERN_ATTN_HEAD_MAX),
    ROW("attention.key_length_swa", head_dim_window, INT, 1, KERN_ATTN_HEAD_MAX),
    ROW("attention.value_length_swa", head_dim_v_window, INT, 1, KERN_ATTN_HEAD_MAX),
    ROW("attention.key_length_mla", head_dim_mla, INT, 1, 4096),
    ROW("attention.value_length_mla", head_dim_v_mla, INT, 1, 4096),
    ROW("attention.q_lora_rank", q_lora, INT, 0, 1 << 16),
    ROW("attention.kv_lora_rank", kv_lora, INT, 0, 1 << 16),
    ROW("attention.layer_norm_rms_epsilon", norm_eps, FLOAT, 0, 1),
    ROW("attention.layer_norm_epsilon", norm_eps, FLOAT, 0, 1),
    ROW("attention.scale", attn_scale, FLOAT, 0, 1e6),
    ROW("attention.shared_kv_layers", n_kv_shared, INT, 0, 1024),
    ROW("attention.sliding_window", window, INT, 0, 1 << 28),
    ROW("attention.sliding_window_pattern", window_period, INT, 0, 1024),
    ROW("attention.sliding_window_pattern", layer_window, LAYERS, 0, 1),
    ROW("attention.temperature_length", temperature_length, INT, 0, 1 << 28),
    ROW("attention.temperature_scale", temperature_scale, FLOAT, 0, 1e6),
    ROW("attention.qk_unit_norm", qk_unit, BOOL, 0, 1),
    ROW("attention.recurrent_layers", layer_recurrent, LAYERS, 0, 1),
    ROW("attn_logit_softcapping", attn_softcap, FLOAT, 0, 1e9),
    ROW("final_logit_softcapping", logit_softcap, FLOAT, 0, 1e9),
    ROW("rope.dimension_count", n_rot, INT, 0, KERN_ATTN_HEAD_MAX),
    ROW("rope.dimension_count_swa", n_rot_window, INT, 0, KERN_ATTN_HEAD_MAX),
    ROW("rope.freq_base", rope_base, FLOAT, 1, 1e12),
    ROW("rope.freq_base_swa", rope_base_window, FLOAT, 1, 1e12),
    ROW("use_parallel_residual", parallel, BOOL, 0, 1),
    ROW("full_attention_interval", full_interval, INT, 0, 1024),
    ROW("embedding_scale", embd_scale, FLOAT, -1e9, 1e9),
    ROW("residual_scale", residual_scale, FLOAT, -1e9, 1e9),
    ROW("logit_scale", logit_scale, FLOAT, -1e9, 1e9),
    ROW("expert_count", n_experts, INT, 0, 4096),
    ROW("expert_used_count", n_experts_used, INT, 0, 4096),
    ROW("expert_shared_count", n_experts_shared, INT, 0, 4096),
    ROW("expert_feed_forward_length", n_ff_exp, INT, 0, MAX_FF),
    ROW("expert_shared_feed_forward_length", n_ff_shared, INT, 0, MAX_FF),
    ROW("expert_group_count", n_expert_groups, INT, 0, 4096),
    ROW("expert_group_used_count", n_expert_groups_used, INT, 0, 4096),
    ROW("expert_gating_func", gating, INT, 0, MODEL_GATING_TOPK_SOFTMAX),
    ROW("expert_weights_norm", expert_weights_sum, BOOL, 0, 1),
    ROW("expert_weights_scale", expert_scale, FLOAT, 0, 1e6),
    ROW("leading_dense_block_count", n_dense_lead, INT, 0, 1024),
    ROW("interleave_moe_layer_step", moe_period, INT, 0, 1024),
    ROW("ssm.conv_kernel", ssm_conv, INT, 1, 64),
    ROW("ssm.inner_size", ssm_inner, INT, 1, 1 << 20),
    ROW("ssm.state_size", ssm_state, INT, 1, 4096),
    ROW("ssm.time_step_rank", ssm_heads, INT, 1, 1 << 16),
    ROW("ssm.group_count", ssm_groups, INT, 1, 4096),
};

static infer_status range_error(const struct row *row, const char *key, double value)
{
    return base_error(INFER_ERR_FORMAT, "metadata key %s is %g, expected %g to %g", key, value,
                      row->min, row->max);
}

static infer_status read_layers(struct model_hparams *hp, struct base_arena *arena,
                                const struct row *row, const char *key, const struct gguf_kv *kv)
{
    if (kv->n < (uint64_t)hp->n_layers)
        return base_error(INFER_ERR_FORMAT, "metadata key %s has %llu values for %d layers", key,
                          (unsigned long long)kv->n, hp->n_layers);
    int32_t *values = base_arena_new(arena, kv->n, sizeof *values);
    if (!values)
        return INFER_ERR_NO_MEMORY;
    infer_status st = gguf_array_i32(kv, values);
    for (uint64_t i = 0; i < kv->n && st == INFER_OK; i++)
        if (values[i] < row->min || values[i] > row->max)
            st = range_error(row, key, values[i]);
    if (st == INFER_OK)
        memcpy((char *)hp + row->offset, &(const int32_t *){values}, sizeof(const int32_t *));
    return st;
}

static infer_status read_value(struct model_hparams *hp, const struct row *row, const char *key,
                               const struct gguf_file *file)
{
    float real = 0;
    int32_t whole = 0;
    infer_status st = row->kind == FLOAT  ? gguf_get_f32(file, key, &real)
                      : row->kind == BOOL ? gguf_get_bool(file, key, &whole)
                                          : gguf_get_i32(file, key, &whole);
    if (st != INFER_OK)
        return st;
    double value = row->kind == FLOAT ? (double)real : (double)whole;
    if (!(value >= row->min && value <= row->max)) /* false for NaN too */
        return range_error(row, key, value);
    if (row->kind == FLOAT)
        memcpy((char *)hp + row->offset, &real, sizeof real);
    else
        memcpy((char *)hp + row->offset, &whole, sizeof whole);
    return INFER_OK;
}

static infer_status read_rows(struct model_hparams *hp, struct base_arena *arena,
                              const struct model_arch *arch, const struct gguf_file *file)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(rows) && st == INFER_OK; i++) {
        char key[KEY_MAX];
        snprintf(key, sizeof key, "%s.%s", arch->name, rows[i].key);
        const struct gguf_kv *kv = gguf_find(file, key);
        if (!kv || (kv->type == GGUF_ARRAY) != (rows[i].kind == LAYERS))
            continue;
        st = rows[i].kind == LAYERS ? read_layers(hp, arena, &rows[i], key, kv)
                                    : read_value(hp, &rows[i], key, file);
    }
    return st;
}

/* The largest of a layer's values: what buffers are made for. */
static void widen(int32_t *value, const int32_t *by_layer, int32_t n)
{
    for (int32_t i = 0; by_layer && i < n; i++)
        *value = BASE_MAX(*value, by_layer[i]);
}

static infer_status check(const struct model_hparams *hp, const struct model_arch *arch)
{
    const struct {
        const char *key;
        int32_t value;
    } needed[] = {{"block_count", hp->n_layers},
                  {"context_length", hp->n_context},
                  {"embedding_length", hp->n_embd}};
    for (size_t i = 0; i < BASE_COUNT(needed); i++)
        if (!needed[i].value)
            return base_error(INFER_ERR_FORMAT, "metadata key %s.%s is missing", arch->name,
                              needed[i].key);
    if (!(hp->norm_eps > 0))
        return base_error(INFER_ERR_FORMAT, "metadata key %s.attention.layer_norm_%sepsilon is %s",
                          arch->name, arch->norm == MODEL_NORM_RMS ? "rms_" : "",
                          hp->norm_eps < 0 ? "missing" : "0");
    if (hp->n_experts && (hp->n_experts_used < 1 || hp->n_experts_used > hp->n_experts))
        return base_error(INFER_ERR_FORMAT, "%d of %d experts are to be used", hp->n_experts_used,
                          hp->n_experts);
    if (hp->n_expert_groups > 1 &&
        (hp->n_experts % hp->n_expert_groups || hp->n_expert_groups_used < 1 ||
         hp->n_expert_groups_used > hp->n_expert_groups))
        return base_error(INFER_ERR_FORMAT, "%d experts in %d groups, of which %d are used",
                          hp->n_experts, hp->n_expert_groups, hp->n_expert_groups_used);
    if (hp->n_layers_mtp >= hp->n_layers)
        return base_error(INFER_ERR_FORMAT, "all %d layers are for multi-token prediction",
                          hp->n_layers);
    return INFER_OK;
}

static infer_status derive_heads(struct model_hparams *hp)
{
    widen(&hp->n_heads, hp->layer_heads, hp->n_layers);
    widen(&hp->n_heads_kv, hp->layer_heads_kv, hp->n_layers);
    if (!hp->n_heads)
        return INFER_OK; /* no attention at all */
    if (!hp->n_heads_kv)
        hp->n_heads_kv = hp->n_heads;
    if (!hp->head_dim) {
        if (hp->n_embd % hp->n_heads)
            return base_error(INFER_ERR_FORMAT,
                              "embedding_length %d is not a multiple of head_count %d", hp->n_embd,
                              hp->n_heads);
        hp->head_dim = hp->n_embd / hp->n_heads;
    }
    if (hp->head_dim > KERN_ATTN_HEAD_MAX && !hp->kv_lora)
        return base_error(INFER_ERR_UNSUPPORTED, "heads of %d elements, at most %d", hp->head_dim,
                          KERN_ATTN_HEAD_MAX);
    if (!hp->head_dim_v)
        hp->head_dim_v = hp->head_dim;
    if (!hp->n_rot)
        hp->n_rot = hp->head_dim;
    if (!hp->head_dim_window)
        hp->head_dim_window = hp->head_dim;
    if (!hp->head_dim_v_window)
        hp->head_dim_v_window = hp->head_dim_v;
    if (!hp->n_rot_window)
        hp->n_rot_window = hp->n_rot;
    if (hp->n_rot % 2 || hp->n_rot_window % 2 ||
        (!hp->kv_lora && (hp->n_rot > hp->head_dim || hp->n_rot_window > hp->head_dim_window)))
        return base_error(INFER_ERR_FORMAT,
                          "rope.dimension_count %d must be even and at most the head's %d",
                          hp->n_rot, hp->head_dim);
    return INFER_OK;
}

static infer_status derive_rest(struct model_hparams *hp, const struct model_arch *arch)
{
    widen(&hp->n_ff, hp->layer_ff, hp->n_layers);
    if (!hp->n_ff_exp)
        hp->n_ff_exp = hp->n_ff;
    if (!hp->n_ff_shared && (int64_t)hp->n_ff_exp * hp->n_experts_shared > MAX_FF)
        return base_error(INFER_ERR_FORMAT, "%d shared experts of %d elements",
                          hp->n_experts_shared, hp->n_ff_exp);
    if (!hp->n_ff_shared)
        hp->n_ff_shared = hp->n_ff_exp * hp->n_experts_shared;
    if (arch->traits & MODEL_EMBD_SQRT)
        hp->embd_scale = sqrtf((float)hp->n_embd);
    if (arch->traits & MODEL_PARALLEL)
        hp->parallel = 1;
    if (!hp->rope_base_window)
        hp->rope_base_window = hp->rope_base;
    return INFER_OK;
}

/* The activation function, where a file differs from what is usual for the architecture; names
 * are those of transformers. */
static infer_status read_act(struct model_hparams *hp, const struct model_arch *arch,
                             const struct gguf_file *file)
{
    static const struct {
        const char *name;
        enum model_act act;
    } names[] = {{"silu", MODEL_ACT_SILU},           {"swish", MODEL_ACT_SILU},
                 {"gelu", MODEL_ACT_GELU},           {"gelu_new", MODEL_ACT_GELU_TANH},
                 {"gelu_fast", MODEL_ACT_GELU_TANH}, {"gelu_pytorch_tanh", MODEL_ACT_GELU_TANH},
                 {"relu", MODEL_ACT_RELU},           {"relu2", MODEL_ACT_RELU2}};
    char key[KEY_MAX];
    struct base_view text;
    hp->act = (int32_t)arch->act;
    snprintf(key, sizeof key, "%s.hidden_activation", arch->name);
    infer_status st = gguf_get_string(file, key, &text);
    if (st == INFER_ERR_NOT_FOUND)
        return INFER_OK;
    for (size_t i = 0; st == INFER_OK && i < BASE_COUNT(names); i++)
        if (base_view_equal(text, names[i].name)) {
            hp->act = (int32_t)names[i].act;
            return INFER_OK;
        }
    return st != INFER_OK
               ? st
               : base_error(INFER_ERR_UNSUPPORTED, "activation function \"%.*s\" is not supported",
                            (int)BASE_MIN(text.size, (size_t)64), text.data);
}

infer_status model_hparams_read(struct model_hparams *out, struct base_arena *arena,
                                const struct model_arch *arch, const struct gguf_file *file,
                                int32_t n_vocab)
{
    struct model_hparams hp = arch->defaults;
    hp.n_vocab = n_vocab;
    if (!hp.norm_eps)
        hp.norm_eps = -1;
    if (!hp.rope_base)
        hp.rope_base = 10000;
    infer_status st = read_rows(&hp, arena, arch, file);
    if (st == INFER_OK)
        st = read_act(&hp, arch, file);
    if (st == INFER_OK)
        st = check(&hp, arch);
    if (st == INFER_OK)
        st = derive_heads(&hp);
    if (st == INFER_OK)
        st = derive_rest(&hp, arch);
    if (st != INFER_OK)
        return st;
    if (arch->shape && (st = arch->shape(&hp, file)) != INFER_OK)
        return st;
    /* Layers that predict further tokens come last and are left out. */
    hp.n_layers -= hp.n_layers_mtp;
    *out = hp;
    return INFER_OK;
}
