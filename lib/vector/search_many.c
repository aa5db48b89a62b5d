/* Many searches at once: exact ones over the same rows together, the others one a thread. */
#include "base/error.h"
#include "vector/flat.h"
#include "vector/parts.h"

#include <infer/index.h>

struct many {
    const struct vector_space *space;
    const struct vector_search *searches;
    struct vector_found *const *found;
    int32_t *n_found;
    struct vector_how *how;
    struct vector_scratch **scratches;
    int32_t n;
    const uint8_t *is_done;
    _Atomic int32_t next, status;
};

static void search_some(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct many *m = arg;

    BASE_UNUSED(begin);
    BASE_UNUSED(end);
    for (;;) {
        const int32_t i = atomic_fetch_add_explicit(&m->next, 1, memory_order_relaxed);
        infer_status status;

        if (i >= m->n) {
            return;
        }
        if (m->is_done[i]) {
            continue;
        }
        status = vector_search_run(m->space, m->scratches[thread], &m->searches[i], -1, m->found[i],
                                   &m->n_found[i], &m->how[i]);
        if (status) {
            atomic_store_explicit(&m->status, status, memory_order_relaxed);
        }
    }
}

static int goes_exactly(const struct vector_space *space, const struct vector_search *s)
{
    const int32_t n_rows = BASE_MIN(s->n_rows, vector_space_size(space));
    const int32_t n_allowed = s->allowed.bits ? BASE_MIN(s->allowed.n_set, n_rows) : n_rows;

    return BASE_MIN(s->k, n_allowed) > 0 &&
           vector_plan_make(space, atomic_load_explicit(&space->graph, memory_order_acquire), s,
                            n_rows, n_allowed, 1)
               .exact;
}

static int same_rows(const struct vector_search *a, const struct vector_search *b)
{
    return a->allowed.bits == b->allowed.bits && a->allowed.n == b->allowed.n &&
           a->dead == b->dead && a->n_rows == b->n_rows;
}

/* The exact searches over the rows of search number `first`, from there on. */
static infer_status search_together(const struct many *m, struct base_pool *pool, int32_t first,
                                    const uint8_t *is_exact, uint8_t *is_done,
                                    struct vector_flat_query *queries)
{
    const struct vector_search *search = &m->searches[first];
    const struct vector_flat flat = {.alloc = &m->space->alloc,
                                     .pool = pool,
                                     .allowed = search->allowed,
                                     .dead = search->dead,
                                     .n_rows = search->n_rows};
    struct vector_view view;
    infer_status status;
    int32_t n = 0;

    vector_vectors_view(m->space->vectors, &view);
    for (int32_t i = first; i < m->n; i++) {
        if (is_exact[i] && !is_done[i] && same_rows(search, &m->searches[i])) {
            queries[n++] = (struct vector_flat_query){
                .query = m->searches[i].query, .k = m->searches[i].k, .found = m->found[i]};
        }
    }
    status = vector_flat_search(&view, &flat, queries, n);
    n = 0;
    for (int32_t i = first; i < m->n && !status; i++) {
        if (is_exact[i] && !is_done[i] && same_rows(search, &m->searches[i])) {
            m->n_found[i] = queries[n].n_found;
            m->how[i] = (struct vector_how){.path = search->allowed.bits ? INFER_SEARCH_LIST
                                                                         : INFER_SEARCH_FLAT,
                                            .exact = 1,
                                            .n_compared = queries[n].n_compared};
            is_done[i] = 1;
            n++;
        }
    }
    return status;
}

infer_status vector_space_search_many(const struct vector_space *space, struct base_pool *pool,
                                      const struct vector_search *searches, int32_t n,
                                      struct vector_found *const *found, int32_t *n_found,
                                      struct vector_how *how)
{
    const struct base_alloc *a = &space->alloc;
    const int32_t n_threads = pool ? BASE_MIN(base_pool_threads(pool), VECTOR_THREADS_MAX) : 1;
    struct vector_scratch *scratches[VECTOR_THREADS_MAX] = {NULL};
    struct many m = {.space = space,
                     .searches = searches,
                     .found = found,
                     .n_found = n_found,
                     .how = how,
                     .scratches = scratches,
                     .n = n};
    struct vector_flat_query *queries = NULL;
    uint8_t *marks = NULL; /* is_exact, then is_done */
    infer_status status = INFER_OK;

    for (int32_t i = 0; i < n && !status; i++) {
        status = vector_vectors_check(&space->config.shape, searches[i].query, 1);
    }
    if (status || n <= 0) {
        return status;
    }
    marks = base_new(a, (size_t)n, 2);
    queries = base_new(a, (size_t)n, sizeof(*queries));
    if (!marks || !queries) {
        status = INFER_ERR_NO_MEMORY;
    }
    for (int32_t t = 0; t < n_threads && !status; t++) {
        status = vector_scratch_create(&scratches[t], a);
    }
    if (!status) {
        status = vector_card_search(space, pool, searches, n, found, n_found, how, marks + n);
    }
    for (int32_t i = 0; i < n && !status; i++) {
        marks[i] = n > 1 && !marks[n + i] && goes_exactly(space, &searches[i]);
    }
    for (int32_t i = 0; i < n && !status; i++) {
        if (marks[i] && !marks[n + i]) {
            status = search_together(&m, pool, i, marks, marks + n, queries);
        }
    }
    if (!status) {
        m.is_done = marks + n;
        if (n_threads > 1 && n > 1) {
            base_pool_run(pool, search_some, &m, n_threads, 1);
        } else {
            search_some(&m, 0, 1, 0);
        }
        status = m.status;
        if (status == INFER_ERR_NO_MEMORY) { /* said on another thread, perhaps */
            base_error(status, "out of memory while searching");
        }
    }
    for (int32_t t = 0; t < n_threads; t++) {
        vector_scratch_destroy(&scratches[t]);
    }
    base_free(a, marks);
    base_free(a, queries);
    return status;
}
