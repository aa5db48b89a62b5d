/* Checks and timing of kernels/<level>/gemm*. */
#include "check.h"
#include "weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Products of values about 1 in size, up to 2048 of them. */
static const struct check_bound bound = {.atol = 4e-5, .rtol = 4e-6, .nmse = 1e-12};

static int32_t k_multiple(infer_dtype dtype)
{
    return weights_type_of(dtype).block;
}

static int is_q8(const struct check *c)
{
    return c->ref->gemm.act[c->dtype] == KERN_ACT_Q8;
}

/* ---------------------------------------------------------------- input */

struct shape {
    int32_t m, n, k;
    int with_bias, accumulate;
};

/* A product whose rows lie further apart than they are long, in buffers that
 * end at a guard page. y holds numbers before the call. */
struct product {
    struct kern_gemm_args args;
    size_t y_floats;
};

static struct product make_product(struct check *c, struct shape s, int fill)
{
    static const float scale = 0.375f;
    const size_t gap = 2 * (check_u32(c) % 3);
    const size_t w_stride = weights_bytes(c->dtype, s.k) + gap;
    const size_t y_stride = (size_t)s.n + check_u32(c) % 4;
    const size_t x_stride =
        is_q8(c) ? kern_act_q8_bytes(s.k) : ((size_t)s.k + check_u32(c) % 3) * 4;
    uint8_t *w = check_buffer(c, s.n ? (size_t)s.n * w_stride - gap : 0, 2);
    uint8_t *x = check_buffer(c, (size_t)s.m * x_stride, is_q8(c) ? 64 : 4);
    float *bias = check_floats(c, (size_t)s.n);
    float *row = check_floats(c, (size_t)s.k);
    struct product p = {.y_floats = (size_t)s.m * y_stride};

    for (int32_t r = 0; r < s.n; r++) {
        weights_fill(c, w + (size_t)r * w_stride, s.k, fill);
    }
    for (int32_t i = 0; i < s.m; i++) {
        check_fill(c, row, (size_t)s.k, fill < 0 ? -1.0f : 1.0f, 1.0f);
        if (is_q8(c)) {
            c->ref->quant.act_q8(x + (size_t)i * x_stride, row, s.k);
        } else {
            memcpy(x + (size_t)i * x_stride, row, (size_t)s.k * 4);
        }
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
                  int32_t n_begin, int32_t n_end)
{
    struct kern_gemm_args args = p->args;

    args.y = make_y(c, p);
    kernels->gemm.run[c->dtype](&args, n_begin, n_end);
    return args.y;
}

/* --------------------------------------------------------------- checks */

/* Rows alone, ranges of columns, and the same call again give the same bits. */
static void is_invariant(struct check *c, const struct product *p, const float *whole)
{
    const struct kern_gemm_args *a = &p->args;
    const size_t bytes = p->y_floats * sizeof(float);
    struct kern_gemm_args one = *a;

    check_same_bytes(c, run(c, c->dut, p, 0, a->n), whole, bytes, "repeated");
    one.y = make_y(c, p);
    for (int32_t at = 0, next; at < a->n; at = next) {
        next = at + check_range(c, 1, 37);
        next = BASE_MIN(next, a->n);
        c->dut->gemm.run[c->dtype](&one, at, next);
    }
    check_same_bytes(c, one.y, whole, bytes, "m=%d n=%d k=%d in ranges", (int)a->m, (int)a->n,
                     (int)a->k);
    one.y = make_y(c, p);
    for (int32_t i = 0, rows; i < a->m; i += rows) {
        struct kern_gemm_args part = one;

        rows = check_u32(c) % 2 ? 1 : check_range(c, 1, a->m - i);
        part.m = rows;
        part.x = (const uint8_t *)a->x + (size_t)i * a->x_stride;
        part.y = one.y + (size_t)i * a->y_stride;
        c->dut->gemm.run[c->dtype](&part, 0, a->n);
    }
    check_same_bytes(c, one.y, whole, bytes, "m=%d n=%d k=%d row by row", (int)a->m, (int)a->n,
                     (int)a->k);
}

/* The same product of packed weights. */
static struct product pack_weights(struct check *c, const struct product *p)
{
    const struct kern_pack_layout *layout = kern_pack_layout_of(c->dtype);
    const struct kern_gemm_args *a = &p->args;
    const size_t row = weights_bytes(c->dtype, a->k);
    uint8_t *w = check_buffer(c, a->n ? (size_t)(a->n - 1) * a->w_stride + row : 0, 2);
    struct product packed = *p;

