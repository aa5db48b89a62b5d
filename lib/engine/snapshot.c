/* What all snapshots have in common: the head, the blocks, where they go. */
#include "engine/snapshot.h"

#include "base/output.h"
#include "model/digest.h"

#include <infer/version.h>

void snapshot_head(struct cache_snapshot_head *out, const struct infer_kv_cache *kv, int32_t kind)
{
    const struct cache_config *c = &kv->blocks->config;
    *out = (struct cache_snapshot_head){.format = kind == CACHE_SNAPSHOT_REQUEST
                                                      ? CACHE_SNAPSHOT_FORMAT
                                                      : CACHE_SNAPSHOT_FORMAT_FIRST,
                                        .kind = kind,
                                        .library = INFER_VERSION,
                                        .model = model_digest(kv->model),
                                        .type = c->type,
                                        .block_tokens = c->block_tokens};
}

/* ------------------------------------------------------------------ writing */

/* Where the bytes go: a file, or memory that is known to be large enough. */
struct sink {
    struct base_output *file;
    uint8_t *memory;
};

static infer_status put(struct sink *to, const void *data, size_t size)
{
    if (to->file)
        return base_output_write(to->file, data, size);
    memcpy(to->memory, data, size);
    to->memory += size;
    return INFER_OK;
}

static infer_status put_block(struct sink *to, const struct cache_blocks *b, int32_t g, int32_t k,
                              const uint8_t *block)
{
    uint8_t head[CACHE_SNAPSHOT_SECTION_BYTES];
    const struct cache_snapshot_section section = {
        .id = CACHE_SNAPSHOT_BLOCK, .group = g, .index = k, .bytes = b->block_bytes[g]};
    cache_snapshot_section_write(head, &section, block);
    infer_status st = put(to, head, sizeof head);
    return st == INFER_OK ? put(to, block, (size_t)section.bytes) : st;
}

static infer_status put_all(struct sink *to, const struct cache_snapshot_head *head,
                            const struct base_str *body, const struct cache_held *held)
{
    uint8_t bytes[CACHE_SNAPSHOT_HEAD_BYTES];
    struct cache_reader reader = {0};
    const uint8_t *block = bytes;
    int32_t g = 0, k = 0;
    cache_snapshot_head_write(bytes, head);
    infer_status st = cache_reader_open(&reader, held);
    if (st == INFER_OK)
        st = put(to, bytes, sizeof bytes);
    if (st == INFER_OK)
        st = put(to, body->data, body->size);
    while (st == INFER_OK && block) {
        st = cache_reader_next(&reader, &g, &k, &block);
        if (st == INFER_OK && block)
            st = put_block(to, held->blocks, g, k, block);
    }
    cache_reader_close(&reader);
    return st;
}

static infer_status write_file(const char *path, const struct cache_snapshot_head *head,
                               const struct base_str *body, const struct cache_held *held)
{
    struct base_output file;
    struct base_str part;
    base_str_init(&part, body->alloc, 0);
    infer_status st = base_str_appendf(&part, "%s.part", path);
    if (st == INFER_OK)
        st = base_output_open(&file, body->alloc, part.data);
    if (st == INFER_OK) {
        struct sink to = {.file = &file};
        st = base_output_cut(&file, 0); /* of a save that was killed */
        if (st == INFER_OK)
            st = put_all(&to, head, body, held);
        if (st == INFER_OK)
            st = base_output_sync(&file);
        if (st == INFER_OK)
            st = base_output_rename(&file, path);
        if (st == INFER_OK)
            base_output_close(&file);
        else
            base_output_remove(&file);
    }
    base_str_release(&part);
    return st;
}

static infer_status write_memory(const struct snapshot_target *to,
                                 const struct cache_snapshot_head *head,
                                 const struct base_str *body, const struct cache_held *held)
{
    const size_t room = *to->size;
    struct sink sink = {.memory = to->buffer};
    *to->size = (size_t)head->bytes;
    if (!to->buffer)
        return INFER_OK;
    if (room < head->bytes)
        return base_error(INFER_ERR_LIMIT, "the snapshot has %llu bytes and the buffer %zu",
                          (unsigned long long)head->bytes, room);
    return put_all(&sink, head, body, held);
}

