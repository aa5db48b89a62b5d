/* Chunks of quantised weights for many.cuh: 256 elements, x of Q8 rows. Each block of 32 is one
 * integer mma, whose sums are scaled and added up as floats. */
#ifndef KERNELS_CUDA_MANY_QUANT_CUH
#define KERNELS_CUDA_MANY_QUANT_CUH

#include "kernels/cuda/many.cuh"
#include "kernels/quant_blocks.h"

/* What a block's products need beside d * q. */
enum {
    MANY_PLAIN,  /* w = d * q */
    MANY_LEAST,  /* w = d * q + m */
    MANY_HALVES, /* w = d * q, d of 16 elements each */
    MANY_BOTH    /* w = d * q + m, d and m of 16 elements each */
};

#define MANY_CHUNK 256

static __device__ __forceinline__ uint32_t many_word(const unsigned char *p)
{
    return *(const uint32_t *)p;
}

static __device__ __forceinline__ float many_half_at(const unsigned char *p)
{
    return __half2float(*(const __half *)p);
}

/* Four bytes q, each below 2 * zero, as signed q - zero. No byte overflows into the next. */
template <int zero> static __device__ __forceinline__ uint32_t many_centred(uint32_t q)
{
    return (q + 0x01010101u * (128 - zero)) ^ 0x80808080u;
}

/* The low four bits of h as the fifth bits of four bytes. */
static __device__ __forceinline__ uint32_t many_fifth_bits(uint32_t h)
{
    return ((h & 15) * 0x204081u & 0x01010101u) << 4;
}

/* How a chunk of a type lies: `body` bytes, then `side` bytes, rows an odd multiple of 16 bytes
 * apart, so that eight of them lie in different banks. */
template <int body_, int side_, int kind_> struct many_block_layout {
    static constexpr int body = body_, side = side_, kind = kind_;
    static constexpr bool has_least = kind == MANY_LEAST;
    static constexpr int w_pieces = (body + side) / 16;
    static constexpr int w_row = (w_pieces | 1) * 16;

    static __device__ __forceinline__ void
    copy_w(unsigned char *dst, const struct kern_cuda_matrix *w, size_t row, int at, int piece)
    {
        const bool is_body = piece * 16 < body;
        const size_t stride = is_body ? w->body_stride : w->side_stride;
        const unsigned char *src = (is_body ? w->body : w->side) + row * stride;
        const int from = is_body ? at * body + piece * 16 : at * side + piece * 16 - body;
        if ((size_t)from < stride)
            kern_copy_async(dst + piece * 16, src + from, 16);
    }
};

/* Blocks of 32 whose first 16 elements are in the low halves of 16 bytes. */
template <int block_side, int kind>
struct many_nibbles : many_block_layout<8 * 16, 8 * block_side, kind> {
    static __device__ __forceinline__ uint32_t word(const unsigned char *row, int block, int t)
    {
        return many_word(row + block * 16 + t * 4);
    }

    static __device__ __forceinline__ const unsigned char *side_of(const unsigned char *row,
                                                                   int block)
    {
        return row + 8 * 16 + block * block_side;
    }
};

/* codes: bytes 4t .. 4t + 3 of a block's elements, then 16 + 4t .. 16 + 4t + 3.
 * scales: d (and m; of each half). */
struct many_q4_0 : many_nibbles<2, MANY_PLAIN> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        const uint32_t v = word(row, block, t);
        q[0] = many_centred<8>(v & 0x0f0f0f0fu);
        q[1] = many_centred<8>(v >> 4 & 0x0f0f0f0fu);
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        return make_float2(many_half_at(side_of(row, block)), 0.0f);
    }
};

struct many_q4_1 : many_nibbles<4, MANY_LEAST> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        const uint32_t v = word(row, block, t);
        q[0] = v & 0x0f0f0f0fu;
        q[1] = v >> 4 & 0x0f0f0f0fu;
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        const unsigned char *side = side_of(row, block);
        return make_float2(many_half_at(side), many_half_at(side + 2));
    }
};

/* Sides of Q5_0: d, h; of Q5_1: d, m, h. */
template <int h_at>
static __device__ __forceinline__ void many_five_bits(uint32_t q[2], uint32_t v,
                                                      const unsigned char *side, int t)
{
    const uint16_t *h = (const uint16_t *)(side + h_at);
    q[0] = (v & 0x0f0f0f0fu) | many_fifth_bits((uint32_t)h[0] >> 4 * t);
    q[1] = (v >> 4 & 0x0f0f0f0fu) | many_fifth_bits((uint32_t)h[1] >> 4 * t);
}

