/* What the parts of the GGUF reader share: the checked cursor and the object. */
#ifndef FORMAT_GGUF_INTERNAL_H
#define FORMAT_GGUF_INTERNAL_H

#include "base/array.h"
#include "base/file.h"
#include "base/map.h"
#include "format/gguf.h"

/* Limits beyond the format's own; doc/formats.md states them. */
#define GGUF_MAX_KEYS    65536
#define GGUF_MAX_TENSORS 1048576 /* over all parts */
#define GGUF_MAX_PARTS   1024
#define GGUF_MAX_KEY     65535 /* bytes; the format's rule */
#define GGUF_MIN_ALIGN   8     /* the format asks for a multiple of 8 */
#define GGUF_MAX_ALIGN   (1 << 24)
#define GGUF_USUAL_ALIGN 32

/* Smallest records, which bound a claimed count by the bytes that are there:
 * key length, one-byte key, type, one-byte value; name length, one-byte name,
 * n_dims, one dimension, type, offset. */
#define GGUF_KEY_RECORD_MIN    (8 + 1 + 4 + 1)
#define GGUF_TENSOR_RECORD_MIN (8 + 1 + 4 + 8 + 4 + 8)

/* For "%.*s": as much of a name as leaves room for the rest of the sentence. */
#define GGUF_SHOW(view) (int)BASE_MIN((view).size, (size_t)128), (view).data

struct gguf_reader {
    const uint8_t *data;
    uint64_t size, pos; /* pos <= size */
};

static inline uint32_t gguf_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t gguf_le64(const uint8_t *p)
{
    return gguf_le32(p) | (uint64_t)gguf_le32(p + 4) << 32;
}

static inline uint64_t gguf_left(const struct gguf_reader *r)
{
    return r->size - r->pos;
}

/* All set the error, with the byte offset, when the file is too short for `what`. */
const uint8_t *gguf_take(struct gguf_reader *r, uint64_t n, const char *what); /* or NULL */
infer_status gguf_read_u32(struct gguf_reader *r, uint32_t *out, const char *what);
infer_status gguf_read_u64(struct gguf_reader *r, uint64_t *out, const char *what);
/* A length and that many bytes of printable ASCII: 1 to `max` of them. */
infer_status gguf_read_name(struct gguf_reader *r, struct base_view *out, uint64_t max,
                            const char *what);

struct gguf_directory {
    struct gguf_kv *kv;
    size_t n_kv;
    struct base_map index; /* key -> position in kv */
};

struct gguf_part {
    char *path;               /* NULL for bytes in memory */
    struct base_file mapping; /* empty for bytes in memory */
    const uint8_t *data;
    uint64_t size;
    uint32_t version;
    uint64_t n_tensors;
    uint64_t keys_end; /* where the tensor records begin */
    uint64_t alignment;
    struct gguf_directory keys;
};

struct gguf_file {
    struct base_alloc alloc;
    uint32_t flags;
    struct gguf_part *parts;
    int32_t n_parts;
    struct gguf_tensor *tensors;
    size_t n_tensors, tensors_capacity;
    struct base_map tensor_index;
    struct base_arena arena;            /* of a draft: its keys and names */
    struct base_arena data;             /* of a draft: tensors that had to be made, or turned */
    BASE_ARRAY(struct base_file) owned; /* where tensors lie, beside the parts */
};

/* An object with one empty part, for gguf_close(). */
infer_status gguf_file_new(struct gguf_file **out, const struct base_alloc *a, uint32_t flags);

/* Says what a file that does not begin like GGUF seems to be; always an error. */
infer_status gguf_refuse(const uint8_t *data, uint64_t size);

/* Header and metadata of a part whose data and size are set. */
infer_status gguf_parse_keys(struct gguf_part *part, const struct base_alloc *a);
void gguf_directory_release(struct gguf_directory *dir, const struct base_alloc *a);
const struct gguf_kv *gguf_directory_find(const struct gguf_directory *dir, const char *key);

/* Product of the dimensions, FORMAT above 2^63 - 1. */
infer_status gguf_count_elements(const struct gguf_tensor *t, uint64_t *elements);
/* Sets `bytes` after checking that rows are whole blocks of the type, which has a layout. */
infer_status gguf_find_bytes(struct gguf_tensor *t, uint64_t elements);

/* Appends the tensors of parts[part] after checking every one. */
infer_status gguf_parse_tensors(struct gguf_file *file, int32_t part);

/* Reads the split keys: *n is 0 for a file that is whole. */
infer_status gguf_split_of(const struct gguf_part *part, int32_t *i, int32_t *n,
                           int64_t *n_tensors);
/* Path of part `i` beside `path`, itself one of the `n` parts. Caller frees. */
infer_status gguf_split_path(char **out, const struct base_alloc *a, const char *path, int32_t i,
                             int32_t n);

/* Bytes of a scalar type; 0 for strings, arrays and unknown numbers. */
uint32_t gguf_value_bytes(uint32_t type);

/* As the gguf_get_* functions, for a key already looked up (NULL: NOT_FOUND). */
infer_status gguf_kv_i64(const struct gguf_kv *kv, int64_t *out);

#endif
