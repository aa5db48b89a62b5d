/* The write-ahead log: what was acknowledged is there, whatever happens to the process. */
#include "disk.h"
#include "fail_calls.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "support/test_alloc.h"
#include "vector/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define ENDS_MAX 512

struct seen {
    int n, stop_at;
};

static infer_status see(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    struct seen *s = user;
    if (s->stop_at && s->n == s->stop_at)
        return base_error(INFER_ERR_LIMIT, "enough");
    int right = type == (uint32_t)s->n && size >= 4;
    for (size_t i = 0; i < size; i++)
        right &= data[i] == (uint8_t)(s->n * 31 + (int)i);
    assert_true(right);
    s->n++;
    return INFER_OK;
}

/* Record number i, as see() wants it, in two parts. */
static infer_status append(struct vector_log *log, int i, uint64_t *end)
{
    uint8_t data[5000];
    const size_t size = i % 50 == 49 ? sizeof data : (size_t)(4 + i % 301);
    for (size_t k = 0; k < size; k++)
        data[k] = (uint8_t)(i * 31 + (int)k);
    const struct vector_log_part parts[] = {{data, 3}, {data + 3, size - 3}};
    return vector_log_append(log, (uint32_t)i, parts, 2, end);
}

static infer_status open_log(struct vector_log **log, const char *path, int *n)
{
    struct seen s = {0};
    *log = NULL;
    infer_status st = vector_log_open(log, &base_alloc_default, path, 0, see, &s);
    *n = s.n;
    return st;
}

/* A log of n records, flushed after each `every` of them (0: never), as bytes; ends[i] is where
 * record i ends. With `crash` it is taken before the log is closed. */
static uint8_t *make_log(const char *path, int n, int every, int crash, uint64_t *ends,
                         size_t *size)
{
    struct vector_log *log;
    uint8_t *bytes = NULL;
    int before;
    assert_ok(open_log(&log, path, &before));
    assert_int_equal(before, 0);
    for (int i = 0; i < n; i++) {
        assert_ok(append(log, i, &ends[i]));
        if (every && i % every == every - 1)
            assert_ok(vector_log_sync(log, ends[i]));
    }
    if (crash)
        bytes = (uint8_t *)test_read(path, size);
    vector_log_close(&log);
    if (!crash)
        bytes = (uint8_t *)test_read(path, size);
    unlink(path);
    return bytes;
}

static void test_round_trip(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    struct vector_log *log = NULL, *other = NULL;
    uint64_t end = 0;
    struct seen s = {0};
    assert_ok(vector_log_open(&other, &base_alloc_default, path, 1, see, &s));
    assert_int_equal(vector_log_size(other), 0);
    assert_ok(vector_log_verify(other));
    vector_log_close(&other);
    assert_int_equal(disk_count(disk_folder), 0);
    for (int round = 0; round < 3; round++) {
        s.n = 0;
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
        vector_log_close(&log);
    }
    s = (struct seen){.stop_at = 5};
    assert_int_equal(vector_log_open(&log, &base_alloc_default, path, 1, see, &s), INFER_ERR_LIMIT);
    assert_says("enough");
    assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, NULL, NULL));
    assert_int_equal(vector_log_append(log, VECTOR_LOG_CLOSED, NULL, 0, &end), INFER_ERR_INTERNAL);
    vector_log_close(&log);
    unlink(path);
    assert_int_equal(disk_count(disk_folder), 0);
}

static infer_status see_size(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    (void)type;
    *(uint64_t *)user = *(uint64_t *)user * 1000003 + base_hash64(data, size, 0);
    return INFER_OK;
}

/* More parts than the system takes at once, parts of no bytes, records larger than what is read at
 * once. */
static void test_parts(void **state)
{
    (void)state;
    enum { BIG = 1 << 20, N = 3000 };
    const char *path = disk_path("log");
    struct vector_log *log = NULL;
    uint8_t *big = malloc(BIG);
    static struct vector_log_part parts[N];
    uint64_t end, sum = 0, found = 0;
    for (int i = 0; i < BIG; i++)
        big[i] = (uint8_t)(i * 2654435761u >> 11);
    for (int i = 0; i < N; i++)
        parts[i] = (struct vector_log_part){big + i * 300, i % 7 ? 300 : 0};
    uint8_t *joined = malloc(BIG);
    size_t n = 0;
    for (int i = 0; i < N; n += parts[i++].size)
        memcpy(joined + n, parts[i].data, parts[i].size);
    const struct vector_log_part one = {big, BIG};
    assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, NULL, NULL));
    for (int i = 0; i < 3; i++) {
        assert_ok(vector_log_append(log, 1, parts, N, &end));
        assert_ok(vector_log_append(log, 1, &one, 1, &end));
        assert_ok(vector_log_append(log, 1, NULL, 0, &end));
        sum = sum * 1000003 + base_hash64(joined, n, 0);
        sum = sum * 1000003 + base_hash64(big, BIG, 0);
        sum = sum * 1000003 + base_hash64(big, 0, 0);
    }
    vector_log_close(&log);
    assert_ok(vector_log_open(&log, &base_alloc_default, path, 0, see_size, &found));
    assert_int_equal(found, sum);
    vector_log_close(&log);
    unlink(path);
    free(big);
    free(joined);
}

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

