/* Kernels of recurrent layers against the reference. */
#include "base/types.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <math.h>

enum { SCAN, DELTA, TILED };

#define SEQS         4 /* and one more that only fills up a shape */
#define BLOCKS       7
#define TABLE_STRIDE 3

struct recur_case {
    int32_t kind, n_head, n_group, dim, depth, width;
    int32_t by_key; /* parts lie key head by key head */
    int32_t plain;  /* without biases, norm, d */
    int32_t rows_type;
    int32_t n_rows[SEQS], first[SEQS];
};

static const struct recur_case cases[] = {
    {SCAN, 2, 2, 40, 16, 4, 0, 0, KERN_CUDA_ROWS_BF16, {19, 1, 2, 3}, {0, 7, 0, 5}},
    {SCAN, 3, 1, 10, 30, 3, 0, 1, KERN_CUDA_ROWS_F32, {1, 16, 0, 5}, {0, 2, 0, 0}},
    {SCAN, 2, 2, 64, 64, 4, 0, 0, KERN_CUDA_ROWS_Q8, {1, 1, 1, 1}, {9, 0, 1, 40}},
    {SCAN, 2, 1, 40, 128, 4, 0, 0, KERN_CUDA_ROWS_BF16, {2, 0, 3, 1}, {1, 0, 0, 3}},
    {SCAN, 1, 1, 9, 256, 8, 0, 1, KERN_CUDA_ROWS_F32, {3, 1, 0, 0}, {0, 4, 0, 0}},
    {SCAN, 2, 1, 2050, 4, 2, 0, 0, KERN_CUDA_ROWS_F32, {1, 0, 0, 2}, {6, 0, 0, 0}},
    {DELTA, 4, 2, 12, 20, 4, 1, 0, KERN_CUDA_ROWS_BF16, {18, 1, 2, 5}, {3, 0, 6, 0}},
    {TILED, 4, 2, 10, 16, 4, 0, 0, KERN_CUDA_ROWS_F32, {3, 17, 1, 0}, {0, 1, 8, 0}},
    {DELTA, 2, 1, 64, 128, 4, 0, 0, KERN_CUDA_ROWS_Q8, {1, 1, 1, 1}, {2, 0, 5, 99}},
    {TILED, 2, 2, 9, 256, 1, 0, 1, KERN_CUDA_ROWS_BF16, {6, 0, 1, 0}, {4, 0, 0, 0}},
};

/* Offset of a part in a row, and its steps. */
struct part {
    int32_t at, outer, inner;
};

struct recur_test {
    const struct recur_case *c;
    int32_t ratio, channels, inner, row[SEQS + 1], n_rows;
    int32_t read_at, write_at, value_at;
    struct part read, write, value, step, strength, z;
    size_t stride, carried, block_floats, out_stride;
    float *raw, *conv, *bias, *a, *dt_bias, *d, *norm, *states;
    float *want_y, *want_states;
    int32_t tables[(SEQS + 1) * TABLE_STRIDE];
    struct kern_cuda_recur_args args; /* on the card */
    const float *card_norm;
};

/* ------------------------------------------------------------------- the case */

static void lay_out(struct recur_test *t)
{
    const struct recur_case *c = t->c;
    const int32_t groups = c->n_group * c->depth, values = t->ratio * c->dim;
    const int32_t run = 2 * c->depth + 2 * values, end = t->channels + t->inner;
    if (c->kind == SCAN) { /* gates, x, B, C, time steps */
        t->write_at = t->inner;
        t->read_at = t->inner + groups;
        t->z = (struct part){0, t->inner / c->n_group, 0};
        t->value = (struct part){t->inner, values, c->dim};
        t->write = (struct part){2 * t->inner, c->depth, 0};
        t->read = (struct part){2 * t->inner + groups, c->depth, 0};
        t->step = (struct part){end, t->ratio, 1};
        return;
    }
    t->write_at = groups;
    t->value_at = 2 * groups;
    t->read = (struct part){0, c->by_key ? run : c->depth, 0};
    t->write = (struct part){c->by_key ? c->depth : groups, t->read.outer, 0};
    t->value =
        (struct part){c->by_key ? 2 * c->depth : 2 * groups, c->by_key ? run : values, c->dim};
    t->z = (struct part){c->by_key ? 2 * c->depth + values : t->channels, t->value.outer, c->dim};
    t->strength = (struct part){end, c->by_key ? 2 * t->ratio : t->ratio, 1};
    t->step = (struct part){end + (c->by_key ? t->ratio : c->n_head), t->strength.outer, 1};
}

