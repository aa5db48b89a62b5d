/* Vocabularies of GGUF files against the encodings published with them, and against
 * goldens of the original tokenizer libraries. */
#include "conformance/vocab_support.h"

#include "format/gguf.h"
#include "model/vocab.h"

struct loaded {
    struct gguf_file *file;
    struct model_vocab *vocab;
    const struct text_tokenizer *tokenizer;
};

static void load(struct loaded *l, const char *relative)
{
    assert_ok(
        gguf_open(&l->file, &base_alloc_default, test_data(relative), GGUF_OPEN_METADATA_ONLY));
    assert_ok(model_vocab_load(&l->vocab, &base_alloc_default, l->file));
    l->tokenizer = model_vocab_tokenizer(l->vocab);
}

static void unload(struct loaded *l)
{
    model_vocab_destroy(&l->vocab);
    gguf_close(&l->file);
}

static void check_vocab(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/llamacpp_vocab/ggml-vocab-%s.gguf", name);
    struct loaded l;
    load(&l, path);
    size_t texts = vocab_check_inp_out(l.tokenizer, name);
    size_t bytes = vocab_check_texts(l.tokenizer, name);
    print_message("%s: %zu texts of .inp/.out, %zu bytes there and back, %zu KiB\n", name, texts,
                  bytes, model_vocab_memory_bytes(l.vocab) / 1024);
    unload(&l);
}

static void test_llama_spm(void **state)
{
    (void)state;
    check_vocab("llama-spm");
}

static void test_gpt_2(void **state)
{
    (void)state;
    check_vocab("gpt-2");
}

static void test_falcon(void **state)
{
    (void)state;
    check_vocab("falcon");
}

static void test_deepseek_llm(void **state)
{
    (void)state;
    check_vocab("deepseek-llm");
}

static void test_mpt(void **state)
{
    (void)state;
    check_vocab("mpt");
}

static void test_refact(void **state)
{
    (void)state;
    check_vocab("refact");
}

/* No encodings are published with it; it names no pre-tokenizer either. */
static void test_gpt_neox(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, "tokenizers/llamacpp_vocab/ggml-vocab-gpt-neox.gguf");
    size_t bytes = vocab_check_texts(l.tokenizer, "gpt-neox");
    print_message("gpt-neox: %zu bytes there and back\n", bytes);
    unload(&l);
}

static void test_llama2_sentencepiece(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, "tokenizers/llamacpp_vocab/ggml-vocab-llama-spm.gguf");
    size_t n = vocab_check_goldens(l.tokenizer, "goldens_sentencepiece.json", "llama2", "ids", 0);
    print_message("llama2: %zu texts of sentencepiece\n", n);
    unload(&l);
}

/* No byte tokens: what has no token is unknown. */
static void test_tinystories(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, "llm/TinyStories-656K/TinyStories-656K.f32.gguf");
    size_t n = vocab_check_goldens(l.tokenizer, "goldens_hf_tokenizers.json", "TinyStories-656K",
                                   "ids", TEXT_ENCODE_SPECIAL);
    print_message("TinyStories-656K: %zu texts of tokenizers\n", n);
    unload(&l);
}

static void test_falcon_goldens(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, "tokenizers/llamacpp_vocab/ggml-vocab-falcon.gguf");
    size_t n = vocab_check_goldens(l.tokenizer, "goldens_hf_tokenizers.json", "falcon", "ids",
                                   TEXT_ENCODE_SPECIAL);
    print_message("falcon: %zu texts of tokenizers\n", n);
    unload(&l);
}

static void test_swift(void **state)
{
    (void)state;
    static const struct {
        const char *vocab, *file;
    } rows[] = {
        {"llama-spm", "llama_encoded.json"},
        {"gpt-2", "gpt2_encoded_tokens.json"},
        {"falcon", "falcon_encoded.json"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        struct loaded l;
        char path[256];
        snprintf(path, sizeof path, "tokenizers/llamacpp_vocab/ggml-vocab-%s.gguf", rows[i].vocab);
        load(&l, path);
        vocab_check_swift(l.tokenizer, rows[i].file, TEXT_ENCODE_ADD);
        unload(&l);
    }
}

static void test_bert_bge(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, "tokenizers/llamacpp_vocab/ggml-vocab-bert-bge.gguf");
    size_t texts = vocab_check_inp_out(l.tokenizer, "bert-bge");
    size_t questions = vocab_check_questions(l.tokenizer);
    vocab_check_swift(l.tokenizer, "bert_uncased_encoded.json", TEXT_ENCODE_ADD);
    print_message("bert-bge: %zu texts of .inp/.out, %zu questions, %zu KiB\n", texts, questions,
                  model_vocab_memory_bytes(l.vocab) / 1024);
    unload(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_spm),   cmocka_unit_test(test_gpt_2),
        cmocka_unit_test(test_falcon),      cmocka_unit_test(test_deepseek_llm),
        cmocka_unit_test(test_mpt),         cmocka_unit_test(test_refact),
        cmocka_unit_test(test_gpt_neox),    cmocka_unit_test(test_llama2_sentencepiece),
        cmocka_unit_test(test_tinystories), cmocka_unit_test(test_falcon_goldens),
        cmocka_unit_test(test_swift),       cmocka_unit_test(test_bert_bge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
