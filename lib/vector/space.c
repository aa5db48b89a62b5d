/* Spaces: what is made, grows, is written and opened again. */
#include "base/error.h"
#include "vector/parts.h"

#include <infer/index.h>
#include <string.h>

#define EFFORT_MAX 4096
#define FORMAT     1 /* of the sections; 0, which nobody published, had links of 32 bits */

struct space_head {
    int32_t dims, metric, type, n_rows, degree, effort, has_graph, format;
    uint64_t seed;
    int32_t pace[VECTOR_PACE_KS][VECTOR_PACE_LEVELS];
};

infer_status vector_check_shape(const struct vector_shape *shape)
{
    if (shape->dims < 1 || shape->dims > VECTOR_DIMS_MAX) {
        return base_error(INFER_ERR_INVALID, "dims is %d, not 1 to %d", (int)shape->dims,
                          VECTOR_DIMS_MAX);
    }
    if (shape->metric < INFER_METRIC_COSINE || shape->metric > INFER_METRIC_L2) {
        return base_error(INFER_ERR_INVALID, "metric is %d, not one of infer_metric",
                          (int)shape->metric);
    }
    if (shape->type < INFER_INDEX_F32 || shape->type > INFER_INDEX_BINARY) {
        return base_error(INFER_ERR_INVALID, "type is %d, not one of infer_index_type",
                          (int)shape->type);
    }
    return INFER_OK;
}

static infer_status new_space(struct vector_space **out, const struct vector_space_config *config)
{
    struct vector_space *space = NULL;
    infer_status status = vector_check_shape(&config->shape);

    if (status) {
        return status;
    }
    if (config->degree < 4 || config->degree > VECTOR_DEGREE_MAX || config->effort < 8 ||
        config->effort > EFFORT_MAX) {
        return base_error(INFER_ERR_INVALID,
                          "a graph of degree %d and effort %d, not 4 to %d and 8 to %d",
                          (int)config->degree, (int)config->effort, VECTOR_DEGREE_MAX, EFFORT_MAX);
    }
    space = base_new(config->alloc, 1, sizeof(*space));
    if (!space) {
        return INFER_ERR_NO_MEMORY;
    }
    space->alloc = *config->alloc;
    space->config = *config;
    space->config.alloc = &space->alloc;
    if (config->no_graph && config->shape.type != INFER_INDEX_BINARY) {
        space->config.degree = 0;
    }
    if (config->max_rows <= 0 || config->max_rows > VECTOR_ROWS_MAX) {
        space->config.max_rows = VECTOR_ROWS_MAX;
    }
    if (config->card) {
        status = vector_copy_create(&space->copy, &space->alloc, config->card);
    }
    if (status) {
        vector_space_destroy(&space);
        return status;
    }
    *out = space;
    return INFER_OK;
}

infer_status vector_space_create(struct vector_space **out,
                                 const struct vector_space_config *config)
{
    struct vector_space *space = NULL;
    infer_status status = new_space(&space, config);

    if (status) {
        return status;
    }
    status = vector_vectors_create(&space->vectors, &space->config);
    if (status) {
        vector_space_destroy(&space);
        return status;
    }
    *out = space;
    return INFER_OK;
}

void vector_space_destroy(struct vector_space **space_ptr)
{
    struct vector_space *space = *space_ptr;
    struct vector_partitions *partitions;
    struct vector_graph *graph;
    struct base_alloc a;

    *space_ptr = NULL;
    if (!space) {
        return;
    }
    a = space->alloc;
    vector_copy_destroy(&space->copy);
    graph = atomic_load_explicit(&space->graph, memory_order_acquire);
    vector_graph_destroy(&graph);
    partitions = atomic_load_explicit(&space->partitions, memory_order_acquire);
    vector_partitions_destroy(&partitions);
    for (int32_t i = 0; i < space->n_builders; i++) {
        vector_builder_destroy(&space->builders[i]);
    }
    if (space->vectors) {
        vector_vectors_destroy(&space->vectors);
    }
    base_free(&a, space);
}

/* ---------------------------------------------------------------- growing */

