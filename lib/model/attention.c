/* Attention over paged keys and values. */
#include "model/attention.h"

#include "base/thread.h"

#include <math.h>

/* Query rows that one work item takes: enough to reuse a tile of keys. */
#define ROW_TILE 16

struct attn_job {
    struct model_workspace *ws;
    const struct model_batch *batch;
    const struct model_kv_view *kv;
    int32_t group, layer, n_tiles;
};

/* Rotates queries and keys of rows begin .. end - 1 and stores keys and values. */
static void store_rows(const struct attn_job *job, const struct model_batch_seq *seq, int32_t begin,
                       int32_t end)
{
    struct model_workspace *ws = job->ws;
    const struct infer_kernels *kernels = &ws->model->device->kernels;
    const struct model_hparams *hp = &ws->model->hp;
    const struct model_kv_view *kv = job->kv;
    kern_rope_fn *rope =
        ws->model->arch->rope == MODEL_ROPE_PAIRS ? kernels->rope.pairs : kernels->rope.halves;
    kern_narrow_fn *narrow = kernels->quant.narrow[kv->type];
    size_t q_row = (size_t)hp->n_heads * (size_t)hp->head_dim;
    size_t kv_row = (size_t)hp->n_heads_kv * (size_t)hp->head_dim;
    size_t slot_bytes = (size_t)hp->head_dim * (kv->type == INFER_DTYPE_F32 ? 4 : 2);
    for (int32_t row = begin; row < end; row++) {
        const float *cs = ws->rope + (size_t)row * (size_t)hp->n_rot;
        float *k = ws->k + (size_t)row * kv_row, *v = ws->v + (size_t)row * kv_row;
        rope(ws->q + (size_t)row * q_row, hp->n_heads, hp->head_dim, hp->n_rot, cs);
        rope(k, hp->n_heads_kv, hp->head_dim, hp->n_rot, cs);
        int32_t pos = seq->first_pos + row - seq->row;
        int32_t block = seq->blocks[job->group][pos / kv->block_tokens];
        uint8_t *at = kv->base + (size_t)block * kv->block_stride +
                      (size_t)job->layer * kv->layer_stride +
                      (size_t)(pos % kv->block_tokens) * slot_bytes;
        for (int32_t h = 0; h < hp->n_heads_kv; h++) {
            size_t head = (size_t)h * (size_t)kv->block_tokens * slot_bytes;
            narrow(at + head, k + (size_t)h * (size_t)hp->head_dim, hp->head_dim);
            narrow(at + kv->v_offset + head, v + (size_t)h * (size_t)hp->head_dim, hp->head_dim);
        }
    }
}

static void run_store(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct attn_job *job = arg;
    BASE_UNUSED(thread);
    for (int32_t s = 0; s < job->batch->n_seqs; s++) {
        const struct model_batch_seq *seq = &job->batch->seqs[s];
        int32_t b = BASE_MAX(begin, seq->row), e = BASE_MIN(end, seq->row + seq->n_rows);
        if (b < e)
            store_rows(job, seq, b, e);
    }
}

/* One item is a tile of query rows of one sequence under one KV head. */
static void run_item(const struct attn_job *job, const struct model_batch_seq *seq, int32_t head,
                     int32_t tile)
{
    const struct model_workspace *ws = job->ws;
    const struct model_hparams *hp = &ws->model->hp;
    size_t q_row = (size_t)hp->n_heads * (size_t)hp->head_dim;
    const uint8_t *k = job->kv->base + (size_t)job->layer * job->kv->layer_stride;
    struct kern_attn_args args = {
        .q = ws->q + (size_t)seq->row * q_row,
        .q_stride = q_row,
        .out = ws->attn + (size_t)seq->row * q_row,
        .out_stride = q_row,
        .k = k,
        .v = k + job->kv->v_offset,
        .block_stride = job->kv->block_stride,
        .blocks = seq->blocks[job->group],
        .block_tokens = job->kv->block_tokens,
        .first_pos = seq->first_pos,
        .n_head = hp->n_heads,
        .n_head_kv = hp->n_heads_kv,
        .head_dim = hp->head_dim,
        .window = ws->model->kv_groups[job->group].window,
        .scale = 1.0f / sqrtf((float)hp->head_dim),
    };
    int32_t begin = tile * ROW_TILE, end = BASE_MIN(begin + ROW_TILE, seq->n_rows);
    ws->model->device->kernels.attn.paged[job->kv->type](&args, head, begin, end);
}

/* Items are ordered by head, then by tile: threads get different heads, which
 * cost the same, rather than early and late rows, which do not. */
static void run_attention(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct attn_job *job = arg;
    BASE_UNUSED(thread);
    int32_t item = begin;
    while (item < end) {
        int32_t head = item / job->n_tiles, first = head * job->n_tiles;
        for (int32_t s = 0; s < job->batch->n_seqs && item < end; s++) {
            const struct model_batch_seq *seq = &job->batch->seqs[s];
            int32_t tiles = BASE_DIV_UP(seq->n_rows, ROW_TILE);
            for (; item < end && item < first + tiles; item++)
                run_item(job, seq, head, item - first);
            first += tiles;
        }
    }
}

void model_attention(struct model_workspace *ws, const struct model_batch *batch,
                     const struct model_layer *weights, int32_t group, int32_t layer)
{
    const struct model_weight *wq = model_layer_weight(weights, MODEL_ATTN_Q);
    const struct model_weight *wk = model_layer_weight(weights, MODEL_ATTN_K);
    const struct model_weight *wv = model_layer_weight(weights, MODEL_ATTN_V);
    const struct model_weight *wo = model_layer_weight(weights, MODEL_ATTN_OUT);
    struct base_pool *pool = ws->model->device->pool;
    int32_t rows = batch->n_rows;

    stage_norm(ws, ws->xn, ws->x, model_layer_weight(weights, MODEL_ATTN_NORM), rows,
               stage_wants_q8(ws, (const struct model_weight *[]){wq, wk, wv}, 3));
    stage_products(ws,
                   (const struct stage_product[]){
                       {wq, model_layer_weight(weights, MODEL_ATTN_Q_BIAS), ws->q, 0},
                       {wk, model_layer_weight(weights, MODEL_ATTN_K_BIAS), ws->k, 0},
                       {wv, model_layer_weight(weights, MODEL_ATTN_V_BIAS), ws->v, 0},
                   },
                   3, ws->xn, rows);

    struct attn_job job = {
        .ws = ws, .batch = batch, .kv = &batch->kv[group], .group = group, .layer = layer};
    for (int32_t s = 0; s < batch->n_seqs; s++)
        job.n_tiles += BASE_DIV_UP(batch->seqs[s].n_rows, ROW_TILE);
    base_pool_run(pool, run_store, &job, rows, 1);
    base_pool_run(pool, run_attention, &job, job.n_tiles * ws->model->hp.n_heads_kv, 1);

    if (stage_wants_q8(ws, &wo, 1))
        stage_quantize(ws, ws->attn, wo->k, rows);
    stage_products(ws,
                   &(const struct stage_product){
                       wo, model_layer_weight(weights, MODEL_ATTN_OUT_BIAS), ws->x, 1},
                   1, ws->attn, rows);
}
