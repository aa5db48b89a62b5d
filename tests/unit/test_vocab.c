/* Vocabulary keys of GGUF: defaults, checks, and every allocation failing once. */
#include "support/gguf_builder.h"
#include "support/test.h"
#include "support/test_alloc.h"
#include "unit/tiny_vocab.h"

#include "model/vocab.h"

#define KEY(name) "tokenizer.ggml." name

static struct tiny_vocab tiny;

/* What a file says; keys left 0 are not written. */
struct keys {
    const char *model, *pre, *chat_template;
    int no_tokens, no_scores, no_types, no_merges;
    int64_t n_scores, n_types;
    struct {
        const char *key;
        int32_t type;
        int64_t value;
    } ints[8];
};

struct image {
    uint8_t *data;
    size_t size;
};

static struct image build(const struct keys *k)
{
    struct gguf_builder *b = gguf_builder_new();
    size_t n = tiny.vocab.n_tokens;
    if (k->model)
        gguf_builder_string(b, KEY("model"), k->model);
    if (k->pre)
        gguf_builder_string(b, KEY("pre"), k->pre);
    if (!k->no_tokens)
        gguf_builder_views(b, KEY("tokens"), tiny.tokens, n);
    if (!k->no_scores)
        gguf_builder_array(b, KEY("scores"), GGUF_F32, tiny.scores,
                           k->n_scores ? (uint64_t)k->n_scores : n);
    if (!k->no_types)
        gguf_builder_array(b, KEY("token_type"), GGUF_I32, tiny.types,
                           k->n_types ? (uint64_t)k->n_types : n);
    if (!k->no_merges && tiny.vocab.n_merges)
        gguf_builder_views(b, KEY("merges"), tiny.merges, tiny.vocab.n_merges);
    for (size_t i = 0; i < BASE_COUNT(k->ints) && k->ints[i].key; i++)
        gguf_builder_int(b, k->ints[i].key, k->ints[i].type, k->ints[i].value);
    if (k->chat_template)
        gguf_builder_string(b, "tokenizer.chat_template", k->chat_template);
    struct image image;
    image.data = gguf_builder_finish(b, &image.size);
    gguf_builder_free(b);
    return image;
}

/* Opens and loads; on success the caller closes both. */
static infer_status load(const struct image *image, const struct base_alloc *a,
                         struct gguf_file **file, struct model_vocab **vocab)
{
    *file = NULL;
    *vocab = NULL;
    assert_ok(gguf_open_memory(file, &base_alloc_default, image->data, image->size, 0));
    infer_status st = model_vocab_load(vocab, a, *file);
    if (st != INFER_OK) {
        assert_null(*vocab);
        gguf_close(file);
    }
    return st;
}

static void refused(const struct keys *k, infer_status status, const char *words)
{
    struct image image = build(k);
    struct gguf_file *file;
    struct model_vocab *vocab;
    struct test_alloc a;
    test_alloc_init(&a);
    infer_status got = load(&image, &a.alloc, &file, &vocab);
    if (got != status || !strstr(test_error_text(), words))
        fail_msg("gave %d '%s', expected %d and '%s'", (int)got, test_error_text(), (int)status,
                 words);
    assert_int_equal(a.live_blocks, 0);
    free(image.data);
}

/* Loads, and gives back what was read: its numbers, for its pointers are stale. */
static struct text_vocab read_back(const struct keys *k)
{
    struct image image = build(k);
    struct gguf_file *file;
    struct model_vocab *vocab;
    assert_ok(load(&image, &base_alloc_default, &file, &vocab));
    struct text_vocab text = *model_vocab_text(vocab);
    assert_true(model_vocab_memory_bytes(vocab) > 1000);
    model_vocab_destroy(&vocab);
    assert_null(vocab);
    model_vocab_destroy(&vocab);
    gguf_close(&file);
    free(image.data);
    return text;
}

