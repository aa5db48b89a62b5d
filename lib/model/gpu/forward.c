/* A step on the card: its batch is uploaded, its layers are launched, its logits come back. */
#include "model/gpu/run.h"

#include <string.h>

/* ------------------------------------------------------------------ slots */

static struct gpu_slot *slot_of(struct model_gpu_run *run, uint64_t step)
{
    return &run->slots[step % BASE_COUNT(run->slots)];
}

void gpu_used(struct model_gpu_run *run)
{
    slot_of(run, run->n_steps)->state = GPU_SLOT_USED;
}

void gpu_done(struct model_gpu_run *run)
{
    slot_of(run, run->n_steps)->state = GPU_SLOT_FREE;
}

infer_status gpu_mark(struct model_gpu_run *run)
{
    struct gpu_slot *slot = slot_of(run, run->n_steps);
    slot->state = GPU_SLOT_USED;
    infer_status st = device_cuda_event_record(run->device, slot->event);
    if (st == INFER_OK)
        slot->state = GPU_SLOT_MARKED;
    return st;
}

static infer_status wait_for(struct model_gpu_run *run, struct gpu_slot *slot)
{
    const enum gpu_slot_state state = slot->state;
    slot->state = GPU_SLOT_FREE;
    if (state == GPU_SLOT_FREE)
        return INFER_OK;
    return state == GPU_SLOT_MARKED ? device_cuda_event_wait(run->device, slot->event)
                                    : run->device->ops->sync(run->device);
}

infer_status model_gpu_wait(struct model_gpu_run *run)
{
    infer_status st = wait_for(run, slot_of(run, run->n_steps + 1));
    infer_status last = wait_for(run, slot_of(run, run->n_steps));
    return st == INFER_OK ? last : st;
}

uint64_t model_gpu_step(const struct model_gpu_run *run)
{
    return run->n_steps;
}

infer_status model_gpu_chosen(struct model_gpu_run *run, uint64_t step, struct model_choice *chosen)
{
    struct gpu_slot *slot = slot_of(run, step);
    *chosen = (struct model_choice){slot->chosen, slot->logprobs,
                                    (const struct model_pick_top *)slot->top};
    return wait_for(run, slot);
}

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

static size_t table_at(const struct model_gpu_run *run, int32_t group, int32_t seq)
{
    return ((size_t)group * (size_t)run->max_seqs + (size_t)seq) * (size_t)run->table_stride;
}

/* Blocks of a sequence in a group: of a state one, however long it is. */
static int32_t blocks_of(const struct model_gpu_run *run, const struct model_kv_view *kv, int32_t g,
                         int32_t length)
{
    return run->model->kv_groups[g].kind == MODEL_KV_STATE
               ? 1
               : BASE_DIV_UP(length, kv[g].block_tokens);
}

static void add_seq(struct model_gpu_run *run, struct gpu_batch_memory *h,
                    const struct model_batch *batch, int32_t s)
{
    const struct model_batch_seq *seq = &batch->seqs[s];
    int32_t length = seq->first_pos + seq->n_rows;
    h->seqs[s] = (struct kern_cuda_seq){seq->first_pos, seq->row, seq->n_rows};
    for (int32_t i = 0; i < seq->n_rows; i++) {
        h->seq_of[seq->row + i] = s;
        h->pos[seq->row + i] = seq->first_pos + i;
    }
    run->batch.seq_rows = BASE_MAX(run->batch.seq_rows, seq->n_rows);
    run->longest = BASE_MAX(run->longest, length);
    for (int32_t g = 0; g < run->model->n_kv_groups; g++) {
        int32_t n = blocks_of(run, batch->kv, g, length);
        memcpy(h->tables + table_at(run, g, s), seq->blocks[g], (size_t)n * sizeof *h->tables);
    }
}

/* Rows and sequences that only fill up the shape of a graph. */
static void pad(struct model_gpu_run *run, struct gpu_batch_memory *h, int32_t n_rows)
{
    for (int32_t i = run->batch.n_rows; i < n_rows; i++) {
        h->tokens[i] = h->pos[i] = 0;
        h->seq_of[i] = h->source[i] = -1;
        h->seqs[i] = (struct kern_cuda_seq){0, i, 0};
    }
    run->batch.n_rows = run->batch.n_seqs = n_rows;
}

