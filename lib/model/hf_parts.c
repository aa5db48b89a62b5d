/* Cutting and turning of tensors. */
#include "model/hf_parts.h"

#include "base/error.h"
#include "format/quant_layout.h"

#include <stdio.h>
#include <string.h>

static infer_status element_bytes(const struct model_hf_value *value, size_t *out)
{
    const struct quant_layout *layout = quant_layout_of(value->type);
    if (!layout || layout->block_elements != 1)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor %.*s is %s, which cannot be rearranged",
                          (int)value->name.size, value->name.data, quant_type_name(value->type));
    *out = (size_t)layout->block_bytes;
    return INFER_OK;
}

const char *model_hf_block(char *out, int32_t layer, const char *part)
{
    snprintf(out, GGUF_NAME_MAX + 1, "blk.%d.%.40s", layer, part);
    return out;
}

infer_status model_hf_layer_value(struct model_hf *hf, int32_t layer, const char *part,
                                  struct model_hf_value *out)
{
    char name[256];
    int n = snprintf(name, sizeof name, "model.layers.%d.%s", layer, part);
    return model_hf_value(hf, (struct base_view){name, (size_t)n}, out);
}

infer_status model_hf_part_qkv(struct model_hf *hf, const struct model_hf_value *value,
                               struct model_hf_value *out)
{
    size_t element = 0, groups = (size_t)BASE_MAX(hf->n_heads_kv, 1);
    size_t queries = (size_t)hf->n_heads / groups, heads = queries + 2;
    size_t dim = (size_t)hf->head_dim;
    int vector = value->n_dims == 1;
    uint64_t rows = vector ? value->dims[0] : value->dims[1];
    infer_status st = element_bytes(value, &element);
    if (st != INFER_OK)
        return st;
    if (value->n_dims > 2)
        return base_error(INFER_ERR_FORMAT, "tensor %.*s has %d dimensions, expected 2",
                          (int)value->name.size, value->name.data, value->n_dims);
    if (rows != groups * heads * dim)
        return base_error(INFER_ERR_FORMAT, "tensor %.*s has %llu rows, expected %zu",
                          (int)value->name.size, value->name.data, (unsigned long long)rows,
                          groups * heads * dim);
    size_t head_bytes = dim * element * (vector ? 1 : (size_t)value->dims[0]);
    uint8_t *to = gguf_draft_memory(hf->draft, groups * heads, head_bytes);
    if (!to)
        return INFER_ERR_NO_MEMORY;
    for (size_t g = 0; g < groups; g++) {
        const uint8_t *from = value->data + g * heads * head_bytes;
        uint8_t *k = to + (groups * queries + g) * head_bytes;
        memcpy(to + g * queries * head_bytes, from, queries * head_bytes);
        memcpy(k, from + queries * head_bytes, head_bytes);
        memcpy(k + groups * head_bytes, from + (queries + 1) * head_bytes, head_bytes);
    }
    *out = *value;
    out->data = to;
    return INFER_OK;
}

infer_status model_hf_make_qkv(struct model_hf *hf, const struct model_hf_value *value,
                               int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1], part[64];
    struct model_hf_value fused;
    infer_status st = model_hf_part_qkv(hf, value, &fused);
    if (st != INFER_OK)
        return st;
    snprintf(part, sizeof part, "attn_qkv%s", suffix);
    return model_hf_add(hf, model_hf_block(name, layer, part), &fused, 0);
}

infer_status model_hf_add_columns(struct model_hf *hf, const char *to,
                                  const struct model_hf_value *value,
                                  const struct model_hf_columns *c)
{
    struct model_hf_value out = *value;
    uint64_t width = value->dims[0], rows = value->dims[1];
    uint64_t matrices = value->n_dims > 2 ? value->dims[2] : 1;
    size_t element = 0;
    infer_status st = element_bytes(value, &element);
    if (st != INFER_OK)
        return st;
    if (value->n_dims < 2 || value->n_dims > 3)
        return base_error(INFER_ERR_FORMAT, "tensor %.*s has %d dimensions, expected 2 or 3",
                          (int)value->name.size, value->name.data, value->n_dims);
    if (!c->n || c->first >= width || (width - c->first - 1) / c->step + 1 < c->n)
        return base_error(INFER_ERR_FORMAT, "tensor %.*s has %llu columns, fewer than expected",
                          (int)value->name.size, value->name.data, (unsigned long long)width);
    uint8_t *data = gguf_draft_memory(hf->draft, (size_t)(matrices * rows * c->n), element);
    if (!data)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t m = 0; m < matrices; m++)
        for (uint64_t r = 0; r < rows; r++) {
            const uint8_t *from = value->data + ((m * rows + r) * width + c->first) * element;
            for (uint64_t i = 0; i < c->n; i++) {
                uint64_t at = c->turn ? (m * c->n + i) * rows + r : (m * rows + r) * c->n + i;
                memcpy(data + at * element, from + i * c->step * element, element);
            }
        }
    out.data = data;
    out.dims[0] = c->turn ? rows : c->n;
    out.dims[1] = c->turn ? c->n : rows;
    return model_hf_add(hf, to, &out, 0);
}

