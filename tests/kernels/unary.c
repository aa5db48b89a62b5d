/* Checks and timing of kernels/<level>/unary*. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const int32_t sizes[] = {0,  1,  2,  3,  7,  8,   9,   15,  16,   17,
                                31, 32, 33, 63, 64, 100, 127, 129, 1000, 4099};

static const struct check_bound exact = {0, 0, 0};

/* ----------------------------------------------------------------- gates */

/* What is known of one gate. The vector exp is good to about 1e-7; quotient and product
 * add two roundings. Where the exponent's argument is a product, its rounding counts too:
 * half a unit in the last place of up to 88. Where exp overflows, a kernel may give 0. */
struct gate {
    const char *name;
    struct check_bound bound;
    float one;    /* f(1) * 1, worked by hand */
    int needs_up; /* not NULL */
};

static const struct gate silu = {"silu", {2e-36, 3e-7, 1e-13}, 0.731058579f, 0};
static const struct gate gelu = {"gelu", {2e-36, 8e-7, 1e-13}, 0.841344746f, 0};
static const struct gate gelu_tanh = {"gelu_tanh", {2e-36, 1e-5, 1e-11}, 0.841191991f, 0};
static const struct gate relu = {"relu", {0, 1e-7, 1e-14}, 1.0f, 0};
static const struct gate relu2 = {"relu2", {1e-44, 3e-7, 1e-13}, 1.0f, 0};
static const struct gate sigmoid = {"sigmoid", {2e-37, 3e-7, 1e-13}, 0.731058579f, 0};
static const struct gate swiglu_oai = {"swiglu_oai", {2e-35, 1e-5, 1e-12}, 1.69159155f, 1};

struct gates {
    const struct gate *what;
    kern_gate_fn *ref, *dut;
};

static void gate_row(struct check *c, const struct gates *g, const float *gate, const float *up,
                     int32_t n, const char *what)
{
    struct check_bound bound = g->what->bound;
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);
    float *again = check_floats(c, (size_t)n);

    g->ref(want, gate, up, n);
    g->dut(y, gate, up, n);
    if (n < 16) { /* so few may all be where terms cancel */
        bound.nmse = bound.rtol * bound.rtol;
    }
    check_close(c, y, want, (size_t)n, bound, "%s, n=%d", what, (int)n);
    for (int32_t i = 0; i < n; i++) {
        g->dut(again + i, gate + i, up ? up + i : NULL, 1);
    }
    check_same_bytes(c, again, y, (size_t)n * 4, "%s, one element a call, n=%d", what, (int)n);
    memcpy(again, gate, (size_t)n * 4);
    g->dut(again, again, up, n);
    check_same_bytes(c, again, y, (size_t)n * 4, "%s, y is gate, n=%d", what, (int)n);
    if (up) {
        memcpy(again, up, (size_t)n * 4);
        g->dut(again, gate, again, n);
        check_same_bytes(c, again, y, (size_t)n * 4, "%s, y is up, n=%d", what, (int)n);
    }
}

static void gate_random(struct check *c, const struct gates *g, int32_t n, float span)
{
    float *gate = check_floats(c, (size_t)n);
    float *up = check_floats(c, (size_t)n);

    check_fill(c, gate, (size_t)n, -span, span);
    check_fill(c, up, (size_t)n, -4.0f, 4.0f);
    gate_row(c, g, gate, up, n, "random");
    if (!g->what->needs_up) {
        gate_row(c, g, gate, NULL, n, "random without up");
    }
    check_release(c);
}

static void gate_special(struct check *c, const struct gates *g)
{
    static const float values[] = {0.0f,    -0.0f,  1e-30f, -1e-30f, 1e-44f,   80.0f,     -80.0f,
                                   -86.5f,  -87.0f, -88.5f, -103.0f, -104.f,   -200.0f,   88.8f,
                                   1000.0f, 1e38f,  -1e38f, NAN,     INFINITY, -INFINITY, 1.0f,
                                   7.0f,    -7.0f,  6.999f, 7.001f,  -7.001f,  13.0f,     -13.0f};
    float *gate = check_floats(c, BASE_COUNT(values));
    float *up = check_floats(c, BASE_COUNT(values));

    memcpy(gate, values, sizeof(values));
    for (size_t i = 0; i < BASE_COUNT(values); i++) {
        up[i] = 1.0f;
    }
    gate_row(c, g, gate, up, (int32_t)BASE_COUNT(values), "special gate");
    memcpy(up, values, sizeof(values));
    for (size_t i = 0; i < BASE_COUNT(values); i++) {
        gate[i] = 2.0f;
    }
    gate_row(c, g, gate, up, (int32_t)BASE_COUNT(values), "special up");
    check_release(c);
}

