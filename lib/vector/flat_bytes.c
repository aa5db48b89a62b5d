/* Exact search of many queries by the bytes of rows.
 *
 * Row y is kept as s b + e: bytes b, a scale s, and what they lose, e. Query x is t a + f. Then
 * x y = s t (a b) + (t a) e + f y, and what the bytes do not see is at most |t a| |e| + |f| |y|
 * (Cauchy-Schwarz). A row whose product may by this bound reach the k-th best so far is compared as
 * it is kept; the others cannot be among the best. Distances are products too:
 * -|x - y|^2 = 2 x y - |x|^2 - |y|^2. */
#include "vector/flat_bytes.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define BLOCK_BYTES (24 << 10)  /* of rows that all queries pass: half a first-level cache */
#define PANEL_BYTES (384 << 10) /* of queries that stay in a second-level cache */

int32_t flat_bytes_pays(const struct vector_view *view, int32_t n)
{
    return view->shape.type != INFER_INDEX_BINARY && n >= 4 && view->shape.dims >= 16;
}

int32_t flat_bytes_most(const struct vector_view *view)
{
    const size_t most = PANEL_BYTES / kern_vector_panel_bytes(view->shape.dims);

    return (int32_t)(BASE_MIN(BASE_MAX(most, 4), 64)) * KERN_VECTOR_PANEL;
}

static size_t row_stride(const struct vector_view *view)
{
    return BASE_ALIGN_UP((size_t)view->shape.dims, (size_t)64);
}

static int32_t rows_a_call(const struct vector_view *view)
{
    const size_t most = BLOCK_BYTES / row_stride(view) / 6 * 6; /* as tiles take them */

    return (int32_t)BASE_MIN(BASE_MAX(most, 12), VECTOR_BLOCK / 6 * 6);
}

static size_t limits_bytes(int32_t n)
{
    return flat_panels(n) * sizeof(struct kern_vector_limits);
}

static size_t hits_bytes(int32_t n)
{
    return flat_panels(n) * KERN_VECTOR_PANEL * VECTOR_BLOCK * sizeof(struct kern_vector_hit);
}

/* Bytes of rows before the first tile are a place for those of queries too. */
size_t flat_bytes_room(const struct vector_view *view, int32_t n)
{
    return limits_bytes(n) + hits_bytes(n) + VECTOR_BLOCK * row_stride(view);
}

/* ---------------------------------------------------------------- queries */

/* How far scores that are computed in floats may be from the true ones, as a share of the product
 * of both lengths: sums of at least eight lanes (doc/kernels.md), and what a tile's few steps
 * round. */
static double rounding(const struct vector_view *view)
{
    return ((double)view->shape.dims / 8.0 + 64.0) * 0x1p-24;
}

static void set_bound(const struct vector_view *view, const struct vector_query *query,
                      const int8_t *bytes, float scale, struct flat_bound *bound)
{
    double kept = 0.0, lost = 0.0;

    for (int32_t i = 0; i < view->shape.dims; i++) {
        const double b = (double)scale * (double)bytes[i];
        const double rest = (double)query->values[i] - b;

        kept += b * b;
        lost += rest * rest;
    }
    bound->scale = scale > 0.0f ? (double)scale : 1.0;
    lost = sqrt(lost) * 1.0001 + rounding(view) * query->length;
    bound->length = nextafterf((float)(lost / bound->scale), INFINITY);
    bound->error = nextafterf((float)(sqrt(kept) * 1.0001 / bound->scale), INFINITY);
    bound->square = view->shape.metric == INFER_METRIC_L2
                        ? (float)(-0.5 * (1.0 - 0x1p-19) / bound->scale)
                        : 0.0f;
}

void flat_group_pack(const struct vector_view *view, struct flat_group *group, void *room)
{
    const size_t panel_bytes = kern_vector_panel_bytes(view->shape.dims);
    const size_t stride = row_stride(view);
    const int32_t dims = view->shape.dims;
    int8_t *bytes = room;

    for (int32_t first = 0; first < group->n; first += KERN_VECTOR_PANEL) {
        const int32_t n = BASE_MIN(group->n - first, KERN_VECTOR_PANEL);

        for (int32_t i = 0; i < n; i++) {
            const struct vector_query *query = &group->queries[first + i];
            int8_t *to = bytes + (size_t)i * stride;
            const float scale = view->kernels->vector.quantize(to, query->values, dims);

            set_bound(view, query, to, scale, &group->bounds[first + i]);
        }
        kern_vector_pack(group->panels + (size_t)(first / KERN_VECTOR_PANEL) * panel_bytes, bytes,
                         stride, n, dims);
    }
}

