/* Vectors of the KV cache, reference: quantising them, and the rotation of keys. */
#include "kernels/ref/kv_block.h"
#include "kernels/ref/ref.h"

#include <math.h>

static int32_t order_of(float x)
{
    return kern_kv_order((int32_t)kern_bits_of_float(x));
}

static float in_order(int32_t i)
{
    return kern_float_of_bits((uint32_t)kern_kv_order(i));
}

static int code(float v, int low, int high)
{
    const float c = rintf(v);

    return c <= (float)low ? low : c >= (float)high ? high : (int)c;
}

static void block_q8(uint8_t *dst, const float *x, int32_t n)
{
    float amax = 0.0f, d;
    uint16_t half;

    for (int32_t i = 0; i < n; i++) {
        amax = order_of(fabsf(x[i])) > order_of(amax) ? fabsf(x[i]) : amax;
    }
    half = kern_kv_q8_scale(amax);
    d = kern_float_of_f16(half);
    kern_kv_store_half(dst, half);
    for (int32_t i = 0; i < n; i++) {
        const int q = d > 0.0f ? code(x[i] / d, -KERN_KV_Q8_MAX, KERN_KV_Q8_MAX) : 0;

        dst[2 + i] = (uint8_t)(int8_t)q;
    }
}

static void narrow_q8(void *dst, const float *src, int32_t k)
{
    uint8_t *p = dst;

    for (int32_t at = 0; at < k; at += KERN_KV_BLOCK, p += KERN_KV_Q8_BYTES) {
        block_q8(p, src + at, BASE_MIN(k - at, (int32_t)KERN_KV_BLOCK));
    }
}

/* NaN of either sign, and infinities, are outermost. */
static void block_q4(uint8_t *dst, const float *x, int32_t n)
{
    int32_t low = order_of(x[0]), high = low;
    struct kern_kv_q4_scale s;
    float d, m;

    for (int32_t i = 1; i < n; i++) {
        low = BASE_MIN(low, order_of(x[i]));
        high = BASE_MAX(high, order_of(x[i]));
    }
    s = kern_kv_q4_scale(in_order(low), in_order(high));
    d = kern_float_of_f16(s.d);
    m = kern_float_of_f16(s.m);
    kern_kv_store_half(dst, s.d);
    kern_kv_store_half(dst + 2, s.m);
    for (int32_t i = 0; i < n; i += 2) {
        const int even = d > 0.0f ? code((x[i] - m) / d, 0, KERN_KV_Q4_MAX) : 0;
        const int odd = d > 0.0f && i + 1 < n ? code((x[i + 1] - m) / d, 0, KERN_KV_Q4_MAX) : 0;

        dst[4 + i / 2] = (uint8_t)(even | odd << 4);
    }
}

static void narrow_q4(void *dst, const float *src, int32_t k)
{
    uint8_t *p = dst;

    for (int32_t at = 0; at < k; at += KERN_KV_BLOCK, p += KERN_KV_Q4_BYTES) {
        block_q4(p, src + at, BASE_MIN(k - at, (int32_t)KERN_KV_BLOCK));
    }
}

static void narrow_f8(void *dst, const float *src, int32_t k)
{
    uint8_t *p = dst;

    for (int32_t i = 0; i < k; i++) {
        p[i] = kern_e4m3_of_float(src[i]);
    }
}

void kern_narrow_init_ref_kv(struct kern_quant *quant)
{
    quant->narrow[INFER_DTYPE_F8_E4M3] = narrow_f8;
    quant->narrow[INFER_DTYPE_Q8_0] = narrow_q8;
    quant->narrow[INFER_DTYPE_Q4_1] = narrow_q4;
}

/* The fast Walsh-Hadamard transform of one power of two. */
static void transform(float *x, int32_t n)
{
    const float scale = 1.0f / sqrtf((float)n);

    for (int32_t step = 1; step < n; step *= 2) {
        for (int32_t at = 0; at < n; at += 2 * step) {
            float *a = x + at, *b = a + step;

            for (int32_t i = 0; i < step; i++) {
                const float sum = a[i] + b[i], difference = a[i] - b[i];

                a[i] = sum;
                b[i] = difference;
            }
        }
    }
    for (int32_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}

void kern_rotate_ref(float *x, int32_t n)
{
    const int32_t power = n & -n;

    for (int32_t at = 0; at < n && power > 1; at += power) {
        transform(x + at, power);
    }
}
