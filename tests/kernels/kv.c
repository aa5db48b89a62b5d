/* Checks and timing of kernels/<level>/quant_kv* and kernels/ref/kv.c: quantised vectors of the KV
 * cache, the rotation of keys, and what both cost attention in accuracy. */
#include "kv.h"

#include "kernels/ref/kv_block.h"

#include <math.h>
#include <string.h>

static size_t block_bytes(infer_dtype dtype)
{
    return dtype == INFER_DTYPE_Q8_0 ? KERN_KV_Q8_BYTES : KERN_KV_Q4_BYTES;
}

static double half_value(const uint8_t *p)
{
    return (double)kern_float_of_f16(kern_load_u16(p));
}

/* ----------------------------------------------------------------- narrow */

static void same_as_reference(struct check *c, int32_t n, int any_bits)
{
    const size_t bytes = kern_kv_bytes(c->dtype, n);
    float *x = check_floats(c, (size_t)n);
    uint8_t *got = check_buffer(c, bytes, 1), *want = check_buffer(c, bytes, 1);

    check_fill(c, x, (size_t)n, -3.0f, 5.0f);
    if (any_bits) {
        check_fill_bytes(c, x, (size_t)n * sizeof(*x));
    }
    if (any_bits && n % 2) { /* of every size that a half can hold, and not */
        for (int32_t i = 0; i < n; i++) {
            x[i] = ldexpf(check_uniform(c, -1.0f, 1.0f), check_range(c, -40, 26));
        }
    }
    c->ref->quant.narrow[c->dtype](want, x, n);
    c->dut->quant.narrow[c->dtype](got, x, n);
    check_same_bytes(c, got, want, bytes, "narrow n=%d", (int)n);
    check_release(c);
}

/* What kernels.h says of one block, derived from its bytes. */
static void block_holds(struct check *c, const uint8_t *block, const float *x, int32_t n)
{
    const int is_q8 = c->dtype == INFER_DTYPE_Q8_0;
    const double d = half_value(block), m = is_q8 ? 0.0 : half_value(block + 2);
    double low = (double)x[0], high = low, want;

    for (int32_t i = 0; i < n; i++) {
        low = fmin(low, (double)x[i]);
        high = fmax(high, (double)x[i]);
    }
    want = is_q8 ? fmax(high, -low) / 127 : fmax(high - m, 0) / 15;
    check_true(c, fabs(d - want) <= d * 0x1p-11 + 0x1p-25, "a scale of %g for %g .. %g", d, low,
               high);
    check_true(c, is_q8 || fabs(m - low) <= fabs(low) * 0x1p-11, "a least value of %g for %g", m,
               low);
    for (int32_t i = 0; i < n; i++) {
        const int q = is_q8 ? (int8_t)block[2 + i] : block[4 + i / 2] >> 4 * (i % 2) & 15;
        const double error = fabs(d * q + m - (double)x[i]);

        /* Beyond the last code only by what the rounding of scales takes. */
        check_true(c, error <= d * 0.5000001 + fmax(fabs(low), fabs(high)) * 0x1p-11 * 1.1,
                   "%g became %g with a scale of %g", (double)x[i], d * q + m, d);
    }
}

static void contract(struct check *c, int32_t n, float low, float high)
{
    const size_t bytes = kern_kv_bytes(c->dtype, n);
    float *x = check_floats(c, (size_t)n);
    uint8_t *got = check_buffer(c, bytes, 1), *first = check_buffer(c, block_bytes(c->dtype), 1);

    check_fill(c, x, (size_t)n, low, high);
    c->dut->quant.narrow[c->dtype](got, x, n);
    for (int32_t at = 0; at < n; at += 32) {
        block_holds(c, got + (size_t)at / 32 * block_bytes(c->dtype), x + at, BASE_MIN(n - at, 32));
    }
    if (n >= 32) { /* the first elements of a vector are a vector */
        c->dut->quant.narrow[c->dtype](first, x, 32);
        check_same_bytes(c, first, got, block_bytes(c->dtype), "the first 32 of %d", (int)n);
    }
    check_release(c);
}

/* One number that has no code makes a NaN of its block and of no other. */
static void no_number(struct check *c, float value)
{
    const size_t block = block_bytes(c->dtype);
    float x[96];
    uint8_t before[3 * KERN_KV_Q8_BYTES], after[3 * KERN_KV_Q8_BYTES];

    check_fill(c, x, 96, -1.0f, 1.0f);
    c->dut->quant.narrow[c->dtype](before, x, 96);
    x[32 + check_range(c, 0, 31)] = value;
    c->dut->quant.narrow[c->dtype](after, x, 96);
    check_same_bytes(c, after, before, block, "before a block with %g", (double)value);
    check_same_bytes(c, after + 2 * block, before + 2 * block, block, "after a block with %g",
                     (double)value);
    check_true(c, isnan(half_value(after + block)), "a block with %g has a scale", (double)value);
}

