/* Reading a file of sections: header and table are read and believed only as far as they agree with
 * each other and with the file; sections are mapped. */
#include "base/array.h"
#include "base/file.h"
#include "vector/file_layout.h"

#include <string.h>
#include <unistd.h>

struct section {
    char name[VECTOR_FILE_NAME_MAX + 1];
    uint64_t offset, size;
    uint64_t sums; /* where its checksums begin in the table */
};

struct vector_file {
    struct base_alloc alloc;
    struct base_file map;
    int fd;
    char *path;
    struct section *sections;
    uint32_t n_sections;
    uint64_t table, table_bytes;
    uint8_t table_sum[16];
};

#define SHOW(x) ((unsigned long long)(x))

/* ------------------------------------------------------------------- header */

static infer_status check_header(const struct vector_file *f, const uint8_t *h, const char *kind)
{
    char wanted[VECTOR_FILE_NAME_MAX + 1] = {0};
    if (memcmp(h, vector_file_magic, sizeof vector_file_magic) != 0)
        return base_error(INFER_ERR_FORMAT, "%s is no file of a vector index: it begins otherwise",
                          f->path);
    if (!vector_file_sum_is(h + HEAD_SUM, base_hash128_plain(h, HEAD_SUM)))
        return base_error(INFER_ERR_FORMAT,
                          "%s is damaged: the checksum of its header, at byte 0, is wrong",
                          f->path);
    const uint32_t format = base_get_u32(h + HEAD_FORMAT);
    if (format < 1 || format > VECTOR_FILE_FORMAT)
        return base_error(
            INFER_ERR_FORMAT,
            "%s has format %u, written by version %u, and this library reads up to %d", f->path,
            (unsigned)format, (unsigned)base_get_u32(h + HEAD_PRODUCER), VECTOR_FILE_FORMAT);
    memcpy(wanted, kind, BASE_MIN(strlen(kind), sizeof wanted - 1));
    if (memcmp(h + HEAD_KIND, wanted, sizeof wanted) != 0)
        return base_error(INFER_ERR_FORMAT, "%s is a \"%.31s\", a \"%s\" was expected", f->path,
                          (const char *)h + HEAD_KIND, wanted);
    return INFER_OK;
}

static infer_status read_header(struct vector_file *f, const char *kind)
{
    uint8_t h[VECTOR_FILE_HEADER];
    if (f->map.size < sizeof h)
        return base_error(INFER_ERR_FORMAT, "%s has %zu bytes, a header alone has %zu", f->path,
                          f->map.size, sizeof h);
    infer_status st = base_file_read(f->fd, f->path, 0, h, sizeof h);
    if (st == INFER_OK)
        st = check_header(f, h, kind);
    if (st != INFER_OK)
        return st;
    const uint64_t bytes = base_get_u64(h + HEAD_BYTES);
    f->n_sections = base_get_u32(h + HEAD_SECTIONS);
    f->table = base_get_u64(h + HEAD_TABLE);
    f->table_bytes = base_get_u64(h + HEAD_TABLE_BYTES);
    memcpy(f->table_sum, h + HEAD_TABLE_SUM, sizeof f->table_sum);
    if (bytes != f->map.size)
        return base_error(INFER_ERR_FORMAT, "%s has %zu bytes, its header says %llu", f->path,
                          f->map.size, SHOW(bytes));
    if (base_get_u32(h + HEAD_BLOCK) != VECTOR_FILE_BLOCK ||
        f->n_sections > VECTOR_FILE_SECTIONS_MAX || f->table < VECTOR_FILE_HEADER ||
        f->table % VECTOR_FILE_ALIGN || f->table > bytes || f->table_bytes != bytes - f->table ||
        f->table_bytes < (uint64_t)f->n_sections * VECTOR_FILE_ENTRY)
        return base_error(
            INFER_ERR_FORMAT,
            "%s: its header says %u sections and a table of %llu bytes at byte %llu of "
            "%llu, which cannot be",
            f->path, (unsigned)f->n_sections, SHOW(f->table_bytes), SHOW(f->table), SHOW(bytes));
    return INFER_OK;
}

/* -------------------------------------------------------------------- table */

