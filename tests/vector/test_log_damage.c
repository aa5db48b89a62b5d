/* Damaged logs: what a crash leaves is cut off, what is damage is said, and old records are not
 * taken for new ones. */
#include "log_sample.h"

#include "base/bytes.h"

/* Whatever happens to a byte: damage that is named, or a log without its last records. */
static void check_damaged(const char *path, const uint64_t *ends, int n, int kind, size_t at,
                          int crash)
{
    struct vector_log *log;
    int found;
    infer_status st = open_log(&log, path, &found);
    int whole = 0; /* records in front of the damage */
    while (whole < n && ends[whole] <= at)
        whole++;
    if (kind == DISK_CUT && at >= VECTOR_LOG_HEADER) {
        assert_ok(st);
        assert_int_equal(found, whole);
    } else if (at >= (crash ? ends[n - 2] : ends[n - 1])) { /* the last record */
        assert_ok(st);
        assert_int_equal(found, crash ? n - 1 : n);
    } else {
        assert_int_equal(st, INFER_ERR_FORMAT);
        assert_says(path);
        return;
    }
    uint64_t end;
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_size, vector_log_size(log)); /* what was torn is cut off */
    assert_ok(append(log, found, &end));                   /* it goes on */
    assert_ok(vector_log_sync(log, end));
    vector_log_close(&log);
    assert_ok(open_log(&log, path, &whole));
    assert_int_equal(whole, found + 1);
    vector_log_close(&log);
}

static void test_damage(void **state)
{
    (void)state;
    static uint64_t ends[ENDS_MAX];
    const char *path = disk_path("log");
    uint64_t seed = 3;
    for (int how = 0; how < 4; how++) { /* crashed or closed, flushed or not */
        size_t size;
        uint8_t *whole = make_log(path, 60, how & 1 ? 3 : 0, how & 2, ends, &size);
        uint8_t *bytes = malloc(size);
        for (int i = 0; i < 900; i++) {
            memcpy(bytes, whole, size);
            size_t left = disk_damage(bytes, size, i / 300, &seed), at = 0;
            while (at < left && bytes[at] == whole[at])
                at++;
            disk_put(path, bytes, left);
            check_damaged(path, ends, 60, i / 300, at, how & 2);
            unlink(path);
        }
        free(whole);
        free(bytes);
    }
}

/* A power cut: sectors that never got to the disk are zeros, also before others that did. */
static void test_lost_sectors(void **state)
{
    (void)state;
    static uint64_t ends[ENDS_MAX];
    const char *path = disk_path("log");
    size_t size;
    int n_cut = 0, n_damaged = 0;
    uint8_t *whole = make_log(path, 200, 120, 1, ends, &size); /* 80 are not flushed */
    uint8_t *bytes = malloc(size);
    for (size_t at = 512; at + 512 <= size; at += 512) {
        struct vector_log *log;
        int found, first = 0;
        memcpy(bytes, whole, size);
        memset(bytes + at, 0, 512);
        disk_put(path, bytes, size);
        infer_status st = open_log(&log, path, &found);
        while (ends[first] <= at)
            first++;
        if (first < 120) { /* records behind know that this one was on the disk */
            assert_int_equal(st, INFER_ERR_FORMAT);
            n_damaged++;
        } else {
            assert_ok(st);
            assert_int_equal(found, first);
            vector_log_close(&log);
            n_cut++;
        }
        unlink(path);
    }
    assert_true(n_cut > 10 && n_damaged > 10);
    free(whole);
    free(bytes);
}

/* What was there at an opening is on the disk from then on, and later records say so. */
static void test_lost_sectors_of_before(void **state)
{
    (void)state;
    static uint64_t ends[ENDS_MAX];
    const char *path = disk_path("log");
    struct vector_log *log;
    size_t size;
    int found;
    uint64_t end;
    uint8_t *bytes = make_log(path, 20, 0, 1, ends, &size);
    disk_put(path, bytes, size);
    free(bytes);
    assert_ok(open_log(&log, path, &found));
    assert_ok(append(log, found, &end));
    bytes = (uint8_t *)test_read(path, &size);
    vector_log_close(&log);
    memset(bytes + 512, 0, 512);
    disk_put(path, bytes, size);
    assert_int_equal(open_log(&log, path, &found), INFER_ERR_FORMAT);
    unlink(path);
    free(bytes);
}

