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
                             .groups = {{.n_layers = 2, .n_heads = 2, .head_dim = 32},
                                        {.n_layers = 1, .n_heads = 4, .head_dim = 16}}};
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
    assert_int_equal(b->n_blocks, 10);
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
    cache_table_clear(&one);
    assert_int_equal(cache_blocks_free(b, 0), 2);
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
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("cache", tests, open_device, close_device);
}
