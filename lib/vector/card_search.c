/* Searches on a GPU: which ones it does, and how often they are asked. */
#include "vector/card_state.h"

#include <math.h>

#define KEEP_MORE  8                   /* times as many, where the bound leaves something open */
#define FOUND_MOST ((size_t)128 << 20) /* bytes of keys of the queries of a call */
#define FEW_SHARE  64 /* of the rows must be allowed, for reading all of them to pay */
/* By which the cheaper way is chosen. Reckoned, not measured: they cost time where they are wrong,
 * and change no exact hit. */
#define CALL_US    100.0f /* of a call that compares nothing */
#define WALK_US    50.0f  /* of a walk along a graph */
#define BYTES_A_US 3.5e6f /* that a card reads */
#define EF_RECALL  0.95f  /* of `ef` hits: vector/plan.c */

static int32_t keep_of(int32_t k)
{
    return BASE_MIN(BASE_ALIGN_UP(k + k / 2 + 32, 32), KERN_CUDA_VECTOR_KEEP_MAX);
}

static int32_t room_of(int32_t keep)
{
    return BASE_MAX(2 * CARD_FIRST_ROWS, 2 * CARD_GROWTH * keep);
}

/* Queries of a call. */
static size_t queries_of(int32_t keep)
{
    return FOUND_MOST / ((size_t)room_of(keep) * sizeof(uint64_t));
}

static infer_status make_room(struct card_call *c)
{
    const struct base_alloc *a = &c->space->alloc;
    base_free(a, c->keys);
    c->room = room_of(c->keep);
    c->keys = base_new_raw(a, (size_t)c->n * (size_t)c->keep, sizeof *c->keys);
    if (!c->keys)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < c->n; i++)
        c->asked[i].keys = c->keys + (size_t)i * (size_t)c->keep;
    return INFER_OK;
}

static infer_status search_all(struct card_call *c)
{
    struct card_layout layout;
    int32_t masked;
    infer_status st = card_begin(c, &layout, &masked);
    if (st == INFER_OK)
        st = card_passes(c, &layout, &c->copy->rows, c->n_rows, masked);
    return st == INFER_OK ? card_fetch(c, &layout) : st;
}

/* Queries that are open go on, in front; marks the others that were answered. */
static void end_round(struct card_call *c, struct vector_how *how, uint8_t *is_done)
{
    int32_t n = 0;
    for (int32_t i = 0; i < c->n; i++) {
        struct card_asked *a = &c->asked[i];
        if (!a->open && !c->lost[i]) {
            how[a->number] =
                (struct vector_how){.path = c->probes                 ? INFER_SEARCH_PARTITIONS
                                            : a->search->allowed.bits ? INFER_SEARCH_LIST
                                                                      : INFER_SEARCH_FLAT,
                                    .exact = !c->probes,
                                    .on_card = 1,
                                    .n_compared = c->probes ? a->n_read : c->n_rows};
            is_done[a->number] = 1;
        } else if (c->probes || !c->lost[i]) { /* more than there is room for may be the best */
            c->asked[n] = *a;
            c->asked[n++].open = 0;
        }
    }
    c->n = n;
}

/* Searches over the same rows. What the card cannot do is left undone. */
static infer_status run_call(struct card_call *c, struct base_pool *pool, struct vector_how *how,
                             uint8_t *is_done)
{
    while (c->n > 0) {
        infer_status st = make_room(c);
        if (st != INFER_OK)
            return st;
        pthread_mutex_lock(&c->card->lock);
        st = c->probes ? card_probe(c) : search_all(c);
        pthread_mutex_unlock(&c->card->lock);
        if (st != INFER_OK) {
            card_failed(c->card, st);
            return INFER_OK;
        }
        card_score(c, pool);
        end_round(c, how, is_done);
        if (c->probes) { /* of the others all rows are compared */
            c->probes = 0;
            continue;
        }
        if (c->keep == KERN_CUDA_VECTOR_KEEP_MAX)
            return INFER_OK;
        c->keep = BASE_MIN(c->keep * KEEP_MORE, KERN_CUDA_VECTOR_KEEP_MAX);
        c->n = (int32_t)BASE_MIN((size_t)c->n, queries_of(c->keep));
    }
    return INFER_OK;
}

/* ------------------------------------------------------------------- choosing */

enum { WITHOUT, ALL, PROBE };

/* Which way a search goes, one of n. */
static int32_t way_of(const struct vector_space *space, const struct vector_search *s,
                      int32_t n_rows, int32_t n)
{
    const struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_acquire);
    const struct vector_copy *copy = space->copy;
    const struct vector_card *card = space->config.card;
    const int32_t n_allowed = s->allowed.bits ? BASE_MIN(s->allowed.n_set, n_rows) : n_rows;
    const int32_t n_near = BASE_MAX(s->k, s->ef);
    if (s->k < 1 || s->k > CARD_K_MAX || s->codes_alone || s->reach || n_allowed < 1 ||
        n_allowed < n_rows / FEW_SHARE)
        return WITHOUT;
    if (!graph || (s->ef <= 0 && s->recall >= 1.0f))
        return ALL;
    const float bytes = (float)copy->rows.n_tiles *
                        (float)kern_cuda_vector_tile_bytes(copy->rows.form, copy->rows.dims);
    const int32_t group = card->kernels->group(copy->rows.form, copy->rows.dims);
    const float all = CALL_US / (float)n + bytes / BYTES_A_US / (float)BASE_MIN(n, group);
    float probe = INFINITY;
    if (copy->n_partitions && n_rows == copy->n_rows && n_near <= CARD_K_MAX) {
        const struct vector_way way = vector_pace_reach(
            atomic_load_explicit(&space->partitions, memory_order_acquire),
            (float)(n_near * (double)n_rows / n_allowed), s->ef > 0 ? EF_RECALL : s->recall);
        if (way.reach < 1e3f)
            probe = 2.0f * CALL_US / (float)n + way.n_rows / (float)n_rows * bytes / BYTES_A_US;
    }
    if (card->is_eager)
        return probe < INFINITY ? PROBE : ALL;
    /* A walk along a graph is short. */
    if (fminf(all, probe) > WALK_US &&
        vector_plan_make(space, graph, s, n_rows, n_allowed, 1).ef > 0)
        return WITHOUT;
    return probe < all ? PROBE : ALL;
}

