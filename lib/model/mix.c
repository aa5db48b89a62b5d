/* Types of the tensors of quantised files. */
#include "model/mix.h"

#include "base/error.h"
#include "base/str.h"
#include "format/quant_layout.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define T(name) INFER_DTYPE_##name

static const struct model_mix mixes[] = {
    {.name = "F32", .file_type = 0, .type = T(F32)},
    {.name = "F16", .file_type = 1, .type = T(F16)},
    {.name = "BF16", .file_type = 32, .type = T(BF16)},
    {.name = "Q8_0", .file_type = 7, .type = T(Q8_0)},
    {.name = "Q4_0", .file_type = 2, .type = T(Q4_0), .output = T(Q6_K)},
    {.name = "Q4_1", .file_type = 3, .type = T(Q4_1), .output = T(Q6_K)},
    {.name = "Q5_0", .file_type = 8, .type = T(Q5_0), .output = T(Q6_K)},
    {.name = "Q5_1", .file_type = 9, .type = T(Q5_1), .output = T(Q6_K)},
    {.name = "Q2_K",
     .file_type = 10,
     .type = T(Q2_K),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_GQA_4, T(Q4_K)}, {MODEL_MIX_ALL, T(Q3_K)}},
     .down = {{MODEL_MIX_ALL, T(Q3_K)}},
     .attention_output = {MODEL_MIX_ALL, T(Q3_K)},
     .attention_output_8 = T(Q5_K)},
    {.name = "Q3_K_S",
     .file_type = 11,
     .type = T(Q3_K),
     .output = T(Q6_K),
     .attention_output_8 = T(Q5_K)},
    {.name = "Q3_K_M",
     .file_type = 12,
     .type = T(Q3_K),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_FIRST_2, T(Q5_K)}, {MODEL_MIX_ALL, T(Q4_K)}},
     .down = {{MODEL_MIX_16TH, T(Q5_K)}, {MODEL_MIX_ALL, T(Q4_K)}},
     .attention_output = {MODEL_MIX_ALL, T(Q4_K)},
     .attention_output_8 = T(Q5_K)},
    {.name = "Q3_K_L",
     .file_type = 13,
     .type = T(Q3_K),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_ALL, T(Q5_K)}},
     .down = {{MODEL_MIX_ALL, T(Q5_K)}},
     .attention_output = {MODEL_MIX_ALL, T(Q5_K)}},
    {.name = "Q4_K_S",
     .file_type = 14,
     .type = T(Q4_K),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_FIRST_4, T(Q5_K)}},
     .down = {{MODEL_MIX_EIGHTH, T(Q5_K)}},
     .attention_output_8 = T(Q5_K)},
    {.name = "Q4_K_M",
     .file_type = 15,
     .type = T(Q4_K),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_MORE, T(Q6_K)}},
     .down = {{MODEL_MIX_MORE, T(Q6_K)}},
     .attention_output_8 = T(Q5_K)},
    {.name = "Q5_K_S", .file_type = 16, .type = T(Q5_K), .output = T(Q6_K)},
    {.name = "Q5_K_M",
     .file_type = 17,
     .type = T(Q5_K),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_MORE, T(Q6_K)}},
     .down = {{MODEL_MIX_MORE, T(Q6_K)}}},
    {.name = "Q6_K", .file_type = 18, .type = T(Q6_K)},
    {.name = "IQ4_NL",
     .file_type = 25,
     .type = T(IQ4_NL),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_GQA_4, T(Q5_K)}},
     .down = {{MODEL_MIX_EIGHTH, T(Q5_K)}},
     .attention_output_8 = T(Q5_K)},
    {.name = "IQ4_XS",
     .file_type = 30,
     .type = T(IQ4_XS),
     .output = T(Q6_K),
     .value = {{MODEL_MIX_GQA_4, T(Q5_K)}},
     .down = {{MODEL_MIX_EIGHTH, T(Q5_K)}},
     .attention_output_8 = T(Q5_K)},
    {.name = "TQ1_0", .file_type = 36, .type = T(TQ1_0), .output = T(Q6_K), .embedding = T(Q4_K)},
    {.name = "TQ2_0", .file_type = 37, .type = T(TQ2_0), .output = T(Q6_K), .embedding = T(Q4_K)},
    {.name = "MXFP4_MOE",
     .file_type = 38,
     .type = T(MXFP4),
     .output = T(Q8_0),
     .not_expert = T(Q8_0)},
    {.name = "MXFP4", .file_type = 38, .type = T(MXFP4), .output = T(Q6_K)},
    {.name = "NVFP4", .file_type = 39, .type = T(NVFP4), .output = T(Q6_K)},
    {.name = "F8_128",
     .file_type = 1024,
     .type = T(F8_128),
     .output = T(Q8_0),
     .embedding = T(Q8_0)},
};

