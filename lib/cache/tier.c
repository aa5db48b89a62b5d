/* Blocks on their way into the file and out of it. */
#include "cache/tier.h"

#include "base/error.h"
#include "cache/held.h"

#include <string.h>

/* Nodes looked at before the lock of the blocks is given to others. */
#define SCAN 256

/* ------------------------------------------------------------------ writing */

/* Under the lock of the blocks: the hash of a node under the file's secret, and its parent's. Each
 * is computed once. */
static struct base_hash128 hash_node(struct cache_tier *t, int32_t node,
                                     struct base_hash128 *parent)
{
    struct cache_prefix *p = t->blocks->prefix;
    const size_t step = (size_t)t->blocks->config.block_tokens;
    for (;;) { /* from the deepest ancestor that has none down to the node */
        int32_t at = node;
        while (p->nodes[at].parent >= 0 && !p->nodes[p->nodes[at].parent].in_tier)
            at = p->nodes[at].parent;
        struct cache_node *n = &p->nodes[at];
        const struct cache_root *root = n->root;
        struct base_hash128 above =
            n->parent >= 0 ? p->nodes[n->parent].tier_hash
                           : cache_tier_root(t, &(struct cache_key){root->name, root->n,
                                                                    root->adapter, root->numerics});
        if (!n->in_tier) {
            n->tier_hash = cache_tier_hash(t, above, p->tokens + (size_t)at * step);
            n->in_tier = CACHE_TIER_HASHED;
        }
        if (at == node) {
            *parent = above;
            return n->tier_hash;
        }
    }
}

/* Groups whose block a node lacks. */
static uint32_t missing_parts(const struct cache_blocks *b, const struct cache_node *n)
{
    uint32_t missing = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        missing |= n->ids[g] < 0 ? 1u << g : 0;
    return missing;
}

static infer_status write_record(struct cache_tier *t, struct cache_tier_entry *entry,
                                 const infer_token *tokens, uint8_t *record)
{
    pthread_mutex_lock(&t->lock);
    int32_t slot = cache_tier_slot(t);
    entry->serial = t->next_serial++;
    pthread_mutex_unlock(&t->lock);
    cache_tier_record_write(t, record, entry, tokens);
    t->file.at = cache_tier_offset(t, slot);
    infer_status st = base_output_write(&t->file, record, t->record_bytes);
    pthread_mutex_lock(&t->lock);
    cache_tier_insert(t, slot, entry);
    if (st == INFER_OK)
        cache_tier_touch_chain(t, slot);
    else
        cache_tier_remove(t, slot);
    pthread_mutex_unlock(&t->lock);
    *(st == INFER_OK ? &t->n_written : &t->n_failed) += 1;
    return st;
}

static int is_wanted(const struct cache_node *node)
{
    return node->state == CACHE_NODE_LIVE && !node->refs && node->in_tier < CACHE_TIER_COPYING;
}

/* Whether the file has all of a record. One that has less than it shall have is forgotten. */
static int has_record(struct cache_tier *t, const struct cache_tier_entry *entry)
{
    pthread_mutex_lock(&t->lock);
    int32_t slot = cache_tier_find(t, entry->hash);
    int whole = slot >= 0 && !(t->entries[slot].missing & ~entry->missing);
    if (slot >= 0 && !whole)
        cache_tier_remove(t, slot);
    pthread_mutex_unlock(&t->lock);
    return whole;
}

