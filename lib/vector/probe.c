/* A few partitions are read for a first idea of how far off the hits are, then those that are worth
 * it by that, the best ones first, while they still are. */
#include "vector/probe.h"

#include "vector/walk.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define BLOCK       64
#define LOCAL_LEAST 0.33f /* of the share of rows that pass must be met near the query */
#define FIRST       8 /* partitions that are read while nothing is known; then so many times more */

struct block {
    int32_t n;
    int32_t rows[BLOCK];
    const void *codes[BLOCK];
};

struct reading {
    struct vector_probe *probe;
    struct block blocks[2]; /* one is compared while the next one comes to the cache */
    int32_t at;
    float prune;              /* estimates below it are of no use */
    int64_t n_rows, n_passed; /* of the partitions that were read */
};

/* ----------------------------------------------------------------- centres */

static float distance_of(const struct vector_probe *p, float estimate)
{
    return vector_partitions_distance(p->metric, p->code->factor * estimate + p->code->base);
}

static float worst_distance(const struct vector_probe *p)
{
    return p->near->n < p->near->k ? INFINITY : distance_of(p, vector_best_least(p->near));
}

/* A partition is read if its key is no more than d^2 + 2 d r reach, d being the distance of the
 * worst hit; of products if it is no more than d + |q| r reach (Cauchy-Schwarz). */
static void find_keys(struct vector_probe *p)
{
    const struct vector_partitions *parts = p->partitions;
    const int32_t is_dot = p->metric == INFER_METRIC_DOT;
    /* distances are 2 - 2 score, and -score; what stands for one of products is -score */
    const float times = p->code->factor * (p->metric == INFER_METRIC_COSINE ? -2.0f : -1.0f);
    const float plus =
        p->metric == INFER_METRIC_COSINE ? 2.0f - 2.0f * p->code->base : -p->code->base;

    for (int32_t at = 0; at < parts->n; at += BLOCK) {
        const int32_t n = BASE_MIN(BLOCK, parts->n - at);
        const float *radius = parts->radius + at;
        const void *codes[BLOCK];
        float scores[BLOCK], *keys = p->keys + at;

        for (int32_t i = 0; i < n; i++) {
            codes[i] = parts->codes + (size_t)(at + i) * parts->slot;
        }
        p->graph->coder->estimate(scores, codes, n, &p->code->args);
        for (int32_t i = 0; i < n; i++) {
            keys[i] = scores[i] * times + plus - (is_dot ? 0.0f : radius[i] * radius[i]);
        }
    }
    p->n_compared += parts->n;
}

/* What the worst hit's distance makes of the reach. */
struct limit {
    float by_radius, plus;
};

static struct limit limit_of(const struct vector_probe *p, float distance)
{
    return p->metric == INFER_METRIC_DOT
               ? (struct limit){p->reach * (float)p->length, distance}
               : (struct limit){2.0f * p->reach * distance, distance * distance};
}

/* Partitions that are worth reading, the best ones first; those that were read have a key of
 * infinity. */
static int32_t select_within(struct vector_probe *p, float distance)
{
    const struct limit limit = limit_of(p, distance);
    const float *radius = p->partitions->radius;
    struct vector_best best = {p->room, p->partitions->n, 0};
    int32_t n = 0;

    for (int32_t i = 0; i < p->partitions->n; i++) {
        const float over = p->keys[i] - limit.by_radius * radius[i];

        p->room[n] = (struct vector_scored){-over, i};
        n += over <= limit.plus;
    }
    for (int32_t i = 0; i < n; i++) { /* there is room: each goes where it or one before was */
        vector_best_offer(&best, p->room[i].score, p->room[i].row);
    }
    vector_best_sort(&best);
    return best.n;
}

/* The `most` best ones, while nothing is known of the hits. */
static int32_t select_first(struct vector_probe *p, int32_t most)
{
    const struct limit unit = limit_of(p, 1.0f);
    const int32_t is_dot = p->metric == INFER_METRIC_DOT;
    const float *radius = p->partitions->radius;
    struct vector_best best = {p->room, BASE_MIN(most, p->partitions->n), 0};

    for (int32_t i = 0; i < p->partitions->n; i++) {
        /* as if the worst hit were as far off as most rows are from their centre */
        const float over = p->keys[i] - unit.by_radius * radius[i] * (is_dot ? 1.0f : radius[i]);

        if (over < INFINITY && -over >= vector_best_least(&best)) {
            vector_best_offer(&best, -over, i);
        }
    }
    vector_best_sort(&best);
    return best.n;
}

static int is_within(const struct vector_probe *p, int32_t which)
{
    const struct limit limit = limit_of(p, worst_distance(p));

    return p->near->n < p->near->k ||
           p->keys[which] - limit.by_radius * p->partitions->radius[which] <= limit.plus;
}

