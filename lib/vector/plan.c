/* Which way a search goes: all rows, those that a filter leaves, the graph, or partitions; by what
 * it would cost, and by what was measured of the last two. */
#include "vector/parts.h"

#include <infer/index.h>
#include <math.h>

/* Costs, where comparing one code of a scan is 1. Measured on 200,000 vectors of 384 dims. */
#define LIST_COST                                                                                  \
    30.0f /* a list of neighbours: their codes, seldom in the cache, and sorting in                \
           */
#define KEPT_COST     4.0f    /* a vector as it is kept, of those that codes found */
#define QUERY_COST    300.0f  /* making a query ready for codes */
#define CENTRE_COST   0.8f    /* a partition's centre */
#define BIT_COST      0.25f   /* a row of a partition that is read ... */
#define READ_COST     1.3f    /* ... and one that passes */
#define ROW_COST      0.4f    /* a row of an exact search, and ... */
#define BYTE_COST     0.0013f /* ... its bytes */
#define EXACT_WORTH   1.25f   /* what may be paid for exact answers that nobody asked for */
#define WORD_COST     0.1f    /* a word of a filter's bits */
#define ROOM_MAX      16384   /* candidates of a walk under a filter */
#define KEEP_FACTOR   10      /* rows of a scan that are compared as they are kept, for each hit */
#define KEEP_LEAST    64
#define EF_RECALL     0.95f /* of `ef` hits, where no graph is there to keep as many candidates */
#define UNKNOWN_REACH -0.1f /* of vectors that nothing is known of */
#define UNKNOWN_SHARE 0.1f  /* of the rows, which that takes */
#define FILTER_SHARE  0.65f /* of ef that a filter which leaves next to nothing needs: see below */
#define FILTER_SLACK  1.5f  /* a filter's rows may lie further apart than they are on average */

const int32_t vector_pace_ks[VECTOR_PACE_KS] = {10, 100};
const float vector_pace_levels[VECTOR_PACE_LEVELS] = {0.7f,  0.8f,  0.9f,   0.95f,
                                                      0.98f, 0.99f, 0.995f, 0.999f};

/* For vectors that nothing is known of. */
static float guess_ef(int32_t k, float recall)
{
    const float miss = fmaxf(1.0f - recall, 1e-4f);

    return 20.0f * powf(miss, -0.6f) * powf(fmaxf(1.0f, (float)k / 10.0f), 0.8f);
}

/* Between what was measured, the logarithm of ef goes along with that of the share missed. */
static float pace_at(const struct vector_space *space, int32_t which, float recall)
{
    const _Atomic int32_t *pace = space->pace[which];
    float below = 0.0f, below_level = 0.0f;

    for (int32_t i = 0; i < VECTOR_PACE_LEVELS; i++) {
        const int32_t ef = atomic_load_explicit(&pace[i], memory_order_relaxed);
        const float level = vector_pace_levels[i];

        if (ef <= 0) {
            return 0.0f;
        }
        if (recall <= level) {
            const float span = logf((1.0f - below_level) / (1.0f - level));
            const float part = i > 0 ? logf((1.0f - below_level) / (1.0f - recall)) / span : 1.0f;

            return ef == INT32_MAX || i == 0 ? (float)ef : below * powf((float)ef / below, part);
        }
        below = (float)ef;
        below_level = level;
    }
    return below >= 1e9f ? below : below * 2.0f;
}

int32_t vector_pace_ef(const struct vector_space *space, int32_t k, float recall)
{
    const float few = pace_at(space, 0, recall), many = pace_at(space, 1, recall);
    const float k0 = (float)vector_pace_ks[0], k1 = (float)vector_pace_ks[1];
    float ef;

    if (few <= 0.0f || many <= 0.0f) {
        ef = guess_ef(k, recall);
    } else if ((float)k <= k0) {
        ef = few;
    } else if ((float)k >= k1) {
        ef = many * (float)k / k1;
    } else {
        ef = few * powf(many / few, logf((float)k / k0) / logf(k1 / k0));
    }
    return ef >= 1e9f ? INT32_MAX : BASE_MAX(k, (int32_t)ceilf(ef));
}

/* Of what was measured, along the logarithm of the share missed. */
static struct vector_way reach_at(const struct vector_partitions *p, int32_t which, float recall)
{
    struct vector_way before = {0.0f, 0.0f};
    float before_level = 0.0f;

    for (int32_t i = 0; i < VECTOR_PACE_LEVELS; i++) {
        const struct vector_reach *at = &p->reach[which][i];
        const float level = vector_pace_levels[i];
        const struct vector_way way = {
            atomic_load_explicit(&at->reach, memory_order_relaxed),
            (float)atomic_load_explicit(&at->n_rows, memory_order_relaxed)};

        if (way.n_rows <= 0.0f) {
            return (struct vector_way){UNKNOWN_REACH, (float)p->n_rows * UNKNOWN_SHARE};
        }
        if (recall <= level) {
            const float span = logf((1.0f - before_level) / (1.0f - level));
            const float part = logf((1.0f - before_level) / (1.0f - recall)) / span;

            return i == 0 || isinf(way.reach)
                       ? way
                       : (struct vector_way){before.reach + (way.reach - before.reach) * part,
                                             before.n_rows *
                                                 powf(way.n_rows / before.n_rows, part)};
        }
        before = way;
        before_level = level;
    }
    return (struct vector_way){INFINITY, (float)p->n_rows};
}

