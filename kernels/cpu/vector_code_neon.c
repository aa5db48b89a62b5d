/* Estimates from codes of few bits, and the rotation before coding, NEON. */
#include "kernels/cpu/vector_code_neon.h"

#include <math.h>

/* -------------------------------------------------------------- rotation */

/* Sums and differences of neighbours, and of pairs, in a register. */
KERN_INLINE float32x4_t hadamard4(float32x4_t x)
{
    float32x4_t a = vtrn1q_f32(x, x), b = vtrn2q_f32(x, x);

    x = vtrn1q_f32(vaddq_f32(a, b), vsubq_f32(a, b));
    a = vcombine_f32(vget_low_f32(x), vget_low_f32(x));
    b = vcombine_f32(vget_high_f32(x), vget_high_f32(x));
    return vcombine_f32(vget_low_f32(vaddq_f32(a, b)), vget_low_f32(vsubq_f32(a, b)));
}

static void hadamard(float *x, int32_t n) /* n a power of two, 4 at least */
{
    const float scale = (float)(1.0 / sqrt((double)n));

    for (int32_t i = 0; i < n; i += 4) {
        vst1q_f32(x + i, hadamard4(vld1q_f32(x + i)));
    }
    for (int32_t h = 4; h < n; h *= 2) {
        for (int32_t i = 0; i < n; i += 2 * h) {
            for (int32_t j = i; j < i + h; j += 4) {
                const float32x4_t a = vld1q_f32(x + j), b = vld1q_f32(x + j + h);

                vst1q_f32(x + j, vaddq_f32(a, b));
                vst1q_f32(x + j + h, vsubq_f32(a, b));
            }
        }
    }
    for (int32_t i = 0; i < n; i += 4) {
        vst1q_f32(x + i, vmulq_n_f32(vld1q_f32(x + i), scale));
    }
}

static void rotate(float *x, const float *signs, int32_t n)
{
    int32_t part = 16;

    while (part * 2 <= n) {
        part *= 2;
    }
    for (int32_t round = 0; round < KERN_VECTOR_ROUNDS; round++) {
        for (int32_t i = 0; i < n; i += 4) {
            vst1q_f32(x + i, vmulq_f32(vld1q_f32(x + i), vld1q_f32(signs + i)));
        }
        signs += n;
        hadamard(round % 2 ? x + (n - part) : x, part);
    }
}

void kern_vector_code_init_neon(struct kern_vector *vector)
{
    vector->estimate2 = estimate2;
    vector->estimate4 = estimate4;
    vector->estimate8 = estimate8;
    vector->rotate = rotate;
}
