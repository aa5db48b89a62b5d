/* Lists of neighbours and codes: chunks that grow, hubs, sections of a file. */
#include "vector/graph.h"

#include "base/error.h"

#include <infer/index.h>
#include <math.h>
#include <sched.h>
#include <string.h>

#define SHIFT       12 /* a chunk that grows has 4096 rows */
#define FIXED_SHIFT 31 /* one chunk has all */
#define SPINS       64

/* Grows by a larger copy; those before stay, since readers may be in them. */
struct vector_graph_directory {
    struct vector_graph_directory *before;
    int32_t room;
    struct vector_graph_chunk chunks[];
};

static size_t slot_of(const struct vector_graph *graph)
{
    return graph->coder ? (size_t)graph->coder->slot : 0;
}

static infer_status grow_directory(struct vector_graph *graph, int32_t room)
{
    struct vector_graph_directory *before =
        atomic_load_explicit(&graph->directory, memory_order_relaxed);
    const size_t bytes = sizeof(*before) + (size_t)room * sizeof(before->chunks[0]);
    struct vector_graph_directory *d = base_new(&graph->alloc, 1, bytes);

    if (!d) {
        return INFER_ERR_NO_MEMORY;
    }
    d->before = before;
    d->room = room;
    if (before) {
        memcpy(d->chunks, before->chunks, (size_t)graph->n_chunks * sizeof(d->chunks[0]));
    }
    graph->bytes += bytes;
    atomic_store_explicit(&graph->directory, d, memory_order_release);
    return INFER_OK;
}

static infer_status grow_hubs(struct vector_graph *graph, int32_t room)
{
    struct vector_hubs *before = atomic_load_explicit(&graph->hubs, memory_order_relaxed);
    const int32_t n = before ? before->n : 0;
    const size_t slot = slot_of(graph);
    struct vector_hubs *h = base_new(&graph->alloc, 1, sizeof(*h));

    if (!h) {
        return INFER_ERR_NO_MEMORY;
    }
    h->before = before;
    h->room = room;
    h->rows = base_new(&graph->alloc, (size_t)room, sizeof(*h->rows));
    h->codes = base_new(&graph->alloc, (size_t)room, BASE_MAX(slot, (size_t)1));
    if (!h->rows || !h->codes) {
        base_free(&graph->alloc, h->rows);
        base_free(&graph->alloc, h->codes);
        base_free(&graph->alloc, h);
        return INFER_ERR_NO_MEMORY;
    }
    if (before) {
        memcpy(h->rows, before->rows, (size_t)n * sizeof(*h->rows));
        memcpy(h->codes, before->codes, (size_t)n * slot);
    }
    h->n = n;
    graph->bytes += sizeof(*h) + (size_t)room * (sizeof(*h->rows) + slot);
    atomic_store_explicit(&graph->hubs, h, memory_order_release);
    return INFER_OK;
}

static infer_status new_graph(struct vector_graph **out, const struct base_alloc *a,
                              struct vector_coder *coder, int32_t degree)
{
    struct vector_graph *graph = base_new(a, 1, sizeof(*graph));

    if (!graph) {
        vector_coder_destroy(&coder);
        return INFER_ERR_NO_MEMORY;
    }
    graph->alloc = *a;
    graph->coder = coder;
    graph->degree = degree;
    graph->shift = SHIFT;
    graph->bytes = sizeof(*graph) + (coder ? vector_coder_bytes(coder) : 0);
    atomic_flag_clear(&graph->hub_lock);
    for (int32_t i = 0; i < VECTOR_GRAPH_LOCKS; i++) {
        atomic_flag_clear(&graph->locks[i]);
    }
    *out = graph;
    return INFER_OK;
}

infer_status vector_graph_create(struct vector_graph **out, const struct base_alloc *a,
                                 struct vector_coder *coder, int32_t degree)
{
    struct vector_graph *graph;
    infer_status status = new_graph(&graph, a, coder, degree);

    if (status) {
        return status;
    }
    status = grow_directory(graph, 8);
    if (!status) {
        status = grow_hubs(graph, 64);
    }
    if (status) {
        vector_graph_destroy(&graph);
        return status;
    }
    *out = graph;
    return INFER_OK;
}

