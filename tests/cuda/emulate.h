/* CUDA device code on the host: one fiber a thread, the blocks of a grid one after another, or all
 * at once where a launch is cooperative. Fibers
 * run in shuffled order and switch at barriers and warp operations alone, so that a missing
 * barrier is seen. Memory ordering and overlapping kernels are not modelled: copies are at once. */
#ifndef TESTS_CUDA_EMULATE_H
#define TESTS_CUDA_EMULATE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector_types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#undef __global__
#define __global__
#undef __device__
#define __device__
#undef __host__
#define __host__
#undef __forceinline__
#define __forceinline__ inline
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__ static
#undef __constant__
#define __constant__
#undef __grid_constant__
#define __grid_constant__
#undef __restrict__
#define __restrict__
#undef __align__
#define __align__(n) alignas(n)
#undef __noinline__
#define __noinline__

#if defined(__SANITIZE_ADDRESS__)
#define EMULATE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATE_ASAN 1
#endif
#endif

struct emulated_position {
    dim3 grid_dim, block_dim;
    uint3 block, thread;
};

/* Of the running fiber. */
extern emulated_position emulated;
extern unsigned char *emulated_shared;

#define threadIdx               (emulated.thread)
#define blockIdx                (emulated.block)
#define blockDim                (emulated.block_dim)
#define gridDim                 (emulated.grid_dim)
#define KERN_SHARED_BYTES(name) unsigned char *name = emulated_shared
#define KERN_SHARED(type, name, dims)                                                              \
    static char name##_key;                                                                        \
    auto &name = *(type(*) dims)emulated_block_memory(&name##_key, sizeof(type dims))

int emulated_lane(void);
/* Shared memory of this block under a key, of NaN (0xff) at first. */
void *emulated_block_memory(const void *key, size_t bytes);
void emulated_block_barrier(void);
/* Lanes that meet are in the same line of source, or the program ends with a message. */
void emulated_warp_barrier(unsigned mask, int line);
/* What lane `source` of this warp gives as value; all lanes of the mask call it. */
uint64_t emulated_exchange(unsigned mask, uint64_t value, int source, int line);
unsigned emulated_ballot(unsigned mask, int predicate, int line);
void emulated_run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body);
void emulated_run_together(dim3 grid, dim3 block, size_t shared_bytes,
                           const std::function<void()> &body);
/* Puts emulated_run(), or the other where blocks are `together`, into the stream, or into the graph
 * while the stream is captured. */
int32_t emulated_launch(dim3 grid, dim3 block, size_t shared_bytes, void *stream,
                        std::function<void()> body, bool together = false);
/* Blocks that are there at once; 0: the card cannot. */
int32_t emulated_blocks_at_once(int32_t *n, int32_t threads, size_t shared_bytes);

#define __syncthreads() emulated_block_barrier()

static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE())
{
    emulated_warp_barrier(mask, line);
}

template <typename T> static inline T emulated_shuffle(unsigned mask, T value, int source, int line)
{
    static_assert(sizeof(T) <= 8, "shuffles move 8 bytes at most");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emulated_exchange(mask, bits, source & 31, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                            int line = __builtin_LINE())
{
    int lane = emulated_lane(), base = lane / width * width;
    return emulated_shuffle(mask, value, base + source % width, line);
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int step, int width = 32,
                                int line = __builtin_LINE())
{
    (void)width;
    return emulated_shuffle(mask, value, emulated_lane() ^ step, line);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, int step, int width = 32,
                                 int line = __builtin_LINE())
{
    int lane = emulated_lane(), to = lane + step;
    return emulated_shuffle(mask, value, to / width == lane / width ? to : lane, line);
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, int step, int width = 32,
                               int line = __builtin_LINE())
{
    int lane = emulated_lane(), to = lane - step;
    return emulated_shuffle(mask, value, to >= lane / width * width ? to : lane, line);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return emulated_ballot(mask, predicate, line);
}

static inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return emulated_ballot(mask, predicate, line) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return emulated_ballot(mask, predicate, line) == mask;
}

template <typename T> static inline T atomicAdd(T *p, T v)
{
    T old = *p;
    *p = old + v;
    return old;
}

