/* Life of an adapter: pairs are checked against the model's matrices and copied, so that the file
 * may change or go. */
#include "model/lora.h"

#include "base/error.h"
#include "base/hash.h"
#include "format/quant_layout.h"
#include "model/gpu/gpu.h"
#include "model/lora_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SHOW(view) (int)BASE_MIN((view).size, (size_t)160), (view).data

/* Matrices of a layer that can have a pair: those that the forward pass multiplies by
 * stage_products(). Experts and what latent attention takes apart head by head are not among
 * them. */
static const enum model_role targets[] = {
    MODEL_ATTN_Q,      MODEL_ATTN_K,    MODEL_ATTN_V,      MODEL_ATTN_OUT, MODEL_ATTN_Q_A,
    MODEL_ATTN_Q_B,    MODEL_ATTN_KV_A, MODEL_FFN_GATE,    MODEL_FFN_UP,   MODEL_FFN_DOWN,
    MODEL_SHARED_GATE, MODEL_SHARED_UP, MODEL_SHARED_DOWN,
};

#define N_TARGETS ((int32_t)BASE_COUNT(targets))

#define ROLE_NAME(role, name, k, n, flags) [MODEL_##role] = name,
static const char *const names[MODEL_ROLES] = {MODEL_GLOBAL_ROLES(ROLE_NAME)
                                                   MODEL_LAYER_ROLES(ROLE_NAME)};

/* ------------------------------------------------------------------ places */

/* One for each target of each layer; the head's is the last. */
uint32_t model_lora_target(int32_t n_layers, int32_t layer, enum model_role role, int32_t *place)
{
    *place = n_layers * N_TARGETS;
    if (role == MODEL_OUTPUT)
        return MODEL_LORA_HEAD;
    for (int32_t i = 0; i < N_TARGETS; i++)
        if (targets[i] == role) {
            *place = layer * N_TARGETS + i;
            return UINT32_C(1) << i;
        }
    return 0;
}

static struct model_lora_pair *place_of(const struct infer_adapter *a, int32_t layer,
                                        enum model_role role)
{
    int32_t place;
    return model_lora_target(a->model->hp.n_layers, layer, role, &place) ? &a->pairs[place] : NULL;
}

const struct model_lora_pair *model_lora_find(const struct infer_adapter *a,
                                              const struct model_weight *w)
{
    const struct model_weights *weights = &a->model->weights;
    uintptr_t at = (uintptr_t)w - (uintptr_t)weights->layers;
    const struct model_lora_pair *pair = NULL;
    if (w == &weights->global[MODEL_OUTPUT]) {
        pair = place_of(a, 0, MODEL_OUTPUT);
    } else if (at < (size_t)a->model->hp.n_layers * sizeof *weights->layers) {
        size_t layer = at / sizeof *weights->layers;
        ptrdiff_t role = MODEL_LAYER_FIRST + (w - weights->layers[layer].w);
        pair = place_of(a, (int32_t)layer, (enum model_role)role);
    }
    return pair && pair->a.data ? pair : NULL;
}

/* Whether `name` is the pattern with a number in place of its "%d". */
static int fits(const char *pattern, const char *name, int32_t *layer)
{
    const char *at = strstr(pattern, "%d");
    size_t n = at ? (size_t)(at - pattern) : 0;
    int32_t number = 0, digits = 0;
    if (!at || strncmp(pattern, name, n) != 0)
        return 0;
    for (name += n; *name >= '0' && *name <= '9' && digits < 6; name++, digits++)
        number = number * 10 + (*name - '0');
    *layer = number;
    return digits && strcmp(name, at + 2) == 0;
}

static const struct model_weight *weight_of(const struct infer_model *m, int32_t layer,
                                            enum model_role role)
{
    return role == MODEL_OUTPUT ? &m->weights.global[role]
                                : model_layer_weight(&m->weights.layers[layer], role);
}

/* The parts of a target and their number; 0: no matrix that can have a pair. A fused matrix is
 * several (weights.c), told by its name or, where that is one part's as well, by its rows. */
