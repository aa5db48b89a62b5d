/* The prefix cache below the engine: what is found is what was written, whoever wrote it; what
 * goes first; who may share; and a long random life, with all structures walked after each act. */
#include "support/cache_check.h"

#include "base/error.h"
#include "support/test_alloc.h"

#define BT 16

static struct infer_device *device;

static int open_device(void **state)
{
    (void)state;
    return device_create(&device, &(struct device_config){.n_threads = 1});
}

static int close_device(void **state)
{
    (void)state;
    device_release(&device);
    return 0;
}

/* Two groups of positions, as full and window layers have; without a prefix cache a state too. */
static struct cache_config config_of(int32_t n_blocks, int prefix)
{
    struct cache_config c = {
        .type = INFER_DTYPE_F32,
        .element_bytes = 4,
        .block_tokens = BT,
        .sequence_tokens = 64,
        .prefix = prefix,
        .n_groups = prefix ? 2 : 3,
        .groups = {{.n_layers = 2, .n_heads = 1, .head_dim = 4, .head_dim_v = 4},
                   {.n_layers = 1, .n_heads = 1, .head_dim = 4, .head_dim_v = 4},
                   {.n_layers = 1, .state_bytes = prefix ? 0 : 64}}};
    c.budget_bytes =
        cache_config_bytes(&c, (uint64_t)(n_blocks * BT), prefix ? 0 : (uint64_t)n_blocks);
    return c;
}

/* A sequence, what it "computed" in its blocks, and how far. */
struct sequence {
    infer_token tokens[256];
    int32_t n, n_computed, tenant;
    struct cache_table table;
};

static void get_tokens(const void *sequence, int32_t first, int32_t n, infer_token *out)
{
    memcpy(out, ((const struct sequence *)sequence)->tokens + first, (size_t)n * sizeof *out);
}

static const struct cache_key keys[] = {
    {0}, {"tenant B", 8, 0, 0}, {"tenant B", 8, 7, 0}, {NULL, 0, 0, 1}};

#define N_KEYS ((int32_t)BASE_COUNT(keys))

static void open_sequence(struct sequence *s, struct cache_blocks *b, int32_t tenant)
{
    memset(s, 0, sizeof *s);
    s->tenant = tenant;
    assert_ok(cache_table_init(&s->table, b, 256));
    assert_ok(cache_table_share(&s->table, &keys[tenant]));
}

/* What stands at a position depends on all tokens up to it and on who computed it. */
static uint32_t content(const struct sequence *s, int32_t position)
{
    uint32_t h = 2166136261u + (uint32_t)s->tenant;
    for (int32_t i = 0; i <= position; i++)
        h = (h ^ (uint32_t)s->tokens[i]) * 16777619u;
    return h;
}

static uint32_t *slot(const struct sequence *s, int32_t g, int32_t layer, int32_t position)
{
    const struct cache_blocks *b = s->table.blocks;
    size_t block = (size_t)s->table.ids[g][position / BT];
    uint8_t *at = (uint8_t *)b->memory.data + b->base[g] + block * b->block_bytes[g] +
                  (size_t)layer * b->config.groups[g].layer_bytes;
    return (uint32_t *)(void *)at + (position % BT) * 4;
}

static uint32_t *state_of(const struct sequence *s)
{
    const struct cache_blocks *b = s->table.blocks;
    return (uint32_t *)(void *)((uint8_t *)b->memory.data + b->base[2] +
                                (size_t)s->table.ids[2][0] * b->block_bytes[2]);
}

/* As a step does. */
static void compute(struct sequence *s, int32_t n)
{
    cache_table_copy(&s->table);
    for (; n > 0; n--, s->n_computed++) {
        for (int32_t g = 0; g < 2; g++)
            for (int32_t l = 0; l < s->table.blocks->config.groups[g].n_layers; l++)
                *slot(s, g, l, s->n_computed) = content(s, s->n_computed);
        if (s->table.blocks->config.n_groups == 3)
            *state_of(s) = content(s, s->n_computed);
    }
    cache_table_keep(&s->table, s, get_tokens, s->n_computed);
}

