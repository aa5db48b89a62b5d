/* IQ blocks of 256 to 32-bit floats, reference. No product of a scale, a sub-scale and
 * a table's value needs more bits than a float has: the order does not matter. */
#include "kernels/iq_tables.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

enum { GROUP = 8, GROUPS = KERN_SUPER / GROUP };

static uint32_t load_u32(const uint8_t *p)
{
    return kern_load_u16(p) | (uint32_t)kern_load_u16(p + 2) << 16;
}

/* n values of a table, negative where a bit of `signs` is 1. */
static void put(float *dst, const int8_t *values, int n, unsigned signs, float scale)
{
    for (int i = 0; i < n; i++) {
        dst[i] = scale * (float)(signs >> i & 1 ? -values[i] : values[i]);
    }
}

/* Four bits: the even ones in the low halves of bytes. */
static int nibble(const uint8_t *p, int i)
{
    return p[i / 2] >> i % 2 * 4 & 15;
}

static void dequant_iq4_xs(float *dst, const void *src, int32_t k)
{
    const struct kern_iq4_xs *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        const int high = kern_load_u16(b->scales_h);

        for (int i = 0; i < KERN_SUPER; i++) {
            const int j = i / 32, l = i % 32;
            const int scale = nibble(b->scales_l, j) | (high >> 2 * j & 3) << 4;
            const int q = b->q[16 * j + l % 16] >> l / 16 * 4 & 15;

            dst[at + i] = d * (float)(scale - 32) * (float)kern_iq4_levels[q];
        }
    }
}

static void dequant_iq3_xxs(float *dst, const void *src, int32_t k)
{
    const struct kern_iq3_xxs *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int g = 0; g < GROUPS; g++) {
            const uint32_t s = load_u32(b->s + g / 4 * 4);
            const unsigned signs = kern_iq_signs(s >> g % 4 * 7 & 127);
            const float scale = d * ((float)(s >> 28) + 0.5f) * 0.5f;
            float *out = dst + at + g * GROUP;

            put(out, kern_iq3_xxs[b->q[2 * g]], 4, signs, scale);
            put(out + 4, kern_iq3_xxs[b->q[2 * g + 1]], 4, signs >> 4, scale);
        }
    }
}

static void dequant_iq3_s(float *dst, const void *src, int32_t k)
{
    const struct kern_iq3_s *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int g = 0; g < GROUPS; g++) {
            const int high = b->h[g / 4] >> g % 4 * 2;
            const float scale = d * (float)(2 * nibble(b->scales, g / 4) + 1);
            float *out = dst + at + g * GROUP;

            put(out, kern_iq3_s[b->q[2 * g] | (high & 1) << 8], 4, b->signs[g], scale);
            put(out + 4, kern_iq3_s[b->q[2 * g + 1] | (high & 2) << 7], 4, b->signs[g] >> 4u,
                scale);
        }
    }
}

static void dequant_iq2_xxs(float *dst, const void *src, int32_t k)
{
    const struct kern_iq2_xxs *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int g = 0; g < GROUPS; g++) {
            const uint8_t *q = b->q + g / 4 * 8;
            const uint32_t s = load_u32(q + 4);
            const float scale = d * ((float)(s >> 28) + 0.5f) * 0.25f;

            put(dst + at + g * GROUP, kern_iq2_xxs[q[g % 4]], GROUP,
                kern_iq_signs(s >> g % 4 * 7 & 127), scale);
        }
    }
}

static void dequant_iq2_xs(float *dst, const void *src, int32_t k)
{
    const struct kern_iq2_xs *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int g = 0; g < GROUPS; g++) {
            const unsigned q = kern_load_u16(b->q + 2 * g);
            const float scale = d * ((float)nibble(b->scales, g / 2) + 0.5f) * 0.25f;

            put(dst + at + g * GROUP, kern_iq2_xs[q & 511], GROUP, kern_iq_signs(q >> 9), scale);
        }
    }
}

static void dequant_iq2_s(float *dst, const void *src, int32_t k)
{
    const struct kern_iq2_s *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int g = 0; g < GROUPS; g++) {
            const int q = b->q[g] | (b->h[g / 4] >> g % 4 * 2 & 3) << 8;
            const float scale = d * ((float)nibble(b->scales, g / 2) + 0.5f) * 0.25f;

            put(dst + at + g * GROUP, kern_iq2_s[q], GROUP, b->signs[g], scale);
        }
    }
}

/* scale * (value + delta): the table holds eight times the value, delta is an eighth. */
static void put_iq1(float *dst, int entry, int negative, float scale)
{
    for (int i = 0; i < GROUP; i++) {
        dst[i] = scale * ((float)(kern_iq1[entry][i] + (negative ? -1 : 1)) * 0.125f);
    }
}

static void dequant_iq1_s(float *dst, const void *src, int32_t k)
{
    const struct kern_iq1_s *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int g = 0; g < GROUPS; g++) {
            const int h = kern_load_u16(b->h + g / 4 * 2);
            const float scale = d * (float)(2 * (h >> 12 & 7) + 1);

            put_iq1(dst + at + g * GROUP, b->q[g] | (h >> g % 4 * 3 & 7) << 8, h >> 15, scale);
        }
    }
}

static void dequant_iq1_m(float *dst, const void *src, int32_t k)
{
    const struct kern_iq1_m *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        unsigned s[4], bits = 0;
        float d;

        for (int i = 0; i < 4; i++) {
            s[i] = kern_load_u16(b->scales + 2 * i);
            bits |= s[i] >> 12 << 4 * i;
        }
        d = kern_float_of_f16((uint16_t)bits);
        for (int g = 0; g < GROUPS; g++) {
            const int h = nibble(b->h, g);
            const float scale = d * (float)(2 * (s[g / 8] >> g / 2 % 4 * 3 & 7) + 1);

            put_iq1(dst + at + g * GROUP, b->q[g] | (h & 7) << 8, h >> 3, scale);
        }
    }
}

void kern_quant_init_ref_iq(struct kern_quant *quant)
{
    quant->dequant[INFER_DTYPE_IQ4_XS] = dequant_iq4_xs;
    quant->dequant[INFER_DTYPE_IQ3_XXS] = dequant_iq3_xxs;
    quant->dequant[INFER_DTYPE_IQ3_S] = dequant_iq3_s;
    quant->dequant[INFER_DTYPE_IQ2_XXS] = dequant_iq2_xxs;
    quant->dequant[INFER_DTYPE_IQ2_XS] = dequant_iq2_xs;
    quant->dequant[INFER_DTYPE_IQ2_S] = dequant_iq2_s;
    quant->dequant[INFER_DTYPE_IQ1_S] = dequant_iq1_s;
    quant->dequant[INFER_DTYPE_IQ1_M] = dequant_iq1_m;
}
