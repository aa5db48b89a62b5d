/* The write-ahead log: what was acknowledged is there, whatever happens to the process. */
#include "disk.h"

#include "vector/log.h"

struct seen {
    int n;
    uint64_t sum;
};

static infer_status see(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    struct seen *s = user;
    assert_int_equal(type, (uint32_t)s->n);
    assert_true(size >= 4);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(data[i], (uint8_t)(s->n * 31 + (int)i));
    s->n++;
    return INFER_OK;
}

/* Record number i, as see() wants it, in two parts. */
static infer_status append(struct vector_log *log, int i, uint64_t *end)
{
    static uint8_t data[100000];
    const size_t size = i % 50 == 49 ? 90001 : (size_t)(4 + i % 301);
    for (size_t k = 0; k < size; k++)
        data[k] = (uint8_t)(i * 31 + (int)k);
    const struct vector_log_part parts[] = {{data, 3}, {data + 3, size - 3}};
    return vector_log_append(log, (uint32_t)i, parts, 2, end);
}

static void test_round_trip(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    struct vector_log *log = NULL, *other = NULL;
    uint64_t end = 0;
    for (int round = 0; round < 3; round++) {
        struct seen s = {0};
        assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, see, &s));
        assert_int_equal(s.n, round * 100);
        for (int i = 0; i < 100; i++)
            assert_ok(append(log, s.n + i, &end));
        assert_ok(vector_log_sync(log, end));
        assert_int_equal(vector_log_size(log), end);
        assert_ok(vector_log_verify(log));
        assert_int_equal(vector_log_open(&other, &base_alloc_default, path, 0, see, &s),
                         INFER_ERR_BUSY);
        s.n = 0;
        assert_ok(vector_log_open(&other, &base_alloc_default, path, 1, see, &s));
        assert_int_equal(s.n, round * 100 + 100);
        assert_int_equal(append(other, 0, &end), INFER_ERR_UNSUPPORTED);
        vector_log_close(&other);
        vector_log_close(&log);
    }
    unlink(path);
    assert_int_equal(disk_count(disk_folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
