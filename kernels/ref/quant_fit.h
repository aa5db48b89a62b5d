/* Finding scales for runs of 16 or 32 weights, the search in every quantiser that has one.
 *
 * For given codes q the scale that minimises sum w (x - d q)^2 is d = b / a with a = sum w q^2
 * and b = sum w x q, and what it takes off the error is b^2 / a. So a search tries a few ways
 * to round x to codes and keeps the one of the largest b^2 / a. Weights favour large elements:
 * their products carry the result. */
#ifndef KERNELS_REF_QUANT_FIT_H
#define KERNELS_REF_QUANT_FIT_H

#include <math.h>
#include <stdint.h>

/* Sums run in this many lanes, in an order of their own, so that compilers may put them in
 * vectors without changing the result. */
enum { KERN_FIT_LANES = 8, KERN_FIT_MAX = 32 };

/* Below this a run counts as zero: its scale as a half would be zero as well. */
#define KERN_FIT_TINY 1e-15f

/* Round to nearest even for |v| <= 2^22, without a call. */
static inline float kern_fit_rint(float v)
{
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

static inline float kern_fit_clamp(float v, float low, float high)
{
    v = v < low ? low : v;
    return v > high ? high : v;
}

static inline float kern_fit_sum(const float *lanes)
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/* The element of the largest magnitude; the first of equals. */
static inline float kern_fit_extreme(const float *x, int n)
{
    float best = 0.0f;

    for (int i = 0; i < n; i++) {
        best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    }
    return best;
}

/* Codes -m .. m - 1 around zero: the scale for x ~ d * q, 0 for a run that counts as zero.
 * The extreme element is tried at -(m - 0.9) .. -(m + 0.9). */
static inline float kern_fit_signed(const float *x, const float *w, int n, float m)
{
    const float extreme = kern_fit_extreme(x, n);
    float scale = 0.0f;
    double best = 0.0;

    if (fabsf(extreme) < KERN_FIT_TINY) {
        return 0.0f;
    }
    for (int step = -9; step <= 9; step++) {
        const float inverse = -(m + 0.1f * (float)step) / extreme;
        float a[KERN_FIT_LANES] = {0}, b[KERN_FIT_LANES] = {0};

        for (int i = 0; i < n; i += KERN_FIT_LANES) {
            for (int l = 0; l < KERN_FIT_LANES; l++) {
                const float q = kern_fit_rint(kern_fit_clamp(x[i + l] * inverse, -m, m - 1.0f));
                const float wq = w[i + l] * q;

                a[l] += wq * q;
                b[l] += wq * x[i + l];
            }
        }
        const double sa = (double)kern_fit_sum(a), sb = (double)kern_fit_sum(b);

        if (sa > 0.0 && sb * sb > best * sa) {
            best = sb * sb / sa;
            scale = (float)(sb / sa);
        }
    }
    return scale;
}

struct kern_fit_affine {
    float scale, min; /* x ~ scale * q - min; both are 0 or more */
};

/* Solves for scale and min, given codes by one inverse scale: the least error of the run, with
 * sw = sum w and sx = sum w x. Returns what they take off the error. */
static inline double kern_fit_affine_try(struct kern_fit_affine *fit, const float *x,
                                         const float *w, int n, float m, float low, float inverse,
                                         double sw, double sx)
{
    float lq[KERN_FIT_LANES] = {0}, lqq[KERN_FIT_LANES] = {0}, lxq[KERN_FIT_LANES] = {0};

    for (int i = 0; i < n; i += KERN_FIT_LANES) {
        for (int l = 0; l < KERN_FIT_LANES; l++) {
            const float q = kern_fit_rint(kern_fit_clamp((x[i + l] - low) * inverse, 0.0f, m));
            const float wq = w[i + l] * q;

            lq[l] += wq;
            lqq[l] += wq * q;
            lxq[l] += wq * x[i + l];
        }
    }
    const double sq = (double)kern_fit_sum(lq), sqq = (double)kern_fit_sum(lqq);
    const double sxq = (double)kern_fit_sum(lxq), det = sw * sqq - sq * sq;
    double scale = 0.0, offset = 1.0;

    if (det > 0.0) {
        scale = (sw * sxq - sx * sq) / det;
        offset = (sqq * sx - sq * sxq) / det;
    }
    if (offset > 0.0) { /* the formats only subtract: a line through zero */
        offset = 0.0;
        scale = sqq > 0.0 ? sxq / sqq : 0.0;
    }
    if (!(scale > 0.0)) {
        return 0.0;
    }
    *fit = (struct kern_fit_affine){.scale = (float)scale, .min = (float)-offset};
    return scale * (2.0 * sxq - scale * sqq - 2.0 * offset * sq) +
           offset * (2.0 * sx - offset * sw);
}

/* Codes 0 .. m above a minimum. The range is tried as m - 1 .. m + 1 steps. */
static inline struct kern_fit_affine kern_fit_affine(const float *x, const float *w, int n, float m)
{
    struct kern_fit_affine best, fit = {0};
    float low = 0.0f, high = x[0];
    double most = 0.0, sw = 0.0, sx = 0.0;

    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        sw += (double)w[i];
        sx += (double)w[i] * (double)x[i];
    }
    best = (struct kern_fit_affine){.min = -low}; /* right for a run of one negative value */
    if (high - low < KERN_FIT_TINY) {
        return best;
    }
    for (int step = -10; step <= 10; step++) {
        const float inverse = (m + 0.1f * (float)step) / (high - low);
        const double taken = kern_fit_affine_try(&fit, x, w, n, m, low, inverse, sw, sx);

        if (taken > most) {
            most = taken;
            best = fit;
        }
    }
    return best;
}

#endif
