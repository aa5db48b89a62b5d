/* Partitions are made by k-means on a sample (Lloyd, 1982), after which every row goes to its
 * nearest centre. Distances are those of exact search, which multiplies bytes.
 *
 * Whatever the threads: rows find their centres one by one, and a centre sums its rows in their
 * order. */
#include "vector/partitions.h"

#include "base/error.h"
#include "base/rng.h"
#include "vector/flat.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define ROUNDS   4   /* more change what is read by a few percent */
#define SAMPLE   32  /* rows a centre that k-means goes by */
#define PER_ROOT 4.5 /* partitions: so many times the root of the rows */
#define CHUNK    512 /* rows that look for their centres at a time */

struct maker {
    const struct base_alloc *alloc;
    const struct vector_view *view;
    struct vector_shape shape; /* of the centres */
    struct vector_vectors *centres;
    int32_t n, n_sample;
    uint64_t seed;
    struct base_pool *pool;
    int32_t n_threads;
    int32_t all;                       /* not the sample but all rows */
    uint32_t *nearest;                 /* centre of each row (of the sample) */
    float *distance;                   /* from it */
    uint32_t *begin, *rows;            /* by centre; n + 1 and n_rows */
    float *values;                     /* CHUNK rows a thread */
    struct vector_flat_query *queries; /* and as queries */
    struct vector_found *found;
    float *sums; /* the next centres */
    _Atomic int32_t next, status;
};

/* The rows of the sample lie evenly, each at random within its stretch. */
static int32_t row_of(const struct maker *m, int32_t i)
{
    const int32_t n_rows = m->view->n;
    const int64_t from = (int64_t)i * n_rows / m->n_sample;
    const int64_t to = ((int64_t)i + 1) * n_rows / m->n_sample;

    return m->all ? i
                  : (int32_t)(from + (int64_t)(base_rng_uniform(m->seed, 0, (uint64_t)i) *
                                               (double)(to - from)));
}

static int32_t n_rows_of(const struct maker *m)
{
    return m->all ? m->view->n : m->n_sample;
}

static void each(struct maker *m, void (*fn)(void *, int32_t, int32_t, int32_t))
{
    m->next = 0;
    if (m->n_threads > 1) {
        base_pool_run(m->pool, fn, m, m->n_threads, 1);
    } else {
        fn(m, 0, 1, 0);
    }
}

/* --------------------------------------------------------------- assigning */

static infer_status assign_chunk(struct maker *m, int32_t from, int32_t n, int32_t thread)
{
    const size_t dims = (size_t)m->shape.dims, first = (size_t)thread * CHUNK;
    const struct vector_flat flat = {.alloc = m->alloc, .n_rows = m->n};
    struct vector_flat_query *queries = m->queries + first;
    struct vector_view centres;
    infer_status status;

    vector_vectors_view(m->centres, &centres);
    for (int32_t i = 0; i < n; i++) {
        float *values = m->values + (first + (size_t)i) * dims;

        vector_view_load(m->view, row_of(m, from + i), values);
        queries[i] = (struct vector_flat_query){
            .query = values, .k = 1, .found = m->found + first + (size_t)i};
    }
    status = vector_flat_search(&centres, &flat, queries, n);
    for (int32_t i = 0; i < n && !status; i++) {
        const struct vector_found *found = queries[i].found;
        const int32_t is_cosine = m->shape.metric == INFER_METRIC_COSINE;

        m->nearest[from + i] = queries[i].n_found ? (uint32_t)found->row : 0;
        /* of vectors of length 1, the squared distance is twice that of the cosine */
        m->distance[from + i] =
            queries[i].n_found ? fmaxf(0.0f, found->distance * (is_cosine ? 2.0f : 1.0f)) : 0.0f;
    }
    return status;
}

static void assign_some(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct maker *m = arg;
    const int32_t n = n_rows_of(m);

    BASE_UNUSED(begin);
    BASE_UNUSED(end);
    for (;;) {
        const int32_t chunk = atomic_fetch_add_explicit(&m->next, 1, memory_order_relaxed);
        infer_status status;

        if (chunk >= BASE_DIV_UP(n, CHUNK)) {
            return;
        }
        status = assign_chunk(m, chunk * CHUNK, BASE_MIN(CHUNK, n - chunk * CHUNK), thread);
        if (status) {
            atomic_store_explicit(&m->status, status, memory_order_relaxed);
        }
    }
}

