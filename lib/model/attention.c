/* Attention over paged keys and values. */
#include "model/attention.h"

#include "base/thread.h"
#include "model/stage.h"

#include <math.h>
#include <string.h>

/* Query vectors (rows times query heads of a KV head) that one work item takes: enough to reuse a
 * tile of keys. */
#define ITEM_VECTORS 64

uint8_t *model_kv_slot(const struct model_kv_view *kv, const struct model_batch_seq *seq,
                       const struct model_layer *layer, int32_t position, int32_t head, int is_v)
{
    int32_t block = seq->blocks[layer->kv_group][position / kv->block_tokens];
    return kv->base + (size_t)block * kv->block_stride + (size_t)layer->kv_at * kv->layer_stride +
           (is_v ? kv->v_offset : 0) +
           ((size_t)head * (size_t)kv->block_tokens + (size_t)(position % kv->block_tokens)) *
               (is_v ? kv->v_slot : kv->k_slot);
}

/* ------------------------------------------------- queries, keys and values */

struct store_job {
    struct model_workspace *ws;
    const struct model_batch *batch;
    const struct model_layer *layer;
    size_t q_row;
};

/* Normalises the heads of one row, with weights for all heads, each head, or the whole row. */
static void norm_heads(const struct model_workspace *ws, const struct model_weight *w, float *x,
                       int32_t n_heads, int32_t head_dim)
{
    const struct kern_norm *norm = &ws->model->device->kernels.norm;
    float eps = ws->model->hp.norm_eps;
    int32_t n = w->data && w->n == 1 ? w->k : head_dim;
    for (int32_t at = 0, h = 0; at < n_heads * head_dim; at += n, h++) {
        const float *weights = w->data ? (const float *)w->data + (w->n > 1 ? h * n : 0) : NULL;
        if (ws->model->arch->norm == MODEL_NORM_LAYER)
            norm->layer(x + at, x + at, weights, NULL, n, eps);
        else
            norm->rms(x + at, x + at, weights, n, eps);
    }
}

/* Moves the gates behind the heads: head, gate, head, gate ... becomes heads, gates. */
static void part_gates(const struct store_job *job, float *q, float *gates)
{
    size_t d = (size_t)job->layer->head_dim;
    for (size_t h = 0; h < (size_t)job->layer->n_heads; h++) {
        memcpy(gates + h * d, q + (2 * h + 1) * d, d * sizeof *q);
        memmove(q + h * d, q + 2 * h * d, d * sizeof *q);
    }
}

static void grow(const struct store_job *job, float *q, int32_t position)
{
    const struct model_hparams *hp = &job->ws->model->hp;
    double turns =
        floor((double)(position + hp->temperature_offset) / BASE_MAX(hp->temperature_length, 1));
    float factor = (float)(1 + (double)hp->temperature_scale * log1p(turns));
    for (int32_t i = 0; i < job->layer->n_heads * job->layer->head_dim; i++)
        q[i] *= factor;
}

static void rotate_heads(const struct store_job *job, float *x, int32_t n_heads)
{
    int32_t dim = job->layer->head_dim;
    for (int32_t h = 0; h < n_heads; h++)
        job->ws->model->device->kernels.attn.rotate(x + (size_t)h * (size_t)dim, dim);
}

