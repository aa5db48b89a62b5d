/* Records that tests of the log write and know again. */
#ifndef TESTS_VECTOR_LOG_SAMPLE_H
#define TESTS_VECTOR_LOG_SAMPLE_H

#include "disk.h"
#include "fail_calls.h"

#include "base/hash.h"
#include "vector/log.h"

#define ENDS_MAX 512

struct seen {
    int n, stop_at;
};

static inline infer_status see(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    struct seen *s = user;
    if (s->stop_at && s->n == s->stop_at)
        return base_error(INFER_ERR_LIMIT, "enough");
    int right = type == (uint32_t)s->n && size >= 4;
    for (size_t i = 0; i < size; i++)
        right &= data[i] == (uint8_t)(s->n * 31 + (int)i);
    assert_true(right);
    s->n++;
    return INFER_OK;
}

/* Record number i, as see() wants it, in two parts. */
static inline infer_status append(struct vector_log *log, int i, uint64_t *end)
{
    uint8_t data[5000];
    const size_t size = i % 50 == 49 ? sizeof data : (size_t)(4 + i % 301);
    for (size_t k = 0; k < size; k++)
        data[k] = (uint8_t)(i * 31 + (int)k);
    const struct vector_log_part parts[] = {{data, 3}, {data + 3, size - 3}};
    return vector_log_append(log, (uint32_t)i, parts, 2, end);
}

static inline infer_status open_log(struct vector_log **log, const char *path, int *n)
{
    struct seen s = {0};
    *log = NULL;
    infer_status st = vector_log_open(log, &base_alloc_default, path, 0, see, &s);
    *n = s.n;
    return st;
}

/* A log of n records, flushed after each `every` of them (0: never), as bytes; ends[i] is where
 * record i ends. With `crash` it is taken before the log is closed. */
static inline uint8_t *make_log(const char *path, int n, int every, int crash, uint64_t *ends,
                                size_t *size)
{
    struct vector_log *log;
    uint8_t *bytes = NULL;
    int before;
    assert_ok(open_log(&log, path, &before));
    assert_int_equal(before, 0);
    for (int i = 0; i < n; i++) {
        assert_ok(append(log, i, &ends[i]));
        if (every && i % every == every - 1)
            assert_ok(vector_log_sync(log, ends[i]));
    }
    if (crash)
        bytes = (uint8_t *)test_read(path, size);
    vector_log_close(&log);
    if (!crash)
        bytes = (uint8_t *)test_read(path, size);
    unlink(path);
    return bytes;
}

static inline infer_status see_size(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    (void)type;
    *(uint64_t *)user = *(uint64_t *)user * 1000003 + base_hash64(data, size, 0);
    return INFER_OK;
}

#endif
