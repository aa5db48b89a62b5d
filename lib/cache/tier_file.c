/* The file of a tier: its head, and records in slots. */
#include "base/entropy.h"
#include "base/error.h"
#include "cache/snapshot.h"
#include "cache/tier.h"

#include <stdio.h>

#define FORMAT     2    /* 1: no record lacks a block */
#define FILE_BYTES 4096 /* before the first slot */
#define FILE_USED  (64 + BASE_HASH_SECRET_BYTES)
#define MISSING_AT 64 /* in a record's head */
#define TOKENS_AT  80

static const char magic[8] = "INFERKT\n";
static const char record_magic[8] = "INFERKB\n";

static void write_hash(uint8_t *out, struct base_hash128 hash)
{
    cache_write_u64(out, hash.low);
    cache_write_u64(out + 8, hash.high);
}

static struct base_hash128 get_hash(struct cache_cursor *c)
{
    uint64_t low = cache_get_u64(c);
    return (struct base_hash128){low, cache_get_u64(c)};
}

static int same(struct base_hash128 a, struct base_hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

/* ------------------------------------------------------------------ records */

uint64_t cache_tier_offset(const struct cache_tier *t, int32_t slot)
{
    return FILE_BYTES + (uint64_t)slot * t->record_bytes;
}

/* The head: magic, serial, hash, parent, checksum of the blocks, groups that are missing, 12
 * unused, tokens, checksum. */
void cache_tier_record_write(const struct cache_tier *t, uint8_t *record,
                             const struct cache_tier_entry *entry, const infer_token *tokens)
{
    const size_t n = t->head_bytes - 16;
    memset(record, 0, t->head_bytes);
    memcpy(record, record_magic, sizeof record_magic);
    cache_write_u64(record + 8, entry->serial);
    write_hash(record + 16, entry->hash);
    write_hash(record + 32, entry->parent);
    write_hash(record + 48,
               base_hash128_plain(record + t->head_bytes, t->record_bytes - t->head_bytes));
    cache_write_u32(record + MISSING_AT, entry->missing);
    for (int32_t i = 0; i < t->blocks->config.block_tokens; i++)
        cache_write_u32(record + TOKENS_AT + 4 * i, (uint32_t)tokens[i]);
    write_hash(record + n, base_hash128_plain(record, n));
}

uint32_t cache_tier_record_missing(const uint8_t *record)
{
    struct cache_cursor c = {.data = record, .size = MISSING_AT + 4, .at = MISSING_AT};
    return cache_get_u32(&c);
}

static int head_is_whole(const struct cache_tier *t, const uint8_t *head)
{
    struct cache_cursor c = {.data = head, .size = t->head_bytes, .at = t->head_bytes - 16};
    return memcmp(head, record_magic, sizeof record_magic) == 0 &&
           same(get_hash(&c), base_hash128_plain(head, t->head_bytes - 16));
}

int cache_tier_record_is(const struct cache_tier *t, const uint8_t *record,
                         struct base_hash128 hash, struct base_hash128 parent,
                         const infer_token *tokens)
{
    struct cache_cursor c = {.data = record, .size = t->head_bytes, .at = 16};
    if (!head_is_whole(t, record) || !same(get_hash(&c), hash) || !same(get_hash(&c), parent) ||
        !same(get_hash(&c),
              base_hash128_plain(record + t->head_bytes, t->record_bytes - t->head_bytes)))
        return 0;
    c.at = TOKENS_AT;
    for (int32_t i = 0; i < t->blocks->config.block_tokens; i++)
        if ((infer_token)cache_get_u32(&c) != tokens[i])
            return 0;
    return 1;
}

/* ----------------------------------------------------------------- the file */

/* What names the file: the model and the layout of its blocks. */
static struct base_hash128 identity(const struct cache_blocks *b, struct base_hash128 model)
{
    uint64_t numbers[4 + CACHE_GROUPS_MAX * CACHE_SNAPSHOT_GROUP_NUMBERS] = {
        model.low, model.high, (uint64_t)b->config.type, (uint64_t)b->config.block_tokens};
    for (int32_t g = 0; g < b->config.n_groups; g++)
        cache_snapshot_group(b, g, numbers + 4 + g * CACHE_SNAPSHOT_GROUP_NUMBERS);
    return base_hash128_plain(numbers, sizeof numbers);
}

static infer_status write_head(struct cache_tier *t, struct base_hash128 who)
{
    uint8_t head[FILE_BYTES] = {0};
    memcpy(head, magic, sizeof magic);
    cache_write_u32(head + 8, FORMAT);
    cache_write_u64(head + 16, t->record_bytes);
    write_hash(head + 24, who);
    memcpy(head + 64, t->secret, sizeof t->secret);
    write_hash(head + FILE_USED, base_hash128_plain(head, FILE_USED));
    t->file.at = 0;
    return base_output_write(&t->file, head, sizeof head);
}

static infer_status read_head(struct cache_tier *t, struct base_hash128 who)
{
    uint8_t head[FILE_BYTES];
    struct cache_cursor c = {.data = head, .size = sizeof head, .at = 8};
    infer_status st = INFER_OK;
    memset(head, 0, sizeof head);
    if (t->file.size >= sizeof head)
        st = base_output_read(&t->file, 0, head, sizeof head);
    if (st != INFER_OK)
        return st;
    if (memcmp(head, magic, sizeof magic) != 0)
        return base_error(INFER_ERR_FORMAT, "%s is no tier of a KV cache", t->file.path);
    uint32_t format = cache_get_u32(&c);
    if (format < 1 || format > FORMAT)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "%s has format version %u, this library reads versions 1 to %d",
                          t->file.path, (unsigned)format, FORMAT);
    c.at = 16;
    uint64_t record_bytes = cache_get_u64(&c);
    struct base_hash128 whose = get_hash(&c);
    c.at = FILE_USED;
    if (record_bytes != t->record_bytes || !same(whose, who) ||
        !same(get_hash(&c), base_hash128_plain(head, FILE_USED)))
        return base_error(INFER_ERR_FORMAT, "%s is damaged: its head's checksum is wrong",
                          t->file.path);
    memcpy(t->secret, head + 64, sizeof t->secret);
    t->format = format;
    return INFER_OK;
}