static void place_rows(struct recur_test *t, uint64_t *seed)
{
    static const int32_t blocks[SEQS] = {5, 0, 6, 2};
    memset(t->tables, 0xff, sizeof t->tables);
    for (int s = 0; s < SEQS; s++) {
        t->row[s + 1] = t->row[s] + t->c->n_rows[s];
        t->tables[s * TABLE_STRIDE] = blocks[s];
    }
    t->n_rows = t->row[SEQS] + 1; /* the last is nobody's */
    t->states = random_floats(seed, BLOCKS * t->block_floats, 1);
    for (int s = 0; s < SEQS; s++)
        for (size_t i = 0; t->c->first[s] == 0 && i < t->block_floats; i++)
            t->states[(size_t)blocks[s] * t->block_floats + i] = NAN;
    for (size_t i = 0; i < t->block_floats; i++)
        t->states[t->block_floats + i] = NAN; /* of nobody */
}

static void *card_floats(const float *x, size_t n)
{
    return card_new(x, n * sizeof *x);
}

static struct kern_cuda_recur_part part_of(const struct recur_test *t, const float *card,
                                           const struct part *p)
{
    return (struct kern_cuda_recur_part){card + p->at, t->stride, p->outer, p->inner};
}

static void put_on_card(struct recur_test *t)
{
    const struct recur_case *c = t->c;
    const float *raw = card_floats(t->raw, (size_t)t->n_rows * t->stride);
    const size_t heads = (size_t)c->n_head, channels = (size_t)t->channels;
    t->card_norm = c->plain ? NULL : card_floats(t->norm, (size_t)t->inner);
    t->args = (struct kern_cuda_recur_args){
        .block_stride = t->block_floats * sizeof(float),
        .tables = card_new(t->tables, sizeof t->tables),
        .table_stride = TABLE_STRIDE,
        .n_channels = t->channels,
        .width = c->width,
        .conv = card_floats(t->conv, channels * (size_t)c->width),
        .bias = c->plain ? NULL : card_floats(t->bias, channels),
        .read_at = t->read_at,
        .write_at = t->write_at,
        .value_at = t->value_at,
        .read = part_of(t, raw, &t->read),
        .write = part_of(t, raw, &t->write),
        .value = part_of(t, raw, &t->value),
        .step = part_of(t, raw, &t->step),
        .strength = part_of(t, raw, &t->strength),
        .a = card_floats(t->a, heads),
        .dt_bias = c->plain ? NULL : card_floats(t->dt_bias, heads),
        .d = c->plain || c->kind != SCAN ? NULL : card_floats(t->d, heads),
        .scale = 0.3f,
        .eps = 1e-6f,
        .n_head = c->n_head,
        .n_group = c->n_group,
        .dim = c->dim,
        .depth = c->depth,
        .tiled = c->kind == TILED,
        .y = card_new(NULL, (size_t)t->n_rows * (size_t)t->inner * sizeof(float)),
    };
}

