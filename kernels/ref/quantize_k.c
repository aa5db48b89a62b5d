/* Quantising rows to the K types and to IQ4: scales of runs are searched (quant_fit.h), then
 * become codes themselves, and each element is rounded to the scale that came of it. */
#include "kernels/iq_tables.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/quant_fit.h"
#include "kernels/ref/ref.h"

#include <string.h>

#define RUNS_MAX (KERN_SUPER / 16)

/* Stores a half and gives back the value that readers will see. */
static float store_half(uint8_t *dst, float f)
{
    const uint16_t h = kern_f16_of_float(f);

    dst[0] = (uint8_t)(h & 0xff);
    dst[1] = (uint8_t)(h >> 8);
    return kern_float_of_f16(h);
}

/* Large elements count more, small ones are not forgotten. */
static void weights_square(float *w, const float *x, int n)
{
    float sum = 0.0f;

    for (int i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    for (int i = 0; i < n; i++) {
        w[i] = sum / (float)n + x[i] * x[i];
    }
}

/* Codes of a run under its final scale; a scale of 0 leaves them at the code of zero. */
static void round_run(uint8_t *codes, const float *x, int n, float d, float min, float low,
                      float high)
{
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;

    for (int i = 0; i < n; i++) {
        codes[i] =
            (uint8_t)(kern_fit_rint(kern_fit_clamp((x[i] + min) * inverse, low, high)) - low);
    }
}

/* Codes of 2 bits, four quarters of each half of a block in one byte (Q2_K). */
static void pack_quarters(uint8_t *q, const uint8_t *codes)
{
    for (int i = 0; i < KERN_SUPER / 4; i++) {
        const uint8_t *c = codes + i / 32 * 128 + i % 32;

        q[i] = (uint8_t)((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
    }
}

/* Codes of 4 bits: runs of 32, two in the halves of 32 bytes (Q4_K). */
static void pack_pairs(uint8_t *q, const uint8_t *codes)
{
    for (int i = 0; i < KERN_SUPER / 2; i++) {
        const uint8_t *c = codes + i / 32 * 64 + i % 32;

        q[i] = (uint8_t)((c[0] & 15) | (c[32] & 15) << 4);
    }
}

/* Bit `bit` of element i into bit i / 32 of byte i % 32. */
static void pack_high(uint8_t *h, const uint8_t *codes, int bit)
{
    memset(h, 0, KERN_SUPER / 8);
    for (int i = 0; i < KERN_SUPER; i++) {
        h[i % 32] |= (uint8_t)((codes[i] >> bit & 1) << i / 32);
    }
}

/* --------------------------------------------------- with minimum: Q2, Q4, Q5 */

struct affine_block {
    float d, dmin; /* as they will be read */
    uint8_t scale[RUNS_MAX], min[RUNS_MAX];
};

/* Non-negative numbers as codes 0 .. m of a common step: the best of a few steps. */
static float fit_steps(uint8_t *codes, uint8_t *stored, const float *v, const float *w, int n,
                       float m)
{
    float high = 0.0f, best_step = 0.0f;
    double least = INFINITY;

    for (int i = 0; i < n; i++) {
        high = v[i] > high ? v[i] : high;
    }
    for (int try = -4; try <= 4; try++) {
        const float step = kern_float_of_f16(kern_f16_of_float(high / (m + 0.1f * (float)try)));
        double error = 0.0;

        for (int i = 0; i < n && step > 0.0f; i++) {
            const float q = kern_fit_rint(kern_fit_clamp(v[i] / step, 0.0f, m));

            error += (double)w[i] * (double)(v[i] - q * step) * (double)(v[i] - q * step);
        }
        if (error < least) {
            least = error;
            best_step = step;
        }
    }
    for (int i = 0; i < n; i++) {
        codes[i] = best_step > 0.0f
                       ? (uint8_t)kern_fit_rint(kern_fit_clamp(v[i] / best_step, 0.0f, m))
                       : 0;
    }
    return store_half(stored, best_step);
}

/* Scales and minima of the runs of a block, codes of `bits` bits. */
static void fit_block(struct affine_block *out, uint8_t *d, uint8_t *dmin, const float *x, int run,
                      float m, float scale_max)
{
    float scale[RUNS_MAX], min[RUNS_MAX], total[RUNS_MAX], w[KERN_FIT_MAX];
    const int n = KERN_SUPER / run;

    for (int j = 0; j < n; j++) {
        const float *p = x + j * run;
        float sum = 0.0f;

        for (int i = 0; i < run; i++) {
            sum += p[i] * p[i];
        }
        const float mean = sqrtf(sum / (float)run);

        total[j] = 0.0f;
        for (int i = 0; i < run; i++) {
            w[i] = mean + fabsf(p[i]);
            total[j] += w[i];
        }
        const struct kern_fit_affine fit = kern_fit_affine(p, w, run, m);

        scale[j] = fit.scale;
        min[j] = fit.min;
    }
    out->d = fit_steps(out->scale, d, scale, total, n, scale_max);
    out->dmin = fit_steps(out->min, dmin, min, total, n, scale_max);
}

static void round_block(uint8_t *codes, const struct affine_block *b, const float *x, int run,
                        float m)
{
    for (int j = 0; j < KERN_SUPER / run; j++) {
        round_run(codes + j * run, x + j * run, run, b->d * (float)b->scale[j],
                  b->dmin * (float)b->min[j], 0.0f, m);
    }
}

static void quantize_q2_k(void *dst, const float *x, int32_t k)
{
    struct kern_q2_k *y = dst;
    struct affine_block block;
    uint8_t codes[KERN_SUPER];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        fit_block(&block, y[b].d, y[b].dmin, x, 16, 3.0f, 15.0f);
        round_block(codes, &block, x, 16, 3.0f);
        for (int j = 0; j < KERN_SUPER / 16; j++) {
            y[b].scales[j] = (uint8_t)(block.scale[j] | block.min[j] << 4);
        }
        pack_quarters(y[b].q, codes);
    }
}

/* The 12 bytes of 6-bit scales and minima of Q4_K and Q5_K. */
static void pack_scales(uint8_t *s, const struct affine_block *b)
{
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(b->scale[j] | b->scale[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t)(b->min[j] | b->min[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t)((b->scale[j + 4] & 15) | (b->min[j + 4] & 15) << 4);
    }
}

static void quantize_q4_k(void *dst, const float *x, int32_t k)
{
    struct kern_q4_k *y = dst;
    struct affine_block block;
    uint8_t codes[KERN_SUPER];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        fit_block(&block, y[b].d, y[b].dmin, x, 32, 15.0f, 63.0f);
        round_block(codes, &block, x, 32, 15.0f);
        pack_scales(y[b].scales, &block);
        pack_pairs(y[b].q, codes);
    }
}

static void quantize_q5_k(void *dst, const float *x, int32_t k)
{
    struct kern_q5_k *y = dst;
    struct affine_block block;
    uint8_t codes[KERN_SUPER];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        fit_block(&block, y[b].d, y[b].dmin, x, 32, 31.0f, 63.0f);
        round_block(codes, &block, x, 32, 31.0f);
        pack_scales(y[b].scales, &block);
        pack_pairs(y[b].q, codes);
        pack_high(y[b].h, codes, 4);
    }
}

/* ------------------------------------------------------- around zero: Q3, Q6 */

/* Scales of the 16 runs as signed codes -m .. m - 1 of a common step. */
static float fit_signed_block(int8_t *scales, uint8_t *stored, const float *x, float codes_max,
                              float m)
{
    float scale[RUNS_MAX], w[16];

    for (int j = 0; j < RUNS_MAX; j++) {
        weights_square(w, x + 16 * j, 16);
        scale[j] = kern_fit_signed(x + 16 * j, w, 16, codes_max);
    }
    const float extreme = kern_fit_extreme(scale, RUNS_MAX);
    const float inverse = fabsf(extreme) < KERN_FIT_TINY ? 0.0f : -m / extreme;

    for (int j = 0; j < RUNS_MAX; j++) {
        scales[j] = (int8_t)kern_fit_rint(kern_fit_clamp(scale[j] * inverse, -m, m - 1.0f));
    }
    return store_half(stored, inverse != 0.0f ? 1.0f / inverse : 0.0f);
}

static void quantize_q3_k(void *dst, const float *x, int32_t k)
{
    struct kern_q3_k *y = dst;
    uint8_t codes[KERN_SUPER];
    int8_t scales[RUNS_MAX];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        const float d = fit_signed_block(scales, y[b].d, x, 4.0f, 32.0f);

        memset(y[b].scales, 0, sizeof(y[b].scales));
        for (int j = 0; j < RUNS_MAX; j++) {
            const int sc = scales[j] + 32;

            round_run(codes + 16 * j, x + 16 * j, 16, d * (float)scales[j], 0.0f, -4.0f, 3.0f);
            y[b].scales[j % 8] |= (uint8_t)((sc & 15) << 4 * (j / 8));
            y[b].scales[8 + j % 4] |= (uint8_t)(sc >> 4 << 2 * (j / 4));
        }
        pack_quarters(y[b].q, codes);
        pack_high(y[b].h, codes, 2);
    }
}