static infer_status take_entry(struct vector_file *f, const uint8_t *p, uint32_t i, uint64_t end)
{
    static const uint8_t zeros[VECTOR_FILE_NAME_MAX + 1];
    struct section *s = &f->sections[i];
    memcpy(s->name, p + ENTRY_NAME, sizeof s->name);
    s->offset = base_get_u64(p + ENTRY_OFFSET);
    s->size = base_get_u64(p + ENTRY_BYTES);
    const char *end_of_name = memchr(s->name, 0, sizeof s->name);
    if (!s->name[0] || !end_of_name ||
        memcmp(end_of_name, zeros, sizeof s->name - (size_t)(end_of_name - s->name)) != 0 ||
        memcmp(p + ENTRY_UNUSED, zeros, VECTOR_FILE_ENTRY - ENTRY_UNUSED) != 0)
        return base_error(INFER_ERR_FORMAT,
                          "%s: entry %u of the table, at byte %llu, is no name, place and size",
                          f->path, (unsigned)i, SHOW(f->table + (uint64_t)i * VECTOR_FILE_ENTRY));
    for (uint32_t k = 0; k < i; k++)
        if (strcmp(f->sections[k].name, s->name) == 0)
            return base_error(INFER_ERR_FORMAT,
                              "%s: section \"%s\" is there twice, at bytes %llu "
                              "and %llu",
                              f->path, s->name, SHOW(f->sections[k].offset), SHOW(s->offset));
    if (s->offset < end || s->offset - end >= VECTOR_FILE_ALIGN_MAX ||
        s->offset % VECTOR_FILE_ALIGN || s->offset > f->table || s->size > f->table - s->offset)
        return base_error(
            INFER_ERR_FORMAT,
            "%s: section \"%s\" has %llu bytes at byte %llu, what is before it ends at "
            "%llu and the table begins at %llu",
            f->path, s->name, SHOW(s->size), SHOW(s->offset), SHOW(end), SHOW(f->table));
    return INFER_OK;
}

static infer_status take_table(struct vector_file *f, const uint8_t *table)
{
    uint64_t end = VECTOR_FILE_HEADER, sums = (uint64_t)f->n_sections * VECTOR_FILE_ENTRY;
    for (uint32_t i = 0; i < f->n_sections; i++) {
        infer_status st = take_entry(f, table + (size_t)i * VECTOR_FILE_ENTRY, i, end);
        if (st != INFER_OK)
            return st;
        struct section *s = &f->sections[i];
        end = s->offset + s->size;
        s->sums = sums;
        sums += BASE_DIV_UP(s->size, VECTOR_FILE_BLOCK) * 8; /* at most 1 / 8192 of the file */
    }
    if (sums != f->table_bytes || f->table - end >= VECTOR_FILE_ALIGN_MAX)
        return base_error(INFER_ERR_FORMAT,
                          "%s: sections up to byte %llu need a table of %llu bytes, it has %llu",
                          f->path, SHOW(end), SHOW(sums), SHOW(f->table_bytes));
    return INFER_OK;
}

/* The table as it is on the disk; the caller frees it. */
static infer_status read_table(const struct vector_file *f, uint8_t **out)
{
    uint8_t *table = base_new_raw(&f->alloc, (size_t)f->table_bytes, 1);
    if (!table)
        return INFER_ERR_NO_MEMORY;
    infer_status st = base_file_read(f->fd, f->path, f->table, table, (size_t)f->table_bytes);
    if (st == INFER_OK &&
        !vector_file_sum_is(f->table_sum, base_hash128_plain(table, (size_t)f->table_bytes)))
        st = base_error(INFER_ERR_FORMAT,
                        "%s is damaged: the checksum of its table, at byte %llu, is wrong", f->path,
                        SHOW(f->table));
    if (st != INFER_OK) {
        base_free(&f->alloc, table);
        return st;
    }
    *out = table;
    return INFER_OK;
}

static infer_status load(struct vector_file *f, const char *kind)
{
    uint8_t *table = NULL;
    infer_status st = base_file_open(&f->fd, f->path);
    if (st == INFER_OK)
        st = base_file_map_open(&f->map, f->fd, f->path);
    if (st == INFER_OK)
        st = read_header(f, kind);
    if (st == INFER_OK)
        st = read_table(f, &table);
    if (st != INFER_OK)
        return st;
    f->sections = base_new(&f->alloc, f->n_sections, sizeof *f->sections);
    st = f->sections ? take_table(f, table) : INFER_ERR_NO_MEMORY;
    base_free(&f->alloc, table);
    return st;
}

infer_status vector_file_open(struct vector_file **out, const struct base_alloc *a,
                              const char *path, const char *kind, int32_t verify)
{
    infer_status st = vector_file_machine(path);
    struct vector_file *f = st == INFER_OK ? base_new(a, 1, sizeof *f) : NULL;
    if (!f)
        return st == INFER_OK ? INFER_ERR_NO_MEMORY : st;
    f->alloc = *a;
    f->fd = -1;
    f->path = base_strdup(a, path, strlen(path));
    st = f->path ? load(f, kind) : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK && verify)
        st = vector_file_verify(f);
    if (st != INFER_OK) {
        vector_file_close(&f);
        return st;
    }
    *out = f;
    return INFER_OK;
}

