/* The best keys of each query, by radix: eight bits of all keys are counted at a time, from the
 * upper end, and the bucket in which the last one lies is looked into further. */
#include "kernels/cuda/cuda_vector.h"
#include "kernels/cuda/device.cuh"

#define THREADS 256
#define DIGITS  256

/* The digit in which number `wanted` from the top lies, with a warp; *above: how many lie in digits
 * above it. */
static __device__ int select_digit(const uint32_t *counts, uint32_t wanted, uint32_t *above)
{
    const int lane = (int)threadIdx.x % KERN_WARP;
    const int top = DIGITS - 1 - lane * (DIGITS / KERN_WARP); /* lanes go down from the top */
    uint32_t own = 0;
    for (int i = 0; i < DIGITS / KERN_WARP; i++)
        own += counts[top - i];
    uint32_t sum = own;
    for (int step = 1; step < KERN_WARP; step *= 2) {
        const uint32_t other = __shfl_up_sync(0xffffffffu, sum, step);
        sum += lane >= step ? other : 0;
    }
    uint32_t before = sum - own;
    const unsigned who = __ballot_sync(0xffffffffu, before < wanted && sum >= wanted);
    int digit = top;
    if (before < wanted && sum >= wanted)
        for (; before + counts[digit] < wanted; digit--)
            before += counts[digit];
    const int from = __ffs((int)who) - 1;
    *above = __shfl_sync(0xffffffffu, before, from);
    return __shfl_sync(0xffffffffu, digit, from);
}

/* The least key that is kept of n, or the least that begins alike where all of those are kept. */
static __device__ uint64_t select_least(const uint64_t *keys, uint32_t n, uint32_t wanted)
{
    __shared__ uint32_t counts[DIGITS], above;
    __shared__ int digit;
    const int me = (int)threadIdx.x;
    uint64_t prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        counts[me] = 0;
        __syncthreads();
        for (uint32_t i = (uint32_t)me; i < n; i += THREADS)
            if (shift == 56 || keys[i] >> (shift + 8) == prefix)
                atomicAdd(counts + (keys[i] >> shift & 255), 1u);
        __syncthreads();
        if (me < KERN_WARP) {
            uint32_t higher;
            const int d = select_digit(counts, wanted, &higher);
            if (me == 0) {
                digit = d;
                above = higher;
            }
        }
        __syncthreads();
        prefix = prefix << 8 | (uint64_t)digit;
        wanted -= above;
        const bool all = counts[digit] == wanted; /* the whole bucket is kept */
        __syncthreads();
        if (all)
            return prefix << shift;
    }
    return prefix;
}

static __global__ void __launch_bounds__(THREADS)
    select_keys(const __grid_constant__ struct kern_cuda_vector_select_args a)
{
    KERN_SHARED_BYTES(shared);
    uint64_t *kept = (uint64_t *)shared;
    __shared__ uint32_t n_kept;
    const int q = (int)blockIdx.x, me = (int)threadIdx.x;
    kern_wait();
    kern_release();
    uint64_t *keys = a.keys + (size_t)q * (size_t)a.room;
    const uint32_t found = a.counts[q], n = min(found, (uint32_t)a.room);
    if (me == 0)
        n_kept = 0;
    __syncthreads(); /* before the count is changed */
    if (me == 0 && found > n)
        a.lost[q] = 1;
    if (n <= (uint32_t)a.keep) {
        if (me == 0)
            a.counts[q] = n;
        for (int i = me; a.best && i < a.keep; i += THREADS)
            a.best[(size_t)q * (size_t)a.keep + i] = (uint32_t)i < n ? keys[i] : 0;
        return;
    }
    const uint64_t least = select_least(keys, n, (uint32_t)a.keep);
    for (uint32_t i = (uint32_t)me; i < n; i += THREADS)
        if (keys[i] >= least) {
            const uint32_t at = atomicAdd(&n_kept, 1u);
            if (at < (uint32_t)a.keep)
                kept[at] = keys[i];
        }
    __syncthreads();
    for (int i = me; i < a.keep; i += THREADS) {
        keys[i] = kept[i];
        if (a.best)
            a.best[(size_t)q * (size_t)a.keep + i] = kept[i];
    }
    if (me == 0) {
        a.counts[q] = (uint32_t)a.keep;
        a.least[q] = least;
    }
}

extern "C" int32_t kern_cuda_vector_select(const struct kern_cuda_vector_select_args *args,
                                           void *stream)
{
    if (args->n_queries <= 0)
        return 0;
    if (args->keep < 1 || args->keep > KERN_CUDA_VECTOR_KEEP_MAX || args->room < args->keep)
        return (int32_t)cudaErrorInvalidValue;
    return kern_launch(select_keys, dim3((unsigned)args->n_queries), dim3(THREADS),
                       (size_t)args->keep * sizeof(uint64_t), stream, *args);
}
