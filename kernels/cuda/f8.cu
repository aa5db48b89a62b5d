/* Scales of F8_128 in the order of cuBLASLt: its kernels want those of all rows side by side, ours
 * those of a row. They are a thirty-second of the matrix, so they are turned when they are wanted.
 */
#include "kernels/cuda/device.cuh"

#define TILE     32
#define TILE_ROW 8 /* rows of threads */

/* Blocks are tiles of (rows, blocks of 128). */
static __global__ void __launch_bounds__(TILE *TILE_ROW)
    turn_scales(float *y, const uint8_t *side, size_t side_stride, int n, int n_blocks)
{
    __shared__ float tile[TILE][TILE + 1];
    const int row = blockIdx.x * TILE, block = blockIdx.y * TILE;
    const int x = threadIdx.x % TILE, first = threadIdx.x / TILE;
    kern_wait();
    kern_release();
#pragma unroll
    for (int i = first; i < TILE; i += TILE_ROW)
        if (row + i < n && block + x < n_blocks)
            tile[i][x] = ((const float *)(const void *)(side + (row + i) * side_stride))[block + x];
    __syncthreads();
#pragma unroll
    for (int i = first; i < TILE; i += TILE_ROW)
        if (row + x < n && block + i < n_blocks)
            y[(size_t)(block + i) * n + row + x] = tile[x][i];
}

extern "C" int32_t kern_cuda_product_scales(float *y, const struct kern_cuda_matrix *m,
                                            int32_t first, int32_t n, void *stream)
{
    const int32_t n_blocks = m->k / 128;
    if (m->type != INFER_DTYPE_F8_128)
        return (int32_t)cudaErrorInvalidValue;
    if (n <= 0 || n_blocks <= 0)
        return 0;
    const dim3 grid((unsigned)((n + TILE - 1) / TILE), (unsigned)((n_blocks + TILE - 1) / TILE));
    return kern_launch(turn_scales, grid, dim3(TILE * TILE_ROW), 0, stream, y,
                       m->side + (size_t)first * m->side_stride, m->side_stride, n, n_blocks);
}
