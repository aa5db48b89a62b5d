/* The folder of an index: its lock, its manifest, and the files that do not belong to it. */
#include "vector/folder.h"

#include "base/error.h"
#include "base/output.h"
#include "base/str.h"
#include "vector/folder_parts.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ATTEMPTS 64 /* of a reader to find two manifests equal */

struct vector_folder {
    struct base_alloc alloc;
    char *path; /* absolute: the host may change its folder */
    char *manifest_path;
    struct base_output lock;
    int32_t read_only, is_new, is_made;
    struct vector_manifest_held manifest;
    atomic_int stopped; /* no commit and no removal any more, for this reason: */
    char failure[BASE_ERROR_MAX];
};

/* -------------------------------------------------------------------- names */

int vector_folder_parse(const char *name, struct vector_folder_file *out)
{
    static const char *const kinds[] = {"segment", "log"};
    if (strcmp(name, "manifest.part") == 0) {
        *out = (struct vector_folder_file){.kind = "manifest", .is_part = 1};
        return 1;
    }
    for (size_t i = 0; i < BASE_COUNT(kinds); i++) {
        const size_t n = strlen(kinds[i]);
        char again[64];
        char *end;
        if (strncmp(name, kinds[i], n) != 0 || name[n] != '-' || name[n + 1] < '0' ||
            name[n + 1] > '9')
            continue;
        errno = 0;
        *out = (struct vector_folder_file){.kind = kinds[i],
                                           .number = strtoull(name + n + 1, &end, 10)};
        out->is_part = strcmp(end, ".part") == 0;
        snprintf(again, sizeof again, VECTOR_FOLDER_FILE "%s", kinds[i],
                 (unsigned long long)out->number, out->is_part ? ".part" : "");
        return errno == 0 && out->number < VECTOR_NUMBER_MAX && strcmp(again, name) == 0;
    }
    return 0;
}

infer_status vector_folder_name(const struct vector_folder *f, const char *kind, uint64_t number,
                                char *out, size_t size)
{
    int n =
        snprintf(out, size, "%s/" VECTOR_FOLDER_FILE, f->path, kind, (unsigned long long)number);
    return n >= 0 && (size_t)n < size
               ? INFER_OK
               : base_error(INFER_ERR_LIMIT, "%s: the name of the folder is too long", f->path);
}

infer_status vector_folder_each(const char *path, vector_folder_file_fn fn, void *user)
{
    struct dirent *entry;
    DIR *dir = opendir(path);
    if (!dir)
        return base_error(INFER_ERR_IO, "%s: cannot list: %s", path, strerror(errno));
    infer_status st = INFER_OK;
    while (st == INFER_OK && (errno = 0, entry = readdir(dir)) != NULL) {
        struct vector_folder_file file;
        if (vector_folder_parse(entry->d_name, &file))
            st = fn(&file, entry->d_name, user);
    }
    if (st == INFER_OK && errno != 0)
        st = base_error(INFER_ERR_IO, "%s: cannot list: %s", path, strerror(errno));
    closedir(dir);
    return st;
}

/* ------------------------------------------------------------------ cleaning */

static int names_it(const struct vector_manifest *m, const struct vector_folder_file *file)
{
    if (file->is_part)
        return 0;
    if (strcmp(file->kind, "log") == 0)
        return file->number >= m->first_log;
    for (int32_t i = 0; i < m->n_segments; i++)
        if (m->segments[i] == file->number)
            return 1;
    return 0;
}

static infer_status sweep_one(const struct vector_folder_file *file, const char *name, void *user)
{
    struct vector_folder *f = user;
    struct vector_manifest *m = &f->manifest.is;
    struct base_str path;
    if (names_it(m, file)) {
        m->next_file = BASE_MAX(m->next_file, file->number + 1);
        return INFER_OK;
    }
    if (f->read_only)
        return INFER_OK;
    base_str_init(&path, &f->alloc, 0);
    infer_status st = base_str_appendf(&path, "%s/%s", f->path, name);
    if (st == INFER_OK)
        unlink(path.data); /* if it stays, the next opening removes it */
    base_str_release(&path);
    return st;
}

static infer_status refuse_file(const struct vector_folder_file *file, const char *name, void *user)
{
    const struct vector_folder *f = user;
    return file->is_part ? INFER_OK
                         : base_error(INFER_ERR_FORMAT,
                                      "%s: the manifest is missing though %s is "
                                      "there",
                                      f->path, name);
}

