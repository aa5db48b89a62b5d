/* Quantising rows to the types of plain blocks: one scale, no search. Each equals the format's
 * own reference bit for bit, so that files do not depend on who made them. */
#include "kernels/iq_tables.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/quant_fit.h"
#include "kernels/ref/ref.h"

static void store_half(uint8_t *dst, float f)
{
    const uint16_t h = kern_f16_of_float(f);

    dst[0] = (uint8_t)(h & 0xff);
    dst[1] = (uint8_t)(h >> 8);
}

/* Halves away from zero. Exact, where adding a half would round twice. */
static int nearest(float v)
{
    const float size = fabsf(v);
    const int whole = (int)size, n = whole + (int)(2.0f * (size - (float)whole));

    return v < 0.0f ? -n : n;
}

/* 0 for steps so small that no float is their inverse: halves, too, have 0 for them. */
static float inverse(float d)
{
    return fabsf(d) > 0x1p-126f ? 1.0f / d : 0.0f;
}

static int at_most(int v, int high)
{
    return v > high ? high : v;
}

static void quantize_q8_0(void *dst, const float *x, int32_t k)
{
    struct kern_q8_0 *y = dst;

    for (int32_t b = 0; b < k / KERN_BLOCK; b++, x += KERN_BLOCK) {
        const float d = fabsf(kern_fit_extreme(x, KERN_BLOCK)) / 127.0f, id = inverse(d);

        store_half(y[b].d, d);
        for (int i = 0; i < KERN_BLOCK; i++) {
            y[b].q[i] = (int8_t)nearest(x[i] * id);
        }
    }
}

/* The low 4 bits of codes into q, the fifth into h. */
static void pack_halves(uint8_t *q, const uint8_t *codes)
{
    for (int i = 0; i < KERN_BLOCK / 2; i++) {
        q[i] = (uint8_t)((codes[i] & 15) | codes[i + KERN_BLOCK / 2] << 4);
    }
}

static void pack_fifth(uint8_t *h, const uint8_t *codes)
{
    for (int byte = 0; byte < KERN_BLOCK / 8; byte++) {
        h[byte] = 0;
        for (int bit = 0; bit < 8; bit++) {
            h[byte] |= (uint8_t)((codes[byte * 8 + bit] >> 4 & 1) << bit);
        }
    }
}

/* Codes around zero: the extreme element gets -m, so that one code more serves its side. */
static float codes_signed(uint8_t *codes, const float *x, int m)
{
    const float d = kern_fit_extreme(x, KERN_BLOCK) / -(float)m, id = inverse(d);

    for (int i = 0; i < KERN_BLOCK; i++) {
        codes[i] = (uint8_t)at_most((int)(x[i] * id + ((float)m + 0.5f)), 2 * m - 1);
    }
    return d;
}

static float codes_affine(uint8_t *codes, float *min, const float *x, int m)
{
    float low = x[0], high = x[0];

    for (int i = 1; i < KERN_BLOCK; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float d = (high - low) / (float)m, id = inverse(d);

    for (int i = 0; i < KERN_BLOCK; i++) {
        codes[i] = (uint8_t)at_most((int)((x[i] - low) * id + 0.5f), m);
    }
    *min = low;
    return d;
}

static void quantize_q4_0(void *dst, const float *x, int32_t k)
{
    struct kern_q4_0 *y = dst;
    uint8_t codes[KERN_BLOCK];

    for (int32_t b = 0; b < k / KERN_BLOCK; b++, x += KERN_BLOCK) {
        store_half(y[b].d, codes_signed(codes, x, 8));
        pack_halves(y[b].q, codes);
    }
}

static void quantize_q4_1(void *dst, const float *x, int32_t k)
{
    struct kern_q4_1 *y = dst;
    uint8_t codes[KERN_BLOCK];
    float min;

    for (int32_t b = 0; b < k / KERN_BLOCK; b++, x += KERN_BLOCK) {
        store_half(y[b].d, codes_affine(codes, &min, x, 15));
        store_half(y[b].m, min);
        pack_halves(y[b].q, codes);
    }
}

static void quantize_q5_0(void *dst, const float *x, int32_t k)
{
    struct kern_q5_0 *y = dst;
    uint8_t codes[KERN_BLOCK];

    for (int32_t b = 0; b < k / KERN_BLOCK; b++, x += KERN_BLOCK) {
        store_half(y[b].d, codes_signed(codes, x, 16));
        pack_halves(y[b].q, codes);
        pack_fifth(y[b].h, codes);
    }
}

static void quantize_q5_1(void *dst, const float *x, int32_t k)
{
    struct kern_q5_1 *y = dst;
    uint8_t codes[KERN_BLOCK];
    float min;

    for (int32_t b = 0; b < k / KERN_BLOCK; b++, x += KERN_BLOCK) {
        store_half(y[b].d, codes_affine(codes, &min, x, 31));
        store_half(y[b].m, min);
        pack_halves(y[b].q, codes);
        pack_fifth(y[b].h, codes);
    }
}

/* ------------------------------------------------------------ three values */

/* 0, 1, 2 for -d, 0, d. */
static float codes_ternary(uint8_t *codes, const float *x)
{
    const float d = fabsf(kern_fit_extreme(x, KERN_SUPER)), id = inverse(d);

    for (int i = 0; i < KERN_SUPER; i++) {
        codes[i] = (uint8_t)(nearest(x[i] * id) + 1);
    }
    return d;
}

/* n digits to base 3, `stride` codes apart, as a fraction of 256 that reads back exactly. */
static uint8_t pack_digits(const uint8_t *codes, int n, int stride)
{
    unsigned value = 0;

    for (int i = 0; i < 5; i++) {
        value = 3 * value + (i < n ? codes[i * stride] : 0);
    }
    return (uint8_t)((value * 256 + 242) / 243);
}

static void quantize_tq1_0(void *dst, const float *x, int32_t k)
{
    struct kern_tq1_0 *y = dst;
    uint8_t codes[KERN_SUPER];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        store_half(y[b].d, codes_ternary(codes, x));
        for (int i = 0; i < 32; i++) {
            y[b].q[i] = pack_digits(codes + i, 5, 32);
        }
        for (int i = 0; i < 16; i++) {
            y[b].q[32 + i] = pack_digits(codes + 160 + i, 5, 16);
        }
        for (int i = 0; i < 4; i++) {
            y[b].h[i] = pack_digits(codes + 240 + i, 4, 4);
        }
    }
}

