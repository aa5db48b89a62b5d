/* An adapter's path and how strongly it counts. */
#include "adapter_arg.h"

#include "args.h"
#include "command.h"
#include "host.h"
#include "terminal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int adapter_open(infer_adapter **out, float *scale, infer_model *model, const char *command,
                 const char *option)
{
    const char *equals = option ? strrchr(option, '=') : NULL;
    char *end = NULL, *path;
    infer_status status;
    size_t length;
    if (!option)
        return STATUS_OK;
    *scale = equals ? strtof(equals + 1, &end) : 1;
    if (equals && (end == equals + 1 || *end)) { /* no number: part of the path */
        equals = NULL;
        *scale = 1;
    }
    if (!isfinite(*scale) || *scale == 0)
        return args_wrong(command, "--adapter is \"%s\": a scale is a number other than 0", option);
    length = equals ? (size_t)(equals - option) : strlen(option);
    path = strndup(option, length);
    if (!path) {
        terminal_error("no memory");
        return STATUS_FAILED;
    }
    status = infer_adapter_load(out, model, path, NULL);
    free(path);
    return status == INFER_OK ? STATUS_OK : host_failed();
}
