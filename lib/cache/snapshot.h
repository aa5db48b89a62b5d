/* Snapshots: computed blocks and what belongs to them as bytes that outlive the process. This is
 * the container; what a request or a prefix puts into it is the engine's.
 *
 * A head of fixed size, then sections one behind the other, in an order that the kind of snapshot
 * fixes. Head and sections carry XXH3-128 checksums. All numbers are little-endian
 * (doc/snapshots.md has the table). A reader holds the bytes of somebody else: it believes a
 * number only after it has compared it with what is there. */
#ifndef CACHE_SNAPSHOT_H
#define CACHE_SNAPSHOT_H

#include "base/hash.h"
#include "base/str.h"
#include "cache/blocks.h"

/* The newest format, and the one that everything is written in that says nothing new. */
#define CACHE_SNAPSHOT_FORMAT        2
#define CACHE_SNAPSHOT_FORMAT_FIRST  1
#define CACHE_SNAPSHOT_HEAD_BYTES    104
#define CACHE_SNAPSHOT_SECTION_BYTES 40

enum { CACHE_SNAPSHOT_REQUEST = 1, CACHE_SNAPSHOT_PREFIX = 2 };

struct cache_snapshot_head {
    int32_t format, kind;
    uint32_t library; /* INFER_VERSION of who wrote it; for people */
    uint64_t bytes;   /* of the whole snapshot */
    struct base_hash128 model;
    uint64_t adapter;                     /* 0: none */
    int32_t type, block_tokens, numerics; /* of keys and values */
    int32_t n_tokens;                     /* positions that are in its blocks */
    int32_t gaps; /* blocks behind windows are zeros: nobody else may use them */
};

/* Four letters. */
#define CACHE_SNAPSHOT_ID(a, b, c, d)                                                              \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define CACHE_SNAPSHOT_GROUPS CACHE_SNAPSHOT_ID('G', 'R', 'P', 'S')
#define CACHE_SNAPSHOT_TOKENS CACHE_SNAPSHOT_ID('T', 'O', 'K', 'S')
#define CACHE_SNAPSHOT_BLOCK  CACHE_SNAPSHOT_ID('B', 'L', 'C', 'K')

struct cache_snapshot_section {
    uint32_t id;
    int32_t group, index; /* of a block, else 0 */
    uint64_t bytes;       /* of what follows */
};

/* ------------------------------------------------------------------ writing */

void cache_write_u32(uint8_t *out, uint32_t value);
void cache_write_u64(uint8_t *out, uint64_t value);
infer_status cache_put_u32(struct base_str *out, uint32_t value);
infer_status cache_put_u64(struct base_str *out, uint64_t value);
infer_status cache_put_f32(struct base_str *out, float value);
infer_status cache_put_tokens(struct base_str *out, const infer_token *tokens, size_t n);

void cache_snapshot_head_write(uint8_t out[CACHE_SNAPSHOT_HEAD_BYTES],
                               const struct cache_snapshot_head *head);
void cache_snapshot_section_write(uint8_t out[CACHE_SNAPSHOT_SECTION_BYTES],
                                  const struct cache_snapshot_section *section, const void *data);
/* Appends a section of plain data. */
infer_status cache_snapshot_put(struct base_str *out, uint32_t id, const void *data, size_t size);
/* What must be equal for bytes of a block to mean the same. */
#define CACHE_SNAPSHOT_GROUP_NUMBERS 8
void cache_snapshot_group(const struct cache_blocks *blocks, int32_t group,
                          uint64_t out[CACHE_SNAPSHOT_GROUP_NUMBERS]);
/* Appends the sizes of all groups of a cache: readers compare them with their own. */
infer_status cache_snapshot_put_groups(struct base_str *out, const struct cache_blocks *blocks);

/* ------------------------------------------------------------------ reading */

struct cache_snapshot {
    struct cache_snapshot_head head;
    const uint8_t *data;
    size_t size, at;
};

/* Numbers out of a section; where it ends too early they are 0 and `bad` is set. */
struct cache_cursor {
    const uint8_t *data;
    size_t size, at;
    int bad;
};

uint32_t cache_get_u32(struct cache_cursor *c);
uint64_t cache_get_u64(struct cache_cursor *c);
float cache_get_f32(struct cache_cursor *c);
const uint8_t *cache_get_bytes(struct cache_cursor *c, size_t n); /* NULL: not there */

/* Checks head, sizes and all checksums. FORMAT (no snapshot, damaged, cut), UNSUPPORTED (of a
 * newer format, by number). `data` stays the caller's and must outlive the result. */
infer_status cache_snapshot_open(struct cache_snapshot *out, const void *data, size_t size);
/* The next section, which must be this one. FORMAT if not. */
infer_status cache_snapshot_next(struct cache_snapshot *s, uint32_t id,
                                 struct cache_snapshot_section *section, struct cache_cursor *out);
/* FORMAT unless all sections were read. */
infer_status cache_snapshot_end(const struct cache_snapshot *s);
/* Whether its blocks fit into this cache: INVALID, naming what differs. Reads the groups. */
infer_status cache_snapshot_fits(struct cache_snapshot *s, const struct cache_blocks *blocks);

#endif
