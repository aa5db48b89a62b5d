/* Merging: rows that are not dead, one source behind the other. The graph of the largest source is
 * kept. Where a neighbour died, the living neighbours of the dead one are weighed beside those that
 * are left (FreshDiskANN, arXiv:2105.09613, algorithm 4). All other rows are put in as new ones. */
#include "base/error.h"
#include "vector/parts.h"

#define BLOCK 1024 /* rows that are copied, and linked, between two tellings of progress */
#define GONE  INT32_MAX

struct merge {
    struct vector_space *space;
    const struct vector_source *sources;
    int32_t n_sources, n_rows;
    int32_t base;                 /* the source whose graph is kept; -1: none */
    int32_t base_begin, base_end; /* its rows in the new space */
    int32_t *moved;               /* its old rows in the new space, GONE those that died */
    struct vector_view view;      /* of the new space */
    struct base_pool *pool;
    infer_progress_fn progress;
    void *user;
};

static int32_t source_rows(const struct vector_source *source)
{
    return BASE_MIN(source->n_rows, vector_space_size(source->space));
}

static int is_alive(const struct vector_source *source, int32_t row)
{
    return !source->dead || !(source->dead[row / 64] >> row % 64 & 1);
}

static int32_t count_alive(const struct vector_source *source)
{
    int32_t n = 0;

    for (int32_t row = 0; row < source_rows(source); row++) {
        n += is_alive(source, row);
    }
    return n;
}

static infer_status tell(const struct merge *m, double fraction, const char *stage)
{
    return m->progress && m->progress(fraction, stage, m->user)
               ? base_error(INFER_ERR_CANCELLED, "merging was cancelled")
               : INFER_OK;
}

/* The largest graph, if it makes half of the result and nine tenths of its own rows live. With a
 * fifth of them dead, mended lists find less: a hit in 150 was missing on 50,000 vectors of 384
 * dims where few candidates are kept; with a twelfth nothing was. */
static infer_status choose_base(struct merge *m)
{
    int32_t most = 0;
    int64_t begin = 0;

    m->base = -1;
    for (int32_t i = 0; i < m->n_sources; i++) {
        const struct vector_source *source = &m->sources[i];
        const struct vector_graph *graph =
            atomic_load_explicit(&source->space->graph, memory_order_acquire);
        const int32_t n = count_alive(source);

        if (graph && graph->degree > 0 && n > most &&
            (double)n >= 0.9 * (double)source_rows(source) &&
            graph->degree == m->space->config.degree) {
            most = n;
            m->base = i;
            m->base_begin = (int32_t)begin;
            m->base_end = (int32_t)(begin + n);
        }
        begin += n;
        if (begin > m->space->config.max_rows) {
            return base_error(INFER_ERR_LIMIT, "more than %d vectors to merge",
                              (int)m->space->config.max_rows);
        }
    }
    m->n_rows = (int32_t)begin;
    if (most < m->n_rows / 2) {
        m->base = -1;
    }
    return INFER_OK;
}

/* ------------------------------------------------------------------- rows */

static infer_status copy_source(struct merge *m, int32_t which, int32_t *done)
{
    const struct vector_source *source = &m->sources[which];
    const int32_t n = source_rows(source);
    struct vector_view from;
    int32_t rows[BLOCK], n_block = 0, first;
    infer_status status = INFER_OK;

    vector_vectors_view(source->space->vectors, &from);
    for (int32_t row = 0; row < n && !status; row++) {
        const int alive = is_alive(source, row);

        if (which == m->base) {
            m->moved[row] = alive ? *done + n_block : GONE;
        }
        if (alive) {
            rows[n_block++] = row;
        }
        if (n_block == BLOCK || (row == n - 1 && n_block > 0)) {
            status = vector_vectors_add_rows(m->space->vectors, &from, rows, n_block, &first);
            *done += n_block;
            n_block = 0;
            if (!status) {
                status = tell(m, 0.05 * (double)*done / (double)m->n_rows, "copying vectors");
            }
        }
    }
    return status;
}

