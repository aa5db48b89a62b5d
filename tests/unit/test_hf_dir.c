/* Model folders and the cache: files, shards, templates, what is refused, verification. */
#include "support/hf_folder.h"
#include "support/test.h"
#include "support/test_alloc.h"

#include "base/digest.h"
#include "base/str.h"
#include "format/hf_cache.h"
#include "format/hf_dir.h"

static const float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static struct base_view view(const char *text)
{
    return (struct base_view){text, strlen(text)};
}

static const struct hf_tensor tensor_a = {"a.weight", "F32", {2, 2, -1}, numbers, 16};
static const struct hf_tensor tensor_b = {"b.weight", "F32", {4, -1}, numbers + 4, 16};

static void make_plain(struct hf_folder *f)
{
    hf_folder_make(f);
    hf_folder_text(f, "config.json",
                   "{\"model_type\": \"x\", \"limit\": [0.0, Infinity], \"far\": -Infinity, "
                   "\"word\": \"Infinity\"}");
    hf_folder_tensors(f, "model.safetensors", (struct hf_tensor[]){tensor_a, tensor_b}, 2);
}

static void refuse(const struct hf_folder *f, uint32_t flags, infer_status status,
                   const char *sentence)
{
    struct hf_dir *dir = NULL;
    struct test_alloc t;
    test_alloc_init(&t);
    infer_status st = hf_dir_open(&dir, &t.alloc, f->path, flags);
    if (st != status || !strstr(test_error_text(), sentence))
        fail_msg("%d: \"%s\" should be %d and contain \"%s\"", (int)st, test_error_text(),
                 (int)status, sentence);
    assert_null(dir);
    assert_int_equal(t.live_blocks, 0);
}

static void test_plain(void **state)
{
    struct hf_folder f;
    struct hf_dir *dir;
    double real;
    struct base_view text;
    (void)state;
    make_plain(&f);
    hf_folder_text(&f, "merges.txt", "a b\n");
    hf_folder_text(&f, "zz.tiktoken", "z");
    hf_folder_text(&f, "cl100k.tiktoken", "c");
    assert_true(hf_dir_is(f.path));
    for (size_t fail_at = 1;; fail_at++) {
        struct test_alloc t;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = hf_dir_open(&dir, &t.alloc, f.path, 0);
        if (st == INFER_ERR_NO_MEMORY) {
            assert_int_equal(t.live_blocks, 0);
            continue;
        }
        assert_ok(st);
        assert_true(fail_at > 10);
        hf_dir_close(&dir);
        assert_int_equal(t.live_blocks, 0);
        break;
    }
    assert_ok(hf_dir_open(&dir, &base_alloc_default, f.path, 0));
    assert_int_equal(hf_dir_n_tensors(dir), 2);
    const struct safetensors_tensor *b = hf_dir_tensor(dir, view("b.weight"));
    assert_non_null(b);
    assert_memory_equal(b->data, numbers + 4, 16);
    assert_null(hf_dir_tensor(dir, view("c.weight")));
    assert_null(hf_dir_json(dir, HF_TOKENIZER));
    const struct base_json *config = hf_dir_json(dir, HF_CONFIG);
    assert_true(base_json_f64(base_json_at(base_json_get(config, "limit"), 1), &real));
    assert_true(real > 1e308);
    assert_true(base_json_f64(base_json_get(config, "far"), &real) && real < -1e308);
    assert_true(base_json_string(base_json_get(config, "word"), &text));
    assert_true(base_view_equal(text, "Infinity"));
    assert_int_equal(hf_dir_file(dir, HF_MERGES)->size, 4);
    assert_int_equal(hf_dir_file(dir, HF_TIKTOKEN)->data[0], 'c');
    assert_null(hf_dir_file(dir, HF_SENTENCEPIECE));
    hf_dir_close(&dir);
    assert_ok(
        hf_dir_open(&dir, &base_alloc_default, f.path, HF_DIR_NO_TOKENIZER | HF_DIR_NO_TENSORS));
    assert_null(hf_dir_file(dir, HF_MERGES));
    assert_int_equal(hf_dir_n_tensors(dir), 0);
    hf_dir_close(&dir);
    hf_folder_remove(&f);
}

