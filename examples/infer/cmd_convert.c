/* infer convert: a model as a GGUF file, its weights in other types. */
#include "command.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"

#include <stdio.h>
#include <unistd.h>

struct convert {
    struct host host;
    struct args_list paths;
    const char *from, *to;
    infer_convert_options options;
    infer_convert_info info;
    int restart, requantize, pure, force, as_json;
};

static int print_info(const struct convert *convert)
{
    const infer_convert_info *info = &convert->info;
    struct json_out json = {0};
    if (!convert->as_json) {
        printf("%s: %.1f MiB, %lld tensors", convert->to, (double)info->bytes / (1 << 20),
               (long long)info->n_tensors);
        if (info->n_resumed > 0)
            printf(", %lld of them found done", (long long)info->n_resumed);
        if (info->n_fallback > 0)
            printf(", %lld in types of smaller blocks", (long long)info->n_fallback);
        printf("\n");
        return STATUS_OK;
    }
    json_open(&json, NULL, '{');
    json_uint(&json, "bytes", info->bytes);
    json_int(&json, "tensors", info->n_tensors);
    json_int(&json, "resumed", info->n_resumed);
    json_int(&json, "fallback", info->n_fallback);
    json_close(&json, '}');
    return json_print(&json);
}

static int work(struct convert *convert)
{
    infer_device_options device = {.struct_size = sizeof device};
    infer_convert_options *options = &convert->options;
    infer_model_options model;
    struct terminal_bar bar = {0};
    infer_status status;
    if (!convert->force && access(convert->to, F_OK) == 0) {
        terminal_error("%s exists (--force replaces it)", convert->to);
        return STATUS_FAILED;
    }
    if (host_model_options(&convert->host, &model) != 0)
        return STATUS_FAILED;
    infer_log_set(terminal_log, NULL, convert->host.verbose ? INFER_LOG_INFO : INFER_LOG_WARN);
    device.n_threads = (int32_t)convert->host.threads;
    if (infer_device_create(&convert->host.device, 0, &device) != INFER_OK)
        return host_failed();
    options->struct_size = sizeof *options;
    options->device = convert->host.device;
    options->hub_dir = model.hub_dir;
    options->verify_files = model.verify_files;
    options->progress = terminal_progress;
    options->progress_user_data = &bar;
    options->disable_resume = convert->restart;
    options->allow_requantize = convert->requantize;
    options->pure = convert->pure;
    convert->info.struct_size = sizeof convert->info;
    status = infer_convert(&convert->info, convert->from, convert->to, options);
    terminal_bar_clear(&bar);
    return status == INFER_OK ? print_info(convert) : host_failed();
}

int command_convert(int argc, char **argv)
{
    struct convert convert = {0};
    const struct args_option options[] = {
        ARGS_ROW(ARGS_OPERAND, "SRC DST", NULL, convert.paths,
                 "the model that is read, as --model of other commands; the GGUF file"),
        ARGS_ROW(ARGS_TEXT, "--type", "NAME", convert.options.type,
                 "of the weights, such as F16, Q8_0, Q4_K_M (default: keep)"),
        ARGS_ROW(ARGS_TEXT, "--output-type", "NAME", convert.options.output_type,
                 "of the output matrix (default: as --type has it)"),
        ARGS_ROW(ARGS_TEXT, "--embedding-type", "NAME", convert.options.embedding_type,
                 "of the token embedding (default: as --type has it)"),
        ARGS_ROW(ARGS_FLAG, "--pure", NULL, convert.pure, "every matrix gets the type itself"),
        ARGS_ROW(ARGS_FLAG, "--allow-requantize", NULL, convert.requantize,
                 "round weights again that are quantised already"),
        ARGS_ROW(ARGS_FLAG, "--restart", NULL, convert.restart,
                 "do not continue what an interrupted run left"),
        ARGS_ROW(ARGS_FLAG, "--force", NULL, convert.force, "replace the file if it exists"),
        ARGS_ROW(ARGS_FLAG, "--verify", NULL, convert.host.verify,
                 "compare files of Hugging Face's cache with their digests"),
        ARGS_ROW_MIN(ARGS_COUNT, "--threads", "N", convert.host.threads, 1,
                     "CPU threads (default: one per core)"),
        ARGS_ROW(ARGS_FLAG, "--verbose", NULL, convert.host.verbose,
                 "say on stderr what is chosen"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, convert.as_json,
                 "{\"bytes\":n,\"tensors\":n,\"resumed\":n,\"fallback\":n}"),
    };
    const struct args_command command = {
        .name = "convert",
        .summary = "Writes a model as a GGUF file, its weights in other types. An interrupted run\n"
                   "is continued by the next one of the same options.",
        .options = options,
        .n_options = sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    if (convert.paths.n != 2)
        return args_wrong("convert", "SRC and DST are needed, %zu paths are given",
                          convert.paths.n);
    convert.from = convert.paths.items[0];
    convert.to = convert.paths.items[1];
    status = work(&convert);
    host_close(&convert.host);
    return status;
}
