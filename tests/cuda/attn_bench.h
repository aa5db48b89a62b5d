/* Shapes of paged attention on the card, run and compared with the reference in double.
 *
 * The bound of an element. Values lie in [-1, 1), weights sum to one. Let u be the rounding of
 * the 16-bit type (BF16 2^-8, F16 2^-11). A weight rounded to it is off by at most u of itself,
 * and so, all in one direction, is the output. A query rounded to it moves a score by the sum of d
 * products q k scale, each off by u at most: with queries in [-2, 2), keys in [-1, 1) and scale
 * d^-1/2 the standard deviation of that is u * 2/3 / sqrt(3) < u / 2, which a mean over the keys
 * lessens; four of them are 2 u. So 3 u + 2^-18, the latter for sums in floats, with
 *   - u^2 for u where rests are added (decode, F16 and BF16);
 *   - u of F16 for quantised caches, whose numbers are rounded to it once widened;
 *   - 0 for F32 and whatever the plain kernel takes.
 * A key too many or too few moves the output by about its weight, 1 / length here, and a wrong
 * value by more. Rows as BF16 add 2^-8 of the element. */
#ifndef TESTS_CUDA_ATTN_BENCH_H
#define TESTS_CUDA_ATTN_BENCH_H

#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <math.h>

/* So many that tiles of 128 vectors are taken, however few have rows. */
#define SEQS_MAX 264

struct sequence {
    int32_t first_pos, n_rows;
};

struct shape {
    infer_dtype type;
    int32_t n_head, n_head_kv, head_dim, head_dim_v;
    int32_t block_tokens, window, chunk;
    float softcap;
    int32_t sinks, gates, bf16_rows;
    int32_t slot_pad; /* bytes between slots */
    struct sequence seqs[SEQS_MAX];
    int32_t n_seqs;
};

/* A shape with everything that a launch needs, here and on the card. */
struct bench {
    struct shape s;
    uint64_t seed;
    struct kern_quant quant;
    int32_t n_rows, seq_rows, seq_length, table_stride, n_blocks;
    size_t k_slot, v_slot, v_at, block_stride, pool_bytes;
    float *q, *out, *gates, *sinks;
    uint8_t *pool;
    int32_t *tables;
    struct kern_cuda_seq seqs[SEQS_MAX];
    void *card[8];
    struct kern_cuda_batch batch;
    struct kern_cuda_attn_args args;
};

static void *filled(struct bench *b, size_t n, float size)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = size * test_randf(&b->seed);
    return x;
}

static void narrow(struct bench *b, uint8_t *dst, int32_t n)
{
    float x[KERN_ATTN_HEAD_MAX];
    for (int32_t i = 0; i < n; i++)
        x[i] = test_randf(&b->seed);
    if (b->s.type == INFER_DTYPE_F32)
        memcpy(dst, x, (size_t)n * sizeof *x);
    else if (b->s.type != INFER_DTYPE_F16 && b->s.type != INFER_DTYPE_BF16)
        b->quant.narrow[b->s.type](dst, x, n);
    else
        for (int32_t i = 0; i < n; i++) {
            const uint16_t h =
                b->s.type == INFER_DTYPE_F16 ? kern_f16_of_float(x[i]) : kern_bf16_of_float(x[i]);
            memcpy(dst + 2 * i, &h, 2);
        }
}

static int32_t first_seen(const struct shape *s, int32_t pos)
{
    const int32_t window = s->window > 0 && pos >= s->window ? pos - s->window + 1 : 0;
    return BASE_MAX(window, s->chunk > 0 ? pos - pos % s->chunk : 0);
}

/* Only what some row sees holds numbers; all else is NaN, and other blocks have no number. */
static void fill_cache(struct bench *b)
{
    const struct shape *s = &b->s;
    int32_t used = 0;
    memset(b->pool, 0xff, b->pool_bytes);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        int32_t *table = b->tables + i * b->table_stride;
        const int32_t end = s->seqs[i].first_pos + s->seqs[i].n_rows;
        for (int32_t t = 0; t < b->table_stride; t++)
            table[t] = INT32_MAX / 2;
        if (!s->seqs[i].n_rows)
            continue;
        for (int32_t j = first_seen(s, s->seqs[i].first_pos); j < end; j++) {
            if (table[j / s->block_tokens] ==
                INT32_MAX / 2) /* in no order: 7 is prime to n_blocks */
                table[j / s->block_tokens] = used++ * 7 % b->n_blocks;
            uint8_t *block = b->pool + (size_t)table[j / s->block_tokens] * b->block_stride;
            for (int32_t h = 0; h < s->n_head_kv; h++) {
                const size_t at = (size_t)(h * s->block_tokens + j % s->block_tokens);
                narrow(b, block + at * b->k_slot, s->head_dim);
                narrow(b, block + b->v_at + at * b->v_slot, s->head_dim_v);
            }
        }
    }
}

