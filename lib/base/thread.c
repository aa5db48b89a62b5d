/* The pool: workers that spin for a while, then sleep, and share a range in fixed parts.
 *
 * A range is announced by a new generation and over when that number stands in every worker's
 * line; nothing is counted down in common. A worker that has not begun when the caller is through
 * with its own part, since it sleeps or because another process has its processor, loses its part
 * to the caller: both parts take about as long, so waiting for it could hardly have been shorter.
 * Who waits for longer than SPIN_NS sleeps in the kernel: workers on the generation, the caller,
 * which stays awake for YIELD_NS more, on the line of the worker it waits for. */
#include "base/thread.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/topology.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A decode step is a hundred short ranges and more: a thread that slept after each would spend
 * more time waking than working. */
#define STACK_BYTES ((size_t)1 << 20) /* of a worker */
#define SPIN_NS     50000
#define SPIN_ROUNDS 32 /* between two looks at the clock */
/* Where other processes keep a worker waiting, a caller that slept would lose its own processor to
 * them too. It only lets them pass. */
#define YIELD_NS 2000000

struct worker {
    /* The last range whose part of this worker somebody began: itself or the caller. All are at the
     * generation when the next range is announced. */
    _Alignas(BASE_CACHE_LINE) _Atomic uint32_t claimed;
    _Atomic uint32_t done; /* the last range whose part was finished, by whoever claimed it */
    int32_t index;
    struct base_pool *pool;
    pthread_t thread;
};

struct base_pool {
    /* Alone on its line: workers read it all the time, and each reading takes the line away. */
    _Alignas(BASE_CACHE_LINE) _Atomic uint32_t generation; /* a new value is a new range */
    _Alignas(BASE_CACHE_LINE) _Atomic int32_t n_sleeping;  /* workers, until a new generation */
    /* Read by workers once a range. */
    _Alignas(BASE_CACHE_LINE) base_pool_fn fn;
    void *arg;
    int32_t n, grain;
    int32_t stop;                  /* with the last generation */
    _Atomic int32_t caller_sleeps; /* until some worker is done */
    _Atomic int32_t at_work;       /* n_threads while a range runs */
    int32_t n_threads, n_processors;
    const int32_t *shares; /* n_threads + 1: where each thread's part begins; the sum */
    /* The caller's. */
    _Alignas(BASE_CACHE_LINE) pthread_mutex_t run_lock; /* one range at a time */
    uint64_t barriers;
    struct worker *workers; /* of thread i + 1 at i */
    int32_t n_started;
    struct base_alloc alloc;
};

/* Threads of all pools whose ranges run: when there are more than processors, who waits makes
 * room at once. The one variable that devices share; it steers waiting and no result. */
static _Atomic int32_t threads_at_work;

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* yield is no pause on most cores */
#endif
}

/* Sleeps if the word still has that value; may return early. */
static void sleep_on(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word, int32_t n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static int is_crowded(const struct base_pool *pool)
{
    int32_t own = atomic_load_explicit(&pool->at_work, memory_order_relaxed);
    int32_t all = atomic_load_explicit(&threads_at_work, memory_order_relaxed);
    return all - own + pool->n_threads > pool->n_processors;
}

/* Waits for another value than this one, for as long as a sleep and a waking would take; whether
 * it came. */
static int spin(const struct base_pool *pool, const _Atomic uint32_t *word, uint32_t value)
{
    uint64_t until = 0;
    for (;;) {
        for (int32_t i = 0; i < SPIN_ROUNDS; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value)
                return 1;
            relax();
        }
        uint64_t now = base_clock_ns();
        until = until ? until : now + SPIN_NS;
        if (now >= until || is_crowded(pool))
            return 0;
    }
}

/* ------------------------------------------------------------------ workers */

static void run_part(const struct base_pool *pool, int32_t thread)
{
    /* Units of `grain` are dealt as evenly as they go: part sizes depend on n
     * and on what the pool is made of alone. */
    int64_t units = BASE_DIV_UP((int64_t)pool->n, pool->grain),
            whole = pool->shares[pool->n_threads];
    int64_t begin = units * pool->shares[thread] / whole * pool->grain;
    int64_t end = units * pool->shares[thread + 1] / whole * pool->grain;
    end = BASE_MIN(end, (int64_t)pool->n);
    if (begin < end)
        pool->fn(pool->arg, (int32_t)begin, (int32_t)end, thread);
}

/* Whether the part of this worker in range `now` is the asking thread's to run: the first who asks
 * gets it. A worker that wakes late may ask for a range that is over. Its part was claimed then, or
 * the range would not be over, so the answer is no. */
static int claim(struct worker *worker, uint32_t now)
{
    uint32_t before = now - 1;
    return atomic_compare_exchange_strong(&worker->claimed, &before, now);
}

static void wait_for_range(struct base_pool *pool, uint32_t seen)
{
    if (spin(pool, &pool->generation, seen))
        return;
    /* The caller writes the generation, then looks for sleepers; here it is the other way round. */
    atomic_fetch_add(&pool->n_sleeping, 1);
    while (atomic_load(&pool->generation) == seen)
        sleep_on(&pool->generation, seen);
    atomic_fetch_sub(&pool->n_sleeping, 1);
}

static void *work(void *arg)
{
    struct worker *self = arg;
    struct base_pool *pool = self->pool;
    for (uint32_t seen = 0;;) {
        wait_for_range(pool, seen);
        seen = atomic_load(&pool->generation);
        if (!claim(self, seen))
            continue;
        if (pool->stop)
            return NULL;
        run_part(pool, self->index);
        atomic_store(&self->done, seen);
        if (atomic_load(&pool->caller_sleeps))
            wake(&self->done, 1);
    }
}

/* ------------------------------------------------------------------- caller */

