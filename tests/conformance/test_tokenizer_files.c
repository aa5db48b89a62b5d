/* Tokenizers in the forms of other libraries (tokenizer.json, SentencePiece, tiktoken, vocab.json,
 * vocab.txt, llama2.c), turned into GGUF keys and held against published encodings; and the same
 * vocabulary in two forms against each other. */
#include "conformance/vocab_support.h"

#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "model/hf_tokenizer.h"
#include "model/vocab.h"
#include "text/forms.h"

#define TEXT_BYTES ((size_t)1 << 20)

struct loaded {
    struct gguf_file *file;
    struct model_vocab *vocab;
    const struct text_tokenizer *t;
};

static void finish(struct loaded *l, struct gguf_draft **d)
{
    assert_ok(gguf_draft_finish(d, &l->file));
    assert_ok(model_vocab_load(&l->vocab, &base_alloc_default, l->file));
    l->t = model_vocab_tokenizer(l->vocab);
}

/* A GGUF file, or one file of another form. */
static void load(struct loaded *l, const char *relative)
{
    const char *path = test_data(relative);
    size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0) {
        assert_ok(gguf_open(&l->file, &base_alloc_default, path, GGUF_OPEN_METADATA_ONLY));
        assert_ok(model_vocab_load(&l->vocab, &base_alloc_default, l->file));
        l->t = model_vocab_tokenizer(l->vocab);
        return;
    }
    struct gguf_draft *d = NULL;
    assert_ok(gguf_draft_create(&d, &base_alloc_default, path));
    assert_ok(model_tokenizer_file(d, &base_alloc_default, path));
    finish(l, &d);
}

static void unload(struct loaded *l)
{
    model_vocab_destroy(&l->vocab);
    gguf_close(&l->file);
}

static const struct base_json *parse(struct base_arena *arena, const char *relative)
{
    const struct base_json *j = NULL;
    size_t size;
    char *text = test_read(test_data(relative), &size);
    assert_ok(base_json_parse(&j, arena, text, size));
    free(text);
    return j;
}

static void check_json(const char *model, const char *path, int round_trip)
{
    struct loaded l;
    load(&l, path);
    size_t texts =
        vocab_check_goldens(l.t, "goldens_hf_tokenizers.json", model, "ids", TEXT_ENCODE_SPECIAL);
    size_t added = vocab_check_goldens(l.t, "goldens_hf_tokenizers.json", model, "ids_special",
                                       TEXT_ENCODE_SPECIAL | TEXT_ENCODE_ADD);
    size_t bytes = round_trip ? vocab_check_texts(l.t, model) : 0;
    print_message("%s: %zu texts of tokenizers, %zu with BOS and EOS, %zu bytes there and back\n",
                  model, texts, added, bytes);
    unload(&l);
}

static void test_minilm(void **state)
{
    (void)state;
    check_json("all-MiniLM-L6-v2", "tokenizers/all-MiniLM-L6-v2/tokenizer.json", 0);
    static const char *const forms[] = {"tokenizers/all-MiniLM-L6-v2/tokenizer.json",
                                        "tokenizers/all-MiniLM-L6-v2/vocab.txt"};
    for (size_t i = 0; i < BASE_COUNT(forms); i++) {
        struct loaded l;
        load(&l, forms[i]);
        size_t questions = vocab_check_questions(l.t);
        size_t cases = vocab_check_cases(l.t, "bert-base-uncased");
        vocab_check_swift(l.t, "bert_uncased_encoded.json", TEXT_ENCODE_ADD);
        size_t texts = vocab_check_inp_out(l.t, "bert-bge");
        print_message("%s: %zu questions, %zu cases, %zu texts of .inp/.out\n", forms[i], questions,
                      cases, texts);
        unload(&l);
    }
}

static void test_t5(void **state)
{
    (void)state;
    check_json("t5-small", "tokenizers/t5/tokenizer.json", 0);
    static const char *const forms[] = {"tokenizers/t5/tokenizer.json",
                                        "tokenizers/t5/spiece.model"};
    for (size_t i = 0; i < BASE_COUNT(forms); i++) {
        struct loaded l;
        load(&l, forms[i]);
        vocab_check_swift(l.t, "t5_base_encoded.json", TEXT_ENCODE_ADD);
        size_t cases = vocab_check_cases(l.t, "t5-base");
        print_message("%s: %zu cases\n", forms[i], cases);
        unload(&l);
    }
}

static void test_falcon(void **state)
{
    (void)state;
    check_json("falcon", "tokenizers/falcon/tokenizer.json", 1);
    struct loaded l;
    load(&l, "tokenizers/falcon/tokenizer.json");
    assert_string_equal(model_vocab_pre(l.vocab), "falcon");
    size_t texts = vocab_check_inp_out(l.t, "falcon"),
           cases = vocab_check_cases(l.t, "tiiuae/falcon-7b");
    print_message("falcon: %zu texts of .inp/.out, %zu cases\n", texts, cases);
    unload(&l);
}

