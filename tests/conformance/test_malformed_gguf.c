/* Every malformed GGUF file of the test data gives what its manifest says, with
 * a sentence that names the file and with little memory. */
#include "support/test.h"
#include "support/test_alloc.h"

#include "format/gguf.h"

#include <jansson.h>
#include <sys/resource.h>

#define MEMORY_LIMIT ((size_t)64 << 20)

/* Where the manifest leaves the choice to the reader; doc/formats.md gives the reasons. */
static const char *const refused_by_policy[] = {
    "gguf/kv_bool_value_2.gguf",
    "gguf/tensor_dim_zero.gguf",
    "gguf/tensor_ndims_0.gguf",
};

/* Sentences that must say what the file really is. */
static const struct {
    const char *file, *sentence;
} named[] = {
    {"gguf/header_bad_magic.gguf", "magic at byte 0"},
    {"gguf/header_version1.gguf", "version 1"},
    {"gguf/header_version_byteswapped.gguf", "big-endian"},
    {"gguf/header_n_kv_huge.gguf", "18446744073709551615 keys"},
    {"gguf/html_page.gguf", "HTML page"},
    {"gguf/lfs_pointer.gguf", "Git LFS pointer"},
    {"gguf/kv_nested_arrays_2000.gguf", "key \"k\": array at byte 37 holds arrays"},
    {"gguf/kv_dup_key.gguf", "key \"k\" at byte 41 appears twice"},
    {"gguf/kv_string_len_huge.gguf", "key \"general.name\""},
    {"gguf/kv_alignment_3.gguf", "key \"general.alignment\" is 3"},
    {"gguf/tensor_dup_name.gguf", "tensor \"a\" at byte 110 appears twice"},
    {"gguf/tensor_type_4.gguf", "element type Q4_2"},
    {"gguf/tensor_overlap.gguf", "tensors \"a\" and \"b\" overlap"},
    {"gguf/tensor_q4_0_bad_row.gguf", "rows of 33 elements"},
    {"gguf/truncated_tensor_data.gguf", "tensor \"b\": its data"},
};

struct counts {
    int accepted, refused, by_policy, at_model_load;
    size_t peak_bytes;
};

static int policy_of(const char *name)
{
    for (size_t i = 0; i < BASE_COUNT(refused_by_policy); i++)
        if (strcmp(name, refused_by_policy[i]) == 0)
            return 1;
    return 0;
}

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

/* What a vocabulary loader reads must fail in the typed reads, not in a crash. */
static void check_values(const char *name, const struct gguf_file *file)
{
    const struct gguf_kv *tokens = gguf_find(file, "tokenizer.ggml.tokens");
    const struct gguf_kv *scores = gguf_find(file, "tokenizer.ggml.scores");
    struct base_view text;
    if (strcmp(name, "gguf/kv_arch_wrong_type.gguf") == 0) {
        assert_int_equal(gguf_get_string(file, "general.architecture", &text), INFER_ERR_FORMAT);
        assert_non_null(strstr(test_error_text(), "key \"general.architecture\" has the type u32"));
    } else if (strcmp(name, "gguf/kv_scores_u8_array.gguf") == 0) {
        float *values = calloc(scores->n, sizeof *values);
        assert_int_equal(gguf_array_f32(scores, values), INFER_ERR_FORMAT);
        assert_non_null(
            strstr(test_error_text(), "key \"tokenizer.ggml.scores\" has the type arr"));
        free(values);
    } else if (strcmp(name, "gguf/kv_scores_short.gguf") == 0) {
        assert_true(scores->n < tokens->n);
    } else {
        fail_msg("%s is not known to this test", name);
    }
}

static void check_file(json_t *entry, struct counts *counts)
{
    const char *name = json_string_value(json_object_get(entry, "file"));
    const char *expect = json_string_value(json_object_get(entry, "expect"));
    struct gguf_file *file = NULL;
    struct test_alloc t;
    char path[4096], relative[512];
    assert_non_null(name);
    assert_non_null(expect);
    if (strncmp(name, "gguf/", 5) != 0)
        return;

    snprintf(relative, sizeof relative, "malformed/%s", name);
    snprintf(path, sizeof path, "%s", test_data(relative));
    test_alloc_init(&t);
    t.limit_bytes = MEMORY_LIMIT;
    infer_status st = gguf_open(&file, &t.alloc, path, 0);
    if (st == INFER_ERR_NO_MEMORY || st > 0)
        fail_msg("%s gave %d: %s", name, (int)st, test_error_text());
    int refuse = strcmp(expect, "reject") == 0;
    if (strcmp(expect, "policy") == 0) {
        refuse = policy_of(name);
        counts->by_policy++;
    }
    if (refuse != (st < 0))
        fail_msg("%s: %s is expected, but it gave %d: %s", name, expect, (int)st,
                 st ? test_error_text() : "accepted");
    if (st < 0) {
        assert_null(file);
        check_sentence(name, path);
        counts->refused++;
    } else {
        counts->accepted++;
        if (strcmp(expect, "reject_at_model_load") == 0) {
            check_values(name, file);
            counts->at_model_load++;
        }
        gguf_close(&file);
    }
    /* Without its tensor data as well; whatever comes, nothing may stay behind. */
    if (gguf_open(&file, &t.alloc, path, GGUF_OPEN_METADATA_ONLY) == INFER_OK)
        gguf_close(&file);
    assert_int_equal(t.live_blocks, 0);
    counts->peak_bytes = BASE_MAX(counts->peak_bytes, t.peak_bytes);
}

static void test_manifest(void **state)
{
    BASE_UNUSED(state);
    struct rusage before, after;
    struct counts counts = {0};
    json_error_t error;
    size_t i;
    json_t *entry, *manifest = json_load_file(test_data("malformed/manifest.json"), 0, &error);
    if (!manifest)
        fail_msg("manifest.json: %s", error.text);
    getrusage(RUSAGE_SELF, &before);
    json_array_foreach(manifest, i, entry) check_file(entry, &counts);
    getrusage(RUSAGE_SELF, &after);
    json_decref(manifest);
    print_message("malformed GGUF: %d refused, %d accepted (%d of them for the model loader to "
                  "refuse), %d by policy; heap peak %zu bytes\n",
                  counts.refused, counts.accepted, counts.at_model_load, counts.by_policy,
                  counts.peak_bytes);
    assert_true(counts.refused + counts.accepted >= 68);
    assert_int_equal(counts.at_model_load, 3);
    assert_true((size_t)(after.ru_maxrss - before.ru_maxrss) * 1024 < MEMORY_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_manifest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