static void announce(struct base_pool *pool)
{
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->n_sleeping))
        wake(&pool->generation, INT_MAX);
}

/* For one that has begun. */
static void wait_for_worker(struct base_pool *pool, struct worker *worker, uint32_t now)
{
    const uint32_t before = atomic_load(&worker->done);
    if (before == now || spin(pool, &worker->done, before))
        return;
    for (uint64_t until = base_clock_ns() + YIELD_NS;
         base_clock_ns() < until && !is_crowded(pool);) {
        sched_yield();
        if (atomic_load_explicit(&worker->done, memory_order_acquire) != before)
            return;
    }
    atomic_store(&pool->caller_sleeps, 1);
    while (atomic_load(&worker->done) == before)
        sleep_on(&worker->done, before);
    atomic_store(&pool->caller_sleeps, 0);
}

/* Parts that nobody has begun, while others are at theirs. */
static void run_unclaimed(struct base_pool *pool, uint32_t now)
{
    for (int32_t i = 0; i < pool->n_started; i++) {
        struct worker *worker = &pool->workers[i];
        if (!claim(worker, now))
            continue;
        run_part(pool, worker->index);
        atomic_store(&worker->done, now);
    }
}

void base_pool_run(struct base_pool *pool, base_pool_fn fn, void *arg, int32_t n, int32_t grain)
{
    if (n <= 0)
        return;
    if (pool->n_threads == 1 || n <= grain) {
        fn(arg, 0, n, 0);
        return;
    }
    pthread_mutex_lock(&pool->run_lock);
    uint32_t now = atomic_load_explicit(&pool->generation, memory_order_relaxed) + 1;
    pool->fn = fn;
    pool->arg = arg;
    pool->n = n;
    pool->grain = grain;
    pool->barriers++;
    atomic_store_explicit(&pool->at_work, pool->n_threads, memory_order_relaxed);
    atomic_fetch_add_explicit(&threads_at_work, pool->n_threads, memory_order_relaxed);
    announce(pool);
    run_part(pool, 0);
    run_unclaimed(pool, now);
    for (int32_t i = 0; i < pool->n_started; i++)
        wait_for_worker(pool, &pool->workers[i], now);
    atomic_fetch_sub_explicit(&threads_at_work, pool->n_threads, memory_order_relaxed);
    atomic_store_explicit(&pool->at_work, 0, memory_order_relaxed);
    pthread_mutex_unlock(&pool->run_lock);
}

/* ----------------------------------------------------------------- lifetime */

static int start_thread(struct worker *worker, const struct base_cpu *cpu)
{
    pthread_attr_t attr;
    int err = pthread_attr_init(&attr);
    if (err)
        return err;
    /* What kernels keep on the stack must not hang on the host's limit for its own. */
    err = pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (!err && cpu) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu->id, &set);
        err = pthread_attr_setaffinity_np(&attr, sizeof set, &set);
    }
    if (!err)
        err = pthread_create(&worker->thread, &attr, work, worker);
    pthread_attr_destroy(&attr);
    return err;
}

static int32_t *make_shares(const struct base_alloc *a, int32_t n_threads,
                            const struct base_cpu *cpus)
{
    int32_t *shares = base_new(a, (size_t)n_threads + 1, sizeof *shares);
    for (int32_t i = 0; shares && i < n_threads; i++)
        shares[i + 1] = shares[i] + (cpus ? cpus[i].capacity : 1);
    return shares;
}

infer_status base_pool_create(struct base_pool **out, const struct base_alloc *a, int32_t n_threads,
                              const struct base_cpu *cpus)
{
    cpu_set_t set;
    struct base_pool *pool = base_new(a, 1, sizeof *pool);
    if (!pool)
        return INFER_ERR_NO_MEMORY;
    pool->alloc = *a;
    pool->n_threads = n_threads;
    pool->n_processors =
        sched_getaffinity(0, sizeof set, &set) == 0 ? (int32_t)CPU_COUNT(&set) : INT_MAX / 2;
    pthread_mutex_init(&pool->run_lock, NULL);
    pool->workers = base_new(a, (size_t)n_threads, sizeof *pool->workers);
    pool->shares = pool->workers ? make_shares(a, n_threads, cpus) : NULL;
    if (!pool->shares) {
        base_pool_destroy(&pool);
        return INFER_ERR_NO_MEMORY;
    }
    for (int32_t i = 0; i < n_threads - 1; i++) {
        struct worker *worker = &pool->workers[i];
        worker->pool = pool;
        worker->index = i + 1;
        int err = start_thread(worker, cpus ? &cpus[i + 1] : NULL);
        if (err) {
            base_pool_destroy(&pool);
            return base_error(INFER_ERR_LIMIT, "cannot start thread %d of %d: %s", i + 2, n_threads,
                              strerror(err));
        }
        pool->n_started++;
    }
    *out = pool;
    return INFER_OK;
}

void base_pool_destroy(struct base_pool **pool_ptr)
{
    struct base_pool *pool = *pool_ptr;
    *pool_ptr = NULL;
    if (!pool)
        return;
    pool->stop = 1;
    announce(pool);
    for (int32_t i = 0; i < pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_mutex_destroy(&pool->run_lock);
    struct base_alloc a = pool->alloc;
    base_free(&a, (void *)pool->shares);
    base_free(&a, pool->workers);
    base_free(&a, pool);
}

int32_t base_pool_threads(const struct base_pool *pool)
{
    return pool->n_threads;
}

uint64_t base_pool_barriers(const struct base_pool *pool)
{
    return pool->barriers;
}

int32_t base_cpu_count(void)
{
    struct base_cpus cpus;
    base_cpus_usable(&cpus);
    return base_cpus_threads(&cpus, base_cpu_quota(""), 0);
}