static void quantize_tq2_0(void *dst, const float *x, int32_t k)
{
    struct kern_tq2_0 *y = dst;
    uint8_t codes[KERN_SUPER];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        store_half(y[b].d, codes_ternary(codes, x));
        for (int i = 0; i < KERN_SUPER / 4; i++) {
            const uint8_t *c = codes + i / 32 * 128 + i % 32;

            y[b].q[i] = (uint8_t)(c[0] | c[32] << 2 | c[64] << 4 | c[96] << 6);
        }
    }
}

/* ---------------------------------------------------------------------- FP4 */

/* The code nearest to x / d; of two equally near the smaller, and a plain 0 for what rounds to
 * zero. */
static uint8_t code_fp4(float x, float d)
{
    const float size = fabsf(x);
    int code = 0;

    for (int i = 0; i < 7; i++) {
        code += size > 0.5f * (float)(kern_e2m1[i] + kern_e2m1[i + 1]) * d;
    }
    return (uint8_t)(code && x < 0.0f ? code + 8 : code);
}

static void pack_fp4(uint8_t *q, const float *x, int n, float d)
{
    for (int i = 0; i < n / 2; i++) {
        q[i] = (uint8_t)(code_fp4(x[i], d) | code_fp4(x[i + n / 2], d) << 4);
    }
}

static void quantize_mxfp4(void *dst, const float *x, int32_t k)
{
    struct kern_mxfp4 *y = dst;

    for (int32_t b = 0; b < k / KERN_BLOCK; b++, x += KERN_BLOCK) {
        /* The exponent of the largest element, less that of the largest code, 6. */
        const int exponent = (int)(kern_bits_of_float(kern_fit_extreme(x, KERN_BLOCK)) >> 23 & 255);

        y[b].e = (uint8_t)(exponent > 2 ? exponent - 2 : 0);
        pack_fp4(y[b].q, x, KERN_BLOCK, kern_float_of_e8m0_half(y[b].e));
    }
}

/* To unsigned E4M3, nearest even, at most 448. */
static uint8_t ue4m3_of_float(float f)
{
    if (f >= 448.0f) {
        return 0x7e;
    }
    if (f < 0x1p-6f) { /* subnormal: steps of 2^-9 */
        return (uint8_t)kern_fit_rint(f * 512.0f);
    }
    const uint32_t bits = kern_bits_of_float(f) - (120u << 23);

    return (uint8_t)((bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20);
}

static void quantize_nvfp4(void *dst, const float *x, int32_t k)
{
    struct kern_nvfp4 *y = dst;

    for (int32_t b = 0; b < k / KERN_NVFP4; b++) {
        for (int s = 0; s < KERN_NVFP4 / 16; s++, x += 16) {
            y[b].d[s] = ue4m3_of_float(fabsf(kern_fit_extreme(x, 16)) / 6.0f);
            pack_fp4(y[b].q + 8 * s, x, 16, kern_float_of_ue4m3_half(y[b].d[s]));
        }
    }
}

/* The largest element becomes the largest code, 448, or nearly so where the scale is rounded. A
 * scale below the normal floats would be too coarse: such a block is zero. */
static void quantize_f8_128(void *dst, const float *x, int32_t k)
{
    struct kern_f8_128 *y = dst;

    for (int32_t b = 0; b < k / KERN_F8; b++, x += KERN_F8) {
        const float d = fabsf(kern_fit_extreme(x, KERN_F8)) / 448.0f;
        const float used = d < 0x1p-126f ? 0.0f : d;

        memcpy(y[b].d, &used, sizeof(used));
        for (int i = 0; i < KERN_F8; i++) {
            const uint8_t sign = (uint8_t)(kern_bits_of_float(x[i]) >> 24 & 0x80u);

            y[b].q[i] = used > 0.0f ? sign | ue4m3_of_float(fabsf(x[i]) / used) : 0;
        }
    }
}

void kern_quantize_init_ref_plain(struct kern_quant *quant)
{
    quant->quantize[INFER_DTYPE_Q8_0] = quantize_q8_0;
    quant->quantize[INFER_DTYPE_Q4_0] = quantize_q4_0;
    quant->quantize[INFER_DTYPE_Q4_1] = quantize_q4_1;
    quant->quantize[INFER_DTYPE_Q5_0] = quantize_q5_0;
    quant->quantize[INFER_DTYPE_Q5_1] = quantize_q5_1;
    quant->quantize[INFER_DTYPE_TQ1_0] = quantize_tq1_0;
    quant->quantize[INFER_DTYPE_TQ2_0] = quantize_tq2_0;
    quant->quantize[INFER_DTYPE_MXFP4] = quantize_mxfp4;
    quant->quantize[INFER_DTYPE_NVFP4] = quantize_nvfp4;
    quant->quantize[INFER_DTYPE_F8_128] = quantize_f8_128;
}
