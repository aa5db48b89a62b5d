/* Random weights: quants are plain random bits; the scales give them their size.
 * Layouts of the blocks: doc/layouts.md. */
#include "random_weights.h"

#include "format/quant_layout.h"
#include "kernels/quant_blocks.h"

#include <math.h>
#include <string.h>

/* Standard deviation of a uniform integer in 0 .. n - 1 is sqrt((n^2 - 1) / 12). */
#define STD_2_BITS 1.118f
#define STD_4_BITS 4.610f
#define STD_5_BITS 9.233f
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

/* To nearest, for values in range: 2^-120 makes the exponent of a float E4M3's. */
static uint8_t f8_of(infer_dtype type, float value)
{
    uint32_t bits;
    if (type == INFER_DTYPE_F8_E5M2)
        return (uint8_t)((half_of(value) + 0x80) >> 8);
    float small = fabsf(value) * 0x1p-120f;
    memcpy(&bits, &small, sizeof bits);
    return (uint8_t)((bits + 0x80000) >> 20 | (value < 0 ? 0x80 : 0));
}

static void fill_8(struct random_weights *r, infer_dtype type, uint8_t *out, size_t n)
{
    float values[1024];
    while (n) {
        size_t part = BASE_MIN(n, BASE_COUNT(values));
        fill_f32(r, values, part);
        for (size_t i = 0; i < part; i++)
            out[i] = f8_of(type, values[i]);
        out += part;
        n -= part;
    }
}

/* Blocks of random bits whose scale alone is set: root mean squares of what it is
 * multiplied with. A mean that is not 0 vanishes as the scale changes its sign. */
struct simple {
    infer_dtype type;
    size_t d;                            /* where the half is */
    float size;                          /* root mean square of w / d */
    size_t set_at, set_bytes, set_every; /* bytes of sub-scales whose top bits are set, */
    uint8_t set;                         /* so that no few of them outweigh the rest */
};

#define SIMPLE(name, block, size)                                                                  \
    {                                                                                              \
        INFER_DTYPE_##name, offsetof(struct block, d), size, 0, 0, 1, 0                            \
    }

static const struct simple simples[] = {
    SIMPLE(Q4_0, kern_q4_0, STD_4_BITS),
    SIMPLE(Q5_0, kern_q5_0, STD_5_BITS),
    SIMPLE(Q8_0, kern_q8_0, STD_8_BITS),
    SIMPLE(Q3_K, kern_q3_k, 18.48f * 2.345f), /* scales of -32 to 31, values of -4 to 3 */
    SIMPLE(IQ4_NL, kern_iq4_nl, 67.44f),
    SIMPLE(IQ4_XS, kern_iq4_xs, 18.48f * 67.44f),
    SIMPLE(TQ1_0, kern_tq1_0, 0.8173f),
    /* From here on sub-scales from 8 to 15, or of IQ1 from 4 to 7. */
    {INFER_DTYPE_IQ3_XXS, 0, 12.22f / 2 * 30.85f, offsetof(struct kern_iq3_xxs, s) + 3, 32, 4, 128},
    {INFER_DTYPE_IQ3_S, 0, 24.43f * 7.594f, offsetof(struct kern_iq3_s, scales), 4, 1, 0x88},
    {INFER_DTYPE_IQ2_XXS, 0, 12.22f / 4 * 23.12f, offsetof(struct kern_iq2_xxs, q) + 7, 64, 8, 128},
    {INFER_DTYPE_IQ2_XS, 0, 12.22f / 4 * 24.22f, offsetof(struct kern_iq2_xs, scales), 8, 1, 0x88},
    {INFER_DTYPE_IQ2_S, 0, 12.22f / 4 * 24.43f, offsetof(struct kern_iq2_s, scales), 8, 1, 0x88},
    {INFER_DTYPE_IQ1_S, 0, 12.21f * 0.7809f, offsetof(struct kern_iq1_s, h) + 1, 16, 2, 0x40},
};

static void make_simple(struct random_weights *r, const struct simple *how, uint8_t *block,
                        size_t bytes)
{
    fill_bits(r, block, bytes);
    for (size_t i = 0; i < how->set_bytes; i += how->set_every)
        block[how->set_at + i] |= how->set;
    put_half(block + how->d, vary(r, r->std / how->size));
}

