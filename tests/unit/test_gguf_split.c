/* Models in several GGUF files: found by any part's name, each part checked. */
#include "gguf_sample.h"
#include "support/test_alloc.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_TENSORS = 7 };

static char folder[] = "/tmp/infer-split-XXXXXX";

static int make_folder(void **state)
{
    BASE_UNUSED(state);
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    BASE_UNUSED(state);
    DIR *dir = opendir(folder);
    struct dirent *entry;
    char path[512];
    while (dir && (entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path); /* "." and ".." fail, which is as well */
    }
    if (dir)
        closedir(dir);
    return rmdir(folder);
}

/* Path of part `i` (from 1) of `n` of the model `name`; lives until the fourth next call. */
static const char *part(const char *name, int i, int n)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ & 3];
    snprintf(path, sizeof paths[0], "%s/%s-%05d-of-%05d.gguf", folder, name, i, n);
    return path;
}

static struct gguf_builder *model(void)
{
    struct gguf_builder *b = gguf_builder_new();
    char name[16];
    gguf_builder_string(b, "general.architecture", "llama");
    for (int i = 0; i < N_TENSORS; i++) {
        float values[8];
        for (int k = 0; k < 8; k++)
            values[k] = (float)(10 * i + k);
        snprintf(name, sizeof name, "t%d", i);
        gguf_builder_tensor(b, name, INFER_DTYPE_F32, 1, one_dim, values, sizeof values);
    }
    return b;
}

static void write_model(const char *name, int n)
{
    char prefix[512];
    struct gguf_builder *b = model();
    snprintf(prefix, sizeof prefix, "%s/%s", folder, name);
    gguf_builder_write_split(b, prefix, n);
    gguf_builder_free(b);
}

/* One part of a model by hand; a number of -1 leaves its key out. */
static void write_part(const char *path, int no, int count, int total, const char *tensor)
{
    struct gguf_builder *b = gguf_builder_new();
    if (no >= 0)
        gguf_builder_int(b, "split.no", GGUF_U16, no);
    if (count >= 0)
        gguf_builder_int(b, "split.count", GGUF_U16, count);
    if (total >= 0)
        gguf_builder_int(b, "split.tensors.count", GGUF_I32, total);
    gguf_builder_tensor(b, tensor, INFER_DTYPE_F32, 1, one_dim, NULL, 32);
    gguf_builder_write(b, path);
    gguf_builder_free(b);
}

static void refuse(const char *path, infer_status expected, const char *sentence)
{
    struct test_alloc t;
    struct gguf_file *file = NULL;
    test_alloc_init(&t);
    assert_int_equal(gguf_open(&file, &t.alloc, path, 0), expected);
    assert_null(file);
    assert_int_equal(t.live_blocks, 0);
    assert_says(sentence);
}

static void test_any_part(void **state)
{
    BASE_UNUSED(state);
    for (int n = 1; n <= 9; n += 2) { /* nine parts: two hold no tensor at all */
        write_model("good", n);
        for (int i = 1; i <= n; i++) {
            struct test_alloc t;
            struct gguf_file *file = NULL;
            struct base_view name;
            float values[8];
            char key[16];
            test_alloc_init(&t);
            assert_ok(gguf_open(&file, &t.alloc, part("good", i, n), 0));
            assert_string_equal(gguf_path(file), part("good", 1, n));
            assert_int_equal(gguf_n_tensors(file), N_TENSORS);
            assert_ok(gguf_get_string(file, "general.architecture", &name));
            assert_true(base_view_equal(name, "llama"));
            for (int k = 0; k < N_TENSORS; k++) {
                snprintf(key, sizeof key, "t%d", k);
                const struct gguf_tensor *tensor = gguf_find_tensor(file, key);
                assert_non_null(tensor);
                assert_in_range(tensor->file, 0, n - 1);
                memcpy(values, tensor->data, sizeof values);
                assert_true(values[0] == (float)(10 * k) && values[7] == (float)(10 * k + 7));
            }
            assert_in_range(gguf_memory_bytes(file), t.live_bytes, t.live_bytes + 64);
            gguf_close(&file);
            assert_int_equal(t.live_blocks, 0);
        }
    }
}

static void check_values(const struct gguf_file *file)
{
    for (int k = 0; k < N_TENSORS; k++) {
        char key[16];
        float first;
        snprintf(key, sizeof key, "t%d", k);
        const struct gguf_tensor *tensor = gguf_find_tensor(file, key);
        assert_non_null(tensor);
        memcpy(&first, tensor->data, sizeof first);
        assert_true(first == (float)(10 * k));
    }
}

