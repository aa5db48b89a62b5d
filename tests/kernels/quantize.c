/* Checks and timing of kernels/ref/quantize*: equal to the format's reference where there is
 * one, no worse than other quantisers where scales are searched. */
#include "check.h"
#include "quantize_golden.h"
#include "weights.h"

#include <math.h>
#include <string.h>

#define ROWS 32
#define K    1024

/* Bell-shaped, every eighth row shifted; the same numbers as make_quantize_golden.py has. */
static float *input(struct check *c)
{
    float *x = check_floats(c, (size_t)ROWS * K);
    uint32_t state = 1;

    for (size_t i = 0; i < (size_t)ROWS * K; i++) {
        int32_t sum = 0;

        for (int j = 0; j < 4; j++) {
            state = state * 1664525u + 1013904223u;
            sum += (int32_t)(state >> 12) - (1 << 19);
        }
        x[i] = (float)sum * 0x1p-23f + (i / K % 8 == 0 ? 0.125f : 0.0f);
    }
    return x;
}

static uint64_t fnv1a(const uint8_t *p, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    }
    return h;
}

static double error_of(const float *got, const float *want, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        sum += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
    }
    return sqrt(sum / (double)n);
}

static void golden(struct check *c)
{
    const size_t bytes = weights_bytes(c->dtype, K);
    float *x = input(c), *back = check_floats(c, (size_t)ROWS * K);
    uint8_t *y = check_buffer(c, ROWS * bytes, 1);
    int found = 0;

    for (size_t r = 0; r < ROWS; r++) {
        c->dut->quant.quantize[c->dtype](y + r * bytes, x + r * K, K);
        c->ref->quant.dequant[c->dtype](back + r * K, y + r * bytes, K);
    }
    for (size_t i = 0; i < BASE_COUNT(quantize_hashes); i++) {
        if (quantize_hashes[i].dtype == c->dtype) {
            found = check_true(c, fnv1a(y, ROWS * bytes) == quantize_hashes[i].hash,
                               "the blocks differ from those of the format's reference");
        }
    }
    for (size_t i = 0; i < BASE_COUNT(quantize_errors); i++) {
        if (quantize_errors[i].dtype == c->dtype) {
            const double error = error_of(back, x, (size_t)ROWS * K);

            found =
                check_true(c, error <= 1.01 * quantize_errors[i].error,
                           "an error of %.6f, others have %.6f", error, quantize_errors[i].error);
        }
    }
    check_true(c, found, "nothing to compare with");
    check_release(c);
}

/* The scales of NVFP4 are 8-bit floats: beyond these sizes it holds nothing well. */
static int in_range(const struct check *c, float size)
{
    return c->dtype != INFER_DTYPE_NVFP4 || size == 0.0f ||
           (fabsf(size) >= 0.1f && fabsf(size) <= 2688.0f);
}

/* What came out of blocks goes in again with hardly a loss: the codes are legal and the search
 * finds what is there. Blocks are independent, and a call twice gives the same bytes. */
static void round_trip(struct check *c, int32_t n_blocks, float size)
{
    const struct weights_type t = weights_type_of(c->dtype);
    const int32_t k = n_blocks * t.block;
    float *x = check_floats(c, (size_t)k), *once = check_floats(c, (size_t)k);
    float *twice = check_floats(c, (size_t)k);
    uint8_t *y = check_buffer(c, (size_t)n_blocks * t.bytes, 1);
    uint8_t *again = check_buffer(c, (size_t)n_blocks * t.bytes, 1);

    check_fill(c, x, (size_t)k, -size, size);
    c->dut->quant.quantize[c->dtype](y, x, k);
    for (int32_t b = 0; b < n_blocks; b++) {
        c->dut->quant.quantize[c->dtype](again + (size_t)b * t.bytes, x + b * t.block, t.block);
    }
    check_same_bytes(c, again, y, (size_t)n_blocks * t.bytes, "%d blocks one by one",
                     (int)n_blocks);
    c->ref->quant.dequant[c->dtype](once, y, k);
    c->dut->quant.quantize[c->dtype](y, once, k);
    c->ref->quant.dequant[c->dtype](twice, y, k);
    const double first = error_of(once, x, (size_t)k), second = error_of(twice, once, (size_t)k);

    check_true(c, k == 0 || first < 0.6 * (double)size, "%d blocks of %g have an error of %g",
               (int)n_blocks, (double)size, first);
    check_true(c, k == 0 || second <= 0.75 * first + 1e-6 * (double)size,
               "%d blocks of %g have an error of %g, then of %g", (int)n_blocks, (double)size,
               first, second);
    check_release(c);
}

