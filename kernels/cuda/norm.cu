/* RMS norm: one block of threads a row, the row read once from memory. */
#include "kernels/cuda/cuda_kernels.h"

#define WARP        32
#define THREADS_MAX 1024

/* The sum over all threads of the block, given to each. The order of additions
 * depends on the number of threads alone, and that on n alone. */
static __device__ float block_sum(float value)
{
    __shared__ float partial[THREADS_MAX / WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int step = WARP / 2; step > 0; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    if (lane == 0)
        partial[warp] = value;
    __syncthreads();
    value = lane < blockDim.x / WARP ? partial[lane] : 0.0f;
    for (int step = WARP / 2; step > 0; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/* Vector: float4 (n a multiple of 4, rows on 16 bytes) or float. Each thread
 * keeps what it read, up to KEEP vectors, so that y may be x and the second
 * pass finds the row in registers; longer rows are read again. */
#define KEEP 4

static __device__ float square_sum(float4 v)
{
    return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
}

static __device__ float square_sum(float v)
{
    return v * v;
}

static __device__ float4 scaled(float4 v, float4 w, float r)
{
    return make_float4(v.x * r * w.x, v.y * r * w.y, v.z * r * w.z, v.w * r * w.w);
}

static __device__ float scaled(float v, float w, float r)
{
    return v * r * w;
}

static __device__ void set_ones(float4 *v)
{
    *v = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
}

static __device__ void set_ones(float *v)
{
    *v = 1.0f;
}

template <typename Vector>
static __global__ void __launch_bounds__(THREADS_MAX)
    rms(Vector *y, const Vector *x, const Vector *w, int n_vectors, int n, float eps)
{
    const size_t row = (size_t)blockIdx.x * n_vectors;
    Vector kept[KEEP];
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < KEEP; k++) {
        const int i = threadIdx.x + k * blockDim.x;
        if (i < n_vectors) {
            kept[k] = x[row + i];
            sum += square_sum(kept[k]);
        }
    }
    for (int i = threadIdx.x + KEEP * blockDim.x; i < n_vectors; i += blockDim.x)
        sum += square_sum(x[row + i]);

    const float r = 1.0f / sqrtf(block_sum(sum) / (float)n + eps);
    Vector ones;
    set_ones(&ones);
#pragma unroll
    for (int k = 0; k < KEEP; k++) {
        const int i = threadIdx.x + k * blockDim.x;
        if (i < n_vectors)
            y[row + i] = scaled(kept[k], w ? w[i] : ones, r);
    }
    for (int i = threadIdx.x + KEEP * blockDim.x; i < n_vectors; i += blockDim.x)
        y[row + i] = scaled(x[row + i], w ? w[i] : ones, r);
}

/* Whole warps, few enough that a short row does not idle most of them. */
static int threads_for(int n_vectors)
{
    int threads = (n_vectors + WARP - 1) / WARP * WARP;
    return threads < THREADS_MAX ? threads : THREADS_MAX;
}

static bool on_16_bytes(const void *y, const void *x, const void *w)
{
    return (((uintptr_t)y | (uintptr_t)x | (uintptr_t)w) & 15) == 0;
}

extern "C" int32_t kern_cuda_norm_rms(float *y, const float *x, const float *w, int32_t n_rows,
                                      int32_t n, float eps, void *stream)
{
    if (n_rows <= 0 || n <= 0)
        return 0;
    cudaStream_t s = (cudaStream_t)stream;
    if (n % 4 == 0 && on_16_bytes(y, x, w))
        rms<float4><<<n_rows, threads_for(n / 4), 0, s>>>((float4 *)y, (const float4 *)x,
                                                          (const float4 *)w, n / 4, n, eps);
    else
        rms<float><<<n_rows, threads_for(n), 0, s>>>(y, x, w, n, n, eps);
    return (int32_t)cudaGetLastError();
}
