/* Template: products of quantised weights and Q8 activations, for the vector
 * vocabulary included before (vec_avx2.h, vec_avx512.h).
 *
 * Sixteen weight rows are unpacked side by side, one lane a row, 256 inputs at
 * a time (a panel), and every activation row of the call is multiplied with the
 * panel while it lies in the first-level cache. For each block of 32 inputs,
 * the integer sum is exact and
 *
 *     y = fma(scale * sum, d, y)        d: the activation block's scale
 *
 * block after block along k. So an element's value does not depend on which
 * other rows or columns the call computes, and all x86 variants agree to the
 * bit. Define TILE_ROWS (activation rows at once) and TILE_GROUPS (groups of 16
 * weight rows at once, 1 or 2) before. */
#include "kernels/cpu/init.h"
#include "kernels/quant_blocks.h"

enum {
    LANES = 16,
    CHUNK = KERN_SUPER,          /* inputs of a panel */
    BLOCKS = CHUNK / KERN_BLOCK, /* its blocks */
    STEPS = KERN_BLOCK / 4,      /* vectors of a block: 4 inputs each */
    M_BLOCK = 64,                /* activation rows a panel is kept for */
};

enum kind { Q8_0, Q4_0, Q4_K, Q6_K };

struct panel {
    vi w[BLOCKS][STEPS];
    vf scale[BLOCKS];
    vf extra[BLOCKS]; /* Q4_K: minus the minimum; Q6_K: scale of inputs 16-31 */
};

/* ------------------------------------------------------- weights to panels
 *
 * Each reads the blocks at p of 16 rows `stride` bytes apart. */

static void unpack_q8_0(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)
{
    for (int b = 0; b < n_blocks; b++, p += sizeof(struct kern_q8_0)) {
        vi w[STEPS];

        vi_rows_16b(w, p + offsetof(struct kern_q8_0, q), stride);
        vi_rows_16b(w + 4, p + offsetof(struct kern_q8_0, q) + 16, stride);
        KERN_UNROLL
        for (int j = 0; j < STEPS; j++) {
            o->w[b][j] = dot_prepare_s8(w[j]);
        }
        o->scale[b] = vf_rows_f16(p, stride);
    }
}

/* Low and high halves of 4 vectors of bytes. */
KERN_INLINE void split_nibbles(vi low[4], vi high[4], const vi w[4])
{
    const vi mask = vi_set1(0x0f0f0f0f);

    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        low[j] = vi_and(w[j], mask);
        high[j] = vi_and(vi_shr(w[j], 4), mask);
    }
}

static void unpack_q4_0(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)
{
    for (int b = 0; b < n_blocks; b++, p += sizeof(struct kern_q4_0)) {
        vi w[4];

        vi_rows_16b(w, p + offsetof(struct kern_q4_0, q), stride);
        split_nibbles(o->w[b], o->w[b] + 4, w);
        o->scale[b] = vf_rows_f16(p, stride);
    }
}

/* The first 16 bytes of a Q4_K block are all but its values: d and dmin, then
 * the packed scales, here four to a lane (layout: quant_blocks.h). */
KERN_INLINE void unpack_q4_k_scales(struct panel *o, const uint8_t *p, size_t stride)
{
    const vi six = vi_set1(0x3f3f3f3f), four = vi_set1(0x0f0f0f0f), two = vi_set1(0x30303030);
    vi h[4], scale[2], min[2];
    vf d, dmin;

    vi_rows_16b(h, p, stride);
    d = vf_of_low_f16(h[0]);
    dmin = vf_sub(vf_zero(), vf_of_low_f16(vi_shr(h[0], 16)));
    scale[0] = vi_and(h[1], six);
    min[0] = vi_and(h[2], six);
    scale[1] = vi_or(vi_and(h[3], four), vi_and(vi_shr(h[1], 2), two));
    min[1] = vi_or(vi_and(vi_shr(h[3], 4), four), vi_and(vi_shr(h[2], 2), two));
    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        const vi byte = vi_set1(0xff);
        const int shift = b % 4 * 8;

        o->scale[b] = vf_mul(d, vf_of_int(vi_and(vi_shr(scale[b / 4], shift), byte)));
        o->extra[b] = vf_mul(dmin, vf_of_int(vi_and(vi_shr(min[b / 4], shift), byte)));
    }
}

