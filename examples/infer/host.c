/* Device, model and session from the shared options. */
#include "host.h"

#include "command.h"
#include "find_models.h"
#include "terminal.h"

#include <stdlib.h>

const char *const host_kv_types[] = {"f32", "f16", "bf16", "q8", "q4", "f8", NULL};

int host_failed(void)
{
    terminal_error("%s", infer_last_error());
    return STATUS_FAILED;
}

int host_model_options(struct host *host, infer_model_options *options)
{
    *options = (infer_model_options){.struct_size = sizeof *options};
    if (!host->hub)
        host->hub = find_models_cache();
    options->hub_dir = host->hub;
    options->verify_files = host->verify;
    options->kv_type = host->kv_type;
    options->pack = host->mapped ? INFER_PACK_OFF : INFER_PACK_AUTO;
    if (!host->hub)
        terminal_error("no memory");
    return host->hub ? 0 : -1;
}

int host_open(struct host *host, int vocabulary_only)
{
    infer_device_options device = {.struct_size = sizeof device};
    infer_model_options model;
    struct terminal_bar bar = {0};
    infer_status status;
    if (host_model_options(host, &model) != 0)
        return STATUS_FAILED;
    infer_log_set(terminal_log, NULL, host->verbose ? INFER_LOG_INFO : INFER_LOG_WARN);
    device.n_threads = (int32_t)host->threads;
    if (!host->device &&
        infer_device_create(&host->device, (int32_t)host->device_index, &device) != INFER_OK)
        return host_failed();
    model.device = host->device;
    model.progress = terminal_progress;
    model.progress_user_data = &bar;
    model.vocabulary_only = vocabulary_only;
    status = infer_model_load(&host->model, host->path, &model);
    terminal_bar_clear(&bar);
    return status == INFER_OK ? STATUS_OK : host_failed();
}

static int open_draft(struct host *host)
{
    infer_model_options options;
    infer_status status;
    struct terminal_bar bar = {0};
    if (!host->speculate.path || host->speculate.model)
        return STATUS_OK;
    if (host_model_options(host, &options) != 0)
        return STATUS_FAILED;
    options.device = host->device;
    options.progress = terminal_progress;
    options.progress_user_data = &bar;
    status = infer_model_load(&host->speculate.model, host->speculate.path, &options);
    terminal_bar_clear(&bar);
    return status == INFER_OK ? STATUS_OK : host_failed();
}

int host_open_session(struct host *host, infer_kv_cache *cache)
{
    infer_session_options options = {.struct_size = sizeof options};
    if (open_draft(host) != STATUS_OK)
        return STATUS_FAILED;
    options.draft_model = host->speculate.model;
    options.kv_cache = cache;
    options.n_context = (int32_t)host->want.context;
    options.max_requests = (int32_t)host->want.max_requests;
    options.max_queue = (int32_t)host->want.max_queue;
    options.step_tokens = (int32_t)host->want.step_tokens;
    options.numerics = host->want.fast        ? INFER_NUMERICS_FAST
                       : host->want.invariant ? INFER_NUMERICS_INVARIANT
                                              : INFER_NUMERICS_STABLE;
    if (infer_session_create(&host->session, host->model, &options) != INFER_OK)
        return host_failed();
    return STATUS_OK;
}

void host_close(struct host *host)
{
    infer_session_destroy(&host->session);
    infer_model_destroy(&host->speculate.model);
    infer_model_destroy(&host->model);
    infer_device_destroy(&host->device);
    free(host->hub);
    host->hub = NULL;
}

const char *host_finish_name(infer_finish finish)
{
    static const char *const names[] = {"none",      "stop",  "length",  "context",
                                        "cancelled", "error", "deadline"};
    if (finish < 0 || (size_t)finish >= sizeof names / sizeof names[0])
        return "unknown";
    return names[finish];
}
