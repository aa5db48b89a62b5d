/* What the kernels need of the compiler and the chip. The same source is compiled by nvcc for the
 * card and by the host's compiler for tests without one (tests/cuda/emulate.h), so a kernel uses
 * what is defined here, plain CUDA C, and the intrinsics that the emulation knows. */
#ifndef KERNELS_CUDA_DEVICE_CUH
#define KERNELS_CUDA_DEVICE_CUH

#include "kernels/cuda/cuda_kernels.h"

#ifdef KERN_CUDA_EMULATED
#include "cuda/emulate.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

/* Shared memory whose size the launch says. */
#define KERN_SHARED_BYTES(name)       extern __shared__ __align__(128) unsigned char name[]

/* Shared memory of a block under a name, of device code that cooperative kernels use too: for the
 * emulation, in which their blocks are all there at once. */
#define KERN_SHARED(type, name, dims) __shared__ type name dims

/* Waits for all kernels before this one in the stream and makes what they wrote visible. Until
 * then only weights and what no kernel writes may be read. EVERY kernel calls it, in every thread,
 * before it touches anything else: the kernel after the next relies on it. Activations are never
 * `const __restrict__`: the compiler would load them before the wait. */
static __device__ __forceinline__ void kern_wait(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel may be started, to load its weights. */
static __device__ __forceinline__ void kern_release(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* d += a b^T: 16 x 8 from 16 x 16 and 8 x 16, fragments as PTX has them (mma.m16n8k16). */
static __device__ __forceinline__ void kern_mma_bf16(float d[4], const uint32_t a[4],
                                                     const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},"
                 "{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void kern_mma_f16(float d[4], const uint32_t a[4],
                                                    const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},"
                 "{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 16 x 8 from 16 x 8 and 8 x 8 floats, whose low 13 bits do not count (mma.m16n8k8). */
static __device__ __forceinline__ void kern_mma_tf32(float d[4], const uint32_t a[4],
                                                     const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},"
                 "{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same over bytes: 16 x 8 from 16 x 32 and 8 x 32 (mma.m16n8k32). */
static __device__ __forceinline__ void kern_mma_s8(int32_t d[4], const uint32_t a[4],
                                                   const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},"
                 "{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 16 bytes from global to shared memory, on 16 bytes both, without waiting; `bytes` of them are
 * read, 0 to 16, and the rest becomes zero. */
static __device__ __forceinline__ void kern_copy_async(void *shared, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global), "r"(bytes));
}

/* The same for 16 bytes of weights, which are read once: `policy` says which bytes leave the chip's
 * cache for them. */
static __device__ __forceinline__ void kern_copy_weights(void *shared, const void *global,
                                                         uint64_t policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global), "l"(policy));
}

/* `first`: they leave before all others, else in their turn. */
static __device__ __forceinline__ uint64_t kern_weights_policy(bool first)
{
    uint64_t policy;
    if (first)
        asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    else
        asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

/* Asks the chip's cache for the line at p, which is memory that may be read. */
static __device__ __forceinline__ void kern_ask(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* 0, which the compiler does not know: what is added to it is computed anew in each round of a loop
 * over so many bodies that what they have in common would fill the registers. */
static __device__ __forceinline__ int32_t kern_nothing(void)
{
    int32_t nothing = 0;
    asm volatile("" : "+r"(nothing));
    return nothing;
}

static __device__ __forceinline__ void kern_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* All groups but the last `pending` have arrived (this thread's: a barrier is still needed). */
template <int pending> static __device__ __forceinline__ void kern_copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* Four 8 x 8 matrices of 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8. */
static __device__ __forceinline__ void kern_load_matrix(uint32_t d[4], const void *shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(shared)));
}

static __device__ __forceinline__ void kern_load_matrix_trans(uint32_t d[4], const void *shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(shared)));
}

/* Blocks of a cooperative launch that the card holds at once, at most one each multiprocessor. */
template <typename... Params>
static inline int32_t kern_cooperative_blocks(int32_t *n, void (*kernel)(Params...),
                                              int32_t threads, size_t shared_bytes)
{
    int device = 0, can = 0, processors = 0, each = 0;
    *n = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&can, cudaDevAttrCooperativeLaunch, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, shared_bytes);
    if (error == cudaSuccess && can && each > 0)
        *n = processors;
    return (int32_t)error;
}

/* Launches in the way that the attribute says. */
template <typename... Params, typename... Args>
static inline int32_t kern_launch_with(cudaLaunchAttribute way, void (*kernel)(Params...),
                                       dim3 grid, dim3 block, size_t shared_bytes, void *stream,
                                       Args... args)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = (cudaStream_t)stream;
    config.attrs = &way;
    config.numAttrs = 1;
    return (int32_t)cudaLaunchKernelEx(&config, kernel, Params(args)...);
}

/* All blocks run at once, or the launch fails. They wait for all that was before them. */
template <typename... Params, typename... Args>
static inline int32_t kern_launch_cooperative(void (*kernel)(Params...), dim3 grid, dim3 block,
                                              size_t shared_bytes, void *stream, Args... args)
{
    cudaLaunchAttribute together = {};
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    return kern_launch_with(together, kernel, grid, block, shared_bytes, stream, args...);
}

/* Launches so that the kernel may start while the one before it still runs (kern_wait()). */
template <typename... Params, typename... Args>
static inline int32_t kern_launch(void (*kernel)(Params...), dim3 grid, dim3 block,
                                  size_t shared_bytes, void *stream, Args... args)
{
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    /* A multiprocessor parts its memory into cache and shared memory anew only when it is empty:
     * all kernels want it alike, or none could start beside the one before it. */
    cudaError_t error =
        cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared);
    if (error == cudaSuccess && shared_bytes > 48 * 1024)
        error = cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    if (error != cudaSuccess)
        return (int32_t)error;
    return kern_launch_with(overlap, kernel, grid, block, shared_bytes, stream, args...);
}

#endif /* not emulated */

#define KERN_WARP 32

/* The sum over a warp, given to each lane, in an order that depends on nothing. */
static __device__ __forceinline__ float kern_warp_sum(float value)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

static __device__ __forceinline__ float kern_warp_max(float value)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

/* The halves of a word of two BF16 numbers. */
static __device__ __forceinline__ float kern_bf16_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float kern_bf16_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

#endif