static void shape_row(const struct store_job *job, float *q, float *k, int32_t row,
                      int32_t position)
{
    struct model_workspace *ws = job->ws;
    const struct model_layer *l = job->layer;
    const struct model_weight *q_norm = model_layer_weight(l, MODEL_ATTN_Q_NORM);
    const struct model_weight *k_norm = model_layer_weight(l, MODEL_ATTN_K_NORM);
    const struct kern_rope *ropes = &ws->model->device->kernels.rope;
    kern_rope_fn *rope = ws->model->arch->rope == MODEL_ROPE_PAIRS ? ropes->pairs : ropes->halves;
    int late = (ws->model->arch->traits & MODEL_NORM_AFTER_ROPE) != 0;
    int unit = ws->model->hp.qk_unit && l->rope >= 0;
    int32_t n_heads_kv = l->reads_kv ? 0 : l->n_heads_kv;
    if (q_norm->data && !late)
        norm_heads(ws, q_norm, q, l->n_heads, l->head_dim);
    if (k_norm->data && !late)
        norm_heads(ws, k_norm, k, n_heads_kv, l->head_dim);
    if (l->rope >= 0) {
        const float *cs = ws->rope[l->rope] + (size_t)row * (size_t)l->n_rot;
        rope(q, l->n_heads, l->head_dim, l->n_rot, cs);
        rope(k, n_heads_kv, l->head_dim, l->n_rot, cs);
    }
    if ((q_norm->data && late) || unit)
        norm_heads(ws, q_norm, q, l->n_heads, l->head_dim);
    if ((k_norm->data && late) || unit)
        norm_heads(ws, k_norm, k, n_heads_kv, l->head_dim);
    if (l->grows)
        grow(job, q, position);
    if (job->batch->kv[l->kv_group].rotated) {
        rotate_heads(job, q, l->n_heads);
        rotate_heads(job, k, n_heads_kv);
    }
}

static void store_row(const struct store_job *job, const struct model_batch_seq *seq, int32_t row)
{
    static const struct model_weight none;
    struct model_workspace *ws = job->ws;
    const struct model_layer *l = job->layer;
    const struct model_kv_view *kv = &job->batch->kv[l->kv_group];
    kern_narrow_fn *narrow = ws->model->device->kernels.quant.narrow[kv->type];
    size_t dk = (size_t)l->head_dim, dv = (size_t)l->head_dim_v;
    float *q = ws->q + (size_t)row * job->q_row;
    float *k = ws->k + (size_t)row * (size_t)l->n_heads_kv * dk;
    float *v = ws->v + (size_t)row * (size_t)l->n_heads_kv * dv;
    int32_t position = seq->first_pos + row - seq->row;
    if (ws->model->arch->traits & MODEL_QUERY_GATE)
        part_gates(job, q, ws->q_gate + (size_t)row * (size_t)l->n_heads * dk);
    if (!model_layer_weight(l, MODEL_ATTN_V)->data && !l->reads_kv)
        memcpy(v, k, (size_t)l->n_heads_kv * dk * sizeof *v);
    shape_row(job, q, k, row, position);
    if (l->reads_kv)
        return;
    if (ws->model->arch->traits & MODEL_VALUE_NORM)
        norm_heads(ws, &none, v, l->n_heads_kv, l->head_dim_v);
    for (int32_t h = 0; h < l->n_heads_kv; h++) {
        narrow(model_kv_slot(kv, seq, l, position, h, 0), k + (size_t)h * dk, l->head_dim);
        narrow(model_kv_slot(kv, seq, l, position, h, 1), v + (size_t)h * dv, l->head_dim_v);
    }
}

static void run_store(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct store_job *job = arg;
    BASE_UNUSED(thread);
    for (int32_t s = 0; s < job->batch->n_seqs; s++) {
        const struct model_batch_seq *seq = &job->batch->seqs[s];
        int32_t b = BASE_MAX(begin, seq->row), e = BASE_MIN(end, seq->row + seq->n_rows);
        for (int32_t row = b; row < e; row++)
            store_row(job, seq, row);
    }
}

/* ------------------------------------------------------------------ attend */

struct attend_job {
    struct model_workspace *ws;
    const struct model_batch *batch;
    const struct model_attend *a;
    int32_t group;    /* query heads of a KV head */
    int32_t per_item; /* vectors */
    int32_t n_items;  /* under each KV head */
};

static int32_t items_of(const struct attend_job *job, const struct model_batch_seq *seq)
{
    return BASE_DIV_UP(seq->n_rows * job->group, job->per_item);
}

