/* A write-ahead log: the input as one, once as it is and once with its checksums put right; it is
 * read, opened for writing, appended to, and read again. */
#include "memory_file.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "vector/log_layout.h"

#include <stdlib.h>
#include <string.h>

/* Heads and what follows them, from the first record on as far as they reach. Of some records only
 * the head is put right, and some know that the one before had been on the disk. */
static void repair(uint8_t *data, size_t size)
{
    uint64_t before = 0;
    if (size < VECTOR_LOG_HEADER)
        return;
    base_put_u64(data + 56, base_hash64(data, 56, 0));
    const uint64_t seed = base_get_u64(data + 16);
    for (uint64_t at = VECTOR_LOG_HEADER; size - at >= VECTOR_LOG_HEAD;) {
        uint8_t *p = data + at;
        struct vector_log_head h = {.type = base_get_u32(p + 4),
                                    .at = at,
                                    .size = base_get_u64(p + 16),
                                    .synced = base_get_u64(p + 24),
                                    .sum = base_get_u64(p + 32),
                                    .before = before};
        const uint64_t bytes = vector_log_record_bytes(h.size);
        if (!bytes || bytes > size - at || h.sum % 4 == 3)
            return;
        if (h.sum % 4 != 2)
            h.sum = base_hash64(p + VECTOR_LOG_HEAD, h.size, seed);
        if (p[0])
            vector_log_head_write(p, &h, seed);
        before = h.own;
        at += bytes;
    }
}

struct seen {
    uint64_t n, sum;
};

static infer_status see(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    struct seen *s = user;
    s->n++;
    s->sum = base_hash64(data, size, s->sum + type);
    return INFER_OK;
}

static infer_status read_log(const char *path, int32_t read_only, struct seen *s,
                             struct vector_log **log)
{
    *s = (struct seen){0, 0};
    *log = NULL;
    return vector_log_open(log, &base_alloc_default, path, read_only, see, s);
}

static void look(const uint8_t *data, size_t size)
{
    static const struct vector_log_part parts[] = {{"abc", 3}, {"", 0}, {"defghi", 6}};
    const char *path = memory_file(data, size);
    struct vector_log *log;
    struct seen first, second;
    uint64_t end = 0;
    if (read_log(path, 1, &first, &log) != INFER_OK) {
        fuzz_check(read_log(path, 0, &second, &log) != INFER_OK);
        return;
    }
    vector_log_close(&log);
    fuzz_check(read_log(path, 0, &second, &log) == INFER_OK);
    fuzz_check(second.n == first.n && second.sum == first.sum);
    fuzz_check(vector_log_append(log, 7, parts, 3, &end) == INFER_OK);
    fuzz_check(vector_log_sync(log, end) == INFER_OK && vector_log_verify(log) == INFER_OK);
    fuzz_check(vector_log_size(log) == end && end <= size + 80);
    vector_log_close(&log);
    fuzz_check(read_log(path, 1, &second, &log) == INFER_OK && second.n == first.n + 1);
    vector_log_close(&log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(size ? size : 1, 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    look(copy, size);
    repair(copy, size);
    look(copy, size);
    free(copy);
    return 0;
}
