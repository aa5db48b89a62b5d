/* Metadata as sections of a file: texts one behind the other, where each ends, the indexed fields'
 * paths and a column of each. */
#include "vector/meta_internal.h"

#include "base/array.h"
#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define NAME_TEXTS  "meta.texts"
#define NAME_BASES  "meta.bases"
#define NAME_ENDS   "meta.ends"
#define NAME_FIELDS "meta.fields" /* paths, each with a 0 behind */

static void column_name(char out[VECTOR_FILE_NAME_MAX + 1], int32_t i)
{
    snprintf(out, VECTOR_FILE_NAME_MAX + 1, "meta.field.%d", i);
}

/* ------------------------------------------------------------------ writing */

struct output {
    struct vector_file_writer *writer;
    struct vector_meta_builder builder;
    uint64_t *bases;
    uint32_t *ends;
    int32_t n;
    uint64_t n_bytes;
};

static size_t count_bases(size_t n_rows)
{
    return BASE_DIV_UP(n_rows, (size_t)META_BLOCK) + 1;
}

static int is_dead(const struct vector_meta_source *s, int32_t row)
{
    return s->dead && (s->dead[row / 64] >> (row % 64) & 1);
}

static infer_status count_rows(const struct vector_meta_source *sources, int32_t n, size_t *n_rows)
{
    *n_rows = 0;
    for (int32_t i = 0; i < n; i++) {
        if (sources[i].n_rows < 0 || sources[i].n_rows > vector_meta_size(sources[i].meta))
            return base_error(INFER_ERR_INVALID,
                              "%d rows of metadata are to be written, of %d that there are",
                              sources[i].n_rows, vector_meta_size(sources[i].meta));
        for (int32_t row = 0; row < sources[i].n_rows; row++)
            *n_rows += !is_dead(&sources[i], row);
    }
    return *n_rows < INT32_MAX ? INFER_OK
                               : base_error(INFER_ERR_LIMIT,
                                            "metadata of %zu rows in one file; less than 2^31 are "
                                            "expected",
                                            *n_rows);
}

static infer_status write_texts(struct output *o, const struct vector_meta_source *source)
{
    infer_status st = INFER_OK;
    for (int32_t row = 0; row < source->n_rows && st == INFER_OK; row++) {
        const char *json;
        size_t size;
        if (is_dead(source, row))
            continue;
        st = vector_meta_text(source->meta, row, &json, &size);
        if (st == INFER_OK && size)
            st = vector_file_append(o->writer, json, size);
        if (st == INFER_OK)
            st = vector_meta_builder_add(&o->builder, o->n, json, size);
        if (o->n % META_BLOCK == 0)
            o->bases[o->n / META_BLOCK] = o->n_bytes;
        o->n_bytes += size;
        o->ends[o->n] = (uint32_t)(o->n_bytes - o->bases[o->n / META_BLOCK]);
        o->n++;
    }
    return st;
}

static infer_status write_fields(struct output *o, const char *const *fields)
{
    infer_status st = vector_file_begin(o->writer, NAME_FIELDS, 64);
    for (int32_t i = 0; i < o->builder.n && st == INFER_OK; i++)
        st = vector_file_append(o->writer, fields[i], strlen(fields[i]) + 1);
    for (int32_t i = 0; i < o->builder.n && st == INFER_OK; i++) {
        char name[VECTOR_FILE_NAME_MAX + 1];
        struct vector_column *column;
        st = vector_column_builder_finish(&o->builder.fields[i], o->n, &column);
        if (st != INFER_OK)
            break;
        column_name(name, i);
        st = vector_column_write(column, o->writer, name);
        vector_column_drop(&column);
    }
    return st;
}

static infer_status views_of(const char *const *fields, int32_t n, struct base_view *views)
{
    infer_status st = INFER_OK;
    if (n > VECTOR_FIELDS_MAX)
        return base_error(INFER_ERR_LIMIT, "%d indexed fields; at most %d are kept", n,
                          VECTOR_FIELDS_MAX);
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        st = vector_meta_check_path(fields[i]);
        views[i] = (struct base_view){fields[i], strlen(fields[i])};
        for (int32_t j = 0; j < i && st == INFER_OK; j++)
            if (strcmp(fields[i], fields[j]) == 0)
                st = base_error(INFER_ERR_INVALID, "the field \"%.64s\" is to be indexed twice",
                                fields[i]);
    }
    return st;
}

