/* The sink of the process: set by the host, called without a lock held. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*log_fn)(int32_t level, const char *text, void *user_data);
static void *log_user_data;
static _Atomic int32_t log_level = -1; /* -1: nobody listens */

void base_log_set(void (*fn)(int32_t level, const char *text, void *user_data), void *user_data,
                  int32_t level)
{
    pthread_mutex_lock(&log_lock);
    log_fn = fn;
    log_user_data = user_data;
    atomic_store(&log_level, fn ? level : -1);
    pthread_mutex_unlock(&log_lock);
}

void base_log(int32_t level, const char *fmt, ...)
{
    if (level > atomic_load_explicit(&log_level, memory_order_relaxed))
        return;
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    /* Read under the lock, called outside it: a sink may itself log or replace the sink. */
    pthread_mutex_lock(&log_lock);
    void (*fn)(int32_t, const char *, void *) = log_fn;
    void *user_data = log_user_data;
    pthread_mutex_unlock(&log_lock);
    if (fn)
        fn(level, text, user_data);
}