static void set_reach(const struct card_call *c, struct card_asked *a)
{
    const struct vector_search *s = a->search;
    const struct vector_partitions *p =
        atomic_load_explicit(&c->space->partitions, memory_order_acquire);
    a->n_near = BASE_MIN(BASE_MAX(s->k, s->ef), c->n_allowed);
    a->reach = vector_pace_reach(p, (float)(a->n_near * (double)c->n_rows / c->n_allowed),
                                 s->ef > 0 ? EF_RECALL : s->recall)
                   .reach;
}

static int32_t same_rows(const struct vector_search *a, const struct vector_search *b)
{
    return a->allowed.bits == b->allowed.bits && a->allowed.n == b->allowed.n &&
           a->dead == b->dead && a->n_rows == b->n_rows;
}

/* What a call takes, of all searches. */
struct choice {
    const struct vector_search *searches;
    struct vector_found *const *found;
    int32_t *n_found;
    uint8_t *ways, *taken;
    int32_t n;
};

/* Takes searches over the rows of number `first`, from there on, as many as one call has. */
static void gather(struct card_call *c, const struct choice *of, int32_t first)
{
    const size_t query_bytes = vector_query_bytes(&c->view.shape);
    const struct vector_search *s = &of->searches[first];
    size_t most = SIZE_MAX;
    c->n = 0;
    c->keep = 0;
    c->probes = of->ways[first] == PROBE;
    c->n_rows = BASE_MIN(s->n_rows, c->copy->n_rows);
    c->n_allowed = s->allowed.bits ? BASE_MIN(s->allowed.n_set, c->n_rows) : c->n_rows;
    for (int32_t i = first; i < of->n && (size_t)c->n < most; i++) {
        if (of->ways[i] != of->ways[first] || of->taken[i] || !same_rows(s, &of->searches[i]))
            continue;
        struct card_asked *a = &c->asked[c->n];
        *a = (struct card_asked){.search = &of->searches[i],
                                 .found = of->found[i],
                                 .n_found = &of->n_found[i],
                                 .number = i,
                                 .k = BASE_MIN(of->searches[i].k, c->n_rows)};
        vector_query_set(&a->query, c->values + (size_t)c->n * query_bytes, &c->view,
                         of->searches[i].query);
        c->keep = BASE_MAX(c->keep, keep_of(a->k));
        if (c->probes) {
            set_reach(c, a);
            c->keep = BASE_MAX(c->keep, keep_of(BASE_MAX(a->n_near, CARD_CENTRES / 2)));
        }
        most = queries_of(c->keep);
        of->taken[i] = 1;
        c->n++;
    }
}

static infer_status run_all(struct card_call *c, const struct choice *of, int32_t n_wanted,
                            struct base_pool *pool, struct vector_how *how, uint8_t *is_done)
{
    const struct base_alloc *a = &c->space->alloc;
    const size_t bytes = (size_t)n_wanted * vector_query_bytes(&c->view.shape);
    c->asked = base_new(a, (size_t)n_wanted, sizeof *c->asked);
    c->lost = base_new(a, (size_t)n_wanted, sizeof *c->lost);
    c->values = base_new_pages(a, bytes);
    infer_status st = c->asked && c->lost && c->values ? INFER_OK : INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < of->n && st == INFER_OK && !atomic_load(&c->card->failed);) {
        if (of->ways[i] == WITHOUT || of->taken[i]) {
            i++;
            continue; /* more of the same rows may follow a call */
        }
        gather(c, of, i);
        st = run_call(c, pool, how, is_done);
    }
    base_free(a, c->keys);
    base_free(a, c->asked);
    base_free(a, c->lost);
    base_free_pages(a, c->values, bytes);
    return st;
}

infer_status vector_card_search(const struct vector_space *space, struct base_pool *pool,
                                const struct vector_search *searches, int32_t n,
                                struct vector_found *const *found, int32_t *n_found,
                                struct vector_how *how, uint8_t *is_done)
{
    struct card_call c = {.space = space, .card = space->config.card, .copy = space->copy};
    int32_t n_wanted = 0;
    if (!c.card || !searches[0].on_card || !card_copy_ready(c.card, space))
        return INFER_OK;
    uint8_t *marks = base_new(&space->alloc, (size_t)n, 2);
    if (!marks)
        return INFER_ERR_NO_MEMORY;
    const struct choice choice = {searches, found, n_found, marks, marks + n, n};
    for (int32_t i = 0; i < n; i++) {
        const int32_t n_rows = BASE_MIN(searches[i].n_rows, c.copy->n_rows);
        marks[i] = (uint8_t)(n_rows > 0 ? way_of(space, &searches[i], n_rows, n) : WITHOUT);
        n_wanted += marks[i] != WITHOUT;
    }
    vector_vectors_view(space->vectors, &c.view);
    infer_status st = n_wanted ? run_all(&c, &choice, n_wanted, pool, how, is_done) : INFER_OK;
    base_free(&space->alloc, marks);
    return st;
}
