/* Published encodings of texts, read and compared. */
#include "conformance/vocab_support.h"

#include "base/str.h"
#include "text/stream_decode.h"
#include "text/unicode.h"

#define TEXT_BYTES ((size_t)1 << 20)

static void print_ids(char *buffer, size_t size, const infer_token *ids, size_t n)
{
    size_t used = 0;
    buffer[0] = 0;
    for (size_t i = 0; i < n && used + 16 < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%d ", (int)ids[i]);
}

void vocab_expect(const struct text_tokenizer *tokenizer, const char *label, struct base_view text,
                  uint32_t flags, const infer_token *expected, size_t n)
{
    text_tokens got = {0};
    assert_ok(
        text_tokenizer_encode(tokenizer, &base_alloc_default, text.data, text.size, flags, &got));
    if (got.size != n || (n && memcmp(got.data, expected, n * sizeof *expected) != 0)) {
        char a[2048], b[2048];
        print_ids(a, sizeof a, got.data, got.size);
        print_ids(b, sizeof b, expected, n);
        fail_msg("%s: '%.*s'\n  gave     %s\n  expected %s", label,
                 (int)BASE_MIN(text.size, (size_t)400), text.data, a, b);
    }
    base_array_release(&base_alloc_default, &got);
}

void vocab_expect_round_trip(const struct text_tokenizer *tokenizer, const char *label,
                             struct base_view text)
{
    text_tokens ids = {0};
    assert_ok(text_tokenizer_encode(tokenizer, &base_alloc_default, text.data, text.size, 0, &ids));
    struct base_str back;
    base_str_init(&back, &base_alloc_default, 0);
    struct text_decoder decoder;
    text_decoder_init(&decoder, tokenizer, 0, 0);
    for (size_t i = 0; i < ids.size; i++)
        assert_ok(text_decoder_push(&decoder, ids.data[i], &back));
    assert_ok(text_decoder_finish(&decoder, &back));
    if (back.size != text.size || (text.size && memcmp(back.data, text.data, text.size) != 0)) {
        size_t i = 0;
        while (i < back.size && i < text.size && back.data[i] == text.data[i])
            i++;
        fail_msg("%s: %zu bytes came back as %zu, first difference at byte %zu", label, text.size,
                 back.size, i);
    }
    base_str_release(&back);
    base_array_release(&base_alloc_default, &ids);
}

size_t vocab_check_inp_out(const struct text_tokenizer *tokenizer, const char *name)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[256];
    size_t inp_size, count = 0;
    snprintf(path, sizeof path, "tokenizers/llamacpp_vocab/ggml-vocab-%s.gguf.inp", name);
    char *inp = test_read(test_data(path), &inp_size);
    snprintf(path, sizeof path, "tokenizers/llamacpp_vocab/ggml-vocab-%s.gguf.out", name);
    char *out = test_read(test_data(path), NULL);
    char *line = out;
    for (char *text = inp; text;) {
        char *end = memmem(text, inp_size - (size_t)(text - inp), separator, sizeof separator - 1);
        size_t size = end ? (size_t)(end - text) : inp_size - (size_t)(text - inp);
        infer_token expected[1024];
        size_t n = 0;
        char *line_end = line + strcspn(line, "\n"), *p = line;
        for (;;) {
            p += strspn(p, " ");
            if (p >= line_end)
                break;
            assert_true(n < BASE_COUNT(expected));
            expected[n++] = (infer_token)strtol(p, &p, 10);
        }
        vocab_expect(tokenizer, name, (struct base_view){text, size}, 0, expected, n);
        count++;
        line = *line_end ? line_end + 1 : line_end;
        text = end ? end + sizeof separator - 1 : NULL;
    }
    assert_int_equal(*line, 0); /* as many lines as texts */
    free(inp);
    free(out);
    return count;
}

json_t *vocab_read_json(const char *relative)
{
    const char *path = test_data(relative);
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!root)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

static void expect_json(const struct text_tokenizer *tokenizer, const char *label, json_t *text,
                        json_t *ids, uint32_t flags)
{
    size_t n = json_array_size(ids);
    infer_token *expected = calloc(n + 1, sizeof *expected);
    assert_non_null(expected);
    assert_true(json_is_string(text) && json_is_array(ids));
    for (size_t k = 0; k < n; k++)
        expected[k] = (infer_token)json_integer_value(json_array_get(ids, k));
    vocab_expect(tokenizer, label,
                 (struct base_view){json_string_value(text), json_string_length(text)}, flags,
                 expected, n);
    free(expected);
}

