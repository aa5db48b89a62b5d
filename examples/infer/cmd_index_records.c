/* infer index list and delete: records by their ids, or those that a filter leaves. */
#include "command.h"
#include "index_commands.h"
#include "index_host.h"
#include "terminal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PAGE 1000

struct records {
    struct index_host h;
    struct args_list ids;
    const char *filter, *after;
    int64_t limit;
    int vectors, all;
    infer_index_info info;
};

/* A line of JSON a record. */
static int print_page(const struct records *r, const infer_hits *hits)
{
    for (size_t i = 0; i < infer_hits_count(hits, 0); i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        struct json_out json = {0};
        int status;
        if (infer_hits_at(hits, 0, i, &hit) != INFER_OK)
            return host_failed();
        index_host_write_hit(&json, &hit, r->info.dims, 0);
        status = json_print(&json);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static int print_ids(const struct records *r, uint32_t with)
{
    infer_hits *hits = NULL;
    int status;
    if (infer_index_get(&hits, r->h.index, r->h.ns, r->ids.items, r->ids.n, with) != INFER_OK)
        return host_failed();
    status = print_page(r, hits);
    if (status == STATUS_OK && infer_hits_count(hits, 0) < r->ids.n) {
        terminal_error("%zu of %zu records are not there", r->ids.n - infer_hits_count(hits, 0),
                       r->ids.n);
        status = STATUS_FAILED;
    }
    infer_hits_destroy(&hits);
    return status;
}

static int print_all(const struct records *r, uint32_t with)
{
    char after[256] = "";
    int64_t left = r->limit ? r->limit : INT64_MAX;
    int status = STATUS_OK;
    size_t n = PAGE;
    if (r->after)
        snprintf(after, sizeof after, "%s", r->after);
    while (status == STATUS_OK && left > 0 && n == PAGE) {
        infer_hits *hits = NULL;
        infer_hit last = {.struct_size = sizeof last};
        if (infer_index_list(&hits, r->h.index, r->h.ns, r->filter, *after ? after : NULL,
                             left < PAGE ? (size_t)left : PAGE, with) != INFER_OK)
            return host_failed();
        n = infer_hits_count(hits, 0);
        left -= (int64_t)n;
        status = print_page(r, hits);
        if (n > 0 && infer_hits_at(hits, 0, n - 1, &last) == INFER_OK)
            snprintf(after, sizeof after, "%s", last.id);
        infer_hits_destroy(&hits);
    }
    return status;
}

static int list(struct records *r)
{
    uint32_t with = INFER_INDEX_WITH_METADATA | (r->vectors ? INFER_INDEX_WITH_VECTOR : 0);
    int status;
    r->h.options.read_only = 1;
    status = index_host_open(&r->h);
    if (status != STATUS_OK)
        return status;
    r->info.struct_size = sizeof r->info;
    if (infer_index_get_info(r->h.index, &r->info) != INFER_OK)
        return host_failed();
    return r->ids.n ? print_ids(r, with) : print_all(r, with);
}

static int delete_records(struct records *r)
{
    size_t n = 0;
    infer_status done;
    int status;
    if ((r->ids.n > 0) + (r->filter != NULL) + r->all != 1)
        return args_wrong("index delete", "one of ids, --filter and --all is needed");
    status = index_host_open(&r->h);
    if (status != STATUS_OK)
        return status;
    done = r->ids.n ? infer_index_delete(r->h.index, r->h.ns, r->ids.items, r->ids.n, &n)
                    : infer_index_delete_where(r->h.index, r->h.ns, r->filter, &n);
    if (done != INFER_OK)
        return host_failed();
    printf("%zu deleted\n", n);
    return STATUS_OK;
}

static int run(struct records *r, const struct args_command *command, int (*work)(struct records *),
               int argc, char **argv)
{
    enum args_result parsed = args_parse(command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    r->h.options.must_exist = 1;
    status = work(r);
    index_host_close(&r->h);
    return status;
}

int command_index_list(int argc, char **argv)
{
    struct records r = {0};
    const struct args_option options[] = {
        INDEX_OPTIONS(r.h),
        ARGS_ROW(ARGS_OPERAND, "ID...", NULL, r.ids, "records (default: all, by their ids)"),
        ARGS_ROW(ARGS_TEXT, "--filter", "JSON", r.filter, "those that it leaves"),
        ARGS_ROW(ARGS_TEXT, "--after", "ID", r.after, "those whose ids are larger"),
        ARGS_ROW_MIN(ARGS_COUNT, "--limit", "N", r.limit, 1, "so many at most"),
        ARGS_ROW(ARGS_FLAG, "--vectors", NULL, r.vectors, "their vectors too"),
    };
    const struct args_command command = {"index list", "Prints records, a line of JSON each.",
                                         options, sizeof options / sizeof options[0]};
    return run(&r, &command, list, argc, argv);
}

int command_index_delete(int argc, char **argv)
{
    struct records r = {0};
    const struct args_option options[] = {
        INDEX_OPTIONS(r.h),
        ARGS_ROW(ARGS_OPERAND, "ID...", NULL, r.ids, "records"),
        ARGS_ROW(ARGS_TEXT, "--filter", "JSON", r.filter, "those that it leaves"),
        ARGS_ROW(ARGS_FLAG, "--all", NULL, r.all, "all of the namespace"),
    };
    const struct args_command command = {"index delete", "Deletes records and prints how many.",
                                         options, sizeof options / sizeof options[0]};
    return run(&r, &command, delete_records, argc, argv);
}
