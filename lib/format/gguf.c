/* Opening and closing GGUF models of one or several files, and their directory. */
#include "format/gguf_internal.h"

#include "base/error.h"
#include "format/hf_cache.h"

#include <inttypes.h>
#include <string.h>

static void part_close(struct gguf_part *part, const struct base_alloc *a)
{
    gguf_directory_release(&part->keys, a);
    base_file_unmap(&part->mapping);
    base_free(a, part->path);
    *part = (struct gguf_part){0};
}

/* Maps `path` and reads its keys. The part is released by the caller, failed or not. */
static infer_status part_open(struct gguf_part *part, const struct gguf_file *file,
                              const char *path)
{
    const struct base_alloc *a = &file->alloc;
    part->path = base_strdup(a, path, strlen(path));
    if (!part->path)
        return INFER_ERR_NO_MEMORY;
    infer_status st = base_file_map(&part->mapping, path);
    if (st != INFER_OK)
        return st; /* names the path already */
    if (file->flags & GGUF_OPEN_VERIFY)
        st = hf_cache_verify(path, &part->mapping);
    if (st != INFER_OK)
        return st;
    part->data = part->mapping.data;
    part->size = part->mapping.size;
    st = gguf_parse_keys(part, a);
    return st == INFER_OK ? st : base_error_prefix(st, "%s", path);
}

static infer_status part_read_tensors(struct gguf_file *file, int32_t i)
{
    const char *path = file->parts[i].path;
    infer_status st = gguf_parse_tensors(file, i);
    return st == INFER_OK || !path ? st : base_error_prefix(st, "%s", path);
}

infer_status gguf_file_new(struct gguf_file **out, const struct base_alloc *a, uint32_t flags)
{
    struct gguf_file *file = base_new(a, 1, sizeof *file);
    if (!file)
        return INFER_ERR_NO_MEMORY;
    file->alloc = *a;
    file->flags = flags;
    file->parts = base_new(a, 1, sizeof *file->parts);
    if (!file->parts) {
        base_free(a, file);
        return INFER_ERR_NO_MEMORY;
    }
    file->n_parts = 1;
    base_arena_init(&file->arena, a);
    base_arena_init(&file->data, a);
    *out = file;
    return INFER_OK;
}

/* Opens part `i` of `n`, whose keys must agree with the first part's. */
static infer_status open_sibling(struct gguf_file *file, int32_t i, int32_t n, int64_t n_tensors)
{
    struct gguf_part *part = &file->parts[i];
    char *path;
    int32_t no, count;
    int64_t total;
    infer_status st = gguf_split_path(&path, &file->alloc, file->parts[0].path, i, n);
    if (st != INFER_OK)
        return st;
    st = part_open(part, file, path);
    base_free(&file->alloc, path);
    if (st != INFER_OK)
        return base_error_prefix(st, "part %d of %d", (int)i + 1, (int)n);
    st = gguf_split_of(part, &no, &count, &total);
    if (st == INFER_OK && (no != i || count != n || total != n_tensors))
        st = base_error(INFER_ERR_FORMAT,
                        "the file says it is part %d of %d with %" PRId64
                        " tensors in all, part %d of %d with %" PRId64 " was expected",
                        (int)no + 1, (int)count, total, (int)i + 1, (int)n, n_tensors);
    if (st != INFER_OK)
        return base_error_prefix(st, "%s", part->path);
    gguf_directory_release(&part->keys, &file->alloc); /* the first part's keys count */
    return part_read_tensors(file, i);
}

/* The first part is open and its tensors are read: adds the others. */
static infer_status open_siblings(struct gguf_file *file, int32_t n, int64_t n_tensors)
{
    struct gguf_part *parts = base_new(&file->alloc, (size_t)n, sizeof *parts);
    if (!parts)
        return INFER_ERR_NO_MEMORY;
    parts[0] = file->parts[0];
    base_free(&file->alloc, file->parts);
    file->parts = parts;
    file->n_parts = n;
    for (int32_t i = 1; i < n; i++) {
        infer_status st = open_sibling(file, i, n, n_tensors);
        if (st != INFER_OK)
            return st;
    }
    if ((int64_t)file->n_tensors != n_tensors)
        return base_error(INFER_ERR_FORMAT,
                          "%s: key \"split.tensors.count\" is %" PRId64
                          ", but the %d parts hold %zu tensors",
                          parts[0].path, n_tensors, (int)n, file->n_tensors);
    return INFER_OK;
}

