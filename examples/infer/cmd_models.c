/* infer models: which models there are, what they are, and whether they fit memory. Weights are
 * not read, so a folder of many is listed quickly. */
#include "command.h"
#include "find_models.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KV_TOKENS      4096
#define REASON_COLUMNS 100 /* longer ones are cut in the table; --json has all */

struct listed {
    infer_status status;
    char *reason; /* why it cannot be run, or NULL */
    infer_memory_estimate needs;
};

struct models {
    struct args_list folders;
    int64_t kv_tokens;
    int as_json;
    char *cache; /* where no folder is given */
    infer_device *device;
    uint64_t available;
    struct found_models found;
    struct listed *listed; /* one for each found */
};

static const char *state(const struct listed *l)
{
    return l->status == INFER_OK                ? "ok"
           : l->status == INFER_ERR_UNSUPPORTED ? "unsupported"
                                                : "broken";
}

static int fits(const struct models *m, const struct listed *l)
{
    return l->needs.total_bytes <= m->available;
}

/* The sentence without the path that it begins with: the path stands beside it. */
static char *reason_of(const char *path)
{
    const char *text = infer_last_error();
    size_t n = strlen(path);
    if (strncmp(text, path, n) == 0 && strncmp(text + n, ": ", 2) == 0)
        text += n + 2;
    return strdup(text);
}

static void look_at(const struct models *m, const struct found_model *found, struct listed *out)
{
    infer_model_options options = {.struct_size = sizeof options, .device = m->device};
    infer_memory_estimate *needs = &out->needs;
    needs->struct_size = sizeof *needs;
    out->status = infer_model_estimate(needs, found->path, m->kv_tokens, &options);
    if (out->status == INFER_OK && needs->n_context > 0 && m->kv_tokens > needs->n_context)
        out->status = infer_model_estimate(needs, found->path, 0, &options);
    if (out->status != INFER_OK)
        out->reason = reason_of(found->path);
}

static const char *bytes_text(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    size_t unit = 0;
    for (; x >= 1023.95 && unit < 4; unit++)
        x /= 1024;
    snprintf(text, 32, "%.*f %s", unit ? 1 : 0, x, units[unit]);
    return text;
}

static const char *count_text(uint64_t n, char text[32])
{
    static const char units[] = " KMBT";
    double x = (double)n;
    size_t unit = 0;
    for (; x >= 999.5 && unit < 4; unit++)
        x /= 1000;
    if (unit)
        snprintf(text, 32, "%.*f%c", x < 9.95 ? 1 : 0, x, units[unit]);
    else
        snprintf(text, 32, "%" PRIu64, n);
    return text;
}

/* Names come from files: whatever a terminal would obey becomes a question mark. Filled up to
 * `width` columns, cut after `most`. */
static void print_clean(const char *text, int width, int most)
{
    int columns = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        columns += (c & 0xc0) != 0x80;
        if (columns > most) {
            fputs("...", stdout);
            break;
        }
        putchar(c < 0x20 || c == 0x7f ? '?' : c);
    }
    printf("%*s", columns < width ? width - columns : 0, "");
}

static void print_row(const struct models *m, size_t i, int name_width)
{
    const struct listed *l = &m->listed[i];
    char size[32], memory[32], n[32];
    print_clean(m->found.items[i].name, name_width, INT_MAX);
    printf("  %10s  ", bytes_text(m->found.items[i].bytes, size));
    if (l->status != INFER_OK) {
        printf("%s: ", state(l));
        print_clean(l->reason ? l->reason : "", 0, REASON_COLUMNS);
    } else {
        printf("%-13s  %6s  %-7s  %8d  %10s  %s", l->needs.architecture,
               count_text(l->needs.n_parameters, n), l->needs.weight_type, (int)l->needs.n_context,
               bytes_text(l->needs.total_bytes, memory), fits(m, l) ? "fits" : "too large");
    }
    putchar('\n');
}