infer_status vector_meta_write(const struct vector_meta_source *sources, int32_t n,
                               const struct base_alloc *a, const char *const *fields,
                               int32_t n_fields, struct vector_file_writer *writer)
{
    struct base_view views[VECTOR_FIELDS_MAX];
    struct output o = {.writer = writer};
    size_t n_rows;
    infer_status st = count_rows(sources, n, &n_rows);
    if (st == INFER_OK)
        st = views_of(fields, n_fields, views);
    if (st == INFER_OK)
        st = vector_meta_builder_init(&o.builder, a, views, n_fields);
    if (st != INFER_OK)
        return st;
    o.bases = base_new(a, count_bases(n_rows), sizeof *o.bases);
    o.ends = base_new_pages(a, n_rows * sizeof *o.ends);
    if (!o.bases || !o.ends)
        st = INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = vector_file_begin(writer, NAME_TEXTS, 64);
    for (int32_t i = 0; i < n && st == INFER_OK; i++)
        st = write_texts(&o, &sources[i]);
    if (st == INFER_OK) {
        o.bases[count_bases(n_rows) - 1] = o.n_bytes;
        st = vector_file_section(writer, NAME_BASES, o.bases, count_bases(n_rows) * 8);
    }
    if (st == INFER_OK)
        st = vector_file_section(writer, NAME_ENDS, o.ends, n_rows * sizeof *o.ends);
    if (st == INFER_OK)
        st = write_fields(&o, fields);
    base_free(a, o.bases);
    base_free_pages(a, o.ends, n_rows * sizeof *o.ends);
    vector_meta_builder_release(&o.builder);
    return st;
}

/* ------------------------------------------------------------------ opening */

static infer_status open_texts(struct vector_meta *m, const struct vector_file *file)
{
    const uint8_t *bases, *ends;
    size_t size, bases_size, n_bytes;
    infer_status st = vector_file_find(file, NAME_BASES, &bases, &bases_size);
    if (st == INFER_OK)
        st = vector_file_find(file, NAME_ENDS, &ends, &size);
    if (st == INFER_OK)
        st = vector_file_find(file, NAME_TEXTS, &m->bytes, &n_bytes);
    if (st == INFER_ERR_NOT_FOUND)
        return base_error(INFER_ERR_FORMAT,
                          "%s has no metadata: the sections \"%s\", \"%s\" and \"%s\" are "
                          "expected",
                          vector_file_path(file), NAME_BASES, NAME_ENDS, NAME_TEXTS);
    if (st != INFER_OK)
        return st;
    m->file = file;
    m->bases = (const uint64_t *)(const void *)bases;
    m->ends = (const uint32_t *)(const void *)ends;
    m->n_bytes = n_bytes;
    if (size % 4 || size / 4 >= INT32_MAX || bases_size != count_bases(size / 4) * 8 ||
        (size && m->bases[0]) || m->bases[bases_size / 8 - 1] != n_bytes)
        return base_error(
            INFER_ERR_FORMAT,
            "the %zu bytes of section \"%s\" of %s do not divide %zu bytes of metadata", size,
            NAME_ENDS, vector_file_path(file), n_bytes);
    atomic_store_explicit(&m->n, (int32_t)(size / 4), memory_order_release);
    return INFER_OK;
}

/* Reads the next path; 0 where there is none. */
static int next_path(const uint8_t **at, const uint8_t *end, const char **path)
{
    const uint8_t *zero = memchr(*at, 0, (size_t)(end - *at));
    *path = (const char *)*at;
    if (zero)
        *at = zero + 1;
    return zero != NULL;
}

static infer_status open_fields(struct vector_meta *m, const struct vector_file *file)
{
    const uint8_t *at = NULL;
    size_t size = 0;
    int32_t n = 0;
    infer_status st = vector_file_find(file, NAME_FIELDS, &at, &size);
    const uint8_t *end = size ? at + size : at;
    for (size_t i = 0; st == INFER_OK && i < size; i++)
        n += at[i] == 0;
    if (st == INFER_ERR_NOT_FOUND ||
        (st == INFER_OK && (n > VECTOR_FIELDS_MAX || (size && end[-1]))))
        return base_error(INFER_ERR_FORMAT, "section \"%s\" of %s is no list of up to %d fields",
                          NAME_FIELDS, vector_file_path(file), VECTOR_FIELDS_MAX);
    if (st != INFER_OK)
        return st;
    struct vector_meta_index *index = vector_meta_index_copy(NULL, &m->alloc, n);
    if (!index)
        return INFER_ERR_NO_MEMORY;
    index->end = m->n;
    vector_meta_index_drop(&m->index);
    m->index = index;
    for (const char *path; index->n < n && next_path(&at, end, &path);) {
        struct vector_meta_field *field = &index->fields[index->n];
        char name[VECTOR_FILE_NAME_MAX + 1];
        st = vector_meta_check_path(path);
        if (st != INFER_OK)
            return base_error_prefix(INFER_ERR_FORMAT, "section \"%s\" of %s", NAME_FIELDS,
                                     vector_file_path(file));
        column_name(name, index->n);
        st = vector_column_open(&field->stack.columns[0], &m->alloc, file, name, m->n);
        if (st != INFER_OK)
            return st;
        field->path = (struct base_view){path, strlen(path)};
        field->stack.n = 1;
        index->n++;
    }
    return INFER_OK;
}

infer_status vector_meta_open(struct vector_meta **out, const struct base_alloc *a,
                              const struct vector_file *file)
{
    struct vector_meta *m;
    infer_status st = vector_meta_new(&m, a);
    if (st != INFER_OK)
        return st;
    st = open_texts(m, file);
    if (st == INFER_OK)
        st = open_fields(m, file);
    if (st == INFER_OK)
        *out = m;
    else
        vector_meta_destroy(&m);
    return st;
}
