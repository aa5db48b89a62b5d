/* Partitions are read in the order of the distance that the worst of the hits must have for them to
 * be worth it, until it is nearer than that. */
#include "vector/probe.h"

#include "vector/walk.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define BLOCK       64
#define LOCAL_LEAST 0.33f /* of the share of rows that pass must be met near the query */
#define FIRST       16    /* partitions that are put in order at first; then so many times more */

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

/* ----------------------------------------------------------------- distance */

static float distance_of(const struct vector_probe *p, float estimate)
{
    return vector_partitions_distance(p->metric, p->code->factor * estimate + p->code->base);
}

/* How far off the worst hit must be for a partition to be read: the d that solves |q - c|^2 = d^2 +
 * r^2 + 2 d r reach. Of products the centre's and the reach's share of the largest that there can
 * be beside it (Cauchy-Schwarz). */
static float key_of(const struct vector_probe *p, int32_t which, float estimate)
{
    const float r = p->partitions->radius[which], reach = p->reach;
    const float from = distance_of(p, estimate);

    if (!(reach < 1e3f)) {
        return -INFINITY;
    }
    if (p->metric == INFER_METRIC_DOT) {
        return from - reach * (float)p->length * r;
    }
    return sqrtf(fmaxf(0.0f, from * from - (1.0f - reach * reach) * r * r)) - reach * r;
}

static void find_keys(struct vector_probe *p)
{
    const struct vector_partitions *parts = p->partitions;

    for (int32_t at = 0; at < parts->n; at += BLOCK) {
        const int32_t n = BASE_MIN(BLOCK, parts->n - at);
        const void *codes[BLOCK];
        float scores[BLOCK];

        for (int32_t i = 0; i < n; i++) {
            codes[i] = parts->codes + (size_t)(at + i) * parts->slot;
        }
        p->graph->coder->estimate(scores, codes, n, &p->code->args);
        for (int32_t i = 0; i < n; i++) {
            p->keys[at + i] = key_of(p, at + i, scores[i]);
        }
    }
    p->n_compared += parts->n;
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

static void take_row(struct reading *r, int32_t row)
{
    const struct vector_graph_view *graph = r->probe->graph;
    struct block *block = &r->blocks[r->at];
    const uint8_t *code = vector_graph_code(graph, row);

    for (size_t byte = 0; byte < graph->slot; byte += 64) {
        __builtin_prefetch(code + byte);
    }
    block->codes[block->n] = code;
    block->rows[block->n++] = row;
    if (block->n == BLOCK) {
        r->at = !r->at;
        compare_block(r, &r->blocks[r->at]);
    }
}

static void read_partition(struct reading *r, int32_t which)
{
    const struct vector_probe *p = r->probe;
    const struct vector_partitions *parts = p->partitions;
    const uint32_t end = parts->begin[which + 1];

    r->n_rows += end - parts->begin[which];

    for (uint32_t at = parts->begin[which]; at < end;) {
        const uint32_t stop = BASE_MIN(end, at + BLOCK);
        int32_t rows[BLOCK], n = 0;

        for (; at < stop; at++) { /* without a branch: which rows pass is a matter of chance */
            const int32_t row = (int32_t)parts->rows[at];

            rows[n] = row;
            n += row < p->n_rows && row != p->without &&
                 (!p->allowed || vector_rows_has(p->allowed, row)) &&
                 (!p->dead || !vector_is_dead(p->dead, row));
        }
        r->n_passed += n;
        for (int32_t i = 0; i < n; i++) {
            take_row(r, rows[i]);
        }
    }
}

static void read_rest(struct reading *r)
{
    compare_block(r, &r->blocks[!r->at]);
    compare_block(r, &r->blocks[r->at]);
}

/* ------------------------------------------------------------------ order */

/* The next ones, up to `most` that a hit at distance `within` is worth reading. */
static int32_t select(const struct vector_probe *p, const struct vector_scored *last, int32_t most,
                      float within)
{
    struct vector_best best = {p->room, most, 0};

    for (int32_t i = 0; i < p->partitions->n; i++) {
        const struct vector_scored x = {-p->keys[i], i};

        if (p->keys[i] <= within && (last->row < 0 || vector_is_worse(x, *last))) {
            vector_best_offer(&best, x.score, x.row);
        }
    }
    vector_best_sort(&best);
    return best.n;
}

static float worst_distance(const struct vector_probe *p)
{
    return p->near->n < p->near->k ? INFINITY : distance_of(p, vector_best_least(p->near));
}

/* Fewer near rows pass than far ones. */
static int lacks_near_rows(const struct reading *r)
{
    return (float)r->n_passed < (float)r->n_rows * r->probe->share * LOCAL_LEAST;
}

int vector_probe_run(struct vector_probe *p)
{
    struct reading r = {.probe = p, .prune = -INFINITY};
    struct vector_scored last = {0.0f, -1};

    find_keys(p);
    for (int32_t most = FIRST;; most = BASE_MIN(p->partitions->n, most * FIRST)) {
        const int32_t n = select(p, &last, BASE_MIN(most, p->partitions->n), worst_distance(p));

        for (int32_t i = 0; i < n && -p->room[i].score <= worst_distance(p); i++) {
            read_partition(&r, p->room[i].row);
        }
        read_rest(&r);
        if (r.n_rows == p->partitions->n_rows) {
            return 1;
        }
        if (lacks_near_rows(&r)) {
            return 0;
        }
        if (n == 0) {
            return worst_distance(p) <= p->far;
        }
        last = p->room[n - 1];
    }
}
