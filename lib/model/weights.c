/* Tensor binding. */
#include "model/weights.h"

#include "base/error.h"
#include "format/quant_layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANY_MAX 65536 /* labels of a head, types of tokens */

struct role_info {
    const char *name;
    enum model_dim k, n;
    uint32_t flags;
};

#define ROLE_INFO(role, name, k, n, flags) {name, MODEL_DIM_##k, MODEL_DIM_##n, flags},
static const struct role_info roles[] = {MODEL_GLOBAL_ROLES(ROLE_INFO)
                                             MODEL_LAYER_ROLES(ROLE_INFO)};

/* "x.weight" becomes "x.scale". */
static void scale_name(char *out, size_t size, const char *weight)
{
    size_t n = strlen(weight), end = strlen("weight");
    snprintf(out, size, "%.*s%s", (int)(n > end ? n - end : 0), weight, "scale");
}

/* Products of a matrix may be scaled by a tensor beside it, unless the architecture has another
 * use for that name. */
static int has_scales(const struct model_arch *arch, const struct role_info *role)
{
    char name[GGUF_NAME_MAX + 1];
    scale_name(name, sizeof name, role->name);
    for (size_t i = 0; i < arch->n_tensors; i++)
        if (strcmp(roles[arch->tensors[i].role].name, name) == 0)
            return 0;
    return !(role->flags & MODEL_VECTOR);
}

struct binder {
    struct model_weights *out;
    struct base_arena *arena;
    const struct model_arch *arch;
    const struct model_hparams *hp;
    const struct gguf_file *file;
    const struct infer_kernels *kernels;
    const struct model_layer *layer; /* being bound; NULL for global tensors */
    uint64_t bytes_by_type[KERN_DTYPES];
};

static uint64_t dim_size(const struct binder *b, enum model_dim dim)
{
    static const struct model_layer none;
    const struct model_hparams *hp = b->hp;
    const struct model_layer *l = b->layer ? b->layer : &none;
    int64_t q = (int64_t)l->n_heads * l->head_dim, k = (int64_t)l->n_heads_kv * l->head_dim;
    int64_t v = (int64_t)l->n_heads_kv * l->head_dim_v;
    int64_t inner = hp->ssm_inner, channels = inner + 2 * (int64_t)hp->ssm_groups * hp->ssm_state;
    const int64_t sizes[MODEL_DIMS] = {
        [MODEL_DIM_NONE] = 1,
        [MODEL_DIM_ANY] = 0,
        [MODEL_DIM_VOCAB] = hp->n_vocab,
        [MODEL_DIM_CONTEXT] = hp->n_context,
        [MODEL_DIM_EMBD] = hp->n_embd,
        [MODEL_DIM_PAIRS] = hp->n_rot / 2,
        [MODEL_DIM_HEADS] = l->n_heads,
        [MODEL_DIM_HEAD] = l->head_dim,
        [MODEL_DIM_HEAD_V] = l->head_dim_v,
        [MODEL_DIM_Q] = q,
        [MODEL_DIM_Q_GATE] = b->arch->traits & MODEL_QUERY_GATE ? 2 * q : q,
        [MODEL_DIM_K] = k,
        [MODEL_DIM_V] = v,
        [MODEL_DIM_QKV] = q + k + v,
        [MODEL_DIM_ATTN] = (int64_t)l->n_heads * l->head_dim_v,
        [MODEL_DIM_FF] = l->n_ff,
        [MODEL_DIM_FF_TWICE] = 2 * (int64_t)l->n_ff,
        [MODEL_DIM_EXPERTS] = hp->n_experts,
        [MODEL_DIM_FF_EXP] = hp->n_ff_exp,
        [MODEL_DIM_FF_EXP_TWICE] = 2 * (int64_t)hp->n_ff_exp,
        [MODEL_DIM_FF_SHARED] = hp->n_ff_shared,
        [MODEL_DIM_Q_LORA] = hp->q_lora,
        [MODEL_DIM_KV_LORA] = hp->kv_lora,
        [MODEL_DIM_LATENT] = (int64_t)hp->kv_lora + l->n_rot,
        [MODEL_DIM_NOPE] = (int64_t)l->head_dim - l->n_rot,
        [MODEL_DIM_SSM_WIDTH] = hp->ssm_conv,
        [MODEL_DIM_SSM_INNER] = inner,
        [MODEL_DIM_SSM_CHANNELS] = channels,
        [MODEL_DIM_SSM_IN] = channels + inner + hp->ssm_heads,
        [MODEL_DIM_SSM_HEADS] = hp->ssm_heads,
        [MODEL_DIM_SSM_HEADS_TWICE] = 2 * (int64_t)hp->ssm_heads,
        [MODEL_DIM_SSM_HEAD] = inner / BASE_MAX(hp->ssm_heads, 1),
        [MODEL_DIM_SSM_GROUPS] = hp->ssm_groups,
        [MODEL_DIM_SSM_GROUP] = inner / BASE_MAX(hp->ssm_groups, 1),
        [MODEL_DIM_DELTA_QKVZ] = channels + inner,
        [MODEL_DIM_INPUT] = hp->n_input,
        [MODEL_DIM_INPUTS] = (int64_t)hp->n_input * hp->n_layers,
    };
    return (uint64_t)sizes[dim];
}

