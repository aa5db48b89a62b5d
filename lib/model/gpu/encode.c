/* Encoders on the card: one pass over the rows of many texts, without a cache. Small batches are
 * padded to a shape, which is replayed from a graph (graph.c) when it comes again. */
#include "model/encode.h"
#include "base/error.h"
#include "model/gpu/run.h"

#include <string.h>

#define ALIGNMENT 256

/* Larger batches keep the card busy for longer than their launches take, or seldom come again
 * (decisions-gpu-steps.md). */
#define GRAPH_ROWS 512

/* What is uploaded, as tight as the batch's shape lets it lie. */
struct text_batch {
    int32_t *tokens, *pos, *types;
    struct kern_cuda_text_tile *tiles;
};

struct model_gpu_encoder {
    struct model_gpu_run *run;
    struct base_alloc alloc;
    struct device_buffer memory;       /* a text_batch, then labels */
    void *pinned;                      /* the same text_batch, then folds */
    struct kern_cuda_text_fold *folds; /* the card reads them over the bus */
    float *labels;                     /* on the card */
    float *rows;                       /* of the host, once they were asked for */
    int32_t max_tokens, n_labels;
    int32_t n_rows, n_tiles; /* of the last batch, rounded up where it was small */
    int32_t n_own;           /* rows of its texts */
    struct text_batch card;
    size_t batch_bytes; /* of the last batch */
};

/* -------------------------------------------------------------------- memory */

static void *carve(uint8_t *base, size_t *used, size_t bytes)
{
    void *p = base ? base + *used : NULL;
    *used += BASE_ALIGN_UP(bytes, (size_t)ALIGNMENT);
    return p;
}

static size_t carve_batch(struct text_batch *b, void *base, int32_t n_rows, int32_t n_tiles)
{
    size_t used = 0, words = (size_t)n_rows * sizeof(int32_t);
    b->tokens = carve(base, &used, words);
    b->pos = carve(base, &used, words);
    b->types = carve(base, &used, words);
    b->tiles = carve(base, &used, (size_t)n_tiles * sizeof *b->tiles);
    return used;
}

/* A text of one row is a tile. */
static size_t batch_bytes(int32_t max_tokens)
{
    struct text_batch b;
    return carve_batch(&b, NULL, max_tokens, max_tokens);
}

static size_t own_bytes(const struct infer_model *model, int32_t max_tokens)
{
    return batch_bytes(max_tokens) + BASE_ALIGN_UP((size_t)max_tokens, (size_t)GPU_ROWS_UNIT) *
                                         (size_t)model_head_labels(model) * sizeof(float);
}

static struct model_gpu_run_config config_of(int32_t max_tokens, int32_t fast)
{
    return (struct model_gpu_run_config){
        .max_rows = max_tokens, .max_outputs = 1, .max_seqs = 1, .max_tokens = 1, .fast = fast};
}

size_t model_gpu_encoder_bytes(const struct infer_model *model, int32_t max_tokens)
{
    const struct model_gpu_run_config config = config_of(max_tokens, 1); /* which take the most */
    return model_gpu_run_bytes(model, &config) + own_bytes(model, max_tokens);
}

infer_status model_gpu_encoder_create(struct model_gpu_encoder **out,
                                      const struct infer_model *model, int32_t max_tokens,
                                      int32_t fast, int32_t invariant)
{
    struct model_gpu_run_config config = config_of(max_tokens, fast);
    config.invariant = invariant;
    struct model_gpu_encoder *e = base_new(&model->alloc, 1, sizeof *e);
    if (!e)
        return INFER_ERR_NO_MEMORY;
    e->alloc = model->alloc;
    e->max_tokens = max_tokens;
    e->n_labels = model_head_labels(model);
    infer_status st = model_gpu_run_create(&e->run, model, &config);
    if (st == INFER_OK)
        st = device_buffer_alloc(model->device, DEVICE_WORKSPACE, own_bytes(model, max_tokens),
                                 &e->memory);
    if (st == INFER_OK)
        st = device_cuda_host_alloc(model->device,
                                    batch_bytes(max_tokens) + (size_t)max_tokens * sizeof *e->folds,
                                    &e->pinned);
    if (st != INFER_OK) {
        model_gpu_encoder_destroy(&e);
        return st;
    }
    e->folds = (void *)((uint8_t *)e->pinned + batch_bytes(max_tokens));
    e->labels = (float *)(void *)((uint8_t *)e->memory.data + batch_bytes(max_tokens));
    *out = e;
    return INFER_OK;
}

