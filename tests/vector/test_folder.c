/* The folder of an index: one writer, a manifest that is whole, nothing that does not belong. */
#include "folder_sample.h"

#include "support/test_alloc.h"

#include <errno.h>

static void put(const char *name)
{
    disk_put(inside("index", name), name, strlen(name));
}

static int is_there(const char *name)
{
    return access(inside("index", name), F_OK) == 0;
}

/* Segments 9 and 3, logs from 10 on. */
static struct vector_manifest second(const struct vector_manifest *m)
{
    static const uint64_t segments[] = {9, 3};
    static const char *const fields[] = {"a.b", "year"};
    struct vector_manifest next = *m;
    next.segments = segments;
    next.n_segments = 2;
    next.fields = fields;
    next.n_fields = 2;
    next.next_file = 11;
    next.first_log = 10;
    return next;
}

static void test_opening(void **state)
{
    (void)state;
    struct vector_folder *f, *other;
    const struct vector_manifest *m, *seen;
    assert_int_equal(open_folder(&f, 0, 1, &m), INFER_ERR_NOT_FOUND);
    assert_int_equal(open_folder(&f, 1, 0, &m), INFER_ERR_NOT_FOUND);
    assert_int_equal(
        vector_folder_open(&f, &base_alloc_default, disk_path("no/index"), 0, 0, &first, &m),
        INFER_ERR_NOT_FOUND);
    assert_int_equal(disk_count(disk_folder), 0);
    assert_ok(open_folder(&f, 0, 0, &m));
    assert_int_equal(m->generation, 1);
    assert_string_equal(m->traits.model, "abc");
    assert_int_equal(open_folder(&other, 0, 0, &seen), INFER_ERR_BUSY);
    assert_says("index");
    assert_ok(open_folder(&other, 1, 1, &seen));
    vector_folder_close(&other);
    vector_folder_close(&f);
    vector_folder_close(&f);
    assert_ok(open_folder(&f, 0, 0, &m));
    vector_folder_close(&f);
    empty("index");
    disk_put(disk_path("index"), "x", 1);
    assert_int_equal(open_folder(&f, 0, 0, &m), INFER_ERR_INVALID);
    unlink(disk_path("index"));
}

static void test_commit(void **state)
{
    (void)state;
    struct vector_folder *f, *other;
    const struct vector_manifest *m, *seen;
    uint64_t logs[2];
    int32_t n = 0;
    char name[600];
    assert_ok(open_folder(&f, 0, 0, &m));
    struct vector_manifest next = second(m);
    put("log-00000012");
    put("log-00000010");
    put("log-00000009");
    assert_ok(vector_folder_commit(f, &next));
    assert_int_equal(m->generation, 2);
    assert_ok(vector_folder_commit(f, m)); /* of what the folder itself holds */
    assert_int_equal(m->generation, 3);
    assert_ok(open_folder(&other, 1, 0, &seen));
    assert_int_equal(seen->n_segments, 2);
    assert_int_equal(seen->segments[0], 9);
    assert_int_equal(seen->segments[1], 3);
    assert_int_equal(seen->n_fields, 2);
    assert_string_equal(seen->fields[1], "year");
    assert_string_equal(seen->traits.pooling, "mean");
    assert_int_equal(seen->traits.dims, 3);
    assert_int_equal(seen->next_file, 13); /* log 12 is there */
    assert_ok(vector_folder_logs(other, logs, &n, 2));
    assert_int_equal(n, 2);
    assert_int_equal(logs[0], 10);
    assert_int_equal(logs[1], 12);
    assert_int_equal(vector_folder_logs(other, logs, &n, 1), INFER_ERR_LIMIT);
    assert_int_equal(vector_folder_commit(other, seen), INFER_ERR_UNSUPPORTED);
    vector_folder_drop(other, "log", 10);
    assert_true(is_there("log-00000010"));
    vector_folder_close(&other);
    vector_folder_drop(f, "log", 10);
    assert_false(is_there("log-00000010"));
    assert_ok(vector_folder_name(f, "segment", 123456789012, name, sizeof name));
    assert_string_equal(strrchr(name, '/'), "/segment-123456789012");
    assert_int_equal(vector_folder_name(f, "segment", 7, name, 20), INFER_ERR_LIMIT);
    assert_ok(vector_folder_verify(f));
    vector_folder_close(&f);
    empty("index");
}

