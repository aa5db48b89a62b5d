/* Estimates from codes of few bits on 64-bit Arm: with products of four bytes where the compiler
 * may use them, else by pairs. */
#ifndef KERNELS_CPU_VECTOR_CODE_NEON_H
#define KERNELS_CPU_VECTOR_CODE_NEON_H

#include "kernels/cpu/init.h"
#include "kernels/cpu/vector_bytes_neon.h"

KERN_INLINE float code_finish(const struct kern_vector_estimate *args, const uint8_t *code,
                              int32_t sum)
{
    float scale, base;

    memcpy(&scale, code + args->scale_at, sizeof(scale));
    memcpy(&base, code + args->base_at, sizeof(base));
    return scale * (args->scale * (float)sum - args->shift) + base;
}

/* A quarter of a block. Fields are below 128: they are signed bytes as well. */
KERN_INLINE bi code_quarter(bi sum, const uint8_t *code, const int8_t *query, int32_t bits)
{
    const uint8x16_t mask = vdupq_n_u8((uint8_t)((1 << bits) - 1)), x = vld1q_u8(code);

    for (int32_t j = 0; j < 8 / bits; j++) {
        const uint8x16_t field = vandq_u8(vshlq_u8(x, vdupq_n_s8((int8_t)(-j * bits))), mask);

        sum = bi_dot(sum, vreinterpretq_s8_u8(field), bv_load(query + j * 64));
    }
    return sum;
}

KERN_INLINE void code_estimate(float *out, const void *const *codes, int32_t n,
                               const struct kern_vector_estimate *args, int32_t bits)
{
    for (int32_t i = 0; i < n; i++) {
        const uint8_t *code = codes[i];
        const int8_t *query = args->query;
        bi a = bi_zero(), b = a, c = a, d = a;

        for (int32_t at = 0; at < args->n_blocks * 64; at += 64) {
            a = code_quarter(a, code + at, query, bits);
            b = code_quarter(b, code + at + 16, query + 16, bits);
            c = code_quarter(c, code + at + 32, query + 32, bits);
            d = code_quarter(d, code + at + 48, query + 48, bits);
            query += 64 * (8 / bits);
        }
        out[i] = code_finish(args, code, bi_sum(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d))));
    }
}

static void estimate2(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    code_estimate(out, codes, n, args, 2);
}

static void estimate4(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    code_estimate(out, codes, n, args, 4);
}

static void estimate8(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    code_estimate(out, codes, n, args, 8);
}

#endif
