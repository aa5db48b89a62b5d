/* A step on the card: its batch is uploaded, its layers are launched, its logits come back. */
#include "model/gpu/run.h"

#include <string.h>

/* ------------------------------------------------------------------- the batch */

/* Numbers of sequences and lengths that graphs are captured for: a step is rounded up. */
static int32_t round_seqs(int32_t n)
{
    int32_t up = 1;
    while (up < n && up < 8)
        up *= 2;
    return n <= 8 ? up : BASE_ALIGN_UP(n, 8);
}

static int32_t round_length(int32_t n)
{
    int32_t up = 256;
    while (up < n)
        up *= 2;
    return up;
}

static void add_seq(struct model_gpu_run *run, const struct model_batch *batch, int32_t s)
{
    const struct model_batch_seq *seq = &batch->seqs[s];
    struct gpu_batch_memory *h = &run->host;
    int32_t length = seq->first_pos + seq->n_rows;
    h->seqs[s] = (struct kern_cuda_seq){seq->first_pos, seq->row, seq->n_rows};
    for (int32_t i = 0; i < seq->n_rows; i++) {
        h->seq_of[seq->row + i] = s;
        h->pos[seq->row + i] = seq->first_pos + i;
    }
    run->batch.seq_rows = BASE_MAX(run->batch.seq_rows, seq->n_rows);
    run->batch.seq_length = BASE_MAX(run->batch.seq_length, length);
    for (int32_t g = 0; g < run->model->n_kv_groups; g++) {
        int32_t n = BASE_DIV_UP(length, batch->kv[g].block_tokens);
        memcpy(h->tables +
                   ((size_t)g * (size_t)run->max_seqs + (size_t)s) * (size_t)run->table_stride,
               seq->blocks[g], (size_t)n * sizeof *h->tables);
    }
}

/* Rows and sequences that only fill up the shape of a graph. */
static void pad(struct model_gpu_run *run, int32_t n_rows)
{
    for (int32_t i = run->batch.n_rows; i < n_rows; i++) {
        run->host.tokens[i] = run->host.pos[i] = 0;
        run->host.seq_of[i] = -1;
        run->host.seqs[i] = (struct kern_cuda_seq){0, i, 0};
    }
    run->batch.n_rows = run->batch.n_seqs = n_rows;
}

static infer_status upload(struct model_gpu_run *run, const struct model_batch *batch,
                           int32_t longest)
{
    struct infer_device *device = run->device;
    size_t bytes = run->batch_bytes + (run->lora.targets ? run->lora_bytes : 0);
    infer_status st = device_cuda_copy_in(device, run->memory.data, run->pinned, bytes);
    for (int32_t g = 0; g < run->model->n_kv_groups && st == INFER_OK; g++) {
        size_t at = (size_t)g * (size_t)run->max_seqs * (size_t)run->table_stride;
        size_t pitch = (size_t)run->table_stride * sizeof(int32_t);
        size_t used = (size_t)BASE_DIV_UP(longest, batch->kv[g].block_tokens);
        st = device_cuda_copy_in_rows(device, run->card.tables + at, run->host.tables + at, pitch,
                                      used * sizeof(int32_t), (size_t)batch->n_seqs);
    }
    return st;
}

static infer_status stage_batch(struct model_gpu_run *run, const struct model_batch *batch)
{
    infer_status st = model_gpu_wait(run); /* the last step may still read the pinned memory */
    if (st != INFER_OK)
        return st;
    run->gpu = run->model->gpu; /* another one after a restoration */
    run->kv = batch->kv;
    run->batch = (struct kern_cuda_batch){.tokens = run->card.tokens,
                                          .seq_of = run->card.seq_of,
                                          .pos = run->card.pos,
                                          .seqs = run->card.seqs,
                                          .n_rows = batch->n_rows,
                                          .n_seqs = batch->n_seqs};
    run->picked = 0;
    gpu_lora_begin(run, batch);
    for (int32_t i = 0; i < run->max_outputs; i++)
        run->host.outputs[i] = i;
    memcpy(run->host.tokens, batch->tokens, (size_t)batch->n_rows * sizeof *batch->tokens);
    for (int32_t s = 0; s < batch->n_seqs; s++)
        add_seq(run, batch, s);
    int32_t longest = run->batch.seq_length, at_most = BASE_MIN(run->max_seqs, run->max_rows);
    if (run->batch.seq_rows == 1) {
        pad(run, BASE_MIN(round_seqs(batch->n_seqs), at_most));
        run->batch.seq_length = round_length(longest);
    }
    return upload(run, batch, longest);
}

/* ------------------------------------------------------------------- the walk */

