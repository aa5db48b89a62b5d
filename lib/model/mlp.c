/* Gated feed-forward network. */
#include "model/mlp.h"

#include "base/thread.h"

struct gate_job {
    struct model_workspace *ws;
    int32_t n_ff;
    uint8_t *q8; /* NULL: the next product takes floats */
};

static void run_gate(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct gate_job *job = arg;
    const struct infer_kernels *kernels = &job->ws->model->device->kernels;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        float *gate = job->ws->gate + (size_t)i * (size_t)job->n_ff;
        kernels->unary.silu_mul(gate, gate, job->ws->up + (size_t)i * (size_t)job->n_ff, job->n_ff);
        if (job->q8)
            kernels->quant.act_q8(job->q8 + (size_t)i * kern_act_q8_bytes(job->n_ff), gate,
                                  job->n_ff);
    }
}

void model_mlp(struct model_workspace *ws, const struct model_layer *weights, int32_t rows)
{
    const struct model_weight *gate = model_layer_weight(weights, MODEL_FFN_GATE);
    const struct model_weight *up = model_layer_weight(weights, MODEL_FFN_UP);
    const struct model_weight *down = model_layer_weight(weights, MODEL_FFN_DOWN);

    stage_norm(ws, ws->xn, ws->x, model_layer_weight(weights, MODEL_FFN_NORM), rows,
               stage_wants_q8(ws, (const struct model_weight *[]){gate, up}, 2));
    stage_products(ws,
                   (const struct stage_product[]){
                       {gate, model_layer_weight(weights, MODEL_FFN_GATE_BIAS), ws->gate, 0},
                       {up, model_layer_weight(weights, MODEL_FFN_UP_BIAS), ws->up, 0},
                   },
                   2, ws->xn, rows);

    struct gate_job job = {
        .ws = ws, .n_ff = ws->model->hp.n_ff, .q8 = stage_wants_q8(ws, &down, 1) ? ws->q8 : NULL};
    base_pool_run(ws->model->device->pool, run_gate, &job, rows, 1);
    stage_products(ws,
                   &(const struct stage_product){
                       down, model_layer_weight(weights, MODEL_FFN_DOWN_BIAS), ws->x, 1},
                   1, ws->gate, rows);
}
