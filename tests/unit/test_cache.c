/* Blocks and block tables: budget, reference counts, all or nothing. */
#include "support/test.h"

#include "base/error.h"
#include "cache/paged.h"
#include "support/test_alloc.h"

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

static struct cache_config config_of(uint64_t n_blocks)
{
    struct cache_config c = {.type = INFER_DTYPE_F16,
                             .block_tokens = 16,
                             .n_groups = 2,
                             .groups = {{.n_layers = 2, .n_heads = 2, .k_slot = 64, .v_slot = 64},
                                        {.n_layers = 1, .n_heads = 4, .k_slot = 32, .v_slot = 32}}};
    /* keys and values, 2 bytes an element */
    c.budget_bytes = n_blocks * 2 * 2 * 16 * (2 * 2 * 32 + 4 * 16);
    return c;
}

static void test_budget(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_config c = config_of(10);
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_int_equal(b->n_blocks[0], 10);
    assert_int_equal(b->n_blocks[1], 10);
    assert_int_equal(cache_blocks_count(b), 20);
    assert_int_equal(cache_blocks_tokens(b), 160);
    assert_true(b->memory.bytes <= c.budget_bytes);
    int32_t ids[11];
    assert_int_equal(cache_blocks_take(b, 0, ids, 11), INFER_ERR_NO_MEMORY);
    assert_int_equal(cache_blocks_free(b, 0), 10);
    assert_ok(cache_blocks_take(b, 0, ids, 10));
    int seen[10] = {0};
    for (int i = 0; i < 10; i++) {
        assert_in_range(ids[i], 0, 9);
        assert_int_equal(seen[ids[i]]++, 0);
    }
    assert_int_equal(cache_blocks_take(b, 0, ids + 10, 1), INFER_ERR_NO_MEMORY);
    assert_ok(cache_blocks_take(b, 1, ids + 10, 1)); /* groups do not share ids */
    cache_blocks_give(b, 1, ids + 10, 1);
    cache_blocks_give(b, 0, ids, 10);
    assert_int_equal(b->n_used, 0);
    cache_blocks_destroy(&b);
    c.budget_bytes = 100;
    assert_int_equal(cache_blocks_create(&b, &base_alloc_default, device, &c), INFER_ERR_LIMIT);
    assert_null(b);
}

static void test_sharing(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_config c = config_of(4);
    int32_t ids[3], again[4];
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_ok(cache_blocks_take(b, 0, ids, 3));
    cache_blocks_share(b, 0, ids, 2);
    cache_blocks_give(b, 0, ids, 3);
    assert_int_equal(cache_blocks_free(b, 0), 2); /* two are still held once */
    assert_ok(cache_blocks_take(b, 0, again, 2));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            assert_int_not_equal(again[i], ids[j]);
    cache_blocks_give(b, 0, again, 2);
    cache_blocks_give(b, 0, ids, 2);
    assert_int_equal(cache_blocks_free(b, 0), 4);
    cache_blocks_destroy(&b);
}

static void test_tables(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_config c = config_of(4);
    struct cache_table one, two;
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_ok(cache_table_init(&one, b, 100));
    assert_ok(cache_table_init(&two, b, 64));
    assert_ok(cache_table_reserve(&one, 1));
    assert_int_equal(one.n_blocks, 1);
    assert_ok(cache_table_reserve(&one, 16));
    assert_int_equal(one.n_blocks, 1);
    assert_ok(cache_table_reserve(&one, 17));
    assert_int_equal(one.n_blocks, 2);
    assert_int_equal(cache_table_reserve(&two, 33), INFER_ERR_NO_MEMORY);
    assert_int_equal(two.n_blocks, 0);
    assert_int_equal(cache_blocks_free(b, 0), 2); /* nothing was taken half */
    assert_int_equal(cache_blocks_free(b, 1), 2);
    assert_ok(cache_table_reserve(&two, 32));
    cache_table_trim(&two, 17);
    assert_int_equal(two.n_blocks, 2);
    cache_table_trim(&two, 16);
    assert_int_equal(two.n_blocks, 1);
    assert_int_equal(cache_blocks_free(b, 0), 1);
    assert_int_equal(cache_blocks_free(b, 1), 1);
    cache_table_trim(&two, 64);
    assert_int_equal(two.n_blocks, 1);
    assert_ok(cache_table_reserve(&two, 32));
    cache_table_clear(&one);
    assert_int_equal(cache_blocks_free(b, 0), 2);
    cache_table_release(&one);
    cache_table_release(&two);
    assert_int_equal(b->n_used, 0);
    cache_blocks_destroy(&b);
}

