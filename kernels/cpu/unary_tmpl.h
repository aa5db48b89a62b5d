/* Elementwise functions and softmax over the words of reg_<isa>.h. */
#include "kernels/cpu/init.h"

#include <math.h>

/* Every loop below takes whole vectors, then what is left with the same
 * arithmetic: where an element stands does not change its value. */

typedef reg gate_fn(reg g);

KERN_INLINE void gate_part(float *y, const float *gate, const float *up, int32_t n, gate_fn *f)
{
    const reg g = f(reg_load_part(gate, n));

    reg_store_part(y, n, up ? reg_mul(g, reg_load_part(up, n)) : g);
}

KERN_INLINE void gate_row(float *y, const float *gate, const float *up, int32_t n, gate_fn *f)
{
    const int32_t whole = n / REG * REG;

    for (int32_t i = 0; i < whole; i += REG) {
        gate_part(y + i, gate + i, up ? up + i : NULL, REG, f);
    }
    if (whole < n) {
        gate_part(y + whole, gate + whole, up ? up + whole : NULL, n - whole, f);
    }
}

static void silu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, reg_silu);
}

static void gelu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, reg_gelu);
}

/* g / (1 + exp(-2 sqrt(2 / pi) (g + 0.044715 g^3))) */
KERN_INLINE reg gelu_tanh(reg g)
{
    const reg cubic = reg_fma(reg_mul(g, g), reg_set1(-0x1.2444f2p-4f), reg_set1(-0x1.988454p+0f));

    return reg_div(g, reg_add(reg_set1(1.0f), reg_exp(reg_mul(cubic, g))));
}

static void gelu_tanh_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, gelu_tanh);
}

KERN_INLINE reg relu(reg g)
{
    return reg_max(reg_zero(), g); /* NaN stays */
}

KERN_INLINE reg relu2(reg g)
{
    return reg_mul(relu(g), relu(g));
}

static void relu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, relu);
}

static void relu2_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, relu2);
}

KERN_INLINE reg sigmoid(reg g)
{
    const reg one = reg_set1(1.0f);

    return reg_div(one, reg_add(one, reg_exp(reg_sub(reg_zero(), g))));
}

static void sigmoid_mul(float *y, const float *gate, const float *up, int32_t n)
{
    gate_row(y, gate, up, n, sigmoid);
}

KERN_INLINE void swiglu_oai_part(float *y, const float *gate, const float *up, int32_t n)
{
    const reg seven = reg_set1(7.0f);
    const reg g = reg_min(seven, reg_load_part(gate, n));
    const reg u = reg_max(reg_set1(-7.0f), reg_min(seven, reg_load_part(up, n)));
    const reg e = reg_exp(reg_mul(g, reg_set1(-1.702f)));
    const reg one = reg_set1(1.0f);

    reg_store_part(y, n, reg_mul(reg_div(g, reg_add(one, e)), reg_add(u, one)));
}

static void swiglu_oai(float *y, const float *gate, const float *up, int32_t n)
{
    const int32_t whole = n / REG * REG;

    for (int32_t i = 0; i < whole; i += REG) {
        swiglu_oai_part(y + i, gate + i, up + i, REG);
    }
    if (whole < n) {
        swiglu_oai_part(y + whole, gate + whole, up + whole, n - whole);
    }
}

KERN_INLINE void axpy_part(float *y, reg a, const float *x, int32_t n)
{
    reg_store_part(y, n, reg_fma(a, reg_load_part(x, n), reg_load_part(y, n)));
}

static void axpy(float *y, float a, const float *x, int32_t n)
{
    const int32_t whole = n / REG * REG;

    for (int32_t i = 0; i < whole; i += REG) {
        axpy_part(y + i, reg_set1(a), x + i, REG);
    }
    if (whole < n) {
        axpy_part(y + whole, reg_set1(a), x + whole, n - whole);
    }
}

KERN_INLINE void softcap_part(float *y, const float *x, reg cap, int32_t n)
{
    reg_store_part(y, n, reg_mul(cap, reg_tanh(reg_div(reg_load_part(x, n), cap))));
}

static void softcap(float *y, const float *x, float cap, int32_t n)
{
    const int32_t whole = n / REG * REG;

    for (int32_t i = 0; i < whole; i += REG) {
        softcap_part(y + i, x + i, reg_set1(cap), REG);
    }
    if (whole < n) {
        softcap_part(y + whole, x + whole, reg_set1(cap), n - whole);
    }
}

KERN_INLINE void add_part(float *y, const float *x, int32_t n)
{
    reg_store_part(y, n, reg_add(reg_load_part(y, n), reg_load_part(x, n)));
}

static void add(float *y, const float *x, int32_t n)
{
    const int32_t whole = n / REG * REG;

    for (int32_t i = 0; i < whole; i += REG) {
        add_part(y + i, x + i, REG);
    }
    if (whole < n) {
        add_part(y + whole, x + whole, n - whole);
    }
}

/* n entries of the scaled row, -infinity in the lanes after them. */
KERN_INLINE reg scaled(const float *x, reg scale, int32_t n)
{
    const reg s = reg_mul(reg_load_part(x, n), scale);

    return n == REG ? s : reg_keep(s, 0, n, reg_set1(-INFINITY));
}

/* Largest entry of the scaled row; NaN is passed over. */
static float scaled_max(const float *x, reg scale, int32_t n)
{
    const int32_t whole = n / REG * REG;
    reg max = reg_set1(-INFINITY);

    for (int32_t i = 0; i < whole; i += REG) {
        max = reg_max(scaled(x + i, scale, REG), max);
    }
    if (whole < n) {
        max = reg_max(scaled(x + whole, scale, n - whole), max);
    }
    return reg_max_all(max);
}

KERN_INLINE void weigh_part(float *y, const float *x, reg scale, reg max, struct reg_total *sum,
                            int32_t n)
{
    const reg weight = reg_exp(reg_sub(scaled(x, scale, n), max));

    reg_total_add(sum, weight);
    reg_store_part(y, n, weight);
}

/* A row without any finite entry: all weights 0, or NaN if there is one. */
static float softmax_empty(float *y, const float *x, float scale, int32_t n)
{
    float value = 0.0f;

    for (int32_t i = 0; i < n; i++) {
        value = isnan(x[i] * scale) ? NAN : value;
    }
    for (int32_t i = 0; i < n; i++) {
        y[i] = value;
    }
    return isnan(value) ? NAN : -INFINITY;
}

/* NaN or +infinity in the row make the sum, and with it every entry, NaN. */
static float softmax(float *y, const float *x, float scale, int32_t n)
{
    const int32_t whole = n / REG * REG;
    const reg scales = reg_set1(scale);
    const float max = scaled_max(x, scales, n);
    struct reg_total sum = reg_total_zero();
    double total;
    reg shrink;

    if (max == -INFINITY) {
        return softmax_empty(y, x, scale, n);
    }
    for (int32_t i = 0; i < whole; i += REG) {
        weigh_part(y + i, x + i, scales, reg_set1(max), &sum, REG);
    }
    if (whole < n) {
        weigh_part(y + whole, x + whole, scales, reg_set1(max), &sum, n - whole);
    }
    total = reg_total_value(sum);
    shrink = reg_set1((float)(1.0 / total));
    for (int32_t i = 0; i < whole; i += REG) {
        reg_store(y + i, reg_mul(reg_load(y + i), shrink));
    }
    if (whole < n) {
        reg_store_part(y + whole, n - whole, reg_mul(reg_load_part(y + whole, n - whole), shrink));
    }
    return (float)((double)max + log(total));
}
