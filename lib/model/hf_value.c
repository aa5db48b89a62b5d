/* Tensors on their way from a folder to a draft: types, shapes, transformations. */
#include "model/hf.h"

#include "base/error.h"
#include "format/quant_layout.h"
#include "kernels/kernels.h"
#include "model/hf_quant.h"

#include <math.h>
#include <stdio.h>

#define SHOW(view) (int)BASE_MIN((view).size, (size_t)128), (view).data

static const infer_dtype plain_types[SAFETENSORS_TYPES] = {
    [SAFETENSORS_I8] = INFER_DTYPE_I8,           [SAFETENSORS_I16] = INFER_DTYPE_I16,
    [SAFETENSORS_I32] = INFER_DTYPE_I32,         [SAFETENSORS_I64] = INFER_DTYPE_I64,
    [SAFETENSORS_F16] = INFER_DTYPE_F16,         [SAFETENSORS_BF16] = INFER_DTYPE_BF16,
    [SAFETENSORS_F32] = INFER_DTYPE_F32,         [SAFETENSORS_F64] = INFER_DTYPE_F64,
    [SAFETENSORS_F8_E4M3] = INFER_DTYPE_F8_E4M3, [SAFETENSORS_F8_E5M2] = INFER_DTYPE_F8_E5M2,
};

static size_t row_bytes(const struct model_hf_value *v)
{
    const struct quant_layout *l = quant_layout_of(v->type);
    return (size_t)(v->dims[0] / (uint64_t)l->block_elements) * (size_t)l->block_bytes;
}

static uint64_t n_rows(const struct model_hf_value *v)
{
    return v->dims[1] * v->dims[2] * v->dims[3];
}

/* Doubles are more than any model needs; everything else stays as it is. */
static infer_status narrow_doubles(struct model_hf *hf, struct model_hf_value *v, uint64_t n)
{
    float *out = gguf_draft_memory(hf->draft, (size_t)n, sizeof *out);
    if (!out)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        double wide;
        memcpy(&wide, v->data + i * sizeof wide, sizeof wide);
        out[i] = (float)wide;
    }
    v->type = INFER_DTYPE_F32;
    v->data = (const uint8_t *)out;
    return INFER_OK;
}

infer_status model_hf_plain(struct model_hf *hf, const struct safetensors_tensor *t,
                            struct model_hf_value *out)
{
    *out = (struct model_hf_value){.name = t->name, .dims = {1, 1, 1, 1}, .data = t->data};
    out->type = plain_types[t->type];
    if (out->type == INFER_DTYPE_F32 && t->type != SAFETENSORS_F32)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" has the type %s", SHOW(t->name),
                          safetensors_type_name(t->type));
    if (!t->n)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" is empty", SHOW(t->name));
    for (int32_t i = t->n_dims - 1; i >= 0; i--) {
        if (out->n_dims == GGUF_MAX_DIMS && t->dims[i] != 1)
            return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" has %d dimensions",
                              SHOW(t->name), t->n_dims);
        if (out->n_dims < GGUF_MAX_DIMS)
            out->dims[out->n_dims++] = t->dims[i];
    }
    out->n_dims = BASE_MAX(out->n_dims, 1); /* a scalar */
    if (out->type == INFER_DTYPE_F64)
        return narrow_doubles(hf, out, t->n);
    size_t size = (size_t)safetensors_type_bits(t->type) / 8;
    if ((uintptr_t)t->data % size == 0)
        return INFER_OK;
    uint8_t *copy = gguf_draft_memory(hf->draft, (size_t)t->bytes, 1);
    if (!copy)
        return INFER_ERR_NO_MEMORY;
    memcpy(copy, t->data, (size_t)t->bytes);
    out->data = copy;
    return INFER_OK;
}

infer_status model_hf_value(struct model_hf *hf, struct base_view name, struct model_hf_value *out)
{
    const struct safetensors_tensor *t = hf_dir_tensor(hf->dir, name);
    int packed = 0;
    infer_status st = t ? model_hf_quant_find(hf, t->name, &packed, NULL) : INFER_OK;
    if (!t) {
        t = model_hf_quant_stored(hf, name);
        packed = t != NULL;
    }
    if (!t)
        return base_error(INFER_ERR_NOT_FOUND, "tensor \"%.*s\" is missing", SHOW(name));
    if (st != INFER_OK)
        return st;
    return packed ? model_hf_quant_value(hf, t, out) : model_hf_plain(hf, t, out);
}

