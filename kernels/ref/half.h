/* 16-bit floats to and from 32-bit ones, and 8-bit floats to them, exactly as processors convert
 * them: round to nearest even, subnormals kept, a NaN made quiet with its sign and the leading bits
 * of its payload. */
#ifndef KERNELS_REF_HALF_H
#define KERNELS_REF_HALF_H

#include <stdint.h>
#include <string.h>

static inline float kern_float_at(const void *p)
{
    float f;

    memcpy(&f, p, sizeof(f));
    return f;
}

static inline uint16_t kern_load_u16(const void *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static inline float kern_float_of_bits(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline uint32_t kern_bits_of_float(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static inline float kern_float_of_bf16(uint16_t h)
{
    return kern_float_of_bits((uint32_t)h << 16);
}

static inline uint16_t kern_bf16_of_float(float f)
{
    const uint32_t bits = kern_bits_of_float(f);

    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float kern_float_of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = h >> 10 & 0x1fu;
    const uint32_t fraction = h & 0x3ffu;

    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact */
        const float value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    if (exponent == 31) {
        return kern_float_of_bits(sign | 0x7f800000u |
                                  (fraction ? fraction << 13 | 0x400000u : 0u));
    }
    return kern_float_of_bits(sign | (exponent + 112u) << 23 | fraction << 13);
}

/* OCP E4M3: bias 7, no infinities, NaN where all bits but the sign are 1. */
static inline float kern_float_of_e4m3(uint8_t b)
{
    const uint32_t size = b & 0x7fu;
    const float value = kern_float_of_bits(size << 20) * 0x1p120f;

    if (size == 0x7f) {
        return kern_float_of_bits((uint32_t)b << 24 | 0x7fc00000u);
    }
    return b & 0x80 ? -value : value;
}

/* Beyond the largest, 448, it is that. */
static inline uint8_t kern_e4m3_of_float(float f)
{
    const uint32_t bits = kern_bits_of_float(f);
    const uint32_t size = bits & 0x7fffffffu;
    /* Below 2^-6: adding 2^14 rounds at the subnormal's last bit. */
    const uint32_t tiny = kern_bits_of_float(kern_float_of_bits(size) + 0x1p14f) - 0x46800000u;
    uint32_t code = (size - 0x3c000000u + 0x7ffffu + (size >> 20 & 1u)) >> 20;

    code = size < 0x3c800000u ? tiny : code;
    code = size >= 0x43e00000u ? 0x7eu : code;
    code = size > 0x7f800000u ? 0x7fu : code;
    return (uint8_t)(code | (bits >> 24 & 0x80u));
}

/* OCP E5M2: the upper byte of a half. */
static inline float kern_float_of_e5m2(uint8_t b)
{
    return kern_float_of_f16((uint16_t)(b << 8));
}

/* Half of 2^(e - 127): a scale for the doubled numbers of FP4. */
static inline float kern_float_of_e8m0_half(uint8_t e)
{
    return kern_float_of_bits(e < 2 ? 0x200000u << e : (uint32_t)(e - 1) << 23);
}

/* Half of an E4M3 number whose sign is ignored; 0x7f is 0. */
static inline float kern_float_of_ue4m3_half(uint8_t b)
{
    return b == 0x7f ? 0.0f : kern_float_of_bits((b & 0x7fu) << 20) * 0x1p119f;
}

static inline uint16_t kern_f16_of_float(float f)
{
    const uint32_t bits = kern_bits_of_float(f);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t size = bits & 0x7fffffffu;

    if (size > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (size >> 13 & 0x3ffu));
    }
    if (size >= 0x477ff000u) { /* half way from the largest half to 2^16, or more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (size < 0x38800000u) { /* below 2^-14: adding 2^-1 rounds at the subnormal's last bit */
        const float shifted = kern_float_of_bits(size) + 0.5f;
        return (uint16_t)(sign | (kern_bits_of_float(shifted) - 0x3f000000u));
    }
    return (uint16_t)(sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13);
}

#endif
