/* Searches through partitions on a GPU: the centres are rows like others, of which the nearest are
 * found first; then the likeliest partitions are read, and when it is known how far off the hits
 * are, those that are worth it by that (vector/partitions.h). What is read are the rows of the
 * copy: a card reads a hundredth of them as they are sooner than it would sort codes of them out.
 */
#include "vector/card_state.h"

#include <math.h>

#define FIRST      8  /* partitions that are read while nothing is known, at least */
#define FIRST_HITS 2  /* times as many rows that pass as hits are wanted */
#define ITEM_TILES 32 /* that a block compares */
#define ITEM_ASKED 32 /* with so many queries */

/* One of the nearest centres: what its distance says, less what its radius does. */
struct centre {
    float key, over;
    int32_t partition, is_read;
};

struct pick {
    int32_t partition, query;
};

struct probing {
    struct card_call *c;
    const struct vector_partitions *partitions;
    struct card_layout layout;
    int32_t masked, n_centres; /* of each query */
    struct centre *centres;
    struct pick *picks;
    int32_t *first; /* of each partition, among the picks by partition */
    int32_t n_picks;
};

static float score_of(const struct card_call *c, const struct card_asked *a, uint64_t key)
{
    const float at_most = card_score_at_most(key);
    return c->view.shape.metric == INFER_METRIC_L2
               ? (float)(2.0 * (double)at_most - a->query.length * a->query.length)
               : at_most;
}

/* As vector/probe.c has them: a partition is worth reading where its key is no more than
 * d^2 + 2 d r reach, of products d + |q| r reach. */
static void find_centres(const struct probing *p, int32_t query)
{
    const struct card_call *c = p->c;
    const struct card_asked *a = &c->asked[query];
    const int32_t metric = c->view.shape.metric;
    struct centre *to = p->centres + (size_t)query * (size_t)p->n_centres;
    for (int32_t i = 0; i < p->n_centres; i++) {
        const uint64_t key = a->keys[i];
        const int32_t which = (int32_t) ~(uint32_t)key;
        if (key == 0) { /* fewer, of a damaged file */
            to[i] = (struct centre){.is_read = 1};
            continue;
        }
        const float radius = p->partitions->radius[which], score = score_of(c, a, key);
        const float square = radius * radius;
        to[i].partition = which;
        to[i].is_read = 0;
        if (metric == INFER_METRIC_DOT) {
            to[i].key = -score;
            to[i].over = to[i].key - a->reach * (float)a->query.length * radius;
        } else {
            to[i].key = (metric == INFER_METRIC_COSINE ? 2.0f - 2.0f * score : -score) - square;
            to[i].over = to[i].key - 2.0f * a->reach * square;
        }
    }
    for (int32_t i = 1; i < p->n_centres; i++) { /* nearly in order */
        const struct centre x = to[i];
        int32_t at = i;
        for (; at > 0 && to[at - 1].over > x.over; at--)
            to[at] = to[at - 1];
        to[at] = x;
    }
}

static void take(struct probing *p, int32_t query, struct centre *centre)
{
    const uint32_t *begin = p->partitions->begin;
    centre->is_read = 1;
    p->c->asked[query].n_read += begin[centre->partition + 1] - begin[centre->partition];
    p->picks[p->n_picks++] = (struct pick){centre->partition, query};
}

/* The likeliest, while nothing is known of the hits. */
static void pick_first(struct probing *p, int32_t query)
{
    struct card_asked *a = &p->c->asked[query];
    struct centre *centres = p->centres + (size_t)query * (size_t)p->n_centres;
    const float share = (float)p->c->n_allowed / (float)p->c->n_rows;
    const float wanted = (float)(FIRST_HITS * a->n_near) / share;
    for (int32_t i = 0;
         i < p->n_centres && (i < FIRST || (float)a->n_read < wanted) && a->n_read < p->c->room / 2;
         i++)
        if (!centres[i].is_read)
            take(p, query, &centres[i]);
}

/* Those that are worth it by the worst hit; the query is open where that does not say enough. */
static void pick_rest(struct probing *p, int32_t query)
{
    struct card_asked *a = &p->c->asked[query];
    struct centre *centres = p->centres + (size_t)query * (size_t)p->n_centres;
    const int32_t metric = p->c->view.shape.metric;
    int32_t n_worth = 0;
    card_sort_keys(a->keys, p->c->keep);
    if (p->c->lost[query] || a->n_near > p->c->keep || a->keys[a->n_near - 1] == 0) {
        a->open = 1;
        return;
    }
    const float d = vector_partitions_distance(metric, score_of(p->c, a, a->keys[a->n_near - 1]));
    const float by_radius =
        metric == INFER_METRIC_DOT ? a->reach * (float)a->query.length : 2.0f * a->reach * d;
    const float plus = metric == INFER_METRIC_DOT ? d : d * d;
    for (int32_t i = 0; i < p->n_centres; i++) {
        const float radius = p->partitions->radius[centres[i].partition];
        const int32_t is_worth = centres[i].key - by_radius * radius <= plus;
        n_worth += is_worth;
        if (is_worth && !centres[i].is_read)
            take(p, query, &centres[i]);
    }
    /* Farther than was measured, or beyond the nearest centres. */
    a->open = d > atomic_load_explicit(&p->partitions->far, memory_order_relaxed) ||
              (n_worth == p->n_centres && p->n_centres < p->partitions->n);
}