static void test_phi_2(void **state)
{
    (void)state;
    check_json("phi-2", "tokenizers/phi-2/tokenizer.json", 1);
}

static void test_roberta(void **state)
{
    (void)state;
    check_json("roberta-base", "tokenizers/roberta-base/tokenizer.json", 1);
}

static void test_phi_3(void **state)
{
    (void)state;
    check_json("phi-3-mini", "tokenizers/phi-3-mini/tokenizer.json", 1);
}

static void test_tinystories(void **state)
{
    (void)state;
    check_json("TinyStories-656K", "llm/TinyStories-656K/tokenizer.json", 0);
}

/* vocab.json with merges.txt and the configuration beside it. */
static void test_qwen2(void **state)
{
    (void)state;
    struct base_arena arena;
    struct gguf_draft *d = NULL;
    struct loaded l;
    size_t size;
    base_arena_init(&arena, &base_alloc_default);
    char *merges = test_read(test_data("tokenizers/qwen2.5/merges.txt"), &size);
    struct hf_tokenizer_files files = {
        .vocab_json = parse(&arena, "tokenizers/qwen2.5/vocab.json"),
        .config = parse(&arena, "tokenizers/qwen2.5/tokenizer_config.json"),
        .merges = {merges, size},
    };
    assert_ok(gguf_draft_create(&d, &base_alloc_default, "qwen2.5"));
    assert_ok(hf_tokenizer_write(d, &base_alloc_default, &files));
    finish(&l, &d);
    assert_string_equal(model_vocab_pre(l.vocab), "qwen2");
    assert_string_equal(model_vocab_eos_text(l.vocab), "<|im_end|>");
    size_t texts = vocab_check_inp_out(l.t, "qwen2"), bytes = vocab_check_texts(l.t, "qwen2");
    print_message("qwen2: %zu texts of .inp/.out, %zu bytes there and back\n", texts, bytes);
    infer_token end = 151645;
    vocab_expect(l.t, "qwen2", (struct base_view){"<|im_end|>", 10}, TEXT_ENCODE_SPECIAL, &end, 1);
    /* Composed and decomposed are one text to this tokenizer. */
    text_tokens a = {0};
    assert_ok(text_tokenizer_encode(l.t, &base_alloc_default, "caf\xC3\xA9", 5, 0, &a));
    vocab_expect(l.t, "NFC", (struct base_view){"cafe\xCC\x81", 6}, 0, a.data, a.size);
    base_array_release(&base_alloc_default, &a);
    unload(&l);
    free(merges);
    base_arena_release(&arena);
}

static void test_sentencepiece(void **state)
{
    (void)state;
    static const struct {
        const char *model, *path;
        int round_trip;
    } rows[] = {
        {"test_model", "tokenizers/sentencepiece/test_model.model", 0},
        {"test_ja_model", "tokenizers/sentencepiece/test_ja_model.model", 0},
        {"t5_spiece", "tokenizers/t5/spiece.model", 0},
        {"llama2", "tokenizers/llama2/tokenizer.model", 1},
        {"llama2", "tokenizers/llama2/tokenizer.bin", 1},
        {"torchtune_m", "tokenizers/sentencepiece/torchtune_m.model", 0},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        struct loaded l;
        load(&l, rows[i].path);
        size_t n = vocab_check_goldens(l.t, "goldens_sentencepiece.json", rows[i].model, "ids", 0);
        size_t bytes = rows[i].round_trip ? vocab_check_texts(l.t, rows[i].model) : 0;
        print_message("%s: %zu texts of sentencepiece, %zu bytes there and back\n", rows[i].path, n,
                      bytes);
        unload(&l);
    }
}

static void check_tiktoken(const char *encoding)
{
    char path[128];
    struct loaded l;
    snprintf(path, sizeof path, "tokenizers/tiktoken/%s.tiktoken", encoding);
    load(&l, path);
    size_t texts = vocab_check_test_plans(l.t, encoding);
    assert_true(texts > 0);
    size_t bytes = vocab_check_texts(l.t, encoding);
    print_message("%s: %zu texts of tiktoken, %zu bytes there and back\n", encoding, texts, bytes);
    unload(&l);
}

static void test_r50k(void **state)
{
    (void)state;
    check_tiktoken("r50k_base");
}

static void test_p50k(void **state)
{
    (void)state;
    check_tiktoken("p50k_base");
}

static void test_cl100k(void **state)
{
    (void)state;
    check_tiktoken("cl100k_base");
}

static void test_o200k(void **state)
{
    (void)state;
    check_tiktoken("o200k_base");
}