struct many_q5_0 : many_nibbles<6, MANY_PLAIN> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        many_five_bits<2>(q, word(row, block, t), side_of(row, block), t);
        q[0] = many_centred<16>(q[0]);
        q[1] = many_centred<16>(q[1]);
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        return make_float2(many_half_at(side_of(row, block)), 0.0f);
    }
};

struct many_q5_1 : many_nibbles<8, MANY_LEAST> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        many_five_bits<4>(q, word(row, block, t), side_of(row, block), t);
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        const unsigned char *side = side_of(row, block);
        return make_float2(many_half_at(side), many_half_at(side + 2));
    }
};

/* The table's bytes for the 4 codes of `codes16`. */
static __device__ __forceinline__ uint32_t many_look_up(uint4 table, uint32_t codes16)
{
    const uint32_t select = codes16 & 0x7777u;
    const uint32_t low = __byte_perm(table.x, table.y, select);
    const uint32_t high = __byte_perm(table.z, table.w, select);
    return __byte_perm(low, high, 0x3210u | (codes16 >> 1 & 0x4444u));
}

/* Those of the low halves of v, and of the high ones. */
static __device__ __forceinline__ void many_look_up_8(uint32_t q[2], uint4 table, uint32_t v)
{
    const uint32_t first = many_look_up(table, v & 0xffffu), second = many_look_up(table, v >> 16);
    q[0] = __byte_perm(first, second, 0x6420u);
    q[1] = __byte_perm(first, second, 0x7531u);
}

/* kern_iq4_levels, kern_e2m1. */
#define MANY_LEVELS make_uint4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u)
#define MANY_E2M1   make_uint4(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu)

struct many_iq4_nl : many_nibbles<2, MANY_PLAIN> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        many_look_up_8(q, MANY_LEVELS, word(row, block, t));
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        return make_float2(many_half_at(side_of(row, block)), 0.0f);
    }
};

struct many_q8_0 : many_block_layout<256, 16, MANY_PLAIN> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        q[0] = many_word(row + block * 32 + t * 4);
        q[1] = many_word(row + block * 32 + 16 + t * 4);
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        return make_float2(many_half_at(row + 256 + block * 2), 0.0f);
    }
};

/* Q4_K and Q5_K; kern_q4_k says how scales lie. */
static __device__ __forceinline__ float2 many_k_scales(const unsigned char *row, int block)
{
    const uint4 head = *(const uint4 *)row;
    const int shift = 8 * (block % 4);
    const uint32_t low = head.y >> shift, least = head.z >> shift, both = head.w >> shift;
    const uint32_t scale = block < 4 ? low & 63 : (both & 15) | (low >> 6 & 3) << 4;
    const uint32_t min = block < 4 ? least & 63 : (both >> 4 & 15) | (least >> 6 & 3) << 4;
    const float d = many_half_at(row), dmin = many_half_at(row + 2);
    return make_float2(__fmul_rn(d, (float)scale), -__fmul_rn(dmin, (float)min));
}

struct many_q4_k : many_block_layout<144, 0, MANY_LEAST> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        const unsigned char *p = row + 16 + block / 2 * 32 + t * 4;
        const int shift = block % 2 * 4;
        q[0] = many_word(p) >> shift & 0x0f0f0f0fu;
        q[1] = many_word(p + 16) >> shift & 0x0f0f0f0fu;
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        return many_k_scales(row, block);
    }
};

struct many_q5_k : many_block_layout<176, 0, MANY_LEAST> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        const unsigned char *p = row + 48 + block / 2 * 32 + t * 4, *h = row + 16 + t * 4;
        const int shift = block % 2 * 4;
        q[0] = (many_word(p) >> shift & 0x0f0f0f0fu) | (many_word(h) >> block & 0x01010101u) << 4;
        q[1] = (many_word(p + 16) >> shift & 0x0f0f0f0fu) |
               (many_word(h + 16) >> block & 0x01010101u) << 4;
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        return many_k_scales(row, block);
    }
};