/* Under the lock of the blocks: one more record of a batch, unless the file has it. */
static void add(struct cache_tier *t, struct cache_tier_batch *batch, int32_t node)
{
    struct cache_blocks *b = t->blocks;
    struct cache_node *n = &b->prefix->nodes[node];
    const int32_t i = batch->n, step = b->config.block_tokens;
    struct cache_tier_entry *entry = &batch->entries[i];
    *entry = (struct cache_tier_entry){.missing = missing_parts(b, n)};
    entry->hash = hash_node(t, node, &entry->parent);
    if (has_record(t, entry)) {
        n->in_tier = CACHE_TIER_STORED;
        return;
    }
    uint8_t *at = batch->records + (size_t)i * t->record_bytes + t->head_bytes;
    for (int32_t g = 0; g < b->config.n_groups; g++, at += b->block_bytes[g - 1]) {
        if (n->ids[g] < 0)
            memset(at, 0, b->block_bytes[g]);
        else
            batch->ranges[batch->n_ranges++] = cache_block_range(b, g, n->ids[g], at);
    }
    memcpy(batch->tokens[i], b->prefix->tokens + (size_t)node * (size_t)step,
           (size_t)step * sizeof **batch->tokens);
    n->in_tier = CACHE_TIER_COPYING;
    batch->nodes[i] = node;
    batch->n++;
}

/* Under the lock of the blocks, which is given back for moments: the next batch that there is from
 * node *i on is on its way. Nobody holds its nodes, for what is written keeps its place in the
 * order of eviction: one that goes meanwhile is seen when the copy has ended. */
static void begin(struct cache_tier *t, struct cache_tier_batch *batch, int32_t *i)
{
    struct cache_blocks *b = t->blocks;
    int32_t looked_at = 0;
    const struct cache_prefix *seen = b->prefix;
    batch->n = batch->n_ranges = 0;
    for (; *i < b->prefix->n_nodes && batch->n < t->batch_room && !t->waited_for; ++*i) {
        if (is_wanted(&b->prefix->nodes[*i]))
            add(t, batch, *i);
        if (!batch->n && ++looked_at % SCAN == 0) {
            pthread_mutex_unlock(&b->lock);
            pthread_mutex_lock(&b->lock);
        }
        if (b->prefix != seen) /* it was resized, and nodes have other numbers */
            break;
    }
    if (!batch->n)
        return;
    t->n_copying++;
    batch->status = device_fetch_begin(&batch->fetch, &b->memory, batch->ranges, batch->n_ranges);
}

/* Writes what is still what it was when the copy began. A node that cannot be written is not tried
 * again. */
static int64_t finish(struct cache_tier *t, struct cache_tier_batch *batch)
{
    struct cache_blocks *b = t->blocks;
    int64_t n = 0;
    int whole[CACHE_TIER_BATCH];
    if (!batch->n)
        return 0;
    infer_status ended = device_fetch_end(&batch->fetch);
    pthread_mutex_lock(&b->lock);
    for (int32_t i = 0; i < batch->n; i++) {
        struct cache_node *node = &b->prefix->nodes[batch->nodes[i]];
        whole[i] = node->state == CACHE_NODE_LIVE && node->in_tier == CACHE_TIER_COPYING;
        if (whole[i])
            node->in_tier = CACHE_TIER_STORED;
        whole[i] &= batch->status == INFER_OK && ended == INFER_OK;
    }
    t->n_copying--;
    pthread_cond_broadcast(&b->left);
    pthread_mutex_unlock(&b->lock);
    for (int32_t i = 0; i < batch->n; i++) {
        uint8_t *record = batch->records + (size_t)i * t->record_bytes;
        uint8_t *at = record + t->head_bytes;
        for (int32_t g = 0; whole[i] && g < b->config.n_groups; at += b->block_bytes[g++])
            if (!(batch->entries[i].missing >> g & 1))
                cache_block_clean(b, g, b->config.block_tokens, at);
        n += whole[i] && write_record(t, &batch->entries[i], batch->tokens[i], record) == INFER_OK;
    }
    batch->n = 0;
    return n;
}

void cache_tier_settle(struct cache_tier *t)
{
    struct cache_blocks *b = t->blocks;
    t->waited_for++;
    while (t->n_copying)
        pthread_cond_wait(&b->left, &b->lock);
    t->waited_for--;
    pthread_cond_broadcast(&b->left);
}