void model_gpu_encoder_destroy(struct model_gpu_encoder **encoder)
{
    struct model_gpu_encoder *e = *encoder;
    *encoder = NULL;
    if (!e)
        return;
    struct base_alloc alloc = e->alloc;
    if (e->run) {
        model_gpu_wait(e->run); /* a batch that nobody asked for any more still reads it */
        device_cuda_host_free(e->run->device, e->pinned);
    }
    device_buffer_free(&e->memory);
    model_gpu_run_destroy(&e->run);
    base_free(&alloc, e->rows);
    base_free(&alloc, e);
}

/* ----------------------------------------------------------------- the batch */

static int32_t tiles_of(const struct model_encode_batch *batch, struct kern_cuda_text_tile *tiles)
{
    int32_t n = 0;
    for (int32_t i = 0; i < batch->n_texts; i++) {
        int32_t row = batch->offsets[i], length = batch->offsets[i + 1] - row;
        for (int32_t at = 0; at < length; at += KERN_CUDA_TEXT_QUERIES, n++)
            if (tiles)
                tiles[n] = (struct kern_cuda_text_tile){row, length, at};
    }
    return n;
}

/* Rows that graphs are captured for. A text of any length has one of 31 shapes, for its rows decide
 * its tiles; and products of all rows of a shape go the same way, as no bound between two ways
 * (product.c) lies within one. */
static int32_t round_rows(int32_t n)
{
    int32_t up = 1;
    while (up < n && up < 8)
        up *= 2;
    return n <= 8     ? up
           : n <= 64  ? BASE_ALIGN_UP(n, 8)
           : n <= 256 ? BASE_ALIGN_UP(n, 16)
                      : BASE_ALIGN_UP(n, 32);
}

static int32_t round_tiles(int32_t n)
{
    int32_t up = 1;
    while (up < n)
        up *= 2;
    return up;
}

static int is_small(const struct model_gpu_encoder *e)
{
    return e->n_own <= GRAPH_ROWS;
}

static void shape_up(struct model_gpu_encoder *e, const struct model_encode_batch *batch)
{
    e->n_rows = e->n_own = batch->n_texts ? batch->offsets[batch->n_texts] : 0;
    e->n_tiles = tiles_of(batch, NULL);
    if (!e->n_own || !is_small(e))
        return;
    e->n_rows = BASE_MIN(round_rows(e->n_own), e->max_tokens);
    e->n_tiles = BASE_MIN(round_tiles(e->n_tiles), e->max_tokens);
}

/* Rows that only fill up are the first token's, and no tile's; tiles that do are of no rows. */
static void stage(const struct model_gpu_encoder *e, const struct model_encode_batch *batch,
                  const struct text_batch *b)
{
    for (int32_t i = tiles_of(batch, b->tiles); i < e->n_tiles; i++)
        b->tiles[i] = (struct kern_cuda_text_tile){0};
    memcpy(b->tokens, batch->tokens, (size_t)e->n_own * sizeof *b->tokens);
    for (int32_t i = 0; i < batch->n_texts; i++)
        for (int32_t k = batch->offsets[i]; k < batch->offsets[i + 1]; k++) {
            b->pos[k] = k - batch->offsets[i];
            b->types[k] = batch->types ? batch->types[k] : 0;
        }
    for (int32_t k = e->n_own; k < e->n_rows; k++)
        b->tokens[k] = b->pos[k] = b->types[k] = 0;
}

/* Where a batch lies on both sides is decided by its shape, so that graphs know. */
static infer_status write_down(struct model_gpu_encoder *e, const struct model_encode_batch *batch)
{
    struct text_batch b;
    infer_status st = model_gpu_wait(e->run); /* the last run may still read the pinned memory */
    if (st != INFER_OK)
        return st;
    e->run->n_steps++;
    shape_up(e, batch);
    carve_batch(&e->card, e->memory.data, e->n_rows, e->n_tiles);
    e->batch_bytes = carve_batch(&b, e->pinned, e->n_rows, e->n_tiles);
    if (e->n_own)
        stage(e, batch, &b);
    return INFER_OK;
}