/* One item is some query vectors of one sequence under one KV head. */
static void run_item(const struct attend_job *job, const struct model_batch_seq *seq, int32_t head,
                     int32_t item)
{
    const struct model_workspace *ws = job->ws;
    const struct model_attend *a = job->a;
    const struct model_layer *l = a->layer;
    const struct model_kv_view *kv = &job->batch->kv[l->kv_group];
    size_t out_row = (size_t)a->n_heads * (size_t)a->head_dim_v;
    const uint8_t *k = kv->base + (size_t)l->kv_at * kv->layer_stride;
    struct kern_attn_args args = {
        .q = a->q + (size_t)seq->row * a->q_stride,
        .q_stride = a->q_stride,
        .out = a->out + (size_t)seq->row * out_row,
        .out_stride = out_row,
        .k = k,
        .v = a->shared ? k : k + kv->v_offset,
        .block_stride = kv->block_stride,
        .blocks = seq->blocks[l->kv_group],
        .block_tokens = kv->block_tokens,
        .first_pos = seq->first_pos,
        .n_head = a->n_heads,
        .n_head_kv = a->n_heads_kv,
        .head_dim = a->head_dim,
        .head_dim_v = a->head_dim_v,
        .k_slot = kv->k_slot,
        .v_slot = a->shared ? kv->k_slot : kv->v_slot,
        .window = l->window,
        .chunk = l->chunk,
        .scale = l->attn_scale,
        .softcap = ws->model->hp.attn_softcap,
        .sinks = a->sinks,
    };
    int32_t begin = item * job->per_item;
    int32_t end = BASE_MIN(begin + job->per_item, seq->n_rows * job->group);
    ws->model->device->kernels.attn.paged[kv->type](&args, head, begin, end);
}

/* The vectors that an item has finished: their gates, and their blocks of the quantised rows. */
static void finish_item(const struct attend_job *job, const struct model_batch_seq *seq,
                        int32_t head, int32_t item)
{
    const struct model_attend *a = job->a;
    const struct infer_kernels *kernels = &job->ws->model->device->kernels;
    int32_t row = a->n_heads * a->head_dim_v, first = head * job->group;
    int32_t end = BASE_MIN((item + 1) * job->per_item, seq->n_rows * job->group);
    for (int32_t v = item * job->per_item, n; (a->gates || a->q8) && v < end; v += n) {
        n = BASE_MIN(end - v, job->group - v % job->group);
        size_t i = (size_t)(seq->row + v / job->group);
        int32_t at = (first + v % job->group) * a->head_dim_v, width = n * a->head_dim_v;
        float *out = a->out + i * (size_t)row;
        if (a->gates)
            kernels->unary.sigmoid_mul(out + at, a->gates + i * (size_t)row + at, out + at, width);
        if (a->q8)
            kernels->quant.act_q8_part(a->q8 + i * kern_act_q8_bytes(row), out, row, at,
                                       at + width);
    }
}

/* Items are ordered by head, then by sequence. Later rows see more: first and last, second and
 * second to last ... of a sequence are neighbours, so that any part of a few has its share. */
static void run_attend(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct attend_job *job = arg;
    BASE_UNUSED(thread);
    int32_t at = begin;
    while (at < end) {
        int32_t head = at / job->n_items, first = head * job->n_items;
        for (int32_t s = 0; s < job->batch->n_seqs && at < end; s++) {
            const struct model_batch_seq *seq = &job->batch->seqs[s];
            int32_t n = items_of(job, seq);
            for (; at < end && at < first + n; at++) {
                int32_t i = at - first, item = i % 2 ? n - 1 - i / 2 : i / 2;
                run_item(job, seq, head, item);
                finish_item(job, seq, head, item);
            }
            first += n;
        }
    }
}

static void count_items(struct attend_job *job)
{
    job->n_items = 0;
    for (int32_t s = 0; s < job->batch->n_seqs; s++)
        job->n_items += items_of(job, &job->batch->seqs[s]);
}

void model_attend(struct model_workspace *ws, const struct model_batch *batch,
                  const struct model_attend *attend)
{
    struct attend_job job = {.ws = ws,
                             .batch = batch,
                             .a = attend,
                             .group = attend->n_heads / attend->n_heads_kv,
                             .per_item = ITEM_VECTORS};
    count_items(&job);
    /* Few rows under few KV heads: threads part the query heads, whose results do not depend on
     * each other, and share what they read in the last-level cache. */
    while (job.n_items * attend->n_heads_kv < base_pool_threads(ws->pool) && job.per_item > 1) {
        job.per_item = BASE_DIV_UP(job.per_item, 2);
        count_items(&job);
    }
    base_pool_run(ws->pool, run_attend, &job, job.n_items * attend->n_heads_kv, 1);
}

