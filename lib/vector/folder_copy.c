/* A snapshot: segments never change, so that another name for them is a copy; logs grow, so that
 * their beginning is copied. The manifest comes last and makes it an index. */
#include "base/error.h"
#include "base/file.h"
#include "base/str.h"
#include "vector/folder_parts.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct copy {
    struct base_alloc alloc;
    const struct vector_folder *from;
    const char *to;
    struct base_output lock;
    int is_new, is_ours;
};

static infer_status copy_bytes(const struct copy *c, const char *from, const char *to,
                               uint64_t size, int whole)
{
    struct base_output out;
    struct stat about;
    int fd = -1;
    infer_status st = base_file_open(&fd, from);
    if (st != INFER_OK)
        return st;
    if (fstat(fd, &about) != 0)
        st = base_error(INFER_ERR_IO, "%s: cannot stat: %s", from, strerror(errno));
    else if (whole)
        size = (uint64_t)about.st_size;
    if (st == INFER_OK)
        st = base_output_open(&out, &c->alloc, to);
    if (st == INFER_OK) {
        st = base_output_copy(&out, fd, from, size);
        if (st == INFER_OK)
            st = base_output_sync(&out);
        base_output_close(&out);
    }
    close(fd);
    return st;
}

static infer_status name_of(const struct copy *c, const char *kind, uint64_t number, char *out,
                            size_t size)
{
    int n = snprintf(out, size, "%s/" VECTOR_FOLDER_FILE, c->to, kind, (unsigned long long)number);
    return n >= 0 && (size_t)n < size
               ? INFER_OK
               : base_error(INFER_ERR_LIMIT, "%s: the name of the folder is too long", c->to);
}

/* A segment or (with `bytes`) the beginning of a log. */
static infer_status copy_file(const struct copy *c, const char *kind, uint64_t number,
                              const uint64_t *bytes)
{
    char from[PATH_MAX], to[PATH_MAX];
    infer_status st = vector_folder_name(c->from, kind, number, from, sizeof from);
    if (st == INFER_OK)
        st = name_of(c, kind, number, to, sizeof to);
    if (st != INFER_OK)
        return st;
    /* Another disk, or a file system without links, or too many of them: then the bytes. */
    if (!bytes && link(from, to) == 0)
        return INFER_OK;
    return copy_bytes(c, from, to, bytes ? *bytes : 0, !bytes);
}

/* But for the lock. */
static infer_status check_empty(const struct copy *c)
{
    struct dirent *entry;
    int n = 0;
    DIR *dir = opendir(c->to);
    if (!dir)
        return base_error(INFER_ERR_INVALID, "%s cannot be listed as a folder: %s", c->to,
                          strerror(errno));
    while ((entry = readdir(dir)) != NULL)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
             strcmp(entry->d_name, "lock") != 0;
    closedir(dir);
    return n == 0 ? INFER_OK
                  : base_error(INFER_ERR_INVALID, "%s is there and is no empty folder", c->to);
}

static infer_status begin(struct copy *c)
{
    if (mkdir(c->to, 0777) == 0)
        c->is_new = 1;
    else if (errno != EEXIST)
        return base_error(errno == ENOENT ? INFER_ERR_NOT_FOUND : INFER_ERR_IO,
                          "%s: cannot make the folder: %s", c->to, strerror(errno));
    infer_status st = check_empty(c);
    if (st == INFER_OK)
        st = vector_folder_lock(&c->lock, &c->alloc, c->to);
    if (st == INFER_OK)
        st = check_empty(c); /* somebody may have been faster, and left */
    c->is_ours = st == INFER_OK;
    return st;
}

static infer_status end(const struct copy *c, const struct vector_manifest *manifest)
{
    struct base_str path;
    int32_t placed;
    base_str_init(&path, &c->alloc, 0);
    infer_status st = base_str_appendf(&path, "%s/manifest", c->to);
    if (st == INFER_OK) /* the files' names before the manifest's */
        st = base_output_sync_folder(&c->alloc, path.data);
    if (st == INFER_OK)
        st = vector_manifest_write(&c->alloc, path.data, manifest, &placed);
    if (st == INFER_OK && c->is_new)
        st = base_output_sync_folder(&c->alloc, c->to);
    base_str_release(&path);
    return st;
}

static infer_status forget_file(const struct vector_folder_file *file, const char *name, void *user)
{
    const struct copy *c = user;
    char path[PATH_MAX];
    BASE_UNUSED(file);
    int n = snprintf(path, sizeof path, "%s/%s", c->to, name);
    if (n > 0 && (size_t)n < sizeof path)
        unlink(path);
    return INFER_OK;
}

static void undo(struct copy *c)
{
    char why[BASE_ERROR_MAX], path[PATH_MAX];
    snprintf(why, sizeof why, "%s", base_error_text());
    if (c->is_ours) {
        int n = snprintf(path, sizeof path, "%s/manifest", c->to);
        if (n > 0 && (size_t)n < sizeof path)
            unlink(path);
        (void)vector_folder_each(c->to, forget_file, c);
        base_output_remove(&c->lock);
    }
    if (c->is_new)
        rmdir(c->to);
    base_error_restore(why);
}

infer_status vector_folder_copy(const struct vector_folder *folder, const char *to,
                                const struct vector_manifest *manifest, const uint64_t *logs,
                                const uint64_t *log_bytes, int32_t n_logs)
{
    struct copy c = {.alloc = *vector_folder_alloc(folder), .from = folder, .to = to};
    struct vector_manifest_held held;
    c.lock.fd = -1;
    infer_status st = vector_manifest_copy(&held, &c.alloc, manifest);
    if (st != INFER_OK)
        return st;
    st = begin(&c);
    for (int32_t i = 0; st == INFER_OK && i < manifest->n_segments; i++)
        st = copy_file(&c, "segment", manifest->segments[i], NULL);
    for (int32_t i = 0; st == INFER_OK && i < n_logs; i++)
        st = copy_file(&c, "log", logs[i], &log_bytes[i]);
    if (st == INFER_OK)
        st = end(&c, &held.is);
    if (st != INFER_OK)
        undo(&c);
    base_output_close(&c.lock);
    vector_manifest_release(&held);
    return st;
}
