/* Reading rows of vectors. Memory is one row, whatever the file says. */
#include "vector_in.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(struct vector_in *in, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "PATH: " and what is wrong. */
static int failed(struct vector_in *in, const char *format, ...)
{
    va_list args;
    int n = snprintf(in->error, sizeof in->error, "%.400s: ", in->path);
    va_start(args, format);
    vsnprintf(in->error + n, sizeof in->error - (size_t)n, format, args);
    va_end(args);
    return -1;
}

enum vector_format vector_format_of(const char *name, const char *path)
{
    static const struct {
        const char *name;
        enum vector_format format;
    } formats[] = {{"fvecs", VECTOR_FVECS}, {"bvecs", VECTOR_BVECS}, {"ivecs", VECTOR_IVECS},
                   {"npy", VECTOR_NPY},     {"jsonl", VECTOR_JSONL}, {"ndjson", VECTOR_JSONL}};
    if (!name && strcmp(path, "-") == 0)
        return VECTOR_JSONL;
    if (!name) {
        name = strrchr(path, '.');
        if (!name)
            return VECTOR_FORMAT_NONE;
        name++;
    }
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(name, formats[i].name) == 0)
            return formats[i].format;
    return VECTOR_FORMAT_NONE;
}

/* ------------------------------------------------------------------- opening */

/* Reads exactly `size` bytes: 1, 0 at the end of the file, -1 where it ends within them. */
static int read_bytes(struct vector_in *in, void *out, size_t size)
{
    const size_t n = fread(out, 1, size, in->file);
    in->at += n;
    if (n == size)
        return 1;
    if (ferror(in->file))
        return failed(in, "cannot read: %s", strerror(errno));
    return n == 0 ? 0
                  : failed(in, "it ends at byte %llu, within row %llu", (unsigned long long)in->at,
                           (unsigned long long)in->number);
}

static int open_npy(struct vector_in *in)
{
    unsigned char first[NPY_FIRST + 2] = {0};
    size_t before = 0, size = 0;
    if (read_bytes(in, first, sizeof first) != 1)
        return failed(in, in->at ? "it ends within its head" : "it is empty");
    const char *wrong = npy_size(first, &before, &size);
    if (wrong)
        return failed(in, "%s", wrong);
    const size_t have = sizeof first - before; /* of the dictionary */
    if (size < have)
        return failed(in, "its head is too short");
    char *text = malloc(size);
    if (!text)
        return failed(in, "out of memory");
    memcpy(text, first + before, have);
    const int got = size > have ? read_bytes(in, text + have, size - have) : 1;
    wrong = got == 1 ? npy_read(&in->npy, text, size) : "it ends within its head";
    free(text);
    if (wrong)
        return failed(in, "%s", wrong);
    if (in->npy.columns > VECTOR_DIMS_MAX || (in->npy.rows && !in->npy.columns))
        return failed(in, "rows of %llu elements, 1 to %d were expected",
                      (unsigned long long)in->npy.columns, VECTOR_DIMS_MAX);
    const uint64_t row = in->npy.columns * (uint64_t)in->npy.element_bytes;
    if (in->has_size && (row ? in->npy.rows > UINT64_MAX / row : 0))
        return failed(in, "its shape is too large");
    if (in->has_size && in->size - in->at != in->npy.rows * row)
        return failed(in, "%llu rows of %llu bytes were expected behind byte %llu of %llu",
                      (unsigned long long)in->npy.rows, (unsigned long long)row,
                      (unsigned long long)in->at, (unsigned long long)in->size);
    in->dims = (int32_t)in->npy.columns;
    in->n_rows = in->npy.rows;
    return 0;
}

int vector_in_open(struct vector_in *in, const char *path, const char *name)
{
    struct stat about = {0};
    *in = (struct vector_in){.path = path, .format = vector_format_of(name, path)};
    if (in->format == VECTOR_FORMAT_NONE)
        return failed(in, "vectors are read as .fvecs, .bvecs, .ivecs, .npy or .jsonl");
    in->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (!in->file)
        return failed(in, "cannot open: %s", strerror(errno));
    if (fstat(fileno(in->file), &about) == 0 && S_ISREG(about.st_mode)) {
        in->has_size = in->file != stdin;
        in->size = (uint64_t)about.st_size;
    } else if (S_ISDIR(about.st_mode)) {
        return failed(in, "it is a folder");
    }
    in->raw = malloc((size_t)VECTOR_DIMS_MAX * 8);
    in->vector = malloc((size_t)VECTOR_DIMS_MAX * sizeof *in->vector);
    if (!in->raw || !in->vector)
        return failed(in, "out of memory");
    in->lines = (struct line_reader){.fd = fileno(in->file), .limit = VECTOR_LINE_LIMIT};
    return in->format == VECTOR_NPY ? open_npy(in) : 0;
}

