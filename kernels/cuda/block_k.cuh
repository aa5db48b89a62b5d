/* Readers of further blocks of 256 (block.cuh): 2 and 3 bits, three values, IQ4_XS. */
#ifndef KERNELS_CUDA_BLOCK_K_CUH
#define KERNELS_CUDA_BLOCK_K_CUH

#include "kernels/cuda/block_plain.cuh"

/* Bits 2p and 2p + 1 of the bytes of v. */
static __device__ __forceinline__ void kern_two_bits(uint32_t q[4], uint4 v, int p)
{
    q[0] = v.x >> 2 * p & 0x03030303u;
    q[1] = v.y >> 2 * p & 0x03030303u;
    q[2] = v.z >> 2 * p & 0x03030303u;
    q[3] = v.w >> 2 * p & 0x03030303u;
}

/* A unit is sub-block s = unit % 8 of 32 elements: quarter s % 4 of half s / 4. Lanes of a half
 * read the same bytes, once together. */
struct kern_read_sub : kern_read_32 {
    static constexpr bool one_scale = false;
};

struct kern_read_Q2_K : kern_read_sub {
    static constexpr bool mins = true;
    struct raw {
        uint4 a, b;
        uint32_t scales, dm;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At block = body + unit / 8 * 80, q = block + 16 + unit % 8 / 4 * 32;
        return {kern_load_16(q), kern_load_16(q + 16), kern_load_2(block + unit % 8 * 2),
                kern_load_4(side + unit / 8 * 4)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        const float d = kern_half_float(r.dm & 0xffff), dmin = kern_half_float(r.dm >> 16);
        kern_two_bits(u.q, r.a, unit % 4);
        kern_two_bits(u.q + 4, r.b, unit % 4);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            u.scale[j] = d * (float)(int)(r.scales >> 8 * j & 15);
            u.min[j] = -(dmin * (float)(int)(r.scales >> (8 * j + 4) & 15));
        }
    }
};

struct kern_read_Q3_K : kern_read_sub {
    static constexpr int bias = 4;
    struct raw {
        uint4 a, b, ha, hb;
        uint32_t scales, d;
    };

    /* Two scales of 6 bits in the bytes of the result: of groups 2s and 2s + 1. */
    template <typename At> static __device__ __forceinline__ uint32_t scales_of(At side, int s)
    {
        const uint32_t low = kern_load_2(side + 2 * s % 8) >> (s >= 4 ? 4 : 0) & 0x0f0f;
        const uint32_t high = kern_load_2(side + 8 + 2 * s % 4) >> 2 * (s / 2) & 0x0303;
        return low | high << 4;
    }

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At block = body + unit / 8 * 96, q = block + 32 + unit % 8 / 4 * 32;
        const At own = side + unit / 8 * 14;
        return {kern_load_16(q),          kern_load_16(q + 16),     kern_load_16(block),
                kern_load_16(block + 16), scales_of(own, unit % 8), kern_load_2(own + 12)};
    }

    static __device__ __forceinline__ void third_bits(uint32_t q[4], uint4 h, int bit)
    {
        q[0] |= (h.x >> bit & 0x01010101u) << 2;
        q[1] |= (h.y >> bit & 0x01010101u) << 2;
        q[2] |= (h.z >> bit & 0x01010101u) << 2;
        q[3] |= (h.w >> bit & 0x01010101u) << 2;
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        const float d = kern_half_float(r.d);
        kern_two_bits(u.q, r.a, unit % 4);
        kern_two_bits(u.q + 4, r.b, unit % 4);
        third_bits(u.q, r.ha, unit % 8);
        third_bits(u.q + 4, r.hb, unit % 8);
        u.scale[0] = d * (float)((int)(r.scales & 255) - 32);
        u.scale[1] = d * (float)((int)(r.scales >> 8) - 32);
    }
};

struct kern_read_TQ2_0 : kern_read_32 {
    static constexpr int bias = 1;
    struct raw {
        uint4 a, b;
        uint32_t d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At q = body + unit / 8 * 64 + unit % 8 / 4 * 32;
        return {kern_load_16(q), kern_load_16(q + 16), kern_load_2(side + unit / 8 * 2)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        kern_two_bits(u.q, r.a, unit % 4);
        kern_two_bits(u.q + 4, r.b, unit % 4);
        u.scale[0] = kern_half_float(r.d);
    }
};

/* Digits to base 3. A unit is elements 32s .. 32s + 31 of a block, each group of 16 being one digit
 * of 16 bytes, but for the last, four digits of 4 bytes. */
struct kern_read_TQ1_0 : kern_read_32 {
    static constexpr int bias = 1;
    struct raw {
        uint4 a, b;
        uint32_t d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At q = body + unit / 8 * 48, own = side + unit / 8 * 6;
        const int s = unit % 8;
        const uint32_t h = kern_load_2_2(own);
        return {kern_load_16(s < 5 ? q : q + 32),
                s == 7 ? make_uint4(h, h, h, h) : kern_load_16(s < 5 ? q + 16 : q + 32),
                kern_load_2(own + 4)};
    }

    /* Digit n of each byte. */
    static __device__ __forceinline__ uint32_t digits(uint32_t bytes, int n)
    {
        const uint32_t power = n == 0 ? 1 : n == 1 ? 3 : n == 2 ? 9 : n == 3 ? 27 : 81;
        /* Two bytes at a time, 16 bits apart. */
        const uint32_t even = (bytes & 0x00ff00ffu) * power & 0x00ff00ffu;
        const uint32_t odd = (bytes >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu;
        return (even * 3 >> 8 & 0x00ff00ffu) | (odd * 3 & 0xff00ff00u);
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        const int s = unit % 8, n = s < 5 ? s : 2 * (s - 5), step = s < 5 ? 0 : 1;
        const uint32_t a[4] = {r.a.x, r.a.y, r.a.z, r.a.w}, b[4] = {r.b.x, r.b.y, r.b.z, r.b.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u.q[i] = digits(a[i], n);
            u.q[4 + i] = digits(b[i], s == 7 ? i : n + step);
        }
        u.scale[0] = kern_half_float(r.d);
    }
};

struct kern_read_IQ4_XS : kern_read_32 {
    struct raw {
        uint4 q;
        uint32_t head, low; /* d and scales_h, scales_l */
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At own = side + unit / 8 * 8;
        return {kern_load_16(body + unit * 16), kern_load_4(own), kern_load_4(own + 4)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        const int j = unit % 8;
        const int scale = (int)((r.low >> 4 * j & 15) | (r.head >> (16 + 2 * j) & 3) << 4) - 32;
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
        kern_look_up_16(u.q, kern_levels_table());
        kern_look_up_16(u.q + 4, kern_levels_table());
        u.scale[0] = kern_half_float(r.head & 0xffff) * (float)scale;
    }
};

#endif