/* Keys of another width than values, and keys alone. */
static void test_widths(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_config c = {
        .type = INFER_DTYPE_F16,
        .block_tokens = 16,
        .n_groups = 2,
        .groups = {{.n_layers = 2, .n_heads = 3, .k_slot = 192 * 2, .v_slot = 128 * 2},
                   {.n_layers = 4, .n_heads = 1, .k_slot = 576 * 2}}};
    const size_t wide = 3 * 16 * (192 + 128) * 2, latent = 16 * 576 * 2;
    c.budget_bytes = cache_config_bytes(&c, 100, 0);
    assert_int_equal(c.budget_bytes, 7 * (2 * wide + 4 * latent));
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_int_equal(b->config.groups[0].k_bytes, 3 * 16 * 192 * 2);
    assert_int_equal(b->config.groups[0].layer_bytes, wide);
    assert_int_equal(b->config.groups[1].k_bytes, latent);
    assert_int_equal(b->config.groups[1].layer_bytes, latent);
    assert_int_equal(b->block_bytes[0], 2 * wide);
    assert_int_equal(b->base[1], 7 * 2 * wide);
    assert_int_equal(cache_blocks_tokens(b), 7 * 16);
    assert_int_equal(b->memory.bytes, c.budget_bytes);
    cache_blocks_destroy(&b);
}

/* Windows of 33 and 1 beside a group that keeps all positions, blocks of 16. */
static void test_windows(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_config c = {.type = INFER_DTYPE_F32,
                             .block_tokens = 16,
                             .n_groups = 3,
                             .groups = {{.n_layers = 1, .n_heads = 1, .k_slot = 64, .window = 33},
                                        {.n_layers = 1, .n_heads = 1, .k_slot = 64},
                                        {.n_layers = 1, .n_heads = 1, .k_slot = 64, .window = 1}}};
    struct cache_table one, two;
    c.budget_bytes = cache_config_bytes(&c, 160, 0);
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_ok(cache_table_init(&one, b, 160));
    assert_ok(cache_table_init(&two, b, 160));
    assert_ok(cache_table_reserve(&one, 100)); /* 7 blocks */
    for (int32_t position = 0; position <= 100; position++) {
        cache_table_slide(&one, position);
        /* What the position sees lies in blocks that are still there. */
        int32_t first = BASE_MAX(position - 32, 0) / 16;
        assert_int_equal(one.n_passed[0], first);
        assert_int_equal(one.n_passed[2], position / 16);
        assert_int_equal(cache_blocks_free(b, 0), 3 + first);
        assert_int_equal(cache_blocks_free(b, 1), 3);
        assert_int_equal(cache_blocks_free(b, 2), 3 + position / 16);
    }
    cache_table_slide(&one, 50); /* nothing comes back */
    assert_int_equal(one.n_passed[0], 4);
    assert_int_equal(b->n_used, 3 + 7 + 1);
    assert_ok(cache_table_reserve(&one, 160)); /* the tail grows on */
    assert_int_equal(cache_blocks_free(b, 0), 4);
    assert_int_equal(cache_table_reserve(&two, 1), INFER_ERR_NO_MEMORY); /* group 1 has none */
    cache_table_slide(&one, 1 << 20); /* past the end: all of them, no more */
    assert_int_equal(cache_blocks_free(b, 0), 10);
    assert_int_equal(b->n_used, 10);
    cache_table_clear(&one);
    assert_int_equal(b->n_used, 0);
    assert_ok(cache_table_reserve(&one, 48)); /* and starts anew */
    assert_int_equal(one.n_passed[0], 0);
    assert_int_equal(b->n_used, 9);
    cache_table_slide(&one, 48);
    cache_table_release(&one);
    cache_table_release(&two);
    for (int32_t g = 0; g < 3; g++)
        assert_int_equal(cache_blocks_free(b, g), 10);
    cache_blocks_destroy(&b);
}

/* One of six layers keeps all positions, the others a window of 1024; blocks of 16, sequences of
 * 4096 tokens: 256 blocks, and 66 of the window. */
