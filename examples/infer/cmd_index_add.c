/* infer index add: records from files of vectors, of JSON lines, or of text. */
#include "command.h"
#include "index_batch.h"
#include "index_commands.h"
#include "json_in.h"
#include "json_out.h"
#include "line_reader.h"
#include "terminal.h"
#include "vector_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct add {
    struct index_host h;
    struct index_batch batch;
    struct args_list files, fields;
    const char *prefix;
    int metric, type, build, no_sync;
    struct terminal_bar bar;
    struct buffer id, ns, text;
    struct json_out metadata;
};

static const char *const metrics[] = {"cosine", "dot", "l2", NULL};
static const char *const types[] = {"f32", "f16", "bf16", "i8", "binary", NULL};
static const char *const builds[] = {"graph", "partitions", NULL};

/* Rows of files without ids are numbered over all files of a call. */
static int add_vectors(struct add *a, const char *path)
{
    struct vector_in in;
    struct vector_row row;
    char numbered[300];
    int more, status = STATUS_OK;
    more = vector_in_open(&in, path, NULL) == 0 ? 1 : -1;
    while (more > 0 && status == STATUS_OK && (more = vector_in_next(&in, &row)) > 0) {
        struct index_batch_row record = {.id = row.id,
                                         .ns = *row.ns ? row.ns : a->h.ns,
                                         .vector = row.vector,
                                         .dims = row.dims,
                                         .metadata = row.metadata,
                                         .metadata_size = row.metadata_size};
        if (a->prefix && in.format != VECTOR_JSONL) {
            snprintf(numbered, sizeof numbered, "%.255s%s", a->prefix, row.id);
            record.id = numbered;
        }
        status = index_batch_add(&a->batch, &record);
        if (in.n_rows)
            terminal_progress((double)in.number / (double)in.n_rows, "indexing", &a->bar);
    }
    if (more < 0) {
        terminal_error("%s", in.error);
        status = STATUS_FAILED;
    }
    vector_in_close(&in);
    return status;
}

static int wrong_line(const char *path, uint64_t line, const char *what)
{
    terminal_error("%s, line %llu: %s", path, (unsigned long long)line, what);
    return STATUS_FAILED;
}

/* {"id":...,"ns":...,"text":...,"metadata":{...}}; other members are no concern of this. */
static int add_line(struct add *a, const struct line_reader *in, const char *path)
{
    char error[256];
    struct json_value object, key, value;
    struct index_batch_row row = {0};
    struct json_walk walk;
    int has_text = 0, has_id = 0;
    if (json_in_check(&object, in->text, in->size, error, sizeof error) != 0)
        return wrong_line(path, in->number, error);
    if (object.kind != JSON_OBJECT)
        return wrong_line(path, in->number, "no object");
    a->id.size = a->ns.size = a->text.size = 0;
    for (walk = json_walk_begin(&object); json_walk_next(&walk, &key, &value);) {
        int is = 0;
#define NAMED(name)                                                                                \
    (key.size == sizeof(name) + 1 && memcmp(key.text + 1, name, sizeof(name) - 1) == 0)
        if (NAMED("id"))
            is = has_id = json_in_text(&value, &a->id) == 0 ? 1 : -1;
        else if (NAMED("ns"))
            is = json_in_text(&value, &a->ns) == 0 ? 1 : -1;
        else if (NAMED("text"))
            is = has_text = json_in_text(&value, &a->text) == 0 ? 1 : -1;
        else if (NAMED("metadata")) {
            row.metadata = value.text;
            row.metadata_size = value.size;
        }
#undef NAMED
        if (is < 0)
            return wrong_line(path, in->number, "id, ns and text are strings");
    }
    if (has_text != 1 || has_id != 1)
        return wrong_line(path, in->number, "id or text is missing");
    buffer_append(&a->id, "", 0);
    buffer_append(&a->ns, "", 0);
    row.id = a->id.data;
    row.ns = a->ns.size ? a->ns.data : a->h.ns;
    row.text = a->text.data;
    row.text_size = a->text.size;
    return index_batch_add(&a->batch, &row);
}

static int add_lines(struct add *a, const char *path)
{
    struct line_reader in = {.fd = strcmp(path, "-") == 0 ? 0 : open(path, O_RDONLY | O_CLOEXEC),
                             .limit = VECTOR_LINE_LIMIT};
    enum line_result got = LINE_END;
    int status = STATUS_OK;
    if (in.fd < 0) {
        terminal_error("cannot open %s: %s", path, strerror(errno));
        return STATUS_FAILED;
    }
    while (status == STATUS_OK && (got = line_reader_next(&in, 1)) != LINE_END) {
        if (got == LINE_READ && in.size > 0)
            status = add_line(a, &in, path);
        else if (got == LINE_TOO_LONG)
            status = wrong_line(path, in.number, "too long");
        else if (got == LINE_FAILED)
            status = wrong_line(path, in.number, strerror(errno));
    }
    line_reader_free(&in);
    if (in.fd > 0)
        close(in.fd);
    return status;
}