/* Makes parts[0] the first part of the split that `path` belongs to. */
static infer_status open_first(struct gguf_file *file, const char *path, int32_t *n,
                               int64_t *n_tensors)
{
    struct gguf_part *part = &file->parts[0];
    int32_t i;
    infer_status st = part_open(part, file, path);
    if (st != INFER_OK)
        return st;
    st = gguf_split_of(part, &i, n, n_tensors);
    if (st != INFER_OK)
        return base_error_prefix(st, "%s", path);
    if (*n == 0)
        return INFER_OK;

    char *first;
    st = gguf_split_path(&first, &file->alloc, path, 0, *n);
    if (st != INFER_OK)
        return base_error_prefix(st, "%s", path);
    if (i != 0) {
        int32_t count = *n;
        part_close(part, &file->alloc);
        st = part_open(part, file, first);
        if (st != INFER_OK)
            st = base_error_prefix(st, "part 1 of %d", (int)count);
        else if ((st = gguf_split_of(part, &i, n, n_tensors)) != INFER_OK || i != 0 || *n != count)
            st = base_error(INFER_ERR_FORMAT, "%s: not the first of %d parts, as its name says",
                            first, (int)count);
    }
    base_free(&file->alloc, first);
    return st;
}

infer_status gguf_open(struct gguf_file **out, const struct base_alloc *a, const char *path,
                       uint32_t flags)
{
    struct gguf_file *file;
    int32_t n;
    int64_t n_tensors;
    infer_status st = gguf_file_new(&file, a, flags);
    if (st != INFER_OK)
        return st;
    st = open_first(file, path, &n, &n_tensors);
    if (st == INFER_OK)
        st = part_read_tensors(file, 0);
    if (st == INFER_OK && n > 1 && !(flags & GGUF_OPEN_METADATA_ONLY))
        st = open_siblings(file, n, n_tensors);
    if (st != INFER_OK) {
        gguf_close(&file);
        return st;
    }
    *out = file;
    return INFER_OK;
}

infer_status gguf_open_memory(struct gguf_file **out, const struct base_alloc *a, const void *data,
                              size_t size, uint32_t flags)
{
    struct gguf_file *file;
    int32_t i, n;
    int64_t n_tensors;
    infer_status st = gguf_file_new(&file, a, flags);
    if (st != INFER_OK)
        return st;
    file->parts[0].data = data;
    file->parts[0].size = size;
    st = gguf_parse_keys(&file->parts[0], a);
    if (st == INFER_OK)
        st = gguf_split_of(&file->parts[0], &i, &n, &n_tensors);
    if (st == INFER_OK && n > 1 && !(flags & GGUF_OPEN_METADATA_ONLY))
        st = base_error(INFER_ERR_UNSUPPORTED,
                        "part %d of a model in %d parts: only files can have siblings", (int)i + 1,
                        (int)n);
    if (st == INFER_OK)
        st = part_read_tensors(file, 0);
    if (st != INFER_OK) {
        gguf_close(&file);
        return st;
    }
    *out = file;
    return INFER_OK;
}

void gguf_close(struct gguf_file **file)
{
    struct gguf_file *f = *file;
    if (!f)
        return;
    struct base_alloc a = f->alloc;
    for (int32_t i = 0; i < f->n_parts; i++)
        part_close(&f->parts[i], &a);
    for (size_t i = 0; i < f->owned.size; i++)
        base_file_unmap(&f->owned.data[i]);
    base_array_release(&a, &f->owned);
    base_arena_release(&f->arena);
    base_arena_release(&f->data);
    base_map_release(&f->tensor_index);
    base_free(&a, f->tensors);
    base_free(&a, f->parts);
    base_free(&a, f);
    *file = NULL;
}

const char *gguf_path(const struct gguf_file *file)
{
    return file->parts[0].path ? file->parts[0].path : "";
}

uint32_t gguf_version(const struct gguf_file *file)
{
    return file->parts[0].version;
}

uint64_t gguf_bytes(const struct gguf_file *file)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < file->n_parts; i++)
        sum += file->parts[i].size;
    return sum;
}

uint64_t gguf_memory_bytes(const struct gguf_file *file)
{
    uint64_t sum = sizeof *file + (uint64_t)file->n_parts * sizeof *file->parts +
                   file->tensors_capacity * sizeof *file->tensors +
                   file->tensor_index.n_slots * sizeof *file->tensor_index.slots +
                   file->arena.used_bytes + file->data.used_bytes +
                   file->owned.capacity * sizeof *file->owned.data;
    for (int32_t i = 0; i < file->n_parts; i++) {
        const struct gguf_part *part = &file->parts[i];
        sum += part->keys.n_kv * sizeof *part->keys.kv +
               part->keys.index.n_slots * sizeof *part->keys.index.slots +
               (part->path ? strlen(part->path) + 1 : 0);
    }
    return sum;
}

size_t gguf_n_kv(const struct gguf_file *file)
{
    return file->parts[0].keys.n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf_file *file, size_t i)
{
    return &file->parts[0].keys.kv[i];
}

const struct gguf_kv *gguf_find(const struct gguf_file *file, const char *key)
{
    return gguf_directory_find(&file->parts[0].keys, key);
}

size_t gguf_n_tensors(const struct gguf_file *file)
{
    return file->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *file, size_t i)
{
    return &file->tensors[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf_file *file, const char *name)
{
    int32_t i = base_map_get(&file->tensor_index, name, strlen(name), -1);
    return i < 0 ? NULL : &file->tensors[i];
}
