/* infer inspect: what a model file holds and what running it would take. Weights
 * are mapped, not read, so it is quick on any size. */
#include "command.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"

#include <stdio.h>
#include <string.h>

#define VALUE_COLUMNS 60 /* longer values are cut in the table; --json has all */

struct inspect {
    struct host host;
    int64_t kv_tokens;
    int as_json;
    infer_model_info model;
    infer_tokenizer_info tokenizer;
    infer_memory_estimate estimate;
    int has_estimate; /* a file of a vocabulary alone has none */
};

/* The whole model where it can be loaded: a file of a vocabulary alone, or one of
 * an architecture that cannot be run, still has its metadata to show. */
static int open_model(struct inspect *inspect)
{
    infer_model_options options;
    if (host_model_options(&inspect->host, &options) != 0)
        return STATUS_FAILED;
    if (infer_model_load(&inspect->host.model, inspect->host.path, &options) == INFER_OK)
        return STATUS_OK;
    return host_open(&inspect->host, 1);
}

static int gather(struct inspect *inspect)
{
    int status = open_model(inspect);
    if (status != STATUS_OK)
        return status;
    inspect->model.struct_size = sizeof inspect->model;
    inspect->tokenizer.struct_size = sizeof inspect->tokenizer;
    inspect->estimate.struct_size = sizeof inspect->estimate;
    if (infer_model_get_info(inspect->host.model, &inspect->model) != INFER_OK ||
        infer_tokenizer_get_info(infer_model_tokenizer(inspect->host.model), &inspect->tokenizer) !=
            INFER_OK)
        return host_failed();
    inspect->has_estimate =
        inspect->model.n_layers > 0 &&
        infer_model_memory(inspect->host.model, inspect->kv_tokens, &inspect->estimate) == INFER_OK;
    return STATUS_OK;
}

static void print_heading(const char *text)
{
    int colours = terminal_colours(stdout);
    printf("\n%s%s%s\n", colours ? "\033[1m" : "", text, colours ? "\033[0m" : "");
}

static void print_bytes(const char *name, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    size_t unit = 0;
    while (x >= 1024 && unit < 4) {
        x /= 1024;
        unit++;
    }
    printf("  %-22s %.*f %s\n", name, unit ? 1 : 0, x, units[unit]);
}

static void print_model(const struct inspect *inspect)
{
    const infer_model_info *m = &inspect->model;
    const infer_tokenizer_info *t = &inspect->tokenizer;
    print_heading(m->path);
    printf("  %-22s %s\n", "name", *m->name ? m->name : "-");
    printf("  %-22s %s\n", "architecture", m->architecture);
    if (m->n_layers > 0) {
        printf("  %-22s %llu, mostly %s\n", "parameters", (unsigned long long)m->n_parameters,
               m->weight_type);
        printf("  %-22s %d layers, %d wide, %d heads (%d for keys) of %d, feed-forward %d\n",
               "shape", (int)m->n_layers, (int)m->n_embedding, (int)m->n_heads, (int)m->n_heads_kv,
               (int)m->head_dim, (int)m->n_ff);
        printf("  %-22s %d tokens\n", "context", (int)m->n_context);
    }
    printf("  %-22s %s%s%s, %d tokens, bos %d, eos %d\n", "vocabulary", t->kind, *t->pre ? " " : "",
           t->pre, (int)t->n_tokens, (int)t->bos, (int)t->eos);
    printf("  %-22s %s\n", "chat template", m->chat_template ? "yes, see below" : "none");
}

static void print_estimate(const infer_memory_estimate *e)
{
    print_heading("memory to run it");
    print_bytes("weights (mapped)", e->weight_bytes);
    print_bytes("tables", e->private_bytes);
    print_bytes("KV cache", e->kv_bytes);
    print_bytes("workspace", e->workspace_bytes);
    print_bytes("total", e->total_bytes);
}

/* One line: cut where the column ends, control characters as spaces. */
static void print_value(const char *value)
{
    size_t n = strlen(value);
    size_t shown = n;
    if (n > VALUE_COLUMNS) {
        shown = VALUE_COLUMNS;
        while (shown > 0 && ((unsigned char)value[shown] & 0xc0) == 0x80)
            shown--; /* not within a character */
    }
    for (size_t i = 0; i < shown; i++)
        putchar((unsigned char)value[i] < 0x20 || value[i] == 0x7f ? ' ' : value[i]);
    puts(shown < n ? "..." : "");
}

static int print_metadata(const infer_model *model)
{
    size_t n = infer_model_metadata_count(model);
    print_heading("metadata");
    for (size_t i = 0; i < n; i++) {
        infer_metadata entry = {.struct_size = sizeof entry};
        if (infer_model_metadata_at(model, i, &entry) != INFER_OK)
            return host_failed();
        printf("  %-42s %-16s ", entry.key, entry.type);
        print_value(entry.value);
    }
    return STATUS_OK;
}

static int print_tensors(const infer_model *model)
{
    size_t n = infer_model_tensor_count(model);
    print_heading("tensors");
    for (size_t i = 0; i < n; i++) {
        infer_tensor_info tensor = {.struct_size = sizeof tensor};
        if (infer_model_tensor_at(model, i, &tensor) != INFER_OK)
            return host_failed();
        printf("  %-34s %-6s %12llu bytes  [", tensor.name, tensor.type,
               (unsigned long long)tensor.bytes);
        for (int32_t d = 0; d < tensor.n_dims; d++)
            printf("%s%llu", d ? ", " : "", (unsigned long long)tensor.dims[d]);
        printf("]\n");
    }
    return STATUS_OK;
}

