/* Appending to a log, and flushing it for many callers at once. */
#include "vector/log.h"

#include "base/bytes.h"
#include "base/entropy.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/output.h"
#include "base/str.h"
#include "vector/log_layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PARTS_FEW 62 /* more of them go to the heap */

struct vector_log {
    struct base_alloc alloc;
    char *path;
    struct base_output file; /* open for writing, or */
    int fd;                  /* for reading; -1: there is no file */
    uint64_t seed, before;
    int has_new;          /* records since the one that says that the log was closed */
    pthread_mutex_t lock; /* of what follows; taken by whoever appends as well */
    pthread_cond_t flushed;
    uint64_t end, synced;
    int flushing;
    infer_status status; /* why nothing can be written any more */
    char failure[BASE_ERROR_MAX];
};

static struct vector_log_replay replay_of(const struct vector_log *log, uint64_t size)
{
    return (struct vector_log_replay){
        .alloc = &log->alloc, .fd = log->fd, .path = log->path, .seed = log->seed, .size = size};
}

/* ------------------------------------------------------------------ opening */

/* A new log has its header on the disk before it has its name. */
static infer_status make(struct vector_log *log)
{
    uint8_t header[VECTOR_LOG_HEADER], random[8];
    struct base_output file;
    struct base_str part;
    infer_status st = base_entropy(random, sizeof random);
    if (st != INFER_OK)
        return st;
    vector_log_header_write(header, base_get_u64(random));
    base_str_init(&part, &log->alloc, 0);
    st = base_str_appendf(&part, "%s.part", log->path);
    if (st == INFER_OK)
        st = base_output_open(&file, &log->alloc, part.data);
    base_str_release(&part);
    if (st != INFER_OK)
        return st;
    st = base_output_cut(&file, 0);
    if (st == INFER_OK)
        st = base_output_write(&file, header, sizeof header);
    if (st == INFER_OK)
        st = base_output_sync(&file);
    if (st == INFER_OK)
        st = base_output_rename(&file, log->path);
    if (st == INFER_OK)
        base_output_close(&file);
    else
        base_output_remove(&file);
    return st;
}

static infer_status open_for_writing(struct vector_log *log, uint64_t *size)
{
    infer_status st = access(log->path, F_OK) == 0 || errno != ENOENT ? INFER_OK : make(log);
    if (st == INFER_OK)
        st = base_output_open(&log->file, &log->alloc, log->path);
    if (st != INFER_OK)
        return st;
    log->fd = log->file.fd;
    *size = log->file.size;
    return INFER_OK;
}

static infer_status open_for_reading(struct vector_log *log, uint64_t *size)
{
    struct stat about;
    infer_status st = base_file_open(&log->fd, log->path);
    if (st == INFER_ERR_NOT_FOUND)
        return INFER_OK;
    if (st != INFER_OK)
        return st;
    if (fstat(log->fd, &about) != 0)
        return base_error(INFER_ERR_IO, "%s: cannot stat: %s", log->path, strerror(errno));
    if (!S_ISREG(about.st_mode))
        return base_error(INFER_ERR_INVALID, "%s is not a regular file", log->path);
    *size = (uint64_t)about.st_size;
    return INFER_OK;
}

/* What of a log of somebody who crashed is in the memory of the system gets to the disk now: later
 * records say so. */
static infer_status settle(struct vector_log *log, uint64_t size)
{
    infer_status st = INFER_OK;
    log->file.at = log->end;
    if (size > log->end)
        st = base_output_cut(&log->file, log->end);
    if (st == INFER_OK)
        st = base_output_sync_data(&log->file);
    if (st == INFER_OK)
        log->synced = log->end;
    return st;
}

