/* Numbers in files: little-endian, at any alignment, on every machine. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include "base/types.h"

static inline void base_put_u32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static inline void base_put_u64(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static inline uint32_t base_get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t base_get_u64(const uint8_t *p)
{
    return base_get_u32(p) | (uint64_t)base_get_u32(p + 4) << 32;
}

/* Whether arrays of numbers in memory are what they are in our files. */
static inline int base_is_little_endian(void)
{
    const uint32_t one = 1;
    return *(const uint8_t *)&one == 1;
}

#endif
