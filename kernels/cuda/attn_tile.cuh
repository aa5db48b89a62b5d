/* Tiles of keys and values in shared memory as 16-bit floats, and their fragments for tensor
 * cores. Rows of d + 8 elements: an odd number of 16-byte units, so that the eight rows of a
 * matrix lie in different banks. */
#ifndef KERNELS_CUDA_ATTN_TILE_CUH
#define KERNELS_CUDA_ATTN_TILE_CUH

#include "kernels/cuda/attn.cuh"

/* What the cache holds; numbers of less than 16 bits become F16. */
enum attn_kind { ATTN_BF16, ATTN_F16, ATTN_Q8, ATTN_Q4, ATTN_F8 };

static __device__ __forceinline__ uint32_t attn_pack_halves(__half low, __half high)
{
    return (uint32_t)__half_as_ushort(low) | (uint32_t)__half_as_ushort(high) << 16;
}

/* Two numbers in the 16-bit type, the first in the lower half. */
template <attn_kind kind>
static __device__ __forceinline__ uint32_t attn_pack(float low, float high)
{
    if (kind == ATTN_BF16) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
        return (uint32_t)__bfloat16_as_ushort(pair.x) | (uint32_t)__bfloat16_as_ushort(pair.y)
                                                            << 16;
    }
    const __half2 pair = __floats2half2_rn(low, high);
    return attn_pack_halves(pair.x, pair.y);
}

/* What attn_pack() rounded away, packed: both together hold 16 bits (BF16) or 22. */
template <attn_kind kind>
static __device__ __forceinline__ uint32_t attn_pack_rest(uint32_t packed, float low, float high)
{
    if (kind == ATTN_BF16)
        return attn_pack<kind>(low - kern_bf16_low(packed), high - kern_bf16_high(packed));
    return attn_pack<kind>(low - __half2float(__ushort_as_half((unsigned short)(packed & 0xffff))),
                           high - __half2float(__ushort_as_half((unsigned short)(packed >> 16))));
}

template <attn_kind kind>
static __device__ __forceinline__ void attn_mma(float d[4], const uint32_t a[4],
                                                const uint32_t b[2])
{
    if (kind == ATTN_BF16)
        kern_mma_bf16(d, a, b);
    else
        kern_mma_f16(d, a, b);
}

/* How vectors of d elements lie in the cache, and a row of a tile. */
template <attn_kind kind, int d> struct attn_vector {
    static constexpr bool quantised = kind == ATTN_Q8 || kind == ATTN_Q4 || kind == ATTN_F8;
    static constexpr int block = kind == ATTN_Q8 ? 34 : kind == ATTN_F8 ? 32 : 20;
    static constexpr int bytes = quantised ? d / 32 * block : d * 2;
    static constexpr int wide = (d + 8) * 2;             /* bytes of a row of 16-bit numbers */
    static constexpr int raw = quantised ? bytes : wide; /* of one as it is copied */
};

static __device__ __forceinline__ __half2 attn_half2(uint32_t bits)
{
    return __halves2half2(__ushort_as_half((unsigned short)(bits & 0xffff)),
                          __ushort_as_half((unsigned short)(bits >> 16)));
}

static __device__ __forceinline__ uint32_t attn_half2_bits(__half2 x)
{
    return attn_pack_halves(__low2half(x), __high2half(x));
}

/* Two codes of Q8_0, the lower or upper half of a word whose bytes have been made unsigned, times
 * the scale. A byte under the exponent of 1024 is 1024 more than itself, exactly. */
static __device__ __forceinline__ uint32_t attn_widen_q8(uint32_t codes, bool upper, __half2 scale)
{
    const __half2 x = attn_half2(__byte_perm(codes, 0x64646464u, upper ? 0x4342 : 0x4140));
    const __half2 shift = attn_half2(0x64806480u); /* 1024 + 128 */
    return attn_half2_bits(__hmul2(__hsub2(x, shift), scale));
}

