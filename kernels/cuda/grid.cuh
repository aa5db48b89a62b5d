/* The barrier of a cooperative grid, in two halves: a block says that it has done its part, and
 * later waits for the others; what it can do without them lies in between. */
#ifndef KERNELS_CUDA_GRID_CUH
#define KERNELS_CUDA_GRID_CUH

#include "kernels/cuda/device.cuh"

#ifndef KERN_CUDA_EMULATED

/* Counts a block of the grid; returns the count before. What the caller saw at a barrier of its
 * block was written before. */
static __device__ __forceinline__ uint64_t kern_grid_arrive(uint64_t *count)
{
    uint64_t before;
    asm volatile("atom.release.gpu.global.add.u64 %0, [%1], 1;"
                 : "=l"(before)
                 : "l"(__cvta_generic_to_global(count))
                 : "memory");
    return before;
}

/* Until the count is `target`: then all that those who were counted had written is seen. */
static __device__ __forceinline__ void kern_grid_wait(const uint64_t *count, uint64_t target)
{
    uint64_t now;
    do
        asm volatile("ld.acquire.gpu.global.u64 %0, [%1];"
                     : "=l"(now)
                     : "l"(__cvta_generic_to_global(count))
                     : "memory");
    while (now < target);
}

#endif

/* All blocks of a cooperative grid meet. The count only grows: 64 bits hold it for centuries, and a
 * launch begins where the one before it ended, at a multiple of the number of blocks. */
struct kern_grid {
    uint64_t *arrived;
    uint64_t target; /* of thread 0: the count when all are there */
};

/* By all threads, as the other half: what the block has written, others see behind theirs. */
static __device__ __forceinline__ void kern_grid_meet(struct kern_grid &grid)
{
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    const uint64_t n = gridDim.x, before = kern_grid_arrive(grid.arrived);
    grid.target = (before / n + 1) * n;
}

static __device__ __forceinline__ void kern_grid_met(const struct kern_grid &grid)
{
    if (threadIdx.x == 0)
        kern_grid_wait(grid.arrived, grid.target);
    __syncthreads();
}

#endif