static void test_templates(void **state)
{
    struct hf_folder f;
    struct hf_dir *dir;
    struct base_view text;
    (void)state;
    make_plain(&f);
    hf_folder_text(&f, "tokenizer_config.json",
                   "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"}, "
                   "{\"name\": \"tool_use\", \"template\": \"T\"}]}");
    assert_ok(hf_dir_open(&dir, &base_alloc_default, f.path, 0));
    assert_true(hf_dir_template(dir, "default", &text) && base_view_equal(text, "D"));
    assert_true(hf_dir_template(dir, "tool_use", &text) && base_view_equal(text, "T"));
    assert_false(hf_dir_template(dir, "rag", &text));
    hf_dir_close(&dir);
    hf_folder_text(&f, "chat_template.json", "{\"chat_template\": \"J\"}");
    assert_ok(hf_dir_open(&dir, &base_alloc_default, f.path, 0));
    assert_true(hf_dir_template(dir, "default", &text) && base_view_equal(text, "J"));
    hf_dir_close(&dir);
    hf_folder_text(&f, "chat_template.jinja", "F");
    assert_ok(hf_dir_open(&dir, &base_alloc_default, f.path, 0));
    assert_true(hf_dir_template(dir, "default", &text) && base_view_equal(text, "F"));
    assert_true(hf_dir_template(dir, "tool_use", &text) && base_view_equal(text, "T"));
    hf_dir_close(&dir);
    hf_folder_remove(&f);
}

#define INDEX "model.safetensors.index.json"

static void test_shards(void **state)
{
    struct hf_folder f;
    struct hf_dir *dir;
    (void)state;
    hf_folder_make(&f);
    hf_folder_text(&f, "config.json", "{}");
    refuse(&f, 0, INFER_ERR_NOT_FOUND, "neither model.safetensors nor");
    hf_folder_text(&f, "pytorch_model.bin", "x");
    refuse(&f, 0, INFER_ERR_UNSUPPORTED, "pytorch_model.bin is a pickle, whose reading runs code");
    hf_folder_tensors(&f, "one.safetensors", &tensor_a, 1);
    hf_folder_tensors(&f, "two.safetensors", &tensor_b, 1);
    hf_folder_text(&f, INDEX,
                   "{\"metadata\": {}, \"weight_map\": {\"b.weight\": \"two.safetensors\", "
                   "\"a.weight\": \"one.safetensors\"}}");
    assert_ok(hf_dir_open(&dir, &base_alloc_default, f.path, 0));
    assert_int_equal(hf_dir_n_tensors(dir), 2);
    assert_memory_equal(hf_dir_tensor(dir, view("b.weight"))->data, numbers + 4, 16);
    hf_dir_close(&dir);

    static const struct {
        const char *map, *sentence;
        infer_status status;
    } cases[] = {
        {"\"a.weight\": \"two.safetensors\"", "\"a.weight\" is not in two.safetensors",
         INFER_ERR_FORMAT},
        {"\"a.weight\": \"../one.safetensors\"", "in no file NAME.safetensors", INFER_ERR_FORMAT},
        {"\"a.weight\": \"/tmp/one.safetensors\"", "in no file NAME.safetensors", INFER_ERR_FORMAT},
        {"\"a.weight\": \"sub/one.safetensors\"", "in no file NAME.safetensors", INFER_ERR_FORMAT},
        {"\"a.weight\": \"sub\\\\one.safetensors\"", "in no file", INFER_ERR_FORMAT},
        {"\"a.weight\": \"one\\u0000.safetensors\"", "in no file", INFER_ERR_FORMAT},
        {"\"a.weight\": \".safetensors\"", "in no file", INFER_ERR_FORMAT},
        {"\"a.weight\": 7", "in no file", INFER_ERR_FORMAT},
        {"\"a.weight\": \"one.safetensors\", \"a.weight\": \"one.safetensors\"", "duplicate key",
         INFER_ERR_FORMAT},
        {"\"a.weight\": \"three.safetensors\"", "three.safetensors: cannot open",
         INFER_ERR_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"weight_map\": {%s}}", cases[i].map);
        hf_folder_text(&f, INDEX, text);
        refuse(&f, 0, cases[i].status, cases[i].sentence);
    }
    hf_folder_text(&f, INDEX, "{\"weight_map\": []}");
    refuse(&f, 0, INFER_ERR_FORMAT, INDEX ": weight_map is no object");
    hf_folder_text(&f, "config.json", "[]");
    refuse(&f, 0, INFER_ERR_FORMAT, "config.json: no JSON object");
    hf_folder_text(&f, "config.json", "{\"a\": }");
    refuse(&f, 0, INFER_ERR_FORMAT, "config.json: line 1, column ");
    remove(hf_folder_path(&f, "config.json"));
    refuse(&f, 0, INFER_ERR_NOT_FOUND, "config.json");
    assert_false(hf_dir_is(f.path));
    hf_folder_remove(&f);
}