void vector_graph_destroy(struct vector_graph **graph_ptr)
{
    struct vector_graph *graph = *graph_ptr;
    const size_t rows = (size_t)1 << SHIFT;
    struct base_alloc a;
    struct vector_graph_directory *d;
    struct vector_hubs *h;

    *graph_ptr = NULL;
    if (!graph) {
        return;
    }
    a = graph->alloc;
    d = atomic_load_explicit(&graph->directory, memory_order_relaxed);
    h = atomic_load_explicit(&graph->hubs, memory_order_relaxed);
    for (int32_t i = 0; d && !graph->is_fixed && i < graph->n_chunks; i++) {
        base_free_pages(&a, d->chunks[i].codes, rows * slot_of(graph));
        base_free_pages(&a, (void *)d->chunks[i].links,
                        rows * (size_t)graph->degree * sizeof(uint32_t));
    }
    while (d) {
        struct vector_graph_directory *before = d->before;

        base_free(&a, d);
        d = before;
    }
    while (h) {
        struct vector_hubs *before = h->before;

        if (!graph->is_fixed) {
            base_free(&a, h->rows);
            base_free(&a, h->codes);
        }
        base_free(&a, h);
        h = before;
    }
    vector_coder_destroy(&graph->coder);
    base_free(&a, graph);
}

uint64_t vector_graph_bytes(const struct vector_graph *graph)
{
    return graph->bytes;
}

/* ---------------------------------------------------------------- growing */

static infer_status add_chunk(struct vector_graph *graph)
{
    const size_t rows = (size_t)1 << SHIFT, slot = slot_of(graph);
    const size_t link_bytes = (size_t)graph->degree * sizeof(uint32_t);
    struct vector_graph_directory *d =
        atomic_load_explicit(&graph->directory, memory_order_relaxed);
    struct vector_graph_chunk chunk = {NULL, NULL, NULL};

    if (graph->n_chunks == d->room) {
        infer_status status = grow_directory(graph, d->room * 2);

        if (status) {
            return status;
        }
        d = atomic_load_explicit(&graph->directory, memory_order_relaxed);
    }
    chunk.links = base_new_pages(&graph->alloc, rows * link_bytes);
    chunk.codes = slot > 0 ? base_new_pages(&graph->alloc, rows * slot) : NULL;
    if (!chunk.links || (slot > 0 && !chunk.codes)) {
        base_free_pages(&graph->alloc, (void *)chunk.links, rows * link_bytes);
        base_free_pages(&graph->alloc, chunk.codes, rows * slot);
        return INFER_ERR_NO_MEMORY;
    }
    memset((void *)chunk.links, 0xff, rows * link_bytes); /* VECTOR_NO_LINK */
    d->chunks[graph->n_chunks++] = chunk;
    graph->bytes += rows * (slot + link_bytes);
    return INFER_OK;
}

infer_status vector_graph_reserve(struct vector_graph *graph, int32_t n_rows)
{
    struct vector_hubs *hubs = atomic_load_explicit(&graph->hubs, memory_order_relaxed);
    const int32_t n_hubs = (int32_t)sqrt((double)n_rows) + 2;
    infer_status status = INFER_OK;

    if (hubs->room < n_hubs) {
        status = grow_hubs(graph, BASE_MAX(n_hubs, hubs->room * 2));
    }
    while (!status && (int64_t)graph->n_chunks << SHIFT < n_rows) {
        status = add_chunk(graph);
    }
    return status;
}

void vector_graph_view(const struct vector_graph *graph, struct vector_graph_view *view)
{
    const struct vector_graph_directory *d =
        atomic_load_explicit(&graph->directory, memory_order_acquire);
    const struct vector_hubs *h = atomic_load_explicit(&graph->hubs, memory_order_acquire);

    view->chunks = d->chunks;
    view->coder = graph->coder;
    view->hubs = h->rows;
    view->hub_codes = h->codes;
    view->n_hubs = atomic_load_explicit(&h->n, memory_order_acquire);
    view->degree = graph->degree;
    view->shift = graph->shift;
    view->slot = slot_of(graph);
    view->is_packed = graph->is_fixed;
    view->lists = graph->lists;
    view->list_bytes =
        graph->is_fixed ? graph->lists.bytes : (size_t)graph->degree * sizeof(uint32_t);
}

int32_t vector_graph_read(const struct vector_graph_view *view, int32_t row, uint32_t *links)
{
    const uint32_t none = view->is_packed ? view->lists.none : VECTOR_NO_LINK;
    int32_t n = 0;

    for (; n < view->degree; n++) {
        links[n] = view->is_packed ? vector_list_get(&view->lists, vector_graph_list(view, row),
                                                     (uint32_t)(n * view->lists.bits))
                                   : vector_link_get(vector_graph_links(view, row) + n);
        if (links[n] == none) {
            break;
        }
    }
    return n;
}

static void lock_flag(atomic_flag *flag)
{
    for (int32_t spins = 0; atomic_flag_test_and_set_explicit(flag, memory_order_acquire);
         spins++) {
        if (spins >= SPINS) { /* who has it may have lost its processor */
            sched_yield();
        }
    }
}