/* The graph for `total` rows, n of which are yet to come; *made tells whether it is new. */
static infer_status ready_graph(struct vector_space *space, const float *vectors, int32_t n,
                                int32_t total, int32_t n_threads, struct vector_graph **out,
                                int32_t *made)
{
    struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_relaxed);
    struct vector_coder *coder;
    struct vector_view view;
    infer_status status = INFER_OK;

    *out = NULL;
    *made = !graph;
    if (!graph && total < VECTOR_GRAPH_FROM) {
        *made = 0;
        return INFER_OK;
    }
    if (!graph) {
        vector_vectors_view(space->vectors, &view);
        status = vector_build_coder(space, &view, vectors, n, &coder);
        if (!status) {
            status = vector_graph_create(&graph, &space->alloc, coder, space->config.degree);
        }
        if (status) {
            return status;
        }
    }
    status = vector_graph_reserve(graph, total);
    if (!status) {
        status = vector_build_reserve(space, graph->coder, n_threads, total);
    }
    if (status && *made) {
        vector_graph_destroy(&graph);
    }
    *out = graph;
    return status;
}

infer_status vector_space_add(struct vector_space *space, const float *vectors, int32_t n,
                              int32_t *first, struct base_pool *pool)
{
    const int32_t before = vector_space_size(space);
    const int32_t n_threads = pool && n > 1 ? base_pool_threads(pool) : 1;
    struct vector_graph *graph;
    struct vector_view view;
    int32_t made, from;
    infer_status status;

    if (space->is_fixed) {
        return base_error(INFER_ERR_UNSUPPORTED, "vectors in a file are not added to");
    }
    if (n <= 0) {
        *first = before;
        return INFER_OK;
    }
    if (n > space->config.max_rows - before) {
        return base_error(INFER_ERR_LIMIT, "%d vectors more than %d are over the limit of %d",
                          (int)n, (int)before, (int)space->config.max_rows);
    }
    status = vector_vectors_check(&space->config.shape, vectors, n);
    if (!status) {
        status = ready_graph(space, vectors, n, before + n, n_threads, &graph, &made);
    }
    if (status) {
        return status;
    }
    status = vector_vectors_add(space->vectors, vectors, n, first, pool);
    if (status || !graph) {
        if (made) {
            vector_graph_destroy(&graph);
        }
        return status;
    }
    from = made ? 0 : before;
    vector_vectors_view(space->vectors, &view);
    vector_build_codes(space, graph, &view, from, pool);
    vector_build_links(space, graph, &view, from, view.n, pool);
    atomic_store_explicit(&space->graph, graph, memory_order_release);
    return INFER_OK;
}

int32_t vector_space_size(const struct vector_space *space)
{
    return vector_vectors_size(space->vectors);
}

void vector_space_get(const struct vector_space *space, int32_t row, float *out)
{
    struct vector_view view;

    vector_vectors_view(space->vectors, &view);
    vector_view_get(&view, row, out);
}

int32_t vector_space_lacks_graph(const struct vector_space *space)
{
    const struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_acquire);

    return !space->config.no_graph && graph && graph->degree == 0;
}

uint64_t vector_space_bytes(const struct vector_space *space)
{
    const struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_acquire);
    const struct vector_partitions *partitions =
        atomic_load_explicit(&space->partitions, memory_order_acquire);
    uint64_t bytes = sizeof(*space) + vector_vectors_bytes(space->vectors) +
                     (graph ? vector_graph_bytes(graph) : 0) + (partitions ? partitions->bytes : 0);

    for (int32_t i = 0; i < space->n_builders; i++) {
        bytes += vector_builder_bytes(space->builders[i]);
    }
    return bytes;
}

/* ------------------------------------------------------------------ files */

