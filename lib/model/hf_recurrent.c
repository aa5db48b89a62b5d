/* Tensors of recurrent layers: columns, groups, heads in turns. */
#include "model/hf_recurrent.h"

#include "base/error.h"
#include "format/quant_layout.h"
#include "model/hf_parts.h"

#include <string.h>

#define SHOW(view) (int)BASE_MIN((view).size, (size_t)128), (view).data

static int ends_with(struct base_view v, const char *text)
{
    size_t n = strlen(text);
    return v.size >= n && memcmp(v.data + v.size - n, text, n) == 0;
}

infer_status model_hf_make_mamba(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    struct model_hf_value v = *value;
    uint64_t groups = (uint64_t)model_hf_int(hf, "mamba_n_groups", model_hf_int(hf, "n_groups", 1));
    BASE_UNUSED(suffix);
    if (value->n_dims != 1)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" has %d dimensions, expected 1",
                          SHOW(v.name), value->n_dims);
    v.n_dims = 2;
    if (ends_with(v.name, ".norm.weight")) {
        if (groups < 1 || v.dims[0] % groups)
            return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" does not part into groups",
                              SHOW(v.name));
        v.dims[0] /= groups;
        v.dims[1] = groups;
        return model_hf_add(hf, model_hf_block(name, layer, "ssm_norm.weight"), &v, 0);
    }
    v.dims[1] = v.dims[0];
    v.dims[0] = 1;
    if (ends_with(v.name, ".A_log"))
        return model_hf_add(hf, model_hf_block(name, layer, "ssm_a"), &v, MODEL_HF_NEG_EXP);
    return model_hf_add(hf, model_hf_block(name, layer, "ssm_d"), &v, 0);
}

/* Sizes of a delta network. */
struct sizes {
    uint64_t keys, heads, k_dim, v_dim;
};

static infer_status read_sizes(const struct model_hf *hf, struct sizes *out)
{
    const struct {
        const char *key;
        uint64_t *to;
    } wanted[] = {{"linear_num_key_heads", &out->keys},
                  {"linear_num_value_heads", &out->heads},
                  {"linear_key_head_dim", &out->k_dim},
                  {"linear_value_head_dim", &out->v_dim}};
    for (size_t i = 0; i < BASE_COUNT(wanted); i++) {
        int64_t v = 0;
        infer_status st = model_hf_size(hf, wanted[i].key, 1, 1 << 15, &v);
        if (st != INFER_OK)
            return st;
        *wanted[i].to = (uint64_t)v;
    }
    if (out->heads % out->keys)
        return base_error(INFER_ERR_FORMAT, "config.json: %llu value heads share %llu keys",
                          (unsigned long long)out->heads, (unsigned long long)out->keys);
    return INFER_OK;
}

infer_status model_hf_delta_keys(struct model_hf *hf)
{
    struct sizes s;
    infer_status st = read_sizes(hf, &s);
    return st == INFER_OK ? model_hf_set_u32(hf, "ssm.inner_size", (uint32_t)(s.heads * s.v_dim))
                          : st;
}

/* A tensor as rows of bytes; elements of a vector. */
struct row_bytes {
    uint64_t n;
    size_t bytes;
};

static struct row_bytes rows_of(const struct model_hf_value *v)
{
    const struct quant_layout *l = quant_layout_of(v->type);
    size_t block = (size_t)l->block_bytes;
    if (v->n_dims == 1)
        return (struct row_bytes){v->dims[0], block};
    return (struct row_bytes){v->dims[1] * v->dims[2] * v->dims[3],
                              (size_t)(v->dims[0] / (uint64_t)l->block_elements) * block};
}

static infer_status size_error(const struct model_hf_value *v, uint64_t got, uint64_t expected)
{
    return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" has %llu rows, expected %llu",
                      SHOW(v->name), (unsigned long long)got, (unsigned long long)expected);
}

/* Copies runs of `from`, one a key head, side by side. */
static void gather(uint8_t *to, const uint8_t *from, uint64_t n, size_t run, size_t stride)
{
    for (uint64_t g = 0; g < n; g++)
        memcpy(to + g * run, from + g * stride, run);
}