static void quantize_q6_k(void *dst, const float *x, int32_t k)
{
    struct kern_q6_k *y = dst;
    uint8_t codes[KERN_SUPER];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        const float d = fit_signed_block(y[b].scales, y[b].d, x, 32.0f, 128.0f);

        for (int j = 0; j < RUNS_MAX; j++) {
            round_run(codes + 16 * j, x + 16 * j, 16, d * (float)y[b].scales[j], 0.0f, -32.0f,
                      31.0f);
        }
        for (int i = 0; i < KERN_SUPER / 4; i++) {
            const uint8_t *c = codes + i / 32 * 128 + i % 32;
            uint8_t *ql = y[b].ql + i / 32 * 64 + i % 32;

            ql[0] = (uint8_t)((c[0] & 15) | (c[64] & 15) << 4);
            ql[32] = (uint8_t)((c[32] & 15) | (c[96] & 15) << 4);
            y[b].qh[i] = (uint8_t)(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
        }
    }
}

/* -------------------------------------------------------------- uneven levels */

/* Levels are sorted: the nearest one's index is how many midpoints lie below. */
static void nearest_levels(uint8_t *codes, const float *x, int n, float inverse)
{
    for (int i = 0; i < n; i++) {
        const float v = x[i] * inverse;
        int code = 0;

        for (int l = 0; l < 15; l++) {
            code += v > 0.5f * (float)(kern_iq4_levels[l] + kern_iq4_levels[l + 1]);
        }
        codes[i] = (uint8_t)code;
    }
}