/* A block as F16 at dst, on 16 bytes, rounded once; `words` hold two blocks, of which this is the
 * first or second. */
static __device__ __forceinline__ void attn_widen_q8_block(uint16_t *dst, const uint32_t words[17],
                                                           bool second)
{
    const int start = second ? 18 : 1; /* of the codes, in 16 bits */
    const uint32_t bits = second ? words[8] >> 16 : words[0] & 0xffff;
    const __half2 scale = __half2half2(__ushort_as_half((unsigned short)bits));
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t out[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int at = start + i * 4 + j;
            out[j] = attn_widen_q8(words[at / 2] ^ 0x80808080u, at % 2 != 0, scale);
        }
        *(uint4 *)(dst + i * 8) = make_uint4(out[0], out[1], out[2], out[3]);
    }
}

/* The same for a block of Q4_1. */
static __device__ __forceinline__ void attn_widen_q4_block(uint16_t *dst, const uint32_t words[5])
{
    const float d = __half2float(__ushort_as_half((unsigned short)(words[0] & 0xffff)));
    const float m = __half2float(__ushort_as_half((unsigned short)(words[0] >> 16)));
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t out[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint32_t both = words[1 + i] >> j * 8;
            out[j] = attn_pack<ATTN_Q4>(fmaf((float)(both & 15), d, m),
                                        fmaf((float)(both >> 4 & 15), d, m));
        }
        *(uint4 *)(dst + i * 8) = make_uint4(out[0], out[1], out[2], out[3]);
    }
}

static __device__ __forceinline__ void attn_zero_block(uint16_t *dst)
{
#pragma unroll
    for (int k = 0; k < 4; k++)
        *(uint4 *)(dst + k * 8) = make_uint4(0, 0, 0, 0);
}

/* Two E4M3 numbers, the lower half of a word, as F16, exactly: as halves the same bits are 2^-8 of
 * their size, with one exponent bit more. */
static __device__ __forceinline__ uint32_t attn_widen_f8(uint32_t pair)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint32_t out;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(out) : "h"((unsigned short)pair));
    return out;
#else
    const uint32_t wide = __byte_perm(pair, 0, 0x4140); /* a byte each, in 16 bits */
    const uint32_t nan = ((wide & 0x7f007fu) + 0x10001u) >> 7 & 0x10001u;
    const __half2 x = attn_half2((wide & 0x800080u) << 8 | (wide & 0x7f007fu) << 7);
    return attn_half2_bits(__hmul2(x, attn_half2(0x5c005c00u))) | nan * 0x7fffu;
#endif
}

/* 16 numbers a thread, which its neighbours' lie beside. Of eight threads that write at a time four
 * begin with the second half, so that they write in different banks. */
template <int d>
static __device__ __forceinline__ void attn_widen_f8_tile(const struct attn_work &w, uint16_t *dst,
                                                          const unsigned char *raw, int keys, int j,
                                                          int i, int n)
{
    const int turn = (int)threadIdx.x / 4 % 2;
    for (; i < keys * (d / 16); i += n) {
        const int key = i / (d / 16);
        uint16_t *to = dst + key * (d + 8) + i % (d / 16) * 16;
        uint4 first = make_uint4(0, 0, 0, 0), second = first;
        if (j + key >= w.seen && j + key < w.end) {
            const uint4 q = ((const uint4 *)raw)[i];
            first = make_uint4(attn_widen_f8(q.x), attn_widen_f8(q.x >> 16), attn_widen_f8(q.y),
                               attn_widen_f8(q.y >> 16));
            second = make_uint4(attn_widen_f8(q.z), attn_widen_f8(q.z >> 16), attn_widen_f8(q.w),
                                attn_widen_f8(q.w >> 16));
        }
        *(uint4 *)(to + turn * 8) = turn ? second : first;
        *(uint4 *)(to + (1 - turn) * 8) = turn ? first : second;
    }
}

/* Blocks of Q8_0 are taken in pairs, which are
 * whole words; pairs of 16 neighbours in the warp are those of 16 keys, so that both what they read
 * and write lies in different banks. */
