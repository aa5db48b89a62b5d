/* Weights on the card: one piece of memory, laid out as the kernels read it. */
#include "model/gpu/run.h"

#include "base/error.h"
#include "base/log.h"
#include "device/cuda_upload.h"
#include "format/quant_layout.h"
#include "model/encode_attention.h"
#include "model/latent.h"

#include <infer/log.h>
#include <string.h>

/* Rows of a matrix wait in so much memory for being cut into bodies and sides. */
#define STAGE_BYTES ((size_t)32 << 20)

#define FLAGS(role, name, k, n, flags) flags,
static const uint8_t role_flags[MODEL_ROLES] = {MODEL_GLOBAL_ROLES(FLAGS) MODEL_LAYER_ROLES(FLAGS)};
#undef FLAGS

struct upload {
    const struct model_gpu_config *config;
    struct model_gpu *gpu;
    const struct kern_cuda *kernels;
    struct device_upload *copies;
    struct device_buffer stage;
    uint8_t *to; /* NULL: sizes are only counted */
    size_t used, total;
};

/* What its parts stand for, or what loading alone reads. */
static int is_read(enum model_role role)
{
    return role != MODEL_ATTN_QKV && role != MODEL_ATTN_QKV_BIAS && role != MODEL_FFN_GATE_UP &&
           role != MODEL_EXPERT_GATE_UP && role != MODEL_FFN_NORM_POST &&
           role != MODEL_ROPE_FREQS && role != MODEL_ROPE_LONG && role != MODEL_ROPE_SHORT;
}

static void *take(struct upload *u, size_t bytes)
{
    void *p = u->to ? u->to + u->used : NULL;
    u->used += BASE_ALIGN_UP(bytes, (size_t)256);
    return p;
}

static infer_status put(struct upload *u, void *dst, const void *src, size_t bytes)
{
    return u->to ? device_upload_put(u->copies, dst, src, bytes) : INFER_OK;
}

/* ------------------------------------------------------------- one weight */

static infer_status put_vector(struct upload *u, struct gpu_weight *out,
                               const struct model_weight *w)
{
    size_t bytes = (size_t)w->k * (size_t)w->n * sizeof(float);
    float *to = take(u, bytes);
    out->vector = to;
    if (w->k == 1 && w->n == 1)
        memcpy(&out->scale, w->data, sizeof out->scale);
    return put(u, to, w->data, bytes);
}

/* Rows whose body is all there is, in the order of the file, need no kernel. */
static int lies_as_in_file(const struct kern_cuda_layout *l, const struct model_weight *w)
{
    return !l->side_bytes && kern_cuda_body_stride(l, w->k) == w->row_bytes;
}

static infer_status put_rows(struct upload *u, const struct kern_cuda_matrix *m, const uint8_t *src,
                             size_t row_bytes)
{
    int32_t step = (int32_t)BASE_MAX(STAGE_BYTES / row_bytes, 1);
    infer_status st = INFER_OK;
    for (int32_t at = 0; at < m->n && st == INFER_OK; at += step) {
        int32_t n = BASE_MIN(step, m->n - at);
        void *stream;
        st = put(u, u->stage.data, src + (size_t)at * row_bytes, (size_t)n * row_bytes);
        if (st == INFER_OK)
            st = device_cuda_enter(u->gpu->device, &stream);
        if (st != INFER_OK)
            return st;
        st = device_cuda_check(
            u->gpu->device, u->kernels->product.split(m, u->stage.data, row_bytes, at, n, stream),
            "laying out a matrix");
        device_cuda_leave(u->gpu->device);
    }
    return st;
}

static infer_status put_matrix(struct upload *u, const struct kern_cuda_matrix *m,
                               const struct kern_cuda_layout *layout, const struct model_weight *w,
                               const void *src)
{
    size_t bytes = (size_t)w->n * w->row_bytes;
    infer_status st = INFER_OK;
    if (!u->to)
        return INFER_OK;
    if (lies_as_in_file(layout, w))
        st = put(u, (uint8_t *)m->body, src, bytes);
    else
        st = put_rows(u, m, src, w->row_bytes);
    gguf_forget_pages(u->config->file, src, bytes);
    return st == INFER_OK ? u->config->report(u->config->report_arg,
                                              (double)u->used / (double)BASE_MAX(u->total, 1))
                          : st;
}