void vector_graph_lock(struct vector_graph *graph, int32_t row)
{
    lock_flag(&graph->locks[row % VECTOR_GRAPH_LOCKS]);
}

void vector_graph_unlock(struct vector_graph *graph, int32_t row)
{
    atomic_flag_clear_explicit(&graph->locks[row % VECTOR_GRAPH_LOCKS], memory_order_release);
}

void vector_graph_linked(struct vector_graph *graph, int32_t row)
{
    const int32_t n_before = atomic_fetch_add_explicit(&graph->n_linked, 1, memory_order_relaxed);
    struct vector_hubs *h = atomic_load_explicit(&graph->hubs, memory_order_relaxed);
    int32_t n = atomic_load_explicit(&h->n, memory_order_relaxed);

    if ((int64_t)n * n > n_before) {
        return;
    }
    lock_flag(&graph->hub_lock);
    n = atomic_load_explicit(&h->n, memory_order_relaxed);
    if (n < h->room && (int64_t)n * n <= n_before) {
        struct vector_graph_view view;

        vector_graph_view(graph, &view);
        h->rows[n] = row;
        if (view.slot > 0) {
            memcpy(h->codes + (size_t)n * view.slot, vector_graph_code(&view, row), view.slot);
        }
        atomic_store_explicit(&h->n, n + 1, memory_order_release);
    }
    atomic_flag_clear_explicit(&graph->hub_lock, memory_order_release);
}

/* ------------------------------------------------------------------ files */

struct graph_head {
    int32_t n_rows, n_hubs, degree, bits;
    uint64_t seed;
    float noise;
    uint32_t zero;
};

static infer_status write_lists(const struct vector_graph_view *view, int32_t n_rows,
                                struct vector_file_writer *writer)
{
    static const uint8_t tail[VECTOR_LIST_TAIL];
    const struct vector_list_shape lists = vector_list_shape(n_rows, view->degree);
    infer_status status = vector_file_begin(writer, "graph.links", 64);

    for (int32_t row = 0; row < n_rows && !status; row++) {
        uint32_t links[VECTOR_DEGREE_MAX];
        uint8_t list[VECTOR_DEGREE_MAX * sizeof(uint32_t)];
        int32_t n = 0;
        const int32_t n_links = vector_graph_read(view, row, links);

        for (int32_t i = 0; i < n_links; i++) {
            links[n] = links[i];
            n += links[i] < (uint32_t)n_rows;
        }
        vector_list_pack(&lists, list, links, n);
        status = vector_file_append(writer, list, lists.bytes);
    }
    return status ? status : vector_file_append(writer, tail, sizeof(tail));
}

static infer_status write_codes(const struct vector_graph_view *view,
                                const struct vector_view *rows, struct vector_file_writer *writer)
{
    const struct vector_coder *coder = view->coder;
    const size_t own = coder->note_at ? (size_t)coder->note_at : view->slot;
    infer_status status = vector_file_begin(writer, "graph.codes", 64);

    for (int32_t row = 0; row < rows->n && !status; row++) {
        status = vector_file_append(writer, vector_graph_code(view, row), own);
        if (!status && own < view->slot) {
            status = vector_file_append(writer, vector_view_note(rows, row), view->slot - own);
        }
    }
    if (!status) {
        status = vector_file_section(writer, "graph.centre", coder->centre,
                                     (size_t)coder->dims * sizeof(*coder->centre));
    }
    if (!status) {
        status = vector_file_section(writer, "graph.hub_codes", view->hub_codes,
                                     (size_t)view->n_hubs * view->slot);
    }
    return status;
}

infer_status vector_graph_write(const struct vector_graph *graph, const struct vector_view *rows,
                                struct vector_file_writer *writer)
{
    struct vector_graph_view view;
    struct graph_head head = {.n_rows = rows->n, .degree = graph->degree};
    infer_status status;

    vector_graph_view(graph, &view);
    head.n_hubs = view.n_hubs;
    if (view.coder) {
        head.bits = view.coder->bits;
        head.seed = view.coder->seed;
        head.noise = view.coder->noise;
    }
    status = vector_file_section(writer, "graph.head", &head, sizeof(head));
    if (!status) {
        status = vector_file_section(writer, "graph.hubs", view.hubs,
                                     (size_t)view.n_hubs * sizeof(*view.hubs));
    }
    if (!status) {
        status = write_lists(&view, rows->n, writer);
    }
    return status || !view.coder ? status : write_codes(&view, rows, writer);
}