static void count(struct bench *b)
{
    const struct shape *s = &b->s;
    for (int32_t i = 0; i < s->n_seqs; i++) {
        const int32_t length = s->seqs[i].first_pos + s->seqs[i].n_rows;
        b->seqs[i] = (struct kern_cuda_seq){s->seqs[i].first_pos, b->n_rows, s->seqs[i].n_rows};
        b->n_rows += s->seqs[i].n_rows;
        b->seq_rows = BASE_MAX(b->seq_rows, s->seqs[i].n_rows);
        b->seq_length = BASE_MAX(b->seq_length, length);
        b->n_blocks += (length + s->block_tokens - 1) / s->block_tokens;
    }
    b->n_blocks += b->n_blocks % 7 == 0;
    b->table_stride = (b->seq_length + s->block_tokens - 1) / s->block_tokens + 1;
    b->k_slot = kern_kv_bytes(s->type, s->head_dim) + (size_t)s->slot_pad;
    b->v_slot = kern_kv_bytes(s->type, s->head_dim_v) + (size_t)s->slot_pad;
    b->v_at = (size_t)(s->n_head_kv * s->block_tokens) * b->k_slot;
    b->block_stride = b->v_at + (size_t)(s->n_head_kv * s->block_tokens) * b->v_slot;
    b->pool_bytes = (size_t)b->n_blocks * b->block_stride;
}

static void bench_new(struct bench *b, const struct shape *shape, uint64_t seed)
{
    *b = (struct bench){.s = *shape, .seed = seed};
    struct shape *s = &b->s;
    kern_narrow_init_ref_kv(&b->quant);
    count(b);
    const size_t q_n = (size_t)b->n_rows * (size_t)(s->n_head * s->head_dim);
    const size_t o_n = (size_t)b->n_rows * (size_t)(s->n_head * s->head_dim_v);
    b->q = filled(b, q_n, 2.0f);
    b->gates = filled(b, o_n, 4.0f);
    b->sinks = filled(b, (size_t)s->n_head, 4.0f);
    b->out = malloc(o_n * sizeof(float) + 1);
    b->pool = malloc(b->pool_bytes);
    b->tables = malloc((size_t)(s->n_seqs * b->table_stride) * sizeof(int32_t));
    fill_cache(b);
    const size_t scratch =
        BASE_MAX(kern_cuda_attn_scratch(s->n_head, s->head_dim_v, s->n_seqs, b->n_rows),
                 kern_cuda_attn_scratch_fixed(s->n_head, s->head_dim_v, b->n_rows));
    b->card[0] = card_new(b->q, q_n * sizeof(float));
    b->card[1] = card_new(b->pool, b->pool_bytes);
    b->card[2] = card_new(b->tables, (size_t)(s->n_seqs * b->table_stride) * sizeof(int32_t));
    b->card[3] = card_new(b->gates, o_n * sizeof(float));
    b->card[4] = card_new(b->sinks, (size_t)s->n_head * sizeof(float));
    b->card[5] = card_new(b->seqs, (size_t)s->n_seqs * sizeof *b->seqs);
    b->card[6] = card_new(NULL, o_n * sizeof(float));
    b->card[7] = card_new(NULL, scratch);
    assert_int_equal(cudaMemset(b->card[7], 0, scratch), cudaSuccess);
    b->batch = (struct kern_cuda_batch){.seqs = b->card[5],
                                        .n_rows = b->n_rows,
                                        .n_seqs = s->n_seqs,
                                        .seq_rows = b->seq_rows,
                                        .seq_length = b->seq_length};
    b->args = (struct kern_cuda_attn_args){
        .kv = {.k = b->card[1],
               .v = (uint8_t *)b->card[1] + b->v_at,
               .block_stride = b->block_stride,
               .k_slot = b->k_slot,
               .v_slot = b->v_slot,
               .tables = b->card[2],
               .table_stride = b->table_stride,
               .block_tokens = s->block_tokens,
               .type = s->type},
        .q = b->card[0],
        .q_stride = (size_t)(s->n_head * s->head_dim),
        .out = b->card[6],
        .out_stride = (size_t)(s->n_head * s->head_dim_v) * (s->bf16_rows ? 2 : 4),
        .out_rows = s->bf16_rows ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_F32,
        .gates = s->gates ? b->card[3] : NULL,
        .n_head = s->n_head,
        .n_head_kv = s->n_head_kv,
        .head_dim = s->head_dim,
        .head_dim_v = s->head_dim_v,
        .window = s->window,
        .chunk = s->chunk,
        .scale = 1.0f / sqrtf((float)s->head_dim),
        .softcap = s->softcap,
        .sinks = s->sinks ? b->card[4] : NULL,
        .batch = &b->batch,
        .scratch = b->card[7],
        .scratch_bytes = scratch};
}