static void open_case(struct recur_test *t, const struct recur_case *c, uint64_t *seed)
{
    *t = (struct recur_test){.c = c, .ratio = c->n_head / c->n_group, .inner = c->n_head * c->dim};
    t->channels = t->inner + 2 * c->n_group * c->depth;
    t->carried = (size_t)(c->width - 1) * (size_t)t->channels;
    t->block_floats =
        BASE_ALIGN_UP(t->carried + (size_t)t->inner * (size_t)c->depth, (size_t)16) + 16;
    t->stride = (size_t)(t->channels + t->inner + 2 * c->n_head + 3) / 4 * 4;
    t->out_stride = (size_t)t->inner * 8 + 16;
    t->out_stride -= t->out_stride % 16;
    lay_out(t);
    place_rows(t, seed);
    t->raw = random_floats(seed, (size_t)t->n_rows * t->stride, 2);
    t->conv = random_floats(seed, (size_t)t->channels * (size_t)c->width, 1);
    t->bias = random_floats(seed, (size_t)t->channels, 1);
    t->a = random_floats(seed, (size_t)c->n_head, 0.5f);
    t->dt_bias = random_floats(seed, (size_t)c->n_head, 1);
    t->d = random_floats(seed, (size_t)c->n_head, 1);
    t->norm = random_floats(seed, (size_t)t->inner, 2);
    for (int32_t h = 0; h < c->n_head; h++)
        t->a[h] = -fabsf(t->a[h]) - 0.05f;
    put_on_card(t);
}

static void close_case(struct recur_test *t)
{
    const struct kern_cuda_recur_args *a = &t->args;
    const void *const cards[] = {a->tables,   a->conv,    a->bias, a->read.x - t->read.at,
                                 a->a,        a->dt_bias, a->d,    a->y,
                                 t->card_norm};
    for (size_t i = 0; i < BASE_COUNT(cards); i++)
        card_free((void *)(uintptr_t)cards[i]);
    free(t->raw), free(t->conv), free(t->bias), free(t->a), free(t->dt_bias), free(t->d);
    free(t->norm), free(t->states), free(t->want_y), free(t->want_states);
}

/* -------------------------------------------------------------- the reference */

static float raw_at(const struct recur_test *t, int32_t row, const struct part *p, int32_t head,
                    int32_t ratio, int32_t element)
{
    return t
        ->raw[(size_t)row * t->stride + (size_t)p->at + (size_t)(head / ratio) * (size_t)p->outer +
              (size_t)(head % ratio) * (size_t)p->inner + (size_t)element];
}

/* All channels of a row in their order. */
static void gather(const struct recur_test *t, int32_t row, float *out)
{
    const struct recur_case *c = t->c;
    for (int32_t h = 0; h < c->n_head; h++)
        for (int32_t j = 0; j < c->dim; j++)
            out[t->value_at + h * c->dim + j] = raw_at(t, row, &t->value, h, t->ratio, j);
    for (int32_t g = 0; g < c->n_group; g++)
        for (int32_t j = 0; j < c->depth; j++) {
            out[t->read_at + g * c->depth + j] = raw_at(t, row, &t->read, g, 1, j);
            out[t->write_at + g * c->depth + j] = raw_at(t, row, &t->write, g, 1, j);
        }
}

static void move_state(const struct recur_test *t, const float *x, const float *numbers,
                       int32_t n_rows, float *state, float *y)
{
    const struct recur_case *c = t->c;
    const size_t channels = (size_t)t->channels, heads = (size_t)c->n_head;
    struct kern_ssm ref;
    kern_ssm_init_ref(&ref);
    if (c->kind == SCAN)
        ref.scan(&(const struct kern_scan_args){.x = x + t->value_at,
                                                .x_stride = channels,
                                                .dt = numbers,
                                                .dt_stride = 2 * heads,
                                                .b = x + t->write_at,
                                                .c = x + t->read_at,
                                                .bc_stride = channels,
                                                .a = t->a,
                                                .d = c->plain ? NULL : t->d,
                                                .dt_bias = c->plain ? NULL : t->dt_bias,
                                                .state = state,
                                                .y = y,
                                                .y_stride = (size_t)t->inner,
                                                .n_rows = n_rows,
                                                .n_head = c->n_head,
                                                .n_group = c->n_group,
                                                .head_dim = c->dim,
                                                .d_state = c->depth},
                 0, c->n_head);
    else
        ref.delta(&(const struct kern_delta_args){.q = x + t->read_at,
                                                  .k = x + t->write_at,
                                                  .qk_stride = channels,
                                                  .v = x + t->value_at,
                                                  .v_stride = channels,
                                                  .alpha = numbers,
                                                  .beta = numbers + heads,
                                                  .ab_stride = 2 * heads,
                                                  .a = t->a,
                                                  .dt_bias = c->plain ? NULL : t->dt_bias,
                                                  .state = state,
                                                  .y = y,
                                                  .y_stride = (size_t)t->inner,
                                                  .scale = 0.3f,
                                                  .eps = 1e-6f,
                                                  .n_rows = n_rows,
                                                  .n_head = c->n_head,
                                                  .n_head_k = c->n_group,
                                                  .k_dim = c->depth,
                                                  .v_dim = c->dim,
                                                  .tiled = c->kind == TILED},
                  0, c->n_head);
}

