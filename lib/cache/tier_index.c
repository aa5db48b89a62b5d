/* Which records a tier's file holds, by hash and by age. */
#include "cache/tier.h"

#include <string.h>

struct base_hash128 cache_tier_root(const struct cache_tier *t, const struct cache_key *key)
{
    struct {
        struct base_hash128 name;
        uint64_t adapter, numerics;
    } all = {base_hash128(key->n ? key->name : "", key->n, t->secret), key->adapter,
             (uint64_t)key->numerics};
    return base_hash128(&all, sizeof all, t->secret);
}

struct base_hash128 cache_tier_hash(const struct cache_tier *t, struct base_hash128 parent,
                                    const infer_token *tokens)
{
    struct {
        struct base_hash128 parent;
        infer_token tokens[CACHE_BLOCK_TOKENS_MAX];
    } link = {.parent = parent};
    size_t n = (size_t)t->blocks->config.block_tokens * sizeof *tokens;
    memcpy(link.tokens, tokens, n);
    return base_hash128(&link, sizeof link.parent + n, t->secret);
}

infer_status cache_tier_index_make(struct cache_tier *t)
{
    const struct base_alloc *a = &t->blocks->alloc;
    t->n_buckets = 16;
    while (t->n_buckets < t->n_slots)
        t->n_buckets *= 2;
    t->entries = base_new(a, (size_t)t->n_slots, sizeof *t->entries);
    t->buckets = base_new(a, (size_t)t->n_buckets, sizeof *t->buckets);
    if (!t->entries || !t->buckets)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < t->n_buckets; i++)
        t->buckets[i] = -1;
    t->oldest = t->newest = t->free_slot = -1;
    for (int32_t i = t->n_slots; i-- > 0;) { /* slot 0 is the first to be used */
        t->entries[i].chain = t->free_slot;
        t->free_slot = i;
    }
    t->next_serial = 1;
    return INFER_OK;
}

static int32_t *bucket_of(const struct cache_tier *t, struct base_hash128 hash)
{
    return &t->buckets[hash.low & (uint64_t)(t->n_buckets - 1)];
}

static void list_remove(struct cache_tier *t, int32_t i)
{
    struct cache_tier_entry *e = &t->entries[i];
    *(e->older >= 0 ? &t->entries[e->older].newer : &t->oldest) = e->newer;
    *(e->newer >= 0 ? &t->entries[e->newer].older : &t->newest) = e->older;
}

static void list_append(struct cache_tier *t, int32_t i)
{
    struct cache_tier_entry *e = &t->entries[i];
    e->older = t->newest;
    e->newer = -1;
    *(t->newest >= 0 ? &t->entries[t->newest].newer : &t->oldest) = i;
    t->newest = i;
}

static int32_t look_up(const struct cache_tier *t, struct base_hash128 hash)
{
    int32_t i = *bucket_of(t, hash);
    while (i >= 0 && (t->entries[i].hash.low != hash.low || t->entries[i].hash.high != hash.high))
        i = t->entries[i].chain;
    return i;
}

int32_t cache_tier_find(struct cache_tier *t, struct base_hash128 hash)
{
    int32_t i = look_up(t, hash);
    if (i >= 0) {
        list_remove(t, i);
        list_append(t, i);
    }
    return i;
}

void cache_tier_remove(struct cache_tier *t, int32_t slot)
{
    struct cache_tier_entry *e = &t->entries[slot];
    int32_t *at = bucket_of(t, e->hash);
    while (*at != slot)
        at = &t->entries[*at].chain;
    *at = e->chain;
    list_remove(t, slot);
    e->serial = 0;
    e->chain = t->free_slot;
    t->free_slot = slot;
    t->n_stored--;
}

int32_t cache_tier_slot(struct cache_tier *t)
{
    if (t->free_slot < 0)
        cache_tier_remove(t, t->oldest);
    int32_t slot = t->free_slot;
    t->free_slot = t->entries[slot].chain;
    return slot;
}

void cache_tier_insert(struct cache_tier *t, int32_t slot, const struct cache_tier_entry *entry)
{
    int32_t *bucket = bucket_of(t, entry->hash);
    t->entries[slot] = *entry;
    t->entries[slot].chain = *bucket;
    *bucket = slot;
    list_append(t, slot);
    t->n_stored++;
}

void cache_tier_touch_chain(struct cache_tier *t, int32_t slot)
{
    /* As many steps as there are slots at most, whatever the file says of parents. */
    for (int32_t n = 0; n < t->n_slots && slot >= 0; n++) {
        list_remove(t, slot);
        list_append(t, slot);
        slot = look_up(t, t->entries[slot].parent);
    }
}
