/* One vector of many rows. */
#include "kernels/cuda/rows.cuh"

#define WARPS   8
#define THREADS (WARPS * KERN_WARP)

/* NaN stays: the host finds it, and says so. */
static __device__ __forceinline__ double joined(double so_far, double x, bool largest)
{
    if (largest)
        return x > so_far || x != x ? x : so_far;
    return so_far + x;
}

/* Blocks are (vector, run of columns): a lane has W columns, the warps share the rows. */
template <int W>
static __global__ void __launch_bounds__(THREADS, 4)
    pool(float *out, const float *x, const struct kern_cuda_text_fold *folds, int n)
{
    __shared__ double of_warp[WARPS][KERN_WARP * W];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int column = (blockIdx.y * KERN_WARP + lane) * W;
    kern_wait();
    kern_release();
    const struct kern_cuda_text_fold f = folds[blockIdx.x];
    double sum[W];
#pragma unroll
    for (int e = 0; e < W; e++)
        sum[e] = f.largest ? -INFINITY : 0.0;
    if (column < n) {
#pragma unroll 4
        for (int i = warp; i < f.n_rows; i += WARPS) {
            const kern_piece<W> v = kern_piece_load<W>(x + (size_t)(f.row + i) * n + column);
#pragma unroll
            for (int e = 0; e < W; e++)
                sum[e] = joined(sum[e], (double)v.v[e], f.largest);
        }
    }
#pragma unroll
    for (int e = 0; e < W; e++)
        of_warp[warp][lane * W + e] = sum[e];
    __syncthreads();
    if (warp > 0 || column >= n)
        return;
    kern_piece<W> y = kern_piece_fill<W>(0.0f);
    for (int i = 1; i < WARPS; i++)
#pragma unroll
        for (int e = 0; e < W; e++)
            sum[e] = joined(sum[e], of_warp[i][lane * W + e], f.largest);
#pragma unroll
    for (int e = 0; e < W; e++)
        y.v[e] = f.n_rows > 0 ? (float)(sum[e] * (double)f.scale) : 0.0f;
    kern_piece_store<W>(out + (size_t)blockIdx.x * n + column, y);
}

extern "C" int32_t kern_cuda_text_pool(float *out, const float *x,
                                       const struct kern_cuda_text_fold *folds, int32_t n_folds,
                                       int32_t n, void *stream)
{
    if (n_folds <= 0 || n <= 0)
        return 0;
    const bool wide = n % 4 == 0 && kern_on_16_bytes(out, x, NULL, NULL);
    const int columns = KERN_WARP * (wide ? 4 : 1);
    return kern_launch(wide ? pool<4> : pool<1>,
                       dim3((unsigned)n_folds, (unsigned)((n + columns - 1) / columns)),
                       dim3(THREADS), 0, stream, out, x, folds, n);
}
