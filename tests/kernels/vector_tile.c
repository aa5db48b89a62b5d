/* Checks and timing of the products of many queries with rows of bytes. */
#include "vector_tile.h"
#include "vector_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tiles {
    struct kern_vector_tile args;
    struct kern_vector_hit *hits;
    struct kern_vector_note notes[ROWS_MAX];
    struct rows rows;
    int8_t *queries;
};

static void make_tiles(struct check *c, struct tiles *t, int32_t n_panels, int32_t n_queries,
                       int32_t n_rows, int32_t dims)
{
    const size_t fours = ((size_t)dims + 3) / 4 * 4;
    const size_t panel_bytes = kern_vector_panel_bytes(dims);
    int8_t *panels = check_buffer(c, panel_bytes * (size_t)n_panels, 64);
    struct kern_vector_limits *limits = check_buffer(c, sizeof(*limits) * (size_t)n_panels, 64);

    t->queries = check_buffer(c, (size_t)n_queries * (size_t)dims, 1);
    vector_fill_query(c, t->queries, n_queries * dims);
    for (int32_t p = 0; p < n_panels; p++) {
        const int32_t n = BASE_MIN(n_queries - p * 16, 16);

        kern_vector_pack(panels + (size_t)p * panel_bytes, t->queries + p * 16 * dims, (size_t)dims,
                         n, dims);
        for (int32_t q = 0; q < 16; q++) {
            limits[p].length[q] = check_uniform(c, 0.0f, 1.0f);
            limits[p].error[q] = check_uniform(c, 0.0f, 1.0f);
            limits[p].square[q] = check_uniform(c, -1.0f, 0.0f);
            limits[p].least[q] = q < n ? check_uniform(c, -2.0f, 8.0f) : INFINITY;
        }
    }
    vector_make_rows(c, &t->rows, INFER_DTYPE_I8, n_rows, (int32_t)fours);
    for (int32_t r = 0; r < n_rows; r++) {
        t->notes[r] = (struct kern_vector_note){
            0.0004f * check_uniform(c, 0.5f, 1.0f) / sqrtf((float)dims), check_uniform(c, 0, 1),
            check_uniform(c, 0, 1), check_uniform(c, 0, 1)};
    }
    t->hits = check_buffer(c, sizeof(*t->hits) * 16 * (size_t)n_panels * (size_t)n_rows, 4);
    t->args = (struct kern_vector_tile){.panels = panels,
                                        .limits = limits,
                                        .rows = t->rows.at,
                                        .notes = t->notes,
                                        .n_panels = n_panels,
                                        .n_rows = n_rows,
                                        .dims = dims,
                                        .ahead = check_range(c, 0, 1) ? t->rows.at : NULL,
                                        .ahead_bytes = check_range(c, 1, 4) * dims};
}

/* Each pair above its least by more than rounding is a hit once, none below by as much is. */
static void check_hits(struct check *c, const struct tiles *t, int32_t n_hits, int32_t n_queries)
{
    const int32_t n_rows = t->args.n_rows, dims = t->args.dims;
    char *seen = calloc((size_t)n_rows * 16 * (size_t)t->args.n_panels, 1);

    for (int32_t i = 0; i < n_hits; i++) {
        const struct kern_vector_hit *h = &t->hits[i];

        if (check_true(c, h->row >= 0 && h->row < n_rows && h->query >= 0 && h->query < n_queries,
                       "hit %d is row %d, query %d", (int)i, (int)h->row, (int)h->query)) {
            check_true(c, !seen[h->row * n_queries + h->query]++, "a hit twice");
        }
    }
    for (int32_t i = 0; i < n_rows * n_queries; i++) {
        const int32_t q = i % n_queries, r = i / n_queries;
        const struct kern_vector_limits *l = &t->args.limits[q / 16];
        const struct kern_vector_note *note = &t->notes[r];
        const int8_t *row = t->rows.at[r];
        double most = (double)note->length * (double)l->length[q % 16] +
                      (double)note->error * (double)l->error[q % 16] +
                      (double)note->square * (double)l->square[q % 16];
        int64_t dot = 0;

        for (int32_t j = 0; j < dims; j++) {
            dot += t->queries[q * dims + j] * row[j];
        }
        most += (double)note->scale * (double)dot;
        if (fabs(most - (double)l->least[q % 16]) > 1e-5) {
            check_true(c, seen[i] == (most >= (double)l->least[q % 16]),
                       "row %d, query %d of %d x %d, %d elements: %g, least %g", (int)r, (int)q,
                       (int)n_rows, (int)n_queries, (int)dims, most, (double)l->least[q % 16]);
        }
    }
    free(seen);
}

void check_vector_tile(struct check *c)
{
    for (int i = 0; i < 40; i++) {
        const int32_t n_queries = check_range(c, 1, i % 4 ? 40 : 100);
        const int32_t n_rows = check_range(c, 1, ROWS_MAX);
        const int32_t dims = i < 8 ? 1 + i : i == 9 ? 8192 : check_range(c, 1, 300);
        struct tiles t;

        make_tiles(c, &t, (n_queries + 15) / 16, n_queries, n_rows, dims);
        check_hits(c, &t, c->dut->vector.tile(t.hits, &t.args), n_queries);
        check_release(c);
    }
}

/* ------------------------------------------------------- one level beside another */

static int compare_hits(const void *x, const void *y)
{
    const struct kern_vector_hit *a = x, *b = y;

    return a->row != b->row ? (a->row > b->row) - (a->row < b->row)
                            : (a->query > b->query) - (a->query < b->query);
}

int vector_tiles_differ(struct check *c, const struct infer_kernels *a,
                        const struct infer_kernels *b, int32_t n_queries, int32_t dims)
{
    struct kern_vector_hit *hits[2];
    int32_t n[2];
    int differ;

    for (int i = 0; i < 2; i++) {
        const uint64_t rng = c->rng;
        struct tiles t;

        make_tiles(c, &t, (n_queries + 15) / 16, n_queries, ROWS_MAX, dims);
        n[i] = (i ? b : a)->vector.tile(t.hits, &t.args);
        hits[i] = t.hits;
        qsort(t.hits, (size_t)n[i], sizeof(*t.hits), compare_hits);
        c->rng = i ? c->rng : rng;
    }
    differ = n[0] != n[1] || memcmp(hits[0], hits[1], (size_t)n[0] * sizeof(*hits[0])) != 0;
    check_release(c);
    return differ;
}

/* ------------------------------------------------------------------ timing */

static void call_tile(const struct infer_kernels *kernels, void *arg)
{
    const struct tiles *t = arg;

    kernels->vector.tile(t->hits, &t->args);
}

void bench_vector_tile(struct check *c)
{
    struct tiles t;

    make_tiles(c, &t, 16, 256, 36, 384);
    for (int32_t i = 0; i < 256; i++) { /* hits are few */
        ((struct kern_vector_limits *)(uintptr_t)t.args.limits)[i / 16].least[i % 16] = INFINITY;
    }
    t.args.ahead = NULL;
    check_time(c, "256 queries, 36 rows of 384", call_tile, &t,
               (struct check_work){2.0 * 256 * 36 * 384, "flop", 0});
    check_release(c);
}
