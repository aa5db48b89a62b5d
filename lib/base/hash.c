/* xxHash, seeded. */
#include "base/hash.h"

#include <xxhash.h>

_Static_assert(BASE_HASH_SECRET_BYTES >= XXH3_SECRET_SIZE_MIN, "a secret is long enough for XXH3");

uint64_t base_hash64(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

struct base_hash128 base_hash128(const void *data, size_t size,
                                 const uint8_t secret[BASE_HASH_SECRET_BYTES])
{
    XXH128_hash_t h = XXH3_128bits_withSecret(data, size, secret, BASE_HASH_SECRET_BYTES);
    return (struct base_hash128){h.low64, h.high64};
}

struct base_hash128 base_hash128_plain(const void *data, size_t size)
{
    XXH128_hash_t h = XXH3_128bits(data, size);
    return (struct base_hash128){h.low64, h.high64};
}
