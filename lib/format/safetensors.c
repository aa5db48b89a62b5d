/* Safetensors: a length, a JSON object of tensors, their data. */
#include "format/safetensors.h"

#include "base/error.h"
#include "base/map.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH_BYTES 8
#define SHOW(view)   (int)BASE_MIN((view).size, (size_t)128), (view).data

struct safetensors_file {
    struct base_alloc alloc;
    struct base_arena arena; /* the JSON tree: names point into it */
    struct base_file mapping;
    const struct base_json *metadata;
    struct safetensors_tensor *tensors; /* in the header's order */
    size_t n_tensors;
    struct base_map index;
};

static const struct {
    const char *name;
    int32_t bits;
} types[SAFETENSORS_TYPES] = {
    [SAFETENSORS_BOOL] = {"BOOL", 8},       [SAFETENSORS_F4] = {"F4", 4},
    [SAFETENSORS_F6_E2M3] = {"F6_E2M3", 6}, [SAFETENSORS_F6_E3M2] = {"F6_E3M2", 6},
    [SAFETENSORS_U8] = {"U8", 8},           [SAFETENSORS_I8] = {"I8", 8},
    [SAFETENSORS_F8_E5M2] = {"F8_E5M2", 8}, [SAFETENSORS_F8_E4M3] = {"F8_E4M3", 8},
    [SAFETENSORS_F8_E8M0] = {"F8_E8M0", 8}, [SAFETENSORS_I16] = {"I16", 16},
    [SAFETENSORS_U16] = {"U16", 16},        [SAFETENSORS_F16] = {"F16", 16},
    [SAFETENSORS_BF16] = {"BF16", 16},      [SAFETENSORS_I32] = {"I32", 32},
    [SAFETENSORS_U32] = {"U32", 32},        [SAFETENSORS_F32] = {"F32", 32},
    [SAFETENSORS_I64] = {"I64", 64},        [SAFETENSORS_U64] = {"U64", 64},
    [SAFETENSORS_F64] = {"F64", 64},        [SAFETENSORS_C64] = {"C64", 64},
};

const char *safetensors_type_name(int32_t type)
{
    return types[type].name;
}

int32_t safetensors_type_bits(int32_t type)
{
    return types[type].bits;
}

/* Whole numbers are written as such: 1.0 is none. */
static int read_size(const struct base_json *v, uint64_t *out)
{
    if (!base_json_is(v, BASE_JSON_INT) || v->as.integer < 0)
        return 0;
    *out = (uint64_t)v->as.integer;
    return 1;
}

static infer_status read_type(struct safetensors_tensor *t, const struct base_json *v)
{
    struct base_view name;
    if (!base_json_string(v, &name))
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\": dtype is missing or no string",
                          SHOW(t->name));
    for (t->type = 0; t->type < SAFETENSORS_TYPES; t->type++)
        if (base_view_equal(name, types[t->type].name))
            return INFER_OK;
    return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\": dtype \"%.*s\" is unknown", SHOW(t->name),
                      SHOW(name));
}

static infer_status read_shape(struct safetensors_tensor *t, const struct base_json *v)
{
    uint64_t bits;
    if (!base_json_is(v, BASE_JSON_ARRAY))
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\": shape is missing or no array",
                          SHOW(t->name));
    if (v->n > SAFETENSORS_MAX_DIMS)
        return base_error(INFER_ERR_LIMIT, "tensor \"%.*s\" has %u dimensions, the limit is %d",
                          SHOW(t->name), v->n, SAFETENSORS_MAX_DIMS);
    t->n_dims = (int32_t)v->n;
    t->n = 1;
    for (uint32_t i = 0; i < v->n; i++) {
        if (!read_size(&v->as.items[i], &t->dims[i]))
            return base_error(INFER_ERR_FORMAT,
                              "tensor \"%.*s\": dimension %u is no whole number of 0 or more",
                              SHOW(t->name), i);
        if (__builtin_mul_overflow(t->n, t->dims[i], &t->n))
            return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\": its shape overflows 64 bits",
                              SHOW(t->name));
    }
    if (__builtin_mul_overflow(t->n, (uint64_t)types[t->type].bits, &bits) || bits % 8)
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\": %llu elements of type %s are no whole number of bytes",
                          SHOW(t->name), (unsigned long long)t->n, types[t->type].name);
    t->bytes = bits / 8;
    return INFER_OK;
}