static infer_status open_coder(struct vector_coder **out, const struct base_alloc *a,
                               const struct infer_kernels *kernels,
                               const struct vector_shape *shape, const struct vector_file *file,
                               const struct graph_head *head)
{
    const void *centre;
    infer_status status =
        vector_file_array(file, "graph.centre", &centre, (size_t)shape->dims, sizeof(float));

    if (!status) {
        status = vector_coder_create(out, a, kernels, shape, head->seed, centre);
    }
    if (!status && (*out)->bits != head->bits) {
        status = base_error(INFER_ERR_FORMAT, "%s has codes of %d bits where %d were expected",
                            vector_file_path(file), (int)head->bits, (int)(*out)->bits);
        vector_coder_destroy(out);
    }
    if (!status) {
        (*out)->noise = head->noise > 0.0f && head->noise < 1e18f ? head->noise : 0.0f;
    }
    return status;
}

/* The arrays of a file, in one chunk. */
static infer_status map_arrays(struct vector_graph *graph, const struct vector_file *file,
                               const struct graph_head *head)
{
    struct vector_graph_directory *d =
        atomic_load_explicit(&graph->directory, memory_order_relaxed);
    struct vector_hubs *h = base_new(&graph->alloc, 1, sizeof(*h));
    const void *links, *rows, *codes = NULL, *hub_codes = NULL;
    const size_t slot = slot_of(graph);
    infer_status status;

    if (!h) {
        return INFER_ERR_NO_MEMORY;
    }
    atomic_store_explicit(&graph->hubs, h, memory_order_relaxed);
    graph->bytes += sizeof(*h);
    status = vector_file_array(file, "graph.links", &links,
                               (size_t)head->n_rows * graph->lists.bytes + VECTOR_LIST_TAIL, 1);
    if (!status) {
        status =
            vector_file_array(file, "graph.hubs", &rows, (size_t)head->n_hubs, sizeof(int32_t));
    }
    if (!status && slot > 0) {
        status = vector_file_array(file, "graph.codes", &codes, (size_t)head->n_rows, slot);
    }
    if (!status && slot > 0) {
        status = vector_file_array(file, "graph.hub_codes", &hub_codes, (size_t)head->n_hubs, slot);
    }
    if (status) {
        return status;
    }
    /* Of what is fixed nothing is written. */
    d->chunks[0] =
        (struct vector_graph_chunk){.codes = (uint8_t *)(uintptr_t)codes, .packed = links};
    graph->n_chunks = 1;
    h->room = head->n_hubs;
    h->n = head->n_hubs;
    h->rows = (int32_t *)(uintptr_t)rows;
    h->codes = (uint8_t *)(uintptr_t)hub_codes;
    return INFER_OK;
}

infer_status vector_graph_open(struct vector_graph **out, const struct base_alloc *a,
                               const struct infer_kernels *kernels,
                               const struct vector_shape *shape, const struct vector_file *file,
                               int32_t n_rows)
{
    struct vector_coder *coder = NULL;
    struct vector_graph *graph;
    struct graph_head head;
    const void *data;
    infer_status status = vector_file_array(file, "graph.head", &data, 1, sizeof(head));

    if (status) {
        return status;
    }
    memcpy(&head, data, sizeof(head));
    if (head.n_rows != n_rows || head.n_hubs < 0 || head.n_hubs > n_rows || head.degree < 0 ||
        head.degree > VECTOR_DEGREE_MAX) {
        return base_error(INFER_ERR_FORMAT,
                          "%s has a graph of %d rows, %d hubs and degree %d over %d vectors",
                          vector_file_path(file), (int)head.n_rows, (int)head.n_hubs,
                          (int)head.degree, (int)n_rows);
    }
    if ((shape->type == INFER_INDEX_BINARY) != (head.bits == 0)) {
        return base_error(INFER_ERR_FORMAT, "%s has codes of %d bits, which its type does not take",
                          vector_file_path(file), (int)head.bits);
    }
    if (head.bits != 0) {
        status = open_coder(&coder, a, kernels, shape, file, &head);
    }
    if (!status) {
        status = new_graph(&graph, a, coder, head.degree);
    }
    if (status) {
        return status;
    }
    graph->is_fixed = 1;
    graph->lists = vector_list_shape(n_rows, head.degree);
    graph->shift = FIXED_SHIFT;
    graph->n_linked = n_rows;
    status = grow_directory(graph, 1);
    if (!status) {
        status = map_arrays(graph, file, &head);
    }
    if (status) {
        vector_graph_destroy(&graph);
        return status;
    }
    *out = graph;
    return INFER_OK;
}

const struct vector_note *vector_graph_notes(const struct vector_graph *graph)
{
    const struct vector_graph_directory *d =
        atomic_load_explicit(&graph->directory, memory_order_relaxed);

    return graph->is_fixed && graph->coder && graph->coder->note_at
               ? (const struct vector_note *)(const void *)(d->chunks[0].codes +
                                                            graph->coder->note_at)
               : NULL;
}