/* Minima that are the middle of the values, so that w = d * (q - middle). */
static void make_with_minimum(struct random_weights *r, uint8_t *block, size_t bytes, float std,
                              float middle)
{
    float d = vary(r, r->std / std);
    fill_bits(r, block, bytes);
    put_half(block, d);
    put_half(block + 2, -middle * d);
}

/* Scales from 32 to 63 (root mean square 48.4) and minima equal to them, with
 * dmin = middle * d, so that w = d * sc * (q - middle). */
static void make_q45_k(struct random_weights *r, uint8_t *block, size_t bytes, float std,
                       float middle)
{
    uint64_t bits = next(r);
    float d = r->std / (48.4f * std);
    put_half(block, d);
    put_half(block + 2, middle * d);
    for (int j = 0; j < 4; j++) {
        uint8_t low = (uint8_t)(32 | (bits >> (5 * j) & 31));       /* sub-block j */
        uint8_t high = (uint8_t)(32 | (bits >> (20 + 5 * j) & 31)); /* sub-block j + 4 */
        block[4 + j] = block[8 + j] = (uint8_t)(low | (high >> 4) << 6);
        block[12 + j] = (uint8_t)((high & 15) | (high & 15) << 4);
    }
    fill_bits(r, block + 16, bytes - 16);
}

/* Scales from 8 to 15 (root mean square 11.73), minima as above. */
static void make_q2_k(struct random_weights *r, struct kern_q2_k *b)
{
    float d = r->std / (11.73f * STD_2_BITS);
    fill_bits(r, (uint8_t *)b, sizeof *b);
    for (size_t j = 0; j < sizeof b->scales; j++) {
        int scale = 8 | (b->scales[j] & 7);
        b->scales[j] = (uint8_t)(scale | scale << 4);
    }
    put_half(b->d, d);
    put_half(b->dmin, 1.5f * d);
}

/* Scales of 64 to 127 (root mean square 97.2) of either sign. */
static void make_q6_k(struct random_weights *r, struct kern_q6_k *b)
{
    fill_bits(r, (uint8_t *)b, sizeof *b);
    for (size_t j = 0; j < sizeof b->scales; j++) {
        int bits = b->scales[j], scale = 64 + (bits & 63);
        b->scales[j] = (int8_t)(bits & 128 ? -scale : scale);
    }
    put_half(b->d, vary(r, r->std / (97.2f * STD_6_BITS)));
}

/* The scale's bits lie in the top four of four numbers; sub-scales from 4 to 7. */
static void make_iq1_m(struct random_weights *r, struct kern_iq1_m *b)
{
    uint16_t d = half_of(vary(r, r->std / (12.21f * 0.7809f)));
    fill_bits(r, (uint8_t *)b, sizeof *b);
    for (int i = 0; i < 4; i++) {
        b->scales[2 * i] |= 0x24;
        b->scales[2 * i + 1] = (uint8_t)((b->scales[2 * i + 1] & 15) | 9 | (d >> 4 * i & 15) << 4);
    }
}

/* Zero in half of all places; never the 3 that models do not have. */
static void make_tq2_0(struct random_weights *r, struct kern_tq2_0 *b)
{
    fill_bits(r, b->q, sizeof b->q);
    for (size_t i = 0; i < sizeof b->q; i++)
        b->q[i] &= (uint8_t) ~(b->q[i] << 1 & 0xaa);
    put_half(b->d, vary(r, r->std / 0.7071f));
}

/* FP4 has a root mean square of 5.852 (doubled). Its scales are too coarse to vary:
 * of the two next to the wanted size, each comes as often as the mean square asks. */
#define SIZE_FP4 5.852f

static int is_above(struct random_weights *r, float size, float low, float high)
{
    float share = (size * size - low * low) / (high * high - low * low);
    return (float)(next(r) >> 40) * 0x1p-24f < share;
}