/* `data` and `size` are of the part behind the header. */
static infer_status read_offsets(struct safetensors_tensor *t, const struct base_json *v,
                                 const uint8_t *data, uint64_t size)
{
    uint64_t begin, end;
    if (!base_json_is(v, BASE_JSON_ARRAY) || v->n != 2 || !read_size(&v->as.items[0], &begin) ||
        !read_size(&v->as.items[1], &end))
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\": data_offsets are not two whole numbers of 0 or more",
                          SHOW(t->name));
    if (begin > end || end > size)
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\": its data from byte %llu to %llu do not lie in the "
                          "file's %llu bytes of data",
                          SHOW(t->name), (unsigned long long)begin, (unsigned long long)end,
                          (unsigned long long)size);
    if (end - begin != t->bytes)
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\": %llu bytes of data, but its shape and dtype %s ask "
                          "for %llu",
                          SHOW(t->name), (unsigned long long)(end - begin), types[t->type].name,
                          (unsigned long long)t->bytes);
    t->data = data + begin;
    return INFER_OK;
}

static infer_status read_metadata(struct safetensors_file *f, const struct base_json *v)
{
    if (!base_json_is(v, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "__metadata__ is no object");
    for (uint32_t i = 0; i < v->n; i++)
        if (!base_json_is(&v->as.member[i].value, BASE_JSON_STRING))
            return base_error(INFER_ERR_FORMAT, "__metadata__: the value of \"%.*s\" is no string",
                              SHOW(v->as.member[i].key));
    f->metadata = v;
    return INFER_OK;
}

static infer_status read_tensor(struct safetensors_file *f, const struct base_json_member *m,
                                const uint8_t *data, uint64_t size)
{
    struct safetensors_tensor *t = &f->tensors[f->n_tensors];
    const struct base_json *v = &m->value;
    *t = (struct safetensors_tensor){.name = m->key};
    if (!base_json_is(v, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is described by no object",
                          SHOW(t->name));
    infer_status st = read_type(t, base_json_get(v, "dtype"));
    if (st == INFER_OK)
        st = read_shape(t, base_json_get(v, "shape"));
    if (st == INFER_OK)
        st = read_offsets(t, base_json_get(v, "data_offsets"), data, size);
    if (st == INFER_OK)
        st = base_map_add(&f->index, t->name.data, t->name.size, (int32_t)f->n_tensors);
    f->n_tensors++;
    return st;
}

static int by_place(const void *a, const void *b)
{
    const struct safetensors_tensor *x = *(const struct safetensors_tensor *const *)a;
    const struct safetensors_tensor *y = *(const struct safetensors_tensor *const *)b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

/* Ordered by their place, each tensor must begin where the one before ends. */
static infer_status check_cover(const struct safetensors_file *f, const uint8_t *data,
                                uint64_t size)
{
    uint64_t end = 0;
    const struct safetensors_tensor **sorted = base_new(&f->alloc, f->n_tensors, sizeof *sorted);
    if (!sorted)
        return INFER_ERR_NO_MEMORY;
    infer_status st = INFER_OK;
    for (size_t i = 0; i < f->n_tensors; i++)
        sorted[i] = &f->tensors[i];
    if (f->n_tensors)
        qsort(sorted, f->n_tensors, sizeof *sorted, by_place);
    for (size_t i = 0; i < f->n_tensors && st == INFER_OK; i++) {
        uint64_t begin = (uint64_t)(sorted[i]->data - data);
        if (begin != end)
            st = base_error(
                INFER_ERR_FORMAT, "tensor \"%.*s\" begins at byte %llu of the data, %s byte %llu",
                SHOW(sorted[i]->name), (unsigned long long)begin,
                begin < end ? "inside another that ends at" : "behind a hole that begins at",
                (unsigned long long)end);
        end = begin + sorted[i]->bytes;
    }
    if (st == INFER_OK && end != size)
        st = base_error(INFER_ERR_FORMAT, "%llu bytes behind the last tensor belong to none",
                        (unsigned long long)(size - end));
    base_free(&f->alloc, sorted);
    return st;
}

static infer_status read_header(struct safetensors_file *f, const struct base_json *root,
                                const uint8_t *data, uint64_t size)
{
    infer_status st = INFER_OK;
    if (!base_json_is(root, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "the header is no JSON object");
    if (root->n > SAFETENSORS_MAX_TENSORS)
        return base_error(INFER_ERR_LIMIT, "%u tensors, the limit is %d", root->n,
                          SAFETENSORS_MAX_TENSORS);
    f->tensors = base_new(&f->alloc, root->n, sizeof *f->tensors);
    if (!f->tensors || base_map_init(&f->index, &f->alloc, root->n) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < root->n && st == INFER_OK; i++) {
        const struct base_json_member *m = &root->as.member[i];
        st = base_view_equal(m->key, "__metadata__") ? read_metadata(f, &m->value)
                                                     : read_tensor(f, m, data, size);
    }
    return st == INFER_OK ? check_cover(f, data, size) : st;
}

static infer_status open_bytes(struct safetensors_file *f, const uint8_t *data, uint64_t size)
{
    static const char pointer[] = "version https://git-lfs";
    uint64_t length = 0;
    if (size >= sizeof pointer - 1 && memcmp(data, pointer, sizeof pointer - 1) == 0)
        return base_error(INFER_ERR_FORMAT,
                          "a Git LFS pointer: the file itself was not downloaded (git lfs pull)");
    if (size < LENGTH_BYTES + 2)
        return base_error(INFER_ERR_FORMAT, "%llu bytes are too few for a safetensors file",
                          (unsigned long long)size);
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | data[i];
    if (length > SAFETENSORS_MAX_HEADER || length > size - LENGTH_BYTES)
        return base_error(INFER_ERR_FORMAT,
                          "the header's length is %llu: no safetensors file, or a truncated one "
                          "(%llu bytes are there, 100000000 are the limit)",
                          (unsigned long long)length, (unsigned long long)(size - LENGTH_BYTES));
    const char *text = (const char *)data + LENGTH_BYTES;
    const struct base_json *root = NULL;
    if (!length || text[0] != '{')
        return base_error(INFER_ERR_FORMAT, "the header does not begin with {");
    infer_status st = base_json_parse(&root, &f->arena, text, (size_t)length);
    if (st == INFER_ERR_NO_MEMORY)
        return st;
    if (st != INFER_OK)
        return base_error_prefix(st, "header");
    return read_header(f, root, data + LENGTH_BYTES + length, size - LENGTH_BYTES - length);
}

static struct safetensors_file *file_new(const struct base_alloc *a)
{
    struct safetensors_file *f = base_new(a, 1, sizeof *f);
    if (f) {
        f->alloc = *a;
        base_arena_init(&f->arena, a);
    }
    return f;
}

infer_status safetensors_open_memory(struct safetensors_file **out, const struct base_alloc *a,
                                     const void *data, size_t size)
{
    struct safetensors_file *f = file_new(a);
    if (!f)
        return INFER_ERR_NO_MEMORY;
    infer_status st = open_bytes(f, data, size);
    if (st != INFER_OK)
        safetensors_close(&f);
    *out = f;
    return st;
}

infer_status safetensors_open(struct safetensors_file **out, const struct base_alloc *a,
                              const char *path)
{
    *out = NULL;
    struct safetensors_file *f = file_new(a);
    if (!f)
        return INFER_ERR_NO_MEMORY;
    infer_status st = base_file_map(&f->mapping, path);
    if (st == INFER_OK) {
        st = open_bytes(f, f->mapping.data, f->mapping.size);
        if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
            base_error_prefix(st, "%s", path);
    }
    if (st != INFER_OK)
        safetensors_close(&f);
    *out = f;
    return st;
}

void safetensors_close(struct safetensors_file **file)
{
    struct safetensors_file *f = *file;
    *file = NULL;
    if (!f)
        return;
    struct base_alloc alloc = f->alloc;
    base_map_release(&f->index);
    base_free(&alloc, f->tensors);
    base_arena_release(&f->arena);
    base_file_unmap(&f->mapping);
    base_free(&alloc, f);
}

struct base_file *safetensors_mapping(struct safetensors_file *file)
{
    return &file->mapping;
}

size_t safetensors_n_tensors(const struct safetensors_file *file)
{
    return file->n_tensors;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors_file *file, size_t i)
{
    return &file->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors_file *file,
                                                  struct base_view name)
{
    int32_t i = base_map_get(&file->index, name.data, name.size, -1);
    return i < 0 ? NULL : &file->tensors[i];
}

const struct base_json *safetensors_metadata(const struct safetensors_file *file)
{
    return file->metadata;
}
