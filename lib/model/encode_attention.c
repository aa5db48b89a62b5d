/* Attention of encoders. */
#include "model/encode_attention.h"

#include "base/thread.h"
#include "model/attention.h"
#include "model/stage.h"

#include <math.h>

/* Rows of a text that one work item takes at most: enough that turning its keys is little. */
#define ITEM_ROWS     512
#define ITEM_ROWS_MIN 48

size_t model_encode_attention_floats(const struct infer_model *model, int32_t max_rows)
{
    int32_t widest = 0;
    for (int32_t i = 0; i < model->hp.n_layers; i++)
        widest = BASE_MAX(widest, model->weights.layers[i].head_dim);
    return BASE_ALIGN_UP(kern_attn_text_floats(max_rows, widest),
                         (size_t)BASE_CACHE_LINE / sizeof(float));
}

/* --------------------------------------------------------------- positions */

struct rotate_job {
    const struct model_workspace *ws;
    const struct model_layer *layer;
};

static void run_rotate(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct rotate_job *job = arg;
    const struct model_workspace *ws = job->ws;
    const struct model_layer *l = job->layer;
    const struct kern_rope *ropes = &ws->model->device->kernels.rope;
    kern_rope_fn *rope = ws->model->arch->rope == MODEL_ROPE_PAIRS ? ropes->pairs : ropes->halves;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        const float *cs = ws->rope[l->rope] + (size_t)i * (size_t)l->n_rot;
        rope(ws->q + (size_t)i * (size_t)(l->n_heads * l->head_dim), l->n_heads, l->head_dim,
             l->n_rot, cs);
        rope(ws->k + (size_t)i * (size_t)(l->n_heads_kv * l->head_dim), l->n_heads_kv, l->head_dim,
             l->n_rot, cs);
    }
}

/* ------------------------------------------------------------------ attend */

struct attend_job {
    const struct model_workspace *ws;
    const struct model_batch *batch;
    const struct model_layer *layer;
    int32_t item_rows;
    int32_t n_items; /* of each head */
};

/* How much a score falls a position: powers of 2^(-8 / n) for n heads, n a power of two; of other
 * numbers those of the next lower power, then every second of the next higher (ALiBi,
 * arXiv:2108.12409). */
static float slope_of(int32_t head, int32_t n_heads)
{
    int32_t n = 1;
    while (2 * n <= n_heads)
        n *= 2;
    if (head < n)
        return (float)exp2(-8.0 * (head + 1) / n);
    return (float)exp2(-4.0 * (2 * (head - n) + 1) / n);
}

/* Rows begin .. end - 1 of a text under one head. */
static void attend(const struct attend_job *job, const struct model_batch_seq *seq, int32_t head,
                   int32_t begin, int32_t end, int32_t thread)
{
    const struct model_workspace *ws = job->ws;
    const struct model_layer *l = job->layer;
    size_t dim = (size_t)l->head_dim, row = (size_t)seq->row;
    size_t q_row = (size_t)l->n_heads * dim, k_row = (size_t)l->n_heads_kv * dim;
    size_t kv_head = (size_t)(head / (l->n_heads / l->n_heads_kv));
    const struct kern_attn_text_args args = {
        .q = ws->q + row * q_row + (size_t)head * dim,
        .k = ws->k + row * k_row + kv_head * dim,
        .v = ws->v + row * k_row + kv_head * dim,
        .q_stride = q_row,
        .k_stride = k_row,
        .v_stride = k_row,
        .out = ws->attn + row * q_row + (size_t)head * dim,
        .out_stride = q_row,
        .n = seq->n_rows,
        .head_dim = l->head_dim,
        .reach = l->window / 2,
        .scale = l->attn_scale,
        .slope = ws->model->arch->traits & MODEL_ALIBI ? slope_of(head, l->n_heads) : 0,
        .scratch = ws->text + (size_t)thread * ws->text_floats,
    };
    ws->model->device->kernels.attn.text(&args, begin, end);
}

/* Items are ordered by head, then by text, so that threads get the like of each text. */
static void run_attend(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct attend_job *job = arg;
    for (int32_t at = begin; at < end;) {
        int32_t head = at / job->n_items, first = head * job->n_items;
        for (int32_t s = 0; s < job->batch->n_seqs && at < end; s++) {
            const struct model_batch_seq *seq = &job->batch->seqs[s];
            int32_t n = BASE_DIV_UP(seq->n_rows, job->item_rows);
            for (; at < end && at < first + n; at++) {
                int32_t row = (at - first) * job->item_rows;
                attend(job, seq, head, row, BASE_MIN(row + job->item_rows, seq->n_rows), thread);
            }
            first += n;
        }
    }
}

static void count_items(struct attend_job *job)
{
    job->n_items = 0;
    for (int32_t s = 0; s < job->batch->n_seqs; s++)
        job->n_items += BASE_DIV_UP(job->batch->seqs[s].n_rows, job->item_rows);
}

static void attend_all(struct model_workspace *ws, const struct model_batch *batch,
                       const struct model_layer *layer)
{
    struct attend_job job = {.ws = ws, .batch = batch, .layer = layer, .item_rows = ITEM_ROWS};
    count_items(&job);
    while (job.n_items * layer->n_heads < 2 * base_pool_threads(ws->pool) &&
           job.item_rows > ITEM_ROWS_MIN) {
        job.item_rows /= 2;
        count_items(&job);
    }
    base_pool_run(ws->pool, run_attend, &job, job.n_items * layer->n_heads, 1);
}

/* --------------------------------------------------------------- the mixer */

void model_encode_attention(struct model_workspace *ws, const struct model_batch *batch,
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
    int32_t rows = batch->n_rows, width = layer->n_heads * layer->head_dim;
    const float *x = model_mix_input(
        ws, layer, rows, stage_wants_q8(ws, (const struct model_weight *[]){wq, wk, wv}, 3, rows));
    stage_products(ws, products, 3, x, rows);
    if (layer->rope >= 0) {
        struct rotate_job job = {ws, layer};
        stage_rows(ws, run_rotate, &job, rows, 2 * (size_t)width);
    }
    attend_all(ws, batch, layer);
    if (stage_wants_q8(ws, &wo, 1, rows))
        stage_quantize(ws, ws->attn, width, rows);
    stage_join(ws, wo, model_layer_weight(layer, MODEL_ATTN_OUT_BIAS),
               model_layer_weight(layer, MODEL_ATTN_POST_NORM), ws->attn, rows);
    stage_norm_stream(ws, model_layer_weight(layer, MODEL_ATTN_OUT_NORM),
                      model_layer_weight(layer, MODEL_ATTN_OUT_NORM_BIAS), rows);
}