static int is_older(const struct cache_tier *t, int32_t a, int32_t b)
{
    return t->entries[a].serial < t->entries[b].serial;
}

/* Sorts slots by serial, so that they enter the list in the order of their writing. */
static void sift(const struct cache_tier *t, int32_t *heap, int32_t n, int32_t i)
{
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_older(t, heap[child], heap[child + 1]))
            child++;
        if (!is_older(t, heap[i], heap[child]))
            return;
        int32_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

static void sort_slots(const struct cache_tier *t, int32_t *slots, int32_t n)
{
    for (int32_t i = n / 2; i-- > 0;)
        sift(t, slots, n, i);
    for (int32_t left = n; left-- > 1;) {
        int32_t swap = slots[0];
        slots[0] = slots[left];
        slots[left] = swap;
        sift(t, slots, left, 0);
    }
}

/* Reads the head of every slot. One that is not whole is a free slot. */
static infer_status read_index(struct cache_tier *t)
{
    int32_t *slots = base_new_raw(&t->blocks->alloc, (size_t)t->n_slots, sizeof *slots);
    int32_t n = 0;
    uint64_t last = 0;
    if (!slots)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < t->n_slots; i++) {
        struct cache_tier_entry *e = &t->entries[i];
        uint64_t at = cache_tier_offset(t, i);
        struct cache_cursor c = {.data = t->scratch, .size = t->head_bytes, .at = 8};
        e->serial = 0;
        if (at + t->record_bytes > t->file.size ||
            base_output_read(&t->file, at, t->scratch, t->head_bytes) != INFER_OK ||
            !head_is_whole(t, t->scratch))
            continue;
        e->serial = cache_get_u64(&c);
        e->hash = get_hash(&c);
        e->parent = get_hash(&c);
        e->missing = cache_tier_record_missing(t->scratch);
        if (!e->serial || e->serial > UINT64_MAX / 2)
            e->serial = 0;
        else
            slots[n++] = i;
    }
    sort_slots(t, slots, n);
    t->free_slot = -1;
    for (int32_t i = t->n_slots; i-- > 0;)
        if (!t->entries[i].serial) {
            t->entries[i].chain = t->free_slot;
            t->free_slot = i;
        }
    for (int32_t i = 0; i < n; i++) {
        const struct cache_tier_entry entry = t->entries[slots[i]];
        int32_t twin = cache_tier_find(t, entry.hash);
        if (twin >= 0)
            cache_tier_remove(t, twin);
        cache_tier_insert(t, slots[i], &entry);
        last = entry.serial;
    }
    t->next_serial = last + 1;
    base_free(&t->blocks->alloc, slots);
    return INFER_OK;
}

infer_status cache_tier_file_cut(struct cache_tier *t, int32_t n_slots)
{
    return base_output_cut(&t->file, cache_tier_offset(t, n_slots));
}

infer_status cache_tier_file_open(struct cache_tier *t, const struct cache_tier_config *config)
{
    const struct base_hash128 who = identity(t->blocks, config->model);
    const struct base_alloc *a = &t->blocks->alloc;
    struct base_str path;
    base_str_init(&path, a, 0);
    infer_status st = base_str_appendf(&path, "%s/%016llx%016llx.infer-kv", config->folder,
                                       (unsigned long long)who.high, (unsigned long long)who.low);
    if (st == INFER_OK)
        st = base_output_open(&t->file, a, path.data);
    base_str_release(&path);
    if (st == INFER_OK)
        st = t->file.size ? read_head(t, who) : base_entropy(t->secret, sizeof t->secret);
    if (st == INFER_OK && t->format < FORMAT)
        st = write_head(t, who);
    if (st == INFER_OK && t->file.size > cache_tier_offset(t, t->n_slots))
        st = cache_tier_file_cut(t, t->n_slots); /* it was larger the last time */
    return st == INFER_OK ? read_index(t) : st;
}
