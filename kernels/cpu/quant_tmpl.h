/* Template: conversions between floats and stored types, for the vector
 * vocabulary included before (vec_<isa>.h). Products and
 * differences are rounded as the reference rounds them. */
#include "kernels/cpu/init.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"

/* -------------------------------------------------------- stored to float */

/* Runs `step` on 16 elements at a time; the rest passes through a full buffer. */
#define WIDEN(name, type, step)                                                                    \
    static void name(float *dst, const void *src, int32_t k)                                       \
    {                                                                                              \
        const uint8_t *p = (const uint8_t *)src;                                                   \
        int32_t i = 0;                                                                             \
                                                                                                   \
        for (; i + 16 <= k; i += 16) {                                                             \
            vf_store(dst + i, step(p + (size_t)i * sizeof(type)));                                 \
        }                                                                                          \
        if (i < k) {                                                                               \
            const size_t rest = (size_t)(k - i);                                                   \
            type in[16] = {0};                                                                     \
            float out[16];                                                                         \
                                                                                                   \
            memcpy(in, p + (size_t)i * sizeof(type), rest * sizeof(type));                         \
            vf_store(out, step(in));                                                               \
            memcpy(dst + i, out, rest * sizeof(float));                                            \
        }                                                                                          \
    }

WIDEN(dequant_f16, uint16_t, vf_load_f16)
WIDEN(dequant_bf16, uint16_t, vf_load_bf16)
WIDEN(dequant_f8_e4m3, uint8_t, vf_load_e4m3)
WIDEN(dequant_f8_e5m2, uint8_t, vf_load_e5m2)

static void dequant_f8_128(float *dst, const void *src, int32_t k)
{
    const struct kern_f8_128 *b = src;

    for (int32_t at = 0; at < k; at += KERN_F8, b++) {
        const vf d = vf_set1(kern_load_f32(b->d));

        for (int i = 0; i < KERN_F8; i += 16) {
            vf_store(dst + at + i, vf_mul(d, vf_load_e4m3(b->q + i)));
        }
    }
}

static void dequant_q8_0(float *dst, const void *src, int32_t k)
{
    const struct kern_q8_0 *b = src;

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const vf d = vf_set1(kern_float_of_f16(kern_load_u16(b->d)));

        vf_store(dst + at, vf_mul(d, vf_of_int(vi_load_s8(b->q))));
        vf_store(dst + at + 16, vf_mul(d, vf_of_int(vi_load_s8(b->q + 16))));
    }
}

static void dequant_q4_0(float *dst, const void *src, int32_t k)
{
    const struct kern_q4_0 *b = src;
    const vi low = vi_set1(15), eight = vi_set1(8);

    for (int32_t at = 0; at < k; at += KERN_BLOCK, b++) {
        const vf d = vf_set1(kern_float_of_f16(kern_load_u16(b->d)));
        const vi q = vi_load_u8(b->q);

        vf_store(dst + at, vf_mul(d, vf_of_int(vi_sub(vi_and(q, low), eight))));
        vf_store(dst + at + 16, vf_mul(d, vf_of_int(vi_sub(vi_shr(q, 4), eight))));
    }
}

/* Sub-blocks 2 * pair and 2 * pair + 1 of a block. */
static void dequant_q4_k_pair(float *dst, const struct kern_q4_k *b, int pair, float d, float dmin)
{
    const uint8_t *s = b->scales;
    const vi low = vi_set1(15);
    int scale[2], min[2];

    for (int i = 0; i < 2; i++) {
        const int j = 2 * pair + i;

        scale[i] = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
        min[i] = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6 << 4);
    }
    for (int i = 0; i < 32; i += 16) {
        const vi q = vi_load_u8(b->q + 32 * pair + i);
        const vf first = vf_mul(vf_set1(d * (float)scale[0]), vf_of_int(vi_and(q, low)));
        const vf second = vf_mul(vf_set1(d * (float)scale[1]), vf_of_int(vi_shr(q, 4)));

        vf_store(dst + 64 * pair + i, vf_sub(first, vf_set1(dmin * (float)min[0])));
        vf_store(dst + 64 * pair + 32 + i, vf_sub(second, vf_set1(dmin * (float)min[1])));
    }
}

