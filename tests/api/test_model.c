/* Models, tokenizers, devices and errors through the public API: what they say
 * of themselves, and what they say when the input is wrong. */
#include "support/engine.h"

#include "support/gguf_builder.h"

#include <jansson.h>
#include <math.h>
#include <unistd.h>

#define STORIES "llm/stories260K/stories260K.f32.gguf"

static void test_info(void **state)
{
    (void)state;
    infer_model *model = NULL;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), NULL), INFER_OK);
    infer_model_info info = {.struct_size = sizeof info};
    assert_int_equal(infer_model_get_info(model, &info), INFER_OK);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.weight_type, "Q8_0");
    assert_non_null(strstr(info.chat_template, "<|im_start|>"));
    assert_int_equal(info.n_embedding, 256);
    assert_true(info.n_parameters > 4000000 && info.weight_bytes > 4000000);
    assert_int_equal(info.kv_bytes_per_token,
                     2 * 2 * info.n_layers * info.n_heads_kv * info.head_dim);

    infer_memory_estimate estimate = {.struct_size = sizeof estimate};
    assert_int_equal(infer_model_estimate(&estimate, test_source(TINY_MODEL), 160, NULL), INFER_OK);
    assert_int_equal(estimate.weight_bytes, info.weight_bytes);
    assert_int_equal(estimate.kv_bytes, 160 * info.kv_bytes_per_token);
    assert_int_equal(estimate.total_bytes, estimate.weight_bytes + estimate.private_bytes +
                                               estimate.kv_bytes + estimate.workspace_bytes);

    infer_memory_estimate loaded = {.struct_size = sizeof loaded};
    assert_int_equal(infer_model_memory(model, 160, &loaded), INFER_OK);
    assert_int_equal(loaded.weight_bytes, estimate.weight_bytes);
    assert_int_equal(loaded.kv_bytes, estimate.kv_bytes);
    assert_int_equal(loaded.workspace_bytes, estimate.workspace_bytes);
    assert_string_equal(estimate.architecture, "llama");
    assert_string_equal(estimate.weight_type, "Q8_0");
    assert_string_equal(loaded.weight_type, "Q8_0");
    assert_int_equal(estimate.n_parameters, info.n_parameters);
    assert_int_equal(estimate.n_context, info.n_context);
    /* A guess where there is no tokenizer to measure. */
    assert_true(estimate.private_bytes > loaded.private_bytes / 2 &&
                estimate.private_bytes < loaded.private_bytes * 2);
    assert_int_equal(infer_model_memory(model, 0, &loaded), INFER_OK);
    assert_int_equal(loaded.kv_bytes, (uint64_t)info.n_context * info.kv_bytes_per_token);
    assert_int_equal(infer_model_memory(model, -1, &loaded), INFER_ERR_INVALID);
    assert_int_equal(infer_model_memory(NULL, 0, &loaded), INFER_ERR_INVALID);

    /* The estimate of a step's memory is what a session takes. */
    infer_session *session = NULL;
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_int_equal(infer_session_create(&session, model, NULL), INFER_OK);
    assert_int_equal(infer_session_get_stats(session, &stats), INFER_OK);
    assert_int_equal(stats.workspace_bytes, estimate.workspace_bytes);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
}

static void test_metadata_and_tensors(void **state)
{
    (void)state;
    infer_model *model = NULL;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), NULL), INFER_OK);
    infer_metadata entry = {.struct_size = sizeof entry};
    int found = 0;
    for (size_t i = 0; i < infer_model_metadata_count(model); i++) {
        assert_int_equal(infer_model_metadata_at(model, i, &entry), INFER_OK);
        if (strcmp(entry.key, "llama.embedding_length") == 0)
            found += strcmp(entry.value, "256") == 0 && strcmp(entry.type, "u32") == 0;
        if (strcmp(entry.key, "tokenizer.ggml.tokens") == 0)
            found += strcmp(entry.type, "arr[str,2048]") == 0;
    }
    assert_int_equal(found, 2);
    assert_int_equal(infer_model_metadata_at(model, infer_model_metadata_count(model), &entry),
                     INFER_ERR_INVALID);
    infer_tensor_info tensor = {.struct_size = sizeof tensor};
    uint64_t bytes = 0;
    for (size_t i = 0; i < infer_model_tensor_count(model); i++) {
        assert_int_equal(infer_model_tensor_at(model, i, &tensor), INFER_OK);
        bytes += tensor.bytes;
        if (strcmp(tensor.name, "token_embd.weight") == 0) {
            assert_string_equal(tensor.type, "Q8_0");
            assert_int_equal(tensor.dims[0], 256);
            assert_int_equal(tensor.dims[1], 2048);
        }
    }
    infer_model_info info = {.struct_size = sizeof info};
    infer_model_get_info(model, &info);
    assert_int_equal(bytes, info.weight_bytes);
    infer_model_destroy(&model);
}

