/* Elementwise functions and softmax over the words of reg_<isa>.h. */
#include "kernels/cpu/init.h"

#include <math.h>

/* Every loop below takes whole vectors, then what is left with the same
 * arithmetic: where an element stands does not change its value. */

KERN_INLINE void silu_mul_part(float *y, const float *gate, const float *up, int32_t n)
{
    reg_store_part(y, n, reg_mul(reg_silu(reg_load_part(gate, n)), reg_load_part(up, n)));
}

static void silu_mul(float *y, const float *gate, const float *up, int32_t n)
{
    const int32_t whole = n / REG * REG;

    for (int32_t i = 0; i < whole; i += REG) {
        silu_mul_part(y + i, gate + i, up + i, REG);
    }
    if (whole < n) {
        silu_mul_part(y + whole, gate + whole, up + whole, n - whole);
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
