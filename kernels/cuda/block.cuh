/* Readers of weights as kern_cuda_split_fn lays them. A reader takes a row in units, one for a
 * lane: load() starts the loads of a unit, decode() makes numbers of what they brought.
 *
 * Quantised types: a unit is `groups` groups of 16 elements, element i of group g being
 * scale * (q - bias) + min with q in a byte. Group j of a unit has scale[j] and min[j]; where
 * `one_scale` is true, both are the halves of one block of 32 under scale[0] and min[0]. group()
 * says which group of the row it is, unit_of() and piece_of() the reverse.
 * Floats: a unit is 16 bytes. */
#ifndef KERNELS_CUDA_BLOCK_CUH
#define KERNELS_CUDA_BLOCK_CUH

#include "kernels/cuda/device.cuh"
#include "kernels/quant_blocks.h"

struct kern_unit {
    uint32_t q[8]; /* group j in words 4j .. 4j + 3 */
    float scale[2], min[2];
};

static __device__ __forceinline__ uint4 kern_load_16(const uint8_t *p)
{
    return __ldcs((const uint4 *)(const void *)p);
}

static __device__ __forceinline__ uint32_t kern_load_4(const uint8_t *p)
{
    return __ldg((const uint32_t *)(const void *)p);
}

static __device__ __forceinline__ uint32_t kern_load_2(const uint8_t *p)
{
    return __ldg((const unsigned short *)(const void *)p);
}

static __device__ __forceinline__ uint32_t kern_load_1(const uint8_t *p)
{
    return __ldg(p);
}

/* Weights that a kernel has copied into shared memory. */
struct kern_near {
    const unsigned char *p;

    __device__ __forceinline__ kern_near operator+(int bytes) const
    {
        return {p + bytes};
    }
};

static __device__ __forceinline__ uint4 kern_load_16(kern_near at)
{
    return *(const uint4 *)(const void *)at.p;
}

static __device__ __forceinline__ uint32_t kern_load_4(kern_near at)
{
    return *(const uint32_t *)(const void *)at.p;
}

static __device__ __forceinline__ uint32_t kern_load_2(kern_near at)
{
    return *(const unsigned short *)(const void *)at.p;
}

static __device__ __forceinline__ uint32_t kern_load_1(kern_near at)
{
    return *at.p;
}

static __device__ __forceinline__ float kern_half_float(uint32_t bits)
{
    return __half2float(__ushort_as_half((unsigned short)bits));
}

static __device__ __forceinline__ void kern_low_nibbles(uint32_t q[4], uint4 v)
{
    q[0] = v.x & 0x0f0f0f0fu;
    q[1] = v.y & 0x0f0f0f0fu;
    q[2] = v.z & 0x0f0f0f0fu;
    q[3] = v.w & 0x0f0f0f0fu;
}

static __device__ __forceinline__ void kern_high_nibbles(uint32_t q[4], uint4 v)
{
    kern_low_nibbles(q, make_uint4(v.x >> 4, v.y >> 4, v.z >> 4, v.w >> 4));
}

/* ------------------------------------------------------------- blocks of 32 */

struct kern_read_32 { /* what blocks of 32 in one unit have in common */
    static constexpr bool quant = true, one_scale = true, mins = false;
    static constexpr int groups = 2, bias = 0;

    static __device__ __forceinline__ int group(int unit, int j)
    {
        return 2 * unit + j;
    }

    static __device__ __forceinline__ int unit_of(int g)
    {
        return g / 2;
    }

    static __device__ __forceinline__ int piece_of(int g)
    {
        return g % 2;
    }
};

struct kern_read_Q4_0 : kern_read_32 {
    static constexpr int bias = 8;
    struct raw {
        uint4 q;
        uint32_t d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_2(side + unit * 2)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
        u.scale[0] = kern_half_float(r.d);
    }
};

struct kern_read_Q8_0 { /* a unit is half a block, so that lanes load neighbouring bytes */
    static constexpr bool quant = true, one_scale = false, mins = false;
    static constexpr int groups = 1, bias = 0;
    struct raw {
        uint4 q;
        uint32_t d;
    };

    static __device__ __forceinline__ int group(int unit, int)
    {
        return unit;
    }

    static __device__ __forceinline__ int unit_of(int g)
    {
        return g;
    }

    static __device__ __forceinline__ int piece_of(int)
    {
        return 0;
    }

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        return {kern_load_16(body + unit * 16), kern_load_2(side + unit / 2 * 2)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
        u.q[0] = r.q.x;
        u.q[1] = r.q.y;
        u.q[2] = r.q.z;
        u.q[3] = r.q.w;
        u.scale[0] = kern_half_float(r.d);
    }
};

/* ------------------------------------------------- blocks of 256, in units of 32
 *
 * Bytes of 16 hold the low and the high halves of two groups: of sub-blocks 2p and 2p + 1 the
 * first or second halves. */

struct kern_read_pairs {
    static constexpr bool quant = true, one_scale = false, mins = true;
    static constexpr int groups = 2, bias = 0;

