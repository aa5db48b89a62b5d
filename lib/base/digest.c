/* SHA-256 and git's SHA-1 of a blob, by libmd. */
#include "base/digest.h"

#include "base/error.h"

#if defined(INFER_HAVE_LIBMD)
#include <sha1.h>
#include <sha2.h>
#include <stdio.h>

static void write_hex(char *out, const uint8_t *digest, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

infer_status base_digest_sha256(char out[BASE_DIGEST_TEXT_MAX], const void *data, size_t size)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA2_CTX c;
    SHA256Init(&c);
    if (size)
        SHA256Update(&c, data, size);
    SHA256Final(digest, &c);
    write_hex(out, digest, sizeof digest);
    return INFER_OK;
}

infer_status base_digest_git_blob(char out[BASE_DIGEST_TEXT_MAX], const void *data, size_t size)
{
    uint8_t digest[SHA1_DIGEST_LENGTH];
    char header[32];
    int n = snprintf(header, sizeof header, "blob %zu", size);
    SHA1_CTX c;
    SHA1Init(&c);
    SHA1Update(&c, (const uint8_t *)header, (size_t)n + 1); /* its 0 belongs to it */
    if (size)
        SHA1Update(&c, data, size);
    SHA1Final(digest, &c);
    write_hex(out, digest, sizeof digest);
    return INFER_OK;
}

#else

static infer_status missing(char *out)
{
    out[0] = 0;
    return base_error(INFER_ERR_UNSUPPORTED,
                      "this build has no digests: it was compiled without libmd");
}

infer_status base_digest_sha256(char out[BASE_DIGEST_TEXT_MAX], const void *data, size_t size)
{
    BASE_UNUSED(data);
    BASE_UNUSED(size);
    return missing(out);
}

infer_status base_digest_git_blob(char out[BASE_DIGEST_TEXT_MAX], const void *data, size_t size)
{
    BASE_UNUSED(data);
    BASE_UNUSED(size);
    return missing(out);
}
#endif
