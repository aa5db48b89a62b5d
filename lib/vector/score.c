/* Queries and scores in the precision of what is kept. */
#include "vector/sums.h"
#include "vector/vectors.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

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

    if (view->shape.metric == INFER_METRIC_COSINE) {
        view->kernels->vector.normalize(values, from, dims);
    } else {
        memcpy(values, from, (size_t)dims * sizeof(*values));
    }
    query->values = values;
    query->length = sqrt(vector_sum_products(values, values, dims));
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

void vector_block_set(struct vector_block *block, const struct vector_view *view,
                      const int32_t *rows, int32_t n)
{
    block->n = n;
    block->missing = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t is_there = has_row(view, rows[i]), row = is_there ? rows[i] : 0;

        block->missing |= (uint64_t)!is_there << i;
        block->rows[i] = view->n > 0 ? vector_view_row(view, row) : NULL;
        block->notes[i] = NULL;
        if (view->n > 0 && view->shape.type != INFER_INDEX_BINARY) {
            block->notes[i] = vector_view_note(view, row);
            __builtin_prefetch(block->notes[i]);
        }
    }
}

/* Vectors of 1 and -1 of which so many elements differ. */
static void score_bits(const struct vector_view *view, const struct vector_query *query,
                       const struct vector_block *block, float *scores)
{
    const int32_t metric = view->shape.metric;
    const double dims = (double)view->shape.dims;
    const double most = metric == INFER_METRIC_COSINE ? 1.0 : metric == INFER_METRIC_DOT ? dims : 0;
    const double step = metric == INFER_METRIC_COSINE ? 2.0 / dims
                        : metric == INFER_METRIC_DOT  ? 2.0
                                                      : 4.0;
    int32_t differ[VECTOR_BLOCK];

    view->kernels->vector.hamming(differ, query->bits, block->rows, block->n,
                                  (int32_t)view->row_bytes);
    for (int32_t i = 0; i < block->n; i++) {
        scores[i] = (float)(most - step * (double)differ[i]);
    }
}

static void score_floats(const struct vector_view *view, const struct vector_query *query,
                         const struct vector_block *block, float *scores)
{
    const struct kern_vector *k = &view->kernels->vector;
    const int32_t metric = view->shape.metric, type = view->shape.type;
    const int32_t rounded = type == INFER_INDEX_F16 || type == INFER_INDEX_BF16;
    float scales[VECTOR_BLOCK];

    if (type == INFER_INDEX_I8) {
        for (int32_t i = 0; i < block->n; i++) {
            scales[i] = block->notes[i]->factor;
        }
    }
    (metric == INFER_METRIC_L2 ? k->l2 : k->dot)[view->dtype](scores, query->values, block->rows,
                                                              scales, block->n, view->shape.dims);
    if (metric == INFER_METRIC_L2) {
        for (int32_t i = 0; i < block->n; i++) {
            scores[i] = -scores[i];
        }
    } else if (metric == INFER_METRIC_COSINE) {
        for (int32_t i = 0; i < block->n; i++) {
            const float s = rounded ? scores[i] * block->notes[i]->factor : scores[i];

            scores[i] = s > 1.0f ? 1.0f : s < -1.0f ? -1.0f : s;
        }
    }
}

void vector_block_score(const struct vector_block *block, const struct vector_view *view,
                        const struct vector_query *query, float *scores)
{
    if (view->n > 0 && view->shape.type == INFER_INDEX_BINARY) {
        score_bits(view, query, block, scores);
    } else if (view->n > 0) {
        score_floats(view, query, block, scores);
    }
    for (uint64_t rest = block->missing; rest; rest &= rest - 1) {
        scores[__builtin_ctzll(rest)] = -INFINITY;
    }
}

void vector_view_score(const struct vector_view *view, const struct vector_query *query,
                       const int32_t *rows, int32_t n, float *scores)
{
    struct vector_block block;

    for (int32_t at = 0; at < n; at += VECTOR_BLOCK) {
        vector_block_set(&block, view, rows + at, BASE_MIN(VECTOR_BLOCK, n - at));
        vector_block_score(&block, view, query, scores + at);
    }
}

float vector_distance(int32_t metric, float score)
{
    return metric == INFER_METRIC_COSINE ? 1.0f - score : 0.0f - score;
}
