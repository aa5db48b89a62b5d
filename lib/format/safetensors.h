/* Safetensors files, read as checked views over a mapping.
 *
 * safetensors_open() accepts only files whose header is strict JSON and whose tensors cover
 * the data exactly: no hole, no overlap, no bytes without an owner. Whoever holds a
 * safetensors_file may read what it points to without another check. */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H

#include "base/file.h"
#include "base/json.h"

enum {
    SAFETENSORS_BOOL,
    SAFETENSORS_F4, /* E2M1, two a byte, the first in the low half */
    SAFETENSORS_F6_E2M3,
    SAFETENSORS_F6_E3M2,
    SAFETENSORS_U8,
    SAFETENSORS_I8,
    SAFETENSORS_F8_E5M2,
    SAFETENSORS_F8_E4M3, /* without infinities */
    SAFETENSORS_F8_E8M0,
    SAFETENSORS_I16,
    SAFETENSORS_U16,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_I32,
    SAFETENSORS_U32,
    SAFETENSORS_F32,
    SAFETENSORS_I64,
    SAFETENSORS_U64,
    SAFETENSORS_F64,
    SAFETENSORS_C64,
    SAFETENSORS_TYPES
};

#define SAFETENSORS_MAX_DIMS    8
#define SAFETENSORS_MAX_HEADER  100000000 /* bytes; the format's own limit */
#define SAFETENSORS_MAX_TENSORS 1048576

struct safetensors_tensor {
    struct base_view name;
    int32_t type;                        /* SAFETENSORS_* */
    int32_t n_dims;                      /* 0 for a scalar */
    uint64_t dims[SAFETENSORS_MAX_DIMS]; /* as written: the last one is contiguous */
    uint64_t n, bytes;                   /* elements; may be 0 */
    const uint8_t *data;                 /* little-endian, at any alignment */
};

struct safetensors_file;

/* Errors name the path and the tensor: FORMAT, LIMIT (doc/folders.md), NOT_FOUND, IO,
 * INVALID, NO_MEMORY. */
infer_status safetensors_open(struct safetensors_file **out, const struct base_alloc *a,
                              const char *path);
/* The same over bytes in memory, which must outlive the result (tests, fuzzing). */
infer_status safetensors_open_memory(struct safetensors_file **out, const struct base_alloc *a,
                                     const void *data, size_t size);
void safetensors_close(struct safetensors_file **file); /* NULL-safe, sets NULL */

/* The mapping, for whoever takes it over and keeps the tensors' data alive beyond the file. */
struct base_file *safetensors_mapping(struct safetensors_file *file);

size_t safetensors_n_tensors(const struct safetensors_file *file);
const struct safetensors_tensor *safetensors_at(const struct safetensors_file *file, size_t i);
const struct safetensors_tensor *safetensors_find(const struct safetensors_file *file,
                                                  struct base_view name); /* or NULL */
/* The object __metadata__, whose members are strings; NULL if the file has none. */
const struct base_json *safetensors_metadata(const struct safetensors_file *file);

const char *safetensors_type_name(int32_t type); /* "BF16" */
int32_t safetensors_type_bits(int32_t type);

#endif
