/* x for products of few rows: normed, quantised where the weights are, in shared memory. */
#ifndef KERNELS_CUDA_FEW_X_CUH
#define KERNELS_CUDA_FEW_X_CUH

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/block_float.cuh"

#define FEW_WARPS   16
#define FEW_THREADS (FEW_WARPS * KERN_WARP)

template <typename Read> static constexpr __host__ __device__ int few_unit_elements(void)
{
    if constexpr (Read::quant)
        return 16 * Read::groups;
    else
        return Read::elements;
}

/* Of each block of 32: the scale, and the sums of its halves in 16 bits each; where units are
 * whole blocks, the sum of both. */
struct few_block {
    float d;
    int32_t sum;
};

/* Of a row. Piece j of unit u, 16 bytes, lies at j * n_units + u, so that lanes read neighbours. */
template <typename Read> static __host__ __device__ __forceinline__ size_t few_x_bytes(int n_units)
{
    if constexpr (Read::quant) {
        const size_t q = (size_t)n_units * Read::groups * 16;
        return (q + q / 32 * sizeof(struct few_block) + 15) / 16 * 16;
    } else {
        return (size_t)n_units * Read::elements * sizeof(float);
    }
}

/* Wide loads take all of the row. */
static __device__ __forceinline__ bool few_is_wide(const float *x, int k)
{
    return ((uintptr_t)x & 15) == 0 && k % 4 == 0;
}

/* Elements e .. e + 3, then those `step` further and so on, zeros from k on; all loads are on their
 * way before the first is waited for. */
template <int batch>
static __device__ __forceinline__ void few_load(float4 v[batch], const float *x, int e, int step,
                                                int k, bool wide)
{
    if (wide) {
#pragma unroll
        for (int b = 0; b < batch; b++)
            v[b] = e + b * step < k ? *(const float4 *)(x + e + b * step)
                                    : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return;
    }
#pragma unroll
    for (int b = 0; b < batch; b++) {
        const int at = e + b * step;
        v[b].x = at < k ? x[at] : 0.0f;
        v[b].y = at + 1 < k ? x[at + 1] : 0.0f;
        v[b].z = at + 2 < k ? x[at + 2] : 0.0f;
        v[b].w = at + 3 < k ? x[at + 3] : 0.0f;
    }
}

/* A number of double's precision, nearly. */
struct few_pair {
    float high, low;
};

static __device__ __forceinline__ struct few_pair few_scale_of(double squares, int k, float eps)
{
    const double exact = 1.0 / sqrt(squares / (double)k + (double)eps);
    struct few_pair scale;
    scale.high = (float)exact;
    scale.low = (float)(exact - (double)scale.high);
    return scale;
}

