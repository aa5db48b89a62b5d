/* The bytes of tensors, apart from what the directory says of them: given back and taken again. */
#include "base/error.h"
#include "format/gguf_internal.h"

#include <string.h>

/* Of a mapped part, up to where its first tensor begins: keys, names, texts. */
static uint64_t head_bytes(const struct gguf_file *file, int32_t part)
{
    uint64_t first = file->parts[part].size;
    for (size_t i = 0; i < file->n_tensors; i++)
        if (file->tensors[i].file == part)
            first = BASE_MIN(first, file->tensors[i].offset);
    return first;
}

void gguf_drop_data(struct gguf_file *file)
{
    for (int32_t i = 0; i < file->n_parts; i++)
        if (file->parts[i].mapping.data)
            base_file_cut(&file->parts[i].mapping, (size_t)head_bytes(file, i));
    for (size_t i = 0; i < file->owned.size; i++)
        base_file_unmap(&file->owned.data[i]);
    base_array_release(&file->alloc, &file->owned);
    base_arena_release(&file->data);
    for (size_t i = 0; i < file->n_tensors; i++) {
        file->tensors[i].data = NULL;
        file->tensors[i].matrices = NULL;
    }
}

static int is_same(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    return a->name.size == b->name.size && memcmp(a->name.data, b->name.data, a->name.size) == 0 &&
           a->type == b->type && a->n_dims == b->n_dims &&
           memcmp(a->dims, b->dims, sizeof a->dims) == 0 && a->bytes == b->bytes &&
           a->offset == b->offset && a->file == b->file;
}

static infer_status check_tensors(const struct gguf_file *file, const struct gguf_file *from)
{
    if (from->n_tensors != file->n_tensors)
        return base_error(INFER_ERR_FORMAT, "there are %zu tensors, there were %zu",
                          from->n_tensors, file->n_tensors);
    for (size_t i = 0; i < file->n_tensors; i++)
        if (!is_same(&file->tensors[i], &from->tensors[i]))
            return base_error(INFER_ERR_FORMAT,
                              "tensor \"%.*s\" is not what it was: its name, type, shape or place "
                              "has changed",
                              GGUF_SHOW(file->tensors[i].name));
    return INFER_OK;
}

infer_status gguf_take_data(struct gguf_file *file, struct gguf_file *from)
{
    infer_status st = check_tensors(file, from);
    size_t n = from->owned.size + (size_t)from->n_parts;
    if (st == INFER_OK)
        st = base_array_reserve(&file->alloc, &file->owned, n);
    if (st != INFER_OK)
        return st;
    for (int32_t i = 0; i < from->n_parts; i++) {
        struct base_file *mapping = &from->parts[i].mapping;
        if (mapping->data)
            file->owned.data[file->owned.size++] = *mapping;
        *mapping = (struct base_file){0};
    }
    for (size_t i = 0; i < from->owned.size; i++)
        file->owned.data[file->owned.size++] = from->owned.data[i];
    from->owned.size = 0;
    file->data = from->data;
    base_arena_init(&from->data, &from->alloc);
    for (size_t i = 0; i < file->n_tensors; i++) {
        file->tensors[i].data = from->tensors[i].data;
        file->tensors[i].matrices = from->tensors[i].matrices;
    }
    return INFER_OK;
}

static int holds(const struct base_file *mapping, const uint8_t *data, size_t bytes)
{
    return mapping->data && data >= mapping->data && bytes <= mapping->size &&
           (size_t)(data - mapping->data) <= mapping->size - bytes;
}

/* The mapping that holds these bytes, or NULL. */
static const struct base_file *mapping_of(const struct gguf_file *file, const void *data,
                                          size_t bytes)
{
    for (int32_t i = 0; i < file->n_parts; i++)
        if (holds(&file->parts[i].mapping, data, bytes))
            return &file->parts[i].mapping;
    for (size_t i = 0; i < file->owned.size; i++)
        if (holds(&file->owned.data[i], data, bytes))
            return &file->owned.data[i];
    return NULL;
}

int gguf_is_mapped(const struct gguf_file *file, const void *data, size_t bytes)
{
    return mapping_of(file, data, bytes) != NULL;
}

void gguf_forget_pages(const struct gguf_file *file, const void *data, size_t bytes)
{
    const struct base_file *mapping = mapping_of(file, data, bytes);
    if (mapping)
        base_file_forget(mapping, data, bytes);
}

uint64_t gguf_mapped_bytes(const struct gguf_file *file)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < file->n_parts; i++)
        sum += file->parts[i].mapping.size;
    for (size_t i = 0; i < file->owned.size; i++)
        sum += file->owned.data[i].size;
    return sum;
}