/* ------------------------------------------------------------------ graph */

static void copy_links(const struct merge *m, struct vector_graph *graph,
                       const struct vector_graph_view *old, int32_t n_old)
{
    struct vector_graph_view view;

    vector_graph_view(graph, &view);
    for (int32_t row = 0; row < n_old; row++) {
        uint32_t from[VECTOR_DEGREE_MAX];
        _Atomic uint32_t *to;
        int32_t n = 0, n_from;

        if (m->moved[row] == GONE) {
            continue;
        }
        to = vector_graph_links(&view, m->moved[row]);
        n_from = vector_graph_read(old, row, from);
        for (int32_t i = 0; i < n_from; i++) {
            if (from[i] < (uint32_t)n_old && m->moved[from[i]] != GONE) {
                vector_link_set(to + n++, (uint32_t)m->moved[from[i]]);
            }
        }
        vector_graph_linked(graph, m->moved[row]);
    }
}

struct mend {
    const struct merge *merge;
    struct vector_graph *graph;
    struct vector_graph_view old;
    int32_t n_old;
    _Atomic int32_t next;
};

static int32_t add_once(int32_t *list, int32_t n, int32_t room, int32_t row)
{
    for (int32_t i = 0; i < n; i++) {
        if (list[i] == row) {
            return n;
        }
    }
    if (n < room) {
        list[n++] = row;
    }
    return n;
}

#define AMONG_MAX (4 * VECTOR_DEGREE_MAX)

/* Candidates of an old row in the new space; 0: no neighbour of it died. */
static int32_t gather(const struct mend *mend, int32_t row, int32_t *among)
{
    const struct merge *m = mend->merge;
    uint32_t links[VECTOR_DEGREE_MAX], beyond[VECTOR_DEGREE_MAX];
    const int32_t n_links = vector_graph_read(&mend->old, row, links);
    int32_t n = 0, n_gone = 0;

    for (int32_t i = 0; i < n_links; i++) {
        if (links[i] < (uint32_t)mend->n_old && m->moved[links[i]] != GONE) {
            n = add_once(among, n, AMONG_MAX, m->moved[links[i]]);
        }
    }
    for (int32_t i = 0; i < n_links; i++) {
        int32_t n_beyond;

        if (links[i] >= (uint32_t)mend->n_old || m->moved[links[i]] != GONE) {
            continue;
        }
        n_gone++;
        n_beyond = vector_graph_read(&mend->old, (int32_t)links[i], beyond);
        for (int32_t j = 0; j < n_beyond; j++) {
            if (beyond[j] < (uint32_t)mend->n_old && m->moved[beyond[j]] != GONE &&
                m->moved[beyond[j]] != m->moved[row]) {
                n = add_once(among, n, AMONG_MAX, m->moved[beyond[j]]);
            }
        }
    }
    return n_gone > 0 ? n : 0;
}

static void mend_some(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct mend *mend = arg;
    const struct merge *m = mend->merge;

    BASE_UNUSED(begin);
    BASE_UNUSED(end);
    for (;;) {
        const int32_t row = atomic_fetch_add_explicit(&mend->next, 1, memory_order_relaxed);
        int32_t among[AMONG_MAX], n;

        if (row >= mend->n_old) {
            return;
        }
        if (m->moved[row] == GONE) {
            continue;
        }
        n = gather(mend, row, among);
        if (n > 0) {
            vector_builder_choose(m->space->builders[thread], mend->graph, &m->view, m->moved[row],
                                  among, n);
        }
    }
}