static void check_content(const struct sequence *s)
{
    for (int32_t i = 0; i < s->n_computed; i++)
        for (int32_t g = 0; g < 2; g++)
            for (int32_t l = 0; l < s->table.blocks->config.groups[g].n_layers; l++)
                assert_int_equal(*slot(s, g, l, i), content(s, i));
    if (s->table.blocks->config.n_groups == 3 && s->n_computed)
        assert_int_equal(*state_of(s), content(s, s->n_computed - 1));
}

/* Tokens 0 .. n - 1 of a text that is the same for all of one seed. */
static void write_tokens(struct sequence *s, int32_t n, int32_t seed)
{
    for (; s->n < n; s->n++)
        s->tokens[s->n] = s->n * 31 + seed;
}

/* Begins as the engine does: what is there, and blocks for the rest. */
static int begin(struct sequence *s)
{
    s->n_computed = cache_table_find(&s->table, s, get_tokens, s->n - 1);
    if (cache_table_reserve(&s->table, s->n) == INFER_OK)
        return 1;
    cache_table_clear(&s->table);
    s->n_computed = 0;
    return 0;
}

static void close_sequence(struct sequence *s)
{
    cache_table_release(&s->table);
}

/* ------------------------------------------------------------------- tests */

static struct cache_blocks *open_cache(int32_t n_blocks)
{
    struct cache_blocks *b = NULL;
    struct cache_config c = config_of(n_blocks, 1);
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_int_equal(b->n_blocks[0], n_blocks);
    assert_int_equal(b->n_blocks[1], n_blocks);
    return b;
}

/* A table beside those of run(). */
static const struct cache_table *beside;

/* Runs a prompt of n tokens of a seed to its end; gives back how much it found. */
static int32_t run(struct cache_blocks *b, int32_t n, int32_t seed, int32_t tenant)
{
    struct sequence s;
    open_sequence(&s, b, tenant);
    write_tokens(&s, n, seed);
    assert_true(begin(&s));
    check_content(&s);
    int32_t found = s.n_computed;
    compute(&s, n - found);
    check_content(&s);
    const struct cache_table *tables[] = {&s.table, beside};
    cache_check(b, tables, beside ? 2 : 1);
    close_sequence(&s);
    cache_check(b, &beside, beside != NULL);
    return found;
}

static void test_found_again(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(16);
    assert_int_equal(run(b, 40, 1, 0), 0);
    assert_int_equal(b->prefix->n_cached, 2); /* full blocks alone */
    assert_int_equal(run(b, 40, 1, 0), 32);
    assert_int_equal(run(b, 33, 1, 0), 32);
    assert_int_equal(run(b, 32, 1, 0), 16); /* the last token is always computed */
    assert_int_equal(run(b, 17, 1, 0), 16);
    assert_int_equal(run(b, 16, 1, 0), 0);
    assert_int_equal(run(b, 15, 1, 0), 0);
    assert_int_equal(run(b, 40, 2, 0), 0);
    assert_int_equal(run(b, 100, 1, 0), 32);
    assert_int_equal(run(b, 100, 1, 0), 96);
    assert_int_equal(cache_blocks_free(b, 0), 16); /* kept blocks can be taken */
    assert_int_equal(b->prefix->n_evicted, 0);
    cache_blocks_destroy(&b);
}

/* Name space, adapter and numerics each keep others out. */
static void test_keys(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(32);
    for (int32_t round = 0; round < 2; round++)
        for (int32_t k = 0; k < N_KEYS; k++)
            assert_int_equal(run(b, 40, 1, k), round ? 32 : 0);
    cache_blocks_destroy(&b);
}

static void test_eviction_order(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(8);
    run(b, 64, 1, 0); /* four blocks */
    run(b, 48, 2, 0); /* three */
    assert_int_equal(b->prefix->n_cached, 7);
    run(b, 17, 1, 0); /* touches the first block of the first */
    run(b, 48, 3, 0); /* takes three: one is free, then the oldest tails go */
    assert_int_equal(b->prefix->n_evicted, 2);
    struct sequence s;
    open_sequence(&s, b, 0);
    write_tokens(&s, 64, 1);
    assert_int_equal(cache_table_find(&s.table, &s, get_tokens, 64), 32);
    cache_table_clear(&s.table);
    s.n = 0;
    write_tokens(&s, 48, 2);
    assert_int_equal(cache_table_find(&s.table, &s, get_tokens, 48), 48);
    cache_table_clear(&s.table);
    close_sequence(&s);
    cache_check(b, NULL, 0);
    cache_blocks_destroy(&b);
}

