/* Every malformed safetensors file of the test data gives what its manifest says, with a
 * sentence that names the file and with little memory. */
#include "support/test.h"
#include "support/test_alloc.h"

#include "format/safetensors.h"

#include <jansson.h>

#define MEMORY_LIMIT ((size_t)4 << 20)

/* Sentences that must say what is wrong. */
static const struct {
    const char *file, *sentence;
} named[] = {
    {"safetensors/lfs_pointer.safetensors", "Git LFS pointer"},
    {"safetensors/dup_keys.safetensors", "duplicate key"},
    {"safetensors/hole.safetensors", "behind a hole"},
    {"safetensors/overlap.safetensors", "inside another"},
    {"safetensors/trailing_bytes.safetensors", "belong to none"},
    {"safetensors/shape_overflow_to_match.safetensors", "shape overflows"},
    {"safetensors/dtype_missing.safetensors", "dtype is missing"},
    {"safetensors/header_bad_utf8.safetensors", "invalid UTF-8"},
    {"safetensors/header_deep_nesting.safetensors", "nested deeper"},
    {"safetensors/header_len_max.safetensors", "18446744073709551615"},
    {"safetensors/starts_nonzero.safetensors", "behind a hole that begins at byte 0"},
};

static void check_sentence(const char *name, const char *path)
{
    const char *text = test_error_text();
    size_t n = strlen(text);
    if (strncmp(text, path, strlen(path)) != 0)
        fail_msg("%s: the sentence \"%s\" does not begin with the path", name, text);
    if (n < strlen(path) + 12 || text[n - 1] == '.' || strchr(text, '\n'))
        fail_msg("%s: \"%s\" is no sentence of the house style", name, text);
    for (size_t i = 0; i < BASE_COUNT(named); i++)
        if (strcmp(name, named[i].file) == 0 && !strstr(text, named[i].sentence))
            fail_msg("%s: the sentence \"%s\" lacks \"%s\"", name, text, named[i].sentence);
}

static void check_tensors(const struct safetensors_file *file)
{
    for (size_t i = 0; i < safetensors_n_tensors(file); i++) {
        const struct safetensors_tensor *t = safetensors_at(file, i);
        assert_ptr_equal(safetensors_find(file, t->name), t);
        assert_int_equal(t->bytes * 8, t->n * (uint64_t)safetensors_type_bits(t->type));
    }
}

static void test_manifest(void **state)
{
    int n_refused = 0, n_accepted = 0;
    size_t peak = 0, i;
    json_error_t error;
    json_t *entry, *manifest = json_load_file(test_data("malformed/manifest.json"), 0, &error);
    BASE_UNUSED(state);
    if (!manifest)
        fail_msg("manifest.json: %s", error.text);
    json_array_foreach(manifest, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "file"));
        int refuse = strcmp(json_string_value(json_object_get(entry, "expect")), "reject") == 0;
        struct safetensors_file *file = NULL;
        struct test_alloc t;
        char relative[512], path[4096];
        if (strncmp(name, "safetensors/", 12) != 0)
            continue;
        snprintf(relative, sizeof relative, "malformed/%s", name);
        snprintf(path, sizeof path, "%s", test_data(relative));
        test_alloc_init(&t);
        t.limit_bytes = MEMORY_LIMIT;
        infer_status st = safetensors_open(&file, &t.alloc, path);
        if (refuse ? st != INFER_ERR_FORMAT && st != INFER_ERR_LIMIT : st != INFER_OK)
            fail_msg("%s gave %d: %s", name, (int)st, st ? test_error_text() : "accepted");
        if (refuse) {
            assert_null(file);
            check_sentence(name, path);
            n_refused++;
        } else {
            check_tensors(file);
            n_accepted++;
        }
        safetensors_close(&file);
        assert_int_equal(t.live_blocks, 0);
        peak = BASE_MAX(peak, t.peak_bytes);
    }
    json_decref(manifest);
    print_message("malformed safetensors: %d refused, %d accepted; heap peak %zu bytes\n",
                  n_refused, n_accepted, peak);
    assert_int_equal(n_refused, 31);
    assert_int_equal(n_accepted, 4);
}

/* A real file, and each allocation of opening it refused once. */
static void test_real(void **state)
{
    char path[4096];
    BASE_UNUSED(state);
    snprintf(path, sizeof path, "%s", test_data("llm/TinyStories-656K/model.safetensors"));
    for (size_t fail_at = 1;; fail_at++) {
        struct safetensors_file *file = NULL;
        struct test_alloc t;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = safetensors_open(&file, &t.alloc, path);
        if (st == INFER_OK) {
            static const char name[] = "lm_head.weight";
            const struct safetensors_tensor *e =
                safetensors_find(file, (struct base_view){name, sizeof name - 1});
            assert_non_null(e);
            assert_int_equal(e->n_dims, 2);
            assert_int_equal(e->dims[0], 2048);
            assert_int_equal(e->dims[1], 128);
            check_tensors(file);
            assert_true(base_json_is(base_json_get(safetensors_metadata(file), "format"),
                                     BASE_JSON_STRING));
        }
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        safetensors_close(&file);
        assert_int_equal(t.live_blocks, 0);
        if (st == INFER_OK) {
            assert_true(fail_at > 6);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_manifest),
                                       cmocka_unit_test(test_real)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
