/* Memory of steps, and what a step uploads. */
#include "model/gpu/run.h"

#include "kernels/quant_blocks.h"

#include <string.h>

/* A part of a quantised matrix that waits for cuBLAS in BF16: it stays in the cache of the card. */
#define UNPACKED_BYTES ((size_t)32 << 20)

/* Of every array: what the widest loads want. */
#define ALIGNMENT 256

struct carver {
    uint8_t *base; /* NULL: sizes are only counted */
    size_t used;
};

static void *carve(struct carver *c, size_t rows, size_t row_bytes)
{
    void *p = c->base ? c->base + c->used : NULL;
    c->used += BASE_ALIGN_UP(rows * row_bytes, (size_t)ALIGNMENT);
    return p;
}

struct widths {
    size_t q, k, v, attn, ff;
    int32_t widest, heads, head_dim_v; /* widest: of rows that products read */
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
        w.heads = BASE_MAX(w.heads, l->n_heads);
        w.head_dim_v = BASE_MAX(w.head_dim_v, l->head_dim_v);
    }
    size_t widest = BASE_MAX(BASE_MAX(w.ff, w.attn), (size_t)hp->n_embd);
    if (hp->kv_lora) { /* each head's query by itself, on whole lines */
        size_t head = BASE_ALIGN_UP(w.q / (size_t)hp->n_heads, (size_t)32) + 64;
        widest = BASE_MAX(widest, BASE_MAX((size_t)hp->n_heads * head, (size_t)hp->q_lora));
    }
    widest = BASE_MAX(widest, (size_t)hp->ssm_inner);
    w.widest = (int32_t)BASE_ALIGN_UP(BASE_MAX(widest, (size_t)hp->n_ff_exp), (size_t)32);
    return w;
}

/* ------------------------------------------------------------- uploaded part */

static int32_t table_stride_of(int32_t max_tokens)
{
    return BASE_DIV_UP(max_tokens, KERN_CUDA_BLOCK_TOKENS_MIN) + 1;
}

static void carve_batch(struct carver *c, struct gpu_batch_memory *m, size_t rows, size_t outputs,
                        size_t seqs)
{
    m->tokens = carve(c, rows, sizeof *m->tokens);
    m->seq_of = carve(c, rows, sizeof *m->seq_of);
    m->pos = carve(c, rows, sizeof *m->pos);
    m->seqs = carve(c, seqs, sizeof *m->seqs);
    m->outputs = carve(c, outputs, sizeof *m->outputs);
    m->source = carve(c, rows, sizeof *m->source);
    m->answer_to = carve(c, GPU_ANSWERS, sizeof *m->answer_to);
}

/* Steps with adapters upload the first two as well; the head has a copy of its own. */
static void carve_lora(struct carver *c, struct gpu_batch_memory *m, struct model_gpu_run *run)
{
    size_t segments = (size_t)run->max_segments, begin = c->used;
    m->segments = carve(c, segments, sizeof *m->segments);
    m->scales = carve(c, (size_t)run->max_rows, sizeof *m->scales);
    run->lora_bytes = c->used - begin;
    m->head_segments = carve(c, segments, sizeof *m->head_segments);
    m->head_scales = carve(c, (size_t)run->max_outputs, sizeof *m->head_scales);
    run->head_lora_bytes = c->used - begin - run->lora_bytes;
}

static size_t tables_bytes(const struct infer_model *model, const struct model_gpu_run_config *c)
{
    size_t bytes = (size_t)model->n_kv_groups * (size_t)c->max_seqs *
                   (size_t)table_stride_of(c->max_tokens) * sizeof(int32_t);
    return BASE_ALIGN_UP(bytes, (size_t)ALIGNMENT);
}

/* ---------------------------------------------------------------- activations */

static void carve_moe(struct carver *c, struct model_gpu_run *run, size_t rows)
{
    const struct model_hparams *hp = &run->model->hp;
    size_t slots = rows * (size_t)hp->n_experts_used, n = (size_t)hp->n_experts, f = sizeof(float);
    if (!n)
        return;
    run->scores = carve(c, rows, n * f);
    run->weights = carve(c, slots, f);
    run->shared_gate = carve(c, rows, f);
    run->chosen = carve(c, slots, sizeof *run->chosen);
    run->first = carve(c, n + 1, sizeof *run->first);
    run->from = carve(c, slots, sizeof *run->from);
    run->slot_of = carve(c, slots, sizeof *run->slot_of);
    run->expert_gate = carve(c, slots, (size_t)hp->n_ff_exp * f);
    run->expert_up = carve(c, slots, (size_t)hp->n_ff_exp * f);
    run->expert_out = carve(c, slots, (size_t)hp->n_embd * f);
}

