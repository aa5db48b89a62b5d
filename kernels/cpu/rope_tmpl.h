/* Rotary position embedding over the words of reg_<isa>.h. */
#include "kernels/cpu/init.h"

/* (x, y) pairs side by side: even lanes x*cos - y*sin, odd lanes y*cos + x*sin. */
KERN_INLINE reg rotate_pairs(reg xy, reg cosines, reg sines)
{
    return reg_fmaddsub(xy, cosines, reg_mul(reg_swap_pairs(xy), sines));
}

/* n elements at x, n even and at most REG. */
KERN_INLINE void turn_pairs(float *x, const float *cs, const float *sn, int32_t n)
{
    const reg cosines = reg_load_twice_part(cs, n / 2);
    const reg sines = reg_load_twice_part(sn, n / 2);

    reg_store_part(x, n, rotate_pairs(reg_load_part(x, n), cosines, sines));
}

static void pairs(float *x, int32_t n_heads, int32_t head_dim, int32_t n_rot, const float *cs)
{
    const float *sn = cs + n_rot / 2;
    const int32_t whole = n_rot / REG * REG;

    for (int32_t h = 0; h < n_heads; h++, x += head_dim) {
        for (int32_t i = 0; i < whole; i += REG) {
            turn_pairs(x + i, cs + i / 2, sn + i / 2, REG);
        }
        if (whole < n_rot) {
            turn_pairs(x + whole, cs + whole / 2, sn + whole / 2, n_rot - whole);
        }
    }
}

/* n elements at a, the first half, and at b, the second. */
KERN_INLINE void turn_halves(float *a, float *b, const float *cs, const float *sn, int32_t n)
{
    const reg x = reg_load_part(a, n);
    const reg y = reg_load_part(b, n);
    const reg cosines = reg_load_part(cs, n);
    const reg sines = reg_load_part(sn, n);

    reg_store_part(a, n, reg_fnma(y, sines, reg_mul(x, cosines)));
    reg_store_part(b, n, reg_fma(x, sines, reg_mul(y, cosines)));
}

static void halves(float *x, int32_t n_heads, int32_t head_dim, int32_t n_rot, const float *cs)
{
    const int32_t half = n_rot / 2;
    const int32_t whole = half / REG * REG;
    const int32_t rest = half - whole;

    for (int32_t h = 0; h < n_heads; h++, x += head_dim) {
        for (int32_t i = 0; i < whole; i += REG) {
            turn_halves(x + i, x + half + i, cs + i, cs + half + i, REG);
        }
        if (rest > 0) {
            turn_halves(x + whole, x + half + whole, cs + whole, cs + half + whole, rest);
        }
    }
}