/* 1 / sqrt(mean of squares + eps) of each row. In double: no finite row overflows. */
template <int M>
static __device__ void few_norm_scales(struct few_pair scale[M],
                                       const struct kern_cuda_few_args &args, const float *x, int k,
                                       int m)
{
    KERN_SHARED(double, partial, [M][FEW_WARPS]);
    const int step = blockDim.x * 4;
#pragma unroll 1
    for (int i = 0; i < m; i++) {
        double sum = 0.0;
        const float *row = x + i * args.x_stride;
        const bool wide = few_is_wide(row, k);
        for (int e = threadIdx.x * 4; e < k; e += step * 2) {
            float4 v[2];
            few_load<2>(v, row, e, step, k, wide);
#pragma unroll
            for (int b = 0; b < 2; b++) {
                sum += (double)v[b].x * v[b].x;
                sum += (double)v[b].y * v[b].y;
                sum += (double)v[b].z * v[b].z;
                sum += (double)v[b].w * v[b].w;
            }
        }
        for (int lanes = KERN_WARP / 2; lanes > 0; lanes /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
        if (threadIdx.x % KERN_WARP == 0)
            partial[i][threadIdx.x / KERN_WARP] = sum;
    }
    __syncthreads();
    if ((int)threadIdx.x < m) {
        double sum = 0.0;
        for (int w = 0; w < (int)(blockDim.x / KERN_WARP); w++)
            sum += partial[threadIdx.x][w];
        scale[threadIdx.x] = few_scale_of(sum, k, args.eps);
    }
    __syncthreads();
}

/* v * scale * w, rounded once: conversions to double and back are slow. */
static __device__ __forceinline__ float few_scaled(float v, struct few_pair scale, float w)
{
    const float high = __fmul_rn(v, scale.high);
    const float low = fmaf(v, scale.low, fmaf(v, scale.high, -high));
    const float product = __fmul_rn(high, w);
    return product + fmaf(low, w, fmaf(high, w, -product));
}

static __device__ __forceinline__ float4 few_normed(float4 v, float4 w, struct few_pair scale)
{
    return make_float4(few_scaled(v.x, scale, w.x), few_scaled(v.y, scale, w.y),
                       few_scaled(v.z, scale, w.z), few_scaled(v.w, scale, w.w));
}

/* ------------------------------------------------------------------ Q8 */

/* Division by b, where |a| <= b and neither they nor the quotient's error are subnormal: with
 * r = 1 / b rounded, one step makes a / b as division rounds it (Markstein). */
static __device__ __forceinline__ float few_divide(float a, float b, float r)
{
    const float q = __fmul_rn(a, r);
    return fmaf(fmaf(-q, b, a), r, q);
}

static __device__ __forceinline__ uint32_t few_q8(float v, float amax, float r)
{
    return (uint32_t)(__float2int_rn(__fmul_rn(few_divide(v, amax, r), 127.0f)) & 255);
}

static __device__ __forceinline__ float few_largest(float4 v)
{
    return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

static __device__ __forceinline__ bool few_finite(float v)
{
    return (__float_as_uint(v) & 0x7f800000u) != 0x7f800000u;
}

/* The quotients of v by the largest, as kern_act_q8_fn has them. A power of two first takes both
 * to where no step is subnormal; what becomes 0 by it is far below half of 1 / 127. */
static __device__ __forceinline__ uint32_t few_q8_4(float4 v, float amax)
{
    const float by = amax < 0x1p-60f ? 0x1p64f : amax > 0x1p60f ? 0x1p-64f : 1.0f;
    const float most = amax * by, r = __fdiv_rn(1.0f, most);
    return few_q8(v.x * by, most, r) | few_q8(v.y * by, most, r) << 8 |
           few_q8(v.z * by, most, r) << 16 | few_q8(v.w * by, most, r) << 24;
}

/* Elements e .. e + 3 of x, by eight lanes that hold a block of 32 together; all lanes call it. */
template <typename Read>
static __device__ __forceinline__ void few_store_q8(unsigned char *shared, int n_units, int e,
                                                    float4 v, bool live)
{
    float amax = few_largest(v);
    int bad = !(few_finite(v.x) && few_finite(v.y) && few_finite(v.z) && few_finite(v.w));
#pragma unroll
    for (int step = 4; step > 0; step /= 2) {
        amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, step));
        bad |= __shfl_xor_sync(0xffffffffu, bad, step);
    }
    const uint32_t q = !bad && amax > 0.0f ? few_q8_4(v, amax) : 0;
    int sum = __dp4a((int)q, 0x01010101, 0);
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int other = __shfl_xor_sync(0xffffffffu, sum, 4);
    if (!live)
        return;
    const int g = e / 16;
    const int cell = Read::piece_of(g) * n_units + Read::unit_of(g);
    *(uint32_t *)(shared + (size_t)cell * 16 + e % 16) = q;
    if (e % 32 == 0) {
        struct few_block *blocks =
            (struct few_block *)(shared + (size_t)n_units * Read::groups * 16);
        blocks[e / 32].d = bad ? __uint_as_float(0x7fc00000u) : amax / 127.0f;
        blocks[e / 32].sum =
            Read::one_scale ? sum + other : (int)((sum & 0xffff) | (uint32_t)other << 16);
    }
}

/* ------------------------------------------------------------------ rows */

template <typename Read>
static __device__ __forceinline__ void few_store_float(unsigned char *shared, int n_units, int e,
                                                       float4 v)
{
    const int piece = e / 4, per_unit = Read::elements / 4;
    ((float4 *)shared)[piece % per_unit * n_units + piece / per_unit] = v;
}

/* Asks for the weights of a norm, which may be done before x is there: what the kernels before have
 * read has driven them out of the chip's cache. */
static __device__ __forceinline__ void few_fetch_norm(const float *norm, int k)
{
    if (norm)
        for (int e = threadIdx.x * 32; e < k; e += blockDim.x * 32)
            kern_ask(norm + e);
}