/* A small batch is taken by the card itself, as steps are (step.cu): a copy could be captured too,
 * but the kernel behind it would wait for another engine. */
static void bring_in(const struct model_gpu_encoder *e)
{
    struct model_gpu_run *run = e->run;
    const int32_t words = (int32_t)(e->batch_bytes / sizeof(int32_t));
    const struct kern_cuda_begin_args args = {
        .pieces = {{e->memory.data, e->pinned, words, 1, words}}, .n_pieces = 1};
    gpu_launched(run, run->kernels->step.begin(&args, run->stream), "the begin of a batch");
}

/* ------------------------------------------------------------------ the walk */

static void embed(const struct model_gpu_encoder *e)
{
    struct model_gpu_run *run = e->run;
    const struct infer_model *model = run->model;
    const struct gpu_weight *global = run->gpu->global;
    const struct gpu_weight *positions = &global[MODEL_POS_EMBD];
    const struct kern_cuda *k = run->kernels;
    const struct kern_cuda_text_embed_args args = {
        .x = run->x,
        .types = global[MODEL_TYPE_EMBD].vector,
        .type_of = e->card.types,
        .n_types = model->weights.global[MODEL_TYPE_EMBD].n,
        .more = positions->matrix.body ? run->branch : NULL,
        .w = global[MODEL_EMBD_NORM].vector,
        .b = global[MODEL_EMBD_NORM_BIAS].vector,
        .n_rows = e->n_rows,
        .n = model->hp.n_embd,
        .layer = model->arch->norm == MODEL_NORM_LAYER,
        .eps = model->hp.norm_eps,
    };
    gpu_launched(run,
                 k->product.rows(run->x, KERN_CUDA_ROWS_F32, &global[MODEL_TOKEN_EMBD].matrix,
                                 e->card.tokens, 0, e->n_rows, 1, run->stream),
                 "embedding");
    if (args.more)
        gpu_launched(run,
                     k->product.rows(run->branch, KERN_CUDA_ROWS_F32, &positions->matrix,
                                     e->card.pos, 0, e->n_rows, 1, run->stream),
                     "embedding");
    gpu_launched(run, k->text.embed(&args, run->stream), "embedding");
    for (int32_t r = 0; r < MODEL_ROPES && model->arch->rope != MODEL_ROPE_NONE; r++) {
        const struct model_rope *rope = &model->rope[r];
        if (rope->n_pairs)
            gpu_launched(run,
                         k->attn.rope(run->rope[r], e->card.pos, e->n_rows, run->gpu->frequency[r],
                                      run->gpu->far[r], rope->n_near, rope->n_pairs,
                                      rope->magnitude, run->stream),
                         "rotary positions");
    }
}

/* The residual stream behind its norm, if it has one, and the same rows in the form that the
 * product which reads them next wants (NULL: it reads them behind a norm of its own, or nothing
 * does). */
static struct gpu_rows settle(struct model_gpu_run *run, int32_t n_rows, const struct gpu_weight *w,
                              const struct gpu_weight *b, const struct gpu_weight *next)
{
    const struct infer_model *model = run->model;
    struct gpu_rows rows = gpu_rows_plain(run->x, model->hp.n_embd, n_rows);
    if (!w->vector)
        return rows;
    int32_t form = next ? gpu_product_form(run, next, n_rows) : KERN_CUDA_ROWS_F32;
    int plain = form == KERN_CUDA_ROWS_F32;
    const struct kern_cuda_norm_args args = {
        .y = plain ? run->x : run->forms[form],
        .y_stride = plain ? (size_t)rows.k * sizeof(float) : gpu_row_bytes(form, rows.k),
        .x = run->x,
        .x_stride = (size_t)rows.k,
        .w = w->vector,
        .b = b->vector,
        .n_rows = n_rows,
        .n = rows.k,
        .rows_type = form,
        .layer = model->arch->norm == MODEL_NORM_LAYER,
        .eps = model->hp.norm_eps,
        .keep = plain ? NULL : run->x,
    };
    gpu_launched(run, run->kernels->rows.norm(&args, run->stream), "a norm");
    rows.made = plain ? 0 : 1u << form;
    return rows;
}

static int is_f32(const struct gpu_weight *w)
{
    return w->matrix.type == INFER_DTYPE_F32;
}