/* Rows by centre, in their order. */
static void sort_rows(struct maker *m)
{
    const int32_t n = n_rows_of(m);

    memset(m->begin, 0, ((size_t)m->n + 1) * sizeof(*m->begin));
    for (int32_t i = 0; i < n; i++) {
        m->begin[m->nearest[i]]++;
    }
    for (int32_t c = 0, sum = 0; c <= m->n; c++) {
        const int32_t count = c < m->n ? (int32_t)m->begin[c] : 0;

        m->begin[c] = (uint32_t)sum;
        sum += count;
    }
    for (int32_t i = 0; i < n; i++) {
        m->rows[m->begin[m->nearest[i]]++] = (uint32_t)i;
    }
    memmove(m->begin + 1, m->begin, (size_t)m->n * sizeof(*m->begin));
    m->begin[0] = 0;
}

/* Each row to its nearest centre. */
static infer_status assign(struct maker *m)
{
    each(m, assign_some);
    if (m->status) {
        return base_error(m->status, "out of memory while making partitions");
    }
    sort_rows(m);
    return INFER_OK;
}

/* ----------------------------------------------------------------- centres */

static infer_status set_centres(struct maker *m)
{
    const struct vector_space_config config = {
        .alloc = m->alloc, .kernels = m->view->kernels, .shape = m->shape};
    int32_t first;
    infer_status status;

    if (m->centres) {
        vector_vectors_destroy(&m->centres);
    }
    status = vector_vectors_create(&m->centres, &config);
    return status ? status : vector_vectors_add(m->centres, m->sums, m->n, &first, NULL);
}

