/* Queries: each part is searched, and what the parts found is put together by score. */
#include "base/error.h"
#include "vector/filter.h"
#include "vector/state.h"
#include "vector/sums.h"

#include <math.h>
#include <string.h>

#define SLICE      1024 /* queries that are answered together */
#define POOL_LEAST 4    /* fewer do not pay for waking threads */

/* A query on its way. */
struct asked {
    const struct vector_query *q;
    const struct vector_filter *filter;
    const float *vector;
    int32_t same;            /* the query before has the same namespace and filter */
    int32_t self, self_part; /* the record that it asks with; -1: none */
    int32_t k;               /* with room for self */
    struct vector_found *best, *found, *spare;
    int32_t *parts, *spare_parts; /* where each of best is */
    int32_t n_best;
    infer_search_info info;
    int64_t largest; /* rows of the part that info.path is of */
};

struct run {
    struct infer_index *index;
    struct index_view view;
    struct asked *asked;
    int32_t n;
    struct base_arena arena;
    struct vector_search *searches;
    struct vector_found **found;
    struct vector_how *how;
    int32_t *n_found, *which;
    struct index_allowed *allowed, **of; /* of: each query's */
};

/* ------------------------------------------------------------------- checking */

static infer_status check_query(const struct infer_index *index, const struct vector_query *q,
                                size_t i)
{
    const double sum = q->vector ? vector_sum_sizes(q->vector, index->traits.dims) : 1;
    if (q->k < 1 || q->k > VECTOR_TOP_K_MAX || !(q->recall > 0 && q->recall <= 1) || q->ef < 0)
        return base_error(INFER_ERR_INVALID,
                          "query %zu: top_k is %d, recall %g and ef %d, expected 1 to %d, above 0 "
                          "up to 1, and none below 0",
                          i, q->k, (double)q->recall, q->ef, VECTOR_TOP_K_MAX);
    for (int32_t d = 0; !isfinite(sum) && d < index->traits.dims; d++)
        if (!isfinite(q->vector[d]))
            return base_error(INFER_ERR_INVALID, "query %zu: element %d of its vector is no number",
                              i, d);
    if (sum == 0 && index->traits.metric == INFER_METRIC_COSINE)
        return base_error(
            INFER_ERR_INVALID,
            "query %zu: a vector of zeros has no direction, which the cosine compares", i);
    return INFER_OK;
}

static int32_t same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static int32_t same_rows(const struct vector_query *a, const struct vector_query *b)
{
    return a->space.size == b->space.size &&
           memcmp(a->space.data, b->space.data, a->space.size) == 0 &&
           same_text(a->filter, b->filter);
}

/* Filters of a call: equal ones that follow each other are parsed once. */
static infer_status parse_filters(struct vector_filter **filters, const struct infer_index *index,
                                  const struct vector_query *queries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *text = queries[i].filter;
        if (!text || (i && same_text(text, queries[i - 1].filter)))
            continue;
        infer_status st = vector_filter_parse(&filters[i], &index->alloc, text, strlen(text));
        if (st != INFER_OK)
            return base_error_prefix(st, "query %zu: filter", i);
    }
    return INFER_OK;
}

/* ----------------------------------------------------------------- one slice */

static infer_status take_record(struct run *r, struct asked *a, size_t number)
{
    if (a->q->vector)
        return INFER_OK;
    a->self = index_view_find(&r->view, a->q->space, a->q->id, &a->self_part);
    if (a->self < 0)
        return base_error(INFER_ERR_NOT_FOUND, "query %zu: there is no record of the id %.*s",
                          number, (int)a->q->id.size, a->q->id.data);
    float *vector = base_arena_new(&r->arena, (size_t)r->index->traits.dims, sizeof *vector);
    if (!vector)
        return INFER_ERR_NO_MEMORY;
    vector_space_get(r->view.seen[a->self_part].part->space, a->self, vector);
    a->vector = vector;
    a->k++;
    return INFER_OK;
}

