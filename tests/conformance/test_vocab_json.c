/* Vocabularies in the forms other libraries keep them in (tokenizer.json, vocab.json with
 * merges.txt, tiktoken ranks), built by hand and held against published encodings. */
#include "conformance/vocab_support.h"

#include "base/map.h"
#include "text/pieces.h"
#include "text/unicode.h"

struct built {
    struct base_arena arena;
    struct base_view *tokens, *merges;
    int32_t *types;
    float *scores;
    struct text_vocab vocab;
    struct text_tokenizer *tokenizer;
};

static void *take(struct built *b, size_t n, size_t size)
{
    void *p = base_arena_new(&b->arena, n, size);
    assert_non_null(p);
    return p;
}

static struct base_view copy(struct built *b, const char *text, size_t size)
{
    char *p = base_arena_strdup(&b->arena, text, size);
    assert_non_null(p);
    return (struct base_view){p, size};
}

static void begin(struct built *b, int32_t kind, const char *pre, size_t n_tokens, size_t n_merges)
{
    *b = (struct built){0};
    base_arena_init(&b->arena, &base_alloc_default);
    b->tokens = take(b, n_tokens, sizeof *b->tokens);
    b->types = take(b, n_tokens, sizeof *b->types);
    b->scores = take(b, n_tokens, sizeof *b->scores);
    b->merges = take(b, n_merges, sizeof *b->merges);
    for (size_t i = 0; i < n_tokens; i++) /* ids that no file fills */
        b->types[i] = TEXT_TOKEN_UNUSED;
    b->vocab = (struct text_vocab){
        .kind = kind,
        .pre = {pre, strlen(pre)},
        .tokens = b->tokens,
        .types = b->types,
        .scores = kind == TEXT_SPM ? b->scores : NULL,
        .n_tokens = n_tokens,
        .merges = b->merges,
        .n_merges = n_merges,
        .bos = -1,
        .eos = -1,
        .eot = -1,
        .unk = -1,
        .pad = -1,
    };
}

static void finish(struct built *b)
{
    assert_ok(text_tokenizer_create(&b->tokenizer, &base_alloc_default, &b->vocab));
}

static void drop(struct built *b)
{
    text_tokenizer_destroy(&b->tokenizer);
    base_arena_release(&b->arena);
}

/* {"token": id, ...} */
static void add_tokens(struct built *b, json_t *vocab)
{
    const char *text;
    json_t *id;
    json_object_foreach(vocab, text, id)
    {
        size_t i = (size_t)json_integer_value(id);
        assert_true(i < b->vocab.n_tokens);
        b->tokens[i] = copy(b, text, strlen(text));
        b->types[i] = TEXT_TOKEN_NORMAL;
    }
}

static void add_special(struct built *b, size_t id, json_t *entry)
{
    json_t *text = json_object_get(entry, "content");
    assert_true(id < b->vocab.n_tokens);
    b->tokens[id] = copy(b, json_string_value(text), json_string_length(text));
    b->types[id] = json_is_true(json_object_get(entry, "special")) ? TEXT_TOKEN_CONTROL
                                                                   : TEXT_TOKEN_USER_DEFINED;
}

/* tokenizer.json of a byte-level or SentencePiece-like BPE. */
static void build_tokenizer_json(struct built *b, const char *path, int32_t kind, const char *pre)
{
    json_t *root = vocab_read_json(path);
    json_t *model = json_object_get(root, "model");
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    json_t *added = json_object_get(root, "added_tokens");
    size_t n = json_object_size(vocab);
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *id = json_object_get(json_array_get(added, i), "id");
        n = BASE_MAX(n, (size_t)json_integer_value(id) + 1);
    }
    begin(b, kind, pre, n, kind == TEXT_BPE ? json_array_size(merges) : 0);
    add_tokens(b, vocab);
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *entry = json_array_get(added, i);
        add_special(b, (size_t)json_integer_value(json_object_get(entry, "id")), entry);
    }
    for (size_t i = 0; i < b->vocab.n_merges; i++) {
        const char *text = json_string_value(json_array_get(merges, i));
        assert_non_null(text);
        b->merges[i] = copy(b, text, strlen(text));
    }
    json_decref(root);
}