/* Two compute the same at the same time: one copy stays, and both go on with it. */
static void test_duplicates_join(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(16);
    struct sequence s[2];
    for (int32_t i = 0; i < 2; i++) {
        open_sequence(&s[i], b, 0);
        write_tokens(&s[i], 40, 5);
        assert_true(begin(&s[i]));
        assert_int_equal(s[i].n_computed, 0);
    }
    assert_int_equal(b->n_used, 2 * 2 * 3);
    for (int32_t i = 0; i < 2; i++)
        compute(&s[i], 40);
    assert_int_equal(b->n_used, 2 * (2 + 1 + 1));
    assert_int_equal(s[0].table.ids[0][0], s[1].table.ids[0][0]);
    assert_int_not_equal(s[0].table.ids[0][2], s[1].table.ids[0][2]);
    const struct cache_table *tables[] = {&s[0].table, &s[1].table};
    cache_check(b, tables, 2);
    check_content(&s[0]);
    check_content(&s[1]);
    close_sequence(&s[0]);
    close_sequence(&s[1]);
    cache_check(b, NULL, 0);
    cache_blocks_destroy(&b);
}

static struct base_hash128 weak_hash(const void *data, size_t size, const uint8_t *secret)
{
    (void)data;
    (void)size;
    (void)secret;
    return (struct base_hash128){3, 4};
}

/* All blocks have one hash: tokens and parents tell them apart. */
static void test_collisions(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(32);
    b->prefix->hash = weak_hash;
    for (int32_t round = 0; round < 2; round++)
        for (int32_t seed = 0; seed < 4; seed++)
            for (int32_t tenant = 0; tenant < 2; tenant++)
                assert_int_equal(run(b, 40, seed, tenant), round ? 32 : 0);
    /* The same tokens in a block, behind another one. */
    struct sequence s;
    open_sequence(&s, b, 0);
    write_tokens(&s, 40, 0);
    memcpy(s.tokens, s.tokens + BT, BT * sizeof *s.tokens);
    assert_int_equal(cache_table_find(&s.table, &s, get_tokens, 39), 0);
    close_sequence(&s);
    cache_blocks_destroy(&b);
}

static void test_pins(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(8);
    struct sequence s;
    open_sequence(&s, b, 0);
    beside = &s.table;
    write_tokens(&s, 64, 1);
    assert_int_equal(cache_prefix_pin(b, &keys[0], s.tokens, 64), 0);
    assert_int_equal(cache_prefix_unpin(b, &keys[0], s.tokens, 64), 0);
    run(b, 40, 1, 0);
    assert_int_equal(cache_prefix_pin(b, &keys[1], s.tokens, 64), 0); /* another's */
    assert_int_equal(cache_prefix_pin(b, &keys[0], s.tokens, 64), 32);
    const struct cache_table *tables[] = {&s.table};
    cache_check(b, tables, 1);
    assert_int_equal(b->n_used, 4);
    assert_int_equal(cache_blocks_free(b, 0), 6);
    for (int32_t seed = 2; seed < 9; seed++) { /* room is made, but not of these */
        struct sequence other;
        open_sequence(&other, b, 0);
        write_tokens(&other, 90, seed);
        assert_true(begin(&other));
        compute(&other, 90);
        close_sequence(&other);
    }
    assert_int_equal(cache_table_find(&s.table, &s, get_tokens, 63), 32);
    cache_table_clear(&s.table);
    /* A longer pin of the same, and a second of the shorter: each takes its own back. */
    write_tokens(&s, 64, 1);
    assert_true(begin(&s));
    compute(&s, s.n - s.n_computed);
    cache_table_clear(&s.table);
    assert_int_equal(cache_prefix_pin(b, &keys[0], s.tokens, 64), 64);
    assert_int_equal(cache_prefix_pin(b, &keys[0], s.tokens, 40), 32);
    cache_check(b, tables, 1);
    assert_int_equal(cache_prefix_unpin(b, &keys[0], s.tokens, 40), 32);
    assert_int_equal(cache_prefix_unpin(b, &keys[0], s.tokens, 40), 32);
    assert_int_equal(cache_prefix_unpin(b, &keys[0], s.tokens, 40), 0);
    cache_check(b, tables, 1);
    assert_int_equal(b->n_used, 8);
    assert_int_equal(cache_prefix_unpin(b, &keys[0], s.tokens, 64), 64);
    assert_int_equal(b->n_used, 0);
    cache_check(b, tables, 1);
    close_sequence(&s);
    beside = NULL;
    cache_blocks_destroy(&b);
}

