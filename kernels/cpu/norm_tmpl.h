/* Normalisation over the words of reg_<isa>.h. */
#include "kernels/cpu/init.h"

#include <math.h>

KERN_INLINE void scale_part(float *y, const float *x, const float *w, reg scale, int32_t n)
{
    const reg v = reg_mul(reg_load_part(x, n), scale);

    reg_store_part(y, n, w ? reg_mul(v, reg_load_part(w, n)) : v);
}

/* The squares are summed in double: no row overflows, and the sum is as good as
 * the reference's. */
static void rms(float *y, const float *x, const float *w, int32_t n, float eps)
{
    const int32_t whole = n / REG * REG;
    struct reg_total sum = reg_total_zero();
    reg scale;

    for (int32_t i = 0; i < whole; i += REG) {
        reg_total_add_square(&sum, reg_load(x + i));
    }
    if (whole < n) {
        reg_total_add_square(&sum, reg_load_part(x + whole, n - whole));
    }
    scale = reg_set1((float)(1.0 / sqrt(reg_total_value(sum) / (double)n + (double)eps)));
    for (int32_t i = 0; i < whole; i += REG) {
        scale_part(y + i, x + i, w ? w + i : NULL, scale, REG);
    }
    if (whole < n) {
        scale_part(y + whole, x + whole, w ? w + whole : NULL, scale, n - whole);
    }
}

/* x - mean, the mean in two floats: exact to a rounding where the row is far from 0. */
struct centre {
    reg high, low;
};

KERN_INLINE reg centred(const float *x, struct centre mean, int32_t n)
{
    return reg_sub(reg_sub(reg_load_part(x, n), mean.high), mean.low);
}

KERN_INLINE void add_square(struct reg_total *sum, const float *x, struct centre mean, int32_t n)
{
    const reg d = centred(x, mean, n);

    reg_total_add_square(sum, n == REG ? d : reg_keep(d, 0, n, reg_zero()));
}

KERN_INLINE void layer_part(float *y, const float *x, const float *w, const float *b,
                            struct centre mean, reg scale, int32_t n)
{
    const reg v = reg_mul(centred(x, mean, n), scale);
    const reg weight = w ? reg_load_part(w, n) : reg_set1(1.0f);

    reg_store_part(y, n, reg_fma(v, weight, b ? reg_load_part(b, n) : reg_zero()));
}

static struct centre row_mean(const float *x, int32_t n)
{
    const int32_t whole = n / REG * REG;
    struct reg_total sum = reg_total_zero();
    double mean;

    for (int32_t i = 0; i < whole; i += REG) {
        reg_total_add(&sum, reg_load(x + i));
    }
    if (whole < n) {
        reg_total_add(&sum, reg_load_part(x + whole, n - whole));
    }
    mean = reg_total_value(sum) / (double)n;
    return (struct centre){reg_set1((float)mean), reg_set1((float)(mean - (double)(float)mean))};
}

/* Both sums in double: first the mean, then the squares of what is left. */
static void layer(float *y, const float *x, const float *w, const float *b, int32_t n, float eps)
{
    const int32_t whole = n / REG * REG;
    const struct centre mean = row_mean(x, n);
    struct reg_total sum = reg_total_zero();
    reg scale;

    for (int32_t i = 0; i < whole; i += REG) {
        add_square(&sum, x + i, mean, REG);
    }
    if (whole < n) {
        add_square(&sum, x + whole, mean, n - whole);
    }
    scale = reg_set1((float)(1.0 / sqrt(reg_total_value(sum) / (double)n + (double)eps)));
    for (int32_t i = 0; i < whole; i += REG) {
        layer_part(y + i, x + i, w ? w + i : NULL, b ? b + i : NULL, mean, scale, REG);
    }
    if (whole < n) {
        layer_part(y + whole, x + whole, w ? w + whole : NULL, b ? b + whole : NULL, mean, scale,
                   n - whole);
    }
}