static void dequant_q4_k(float *dst, const void *src, int32_t k)
{
    const struct kern_q4_k *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));
        const float dmin = kern_float_of_f16(kern_load_u16(b->dmin));

        for (int pair = 0; pair < 4; pair++) {
            dequant_q4_k_pair(dst + at, b, pair, d, dmin);
        }
    }
}

/* Elements 16 * i .. 16 * i + 15 of every quarter of a half. */
static void dequant_q6_k_column(float *dst, const struct kern_q6_k *b, int half, int i, float d)
{
    const vi a = vi_load_u8(b->ql + 64 * half + 16 * i);
    const vi c = vi_load_u8(b->ql + 64 * half + 32 + 16 * i);
    const vi h = vi_load_u8(b->qh + 32 * half + 16 * i);
    const vi low = vi_set1(15), high = vi_set1(0x30), middle = vi_set1(32);
    const vi q[4] = {vi_or(vi_and(a, low), vi_and(vi_shl(h, 4), high)),
                     vi_or(vi_and(c, low), vi_and(vi_shl(h, 2), high)),
                     vi_or(vi_shr(a, 4), vi_and(h, high)),
                     vi_or(vi_shr(c, 4), vi_and(vi_shr(h, 2), high))};

    for (int quarter = 0; quarter < 4; quarter++) {
        const vf scale = vf_set1(d * (float)b->scales[8 * half + 2 * quarter + i]);

        vf_store(dst + 128 * half + 32 * quarter + 16 * i,
                 vf_mul(scale, vf_of_int(vi_sub(q[quarter], middle))));
    }
}

static void dequant_q6_k(float *dst, const void *src, int32_t k)
{
    const struct kern_q6_k *b = src;

    for (int32_t at = 0; at < k; at += KERN_SUPER, b++) {
        const float d = kern_float_of_f16(kern_load_u16(b->d));

        for (int i = 0; i < 4; i++) {
            dequant_q6_k_column(dst + at, b, i / 2, i % 2, d);
        }
    }
}

/* -------------------------------------------------------- float to stored */

KERN_INLINE void store_bf16(void *p, vf x)
{
    const vi bits = vi_bits(x);
    const vi odd = vi_and(vi_shr(bits, 16), vi_set1(1));
    const vi rounded = vi_shr(vi_add(vi_add(bits, vi_set1(0x7fff)), odd), 16);
    const vi quiet = vi_or(vi_shr(bits, 16), vi_set1(0x40));
    const vi size = vi_and(bits, vi_set1(0x7fffffff));

    vi_store_u16(p, vi_select_gt(size, vi_set1(0x7f800000), quiet, rounded));
}

#define NARROW(name, step)                                                                         \
    static void name(void *dst, const float *src, int32_t k)                                       \
    {                                                                                              \
        uint8_t *p = (uint8_t *)dst;                                                               \
        int32_t i = 0;                                                                             \
                                                                                                   \
        for (; i + 16 <= k; i += 16) {                                                             \
            step(p + (size_t)i * 2, vf_load(src + i));                                             \
        }                                                                                          \
        if (i < k) {                                                                               \
            const size_t rest = (size_t)(k - i);                                                   \
            float in[16] = {0};                                                                    \
            uint16_t out[16];                                                                      \
                                                                                                   \
            memcpy(in, src + i, rest * sizeof(float));                                             \
            step(out, vf_load(in));                                                                \
            memcpy(p + (size_t)i * 2, out, rest * 2);                                              \
        }                                                                                          \
    }

NARROW(narrow_f16, vf_store_f16)
NARROW(narrow_bf16, store_bf16)

/* Bit patterns of finite floats without their sign are ordered as the floats
 * are, and infinity and NaN lie above all of them. */
