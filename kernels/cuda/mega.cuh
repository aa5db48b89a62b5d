/* A step of one row as one kernel: what an operation is (mega.cu). */
#ifndef KERNELS_CUDA_MEGA_CUH
#define KERNELS_CUDA_MEGA_CUH

#include "kernels/cuda/attn_decode.cuh"
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/grid.cuh"

/* Machine code is made for Hopper, for which this is meant: it takes long to make (init.c). */
#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000)
#define MEGA_IS_BUILT
#endif

/* Of a block, of which there is one on each multiprocessor: so few that a thread has all the
 * registers it can name, since the addresses of all bodies are carried through the loop over
 * operations. Fewer where they are emulated. */
#ifndef MEGA_WARPS
#define MEGA_WARPS 8
#endif
#define MEGA_THREADS (MEGA_WARPS * KERN_WARP)
static_assert(MEGA_WARPS >= ATTN_WARPS, "attention has warps enough");

/* Bytes that a warp has on their way; chunks at most. */
#define MEGA_RING   14336
#define MEGA_STAGES 16

template <typename Type> static constexpr __host__ __device__ int mega_stages(void)
{
    return MEGA_RING / Type::bytes < MEGA_STAGES ? MEGA_RING / Type::bytes : MEGA_STAGES;
}

/* What a thread holds of a row with its norm, in fours: wider rows are read twice. */
#define MEGA_HELD 4

/* Operations that a block holds in shared memory: the present one, the product behind it, whose
 * weights are on their way, and as many as attention in between needs. */
#define MEGA_NEAR 4

/* Types of weights, with the elements and bytes of a block as layout.c has them. */
#define MEGA_TYPES(X)                                                                              \
    X(BF16, 1, 2, 0)                                                                               \
    X(F16, 1, 2, 0)                                                                                \
    X(Q4_0, 32, 16, 2)                                                                             \
    X(Q8_0, 32, 32, 2) X(Q4_K, 256, 144, 0) X(Q5_K, 256, 176, 0) X(Q6_K, 256, 208, 2)

/* Types of caches. */
#define MEGA_CACHES(X) X(F16, F16) X(BF16, BF16) X(Q8_0, Q8)

/* Bodies of the kernel. */
enum mega_kind {
    MEGA_NONE,
#define KIND(dtype, elements, body, side) MEGA_##dtype,
    MEGA_TYPES(KIND)
#undef KIND
#define KIND(cache, kind) MEGA_ATTN_##kind,
        MEGA_CACHES(KIND)
#undef KIND
            MEGA_ATTN = MEGA_ATTN_F16 /* the first of attention */
};

struct mega_op {
    int32_t kind;
    int32_t same; /* reads what the one before it reads: nobody is waited for */
    int32_t next; /* the product behind this one; n_ops: none */
    union {
        struct kern_few_job job;
        struct attn_params attn;
    };
};
static_assert(sizeof(struct mega_op) <= sizeof(struct kern_cuda_mega_op));

#endif
