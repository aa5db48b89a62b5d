/* Estimates from codes of few bits, and the rotation before coding; reference. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

static void estimate(float *out, const void *const *codes, int32_t n,
                     const struct kern_vector_estimate *args, int32_t bits)
{
    const int32_t fields = 8 / bits, mask = (1 << bits) - 1;

    for (int32_t i = 0; i < n; i++) {
        const uint8_t *code = codes[i];
        float scale, base;
        int32_t sum = 0;

        for (int32_t b = 0; b < args->n_blocks; b++) {
            for (int32_t j = 0; j < fields; j++) {
                const int8_t *query = args->query + (size_t)(b * fields + j) * 64;

                for (int32_t t = 0; t < 64; t++) {
                    sum += (code[b * 64 + t] >> j * bits & mask) * query[t];
                }
            }
        }
        memcpy(&scale, code + args->scale_at, sizeof(scale));
        memcpy(&base, code + args->base_at, sizeof(base));
        out[i] = scale * (args->scale * (float)sum - args->shift) + base;
    }
}

static void estimate2(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    estimate(out, codes, n, args, 2);
}

static void estimate4(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    estimate(out, codes, n, args, 4);
}

static void estimate8(float *out, const void *const *codes, int32_t n,
                      const struct kern_vector_estimate *args)
{
    estimate(out, codes, n, args, 8);
}

static void hadamard(float *x, int32_t n)
{
    const float scale = (float)(1.0 / sqrt((double)n));

    for (int32_t h = 1; h < n; h *= 2) {
        for (int32_t i = 0; i < n; i += 2 * h) {
            for (int32_t j = i; j < i + h; j++) {
                const float a = x[j], b = x[j + h];

                x[j] = a + b;
                x[j + h] = a - b;
            }
        }
    }
    for (int32_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}

static void rotate(float *x, const float *signs, int32_t n)
{
    int32_t part = 1;

    while (part * 2 <= n) {
        part *= 2;
    }
    for (int32_t round = 0; round < KERN_VECTOR_ROUNDS; round++) {
        for (int32_t i = 0; i < n; i++) {
            x[i] *= signs[(size_t)round * (size_t)n + (size_t)i];
        }
        hadamard(round % 2 ? x + (n - part) : x, part);
    }
}

void kern_vector_code_init_ref(struct kern_vector *vector)
{
    vector->estimate2 = estimate2;
    vector->estimate4 = estimate4;
    vector->estimate8 = estimate8;
    vector->rotate = rotate;
}
