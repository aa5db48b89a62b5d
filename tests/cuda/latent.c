/* Latent attention on the card: what goes into the cache and attention over it against the
 * references, and products by head.
 *
 * Bounds of attention as in attn.c, with values in [-1, 1): 3 u + 2^-18, u the rounding of the
 * 16-bit type that numbers have in shared memory. Tiles of 16 vectors add the rests of queries and
 * weights, so that u is u^2 of F16, BF16 and F8 caches; tiles of 64 round both, which the mean over
 * keys lessens more than it does the one wrong key of a short row: 2 u. */
#include "cuda/weights.h"

#include <math.h>

#define SEQS_MAX 6

struct sequence {
    int32_t first_pos, n_rows;
};

struct shape {
    infer_dtype type;
    int32_t n_head, dim, dim_v; /* of a latent, and of its value */
    int32_t block_tokens, bf16_rows;
    struct sequence seqs[SEQS_MAX];
    int32_t n_seqs;
};

struct bench {
    struct shape s;
    uint64_t seed;
    struct kern_quant quant;
    int32_t n_rows, seq_rows, seq_length, table_stride, n_blocks;
    size_t slot, block_stride;
    float *q;
    uint8_t *pool;
    int32_t *tables;
    struct kern_cuda_seq seqs[SEQS_MAX];
    void *card[6];
    struct kern_cuda_batch batch;
    struct kern_cuda_attn_args args;
};

static float *filled(uint64_t *seed, size_t n, float size)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = size * test_randf(seed);
    return x;
}

static void narrow(const struct kern_quant *quant, infer_dtype type, uint8_t *dst, const float *x,
                   int32_t n)
{
    if (type == INFER_DTYPE_F32)
        memcpy(dst, x, (size_t)n * sizeof *x);
    else if (type != INFER_DTYPE_F16 && type != INFER_DTYPE_BF16)
        quant->narrow[type](dst, x, n);
    else
        for (int32_t i = 0; i < n; i++) {
            const uint16_t h =
                type == INFER_DTYPE_F16 ? kern_f16_of_float(x[i]) : kern_bf16_of_float(x[i]);
            memcpy(dst + 2 * i, &h, 2);
        }
}