static void bench_free(struct bench *b)
{
    for (int i = 0; i < 8; i++)
        card_free(b->card[i]);
    free(b->q);
    free(b->gates);
    free(b->sinks);
    free(b->out);
    free(b->pool);
    free(b->tables);
}

/* The outputs as floats, from NaN. */
static void bench_run(struct bench *b, float *out)
{
    const size_t n = (size_t)b->n_rows * (size_t)(b->s.n_head * b->s.head_dim_v);
    assert_int_equal(cudaMemset(b->card[6], 0xff, n * (b->s.bf16_rows ? 2 : 4)), cudaSuccess);
    assert_int_equal(kern_cuda_attn_paged(&b->args, NULL), 0);
    card_get(out, b->card[6], n * (b->s.bf16_rows ? 2 : 4));
    if (b->s.bf16_rows)
        for (size_t i = n; i-- > 0;)
            out[i] = kern_float_of_bf16(((const uint16_t *)out)[i]);
}

static void reference(const struct bench *b, float *out)
{
    const struct shape *s = &b->s;
    struct kern_attn ref;
    kern_attn_init_ref(&ref);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        const size_t row = (size_t)b->seqs[i].row, q_row = b->args.q_stride;
        const size_t o_row = (size_t)(s->n_head * s->head_dim_v);
        const struct kern_attn_args args = {.q = b->q + row * q_row,
                                            .q_stride = q_row,
                                            .out = out + row * o_row,
                                            .out_stride = o_row,
                                            .k = b->pool,
                                            .v = b->pool + b->v_at,
                                            .block_stride = b->block_stride,
                                            .blocks = b->tables + i * b->table_stride,
                                            .block_tokens = s->block_tokens,
                                            .first_pos = s->seqs[i].first_pos,
                                            .n_head = s->n_head,
                                            .n_head_kv = s->n_head_kv,
                                            .head_dim = s->head_dim,
                                            .head_dim_v = s->head_dim_v,
                                            .k_slot = b->k_slot,
                                            .v_slot = b->v_slot,
                                            .window = s->window,
                                            .chunk = s->chunk,
                                            .scale = b->args.scale,
                                            .softcap = s->softcap,
                                            .sinks = s->sinks ? b->sinks : NULL};
        for (int32_t h = 0; h < s->n_head_kv; h++)
            ref.paged[s->type](&args, h, 0, s->seqs[i].n_rows * (s->n_head / s->n_head_kv));
    }
    const size_t n = (size_t)b->n_rows * (size_t)(s->n_head * s->head_dim_v);
    for (size_t i = 0; s->gates && i < n; i++)
        out[i] = (float)((double)out[i] / (1.0 + exp(-(double)b->gates[i])));
}

enum regime { PLAIN, DECODE, PREFILL };

/* What the launcher takes for the shape; the bound depends on it. */
static enum regime regime_of(const struct bench *b)
{
    const struct shape *s = &b->s;
    const int32_t d = s->head_dim, few = d == 512 ? 32 : 64;
    if (s->type == INFER_DTYPE_F32 || d != s->head_dim_v ||
        (d != 64 && d != 96 && d != 128 && d != 256 && d != 512) || s->slot_pad % 16)
        return PLAIN;
    return b->seq_rows * (s->n_head / s->n_head_kv) > few ? PREFILL : DECODE;
}