/* ---------------------------------------------------------------- full disks */

static void test_full_disk(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    struct vector_log *log;
    int found, n = 0;
    uint64_t end = 0;
    disk_limit(30);
    assert_int_equal(open_log(&log, path, &found), INFER_ERR_IO);
    disk_limit(0);
    assert_int_equal(disk_count(disk_folder), 0);
    assert_ok(open_log(&log, path, &found));
    for (int round = 0; round < 20; round++) {
        struct stat about;
        const uint64_t before = vector_log_size(log);
        disk_limit((size_t)before + (size_t)round * 100 + 1);
        infer_status st;
        while ((st = append(log, n, &end)) == INFER_OK)
            n++;
        disk_limit(0);
        assert_int_equal(st, INFER_ERR_IO);
        assert_says("cannot write");
        assert_int_equal(stat(path, &about), 0);
        assert_int_equal(about.st_size, vector_log_size(log)); /* what was begun is gone */
        assert_ok(append(log, n, &end));
        n++;
        assert_ok(vector_log_sync(log, end));
    }
    vector_log_close(&log);
    assert_ok(open_log(&log, path, &found));
    assert_int_equal(found, n);
    vector_log_close(&log);
    unlink(path);
}

/* Not even what was begun can be taken back: the log refuses to go on, and says why. */
static void test_cannot_take_back(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    struct vector_log *log;
    int found;
    uint64_t end = 0;
    assert_ok(open_log(&log, path, &found));
    assert_ok(append(log, 0, &end));
    disk_limit((size_t)end + 50); /* half a record */
    fail_calls(FAIL_CUT, 1, EIO, 0);
    assert_int_equal(append(log, 1, &end), INFER_ERR_IO);
    assert_says("cannot write");
    fail_calls(0, 0, 0, 0);
    disk_limit(0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(append(log, 1, &end), INFER_ERR_IO);
        assert_says("cannot cut");
        assert_int_equal(vector_log_sync(log, end), INFER_ERR_IO);
    }
    vector_log_close(&log);
    assert_ok(open_log(&log, path, &found));
    assert_int_equal(found, 1);
    vector_log_close(&log);
    unlink(path);
}

static void test_flush_fails(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    struct vector_log *log;
    int found;
    uint64_t end = 0;
    assert_ok(open_log(&log, path, &found));
    assert_ok(append(log, 0, &end));
    fail_calls(FAIL_FLUSH, 1, EIO, 0);
    assert_int_equal(vector_log_sync(log, end), INFER_ERR_IO);
    assert_says("cannot flush");
    for (int i = 0; i < 2; i++) { /* the next flush would succeed and mean nothing */
        assert_int_equal(vector_log_sync(log, end), INFER_ERR_IO);
        assert_says("cannot flush");
        assert_int_equal(append(log, 1, &end), INFER_ERR_IO);
        assert_says("cannot flush");
    }
    assert_int_equal(fail_calls_count(FAIL_FLUSH), 1);
    fail_calls(0, 0, 0, 0);
    vector_log_close(&log);
    assert_ok(open_log(&log, path, &found));
    vector_log_close(&log);
    unlink(path);
}

