/* Attention over the rows of one text, over the words of reg_<isa>.h.
 *
 * Keys are turned first, a panel of two registers of positions at a time: then scores, and the
 * weighted sums of values after them, are both products of a number of a row with a register of a
 * panel (or of a value), and the lanes of a register are different results. Rows are taken a few
 * at a time, all of whose scores lie in the scratch memory. What happens to a row:
 *   score    one sum along the dimensions, in order
 *   weights  summed by position modulo REG, then the lanes
 *   output   one sum along the positions, in order, those that it does not see with weight 0
 * and positions of panels count from the text's start: any cut gives the same bits. */
#include "kernels/cpu/init.h"

#include <math.h>
#include <string.h>

enum { PANEL = 2 * REG };

struct text {
    const struct kern_attn_text_args *args;
    int32_t first;  /* position of the first panel */
    int32_t width;  /* positions of all panels */
    float *panels;  /* [width / PANEL][head_dim][PANEL] */
    float *weights; /* [TEXT_ROWS][width] */
};

/* Positions begin .. end - 1. */
struct span {
    int32_t begin, end;
};

KERN_INLINE struct span text_seen(const struct kern_attn_text_args *a, int32_t row, int32_t last)
{
    if (a->reach <= 0) {
        return (struct span){0, a->n};
    }
    return (struct span){BASE_MAX(row - a->reach, 0), BASE_MIN(last + a->reach + 1, a->n)};
}

/* acc[i][c] += a[i][t] * b[t][c] for t < n: `rows` rows of numbers and `cols` registers, of which
 * the last has `part` floats. */
KERN_INLINE void outer(reg acc[][2], const float *a, size_t a_stride, const float *b,
                       size_t b_stride, int32_t n, int rows, int cols, int32_t part)
{
    for (int32_t t = 0; t < n; t++) {
        reg bv[2];

        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            bv[c] = reg_load_part(b + (size_t)t * b_stride + c * REG, c + 1 < cols ? REG : part);
        }
        KERN_UNROLL
        for (int i = 0; i < rows; i++) {
            const reg av = reg_set1(a[(size_t)i * a_stride + (size_t)t]);

            KERN_UNROLL
            for (int c = 0; c < cols; c++) {
                acc[i][c] = reg_fma(av, bv[c], acc[i][c]);
            }
        }
    }
}

KERN_INLINE void outer_clear(reg acc[][2], int rows, int cols)
{
    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            acc[i][c] = reg_zero();
        }
    }
}

/* Keys of a panel, zeros behind the last. */
static void text_turn(const struct text *t, int32_t panel)
{
    const struct kern_attn_text_args *a = t->args;
    const int32_t dim = a->head_dim, start = t->first + panel * PANEL;
    const int32_t n = BASE_MIN(a->n - start, (int32_t)PANEL);
    float *to = t->panels + (size_t)panel * (size_t)(dim * PANEL);

    if (n < PANEL) {
        memset(to, 0, (size_t)(dim * PANEL) * sizeof(*to));
    }
    for (int32_t d = 0; d < dim; d += TEXT_TURN) {
        const int32_t m = BASE_MIN(dim - d, (int32_t)TEXT_TURN);

        for (int32_t j = 0; j < n; j++) {
            const float *k = a->k + (size_t)(start + j) * a->k_stride + d;

            for (int32_t i = 0; i < m; i++) {
                to[(d + i) * PANEL + j] = k[i];
            }
        }
    }
}

/* Products of `rows` queries with the keys of the panels over `seen`. */
KERN_INLINE void text_scores(const struct text *t, int32_t row, struct span seen, int rows)
{
    const struct kern_attn_text_args *a = t->args;
    const float *q = a->q + (size_t)row * a->q_stride;

    for (int32_t at = (seen.begin - t->first) / PANEL * PANEL; at < seen.end - t->first;
         at += PANEL) {
        reg acc[TEXT_ROWS][2];

        outer_clear(acc, rows, 2);
        outer(acc, q, a->q_stride, t->panels + (size_t)at * (size_t)a->head_dim, PANEL, a->head_dim,
              rows, 2, REG);
        KERN_UNROLL
        for (int i = 0; i < rows; i++) {
            reg_store(t->weights + (size_t)i * (size_t)t->width + at, acc[i][0]);
            reg_store(t->weights + (size_t)i * (size_t)t->width + at + REG, acc[i][1]);
        }
    }
}

