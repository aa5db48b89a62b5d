/* What adapters add to a step: the two kernels at the shapes of an 8B model, for rows that have one
 * adapter together and rows that have one each, and for a prompt with and without tensor cores. */
#include "kernels.h"

#include <stdlib.h>

#define RANK_MAX     64
#define ROWS_MAX     2048
#define SEGMENT_ROWS 64

static const struct {
    const char *name;
    int32_t n[KERN_CUDA_PARTS], k, norm;
} shapes[] = {{"qkv", {4096, 1024, 1024}, 4096, 1},
              {"out", {4096}, 4096, 0},
              {"gate+up", {14336, 14336}, 4096, 1},
              {"down", {4096}, 14336, 0}};

static const struct {
    int32_t rows, adapters, rank, tiles;
} cells[] = {{1, 1, 16, 0},    {64, 1, 16, 0},   {64, 64, 16, 0},  {64, 1, 16, 1},
             {2048, 1, 16, 0}, {2048, 1, 16, 1}, {2048, 1, 64, 0}, {2048, 1, 64, 1}};

struct lora {
    const struct kernels_card *card;
    struct kern_cuda_lora_args args;
    int32_t adapters, rows, copies; /* rows: of an adapter */
    struct kern_cuda_lora_segment *segments[COPIES_MAX];
};

static int32_t launch(void *context, int32_t i, void *stream)
{
    struct lora *l = context;
    l->args.segments = l->segments[i % l->copies];
    int32_t error = l->card->kernels.lora.down(&l->args, stream);
    return error ? error : l->card->kernels.lora.up(&l->args, stream);
}

/* Adapters of a copy: tables and segments, over one pool of matrices. */
static void make_copy(struct lora *l, int32_t copy, uint8_t *weights, size_t bytes_each)
{
    struct kern_cuda_lora_segment segments[SEGMENT_ROWS];
    size_t n_parts = (size_t)l->args.n_parts, n = (size_t)l->adapters * n_parts, n_segments = 0;
    const int32_t rank = l->args.max_rank;
    struct kern_cuda_lora_pair *pairs = malloc(n * sizeof *pairs);
    struct kern_cuda_lora_pair *table = kernels_new(n * sizeof *table);
    for (int32_t a = 0; a < l->adapters; a++) {
        uint8_t *at = weights + ((size_t)copy * (size_t)l->adapters + (size_t)a) * bytes_each;
        for (int32_t row = 0; row < l->rows; row += SEGMENT_ROWS)
            segments[n_segments++] = (struct kern_cuda_lora_segment){
                table + (size_t)a * n_parts, a * l->rows + row, l->args.segment_rows};
        for (size_t p = 0; p < n_parts; p++) {
            uint8_t *b = at + (size_t)l->args.k * (size_t)rank * 2;
            pairs[(size_t)a * n_parts + p] =
                (struct kern_cuda_lora_pair){.a = at,
                                             .b = b,
                                             .a_stride = l->args.k * 2,
                                             .b_stride = rank * 2,
                                             .type_a = INFER_DTYPE_BF16,
                                             .type_b = INFER_DTYPE_BF16,
                                             .rank = rank,
                                             .scale = 1};
            at = b + (size_t)l->args.n[p] * (size_t)rank * 2;
        }
    }
    BENCH_MUST(cudaMemcpy(table, pairs, n * sizeof *pairs, cudaMemcpyHostToDevice));
    l->segments[copy] = kernels_new(n_segments * sizeof *segments);
    BENCH_MUST(cudaMemcpy(l->segments[copy], segments, n_segments * sizeof *segments,
                          cudaMemcpyHostToDevice));
    free(pairs);
}

static void cell(const struct kernels_card *card, size_t shape, size_t c)
{
    const int32_t rank = cells[c].rank, rows = cells[c].rows / cells[c].adapters;
    struct lora l = {.card = card, .adapters = cells[c].adapters, .rows = rows};
    size_t bytes_each = 0;
    char name[64];
    l.args = (struct kern_cuda_lora_args){.n_segments =
                                              cells[c].adapters * BASE_DIV_UP(rows, SEGMENT_ROWS),
                                          .segment_rows = BASE_MIN(rows, SEGMENT_ROWS),
                                          .max_rank = rank,
                                          .tiles = cells[c].tiles,
                                          .k = shapes[shape].k,
                                          .x_stride = (size_t)shapes[shape].k,
                                          .eps = 1e-5f};
    for (int32_t p = 0; p < KERN_CUDA_PARTS && shapes[shape].n[p]; p++) {
        size_t n = (size_t)shapes[shape].n[p];
        l.args.pair[p] = p;
        l.args.n[p] = shapes[shape].n[p];
        l.args.y_stride[p] = n;
        l.args.y[p] = kernels_new(ROWS_MAX * n * sizeof(float));
        l.args.n_parts++;
        bytes_each += (n + (size_t)l.args.k) * (size_t)rank * 2;
    }
    double bytes = (double)bytes_each * l.adapters;
    l.copies = BASE_MIN(kernels_copies(bytes), 2 * LAUNCHES);
    uint8_t *weights = kernels_new((size_t)(bytes * l.copies));
    bench_normal(weights, (size_t)(bytes * l.copies), BENCH_BF16, 0.02f, 41);
    float *x = kernels_new_normal(ROWS_MAX * l.args.x_stride, 1.0f, 42);
    float *norm = kernels_new_normal((size_t)l.args.k, 1.0f, 43);
    float *scales = kernels_new_normal(ROWS_MAX, 1.0f, 44);
    float *t = kernels_new(ROWS_MAX * kern_cuda_lora_row(RANK_MAX) * sizeof *t);
    l.args.x = x;
    l.args.norm = shapes[shape].norm ? norm : NULL;
    l.args.scales = scales;
    l.args.t = t;
    for (int32_t i = 0; i < l.copies; i++)
        make_copy(&l, i, weights, bytes_each);
    snprintf(name, sizeof name, "lora %s rows=%d adapters=%d rank=%d%s", shapes[shape].name,
             (int)cells[c].rows, (int)cells[c].adapters, (int)rank, cells[c].tiles ? " tiles" : "");
    kernels_cell(card, name, launch, &l, l.copies, bytes, 0);
    /* Tables and segments are small, and end with the program. */
    for (int32_t p = 0; p < l.args.n_parts; p++)
        kernels_free(l.args.y[p]);
    kernels_free(weights), kernels_free(x), kernels_free(norm), kernels_free(scales);
    kernels_free(t);
}

void kernels_lora(const struct kernels_card *card)
{
    if (!card->kernels.lora.down) {
        printf("adapters: no kernels for this card, skipped\n");
        return;
    }
    printf("adapters; us, %% of a copy, for rows/adapters 1/1, 64/1, 64/64 and, with tensor cores, "
           "64/1 of rank 16;\n  2048/1 of rank 16 and of 64, each without and with tensor cores\n");
    for (size_t s = 0; s < BASE_COUNT(shapes); s++) {
        printf("%-16s", shapes[s].name);
        for (size_t c = 0; c < BASE_COUNT(cells); c++)
            cell(card, s, c);
        printf("\n");
    }
}