static void carve_latent(struct carver *c, struct model_gpu_run *run, size_t rows)
{
    const struct model_hparams *hp = &run->model->hp;
    size_t lora = (size_t)hp->kv_lora, width = lora + (size_t)hp->n_rot, f = sizeof(float);
    size_t piece = 0;
    if (!lora)
        return;
    for (int32_t i = 0; i < hp->n_layers; i++) {
        const struct model_layer *l = &run->model->weights.layers[i];
        int32_t form = run->kernels->many_rows(model_layer_weight(l, MODEL_ATTN_V_B)->type);
        piece = BASE_MAX(piece, gpu_row_bytes(form, hp->kv_lora));
    }
    struct gpu_latent *a = &run->latent;
    a->n_vectors = gpu_latent_vectors(hp, run->max_rows);
    a->q_a = carve(c, rows, (size_t)hp->q_lora * f);
    a->kv = carve(c, rows, width * f);
    a->absorbed = carve(c, (size_t)a->n_vectors, width * f);
    a->mixed = carve(c, (size_t)a->n_vectors, lora * f);
    a->form = carve(c, (size_t)a->n_vectors, piece);
    a->heads = carve(c, (size_t)hp->n_heads, sizeof *a->heads);
    run->attn_scratch_bytes =
        run->kernels->latent.scratch(hp->kv_lora, a->n_vectors, run->invariant);
}

/* The most that a product of several blocks sums up in. */
static size_t many_scratch_of(const struct model_gpu_run *run)
{
    const struct infer_model *model = run->model;
    const struct model_weight *output = &model->weights.global[MODEL_OUTPUT];
    static const enum model_role others[] = {MODEL_CLS, MODEL_CLS_OUT, MODEL_INPUT_PROJ};
    size_t most = run->kernels->many_scratch(output->n, output->k, run->max_outputs);
    for (size_t i = 0; i < BASE_COUNT(others); i++) {
        const struct model_weight *w = &model->weights.global[others[i]];
        most = BASE_MAX(most, run->kernels->many_scratch(w->n, w->k, run->max_rows));
    }
    for (int32_t i = 0; i < model->hp.n_layers; i++)
        for (int32_t r = 0; r < MODEL_ROLES - MODEL_LAYER_FIRST; r++) {
            const struct model_weight *w = &model->weights.layers[i].w[r];
            int32_t rows = run->max_rows * (w->n_matrices > 1 ? model->hp.n_experts_used : 1);
            if (w->n && w->k)
                most = BASE_MAX(most, run->kernels->many_scratch(w->n, w->k, rows));
        }
    return most;
}

/* In BF16 the largest matrix, or as many rows of it, whole tiles of 64, as stay in the cache. */
static size_t unpacked_of(const struct infer_model *model)
{
    size_t most = 0;
    for (int32_t i = 0; i < model->hp.n_layers; i++)
        for (int32_t r = 0; r < MODEL_ROLES - MODEL_LAYER_FIRST; r++) {
            const struct model_weight *w = &model->weights.layers[i].w[r];
            most = BASE_MAX(most, BASE_ALIGN_UP((size_t)w->n, (size_t)64) * (size_t)w->k * 2);
        }
    for (int32_t r = 0; r < MODEL_LAYER_FIRST; r++) {
        const struct model_weight *w = &model->weights.global[r];
        most = BASE_MAX(most, BASE_ALIGN_UP((size_t)w->n, (size_t)64) * (size_t)w->k * 2);
    }
    return BASE_MIN(most, UNPACKED_BYTES);
}

static int has_f8(const struct infer_model *model)
{
    for (int32_t i = 0; i < model->hp.n_layers; i++)
        for (int32_t r = 0; r < MODEL_ROLES - MODEL_LAYER_FIRST; r++)
            if (model->weights.layers[i].w[r].type == INFER_DTYPE_F8_128)
                return 1;
    for (int32_t r = 0; r < MODEL_LAYER_FIRST; r++)
        if (model->weights.global[r].type == INFER_DTYPE_F8_128)
            return 1;
    return 0;
}

/* Of E4M3 the scales too, for those who may use it. */
static void carve_forms(struct carver *c, struct model_gpu_run *run, size_t rows, size_t slots,
                        int32_t widest)
{
    for (int32_t i = 0; i < KERN_CUDA_ROWS_F8; i++)
        run->forms[i] = carve(c, slots, gpu_row_bytes(i, widest));
    if (run->fast && has_f8(run->model))
        run->forms[KERN_CUDA_ROWS_F8] =
            carve(c, rows,
                  gpu_row_bytes(KERN_CUDA_ROWS_F8, widest) / KERN_F8 * (KERN_F8 + sizeof(float)));
}

