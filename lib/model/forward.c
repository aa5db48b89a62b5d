/* The walk over the layers, and the memory it needs. */
#include "model/forward.h"

#include "base/error.h"
#include "kernels/cpu/gemm_openblas.h"
#include "model/encode.h"
#include "model/gpu/gpu.h"
#include "model/hidden.h"
#include "model/latent.h"
#include "model/layer_input.h"
#include "model/recurrent.h"
#include "model/remainder.h"
#include "model/stage.h"

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

/* Widest rows of any layer. */
struct widths {
    size_t q, k, v, attn, ff, x8; /* x8: what is quantised in front of a product */
};

static struct widths widths_of(const struct infer_model *model)
{
    const struct model_hparams *hp = &model->hp;
    struct widths w = {.ff = (size_t)BASE_MAX(BASE_MAX(hp->n_ff, hp->n_ff_shared), hp->n_input)};
    for (int32_t i = 0; i < hp->n_layers; i++) {
        const struct model_layer *l = &model->weights.layers[i];
        w.q = BASE_MAX(w.q, (size_t)l->n_heads * (size_t)l->head_dim);
        w.k = BASE_MAX(w.k, (size_t)l->n_heads_kv * (size_t)l->head_dim);
        w.v = BASE_MAX(w.v, (size_t)l->n_heads_kv * (size_t)l->head_dim_v);
        w.attn = BASE_MAX(w.attn, (size_t)l->n_heads * (size_t)l->head_dim_v);
        w.ff = BASE_MAX(w.ff, (size_t)l->n_ff);
    }
    size_t inner = (size_t)BASE_MAX(hp->ssm_inner, hp->q_lora);
    w.x8 = BASE_MAX(BASE_MAX(w.ff, w.attn), BASE_MAX((size_t)hp->n_embd, inner));
    return w;
}

static void init_moe(struct carver *c, struct model_moe_scratch *m, const struct model_hparams *hp,
                     size_t rows)
{
    size_t slots = rows * (size_t)hp->n_experts_used, n = (size_t)hp->n_experts;
    size_t f = sizeof(float), i = sizeof(int32_t), ff = (size_t)hp->n_ff_exp;
    if (!n)
        return;
    m->scores = carve(c, rows, n * f);
    m->chosen = carve(c, slots, i);
    m->weights = carve(c, slots, f);
    m->slot_of = carve(c, slots, i);
    m->row_of = carve(c, slots, i);
    m->scale_of = carve(c, slots, f);
    m->first = carve(c, n + 1, i);
    m->in = carve(c, slots, (size_t)hp->n_embd * f);
    m->gate = carve(c, slots, ff * f);
    m->up = carve(c, slots, ff * f);
    m->out = carve(c, slots, (size_t)hp->n_embd * f);
    m->q8 = carve(c, slots, kern_act_q8_bytes(BASE_ALIGN_UP(hp->n_embd, 32)));
    m->q8_hidden = carve(c, slots, kern_act_q8_bytes(BASE_ALIGN_UP(hp->n_ff_exp, 32)));
    m->hidden = carve(c, n, sizeof *m->hidden);
    m->runs = carve(c, n, sizeof *m->runs);
    m->args = carve(c, n, sizeof *m->args);
}

size_t model_mixer_row_bytes(const struct model_hparams *hp)
{
    return BASE_MAX(model_latent_row_bytes(hp), model_recurrent_row_bytes(hp));
}

