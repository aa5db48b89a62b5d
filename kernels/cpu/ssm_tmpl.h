/* Recurrent state over the words of reg_<isa>.h: convolution, the scan of Mamba 2, the gated
 * delta rule. Heads are the outer loop, rows the inner one, so that a state is read from memory
 * once a call and stays in a cache meanwhile.
 * Each element of a result is computed in one order, whatever the ranges and calls are. */
#include "kernels/cpu/init.h"

#include <math.h>

/* The few scalars of a row and head are taken in double: they cost nothing next to a state. */
static double softplus(double x)
{
    return x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static float sigmoid(float x)
{
    return (float)(1.0 / (1.0 + exp(-(double)x)));
}

/* ------------------------------------------------------------ convolution */

/* n <= REG channels from c on. */
KERN_INLINE void conv_part(const struct kern_conv_args *a, int32_t c, int32_t n, int32_t width)
{
    const reg bias = a->bias ? reg_load_part(a->bias + c, n) : reg_zero();
    reg w[KERN_CONV_WIDTH_MAX], in[KERN_CONV_WIDTH_MAX]; /* oldest first */

    for (int32_t j = 0; j < width; j++) {
        w[j] = reg_gather_part(a->w + (size_t)c * (size_t)width + (size_t)j, width, n);
    }
    for (int32_t j = 0; j < width - 1; j++) {
        in[j] = reg_load_part(a->state + (size_t)j * (size_t)a->n_channels + (size_t)c, n);
    }
    for (int32_t i = 0; i < a->n_rows; i++) {
        reg sum = bias;

        in[width - 1] = reg_load_part(a->x + (size_t)i * a->x_stride + (size_t)c, n);
        for (int32_t j = 0; j < width; j++) {
            sum = reg_fma(w[j], in[j], sum);
        }
        for (int32_t j = 0; j < width - 1; j++) {
            in[j] = in[j + 1];
        }
        reg_store_part(a->y + (size_t)i * a->y_stride + (size_t)c, n,
                       a->silu ? reg_silu(sum) : sum);
    }
    for (int32_t j = 0; j < width - 1; j++) {
        reg_store_part(a->state + (size_t)j * (size_t)a->n_channels + (size_t)c, n, in[j]);
    }
}

static void conv(const struct kern_conv_args *args, int32_t begin, int32_t end)
{
    for (int32_t c = begin; c < end; c += REG) {
        const int32_t n = BASE_MIN(end - c, (int32_t)REG);

        if (args->width == 4) {
            conv_part(args, c, n, 4); /* what all published models have: in registers */
        } else {
            conv_part(args, c, n, args->width);
        }
    }
}

/* ------------------------------------------------------------------- scan */

/* What one row of one head needs. */
struct scan_step {
    const float *x, *b, *c;
    float *y;
    float decay, t, d;
};

static struct scan_step scan_step_at(const struct kern_scan_args *a, int32_t head, int32_t row)
{
    const size_t group = (size_t)(head / (a->n_head / a->n_group)) * (size_t)a->d_state;
    const size_t at = (size_t)head * (size_t)a->head_dim;
    const double raw = (double)a->dt[(size_t)row * a->dt_stride + (size_t)head];
    double t = softplus(raw + (a->dt_bias ? (double)a->dt_bias[head] : 0.0));

    if (a->dt_max > 0.0f) {
        t = t < (double)a->dt_min ? (double)a->dt_min : t;
        t = t > (double)a->dt_max ? (double)a->dt_max : t;
    }
    return (struct scan_step){.x = a->x + (size_t)row * a->x_stride + at,
                              .b = a->b + (size_t)row * a->bc_stride + group,
                              .c = a->c + (size_t)row * a->bc_stride + group,
                              .y = a->y + (size_t)row * a->y_stride + at,
                              .decay = (float)exp(t * (double)a->a[head]),
                              .t = (float)t,
                              .d = a->d ? a->d[head] : 0.0f};
}

/* n elements of a state row: moved on by a row of input, and multiplied with c. */
KERN_INLINE reg scan_part(float *state, const struct scan_step *step, reg decay, reg gain,
                          int32_t at, int32_t n, reg sum)
{
    const reg held = reg_mul(reg_load_part(state + at, n), decay);
    const reg s = reg_fma(gain, reg_load_part(step->b + at, n), held);

    reg_store_part(state + at, n, s);
    return reg_fma(s, reg_load_part(step->c + at, n), sum);
}

/* n <= REG rows of the state of a head; y gets as many elements. */
KERN_INLINE void scan_rows(float *state, const struct scan_step *step, int32_t p, int32_t n,
                           int32_t d_state)
{
    const int32_t whole = d_state / REG * REG;
    const reg decay = reg_set1(step->decay);
    reg sums[REG];
    reg y;

    for (int32_t i = 0; i < REG; i++) {
        sums[i] = reg_zero();
    }
    for (int32_t i = 0; i < n; i++) {
        const reg gain = reg_set1(step->t * step->x[p + i]);
        float *s = state + (size_t)i * (size_t)d_state;
        reg sum = reg_zero();

        for (int32_t at = 0; at < whole; at += REG) {
            sum = scan_part(s, step, decay, gain, at, REG, sum);
        }
        if (whole < d_state) {
            sum = scan_part(s, step, decay, gain, whole, d_state - whole, sum);
        }
        sums[i] = sum;
    }
    y = reg_transpose_sum(sums);
    y = reg_fma(reg_set1(step->d), reg_load_part(step->x + p, n), y);
    reg_store_part(step->y + p, n, y);
}

static void scan(const struct kern_scan_args *args, int32_t begin, int32_t end)
{
    const int32_t dim = args->head_dim;
    const size_t row_floats = (size_t)args->d_state;

    for (int32_t head = begin; head < end; head++) {
        float *state = args->state + (size_t)head * (size_t)dim * row_floats;

        for (int32_t row = 0; row < args->n_rows; row++) {
            const struct scan_step step = scan_step_at(args, head, row);

            for (int32_t p = 0; p < dim; p += REG) {
                scan_rows(state + (size_t)p * row_floats, &step, p, BASE_MIN(dim - p, (int32_t)REG),
                          args->d_state);
            }
        }
    }
}

/* ------------------------------------------------------------- delta rule */

enum { DELTA_STRIP = 4 }; /* registers of columns that go through the rows together */

/* Query and key of one row, of unit length, and the scalars of a head. */
struct delta_step {
    float decay, u;
    float q[KERN_DELTA_KEY_MAX], k[KERN_DELTA_KEY_MAX];
};

KERN_INLINE void unit(float *y, const float *x, int32_t n, float eps, float scale)
{
    const int32_t whole = n / REG * REG;
    struct reg_total sum = reg_total_zero();
    reg by;

    for (int32_t i = 0; i < whole; i += REG) {
        reg_total_add_square(&sum, reg_load(x + i));
    }
    if (whole < n) {
        reg_total_add_square(&sum, reg_load_part(x + whole, n - whole));
    }
    by = reg_set1((float)((double)scale / sqrt(reg_total_value(sum) + (double)eps)));
    for (int32_t i = 0; i < n; i += REG) {
        const int32_t m = BASE_MIN(n - i, (int32_t)REG);

        reg_store_part(y + i, m, reg_mul(reg_load_part(x + i, m), by));
    }
}

static void delta_step_at(struct delta_step *step, const struct kern_delta_args *a, int32_t head,
                          int32_t row)
{
    const int32_t ratio = a->n_head / a->n_head_k;
    const int32_t key = a->tiled ? head % a->n_head_k : head / ratio;
    const size_t at = (size_t)row * a->qk_stride + (size_t)key * (size_t)a->k_dim;
    const size_t ab = (size_t)row * a->ab_stride + (size_t)head;
    const double bias = a->dt_bias ? (double)a->dt_bias[head] : 0.0;

    step->decay = (float)exp((double)a->a[head] * softplus((double)a->alpha[ab] + bias));
    step->u = sigmoid(a->beta[ab]);
    unit(step->q, a->q + at, a->k_dim, a->eps, a->scale);
    unit(step->k, a->k + at, a->k_dim, a->eps, 1.0f);
}

/* One row for n columns, in `cols` registers of which the last may be partly filled. */
KERN_INLINE void delta_strip(float *state, size_t stride, const struct delta_step *step,
                             const float *v, float *y, int32_t k_dim, int cols, int32_t n)
{
    const reg decay = reg_set1(step->decay);
    const int32_t last = n - (cols - 1) * REG;
    reg sums[DELTA_STRIP], change[DELTA_STRIP];

    KERN_UNROLL
    for (int c = 0; c < cols; c++) {
        sums[c] = reg_zero();
    }
    for (int32_t i = 0; i < k_dim; i++) {
        const reg k = reg_set1(step->k[i]);

        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            const reg s = reg_load_part(state + (size_t)i * stride + c * REG,
                                        c + 1 < cols ? (int32_t)REG : last);

            sums[c] = reg_fma(s, k, sums[c]);
        }
    }
    KERN_UNROLL
    for (int c = 0; c < cols; c++) {
        const reg value = reg_load_part(v + c * REG, c + 1 < cols ? (int32_t)REG : last);

        change[c] = reg_mul(reg_fnma(sums[c], decay, value), reg_set1(step->u));
        sums[c] = reg_zero();
    }
    for (int32_t i = 0; i < k_dim; i++) {
        const reg k = reg_set1(step->k[i]);
        const reg q = reg_set1(step->q[i]);

        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            const int32_t part = c + 1 < cols ? (int32_t)REG : last;
            float *at = state + (size_t)i * stride + c * REG;
            const reg s = reg_fma(k, change[c], reg_mul(reg_load_part(at, part), decay));

            reg_store_part(at, part, s);
            sums[c] = reg_fma(s, q, sums[c]);
        }
    }
    KERN_UNROLL
    for (int c = 0; c < cols; c++) {
        reg_store_part(y + c * REG, c + 1 < cols ? (int32_t)REG : last, sums[c]);
    }
}