static int32_t parts_of(const struct infer_model *m, const char *target, uint64_t rows,
                        enum model_role parts[3], int32_t *layer)
{
    static const enum model_role qkv[] = {MODEL_ATTN_Q, MODEL_ATTN_K, MODEL_ATTN_V};
    static const enum model_role gate_up[] = {MODEL_FFN_GATE, MODEL_FFN_UP};
    *layer = 0;
    if (strcmp(target, names[MODEL_OUTPUT]) == 0) {
        parts[0] = MODEL_OUTPUT;
        return 1;
    }
    if (fits(names[MODEL_ATTN_QKV], target, layer)) {
        memcpy(parts, qkv, sizeof qkv);
        return 3;
    }
    for (int32_t i = 0; i < N_TARGETS; i++) {
        if (!fits(names[targets[i]], target, layer))
            continue;
        parts[0] = targets[i];
        if (targets[i] != MODEL_FFN_UP || *layer >= m->hp.n_layers ||
            rows != 2 * (uint64_t)weight_of(m, *layer, targets[i])->n)
            return 1;
        memcpy(parts, gate_up, sizeof gate_up);
        return 2;
    }
    return 0;
}

/* ------------------------------------------------------------------ copies */

static infer_status check_finite(const struct model_hf_value *v, const struct model_weight *w,
                                 kern_dequant_fn *dequant, float *row)
{
    for (int32_t r = 0; r < w->n; r++) {
        dequant(row, (const uint8_t *)w->data + (size_t)r * w->row_bytes, w->k);
        for (int32_t i = 0; i < w->k; i++)
            if (!isfinite(row[i]))
                return base_error(INFER_ERR_FORMAT,
                                  "tensor \"%.*s\" has the value %g in row %d, column %d",
                                  SHOW(v->name), (double)row[i], r, i);
    }
    return INFER_OK;
}

/* F32, F16 and BF16 stay as they are, other types become F32. */
static infer_status copy(struct model_lora_loader *l, const struct model_hf_value *v,
                         struct model_weight *out)
{
    struct infer_adapter *a = l->adapter;
    const struct infer_kernels *kernels = &a->model->device->kernels;
    const struct quant_layout *from = quant_layout_of(v->type);
    int keep =
        v->type == INFER_DTYPE_F32 || v->type == INFER_DTYPE_F16 || v->type == INFER_DTYPE_BF16;
    kern_dequant_fn *dequant = v->type < KERN_DTYPES ? kernels->quant.dequant[v->type] : NULL;
    if (!dequant || (keep && kernels->gemm.act[v->type] != KERN_ACT_F32))
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" is %s, which no adapter can be",
                          SHOW(v->name), quant_type_name(v->type));
    *out = (struct model_weight){.type = keep ? v->type : INFER_DTYPE_F32,
                                 .k = (int32_t)v->dims[0],
                                 .n = (int32_t)v->dims[1],
                                 .n_matrices = 1};
    size_t k = (size_t)out->k, n = (size_t)out->n;
    size_t in_row = k / (size_t)from->block_elements * (size_t)from->block_bytes;
    out->row_bytes = keep ? in_row : k * sizeof(float);
    if (l->max_bytes &&
        a->arena.used_bytes + a->matrices.used_bytes + n * out->row_bytes > l->max_bytes)
        return base_error(INFER_ERR_LIMIT, "the adapter needs more than %llu bytes",
                          (unsigned long long)l->max_bytes);
    uint8_t *data = base_arena_new(&a->matrices, n, out->row_bytes);
    float *row = data ? base_new_raw(&a->alloc, k, sizeof *row) : NULL;
    if (!row)
        return INFER_ERR_NO_MEMORY;
    for (size_t r = 0; r < n && !keep; r++)
        dequant((float *)(void *)(data + r * out->row_bytes), v->data + r * in_row, out->k);
    if (keep)
        memcpy(data, v->data, n * in_row);
    out->data = data;
    infer_status st = check_finite(v, out, kernels->quant.dequant[out->type], row);
    base_free(&a->alloc, row);
    return st;
}

