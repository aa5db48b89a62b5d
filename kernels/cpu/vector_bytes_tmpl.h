/* Template: products of signed bytes, of one query with rows and in tiles, over
 *   bv, BV, bv_load(p), bv_load_part(p, n)   a register of BV bytes; the first n, zeros after;
 *   bv_zero()                                all zeros
 *   bi, bi_zero(), bi_sum(x)                 a register of sums of int32_t
 *   bi_dot(sum, row, query)                  row and query of bv; counts the query's bytes
 *   BYTE_BIAS                                BYTE_BIAS times too often
 *   tp, tp_load(p)                           16 queries of a panel with 4 bytes each
 *   tr, tr_load(p)                           4 bytes of a row, for tp
 *   ti, ti_start(sums), ti_dot(ti, tp, tr)   sums of 16 queries; `sums` are those of their bytes
 *   ti_hits(ti, note, limits)                a bit for each that is a hit
 *   TILE_PANELS, TILE_ROWS                   what the registers hold at a time, 4 x 6 at most */
#include "kernels/cpu/init.h"

enum { BYTE_ROWS = 4, BYTE_AHEAD = 4 << 10, BYTE_AHEAD_ROW = 2 << 10 };

/* Two sums a row, so that additions need not wait for each other. */
KERN_INLINE void byte_group(int32_t *out, const int8_t *query, const void *const *rows,
                            const void *const *ahead, int n, int32_t dims, int32_t bias)
{
    bi sum[BYTE_ROWS][2];
    int32_t i = 0;

    KERN_UNROLL
    for (int r = 0; r < n; r++) {
        sum[r][0] = sum[r][1] = bi_zero();
    }
    for (; i + 2 * BV <= dims; i += 2 * BV) {
        const bv x = bv_load(query + i), y = bv_load(query + i + BV);

        KERN_UNROLL
        for (int r = 0; r < n; r++) {
            const int8_t *p = (const int8_t *)rows[r] + i;

            if (ahead) {
                __builtin_prefetch((const int8_t *)ahead[r] + i);
                if (BV == 64) {
                    __builtin_prefetch((const int8_t *)ahead[r] + i + BV);
                }
            }
            sum[r][0] = bi_dot(sum[r][0], bv_load(p), x);
            sum[r][1] = bi_dot(sum[r][1], bv_load(p + BV), y);
        }
    }
    for (; i < dims; i += BV) {
        const int32_t rest = dims - i < BV ? dims - i : BV;
        const bv x = bv_load_part(query + i, rest);

        KERN_UNROLL
        for (int r = 0; r < n; r++) {
            sum[r][0] = bi_dot(sum[r][0], bv_load_part((const int8_t *)rows[r] + i, rest), x);
        }
    }
    for (int r = 0; r < n; r++) {
        out[r] = bi_sum(sum[r][0]) + bi_sum(sum[r][1]) - bias;
    }
}

/* What is counted too often: the query against a row of zeros. */
KERN_INLINE int32_t byte_bias(const int8_t *query, int32_t dims)
{
    bi sum = bi_zero();

    for (int32_t i = 0; i < dims; i += BV) {
        const int32_t rest = dims - i;

        sum =
            bi_dot(sum, bv_zero(), rest < BV ? bv_load_part(query + i, rest) : bv_load(query + i));
    }
    return bi_sum(sum);
}

static void dot_i8(int32_t *out, const int8_t *query, const void *const *rows, int32_t n,
                   int32_t dims)
{
    const int32_t ahead =
        dims > BYTE_AHEAD_ROW ? n : BYTE_AHEAD / (dims + 1) / BYTE_ROWS * BYTE_ROWS + BYTE_ROWS;
    const int32_t bias = BYTE_BIAS != 0 ? byte_bias(query, dims) : 0;
    int32_t i = 0;

    for (; i + BYTE_ROWS <= n; i += BYTE_ROWS) {
        byte_group(out + i, query, rows + i, i + ahead + BYTE_ROWS <= n ? rows + i + ahead : NULL,
                   BYTE_ROWS, dims, bias);
    }
    for (; i < n; i++) {
        byte_group(out + i, query, rows + i, NULL, 1, dims, bias);
    }
}

/* ------------------------------------------------------------------- tiles */

/* A function of its own: the sums then leave the registers at once, and while they grow the
 * compiler has these for nothing else. */
static __attribute__((noinline)) int32_t tile_hits(struct kern_vector_hit *hits,
                                                   const struct kern_vector_tile *args,
                                                   const ti sums[6][4], int32_t first, int32_t row,
                                                   int n_panels, int n_rows)
{
    int32_t n = 0;

    for (int r = 0; r < n_rows; r++) {
        for (int q = 0; q < n_panels; q++) {
            uint32_t bits = ti_hits(sums[r][q], &args->notes[row + r], &args->limits[first + q]);

            for (; bits; bits &= bits - 1) {
                hits[n++] = (struct kern_vector_hit){row + r, (first + q) * KERN_VECTOR_PANEL +
                                                                  __builtin_ctz(bits)};
            }
        }
    }
    return n;
}