static void test_clear(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(8);
    struct sequence s;
    run(b, 48, 1, 0);
    open_sequence(&s, b, 0);
    write_tokens(&s, 48, 2);
    assert_true(begin(&s));
    compute(&s, 40);
    assert_int_equal(cache_prefix_pin(b, &keys[0], s.tokens, 40), 32);
    cache_prefix_clear(b);
    const struct cache_table *tables[] = {&s.table};
    cache_check(b, tables, 1);
    assert_int_equal(b->prefix->n_cached, 0);
    assert_int_equal(b->n_used, 6);
    check_content(&s);
    compute(&s, 8); /* a full block, which joins nothing */
    assert_int_equal(s.table.n_nodes, 2);
    cache_check(b, tables, 1);
    close_sequence(&s);
    cache_check(b, NULL, 0);
    assert_int_equal(b->n_used, 0);
    assert_int_equal(run(b, 48, 2, 0), 0);
    assert_int_equal(run(b, 48, 2, 0), 32);
    cache_blocks_destroy(&b);
}

/* ------------------------------------------------------------------- forks */

static void fork_at(struct cache_blocks *b, int32_t n_source, int32_t n)
{
    struct sequence a, f;
    open_sequence(&a, b, 0);
    open_sequence(&f, b, 0);
    write_tokens(&a, n_source, 1);
    assert_true(begin(&a));
    compute(&a, n_source - a.n_computed);
    memcpy(f.tokens, a.tokens, sizeof f.tokens);
    f.n = f.n_computed = n;
    int32_t used = b->n_used;
    assert_ok(cache_table_fork(&f.table, &a.table, n));
    const struct cache_table *tables[] = {&a.table, &f.table};
    cache_check(b, tables, 2);
    assert_int_equal(b->n_used - used, n % BT ? 2 : 0); /* one block of each group */
    f.n = n + 20;
    for (int32_t i = n; i < f.n; i++)
        f.tokens[i] = 5000 + i;
    assert_ok(cache_table_reserve(&f.table, f.n));
    compute(&f, f.n - n);
    cache_check(b, tables, 2);
    check_content(&a);
    check_content(&f);
    close_sequence(&a);
    check_content(&f);
    close_sequence(&f);
    cache_check(b, NULL, 0);
    assert_int_equal(b->n_used, 0);
}

static void test_forks(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(16);
    static const int32_t lengths[] = {1, 15, 16, 17, 31, 32, 33, 40};
    for (size_t i = 0; i < BASE_COUNT(lengths); i++)
        for (int32_t more = 0; more < 3; more++)
            fork_at(b, lengths[i] + more * 7, lengths[i]);
    cache_blocks_destroy(&b);
    /* Let go before it copied; and no block for the copy. */
    b = open_cache(3);
    struct sequence a, f;
    open_sequence(&a, b, 0);
    open_sequence(&f, b, 0);
    write_tokens(&a, 20, 1);
    assert_true(begin(&a));
    compute(&a, 20);
    assert_ok(cache_table_fork(&f.table, &a.table, 18));
    const struct cache_table *tables[] = {&a.table, &f.table};
    cache_table_clear(&a.table);
    cache_check(b, tables, 2);
    cache_table_clear(&f.table);
    cache_check(b, tables, 2);
    a.n = a.n_computed = 0;
    write_tokens(&a, 40, 1);
    assert_true(begin(&a));
    compute(&a, 40 - a.n_computed);
    assert_int_equal(cache_table_fork(&f.table, &a.table, 39), INFER_ERR_NO_MEMORY);
    cache_check(b, tables, 2);
    close_sequence(&a);
    close_sequence(&f);
    cache_blocks_destroy(&b);
}