static void keep_graph(struct merge *m, struct vector_graph *graph)
{
    const struct vector_source *source = &m->sources[m->base];
    const int32_t n_threads = m->pool ? base_pool_threads(m->pool) : 1;
    struct mend mend = {.merge = m, .graph = graph, .n_old = source_rows(source)};

    vector_graph_view(atomic_load_explicit(&source->space->graph, memory_order_acquire), &mend.old);
    copy_links(m, graph, &mend.old, mend.n_old);
    if (n_threads > 1 && n_threads <= m->space->n_builders) {
        base_pool_run(m->pool, mend_some, &mend, n_threads, 1);
    } else {
        mend_some(&mend, 0, 1, 0);
    }
}

static infer_status link_rows(struct merge *m, struct vector_graph *graph, int32_t from, int32_t to)
{
    infer_status status = INFER_OK;

    for (int32_t row = from; row < to && !status; row += BLOCK) {
        vector_build_links(m->space, graph, &m->view, row, BASE_MIN(row + BLOCK, to), m->pool);
        status = tell(m, 0.1 + 0.9 * (double)BASE_MIN(row + BLOCK, to) / (double)m->n_rows,
                      "building the graph");
    }
    return status;
}

static infer_status build_graph(struct merge *m)
{
    const int32_t n_threads = m->pool ? base_pool_threads(m->pool) : 1;
    struct vector_graph *graph = NULL;
    struct vector_coder *coder;
    infer_status status;

    vector_vectors_view(m->space->vectors, &m->view);
    status = vector_build_coder(m->space, &m->view, NULL, 0, &coder);
    if (!status) {
        status = vector_graph_create(&graph, &m->space->alloc, coder, m->space->config.degree);
    }
    if (!status) {
        status = vector_graph_reserve(graph, m->n_rows);
    }
    if (!status) {
        status = vector_build_reserve(m->space, coder, n_threads, m->n_rows);
    }
    if (!status) {
        vector_build_codes(m->space, graph, &m->view, 0, m->pool);
        if (m->base >= 0) {
            keep_graph(m, graph);
        }
        status = tell(m, 0.1, "building the graph");
    }
    if (!status && m->base >= 0) {
        status = link_rows(m, graph, 0, m->base_begin);
    }
    if (!status) {
        status = link_rows(m, graph, m->base >= 0 ? m->base_end : 0, m->n_rows);
    }
    if (status) {
        vector_graph_destroy(&graph);
        return status;
    }
    m->space->graph = graph;
    return INFER_OK;
}

static infer_status run(struct merge *m)
{
    int32_t done = 0;
    infer_status status = choose_base(m);

    if (!status && m->base >= 0) {
        m->moved = base_new(&m->space->alloc, (size_t)source_rows(&m->sources[m->base]),
                            sizeof(*m->moved));
        status = m->moved ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    for (int32_t i = 0; i < m->n_sources && !status; i++) {
        status = copy_source(m, i, &done);
    }
    if (!status && m->n_rows >= VECTOR_GRAPH_FROM) {
        status = build_graph(m);
    }
    base_free(&m->space->alloc, m->moved);
    return status;
}

infer_status vector_space_merge(struct vector_space **out, const struct vector_space_config *config,
                                const struct vector_source *sources, int32_t n,
                                struct base_pool *pool, infer_progress_fn progress, void *user)
{
    struct merge m = {
        .sources = sources, .n_sources = n, .pool = pool, .progress = progress, .user = user};
    infer_status status;

    for (int32_t i = 0; i < n; i++) {
        const struct vector_shape *shape = &sources[i].space->config.shape;

        if (shape->dims != config->shape.dims || shape->metric != config->shape.metric ||
            shape->type != config->shape.type) {
            return base_error(INFER_ERR_INVALID,
                              "source %d of a merge has vectors of another shape", (int)i);
        }
    }
    status = vector_space_create(&m.space, config);
    if (status) {
        return status;
    }
    status = run(&m);
    if (status) {
        vector_space_destroy(&m.space);
        return status;
    }
    *out = m.space;
    return INFER_OK;
}
