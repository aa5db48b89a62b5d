/* The pool of threads: what a barrier costs, how long a waking takes, and two pools at once.
 *
 *     threads [N]      N: threads of a pool, by default one per core
 *
 * Prints medians and, in brackets, the least: what a machine that does nothing else would give. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS   301
#define BARRIERS 100
#define WAKINGS  40
#define RANGES   2000 /* of a pool beside another */

static void print_row(const char *name, double *values, int n)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && values[j] < values[j - 1]; j--) {
            double other = values[j];
            values[j] = values[j - 1];
            values[j - 1] = other;
        }
    printf("%-22s %9.2f us (%.2f)\n", name, values[n / 2] / 1000, values[0] / 1000);
}

static void nothing(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    (void)arg, (void)begin, (void)end, (void)thread;
}

/* The caller would do the parts of others as well if they took it no time. */
static void meet(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    _Atomic int32_t *n_away = arg;
    (void)begin, (void)end;
    atomic_fetch_sub(n_away, 1);
    while (thread == 0 && atomic_load(n_away) > 0)
        ;
}

static void time_barrier(struct base_pool *pool)
{
    double times[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t start = base_clock_ns();
        for (int i = 0; i < BARRIERS; i++) {
            _Atomic int32_t n_away = base_pool_threads(pool);
            base_pool_run(pool, meet, &n_away, base_pool_threads(pool), 1);
        }
        times[r] = (double)(base_clock_ns() - start) / BARRIERS;
    }
    print_row("barrier", times, ROUNDS);
}

static void time_waking(struct base_pool *pool)
{
    double times[WAKINGS];
    for (int r = 0; r < WAKINGS; r++) {
        usleep(2000); /* until all sleep */
        uint64_t start = base_clock_ns();
        base_pool_run(pool, nothing, NULL, base_pool_threads(pool), 1);
        times[r] = (double)(base_clock_ns() - start);
    }
    print_row("range after a sleep", times, WAKINGS);
}

/* About 20 microseconds of arithmetic, as a product of a decode step is. */
static void work(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    volatile float *sums = arg;
    for (int32_t i = begin; i < end; i++) {
        float sum = 0;
        for (int j = 0; j < 16000; j++)
            sum = sum * 0.5f + (float)j;
        sums[thread * 16] = sum;
    }
}

struct host {
    struct base_pool *pool;
    float *sums;
    double seconds;
};

static void *run_host(void *arg)
{
    struct host *host = arg;
    uint64_t start = base_clock_ns();
    for (int i = 0; i < RANGES; i++)
        base_pool_run(host->pool, work, host->sums, base_pool_threads(host->pool), 1);
    host->seconds = (double)(base_clock_ns() - start) / 1e9;
    return NULL;
}

static int two_at_once(int32_t n_threads)
{
    struct host hosts[2] = {{0}};
    pthread_t other;
    double alone = 0, together;
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        hosts[i].sums = calloc((size_t)n_threads * 16, sizeof(float));
        failed |= !hosts[i].sums || base_pool_create(&hosts[i].pool, &base_alloc_default, n_threads,
                                                     NULL) != INFER_OK;
    }
    for (int i = 0; i < 2 && !failed; i++) {
        run_host(&hosts[i]);
        alone += hosts[i].seconds;
    }
    if (!failed && pthread_create(&other, NULL, run_host, &hosts[0]) == 0) {
        uint64_t start = base_clock_ns();
        run_host(&hosts[1]);
        pthread_join(other, NULL);
        together = (double)(base_clock_ns() - start) / 1e9;
        printf("two pools of %d threads: %.3f s one after another, %.3f s at once (%.2f)\n",
               (int)n_threads, alone, together, together / alone);
    }
    for (int i = 0; i < 2; i++) {
        base_pool_destroy(&hosts[i].pool);
        free(hosts[i].sums);
    }
    return failed;
}

int main(int argc, char **argv)
{
    int32_t n_threads = argc > 1 ? (int32_t)strtol(argv[1], NULL, 10) : base_cpu_count();
    struct base_pool *pool;
    if (n_threads < 1 ||
        base_pool_create(&pool, &base_alloc_default, n_threads, NULL) != INFER_OK) {
        fprintf(stderr, "threads: cannot make a pool of %d\n", (int)n_threads);
        return 1;
    }
    time_barrier(pool);
    time_waking(pool);
    base_pool_destroy(&pool);
    return two_at_once(n_threads);
}
