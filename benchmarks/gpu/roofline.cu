/* What the card can reach, in under a minute: the yardsticks for all other figures.
 *
 *     roofline [--json FILE] [--cublas PATH]
 *
 * The rate of a device-to-device copy and of plain reading; what a kernel boundary costs in a
 * graph, with and without programmatic dependent launch; the library's matrix products at the
 * shapes of an 8B model. Data are normal random numbers: zeros run faster than anything real. */
#include "blas.h"
#include "kernels/cuda/device.cuh"

#include <math.h>
#include <string.h>

#define POOL_BYTES ((size_t)8 << 30)
#define ROWS       2048
#define CHAIN      160
#define THREADS    256
#define WIDE       8 /* loads of 16 bytes that a thread has in flight */

/* --- reading --- */

/* The XOR of n 16-byte words. All loads of a thread are on their way before one is used. */
static __device__ uint32_t read_words(const uint4 *__restrict__ words, size_t n)
{
    uint32_t sum = 0;
    size_t tile = (size_t)THREADS * WIDE, i = (size_t)blockIdx.x * tile;
    for (; i + tile <= n; i += gridDim.x * tile) {
        uint4 v[WIDE];
#pragma unroll
        for (int j = 0; j < WIDE; j++)
            v[j] = __ldcs(words + i + threadIdx.x + j * THREADS);
#pragma unroll
        for (int j = 0; j < WIDE; j++)
            sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    for (i += threadIdx.x; i < n; i += THREADS) {
        uint4 v = __ldcs(words + i);
        sum ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    return sum;
}

static __global__ void __launch_bounds__(THREADS)
    read_kernel(uint32_t *out, const uint4 *__restrict__ words, size_t n)
{
    uint32_t sum = read_words(words, n);
    kern_wait();
    kern_release();
    if (sum == 0x12345678)
        *out = sum;
}

/* As a product does: the first weights are on their way before the kernel ahead has ended. */
static __global__ void __launch_bounds__(THREADS)
    link_kernel(uint32_t *out, const uint4 *__restrict__ words, size_t n)
{
    kern_release();
    uint32_t sum = read_words(words, n);
    kern_wait();
    if (sum == 0x12345678)
        *out = sum;
}

static __global__ void empty_kernel(uint32_t *out)
{
    kern_release();
    kern_wait();
    if (out == NULL)
        __trap();
}

struct chain {
    uint32_t *out;
    const uint4 *pool;
    size_t words, pool_words; /* words 0: empty kernels */
    unsigned blocks;
    int overlap, late; /* late: released at the end */
};

static int32_t launch_link(void *context, int32_t i, void *stream)
{
    const struct chain *c = (const struct chain *)context;
    size_t at = (size_t)i * c->words % (c->pool_words - c->words + 1) & ~(size_t)7;
    cudaStream_t s = (cudaStream_t)stream;
    if (c->words == 0) {
        if (c->overlap)
            return kern_launch(empty_kernel, dim3(c->blocks), dim3(THREADS), 0, stream, c->out);
        empty_kernel<<<c->blocks, THREADS, 0, s>>>(c->out);
        return (int32_t)cudaGetLastError();
    }
    if (c->overlap && !c->late)
        return kern_launch(link_kernel, dim3(c->blocks), dim3(THREADS), 0, stream, c->out,
                           c->pool + at, c->words);
    if (c->overlap)
        return kern_launch(read_kernel, dim3(c->blocks), dim3(THREADS), 0, stream, c->out,
                           c->pool + at, c->words);
    read_kernel<<<c->blocks, THREADS, 0, s>>>(c->out, c->pool + at, c->words);
    return (int32_t)cudaGetLastError();
}

/* --- the table --- */

struct card {
    char *pool, *x, *y;
    uint32_t *out;
    unsigned sms;
    double copy_rate, read_rate; /* bytes a second */
};

static void line(const char *cell, const struct bench_time *t, double bytes, double copy_rate)
{
    printf("%-28s %9.2f us (%.2f to %.2f)", cell, t->us, t->least, t->most);
    if (bytes > 0)
        printf("  %5.0f GB/s %4.0f%%", bytes / t->us * 1e-3, 100e6 * bytes / t->us / copy_rate);
    bench_record(cell, t, bytes, 0);
}

static void memory(struct card *card)
{
    struct bench_time t;
    card->copy_rate = bench_copy_rate(card->pool, POOL_BYTES, &t);
    line("copy 4 GiB", &t, (double)POOL_BYTES, card->copy_rate);
    printf("\n");
    static const unsigned blocks[] = {2, 4, 8};
    for (int i = 0; i < 3; i++) {
        char cell[48];
        struct chain read = {card->out,
                             (const uint4 *)card->pool,
                             POOL_BYTES / 16,
                             POOL_BYTES / 16,
                             card->sms * blocks[i],
                             0,
                             0};
        BENCH_MUST(bench_graph(&t, launch_link, &read, 1, 7, 5));
        snprintf(cell, sizeof cell, "read 8 GiB, %u blocks an SM", blocks[i]);
        line(cell, &t, (double)POOL_BYTES, card->copy_rate);
        printf("\n");
        card->read_rate = fmax(card->read_rate, 1e6 * (double)POOL_BYTES / t.us);
    }
}

/* Per kernel of a chain: empty ones, and ones that read what products read. */
static void boundaries(const struct card *card)
{
    static const double megabytes[] = {0, 2, 8, 33.554432, 117.440512};
    static const char *const how[] = {"plain", "dependent launch", "released at once"};
    for (int i = 0; i < 5; i++) {
        size_t words = (size_t)(megabytes[i] * 1e6 / 16);
        for (int mode = 0; mode < (i ? 3 : 2); mode++) {
            char cell[48];
            struct bench_time t;
            struct chain chain = {card->out,       (const uint4 *)card->pool, words,
                                  POOL_BYTES / 16, card->sms * (i ? 4 : 1),   mode > 0,
                                  mode == 1};
            BENCH_MUST(bench_graph(&t, launch_link, &chain, CHAIN, 7, 5));
            snprintf(cell, sizeof cell, "chain %.0f MB, %s", megabytes[i], how[mode]);
            double boundary = t.us - (double)words * 16e6 / card->read_rate;
            line(cell, &t, (double)words * 16, card->copy_rate);
            printf("  boundary %.2f us\n", boundary);
        }
    }
}

static void product(const struct card *card, const char *type_name, const struct blas_product *p,
                    int32_t m)
{
    struct blas_product with_rows = *p;
    struct bench_time t;
    char cell[64];
    double operations = 2.0 * m * p->n * p->k;
    with_rows.m = m;
    if (!blas_time(&with_rows, &t)) {
        printf(" | not offered         ");
        return;
    }
    printf(" | %7.1f %3.0f%% %6.1f", t.us, 100e6 * (double)p->copy_bytes / t.us / card->copy_rate,
           operations / t.us * 1e-6);
    snprintf(cell, sizeof cell, "cublaslt %s %dx%d m=%d", type_name, p->n, p->k, m);
    bench_record(cell, &t, (double)p->copy_bytes, operations);
}

static void products(const struct card *card, int32_t type)
{
    static const int32_t shapes[][2] = {
        {6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {128256, 4096}};
    static const int32_t rows[] = {1, 16, 64, 256, ROWS};
    const char *type_name = type == BENCH_E4M3 ? "E4M3" : "BF16";
    printf("cuBLASLt %s; us, weights' bytes in %% of a copy, TFLOP/s, for m =", type_name);
    for (int r = type == BENCH_E4M3; r < 5; r++)
        printf(" %d", rows[r]);
    printf("\n");
    for (int s = 0; s < 5; s++) {
        int32_t n = shapes[s][0], k = shapes[s][1];
        size_t bytes = (size_t)n * (size_t)k * (type == BENCH_E4M3 ? 1 : 2);
        size_t copies = POOL_BYTES / bytes;
        struct blas_product p = {};
        p.w = card->pool, p.x = card->x, p.y = card->y;
        p.copy_bytes = bytes, p.n = n, p.k = k, p.type = type;
        p.copies = (int32_t)(copies < 16 ? copies : 16);
        printf("%6d x %-6d", n, k);
        for (int r = type == BENCH_E4M3; r < 5; r++)
            product(card, type_name, &p, rows[r]);
        printf("\n");
    }
}

static void start(struct card *card)
{
    cudaDeviceProp about;
    int driver = 0;
    BENCH_MUST(cudaGetDeviceProperties(&about, 0));
    BENCH_MUST(cudaDriverGetVersion(&driver));
    printf("%s, %d SMs, %.0f MB of L2, driver for CUDA %d.%d\n", about.name,
           about.multiProcessorCount, about.l2CacheSize * 1e-6, driver / 1000, driver % 1000 / 10);
    card->sms = (unsigned)about.multiProcessorCount;
    BENCH_MUST(cudaMalloc((void **)&card->pool, POOL_BYTES));
    BENCH_MUST(cudaMalloc((void **)&card->x, (size_t)ROWS * 14336 * 2));
    BENCH_MUST(cudaMalloc((void **)&card->y, (size_t)ROWS * 128256 * 2));
    BENCH_MUST(cudaMalloc((void **)&card->out, 4));
    bench_normal(card->pool, POOL_BYTES, BENCH_BF16, 0.02f, 1);
    bench_normal(card->x, (size_t)ROWS * 14336 * 2, BENCH_BF16, 1.0f, 2);
}

int main(int argc, char **argv)
{
    struct card card = {};
    const char *library = NULL;
    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--json") == 0) {
            bench_json = fopen(argv[++i], "a");
        } else if (i + 1 < argc && strcmp(argv[i], "--cublas") == 0) {
            library = argv[++i];
        } else {
            fprintf(stderr, "usage: roofline [--json FILE] [--cublas PATH]\n");
            return 2;
        }
    }
    start(&card);
    memory(&card);
    boundaries(&card);
    if (!blas_open(library)) {
        printf("cuBLASLt: not found, its cells are skipped\n");
        return 0;
    }
    products(&card, BENCH_BF16);
    bench_normal(card.pool, POOL_BYTES, BENCH_E4M3, 1.0f, 3);
    bench_normal(card.x, (size_t)ROWS * 14336, BENCH_E4M3, 1.0f, 4);
    products(&card, BENCH_E4M3);
    return 0;
}
