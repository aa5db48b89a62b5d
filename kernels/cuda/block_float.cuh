/* Readers of weights that are floats (block.cuh): a unit is 16 bytes. */
#ifndef KERNELS_CUDA_BLOCK_FLOAT_CUH
#define KERNELS_CUDA_BLOCK_FLOAT_CUH

#include "kernels/cuda/block.cuh"

template <int n_elements> struct kern_read_float {
    static constexpr bool quant = false;
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

#endif
