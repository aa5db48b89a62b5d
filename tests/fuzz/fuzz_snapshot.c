/* Snapshots: the container, and a request out of it. The input's checksums are put right first,
 * for without that nothing but them would be looked at. */
#include "fuzz.h"

#include "cache/snapshot.h"
#include "engine/snapshot.h"

#include <stdlib.h>
#include <string.h>

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t value = 0;
    for (int i = 8; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

static void put_hash(uint8_t *p, struct base_hash128 hash)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(hash.low >> (8 * i));
        p[8 + i] = (uint8_t)(hash.high >> (8 * i));
    }
}

/* Head, size and sections as far as they lie inside. */
static void repair(uint8_t *data, size_t size)
{
    const size_t head = CACHE_SNAPSHOT_HEAD_BYTES, section = CACHE_SNAPSHOT_SECTION_BYTES;
    uint8_t both[CACHE_SNAPSHOT_SECTION_BYTES];
    if (size < head)
        return;
    for (int i = 0; i < 8; i++)
        data[16 + i] = (uint8_t)((uint64_t)size >> (8 * i));
    put_hash(data + head - 16, base_hash128_plain(data, head - 16));
    for (size_t at = head; size - at >= section;) {
        uint64_t bytes = u64_at(data + at + 16);
        if (bytes > size - at - section)
            return;
        memcpy(both, data + at, section - 16);
        put_hash(both + section - 16, base_hash128_plain(data + at + section, (size_t)bytes));
        put_hash(data + at + section - 16, base_hash128_plain(both, section));
        at += section + (size_t)bytes;
    }
}

/* A cache like the one that the corpus comes from: one group of keys and values. */
static const struct cache_blocks blocks = {
    .config = {.type = INFER_DTYPE_F32,
               .block_tokens = 16,
               .n_groups = 1,
               .groups = {{.n_layers = 1, .n_heads = 1, .k_bytes = 64, .layer_bytes = 128}}},
    .block_bytes = {128},
};

static void look(const uint8_t *data, size_t size)
{
    struct cache_snapshot s;
    struct snapshot_request r;
    if (cache_snapshot_open(&s, data, size) != INFER_OK ||
        cache_snapshot_fits(&s, &blocks) != INFER_OK || snapshot_get_request(&r, &s) != INFER_OK)
        return;
    fuzz_check(r.n_prompt > 0 && r.n_tokens >= 0 && r.n_pending < 4);
    fuzz_check(r.tokens.size / 4 == (size_t)r.n_prompt + (size_t)r.n_tokens);
    fuzz_check(r.config.n_said >= 0 && r.config.n_said <= r.n_prompt && r.config.min_tokens >= 0);
    fuzz_check(r.config.max_draft_tokens >= 0 && r.config.max_draft_tokens <= 64);
    fuzz_check(r.config.ngram_min >= 0 && r.config.ngram_max <= 16);
    fuzz_check(r.released <= r.text.size && r.n_taken <= (uint64_t)r.n_tokens);
    const char *stop = (const char *)r.stop.data;
    for (int32_t i = 0; i < r.n_stop; i++)
        stop += strlen(stop) + 1;
    fuzz_check(stop == (const char *)r.stop.data + r.stop.size);
    if (snapshot_check_blocks(s, &blocks, r.n_computed) == INFER_OK)
        fuzz_check(r.n_computed < r.n_prompt + r.n_tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    look(data, size);
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    repair(copy, size);
    look(copy, size);
    free(copy);
    return 0;
}
