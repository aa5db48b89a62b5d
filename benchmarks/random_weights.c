/* Random weights: quants are plain random bits; the scales give them their size.
 * Layouts of the blocks: doc/formats.md. */
#include "random_weights.h"

#include "format/quant_layout.h"

#include <math.h>
#include <string.h>

/* Standard deviation of a uniform integer in 0 .. n - 1 is sqrt((n^2 - 1) / 12). */
#define STD_4_BITS 4.610f
#define STD_6_BITS 18.473f
#define STD_8_BITS 73.900f

static uint64_t next(struct random_weights *r)
{
    /* splitmix64, Steele et al. 2014 */
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fill_bits(struct random_weights *r, uint8_t *out, size_t bytes)
{
    for (; bytes >= 8; bytes -= 8, out += 8) {
        uint64_t bits = next(r);
        memcpy(out, &bits, 8);
    }
    if (bytes) {
        uint64_t bits = next(r);
        memcpy(out, &bits, bytes);
    }
}

/* To nearest, for finite values in the range of a half. Subnormal halves are
 * multiples of 2^-24, which is the spacing of floats at 0.5: an addition rounds. */
static uint16_t half_of(float value)
{
    float shifted = fabsf(value) + 0.5f;
    uint32_t bits, small;
    memcpy(&bits, &value, sizeof bits);
    memcpy(&small, &shifted, sizeof small);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    uint32_t normal = (magnitude + 0x1000 - (112u << 23)) >> 13;
    return (uint16_t)(sign | (magnitude < (113u << 23) ? small - 0x3f000000 : normal));
}

static void put_half(uint8_t *out, float value)
{
    uint16_t half = half_of(value);
    out[0] = (uint8_t)half;
    out[1] = (uint8_t)(half >> 8);
}

/* A block's scale: `size` with a spread of a quarter, either sign. */
static float vary(struct random_weights *r, float size)
{
    uint64_t bits = next(r);
    float spread = 0.75f + (float)(bits & 0xffff) * (0.5f / 65536);
    return bits >> 63 ? -size * spread : size * spread;
}

/* Uniform in +-sqrt(3), whose standard deviation is 1, times std. */
static void fill_f32(struct random_weights *r, float *out, size_t n)
{
    float scale = r->std * 1.7320508f * 0x1p-31f;
    for (size_t i = 0; i + 1 < n; i += 2) {
        uint64_t bits = next(r);
        out[i] = (float)(int32_t)bits * scale;
        out[i + 1] = (float)(int32_t)(bits >> 32) * scale;
    }
    if (n & 1)
        out[n - 1] = (float)(int32_t)next(r) * scale;
}

static void fill_16(struct random_weights *r, infer_dtype type, uint16_t *out, size_t n)
{
    float values[1024];
    while (n) {
        size_t part = BASE_MIN(n, BASE_COUNT(values));
        fill_f32(r, values, part);
        for (size_t i = 0; i < part; i++) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            out[i] = type == INFER_DTYPE_F16 ? half_of(values[i]) : (uint16_t)(bits >> 16);
        }
        out += part;
        n -= part;
    }
}

/* q - 8 has a mean of -0.5; the changing sign of d makes the weight's 0. */
static void make_q4_0(struct random_weights *r, uint8_t *block)
{
    fill_bits(r, block + 2, 16);
    put_half(block, vary(r, r->std / STD_4_BITS));
}

static void make_q8_0(struct random_weights *r, uint8_t *block)
{
    fill_bits(r, block + 2, 32);
    put_half(block, vary(r, r->std / STD_8_BITS));
}

/* Scales from 32 to 63 (root mean square 48.4) and minima equal to them, with
 * dmin = 7.5 d, so that w = d * sc * (q - 7.5). */
static void make_q4_k(struct random_weights *r, uint8_t *block)
{
    uint64_t bits = next(r);
    float d = r->std / (48.4f * STD_4_BITS);
    put_half(block, d);
    put_half(block + 2, 7.5f * d);
    for (int j = 0; j < 4; j++) {
        uint8_t low = (uint8_t)(32 | (bits >> (5 * j) & 31));       /* sub-block j */
        uint8_t high = (uint8_t)(32 | (bits >> (20 + 5 * j) & 31)); /* sub-block j + 4 */
        block[4 + j] = block[8 + j] = (uint8_t)(low | (high >> 4) << 6);
        block[12 + j] = (uint8_t)((high & 15) | (high & 15) << 4);
    }
    fill_bits(r, block + 16, 128);
}

/* Scales of 64 to 127 (root mean square 97.2) of either sign. */
static void make_q6_k(struct random_weights *r, uint8_t *block)
{
    fill_bits(r, block, 208);
    for (int j = 0; j < 16; j++) {
        uint8_t bits = block[192 + j];
        int scale = 64 + (bits & 63);
        block[192 + j] = (uint8_t)(bits & 128 ? -scale : scale);
    }
    put_half(block + 208, vary(r, r->std / (97.2f * STD_6_BITS)));
}

int random_weights_fill(struct random_weights *r, infer_dtype type, void *out, size_t n)
{
    void (*make)(struct random_weights *, uint8_t *) = NULL;
    switch (type) {
    case INFER_DTYPE_F32:
        fill_f32(r, out, n);
        return 1;
    case INFER_DTYPE_F16:
    case INFER_DTYPE_BF16:
        fill_16(r, type, out, n);
        return 1;
    case INFER_DTYPE_Q4_0:
        make = make_q4_0;
        break;
    case INFER_DTYPE_Q8_0:
        make = make_q8_0;
        break;
    case INFER_DTYPE_Q4_K:
        make = make_q4_k;
        break;
    case INFER_DTYPE_Q6_K:
        make = make_q6_k;
        break;
    default:
        return 0;
    }
    const struct quant_layout *layout = quant_layout_of(type);
    uint8_t *block = out;
    for (size_t i = 0; i < n / (size_t)layout->block_elements; i++, block += layout->block_bytes)
        make(r, block);
    return 1;
}
