/* Parts of the program `kernels`: each times some launchers and prints a table. */
#ifndef BENCHMARKS_GPU_KERNELS_H
#define BENCHMARKS_GPU_KERNELS_H

#include "bench.h"

#include "kernels/cuda/cuda_kernels.h"

#define LAUNCHES   20 /* of a graph at least */
#define COPIES_MAX 256
#define ROUNDS     7
#define ROUND_MS   3
#define COLD_BYTES 400e6 /* what the launches of a graph read in turn: many times the cache */

struct kernels_card {
    struct kern_cuda kernels;
    double copy_rate; /* bytes a second */
};

/* How many sets of `bytes` the launches of a graph take in turn. */
int32_t kernels_copies(double bytes);

void *kernels_new(size_t bytes);
void *kernels_new_normal(size_t n_floats, float std, uint64_t seed);
void kernels_free(void *p);

/* Times `launch`, each of `copies` sets at least once in a graph, and prints one cell of a row, or
 * "failed". bytes and operations: 0 where they are
 * not of interest. Returns the median in microseconds, 0 where it failed. */
double kernels_cell(const struct kernels_card *card, const char *name, bench_launch_fn *launch,
                    void *context, int32_t copies, double bytes, double operations);

void kernels_few(const struct kernels_card *card);
void kernels_many(const struct kernels_card *card, int with_blas);
void kernels_attn(const struct kernels_card *card);
void kernels_rows(const struct kernels_card *card);
void kernels_lora(const struct kernels_card *card);
void kernels_vector(const struct kernels_card *card);
void kernels_recur(const struct kernels_card *card);
void kernels_sample(const struct kernels_card *card);
void kernels_latent(const struct kernels_card *card);

/* Weights of random values in the card's layout, `copies` of them; 0: the type has no kernels. */
struct kernels_weights {
    struct kern_cuda_matrix matrix; /* copy 0 */
    size_t body_bytes, side_bytes;
    int32_t copies;
    double file_bytes; /* of one copy as a file has it */
};
int kernels_weights_make(const struct kernels_card *card, struct kernels_weights *w,
                         infer_dtype type, int32_t n, int32_t k, int32_t copies);
struct kern_cuda_matrix kernels_weights_copy(const struct kernels_weights *w, int32_t i);
void kernels_weights_free(struct kernels_weights *w);

/* Bytes of n rows of k, as a file has them. */
double kernels_file_bytes(infer_dtype type, int32_t n, int32_t k);

#endif
