/* Rotary position embedding, reference (Su et al., arXiv:2104.09864). */
#include "kernels/ref/ref.h"

static void rotate(float *a, float *b, float cos_t, float sin_t)
{
    const double x = (double)*a;
    const double y = (double)*b;

    *a = (float)(x * (double)cos_t - y * (double)sin_t);
    *b = (float)(x * (double)sin_t + y * (double)cos_t);
}

static void pairs(float *x, int32_t n_heads, int32_t head_dim, int32_t n_rot, const float *cs)
{
    const int32_t half = n_rot / 2;

    for (int32_t h = 0; h < n_heads; h++) {
        float *head = x + (size_t)h * (size_t)head_dim;

        for (int32_t i = 0; i < half; i++) {
            rotate(&head[2 * i], &head[2 * i + 1], cs[i], cs[half + i]);
        }
    }
}

static void halves(float *x, int32_t n_heads, int32_t head_dim, int32_t n_rot, const float *cs)
{
    const int32_t half = n_rot / 2;

    for (int32_t h = 0; h < n_heads; h++) {
        float *head = x + (size_t)h * (size_t)head_dim;

        for (int32_t i = 0; i < half; i++) {
            rotate(&head[i], &head[half + i], cs[i], cs[half + i]);
        }
    }
}

void kern_rope_init_ref(struct kern_rope *rope)
{
    rope->pairs = pairs;
    rope->halves = halves;
}