static double bound_of(const struct bench *b)
{
    const enum regime regime = regime_of(b);
    const double u = b->s.type == INFER_DTYPE_BF16 ? 0x1p-8 : 0x1p-11;
    const int quantised = b->s.type == INFER_DTYPE_Q8_0 || b->s.type == INFER_DTYPE_Q4_1;
    if (regime == PLAIN)
        return 0x1p-18;
    if (b->args.part > 0) /* the kernel of few rows takes all */
        return 3 * (quantised ? u : u * u) + 0x1p-18;
    return (regime == DECODE && !quantised ? 3 * u * u : 3 * u) + 0x1p-18;
}

/* Runs the shape twice: equal bits, and near the reference. */
static void check(const struct shape *shape, uint64_t seed)
{
    struct bench b;
    bench_new(&b, shape, seed);
    const size_t n = (size_t)b.n_rows * (size_t)(shape->n_head * shape->head_dim_v);
    float *got = malloc(n * 4 + 1), *again = malloc(n * 4 + 1);
    const double bound = bound_of(&b);
    double worst = 0.0;
    bench_run(&b, got);
    bench_run(&b, again);
    assert_memory_equal(got, again, n * 4);
    reference(&b, b.out);
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - (double)b.out[i]);
        const double most = bound + (shape->bf16_rows ? fabs((double)b.out[i]) * 0x1p-8 : 0.0);
        if (!(error <= most))
            fail_msg("type %d, %d/%d heads of %d: element %zu is %g, not %g (bound %g)",
                     (int)shape->type, shape->n_head, shape->n_head_kv, shape->head_dim, i,
                     (double)got[i], (double)b.out[i], most);
        worst = error > worst ? error : worst;
    }
    if (getenv("ATTN_ERRORS"))
        print_message("type %d heads %d/%d of %d/%d: %g of %g\n", (int)shape->type, shape->n_head,
                      shape->n_head_kv, shape->head_dim, shape->head_dim_v, worst, bound);
    free(got);
    free(again);
    bench_free(&b);
}

static const infer_dtype types[] = {INFER_DTYPE_F32,  INFER_DTYPE_F16,  INFER_DTYPE_BF16,
                                    INFER_DTYPE_Q8_0, INFER_DTYPE_Q4_1, INFER_DTYPE_F8_E4M3};

/* Row r of sequence i alone, as a step of one row. */
static void keep_one_row(struct bench *b, int32_t i, int32_t r)
{
    struct kern_cuda_seq seqs[SEQS_MAX] = {{0, 0, 0}};
    seqs[i] = (struct kern_cuda_seq){b->seqs[i].first_pos + r, b->seqs[i].row + r, 1};
    assert_int_equal(
        cudaMemcpy(b->card[5], seqs, sizeof *seqs * (size_t)b->s.n_seqs, cudaMemcpyHostToDevice),
        cudaSuccess);
    b->batch.seq_rows = 1;
}

static void check_parts(const struct shape *shape, int32_t part, uint64_t seed)
{
    struct bench b;
    bench_new(&b, shape, seed);
    const size_t row = (size_t)(shape->n_head * shape->head_dim_v), n = (size_t)b.n_rows * row;
    float *all = malloc(n * 4), *one = malloc(n * 4);
    b.args.part = part;
    bench_run(&b, all);
    reference(&b, b.out);
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)all[i] - (double)b.out[i]) <= bound_of(&b)))
            fail_msg("element %zu is %g, not %g", i, (double)all[i], (double)b.out[i]);
    for (int32_t i = 0; i < BASE_MIN(shape->n_seqs, 3); i++)
        for (int32_t r = 0; r < shape->seqs[i].n_rows; r += 1 + shape->seqs[i].n_rows / 5) {
            const size_t at = (size_t)(b.seqs[i].row + r) * row;
            keep_one_row(&b, i, r);
            bench_run(&b, one);
            if (memcmp(all + at, one + at, row * 4) != 0)
                fail_msg("row %d of sequence %d depends on the others", r, i);
        }
    free(all);
    free(one);
    bench_free(&b);
}

#endif