static void test_what_no_index_has(void **state)
{
    (void)state;
    static const uint64_t twice[] = {4, 4};
    struct vector_folder *f;
    const struct vector_manifest *m;
    assert_ok(open_folder(&f, 0, 0, &m));
    struct vector_manifest bad[10];
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        bad[i] = second(m);
    bad[0].traits.dims = 0;
    bad[1].traits.dims = 8193;
    bad[2].traits.metric = 3;
    bad[3].traits.type = -1;
    bad[4].traits.degree = 0;
    bad[5].traits.effort = 5000;
    bad[6].traits.normalized = 2;
    bad[7].segments = twice;
    bad[8].next_file = 9;
    bad[9].n_fields = VECTOR_FIELDS_MAX + 1;
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        assert_int_equal(vector_folder_commit(f, &bad[i]), INFER_ERR_FORMAT);
    assert_int_equal(m->generation, 1);
    vector_folder_close(&f);
    empty("index");
}

static void test_what_is_removed(void **state)
{
    (void)state;
    static const char *const ours[] = {"segment-00000004", "segment-00000009.part",
                                       "log-00000002",     "log-00000010.part",
                                       "manifest.part",    "segment-123456789"};
    static const char *const others[] = {"segment-4",
                                         "segment-000000004",
                                         "segment-0000000x",
                                         "notes.txt",
                                         "log-00000002.x",
                                         "segment-",
                                         "segments-00000001",
                                         "log-99999999999999999999999",
                                         "log-18446744073709551614"};
    struct vector_folder *f;
    const struct vector_manifest *m;
    assert_ok(open_folder(&f, 0, 0, &m));
    struct vector_manifest next = second(m);
    assert_ok(vector_folder_commit(f, &next));
    vector_folder_close(&f);
    put("segment-00000009");
    put("segment-00000003");
    put("log-00000010");
    for (size_t i = 0; i < BASE_COUNT(ours); i++)
        put(ours[i]);
    for (size_t i = 0; i < BASE_COUNT(others); i++)
        put(others[i]);
    fail_calls(FAIL_WRITE | FAIL_CUT | FAIL_FLUSH | FAIL_RENAME, 0, 0, 0);
    assert_ok(open_folder(&f, 1, 0, &m)); /* a reader writes nothing and removes nothing */
    vector_folder_close(&f);
    assert_int_equal(fail_calls_count(FAIL_WRITE | FAIL_CUT | FAIL_FLUSH | FAIL_RENAME), 0);
    for (size_t i = 0; i < BASE_COUNT(ours); i++)
        assert_true(is_there(ours[i]));
    assert_ok(open_folder(&f, 0, 1, &m));
    for (size_t i = 0; i < BASE_COUNT(ours); i++)
        assert_false(is_there(ours[i]));
    for (size_t i = 0; i < BASE_COUNT(others); i++)
        assert_true(is_there(others[i]));
    assert_true(is_there("segment-00000009") && is_there("segment-00000003") &&
                is_there("log-00000010"));
    vector_folder_close(&f);
    /* Whoever lost the manifest shall not lose the rest as well. */
    assert_int_equal(unlink(inside("index", "manifest")), 0);
    assert_int_equal(open_folder(&f, 0, 0, &m), INFER_ERR_FORMAT);
    assert_says("manifest is missing");
    assert_true(is_there("segment-00000009"));
    empty("index");
}

/* A medium that takes nothing: who only reads needs nothing of it. */
static void test_read_only_medium(void **state)
{
    (void)state;
    struct vector_folder *f;
    const struct vector_manifest *m;
    const uid_t me = geteuid();
    assert_ok(open_folder(&f, 0, 0, &m));
    vector_folder_close(&f);
    put("log-00000001");
    assert_int_equal(unlink(inside("index", "lock")), 0);
    assert_int_equal(chmod(disk_folder, 0555), 0);
    assert_int_equal(chmod(disk_path("index"), 0555), 0);
    assert_int_equal(me == 0 ? seteuid(65534) : 0, 0); /* root may write anywhere */
    infer_status reading = open_folder(&f, 1, 1, &m);
    uint64_t log = 0;
    int32_t n = 0;
    infer_status listing = reading == INFER_OK ? vector_folder_logs(f, &log, &n, 1) : reading;
    vector_folder_close(&f);
    infer_status writing = open_folder(&f, 0, 1, &m);
    assert_int_equal(me == 0 ? seteuid(0) : 0, 0);
    chmod(disk_folder, 0700);
    chmod(disk_path("index"), 0700);
    assert_ok(reading);
    assert_ok(listing);
    assert_int_equal(n == 1 && log == 1, 1);
    assert_int_equal(writing, INFER_ERR_IO);
    empty("index");
}

