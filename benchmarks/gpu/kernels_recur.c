/* Recurrent layers at the shapes of Mamba 2 2.7B and Qwen 3 Next: steps of one row a sequence,
 * which read and write every state once, and a prompt. */
#include "kernels.h"

#include <stdlib.h>

#define WIDTH 4

static const struct shape {
    const char *name;
    int32_t is_delta, n_head, n_group, dim, depth;
} shapes[] = {{"mamba 2 2.7b", 0, 80, 1, 64, 128}, {"qwen 3 next", 1, 32, 16, 128, 128}};

static const struct {
    int32_t seqs, rows;
} cells[] = {{1, 1}, {16, 1}, {64, 1}, {1, 2048}};

struct recur {
    const struct kernels_card *card;
    const struct shape *shape;
    int32_t copies;
    size_t copy_bytes; /* of the states of all sequences */
    uint8_t *states;
    struct kern_cuda_batch batch;
    struct kern_cuda_recur_args args;
    struct kern_cuda_recur_finish_args finish;
};

static int32_t launch(void *context, int32_t i, void *stream)
{
    struct recur *r = context;
    const struct kern_cuda_recur *k = &r->card->kernels.recur;
    r->args.states = r->states + (size_t)(i % r->copies) * r->copy_bytes;
    int32_t error = r->shape->is_delta ? k->delta(&r->args, stream) : k->scan(&r->args, stream);
    return error ? error : k->finish(&r->finish, stream);
}

/* Sequences that go on from position 7, each in a block of its own. */
static void make_batch(struct recur *r, int32_t n_seqs, int32_t n_rows)
{
    const int32_t all = n_seqs * n_rows;
    struct kern_cuda_seq *seqs = malloc((size_t)n_seqs * sizeof *seqs);
    int32_t *numbers = malloc((size_t)BASE_MAX(all, n_seqs) * sizeof *numbers);
    int32_t *seq_of = kernels_new((size_t)all * sizeof *seq_of);
    int32_t *tables = kernels_new((size_t)n_seqs * sizeof *tables);
    struct kern_cuda_seq *card_seqs = kernels_new((size_t)n_seqs * sizeof *seqs);
    for (int32_t i = 0; i < all; i++)
        numbers[i] = i / n_rows;
    BENCH_MUST(cudaMemcpy(seq_of, numbers, (size_t)all * sizeof *numbers, cudaMemcpyHostToDevice));
    for (int32_t s = 0; s < n_seqs; s++) {
        seqs[s] = (struct kern_cuda_seq){7, s * n_rows, n_rows};
        numbers[s] = s;
    }
    BENCH_MUST(
        cudaMemcpy(tables, numbers, (size_t)n_seqs * sizeof *numbers, cudaMemcpyHostToDevice));
    BENCH_MUST(cudaMemcpy(card_seqs, seqs, (size_t)n_seqs * sizeof *seqs, cudaMemcpyHostToDevice));
    r->batch = (struct kern_cuda_batch){
        .seq_of = seq_of, .seqs = card_seqs, .n_rows = all, .n_seqs = n_seqs, .seq_rows = n_rows};
    r->args.tables = tables;
    r->args.table_stride = 1;
    r->args.batch = &r->batch;
    free(seqs);
    free(numbers);
}

static struct kern_cuda_recur_part part_of(const float *x, size_t stride, int32_t outer,
                                           int32_t inner)
{
    return (struct kern_cuda_recur_part){x, stride, outer, inner};
}