static const struct {
    const char *name, *means;
} aliases[] = {
    {"F8", "F8_128"},
    {"Q3_K", "Q3_K_M"},
    {"Q4_K", "Q4_K_M"},
    {"Q5_K", "Q5_K_M"},
};

/* Types whose few bits go where activations are large: without those they would be noise. */
static const char *const need_activations[] = {
    "IQ1_S",  "IQ1_M",   "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M",
    "Q2_K_S", "IQ3_XXS", "IQ3_XS",  "IQ3_S",  "IQ3_M",
};

static infer_status unknown(const char *name)
{
    char names[400] = "";
    size_t n = 0;
    for (size_t i = 0; i < BASE_COUNT(mixes); i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", mixes[i].name);
    return base_error(INFER_ERR_INVALID, "type \"%s\" is not known (known: keep, %s)", name, names);
}

infer_status model_mix_find(const struct model_mix **out, const char *name)
{
    const char *asked = name;
    for (size_t i = 0; i < BASE_COUNT(aliases); i++)
        if (strcasecmp(name, aliases[i].name) == 0)
            name = aliases[i].means;
    for (size_t i = 0; i < BASE_COUNT(mixes); i++) {
        if (strcasecmp(name, mixes[i].name) == 0) {
            *out = &mixes[i];
            return INFER_OK;
        }
    }
    for (size_t i = 0; i < BASE_COUNT(need_activations); i++)
        if (strcasecmp(name, need_activations[i]) == 0)
            return base_error(INFER_ERR_UNSUPPORTED,
                              "%s files are read, but not written: to make one, the sizes of "
                              "activations must be known (an importance matrix)",
                              need_activations[i]);
    return unknown(asked);
}

/* ------------------------------------------------------------------ names */

static int contains(struct base_view name, const char *part)
{
    return memmem(name.data, name.size, part, strlen(part)) != NULL;
}

static int ends_with(struct base_view name, const char *end)
{
    size_t n = strlen(end);
    return name.size >= n && memcmp(name.data + name.size - n, end, n) == 0;
}

int model_mix_is_output(const struct gguf_tensor *t)
{
    return base_view_equal(t->name, "output.weight");
}

int model_mix_is_embedding(const struct gguf_tensor *t)
{
    return base_view_equal(t->name, "token_embd.weight") ||
           base_view_equal(t->name, "per_layer_token_embd.weight");
}

int model_mix_applies(const struct gguf_tensor *t)
{
    static const char *const small[] = {
        "_norm.weight",   "ffn_gate_inp",         "ffn_gate_tid2eid", "altup",
        "laurel",         "per_layer_model_proj", "ssm_conv1d",       "shortconv.conv",
        "indexer.k_proj", "indexer.q_proj",       "time_mix_first",   "time_mix_w0",
        "time_mix_w1",    "time_mix_w2",          "time_mix_v0",      "time_mix_v1",
        "time_mix_v2",    "time_mix_a0",          "time_mix_a1",      "time_mix_a2",
        "time_mix_g1",    "time_mix_g2",          "time_mix_decay_w", "time_mix_lerp_fused",
        "attn_rel_b",     ".position_embd",       ".rel_pos",         ".patch_embd",
        ".patch_merger",
    };
    if (t->dims[1] * t->dims[2] * t->dims[3] == 1 || !ends_with(t->name, "weight") ||
        base_view_equal(t->name, "position_embd.weight") ||
        base_view_equal(t->name, "token_types.weight"))
        return 0;
    for (size_t i = 0; i < BASE_COUNT(small); i++)
        if (contains(t->name, small[i]))
            return 0;
    return 1;
}

/* Tensors that hold the projection of values, alone or with others. */
static int is_value(struct base_view name)
{
    return contains(name, "attn_v.weight") || contains(name, "attn_qkv.weight") ||
           contains(name, "attn_kv_b.weight");
}

/* Of "blk.12.attn_v.weight"; -1 where there is none below `n_layers`. */
static int32_t layer_of(struct base_view name, int32_t n_layers)
{
    int64_t layer = 0;
    size_t i = 4;
    if (name.size < 6 || memcmp(name.data, "blk.", 4) != 0 || !isdigit((uint8_t)name.data[4]))
        return -1;
    for (; i < name.size && isdigit((uint8_t)name.data[i]) && layer < n_layers; i++)
        layer = 10 * layer + (name.data[i] - '0');
    return layer < n_layers ? (int32_t)layer : -1;
}

/* ------------------------------------------------------------------ model */

/* "<architecture>.<name>": a number, or the first of one a layer; `missing` if absent or odd. */
static int32_t read_number(const struct gguf_file *file, struct base_view arch, const char *name,
                           int32_t missing)
{
    char key[160];
    int32_t value = missing;
    if (arch.size > 64)
        return missing;
    snprintf(key, sizeof key, "%.*s.%s", (int)arch.size, arch.data, name);
    const struct gguf_kv *kv = gguf_find(file, key);
    if (kv && kv->type == GGUF_ARRAY && kv->n >= 1) {
        struct gguf_kv first = *kv;
        first.n = 1;
        return gguf_array_i32(&first, &value) == INFER_OK ? value : missing;
    }
    return gguf_get_i32(file, key, &value) == INFER_OK ? value : missing;
}

infer_status model_mix_model_read(struct model_mix_model *out, struct base_arena *arena,
                                  const struct gguf_file *file)
{
    size_t n = gguf_n_tensors(file);
    struct base_view arch = {0};
    *out = (struct model_mix_model){0};
    if (gguf_get_string(file, "general.architecture", &arch) != INFER_OK)
        arch = (struct base_view){"", 0};
    int32_t heads = read_number(file, arch, "attention.head_count", 1);
    int32_t heads_kv = read_number(file, arch, "attention.head_count_kv", heads);
    out->n_gqa = heads_kv > 0 ? heads / heads_kv : 1;
    out->n_expert = read_number(file, arch, "expert_count", 0);
    /* A layer has a tensor at least, so that what a file claims stays within what it holds. */
    int32_t n_layers = read_number(file, arch, "block_count", 0);
    out->n_layers = (int32_t)BASE_MIN((size_t)BASE_MAX(n_layers, 0), n);
    out->value_rank = base_arena_new(arena, (size_t)out->n_layers + 1, sizeof *out->value_rank);
    if (!out->value_rank)
        return INFER_ERR_NO_MEMORY;
    out->tied = gguf_find_tensor(file, "output.weight") == NULL;
    for (size_t i = 0; i < n; i++) {
        struct base_view name = gguf_tensor_at(file, i)->name;
        int32_t layer = is_value(name) ? layer_of(name, out->n_layers) : -1;
        out->n_value += is_value(name);
        if (layer >= 0)
            out->value_rank[layer + 1] = 1;
    }
    for (int32_t l = 0; l < out->n_layers; l++)
        out->value_rank[l + 1] += out->value_rank[l];
    return INFER_OK;
}

/* ----------------------------------------------------------------- choice */

/* Tensor i of n of its kind. */
static int holds(enum model_mix_where where, int32_t i, int32_t n, int32_t n_gqa)
{
    switch (where) {
    case MODEL_MIX_NOWHERE:
        return 0;
    case MODEL_MIX_ALL:
        return 1;
    case MODEL_MIX_MORE:
        return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    case MODEL_MIX_EIGHTH:
        return i < n / 8;
    case MODEL_MIX_16TH:
        return i < n / 16;
    case MODEL_MIX_FIRST_2:
        return i < 2;
    case MODEL_MIX_FIRST_4:
        return i < 4;
    case MODEL_MIX_GQA_4:
        return n_gqa >= 4;
    }
    return 0;
}

static infer_dtype by_rules(const struct model_mix_rule *rules, int n_rules, int32_t i, int32_t n,
                            int32_t n_gqa, infer_dtype otherwise)
{
    for (int r = 0; r < n_rules; r++)
        if (holds(rules[r].where, i, n, n_gqa))
            return rules[r].type;
    return otherwise;
}

static infer_dtype value_type(const struct model_mix *mix, const struct model_mix_model *m,
                              int32_t layer)
{
    int32_t rank = layer >= 0 ? m->value_rank[layer] : 0;
    infer_dtype type = by_rules(mix->value, 2, rank, m->n_value, m->n_gqa, mix->type);
    /* Models of 80 layers share a key head between eight query heads: their values are small and
     * count for much. With eight experts the whole attention is small. */
    if (m->n_layers == 80 && m->n_gqa >= 8 && (type == T(Q3_K) || type == T(Q4_K)))
        type = T(Q5_K);
    return m->n_expert == 8 ? T(Q8_0) : type;
}

static infer_dtype choose_by_role(const struct model_mix *mix, const struct model_mix_model *m,
                                  const struct gguf_tensor *t)
{
    struct base_view name = t->name;
    int32_t layer = layer_of(name, m->n_layers);
    if (model_mix_is_output(t) || (m->tied && model_mix_is_embedding(t))) {
        infer_dtype type = mix->output ? mix->output : mix->type;
        return t->dims[0] % (uint64_t)quant_layout_of(mix->type)->block_elements ? T(Q8_0) : type;
    }
    if (mix->not_expert)
        return t->dims[2] > 1 ? mix->type : mix->not_expert;
    if (model_mix_is_embedding(t))
        return mix->embedding ? mix->embedding : mix->type;
    if (is_value(name))
        return value_type(mix, m, layer);
    if (contains(name, "attn_k.weight"))
        return m->n_expert == 8 ? T(Q8_0) : mix->type;
    if (contains(name, "attn_output.weight")) {
        if (m->n_expert == 8)
            return mix->attention_output_8 ? mix->attention_output_8 : mix->type;
        return by_rules(&mix->attention_output, 1, layer, m->n_layers, m->n_gqa, mix->type);
    }
    if (contains(name, "ffn_down"))
        return by_rules(mix->down, 2, BASE_MAX(layer, 0), m->n_layers, m->n_gqa, mix->type);
    return mix->type;
}

infer_dtype model_mix_fit(infer_dtype type, uint64_t row)
{
    while (row % (uint64_t)quant_layout_of(type)->block_elements) {
        switch (type) {
        case T(IQ4_XS):
            type = T(IQ4_NL);
            break;
        case T(Q2_K):
        case T(Q3_K):
        case T(TQ1_0):
        case T(TQ2_0):
            type = T(Q4_0);
            break;
        case T(Q4_K):
            type = T(Q5_0);
            break;
        case T(Q5_K):
            type = T(Q5_1);
            break;
        case T(Q6_K):
        case T(NVFP4):
        case T(F8_128):
            type = T(Q8_0);
            break;
        default:
            type = T(F16);
        }
    }
    return type;
}

infer_dtype model_mix_choose(const struct model_mix *mix, const struct model_mix_model *model,
                             const struct gguf_tensor *t, int pure)
{
    int is_float = t->type == T(F16) || t->type == T(BF16) || t->type >= T(F8_E4M3);
    if (t->type >= T(I8) && t->type <= T(F64))
        return t->type; /* indices and the like: no weights */
    if (!model_mix_applies(t))
        return is_float ? T(F32) : t->type;
    if (quant_layout_of(mix->type)->block_elements == 1 || pure)
        return mix->type;
    return choose_by_role(mix, model, t);
}
