/* Mamba 2: one projection gives gates z, inputs x, B, C and time steps of a row; x, B and C pass
 * a convolution, the scan makes y of them, which is gated, normalised by group and projected. */
#include "model/mamba.h"

#include "base/thread.h"
#include "model/attention.h"
#include "model/recurrent.h"
#include "model/stage.h"

#include <string.h>

/* Rows of ws->mixer: z, x, B, C, time steps as the projection gives them; then the result. */
struct parts {
    float *in, *y;
    size_t in_row, inner;
    struct model_workspace *ws;
    const struct model_layer *layer;
    int32_t q8; /* the result is quantised for the last product */
};

static void run_scan(const struct model_recurrent *r, const struct model_batch_seq *seq,
                     struct model_state state, int32_t begin, int32_t end)
{
    const struct model_hparams *hp = &r->ws->model->hp;
    const struct parts *p = r->job;
    size_t inner = p->inner, bc = (size_t)hp->ssm_groups * (size_t)hp->ssm_state;
    size_t per_head = inner / (size_t)hp->ssm_heads * (size_t)hp->ssm_state;
    const float *x = p->in + (size_t)seq->row * p->in_row + inner;
    if (seq->first_pos == 0)
        memset(state.scan + (size_t)begin * per_head, 0,
               (size_t)(end - begin) * per_head * sizeof *state.scan);
    struct kern_scan_args args = {
        .x = x,
        .x_stride = p->in_row,
        .dt = x + inner + 2 * bc,
        .dt_stride = p->in_row,
        .b = x + inner,
        .c = x + inner + bc,
        .bc_stride = p->in_row,
        .a = model_layer_weight(r->layer, MODEL_SSM_A)->data,
        .d = model_layer_weight(r->layer, MODEL_SSM_D)->data,
        .dt_bias = model_layer_weight(r->layer, MODEL_SSM_DT_BIAS)->data,
        .state = state.scan,
        .y = p->y + (size_t)seq->row * inner,
        .y_stride = inner,
        .n_rows = seq->n_rows,
        .n_head = hp->ssm_heads,
        .n_group = hp->ssm_groups,
        .head_dim = hp->ssm_inner / hp->ssm_heads,
        .d_state = hp->ssm_state,
    };
    r->ws->model->device->kernels.ssm.scan(&args, begin, end);
}

/* y = norm(y * silu(z)), group by group. */
static void run_gate(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct parts *p = arg;
    const struct infer_model *model = p->ws->model;
    const struct infer_kernels *kernels = &model->device->kernels;
    const struct model_weight *norm = model_layer_weight(p->layer, MODEL_SSM_NORM);
    int32_t inner = model->hp.ssm_inner, group = inner / model->hp.ssm_groups;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        float *y = p->y + (size_t)i * p->inner;
        kernels->unary.silu_mul(y, p->in + (size_t)i * p->in_row, y, inner);
        for (int32_t at = 0; norm->data && at < inner; at += group)
            kernels->norm.rms(y + at, y + at, (const float *)norm->data + at, group,
                              model->hp.norm_eps);
        if (p->q8)
            kernels->quant.act_q8(p->ws->q8 + (size_t)i * kern_act_q8_bytes(inner), y, inner);
    }
}

void model_mamba2(struct model_workspace *ws, const struct model_batch *batch,
                  const struct model_layer *layer)
{
    const struct model_weight *in = model_layer_weight(layer, MODEL_SSM_IN);
    const struct model_weight *out = model_layer_weight(layer, MODEL_SSM_OUT);
    struct parts p = {.in = (float *)(void *)ws->mixer,
                      .in_row = (size_t)in->n,
                      .inner = (size_t)ws->model->hp.ssm_inner,
                      .ws = ws,
                      .layer = layer,
                      .q8 = stage_wants_q8(ws, &out, 1, batch->n_rows)};
    int32_t rows = batch->n_rows;
    p.y = p.in + BASE_ALIGN_UP((size_t)ws->max_rows * p.in_row, (size_t)16);
    const float *x = model_mix_input(ws, layer, rows, stage_wants_q8(ws, &in, 1, rows));
    stage_products(ws, &(const struct stage_product){in, NULL, p.in, 0}, 1, x, rows);
    model_recurrent_conv(ws, batch, layer, p.in + p.inner, p.in_row);
    model_recurrent_run(&(const struct model_recurrent){.ws = ws,
                                                        .batch = batch,
                                                        .layer = layer,
                                                        .run = run_scan,
                                                        .n_units = ws->model->hp.ssm_heads,
                                                        .job = &p});
    stage_rows(ws, run_gate, &p, rows, p.inner);
    stage_join(ws, out, NULL, model_layer_weight(layer, MODEL_ATTN_POST_NORM), p.y, rows);
}
