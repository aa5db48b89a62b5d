/* How many candidates a walk has to keep for which recall, and how far partitions have to be read,
 * measured on the space's own vectors: each of a sample is searched for as if it were not there. */
#include "base/error.h"
#include "vector/flat.h"
#include "vector/parts.h"

#include <math.h>

#define SAMPLE 512
#define K_MAX  100
#define MARGIN 0.2f /* of what may be missed is kept in hand: a sample errs */

static const int32_t efs[] = {10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 1024};

#define N_EFS ((int32_t)BASE_COUNT(efs))

static const float reaches[] = {-0.8f,  -0.6f, -0.45f, -0.36f, -0.3f, -0.24f,
                                -0.18f, -0.1f, 0.0f,   0.2f,   0.6f,  INFINITY};

#define N_REACHES ((int32_t)BASE_COUNT(reaches))
#define READ_MOST 8 /* an eighth of the rows: more is seldom worth it */

struct tuning {
    const struct vector_space *space;
    int32_t n_rows, n_sample, k, ef;
    const float *reach; /* NULL: by ef */
    float *queries;
    struct vector_found *truth; /* K_MAX + 1 a query */
    struct vector_flat_query *flat;
    struct vector_found *found; /* K_MAX a thread */
    struct vector_scratch *scratches[VECTOR_THREADS_MAX];
    int32_t n_threads;
    _Atomic int32_t next, status;
    _Atomic int64_t n_hits, n_wanted, n_compared;
};

static int32_t sample_row(const struct tuning *t, int32_t i)
{
    return (int32_t)((int64_t)i * t->n_rows / t->n_sample);
}

/* Hits that are as good as the worst one wanted: equals may come in any order. */
static void count_hits(struct tuning *t, int32_t i, const struct vector_found *found,
                       int32_t n_found)
{
    const struct vector_found *truth = t->truth + (size_t)i * (K_MAX + 1);
    const int32_t row = sample_row(t, i);
    int32_t n = 0, hits = 0;
    float least = 0.0f;

    for (int32_t j = 0; j < t->flat[i].n_found && n < t->k; j++) {
        if (truth[j].row != row) {
            least = truth[j].score;
            n++;
        }
    }
    for (int32_t j = 0; j < n_found && hits < n; j++) {
        hits += found[j].score >= least;
    }
    atomic_fetch_add_explicit(&t->n_hits, hits, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->n_wanted, n, memory_order_relaxed);
}

static void measure_some(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct tuning *t = arg;

    BASE_UNUSED(begin);
    BASE_UNUSED(end);
    for (;;) {
        const int32_t i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
        struct vector_found *found = t->found + (size_t)thread * K_MAX;
        struct vector_search search = {
            .k = t->k, .ef = t->ef, .reach = t->reach, .recall = 0.5f, .n_rows = t->n_rows};
        struct vector_how how;
        int32_t n_found;
        infer_status status;

        if (i >= t->n_sample) {
            return;
        }
        search.query = t->queries + (size_t)i * (size_t)t->space->config.shape.dims;
        status = vector_search_run(t->space, t->scratches[thread], &search, sample_row(t, i), found,
                                   &n_found, &how);
        if (status) {
            atomic_store_explicit(&t->status, status, memory_order_relaxed);
        } else {
            count_hits(t, i, found, n_found);
            atomic_fetch_add_explicit(&t->n_compared, how.n_compared, memory_order_relaxed);
        }
    }
}

static infer_status measure(struct tuning *t, struct base_pool *pool, float *recall)
{
    t->next = 0;
    t->n_hits = t->n_wanted = t->n_compared = 0;
    if (t->n_threads > 1) {
        base_pool_run(pool, measure_some, t, t->n_threads, 1);
    } else {
        measure_some(t, 0, 1, 0);
    }
    *recall = (float)((double)t->n_hits / (double)BASE_MAX(t->n_wanted, 1));
    return t->status == INFER_OK ? INFER_OK
                                 : base_error(t->status, "out of memory while measuring recall");
}

/* Between two numbers of candidates the logarithm of the share missed goes along with theirs. */
static int32_t between(int32_t ef0, float miss0, int32_t ef1, float miss1, float miss)
{
    const float span = logf(fmaxf(miss0, 1e-5f) / fmaxf(miss1, 1e-5f));
    const float part = span > 0.0f ? logf(fmaxf(miss0, 1e-5f) / miss) / span : 1.0f;
    const float ef = (float)ef0 * powf((float)ef1 / (float)ef0, fminf(fmaxf(part, 0.0f), 1.0f));

    return BASE_MIN(ef1, (int32_t)ceilf(ef));
}

