/* Best-first search along the graph with a bounded list of candidates.
 *
 * A candidate's score is an estimate by its code: reading a neighbour costs two cache lines, and no
 * vector is read at all on the way (SymphonyQG, arXiv:2411.12229, estimates too, but reads the
 * vector of each row that it goes through). What is found is compared by its vectors afterwards.
 *
 * Rows that are barred stay in the list as ways, without counting: the list holds whatever is
 * better than the last of `ef` rows that may be hits, as if these had a list of their own. */
#include "vector/walk.h"

#include <string.h>

#define N_ENTRIES 4  /* hubs that a walk begins at */
#define BLOCK     64 /* hubs that are compared at a time */
#define TOGETHER  4  /* lists that are read at a time: more codes on their way to the cache */

void vector_walk_room_init(struct vector_walk_room *room, const struct base_alloc *a)
{
    memset(room, 0, sizeof(*room));
    room->alloc = *a;
}

void vector_walk_room_release(struct vector_walk_room *room)
{
    base_free(&room->alloc, room->visited);
    base_free(&room->alloc, room->list);
    room->visited = NULL;
    room->list = NULL;
    room->n_words = 0;
    room->n_list = 0;
}

infer_status vector_walk_room_reserve(struct vector_walk_room *room, int32_t n_rows, int32_t n_list)
{
    const size_t n_words = ((size_t)n_rows + 63) / 64;

    if (room->n_words < n_words) {
        uint64_t *visited = base_new_raw(&room->alloc, n_words + n_words / 4, sizeof(*visited));

        if (!visited) {
            return INFER_ERR_NO_MEMORY;
        }
        base_free(&room->alloc, room->visited);
        room->visited = visited;
        room->n_words = n_words + n_words / 4;
    }
    if (room->n_list < n_list) {
        struct vector_candidate *list = base_new_raw(&room->alloc, (size_t)n_list, sizeof(*list));

        if (!list) {
            return INFER_ERR_NO_MEMORY;
        }
        base_free(&room->alloc, room->list);
        room->list = list;
        room->n_list = n_list;
    }
    return INFER_OK;
}

/* -------------------------------------------------------------- the list */

static inline int is_barred(const struct vector_walk *w, int32_t row)
{
    return (w->allowed && !vector_rows_has(w->allowed, row)) ||
           (w->dead && vector_is_dead(w->dead, row));
}

/* Below this a score is of no use. NaN is never above. */
static inline float least_of(const struct vector_walk *w)
{
    return w->n_live == w->ef || w->n == w->room ? w->list[w->n - 1].score : -3e38f;
}

/* Candidates that are at least as good. Halves without a branch: which half is a matter of chance.
 */
static inline int32_t count_better(const struct vector_candidate *list, int32_t n, float score)
{
    int32_t low = 0;

    while (n > 1) {
        const int32_t half = n / 2;

        low += list[low + half - 1].score >= score ? half : 0;
        n -= half;
    }
    return low + (n == 1 && list[low].score >= score);
}

/* Puts a row with a score above least_of() where it belongs; returns where. */
static inline int32_t put(struct vector_walk *w, float score, int32_t row)
{
    struct vector_candidate *list = w->list;
    const int32_t to = count_better(list, w->n, score);
    const int32_t barred = (w->allowed || w->dead) && is_barred(w, row);

    memmove(list + to + 1, list + to, (size_t)(w->n - to) * sizeof(*list));
    list[to].score = score;
    list[to].row = (uint32_t)row | (barred ? VECTOR_BARRED : 0);
    w->n++;
    w->n_live += !barred;
    while (w->n > w->room || w->n_live > w->ef ||
           (w->n_live == w->ef && list[w->n - 1].row & VECTOR_BARRED)) {
        w->n--;
        w->n_live -= !(list[w->n].row & VECTOR_BARRED);
    }
    return to;
}

/* ------------------------------------------------------------- comparing */

static void compare(struct vector_walk *w, const void *const *codes, const int32_t *rows, int32_t n,
                    float *scores)
{
    if (w->code) {
        w->graph->coder->estimate(scores, codes, n, &w->code->args);
    } else {
        vector_view_score(w->vectors, w->query, rows, n, scores);
    }
    w->n_compared += n;
}

