/* Checks and timing of kernels/<level>/ssm*. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Sums of up to 256 products in float, over states of up to 60 rows that forget. */
static const struct check_bound bound = {.atol = 2e-5, .rtol = 2e-5, .nmse = 1e-11};
static const struct check_bound exact = {0, 0, 0};

/* Floats of n_rows rows. */
static size_t floats(int32_t n_rows, size_t stride, size_t row)
{
    return n_rows > 0 ? (size_t)(n_rows - 1) * stride + row : 0;
}

static float *random_floats(struct check *c, size_t n, float low, float high)
{
    float *x = check_floats(c, n);

    check_fill(c, x, n, low, high);
    return x;
}

static float *copy_of(struct check *c, const float *x, size_t n)
{
    float *copy = check_floats(c, n);

    memcpy(copy, x, n * sizeof(*x));
    return copy;
}

/* At random up to `most` of what is left; all of it where that is 0. */
static int32_t piece(struct check *c, int32_t most, int32_t left)
{
    const int32_t n = most > 0 ? check_range(c, 1, most) : left;

    return BASE_MIN(n, left);
}

/* ------------------------------------------------------------------ conv */

struct conv {
    struct kern_conv_args args;
    size_t out, state;
    const float *before; /* the state at the start */
};

static struct conv make_conv(struct check *c, int32_t n_rows, int32_t n_channels, int32_t width)
{
    const size_t n = (size_t)n_channels;
    struct conv p = {.args = {.x_stride = n + 3,
                              .y_stride = n + 5,
                              .n_rows = n_rows,
                              .n_channels = n_channels,
                              .width = width,
                              .silu = (int32_t)(check_u32(c) % 2)}};

    p.out = floats(n_rows, p.args.y_stride, n);
    p.state = (size_t)(width - 1) * n;
    p.before = random_floats(c, p.state, -2.0f, 2.0f);
    p.args.x = random_floats(c, floats(n_rows, p.args.x_stride, n), -2.0f, 2.0f);
    p.args.w = random_floats(c, n * (size_t)width, -1.0f, 1.0f);
    p.args.bias = check_u32(c) % 2 ? random_floats(c, n, -1.0f, 1.0f) : NULL;
    return p;
}

/* All channels, cut at random where `cut` is set: in rows, and in channels. */
static void run_conv(struct check *c, kern_conv_fn *fn, struct conv *p, int cut)
{
    struct kern_conv_args a = p->args;

    p->args.y = a.y = check_floats(c, p->out);
    p->args.state = a.state = copy_of(c, p->before, p->state);
    for (int32_t row = 0, n; row < p->args.n_rows; row += n) {
        n = piece(c, cut ? 5 : 0, p->args.n_rows - row);
        a.n_rows = n;
        for (int32_t at = 0, m; at < a.n_channels; at += m) {
            m = piece(c, cut ? 40 : 0, a.n_channels - at);
            fn(&a, at, at + m);
        }
        a.x += (size_t)n * a.x_stride;
        a.y += (size_t)n * a.y_stride;
    }
}

static void conv_random(struct check *c, int32_t n_rows, int32_t n_channels, int32_t width)
{
    struct conv want = make_conv(c, n_rows, n_channels, width);
    struct conv got = want, again = want;
    char what[64];

    snprintf(what, sizeof(what), "%d rows, %d channels, width %d%s", (int)n_rows, (int)n_channels,
             (int)width, want.args.silu ? ", SiLU" : "");
    run_conv(c, c->ref->ssm.conv, &want, 0);
    run_conv(c, c->dut->ssm.conv, &got, 0);
    run_conv(c, c->dut->ssm.conv, &again, 1);
    check_close(c, got.args.y, want.args.y, want.out, bound, "%s", what);
    check_same_bytes(c, got.args.state, want.args.state, want.state * 4, "%s, state", what);
    check_same_bytes(c, again.args.y, got.args.y, got.out * 4, "%s, cut", what);
    check_same_bytes(c, again.args.state, got.args.state, got.state * 4, "%s, cut, state", what);
    again.args.state = copy_of(c, want.before, want.state);
    again.args.y = copy_of(c, want.args.x, floats(n_rows, want.args.x_stride, (size_t)n_channels));
    again.args.x = again.args.y;
    again.args.y_stride = want.args.x_stride;
    c->dut->ssm.conv(&again.args, 0, n_channels);
    for (int32_t i = 0; i < n_rows; i++) {
        check_same_bytes(c, again.args.y + (size_t)i * again.args.y_stride,
                         got.args.y + (size_t)i * got.args.y_stride, (size_t)n_channels * 4,
                         "%s, in place, row %d", what, (int)i);
    }
    check_release(c);
}