static void act_q8_part(void *dst, const float *src, int32_t k, int32_t begin, int32_t end)
{
    int8_t *q = dst;
    float *d = (float *)(void *)(q + k);
    int16_t *s = (int16_t *)(void *)(d + k / KERN_BLOCK);
    const vi unsign = vi_set1(0x7fffffff);

    for (int32_t at = begin; at < end; at += KERN_BLOCK) {
        const vf x0 = vf_load(src + at), x1 = vf_load(src + at + 16);
        const int32_t top =
            vi_reduce_max(vi_max(vi_and(vi_bits(x0), unsign), vi_and(vi_bits(x1), unsign)));
        const float amax = kern_float_of_bits((uint32_t)top);
        vi q0 = vi_zero(), q1 = vi_zero();

        if (top > 0 && top < 0x7f800000) {
            q0 = vi_of_float(vf_mul(vf_div(x0, vf_set1(amax)), vf_set1(127.0f)));
            q1 = vi_of_float(vf_mul(vf_div(x1, vf_set1(amax)), vf_set1(127.0f)));
        }
        vi_store_s8(q + at, q0);
        vi_store_s8(q + at + 16, q1);
        d[at / 32] = top < 0x7f800000 ? amax / 127.0f : kern_float_of_bits(0x7fc00000u);
        s[at / 16] = (int16_t)vi_reduce_add(q0);
        s[at / 16 + 1] = (int16_t)vi_reduce_add(q1);
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

    for (int32_t i = 0, end, at = 0; at < k; i++, at = end) {
        vi top = vi_zero(), sum = vi_zero();
        int32_t bits;
        float amax;

        end = BASE_MIN(at + KERN_FAST_SPAN, k);
        for (int32_t j = at; j < end; j += 16) {
            top = vi_max(top, vi_and(vi_bits(vf_load(src + j)), vi_set1(0x7fffffff)));
        }
        bits = vi_reduce_max(top);
        amax = kern_float_of_bits((uint32_t)bits);
        for (int32_t j = at; j < end; j += 16) {
            vi v = vi_zero();

            if (bits > 0 && bits < 0x7f800000) {
                v = vi_of_float(vf_mul(vf_div(vf_load(src + j), vf_set1(amax)), vf_set1(127.0f)));
            }
            vi_store_s8(q + j, v);
            sum = vi_add(sum, v);
        }
        d[i] = bits < 0x7f800000 ? amax / 127.0f : kern_float_of_bits(0x7fc00000u);
        s[i] = vi_reduce_add(sum);
    }
}

#include "kernels/cpu/quant_kv_tmpl.h"

KERN_INLINE void quant_init(struct kern_quant *quant)
{
    quant->dequant[INFER_DTYPE_F16] = dequant_f16;
    quant->dequant[INFER_DTYPE_BF16] = dequant_bf16;
    quant->dequant[INFER_DTYPE_F8_E4M3] = dequant_f8_e4m3;
    quant->dequant[INFER_DTYPE_F8_E5M2] = dequant_f8_e5m2;
    quant->dequant[INFER_DTYPE_F8_128] = dequant_f8_128;
    quant->dequant[INFER_DTYPE_Q8_0] = dequant_q8_0;
    quant->dequant[INFER_DTYPE_Q4_0] = dequant_q4_0;
    quant->dequant[INFER_DTYPE_Q4_K] = dequant_q4_k;
    quant->dequant[INFER_DTYPE_Q6_K] = dequant_q6_k;
    quant->narrow[INFER_DTYPE_F16] = narrow_f16;
    quant->narrow[INFER_DTYPE_BF16] = narrow_bf16;
    quant->narrow[INFER_DTYPE_Q8_0] = narrow_kv_q8;
    quant->narrow[INFER_DTYPE_Q4_1] = narrow_kv_q4;
    quant->narrow[INFER_DTYPE_F8_E4M3] = narrow_kv_f8;
    quant->act_q8 = act_q8;
    quant->act_q8_part = act_q8_part;
    quant->act_fast = act_fast;
}
