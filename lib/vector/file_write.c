/* Writing a file of sections: blocks are hashed on their way out, the table follows them, and the
 * header comes last. */
#include "base/array.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/output.h"
#include "base/str.h"
#include "vector/file_layout.h"

#include <infer/version.h>
#include <stdio.h>
#include <unistd.h>

struct section {
    char name[VECTOR_FILE_NAME_MAX + 1];
    uint64_t offset, size;
};

struct vector_file_writer {
    struct base_alloc alloc;
    struct base_output file;
    char *path;
    char kind[VECTOR_FILE_NAME_MAX + 1];
    BASE_ARRAY(struct section) sections;
    BASE_ARRAY(uint64_t) sums;
    uint8_t *block; /* the end of the section, which does not fill a block yet */
    size_t n_block;
    infer_status status; /* of what failed first */
    char failure[BASE_ERROR_MAX];
};

static infer_status fail(struct vector_file_writer *w, infer_status st)
{
    w->status = st;
    snprintf(w->failure, sizeof w->failure, "%s", base_error_text());
    return st;
}

static infer_status failed_before(const struct vector_file_writer *w)
{
    return base_error(w->status, "%s", w->failure);
}

static infer_status start(struct vector_file_writer *w, const char *path)
{
    static const uint8_t zeros[VECTOR_FILE_HEADER];
    struct base_str part;
    w->path = base_strdup(&w->alloc, path, strlen(path));
    w->block = base_new_raw(&w->alloc, VECTOR_FILE_BLOCK, 1);
    if (!w->path || !w->block)
        return INFER_ERR_NO_MEMORY;
    base_str_init(&part, &w->alloc, 0);
    infer_status st = base_str_appendf(&part, "%s.part", path);
    if (st == INFER_OK)
        st = base_output_open(&w->file, &w->alloc, part.data);
    base_str_release(&part);
    if (st == INFER_OK)
        st = base_output_cut(&w->file, 0); /* of one that was killed */
    return st == INFER_OK ? base_output_write(&w->file, zeros, sizeof zeros) : st;
}

infer_status vector_file_create(struct vector_file_writer **out, const struct base_alloc *a,
                                const char *path, const char *kind)
{
    infer_status st = vector_file_machine(path);
    if (st != INFER_OK)
        return st;
    if (strlen(kind) > VECTOR_FILE_NAME_MAX)
        return base_error(INFER_ERR_INVALID, "\"%s\" is too long for a kind of file", kind);
    struct vector_file_writer *w = base_new(a, 1, sizeof *w);
    if (!w)
        return INFER_ERR_NO_MEMORY;
    w->alloc = *a;
    w->file.fd = -1;
    snprintf(w->kind, sizeof w->kind, "%s", kind);
    st = start(w, path);
    if (st != INFER_OK) {
        vector_file_abandon(&w);
        return st;
    }
    *out = w;
    return INFER_OK;
}

/* Hashes and writes whole blocks, and at the end of a section what is left. */
static infer_status put_blocks(struct vector_file_writer *w, const uint8_t *data, size_t size)
{
    infer_status st = base_array_reserve(&w->alloc, &w->sums, BASE_DIV_UP(size, VECTOR_FILE_BLOCK));
    if (st != INFER_OK)
        return st;
    st = base_output_write(&w->file, data, size);
    for (size_t at = 0; st == INFER_OK && at < size; at += VECTOR_FILE_BLOCK)
        w->sums.data[w->sums.size++] =
            base_hash64(data + at, BASE_MIN(size - at, (size_t)VECTOR_FILE_BLOCK), 0);
    return st;
}

static infer_status end_section(struct vector_file_writer *w)
{
    infer_status st = put_blocks(w, w->block, w->n_block);
    w->n_block = 0;
    return st;
}

static infer_status fill_up(struct vector_file_writer *w, size_t align)
{
    static const uint8_t zeros[VECTOR_FILE_ALIGN_MAX];
    size_t over = (size_t)(w->file.at % align);
    return over ? base_output_write(&w->file, zeros, align - over) : INFER_OK;
}

static infer_status begin(struct vector_file_writer *w, const char *name, size_t align)
{
    const size_t n = strlen(name);
    struct section *s = w->sections.data;
    if (!n || n > VECTOR_FILE_NAME_MAX || align > VECTOR_FILE_ALIGN_MAX || (align & (align - 1)))
        return base_error(INFER_ERR_INVALID,
                          "%s: section \"%s\" on %zu bytes: names have 1 to %d bytes, alignments "
                          "are powers of two up to %d",
                          w->path, name, align, VECTOR_FILE_NAME_MAX, VECTOR_FILE_ALIGN_MAX);
    if (w->sections.size == VECTOR_FILE_SECTIONS_MAX)
        return base_error(INFER_ERR_LIMIT, "%s: more than %d sections", w->path,
                          VECTOR_FILE_SECTIONS_MAX);
    for (size_t i = 0; i < w->sections.size; i++)
        if (strcmp(s[i].name, name) == 0)
            return base_error(INFER_ERR_INVALID, "%s: section \"%s\" is there already", w->path,
                              name);
    infer_status st = end_section(w);
    if (st == INFER_OK)
        st = fill_up(w, BASE_MAX(align, (size_t)VECTOR_FILE_ALIGN));
    if (st == INFER_OK)
        st = base_array_reserve(&w->alloc, &w->sections, 1);
    if (st != INFER_OK)
        return st;
    s = &w->sections.data[w->sections.size++];
    *s = (struct section){.offset = w->file.at};
    memcpy(s->name, name, n);
    return INFER_OK;
}