void gpu_embed(struct model_gpu_run *run)
{
    const struct infer_model *model = run->model;
    const struct kern_cuda *k = run->kernels;
    const struct gpu_weight *positions = &run->gpu->global[MODEL_POS_EMBD];
    float scale = model->hp.embd_scale != 0 ? model->hp.embd_scale : 1;
    int32_t n_rows = run->batch.n_rows;
    gpu_launched(run,
                 k->product.rows(run->x, KERN_CUDA_ROWS_F32,
                                 &run->gpu->global[MODEL_TOKEN_EMBD].matrix, run->batch.tokens, 0,
                                 n_rows, scale, run->stream),
                 "embedding");
    if (positions->matrix.body) {
        gpu_launched(run,
                     k->product.rows(run->branch, KERN_CUDA_ROWS_F32, &positions->matrix,
                                     run->batch.pos, 0, n_rows, 1, run->stream),
                     "embedding");
        gpu_launched(run,
                     k->rows.join(run->x, run->branch, NULL, NULL, 0, 0, 1, n_rows,
                                  model->hp.n_embd, run->stream),
                     "embedding");
    }
    for (int32_t r = 0; r < MODEL_ROPES; r++) {
        const struct model_rope *rope = &model->rope[r];
        if (rope->n_pairs)
            gpu_launched(run,
                         k->attn.rope(run->rope[r], run->batch.pos, n_rows, run->gpu->frequency[r],
                                      run->gpu->far[r], rope->n_near, rope->n_pairs,
                                      rope->magnitude, run->stream),
                         "rotary positions");
    }
}

void gpu_walk_each(struct model_gpu_run *run)
{
    for (int32_t i = 0; i < run->model->hp.n_layers && run->status == INFER_OK; i++) {
        const struct model_layer *layer = &run->model->weights.layers[i];
        if (layer->mix)
            gpu_attention(run, i);
        if (layer->experts)
            gpu_moe(run, i);
        else if (layer->ffn)
            gpu_feed_forward(run, i);
    }
}

infer_status gpu_walk_layers(struct model_gpu_run *run)
{
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    gpu_embed(run);
    gpu_walk_each(run);
    device_cuda_leave(run->device);
    return run->status;
}

infer_status model_gpu_forward(struct model_gpu_run *run, const struct model_batch *batch)
{
    run->status = INFER_OK;
    run->n_steps++;
    infer_status st = stage_batch(run, batch);
    if (st != INFER_OK)
        return st;
    run->busy = 1;
    if (run->batch.seq_rows != 1)
        return gpu_walk_layers(run);
    if (gpu_mega_takes(run))
        return gpu_mega_run(run);
    return run->status == INFER_OK ? gpu_graph_run(run) : run->status;
}

/* -------------------------------------------------------------------- the head */

static void launch_head(struct model_gpu_run *run, int32_t n)
{
    const struct infer_model *model = run->model;
    const struct model_hparams *hp = &model->hp;
    const struct model_gpu *g = run->gpu;
    float scale = hp->logit_scale == 0                       ? 1
                  : model->arch->traits & MODEL_LOGIT_DIVIDE ? 1 / hp->logit_scale
                                                             : hp->logit_scale;
    gpu_launched(run,
                 run->kernels->rows.gather(run->gathered, run->x, run->card.outputs, n, hp->n_embd,
                                           run->stream),
                 "the head");
    struct gpu_rows in = gpu_rows_norm(run, run->gathered, &g->global[MODEL_OUTPUT_NORM],
                                       &g->global[MODEL_OUTPUT_NORM_BIAS], n);
    const struct gpu_product product = {&g->global[MODEL_OUTPUT], &g->global[MODEL_OUTPUT_BIAS],
                                        run->logits, 0};
    gpu_products(run, &in, &product, 1, 0);
    if (scale != 1 || hp->logit_softcap > 0)
        gpu_launched(run,
                     run->kernels->rows.logits(run->logits, scale, hp->logit_softcap,
                                               (size_t)n * (size_t)hp->n_vocab, run->stream),
                     "the head");
}

/* The first rows in order went to the card with the batch, whose copy may still be on its way. */
static infer_status upload_outputs(struct model_gpu_run *run, const int32_t *rows, int32_t n)
{
    int32_t i = 0;
    while (i < n && rows[i] == i)
        i++;
    if (i == n && !run->picked)
        return INFER_OK;
    run->picked = 1;
    memcpy(run->host_picked, rows, (size_t)n * sizeof *rows);
    return device_cuda_copy_in(run->device, run->card.outputs, run->host_picked,
                               (size_t)n * sizeof *rows);
}

infer_status model_gpu_head(struct model_gpu_run *run, const int32_t *rows, int32_t n,
                            struct model_pick *picks, float **logits)
{
    run->status = INFER_OK;
    *logits = run->host_logits;
    infer_status st = upload_outputs(run, rows, n);
    run->busy = 1;
    if (st == INFER_OK)
        st = gpu_pick_stage(run, picks, n);
    if (st == INFER_OK)
        st = gpu_lora_pick(run, rows, n);
    if (st == INFER_OK)
        st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    launch_head(run, n);
    gpu_pick_launch(run, n, NULL);
    device_cuda_leave(run->device);
    return run->status == INFER_OK ? gpu_pick_fetch(run, picks, n) : run->status;
}

infer_status model_gpu_wait(struct model_gpu_run *run)
{
    if (!run->busy)
        return INFER_OK;
    run->busy = 0;
    return run->device->ops->sync(run->device);
}