/* Blocks of one sequence in a group, as far as any of this step has them. */
static int32_t table_used(const struct model_gpu_run *run, int32_t g)
{
    return blocks_of(run, run->kv, g, run->longest);
}

static infer_status upload(struct model_gpu_run *run, const struct gpu_batch_memory *h,
                           int32_t n_seqs)
{
    struct infer_device *device = run->device;
    size_t bytes = run->batch_bytes + (run->lora.targets ? run->lora_bytes : 0);
    infer_status st = device_cuda_copy_in(device, run->memory.data, h->tokens, bytes);
    for (int32_t g = 0; g < run->model->n_kv_groups && st == INFER_OK; g++) {
        size_t at = table_at(run, g, 0), pitch = (size_t)run->table_stride * sizeof(int32_t);
        size_t used = (size_t)table_used(run, g) * sizeof(int32_t);
        st = device_cuda_copy_in_rows(device, run->card.tables + at, h->tables + at, pitch, used,
                                      (size_t)n_seqs);
    }
    return st;
}

static void add_words(struct kern_cuda_begin_args *args, void *to, const void *from, int32_t width)
{
    args->pieces[args->n_pieces++] = (struct kern_cuda_words){to, from, width, 1, width};
}

_Static_assert(7 + MODEL_KV_GROUPS_MAX <= KERN_CUDA_PIECES, "one launch brings in all of a step");

/* The same of a step of one row a sequence, taken by the card itself, and the tokens that are there
 * already. */
static infer_status launch_begin(struct model_gpu_run *run, const struct gpu_slot *slot,
                                 int32_t n_seqs)
{
    const struct gpu_batch_memory *h = &slot->batch, *c = &run->card;
    const int32_t n = run->batch.n_rows;
    struct kern_cuda_begin_args args = {.n_rows = n,
                                        .tokens = c->tokens,
                                        .new_tokens = h->tokens,
                                        .source = h->source,
                                        .chosen = run->next_tokens};
    add_words(&args, c->seq_of, h->seq_of, n);
    add_words(&args, c->pos, h->pos, n);
    add_words(&args, c->seqs, h->seqs, n * (int32_t)(sizeof *c->seqs / sizeof(int32_t)));
    add_words(&args, c->outputs, h->outputs, run->max_outputs);
    add_words(&args, c->answer_to, h->answer_to, GPU_ANSWERS * sizeof(void *) / sizeof(int32_t));
    if (run->chooses > GPU_CHOOSE_BEST)
        add_words(&args, run->samples, slot->samples,
                  n * (int32_t)(sizeof *run->samples / sizeof(int32_t)));
    if (run->lora.targets) /* segments, and the scales behind them */
        add_words(&args, c->segments, h->segments, (int32_t)(run->lora_bytes / sizeof(int32_t)));
    for (int32_t g = 0; g < run->model->n_kv_groups; g++) {
        size_t at = table_at(run, g, 0);
        args.pieces[args.n_pieces++] = (struct kern_cuda_words){
            c->tables + at, h->tables + at, table_used(run, g), n_seqs, run->table_stride};
    }
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    gpu_launched(run, run->kernels->step.begin(&args, run->stream), "the begin of a step");
    device_cuda_leave(run->device);
    return run->status;
}

/* What a step draws its tokens by; nothing in rows that only fill up. */
static void stage_samples(struct model_gpu_run *run, struct gpu_slot *slot,
                          const struct model_batch *batch)
{
    run->chooses = batch->chooses ? GPU_CHOOSE_BEST : GPU_CHOOSE_NOTHING;
    for (int32_t i = 0; batch->chooses && batch->picks && i < run->batch.n_rows; i++) {
        struct kern_cuda_sample_row *row = &slot->samples[i];
        enum gpu_choice wanted = GPU_CHOOSE_DRAWN;
        *row = (struct kern_cuda_sample_row){.kind = KERN_CUDA_PICK_NONE};
        if (i < batch->n_rows) {
            *row = gpu_pick_row(&batch->picks[i], run->model->hp.n_vocab);
            wanted = row->n_top ? GPU_CHOOSE_TOP : row->logprob ? GPU_CHOOSE_LOGPROBS : wanted;
        }
        run->chooses = BASE_MAX(run->chooses, wanted);
    }
}