static void test_qwen2(void **state)
{
    (void)state;
    struct built b;
    json_t *vocab = vocab_read_json("tokenizers/qwen2.5/vocab.json");
    json_t *config = vocab_read_json("tokenizers/qwen2.5/tokenizer_config.json");
    size_t size;
    char *merges = test_read(test_data("tokenizers/qwen2.5/merges.txt"), &size);
    size_t n_lines = 0;
    for (size_t i = 0; i < size; i++)
        n_lines += merges[i] == '\n';
    json_t *added = json_object_get(config, "added_tokens_decoder"), *entry;
    begin(&b, TEXT_BPE, "qwen2", json_object_size(vocab) + json_object_size(added), n_lines + 1);
    add_tokens(&b, vocab);
    const char *id;
    json_object_foreach(added, id, entry) add_special(&b, (size_t)atoi(id), entry);
    b.vocab.n_merges = 0;
    for (char *line = strtok(merges, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "#version", 8) != 0)
            b.merges[b.vocab.n_merges++] = copy(&b, line, strlen(line));
    finish(&b);
    size_t texts = vocab_check_inp_out(b.tokenizer, "qwen2");
    size_t bytes = vocab_check_texts(b.tokenizer, "qwen2");
    print_message("qwen2: %zu texts of .inp/.out, %zu bytes there and back\n", texts, bytes);
    infer_token end = 151645; /* <|im_end|>, which no key names here */
    assert_true(text_tokenizer_is_end(b.tokenizer, end));
    vocab_expect(b.tokenizer, "qwen2", (struct base_view){"<|im_end|>", 10}, TEXT_ENCODE_SPECIAL,
                 &end, 1);
    drop(&b);
    free(merges);
    json_decref(vocab);
    json_decref(config);
}

static void check_tokenizer_json(const char *model, const char *path, const char *pre)
{
    struct built b;
    build_tokenizer_json(&b, path, TEXT_BPE, pre);
    finish(&b);
    size_t texts =
        vocab_check_goldens(b.tokenizer, "goldens_hf_tokenizers.json", model, TEXT_ENCODE_SPECIAL);
    size_t bytes = vocab_check_texts(b.tokenizer, model);
    print_message("%s: %zu texts of tokenizers, %zu bytes there and back\n", model, texts, bytes);
    drop(&b);
}

static void test_falcon(void **state)
{
    (void)state;
    check_tokenizer_json("falcon", "tokenizers/falcon/tokenizer.json", "falcon");
}

static void test_phi_2(void **state)
{
    (void)state;
    check_tokenizer_json("phi-2", "tokenizers/phi-2/tokenizer.json", "phi-2");
}

static void test_roberta(void **state)
{
    (void)state;
    check_tokenizer_json("roberta-base", "tokenizers/roberta-base/tokenizer.json", "roberta-bpe");
}

/* The scores that make SentencePiece merge in the order of the file's merges. */
static void score_by_merges(struct built *b, const char *path)
{
    json_t *root = vocab_read_json(path);
    json_t *model = json_object_get(root, "model");
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    for (size_t i = 0; i < b->vocab.n_tokens; i++)
        b->scores[i] = -1e9f;
    for (size_t i = json_array_size(merges); i-- > 0;) {
        char text[1024];
        const char *merge = json_string_value(json_array_get(merges, i));
        const char *space = strchr(merge, ' ');
        assert_non_null(space);
        snprintf(text, sizeof text, "%.*s%s", (int)(space - merge), merge, space + 1);
        json_t *id = json_object_get(vocab, text);
        assert_non_null(id);
        b->scores[json_integer_value(id)] = -(float)i;
    }
    json_decref(root);
}

/* A SentencePiece vocabulary in another library's form. */
static void test_phi_3(void **state)
{
    (void)state;
    static const char path[] = "tokenizers/phi-3-mini/tokenizer.json";
    struct built b;
    build_tokenizer_json(&b, path, TEXT_SPM, "");
    score_by_merges(&b, path);
    for (size_t i = 0; i < b.vocab.n_tokens; i++)
        if (b.types[i] == TEXT_TOKEN_NORMAL && text_vocab_byte(b.tokens[i]) >= 0)
            b.types[i] = TEXT_TOKEN_BYTE;
    b.vocab.add_space_prefix = 1;
    finish(&b);
    size_t texts = vocab_check_goldens(b.tokenizer, "goldens_hf_tokenizers.json", "phi-3-mini",
                                       TEXT_ENCODE_SPECIAL);
    size_t bytes = vocab_check_texts(b.tokenizer, "phi-3-mini");
    print_message("phi-3-mini: %zu texts of tokenizers, %zu bytes there and back\n", texts, bytes);
    drop(&b);
}

