/* Exact searches on a GPU: the card finds what may be among the best, the processor scores it.
 *
 * Rows are compared in passes, each sixteen times as many as those before it and spread over all:
 * what the passes before found says what is worth keeping of the next one, so that few scores are
 * written anywhere. */
#include "base/error.h"
#include "vector/best.h"
#include "vector/card_state.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define RUN_ROWS   128                   /* that a warp compares one behind the other */
#define FIRST_ROWS 4096                  /* of the first pass, all of which are kept */
#define GROWTH     16                    /* of passes: cuda_vector.h */
#define K_MAX      1024                  /* larger ones are searched without a card */
#define KEEP_MORE  8                     /* times as many, where the bound leaves something open */
#define FOUND_MOST ((size_t)128 << 20)   /* bytes of keys of the queries of a call */
#define GROUP      16                    /* found rows that are scored at a time */
#define FEW_SHARE  64                    /* of the rows must be allowed, for passes over all to pay */
#define WALK_US    50.0f                 /* of a walk along a graph, about */
#define CALL_US    100.0f                /* of a call, about */
#define BYTES_A_US 3.5e6f                /* that a card reads */

/* One query on its way. */
struct asked {
    const struct vector_search *search;
    struct vector_query query;
    struct vector_found *found;
    int32_t *n_found;
    int32_t number, k, open; /* open: more must be kept */
    uint64_t *keys; /* what the card found: `keep`, 0 behind the last */
};

struct call {
    const struct vector_space *space;
    struct vector_card *card;
    struct vector_copy *copy;
    struct vector_view view;
    struct asked *asked;
    int32_t n, keep, room, n_rows;
    uint8_t *values; /* of the queries */
    uint64_t *keys;
    uint32_t *lost;
};

/* ------------------------------------------------------------------- memory */

/* Where things lie in the card's area, and in pinned memory alike. */
struct layout {
    size_t values, mask, best, lost;         /* both */
    size_t queries, notes, keys, least, counts; /* the card alone */
    size_t pinned_bytes, bytes;
};

static size_t place(size_t *at, size_t bytes)
{
    const size_t here = *at;
    *at = BASE_ALIGN_UP(here + bytes, (size_t)256);
    return here;
}

static struct layout layout_of(const struct call *c)
{
    const int32_t form = c->copy->rows.form, dims = c->view.shape.dims;
    const size_t n = (size_t)c->n;
    const size_t query = kern_cuda_vector_query_bytes(form, dims);
    struct layout l = {0};
    size_t at = 0;
    l.values = place(&at, form == KERN_CUDA_VECTOR_BITS ? n * query : n * (size_t)dims * 4);
    l.mask = place(&at, ((size_t)c->n_rows + 63) / 64 * 8);
    l.best = place(&at, n * (size_t)c->keep * 8);
    l.lost = place(&at, n * 4);
    l.pinned_bytes = at;
    l.queries = place(&at, form == KERN_CUDA_VECTOR_BITS ? 0 : n * query);
    l.notes = place(&at, n * sizeof(struct kern_cuda_vector_note));
    l.keys = place(&at, n * (size_t)c->room * 8);
    l.least = place(&at, n * 8);
    l.counts = place(&at, n * 4);
    l.bytes = at;
    return l;
}

static infer_status grow_area(struct vector_card *card, const struct layout *l)
{
    struct card_area *area = &card->area;
    infer_status st = INFER_OK;
    if (area->card.bytes < l->bytes) {
        device_buffer_free(&area->card);
        st = device_buffer_alloc(card->device, l->bytes, &area->card);
    }
    if (st == INFER_OK && area->pinned_bytes < l->pinned_bytes) {
        void *pinned = NULL;
        device_cuda_host_free(card->device, area->pinned);
        area->pinned = NULL;
        area->pinned_bytes = 0;
        st = device_cuda_host_alloc(card->device, l->pinned_bytes, &pinned);
        if (st == INFER_OK) {
            area->pinned = pinned;
            area->pinned_bytes = l->pinned_bytes;
        }
    }
    return st;
}