static void check_gate(struct check *c, struct gates g)
{
    static const float one = 1.0f;
    float *y = check_floats(c, 1);

    g.dut(y, &one, &one, 1);
    check_close(c, y, &g.what->one, 1, g.what->bound, "%s(1)", g.what->name);
    check_release(c);
    gate_special(c, &g);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        gate_random(c, &g, sizes[i], 8.0f);
        gate_random(c, &g, sizes[i], 120.0f);
    }
    for (int i = 0; i < 50; i++) {
        gate_random(c, &g, check_range(c, 1, 300), 20.0f);
    }
}

void check_unary_silu_mul(struct check *c)
{
    check_gate(c, (struct gates){&silu, c->ref->unary.silu_mul, c->dut->unary.silu_mul});
}

void check_unary_gelu_mul(struct check *c)
{
    check_gate(c, (struct gates){&gelu, c->ref->unary.gelu_mul, c->dut->unary.gelu_mul});
}

void check_unary_gelu_tanh_mul(struct check *c)
{
    check_gate(
        c, (struct gates){&gelu_tanh, c->ref->unary.gelu_tanh_mul, c->dut->unary.gelu_tanh_mul});
}

void check_unary_relu_mul(struct check *c)
{
    check_gate(c, (struct gates){&relu, c->ref->unary.relu_mul, c->dut->unary.relu_mul});
}

void check_unary_relu2_mul(struct check *c)
{
    check_gate(c, (struct gates){&relu2, c->ref->unary.relu2_mul, c->dut->unary.relu2_mul});
}

void check_unary_sigmoid_mul(struct check *c)
{
    check_gate(c, (struct gates){&sigmoid, c->ref->unary.sigmoid_mul, c->dut->unary.sigmoid_mul});
}

void check_unary_swiglu_oai(struct check *c)
{
    check_gate(c, (struct gates){&swiglu_oai, c->ref->unary.swiglu_oai, c->dut->unary.swiglu_oai});
}

/* ------------------------------------------------------------------- add */

static void add_random(struct check *c, int32_t n)
{
    float *x = check_floats(c, (size_t)n);
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -5.0f, 5.0f);
    check_fill(c, y, (size_t)n, -5.0f, 5.0f);
    for (int32_t i = 0; i < n; i += 37) {
        x[i] = i % 2 ? NAN : INFINITY;
    }
    for (int32_t i = 0; i < n; i++) {
        want[i] = y[i] + x[i];
    }
    c->dut->unary.add(y, x, n);
    check_close(c, y, want, (size_t)n, exact, "n=%d", (int)n);
    check_release(c);
}

void check_unary_add(struct check *c)
{
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        add_random(c, sizes[i]);
    }
    for (int i = 0; i < 50; i++) {
        add_random(c, check_range(c, 1, 300));
    }
}

/* ------------------------------------------------------------------ axpy */

/* One rounding of the sum in the kernels, one after double in the reference. */
static void axpy_random(struct check *c, int32_t n)
{
    const struct check_bound bound = {1e-40, 1.3e-7, 1e-14};
    const float a = check_uniform(c, -3.0f, 3.0f);
    float *x = check_floats(c, (size_t)n);
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);
    float *again = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -5.0f, 5.0f);
    check_fill(c, y, (size_t)n, -5.0f, 5.0f);
    for (int32_t i = 0; i < n; i += 37) {
        x[i] = i % 2 ? NAN : INFINITY;
    }
    memcpy(want, y, (size_t)n * 4);
    memcpy(again, y, (size_t)n * 4);
    c->ref->unary.axpy(want, a, x, n);
    c->dut->unary.axpy(y, a, x, n);
    check_close(c, y, want, (size_t)n, bound, "n=%d", (int)n);
    for (int32_t i = 0; i < n; i++) {
        c->dut->unary.axpy(again + i, a, x + i, 1);
    }
    check_same_bytes(c, again, y, (size_t)n * 4, "one element a call, n=%d", (int)n);
    check_release(c);
}

void check_unary_axpy(struct check *c)
{
    const float x[3] = {1.0f, -2.0f, 0.5f};
    const float want[3] = {4.0f, -1.0f, 4.0f};
    float *y = check_floats(c, 3);

    y[0] = 2.0f, y[1] = 3.0f, y[2] = 3.0f;
    c->dut->unary.axpy(y, 2.0f, x, 3);
    check_close(c, y, want, 3, exact, "2 x + y");
    check_release(c);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        axpy_random(c, sizes[i]);
    }
    for (int i = 0; i < 50; i++) {
        axpy_random(c, check_range(c, 1, 300));
    }
}

