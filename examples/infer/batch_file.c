/* Opening, resuming and writing the results of a batch. */
#include "batch_file.h"

#include "batch_line.h"
#include "command.h"
#include "json_in.h"
#include "line_reader.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(const struct batch_file *file, const char *what)
{
    terminal_error("cannot %s %s: %s", what, file->path, strerror(errno));
    return STATUS_FAILED;
}

static uint64_t mix(uint64_t x) /* splitmix64's finalizer: Steele et al., OOPSLA 2014 */
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Two sums over the bytes by odd multipliers that have nothing in common. */
static struct batch_done key_of(const struct buffer *id, uint64_t number)
{
    uint64_t a = UINT64_C(0xcbf29ce484222325), b = UINT64_C(0x9e3779b97f4a7c15);
    char text[32];
    const char *s = id->data;
    size_t size = id->size;
    if (size == 0) { /* no id begins so: numbers have no letter, texts a quote */
        s = text;
        size = (size_t)snprintf(text, sizeof text, "line %llu", (unsigned long long)number);
    }
    for (size_t i = 0; i < size; i++) {
        a = (a ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
        b = mix(b + (unsigned char)s[i]);
    }
    return (struct batch_done){mix(a ^ size), b, 1};
}

static int compare(const void *x, const void *y)
{
    const struct batch_done *l = x, *r = y;
    if (l->a != r->a)
        return l->a < r->a ? -1 : 1;
    return l->b < r->b ? -1 : l->b > r->b;
}

static int remember(struct batch_file *file, struct batch_done key)
{
    if (file->n_done == file->capacity) {
        size_t capacity = file->capacity ? 2 * file->capacity : 1024;
        struct batch_done *grown = realloc(file->done, capacity * sizeof *grown);
        if (!grown) {
            errno = ENOMEM;
            return failed(file, "resume");
        }
        file->done = grown;
        file->capacity = capacity;
    }
    file->done[file->n_done++] = key;
    return STATUS_OK;
}

static void sort(struct batch_file *file)
{
    size_t n = 0;
    if (file->n_done == 0)
        return;
    qsort(file->done, file->n_done, sizeof *file->done, compare);
    for (size_t i = 1; i < file->n_done; i++) {
        if (compare(&file->done[n], &file->done[i]) == 0)
            file->done[n].n++;
        else
            file->done[++n] = file->done[i];
    }
    file->n_done = n + 1;
}

/* What a line of results says of itself. Returns -1 where it is none. */
static int read_result(const struct line_reader *reader, struct buffer *id, uint64_t *number,
                       int *is_error)
{
    struct json_value object, key, value;
    struct json_walk walk;
    char error[128];
    int has_number = 0, has_end = 0;
    if (json_in_check(&object, reader->text, reader->size, error, sizeof error) != 0 ||
        object.kind != JSON_OBJECT)
        return -1;
    for (walk = json_walk_begin(&object); json_walk_next(&walk, &key, &value);) {
        if (key.size == 4 && memcmp(key.text, "\"id\"", 4) == 0 && value.kind != JSON_NULL) {
            if (id->size || batch_line_id(id, &value) != 0)
                return -1;
        } else if (key.size == 6 && memcmp(key.text, "\"line\"", 6) == 0) {
            has_number = json_in_u64(&value, number) == 0;
        } else if (key.size == 7 && memcmp(key.text, "\"error\"", 7) == 0) {
            *is_error = has_end = 1;
        } else if (key.size == 15 && memcmp(key.text, "\"finish_reason\"", 15) == 0) {
            has_end = 1;
        }
    }
    return has_number && has_end && !id->failed ? 0 : -1;
}

static int take_result(struct batch_file *file, const struct line_reader *reader)
{
    struct buffer id = {0};
    uint64_t number = 0;
    int is_error = 0, status;
    if (read_result(reader, &id, &number, &is_error) == 0) {
        status = remember(file, key_of(&id, number));
        file->n_lines++;
        file->n_failed += (uint64_t)is_error;
    } else {
        terminal_error("%s: line %llu is no result of infer batch: the file is left alone",
                       file->path, (unsigned long long)reader->number);
        status = STATUS_FAILED;
    }
    buffer_free(&id);
    return status;
}

/* Reads what is there; a last line without its end was torn when a run was killed. */
static int scan(struct batch_file *file)
{
    struct line_reader reader = {.fd = file->fd, .limit = SIZE_MAX};
    enum line_result result;
    int status = STATUS_OK;
    while (status == STATUS_OK && (result = line_reader_next(&reader, 1)) != LINE_END) {
        if (result == LINE_FAILED)
            status = failed(file, "read");
        else if (result == LINE_READ && !reader.whole)
            break;
        else if (result == LINE_READ)
            status = take_result(file, &reader);
    }
    if (status == STATUS_OK && reader.text && !reader.whole &&
        ftruncate(file->fd, (off_t)reader.offset) != 0)
        status = failed(file, "cut the torn last line of");
    sort(file);
    line_reader_free(&reader);
    return status;
}

int batch_file_open(struct batch_file *file, const char *path, int resume, int force)
{
    struct stat info;
    *file = (struct batch_file){.path = path, .fd = STDOUT_FILENO};
    if (strcmp(path, "-") == 0) {
        file->path = "the output";
        return STATUS_OK;
    }
    file->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file->fd < 0 && (errno == EACCES || errno == EINVAL)) /* a pipe or device to write to */
        file->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file->fd < 0 || fstat(file->fd, &info) != 0)
        return failed(file, "open");
    file->is_regular = S_ISREG(info.st_mode);
    if (!file->is_regular)
        return STATUS_OK;
    /* Some file systems have no locks: only a lock that somebody holds keeps us away. */
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        terminal_error("another program is writing %s", path);
        return STATUS_FAILED;
    }
    if (fstat(file->fd, &info) != 0)
        return failed(file, "open");
    if (info.st_size == 0)
        return STATUS_OK;
    if (resume)
        return scan(file);
    if (force)
        return ftruncate(file->fd, 0) == 0 ? STATUS_OK : failed(file, "empty");
    terminal_error("%s exists (--resume goes on with it, --force replaces it)", path);
    return STATUS_FAILED;
}

int batch_file_has(struct batch_file *file, const struct buffer *id, uint64_t number)
{
    struct batch_done key, *found;
    if (file->n_done == 0)
        return 0;
    key = key_of(id, number);
    found = bsearch(&key, file->done, file->n_done, sizeof key, compare);
    if (!found || found->n == 0)
        return 0;
    found->n--;
    return 1;
}

int batch_file_write(struct batch_file *file, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(file->fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(file, "write");
        text += n;
        size -= (size_t)n;
    }
    return STATUS_OK;
}

int batch_file_close(struct batch_file *file)
{
    int status = STATUS_OK;
    free(file->done);
    file->done = NULL;
    if (file->fd <= STDERR_FILENO)
        return status;
    if (file->is_regular && fsync(file->fd) != 0)
        status = failed(file, "write");
    if (close(file->fd) != 0 && status == STATUS_OK)
        status = failed(file, "write");
    file->fd = -1;
    return status;
}