static infer_status measure_pace(struct tuning *t, struct base_pool *pool, int32_t *pace)
{
    int32_t level = 0, before = 0;
    float missed = 1.0f;
    infer_status status = INFER_OK;

    for (int32_t i = 0; i < N_EFS && level < VECTOR_PACE_LEVELS && !status; i++) {
        float recall = 0.0f;

        t->ef = efs[i];
        if (t->ef < t->k) {
            continue;
        }
        status = measure(t, pool, &recall);
        for (; level < VECTOR_PACE_LEVELS; level++) {
            const float miss = (1.0f - MARGIN) * (1.0f - vector_pace_levels[level]);

            if (1.0f - recall > miss) {
                break;
            }
            pace[level] = before ? between(before, missed, t->ef, 1.0f - recall, miss) : t->ef;
        }
        before = t->ef;
        missed = fminf(missed, 1.0f - recall);
    }
    while (level < VECTOR_PACE_LEVELS) {
        pace[level++] = INT32_MAX;
    }
    return status;
}

/* A share between 0 and 1 of the way that the logarithm of the share missed has gone. */
static float gone(float miss0, float miss1, float miss)
{
    const float span = logf(fmaxf(miss0, 1e-5f) / fmaxf(miss1, 1e-5f));

    return span > 0.0f ? fminf(fmaxf(logf(fmaxf(miss0, 1e-5f) / miss) / span, 0.0f), 1.0f) : 1.0f;
}

/* How far to read for k hits. */
static infer_status measure_reach(struct tuning *t, struct base_pool *pool,
                                  const struct vector_partitions *p, struct vector_way *ways)
{
    const float all = (float)p->n_rows;
    struct vector_way before = {0.0f, 0.0f};
    float missed = 1.0f;
    int32_t level = 0;
    infer_status status = INFER_OK;

    t->ef = 0;
    for (int32_t i = 0; i < N_REACHES && level < VECTOR_PACE_LEVELS && !status; i++) {
        struct vector_way now = {reaches[i], all};
        float recall = 0.0f;

        if (isinf(now.reach)) {
            break; /* whatever codes miss then, no other way through partitions finds */
        }
        t->reach = &reaches[i];
        status = measure(t, pool, &recall);
        now.n_rows = fmaxf(1.0f, (float)(t->n_compared / BASE_MAX(t->n_sample, 1) - p->n));
        for (; level < VECTOR_PACE_LEVELS; level++) {
            const float miss = (1.0f - MARGIN) * (1.0f - vector_pace_levels[level]);
            const float part = gone(missed, 1.0f - recall, miss);

            if (1.0f - recall > miss) {
                break;
            }
            ways[level] =
                before.n_rows > 0.0f
                    ? (struct vector_way){before.reach + (now.reach - before.reach) * part,
                                          before.n_rows * powf(now.n_rows / before.n_rows, part)}
                    : now;
        }
        before = now;
        missed = fminf(missed, 1.0f - recall);
        if (now.n_rows > all / (float)READ_MOST) {
            break;
        }
    }
    while (level < VECTOR_PACE_LEVELS) {
        ways[level++] = (struct vector_way){INFINITY, all};
    }
    t->reach = NULL;
    return status;
}

static infer_status prepare(struct tuning *t, struct base_pool *pool, const struct base_alloc *a)
{
    const size_t n = (size_t)t->n_sample, dims = (size_t)t->space->config.shape.dims;
    const struct vector_flat flat = {.alloc = a, .pool = pool, .n_rows = t->n_rows};
    struct vector_view view;
    infer_status status = INFER_OK;

    t->queries = base_new(a, n * dims, sizeof(*t->queries));
    t->truth = base_new(a, n * (K_MAX + 1), sizeof(*t->truth));
    t->flat = base_new(a, n, sizeof(*t->flat));
    t->found = base_new(a, (size_t)t->n_threads * K_MAX, sizeof(*t->found));
    if (!t->queries || !t->truth || !t->flat || !t->found) {
        return INFER_ERR_NO_MEMORY;
    }
    for (int32_t i = 0; i < t->n_threads && !status; i++) {
        status = vector_scratch_create(&t->scratches[i], a);
    }
    vector_vectors_view(t->space->vectors, &view);
    for (int32_t i = 0; i < t->n_sample; i++) {
        float *query = t->queries + (size_t)i * dims;

        vector_view_load(&view, sample_row(t, i), query);
        t->flat[i] = (struct vector_flat_query){
            .query = query, .k = K_MAX + 1, .found = t->truth + (size_t)i * (K_MAX + 1)};
    }
    return status ? status : vector_flat_search(&view, &flat, t->flat, t->n_sample);
}

