/* GGUF files, written tensor by tensor and resumable. */
#include "format/gguf_write.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/output.h"
#include "base/str.h"
#include "format/gguf_internal.h"
#include "format/quant_layout.h"

#include <inttypes.h>
#include <string.h>

/* A tensor is hashed in pieces of this size, whatever the sizes of the puts. */
#define PIECE ((size_t)1 << 20)

/* The journal: a head, then a record for each finished tensor, in order. */
#define STATE_MAGIC 0x3154524150464747 /* "GGFPART1" */

struct state_head {
    uint64_t magic;
    uint64_t plan; /* hash of header and `hash` */
    uint64_t n_tensors;
};

struct gguf_writer {
    struct base_alloc alloc;
    const struct gguf_file *plan;
    char *path;
    struct base_output file, state;
    struct base_str header; /* padded to the alignment */
    uint64_t alignment, total;
    uint64_t *offsets; /* of tensors, in the file */
    struct state_head head;
    size_t next;
    uint64_t put, hashed; /* bytes of the current tensor so far, hash of its pieces */
    uint8_t *piece;
    size_t piece_size;
};

/* ----------------------------------------------------------------- header */

static infer_status append_le(struct base_str *s, uint64_t value, int bytes)
{
    char p[8];
    for (int i = 0; i < bytes; i++)
        p[i] = (char)(value >> 8 * i & 0xff);
    return base_str_append(s, p, (size_t)bytes);
}

static infer_status append_text(struct base_str *s, struct base_view text)
{
    infer_status st = append_le(s, text.size, 8);
    return st == INFER_OK ? base_str_append(s, text.data, text.size) : st;
}

static infer_status append_kv(struct base_str *s, const struct gguf_kv *kv)
{
    infer_status st = append_text(s, kv->key);
    if (st == INFER_OK)
        st = append_le(s, (uint32_t)kv->type, 4);
    if (st == INFER_OK && kv->type == GGUF_ARRAY) {
        st = append_le(s, (uint32_t)kv->element_type, 4);
        if (st == INFER_OK)
            st = append_le(s, kv->n, 8);
    }
    return st == INFER_OK ? base_str_append(s, (const char *)kv->data, (size_t)kv->bytes) : st;
}

static infer_status append_tensor(struct base_str *s, const struct gguf_tensor *t, uint64_t offset)
{
    infer_status st = append_text(s, t->name);
    if (st == INFER_OK)
        st = append_le(s, (uint32_t)t->n_dims, 4);
    for (int32_t i = 0; i < t->n_dims && st == INFER_OK; i++)
        st = append_le(s, t->dims[i], 8);
    if (st == INFER_OK)
        st = append_le(s, (uint32_t)t->type, 4);
    return st == INFER_OK ? append_le(s, offset, 8) : st;
}

static infer_status pad(struct base_str *s, uint64_t alignment)
{
    infer_status st = INFER_OK;
    while (st == INFER_OK && s->size % alignment)
        st = base_str_put(s, 0);
    return st;
}

/* Offsets relative to the data, and the sum of all. */
static infer_status lay_out(struct gguf_writer *w)
{
    size_t n = gguf_n_tensors(w->plan);
    int64_t alignment = GGUF_USUAL_ALIGN;
    infer_status st = gguf_get_i64(w->plan, "general.alignment", &alignment);
    if (st != INFER_OK && st != INFER_ERR_NOT_FOUND)
        return st;
    w->alignment = (uint64_t)alignment;
    w->offsets = base_new_raw(&w->alloc, n, sizeof *w->offsets);
    if (!w->offsets)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(w->plan, i);
        if (t->type > INFER_DTYPE_NVFP4 && t->type != INFER_DTYPE_F8_128)
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tensor \"%.*s\" has the type %s, which GGUF has no number for",
                              GGUF_SHOW(t->name), quant_type_name(t->type));
        w->offsets[i] = w->total;
        /* Room for the header and the last padding stays below 2^64. */
        if (t->bytes > INT64_MAX - w->total)
            return base_error(INFER_ERR_LIMIT, "the tensors exceed 2^63 bytes");
        w->total = BASE_ALIGN_UP(w->total + t->bytes, w->alignment);
    }
    return INFER_OK;
}