/* Rows that may be found, by bits. Whether there are others. */
static int32_t make_mask(const struct vector_search *s, int32_t n_rows, uint64_t *mask)
{
    const struct vector_rows *allowed = &s->allowed;
    for (int32_t word = 0; (allowed->bits || s->dead) && word < (n_rows + 63) / 64; word++) {
        const int32_t covered = allowed->n - word * 64;
        uint64_t bits = ~(uint64_t)0;
        if (allowed->bits) {
            bits = covered > 0 ? allowed->bits[word] : 0;
            bits &= covered >= 64 || covered <= 0 ? ~(uint64_t)0 : ((uint64_t)1 << covered) - 1;
        }
        if (s->dead)
            bits &= ~atomic_load_explicit(&s->dead[word], memory_order_relaxed);
        mask[word] = bits;
    }
    return allowed->bits || s->dead;
}

/* ------------------------------------------------------------------ the card */

/* What scores may be off by in the sums of the processor and of the card, over the product of both
 * lengths. The card adds 16 products to a sum without rounding the terms to nearest (Fasi, Higham,
 * Mikaitis and Pranesh, Numerical behavior of NVIDIA tensor cores, 2021). */
static float rounding(const struct vector_view *view)
{
    const float dims = (float)view->shape.dims;
    return (dims / 8.0f + 64.0f) * 0x1p-24f + (dims * 1.25f + 64.0f) * 0x1p-23f;
}

static infer_status launch_queries(const struct call *c, const struct layout *l, void *stream)
{
    struct device_buffer *area = &c->card->area.card;
    const struct kern_cuda_vector_queries_args args = {
        .to = card_at(area, l->queries),
        .notes = card_at(area, l->notes),
        .from = card_at(area, l->values),
        .rounding = rounding(&c->view),
        .form = c->copy->rows.form,
        .dims = c->view.shape.dims,
        .n = c->n,
    };
    if (c->copy->rows.form == KERN_CUDA_VECTOR_BITS)
        return INFER_OK;
    return device_cuda_check(c->card->device, c->card->kernels->queries(&args, stream),
                             "making queries ready");
}

static infer_status launch_passes(const struct call *c, const struct layout *l, int32_t masked,
                                  void *stream)
{
    struct device_buffer *area = &c->card->area.card;
    const struct kern_cuda_vectors *rows = &c->copy->rows;
    const int32_t run = RUN_ROWS / kern_cuda_vector_tile_rows(rows->form);
    const int32_t runs = BASE_DIV_UP(rows->n_tiles, run);
    const size_t queries = rows->form == KERN_CUDA_VECTOR_BITS ? l->values : l->queries;
    struct kern_cuda_vector_scan_args scan = {
        .rows = *rows,
        .queries = card_at(area, queries),
        .query_notes = card_at(area, l->notes),
        .mask = masked ? card_at(area, l->mask) : NULL,
        .keys = card_at(area, l->keys),
        .least = card_at(area, l->least),
        .counts = card_at(area, l->counts),
        .n_queries = c->n,
        .room = c->room,
        .n_rows = c->n_rows,
        .run = run,
        .stride = 1,
    };
    struct kern_cuda_vector_select_args select = {
        .keys = scan.keys,
        .least = scan.least,
        .counts = scan.counts,
        .lost = card_at(area, l->lost),
        .n_queries = c->n,
        .room = c->room,
        .keep = c->keep,
    };
    while (BASE_DIV_UP(runs, scan.stride) > FIRST_ROWS / RUN_ROWS)
        scan.stride *= GROWTH;
    infer_status st = INFER_OK;
    for (; scan.stride > 0 && st == INFER_OK; scan.stride /= GROWTH, scan.later = 1) {
        select.best = scan.stride == 1 ? card_at(area, l->best) : NULL;
        st = device_cuda_check(c->card->device, c->card->kernels->scan(&scan, stream),
                               "comparing vectors");
        if (st == INFER_OK)
            st = device_cuda_check(c->card->device, c->card->kernels->select(&select, stream),
                                   "choosing the best");
    }
    return st;
}

