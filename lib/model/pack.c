/* Packing of weights. */
#include "model/pack.h"

#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

#include <infer/log.h>
#include <string.h>

/* Of a model: those that rows are looked up in, and fused ones, whose parts are packed, stay. */
static int is_product(enum model_role role)
{
    return role == MODEL_OUTPUT || role == MODEL_INPUT_PROJ ||
           (role >= MODEL_LAYER_FIRST && role != MODEL_ATTN_QKV && role != MODEL_FFN_GATE_UP &&
            role != MODEL_EXPERT_GATE_UP);
}

/* Types whose products gain. BF16 may have kernels for rows of BF16, which read plain weights. */
static int is_wanted(const struct model_pack_config *config, infer_dtype type)
{
    const struct kern_gemm *gemm = &config->device->kernels.gemm;
    int always = config->how == INFER_PACK_ON;
    if (gemm->act[type] == KERN_ACT_Q8)
        return always || gemm->packed_is_faster;
    return config->floats && !gemm->bf16_rows[type] && (always || gemm->packed_floats_are_faster);
}

/* Weights that were made at load, and not mapped, would stay in memory beside their copy. */
static int is_packable(const struct model_pack_config *config, const struct model_weight *w)
{
    const void *first = w->matrices ? w->matrices[0] : w->data;
    return w->data && w->n >= KERN_PACK_ROWS && kern_pack_layout_of(w->type) &&
           is_wanted(config, w->type) &&
           (config->how == INFER_PACK_ON || gguf_is_mapped(config->file, first, w->row_bytes));
}

static size_t matrix_bytes(const struct model_weight *w)
{
    return BASE_ALIGN_UP((size_t)w->n * w->row_bytes, (size_t)BASE_CACHE_LINE);
}

/* Where packing has come to. */
struct packing {
    const struct model_pack_config *config;
    uint8_t *to;
    size_t all, done; /* bytes */
};

typedef infer_status visit_fn(struct packing *p, struct model_weight *w);

static infer_status visit(struct packing *p, struct model_weights *weights, visit_fn *fn)
{
    infer_status st = INFER_OK;
    for (int32_t role = 0; role < MODEL_LAYER_FIRST && st == INFER_OK; role++)
        if (is_product((enum model_role)role) && is_packable(p->config, &weights->global[role]))
            st = fn(p, &weights->global[role]);
    for (int32_t i = 0; i < p->config->n_layers; i++)
        for (int32_t role = MODEL_LAYER_FIRST; role < MODEL_ROLES && st == INFER_OK; role++) {
            struct model_weight *w = &weights->layers[i].w[role - MODEL_LAYER_FIRST];
            if (is_product((enum model_role)role) && is_packable(p->config, w))
                st = fn(p, w);
        }
    return st;
}

static infer_status count(struct packing *p, struct model_weight *w)
{
    p->all += (size_t)w->n_matrices * matrix_bytes(w);
    return INFER_OK;
}

/* The copy takes the place of pages that the system could have dropped. */
static int has_room(struct infer_device *device, size_t bytes)
{
    uint64_t total = 0, free = 0;
    return device->ops->memory(device, &total, &free) != INFER_OK || !free || bytes < free;
}

/* ------------------------------------------------------------- one matrix */

struct groups_job {
    const struct kern_quant *quant;
    const struct model_weight *w;
    const uint8_t *from;
    uint8_t *to;
};

static void run_groups(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct groups_job *job = arg;
    const struct model_weight *w = job->w;
    const struct kern_pack_layout *layout = kern_pack_layout_of(w->type);
    BASE_UNUSED(thread);
    for (int32_t g = begin; g < end; g++) {
        size_t at = (size_t)g * KERN_PACK_ROWS * w->row_bytes;
        job->quant->pack(job->to + at, job->from + at, w->row_bytes, layout,
                         w->k / layout->block_elements);
    }
}