static infer_status put_matrices(struct upload *u, struct gpu_weight *out,
                                 const struct model_weight *w)
{
    const struct kern_cuda_layout *layout = u->kernels->layout_of(w->type);
    if (!layout)
        return base_error(INFER_ERR_UNSUPPORTED, "%s has no matrix product for %s",
                          u->gpu->device->name, quant_layout_of(w->type)->name);
    struct kern_cuda_matrix m = {.n = w->n, .k = w->k, .type = w->type};
    size_t count = (size_t)w->n_matrices, rows = count * (size_t)w->n;
    m.body_stride = kern_cuda_body_stride(layout, w->k);
    m.side_stride = kern_cuda_side_stride(layout, w->k);
    m.body = take(u, rows * m.body_stride);
    m.side = layout->side_bytes ? take(u, rows * m.side_stride) : NULL;
    out->matrix = m;
    out->n_matrices = w->n_matrices;
    out->scale = w->scales && count == 1 ? w->scales[0] : 1;
    if (w->scales) {
        float *to = take(u, count * sizeof(float));
        out->scales = to;
        infer_status st = put(u, to, w->scales, count * sizeof(float));
        if (st != INFER_OK)
            return st;
    }
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < w->n_matrices && st == INFER_OK; i++) {
        st = put_matrix(u, &m, layout, w, w->matrices ? w->matrices[i] : w->data);
        m.body += (size_t)w->n * m.body_stride;
        m.side = m.side ? m.side + (size_t)w->n * m.side_stride : NULL;
    }
    return st;
}

static infer_status put_weight(struct upload *u, struct gpu_weight *out, enum model_role role,
                               const struct model_weight *w)
{
    if ((!w->data && !w->matrices) || !is_read(role))
        return INFER_OK;
    return role_flags[role] & MODEL_VECTOR ? put_vector(u, out, w) : put_matrices(u, out, w);
}

static infer_status put_rope(struct upload *u, int32_t i)
{
    const struct model_rope *rope = &u->config->model->rope[i];
    size_t bytes = (size_t)rope->n_pairs * sizeof(double);
    if (!rope->n_pairs)
        return INFER_OK;
    double *frequency = take(u, bytes), *far = rope->far ? take(u, bytes) : NULL;
    u->gpu->frequency[i] = frequency;
    u->gpu->far[i] = far;
    infer_status st = put(u, frequency, rope->frequency, bytes);
    return st == INFER_OK && rope->far ? put(u, far, rope->far, bytes) : st;
}

/* ---------------------------------------------------------------- the model */

/* Matrices before vectors: those of queries, keys and values lie one behind the other, with biases
 * or without, and so do the biases, so that a product can take all of them (product.c). */
static infer_status put_layer(struct upload *u, struct gpu_weight *out,
                              const struct model_layer *layer)
{
    infer_status st = INFER_OK;
    for (int32_t vectors = 0; vectors < 2; vectors++)
        for (int32_t role = MODEL_LAYER_FIRST; role < MODEL_ROLES && st == INFER_OK; role++)
            if (!(role_flags[role] & MODEL_VECTOR) == !vectors)
                st = put_weight(u, &out[role - MODEL_LAYER_FIRST], (enum model_role)role,
                                model_layer_weight(layer, (enum model_role)role));
    return st;
}

static infer_status put_all(struct upload *u)
{
    const struct model_weights *weights = u->config->weights;
    struct model_gpu *gpu = u->gpu;
    int tied = weights->global[MODEL_OUTPUT].data == weights->global[MODEL_TOKEN_EMBD].data;
    infer_status st = INFER_OK;
    u->used = 0;
    for (int32_t role = 0; role < MODEL_LAYER_FIRST && st == INFER_OK; role++)
        if (role != MODEL_OUTPUT || !tied)
            st = put_weight(u, &gpu->global[role], (enum model_role)role, &weights->global[role]);
    if (tied)
        gpu->global[MODEL_OUTPUT] = gpu->global[MODEL_TOKEN_EMBD];
    for (int32_t i = 0; i < u->config->model->hp.n_layers && st == INFER_OK; i++)
        st = put_layer(u, gpu->layers[i], &weights->layers[i]);
    for (int32_t i = 0; i < MODEL_ROPES && st == INFER_OK; i++)
        st = put_rope(u, i);
    return st;
}