/* Tensors that share their memory are stored under one of their names. */
static void test_aliases(void **state)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"tied\":\"a\",\"b\":\"a\",\"lost\":\"c\"},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}";
    char bytes[sizeof header + 16] = {0};
    struct hf_folder f;
    struct hf_dir *dir;
    (void)state;
    hf_folder_make(&f);
    hf_folder_text(&f, "config.json", "{}");
    bytes[0] = (char)(sizeof header - 1);
    bytes[1] = (char)((sizeof header - 1) >> 8);
    memcpy(bytes + 8, header, sizeof header - 1);
    memcpy(bytes + 8 + sizeof header - 1, "1234", 4);
    hf_folder_bytes(&f, "model.safetensors", bytes, 8 + sizeof header - 1 + 4);
    assert_ok(hf_dir_open(&dir, &base_alloc_default, f.path, 0));
    assert_int_equal(hf_dir_n_tensors(dir), 3);
    assert_ptr_equal(hf_dir_tensor(dir, view("tied"))->data, hf_dir_tensor(dir, view("a"))->data);
    assert_memory_equal(hf_dir_tensor(dir, view("b"))->data, "34", 2);
    assert_true(base_view_equal(hf_dir_tensor(dir, view("tied"))->name, "tied"));
    assert_null(hf_dir_tensor(dir, view("lost")));
    hf_dir_close(&dir);
    hf_folder_remove(&f);
}