/* ------------------------------------------------------------------- opening */

static infer_status find_folder(struct vector_folder *f, const char *path, int32_t may_make)
{
    char real[PATH_MAX];
    struct stat about;
    if (may_make && mkdir(path, 0777) == 0)
        f->is_new = 1;
    else if (may_make && errno != EEXIST)
        return base_error(errno == ENOENT ? INFER_ERR_NOT_FOUND : INFER_ERR_IO,
                          "%s: cannot make the folder: %s", path, strerror(errno));
    if (!realpath(path, real) || stat(real, &about) != 0)
        return base_error(errno == ENOENT || errno == ENOTDIR ? INFER_ERR_NOT_FOUND : INFER_ERR_IO,
                          "%s: cannot open the folder: %s", path, strerror(errno));
    if (!S_ISDIR(about.st_mode))
        return base_error(INFER_ERR_INVALID, "%s is a file, the folder of an index was expected",
                          path);
    f->path = base_strdup(&f->alloc, real, strlen(real));
    if (!f->path)
        return INFER_ERR_NO_MEMORY;
    struct base_str name;
    base_str_init(&name, &f->alloc, 0);
    infer_status st = base_str_appendf(&name, "%s/manifest", f->path);
    if (st == INFER_OK && !(f->manifest_path = base_str_take(&name)))
        st = INFER_ERR_NO_MEMORY;
    base_str_release(&name);
    return st == INFER_OK && f->is_new ? base_output_sync_folder(&f->alloc, f->path) : st;
}

infer_status vector_folder_lock(struct base_output *lock, const struct base_alloc *a,
                                const char *path)
{
    struct base_str name;
    base_str_init(&name, a, 0);
    infer_status st = base_str_appendf(&name, "%s/lock", path);
    if (st == INFER_OK)
        st = base_output_open(lock, a, name.data);
    base_str_release(&name);
    return st == INFER_ERR_BUSY ? base_error(st, "%s is open for writing already", path) : st;
}

static infer_status make_manifest(struct vector_folder *f, const struct vector_manifest *made)
{
    struct vector_manifest first = *made;
    infer_status st = vector_folder_each(f->path, refuse_file, f);
    if (st != INFER_OK)
        return st;
    first.generation = 1;
    st = vector_manifest_copy(&f->manifest, &f->alloc, &first);
    if (st == INFER_OK)
        st = vector_manifest_write(&f->alloc, f->manifest_path, &f->manifest.is, &f->is_made);
    if (st != INFER_OK && f->is_made) {
        unlink(f->manifest_path);
        f->is_made = 0;
    }
    return st;
}

static infer_status load(struct vector_folder *f, const char *path, int32_t must_exist,
                         const struct vector_manifest *made)
{
    const int32_t may_make = !f->read_only && !must_exist;
    infer_status st = find_folder(f, path, may_make);
    if (st != INFER_OK)
        return st;
    if (!may_make && access(f->manifest_path, F_OK) != 0 && errno == ENOENT)
        return base_error(INFER_ERR_NOT_FOUND, "%s holds no index", f->path);
    if (!f->read_only)
        st = vector_folder_lock(&f->lock, &f->alloc, f->path);
    if (st == INFER_OK)
        st = vector_manifest_read(&f->manifest, &f->alloc, f->manifest_path);
    if (st == INFER_ERR_NOT_FOUND && may_make)
        st = make_manifest(f, made);
    return st == INFER_OK ? vector_folder_each(f->path, sweep_one, f) : st;
}

static void release(struct vector_folder *f)
{
    const struct base_alloc a = f->alloc;
    base_output_close(&f->lock);
    vector_manifest_release(&f->manifest);
    base_free(&a, f->manifest_path);
    base_free(&a, f->path);
    base_free(&a, f);
}

infer_status vector_folder_open(struct vector_folder **out, const struct base_alloc *a,
                                const char *path, int32_t read_only, int32_t must_exist,
                                const struct vector_manifest *made,
                                const struct vector_manifest **manifest)
{
    struct vector_folder *f = base_new(a, 1, sizeof *f);
    if (!f)
        return INFER_ERR_NO_MEMORY;
    f->alloc = *a;
    f->lock.fd = -1;
    f->read_only = read_only;
    infer_status st = load(f, path, must_exist, made);
    if (st != INFER_OK) {
        if (f->is_new && !f->is_made) { /* another who is faster keeps the folder from going */
            base_output_remove(&f->lock);
            rmdir(path);
        }
        release(f);
        return st;
    }
    *manifest = &f->manifest.is;
    *out = f;
    return INFER_OK;
}