/* One row of one head: whole strips, whole registers, what is left. */
static void delta_row(const struct kern_delta_args *a, const struct delta_step *step, int32_t head,
                      int32_t row)
{
    const size_t columns = (size_t)head * (size_t)a->v_dim;
    const float *v = a->v + (size_t)row * a->v_stride + columns;
    float *y = a->y + (size_t)row * a->y_stride + columns;
    float *state = a->state + columns * (size_t)a->k_dim;
    const size_t stride = (size_t)a->v_dim;
    int32_t j = 0;

    for (; j + DELTA_STRIP * REG <= a->v_dim; j += DELTA_STRIP * REG) {
        delta_strip(state + j, stride, step, v + j, y + j, a->k_dim, DELTA_STRIP,
                    DELTA_STRIP * REG);
    }
    for (; j + REG <= a->v_dim; j += REG) {
        delta_strip(state + j, stride, step, v + j, y + j, a->k_dim, 1, REG);
    }
    if (j < a->v_dim) {
        delta_strip(state + j, stride, step, v + j, y + j, a->k_dim, 1, a->v_dim - j);
    }
}

static void delta(const struct kern_delta_args *args, int32_t begin, int32_t end)
{
    struct delta_step step;

    for (int32_t head = begin; head < end; head++) {
        for (int32_t row = 0; row < args->n_rows; row++) {
            delta_step_at(&step, args, head, row);
            delta_row(args, &step, head, row);
        }
    }
}
