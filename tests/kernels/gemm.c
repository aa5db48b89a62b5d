/* Checks and timing of kernels/<level>/gemm*. */
#include "check.h"
#include "kernels/quant_blocks.h"
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
    int fast; /* of run_fast */
};

/* A product whose rows lie further apart than they are long, in buffers that
 * end at a guard page. y holds numbers before the call. */
struct product {
    struct kern_gemm_args args;
    size_t y_floats;
    int fast;
};

static size_t x_bytes(struct check *c, const struct shape *s)
{
    if (s->fast) {
        return kern_act_fast_bytes(s->k);
    }
    return is_q8(c) ? kern_act_q8_bytes(s->k) : ((size_t)s->k + check_u32(c) % 3) * 4;
}

/* What the product is given for a row of floats. */
static void make_x(const struct check *c, void *x, const float *row, int32_t k, int fast)
{
    if (fast) {
        c->ref->quant.act_fast(x, row, k);
    } else if (is_q8(c)) {
        c->ref->quant.act_q8(x, row, k);
    } else {
        memcpy(x, row, (size_t)k * 4);
    }
}

static struct product make_product(struct check *c, struct shape s, int fill)
{
    static const float scale = 0.375f;
    const size_t gap = 2 * (check_u32(c) % 3);
    const size_t w_stride = weights_bytes(c->dtype, s.k) + gap;
    const size_t y_stride = (size_t)s.n + check_u32(c) % 4;
    const size_t x_stride = x_bytes(c, &s);
    uint8_t *w = check_buffer(c, s.n ? (size_t)s.n * w_stride - gap : 0, 2);
    uint8_t *x = check_buffer(c, (size_t)s.m * x_stride, is_q8(c) ? 64 : 4);
    float *bias = check_floats(c, (size_t)s.n);
    float *row = check_floats(c, (size_t)s.k);
    struct product p = {.y_floats = (size_t)s.m * y_stride, .fast = s.fast};