static void test_tokenizer(void **state)
{
    (void)state;
    infer_model *model = NULL;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), NULL), INFER_OK);
    const infer_tokenizer *t = infer_model_tokenizer(model);
    infer_tokenizer_info info = {.struct_size = sizeof info};
    assert_int_equal(infer_tokenizer_get_info(t, &info), INFER_OK);
    assert_string_equal(info.kind, "bpe");
    assert_string_equal(info.pre, "llama-bpe");
    assert_int_equal(infer_tokenizer_is_end(t, info.eos), 1);
    assert_int_equal(infer_tokenizer_is_end(t, 400), 0);
    assert_int_equal(infer_tokenizer_is_end(t, -5), 0);

    const char *text = "The price is 42 \xe2\x82\xac, na\xc3\xafve <|im_end|>!";
    infer_token tokens[64];
    size_t n = 0, size = 0;
    assert_int_equal(infer_tokenizer_encode(t, text, strlen(text), NULL, NULL, &n), INFER_OK);
    size_t needed = n;
    n = needed - 1;
    assert_int_equal(infer_tokenizer_encode(t, text, strlen(text), NULL, tokens, &n),
                     INFER_ERR_LIMIT);
    assert_int_equal(n, needed);
    assert_int_equal(infer_tokenizer_encode(t, text, strlen(text), NULL, tokens, &n), INFER_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(tokens[i], info.eos); /* plain text, not a control token */
    char back[128];
    size = sizeof back;
    assert_int_equal(infer_tokenizer_decode(t, tokens, n, NULL, back, &size), INFER_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(back, text);

    infer_encode_options special = {.struct_size = sizeof special, .parse_special = 1};
    n = 64;
    assert_int_equal(infer_tokenizer_encode(t, "<|im_end|>", 10, &special, tokens, &n), INFER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(tokens[0], info.eos);
    size = sizeof back;
    assert_int_equal(infer_tokenizer_piece(t, info.eos, back, &size), INFER_OK);
    assert_string_equal(back, "<|im_end|>");
    tokens[0] = info.n_tokens;
    assert_int_equal(infer_tokenizer_decode(t, tokens, 1, NULL, NULL, &size), INFER_ERR_INVALID);
    infer_model_destroy(&model);
}

static void test_chat(void **state)
{
    (void)state;
    infer_model *model = NULL;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), NULL), INFER_OK);
    infer_message messages[] = {{.role = "user", .content = "Hello"}};
    char text[512];
    size_t size = sizeof text;
    assert_int_equal(infer_model_render_chat(model, messages, 1, text, &size), INFER_OK);
    assert_string_equal(text, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
    assert_int_equal(infer_model_render_chat(model, messages, 0, text, &size), INFER_ERR_INVALID);
    messages[0].reserved[0] = 1;
    assert_int_equal(infer_model_render_chat(model, messages, 1, text, &size),
                     INFER_ERR_UNSUPPORTED);
    infer_model_destroy(&model);
    assert_int_equal(infer_model_load(&model, test_data(STORIES), NULL), INFER_OK);
    messages[0].reserved[0] = 0;
    assert_int_equal(infer_model_render_chat(model, messages, 1, text, &size), INFER_ERR_NOT_FOUND);
    infer_model_destroy(&model);
}