static void gate(const struct recur_test *t, int32_t row, float *y)
{
    const struct recur_case *c = t->c;
    const int32_t n_units = c->kind == SCAN ? c->n_group : c->n_head, n = t->inner / n_units;
    const int32_t ratio = c->kind == SCAN ? 1 : t->ratio;
    float *z = malloc((size_t)n * sizeof *z);
    struct kern_norm norm;
    struct kern_unary unary;
    kern_norm_init_ref(&norm);
    kern_unary_init_ref(&unary);
    for (int32_t u = 0; u < n_units; u++, y += n) {
        const float *w = t->norm + (c->kind == SCAN ? u * n : 0);
        for (int32_t j = 0; j < n; j++)
            z[j] = raw_at(t, row, &t->z, u, ratio, j);
        if (c->kind == SCAN)
            unary.silu_mul(y, z, y, n);
        if (!c->plain)
            norm.rms(y, y, w, n, 1e-5f);
        if (c->kind != SCAN)
            unary.silu_mul(y, z, y, n);
    }
    free(z);
}

static void reference(struct recur_test *t)
{
    const size_t channels = (size_t)t->channels, heads = (size_t)t->c->n_head;
    const size_t n_rows = (size_t)t->n_rows, bytes = BLOCKS * t->block_floats * sizeof(float);
    float *x = malloc(n_rows * channels * sizeof *x);
    float *numbers = calloc(n_rows * 2 * heads, sizeof *numbers);
    struct kern_ssm ref;
    kern_ssm_init_ref(&ref);
    t->want_y = calloc(n_rows * (size_t)t->inner, sizeof *t->want_y);
    t->want_states = malloc(bytes);
    memcpy(t->want_states, t->states, bytes);
    for (int s = 0; s < SEQS; s++) {
        const int32_t row = t->row[s], n = t->c->n_rows[s];
        float *state = t->want_states + (size_t)t->tables[s * TABLE_STRIDE] * t->block_floats;
        if (n && !t->c->first[s])
            memset(state, 0, (t->carried + (size_t)t->inner * (size_t)t->c->depth) * sizeof *state);
        for (int32_t i = row; i < row + n; i++) {
            gather(t, i, x + (size_t)i * channels);
            for (int32_t h = 0; h < t->c->n_head; h++) {
                float *of_row = numbers + (size_t)i * 2 * heads + h;
                of_row[0] = raw_at(t, i, &t->step, h, t->ratio, 0);
                of_row[heads] = raw_at(t, i, &t->strength, h, t->ratio, 0);
            }
        }
        float *own = x + (size_t)row * channels;
        ref.conv(&(const struct kern_conv_args){.x = own,
                                                .x_stride = channels,
                                                .y = own,
                                                .y_stride = channels,
                                                .w = t->conv,
                                                .bias = t->c->plain ? NULL : t->bias,
                                                .state = state,
                                                .n_rows = n,
                                                .n_channels = t->channels,
                                                .width = t->c->width,
                                                .silu = 1},
                 0, t->channels);
        move_state(t, own, numbers + (size_t)row * 2 * heads, n, state + t->carried,
                   t->want_y + (size_t)row * (size_t)t->inner);
        for (int32_t i = row; i < row + n; i++)
            gate(t, i, t->want_y + (size_t)i * (size_t)t->inner);
    }
    free(x);
    free(numbers);
}

/* -------------------------------------------------------------------- the card */

