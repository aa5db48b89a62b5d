/* The pool: workers that spin for a while, then sleep, and share a range in equal parts. */
#include "base/thread.h"

#include "base/error.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* A decode step is a few hundred short ranges: a worker that slept after each
 * would spend more time waking than working. It spins this long, then sleeps. */
#define SPIN_ROUNDS 2000

struct base_pool {
    struct base_alloc alloc;
    int32_t n_threads, n_started;
    pthread_t *threads;
    pthread_mutex_t run_lock; /* one range at a time */
    pthread_mutex_t lock;     /* guards sleeping */
    pthread_cond_t wake;
    base_pool_fn fn;
    void *arg;
    int32_t n, grain;
    _Atomic uint32_t generation; /* a new value is a new range */
    _Atomic int32_t n_pending;   /* workers that have not finished it */
    _Atomic int32_t n_sleeping;
    _Atomic int32_t stop;
    _Atomic int32_t next_index;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void run_part(struct base_pool *pool, int32_t thread)
{
    /* Units of `grain` are dealt as evenly as they go: part sizes depend on n
     * and n_threads alone. */
    int64_t units = BASE_DIV_UP((int64_t)pool->n, pool->grain);
    int64_t begin = units * thread / pool->n_threads * pool->grain;
    int64_t end = units * (thread + 1) / pool->n_threads * pool->grain;
    end = BASE_MIN(end, (int64_t)pool->n);
    if (begin < end)
        pool->fn(pool->arg, (int32_t)begin, (int32_t)end, thread);
}

static void wait_for_range(struct base_pool *pool, uint32_t seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->n_sleeping, 1);
    while (atomic_load(&pool->generation) == seen)
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->n_sleeping, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker(void *arg)
{
    struct base_pool *pool = arg;
    int32_t index = atomic_fetch_add(&pool->next_index, 1) + 1;
    uint32_t seen = 0;
    for (;;) {
        wait_for_range(pool, seen);
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (atomic_load(&pool->stop))
            return NULL;
        run_part(pool, index);
        atomic_fetch_sub_explicit(&pool->n_pending, 1, memory_order_acq_rel);
    }
}

static void publish(struct base_pool *pool)
{
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->n_sleeping)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
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
    pool->fn = fn;
    pool->arg = arg;
    pool->n = n;
    pool->grain = grain;
    atomic_store(&pool->n_pending, pool->n_threads - 1);
    publish(pool);
    run_part(pool, 0);
    for (int i = 0; atomic_load_explicit(&pool->n_pending, memory_order_acquire); i++) {
        relax();
        if (i > SPIN_ROUNDS) /* more threads than processors: let them run */
            sched_yield();
    }
    pthread_mutex_unlock(&pool->run_lock);
}

static void stop_threads(struct base_pool *pool)
{
    atomic_store(&pool->stop, 1);
    atomic_fetch_add(&pool->generation, 1);
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->n_started; i++)
        pthread_join(pool->threads[i], NULL);
}

infer_status base_pool_create(struct base_pool **out, const struct base_alloc *a, int32_t n_threads)
{
    struct base_pool *pool = base_new(a, 1, sizeof *pool);
    if (!pool)
        return INFER_ERR_NO_MEMORY;
    pool->alloc = *a;
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->run_lock, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->threads = base_new(a, (size_t)n_threads, sizeof *pool->threads);
    if (!pool->threads) {
        base_pool_destroy(&pool);
        return INFER_ERR_NO_MEMORY;
    }
    for (int32_t i = 0; i < n_threads - 1; i++) {
        int err = pthread_create(&pool->threads[i], NULL, worker, pool);
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
    stop_threads(pool);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->run_lock);
    struct base_alloc a = pool->alloc;
    base_free(&a, pool->threads);
    base_free(&a, pool);
}

int32_t base_pool_threads(const struct base_pool *pool)
{
    return pool->n_threads;
}

int32_t base_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return BASE_MAX(CPU_COUNT(&set), 1);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int32_t)n : 1;
}