/* Only what some row sees holds numbers; all else is NaN, and other blocks have no number. */
static void fill_cache(struct bench *b)
{
    const struct shape *s = &b->s;
    int32_t used = 0;
    memset(b->pool, 0xff, (size_t)b->n_blocks * b->block_stride);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        int32_t *table = b->tables + i * b->table_stride;
        const int32_t end = s->seqs[i].n_rows ? s->seqs[i].first_pos + s->seqs[i].n_rows : 0;
        for (int32_t t = 0; t < b->table_stride; t++)
            table[t] = INT32_MAX / 2;
        for (int32_t j = 0; j < end; j++) {
            float x[KERN_ATTN_HEAD_MAX];
            if (j % s->block_tokens == 0) /* in no order: 7 is prime to n_blocks */
                table[j / s->block_tokens] = used++ * 7 % b->n_blocks;
            for (int32_t k = 0; k < s->dim; k++)
                x[k] = test_randf(&b->seed);
            narrow(&b->quant, s->type,
                   b->pool + (size_t)table[j / s->block_tokens] * b->block_stride +
                       (size_t)(j % s->block_tokens) * b->slot,
                   x, s->dim);
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
    b->slot = kern_kv_bytes(s->type, s->dim);
    b->block_stride = (size_t)s->block_tokens * b->slot;
}

static size_t outputs_of(const struct bench *b)
{
    return (size_t)b->n_rows * (size_t)(b->s.n_head * b->s.dim_v);
}

static void bench_new(struct bench *b, const struct shape *shape, uint64_t seed)
{
    *b = (struct bench){.s = *shape, .seed = seed};
    const struct shape *s = &b->s;
    kern_narrow_init_ref_kv(&b->quant);
    count(b);
    const size_t q_n = (size_t)b->n_rows * (size_t)(s->n_head * s->dim), o_n = outputs_of(b);
    const size_t tables = (size_t)(s->n_seqs * b->table_stride) * sizeof(int32_t);
    const size_t pool = (size_t)b->n_blocks * b->block_stride;
    b->q = filled(&b->seed, q_n, 2.0f);
    b->pool = malloc(pool);
    b->tables = malloc(tables);
    fill_cache(b);
    const size_t scratch = BASE_MAX(kern_cuda_latent_scratch(s->dim_v, s->n_head * b->n_rows, 0),
                                    kern_cuda_latent_scratch(s->dim_v, s->n_head * b->n_rows, 1));
    b->card[0] = card_new(b->q, q_n * sizeof(float));
    b->card[1] = card_new(b->pool, pool);
    b->card[2] = card_new(b->tables, tables);
    b->card[3] = card_new(b->seqs, (size_t)s->n_seqs * sizeof *b->seqs);
    b->card[4] = card_new(NULL, o_n * sizeof(float));
    b->card[5] = card_new(NULL, scratch);
    assert_int_equal(cudaMemset(b->card[5], 0, scratch), cudaSuccess);
    b->batch = (struct kern_cuda_batch){.seqs = b->card[3],
                                        .n_rows = b->n_rows,
                                        .n_seqs = s->n_seqs,
                                        .seq_rows = b->seq_rows,
                                        .seq_length = b->seq_length};
    b->args = (struct kern_cuda_attn_args){
        .kv = {.k = b->card[1],
               .v = b->card[1],
               .block_stride = b->block_stride,
               .k_slot = b->slot,
               .v_slot = b->slot,
               .tables = b->card[2],
               .table_stride = b->table_stride,
               .block_tokens = s->block_tokens,
               .type = s->type},
        .q = b->card[0],
        .q_stride = (size_t)(s->n_head * s->dim),
        .out = b->card[4],
        .out_stride = (size_t)(s->n_head * s->dim_v) * (s->bf16_rows ? 2 : 4),
        .out_rows = s->bf16_rows ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_F32,
        .n_head = s->n_head,
        .n_head_kv = 1,
        .head_dim = s->dim,
        .head_dim_v = s->dim_v,
        .scale = 1.0f / sqrtf((float)s->dim),
        .batch = &b->batch,
        .scratch = b->card[5],
        .scratch_bytes = scratch};
}

static void bench_free(struct bench *b)
{
    for (size_t i = 0; i < BASE_COUNT(b->card); i++)
        card_free(b->card[i]);
    free(b->q);
    free(b->pool);
    free(b->tables);
}

/* The outputs as floats, from NaN. */
static void bench_run(struct bench *b, float *out)
{
    const size_t n = outputs_of(b);
    assert_int_equal(cudaMemset(b->card[4], 0xff, n * (b->s.bf16_rows ? 2 : 4)), cudaSuccess);
    assert_int_equal(kern_cuda_latent_attend(&b->args, NULL), 0);
    card_get(out, b->card[4], n * (b->s.bf16_rows ? 2 : 4));
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
        const size_t row = (size_t)b->seqs[i].row, o_row = (size_t)(s->n_head * s->dim_v);
        const struct kern_attn_args args = {.q = b->q + row * b->args.q_stride,
                                            .q_stride = b->args.q_stride,
                                            .out = out + row * o_row,
                                            .out_stride = o_row,
                                            .k = b->pool,
                                            .v = b->pool,
                                            .block_stride = b->block_stride,
                                            .blocks = b->tables + i * b->table_stride,
                                            .block_tokens = s->block_tokens,
                                            .first_pos = s->seqs[i].first_pos,
                                            .n_head = s->n_head,
                                            .n_head_kv = 1,
                                            .head_dim = s->dim,
                                            .head_dim_v = s->dim_v,
                                            .k_slot = b->slot,
                                            .v_slot = b->slot,
                                            .scale = b->args.scale};
        ref.paged[s->type](&args, 0, 0, s->seqs[i].n_rows * s->n_head);
    }
}

static double bound_of(const struct bench *b)
{
    const struct shape *s = &b->s;
    const double u = s->type == INFER_DTYPE_BF16 ? 0x1p-8 : 0x1p-11;
    const int plain = s->type == INFER_DTYPE_F16 || s->type == INFER_DTYPE_BF16;
    if (s->type == INFER_DTYPE_F32 || s->dim != KERN_CUDA_LATENT_KEY)
        return 0x1p-18;
    if (b->args.part == 0 && b->seq_rows * s->n_head > 32)
        return 2 * u + 0x1p-18;
    return (plain || s->type == INFER_DTYPE_F8_E4M3 ? 3 * u * u : 3 * u) + 0x1p-18;
}