/* What attention gives, in the form that the product behind it reads. */
static struct gpu_rows attend(const struct model_gpu_encoder *e, int32_t i, size_t stride)
{
    struct model_gpu_run *run = e->run;
    const struct model_layer *l = &run->model->weights.layers[i];
    const struct model_gpu *g = run->gpu;
    const struct gpu_weight *wo = gpu_weight_of(g, i, MODEL_ATTN_OUT);
    int32_t k = l->n_heads * l->head_dim, k_kv = l->n_heads_kv * l->head_dim;
    int bf16 = gpu_product_form(run, wo, e->n_rows) == KERN_CUDA_ROWS_BF16;
    struct gpu_rows rows = gpu_rows_plain(run->attn, k, e->n_rows);
    const struct kern_cuda_text_args args = {
        .q = run->qkv,
        .k = run->qkv + k,
        .v = run->qkv + k + k_kv,
        .stride = stride,
        .out = bf16 ? run->forms[KERN_CUDA_ROWS_BF16] : run->attn,
        .out_stride = bf16 ? gpu_row_bytes(KERN_CUDA_ROWS_BF16, k) : (size_t)k * sizeof(float),
        .out_rows = bf16 ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_F32,
        .n_head = l->n_heads,
        .n_head_kv = l->n_heads_kv,
        .head_dim = l->head_dim,
        .reach = l->window / 2,
        .scale = l->attn_scale,
        .alibi = (run->model->arch->traits & MODEL_ALIBI) != 0,
        .exact = !run->fast && (is_f32(gpu_weight_of(g, i, MODEL_ATTN_Q)) ||
                                is_f32(gpu_weight_of(g, i, MODEL_ATTN_K)) ||
                                is_f32(gpu_weight_of(g, i, MODEL_ATTN_V))),
        .tiles = e->card.tiles,
        .n_tiles = e->n_tiles,
    };
    if (bf16)
        rows.made = 1u << KERN_CUDA_ROWS_BF16;
    gpu_launched(run, run->kernels->text.attend(&args, run->stream), "attention");
    return rows;
}

static void attention(const struct model_gpu_encoder *e, int32_t i, struct gpu_rows *in)
{
    struct model_gpu_run *run = e->run;
    const struct model_layer *l = &run->model->weights.layers[i];
    const struct model_gpu *g = run->gpu;
    size_t q = (size_t)l->n_heads * (size_t)l->head_dim;
    size_t kv = (size_t)l->n_heads_kv * (size_t)l->head_dim, stride = q + 2 * kv;
    const struct gpu_product products[] = {
        {gpu_weight_of(g, i, MODEL_ATTN_Q), gpu_weight_of(g, i, MODEL_ATTN_Q_BIAS), run->qkv,
         stride},
        {gpu_weight_of(g, i, MODEL_ATTN_K), gpu_weight_of(g, i, MODEL_ATTN_K_BIAS), run->qkv + q,
         stride},
        {gpu_weight_of(g, i, MODEL_ATTN_V), gpu_weight_of(g, i, MODEL_ATTN_V_BIAS),
         run->qkv + q + kv, stride},
    };
    gpu_products(run, in, products, 3, 0);
    if (l->rope >= 0)
        gpu_launched(run,
                     run->kernels->text.rotate(run->qkv, stride, run->rope[l->rope], e->n_rows,
                                               l->n_heads + l->n_heads_kv, l->head_dim, l->n_rot,
                                               run->model->arch->rope == MODEL_ROPE_PAIRS,
                                               run->stream),
                     "rotary positions");
    struct gpu_rows out = attend(e, i, stride);
    gpu_join(run, &out, gpu_weight_of(g, i, MODEL_ATTN_OUT),
             gpu_weight_of(g, i, MODEL_ATTN_OUT_BIAS), gpu_weight_of(g, i, MODEL_ATTN_POST_NORM));
}

