/* The walk over the layers, and the memory it needs. */
#include "model/forward.h"

#include "base/thread.h"
#include "kernels/cpu/gemm_openblas.h"
#include "model/attention.h"
#include "model/mlp.h"

#include <string.h>

/* Takes rows from the scratch memory, or only counts where there is none yet. */
struct carver {
    struct device_workspace *scratch;
    size_t bytes;
};

static void *carve(struct carver *c, size_t rows, size_t row_bytes)
{
    c->bytes += device_workspace_need(rows * row_bytes);
    return c->scratch ? device_workspace_take(c->scratch, rows * row_bytes) : NULL;
}

size_t model_workspace_init(struct model_workspace *ws, const struct infer_model *model,
                            int32_t max_rows, int32_t max_outputs, struct device_workspace *scratch)
{
    const struct model_hparams *hp = &model->hp;
    struct carver c = {.scratch = scratch};
    size_t rows = (size_t)max_rows, f = sizeof(float);
    size_t q_row = (size_t)hp->n_heads * (size_t)hp->head_dim;
    size_t kv_row = (size_t)hp->n_heads_kv * (size_t)hp->head_dim;
    int32_t widest = BASE_MAX(BASE_MAX(hp->n_embd, hp->n_ff), (int32_t)q_row);
    ws->model = model;
    ws->max_rows = max_rows;
    ws->max_outputs = max_outputs;
    ws->x = carve(&c, rows, (size_t)hp->n_embd * f);
    ws->xn = carve(&c, rows, (size_t)hp->n_embd * f);
    ws->q = carve(&c, rows, q_row * f);
    ws->k = carve(&c, rows, kv_row * f);
    ws->v = carve(&c, rows, kv_row * f);
    ws->attn = carve(&c, rows, q_row * f);
    ws->gate = carve(&c, rows, (size_t)hp->n_ff * f);
    ws->up = carve(&c, rows, (size_t)hp->n_ff * f);
    ws->rope = carve(&c, rows, (size_t)hp->n_rot * f);
    ws->gathered = carve(&c, (size_t)max_outputs, (size_t)hp->n_embd * f);
    ws->q8 = carve(&c, BASE_MAX(rows, (size_t)max_outputs),
                   kern_act_q8_bytes(BASE_ALIGN_UP(widest, 32)));
    ws->sgemm_scratch = ws->sgemm ? carve(&c, kern_gemm_blas_scratch(widest), f) : NULL;
    return c.bytes;
}

struct embed_job {
    struct model_workspace *ws;
    const struct model_batch *batch;
};

static void run_embed(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct embed_job *job = arg;
    const struct infer_model *model = job->ws->model;
    const struct model_weight *embd = &model->weights.global[MODEL_TOKEN_EMBD];
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        const uint8_t *row =
            (const uint8_t *)embd->data + (size_t)job->batch->tokens[i] * embd->row_bytes;
        model->device->kernels.quant.dequant[embd->type](job->ws->x + (size_t)i * (size_t)embd->k,
                                                         row, embd->k);
    }
    for (int32_t s = 0; s < job->batch->n_seqs; s++) {
        const struct model_batch_seq *seq = &job->batch->seqs[s];
        int32_t b = BASE_MAX(begin, seq->row), e = BASE_MIN(end, seq->row + seq->n_rows);
        for (int32_t i = b; i < e; i++)
            model_rope_row(&model->rope, seq->first_pos + i - seq->row,
                           job->ws->rope + (size_t)i * (size_t)model->hp.n_rot);
    }
}

void model_forward(struct model_workspace *ws, const struct model_batch *batch)
{
    const struct infer_model *model = ws->model;
    struct embed_job job = {.ws = ws, .batch = batch};
    base_pool_run(model->device->pool, run_embed, &job, batch->n_rows, 1);
    for (int32_t i = 0; i < model->hp.n_layers; i++) {
        const struct model_layer *layer = &model->weights.layers[i];
        model_attention(ws, batch, layer, 0, i);
        model_mlp(ws, layer, batch->n_rows);
    }
}

void model_head(struct model_workspace *ws, const int32_t *rows, int32_t n, float *logits)
{
    const struct infer_model *model = ws->model;
    const struct model_weight *output = &model->weights.global[MODEL_OUTPUT];
    size_t row = (size_t)model->hp.n_embd;
    for (int32_t i = 0; i < n; i++)
        memcpy(ws->gathered + (size_t)i * row, ws->x + (size_t)rows[i] * row, row * sizeof(float));
    stage_norm(ws, ws->gathered, ws->gathered, &model->weights.global[MODEL_OUTPUT_NORM], n,
               stage_wants_q8(ws, &output, 1));
    stage_products(ws, &(const struct stage_product){output, NULL, logits, 0}, 1, ws->gathered, n);
}