    for (int32_t r = 0; r < s.n; r++) {
        weights_fill(c, w + (size_t)r * w_stride, s.k, fill);
    }
    for (int32_t i = 0; i < s.m; i++) {
        check_fill(c, row, (size_t)s.k, fill < 0 ? -1.0f : 1.0f, 1.0f);
        make_x(c, x + (size_t)i * x_stride, row, s.k, s.fast);
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

static kern_gemm_fn *kernel_of(const struct check *c, const struct infer_kernels *kernels,
                               const struct product *p)
{
    return p->fast ? kernels->gemm.run_fast[c->dtype] : kernels->gemm.run[c->dtype];
}

static float *run(struct check *c, const struct infer_kernels *kernels, const struct product *p,
                  int32_t n_begin, int32_t n_end)
{
    struct kern_gemm_args args = p->args;

    args.y = make_y(c, p);
    kernel_of(c, kernels, p)(&args, n_begin, n_end);
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
        kernel_of(c, c->dut, p)(&one, at, next);
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
        kernel_of(c, c->dut, p)(&part, 0, a->n);
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

    if (c->dut != c->ref && !p->fast) {
        kern_init_cpu(&lowest, KERN_CPU_AVX2 | KERN_CPU_NEON);
        check_same_bytes(c, whole, run(c, &lowest, p, 0, a->n), p->y_floats * 4,
                         "m=%d n=%d k=%d %s", (int)a->m, (int)a->n, (int)a->k, lowest.name);
    }
}

/* The largest weight of each span of a row, and of a row of activations their sum without signs
 * and that of their squares. */
struct sizes {
    double *top, *sum, *square;
    int32_t spans;
};

static struct sizes sizes_of(struct check *c, const struct product *p)
{
    const struct kern_gemm_args *a = &p->args;
    const int32_t spans = BASE_DIV_UP(a->k, KERN_FAST_SPAN);
    const size_t n = (size_t)BASE_MAX(a->n, a->m) * (size_t)spans * sizeof(double);
    const struct sizes s = {check_buffer(c, n, 8), check_buffer(c, n, 8), check_buffer(c, n, 8),
                            spans};
    float *w = check_floats(c, (size_t)a->k);

    memset(s.top, 0, n);
    memset(s.sum, 0, n);
    memset(s.square, 0, n);
    for (int32_t r = 0; r < a->n; r++) {
        c->ref->quant.dequant[c->dtype](w, (const uint8_t *)a->w + (size_t)r * a->w_stride, a->k);
        for (int32_t i = 0; i < a->k; i++) {
            double *top = s.top + r * spans + i / KERN_FAST_SPAN;

            *top = fmax(*top, fabs((double)w[i]));
        }
    }
    for (int32_t r = 0; r < a->m; r++) {
        const struct kern_fast_row x =
            kern_fast_row_of((const uint8_t *)a->x + (size_t)r * a->x_stride, a->k);

        for (int32_t i = 0; i < a->k; i++) {
            const double v = (double)x.q[i] * (double)x.d[i / KERN_FAST_SPAN];

            s.sum[r * spans + i / KERN_FAST_SPAN] += fabs(v);
            s.square[r * spans + i / KERN_FAST_SPAN] += v * v;
        }
    }
    return s;
}

/* Products of rounded weights are off by no more than their rounding: of all together a multiple
 * of what independent errors would give, where weights are `random`. Factors may admit more than
 * the largest weight there is: up to 2.5 times it, and where bytes are all the same up to 10. */
static void is_rounded(struct check *c, const struct product *p, const float *got,
                       const float *want, int random)
{
    const struct kern_gemm_args *a = &p->args;
    const struct sizes s = sizes_of(c, p);
    const double unit = 2.5 * kern_gemm_scale(a) / 127;
    double error = 0, variance = 0;

    for (int32_t i = 0; i < a->m; i++) {
        for (int32_t r = 0; r < a->n; r++) {
            const size_t e = (size_t)i * a->y_stride + (size_t)r;
            const double off = (double)got[e] - (double)want[e];
            double most = 1e-4 + 4e-6 * fabs((double)want[e]);

            for (int32_t b = 0; b < s.spans; b++) {
                const double top = s.top[r * s.spans + b],
                             step = unit * (random ? top : fmax(top, 4));

                most += 0.76 * step * s.sum[i * s.spans + b];
                variance += step * step / 12 * s.square[i * s.spans + b];
            }
            error += off * off;
            check_true(c, fabs(off) <= most, "m=%d n=%d k=%d: (%d, %d) is %g, %g without rounding",
                       (int)a->m, (int)a->n, (int)a->k, (int)i, (int)r, (double)got[e],
                       (double)want[e]);
        }
    }
    check_true(c, !random || error <= 2 * variance + 1e-6,
               "m=%d n=%d k=%d: off by %g, expected about %g", (int)a->m, (int)a->n, (int)a->k,
               sqrt(error), sqrt(variance));
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
    if (p.fast && c->dut != c->ref) {
        is_rounded(c, &p, got, want, fill < 0);
    } else {
        check_close(c, got, want, p.y_floats, b,
                    "m=%d n=%d k=%d bias=%d accumulate=%d scale=%d fill=%d", (int)s.m, (int)s.n,
                    (int)s.k, s.with_bias, s.accumulate, p.args.scale != NULL, fill);
    }
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
static int32_t poison_input(struct check *c, const struct product *p)
{
    const struct kern_gemm_args *a = &p->args;
    const int32_t row = check_range(c, 0, a->m - 1);
    const int32_t at = check_range(c, 0, a->k - 1);
    uint8_t *x = (uint8_t *)(uintptr_t)a->x + (size_t)row * a->x_stride;
    const uint32_t nan32 = 0x7fc00000u;

    if (p->fast) { /* as act_fast leaves a span with a NaN */
        const int32_t span = at / KERN_FAST_SPAN, spans = BASE_DIV_UP(a->k, KERN_FAST_SPAN);
        const int32_t first = span * KERN_FAST_SPAN;

        memset(x + first, 0, (size_t)BASE_MIN(KERN_FAST_SPAN, a->k - first));
        memcpy(x + a->k + 4 * span, &nan32, 4);
        memset(x + a->k + 4 * (spans + span), 0, 4);
    } else if (!is_q8(c)) {
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
    const int32_t at = in_weights ? poison_weight(c, &p.args) : poison_input(c, &p);
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

        make_x(c, x, row, s.k, s.fast);
        for (int32_t r = 0; r < s.n; r++) {
            c->ref->quant.dequant[c->dtype](
                w, (const uint8_t *)p.args.w + (size_t)r * p.args.w_stride, s.k);
            want[(size_t)i * p.args.y_stride + (size_t)r] =
                w[at] * 127.0f * kern_gemm_scale(&p.args);
        }
    }
    got = run(c, c->dut, &p, 0, s.n);
    if (p.fast && c->dut != c->ref) {
        is_rounded(c, &p, got, want, 1);
    } else {
        check_close(c, got, want, p.y_floats, bound, "column %d of %d", (int)at, (int)s.k);
    }
    check_release(c);
}

static void fixed_shapes(struct check *c, int fast)
{
    const int32_t unit = k_multiple(c->dtype);
    const int32_t long_k = unit == 1 ? 1000 : 2048;
    const struct shape shapes[] = {
        {0, 0, unit, 0, 0, fast},        {0, 5, unit, 1, 1, fast},
        {5, 0, unit, 1, 0, fast},        {1, 1, unit, 0, 0, fast},
        {1, 7, unit, 1, 0, fast},        {1, 16, unit * 3, 0, 1, fast},
        {1, 33, long_k, 1, 1, fast},     {2, 31, unit * 2, 0, 0, fast},
        {7, 17, unit * 5, 1, 1, fast},   {3, 100, long_k, 0, 0, fast},
        {64, 48, unit * 2, 0, 0, fast},  {65, 33, unit, 1, 0, fast},
        {131, 20, unit * 3, 0, 1, fast},
    };
    const size_t n = check_is_brief(c) ? 9 : BASE_COUNT(shapes);

    for (size_t i = 0; i < n; i++) {
        random_product(c, shapes[i], -1);
    }
}

static void check_products(struct check *c, int fast)
{
    const int32_t unit = k_multiple(c->dtype);
    const int32_t units = unit == 1 ? 150 : unit <= 64 ? 640 / unit : 4;

    fixed_shapes(c, fast);
    for (int i = 0; i < c->options->rounds; i++) {
        const struct shape s = {check_range(c, 1, 12),
                                check_range(c, 1, 70),
                                check_range(c, 1, units) * unit,
                                i % 2,
                                i / 2 % 2,
                                fast};

        random_product(c, s, -1);
        nan_product(c, s, i % 2);
        unit_product(c, (struct shape){s.m, s.n, s.k, 0, 0, fast});
    }
    for (int i = 0; i < c->options->rounds / 5 && c->dut != c->ref; i++) {
        many_rows(c, (struct shape){check_range(c, 13, 150), check_range(c, 1, 150),
                                    check_range(c, 1, 3 * units) * unit, i % 2, i / 2 % 2, fast});
    }
    if (is_q8(c)) {
        static const int fills[] = {0x00, 0x7f, 0x80, 0x88, 0xf0, 0xff, 0x0f, 0x77};

        for (size_t i = 0; i < BASE_COUNT(fills); i++) {
            random_product(c, (struct shape){5, 19, 256, 0, 0, fast}, fills[i]);
        }
    }
}

void check_gemm_run(struct check *c)
{
    check_products(c, 0);
}

void check_gemm_run_fast(struct check *c)
{
    check_products(c, 1);
    if (c->dut != c->ref) { /* more rows than weights are unpacked for at once */
        many_rows(c, (struct shape){300, 83, 2 * KERN_FAST_SPAN, 1, 0, 1});
    }
}

/* --------------------------------------------------------------- timing */

struct call {
    struct product product;
    const struct check *c;
};

static void call_run(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernel_of(a->c, kernels, &a->product)(&a->product.args, 0, a->product.args.n);
}

static void bench_products(struct check *c, int fast)
{
    const struct shape shapes[] = {
        {1, 4096, 4096, 0, 0, fast},  {4, 1024, 4096, 0, 0, fast}, {16, 512, 4096, 0, 0, fast},
        {256, 256, 4096, 0, 0, fast}, {512, 768, 384, 1, 0, fast},
    };

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        const struct shape s = shapes[i];
        const struct product p = make_product(c, s, -1);
        const double bytes = (double)s.n * (double)weights_bytes(c->dtype, s.k);
        const struct check_work stream = {bytes, "B", 1};
        const struct check_work compute = {2.0 * s.m * s.n * s.k, "flop", 0};
        struct call a = {p, c};
        char label[48];

        a.product.args.y = check_floats(c, p.y_floats);
        snprintf(label, sizeof(label), "m=%d n=%d k=%d", (int)s.m, (int)s.n, (int)s.k);
        check_time(c, label, call_run, &a, s.m == 1 ? stream : compute);
        if (kern_pack_layout_of(c->dtype) && !is_q8(c)) {
            struct product packed = pack_weights(c, &p);

            packed.args.y = a.product.args.y;
            a.product = packed;
            snprintf(label, sizeof(label), "m=%d n=%d k=%d packed", (int)s.m, (int)s.n, (int)s.k);
            check_time(c, label, call_run, &a, s.m == 1 ? stream : compute);
        }
        check_release(c);
    }
}

void bench_gemm_run(struct check *c)
{
    bench_products(c, 0);
}

void bench_gemm_run_fast(struct check *c)
{
    bench_products(c, 1);
}
