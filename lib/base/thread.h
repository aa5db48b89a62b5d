/* A pool of persistent threads for one device: work is a function over a
 * range, cut into equal parts that do not depend on who runs them. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include "base/alloc.h"

struct base_pool;

/* Runs one part: [begin, end) of the range; `thread` is 0 .. n_threads - 1. */
typedef void (*base_pool_fn)(void *arg, int32_t begin, int32_t end, int32_t thread);

/* n_threads counts the caller, so 1 starts no thread at all. */
infer_status base_pool_create(struct base_pool **out, const struct base_alloc *a,
                              int32_t n_threads);
void base_pool_destroy(struct base_pool **pool);
int32_t base_pool_threads(const struct base_pool *pool);

/* Splits [0, n) into one contiguous part a thread, each a multiple of `grain`
 * but the last, and returns when all are done. Concurrent callers take turns.
 * The caller works as thread 0. */
void base_pool_run(struct base_pool *pool, base_pool_fn fn, void *arg, int32_t n, int32_t grain);

/* Number of processors this process may run on. */
int32_t base_cpu_count(void);

#endif