/* Without a prefix cache, with a state: blocks are shared all the same, the state is copied. */
static void test_forks_with_state(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_config c = config_of(8, 0);
    struct sequence a, f;
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    open_sequence(&a, b, 0);
    open_sequence(&f, b, 0);
    assert_null(a.table.root);
    write_tokens(&a, 40, 1);
    assert_true(begin(&a));
    compute(&a, 40);
    memcpy(f.tokens, a.tokens, sizeof f.tokens);
    f.n_computed = 40;
    assert_ok(cache_table_fork(&f.table, &a.table, 40));
    const struct cache_table *tables[] = {&a.table, &f.table};
    cache_check(b, tables, 2);
    assert_int_equal(a.table.ids[0][1], f.table.ids[0][1]);
    f.n = 50;
    for (int32_t i = 40; i < 50; i++)
        f.tokens[i] = 7000;
    assert_ok(cache_table_reserve(&f.table, 50));
    compute(&f, 10);
    check_content(&a);
    check_content(&f);
    cache_check(b, tables, 2);
    close_sequence(&a);
    check_content(&f);
    close_sequence(&f);
    assert_int_equal(b->n_used, 0);
    cache_check(b, NULL, 0);
    cache_blocks_destroy(&b);
}

/* ------------------------------------------------------------------ stress */

#define N_SEQUENCES 12
#define N_ACTS      30000

struct life {
    struct cache_blocks *b;
    struct sequence s[N_SEQUENCES];
    const struct cache_table *tables[N_SEQUENCES];
    int open[N_SEQUENCES];
    uint64_t random;
    int64_t n_found, n_forks, n_refused;
};

static int32_t draw(struct life *l, int32_t n)
{
    return (int32_t)(test_rand(&l->random) % (uint32_t)n);
}

static void check_life(struct life *l)
{
    size_t n = 0;
    for (int32_t i = 0; i < N_SEQUENCES; i++)
        if (l->open[i])
            l->tables[n++] = &l->s[i].table;
    cache_check(l->b, l->tables, n);
}

static void start(struct life *l, int32_t i)
{
    struct sequence *s = &l->s[i];
    open_sequence(s, l->b, draw(l, N_KEYS));
    l->open[i] = 1;
    write_tokens(s, 1 + draw(l, 80), draw(l, 3)); /* a text that others have too */
    for (int32_t n = draw(l, 20); n > 0; n--)
        s->tokens[s->n++] = draw(l, 2);
    if (!begin(s)) {
        l->n_refused++;
        return;
    }
    l->n_found += s->n_computed;
    check_content(s);
}

static void advance(struct life *l, struct sequence *s)
{
    if (!s->table.n_blocks && !begin(s)) { /* it was preempted */
        l->n_refused++;
        return;
    }
    check_content(s);
    if (s->n_computed < s->n) {
        compute(s, 1 + draw(l, s->n - s->n_computed));
    } else if (s->n < 200) {
        s->tokens[s->n++] = draw(l, 2);
        if (cache_table_reserve(&s->table, s->n) == INFER_OK) {
            compute(s, 1);
            return;
        }
        cache_table_clear(&s->table);
        s->n_computed = 0;
        l->n_refused++;
    }
}

static void fork_one(struct life *l, int32_t from, int32_t i)
{
    struct sequence *s = &l->s[i], *a = &l->s[from];
    if (a->n_computed < 2)
        return;
    int32_t n = 1 + draw(l, a->n_computed - 1);
    open_sequence(s, l->b, a->tenant);
    memcpy(s->tokens, a->tokens, sizeof s->tokens);
    s->n = n + 1;
    l->open[i] = 1;
    l->n_forks++;
    if (cache_table_fork(&s->table, &a->table, n) != INFER_OK) {
        l->n_refused++;
        return;
    }
    s->n_computed = n;
    if (cache_table_reserve(&s->table, s->n) != INFER_OK) {
        cache_table_clear(&s->table);
        s->n_computed = 0;
    } else if (draw(l, 4)) { /* else it is let go, or goes on, with copies still owed */
        cache_table_copy(&s->table);
        check_content(s);
    } else if (draw(l, 2)) {
        cache_table_clear(&s->table);
        s->n_computed = 0;
    } else {
        compute(s, 1);
    }
}

