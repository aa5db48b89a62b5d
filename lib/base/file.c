/* Mapping files for reading, and saying exactly why one cannot be opened. */
#include "base/file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* One call never moves more: Linux refuses 2 GiB and more. */
#define READ_MAX ((size_t)1 << 30)

infer_status base_file_map_open(struct base_file *out, int fd, const char *path)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return base_error(INFER_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return base_error(INFER_ERR_INVALID, "%s is a folder, a file was expected", path);
    if (!S_ISREG(st.st_mode))
        return base_error(INFER_ERR_INVALID, "%s is not a regular file", path);
    if ((uint64_t)st.st_size > SIZE_MAX / 2)
        return base_error(INFER_ERR_LIMIT, "%s is too large to map", path);
    struct base_file file = {
        .size = (size_t)st.st_size, .device = (uint64_t)st.st_dev, .inode = (uint64_t)st.st_ino};
    if (file.size) {
        /* Shared, so that processes that load the same model share its pages. */
        void *p = mmap(NULL, file.size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            return base_error(INFER_ERR_IO, "%s: cannot map %zu bytes: %s", path, file.size,
                              strerror(errno));
        file.data = p;
    }
    *out = file;
    return INFER_OK;
}

infer_status base_file_open(int *fd, const char *path)
{
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0)
        return base_error(errno == ENOENT || errno == ENOTDIR ? INFER_ERR_NOT_FOUND : INFER_ERR_IO,
                          "%s: cannot open: %s", path, strerror(errno));
    *fd = opened;
    return INFER_OK;
}

infer_status base_file_map(struct base_file *out, const char *path)
{
    int fd = -1;
    infer_status st = base_file_open(&fd, path);
    if (st != INFER_OK)
        return st;
    st = base_file_map_open(out, fd, path);
    close(fd);
    return st;
}

infer_status base_file_read(int fd, const char *path, uint64_t offset, void *data, size_t size)
{
    uint8_t *p = data;
    while (size) {
        ssize_t n = pread(fd, p, BASE_MIN(size, READ_MAX), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return base_error(INFER_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0)
            return base_error(INFER_ERR_IO, "%s ends at byte %llu", path,
                              (unsigned long long)offset);
        p += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return INFER_OK;
}

int base_file_read_text(char *out, size_t size, const char *path)
{
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while (n + 1 < size) {
        ssize_t got = read(fd, out + n, size - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    out[n] = 0;
    return n > 0;
}

void base_file_cut(struct base_file *file, size_t size)
{
    size_t keep = BASE_ALIGN_UP(size, (size_t)sysconf(_SC_PAGESIZE));
    if (keep == 0) {
        base_file_unmap(file);
    } else if (keep < file->size) {
        munmap((void *)(uintptr_t)(file->data + keep), file->size - keep);
        file->size = keep;
    }
}

void base_file_forget(const struct base_file *file, const uint8_t *data, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), begin = (size_t)(data - file->data);
    size_t end = (begin + bytes) / page * page;
    begin = BASE_ALIGN_UP(begin, page);
    if (begin < end)
        madvise((void *)(uintptr_t)(file->data + begin), end - begin, MADV_DONTNEED);
}

void base_file_unmap(struct base_file *file)
{
    if (file->data)
        munmap((void *)(uintptr_t)file->data, file->size);
    *file = (struct base_file){0};
}