infer_status model_hf_rows(const struct model_hf_value *value, uint64_t begin, uint64_t end,
                           struct model_hf_value *out)
{
    int32_t dim = value->n_dims > 1 ? 1 : 0;
    *out = *value;
    if (begin >= end || end > value->dims[dim] || value->dims[2] * value->dims[3] != 1)
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\" has %llu rows, %llu to %llu were expected",
                          SHOW(value->name), (unsigned long long)value->dims[dim],
                          (unsigned long long)begin, (unsigned long long)end);
    size_t bytes = dim ? row_bytes(value) : (size_t)quant_layout_of(value->type)->block_bytes;
    out->dims[dim] = end - begin;
    out->data = value->data + begin * bytes;
    return INFER_OK;
}

infer_status model_hf_every(struct model_hf *hf, const struct model_hf_value *value, uint64_t first,
                            uint64_t step, struct model_hf_value *out)
{
    int32_t dim = value->n_dims > 1 ? 1 : 0; /* elements of a vector */
    size_t bytes = dim ? row_bytes(value) : (size_t)quant_layout_of(value->type)->block_bytes;
    uint64_t rows = value->dims[dim], n = step ? rows / step : 0;
    uint64_t matrices = value->dims[2] * value->dims[3];
    *out = *value;
    if (!n || rows % step || first >= step)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\": %llu rows do not take turns by %llu",
                          SHOW(value->name), (unsigned long long)rows, (unsigned long long)step);
    uint8_t *data = gguf_draft_memory(hf->draft, (size_t)(n * matrices), bytes);
    if (!data)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t m = 0; m < matrices; m++)
        for (uint64_t r = 0; r < n; r++)
            memcpy(data + (m * n + r) * bytes, value->data + (m * rows + r * step + first) * bytes,
                   bytes);
    out->dims[dim] = n;
    out->data = data;
    return INFER_OK;
}

infer_status model_hf_floats(struct model_hf *hf, const struct model_hf_value *value, float **out)
{
    struct infer_kernels kernels;
    kern_init_cpu(&kernels, 0);
    kern_dequant_fn *dequant =
        value->type < KERN_DTYPES ? kernels.quant.dequant[value->type] : NULL;
    uint64_t rows = n_rows(value), n = rows * value->dims[0];
    if (!dequant || value->dims[0] > INT32_MAX)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" cannot become floats",
                          SHOW(value->name));
    *out = gguf_draft_memory(hf->draft, (size_t)n, sizeof **out);
    if (!*out)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t r = 0; r < rows; r++)
        dequant(*out + r * value->dims[0], value->data + r * row_bytes(value),
                (int32_t)value->dims[0]);
    for (uint64_t i = 0; value->scale != 0 && i < n; i++)
        (*out)[i] *= value->scale;
    return INFER_OK;
}

/* GGUF's rotary pairs are neighbours, those of transformers half a head apart: row i of the
 * first half goes to 2i, row i of the second to 2i + 1. */
static infer_status permute(struct model_hf *hf, struct model_hf_value *v, int32_t n_heads)
{
    int32_t dim = v->n_dims > 1 ? 1 : 0;
    uint64_t rows = v->dims[dim];
    size_t bytes = dim ? row_bytes(v) : (size_t)quant_layout_of(v->type)->block_bytes;
    if (v->dims[2] * v->dims[3] != 1 || n_heads < 1 || rows % (2 * (uint64_t)n_heads) ||
        (!dim && quant_layout_of(v->type)->block_elements > 1))
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\": %llu rows are not %d heads of pairs",
                          SHOW(v->name), (unsigned long long)rows, n_heads);
    uint8_t *out = gguf_draft_memory(hf->draft, (size_t)rows, bytes);
    if (!out)
        return INFER_ERR_NO_MEMORY;
    uint64_t head = rows / (uint64_t)n_heads, half = head / 2;
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t in_head = r % head;
        uint64_t to = r - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
        memcpy(out + to * bytes, v->data + r * bytes, bytes);
    }
    v->data = out;
    return INFER_OK;
}

