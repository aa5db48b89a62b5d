/* The graph over the rows of a space, one layer of lists of neighbours, beside the rows' codes. It
 * grows in chunks that never move, or lies in a mapped file, where lists are packed.
 *
 * Readers take no lock. A list is `degree` links, each read and written as a whole; while a writer
 * changes it, a reader may see some of the old ones and some of the new. A link's row has its code
 * and vector before the link is there; whoever reads leaves out rows that it does not know of, and
 * no damaged number leads anywhere else.
 *
 * A walk begins at the best of some hubs: about as many rows as the root of all, whose codes lie
 * side by side. */
#ifndef VECTOR_GRAPH_H
#define VECTOR_GRAPH_H

#include "vector/codes.h"
#include "vector/graph_list.h"
#include "vector/vectors.h"

#include <stdatomic.h>

#define VECTOR_NO_LINK     UINT32_MAX /* ends a list that is not full */
#define VECTOR_DEGREE_MAX  128
#define VECTOR_GRAPH_LOCKS 1024

struct vector_graph_chunk {
    uint8_t *codes; /* NULL: BINARY, whose rows are as short as codes */
    _Atomic uint32_t *links;
    const uint8_t *packed; /* of a file, in place of links */
};

struct vector_hubs {
    struct vector_hubs *before; /* readers may be in it */
    int32_t room;
    _Atomic int32_t n;
    int32_t *rows;
    uint8_t *codes;
};

struct vector_graph_directory;

struct vector_graph {
    struct base_alloc alloc;
    struct vector_coder *coder; /* NULL: BINARY */
    int32_t degree, shift;
    int32_t is_fixed;
    struct vector_list_shape lists; /* fixed */
    int32_t n_chunks;
    _Atomic(struct vector_graph_directory *) directory;
    _Atomic(struct vector_hubs *) hubs;
    _Atomic int32_t n_linked; /* rows that were put in */
    _Atomic uint64_t bytes;
    atomic_flag hub_lock;
    atomic_flag locks[VECTOR_GRAPH_LOCKS]; /* of the lists, by row */
};

/* What was there when it was taken. */
struct vector_graph_view {
    const struct vector_graph_chunk *chunks;
    const struct vector_coder *coder;
    const int32_t *hubs;
    const uint8_t *hub_codes;
    int32_t n_hubs, degree, shift;
    int32_t is_packed;
    struct vector_list_shape lists; /* packed ones */
    size_t slot, list_bytes;
};

/* Takes the coder. */
infer_status vector_graph_create(struct vector_graph **out, const struct base_alloc *a,
                                 struct vector_coder *coder, int32_t degree);
void vector_graph_destroy(struct vector_graph **graph);
/* Room for so many rows, after which adding them cannot fail. */
infer_status vector_graph_reserve(struct vector_graph *graph, int32_t n_rows);
void vector_graph_view(const struct vector_graph *graph, struct vector_graph_view *view);
uint64_t vector_graph_bytes(const struct vector_graph *graph);

void vector_graph_lock(struct vector_graph *graph, int32_t row);
void vector_graph_unlock(struct vector_graph *graph, int32_t row);
/* Says that a row has its links; from time to time it becomes a hub. */
void vector_graph_linked(struct vector_graph *graph, int32_t row);

/* Where codes have room for them the notes of the rows go there. */
infer_status vector_graph_write(const struct vector_graph *graph, const struct vector_view *rows,
                                struct vector_file_writer *writer);
/* n_rows rows of a file, which outlives the graph. */
infer_status vector_graph_open(struct vector_graph **out, const struct base_alloc *a,
                               const struct infer_kernels *kernels,
                               const struct vector_shape *shape, const struct vector_file *file,
                               int32_t n_rows);

/* The notes that lie in the codes of a file, coder->slot bytes from one to the next, or NULL. */
const struct vector_note *vector_graph_notes(const struct vector_graph *graph);

static inline size_t vector_graph_inside(const struct vector_graph_view *view, int32_t row)
{
    return (size_t)((uint32_t)row & ((1u << view->shift) - 1));
}

static inline uint8_t *vector_graph_code(const struct vector_graph_view *view, int32_t row)
{
    return view->chunks[row >> view->shift].codes + vector_graph_inside(view, row) * view->slot;
}

/* Of a graph that grows. */
static inline _Atomic uint32_t *vector_graph_links(const struct vector_graph_view *view,
                                                   int32_t row)
{
    return view->chunks[row >> view->shift].links +
           vector_graph_inside(view, row) * (size_t)view->degree;
}

static inline uint32_t vector_link_get(const _Atomic uint32_t *link)
{
    return atomic_load_explicit(link, memory_order_relaxed);
}

/* Where a list is, for bringing it to the cache. */
static inline const uint8_t *vector_graph_list(const struct vector_graph_view *view, int32_t row)
{
    return view->is_packed ? view->chunks[0].packed + (size_t)row * view->list_bytes
                           : (const uint8_t *)(const void *)vector_graph_links(view, row);
}

/* The links of a row, `degree` at most; of a damaged file they may lead nowhere. */
int32_t vector_graph_read(const struct vector_graph_view *view, int32_t row, uint32_t *links);

static inline void vector_link_set(_Atomic uint32_t *link, uint32_t row)
{
    atomic_store_explicit(link, row, memory_order_relaxed);
}

#endif