static infer_status load(struct vector_log *log, int32_t read_only, vector_log_fn fn, void *user)
{
    uint8_t header[VECTOR_LOG_HEADER];
    uint64_t size = 0;
    infer_status st = read_only ? open_for_reading(log, &size) : open_for_writing(log, &size);
    if (st != INFER_OK || log->fd < 0)
        return st;
    if (size < sizeof header)
        return base_error(INFER_ERR_FORMAT, "%s has %llu bytes, a header alone has %zu", log->path,
                          (unsigned long long)size, sizeof header);
    st = base_file_read(log->fd, log->path, 0, header, sizeof header);
    if (st == INFER_OK)
        st = vector_log_header_read(header, log->path, &log->seed);
    if (st != INFER_OK)
        return st;
    struct vector_log_replay r = replay_of(log, size);
    r.fn = fn;
    r.user = user;
    st = vector_log_replay(&r);
    if (st != INFER_OK)
        return st;
    log->end = r.end;
    log->before = r.before;
    log->has_new = r.last_type != VECTOR_LOG_CLOSED;
    return read_only ? INFER_OK : settle(log, size);
}

static void release(struct vector_log *log)
{
    const struct base_alloc a = log->alloc;
    if (log->fd >= 0 && !log->file.path)
        close(log->fd);
    base_output_close(&log->file);
    pthread_cond_destroy(&log->flushed);
    pthread_mutex_destroy(&log->lock);
    base_free(&a, log->path);
    base_free(&a, log);
}

infer_status vector_log_open(struct vector_log **out, const struct base_alloc *a, const char *path,
                             int32_t read_only, vector_log_fn fn, void *user)
{
    struct vector_log *log = base_new(a, 1, sizeof *log);
    if (!log)
        return INFER_ERR_NO_MEMORY;
    log->alloc = *a;
    log->fd = log->file.fd = -1;
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->flushed, NULL);
    log->path = base_strdup(a, path, strlen(path));
    infer_status st = log->path ? load(log, read_only, fn, user) : INFER_ERR_NO_MEMORY;
    if (st != INFER_OK) {
        release(log);
        return st;
    }
    *out = log;
    return INFER_OK;
}

/* ------------------------------------------------------------------ writing */

/* Called with the lock held. */
static infer_status check(const struct vector_log *log)
{
    if (!log->file.path)
        return base_error(INFER_ERR_UNSUPPORTED, "%s is open for reading only", log->path);
    return log->status == INFER_OK ? INFER_OK : base_error(log->status, "%s", log->failure);
}

/* Called with the lock held: nothing is written any more, for the reason that the thread's sentence
 * gives. */
static void stop(struct vector_log *log, infer_status st)
{
    log->status = st;
    snprintf(log->failure, sizeof log->failure, "%s", base_error_text());
}

static infer_status hash_parts(const struct vector_log *log, struct vector_log_head *h,
                               const struct vector_log_part *parts, int32_t n)
{
    struct base_hash_stream sum;
    base_hash_begin(&sum, log->seed);
    for (int32_t i = 0; i < n; i++) {
        if (parts[i].size > INT64_MAX / 4 - h->size)
            return base_error(INFER_ERR_LIMIT, "%s: a record has too many bytes", log->path);
        base_hash_add(&sum, parts[i].data, parts[i].size);
        h->size += parts[i].size;
    }
    h->sum = base_hash_end(&sum);
    return INFER_OK;
}

/* Head, parts and zeros in one call. */
static infer_status write_record(struct vector_log *log, struct vector_log_head *h,
                                 const struct vector_log_part *parts, int32_t n)
{
    static const uint8_t zeros[VECTOR_LOG_ALIGN];
    uint8_t head[VECTOR_LOG_HEAD];
    struct iovec few[PARTS_FEW + 2], *pieces = few;
    if (n > PARTS_FEW) {
        pieces = base_new_raw(&log->alloc, (size_t)n + 2, sizeof *pieces);
        if (!pieces)
            return INFER_ERR_NO_MEMORY;
    }
    vector_log_head_write(head, h, log->seed);
    const uint64_t bytes = vector_log_record_bytes(h->size);
    pieces[0] = (struct iovec){head, sizeof head};
    for (int32_t i = 0; i < n; i++)
        pieces[i + 1] = (struct iovec){(void *)(uintptr_t)parts[i].data, parts[i].size};
    pieces[n + 1] =
        (struct iovec){(void *)(uintptr_t)zeros, (size_t)(bytes - sizeof head - h->size)};
    infer_status st = base_output_writev(&log->file, pieces, (size_t)n + 2);
    if (pieces != few)
        base_free(&log->alloc, pieces);
    return st;
}