static infer_status shape_error(const struct gguf_tensor *t, const char *name, uint64_t k,
                                uint64_t n, uint64_t m)
{
    return base_error(INFER_ERR_FORMAT,
                      "tensor %s has shape [%llu, %llu, %llu, %llu], expected [%llu, %llu, %llu]",
                      name, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                      (unsigned long long)t->dims[2], (unsigned long long)t->dims[3],
                      (unsigned long long)k, (unsigned long long)n, (unsigned long long)m);
}

/* Norms of queries and keys: one head's weights for all, those of each head, or of the row. */
static int fits_heads(const struct gguf_tensor *t, uint64_t head, uint64_t whole)
{
    uint64_t d0 = t->dims[0], d1 = t->dims[1];
    return t->dims[2] == 1 && t->dims[3] == 1 &&
           ((d0 == head && (d1 == 1 || d1 * head == whole)) || (d0 == whole && d1 == 1));
}

static infer_status check_shape(const struct binder *b, const struct role_info *role,
                                const struct gguf_tensor *t, const char *name)
{
    uint64_t k = dim_size(b, role->k), n = dim_size(b, role->n), m = 1;
    if (role->k == MODEL_DIM_ANY)
        k = BASE_MAX(BASE_MIN(t->dims[0], (uint64_t)ANY_MAX), 1);
    if (role->n == MODEL_DIM_ANY)
        n = BASE_MAX(BASE_MIN(t->dims[1], (uint64_t)ANY_MAX), 1);
    if (role->flags & MODEL_HEADWISE)
        return fits_heads(t, k, n) ? INFER_OK : shape_error(t, name, k, n / k, 1);
    if (role->flags & MODEL_PER_EXPERT)
        m = (uint64_t)b->hp->n_experts;
    if (role->flags & MODEL_PER_HEAD)
        m = (uint64_t)b->layer->n_heads;
    if (t->dims[0] == k && t->dims[1] == n && t->dims[2] == m && t->dims[3] == 1)
        return INFER_OK;
    return shape_error(t, name, k, n, m);
}

/* Every kernel that the forward pass will call on this tensor must exist now. */
static infer_status check_kernels(const struct binder *b, const struct role_info *role,
                                  const struct gguf_tensor *t, const char *name)
{
    const char *type = quant_layout_of(t->type)->name;
    int known = t->type >= 0 && t->type < KERN_DTYPES;
    int looked_up = role == &roles[MODEL_TOKEN_EMBD] || role == &roles[MODEL_POS_EMBD] ||
                    role == &roles[MODEL_INPUT_EMBD];
    if (role->flags & MODEL_VECTOR || looked_up)
        if (!known || !b->kernels->quant.dequant[t->type])
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tensor %s is %s, for which this device has no dequantisation", name,
                              type);
    if (!(role->flags & MODEL_VECTOR) && (!known || !b->kernels->gemm.run[t->type]))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor %s is %s, for which this device has no matrix product", name,
                          type);
    size_t align = t->type == INFER_DTYPE_F32 ? 4 : 2;
    if ((uintptr_t)t->data % align)
        return base_error(INFER_ERR_FORMAT, "tensor %s at offset %llu is not aligned to %zu", name,
                          (unsigned long long)t->offset, align);
    return INFER_OK;
}

