/* Tokens that the card chooses: what each row asks for goes up in one copy, the answers are written
 * to the host's memory by the card itself, and logits come back of those rows alone whose host
 * wants them. */
#include "model/gpu/run.h"

#include <float.h>
#include <string.h>

/* Lists that all rows of a head share, in words: tokens with a count or a bias. Masks have room of
 * their own. */
#define LIST_WORDS ((size_t)1 << 16)

static size_t mask_words(int32_t n_vocab)
{
    return ((size_t)n_vocab + 63) / 64;
}

size_t gpu_pick_words(int32_t n_vocab, int32_t max_outputs)
{
    return (size_t)max_outputs * mask_words(n_vocab) + LIST_WORDS;
}

_Static_assert(sizeof(struct kern_cuda_sample_row) % sizeof(uint64_t) == 0,
               "the pool lies behind the rows");

void gpu_picks_place(struct gpu_picks *p, void *host, void *card, int32_t max_outputs)
{
    p->rows = host;
    p->pool = (uint64_t *)(p->rows + max_outputs);
    p->top = (struct kern_cuda_sample_top *)(p->pool + p->pool_words);
    p->logprobs = (float *)(p->top + (size_t)max_outputs * KERN_CUDA_SAMPLE_TOP_MAX);
    p->card_rows = card;
    p->card_pool = (uint64_t *)(p->card_rows + max_outputs);
}

size_t gpu_picks_card_bytes(const struct gpu_picks *p, int32_t max_outputs)
{
    return (size_t)max_outputs * sizeof *p->rows + p->pool_words * sizeof *p->pool;
}

size_t gpu_picks_host_bytes(const struct gpu_picks *p, int32_t max_outputs)
{
    return gpu_picks_card_bytes(p, max_outputs) +
           (size_t)max_outputs * (KERN_CUDA_SAMPLE_TOP_MAX * sizeof *p->top + sizeof *p->logprobs);
}

/* ------------------------------------------------------------------- what is asked */

/* The highest logit of the model's own: no list goes up for it. */
static int is_plain(const struct model_pick *pick)
{
    return pick->temperature <= 0 && !pick->n_bias && !pick->n_counts && !pick->mask &&
           !pick->want_logprob && !pick->n_top;
}

static uint32_t put(struct gpu_picks *p, const void *data, size_t bytes)
{
    const size_t at = p->used;
    p->used += (bytes + 7) / 8;
    if (bytes)
        memcpy(p->pool + at, data, bytes);
    return (uint32_t)at;
}

static uint32_t put_mask(struct gpu_picks *p, const struct model_pick *pick, int32_t n_vocab)
{
    const size_t at = p->used, n = mask_words(n_vocab), given = (pick->n_mask + 63) / 64;
    p->used += n;
    memset(p->pool + at, 0, n * sizeof *p->pool);
    memcpy(p->pool + at, pick->mask, BASE_MIN(n, given) * sizeof *p->pool);
    return (uint32_t)at;
}

_Static_assert(MODEL_PICK_TOP_MAX == KERN_CUDA_SAMPLE_TOP_MAX &&
                   MODEL_PICK_VOCAB_MAX == KERN_CUDA_SAMPLE_VOCAB_MAX,
               "what can be asked for is what the kernel does");
_Static_assert(sizeof(struct model_pick_bias) == sizeof(struct kern_cuda_sample_bias) &&
                   sizeof(struct model_pick_count) == sizeof(struct kern_cuda_sample_count) &&
                   sizeof(struct model_pick_top) == sizeof(struct kern_cuda_sample_top) &&
                   sizeof(struct model_pick_bias) == sizeof(uint64_t),
               "lists are copied as they are, a word an entry");

struct kern_cuda_sample_row gpu_pick_row(const struct model_pick *pick, int32_t n_vocab)
{
    return (struct kern_cuda_sample_row){
        .seed = pick->seed,
        .sequence = pick->sequence,
        .position = pick->position,
        .scale = pick->temperature > 0 ? BASE_MIN(1.0f / pick->temperature, FLT_MAX) : 0,
        .top_p = pick->top_p,
        .min_p = pick->min_p,
        .repetition = pick->repetition,
        .frequency = pick->frequency,
        .presence = pick->presence,
        .kind = pick->temperature > 0 ? KERN_CUDA_PICK_DRAW : KERN_CUDA_PICK_BEST,
        .top_k = pick->top_k < n_vocab ? pick->top_k : 0,
        .n_top = BASE_MIN(pick->n_top, n_vocab),
        .logprob = pick->want_logprob || pick->n_top};
}

/* 0: the card has no room for it. */
static int stage_row(struct gpu_picks *p, struct kern_cuda_sample_row *row,
                     const struct model_pick *pick, int32_t n_vocab)
{
    const size_t words = pick->n_bias + pick->n_counts + (pick->mask ? mask_words(n_vocab) : 0);
    if (n_vocab > KERN_CUDA_SAMPLE_VOCAB_MAX || pick->n_top > KERN_CUDA_SAMPLE_TOP_MAX ||
        words > p->pool_words - p->used)
        return 0;
    *row = gpu_pick_row(pick, n_vocab);
    row->n_bias = (uint32_t)pick->n_bias;
    row->n_counts = (uint32_t)pick->n_counts;
    row->masked = pick->mask != NULL;
    row->bias_at = put(p, pick->bias, pick->n_bias * sizeof *pick->bias);
    row->counts_at = put(p, pick->counts, pick->n_counts * sizeof *pick->counts);
    if (pick->mask)
        row->mask_at = put_mask(p, pick, n_vocab);
    return 1;
}

