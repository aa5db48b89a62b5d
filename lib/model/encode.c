/* Encoders: one pass over the rows of many texts, without padding. */
#include "model/encode.h"

#include "base/error.h"
#include "model/encode_attention.h"
#include "model/gpu/gpu.h"
#include "model/stage.h"

struct model_encoder {
    struct base_alloc alloc;
    struct model_workspace ws;
    struct model_batch_seq *seqs;  /* ws.max_rows */
    struct device_buffer text;     /* ws.text */
    struct model_gpu_encoder *gpu; /* on a GPU: what does the runs */
};

int model_is_encoder(const struct infer_model *model)
{
    return model->arch && model->arch->traits & MODEL_ENCODER;
}

int32_t model_head_labels(const struct infer_model *model)
{
    return model_is_encoder(model) ? model->weights.global[MODEL_CLS_OUT].n : 0;
}

static size_t text_floats(const struct infer_model *model, int32_t max_tokens)
{
    return model_encode_attention_floats(model, BASE_MIN(max_tokens, model->hp.n_context));
}

static size_t text_bytes(const struct infer_model *model, int32_t max_tokens)
{
    const size_t n_threads = (size_t)base_pool_threads(model->device->pool);
    return n_threads * text_floats(model, max_tokens) * sizeof(float);
}

size_t model_encoder_bytes(const struct infer_model *model, int32_t max_tokens)
{
    const struct model_workspace_config config = {.max_rows = max_tokens, .max_outputs = 1};
    if (model->device->kind == DEVICE_CUDA)
        return model_gpu_encoder_bytes(model, max_tokens);
    return model_workspace_bytes(model, &config) + text_bytes(model, max_tokens);
}

static infer_status open_gpu(struct model_encoder *e, const struct infer_model *model,
                             int32_t max_tokens, int32_t invariant)
{
    e->ws.model = model;
    e->ws.max_rows = max_tokens;
    return model_gpu_encoder_create(&e->gpu, model, max_tokens, e->ws.fast, invariant);
}

static infer_status open_cpu(struct model_encoder *e, const struct infer_model *model,
                             int32_t max_tokens)
{
    const struct model_workspace_config config = {.max_rows = max_tokens, .max_outputs = 1};
    e->seqs = base_new(&e->alloc, (size_t)max_tokens, sizeof *e->seqs);
    infer_status st = e->seqs ? INFER_OK : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = model_workspace_open(&e->ws, model, &config);
    if (st != INFER_OK)
        return st;
    e->ws.text_floats = text_floats(model, max_tokens);
    st = device_buffer_alloc(model->device, DEVICE_WORKSPACE, text_bytes(model, max_tokens),
                             &e->text);
    e->ws.text = e->text.data;
    return st;
}

infer_status model_encoder_open(struct model_encoder **out, const struct base_alloc *a,
                                const struct infer_model *model, int32_t max_tokens, int32_t fast,
                                int32_t invariant)
{
    *out = NULL;
    if (!model_is_encoder(model))
        return base_error(INFER_ERR_UNSUPPORTED, "%s is no encoder", model->path);
    if (max_tokens < 1)
        return base_error(INFER_ERR_INVALID, "an encoder for %d tokens", max_tokens);
    struct model_encoder *e = base_new(a, 1, sizeof *e);
    if (!e)
        return INFER_ERR_NO_MEMORY;
    e->alloc = *a;
    e->ws.fast = fast;
    infer_status st = model->device->kind == DEVICE_CUDA ? open_gpu(e, model, max_tokens, invariant)
                                                         : open_cpu(e, model, max_tokens);
    if (st != INFER_OK) {
        model_encoder_close(&e);
        return st;
    }
    *out = e;
    return INFER_OK;
}

void model_encoder_close(struct model_encoder **encoder)
{
    struct model_encoder *e = *encoder;
    *encoder = NULL;
    if (!e)
        return;
    struct base_alloc alloc = e->alloc;
    model_gpu_encoder_destroy(&e->gpu);
    device_buffer_free(&e->text);
    model_workspace_close(&e->ws);
    base_free(&alloc, e->seqs);
    base_free(&alloc, e);
}

/* -------------------------------------------------------------- embeddings */

struct embed_job {
    struct model_workspace *ws;
    const struct model_encode_batch *batch;
    const struct model_batch_seq *seqs;
    int32_t n_seqs;
};