    for (int32_t r = 0; r < a->n; r++) {
        const size_t at = (size_t)r * a->w_stride;

        if (r % KERN_PACK_ROWS == 0 && r + KERN_PACK_ROWS <= a->n) {
            c->ref->quant.pack(w + at, (const uint8_t *)a->w + at, a->w_stride, layout,
                               a->k / layout->block_elements);
        } else if (r >= a->n - a->n % KERN_PACK_ROWS) {
            memcpy(w + at, (const uint8_t *)a->w + at, row);
        }
    }
    packed.args.w = w;
    packed.args.packed = 1;
    return packed;
}

/* Columns outside the range, and the gaps between rows of y, stay as they were. */
static void stays_in_range(struct check *c, const struct product *p, const float *whole)
{
    const struct kern_gemm_args *a = &p->args;
    const int32_t begin = check_range(c, 0, a->n);
    const int32_t end = check_range(c, begin, a->n);
    const float *before = make_y(c, p);
    const float *got = run(c, c->dut, p, begin, end);

    for (size_t i = 0; i < p->y_floats; i++) {
        const size_t column = i % a->y_stride;
        const int inside = column >= (size_t)begin && column < (size_t)end;

        if (!check_true(c, memcmp(got + i, (inside ? whole : before) + i, 4) == 0,
                        "range %d .. %d: y[%zu] is %g", (int)begin, (int)end, i, (double)got[i])) {
            return;
        }
    }
}

/* Every level of a processor but the reference adds in the same order. */
static void is_as_lowest(struct check *c, const struct product *p, const float *whole)
{
    const struct kern_gemm_args *a = &p->args;
    struct infer_kernels lowest;

    if (c->dut != c->ref) {
        kern_init_cpu(&lowest, KERN_CPU_AVX2 | KERN_CPU_NEON);
        check_same_bytes(c, whole, run(c, &lowest, p, 0, a->n), p->y_floats * 4,
                         "m=%d n=%d k=%d %s", (int)a->m, (int)a->n, (int)a->k, lowest.name);
    }
}

static void random_product(struct check *c, struct shape s, int fill)
{
    struct check_bound b = bound;
    const struct product p = make_product(c, s, fill);
    const float *want = run(c, c->ref, &p, 0, s.n);
    const float *got = run(c, c->dut, &p, 0, s.n);

    if (fill >= 0) {
        b.atol = 1e-3; /* nothing cancels: the sums are hundreds */
    }
    check_close(c, got, want, p.y_floats, b,
                "m=%d n=%d k=%d bias=%d accumulate=%d scale=%d fill=%d", (int)s.m, (int)s.n,
                (int)s.k, s.with_bias, s.accumulate, p.args.scale != NULL, fill);
    is_invariant(c, &p, got);
    stays_in_range(c, &p, got);
    is_as_lowest(c, &p, got);
    if (kern_pack_layout_of(c->dtype)) {
        const struct product packed = pack_weights(c, &p);
        const float *again = run(c, c->dut, &packed, 0, s.n);

        if (is_q8(c)) {
            check_same_bytes(c, again, got, p.y_floats * 4, "m=%d n=%d k=%d packed", (int)s.m,
                             (int)s.n, (int)s.k);
        } else { /* sums in another order */
            check_close(c, again, want, p.y_floats, b, "m=%d n=%d k=%d packed", (int)s.m, (int)s.n,
                        (int)s.k);
        }
        is_invariant(c, &packed, again);
        stays_in_range(c, &packed, again);
        is_as_lowest(c, &packed, again);
    }
    check_release(c);
}

/* More of them than the reference has time for. */
static void many_rows(struct check *c, struct shape s)
{
    const struct product p = make_product(c, s, -1);
    const float *got = run(c, c->dut, &p, 0, s.n);

    is_invariant(c, &p, got);
    stays_in_range(c, &p, got);
    is_as_lowest(c, &p, got);
    if (kern_pack_layout_of(c->dtype)) {
        const struct product packed = pack_weights(c, &p);

        got = run(c, c->dut, &packed, 0, s.n);
        is_invariant(c, &packed, got);
        stays_in_range(c, &packed, got);
        is_as_lowest(c, &packed, got);
    }
    check_release(c);
}

/* Makes one weight NaN; returns its row, or -1 if the type has no NaN. */
static int32_t poison_weight(struct check *c, const struct kern_gemm_args *a)
{
    const int32_t row = check_range(c, 0, a->n - 1);
    const int32_t at = check_range(c, 0, a->k / k_multiple(c->dtype) - 1) * k_multiple(c->dtype);
    uint8_t *w = (uint8_t *)(uintptr_t)a->w + (size_t)row * a->w_stride;

    return weights_poison(c, w + weights_bytes(c->dtype, at)) ? row : -1;
}

/* Makes one activation NaN; returns its row. */
static int32_t poison_input(struct check *c, const struct kern_gemm_args *a)
{
    const int32_t row = check_range(c, 0, a->m - 1);
    const int32_t at = check_range(c, 0, a->k - 1);
    uint8_t *x = (uint8_t *)(uintptr_t)a->x + (size_t)row * a->x_stride;
    const uint32_t nan32 = 0x7fc00000u;

    if (!is_q8(c)) {
        memcpy(x + 4 * (size_t)at, &nan32, 4);
    } else { /* as act_q8 leaves a block with a NaN */
        memset(x + at / 32 * 32, 0, 32);
        memcpy(x + a->k + at / 32 * 4, &nan32, 4);
        memset(x + a->k + a->k / 32 * 4 + at / 32 * 4, 0, 4);
    }
    return row;
}

/* NaN appears where a NaN went in, and nowhere else does a bit change. */
static void nan_product(struct check *c, struct shape s, int in_weights)
{
    const struct product p = make_product(c, s, -1);
    const float *clean = run(c, c->dut, &p, 0, s.n);
    const int32_t at = in_weights ? poison_weight(c, &p.args) : poison_input(c, &p.args);
    const float *got = run(c, c->dut, &p, 0, s.n);

    for (int32_t i = 0; i < s.m; i++) {
        for (int32_t r = 0; r < s.n; r++) {
            const size_t e = (size_t)i * p.args.y_stride + (size_t)r;

            if (at == (in_weights ? r : i)) {
                check_true(c, isnan(got[e]), "m=%d n=%d k=%d: (%d, %d) is %g with a NaN in %s",
                           (int)s.m, (int)s.n, (int)s.k, (int)i, (int)r, (double)got[e],
                           in_weights ? "w" : "x");
            } else {
                check_true(c, got[e] == clean[e], "(%d, %d) is %g, without a NaN elsewhere %g",
                           (int)i, (int)r, (double)got[e], (double)clean[e]);
            }
        }
    }
    check_release(c);
}

/* x of one non-zero element reads a column of the weights back. */
static void unit_product(struct check *c, struct shape s)
{
    const struct product p = make_product(c, s, -1);
    const int32_t at = check_range(c, 0, s.k - 1);
    float *row = check_floats(c, (size_t)s.k), *w = check_floats(c, (size_t)s.k);
    float *want = make_y(c, &p);
    const float *got;

    row[at] = 127.0f;
    for (int32_t i = 0; i < s.m; i++) {
        uint8_t *x = (uint8_t *)(uintptr_t)p.args.x + (size_t)i * p.args.x_stride;

        if (is_q8(c)) {
            c->ref->quant.act_q8(x, row, s.k);
        } else {
            memcpy(x, row, (size_t)s.k * 4);
        }
        for (int32_t r = 0; r < s.n; r++) {
            c->ref->quant.dequant[c->dtype](
                w, (const uint8_t *)p.args.w + (size_t)r * p.args.w_stride, s.k);
            want[(size_t)i * p.args.y_stride + (size_t)r] =
                w[at] * 127.0f * kern_gemm_scale(&p.args);
        }
    }
    got = run(c, c->dut, &p, 0, s.n);
    check_close(c, got, want, p.y_floats, bound, "column %d of %d", (int)at, (int)s.k);
    check_release(c);
}

static void fixed_shapes(struct check *c)
{
    const int32_t unit = k_multiple(c->dtype);
    const int32_t long_k = unit == 1 ? 1000 : 2048;
    const struct shape shapes[] = {
        {0, 0, unit, 0, 0},       {0, 5, unit, 1, 1},      {5, 0, unit, 1, 0},
        {1, 1, unit, 0, 0},       {1, 7, unit, 1, 0},      {1, 16, unit * 3, 0, 1},
        {1, 33, long_k, 1, 1},    {2, 31, unit * 2, 0, 0}, {7, 17, unit * 5, 1, 1},
        {64, 48, unit * 2, 0, 0}, {65, 33, unit, 1, 0},    {131, 20, unit * 3, 0, 1},
        {3, 100, long_k, 0, 0},
    };

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        random_product(c, shapes[i], -1);
    }
}

