/* cuBLASLt as a measure of what matrix products can reach; loaded when asked for. */
#ifndef BENCHMARKS_GPU_BLAS_H
#define BENCHMARKS_GPU_BLAS_H

#include "bench.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = x . w^T for m rows x of k and n rows w of k; type BENCH_BF16, BENCH_F16 or BENCH_E4M3 (m a
 * multiple of 16), y is BF16 (F16 for F16). With scales E4M3 has one for 128 elements along k of
 * each row, those of all rows side by side, and y is F32. Launch i reads copy i % copies of w, so
 * that the cache does not hold what a model's step would read from memory. */
struct blas_product {
    const void *w, *x;
    void *y;
    size_t copy_bytes; /* from a copy of w to the next */
    int32_t m, n, k, type, copies;
    const float *w_scales, *x_scales; /* NULL: one scale for all, 1 */
};

/* path NULL: the loader's own search, then CUDA's usual folder. 0: not found. */
int blas_open(const char *path);

/* The fastest of what the library's heuristic proposes. 0: it proposes nothing. */
int blas_time(const struct blas_product *product, struct bench_time *time);

#ifdef __cplusplus
}
#endif

#endif