static void test_window_budget(void **state)
{
    (void)state;
    enum { UNIT = 64 * 16, LONG = (256 + 5 * 66) * UNIT };
    static const struct {
        uint64_t budget;
        int32_t n_full, n_window, tokens;
    } cases[] = {
        {16 * LONG, 16 * 256, 16 * 66, 16 * 4096},
        {16 * LONG - 1, 15 * 256 + 255, 16 * 66, 16 * 4096 - 16},
        {4 * LONG, 4 * 256, 4 * 66, 4 * 4096},
        {6 * 256 * UNIT, 256, 256, 4096}, /* four sequences of 64 blocks: no window is full */
        {4 * (100 + 5 * 66) * UNIT, 400, 4 * 66, 6400},
        {6 * 3 * UNIT, 3, 3, 48},
    };
    struct cache_config c = {.type = INFER_DTYPE_F32,
                             .block_tokens = 16,
                             .sequence_tokens = 4096,
                             .prefix = 1,
                             .n_groups = 2,
                             .groups = {{.n_layers = 5, .n_heads = 1, .k_slot = 64, .window = 1024},
                                        {.n_layers = 1, .n_heads = 1, .k_slot = 64}}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct cache_blocks *b = NULL;
        c.budget_bytes = cases[i].budget;
        assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
        assert_int_equal(b->n_blocks[0], cases[i].n_window);
        assert_int_equal(b->n_blocks[1], cases[i].n_full);
        assert_int_equal(b->n_spans, cases[i].n_full);
        assert_int_equal(cache_blocks_tokens(b), cases[i].tokens);
        assert_true(b->memory.bytes <= cases[i].budget);
        /* What is asked for so many tokens holds them. */
        assert_true(cache_config_bytes(&c, (uint64_t)cases[i].tokens, 0) <= cases[i].budget);
        cache_blocks_destroy(&b);
    }
    for (uint64_t tokens = 1; tokens < 40000; tokens += 777) {
        int32_t n_blocks[CACHE_GROUPS_MAX], n_spans;
        c.budget_bytes = cache_config_bytes(&c, tokens, 0);
        assert_ok(cache_config_part(&c, n_blocks, &n_spans));
        assert_true((uint64_t)n_blocks[1] * 16 >= tokens);
    }
}

/* Positions of 2 KiB a block beside states of 3 layers of 1000 bytes, each rounded up. */
static struct cache_config config_with_state(uint64_t budget_bytes)
{
    return (struct cache_config){
        .budget_bytes = budget_bytes,
        .type = INFER_DTYPE_F32,
        .block_tokens = 16,
        .sequence_tokens = 64,
        .n_groups = 2,
        .groups = {{.n_layers = 3, .state_bytes = 1000},
                   {.n_layers = 1, .n_heads = 1, .k_slot = 64, .v_slot = 64}}};
}

static void test_state_budget(void **state)
{
    (void)state;
    enum { STATE = 3 * 1024, BLOCK = 2048, SEQUENCE = STATE + 4 * BLOCK };
    static const struct {
        uint64_t budget;
        int32_t n_states, n_blocks;
    } cases[] = {
        {STATE + BLOCK, 1, 1},           {SEQUENCE, 1, 4},
        {2 * SEQUENCE - 1, 1, 9},        {2 * SEQUENCE, 2, 8},
        {10 * SEQUENCE + BLOCK, 10, 41},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct cache_blocks *b = NULL;
        struct cache_config c = config_with_state(cases[i].budget);
        assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
        assert_int_equal(b->n_blocks[0], cases[i].n_states);
        assert_int_equal(b->n_blocks[1], cases[i].n_blocks);
        assert_int_equal(b->config.groups[0].layer_bytes, 1024);
        assert_int_equal(b->block_bytes[0], STATE);
        assert_int_equal(b->base[1], cases[i].n_states * STATE);
        assert_true(b->memory.bytes <= c.budget_bytes);
        assert_int_equal(cache_blocks_tokens(b), cases[i].n_blocks * 16);
        assert_int_equal(cache_blocks_count(b), cases[i].n_states + cases[i].n_blocks);
        cache_blocks_destroy(&b);
    }
    struct cache_blocks *b = NULL;
    struct cache_config c = config_with_state(STATE + BLOCK - 1);
    assert_int_equal(cache_blocks_create(&b, &base_alloc_default, device, &c), INFER_ERR_LIMIT);
    assert_non_null(strstr(base_error_text(), "below one block of 5120 bytes"));
    c = config_with_state(0);
    assert_int_equal(cache_config_bytes(&c, 65, 2), 5 * BLOCK + 2 * STATE);
}