/* Picks by partition become items: tiles, and queries that are compared with them together. */
static infer_status make_items(struct probing *p, int32_t *n_items, size_t *asked_at,
                               int32_t *n_most)
{
    struct card_call *c = p->c;
    const int32_t *tiles = c->copy->first_tile;
    const int32_t group =
        BASE_MIN(ITEM_ASKED, c->card->kernels->group(c->copy->rows.form, c->view.shape.dims));
    const int32_t n = p->partitions->n;
    size_t most = 0;
    memset(p->first, 0, ((size_t)n + 1) * sizeof *p->first);
    for (int32_t i = 0; i < p->n_picks; i++)
        p->first[p->picks[i].partition + 1]++;
    for (int32_t i = 0; i < n; i++) {
        most += (size_t)BASE_DIV_UP(p->first[i + 1], group) *
                (size_t)BASE_DIV_UP(tiles[i + 1] - tiles[i], ITEM_TILES);
        p->first[i + 1] += p->first[i];
    }
    *asked_at = BASE_ALIGN_UP(most * sizeof(struct kern_cuda_vector_item), (size_t)256);
    const size_t bytes = *asked_at + (size_t)p->n_picks * sizeof(int32_t);
    infer_status st = card_area_grow(c->card, &c->card->lists, bytes, bytes);
    if (st != INFER_OK)
        return st;
    struct kern_cuda_vector_item *items = (void *)c->card->lists.pinned;
    int32_t *asked = (void *)(c->card->lists.pinned + *asked_at);
    for (int32_t i = 0; i < p->n_picks; i++) /* first[] moves on to the next one's */
        asked[p->first[p->picks[i].partition]++] = p->picks[i].query;
    *n_items = *n_most = 0;
    for (int32_t i = 0, begin = 0; i < n; begin = p->first[i++])
        for (int32_t at = begin; at < p->first[i]; at += group)
            for (int32_t tile = tiles[i]; tile < tiles[i + 1]; tile += ITEM_TILES) {
                const struct kern_cuda_vector_item item = {
                    tile, BASE_MIN(ITEM_TILES, tiles[i + 1] - tile), at,
                    BASE_MIN(group, p->first[i] - at)};
                items[(*n_items)++] = item;
                *n_most = BASE_MAX(*n_most, item.n);
            }
    return device_cuda_copy_in(c->card->device, c->card->lists.card.data, c->card->lists.pinned,
                               bytes);
}

/* Keys stay as they are where nothing is read. */
static infer_status read_picks(struct probing *p)
{
    int32_t n_items, n_most;
    size_t asked_at;
    infer_status st = make_items(p, &n_items, &asked_at, &n_most);
    p->n_picks = 0;
    if (st != INFER_OK || !n_items)
        return st;
    st = card_items(p->c, &p->layout, n_items, asked_at, n_most, p->masked);
    return st == INFER_OK ? card_fetch(p->c, &p->layout) : st;
}

static infer_status run(struct probing *p)
{
    struct card_call *c = p->c;
    infer_status st = card_begin(c, &p->layout, &p->masked);
    if (st == INFER_OK)
        st = card_passes(c, &p->layout, &c->copy->centres, p->partitions->n, 0);
    if (st == INFER_OK)
        st = card_fetch(c, &p->layout);
    if (st == INFER_OK)
        st = card_forget(c, &p->layout);
    for (int32_t q = 0; q < c->n && st == INFER_OK; q++) {
        card_sort_keys(c->asked[q].keys, c->keep);
        find_centres(p, q);
        pick_first(p, q);
    }
    if (st == INFER_OK) {
        memset(c->keys, 0, (size_t)c->n * (size_t)c->keep * sizeof *c->keys);
        st = read_picks(p);
    }
    for (int32_t q = 0; q < c->n && st == INFER_OK; q++)
        pick_rest(p, q);
    return st == INFER_OK && p->n_picks ? read_picks(p) : st;
}

infer_status card_probe(struct card_call *c)
{
    const struct base_alloc *a = &c->space->alloc;
    struct probing p = {
        .c = c, .partitions = atomic_load_explicit(&c->space->partitions, memory_order_acquire)};
    p.n_centres = BASE_MIN(p.partitions->n, BASE_MIN(c->keep, CARD_CENTRES));
    const size_t n = (size_t)c->n * (size_t)p.n_centres;
    p.centres = base_new_raw(a, n, sizeof *p.centres);
    p.picks = base_new_raw(a, n, sizeof *p.picks);
    p.first = base_new_raw(a, (size_t)p.partitions->n + 1, sizeof *p.first);
    infer_status st = p.centres && p.picks && p.first ? run(&p) : INFER_ERR_NO_MEMORY;
    base_free(a, p.centres);
    base_free(a, p.picks);
    base_free(a, p.first);
    return st;
}