static void compare(const struct bench *b, const float *got, const float *want)
{
    const double bound = bound_of(b);
    double worst = 0;
    for (size_t i = 0; i < outputs_of(b); i++) {
        const double error = fabs((double)got[i] - (double)want[i]);
        const double most = bound + (b->s.bf16_rows ? fabs((double)want[i]) * 0x1p-8 : 0.0);
        if (!(error <= most))
            fail_msg("type %d, %d heads of %d: element %zu is %g, not %g (bound %g)",
                     (int)b->s.type, b->s.n_head, b->s.dim, i, (double)got[i], (double)want[i],
                     most);
        worst = error > worst ? error : worst;
    }
    if (getenv("ATTN_ERRORS"))
        print_message("type %d heads %d of %d/%d: %g of %g\n", (int)b->s.type, b->s.n_head,
                      b->s.dim, b->s.dim_v, worst, bound);
}

/* Runs the shape twice: equal bits, and near the reference. */
static void check(const struct shape *shape, uint64_t seed)
{
    struct bench b;
    bench_new(&b, shape, seed);
    const size_t n = outputs_of(&b);
    float *got = malloc(n * 4 + 1), *again = malloc(n * 4 + 1), *want = malloc(n * 4 + 1);
    bench_run(&b, got);
    bench_run(&b, again);
    assert_memory_equal(got, again, n * 4);
    reference(&b, want);
    compare(&b, got, want);
    free(got);
    free(again);
    free(want);
    bench_free(&b);
}

static const infer_dtype types[] = {INFER_DTYPE_F16,  INFER_DTYPE_BF16,    INFER_DTYPE_Q8_0,
                                    INFER_DTYPE_Q4_1, INFER_DTYPE_F8_E4M3, INFER_DTYPE_F32};

#define WIDE KERN_CUDA_LATENT_KEY, KERN_CUDA_LATENT_VALUE

/* One row a sequence at the edges of blocks and tiles; one is cut into parts. */
static void test_latent_decodes_every_type(void **state)
{
    (void)state;
    card_needed("latent attention");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        const struct shape s = {types[t],   3 + (int32_t)t,
                                WIDE,       16 << t % 3,
                                t % 2 == 1, {{0, 1}, {t % 4 == 0 ? 263 : 31, 1}, {0, 0}, {32, 1}},
                                4};
        check(&s, t + 1);
    }
}

/* More vectors than 32, which go 64 at a time; some rows of a sequence see less than others, and
 * one sequence is cut into parts. */
static void test_latent_takes_many_vectors(void **state)
{
    static const struct shape shapes[] = {
        {INFER_DTYPE_F16, 35, WIDE, 16, 0, {{31, 1}, {0, 0}, {3, 2}}, 3},
        {INFER_DTYPE_BF16, 33, WIDE, 64, 1, {{290, 1}}, 1},
        {INFER_DTYPE_Q8_0, 5, WIDE, 32, 0, {{26, 14}}, 1},
        {INFER_DTYPE_Q4_1, 9, WIDE, 16, 0, {{16, 4}}, 1},
        {INFER_DTYPE_F8_E4M3, 6, WIDE, 16, 1, {{30, 6}}, 1},
    };
    (void)state;
    card_needed("latent attention");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        check(&shapes[i], i + 11);
}

/* Other latents than those of published models. */
static void test_latent_of_any_width(void **state)
{
    static const struct shape shapes[] = {
        {INFER_DTYPE_F32, 2, WIDE, 16, 0, {{17, 1}, {2, 2}}, 2},
        {INFER_DTYPE_F16, 4, 32, 24, 16, 0, {{0, 3}, {20, 1}}, 2},
        {INFER_DTYPE_Q8_0, 3, 96, 64, 32, 1, {{33, 2}}, 1},
        {INFER_DTYPE_Q4_1, 3, 20, 7, 16, 0, {{5, 1}, {18, 1}}, 2},
    };
    (void)state;
    card_needed("latent attention");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        check(&shapes[i], i + 21);
}