static void enter(struct vector_walk *w, struct vector_walk_room *room)
{
    const struct vector_graph_view *g = w->graph;
    struct vector_candidate best[N_ENTRIES];
    int32_t n_best = 0;

    for (int32_t at = 0; at < g->n_hubs; at += BLOCK) {
        const void *codes[BLOCK];
        int32_t rows[BLOCK], n = 0;
        float scores[BLOCK];

        for (int32_t i = at; i < g->n_hubs && i < at + BLOCK; i++) {
            const int32_t row = g->hubs[i];

            if (row >= 0 && row < w->n_rows && row != w->without) {
                codes[n] =
                    g->slot ? g->hub_codes + (size_t)i * g->slot : NULL; /* BINARY has none */
                rows[n++] = row;
            }
        }
        compare(w, codes, rows, n, scores);
        for (int32_t i = 0; i < n; i++) {
            int32_t to = n_best;

            while (to > 0 && best[to - 1].score < scores[i]) {
                to--;
            }
            if (to < N_ENTRIES && scores[i] == scores[i]) {
                n_best += n_best < N_ENTRIES;
                memmove(best + to + 1, best + to, (size_t)(n_best - 1 - to) * sizeof(best[0]));
                best[to] = (struct vector_candidate){scores[i], (uint32_t)rows[i]};
            }
        }
    }
    for (int32_t i = 0; i < n_best; i++) {
        const uint32_t row = best[i].row;

        if (!(room->visited[row / 64] >> row % 64 & 1)) { /* damaged hubs may be the same */
            room->visited[row / 64] |= UINT64_C(1) << row % 64;
            if (best[i].score > least_of(w)) {
                put(w, best[i].score, (int32_t)row);
            }
        }
    }
}

/* Takes a row that was not seen before, its code on the way to the cache; returns how many there
 * are now. */
static inline int32_t take(const struct vector_graph_view *g, uint64_t *visited, uint32_t link,
                           int32_t *rows, const void **codes, int32_t n)
{
    const uint64_t bit = UINT64_C(1) << link % 64;

    if (visited[link / 64] & bit) {
        return n;
    }
    visited[link / 64] |= bit;
    rows[n] = (int32_t)link;
    if (g->slot > 0) {
        const uint8_t *code = vector_graph_code(g, (int32_t)link);

        codes[n] = code;
        for (size_t at = 0; at < g->slot; at += 64) {
            __builtin_prefetch(code + at);
        }
    }
    return n + 1;
}

/* Neighbours of a row that were not seen before. */
static int32_t collect(const struct vector_walk *w, uint64_t *visited, int32_t row, int32_t *rows,
                       const void **codes)
{
    const struct vector_graph_view *g = w->graph;
    const _Atomic uint32_t *links = vector_graph_links(g, row);
    int32_t n = 0;

    for (int32_t i = 0; i < g->degree; i++) {
        const uint32_t link = vector_link_get(links + i);

        if (link < (uint32_t)w->n_rows) {
            n = take(g, visited, link, rows, codes, n);
        } else if (link == VECTOR_NO_LINK) {
            break;
        }
    }
    return n;
}

/* The same of a list that is packed. */
static int32_t collect_packed(const struct vector_walk *w, uint64_t *visited, int32_t row,
                              int32_t *rows, const void **codes)
{
    const struct vector_graph_view *g = w->graph;
    const struct vector_list_shape shape = g->lists;
    const uint8_t *list = vector_graph_list(g, row);
    const uint32_t end = (uint32_t)(shape.most * shape.bits);
    int32_t n = 0;

    for (uint32_t bit = 0; bit < end; bit += (uint32_t)shape.bits) {
        const uint32_t link = vector_list_get(&shape, list, bit);

        if (link < (uint32_t)w->n_rows) {
            n = take(g, visited, link, rows, codes, n);
        } else if (link == shape.none) {
            break;
        }
    }
    return n;
}

void vector_walk_run(struct vector_walk *w, struct vector_walk_room *room)
{
    int32_t at = 0;

    w->list = room->list;
    w->n = w->n_live = w->n_lists = 0;
    w->n_compared = 0;
    memset(room->visited, 0, ((size_t)w->n_rows + 63) / 64 * sizeof(*room->visited));
    if (w->without >= 0) {
        room->visited[w->without / 64] |= UINT64_C(1) << w->without % 64;
    }
    enter(w, room);
    while (at < w->n && w->n_lists < w->effort) {
        const void *codes[TOGETHER * VECTOR_DEGREE_MAX];
        int32_t rows[TOGETHER * VECTOR_DEGREE_MAX], n = 0;
        float scores[TOGETHER * VECTOR_DEGREE_MAX];

        for (int32_t taken = 0; at < w->n && taken < TOGETHER; at++) {
            if (!(w->list[at].row & VECTOR_WALKED)) {
                const int32_t row = (int32_t)(w->list[at].row & VECTOR_ROW_BITS);

                w->list[at].row |= VECTOR_WALKED;
                n += (w->graph->is_packed ? collect_packed : collect)(w, room->visited, row,
                                                                      rows + n, codes + n);
                taken++;
                w->n_lists++;
            }
        }
        compare(w, codes, rows, n, scores);
        for (int32_t i = 0; i < n; i++) {
            if (scores[i] > least_of(w)) {
                const uint8_t *list = vector_graph_list(w->graph, rows[i]);
                const int32_t to = put(w, scores[i], rows[i]);

                at = BASE_MIN(at, to);
                for (size_t j = 0; j < w->graph->list_bytes; j += 64) {
                    __builtin_prefetch(list + j);
                }
                __builtin_prefetch(list + w->graph->list_bytes - 1);
            }
        }
    }
}