/* Two rows behind a state of (1, 10) and (2, 20), oldest first. */
static void conv_known(struct check *c)
{
    const float w[6] = {1.0f, 2.0f, 3.0f, 0.5f, 0.0f, -1.0f};
    const float x[4] = {4.0f, 40.0f, 5.0f, 50.0f};
    const float bias[2] = {0.25f, 0.0f};
    const float want[4] = {17.25f, -35.0f, 25.25f, -40.0f};
    const float left[4] = {4.0f, 40.0f, 5.0f, 50.0f};
    float *state = check_floats(c, 4);
    float *y = check_floats(c, 4);
    const struct kern_conv_args args = {.x = x,
                                        .x_stride = 2,
                                        .y = y,
                                        .y_stride = 2,
                                        .w = w,
                                        .bias = bias,
                                        .state = state,
                                        .n_rows = 2,
                                        .n_channels = 2,
                                        .width = 3};

    state[0] = 1.0f, state[1] = 10.0f, state[2] = 2.0f, state[3] = 20.0f;
    c->dut->ssm.conv(&args, 0, 2);
    check_close(c, y, want, 4, exact, "by hand");
    check_close(c, state, left, 4, exact, "by hand, state");
    check_release(c);
}

void check_ssm_conv(struct check *c)
{
    conv_known(c);
    for (int32_t width = 1; width <= KERN_CONV_WIDTH_MAX; width++) {
        conv_random(c, 9, 33, width);
        conv_random(c, 1, 16, width);
    }
    for (int i = 0; i < 40; i++) {
        conv_random(c, check_range(c, 1, 20), check_range(c, 1, 200), 4);
    }
}

/* ------------------------------------------------------------------ scan */

struct scan {
    struct kern_scan_args args;
    size_t out, state;
    const float *before;
};

struct scan_shape {
    int32_t n_rows, n_head, n_group, head_dim, d_state;
};

static struct scan make_scan(struct check *c, struct scan_shape s)
{
    const size_t inner = (size_t)(s.n_head * s.head_dim);
    const size_t bc = (size_t)(s.n_group * s.d_state);
    const size_t heads = (size_t)s.n_head;
    struct scan p = {.args = {.x_stride = inner + 1,
                              .dt_stride = heads + 2,
                              .bc_stride = 2 * bc + 3,
                              .y_stride = inner + 4,
                              .n_rows = s.n_rows,
                              .n_head = s.n_head,
                              .n_group = s.n_group,
                              .head_dim = s.head_dim,
                              .d_state = s.d_state}};
    const size_t bc_floats = floats(s.n_rows, p.args.bc_stride, 2 * bc);

    p.out = floats(s.n_rows, p.args.y_stride, inner);
    p.state = inner * (size_t)s.d_state;
    p.before = random_floats(c, p.state, -1.0f, 1.0f);
    p.args.x = random_floats(c, floats(s.n_rows, p.args.x_stride, inner), -1.0f, 1.0f);
    p.args.dt = random_floats(c, floats(s.n_rows, p.args.dt_stride, heads), -4.0f, 3.0f);
    p.args.b = random_floats(c, bc_floats, -1.0f, 1.0f);
    p.args.c = p.args.b + bc;
    p.args.a = random_floats(c, heads, -4.0f, -0.01f);
    p.args.d = check_u32(c) % 3 ? random_floats(c, heads, -1.0f, 1.0f) : NULL;
    p.args.dt_bias = check_u32(c) % 3 ? random_floats(c, heads, -2.0f, 1.0f) : NULL;
    if (check_u32(c) % 3 == 0) {
        p.args.dt_min = 0.05f;
        p.args.dt_max = 0.9f;
    }
    return p;
}

static void run_scan(struct check *c, kern_scan_fn *fn, struct scan *p, int cut)
{
    struct kern_scan_args a = p->args;

    p->args.y = a.y = check_floats(c, p->out);
    p->args.state = a.state = copy_of(c, p->before, p->state);
    for (int32_t row = 0, n; row < p->args.n_rows; row += n) {
        n = piece(c, cut ? 5 : 0, p->args.n_rows - row);
        a.n_rows = n;
        for (int32_t head = 0, m; head < a.n_head; head += m) {
            m = piece(c, cut ? 3 : 0, a.n_head - head);
            fn(&a, head, head + m);
        }
        a.x += (size_t)n * a.x_stride;
        a.dt += (size_t)n * a.dt_stride;
        a.b += (size_t)n * a.bc_stride;
        a.c += (size_t)n * a.bc_stride;
        a.y += (size_t)n * a.y_stride;
    }
}

