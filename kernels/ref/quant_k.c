/* K and TQ blocks to 32-bit floats, reference. Every product and difference is rounded
 * on its own, so that all variants agree to the bit. */
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

/* The 2 bits of element i of 256: layout of Q2_K. */
static int two_bits(const uint8_t q[KERN_SUPER / 4], int i)
{
    return q[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
}

static void dequant_q2_k(float *dst, const void *src, int32_t k)
{
    const struct kern_q2_k *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        const float dmin = kern_float_of_f16(kern_load_u16(b->dmin));

        for (int i = 0; i < KERN_SUPER; i++) {
            const float scale = d * (float)(b->scales[i / 16] & 15);
            const float min = dmin * (float)(b->scales[i / 16] >> 4);

            dst[at + i] = scale * (float)two_bits(b->q, i) - min;
        }
    }
}

/* The 6-bit scale of elements 16j .. 16j + 15. */
static int q3_k_scale(const uint8_t scales[12], int j)
{
    return (scales[j % 8] >> j / 8 * 4 & 15) | (scales[8 + j % 4] >> j / 4 * 2 & 3) << 4;
}

static void dequant_q3_k(float *dst, const void *src, int32_t k)
{
    const struct kern_q3_k *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < KERN_SUPER; i++) {
            const int q = two_bits(b->q, i) | (b->h[i % 32] >> i / 32 & 1) << 2;

            dst[at + i] = d * (float)(q3_k_scale(b->scales, i / 16) - 32) * (float)(q - 4);
        }
    }
}

/* The 6-bit scale and minimum of sub-block j. */
static void q4_k_scale_min(const uint8_t scales[12], int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = scales[j] & 63;
        *min = scales[j + 4] & 63;
    } else {
        *scale = (scales[j + 4] & 15) | (scales[j - 4] >> 6 << 4);
        *min = (scales[j + 4] >> 4) | (scales[j] >> 6 << 4);
    }
}

static void dequant_q4_k(float *dst, const void *src, int32_t k)
{
    const struct kern_q4_k *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        const float dmin = kern_float_of_f16(kern_load_u16(b->dmin));

        for (int j = 0; j < KERN_SUPER / 32; j++) {
            int scale, min;

            q4_k_scale_min(b->scales, j, &scale, &min);
            for (int i = 0; i < 32; i++) {
                const int pair = b->q[j / 2 * 32 + i];
                const int q = j % 2 ? pair >> 4 : pair & 15;

                dst[at + j * 32 + i] = d * (float)scale * (float)q - dmin * (float)min;
            }
        }
    }
}

static void dequant_q5_k(float *dst, const void *src, int32_t k)
{
    const struct kern_q5_k *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        const float dmin = kern_float_of_f16(kern_load_u16(b->dmin));

        for (int j = 0; j < KERN_SUPER / 32; j++) {
            int scale, min;

            q4_k_scale_min(b->scales, j, &scale, &min);
            for (int i = 0; i < 32; i++) {
                const int pair = b->q[j / 2 * 32 + i];
                const int q = (j % 2 ? pair >> 4 : pair & 15) | (b->h[i] >> j & 1) << 4;

                dst[at + j * 32 + i] = d * (float)scale * (float)q - dmin * (float)min;
            }
        }
    }
}

static void dequant_q6_k(float *dst, const void *src, int32_t k)
{
    const struct kern_q6_k *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < KERN_SUPER; i++) {
            const int half = i / 128, quarter = i / 32 % 4, l = i % 32;
            const int low = b->ql[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
            const int high = b->qh[half * 32 + l] >> (quarter * 2) & 3;

            dst[at + i] = d * (float)b->scales[i / 16] * (float)((low | high << 4) - 32);
        }
    }
}

/* Digit n to base 3 of the fraction v / 256. */
static int digit(uint8_t v, int n)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};

    return (uint8_t)(v * power[n]) * 3 >> 8;
}

static void dequant_tq1_0(float *dst, const void *src, int32_t k)
{
    const struct kern_tq1_0 *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        int t[KERN_SUPER];

        for (int i = 0; i < 160; i++) {
            t[i] = digit(b->q[i % 32], i / 32);
        }
        for (int i = 0; i < 80; i++) {
            t[160 + i] = digit(b->q[32 + i % 16], i / 16);
        }
        for (int i = 0; i < 16; i++) {
            t[240 + i] = digit(b->h[i % 4], i / 4);
        }
        for (int i = 0; i < KERN_SUPER; i++) {
            dst[at + i] = d * (float)(t[i] - 1);
        }
    }
}

static void dequant_tq2_0(float *dst, const void *src, int32_t k)
{
    const struct kern_tq2_0 *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < KERN_SUPER; i++) {
            dst[at + i] = d * (float)(two_bits(b->q, i) - 1);
        }
    }
}

void kern_quant_init_ref_k(struct kern_quant *quant)
{
    quant->dequant[INFER_DTYPE_Q2_K] = dequant_q2_k;
    quant->dequant[INFER_DTYPE_Q3_K] = dequant_q3_k;
    quant->dequant[INFER_DTYPE_Q4_K] = dequant_q4_k;
    quant->dequant[INFER_DTYPE_Q5_K] = dequant_q5_k;
    quant->dequant[INFER_DTYPE_Q6_K] = dequant_q6_k;
    quant->dequant[INFER_DTYPE_TQ1_0] = dequant_tq1_0;
    quant->dequant[INFER_DTYPE_TQ2_0] = dequant_tq2_0;
}
