/* Public: <infer/index.h>, queries and their hits. */
#include "handle.h"
#include "vector/hits.h"
#include "vector/index.h"

#include <infer/index.h>
#include <string.h>

#define NAME_MAX_BYTES 255
#define DEFAULT_TOP_K  10
#define DEFAULT_RECALL 0.95f
#define DEFAULT_PAGE   1000
#define LIMIT_MAX      (1 << 20) /* ids of a page */
#define WITH_ALL       (INFER_INDEX_WITH_METADATA | INFER_INDEX_WITH_VECTOR)

static struct base_view view_of(const char *text)
{
    return (struct base_view){text ? text : "", text ? strnlen(text, NAME_MAX_BYTES + 1) : 0};
}

static infer_status check_with(uint32_t with)
{
    return with & ~(uint32_t)WITH_ALL
               ? base_error(INFER_ERR_UNSUPPORTED, "with is %#x, of which %#x is not known",
                            (unsigned)with, (unsigned)(with & ~(uint32_t)WITH_ALL))
               : INFER_OK;
}

static infer_status check_stamp(const infer_index *index, const infer_index_stamp *given)
{
    infer_index_stamp s;
    if (!given)
        return INFER_OK;
    infer_status st = base_options_copy(&s, sizeof s, given, "infer_index_stamp");
    if (st != INFER_OK)
        return st;
    const struct vector_traits traits = {
        .model = s.model, .pooling = s.pooling, .normalized = s.normalized};
    return vector_index_check_stamp(index, &traits);
}

static infer_status take_query(struct vector_query *out, const infer_index *index,
                               const infer_index_query *given)
{
    infer_index_query q;
    infer_status st = base_options_copy(&q, sizeof q, given, "infer_index_query");
    if (st == INFER_OK)
        st = check_with(q.with);
    if (st == INFER_OK)
        st = check_stamp(index, q.stamp);
    if (st != INFER_OK)
        return st;
    if (!q.vector == !q.id)
        return base_error(INFER_ERR_INVALID, "either vector or id is needed");
    if (q.approximate_scores < 0 || q.approximate_scores > 1 || q.reserved)
        return base_error(INFER_ERR_INVALID, "approximate_scores is 0 or 1, and reserved is 0");
    *out = (struct vector_query){
        .vector = q.vector,
        .id = view_of(q.id),
        .space = view_of(q.ns),
        .filter = q.filter,
        .k = q.top_k ? q.top_k : DEFAULT_TOP_K,
        .recall = q.recall != 0 ? q.recall : DEFAULT_RECALL,
        .ef = q.ef,
        .codes_alone = q.approximate_scores,
        .with = q.with,
    };
    return INFER_OK;
}

infer_status infer_index_search(infer_hits **out, infer_index *index,
                                const infer_index_query *queries, size_t n)
{
    REQUIRE(out);
    REQUIRE(index);
    REQUIRE(queries);
    if (!n)
        return base_error(INFER_ERR_INVALID, "n is 0, one query at least was expected");
    const struct base_alloc *a = vector_index_alloc(index);
    struct vector_query one, *taken = n == 1 ? &one : base_new(a, n, sizeof *taken);
    infer_status st = taken ? INFER_OK : INFER_ERR_NO_MEMORY;
    const char *at = (const char *)queries; /* the caller's structs may be larger or smaller */
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        const infer_index_query *q = (const void *)(at + i * queries->struct_size);
        if (q->struct_size != queries->struct_size)
            st = base_error(INFER_ERR_INVALID, "its struct_size is %zu, that of the first is %zu",
                            q->struct_size, queries->struct_size);
        if (st == INFER_OK)
            st = take_query(&taken[i], index, q);
        if (st != INFER_OK)
            st = base_error_prefix(st, "query %zu", i);
    }
    if (st == INFER_OK)
        st = vector_index_search(out, index, taken, n);
    if (taken != &one)
        base_free(a, taken);
    return st;
}

infer_status infer_index_get(infer_hits **out, infer_index *index, const char *ns,
                             const char *const *ids, size_t n, uint32_t with)
{
    REQUIRE(out);
    REQUIRE(index);
    for (size_t i = 0; i < n; i++)
        if (!ids || !ids[i])
            return base_error(INFER_ERR_INVALID, "id %zu is NULL", i);
    infer_status st = check_with(with);
    return st == INFER_OK ? vector_index_get(out, index, view_of(ns), ids, n, with) : st;
}

infer_status infer_index_list(infer_hits **out, infer_index *index, const char *ns,
                              const char *filter, const char *after, size_t limit, uint32_t with)
{
    REQUIRE(out);
    REQUIRE(index);
    infer_status st = check_with(with);
    if (st == INFER_OK && limit > LIMIT_MAX)
        st = base_error(INFER_ERR_LIMIT, "limit is %zu, at most %d", limit, LIMIT_MAX);
    return st == INFER_OK ? vector_index_list(out, index, view_of(ns), filter, view_of(after),
                                              limit ? limit : DEFAULT_PAGE, with)
                          : st;
}

infer_status infer_index_count(infer_index *index, const char *ns, const char *filter,
                               uint64_t *count)
{
    REQUIRE(index);
    REQUIRE(count);
    return vector_index_count(index, ns ? view_of(ns) : (struct base_view){NULL, 0}, filter, count);
}

/* ----------------------------------------------------------------------- hits */

size_t infer_hits_count(const infer_hits *hits, size_t query)
{
    return hits && query < hits->n_lists ? hits->lists[query].n : 0;
}

infer_status infer_hits_at(const infer_hits *hits, size_t query, size_t i, infer_hit *hit)
{
    REQUIRE(hits);
    if (i >= infer_hits_count(hits, query))
        return base_error(INFER_ERR_INVALID, "query %zu has %zu hits, number %zu is none of them",
                          query, infer_hits_count(hits, query), i);
    const struct index_hit *from = &hits->lists[query].items[i];
    const infer_hit full = {.id = from->id,
                            .score = from->score,
                            .distance = from->distance,
                            .metadata = from->metadata,
                            .metadata_size = from->metadata_size,
                            .vector = from->vector};
    return base_info_copy(hit, &full, sizeof full, "infer_hit");
}

infer_status infer_hits_info(const infer_hits *hits, size_t query, infer_search_info *info)
{
    REQUIRE(hits);
    if (query >= hits->n_lists)
        return base_error(INFER_ERR_INVALID, "there are %zu queries, number %zu is none of them",
                          hits->n_lists, query);
    return base_info_copy(info, &hits->lists[query].info, sizeof *info, "infer_search_info");
}

void infer_hits_destroy(infer_hits **hits)
{
    if (hits)
        index_hits_destroy(hits);
}