static infer_status build_header(struct gguf_writer *w)
{
    const struct gguf_file *plan = w->plan;
    struct base_str *s = &w->header;
    size_t n_kv = gguf_n_kv(plan), n = gguf_n_tensors(plan);
    infer_status st = lay_out(w);
    if (st == INFER_OK)
        st = base_str_append(s, "GGUF", 4);
    if (st == INFER_OK)
        st = append_le(s, 3, 4);
    if (st == INFER_OK)
        st = append_le(s, n, 8);
    if (st == INFER_OK)
        st = append_le(s, n_kv, 8);
    for (size_t i = 0; i < n_kv && st == INFER_OK; i++)
        st = append_kv(s, gguf_kv_at(plan, i));
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = append_tensor(s, gguf_tensor_at(plan, i), w->offsets[i]);
    if (st == INFER_OK)
        st = pad(s, w->alignment);
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        w->offsets[i] += s->size;
    w->total += s->size;
    return st;
}

/* ----------------------------------------------------------------- resume */

static uint64_t end_of(const struct gguf_writer *w, size_t i)
{
    return i + 1 < gguf_n_tensors(w->plan) ? w->offsets[i + 1] : w->total;
}

/* Whether the file holds the tensor that the journal says it does. A file that cannot be read is
 * a file that is written again. */
static int is_whole(struct gguf_writer *w, size_t i, uint64_t hash)
{
    uint64_t left = gguf_tensor_at(w->plan, i)->bytes, at = w->offsets[i], h = 0;
    if (end_of(w, i) > w->file.size)
        return 0;
    while (left) {
        size_t n = (size_t)BASE_MIN(left, (uint64_t)PIECE);
        if (base_output_read(&w->file, at, w->piece, n) != INFER_OK)
            return 0;
        h = base_hash64(w->piece, n, h);
        at += n;
        left -= n;
    }
    return h == hash;
}

static int same_header(struct gguf_writer *w)
{
    size_t at = 0, n;
    struct state_head head;
    if (w->file.size < w->header.size || w->state.size < sizeof head ||
        base_output_read(&w->state, 0, &head, sizeof head) != INFER_OK ||
        memcmp(&head, &w->head, sizeof head) != 0)
        return 0;
    for (; at < w->header.size; at += n) {
        n = BASE_MIN(w->header.size - at, PIECE);
        if (base_output_read(&w->file, at, w->piece, n) != INFER_OK ||
            memcmp(w->piece, w->header.data + at, n) != 0)
            return 0;
    }
    return 1;
}

/* Counts the tensors that an earlier writer of this plan left whole. */
static size_t find_finished(struct gguf_writer *w)
{
    size_t i = 0, n = gguf_n_tensors(w->plan);
    uint64_t hash;
    for (; i < n; i++) {
        uint64_t at = sizeof w->head + i * sizeof hash;
        if (at + sizeof hash > w->state.size ||
            base_output_read(&w->state, at, &hash, sizeof hash) != INFER_OK ||
            !is_whole(w, i, hash))
            break;
    }
    return i;
}

static infer_status start_over(struct gguf_writer *w)
{
    /* The journal goes first and comes last: it never speaks of another file's bytes. */
    infer_status st = base_output_cut(&w->state, 0);
    if (st == INFER_OK)
        st = base_output_cut(&w->file, 0);
    if (st == INFER_OK)
        st = base_output_write(&w->file, w->header.data, w->header.size);
    return st == INFER_OK ? base_output_write(&w->state, &w->head, sizeof w->head) : st;
}

static infer_status start(struct gguf_writer *w)
{
    if (!same_header(w))
        return start_over(w);
    w->next = find_finished(w);
    uint64_t end = w->next ? end_of(w, w->next - 1) : w->header.size;
    infer_status st = base_output_cut(&w->state, sizeof w->head + w->next * sizeof(uint64_t));
    return st == INFER_OK ? base_output_cut(&w->file, end) : st;
}

/* ---------------------------------------------------------------- writing */

static infer_status open_files(struct gguf_writer *w)
{
    struct base_str name;
    base_str_init(&name, &w->alloc, 0);
    infer_status st = base_str_appendf(&name, "%s.part", w->path);
    if (st == INFER_OK)
        st = base_output_open(&w->file, &w->alloc, name.data);
    if (st == INFER_OK)
        st = base_str_appendf(&name, ".state");
    if (st == INFER_OK)
        st = base_output_open(&w->state, &w->alloc, name.data);
    base_str_release(&name);
    return st;
}

