/* Checks and timing of kernels/<level>/attn*. */
#include "kv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Scores are sums of up to 576 products in float; weights are their exp. */
static const struct check_bound bound = {.atol = 3e-5, .rtol = 1e-4, .nmse = 1e-9};

enum { LAYER_GAP = 96 }; /* bytes of another layer between the parts of a block */

struct shape {
    int32_t block_tokens, n_head, n_head_kv, head_dim;
    int32_t first_pos, rows, window;
    float softcap;
    int with_sinks;
    int32_t head_dim_v, chunk; /* 0: as in kernels.h */
    int32_t k_gap, v_gap;      /* bytes from a vector's end to the next slot */
    int latent;                /* values are the first of the key's elements */
};

static int32_t dim_v(const struct shape *s)
{
    return s->head_dim_v ? s->head_dim_v : s->head_dim;
}

struct problem {
    struct kern_attn_args args;
    struct shape shape;
    infer_dtype dtype;
    size_t k_slot, v_slot; /* bytes */
    size_t out_floats;
    int32_t *blocks;
    uint8_t *pool;
};

/* A value of about -2 .. 2 in the entry's type. */
static void put_random(struct check *c, uint8_t *dst)
{
    const float x = check_uniform(c, -2.0f, 2.0f);
    uint32_t wide;
    uint16_t half;

    memcpy(&wide, &x, sizeof(wide));
    if (c->dtype == INFER_DTYPE_F32) {
        memcpy(dst, &x, 4);
        return;
    }
    if (c->dtype == INFER_DTYPE_F8_E4M3) {
        *dst = kv_random_e4m3(check_u32(c));
        return;
    }
    half = (uint16_t)(wide >> 16);
    if (c->dtype == INFER_DTYPE_F16) { /* sign, exponent 0 .. 15 of 31, mantissa */
        const uint32_t exponent = check_u32(c) % 64 == 0 ? 0 : 8 + check_u32(c) % 8;

        half = (uint16_t)((wide >> 16 & 0x8000) | exponent << 10 | (check_u32(c) & 0x3ff));
    }
    memcpy(dst, &half, 2);
}

static int has_blocks(infer_dtype dtype)
{
    return dtype == INFER_DTYPE_Q8_0 || dtype == INFER_DTYPE_Q4_1;
}

/* Any codes are legal; scales are such that values are about -2 .. 2. */
static void put_random_vector(struct check *c, uint8_t *dst, int32_t n)
{
    const size_t bytes = kern_kv_bytes(c->dtype, n);
    const int is_q8 = c->dtype == INFER_DTYPE_Q8_0;

    if (!has_blocks(c->dtype)) {
        for (size_t i = 0; i < bytes; i += bytes / (size_t)n) {
            put_random(c, dst + i);
        }
        return;
    }
    check_fill_bytes(c, dst, bytes);
    for (size_t at = 0; at < bytes; at += is_q8 ? 34 : 20) {
        const uint16_t d = (uint16_t)((is_q8 ? 0x2000 : 0x2c00) | (check_u32(c) & 0x83ff));
        const uint16_t m = (uint16_t)(0x3800 | (check_u32(c) & 0x83ff));

        memcpy(dst + at, &d, 2);
        if (!is_q8) {
            memcpy(dst + at + 2, &m, 2);
        }
    }
}

/* At an element, or at the scale of a block. */
static void put_special(struct check *c, uint8_t *dst, float value)
{
    uint32_t wide;
    uint16_t half;

    memcpy(&wide, &value, sizeof(wide));
    if (c->dtype == INFER_DTYPE_F32) {
        memcpy(dst, &wide, 4);
        return;
    }
    if (c->dtype == INFER_DTYPE_F8_E4M3) {
        *dst = (uint8_t)((wide >> 24 & 0x80) | 0x7f); /* there is no infinity */
        return;
    }
    half = (uint16_t)(wide >> 16);
    if (c->dtype != INFER_DTYPE_BF16) {
        half = (uint16_t)((wide >> 16 & 0x8000) | 0x7c00 | (isnan(value) ? 1 : 0));
    }
    memcpy(dst, &half, 2);
}