static infer_status prepare(struct run *r, const struct vector_query *queries,
                            struct vector_filter *const *filters, size_t first)
{
    const size_t n = (size_t)r->n;
    const struct vector_filter *filter = NULL;
    r->asked = base_arena_new(&r->arena, n, sizeof *r->asked);
    r->searches = base_arena_new(&r->arena, n, sizeof *r->searches);
    r->found = base_arena_new(&r->arena, n, sizeof(struct vector_found *));
    r->how = base_arena_new(&r->arena, n, sizeof *r->how);
    r->n_found = base_arena_new(&r->arena, n, sizeof *r->n_found);
    r->which = base_arena_new(&r->arena, n, sizeof *r->which);
    r->allowed = base_arena_new(&r->arena, n, sizeof *r->allowed);
    r->of = base_arena_new(&r->arena, n, sizeof(struct index_allowed *));
    if (!r->asked || !r->searches || !r->found || !r->how || !r->n_found || !r->which ||
        !r->allowed || !r->of)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const struct vector_query *q = &queries[first + i];
        struct asked *a = &r->asked[i];
        *a = (struct asked){.q = q, .vector = q->vector, .self = -1, .k = q->k, .largest = -1};
        a->info.exact = 1;
        /* A filter that was parsed belongs to the queries from there on that have the same text. */
        filter = filters[first + i] || !q->filter ? filters[first + i] : filter;
        for (size_t back = first + i; q->filter && !filter && back-- > 0;)
            filter = filters[back];
        a->filter = filter;
        a->same = i > 0 && same_rows(q, &queries[first + i - 1]);
        infer_status st = take_record(r, a, first + i);
        if (st != INFER_OK)
            return st;
        const size_t k = (size_t)a->k;
        a->best = base_arena_new(&r->arena, 3 * k, sizeof *a->best);
        a->parts = base_arena_new(&r->arena, 2 * k, sizeof *a->parts);
        if (!a->best || !a->parts)
            return INFER_ERR_NO_MEMORY;
        a->found = a->best + k;
        a->spare = a->best + 2 * k;
        a->spare_parts = a->parts + k;
    }
    return INFER_OK;
}

static int32_t is_better(const struct vector_found *a, const struct vector_found *b)
{
    return a->score > b->score;
}

/* Two lists, best first, become one. */
static void put_together(struct asked *a, int32_t n_found, int32_t part)
{
    int32_t i = 0, j = 0, n = 0;
    for (; n < a->k && (i < a->n_best || j < n_found); n++)
        if (j == n_found || (i < a->n_best && !is_better(&a->found[j], &a->best[i]))) {
            a->spare_parts[n] = a->parts[i];
            a->spare[n] = a->best[i++];
        } else {
            a->spare_parts[n] = part;
            a->spare[n] = a->found[j++];
        }
    struct vector_found *best = a->best;
    int32_t *parts = a->parts;
    a->best = a->spare;
    a->parts = a->spare_parts;
    a->spare = best;
    a->spare_parts = parts;
    a->n_best = n;
}

/* left: rows of the part that namespace and filter leave. */
static void note_how(struct asked *a, const struct index_seen *seen, int64_t left,
                     const struct vector_how *how)
{
    a->info.n_candidates += (uint64_t)left;
    a->info.n_compared += (uint64_t)how->n_compared;
    a->info.exact &= how->exact != 0;
    if (seen->n_rows <= a->largest)
        return;
    a->largest = seen->n_rows;
    a->info.path = how->path;
    a->info.ef = how->ef;
    a->info.on_device = how->on_card;
}

static struct vector_scratch *take_scratch(struct infer_index *index)
{
    struct vector_scratch *scratch = NULL;
    pthread_mutex_lock(&index->publish);
    if (index->n_scratches)
        scratch = index->scratches[--index->n_scratches];
    pthread_mutex_unlock(&index->publish);
    if (!scratch)
        (void)vector_scratch_create(&scratch, &index->alloc);
    return scratch;
}

static void give_scratch(struct infer_index *index, struct vector_scratch *scratch)
{
    pthread_mutex_lock(&index->publish);
    if (index->n_scratches < INDEX_SCRATCHES) {
        index->scratches[index->n_scratches++] = scratch;
        scratch = NULL;
    }
    pthread_mutex_unlock(&index->publish);
    vector_scratch_destroy(&scratch);
}

infer_status index_search_space(struct infer_index *index, const struct vector_space *space,
                                const struct vector_search *searches, int32_t n,
                                struct vector_found *const *found, int32_t *n_found,
                                struct vector_how *how)
{
    if (n > 1)
        return vector_space_search_many(
            space, n >= POOL_LEAST ? index_pool(index, &index->query_pool) : NULL, searches, n,
            found, n_found, how);
    struct vector_scratch *scratch = take_scratch(index);
    if (!scratch)
        return INFER_ERR_NO_MEMORY;
    infer_status st = vector_space_search(space, scratch, searches, found[0], n_found, how);
    give_scratch(index, scratch);
    return st;
}