infer_status model_hf_make_qkvz(struct model_hf *hf, const struct model_hf_value *value,
                                int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    struct model_hf_value qkv = *value, z = *value;
    struct row_bytes rows = rows_of(value);
    struct sizes s;
    BASE_UNUSED(suffix);
    infer_status st = read_sizes(hf, &s);
    if (st != INFER_OK)
        return st;
    qkv.dims[1] = 2 * s.keys * s.k_dim + s.heads * s.v_dim;
    z.dims[1] = s.heads * s.v_dim;
    if (value->n_dims != 2 || rows.n != qkv.dims[1] + z.dims[1])
        return size_error(value, rows.n, qkv.dims[1] + z.dims[1]);
    uint8_t *to = gguf_draft_memory(hf->draft, (size_t)rows.n, rows.bytes);
    if (!to)
        return INFER_ERR_NO_MEMORY;
    size_t key = (size_t)s.k_dim * rows.bytes;
    size_t values = (size_t)(s.heads / s.keys * s.v_dim) * rows.bytes;
    size_t run = 2 * (key + values), keys = (size_t)s.keys;
    qkv.data = to;
    z.data = to + keys * (2 * key + values);
    gather(to, value->data, s.keys, key, run);
    gather(to + keys * key, value->data + key, s.keys, key, run);
    gather(to + 2 * keys * key, value->data + 2 * key, s.keys, values, run);
    gather(to + keys * (2 * key + values), value->data + 2 * key + values, s.keys, values, run);
    st = model_hf_add(hf, model_hf_block(name, layer, "attn_qkv.weight"), &qkv, 0);
    return st == INFER_OK ? model_hf_add(hf, model_hf_block(name, layer, "attn_gate.weight"), &z, 0)
                          : st;
}

/* Heads of `head` bytes that stand by key head, in turns. */
static void take_turns(uint8_t *to, const uint8_t *from, const struct sizes *s, size_t head)
{
    uint64_t each = s->heads / s->keys;
    for (uint64_t h = 0; h < s->heads; h++)
        memcpy(to + h * head, from + (h % s->keys * each + h / s->keys) * head, head);
}

/* Rows of the value heads come after `first` others, `per_head` each. */
static infer_status tile_rows(struct model_hf *hf, struct model_hf_value *v, const struct sizes *s,
                              uint64_t first, uint64_t per_head)
{
    struct row_bytes rows = rows_of(v);
    if (rows.n != first + s->heads * per_head)
        return size_error(v, rows.n, first + s->heads * per_head);
    uint8_t *to = gguf_draft_memory(hf->draft, (size_t)rows.n, rows.bytes);
    if (!to)
        return INFER_ERR_NO_MEMORY;
    size_t before = (size_t)first * rows.bytes;
    memcpy(to, v->data, before);
    take_turns(to + before, v->data + before, s, (size_t)per_head * rows.bytes);
    v->data = to;
    return INFER_OK;
}

static infer_status tile_columns(struct model_hf *hf, struct model_hf_value *v,
                                 const struct sizes *s)
{
    const struct quant_layout *l = quant_layout_of(v->type);
    struct row_bytes rows = rows_of(v);
    if (l->block_elements != 1)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor \"%.*s\" is %s, which cannot be rearranged", SHOW(v->name),
                          l->name);
    if (v->n_dims != 2 || v->dims[0] != s->heads * s->v_dim)
        return size_error(v, v->dims[0], s->heads * s->v_dim);
    uint8_t *to = gguf_draft_memory(hf->draft, (size_t)rows.n, rows.bytes);
    if (!to)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t r = 0; r < rows.n; r++)
        take_turns(to + r * rows.bytes, v->data + r * rows.bytes, s,
                   (size_t)s->v_dim * (size_t)l->block_bytes);
    v->data = to;
    return INFER_OK;
}

infer_status model_hf_make_tiled(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *suffix)
{
    static const struct {
        const char *from, *to;
        int after_keys, whole_heads; /* rows of queries and keys come first; v_dim rows a head */
        uint32_t flags;
    } parts[] = {
        {".in_proj_qkv.weight", "attn_qkv.weight", 1, 1, 0},
        {".in_proj_z.weight", "attn_gate.weight", 0, 1, 0},
        {".in_proj_b.weight", "ssm_beta.weight", 0, 0, 0},
        {".in_proj_a.weight", "ssm_alpha.weight", 0, 0, 0},
        {".conv1d.weight", "ssm_conv1d.weight", 1, 1, MODEL_HF_SQUEEZE},
        {".dt_bias", "ssm_dt.bias", 0, 0, 0},
        {".A_log", "ssm_a", 0, 0, MODEL_HF_NEG_EXP},
        {".out_proj.weight", "ssm_out.weight", 0, 0, 0},
    };
    char name[GGUF_NAME_MAX + 1];
    struct model_hf_value v = *value;
    struct sizes s;
    size_t i = 0;
    BASE_UNUSED(suffix);
    infer_status st = read_sizes(hf, &s);
    while (i < BASE_COUNT(parts) && !ends_with(v.name, parts[i].from))
        i++;
    if (st == INFER_OK && i == BASE_COUNT(parts))
        st = base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is no weight of value heads",
                        SHOW(v.name));
    if (st != INFER_OK)
        return st;
    if (i + 1 == BASE_COUNT(parts))
        st = tile_columns(hf, &v, &s);
    else
        st = tile_rows(hf, &v, &s, parts[i].after_keys ? 2 * s.keys * s.k_dim : 0,
                       parts[i].whole_heads ? s.v_dim : 1);
    return st == INFER_OK
               ? model_hf_add(hf, model_hf_block(name, layer, parts[i].to), &v, parts[i].flags)
               : st;
}