static size_t decode_base64(const char *text, size_t size, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int n_bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < size && text[i] != '='; i++) {
        const char *digit = strchr(digits, text[i]);
        assert_non_null(digit);
        bits = bits << 6 | (uint32_t)(digit - digits);
        n_bits += 6;
        if (n_bits >= 8)
            out[n++] = (char)(bits >> (n_bits -= 8));
    }
    return n;
}

/* Raw bytes in the alphabet of byte-level vocabularies. */
static size_t spell(const char *bytes, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        used += text_utf8_put(text_alphabet_char((uint8_t)bytes[i]), out + used);
    return used;
}

/* Tiktoken merges two neighbours whenever the joined bytes are a token, lowest rank
 * first: each way to cut a token into two tokens is a merge. */
static void add_all_cuts(struct built *b, const struct base_view *raw, size_t n,
                         const struct base_map *ids, size_t max_merges)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t cut = 1; cut < raw[i].size; cut++) {
            const char *at = raw[i].data + cut;
            if (base_map_get(ids, raw[i].data, cut, -1) < 0 ||
                base_map_get(ids, at, raw[i].size - cut, -1) < 0)
                continue;
            char text[4096];
            assert_true(raw[i].size * 2 + 1 < sizeof text);
            size_t used = spell(raw[i].data, cut, text);
            text[used++] = ' ';
            used += spell(at, raw[i].size - cut, text + used);
            assert_true(b->vocab.n_merges < max_merges);
            b->merges[b->vocab.n_merges++] = copy(b, text, used);
        }
    }
}

static void build_tiktoken(struct built *b, const char *encoding, const char *pre)
{
    char path[128];
    snprintf(path, sizeof path, "tokenizers/tiktoken/%s.tiktoken", encoding);
    size_t size, n = 0;
    char *file = test_read(test_data(path), &size);
    size_t max_tokens = size / 6, max_merges = size / 3;
    begin(b, TEXT_BPE, pre, max_tokens, max_merges);
    struct base_view *raw = take(b, max_tokens, sizeof *raw);
    struct base_map ids;
    assert_ok(base_map_init(&ids, &base_alloc_default, max_tokens));
    size_t top = 0;
    for (char *line = strtok(file, "\n"); line; line = strtok(NULL, "\n"), n++) {
        char bytes[1024], text[2048];
        size_t digits = strcspn(line, " "), rank = strtoul(line + digits, NULL, 10);
        assert_true(digits < sizeof bytes && rank < max_tokens);
        raw[n] = copy(b, bytes, decode_base64(line, digits, bytes));
        b->tokens[rank] = copy(b, text, spell(raw[n].data, raw[n].size, text));
        b->types[rank] = TEXT_TOKEN_NORMAL;
        top = BASE_MAX(top, rank + 1);
        assert_ok(base_map_add(&ids, raw[n].data, raw[n].size, (int32_t)rank));
    }
    b->vocab.n_tokens = top;
    b->vocab.n_merges = 0;
    add_all_cuts(b, raw, n, &ids, max_merges);
    base_map_release(&ids);
    free(file);
    finish(b);
}

/* Blocks of "EncodingName:", "Sample:" and "Encoded: [...]". */
static size_t check_test_plans(const struct text_tokenizer *tokenizer, const char *encoding)
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

static void check_tiktoken(const char *encoding, const char *pre)
{
    struct built b;
    build_tiktoken(&b, encoding, pre);
    size_t texts = check_test_plans(b.tokenizer, encoding);
    assert_true(texts > 0);
    size_t bytes = vocab_check_texts(b.tokenizer, encoding);
    print_message("%s: %zu texts of tiktoken, %zu bytes there and back\n", encoding, texts, bytes);
    drop(&b);
}

static void test_r50k(void **state)
{
    (void)state;
    check_tiktoken("r50k_base", "gpt-2");
}

static void test_p50k(void **state)
{
    (void)state;
    check_tiktoken("p50k_base", "gpt-2");
}

/* Llama 3 took its words from this encoding, and its merging too: whole words first. */
static void test_cl100k(void **state)
{
    (void)state;
    check_tiktoken("cl100k_base", "llama-bpe");
}

static void test_o200k(void **state)
{
    (void)state;
    check_tiktoken("o200k_base", "gpt-4o");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qwen2),   cmocka_unit_test(test_falcon), cmocka_unit_test(test_phi_2),
        cmocka_unit_test(test_roberta), cmocka_unit_test(test_phi_3),  cmocka_unit_test(test_r50k),
        cmocka_unit_test(test_p50k),    cmocka_unit_test(test_cl100k), cmocka_unit_test(test_o200k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