/* Vectors, and the few matrices that are read like them, become F32. */
static infer_status widen(struct binder *b, const struct gguf_tensor *t, struct model_weight *out)
{
    if (t->type == INFER_DTYPE_F32)
        return INFER_OK;
    size_t row = (size_t)t->dims[0];
    float *copy = base_arena_new(b->arena, row * t->dims[1], sizeof *copy);
    if (!copy)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t r = 0; r < t->dims[1]; r++)
        b->kernels->quant.dequant[t->type](copy + r * row, t->data + r * out->row_bytes, out->k);
    out->data = copy;
    out->type = INFER_DTYPE_F32;
    out->row_bytes = row * sizeof *copy;
    return INFER_OK;
}

static infer_status list_matrices(struct binder *b, const struct gguf_tensor *t,
                                  struct model_weight *out)
{
    const void **matrices = base_arena_new(b->arena, t->dims[2], sizeof *matrices);
    if (!matrices)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t i = 0; i < t->dims[2]; i++)
        matrices[i] = gguf_matrix(t, i);
    out->matrices = matrices;
    return INFER_OK;
}

/* What multiplies the products of a matrix beside its blocks' own scales, one number for each
 * matrix: files with NVFP4 weights have such a tensor, and Gemma 4's experts, in the type that the
 * model was stored in. */
static infer_status bind_scales(struct binder *b, const char *weight, struct model_weight *out)
{
    char name[GGUF_NAME_MAX + 1];
    scale_name(name, sizeof name, weight);
    const struct gguf_tensor *t = gguf_find_tensor(b->file, name);
    if (!t)
        return INFER_OK;
    const int half = t->type == INFER_DTYPE_F16 || t->type == INFER_DTYPE_BF16;
    const size_t size = half ? 2 : sizeof(float);
    if ((!half && t->type != INFER_DTYPE_F32) || t->dims[0] != (uint64_t)out->n_matrices ||
        t->bytes != t->dims[0] * size || (uintptr_t)t->data % size)
        return base_error(INFER_ERR_FORMAT,
                          "tensor %s is no vector of %d numbers of type F32, F16 or BF16", name,
                          out->n_matrices);
    out->scales = (const float *)(const void *)t->data;
    if (half) {
        float *copy = base_arena_new(b->arena, t->dims[0], sizeof *copy);
        if (!copy)
            return INFER_ERR_NO_MEMORY;
        b->kernels->quant.dequant[t->type](copy, t->data, out->n_matrices);
        out->scales = copy;
    }
    for (int32_t i = 0; i < out->n_matrices; i++)
        if (!isfinite(out->scales[i]))
            return base_error(INFER_ERR_FORMAT, "tensor %s element %d is not finite", name, i);
    return INFER_OK;
}

static infer_status bind_tensor(struct binder *b, const struct model_tensor_row *row,
                                const char *name, struct model_weight *out)
{
    const struct role_info *role = &roles[row->role];
    const struct gguf_tensor *t = gguf_find_tensor(b->file, name);
    int first = b->layer == b->out->layers;
    if (!t && (row->flags & MODEL_OPTIONAL || (first && row->flags & MODEL_NOT_FIRST)))
        return INFER_OK;
    if (!t)
        return base_error(INFER_ERR_FORMAT, "tensor %s is missing", name);
    infer_status st = check_shape(b, role, t, name);
    if (st == INFER_OK)
        st = check_kernels(b, role, t, name);
    if (st != INFER_OK)
        return st;
    *out = (struct model_weight){.data = gguf_matrix(t, 0),
                                 .row_bytes = (size_t)(t->bytes / t->dims[1] / t->dims[2]),
                                 .type = t->type,
                                 .k = (int32_t)t->dims[0],
                                 .n = (int32_t)t->dims[1],
                                 .n_matrices = (int32_t)t->dims[2]};
    b->out->n_parameters += t->dims[0] * t->dims[1] * t->dims[2];
    b->out->bytes += t->bytes;
    b->bytes_by_type[t->type] += t->bytes;
    if (role->flags & MODEL_VECTOR)
        return widen(b, t, out);
    if (role->flags & (MODEL_PER_EXPERT | MODEL_PER_HEAD))
        st = list_matrices(b, t, out);
    return st == INFER_OK && has_scales(b->arch, role) ? bind_scales(b, name, out) : st;
}