infer_status model_hf_add_rows(struct model_hf *hf, const char *to,
                               const struct model_hf_value *value, uint64_t begin, uint64_t end)
{
    const struct quant_layout *layout = quant_layout_of(value->type);
    uint64_t n = value->dims[2], dims[3] = {value->dims[0], end - begin, n};
    if (value->n_dims != 3 || end > value->dims[1] || begin >= end)
        return base_error(INFER_ERR_FORMAT, "tensor %.*s has %llu rows, expected %llu at least",
                          (int)value->name.size, value->name.data,
                          (unsigned long long)value->dims[1], (unsigned long long)end);
    uint64_t row =
        value->dims[0] / (uint64_t)layout->block_elements * (uint64_t)layout->block_bytes;
    const void **matrices = base_new(&hf->alloc, (size_t)n, sizeof *matrices);
    if (!matrices)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t i = 0; i < n; i++)
        matrices[i] = value->data + (i * value->dims[1] + begin) * row;
    infer_status st = gguf_draft_tensor(hf->draft, to, value->type, 3, dims, matrices[0], matrices);
    base_free(&hf->alloc, matrices);
    return st;
}

infer_status model_hf_add_turned_rows(struct model_hf *hf, const char *to,
                                      const struct model_hf_value *value, uint64_t begin,
                                      uint64_t end)
{
    struct model_hf_value out = *value;
    uint64_t width = value->dims[0], n = end - begin, rows = value->dims[1];
    size_t element = 0;
    infer_status st = element_bytes(value, &element);
    if (st != INFER_OK)
        return st;
    if (value->n_dims != 3 || begin >= end || end > rows)
        return base_error(INFER_ERR_FORMAT, "tensor %.*s has %llu rows, expected %llu at least",
                          (int)value->name.size, value->name.data, (unsigned long long)rows,
                          (unsigned long long)end);
    uint8_t *data = gguf_draft_memory(hf->draft, (size_t)(value->dims[2] * n * width), element);
    if (!data)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t m = 0; m < value->dims[2]; m++)
        for (uint64_t r = 0; r < n; r++)
            for (uint64_t i = 0; i < width; i++)
                memcpy(data + ((m * width + i) * n + r) * element,
                       value->data + ((m * rows + begin + r) * width + i) * element, element);
    out.data = data;
    out.dims[0] = n;
    out.dims[1] = width;
    return model_hf_add(hf, to, &out, 0);
}

infer_status model_hf_make_gate_up_exps(struct model_hf *hf, const struct model_hf_value *value,
                                        int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    uint64_t half = value->dims[1] / 2;
    BASE_UNUSED(suffix);
    infer_status st =
        model_hf_add_rows(hf, model_hf_block(name, layer, "ffn_gate_exps.weight"), value, 0, half);
    if (st != INFER_OK)
        return st;
    return model_hf_add_rows(hf, model_hf_block(name, layer, "ffn_up_exps.weight"), value, half,
                             2 * half);
}

infer_status model_hf_add_halves(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *first, const char *second)
{
    char name[GGUF_NAME_MAX + 1];
    struct model_hf_value part;
    uint64_t half = value->dims[1] / 2;
    infer_status st = model_hf_rows(value, 0, half, &part);
    if (st == INFER_OK)
        st = model_hf_add(hf, model_hf_block(name, layer, first), &part, 0);
    if (st == INFER_OK)
        st = model_hf_rows(value, half, 2 * half, &part);
    return st == INFER_OK ? model_hf_add(hf, model_hf_block(name, layer, second), &part, 0) : st;
}

struct base_view model_hf_class(const struct model_hf *hf)
{
    struct base_view name = {"", 0};
    base_json_string(base_json_at(base_json_get(hf->config, "architectures"), 0), &name);
    return name;
}

int64_t model_hf_layer_int(const struct model_hf *hf, int32_t layer, const char *key,
                           int64_t missing)
{
    const struct base_json *own = model_hf_get(hf, "per_layer_config");
    uint32_t n = base_json_is(own, BASE_JSON_OBJECT) ? own->n : 0;
    /* Keys are numbers with leading zeros; more of them than layers are no such list. */
    for (uint32_t i = 0; i < n && n <= (uint32_t)hf->n_layers; i++) {
        struct base_view name = own->as.member[i].key;
        int64_t number = name.size ? 0 : -1;
        for (size_t d = 0; d < name.size && d < 9; d++)
            number = number * 10 + (name.data[d] - '0');
        if (number == layer)
            base_json_i64(base_json_get(&own->as.member[i].value, key), &missing);
    }
    return missing;
}

int model_hf_layer_is(const struct model_hf *hf, int32_t layer, const char *type)
{
    struct base_view own;
    return base_json_string(base_json_at(model_hf_get(hf, "layer_types"), (size_t)layer), &own) &&
           base_view_equal(own, type);
}
