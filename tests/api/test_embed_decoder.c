/* A decoder that embeds, as Qwen3-Embedding's folders have it: the weights of the model alone, the
 * last token pooled, an end token that its tokenizer.json puts behind every text, a prompt for
 * queries; against transformers in float64, as a folder and as GGUF. */
#include "encoder_folder.h"
#include "support/engine.h"

#include <math.h>
#include <sys/stat.h>

#define DIMS      64
#define N_TEXTS   8
#define TOLERANCE 1e-5

static const json_t *root_of(const struct encoder_folder *f)
{
    return f->fixture.root;
}

static char *dump(json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT);
    assert_non_null(text);
    return text;
}

static void make_folder(struct encoder_folder *f)
{
    char path[600];
    json_error_t error;
    *f = (struct encoder_folder){0};
    f->fixture.root = json_load_file(test_source("tests/model/qwen3_embedder.json"), 0, &error);
    assert_non_null(f->fixture.root);
    arch_folder_make(f->path, sizeof f->path);
    arch_fixture_write(&f->fixture, f->path, "F32");
    json_t *tokenizer = json_load_file(test_source(ARCH_FOLDER "/tokenizer.json"), 0, &error);
    assert_int_equal(
        json_object_set(tokenizer, "post_processor", json_object_get(root_of(f), "post_processor")),
        0);
    char *text = dump(tokenizer);
    encoder_folder_file(f->path, "tokenizer.json", text);
    free(text);
    json_decref(tokenizer);
    snprintf(path, sizeof path, "%s/1_Pooling", f->path);
    assert_int_equal(mkdir(path, 0700), 0);
    encoder_folder_file(path, "config.json",
                        "{\"word_embedding_dimension\":64,\"pooling_mode_cls_token\":false,"
                        "\"pooling_mode_mean_tokens\":false,\"pooling_mode_max_tokens\":false,"
                        "\"pooling_mode_mean_sqrt_len_tokens\":false,"
                        "\"pooling_mode_weightedmean_tokens\":false,"
                        "\"pooling_mode_lasttoken\":true,\"include_prompt\":true}");
    encoder_folder_modules(f->path);
    json_t *prompts = json_pack("{s:{s:O,s:s},s:n,s:s}", "prompts", "query",
                                json_object_get(root_of(f), "query_prompt"), "document", "",
                                "default_prompt_name", "similarity_fn_name", "cosine");
    text = dump(prompts);
    encoder_folder_file(f->path, "config_sentence_transformers.json", text);
    free(text);
    json_decref(prompts);
}

/* Texts of a kind, in one call. */
static void check_kind(const struct encoder_folder *f, infer_session *session, const char *kind,
                       infer_embed_as as)
{
    static float out[N_TEXTS * DIMS];
    const char *texts[N_TEXTS];
    const json_t *wanted[N_TEXTS], *text;
    const infer_embed_options o = {.struct_size = sizeof o, .as = as};
    infer_embed_report report = {.struct_size = sizeof report};
    size_t n = 0, i;
    json_int_t n_tokens = 0;
    json_array_foreach(json_object_get(root_of(f), "texts"), i, text)
    {
        if (strcmp(json_string_value(json_object_get(text, "as")), kind) != 0)
            continue;
        texts[n] = json_string_value(json_object_get(text, "text"));
        n_tokens += json_integer_value(json_object_get(text, "n_tokens"));
        wanted[n++] = json_object_get(text, "vector");
    }
    assert_true(n >= 2);
    assert_ok(infer_session_embed(out, session, texts, NULL, n, &o, &report));
    assert_int_equal(report.n_tokens, n_tokens);
    for (i = 0; i < n; i++)
        for (size_t k = 0; k < DIMS; k++) {
            const double want = json_number_value(json_array_get(wanted[i], k));
            if (!(fabs((double)out[i * DIMS + k] - want) <= TOLERANCE))
                fail_msg("%s \"%s\": element %zu is %g, expected %g", kind, texts[i], k,
                         (double)out[i * DIMS + k], want);
        }
}