static void act(struct life *l)
{
    int32_t i = draw(l, N_SEQUENCES), what = draw(l, 100);
    struct sequence *s = &l->s[i];
    if (!l->open[i]) {
        int32_t from = draw(l, N_SEQUENCES);
        if (what < 40 && l->open[from])
            fork_one(l, from, i);
        else
            start(l, i);
    } else if (what < 75) {
        advance(l, s);
    } else if (what < 80) {
        cache_table_clear(&s->table); /* a preemption */
        s->n_computed = 0;
    } else if (what < 84) {
        cache_prefix_pin(l->b, &keys[s->tenant], s->tokens, (size_t)draw(l, s->n + 1));
    } else if (what < 90) {
        cache_prefix_unpin(l->b, &keys[s->tenant], s->tokens, (size_t)draw(l, s->n + 1));
    } else if (what < 91) {
        cache_prefix_clear(l->b);
    } else {
        close_sequence(s);
        l->open[i] = 0;
    }
}

static void live(uint64_t seed, int32_t n_blocks, int weak)
{
    static struct life l;
    l = (struct life){.b = open_cache(n_blocks), .random = seed};
    if (weak)
        l.b->prefix->hash = weak_hash;
    for (int32_t i = 0; i < N_ACTS; i++) {
        act(&l);
        check_life(&l);
    }
    for (int32_t i = 0; i < N_SEQUENCES; i++)
        if (l.open[i])
            close_sequence(&l.s[i]);
    memset(l.open, 0, sizeof l.open);
    check_life(&l);
    print_message("%d blocks: %d tokens found, %d forks, %d evicted, %d refused\n", n_blocks,
                  (int)l.n_found, (int)l.n_forks, (int)l.b->prefix->n_evicted, (int)l.n_refused);
    assert_true(l.n_found > 200 && l.n_forks > 100 && l.n_refused > 20);
    assert_true(l.b->prefix->n_evicted > 100);
    cache_prefix_clear(l.b); /* the pins that are left */
    assert_int_equal(l.b->n_used, 0);
    assert_int_equal(l.b->n_free[0], n_blocks);
    cache_check(l.b, NULL, 0);
    cache_blocks_destroy(&l.b);
}

static void test_random_life(void **state)
{
    (void)state;
    live(1, 8, 0);
    live(2, 24, 0);
    live(3, 40, 0);
    live(4, 24, 1);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct test_alloc t;
    struct cache_config c = config_of(4, 1);
    test_alloc_init(&t);
    size_t fail = 1;
    for (;; fail++) {
        struct cache_blocks *b = NULL;
        struct cache_table table = {0};
        t.n_calls = 0;
        t.fail_at = fail;
        infer_status st = cache_blocks_create(&b, &t.alloc, device, &c);
        if (st == INFER_OK)
            st = cache_table_init(&table, b, 64);
        if (st == INFER_OK)
            st = cache_table_share(&table, &keys[1]);
        cache_table_release(&table);
        cache_blocks_destroy(&b);
        assert_int_equal(t.live_blocks, 0);
        if (st == INFER_OK)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
    }
    assert_true(fail > 10);
}

/* After the table is made, nothing asks the allocator. */
static void test_no_allocation_in_a_step(void **state)
{
    (void)state;
    struct test_alloc t;
    struct cache_config c = config_of(8, 1);
    struct cache_blocks *b = NULL;
    struct sequence s;
    test_alloc_init(&t);
    assert_ok(cache_blocks_create(&b, &t.alloc, device, &c));
    open_sequence(&s, b, 0);
    size_t before = t.n_calls;
    for (int32_t seed = 0; seed < 5; seed++) {
        s.n = 0;
        write_tokens(&s, 100, seed);
        assert_true(begin(&s));
        compute(&s, 100 - s.n_computed);
        cache_table_clear(&s.table);
    }
    assert_true(b->prefix->n_evicted > 0);
    assert_int_equal(t.n_calls, before);
    close_sequence(&s);
    cache_blocks_destroy(&b);
    assert_int_equal(t.live_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_again),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_eviction_order),
        cmocka_unit_test(test_duplicates_join),
        cmocka_unit_test(test_collisions),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_clear),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_forks_with_state),
        cmocka_unit_test(test_random_life),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_no_allocation_in_a_step),
    };
    return cmocka_run_group_tests_name("prefix", tests, open_device, close_device);
}
