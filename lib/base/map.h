/* Hash map from borrowed byte strings to int32 values (vocabularies, names).
 * Keys are not copied: they must outlive the map. Open addressing; the seed is
 * taken per map so that a hostile file cannot aim at one bucket. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/alloc.h"

struct base_map_slot {
    const char *key;
    uint32_t size;
    int32_t value;
    uint64_t hash; /* 0 marks a free slot */
};

struct base_map {
    struct base_alloc alloc;
    struct base_map_slot *slots;
    size_t n_slots, n_used; /* n_slots is a power of two */
    uint64_t seed;
};

/* `expected` sizes the table once; it grows beyond if needed. */
infer_status base_map_init(struct base_map *map, const struct base_alloc *a, size_t expected);
/* Adds a key; an existing key keeps its value and gives INFER_AGAIN. */
infer_status base_map_add(struct base_map *map, const char *key, size_t size, int32_t value);
/* The value, or `missing`. */
int32_t base_map_get(const struct base_map *map, const char *key, size_t size, int32_t missing);
void base_map_release(struct base_map *map);

#endif