/* A paragraph is a record: FILE#n, with its text and file as metadata. */
static int add_paragraph(struct add *a, const char *path, size_t number, const char *text,
                         size_t size)
{
    char id[300];
    struct index_batch_row row = {.id = id, .ns = a->h.ns, .text = text, .text_size = size};
    snprintf(id, sizeof id, "%.230s#%zu", path, number);
    a->metadata.buffer.size = 0;
    a->metadata.started = 0;
    json_open(&a->metadata, NULL, '{');
    json_string(&a->metadata, "file", path);
    json_text(&a->metadata, "text", text, size);
    json_close(&a->metadata, '}');
    row.metadata = a->metadata.buffer.data;
    row.metadata_size = a->metadata.buffer.size;
    return index_batch_add(&a->batch, &row);
}

static int add_text(struct add *a, const char *path)
{
    struct buffer file = {0};
    size_t number = 0;
    int status = buffer_read(&file, path) == 0 ? STATUS_OK : STATUS_FAILED;
    const char *at = file.data, *end = file.data + file.size;
    while (status == STATUS_OK && at && at < end) {
        const char *gap = memmem(at, (size_t)(end - at), "\n\n", 2);
        const char *stop = gap ? gap : end;
        while (at < stop && strchr(" \t\r\n", *at))
            at++;
        if (at < stop)
            status = add_paragraph(a, path, ++number, at, (size_t)(stop - at));
        at = stop + (gap ? 2 : 0);
        terminal_progress((double)(at - file.data) / (double)file.size, "indexing", &a->bar);
    }
    buffer_free(&file);
    return status;
}

static int add_file(struct add *a, const char *path)
{
    enum vector_format format = vector_format_of(NULL, path);
    if (format == VECTOR_JSONL)
        return a->h.host.path ? add_lines(a, path) : add_vectors(a, path);
    if (format != VECTOR_FORMAT_NONE)
        return add_vectors(a, path);
    if (!a->h.host.path)
        return args_wrong("index add", "%s is text, which needs --model", path);
    return add_text(a, path);
}

static int add_fields(struct add *a)
{
    for (size_t i = 0; i < a->fields.n; i++)
        if (infer_index_add_field(a->h.index, a->fields.items[i]) != INFER_OK)
            return host_failed();
    return STATUS_OK;
}

static int work(struct add *a)
{
    int status;
    if (a->files.n == 0)
        return args_wrong("index add", "no files");
    a->h.options.metric = a->metric ? a->metric - 1 : 0;
    a->h.options.type = a->type ? a->type - 1 : 0;
    a->h.options.build = a->build ? a->build - 1 : 0;
    a->h.options.sync = a->no_sync ? INFER_INDEX_SYNC_OS : INFER_INDEX_SYNC_CALL;
    a->batch.h = &a->h;
    a->h.ns = a->h.ns ? a->h.ns : "";
    status = index_host_open_model(&a->h);
    for (size_t i = 0; i < a->files.n && status == STATUS_OK; i++)
        status = add_file(a, a->files.items[i]);
    if (status == STATUS_OK)
        status = index_batch_flush(&a->batch);
    if (status == STATUS_OK && a->h.index)
        status = add_fields(a);
    terminal_bar_clear(&a->bar);
    if (status == STATUS_OK)
        printf("%llu written\n", (unsigned long long)a->batch.n_written);
    return status;
}

int command_index_add(int argc, char **argv)
{
    struct add a = {0};
    const struct args_option options[] = {
        INDEX_OPTIONS(a.h),
        INDEX_MODEL_OPTIONS(a.h),
        ARGS_ROW(ARGS_OPERAND, "FILE...", NULL, a.files,
                 "JSON lines, .npy, .fvecs, .bvecs, .ivecs, or text"),
        ARGS_ROW_CHOICE("--metric", "METRIC", a.metric, metrics,
                        "of a new index: cosine, dot or l2 (default: cosine)"),
        ARGS_ROW_CHOICE("--type", "TYPE", a.type, types,
                        "of a new index: f32, f16, bf16, i8 or binary (default: f32)"),
        ARGS_ROW_CHOICE("--build", "BUILD", a.build, builds,
                        "graph, or partitions for a quarter of the time (default: graph)"),
        ARGS_ROW(ARGS_LIST, "--field", "PATH", a.fields,
                 "make a field of the metadata fast to filter by"),
        ARGS_ROW(ARGS_TEXT, "--prefix", "TEXT", a.prefix, "put before the numbers of rows as ids"),
        ARGS_ROW(ARGS_FLAG, "--no-sync", NULL, a.no_sync,
                 "do not wait for the disk after each batch"),
    };
    const struct args_command command = {
        "index add",
        "Writes records into an index, which is made where it is not there. With --model\n"
        "lines of JSON and files of text are embedded; paragraphs of text become records.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = work(&a);
    index_batch_free(&a.batch);
    buffer_free(&a.id);
    buffer_free(&a.ns);
    buffer_free(&a.text);
    buffer_free(&a.metadata.buffer);
    index_host_close(&a.h);
    return status;
}