/* ------------------------------------------------------------------- pairs */

static infer_status check_shapes(const struct infer_model *m, const struct model_lora_source *s,
                                 const enum model_role *parts, int32_t n_parts, int32_t layer)
{
    const struct model_hf_value *a = &s->a, *b = &s->b;
    uint64_t inputs = 0, outputs = 0;
    for (int32_t i = 0; i < n_parts; i++) {
        const struct model_weight *w = weight_of(m, layer, parts[i]);
        if (!w->n) /* its data may be away (life.h) */
            return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is for %s, which the model lacks",
                              SHOW(a->name), s->target);
        inputs = (uint64_t)w->k;
        outputs += (uint64_t)w->n;
    }
    if (a->dims[1] != b->dims[0] || a->dims[2] * a->dims[3] * b->dims[2] * b->dims[3] != 1)
        return base_error(INFER_ERR_FORMAT,
                          "tensors \"%.*s\" and \"%.*s\" are of the ranks %llu "
                          "and %llu",
                          SHOW(a->name), SHOW(b->name), (unsigned long long)a->dims[1],
                          (unsigned long long)b->dims[0]);
    if (a->dims[0] != inputs || b->dims[1] != outputs)
        return base_error(INFER_ERR_FORMAT,
                          "tensors \"%.*s\" and its other half take %llu inputs to %llu outputs, "
                          "%s of the model %llu to %llu",
                          SHOW(a->name), (unsigned long long)a->dims[0],
                          (unsigned long long)b->dims[1], s->target, (unsigned long long)inputs,
                          (unsigned long long)outputs);
    if (a->dims[1] > MODEL_LORA_RANK_MAX)
        return base_error(INFER_ERR_LIMIT,
                          "tensor \"%.*s\" is of rank %llu, at most %d are "
                          "supported",
                          SHOW(a->name), (unsigned long long)a->dims[1], MODEL_LORA_RANK_MAX);
    return INFER_OK;
}

infer_status model_lora_add(struct model_lora_loader *l, const struct model_lora_source *s)
{
    struct infer_adapter *ad = l->adapter;
    enum model_role parts[3];
    struct model_weight a = {0}, b = {0};
    int32_t layer, n = parts_of(ad->model, s->target, s->b.dims[1], parts, &layer), row = 0;
    if (!n)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor \"%.*s\": adapters of %s are not supported", SHOW(s->a.name),
                          s->target);
    if (layer >= ad->model->hp.n_layers)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is for %s, the model has %d layers",
                          SHOW(s->a.name), s->target, ad->model->hp.n_layers);
    infer_status st = check_shapes(ad->model, s, parts, n, layer);
    if (st == INFER_OK && !isfinite((float)s->scale))
        st = base_error(INFER_ERR_FORMAT, "tensor \"%.*s\": its scale is %g", SHOW(s->a.name),
                        s->scale);
    if (st == INFER_OK)
        st = copy(l, &s->a, &a);
    if (st == INFER_OK)
        st = copy(l, &s->b, &b);
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        int32_t place;
        ad->targets |= model_lora_target(ad->model->hp.n_layers, layer, parts[i], &place);
        struct model_lora_pair *pair = &ad->pairs[place];
        if (pair->a.data)
            return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is the second one for %s",
                              SHOW(s->a.name), s->target);
        *pair = (struct model_lora_pair){.a = a, .b = b, .scale = (float)s->scale};
        pair->b.n = weight_of(ad->model, layer, parts[i])->n;
        pair->b.data = (const uint8_t *)b.data + (size_t)row * b.row_bytes;
        row += pair->b.n;
    }
    if (st != INFER_OK)
        return st;
    ad->n_matrices++;
    ad->max_rank = BASE_MAX(ad->max_rank, a.n);
    ad->n_parameters += (uint64_t)a.k * (uint64_t)a.n + (uint64_t)b.k * (uint64_t)b.n;
    return INFER_OK;
}