/* Of many rows, unless they are there. */
static infer_status make_partitions(struct vector_space *space, const struct vector_graph *graph,
                                    struct base_pool *pool)
{
    struct vector_partitions *made = NULL;
    struct vector_view view;
    infer_status status;

    vector_vectors_view(space->vectors, &view);
    if (!graph->coder ||
        view.n < (graph->degree > 0 ? VECTOR_PARTITIONS_WITH : VECTOR_PARTITIONS_FROM) ||
        atomic_load_explicit(&space->partitions, memory_order_acquire)) {
        return INFER_OK;
    }
    status = vector_partitions_build(&made, &space->alloc, &view, graph->coder, space->config.seed,
                                     pool);
    if (!status) {
        atomic_store_explicit(&space->partitions, made, memory_order_release);
    }
    return status;
}

static infer_status tune_graph(struct tuning *t, struct vector_space *space, struct base_pool *pool)
{
    int32_t pace[VECTOR_PACE_KS][VECTOR_PACE_LEVELS];
    infer_status status = INFER_OK;

    for (int32_t i = 0; i < VECTOR_PACE_KS && !status; i++) {
        t->k = vector_pace_ks[i];
        status = measure_pace(t, pool, pace[i]);
    }
    for (int32_t i = 0; i < VECTOR_PACE_KS && !status; i++) {
        for (int32_t j = 0; j < VECTOR_PACE_LEVELS; j++) {
            atomic_store_explicit(&space->pace[i][j], pace[i][j], memory_order_relaxed);
        }
    }
    return status;
}

/* The farthest hit that is measured with. */
static float farthest(const struct tuning *t)
{
    const int32_t metric = t->space->config.shape.metric;
    float far = -INFINITY;

    for (int32_t i = 0; i < t->n_sample; i++) {
        const struct vector_found *truth = t->truth + (size_t)i * (K_MAX + 1);
        const int32_t n = t->flat[i].n_found;

        if (n > 0) {
            far = fmaxf(far, vector_partitions_distance(metric, truth[n - 1].score));
        }
    }
    return far;
}

static infer_status tune_partitions(struct tuning *t, struct vector_partitions *p,
                                    struct base_pool *pool)
{
    struct vector_way ways[VECTOR_PACE_KS][VECTOR_PACE_LEVELS];
    infer_status status = INFER_OK;

    for (int32_t i = 0; i < VECTOR_PACE_KS && !status; i++) {
        t->k = vector_pace_ks[i];
        status = measure_reach(t, pool, p, ways[i]);
    }
    if (!status) {
        atomic_store_explicit(&p->far, farthest(t), memory_order_relaxed);
    }
    for (int32_t i = 0; i < VECTOR_PACE_KS && !status; i++) {
        for (int32_t j = 0; j < VECTOR_PACE_LEVELS; j++) {
            atomic_store_explicit(&p->reach[i][j].reach, ways[i][j].reach, memory_order_relaxed);
            atomic_store_explicit(&p->reach[i][j].n_rows, (int32_t)ways[i][j].n_rows,
                                  memory_order_relaxed);
        }
    }
    return status;
}

infer_status vector_space_tune(struct vector_space *space, struct base_pool *pool)
{
    const struct vector_graph *graph = atomic_load_explicit(&space->graph, memory_order_acquire);
    const struct base_alloc *a = &space->alloc;
    struct tuning t = {.space = space, .n_rows = vector_space_size(space)};
    struct vector_partitions *partitions;
    infer_status status;

    if (!graph) {
        return INFER_OK; /* few rows, which are all compared */
    }
    t.n_sample = BASE_MIN(SAMPLE, t.n_rows);
    t.n_threads = pool ? BASE_MIN(base_pool_threads(pool), VECTOR_THREADS_MAX) : 1;
    status = prepare(&t, pool, a);
    if (!status) {
        status = make_partitions(space, graph, pool);
    }
    partitions = atomic_load_explicit(&space->partitions, memory_order_acquire);
    if (!status && partitions) {
        status = tune_partitions(&t, partitions, pool);
    }
    if (!status && graph->degree > 0) {
        status = tune_graph(&t, space, pool);
    }
    for (int32_t i = 0; i < t.n_threads; i++) {
        vector_scratch_destroy(&t.scratches[i]);
    }
    base_free(a, t.queries);
    base_free(a, t.truth);
    base_free(a, t.flat);
    base_free(a, t.found);
    return status;
}