static void test_names(void **state)
{
    static const char *const good[] = {"gpt2",          "org/repo",           "a-b/C_d.e-1",
                                       "org/repo@main", "org/repo@refs/pr/3", "org/repo@v1.0"};
    static const char *const bad[] = {"",           "/repo",          "org/",
                                      "a/b/c",      "../repo",        "org/..",
                                      "org/re..po", "org/repo@",      "org/repo@../x",
                                      "./model",    "org/repo@/x",    ".hidden/x",
                                      "org/re po",  "org/repo@a//..", "~/x"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!hf_cache_is_name(good[i]))
            fail_msg("%s is a name", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (hf_cache_is_name(bad[i]))
            fail_msg("%s is no name", bad[i]);
}

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static void find(const struct hf_folder *f, const char *name, infer_status status, const char *text)
{
    struct base_str path;
    base_str_init(&path, &base_alloc_default, 0);
    infer_status st = hf_cache_find(&path, f->path, name);
    const char *got = st == INFER_OK ? path.data : test_error_text();
    if (st != status || !strstr(got, text))
        fail_msg("%s gave %d: \"%s\" should contain \"%s\"", name, (int)st, got, text);
    base_str_release(&path);
}

static void test_cache(void **state)
{
    struct hf_folder f;
    (void)state;
    hf_folder_make(&f);
    find(&f, "org/repo", INFER_ERR_NOT_FOUND, "nor in the cache");
    hf_folder_subfolder(&f, "models--org--repo");
    hf_folder_subfolder(&f, "models--org--repo/refs");
    hf_folder_subfolder(&f, "models--org--repo/snapshots");
    find(&f, "org/repo", INFER_ERR_NOT_FOUND, "no revision \"main\"");
    hf_folder_text(&f, "models--org--repo/refs/main", COMMIT "\n");
    find(&f, "org/repo", INFER_ERR_NOT_FOUND, "lacks its snapshot");
    hf_folder_subfolder(&f, "models--org--repo/snapshots/" COMMIT);
    find(&f, "org/repo", INFER_OK, "/models--org--repo/snapshots/" COMMIT);
    find(&f, "org/repo@" COMMIT, INFER_OK, "/models--org--repo/snapshots/" COMMIT);
    hf_folder_subfolder(&f, "models--org--repo/refs/refs");
    hf_folder_subfolder(&f, "models--org--repo/refs/refs/pr");
    hf_folder_text(&f, "models--org--repo/refs/refs/pr/1", "../../../etc/passwd");
    find(&f, "org/repo@refs/pr/1", INFER_ERR_FORMAT, "40 digits of a commit");
    find(&f, "org/repo@v2", INFER_ERR_NOT_FOUND, "no revision \"v2\"");
    find(&f, "../x", INFER_ERR_INVALID, "no name of a model");
    hf_folder_remove(&f);
}

/* Digests of "abc" and of the empty file, as published; git's are those of git hash-object. */
static void test_verify(void **state)
{
    static const char sha256[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char git[] = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";
    static const char git_empty[] = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    char digest[BASE_DIGEST_TEXT_MAX], target[128];
    struct hf_folder f;
    struct base_file file;
    (void)state;
    if (base_digest_sha256(digest, "abc", 3) == INFER_ERR_UNSUPPORTED) {
        assert_non_null(strstr(test_error_text(), "libmd"));
        skip();
    }
    assert_string_equal(digest, sha256);
    assert_ok(base_digest_git_blob(digest, "abc", 3));
    assert_string_equal(digest, git);
    assert_ok(base_digest_git_blob(digest, NULL, 0));
    assert_string_equal(digest, git_empty);

    hf_folder_make(&f);
    hf_folder_subfolder(&f, "blobs");
    hf_folder_subfolder(&f, "snapshot");
    snprintf(target, sizeof target, "blobs/%s", git);
    hf_folder_text(&f, target, "abc");
    snprintf(target, sizeof target, "../blobs/%s", git);
    hf_folder_link(&f, "snapshot/config.json", target);
    assert_ok(base_file_map(&file, hf_folder_path(&f, "snapshot/config.json")));
    assert_ok(hf_cache_verify(hf_folder_path(&f, "snapshot/config.json"), &file));
    base_file_unmap(&file);
    snprintf(target, sizeof target, "blobs/%s", git);
    hf_folder_text(&f, target, "abd");
    struct hf_folder snapshot;
    snprintf(snapshot.path, sizeof snapshot.path, "%s", hf_folder_path(&f, "snapshot"));
    refuse(&snapshot, HF_DIR_VERIFY, INFER_ERR_FORMAT, "config.json is damaged");
    hf_folder_text(&f, "config.json", "{}");
    refuse(&f, HF_DIR_VERIFY, INFER_ERR_UNSUPPORTED, "links to no blob");
    hf_folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),  cmocka_unit_test(test_templates),
        cmocka_unit_test(test_shards), cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_names),  cmocka_unit_test(test_cache),
        cmocka_unit_test(test_verify),
    };
    return cmocka_run_group_tests_name("hf_dir", tests, NULL, NULL);
}