static void constants(struct check *c)
{
    static const float values[] = {0.0f, -0.0f, 1.0f, -2.5f, 65504.0f, 0x1p-24f, -0.1f};
    const int is_q8 = c->dtype == INFER_DTYPE_Q8_0;

    for (size_t v = 0; v < BASE_COUNT(values); v++) {
        float x[32];
        uint8_t block[KERN_KV_Q8_BYTES];
        double got;

        for (int i = 0; i < 32; i++) {
            x[i] = values[v];
        }
        c->dut->quant.narrow[c->dtype](block, x, 32);
        got = half_value(block) * (is_q8 ? (int8_t)block[2] : block[4] & 15) +
              (is_q8 ? 0.0 : half_value(block + 2));
        check_true(c, fabs(got - (double)values[v]) <= fabs((double)values[v]) * 0x1p-10 + 0x1p-18,
                   "%g became %g", (double)values[v], got);
    }
}

void check_kv_narrow(struct check *c)
{
    for (int32_t n = 0; n < 100; n++) {
        same_as_reference(c, n, 0);
        same_as_reference(c, n, 1);
        if (n > 0) {
            contract(c, n, -1.0f, 1.0f);
            contract(c, n, 3.0f, 3.5f);
        }
    }
    same_as_reference(c, 20000, 0);
    same_as_reference(c, 20000, 1);
    contract(c, 576, -100.0f, -50.0f);
    no_number(c, NAN);
    no_number(c, -NAN);
    no_number(c, INFINITY);
    no_number(c, -INFINITY);
    no_number(c, 1e30f);
    no_number(c, -1e30f);
    constants(c);
}

/* ----------------------------------------------------------------- rotate */

static void against_matrix(struct check *c, int32_t n)
{
    static const struct check_bound bound = {.atol = 1e-5, .rtol = 1e-5, .nmse = 1e-12};
    const int32_t power = n & -n;
    float *x = check_floats(c, (size_t)n), *want = check_floats(c, (size_t)n);
    float *again = check_floats(c, (size_t)n);

    check_fill(c, x, (size_t)n, -2.0f, 2.0f);
    for (int32_t i = 0; i < n; i++) { /* entry (i, j) is negative where i & j has odd parity */
        double sum = 0.0;

        for (int32_t j = i / power * power; j < (i / power + 1) * power; j++) {
            const int odd = __builtin_parity((unsigned)(i % power & j % power));

            sum += odd ? -(double)x[j] : (double)x[j];
        }
        want[i] = (float)(sum / sqrt((double)power));
    }
    memcpy(again, x, (size_t)n * sizeof(*x));
    c->dut->attn.rotate(again, n);
    check_close(c, again, want, (size_t)n, bound, "rotate n=%d", (int)n);
    c->dut->attn.rotate(again, n);
    check_close(c, again, x, (size_t)n, bound, "rotate n=%d, twice", (int)n);
    memcpy(again, x, (size_t)n * sizeof(*x));
    c->ref->attn.rotate(again, n);
    c->dut->attn.rotate(x, n);
    check_same_bytes(c, x, again, (size_t)n * sizeof(*x), "rotate n=%d", (int)n);
    check_release(c);
}

void check_attn_rotate(struct check *c)
{
    static const int32_t sizes[] = {0, 1, 2, 7, 8, 16, 20, 64, 72, 80, 96, 128, 192, 256, 575, 576};

    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        against_matrix(c, sizes[i]);
    }
}

/* -------------------------------------------------------------- accuracy */

enum { POSITIONS = 96, DIM_MAX = 128 };

/* Keys, values and one query before anything is rounded. */
struct exact {
    float q[DIM_MAX], k[POSITIONS][DIM_MAX], v[POSITIONS][DIM_MAX];
    int32_t dim;
};

/* About normal; two channels of the keys are large at every position, as trained models have. */
static void make_exact(struct check *c, struct exact *e, int32_t dim)
{
    e->dim = dim;
    for (int32_t i = 0; i < dim; i++) {
        e->q[i] = check_uniform(c, -1.0f, 1.0f) + check_uniform(c, -1.0f, 1.0f);
        for (int32_t j = 0; j < POSITIONS; j++) {
            e->k[j][i] = check_uniform(c, -1.0f, 1.0f) + check_uniform(c, -1.0f, 1.0f);
            e->k[j][i] += i == 3 ? 8.0f : i == dim - 5 ? -6.0f : 0.0f;
            e->v[j][i] = check_uniform(c, -1.0f, 1.0f) + check_uniform(c, -1.0f, 1.0f);
        }
    }
}

