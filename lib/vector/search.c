/* One search: the way that the plan says, then the best of what was found by the vectors as they
 * are kept. */
#include "base/error.h"
#include "vector/best.h"
#include "vector/flat.h"
#include "vector/parts.h"
#include "vector/probe.h"
#include "vector/scratch.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define BLOCK  64   /* rows of a scan that are compared at a time */
#define GROUP  16   /* candidates that are compared as they are kept at a time */
#define SURELY 4.0f /* standard errors that an estimate is not off by */
#define LIKELY 2.0f /* and seldom is */
#define MORE   8    /* times as many are kept where the last is as near as the hits, by codes */

/* --------------------------------------------------------------- scratch */

infer_status vector_scratch_create(struct vector_scratch **out, const struct base_alloc *a)
{
    struct vector_scratch *s = base_new(a, 1, sizeof(*s));

    if (!s) {
        return INFER_ERR_NO_MEMORY;
    }
    s->alloc = *a;
    vector_walk_room_init(&s->walk, a);
    *out = s;
    return INFER_OK;
}

void vector_scratch_destroy(struct vector_scratch **scratch)
{
    struct vector_scratch *s = *scratch;
    struct base_alloc a;

    *scratch = NULL;
    if (!s) {
        return;
    }
    a = s->alloc;
    vector_walk_room_release(&s->walk);
    base_free(&a, s->query_room);
    base_free(&a, s->code_room);
    base_free(&a, s->list);
    base_free(&a, s->best);
    base_free(&a, s->partitions);
    base_free(&a, s);
}

static infer_status grow(const struct base_alloc *a, void **room, size_t *has, size_t bytes)
{
    void *more;

    if (*has >= bytes) {
        return INFER_OK;
    }
    more = base_new_raw(a, 1, bytes);
    if (!more) {
        return INFER_ERR_NO_MEMORY;
    }
    base_free(a, *room);
    *room = more;
    *has = bytes;
    return INFER_OK;
}

/* What a search holds while it runs. */
struct run {
    const struct vector_search *search;
    struct vector_scratch *scratch;
    struct vector_view view;
    struct vector_graph_view graph;
    struct vector_query query;
    struct vector_code_query code;
    struct vector_plan plan;
    int32_t n_rows, n_allowed, without;
    int32_t k;
    int32_t n_list; /* of scratch->list: what was found by codes, best first */
    int32_t is_far; /* what is kept was made more already */
    int64_t n_compared;
};

static infer_status prepare(struct run *run, const struct vector_graph *graph)
{
    struct vector_scratch *s = run->scratch;
    const size_t n_list = (size_t)BASE_MAX(run->plan.n_keep, run->plan.ef);
    const size_t n_best = (size_t)BASE_MAX(run->k, run->plan.n_near);
    infer_status status =
        grow(&s->alloc, &s->query_room, &s->query_bytes, vector_query_bytes(&run->view.shape));

    if (!status && graph->coder) {
        status =
            grow(&s->alloc, &s->code_room, &s->code_bytes, vector_code_query_bytes(graph->coder));
    }
    if (!status) {
        status = grow(&s->alloc, &s->list, &s->list_bytes, n_list * sizeof(struct vector_scored));
    }
    if (!status) {
        status = grow(&s->alloc, &s->best, &s->best_bytes, n_best * sizeof(struct vector_scored));
    }
    if (!status && run->plan.partitions) {
        status =
            grow(&s->alloc, &s->partitions, &s->partitions_bytes,
                 (size_t)run->plan.partitions->n * (sizeof(struct vector_scored) + sizeof(float)));
    }
    if (!status && run->plan.ef > 0) {
        status = vector_walk_room_reserve(&s->walk, run->n_rows, run->plan.room + 1);
    }
    if (status) {
        return status;
    }
    vector_graph_view(graph, &run->graph);
    vector_query_set(&run->query, s->query_room, &run->view, run->search->query);
    if (graph->coder) {
        vector_code_query_set(&run->code, s->code_room, graph->coder, run->query.values,
                              VECTOR_ORDER_SCORE);
    }
    return INFER_OK;
}

