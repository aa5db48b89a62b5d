/* Exact search of vectors: all passes of a call, from queries as floats to the best of each. */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>

enum { DIMS = 768, KEEP = 64, ROOM = 8192, RUN = 2, GROWTH = 16, FIRST_RUNS = 128, QUERIES = 256 };

struct vectors {
    const struct kernels_card *card;
    struct kern_cuda_vector_queries_args queries;
    struct kern_cuda_vector_scan_args scan;
    struct kern_cuda_vector_select_args select;
};

static void *upload(const void *host, size_t bytes)
{
    void *p = kernels_new(bytes);
    BENCH_MUST(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    return p;
}

/* Normal elements: as halves of a deviation of 1, as bytes whatever half a half is. */
static void make_rows(struct kern_cuda_vectors *rows, int32_t form, int32_t n)
{
    const size_t bytes = (size_t)n / 16 * kern_cuda_vector_tile_bytes(form, DIMS);
    enum { NOTES = 4096 };
    struct kern_cuda_vector_note notes[NOTES];
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    if (!ids)
        exit(1);
    for (int32_t i = 0; i < n; i++)
        ids[i] = i;
    for (int32_t i = 0; i < NOTES; i++)
        notes[i] = (struct kern_cuda_vector_note){1.0f / sqrtf(DIMS), 1.0f, 1e-5f, 0.0f};
    *rows = (struct kern_cuda_vectors){.form = form, .dims = DIMS, .n_tiles = n / 16};
    rows->tiles = kernels_new(bytes);
    bench_normal(rows->tiles, bytes, BENCH_F16, 1.0f, 31);
    rows->ids = upload(ids, (size_t)n * sizeof *ids);
    rows->notes = kernels_new((size_t)n * sizeof *notes);
    BENCH_MUST(cudaMemcpy(rows->notes, notes, sizeof notes, cudaMemcpyHostToDevice));
    bench_repeat(rows->notes, sizeof notes, (size_t)n * sizeof *notes);
    free(ids);
}

static void start(struct vectors *v, int32_t form, int32_t n)
{
    make_rows(&v->scan.rows, form, n);
    v->queries = (struct kern_cuda_vector_queries_args){
        .to = kernels_new(QUERIES * kern_cuda_vector_query_bytes(form, DIMS)),
        .notes = kernels_new(QUERIES * sizeof(struct kern_cuda_vector_note)),
        .from = kernels_new_normal((size_t)QUERIES * DIMS, 1.0f / sqrtf(DIMS), 32),
        .rounding = 1e-4f,
        .form = form,
        .dims = DIMS};
    v->scan.queries = v->queries.to;
    v->scan.query_notes = v->queries.notes;
    v->scan.keys = kernels_new((size_t)QUERIES * ROOM * sizeof *v->scan.keys);
    v->scan.least = kernels_new(QUERIES * sizeof *v->scan.least);
    v->scan.counts = kernels_new(QUERIES * sizeof *v->scan.counts);
    v->scan.room = ROOM;
    v->scan.n_rows = n;
    v->scan.run = RUN;
    v->select = (struct kern_cuda_vector_select_args){
        .keys = v->scan.keys,
        .least = v->scan.least,
        .counts = v->scan.counts,
        .lost = kernels_new(QUERIES * sizeof(uint32_t)),
        .best = kernels_new((size_t)QUERIES * KEEP * sizeof(uint64_t)),
        .room = ROOM,
        .keep = KEEP};
}

static void end(struct vectors *v)
{
    void *all[] = {v->scan.rows.tiles, v->scan.rows.notes,      v->scan.rows.ids, v->queries.to,
                   v->queries.notes,   (void *)v->queries.from, v->scan.keys,     v->scan.least,
                   v->scan.counts,     v->select.lost,          v->select.best};
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        kernels_free(all[i]);
}

static int32_t launch(void *context, int32_t i, void *stream)
{
    struct vectors *v = context;
    const struct kern_cuda_vector *kernels = &v->card->kernels.vector;
    struct kern_cuda_vector_scan_args scan = v->scan;
    const size_t n = (size_t)scan.n_queries;
    (void)i;
    cudaError_t cleared = cudaMemsetAsync(scan.least, 0, n * 8, (cudaStream_t)stream);
    if (cleared == cudaSuccess)
        cleared = cudaMemsetAsync(scan.counts, 0, n * 4, (cudaStream_t)stream);
    int32_t error = cleared ? (int32_t)cleared : kernels->queries(&v->queries, stream);
    scan.stride = 1;
    while (BASE_DIV_UP(scan.rows.n_tiles / RUN, scan.stride) > FIRST_RUNS)
        scan.stride *= GROWTH;
    for (; scan.stride > 0 && !error; scan.stride /= GROWTH, scan.later = 1) {
        error = kernels->scan(&scan, stream);
        if (!error)
            error = kernels->select(&v->select, stream);
    }
    return error;
}

static void table(const struct kernels_card *card, int32_t form, int32_t n, const char *name)
{
    static const int32_t counts[] = {1, 8, 64, 128, 256};
    struct vectors v = {.card = card};
    size_t free_bytes = 0, total = 0;
    BENCH_MUST(cudaMemGetInfo(&free_bytes, &total));
    while (n > 1 << 16 &&
           (size_t)n / 16 * kern_cuda_vector_tile_bytes(form, DIMS) > free_bytes / 8 * 7)
        n /= 2;
    start(&v, form, n);
    const double bytes = (double)n / 16 * (double)kern_cuda_vector_tile_bytes(form, DIMS);
    printf("%-12s", name);
    for (size_t i = 0; i < BASE_COUNT(counts); i++) {
        char cell[64];
        v.queries.n = v.scan.n_queries = v.select.n_queries = counts[i];
        snprintf(cell, sizeof cell, "vectors %s %d rows %d queries", name, n, counts[i]);
        kernels_cell(card, cell, launch, &v, 1, bytes, 2.0 * n * DIMS * counts[i]);
    }
    printf("\n");
    end(&v);
}

void kernels_vector(const struct kernels_card *card)
{
    printf(
        "\nexact search, 768 dims, us, %% of the copy, TFLOP/s; 1, 8, 64, 128 and 256 queries\n");
    table(card, KERN_CUDA_VECTOR_HALF, 10000000 / 128 * 128, "16 bits");
    table(card, KERN_CUDA_VECTOR_BYTES, 10000000 / 128 * 128, "8 bits");
}