static double square_of(const float *x, int32_t n)
{
    double sum = 0.0;

    for (int32_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

/* The mean of a centre's rows. Where there are none, or where they cancel out and their mean has no
 * direction, some row of the sample. */
static void make_mean(struct maker *m, int32_t c, float *values)
{
    const int32_t dims = m->shape.dims;
    const uint32_t from = m->begin[c], to = m->begin[c + 1];
    float *sum = m->sums + (size_t)c * (size_t)dims;
    const float scale = 1.0f / (float)BASE_MAX(1u, to - from);

    memset(sum, 0, (size_t)dims * sizeof(*sum));
    for (uint32_t i = from; i < to; i++) {
        vector_view_load(m->view, row_of(m, (int32_t)m->rows[i]), values);
        for (int32_t d = 0; d < dims; d++) {
            sum[d] += values[d];
        }
    }
    for (int32_t d = 0; d < dims; d++) {
        sum[d] *= scale;
    }
    if (from == to || (m->shape.metric == INFER_METRIC_COSINE && square_of(sum, dims) < 1e-12)) {
        vector_view_load(m->view, row_of(m, (int32_t)((int64_t)c * m->n_sample / m->n)), sum);
    }
}

static void make_some_means(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct maker *m = arg;
    float *values = m->values + (size_t)thread * CHUNK * (size_t)m->shape.dims;

    BASE_UNUSED(begin);
    BASE_UNUSED(end);
    for (;;) {
        const int32_t c = atomic_fetch_add_explicit(&m->next, 1, memory_order_relaxed);

        if (c >= m->n) {
            return;
        }
        make_mean(m, c, values);
    }
}

static infer_status find_centres(struct maker *m)
{
    infer_status status;

    for (int32_t c = 0; c < m->n; c++) {
        vector_view_load(m->view, row_of(m, (int32_t)((int64_t)c * m->n_sample / m->n)),
                         m->sums + (size_t)c * (size_t)m->shape.dims);
    }
    status = set_centres(m);
    for (int32_t round = 0; round < ROUNDS && !status; round++) {
        status = assign(m);
        if (!status) {
            each(m, make_some_means);
            status = set_centres(m);
        }
    }
    return status;
}

/* ------------------------------------------------------------- the result */

/* What is kept lies in one piece, without the partitions that nothing is in. */
static infer_status finish(struct maker *m, const struct vector_coder *coder,
                           struct vector_partitions **out)
{
    const size_t slot = (size_t)coder->slot, n_rows = (size_t)m->view->n;
    struct vector_partitions *p = base_new(m->alloc, 1, sizeof(*p));
    float *room = base_new(m->alloc, vector_coder_room(coder), sizeof(*room)), *radius;
    struct vector_view centres;
    uint32_t *begin;
    uint8_t *codes;
    int32_t n = 0;

    for (int32_t c = 0; c < m->n; c++) {
        n += m->begin[c] < m->begin[c + 1];
    }
    if (p) {
        p->bytes = (uint64_t)n * slot + ((uint64_t)n * 2 + 1 + n_rows) * 4;
        p->own = base_new(m->alloc, 1, p->bytes);
        p->alloc = *m->alloc;
    }
    if (!p || !room || !p->own) {
        base_free(m->alloc, room);
        vector_partitions_destroy(&p);
        return INFER_ERR_NO_MEMORY;
    }
    codes = p->own;
    begin = (uint32_t *)(void *)(codes + (size_t)n * slot);
    radius = (float *)(void *)(begin + n + 1);
    memcpy(radius + n, m->rows, n_rows * sizeof(*m->rows));
    vector_vectors_view(m->centres, &centres);
    n = 0;
    for (int32_t c = 0; c < m->n; c++) {
        double sum = 0.0;

        if (m->begin[c] == m->begin[c + 1]) {
            continue;
        }
        for (uint32_t i = m->begin[c]; i < m->begin[c + 1]; i++) {
            sum += (double)m->distance[m->rows[i]];
        }
        begin[n] = m->begin[c];
        radius[n] = (float)sqrt(sum / (double)(m->begin[c + 1] - m->begin[c]));
        vector_view_load(&centres, c, m->values);
        vector_coder_encode(coder, codes + (size_t)n * slot, m->values, room);
        n++;
    }
    begin[n] = (uint32_t)n_rows;
    base_free(m->alloc, room);
    p->far = INFINITY;
    p->n = n;
    p->n_rows = m->view->n;
    p->slot = slot;
    p->begin = begin;
    p->radius = radius;
    p->rows = (const uint32_t *)(const void *)(radius + n);
    p->codes = codes;
    p->bytes += sizeof(*p);
    *out = p;
    return INFER_OK;
}

infer_status vector_partitions_build(struct vector_partitions **out, const struct base_alloc *a,
                                     const struct vector_view *view,
                                     const struct vector_coder *coder, uint64_t seed,
                                     struct base_pool *pool)
{
    const size_t n_rows = (size_t)view->n, dims = (size_t)view->shape.dims;
    struct maker m = {.alloc = a, .view = view, .seed = seed, .pool = pool, .shape = view->shape};
    size_t n_room;
    infer_status status = INFER_ERR_NO_MEMORY;

    m.n = BASE_MIN(BASE_MAX(1, (int32_t)(PER_ROOT * sqrt((double)n_rows))), view->n);
    m.n_sample = (int32_t)BASE_MIN((int64_t)view->n, (int64_t)m.n * SAMPLE);
    m.n_threads = pool ? base_pool_threads(pool) : 1;
    m.shape.type = INFER_INDEX_F32;
    if (m.shape.metric == INFER_METRIC_DOT) { /* near ones have like products with any query */
        m.shape.metric = INFER_METRIC_L2;
    }
    n_room = (size_t)m.n_threads * CHUNK;
    m.nearest = base_new(a, n_rows, sizeof(*m.nearest));
    m.distance = base_new(a, n_rows, sizeof(*m.distance));
    m.begin = base_new(a, (size_t)m.n + 1, sizeof(*m.begin));
    m.rows = base_new(a, n_rows, sizeof(*m.rows));
    m.values = base_new(a, n_room * dims, sizeof(*m.values));
    m.queries = base_new(a, n_room, sizeof(*m.queries));
    m.found = base_new(a, n_room, sizeof(*m.found));
    m.sums = base_new(a, (size_t)m.n * dims, sizeof(*m.sums));
    if (m.nearest && m.distance && m.begin && m.rows && m.values && m.queries && m.found &&
        m.sums) {
        status = find_centres(&m);
    }
    if (!status) {
        m.all = 1;
        status = assign(&m);
    }
    if (!status) {
        status = finish(&m, coder, out);
    }
    if (m.centres) {
        vector_vectors_destroy(&m.centres);
    }
    base_free(a, m.nearest);
    base_free(a, m.distance);
    base_free(a, m.begin);
    base_free(a, m.rows);
    base_free(a, m.values);
    base_free(a, m.queries);
    base_free(a, m.found);
    base_free(a, m.sums);
    return status;
}