int64_t cache_tier_flush(struct cache_tier *t)
{
    struct cache_blocks *b = t->blocks;
    int64_t n = 0;
    int32_t i = 0, turn = 0;
    pthread_mutex_lock(&t->writing);
    pthread_mutex_lock(&b->lock);
    const struct cache_prefix *seen = b->prefix;
    for (int more = 1; more; turn = !turn) { /* one is written while the next is copied */
        if (b->prefix != seen)
            i = 0;
        seen = b->prefix;
        if (!t->closing)
            begin(t, &t->batches[turn], &i);
        more = t->batches[turn].n || t->batches[!turn].n || t->waited_for || b->prefix != seen;
        pthread_mutex_unlock(&b->lock);
        n += finish(t, &t->batches[!turn]);
        pthread_mutex_lock(&b->lock);
        while (t->waited_for && !t->batches[turn].n)
            pthread_cond_wait(&b->left, &b->lock);
        more &= !t->closing || t->batches[turn].n;
    }
    pthread_mutex_unlock(&b->lock);
    pthread_mutex_unlock(&t->writing);
    return n;
}

static void *write_always(void *arg)
{
    struct cache_tier *t = arg;
    struct cache_blocks *b = t->blocks;
    uint64_t done = 0;
    pthread_mutex_lock(&b->lock);
    while (!t->closing) {
        if (t->n_noticed == done) {
            pthread_cond_wait(&t->wake, &b->lock);
            continue;
        }
        done = t->n_noticed;
        pthread_mutex_unlock(&b->lock);
        cache_tier_flush(t);
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* ------------------------------------------------------------------ reading */

/* The record of this block, whole, into `record`. One that should be there and is not is
 * forgotten, unless its slot went to another one meanwhile. */
static int read_record(struct cache_tier *t, struct base_hash128 hash, struct base_hash128 parent,
                       const infer_token *tokens, uint8_t *record)
{
    pthread_mutex_lock(&t->lock);
    int32_t slot = cache_tier_find(t, hash);
    uint64_t serial = slot < 0 ? 0 : t->entries[slot].serial;
    pthread_mutex_unlock(&t->lock);
    if (slot < 0)
        return 0;
    if (base_output_read(&t->file, cache_tier_offset(t, slot), record, t->record_bytes) ==
            INFER_OK &&
        cache_tier_record_is(t, record, hash, parent, tokens))
        return 1;
    pthread_mutex_lock(&t->lock);
    if (t->entries[slot].serial == serial) {
        cache_tier_remove(t, slot);
        t->n_damaged++;
    }
    pthread_mutex_unlock(&t->lock);
    return 0;
}

/* Block k of a table out of a record. 0: the record lacks what is needed of it, or the device
 * failed. */
static int upload(struct cache_table *table, int32_t k, const uint8_t *record, size_t head_bytes)
{
    struct cache_blocks *b = table->blocks;
    const uint32_t missing = cache_tier_record_missing(record);
    const uint8_t *at = record + head_bytes;
    struct device_range ranges[CACHE_GROUPS_MAX];
    int32_t n = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (k >= table->n_passed[g] && missing & 1u << g)
            return 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        if (k >= table->n_passed[g]) /* which is only read */
            ranges[n++] = cache_block_range(b, g, table->ids[g][k], (void *)(uintptr_t)at);
        at += b->block_bytes[g];
    }
    return device_buffer_put(&b->memory, ranges, n) == INFER_OK;
}

static void copy_tokens(const void *sequence, int32_t first, int32_t n, infer_token *out)
{
    memcpy(out, (const infer_token *)sequence + first, (size_t)n * sizeof *out);
}

/* Nodes that came from the file need not go there. */
static void mark(struct cache_tier *t, const struct cache_table *table, int32_t first)
{
    struct base_hash128 parent;
    pthread_mutex_lock(&t->blocks->lock);
    for (int32_t k = first; k < table->n_nodes; k++) {
        hash_node(t, table->nodes[k], &parent);
        t->blocks->prefix->nodes[table->nodes[k]].in_tier = CACHE_TIER_STORED;
    }
    pthread_mutex_unlock(&t->blocks->lock);
}

/* How far one can go on with what the file has behind the blocks of a table: at most n tokens. */
static int32_t plan(struct cache_tier *t, const struct cache_table *table,
                    const struct cache_key *key, const infer_token *tokens, int32_t n)
{
    const struct cache_blocks *b = t->blocks;
    const int32_t step = b->config.block_tokens;
    struct base_hash128 hash = cache_tier_root(t, key);
    int32_t run[CACHE_GROUPS_MAX], end = table->n_nodes * step; /* run: as cache_parts_usable() */
    for (int32_t g = 0; g < b->config.n_groups; g++)
        run[g] = table->n_nodes - table->n_passed[g];
    pthread_mutex_lock(&t->lock);
    for (int32_t k = 0; (k + 1) * step <= n; k++) {
        int whole = 1;
        hash = cache_tier_hash(t, hash, tokens + k * step);
        if (k < table->n_nodes)
            continue;
        int32_t slot = cache_tier_find(t, hash);
        if (slot < 0)
            break;
        for (int32_t g = 0; g < b->config.n_groups; g++) {
            run[g] = t->entries[slot].missing & 1u << g ? 0 : run[g] + 1;
            whole &= run[g] > k - cache_part_first(b, g, (k + 1) * step);
        }
        end = whole ? (k + 1) * step : end;
    }
    pthread_mutex_unlock(&t->lock);
    return end;
}

/* Blocks from `found` to `end` of the table, which has room for them, as far as the file has
 * them. */
static int32_t read_blocks(struct cache_tier *t, struct cache_table *table,
                           const struct cache_key *key, const infer_token *tokens, int32_t found,
                           int32_t end, uint8_t *record)
{
    const int32_t step = t->blocks->config.block_tokens;
    struct base_hash128 parent = cache_tier_root(t, key), hash;
    int32_t at = 0;
    for (; at < end; at += step, parent = hash) {
        hash = cache_tier_hash(t, parent, tokens + at);
        if (at < found)
            continue;
        if (!read_record(t, hash, parent, tokens + at, record) ||
            !upload(table, at / step, record, t->head_bytes))
            break;
        t->n_read++;
    }
    pthread_mutex_lock(&t->lock);
    cache_tier_touch_chain(t, at > found ? cache_tier_find(t, parent) : -1);
    pthread_mutex_unlock(&t->lock);
    return at;
}

/* Finds in memory and in the file what the first n tokens need, as far as there is room. Where a
 * record turns out to be no use, once more without it. */
static int32_t fetch(struct cache_tier *t, struct cache_table *table, const struct cache_key *key,
                     const infer_token *tokens, int32_t n, uint8_t *record)
{
    const int32_t step = t->blocks->config.block_tokens;
    for (;;) {
        int32_t found = cache_table_find(table, tokens, copy_tokens, n);
        int32_t end = plan(t, table, key, tokens, n);
        while (end > found && cache_table_leap(table, end) != INFER_OK)
            end = plan(t, table, key, tokens, found + (end - found) / 2 / step * step);
        n = end > found ? read_blocks(t, table, key, tokens, found, end, record) : 0;
        if (end > found && n == end) {
            cache_table_keep(table, tokens, copy_tokens, end);
            mark(t, table, found / step);
            return end;
        }
        cache_table_clear(table);
        if (!n)
            return 0;
    }
}

int32_t cache_tier_fetch(struct cache_tier *t, struct cache_table *table,
                         const struct cache_key *key, const infer_token *tokens, int32_t n)
{
    if (!t->n_stored || n < t->blocks->config.block_tokens)
        return 0;
    uint8_t *record = base_new_raw(&t->blocks->alloc, 1, t->record_bytes);
    if (!record)
        return 0;
    pthread_rwlock_rdlock(&t->clearing);
    int32_t end = fetch(t, table, key, tokens, n, record);
    pthread_rwlock_unlock(&t->clearing);
    base_free(&t->blocks->alloc, record);
    return end;
}

/* --------------------------------------------------------------------- life */

static infer_status make_batches(struct cache_tier *t)
{
    const struct cache_blocks *b = t->blocks;
    const size_t n = b->device->ops->piece_bytes / t->record_bytes;
    t->batch_room = (int32_t)BASE_MIN(BASE_MAX(n, (size_t)1), (size_t)CACHE_TIER_BATCH);
    for (int i = 0; i < 2; i++) {
        t->batches[i].records = base_new_raw(&b->alloc, (size_t)t->batch_room, t->record_bytes);
        if (!t->batches[i].records)
            return INFER_ERR_NO_MEMORY;
    }
    t->scratch = t->batches[0].records;
    return INFER_OK;
}

static infer_status make(struct cache_tier *t, const struct cache_tier_config *config)
{
    const struct cache_blocks *b = t->blocks;
    t->head_bytes = BASE_ALIGN_UP(80 + 4 * (size_t)b->config.block_tokens + 16, (size_t)64);
    t->record_bytes = t->head_bytes;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        t->record_bytes += b->block_bytes[g];
    uint64_t n = config->bytes / t->record_bytes;
    if (!n)
        return base_error(INFER_ERR_LIMIT, "tier_bytes is %llu and one block takes %zu",
                          (unsigned long long)config->bytes, t->record_bytes);
    t->n_slots = (int32_t)BASE_MIN(n, (uint64_t)INT32_MAX / 4);
    infer_status st = make_batches(t);
    if (st == INFER_OK)
        st = cache_tier_index_make(t);
    if (st == INFER_OK)
        st = cache_tier_file_open(t, config);
    if (st != INFER_OK || !config->thread)
        return st;
    int err = pthread_create(&t->thread, NULL, write_always, t);
    if (err)
        return base_error(INFER_ERR_LIMIT, "cannot start the tier's thread: %s", strerror(err));
    t->has_thread = 1;
    return INFER_OK;
}

infer_status cache_tier_open(struct cache_blocks *b, const struct cache_tier_config *config)
{
    struct cache_tier *t = base_new(&b->alloc, 1, sizeof *t);
    if (!t)
        return INFER_ERR_NO_MEMORY;
    t->blocks = b;
    t->file.fd = -1;
    b->tier = t;
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->writing, NULL);
    pthread_rwlock_init(&t->clearing, NULL);
    pthread_cond_init(&t->wake, NULL);
    infer_status st = make(t, config);
    if (st != INFER_OK)
        cache_tier_close(b);
    return st;
}

