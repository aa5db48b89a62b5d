/* Building: candidates by a walk, of which those become neighbours that no other one stands before
 * (Malkov and Yashunin, arXiv:1603.09320, algorithm 4), and links back from these.
 *
 * Distances between candidates are those of their bytes, made on the way and kept in the cache.
 * Spaces of DOT are built by Euclidean distance: the largest product with a query is the nearest
 * neighbour of a point far out in its direction, so that a walk by products ends where it should.
 */
#include "vector/build.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define GROUP 4 /* neighbours that a candidate is compared with at a time */

struct near_row { /* a row as bytes */
    const void *bytes;
    float scale, square; /* of the bytes; its squared length */
};

struct vector_builder {
    struct base_alloc alloc;
    struct vector_shape shape;
    int32_t degree, effort;
    struct vector_walk_room walk;
    float *values;    /* a row */
    float *coding;    /* room of coding; NULL: no codes */
    void *query_room; /* of struct vector_query */
    void *code_room;  /* of struct vector_code_query; NULL: no codes */
    uint8_t *bytes;   /* near_bytes each, for the base, a candidate and all neighbours */
    size_t near_bytes, n_bytes;
    struct near_row near[VECTOR_DEGREE_MAX + 2];
    int32_t n_sorted;
    struct sorted {
        float distance;
        int32_t row;
    } * sorted;
    int32_t *rows;
    float *scores;
};

infer_status vector_builder_create(struct vector_builder **out, const struct base_alloc *a,
                                   const struct vector_shape *shape,
                                   const struct vector_coder *coder, int32_t degree, int32_t effort)
{
    struct vector_builder *b = base_new(a, 1, sizeof(*b));

    if (!b) {
        return INFER_ERR_NO_MEMORY;
    }
    b->alloc = *a;
    b->shape = *shape;
    b->degree = degree;
    b->effort = effort;
    vector_walk_room_init(&b->walk, a);
    b->near_bytes = BASE_ALIGN_UP((size_t)shape->dims, (size_t)64);
    b->n_sorted = BASE_MAX(effort + 4, degree + 1);
    b->n_bytes = b->near_bytes * ((size_t)degree + 2);
    b->values = base_new(a, (size_t)shape->dims, sizeof(*b->values));
    b->query_room = base_new(a, 1, vector_query_bytes(shape));
    b->code_room = coder ? base_new(a, 1, vector_code_query_bytes(coder)) : NULL;
    b->coding = coder ? base_new(a, vector_coder_room(coder), sizeof(*b->coding)) : NULL;
    b->bytes = base_new(a, 1, b->n_bytes);
    b->sorted = base_new(a, (size_t)b->n_sorted, sizeof(*b->sorted));
    b->rows = base_new(a, (size_t)b->n_sorted, sizeof(*b->rows));
    b->scores = base_new(a, (size_t)b->n_sorted, sizeof(*b->scores));
    if (!b->values || !b->query_room || (coder && (!b->code_room || !b->coding)) || !b->bytes ||
        !b->sorted || !b->rows || !b->scores) {
        vector_builder_destroy(&b);
        return INFER_ERR_NO_MEMORY;
    }
    *out = b;
    return INFER_OK;
}

void vector_builder_destroy(struct vector_builder **builder)
{
    struct vector_builder *b = *builder;
    struct base_alloc a;

    *builder = NULL;
    if (!b) {
        return;
    }
    a = b->alloc;
    vector_walk_room_release(&b->walk);
    base_free(&a, b->values);
    base_free(&a, b->query_room);
    base_free(&a, b->code_room);
    base_free(&a, b->coding);
    base_free(&a, b->bytes);
    base_free(&a, b->sorted);
    base_free(&a, b->rows);
    base_free(&a, b->scores);
    base_free(&a, b);
}

uint64_t vector_builder_bytes(const struct vector_builder *b)
{
    return sizeof(*b) + b->n_bytes + b->walk.n_words * 8 + (uint64_t)b->walk.n_list * 8 +
           (uint64_t)b->n_sorted * 16 + (uint64_t)b->shape.dims * 4;
}

infer_status vector_builder_reserve(struct vector_builder *b, int32_t n_rows)
{
    return vector_walk_room_reserve(&b->walk, n_rows, b->effort + 1);
}

/* --------------------------------------------------- distances among rows */

/* Lengths are those of the bytes, so that copies of a vector are at distance 0. */
static void near_load(struct vector_builder *b, const struct vector_view *v, int32_t at,
                      int32_t row)
{
    const void *from = vector_view_row(v, row);
    struct near_row *near = &b->near[at];
    const struct vector_note *note;
    int32_t sum;

    near->bytes = from;
    if (b->shape.type == INFER_INDEX_BINARY) {
        return;
    }
    note = vector_view_note(v, row);
    near->scale = note->scale * note->factor;
    if (b->shape.type != INFER_INDEX_I8) {
        int8_t *bytes = (int8_t *)b->bytes + (size_t)at * b->near_bytes;

        v->kernels->vector.code[v->dtype](
            bytes, from, note->scale > 0.0f ? 1.0f / note->scale : 0.0f, b->shape.dims);
        near->bytes = bytes;
    }
    v->kernels->vector.dot_i8(&sum, near->bytes, &near->bytes, 1, b->shape.dims);
    near->square = near->scale * near->scale * (float)sum;
}