/* Where the K (or V) vector of a position lies. */
static uint8_t *vector_at(const struct problem *p, const uint8_t *part, int32_t pos,
                          int32_t head_kv)
{
    const struct shape *s = &p->shape;
    const size_t slot = (size_t)(head_kv * s->block_tokens + pos % s->block_tokens);

    return (uint8_t *)(uintptr_t)part +
           (size_t)p->blocks[pos / s->block_tokens] * p->args.block_stride +
           slot * (part == p->args.k ? p->k_slot : p->v_slot);
}

/* Where element i of a vector lies, or the block that it is in. */
static uint8_t *element_at(const struct problem *p, uint8_t *vector, int32_t i)
{
    const size_t block = p->dtype == INFER_DTYPE_Q8_0 ? 34 : 20;

    return vector + (has_blocks(p->dtype) ? (size_t)(i / 32) * block : kern_kv_bytes(p->dtype, i));
}

/* Element i of a vector of finite values, from the description of the types. */
static double element_value(const struct problem *p, uint8_t *vector, int32_t i)
{
    const uint8_t *at = element_at(p, vector, i);
    uint32_t bits = 0;
    float x;

    switch (p->dtype) {
    case INFER_DTYPE_F16:
        return kv_half_value(at);
    case INFER_DTYPE_F8_E4M3:
        return kv_e4m3_value(*at);
    case INFER_DTYPE_Q8_0:
        return kv_half_value(at) * (int8_t)at[2 + i % 32];
    case INFER_DTYPE_Q4_1:
        return kv_half_value(at) * (at[4 + i % 32 / 2] >> 4 * (i % 2) & 15) + kv_half_value(at + 2);
    case INFER_DTYPE_BF16:
        memcpy((uint8_t *)&bits + 2, at, 2);
        break;
    default:
        memcpy(&bits, at, 4);
    }
    memcpy(&x, &bits, 4);
    return (double)x;
}

/* First position that a row sees. */
static int32_t row_begin(const struct shape *s, int32_t row)
{
    const int32_t pos = s->first_pos + row;
    const int32_t begin = s->window > 0 && pos >= s->window ? pos - s->window + 1 : 0;

    return s->chunk > 0 ? BASE_MAX(begin, pos / s->chunk * s->chunk) : begin;
}

/* First position that any row sees. */
static int32_t first_seen(const struct shape *s)
{
    return row_begin(s, 0);
}

/* Blocks in random order. Slots that no row sees hold NaN, and blocks that no
 * row sees do not exist: a kernel that looks there is found out. */
static void make_blocks(struct check *c, struct problem *p)
{
    const struct shape *s = &p->shape;
    const int32_t end = s->first_pos + s->rows;
    const int32_t n = BASE_DIV_UP(end, s->block_tokens);
    const int32_t n_dead = first_seen(s) / s->block_tokens;
    const int32_t n_live = n - n_dead;
    const size_t slots = (size_t)(s->n_head_kv * s->block_tokens);
    const size_t k_bytes = slots * p->k_slot;
    const size_t v_bytes = s->latent ? 0 : slots * p->v_slot;

    p->args.block_stride = k_bytes + v_bytes + LAYER_GAP;
    p->blocks = check_buffer(c, (size_t)n * 4, 4);
    p->pool = check_buffer(c, (size_t)n_live * p->args.block_stride - LAYER_GAP, 1);
    memset(p->pool, 0xff, (size_t)n_live * p->args.block_stride - LAYER_GAP);
    for (int32_t i = 0; i < n; i++) {
        p->blocks[i] = i < n_dead ? INT32_MAX : i - n_dead;
    }
    for (int32_t i = n_live - 1; i > 0; i--) {
        const int32_t j = check_range(c, 0, i);
        const int32_t swap = p->blocks[n_dead + i];

        p->blocks[n_dead + i] = p->blocks[n_dead + j];
        p->blocks[n_dead + j] = swap;
    }
    p->args.k = p->pool;
    p->args.v = s->latent ? p->pool : p->pool + k_bytes;
    p->args.blocks = p->blocks;
    for (int32_t pos = first_seen(s); pos < end; pos++) {
        for (int32_t h = 0; h < s->n_head_kv; h++) {
            put_random_vector(c, vector_at(p, p->args.k, pos, h), s->head_dim);
            if (!s->latent) {
                put_random_vector(c, vector_at(p, p->args.v, pos, h), dim_v(s));
            }
        }
    }
}