void vector_file_close(struct vector_file **file)
{
    struct vector_file *f = *file;
    if (!f)
        return;
    const struct base_alloc a = f->alloc;
    base_file_unmap(&f->map);
    if (f->fd >= 0)
        close(f->fd);
    base_free(&a, f->sections);
    base_free(&a, f->path);
    base_free(&a, f);
    *file = NULL;
}

/* ----------------------------------------------------------------- sections */

infer_status vector_file_find(const struct vector_file *f, const char *name, const uint8_t **data,
                              size_t *size)
{
    for (uint32_t i = 0; i < f->n_sections; i++) {
        const struct section *s = &f->sections[i];
        if (strcmp(s->name, name) != 0)
            continue;
        *data = f->map.data + s->offset;
        *size = (size_t)s->size;
        return INFER_OK;
    }
    return base_error(INFER_ERR_NOT_FOUND, "%s has no section \"%s\"", f->path, name);
}

infer_status vector_file_array(const struct vector_file *f, const char *name, const void **data,
                               size_t count, size_t bytes)
{
    const uint8_t *found = NULL;
    size_t size = 0;
    infer_status st = vector_file_find(f, name, &found, &size);
    if (st == INFER_ERR_NOT_FOUND)
        return base_error(INFER_ERR_FORMAT, "%s has no section \"%s\"", f->path, name);
    if (st != INFER_OK)
        return st;
    if (bytes ? size % bytes || size / bytes != count : size)
        return base_error(INFER_ERR_FORMAT,
                          "%s: section \"%s\", at byte %llu, has %zu bytes, %zu times %zu were "
                          "expected",
                          f->path, name, SHOW(found - f->map.data), size, count, bytes);
    *data = found;
    return INFER_OK;
}

/* ------------------------------------------------------------------- verify */

static infer_status verify_section(const struct vector_file *f, const struct section *s,
                                   const uint8_t *sums, uint8_t *block)
{
    for (uint64_t at = 0; at < s->size; at += VECTOR_FILE_BLOCK, sums += 8) {
        const size_t n = (size_t)BASE_MIN(s->size - at, (uint64_t)VECTOR_FILE_BLOCK);
        infer_status st = base_file_read(f->fd, f->path, s->offset + at, block, n);
        if (st != INFER_OK)
            return st;
        if (base_hash64(block, n, 0) != base_get_u64(sums))
            return base_error(INFER_ERR_FORMAT,
                              "%s is damaged: section \"%s\" between bytes %llu and %llu", f->path,
                              s->name, SHOW(s->offset + at), SHOW(s->offset + at + n));
    }
    return INFER_OK;
}

/* What lies between two sections. */
static infer_status verify_gap(const struct vector_file *f, uint64_t begin, uint64_t end,
                               uint8_t *block)
{
    infer_status st = base_file_read(f->fd, f->path, begin, block, (size_t)(end - begin));
    for (uint64_t i = 0; st == INFER_OK && i < end - begin; i++)
        if (block[i])
            st = base_error(INFER_ERR_FORMAT, "%s is damaged: byte %llu is not 0", f->path,
                            SHOW(begin + i));
    return st;
}

/* By read(), as a bad disk or a file that was cut would end the process by way of the mapping. */
infer_status vector_file_verify(const struct vector_file *f)
{
    uint8_t *table = NULL, *block = base_new_raw(&f->alloc, VECTOR_FILE_BLOCK, 1);
    uint8_t header[VECTOR_FILE_HEADER];
    uint64_t end = VECTOR_FILE_HEADER;
    infer_status st = block ? INFER_OK : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = base_file_read(f->fd, f->path, 0, header, sizeof header);
    if (st == INFER_OK &&
        !vector_file_sum_is(header + HEAD_SUM, base_hash128_plain(header, HEAD_SUM)))
        st = base_error(INFER_ERR_FORMAT,
                        "%s is damaged: the checksum of its header, at byte 0, is wrong", f->path);
    if (st == INFER_OK)
        st = read_table(f, &table);
    for (uint32_t i = 0; st == INFER_OK && i < f->n_sections; i++) {
        const struct section *s = &f->sections[i];
        st = verify_gap(f, end, s->offset, block);
        if (st == INFER_OK)
            st = verify_section(f, s, table + s->sums, block);
        end = s->offset + s->size;
    }
    if (st == INFER_OK)
        st = verify_gap(f, end, f->table, block);
    base_free(&f->alloc, table);
    base_free(&f->alloc, block);
    return st;
}

size_t vector_file_size(const struct vector_file *f)
{
    return f->map.size;
}

const char *vector_file_path(const struct vector_file *f)
{
    return f->path;
}
