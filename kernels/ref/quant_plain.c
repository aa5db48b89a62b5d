/* Blocks of one scale, or of one for 16 elements, to 32-bit floats, reference. Every
 * product and sum is rounded on its own, so that all variants agree to the bit. */
#include "kernels/iq_tables.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

enum { HALF = KERN_BLOCK / 2 };

static void dequant_q8_0(float *dst, const void *src, int32_t k)
{
    const struct kern_q8_0 *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < KERN_BLOCK; i++) {
            dst[at + i] = d * (float)b->q[i];
        }
    }
}

static void dequant_q4_0(float *dst, const void *src, int32_t k)
{
    const struct kern_q4_0 *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < HALF; i++) {
            dst[at + i] = d * (float)((b->q[i] & 15) - 8);
            dst[at + HALF + i] = d * (float)((b->q[i] >> 4) - 8);
        }
    }
}

static void dequant_q4_1(float *dst, const void *src, int32_t k)
{
    const struct kern_q4_1 *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        const float m = kern_float_of_f16(kern_load_u16(b->m));

        for (int i = 0; i < HALF; i++) {
            dst[at + i] = d * (float)(b->q[i] & 15) + m;
            dst[at + HALF + i] = d * (float)(b->q[i] >> 4) + m;
        }
    }
}

/* Element i of 32 whose low 4 bits lie in q as in Q4_0 and whose fifth is in h. */
static int five_bits(const uint8_t h[KERN_BLOCK / 8], const uint8_t q[HALF], int i)
{
    const int low = i < HALF ? q[i] & 15 : q[i - HALF] >> 4;

    return low | (h[i / 8] >> i % 8 & 1) << 4;
}

static void dequant_q5_0(float *dst, const void *src, int32_t k)
{
    const struct kern_q5_0 *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < KERN_BLOCK; i++) {
            dst[at + i] = d * (float)(five_bits(b->h, b->q, i) - 16);
        }
    }
}

static void dequant_q5_1(float *dst, const void *src, int32_t k)
{
    const struct kern_q5_1 *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        const float m = kern_float_of_f16(kern_load_u16(b->m));

        for (int i = 0; i < KERN_BLOCK; i++) {
            dst[at + i] = d * (float)five_bits(b->h, b->q, i) + m;
        }
    }
}

static void dequant_iq4_nl(float *dst, const void *src, int32_t k)
{
    const struct kern_iq4_nl *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < HALF; i++) {
            dst[at + i] = d * (float)kern_iq4_levels[b->q[i] & 15];
            dst[at + HALF + i] = d * (float)kern_iq4_levels[b->q[i] >> 4];
        }
    }
}

static void dequant_mxfp4(float *dst, const void *src, int32_t k)
{
    const struct kern_mxfp4 *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const float d = kern_float_of_e8m0_half(b->e);

        for (int i = 0; i < HALF; i++) {
            dst[at + i] = d * (float)kern_e2m1[b->q[i] & 15];
            dst[at + HALF + i] = d * (float)kern_e2m1[b->q[i] >> 4];
        }
    }
}

static void dequant_nvfp4(float *dst, const void *src, int32_t k)
{
    const struct kern_nvfp4 *b = src;

    for (int32_t at = 0; at < k; at += KERN_NVFP4, b++) {
        for (int j = 0; j < KERN_NVFP4 / 16; j++) {
            const float d = kern_float_of_ue4m3_half(b->d[j]);

            for (int i = 0; i < 8; i++) {
                const int pair = b->q[8 * j + i];

                dst[at + 16 * j + i] = d * (float)kern_e2m1[pair & 15];
                dst[at + 16 * j + 8 + i] = d * (float)kern_e2m1[pair >> 4];
            }
        }
    }
}

static void dequant_f8_128(float *dst, const void *src, int32_t k)
{
    const struct kern_f8_128 *b = src;

    for (int32_t at = 0; at < k; at += KERN_F8, b++) {
        const float d = kern_float_at(b->d);

        for (int i = 0; i < KERN_F8; i++) {
            dst[at + i] = d * kern_float_of_e4m3(b->q[i]);
        }
    }
}

void kern_quant_init_ref_plain(struct kern_quant *quant)
{
    quant->dequant[INFER_DTYPE_Q8_0] = dequant_q8_0;
    quant->dequant[INFER_DTYPE_Q4_0] = dequant_q4_0;
    quant->dequant[INFER_DTYPE_Q4_1] = dequant_q4_1;
    quant->dequant[INFER_DTYPE_Q5_0] = dequant_q5_0;
    quant->dequant[INFER_DTYPE_Q5_1] = dequant_q5_1;
    quant->dequant[INFER_DTYPE_IQ4_NL] = dequant_iq4_nl;
    quant->dequant[INFER_DTYPE_MXFP4] = dequant_mxfp4;
    quant->dequant[INFER_DTYPE_NVFP4] = dequant_nvfp4;
    quant->dequant[INFER_DTYPE_F8_128] = dequant_f8_128;
}