static void normalise(const struct infer_model *model, enum model_role weight, float *x)
{
    const struct model_weight *w = &model->weights.global[weight];
    const struct model_weight *b = &model->weights.global[weight + 1];
    const struct kern_norm *norm = &model->device->kernels.norm;
    if (!w->data)
        return;
    if (model->arch->norm == MODEL_NORM_LAYER)
        norm->layer(x, x, w->data, b->data, w->k, model->hp.norm_eps);
    else
        norm->rms(x, x, w->data, w->k, model->hp.norm_eps);
}

static void embed_row(const struct embed_job *job, int32_t i, int32_t position)
{
    struct model_workspace *ws = job->ws;
    const struct infer_model *model = ws->model;
    const struct infer_kernels *kernels = &model->device->kernels;
    const struct model_weight *types = &model->weights.global[MODEL_TYPE_EMBD];
    const struct model_weight *positions = &model->weights.global[MODEL_POS_EMBD];
    size_t n = (size_t)model->hp.n_embd;
    float *x = ws->x + (size_t)i * n, *more = ws->xn + (size_t)i * n;
    model_weight_row(kernels, &model->weights.global[MODEL_TOKEN_EMBD], job->batch->tokens[i], x);
    if (types->data) {
        int32_t type = job->batch->types ? job->batch->types[i] : 0;
        kernels->unary.add(x, (const float *)types->data + (size_t)BASE_MIN(type, types->n - 1) * n,
                           model->hp.n_embd);
    }
    if (positions->data) {
        model_weight_row(kernels, positions, position, more);
        kernels->unary.add(x, more, model->hp.n_embd);
    }
    normalise(model, MODEL_EMBD_NORM, x);
    for (int32_t r = 0; r < MODEL_ROPES && model->arch->rope != MODEL_ROPE_NONE; r++)
        if (model->rope[r].n_pairs)
            model_rope_row(&model->rope[r], position,
                           ws->rope[r] + (size_t)i * 2 * (size_t)model->rope[r].n_pairs);
}

static void run_embed(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct embed_job *job = arg;
    BASE_UNUSED(thread);
    for (int32_t s = 0; s < job->n_seqs; s++) {
        const struct model_batch_seq *seq = &job->seqs[s];
        int32_t b = BASE_MAX(begin, seq->row), e = BASE_MIN(end, seq->row + seq->n_rows);
        for (int32_t i = b; i < e; i++)
            embed_row(job, i, i - seq->row);
    }
}

/* --------------------------------------------------------------------- run */

static infer_status check_batch(const struct model_encoder *e, const struct model_encode_batch *b)
{
    const struct model_hparams *hp = &e->ws.model->hp;
    int32_t n = b->n_texts > 0 ? b->offsets[b->n_texts] : 0;
    if (n > e->ws.max_rows)
        return base_error(INFER_ERR_LIMIT, "%d tokens in one run, at most %d", n, e->ws.max_rows);
    for (int32_t i = 0; i < b->n_texts; i++) {
        int32_t length = b->offsets[i + 1] - b->offsets[i];
        if (length > hp->n_context)
            return base_error(INFER_ERR_LIMIT, "text %d has %d tokens, the model's context %d", i,
                              length, hp->n_context);
        if (length < 0 || (i == 0 && b->offsets[0] != 0))
            return base_error(INFER_ERR_INVALID, "text %d has %d tokens from token %d on", i,
                              length, b->offsets[i]);
    }
    for (int32_t i = 0; i < n; i++)
        if (b->tokens[i] < 0 || b->tokens[i] >= hp->n_vocab)
            return base_error(INFER_ERR_INVALID, "token %d is %d, the model has %d", i,
                              (int)b->tokens[i], hp->n_vocab);
    return INFER_OK;
}

/* The last layer's rows in ws->x. */
static void run_cpu(struct model_encoder *encoder, const struct model_encode_batch *batch)
{
    struct model_workspace *ws = &encoder->ws;
    const struct infer_model *model = ws->model;
    struct model_batch b = {.tokens = batch->tokens, .seqs = encoder->seqs};
    for (int32_t i = 0; i < batch->n_texts; i++) {
        int32_t row = batch->offsets[i], n = batch->offsets[i + 1] - row;
        if (n)
            encoder->seqs[b.n_seqs++] = (struct model_batch_seq){.row = row, .n_rows = n};
        b.n_rows = row + n;
    }
    struct embed_job job = {ws, batch, encoder->seqs, b.n_seqs};
    stage_rows(ws, run_embed, &job, b.n_rows, 4 * (size_t)model->hp.n_embd);
    for (int32_t i = 0; i < model->hp.n_layers && b.n_rows; i++) {
        const struct model_layer *layer = &model->weights.layers[i];
        layer->mix(ws, &b, layer);
        layer->ffn(ws, layer, b.n_rows);
    }
    stage_norm_stream(ws, &model->weights.global[MODEL_OUTPUT_NORM],
                      &model->weights.global[MODEL_OUTPUT_NORM_BIAS], b.n_rows);
}

