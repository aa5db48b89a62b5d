/* Folders as GGUF directories: a real model in both forms is the same model, the hub's cache, what
 * is left out, and what the files beside config.json say. */
#include "made_up.h"
#include "support/gguf_builder.h"
#include "support/test_alloc.h"

#include "base/array.h"
#include "base/digest.h"
#include "base/log.h"
#include "model/arch.h"
#include "model/rope.h"
#include "model/source.h"

#include <math.h>

#define FOLDER "llm/TinyStories-656K"
#define GGUF   FOLDER "/TinyStories-656K.f32.gguf"

static const struct model_source_options plain;

static struct gguf_file *open_path(const char *path)
{
    struct gguf_file *file = NULL;
    infer_status st = model_source_open(&file, &base_alloc_default, path, &plain);
    if (st != INFER_OK)
        fail_msg("%s", test_error_text());
    return file;
}

/* Every tensor bit for bit, and every number of the architecture: equal weights, equal logits. */
static void test_same_model(void **state)
{
    struct gguf_file *folder = open_path(test_data(FOLDER)), *file = open_path(test_data(GGUF));
    size_t n_keys = 0;
    (void)state;
    assert_int_equal(gguf_n_tensors(folder), gguf_n_tensors(file));
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *want = gguf_tensor_at(file, i);
        char name[GGUF_NAME_MAX + 1] = {0};
        memcpy(name, want->name.data, want->name.size);
        const struct gguf_tensor *t = gguf_find_tensor(folder, name);
        if (!t || t->type != want->type || t->bytes != want->bytes ||
            memcmp(t->dims, want->dims, sizeof t->dims) != 0 ||
            memcmp(t->data, want->data, (size_t)t->bytes) != 0)
            fail_msg("tensor %s differs", name);
    }
    for (size_t i = 0; i < gguf_n_kv(file); i++) {
        const struct gguf_kv *want = gguf_kv_at(file, i);
        char key[256] = {0};
        float a, b;
        int64_t x, y;
        memcpy(key, want->key.data, BASE_MIN(want->key.size, sizeof key - 1));
        if (strncmp(key, "llama.", 6) != 0)
            continue;
        if (gguf_get_i64(file, key, &x) == INFER_OK) {
            assert_ok(gguf_get_i64(folder, key, &y));
            assert_int_equal(x, y);
        } else {
            assert_ok(gguf_get_f32(file, key, &a));
            assert_ok(gguf_get_f32(folder, key, &b));
            assert_true(a == b);
        }
        n_keys++;
    }
    assert_true(n_keys >= 8);
    gguf_close(&folder);
    gguf_close(&file);
}

static void test_made_up(void **state)
{
    struct hf_folder f;
    struct infer_model *model;
    (void)state;
    made_up_write(&f, made_up_config("", NULL), made_up_tensors, N_TENSORS);
    assert_ok(made_up_load(&model, &base_alloc_default, f.path));
    assert_string_equal(model->arch->name, "llama");
    assert_int_equal(model->hp.n_vocab, 8);
    assert_int_equal(model->hp.head_dim, 4);
    model_release(&model);
    hf_folder_remove(&f);
}

/* ---------------------------------------------------------------- the hub's cache */

#define COMMIT   "0123456789abcdef0123456789abcdef01234567"
#define REPO     "models--org--repo"
#define SNAPSHOT REPO "/snapshots/" COMMIT

/* Moves a file of the snapshot to the blobs, under its digest, and links to it. */
static void make_blob(const struct hf_folder *hub, const char *name, int git)
{
    char digest[BASE_DIGEST_TEXT_MAX], from[256], to[256], target[256];
    size_t size;
    snprintf(from, sizeof from, "%s/%s", SNAPSHOT, name);
    char *data = test_read(hf_folder_path(hub, from), &size);
    if (git)
        assert_ok(base_digest_git_blob(digest, data, size));
    else
        assert_ok(base_digest_sha256(digest, data, size));
    free(data);
    snprintf(to, sizeof to, "%s/blobs/%s", REPO, digest);
    snprintf(target, sizeof target, "../../blobs/%s", digest);
    assert_int_equal(rename(hf_folder_path(hub, from), hf_folder_path(hub, to)), 0);
    hf_folder_link(hub, from, target);
}

