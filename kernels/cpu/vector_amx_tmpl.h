/* Template: the products of kern_vector_tile_fn by the tile words included before (tile_amx.h).
 *
 * A panel of queries lies as a tile wants its right side: fours of elements, in these by queries.
 * Two tiles of sixteen rows each pass two panels at a time, which makes four tiles of sums; 64
 * elements are a step. Rows lie anywhere, so a chunk of each is put together first and serves all
 * panels of a sweep; between chunks the sums wait in memory. They are exact, so hits are those of
 * the vector kernels. */
#include "kernels/cpu/init.h"
#include "kernels/cpu/vector_hits.h"

enum {
    TILE = KERN_TILE_ROWS,
    STEP = KERN_TILE_BYTES, /* elements of a row in a tile */
    STEPS = 8,              /* of a chunk: with both tiles of rows, half a first-level cache */
    ROWS = 2 * TILE,
    PANELS = 16, /* of a sweep */
};

_Static_assert(KERN_VECTOR_PANEL * 4 == KERN_TILE_BYTES, "a panel's fours are rows of a tile");

struct tile_rows {
    int8_t q[2][STEPS][TILE][STEP] __attribute__((aligned(BASE_CACHE_LINE)));
};

struct tile_sums {
    int32_t of[PANELS][ROWS][KERN_VECTOR_PANEL] __attribute__((aligned(BASE_CACHE_LINE)));
};

/* What a sweep of up to ROWS rows and PANELS panels is made from. */
struct tile_sweep {
    const struct kern_vector_tile *args;
    struct tile_rows rows;
    struct tile_sums sums;
    int32_t first_row, n_rows, first_panel, n_panels;
};

static void tiles_configure(void)
{
    struct kern_tile_config config = {.palette = 1};

    for (int t = 0; t < KERN_TILES; t++) {
        kern_tile_shape(&config, t, TILE, KERN_TILE_BYTES);
    }
    tile_configure(&config);
}

/* Bytes of a row that may be read: whole fours. */
KERN_INLINE int32_t row_bytes(int32_t dims)
{
    return (dims + 3) / 4 * 4;
}

/* Elements at .. at + n_steps * STEP - 1 of the sweep's rows, zeros behind the last row and the
 * last element. */
static void take_rows(struct tile_sweep *s, int32_t at, int32_t n_steps)
{
    const int32_t end = row_bytes(s->args->dims);

    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t k = 0; k < n_steps; k++) {
            const int32_t rest = end - at - k * STEP;
            const uint64_t mask = rest < STEP ? ((uint64_t)1 << rest) - 1 : ~(uint64_t)0;
            __m512i x = _mm512_setzero_si512();

            if (r < s->n_rows) {
                const int8_t *row = s->args->rows[s->first_row + r];

                x = _mm512_maskz_loadu_epi8(mask, row + at + k * STEP);
            }
            _mm512_store_si512(s->rows.q[r / TILE][k][r % TILE], x);
        }
    }
}

/* Asks memory for the part of the rows to come that belongs to this chunk. */
static void ask_ahead(const struct tile_sweep *s, int32_t chunk, int32_t n_chunks)
{
    const int32_t lines = (s->args->ahead_bytes + 63) / 64;
    const int32_t each = (lines + n_chunks - 1) / n_chunks;
    const int32_t end = BASE_MIN((chunk + 1) * each, lines);

    for (int32_t r = s->first_row; r < s->first_row + s->n_rows; r++) {
        for (int32_t line = chunk * each; line < end; line++) {
            __builtin_prefetch((const uint8_t *)s->args->ahead[r] + (size_t)line * 64);
        }
    }
}

#define TILE_STEP(k, from0, from1)                                                                 \
    do {                                                                                           \
        tile_load(4, s->rows.q[0][k], STEP);                                                       \
        tile_load(5, s->rows.q[1][k], STEP);                                                       \
        tile_load(6, from0, STEP);                                                                 \
        tile_load(7, from1, STEP);                                                                 \
        tile_dot_s8(0, 4, 6);                                                                      \
        tile_dot_s8(1, 4, 7);                                                                      \
        tile_dot_s8(2, 5, 6);                                                                      \
        tile_dot_s8(3, 5, 7);                                                                      \
    } while (0)

