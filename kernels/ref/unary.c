/* Elementwise functions and softmax, reference. */
#include "kernels/ref/ref.h"

#include <math.h>

/* ------------------------------------------------------------------ gates */

typedef double gate_fn(double g);

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double silu(double g)
{
    return g / (1.0 + exp(-g));
}

/* 1 + erf(x) as erfc(-x), which loses no digits where erf is near -1. */
static double gelu(double g)
{
    return g / 2.0 * erfc(-g / sqrt(2.0));
}

/* (1 + tanh(u)) / 2 is the sigmoid of 2 u, which loses no digits either. */
static double gelu_tanh(double g)
{
    return g / (1.0 + exp(-2.0 * sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g)));
}

static double relu(double g)
{
    return g <= 0.0 ? 0.0 : g; /* NaN stays */
}

static double relu2(double g)
{
    return relu(g) * relu(g);
}

static void gate_row(float *y, const float *gate, const float *up, int32_t n, gate_fn *f)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = (float)(f((double)gate[i]) * (up ? (double)up[i] : 1.0));
    }
}

static void silu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, silu);
}

static void gelu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, gelu);
}

static void gelu_tanh_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, gelu_tanh);
}

static void relu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, relu);
}

static void relu2_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, relu2);
}

static void sigmoid_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, sigmoid);
}

static void swiglu_oai(float *y, const float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const double g = gate[i] > 7.0f ? 7.0 : (double)gate[i];
        const double u = up[i] > 7.0f ? 7.0 : up[i] < -7.0f ? -7.0 : (double)up[i];

        y[i] = (float)(g / (1.0 + exp(-(double)1.702f * g)) * (u + 1.0));
    }
}

/* ------------------------------------------------------------------- rows */

static void axpy(float *y, float a, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = (float)((double)y[i] + (double)a * (double)x[i]);
    }
}

static void softcap(float *y, const float *x, float cap, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = (float)((double)cap * tanh((double)x[i] / (double)cap));
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
    unary->gelu_mul = gelu_mul;
    unary->gelu_tanh_mul = gelu_tanh_mul;
    unary->relu_mul = relu_mul;
    unary->relu2_mul = relu2_mul;
    unary->sigmoid_mul = sigmoid_mul;
    unary->swiglu_oai = swiglu_oai;
    unary->axpy = axpy;
    unary->softcap = softcap;
    unary->add = add;
    unary->softmax = softmax;
}