/* Row r of sequence i alone, as a step of one row. */
static void keep_one_row(struct bench *b, int32_t i, int32_t r)
{
    struct kern_cuda_seq seqs[SEQS_MAX] = {{0, 0, 0}};
    seqs[i] = (struct kern_cuda_seq){b->seqs[i].first_pos + r, b->seqs[i].row + r, 1};
    assert_int_equal(
        cudaMemcpy(b->card[3], seqs, sizeof *seqs * (size_t)b->s.n_seqs, cudaMemcpyHostToDevice),
        cudaSuccess);
    b->batch.seq_rows = 1;
}

/* With parts at fixed places a row alone, whose parts have a block each, has the bits that it has
 * where one block takes them one behind the other. */
static void test_latent_parts_at_fixed_places(void **state)
{
    (void)state;
    card_needed("latent attention");
    for (size_t t = 0; t < 3; t += 2) {
        const struct shape s = {types[t], 6, WIDE, 32, 0, {{190, 3}, {60, 1}}, 2};
        struct bench b;
        bench_new(&b, &s, t + 31);
        const size_t row = (size_t)(s.n_head * s.dim_v), n = outputs_of(&b);
        float *all = malloc(n * 4), *one = malloc(n * 4), *want = malloc(n * 4);
        b.args.part = 64;
        bench_run(&b, all);
        reference(&b, want);
        compare(&b, all, want);
        for (int32_t r = 0; r < s.seqs[0].n_rows; r++) {
            const size_t at = (size_t)(b.seqs[0].row + r) * row;
            keep_one_row(&b, 0, r);
            bench_run(&b, one);
            if (memcmp(all + at, one + at, row * 4) != 0)
                fail_msg("type %d: row %d depends on the others", (int)s.type, r);
        }
        free(all);
        free(one);
        free(want);
        bench_free(&b);
    }
}

/* ------------------------------------------------------------------ what is stored */

struct stored {
    infer_dtype type;
    int32_t n_head, head_dim, n_latent, n_rot, pairs, block_tokens, without;
};

enum { ROWS = 4, BLOCKS = 6, TABLE = 4 };

static const int32_t seq_of[ROWS] = {0, 0, -1, 1}, positions[ROWS] = {15, 16, 3, 40};
static const int32_t tables[2][TABLE] = {{4, 2, 0, 0}, {5, 0, 3, 1}};

/* On the host; what is not written is NaN. */
struct storing {
    size_t width, heads, slot, block, bytes, q_n, to_n;
    float *latent, *q, *norm, *cs, *to;
    uint8_t *pool;
};

static struct storing storing_new(const struct stored *s, uint64_t seed)
{
    struct storing h = {.width = (size_t)(s->n_latent + s->n_rot), .heads = (size_t)s->n_head};
    h.slot = kern_kv_bytes(s->type, (int32_t)h.width);
    h.block = h.slot * (size_t)s->block_tokens;
    h.bytes = BLOCKS * h.block;
    h.q_n = ROWS * h.heads * (size_t)s->head_dim;
    h.to_n = ROWS * h.heads * h.width;
    h.latent = filled(&seed, ROWS * h.width, 3.0f);
    h.q = filled(&seed, h.q_n, 2.0f);
    h.norm = filled(&seed, (size_t)s->n_latent, 1.0f);
    h.cs = filled(&seed, (size_t)(ROWS * s->n_rot), 1.0f);
    h.to = malloc(h.to_n * sizeof *h.to);
    h.pool = malloc(h.bytes);
    return h;
}

static void storing_free(struct storing *h)
{
    free(h->latent);
    free(h->q);
    free(h->norm);
    free(h->cs);
    free(h->to);
    free(h->pool);
}

