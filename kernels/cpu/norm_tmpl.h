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