/* The order of parts does not matter here: values, keys, queries, gates, numbers. */
static void place_parts(struct recur *r, const float *rows, size_t stride)
{
    const struct shape *s = r->shape;
    const int32_t inner = s->n_head * s->dim, groups = s->n_group * s->depth;
    const int32_t ratio = s->n_head / s->n_group, n_units = s->is_delta ? s->n_head : s->n_group;
    const float *z = rows + r->args.n_channels, *numbers = z + inner;
    r->args.write_at = inner;
    r->args.read_at = inner + groups;
    r->args.value = part_of(rows, stride, ratio * s->dim, s->dim);
    r->args.write = part_of(rows + inner, stride, s->depth, 0);
    r->args.read = part_of(rows + inner + groups, stride, s->depth, 0);
    r->args.step = part_of(numbers, stride, ratio, 1);
    r->args.strength = part_of(numbers + s->n_head, stride, ratio, 1);
    r->finish = (struct kern_cuda_recur_finish_args){
        .recur = &r->args,
        .z = s->is_delta ? part_of(z, stride, ratio * s->dim, s->dim)
                         : part_of(z, stride, inner / n_units, 0),
        .n_units = n_units,
        .n = inner / n_units,
        .gate_first = !s->is_delta,
        .norm_step = s->is_delta ? 0 : inner / n_units,
        .norm_eps = 1e-5f,
        .out_stride = (size_t)inner * 2,
        .rows_type = KERN_CUDA_ROWS_BF16,
    };
}

static void cell(const struct kernels_card *card, const struct shape *s, size_t c)
{
    struct recur r = {.card = card, .shape = s};
    const int32_t inner = s->n_head * s->dim, channels = inner + 2 * s->n_group * s->depth;
    const size_t state =
        ((size_t)(WIDTH - 1) * (size_t)channels + (size_t)inner * (size_t)s->depth);
    const size_t stride = (size_t)(channels + inner + 2 * s->n_head);
    const int32_t seqs = cells[c].seqs, rows = seqs * cells[c].rows;
    char name[64];
    r.args = (struct kern_cuda_recur_args){.block_stride = state * sizeof(float),
                                           .n_channels = channels,
                                           .width = WIDTH,
                                           .scale = 0.1f,
                                           .eps = 1e-6f,
                                           .n_head = s->n_head,
                                           .n_group = s->n_group,
                                           .dim = s->dim,
                                           .depth = s->depth};
    r.copy_bytes = (size_t)seqs * r.args.block_stride;
    r.copies = BASE_MIN(kernels_copies((double)r.copy_bytes), 2 * LAUNCHES);
    float *x = kernels_new_normal((size_t)rows * stride, 1.0f, 51);
    float *conv = kernels_new_normal((size_t)channels * WIDTH, 0.3f, 52);
    float *a = kernels_new_normal((size_t)s->n_head, 0.0f, 53);
    float *norm = kernels_new_normal((size_t)inner, 1.0f, 54);
    float *y = kernels_new((size_t)rows * (size_t)inner * sizeof *y);
    void *out = kernels_new((size_t)rows * (size_t)inner * 2);
    r.states = kernels_new(r.copy_bytes * (size_t)r.copies);
    bench_normal(r.states, r.copy_bytes * (size_t)r.copies, BENCH_F32, 0.1f, 55);
    make_batch(&r, seqs, cells[c].rows);
    place_parts(&r, x, stride);
    r.args.conv = conv;
    r.args.a = a; /* zeros: nothing decays to where arithmetic would be of another speed */
    r.args.y = y;
    r.finish.norm = norm;
    r.finish.out = out;
    snprintf(name, sizeof name, "recur %s seqs=%d rows=%d", s->name, (int)seqs, (int)cells[c].rows);
    kernels_cell(card, name, launch, &r, r.copies, 2.0 * (double)r.copy_bytes, 0);
    kernels_free(x), kernels_free(conv), kernels_free(a), kernels_free(norm), kernels_free(y);
    kernels_free(out), kernels_free(r.states);
    kernels_free((void *)(uintptr_t)r.batch.seq_of), kernels_free((void *)(uintptr_t)r.batch.seqs);
    kernels_free((void *)(uintptr_t)r.args.tables);
}

void kernels_recur(const struct kernels_card *card)
{
    if (!card->kernels.recur.scan) {
        printf("recurrent layers: no kernels for this card, skipped\n");
        return;
    }
    printf("a recurrent layer's states and gate; us, %% of a copy, for 1, 16, 64 sequences, and a "
           "prompt of 2048\n");
    for (size_t s = 0; s < BASE_COUNT(shapes); s++) {
        printf("  %-14s", shapes[s].name);
        for (size_t c = 0; c < BASE_COUNT(cells); c++)
            cell(card, &shapes[s], c);
        printf("\n");
    }
}