static infer_status stage_rows(struct model_gpu_run *run, struct model_pick *picks, int32_t n)
{
    struct gpu_picks *p = &run->picks;
    p->used = 0;
    for (int32_t i = 0; i < n; i++) {
        struct model_pick *pick = &picks[i];
        p->rows[i] = (struct kern_cuda_sample_row){.kind = KERN_CUDA_PICK_NONE};
        if (pick->want == MODEL_WANT_TOKEN &&
            !stage_row(p, &p->rows[i], pick, run->model->hp.n_vocab))
            pick->want = MODEL_WANT_LOGITS;
    }
    infer_status st =
        device_cuda_copy_in(run->device, p->card_rows, p->rows, (size_t)n * sizeof *p->rows);
    if (st == INFER_OK && p->used)
        st = device_cuda_copy_in(run->device, p->card_pool, p->pool, p->used * sizeof *p->pool);
    return st;
}

infer_status gpu_pick_stage(struct model_gpu_run *run, struct model_pick *picks, int32_t n)
{
    run->picks.way = GPU_PICK_NONE;
    for (int32_t i = 0; picks && i < n; i++) {
        picks[i].token = -1;
        if (picks[i].want == MODEL_WANT_TOKEN && !is_plain(&picks[i]))
            run->picks.way = GPU_PICK_SAMPLE;
        else if (picks[i].want == MODEL_WANT_TOKEN && run->picks.way == GPU_PICK_NONE)
            run->picks.way = GPU_PICK_BEST;
    }
    return run->picks.way == GPU_PICK_SAMPLE ? stage_rows(run, picks, n) : INFER_OK;
}

void gpu_pick_launch(struct model_gpu_run *run, int32_t n)
{
    const struct gpu_picks *p = &run->picks;
    const int32_t n_vocab = run->model->hp.n_vocab;
    if (p->way == GPU_PICK_BEST)
        gpu_launched(
            run, run->kernels->rows.argmax(run->host_best, run->logits, n, n_vocab, run->stream),
            "the head");
    if (p->way != GPU_PICK_SAMPLE)
        return;
    const struct kern_cuda_sample_args args = {.logits = run->logits,
                                               .n_rows = n,
                                               .n = n_vocab,
                                               .rows = p->card_rows,
                                               .pool = p->card_pool,
                                               .saved = p->saved,
                                               .ids = run->host_best,
                                               .logprobs = p->logprobs,
                                               .top = p->top,
                                               .top_stride = KERN_CUDA_SAMPLE_TOP_MAX};
    gpu_launched(run, run->kernels->rows.sample(&args, run->stream), "sampling");
}

/* ------------------------------------------------------------------- what comes back */

/* Logits of the rows that want them, in runs of neighbours. */
static infer_status fetch_logits(struct model_gpu_run *run, const struct model_pick *picks,
                                 int32_t n, int *any)
{
    const size_t row = (size_t)run->model->hp.n_vocab;
    infer_status st = INFER_OK;
    *any = 0;
    for (int32_t first = 0, end; first < n && st == INFER_OK; first = end + 1) {
        for (end = first; end < n && (!picks || picks[end].want == MODEL_WANT_LOGITS);)
            end++;
        if (end == first)
            continue;
        const size_t at = (size_t)first * row;
        *any = 1;
        st = device_cuda_copy_out(run->device, run->host_logits + at, run->logits + at,
                                  (size_t)(end - first) * row * sizeof(float));
    }
    return st;
}

static void take(const struct model_gpu_run *run, struct model_pick *pick, int32_t i)
{
    const struct gpu_picks *p = &run->picks;
    pick->token = run->host_best[i];
    if (pick->token < 0) { /* what is wrong with the row is for the host's sampler to say */
        pick->want = MODEL_WANT_LOGITS;
        return;
    }
    pick->want = MODEL_WANT_NOTHING;
    if (!pick->want_logprob && !pick->n_top)
        return;
    pick->logprob = p->logprobs[i];
    pick->n_top_found = p->rows[i].n_top;
    pick->top = (const struct model_pick_top *)(p->top + (size_t)i * KERN_CUDA_SAMPLE_TOP_MAX);
}

infer_status gpu_pick_fetch(struct model_gpu_run *run, struct model_pick *picks, int32_t n)
{
    int any;
    infer_status st = fetch_logits(run, picks, n, &any);
    if (st == INFER_OK)
        st = gpu_mark(run);
    if (st == INFER_OK && (any || run->picks.way != GPU_PICK_NONE))
        st = model_gpu_wait(run);
    if (st != INFER_OK || run->picks.way == GPU_PICK_NONE)
        return st;
    for (int32_t i = 0; i < n; i++) {
        if (picks[i].want == MODEL_WANT_TOKEN)
            take(run, &picks[i], i);
        else
            picks[i].want = MODEL_WANT_NOTHING; /* it is there */
    }
    st = fetch_logits(run, picks, n, &any);
    if (any)
        gpu_used(run);
    return st == INFER_OK && any ? model_gpu_wait(run) : st;
}
