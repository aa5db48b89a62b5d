/* Checks and timing of kernels/<level>/norm*. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct check_bound bound = {.atol = 1e-6, .rtol = 4e-6, .nmse = 1e-12};

static void rms_random(struct check *c, int32_t n, int with_weight)
{
    float *x = check_floats(c, (size_t)n);
    float *w = check_floats(c, (size_t)n);
    float *y = check_floats(c, (size_t)n);
    float *again = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -3.0f, 3.0f);
    check_fill(c, w, (size_t)n, -2.0f, 2.0f);
    c->ref->norm.rms(want, x, with_weight ? w : NULL, n, 1e-5f);
    c->dut->norm.rms(y, x, with_weight ? w : NULL, n, 1e-5f);
    check_close(c, y, want, (size_t)n, bound, "n=%d", (int)n);
    c->dut->norm.rms(again, x, with_weight ? w : NULL, n, 1e-5f);
    check_same_bytes(c, again, y, (size_t)n * 4, "n=%d repeated", (int)n);
    c->dut->norm.rms(x, x, with_weight ? w : NULL, n, 1e-5f);
    check_same_bytes(c, x, y, (size_t)n * 4, "n=%d in place", (int)n);
    check_release(c);
}

/* Worked by hand: mean square of (3, 4) is 12.5, of a constant row its square. */
static void rms_known(struct check *c)
{
    const float x[2] = {3.0f, 4.0f};
    const float w[2] = {1.0f, 2.0f};
    const float want[2] = {0.848528137f, 2.26274170f};
    float *y = check_floats(c, 64);
    float ones[64];
    float *two = check_floats(c, 2);

    c->dut->norm.rms(two, x, w, 2, 0.0f);
    check_close(c, two, want, 2, bound, "(3, 4)");
    for (int i = 0; i < 64; i++) {
        y[i] = -7.0f;
        ones[i] = -1.0f;
    }
    c->dut->norm.rms(y, y, NULL, 64, 0.0f);
    check_close(c, y, ones, 64, bound, "constant row");
    memset(y, 0, sizeof(ones));
    memset(ones, 0, sizeof(ones));
    c->dut->norm.rms(y, y, NULL, 64, 1e-6f);
    check_same_bytes(c, y, ones, sizeof(ones), "zero row");
    check_release(c);
}

/* A NaN or an infinity anywhere reaches the row as in the reference. */
static void rms_special(struct check *c, int32_t n, float value)
{
    float *x = check_floats(c, (size_t)n);
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -1.0f, 1.0f);
    x[check_range(c, 0, n - 1)] = value;
    c->ref->norm.rms(want, x, NULL, n, 1e-5f);
    c->dut->norm.rms(y, x, NULL, n, 1e-5f);
    check_close(c, y, want, (size_t)n, bound, "n=%d with %g", (int)n, (double)value);
    check_release(c);
}

void check_norm_rms(struct check *c)
{
    static const int32_t sizes[] = {0,  1,  2,  3,  7,   8,   9,   15,   16,   17,   31,  32,
                                    33, 63, 64, 65, 127, 128, 255, 1000, 2048, 4096, 4097};

    rms_known(c);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        rms_random(c, sizes[i], 1);
        rms_random(c, sizes[i], 0);
    }
    for (int i = 0; i < 50; i++) {
        rms_random(c, check_range(c, 1, 600), i % 2);
        rms_special(c, check_range(c, 1, 100), NAN);
        rms_special(c, check_range(c, 1, 100), INFINITY);
        rms_special(c, check_range(c, 1, 100), 1e30f); /* its square overflows */
    }
}

/* ----------------------------------------------------------------- layer */

