/* Reading a log: one record after the other, and what to make of one that is not whole. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "vector/log_layout.h"

#include <errno.h>
#include <infer/version.h>
#include <string.h>
#include <unistd.h>

#define WINDOW  ((size_t)1 << 18) /* read at once */
#define SECTOR  512               /* the least that a disk writes whole */
#define SHOW(x) ((unsigned long long)(x))

static const char magic[8] = {'I', 'N', 'F', 'E', 'R', 'V', 'L', '\n'};
static const char mark[4] = {'r', 'e', 'c', '\n'};

/* -------------------------------------------------------------------- heads */

void vector_log_head_write(uint8_t out[VECTOR_LOG_HEAD], struct vector_log_head *h, uint64_t seed)
{
    memcpy(out, mark, sizeof mark);
    base_put_u32(out + 4, h->type);
    base_put_u64(out + 8, h->at);
    base_put_u64(out + 16, h->size);
    base_put_u64(out + 24, h->synced);
    base_put_u64(out + 32, h->sum);
    base_put_u64(out + 40, h->before);
    h->own = base_hash64(out, 48, seed);
    base_put_u64(out + 48, h->own);
}

int vector_log_head_read(struct vector_log_head *h, const uint8_t in[VECTOR_LOG_HEAD], uint64_t at,
                         uint64_t seed)
{
    if (memcmp(in, mark, sizeof mark) != 0)
        return 0;
    *h = (struct vector_log_head){.type = base_get_u32(in + 4),
                                  .at = base_get_u64(in + 8),
                                  .size = base_get_u64(in + 16),
                                  .synced = base_get_u64(in + 24),
                                  .sum = base_get_u64(in + 32),
                                  .before = base_get_u64(in + 40),
                                  .own = base_get_u64(in + 48)};
    return h->at == at && h->own == base_hash64(in, 48, seed);
}

uint64_t vector_log_record_bytes(uint64_t size)
{
    return size > INT64_MAX / 2 ? 0 : BASE_ALIGN_UP(VECTOR_LOG_HEAD + size, VECTOR_LOG_ALIGN);
}

void vector_log_header_write(uint8_t out[VECTOR_LOG_HEADER], uint64_t seed)
{
    memset(out, 0, VECTOR_LOG_HEADER);
    memcpy(out, magic, sizeof magic);
    base_put_u32(out + 8, VECTOR_LOG_FORMAT);
    base_put_u32(out + 12, INFER_VERSION);
    base_put_u64(out + 16, seed);
    base_put_u64(out + 56, base_hash64(out, 56, 0));
}

infer_status vector_log_header_read(const uint8_t in[VECTOR_LOG_HEADER], const char *path,
                                    uint64_t *seed)
{
    const uint32_t format = base_get_u32(in + 8);
    if (memcmp(in, magic, sizeof magic) != 0)
        return base_error(INFER_ERR_FORMAT, "%s is no log of a vector index: it begins otherwise",
                          path);
    if (base_get_u64(in + 56) != base_hash64(in, 56, 0))
        return base_error(INFER_ERR_FORMAT,
                          "%s is damaged: the checksum of its header, at byte 0, is wrong", path);
    if (format < 1 || format > VECTOR_LOG_FORMAT)
        return base_error(
            INFER_ERR_FORMAT,
            "%s has format %u, written by version %u, and this library reads up to %d", path,
            (unsigned)format, (unsigned)base_get_u32(in + 12), VECTOR_LOG_FORMAT);
    *seed = base_get_u64(in + 16);
    return INFER_OK;
}

/* ------------------------------------------------------------------- window */

/* A part of the file in memory: it is read in large pieces, and a record lies in one piece. */
struct window {
    struct vector_log_replay *log;
    uint8_t *data;
    size_t room, n;
    uint64_t at; /* in the file */
};

/* Reads on. The file may be shorter by now: a writer takes back a record that it could not write
 * whole. */
static infer_status fill(struct window *w, uint64_t at)
{
    struct vector_log_replay *log = w->log;
    const uint64_t left = log->size - at;
    const size_t want = (size_t)BASE_MIN(left, (uint64_t)w->room);
    size_t keep = at >= w->at && at < w->at + w->n ? (size_t)(w->at + w->n - at) : 0;
    if (keep)
        memmove(w->data, w->data + (at - w->at), keep);
    w->at = at;
    for (w->n = keep; w->n < want;) {
        ssize_t n = pread(log->fd, w->data + w->n, want - w->n, (off_t)(at + w->n));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return base_error(INFER_ERR_IO, "%s: cannot read at byte %llu: %s", log->path,
                              SHOW(at + w->n), strerror(errno));
        if (n == 0) {
            log->size = at + w->n;
            break;
        }
        w->n += (size_t)n;
    }
    return INFER_OK;
}

