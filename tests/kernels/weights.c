/* Weights of every element type for the checks of products and conversions. */
#include "weights.h"

#include "kernels/quant_blocks.h"

#include <string.h>

struct weights_type weights_type_of(infer_dtype dtype)
{
#define QUANT(name, type, elements) {INFER_DTYPE_##name, elements, sizeof(type)},
    static const struct weights_type types[] = {
        {INFER_DTYPE_F32, 1, 4},     {INFER_DTYPE_F16, 1, 2},
        {INFER_DTYPE_BF16, 1, 2},    {INFER_DTYPE_F8_E4M3, 1, 1},
        {INFER_DTYPE_F8_E5M2, 1, 1}, {INFER_DTYPE_F8_128, KERN_F8, sizeof(struct kern_f8_128)},
        KERN_QUANT_LIST(QUANT)};
    size_t i = 0;

    while (types[i].dtype != dtype) {
        i++;
    }
    return types[i];
}

size_t weights_bytes(infer_dtype dtype, int32_t k)
{
    const struct weights_type t = weights_type_of(dtype);

    return (size_t)(k / t.block) * t.bytes;
}

/* Where the halves of a block lie, and powers of two that give weights of about 1. */
struct halves {
    infer_dtype dtype;
    size_t d;
    int d_exponent;
    size_t m; /* equal to d: there is no other */
    int m_exponent;
};

#define ONE_HALF(name, type, exponent)                                                             \
    {                                                                                              \
        INFER_DTYPE_##name, offsetof(struct type, d), exponent, offsetof(struct type, d), 0        \
    }
#define TWO_HALVES(name, type, exponent, second, second_exponent)                                  \
    {                                                                                              \
        INFER_DTYPE_##name, offsetof(struct type, d), exponent, offsetof(struct type, second),     \
            second_exponent                                                                        \
    }

static const struct halves *halves_of(infer_dtype dtype)
{
    static const struct halves all[] = {
        ONE_HALF(Q8_0, kern_q8_0, -7),
        ONE_HALF(Q4_0, kern_q4_0, -3),
        TWO_HALVES(Q4_1, kern_q4_1, -4, m, -1),
        ONE_HALF(Q5_0, kern_q5_0, -4),
        TWO_HALVES(Q5_1, kern_q5_1, -5, m, -1),
        TWO_HALVES(Q2_K, kern_q2_k, -5, dmin, -4),
        ONE_HALF(Q3_K, kern_q3_k, -7),
        TWO_HALVES(Q4_K, kern_q4_k, -9, dmin, -6),
        TWO_HALVES(Q5_K, kern_q5_k, -10, dmin, -6),
        ONE_HALF(Q6_K, kern_q6_k, -12),
        ONE_HALF(IQ4_NL, kern_iq4_nl, -7),
        ONE_HALF(IQ4_XS, kern_iq4_xs, -12),
        ONE_HALF(IQ3_XXS, kern_iq3_xxs, -9),
        ONE_HALF(IQ3_S, kern_iq3_s, -9),
        ONE_HALF(IQ2_XXS, kern_iq2_xxs, -8),
        ONE_HALF(IQ2_XS, kern_iq2_xs, -8),
        ONE_HALF(IQ2_S, kern_iq2_s, -8),
        ONE_HALF(IQ1_S, kern_iq1_s, -4),
        ONE_HALF(TQ1_0, kern_tq1_0, -1),
        ONE_HALF(TQ2_0, kern_tq2_0, -1),
    };

    for (size_t i = 0; i < BASE_COUNT(all); i++) {
        if (all[i].dtype == dtype) {
            return &all[i];
        }
    }
    return NULL;
}

static void store_half(uint8_t *p, uint16_t h)
{
    memcpy(p, &h, sizeof(h));
}

/* A half of random sign and `low` .. 2 * `low` in size, low a power of two. */
static uint16_t random_half(struct check *c, int low_exponent)
{
    return (uint16_t)((check_u32(c) & 0x83ffu) | (uint32_t)(low_exponent + 15) << 10);
}

/* The half whose four bits each are the top bits of four numbers. */
static void store_iq1_m_scale(struct kern_iq1_m *b, uint16_t h)
{
    for (int i = 0; i < 4; i++) {
        b->scales[2 * i + 1] = (uint8_t)((b->scales[2 * i + 1] & 15) | (h >> 4 * i & 15) << 4);
    }
}

/* Element or block i: what all bits at random would make too large. */
static void calm(struct check *c, uint8_t *p, infer_dtype dtype)
{
    const struct halves *h = halves_of(dtype);
    const float f = check_uniform(c, -1.5f, 1.5f);

    if (h) {
        store_half(p + h->d, random_half(c, h->d_exponent));
        if (h->m != h->d) {
            store_half(p + h->m, random_half(c, h->m_exponent));
        }
    } else if (dtype == INFER_DTYPE_F32) {
        memcpy(p, &f, 4);
    } else if (dtype == INFER_DTYPE_BF16) {
        memcpy(p, (const char *)&f + 2, 2);
    } else if (dtype == INFER_DTYPE_F16) {
        store_half(p, random_half(c, 0));
    } else if (dtype == INFER_DTYPE_IQ1_M) {
        store_iq1_m_scale((void *)p, random_half(c, -4));
    } else if (dtype == INFER_DTYPE_MXFP4) {
        *p = (uint8_t)check_range(c, 120, 125);
    } else if (dtype == INFER_DTYPE_NVFP4) {
        for (int i = 0; i < KERN_NVFP4 / 16; i++) {
            p[i] = (uint8_t)check_range(c, 0, 0x28);
        }
    } else if (dtype == INFER_DTYPE_F8_128) { /* scales from 2^-8 to 2^-7, of numbers up to 448 */
        const float d = check_uniform(c, 0x1p-8f, 0x1p-7f);

        memcpy(p, &d, sizeof(d));
        for (int i = 0; i < KERN_F8; i++) {
            p[sizeof(d) + i] &= (p[sizeof(d) + i] & 0x7f) == 0x7f ? 0xfe : 0xff;
        }
    } else { /* F8: below 2 */
        *p &= 0xbf;
    }
}

void weights_fill(struct check *c, uint8_t *w, int32_t k, int fill)
{
    const struct weights_type t = weights_type_of(c->dtype);
    const size_t bytes = weights_bytes(c->dtype, k);

    check_fill_bytes(c, w, bytes);
    if (fill >= 0) {
        memset(w, fill, bytes);
    }
    for (int32_t i = 0; i < k / t.block; i++) {
        calm(c, w + (size_t)i * t.bytes, c->dtype);
    }
}

int weights_poison(struct check *c, uint8_t *w)
{
    const struct halves *h = halves_of(c->dtype);
    const uint32_t nan32 = 0x7fc00000u;

    if (h) {
        store_half(w + (check_u32(c) % 2 ? h->d : h->m), 0x7e00);
        return 1;
    }
    switch (c->dtype) {
    case INFER_DTYPE_F32:
    case INFER_DTYPE_F8_128:
        memcpy(w, &nan32, 4);
        return 1;
    case INFER_DTYPE_F16:
        store_half(w, 0x7e00);
        return 1;
    case INFER_DTYPE_BF16:
        store_half(w, 0x7fc0);
        return 1;
    case INFER_DTYPE_IQ1_M:
        store_iq1_m_scale((void *)w, 0x7e00);
        return 1;
    case INFER_DTYPE_F8_E4M3:
    case INFER_DTYPE_F8_E5M2:
        *w = 0x7f;
        return 1;
    default:
        return 0;
    }
}