/* Sides of a chunk that are less than 16 bytes: the 16 that they lie in are copied. */
template <int body_, int own_side, int kind_>
struct many_small_side : many_block_layout<body_, 16, kind_> {
    static __device__ __forceinline__ void
    copy_w(unsigned char *dst, const struct kern_cuda_matrix *w, size_t row, int at, int piece)
    {
        const unsigned char *src = w->body + row * w->body_stride;
        const int from = at * body_ + piece * 16;
        if (piece * 16 == body_)
            kern_copy_async(dst + body_, w->side + row * w->side_stride + at * own_side / 16 * 16,
                            16);
        else if ((size_t)from < w->body_stride)
            kern_copy_async(dst + piece * 16, src + from, 16);
    }

    static __device__ __forceinline__ const unsigned char *side_of(const unsigned char *row, int at)
    {
        return row + body_ + at * own_side % 16;
    }
};

struct many_q6_k : many_small_side<208, 2, MANY_HALVES> {
    static __device__ __forceinline__ uint32_t six_bits(const unsigned char *low,
                                                        const unsigned char *high, int part)
    {
        const uint32_t v = (many_word(low) >> part / 2 * 4 & 0x0f0f0f0fu) |
                           (many_word(high) >> part * 2 & 0x03030303u) << 4;
        return many_centred<32>(v);
    }

    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        const int upper = block / 4, part = block % 4;
        const unsigned char *low = row + upper * 64 + part % 2 * 32 + t * 4;
        const unsigned char *high = row + 128 + upper * 32 + t * 4;
        q[0] = six_bits(low, high, part);
        q[1] = six_bits(low + 16, high + 16, part);
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int at)
    {
        const float d = many_half_at(side_of(row, at));
        const int8_t *scale = (const int8_t *)(row + 192 + block * 2);
        return make_float2(__fmul_rn(d, (float)scale[0]), __fmul_rn(d, (float)scale[1]));
    }
};

/* The side of a chunk: an exponent for each block. */
struct many_mxfp4 : many_small_side<128, 8, MANY_PLAIN> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        many_look_up_8(q, MANY_E2M1, many_word(row + block * 16 + t * 4));
    }

    /* Half of 2^(e - 127), the table being twice the numbers. */
    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int at)
    {
        const uint32_t e = side_of(row, at)[block];
        return make_float2(__uint_as_float(e < 2 ? 0x200000u << e : (e - 1) << 23), 0.0f);
    }
};

/* The side of a chunk: d, scales_h, scales_l. */
struct many_iq4_xs : many_small_side<128, 8, MANY_PLAIN> {
    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        many_look_up_8(q, MANY_LEVELS, many_word(row + block * 16 + t * 4));
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int at)
    {
        const unsigned char *side = side_of(row, at);
        const uint32_t high = many_word(side) >> (16 + 2 * block) & 3;
        const uint32_t low = many_word(side + 4) >> 4 * block & 15;
        return make_float2(__fmul_rn(many_half_at(side), (float)((int)(low | high << 4) - 32)),
                           0.0f);
    }
};

/* A chunk of x: 256 codes, 8 scales, and the 48 bytes that 16 sums lie in, which start on 4. */
#define MANY_X_D 256
#define MANY_X_S 288

/* Integers below 2^22 added to these bits are floats, MANY_MAGIC more than the integer. */
#define MANY_MAGIC_BITS 0x4b400000
#define MANY_MAGIC      12582912.0f

static __device__ __forceinline__ float many_float(int32_t bits)
{
    return __fadd_rn(__int_as_float(bits), -MANY_MAGIC);
}