    static __device__ __forceinline__ int group(int unit, int j)
    {
        return unit / 2 * 4 + unit % 2 + 2 * j;
    }

    static __device__ __forceinline__ int unit_of(int g)
    {
        return g / 4 * 2 + g % 2;
    }

    static __device__ __forceinline__ int piece_of(int g)
    {
        return g / 2 % 2;
    }
};

/* Scales and minima of sub-blocks 2p and 2p + 1 from the 16 bytes that begin a block. */
static __device__ __forceinline__ void kern_scales_k4(kern_unit &u, uint4 head, int p)
{
    const float d = kern_half_float(head.x & 0xffff), dmin = kern_half_float(head.x >> 16);
    /* Bytes 0-3, 4-7 and 8-11 of the scales lie in y, z and w. */
    const int shift = 16 * (p & 1);
    const uint32_t y = head.y >> shift, z = head.z >> shift, w = head.w >> shift;
    const uint32_t scales = p < 2 ? y & 0x3f3f : (w & 0x0f0f) | ((y & 0xc0c0) >> 2);
    const uint32_t mins = p < 2 ? z & 0x3f3f : ((w >> 4) & 0x0f0f) | ((z & 0xc0c0) >> 2);
    u.scale[0] = d * (float)(int)(scales & 255);
    u.scale[1] = d * (float)(int)(scales >> 8 & 255);
    u.min[0] = -(dmin * (float)(int)(mins & 255));
    u.min[1] = -(dmin * (float)(int)(mins >> 8 & 255));
}

struct kern_read_Q4_K : kern_read_pairs {
    struct raw {
        uint4 head, q;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At, int unit)
    {
        const At block = body + unit / 8 * 144;
        return {kern_load_16(block), kern_load_16(block + 16 + unit % 8 * 16)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        kern_scales_k4(u, r.head, unit % 8 / 2);
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
    }
};

/* Adds bit `bit` of each byte of h as bit 4. */
static __device__ __forceinline__ void kern_fifth_bits(uint32_t q[4], uint4 h, int bit)
{
    q[0] |= (h.x >> bit & 0x01010101u) << 4;
    q[1] |= (h.y >> bit & 0x01010101u) << 4;
    q[2] |= (h.z >> bit & 0x01010101u) << 4;
    q[3] |= (h.w >> bit & 0x01010101u) << 4;
}

struct kern_read_Q5_K : kern_read_pairs {
    struct raw {
        uint4 head, h, q;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At, int unit)
    {
        const At block = body + unit / 8 * 176;
        return {kern_load_16(block), kern_load_16(block + 16 + unit % 2 * 16),
                kern_load_16(block + 48 + unit % 8 * 16)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        const int p = unit % 8 / 2;
        kern_scales_k4(u, r.head, p);
        kern_low_nibbles(u.q, r.q);
        kern_high_nibbles(u.q + 4, r.q);
        kern_fifth_bits(u.q, r.h, 2 * p);
        kern_fifth_bits(u.q + 4, r.h, 2 * p + 1);
    }
};

struct kern_read_Q6_K {
    static constexpr bool quant = true, one_scale = false, mins = false;
    static constexpr int groups = 2, bias = 32;
    struct raw {
        uint4 low, high;
        uint32_t scales, d;
    };

    /* Low halves: group half * 8 + c, c of 4 pieces of 16 bytes; high halves: four groups on. */
    static __device__ __forceinline__ int group(int unit, int j)
    {
        return unit / 4 * 8 + unit % 4 + 4 * j;
    }

    static __device__ __forceinline__ int unit_of(int g)
    {
        return g / 8 * 4 + g % 4;
    }

    static __device__ __forceinline__ int piece_of(int g)
    {
        return g / 4 % 2;
    }

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const int upper = unit % 8 / 4, c = unit % 4;
        const At block = body + unit / 8 * 208;
        const At scales = block + 192 + upper * 8 + c;
        return {kern_load_16(block + upper * 64 + c * 16),
                kern_load_16(block + 128 + upper * 32 + c % 2 * 16),
                kern_load_1(scales) | kern_load_1(scales + 4) << 8,
                kern_load_2(side + unit / 8 * 2)};
    }

    static __device__ __forceinline__ uint32_t high_bits(uint32_t h, int quarter)
    {
        return (h >> 2 * quarter & 0x03030303u) << 4;
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        const float d = kern_half_float(r.d);
        const int quarter = unit % 4 / 2;
        kern_low_nibbles(u.q, r.low);
        kern_high_nibbles(u.q + 4, r.low);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            u.q[4 * j] |= high_bits(r.high.x, quarter + 2 * j);
            u.q[4 * j + 1] |= high_bits(r.high.y, quarter + 2 * j);
            u.q[4 * j + 2] |= high_bits(r.high.z, quarter + 2 * j);
            u.q[4 * j + 3] |= high_bits(r.high.w, quarter + 2 * j);
            u.scale[j] = d * (float)(int8_t)(r.scales >> 8 * j);
        }
    }
};

#endif
