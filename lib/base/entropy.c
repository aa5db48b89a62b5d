/* getentropy() of the C library. */
#include "base/entropy.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE_MAX ((size_t)256) /* what getentropy() gives at most */

infer_status base_entropy(void *out, size_t size)
{
    uint8_t *at = out;
    for (size_t n; size; at += n, size -= n) {
        n = BASE_MIN(size, AT_ONCE_MAX);
        if (getentropy(at, n) != 0)
            return base_error(INFER_ERR_IO, "the system gives no random bytes: %s",
                              strerror(errno));
    }
    return INFER_OK;
}