struct result {
    uint8_t *out; /* rows of out_stride */
    float *states;
};

/* Rows first .. first + n[s] - 1 of n_seqs sequences from `seq` on. */
static void launch(struct recur_test *t, int32_t seq, int32_t n_seqs, const int32_t *first,
                   const int32_t *n, float *states, uint8_t *out, int32_t rows_type)
{
    const struct recur_case *c = t->c;
    struct kern_cuda_seq seqs[SEQS + 1] = {{0}};
    int32_t *seq_of = malloc((size_t)t->n_rows * sizeof *seq_of), longest = 0;
    memset(seq_of, 0xff, (size_t)t->n_rows * sizeof *seq_of);
    for (int32_t i = 0; i < n_seqs && seq + i < SEQS; i++) {
        const int32_t s = seq + i, row = t->row[s] + first[s];
        seqs[i] = (struct kern_cuda_seq){c->first[s] + first[s], row, n[s]};
        for (int32_t r = row; r < row + n[s]; r++)
            seq_of[r] = i;
        longest = BASE_MAX(longest, n[s]);
    }
    struct kern_cuda_batch batch = {
        .seq_of = card_new(seq_of, (size_t)t->n_rows * sizeof *seq_of),
        .seqs = card_new(seqs, sizeof seqs),
        .n_rows = t->n_rows,
        .n_seqs = n_seqs,
        .seq_rows = longest,
    };
    struct kern_cuda_recur_args args = t->args;
    args.states = (uint8_t *)states;
    args.tables += seq * TABLE_STRIDE;
    args.batch = &batch;
    const int32_t n_units = c->kind == SCAN ? c->n_group : c->n_head, unit = t->inner / n_units;
    const struct kern_cuda_recur_finish_args finish = {
        .recur = &args,
        .z = part_of(t, args.read.x - t->read.at, &t->z),
        .n_units = n_units,
        .n = unit,
        .gate_first = c->kind == SCAN,
        .norm = t->card_norm,
        .norm_step = c->kind == SCAN ? unit : 0,
        .norm_eps = 1e-5f,
        .out = out,
        .out_stride = t->out_stride,
        .rows_type = rows_type,
    };
    struct kern_cuda_recur_finish_args refused = finish;
    refused.rows_type = KERN_CUDA_ROWS_F8;
    assert_int_equal(kern_cuda_recur_finish(&refused, NULL), cudaErrorInvalidValue);
    assert_int_equal(c->kind == SCAN ? kern_cuda_recur_scan(&args, NULL)
                                     : kern_cuda_recur_delta(&args, NULL),
                     0);
    assert_int_equal(kern_cuda_recur_finish(&finish, NULL), 0);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    card_free((void *)(uintptr_t)batch.seq_of);
    card_free((void *)(uintptr_t)batch.seqs);
    free(seq_of);
}

/* All at once, or (cut) sequence by sequence and each in two calls. */
static struct result run(struct recur_test *t, int cut, int32_t rows_type)
{
    static const int32_t zeros[SEQS];
    const size_t bytes = BLOCKS * t->block_floats * sizeof(float);
    const size_t out_bytes = (size_t)t->n_rows * t->out_stride;
    const struct result r = {malloc(out_bytes), malloc(bytes)};
    float *states = card_new(t->states, bytes);
    uint8_t *out = card_new(NULL, out_bytes);
    if (!cut)
        launch(t, 0, SEQS + 1, zeros, t->c->n_rows, states, out, rows_type);
    for (int32_t s = 0; cut && s < SEQS; s++) {
        int32_t at[SEQS] = {0}, n[SEQS] = {0};
        n[s] = t->c->n_rows[s] * 2 / 3;
        launch(t, s, 1, at, n, states, out, rows_type);
        at[s] = n[s];
        n[s] = t->c->n_rows[s] - at[s];
        launch(t, s, 1, at, n, states, out, rows_type);
    }
    card_get(r.states, states, bytes);
    card_get(r.out, out, out_bytes);
    card_free(states);
    card_free(out);
    return r;
}

