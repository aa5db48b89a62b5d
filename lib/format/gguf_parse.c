/* GGUF header and metadata: every key checked and entered into the directory. */
#include "format/gguf_internal.h"

#include "base/error.h"

#include <inttypes.h>
#include <string.h>

const uint8_t *gguf_take(struct gguf_reader *r, uint64_t n, const char *what)
{
    if (n > gguf_left(r)) {
        base_error(INFER_ERR_FORMAT,
                   "%" PRIu64 " bytes of %s are expected at byte %" PRIu64
                   ", but the file ends at byte %" PRIu64,
                   n, what, r->pos, r->size);
        return NULL;
    }
    const uint8_t *p = r->data + r->pos;
    r->pos += n;
    return p;
}

infer_status gguf_read_u32(struct gguf_reader *r, uint32_t *out, const char *what)
{
    const uint8_t *p = gguf_take(r, 4, what);
    if (!p)
        return INFER_ERR_FORMAT;
    *out = gguf_le32(p);
    return INFER_OK;
}

infer_status gguf_read_u64(struct gguf_reader *r, uint64_t *out, const char *what)
{
    const uint8_t *p = gguf_take(r, 8, what);
    if (!p)
        return INFER_ERR_FORMAT;
    *out = gguf_le64(p);
    return INFER_OK;
}

infer_status gguf_read_name(struct gguf_reader *r, struct base_view *out, uint64_t max,
                            const char *what)
{
    uint64_t start = r->pos, n;
    infer_status st = gguf_read_u64(r, &n, "a length");
    if (st != INFER_OK)
        return st;
    if (n == 0 || n > max)
        return base_error(INFER_ERR_FORMAT,
                          "%s at byte %" PRIu64 " has a length of %" PRIu64 ", 1 to %" PRIu64
                          " bytes are allowed",
                          what, start, n, max);
    const uint8_t *p = gguf_take(r, n, what);
    if (!p)
        return INFER_ERR_FORMAT;
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] < 0x20 || p[i] > 0x7e)
            return base_error(INFER_ERR_FORMAT,
                              "%s at byte %" PRIu64 " holds byte 0x%02x at position %" PRIu64
                              ", printable ASCII was expected",
                              what, start, p[i], i);
    }
    *out = (struct base_view){(const char *)p, (size_t)n};
    return INFER_OK;
}

static infer_status read_strings(struct gguf_reader *r, uint64_t n)
{
    if (n > gguf_left(r) / 8)
        return base_error(INFER_ERR_FORMAT,
                          "an array at byte %" PRIu64 " claims %" PRIu64
                          " strings, the rest of the file holds at most %" PRIu64,
                          r->pos, n, gguf_left(r) / 8);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t start = r->pos, size;
        infer_status st = gguf_read_u64(r, &size, "a string's length");
        if (st != INFER_OK)
            return st;
        if (size > gguf_left(r))
            return base_error(INFER_ERR_FORMAT,
                              "string %" PRIu64 " at byte %" PRIu64 " claims %" PRIu64
                              " bytes, the file has %" PRIu64 " left",
                              i, start, size, gguf_left(r));
        r->pos += size;
    }
    return INFER_OK;
}

/* n elements of `type` from r->pos on. */
static infer_status read_elements(struct gguf_reader *r, uint32_t type, uint64_t n)
{
    if (type == GGUF_STRING)
        return read_strings(r, n);

    uint32_t size = gguf_value_bytes(type);
    if (n > gguf_left(r) / size)
        return base_error(INFER_ERR_FORMAT,
                          "%" PRIu64 " values of %u bytes are claimed at byte %" PRIu64
                          ", the file has %" PRIu64 " bytes left",
                          n, size, r->pos, gguf_left(r));
    if (type == GGUF_BOOL) {
        const uint8_t *p = r->data + r->pos;
        for (uint64_t i = 0; i < n; i++) {
            if (p[i] > 1)
                return base_error(INFER_ERR_FORMAT,
                                  "bool at byte %" PRIu64 " is %u, 0 or 1 was expected", r->pos + i,
                                  p[i]);
        }
    }
    r->pos += n * size;
    return INFER_OK;
}