void check_gemm_run(struct check *c)
{
    const int32_t unit = k_multiple(c->dtype);
    const int32_t units = unit == 1 ? 150 : unit <= 64 ? 640 / unit : 4;

    fixed_shapes(c);
    for (int i = 0; i < c->options->rounds; i++) {
        const struct shape s = {check_range(c, 1, 12), check_range(c, 1, 70),
                                check_range(c, 1, units) * unit, i % 2, i / 2 % 2};

        random_product(c, s, -1);
        nan_product(c, s, i % 2);
        unit_product(c, (struct shape){s.m, s.n, s.k, 0, 0});
    }
    for (int i = 0; i < c->options->rounds / 5 && c->dut != c->ref; i++) {
        many_rows(c, (struct shape){check_range(c, 13, 150), check_range(c, 1, 150),
                                    check_range(c, 1, 3 * units) * unit, i % 2, i / 2 % 2});
    }
    if (is_q8(c)) {
        static const int fills[] = {0x00, 0x7f, 0x80, 0x88, 0xf0, 0xff, 0x0f, 0x77};

        for (size_t i = 0; i < BASE_COUNT(fills); i++) {
            random_product(c, (struct shape){5, 19, 256, 0, 0}, fills[i]);
        }
    }
}

/* --------------------------------------------------------------- timing */

