/* Launchers of the CUDA kernels. Each puts its work into `stream` (a
 * cudaStream_t) and returns at once: 0, or the cudaError_t of the launch.
 * Pointers are device memory. Every entry is batch-invariant, as in kernels.h. */
#ifndef KERNELS_CUDA_CUDA_KERNELS_H
#define KERNELS_CUDA_CUDA_KERNELS_H

#include "base/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = x / sqrt(mean(x^2) + eps) * w for each of n_rows rows of n, one after the
 * other; y may be x; w may be NULL (ones). */
typedef int32_t kern_cuda_rms_fn(float *y, const float *x, const float *w, int32_t n_rows,
                                 int32_t n, float eps, void *stream);

struct kern_cuda {
    struct {
        kern_cuda_rms_fn *rms;
    } norm;
};

/* Fills the table for a compute capability (90 for 9.0); what the card cannot run stays NULL. */
void kern_cuda_init(struct kern_cuda *kernels, int32_t compute_capability);

kern_cuda_rms_fn kern_cuda_norm_rms;

#ifdef __cplusplus
}
#endif

#endif