static void unpack_q4_k(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)
{
    const uint8_t *q = p + offsetof(struct kern_q4_k, q);

    BASE_UNUSED(n_blocks);
    unpack_q4_k_scales(o, p, stride);
    for (int b = 0; b < BLOCKS; b += 2, q += 32) {
        vi w[8];

        vi_rows_16b(w, q, stride);
        vi_rows_16b(w + 4, q + 16, stride);
        split_nibbles(o->w[b], o->w[b + 1], w);
        split_nibbles(o->w[b] + 4, o->w[b + 1] + 4, w + 4);
    }
}

KERN_INLINE void unpack_q6_k_scales(struct panel *o, const uint8_t *p, size_t stride)
{
    const vf d = vf_rows_f16(p + offsetof(struct kern_q6_k, d), stride);
    vi s[4];

    vi_rows_16b(s, p + offsetof(struct kern_q6_k, scales), stride);
    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        const vi both = b % 2 ? s[b / 2] : vi_shl(s[b / 2], 16); /* in the upper two bytes */

        o->scale[b] = vf_mul(d, vf_of_int(vi_sar(vi_shl(both, 8), 24)));
        o->extra[b] = vf_mul(d, vf_of_int(vi_sar(both, 24)));
    }
}

static void unpack_q6_k(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)
{
    const vi high = vi_set1(0x30303030);

    BASE_UNUSED(n_blocks);
    unpack_q6_k_scales(o, p, stride);
    for (int i = 0; i < 4; i++) { /* 16 columns of each quarter of half i / 2 */
        const uint8_t *ql = p + i / 2 * 64 + i % 2 * 16;
        const uint8_t *qh = p + offsetof(struct kern_q6_k, qh) + i * 16;
        vi(*w)[STEPS] = o->w + i / 2 * 4;
        const int at = i % 2 * 4;
        vi a[4], c[4], h[4];

        vi_rows_16b(a, ql, stride);
        vi_rows_16b(c, ql + 32, stride);
        vi_rows_16b(h, qh, stride);
        split_nibbles(w[0] + at, w[2] + at, a);
        split_nibbles(w[1] + at, w[3] + at, c);
        KERN_UNROLL
        for (int j = 0; j < 4; j++) {
            w[0][at + j] = vi_or(w[0][at + j], vi_and(vi_shl(h[j], 4), high));
            w[1][at + j] = vi_or(w[1][at + j], vi_and(vi_shl(h[j], 2), high));
            w[2][at + j] = vi_or(w[2][at + j], vi_and(h[j], high));
            w[3][at + j] = vi_or(w[3][at + j], vi_and(vi_shr(h[j], 2), high));
        }
    }
}

KERN_INLINE void unpack(struct panel *o, const uint8_t *p, size_t stride, int n_blocks,
                        enum kind kind)
{
    switch (kind) {
    case Q8_0:
        unpack_q8_0(o, p, stride, n_blocks);
        break;
    case Q4_0:
        unpack_q4_0(o, p, stride, n_blocks);
        break;
    case Q4_K:
        unpack_q4_k(o, p, stride, n_blocks);
        break;
    case Q6_K:
        unpack_q6_k(o, p, stride, n_blocks);
        break;
    }
}

KERN_INLINE size_t chunk_bytes(enum kind kind)
{
    switch (kind) {
    case Q8_0:
        return BLOCKS * sizeof(struct kern_q8_0);
    case Q4_0:
        return BLOCKS * sizeof(struct kern_q4_0);
    case Q4_K:
        return sizeof(struct kern_q4_k);
    default:
        return sizeof(struct kern_q6_k);
    }
}

/* ------------------------------------------------------------- the product */

/* The same inputs of one activation row. */
struct inputs {
    const int8_t *q;
    const float *d;
    /* What the integer sums start with, because panels hold unsigned weights:
     * minus the offset of a weight times the sum of the activations, for each
     * block, or for Q6_K each half block. */
    int32_t start[2 * BLOCKS];
    float sum[BLOCKS]; /* Q4_K: of the activations of a block */
};

KERN_INLINE void take_inputs(struct inputs *in, const struct kern_act_row *row, int32_t at,
                             int n_blocks, enum kind kind)
{
    const int16_t *s = row->s + at / 16;

    in->q = row->q + at;
    in->d = row->d + at / KERN_BLOCK;
    for (int b = 0; b < n_blocks; b++) {
        const int32_t sum = s[2 * b] + s[2 * b + 1];

        switch (kind) {
        case Q8_0:
            in->start[b] = -DOT_S8_OFFSET * sum;
            break;
        case Q4_0:
            in->start[b] = -8 * sum;
            break;
        case Q4_K:
            in->sum[b] = (float)sum;
            break;
        case Q6_K:
            in->start[2 * b] = -32 * s[2 * b];
            in->start[2 * b + 1] = -32 * s[2 * b + 1];
            break;
        }
    }
}