static infer_status transpose(struct model_hf *hf, struct model_hf_value *v)
{
    const struct quant_layout *l = quant_layout_of(v->type);
    size_t size = (size_t)l->block_bytes;
    uint64_t k = v->dims[0], n = v->dims[1], matrices = v->dims[2] * v->dims[3];
    if (l->block_elements > 1)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" of type %s cannot be transposed",
                          SHOW(v->name), l->name);
    uint8_t *out = gguf_draft_memory(hf->draft, (size_t)(k * n * matrices), size);
    if (!out)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t m = 0; m < matrices; m++) {
        const uint8_t *from = v->data + m * k * n * size;
        uint8_t *to = out + m * k * n * size;
        for (uint64_t i = 0; i < k; i++)
            for (uint64_t j = 0; j < n; j++)
                memcpy(to + (i * n + j) * size, from + (j * k + i) * size, size);
    }
    v->dims[0] = n;
    v->dims[1] = k;
    v->n_dims = BASE_MAX(v->n_dims, 2);
    v->data = out;
    return INFER_OK;
}

static infer_status change_numbers(struct model_hf *hf, struct model_hf_value *v, uint32_t flags)
{
    float *x;
    infer_status st = model_hf_floats(hf, v, &x);
    if (st != INFER_OK)
        return st;
    uint64_t n = n_rows(v) * v->dims[0];
    for (uint64_t i = 0; i < n; i++)
        x[i] = flags & MODEL_HF_PLUS_ONE ? x[i] + 1 : -expf(x[i]);
    v->type = INFER_DTYPE_F32;
    v->scale = 0;
    v->data = (const uint8_t *)x;
    return INFER_OK;
}

static void squeeze(struct model_hf_value *v)
{
    uint64_t dims[GGUF_MAX_DIMS] = {1, 1, 1, 1};
    int32_t n = 0;
    for (int32_t i = 0; i < v->n_dims; i++)
        if (v->dims[i] != 1)
            dims[n++] = v->dims[i];
    memcpy(v->dims, dims, sizeof dims);
    v->n_dims = BASE_MAX(n, 1);
}

infer_status model_hf_change(struct model_hf *hf, struct model_hf_value *v, uint32_t flags)
{
    infer_status st = INFER_OK;
    if (flags & MODEL_HF_SQUEEZE)
        squeeze(v);
    if (flags & MODEL_HF_TRANSPOSE && v->n_dims > 1) /* biases have one */
        st = transpose(hf, v);
    if (st == INFER_OK && (flags & MODEL_HF_PERMUTE_Q))
        st = permute(hf, v, hf->n_heads);
    if (st == INFER_OK && (flags & MODEL_HF_PERMUTE_K))
        st = permute(hf, v, hf->n_heads_kv);
    if (st == INFER_OK && (flags & (MODEL_HF_PLUS_ONE | MODEL_HF_NEG_EXP)))
        st = change_numbers(hf, v, flags);
    return st;
}

infer_status model_hf_add_scales(struct model_hf *hf, const char *to, const float *scales,
                                 uint64_t n)
{
    static const char weight[] = ".weight";
    const uint64_t dims[1] = {n};
    char name[GGUF_NAME_MAX + 8];
    size_t stem = strlen(to) - BASE_MIN(strlen(to), strlen(weight));
    if (strcmp(to + stem, weight) != 0)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor %s cannot have a scale", to);
    snprintf(name, sizeof name, "%.*s.scale", (int)stem, to);
    return gguf_draft_tensor(hf->draft, name, INFER_DTYPE_F32, 1, dims, scales, NULL);
}

infer_status model_hf_add(struct model_hf *hf, const char *to, const struct model_hf_value *value,
                          uint32_t flags)
{
    struct model_hf_value v = *value;
    infer_status st = model_hf_change(hf, &v, flags);
    if (st != INFER_OK)
        return st;
    st = gguf_draft_tensor(hf->draft, to, v.type, v.n_dims, v.dims, v.data, NULL);
    if (st != INFER_OK || v.scale == 0)
        return st;
    float *scale = gguf_draft_memory(hf->draft, 1, sizeof *scale);
    if (!scale)
        return INFER_ERR_NO_MEMORY;
    *scale = v.scale;
    return model_hf_add_scales(hf, to, scale, 1);
}