/* Rows that each query may find; those with the rows of the one before have r->of of it. */
static infer_status find_rows(struct run *r, const struct index_seen *seen, int32_t *n_allowed)
{
    infer_status st = INFER_OK;
    *n_allowed = 0;
    for (int32_t i = 0; i < r->n && st == INFER_OK; i++) {
        const struct asked *q = &r->asked[i];
        const int32_t is_exact = q->q->ef <= 0 && q->q->recall >= 1;
        struct index_allowed *allowed = &r->allowed[*n_allowed];
        if (q->same && i)
            allowed--;
        else
            st = index_allowed_find(allowed, seen, &r->index->alloc, &q->q->space, q->filter,
                                    !is_exact);
        if (st != INFER_OK)
            return st;
        *n_allowed = (int32_t)(allowed - r->allowed) + 1;
        r->of[i] = allowed;
        if (is_exact)
            st = index_allowed_read(allowed);
    }
    return st;
}

static struct vector_search search_of(const struct asked *q, const struct index_seen *seen,
                                      const struct index_allowed *allowed)
{
    return (struct vector_search){.query = q->vector,
                                  .k = q->k,
                                  .ef = q->q->ef,
                                  .recall = q->q->recall,
                                  .codes_alone = q->q->codes_alone,
                                  .allowed = allowed->rows,
                                  .dead = seen->dead,
                                  .n_rows = seen->n_rows,
                                  .on_card = atomic_load(&seen->part->fixed)};
}

/* Queries whose filter is yet to be asked. */
static infer_status search_late(struct run *r, const struct index_seen *seen, int32_t part)
{
    struct index_late *late = NULL;
    int32_t n = 0;
    for (int32_t i = 0; i < r->n; i++) {
        if (!r->of[i]->open)
            continue;
        if (!late && !(late = base_arena_new(&r->arena, (size_t)r->n, sizeof *late)))
            return INFER_ERR_NO_MEMORY;
        late[n] = (struct index_late){.search = search_of(&r->asked[i], seen, r->of[i]),
                                      .allowed = r->of[i],
                                      .found = r->asked[i].found};
        r->which[n++] = i;
    }
    infer_status st = n ? index_search_late(r->index, seen, late, n) : INFER_OK;
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        put_together(&r->asked[r->which[i]], late[i].n_found, part);
        note_how(&r->asked[r->which[i]], seen, late[i].n_left, &late[i].how);
    }
    return st;
}

static infer_status search_now(struct run *r, const struct index_seen *seen, int32_t part)
{
    infer_status st = INFER_OK;
    int32_t n = 0;
    for (int32_t i = 0; i < r->n; i++) {
        if (r->of[i]->open || !r->of[i]->rows.n_set)
            continue;
        r->searches[n] = search_of(&r->asked[i], seen, r->of[i]);
        r->found[n] = r->asked[i].found;
        r->how[n] = (struct vector_how){0};
        r->which[n++] = i;
    }
    if (n)
        st = index_search_space(r->index, seen->part->space, r->searches, n, r->found, r->n_found,
                                r->how);
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        struct asked *q = &r->asked[r->which[i]];
        const struct vector_rows *rows = &r->searches[i].allowed;
        put_together(q, BASE_MIN(r->n_found[i], q->k), part);
        note_how(q, seen, rows->bits ? rows->n_set : seen->n_rows - seen->n_dead, &r->how[i]);
    }
    return st;
}

static infer_status search_part(struct run *r, int32_t part)
{
    const struct index_seen *seen = &r->view.seen[part];
    int32_t n_allowed;
    infer_status st = find_rows(r, seen, &n_allowed);
    if (st == INFER_OK)
        st = search_now(r, seen, part);
    if (st == INFER_OK)
        st = search_late(r, seen, part);
    for (int32_t i = 0; i < n_allowed; i++)
        index_allowed_release(&r->allowed[i], &r->index->alloc);
    return st;
}

/* The ids of hits lie anywhere: those of the queries that follow come to the cache meanwhile. */
static void expect_ids(const struct run *r, int32_t i, int32_t text)
{
    if (i >= r->n)
        return;
    const struct asked *a = &r->asked[i];
    for (int32_t k = 0; k < a->n_best; k++)
        vector_ids_expect(r->view.seen[a->parts[k]].part->ids, a->best[k].row, text);
}