static void check_model(const struct encoder_folder *f, const char *path)
{
    struct engine e;
    infer_embedding_info info = {.struct_size = sizeof info};
    engine_open(&e, path, &(struct engine_setup){.n_threads = 1});
    assert_ok(infer_model_get_embedding_info(e.model, &info));
    assert_int_equal(info.pooling, INFER_POOLING_LAST);
    assert_int_equal(info.normalized + info.can_embed, 2);
    assert_int_equal(info.can_rerank, 0);
    assert_string_equal(info.query_prompt,
                        json_string_value(json_object_get(root_of(f), "query_prompt")));
    assert_string_equal(info.document_prompt, "");
    check_kind(f, e.session, "query", INFER_EMBED_AS_QUERY);
    check_kind(f, e.session, "document", INFER_EMBED_AS_DOCUMENT);
    engine_close(&e);
}

static void test_folder_and_gguf(void **state)
{
    struct encoder_folder f;
    char path[600];
    (void)state;
    make_folder(&f);
    check_model(&f, f.path);
    snprintf(path, sizeof path, "%s/model.gguf", f.path);
    assert_ok(infer_convert(NULL, f.path, path, NULL));
    check_model(&f, path);
    encoder_folder_remove(&f);
}

static uint64_t get(const char *at, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, at, size); /* little end first, as the file */
    return value;
}

/* Files of rerankers have a tensor more: rows of the output for yes and no. It is named
 * before the others and lies behind them. */
static void add_head(const char *path)
{
    static const char name[] = "cls.output.weight", first[] = "token_embd.weight";
    static const char zeros[DIMS * 2 * sizeof(float)];
    char info[8 + 17 + 4 + 2 * 8 + 4 + 8] = {17};
    size_t size;
    char *bytes = test_read(path, &size), *at = memmem(bytes, size, first, strlen(first));
    assert_non_null(at);
    const char *end = at -= 8;
    const uint64_t n = get(bytes + 8, 8), dims[2] = {DIMS, 2}, more = n + 1;
    for (uint64_t i = 0; i < n; i++) { /* name, dimensions, type, place */
        end += 8 + get(end, 8);
        end += 4 + 8 * get(end, 4) + 4 + 8;
    }
    memcpy(info + 8, name, 17);
    info[25] = 2; /* dimensions; the type F32 is 0 */
    memcpy(info + 29, dims, sizeof dims);
    memcpy(bytes + 8, &more, sizeof more);
    const size_t before = (size_t)(at - bytes), infos = (size_t)(end - at);
    const size_t data = (before + infos + 31) / 32 * 32;
    const uint64_t place = (size - data + 31) / 32 * 32;
    memcpy(info + 49, &place, sizeof place);
    const size_t new_end = before + sizeof info + infos, pad = (32 - new_end % 32) % 32;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    size_t written = fwrite(bytes, 1, before, f) + fwrite(info, 1, sizeof info, f) +
                     fwrite(at, 1, infos, f) + fwrite(zeros, 1, pad, f);
    written += fwrite(bytes + data, 1, size - data, f);
    written += fwrite(zeros, 1, place - (size - data), f) + fwrite(zeros, 1, sizeof zeros, f);
    assert_int_equal(written, new_end + pad + place + sizeof zeros);
    assert_int_equal(fclose(f), 0);
    free(bytes);
}

static void test_file_of_a_reranker(void **state)
{
    struct encoder_folder f;
    char path[600];
    (void)state;
    make_folder(&f);
    snprintf(path, sizeof path, "%s/model.gguf", f.path);
    assert_ok(infer_convert(NULL, f.path, path, NULL));
    add_head(path);
    check_model(&f, path);
    encoder_folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_folder_and_gguf),
                                       cmocka_unit_test(test_file_of_a_reranker)};
    return cmocka_run_group_tests_name("embed_decoder", tests, NULL, NULL);
}
