/* Open addressing over borrowed keys. */
#include "base/map.h"

#include "base/error.h"
#include "base/hash.h"

#include <string.h>

static uint64_t hash_of(const struct base_map *map, const char *key, size_t size)
{
    return base_hash64(key, size, map->seed) | 1;
}

static struct base_map_slot *find(const struct base_map *map, const char *key, size_t size,
                                  uint64_t hash)
{
    size_t mask = map->n_slots - 1;
    size_t i = (size_t)(hash >> 1) & mask;
    for (;; i = (i + 1) & mask) {
        struct base_map_slot *s = &map->slots[i];
        if (!s->hash || (s->hash == hash && s->size == size && memcmp(s->key, key, size) == 0))
            return s;
    }
}

infer_status base_map_init(struct base_map *map, const struct base_alloc *a, size_t expected)
{
    size_t n = 16;
    while (n < expected + expected / 2 && n < SIZE_MAX / 4)
        n *= 2;
    *map = (struct base_map){.alloc = *a, .n_slots = n};
    map->slots = base_new(a, n, sizeof *map->slots);
    map->seed = (uint64_t)(uintptr_t)map->slots * 0x9e3779b97f4a7c15u;
    return map->slots ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static infer_status grow(struct base_map *map)
{
    struct base_map bigger = *map;
    bigger.n_slots *= 2;
    bigger.slots = base_new(&map->alloc, bigger.n_slots, sizeof *bigger.slots);
    if (!bigger.slots)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < map->n_slots; i++) {
        const struct base_map_slot *s = &map->slots[i];
        if (s->hash)
            *find(&bigger, s->key, s->size, s->hash) = *s;
    }
    base_free(&map->alloc, map->slots);
    *map = bigger;
    return INFER_OK;
}

infer_status base_map_add(struct base_map *map, const char *key, size_t size, int32_t value)
{
    if (size > UINT32_MAX)
        return base_error(INFER_ERR_LIMIT, "a key of %zu bytes is too long", size);
    if ((map->n_used + 1) * 4 > map->n_slots * 3) {
        infer_status st = grow(map);
        if (st != INFER_OK)
            return st;
    }
    uint64_t hash = hash_of(map, key, size);
    struct base_map_slot *s = find(map, key, size, hash);
    if (s->hash)
        return INFER_AGAIN;
    *s = (struct base_map_slot){key, (uint32_t)size, value, hash};
    map->n_used++;
    return INFER_OK;
}

int32_t base_map_get(const struct base_map *map, const char *key, size_t size, int32_t missing)
{
    if (!map->slots || size > UINT32_MAX)
        return missing;
    const struct base_map_slot *s = find(map, key, size, hash_of(map, key, size));
    return s->hash ? s->value : missing;
}

void base_map_release(struct base_map *map)
{
    if (map->slots)
        base_free(&map->alloc, map->slots);
    map->slots = NULL;
    map->n_slots = map->n_used = 0;
}
