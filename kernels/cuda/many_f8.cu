/* Products of many rows with weights of F8_128: codes of E4M3 become BF16 in registers, which holds
 * them exactly, and meet x of BF16 in tensor cores. Of 128 inputs the sum is in floats, and only
 * then multiplied by the block's scale. */
#include "kernels/cuda/many_float.cuh"
#include "kernels/quant_blocks.h"

/* Two pairs of codes, in the order of k, as BF16. Exponent and fraction moved to their places are
 * 2^-120 of the numbers, subnormal ones included. */
static __device__ __forceinline__ uint32_t of_spread(uint32_t spread)
{
    const uint32_t bits = (spread & 0x80008000u) | (spread >> 4 & 0x07f007f0u);
    const __nv_bfloat162 up =
        __halves2bfloat162(__ushort_as_bfloat16(0x7b80), __ushort_as_bfloat16(0x7b80)); /* 2^120 */
    const __nv_bfloat162 pair =
        __hmul2(__halves2bfloat162(__ushort_as_bfloat16((unsigned short)(bits & 0xffff)),
                                   __ushort_as_bfloat16((unsigned short)(bits >> 16))),
                up);
    return (uint32_t)__bfloat16_as_ushort(pair.x) | (uint32_t)__bfloat16_as_ushort(pair.y) << 16;
}

/* A chunk: a block's codes, and 16 bytes of which 4 are its scale. Rows of w are 4 banks apart,
 * those of x 8, for loads of 16 and of 8 bytes a lane. */
struct many_f8 {
    static constexpr int chunk = KERN_F8;
    static constexpr int w_row = KERN_F8 + 16, w_pieces = w_row / 16;
    static constexpr int x_row = 2 * KERN_F8 + 32, x_pieces = KERN_F8 / 8;

    static __device__ __forceinline__ void
    copy_w(unsigned char *dst, const struct kern_cuda_matrix *w, size_t row, int at, int piece)
    {
        const unsigned char *src = piece < KERN_F8 / 16
                                       ? w->body + row * w->body_stride + at * KERN_F8 + piece * 16
                                       : w->side + row * w->side_stride + at / 4 * 16;
        kern_copy_async(dst + piece * 16, src, 16);
    }

    static __device__ __forceinline__ void copy_x(unsigned char *dst, const unsigned char *row, int,
                                                  int at, int piece)
    {
        kern_copy_async(dst + piece * 16, row + at * 2 * KERN_F8 + piece * 16, 16);
    }

    /* A lane has codes 4t .. 4t + 3 of sixteen, and the same elements of x, in the places of
     * 2t, 2t + 1, 2t + 8 and 2t + 9: the order of k within an mma is free. */
    template <typename Shape>
    static __device__ __forceinline__ void multiply(struct many_sums<Shape> *sums,
                                                    const unsigned char *w, const unsigned char *x,
                                                    int, int at)
    {
        static_assert(Shape::row_tiles == 1);
        const int warp = (int)threadIdx.x / KERN_WARP, lane = (int)threadIdx.x % KERN_WARP;
        float part[Shape::token_tiles][4] = {};
        w += warp % Shape::warps_along_rows * 16 * w_row;
        x += (warp / Shape::warps_along_rows * Shape::token_tiles * 8 + lane / 4) * x_row +
             lane % 4 * 8;
        const unsigned char *codes = w + lane % 16 * w_row + lane / 16 * 16;
#pragma unroll
        for (int step = 0; step < KERN_F8 / 32; step++) {
            uint32_t q[4]; /* of rows g and g + 8, of the first sixteen and of the second */
            kern_load_matrix(q, codes + step * 32);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const uint32_t a[4] = {of_spread(__byte_perm(q[2 * h], 0, 0x1404u)),
                                       of_spread(__byte_perm(q[2 * h + 1], 0, 0x1404u)),
                                       of_spread(__byte_perm(q[2 * h], 0, 0x3424u)),
                                       of_spread(__byte_perm(q[2 * h + 1], 0, 0x3424u))};
#pragma unroll
                for (int c = 0; c < Shape::token_tiles; c++) {
                    const uint2 v = *(const uint2 *)(x + c * 8 * x_row + (step * 2 + h) * 32);
                    const uint32_t b[2] = {v.x, v.y};
                    kern_mma_bf16(part[c], a, b);
                }
            }
        }
        const unsigned char *scales = w + lane / 4 * w_row + KERN_F8 + at % 4 * 4;
        const float upper = *(const float *)scales, lower = *(const float *)(scales + 8 * w_row);
#pragma unroll
        for (int c = 0; c < Shape::token_tiles; c++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                sums->v[0][c][i] = fmaf(i < 2 ? upper : lower, part[c][i], sums->v[0][c][i]);
    }
};

typedef many_shape<1, 8, 8, 1, 4> many_f8_64;

int32_t many_f8_launch(const struct kern_cuda_many_args *args, void *stream)
{
    const int32_t rows = many_rows_each(args);
    if (rows <= 16)
        return many_launch<many_f8, many_16, 3>(args, stream);
    if (rows <= 32)
        return many_launch<many_f8, many_32, 2>(args, stream);
    return many_launch<many_f8, many_f8_64, 1>(args, stream);
}
