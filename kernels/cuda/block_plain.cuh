/* Readers of further blocks of 32, and of FP4 (block.cuh). */
#ifndef KERNELS_CUDA_BLOCK_PLAIN_CUH
#define KERNELS_CUDA_BLOCK_PLAIN_CUH

#include "kernels/cuda/block.cuh"

/* Four bytes on 2 bytes. */
template <typename At> static __device__ __forceinline__ uint32_t kern_load_2_2(At p)
{
    return kern_load_2(p) | kern_load_2(p + 2) << 16;
}

struct kern_read_Q4_1 : kern_read_32 {
    static constexpr bool mins = true;
    struct raw {
        uint4 q;
        uint32_t dm;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_4(side + unit * 4)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
        u.scale[0] = kern_half_float(r.dm & 0xffff);
        u.min[0] = kern_half_float(r.dm >> 16);
    }
};

/* Bits 4i .. 4i + 3 of h as bit 4 of the bytes of word i. */
static __device__ __forceinline__ void kern_spread_fifth(uint32_t q[8], uint32_t h)
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t four = h >> 4 * i & 15;
        q[i] |= (four * 0x00204081u & 0x01010101u) << 4;
    }
}

struct kern_read_Q5_0 : kern_read_32 {
    static constexpr int bias = 16;
    struct raw {
        uint4 q;
        uint32_t d, h;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_2(side + unit * 6),
                kern_load_2_2(side + unit * 6 + 2)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
        kern_spread_fifth(u.q, r.h);
        u.scale[0] = kern_half_float(r.d);
    }
};

struct kern_read_Q5_1 : kern_read_32 {
    static constexpr bool mins = true;
    struct raw {
        uint4 q;
        uint32_t dm, h;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_4(side + unit * 8),
                kern_load_4(side + unit * 8 + 4)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
        kern_spread_fifth(u.q, r.h);
        u.scale[0] = kern_half_float(r.dm & 0xffff);
        u.min[0] = kern_half_float(r.dm >> 16);
    }
};

/* The numbers of a table of 16 bytes for the four codes of 4 bits in the bytes of `codes`. */
static __device__ __forceinline__ uint32_t kern_look_up(uint4 table, uint32_t codes)
{
    /* Codes in the low 16 bits, as __byte_perm takes them; bit 3 chooses the half of the table. */
    const uint32_t pairs = codes | codes >> 4;
    const uint32_t select = (pairs & 0xff) | (pairs >> 8 & 0xff00);
    const uint32_t low = __byte_perm(table.x, table.y, select & 0x7777);
    const uint32_t high = __byte_perm(table.z, table.w, select & 0x7777);
    const uint32_t mask = (codes >> 3 & 0x01010101u) * 255u;
    return (low & ~mask) | (high & mask);
}

static __device__ __forceinline__ void kern_look_up_16(uint32_t q[4], uint4 table)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        q[i] = kern_look_up(table, q[i]);
}

/* kern_iq4_levels and kern_e2m1. */
static __device__ __forceinline__ uint4 kern_levels_table(void)
{
    return make_uint4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
}

static __device__ __forceinline__ uint4 kern_e2m1_table(void)
{
    return make_uint4(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
}

struct kern_read_IQ4_NL : kern_read_Q4_0 {
    static constexpr int bias = 0;

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        kern_read_Q4_0::decode(u, r, unit);
        kern_look_up_16(u.q, kern_levels_table());
        kern_look_up_16(u.q + 4, kern_levels_table());
    }
};

struct kern_read_MXFP4 : kern_read_32 {
    struct raw {
        uint4 q;
        uint32_t e;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_1(side + unit)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
        kern_look_up_16(u.q, kern_e2m1_table());
        kern_look_up_16(u.q + 4, kern_e2m1_table());
        /* Half of 2^(e - 127), the table being twice the numbers. */
        u.scale[0] = __uint_as_float(r.e < 2 ? 0x200000u << r.e : (r.e - 1) << 23);
    }
};

/* 8 bytes for each group, the first 8 elements in their low halves. */
struct kern_read_NVFP4 : kern_read_32 {
    static constexpr bool one_scale = false;
    struct raw {
        uint4 q;
        uint32_t d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_2(side + unit * 2)};
    }

    /* Half of an E4M3 number whose sign is ignored; 0x7f is 0. */
    static __device__ __forceinline__ float scale_of(uint32_t b)
    {
        b &= 0x7f;
        return b == 0x7f ? 0.0f : kern_half_float(b << 7) * 128.0f;
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
        const uint32_t pairs[4] = {r.q.x, r.q.y, r.q.z, r.q.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u.q[i / 2 * 4 + i % 2] = pairs[i] & 0x0f0f0f0fu;
            u.q[i / 2 * 4 + i % 2 + 2] = pairs[i] >> 4 & 0x0f0f0f0fu;
        }
        kern_look_up_16(u.q, kern_e2m1_table());
        kern_look_up_16(u.q + 4, kern_e2m1_table());
        u.scale[0] = scale_of(r.d);
        u.scale[1] = scale_of(r.d >> 8);
    }
};

#endif