/* Copies a role's name with its one "%d" replaced. */
static void layer_name(char *out, size_t size, const char *pattern, int32_t layer)
{
    const char *at = strstr(pattern, "%d");
    snprintf(out, size, "%.*s%d%s", (int)(at - pattern), pattern, layer, at + 2);
}

/* Models of one architecture may differ in a part of several tensors. */
static int model_has(const struct model_hparams *hp, enum model_role role)
{
    if ((role >= MODEL_INPUT_EMBD && role <= MODEL_INPUT_NORM) ||
        (role >= MODEL_LAYER_GATE && role <= MODEL_LAYER_NORM))
        return hp->n_input > 0;
    return 1;
}

#define ROLE_COUNT(role, name, k, n, flags) +1

/* A layer has the tensors of its own kind only: a row that is not optional must be there in
 * each layer that has the part. */
static int layer_has(const struct model_layer *layer, enum model_role role)
{
    const int32_t attn_end = MODEL_LAYER_FIRST MODEL_ATTN_ROLES(ROLE_COUNT);
    const int32_t ffn_end = attn_end MODEL_FFN_ROLES(ROLE_COUNT);
    const int32_t moe_end = ffn_end MODEL_MOE_ROLES(ROLE_COUNT);
    const int32_t r = (int32_t)role;
    if (layer->reads_kv && role >= MODEL_ATTN_K && role <= MODEL_ATTN_V_BIAS)
        return 0;
    if (layer->reads_kv && role == MODEL_ATTN_K_NORM)
        return 0;
    if (role >= MODEL_ATTN_QKV && r < attn_end && role != MODEL_ATTN_POST_NORM)
        return layer->mix && !layer->recurrent;
    if (role >= MODEL_FFN_GATE_UP && r < ffn_end && role != MODEL_FFN_POST_NORM)
        return layer->dense;
    if (r >= ffn_end && r < moe_end)
        return layer->experts;
    return r < moe_end || layer->recurrent;
}