/* What the card makes of the same, in place of h->to and h->pool. */
static void store_on_card(const struct stored *s, struct storing *h)
{
    void *card[] = {card_new(h->latent, ROWS * h->width * 4),
                    card_new(h->norm, (size_t)s->n_latent * 4),
                    card_new(h->q, h->q_n * 4),
                    card_new(NULL, h->to_n * 4),
                    card_new(h->cs, (size_t)(ROWS * s->n_rot) * 4),
                    card_new(NULL, h->bytes),
                    card_new(tables, sizeof tables),
                    card_new(seq_of, sizeof seq_of),
                    card_new(positions, sizeof positions)};
    const struct kern_cuda_batch batch = {.seq_of = card[7], .pos = card[8], .n_rows = ROWS};
    const struct kern_cuda_latent_store_args args = {.kv = {.k = card[5],
                                                            .v = card[5],
                                                            .block_stride = h->block,
                                                            .k_slot = h->slot,
                                                            .v_slot = h->slot,
                                                            .tables = card[6],
                                                            .table_stride = TABLE,
                                                            .block_tokens = s->block_tokens,
                                                            .type = s->type},
                                                     .latent = s->without ? NULL : card[0],
                                                     .latent_stride = h->width,
                                                     .norm = card[1],
                                                     .eps = 1e-6f,
                                                     .q = card[2],
                                                     .q_stride = h->heads * (size_t)s->head_dim,
                                                     .to = card[3],
                                                     .to_stride = h->heads * h->width,
                                                     .cs = card[4],
                                                     .cs_stride = (size_t)s->n_rot,
                                                     .rope_pairs = s->pairs,
                                                     .n_head = s->n_head,
                                                     .head_dim = s->head_dim,
                                                     .n_latent = s->n_latent,
                                                     .n_rot = s->n_rot,
                                                     .batch = &batch};
    assert_int_equal(kern_cuda_latent_store(&args, NULL), 0);
    card_get(h->to, card[3], h->to_n * 4);
    card_get(h->pool, card[5], h->bytes);
    for (size_t i = 0; i < BASE_COUNT(card); i++)
        card_free(card[i]);
}

/* As model/latent.c does it, into memory that is NaN. */
static void store_row(const struct stored *s, struct storing *h, size_t r)
{
    float x[KERN_ATTN_HEAD_MAX];
    const float *cs = h->cs + r * (size_t)s->n_rot;
    struct kern_quant quant;
    struct kern_norm norms;
    struct kern_rope ropes;
    kern_narrow_init_ref_kv(&quant);
    kern_norm_init_ref(&norms);
    kern_rope_init_ref(&ropes);
    kern_rope_fn *rope = s->pairs ? ropes.pairs : ropes.halves;
    for (size_t at = r * h->heads; at < (r + 1) * h->heads; at++) {
        float *to = h->to + at * h->width + s->n_latent;
        memcpy(to, h->q + (at + 1) * (size_t)s->head_dim - s->n_rot, (size_t)s->n_rot * 4);
        rope(to, 1, s->n_rot, s->n_rot, cs);
    }
    if (s->without)
        return;
    memcpy(x, h->latent + r * h->width, h->width * 4);
    norms.rms(x, x, h->norm, s->n_latent, 1e-6f);
    rope(x + s->n_latent, 1, s->n_rot, s->n_rot, cs);
    const int32_t at = positions[r], b = tables[seq_of[r]][at / s->block_tokens];
    narrow(&quant, s->type,
           h->pool + (size_t)b * h->block + (size_t)(at % s->block_tokens) * h->slot, x,
           (int32_t)h->width);
}

static void check_store(const struct stored *s, uint64_t seed)
{
    struct storing card = storing_new(s, seed), host = storing_new(s, seed);
    store_on_card(s, &card);
    memset(host.to, 0xff, host.to_n * sizeof *host.to);
    memset(host.pool, 0xff, host.bytes);
    for (size_t r = 0; r < ROWS; r++)
        if (seq_of[r] >= 0)
            store_row(s, &host, r);
    assert_memory_equal(card.to, host.to, host.to_n * sizeof *host.to);
    assert_memory_equal(card.pool, host.pool, host.bytes);
    storing_free(&card);
    storing_free(&host);
}

static void test_latent_stores(void **state)
{
    (void)state;
    card_needed("storing latents");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        check_store(&(const struct stored){types[t], 3, 192, 512, 64, 1, 16, 0}, t + 41);
        check_store(&(const struct stored){types[t], 9, 24, 24, 8, (int32_t)t % 2, 32, t == 3},
                    t + 51);
    }
}