/* --------------------------------------------------------------- the mixer */

const float *model_mix_input(struct model_workspace *ws, const struct model_layer *layer,
                             int32_t rows, int q8)
{
    const struct model_weight *norm = model_layer_weight(layer, MODEL_ATTN_NORM);
    const struct model_weight *bias = model_layer_weight(layer, MODEL_ATTN_NORM_BIAS);
    const struct model_weight *own = model_layer_weight(layer, MODEL_ATTN_NORM_2);
    const struct model_weight *ffn = model_layer_weight(layer, MODEL_FFN_NORM);
    if (ws->parallel && ffn->data)
        stage_norm(ws, ws->parallel, ws->x, ffn, model_layer_weight(layer, MODEL_FFN_NORM_BIAS),
                   rows, 0);
    else if (ws->parallel)
        stage_norm(ws, ws->parallel, ws->x, norm, bias, rows, 0);
    if (own->data) {
        norm = own;
        bias = model_layer_weight(layer, MODEL_ATTN_NORM_2_BIAS);
    }
    stage_norm(ws, ws->xn, ws->x, norm, bias, rows, q8);
    return norm->data ? ws->xn : ws->x;
}

void model_attention(struct model_workspace *ws, const struct model_batch *batch,
                     const struct model_layer *layer)
{
    const struct model_weight *wq = model_layer_weight(layer, MODEL_ATTN_Q);
    const struct model_weight *wk = model_layer_weight(layer, MODEL_ATTN_K);
    const struct model_weight *wv = model_layer_weight(layer, MODEL_ATTN_V);
    const struct model_weight *wo = model_layer_weight(layer, MODEL_ATTN_OUT);
    const struct stage_product products[] = {
        {wq, model_layer_weight(layer, MODEL_ATTN_Q_BIAS), ws->q, 0},
        {wk, model_layer_weight(layer, MODEL_ATTN_K_BIAS), ws->k, 0},
        {wv, model_layer_weight(layer, MODEL_ATTN_V_BIAS), ws->v, 0},
    };
    int32_t rows = batch->n_rows, n_products = layer->reads_kv ? 1 : wv->data ? 3 : 2;
    int gated = (ws->model->arch->traits & MODEL_QUERY_GATE) != 0;
    int out_q8 = stage_wants_q8(ws, &wo, 1, rows);
    /* Whether each head is whole blocks of the output's rows. */
    int whole = layer->head_dim_v % 32 == 0;
    const float *x = model_mix_input(
        ws, layer, rows,
        stage_wants_q8(ws, (const struct model_weight *[]){wq, wk, wv}, n_products, rows));
    stage_products(ws, products, n_products, x, rows);

    struct store_job store = {ws, batch, layer, (size_t)wq->n};
    stage_rows(ws, run_store, &store, rows,
               (size_t)(wq->n + 2 * layer->n_heads_kv * layer->head_dim));
    model_attend(ws, batch,
                 &(const struct model_attend){
                     .layer = layer,
                     .q = ws->q,
                     .q_stride = (size_t)wq->n,
                     .out = ws->attn,
                     .gates = gated ? ws->q_gate : NULL,
                     .q8 = out_q8 && whole ? ws->q8 : NULL,
                     .sinks = model_layer_weight(layer, MODEL_ATTN_SINKS)->data,
                     .n_heads = layer->n_heads,
                     .n_heads_kv = layer->n_heads_kv,
                     .head_dim = layer->head_dim,
                     .head_dim_v = layer->head_dim_v,
                 });
    if (out_q8 && !whole)
        stage_quantize(ws, ws->attn, wo->k, rows);
    stage_join(ws, wo, model_layer_weight(layer, MODEL_ATTN_OUT_BIAS),
               model_layer_weight(layer, MODEL_ATTN_POST_NORM), ws->attn, rows);
}
