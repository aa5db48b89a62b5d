/* The pool of threads: parts, taking turns, sleeping, staying where they are put. */
#include "base/thread.h"
#include "base/topology.h"
#include "support/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 8

static struct base_pool *make_pool(int32_t n_threads, const struct base_cpu *cpus)
{
    struct base_pool *pool = NULL;
    assert_ok(base_pool_create(&pool, &base_alloc_default, n_threads, cpus));
    assert_int_equal(base_pool_threads(pool), n_threads);
    return pool;
}

struct parts {
    int32_t begin[THREADS_MAX], end[THREADS_MAX], cpu[THREADS_MAX];
    _Atomic int32_t n;
};

static void note_part(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct parts *parts = arg;
    parts->begin[thread] = begin;
    parts->end[thread] = end;
    parts->cpu[thread] = sched_getcpu();
    atomic_fetch_add(&parts->n, 1);
}

/* ------------------------------------------------------------------- parts */

static void every_index_is_run_once(void **state)
{
    (void)state;
    for (int32_t n_threads = 1; n_threads <= 5; n_threads++) {
        struct base_pool *pool = make_pool(n_threads, NULL);
        for (int32_t n = 1; n < 200; n++) {
            struct parts parts = {.n = 0};
            int32_t grain = 1 + n % 7, at = 0;
            base_pool_run(pool, note_part, &parts, n, grain);
            for (int32_t t = 0; t < n_threads; t++) {
                if (parts.begin[t] == parts.end[t])
                    continue;
                assert_int_equal(parts.begin[t], at);
                assert_int_equal(parts.begin[t] % grain, 0);
                at = parts.end[t];
            }
            assert_int_equal(at, n);
        }
        base_pool_destroy(&pool);
        assert_null(pool);
    }
}

/* The caller's part waits for those of the others, so that it takes none of them over. */
static void note_together(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct parts *parts = arg;
    note_part(arg, begin, end, thread);
    while (thread == 0 && atomic_load(&parts->n) < 2)
        sched_yield();
}

static void parts_are_as_large_as_processors_are_fast(void **state)
{
    (void)state;
    static struct base_cpus cpus;
    base_cpus_usable(&cpus);
    const struct base_cpu pair[] = {
        {.id = cpus.cpu[0].id, .capacity = 1024},
        {.id = cpus.cpu[cpus.n - 1].id, .capacity = 256},
    };
    struct base_pool *pool = make_pool(2, pair);
    struct parts parts = {.n = 0};
    base_pool_run(pool, note_together, &parts, 1000, 10);
    assert_int_equal(parts.end[0], 800);
    assert_int_equal(parts.begin[1], 800);
    assert_int_equal(parts.end[1], 1000);
    assert_int_equal(parts.cpu[1], pair[1].id);
    base_pool_destroy(&pool);
}

/* --------------------------------------------------------- several at once */

struct host {
    struct base_pool *pool;
    _Atomic int64_t sum;
};

static void add(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct host *host = arg;
    (void)thread;
    for (int32_t i = begin; i < end; i++)
        atomic_fetch_add(&host->sum, i);
}

static void *run_many(void *arg)
{
    struct host *host = arg;
    for (int i = 0; i < 2000; i++)
        base_pool_run(host->pool, add, host, 100, 1);
    return NULL;
}

/* More threads than there are processors here, of one pool or of several. */
static void run_hosts(struct host *hosts, int n)
{
    pthread_t threads[4];
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &hosts[i]), 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(hosts[i].sum, 2000 * 4950);
    }
}

static void callers_of_one_pool_take_turns(void **state)
{
    (void)state;
    struct base_pool *pool = make_pool(3, NULL);
    struct host hosts[3] = {{.pool = pool}, {.pool = pool}, {.pool = pool}};
    run_hosts(hosts, 3);
    base_pool_destroy(&pool);
}