void vector_in_close(struct vector_in *in)
{
    if (in->file && in->file != stdin)
        fclose(in->file);
    line_reader_free(&in->lines);
    buffer_free(&in->id);
    buffer_free(&in->ns);
    free(in->raw);
    free(in->vector);
    *in = (struct vector_in){0};
}

/* -------------------------------------------------------------- rows of numbers */

static int check_finite(struct vector_in *in)
{
    for (int32_t i = 0; i < in->dims; i++)
        if (!isfinite(in->vector[i]))
            return failed(in, "element %d of row %llu is no finite number", (int)i,
                          (unsigned long long)in->number);
    return 0;
}

/* The number of elements in front of a row: 1, 0 at the end, -1. */
static int read_dims(struct vector_in *in, size_t element_bytes)
{
    unsigned char head[4];
    const int got = read_bytes(in, head, sizeof head);
    if (got != 1)
        return got;
    const uint32_t dims =
        head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
    if (dims < 1 || dims > VECTOR_DIMS_MAX)
        return failed(in, "row %llu, at byte %llu, has %lu elements, 1 to %d were expected",
                      (unsigned long long)in->number, (unsigned long long)in->at - 4,
                      (unsigned long)dims, VECTOR_DIMS_MAX);
    if (in->dims && (int32_t)dims != in->dims)
        return failed(in, "row %llu, at byte %llu, has %lu elements, those before have %d",
                      (unsigned long long)in->number, (unsigned long long)in->at - 4,
                      (unsigned long)dims, (int)in->dims);
    if (!in->dims && in->has_size) {
        const uint64_t row = 4 + dims * (uint64_t)element_bytes;
        if (in->size % row != 0)
            return failed(in, "%llu bytes are no whole number of rows of %llu",
                          (unsigned long long)in->size, (unsigned long long)row);
        in->n_rows = in->size / row;
    }
    in->dims = (int32_t)dims;
    return 1;
}

