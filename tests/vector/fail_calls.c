/* System calls that count, and fail on demand. */
#include "fail_calls.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int counts[FAIL_ALL + 1], n_asked, slow;
static int asked, fail_at, fail_error, fail_for_good;
static _Atomic char trace[256];
static atomic_int n_trace;

void fail_calls(int kinds, int at, int error, int for_good)
{
    for (int i = 0; i <= FAIL_ALL; i++)
        atomic_store(&counts[i], 0);
    atomic_store(&n_asked, 0);
    atomic_store(&n_trace, 0);
    asked = kinds;
    fail_at = at;
    fail_error = error;
    fail_for_good = for_good;
}

int fail_calls_count(int kind)
{
    return atomic_load(kind == asked ? &n_asked : &counts[kind]);
}

const char *fail_calls_trace(void)
{
    static char text[256];
    const int n = atomic_load(&n_trace);
    for (int i = 0; i < 255; i++)
        text[i] = i < n ? atomic_load(&trace[i]) : 0;
    return text;
}

void fail_calls_slow(int microseconds)
{
    atomic_store(&slow, microseconds);
}

static int fails(int kind)
{
    static const char letters[] = "wrcfmlp";
    const int at = atomic_fetch_add(&n_trace, 1);
    if (at < 255)
        atomic_store(&trace[at], letters[__builtin_ctz((unsigned)kind)]);
    atomic_fetch_add(&counts[kind], 1);
    if (!(asked & kind))
        return 0;
    int n = atomic_fetch_add(&n_asked, 1) + 1;
    if (!fail_at || n < fail_at || (n > fail_at && !fail_for_good))
        return 0;
    errno = fail_error;
    return 1;
}

/* Declares and defines one of them. */
#define WRAP(kind, type, name, parameters, arguments)                                              \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        const int wait = kind == FAIL_FLUSH ? atomic_load(&slow) : 0;                              \
        if (wait > 0)                                                                              \
            usleep((useconds_t)wait);                                                              \
        if (fails(kind))                                                                           \
            return -1;                                                                             \
        return wait < 0 ? 0 : __real_##name arguments;                                             \
    }

WRAP(FAIL_WRITE, ssize_t, pwrite64, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
WRAP(FAIL_WRITE, ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off_t at),
     (fd, v, n, at))
WRAP(FAIL_READ, ssize_t, pread64, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
WRAP(FAIL_CUT, int, ftruncate64, (int fd, off_t size), (fd, size))
WRAP(FAIL_FLUSH, int, fsync, (int fd), (fd))
WRAP(FAIL_FLUSH, int, fdatasync, (int fd), (fd))
WRAP(FAIL_RENAME, int, rename, (const char *from, const char *to), (from, to))
WRAP(FAIL_LINK, int, link, (const char *from, const char *to), (from, to))
WRAP(FAIL_COPY, ssize_t, copy_file_range,
     (int from, off_t *at, int to, off_t *to_at, size_t n, unsigned flags),
     (from, at, to, to_at, n, flags))
