/* Drafts: the directory of a GGUF file, put together in memory instead of parsed. */
#include "format/gguf_draft.h"

#include "base/error.h"
#include "format/gguf_internal.h"
#include "format/quant_layout.h"

#include <inttypes.h>
#include <string.h>

/* The finished file, whose `keys` and `tensors` grow here. */
struct gguf_draft {
    struct gguf_file *file;
    size_t kv_capacity;
};

static struct gguf_directory *keys_of(const struct gguf_draft *d)
{
    return &d->file->parts[0].keys;
}

infer_status gguf_draft_create(struct gguf_draft **out, const struct base_alloc *a,
                               const char *path)
{
    struct gguf_draft *d = base_new(a, 1, sizeof *d);
    if (!d)
        return INFER_ERR_NO_MEMORY;
    infer_status st = gguf_file_new(&d->file, a, 0);
    if (st != INFER_OK) {
        base_free(a, d);
        return st;
    }
    struct gguf_part *part = &d->file->parts[0];
    part->version = 3;
    part->alignment = GGUF_USUAL_ALIGN;
    part->path = base_strdup(a, path, strlen(path));
    st = part->path ? base_map_init(&part->keys.index, a, 64) : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = base_map_init(&d->file->tensor_index, a, 64);
    if (st != INFER_OK) {
        gguf_draft_destroy(&d);
        return st;
    }
    *out = d;
    return INFER_OK;
}

const struct base_alloc *gguf_draft_alloc(const struct gguf_draft *d)
{
    return &d->file->alloc;
}

void gguf_draft_destroy(struct gguf_draft **draft)
{
    struct gguf_draft *d = *draft;
    if (!d)
        return;
    struct base_alloc a = d->file->alloc;
    gguf_close(&d->file);
    base_free(&a, d);
    *draft = NULL;
}

/* ------------------------------------------------------------------- keys */

/* The rule of gguf_read_name(), for names that come from elsewhere. */
static infer_status check_name(struct base_view name, size_t max, const char *what)
{
    if (name.size == 0 || name.size > max)
        return base_error(INFER_ERR_FORMAT,
                          "%s \"%.*s\" has a length of %zu, 1 to %zu bytes are allowed", what,
                          GGUF_SHOW(name), name.size, max);
    for (size_t i = 0; i < name.size; i++) {
        unsigned char c = (unsigned char)name.data[i];
        if (c < 0x20 || c > 0x7e)
            return base_error(INFER_ERR_FORMAT,
                              "%s of %zu bytes holds byte 0x%02x at position %zu, printable ASCII "
                              "was expected",
                              what, name.size, c, i);
    }
    return INFER_OK;
}

/* Enters `kv`, whose data is in the arena and whose key is not, in place of a key of its name. */
static infer_status put_kv(struct gguf_draft *d, struct gguf_kv kv)
{
    struct gguf_directory *keys = keys_of(d);
    int32_t i = base_map_get(&keys->index, kv.key.data, kv.key.size, -1);
    if (i >= 0) {
        kv.key = keys->kv[i].key;
        keys->kv[i] = kv;
        return INFER_OK;
    }
    if (keys->n_kv == GGUF_MAX_KEYS)
        return base_error(INFER_ERR_LIMIT, "the draft has %d keys, no more fit", GGUF_MAX_KEYS);
    infer_status st = check_name(kv.key, GGUF_MAX_KEY, "key");
    if (st != INFER_OK)
        return st;
    kv.key.data = base_arena_strdup(&d->file->arena, kv.key.data, kv.key.size);
    if (!kv.key.data)
        return INFER_ERR_NO_MEMORY;
    st = base_array_grow(&d->file->alloc, (void **)&keys->kv, keys->n_kv, &d->kv_capacity,
                         sizeof *keys->kv, 1);
    if (st == INFER_OK)
        st = base_map_add(&keys->index, kv.key.data, kv.key.size, (int32_t)keys->n_kv);
    if (st == INFER_OK)
        keys->kv[keys->n_kv++] = kv;
    return st;
}

static void put_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static void put_le64(uint8_t *p, uint64_t v)
{
    put_le32(p, (uint32_t)v);
    put_le32(p + 4, (uint32_t)(v >> 32));
}

static uint8_t *put_text(uint8_t *p, struct base_view text)
{
    put_le64(p, text.size);
    if (text.size)
        memcpy(p + 8, text.data, text.size);
    return p + 8 + text.size;
}

static uint32_t float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* A value or an array of `n` elements of `size` bytes; its memory is the caller's to fill, which
 * is allowed after the key was entered. `array`: one element may still be an array. */
static infer_status put_value(struct gguf_draft *d, const char *key, int32_t type, int array,
                              size_t n, size_t size, uint8_t **data)
{
    *data = base_arena_new(&d->file->arena, n, size);
    if (!*data)
        return INFER_ERR_NO_MEMORY;
    struct gguf_kv kv = {.key = {key, strlen(key)},
                         .type = array ? GGUF_ARRAY : type,
                         .element_type = type,
                         .n = n,
                         .data = *data,
                         .bytes = n * size};
    return put_kv(d, kv);
}

