/* The folder of an index: one writer, a manifest that is whole, nothing that does not belong. */
#include "disk.h"

#include "vector/folder.h"

static const struct vector_manifest first = {
    .traits = {.dims = 3, .degree = 32, .effort = 200, .model = "abc", .pooling = "mean"},
    .next_file = 1,
    .first_log = 1};

static infer_status open_folder(struct vector_folder **f, int read_only, int must_exist,
                                const struct vector_manifest **m)
{
    return vector_folder_open(f, &base_alloc_default, disk_path("index"), read_only, must_exist,
                              &first, m);
}

static void put(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "index/%s", name);
    disk_put(disk_path(path), "x", 1);
}

static int is_there(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "index/%s", name);
    return access(disk_path(path), F_OK) == 0;
}

static void empty(void)
{
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'/*", disk_folder);
    assert_int_equal(system(command), 0);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct vector_folder *f = NULL, *other = NULL;
    const struct vector_manifest *m, *seen;
    static const uint64_t segments[] = {9, 3};
    static const char *const fields[] = {"a.b", "year"};
    assert_int_equal(open_folder(&f, 0, 1, &m), INFER_ERR_NOT_FOUND);
    assert_int_equal(open_folder(&f, 1, 0, &m), INFER_ERR_NOT_FOUND);
    assert_int_equal(disk_count(disk_folder), 0);
    assert_ok(open_folder(&f, 0, 0, &m));
    assert_int_equal(m->generation, 1);
    assert_string_equal(m->traits.model, "abc");
    assert_int_equal(open_folder(&other, 0, 0, &seen), INFER_ERR_BUSY);
    assert_says("index");
    struct vector_manifest next = *m;
    next.segments = segments;
    next.n_segments = 2;
    next.fields = fields;
    next.n_fields = 2;
    next.next_file = 11;
    next.first_log = 10;
    put("segment-00000009");
    put("segment-00000003");
    put("log-00000010");
    put("log-00000012");
    assert_ok(vector_folder_commit(f, &next));
    assert_int_equal(m->generation, 2);
    assert_ok(open_folder(&other, 1, 0, &seen));
    assert_int_equal(seen->n_segments, 2);
    assert_int_equal(seen->segments[0], 9);
    assert_int_equal(seen->segments[1], 3);
    assert_string_equal(seen->fields[1], "year");
    assert_string_equal(seen->traits.pooling, "mean");
    assert_int_equal(seen->next_file, 13);
    uint64_t logs[2];
    int32_t n = 0;
    assert_ok(vector_folder_logs(other, logs, &n, 2));
    assert_int_equal(n, 2);
    assert_int_equal(logs[0], 10);
    assert_int_equal(vector_folder_logs(other, logs, &n, 1), INFER_ERR_LIMIT);
    vector_folder_close(&other);
    vector_folder_close(&f);
    vector_folder_close(&f);
    put("segment-00000004");
    put("segment-4");
    put("segment-00000009.part");
    put("log-00000002");
    put("manifest.part");
    put("notes.txt");
    assert_ok(open_folder(&f, 1, 0, &m));
    vector_folder_close(&f);
    assert_true(is_there("segment-00000004"));
    assert_ok(open_folder(&f, 0, 1, &m));
    assert_int_equal(m->generation, 2);
    assert_false(is_there("segment-00000004") || is_there("segment-00000009.part") ||
                 is_there("log-00000002") || is_there("manifest.part"));
    assert_true(is_there("segment-4") && is_there("notes.txt") && is_there("segment-00000009") &&
                is_there("log-00000012"));
    vector_folder_drop(f, "log", 12);
    assert_false(is_there("log-00000012"));
    vector_folder_close(&f);
    empty();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