size_t model_workspace_init(struct model_workspace *ws, const struct infer_model *model,
                            int32_t max_rows, int32_t max_outputs, struct device_workspace *scratch)
{
    const struct model_hparams *hp = &model->hp;
    const struct widths w = widths_of(model);
    struct carver c = {.scratch = scratch};
    size_t rows = (size_t)max_rows, f = sizeof(float), embd = (size_t)hp->n_embd;
    size_t gates = model->arch->traits & MODEL_QUERY_GATE ? w.q : 0;
    int32_t widest = (int32_t)BASE_ALIGN_UP(w.x8, (size_t)32);
    ws->model = model;
    ws->pool = model->device->pool;
    ws->max_rows = max_rows;
    ws->max_outputs = max_outputs;
    ws->x = carve(&c, rows, embd * f);
    ws->xn = carve(&c, rows, embd * f);
    ws->branch = carve(&c, rows, embd * f);
    ws->parallel = hp->parallel ? carve(&c, rows, embd * f) : NULL;
    ws->inputs = carve(&c, rows, (size_t)hp->n_input * (size_t)hp->n_layers * f);
    ws->q = carve(&c, rows, (w.q + gates) * f);
    ws->q_gate = carve(&c, rows, gates * f);
    ws->k = carve(&c, rows, w.k * f);
    ws->v = carve(&c, rows, w.v * f);
    ws->attn = carve(&c, rows, w.attn * f);
    ws->gate = carve(&c, rows, w.ff * f);
    ws->up = carve(&c, rows, w.ff * f);
    ws->rope[MODEL_ROPE_MAIN] = carve(&c, rows, (size_t)hp->n_rot * f);
    ws->rope[MODEL_ROPE_WINDOW] = carve(&c, rows, (size_t)hp->n_rot_window * f);
    ws->gathered = carve(&c, (size_t)max_outputs, embd * f);
    ws->q8 = carve(&c, BASE_MAX(rows, (size_t)max_outputs), kern_act_q8_bytes(widest));
    ws->q8_next = carve(&c, BASE_MAX(rows, (size_t)max_outputs), kern_act_q8_bytes(widest));
    if (model_is_encoder(model))
        ws->remainders = carve(&c, rows, sizeof *ws->remainders);
    ws->sgemm_scratch = ws->sgemm ? carve(&c, kern_gemm_blas_scratch(widest), f) : NULL;
    if (stage_may_narrow(ws))
        ws->bf16 = carve(&c, BASE_MAX(rows, (size_t)max_outputs), stage_bf16_bytes(widest));
    if (stage_may_round(ws))
        ws->rounded = carve(&c, BASE_MAX(rows, (size_t)max_outputs), kern_act_fast_bytes(widest));
    ws->mixer = carve(&c, rows, model_mixer_row_bytes(hp));
    init_moe(&c, &ws->moe, hp, rows);
    return c.bytes;
}

/* ------------------------------------------------------------ open, close */

static struct model_gpu_run_config gpu_config(const struct model_workspace_config *c)
{
    return (struct model_gpu_run_config){.max_rows = c->max_rows,
                                         .max_outputs = c->max_outputs,
                                         .max_seqs = c->max_seqs,
                                         .max_tokens = c->max_tokens,
                                         .invariant = c->invariant,
                                         .fast = c->fast};
}

static size_t logits_bytes(const struct infer_model *model, const struct model_workspace_config *c)
{
    return (size_t)c->max_outputs * (size_t)model->hp.n_vocab * sizeof(float);
}

size_t model_workspace_bytes(const struct infer_model *model,
                             const struct model_workspace_config *config)
{
    const struct model_gpu_run_config gpu = gpu_config(config);
    struct model_workspace ws = {0};
    if (model->device->kind == DEVICE_CUDA)
        return model_gpu_run_bytes(model, &gpu);
    return model_workspace_init(&ws, model, config->max_rows, config->max_outputs, NULL) +
           logits_bytes(model, config);
}

infer_status model_workspace_open(struct model_workspace *ws, const struct infer_model *model,
                                  const struct model_workspace_config *config)
{
    const struct model_gpu_run_config gpu = gpu_config(config);
    device_workspace_init(&ws->scratch, model->device);
    if (model->device->kind == DEVICE_CUDA) {
        ws->model = model;
        ws->max_rows = config->max_rows;
        ws->max_outputs = config->max_outputs;
        return model_gpu_run_create(&ws->gpu, model, &gpu);
    }
    size_t bytes = model_workspace_init(ws, model, config->max_rows, config->max_outputs, NULL);
    infer_status st = device_workspace_reserve(&ws->scratch, bytes + logits_bytes(model, config));
    if (st != INFER_OK)
        return st;
    model_workspace_init(ws, model, config->max_rows, config->max_outputs, &ws->scratch);
    ws->logits = device_workspace_take(&ws->scratch, logits_bytes(model, config));
    return INFER_OK;
}