infer_status gguf_writer_open(struct gguf_writer **out, const struct base_alloc *a,
                              const char *path, const struct gguf_file *plan, uint64_t hash)
{
    struct gguf_writer *w = base_new(a, 1, sizeof *w);
    if (!w)
        return INFER_ERR_NO_MEMORY;
    w->alloc = *a;
    w->plan = plan;
    base_str_init(&w->header, &w->alloc, 0);
    w->path = base_strdup(a, path, strlen(path));
    w->piece = base_new_raw(a, PIECE, 1);
    infer_status st = w->path && w->piece ? build_header(w) : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK) {
        w->head = (struct state_head){.magic = STATE_MAGIC,
                                      .plan = base_hash64(w->header.data, w->header.size, hash),
                                      .n_tensors = gguf_n_tensors(plan)};
        st = open_files(w);
    }
    if (st == INFER_OK)
        st = start(w);
    if (st != INFER_OK) {
        gguf_writer_destroy(&w, 1);
        return st;
    }
    *out = w;
    return INFER_OK;
}

size_t gguf_writer_next(const struct gguf_writer *w)
{
    return w->next;
}

uint64_t gguf_writer_bytes(const struct gguf_writer *w)
{
    return w->total;
}

static infer_status flush_piece(struct gguf_writer *w)
{
    w->hashed = base_hash64(w->piece, w->piece_size, w->hashed);
    infer_status st = base_output_write(&w->file, w->piece, w->piece_size);
    w->piece_size = 0;
    return st;
}

infer_status gguf_writer_put(struct gguf_writer *w, const void *data, size_t size)
{
    const uint8_t *p = data;
    w->put += size;
    while (size) {
        size_t n = BASE_MIN(size, PIECE - w->piece_size);
        memcpy(w->piece + w->piece_size, p, n);
        w->piece_size += n;
        p += n;
        size -= n;
        infer_status st = w->piece_size == PIECE ? flush_piece(w) : INFER_OK;
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

infer_status gguf_writer_end_tensor(struct gguf_writer *w)
{
    static const char zeros[4096];
    const struct gguf_tensor *t = gguf_tensor_at(w->plan, w->next);
    if (w->put != t->bytes)
        return base_error(INFER_ERR_INTERNAL,
                          "tensor \"%.*s\" has %" PRIu64 " bytes, %" PRIu64 " were written",
                          GGUF_SHOW(t->name), t->bytes, w->put);
    infer_status st = w->piece_size ? flush_piece(w) : INFER_OK;
    uint64_t end = end_of(w, w->next);
    while (st == INFER_OK && w->file.at < end)
        st = base_output_write(&w->file, zeros,
                               (size_t)BASE_MIN(end - w->file.at, (uint64_t)sizeof zeros));
    if (st == INFER_OK)
        st = base_output_write(&w->state, &w->hashed, sizeof w->hashed);
    if (st != INFER_OK)
        return st;
    w->next++;
    w->put = w->hashed = 0;
    return INFER_OK;
}

infer_status gguf_writer_commit(struct gguf_writer **writer)
{
    struct gguf_writer *w = *writer;
    if (w->next != gguf_n_tensors(w->plan))
        return base_error(INFER_ERR_INTERNAL, "%s: %zu of %zu tensors are written", w->path,
                          w->next, gguf_n_tensors(w->plan));
    infer_status st = base_output_sync(&w->file);
    if (st == INFER_OK)
        st = base_output_rename(&w->file, w->path);
    if (st != INFER_OK)
        return st;
    base_output_close(&w->file);
    gguf_writer_destroy(writer, 0);
    return INFER_OK;
}

void gguf_writer_destroy(struct gguf_writer **writer, int keep)
{
    struct gguf_writer *w = *writer;
    if (!w)
        return;
    struct base_alloc a = w->alloc;
    void (*end)(struct base_output *) = keep ? base_output_close : base_output_remove;
    end(&w->state);
    end(&w->file);
    base_str_release(&w->header);
    base_free(&a, w->offsets);
    base_free(&a, w->piece);
    base_free(&a, w->path);
    base_free(&a, w);
    *writer = NULL;
}
