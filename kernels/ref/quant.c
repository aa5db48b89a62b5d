/* Between 32-bit floats and stored floats, and the quantisation of activations, reference. */
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

static void dequant_f8_e4m3(float *dst, const void *src, int32_t k)
{
    const uint8_t *p = src;

    for (int32_t i = 0; i < k; i++) {
        dst[i] = kern_float_of_e4m3(p[i]);
    }
}

static void dequant_f8_e5m2(float *dst, const void *src, int32_t k)
{
    const uint8_t *p = src;

    for (int32_t i = 0; i < k; i++) {
        dst[i] = kern_float_of_e5m2(p[i]);
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

/* One block of n; q of a block that is all zero, or not finite, is 0. */
static float act_block(int8_t *q, const float *src, int32_t n)
{
    float amax = 0.0f;

    memset(q, 0, (size_t)n);
    for (int32_t i = 0; i < n; i++) {
        if (!isfinite(src[i])) {
            return kern_float_of_bits(0x7fc00000u);
        }
        amax = fmaxf(amax, fabsf(src[i]));
    }
    if (amax == 0.0f) {
        return 0.0f;
    }
    for (int32_t i = 0; i < n; i++) {
        q[i] = (int8_t)rintf(src[i] / amax * 127.0f);
    }
    return amax / 127.0f;
}

static void act_q8_part(void *dst, const float *src, int32_t k, int32_t begin, int32_t end)
{
    int8_t *q = dst;
    float *d = (float *)(void *)(q + k);
    int16_t *s = (int16_t *)(void *)(d + k / KERN_BLOCK);

    for (int32_t b = begin / KERN_BLOCK; b < end / KERN_BLOCK; b++) {
        d[b] = act_block(q + b * KERN_BLOCK, src + b * KERN_BLOCK, KERN_BLOCK);
    }
    for (int32_t j = begin / 16; j < end / 16; j++) {
        int sum = 0;

        for (int i = 0; i < 16; i++) {
            sum += q[j * 16 + i];
        }
        s[j] = (int16_t)sum;
    }
}

static void act_q8(void *dst, const float *src, int32_t k)
{
    act_q8_part(dst, src, k, 0, k);
}

static void act_fast(void *dst, const float *src, int32_t k)
{
    const int32_t n_spans = BASE_DIV_UP(k, KERN_FAST_SPAN);
    int8_t *q = dst;
    float *d = (float *)(void *)(q + k);
    int32_t *s = (int32_t *)(void *)(d + n_spans);

    for (int32_t i = 0; i < n_spans; i++) {
        const int32_t at = i * KERN_FAST_SPAN, n = BASE_MIN(KERN_FAST_SPAN, k - at);

        d[i] = act_block(q + at, src + at, n);
        s[i] = 0;
        for (int32_t j = at; j < at + n; j++) {
            s[i] += q[j];
        }
    }
}

void kern_quant_init_ref(struct kern_quant *quant)
{
    quant->dequant[INFER_DTYPE_F32] = dequant_f32;
    quant->dequant[INFER_DTYPE_F16] = dequant_f16;
    quant->dequant[INFER_DTYPE_BF16] = dequant_bf16;
    quant->dequant[INFER_DTYPE_F8_E4M3] = dequant_f8_e4m3;
    quant->dequant[INFER_DTYPE_F8_E5M2] = dequant_f8_e5m2;
    kern_quant_init_ref_plain(quant);
    kern_quant_init_ref_k(quant);
    kern_quant_init_ref_iq(quant);
    kern_quantize_init_ref_plain(quant);
    kern_quantize_init_ref_k(quant);
    kern_narrow_init_ref_kv(quant);
    kern_pack_init_ref(quant);
    quant->narrow[INFER_DTYPE_F32] = narrow_f32;
    quant->narrow[INFER_DTYPE_F16] = narrow_f16;
    quant->narrow[INFER_DTYPE_BF16] = narrow_bf16;
    quant->act_q8 = act_q8;
    quant->act_q8_part = act_q8_part;
    quant->act_fast = act_fast;
}
