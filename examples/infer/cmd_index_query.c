/* infer index query: the records nearest to a text, a vector or a record. */
#include "command.h"
#include "index_commands.h"
#include "index_host.h"
#include "json_in.h"
#include "terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct query {
    struct index_host h;
    const char *text, *vector_text, *id, *filter;
    int64_t top_k, ef;
    double recall;
    int exact, metadata, vectors, as_json;
    infer_index_info info;
    float *vector;
};

static int read_vector(struct query *q)
{
    char error[256];
    struct json_value array, element;
    struct json_walk walk;
    int32_t n = 0;
    double value = 0;
    if (json_in_check(&array, q->vector_text, strlen(q->vector_text), error, sizeof error) != 0) {
        terminal_error("--vector: %s", error);
        return STATUS_USAGE;
    }
    if (array.kind != JSON_ARRAY)
        return args_wrong("index query", "--vector is no array of numbers");
    for (walk = json_walk_begin(&array); json_walk_next(&walk, NULL, &element); n++) {
        if (json_in_f64(&element, &value) != 0)
            return args_wrong("index query", "element %d of --vector is no number", (int)n);
        if (n < q->info.dims)
            q->vector[n] = (float)value;
    }
    if (n == q->info.dims)
        return STATUS_OK;
    terminal_error("--vector has %d elements, those of %s have %d", (int)n, q->h.path,
                   (int)q->info.dims);
    return STATUS_FAILED;
}

static int make_vector(struct query *q)
{
    q->info.struct_size = sizeof q->info;
    if (infer_index_get_info(q->h.index, &q->info) != INFER_OK)
        return host_failed();
    if (q->id)
        return STATUS_OK;
    if (q->text && q->h.embedding.dims != q->info.dims) {
        terminal_error("%s gives vectors of %d dimensions, those of %s have %d", q->h.host.path,
                       (int)q->h.embedding.dims, q->h.path, (int)q->info.dims);
        return STATUS_FAILED;
    }
    q->vector = calloc((size_t)q->info.dims, sizeof *q->vector);
    if (!q->vector) {
        terminal_error("no memory");
        return STATUS_FAILED;
    }
    return q->text ? index_host_embed(&q->h, q->vector, &q->text, NULL, 1, INFER_EMBED_AS_QUERY)
                   : read_vector(q);
}

static int print_json(const struct query *q, const infer_hits *hits)
{
    static const char *const paths[] = {"",      "flat",           "list",
                                        "graph", "graph_filtered", "partitions"};
    infer_search_info info = {.struct_size = sizeof info};
    struct json_out json = {0};
    if (infer_hits_info(hits, 0, &info) != INFER_OK)
        return host_failed();
    json_open(&json, NULL, '{');
    json_string(&json, "path", info.path >= 1 && info.path <= 5 ? paths[info.path] : "unknown");
    json_int(&json, "ef", info.ef);
    json_uint(&json, "compared", info.n_compared);
    json_open(&json, "hits", '[');
    for (size_t i = 0; i < infer_hits_count(hits, 0); i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        if (infer_hits_at(hits, 0, i, &hit) == INFER_OK)
            index_host_write_hit(&json, &hit, q->info.dims, 1);
    }
    json_close(&json, ']');
    json_close(&json, '}');
    return json_print(&json);
}

static int print_lines(const infer_hits *hits)
{
    for (size_t i = 0; i < infer_hits_count(hits, 0); i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        if (infer_hits_at(hits, 0, i, &hit) != INFER_OK)
            return host_failed();
        printf("%9.5f  %s  %.*s\n", (double)hit.score, hit.id, (int)hit.metadata_size,
               hit.metadata ? hit.metadata : "");
    }
    return STATUS_OK;
}

static int ask(struct query *q)
{
    infer_hits *hits = NULL;
    infer_index_query query = {.struct_size = sizeof query,
                               .vector = q->vector,
                               .id = q->id,
                               .ns = q->h.ns,
                               .filter = q->filter,
                               .top_k = (int32_t)q->top_k,
                               .recall = q->exact ? 1 : (float)q->recall,
                               .ef = (int32_t)q->ef};
    int status;
    query.with = (q->metadata || !q->as_json ? INFER_INDEX_WITH_METADATA : 0) |
                 (q->vectors ? INFER_INDEX_WITH_VECTOR : 0);
    query.stamp = q->text ? &q->h.stamp : NULL;
    if (infer_index_search(&hits, q->h.index, &query, 1) != INFER_OK)
        return host_failed();
    status = q->as_json ? print_json(q, hits) : print_lines(hits);
    infer_hits_destroy(&hits);
    return status;
}

static int work(struct query *q)
{
    int status;
    if ((q->text != NULL) + (q->vector_text != NULL) + (q->id != NULL) != 1)
        return args_wrong("index query", "one of --text, --vector and --id is needed");
    if (q->text && !q->h.host.path)
        return args_wrong("index query", "--text needs --model");
    q->h.options.read_only = 1;
    q->h.options.must_exist = 1;
    status = index_host_open_model(&q->h);
    if (status == STATUS_OK)
        status = index_host_open(&q->h);
    if (status == STATUS_OK)
        status = make_vector(q);
    return status == STATUS_OK ? ask(q) : status;
}

int command_index_query(int argc, char **argv)
{
    struct query q = {0};
    const struct args_option options[] = {
        INDEX_OPTIONS(q.h),
        INDEX_MODEL_OPTIONS(q.h),
        ARGS_ROW(ARGS_TEXT, "--text", "TEXT", q.text, "what to look for; needs --model"),
        ARGS_ROW(ARGS_TEXT, "--vector", "JSON", q.vector_text, "an array of numbers"),
        ARGS_ROW(ARGS_TEXT, "--id", "ID", q.id, "a record of the index, for others like it"),
        ARGS_ROW(ARGS_TEXT, "--filter", "JSON", q.filter, "such as {\"year\":{\"$gte\":2020}}"),
        ARGS_ROW_MIN(ARGS_COUNT, "--top-k", "N", q.top_k, 1, "records to find (default: 10)"),
        ARGS_ROW(ARGS_NUMBER, "--recall", "X", q.recall,
                 "share of the true ones to find (default: 0.95)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--ef", "N", q.ef, 1, "candidates to keep, instead of --recall"),
        ARGS_ROW(ARGS_FLAG, "--exact", NULL, q.exact, "compare all"),
        ARGS_ROW(ARGS_COUNT, "--device", "N", q.h.device_index,
                 "GPU of `infer devices` that searches (default: none)"),
        ARGS_ROW(ARGS_FLAG, "--metadata", NULL, q.metadata, "with --json: metadata too"),
        ARGS_ROW(ARGS_FLAG, "--vectors", NULL, q.vectors, "with --json: vectors too"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, q.as_json,
                 "{\"path\":...,\"ef\":n,\"compared\":n,\"hits\":[{\"id\":...,\"score\":x}]}"),
    };
    const struct args_command command = {
        "index query",
        "Finds the records nearest to a text, a vector or a record: the score, larger is\n"
        "closer, the id, and the metadata.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = work(&q);
    free(q.vector);
    index_host_close(&q.h);
    return status;
}