/* With `lock`: brings the queries to the card and what it finds back. */
static infer_status search_card(struct call *c)
{
    struct vector_card *card = c->card;
    const struct layout l = layout_of(c);
    const size_t value_bytes = l.mask - l.values;
    void *stream;
    infer_status st = grow_area(card, &l);
    if (st != INFER_OK)
        return st;
    uint8_t *pinned = card->area.pinned;
    struct device_buffer *area = &card->area.card;
    const size_t each = c->copy->rows.form == KERN_CUDA_VECTOR_BITS
                            ? c->view.row_bytes
                            : (size_t)c->view.shape.dims * sizeof(float);
    for (int32_t q = 0; q < c->n; q++) {
        const struct vector_query *query = &c->asked[q].query;
        memcpy(pinned + l.values + (size_t)q * each,
               query->bits ? (const void *)query->bits : (const void *)query->values, each);
    }
    const int32_t masked =
        make_mask(c->asked[0].search, c->n_rows, (uint64_t *)(void *)(pinned + l.mask));
    st = device_cuda_copy_in(card->device, card_at(area, l.values), pinned + l.values,
                             masked ? l.best - l.values : value_bytes);
    if (st == INFER_OK)
        st = device_buffer_fill(area, l.least, 0, l.bytes - l.least);
    if (st == INFER_OK)
        st = device_buffer_fill(area, l.lost, 0, (size_t)c->n * 4);
    if (st == INFER_OK)
        st = device_cuda_enter(card->device, &stream);
    if (st != INFER_OK)
        return st;
    st = launch_queries(c, &l, stream);
    if (st == INFER_OK)
        st = launch_passes(c, &l, masked, stream);
    device_cuda_leave(card->device);
    if (st == INFER_OK)
        st = device_cuda_copy_out(card->device, pinned + l.best, card_at(area, l.best),
                                  l.pinned_bytes - l.best);
    if (st == INFER_OK)
        st = card->device->ops->sync(card->device);
    if (st == INFER_OK) {
        memcpy(c->keys, pinned + l.best, (size_t)c->n * (size_t)c->keep * 8);
        memcpy(c->lost, pinned + l.lost, (size_t)c->n * 4);
    }
    return st;
}

/* ------------------------------------------------------------------- scoring */

static float score_at_most(uint64_t key)
{
    const uint32_t bits = kern_cuda_vector_unorder((uint32_t)(key >> 32));
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* What a score of the card must reach for a row that may be among the best: those of L2 are
 * x y - |y|^2 / 2. */
static float least_of(const struct call *c, const struct asked *a, const struct vector_best *best)
{
    double least = (double)vector_best_least(best);
    if (isinf(least))
        return (float)least;
    if (c->view.shape.metric == INFER_METRIC_L2) {
        least = least * (1.0 + 2.0 * (double)rounding(&c->view));
        least = (least + a->query.length * a->query.length) * 0.5;
    }
    return nextafterf((float)least, -INFINITY);
}

static void sift_keys(uint64_t *keys, int32_t n, int32_t at)
{
    const uint64_t x = keys[at];
    for (int32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        child += child + 1 < n && keys[child + 1] < keys[child];
        if (keys[child] >= x)
            break;
        keys[at] = keys[child];
        at = child;
    }
    keys[at] = x;
}

/* Largest first. */
static void sort_keys(uint64_t *keys, int32_t n)
{
    for (int32_t i = n / 2 - 1; i >= 0; i--)
        sift_keys(keys, n, i);
    for (int32_t end = n - 1; end > 0; end--) {
        const uint64_t least = keys[0];
        keys[0] = keys[end];
        keys[end] = least;
        sift_keys(keys, end, 0);
    }
}

/* The best of what the card found; open where more may be among them. Of signs the card's order is
 * the true one. */
static void score_one(const struct call *c, struct asked *a)
{
    const int32_t is_bits = c->view.shape.type == INFER_INDEX_BINARY;
    struct vector_scored list[K_MAX];
    struct vector_best best = {list, a->k, 0};
    int32_t at = 0, is_sure = 0;
    sort_keys(a->keys, c->keep);
    while (at < c->keep && a->keys[at] && !is_sure) {
        int32_t rows[GROUP], n = 0;
        float scores[GROUP];
        for (; n < GROUP && at < c->keep && a->keys[at]; n++, at++)
            rows[n] = (int32_t)~(uint32_t)a->keys[at];
        vector_view_score(&c->view, &a->query, rows, n, scores);
        for (int32_t i = 0; i < n; i++)
            vector_best_offer(&best, scores[i], rows[i]);
        is_sure = is_bits ? best.n == best.k
                          : at < c->keep && a->keys[at] &&
                                score_at_most(a->keys[at]) < least_of(c, a, &best);
    }
    /* What was not kept is no better than the last that was. */
    a->open = !is_sure && a->keys[c->keep - 1] != 0 &&
              !(score_at_most(a->keys[c->keep - 1]) < least_of(c, a, &best));
    if (a->open)
        return;
    vector_best_sort(&best);
    for (int32_t i = 0; i < best.n; i++)
        a->found[i] = (struct vector_found){
            best.list[i].row, best.list[i].score,
            vector_distance(c->view.shape.metric, best.list[i].score)};
    *a->n_found = best.n;
}

static void score_some(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct call *c = arg;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++)
        score_one(c, &c->asked[i]);
}