/* `size` bytes from `at` on; *data is NULL where the log has fewer. */
static infer_status look(struct window *w, uint64_t at, uint64_t size, const uint8_t **data)
{
    struct vector_log_replay *log = w->log;
    *data = NULL;
    if (at > log->size || size > log->size - at)
        return INFER_OK;
    if (size > w->room) { /* there are as many, so the file justifies it */
        uint8_t *larger = base_new_raw(log->alloc, (size_t)size, 1);
        if (!larger)
            return INFER_ERR_NO_MEMORY;
        memcpy(larger, w->data, w->n);
        base_free(log->alloc, w->data);
        w->data = larger;
        w->room = (size_t)size;
    }
    if (at < w->at || at + size > w->at + w->n) {
        infer_status st = fill(w, at);
        if (st != INFER_OK)
            return st;
    }
    if (at + size <= w->at + w->n)
        *data = w->data + (at - w->at);
    return INFER_OK;
}

/* ------------------------------------------------------------------- damage */

static int is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Looks behind a record that is not whole: *first is where the next whole head stands (0: none),
 * and *was_there whether any knows that the record had been on the disk. */
static infer_status find_heads(struct window *w, uint64_t broken, uint64_t *first, int *was_there)
{
    struct vector_log_head h;
    const uint8_t *p;
    *first = 0;
    *was_there = 0;
    for (uint64_t at = broken + VECTOR_LOG_ALIGN; !*was_there; at += VECTOR_LOG_ALIGN) {
        infer_status st = look(w, at, VECTOR_LOG_HEAD, &p);
        if (st != INFER_OK || !p)
            return st;
        if (!vector_log_head_read(&h, p, at, w->log->seed))
            continue;
        *first = *first ? *first : at;
        *was_there = h.synced > broken;
    }
    return INFER_OK;
}

/* Whether a sector between the two is all zeros; the first may begin before `begin`. */
static infer_status find_hole(struct window *w, uint64_t begin, uint64_t end, int *found)
{
    const uint8_t *p;
    *found = 0;
    for (uint64_t at = begin; at < end && !*found;) {
        const uint64_t next = BASE_MIN((at / SECTOR + 1) * SECTOR, end);
        infer_status st = look(w, at, next - at, &p);
        if (st != INFER_OK)
            return st;
        *found = p && next % SECTOR == 0 && is_zero(p, (size_t)(next - at));
        at = next;
    }
    return INFER_OK;
}

/* The record at `at` is not whole: OK if that is the end of the log. */
static infer_status judge(struct window *w, uint64_t at)
{
    uint64_t found;
    int was_there, hole = 0;
    infer_status st = find_heads(w, at, &found, &was_there);
    if (st == INFER_OK && found && !was_there)
        st = find_hole(w, at, found, &hole);
    if (st != INFER_OK || !found || hole)
        return st;
    return base_error(
        INFER_ERR_FORMAT,
        "%s is damaged: the record at byte %llu is not whole, and there is another at "
        "byte %llu",
        w->log->path, SHOW(at), SHOW(found));
}

/* ------------------------------------------------------------------- replay */

/* *data is NULL where no whole record begins at `at`. */
static infer_status next_record(struct window *w, uint64_t at, struct vector_log_head *h,
                                const uint8_t **data)
{
    const struct vector_log_replay *log = w->log;
    const uint8_t *p;
    *data = NULL;
    infer_status st = look(w, at, VECTOR_LOG_HEAD, &p);
    if (st != INFER_OK)
        return st;
    if (!p || !vector_log_head_read(h, p, at, log->seed))
        return judge(w, at);
    if (h->before != log->before)
        return INFER_OK; /* of a life before, which ended earlier */
    const uint64_t bytes = vector_log_record_bytes(h->size);
    if (bytes)
        st = look(w, at, bytes, &p);
    if (st != INFER_OK)
        return st;
    if (!bytes || !p || base_hash64(p + VECTOR_LOG_HEAD, (size_t)h->size, log->seed) != h->sum ||
        !is_zero(p + VECTOR_LOG_HEAD + h->size, (size_t)(bytes - VECTOR_LOG_HEAD - h->size)))
        return judge(w, at);
    *data = p + VECTOR_LOG_HEAD;
    return INFER_OK;
}

static infer_status replay(struct window *w)
{
    struct vector_log_replay *log = w->log;
    while (log->end < log->size) {
        struct vector_log_head h;
        const uint8_t *data;
        infer_status st = next_record(w, log->end, &h, &data);
        if (st == INFER_OK && !data)
            return INFER_OK;
        if (st == INFER_OK && log->fn && h.type != VECTOR_LOG_CLOSED)
            st = log->fn(h.type, data, (size_t)h.size, log->user);
        if (st != INFER_OK)
            return st;
        log->end += vector_log_record_bytes(h.size);
        log->before = h.own;
        log->last_type = h.type;
    }
    return INFER_OK;
}

infer_status vector_log_replay(struct vector_log_replay *r)
{
    struct window w = {.log = r, .room = WINDOW};
    r->end = VECTOR_LOG_HEADER;
    r->before = 0;
    r->last_type = VECTOR_LOG_CLOSED;
    w.data = base_new_raw(r->alloc, w.room, 1);
    if (!w.data)
        return INFER_ERR_NO_MEMORY;
    infer_status st = replay(&w);
    base_free(r->alloc, w.data);
    return st;
}