infer_status vector_file_begin(struct vector_file_writer *w, const char *name, size_t align)
{
    if (w->status != INFER_OK)
        return failed_before(w);
    infer_status st = begin(w, name, align);
    return st == INFER_OK ? st : fail(w, st);
}

static infer_status append(struct vector_file_writer *w, const uint8_t *p, size_t size)
{
    w->sections.data[w->sections.size - 1].size += size;
    while (size) {
        infer_status st = INFER_OK;
        size_t n = size / VECTOR_FILE_BLOCK * VECTOR_FILE_BLOCK;
        if (!w->n_block && n) {
            st = put_blocks(w, p, n);
        } else {
            n = BASE_MIN(size, VECTOR_FILE_BLOCK - w->n_block);
            memcpy(w->block + w->n_block, p, n);
            w->n_block += n;
            if (w->n_block == VECTOR_FILE_BLOCK)
                st = end_section(w);
        }
        if (st != INFER_OK)
            return st;
        p += n;
        size -= n;
    }
    return INFER_OK;
}

infer_status vector_file_append(struct vector_file_writer *w, const void *data, size_t size)
{
    if (w->status != INFER_OK)
        return failed_before(w);
    infer_status st = w->sections.size
                          ? append(w, data, size)
                          : base_error(INFER_ERR_INTERNAL, "%s: bytes before a section", w->path);
    return st == INFER_OK ? st : fail(w, st);
}

infer_status vector_file_section(struct vector_file_writer *w, const char *name, const void *data,
                                 size_t size)
{
    infer_status st = vector_file_begin(w, name, VECTOR_FILE_ALIGN);
    return st == INFER_OK ? vector_file_append(w, data, size) : st;
}

static void fill_table(const struct vector_file_writer *w, uint8_t *p)
{
    for (size_t i = 0; i < w->sections.size; i++, p += VECTOR_FILE_ENTRY) {
        const struct section *s = &w->sections.data[i];
        memcpy(p + ENTRY_NAME, s->name, sizeof s->name);
        base_put_u64(p + ENTRY_OFFSET, s->offset);
        base_put_u64(p + ENTRY_BYTES, s->size);
    }
    for (size_t i = 0; i < w->sums.size; i++, p += 8)
        base_put_u64(p, w->sums.data[i]);
}

static infer_status write_header(struct vector_file_writer *w, uint64_t table, uint64_t table_bytes,
                                 struct base_hash128 sum)
{
    uint8_t h[VECTOR_FILE_HEADER] = {0};
    memcpy(h, vector_file_magic, sizeof vector_file_magic);
    base_put_u32(h + HEAD_FORMAT, VECTOR_FILE_FORMAT);
    base_put_u32(h + HEAD_PRODUCER, INFER_VERSION);
    base_put_u32(h + HEAD_BLOCK, VECTOR_FILE_BLOCK);
    base_put_u32(h + HEAD_SECTIONS, (uint32_t)w->sections.size);
    memcpy(h + HEAD_KIND, w->kind, sizeof w->kind);
    base_put_u64(h + HEAD_BYTES, table + table_bytes);
    base_put_u64(h + HEAD_TABLE, table);
    base_put_u64(h + HEAD_TABLE_BYTES, table_bytes);
    vector_file_put_sum(h + HEAD_TABLE_SUM, sum);
    vector_file_put_sum(h + HEAD_SUM, base_hash128_plain(h, HEAD_SUM));
    w->file.at = 0;
    return base_output_write(&w->file, h, sizeof h);
}

static infer_status write_table(struct vector_file_writer *w)
{
    infer_status st = end_section(w);
    if (st == INFER_OK)
        st = fill_up(w, VECTOR_FILE_ALIGN);
    const uint64_t at = w->file.at;
    const size_t size = w->sections.size * VECTOR_FILE_ENTRY + w->sums.size * 8;
    uint8_t *table = st == INFER_OK ? base_new(&w->alloc, size, 1) : NULL;
    if (!table)
        return st == INFER_OK ? INFER_ERR_NO_MEMORY : st;
    fill_table(w, table);
    st = base_output_write(&w->file, table, size);
    if (st == INFER_OK)
        st = write_header(w, at, size, base_hash128_plain(table, size));
    base_free(&w->alloc, table);
    return st;
}

static infer_status place(struct vector_file_writer *w, int32_t *placed)
{
    infer_status st = w->status == INFER_OK ? write_table(w) : failed_before(w);
    if (st == INFER_OK)
        st = base_output_sync(&w->file);
    if (st == INFER_OK)
        st = base_output_move(&w->file, w->path);
    *placed = st == INFER_OK;
    return st == INFER_OK ? base_output_sync_folder(&w->alloc, w->path) : st;
}

infer_status vector_file_replace(struct vector_file_writer **writer, int32_t *placed)
{
    infer_status st = place(*writer, placed);
    if (*placed)
        base_output_close(&(*writer)->file);
    vector_file_abandon(writer);
    return st;
}

infer_status vector_file_finish(struct vector_file_writer **writer)
{
    struct vector_file_writer *w = *writer;
    int32_t placed = 0;
    infer_status st = place(w, &placed);
    if (placed && st != INFER_OK)
        unlink(w->path);
    if (placed)
        base_output_close(&w->file);
    vector_file_abandon(writer);
    return st;
}

void vector_file_abandon(struct vector_file_writer **writer)
{
    struct vector_file_writer *w = *writer;
    if (!w)
        return;
    const struct base_alloc a = w->alloc;
    base_output_remove(&w->file);
    base_array_release(&a, &w->sections);
    base_array_release(&a, &w->sums);
    base_free(&a, w->block);
    base_free(&a, w->path);
    base_free(&a, w);
    *writer = NULL;
}
