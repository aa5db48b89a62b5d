/* Writes small GGUF files for tests. */
#include "support/gguf_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    uint8_t *data;
    size_t size, capacity;
};

struct tensor {
    char *name;
    int32_t type, n_dims;
    uint64_t dims[16];
    uint8_t *data;
    size_t bytes;
};

struct gguf_builder {
    uint32_t version;
    uint64_t alignment;
    struct bytes kv;
    uint64_t n_kv;
    struct tensor *tensors;
    size_t n_tensors, tensors_capacity;
};

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "gguf_builder: out of memory\n");
        abort();
    }
    return p;
}

static void put(struct bytes *b, const void *data, size_t n)
{
    if (n > b->capacity - b->size) {
        b->capacity = 2 * b->capacity + n + 64;
        b->data = must(realloc(b->data, b->capacity));
    }
    if (n && data)
        memcpy(b->data + b->size, data, n);
    else if (n)
        memset(b->data + b->size, 0, n);
    b->size += n;
}

static void put_int(struct bytes *b, uint64_t value, size_t n)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    put(b, bytes, n);
}

static void put_view(struct bytes *b, struct base_view text)
{
    put_int(b, text.size, 8);
    put(b, text.data, text.size);
}

static struct base_view view_of(const char *text)
{
    return (struct base_view){text, strlen(text)};
}

static void pad(struct bytes *b, uint64_t alignment)
{
    if (alignment && b->size % alignment)
        put(b, NULL, (size_t)(alignment - b->size % alignment));
}

static size_t type_bytes(int32_t type)
{
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL:
        return 1;
    case GGUF_U16:
    case GGUF_I16:
        return 2;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64:
        return 8;
    default:
        return 4;
    }
}

struct gguf_builder *gguf_builder_new(void)
{
    struct gguf_builder *b = must(calloc(1, sizeof *b));
    b->version = 3;
    b->alignment = 32;
    return b;
}

void gguf_builder_free(struct gguf_builder *b)
{
    for (size_t i = 0; i < b->n_tensors; i++) {
        free(b->tensors[i].name);
        free(b->tensors[i].data);
    }
    free(b->tensors);
    free(b->kv.data);
    free(b);
}

void gguf_builder_version(struct gguf_builder *b, uint32_t version)
{
    b->version = version;
}

static void put_key(struct gguf_builder *b, const char *key, int32_t type)
{
    put_view(&b->kv, view_of(key));
    put_int(&b->kv, (uint64_t)type, 4);
    b->n_kv++;
}

void gguf_builder_int(struct gguf_builder *b, const char *key, int32_t type, int64_t value)
{
    put_key(b, key, type);
    put_int(&b->kv, (uint64_t)value, type_bytes(type));
}

void gguf_builder_alignment(struct gguf_builder *b, uint32_t alignment)
{
    b->alignment = alignment;
    gguf_builder_int(b, "general.alignment", GGUF_U32, alignment);
}

void gguf_builder_float(struct gguf_builder *b, const char *key, int32_t type, double value)
{
    float narrow = (float)value;
    put_key(b, key, type);
    if (type == GGUF_F64)
        put(&b->kv, &value, sizeof value);
    else
        put(&b->kv, &narrow, sizeof narrow);
}

void gguf_builder_view(struct gguf_builder *b, const char *key, struct base_view text)
{
    put_key(b, key, GGUF_STRING);
    put_view(&b->kv, text);
}

void gguf_builder_string(struct gguf_builder *b, const char *key, const char *text)
{
    gguf_builder_view(b, key, view_of(text));
}

static void put_array(struct gguf_builder *b, const char *key, int32_t element_type, uint64_t n)
{
    put_key(b, key, GGUF_ARRAY);
    put_int(&b->kv, (uint64_t)element_type, 4);
    put_int(&b->kv, n, 8);
}

void gguf_builder_array(struct gguf_builder *b, const char *key, int32_t element_type,
                        const void *data, uint64_t n)
{
    put_array(b, key, element_type, n);
    put(&b->kv, data, (size_t)n * type_bytes(element_type));
}

void gguf_builder_strings(struct gguf_builder *b, const char *key, const char *const *texts,
                          uint64_t n)
{
    put_array(b, key, GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++)
        put_view(&b->kv, view_of(texts[i]));
}

void gguf_builder_views(struct gguf_builder *b, const char *key, const struct base_view *texts,
                        uint64_t n)
{
    put_array(b, key, GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++)
        put_view(&b->kv, texts[i]);
}