/* Each call of the system fails once, or from there on: what was acknowledged is there. */
static void test_every_call_fails(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    for (int at = 1, done = 0; !done; at++) {
        for (int for_good = 0; for_good < 2; for_good++) {
            struct vector_log *log;
            int found, n = 0;
            uint64_t end = 0;
            fail_calls(FAIL_ALL, at, EIO, for_good);
            infer_status st = open_log(&log, path, &found);
            for (int i = 0; st == INFER_OK && i < 5; i++, n += st == INFER_OK) {
                st = append(log, n, &end);
                if (st == INFER_OK)
                    st = vector_log_sync(log, end);
            }
            assert_true(st == INFER_OK || st == INFER_ERR_IO);
            vector_log_close(&log);
            done = fail_calls_count(FAIL_ALL) < at;
            fail_calls(0, 0, 0, 0);
            if (n == 0)
                assert_true(disk_count(disk_folder) <= 1);
            assert_ok(open_log(&log, path, &found));
            assert_in_range(found, n, n + 1); /* one may be there that was not acknowledged */
            vector_log_close(&log);
            unlink(path);
            assert_int_equal(disk_count(disk_folder), 0);
        }
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    static const struct vector_log_part parts[100];
    const char *path = disk_path("log");
    size_t n = 0;
    for (infer_status st = INFER_ERR_NO_MEMORY; st != INFER_OK;) {
        struct vector_log *log = NULL;
        struct test_alloc t;
        uint64_t end;
        test_alloc_init(&t);
        t.fail_at = ++n;
        st = vector_log_open(&log, &t.alloc, path, 0, NULL, NULL);
        if (st == INFER_OK)
            st = vector_log_append(log, 1, parts, 100, &end);
        if (st == INFER_OK)
            st = vector_log_verify(log);
        if (st != INFER_OK)
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
        vector_log_close(&log);
        assert_int_equal(t.live_blocks, 0);
    }
    assert_true(n > 4);
    unlink(path);
    assert_int_equal(disk_count(disk_folder), 0);
}

/* --------------------------------------------------------------- many at once */

enum { N_THREADS = 8, N_EACH = 25 };

static struct {
    struct vector_log *log;
    pthread_mutex_t lock;
    int n;
    atomic_int failures;
} group;

static void *write_group(void *arg)
{
    (void)arg;
    for (int i = 0; i < N_EACH; i++) {
        uint64_t end = 0;
        pthread_mutex_lock(&group.lock);
        infer_status st = append(group.log, group.n, &end);
        group.n++;
        pthread_mutex_unlock(&group.lock);
        if (st != INFER_OK || vector_log_sync(group.log, end) != INFER_OK)
            atomic_fetch_add(&group.failures, 1);
    }
    return NULL;
}

static void run_group(void)
{
    pthread_t threads[N_THREADS];
    atomic_store(&group.failures, 0);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_group, NULL), 0);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void test_shared_flushes(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    int found;
    pthread_mutex_init(&group.lock, NULL);
    group.n = 0;
    assert_ok(open_log(&group.log, path, &found));
    fail_calls(FAIL_FLUSH, 0, 0, 0);
    fail_calls_slow(2000);
    run_group();
    fail_calls_slow(-1);
    assert_int_equal(atomic_load(&group.failures), 0);
    assert_int_equal(group.n, N_THREADS * N_EACH);
    /* A flush serves all that waited while the one before ran: about two for each round of all. */
    assert_in_range(fail_calls_count(FAIL_FLUSH), N_EACH, 4 * N_EACH);
    vector_log_close(&group.log);
    assert_ok(open_log(&group.log, path, &found));
    assert_int_equal(found, N_THREADS * N_EACH);
    /* One failure, and nobody is told that anything is there which may not be. */
    fail_calls(FAIL_FLUSH, 3, EIO, 0);
    run_group();
    assert_true(atomic_load(&group.failures) >= N_THREADS * N_EACH - 2 * N_THREADS);
    assert_int_equal(fail_calls_count(FAIL_FLUSH), 3);
    fail_calls(0, 0, 0, 0);
    vector_log_close(&group.log);
    unlink(path);
    pthread_mutex_destroy(&group.lock);
}

static void *flush_slowly(void *arg)
{
    if (vector_log_sync(group.log, *(uint64_t *)arg) != INFER_OK)
        atomic_fetch_add(&group.failures, 1);
    return NULL;
}

/* A flush that began before a record was there does not count for it. */
static void test_record_during_a_flush(void **state)
{
    (void)state;
    const char *path = disk_path("log");
    pthread_t thread;
    int found;
    uint64_t first, second;
    atomic_store(&group.failures, 0);
    fail_calls(0, 0, 0, 0);
    assert_ok(open_log(&group.log, path, &found));
    assert_string_equal(fail_calls_trace(), "cwfmfrf"); /* header, name, then opened as any other */
    assert_ok(append(group.log, 0, &first));
    fail_calls(FAIL_FLUSH, 0, 0, 0);
    fail_calls_slow(100000);
    assert_int_equal(pthread_create(&thread, NULL, flush_slowly, &first), 0);
    for (int i = 0; i < 1000 && fail_calls_count(FAIL_FLUSH) == 0; i++)
        usleep(1000);
    usleep(20000);
    assert_ok(append(group.log, 1, &second));
    assert_ok(vector_log_sync(group.log, second));
    fail_calls_slow(-1);
    assert_int_equal(fail_calls_count(FAIL_FLUSH), 2);
    assert_ok(vector_log_sync(group.log, second)); /* nothing to do */
    assert_int_equal(fail_calls_count(FAIL_FLUSH), 2);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&group.failures), 0);
    vector_log_close(&group.log);
    unlink(path);
}

