/* What tests may ask of the emulated card (emulate_runtime.cpp). */
#ifndef TESTS_CUDA_EMULATE_RUNTIME_H
#define TESTS_CUDA_EMULATE_RUNTIME_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call of the runtime from now (1: the next) fails with `error`; what frees memory frees
 * it all the same. cudaErrorLaunchFailure means a lost card: every later call fails as well. n 0
 * takes the order back. The environment variable EMULATED_FAIL_AFTER=n,error does the same at the
 * start. */
void emulated_fail_after(long n, cudaError_t error);

/* A new card after a loss; memory and streams that are held stay valid. */
void emulated_reset(void);

/* Calls so far: a sweep over all places where a call may fail counts them first. */
long emulated_calls(void);

/* Memory that the card has; 4 GiB at the start. */
void emulated_set_memory(size_t bytes);

/* Multiprocessors that the card has, and so blocks of a cooperative launch; 132 at the start. */
void emulated_set_processors(int n);

/* What cudaMalloc has given and cudaFree has not taken back. */
size_t emulated_memory_used(void);

#ifdef __cplusplus
}
#endif

#endif