/* One row, by warp `warp` of n_warps. */
template <typename Read, bool normed, int batch>
static __device__ __forceinline__ void few_store_row(unsigned char *shared, const float *row,
                                                     const float *norm, struct few_pair scale,
                                                     int k, int n_units, int warp, int n_warps)
{
    const int end = n_units * few_unit_elements<Read>(), step = n_warps * 128;
    const bool wide = few_is_wide(row, k), norm_wide = normed && few_is_wide(norm, k);
    for (int first = warp * 128; first < end; first += step * batch) {
        const int e = first + threadIdx.x % KERN_WARP * 4;
        float4 v[batch], w[normed ? batch : 1];
        few_load<batch>(v, row, e, step, k, wide);
        if constexpr (normed)
            few_load<batch>(w, norm, e, step, k, norm_wide);
#pragma unroll
        for (int b = 0; b < batch; b++) {
            const int at = e + b * step;
            if (first + b * step >= end) /* for all lanes */
                continue;
            if constexpr (normed)
                v[b] = few_normed(v[b], w[b], scale);
            if constexpr (Read::quant)
                few_store_q8<Read>(shared, n_units, at, v[b], at < end);
            else if (at < end)
                few_store_float<Read>(shared, n_units, at, v[b]);
        }
    }
}

/* One row with its norm, of which each thread holds its part between the sum and the product: read
 * once, and with the weights at the same time. The sum goes in the order of few_norm_scales(). As
 * much as registers can be spared for: `held` fours. */
#define FEW_HELD 2

template <typename Read, int held>
static __device__ __forceinline__ void few_prepare_held(unsigned char *shared,
                                                        const struct kern_cuda_few_args &args,
                                                        const float *x, int k, int n_units)
{
    KERN_SHARED(double, partial, [FEW_WARPS]);
    const int end = n_units * few_unit_elements<Read>(), step = blockDim.x * 4;
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int n_warps = blockDim.x / KERN_WARP;
    float4 v[held], w[held];
    few_load<held>(v, x, threadIdx.x * 4, step, k, true);
    few_load<held>(w, args.norm, threadIdx.x * 4, step, k, true);
    double sum = 0.0;
#pragma unroll
    for (int b = 0; b < held; b++) {
        sum += (double)v[b].x * v[b].x;
        sum += (double)v[b].y * v[b].y;
        sum += (double)v[b].z * v[b].z;
        sum += (double)v[b].w * v[b].w;
    }
    for (int lanes = KERN_WARP / 2; lanes > 0; lanes /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (lane == 0)
        partial[warp] = sum;
    __syncthreads();
    sum = 0.0;
    for (int i = 0; i < n_warps; i++)
        sum += partial[i];
    const struct few_pair scale = few_scale_of(sum, k, args.eps);
#pragma unroll
    for (int b = 0; b < held; b++) {
        const int first = warp * 128 + b * step, at = first + lane * 4;
        if (first >= end) /* for all lanes */
            break;
        v[b] = few_normed(v[b], w[b], scale);
        if constexpr (Read::quant)
            few_store_q8<Read>(shared, n_units, at, v[b], at < end);
        else if (at < end)
            few_store_float<Read>(shared, n_units, at, v[b]);
    }
    __syncthreads();
}

/* Rows of x, m of them, into shared memory; all threads of the block. */
template <typename Read, int M, int held = FEW_HELD>
static __device__ void few_prepare(unsigned char *shared, const struct kern_cuda_few_args &args,
                                   const float *x, int k, int n_units, int m)
{
    if constexpr (M == 1) {
        if (args.norm && n_units * few_unit_elements<Read>() <= held * 4 * (int)blockDim.x &&
            few_is_wide(x, k) && few_is_wide(args.norm, k)) {
            few_prepare_held<Read, held>(shared, args, x, k, n_units);
            return;
        }
    }
    const size_t row_bytes = few_x_bytes<Read>(n_units);
    KERN_SHARED(struct few_pair, scale, [M]);
    if (args.norm)
        few_norm_scales<M>(scale, args, x, k, m);
    /* Warps in one, two or four parts, each with rows of its own. */
    const int n_warps = blockDim.x / KERN_WARP;
    const int parts = M == 1 ? 1 : min(m < 4 ? (m + 2) / 2 : 4, n_warps);
    const int warp = threadIdx.x / KERN_WARP / parts;
#pragma unroll 1
    for (int i = threadIdx.x / KERN_WARP % parts; i < m; i += parts) {
        const float *row = x + i * args.x_stride;
        unsigned char *to = shared + i * row_bytes;
        if (args.norm)
            few_store_row<Read, true, 2>(to, row, args.norm, scale[i], k, n_units, warp,
                                         n_warps / parts);
        else
            few_store_row<Read, false, 4>(to, row, nullptr, {}, k, n_units, warp, n_warps / parts);
    }
    __syncthreads();
}

#endif