/* The option structs of a newer and of an older application. */
static void test_struct_sizes(void **state)
{
    (void)state;
    infer_model *model = NULL;
    struct {
        infer_model_options known;
        uint64_t unknown;
    } newer = {.known = {.struct_size = sizeof newer}, .unknown = 0};
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &newer.known), INFER_OK);
    infer_model_destroy(&model);
    newer.unknown = 1;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &newer.known),
                     INFER_ERR_UNSUPPORTED);
    assert_null(model);
    infer_model_options older = {.struct_size = offsetof(infer_model_options, progress)};
    older.progress = (infer_progress_fn)(uintptr_t)1; /* beyond what the older host has */
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &older), INFER_OK);
    infer_model_info info = {.struct_size = offsetof(infer_model_info, name)};
    memset((char *)&info + info.struct_size, 0x5a, sizeof info - info.struct_size);
    assert_int_equal(infer_model_get_info(model, &info), INFER_OK);
    assert_string_equal(info.architecture, "llama");
    assert_int_equal(*(unsigned char *)&info.n_ff, 0x5a);
    info.struct_size = 0;
    assert_int_equal(infer_model_get_info(model, &info), INFER_ERR_INVALID);
    infer_model_destroy(&model);
}

static int32_t cancel_at(double fraction, const char *stage, void *user_data)
{
    assert_non_null(stage);
    assert_true(fraction >= 0 && fraction <= 1);
    return --*(int *)user_data == 0;
}

static void test_progress_cancels(void **state)
{
    (void)state;
    infer_model *model = NULL;
    infer_model_options options = {
        .struct_size = sizeof options, .progress = cancel_at, .check_weights = 1};
    int n_calls = -1;
    options.progress_user_data = &n_calls;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options), INFER_OK);
    infer_model_destroy(&model);
    n_calls = -1 - n_calls;
    assert_true(n_calls > 10);
    for (int i = 1; i <= n_calls; i++) {
        int left = i;
        options.progress_user_data = &left;
        assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options),
                         INFER_ERR_CANCELLED);
        assert_null(model);
    }
}

static void test_errors(void **state)
{
    (void)state;
    infer_model *model = NULL;
    assert_int_equal(infer_model_load(&model, "/nonexistent/x.gguf", NULL), INFER_ERR_NOT_FOUND);
    assert_non_null(strstr(infer_last_error(), "/nonexistent/x.gguf"));
    assert_int_equal(infer_model_load(&model, test_source("tests"), NULL), INFER_ERR_NOT_FOUND);
    assert_int_equal(infer_model_load(&model, test_source("README.md"), NULL), INFER_ERR_FORMAT);
    assert_int_equal(infer_model_load(NULL, "x", NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_model_load(&model, NULL, NULL), INFER_ERR_INVALID);
    assert_null(model);
    assert_string_equal(infer_status_name(INFER_ERR_FORMAT), "INFER_ERR_FORMAT");
    assert_string_equal(infer_status_name(-999), "unknown status");
    assert_int_equal(infer_version(), INFER_VERSION);
    assert_int_equal(infer_has("gguf"), 1);
    assert_int_equal(infer_has("teleportation"), 0);
    infer_device *device = NULL;
    assert_int_equal(infer_device_create(&device, 999, NULL), INFER_ERR_INVALID);
    infer_device_options options = {.struct_size = sizeof options, .n_threads = -1};
    assert_int_equal(infer_device_create(&device, 0, &options), INFER_ERR_INVALID);
    options = (infer_device_options){.struct_size = sizeof options, .pin_threads = 2};
    assert_int_equal(infer_device_create(&device, 0, &options), INFER_ERR_INVALID);
    options = (infer_device_options){.struct_size = sizeof options, .reserved = 1};
    assert_int_equal(infer_device_create(&device, 0, &options), INFER_ERR_INVALID);
    options =
        (infer_device_options){.struct_size = sizeof options, .n_threads = 4096, .pin_threads = 1};
    assert_int_equal(infer_device_create(&device, 0, &options), INFER_ERR_LIMIT);
    assert_null(device);
    assert_null(infer_get_api(INFER_API_VERSION + 1));
    assert_ptr_equal(infer_get_api(INFER_API_VERSION)->model_load, infer_model_load);
}

/* Every malformed file ends in a sentence that names it, also those whose
 * damage only a model loader can see. */
/* What a device may take for KV caches is told apart from what it may take for weights. */
static void test_budgets_of_a_device(void **state)
{
    (void)state;
    infer_device *device = NULL;
    infer_model *model = NULL;
    infer_kv_cache *cache = NULL;
    const infer_device_options budgets = {.struct_size = sizeof budgets,
                                          .kv_budget_bytes = (uint64_t)8 << 20};
    assert_int_equal(infer_device_create(&device, 0, &budgets), INFER_OK);
    const infer_model_options options = {
        .struct_size = sizeof options, .device = device, .pack = INFER_PACK_ON};
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options), INFER_OK);
    infer_kv_cache_options kv = {.struct_size = sizeof kv, .budget_bytes = (uint64_t)9 << 20};
    assert_int_equal(infer_kv_cache_create(&cache, model, &kv), INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "for KV caches"));
    kv.budget_bytes = (uint64_t)4 << 20;
    assert_int_equal(infer_kv_cache_create(&cache, model, &kv), INFER_OK);
    infer_device_info info = {.struct_size = sizeof info};
    assert_int_equal(infer_device_get_info(device, &info), INFER_OK);
    assert_true(info.weights_bytes > 4000000 && info.kv_bytes > 1000000);
    assert_int_equal(info.used_bytes, info.weights_bytes + info.kv_bytes + info.workspace_bytes);
    infer_kv_cache_destroy(&cache);
    infer_model_destroy(&model);
    infer_device_destroy(&device);
}