infer_status gguf_draft_string(struct gguf_draft *d, const char *key, struct base_view text)
{
    uint8_t *p = base_arena_new(&d->file->arena, 1, 8 + text.size);
    if (!p)
        return INFER_ERR_NO_MEMORY;
    put_text(p, text);
    struct gguf_kv kv = {.key = {key, strlen(key)},
                         .type = GGUF_STRING,
                         .element_type = GGUF_STRING,
                         .n = 1,
                         .data = p,
                         .bytes = 8 + text.size};
    return put_kv(d, kv);
}

infer_status gguf_draft_u32(struct gguf_draft *d, const char *key, uint32_t value)
{
    uint8_t *p;
    infer_status st = put_value(d, key, GGUF_U32, 0, 1, 4, &p);
    if (st == INFER_OK)
        put_le32(p, value);
    return st;
}

infer_status gguf_draft_f32(struct gguf_draft *d, const char *key, float value)
{
    uint8_t *p;
    infer_status st = put_value(d, key, GGUF_F32, 0, 1, 4, &p);
    if (st == INFER_OK)
        put_le32(p, float_bits(value));
    return st;
}

infer_status gguf_draft_bool(struct gguf_draft *d, const char *key, int32_t value)
{
    uint8_t *p;
    infer_status st = put_value(d, key, GGUF_BOOL, 0, 1, 1, &p);
    if (st == INFER_OK)
        *p = value != 0;
    return st;
}

infer_status gguf_draft_strings(struct gguf_draft *d, const char *key,
                                const struct base_view *texts, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += 8 + texts[i].size; /* the texts are in memory: their sum fits */
    uint8_t *p = base_arena_new(&d->file->arena, 1, bytes);
    if (!p)
        return INFER_ERR_NO_MEMORY;
    struct gguf_kv kv = {.key = {key, strlen(key)},
                         .type = GGUF_ARRAY,
                         .element_type = GGUF_STRING,
                         .n = n,
                         .data = p,
                         .bytes = bytes};
    for (size_t i = 0; i < n; i++)
        p = put_text(p, texts[i]);
    return put_kv(d, kv);
}

infer_status gguf_draft_i32s(struct gguf_draft *d, const char *key, const int32_t *values, size_t n)
{
    uint8_t *p;
    infer_status st = put_value(d, key, GGUF_I32, 1, n, 4, &p);
    for (size_t i = 0; st == INFER_OK && i < n; i++)
        put_le32(p + 4 * i, (uint32_t)values[i]);
    return st;
}

infer_status gguf_draft_f32s(struct gguf_draft *d, const char *key, const float *values, size_t n)
{
    uint8_t *p;
    infer_status st = put_value(d, key, GGUF_F32, 1, n, 4, &p);
    for (size_t i = 0; st == INFER_OK && i < n; i++)
        put_le32(p + 4 * i, float_bits(values[i]));
    return st;
}

infer_status gguf_draft_u8s(struct gguf_draft *d, const char *key, const uint8_t *values, size_t n)
{
    uint8_t *p;
    infer_status st = put_value(d, key, GGUF_U8, 1, n, 1, &p);
    if (st == INFER_OK && n)
        memcpy(p, values, n);
    return st;
}

infer_status gguf_draft_bools(struct gguf_draft *d, const char *key, const uint8_t *values,
                              size_t n)
{
    uint8_t *p;
    infer_status st = put_value(d, key, GGUF_BOOL, 1, n, 1, &p);
    for (size_t i = 0; st == INFER_OK && i < n; i++)
        p[i] = values[i] != 0;
    return st;
}