static void *read_all(void *arg)
{
    for (int i = 0; i < 30; i++) {
        struct vector_log *log = NULL;
        struct seen s = {0};
        if (vector_log_open(&log, &base_alloc_default, arg, 1, see, &s) != INFER_OK)
            atomic_fetch_add(&group.failures, 1);
        vector_log_close(&log);
    }
    return NULL;
}

/* A reader takes what is whole, however far the writer is. */
static void test_reader_beside_writer(void **state)
{
    (void)state;
    static char path[600];
    pthread_t reader;
    int found;
    uint64_t end;
    snprintf(path, sizeof path, "%s", disk_path("log"));
    pthread_mutex_init(&group.lock, NULL);
    atomic_store(&group.failures, 0);
    assert_ok(open_log(&group.log, path, &found));
    assert_int_equal(pthread_create(&reader, NULL, read_all, path), 0);
    for (int i = 0; i < 2000; i++)
        assert_ok(append(group.log, i, &end));
    pthread_join(reader, NULL);
    assert_int_equal(atomic_load(&group.failures), 0);
    vector_log_close(&group.log);
    unlink(path);
    pthread_mutex_destroy(&group.lock);
}

/* --------------------------------------------------------------------- kills */

/* Appends from where it finds the log, and says what it was told is there. */
static void write_for_ever(const char *path, atomic_int *acknowledged, uint64_t seed, int sync)
{
    struct vector_log *log;
    int n;
    if (open_log(&log, path, &n) != INFER_OK)
        _exit(1);
    for (;;) {
        uint64_t end = 0;
        for (uint32_t k = test_rand(&seed) % 4; k-- > 0; n++)
            if (append(log, n, &end) != INFER_OK)
                _exit(1);
        if (sync && vector_log_sync(log, end) != INFER_OK)
            _exit(1);
        atomic_store(acknowledged, n);
    }
}

/* Killed at any moment: a log that opens, with everything that was acknowledged. */
static void test_kill(void **state)
{
    (void)state;
    const char *path = disk_path("log"), *rounds = getenv("INFER_TEST_KILLS");
    const int n_rounds = rounds ? atoi(rounds) : 30;
    atomic_int *acknowledged =
        mmap(NULL, sizeof *acknowledged, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t seed = 11;
    int n_written = 0;
    assert_true(acknowledged != MAP_FAILED);
    for (int round = 0; round < n_rounds; round++) {
        struct vector_log *log;
        int found, status;
        if (round % 10 == 0) {
            unlink(path);
            atomic_store(acknowledged, 0);
        }
        fflush(NULL); /* ThreadSanitizer writes what is buffered even at _exit() */
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* if the test fails */
            write_for_ever(path, acknowledged, seed + (uint64_t)round, round % 2);
        }
        const int before = atomic_load(acknowledged);
        for (int i = 0; i < 1000 && atomic_load(acknowledged) == before; i++)
            usleep(1000);
        usleep(test_rand(&seed) % 3000);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_ok(open_log(&log, path, &found));
        assert_true(found >= atomic_load(acknowledged));
        n_written += found - before;
        atomic_store(acknowledged, found);
        vector_log_close(&log);
    }
    assert_true(n_written > n_rounds);
    munmap(acknowledged, sizeof *acknowledged);
    unlink(path);
}

int main(void)
{
    fail_calls_slow(-1); /* the system keeps what is written when a process dies */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_lost_sectors),
        cmocka_unit_test(test_lost_sectors_of_before),
        cmocka_unit_test(test_odd_records),
        cmocka_unit_test(test_old_records),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_cannot_take_back),
        cmocka_unit_test(test_flush_fails),
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_shared_flushes),
        cmocka_unit_test(test_record_during_a_flush),
        cmocka_unit_test(test_reader_beside_writer),
        cmocka_unit_test(test_kill),
    };
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
