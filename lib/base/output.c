/* Writing files whole or not at all. */
#include "base/output.h"

#include "base/error.h"
#include "base/file.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* One call never moves more: Linux refuses 2 GiB and more. */
#define WRITE_MAX  ((size_t)1 << 30)
#define COPY_PIECE 16384
#define PIECES_MAX ((size_t)1024) /* IOV_MAX of Linux */

static infer_status failed(const char *path, const char *what)
{
    return base_error(INFER_ERR_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static infer_status open_locked(struct base_output *out)
{
    struct stat st, named;
    out->fd = open(out->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (out->fd < 0)
        return failed(out->path, "create");
    if (fstat(out->fd, &st) != 0)
        return failed(out->path, "stat");
    if (!S_ISREG(st.st_mode))
        return base_error(INFER_ERR_INVALID, "%s is not a regular file", out->path);
    if (flock(out->fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? base_error(INFER_ERR_BUSY, "%s: somebody else is writing it", out->path)
                   : failed(out->path, "lock");
    /* Who held the lock until now may have given the file its final name. */
    if (stat(out->path, &named) != 0 || named.st_ino != st.st_ino || named.st_dev != st.st_dev)
        return base_error(INFER_ERR_BUSY, "%s: somebody else has just finished it", out->path);
    out->size = (uint64_t)st.st_size;
    return INFER_OK;
}

infer_status base_output_open(struct base_output *out, const struct base_alloc *a, const char *path)
{
    *out = (struct base_output){.alloc = *a, .fd = -1};
    out->path = base_strdup(a, path, strlen(path));
    if (!out->path)
        return INFER_ERR_NO_MEMORY;
    infer_status st = open_locked(out);
    if (st != INFER_OK)
        base_output_close(out);
    return st;
}

/* Where the file system cannot make a file without a name, it has one for a moment. */
static infer_status open_unlinked(struct base_output *out)
{
    struct base_str name;
    base_str_init(&name, &out->alloc, 0);
    infer_status st = base_str_appendf(&name, "%s/infer-XXXXXX", out->path);
    if (st == INFER_OK && (out->fd = mkostemp(name.data, O_CLOEXEC)) < 0)
        st = failed(out->path, "create a file there");
    if (st == INFER_OK)
        unlink(name.data);
    base_str_release(&name);
    return st;
}

infer_status base_output_open_unnamed(struct base_output *out, const struct base_alloc *a,
                                      const char *folder)
{
    infer_status st = INFER_OK;
    *out = (struct base_output){.alloc = *a, .fd = -1};
    out->path = base_strdup(a, folder, strlen(folder));
    if (!out->path)
        return INFER_ERR_NO_MEMORY;
    out->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (out->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        st = open_unlinked(out);
    else if (out->fd < 0)
        st = failed(folder, "create a file there");
    if (st != INFER_OK)
        base_output_close(out);
    return st;
}

infer_status base_output_write(struct base_output *out, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        ssize_t n = pwrite(out->fd, p, BASE_MIN(size, WRITE_MAX), (off_t)out->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(out->path, "write");
        if (n == 0)
            return base_error(INFER_ERR_IO, "%s: cannot write: the file takes no more bytes",
                              out->path);
        p += n;
        size -= (size_t)n;
        out->at += (uint64_t)n;
        out->size = BASE_MAX(out->size, out->at);
    }
    return INFER_OK;
}

infer_status base_output_writev(struct base_output *out, struct iovec *pieces, size_t n)
{
    while (n) {
        ssize_t done = pwritev(out->fd, pieces, (int)BASE_MIN(n, PIECES_MAX), (off_t)out->at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return failed(out->path, "write");
        size_t left = (size_t)done, empty = 0;
        for (; n && left >= pieces->iov_len; pieces++, n--, empty++)
            left -= pieces->iov_len;
        if (done == 0 && !empty)
            return base_error(INFER_ERR_IO, "%s: cannot write: the file takes no more bytes",
                              out->path);
        if (left) {
            pieces->iov_base = (uint8_t *)pieces->iov_base + left;
            pieces->iov_len -= left;
        }
        out->at += (uint64_t)done;
        out->size = BASE_MAX(out->size, out->at);
    }
    return INFER_OK;
}

/* *done is how far the system came by itself; it may know no way between these two files. */
static infer_status copy_range(struct base_output *out, int fd, uint64_t size, uint64_t *done)
{
    for (*done = 0; *done < size;) {
        off_t from = (off_t)*done, to = (off_t)out->at;
        size_t want = (size_t)BASE_MIN(size - *done, (uint64_t)WRITE_MAX);
        ssize_t n = copy_file_range(fd, &from, out->fd, &to, want, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
            return failed(out->path, "write");
        if (n <= 0)
            break;
        *done += (uint64_t)n;
        out->at += (uint64_t)n;
        out->size = BASE_MAX(out->size, out->at);
    }
    return INFER_OK;
}

infer_status base_output_copy(struct base_output *out, int fd, const char *from, uint64_t size)
{
    uint8_t piece[COPY_PIECE];
    uint64_t done;
    infer_status st = copy_range(out, fd, size, &done);
    while (st == INFER_OK && done < size) {
        size_t n = (size_t)BASE_MIN(size - done, (uint64_t)sizeof piece);
        st = base_file_read(fd, from, done, piece, n);
        if (st == INFER_OK)
            st = base_output_write(out, piece, n);
        done += n;
    }
    return st;
}

infer_status base_output_read(struct base_output *out, uint64_t offset, void *data, size_t size)
{
    return base_file_read(out->fd, out->path, offset, data, size);
}

infer_status base_output_cut(struct base_output *out, uint64_t size)
{
    if (ftruncate(out->fd, (off_t)size) != 0)
        return failed(out->path, "cut");
    out->at = out->size = size;
    return INFER_OK;
}

infer_status base_output_sync(struct base_output *out)
{
    return fsync(out->fd) == 0 ? INFER_OK : failed(out->path, "flush");
}

infer_status base_output_sync_data(const struct base_output *out)
{
    int result;
    do
        result = fdatasync(out->fd);
    while (result != 0 && errno == EINTR);
    return result == 0 ? INFER_OK : failed(out->path, "flush");
}

/* A new name lasts when its folder is on the disk. Some file systems cannot say; theirs is the
 * best that there is. */
infer_status base_output_sync_folder(const struct base_alloc *a, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    char *folder = slash ? base_strdup(a, path, n ? n : 1) : base_strdup(a, ".", 1);
    infer_status st = INFER_OK;
    if (!folder)
        return INFER_ERR_NO_MEMORY;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        if (fsync(fd) != 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT))
            st = failed(folder, "flush the folder");
        close(fd);
    }
    base_free(a, folder);
    return st;
}

infer_status base_output_move(struct base_output *out, const char *to)
{
    if (rename(out->path, to) != 0)
        return base_error(INFER_ERR_IO, "%s: cannot rename it to %s: %s", out->path, to,
                          strerror(errno));
    return INFER_OK;
}

infer_status base_output_rename(struct base_output *out, const char *to)
{
    infer_status st = base_output_move(out, to);
    return st == INFER_OK ? base_output_sync_folder(&out->alloc, to) : st;
}

void base_output_close(struct base_output *out)
{
    if (!out->path)
        return;
    if (out->fd >= 0)
        close(out->fd);
    base_free(&out->alloc, out->path);
    *out = (struct base_output){.fd = -1};
}

void base_output_remove(struct base_output *out)
{
    if (out->path)
        unlink(out->path);
    base_output_close(out);
}
