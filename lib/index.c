/* Public: <infer/index.h>, opening, writing and upkeep. */
#include "vector/index.h"
#include "handle.h"
#include "text/unicode.h"
#include "vector/space.h"

#include <infer/index.h>
#include <string.h>

#define NAME_MAX_BYTES     255
#define DEFAULT_DEGREE     32
#define DEFAULT_EFFORT     200
#define THREADS_MAX        1024
#define FIELD_BYTES_MAX    1024
#define FLAG_IS_NEITHER(f) ((f) < 0 || (f) > 1)

static infer_status check_range(const char *name, int32_t value, int32_t least, int32_t most)
{
    if (value >= least && value <= most)
        return INFER_OK;
    return base_error(INFER_ERR_INVALID, "infer_index_options.%s is %d, expected %d to %d", name,
                      value, least, most);
}

static infer_status check_options(const infer_index_options *o, const char *path)
{
    const struct {
        const char *name;
        int32_t value, least, most;
    } fields[] = {
        {"dims", o->dims, path ? 0 : 1, VECTOR_DIMS_MAX},
        {"metric", o->metric, INFER_METRIC_COSINE, INFER_METRIC_L2},
        {"type", o->type, INFER_INDEX_F32, INFER_INDEX_BINARY},
        {"sync", o->sync, INFER_INDEX_SYNC_CALL, INFER_INDEX_SYNC_OS},
        {"read_only", o->read_only, 0, path != NULL},
        {"must_exist", o->must_exist, 0, path != NULL},
        {"n_threads", o->n_threads, 0, THREADS_MAX},
        {"disable_compaction", o->disable_compaction, 0, 1},
        {"build", o->build, INFER_INDEX_BUILD_GRAPH, INFER_INDEX_BUILD_PARTITIONS},
        {"reserved", o->reserved > 0, 0, 0},
        {"graph_degree", o->graph_degree ? o->graph_degree : DEFAULT_DEGREE, 4, 128},
        {"graph_effort", o->graph_effort ? o->graph_effort : DEFAULT_EFFORT, 8, 4096},
    };
    infer_status st = INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(fields) && st == INFER_OK; i++)
        st = check_range(fields[i].name, fields[i].value, fields[i].least, fields[i].most);
    if (st == INFER_OK && path && !*path)
        st = base_error(INFER_ERR_INVALID, "path is empty");
    return st;
}

static infer_status take_stamp(struct vector_traits *traits, const infer_index_stamp *given,
                               infer_index_stamp *copy)
{
    infer_status st = base_options_copy(copy, sizeof *copy, given, "infer_index_stamp");
    if (st != INFER_OK)
        return st;
    if (FLAG_IS_NEITHER(copy->normalized) || copy->reserved)
        return base_error(INFER_ERR_INVALID,
                          "infer_index_stamp.normalized is 0 or 1, and reserved is 0");
    traits->model = copy->model ? copy->model : "";
    traits->pooling = copy->pooling ? copy->pooling : "";
    traits->normalized = copy->normalized;
    return INFER_OK;
}

infer_status infer_index_open(infer_index **out, const char *path,
                              const infer_index_options *options)
{
    REQUIRE(out);
    infer_index_options o;
    infer_index_stamp stamp;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_index_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &base_alloc_default);
    if (st == INFER_OK)
        st = check_options(&o, path);
    if (st != INFER_OK)
        return st;
    struct vector_index_config config = {
        .alloc = &alloc,
        .path = path,
        .traits = {.dims = o.dims,
                   .metric = o.metric,
                   .type = o.type,
                   .degree = o.graph_degree ? o.graph_degree : DEFAULT_DEGREE,
                   .effort = o.graph_effort ? o.graph_effort : DEFAULT_EFFORT},
        .sync = o.sync,
        .read_only = o.read_only,
        .must_exist = o.must_exist,
        .n_threads = o.n_threads,
        .no_background = o.disable_compaction,
        .no_graph = o.build == INFER_INDEX_BUILD_PARTITIONS,
        .device = o.device,
        .progress = o.progress,
        .user = o.progress_user_data,
    };
    st = take_stamp(&config.traits, o.stamp, &stamp);
    return st == INFER_OK ? vector_index_open(out, &config) : st;
}

