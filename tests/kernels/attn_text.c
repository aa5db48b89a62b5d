/* Checks and timing of kernels/<level>/attn_text*. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Scores are sums of up to 576 products in float; weights are their exp. */
static const struct check_bound bound = {.atol = 3e-5, .rtol = 1e-4, .nmse = 1e-9};

struct shape {
    int32_t n, head_dim, reach;
    float slope;
};

struct problem {
    struct kern_attn_text_args args;
    size_t out_floats;
};

static float *rows(struct check *c, struct shape s, size_t stride)
{
    const size_t n = s.n ? (size_t)(s.n - 1) * stride + (size_t)s.head_dim : 0;
    float *x = check_floats(c, n);

    check_fill(c, x, n, -2.0f, 2.0f);
    return x;
}

static struct problem make_problem(struct check *c, struct shape s)
{
    const size_t stride = (size_t)s.head_dim + check_u32(c) % 40;
    const size_t v_stride = (size_t)s.head_dim + check_u32(c) % 40;
    struct problem p = {.args = {.q = rows(c, s, stride),
                                 .k = rows(c, s, stride),
                                 .v = rows(c, s, v_stride),
                                 .q_stride = stride,
                                 .k_stride = stride,
                                 .v_stride = v_stride,
                                 .out_stride = (size_t)s.head_dim + 3,
                                 .n = s.n,
                                 .head_dim = s.head_dim,
                                 .reach = s.reach,
                                 .scale = 1.5f / sqrtf((float)s.head_dim),
                                 .slope = s.slope}};

    p.args.scratch = check_buffer(c, kern_attn_text_floats(s.n, s.head_dim) * sizeof(float), 64);
    p.out_floats = s.n ? (size_t)(s.n - 1) * p.args.out_stride + (size_t)s.head_dim : 0;
    return p;
}

/* Rows in runs of 1 to `step`; whatever lay in the scratch memory must not matter. */
static float *run(struct check *c, const struct infer_kernels *kernels, const struct problem *p,
                  int32_t step)
{
    struct kern_attn_text_args args = p->args;

    args.out = check_floats(c, p->out_floats);
    for (size_t i = 0; i < p->out_floats; i++) {
        args.out[i] = (float)(i % 11);
    }
    for (int32_t at = 0, next; at < args.n; at = next) {
        next = step ? at + check_range(c, 1, step) : args.n;
        next = BASE_MIN(next, args.n);
        memset(args.scratch, 0xff,
               kern_attn_text_floats(args.n, args.head_dim) * sizeof(*args.scratch));
        kernels->attn.text(&args, at, next);
    }
    return args.out;
}

static void check_shape(struct check *c, struct shape s)
{
    const struct problem p = make_problem(c, s);
    const float *want = run(c, c->ref, &p, 0);
    const float *got = run(c, c->dut, &p, 0);
    const size_t bytes = p.out_floats * sizeof(float);

    check_close(c, got, want, p.out_floats, bound, "n=%d dim=%d reach=%d slope=%g", (int)s.n,
                (int)s.head_dim, (int)s.reach, (double)s.slope);
    check_same_bytes(c, run(c, c->dut, &p, 0), got, bytes, "repeated");
    check_same_bytes(c, run(c, c->dut, &p, 1), got, bytes, "n=%d dim=%d reach=%d row by row",
                     (int)s.n, (int)s.head_dim, (int)s.reach);
    check_same_bytes(c, run(c, c->dut, &p, 17), got, bytes, "n=%d dim=%d reach=%d in runs",
                     (int)s.n, (int)s.head_dim, (int)s.reach);
    check_release(c);
}