static void make_cache(struct hf_folder *hub)
{
    hf_folder_make(hub);
    hf_folder_subfolder(hub, REPO);
    hf_folder_subfolder(hub, REPO "/blobs");
    hf_folder_subfolder(hub, REPO "/refs");
    hf_folder_subfolder(hub, REPO "/snapshots");
    hf_folder_subfolder(hub, SNAPSHOT);
    hf_folder_text(hub, REPO "/refs/main", COMMIT);
    hf_folder_text(hub, REPO "/refs/v1.0", COMMIT "\n");
    hf_folder_text(hub, SNAPSHOT "/config.json", made_up_config("", NULL));
    hf_folder_text(hub, SNAPSHOT "/tokenizer.json", made_up_tokenizer);
    hf_folder_tensors(hub, SNAPSHOT "/model.safetensors", made_up_tensors, N_TENSORS);
}

static void find(const struct model_source_options *o, const char *name, infer_status status,
                 const char *sentence)
{
    struct gguf_file *file = NULL;
    struct base_view text;
    infer_status st = model_source_open(&file, &base_alloc_default, name, o);
    if (st != status || (st != INFER_OK && !strstr(test_error_text(), sentence)))
        fail_msg("%s gave %d: \"%s\" should be %d and contain \"%s\"", name, (int)st,
                 test_error_text(), (int)status, sentence);
    if (st == INFER_OK) {
        assert_ok(gguf_get_string(file, "general.name", &text));
        assert_true(base_view_equal(text, sentence));
    }
    gguf_close(&file);
}

static void test_cache(void **state)
{
    struct hf_folder hub;
    struct model_source_options o = {.hub_dir = hub.path}, none = {.hub_dir = NULL};
    (void)state;
    make_cache(&hub);
    find(&o, "org/repo", INFER_OK, "repo");
    find(&o, "org/repo@v1.0", INFER_OK, "repo");
    find(&o, "org/repo@" COMMIT, INFER_OK, "repo");
    find(&o, "org/repo@v2.0", INFER_ERR_NOT_FOUND, "org/repo@v2.0: the cache ");
    find(&o, "org/other", INFER_ERR_NOT_FOUND, "org/other: neither a file or folder nor in");
    find(&none, "org/repo", INFER_ERR_NOT_FOUND, "org/repo");
    hf_folder_remove(&hub);
}

