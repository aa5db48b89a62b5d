/* infer index: vectors kept, searched and looked after from a shell. The word behind it chooses
 * what to do; what concerns the whole index is here. */
#include "command.h"
#include "index_commands.h"
#include "index_host.h"
#include "terminal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int parse(struct index_host *h, const char *name, const char *summary, int *as_json,
                 int argc, char **argv)
{
    const struct args_option options[] = {
        ARGS_ROW_REQUIRED("--index", "FOLDER", h->path, "the index"),
        ARGS_ROW_MIN(ARGS_COUNT, "--threads", "N", h->host.threads, 1,
                     "CPU threads (default: one per core)"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, *as_json, "print JSON"),
    };
    const struct args_command command = {name, summary, options,
                                         sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    return parsed == ARGS_GO ? -1 : parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
}

static const char *metric_name(infer_metric metric)
{
    static const char *const names[] = {"cosine", "dot", "l2"};
    return metric >= 0 && metric < 3 ? names[metric] : "unknown";
}

static const char *type_name(infer_index_type type)
{
    static const char *const names[] = {"f32", "f16", "bf16", "i8", "binary"};
    return type >= 0 && type < 5 ? names[type] : "unknown";
}

static int print_stats(const infer_index_info *info, int as_json)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"dims", (uint64_t)info->dims},
                {"records", info->n_records},
                {"deleted", info->n_deleted},
                {"namespaces", (uint64_t)info->n_namespaces},
                {"segments", (uint64_t)info->n_segments},
                {"file_bytes", info->file_bytes},
                {"log_bytes", info->log_bytes},
                {"memory_bytes", info->memory_bytes},
                {"mapped_bytes", info->mapped_bytes}};
    struct json_out json = {0};
    json_open(&json, NULL, '{');
    json_string(&json, "metric", metric_name(info->metric));
    json_string(&json, "type", type_name(info->type));
    if (!as_json)
        printf("%-13s %s, %s\n", "vectors", metric_name(info->metric), type_name(info->type));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_uint(&json, rows[i].name, rows[i].value);
        if (!as_json)
            printf("%-13s %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
    json_string(&json, "model", info->stamp.model);
    json_string(&json, "pooling", info->stamp.pooling);
    json_close(&json, '}');
    if (as_json)
        return json_print(&json);
    buffer_free(&json.buffer);
    if (info->stamp.model && *info->stamp.model)
        printf("%-13s %s, pooling %s\n", "model", info->stamp.model, info->stamp.pooling);
    return STATUS_OK;
}

static int stats(int argc, char **argv)
{
    struct index_host h = {.options = {.read_only = 1, .must_exist = 1}};
    infer_index_info info = {.struct_size = sizeof info};
    int as_json = 0;
    int status = parse(&h, "index stats", "Prints what an index holds.", &as_json, argc, argv);
    if (status != -1)
        return status;
    status = index_host_open(&h);
    if (status == STATUS_OK)
        status = infer_index_get_info(h.index, &info) == INFER_OK ? print_stats(&info, as_json)
                                                                  : host_failed();
    index_host_close(&h);
    return status;
}

static int compact(int argc, char **argv)
{
    struct index_host h = {.options = {.must_exist = 1}};
    struct terminal_bar bar = {0};
    infer_index_info info = {.struct_size = sizeof info};
    int as_json = 0;
    int status = parse(&h, "index compact",
                       "Merges all parts of an index into one and reclaims what was deleted.",
                       &as_json, argc, argv);
    if (status != -1)
        return status;
    status = index_host_open(&h);
    if (status == STATUS_OK && infer_index_compact(h.index) != INFER_OK)
        status = host_failed();
    terminal_bar_clear(&bar);
    if (status == STATUS_OK)
        status = infer_index_get_info(h.index, &info) == INFER_OK ? print_stats(&info, as_json)
                                                                  : host_failed();
    index_host_close(&h);
    return status;
}

static int verify(int argc, char **argv)
{
    struct index_host h = {.options = {.read_only = 1, .must_exist = 1}};
    int as_json = 0;
    int status = parse(&h, "index verify", "Compares every byte of an index with its checksums.",
                       &as_json, argc, argv);
    if (status != -1)
        return status;
    status = index_host_open(&h);
    if (status == STATUS_OK && infer_index_verify(h.index) != INFER_OK)
        status = host_failed();
    if (status == STATUS_OK)
        printf(as_json ? "{\"damaged\":false}\n" : "nothing is damaged\n");
    index_host_close(&h);
    return status;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"add", command_index_add, "write records from files of vectors or texts"},
    {"query", command_index_query, "find the records nearest to a text, a vector or a record"},
    {"list", command_index_list, "print records by their ids, or all"},
    {"delete", command_index_delete, "delete records"},
    {"export", command_index_export, "write all records to a file"},
    {"stats", stats, "show what an index holds"},
    {"compact", compact, "merge the parts, reclaim what was deleted"},
    {"verify", verify, "compare all bytes with their checksums"},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *out)
{
    fprintf(out, "usage: infer index COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\ninfer index COMMAND --help lists the options of a command.\n");
}

int command_index(int argc, char **argv)
{
    const char *name = argc > 0 ? argv[0] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return STATUS_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (*name)
        terminal_error("there is no command \"index %s\"", name);
    print_help(stderr);
    return STATUS_USAGE;
}
