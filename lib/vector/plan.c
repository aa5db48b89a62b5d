/* Which way a search goes: all rows, those that a filter leaves, or the graph; by what it would
 * cost, and by what was measured of the graph. */
#include "vector/parts.h"

#include <infer/index.h>
#include <math.h>

/* Costs, where comparing one code of a scan is 1. Measured on 200,000 vectors of 384 dims. */
#define LIST_COST                                                                                  \
    30.0f /* a list of neighbours: their codes, seldom in the cache, and sorting in                \
           */
#define KEPT_COST    4.0f    /* a vector as it is kept, of those that codes found */
#define QUERY_COST   300.0f  /* making a query ready for codes */
#define ROW_COST     0.4f    /* a row of an exact search, and ... */
#define BYTE_COST    0.0013f /* ... its bytes */
#define EXACT_WORTH  1.25f   /* what may be paid for exact answers that nobody asked for */
#define WORD_COST    0.1f    /* a word of a filter's bits */
#define ROOM_MAX     16384   /* candidates of a walk under a filter */
#define KEEP_FACTOR  10      /* rows of a scan that are compared as they are kept, for each hit */
#define KEEP_LEAST   64
#define FILTER_SHARE 0.65f /* of ef that a filter which leaves next to nothing needs: see below */
#define FILTER_SLACK 1.5f  /* a filter's rows may lie further apart than they are on average */

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

struct vector_plan vector_plan_make(const struct vector_space *space,
                                    const struct vector_graph *graph,
                                    const struct vector_search *search, int32_t n_rows,
                                    int32_t n_allowed)
{
    const int32_t is_filtered = search->allowed.bits != NULL;
    const float share = (float)n_allowed / (float)n_rows;
    struct vector_plan plan = {.path = is_filtered ? INFER_SEARCH_LIST : INFER_SEARCH_FLAT,
                               .effort = INT32_MAX};
    struct vector_view view;
    float scan, walk, kept, exact;

    plan.n_keep = (int32_t)BASE_MIN((int64_t)n_allowed, (int64_t)search->k * KEEP_FACTOR);
    plan.n_keep = BASE_MIN(n_allowed, BASE_MAX(plan.n_keep, KEEP_LEAST));
    plan.exact = !graph || (search->ef <= 0 && search->recall >= 1.0f);
    plan.ef = search->ef > 0 ? BASE_MAX(search->ef, search->k)
                             : vector_pace_ef(space, search->k, search->recall);
    if (!plan.exact && !graph->coder) { /* rows are their own codes */
        plan.n_keep = 0;
    }
    if (!plan.exact && plan.n_keep == n_allowed) { /* all would be compared twice */
        plan.exact = 1;
    }
    if (plan.exact) {
        plan.ef = 0;
        return plan;
    }
    if (is_filtered && search->ef <= 0 && plan.ef < INT32_MAX) {
        /* Past rows that are barred a walk sees far more than ef, and finds the best among them
         * more surely: fewer do. */
        const float part = FILTER_SHARE + (1.0f - FILTER_SHARE) * share;

        plan.ef = BASE_MAX(search->k, (int32_t)ceilf((float)plan.ef * part));
    }
    vector_vectors_view(space->vectors, &view);
    kept = QUERY_COST + (float)plan.n_keep * KEPT_COST;
    scan = (float)n_allowed + kept + (is_filtered ? (float)n_rows / 64.0f * WORD_COST : 0.0f);
    walk = (float)plan.ef * ((is_filtered ? FILTER_SLACK / share : 1.0f) * LIST_COST + KEPT_COST) +
           sqrtf((float)n_rows) + QUERY_COST;
    exact = (float)n_allowed * (ROW_COST + (float)view.row_bytes * BYTE_COST);
    if (BASE_MIN(scan, exact) <= walk && !(search->ef > 0 && !is_filtered)) {
        plan.ef = 0;
        plan.exact = !graph->coder || exact <= EXACT_WORTH * scan;
        return plan;
    }
    plan.path = is_filtered ? INFER_SEARCH_GRAPH_FILTERED : INFER_SEARCH_GRAPH;
    plan.ef = BASE_MIN(plan.ef, n_rows);
    plan.room = plan.ef;
    if (is_filtered || search->dead) {
        const float room = (float)plan.ef * (FILTER_SLACK + 1.0f) / share;

        plan.room = (int32_t)fminf((float)BASE_MAX(ROOM_MAX, 2 * plan.ef), room);
        plan.effort = is_filtered ? 64 + (int32_t)(scan / LIST_COST) : INT32_MAX;
    }
    return plan;
}