/* ------------------------------------------------------------------ walk */

/* Whether enough was found. */
static int walk_graph(struct run *run)
{
    struct vector_scored *list = run->scratch->list;
    struct vector_walk walk = {
        .graph = &run->graph,
        .code = run->graph.coder ? &run->code : NULL,
        .vectors = &run->view,
        .query = &run->query,
        .allowed = run->search->allowed.bits ? &run->search->allowed : NULL,
        .dead = run->search->dead,
        .n_rows = run->n_rows,
        .ef = run->plan.ef,
        .room = run->plan.room,
        .effort = run->plan.effort,
        .without = run->without,
    };

    vector_walk_run(&walk, &run->scratch->walk);
    run->n_compared += walk.n_compared;
    run->n_list = 0;
    for (int32_t i = 0; i < walk.n; i++) {
        if (!(walk.list[i].row & VECTOR_BARRED)) {
            list[run->n_list++] = (struct vector_scored){
                walk.list[i].score, (int32_t)(walk.list[i].row & VECTOR_ROW_BITS)};
        }
    }
    /* Under a filter fewer than ef mean that the walk ran out of room or patience: what it found
     * may be far from the best. */
    return walk.n_live >= (walk.allowed ? BASE_MIN(walk.ef, run->n_allowed) : run->k);
}

/* ------------------------------------------------------------------ scan */

struct scan {
    struct run *run;
    struct vector_best best;
    int32_t rows[2][BLOCK]; /* a block is compared while the next one comes to the cache */
    const void *codes[2][BLOCK];
    int32_t n[2], at;
};

static void scan_block(struct scan *scan, int32_t which)
{
    struct run *run = scan->run;
    float scores[BLOCK];
    const int32_t n = scan->n[which];

    run->graph.coder->estimate(scores, scan->codes[which], n, &run->code.args);
    run->n_compared += n;
    for (int32_t i = 0; i < n; i++) {
        if (scores[i] >= vector_best_least(&scan->best)) {
            vector_best_offer(&scan->best, scores[i], scan->rows[which][i]);
        }
    }
    scan->n[which] = 0;
}

static inline void scan_row(struct scan *scan, int32_t row)
{
    const struct run *run = scan->run;
    const int32_t at = scan->at;
    const uint8_t *code;

    if ((run->search->dead && vector_is_dead(run->search->dead, row)) || row == run->without) {
        return;
    }
    code = vector_graph_code(&run->graph, row);
    for (size_t byte = 0; byte < run->graph.slot; byte += 64) {
        __builtin_prefetch(code + byte);
    }
    scan->codes[at][scan->n[at]] = code;
    scan->rows[at][scan->n[at]++] = row;
    if (scan->n[at] == BLOCK) {
        scan->at = !at;
        scan_block(scan, !at);
    }
}

static void scan_rows(struct run *run)
{
    const struct vector_rows *allowed = &run->search->allowed;
    struct scan scan = {.run = run, .best = {run->scratch->list, run->plan.n_keep, 0}};

    if (allowed->bits) {
        const int32_t n_rows = BASE_MIN(run->n_rows, allowed->n);

        for (int32_t word = 0; word < (n_rows + 63) / 64; word++) {
            for (uint64_t bits = allowed->bits[word]; bits; bits &= bits - 1) {
                const int32_t row = word * 64 + __builtin_ctzll(bits);

                if (row < n_rows) {
                    scan_row(&scan, row);
                }
            }
        }
    } else {
        for (int32_t row = 0; row < run->n_rows; row++) {
            scan_row(&scan, row);
        }
    }
    scan_block(&scan, !scan.at);
    scan_block(&scan, scan.at);
    vector_best_sort(&scan.best);
    run->n_list = scan.best.n;
}

/* ------------------------------------------------------------- partitions */