static void result_free(struct result *r)
{
    free(r->out);
    free(r->states);
}

/* Sums in float of some hundred factors, over a few dozen rows. */
#define BOUND 0x1p-17

static void assert_is_reference(const struct recur_test *t, const struct result *r)
{
    double largest = 0, size = 0;
    const size_t inner = (size_t)t->inner;
    for (size_t i = 0; i < (size_t)t->row[SEQS] * inner; i++)
        largest = fmax(largest, fabs((double)t->want_y[i]));
    for (size_t i = 0; i < (size_t)t->row[SEQS]; i++)
        for (size_t j = 0; j < inner; j++) {
            const float got = ((const float *)(const void *)(r->out + i * t->out_stride))[j];
            const double want = (double)t->want_y[i * inner + j];
            if (!(fabs((double)got - want) <= BOUND * largest))
                fail_msg("row %zu, element %zu is %.9g, expected %.9g", i, j, (double)got, want);
        }
    for (size_t i = 0; i < BLOCKS * t->block_floats; i++)
        size = fmax(size, isnan(t->want_states[i]) ? 0 : fabs((double)t->want_states[i]));
    for (size_t i = 0; i < BLOCKS * t->block_floats; i++) {
        const float got = r->states[i], want = t->want_states[i];
        const size_t at = i % t->block_floats;
        if (isnan(want)
                ? !isnan(got)
                : !(fabs((double)got - (double)want) <= (at < t->carried ? 0 : BOUND * size)))
            fail_msg("state %zu is %.9g, expected %.9g", i, (double)got, (double)want);
    }
    for (size_t i = 0; i < t->out_stride; i++) /* of nobody's row */
        assert_int_equal(r->out[(size_t)(t->n_rows - 1) * t->out_stride + i], 0xff);
}

/* What floats become in another form, to the bit. */
static void assert_form(const struct recur_test *t, const struct result *r,
                        const struct result *floats, int32_t rows_type)
{
    const size_t inner = (size_t)t->inner,
                 q8 = kern_act_q8_bytes((int32_t)BASE_ALIGN_UP(inner, 32));
    uint8_t *expected = malloc(q8);
    struct kern_quant quant = {0};
    kern_quant_init_ref(&quant);
    for (size_t i = 0; i < (size_t)t->row[SEQS]; i++) {
        const uint8_t *row = r->out + i * t->out_stride;
        const float *x = (const float *)(const void *)(floats->out + i * t->out_stride);
        if (rows_type == KERN_CUDA_ROWS_Q8) {
            quant.act_q8(expected, x, t->inner);
            assert_memory_equal(row, expected, inner + inner / 32 * 4 + inner / 16 * 2);
        }
        for (size_t j = 0; rows_type == KERN_CUDA_ROWS_BF16 && j < inner; j++)
            assert_int_equal(kern_load_u16(row + 2 * j), kern_bf16_of_float(x[j]));
    }
    free(expected);
}

static void assert_same(const struct recur_test *t, const struct result *a, const struct result *b)
{
    assert_memory_equal(a->out, b->out, (size_t)t->n_rows * t->out_stride);
    assert_memory_equal(a->states, b->states, BLOCKS * t->block_floats * sizeof(float));
}

static void test_states_are_the_references(void **state)
{
    uint64_t seed = 11;
    (void)state;
    card_needed("recurrent layers");
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct recur_test t;
        open_case(&t, &cases[i], &seed);
        reference(&t);
        struct result whole = run(&t, 0, KERN_CUDA_ROWS_F32), cut = run(&t, 1, cases[i].rows_type);
        assert_is_reference(&t, &whole);
        if (cases[i].rows_type == KERN_CUDA_ROWS_F32) {
            assert_same(&t, &whole, &cut);
        } else {
            assert_form(&t, &cut, &whole, cases[i].rows_type);
            assert_memory_equal(whole.states, cut.states, BLOCKS * t.block_floats * sizeof(float));
        }
        result_free(&whole);
        result_free(&cut);
        close_case(&t);
    }
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states_are_the_references),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("cuda recur", tests, NULL, NULL);
}
