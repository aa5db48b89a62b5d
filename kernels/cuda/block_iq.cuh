/* Readers of blocks whose values are entries of tables (block.cuh). A unit is a sub-block of 32
 * elements. */
#ifndef KERNELS_CUDA_BLOCK_IQ_CUH
#define KERNELS_CUDA_BLOCK_IQ_CUH

#include "kernels/cuda/block_plain.cuh"

#include "kernels/iq_tables.h"

/* The tables once more, in the card's memory, each entry on 8 bytes at least. */
#define kern_iq4_levels card_iq4_levels
#define kern_e2m1       card_e2m1
#define kern_iq1        card_iq1
#define kern_iq2_xxs    card_iq2_xxs
#define kern_iq2_xs     card_iq2_xs
#define kern_iq2_s      card_iq2_s
#define kern_iq3_xxs    card_iq3_xxs
#define kern_iq3_s      card_iq3_s
#define const __align__(8) [[maybe_unused]] static const __device__
#include "kernels/iq_tables.c"
#undef const
#undef kern_iq4_levels
#undef kern_e2m1
#undef kern_iq1
#undef kern_iq2_xxs
#undef kern_iq2_xs
#undef kern_iq2_s
#undef kern_iq3_xxs
#undef kern_iq3_s
/* What iq_tables.c makes them of. */
#undef IQ1
#undef IQ2
#undef IQ3_S
#undef IQ3_XXS
#undef FOUR
#undef EIGHT
#undef A
#undef B
#undef C
#undef D

static __device__ __forceinline__ void kern_entry_8(uint32_t q[2], const int8_t entry[8])
{
    const uint2 v = __ldg((const uint2 *)(const void *)entry);
    q[0] = v.x;
    q[1] = v.y;
}

static __device__ __forceinline__ uint32_t kern_entry_4(const int8_t entry[4])
{
    return __ldg((const uint32_t *)(const void *)entry);
}

/* Negates byte i where bit i of four is 1; no byte is 0. */
static __device__ __forceinline__ uint32_t kern_signed_4(uint32_t sizes, uint32_t bits)
{
    const uint32_t ones = (bits & 15) * 0x00204081u & 0x01010101u;
    return (sizes ^ ones * 255u) + ones;
}

/* Eight sign bits of seven (kern_iq_signs). */
static __device__ __forceinline__ uint32_t kern_eight_signs(uint32_t seven)
{
    return seven | (uint32_t)(__popc(seven) & 1) << 7;
}

static __device__ __forceinline__ void kern_sign_8(uint32_t q[2], uint32_t signs)
{
    q[0] = kern_signed_4(q[0], signs);
    q[1] = kern_signed_4(q[1], signs >> 4);
}

/* (sc + 0.5) * d times a power of two. */
static __device__ __forceinline__ float kern_scale_iq(float d, uint32_t sc, float factor)
{
    return d * ((float)(int)sc + 0.5f) * factor;
}

