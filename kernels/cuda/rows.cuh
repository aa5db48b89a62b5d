/* What kernels over rows share: pieces of rows in registers, sums over a block of threads, and the
 * forms in which rows are stored. */
#ifndef KERNELS_CUDA_ROWS_CUH
#define KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/device.cuh"

#define KERN_BLOCK_MAX 1024

/* Sums and what follows from them are taken in double, as the reference takes them: no finite row
 * overflows, and the order of additions is lost in the rounding to float. */
static __device__ __forceinline__ double kern_warp_sum_double(double value)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/* The sum over all threads of a block of whole warps, given to each. The order of additions
 * depends on the number of threads alone. */
static __device__ __forceinline__ double kern_block_sum(double value)
{
    __shared__ double partial[KERN_BLOCK_MAX / KERN_WARP];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    value = kern_warp_sum_double(value);
    __syncthreads(); /* the sums of a call before are read */
    if (lane == 0)
        partial[warp] = value;
    __syncthreads();
    value = lane < (int)blockDim.x / KERN_WARP ? partial[lane] : 0.0;
    return kern_warp_sum_double(value);
}

/* W neighbours of a row, W 1 or 4; four start on 16 bytes. */
template <int W> struct kern_piece {
    float v[W];
};

template <int W> static __device__ __forceinline__ kern_piece<W> kern_piece_load(const float *p)
{
    kern_piece<W> piece;
    if constexpr (W == 4) {
        const float4 all = *(const float4 *)p;
        piece.v[0] = all.x;
        piece.v[1] = all.y;
        piece.v[2] = all.z;
        piece.v[3] = all.w;
    } else {
        piece.v[0] = *p;
    }
    return piece;
}

template <int W>
static __device__ __forceinline__ void kern_piece_store(float *p, const kern_piece<W> &piece)
{
    if constexpr (W == 4)
        *(float4 *)p = make_float4(piece.v[0], piece.v[1], piece.v[2], piece.v[3]);
    else
        *p = piece.v[0];
}

template <int W> static __device__ __forceinline__ kern_piece<W> kern_piece_fill(float value)
{
    kern_piece<W> piece;
#pragma unroll
    for (int e = 0; e < W; e++)
        piece.v[e] = value;
    return piece;
}

/* Whether pieces of four can be used: all are NULL or start on 16 bytes. */
static inline bool kern_on_16_bytes(const void *a, const void *b, const void *c, const void *d)
{
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) & 15) == 0;
}

/* The largest of a row. */
struct largest {
    float value;
    int at; /* of equal ones the lowest */
};

static __device__ __forceinline__ struct largest larger(struct largest a, struct largest b)
{
    return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

static __device__ __forceinline__ struct largest warp_largest(struct largest mine)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2) {
        struct largest other;
        other.value = __shfl_xor_sync(0xffffffffu, mine.value, step);
        other.at = __shfl_xor_sync(0xffffffffu, mine.at, step);
        mine = larger(mine, other);
    }
    return mine;
}

/* Elements 4 i .. 4 i + 3 of a row of n as Q8 (kern_act_q8_fn). Neighbouring lanes hold
 * neighbouring pieces, eight of them a block of 32; every lane of the warp calls it, `inside` is
 * false of those beyond the row. */
static __device__ __forceinline__ void kern_store_q8(uint8_t *row, int n, int i, bool inside,
                                                     const kern_piece<4> &x)
{
    uint32_t amax = 0; /* bits of magnitudes: infinity and NaN are the largest */
#pragma unroll
    for (int e = 0; e < 4; e++)
        amax = max(amax, __float_as_uint(x.v[e]) & 0x7fffffffu);
#pragma unroll
    for (int step = 4; step > 0; step /= 2)
        amax = max(amax, __shfl_xor_sync(0xffffffffu, amax, step));
    const bool finite = amax < 0x7f800000u;
    const float size = __uint_as_float(amax);
    uint32_t packed = 0;
    int sum = 0;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const int q = finite && amax ? (int)rintf(x.v[e] / size * 127.0f) : 0;
        packed |= (uint32_t)(q & 0xff) << 8 * e;
        sum += q;
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (!inside)
        return;
    float *d = (float *)(row + n);
    int16_t *s = (int16_t *)(d + n / 32);
    *(uint32_t *)(row + 4 * i) = packed;
    if (i % 8 == 0)
        d[i / 8] = finite ? size / 127.0f : __uint_as_float(0x7fc00000u);
    if (i % 4 == 0)
        s[i / 4] = (int16_t)sum;
}