/* The dual form of the paper: y_i = sum_j (C_i . B_j) exp(A sum of the t between) t_j x_j, from
 * an empty state. Holds the reference to something that is no recurrence. */
static void scan_dual(struct check *c, struct scan *p, const char *what)
{
    const struct kern_scan_args *a = &p->args;
    float *want = check_floats(c, p->out);
    double t[64];

    for (int32_t at = 0; at < a->n_head * a->head_dim; at++) {
        const int32_t head = at / a->head_dim;
        const size_t group = (size_t)(head / (a->n_head / a->n_group) * a->d_state);

        for (int32_t i = 0; i < a->n_rows; i++) {
            const double x = (double)a->x[(size_t)i * a->x_stride + (size_t)at];
            double sum = a->d ? (double)a->d[head] * x : 0.0;
            double since = 0.0;

            t[i] = log1p(exp((double)a->dt[(size_t)i * a->dt_stride + (size_t)head] +
                             (a->dt_bias ? (double)a->dt_bias[head] : 0.0)));
            if (a->dt_max > 0.0f) {
                t[i] = fmin(fmax(t[i], (double)a->dt_min), (double)a->dt_max);
            }
            for (int32_t j = i; j >= 0; j--) {
                const float *ci = a->c + (size_t)i * a->bc_stride + group;
                const float *bj = a->b + (size_t)j * a->bc_stride + group;
                double dot = 0.0;

                for (int32_t s = 0; s < a->d_state; s++) {
                    dot += (double)ci[s] * (double)bj[s];
                }
                sum += dot * exp((double)a->a[head] * since) * t[j] *
                       (double)a->x[(size_t)j * a->x_stride + (size_t)at];
                since += t[j];
            }
            want[(size_t)i * a->y_stride + (size_t)at] = (float)sum;
        }
    }
    p->before = check_floats(c, p->state); /* zeros */
    run_scan(c, c->dut->ssm.scan, p, 0);
    check_close(c, p->args.y, want, p->out, bound, "%s, dual form", what);
}

static void scan_random(struct check *c, struct scan_shape s)
{
    struct scan want = make_scan(c, s);
    struct scan got = want, again = want;
    char what[96];

    snprintf(what, sizeof(what), "%d rows, %d heads of %d, %d groups, state %d", (int)s.n_rows,
             (int)s.n_head, (int)s.head_dim, (int)s.n_group, (int)s.d_state);
    run_scan(c, c->ref->ssm.scan, &want, 0);
    run_scan(c, c->dut->ssm.scan, &got, 0);
    run_scan(c, c->dut->ssm.scan, &again, 1);
    check_close(c, got.args.y, want.args.y, want.out, bound, "%s", what);
    check_close(c, got.args.state, want.args.state, want.state, bound, "%s, state", what);
    check_same_bytes(c, again.args.y, got.args.y, got.out * 4, "%s, cut", what);
    check_same_bytes(c, again.args.state, got.args.state, got.state * 4, "%s, cut, state", what);
    scan_dual(c, &got, what);
    check_release(c);
}

void check_ssm_scan(struct check *c)
{
    static const int32_t states[] = {1, 7, 16, 24, 64, 128, 256};
    static const int32_t dims[] = {1, 5, 16, 20, 32, 64};

    scan_random(c, (struct scan_shape){33, 4, 1, 64, 128});
    scan_random(c, (struct scan_shape){1, 8, 8, 64, 128});
    scan_random(c, (struct scan_shape){60, 3, 3, 17, 33});
    for (int i = 0; i < 30; i++) {
        struct scan_shape s = {check_range(c, 1, 30), 0, check_range(c, 1, 3),
                               dims[check_u32(c) % BASE_COUNT(dims)],
                               states[check_u32(c) % BASE_COUNT(states)]};

        s.n_head = s.n_group * check_range(c, 1, 3);
        scan_random(c, s);
    }
}

/* ----------------------------------------------------------------- delta */

struct delta {
    struct kern_delta_args args;
    size_t out, state;
    const float *before;
};

struct delta_shape {
    int32_t n_rows, n_head, n_head_k, k_dim, v_dim;
};