KERN_INLINE enum kern_dot dot_kind(enum kind kind)
{
    return kind == Q8_0 ? KERN_DOT_S8 : kind == Q6_K ? KERN_DOT_U6 : KERN_DOT_U4;
}

KERN_INLINE vi start_of(const struct inputs *in, int b, int half, enum kind kind)
{
    if (kind == Q4_K || (kind == Q8_0 && DOT_S8_OFFSET == 0)) {
        return vi_zero();
    }
    return vi_set1(in->start[kind == Q6_K ? 2 * b + half : b]);
}

/* Integer sums of steps first .. last - 1 of block b, for all rows and groups. */
KERN_INLINE void dot_block(vi sum[TILE_ROWS][TILE_GROUPS], const struct panel *panels,
                           const struct inputs *in, int b, int half, enum kind kind, int rows,
                           int groups)
{
    const enum kern_dot dot = dot_kind(kind);
    const int first = half * (STEPS / 2), last = kind == Q6_K ? first + STEPS / 2 : STEPS;

    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        for (int g = 0; g < groups; g++) {
            sum[i][g] = dot_start(start_of(&in[i], b, half, kind), dot);
        }
    }
    KERN_UNROLL
    for (int j = first; j < last; j++) {
        KERN_UNROLL
        for (int i = 0; i < rows; i++) {
            const vi x = vi_set1(kern_load_i32(in[i].q + b * KERN_BLOCK + 4 * j));

            KERN_UNROLL
            for (int g = 0; g < groups; g++) {
                sum[i][g] = dot_step(sum[i][g], panels[g].w[b][j], x, dot);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        for (int g = 0; g < groups; g++) {
            sum[i][g] = dot_finish(sum[i][g], start_of(&in[i], b, half, kind), dot);
        }
    }
}

/* Adds the products of `rows` rows with `groups` panels to y. */
KERN_INLINE void tile(vf (*y)[TILE_GROUPS], const struct panel *panels, const struct inputs *in,
                      int n_blocks, enum kind kind, int rows, int groups)
{
    vf acc[TILE_ROWS][TILE_GROUPS];

    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        for (int g = 0; g < groups; g++) {
            acc[i][g] = y[i][g];
        }
    }
    for (int b = 0; b < n_blocks; b++) {
        vi sum[TILE_ROWS][TILE_GROUPS], second[TILE_ROWS][TILE_GROUPS];

        dot_block(sum, panels, in, b, 0, kind, rows, groups);
        if (kind == Q6_K) {
            dot_block(second, panels, in, b, 1, kind, rows, groups);
        }
        KERN_UNROLL
        for (int i = 0; i < rows; i++) {
            KERN_UNROLL
            for (int g = 0; g < groups; g++) {
                vf v = vf_mul(panels[g].scale[b], vf_of_int(sum[i][g]));

                if (kind == Q4_K) {
                    v = vf_fma(panels[g].extra[b], vf_set1(in[i].sum[b]), v);
                } else if (kind == Q6_K) {
                    v = vf_fma(panels[g].extra[b], vf_of_int(second[i][g]), v);
                }
                acc[i][g] = vf_fma(v, vf_set1(in[i].d[b]), acc[i][g]);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        for (int g = 0; g < groups; g++) {
            y[i][g] = acc[i][g];
        }
    }
}

/* -------------------------------------------------------------- the driver */

/* Weight rows computed together: lane skip + i of the groups is output
 * column + i for i < count. */
struct strip {
    const uint8_t *w;
    size_t stride;
    int32_t column, count, skip;
    int groups;
};

/* The next strip of columns begin .. end - 1. Too few for all lanes: take
 * earlier rows along, or if there are not 16 at all, one row in every lane. */
static struct strip next_strip(const struct kern_gemm_args *a, int32_t begin, int32_t end,
                               int max_groups)
{
    struct strip s = {.stride = a->w_stride, .column = begin, .groups = 1};
    const int32_t left = end - begin;
    int32_t first = begin;

    if (left >= 2 * LANES && max_groups == 2) {
        s.groups = 2;
        s.count = 2 * LANES;
    } else if (left >= LANES) {
        s.count = LANES;
    } else if (a->n >= LANES) {
        first = BASE_MIN(begin, a->n - LANES);
        s.count = left;
    } else {
        s.count = 1;
        s.stride = 0;
    }
    s.skip = begin - first;
    s.w = (const uint8_t *)a->w + (size_t)first * a->w_stride;
    return s;
}

KERN_INLINE void store(const struct kern_gemm_args *a, const struct strip *s, int32_t i,
                       const vf *sums)
{
    float *y = a->y + (size_t)i * a->y_stride + s->column;
    const float *bias = a->bias ? a->bias + s->column : NULL;
    float v[TILE_GROUPS * LANES];

    for (int g = 0; g < s->groups; g++) {
        vf_store(v + g * LANES, sums[g]);
    }
    for (int32_t r = 0; r < s->count; r++) {
        const float sum = bias ? v[s->skip + r] + bias[r] : v[s->skip + r];

        y[r] = a->accumulate ? sum + y[r] : sum;
    }
}

/* One chunk of `m` activation rows from `row` with unpacked panels. */
KERN_INLINE void chunk(vf (*y)[TILE_GROUPS], const struct panel *panels,
                       const struct kern_gemm_args *a, int32_t row, int32_t m, int32_t at,
                       enum kind kind, int groups)
{
    const uint8_t *x = (const uint8_t *)a->x + (size_t)row * a->x_stride;
    const int n_blocks = BASE_MIN(CHUNK, a->k - at) / KERN_BLOCK;

    while (m > 0) {
        const int32_t rows = m >= TILE_ROWS ? TILE_ROWS : 1;
        struct inputs in[TILE_ROWS];

        for (int32_t i = 0; i < rows; i++, x += a->x_stride) {
            const struct kern_act_row r = kern_act_row_of(x, a->k);

            take_inputs(&in[i], &r, at, n_blocks, kind);
        }
        if (rows == TILE_ROWS) {
            tile(y, panels, in, n_blocks, kind, TILE_ROWS, groups);
        } else {
            tile(y, panels, in, n_blocks, kind, 1, groups);
        }
        y += rows;
        m -= rows;
    }
}

/* Activation rows row .. row + m - 1, at most M_BLOCK, of one strip. */
KERN_INLINE void run_strip(const struct kern_gemm_args *a, const struct strip *s, int32_t row,
                           int32_t m, enum kind kind)
{
    vf y[M_BLOCK][TILE_GROUPS];
    struct panel panels[TILE_GROUPS];
    const uint8_t *w = s->w;

    for (int32_t i = 0; i < m; i++) {
        for (int g = 0; g < TILE_GROUPS; g++) {
            y[i][g] = vf_zero();
        }
    }
    for (int32_t at = 0; at < a->k; at += CHUNK, w += chunk_bytes(kind)) {
        const int n_blocks = BASE_MIN(CHUNK, a->k - at) / KERN_BLOCK;

        for (int g = 0; g < s->groups; g++) {
            unpack(&panels[g], w + (size_t)g * LANES * s->stride, s->stride, n_blocks, kind);
        }
        if (s->groups == TILE_GROUPS) {
            chunk(y, panels, a, row, m, at, kind, TILE_GROUPS);
        } else {
            chunk(y, panels, a, row, m, at, kind, 1);
        }
    }
    for (int32_t i = 0; i < m; i++) {
        store(a, s, row + i, y[i]);
    }
}

KERN_INLINE void run(const struct kern_gemm_args *a, int32_t begin, int32_t end, enum kind kind)
{
    const int max_groups = a->m == 1 ? 1 : TILE_GROUPS;

    while (begin < end) {
        const struct strip s = next_strip(a, begin, end, max_groups);

        for (int32_t row = 0; row < a->m; row += M_BLOCK) {
            run_strip(a, &s, row, BASE_MIN(M_BLOCK, a->m - row), kind);
        }
        begin += s.count;
    }
}

#define GEMM(name, kind)                                                                           \
    static void name(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)            \
    {                                                                                              \
        run(args, n_begin, n_end, kind);                                                           \
    }

GEMM(gemm_q8_0, Q8_0)
GEMM(gemm_q4_0, Q4_0)
GEMM(gemm_q4_k, Q4_K)
GEMM(gemm_q6_k, Q6_K)

KERN_INLINE void gemm_quant_init(struct kern_gemm *gemm)
{
    gemm->run[INFER_DTYPE_Q8_0] = gemm_q8_0;
    gemm->run[INFER_DTYPE_Q4_0] = gemm_q4_0;
    gemm->run[INFER_DTYPE_Q4_K] = gemm_q4_k;
    gemm->run[INFER_DTYPE_Q6_K] = gemm_q6_k;
}
