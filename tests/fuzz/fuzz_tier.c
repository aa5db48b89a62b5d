/* The file of a KV cache's tier. The input is put into the place of one, once as it is and once
 * with its checksums put right; then it is opened, read from and written to. */
#include "fuzz.h"

#include "cache/tier.h"
#include "device/device.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD   4096
#define RECORD (192 + 128)

static char folder[256], path[600];
static struct cache_blocks *blocks;
static const struct cache_key key = {.name = "fuzz", .n = 4};
static infer_token tokens[64];

static void remove_folder(void)
{
    cache_blocks_destroy(&blocks);
    unlink(path);
    rmdir(folder);
}

static infer_status open_tier(void)
{
    const struct cache_tier_config config = {.folder = folder, .bytes = 8 * RECORD};
    return cache_tier_open(blocks, &config);
}

/* A small cache, and the name that its tier has. */
static void make_once(void)
{
    static struct infer_device *device;
    const struct device_config d = {.n_threads = 1};
    struct cache_config c = {.budget_bytes = 128 * 8,
                             .type = INFER_DTYPE_F32,
                             .block_tokens = 16,
                             .sequence_tokens = 128,
                             .prefix = 1,
                             .n_groups = 1,
                             .groups = {{.n_layers = 1, .n_heads = 1, .k_slot = 4, .v_slot = 4}}};
    snprintf(folder, sizeof folder, "%s/infer-fuzz-tier-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    fuzz_check(mkdtemp(folder) != NULL);
    fuzz_check(device_create(&device, &d) == INFER_OK);
    fuzz_check(cache_blocks_create(&blocks, &base_alloc_default, device, &c) == INFER_OK);
    fuzz_check(open_tier() == INFER_OK);
    snprintf(path, sizeof path, "%s", blocks->tier->file.path);
    fuzz_check(blocks->tier->record_bytes == RECORD);
    cache_tier_close(blocks);
    device_release(&device);
    for (int32_t i = 0; i < 64; i++)
        tokens[i] = i;
    atexit(remove_folder);
}

static void put_hash(uint8_t *p, struct base_hash128 hash)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(hash.low >> (8 * i));
        p[8 + i] = (uint8_t)(hash.high >> (8 * i));
    }
}

/* Head, and the chain of hashes that the lookup below follows, for records that ask for it. */
static void repair(uint8_t *data, size_t size)
{
    struct cache_tier t = {.blocks = blocks, .head_bytes = 192, .record_bytes = RECORD};
    if (size < HEAD)
        return;
    put_hash(data + 256, base_hash128_plain(data, 256));
    memcpy(t.secret, data + 64, sizeof t.secret);
    struct base_hash128 parent = cache_tier_root(&t, &key);
    for (size_t at = HEAD, k = 0; size - at >= RECORD && k < 4; at += RECORD, k++) {
        struct cache_tier_entry entry = {.parent = parent, .serial = data[at + 8]};
        entry.hash = cache_tier_hash(&t, parent, tokens + 16 * k);
        if (data[at] % 8) /* most of them; else it stays as it is */
            cache_tier_record_write(&t, data + at, &entry, tokens + 16 * k);
        parent = entry.hash;
    }
}

static int32_t fetch(void)
{
    struct cache_table table;
    fuzz_check(cache_table_init(&table, blocks, 64) == INFER_OK);
    fuzz_check(cache_table_share(&table, &key) == INFER_OK);
    int32_t n = cache_tier_fetch(blocks->tier, &table, &key, tokens, 64);
    cache_table_release(&table);
    return n;
}

static void look(const uint8_t *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    fuzz_check(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    if (open_tier() != INFER_OK)
        return;
    int32_t n = fetch();
    fuzz_check(n >= 0 && n <= 64 && n % 16 == 0);
    cache_prefix_clear(blocks);
    n = fetch();
    cache_tier_flush(blocks->tier);
    fuzz_check(fetch() == 0); /* all in memory, or not */
    fuzz_check(cache_tier_clear(blocks->tier) == INFER_OK);
    fuzz_check(blocks->n_used == 0);
    cache_tier_close(blocks);
}

/* The identity in the head depends on this program alone, so inputs need not have it. */
static void put_identity(uint8_t *data, size_t size)
{
    static uint8_t head[64];
    if (!head[0]) {
        FILE *f = fopen(path, "rb");
        fuzz_check(f && fread(head, 1, sizeof head, f) == sizeof head && fclose(f) == 0);
    }
    if (size >= sizeof head && data[0] == 'I')
        memcpy(data, head, sizeof head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!blocks)
        make_once();
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    put_identity(copy, size);
    look(copy, size);
    repair(copy, size);
    look(copy, size);
    free(copy);
    return 0;
}