/* The record that could not be written whole is taken back. */
static infer_status take_back(struct vector_log *log, infer_status st)
{
    char why[BASE_ERROR_MAX];
    snprintf(why, sizeof why, "%s", base_error_text());
    infer_status cut = log->file.at == log->end ? INFER_OK : base_output_cut(&log->file, log->end);
    if (cut != INFER_OK) {
        pthread_mutex_lock(&log->lock);
        stop(log, cut);
        pthread_mutex_unlock(&log->lock);
    }
    return base_error(st, "%s", why);
}

static infer_status append(struct vector_log *log, uint32_t type,
                           const struct vector_log_part *parts, int32_t n, uint64_t *end)
{
    struct vector_log_head h = {.type = type, .before = log->before};
    pthread_mutex_lock(&log->lock);
    infer_status st = check(log);
    h.at = log->end;
    h.synced = log->synced;
    pthread_mutex_unlock(&log->lock);
    if (st == INFER_OK)
        st = hash_parts(log, &h, parts, n);
    if (st != INFER_OK)
        return st;
    st = write_record(log, &h, parts, n);
    if (st != INFER_OK)
        return take_back(log, st);
    log->before = h.own;
    log->has_new = type != VECTOR_LOG_CLOSED;
    pthread_mutex_lock(&log->lock);
    *end = log->end = log->file.at;
    pthread_mutex_unlock(&log->lock);
    return INFER_OK;
}

infer_status vector_log_append(struct vector_log *log, uint32_t type,
                               const struct vector_log_part *parts, int32_t n, uint64_t *end)
{
    return type != VECTOR_LOG_CLOSED
               ? append(log, type, parts, n, end)
               : base_error(INFER_ERR_INTERNAL, "%s: this type of record is the log's", log->path);
}

infer_status vector_log_sync(struct vector_log *log, uint64_t end)
{
    pthread_mutex_lock(&log->lock);
    infer_status st = check(log);
    end = BASE_MIN(end, log->end);
    while (st == INFER_OK && log->synced < end) {
        if (log->flushing) { /* it may have begun too early for us: then we look again */
            pthread_cond_wait(&log->flushed, &log->lock);
            st = check(log);
            continue;
        }
        const uint64_t until = log->end;
        log->flushing = 1;
        pthread_mutex_unlock(&log->lock);
        st = base_output_sync_data(&log->file);
        pthread_mutex_lock(&log->lock);
        log->flushing = 0;
        if (st == INFER_OK)
            log->synced = until;
        else
            stop(log, st);
        pthread_cond_broadcast(&log->flushed);
    }
    pthread_mutex_unlock(&log->lock);
    return st;
}

infer_status vector_log_verify(const struct vector_log *log)
{
    if (log->fd < 0)
        return INFER_OK;
    const uint64_t end = vector_log_size(log);
    struct vector_log_replay r = replay_of(log, end);
    infer_status st = vector_log_replay(&r);
    if (st == INFER_OK && r.end != end)
        st = base_error(INFER_ERR_FORMAT,
                        "%s is damaged: the record at byte %llu is not whole any more", log->path,
                        (unsigned long long)r.end);
    return st;
}

uint64_t vector_log_size(const struct vector_log *log)
{
    struct vector_log *locked = (struct vector_log *)(uintptr_t)log;
    pthread_mutex_lock(&locked->lock);
    const uint64_t end = log->end;
    pthread_mutex_unlock(&locked->lock);
    return end;
}

void vector_log_close(struct vector_log **out)
{
    struct vector_log *log = *out;
    uint64_t end;
    if (!log)
        return;
    /* Without it damage to the last record would pass for a crash; that is all it is for. */
    if (log->file.path && log->has_new && log->status == INFER_OK)
        (void)append(log, VECTOR_LOG_CLOSED, NULL, 0, &end);
    release(log);
    *out = NULL;
}
