/* Template: floats to quantised vectors of the KV cache, over the same words as quant_tmpl.h. */
#include "kernels/ref/kv_block.h"

KERN_INLINE vi kv_order(vf x)
{
    const vi bits = vi_bits(x);

    return vi_xor(bits, vi_and(vi_sar(bits, 31), vi_set1(0x7fffffff)));
}

KERN_INLINE float kv_in_order(int32_t i)
{
    return kern_float_of_bits((uint32_t)kern_kv_order(i));
}

KERN_INLINE vi kv_clamp(vi q, int32_t low, int32_t high)
{
    const vi top = vi_set1(high);

    return vi_max(vi_select_gt(q, top, top, q), vi_set1(low));
}

/* 32 elements at a time; those beyond the last are copies of a block's first. */
KERN_INLINE const float *kv_block(const float *src, int32_t n, float padded[KERN_KV_BLOCK])
{
    if (n >= KERN_KV_BLOCK) {
        return src;
    }
    for (int32_t i = 0; i < KERN_KV_BLOCK; i++) {
        padded[i] = src[i < n ? i : 0];
    }
    return padded;
}

static void narrow_kv_q8(void *dst, const float *src, int32_t k)
{
    uint8_t *p = dst;

    for (int32_t at = 0; at < k; at += KERN_KV_BLOCK, p += KERN_KV_Q8_BYTES) {
        const int32_t n = BASE_MIN(k - at, (int32_t)KERN_KV_BLOCK);
        float padded[KERN_KV_BLOCK];
        int8_t q[KERN_KV_BLOCK] = {0};
        const float *x = kv_block(src + at, n, padded);
        const vf x0 = vf_load(x), x1 = vf_load(x + 16);
        const vi unsign = vi_set1(0x7fffffff);
        const int32_t top =
            vi_reduce_max(vi_max(vi_and(vi_bits(x0), unsign), vi_and(vi_bits(x1), unsign)));
        const uint16_t half = kern_kv_q8_scale(kern_float_of_bits((uint32_t)top));
        const float d = kern_float_of_f16(half);

        if (d > 0.0f) {
            const vf step = vf_set1(d);

            vi_store_s8(q,
                        kv_clamp(vi_of_float(vf_div(x0, step)), -KERN_KV_Q8_MAX, KERN_KV_Q8_MAX));
            vi_store_s8(q + 16,
                        kv_clamp(vi_of_float(vf_div(x1, step)), -KERN_KV_Q8_MAX, KERN_KV_Q8_MAX));
        }
        kern_kv_store_half(p, half);
        memcpy(p + 2, q, (size_t)n);
    }
}

/* The odd element that a vector lacks has the code 0. */
KERN_INLINE void kv_pack(uint8_t *dst, const int8_t *q, int32_t n)
{
    for (int32_t i = 0; i < n / 2; i++) {
        dst[i] = (uint8_t)(q[2 * i] | q[2 * i + 1] << 4);
    }
    if (n % 2) {
        dst[n / 2] = (uint8_t)q[n - 1];
    }
}

static void narrow_kv_q4(void *dst, const float *src, int32_t k)
{
    uint8_t *p = dst;

    for (int32_t at = 0; at < k; at += KERN_KV_BLOCK, p += KERN_KV_Q4_BYTES) {
        const int32_t n = BASE_MIN(k - at, (int32_t)KERN_KV_BLOCK);
        float padded[KERN_KV_BLOCK];
        int8_t q[KERN_KV_BLOCK] = {0};
        const float *x = kv_block(src + at, n, padded);
        const vf x0 = vf_load(x), x1 = vf_load(x + 16);
        const vi o0 = kv_order(x0), o1 = kv_order(x1), flip = vi_set1(-1);
        const int32_t low = ~vi_reduce_max(vi_max(vi_xor(o0, flip), vi_xor(o1, flip)));
        const struct kern_kv_q4_scale s =
            kern_kv_q4_scale(kv_in_order(low), kv_in_order(vi_reduce_max(vi_max(o0, o1))));
        const float d = kern_float_of_f16(s.d);

        if (d > 0.0f) {
            const vf step = vf_set1(d), m = vf_set1(kern_float_of_f16(s.m));

            vi_store_s8(q, kv_clamp(vi_of_float(vf_div(vf_sub(x0, m), step)), 0, KERN_KV_Q4_MAX));
            vi_store_s8(q + 16,
                        kv_clamp(vi_of_float(vf_div(vf_sub(x1, m), step)), 0, KERN_KV_Q4_MAX));
        }
        kern_kv_store_half(p, s.d);
        kern_kv_store_half(p + 2, s.m);
        kv_pack(p + 4, q, n);
    }
}

/* Without branches, so that the compiler takes as many at a time as there are lanes. */
static void narrow_kv_f8(void *dst, const float *src, int32_t k)
{
    uint8_t *restrict p = dst;

    for (int32_t i = 0; i < k; i++) {
        p[i] = kern_e4m3_of_float(src[i]);
    }
}