/* Data goes and comes back from files that are the same; what is no more is said. */
static void test_drop_and_take(void **state)
{
    BASE_UNUSED(state);
    struct test_alloc t;
    struct gguf_file *file = NULL, *from = NULL;
    test_alloc_init(&t);
    write_model("life", 3);
    write_model("lives", 4);
    assert_ok(gguf_open(&file, &t.alloc, part("life", 1, 3), 0));
    uint64_t mapped = gguf_mapped_bytes(file);
    assert_int_equal(mapped, gguf_bytes(file));
    for (int round = 0; round < 3; round++) {
        gguf_drop_data(file);
        assert_int_equal(gguf_bytes(file), mapped);
        assert_int_equal(gguf_mapped_bytes(file), mapped); /* all in the pages of the heads */
        for (size_t i = 0; i < N_TENSORS; i++) {
            assert_null(gguf_tensor_at(file, i)->data);
            assert_int_equal(gguf_tensor_at(file, i)->name.data[1], '0' + (int)i);
        }
        assert_ok(gguf_open(&from, &t.alloc, part("lives", 1, 4), 0));
        assert_int_equal(gguf_take_data(file, from), INFER_ERR_FORMAT);
        assert_says("is not what it was");
        assert_null(gguf_tensor_at(file, 0)->data);
        gguf_close(&from);
        assert_ok(gguf_open(&from, &t.alloc, part("life", 1, 3), 0));
        t.fail_at = t.n_calls + 1;
        assert_int_equal(gguf_take_data(file, from), INFER_ERR_NO_MEMORY);
        assert_null(gguf_tensor_at(file, 0)->data);
        assert_ok(gguf_take_data(file, from));
        gguf_close(&from);
        assert_int_equal(gguf_mapped_bytes(file), 2 * mapped);
        check_values(file);
    }
    gguf_close(&file);
    assert_int_equal(t.live_blocks, 0);
}

/* Pages behind the head are unmapped, and of a file without tensors none. */
static void test_cut(void **state)
{
    BASE_UNUSED(state);
    struct gguf_builder *b = gguf_builder_new();
    struct gguf_file *file = NULL;
    static float values[8192];
    const uint64_t dims[1] = {8192};
    char path[512];
    snprintf(path, sizeof path, "%s/large.gguf", folder);
    gguf_builder_string(b, "general.architecture", "llama");
    gguf_builder_tensor(b, "large", INFER_DTYPE_F32, 1, dims, values, sizeof values);
    gguf_builder_write(b, path);
    gguf_builder_free(b);
    assert_ok(gguf_open(&file, &base_alloc_default, path, 0));
    assert_true(gguf_mapped_bytes(file) > sizeof values);
    gguf_drop_data(file);
    assert_int_equal(gguf_mapped_bytes(file), sysconf(_SC_PAGESIZE));
    assert_non_null(gguf_find(file, "general.architecture"));
    gguf_close(&file);
    b = gguf_builder_new();
    gguf_builder_string(b, "general.architecture", "llama");
    gguf_builder_write(b, path);
    gguf_builder_free(b);
    assert_ok(gguf_open(&file, &base_alloc_default, path, 0));
    uint64_t mapped = gguf_mapped_bytes(file);
    gguf_drop_data(file);
    assert_int_equal(gguf_mapped_bytes(file), mapped);
    gguf_close(&file);
}

static void test_metadata_only(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *file;
    write_model("vocab", 3);
    assert_int_equal(unlink(part("vocab", 2, 3)), 0);
    assert_ok(gguf_open(&file, &base_alloc_default, part("vocab", 3, 3), GGUF_OPEN_METADATA_ONLY));
    assert_non_null(gguf_find(file, "general.architecture"));
    assert_int_equal(gguf_n_tensors(file), N_TENSORS / 3);
    gguf_close(&file);
}

static void test_missing_part(void **state)
{
    BASE_UNUSED(state);
    write_model("gap", 4);
    assert_int_equal(unlink(part("gap", 3, 4)), 0);
    refuse(part("gap", 1, 4), INFER_ERR_NOT_FOUND, "part 3 of 4: ");
    assert_says(part("gap", 3, 4));
    refuse(part("gap", 4, 4), INFER_ERR_NOT_FOUND, part("gap", 3, 4));
    assert_int_equal(unlink(part("gap", 1, 4)), 0);
    refuse(part("gap", 2, 4), INFER_ERR_NOT_FOUND, "part 1 of 4: ");
    assert_says(part("gap", 1, 4));
}

static void test_wrong_names(void **state)
{
    BASE_UNUSED(state);
    char path[512];
    write_model("name", 2);
    static const char *const names[] = {
        "plain.gguf",           "x-0001-of-00002.gguf",  "x-00001-of-00003.gguf",
        "x-00001-of-00002.bin", "x_00001-of-00002.gguf", "x-0000a-of-00002.gguf"};
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        write_part(path, 0, 2, 2, "t");
        refuse(path, INFER_ERR_FORMAT, "its name must end in -00001-of-00002.gguf");
        assert_says(names[i]);
    }
}

