/* Filters whose rows are kept: the last ones that were asked. */
#include "vector/filter_cache.h"
#include "vector/filter_node.h"
#include "vector/meta_internal.h"

#include <string.h>

/* The changes that are hidden from readers go through here: the lock, and the cache. */
static struct vector_meta *unlocked(const struct vector_meta *meta)
{
    return (struct vector_meta *)(uintptr_t)meta;
}

void vector_kept_release(struct vector_kept **kept)
{
    struct vector_kept *k = *kept;
    *kept = NULL;
    if (!k || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) > 1)
        return;
    struct base_alloc a = k->alloc;
    base_free(&a, k);
}

static size_t bytes_of(int32_t n_rows)
{
    return ((size_t)n_rows + 63) / 64 * sizeof(uint64_t);
}

static struct vector_kept *new_kept(const struct base_alloc *a, const uint64_t *bits,
                                    int32_t n_rows)
{
    const size_t bytes = bytes_of(n_rows);
    struct vector_kept *k = base_new_raw(a, 1, sizeof *k + bytes);
    if (!k)
        return NULL;
    atomic_init(&k->refs, 1);
    k->alloc = *a;
    k->n_rows = n_rows;
    k->n_set = 0;
    memcpy(k->bits, bits, bytes);
    for (size_t w = 0; w < bytes / sizeof *bits; w++)
        k->n_set += __builtin_popcountll(bits[w]);
    return k;
}

static void clear_slot(struct vector_filter_slot *slot, const struct base_alloc *a)
{
    base_free(a, slot->text);
    vector_kept_release(&slot->kept);
    *slot = (struct vector_filter_slot){0};
}

void vector_filter_cache_clear(struct vector_filter_cache *cache, const struct base_alloc *a)
{
    for (int32_t i = 0; i < VECTOR_FILTERS_KEPT; i++)
        clear_slot(&cache->slots[i], a);
}

uint64_t vector_filter_cache_bytes(const struct vector_filter_cache *cache)
{
    uint64_t bytes = 0;
    for (int32_t i = 0; i < VECTOR_FILTERS_KEPT; i++) {
        const struct vector_filter_slot *slot = &cache->slots[i];
        bytes += slot->size;
        if (slot->kept)
            bytes += sizeof *slot->kept + bytes_of(slot->kept->n_rows);
    }
    return bytes;
}

static struct vector_filter_slot *find_slot(struct vector_filter_cache *cache,
                                            const struct vector_filter *filter, int32_t group)
{
    for (int32_t i = 0; i < VECTOR_FILTERS_KEPT; i++) {
        struct vector_filter_slot *slot = &cache->slots[i];
        if (slot->text && slot->group == group && slot->size == filter->text.size &&
            memcmp(slot->text, filter->text.data, slot->size) == 0) {
            slot->used = ++cache->clock;
            return slot;
        }
    }
    return NULL;
}

struct vector_kept *vector_filter_find(const struct vector_filter *filter,
                                       const struct vector_meta *meta, int32_t group,
                                       int64_t *spent)
{
    struct vector_meta *m = unlocked(meta);
    struct vector_kept *kept = NULL;
    *spent = 0;
    pthread_mutex_lock(&m->lock);
    struct vector_filter_slot *slot = find_slot(&m->filters, filter, group);
    if (slot) {
        *spent = slot->spent;
        kept = slot->kept;
    }
    if (kept)
        atomic_fetch_add_explicit(&kept->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&m->lock);
    return kept;
}

/* In place of the one that was not asked for longest; takes `text`. */
static struct vector_filter_slot *
take_slot(struct vector_meta *m, const struct vector_filter *filter, int32_t group, char *text)
{
    struct vector_filter_slot *oldest = &m->filters.slots[0];
    for (int32_t i = 1; i < VECTOR_FILTERS_KEPT; i++)
        if (m->filters.slots[i].used < oldest->used)
            oldest = &m->filters.slots[i];
    clear_slot(oldest, &m->alloc);
    *oldest = (struct vector_filter_slot){
        .text = text, .size = filter->text.size, .group = group, .used = ++m->filters.clock};
    return oldest;
}

void vector_filter_keep(const struct vector_filter *filter, const struct vector_meta *meta,
                        int32_t group, const uint64_t *bits, int32_t n_rows, int64_t spent)
{
    struct vector_meta *m = unlocked(meta);
    if (filter->text.size > VECTOR_FILTER_KEPT)
        return;
    struct vector_kept *kept = bits ? new_kept(&m->alloc, bits, n_rows) : NULL;
    char *text = base_strdup(&m->alloc, filter->text.data, filter->text.size);
    pthread_mutex_lock(&m->lock);
    struct vector_filter_slot *slot = find_slot(&m->filters, filter, group);
    if (!slot && text && (kept || !bits)) {
        slot = take_slot(m, filter, group, text);
        text = NULL;
    }
    if (slot) {
        slot->spent += spent;
        if (kept && (!slot->kept || slot->kept->n_rows < n_rows)) {
            struct vector_kept *before = slot->kept;
            slot->kept = kept;
            kept = before;
        }
    }
    pthread_mutex_unlock(&m->lock);
    vector_kept_release(&kept);
    base_free(&m->alloc, text);
}