infer_status vector_space_write(const struct vector_space *space, struct vector_file_writer *writer)
{
    const struct vector_partitions *partitions =
        atomic_load_explicit(&space->partitions, memory_order_acquire);
    const struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_acquire);
    struct space_head head = {.dims = space->config.shape.dims,
                              .metric = space->config.shape.metric,
                              .type = space->config.shape.type,
                              .degree = space->config.degree,
                              .effort = space->config.effort,
                              .has_graph = graph != NULL,
                              .format = FORMAT,
                              .seed = space->config.seed};
    struct vector_view rows;
    infer_status status;

    vector_vectors_view(space->vectors, &rows);
    head.n_rows = rows.n;
    for (int32_t i = 0; i < VECTOR_PACE_KS; i++) {
        for (int32_t j = 0; j < VECTOR_PACE_LEVELS; j++) {
            head.pace[i][j] = atomic_load_explicit(&space->pace[i][j], memory_order_relaxed);
        }
    }
    status = vector_file_section(writer, "space.head", &head, sizeof(head));
    if (!status) {
        status = vector_vectors_write(space->vectors,
                                      !(graph && graph->coder && graph->coder->note_at), writer);
    }
    if (!status && graph) {
        status = vector_graph_write(graph, &rows, writer);
    }
    return status || !partitions ? status : vector_partitions_write(partitions, writer);
}

static infer_status check_head(const struct space_head *head, const struct vector_shape *shape,
                               const char *path)
{
    if (head->format != FORMAT) {
        return base_error(INFER_ERR_FORMAT,
                          "%s has vectors in format %d, this version reads %d: make it anew", path,
                          (int)head->format, FORMAT);
    }
    if (head->dims != shape->dims || head->metric != shape->metric || head->type != shape->type) {
        return base_error(INFER_ERR_FORMAT,
                          "%s has vectors of %d dims, metric %d and type %d, not %d, %d and %d",
                          path, (int)head->dims, (int)head->metric, (int)head->type,
                          (int)shape->dims, (int)shape->metric, (int)shape->type);
    }
    if (head->n_rows < 0 || head->n_rows > VECTOR_ROWS_MAX) {
        return base_error(INFER_ERR_FORMAT, "%s names %d vectors, not 0 to %d", path,
                          (int)head->n_rows, VECTOR_ROWS_MAX);
    }
    for (int32_t i = 0; i < VECTOR_PACE_KS; i++) {
        for (int32_t j = 0; j < VECTOR_PACE_LEVELS; j++) {
            const int32_t before = j > 0 ? head->pace[i][j - 1] : 0;

            if (head->pace[i][j] < before) {
                return base_error(
                    INFER_ERR_FORMAT,
                    "%s names %d candidates for a recall of %g, fewer than %d for less", path,
                    (int)head->pace[i][j], (double)vector_pace_levels[j], (int)before);
            }
        }
    }
    return INFER_OK;
}

infer_status vector_space_open(struct vector_space **out, const struct vector_space_config *config,
                               const struct vector_file *file)
{
    struct vector_space *space = NULL;
    struct vector_partitions *partitions = NULL;
    struct vector_graph *graph = NULL;
    struct space_head head;
    const void *data;
    infer_status status = vector_file_array(file, "space.head", &data, 1, sizeof(head));

    if (status) {
        return status;
    }
    memcpy(&head, data, sizeof(head));
    status = check_head(&head, &config->shape, vector_file_path(file));
    if (!status) {
        status = new_space(&space, config);
    }
    if (status) {
        return status;
    }
    space->is_fixed = 1;
    space->config.seed = head.seed;
    for (int32_t i = 0; i < VECTOR_PACE_KS; i++) {
        for (int32_t j = 0; j < VECTOR_PACE_LEVELS; j++) {
            space->pace[i][j] = head.pace[i][j];
        }
    }
    if (head.has_graph) {
        status = vector_graph_open(&graph, &space->alloc, space->config.kernels,
                                   &space->config.shape, file, head.n_rows);
    }
    space->graph = graph;
    if (!status) {
        status = vector_vectors_open(&space->vectors, &space->config, file, head.n_rows,
                                     graph ? vector_graph_notes(graph) : NULL,
                                     graph && graph->coder ? (size_t)graph->coder->slot : 0);
    }
    if (!status && graph && graph->coder) {
        status = vector_partitions_open(&partitions, &space->alloc, file, head.n_rows,
                                        (size_t)graph->coder->slot);
    }
    space->partitions = partitions;
    if (status) {
        vector_space_destroy(&space);
        return status;
    }
    *out = space;
    return INFER_OK;
}