void vocab_check_swift(const struct text_tokenizer *tokenizer, const char *file, uint32_t flags)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/swift_transformers/%s", file);
    json_t *root = vocab_read_json(path);
    expect_json(tokenizer, file, json_object_get(root, "text"), json_object_get(root, "token_ids"),
                flags);
    json_decref(root);
}

size_t vocab_check_questions(const struct text_tokenizer *tokenizer)
{
    json_t *ids = vocab_read_json("tokenizers/swift_transformers/tokenized_questions.json");
    json_t *texts = vocab_read_json("tokenizers/swift_transformers/question_tokens.json");
    size_t count = json_array_size(ids);
    assert_true(count > 0);
    assert_int_equal(json_array_size(texts), count);
    for (size_t i = 0; i < count; i++)
        expect_json(tokenizer, "questions", json_object_get(json_array_get(texts, i), "original"),
                    json_array_get(ids, i), 0);
    json_decref(ids);
    json_decref(texts);
    return count;
}

size_t vocab_check_cases(const struct text_tokenizer *tokenizer, const char *model)
{
    json_t *root = vocab_read_json("tokenizers/swift_transformers/tokenizer_tests.json");
    json_t *cases = json_object_get(root, model);
    size_t count = json_array_size(cases);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        json_t *c = json_array_get(cases, i);
        expect_json(tokenizer, model, json_object_get(c, "input"),
                    json_object_get(json_object_get(c, "encoded"), "input_ids"),
                    TEXT_ENCODE_SPECIAL | TEXT_ENCODE_ADD);
    }
    json_decref(root);
    return count;
}

/* Blocks of "EncodingName:", "Sample:" and "Encoded: [...]". */
size_t vocab_check_test_plans(const struct text_tokenizer *tokenizer, const char *encoding)
{
    char *plans = test_read(test_data("tokenizers/tiktoken/TestPlans.txt"), NULL);
    size_t count = 0;
    for (char *p = plans; (p = strstr(p, "EncodingName: ")) != NULL;) {
        char *name = p + strlen("EncodingName: ");
        char *sample = strstr(name, "\nSample: ");
        assert_non_null(sample);
        sample += strlen("\nSample: ");
        char *end = strstr(sample, "\nEncoded: [");
        assert_non_null(end);
        p = end + strlen("\nEncoded: [");
        infer_token expected[4096];
        size_t n = 0;
        while (*p != ']') {
            assert_true(n < BASE_COUNT(expected));
            expected[n++] = (infer_token)strtol(p, &p, 10);
            p += strspn(p, ", ");
        }
        if (strncmp(name, encoding, strlen(encoding)) != 0 || name[strlen(encoding)] != '\n')
            continue;
        vocab_expect(tokenizer, encoding, (struct base_view){sample, (size_t)(end - sample)}, 0,
                     expected, n);
        count++;
    }
    free(plans);
    return count;
}

size_t vocab_check_goldens(const struct text_tokenizer *tokenizer, const char *file,
                           const char *model, const char *key, uint32_t flags)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/%s", file);
    json_t *root = vocab_read_json(path);
    json_t *texts = json_object_get(root, "texts");
    json_t *results =
        json_object_get(json_object_get(json_object_get(root, "models"), model), "results");
    size_t count = json_array_size(texts);
    assert_true(count > 0);
    assert_int_equal(json_array_size(results), count);
    for (size_t i = 0; i < count; i++) {
        json_t *text = json_array_get(texts, i);
        expect_json(tokenizer, model, text, json_object_get(json_array_get(results, i), key),
                    flags);
    }
    json_decref(root);
    return count;
}

size_t vocab_check_texts(const struct text_tokenizer *tokenizer, const char *label)
{
    static const char *const files[] = {
        "text/gutenberg/war-and-peace.txt", "text/gutenberg/wagahaiwa_nekodearu.ja.txt",
        "text/tinyshakespeare/input.txt",   "text/cranfield/cran.all.1400",
        "text/vaswani_npl/doc-text.trec",
    };
    size_t total = 0;
    for (size_t i = 0; i < BASE_COUNT(files); i++) {
        size_t size;
        char *text = test_read(test_data(files[i]), &size);
        size = BASE_MIN(size, TEXT_BYTES);
        while (size && ((uint8_t)text[size] & 0xC0) == 0x80) /* do not cut a character */
            size--;
        char name[256];
        snprintf(name, sizeof name, "%s on %s", label, files[i]);
        vocab_expect_round_trip(tokenizer, name, (struct base_view){text, size});
        total += size;
        free(text);
    }
    return total;
}

size_t vocab_put_utf8(uint32_t cp, char out[4])
{
    return text_utf8_put(cp, out);
}