static infer_status read_array_head(struct gguf_reader *r, uint32_t *type, uint64_t *n)
{
    uint64_t start = r->pos;
    infer_status st = gguf_read_u32(r, type, "an array's element type");
    if (st != INFER_OK)
        return st;
    if (*type == GGUF_ARRAY)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "array at byte %" PRIu64 " holds arrays, which no model needs", start);
    if (*type != GGUF_STRING && !gguf_value_bytes(*type))
        return base_error(INFER_ERR_FORMAT,
                          "array at byte %" PRIu64 " has the unknown element type %u", start,
                          *type);
    return gguf_read_u64(r, n, "an array's length");
}

/* The key is set first, so that the caller can name it whatever fails after. */
static infer_status read_kv(struct gguf_reader *r, struct gguf_kv *kv)
{
    uint32_t type, element;
    uint64_t n = 1;
    infer_status st = gguf_read_name(r, &kv->key, GGUF_MAX_KEY, "the key");
    if (st != INFER_OK)
        return st;
    uint64_t start = r->pos;
    st = gguf_read_u32(r, &type, "a value type");
    if (st != INFER_OK)
        return st;
    element = type;
    if (type == GGUF_ARRAY)
        st = read_array_head(r, &element, &n);
    else if (type != GGUF_STRING && !gguf_value_bytes(type))
        st = base_error(INFER_ERR_FORMAT, "value type %u at byte %" PRIu64 " is unknown", type,
                        start);
    if (st != INFER_OK)
        return st;

    kv->type = (int32_t)type;
    kv->element_type = (int32_t)element;
    kv->n = n;
    kv->data = r->data + r->pos;
    start = r->pos;
    st = read_elements(r, element, n);
    kv->bytes = r->pos - start;
    return st;
}

static infer_status read_directory(struct gguf_reader *r, struct gguf_directory *dir, uint64_t n_kv,
                                   const struct base_alloc *a)
{
    dir->kv = base_new(a, (size_t)n_kv, sizeof *dir->kv);
    if (!dir->kv)
        return INFER_ERR_NO_MEMORY;
    infer_status st = base_map_init(&dir->index, a, (size_t)n_kv);
    if (st != INFER_OK)
        return st;
    for (; dir->n_kv < n_kv; dir->n_kv++) {
        size_t i = dir->n_kv;
        struct gguf_kv *kv = &dir->kv[i];
        uint64_t start = r->pos;
        st = read_kv(r, kv);
        if (st != INFER_OK && kv->key.size)
            return base_error_prefix(st, "key \"%.*s\"", GGUF_SHOW(kv->key));
        if (st != INFER_OK)
            return base_error_prefix(st, "key %zu of %" PRIu64, i + 1, n_kv);
        st = base_map_add(&dir->index, kv->key.data, kv->key.size, (int32_t)i);
        if (st == INFER_AGAIN)
            return base_error(INFER_ERR_FORMAT, "key \"%.*s\" at byte %" PRIu64 " appears twice",
                              GGUF_SHOW(kv->key), start);
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

static infer_status check_version(struct gguf_part *part, uint32_t version)
{
    part->version = version;
    if (version == 2 || version == 3)
        return INFER_OK;
    if (version == 1)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "GGUF version 1 (32-bit sizes) is not read, convert the file to "
                          "version 3");
    if ((version & 0xffff) == 0 && version != 0)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "a big-endian GGUF file: only little-endian files are read");
    return base_error(INFER_ERR_UNSUPPORTED,
                      "GGUF version %u at byte 4 is not known, 2 or 3 was expected", version);
}