static void test_damage(void **state)
{
    (void)state;
    uint64_t seed = 5;
    size_t size;
    struct vector_folder *f;
    const struct vector_manifest *m;
    assert_ok(open_folder(&f, 0, 0, &m));
    struct vector_manifest next = second(m);
    assert_ok(vector_folder_commit(f, &next));
    uint8_t *whole = (uint8_t *)test_read(inside("index", "manifest"), &size),
            *bytes = malloc(size);
    for (int i = 0; i < 900; i++) {
        struct vector_folder *other;
        memcpy(bytes, whole, size);
        size_t left = disk_damage(bytes, size, i / 300, &seed);
        disk_put(inside("index", "manifest"), bytes, left);
        assert_int_equal(vector_folder_verify(f), INFER_ERR_FORMAT);
        assert_int_equal(open_folder(&other, 1, 0, &m), INFER_ERR_FORMAT);
        assert_says("index/manifest");
    }
    vector_folder_close(&f);
    free(whole);
    free(bytes);
    empty("index");
}

/* A commit that fails leaves one of the two manifests, and no file of either is removed. */
static void test_every_call_of_a_commit_fails(void **state)
{
    (void)state;
    int n_stopped = 0;
    for (int at = 1, done = 0; !done; at++) {
        struct vector_folder *f;
        const struct vector_manifest *m;
        assert_ok(open_folder(&f, 0, 0, &m));
        const uint64_t before = m->generation;
        struct vector_manifest next = second(m);
        fail_calls(FAIL_ALL, at, EIO, 0);
        infer_status st = vector_folder_commit(f, &next);
        done = fail_calls_count(FAIL_ALL) < at;
        fail_calls(0, 0, 0, 0);
        assert_int_equal(st, done ? INFER_OK : INFER_ERR_IO);
        assert_int_equal(m->generation, before + (uint64_t)done);
        put("segment-00000003");
        next = second(m);
        st = vector_folder_commit(f, &next);
        vector_folder_drop(f, "segment", 3);
        if (st != INFER_OK) {
            n_stopped++;
            assert_says("flush the folder");
            assert_true(is_there("segment-00000003"));
        } else {
            assert_false(is_there("segment-00000003"));
        }
        vector_folder_close(&f);
        assert_int_equal(open_folder(&f, 0, 1, &m), INFER_OK);
        vector_folder_close(&f);
    }
    assert_int_equal(n_stopped, 1);
    empty("index");
}

static void test_full_disk(void **state)
{
    (void)state;
    struct vector_folder *f;
    const struct vector_manifest *m;
    disk_limit(100);
    infer_status st = open_folder(&f, 0, 0, &m);
    disk_limit(0);
    assert_int_equal(st, INFER_ERR_IO);
    assert_int_equal(disk_count(disk_folder), 0);
    assert_ok(open_folder(&f, 0, 0, &m));
    struct vector_manifest next = second(m);
    disk_limit(100);
    st = vector_folder_commit(f, &next);
    disk_limit(0);
    assert_int_equal(st, INFER_ERR_IO);
    assert_false(is_there("manifest.part"));
    assert_ok(vector_folder_commit(f, &next)); /* there is room again */
    vector_folder_close(&f);
    empty("index");
}

static void test_out_of_memory(void **state)
{
    (void)state;
    size_t n = 0;
    for (infer_status st = INFER_ERR_NO_MEMORY; st != INFER_OK;) {
        struct vector_folder *f = NULL;
        const struct vector_manifest *m;
        struct test_alloc t;
        test_alloc_init(&t);
        t.fail_at = ++n;
        st = open_with(&f, &t.alloc, 0, 0, &m);
        if (st != INFER_OK && access(inside("index", "manifest"), F_OK) != 0)
            assert_int_equal(disk_count(disk_folder), 0);
        if (st == INFER_OK) {
            struct vector_manifest next = second(m);
            st = vector_folder_commit(f, &next);
        }
        if (st == INFER_OK)
            st = vector_folder_copy(f, disk_path("copy"), &first, NULL, NULL, 0);
        if (st != INFER_OK)
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
        vector_folder_close(&f);
        assert_int_equal(t.live_blocks, 0);
        assert_int_equal(access(disk_path("copy"), F_OK) == 0, st == INFER_OK);
    }
    assert_true(n > 20);
    empty("index");
    empty("copy");
}