/* Rows of one value: zeros stay zeros, others keep sign and size. */
static void constant(struct check *c, float value)
{
    const struct weights_type t = weights_type_of(c->dtype);
    float *x = check_floats(c, (size_t)t.block), *got = check_floats(c, (size_t)t.block);
    uint8_t *y = check_buffer(c, t.bytes, 1);
    /* The steps of FP4 are as far apart as 4 and 6; a scale of MXFP4 may cut to 6 of 8. */
    const float slack = (c->dtype == INFER_DTYPE_MXFP4 ? 0.25f : 0.13f) * fabsf(value);

    for (int32_t i = 0; i < t.block; i++) {
        x[i] = value;
    }
    c->dut->quant.quantize[c->dtype](y, x, t.block);
    c->ref->quant.dequant[c->dtype](got, y, t.block);
    for (int32_t i = 0; i < t.block; i++) {
        if (!check_true(c, fabsf(got[i] - value) <= slack, "%a became %a", (double)value,
                        (double)got[i])) {
            break;
        }
    }
    check_release(c);
}

/* One large element among small ones, at every place; the largest legal values; tiny ones. */
static void extremes(struct check *c)
{
    const struct weights_type t = weights_type_of(c->dtype);
    float *x = check_floats(c, (size_t)t.block), *got = check_floats(c, (size_t)t.block);
    uint8_t *y = check_buffer(c, t.bytes, 1);
    const float sizes[] = {65504.0f, 1.0f, 1e-4f, 1e-7f, 1e-20f, 1e-38f, 1e-44f};

    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        for (int32_t at = 0; at < t.block && in_range(c, sizes[s]); at++) {
            check_fill(c, x, (size_t)t.block, -sizes[s] / 100, sizes[s] / 100);
            x[at] = at % 2 ? -sizes[s] : sizes[s];
            c->dut->quant.quantize[c->dtype](y, x, t.block);
            c->ref->quant.dequant[c->dtype](got, y, t.block);
            int finite = 1;

            for (int32_t i = 0; i < t.block; i++) {
                finite &= isfinite(got[i]) != 0;
            }
            /* Below what a half holds nothing is promised but that it does not grow. */
            const float slack = sizes[s] < 1e-3f ? 4 * sizes[s] : 0.26f * sizes[s];

            if (!check_true(c, finite && fabsf(got[at] - x[at]) <= slack, "%g at %d became %g",
                            (double)x[at], (int)at, (double)got[at])) {
                break;
            }
        }
    }
    check_release(c);
}

void check_quant_quantize(struct check *c)
{
    const float values[] = {0.0f, 1.0f, -1.0f, 3e-3f, -700.0f, 60000.0f, -60000.0f};
    const float sizes[] = {1.0f, 0.01f, 30000.0f};

    golden(c);
    for (int32_t n = 0; n < 20; n++) {
        for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
            if (in_range(c, sizes[i])) {
                round_trip(c, n, sizes[i]);
            }
        }
    }
    for (size_t i = 0; i < BASE_COUNT(values); i++) {
        if (in_range(c, values[i])) {
            constant(c, values[i]);
        }
    }
    extremes(c);
}

/* ----------------------------------------------------------------- timing */

struct quantize_call {
    infer_dtype dtype;
    void *dst;
    const float *src;
};

static void call_quantize(const struct infer_kernels *kernels, void *arg)
{
    const struct quantize_call *q = arg;

    kernels->quant.quantize[q->dtype](q->dst, q->src, 4096);
}

void bench_quant_quantize(struct check *c)
{
    float *x = check_floats(c, 4096);
    struct quantize_call q = {c->dtype, check_buffer(c, weights_bytes(c->dtype, 4096), 64), x};

    check_fill(c, x, 4096, -1.0f, 1.0f);
    check_time(c, "4096", call_quantize, &q, (struct check_work){4096 * 4, "B", 0});
}
