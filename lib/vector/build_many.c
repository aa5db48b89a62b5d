/* Codes and links of many rows, on all threads of a pool. */
#include "vector/parts.h"

#include <infer/index.h>
#include <string.h>

#define FIRST_ROWS  64   /* put in by one thread, so that the others find a graph */
#define TAKEN       8    /* rows that a thread takes at a time */
#define CENTRE_ROWS 8192 /* that a centre is the mean of */
#define NOISE_ROWS  256

infer_status vector_build_reserve(struct vector_space *space, const struct vector_coder *coder,
                                  int32_t n_threads, int32_t n_rows)
{
    infer_status status = INFER_OK;

    n_threads = BASE_MIN(n_threads, VECTOR_THREADS_MAX);
    while (!status && space->n_builders < n_threads) {
        status = vector_builder_create(&space->builders[space->n_builders], &space->alloc,
                                       &space->config.shape, coder, space->config.degree,
                                       space->config.effort);
        space->n_builders += !status;
    }
    for (int32_t i = 0; i < n_threads && !status; i++) {
        status = vector_builder_reserve(space->builders[i], n_rows);
    }
    return status;
}

/* ---------------------------------------------------------------- centre */

static void add_to(double *sum, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        sum[i] += (double)x[i];
    }
}

static float measure_noise(const struct vector_coder *coder, const struct vector_view *view,
                           const float *more, int32_t n, float *values, float *room, uint8_t *slot)
{
    const int32_t total = view->n + n, step = BASE_MAX(1, total / NOISE_ROWS);
    double sum = 0.0;
    int32_t count = 0;

    for (int32_t i = 0; i < total; i += step, count++) {
        if (i < view->n) {
            vector_view_load(view, i, values);
        } else if (coder->metric == INFER_METRIC_COSINE) {
            coder->kernels->vector.normalize(
                values, more + (size_t)(i - view->n) * (size_t)coder->dims, coder->dims);
        } else {
            memcpy(values, more + (size_t)(i - view->n) * (size_t)coder->dims,
                   (size_t)coder->dims * sizeof(*values));
        }
        sum += (double)vector_coder_encode(coder, slot, values, room);
    }
    return (float)(sum / (double)BASE_MAX(count, 1));
}

infer_status vector_build_coder(struct vector_space *space, const struct vector_view *view,
                                const float *more, int32_t n, struct vector_coder **out)
{
    const struct vector_shape *shape = &space->config.shape;
    const struct infer_kernels *kernels = space->config.kernels;
    const int32_t dims = shape->dims, total = view->n + n;
    const int32_t step = BASE_MAX(1, total / CENTRE_ROWS);
    struct vector_coder *coder = NULL;
    double *sum;
    float *values = NULL, *room = NULL;
    uint8_t *slot = NULL;
    int32_t count = 0;
    infer_status status;

    *out = NULL;
    if (shape->type == INFER_INDEX_BINARY) {
        return INFER_OK;
    }
    status = vector_coder_create(&coder, &space->alloc, kernels, shape, space->config.seed, NULL);
    if (status) {
        return status;
    }
    sum = base_new(&space->alloc, (size_t)dims, sizeof(*sum));
    values = base_new(&space->alloc, (size_t)dims, sizeof(*values));
    room = base_new(&space->alloc, vector_coder_room(coder), sizeof(*room));
    slot = base_new(&space->alloc, 1, (size_t)coder->slot);
    if (!sum || !values || !room || !slot) {
        vector_coder_destroy(&coder);
        status = INFER_ERR_NO_MEMORY;
    }
    for (int32_t i = 0; i < total && !status; i += step, count++) {
        if (i < view->n) {
            vector_view_load(view, i, values);
            add_to(sum, values, dims);
        } else if (shape->metric == INFER_METRIC_COSINE) {
            kernels->vector.normalize(values, more + (size_t)(i - view->n) * (size_t)dims, dims);
            add_to(sum, values, dims);
        } else {
            add_to(sum, more + (size_t)(i - view->n) * (size_t)dims, dims);
        }
    }
    if (!status) {
        for (int32_t i = 0; i < dims; i++) {
            coder->centre[i] = (float)(sum[i] / (double)BASE_MAX(count, 1));
        }
        coder->noise = measure_noise(coder, view, more, n, values, room, slot);
    }
    base_free(&space->alloc, sum);
    base_free(&space->alloc, values);
    base_free(&space->alloc, room);
    base_free(&space->alloc, slot);
    *out = coder;
    return status;
}

/* --------------------------------------------------------------- threads */

struct work {
    struct vector_space *space;
    struct vector_graph *graph;
    const struct vector_view *view;
    int32_t to;
    _Atomic int32_t next;
    void (*one)(struct vector_builder *builder, struct vector_graph *graph,
                const struct vector_view *view, int32_t row);
};

static void work_on(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct work *work = arg;
    struct vector_builder *builder = work->space->builders[thread];

    BASE_UNUSED(begin);
    BASE_UNUSED(end);
    for (;;) {
        const int32_t from = atomic_fetch_add_explicit(&work->next, TAKEN, memory_order_relaxed);

        if (from >= work->to) {
            return;
        }
        for (int32_t row = from; row < BASE_MIN(from + TAKEN, work->to); row++) {
            work->one(builder, work->graph, work->view, row);
        }
    }
}

static void run(struct work *work, int32_t from, struct base_pool *pool)
{
    const int32_t n_threads = pool ? base_pool_threads(pool) : 1;

    work->next = from;
    if (n_threads > 1 && n_threads <= work->space->n_builders && work->to - from > TAKEN) {
        base_pool_run(pool, work_on, work, n_threads, 1);
    } else {
        work_on(work, 0, 1, 0);
    }
}

void vector_build_codes(struct vector_space *space, struct vector_graph *graph,
                        const struct vector_view *view, int32_t from, struct base_pool *pool)
{
    struct work work = {
        .space = space, .graph = graph, .view = view, .to = view->n, .one = vector_builder_code};

    if (graph->coder) {
        run(&work, from, pool);
    }
}

void vector_build_links(struct vector_space *space, struct vector_graph *graph,
                        const struct vector_view *view, int32_t from, int32_t to,
                        struct base_pool *pool)
{
    const int32_t n_linked = atomic_load_explicit(&graph->n_linked, memory_order_relaxed);
    struct work work = {.space = space, .graph = graph, .view = view, .one = vector_builder_insert};

    if (graph->degree == 0) { /* codes alone */
        return;
    }
    if (n_linked < FIRST_ROWS) {
        work.to = BASE_MIN(to, from + FIRST_ROWS);
        run(&work, from, NULL);
        from = work.to;
    }
    work.to = to;
    run(&work, from, pool);
}