static void make_problem(struct check *c, struct problem *p, struct shape shape)
{
    const size_t row = (size_t)(shape.n_head * shape.head_dim);
    const size_t out_row = (size_t)(shape.n_head * dim_v(&shape));
    float *q, *sinks;

    memset(p, 0, sizeof(*p));
    p->shape = shape;
    p->dtype = c->dtype;
    p->k_slot = kern_kv_bytes(c->dtype, shape.head_dim) + (size_t)shape.k_gap;
    p->v_slot =
        shape.latent ? p->k_slot : kern_kv_bytes(c->dtype, dim_v(&shape)) + (size_t)shape.v_gap;
    p->args.q_stride = row + 3;
    p->args.out_stride = out_row + 5;
    p->out_floats = (size_t)(shape.rows - 1) * p->args.out_stride + out_row;
    q = check_floats(c, (size_t)(shape.rows - 1) * p->args.q_stride + row);
    check_fill(c, q, (size_t)(shape.rows - 1) * p->args.q_stride + row, -1.0f, 1.0f);
    p->args.q = q;
    if (shape.with_sinks) {
        sinks = check_floats(c, (size_t)shape.n_head);
        check_fill(c, sinks, (size_t)shape.n_head, -3.0f, 6.0f);
        p->args.sinks = sinks;
    }
    p->args.block_tokens = shape.block_tokens;
    p->args.first_pos = shape.first_pos;
    p->args.n_head = shape.n_head;
    p->args.n_head_kv = shape.n_head_kv;
    p->args.head_dim = shape.head_dim;
    p->args.head_dim_v = shape.head_dim_v;
    p->args.k_slot = shape.k_gap ? p->k_slot : 0;
    p->args.v_slot = shape.v_gap || shape.latent ? p->v_slot : 0;
    p->args.chunk = shape.chunk;
    p->args.window = shape.window;
    p->args.softcap = shape.softcap;
    p->args.scale = 1.5f / sqrtf((float)shape.head_dim);
    make_blocks(c, p);
}

static int32_t group_of(const struct kern_attn_args *args)
{
    return args->n_head / args->n_head_kv;
}

/* All rows and heads into a fresh buffer of zeros; gaps between rows stay 0. */
static float *run_all(struct check *c, const struct infer_kernels *kernels, struct problem *p)
{
    struct kern_attn_args args = p->args;

    args.out = check_floats(c, p->out_floats);
    for (int32_t h = 0; h < args.n_head_kv; h++) {
        kernels->attn.paged[c->dtype](&args, h, 0, p->shape.rows * group_of(&args));
    }
    return args.out;
}

static void describe(char *text, size_t size, const struct shape *s)
{
    snprintf(text, size,
             "%d rows at %d, heads %d/%d of %d/%d, gaps %d/%d, block %d, window %d, chunk %d, "
             "cap %g%s%s",
             (int)s->rows, (int)s->first_pos, (int)s->n_head, (int)s->n_head_kv, (int)s->head_dim,
             (int)dim_v(s), (int)s->k_gap, (int)s->v_gap, (int)s->block_tokens, (int)s->window,
             (int)s->chunk, (double)s->softcap, s->with_sinks ? ", sinks" : "",
             s->latent ? ", latent" : "");
}

/* The formula of kernels.h in two passes over scores written out: what the
 * reference itself is held to. */
static void dense(struct problem *p, int32_t row, int32_t head, float *out)
{
    const struct shape *s = &p->shape;
    const struct kern_attn_args *a = &p->args;
    const int32_t pos = s->first_pos + row;
    const int32_t begin = row_begin(s, row);
    const int32_t head_kv = head / (s->n_head / s->n_head_kv);
    const float *q = a->q + (size_t)row * a->q_stride + (size_t)(head * s->head_dim);
    double *score = calloc((size_t)pos + 1, sizeof(*score));
    double max = -INFINITY, sum = 0.0;

    for (int32_t j = begin; score && j <= pos; j++) {
        uint8_t *k = vector_at(p, a->k, j, head_kv);

        for (int32_t i = 0; i < s->head_dim; i++) {
            score[j] += element_value(p, k, i) * (double)q[i] * (double)a->scale;
        }
        if (s->softcap > 0.0f) {
            score[j] = tanh(score[j] / (double)s->softcap) * (double)s->softcap;
        }
        max = fmax(max, score[j]);
    }
    for (int32_t j = begin; score && j <= pos; j++) {
        sum += exp(score[j] - max);
    }
    sum += a->sinks ? exp((double)a->sinks[head] - max) : 0.0;
    for (int32_t i = 0; score && i < dim_v(s); i++) {
        double x = 0.0;

        for (int32_t j = begin; j <= pos; j++) {
            x += exp(score[j] - max) * element_value(p, vector_at(p, a->v, j, head_kv), i);
        }
        out[i] = (float)(x / sum);
    }
    free(score);
}

