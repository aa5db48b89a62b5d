/* What tests may ask of the emulated card (emulate_runtime.cpp). */
#ifndef TESTS_CUDA_EMULATE_RUNTIME_H
#define TESTS_CUDA_EMULATE_RUNTIME_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call of the runtime from now (1: the next) fails with `error`; what frees memory frees
 * it all the same. cudaErrorLaunchFailure and cudaErrorIllegalAddress are the end of the context
 * that the call is for: every later call in it fails as well and frees nothing, work that waits in
 * it is never done, and all goes when it is destroyed. n 0 takes the order back. The environment
 * variable EMULATED_FAIL_AFTER=n,error does the same at the start. */
void emulated_fail_after(long n, cudaError_t error);

/* Work that is the end of the current context when the stream comes to it, as a kernel is that
 * writes where nothing is. The runtime's error. */
int32_t emulated_lose(void *stream);

/* Contexts that are there, with the primary one where any call was for it. */
int emulated_contexts(void);

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