/* What the walk over the layers cannot do yet is refused by name, never computed elsewhere. */
static infer_status check_layer(const struct model_gpu_config *config, int32_t i)
{
    const struct model_layer *l = &config->weights->layers[i];
    const char *what = NULL;
    if (l->mix && l->mix != model_encode_attention && !gpu_mix_of(l))
        what = l->recurrent ? "recurrent layers of this kind" : "attention of this kind";
    else if (l->mix == model_encode_attention && l->head_dim > KERN_CUDA_TEXT_HEAD_MAX)
        what = "encoders with heads of more than 128 elements";
    else if (l->mix == model_latent_attention && l->head_dim % 4)
        what = "latent attention with queries that are no whole 16 bytes";
    else if (!l->mix && !l->ffn && !config->model->hp.n_input &&
             model_layer_weight(l, MODEL_LAYER_SCALE)->data)
        what = "scales of layers that have nothing else";
    else if (l->experts && l->dense && model_layer_weight(l, MODEL_SHARED_UP)->data)
        what = "experts beside both a shared one and a dense feed-forward";
    else if (l->experts && config->model->arch->norm == MODEL_NORM_LAYER)
        what = "experts between layer norms";
    if (!what)
        return INFER_OK;
    return base_error(INFER_ERR_UNSUPPORTED, "%s has no kernels for %s (layer %d)",
                      config->model->device->name, what, i);
}

static infer_status check(const struct model_gpu_config *config)
{
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < config->model->hp.n_layers && st == INFER_OK; i++)
        st = check_layer(config, i);
    return st;
}

static infer_status upload(struct upload *u)
{
    struct infer_device *device = u->gpu->device;
    infer_status st = put_all(u); /* sizes */
    if (st != INFER_OK)
        return st;
    u->total = u->used;
    st = device_buffer_alloc(device, DEVICE_WEIGHTS, u->total, &u->gpu->memory);
    if (st == INFER_OK)
        st =
            device_buffer_alloc(device, DEVICE_WEIGHTS, BASE_MIN(STAGE_BYTES, u->total), &u->stage);
    if (st == INFER_OK)
        st = device_upload_create(&u->copies, device);
    if (st != INFER_OK)
        return st;
    u->to = u->gpu->memory.data;
    return put_all(u);
}

infer_status model_gpu_create(struct model_gpu **out, const struct model_gpu_config *config)
{
    const struct infer_model *model = config->model;
    infer_status st = check(config);
    if (st != INFER_OK)
        return st;
    struct model_gpu *gpu = base_new(&model->alloc, 1, sizeof *gpu);
    if (!gpu)
        return INFER_ERR_NO_MEMORY;
    gpu->alloc = model->alloc;
    gpu->device = model->device;
    gpu->ways = GPU_WAYS_DEFAULT;
    gpu->layers = base_new(&gpu->alloc, (size_t)model->hp.n_layers, sizeof *gpu->layers);
    struct upload u = {.config = config, .gpu = gpu, .kernels = device_cuda_kernels(model->device)};
    st = gpu->layers ? upload(&u) : INFER_ERR_NO_MEMORY;
    infer_status finished = device_upload_destroy(&u.copies);
    device_buffer_free(&u.stage);
    if (st == INFER_OK)
        st = finished;
    if (st != INFER_OK)
        model_gpu_destroy(&gpu);
    else
        *out = gpu;
    return st;
}

void model_gpu_destroy(struct model_gpu **gpu_ptr)
{
    struct model_gpu *gpu = *gpu_ptr;
    *gpu_ptr = NULL;
    if (!gpu)
        return;
    struct base_alloc alloc = gpu->alloc;
    device_buffer_free(&gpu->memory);
    base_free(&alloc, gpu->layers);
    base_free(&alloc, gpu);
}
