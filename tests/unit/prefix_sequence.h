/* Sequences that "compute" into their blocks what can be told apart later: for tests of the prefix
 * cache below the engine. */
#ifndef TESTS_UNIT_PREFIX_SEQUENCE_H
#define TESTS_UNIT_PREFIX_SEQUENCE_H

#include "support/cache_check.h"

#include "base/error.h"

#define BT 16

static struct infer_device *device;

static inline int open_device(void **state)
{
    (void)state;
    return device_create(&device, &(struct device_config){.n_threads = 1});
}

static inline int close_device(void **state)
{
    (void)state;
    device_release(&device);
    return 0;
}

/* What groups there are beside one that keeps all positions. */
enum { PLAIN = 1, WINDOW = 2, STATE = 4, SOURCE = 8 /* beside STATE: cross-attention */ };

/* Without STATE two groups of positions, of which WINDOW makes the second a window of 24. */
static inline struct cache_config config_of(int32_t n_blocks, int kinds, int prefix)
{
    struct cache_config c = {.type = INFER_DTYPE_F32,
                             .block_tokens = BT,
                             .sequence_tokens = 64,
                             .prefix = prefix,
                             .n_groups = kinds & SOURCE  ? 4
                                         : kinds & STATE ? 3
                                                         : 2,
                             .groups = {{.n_layers = 2, .n_heads = 1, .k_slot = 16, .v_slot = 16},
                                        {.n_layers = 1, .n_heads = 1, .k_slot = 16, .v_slot = 16},
                                        {.n_layers = 1, .state_bytes = kinds & STATE ? 64 : 0},
                                        {.n_layers = 2, .state_bytes = 64, .is_source = 1}}};
    c.groups[1].window = kinds & WINDOW ? 24 : 0;
    if (!(kinds & PLAIN)) /* nothing that is never let go */
        c.groups[0].window = 40;
    c.budget_bytes =
        cache_config_bytes(&c, (uint64_t)(n_blocks * BT), kinds & STATE ? (uint64_t)n_blocks : 0);
    return c;
}

/* A sequence, what it "computed" in its blocks, and how far. */
struct sequence {
    infer_token tokens[256];
    int32_t n, n_computed, tenant;
    struct cache_table table;
};

static inline void get_tokens(const void *sequence, int32_t first, int32_t n, infer_token *out)
{
    memcpy(out, ((const struct sequence *)sequence)->tokens + first, (size_t)n * sizeof *out);
}

static const struct cache_key keys[] = {
    {0}, {"tenant B", 8, 0, 0}, {"tenant B", 8, 7, 0}, {NULL, 0, 0, 1}};

#define N_KEYS ((int32_t)BASE_COUNT(keys))

static inline void open_sequence(struct sequence *s, struct cache_blocks *b, int32_t tenant)
{
    memset(s, 0, sizeof *s);
    s->tenant = tenant;
    assert_ok(cache_table_init(&s->table, b, 256));
    assert_ok(cache_table_share(&s->table, &keys[tenant]));
}

/* What stands at a position depends on all tokens up to it and on who computed it. */
static inline uint32_t content(const struct sequence *s, int32_t position)
{
    uint32_t h = 2166136261u + (uint32_t)s->tenant;
    for (int32_t i = 0; i <= position; i++)
        h = (h ^ (uint32_t)s->tokens[i]) * 16777619u;
    return h;
}

static inline uint32_t *slot(const struct sequence *s, int32_t g, int32_t layer, int32_t position)
{
    const struct cache_blocks *b = s->table.blocks;
    size_t block = (size_t)s->table.ids[g][position / BT];
    uint8_t *at = (uint8_t *)b->memory.data + b->base[g] + block * b->block_bytes[g] +
                  (size_t)layer * b->config.groups[g].layer_bytes;
    return (uint32_t *)(void *)at + (position % BT) * 4;
}

static inline uint32_t *state_of(const struct sequence *s, int32_t g)
{
    const struct cache_blocks *b = s->table.blocks;
    return (uint32_t *)(void *)((uint8_t *)b->memory.data + b->base[g] +
                                (size_t)s->table.ids[g][0] * b->block_bytes[g]);
}

/* As a step does. */
static inline void compute(struct sequence *s, int32_t n)
{
    cache_table_copy(&s->table);
    if (s->table.blocks->config.n_groups > 3 && !s->n_computed) /* what it is about */
        *state_of(s, 3) = content(s, 0);
    for (; n > 0; n--, s->n_computed++) {
        for (int32_t g = 0; g < 2; g++)
            for (int32_t l = 0; l < s->table.blocks->config.groups[g].n_layers; l++)
                if (s->n_computed / BT >= s->table.n_passed[g])
                    *slot(s, g, l, s->n_computed) = content(s, s->n_computed);
        if (s->table.blocks->config.n_groups > 2)
            *state_of(s, 2) = content(s, s->n_computed);
    }
    cache_table_keep(&s->table, s, get_tokens, s->n_computed);
    if (s->table.blocks->config.n_groups > 2)
        cache_table_checkpoint(&s->table, s->n_computed, s->n_computed > s->n / 2);
}

static inline void check_content(const struct sequence *s)
{
    for (int32_t g = 0; g < 2; g++)
        for (int32_t i = s->table.n_passed[g] * BT; i < s->n_computed; i++)
            for (int32_t l = 0; l < s->table.blocks->config.groups[g].n_layers; l++)
                assert_int_equal(*slot(s, g, l, i), content(s, i));
    if (s->table.blocks->config.n_groups > 2 && s->n_computed)
        assert_int_equal(*state_of(s, 2), content(s, s->n_computed - 1));
    if (s->table.blocks->config.n_groups > 3 && s->n_computed)
        assert_int_equal(*state_of(s, 3), content(s, 0));
}

/* Tokens 0 .. n - 1 of a text that is the same for all of one seed. */
static inline void write_tokens(struct sequence *s, int32_t n, int32_t seed)
{
    for (; s->n < n; s->n++)
        s->tokens[s->n] = s->n * 31 + seed;
}

/* Begins as the engine does: what is there, and blocks for the rest. */
static inline int begin(struct sequence *s)
{
    s->n_computed = cache_table_find(&s->table, s, get_tokens, s->n - 1);
    cache_table_copy(&s->table);
    if (cache_table_reserve(&s->table, s->n) == INFER_OK)
        return 1;
    cache_table_clear(&s->table);
    s->n_computed = 0;
    return 0;
}

static inline void close_sequence(struct sequence *s)
{
    cache_table_release(&s->table);
}

static inline struct cache_blocks *open_kinds(int32_t n_blocks, int kinds)
{
    struct cache_blocks *b = NULL;
    struct cache_config c = config_of(n_blocks, kinds, 1);
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    return b;
}

static inline struct cache_blocks *open_cache(int32_t n_blocks)
{
    struct cache_blocks *b = open_kinds(n_blocks, PLAIN);
    assert_int_equal(b->n_blocks[0], n_blocks);
    assert_int_equal(b->n_blocks[1], n_blocks);
    return b;
}

static inline struct base_hash128 weak_hash(const void *data, size_t size, const uint8_t *secret)
{
    (void)data;
    (void)size;
    (void)secret;
    return (struct base_hash128){3, 4};
}

#endif
