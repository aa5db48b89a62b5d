/* Writing rows of vectors. */
#include "vector_out.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed(struct vector_out *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int failed(struct vector_out *out, const char *format, ...)
{
    va_list args;
    int n = snprintf(out->error, sizeof out->error, "%.400s: ", out->path);
    va_start(args, format);
    vsnprintf(out->error + n, sizeof out->error - (size_t)n, format, args);
    va_end(args);
    return -1;
}

static int write_bytes(struct vector_out *out, const void *data, size_t size)
{
    return fwrite(data, 1, size, out->file) == size
               ? 0
               : failed(out, "cannot write: %s", strerror(errno));
}

/* How many rows there are, .npy says in front of them: it is written twice. */
static int write_head(struct vector_out *out)
{
    unsigned char head[NPY_HEAD_MADE];
    npy_write(head, out->n_rows, (uint64_t)out->dims);
    return write_bytes(out, head, sizeof head);
}

int vector_out_open(struct vector_out *out, const char *path, const char *name)
{
    const int is_stdout = strcmp(path, "-") == 0;
    *out = (struct vector_out){.path = path, .format = vector_format_of(name, path)};
    if (out->format == VECTOR_FORMAT_NONE)
        return failed(out, "vectors are written as .fvecs, .bvecs, .ivecs, .npy or .jsonl");
    if (is_stdout && out->format == VECTOR_NPY)
        return failed(out, "a .npy file cannot go to stdout: its head comes last");
    out->raw = malloc((size_t)VECTOR_DIMS_MAX * 4 + 4);
    out->part = is_stdout ? NULL : malloc(strlen(path) + sizeof ".part");
    if (!out->raw || (!is_stdout && !out->part))
        return failed(out, "out of memory");
    if (is_stdout) {
        out->file = stdout;
    } else {
        sprintf(out->part, "%s.part", path);
        out->file = fopen(out->part, "wbe");
        if (!out->file)
            return failed(out, "cannot create %.300s: %s", out->part, strerror(errno));
    }
    return out->format == VECTOR_NPY ? write_head(out) : 0;
}

static void put_u32(unsigned char *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(value >> (8 * i));
}

static int write_vecs(struct vector_out *out, const struct vector_row *row)
{
    const int bytes = out->format == VECTOR_BVECS ? 1 : 4;
    const float low = out->format == VECTOR_BVECS ? 0 : -VECTOR_WHOLE_MAX;
    const float high = out->format == VECTOR_BVECS ? 255 : VECTOR_WHOLE_MAX;
    unsigned char *p = out->raw + 4;
    put_u32(out->raw, (uint32_t)row->dims);
    for (int32_t i = 0; i < row->dims; i++, p += bytes) {
        const float value = row->vector[i];
        if (out->format == VECTOR_FVECS) {
            memcpy(p, &value, sizeof value);
            continue;
        }
        if (!(value >= low && value <= high) || value != floorf(value))
            return failed(out,
                          "element %d of \"%.255s\" is %g, whole numbers from %.0f to %.0f fit",
                          (int)i, row->id, value, low, high);
        if (bytes == 1)
            *p = (unsigned char)value;
        else
            put_u32(p, (uint32_t)(int32_t)value);
    }
    return write_bytes(out, out->raw, (size_t)(p - out->raw));
}

static int write_line(struct vector_out *out, const struct vector_row *row)
{
    struct json_out *json = &out->json;
    json->buffer.size = 0;
    json->started = 0;
    json_open(json, NULL, '{');
    json_string(json, "id", row->id);
    if (row->ns[0])
        json_string(json, "ns", row->ns);
    json_open(json, "vector", '[');
    for (int32_t i = 0; i < row->dims; i++)
        json_float(json, NULL, row->vector[i]);
    json_close(json, ']');
    if (row->metadata)
        json_raw(json, "metadata", row->metadata, row->metadata_size);
    json_close(json, '}');
    buffer_append(&json->buffer, "\n", 1);
    /* Whoever wrote the metadata may have put it on several lines. */
    for (size_t i = 0; i + 1 < json->buffer.size; i++)
        if (json->buffer.data[i] == '\n' || json->buffer.data[i] == '\r')
            json->buffer.data[i] = ' ';
    return json->buffer.failed ? failed(out, "out of memory")
                               : write_bytes(out, json->buffer.data, json->buffer.size);
}

int vector_out_row(struct vector_out *out, const struct vector_row *row)
{
    int status;
    if (row->dims < 1 || row->dims > VECTOR_DIMS_MAX || (out->n_rows && row->dims != out->dims))
        return failed(out, "\"%.255s\" has %d elements, those before have %d", row->id,
                      (int)row->dims, (int)out->dims);
    out->dims = row->dims;
    if (out->format == VECTOR_JSONL)
        status = write_line(out, row);
    else if (out->format == VECTOR_NPY)
        status = write_bytes(out, row->vector, (size_t)row->dims * sizeof *row->vector);
    else
        status = write_vecs(out, row);
    out->n_rows += status == 0;
    return status;
}

static int finish(struct vector_out *out)
{
    if (out->format == VECTOR_NPY && (fseek(out->file, 0, SEEK_SET) != 0 || write_head(out) != 0))
        return out->error[0] ? -1 : failed(out, "cannot write: %s", strerror(errno));
    if (fflush(out->file) != 0 || (out->part && fsync(fileno(out->file)) != 0))
        return failed(out, "cannot write: %s", strerror(errno));
    return 0;
}

int vector_out_close(struct vector_out *out, int keep)
{
    int status = keep && out->file ? finish(out) : 0;
    if (out->file && out->part) {
        if (fclose(out->file) != 0 && status == 0 && keep)
            status = failed(out, "cannot write: %s", strerror(errno));
        if (keep && status == 0 && rename(out->part, out->path) != 0)
            status = failed(out, "cannot put it in its place: %s", strerror(errno));
        if (!keep || status != 0)
            unlink(out->part);
    }
    free(out->part);
    free(out->raw);
    buffer_free(&out->json.buffer);
    out->part = NULL;
    out->raw = NULL;
    out->file = NULL;
    return status;
}