/* ---------------------------------------------------------------------- copies */

static void check_copy(int linked)
{
    struct vector_folder *f;
    const struct vector_manifest *m;
    struct stat a, b;
    size_t size;
    assert_ok(vector_folder_open(&f, &base_alloc_default, disk_path("copy"), 0, 1, NULL, &m));
    assert_int_equal(m->n_segments, 2);
    vector_folder_close(&f);
    assert_int_equal(disk_count(disk_path("copy")), 5);
    assert_int_equal(stat(inside("index", "segment-00000003"), &a), 0);
    assert_int_equal(stat(inside("copy", "segment-00000003"), &b), 0);
    assert_int_equal(a.st_ino == b.st_ino, linked);
    char *text = test_read(inside("copy", "segment-00000009"), &size);
    assert_string_equal(text, "segment-00000009");
    free(text);
    text = test_read(inside("copy", "log-00000010"), &size);
    assert_string_equal(text, "log-0");
    free(text);
}

static void test_copies(void **state)
{
    (void)state;
    static const uint64_t logs[] = {10}, log_bytes[] = {5};
    struct vector_folder *f;
    const struct vector_manifest *m;
    assert_ok(open_folder(&f, 0, 0, &m));
    struct vector_manifest next = second(m);
    put("segment-00000009");
    put("segment-00000003");
    put("log-00000010");
    assert_ok(vector_folder_commit(f, &next));
    fail_calls(0, 0, 0, 0);
    assert_ok(vector_folder_copy(f, disk_path("copy"), m, logs, log_bytes, 1));
    /* Links, the log and its flush, the names; then the manifest as any file; then the folder. */
    assert_non_null(strstr(fail_calls_trace(), "llpff"));
    assert_string_equal(fail_calls_trace() + strlen(fail_calls_trace()) - 4, "fmff");
    check_copy(1);
    assert_int_equal(vector_folder_copy(f, disk_path("copy"), m, logs, log_bytes, 1),
                     INFER_ERR_INVALID);
    check_copy(1);
    empty("copy");
    assert_int_equal(mkdir(disk_path("copy"), 0777), 0);
    fail_calls(FAIL_LINK, 1, EXDEV, 1); /* to another disk */
    assert_ok(vector_folder_copy(f, disk_path("copy"), m, logs, log_bytes, 1));
    check_copy(0);
    empty("copy");
    fail_calls(FAIL_LINK | FAIL_COPY, 1, ENOSYS, 1);
    assert_ok(vector_folder_copy(f, disk_path("copy"), m, logs, log_bytes, 1));
    fail_calls(0, 0, 0, 0);
    check_copy(0);
    empty("copy");
    assert_int_equal(vector_folder_copy(f, disk_path("no/copy"), m, logs, log_bytes, 1),
                     INFER_ERR_NOT_FOUND);
    assert_int_equal(mkdir(disk_path("copy"), 0777), 0);
    static const uint64_t wrong[] = {11}, too_much[] = {99};
    assert_int_equal(vector_folder_copy(f, disk_path("copy"), m, wrong, log_bytes, 1),
                     INFER_ERR_NOT_FOUND);
    assert_int_equal(vector_folder_copy(f, disk_path("copy"), m, logs, too_much, 1), INFER_ERR_IO);
    assert_int_equal(disk_count(disk_path("copy")), 0); /* as it was */
    assert_int_equal(rmdir(disk_path("copy")), 0);
    for (int at = 1, done = 0; !done; at++) { /* half of them with links */
        fail_calls(FAIL_ALL - (at % 2 ? FAIL_LINK : 0), at, EIO, 1);
        infer_status st = vector_folder_copy(f, disk_path("copy"), m, logs, log_bytes, 1);
        done = fail_calls_count(FAIL_ALL - (at % 2 ? FAIL_LINK : 0)) < at;
        fail_calls(0, 0, 0, 0);
        assert_int_equal(st, done ? INFER_OK : INFER_ERR_IO);
        assert_int_equal(access(disk_path("copy"), F_OK) == 0, done);
    }
    empty("copy");
    vector_folder_close(&f);
    empty("index");
}

int main(void)
{
    fail_calls_slow(-1); /* the system keeps what is written when a process dies */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opening),
        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_what_no_index_has),
        cmocka_unit_test(test_what_is_removed),
        cmocka_unit_test(test_read_only_medium),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_every_call_of_a_commit_fails),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