/* Claimed counts against the bytes that are there, before anything is allocated. */
static infer_status check_counts(const struct gguf_reader *r, uint64_t n_tensors, uint64_t n_kv)
{
    uint64_t left = gguf_left(r);
    if (n_kv > left / GGUF_KEY_RECORD_MIN)
        return base_error(INFER_ERR_FORMAT,
                          "the header at byte 16 claims %" PRIu64
                          " keys, the file has room for at most %" PRIu64,
                          n_kv, left / GGUF_KEY_RECORD_MIN);
    left -= n_kv * GGUF_KEY_RECORD_MIN;
    if (n_tensors > left / GGUF_TENSOR_RECORD_MIN)
        return base_error(INFER_ERR_FORMAT,
                          "the header at byte 8 claims %" PRIu64
                          " tensors, the file has room for at most %" PRIu64,
                          n_tensors, left / GGUF_TENSOR_RECORD_MIN);
    if (n_kv > GGUF_MAX_KEYS)
        return base_error(INFER_ERR_LIMIT,
                          "the header claims %" PRIu64 " keys, at most %d are read", n_kv,
                          GGUF_MAX_KEYS);
    if (n_tensors > GGUF_MAX_TENSORS)
        return base_error(INFER_ERR_LIMIT,
                          "the header claims %" PRIu64 " tensors, at most %d are read", n_tensors,
                          GGUF_MAX_TENSORS);
    return INFER_OK;
}

static infer_status find_alignment(struct gguf_part *part)
{
    const struct gguf_kv *kv = gguf_directory_find(&part->keys, "general.alignment");
    part->alignment = GGUF_USUAL_ALIGN;
    if (!kv)
        return INFER_OK;
    uint64_t at = (uint64_t)((const uint8_t *)kv->key.data - part->data);
    if (kv->type != GGUF_U32)
        return base_error(INFER_ERR_FORMAT,
                          "key \"general.alignment\" at byte %" PRIu64
                          " has the value type %d, %d (u32) was expected",
                          at, (int)kv->type, GGUF_U32);
    uint32_t n = gguf_le32(kv->data);
    at = (uint64_t)(kv->data - part->data);
    if (n < GGUF_MIN_ALIGN || n > GGUF_MAX_ALIGN || (n & (n - 1)))
        return base_error(INFER_ERR_FORMAT,
                          "key \"general.alignment\" is %u at byte %" PRIu64
                          ", a power of two from %d to %d was expected",
                          n, at, GGUF_MIN_ALIGN, GGUF_MAX_ALIGN);
    part->alignment = n;
    return INFER_OK;
}

infer_status gguf_parse_keys(struct gguf_part *part, const struct base_alloc *a)
{
    struct gguf_reader r = {.data = part->data, .size = part->size};
    uint32_t version;
    uint64_t n_kv;
    infer_status st;

    if (r.size < 4 || memcmp(r.data, "GGUF", 4) != 0)
        return gguf_refuse(r.data, r.size);
    r.pos = 4;
    if ((st = gguf_read_u32(&r, &version, "the version")) != INFER_OK ||
        (st = check_version(part, version)) != INFER_OK ||
        (st = gguf_read_u64(&r, &part->n_tensors, "the tensor count")) != INFER_OK ||
        (st = gguf_read_u64(&r, &n_kv, "the key count")) != INFER_OK ||
        (st = check_counts(&r, part->n_tensors, n_kv)) != INFER_OK ||
        (st = read_directory(&r, &part->keys, n_kv, a)) != INFER_OK)
        return st;
    part->keys_end = r.pos;
    return find_alignment(part);
}

void gguf_directory_release(struct gguf_directory *dir, const struct base_alloc *a)
{
    base_map_release(&dir->index);
    base_free(a, dir->kv);
    *dir = (struct gguf_directory){0};
}

const struct gguf_kv *gguf_directory_find(const struct gguf_directory *dir, const char *key)
{
    int32_t i = base_map_get(&dir->index, key, strlen(key), -1);
    return i < 0 ? NULL : &dir->kv[i];
}
