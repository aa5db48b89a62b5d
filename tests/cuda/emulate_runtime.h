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

/* When work is done that nothing has waited for yet. A card may do all of these, and each shows
 * other mistakes. The environment variable EMULATED_ORDER says so at the start: eager, newest,
 * oldest, random or random:SEED. */
enum emulated_order {
    /* As late as can be: a host that reads a result too early, or changes pinned memory too early.
     */
    EMULATED_LAZY,
    /* At once: a host that writes after the launch that reads it. */
    EMULATED_EAGER,
    /* At once but for the oldest stream, whose work is done late: what should have followed it. */
    EMULATED_NEWEST,
    /* That of the oldest stream at once, that of others late: where it should have followed them.
     */
    EMULATED_OLDEST,
    /* Some, of some streams, by a seed. */
    EMULATED_RANDOM
};
void emulated_set_order(enum emulated_order order, uint64_t seed);

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