static void attend_exactly(const struct exact *e, double *out)
{
    double score[POSITIONS], max = -INFINITY, sum = 0.0;

    for (int32_t j = 0; j < POSITIONS; j++) {
        score[j] = 0.0;
        for (int32_t i = 0; i < e->dim; i++) {
            score[j] += (double)e->q[i] * (double)e->k[j][i] / sqrt((double)e->dim);
        }
        max = fmax(max, score[j]);
    }
    memset(out, 0, sizeof(*out) * (size_t)e->dim);
    for (int32_t j = 0; j < POSITIONS; j++) {
        sum += exp(score[j] - max);
    }
    for (int32_t j = 0; j < POSITIONS; j++) {
        for (int32_t i = 0; i < e->dim; i++) {
            out[i] += exp(score[j] - max) / sum * (double)e->v[j][i];
        }
    }
}

/* The same through the cache: squared error over squared output. */
static double cache_error(struct check *c, const struct exact *e, int rotated)
{
    const size_t slot = kern_kv_bytes(c->dtype, e->dim);
    const int32_t blocks[POSITIONS / 16] = {0, 1, 2, 3, 4, 5};
    uint8_t *pool = check_buffer(c, (size_t)POSITIONS * 2 * slot, 1);
    float q[DIM_MAX], k[DIM_MAX], *out = check_floats(c, (size_t)e->dim);
    double want[DIM_MAX], error = 0.0, size = 0.0;
    struct kern_attn_args args = {.q = q,
                                  .q_stride = (size_t)e->dim,
                                  .out = out,
                                  .out_stride = (size_t)e->dim,
                                  .k = pool,
                                  .v = pool + 16 * slot,
                                  .block_stride = 32 * slot,
                                  .blocks = blocks,
                                  .block_tokens = 16,
                                  .first_pos = POSITIONS - 1,
                                  .n_head = 1,
                                  .n_head_kv = 1,
                                  .head_dim = e->dim,
                                  .scale = 1.0f / sqrtf((float)e->dim)};

    memcpy(q, e->q, sizeof(q));
    for (int32_t j = 0; j < POSITIONS; j++) {
        uint8_t *at = pool + (size_t)(j / 16) * 32 * slot + (size_t)(j % 16) * slot;

        memcpy(k, e->k[j], sizeof(k));
        if (rotated) {
            c->dut->attn.rotate(k, e->dim);
        }
        c->dut->quant.narrow[c->dtype](at, k, e->dim);
        c->dut->quant.narrow[c->dtype](at + 16 * slot, e->v[j], e->dim);
    }
    if (rotated) {
        c->dut->attn.rotate(q, e->dim);
    }
    c->dut->attn.paged[c->dtype](&args, 0, 0, 1);
    attend_exactly(e, want);
    for (int32_t i = 0; i < e->dim; i++) {
        error += ((double)out[i] - want[i]) * ((double)out[i] - want[i]);
        size += want[i] * want[i];
    }
    check_release(c);
    return error / size;
}

/* Bounds are twice the worst that was measured over many seeds. */
void check_kv_attention(struct check *c)
{
    static const int32_t dims[] = {64, 80, 128};
    const int is_q8 = c->dtype == INFER_DTYPE_Q8_0;
    double plain = 0.0, rotated = 0.0;
    struct exact e;

    for (int round = 0; round < 60; round++) {
        make_exact(c, &e, dims[round % 3]);
        plain += cache_error(c, &e, 0) / 60;
        rotated += cache_error(c, &e, 1) / 60;
    }
    check_true(c, plain < (is_q8 ? KV_ERROR_Q8 : KV_ERROR_Q4), "an error of %g from float64",
               plain);
    check_true(c, rotated < (is_q8 ? KV_ERROR_Q8_ROTATED : KV_ERROR_Q4_ROTATED),
               "an error of %g from float64 with rotated keys", rotated);
    check_true(c, rotated < plain, "rotated keys give an error of %g, plain ones %g", rotated,
               plain);
}

/* ----------------------------------------------------------------- timing */

struct turn {
    float x[64 * 128];
    int32_t dim;
};

static void call_rotate(const struct infer_kernels *kernels, void *arg)
{
    struct turn *t = arg;

    for (size_t i = 0; i < BASE_COUNT(t->x); i += (size_t)t->dim) {
        kernels->attn.rotate(t->x + i, t->dim);
    }
}

void bench_attn_rotate(struct check *c)
{
    static struct turn t;

    for (t.dim = 64; t.dim <= 128; t.dim *= 2) {
        check_fill(c, t.x, BASE_COUNT(t.x), -1.0f, 1.0f);
        check_time(c, t.dim == 64 ? "128 x 64" : "64 x 128", call_rotate, &t,
                   (struct check_work){sizeof(t.x), "B", 0});
    }
}
