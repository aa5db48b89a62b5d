/* Kernels that take less of an emulation's time and mean the same (plain_kernels.cpp). */
#ifndef TESTS_CUDA_PLAIN_KERNELS_H
#define TESTS_CUDA_PLAIN_KERNELS_H

#include "kernels/cuda/cuda_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

void plain_kernels(struct kern_cuda *kernels);

#ifdef __cplusplus
}
#endif

#endif
