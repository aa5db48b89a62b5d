/* Queries and scores in the precision of what is kept. */
#include "vector/vectors.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define BLOCK 64 /* rows that are handed to the kernels at a time */

static int32_t has_row(const struct vector_view *view, int32_t row)
{
    return row >= 0 && row < view->n;
}

void vector_view_load(const struct vector_view *view, int32_t row, float *out)
{
    const int32_t dims = view->shape.dims;
    const uint8_t *from;
    float factor;

    if (!has_row(view, row)) {
        memset(out, 0, (size_t)dims * sizeof(*out));
        return;
    }
    from = vector_view_row(view, row);
    if (view->shape.type == INFER_INDEX_BINARY) {
        for (int32_t i = 0; i < dims; i++) {
            out[i] = from[i / 8] >> i % 8 & 1 ? 1.0f : -1.0f;
        }
        return;
    }
    factor = vector_view_note(view, row)->factor;
    if (view->shape.type == INFER_INDEX_I8) {
        for (int32_t i = 0; i < dims; i++) {
            out[i] = (float)((const int8_t *)from)[i] * factor;
        }
        return;
    }
    view->kernels->quant.dequant[view->dtype](out, from, dims);
    if (factor != 1.0f) {
        for (int32_t i = 0; i < dims; i++) {
            out[i] *= factor;
        }
    }
}

void vector_view_get(const struct vector_view *view, int32_t row, float *out)
{
    vector_view_load(view, row, out);
    if (has_row(view, row) && view->shape.metric == INFER_METRIC_COSINE &&
        view->shape.type != INFER_INDEX_BINARY) {
        const float length = vector_view_note(view, row)->length;

        for (int32_t i = 0; i < view->shape.dims; i++) {
            out[i] *= length;
        }
    }
}

/* ---------------------------------------------------------------- queries */

size_t vector_query_bytes(const struct vector_shape *shape)
{
    const size_t floats = BASE_ALIGN_UP((size_t)shape->dims * sizeof(float), (size_t)64);
    const size_t bits = BASE_ALIGN_UP(BASE_DIV_UP((size_t)shape->dims, (size_t)64) * 8, (size_t)64);

    return floats + (shape->type == INFER_INDEX_BINARY ? bits : 0);
}

void vector_query_set(struct vector_query *query, void *room, const struct vector_view *view,
                      const float *from)
{
    const int32_t dims = view->shape.dims;
    float *values = room;
    double sum = 0.0;

    if (view->shape.metric == INFER_METRIC_COSINE) {
        view->kernels->vector.normalize(values, from, dims);
    } else {
        memcpy(values, from, (size_t)dims * sizeof(*values));
    }
    for (int32_t i = 0; i < dims; i++) {
        sum += (double)values[i] * (double)values[i];
    }
    query->values = values;
    query->length = sqrt(sum);
    query->bits = NULL;
    if (view->shape.type == INFER_INDEX_BINARY) {
        uint64_t *bits = (uint64_t *)(void *)((uint8_t *)room +
                                              BASE_ALIGN_UP((size_t)dims * sizeof(float), 64u));

        memset(bits, 0, view->row_bytes);
        for (int32_t i = 0; i < dims; i++) {
            ((uint8_t *)bits)[i / 8] |= (uint8_t)((from[i] >= 0.0f) << i % 8);
        }
        query->bits = bits;
    }
}

/* ----------------------------------------------------------------- scores */

/* Of vectors of 1 and -1 of which so many elements differ. */
static float score_bits(const struct vector_shape *shape, int32_t differ)
{
    const double dims = (double)shape->dims;

    switch (shape->metric) {
    case INFER_METRIC_COSINE:
        return (float)(1.0 - 2.0 * (double)differ / dims);
    case INFER_METRIC_DOT:
        return (float)(dims - 2.0 * (double)differ);
    default:
        return (float)(-4.0 * (double)differ);
    }
}

struct block {
    const void *rows[BLOCK];
    float scales[BLOCK];
};

/* Fewer than `n` where a row is missing: the index of the first such. */
static void block_fill(const struct vector_view *view, struct block *block, const int32_t *rows,
                       int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const int32_t row = has_row(view, rows[i]) ? rows[i] : 0;

        block->rows[i] = vector_view_row(view, row);
        block->scales[i] = 1.0f;
        if (view->shape.type != INFER_INDEX_BINARY) {
            __builtin_prefetch(vector_view_note(view, row));
        }
    }
    if (view->shape.type == INFER_INDEX_I8) {
        for (int32_t i = 0; i < n; i++) {
            const int32_t row = has_row(view, rows[i]) ? rows[i] : 0;

            block->scales[i] = vector_view_note(view, row)->factor;
        }
    }
}

static void block_bits(const struct vector_view *view, const struct vector_query *query,
                       const struct block *block, int32_t n, float *scores)
{
    int32_t differ[BLOCK];

    view->kernels->vector.hamming(differ, query->bits, block->rows, n, (int32_t)view->row_bytes);
    for (int32_t i = 0; i < n; i++) {
        scores[i] = score_bits(&view->shape, differ[i]);
    }
}

static void block_floats(const struct vector_view *view, const struct vector_query *query,
                         const struct block *block, const int32_t *rows, int32_t n, float *scores)
{
    const struct kern_vector *k = &view->kernels->vector;
    const int32_t metric = view->shape.metric;
    const int32_t rounded =
        view->shape.type == INFER_INDEX_F16 || view->shape.type == INFER_INDEX_BF16;

    (metric == INFER_METRIC_L2 ? k->l2 : k->dot)[view->dtype](scores, query->values, block->rows,
                                                              block->scales, n, view->shape.dims);
    if (metric == INFER_METRIC_L2) {
        for (int32_t i = 0; i < n; i++) {
            scores[i] = -scores[i];
        }
    } else if (metric == INFER_METRIC_COSINE) {
        for (int32_t i = 0; i < n; i++) {
            if (rounded && has_row(view, rows[i])) {
                scores[i] *= vector_view_note(view, rows[i])->factor;
            }
            scores[i] = scores[i] > 1.0f ? 1.0f : scores[i] < -1.0f ? -1.0f : scores[i];
        }
    }
}

void vector_view_score(const struct vector_view *view, const struct vector_query *query,
                       const int32_t *rows, int32_t n, float *scores)
{
    struct block block;

    for (int32_t at = 0; at < n; at += BLOCK) {
        const int32_t part = BASE_MIN(BLOCK, n - at);

        if (view->n > 0) {
            block_fill(view, &block, rows + at, part);
            if (view->shape.type == INFER_INDEX_BINARY) {
                block_bits(view, query, &block, part, scores + at);
            } else {
                block_floats(view, query, &block, rows + at, part, scores + at);
            }
        }
        for (int32_t i = 0; i < part; i++) {
            if (!has_row(view, rows[at + i])) {
                scores[at + i] = -INFINITY;
            }
        }
    }
}

float vector_distance(int32_t metric, float score)
{
    return metric == INFER_METRIC_COSINE ? 1.0f - score : 0.0f - score;
}
