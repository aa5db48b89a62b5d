/* Copying option and info structs of another age than the library's. */
#include "base/options.h"

#include "base/error.h"

#include <string.h>

/* More than any struct will ever have: a larger struct_size is an uninitialised field. */
#define STRUCT_SIZE_MAX 65536

static infer_status check_size(size_t given, const char *name)
{
    if (given < sizeof(size_t) || given > STRUCT_SIZE_MAX)
        return base_error(INFER_ERR_INVALID, "%s.struct_size is %zu; set it to sizeof(%s)", name,
                          given, name);
    return INFER_OK;
}

infer_status base_options_copy(void *out, size_t size, const void *in, const char *name)
{
    memset(out, 0, size);
    if (!in) {
        memcpy(out, &size, sizeof size);
        return INFER_OK;
    }
    size_t given;
    memcpy(&given, in, sizeof given);
    infer_status st = check_size(given, name);
    if (st != INFER_OK)
        return st;
    for (size_t i = size; i < given; i++)
        if (((const unsigned char *)in)[i])
            return base_error(INFER_ERR_UNSUPPORTED,
                              "%s has a field at byte %zu that this version of the library does "
                              "not know",
                              name, i);
    memcpy(out, in, BASE_MIN(size, given));
    memcpy(out, &size, sizeof size);
    return INFER_OK;
}

infer_status base_info_check(const void *out, const char *name)
{
    size_t given;
    if (!out)
        return base_error(INFER_ERR_INVALID, "%s is NULL", name);
    memcpy(&given, out, sizeof given);
    return check_size(given, name);
}

infer_status base_info_copy(void *out, const void *full, size_t size, const char *name)
{
    size_t given;
    infer_status st = base_info_check(out, name);
    if (st != INFER_OK)
        return st;
    memcpy(&given, out, sizeof given);
    memset(out, 0, given);
    memcpy(out, full, BASE_MIN(size, given));
    memcpy(out, &given, sizeof given);
    return INFER_OK;
}
