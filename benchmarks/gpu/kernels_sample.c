/* Sampling over the vocabulary of Llama 3. */
#include "kernels.h"

#include <stdio.h>

#define VOCAB    128256
#define ROWS_MAX 256
#define COUNTS   500 /* tokens that penalties are for, of each row */

static const int32_t row_counts[] = {1, 64, 256};

struct job {
    const struct kernels_card *card;
    struct kern_cuda_sample_args args;
};

static int32_t launch_sample(void *context, int32_t i, void *stream)
{
    const struct job *job = context;
    (void)i;
    return job->card->kernels.rows.sample(&job->args, stream);
}

static const struct way {
    const char *name;
    struct kern_cuda_sample_row row;
} ways[] = {
    {"best, penalties",
     {.kind = KERN_CUDA_PICK_BEST, .repetition = 1.1f, .n_counts = COUNTS, .top_p = 1}},
    {"temperature", {.kind = KERN_CUDA_PICK_DRAW, .scale = 1.25f, .top_p = 1}},
    {"top-k 40", {.kind = KERN_CUDA_PICK_DRAW, .scale = 1.25f, .top_p = 1, .top_k = 40}},
    {"top-p 0.95", {.kind = KERN_CUDA_PICK_DRAW, .scale = 1.25f, .top_p = 0.95f}},
    {"top-p 0.95, flat", {.kind = KERN_CUDA_PICK_DRAW, .scale = 0.1f, .top_p = 0.95f}},
    {"all of it",
     {.kind = KERN_CUDA_PICK_DRAW,
      .scale = 1.25f,
      .top_p = 0.95f,
      .top_k = 40,
      .min_p = 0.01f,
      .repetition = 1.1f,
      .n_counts = COUNTS,
      .logprob = 1,
      .n_top = 5}},
};

/* Each row has numbers and penalties of its own. */
static void set_rows(const struct job *job, const struct way *way)
{
    static struct kern_cuda_sample_row rows[ROWS_MAX];
    for (uint32_t i = 0; i < ROWS_MAX; i++) {
        rows[i] = way->row;
        rows[i].seed = i;
        rows[i].counts_at = i * COUNTS;
    }
    BENCH_MUST(cudaMemcpy((void *)job->args.rows, rows, sizeof rows, cudaMemcpyHostToDevice));
}

static void *new_counts(void)
{
    static struct kern_cuda_sample_count counts[ROWS_MAX * COUNTS];
    void *card = kernels_new(sizeof counts);
    for (int32_t i = 0; i < ROWS_MAX * COUNTS; i++)
        counts[i] = (struct kern_cuda_sample_count){i % COUNTS * 251, 1};
    BENCH_MUST(cudaMemcpy(card, counts, sizeof counts, cudaMemcpyHostToDevice));
    return card;
}

void kernels_sample(const struct kernels_card *card)
{
    if (!card->kernels.rows.sample) {
        printf("sampling: none for this card, skipped\n");
        return;
    }
    struct job job = {.card = card,
                      .args = {.logits = kernels_new_normal((size_t)ROWS_MAX * VOCAB, 3.0f, 41),
                               .n = VOCAB,
                               .rows = kernels_new(ROWS_MAX * sizeof(struct kern_cuda_sample_row)),
                               .pool = new_counts(),
                               .saved = kernels_new(ROWS_MAX * COUNTS * sizeof(float)),
                               .ids = kernels_new(ROWS_MAX * sizeof(int32_t)),
                               .logprobs = kernels_new(ROWS_MAX * sizeof(float)),
                               .top = kernels_new(ROWS_MAX * KERN_CUDA_SAMPLE_TOP_MAX *
                                                  sizeof(struct kern_cuda_sample_top)),
                               .top_stride = KERN_CUDA_SAMPLE_TOP_MAX}};
    printf("sampling, %d tokens; us, %% of a copy of the logits, for 1, 64, 256 rows\n", VOCAB);
    for (size_t w = 0; w < BASE_COUNT(ways); w++) {
        printf("%-20s", ways[w].name);
        set_rows(&job, &ways[w]);
        for (size_t i = 0; i < BASE_COUNT(row_counts); i++) {
            char name[64];
            job.args.n_rows = row_counts[i];
            snprintf(name, sizeof name, "sample %s n=%d", ways[w].name, (int)row_counts[i]);
            kernels_cell(card, name, launch_sample, &job, 1, VOCAB * 4.0 * row_counts[i], 0);
        }
        printf("\n");
    }
    void *all[] = {job.args.logits, (void *)job.args.rows, (void *)job.args.pool, job.args.saved,
                   job.args.ids,    job.args.logprobs,     job.args.top};
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        kernels_free(all[i]);
}
