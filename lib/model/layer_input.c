/* Inputs of single layers. */
#include "model/layer_input.h"

#include "base/thread.h"
#include "format/quant_layout.h"
#include "model/stage.h"

#include <math.h>

/* Elements that are dequantised at a time: whole blocks of every type. */
#define TILE 256

struct input_job {
    struct model_workspace *ws;
    const struct model_batch *batch;
    size_t layer;
    int32_t q8;
};

/* y = (y + the token's row * scale) / sqrt 2, so that the sum of two is as large as one. */
static void add_token(const struct infer_model *model, int32_t token, float scale, float *y)
{
    const struct model_weight *w = &model->weights.global[MODEL_INPUT_EMBD];
    const struct quant_layout *layout = quant_layout_of(w->type);
    kern_dequant_fn *dequant = model->device->kernels.quant.dequant[w->type];
    const uint8_t *row = (const uint8_t *)w->data + (size_t)token * w->row_bytes;
    size_t tile_bytes = TILE / (size_t)layout->block_elements * (size_t)layout->block_bytes;
    float tile[TILE];
    for (int32_t at = 0; at < w->k; at += TILE, row += tile_bytes) {
        int32_t n = BASE_MIN(TILE, w->k - at);
        dequant(tile, row, n);
        for (int32_t i = 0; i < n; i++)
            y[at + i] = (y[at + i] + tile[i] * scale) * (float)M_SQRT1_2;
    }
}

static void run_inputs(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct input_job *job = arg;
    const struct infer_model *model = job->ws->model;
    const struct model_hparams *hp = &model->hp;
    const float *weights = model->weights.global[MODEL_INPUT_NORM].data;
    int32_t n = hp->n_input, all = n * hp->n_layers;
    /* The product is to be divided by sqrt(n_embd). The norm undoes any factor, but for eps. */
    float eps = hp->norm_eps * (float)hp->n_embd, scale = sqrtf((float)n);
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        float *y = job->ws->inputs + (size_t)i * (size_t)all;
        for (int32_t at = 0; at < all; at += n)
            model->device->kernels.norm.rms(y + at, y + at, weights, n, eps);
        add_token(model, job->batch->tokens[i], scale, y);
    }
}

void model_layer_inputs(struct model_workspace *ws, const struct model_batch *batch)
{
    const struct model_weight *proj = &ws->model->weights.global[MODEL_INPUT_PROJ];
    struct input_job job = {.ws = ws, .batch = batch};
    if (stage_wants_q8(ws, &proj, 1, batch->n_rows))
        stage_quantize(ws, ws->x, proj->k, batch->n_rows);
    stage_products(ws, &(const struct stage_product){proj, NULL, ws->inputs, 0}, 1, ws->x,
                   batch->n_rows);
    stage_rows(ws, run_inputs, &job, batch->n_rows, (size_t)proj->n);
}

/* The layer's gate times its inputs. */
static void run_gate(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct input_job *job = arg;
    struct model_workspace *ws = job->ws;
    size_t n = (size_t)ws->model->hp.n_input, all = n * (size_t)ws->model->hp.n_layers;
    kern_gate_fn *act = stage_act(ws);
    BASE_UNUSED(thread);
    for (size_t i = (size_t)begin; i < (size_t)end; i++) {
        float *y = ws->gate + i * n;
        act(y, y, ws->inputs + i * all + job->layer * n, (int32_t)n);
        if (job->q8)
            ws->model->device->kernels.quant.act_q8(ws->q8 + i * kern_act_q8_bytes((int32_t)n), y,
                                                    (int32_t)n);
    }
}

void model_layer_input_add(struct model_workspace *ws, int32_t at, int32_t rows)
{
    const struct model_layer *layer = &ws->model->weights.layers[at];
    const struct model_weight *gate = model_layer_weight(layer, MODEL_LAYER_GATE);
    const struct model_weight *proj = model_layer_weight(layer, MODEL_LAYER_PROJ);
    struct input_job job = {
        .ws = ws, .layer = (size_t)at, .q8 = stage_wants_q8(ws, &proj, 1, rows)};
    if (stage_wants_q8(ws, &gate, 1, rows))
        stage_quantize(ws, ws->x, gate->k, rows);
    stage_products(ws, &(const struct stage_product){gate, NULL, ws->gate, 0}, 1, ws->x, rows);
    stage_rows(ws, run_gate, &job, rows, (size_t)gate->n);
    stage_join(ws, proj, NULL, model_layer_weight(layer, MODEL_LAYER_NORM), ws->gate, rows);
}

struct scale_job {
    float *x, factor;
    int32_t n;
};

static void run_scale(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct scale_job *job = arg;
    BASE_UNUSED(thread);
    for (size_t i = (size_t)begin * (size_t)job->n; i < (size_t)end * (size_t)job->n; i++)
        job->x[i] *= job->factor;
}

void model_layer_scale(struct model_workspace *ws, const struct model_layer *layer, int32_t rows)
{
    const float *factor = model_layer_weight(layer, MODEL_LAYER_SCALE)->data;
    if (!factor)
        return;
    struct scale_job job = {ws->x, *factor, ws->model->hp.n_embd};
    stage_rows(ws, run_scale, &job, rows, (size_t)job.n);
}
