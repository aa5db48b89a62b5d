/* Times the launchers of kernels/cuda one by one, at the shapes of Llama 3 8B and 3.2 1B:
 *
 *     kernels [--json FILE] [--cublas PATH] [few] [many] [attn] [rows] [lora] [vector] [sample]
 *             [latent] [recur]
 *
 * without a name all of them. Weights and caches are taken in turn from sets that the chip's own
 * cache cannot hold, launches are replayed in graphs, as a step of a model does it. Percentages are
 * of the measured rate of a copy, and count what a file has of the weights, or what attention must
 * read; the file of --json has them as GB/s, and each cell's spread. */
#include "kernels.h"

#include "benchmarks/random_weights.h"
#include "blas.h"
#include "format/quant_layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- memory --- */

int32_t kernels_copies(double bytes)
{
    return (int32_t)fmin(fmax(ceil(COLD_BYTES / bytes), 2), COPIES_MAX);
}

void *kernels_new(size_t bytes)
{
    void *p;
    BENCH_MUST(cudaMalloc(&p, bytes));
    BENCH_MUST(cudaMemset(p, 0, bytes));
    return p;
}

void *kernels_new_normal(size_t n_floats, float std, uint64_t seed)
{
    void *p = kernels_new(n_floats * sizeof(float));
    bench_normal(p, n_floats * sizeof(float), BENCH_F32, std, seed);
    return p;
}

void kernels_free(void *p)
{
    BENCH_MUST(cudaFree(p));
}

/* --- weights --- */

#define ROWS_MADE 256 /* by the host; the card repeats them */

double kernels_file_bytes(infer_dtype type, int32_t n, int32_t k)
{
    const struct quant_layout *file = quant_layout_of(type);
    return (double)n * k / file->block_elements * file->block_bytes;
}

int kernels_weights_make(const struct kernels_card *card, struct kernels_weights *w,
                         infer_dtype type, int32_t n, int32_t k, int32_t copies)
{
    const struct kern_cuda_layout *layout = kern_cuda_layout_of(type);
    if (!layout)
        return 0;
    size_t rows = (size_t)n, stride = (size_t)kernels_file_bytes(type, 1, k);
    size_t made = BASE_MIN(rows, (size_t)ROWS_MADE);
    struct random_weights random = {7, 1.0f / sqrtf((float)k)};
    uint8_t *host = malloc(made * stride);
    if (!host || !random_weights_fill(&random, type, host, made * (size_t)k)) {
        free(host);
        return 0;
    }
    void *file = kernels_new(rows * stride);
    BENCH_MUST(cudaMemcpy(file, host, made * stride, cudaMemcpyHostToDevice));
    bench_repeat(file, made * stride, rows * stride);
    free(host);

    size_t body = kern_cuda_body_stride(layout, k), side = kern_cuda_side_stride(layout, k);
    *w = (struct kernels_weights){.body_bytes = rows * body,
                                  .side_bytes = rows * side,
                                  .copies = copies,
                                  .file_bytes = kernels_file_bytes(type, n, k)};
    uint8_t *bodies = kernels_new(w->body_bytes * (size_t)copies);
    uint8_t *sides = side ? kernels_new(w->side_bytes * (size_t)copies) : NULL;
    w->matrix = (struct kern_cuda_matrix){bodies, sides, body, side, n, k, type};
    BENCH_MUST(card->kernels.product.split(&w->matrix, file, stride, 0, n, NULL));
    BENCH_MUST(cudaDeviceSynchronize());
    bench_repeat(bodies, w->body_bytes, w->body_bytes * (size_t)copies);
    if (sides)
        bench_repeat(sides, w->side_bytes, w->side_bytes * (size_t)copies);
    kernels_free(file);
    return 1;
}

struct kern_cuda_matrix kernels_weights_copy(const struct kernels_weights *w, int32_t i)
{
    struct kern_cuda_matrix m = w->matrix;
    size_t copy = (size_t)(i % w->copies);
    m.body += copy * w->body_bytes;
    if (m.side)
        m.side += copy * w->side_bytes;
    return m;
}

void kernels_weights_free(struct kernels_weights *w)
{
    kernels_free((void *)w->matrix.body);
    kernels_free((void *)w->matrix.side);
}

/* --- a cell --- */

double kernels_cell(const struct kernels_card *card, const char *name, bench_launch_fn *launch,
                    void *context, int32_t copies, double bytes, double operations)
{
    struct bench_time t;
    int32_t error = bench_graph(&t, launch, context, BASE_MAX(copies, LAUNCHES), ROUNDS, ROUND_MS);
    if (error) {
        printf(" | failed, error %d", (int)error);
        return 0;
    }
    printf(" | %7.2f", t.us);
    if (bytes > 0)
        printf(" %3.0f%%", 100e6 * bytes / t.us / card->copy_rate);
    if (operations > 0)
        printf(" %5.1f", operations / t.us * 1e-6);
    fflush(stdout);
    bench_record(name, &t, bytes, operations);
    return t.us;
}

/* --- start --- */

enum {
    FEW = 1,
    MANY = 2,
    ATTN = 4,
    ROWS = 8,
    LORA = 16,
    VECTOR = 32,
    SAMPLE = 64,
    LATENT = 128,
    RECUR = 256,
    ALL = 511
};

static int part_of(const char *name)
{
    static const char *const names[] = {"few",    "many",   "attn",   "rows", "lora",
                                        "vector", "sample", "latent", "recur"};
    for (int i = 0; i < (int)BASE_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return 1 << i;
    return 0;
}

static void start(struct kernels_card *card)
{
    struct cudaDeviceProp about;
    struct bench_time t;
    size_t bytes = (size_t)8 << 30;
    BENCH_MUST(cudaGetDeviceProperties(&about, 0));
    kern_cuda_init(&card->kernels, about.major * 10 + about.minor);
    void *pool = kernels_new(bytes);
    bench_normal(pool, bytes, BENCH_BF16, 0.02f, 1);
    card->copy_rate = bench_copy_rate(pool, bytes, &t);
    kernels_free(pool);
    printf("%s, a copy moves %.0f GB/s\n", about.name, card->copy_rate * 1e-9);
}

int main(int argc, char **argv)
{
    struct kernels_card card;
    const char *library = NULL;
    int parts = 0;
    for (int i = 1; i < argc; i++) {
        int part = part_of(argv[i]);
        if (i + 1 < argc && strcmp(argv[i], "--json") == 0) {
            bench_json = fopen(argv[++i], "a");
        } else if (i + 1 < argc && strcmp(argv[i], "--cublas") == 0) {
            library = argv[++i];
        } else if (part) {
            parts |= part;
        } else {
            fprintf(stderr, "usage: kernels [--json FILE] [--cublas PATH] [few] [many] [attn] "
                            "[rows] [lora] [vector] [sample] [latent] [recur]\n");
            return 2;
        }
    }
    parts = parts ? parts : ALL;
    start(&card);
    if (parts & FEW)
        kernels_few(&card);
    if (parts & ATTN)
        kernels_attn(&card);
    if (parts & ROWS)
        kernels_rows(&card);
    if (parts & LORA)
        kernels_lora(&card);
    if (parts & VECTOR)
        kernels_vector(&card);
    if (parts & SAMPLE)
        kernels_sample(&card);
    if (parts & LATENT)
        kernels_latent(&card);
    if (parts & RECUR)
        kernels_recur(&card);
    if (parts & MANY) {
        int found = blas_open(library);
        if (!found)
            printf("cuBLASLt: not found, its cells are skipped\n");
        kernels_many(&card, found);
    }
    return 0;
}