template <attn_kind kind, int d>
static __device__ __forceinline__ void attn_widen_blocks(const struct attn_work &w, uint16_t *dst,
                                                         const unsigned char *raw, int keys, int j,
                                                         int i, int n)
{
    constexpr int together = kind == ATTN_Q8 ? 2 : 1, n_words = kind == ATTN_Q8 ? 17 : 5;
    constexpr int per_key = d / 32 / together;
    for (; i < keys * (d / 32) / together; i += n) {
        int unit = i;
        if (d / 32 % together == 0)
            unit = (i / (16 * per_key) * 16 + i % 16) * per_key + i / 16 % per_key;
        uint32_t words[n_words];
#pragma unroll
        for (int k = 0; k < n_words; k++)
            words[k] = ((const uint32_t *)raw)[unit * n_words + k];
#pragma unroll
        for (int k = 0; k < together; k++) {
            const int block = unit * together + k, key = block / (d / 32);
            uint16_t *to = dst + key * (d + 8) + block % (d / 32) * 32;
            if (j + key < w.seen || j + key >= w.end)
                attn_zero_block(to);
            else if constexpr (kind == ATTN_Q8)
                attn_widen_q8_block(to, words, k != 0);
            else
                attn_widen_q4_block(to, words);
        }
    }
}

/* `keys` vectors, a multiple of 16, from key j on as F16 by n threads, of which this is the i-th.
 * What no vector of the block sees becomes zero. */
template <attn_kind kind, int d>
static __device__ __forceinline__ void attn_widen_tile(const struct attn_work &w, uint16_t *dst,
                                                       const unsigned char *raw, int keys, int j,
                                                       int i, int n)
{
    if constexpr (kind == ATTN_F8)
        attn_widen_f8_tile<d>(w, dst, raw, keys, j, i, n);
    else
        attn_widen_blocks<kind, d>(w, dst, raw, keys, j, i, n);
}

/* b of keys 0-7 in the first two words, of keys 8-15 in the others: 16 dims from `dim` on. */
template <int d>
static __device__ __forceinline__ void attn_keys(uint32_t b[4], const uint16_t *k, int dim)
{
    const int lane = threadIdx.x % KERN_WARP;
    kern_load_matrix(b, k + (lane / 16 * 8 + lane % 8) * (d + 8) + dim + lane / 8 % 2 * 8);
}

/* b of 16 keys for dims dim .. dim + 7 in the first two words, for the next 8 in the others. */
template <int d>
static __device__ __forceinline__ void attn_values(uint32_t b[4], const uint16_t *v, int dim)
{
    const int lane = threadIdx.x % KERN_WARP;
    kern_load_matrix_trans(b, v + lane % 16 * (d + 8) + dim + lane / 16 * 8);
}

/* Scores of two vectors become weights in place; o and l are brought to the new maximum. */
template <int d, int sub>
static __device__ __forceinline__ void attn_weigh(float *m, float *l, float o[d / 8][4],
                                                  float s[sub / 8][4])
{
    float shrink[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float most = m[r], sum = 0.0f;
#pragma unroll
        for (int i = 0; i < sub / 8; i++)
            most = fmaxf(most, fmaxf(s[i][r * 2], s[i][r * 2 + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        const float base = attn_base(most);
        shrink[r] = attn_exp2(m[r] - base);
        m[r] = most;
#pragma unroll
        for (int i = 0; i < sub / 4; i++) {
            float *x = &s[i / 2][r * 2 + i % 2];
            *x = attn_exp2(*x - base);
            sum += *x;
        }
        l[r] = l[r] * shrink[r] + sum;
    }
    /* A maximum seldom changes once some keys have been seen. */
    if (!__any_sync(0xffffffffu, !(shrink[0] == 1.0f && shrink[1] == 1.0f)))
        return;
#pragma unroll
    for (int i = 0; i < d / 8; i++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            o[i][k] *= shrink[k / 2];
}

#endif