const struct base_alloc *vector_folder_alloc(const struct vector_folder *f)
{
    return &f->alloc;
}

void vector_folder_close(struct vector_folder **folder)
{
    if (*folder)
        release(*folder);
    *folder = NULL;
}

/* ---------------------------------------------------------------- while open */

infer_status vector_folder_load(struct vector_folder *f, vector_folder_fn fn, void *user)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        struct vector_manifest_held now;
        infer_status st = fn(&f->manifest.is, user);
        if (f->read_only && (st == INFER_OK || st == INFER_ERR_NOT_FOUND)) {
            infer_status again = vector_manifest_read(&now, &f->alloc, f->manifest_path);
            if (again != INFER_OK)
                return again;
            if (now.is.generation != f->manifest.is.generation) {
                vector_manifest_release(&f->manifest);
                f->manifest = now;
                continue;
            }
            vector_manifest_release(&now);
        }
        return st == INFER_ERR_NOT_FOUND
                   ? base_error_prefix(INFER_ERR_FORMAT, "a file of the index is missing")
                   : st;
    }
    return base_error(INFER_ERR_BUSY, "%s: it changes faster than it can be opened", f->path);
}

infer_status vector_folder_commit(struct vector_folder *f, const struct vector_manifest *manifest)
{
    struct vector_manifest next = *manifest;
    struct vector_manifest_held held;
    int32_t placed = 0;
    if (f->read_only)
        return base_error(INFER_ERR_UNSUPPORTED, "%s is open for reading only", f->path);
    if (atomic_load(&f->stopped))
        return base_error(INFER_ERR_IO, "%s", f->failure);
    next.generation = f->manifest.is.generation + 1;
    infer_status st = vector_manifest_copy(&held, &f->alloc, &next);
    if (st != INFER_OK)
        return st;
    st = vector_manifest_write(&f->alloc, f->manifest_path, &held.is, &placed);
    if (st == INFER_OK) {
        vector_manifest_release(&f->manifest);
        f->manifest = held;
        return INFER_OK;
    }
    vector_manifest_release(&held);
    if (placed) {
        snprintf(f->failure, sizeof f->failure, "%s", base_error_text());
        atomic_store(&f->stopped, 1);
    }
    return st;
}

void vector_folder_drop(struct vector_folder *f, const char *kind, uint64_t number)
{
    char name[PATH_MAX];
    if (!f->read_only && !atomic_load(&f->stopped) &&
        vector_folder_name(f, kind, number, name, sizeof name) == INFER_OK)
        unlink(name);
}

struct logs {
    const struct vector_folder *folder;
    uint64_t *numbers;
    int32_t n, room;
};

static infer_status take_log(const struct vector_folder_file *file, const char *name, void *user)
{
    struct logs *l = user;
    int32_t at = l->n;
    BASE_UNUSED(name);
    if (file->is_part || strcmp(file->kind, "log") != 0 ||
        file->number < l->folder->manifest.is.first_log)
        return INFER_OK;
    if (l->n == l->room)
        return base_error(INFER_ERR_LIMIT, "%s has more than %d logs", l->folder->path,
                          (int)l->room);
    for (; at > 0 && l->numbers[at - 1] > file->number; at--)
        l->numbers[at] = l->numbers[at - 1];
    l->numbers[at] = file->number;
    l->n++;
    return INFER_OK;
}

infer_status vector_folder_logs(const struct vector_folder *f, uint64_t *numbers, int32_t *n,
                                int32_t room)
{
    struct logs logs = {.folder = f, .numbers = numbers, .room = room};
    infer_status st = vector_folder_each(f->path, take_log, &logs);
    if (st == INFER_OK)
        *n = logs.n;
    return st;
}

infer_status vector_folder_verify(const struct vector_folder *f)
{
    struct vector_manifest_held held;
    infer_status st = vector_manifest_read(&held, &f->alloc, f->manifest_path);
    if (st == INFER_OK)
        vector_manifest_release(&held);
    return st;
}
