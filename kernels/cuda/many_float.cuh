/* Chunks of floats for many.cuh. */
#ifndef KERNELS_CUDA_MANY_FLOAT_CUH
#define KERNELS_CUDA_MANY_FLOAT_CUH

#include "kernels/cuda/many.cuh"

/* 16 bytes more than a chunk: eight rows of 16 bytes then lie in 32 different banks. */
template <int element_bytes> struct many_plain {
    static constexpr int chunk = 128 / element_bytes;
    static constexpr int w_row = 144, x_row = 144, w_pieces = 8, x_pieces = 8;

    static __device__ __forceinline__ void copy(unsigned char *dst, const unsigned char *row, int k,
                                                int at, int piece)
    {
        const int from = at * 128 + piece * 16, bytes = min(max(k * element_bytes - from, 0), 16);
        kern_copy_async(dst + piece * 16, bytes ? row + from : row, bytes);
    }

    static __device__ __forceinline__ void
    copy_w(unsigned char *dst, const struct kern_cuda_matrix *w, size_t row, int at, int piece)
    {
        copy(dst, w->body + row * w->body_stride, w->k, at, piece);
    }

    static __device__ __forceinline__ void copy_x(unsigned char *dst, const unsigned char *row,
                                                  int k, int at, int piece)
    {
        copy(dst, row, k, at, piece);
    }
};

/* Two BF16 numbers as halves. Weights keep all their bits, and so does x from 2^-14 to 65504, which
 * 8 bits of precision fit into; beyond, finite numbers become the largest half. */
static __device__ __forceinline__ float many_saturated(float x)
{
    const float size = fabsf(x);
    return size > 65504.0f && size <= 3.4028235e38f ? copysignf(65504.0f, x) : x;
}

static __device__ __forceinline__ uint32_t many_half_pair(uint32_t pair)
{
    const __half2 h = __floats2half2_rn(many_saturated(kern_bf16_low(pair)),
                                        many_saturated(kern_bf16_high(pair)));
    uint32_t bits;
    memcpy(&bits, &h, sizeof bits);
    return bits;
}

/* Weights of BF16 or F16, x of BF16. */
template <bool f16> struct many_16_bits : many_plain<2> {
    template <typename Shape>
    static __device__ __forceinline__ void multiply(struct many_sums<Shape> *sums,
                                                    const unsigned char *w, const unsigned char *x,
                                                    int k, int at)
    {
        const int warp = (int)threadIdx.x / KERN_WARP, lane = (int)threadIdx.x % KERN_WARP;
        const int row = warp % Shape::warps_along_rows * Shape::row_tiles * 16 + lane % 16;
        const int token =
            warp / Shape::warps_along_rows * Shape::token_tiles * 8 + lane / 16 * 8 + lane % 8;
        w += row * w_row + lane / 16 * 16;
        x += token * x_row + lane / 8 % 2 * 16;
        BASE_UNUSED(k);
        BASE_UNUSED(at);
#pragma unroll
        for (int step = 0; step < 4; step++) {
            uint32_t a[Shape::row_tiles][4];
#pragma unroll
            for (int r = 0; r < Shape::row_tiles; r++)
                kern_load_matrix(a[r], w + r * 16 * w_row + step * 32);
#pragma unroll
            for (int c = 0; c < Shape::token_tiles; c += 2) {
                uint32_t b[4];
                kern_load_matrix(b, x + c * 8 * x_row + step * 32);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    b[i] = f16 ? many_half_pair(b[i]) : b[i];
#pragma unroll
                for (int r = 0; r < Shape::row_tiles; r++)
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        if (f16)
                            kern_mma_f16(sums->v[r][c + i], a[r], b + 2 * i);
                        else
                            kern_mma_bf16(sums->v[r][c + i], a[r], b + 2 * i);
            }
        }
    }
};

/* Weights and x of F32: each lane multiplies for the elements that it would have of an mma. */
struct many_f32 : many_plain<4> {
    template <typename Shape>
    static __device__ __forceinline__ void multiply(struct many_sums<Shape> *sums,
                                                    const unsigned char *w, const unsigned char *x,
                                                    int k, int at)
    {
        const int warp = (int)threadIdx.x / KERN_WARP, lane = (int)threadIdx.x % KERN_WARP;
        BASE_UNUSED(k);
        BASE_UNUSED(at);
        w += (warp * 16 + lane / 4) * w_row;
        x += lane % 4 * 2 * x_row;
#pragma unroll 2
        for (int step = 0; step < 8; step++) {
            const float4 upper = *(const float4 *)(w + step * 16);
            const float4 lower = *(const float4 *)(w + 8 * w_row + step * 16);
#pragma unroll
            for (int c = 0; c < Shape::token_tiles; c++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const float4 v = *(const float4 *)(x + (c * 8 + i) * x_row + step * 16);
                    add(&sums->v[0][c][i], upper, v);
                    add(&sums->v[0][c][i + 2], lower, v);
                }
        }
    }

    static __device__ __forceinline__ void add(float *sum, float4 a, float4 b)
    {
        float s = fmaf(a.x, b.x, *sum);
        s = fmaf(a.y, b.y, s);
        s = fmaf(a.z, b.z, s);
        *sum = fmaf(a.w, b.w, s);
    }
};

#endif