/* Whether that will do. */
static int read_partitions(struct run *run)
{
    const struct vector_partitions *partitions = run->plan.partitions;
    struct vector_scratch *s = run->scratch;
    struct vector_best list = {s->list, run->plan.n_keep, 0};
    struct vector_best near = {s->best, BASE_MIN(run->plan.n_near, run->n_allowed), 0};
    int is_enough;
    struct vector_probe probe = {
        .partitions = partitions,
        .graph = &run->graph,
        .code = &run->code,
        .allowed = run->search->allowed.bits ? &run->search->allowed : NULL,
        .dead = run->search->dead,
        .n_rows = run->n_rows,
        .without = run->without,
        .reach = run->plan.reach,
        .far = run->search->reach ? INFINITY
                                  : atomic_load_explicit(&partitions->far, memory_order_relaxed),
        .share = (float)run->n_allowed / (float)run->n_rows,
        .surely = SURELY * run->code.error,
        .length = run->query.length,
        .metric = run->view.shape.metric,
        .list = &list,
        .near = &near,
        .room = s->partitions,
        .keys = (float *)((struct vector_scored *)s->partitions + partitions->n),
    };

    is_enough = vector_probe_run(&probe);
    run->n_compared += probe.n_compared;
    vector_best_sort(&list);
    run->n_list = list.n;
    return is_enough;
}

static void keep_more(struct run *run)
{
    run->is_far = 1;
    run->plan.n_keep = (int32_t)BASE_MIN((int64_t)run->plan.n_keep * MORE, (int64_t)run->n_allowed);
}

/* Whether what codes found reaches beyond the hits by more than they are off: far from the query,
 * where a filter leaves nothing nearer, many rows are about as near. If not, more is kept. */
static int keeps_enough(struct run *run)
{
    const struct vector_scored *list = run->scratch->list;
    const int32_t n = run->n_list;

    if (n < run->plan.n_keep || n == run->n_allowed || run->is_far || run->search->codes_alone ||
        list[run->k - 1].score - list[n - 1].score >= LIKELY * run->code.error) {
        return 1;
    }
    keep_more(run);
    return 0;
}

/* --------------------------------------------------------------- results */

static void compare_kept(struct run *run, struct vector_best *best)
{
    const struct vector_scored *list = run->scratch->list;
    const float slack = SURELY * run->code.error;

    for (int32_t at = 0; at < run->n_list; at += GROUP) {
        const int32_t n = BASE_MIN(GROUP, run->n_list - at);
        int32_t rows[GROUP];
        float scores[GROUP];

        if (best->n == best->k && run->graph.coder &&
            run->code.factor * (list[at].score + slack) + run->code.base <
                vector_best_least(best)) {
            return; /* nor is any that follows among the best */
        }
        for (int32_t i = 0; i < n; i++) {
            rows[i] = list[at + i].row;
        }
        vector_view_score(&run->view, &run->query, rows, n, scores);
        run->n_compared += run->graph.coder ? n : 0;
        for (int32_t i = 0; i < n; i++) {
            vector_best_offer(best, scores[i], rows[i]);
        }
    }
}

static void finish(struct run *run, struct vector_found *found, int32_t *n_found)
{
    struct vector_best best = {run->scratch->best, run->k, 0};

    if (run->search->codes_alone && run->graph.coder) {
        for (int32_t i = 0; i < run->n_list && i < run->k; i++) {
            const struct vector_scored *x = (struct vector_scored *)run->scratch->list + i;

            vector_best_offer(&best, run->code.factor * x->score + run->code.base, x->row);
        }
    } else {
        compare_kept(run, &best);
    }
    vector_best_sort(&best);
    for (int32_t i = 0; i < best.n; i++) {
        found[i] =
            (struct vector_found){best.list[i].row, best.list[i].score,
                                  vector_distance(run->view.shape.metric, best.list[i].score)};
    }
    *n_found = best.n;
}