/* ------------------------------------------------------------------- rows */

static void compare_block(struct reading *r, struct block *block)
{
    struct vector_probe *p = r->probe;
    float scores[BLOCK];

    p->graph->coder->estimate(scores, block->codes, block->n, &p->code->args);
    p->n_compared += block->n;
    for (int32_t i = 0; i < block->n; i++) {
        if (scores[i] >= r->prune) {
            vector_best_offer(p->list, scores[i], block->rows[i]);
            if (vector_best_offer(p->near, scores[i], block->rows[i])) {
                r->prune = vector_best_least(p->near) - 2.0f * p->surely;
            }
            r->prune = fmaxf(r->prune, vector_best_least(p->list));
        }
    }
    block->n = 0;
}

/* Rows of a block that pass go behind those that wait; `at` may go beyond. A file's rows are looked
 * at here alone, so that opening it takes no longer the more there are. */
static inline uint32_t take_rows(struct reading *r, uint32_t at, uint32_t end)
{
    const struct vector_probe *p = r->probe;
    const uint32_t *rows = p->partitions->rows, n_rows = (uint32_t)p->n_rows;
    struct block *block = &r->blocks[r->at];
    const uint32_t stop = BASE_MIN(end, at + (uint32_t)(BLOCK - block->n));
    const int32_t before = block->n;
    int32_t n = before;

    if (p->allowed || p->dead) {
        for (; at < stop; at++) { /* without a branch: which rows pass is a matter of chance */
            const int32_t row = (int32_t)rows[at];

            block->rows[n] = row;
            n += rows[at] < n_rows && row != p->without &&
                 (!p->allowed || vector_rows_has(p->allowed, row)) &&
                 (!p->dead || !vector_is_dead(p->dead, row));
        }
    } else {
        for (; at < stop; at++) {
            block->rows[n] = (int32_t)rows[at];
            n += rows[at] < n_rows && (int32_t)rows[at] != p->without;
        }
    }
    for (int32_t i = before; i < n; i++) {
        const uint8_t *code = vector_graph_code(p->graph, block->rows[i]);

        for (size_t byte = 0; byte < p->graph->slot; byte += 64) {
            __builtin_prefetch(code + byte);
        }
        block->codes[i] = code;
    }
    block->n = n;
    return at;
}

static void read_partition(struct reading *r, int32_t which)
{
    const struct vector_partitions *parts = r->probe->partitions;
    const uint32_t end = parts->begin[which + 1];

    r->n_rows += end - parts->begin[which];
    for (uint32_t at = parts->begin[which]; at < end;) {
        const int32_t before = r->blocks[r->at].n;

        at = take_rows(r, at, end);
        r->n_passed += r->blocks[r->at].n - before;
        if (r->blocks[r->at].n == BLOCK) {
            r->at = !r->at;
            compare_block(r, &r->blocks[r->at]);
        }
    }
    r->probe->keys[which] = INFINITY;
}

static void read_rest(struct reading *r)
{
    compare_block(r, &r->blocks[!r->at]);
    compare_block(r, &r->blocks[r->at]);
}

/* Fewer near rows pass than far ones. */
static int lacks_near_rows(const struct reading *r)
{
    return (float)r->n_passed < (float)r->n_rows * r->probe->share * LOCAL_LEAST;
}

static void read_in_order(struct reading *r, int32_t n)
{
    const struct vector_probe *p = r->probe;

    for (int32_t i = 0; i < n; i++) {
        if (i + 1 < n) {
            __builtin_prefetch(p->partitions->rows + p->partitions->begin[p->room[i + 1].row]);
        }
        if (is_within(p, p->room[i].row)) {
            read_partition(r, p->room[i].row);
        }
    }
    read_rest(r);
}

int vector_probe_run(struct vector_probe *p)
{
    struct reading r = {.probe = p, .prune = -INFINITY};
    const int32_t reads_all = !(p->reach < 1e3f);

    if (reads_all) {
        for (int32_t i = 0; i < p->partitions->n; i++) {
            read_partition(&r, i);
        }
        read_rest(&r);
        return 1;
    }
    find_keys(p);
    for (int32_t most = FIRST; r.n_rows < p->partitions->n_rows && p->near->n < p->near->k;
         most = BASE_MIN(p->partitions->n, most * FIRST)) {
        const int32_t n = select_first(p, most);

        if (n == 0 || (r.n_rows > 0 && lacks_near_rows(&r))) {
            return n == 0; /* keys of a damaged file may be no numbers */
        }
        read_in_order(&r, n);
    }
    if (r.n_rows < p->partitions->n_rows && !lacks_near_rows(&r)) {
        read_in_order(&r, select_within(p, worst_distance(p)));
    }
    return r.n_rows == p->partitions->n_rows ||
           (!lacks_near_rows(&r) && worst_distance(p) <= p->far);
}
