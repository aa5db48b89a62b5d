/* exp of a register, over the words of reg_<isa>.h, which includes this.
 *
 * exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, and
 * exp(r) = 1 + r + r^2 * q(r) with q of degree 4 from a Remez exchange (relative
 * error 3.1e-9 before rounding). Over all floats the result is within
 * 1.01 units in the last place (8.5e-8) where it is normal and within 0.75 units
 * of 2^-149 below; -infinity gives exactly 0, overflow infinity, NaN stays NaN.
 * Each element depends on its own input only. */
#ifndef KERNELS_CPU_REG_EXP_H
#define KERNELS_CPU_REG_EXP_H

KERN_INLINE reg reg_exp(reg x)
{
    /* ln 2 in two parts: n * ln2_high is exact, |n| having at most 8 bits. */
    const float ln2_high = 0x1.62e4p-1f;
    const float ln2_low = 0x1.7f7d1cp-20f;
    reg n, r, q;

    /* Beyond these the result is 0 or infinity. The order of the arguments
     * keeps a NaN. */
    x = reg_min(reg_set1(89.0f), reg_max(reg_set1(-104.5f), x));
    n = reg_round(reg_mul(x, reg_set1(0x1.715476p+0f)));
    r = reg_fnma(n, reg_set1(ln2_high), x);
    r = reg_fnma(n, reg_set1(ln2_low), r);
    q = reg_fma(r, reg_set1(0x1.6a23d0p-10f), reg_set1(0x1.123a20p-7f));
    q = reg_fma(q, r, reg_set1(0x1.5558f2p-5f));
    q = reg_fma(q, r, reg_set1(0x1.555492p-3f));
    q = reg_fma(q, r, reg_set1(0x1.fffffcp-2f));
    q = reg_fma(q, reg_mul(r, r), r);
    return reg_scale2(reg_add(q, reg_set1(1.0f)), n);
}

/* x / (1 + exp(-x)) */
KERN_INLINE reg reg_silu(reg x)
{
    const reg e = reg_exp(reg_sub(reg_zero(), x));

    return reg_div(x, reg_add(reg_set1(1.0f), e));
}

/* 1 - 2 / (exp(2 x) + 1): off by at most 1.8e-7 */
KERN_INLINE reg reg_tanh(reg x)
{
    const reg e = reg_exp(reg_add(x, x));

    return reg_sub(reg_set1(1.0f), reg_div(reg_set1(2.0f), reg_add(e, reg_set1(1.0f))));
}

/* x * P(x), P the distribution function of the normal law: 1 - h(x) for x > 0 and h(-x)
 * else, so that neither tail loses digits. h(a) = exp(-a^2 / 2) * t * p(t), t = 1 / (1 +
 * 11/32 a) (the form of Abramowitz and Stegun 7.1.26), p of degree 8 fitted for least
 * relative error, 2.6e-8 up to a = 14.5, where h underflows. */
KERN_INLINE reg reg_gelu(reg x)
{
    const reg one = reg_set1(1.0f);
    const reg a = reg_max(reg_sub(reg_zero(), x), x);
    const reg t = reg_div(one, reg_fma(a, reg_set1(0x1.6p-2f), one));
    const reg half = reg_mul(a, reg_set1(0.5f));
    const reg s = reg_min(reg_set1(128.0f), reg_mul(a, half));
    const reg lost = reg_min(reg_set1(1.0f), reg_fma(a, half, reg_sub(reg_zero(), s)));
    reg p, h;

    p = reg_fma(t, reg_set1(-0x1.c3e850p-6f), reg_set1(0x1.247686p-3f));
    p = reg_fma(p, t, reg_set1(-0x1.142744p-2f));
    p = reg_fma(p, t, reg_set1(0x1.828c22p-3f));
    p = reg_fma(p, t, reg_set1(-0x1.368b32p-5f));
    p = reg_fma(p, t, reg_set1(0x1.cb313ap-4f));
    p = reg_fma(p, t, reg_set1(0x1.deb2a2p-4f));
    p = reg_fma(p, t, reg_set1(0x1.19a722p-3f));
    p = reg_fma(p, t, reg_set1(0x1.18d2a8p-3f));
    h = reg_exp(reg_sub(reg_zero(), s));
    h = reg_mul(reg_fnma(h, lost, h), reg_mul(t, p));
    return reg_mul(x, reg_select_positive(x, reg_sub(one, h), h));
}

#endif
