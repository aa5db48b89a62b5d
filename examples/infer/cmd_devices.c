/* infer devices: the processors that libinfer can use here. */
#include "args.h"
#include "command.h"
#include "host.h"
#include "json_out.h"

#include <infer/infer.h>

#include <stdio.h>

static void print_device(const infer_device_info *info, struct json_out *json)
{
    const char *kind = info->kind == INFER_DEVICE_CPU ? "cpu" : "cuda";
    if (!json) {
        printf("%d  %-4s  %s  kernels %s  %d threads  %.1f of %.1f GiB free\n", (int)info->index,
               kind, info->name, info->kernels, (int)info->n_threads,
               (double)info->free_bytes / (1 << 30), (double)info->total_bytes / (1 << 30));
        return;
    }
    json_open(json, NULL, '{');
    json_int(json, "index", info->index);
    json_string(json, "kind", kind);
    json_string(json, "name", info->name);
    json_string(json, "kernels", info->kernels);
    json_int(json, "threads", info->n_threads);
    json_int(json, "compute_capability", info->compute_capability);
    json_uint(json, "total_bytes", info->total_bytes);
    json_uint(json, "free_bytes", info->free_bytes);
    json_close(json, '}');
}

static int list_devices(struct json_out *json)
{
    int32_t n = infer_device_count();
    for (int32_t i = 0; i < n; i++) {
        infer_device *device = NULL;
        infer_device_info info = {.struct_size = sizeof info};
        if (infer_device_create(&device, i, NULL) != INFER_OK)
            return host_failed();
        if (infer_device_get_info(device, &info) != INFER_OK) {
            infer_device_destroy(&device);
            return host_failed();
        }
        print_device(&info, json);
        infer_device_destroy(&device);
    }
    return STATUS_OK;
}

int command_devices(int argc, char **argv)
{
    int as_json = 0;
    struct json_out json = {0};
    const struct args_option options[] = {
        ARGS_ROW(ARGS_FLAG, "--json", NULL, as_json, "{\"devices\":[...]}"),
    };
    const struct args_command command = {"devices", "Lists the processors that can be used.",
                                         options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    if (!as_json)
        return list_devices(NULL);
    json_open(&json, NULL, '{');
    json_open(&json, "devices", '[');
    status = list_devices(&json);
    json_close(&json, ']');
    json_close(&json, '}');
    if (status == STATUS_OK)
        return json_print(&json);
    buffer_free(&json.buffer);
    return status;
}
