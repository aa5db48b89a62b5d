/* Histograms with fixed bounds. */
#include "engine/stats.h"

#define US(x) ((uint64_t)(x)*1000)
#define MS(x) ((uint64_t)((x)*1000000))
#define S(x)  ((uint64_t)((x)*1000000000.0))

static const uint64_t times[ENGINE_BOUNDS] = {
    US(100), US(250), US(500), MS(1), MS(2.5), MS(5), MS(10), MS(25), MS(50), MS(100), MS(250),
    MS(500), S(1),    S(2.5),  S(5),  S(10),   S(25), S(50),  S(100), S(250), S(500),  S(1000)};

static const uint64_t tokens[ENGINE_BOUNDS] = {
    1,    2,     5,     10,    20,     50,     100,    200,     500,     1000,    2000,
    5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 10000000};

uint64_t engine_bound(enum engine_histogram_id id, int32_t i)
{
    return id < ENGINE_TIMES ? times[i] : tokens[i];
}

void engine_observe(struct engine_stats *stats, enum engine_histogram_id id, uint64_t value)
{
    const uint64_t *bounds = id < ENGINE_TIMES ? times : tokens;
    struct engine_histogram *h = &stats->histograms[id];
    int32_t low = 0, high = ENGINE_BOUNDS;
    while (low < high) { /* the first bound that is not below the value */
        int32_t middle = (low + high) / 2;
        if (bounds[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    atomic_fetch_add_explicit(&h->counts[low], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

/* They lie in a row. */
#define N_COUNTERS (offsetof(struct engine_stats, n_waiting) / sizeof(_Atomic uint64_t))

static _Atomic uint64_t *counters(const struct engine_stats *stats)
{
    return (_Atomic uint64_t *)(uintptr_t)stats;
}

void engine_stats_add(struct engine_stats *to, const struct engine_stats *from)
{
    for (size_t i = 0; i < N_COUNTERS; i++)
        atomic_fetch_add(&counters(to)[i], atomic_load(&counters(from)[i]));
    to->n_waiting += from->n_waiting;
    to->n_running += from->n_running;
}

void engine_stats_move(struct engine_stats *to, struct engine_stats *from)
{
    for (size_t i = 0; i < N_COUNTERS; i++)
        atomic_fetch_add(&counters(to)[i], atomic_exchange(&counters(from)[i], 0));
}