size_t model_workspace_held(const struct model_workspace *ws)
{
    return ws->gpu ? model_gpu_run_held(ws->gpu) : ws->scratch.buffer.bytes;
}

void model_workspace_close(struct model_workspace *ws)
{
    model_gpu_run_destroy(&ws->gpu);
    if (ws->scratch.device)
        device_workspace_release(&ws->scratch);
}

/* ---------------------------------------------------------------- adapters */

size_t model_workspace_adapt_bytes(const struct model_workspace *ws, int32_t max_runs, int32_t rank)
{
    struct model_lora_scratch scratch;
    return ws->gpu ? model_gpu_lora_bytes(ws->gpu, rank)
                   : model_lora_scratch_init(&scratch, ws->max_rows, ws->max_outputs, max_runs,
                                             rank, NULL);
}

void model_workspace_adapt(struct model_workspace *ws, int32_t max_runs, int32_t rank, void *memory)
{
    if (ws->gpu)
        model_gpu_lora_use(ws->gpu, memory);
    else
        model_lora_scratch_init(&ws->lora, ws->max_rows, ws->max_outputs, max_runs, rank, memory);
}

/* ------------------------------------------------------------------- steps */

struct embed_job {
    struct model_workspace *ws;
    const struct model_batch *batch;
};

static void embed_row(const struct embed_job *job, int32_t i, int32_t position)
{
    struct model_workspace *ws = job->ws;
    const struct infer_model *model = ws->model;
    const struct model_hparams *hp = &model->hp;
    const struct model_weight *positions = &model->weights.global[MODEL_POS_EMBD];
    size_t n = (size_t)hp->n_embd;
    float *x = ws->x + (size_t)i * n;
    model_weight_row(&model->device->kernels, &model->weights.global[MODEL_TOKEN_EMBD],
                     job->batch->tokens[i], x);
    for (size_t j = 0; hp->embd_scale != 0 && j < n; j++)
        x[j] *= hp->embd_scale;
    if (positions->data) {
        float *p = ws->xn + (size_t)i * n;
        model_weight_row(&model->device->kernels, positions, BASE_MIN(position, positions->n - 1),
                         p);
        model->device->kernels.unary.add(x, p, hp->n_embd);
    }
    for (int32_t r = 0; r < MODEL_ROPES; r++)
        if (model->rope[r].n_pairs)
            model_rope_row(&model->rope[r], position,
                           ws->rope[r] + (size_t)i * 2 * (size_t)model->rope[r].n_pairs);
}

static void run_embed(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct embed_job *job = arg;
    BASE_UNUSED(thread);
    for (int32_t s = 0; s < job->batch->n_seqs; s++) {
        const struct model_batch_seq *seq = &job->batch->seqs[s];
        int32_t b = BASE_MAX(begin, seq->row), e = BASE_MIN(end, seq->row + seq->n_rows);
        for (int32_t i = b; i < e; i++)
            embed_row(job, i, seq->first_pos + i - seq->row);
    }
}

infer_status model_forward(struct model_workspace *ws, const struct model_batch *batch)
{
    const struct infer_model *model = ws->model;
    if (ws->gpu)
        return model_gpu_forward(ws->gpu, batch);
    struct embed_job job = {.ws = ws, .batch = batch};
    model_lora_begin(&ws->lora, batch);
    stage_rows(ws, run_embed, &job, batch->n_rows, (size_t)model->hp.n_embd);
    if (model->hp.n_input)
        model_layer_inputs(ws, batch);
    for (int32_t i = 0; i < model->hp.n_layers; i++) {
        const struct model_layer *layer = &model->weights.layers[i];
        if (layer->mix)
            layer->mix(ws, batch, layer);
        if (layer->ffn)
            layer->ffn(ws, layer, batch->n_rows);
        if (model->hp.n_input)
            model_layer_input_add(ws, i, batch->n_rows);
        model_layer_scale(ws, layer, batch->n_rows);
    }
    return INFER_OK;
}