static void test_sentencepiece_defaults(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    struct text_vocab v = read_back(&(struct keys){.model = "llama"});
    assert_int_equal(v.kind, TEXT_SPM);
    assert_int_equal(v.bos, 1);
    assert_int_equal(v.eos, 2);
    assert_int_equal(v.unk, 0);
    assert_int_equal(v.eot, -1);
    assert_int_equal(v.pad, -1);
    assert_true(v.add_bos && !v.add_eos && v.add_space_prefix);
    v = read_back(&(struct keys){.model = "llama",
                                 .pre = "default",
                                 .ints = {{KEY("add_bos_token"), GGUF_BOOL, 0},
                                          {KEY("add_eos_token"), GGUF_BOOL, 1},
                                          {KEY("add_space_prefix"), GGUF_BOOL, 0},
                                          {KEY("bos_token_id"), GGUF_U32, 7},
                                          {KEY("eot_token_id"), GGUF_I64, 8},
                                          {KEY("padding_token_id"), GGUF_U16, 9}}});
    assert_true(!v.add_bos && v.add_eos && !v.add_space_prefix);
    assert_int_equal(v.bos, 7);
    assert_int_equal(v.eot, 8);
    assert_int_equal(v.pad, 9);
}

static void test_byte_level_defaults(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    struct text_vocab v = read_back(&(struct keys){.model = "gpt2", .no_scores = 1});
    assert_int_equal(v.kind, TEXT_BPE);
    assert_true(v.bos == -1 && v.eos == -1 && v.unk == -1 && v.eot == -1 && v.pad == -1);
    assert_true(!v.add_bos && !v.add_eos && !v.add_space_prefix);
    assert_int_equal(v.n_merges, tiny.vocab.n_merges);
    v = read_back(&(struct keys){
        .model = "gpt2", .pre = "llama-bpe", .ints = {{KEY("bos_token_id"), GGUF_U32, 270}}});
    assert_true(v.add_bos && v.bos == 270);
    /* Without types every token is a normal one. */
    v = read_back(&(struct keys){.model = "gpt2", .pre = "gpt-2", .no_types = 1});
    assert_null(v.types);
}

static void test_chat_template(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    struct image image = build(&(struct keys){.model = "llama", .chat_template = "{{ bos }}"});
    struct gguf_file *file;
    struct model_vocab *vocab;
    assert_ok(load(&image, &base_alloc_default, &file, &vocab));
    struct base_view source = model_vocab_chat_template(vocab);
    assert_int_equal(source.size, 9);
    assert_memory_equal(source.data, "{{ bos }}", 9);
    assert_ptr_equal(text_tokenizer_vocab(model_vocab_tokenizer(vocab))->tokens,
                     model_vocab_text(vocab)->tokens);
    model_vocab_destroy(&vocab);
    gguf_close(&file);
    free(image.data);
    image = build(&(struct keys){.model = "llama"});
    assert_ok(load(&image, &base_alloc_default, &file, &vocab));
    assert_null(model_vocab_chat_template(vocab).data);
    model_vocab_destroy(&vocab);
    gguf_close(&file);
    free(image.data);
}