static int print_tables(const struct inspect *inspect)
{
    int status;
    print_model(inspect);
    if (inspect->has_estimate)
        print_estimate(&inspect->estimate);
    status = print_metadata(inspect->host.model);
    if (status == STATUS_OK)
        status = print_tensors(inspect->host.model);
    if (status == STATUS_OK && inspect->model.chat_template) {
        print_heading("chat template");
        puts(inspect->model.chat_template);
    }
    return status;
}

static void json_model(struct json_out *json, const infer_model_info *m)
{
    json_string(json, "path", m->path);
    json_string(json, "name", m->name);
    json_string(json, "architecture", m->architecture);
    json_string(json, "weight_type", m->weight_type);
    json_uint(json, "n_parameters", m->n_parameters);
    json_uint(json, "weight_bytes", m->weight_bytes);
    json_uint(json, "kv_bytes_per_token", m->kv_bytes_per_token);
    json_int(json, "n_vocab", m->n_vocab);
    json_int(json, "n_context", m->n_context);
    json_int(json, "n_embedding", m->n_embedding);
    json_int(json, "n_layers", m->n_layers);
    json_int(json, "n_heads", m->n_heads);
    json_int(json, "n_heads_kv", m->n_heads_kv);
    json_int(json, "head_dim", m->head_dim);
    json_int(json, "n_ff", m->n_ff);
    json_string(json, "chat_template", m->chat_template);
}

static void json_tokenizer(struct json_out *json, const infer_tokenizer_info *t)
{
    json_open(json, "tokenizer", '{');
    json_string(json, "kind", t->kind);
    json_string(json, "pre", t->pre);
    json_int(json, "n_tokens", t->n_tokens);
    json_int(json, "bos", t->bos);
    json_int(json, "eos", t->eos);
    json_int(json, "eot", t->eot);
    json_int(json, "unk", t->unk);
    json_int(json, "pad", t->pad);
    json_int(json, "add_bos", t->add_bos);
    json_int(json, "add_eos", t->add_eos);
    json_close(json, '}');
}

static void json_estimate(struct json_out *json, const struct inspect *inspect)
{
    const infer_memory_estimate *e = &inspect->estimate;
    if (!inspect->has_estimate) {
        json_string(json, "estimate", NULL);
        return;
    }
    json_open(json, "estimate", '{');
    json_uint(json, "weight_bytes", e->weight_bytes);
    json_uint(json, "private_bytes", e->private_bytes);
    json_uint(json, "kv_bytes", e->kv_bytes);
    json_uint(json, "workspace_bytes", e->workspace_bytes);
    json_uint(json, "total_bytes", e->total_bytes);
    json_close(json, '}');
}

static int json_metadata(struct json_out *json, const infer_model *model)
{
    size_t n = infer_model_metadata_count(model);
    json_open(json, "metadata", '[');
    for (size_t i = 0; i < n; i++) {
        infer_metadata entry = {.struct_size = sizeof entry};
        if (infer_model_metadata_at(model, i, &entry) != INFER_OK)
            return host_failed();
        json_open(json, NULL, '{');
        json_string(json, "key", entry.key);
        json_string(json, "type", entry.type);
        json_string(json, "value", entry.value);
        json_close(json, '}');
    }
    json_close(json, ']');
    return STATUS_OK;
}

static int json_tensors(struct json_out *json, const infer_model *model)
{
    size_t n = infer_model_tensor_count(model);
    json_open(json, "tensors", '[');
    for (size_t i = 0; i < n; i++) {
        infer_tensor_info tensor = {.struct_size = sizeof tensor};
        if (infer_model_tensor_at(model, i, &tensor) != INFER_OK)
            return host_failed();
        json_open(json, NULL, '{');
        json_string(json, "name", tensor.name);
        json_string(json, "type", tensor.type);
        json_open(json, "dims", '[');
        for (int32_t d = 0; d < tensor.n_dims; d++)
            json_uint(json, NULL, tensor.dims[d]);
        json_close(json, ']');
        json_uint(json, "bytes", tensor.bytes);
        json_uint(json, "offset", tensor.offset);
        json_int(json, "file", tensor.file);
        json_close(json, '}');
    }
    json_close(json, ']');
    return STATUS_OK;
}

static int print_json(const struct inspect *inspect)
{
    struct json_out json = {0};
    json_open(&json, NULL, '{');
    json_model(&json, &inspect->model);
    json_tokenizer(&json, &inspect->tokenizer);
    json_estimate(&json, inspect);
    if (json_metadata(&json, inspect->host.model) != STATUS_OK ||
        json_tensors(&json, inspect->host.model) != STATUS_OK) {
        buffer_free(&json.buffer);
        return STATUS_FAILED;
    }
    json_close(&json, '}');
    return json_print(&json);
}

int command_inspect(int argc, char **argv)
{
    struct inspect inspect = {0};
    const struct args_option options[] = {
        HOST_MODEL_OPTIONS(inspect.host),
        HOST_KV_OPTION(inspect.host),
        ARGS_ROW(ARGS_COUNT, "--kv-tokens", "N", inspect.kv_tokens,
                 "estimate for a KV cache of N tokens (0: one context)"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, inspect.as_json, "everything as one JSON object"),
    };
    const struct args_command command = {
        "inspect", "Shows what a model file holds, and the memory that running it would take.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = gather(&inspect);
    if (status == STATUS_OK)
        status = inspect.as_json ? print_json(&inspect) : print_tables(&inspect);
    host_close(&inspect.host);
    return status;
}