struct call {
    struct kern_gemm_args args;
    infer_dtype dtype;
};

static void call_run(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernels->gemm.run[a->dtype](&a->args, 0, a->args.n);
}

void bench_gemm_run(struct check *c)
{
    static const struct shape shapes[] = {
        {1, 4096, 4096, 0, 0},  {4, 1024, 4096, 0, 0}, {16, 512, 4096, 0, 0},
        {256, 256, 4096, 0, 0}, {512, 768, 384, 1, 0},
    };

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        const struct shape s = shapes[i];
        const struct product p = make_product(c, s, -1);
        const double bytes = (double)s.n * (double)weights_bytes(c->dtype, s.k);
        const struct check_work stream = {bytes, "B", 1};
        const struct check_work compute = {2.0 * s.m * s.n * s.k, "flop", 0};
        struct call a = {p.args, c->dtype};
        char label[48];

        a.args.y = check_floats(c, p.y_floats);
        snprintf(label, sizeof(label), "m=%d n=%d k=%d", (int)s.m, (int)s.n, (int)s.k);
        check_time(c, label, call_run, &a, s.m == 1 ? stream : compute);
        if (kern_pack_layout_of(c->dtype) && !is_q8(c)) {
            struct product packed = pack_weights(c, &p);

            packed.args.y = a.args.y;
            a.args = packed.args;
            snprintf(label, sizeof(label), "m=%d n=%d k=%d packed", (int)s.m, (int)s.n, (int)s.k);
            check_time(c, label, call_run, &a, s.m == 1 ? stream : compute);
        }
        check_release(c);
    }
}