static void against_dense(struct check *c, struct problem *p, const float *got, const char *what)
{
    const struct shape *s = &p->shape;
    float *want = check_floats(c, p->out_floats);

    for (int32_t i = 0; i < s->rows; i++) {
        for (int32_t h = 0; h < s->n_head; h++) {
            dense(p, i, h, want + (size_t)i * p->args.out_stride + (size_t)(h * dim_v(s)));
        }
    }
    check_close(c, got, want, p->out_floats, bound, "%s, two-pass formula", what);
}

/* The vectors again, a few a call: a row's heads may be parted. */
static void cut_into_vectors(struct check *c, struct problem *p, const float *whole,
                             const char *what)
{
    struct kern_attn_args args = p->args;
    const int32_t vectors = p->shape.rows * group_of(&args);

    args.out = check_floats(c, p->out_floats);
    for (int32_t h = 0; h < args.n_head_kv; h++) {
        for (int32_t i = 0, n; i < vectors; i += n) {
            n = check_range(c, 1, 9);
            n = BASE_MIN(n, vectors - i);
            c->dut->attn.paged[c->dtype](&args, h, i, i + n);
        }
    }
    check_same_bytes(c, args.out, whole, p->out_floats * 4, "%s, a few vectors a call", what);
}

/* The rows again: one a call, then as chunks that start at their own position. */
static void cut_into_calls(struct check *c, struct problem *p, const float *whole, const char *what)
{
    const int32_t rows = p->shape.rows, group = group_of(&p->args);
    struct kern_attn_args args = p->args;

    args.out = check_floats(c, p->out_floats);
    for (int32_t i = rows - 1; i >= 0; i--) {
        for (int32_t h = 0; h < args.n_head_kv; h++) {
            c->dut->attn.paged[c->dtype](&args, h, i * group, (i + 1) * group);
        }
    }
    check_same_bytes(c, args.out, whole, p->out_floats * 4, "%s, one row a call", what);
    args.out = check_floats(c, p->out_floats);
    for (int32_t i = 0, n; i < rows; i += n) {
        struct kern_attn_args chunk = args;

        n = check_range(c, 1, 7);
        n = BASE_MIN(n, rows - i);
        chunk.q += (size_t)i * args.q_stride;
        chunk.out += (size_t)i * args.out_stride;
        chunk.first_pos += i;
        for (int32_t h = 0; h < args.n_head_kv; h++) {
            c->dut->attn.paged[c->dtype](&chunk, h, 0, n * group);
        }
    }
    check_same_bytes(c, args.out, whole, p->out_floats * 4, "%s, chunks", what);
}

static void check_shape(struct check *c, struct shape shape)
{
    struct problem p;
    float *got, *want;
    char what[192];

    describe(what, sizeof(what), &shape);
    make_problem(c, &p, shape);
    got = run_all(c, c->dut, &p);
    want = run_all(c, c->ref, &p);
    check_close(c, got, want, p.out_floats, bound, "%s", what);
    if (c->dut == c->ref) {
        against_dense(c, &p, got, what);
    }
    cut_into_calls(c, &p, got, what);
    cut_into_vectors(c, &p, got, what);
    check_release(c);
}

/* A NaN or infinity at one position: rows that do not see it are bit for bit
 * as before, the others as the reference says. */