static struct delta make_delta(struct check *c, struct delta_shape s)
{
    const size_t keys = (size_t)(s.n_head_k * s.k_dim);
    const size_t values = (size_t)(s.n_head * s.v_dim);
    const size_t heads = (size_t)s.n_head;
    struct delta p = {.args = {.qk_stride = 2 * keys + 1,
                               .v_stride = values + 2,
                               .ab_stride = 2 * heads + 3,
                               .y_stride = values + 4,
                               .scale = 1.0f / sqrtf((float)s.k_dim),
                               .eps = 1e-6f,
                               .n_rows = s.n_rows,
                               .n_head = s.n_head,
                               .n_head_k = s.n_head_k,
                               .k_dim = s.k_dim,
                               .v_dim = s.v_dim,
                               .tiled = (int32_t)(check_u32(c) % 2)}};

    p.out = floats(s.n_rows, p.args.y_stride, values);
    p.state = values * (size_t)s.k_dim;
    p.before = random_floats(c, p.state, -1.0f, 1.0f);
    p.args.q = random_floats(c, floats(s.n_rows, p.args.qk_stride, 2 * keys), -1.0f, 1.0f);
    p.args.k = p.args.q + keys;
    p.args.v = random_floats(c, floats(s.n_rows, p.args.v_stride, values), -1.0f, 1.0f);
    p.args.alpha = random_floats(c, floats(s.n_rows, p.args.ab_stride, 2 * heads), -4.0f, 4.0f);
    p.args.beta = p.args.alpha + heads;
    p.args.a = random_floats(c, heads, -3.0f, -0.01f);
    p.args.dt_bias = check_u32(c) % 3 ? random_floats(c, heads, -2.0f, 1.0f) : NULL;
    return p;
}

static void run_delta(struct check *c, kern_delta_fn *fn, struct delta *p, int cut)
{
    struct kern_delta_args a = p->args;

    p->args.y = a.y = check_floats(c, p->out);
    p->args.state = a.state = copy_of(c, p->before, p->state);
    for (int32_t row = 0, n; row < p->args.n_rows; row += n) {
        n = piece(c, cut ? 5 : 0, p->args.n_rows - row);
        a.n_rows = n;
        for (int32_t head = 0, m; head < a.n_head; head += m) {
            m = piece(c, cut ? 3 : 0, a.n_head - head);
            fn(&a, head, head + m);
        }
        a.q += (size_t)n * a.qk_stride;
        a.k += (size_t)n * a.qk_stride;
        a.v += (size_t)n * a.v_stride;
        a.alpha += (size_t)n * a.ab_stride;
        a.beta += (size_t)n * a.ab_stride;
        a.y += (size_t)n * a.y_stride;
    }
}

static void delta_random(struct check *c, struct delta_shape s)
{
    struct delta want = make_delta(c, s);
    struct delta got = want, again = want;
    char what[96];

    snprintf(what, sizeof(what), "%d rows, %d/%d heads, keys %d, values %d%s", (int)s.n_rows,
             (int)s.n_head, (int)s.n_head_k, (int)s.k_dim, (int)s.v_dim,
             want.args.tiled ? ", tiled" : "");
    run_delta(c, c->ref->ssm.delta, &want, 0);
    run_delta(c, c->dut->ssm.delta, &got, 0);
    run_delta(c, c->dut->ssm.delta, &again, 1);
    check_close(c, got.args.y, want.args.y, want.out, bound, "%s", what);
    check_close(c, got.args.state, want.args.state, want.state, bound, "%s, state", what);
    check_same_bytes(c, again.args.y, got.args.y, got.out * 4, "%s, cut", what);
    check_same_bytes(c, again.args.state, got.args.state, got.state * 4, "%s, cut, state", what);
    check_release(c);
}

/* What the rule is for: with nothing forgotten (a = 0) and a full write (beta large), asking
 * for a key gives the value last written to it, whatever else is in the state; and a key that
 * stands at right angles to it still gives what it gave. Head 1 of each key head writes twice
 * half of the way. */
