/* Readers of weights that are floats (block.cuh): a unit is 16 bytes. Where `scaled` is true,
 * scale() is what a unit's numbers are still to be multiplied by. */
#ifndef KERNELS_CUDA_BLOCK_FLOAT_CUH
#define KERNELS_CUDA_BLOCK_FLOAT_CUH

#include "kernels/cuda/block.cuh"

template <int n_elements> struct kern_read_float {
    static constexpr bool quant = false, scaled = false;
    static constexpr int elements = n_elements;
    struct raw {
        uint4 q;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At, int unit)
    {
        return {kern_load_16(body + unit * 16)};
    }
};

struct kern_read_F32 : kern_read_float<4> {
    static __device__ __forceinline__ void decode(float w[4], const raw &r)
    {
        w[0] = __uint_as_float(r.q.x);
        w[1] = __uint_as_float(r.q.y);
        w[2] = __uint_as_float(r.q.z);
        w[3] = __uint_as_float(r.q.w);
    }
};

struct kern_read_BF16 : kern_read_float<8> {
    static __device__ __forceinline__ void decode(float w[8], const raw &r)
    {
        const uint32_t pairs[4] = {r.q.x, r.q.y, r.q.z, r.q.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            w[2 * i] = kern_bf16_low(pairs[i]);
            w[2 * i + 1] = kern_bf16_high(pairs[i]);
        }
    }
};

struct kern_read_F16 : kern_read_float<8> {
    static __device__ __forceinline__ void decode(float w[8], const raw &r)
    {
        const uint32_t pairs[4] = {r.q.x, r.q.y, r.q.z, r.q.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            w[2 * i] = kern_half_float(pairs[i] & 0xffff);
            w[2 * i + 1] = kern_half_float(pairs[i] >> 16);
        }
    }
};

/* E5M2 is the upper byte of a half. */
struct kern_read_F8_E5M2 : kern_read_float<16> {
    static __device__ __forceinline__ void decode(float w[16], const raw &r)
    {
        const uint32_t words[4] = {r.q.x, r.q.y, r.q.z, r.q.w};
#pragma unroll
        for (int i = 0; i < 16; i++)
            w[i] = kern_half_float((words[i / 4] >> 8 * (i % 4) & 0xff) << 8);
    }
};

/* E4M3 moved to the place of a half's exponent and fraction is 2^-8 of its value; where all bits
 * but the sign are 1 it is NaN. */
struct kern_read_F8_E4M3 : kern_read_float<16> {
    static __device__ __forceinline__ float number(uint32_t b)
    {
        const float value = kern_half_float((b & 0x80) << 8 | (b & 0x7f) << 7) * 256.0f;
        return (b & 0x7f) == 0x7f ? __uint_as_float(b << 24 | 0x7fc00000u) : value;
    }

    static __device__ __forceinline__ void decode(float w[16], const raw &r)
    {
        const uint32_t words[4] = {r.q.x, r.q.y, r.q.z, r.q.w};
#pragma unroll
        for (int i = 0; i < 16; i++)
            w[i] = number(words[i / 4] >> 8 * (i % 4) & 0xff);
    }
};

/* Two E4M3 numbers, in the low 16 bits, as halves: of 2^-8 of their size where the chip has no
 * instruction for it. NaN may become 480, since the scale beside it is NaN (quant_blocks.h). */
#if !defined(KERN_CUDA_EMULATED) && __CUDA_ARCH__ >= 890
#define KERN_E4M3_PAIR_SCALE 1.0f
static __device__ __forceinline__ uint32_t kern_e4m3_pair(uint32_t codes)
{
    uint32_t halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((unsigned short)codes));
    return halves;
}
#else
#define KERN_E4M3_PAIR_SCALE 256.0f
static __device__ __forceinline__ uint32_t kern_e4m3_pair(uint32_t codes)
{
    const uint32_t spread = __byte_perm(codes, 0, 0x1404u);
    return (spread & 0x80008000u) | (spread >> 1 & 0x3f803f80u);
}
#endif

/* E4M3 in blocks of 128 with a scale: eight units share one. */
struct kern_read_F8_128 : kern_read_float<16> {
    static constexpr bool scaled = true;
    struct raw {
        uint4 q;
        uint32_t d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_4(side + unit / 8 * 4)};
    }

    /* Numbers 4j .. 4j + 3. */
    static __device__ __forceinline__ void decode_4(float w[4], const raw &r, int j)
    {
        const uint32_t words[4] = {r.q.x, r.q.y, r.q.z, r.q.w};
        const uint32_t low = kern_e4m3_pair(words[j] & 0xffff),
                       high = kern_e4m3_pair(words[j] >> 16);
        w[0] = kern_half_float(low & 0xffff);
        w[1] = kern_half_float(low >> 16);
        w[2] = kern_half_float(high & 0xffff);
        w[3] = kern_half_float(high >> 16);
    }

    static __device__ __forceinline__ void decode(float w[16], const raw &r)
    {
#pragma unroll
        for (int j = 0; j < 4; j++)
            decode_4(w + 4 * j, r, j);
    }

    /* `sum` of such numbers, as it should be. */
    static __device__ __forceinline__ float scale(float sum, const raw &r)
    {
        return sum * KERN_E4M3_PAIR_SCALE * __uint_as_float(r.d);
    }
};

#endif
