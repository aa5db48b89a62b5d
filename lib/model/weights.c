/* Tensor binding. */
#include "model/weights.h"

#include "base/error.h"
#include "format/quant_layout.h"

#include <stdio.h>
#include <string.h>

struct binder {
    struct model_weights *out;
    struct base_arena *arena;
    const struct model_arch *arch;
    const struct model_hparams *hp;
    const struct gguf_file *file;
    const struct infer_kernels *kernels;
    uint64_t bytes_by_type[KERN_DTYPES];
};

static int64_t dim_size(const struct model_hparams *hp, enum model_dim dim)
{
    const int64_t sizes[] = {
        [MODEL_DIM_NONE] = 1,
        [MODEL_DIM_VOCAB] = hp->n_vocab,
        [MODEL_DIM_EMBD] = hp->n_embd,
        [MODEL_DIM_Q] = (int64_t)hp->n_heads * hp->head_dim,
        [MODEL_DIM_KV] = (int64_t)hp->n_heads_kv * hp->head_dim,
        [MODEL_DIM_FF] = hp->n_ff,
        [MODEL_DIM_PAIRS] = hp->n_rot / 2,
    };
    return sizes[dim];
}

static infer_status check_shape(const struct binder *b, const struct model_tensor_row *row,
                                const struct gguf_tensor *t, const char *name)
{
    uint64_t k = (uint64_t)dim_size(b->hp, row->k), n = (uint64_t)dim_size(b->hp, row->n);
    if (t->dims[0] == k && t->dims[1] == n && t->dims[2] == 1 && t->dims[3] == 1)
        return INFER_OK;
    return base_error(INFER_ERR_FORMAT,
                      "tensor %s has shape [%llu, %llu, %llu, %llu], expected [%llu, %llu]", name,
                      (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                      (unsigned long long)t->dims[2], (unsigned long long)t->dims[3],
                      (unsigned long long)k, (unsigned long long)n);
}

/* Every kernel that the forward pass will call on this tensor must exist now. */
static infer_status check_kernels(const struct binder *b, const struct model_tensor_row *row,
                                  const struct gguf_tensor *t, const char *name)
{
    const char *type = quant_layout_of(t->type)->name;
    int known = t->type >= 0 && t->type < KERN_DTYPES;
    if (row->flags & MODEL_VECTOR || row->role == MODEL_TOKEN_EMBD)
        if (!known || !b->kernels->quant.dequant[t->type])
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tensor %s is %s, for which this device has no dequantisation", name,
                              type);
    if (!(row->flags & MODEL_VECTOR) && (!known || !b->kernels->gemm.run[t->type]))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor %s is %s, for which this device has no matrix product", name,
                          type);
    size_t align = t->type == INFER_DTYPE_F32 ? 4 : 2;
    if ((uintptr_t)t->data % align)
        return base_error(INFER_ERR_FORMAT, "tensor %s at offset %llu is not aligned to %zu", name,
                          (unsigned long long)t->offset, align);
    return INFER_OK;
}

static infer_status bind_tensor(struct binder *b, const struct model_tensor_row *row,
                                const char *name, struct model_weight *out)
{
    const struct gguf_tensor *t = gguf_find_tensor(b->file, name);
    if (!t && row->flags & MODEL_OPTIONAL)
        return INFER_OK;
    if (!t)
        return base_error(INFER_ERR_FORMAT, "tensor %s is missing", name);
    infer_status st = check_shape(b, row, t, name);
    if (st == INFER_OK)
        st = check_kernels(b, row, t, name);
    if (st != INFER_OK)
        return st;
    *out = (struct model_weight){.data = t->data,
                                 .row_bytes = (size_t)(t->bytes / t->dims[1]),
                                 .type = t->type,
                                 .k = (int32_t)t->dims[0],
                                 .n = (int32_t)t->dims[1]};
    if (row->flags & MODEL_VECTOR && t->type != INFER_DTYPE_F32) {
        float *copy = base_arena_new(b->arena, t->dims[0], sizeof *copy);
        if (!copy)
            return INFER_ERR_NO_MEMORY;
        b->kernels->quant.dequant[t->type](copy, t->data, out->k);
        out->data = copy;
        out->type = INFER_DTYPE_F32;
        out->row_bytes = (size_t)out->k * sizeof *copy;
    }
    b->out->n_parameters += t->dims[0] * t->dims[1];
    b->out->bytes += t->bytes;
    b->bytes_by_type[t->type] += t->bytes;
    return INFER_OK;
}

/* Copies a row's pattern with its one "%d" replaced. */
static void layer_name(char *out, size_t size, const char *pattern, int32_t layer)
{
    const char *at = strstr(pattern, "%d");
    snprintf(out, size, "%.*s%d%s", (int)(at - pattern), pattern, layer, at + 2);
}

static infer_status bind_layers(struct binder *b, const struct model_tensor_row *row)
{
    char name[GGUF_NAME_MAX + 1];
    for (int32_t i = 0; i < b->hp->n_layers; i++) {
        layer_name(name, sizeof name, row->name, i);
        struct model_weight *w = &b->out->layers[i].w[row->role - MODEL_LAYER_FIRST];
        infer_status st = bind_tensor(b, row, name, w);
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

infer_status model_weights_bind(struct model_weights *out, struct base_arena *arena,
                                const struct model_arch *arch, const struct model_hparams *hp,
                                const struct gguf_file *file, const struct infer_kernels *kernels)
{
    *out = (struct model_weights){0};
    /* A file without that many tensors cannot have that many layers: refuse
     * before allocating for them. */
    if ((size_t)hp->n_layers > gguf_n_tensors(file))
        return base_error(INFER_ERR_FORMAT, "block_count is %d but the file has %zu tensors",
                          hp->n_layers, gguf_n_tensors(file));
    out->layers = base_arena_new(arena, (size_t)hp->n_layers, sizeof *out->layers);
    if (!out->layers)
        return INFER_ERR_NO_MEMORY;
    struct binder b = {
        .out = out, .arena = arena, .arch = arch, .hp = hp, .file = file, .kernels = kernels};
    for (size_t i = 0; i < arch->n_tensors; i++) {
        const struct model_tensor_row *row = &arch->tensors[i];
        infer_status st = row->role >= MODEL_LAYER_FIRST
                              ? bind_layers(&b, row)
                              : bind_tensor(&b, row, row->name, &out->global[row->role]);
        if (st != INFER_OK)
            return st;
    }
    /* Tied head: the embedding matrix is the output projection. */
    if (!out->global[MODEL_OUTPUT].data) {
        const struct model_weight *embd = &out->global[MODEL_TOKEN_EMBD];
        if (!kernels->gemm.run[embd->type])
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tensor token_embd.weight is also the output projection, and "
                              "this device has no matrix product for %s",
                              quant_layout_of(embd->type)->name);
        out->global[MODEL_OUTPUT] = *embd;
    }
    for (infer_dtype t = 0; t < KERN_DTYPES; t++)
        if (b.bytes_by_type[t] > b.bytes_by_type[out->main_type])
            out->main_type = t;
    return INFER_OK;
}