/* Squared distances of row `at` from the rows first .. first + n - 1, GROUP at most. */
static void near_distances(const struct vector_builder *b, const struct vector_view *v, int32_t at,
                           int32_t first, int32_t n, float *distances)
{
    const struct near_row *near = &b->near[at];
    const void *rows[GROUP];
    int32_t sums[GROUP];

    for (int32_t i = 0; i < n; i++) {
        rows[i] = b->near[first + i].bytes;
    }
    if (b->shape.type == INFER_INDEX_BINARY) {
        v->kernels->vector.hamming(sums, near->bytes, rows, n, (int32_t)v->row_bytes);
        for (int32_t i = 0; i < n; i++) {
            distances[i] = (float)sums[i];
        }
        return;
    }
    v->kernels->vector.dot_i8(sums, near->bytes, rows, n, b->shape.dims);
    for (int32_t i = 0; i < n; i++) {
        const struct near_row *other = &b->near[first + i];

        distances[i] =
            near->square + other->square - 2.0f * (near->scale * other->scale * (float)sums[i]);
    }
}

/* As near_distances(), from a score. */
static float distance_of(const struct vector_builder *b, const struct vector_view *v,
                         const struct vector_query *query, int32_t row, float score)
{
    const float dims = (float)b->shape.dims;

    if (b->shape.type == INFER_INDEX_BINARY) {
        return b->shape.metric == INFER_METRIC_COSINE ? (1.0f - score) * dims * 0.5f
               : b->shape.metric == INFER_METRIC_DOT  ? (dims - score) * 0.5f
                                                      : score * -0.25f;
    }
    if (b->shape.metric == INFER_METRIC_COSINE) {
        return 2.0f - 2.0f * score;
    }
    if (b->shape.metric == INFER_METRIC_DOT) {
        const float length = vector_view_note(v, row)->length;

        return (float)(query->length * query->length) + length * length - 2.0f * score;
    }
    return -score;
}

/* They come nearly in order. Of copies the newest comes first, so that each leads to the next. */
static void sort_nearest_first(struct sorted *list, int32_t n)
{
    for (int32_t i = 1; i < n; i++) {
        const struct sorted x = list[i];
        int32_t to = i;

        while (to > 0 && (list[to - 1].distance > x.distance ||
                          (list[to - 1].distance == x.distance && list[to - 1].row < x.row))) {
            list[to] = list[to - 1];
            to--;
        }
        list[to] = x;
    }
}

/* ------------------------------------------------------------ neighbours */

/* Whether the candidate in place `n` is nearer to one of the n neighbours than to the row itself,
 * or a copy of one. */
static int is_behind(const struct vector_builder *b, const struct vector_view *v, int32_t n)
{
    float distances[GROUP], distance;

    near_distances(b, v, n, b->degree + 1, 1, &distance);
    for (int32_t at = 0; at < n; at += GROUP) {
        const int32_t part = BASE_MIN(GROUP, n - at);

        near_distances(b, v, n, at, part, distances);
        for (int32_t i = 0; i < part; i++) {
            if (distances[i] < distance || distances[i] <= 0.0f) {
                return 1;
            }
        }
    }
    return 0;
}

/* Chooses neighbours of `row` among n sorted candidates. Where few are left, as among copies of one
 * vector, the nearest of the others fill half the list. */
static int32_t choose(struct vector_builder *b, const struct vector_view *v, int32_t row, int32_t n,
                      uint32_t *links)
{
    int32_t behind[VECTOR_DEGREE_MAX / 2], n_behind = 0, n_links = 0;

    near_load(b, v, b->degree + 1, row);
    for (int32_t i = 0; i < n && n_links < b->degree; i++) {
        near_load(b, v, n_links, b->sorted[i].row);
        if (!is_behind(b, v, n_links)) {
            links[n_links++] = (uint32_t)b->sorted[i].row;
        } else if (n_behind < b->degree / 2) {
            behind[n_behind++] = b->sorted[i].row;
        }
    }
    for (int32_t i = 0; i < n_behind && n_links < b->degree / 2; i++) {
        links[n_links++] = (uint32_t)behind[i];
    }
    return n_links;
}

static void set_links(const struct vector_builder *b, _Atomic uint32_t *list, const uint32_t *links,
                      int32_t n)
{
    for (int32_t i = 0; i < b->degree; i++) {
        vector_link_set(list + i, i < n ? links[i] : VECTOR_NO_LINK);
    }
}