static inline unsigned atomicInc(unsigned *p, unsigned limit)
{
    unsigned old = *p;
    *p = old >= limit ? 0 : old + 1;
    return old;
}

template <typename T> static inline T atomicMax(T *p, T v)
{
    T old = *p;
    *p = std::max(old, v);
    return old;
}

template <typename T> static inline T atomicExch(T *p, T v)
{
    T old = *p;
    *p = v;
    return old;
}

static inline void __threadfence(void)
{
}
static inline void __threadfence_block(void)
{
}
static inline void kern_wait(void)
{
}
static inline void kern_release(void)
{
}
static inline void kern_copy_commit(void)
{
}
template <int pending> static inline void kern_copy_wait(void)
{
}

static inline void kern_copy_async(void *shared, const void *global, int bytes)
{
    memset(shared, 0, 16);
    memcpy(shared, global, (size_t)bytes);
}

static inline uint64_t kern_weights_policy(bool)
{
    return 0;
}

static inline void kern_copy_weights(void *shared, const void *global, uint64_t)
{
    memcpy(shared, global, 16);
}

static inline int32_t kern_nothing(void)
{
    return 0;
}

/* Reads the byte, which must be there. */
static inline void kern_ask(const void *p)
{
    (void)*(const volatile unsigned char *)p;
}

template <typename T> static inline T __ldcs(const T *p)
{
    return *p;
}
template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}
template <typename T> static inline T __ldcg(const T *p)
{
    return *p;
}
template <typename T> static inline void __stcs(T *p, T v)
{
    *p = v;
}

using std::max;
using std::min;

static inline uint32_t __float_as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __uint_as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline int __float_as_int(float f)
{
    return (int)__float_as_uint(f);
}
static inline float __int_as_float(int i)
{
    return __uint_as_float((uint32_t)i);
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline float emulated_expf(float x)
{
    return expf(x);
}
#define __expf emulated_expf
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline int __float2int_rn(float x)
{
    return (int)rintf(x);
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (int)(int8_t)(a >> 8 * i) * (int)(int8_t)(b >> 8 * i);
    return c;
}

static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned select)
{
    uint64_t both = (uint64_t)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++)
        out |= (unsigned)(both >> 8 * (select >> 4 * i & 7) & 255) << 8 * i;
    return out;
}

static inline unsigned __vsub4(unsigned a, unsigned b)
{
    unsigned out = 0;
    for (int i = 0; i < 4; i++)
        out |= (((a >> 8 * i & 255) - (b >> 8 * i & 255)) & 255) << 8 * i;
    return out;
}

static inline unsigned __vsubss4(unsigned a, unsigned b)
{
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        int d = (int)(int8_t)(a >> 8 * i) - (int)(int8_t)(b >> 8 * i);
        out |= (unsigned)(std::min(std::max(d, -128), 127) & 255) << 8 * i;
    }
    return out;
}

/* Fragments of the PTX manual: lane l = 4 g + t. */
void kern_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]);
void kern_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2]);
void kern_mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2]);
void kern_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2]);
void kern_load_matrix(uint32_t d[4], const void *shared);
void kern_load_matrix_trans(uint32_t d[4], const void *shared);

static inline uint64_t kern_grid_arrive(uint64_t *count)
{
    return (*count)++;
}

void kern_grid_wait(const uint64_t *count, uint64_t target);

template <typename... Params>
static inline int32_t kern_cooperative_blocks(int32_t *n, void (*)(Params...), int32_t threads,
                                              size_t shared_bytes)
{
    return emulated_blocks_at_once(n, threads, shared_bytes);
}

template <typename... Params, typename... Args>
static inline int32_t kern_launch_cooperative(void (*kernel)(Params...), dim3 grid, dim3 block,
                                              size_t shared_bytes, void *stream, Args... args)
{
    return emulated_launch(
        grid, block, shared_bytes, stream, [=] { kernel(Params(args)...); }, true);
}

template <typename... Params, typename... Args>
static inline int32_t kern_launch(void (*kernel)(Params...), dim3 grid, dim3 block,
                                  size_t shared_bytes, void *stream, Args... args)
{
    return emulated_launch(grid, block, shared_bytes, stream, [=] { kernel(Params(args)...); });
}

#endif