static void print_table(const struct models *m)
{
    char available[32];
    int width = 4;
    for (size_t i = 0; i < m->found.n; i++) {
        int n = (int)strnlen(m->found.items[i].name, 64);
        width = n > width ? n : width;
    }
    if (m->found.n == 0) {
        printf("no models%s%s\n", m->cache ? " in " : "", m->cache ? m->cache : "");
        return;
    }
    printf("%-*s  %10s  %-13s  %6s  %-7s  %8s  %10s\n", width, "name", "size", "architecture",
           "params", "type", "context", "memory");
    for (size_t i = 0; i < m->found.n; i++)
        print_row(m, i, width);
    if (m->available != UINT64_MAX)
        printf("\n%s of memory are available; a model's is for %lld tokens of context\n",
               bytes_text(m->available, available), (long long)m->kv_tokens);
}

static void json_model(struct json_out *json, const struct models *m, size_t i)
{
    const struct found_model *found = &m->found.items[i];
    const struct listed *l = &m->listed[i];
    json_open(json, NULL, '{');
    json_string(json, "name", found->name);
    json_string(json, "path", found->path);
    json_uint(json, "bytes", found->bytes);
    json_string(json, "state", state(l));
    json_string(json, "reason", l->reason);
    if (l->status == INFER_OK) {
        json_string(json, "architecture", l->needs.architecture);
        json_string(json, "weight_type", l->needs.weight_type);
        json_uint(json, "n_parameters", l->needs.n_parameters);
        json_int(json, "n_context", l->needs.n_context);
        json_uint(json, "memory_bytes", l->needs.total_bytes);
        json_raw(json, "fits", fits(m, l) ? "true" : "false", fits(m, l) ? 4 : 5);
    }
    json_close(json, '}');
}

static int print_json(const struct models *m)
{
    struct json_out json = {0};
    json_open(&json, NULL, '{');
    if (m->available != UINT64_MAX)
        json_uint(&json, "available_bytes", m->available);
    json_int(&json, "kv_tokens", m->kv_tokens);
    json_open(&json, "models", '[');
    for (size_t i = 0; i < m->found.n; i++)
        json_model(&json, m, i);
    json_close(&json, ']');
    json_close(&json, '}');
    return json_print(&json);
}

static int find(struct models *m)
{
    int bad = 0;
    for (size_t i = 0; i < m->folders.n; i++)
        bad |= find_models(&m->found, m->folders.items[i]);
    if (m->folders.n == 0) {
        m->cache = find_models_cache();
        /* Who never had a cache has no models in it. */
        bad = !m->cache || (access(m->cache, F_OK) == 0 && find_models(&m->found, m->cache));
    }
    found_models_sort(&m->found);
    m->listed = calloc(m->found.n + 1, sizeof *m->listed);
    return bad || !m->listed ? STATUS_FAILED : STATUS_OK;
}

static int work(struct models *m)
{
    infer_device_options device = {.struct_size = sizeof device, .n_threads = 1};
    int status = find(m);
    if (status != STATUS_OK)
        return status;
    if (infer_device_create(&m->device, 0, &device) != INFER_OK)
        return host_failed();
    infer_device_info info = {.struct_size = sizeof info};
    if (infer_device_get_info(m->device, &info) != INFER_OK)
        return host_failed();
    m->available = info.free_bytes ? info.free_bytes : UINT64_MAX;
    for (size_t i = 0; i < m->found.n; i++)
        look_at(m, &m->found.items[i], &m->listed[i]);
    if (m->as_json)
        return print_json(m);
    print_table(m);
    return STATUS_OK;
}

static void release(struct models *m)
{
    for (size_t i = 0; m->listed && i < m->found.n; i++)
        free(m->listed[i].reason);
    free(m->listed);
    free(m->cache);
    found_models_free(&m->found);
    infer_device_destroy(&m->device);
}

int command_models(int argc, char **argv)
{
    struct models m = {.kv_tokens = KV_TOKENS};
    const struct args_option options[] = {
        ARGS_ROW(ARGS_OPERAND, "[FOLDER ...]", NULL, m.folders,
                 "where to look (default: the cache of Hugging Face's client)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--kv-tokens", "N", m.kv_tokens, 1,
                     "memory is for a KV cache of N tokens (default: 4096)"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, m.as_json, "one JSON object"),
    };
    const struct args_command command = {
        .name = "models",
        .summary = "Lists models with what they are and whether they fit memory.",
        .options = options,
        .n_options = sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    int status = work(&m);
    release(&m);
    return status;
}