static void test_verified(void **state)
{
    char digest[BASE_DIGEST_TEXT_MAX];
    struct hf_folder hub;
    struct model_source_options o = {.hub_dir = hub.path, .verify_files = 1};
    (void)state;
    if (base_digest_sha256(digest, "", 0) == INFER_ERR_UNSUPPORTED)
        skip();
    make_cache(&hub);
    find(&o, "org/repo", INFER_ERR_UNSUPPORTED, "config.json links to no blob");
    make_blob(&hub, "config.json", 1);
    make_blob(&hub, "tokenizer.json", 1);
    make_blob(&hub, "model.safetensors", 0);
    find(&o, "org/repo", INFER_OK, "repo");
    /* One bit of the last weight: nothing but the digest sees it. */
    FILE *file = fopen(hf_folder_path(&hub, SNAPSHOT "/model.safetensors"), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(fputc(1, file), 1);
    assert_int_equal(fclose(file), 0);
    find(&o, "org/repo", INFER_ERR_FORMAT, "model.safetensors is damaged");
    o.verify_files = 0;
    find(&o, "org/repo", INFER_OK, "repo");
    hf_folder_remove(&hub);
}

/* Every part of a split file, not only the one that is named. */
static void test_verified_split(void **state)
{
    static const uint64_t dims[1] = {8};
    char digest[BASE_DIGEST_TEXT_MAX];
    struct hf_folder hub;
    struct model_source_options o = {.hub_dir = hub.path, .verify_files = 1};
    struct gguf_builder *b;
    (void)state;
    if (base_digest_sha256(digest, "", 0) == INFER_ERR_UNSUPPORTED)
        skip();
    make_cache(&hub);
    remove(hf_folder_path(&hub, SNAPSHOT "/config.json"));
    b = gguf_builder_new();
    gguf_builder_string(b, "general.name", "split");
    gguf_builder_tensor(b, "a", INFER_DTYPE_F32, 1, dims, made_up_numbers, 32);
    gguf_builder_tensor(b, "b", INFER_DTYPE_F32, 1, dims, made_up_numbers, 32);
    gguf_builder_write_split(b, hf_folder_path(&hub, SNAPSHOT "/m"), 2);
    gguf_builder_free(b);
    make_blob(&hub, "m-00001-of-00002.gguf", 0);
    find(&o, "org/repo", INFER_ERR_UNSUPPORTED, "m-00002-of-00002.gguf links to no blob");
    make_blob(&hub, "m-00002-of-00002.gguf", 0);
    find(&o, "org/repo", INFER_OK, "split");
    FILE *file = fopen(hf_folder_path(&hub, SNAPSHOT "/m-00002-of-00002.gguf"), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(fputc(1, file), 1);
    assert_int_equal(fclose(file), 0);
    find(&o, "org/repo", INFER_ERR_FORMAT, "m-00002-of-00002.gguf is damaged");
    hf_folder_remove(&hub);
}

/* ---------------------------------------------------------------- tensors */

static void keep_text(int32_t level, const char *text, void *user_data)
{
    (void)level;
    strncat(user_data, text, 1023 - strlen(user_data));
}

/* What a language model does without is left out; what nobody knows is named in the log. */
static void test_left_out(void **state)
{
    static const struct hf_tensor more[] = {
        VECTOR("mtp.norm.weight"),
        VECTOR("model.layers.1.input_layernorm.weight"),
        VECTOR("model.layers.1.eh_proj.weight"),
        VECTOR("model.vision_tower.norm.weight"),
        VECTOR("model.rotary_emb.inv_freq"),
        VECTOR(LAYER "self_attn.k_proj.k_scale"),
        VECTOR("score.weight"),
    };
    struct hf_tensor tensors[MAX_TENSORS];
    struct hf_folder f;
    char log[1024] = "";
    (void)state;
    memcpy(tensors, made_up_tensors, sizeof made_up_tensors);
    memcpy(tensors + N_TENSORS, more, sizeof more);
    made_up_write(&f, made_up_config("", NULL), tensors, N_TENSORS + BASE_COUNT(more));
    base_log_set(keep_text, log, 1);
    struct gguf_file *file = open_path(f.path);
    base_log_set(NULL, NULL, 0);
    assert_int_equal(gguf_n_tensors(file), N_TENSORS);
    assert_non_null(strstr(log, f.path));
    assert_non_null(strstr(log, "tensor \"score.weight\" is unknown and left out"));
    assert_non_null(strstr(log, "eh_proj.weight\" is unknown")); /* of a layer that is not run */
    gguf_close(&file);
    hf_folder_remove(&f);
}

/* A tied head may be stored all the same. */
static void test_tied(void **state)
{
    struct hf_folder f;
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        made_up_write(&f, made_up_config("tie_word_embeddings", tied ? "true" : "false"),
                      made_up_tensors, N_TENSORS);
        struct gguf_file *file = open_path(f.path);
        assert_int_equal(gguf_find_tensor(file, "output.weight") == NULL, tied);
        assert_int_equal(gguf_n_tensors(file), N_TENSORS - tied);
        gguf_close(&file);
        hf_folder_remove(&f);
    }
}

/* ---------------------------------------------------------------- other files */

static int64_t get_int(const struct gguf_file *file, const char *key)
{
    int64_t value = -1;
    infer_status st = gguf_get_i64(file, key, &value);
    assert_true(st == INFER_OK || st == INFER_ERR_NOT_FOUND);
    return value;
}

static void test_generation(void **state)
{
    struct hf_folder f;
    int32_t ids[3];
    float temperature;
    (void)state;
    made_up_write(&f, made_up_config("eos_token_id", "6"), made_up_tensors, N_TENSORS);
    struct gguf_file *file = open_path(f.path);
    assert_int_equal(get_int(file, "tokenizer.ggml.eos_token_id"), 6);
    gguf_close(&file);

    /* What generates says more, and before config.json; the same id twice is one. */
    hf_folder_text(&f, "generation_config.json",
                   "{\"eos_token_id\": [7, 6, 7, -1, 3], \"temperature\": 0.5, \"top_k\": 20}");
    file = open_path(f.path);
    const struct gguf_kv *kv = gguf_find(file, "tokenizer.ggml.eos_token_ids");
    assert_int_equal(get_int(file, "tokenizer.ggml.eos_token_id"), 7);
    assert_non_null(kv);
    assert_int_equal(kv->n, 3);
    assert_ok(gguf_array_i32(kv, ids));
    assert_true(ids[0] == 7 && ids[1] == 6 && ids[2] == 3);
    assert_null(gguf_find(file, "general.sampling.temp")); /* nothing is drawn */
    gguf_close(&file);

    hf_folder_text(&f, "generation_config.json",
                   "{\"do_sample\": true, \"temperature\": 0.5, \"top_k\": 20, \"top_p\": \"x\", "
                   "\"min_p\": -1}");
    file = open_path(f.path);
    assert_ok(gguf_get_f32(file, "general.sampling.temp", &temperature));
    assert_true(temperature == 0.5f);
    assert_int_equal(get_int(file, "general.sampling.top_k"), 20);
    assert_null(gguf_find(file, "general.sampling.top_p"));
    assert_null(gguf_find(file, "general.sampling.min_p"));
    gguf_close(&file);

    hf_folder_text(&f, "generation_config.json", "{\"eos_token_id\": [6, 8]}");
    made_up_refuse(&f, INFER_ERR_FORMAT, "eos_token_id 8, but there are 8 tokens");
    hf_folder_text(&f, "generation_config.json", "[]");
    made_up_refuse(&f, INFER_ERR_FORMAT, "generation_config.json: no JSON object");
    hf_folder_remove(&f);
}

/* The file of its own counts first, then the JSON of its own, then the tokenizer's. */
static void test_templates(void **state)
{
    static const char *const files[][3] = {
        {"tokenizer_config.json",
         "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"T\"}, "
         "{\"name\": \"default\", \"template\": \"D\"}]}",
         "D"},
        {"chat_template.json", "{\"chat_template\": \"J\"}", "J"},
        {"chat_template.jinja", "F", "F"},
    };
    struct hf_folder f;
    struct base_view text;
    (void)state;
    made_up_write(&f, made_up_config("", NULL), made_up_tensors, N_TENSORS);
    struct gguf_file *file = open_path(f.path);
    assert_null(gguf_find(file, "tokenizer.chat_template"));
    gguf_close(&file);
    for (size_t i = 0; i < BASE_COUNT(files); i++) {
        hf_folder_text(&f, files[i][0], files[i][1]);
        file = open_path(f.path);
        assert_ok(gguf_get_string(file, "tokenizer.chat_template", &text));
        assert_true(base_view_equal(text, files[i][2]));
        gguf_close(&file);
    }
    hf_folder_remove(&f);
}

/* Models inside others: numbers of "text_config" before those around it. Those of Gemma 3 leave
 * out what transformers takes for granted, heads of 256 elements before all. */
static void test_wrapper(void **state)
{
    struct hf_folder f;
    (void)state;
    made_up_write(&f,
                  "{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"hidden_size\": 4, "
                  "\"eos_token_id\": [6], \"text_config\": {\"hidden_size\": 480, "
                  "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
                  "\"num_key_value_heads\": 1, \"intermediate_size\": 8}}",
                  made_up_tensors, 0);
    struct gguf_file *file = open_path(f.path);
    assert_int_equal(get_int(file, "gemma3.embedding_length"), 480);
    assert_int_equal(get_int(file, "gemma3.attention.key_length"), 256);
    assert_int_equal(get_int(file, "gemma3.rope.dimension_count"), 256);
    assert_int_equal(get_int(file, "tokenizer.ggml.eos_token_id"), 6);
    gguf_close(&file);
    hf_folder_text(&f, "config.json",
                   "{\"architectures\": [\"NoSuchForConditionalGeneration\"], \"text_config\": "
                   "{\"architectures\": [\"LlamaForCausalLM\"], \"num_hidden_layers\": 1, "
                   "\"hidden_size\": 8}}");
    file = open_path(f.path);
    assert_int_equal(get_int(file, "llama.embedding_length"), 8);
    gguf_close(&file);
    hf_folder_text(&f, "config.json",
                   "{\"architectures\": [\"LlamaForCausalLM\"], \"text_config\": 7}");
    made_up_refuse(&f, INFER_ERR_FORMAT, "config.json lacks \"num_hidden_layers\"");
    hf_folder_remove(&f);
}

#define EXPERT(e, w) LAYER "block_sparse_moe.experts." #e "." #w ".weight"

/* Every allocation refused once: of experts, of tensors that are copied, of rotary factors. */
static void test_allocations(void **state)
{
    static const struct hf_tensor experts[] = {
        MATRIX(EXPERT(0, w1), 8),
        MATRIX(EXPERT(1, w1), 8),
        VECTOR(LAYER "mlp.experts.0.up_proj.bias"),
        VECTOR(LAYER "mlp.experts.1.up_proj.bias"),
    };
    struct hf_tensor tensors[MAX_TENSORS];
    struct hf_folder f;
    char config[2048];
    (void)state;
    memcpy(tensors, made_up_tensors, sizeof made_up_tensors);
    memcpy(tensors + N_TENSORS, experts, sizeof experts);
    snprintf(config, sizeof config, "%s", made_up_config("num_local_experts", "2"));
    snprintf(strrchr(config, '}'), 256, ", \"rope_scaling\": {\"rope_type\": \"llama3\"}}");
    made_up_write(&f, config, tensors, N_TENSORS + BASE_COUNT(experts));
    hf_folder_text(&f, "generation_config.json", "{\"eos_token_id\": [6, 7]}");
    hf_folder_text(&f, "chat_template.jinja", "x");
    for (size_t fail_at = 1;; fail_at++) {
        struct gguf_file *file = NULL;
        struct test_alloc t;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = model_source_open(&file, &t.alloc, f.path, &plain);
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        assert_true((st == INFER_OK) == (file != NULL));
        if (st == INFER_OK) /* nothing was left out for want of memory */
            assert_int_equal(gguf_n_tensors(file), N_TENSORS + 3);
        gguf_close(&file);
        assert_int_equal(t.live_blocks, 0);
        if (st == INFER_OK && t.n_calls < fail_at) {
            assert_true(fail_at > 40);
            break;
        }
    }
    hf_folder_remove(&f);
}

/* ------------------------------------------------------------- for other readers */

static float number_of(const struct gguf_file *file, const char *key)
{
    float value = -1;
    infer_status st = gguf_get_f32(file, key, &value);
    assert_true(st == INFER_OK || st == INFER_ERR_NOT_FOUND);
    return value;
}

static struct gguf_file *open_config(const char *key, const char *value)
{
    struct hf_folder f;
    made_up_write(&f, made_up_config(key, value), made_up_tensors, N_TENSORS);
    struct gguf_file *file = open_path(f.path);
    hf_folder_remove(&f);
    return file;
}

#define YARN                                                                                       \
    "{\"rope_type\": \"yarn\", \"factor\": 16, \"original_max_position_embeddings\": 4, "          \
    "\"mscale\": 1, \"mscale_all_dim\": 1, \"rope_theta\": 10000}"

/* Our own reader would undo what our own writer got wrong: these are the numbers that llama.cpp
 * takes from the same keys. */
static void test_rotary_keys(void **state)
{
    const float growth = 1 + 0.1f * logf(16);
    int32_t sections[4] = {-1, -1, -1, -1};
    (void)state;
    struct gguf_file *file = open_config("architectures", "[\"Ministral3ForCausalLM\"], "
                                                          "\"rope_parameters\": " YARN);
    assert_true(number_of(file, "mistral3.rope.scaling.yarn_log_multiplier") == 1);
    assert_true(number_of(file, "mistral3.rope.scaling.attn_factor") == -1);
    gguf_close(&file);
    file = open_config("rope_parameters", YARN); /* nobody looks for a multiplier */
    assert_true(number_of(file, "llama.rope.scaling.yarn_log_multiplier") == -1);
    assert_true(fabsf(number_of(file, "llama.rope.scaling.attn_factor") * growth - 1) < 1e-6f);
    gguf_close(&file);
    file = open_config("architectures", "[\"Gemma3ForCausalLM\"]");
    assert_true(number_of(file, "gemma3.rope.freq_base") == 1e6f);
    assert_true(number_of(file, "gemma3.rope.freq_base_swa") == 1e4f);
    gguf_close(&file);
    file = open_config("rope_parameters", "{\"mrope_section\": [2, 1, 1]}");
    const struct gguf_kv *kv = gguf_find(file, "llama.rope.dimension_sections");
    assert_non_null(kv);
    assert_int_equal(kv->n, 4);
    assert_ok(gguf_array_i32(kv, sections));
    assert_true(sections[0] == 2 && sections[2] == 1 && sections[3] == 0);
    gguf_close(&file);
}

/* Files of Mistral's own format have a multiplier of 0, which means none. */
static void test_rotary_multiplier(void **state)
{
    static const struct {
        double multiplier, magnitude;
    } cases[] = {{0, 1.2772588722}, {1, 1}};
    const struct model_arch *arch = model_arch_find((struct base_view){"mistral3", 8});
    const struct model_hparams hp = {.n_context = 64};
    const struct model_rope_config config = {.n_rot = 8, .base = 10000};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct gguf_builder *b = gguf_builder_new();
        struct gguf_file *file = NULL;
        struct base_arena arena;
        struct model_rope rope;
        size_t size;
        gguf_builder_string(b, "mistral3.rope.scaling.type", "yarn");
        gguf_builder_float(b, "mistral3.rope.scaling.factor", GGUF_F32, 16);
        gguf_builder_float(b, "mistral3.rope.scaling.yarn_log_multiplier", GGUF_F32,
                           cases[i].multiplier);
        uint8_t *data = gguf_builder_finish(b, &size);
        assert_ok(gguf_open_memory(&file, &base_alloc_default, data, size, 0));
        base_arena_init(&arena, &base_alloc_default);
        assert_ok(model_rope_init(&rope, &arena, arch, &hp, file, &config));
        assert_true(fabs((double)rope.magnitude - cases[i].magnitude) < 1e-6);
        base_arena_release(&arena);
        gguf_close(&file);
        gguf_builder_free(b);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_model),     cmocka_unit_test(test_made_up),
        cmocka_unit_test(test_cache),          cmocka_unit_test(test_verified),
        cmocka_unit_test(test_verified_split), cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_tied),           cmocka_unit_test(test_generation),
        cmocka_unit_test(test_templates),      cmocka_unit_test(test_wrapper),
        cmocka_unit_test(test_rotary_keys),    cmocka_unit_test(test_rotary_multiplier),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests_name("hf", tests, NULL, NULL);
}