static void stage(struct model_gpu_run *run, struct gpu_slot *slot, const struct model_batch *batch)
{
    struct gpu_batch_memory *h = &slot->batch;
    const size_t n = (size_t)batch->n_rows;
    run->host = h;
    run->gpu = run->model->gpu; /* another one after a restoration */
    run->kv = batch->kv;
    run->batch = (struct kern_cuda_batch){.tokens = run->card.tokens,
                                          .seq_of = run->card.seq_of,
                                          .pos = run->card.pos,
                                          .seqs = run->card.seqs,
                                          .n_rows = batch->n_rows,
                                          .n_seqs = batch->n_seqs};
    run->picked = run->longest = 0;
    gpu_lora_begin(run, batch);
    for (int32_t i = 0; i < run->max_outputs; i++)
        h->outputs[i] = i;
    h->answer_to[0] = slot->chosen;
    h->answer_to[1] = slot->logprobs;
    h->answer_to[2] = slot->top;
    memcpy(h->tokens, batch->tokens, n * sizeof *batch->tokens);
    if (batch->source)
        memcpy(h->source, batch->source, n * sizeof *batch->source);
    else
        memset(h->source, 0xff, n * sizeof *h->source);
    for (int32_t s = 0; s < batch->n_seqs; s++)
        add_seq(run, h, batch, s);
    run->batch.seq_length = run->longest;
    if (run->batch.seq_rows == 1) {
        pad(run, h, BASE_MIN(round_seqs(batch->n_seqs), BASE_MIN(run->max_seqs, run->max_rows)));
        run->batch.seq_length = round_length(run->longest);
    }
    stage_samples(run, slot, batch);
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
        const struct kern_cuda_join_args args = {.x = run->x,
                                                 .branch = run->branch,
                                                 .scale = 1,
                                                 .factor = 1,
                                                 .n_rows = n_rows,
                                                 .n = model->hp.n_embd};
        gpu_launched(run, k->rows.join(&args, run->stream), "embedding");
    }
    if (model->hp.n_input)
        gpu_layer_inputs(run);
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

/* Layers have up to three parts, of which the last one scales the stream where the layer does. */
void gpu_walk_each(struct model_gpu_run *run)
{
    const int32_t n_input = run->model->hp.n_input;
    for (int32_t i = 0; i < run->model->hp.n_layers && run->status == INFER_OK; i++) {
        const struct model_layer *layer = &run->model->weights.layers[i];
        const struct gpu_weight *scaled = gpu_weight_of(run->gpu, i, MODEL_LAYER_SCALE);
        const float scale = scaled->vector ? scaled->scale : 1;
        run->join_factor = layer->ffn || n_input ? 1 : scale;
        if (layer->mix)
            gpu_mix_of(layer)(run, i);
        run->join_factor = n_input ? 1 : scale;
        if (layer->experts)
            gpu_moe(run, i);
        else if (layer->ffn)
            gpu_feed_forward(run, i);
        run->join_factor = scale;
        if (n_input)
            gpu_layer_input_add(run, i);
    }
}

infer_status gpu_walk_layers(struct model_gpu_run *run)
{
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    gpu_embed(run);
    gpu_walk_each(run);
    if (run->chooses)
        gpu_choose(run);
    device_cuda_leave(run->device);
    return run->status;
}

static infer_status run_layers(struct model_gpu_run *run)
{
    if (run->batch.seq_rows != 1)
        return gpu_walk_layers(run);
    if (gpu_mega_takes(run))
        return gpu_mega_run(run);
    return run->status == INFER_OK ? gpu_graph_run(run) : run->status;
}

infer_status model_gpu_forward(struct model_gpu_run *run, const struct model_batch *batch)
{
    struct gpu_slot *slot = slot_of(run, ++run->n_steps);
    infer_status st = wait_for(run, slot); /* the step before the last may still read it */
    if (st != INFER_OK)
        return st;
    run->status = INFER_OK;
    stage(run, slot, batch);
    gpu_used(run);
    st = run->batch.seq_rows == 1 ? launch_begin(run, slot, batch->n_seqs)
                                  : upload(run, &slot->batch, batch->n_seqs);
    if (st == INFER_OK)
        st = run_layers(run);
    return st == INFER_OK ? gpu_mark(run) : st;
}

/* -------------------------------------------------------------------- the head */