static infer_status bind_layers(struct binder *b, const struct model_tensor_row *row)
{
    char name[GGUF_NAME_MAX + 1];
    for (int32_t i = 0; i < b->hp->n_layers; i++) {
        struct model_layer *layer = &b->out->layers[i];
        if (!layer_has(layer, row->role))
            continue;
        layer_name(name, sizeof name, roles[row->role].name, i);
        b->layer = layer;
        infer_status st = bind_tensor(b, row, name, &layer->w[row->role - MODEL_LAYER_FIRST]);
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

/* Rows first .. first + n - 1 of a fused matrix or vector, as if they were a tensor of their own.
 */
static struct model_weight rows_of(const struct model_weight *w, int32_t first, int32_t n)
{
    struct model_weight part = *w;
    if (!w->data)
        return part;
    if (w->n == 1) { /* a vector: its elements are the rows */
        part.data = (const float *)w->data + first;
        part.k = n;
        part.row_bytes = (size_t)n * sizeof(float);
        return part;
    }
    part.data = (const uint8_t *)w->data + (size_t)first * w->row_bytes;
    part.n = n;
    return part;
}

static void split(struct model_layer *layer, enum model_role fused, const enum model_role *parts,
                  const int32_t *n, int32_t n_parts)
{
    const struct model_weight *w = model_layer_weight(layer, fused);
    for (int32_t i = 0, first = 0; w->data && i < n_parts; first += n[i++])
        layer->w[parts[i] - MODEL_LAYER_FIRST] = rows_of(w, first, n[i]);
}

static infer_status split_experts(struct binder *b, struct model_layer *layer)
{
    const struct model_weight *w = model_layer_weight(layer, MODEL_EXPERT_GATE_UP);
    int32_t n = b->hp->n_ff_exp;
    if (!w->data)
        return INFER_OK;
    const void **ups = base_arena_new(b->arena, (size_t)w->n_matrices, sizeof *ups);
    if (!ups)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < w->n_matrices; i++)
        ups[i] = (const uint8_t *)w->matrices[i] + (size_t)n * w->row_bytes;
    struct model_weight *gate = &layer->w[MODEL_EXPERT_GATE - MODEL_LAYER_FIRST];
    struct model_weight *up = &layer->w[MODEL_EXPERT_UP - MODEL_LAYER_FIRST];
    *gate = rows_of(w, 0, n);
    *up = rows_of(w, n, n);
    up->matrices = ups;
    return INFER_OK;
}

/* Fused matrices are several in one: the forward pass sees the parts. */
static infer_status split_fused(struct binder *b, struct model_layer *layer)
{
    const enum model_role qkv[] = {MODEL_ATTN_Q, MODEL_ATTN_K, MODEL_ATTN_V};
    const enum model_role bias[] = {MODEL_ATTN_Q_BIAS, MODEL_ATTN_K_BIAS, MODEL_ATTN_V_BIAS};
    const enum model_role gate_up[] = {MODEL_FFN_GATE, MODEL_FFN_UP};
    const int32_t heads[] = {layer->n_heads * layer->head_dim, layer->n_heads_kv * layer->head_dim,
                             layer->n_heads_kv * layer->head_dim_v};
    const int32_t halves[] = {layer->n_ff, layer->n_ff};
    split(layer, MODEL_ATTN_QKV, qkv, heads, 3);
    split(layer, MODEL_ATTN_QKV_BIAS, bias, heads, 3);
    split(layer, MODEL_FFN_GATE_UP, gate_up, halves, 2);
    if (model_layer_weight(layer, MODEL_FFN_NORM_POST)->data)
        layer->w[MODEL_FFN_NORM - MODEL_LAYER_FIRST] =
            *model_layer_weight(layer, MODEL_FFN_NORM_POST);
    return split_experts(b, layer);
}

/* What rows cannot demand, since another one may stand for it. */
static infer_status check_layer(const struct model_arch *arch, const struct model_layer *l,
                                int32_t i)
{
    static const enum model_role parts[] = {MODEL_ATTN_Q, MODEL_ATTN_K, MODEL_ATTN_V, MODEL_FFN_UP};
    if (arch->traits & MODEL_ENCODER && (!l->mix || !l->ffn))
        return base_error(INFER_ERR_FORMAT, "layer %d has no %s", i,
                          l->mix ? "feed-forward" : "attention");
    for (size_t k = 0; arch->traits & MODEL_ENCODER && k < BASE_COUNT(parts); k++)
        if (!model_layer_weight(l, parts[k])->data) {
            char name[GGUF_NAME_MAX + 1];
            layer_name(name, sizeof name, roles[parts[k]].name, i);
            return base_error(INFER_ERR_FORMAT, "tensor %s is missing", name);
        }
    if (l->experts && !model_layer_weight(l, MODEL_EXPERT_UP)->data)
        return base_error(INFER_ERR_FORMAT, "tensor blk.%d.ffn_up_exps.weight is missing", i);
    if (model_layer_weight(l, MODEL_ATTN_K)->data && !model_layer_weight(l, MODEL_ATTN_V)->data &&
        l->head_dim != l->head_dim_v)
        return base_error(INFER_ERR_FORMAT,
                          "tensor blk.%d.attn_v.weight is missing, and keys of %d elements are no "
                          "values of %d",
                          i, l->head_dim, l->head_dim_v);
    return INFER_OK;
}

/* A head for sequences is whole, or there is none. */
static infer_status check_head(const struct model_weights *out)
{
    const struct model_weight *labels = &out->global[MODEL_CLS_OUT];
    const struct model_weight *bias = &out->global[MODEL_CLS_OUT_BIAS];
    if (out->global[MODEL_CLS].data && !labels->data)
        return base_error(INFER_ERR_FORMAT, "tensor cls.output.weight is missing");
    if (bias->data && (!labels->data || bias->k != labels->n))
        return base_error(INFER_ERR_FORMAT,
                          "tensor cls.output.bias has %d elements, cls.output.weight %d rows",
                          bias->k, labels->n);
    return INFER_OK;
}

/* Tied head: the embedding matrix is the output projection. */
static infer_status tie_output(struct model_weights *out, const struct model_arch *arch,
                               const struct infer_kernels *kernels)
{
    const struct model_weight *embd = &out->global[MODEL_TOKEN_EMBD];
    if (out->global[MODEL_OUTPUT].data || arch->traits & MODEL_ENCODER)
        return INFER_OK;
    if (!kernels->gemm.run[embd->type])
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor token_embd.weight is also the output projection, and this "
                          "device has no matrix product for %s",
                          quant_layout_of(embd->type)->name);
    out->global[MODEL_OUTPUT] = *embd;
    return INFER_OK;
}