static void test_malformed_files(void **state)
{
    (void)state;
    json_error_t error;
    json_t *manifest = json_load_file(test_data("malformed/manifest.json"), 0, &error);
    assert_non_null(manifest);
    size_t i, n = 0;
    json_t *entry;
    json_array_foreach(manifest, i, entry)
    {
        char relative[256];
        const char *file = json_string_value(json_object_get(entry, "file"));
        if (strncmp(file, "gguf/", 5) != 0)
            continue;
        snprintf(relative, sizeof relative, "malformed/%s", file);
        infer_model *model = NULL;
        infer_status status = infer_model_load(&model, test_data(relative), NULL);
        assert_true(status < 0); /* also the valid ones: they hold no model */
        assert_null(model);
        if (!strstr(infer_last_error(), file + 5))
            fail_msg("%s: the sentence does not name the file: %s", file, infer_last_error());
        n++;
    }
    print_message("%zu files\n", n);
    assert_true(n >= 60);
    json_decref(manifest);
}

static void test_vocabulary_only(void **state)
{
    (void)state;
    infer_model *model = NULL;
    infer_session *session = NULL;
    const char *path = test_data("tokenizers/llamacpp_vocab/ggml-vocab-refact.gguf");
    assert_int_equal(infer_model_load(&model, path, NULL), INFER_ERR_UNSUPPORTED);
    infer_model_options options = {.struct_size = sizeof options, .vocabulary_only = 1};
    assert_int_equal(infer_model_load(&model, path, &options), INFER_OK);
    size_t n = 0;
    assert_int_equal(
        infer_tokenizer_encode(infer_model_tokenizer(model), "Hello world", 11, NULL, NULL, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(infer_session_create(&session, model, NULL), INFER_ERR_INVALID);
    infer_model_destroy(&model);
}

/* Copies a model file with one float changed; returns a temporary path. */
static char *damaged_copy(const char *from, uint64_t offset, float value)
{
    size_t size;
    char *data = test_read(from, &size);
    char *path = strdup("/tmp/infer-test-XXXXXX");
    memcpy(data + offset, &value, sizeof value);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
    free(data);
    return path;
}

static uint64_t tensor_offset(const char *path, const char *name)
{
    infer_model *model = NULL;
    infer_tensor_info tensor = {.struct_size = sizeof tensor};
    assert_int_equal(infer_model_load(&model, path, NULL), INFER_OK);
    for (size_t i = 0; i < infer_model_tensor_count(model); i++) {
        infer_model_tensor_at(model, i, &tensor);
        if (strcmp(tensor.name, name) == 0)
            break;
    }
    uint64_t offset = tensor.offset;
    infer_model_destroy(&model);
    return offset;
}

/* One damaged weight ends the request that meets it, in words; others go on. */
static void test_damaged_weights(void **state)
{
    (void)state;
    const char *path = test_data(STORIES);
    uint64_t offset = tensor_offset(path, "blk.0.ffn_norm.weight");
    char *broken = damaged_copy(path, offset, NAN);
    struct engine e;
    struct engine_setup setup = {.n_threads = 1};
    engine_open(&e, broken, &setup);
    const infer_token prompt[] = {1, 403, 407};
    infer_request_options o = {
        .struct_size = sizeof o, .tokens = prompt, .n_tokens = 3, .max_tokens = 5};
    infer_request *first = NULL, *second = NULL;
    assert_int_equal(infer_session_submit(&first, e.session, &o), INFER_OK);
    o.prefill_only = o.prompt_logprobs = 1;
    assert_int_equal(infer_session_submit(&second, e.session, &o), INFER_OK);
    struct engine_answer answer;
    engine_collect(first, &answer);
    assert_true(answer.status < 0);
    assert_non_null(strstr(answer.error, "NaN"));
    engine_answer_free(&answer);
    engine_collect(second, &answer);
    assert_true(answer.status < 0);
    engine_answer_free(&answer);
    infer_kv_cache_stats stats = {.struct_size = sizeof stats};
    infer_kv_cache_get_stats(e.cache, &stats);
    assert_int_equal(stats.n_blocks_used, 0);
    engine_close(&e);

    infer_model *model = NULL;
    infer_model_options check = {.struct_size = sizeof check, .check_weights = 1};
    assert_int_equal(infer_model_load(&model, broken, &check), INFER_ERR_FORMAT);
    assert_non_null(strstr(infer_last_error(), "blk.0.ffn_norm.weight"));
    unlink(broken);
    free(broken);
}

/* Whether the healthy prompt of a batch kept its logits while another prompt met
 * `damage` in the embedding of token 400. The head is tied: logit 400 is infinite too. */
static int healthy_prompt_survives(const char *path, const float *expected, float damage)
{
    uint64_t row = tensor_offset(path, "token_embd.weight") + (uint64_t)400 * 64 * sizeof(float);
    char *broken = damaged_copy(path, row, damage);
    struct engine e;
    struct engine_setup setup = {.n_threads = 1};
    const infer_token good[] = {1, 403, 407}, bad[] = {1, 400, 407};
    infer_request_options o = {
        .struct_size = sizeof o, .tokens = bad, .n_tokens = 3, .max_tokens = 1, .want_logits = 1};
    infer_request *hurt = NULL, *healthy = NULL;
    infer_event event = {.struct_size = sizeof event};
    struct engine_answer answer;
    engine_open(&e, broken, &setup);
    assert_int_equal(infer_session_submit(&hurt, e.session, &o), INFER_OK);
    o.tokens = good;
    assert_int_equal(infer_session_submit(&healthy, e.session, &o), INFER_OK);
    int survived = infer_request_next(healthy, &event) == INFER_OK;
    for (size_t i = 0; survived && i < event.n_logits; i++)
        assert_true(i == 400 || event.logits[i] == expected[i]);
    infer_request_destroy(&healthy);
    engine_collect(hurt, &answer);
    assert_int_equal(answer.status, INFER_ERR_INVALID);
    assert_non_null(strstr(answer.error, "NaN"));
    engine_answer_free(&answer);
    engine_close(&e);
    unlink(broken);
    free(broken);
    return survived;
}

/* Damage that one prompt of two in a step meets leaves the other's logits as they
 * were, bit for bit. Of the two signs, one gives token 400 minus infinity, which is legal. */
static void test_damage_stays_alone(void **state)
{
    (void)state;
    const infer_token good[] = {1, 403, 407};
    const char *path = test_data(STORIES);
    struct engine whole;
    struct engine_setup setup = {.n_threads = 1};
    engine_open(&whole, path, &setup);
    float *expected = engine_logits(&whole, good, 3);
    engine_close(&whole);
    int survived = healthy_prompt_survives(path, expected, INFINITY) +
                   healthy_prompt_survives(path, expected, -INFINITY);
    assert_int_equal(survived, 1);
    free(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_metadata_and_tensors),
        cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_struct_sizes),
        cmocka_unit_test(test_progress_cancels),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_malformed_files),
        cmocka_unit_test(test_vocabulary_only),
        cmocka_unit_test(test_budgets_of_a_device),
        cmocka_unit_test(test_damaged_weights),
        cmocka_unit_test(test_damage_stays_alone),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
