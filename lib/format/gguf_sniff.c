/* Files that are not GGUF although somebody named them so: say what they are. */
#include "format/gguf_internal.h"

#include "base/error.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *start; /* without leading white space, any case */
    const char *what;
} lookalikes[] = {
    {"version https://git-lfs",
     "this is a Git LFS pointer, not the file itself: run \"git lfs pull\""},
    {"<!doctype", "this is an HTML page: the download saved a web page instead of the file"},
    {"<html", "this is an HTML page: the download saved a web page instead of the file"},
    {"<?xml", "this is an XML document: the download saved an error page instead of the file"},
    {"{", "is JSON text: the download saved an answer of a server instead of the file"},
    {"PK\3\4", "this is a ZIP archive, perhaps a PyTorch checkpoint: convert it to GGUF"},
    {"lmgg", "this is a GGML file from before GGUF: convert it to GGUF"},
    {"fmgg", "this is a GGMF file from before GGUF: convert it to GGUF"},
    {"tjgg", "this is a GGJT file from before GGUF: convert it to GGUF"},
};

infer_status gguf_refuse(const uint8_t *data, uint64_t size)
{
    if (!size)
        return base_error(INFER_ERR_FORMAT, "the file is empty, a GGUF file was expected");

    uint64_t start = 0;
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) /* byte order mark */
        start = 3;
    while (start < BASE_MIN(size, 64) && strchr(" \t\r\n", data[start]) && data[start])
        start++;
    for (size_t i = 0; i < BASE_COUNT(lookalikes); i++) {
        size_t n = strlen(lookalikes[i].start);
        if (size - start >= n &&
            strncasecmp((const char *)data + start, lookalikes[i].start, n) == 0)
            return base_error(INFER_ERR_FORMAT, "%s", lookalikes[i].what);
    }
    if (size > 8 && data[8] == '{')
        return base_error(INFER_ERR_FORMAT,
                          "this looks like a safetensors file, a GGUF file was expected");
    if (size < 4)
        return base_error(INFER_ERR_FORMAT,
                          "the file has only %llu bytes, not even the 4 of the "
                          "magic \"GGUF\"",
                          (unsigned long long)size);
    return base_error(INFER_ERR_FORMAT,
                      "not a GGUF file: the magic at byte 0 is %02x %02x %02x %02x, "
                      "47 47 55 46 (\"GGUF\") was expected",
                      data[0], data[1], data[2], data[3]);
}