/* Logits of n rows of the residual stream. */
static void launch_logits(struct model_gpu_run *run, const float *x, int32_t n)
{
    const struct infer_model *model = run->model;
    const struct model_hparams *hp = &model->hp;
    const struct model_gpu *g = run->gpu;
    float scale = hp->logit_scale == 0                       ? 1
                  : model->arch->traits & MODEL_LOGIT_DIVIDE ? 1 / hp->logit_scale
                                                             : hp->logit_scale;
    struct gpu_rows in =
        gpu_rows_norm(run, x, &g->global[MODEL_OUTPUT_NORM], &g->global[MODEL_OUTPUT_NORM_BIAS], n);
    const struct gpu_product product = {&g->global[MODEL_OUTPUT], &g->global[MODEL_OUTPUT_BIAS],
                                        run->logits, 0};
    gpu_products(run, &in, &product, 1, 0);
    if (scale != 1 || hp->logit_softcap > 0)
        gpu_launched(run,
                     run->kernels->rows.logits(run->logits, scale, hp->logit_softcap,
                                               (size_t)n * (size_t)hp->n_vocab, run->stream),
                     "the head");
}

static int32_t choose_rows(struct model_gpu_run *run, int32_t first, int32_t n)
{
    const int32_t n_vocab = run->model->hp.n_vocab;
    const size_t top = (size_t)first * KERN_CUDA_SAMPLE_TOP_MAX;
    const struct kern_cuda_sample_args args = {.logits = run->logits,
                                               .n_rows = n,
                                               .n = n_vocab,
                                               .rows = run->samples + first,
                                               .pool = run->picks.card_pool,
                                               .saved = run->picks.saved,
                                               .ids = run->next_tokens + first,
                                               .logprobs = run->next_logprobs + first,
                                               .top = run->next_top + top,
                                               .top_stride = KERN_CUDA_SAMPLE_TOP_MAX};
    if (run->chooses == GPU_CHOOSE_BEST)
        return run->kernels->rows.argmax(args.ids, run->logits, n, n_vocab, run->stream);
    return run->kernels->rows.sample(&args, run->stream);
}

_Static_assert(sizeof(struct kern_cuda_sample_top) == 2 * sizeof(int32_t) &&
                   sizeof(float) == sizeof(int32_t),
               "answers are words");

/* As many rows at a time as there is room for logits. All that a row is drawn by lies on the card,
 * so that this can be part of a graph; what differs is which of it is computed and answered. */
void gpu_choose(struct model_gpu_run *run)
{
    const struct model_hparams *hp = &run->model->hp;
    const int32_t n_rows = run->batch.n_rows;
    const int32_t *const answers[GPU_ANSWERS] = {
        run->next_tokens, (const int32_t *)run->next_logprobs, (const int32_t *)run->next_top};
    const int32_t words[GPU_ANSWERS] = {1, 1, 2 * KERN_CUDA_SAMPLE_TOP_MAX};
    const int32_t n_answers = BASE_MAX((int32_t)run->chooses - GPU_CHOOSE_DRAWN, 0) + 1;
    for (int32_t first = 0, n; first < n_rows; first += n) {
        n = BASE_MIN(n_rows - first, run->max_outputs);
        launch_logits(run, run->x + (size_t)first * (size_t)hp->n_embd, n);
        gpu_launched(run, choose_rows(run, first, n), "the head");
    }
    for (int32_t i = 0; i < n_answers; i++)
        gpu_launched(run,
                     run->kernels->step.answer((int32_t *const *)run->card.answer_to + i,
                                               answers[i], words[i] * n_rows, run->stream),
                     "the head");
}

static void launch_head(struct model_gpu_run *run, int32_t n)
{
    gpu_launched(run,
                 run->kernels->rows.gather(run->gathered, run->x, run->card.outputs, n,
                                           run->model->hp.n_embd, run->stream),
                 "the head");
    launch_logits(run, run->gathered, n);
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
    /* There is one place for what a head is told: a head of the last step that failed may still
     * read it. */
    infer_status st = wait_for(run, slot_of(run, run->n_steps + 1));
    if (st == INFER_OK)
        st = upload_outputs(run, rows, n);
    gpu_used(run);
    if (st == INFER_OK)
        st = gpu_pick_stage(run, picks, n);
    if (st == INFER_OK)
        st = gpu_lora_pick(run, rows, n);
    if (st == INFER_OK)
        st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    launch_head(run, n);
    gpu_pick_launch(run, n);
    device_cuda_leave(run->device);
    return run->status == INFER_OK ? gpu_pick_fetch(run, picks, n) : run->status;
}