static void make_mxfp4(struct random_weights *r, struct kern_mxfp4 *b)
{
    float size = r->std / SIZE_FP4;
    int e = ilogbf(size);
    b->e = (uint8_t)(128 + e + is_above(r, size, ldexpf(1.0f, e), ldexpf(2.0f, e)));
    fill_bits(r, b->q, sizeof b->q);
}

/* Scales are multiples of 2^(e - 3), at least of 2^-10, up to 2^(e + 1). */
static void make_nvfp4(struct random_weights *r, struct kern_nvfp4 *b)
{
    float size = r->std / SIZE_FP4;
    int e = BASE_MAX(ilogbf(size), -7);
    float unit = ldexpf(1.0f, e - 3);
    int low = (int)(size / unit);
    for (size_t i = 0; i < sizeof b->d; i++) {
        int above = is_above(r, size, (float)low * unit, (float)(low + 1) * unit);
        b->d[i] = (uint8_t)((e + 7) * 8 + low + above);
    }
    fill_bits(r, b->q, sizeof b->q);
}

/* Codes of a deviation of 64 among numbers up to 448. */
static void make_f8_128(struct random_weights *r, struct kern_f8_128 *b)
{
    float values[KERN_F8], d = r->std / 64;
    fill_f32(r, values, KERN_F8);
    for (size_t i = 0; i < KERN_F8; i++)
        b->q[i] = f8_of(INFER_DTYPE_F8_E4M3, values[i] / d);
    memcpy(b->d, &d, sizeof d);
}

/* False: not a type of this. */
static int make_block(struct random_weights *r, infer_dtype type, uint8_t *block, size_t bytes)
{
    switch (type) {
    case INFER_DTYPE_Q4_1:
        make_with_minimum(r, block, bytes, STD_4_BITS, 7.5f);
        return 1;
    case INFER_DTYPE_Q5_1:
        make_with_minimum(r, block, bytes, STD_5_BITS, 15.5f);
        return 1;
    case INFER_DTYPE_Q2_K:
        make_q2_k(r, (void *)block);
        return 1;
    case INFER_DTYPE_Q4_K:
        make_q45_k(r, block, bytes, STD_4_BITS, 7.5f);
        return 1;
    case INFER_DTYPE_Q5_K:
        make_q45_k(r, block, bytes, STD_5_BITS, 15.5f);
        return 1;
    case INFER_DTYPE_Q6_K:
        make_q6_k(r, (void *)block);
        return 1;
    case INFER_DTYPE_IQ1_M:
        make_iq1_m(r, (void *)block);
        return 1;
    case INFER_DTYPE_TQ2_0:
        make_tq2_0(r, (void *)block);
        return 1;
    case INFER_DTYPE_MXFP4:
        make_mxfp4(r, (void *)block);
        return 1;
    case INFER_DTYPE_NVFP4:
        make_nvfp4(r, (void *)block);
        return 1;
    case INFER_DTYPE_F8_128:
        make_f8_128(r, (void *)block);
        return 1;
    default:
        return 0;
    }
}

/* Blocks of a quantised type. */
static int fill_blocks(struct random_weights *r, infer_dtype type, uint8_t *block, size_t n)
{
    const struct quant_layout *layout = quant_layout_of(type);
    if (!layout || layout->block_elements == 1)
        return 0;
    size_t bytes = (size_t)layout->block_bytes, at = 0;
    while (at < BASE_COUNT(simples) && simples[at].type != type)
        at++;
    for (size_t i = 0; i < n / (size_t)layout->block_elements; i++, block += bytes) {
        if (at < BASE_COUNT(simples))
            make_simple(r, &simples[at], block, bytes);
        else if (!make_block(r, type, block, bytes))
            return 0;
    }
    return 1;
}

int random_weights_fill(struct random_weights *r, infer_dtype type, void *out, size_t n)
{
    switch (type) {
    case INFER_DTYPE_F32:
        fill_f32(r, out, n);
        return 1;
    case INFER_DTYPE_F16:
    case INFER_DTYPE_BF16:
        fill_16(r, type, out, n);
        return 1;
    case INFER_DTYPE_F8_E4M3:
    case INFER_DTYPE_F8_E5M2:
        fill_8(r, type, out, n);
        return 1;
    default:
        return fill_blocks(r, type, out, n);
    }
}
