/* Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).
 *
 * The cache holds one vector a token: the compressed latent c and the rotated key part k_r that
 * all heads share. Each head's key is K_h c and its value V_h c, so the matrices move to the
 * other side: q . K_h c = (K_h^T q) . c, and the weighted sum of V_h c is V_h of the weighted
 * sum. Attention then runs over the cached vectors themselves, as if all query heads shared one
 * key head of kv_lora + n_rot elements whose values are its first kv_lora. */
#include "model/latent.h"

#include "base/thread.h"
#include "model/attention.h"
#include "model/stage.h"

#include <string.h>

/* Rows of what lies in ws->mixer, one after another. */
struct parts {
    float *q_a;      /* compressed queries: q_lora */
    float *kv;       /* latent and rotated part: kv_lora + n_rot */
    float *absorbed; /* queries against the cache: n_heads * (kv_lora + n_rot) */
    float *mixed;    /* weighted latents: n_heads * kv_lora */
    uint8_t *q8;     /* head by head, for quantised K_h and V_h */
};

static size_t q8_row(const struct model_hparams *hp)
{
    return (size_t)hp->n_heads * kern_act_q8_bytes(BASE_MAX(hp->kv_lora, hp->head_dim_mla));
}

static size_t latent_width(const struct model_hparams *hp)
{
    return (size_t)hp->kv_lora + (size_t)hp->n_rot;
}

size_t model_latent_row_bytes(const struct model_hparams *hp)
{
    size_t heads = (size_t)hp->n_heads;
    size_t floats = (size_t)hp->q_lora + latent_width(hp) + heads * latent_width(hp) +
                    heads * (size_t)hp->kv_lora;
    return hp->kv_lora ? floats * sizeof(float) + q8_row(hp) + 5 * BASE_CACHE_LINE : 0;
}

static void *take(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += BASE_ALIGN_UP(bytes, (size_t)BASE_CACHE_LINE);
    return p;
}

static struct parts parts_of(const struct model_workspace *ws, int32_t rows)
{
    const struct model_hparams *hp = &ws->model->hp;
    size_t n = (size_t)rows, heads = (size_t)hp->n_heads, f = sizeof(float);
    uint8_t *at = ws->mixer;
    struct parts p;
    p.q8 = take(&at, n * q8_row(hp));
    p.q_a = take(&at, n * (size_t)hp->q_lora * f);
    p.kv = take(&at, n * latent_width(hp) * f);
    p.absorbed = take(&at, n * heads * latent_width(hp) * f);
    p.mixed = take(&at, n * heads * (size_t)hp->kv_lora * f);
    return p;
}

/* ------------------------------------------- one product for each head */

struct heads_job {
    struct model_workspace *ws;
    const struct model_weight *w; /* a matrix a head */
    const float *x;
    float *y;
    size_t x_head, x_row, y_head, y_row; /* floats from a head or row to the next */
    uint8_t *q8;
    uint8_t *out8; /* rows of y quantised, or NULL; heads are whole blocks */
    int32_t n_heads, rows;
};

static void run_heads(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct heads_job *j = arg;
    const struct infer_kernels *kernels = &j->ws->model->device->kernels;
    int q8 = kernels->gemm.act[j->w->type] == KERN_ACT_Q8;
    size_t q8_bytes = kern_act_q8_bytes(j->w->k);
    BASE_UNUSED(thread);
    for (int32_t h = begin; h < end; h++) {
        const float *x = j->x + (size_t)h * j->x_head;
        uint8_t *rows8 = j->q8 + (size_t)h * (size_t)j->rows * q8_bytes;
        for (int32_t i = 0; q8 && i < j->rows; i++)
            kernels->quant.act_q8(rows8 + (size_t)i * q8_bytes, x + (size_t)i * j->x_row, j->w->k);
        struct kern_gemm_args args = {
            .w = j->w->matrices[h],
            .w_stride = j->w->row_bytes,
            .x = q8 ? (const void *)rows8 : (const void *)x,
            .x_stride = q8 ? q8_bytes : j->x_row * sizeof(float),
            .y = j->y + (size_t)h * j->y_head,
            .y_stride = j->y_row,
            .m = j->rows,
            .n = j->w->n,
            .k = j->w->k,
            .scale = j->w->scales ? j->w->scales + h : NULL,
            .packed = j->w->packed,
        };
        kernels->gemm.run[j->w->type](&args, 0, j->w->n);
        for (int32_t i = 0; j->out8 && i < j->rows; i++)
            kernels->quant.act_q8_part(j->out8 + (size_t)i * kern_act_q8_bytes((int32_t)j->y_row),
                                       j->y + (size_t)i * j->y_row, (int32_t)j->y_row, h * j->w->n,
                                       (h + 1) * j->w->n);
    }
}

/* ----------------------------------------------- keys of one row, queries */

struct store_job {
    struct model_workspace *ws;
    const struct model_batch *batch;
    const struct model_layer *layer;
    const struct parts *p;
};

