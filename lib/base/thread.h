/* A pool of persistent threads for one device: work is a function over a
 * range, cut into parts that do not depend on who runs them. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include "base/alloc.h"

struct base_pool;
struct base_cpu;

/* Runs one part: [begin, end) of the range; `thread` is 0 .. n_threads - 1. */
typedef void (*base_pool_fn)(void *arg, int32_t begin, int32_t end, int32_t thread);

/* n_threads counts the caller, so 1 starts no thread at all. With `cpus` (n_threads of them, else
 * NULL) thread i stays on cpus[i] and parts are as large as the processors are fast. The caller is
 * not moved: the first processor is the one left to it. */
infer_status base_pool_create(struct base_pool **out, const struct base_alloc *a, int32_t n_threads,
                              const struct base_cpu *cpus);
void base_pool_destroy(struct base_pool **pool);
int32_t base_pool_threads(const struct base_pool *pool);

/* Ranges that were shared among the threads so far: each is one barrier. */
uint64_t base_pool_barriers(const struct base_pool *pool);

/* Splits [0, n) into one contiguous part a thread, each a multiple of `grain`
 * but the last, and returns when all are done. Concurrent callers take turns.
 * The caller works as thread 0; a range of one grain is its alone. A part whose thread has not
 * begun when the caller is through with its own is run by the caller, under that thread's
 * number. */
void base_pool_run(struct base_pool *pool, base_pool_fn fn, void *arg, int32_t n, int32_t grain);

/* Threads that a pool of this process should have: one for each core that it may run on, and no
 * more than its control groups give it the time of (topology.h). */
int32_t base_cpu_count(void);

#endif