static size_t carve_all(struct carver *c, struct model_gpu_run *run)
{
    const struct infer_model *model = run->model;
    const struct widths w = widths_of(model);
    const size_t unit = GPU_ROWS_UNIT, f = sizeof(float), embd = (size_t)model->hp.n_embd;
    size_t rows = BASE_ALIGN_UP((size_t)run->max_rows, unit);
    size_t outputs = BASE_ALIGN_UP((size_t)run->max_outputs, unit);
    size_t forms = BASE_MAX(rows, outputs);
    size_t slots = BASE_MAX(forms, rows * (size_t)BASE_MAX(model->hp.n_experts_used, 1));
    size_t gates = model->arch->traits & MODEL_QUERY_GATE ? w.q : 0;
    run->x = carve(c, rows, embd * f);
    run->branch = carve(c, rows, embd * f);
    run->parallel = model->hp.parallel ? carve(c, rows, embd * f) : NULL;
    run->qkv = carve(c, rows, (w.q + gates + w.k + w.v) * f);
    run->q_gate = carve(c, rows, gates * f);
    run->attn = carve(c, rows, w.attn * f);
    run->hidden = carve(c, rows, 2 * w.ff * f);
    run->gathered = carve(c, outputs, embd * f);
    if (model->hp.n_input)
        run->inputs = carve(c, rows, (size_t)model->hp.n_input * (size_t)model->hp.n_layers * f);
    for (int32_t i = 0; i < MODEL_ROPES; i++)
        run->rope[i] = carve(c, rows, 2 * (size_t)model->rope[i].n_pairs * f);
    carve_forms(c, run, forms, slots, w.widest);
    run->unpacked = carve(c, 1, run->unpacked_bytes);
    run->many_scratch = carve(c, 1, many_scratch_of(run));
    if (!(model->arch->traits & MODEL_ENCODER)) /* whose attention needs none */
        run->attn_scratch_bytes =
            run->invariant
                ? run->kernels->attn_scratch_fixed(w.heads, w.head_dim_v, run->max_rows)
                : run->kernels->attn_scratch(w.heads, w.head_dim_v, run->max_seqs, run->max_rows);
    carve_latent(c, run, rows);
    run->attn_scratch = carve(c, 1, run->attn_scratch_bytes);
    run->logits = carve(c, outputs, (size_t)model->hp.n_vocab * f);
    size_t seqs = (size_t)run->max_seqs, top = KERN_CUDA_SAMPLE_TOP_MAX;
    run->samples = carve(c, seqs, sizeof *run->samples);
    run->next_tokens = carve(c, seqs, sizeof *run->next_tokens);
    run->next_logprobs = carve(c, seqs, sizeof *run->next_logprobs);
    run->next_top = carve(c, seqs, top * sizeof *run->next_top);
    run->recur = carve(c, rows, gpu_recurrent_row(model) * f);
    run->recur_y = carve(c, rows, model->hp.ssm_heads ? (size_t)model->hp.ssm_inner * f : 0);
    carve_moe(c, run, rows);
    run->picks.pool_words = gpu_pick_words(model->hp.n_vocab, run->max_outputs);
    run->picks.saved = carve(c, run->picks.pool_words, f);
    run->picks.card_rows = carve(c, 1, gpu_picks_card_bytes(&run->picks, run->max_outputs));
    return c->used;
}

/* ------------------------------------------------------------------- a run */

static void init(struct model_gpu_run *run, const struct infer_model *model,
                 const struct model_gpu_run_config *config)
{
    run->model = model;
    run->gpu = model->gpu;
    run->device = model->device;
    run->alloc = model->alloc;
    run->kernels = device_cuda_kernels(model->device);
    run->max_rows = config->max_rows;
    run->max_outputs = config->max_outputs;
    run->max_seqs = config->max_seqs;
    run->invariant = config->invariant;
    run->fast = config->fast;
    run->table_stride = table_stride_of(config->max_tokens);
    run->max_segments = gpu_lora_segments(run->max_rows, run->max_outputs, run->max_seqs);
    run->unpacked_bytes = unpacked_of(model);
    run->join_factor = 1;
}

size_t model_gpu_run_bytes(const struct infer_model *model,
                           const struct model_gpu_run_config *config)
{
    struct model_gpu_run run = {0};
    struct carver c = {0};
    init(&run, model, config);
    carve_batch(&c, &run.card, (size_t)config->max_rows, (size_t)config->max_outputs,
                (size_t)config->max_seqs);
    carve_lora(&c, &run.card, &run);
    c.used += tables_bytes(model, config);
    return carve_all(&c, &run);
}

