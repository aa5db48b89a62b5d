/* Checks and timing of gemm.run_bf16. */
#include "check.h"
#include "weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Products of values about 1 in size, up to 2048 of them, summed in any order. */
static const struct check_bound bound = {.atol = 1e-4, .rtol = 4e-6, .nmse = 1e-11};

struct shape {
    int32_t m, n, k;
    int with_bias, accumulate;
};

struct product {
    struct kern_gemm_args args;
    size_t y_floats;
};

/* Rows lie further apart than they are long, in buffers that end at a guard page. */
static struct product make_product(struct check *c, struct shape s)
{
    static const float scale = 0.375f;
    const size_t gap = 2 * (check_u32(c) % 3);
    const size_t w_stride = 2 * (size_t)s.k + gap, x_stride = 2 * (size_t)s.k + gap;
    const size_t y_stride = (size_t)s.n + check_u32(c) % 4;
    uint8_t *w = check_buffer(c, s.n ? (size_t)s.n * w_stride - gap : 0, 2);
    uint8_t *x = check_buffer(c, s.m ? (size_t)s.m * x_stride - gap : 0, 2);
    float *bias = check_floats(c, (size_t)s.n), *row = check_floats(c, (size_t)s.k);
    struct product p = {.y_floats = (size_t)s.m * y_stride};

    for (int32_t r = 0; r < s.n; r++) {
        weights_fill(c, w + (size_t)r * w_stride, s.k, -1);
    }
    for (int32_t i = 0; i < s.m; i++) {
        check_fill(c, row, (size_t)s.k, -1.0f, 1.0f);
        c->ref->quant.narrow[INFER_DTYPE_BF16](x + (size_t)i * x_stride, row, s.k);
    }
    check_fill(c, bias, (size_t)s.n, -1.0f, 1.0f);
    p.args = (struct kern_gemm_args){.w = w,
                                     .w_stride = w_stride,
                                     .x = x,
                                     .x_stride = x_stride,
                                     .y_stride = y_stride,
                                     .bias = s.with_bias ? bias : NULL,
                                     .m = s.m,
                                     .n = s.n,
                                     .k = s.k,
                                     .accumulate = s.accumulate,
                                     .scale = check_u32(c) % 3 ? NULL : &scale};
    return p;
}

static float *make_y(struct check *c, const struct product *p)
{
    float *y = check_floats(c, p->y_floats);

    for (size_t i = 0; i < p->y_floats; i++) {
        y[i] = (float)(i % 13) * 0.25f - 1.0f;
    }
    return y;
}

static float *run(struct check *c, const struct infer_kernels *kernels, const struct product *p,
                  int32_t begin, int32_t end)
{
    struct kern_gemm_args args = p->args;

    args.y = make_y(c, p);
    kernels->gemm.run_bf16[c->dtype](&args, begin, end);
    return args.y;
}

/* As one thread of several: other columns stay as they were. */
static void in_range(struct check *c, const struct product *p, const float *whole)
{
    const struct kern_gemm_args *a = &p->args;
    const int32_t begin = check_range(c, 0, a->n), end = check_range(c, begin, a->n);
    const float *before = make_y(c, p);
    const float *got = run(c, c->dut, p, begin, end);

    for (size_t i = 0; i < p->y_floats; i++) {
        const size_t column = i % a->y_stride;
        const int inside = column >= (size_t)begin && column < (size_t)end;

        if (!check_true(c, memcmp(got + i, (inside ? whole : before) + i, 4) == 0,
                        "m=%d range %d .. %d: y[%zu] is %g", (int)a->m, (int)begin, (int)end, i,
                        (double)got[i])) {
            return;
        }
    }
}

/* Where the table says so: ranges of columns, and some of the rows, give the same bits. */
static void is_invariant(struct check *c, const struct product *p, const float *whole)
{
    const struct kern_gemm_args *a = &p->args;
    struct kern_gemm_args part = *a;

    part.y = make_y(c, p);
    for (int32_t i = 0; i < a->m; i += part.m) {
        part.m = check_u32(c) % 2 ? 1 : check_range(c, 1, a->m - i);
        part.x = (const uint8_t *)a->x + (size_t)i * a->x_stride;
        for (int32_t at = 0, next; at < a->n; at = next) {
            next = at + check_range(c, 1, 37);
            next = BASE_MIN(next, a->n);
            c->dut->gemm.run_bf16[c->dtype](&part, at, next);
        }
        part.y += (size_t)part.m * a->y_stride;
    }
    check_same_bytes(c, part.y - (size_t)a->m * a->y_stride, whole, p->y_floats * 4,
                     "m=%d n=%d k=%d in parts", (int)a->m, (int)a->n, (int)a->k);
}

