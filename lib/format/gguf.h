/* GGUF v2 and v3, read as checked views over mapped files.
 *
 * gguf_open() accepts only files in which every size, offset, string and
 * tensor lies inside the file: whoever holds a gguf_file may read what it
 * points to without another check. Nothing is copied but the directory of
 * keys and tensors, whose memory is bounded by the file's size. */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H

#include "base/alloc.h"

enum {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12
};

#define GGUF_MAX_DIMS 4
#define GGUF_NAME_MAX 63 /* bytes of a tensor's name */

struct gguf_kv {
    struct base_view key;
    int32_t type;         /* GGUF_* */
    int32_t element_type; /* of an array, else == type */
    uint64_t n;           /* elements of an array, else 1 */
    const uint8_t *data;  /* little-endian and unaligned; for strings the first length field */
    uint64_t bytes;       /* all elements, for strings with their length fields */
};

struct gguf_tensor {
    struct base_view name;
    infer_dtype type;
    int32_t n_dims;               /* 1 .. 4 */
    uint64_t dims[GGUF_MAX_DIMS]; /* dims[0] is contiguous; unused ones are 1; none is 0 */
    uint64_t bytes;
    uint64_t offset; /* in its file */
    int32_t file;    /* index of the split part */
    /* Inside the mapping, aligned to the smaller of general.alignment (8 at
     * least) and a page. NULL only under GGUF_OPEN_METADATA_ONLY. */
    const uint8_t *data;
    /* NULL, or dims[2] pointers where the matrices lie apart (gguf_draft.h): see gguf_matrix(). */
    const uint8_t *const *matrices;
};

/* Matrix i of dims[2]: the one way to the data of a tensor of three dimensions. */
static inline const uint8_t *gguf_matrix(const struct gguf_tensor *t, uint64_t i)
{
    return t->matrices ? t->matrices[i] : t->data + i * (t->bytes / (t->dims[2] * t->dims[3]));
}

struct gguf_file; /* one model: one file or all parts of a split */

enum {
    /* Vocabulary-only use. Tensor data may lie past the end of the file (`data`
     * is NULL then), types without a quant_layout are listed with `bytes` 0 and
     * no data, and of a split model only the first part is opened. */
    GGUF_OPEN_METADATA_ONLY = 1,
    GGUF_OPEN_VERIFY = 2 /* every part must be what its blob's name says (hf_cache.h) */
};

/* Opens `path`; if it says it is part i of n (split.count), opens the sibling
 * parts "name-0000i-of-0000n.gguf" too. Errors name file, key or tensor and
 * offset: FORMAT, UNSUPPORTED (tensor type, version, byte order, arrays of
 * arrays), LIMIT (doc/formats.md), NOT_FOUND, IO, INVALID, NO_MEMORY. */
infer_status gguf_open(struct gguf_file **out, const struct base_alloc *a, const char *path,
                       uint32_t flags);
/* The same over bytes in memory, which must outlive the result (tests, fuzzing). */
infer_status gguf_open_memory(struct gguf_file **out, const struct base_alloc *a, const void *data,
                              size_t size, uint32_t flags);
void gguf_close(struct gguf_file **file);

const char *gguf_path(const struct gguf_file *file); /* of the first part */
uint32_t gguf_version(const struct gguf_file *file);
uint64_t gguf_bytes(const struct gguf_file *file);        /* all parts */
uint64_t gguf_memory_bytes(const struct gguf_file *file); /* heap held by the directory */

size_t gguf_n_kv(const struct gguf_file *file);
const struct gguf_kv *gguf_kv_at(const struct gguf_file *file, size_t i);
const struct gguf_kv *gguf_find(const struct gguf_file *file, const char *key); /* or NULL */

size_t gguf_n_tensors(const struct gguf_file *file);
const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *file, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf_file *file, const char *name);

/* Gives back what tensors alone need: their pages, and copies that were made of them. The directory
 * stays whole, keys too, but `data` and `matrices` are NULL. */
void gguf_drop_data(struct gguf_file *file);
/* Takes the data of `from`, opened where `file` was. FORMAT, and nothing happened, unless all
 * tensors are the same in name, type, shape and place. */
infer_status gguf_take_data(struct gguf_file *file, struct gguf_file *from);
uint64_t gguf_mapped_bytes(const struct gguf_file *file);
/* Whether these bytes of a tensor are mapped from a file. */
int gguf_is_mapped(const struct gguf_file *file, const void *data, size_t bytes);
/* The pages of these bytes of a tensor leave this process's memory until they are read again.
 * Nothing happens to bytes that are not mapped from a file. */
void gguf_forget_pages(const struct gguf_file *file, const void *data, size_t bytes);

/* Typed reads. INFER_OK; INFER_ERR_NOT_FOUND if the key is absent (`out` is
 * untouched, so callers may preset a default); INFER_ERR_FORMAT if its type or
 * range does not fit, with a sentence naming the key. Integers of any width
 * and signedness are accepted where the value fits; floats from F32 and F64 if
 * finite. */
infer_status gguf_get_i64(const struct gguf_file *file, const char *key, int64_t *out);
infer_status gguf_get_i32(const struct gguf_file *file, const char *key, int32_t *out);
infer_status gguf_get_f32(const struct gguf_file *file, const char *key, float *out);
infer_status gguf_get_bool(const struct gguf_file *file, const char *key, int32_t *out);
infer_status gguf_get_string(const struct gguf_file *file, const char *key, struct base_view *out);

/* Arrays. The caller gives arrays of kv->n elements; type mismatches and
 * integers beyond i32 are FORMAT; bools count as integers. Strings may hold any bytes. */
infer_status gguf_array_strings(const struct gguf_kv *kv, struct base_view *out);
infer_status gguf_array_f32(const struct gguf_kv *kv, float *out);
infer_status gguf_array_i32(const struct gguf_kv *kv, int32_t *out);

/* "u32", "arr[str,32000]" ... for inspection; returns buffer. */
const char *gguf_kv_type_name(const struct gguf_kv *kv, char *buffer, size_t size);

#endif