static void store_row(const struct store_job *job, const struct model_batch_seq *seq, int32_t row)
{
    struct model_workspace *ws = job->ws;
    const struct model_layer *l = job->layer;
    const struct infer_kernels *kernels = &ws->model->device->kernels;
    const struct model_hparams *hp = &ws->model->hp;
    const struct model_kv_view *kv = &job->batch->kv[l->kv_group];
    size_t width = latent_width(hp), lora = (size_t)hp->kv_lora, rot = (size_t)l->n_rot;
    size_t heads = (size_t)l->n_heads, dim = (size_t)l->head_dim;
    kern_rope_fn *rope =
        ws->model->arch->rope == MODEL_ROPE_PAIRS ? kernels->rope.pairs : kernels->rope.halves;
    const float *cs = ws->rope[MODEL_ROPE_MAIN] + (size_t)row * rot;
    float *latent = job->p->kv + (size_t)row * width;
    float *q = ws->q + (size_t)row * heads * dim;
    float *absorbed = job->p->absorbed + (size_t)row * heads * width;
    kernels->norm.rms(latent, latent, model_layer_weight(l, MODEL_ATTN_KV_A_NORM)->data,
                      hp->kv_lora, hp->norm_eps);
    rope(latent + lora, 1, l->n_rot, l->n_rot, cs);
    for (size_t h = 0; h < heads; h++) {
        float *rotated = q + h * dim + dim - rot;
        rope(rotated, 1, l->n_rot, l->n_rot, cs);
        memcpy(absorbed + h * width + lora, rotated, rot * sizeof *q);
    }
    kernels->quant.narrow[kv->type](
        model_kv_slot(kv, seq, l, seq->first_pos + row - seq->row, 0, 0), latent, (int32_t)width);
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

/* Queries, through their own compression where the model has one. */
static void make_queries(struct model_workspace *ws, const struct model_layer *layer,
                         const struct parts *p, const float *x, int32_t rows)
{
    const struct model_weight *q_a = model_layer_weight(layer, MODEL_ATTN_Q_A);
    const struct model_weight *q_b = model_layer_weight(layer, MODEL_ATTN_Q_B);
    const struct model_weight *direct = model_layer_weight(layer, MODEL_ATTN_Q);
    const struct model_weight *kv_a = model_layer_weight(layer, MODEL_ATTN_KV_A);
    const struct stage_product products[] = {
        {kv_a, NULL, p->kv, 0},
        {q_a->data ? q_a : direct, NULL, q_a->data ? p->q_a : ws->q, 0},
    };
    stage_products(ws, products, 2, x, rows);
    if (!q_a->data)
        return;
    stage_norm(ws, p->q_a, p->q_a, model_layer_weight(layer, MODEL_ATTN_Q_A_NORM), NULL, rows,
               stage_wants_q8(ws, &q_b, 1, rows));
    stage_products(ws, &(const struct stage_product){q_b, NULL, ws->q, 0}, 1, p->q_a, rows);
}

void model_latent_attention(struct model_workspace *ws, const struct model_batch *batch,
                            const struct model_layer *layer)
{
    const struct model_hparams *hp = &ws->model->hp;
    const struct model_weight *q = model_layer_weight(layer, MODEL_ATTN_Q_A);
    const struct model_weight *kv_a = model_layer_weight(layer, MODEL_ATTN_KV_A);
    const struct model_weight *wo = model_layer_weight(layer, MODEL_ATTN_OUT);
    struct base_pool *pool = ws->pool;
    size_t heads = (size_t)layer->n_heads, width = latent_width(hp), lora = (size_t)hp->kv_lora;
    size_t dim = (size_t)layer->head_dim, dim_v = (size_t)layer->head_dim_v;
    int32_t rows = batch->n_rows;
    int out_q8 = stage_wants_q8(ws, &wo, 1, rows);
    struct parts p = parts_of(ws, ws->max_rows);
    if (!q->data)
        q = model_layer_weight(layer, MODEL_ATTN_Q);
    const float *x = model_mix_input(
        ws, layer, rows, stage_wants_q8(ws, (const struct model_weight *[]){q, kv_a}, 2, rows));
    make_queries(ws, layer, &p, x, rows);

    struct store_job store = {ws, batch, layer, &p};
    stage_rows(ws, run_store, &store, rows, heads * dim + width);
    struct heads_job absorb = {.ws = ws,
                               .w = model_layer_weight(layer, MODEL_ATTN_K_B),
                               .x = ws->q,
                               .y = p.absorbed,
                               .x_head = dim,
                               .x_row = heads * dim,
                               .y_head = width,
                               .y_row = heads * width,
                               .q8 = p.q8,
                               .n_heads = layer->n_heads,
                               .rows = rows};
    base_pool_run(pool, run_heads, &absorb, layer->n_heads, 1);
    model_attend(ws, batch,
                 &(const struct model_attend){.layer = layer,
                                              .q = p.absorbed,
                                              .q_stride = heads * width,
                                              .out = p.mixed,
                                              .n_heads = layer->n_heads,
                                              .n_heads_kv = 1,
                                              .head_dim = (int32_t)width,
                                              .head_dim_v = hp->kv_lora,
                                              .shared = 1});
    struct heads_job values = {.ws = ws,
                               .w = model_layer_weight(layer, MODEL_ATTN_V_B),
                               .x = p.mixed,
                               .y = ws->attn,
                               .x_head = lora,
                               .x_row = heads * lora,
                               .y_head = dim_v,
                               .y_row = heads * dim_v,
                               .q8 = p.q8,
                               .out8 = out_q8 && layer->head_dim_v % 32 == 0 ? ws->q8 : NULL,
                               .n_heads = layer->n_heads,
                               .rows = rows};
    base_pool_run(pool, run_heads, &values, layer->n_heads, 1);
    if (out_q8 && !values.out8)
        stage_quantize(ws, ws->attn, wo->k, rows);
    stage_join(ws, wo, NULL, model_layer_weight(layer, MODEL_ATTN_POST_NORM), ws->attn, rows);
}