/* As kern_e4m3_of_float(). */
static __device__ __forceinline__ uint32_t kern_e4m3_bits(float x)
{
    const uint32_t bits = __float_as_uint(x), size = bits & 0x7fffffffu, sign = bits >> 24 & 0x80u;
    if (size >= 0x43e00000u)
        return sign | (size > 0x7f800000u ? 0x7fu : 0x7eu);
    if (size < 0x3c800000u)
        return sign | (__float_as_uint(__uint_as_float(size) + 16384.0f) - 0x46800000u);
    return sign | (size - 0x3c000000u + 0x7ffffu + (size >> 20 & 1u)) >> 20;
}

/* Elements 4 i .. 4 i + 3 of row blockIdx.x, of gridDim.x, as E4M3 (KERN_CUDA_ROWS_F8). A warp
 * holds a block of 128; every lane of it calls, and all or none are inside. The last row writes the
 * zeros that follow it. */
static __device__ __forceinline__ void kern_store_f8(uint8_t *y, size_t stride, int i, bool inside,
                                                     const kern_piece<4> &x)
{
    const size_t row = blockIdx.x, rows = ((size_t)gridDim.x + 3) / 4 * 4;
    uint32_t amax = 0; /* bits of magnitudes: infinity and NaN are the largest */
#pragma unroll
    for (int e = 0; e < 4; e++)
        amax = max(amax, __float_as_uint(x.v[e]) & 0x7fffffffu);
#pragma unroll
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        amax = max(amax, __shfl_xor_sync(0xffffffffu, amax, step));
    if (!inside)
        return;
    const bool finite = amax < 0x7f800000u;
    const float size = __uint_as_float(amax);
    float *scales = (float *)(void *)(y + rows * stride) + (size_t)(i / KERN_WARP) * rows;
    uint32_t packed = 0;
#pragma unroll
    for (int e = 0; e < 4; e++)
        packed |= finite && amax ? kern_e4m3_bits(x.v[e] / size * 448.0f) << 8 * e : 0u;
    *(uint32_t *)(void *)(y + row * stride + 4 * (size_t)i) = packed;
    if (i % KERN_WARP == 0)
        scales[row] = finite ? size / 448.0f : __uint_as_float(0x7fc00000u);
    for (size_t r = row + 1; row + 1 == gridDim.x && r < rows; r++) {
        *(uint32_t *)(void *)(y + r * stride + 4 * (size_t)i) = 0;
        if (i % KERN_WARP == 0)
            scales[r] = 0.0f;
    }
}

/* Piece i of a row of n in the form `rows`. As kern_store_q8() every lane calls it. */
template <int W, int rows>
static __device__ __forceinline__ void kern_store_row(void *row, int n, int i, bool inside,
                                                      const kern_piece<W> &x)
{
    if constexpr (rows == KERN_CUDA_ROWS_Q8) {
        kern_store_q8((uint8_t *)row, n, i, inside, x);
    } else if (inside) {
        if constexpr (rows == KERN_CUDA_ROWS_F32) {
            kern_piece_store<W>((float *)row + (size_t)i * W, x);
        } else if constexpr (W == 4) {
            __nv_bfloat162 pair[2];
            pair[0] = __floats2bfloat162_rn(x.v[0], x.v[1]);
            pair[1] = __floats2bfloat162_rn(x.v[2], x.v[3]);
            uint2 bits;
            memcpy(&bits, pair, sizeof bits);
            ((uint2 *)row)[i] = bits;
        } else {
            ((__nv_bfloat16 *)row)[i] = __float2bfloat16_rn(x.v[0]);
        }
    }
}

#endif