template <typename Type> struct many_quant : Type {
    static constexpr int chunk = MANY_CHUNK;
    static constexpr int x_row = 336, x_pieces = Type::has_least ? 21 : 18;

    static __device__ __forceinline__ void copy_x(unsigned char *dst, const unsigned char *row,
                                                  int k, int at, int piece)
    {
        int from, end;
        if (piece < 16) {
            from = at * 256 + piece * 16;
            end = k;
        } else if (piece < 18) {
            from = k + at * 32 + (piece - 16) * 16;
            end = k + k / 8;
        } else {
            from = (k + k / 8 + at * 32) / 16 * 16 + (piece - 18) * 16;
            end = k + k / 4;
        }
        const int bytes = min(max(end - from, 0), 16);
        if (bytes)
            kern_copy_async(dst + piece * 16, row + from, bytes);
    }

    template <typename Shape>
    static __device__ __forceinline__ void multiply(struct many_sums<Shape> *sums,
                                                    const unsigned char *w, const unsigned char *x,
                                                    int k, int at)
    {
        const int warp = (int)threadIdx.x / KERN_WARP, lane = (int)threadIdx.x % KERN_WARP;
        const int n_blocks = min(MANY_CHUNK, k - at * MANY_CHUNK) / KERN_BLOCK;
        const unsigned char *upper = w + (warp * 16 + lane / 4) * Type::w_row;
        const unsigned char *lower = upper + 8 * Type::w_row;
        const unsigned char *codes = x + (lane / 16 * 8 + lane % 8) * x_row + lane / 8 % 2 * 16;
        const unsigned char *own = x + lane % 4 * 2 * x_row;
        const int s_at = MANY_X_S + (k + k / 8) % 16;
        static_assert(Shape::row_tiles == 1, "a warp has 16 rows");
#pragma unroll 1
        for (int b = 0; b < n_blocks; b++) {
            uint32_t q[2], a[4];
            Type::codes(q, upper, b, lane % 4);
            a[0] = q[0], a[2] = q[1];
            Type::codes(q, lower, b, lane % 4);
            a[1] = q[0], a[3] = q[1];
            const float2 scale[2] = {Type::scales(upper, b, at), Type::scales(lower, b, at)};
            float2 least[2] = {};
            if constexpr (Type::kind == MANY_BOTH) {
                least[0] = Type::least(upper, b);
                least[1] = Type::least(lower, b);
            }
#pragma unroll
            for (int c = 0; c < Shape::token_tiles; c += 2) {
                uint32_t xq[4];
                kern_load_matrix(xq, codes + c * 8 * x_row + b * 32);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const unsigned char *token = own + (c + i) * 8 * x_row;
                    const unsigned char *d = token + MANY_X_D + b * 4, *s = token + s_at + b * 4;
                    add(sums->v[0][c + i], a, xq + 2 * i, scale, least, d, s);
                }
            }
        }
    }

    static __device__ __forceinline__ float sum_of(const unsigned char *s)
    {
        const uint32_t pair = many_word(s);
        return many_float(MANY_MAGIC_BITS + (int16_t)pair + ((int32_t)pair >> 16));
    }

    static __device__ __forceinline__ void add(float sum[4], const uint32_t a[4],
                                               const uint32_t b[2], const float2 scale[2],
                                               const float2 least[2], const unsigned char *d,
                                               const unsigned char *s)
    {
        const float dx[2] = {*(const float *)d, *(const float *)(d + x_row)};
        int32_t dot[4];
        float value[4];
        BASE_UNUSED(s);
        BASE_UNUSED(least);
        if constexpr (Type::kind == MANY_HALVES || Type::kind == MANY_BOTH) {
            const uint32_t first[4] = {a[0], a[1], 0, 0}, second[4] = {0, 0, a[2], a[3]};
            multiply_block(dot, first, b);
#pragma unroll
            for (int i = 0; i < 4; i++)
                value[i] = __fmul_rn(many_float(dot[i]), scale[i / 2].x);
            multiply_block(dot, second, b);
#pragma unroll
            for (int i = 0; i < 4; i++)
                value[i] = fmaf(many_float(dot[i]), scale[i / 2].y, value[i]);
            if constexpr (Type::kind == MANY_BOTH) {
                const uint32_t pair[2] = {many_word(s), many_word(s + x_row)};
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    value[i] = fmaf((float)(int16_t)pair[i % 2], least[i / 2].x, value[i]);
                    value[i] = fmaf((float)((int32_t)pair[i % 2] >> 16), least[i / 2].y, value[i]);
                }
            }
        } else if constexpr (Type::kind == MANY_LEAST) {
            const float sx[2] = {sum_of(s), sum_of(s + x_row)};
            multiply_block(dot, a, b);
#pragma unroll
            for (int i = 0; i < 4; i++)
                value[i] =
                    fmaf(many_float(dot[i]), scale[i / 2].x, __fmul_rn(sx[i % 2], scale[i / 2].y));
        } else {
            multiply_block(dot, a, b);
#pragma unroll
            for (int i = 0; i < 4; i++)
                value[i] = __fmul_rn(many_float(dot[i]), scale[i / 2].x);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum[i] = fmaf(dx[i % 2], value[i], sum[i]);
    }

    static __device__ __forceinline__ void multiply_block(int32_t dot[4], const uint32_t a[4],
                                                          const uint32_t b[2])
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            dot[i] = MANY_MAGIC_BITS;
        kern_mma_s8(dot, a, b);
    }
};

#endif