/* The same layout as at the start of the card's memory, twice, and what comes back. Counted only
 * where base is NULL. */
static size_t carve_pinned(struct carver *c, struct model_gpu_run *run, size_t tables)
{
    size_t rows = (size_t)run->max_rows, outputs = (size_t)run->max_outputs;
    size_t seqs = (size_t)run->max_seqs, word = sizeof(int32_t);
    for (size_t i = 0; i < BASE_COUNT(run->slots); i++) {
        struct gpu_slot *slot = &run->slots[i];
        carve_batch(c, &slot->batch, rows, outputs, seqs);
        carve_lora(c, &slot->batch, run);
        slot->batch.tables = carve(c, 1, tables);
        slot->samples = carve(c, seqs, sizeof *slot->samples);
        slot->chosen = carve(c, seqs, word);
        slot->logprobs = carve(c, seqs, sizeof *slot->logprobs);
        slot->top = carve(c, seqs, KERN_CUDA_SAMPLE_TOP_MAX * sizeof *slot->top);
    }
    run->host_logits = carve(c, outputs, (size_t)run->model->hp.n_vocab * sizeof(float));
    run->host_best = carve(c, outputs, word);
    run->host_picked = carve(c, outputs, word);
    void *picks = carve(c, 1, gpu_picks_host_bytes(&run->picks, run->max_outputs));
    if (picks)
        gpu_picks_place(&run->picks, picks, run->picks.card_rows, run->max_outputs);
    return c->used;
}

static infer_status alloc_pinned(struct model_gpu_run *run, size_t tables)
{
    struct carver c = {0};
    infer_status st =
        device_cuda_host_alloc(run->device, carve_pinned(&c, run, tables), &run->pinned);
    for (size_t i = 0; i < BASE_COUNT(run->slots) && st == INFER_OK; i++)
        st = device_cuda_event_create(run->device, &run->slots[i].event);
    if (st != INFER_OK)
        return st;
    c = (struct carver){.base = run->pinned};
    carve_pinned(&c, run, tables);
    return INFER_OK;
}

/* The part that is uploaded lies at the start of the memory, in the same order as on the host. */
static infer_status alloc_memory(struct model_gpu_run *run,
                                 const struct model_gpu_run_config *config)
{
    size_t tables = tables_bytes(run->model, config);
    infer_status st = device_buffer_alloc(run->device, DEVICE_WORKSPACE,
                                          model_gpu_run_bytes(run->model, config), &run->memory);
    if (st != INFER_OK)
        return st;
    struct carver c = {.base = run->memory.data};
    carve_batch(&c, &run->card, (size_t)run->max_rows, (size_t)run->max_outputs,
                (size_t)run->max_seqs);
    run->batch_bytes = c.used;
    carve_lora(&c, &run->card, run);
    run->card.tables = (int32_t *)(c.base + c.used);
    c.used += tables;
    carve_all(&c, run);
    st = alloc_pinned(run, tables);
    if (st != INFER_OK)
        return st;
    /* Tickets and sums begin with zero, and each kernel leaves them so; what no step has written
     * shall be a number. */
    return device_buffer_fill(&run->memory, 0, 0, run->memory.bytes);
}

infer_status model_gpu_run_create(struct model_gpu_run **out, const struct infer_model *model,
                                  const struct model_gpu_run_config *config)
{
    struct model_gpu_run *run = base_new(&model->alloc, 1, sizeof *run);
    if (!run)
        return INFER_ERR_NO_MEMORY;
    init(run, model, config);
    infer_status st = alloc_memory(run, config);
    if (st == INFER_OK)
        st = gpu_latent_begin(run);
    if (st != INFER_OK)
        model_gpu_run_destroy(&run);
    else
        *out = run;
    return st;
}

size_t model_gpu_run_held(const struct model_gpu_run *run)
{
    return run->memory.bytes + run->mega.memory.bytes;
}

void model_gpu_run_destroy(struct model_gpu_run **run_ptr)
{
    struct model_gpu_run *run = *run_ptr;
    *run_ptr = NULL;
    if (!run)
        return;
    struct base_alloc alloc = run->alloc;
    model_gpu_wait(run); /* a step that nobody asked for any more; its errors are nobody's either */
    gpu_graphs_free(run);
    gpu_mega_free(run);
    device_cublas_destroy(&run->cublas);
    device_cuda_host_free(run->device, run->folds);
    for (size_t i = 0; i < BASE_COUNT(run->slots); i++)
        device_cuda_event_destroy(run->device, run->slots[i].event);
    device_cuda_host_free(run->device, run->pinned);
    device_buffer_free(&run->memory);
    base_free(&alloc, run);
}