/* --------------------------------------------------------------------- calls */

static int32_t keep_of(int32_t k)
{
    return BASE_MIN(BASE_ALIGN_UP(k + k / 2 + 32, 32), KERN_CUDA_VECTOR_KEEP_MAX);
}

static infer_status make_room(struct call *c)
{
    const struct base_alloc *a = &c->space->alloc;
    base_free(a, c->keys);
    c->room = BASE_MAX(2 * FIRST_ROWS, 2 * GROWTH * c->keep);
    c->keys = base_new_raw(a, (size_t)c->n * (size_t)c->keep, sizeof *c->keys);
    if (!c->keys)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < c->n; i++)
        c->asked[i].keys = c->keys + (size_t)i * (size_t)c->keep;
    return INFER_OK;
}

/* Queries that are open go on, in front; marks the others that were answered. */
static void end_round(struct call *c, struct vector_how *how, uint8_t *is_done)
{
    int32_t n = 0;
    for (int32_t i = 0; i < c->n; i++) {
        struct asked *a = &c->asked[i];
        if (c->lost[i])
            continue; /* more than there is room for may be among the best */
        if (a->open) {
            c->asked[n++] = *a;
            continue;
        }
        how[a->number] = (struct vector_how){
            .path = a->search->allowed.bits ? INFER_SEARCH_LIST : INFER_SEARCH_FLAT,
            .exact = 1,
            .on_card = 1,
            .n_compared = c->n_rows};
        is_done[a->number] = 1;
    }
    c->n = n;
}

/* Exact searches over the same rows. What the card cannot do is left undone. */
static infer_status run_call(struct call *c, struct base_pool *pool, struct vector_how *how,
                             uint8_t *is_done)
{
    infer_status st = INFER_OK;
    while (c->n > 0 && st == INFER_OK) {
        st = make_room(c);
        if (st != INFER_OK)
            return st;
        pthread_mutex_lock(&c->card->lock);
        const infer_status done = search_card(c);
        pthread_mutex_unlock(&c->card->lock);
        if (done != INFER_OK) {
            card_failed(c->card, done);
            return INFER_OK;
        }
        if (pool && c->n > 1)
            base_pool_run(pool, score_some, c, c->n, 1);
        else
            score_some(c, 0, c->n, 0);
        end_round(c, how, is_done);
        if (c->keep == KERN_CUDA_VECTOR_KEEP_MAX)
            return INFER_OK;
        c->keep = BASE_MIN(c->keep * KEEP_MORE, KERN_CUDA_VECTOR_KEEP_MAX);
    }
    return st;
}

/* What of `n` searches, of which `same` are alike, is for the card. */
static int32_t is_for_card(const struct vector_space *space, const struct vector_search *s,
                           int32_t n_rows, int32_t n)
{
    const struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_acquire);
    const struct kern_cuda_vectors *rows = &space->copy->rows;
    const int32_t n_allowed = s->allowed.bits ? BASE_MIN(s->allowed.n_set, n_rows) : n_rows;
    if (s->k < 1 || s->k > K_MAX || s->codes_alone || s->reach || n_allowed < 1 ||
        n_allowed < n_rows / FEW_SHARE)
        return 0;
    const struct vector_plan plan = vector_plan_make(space, graph, s, n_rows, n_allowed, 1);
    if (plan.exact || plan.ef == 0)
        return 1;
    /* A walk is short: reading all rows pays for many queries at once, or few rows. */
    const int32_t group = space->config.card->kernels->group(rows->form, rows->dims);
    const float bytes = (float)rows->n_tiles *
                        (float)kern_cuda_vector_tile_bytes(rows->form, rows->dims);
    return CALL_US / (float)n + bytes / BYTES_A_US / (float)BASE_MIN(n, group) < WALK_US;
}

