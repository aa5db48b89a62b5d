/* Kernels that make an emulated step cheap (shallow_kernels.cpp). For models of F32 weights without
 * windows and experts, and a cache of F32. */
#ifndef TESTS_CUDA_SHALLOW_KERNELS_H
#define TESTS_CUDA_SHALLOW_KERNELS_H

#include "kernels/cuda/cuda_kernels.h"

#define SHALLOW_VOCAB 288

#ifdef __cplusplus
extern "C" {
#endif

/* The head's row has a NaN where this token would be chosen; -1: none. */
extern int32_t shallow_broken;

/* Takes the place of most of a table. */
void shallow_kernels(struct kern_cuda *kernels);

#ifdef __cplusplus
}
#endif

#endif