/* One vocabulary in two forms gives the same ids for every line of real text. */
static size_t compare(const char *a, const char *b, const char *text)
{
    struct loaded x, y;
    size_t size, lines = 0;
    load(&x, a);
    load(&y, b);
    char *all = test_read(test_data(text), &size);
    size = BASE_MIN(size, TEXT_BYTES);
    for (size_t i = 0; i < size; lines++) {
        char *end = memchr(all + i, '\n', size - i);
        size_t n = end ? (size_t)(end - all) - i + 1 : size - i;
        text_tokens ids = {0};
        assert_ok(text_tokenizer_encode(x.t, &base_alloc_default, all + i, n, 0, &ids));
        vocab_expect(y.t, b, (struct base_view){all + i, n}, 0, ids.data, ids.size);
        base_array_release(&base_alloc_default, &ids);
        i += n;
    }
    free(all);
    unload(&x);
    unload(&y);
    return lines;
}

static void test_two_forms(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"tokenizers/llamacpp_vocab/ggml-vocab-falcon.gguf", "tokenizers/falcon/tokenizer.json"},
        {"tokenizers/llamacpp_vocab/ggml-vocab-bert-bge.gguf",
         "tokenizers/all-MiniLM-L6-v2/tokenizer.json"},
        {"tokenizers/all-MiniLM-L6-v2/vocab.txt", "tokenizers/all-MiniLM-L6-v2/tokenizer.json"},
        {"tokenizers/llamacpp_vocab/ggml-vocab-llama-spm.gguf",
         "tokenizers/llama2/tokenizer.model"},
        {"tokenizers/llama2/tokenizer.bin", "tokenizers/llama2/tokenizer.model"},
        {"tokenizers/phi-3-mini/tokenizer.json", "tokenizers/llama2/tokenizer.model"},
        {"tokenizers/llamacpp_vocab/ggml-vocab-gpt-2.gguf",
         "tokenizers/tiktoken/r50k_base.tiktoken"},
        {"llm/TinyStories-656K/TinyStories-656K.f32.gguf", "llm/TinyStories-656K/tokenizer.json"},
    };
    static const char *const texts[] = {"tokenizers/sentencepiece/botchan.txt",
                                        "text/tinyshakespeare/input.txt"};
    for (size_t i = 0; i < BASE_COUNT(pairs); i++)
        for (size_t k = 0; k < BASE_COUNT(texts); k++)
            print_message("%s, %s: %zu lines of %s\n", pairs[i][0], pairs[i][1],
                          compare(pairs[i][0], pairs[i][1], texts[k]), texts[k]);
}

/* "source TAB target" in code points; the second is the first in NFKD. */
static void test_nfkd(void **state)
{
    (void)state;
    size_t size, n = 0;
    char *all = test_read(test_data("tokenizers/sentencepiece/nfkd.tsv"), &size);
    struct base_str from, to, got;
    text_code_points work = {0};
    base_str_init(&from, &base_alloc_default, 0);
    base_str_init(&to, &base_alloc_default, 0);
    base_str_init(&got, &base_alloc_default, 0);
    for (char *line = all; line < all + size; n++) {
        struct base_str *out = &from;
        base_str_clear(&from);
        base_str_clear(&to);
        base_str_clear(&got);
        char *p = line;
        while (*p && *p != '\n' && !(out == &to && *p == '\t')) {
            char utf8[4];
            if (*p == '\t') {
                out = &to;
                p++;
                continue;
            }
            if (*p == ' ' || *p == '\r') {
                p++;
                continue;
            }
            char *end;
            uint32_t cp = (uint32_t)strtoul(p, &end, 16);
            assert_true(end > p);
            assert_ok(base_str_append(out, utf8, vocab_put_utf8(cp, utf8)));
            p = end;
        }
        assert_ok(text_form_append(TEXT_NFKD, from.data, from.size, &work, &got));
        assert_int_equal(got.size, to.size);
        assert_memory_equal(got.data, to.data, to.size);
        line = p + strcspn(p, "\n") + 1;
    }
    assert_true(n > 1000);
    print_message("nfkd.tsv: %zu lines\n", n);
    base_array_release(&base_alloc_default, &work);
    base_str_release(&from);
    base_str_release(&to);
    base_str_release(&got);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minilm),        cmocka_unit_test(test_t5),
        cmocka_unit_test(test_falcon),        cmocka_unit_test(test_phi_2),
        cmocka_unit_test(test_roberta),       cmocka_unit_test(test_phi_3),
        cmocka_unit_test(test_tinystories),   cmocka_unit_test(test_qwen2),
        cmocka_unit_test(test_sentencepiece), cmocka_unit_test(test_r50k),
        cmocka_unit_test(test_p50k),          cmocka_unit_test(test_cl100k),
        cmocka_unit_test(test_o200k),         cmocka_unit_test(test_two_forms),
        cmocka_unit_test(test_nfkd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
