/* Public: <infer/error.h>. */
#include "base/error.h"

#include <infer/error.h>
#include <infer/version.h>
#include <string.h>

const char *infer_last_error(void)
{
    return base_error_text();
}

static const struct {
    infer_status status;
    const char *name;
    int32_t retryable;
} statuses[] = {
    {INFER_OK, "INFER_OK", 0},
    {INFER_AGAIN, "INFER_AGAIN", 1},
    {INFER_DONE, "INFER_DONE", 0},
    {INFER_ERR_INVALID, "INFER_ERR_INVALID", 0},
    {INFER_ERR_NO_MEMORY, "INFER_ERR_NO_MEMORY", 1},
    {INFER_ERR_NOT_FOUND, "INFER_ERR_NOT_FOUND", 0},
    {INFER_ERR_UNSUPPORTED, "INFER_ERR_UNSUPPORTED", 0},
    {INFER_ERR_FORMAT, "INFER_ERR_FORMAT", 0},
    {INFER_ERR_IO, "INFER_ERR_IO", 1},
    {INFER_ERR_DEVICE, "INFER_ERR_DEVICE", 1},
    {INFER_ERR_BUSY, "INFER_ERR_BUSY", 1},
    {INFER_ERR_LIMIT, "INFER_ERR_LIMIT", 0},
    {INFER_ERR_CANCELLED, "INFER_ERR_CANCELLED", 0},
    {INFER_ERR_INTERNAL, "INFER_ERR_INTERNAL", 0},
};

const char *infer_status_name(infer_status status)
{
    for (size_t i = 0; i < BASE_COUNT(statuses); i++)
        if (statuses[i].status == status)
            return statuses[i].name;
    return "unknown status";
}

int32_t infer_status_retryable(infer_status status)
{
    for (size_t i = 0; i < BASE_COUNT(statuses); i++)
        if (statuses[i].status == status)
            return statuses[i].retryable;
    return 0;
}

uint32_t infer_version(void)
{
    return INFER_VERSION;
}

int32_t infer_has(const char *feature)
{
    static const char *const features[] = {
        "gguf",
#if defined(__x86_64__)
        "avx2",
        "avx512",
#elif defined(__aarch64__)
        "neon",
#endif
#ifdef INFER_HAVE_CUDA
        "cuda",
#endif
#ifdef INFER_HAVE_OPENBLAS
        "openblas",
#endif
    };
    for (size_t i = 0; feature && i < BASE_COUNT(features); i++)
        if (strcmp(feature, features[i]) == 0)
            return 1;
    return 0;
}
