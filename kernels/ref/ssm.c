/* Recurrent state: convolution, the scan of Mamba 2, the gated delta rule; reference. Sums
 * are in double, state is rounded to float after each row. */
#include "kernels/ref/ref.h"

#include <math.h>

/* log(1 + exp(x)) without overflow */
static double softplus(double x)
{
    return x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* ------------------------------------------------------------ convolution */

static void conv_channel(const struct kern_conv_args *a, int32_t c)
{
    const int32_t carried = a->width - 1;
    double in[KERN_CONV_WIDTH_MAX]; /* oldest first */

    for (int32_t j = 0; j < carried; j++) {
        in[j] = (double)a->state[(size_t)j * (size_t)a->n_channels + (size_t)c];
    }
    for (int32_t i = 0; i < a->n_rows; i++) {
        double sum = a->bias ? (double)a->bias[c] : 0.0;

        in[carried] = (double)a->x[(size_t)i * a->x_stride + (size_t)c];
        for (int32_t j = 0; j < a->width; j++) {
            sum += (double)a->w[(size_t)c * (size_t)a->width + (size_t)j] * in[j];
        }
        a->y[(size_t)i * a->y_stride + (size_t)c] = (float)(a->silu ? sum * sigmoid(sum) : sum);
        for (int32_t j = 0; j < carried; j++) {
            in[j] = in[j + 1];
        }
    }
    for (int32_t j = 0; j < carried; j++) {
        a->state[(size_t)j * (size_t)a->n_channels + (size_t)c] = (float)in[j];
    }
}

static void conv(const struct kern_conv_args *args, int32_t begin, int32_t end)
{
    for (int32_t c = begin; c < end; c++) {
        conv_channel(args, c);
    }
}

/* ------------------------------------------------------------------- scan */

/* One row of one head: the state moves on, y is read from it. */
static void scan_row(const struct kern_scan_args *a, int32_t head, int32_t row)
{
    const size_t group = (size_t)(head / (a->n_head / a->n_group)) * (size_t)a->d_state;
    const size_t at = (size_t)head * (size_t)a->head_dim;
    const float *x = a->x + (size_t)row * a->x_stride + at;
    const float *b = a->b + (size_t)row * a->bc_stride + group;
    const float *c = a->c + (size_t)row * a->bc_stride + group;
    float *y = a->y + (size_t)row * a->y_stride + at;
    const double raw = (double)a->dt[(size_t)row * a->dt_stride + (size_t)head];
    double t = softplus(raw + (a->dt_bias ? (double)a->dt_bias[head] : 0.0));
    double decay;

    if (a->dt_max > 0.0f) {
        t = t < (double)a->dt_min ? (double)a->dt_min : t;
        t = t > (double)a->dt_max ? (double)a->dt_max : t;
    }
    decay = exp(t * (double)a->a[head]);
    for (int32_t p = 0; p < a->head_dim; p++) {
        float *state = a->state + (at + (size_t)p) * (size_t)a->d_state;
        double sum = a->d ? (double)a->d[head] * (double)x[p] : 0.0;

        for (int32_t s = 0; s < a->d_state; s++) {
            state[s] = (float)(decay * (double)state[s] + t * (double)x[p] * (double)b[s]);
            sum += (double)state[s] * (double)c[s];
        }
        y[p] = (float)sum;
    }
}

static void scan(const struct kern_scan_args *args, int32_t begin, int32_t end)
{
    for (int32_t head = begin; head < end; head++) {
        for (int32_t row = 0; row < args->n_rows; row++) {
            scan_row(args, head, row);
        }
    }
}

/* ------------------------------------------------------------- delta rule */

/* 1 / sqrt(sum of squares + eps) */
static double norm_of(const float *x, int32_t n, float eps)
{
    double sum = (double)eps;

    for (int32_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return 1.0 / sqrt(sum);
}

/* Column j of the state, which evolves on its own. */
static double delta_column(float *state, int32_t n, int32_t stride, double decay, double u,
                           double v, const double *k, const double *q)
{
    double held = 0.0, y = 0.0;
    double change;

    for (int32_t i = 0; i < n; i++) {
        held += decay * (double)state[(size_t)i * (size_t)stride] * k[i];
    }
    change = u * (v - held);
    for (int32_t i = 0; i < n; i++) {
        float *s = state + (size_t)i * (size_t)stride;

        *s = (float)(decay * (double)*s + k[i] * change);
        y += (double)*s * q[i];
    }
    return y;
}

static void delta_row(const struct kern_delta_args *a, int32_t head, int32_t row)
{
    const int32_t ratio = a->n_head / a->n_head_k;
    const int32_t key = a->tiled ? head % a->n_head_k : head / ratio;
    const size_t at = (size_t)row * a->qk_stride + (size_t)key * (size_t)a->k_dim;
    const size_t ab = (size_t)row * a->ab_stride + (size_t)head;
    const double t = softplus((double)a->alpha[ab] + (a->dt_bias ? (double)a->dt_bias[head] : 0.0));
    const double decay = exp((double)a->a[head] * t);
    const double u = sigmoid((double)a->beta[ab]);
    const double q_scale = norm_of(a->q + at, a->k_dim, a->eps) * (double)a->scale;
    const double k_scale = norm_of(a->k + at, a->k_dim, a->eps);
    double q[KERN_DELTA_KEY_MAX], k[KERN_DELTA_KEY_MAX];

    for (int32_t i = 0; i < a->k_dim; i++) {
        q[i] = (double)a->q[at + (size_t)i] * q_scale;
        k[i] = (double)a->k[at + (size_t)i] * k_scale;
    }
    for (int32_t j = 0; j < a->v_dim; j++) {
        const size_t column = (size_t)head * (size_t)a->v_dim + (size_t)j;
        float *state = a->state + (size_t)head * (size_t)a->k_dim * (size_t)a->v_dim + (size_t)j;

        a->y[(size_t)row * a->y_stride + column] =
            (float)delta_column(state, a->k_dim, a->v_dim, decay, u,
                                (double)a->v[(size_t)row * a->v_stride + column], k, q);
    }
}

static void delta(const struct kern_delta_args *args, int32_t begin, int32_t end)
{
    for (int32_t head = begin; head < end; head++) {
        for (int32_t row = 0; row < args->n_rows; row++) {
            delta_row(args, head, row);
        }
    }
}

void kern_ssm_init_ref(struct kern_ssm *ssm)
{
    ssm->conv = conv;
    ssm->scan = scan;
    ssm->delta = delta;
}
