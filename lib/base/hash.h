/* xxHash behind one name, so that the choice stands in one place. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/types.h"

uint64_t base_hash64(const void *data, size_t size, uint64_t seed);

struct base_hash128 {
    uint64_t low, high;
};

#define BASE_HASH_SECRET_BYTES 192

/* XXH3-128 under a secret: who does not know it cannot aim at a collision. */
struct base_hash128 base_hash128(const void *data, size_t size,
                                 const uint8_t secret[BASE_HASH_SECRET_BYTES]);

/* XXH3-128 as everybody computes it: to notice damage, no barrier against forgery. */
struct base_hash128 base_hash128_plain(const void *data, size_t size);

/* base_hash64 of bytes that come in pieces. */
struct base_hash_stream {
    _Alignas(BASE_CACHE_LINE) uint8_t state[640];
};
void base_hash_begin(struct base_hash_stream *h, uint64_t seed);
void base_hash_add(struct base_hash_stream *h, const void *data, size_t size);
uint64_t base_hash_end(const struct base_hash_stream *h);

#endif