static infer_status search_exactly(const struct run *run, struct vector_found *found,
                                   int32_t *n_found, struct vector_how *how)
{
    const struct vector_flat flat = {.alloc = &run->scratch->alloc,
                                     .allowed = run->search->allowed,
                                     .dead = run->search->dead,
                                     .n_rows = run->n_rows};
    struct vector_flat_query query = {.query = run->search->query, .k = run->k, .found = found};
    infer_status status = vector_flat_search(&run->view, &flat, &query, 1);

    if (!status) {
        *n_found = query.n_found;
        how->exact = 1;
        how->n_compared = query.n_compared;
    }
    return status;
}

static infer_status scan_enough(struct run *run, const struct vector_graph *graph)
{
    infer_status status;

    scan_rows(run);
    if (keeps_enough(run)) {
        return INFER_OK;
    }
    status = prepare(run, graph);
    if (!status) {
        scan_rows(run);
    }
    return status;
}

/* Along the graph or over rows, as the plan says. */
static infer_status search_rest(struct run *run, const struct vector_graph *graph,
                                struct vector_found *found, int32_t *n_found,
                                struct vector_how *how)
{
    const int32_t scans = how->path; /* what it is where no graph is */
    infer_status status;

    how->path = run->plan.path;
    if (run->plan.exact) {
        return search_exactly(run, found, n_found, how);
    }
    status = prepare(run, graph);
    if (status) {
        return status;
    }
    how->ef = run->plan.ef;
    how->exact = 0;
    if (run->plan.ef == 0) {
        status = scan_enough(run, graph);
    } else if (!walk_graph(run)) {
        how->path = scans;
        how->ef = 0;
        if (!graph->coder) {
            return search_exactly(run, found, n_found, how);
        }
        status = scan_enough(run, graph);
    }
    if (status) {
        return status;
    }
    finish(run, found, n_found);
    how->n_compared = run->n_compared;
    return INFER_OK;
}

infer_status vector_search_run(const struct vector_space *space, struct vector_scratch *scratch,
                               const struct vector_search *search, int32_t without,
                               struct vector_found *found, int32_t *n_found, struct vector_how *how)
{
    const struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_acquire);
    struct run run = {.search = search, .scratch = scratch, .without = without};
    int is_enough;
    infer_status status;

    vector_vectors_view(space->vectors, &run.view);
    run.n_rows = BASE_MIN(search->n_rows, run.view.n);
    run.n_allowed = search->allowed.bits ? BASE_MIN(search->allowed.n_set, run.n_rows) : run.n_rows;
    run.k = BASE_MIN(search->k, run.n_allowed);
    *n_found = 0;
    *how = (struct vector_how){.path = search->allowed.bits ? INFER_SEARCH_LIST : INFER_SEARCH_FLAT,
                               .exact = 1};
    if (run.k <= 0) {
        return INFER_OK;
    }
    run.plan = vector_plan_make(space, graph, search, run.n_rows, run.n_allowed, 1);
    if (run.plan.partitions) {
        status = prepare(&run, graph);
        if (status) {
            return status;
        }
        is_enough = read_partitions(&run);
        if (is_enough && !keeps_enough(&run)) {
            status = prepare(&run, graph);
            if (status) {
                return status;
            }
            is_enough = read_partitions(&run);
        }
        if (is_enough) {
            how->path = INFER_SEARCH_PARTITIONS;
            how->exact = 0;
            finish(&run, found, n_found);
            how->n_compared = run.n_compared;
            return INFER_OK;
        }
        run.plan = vector_plan_make(space, graph, search, run.n_rows, run.n_allowed, 0);
        if (graph->coder) {
            keep_more(&run); /* the hits are likely far off */
        }
    }
    return search_rest(&run, graph, found, n_found, how);
}

infer_status vector_space_search(const struct vector_space *space, struct vector_scratch *scratch,
                                 const struct vector_search *search, struct vector_found *found,
                                 int32_t *n_found, struct vector_how *how)
{
    infer_status status = vector_vectors_check(&space->config.shape, search->query, 1);
    uint8_t is_done = 0;

    if (!status) {
        status = vector_card_search(space, NULL, search, 1, &found, n_found, how, &is_done);
    }
    return status || is_done ? status
                             : vector_search_run(space, scratch, search, -1, found, n_found, how);
}