static int32_t whole_at(const unsigned char *p)
{
    return (int32_t)(p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}

static int next_vecs(struct vector_in *in)
{
    const size_t bytes = in->format == VECTOR_BVECS ? 1 : 4;
    const int got = read_dims(in, bytes);
    if (got != 1)
        return got;
    if (read_bytes(in, in->raw, (size_t)in->dims * bytes) != 1)
        return in->error[0] ? -1
                            : failed(in, "it ends within row %llu", (unsigned long long)in->number);
    for (int32_t i = 0; i < in->dims; i++) {
        const int32_t whole = in->format == VECTOR_IVECS ? whole_at(in->raw + 4 * (size_t)i) : 0;
        if (whole > VECTOR_WHOLE_MAX || whole < -VECTOR_WHOLE_MAX)
            return failed(in, "element %d of row %llu is %ld, which a float rounds", (int)i,
                          (unsigned long long)in->number, (long)whole);
        in->vector[i] = in->format == VECTOR_IVECS
                            ? (float)whole
                            : npy_element(bytes == 1 ? NPY_U1 : NPY_F4, in->raw, (size_t)i);
    }
    return check_finite(in) == 0 ? 1 : -1;
}

static int next_npy(struct vector_in *in)
{
    if (in->number == in->npy.rows)
        return 0;
    if (read_bytes(in, in->raw, (size_t)in->dims * (size_t)in->npy.element_bytes) != 1)
        return in->error[0]
                   ? -1
                   : failed(in, "it ends in front of row %llu of %llu",
                            (unsigned long long)in->number, (unsigned long long)in->npy.rows);
    for (int32_t i = 0; i < in->dims; i++)
        in->vector[i] = npy_element(in->npy.type, in->raw, (size_t)i);
    return check_finite(in) == 0 ? 1 : -1;
}

/* ------------------------------------------------------------------- JSON lines */

static int bad_line(struct vector_in *in, const char *what)
{
    return failed(in, "line %llu: %s", (unsigned long long)in->lines.number, what);
}

/* A text, or a whole number as its digits, that C reads up to its 0. */
static int take_name(struct vector_in *in, const char *key, const struct json_value *value,
                     struct buffer *out)
{
    char what[80];
    int64_t number;
    out->size = 0;
    if (value->kind == JSON_NUMBER && json_in_i64(value, &number) == 0) {
        snprintf(what, sizeof what, "%lld", (long long)number);
        buffer_append_text(out, what);
    } else if (json_in_text(value, out) != 0) {
        snprintf(what, sizeof what, "\"%s\" is no text and no whole number", key);
        return bad_line(in, what);
    }
    buffer_append(out, "", 0);
    if (out->failed)
        return failed(in, "out of memory");
    if (out->size > 255 || (out->size && memchr(out->data, 0, out->size))) {
        snprintf(what, sizeof what, "\"%s\" has more than 255 bytes, or a 0 among them", key);
        return bad_line(in, what);
    }
    return 0;
}

static int take_vector(struct vector_in *in, const struct json_value *value)
{
    struct json_value element, key;
    int32_t n = 0;
    if (value->kind != JSON_ARRAY)
        return bad_line(in, "\"vector\" is no array");
    struct json_walk walk = json_walk_begin(value);
    while (json_walk_next(&walk, &key, &element)) {
        double number;
        if (n == VECTOR_DIMS_MAX)
            return bad_line(in, "\"vector\" has more than 8192 elements");
        if (json_in_f64(&element, &number) != 0 || !isfinite((float)number))
            return failed(in, "line %llu: element %d of \"vector\" is no number that a float holds",
                          (unsigned long long)in->lines.number, (int)n);
        in->vector[n++] = (float)number;
    }
    if (!n)
        return bad_line(in, "\"vector\" is empty");
    if (in->dims && n != in->dims)
        return failed(in, "line %llu: \"vector\" has %d elements, those before have %d",
                      (unsigned long long)in->lines.number, (int)n, (int)in->dims);
    in->dims = n;
    return 0;
}

static int take_member(struct vector_in *in, struct vector_row *row, const char *key,
                       const struct json_value *value, unsigned *seen)
{
    static const char *const names[] = {"id", "ns", "vector", "metadata"};
    unsigned which = 0;
    while (which < 4 && strcmp(key, names[which]) != 0)
        which++;
    if (which == 4)
        return failed(in, "line %llu: \"%.60s\" is none of id, ns, vector and metadata",
                      (unsigned long long)in->lines.number, key);
    if (*seen & 1u << which)
        return failed(in, "line %llu: \"%s\" is there twice", (unsigned long long)in->lines.number,
                      key);
    *seen |= 1u << which;
    if (which == 0)
        return take_name(in, key, value, &in->id);
    if (which == 2)
        return take_vector(in, value);
    if (value->kind == JSON_NULL)
        return 0;
    if (which == 1)
        return take_name(in, key, value, &in->ns);
    if (value->kind != JSON_OBJECT)
        return bad_line(in, "\"metadata\" is no object");
    row->metadata = value->text;
    row->metadata_size = value->size;
    return 0;
}

static int take_line(struct vector_in *in, struct vector_row *row)
{
    char wrong[256];
    struct json_value line, key, value;
    struct buffer name = {0};
    unsigned seen = 0;
    int status = 0;
    if (json_in_check(&line, in->lines.text, in->lines.size, wrong, sizeof wrong) != 0)
        return bad_line(in, wrong);
    if (line.kind != JSON_OBJECT)
        return bad_line(in, "it is no object");
    in->ns.size = in->id.size = 0;
    struct json_walk walk = json_walk_begin(&line);
    while (status == 0 && json_walk_next(&walk, &key, &value)) {
        name.size = 0;
        if (json_in_text(&key, &name) != 0 || name.failed)
            status = failed(in, "out of memory");
        else
            status = take_member(in, row, name.data ? name.data : "", &value, &seen);
    }
    buffer_free(&name);
    if (status == 0 && !(seen & 1 && in->id.size))
        return bad_line(in, "it has no \"id\"");
    if (status == 0 && !(seen & 4))
        return bad_line(in, "it has no \"vector\"");
    return status;
}

static int next_line(struct vector_in *in, struct vector_row *row)
{
    for (;;) {
        switch (line_reader_next(&in->lines, 1)) {
        case LINE_LATER:
            continue;
        case LINE_END:
            return 0;
        case LINE_FAILED:
            return failed(in, "cannot read: %s", strerror(errno));
        case LINE_TOO_LONG:
            return bad_line(in, "it is too long");
        default:
            if (strspn(in->lines.text, " \t\r") == in->lines.size)
                continue;
            return take_line(in, row) == 0 ? 1 : -1;
        }
    }
}

int vector_in_next(struct vector_in *in, struct vector_row *row)
{
    char digits[24];
    *row = (struct vector_row){.ns = ""};
    const int got = in->format == VECTOR_JSONL ? next_line(in, row)
                    : in->format == VECTOR_NPY ? next_npy(in)
                                               : next_vecs(in);
    if (got != 1)
        return got;
    if (in->format != VECTOR_JSONL) {
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)in->number);
        in->id.size = 0;
        buffer_append_text(&in->id, digits);
        if (in->id.failed)
            return failed(in, "out of memory");
    }
    row->id = in->id.data;
    row->ns = in->ns.size ? in->ns.data : "";
    row->vector = in->vector;
    row->dims = in->dims;
    in->number++;
    return 1;
}