infer_status gguf_draft_copy_keys(struct gguf_draft *d, const struct gguf_file *from)
{
    const struct gguf_directory *keys = keys_of(d);
    for (size_t i = 0; i < gguf_n_kv(from); i++) {
        struct gguf_kv kv = *gguf_kv_at(from, i);
        if (kv.key.size > 6 && memcmp(kv.key.data, "split.", 6) == 0)
            continue;
        if (base_map_get(&keys->index, kv.key.data, kv.key.size, -1) >= 0)
            continue;
        uint8_t *p = base_arena_new(&d->file->arena, 1, (size_t)kv.bytes);
        if (!p)
            return INFER_ERR_NO_MEMORY;
        if (kv.bytes)
            memcpy(p, kv.data, (size_t)kv.bytes);
        kv.data = p;
        infer_status st = put_kv(d, kv);
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

const struct gguf_kv *gguf_draft_find(const struct gguf_draft *d, const char *key)
{
    return gguf_directory_find(keys_of(d), key);
}

/* ---------------------------------------------------------------- tensors */

void *gguf_draft_memory(struct gguf_draft *d, size_t n, size_t size)
{
    return base_arena_new(&d->file->data, n, size);
}

infer_status gguf_draft_own(struct gguf_draft *d, struct base_file *file)
{
    infer_status st = base_array_push(&d->file->alloc, &d->file->owned, *file);
    if (st == INFER_OK)
        *file = (struct base_file){0};
    return st;
}

static infer_status check_shape(struct gguf_tensor *t, infer_dtype type, int32_t n_dims,
                                const uint64_t *dims, int apart)
{
    uint64_t elements;
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return base_error(INFER_ERR_FORMAT, "%d dimensions, 1 to %d were expected", (int)n_dims,
                          GGUF_MAX_DIMS);
    t->n_dims = n_dims;
    for (int32_t i = 0; i < GGUF_MAX_DIMS; i++) {
        t->dims[i] = i < n_dims ? dims[i] : 1;
        if (t->dims[i] == 0 || t->dims[i] > INT64_MAX)
            return base_error(INFER_ERR_FORMAT,
                              "dimension %d is %" PRIu64 ", 1 to 2^63 - 1 was expected", (int)i,
                              t->dims[i]);
    }
    if (apart && t->dims[3] != 1)
        return base_error(INFER_ERR_FORMAT,
                          "matrices that lie apart make a tensor of three dimensions, not four");
    if (!quant_layout_of(type)) {
        const char *name = quant_type_name(type);
        return base_error(INFER_ERR_UNSUPPORTED, "element type %d (%s) is not supported", (int)type,
                          name ? name : "not known");
    }
    t->type = type;
    infer_status st = gguf_count_elements(t, &elements);
    return st == INFER_OK ? gguf_find_bytes(t, elements) : st;
}

static infer_status copy_matrices(struct gguf_draft *d, struct gguf_tensor *t,
                                  const void *const *matrices)
{
    const uint8_t **copy;
    if (t->dims[2] > SIZE_MAX / sizeof *copy)
        return base_error(INFER_ERR_LIMIT, "%" PRIu64 " matrices", t->dims[2]);
    copy = base_arena_new(&d->file->data, (size_t)t->dims[2], sizeof *copy);
    if (!copy)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t i = 0; i < t->dims[2]; i++)
        copy[i] = matrices[i];
    t->matrices = copy;
    return INFER_OK;
}

infer_status gguf_draft_tensor(struct gguf_draft *d, const char *name, infer_dtype type,
                               int32_t n_dims, const uint64_t *dims, const void *data,
                               const void *const *matrices)
{
    struct gguf_file *f = d->file;
    struct gguf_tensor t = {.name = {name, strlen(name)}, .data = data};
    infer_status st = check_name(t.name, GGUF_NAME_MAX, "tensor");
    if (st != INFER_OK)
        return st;
    st = check_shape(&t, type, n_dims, dims, matrices != NULL);
    if (st != INFER_OK)
        return base_error_prefix(st, "tensor \"%s\"", name);
    if (f->n_tensors == GGUF_MAX_TENSORS)
        return base_error(INFER_ERR_LIMIT, "the draft has %d tensors, no more fit",
                          GGUF_MAX_TENSORS);
    if (__builtin_add_overflow(f->parts[0].size, t.bytes, &f->parts[0].size))
        return base_error(INFER_ERR_LIMIT, "tensor \"%s\": the draft exceeds 2^64 bytes", name);
    if (matrices && (st = copy_matrices(d, &t, matrices)) != INFER_OK)
        return st;
    t.name.data = base_arena_strdup(&f->arena, name, t.name.size);
    if (!t.name.data)
        return INFER_ERR_NO_MEMORY;
    st = base_array_grow(&f->alloc, (void **)&f->tensors, f->n_tensors, &f->tensors_capacity,
                         sizeof *f->tensors, 1);
    if (st == INFER_OK)
        st = base_map_add(&f->tensor_index, t.name.data, t.name.size, (int32_t)f->n_tensors);
    if (st == INFER_AGAIN)
        st = base_error(INFER_ERR_FORMAT, "tensor \"%s\" appears twice", name);
    if (st == INFER_OK)
        f->tensors[f->n_tensors++] = t;
    else
        f->parts[0].size -= t.bytes;
    return st;
}

/* The one key that says how a file is written; a parsed file was checked for it by its reader. */
static infer_status check_alignment(struct gguf_file *file)
{
    int64_t n = GGUF_USUAL_ALIGN;
    infer_status st = gguf_get_i64(file, "general.alignment", &n);
    if (st != INFER_OK && st != INFER_ERR_NOT_FOUND)
        return st;
    if (n < GGUF_MIN_ALIGN || n > GGUF_MAX_ALIGN || (n & (n - 1)))
        return base_error(INFER_ERR_FORMAT,
                          "key \"general.alignment\" is %" PRId64
                          ", a power of two from %d to %d was expected",
                          n, GGUF_MIN_ALIGN, GGUF_MAX_ALIGN);
    file->parts[0].alignment = (uint64_t)n;
    return INFER_OK;
}

infer_status gguf_draft_finish(struct gguf_draft **draft, struct gguf_file **out)
{
    struct gguf_draft *d = *draft;
    infer_status st = check_alignment(d->file);
    if (st != INFER_OK)
        return st;
    struct base_alloc a = d->file->alloc;
    *out = d->file;
    base_free(&a, d);
    *draft = NULL;
    return INFER_OK;
}
