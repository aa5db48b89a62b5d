/* The prefix cache below the engine: what is found is what was written, whoever wrote it; what
 * goes first; who may share; forks. */
#include "prefix_sequence.h"

#include "support/test_alloc.h"

/* ------------------------------------------------------------------- tests */

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

/* More roots than buckets: all are told apart, and go when nobody holds them. */
static void test_roots(void **state)
{
    (void)state;
    enum { N = 128 };
    struct cache_blocks *b = open_cache(8);
    struct cache_root *roots[N], *again;
    for (int32_t round = 0; round < 2; round++)
        for (int32_t i = 0; i < N; i++) {
            char name[2] = {(char)('a' + i / 64), 0};
            const struct cache_key key = {name, (size_t)(i % 2), (uint64_t)(i / 2 % 2), i / 4 % 16};
            assert_ok(cache_root_acquire(b, &key, round ? &again : &roots[i]));
            if (round) {
                assert_ptr_equal(again, roots[i]);
                cache_root_release(b, &again);
            }
            for (int32_t j = 0; !round && j < i; j++) /* even ones have no name */
                if (i % 2 == 0 && (i ^ j) % 64 == 0)
                    assert_ptr_equal(roots[i], roots[j]);
                else
                    assert_ptr_not_equal(roots[i], roots[j]);
        }
    for (int32_t i = 0; i < N; i++)
        cache_root_release(b, &roots[i]);
    cache_check(b, NULL, 0);
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
    assert_int_equal(b->prefix->n_evicted, 2 * 2); /* of two groups */
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
    struct cache_config c = config_of(8, PLAIN | STATE, 0);
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

/* Keys and values of a source: forks and those that find them read the same block, until the last
 * of them has gone. */
static void test_sources(void **state)
{
    (void)state;
    struct cache_blocks *b = open_kinds(12, PLAIN | STATE | SOURCE);
    struct sequence a, f, g;
    open_sequence(&a, b, 0);
    open_sequence(&f, b, 0);
    open_sequence(&g, b, 0);
    write_tokens(&a, 32, 1);
    assert_true(begin(&a));
    compute(&a, 32);
    memcpy(f.tokens, a.tokens, sizeof f.tokens);
    f.n = 33;
    f.n_computed = 32;
    assert_ok(cache_table_fork(&f.table, &a.table, 32));
    assert_int_equal(f.table.ids[3][0], a.table.ids[3][0]);
    assert_int_not_equal(f.table.ids[2][0], a.table.ids[2][0]);
    memcpy(g.tokens, a.tokens, sizeof g.tokens);
    g.n = 33;
    assert_true(begin(&g));
    assert_int_equal(g.n_computed, 32);
    assert_int_equal(g.table.ids[3][0], a.table.ids[3][0]);
    const struct cache_table *tables[] = {&a.table, &f.table, &g.table};
    cache_check(b, tables, 3);
    const int32_t id = a.table.ids[3][0];
    close_sequence(&a);
    cache_prefix_clear(b);
    cache_check(b, tables + 1, 2);
    check_content(&g);
    close_sequence(&g);
    cache_table_copy(&f.table);
    check_content(&f);
    assert_int_equal(b->refs[3][id], 1);
    close_sequence(&f);
    cache_check(b, NULL, 0);
    assert_int_equal(b->n_used, 0);
    cache_blocks_destroy(&b);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct test_alloc t;
    struct cache_config c = config_of(4, PLAIN | WINDOW | STATE, 1);
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
    struct cache_config c = config_of(8, PLAIN, 1);
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
        cmocka_unit_test(test_roots),
        cmocka_unit_test(test_eviction_order),
        cmocka_unit_test(test_duplicates_join),
        cmocka_unit_test(test_collisions),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_clear),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_forks_with_state),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_no_allocation_in_a_step),
    };
    return cmocka_run_group_tests_name("prefix", tests, open_device, close_device);
}