static void pools_run_beside_each_other(void **state)
{
    (void)state;
    struct host hosts[3];
    for (int i = 0; i < 3; i++)
        hosts[i] = (struct host){.pool = make_pool(4, NULL)};
    run_hosts(hosts, 3);
    for (int i = 0; i < 3; i++)
        base_pool_destroy(&hosts[i].pool);
}

/* -------------------------------------------------------------- taking over */

static struct {
    struct parts parts;
    pthread_t worker;
    _Atomic int32_t is_held, is_free;
} held;

static void hold(int signal_number)
{
    (void)signal_number;
    atomic_store(&held.is_held, 1);
    while (!atomic_load(&held.is_free))
        sched_yield();
}

static void note_worker(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    note_together(arg, begin, end, thread);
    if (thread == 1)
        held.worker = pthread_self();
}

/* As when another process has its processor. */
static void a_worker_that_does_not_come_is_not_waited_for(void **state)
{
    (void)state;
    struct base_pool *pool = make_pool(2, NULL);
    struct host host = {.pool = pool};
    signal(SIGUSR1, hold);
    base_pool_run(pool, note_worker, &held.parts, 2, 1);
    assert_int_equal(pthread_kill(held.worker, SIGUSR1), 0);
    while (!atomic_load(&held.is_held))
        sched_yield();
    for (int i = 0; i < 1000; i++)
        base_pool_run(pool, add, &host, 100, 1);
    assert_int_equal(host.sum, 1000 * 4950);
    atomic_store(&held.is_free, 1);
    held.parts.n = 0;
    base_pool_run(pool, note_together, &held.parts, 2, 1); /* it comes back */
    assert_int_equal(held.parts.n, 2);
    base_pool_destroy(&pool);
    signal(SIGUSR1, SIG_DFL);
}

/* ---------------------------------------------------------------- sleeping */

static int64_t cpu_time_ns(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void an_idle_pool_costs_nothing(void **state)
{
    (void)state;
    struct base_pool *pool = make_pool(4, NULL);
    struct host host = {.pool = pool};
    base_pool_run(pool, add, &host, 100, 1);
    usleep(20000);
    int64_t before = cpu_time_ns();
    usleep(200000);
    assert_true(cpu_time_ns() - before < 10000000); /* three threads that spin: 600 ms */
    base_pool_run(pool, add, &host, 100, 1);        /* and they wake */
    assert_int_equal(host.sum, 2 * 4950);
    base_pool_destroy(&pool);
}

static void dawdle(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    (void)begin, (void)end;
    if (thread != 0)
        usleep(*(const useconds_t *)arg);
}

/* A caller whose part is done early leaves its processor to others. */
static void a_caller_sleeps_too(void **state)
{
    (void)state;
    useconds_t slow = 200000, quick = 0;
    struct base_pool *pool = make_pool(2, NULL);
    base_pool_run(pool, dawdle, &quick, 2, 1);
    int64_t before = cpu_time_ns();
    base_pool_run(pool, dawdle, &slow, 2, 1);
    assert_true(cpu_time_ns() - before < 50000000);
    base_pool_destroy(&pool);
}

/* Sleeps of all lengths around that of spinning: nobody misses a range. */
static void no_waking_is_missed(void **state)
{
    (void)state;
    struct base_pool *pool = make_pool(3, NULL);
    struct host host = {.pool = pool};
    for (useconds_t pause = 0; pause < 120; pause++) {
        useconds_t slow = 120 - pause;
        base_pool_run(pool, add, &host, 100, 1);
        usleep(pause);
        base_pool_run(pool, dawdle, &slow, 3, 1);
    }
    assert_int_equal(host.sum, 120 * 4950);
    base_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_is_run_once),
        cmocka_unit_test(parts_are_as_large_as_processors_are_fast),
        cmocka_unit_test(callers_of_one_pool_take_turns),
        cmocka_unit_test(pools_run_beside_each_other),
        cmocka_unit_test(a_worker_that_does_not_come_is_not_waited_for),
        cmocka_unit_test(an_idle_pool_costs_nothing),
        cmocka_unit_test(a_caller_sleeps_too),
        cmocka_unit_test(no_waking_is_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