uint64_t model_step(const struct model_workspace *ws)
{
    return ws->gpu ? model_gpu_step(ws->gpu) : 0;
}

infer_status model_chosen(struct model_workspace *ws, uint64_t step)
{
    return model_gpu_chosen(ws->gpu, step, &ws->chosen);
}

/* What comes after the output projection. */
static void run_logits(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct embed_job *job = arg;
    const struct infer_model *model = job->ws->model;
    const struct model_hparams *hp = &model->hp;
    float scale = model->arch->traits & MODEL_LOGIT_DIVIDE ? 1 / hp->logit_scale : hp->logit_scale;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        float *row = job->ws->logits + (size_t)i * (size_t)hp->n_vocab;
        for (int32_t j = 0; hp->logit_scale != 0 && j < hp->n_vocab; j++)
            row[j] *= scale;
        if (hp->logit_softcap > 0)
            model->device->kernels.unary.softcap(row, row, hp->logit_softcap, hp->n_vocab);
    }
}

infer_status model_head(struct model_workspace *ws, const int32_t *rows, int32_t n,
                        struct model_pick *picks)
{
    const struct infer_model *model = ws->model;
    if (ws->gpu)
        return model_gpu_head(ws->gpu, rows, n, picks, &ws->logits);
    for (int32_t i = 0; picks && i < n; i++)
        picks[i].token = -1;
    const struct model_weight *output = &model->weights.global[MODEL_OUTPUT];
    const struct model_weight *bias = &model->weights.global[MODEL_OUTPUT_BIAS];
    size_t row = (size_t)model->hp.n_embd;
    for (int32_t i = 0; i < n; i++)
        memcpy(ws->gathered + (size_t)i * row, ws->x + (size_t)rows[i] * row, row * sizeof(float));
    model_lora_pick(&ws->lora, rows, n);
    stage_norm(ws, ws->gathered, ws->gathered, &model->weights.global[MODEL_OUTPUT_NORM],
               &model->weights.global[MODEL_OUTPUT_NORM_BIAS], n,
               stage_wants_q8(ws, &output, 1, n));
    stage_products(ws, &(const struct stage_product){output, bias, ws->logits, 0}, 1, ws->gathered,
                   n);
    if (model->hp.logit_scale == 0 && !(model->hp.logit_softcap > 0))
        return INFER_OK;
    struct embed_job job = {.ws = ws};
    stage_rows(ws, run_logits, &job, n, (size_t)model->hp.n_vocab);
    return INFER_OK;
}

/* As many rows at a time as there is room for; a vector takes them in order. */
static void fold_rows(struct model_workspace *ws, struct model_fold fold)
{
    const struct infer_model *model = ws->model;
    const size_t n_embd = (size_t)model->hp.n_embd;
    for (int32_t at = fold.row, left = fold.n_rows; left > 0; at += fold.n_rows) {
        fold.n_rows = BASE_MIN(left, ws->max_outputs);
        left -= fold.n_rows;
        fold.row = 0;
        memcpy(ws->gathered, ws->x + (size_t)at * n_embd,
               (size_t)fold.n_rows * n_embd * sizeof(float));
        stage_norm(ws, ws->gathered, ws->gathered, &model->weights.global[MODEL_OUTPUT_NORM],
                   &model->weights.global[MODEL_OUTPUT_NORM_BIAS], fold.n_rows, 0);
        model_fold_rows(model, ws->gathered, &fold, 1);
        fold.begun = 1;
    }
}

infer_status model_final_fold(struct model_workspace *ws, const struct model_fold *folds, int32_t n)
{
    if (ws->gpu)
        return model_gpu_final_fold(ws->gpu, folds, n);
    for (int32_t i = 0; i < n; i++)
        fold_rows(ws, folds[i]);
    return INFER_OK;
}

infer_status model_finish(struct model_workspace *ws)
{
    return ws->gpu ? model_gpu_wait(ws->gpu) : INFER_OK;
}