static void feed_forward(const struct model_gpu_encoder *e, int32_t i, struct gpu_rows *in)
{
    struct model_gpu_run *run = e->run;
    const struct model_gpu *g = run->gpu;
    const struct gpu_product gate = {gpu_weight_of(g, i, MODEL_FFN_GATE),
                                     gpu_weight_of(g, i, MODEL_FFN_GATE_BIAS), NULL, 0};
    const struct gpu_product up = {gpu_weight_of(g, i, MODEL_FFN_UP),
                                   gpu_weight_of(g, i, MODEL_FFN_UP_BIAS), NULL, 0};
    struct gpu_rows hidden = gpu_hidden(run, in, gate.w->matrix.body ? &gate : NULL, &up, NULL);
    gpu_join(run, &hidden, gpu_weight_of(g, i, MODEL_FFN_DOWN),
             gpu_weight_of(g, i, MODEL_FFN_DOWN_BIAS), gpu_weight_of(g, i, MODEL_FFN_POST_NORM));
}

/* The matrix that reads the stream itself, or NULL where there is a norm between. */
static const struct gpu_weight *reader(const struct model_gpu *g, int32_t i, enum model_role norm,
                                       enum model_role matrix)
{
    return gpu_weight_of(g, i, norm)->vector ? NULL : gpu_weight_of(g, i, matrix);
}

static void walk(const struct model_gpu_encoder *e)
{
    struct model_gpu_run *run = e->run;
    const struct model_gpu *g = run->gpu;
    int32_t n_rows = e->n_rows, n_layers = run->model->hp.n_layers;
    embed(e);
    struct gpu_rows in = gpu_rows_plain(run->x, run->model->hp.n_embd, n_rows);
    for (int32_t i = 0; i < n_layers && run->status == INFER_OK; i++) {
        if (!reader(g, i, MODEL_ATTN_NORM, MODEL_ATTN_Q))
            in = gpu_rows_norm(run, run->x, gpu_weight_of(g, i, MODEL_ATTN_NORM),
                               gpu_weight_of(g, i, MODEL_ATTN_NORM_BIAS), n_rows);
        attention(e, i, &in);
        in = settle(run, n_rows, gpu_weight_of(g, i, MODEL_ATTN_OUT_NORM),
                    gpu_weight_of(g, i, MODEL_ATTN_OUT_NORM_BIAS),
                    reader(g, i, MODEL_FFN_NORM, MODEL_FFN_UP));
        if (!reader(g, i, MODEL_FFN_NORM, MODEL_FFN_UP))
            in = gpu_rows_norm(run, run->x, gpu_weight_of(g, i, MODEL_FFN_NORM),
                               gpu_weight_of(g, i, MODEL_FFN_NORM_BIAS), n_rows);
        feed_forward(e, i, &in);
        in = settle(run, n_rows, gpu_weight_of(g, i, MODEL_LAYER_OUT_NORM),
                    gpu_weight_of(g, i, MODEL_LAYER_OUT_NORM_BIAS),
                    i + 1 < n_layers ? reader(g, i + 1, MODEL_ATTN_NORM, MODEL_ATTN_Q) : NULL);
    }
    settle(run, n_rows, &g->global[MODEL_OUTPUT_NORM], &g->global[MODEL_OUTPUT_NORM_BIAS], NULL);
}

static infer_status walk_batch(void *encoder)
{
    const struct model_gpu_encoder *e = encoder;
    infer_status st = device_cuda_enter(e->run->device, &e->run->stream);
    if (st != INFER_OK)
        return st;
    if (is_small(e))
        bring_in(e);
    walk(e);
    device_cuda_leave(e->run->device);
    return e->run->status;
}

infer_status model_gpu_encode(struct model_gpu_encoder *e, const struct model_encode_batch *batch)
{
    struct model_gpu_run *run = e->run;
    run->status = INFER_OK;
    infer_status st = write_down(e, batch);
    if (st != INFER_OK || !e->n_own)
        return st;
    run->gpu = run->model->gpu; /* another one after a restoration */
    gpu_used(run);
    if (is_small(e)) {
        const struct gpu_graph shape = {.n_rows = e->n_rows,
                                        .n_tiles = e->n_tiles,
                                        .weights = run->gpu->memory.data,
                                        .ways = run->gpu->ways};
        return gpu_graph_replay(run, &shape, walk_batch, e);
    }
    st = device_cuda_copy_in(run->device, e->memory.data, e->pinned, e->batch_bytes);
    return st == INFER_OK ? walk_batch(e) : st;
}

/* ------------------------------------------------------------------- answers */

