/* Gated delta networks: queries, keys and values of a row pass a convolution and move a state by
 * the delta rule; what is read from it is normalised by head, gated and projected. */
#include "model/deltanet.h"

#include "base/thread.h"
#include "model/attention.h"
#include "model/recurrent.h"
#include "model/stage.h"

#include <math.h>
#include <string.h>

/* Rows of ws->mixer. */
struct parts {
    float *qkv;          /* all queries, all keys, all values */
    float *z;            /* gates of the result */
    float *alpha, *beta; /* n_heads each */
    float *ba;           /* strengths and decays by key head, as some files have them */
    float *raw;          /* queries, keys, values, gates by key head, as some files have them */
    float *y;            /* the result; over raw */
    size_t channels, inner;
    struct model_workspace *ws;
    const struct model_layer *layer;
    int32_t by_key; /* bit 0: raw, bit 1: ba */
    int32_t tiled;
    int32_t q8;
};

static float *take(float **at, size_t floats)
{
    float *p = *at;
    *at += BASE_ALIGN_UP(floats, (size_t)BASE_CACHE_LINE / sizeof(float));
    return p;
}

static struct parts parts_of(struct model_workspace *ws, const struct model_layer *layer)
{
    const struct model_hparams *hp = &ws->model->hp;
    size_t rows = (size_t)ws->max_rows, heads = (size_t)hp->ssm_heads;
    struct parts p = {.channels = (size_t)model_recurrent_channels(hp),
                      .inner = (size_t)hp->ssm_inner,
                      .ws = ws,
                      .layer = layer};
    float *at = (float *)(void *)ws->mixer;
    p.qkv = take(&at, rows * p.channels);
    p.z = take(&at, rows * p.inner);
    p.alpha = take(&at, rows * heads);
    p.beta = take(&at, rows * heads);
    p.ba = take(&at, rows * 2 * heads);
    p.raw = p.y = take(&at, rows * (p.channels + p.inner));
    return p;
}

/* ------------------------------------------------------------ projections */

/* Key head by key head: its query, its key, the values and the gates of its value heads. */
static void part_qkvz(const struct parts *p, int32_t row)
{
    const struct model_hparams *hp = &p->ws->model->hp;
    size_t keys = (size_t)hp->ssm_groups, k_dim = (size_t)hp->ssm_state;
    size_t values = p->inner / keys, run = 2 * (k_dim + values);
    float *qkv = p->qkv + (size_t)row * p->channels, *z = p->z + (size_t)row * p->inner;
    for (size_t g = 0; g < keys; g++) {
        const float *from = p->raw + (size_t)row * keys * run + g * run;
        memcpy(qkv + g * k_dim, from, k_dim * sizeof *qkv);
        memcpy(qkv + (keys + g) * k_dim, from + k_dim, k_dim * sizeof *qkv);
        memcpy(qkv + 2 * keys * k_dim + g * values, from + 2 * k_dim, values * sizeof *qkv);
        memcpy(z + g * values, from + 2 * k_dim + values, values * sizeof *z);
    }
}

static void part_ba(const struct parts *p, int32_t row)
{
    const struct model_hparams *hp = &p->ws->model->hp;
    size_t heads = (size_t)hp->ssm_heads, keys = (size_t)hp->ssm_groups, run = heads / keys;
    for (size_t g = 0; g < keys; g++) {
        const float *from = p->ba + (size_t)row * 2 * heads + 2 * g * run;
        memcpy(p->beta + (size_t)row * heads + g * run, from, run * sizeof *from);
        memcpy(p->alpha + (size_t)row * heads + g * run, from + run, run * sizeof *from);
    }
}

static void run_part(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct parts *p = arg;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        if (p->by_key & 1)
            part_qkvz(p, i);
        if (p->by_key & 2)
            part_ba(p, i);
    }
}

static void project(struct parts *p, const struct model_batch *batch)
{
    const struct model_weight *both = model_layer_weight(p->layer, MODEL_DELTA_QKVZ);
    const struct model_weight *qkv = model_layer_weight(p->layer, MODEL_DELTA_QKV);
    const struct model_weight *z = model_layer_weight(p->layer, MODEL_DELTA_Z);
    const struct model_weight *ba = model_layer_weight(p->layer, MODEL_DELTA_BETA_ALPHA);
    const struct model_weight *beta = model_layer_weight(p->layer, MODEL_DELTA_BETA);
    const struct model_weight *alpha = model_layer_weight(p->layer, MODEL_DELTA_ALPHA);
    const struct model_weight *weights[4];
    struct stage_product products[4];
    int32_t n = 0;
    if (both->data)
        products[n++] = (struct stage_product){both, NULL, p->raw, 0};
    if (!both->data)
        products[n++] = (struct stage_product){qkv, NULL, p->qkv, 0};
    if (!both->data)
        products[n++] = (struct stage_product){z, NULL, p->z, 0};
    if (ba->data)
        products[n++] = (struct stage_product){ba, NULL, p->ba, 0};
    if (!ba->data)
        products[n++] = (struct stage_product){beta, NULL, p->beta, 0};
    if (!ba->data)
        products[n++] = (struct stage_product){alpha, NULL, p->alpha, 0};
    for (int32_t i = 0; i < n; i++)
        weights[i] = products[i].w;
    p->by_key = (both->data ? 1 : 0) | (ba->data ? 2 : 0);
    const float *x = model_mix_input(p->ws, p->layer, batch->n_rows,
                                     stage_wants_q8(p->ws, weights, n, batch->n_rows));
    stage_products(p->ws, products, n, x, batch->n_rows);
    if (p->by_key)
        base_pool_run(p->ws->pool, run_part, p, batch->n_rows, 1);
}

