/* Models in several GGUF files: "name-00001-of-00003.gguf" and its siblings. */
#include "format/gguf_internal.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SUFFIX_BYTES 20 /* of "-00001-of-00003.gguf" */

static infer_status split_key(const struct gguf_part *part, const char *key, int64_t min,
                              int64_t max, int64_t *out)
{
    const struct gguf_kv *kv = gguf_directory_find(&part->keys, key);
    if (!kv)
        return base_error(INFER_ERR_FORMAT, "a part of a split model lacks the key \"%s\"", key);
    infer_status st = gguf_kv_i64(kv, out);
    if (st == INFER_OK && (*out < min || *out > max))
        st = base_error(INFER_ERR_FORMAT,
                        "key \"%s\" is %" PRId64 ", %" PRId64 " to %" PRId64 " was expected", key,
                        *out, min, max);
    return st;
}

infer_status gguf_split_of(const struct gguf_part *part, int32_t *i, int32_t *n, int64_t *n_tensors)
{
    int64_t no, count;
    infer_status st;

    *i = *n = 0;
    *n_tensors = 0;
    if (!gguf_directory_find(&part->keys, "split.count"))
        return INFER_OK;
    st = split_key(part, "split.count", 0, GGUF_MAX_PARTS, &count);
    if (st != INFER_OK || count <= 1)
        return st;
    st = split_key(part, "split.no", 0, count - 1, &no);
    if (st != INFER_OK)
        return st;
    st = split_key(part, "split.tensors.count", 0, GGUF_MAX_TENSORS, n_tensors);
    if (st != INFER_OK)
        return st;
    *i = (int32_t)no;
    *n = (int32_t)count;
    return INFER_OK;
}

/* `path` belongs to this split if it ends in "-NNNNN-of-<n>.gguf". */
static int has_suffix(const char *path, size_t size, int32_t n)
{
    char rest[32];
    if (size <= SUFFIX_BYTES)
        return 0;
    const char *suffix = path + size - SUFFIX_BYTES;
    if (suffix[0] != '-' || strspn(suffix + 1, "0123456789") != 5)
        return 0;
    snprintf(rest, sizeof rest, "-of-%05d.gguf", (int)n);
    return strcmp(suffix + 6, rest) == 0;
}

infer_status gguf_split_path(char **out, const struct base_alloc *a, const char *path, int32_t i,
                             int32_t n)
{
    size_t size = strlen(path);
    if (!has_suffix(path, size, n))
        return base_error(INFER_ERR_FORMAT,
                          "part of a split model: its name must end in -00001-of-%05d.gguf for "
                          "the other parts to be found",
                          (int)n);
    char *sibling = base_strdup(a, path, size);
    if (!sibling)
        return INFER_ERR_NO_MEMORY;
    char suffix[40];
    snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", (int)i + 1, (int)n);
    memcpy(sibling + size - SUFFIX_BYTES, suffix, SUFFIX_BYTES);
    *out = sibling;
    return INFER_OK;
}