static infer_status emit(struct run *r, struct infer_hits *hits, size_t first)
{
    const struct infer_index *index = r->index;
    expect_ids(r, 0, 0);
    expect_ids(r, 1, 0);
    expect_ids(r, 0, 1);
    for (int32_t i = 0; i < r->n; i++) {
        expect_ids(r, i + 2, 0);
        expect_ids(r, i + 1, 1);
        struct asked *a = &r->asked[i];
        struct index_hit_list *list = &hits->lists[first + (size_t)i];
        infer_status st = index_hits_room(hits, first + (size_t)i, (size_t)a->n_best);
        for (int32_t k = 0; k < a->n_best && st == INFER_OK; k++) {
            const struct vector_found *f = &a->best[k];
            if ((f->row == a->self && a->parts[k] == a->self_part) || list->n == (size_t)a->q->k)
                continue;
            st = index_hits_add(hits, first + (size_t)i, r->view.seen[a->parts[k]].part, f->row,
                                index->traits.dims, a->q->with, f->score, f->distance);
        }
        if (st != INFER_OK)
            return st;
        const int32_t by_codes =
            a->q->codes_alone && (a->info.ef || a->info.path == INFER_SEARCH_PARTITIONS);
        a->info.struct_size = sizeof a->info;
        a->info.precision = by_codes ? INFER_INDEX_I8 : index->traits.type;
        if (!a->info.path)
            a->info.path = INFER_SEARCH_LIST; /* of no vectors at all */
        list->info = a->info;
    }
    return INFER_OK;
}

/* DONE: rows were deleted or replaced meanwhile, so that some may be missing. */
static infer_status run_slice(struct infer_hits *hits, struct infer_index *index,
                              const struct vector_query *queries,
                              struct vector_filter *const *filters, size_t first, int32_t n,
                              int32_t copy)
{
    struct run r = {.index = index, .n = n};
    infer_status st = index_view_begin(&r.view, index, copy);
    if (st != INFER_OK)
        return st;
    atomic_store_explicit(&index->seen_version, r.view.version, memory_order_relaxed);
    base_arena_init(&r.arena, &index->alloc);
    st = prepare(&r, queries, filters, first);
    for (int32_t part = 0; part < r.view.n && st == INFER_OK; part++)
        if (r.view.seen[part].n_rows)
            st = search_part(&r, part);
    if (!copy && (st == INFER_OK || st == INFER_ERR_NOT_FOUND) && index_view_changed(&r.view))
        st = INFER_DONE;
    if (st == INFER_OK)
        st = emit(&r, hits, first);
    base_arena_release(&r.arena);
    index_view_end(&r.view);
    return st;
}

infer_status vector_index_search(struct infer_hits **out, struct infer_index *index,
                                 const struct vector_query *queries, size_t n)
{
    struct infer_hits *hits = NULL;
    infer_status st = INFER_OK;
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = check_query(index, &queries[i], i);
    if (st == INFER_OK)
        st = index_hits_create(&hits, &index->alloc, n);
    if (st != INFER_OK)
        return st;
    struct vector_filter **filters = base_new(&index->alloc, n, sizeof *filters);
    st = filters ? parse_filters(filters, index, queries, n) : INFER_ERR_NO_MEMORY;
    for (size_t first = 0; first < n && st == INFER_OK; first += SLICE) {
        const int32_t some = (int32_t)BASE_MIN(n - first, (size_t)SLICE);
        /* A copy of what is deleted costs little beside many queries, or where writers are busy;
         * else the query is done again should it have been needed. */
        pthread_mutex_lock(&index->publish);
        const int32_t copy =
            some > 1 ||
            index->version != atomic_load_explicit(&index->seen_version, memory_order_relaxed);
        pthread_mutex_unlock(&index->publish);
        st = run_slice(hits, index, queries, filters, first, some, copy);
        if (st == INFER_DONE)
            st = run_slice(hits, index, queries, filters, first, some, 1);
    }
    for (size_t i = 0; filters && i < n; i++)
        vector_filter_destroy(&filters[i]);
    base_free(&index->alloc, filters);
    atomic_fetch_add_explicit(&index->n_queries, n, memory_order_relaxed);
    if (st == INFER_OK)
        *out = hits;
    else
        index_hits_destroy(&hits);
    return st;
}