static void check_special(struct check *c, struct shape shape, int in_v, float value)
{
    struct problem p;
    float *before, *after, *want;
    const int32_t pos = check_range(c, first_seen(&shape), shape.first_pos + shape.rows - 1);
    const int32_t head_kv = check_range(c, 0, shape.n_head_kv - 1);
    const int32_t i = check_range(c, 0, (in_v ? dim_v(&shape) : shape.head_dim) - 1);
    char what[192];

    describe(what, sizeof(what), &shape);
    make_problem(c, &p, shape);
    before = run_all(c, c->dut, &p);
    put_special(c, element_at(&p, vector_at(&p, in_v ? p.args.v : p.args.k, pos, head_kv), i),
                value);
    after = run_all(c, c->dut, &p);
    want = run_all(c, c->ref, &p);
    check_close(c, after, want, p.out_floats, bound, "%s, %g in %s", what, (double)value,
                in_v ? "V" : "K");
    for (int32_t row = 0; row < shape.rows; row++) {
        const size_t start = (size_t)row * p.args.out_stride;

        if (shape.first_pos + row < pos || row_begin(&shape, row) > pos) {
            check_same_bytes(c, after + start, before + start,
                             (size_t)(shape.n_head * dim_v(&shape)) * 4,
                             "%s, row %d cannot see position %d", what, (int)row, (int)pos);
        }
    }
    check_release(c);
}

static struct shape random_shape(struct check *c)
{
    static const int32_t head_dims[] = {16, 32, 48, 64, 80, 96, 128, 1, 7, 20, 33, 72};
    const int32_t group = check_u32(c) % 8 == 0 ? check_range(c, 5, 17) : check_range(c, 1, 4);
    struct shape s = {.block_tokens = 16 << check_u32(c) % 3,
                      .n_head_kv = check_range(c, 1, 3),
                      .head_dim = head_dims[check_u32(c) % BASE_COUNT(head_dims)],
                      .first_pos = check_u32(c) % 3 == 0 ? 0 : check_range(c, 0, 150),
                      .rows = check_u32(c) % 3 == 0 ? 1 : check_range(c, 1, 40),
                      .window = check_u32(c) % 3 == 0 ? check_range(c, 1, 70) : 0,
                      .softcap = check_u32(c) % 4 == 0 ? 3.0f : 0.0f,
                      .with_sinks = check_u32(c) % 4 == 0};

    s.n_head = s.n_head_kv * group;
    if (check_u32(c) % 3 == 0) {
        s.head_dim_v = head_dims[check_u32(c) % BASE_COUNT(head_dims)];
        s.k_gap = check_u32(c) % 2 ? check_range(c, 0, 36) : 0;
        s.v_gap = check_u32(c) % 2 ? check_range(c, 0, 36) : 0;
    } else if (check_u32(c) % 4 == 0) {
        s.latent = 1;
        s.n_head_kv = 1;
        s.n_head = group;
        s.head_dim_v = check_range(c, 1, s.head_dim);
        s.k_gap = check_range(c, 0, 12);
    }
    s.chunk = check_u32(c) % 4 == 0 ? check_range(c, 1, 90) : 0;
    return s;
}

/* The fields up to with_sinks in their order. */
static struct shape plain_shape(const int32_t fields[9])
{
    return (struct shape){.block_tokens = fields[0],
                          .n_head = fields[1],
                          .n_head_kv = fields[2],
                          .head_dim = fields[3],
                          .first_pos = fields[4],
                          .rows = fields[5],
                          .window = fields[6],
                          .softcap = (float)fields[7],
                          .with_sinks = fields[8]};
}

/* Values of another width, in slots of their own, behind chunks. */
static void check_wide_shapes(struct check *c)
{
    static const int32_t plain[][9] = {
        {16, 4, 2, 192, 37, 21, 0, 0, 0},  /* keys 192, values 128 */
        {32, 16, 1, 576, 70, 3, 0, 0, 0},  /* a latent of 512 and 64 rotary */
        {16, 128, 1, 576, 33, 2, 0, 0, 0}, /* with as many heads as there are */
        {16, 4, 2, 64, 90, 40, 0, 0, 0},   /* chunks */
        {64, 4, 2, 80, 90, 40, 24, 20, 1}, /* and everything else */
    };
    struct shape s[BASE_COUNT(plain)];

    for (size_t i = 0; i < BASE_COUNT(plain); i++) {
        s[i] = plain_shape(plain[i]);
    }
    s[0].head_dim_v = 128;
    s[1].head_dim_v = s[2].head_dim_v = 512;
    s[1].latent = s[2].latent = 1;
    s[3].chunk = 32;
    s[4].chunk = 50;
    s[4].head_dim_v = 72;
    s[4].k_gap = 64;
    s[4].v_gap = 7;
    for (size_t i = 0; i < BASE_COUNT(plain); i++) {
        check_shape(c, s[i]);
        check_special(c, s[i], i % 2, i % 2 ? NAN : INFINITY);
    }
}