struct kern_read_IQ3_XXS : kern_read_32 {
    struct raw {
        uint32_t q[2], s, d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At block = body + unit / 8 * 96;
        const int s = unit % 8;
        return {{kern_load_4(block + 8 * s), kern_load_4(block + 8 * s + 4)},
                kern_load_4(block + 64 + 4 * s),
                kern_load_2(side + unit / 8 * 2)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
#pragma unroll
        for (int g = 0; g < 4; g++) {
            const uint32_t pair = r.q[g / 2] >> g % 2 * 16;
            u.q[2 * g] = kern_entry_4(card_iq3_xxs[pair & 255]);
            u.q[2 * g + 1] = kern_entry_4(card_iq3_xxs[pair >> 8 & 255]);
            kern_sign_8(u.q + 2 * g, kern_eight_signs(r.s >> 7 * g & 127));
        }
        u.scale[0] = kern_scale_iq(kern_half_float(r.d), r.s >> 28, 0.5f);
    }
};

struct kern_read_IQ3_S : kern_read_32 {
    struct raw {
        uint32_t q[2], signs, h, sc, d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At block = body + unit / 8 * 64, own = side + unit / 8 * 46;
        const int s = unit % 8;
        return {{kern_load_4(block + 8 * s), kern_load_4(block + 8 * s + 4)},
                kern_load_2_2(own + 10 + 4 * s),
                kern_load_1(own + 2 + s),
                kern_load_1(own + 42 + s / 2) >> s % 2 * 4 & 15,
                kern_load_2(own)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const uint32_t low = r.q[i / 4] >> i % 4 * 8 & 255;
            const uint32_t sizes = kern_entry_4(card_iq3_s[low | (r.h >> i & 1) << 8]);
            u.q[i] = kern_signed_4(sizes, r.signs >> 4 * i);
        }
        u.scale[0] = kern_half_float(r.d) * (float)(int)(2 * r.sc + 1);
    }
};

struct kern_read_IQ2_XXS : kern_read_32 {
    struct raw {
        uint32_t q, s, d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At q = body + unit * 8;
        return {kern_load_4(q), kern_load_4(q + 4), kern_load_2(side + unit / 8 * 2)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
#pragma unroll
        for (int g = 0; g < 4; g++) {
            kern_entry_8(u.q + 2 * g, card_iq2_xxs[r.q >> 8 * g & 255]);
            kern_sign_8(u.q + 2 * g, kern_eight_signs(r.s >> 7 * g & 127));
        }
        u.scale[0] = kern_scale_iq(kern_half_float(r.d), r.s >> 28, 0.25f);
    }
};

/* Two scales of 4 bits in a byte. */
static __device__ __forceinline__ void kern_scales_iq2(kern_unit &u, uint32_t d, uint32_t pair)
{
    u.scale[0] = kern_scale_iq(kern_half_float(d), pair & 15, 0.25f);
    u.scale[1] = kern_scale_iq(kern_half_float(d), pair >> 4, 0.25f);
}

struct kern_read_IQ2_XS : kern_read_32 {
    static constexpr bool one_scale = false;
    struct raw {
        uint32_t q[2], scales, d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At q = body + unit * 8, own = side + unit / 8 * 10;
        return {{kern_load_4(q), kern_load_4(q + 4)},
                kern_load_1(own + 2 + unit % 8),
                kern_load_2(own)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
#pragma unroll
        for (int g = 0; g < 4; g++) {
            const uint32_t q = r.q[g / 2] >> g % 2 * 16 & 0xffff;
            kern_entry_8(u.q + 2 * g, card_iq2_xs[q & 511]);
            kern_sign_8(u.q + 2 * g, kern_eight_signs(q >> 9));
        }
        kern_scales_iq2(u, r.d, r.scales);
    }
};

struct kern_read_IQ2_S : kern_read_32 {
    static constexpr bool one_scale = false;
    struct raw {
        uint32_t q, signs, h, scales, d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At block = body + unit / 8 * 64, own = side + unit / 8 * 18;
        const int s = unit % 8;
        return {kern_load_4(block + 4 * s), kern_load_4(block + 32 + 4 * s),
                kern_load_1(own + 2 + s), kern_load_1(own + 10 + s), kern_load_2(own)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
#pragma unroll
        for (int g = 0; g < 4; g++) {
            const uint32_t entry = (r.q >> 8 * g & 255) | (r.h >> 2 * g & 3) << 8;
            kern_entry_8(u.q + 2 * g, card_iq2_s[entry]);
            kern_sign_8(u.q + 2 * g, r.signs >> 8 * g);
        }
        kern_scales_iq2(u, r.d, r.scales);
    }
};

/* An entry of IQ1, eight times the values, plus or minus one; the scale is an eighth then. */
static __device__ __forceinline__ void kern_entry_iq1(uint32_t q[2], uint32_t entry, uint32_t minus)
{
    const uint32_t less = minus ? 0x01010101u : 0xffffffffu;
    kern_entry_8(q, card_iq1[entry]);
    q[0] = __vsub4(q[0], less);
    q[1] = __vsub4(q[1], less);
}

struct kern_read_IQ1_S : kern_read_32 {
    struct raw {
        uint32_t q, h, d;
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At block = body + unit / 8 * 48;
        return {kern_load_4(block + unit % 8 * 4), kern_load_2(block + 32 + unit % 8 * 2),
                kern_load_2(side + unit / 8 * 2)};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int)
    {
#pragma unroll
        for (int g = 0; g < 4; g++)
            kern_entry_iq1(u.q + 2 * g, (r.q >> 8 * g & 255) | (r.h >> 3 * g & 7) << 8, r.h >> 15);
        u.scale[0] = kern_half_float(r.d) * (float)(int)(2 * (r.h >> 12 & 7) + 1) * 0.125f;
    }
};

struct kern_read_IQ1_M : kern_read_32 {
    static constexpr bool one_scale = false;
    struct raw {
        uint32_t q, h, s[2];
    };

    template <typename At> static __device__ __forceinline__ raw load(At body, At side, int unit)
    {
        const At block = body + unit / 8 * 48, own = side + unit / 8 * 8;
        return {kern_load_4(block + unit % 8 * 4),
                kern_load_2(block + 32 + unit % 8 * 2),
                {kern_load_4(own), kern_load_4(own + 4)}};
    }

    static __device__ __forceinline__ void decode(kern_unit &u, const raw &r, int unit)
    {
        const float d = kern_half_float((r.s[0] >> 12 & 0xf) | (r.s[0] >> 24 & 0xf0) |
                                        (r.s[1] >> 4 & 0xf00) | (r.s[1] >> 16 & 0xf000));
        const int s = unit % 8;
        const uint32_t scales = (s < 4 ? r.s[0] : r.s[1]) >> (s / 2 % 2 * 16 + s % 2 * 6);
#pragma unroll
        for (int g = 0; g < 4; g++) {
            const uint32_t h = r.h >> 4 * g & 15;
            kern_entry_iq1(u.q + 2 * g, (r.q >> 8 * g & 255) | (h & 7) << 8, h >> 3);
        }
        u.scale[0] = d * (float)(int)(2 * (scales & 7) + 1) * 0.125f;
        u.scale[1] = d * (float)(int)(2 * (scales >> 3 & 7) + 1) * 0.125f;
    }
};

#endif