static infer_status pack_matrix(struct packing *p, const struct model_weight *w, const void *from)
{
    struct infer_device *device = p->config->device;
    struct groups_job job = {&device->kernels.quant, w, from, p->to + p->done};
    int32_t n_groups = w->n / KERN_PACK_ROWS;
    size_t whole = (size_t)n_groups * KERN_PACK_ROWS * w->row_bytes;
    size_t bytes = (size_t)w->n * w->row_bytes;
    base_pool_run(device->pool, run_groups, &job, n_groups, 1);
    memcpy(job.to + whole, job.from + whole, bytes - whole);
    gguf_forget_pages(p->config->file, from, bytes);
    p->done += matrix_bytes(w);
    return p->config->report(p->config->report_arg, (double)p->done / (double)p->all);
}

static infer_status pack_weight(struct packing *p, struct model_weight *w)
{
    const void **matrices = NULL;
    if (w->matrices) {
        matrices = base_arena_new(p->config->arena, (size_t)w->n_matrices, sizeof *matrices);
        if (!matrices)
            return INFER_ERR_NO_MEMORY;
    }
    const uint8_t *first = p->to + p->done;
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < w->n_matrices && st == INFER_OK; i++) {
        if (matrices)
            matrices[i] = p->to + p->done;
        st = pack_matrix(p, w, w->matrices ? w->matrices[i] : w->data);
    }
    w->data = first;
    w->matrices = matrices;
    w->packed = 1;
    return st;
}

/* --------------------------------------------------------------- one row */

/* Elements that are unpacked at a time: whole blocks of every type. */
#define TILE 256

void model_weight_row(const struct infer_kernels *kernels, const struct model_weight *w,
                      int32_t row, float *out)
{
    int32_t in_group = row % KERN_PACK_ROWS, group = row - in_group;
    const uint8_t *data = w->data;
    kern_dequant_fn *dequant = kernels->quant.dequant[w->type];
    if (!w->packed || group + KERN_PACK_ROWS > w->n) {
        dequant(out, data + (size_t)row * w->row_bytes, w->k);
        return;
    }
    const struct kern_pack_layout *layout = kern_pack_layout_of(w->type);
    uint8_t tile[TILE * sizeof(float)];
    data += (size_t)group * w->row_bytes;
    for (int32_t at = 0; at < w->k; at += TILE) {
        int32_t n = BASE_MIN(TILE, w->k - at), n_blocks = n / layout->block_elements;
        kernels->quant.unpack(tile, data, in_group, layout, n_blocks);
        dequant(out + at, tile, n);
        data += (size_t)KERN_PACK_ROWS * (size_t)n_blocks * layout->block_bytes;
    }
}

/* -------------------------------------------------------------- the model */

infer_status model_pack(struct device_buffer *out, struct model_weights *weights,
                        const struct model_pack_config *config)
{
    struct packing p = {.config = config};
    struct model_weight *embd = &weights->global[MODEL_TOKEN_EMBD];
    struct model_weight *output = &weights->global[MODEL_OUTPUT];
    int tied = embd->data && embd->data == output->data;
    if (config->how == INFER_PACK_OFF)
        return INFER_OK;
    visit(&p, weights, count);
    if (!p.all)
        return INFER_OK;
    infer_status st = config->how == INFER_PACK_AUTO && !has_room(config->device, p.all)
                          ? INFER_ERR_NO_MEMORY
                          : device_buffer_alloc(config->device, DEVICE_WEIGHTS, p.all, out);
    if (st != INFER_OK && config->how == INFER_PACK_AUTO) {
        base_log(INFER_LOG_INFO, "no room to pack %zu bytes of weights: they stay as they are",
                 p.all);
        return INFER_OK;
    }
    if (st != INFER_OK)
        return st;
    p.to = out->data;
    st = visit(&p, weights, pack_weight);
    if (tied)
        *embd = *output;
    return st;
}