/* -------------------------------------------------------------- products by head */

/* Heads side by side in x and y, all in one launch, against a product for each. */
static void check_heads(infer_dtype type, int32_t m, uint64_t seed)
{
    enum { HEADS = 3, X_EACH = HEADS + 1, Y_EACH = HEADS + 2, N = 70 };
    const struct kern_cuda_layout *l = kern_cuda_layout_of(type);
    const int32_t k = l->block_elements > 32 ? l->block_elements : 96;
    const int32_t form = kern_cuda_many_rows(type), rows = m * X_EACH;
    const size_t f = sizeof(float), scratch = kern_cuda_many_scratch(N, k, m);
    const size_t stride = form == KERN_CUDA_ROWS_F32 ? (size_t)k * f : kern_act_q8_bytes(2 * k);
    const size_t y_bytes = (size_t)(m * Y_EACH * N) * f;
    struct weights w = weights_new(&seed, type, N, HEADS, k, 0);
    float *x = filled(&seed, (size_t)(rows * k), 1.0f), *scales = filled(&seed, HEADS, 1.0f);
    void *card[] = {card_new(x, (size_t)(rows * k) * f),
                    card_new(NULL, (size_t)rows * stride),
                    card_new(NULL, y_bytes),
                    card_new(NULL, y_bytes),
                    card_new(scales, HEADS * f),
                    card_new(NULL, scratch)};
    void *got = malloc(y_bytes), *want = malloc(y_bytes);
    assert_int_equal(cudaMemset(card[5], 0, scratch), cudaSuccess);
    assert_int_equal(
        kern_cuda_rows_convert(card[1], stride, form, card[0], (size_t)k, rows, k, NULL), 0);
    struct kern_cuda_many_args args = {.w = w.matrix,
                                       .x = card[1],
                                       .x_stride = stride,
                                       .y = card[2],
                                       .y_stride = N,
                                       .m = m,
                                       .n_experts = HEADS,
                                       .x_each = X_EACH,
                                       .y_each = Y_EACH,
                                       .part_scale = card[4]};
    assert_int_equal(kern_cuda_product_many(&args, NULL), 0);
    card_get(got, card[2], y_bytes);
    args.x_each = args.y_each = args.n_experts = 0;
    args.scratch = card[5];
    args.x_stride = stride * X_EACH;
    args.y_stride = (size_t)N * Y_EACH;
    for (int32_t h = 0; h < HEADS; h++) {
        args.x = (uint8_t *)card[1] + (size_t)h * stride;
        args.y = (float *)card[3] + (size_t)h * N;
        args.part_scale = (float *)card[4] + h;
        assert_int_equal(kern_cuda_product_many(&args, NULL), 0);
        args.w.body += N * args.w.body_stride;
        args.w.side = args.w.side ? args.w.side + N * args.w.side_stride : NULL;
    }
    card_get(want, card[3], y_bytes);
    assert_memory_equal(got, want, y_bytes);
    for (size_t i = 0; i < BASE_COUNT(card); i++)
        card_free(card[i]);
    weights_free(&w);
    free(x);
    free(scales);
    free(got);
    free(want);
}

static void test_latent_products_by_head(void **state)
{
    static const infer_dtype kinds[] = {INFER_DTYPE_F32,  INFER_DTYPE_F16,   INFER_DTYPE_BF16,
                                        INFER_DTYPE_Q8_0, INFER_DTYPE_Q4_1,  INFER_DTYPE_Q6_K,
                                        INFER_DTYPE_Q2_K, INFER_DTYPE_F8_128};
    (void)state;
    card_needed("products by head");
    for (size_t t = 0; t < BASE_COUNT(kinds); t++)
        check_heads(kinds[t], t % 2 ? 3 : 19 + (int32_t)t, t + 61);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_latent_decodes_every_type),
        cmocka_unit_test(test_latent_takes_many_vectors),
        cmocka_unit_test(test_latent_of_any_width),
        cmocka_unit_test(test_latent_parts_at_fixed_places),
        cmocka_unit_test(test_latent_stores),
        cmocka_unit_test(test_latent_products_by_head),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