/* Sorts rows by their distance from `row`, by bytes. */
static void sort_around(struct vector_builder *b, const struct vector_view *v, int32_t row,
                        int32_t n)
{
    const int32_t base = b->degree + 1;

    near_load(b, v, base, row);
    for (int32_t i = 0; i < n; i++) {
        const int32_t ahead = b->sorted[BASE_MIN(i + 2, n - 1)].row;

        for (size_t at = 0; at < v->row_bytes; at += 64) {
            __builtin_prefetch((const uint8_t *)vector_view_row(v, ahead) + at);
        }
        near_load(b, v, 0, b->sorted[i].row);
        near_distances(b, v, base, 0, 1, &b->sorted[i].distance);
    }
    sort_nearest_first(b->sorted, n);
}

/* Makes `row` a neighbour of `to`, or weighs it against those that are there. */
static void link_back(struct vector_builder *b, struct vector_graph *graph,
                      const struct vector_graph_view *view, const struct vector_view *v, int32_t to,
                      int32_t row)
{
    _Atomic uint32_t *list = vector_graph_links(view, to);
    uint32_t links[VECTOR_DEGREE_MAX];
    int32_t n = 0;

    vector_graph_lock(graph, to);
    while (n < b->degree && vector_link_get(list + n) != VECTOR_NO_LINK &&
           vector_link_get(list + n) != (uint32_t)row) {
        b->sorted[n].row = (int32_t)vector_link_get(list + n);
        n++;
    }
    if (n < b->degree) {
        vector_link_set(list + n, (uint32_t)row); /* a new one, or the same again */
    } else {
        b->sorted[n++].row = row;
        sort_around(b, v, to, n);
        n = choose(b, v, to, n, links);
        set_links(b, list, links, n);
    }
    vector_graph_unlock(graph, to);
}

/* Rows near the one whose values are in b->values, nearest first. */
static int32_t find_candidates(struct vector_builder *b, const struct vector_graph_view *view,
                               const struct vector_view *v, int32_t row)
{
    struct vector_query query;
    struct vector_code_query code;
    struct vector_walk walk = {.graph = view,
                               .vectors = v,
                               .query = &query,
                               .n_rows = v->n,
                               .ef = b->effort,
                               .room = b->effort,
                               .effort = INT32_MAX,
                               .without = row};

    vector_query_set(&query, b->query_room, v, b->values);
    if (b->code_room) {
        vector_code_query_set(&code, b->code_room, view->coder, query.values, VECTOR_ORDER_BUILD);
        walk.code = &code;
    }
    vector_walk_run(&walk, &b->walk);
    for (int32_t i = 0; i < walk.n; i++) {
        b->rows[i] = (int32_t)(walk.list[i].row & VECTOR_ROW_BITS);
    }
    vector_view_score(v, &query, b->rows, walk.n, b->scores);
    for (int32_t i = 0; i < walk.n; i++) {
        b->sorted[i].row = b->rows[i];
        b->sorted[i].distance = distance_of(b, v, &query, b->rows[i], b->scores[i]);
    }
    sort_nearest_first(b->sorted, walk.n);
    return walk.n;
}

void vector_builder_code(struct vector_builder *b, struct vector_graph *graph,
                         const struct vector_view *v, int32_t row)
{
    struct vector_graph_view view;

    vector_graph_view(graph, &view);
    vector_view_load(v, row, b->values);
    vector_coder_encode(graph->coder, vector_graph_code(&view, row), b->values, b->coding);
}

void vector_builder_insert(struct vector_builder *b, struct vector_graph *graph,
                           const struct vector_view *v, int32_t row)
{
    struct vector_graph_view view;
    uint32_t links[VECTOR_DEGREE_MAX];
    int32_t n;

    vector_graph_view(graph, &view);
    vector_view_load(v, row, b->values);
    n = find_candidates(b, &view, v, row);
    n = choose(b, v, row, n, links);
    vector_graph_lock(graph, row);
    set_links(b, vector_graph_links(&view, row), links, n);
    vector_graph_unlock(graph, row);
    for (int32_t i = 0; i < n; i++) {
        link_back(b, graph, &view, v, (int32_t)links[i], row);
    }
    vector_graph_linked(graph, row);
}

void vector_builder_choose(struct vector_builder *b, struct vector_graph *graph,
                           const struct vector_view *v, int32_t row, const int32_t *among,
                           int32_t n)
{
    struct vector_graph_view view;
    uint32_t links[VECTOR_DEGREE_MAX];

    n = BASE_MIN(n, b->n_sorted);
    for (int32_t i = 0; i < n; i++) {
        b->sorted[i].row = among[i];
    }
    sort_around(b, v, row, n);
    n = choose(b, v, row, n, links);
    vector_graph_view(graph, &view);
    vector_graph_lock(graph, row);
    set_links(b, vector_graph_links(&view, row), links, n);
    vector_graph_unlock(graph, row);
    for (int32_t i = 0; i < n; i++) {
        link_back(b, graph, &view, v, (int32_t)links[i], row);
    }
}