infer_status model_gpu_encoder_rows(struct model_gpu_encoder *e, const float **rows)
{
    size_t row = (size_t)e->run->model->hp.n_embd;
    if (!e->rows)
        e->rows = base_new(&e->alloc, (size_t)e->max_tokens * row, sizeof *e->rows);
    if (!e->rows)
        return INFER_ERR_NO_MEMORY;
    *rows = e->rows;
    if (!e->n_own)
        return INFER_OK;
    gpu_done(e->run); /* the download waits */
    return device_buffer_download(e->rows, &e->run->memory,
                                  (size_t)((uint8_t *)e->run->x - (uint8_t *)e->run->memory.data),
                                  (size_t)e->n_own * row * sizeof *e->rows);
}

infer_status model_gpu_encoder_fold(struct model_gpu_encoder *e, const struct model_fold *folds,
                                    int32_t n)
{
    return gpu_fold(e->run, e->run->x, folds, n);
}

/* What is between the matrices of the head, in place. */
static void head_act(struct model_gpu_run *run, int32_t n_texts)
{
    const struct infer_model *model = run->model;
    const struct kern_cuda *k = run->kernels;
    size_t row = (size_t)model->hp.n_embd;
    const struct kern_cuda_gate_args gelu = {.y = run->x,
                                             .y_stride = row * sizeof(float),
                                             .rows_type = KERN_CUDA_ROWS_F32,
                                             .gate = run->x,
                                             .stride = row,
                                             .act = KERN_CUDA_ACT_GELU,
                                             .n_rows = n_texts,
                                             .n = model->hp.n_embd};
    if (model->arch->head_act == MODEL_HEAD_GELU)
        gpu_launched(run, k->rows.gate(&gelu, run->stream), "the head");
    else
        gpu_launched(run, k->rows.logits(run->x, 1, 1, (size_t)n_texts * row, run->stream),
                     "the head");
    settle(run, n_texts, &run->gpu->global[MODEL_CLS_NORM], &run->gpu->global[MODEL_CLS_NORM_BIAS],
           NULL);
}

/* Pooled rows take the place of the branch, what is made of them that of the stream. */
static void head(const struct model_gpu_encoder *e, int32_t n_texts)
{
    struct model_gpu_run *run = e->run;
    const struct gpu_weight *global = run->gpu->global;
    struct gpu_rows in = gpu_rows_plain(run->branch, run->model->hp.n_embd, n_texts);
    const struct gpu_product dense = {&global[MODEL_CLS], &global[MODEL_CLS_BIAS], run->x, 0};
    const struct gpu_product labels = {&global[MODEL_CLS_OUT], &global[MODEL_CLS_OUT_BIAS],
                                       e->labels, 0};
    if (dense.w->matrix.body) {
        gpu_products(run, &in, &dense, 1, 0);
        head_act(run, n_texts);
        in = gpu_rows_plain(run->x, run->model->hp.n_embd, n_texts);
    }
    gpu_products(run, &in, &labels, 1, 0);
}

/* Every text has a row, so that there is room for all. */
static infer_status pool(const struct model_gpu_encoder *e, const struct model_encode_batch *batch)
{
    struct model_gpu_run *run = e->run;
    for (int32_t i = 0; i < batch->n_texts; i++) {
        int32_t n = batch->offsets[i + 1] - batch->offsets[i];
        int mean = run->model->pooling.head == MODEL_POOLING_MEAN;
        e->folds[i] = (struct kern_cuda_text_fold){
            .row = batch->offsets[i], .n_rows = mean ? n : 1, .scale = mean ? 1 / (float)n : 1};
    }
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    gpu_launched(run,
                 run->kernels->text.pool(run->branch, run->x, e->folds, batch->n_texts,
                                         run->model->hp.n_embd, run->stream),
                 "pooling");
    head(e, batch->n_texts);
    device_cuda_leave(run->device);
    return run->status;
}

infer_status model_gpu_encoder_classify(struct model_gpu_encoder *e,
                                        const struct model_encode_batch *batch, float *out)
{
    infer_status st = model_gpu_encode(e, batch);
    if (st == INFER_OK)
        st = pool(e, batch);
    if (st != INFER_OK)
        return st;
    gpu_done(e->run); /* the download waits */
    return device_buffer_download(out, &e->memory,
                                  (size_t)((uint8_t *)e->labels - (uint8_t *)e->memory.data),
                                  (size_t)batch->n_texts * (size_t)e->n_labels * sizeof *out);
}