static void test_parts_disagree(void **state)
{
    BASE_UNUSED(state);
    static const struct {
        int no, count, total;
        const char *tensor;
        const char *sentence;
    } second[] = {
        {0, 2, 2, "b", "says it is part 1 of 2 with 2 tensors in all, part 2 of 2"},
        {1, 3, 2, "b", "says it is part 2 of 3"},
        {1, 2, 3, "b", "says it is part 2 of 2 with 3 tensors"},
        {1, 2, 2, "a", "tensor \"a\" at byte"},
        {-1, 2, 2, "b", "lacks the key \"split.no\""},
        {1, -1, 2, "b", "says it is part 1 of 0"},
        {1, 2, -1, "b", "lacks the key \"split.tensors.count\""},
        {2, 2, 2, "b", "key \"split.no\" is 2, 0 to 1 was expected"},
        {1, 2000, 2, "b", "key \"split.count\" is 2000, 0 to 1024 was expected"},
    };
    write_part(part("odd", 1, 2), 0, 2, 2, "a");
    for (size_t i = 0; i < BASE_COUNT(second); i++) {
        write_part(part("odd", 2, 2), second[i].no, second[i].count, second[i].total,
                   second[i].tensor);
        refuse(part("odd", 1, 2), INFER_ERR_FORMAT, second[i].sentence);
        assert_says(part("odd", 2, 2));
    }
    write_part(part("odd", 2, 2), 1, 2, 5, "b");
    write_part(part("odd", 1, 2), 0, 2, 5, "a");
    refuse(part("odd", 2, 2), INFER_ERR_FORMAT, "is 5, but the 2 parts hold 2 tensors");
    write_part(part("odd", 1, 2), 1, 2, 2, "a");
    write_part(part("odd", 2, 2), 1, 2, 2, "b");
    refuse(part("odd", 2, 2), INFER_ERR_FORMAT, "not the first of 2 parts, as its name says");
}

static void test_damaged_part(void **state)
{
    BASE_UNUSED(state);
    struct stat st;
    write_model("cut", 3);
    assert_int_equal(stat(part("cut", 2, 3), &st), 0);
    assert_int_equal(truncate(part("cut", 2, 3), st.st_size - 1), 0);
    refuse(part("cut", 1, 3), INFER_ERR_FORMAT, "past the end of the file");
    assert_says(part("cut", 2, 3));
    assert_int_equal(truncate(part("cut", 2, 3), 0), 0);
    refuse(part("cut", 1, 3), INFER_ERR_FORMAT, "the file is empty");
    assert_says(part("cut", 2, 3));
}

static void test_in_memory(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *file = NULL;
    size_t size;
    write_model("memory", 2);
    char *bytes = test_read(part("memory", 1, 2), &size);
    assert_int_equal(gguf_open_memory(&file, &base_alloc_default, bytes, size, 0),
                     INFER_ERR_UNSUPPORTED);
    assert_says("part 1 of a model in 2 parts");
    assert_ok(gguf_open_memory(&file, &base_alloc_default, bytes, size, GGUF_OPEN_METADATA_ONLY));
    gguf_close(&file);
    free(bytes);
}

static void test_paths(void **state)
{
    BASE_UNUSED(state);
    refuse("/nonexistent/model.gguf", INFER_ERR_NOT_FOUND, "/nonexistent/model.gguf");
    refuse(folder, INFER_ERR_INVALID, folder);
    char path[512];
    snprintf(path, sizeof path, "%s/text.gguf", folder);
    FILE *f = fopen(path, "wb");
    fputs("no model\n", f);
    fclose(f);
    refuse(path, INFER_ERR_FORMAT, "text.gguf: not a GGUF file");
}

static void test_no_memory(void **state)
{
    BASE_UNUSED(state);
    write_model("memless", 3);
    for (size_t k = 1;; k++) {
        struct test_alloc t;
        struct gguf_file *file = NULL;
        test_alloc_init(&t);
        t.fail_at = k;
        infer_status st = gguf_open(&file, &t.alloc, part("memless", 3, 3), 0);
        if (st == INFER_OK) {
            assert_true(k > 20);
            gguf_close(&file);
            assert_int_equal(t.live_blocks, 0);
            return;
        }
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_int_equal(t.live_blocks, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_part),
        cmocka_unit_test(test_drop_and_take),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_metadata_only),
        cmocka_unit_test(test_missing_part),
        cmocka_unit_test(test_wrong_names),
        cmocka_unit_test(test_parts_disagree),
        cmocka_unit_test(test_damaged_part),
        cmocka_unit_test(test_in_memory),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