void gguf_builder_tensor(struct gguf_builder *b, const char *name, int32_t type, int32_t n_dims,
                         const uint64_t *dims, const void *data, size_t bytes)
{
    if (b->n_tensors == b->tensors_capacity) {
        b->tensors_capacity = 2 * b->tensors_capacity + 8;
        b->tensors = must(realloc(b->tensors, b->tensors_capacity * sizeof *b->tensors));
    }
    struct tensor *t = &b->tensors[b->n_tensors++];
    *t = (struct tensor){.type = type, .n_dims = n_dims, .bytes = bytes};
    t->name = must(strdup(name));
    for (int32_t i = 0; i < n_dims && i < 16; i++)
        t->dims[i] = dims[i];
    if (data) {
        t->data = must(malloc(bytes + 1));
        memcpy(t->data, data, bytes);
    }
}

static void put_records(struct bytes *out, const struct gguf_builder *b, size_t first, size_t n)
{
    uint64_t alignment = b->alignment ? b->alignment : 1, offset = 0;
    for (size_t i = first; i < first + n; i++) {
        const struct tensor *t = &b->tensors[i];
        put_view(out, view_of(t->name));
        put_int(out, (uint64_t)t->n_dims, 4);
        for (int32_t d = 0; d < t->n_dims && d < 16; d++)
            put_int(out, t->dims[d], 8);
        put_int(out, (uint64_t)t->type, 4);
        put_int(out, offset, 8);
        offset = BASE_ALIGN_UP(offset + t->bytes, alignment);
    }
}

/* Header, `n_kv` keys and the records of `n` tensors from `first` on. */
static struct bytes assemble(const struct gguf_builder *b, const struct bytes *kv, uint64_t n_kv,
                             size_t first, size_t n)
{
    struct bytes out = {0};
    put(&out, "GGUF", 4);
    put_int(&out, b->version, 4);
    put_int(&out, n, 8);
    put_int(&out, n_kv, 8);
    put(&out, kv->data, kv->size);
    put_records(&out, b, first, n);
    return out;
}

static void put_data(struct bytes *out, const struct gguf_builder *b, size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        pad(out, b->alignment);
        put(out, b->tensors[i].data, b->tensors[i].bytes);
    }
}

uint8_t *gguf_builder_header(const struct gguf_builder *b, size_t *size)
{
    struct bytes out = assemble(b, &b->kv, b->n_kv, 0, b->n_tensors);
    pad(&out, b->alignment);
    *size = out.size;
    return out.data;
}

static struct bytes whole(const struct gguf_builder *b)
{
    struct bytes out = assemble(b, &b->kv, b->n_kv, 0, b->n_tensors);
    put_data(&out, b, 0, b->n_tensors);
    return out;
}

uint8_t *gguf_builder_finish(const struct gguf_builder *b, size_t *size)
{
    struct bytes out = whole(b);
    *size = out.size;
    return out.data;
}

static void write_file(const char *path, const struct bytes *bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes->data, 1, bytes->size, f) != bytes->size || fclose(f) != 0) {
        fprintf(stderr, "gguf_builder: cannot write %s\n", path);
        abort();
    }
}

void gguf_builder_write(const struct gguf_builder *b, const char *path)
{
    struct bytes out = whole(b);
    write_file(path, &out);
    free(out.data);
}

void gguf_builder_write_split(const struct gguf_builder *b, const char *prefix, int32_t n_parts)
{
    char path[4096];
    size_t n = (size_t)n_parts;
    for (size_t i = 0; i < n; i++) {
        struct gguf_builder *part = gguf_builder_new();
        if (i == 0) {
            put(&part->kv, b->kv.data, b->kv.size);
            part->n_kv = b->n_kv;
        } else if (b->alignment != 32) {
            gguf_builder_alignment(part, (uint32_t)b->alignment);
        }
        gguf_builder_int(part, "split.no", GGUF_U16, (int64_t)i);
        gguf_builder_int(part, "split.count", GGUF_U16, n_parts);
        gguf_builder_int(part, "split.tensors.count", GGUF_I32, (int64_t)b->n_tensors);

        size_t first = b->n_tensors * i / n, end = b->n_tensors * (i + 1) / n;
        struct bytes out = assemble(b, &part->kv, part->n_kv, first, end - first);
        put_data(&out, b, first, end - first);
        snprintf(path, sizeof path, "%s-%05zu-of-%05zu.gguf", prefix, i + 1, n);
        write_file(path, &out);
        free(out.data);
        gguf_builder_free(part);
    }
}