static void test_refusals(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    int64_t n = (int64_t)tiny.vocab.n_tokens;
    refused(&(struct keys){.model = NULL}, INFER_ERR_NOT_FOUND, KEY("model"));
    refused(&(struct keys){.model = "rwkv"}, INFER_ERR_UNSUPPORTED, "'rwkv'");
    refused(&(struct keys){.model = "llama", .no_tokens = 1}, INFER_ERR_NOT_FOUND, KEY("tokens"));
    refused(&(struct keys){.model = "llama", .no_scores = 1}, INFER_ERR_NOT_FOUND, KEY("scores"));
    refused(&(struct keys){.model = "llama", .n_scores = n - 1}, INFER_ERR_FORMAT, KEY("scores"));
    refused(&(struct keys){.model = "llama", .n_types = n - 1}, INFER_ERR_FORMAT,
            KEY("token_type"));
    refused(&(struct keys){.model = "llama", .ints = {{KEY("bos_token_id"), GGUF_U32, n}}},
            INFER_ERR_FORMAT, KEY("bos_token_id"));
    refused(&(struct keys){.model = "llama", .ints = {{KEY("eos_token_id"), GGUF_I32, -1}}},
            INFER_ERR_FORMAT, KEY("eos_token_id"));
    refused(&(struct keys){.model = "llama", .ints = {{KEY("eot_token_id"), GGUF_BOOL, 1}}},
            INFER_ERR_FORMAT, KEY("eot_token_id"));
    refused(&(struct keys){.model = "llama", .ints = {{KEY("add_bos_token"), GGUF_U32, 1}}},
            INFER_ERR_FORMAT, KEY("add_bos_token"));
    tiny.types[5] = 99;
    refused(&(struct keys){.model = "llama"}, INFER_ERR_FORMAT, "token 5 has type 99");
    tiny_bpe(&tiny);
    refused(&(struct keys){.model = "gpt2", .pre = "odd"}, INFER_ERR_UNSUPPORTED, "'odd'");
    refused(&(struct keys){.model = "gpt2", .no_merges = 1}, INFER_ERR_NOT_FOUND, KEY("merges"));
    refused(&(struct keys){.model = "gpt2", .ints = {{KEY("add_bos_token"), GGUF_BOOL, 1}}},
            INFER_ERR_FORMAT, "BOS is to be added");
}

/* Keys that hold something else than the name promises. */
static void test_wrong_types(void **state)
{
    (void)state;
    static const char *const names[] = {KEY("tokens"), KEY("scores"), KEY("token_type")};
    tiny_spm(&tiny, 1);
    for (size_t wrong = 0; wrong < BASE_COUNT(names); wrong++) {
        for (int form = 0; form < 3; form++) {
            struct gguf_builder *b = gguf_builder_new();
            size_t n = tiny.vocab.n_tokens;
            gguf_builder_string(b, KEY("model"), "llama");
            for (size_t i = 0; i < BASE_COUNT(names); i++) {
                if (i == wrong && form == 0)
                    gguf_builder_int(b, names[i], GGUF_U32, 1);
                else if (i == wrong && form == 1)
                    gguf_builder_array(b, names[i], GGUF_U8, tiny.texts, i == 2 ? n - 1 : n);
                else if (i == wrong)
                    gguf_builder_string(b, names[i], "text");
                else if (i == 0)
                    gguf_builder_views(b, names[i], tiny.tokens, n);
                else
                    gguf_builder_array(b, names[i], i == 1 ? GGUF_F32 : GGUF_I32,
                                       i == 1 ? (void *)tiny.scores : (void *)tiny.types, n);
            }
            struct image image;
            image.data = gguf_builder_finish(b, &image.size);
            gguf_builder_free(b);
            struct gguf_file *file;
            struct model_vocab *vocab;
            assert_int_equal(load(&image, &base_alloc_default, &file, &vocab), INFER_ERR_FORMAT);
            assert_non_null(strstr(test_error_text(), names[wrong]));
            free(image.data);
        }
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        kind ? tiny_bpe(&tiny) : tiny_spm(&tiny, 1);
        struct image image = build(&(struct keys){.model = kind ? "gpt2" : "llama"});
        size_t n = 1;
        for (int done = 0; !done; n++) {
            struct test_alloc a;
            struct gguf_file *file;
            struct model_vocab *vocab;
            test_alloc_init(&a);
            a.fail_at = n;
            infer_status st = load(&image, &a.alloc, &file, &vocab);
            done = a.n_calls < n;
            assert_true(st == INFER_OK || (!done && st == INFER_ERR_NO_MEMORY));
            if (st == INFER_OK) {
                model_vocab_destroy(&vocab);
                gguf_close(&file);
            }
            assert_int_equal(a.live_blocks, 0);
        }
        assert_true(n > 8);
        free(image.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentencepiece_defaults),
        cmocka_unit_test(test_byte_level_defaults),
        cmocka_unit_test(test_chat_template),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