void infer_index_destroy(infer_index **index)
{
    if (index)
        vector_index_close(index);
}

static int is_text(const char *text)
{
    const size_t n = strnlen(text, NAME_MAX_BYTES + 1);
    return text_utf8_valid_prefix(text, n) == n;
}

infer_status infer_index_upsert(infer_index *index, const infer_record *records, size_t n)
{
    REQUIRE(index);
    if (n)
        REQUIRE(records);
    for (size_t i = 0; i < n; i++)
        if ((records[i].id && !is_text(records[i].id)) ||
            (records[i].ns && !is_text(records[i].ns)))
            return base_error(INFER_ERR_INVALID,
                              "record %zu: its id or its namespace is no UTF-8 of up to %d bytes",
                              i, NAME_MAX_BYTES);
    return vector_index_upsert(index, records, n);
}

static struct base_view name_of(const char *ns)
{
    return (struct base_view){ns ? ns : "", ns ? strnlen(ns, NAME_MAX_BYTES + 1) : 0};
}

infer_status infer_index_delete(infer_index *index, const char *ns, const char *const *ids,
                                size_t n, size_t *n_deleted)
{
    REQUIRE(index);
    for (size_t i = 0; i < n; i++)
        if (!ids || !ids[i])
            return base_error(INFER_ERR_INVALID, "id %zu is NULL", i);
    return vector_index_delete(index, name_of(ns), ids, n, n_deleted);
}

infer_status infer_index_delete_where(infer_index *index, const char *ns, const char *filter,
                                      size_t *n_deleted)
{
    REQUIRE(index);
    return vector_index_delete_where(index, name_of(ns), filter, n_deleted);
}

infer_status infer_index_add_field(infer_index *index, const char *path)
{
    REQUIRE(index);
    REQUIRE(path);
    const size_t n = strnlen(path, FIELD_BYTES_MAX + 1);
    if (!n || n > FIELD_BYTES_MAX || text_utf8_valid_prefix(path, n) != n)
        return base_error(INFER_ERR_INVALID, "the path of a field is UTF-8 of 1 to %d bytes",
                          FIELD_BYTES_MAX);
    return vector_index_add_field(index, path);
}

infer_status infer_index_get_info(infer_index *index, infer_index_info *info)
{
    REQUIRE(index);
    struct vector_counts c;
    infer_status st = base_info_check(info, "infer_index_info");
    if (st == INFER_OK)
        st = vector_index_counts(index, &c);
    if (st != INFER_OK)
        return st;
    const infer_index_info full = {
        .dims = c.traits.dims,
        .metric = c.traits.metric,
        .type = c.traits.type,
        .n_namespaces = c.n_spaces,
        .n_segments = c.n_parts,
        .graph_degree = c.traits.degree,
        .graph_effort = c.traits.effort,
        .read_only = c.read_only,
        .n_records = c.n_records,
        .n_deleted = c.n_deleted,
        .memory_bytes = c.memory_bytes,
        .mapped_bytes = c.mapped_bytes,
        .file_bytes = c.file_bytes,
        .log_bytes = c.log_bytes,
        .n_queries = c.n_queries,
        .n_upserts = c.n_upserts,
        .n_deletes = c.n_deletes,
        .n_compactions = c.n_compactions,
        .stamp = {.struct_size = sizeof full.stamp,
                  .model = c.traits.model,
                  .pooling = c.traits.pooling,
                  .normalized = c.traits.normalized},
        .failure = c.failure,
        .device_bytes = c.device_bytes,
        .n_on_device = c.n_on_device,
        .device_failure = c.device_failure,
    };
    return base_info_copy(info, &full, sizeof full, "infer_index_info");
}

infer_status infer_index_compact(infer_index *index)
{
    REQUIRE(index);
    return vector_index_compact(index);
}

infer_status infer_index_verify(infer_index *index)
{
    REQUIRE(index);
    return vector_index_verify(index);
}

infer_status infer_index_snapshot(infer_index *index, const char *path)
{
    REQUIRE(index);
    REQUIRE(path);
    return vector_index_snapshot(index, path);
}