/* --------------------------------------------------------------- softcap */

/* tanh by way of exp is off by up to 2e-7 of 1, that is of the cap. */
static void softcap_random(struct check *c, int32_t n, float cap, float span)
{
    const struct check_bound bound = {3e-7 * (double)cap, 3e-7, 1e-12};
    float *x = check_floats(c, (size_t)n);
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -span, span);
    for (int32_t i = 5; i < n; i += 41) {
        x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
    }
    c->ref->unary.softcap(want, x, cap, n);
    c->dut->unary.softcap(y, x, cap, n);
    check_close(c, y, want, (size_t)n, bound, "n=%d, cap %g", (int)n, (double)cap);
    c->dut->unary.softcap(x, x, cap, n);
    check_same_bytes(c, x, y, (size_t)n * 4, "in place, n=%d", (int)n);
    check_release(c);
}

void check_unary_softcap(struct check *c)
{
    const float x[3] = {0.0f, 30.0f, -INFINITY};
    const float want[3] = {0.0f, 22.8478247f, -30.0f}; /* 30 tanh(1) */
    float *y = check_floats(c, 3);

    c->dut->unary.softcap(y, x, 30.0f, 3);
    check_close(c, y, want, 3, (struct check_bound){1e-5, 0, 1.0}, "by hand");
    check_release(c);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        softcap_random(c, sizes[i], 30.0f, 100.0f);
        softcap_random(c, sizes[i], 50.0f, 2000.0f);
    }
    for (int i = 0; i < 50; i++) {
        softcap_random(c, check_range(c, 1, 300), 1.0f, 5.0f);
    }
}

/* --------------------------------------------------------------- softmax */

/* Relative: the exponent's argument x * scale - max is rounded once, an error
 * of up to half a unit in the last place of |x * scale - max| <= 90. */
static const struct check_bound softmax_bound = {.atol = 1e-37, .rtol = 8e-6, .nmse = 1e-12};
static const struct check_bound lse_bound = {.atol = 2e-6, .rtol = 1e-6, .nmse = 1.0};

static void softmax_row(struct check *c, const float *x, float scale, int32_t n, const char *what)
{
    float *y = check_floats(c, (size_t)n);
    float *want = check_floats(c, (size_t)n);
    float lse_want = c->ref->unary.softmax(want, x, scale, n);
    float lse = c->dut->unary.softmax(y, x, scale, n);
    float lse_again;

    check_close(c, y, want, (size_t)n, softmax_bound, "%s, n=%d", what, (int)n);
    check_close(c, &lse, &lse_want, 1, lse_bound, "%s, n=%d, log-sum-exp", what, (int)n);
    memcpy(want, x, (size_t)n * 4);
    lse_again = c->dut->unary.softmax(want, want, scale, n);
    check_same_bytes(c, want, y, (size_t)n * 4, "%s, in place, n=%d", what, (int)n);
    check_same_bytes(c, &lse_again, &lse, 4, "%s, log-sum-exp repeated, n=%d", what, (int)n);
}

static void softmax_random(struct check *c, int32_t n, float span, int n_hidden)
{
    float *x = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -span, span);
    for (int i = 0; i < n_hidden && n > 0; i++) {
        x[check_range(c, 0, n - 1)] = -INFINITY;
    }
    softmax_row(c, x, check_u32(c) % 2 ? 1.0f : 0.7f, n, "random");
    check_release(c);
}

static void softmax_special(struct check *c, int32_t n, float value)
{
    float *x = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -1.0f, 1.0f);
    x[check_range(c, 0, n - 1)] = value;
    softmax_row(c, x, 1.0f, n, "special");
    check_release(c);
}

static void softmax_known(struct check *c)
{
    const float two[2] = {0.0f, 0.6931471806f}; /* 1 : 2 */
    const float want[2] = {1.0f / 3.0f, 2.0f / 3.0f};
    const float hidden[3] = {-INFINITY, 5.0f, -INFINITY};
    const float one_hot[3] = {0.0f, 1.0f, 0.0f};
    const float none[3] = {-INFINITY, -INFINITY, -INFINITY};
    const float zeros[3] = {0.0f, 0.0f, 0.0f};
    const float log3 = 1.0986122887f;
    float *pair = check_floats(c, 2);
    float *y = check_floats(c, 3);
    float lse;

    lse = c->dut->unary.softmax(pair, two, 1.0f, 2);
    check_close(c, pair, want, 2, softmax_bound, "1 : 2");
    check_close(c, &lse, &log3, 1, lse_bound, "log 3");
    lse = c->dut->unary.softmax(y, hidden, 2.0f, 3);
    check_same_bytes(c, y, one_hot, sizeof(one_hot), "-infinity is exactly 0");
    check_true(c, lse == 10.0f, "log-sum-exp of one entry is %g, not 10", (double)lse);
    lse = c->dut->unary.softmax(y, none, 1.0f, 3);
    check_same_bytes(c, y, zeros, sizeof(zeros), "a row of -infinity");
    check_true(c, lse == -INFINITY, "log-sum-exp of nothing is %g", (double)lse);
    check_release(c);
}