/* Large numbers in rows that a row does not see change no bit of it. */
static void check_unseen(struct check *c, struct shape s)
{
    const struct problem p = make_problem(c, s);
    const int32_t row = check_range(c, 0, s.n - 1);
    const float *got = run(c, c->dut, &p, 0);
    const float *again;

    for (int32_t j = 0; j < s.n; j++) {
        if (j >= row - s.reach && j <= row + s.reach) {
            continue;
        }
        for (int32_t d = 0; d < s.head_dim; d++) {
            ((float *)(uintptr_t)p.args.k)[(size_t)j * p.args.k_stride + (size_t)d] = 99.0f;
            ((float *)(uintptr_t)p.args.v)[(size_t)j * p.args.v_stride + (size_t)d] = -1e30f;
        }
    }
    again = run(c, c->dut, &p, 0);
    check_same_bytes(c, again + (size_t)row * p.args.out_stride,
                     got + (size_t)row * p.args.out_stride, (size_t)s.head_dim * sizeof(float),
                     "row %d of %d, reach %d", (int)row, (int)s.n, (int)s.reach);
    check_release(c);
}

/* A NaN in a query makes its row NaN and no other. */
static void check_nan(struct check *c, struct shape s)
{
    const struct problem p = make_problem(c, s);
    const int32_t row = check_range(c, 0, s.n - 1);
    const float *clean = run(c, c->dut, &p, 0), *got;

    ((float *)(uintptr_t)p.args.q)[(size_t)row * p.args.q_stride] = NAN;
    got = run(c, c->dut, &p, 0);
    for (int32_t i = 0; i < s.n; i++) {
        const size_t at = (size_t)i * p.args.out_stride;

        check_true(c, i == row ? isnan(got[at]) : got[at] == clean[at], "row %d with a NaN in %d",
                   (int)i, (int)row);
    }
    check_release(c);
}

void check_attn_text(struct check *c)
{
    static const struct shape shapes[] = {
        {0, 32, 0, 0},   {1, 32, 0, 0},    {1, 1, 0, 0},      {2, 64, 1, 0},    {31, 32, 0, 0},
        {32, 32, 0, 0},  {33, 64, 0, 0},   {64, 128, 0, 0},   {100, 80, 0, 0},  {129, 40, 64, 0},
        {300, 64, 8, 0}, {77, 48, 0, .3f}, {70, 96, 20, .1f}, {40, 576, 0, 0},  {65, 20, 3, 0},
        {90, 7, 200, 0}, {24, 33, 1, 0},   {16, 16, 15, 0},   {200, 64, 64, 0},
    };

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        check_shape(c, shapes[i]);
    }
    for (int i = 0; i < c->options->rounds; i++) {
        struct shape s = {check_range(c, 1, 150), check_range(c, 1, 100), 0, 0};

        s.reach = i % 2 ? check_range(c, 1, s.n) : 0;
        s.slope = i % 3 ? 0.0f : 0.25f;
        check_shape(c, s);
        check_nan(c, s);
        s.reach = BASE_MAX(s.reach / 3, 1);
        check_unseen(c, s);
    }
}

/* ---------------------------------------------------------------- timing */

static void call_text(const struct infer_kernels *kernels, void *arg)
{
    const struct kern_attn_text_args *a = arg;

    kernels->attn.text(a, 0, a->n);
}

void bench_attn_text(struct check *c)
{
    static const struct shape shapes[] = {
        {32, 32, 0, 0}, {128, 32, 0, 0}, {512, 64, 0, 0}, {2048, 64, 64, 0}};

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        struct problem p = make_problem(c, shapes[i]);
        const double n = shapes[i].n, seen = shapes[i].reach ? 2.0 * shapes[i].reach + 1 : n;
        const struct check_work work = {4.0 * n * seen * shapes[i].head_dim, "flop", 0};
        char label[48];

        p.args.out = check_floats(c, p.out_floats);
        snprintf(label, sizeof(label), "%d rows of %d, reach %d", (int)shapes[i].n,
                 (int)shapes[i].head_dim, (int)shapes[i].reach);
        check_time(c, label, call_text, &p.args, work);
        check_release(c);
    }
}