struct vector_way vector_pace_reach(const struct vector_partitions *p, float k, float recall)
{
    const struct vector_way few = reach_at(p, 0, recall), many = reach_at(p, 1, recall);
    const float k0 = (float)vector_pace_ks[0], k1 = (float)vector_pace_ks[1];
    const float part = k > k0 ? logf(k / k0) / logf(k1 / k0) : 0.0f;
    const float most = isinf(many.reach) && part < 1.0f ? 1.0f : many.reach;
    const float reach = isinf(few.reach) || isinf(most)
                            ? INFINITY
                            : few.reach + (most - few.reach) * fminf(part, 1.0f);
    const float n_rows = few.n_rows * powf(many.n_rows / few.n_rows, part);

    return (struct vector_way){reach, fminf(n_rows, (float)p->n_rows)};
}

/* The way through partitions, and its cost beside that of rows that are compared as they are kept.
 * Under a filter the k-th hit is about as far off as hit number k / share without. */
static float plan_partitions(struct vector_plan *plan, const struct vector_partitions *p,
                             const struct vector_search *search, float share)
{
    const int32_t n_near = BASE_MAX(search->k, search->ef);
    const struct vector_way way =
        vector_pace_reach(p, (float)n_near / share, search->ef > 0 ? EF_RECALL : search->recall);

    plan->partitions = p;
    plan->n_near = n_near;
    plan->reach = search->reach ? *search->reach : way.reach;
    return (float)p->n * CENTRE_COST +
           way.n_rows * ((share < 1.0f ? BIT_COST : 0.0f) + share * READ_COST);
}

/* What a walk needs beside ef. */
static void plan_walk(struct vector_plan *plan, const struct vector_search *search, float share,
                      float scan, int32_t n_rows)
{
    const int32_t is_filtered = search->allowed.bits != NULL;

    plan->path = is_filtered ? INFER_SEARCH_GRAPH_FILTERED : INFER_SEARCH_GRAPH;
    plan->ef = BASE_MIN(plan->ef, n_rows);
    plan->room = plan->ef;
    if (is_filtered || search->dead) {
        const float room = (float)plan->ef * (FILTER_SLACK + 1.0f) / share;

        plan->room = (int32_t)fminf((float)BASE_MAX(ROOM_MAX, 2 * plan->ef), room);
        plan->effort = is_filtered ? 64 + (int32_t)(scan / LIST_COST) : INT32_MAX;
    }
}

/* Candidates of a walk. Past rows that are barred it sees far more than these, and finds the best
 * among them more surely: fewer do. */
static int32_t walk_ef(const struct vector_space *space, const struct vector_search *search,
                       float share)
{
    const int32_t ef = search->ef > 0 ? BASE_MAX(search->ef, search->k)
                                      : vector_pace_ef(space, search->k, search->recall);
    const float part = FILTER_SHARE + (1.0f - FILTER_SHARE) * share;

    return search->allowed.bits && search->ef <= 0 && ef < INT32_MAX
               ? BASE_MAX(search->k, (int32_t)ceilf((float)ef * part))
               : ef;
}

struct vector_plan vector_plan_make(const struct vector_space *space,
                                    const struct vector_graph *graph,
                                    const struct vector_search *search, int32_t n_rows,
                                    int32_t n_allowed, int32_t may_probe)
{
    const int32_t is_filtered = search->allowed.bits != NULL;
    const int32_t has_codes = graph && graph->coder, has_links = graph && graph->degree > 0;
    const int32_t keep = BASE_MAX(KEEP_LEAST, has_links ? 0 : search->ef);
    const float share = (float)n_allowed / (float)n_rows;
    const struct vector_partitions *partitions =
        has_codes && may_probe ? atomic_load_explicit(&space->partitions, memory_order_acquire)
                               : NULL;
    struct vector_plan plan = {.path = is_filtered ? INFER_SEARCH_LIST : INFER_SEARCH_FLAT,
                               .effort = INT32_MAX},
                       probe;
    struct vector_view view;
    float scan, walk = INFINITY, read = INFINITY, kept, exact;

    plan.n_keep = (int32_t)BASE_MIN((int64_t)n_allowed, (int64_t)search->k * KEEP_FACTOR);
    plan.n_keep = has_codes ? BASE_MIN(n_allowed, BASE_MAX(plan.n_keep, keep)) : 0;
    /* Without a graph, and where all would be compared twice. */
    plan.exact = !graph || (search->ef <= 0 && search->recall >= 1.0f) || plan.n_keep == n_allowed;
    if (plan.exact) {
        return plan;
    }
    vector_vectors_view(space->vectors, &view);
    kept = QUERY_COST + (float)plan.n_keep * KEPT_COST;
    scan = (float)n_allowed + kept + (is_filtered ? (float)n_rows / 64.0f * WORD_COST : 0.0f);
    exact = (float)n_allowed * (ROW_COST + (float)view.row_bytes * BYTE_COST);
    if (has_links) {
        plan.ef = walk_ef(space, search, share);
        walk =
            (float)plan.ef * ((is_filtered ? FILTER_SLACK / share : 1.0f) * LIST_COST + KEPT_COST) +
            sqrtf((float)n_rows) + QUERY_COST;
    }
    probe = plan;
    if (partitions && partitions->n_rows >= n_rows &&
        (search->ef <= 0 || is_filtered || !has_links)) {
        read = plan_partitions(&probe, partitions, search, share) + kept;
        probe.n_keep = BASE_MIN(n_allowed, BASE_MAX(probe.n_keep, search->ef));
    }
    if (probe.partitions && (search->reach || read < BASE_MIN(BASE_MIN(scan, exact), walk))) {
        probe.path = INFER_SEARCH_PARTITIONS;
        probe.ef = 0;
        return probe;
    }
    if (BASE_MIN(scan, exact) <= walk && !(has_links && search->ef > 0 && !is_filtered)) {
        plan.ef = 0;
        plan.exact = !has_codes || exact <= EXACT_WORTH * scan;
        return plan;
    }
    plan_walk(&plan, search, share, scan, n_rows);
    return plan;
}