/* Which of weight and bias are given: bit 0, bit 1. The row lies around `offset`. */
static void layer_random(struct check *c, int32_t n, int given, float offset)
{
    float *x = check_floats(c, (size_t)n);
    float *w = check_floats(c, (size_t)n);
    float *b = check_floats(c, (size_t)n);
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);
    const float *weight = given & 1 ? w : NULL;
    const float *bias = given & 2 ? b : NULL;

    check_fill(c, x, (size_t)n, offset - 3.0f, offset + 3.0f);
    check_fill(c, w, (size_t)n, -2.0f, 2.0f);
    check_fill(c, b, (size_t)n, -2.0f, 2.0f);
    c->ref->norm.layer(want, x, weight, bias, n, 1e-5f);
    c->dut->norm.layer(y, x, weight, bias, n, 1e-5f);
    check_close(c, y, want, (size_t)n, bound, "n=%d around %g", (int)n, (double)offset);
    c->dut->norm.layer(x, x, weight, bias, n, 1e-5f);
    check_same_bytes(c, x, y, (size_t)n * 4, "n=%d in place", (int)n);
    check_release(c);
}

/* Worked by hand: (1, 3, 5, 7) has mean 4 and variance 5; a constant row has none. */
static void layer_known(struct check *c)
{
    const float x[4] = {1.0f, 3.0f, 5.0f, 7.0f};
    const float w[4] = {1.0f, 2.0f, 1.0f, 1.0f};
    const float b[4] = {0.0f, 0.0f, 0.0f, 1.0f};
    const float want[4] = {-1.34164079f, -0.894427191f, 0.447213595f, 2.34164079f};
    float *y = check_floats(c, 64);
    float *four = check_floats(c, 4);
    float zeros[64] = {0};

    c->dut->norm.layer(four, x, w, b, 4, 0.0f);
    check_close(c, four, want, 4, bound, "(1, 3, 5, 7)");
    for (int i = 0; i < 64; i++) {
        y[i] = 11.0f;
    }
    c->dut->norm.layer(y, y, NULL, NULL, 64, 1e-6f);
    check_close(c, y, zeros, 64, (struct check_bound){0, 0, 0}, "constant row");
    check_release(c);
}

static void layer_special(struct check *c, int32_t n, float value)
{
    float *x = check_floats(c, (size_t)n);
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -1.0f, 1.0f);
    x[check_range(c, 0, n - 1)] = value;
    c->ref->norm.layer(want, x, NULL, NULL, n, 1e-5f);
    c->dut->norm.layer(y, x, NULL, NULL, n, 1e-5f);
    check_close(c, y, want, (size_t)n, bound, "n=%d with %g", (int)n, (double)value);
    check_release(c);
}

void check_norm_layer(struct check *c)
{
    static const int32_t sizes[] = {0,  1,  2,  3,  7,   8,   9,   15,   16,   17,   31,  32,
                                    33, 63, 64, 65, 127, 128, 255, 1000, 2048, 4096, 4097};

    layer_known(c);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        for (int given = 0; given < 4; given++) {
            layer_random(c, sizes[i], given, 0.0f);
        }
    }
    for (int i = 0; i < 50; i++) {
        layer_random(c, check_range(c, 2, 600), i % 4, 1000.0f);
        layer_special(c, check_range(c, 2, 100), NAN);
        layer_special(c, check_range(c, 2, 100), INFINITY);
        layer_special(c, check_range(c, 2, 100), 1e30f);
    }
}

/* ---------------------------------------------------------------- timing */

struct call {
    float *y, *x, *w;
    int32_t n;
};

static void call_rms(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->norm.rms(a->y, a->x, a->w, a->n, 1e-5f);
}

static void call_layer(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->norm.layer(a->y, a->x, a->w, a->w, a->n, 1e-5f);
}

static void bench(struct check *c, check_call_fn *call)
{
    static const int32_t sizes[] = {128, 2048, 4096};

    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        const size_t n = (size_t)sizes[i];
        struct call a = {check_buffer(c, n * 4, 64), check_buffer(c, n * 4, 64),
                         check_buffer(c, n * 4, 64), sizes[i]};
        const struct check_work work = {12.0 * (double)n, "B", 0};
        char label[32];

        snprintf(label, sizeof(label), "n=%zu", n);
        check_fill(c, a.x, n, -1.0f, 1.0f);
        check_fill(c, a.w, n, -1.0f, 1.0f);
        check_time(c, label, call, &a, work);
        check_release(c);
    }
}

void bench_norm_rms(struct check *c)
{
    bench(c, call_rms);
}

void bench_norm_layer(struct check *c)
{
    bench(c, call_layer);
}