void check_unary_softmax(struct check *c)
{
    softmax_known(c);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        softmax_random(c, sizes[i], 10.0f, 0);
        softmax_random(c, sizes[i], 100.0f, 2);
    }
    for (int i = 0; i < 50; i++) {
        softmax_random(c, check_range(c, 1, 300), 5.0f, i % 3);
        softmax_special(c, check_range(c, 1, 100), NAN);
        softmax_special(c, check_range(c, 1, 100), INFINITY);
        softmax_special(c, check_range(c, 1, 100), 3e38f);
        softmax_special(c, check_range(c, 1, 100), -3e38f);
    }
}

/* ---------------------------------------------------------------- timing */

struct call {
    float *y, *a, *b;
    int32_t n;
};

static void call_silu_mul(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.silu_mul(a->y, a->a, a->b, a->n);
}

static void call_gelu_mul(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.gelu_mul(a->y, a->a, a->b, a->n);
}

static void call_gelu_tanh_mul(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.gelu_tanh_mul(a->y, a->a, a->b, a->n);
}

static void call_relu_mul(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.relu_mul(a->y, a->a, a->b, a->n);
}

static void call_relu2_mul(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.relu2_mul(a->y, a->a, a->b, a->n);
}

static void call_sigmoid_mul(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.sigmoid_mul(a->y, a->a, a->b, a->n);
}

static void call_swiglu_oai(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.swiglu_oai(a->y, a->a, a->b, a->n);
}

static void call_axpy(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.axpy(a->y, 0.5f, a->a, a->n);
}

static void call_softcap(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.softcap(a->y, a->a, 30.0f, a->n);
}

static void call_add(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.add(a->y, a->a, a->n);
}

static void call_softmax(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->unary.softmax(a->y, a->a, 1.0f, a->n);
}

static void bench(struct check *c, int32_t n, check_call_fn *call, double bytes)
{
    const struct check_work work = {bytes * (double)n, "B", n > 100000};
    struct call a = {check_buffer(c, (size_t)n * 4, 64), check_buffer(c, (size_t)n * 4, 64),
                     check_buffer(c, (size_t)n * 4, 64), n};
    char label[32];

    snprintf(label, sizeof(label), "n=%d", (int)n);
    check_fill(c, a.a, (size_t)n, -4.0f, 4.0f);
    check_fill(c, a.b, (size_t)n, -4.0f, 4.0f);
    check_time(c, label, call, &a, work);
    check_release(c);
}

void bench_unary_silu_mul(struct check *c)
{
    bench(c, 8192, call_silu_mul, 12.0);
    bench(c, 14336, call_silu_mul, 12.0);
}

void bench_unary_add(struct check *c)
{
    bench(c, 4096, call_add, 12.0);
}

void bench_unary_softmax(struct check *c)
{
    bench(c, 1024, call_softmax, 8.0);
    bench(c, 128256, call_softmax, 8.0);
}

void bench_unary_gelu_mul(struct check *c)
{
    bench(c, 8192, call_gelu_mul, 12.0);
}

void bench_unary_gelu_tanh_mul(struct check *c)
{
    bench(c, 8192, call_gelu_tanh_mul, 12.0);
}

void bench_unary_relu_mul(struct check *c)
{
    bench(c, 8192, call_relu_mul, 12.0);
}

void bench_unary_relu2_mul(struct check *c)
{
    bench(c, 8192, call_relu2_mul, 12.0);
}

void bench_unary_sigmoid_mul(struct check *c)
{
    bench(c, 8192, call_sigmoid_mul, 12.0);
}

void bench_unary_swiglu_oai(struct check *c)
{
    bench(c, 8192, call_swiglu_oai, 12.0);
}

void bench_unary_axpy(struct check *c)
{
    bench(c, 4096, call_axpy, 12.0);
}

void bench_unary_softcap(struct check *c)
{
    bench(c, 128256, call_softcap, 8.0);
}