static void test_state_tables(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_config c = config_with_state(2 * (3072 + 4 * 2048) + 4 * 2048);
    struct cache_table tables[3];
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_int_equal(b->n_blocks[0], 2);
    assert_int_equal(b->n_blocks[1], 12);
    for (size_t i = 0; i < BASE_COUNT(tables); i++)
        assert_ok(cache_table_init(&tables[i], b, 200));
    assert_ok(cache_table_reserve(&tables[0], 1));
    const int32_t first = tables[0].ids[0][0];
    assert_int_equal(cache_blocks_free(b, 0), 1);
    assert_ok(cache_table_reserve(&tables[0], 100)); /* the state stays the same one */
    assert_int_equal(cache_blocks_free(b, 0), 1);
    assert_int_equal(tables[0].ids[0][0], first);
    assert_int_equal(cache_blocks_free(b, 1), 5);
    assert_ok(cache_table_reserve(&tables[1], 16));
    assert_int_not_equal(tables[1].ids[0][0], first);
    assert_int_equal(cache_table_reserve(&tables[2], 1), INFER_ERR_NO_MEMORY); /* no state */
    assert_int_equal(cache_blocks_free(b, 1), 4);
    assert_int_equal(b->n_used, 2 + 8);
    cache_table_clear(&tables[1]);
    /* Enough states, too few blocks: the state goes back with the rest. */
    assert_int_equal(cache_table_reserve(&tables[2], 100), INFER_ERR_NO_MEMORY);
    assert_int_equal(cache_blocks_free(b, 0), 1);
    assert_int_equal(cache_blocks_free(b, 1), 5);
    assert_ok(cache_table_reserve(&tables[2], 80));
    cache_table_clear(&tables[0]);
    cache_table_clear(&tables[0]); /* nothing is given twice */
    assert_int_equal(cache_blocks_free(b, 0), 1);
    for (size_t i = 0; i < BASE_COUNT(tables); i++)
        cache_table_release(&tables[i]);
    assert_int_equal(b->n_used, 0);
    assert_int_equal(cache_blocks_free(b, 0), 2);
    cache_blocks_destroy(&b);
}

/* No layer attends: positions cost nothing and have no end. */
static void test_state_alone(void **state)
{
    (void)state;
    struct cache_blocks *b = NULL;
    struct cache_table one, two;
    struct cache_config c = config_with_state(2 * 3072 + 100);
    c.n_groups = 1;
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    assert_int_equal(b->n_blocks[0], 2);
    assert_int_equal(cache_blocks_tokens(b), INT32_MAX);
    assert_ok(cache_table_init(&one, b, 1 << 20));
    assert_ok(cache_table_init(&two, b, 1 << 20));
    assert_ok(cache_table_reserve(&one, 1 << 20));
    assert_ok(cache_table_reserve(&two, 5));
    assert_int_equal(cache_blocks_free(b, 0), 0);
    cache_table_release(&one);
    cache_table_release(&two);
    assert_int_equal(b->n_used, 0);
    cache_blocks_destroy(&b);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct test_alloc t;
    struct cache_config c = config_of(4);
    test_alloc_init(&t);
    for (size_t fail = 1;; fail++) {
        struct cache_blocks *b = NULL;
        struct cache_table table = {0};
        t.n_calls = 0;
        t.fail_at = fail;
        infer_status st = cache_blocks_create(&b, &t.alloc, device, &c);
        if (st == INFER_OK)
            st = cache_table_init(&table, b, 64);
        cache_table_release(&table);
        cache_blocks_destroy(&b);
        assert_int_equal(t.live_blocks, 0);
        if (st == INFER_OK)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget),        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_tables),        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_state_budget),  cmocka_unit_test(test_state_tables),
        cmocka_unit_test(test_state_alone),   cmocka_unit_test(test_windows),
        cmocka_unit_test(test_window_budget), cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("cache", tests, open_device, close_device);
}