/* -slope * |row - j| for the REG positions from j on. */
KERN_INLINE reg text_bias(const struct kern_attn_text_args *a, int32_t row, int32_t j)
{
    float bias[REG];

    for (int32_t i = 0; i < REG; i++) {
        const int32_t apart = j + i > row ? j + i - row : row - j - i;

        bias[i] = -a->slope * (float)apart;
    }
    return reg_load(bias);
}

/* Scores of one row become weights; those of the panels over `seen` that it does not see, 0.
 * Returns their sum. */
static float text_weigh(const struct text *t, int32_t row, float *s, struct span seen)
{
    const struct kern_attn_text_args *a = t->args;
    const struct span own = text_seen(a, row, row);
    const int32_t begin = (seen.begin - t->first) / PANEL * PANEL, end = seen.end - t->first;
    const reg scale = reg_set1(a->scale);
    reg max = reg_set1(-INFINITY), sum = reg_zero();

    for (int32_t at = begin; at < end; at += REG) {
        const int32_t j = t->first + at;
        reg x = reg_mul(reg_load(s + at), scale);

        if (a->slope != 0.0f) {
            x = reg_add(x, text_bias(a, row, j));
        }
        if (j < own.begin || j + REG > own.end) {
            x = reg_keep(x, BASE_MIN(BASE_MAX(own.begin - j, 0), (int32_t)REG),
                         BASE_MIN(BASE_MAX(own.end - j, 0), (int32_t)REG), reg_set1(-INFINITY));
        }
        max = reg_max(x, max);
        reg_store(s + at, x);
    }
    max = reg_set1(reg_max_all(max));
    for (int32_t at = begin; at < end; at += REG) {
        const reg w = reg_exp(reg_sub(reg_load(s + at), max));

        sum = reg_add(sum, w);
        reg_store(s + at, w);
    }
    return reg_sum_all(sum);
}

/* The weighted values' columns d on, in `cols` registers. */
KERN_INLINE void text_values(const struct text *t, int32_t row, struct span seen, const float *sums,
                             int32_t d, int rows, int cols, int32_t part)
{
    const struct kern_attn_text_args *a = t->args;
    reg acc[TEXT_ROWS][2];

    outer_clear(acc, rows, cols);
    outer(acc, t->weights + (seen.begin - t->first), (size_t)t->width,
          a->v + (size_t)seen.begin * a->v_stride + d, a->v_stride, seen.end - seen.begin, rows,
          cols, part);
    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        float *out = a->out + (size_t)(row + i) * a->out_stride + d;
        const reg all = reg_set1(sums[i]);

        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            reg_store_part(out + c * REG, c + 1 < cols ? REG : part, reg_div(acc[i][c], all));
        }
    }
}

KERN_INLINE void text_rows(const struct text *t, int32_t row, int rows)
{
    const struct kern_attn_text_args *a = t->args;
    const struct span seen = text_seen(a, row, row + rows - 1);
    float sums[TEXT_ROWS];
    int32_t d = 0;

    text_scores(t, row, seen, rows);
    for (int i = 0; i < rows; i++) {
        sums[i] = text_weigh(t, row + i, t->weights + (size_t)i * (size_t)t->width, seen);
    }
    for (; d + PANEL <= a->head_dim; d += PANEL) {
        text_values(t, row, seen, sums, d, rows, 2, REG);
    }
    if (d + REG <= a->head_dim) {
        text_values(t, row, seen, sums, d, rows, 1, REG);
        d += REG;
    }
    if (d < a->head_dim) {
        text_values(t, row, seen, sums, d, rows, 1, a->head_dim - d);
    }
}

static void attn_text(const struct kern_attn_text_args *args, int32_t begin, int32_t end)
{
    const struct span seen = text_seen(args, begin, end - 1);
    struct text t = {.args = args, .first = seen.begin / PANEL * PANEL, .panels = args->scratch};
    int32_t row = begin;

    if (begin >= end) {
        return;
    }
    t.width = BASE_ALIGN_UP(seen.end - t.first, (int32_t)PANEL);
    t.weights = t.panels + (size_t)t.width * (size_t)args->head_dim;
    for (int32_t i = 0; i < t.width / PANEL; i++) {
        text_turn(&t, i);
    }
#define RUN_ROWS(n)                                                                                \
    for (; row + n <= end; row += n) {                                                             \
        text_rows(&t, row, n);                                                                     \
    }
    TEXT_TILES(RUN_ROWS)
#undef RUN_ROWS
}