/* Sums have names: kept in an array, so many of them do not all become registers. */
#define TILE_ROW(word, r) word(0, r) word(1, r) word(2, r) word(3, r)
#define TILE_ALL(word)                                                                             \
    TILE_ROW(word, 0)                                                                              \
    TILE_ROW(word, 1)                                                                              \
    TILE_ROW(word, 2)                                                                              \
    TILE_ROW(word, 3)                                                                              \
    TILE_ROW(word, 4)                                                                              \
    TILE_ROW(word, 5)
#define TILE_START(q, r) ti s##q##r = ti_start(panel[(q) < n_panels ? (q) : 0] + fours * 64);
#define TILE_DOT(q, r)                                                                             \
    if ((q) < n_panels) {                                                                          \
        s##q##r = ti_dot(s##q##r, x##q, y);                                                        \
    }
#define TILE_DOTS(r)                                                                               \
    if ((r) < n_rows) {                                                                            \
        const tr y = tr_load(p[r] + k * 4);                                                        \
        TILE_ROW(TILE_DOT, r)                                                                      \
    }
#define TILE_KEEP(q, r)                                                                            \
    if ((q) < n_panels && (r) < n_rows) {                                                          \
        sums[r][q] = s##q##r;                                                                      \
    }

/* What step k of `steps` asks of rows that come later, all of them in time. */
KERN_INLINE void tile_ask(const struct kern_vector_tile *args, int32_t row, int n_rows, size_t k,
                          size_t steps)
{
    const size_t lines = ((size_t)args->ahead_bytes + 63) / 64;
    const size_t each = (lines + steps - 1) / steps;

    for (size_t line = k * each; line < (k + 1) * each && line < lines; line++) {
        KERN_UNROLL
        for (int r = 0; r < n_rows; r++) {
            __builtin_prefetch((const uint8_t *)args->ahead[row + r] + line * 64);
        }
    }
}

/* Panels first .. first + n_panels - 1 with rows row .. row + n_rows - 1; both counts and `ask`
 * are constants. */
KERN_INLINE int32_t tile_part(struct kern_vector_hit *hits, const struct kern_vector_tile *args,
                              int32_t first, int32_t row, int n_panels, int n_rows, int ask)
{
    const size_t panel_bytes = kern_vector_panel_bytes(args->dims);
    const size_t fours = ((size_t)args->dims + 3) / 4;
    const int8_t *panel[4], *p[6];
    ti sums[6][4];

    KERN_UNROLL
    for (int q = 0; q < 4; q++) {
        panel[q] = args->panels + (size_t)(first + (q < n_panels ? q : 0)) * panel_bytes;
    }
    KERN_UNROLL
    for (int r = 0; r < 6; r++) {
        p[r] = args->rows[row + (r < n_rows ? r : 0)];
    }
    TILE_ALL(TILE_START)
    for (size_t k = 0; k < fours; k++) {
        if (ask) {
            tile_ask(args, row, n_rows, k, fours);
        }
        const tp x0 = tp_load(panel[0] + k * 64), x1 = tp_load(panel[1] + k * 64);
        const tp x2 = tp_load(panel[2] + k * 64), x3 = tp_load(panel[3] + k * 64);

        TILE_DOTS(0)
        TILE_DOTS(1)
        TILE_DOTS(2)
        TILE_DOTS(3)
        TILE_DOTS(4)
        TILE_DOTS(5)
    }
    TILE_ALL(TILE_KEEP)
    return tile_hits(hits, args, (const ti(*)[4])sums, first, row, n_panels, n_rows);
}

KERN_INLINE int32_t tile_panels(struct kern_vector_hit *hits, const struct kern_vector_tile *args,
                                int32_t first, int n_panels, int ask)
{
    int32_t n = 0, row = 0;

    for (; row + TILE_ROWS <= args->n_rows; row += TILE_ROWS) {
        n += tile_part(hits + n, args, first, row, n_panels, TILE_ROWS, ask);
    }
    for (; row < args->n_rows; row++) {
        n += tile_part(hits + n, args, first, row, n_panels, 1, ask);
    }
    return n;
}

static int32_t tile(struct kern_vector_hit *hits, const struct kern_vector_tile *args)
{
    int32_t n = 0, first = 0;

    if (args->ahead && args->n_panels >= TILE_PANELS) {
        n = tile_panels(hits, args, 0, TILE_PANELS, 1);
        first = TILE_PANELS;
    } else if (args->ahead && args->n_panels > 0) {
        n = tile_panels(hits, args, 0, 1, 1);
        first = 1;
    }
    for (; first + TILE_PANELS <= args->n_panels; first += TILE_PANELS) {
        n += tile_panels(hits + n, args, first, TILE_PANELS, 0);
    }
    for (; first < args->n_panels; first++) {
        n += tile_panels(hits + n, args, first, 1, 0);
    }
    return n;
}
