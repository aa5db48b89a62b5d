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
#include "kernels/cpu/gemm_quant_row_tmpl.h"
#include "kernels/cpu/init.h"

enum { M_BLOCK = 64 }; /* activation rows a panel is kept for */

struct panel {
    vi w[BLOCKS][STEPS];
    struct scales s;
};

/* ------------------------------------------------------- weights to panels */

static void unpack_q8_0(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)
{
    for (int b = 0; b < n_blocks; b++) {
        load_q8_0(o->w[b], &o->s.scale[b], p + (size_t)b * sizeof(struct kern_q8_0), stride);
    }
}

static void unpack_q4_0(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)
{
    for (int b = 0; b < n_blocks; b++) {
        load_q4_0(o->w[b], &o->s.scale[b], p + (size_t)b * sizeof(struct kern_q4_0), stride);
    }
}

static void unpack_q4_k(struct panel *o, const uint8_t *p, size_t stride)
{
    load_q4_k_scales(&o->s, p, stride);
    for (int pair = 0; pair < BLOCKS / 2; pair++) {
        load_q4_k_pair(o->w[2 * pair], o->w[2 * pair + 1], p, pair, stride);
    }
}

static void unpack_q6_k(struct panel *o, const uint8_t *p, size_t stride)
{
    load_q6_k_scales(&o->s, p, stride);
    for (int i = 0; i < 4; i++) {
        vi w[4][4];

        load_q6_k_quarters(w, p, i / 2, i % 2, stride);
        KERN_UNROLL
        for (int j = 0; j < 16; j++) {
            o->w[i / 2 * 4 + j / 4][i % 2 * 4 + j % 4] = w[j / 4][j % 4];
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
        unpack_q4_k(o, p, stride);
        break;
    case Q6_K:
        unpack_q6_k(o, p, stride);
        break;
    }
}

/* ------------------------------------------------------------- the product */

/* Integer sums of steps first .. last - 1 of block b, for all rows and groups. */
KERN_INLINE void dot_block(vi sum[TILE_ROWS][TILE_GROUPS], const struct panel *panels,
                           const struct inputs *in, int b, int half, enum kind kind, int rows,
                           int groups)
{
    const enum kern_dot dot = dot_kind(kind);
    const int first = half * (STEPS / 2), last = kind == Q6_K ? first + STEPS / 2 : STEPS;

    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        KERN_UNROLL
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
        KERN_UNROLL
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
        KERN_UNROLL
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
                vf v = vf_mul(panels[g].s.scale[b], vf_of_int(sum[i][g]));

                if (kind == Q4_K) {
                    v = vf_fma(panels[g].s.extra[b], vf_set1(in[i].sum[b]), v);
                } else if (kind == Q6_K) {
                    v = vf_fma(panels[g].s.extra[b], vf_of_int(second[i][g]), v);
                }
                acc[i][g] = vf_fma(v, vf_set1(in[i].d[b]), acc[i][g]);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        KERN_UNROLL
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
    int fetch_next; /* the strip behind this one comes next */
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
    s.fetch_next = left > s.count;
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

/* Sixteen rows are too many streams for the processor to foresee, so the next
 * strip is asked for in order of address while this one is computed. */
KERN_INLINE void prefetch(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += BASE_CACHE_LINE) {
        _mm_prefetch((const char *)p + i, _MM_HINT_T1);
    }
}

/* A single activation row: the weights are used as they come. */
KERN_INLINE void run_row(const struct kern_gemm_args *a, const struct strip *s, enum kind kind)
{
    const size_t ahead = LANES * s->stride;
    const size_t fetch_bytes = ahead / (size_t)BASE_DIV_UP(a->k, CHUNK) + 1;
    const struct kern_act_row x = kern_act_row_of(a->x, a->k);
    const uint8_t *w = s->w, *fetch = w + ahead;
    vf y = vf_zero();

    for (int32_t at = 0; at < a->k; at += CHUNK, w += chunk_bytes(kind)) {
        const int n_blocks = BASE_MIN(CHUNK, a->k - at) / KERN_BLOCK;
        struct inputs in;

        if (s->fetch_next) {
            prefetch(fetch, fetch_bytes);
            fetch += fetch_bytes;
        }
        take_inputs(&in, &x, at, n_blocks, kind);
        y = row_chunk(y, &in, w, s->stride, n_blocks, kind);
    }
    store(a, s, 0, &y);
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
    const size_t ahead = (size_t)s->groups * LANES * s->stride;
    const size_t fetch_bytes = ahead / (size_t)BASE_DIV_UP(a->k, CHUNK) + 1;
    vf y[M_BLOCK][TILE_GROUPS];
    struct panel panels[TILE_GROUPS];
    const uint8_t *w = s->w;
    const uint8_t *fetch = w + ahead;

    for (int32_t i = 0; i < m; i++) {
        for (int g = 0; g < TILE_GROUPS; g++) {
            y[i][g] = vf_zero();
        }
    }
    for (int32_t at = 0; at < a->k; at += CHUNK, w += chunk_bytes(kind)) {
        const int n_blocks = BASE_MIN(CHUNK, a->k - at) / KERN_BLOCK;

        if (s->fetch_next && row == 0) {
            prefetch(fetch, fetch_bytes);
            fetch += fetch_bytes;
        }
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
    while (begin < end) {
        const struct strip s = next_strip(a, begin, end, a->m == 1 ? 1 : TILE_GROUPS);

        if (a->m == 1) {
            run_row(a, &s, kind);
        } else {
            for (int32_t row = 0; row < a->m; row += M_BLOCK) {
                run_strip(a, &s, row, BASE_MIN(M_BLOCK, a->m - row), kind);
            }
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