void check_attn_paged(struct check *c)
{
    static const int32_t shapes[][9] = {
        {16, 1, 1, 64, 0, 1, 0, 0, 0},     /* a row that sees itself alone */
        {16, 8, 2, 64, 14, 4, 0, 0, 0},    /* across a tile */
        {16, 2, 1, 576, 40, 5, 0, 0, 0},   /* KERN_ATTN_HEAD_MAX */
        {16, 3, 1, 575, 18, 2, 0, 0, 1},   /* not a multiple of anything */
        {16, 4, 2, 64, 100, 20, 1, 0, 0},  /* a window of one */
        {16, 4, 2, 64, 100, 20, 16, 0, 1}, /* of one tile */
        {64, 9, 1, 64, 1000, 1, 0, 0, 0},  /* decode */
        {32, 4, 4, 128, 0, 65, 0, 0, 0},   /* no groups */
        {16, 128, 1, 32, 20, 3, 0, 0, 0},  /* KERN_ATTN_GROUP_MAX */
        {16, 256, 2, 576, 30, 2, 0, 0, 0}, /* with KERN_ATTN_HEAD_MAX */
        {32, 4, 2, 64, 0, 100, 33, 30, 1}, /* everything at once */
    };
    static const float values[] = {NAN, INFINITY, -INFINITY};
    const int brief = check_is_brief(c) && c->dtype != INFER_DTYPE_F32;

    for (size_t i = 0; i < (brief ? 6 : BASE_COUNT(shapes)); i++) {
        check_shape(c, plain_shape(shapes[i]));
    }
    if (!brief) {
        check_wide_shapes(c);
    }
    if (has_blocks(c->dtype)) {
        check_kv_attention(c);
    }
    for (int i = 0; i < c->options->rounds; i++) {
        check_shape(c, random_shape(c));
        check_special(c, random_shape(c), i % 2, values[i % 3]);
    }
}

/* ---------------------------------------------------------------- timing */

struct call {
    struct problem problem;
    infer_dtype dtype;
};

static void call_paged(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    for (int32_t h = 0; h < a->problem.args.n_head_kv; h++) {
        kernels->attn.paged[a->dtype](&a->problem.args, h, 0,
                                      a->problem.shape.rows * group_of(&a->problem.args));
    }
}

/* Decode streams K and V; prefill is two products of head_dim per visible key. */
static void bench(struct check *c, struct shape shape)
{
    struct call a;
    struct check_work work = {0.0, shape.rows == 1 ? "B" : "flop", shape.rows == 1};
    double seen = 0.0;
    char label[64];

    make_problem(c, &a.problem, shape);
    a.dtype = c->dtype;
    a.problem.args.out = check_floats(c, a.problem.out_floats);
    for (int32_t i = 0; i < shape.rows; i++) {
        seen += (double)(shape.first_pos + i + 1);
    }
    work.amount = shape.rows == 1 ? seen * shape.n_head_kv *
                                        (double)(kern_kv_bytes(c->dtype, shape.head_dim) +
                                                 (shape.latent ? 0 : a.problem.v_slot))
                                  : 2.0 * seen * shape.n_head * (shape.head_dim + dim_v(&shape));
    snprintf(label, sizeof(label), "%d/%dx%d/%d %d at %d", (int)shape.n_head, (int)shape.n_head_kv,
             (int)shape.head_dim, (int)dim_v(&shape), (int)shape.rows, (int)shape.first_pos);
    check_time(c, label, call_paged, &a, work);
    check_release(c);
}

void bench_attn_paged(struct check *c)
{
    static const int32_t shapes[][9] = {
        {16, 4, 4, 64, 1023, 1, 0, 0, 0},    {16, 9, 3, 64, 1023, 1, 0, 0, 0},
        {16, 32, 8, 128, 4095, 1, 0, 0, 0},  {16, 9, 3, 64, 0, 512, 0, 0, 0},
        {16, 8, 2, 128, 1024, 256, 0, 0, 0}, {16, 128, 1, 576, 1023, 1, 0, 0, 0},
        {16, 16, 1, 576, 512, 64, 0, 0, 0},
    };

    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        struct shape s = plain_shape(shapes[i]);

        if (s.head_dim == 576) {
            s.latent = 1;
            s.head_dim_v = 512;
        }
        bench(c, s);
    }
}