static int32_t same_rows(const struct vector_search *a, const struct vector_search *b)
{
    return a->allowed.bits == b->allowed.bits && a->allowed.n == b->allowed.n &&
           a->dead == b->dead && a->n_rows == b->n_rows;
}

/* Takes searches over the rows of number `first`, from there on, as many as one call has. */
static void gather(struct call *c, const struct vector_search *searches, int32_t n, int32_t first,
                   struct vector_found *const *found, int32_t *n_found, const uint8_t *wanted,
                   uint8_t *taken)
{
    const size_t query_bytes = vector_query_bytes(&c->view.shape);
    int32_t most = n;
    c->n = 0;
    c->keep = 0;
    c->n_rows = BASE_MIN(searches[first].n_rows, c->copy->n_rows);
    for (int32_t i = first; i < n && c->n < most; i++) {
        if (!wanted[i] || taken[i] || !same_rows(&searches[first], &searches[i]))
            continue;
        struct asked *a = &c->asked[c->n];
        *a = (struct asked){.search = &searches[i],
                            .found = found[i],
                            .n_found = &n_found[i],
                            .number = i,
                            .k = BASE_MIN(searches[i].k, c->n_rows)};
        vector_query_set(&a->query, c->values + (size_t)c->n * query_bytes, &c->view,
                         searches[i].query);
        c->keep = BASE_MAX(c->keep, keep_of(a->k));
        most = (int32_t)BASE_MIN(
            (size_t)n, FOUND_MOST / (8 * (size_t)BASE_MAX(2 * FIRST_ROWS, 2 * GROWTH * c->keep)));
        taken[i] = 1;
        c->n++;
    }
}

infer_status vector_card_search(const struct vector_space *space, struct base_pool *pool,
                                const struct vector_search *searches, int32_t n,
                                struct vector_found *const *found, int32_t *n_found,
                                struct vector_how *how, uint8_t *is_done)
{
    const struct base_alloc *a = &space->alloc;
    struct call c = {.space = space, .card = space->config.card, .copy = space->copy};
    int32_t n_wanted = 0;
    if (!c.card || !searches[0].on_card || !card_copy_ready(c.card, space))
        return INFER_OK;
    uint8_t *marks = base_new(a, (size_t)n, 2); /* wanted, then taken */
    if (!marks)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n; i++) {
        const int32_t n_rows = BASE_MIN(searches[i].n_rows, c.copy->n_rows);
        marks[i] = n_rows > 0 && is_for_card(space, &searches[i], n_rows, n);
        n_wanted += marks[i];
    }
    vector_vectors_view(space->vectors, &c.view);
    c.asked = n_wanted ? base_new(a, (size_t)n_wanted, sizeof *c.asked) : NULL;
    c.lost = n_wanted ? base_new(a, (size_t)n_wanted, sizeof *c.lost) : NULL;
    const size_t bytes = (size_t)n_wanted * vector_query_bytes(&c.view.shape);
    c.values = n_wanted ? base_new_pages(a, bytes) : NULL;
    infer_status st = !n_wanted || (c.asked && c.lost && c.values) ? INFER_OK : INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n && n_wanted && st == INFER_OK; i++) {
        if (!marks[i] || marks[n + i])
            continue;
        gather(&c, searches, n, i, found, n_found, marks, marks + n);
        st = run_call(&c, pool, how, is_done);
        i -= 1; /* there may be more of the same rows */
        if (atomic_load(&c.card->failed))
            break;
    }
    base_free(a, c.keys);
    base_free(a, c.asked);
    base_free(a, c.lost);
    base_free_pages(a, c.values, bytes);
    base_free(a, marks);
    return st;
}