/* What the sum of a tile must reach for a row that may be among the best. */
static float least_of(const struct flat_bytes *b, int32_t q)
{
    const struct vector_query *query = &b->group->queries[q];
    const double scale = b->group->bounds[q].scale;
    double least = (double)vector_best_least(&b->best[q]);

    if (least > 0.0 && isinf(least)) {
        return INFINITY;
    }
    if (b->view->shape.metric == INFER_METRIC_L2) {
        least = least * (1.0 + 2.0 * rounding(b->view)) + query->length * query->length;
        least *= 0.5;
    }
    return nextafterf((float)(least / scale), -INFINITY);
}

/* ---------------------------------------------------------------- a thread */

void flat_bytes_begin(struct flat_bytes *bytes, const struct vector_view *view,
                      const struct flat_group *group, struct vector_best *best, void *room)
{
    uint8_t *at = room;

    bytes->view = view;
    bytes->group = group;
    bytes->best = best;
    bytes->limits = (struct kern_vector_limits *)(void *)at;
    bytes->hits = (struct kern_vector_hit *)(void *)(at + limits_bytes(group->n));
    bytes->bytes = (int8_t *)at + limits_bytes(group->n) + hits_bytes(group->n);
    bytes->block = rows_a_call(view);
    memset(bytes->limits, 0, limits_bytes(group->n));
    for (int32_t q = 0; q < (int32_t)flat_panels(group->n) * KERN_VECTOR_PANEL; q++) {
        struct kern_vector_limits *limits = &bytes->limits[q / KERN_VECTOR_PANEL];
        const int32_t lane = q % KERN_VECTOR_PANEL;

        limits->least[lane] = INFINITY;
        if (q < group->n) {
            limits->length[lane] = group->bounds[q].length;
            limits->error[lane] = group->bounds[q].error;
            limits->square[lane] = group->bounds[q].square;
            limits->least[lane] = least_of(bytes, q);
        }
    }
}

/* The bytes of a row, and its note for the tile. */
static const void *row_bytes(struct flat_bytes *b, int32_t row, int8_t *to,
                             struct kern_vector_note *tile_note)
{
    const struct vector_view *view = b->view;
    const struct vector_note *note = vector_view_note(view, row);
    const void *from = vector_view_row(view, row);
    const float length = view->shape.metric == INFER_METRIC_COSINE ? 1.0f + 0x1p-20f : note->length;

    tile_note->scale = note->scale * note->factor;
    tile_note->error = note->error * note->factor;
    tile_note->length = length;
    tile_note->square = length * length;
    if (view->shape.type == INFER_INDEX_I8) {
        return from;
    }
    view->kernels->vector.code[view->dtype](
        to, from, note->scale > 0.0f ? 1.0f / note->scale : 0.0f, view->shape.dims);
    return to;
}

static void take_hits(struct flat_bytes *b, const int32_t *rows, int32_t n_hits)
{
    for (int32_t i = 0; i < n_hits; i++) {
        const int32_t q = b->hits[i].query;
        const int32_t row = rows[b->hits[i].row];
        float score;

        vector_view_score(b->view, &b->group->queries[q], &row, 1, &score);
        if (vector_best_offer(&b->best[q], score, row) && b->best[q].n == b->best[q].k) {
            b->limits[q / KERN_VECTOR_PANEL].least[q % KERN_VECTOR_PANEL] = least_of(b, q);
        }
    }
}

void flat_bytes_compare(struct flat_bytes *bytes, const int32_t *rows, int32_t n, int32_t n_ahead)
{
    const struct vector_view *view = bytes->view;
    const size_t stride = row_stride(view);
    struct kern_vector_note notes[VECTOR_BLOCK];
    const void *pointers[VECTOR_BLOCK], *ahead[VECTOR_BLOCK];
    const struct kern_vector_tile tile = {
        .panels = bytes->group->panels,
        .limits = bytes->limits,
        .rows = pointers,
        .notes = notes,
        .n_panels = (int32_t)flat_panels(bytes->group->n),
        .n_rows = n,
        .dims = view->shape.dims,
        .ahead = n_ahead > 0 ? ahead : NULL,
        .ahead_bytes = (int32_t)view->row_bytes,
    };

    for (int32_t i = 0; i < n; i++) {
        const int32_t next = i < n_ahead ? rows[n + i] : rows[i];

        pointers[i] = row_bytes(bytes, rows[i], bytes->bytes + (size_t)i * stride, &notes[i]);
        ahead[i] = vector_view_row(view, next);
        __builtin_prefetch(vector_view_note(view, next));
    }
    take_hits(bytes, rows, view->kernels->vector.tile(bytes->hits, &tile));
}
