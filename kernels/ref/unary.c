/* Elementwise functions and softmax, reference. */
#include "kernels/ref/ref.h"

#include <math.h>

static void silu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const double g = (double)gate[i];

        y[i] = (float)(g / (1.0 + exp(-g)) * (double)up[i]);
    }
}

static void add(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

/* Every entry of y becomes `value`. */
static void fill(float *y, float value, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = value;
    }
}

static float softmax(float *y, const float *x, float scale, int32_t n)
{
    double max = -INFINITY;
    double sum = 0.0;

    for (int32_t i = 0; i < n; i++) {
        const double s = (double)(x[i] * scale);

        if (isnan(s) || s == (double)INFINITY) {
            fill(y, NAN, n);
            return NAN;
        }
        max = fmax(max, s);
    }
    if (max == (double)-INFINITY) {
        fill(y, 0.0f, n);
        return -INFINITY;
    }
    for (int32_t i = 0; i < n; i++) {
        sum += exp((double)(x[i] * scale) - max);
    }
    for (int32_t i = 0; i < n; i++) {
        y[i] = (float)(exp((double)(x[i] * scale) - max) / sum);
    }
    return (float)(max + log(sum));
}

void kern_unary_init_ref(struct kern_unary *unary)
{
    unary->silu_mul = silu_mul;
    unary->add = add;
    unary->softmax = softmax;
}