/* The search of kern_fit_signed() over levels instead of whole numbers. Both ends are tried: the
 * lower one reaches further, the upper one has finer levels next to it. */
static float fit_levels(const float *x)
{
    const float extreme = kern_fit_extreme(x, KERN_BLOCK);
    uint8_t codes[KERN_BLOCK];
    float w[KERN_BLOCK], scale = 0.0f, best = 0.0f;

    if (fabsf(extreme) < KERN_FIT_TINY) {
        return 0.0f;
    }
    weights_square(w, x, KERN_BLOCK);
    for (int try = 0; try < 24; try++) {
        const int end = kern_iq4_levels[try % 2 * 15];
        const float inverse = ((float)end + 1.25f * (float)(try / 2 - 6)) / extreme;
        double a = 0.0, b = 0.0;

        nearest_levels(codes, x, KERN_BLOCK, inverse);
        for (int i = 0; i < KERN_BLOCK; i++) {
            const double q = kern_iq4_levels[codes[i]], wq = (double)w[i] * q;

            a += wq * q;
            b += wq * (double)x[i];
        }
        if (a > 0.0 && b * b > (double)best * a) {
            best = (float)(b * b / a);
            scale = (float)(b / a);
        }
    }
    return scale;
}

static void pack_levels(uint8_t *q, const float *x, float d)
{
    uint8_t codes[KERN_BLOCK];

    nearest_levels(codes, x, KERN_BLOCK, d != 0.0f ? 1.0f / d : 0.0f);
    for (int i = 0; i < KERN_BLOCK / 2; i++) {
        q[i] = (uint8_t)(codes[i] | codes[i + KERN_BLOCK / 2] << 4);
    }
}

static void quantize_iq4_nl(void *dst, const float *x, int32_t k)
{
    struct kern_iq4_nl *y = dst;

    for (int32_t b = 0; b < k / KERN_BLOCK; b++, x += KERN_BLOCK) {
        pack_levels(y[b].q, x, store_half(y[b].d, fit_levels(x)));
    }
}

static void quantize_iq4_xs(void *dst, const float *x, int32_t k)
{
    struct kern_iq4_xs *y = dst;
    float scale[KERN_SUPER / 32];

    for (int32_t b = 0; b < k / KERN_SUPER; b++, x += KERN_SUPER) {
        for (int j = 0; j < KERN_SUPER / 32; j++) {
            scale[j] = fit_levels(x + 32 * j);
        }
        const float extreme = kern_fit_extreme(scale, KERN_SUPER / 32);
        const float inverse = fabsf(extreme) < KERN_FIT_TINY ? 0.0f : -32.0f / extreme;
        const float d = store_half(y[b].d, inverse != 0.0f ? 1.0f / inverse : 0.0f);

        memset(y[b].scales_h, 0, sizeof(y[b].scales_h));
        memset(y[b].scales_l, 0, sizeof(y[b].scales_l));
        for (int j = 0; j < KERN_SUPER / 32; j++) {
            const float code = kern_fit_rint(kern_fit_clamp(scale[j] * inverse, -32.0f, 31.0f));
            const int sc = (int)code + 32;

            pack_levels(y[b].q + 16 * j, x + 32 * j, d * code);
            y[b].scales_l[j / 2] |= (uint8_t)((sc & 15) << 4 * (j % 2));
            y[b].scales_h[j / 4] |= (uint8_t)(sc >> 4 << 2 * (j % 4));
        }
    }
}

void kern_quantize_init_ref_k(struct kern_quant *quant)
{
    quant->quantize[INFER_DTYPE_Q2_K] = quantize_q2_k;
    quant->quantize[INFER_DTYPE_Q3_K] = quantize_q3_k;
    quant->quantize[INFER_DTYPE_Q4_K] = quantize_q4_k;
    quant->quantize[INFER_DTYPE_Q5_K] = quantize_q5_k;
    quant->quantize[INFER_DTYPE_Q6_K] = quantize_q6_k;
    quant->quantize[INFER_DTYPE_IQ4_NL] = quantize_iq4_nl;
    quant->quantize[INFER_DTYPE_IQ4_XS] = quantize_iq4_xs;
}
