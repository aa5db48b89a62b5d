/* Which CUDA kernels a card can run. */
#include "kernels/cuda/cuda_kernels.h"

/* The oldest capability that machine code is built for (kernels/cuda/meson.build). */
#define CAPABILITY_MIN 80

void kern_cuda_init(struct kern_cuda *kernels, int32_t compute_capability)
{
    *kernels = (struct kern_cuda){0};
    if (compute_capability >= CAPABILITY_MIN)
        kernels->norm.rms = kern_cuda_norm_rms;
}