/* Records that look like something else: with zeros of their own, and with a piece of the log. */
static void test_odd_records(void **state)
{
    (void)state;
    static uint8_t data[600];
    const char *path = disk_path("log");
    struct vector_log *log;
    size_t size;
    uint64_t ends[3], sum;
    data[0] = 1;
    const struct vector_log_part zeros = {data, 500};
    assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, NULL, NULL));
    for (int i = 0; i < 3; i++)
        assert_ok(vector_log_append(log, 1, &zeros, 1, &ends[i]));
    uint8_t *bytes = (uint8_t *)test_read(path, &size);
    vector_log_close(&log);
    bytes[VECTOR_LOG_HEADER + VECTOR_LOG_HEAD] ^= 2; /* never flushed, but no sector was lost */
    disk_put(path, bytes, size);
    assert_int_equal(vector_log_open(&log, &base_alloc_default, path, 0, see_size, &sum),
                     INFER_ERR_FORMAT);
    bytes[VECTOR_LOG_HEADER + VECTOR_LOG_HEAD] ^= 2;
    disk_put(path, bytes, size);
    const struct vector_log_part copy = {bytes, size};
    assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, NULL, NULL));
    assert_ok(vector_log_append(log, 1, &copy, 1, &ends[0]));
    vector_log_close(&log);
    assert_int_equal(truncate(path, (off_t)ends[0] - 9), 0); /* torn */
    assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, NULL, NULL));
    assert_int_equal(vector_log_size(log), ends[2]);
    vector_log_close(&log);
    unlink(path);
    free(bytes);
}

/* Records of a life before, which a disk brings back behind a new one, are not taken. */
static void test_old_records(void **state)
{
    (void)state;
    static uint64_t ends[ENDS_MAX];
    const char *path = disk_path("log");
    struct vector_log *log;
    size_t size, size_now;
    int found;
    uint64_t end;
    uint8_t *old = make_log(path, 10, 0, 1, ends, &size);
    disk_put(path, old, (size_t)ends[4] + 9);
    assert_ok(open_log(&log, path, &found));
    assert_int_equal(found, 5);
    const uint8_t other[9] = {1, 2, 3};
    const struct vector_log_part part = {other, 9};
    assert_ok(vector_log_append(log, 5, &part, 1, &end)); /* record 5 had 9 bytes, others */
    assert_int_equal(end, ends[5]);
    uint8_t *now = (uint8_t *)test_read(path, &size_now);
    vector_log_close(&log);
    memcpy(old, now, size_now);
    disk_put(path, old, size);
    uint64_t sum = 0;
    assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, see_size, &sum));
    assert_int_equal(vector_log_size(log), ends[5]);
    vector_log_close(&log);
    unlink(path);
    free(old);
    free(now);
}

static void test_header(void **state)
{
    (void)state;
    static uint64_t ends[ENDS_MAX];
    const char *path = disk_path("log");
    struct vector_log *log;
    int found;
    size_t size;
    uint8_t *bytes = make_log(path, 3, 1, 0, ends, &size);
    disk_put(path, bytes, 0);
    assert_int_equal(open_log(&log, path, &found), INFER_ERR_FORMAT);
    base_put_u32(bytes + 8, 2);
    disk_put(path, bytes, size);
    assert_int_equal(open_log(&log, path, &found), INFER_ERR_FORMAT);
    assert_says("damaged");
    base_put_u64(bytes + 56, base_hash64(bytes, 56, 0));
    disk_put(path, bytes, size);
    assert_int_equal(open_log(&log, path, &found), INFER_ERR_FORMAT);
    assert_says("format 2");
    bytes[0]++;
    disk_put(path, bytes, size);
    assert_int_equal(open_log(&log, path, &found), INFER_ERR_FORMAT);
    assert_says("no log");
    unlink(path);
    assert_int_equal(open_log(&log, disk_folder, &found), INFER_ERR_IO);
    assert_int_equal(open_log(&log, disk_path("no/log"), &found), INFER_ERR_IO);
    free(bytes);
}

int main(void)
{
    fail_calls_slow(-1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_lost_sectors),
        cmocka_unit_test(test_lost_sectors_of_before),
        cmocka_unit_test(test_odd_records),
        cmocka_unit_test(test_old_records),
        cmocka_unit_test(test_header),
    };
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