void cache_tier_close(struct cache_blocks *b)
{
    struct cache_tier *t = b->tier;
    if (!t)
        return;
    if (t->has_thread) {
        pthread_mutex_lock(&b->lock);
        t->closing = 1;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&b->lock);
        pthread_join(t->thread, NULL);
    }
    b->tier = NULL;
    base_output_close(&t->file);
    base_free(&b->alloc, t->batches[0].records);
    base_free(&b->alloc, t->batches[1].records);
    base_free(&b->alloc, t->entries);
    base_free(&b->alloc, t->buckets);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->writing);
    pthread_rwlock_destroy(&t->clearing);
    pthread_mutex_destroy(&t->lock);
    base_free(&b->alloc, t);
}

infer_status cache_tier_clear(struct cache_tier *t)
{
    pthread_rwlock_wrlock(&t->clearing);
    pthread_mutex_lock(&t->writing);
    cache_prefix_clear(t->blocks);
    pthread_mutex_lock(&t->lock);
    while (t->oldest >= 0)
        cache_tier_remove(t, t->oldest);
    pthread_mutex_unlock(&t->lock);
    infer_status st = cache_tier_file_cut(t, 0);
    pthread_mutex_unlock(&t->writing);
    pthread_rwlock_unlock(&t->clearing);
    return st;
}