/* -------------------------------------------------------------------- life */

static uint64_t digest_of(uint64_t seed, int32_t at, const struct model_lora_pair *p)
{
    struct {
        int32_t at, rank, k, n, type_a, type_b;
        float scale;
        int32_t zero;
    } head = {at, p->a.n, p->a.k, p->b.n, p->a.type, p->b.type, p->scale, 0};
    seed = base_hash64(&head, sizeof head, seed);
    seed = base_hash64(p->a.data, (size_t)p->a.n * p->a.row_bytes, seed);
    return base_hash64(p->b.data, (size_t)p->b.n * p->b.row_bytes, seed);
}

static infer_status finish(struct infer_adapter *a)
{
    const char *slash = strrchr(a->path, '/');
    if (!a->n_matrices)
        return base_error(INFER_ERR_FORMAT, "%s: the adapter has no matrices", a->path);
    for (int32_t i = 0; i < a->n_pairs; i++)
        if (a->pairs[i].a.data)
            a->digest = digest_of(a->digest, i, &a->pairs[i]);
    if (!a->name)
        a->name = slash && slash[1] ? slash + 1 : a->path;
    return INFER_OK;
}

/* From here on no thread of the host reads the matrices; that there is a pair is all that counts.
 */
static infer_status move_to_card(struct infer_adapter *a)
{
    infer_status st = model_gpu_lora_upload(a);
    if (st != INFER_OK)
        return st;
    base_arena_release(&a->matrices);
    for (int32_t i = 0; i < a->n_pairs; i++)
        if (a->pairs[i].a.data)
            a->pairs[i].a.data = a->pairs[i].b.data = a->card.data;
    return INFER_OK;
}

infer_status model_lora_load(struct infer_adapter **out, struct infer_model *model,
                             const char *path, const struct model_lora_config *config)
{
    struct stat kind;
    struct infer_adapter *a = base_new(config->alloc, 1, sizeof *a);
    if (!a)
        return INFER_ERR_NO_MEMORY;
    a->refs = 1;
    a->alloc = *config->alloc;
    a->model = model_retain(model);
    base_arena_init(&a->arena, &a->alloc);
    base_arena_init(&a->matrices, &a->alloc);
    a->n_pairs = model->hp.n_layers * N_TARGETS + 1;
    a->path = base_arena_strdup(&a->arena, path, strlen(path));
    a->pairs = base_arena_new(&a->arena, (size_t)a->n_pairs, sizeof *a->pairs);
    struct model_lora_loader l = {.adapter = a, .max_bytes = config->max_bytes};
    infer_status st = a->path && a->pairs ? INFER_OK : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = stat(path, &kind) == 0 && S_ISDIR(kind.st_mode) ? model_lora_read_peft(&l, path)
                                                             : model_lora_read_gguf(&l, path);
    if (st == INFER_OK)
        st = finish(a);
    if (st == INFER_OK && model->device->kind == DEVICE_CUDA)
        st = move_to_card(a);
    if (st != INFER_OK) {
        model_lora_release(&a);
        return st;
    }
    *out = a;
    return INFER_OK;
}

uint64_t model_lora_key(const struct infer_adapter *adapter, float scale)
{
    uint64_t key = base_hash64(&scale, sizeof scale, adapter->digest);
    return key ? key : 1;
}

struct infer_adapter *model_lora_retain(struct infer_adapter *adapter)
{
    atomic_fetch_add(&adapter->refs, 1);
    return adapter;
}

void model_lora_release(struct infer_adapter **adapter)
{
    struct infer_adapter *a = *adapter;
    *adapter = NULL;
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    struct base_alloc alloc = a->alloc;
    base_arena_release(&a->arena);
    base_arena_release(&a->matrices);
    device_buffer_free(&a->card);
    model_release(&a->model);
    base_free(&alloc, a);
}