/* --------------------------------------------------------------- the rule */

static void run_delta(const struct model_recurrent *r, const struct model_batch_seq *seq,
                      struct model_state state, int32_t begin, int32_t end)
{
    const struct model_hparams *hp = &r->ws->model->hp;
    const struct parts *p = r->job;
    size_t row = (size_t)seq->row, heads = (size_t)hp->ssm_heads;
    size_t keys = (size_t)hp->ssm_groups * (size_t)hp->ssm_state;
    size_t per_head = p->inner / heads * (size_t)hp->ssm_state;
    const float *q = p->qkv + row * p->channels;
    if (seq->first_pos == 0)
        memset(state.scan + (size_t)begin * per_head, 0,
               (size_t)(end - begin) * per_head * sizeof *state.scan);
    struct kern_delta_args args = {
        .q = q,
        .k = q + keys,
        .qk_stride = p->channels,
        .v = q + 2 * keys,
        .v_stride = p->channels,
        .alpha = p->alpha + row * heads,
        .beta = p->beta + row * heads,
        .ab_stride = heads,
        .a = model_layer_weight(r->layer, MODEL_DELTA_A)->data,
        .dt_bias = model_layer_weight(r->layer, MODEL_SSM_DT_BIAS)->data,
        .state = state.scan,
        .y = p->y + row * p->inner,
        .y_stride = p->inner,
        .scale = 1 / sqrtf((float)hp->ssm_state),
        .eps = MODEL_DELTA_EPS,
        .n_rows = seq->n_rows,
        .n_head = hp->ssm_heads,
        .n_head_k = hp->ssm_groups,
        .k_dim = hp->ssm_state,
        .v_dim = hp->ssm_inner / hp->ssm_heads,
        .tiled = p->tiled,
    };
    r->ws->model->device->kernels.ssm.delta(&args, begin, end);
}

/* y = norm(y) * silu(z), head by head. */
static void run_gate(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct parts *p = arg;
    const struct infer_model *model = p->ws->model;
    const struct infer_kernels *kernels = &model->device->kernels;
    const float *norm = model_layer_weight(p->layer, MODEL_DELTA_NORM)->data;
    int32_t inner = model->hp.ssm_inner, dim = inner / model->hp.ssm_heads;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        float *y = p->y + (size_t)i * p->inner;
        for (int32_t at = 0; at < inner; at += dim)
            kernels->norm.rms(y + at, y + at, norm, dim, model->hp.norm_eps);
        kernels->unary.silu_mul(y, p->z + (size_t)i * p->inner, y, inner);
        if (p->q8)
            kernels->quant.act_q8(p->ws->q8 + (size_t)i * kern_act_q8_bytes(inner), y, inner);
    }
}

static void mix(struct model_workspace *ws, const struct model_batch *batch,
                const struct model_layer *layer, int32_t tiled)
{
    const struct model_weight *out = model_layer_weight(layer, MODEL_SSM_OUT);
    struct parts p = parts_of(ws, layer);
    p.tiled = tiled;
    p.q8 = stage_wants_q8(ws, &out, 1, batch->n_rows);
    project(&p, batch);
    model_recurrent_conv(ws, batch, layer, p.qkv, p.channels);
    model_recurrent_run(&(const struct model_recurrent){.ws = ws,
                                                        .batch = batch,
                                                        .layer = layer,
                                                        .run = run_delta,
                                                        .n_units = ws->model->hp.ssm_heads,
                                                        .job = &p});
    stage_rows(ws, run_gate, &p, batch->n_rows, p.inner);
    stage_join(ws, out, NULL, model_layer_weight(layer, MODEL_ATTN_POST_NORM), p.y, batch->n_rows);
}

void model_deltanet(struct model_workspace *ws, const struct model_batch *batch,
                    const struct model_layer *layer)
{
    mix(ws, batch, layer, 0);
}

void model_deltanet_tiled(struct model_workspace *ws, const struct model_batch *batch,
                          const struct model_layer *layer)
{
    mix(ws, batch, layer, 1);
}