infer_status snapshot_write(const struct snapshot_target *to, struct cache_snapshot_head *head,
                            const struct base_str *body, const struct cache_held *held)
{
    int32_t n_blocks;
    head->n_tokens = held->n_tokens;
    head->gaps = cache_held_has_gaps(held);
    head->bytes = CACHE_SNAPSHOT_HEAD_BYTES + body->size + cache_held_bytes(held, &n_blocks);
    head->bytes += (uint64_t)n_blocks * CACHE_SNAPSHOT_SECTION_BYTES;
    return to->path ? write_file(to->path, head, body, held) : write_memory(to, head, body, held);
}

/* ------------------------------------------------------------------ reading */

infer_status snapshot_open(struct cache_snapshot *out, const struct infer_kv_cache *kv,
                           int32_t kind, const void *data, size_t size, uint64_t adapter)
{
    infer_status st = cache_snapshot_open(out, data, size);
    if (st != INFER_OK)
        return st;
    const struct cache_snapshot_head *h = &out->head;
    const struct base_hash128 model = model_digest(kv->model);
    if (h->kind != kind)
        return base_error(INFER_ERR_INVALID, "the snapshot is of %s, not of %s",
                          h->kind == CACHE_SNAPSHOT_REQUEST  ? "a request"
                          : h->kind == CACHE_SNAPSHOT_PREFIX ? "a prefix"
                                                             : "something unknown",
                          kind == CACHE_SNAPSHOT_REQUEST ? "a request" : "a prefix");
    if (h->numerics < INFER_NUMERICS_STABLE || h->numerics > INFER_NUMERICS_INVARIANT)
        return base_error(INFER_ERR_UNSUPPORTED, "the snapshot's numerics %d are not known",
                          h->numerics);
    if (h->model.low != model.low || h->model.high != model.high)
        return base_error(INFER_ERR_INVALID, "the snapshot was made with another model than %s",
                          kv->model->path);
    if (h->adapter != adapter)
        return base_error(INFER_ERR_INVALID, "the snapshot was made with %s",
                          !h->adapter ? "no adapter"
                          : adapter   ? "another adapter or adapter_scale"
                                      : "an adapter, which must be given");
    return cache_snapshot_fits(out, kv->blocks);
}

static int32_t count(const struct cache_blocks *b, int32_t g, int32_t n_tokens)
{
    int32_t n = BASE_DIV_UP(n_tokens, b->config.block_tokens);
    return cache_group_is_state(&b->config.groups[g]) ? BASE_MIN(n, 1) : n;
}

infer_status snapshot_check_blocks(struct cache_snapshot s, const struct cache_blocks *b,
                                   int32_t n_tokens)
{
    struct cache_snapshot_section section;
    struct cache_cursor data;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        for (int32_t k = 0; k < count(b, g, n_tokens); k++) {
            infer_status st = cache_snapshot_next(&s, CACHE_SNAPSHOT_BLOCK, &section, &data);
            if (st != INFER_OK)
                return st;
            if (section.group != g || section.index != k || data.size != b->block_bytes[g])
                return base_error(INFER_ERR_FORMAT,
                                  "block %d of group %d of the snapshot is not where it belongs", k,
                                  g);
        }
    }
    return cache_snapshot_end(&s);
}

infer_status snapshot_load_blocks(struct cache_snapshot s, struct cache_table *table, int32_t first,
                                  int32_t end, int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    struct cache_snapshot_section section;
    struct cache_cursor data;
    struct device_range ranges[64];
    infer_status st = INFER_OK;
    int32_t n = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        for (int32_t k = 0; st == INFER_OK && k < count(b, g, n_tokens); k++) {
            int wanted = cache_group_is_state(&b->config.groups[g])
                             ? end * b->config.block_tokens >= n_tokens
                             : k >= BASE_MAX(first, table->n_passed[g]) && k < end;
            st = cache_snapshot_next(&s, CACHE_SNAPSHOT_BLOCK, &section, &data);
            if (st == INFER_OK && wanted) /* which is only read */
                ranges[n++] =
                    cache_block_range(b, g, table->ids[g][k], (void *)(uintptr_t)data.data);
            if (n == (int32_t)BASE_COUNT(ranges) && st == INFER_OK) {
                st = device_buffer_put(&b->memory, ranges, n);
                n = 0;
            }
        }
    }
    return st == INFER_OK ? device_buffer_put(&b->memory, ranges, n) : st;
}