static void delta_known(struct check *c)
{
    const float q[6] = {0.0f, 2.0f, 0.0f, 3.0f, 5.0f, 0.0f}; /* rows: e1, e1, e0 */
    const float k[6] = {4.0f, 0.0f, 0.0f, 1.0f, 0.0f, 7.0f}; /* rows: e0, e1, e1 */
    const float v[6] = {1.0f, 1.0f, 2.0f, 2.0f, -3.0f, -3.0f};
    const float beta[6] = {60.0f, 0.0f, 60.0f, 0.0f, 60.0f, 0.0f};
    const float alpha[6] = {0};
    const float a[2] = {0.0f, 0.0f};
    const float want[6] = {0.0f, 0.0f, 2.0f, 1.0f, 1.0f, 0.5f};
    const float left[4] = {1.0f, -3.0f, 0.5f, -1.0f}; /* of e0, e1 in head 0, then 1 */
    float *state = check_floats(c, 4);
    float *y = check_floats(c, 6);
    const struct kern_delta_args args = {.q = q,
                                         .k = k,
                                         .qk_stride = 2,
                                         .v = v,
                                         .v_stride = 2,
                                         .alpha = alpha,
                                         .beta = beta,
                                         .ab_stride = 2,
                                         .a = a,
                                         .state = state,
                                         .y = y,
                                         .y_stride = 2,
                                         .scale = 1.0f,
                                         .n_rows = 3,
                                         .n_head = 2,
                                         .n_head_k = 1,
                                         .k_dim = 2,
                                         .v_dim = 1};

    c->dut->ssm.delta(&args, 0, 2);
    check_close(c, y, want, 6, bound, "by hand");
    check_close(c, state, left, 4, bound, "by hand, state");
    check_release(c);
}

void check_ssm_delta(struct check *c)
{
    static const int32_t dims[] = {1, 5, 16, 24, 64, 80, 128};

    delta_known(c);
    delta_random(c, (struct delta_shape){33, 4, 2, 128, 128});
    delta_random(c, (struct delta_shape){1, 6, 2, 128, 128});
    delta_random(c, (struct delta_shape){20, 2, 1, KERN_DELTA_KEY_MAX, 100});
    delta_random(c, (struct delta_shape){60, 3, 3, 17, 33});
    for (int i = 0; i < 30; i++) {
        struct delta_shape s = {check_range(c, 1, 30), 0, check_range(c, 1, 3),
                                dims[check_u32(c) % BASE_COUNT(dims)],
                                dims[check_u32(c) % BASE_COUNT(dims)]};

        s.n_head = s.n_head_k * check_range(c, 1, 3);
        delta_random(c, s);
    }
}

/* ---------------------------------------------------------------- timing */

static void call_conv(const struct infer_kernels *kernels, void *arg)
{
    const struct conv *p = arg;

    kernels->ssm.conv(&p->args, 0, p->args.n_channels);
}

static void call_scan(const struct infer_kernels *kernels, void *arg)
{
    const struct scan *p = arg;

    kernels->ssm.scan(&p->args, 0, p->args.n_head);
}

static void call_delta(const struct infer_kernels *kernels, void *arg)
{
    const struct delta *p = arg;

    kernels->ssm.delta(&p->args, 0, p->args.n_head);
}

void bench_ssm_conv(struct check *c)
{
    for (int32_t rows = 1; rows <= 64; rows += 63) {
        struct conv p = make_conv(c, rows, 8192, 4);
        const struct check_work work = {2.0 * 4.0 * rows * 8192.0, "flop", 0};
        char label[32];

        snprintf(label, sizeof(label), "%d rows of 8192", (int)rows);
        run_conv(c, c->ref->ssm.conv, &p, 0);
        check_time(c, label, call_conv, &p, work);
        check_release(c);
    }
}

void bench_ssm_scan(struct check *c)
{
    for (int32_t rows = 1; rows <= 64; rows += 63) {
        struct scan p = make_scan(c, (struct scan_shape){rows, 48, 1, 64, 128});
        const struct check_work work = {5.0 * rows * 48.0 * 64.0 * 128.0, "flop", 0};
        char label[48];

        snprintf(label, sizeof(label), "%d rows, 48 heads of 64 x 128", (int)rows);
        run_scan(c, c->ref->ssm.scan, &p, 0);
        check_time(c, label, call_scan, &p, work);
        check_release(c);
    }
}

void bench_ssm_delta(struct check *c)
{
    for (int32_t rows = 1; rows <= 64; rows += 63) {
        struct delta p = make_delta(c, (struct delta_shape){rows, 32, 16, 128, 128});
        const struct check_work work = {7.0 * rows * 32.0 * 128.0 * 128.0, "flop", 0};
        char label[48];

        snprintf(label, sizeof(label), "%d rows, 32 heads of 128 x 128", (int)rows);
        run_delta(c, c->ref->ssm.delta, &p, 0);
        check_time(c, label, call_delta, &p, work);
        check_release(c);
    }
}