/* ------------------------------------------------------------ what is left */

/* The layer and what follows it of "blk.<layer>.<rest>"; NULL for other names. */
static const char *rest_of_layer(const char *name, long *layer)
{
    char *end;
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9')
        return NULL;
    *layer = strtol(name + 4, &end, 10);
    return *end == '.' ? end + 1 : NULL;
}

/* Whether a name is that of a role, or of a scale beside its matrix. Those of activations serve
 * arithmetic that is not used here. */
static int is_name_of(const struct model_arch *arch, const struct role_info *role,
                      const char *pattern, const char *name)
{
    size_t stem = strlen(pattern) - BASE_MIN(strlen(pattern), strlen("weight"));
    if (strcmp(pattern, name) == 0)
        return 1;
    if (strncmp(pattern, name, stem) != 0 || strcmp(pattern + stem, "weight") != 0)
        return 0;
    return strcmp(name + stem, "input_scale") == 0 ||
           (strcmp(name + stem, "scale") == 0 && has_scales(arch, role));
}

static int has_place(const struct binder *b, const char *name)
{
    static const char *const others[] = {"v.", "mm.", "a."}; /* of images and sound */
    long layer = 0;
    const char *rest = rest_of_layer(name, &layer);
    if (rest && (layer >= b->hp->n_layers || strcmp(rest, "attn_rot_embd.weight") == 0))
        return 1; /* predicts further tokens; a table that early files had */
    for (size_t i = 0; !rest && i < BASE_COUNT(others); i++)
        if (strncmp(name, others[i], strlen(others[i])) == 0)
            return 1;
    for (size_t i = 0; i < b->arch->n_tensors; i++) {
        const struct role_info *role = &roles[b->arch->tensors[i].role];
        int of_layer = strncmp(role->name, "blk.%d.", 7) == 0;
        if (of_layer == (rest != NULL) &&
            is_name_of(b->arch, role, of_layer ? role->name + 7 : role->name, rest ? rest : name))
            return 1;
    }
    return 0;
}

/* A tensor without a place would be missing from the computation: the model would answer, but not
 * as its authors meant. */
static infer_status check_rest(const struct binder *b)
{
    char name[GGUF_NAME_MAX + 1];
    for (size_t i = 0; i < gguf_n_tensors(b->file); i++) {
        struct base_view view = gguf_tensor_at(b->file, i)->name;
        snprintf(name, sizeof name, "%.*s", (int)view.size, view.data);
        if (!has_place(b, name))
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tensor %s has no place in the architecture \"%s\"", name,
                              b->arch->name);
    }
    return INFER_OK;
}

infer_status model_weights_bind(struct model_weights *out, struct base_arena *arena,
                                const struct model_arch *arch, const struct model_hparams *hp,
                                struct model_layer *layers, const struct gguf_file *file,
                                const struct infer_kernels *kernels)
{
    *out = (struct model_weights){.layers = layers};
    struct binder b = {
        .out = out, .arena = arena, .arch = arch, .hp = hp, .file = file, .kernels = kernels};
    infer_status st = INFER_OK;
    for (size_t i = 0; i < arch->n_tensors && st == INFER_OK; i++) {
        const struct model_tensor_row *row = &arch->tensors[i];
        if (!model_has(hp, row->role))
            continue;
        b.layer = NULL;
        st = row->role >= MODEL_LAYER_FIRST
                 ? bind_layers(&b, row)
                 : bind_tensor(&b, row, roles[row->role].name, &out->global[row->role]);
    }
    for (int32_t i = 0; i < hp->n_layers && st == INFER_OK; i++)
        if ((st = split_fused(&b, &layers[i])) == INFER_OK)
            st = check_layer(arch, &layers[i], i);
    if (st == INFER_OK)
        st = check_head(out);
    if (st == INFER_OK)
        st = check_rest(&b);
    if (st == INFER_OK)
        st = tie_output(out, arch, kernels);
    for (infer_dtype t = 0; t < KERN_DTYPES; t++)
        if (b.bytes_by_type[t] > b.bytes_by_type[out->main_type])
            out->main_type = t;
    return st;
}