/* NaN appears in the row it went in, and nowhere else does a bit change. */
static void nan_input(struct check *c, const struct product *p, const float *clean)
{
    static const uint16_t nan16 = 0x7fc0;
    const struct kern_gemm_args *a = &p->args;
    const int32_t row = check_range(c, 0, a->m - 1), at = check_range(c, 0, a->k - 1);
    uint8_t *x = (uint8_t *)(uintptr_t)a->x + (size_t)row * a->x_stride;
    const float *got;

    memcpy(x + 2 * (size_t)at, &nan16, 2);
    got = run(c, c->dut, p, 0, a->n);
    for (int32_t i = 0; i < a->m; i++) {
        for (int32_t r = 0; r < a->n; r++) {
            const size_t e = (size_t)i * a->y_stride + (size_t)r;

            check_true(c, i == row ? isnan(got[e]) : got[e] == clean[e],
                       "m=%d n=%d k=%d: (%d, %d) is %g with a NaN in row %d", (int)a->m, (int)a->n,
                       (int)a->k, (int)i, (int)r, (double)got[e], (int)row);
        }
    }
}

static void random_product(struct check *c, struct shape s)
{
    const struct product p = make_product(c, s);
    const float *want = run(c, c->ref, &p, 0, s.n);
    const float *got = run(c, c->dut, &p, 0, s.n);

    check_close(c, got, want, p.y_floats, bound, "m=%d n=%d k=%d bias=%d accumulate=%d scale=%d",
                (int)s.m, (int)s.n, (int)s.k, s.with_bias, s.accumulate, p.args.scale != NULL);
    check_same_bytes(c, run(c, c->dut, &p, 0, s.n), got, p.y_floats * 4, "repeated");
    in_range(c, &p, got);
    if (c->dut->gemm.bf16_stable[c->dtype]) {
        is_invariant(c, &p, got);
    }
    if (s.m > 0 && s.n > 0) {
        nan_input(c, &p, got);
    }
    check_release(c);
}

void check_gemm_run_bf16(struct check *c)
{
    const struct shape shapes[] = {
        {0, 5, 32, 1, 1},   {5, 0, 32, 1, 0},    {1, 1, 1, 0, 0},     {1, 17, 2048, 1, 0},
        {16, 16, 32, 0, 0}, {16, 15, 64, 0, 1},  {47, 33, 512, 1, 0}, {48, 31, 544, 1, 1},
        {31, 40, 63, 0, 0}, {129, 18, 96, 0, 1}, {144, 50, 64, 1, 0}, {32, 32, 2048, 0, 0},
    };

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        random_product(c, shapes[i]);
    }
    for (int i = 0; i < 40; i++) {
        const int32_t k = i % 3 ? 32 * check_range(c, 1, 20) : check_range(c, 1, 300);

        random_product(
            c, (struct shape){check_range(c, 1, 70), check_range(c, 1, 70), k, i % 2, i / 2 % 2});
    }
}

/* --------------------------------------------------------------- timing */

static void call_run(const struct infer_kernels *kernels, void *arg)
{
    const struct kern_gemm_args *a = arg;

    kernels->gemm.run_bf16[INFER_DTYPE_BF16](a, 0, a->n);
}

void bench_gemm_run_bf16(struct check *c)
{
    static const struct shape shapes[] = {
        {1, 4096, 4096, 0, 0},
        {4, 1024, 4096, 0, 0},
        {16, 512, 4096, 0, 0},
        {256, 256, 4096, 0, 0},
    };

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        const struct shape s = shapes[i];
        struct product p = make_product(c, s);
        const struct check_work stream = {2.0 * s.n * s.k, "B", 1};
        const struct check_work compute = {2.0 * s.m * s.n * s.k, "flop", 0};
        char label[48];

        p.args.y = check_floats(c, p.y_floats);
        snprintf(label, sizeof(label), "m=%d n=%d k=%d", (int)s.m, (int)s.n, (int)s.k);
        check_time(c, label, call_run, &p.args, s.m == 1 ? stream : compute);
        check_release(c);
    }
}