/* A chunk of the rows with panels p and q of the sweep, which may be the same. */
static void multiply(struct tile_sweep *s, int32_t p, int32_t q, int32_t at, int32_t n_steps)
{
    const size_t stride = kern_vector_panel_bytes(s->args->dims);
    const int8_t *panels = s->args->panels + (size_t)s->first_panel * stride + (size_t)at * 16;
    const int8_t *x = panels + (size_t)p * stride, *y = panels + (size_t)q * stride;
    const int32_t bytes = row_bytes(s->args->dims) - at, whole = BASE_MIN(bytes / STEP, n_steps);
    int32_t(*sums)[KERN_VECTOR_PANEL] = s->sums.of[p], (*more)[KERN_VECTOR_PANEL] = s->sums.of[q];

    if (at == 0) {
        tile_zero(0);
        tile_zero(1);
        tile_zero(2);
        tile_zero(3);
    } else {
        tile_load(0, sums, STEP);
        tile_load(1, more, STEP);
        tile_load(2, sums + TILE, STEP);
        tile_load(3, more + TILE, STEP);
    }
    for (int32_t k = 0; k < whole; k++) {
        TILE_STEP(k, x + k * TILE * STEP, y + k * TILE * STEP);
    }
    if (whole < n_steps) { /* what follows the last four is no query */
        const size_t rest = (size_t)(bytes - whole * STEP) * 16;
        int8_t last[2][TILE * STEP] __attribute__((aligned(BASE_CACHE_LINE))) = {{0}};

        memcpy(last[0], x + whole * TILE * STEP, rest);
        memcpy(last[1], y + whole * TILE * STEP, rest);
        TILE_STEP(whole, last[0], last[1]);
    }
    tile_store(0, sums, STEP);
    tile_store(1, more, STEP);
    tile_store(2, sums + TILE, STEP);
    tile_store(3, more + TILE, STEP);
}

static int32_t take_hits(struct kern_vector_hit *hits, const struct tile_sweep *s)
{
    int32_t n = 0;

    for (int32_t p = 0; p < s->n_panels; p++) {
        const struct kern_vector_limits *limits = &s->args->limits[s->first_panel + p];

        for (int32_t r = 0; r < s->n_rows; r++) {
            const __m512i sum = _mm512_load_si512(s->sums.of[p][r]);
            const int32_t row = s->first_row + r;
            uint32_t bits = kern_vector_hits(sum, &s->args->notes[row], limits);

            for (; bits; bits &= bits - 1) {
                hits[n++] = (struct kern_vector_hit){row, (s->first_panel + p) * KERN_VECTOR_PANEL +
                                                              __builtin_ctz(bits)};
            }
        }
    }
    return n;
}

static int32_t sweep(struct kern_vector_hit *hits, struct tile_sweep *s)
{
    const int32_t n_steps = (row_bytes(s->args->dims) + STEP - 1) / STEP;
    const int32_t n_chunks = (n_steps + STEPS - 1) / STEPS;

    for (int32_t c = 0; c < n_chunks; c++) {
        const int32_t steps = BASE_MIN(n_steps - c * STEPS, STEPS), at = c * STEPS * STEP;

        take_rows(s, at, steps);
        if (s->args->ahead && s->first_panel == 0) {
            ask_ahead(s, c, n_chunks);
        }
        for (int32_t p = 0; p < s->n_panels; p += 2) {
            multiply(s, p, BASE_MIN(p + 1, s->n_panels - 1), at, steps);
        }
    }
    return take_hits(hits, s);
}

static int32_t vector_amx_tile(struct kern_vector_hit *hits, const struct kern_vector_tile *args)
{
    struct tile_sweep s;
    int32_t n = 0;

    s.args = args;
    tiles_configure();
    for (int32_t row = 0; row < args->n_rows; row += ROWS) {
        for (int32_t panel = 0; panel < args->n_panels; panel += PANELS) {
            s.first_row = row;
            s.n_rows = BASE_MIN(args->n_rows - row, ROWS);
            s.first_panel = panel;
            s.n_panels = BASE_MIN(args->n_panels - panel, PANELS);
            n += sweep(hits + n, &s);
        }
    }
    tile_release();
    return n;
}

static void vector_amx_init(struct kern_vector *vector)
{
    vector->tile = vector_amx_tile;
}
