/* Searches whose filter is asked of what they find, a longer list each time until enough of it
 * passes: where a filter leaves much, that reads the metadata of few rows. Where it is too dear,
 * for the filter leaves little or what it leaves lies far from the query, all rows are asked. What
 * was spent on a filter is remembered, so that one which comes again and again is asked of all
 * rows as soon as that would have been no dearer (the rule of ski rental). */
#include "vector/state.h"

#include <infer/index.h>

#define FIRST_MORE  4    /* rows of the first list, for each one that is wanted */
#define FIRST_LEAST 64   /* and at least */
#define MORE        1.3f /* of a longer list, beside what the one before says */
#define SURE        0.8f /* what ends behind this share of a list may be missing in it */
#define FOUND_COST  32   /* a row that is found, in rows that are asked */

struct round {
    struct vector_search *searches;
    struct vector_found **found;
    int32_t *n_found;
    struct vector_how *how;
    struct base_arena arena, lists; /* lists: of one round */
};

static int32_t first_k(const struct index_late *l)
{
    return BASE_MIN(BASE_MAX(l->search.k * FIRST_MORE, FIRST_LEAST), l->allowed->rows.n_set);
}

/* Asks all rows instead where that is cheaper. */
static infer_status pay(struct index_late *l)
{
    struct index_allowed *allowed = l->allowed;
    const int64_t cost = (int64_t)l->k * FOUND_COST;
    if (!allowed->open)
        return INFER_OK;
    if (allowed->spent + cost > allowed->n_open)
        return index_allowed_read(allowed);
    allowed->spent += cost;
    return INFER_OK;
}

/* What a search is done with next; 0: there is nothing to be found. */
static int32_t aim(struct index_late *l)
{
    if (!l->allowed->open)
        l->k = BASE_MIN(l->search.k, l->allowed->rows.n_set);
    return l->k;
}

/* Passes on what passes; whether that is enough, else l->k is what to search for. */
static infer_status sift(struct index_late *l, const struct vector_found *found, int32_t n_found,
                         int32_t *enough)
{
    int32_t at = 0;
    l->n_found = 0;
    while (at < n_found && l->n_found < l->search.k) {
        int32_t passes;
        infer_status st = index_allowed_ask(l->allowed, found[at].row, &passes);
        if (st != INFER_OK)
            return st;
        if (passes)
            l->found[l->n_found++] = found[at];
        at++;
    }
    const int32_t n_set = l->allowed->rows.n_set;
    const float share = ((float)l->n_found + 0.5f) / ((float)at + 1.0f);
    l->n_left = l->allowed->open ? (int64_t)((float)n_set * BASE_MIN(share, 1.0f)) : n_set;
    *enough = !l->allowed->open || l->k >= n_set ||
              (l->n_found == l->search.k && (float)at <= SURE * (float)n_found);
    const float next = (float)(l->search.k + 1) / share * MORE;
    if (!*enough)
        l->k = (int32_t)BASE_MIN(BASE_MAX(2.0f * (float)l->k, next), (float)n_set);
    return INFER_OK;
}

static void add_how(struct vector_how *sum, const struct vector_how *how, int32_t was_open)
{
    const int64_t n_compared = sum->n_compared + how->n_compared;
    *sum = *how;
    sum->n_compared = n_compared;
    if (was_open)
        sum->path = how->ef ? INFER_SEARCH_GRAPH_FILTERED : INFER_SEARCH_LIST;
}

/* The first n of `late` are still to be answered; *left: so many of them still are. */
static infer_status search_round(struct infer_index *index, const struct index_seen *seen,
                                 struct round *r, struct index_late **late, int32_t n,
                                 int32_t *left)
{
    infer_status st = INFER_OK;
    int32_t n_asked = 0;
    *left = 0;
    for (int32_t i = 0; i < n && st == INFER_OK; i++)
        st = pay(late[i]);
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        struct index_late *l = late[i];
        l->n_found = 0;
        l->n_left = 0;
        if (!aim(l)) {
            l->how.exact = 1;
            l->how.path = INFER_SEARCH_LIST;
            continue;
        }
        r->found[n_asked] = base_arena_new(&r->lists, (size_t)l->k, sizeof **r->found);
        if (!r->found[n_asked])
            return INFER_ERR_NO_MEMORY;
        r->searches[n_asked] = l->search;
        r->searches[n_asked].k = l->k;
        r->searches[n_asked].allowed = l->allowed->rows;
        r->how[n_asked] = (struct vector_how){0};
        late[n_asked++] = l;
    }
    if (st == INFER_OK && n_asked)
        st = index_search_space(index, seen->part->space, r->searches, n_asked, r->found,
                                r->n_found, r->how);
    for (int32_t i = 0; i < n_asked && st == INFER_OK; i++) {
        int32_t enough = 0;
        add_how(&late[i]->how, &r->how[i], late[i]->allowed->open != NULL);
        st = sift(late[i], r->found[i], r->n_found[i], &enough);
        if (!enough)
            late[(*left)++] = late[i];
    }
    return st;
}

infer_status index_search_late(struct infer_index *index, const struct index_seen *seen,
                               struct index_late *late, int32_t n)
{
    struct round r = {0};
    infer_status st = INFER_OK;
    base_arena_init(&r.arena, &index->alloc);
    r.searches = base_arena_new(&r.arena, (size_t)n, sizeof *r.searches);
    r.found = base_arena_new(&r.arena, (size_t)n, sizeof(struct vector_found *));
    r.n_found = base_arena_new(&r.arena, (size_t)n, sizeof *r.n_found);
    r.how = base_arena_new(&r.arena, (size_t)n, sizeof *r.how);
    struct index_late **waiting = base_arena_new(&r.arena, (size_t)n, sizeof(struct index_late *));
    if (!r.searches || !r.found || !r.n_found || !r.how || !waiting)
        st = INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        waiting[i] = &late[i];
        late[i].k = first_k(&late[i]);
        late[i].how = (struct vector_how){0};
    }
    for (int32_t left = n; left && st == INFER_OK;) {
        base_arena_init(&r.lists, &index->alloc);
        st = search_round(index, seen, &r, waiting, left, &left);
        base_arena_release(&r.lists);
    }
    base_arena_release(&r.arena);
    return st;
}