infer_status model_encoder_run(struct model_encoder *encoder,
                               const struct model_encode_batch *batch, const float **rows)
{
    infer_status st = check_batch(encoder, batch);
    if (st == INFER_OK && encoder->gpu) {
        st = model_gpu_encode(encoder->gpu, batch);
        return st == INFER_OK ? model_gpu_encoder_rows(encoder->gpu, rows) : st;
    }
    if (st != INFER_OK)
        return st;
    run_cpu(encoder, batch);
    *rows = encoder->ws.x;
    return INFER_OK;
}

infer_status model_encoder_fold(struct model_encoder *encoder,
                                const struct model_encode_batch *batch,
                                const struct model_fold *folds, int32_t n)
{
    infer_status st = check_batch(encoder, batch);
    if (st == INFER_OK && encoder->gpu) {
        st = model_gpu_encode(encoder->gpu, batch);
        return st == INFER_OK ? model_gpu_encoder_fold(encoder->gpu, folds, n) : st;
    }
    if (st != INFER_OK)
        return st;
    run_cpu(encoder, batch);
    model_fold_rows(encoder->ws.model, encoder->ws.x, folds, n);
    return INFER_OK;
}

/* -------------------------------------------------------------------- head */

/* What is between the matrices of the head, row by row. */
static void run_head_act(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct model_workspace *ws = arg;
    const struct kern_unary *unary = &ws->model->device->kernels.unary;
    int32_t n = ws->model->hp.n_embd;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        float *x = ws->xn + (size_t)i * (size_t)n;
        if (ws->model->arch->head_act == MODEL_HEAD_GELU)
            unary->gelu_mul(x, x, NULL, n);
        else
            unary->softcap(x, x, 1, n);
        normalise(ws->model, MODEL_CLS_NORM, x);
    }
}

infer_status model_encoder_classify(struct model_encoder *encoder,
                                    const struct model_encode_batch *batch, float *out)
{
    struct model_workspace *ws = &encoder->ws;
    const struct infer_model *model = ws->model;
    const struct model_weight *dense = &model->weights.global[MODEL_CLS];
    const struct model_weight *labels = &model->weights.global[MODEL_CLS_OUT];
    const struct model_weight *dense_bias = &model->weights.global[MODEL_CLS_BIAS];
    const struct model_weight *labels_bias = &model->weights.global[MODEL_CLS_OUT_BIAS];
    const float *x = ws->branch;
    if (!labels->data)
        return base_error(INFER_ERR_UNSUPPORTED, "%s has no head for sequences", model->path);
    for (int32_t i = 0; i < batch->n_texts; i++)
        if (batch->offsets[i + 1] <= batch->offsets[i])
            return base_error(INFER_ERR_INVALID, "text %d has no tokens", i);
    infer_status st = check_batch(encoder, batch);
    if (st != INFER_OK || !batch->n_texts)
        return st;
    if (encoder->gpu)
        return model_gpu_encoder_classify(encoder->gpu, batch, out);
    run_cpu(encoder, batch);
    model_pool(ws->branch, ws->x, batch, model->hp.n_embd, model->pooling.head, 0, NULL);
    if (dense->data) {
        if (stage_wants_q8(ws, &dense, 1, batch->n_texts))
            stage_quantize(ws, x, dense->k, batch->n_texts);
        stage_products(ws, &(const struct stage_product){dense, dense_bias, ws->xn, 0}, 1, x,
                       batch->n_texts);
        stage_rows(ws, run_head_act, ws, batch->n_texts, (size_t)dense->n);
        x = ws->xn;
    }
    if (stage_wants_q8(ws, &labels, 1, batch->n_texts))
        stage_quantize(ws, x, labels->k, batch->n_texts);
    stage_products(ws, &(const struct stage_product){labels, labels_bias, out, 0}, 1, x,
                   batch->n_texts);
    return INFER_OK;
}
