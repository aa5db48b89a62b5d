/* Between 32-bit floats and the stored types, reference. Every product and
 * difference is rounded on its own, so that all variants agree to the bit. */
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* -------------------------------------------------------- stored to float */

static void dequant_f32(float *dst, const void *src, int32_t k)
{
    memcpy(dst, src, (size_t)k * sizeof(*dst));
}

static void dequant_f16(float *dst, const void *src, int32_t k)
{
    const uint8_t *p = src;

    for (int32_t i = 0; i < k; i++) {
        dst[i] = kern_float_of_f16(kern_load_u16(p + 2 * (size_t)i));
    }
}

static void dequant_bf16(float *dst, const void *src, int32_t k)
{
    const uint8_t *p = src;

    for (int32_t i = 0; i < k; i++) {
        dst[i] = kern_float_of_bf16(kern_load_u16(p + 2 * (size_t)i));
    }
}

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

        for (int i = 0; i < KERN_BLOCK / 2; i++) {
            dst[at + i] = d * (float)((b->q[i] & 15) - 8);
            dst[at + KERN_BLOCK / 2 + i] = d * (float)((b->q[i] >> 4) - 8);
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

/* -------------------------------------------------------- float to stored */

static void narrow_f32(void *dst, const float *src, int32_t k)
{
    memcpy(dst, src, (size_t)k * sizeof(*src));
}

static void store_u16(uint8_t *dst, uint16_t v)
{
    memcpy(dst, &v, sizeof(v));
}

static void narrow_f16(void *dst, const float *src, int32_t k)
{
    uint8_t *p = dst;

    for (int32_t i = 0; i < k; i++) {
        store_u16(p + 2 * (size_t)i, kern_f16_of_float(src[i]));
    }
}

static void narrow_bf16(void *dst, const float *src, int32_t k)
{
    uint8_t *p = dst;

    for (int32_t i = 0; i < k; i++) {
        store_u16(p + 2 * (size_t)i, kern_bf16_of_float(src[i]));
    }
}

/* One block of 32; q of a block that is all zero, or not finite, is 0. */
static float act_q8_block(int8_t *q, const float *src)
{
    float amax = 0.0f;

    memset(q, 0, KERN_BLOCK);
    for (int i = 0; i < KERN_BLOCK; i++) {
        if (!isfinite(src[i])) {
            return kern_float_of_bits(0x7fc00000u);
        }
        amax = fmaxf(amax, fabsf(src[i]));
    }
    if (amax == 0.0f) {
        return 0.0f;
    }
    for (int i = 0; i < KERN_BLOCK; i++) {
        q[i] = (int8_t)rintf(src[i] / amax * 127.0f);
    }
    return amax / 127.0f;
}

static void act_q8(void *dst, const float *src, int32_t k)
{
    int8_t *q = dst;
    float *d = (float *)(void *)(q + k);
    int16_t *s = (int16_t *)(void *)(d + k / KERN_BLOCK);

    for (int32_t b = 0; b < k / KERN_BLOCK; b++) {
        d[b] = act_q8_block(q + b * KERN_BLOCK, src + b * KERN_BLOCK);
    }
    for (int32_t j = 0; j < k / 16; j++) {
        int sum = 0;

        for (int i = 0; i < 16; i++) {
            sum += q[j * 16 + i];
        }
        s[j] = (int16_t)sum;
    }
}

void kern_quant_init_ref(struct kern_quant *quant)
{
    quant->dequant[INFER_DTYPE_F32] = dequant_f32;
    quant->dequant[INFER_DTYPE_F16] = dequant_f16;
    quant->dequant[INFER_DTYPE_BF16] = dequant_bf16;
    quant->dequant[INFER_DTYPE_Q8_0] = dequant_q8_0;
    quant->dequant[INFER_DTYPE_Q4_0] = dequant_q4_0;
    quant->dequant[INFER_DTYPE_Q4_K] = dequant_q4_k;
    quant->dequant[INFER_DTYPE_Q6_K] = dequant_q6_k;
    quant->narrow[INFER_DTYPE_F32] = narrow_f32;
    quant->narrow[INFER_DTYPE_F16] = narrow_f16;
    quant->narrow[INFER_DTYPE_BF16] = narrow_bf16;
    quant->act_q8 = act_q8;
}
