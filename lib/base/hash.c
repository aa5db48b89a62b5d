/* xxHash, seeded. */
#include "base/hash.h"

#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* the size of its state, to keep it without an allocation */
#include <xxhash.h>

_Static_assert(BASE_HASH_SECRET_BYTES >= XXH3_SECRET_SIZE_MIN, "a secret is long enough for XXH3");
_Static_assert(sizeof(struct base_hash_stream) >= sizeof(XXH3_state_t), "a state has room");

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

void base_hash_begin(struct base_hash_stream *h, uint64_t seed)
{
    /* Filled, as the library would copy a part of the seed's secret that it never wrote. */
    memset(h, 0, sizeof *h);
    XXH3_64bits_reset_withSeed((XXH3_state_t *)(void *)h->state, seed);
}

void base_hash_add(struct base_hash_stream *h, const void *data, size_t size)
{
    if (size)
        XXH3_64bits_update((XXH3_state_t *)(void *)h->state, data, size);
}

uint64_t base_hash_end(const struct base_hash_stream *h)
{
    return XXH3_64bits_digest((const XXH3_state_t *)(const void *)h->state);
}
