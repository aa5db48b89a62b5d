/* infer index export: all records of a namespace into a file that infer index add reads. */
#include "command.h"
#include "index_commands.h"
#include "index_host.h"
#include "terminal.h"
#include "vector_out.h"

#include <stdio.h>
#include <string.h>

#define PAGE 1000

struct export
{
    struct index_host h;
    const char *out, *filter;
    infer_index_info info;
    struct vector_out file;
};

static int write_page(struct export *e, const infer_hits *hits, char *after, size_t room)
{
    for (size_t i = 0; i < infer_hits_count(hits, 0); i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        struct vector_row row = {.ns = e->h.ns, .dims = e->info.dims};
        if (infer_hits_at(hits, 0, i, &hit) != INFER_OK)
            return host_failed();
        row.id = hit.id;
        row.vector = hit.vector;
        row.metadata = hit.metadata;
        row.metadata_size = hit.metadata_size;
        if (vector_out_row(&e->file, &row) != 0) {
            terminal_error("%s", e->file.error);
            return STATUS_FAILED;
        }
        snprintf(after, room, "%s", hit.id);
    }
    return STATUS_OK;
}

static int write_all(struct export *e)
{
    char after[256] = "";
    struct terminal_bar bar = {0};
    int status = STATUS_OK;
    for (size_t n = PAGE; status == STATUS_OK && n == PAGE;) {
        infer_hits *hits = NULL;
        if (infer_index_list(&hits, e->h.index, e->h.ns, e->filter, *after ? after : NULL, PAGE,
                             INFER_INDEX_WITH_METADATA | INFER_INDEX_WITH_VECTOR) != INFER_OK)
            return host_failed();
        n = infer_hits_count(hits, 0);
        status = write_page(e, hits, after, sizeof after);
        infer_hits_destroy(&hits);
        if (e->info.n_records)
            terminal_progress((double)e->file.n_rows / (double)e->info.n_records, "writing", &bar);
    }
    terminal_bar_clear(&bar);
    return status;
}

static int work(struct export *e)
{
    int status = index_host_open(&e->h);
    if (status != STATUS_OK)
        return status;
    e->info.struct_size = sizeof e->info;
    if (infer_index_get_info(e->h.index, &e->info) != INFER_OK)
        return host_failed();
    if (vector_out_open(&e->file, e->out, NULL) == 0)
        status = write_all(e);
    else {
        terminal_error("%s", e->file.error);
        status = STATUS_FAILED;
    }
    if (vector_out_close(&e->file, status == STATUS_OK) != 0 && status == STATUS_OK) {
        terminal_error("%s", e->file.error);
        status = STATUS_FAILED;
    }
    return status;
}

int command_index_export(int argc, char **argv)
{
    struct export e = {.h = {.options = {.read_only = 1, .must_exist = 1}}};
    const struct args_option options[] = {
        INDEX_OPTIONS(e.h),
        ARGS_ROW_REQUIRED("--out", "FILE", e.out,
                          ".jsonl, .npy, .fvecs; - for JSON lines on stdout"),
        ARGS_ROW(ARGS_TEXT, "--filter", "JSON", e.filter, "records that it leaves alone"),
    };
    const struct args_command command = {
        "index export",
        "Writes the records of a namespace by their ids: JSON lines with metadata, or the\n"
        "vectors alone.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    e.h.ns = e.h.ns ? e.h.ns : "";
    status = work(&e);
    index_host_close(&e.h);
    return status;
}
