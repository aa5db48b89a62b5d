/* What lies beside a model of Sentence Transformers, and what tokenizers say of pairs: from the
 * files to the model's values, and through a GGUF file. */
#include "encoder_fixture.h"
#include "format/gguf_draft.h"
#include "support/hf_folder.h"

#define MODULE(name) "{\"type\": \"sentence_transformers.models." name "\"}"

static const char *const all_modules =
    "[" MODULE("Transformer") "," MODULE("Pooling") "," MODULE("Normalize") "]";

/* A folder of a tiny BERT with the files that are given; NULL: without. */
static void make(struct hf_folder *f, const char *modules, const char *pooling,
                 const char *sentences, const char *sentence_bert)
{
    struct arch_fixture fixture = {.root = encoder_fixture("bert")};
    hf_folder_make(f);
    arch_fixture_write(&fixture, f->path, "F32");
    json_decref(fixture.root);
    if (pooling)
        hf_folder_subfolder(f, "1_Pooling");
    if (pooling)
        hf_folder_text(f, "1_Pooling/config.json", pooling);
    if (modules)
        hf_folder_text(f, "modules.json", modules);
    if (sentences)
        hf_folder_text(f, "config_sentence_transformers.json", sentences);
    if (sentence_bert)
        hf_folder_text(f, "sentence_bert_config.json", sentence_bert);
}

static void check(const char *path, const struct model_pooling *want)
{
    struct encoder_case e;
    encoder_open(&e, path, &(const struct encoder_setup){.max_tokens = 8});
    const struct model_pooling *p = &e.model->pooling;
    assert_int_equal(p->kind, want->kind);
    assert_int_equal(p->head, want->head);
    assert_int_equal(p->normalize, want->normalize);
    assert_int_equal(p->include_prompt, want->include_prompt);
    assert_int_equal(p->max_tokens, want->max_tokens);
    assert_string_equal(p->query_prompt, want->query_prompt);
    assert_string_equal(p->document_prompt, want->document_prompt);
    encoder_close(&e);
}

/* From the folder, and from the file that comes of it. */
static void check_both(struct hf_folder *f, const struct model_pooling *want)
{
    char file[300];
    snprintf(file, sizeof file, "%s/model.gguf", f->path);
    check(f->path, want);
    encoder_convert(f->path, file, "keep");
    check(file, want);
    hf_folder_remove(f);
}

static void test_nothing_beside_the_model(void **state)
{
    struct hf_folder f;
    BASE_UNUSED(state);
    make(&f, NULL, NULL, NULL, NULL);
    check_both(&f, &(const struct model_pooling){MODEL_POOLING_NONE, MODEL_POOLING_CLS, 0, 1, 0, "",
                                                 "", ""});
}

static void test_everything(void **state)
{
    struct hf_folder f;
    BASE_UNUSED(state);
    make(&f, all_modules,
         "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false, "
         "\"include_prompt\": false}",
         "{\"prompts\": {\"query\": \"query: \", \"passage\": \"passage: \", \"other\": \"x\"}}",
         "{\"max_seq_length\": 32, \"do_lower_case\": false}");
    check_both(&f, &(const struct model_pooling){MODEL_POOLING_CLS, MODEL_POOLING_CLS, 1, 0, 32,
                                                 "query: ", "passage: ", ""});
}

static void test_ways_of_pooling(void **state)
{
    static const struct {
        const char *config;
        enum model_pooling_kind kind;
    } ways[] = {
        {"{\"pooling_mode_mean_tokens\": true}", MODEL_POOLING_MEAN},
        {"{\"pooling_mode_max_tokens\": true}", MODEL_POOLING_MAX},
        {"{\"pooling_mode_lasttoken\": true}", MODEL_POOLING_LAST},
        {"{\"pooling_mode\": \"lasttoken\"}", MODEL_POOLING_LAST},
        {"{\"pooling_mode\": \"mean\"}", MODEL_POOLING_MEAN},
        {NULL, MODEL_POOLING_MEAN},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(ways); i++) {
        struct hf_folder f;
        make(&f, "[" MODULE("Transformer") "," MODULE("Pooling") "]", ways[i].config, NULL, NULL);
        check_both(&f, &(const struct model_pooling){ways[i].kind, MODEL_POOLING_CLS, 0, 1, 0, "",
                                                     "", ""});
    }
}

/* Loads what must not load. */
static void refuse(struct hf_folder *f, infer_status status, const char *sentence)
{
    struct infer_device *device;
    struct infer_model *model = NULL;
    assert_ok(device_create(&device, &(const struct device_config){.n_threads = 1}));
    const struct model_load_config config = {
        .alloc = &base_alloc_default, .device = device, .kv_type = -1};
    assert_int_equal(model_load(&model, f->path, &config), status);
    if (!strstr(test_error_text(), sentence))
        fail_msg("%s", test_error_text());
    device_release(&device);
    hf_folder_remove(f);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *modules, *pooling;
        infer_status status;
        const char *sentence;
    } cases[] = {
        {"[" MODULE("Transformer") "," MODULE("Dense") "]", NULL, INFER_ERR_UNSUPPORTED,
         "modules of type \"Dense\""},
        {"{}", NULL, INFER_ERR_FORMAT, "no JSON list"},
        {all_modules, "[]", INFER_ERR_FORMAT, "no JSON object"},
        {all_modules, "{}", INFER_ERR_UNSUPPORTED, "names no pooling"},
        {all_modules, "{\"pooling_mode\": \"weightedmean\"}", INFER_ERR_UNSUPPORTED,
         "pooling by weightedmean"},
        {all_modules, "{\"pooling_mode_mean_tokens\": true, \"pooling_mode_cls_token\": true}",
         INFER_ERR_UNSUPPORTED, "more than one way"},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct hf_folder f;
        make(&f, cases[i].modules, cases[i].pooling, NULL, NULL);
        refuse(&f, cases[i].status, cases[i].sentence);
    }
}

/* Files of other writers have a number alone. */
static void test_numbers_of_gguf(void **state)
{
    static const struct {
        uint32_t type;
        infer_status status;
        enum model_pooling_kind kind;
        int32_t normalize;
    } cases[] = {
        {0, INFER_OK, MODEL_POOLING_NONE, 0}, {1, INFER_OK, MODEL_POOLING_MEAN, 1},
        {2, INFER_OK, MODEL_POOLING_CLS, 1},  {3, INFER_OK, MODEL_POOLING_LAST, 1},
        {4, INFER_OK, MODEL_POOLING_NONE, 0}, {5, INFER_ERR_FORMAT, MODEL_POOLING_NONE, 0},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct gguf_draft *draft;
        struct gguf_file *file = NULL;
        struct base_arena arena;
        struct model_pooling p = {0};
        assert_ok(gguf_draft_create(&draft, &base_alloc_default, "memory"));
        assert_ok(gguf_draft_u32(draft, "bert.pooling_type", cases[i].type));
        assert_ok(gguf_draft_finish(&draft, &file));
        base_arena_init(&arena, &base_alloc_default);
        assert_int_equal(model_pooling_read(&p, &arena, "bert", file), cases[i].status);
        if (cases[i].status == INFER_OK) {
            assert_int_equal(p.kind, cases[i].kind);
            assert_int_equal(p.normalize, cases[i].normalize);
        }
        base_arena_release(&arena);
        gguf_close(&file);
    }
}

/* ------------------------------------------------------------------- pairs */

#define SPECIAL(name)        "{\"SpecialToken\": {\"id\": \"" name "\", \"type_id\": 0}}"
#define SEQUENCE(name, type) "{\"Sequence\": {\"id\": \"" name "\", \"type_id\": " type "}}"
#define SINGLE               "[" SPECIAL("<|begin|>") "," SEQUENCE("A", "0") "," SPECIAL("<|end|>") "]"

/* The post-processor of the fixtures' tokenizer becomes another one. */
static void set_processor(const struct hf_folder *f, const char *processor)
{
    json_error_t error;
    const char *path = hf_folder_path(f, "tokenizer.json");
    json_t *root = json_load_file(path, 0, &error), *part = json_loads(processor, 0, &error);
    if (!root || !part)
        fail_msg("%s", error.text);
    json_object_set_new(root, "post_processor", part);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

static void test_templates_of_pairs(void **state)
{
    enum { BEGIN = 285, END = 286, PAD = 287 };
    static const struct {
        const char *processor;
        int32_t n_between, second_type;
        infer_token between[2];
    } cases[] = {
        {"{\"type\": \"TemplateProcessing\", \"single\": " SINGLE ", \"pair\": "
         "[" SPECIAL("<|begin|>") "," SEQUENCE("A", "0") "," SPECIAL("<|pad|>") "," SPECIAL(
             "<|end|>") "," SEQUENCE("B", "0") "," SPECIAL("<|end|>") "]}",
         2,
         0,
         {PAD, END}},
        {"{\"type\": \"TemplateProcessing\", \"single\": " SINGLE ", \"pair\": "
         "[" SPECIAL("<|begin|>") "," SEQUENCE("A", "0") "," SPECIAL("<|end|>") "," SEQUENCE(
             "B", "1") "," SPECIAL("<|end|>") "]}",
         1,
         1,
         {END}},
        {"{\"type\": \"RobertaProcessing\", \"cls\": [\"<|begin|>\", 285], \"sep\": "
         "[\"<|end|>\", 286]}",
         2,
         0,
         {END, END}},
        {"{\"type\": \"BertProcessing\", \"cls\": [\"<|begin|>\", 285], \"sep\": "
         "[\"<|end|>\", 286]}",
         1,
         1,
         {END}},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct hf_folder f;
        char file[300];
        make(&f, NULL, NULL, NULL, NULL);
        set_processor(&f, cases[i].processor);
        snprintf(file, sizeof file, "%s/model.gguf", f.path);
        encoder_convert(f.path, file, "keep");
        for (int converted = 0; converted < 2; converted++) {
            struct encoder_case e;
            encoder_open(&e, converted ? file : f.path,
                         &(const struct encoder_setup){.max_tokens = 8});
            const struct model_frame frame = model_frame_of(e.model);
            assert_int_equal(frame.before, BEGIN);
            assert_int_equal(frame.after, END);
            assert_int_equal(frame.n_between, cases[i].n_between);
            assert_int_equal(frame.second_type, cases[i].second_type);
            for (int32_t k = 0; k < frame.n_between; k++)
                assert_int_equal(frame.between[k], cases[i].between[k]);
            encoder_close(&e);
        }
        hf_folder_remove(&f);
    }
}

static void test_too_much_between(void **state)
{
    struct hf_folder f;
    BASE_UNUSED(state);
    make(&f, NULL, NULL, NULL, NULL);
    set_processor(
        &f,
        "{\"type\": \"TemplateProcessing\", \"single\": " SINGLE ", \"pair\": "
        "[" SEQUENCE("A", "0") "," SPECIAL("<|end|>") "," SPECIAL("<|end|>") "," SPECIAL(
            "<|end|>") "," SPECIAL("<|end|>") "," SPECIAL("<|end|>") "," SEQUENCE("B", "0") "]}");
    refuse(&f, INFER_ERR_UNSUPPORTED, "between two texts");
}

/* A vocabulary of five tokens without keys of this library; `pair` (n of them, NULL: none) becomes
 * the key of what is between. */
static infer_status load_vocab(struct model_vocab **out, struct gguf_file **file, const char *model,
                               const int32_t *pair, size_t n)
{
    static const char *const texts[] = {"<pad>", "<unk>", "<s>", "</s>", "\xE2\x96\x81\x61"};
    struct base_view tokens[BASE_COUNT(texts)];
    const float scores[BASE_COUNT(texts)] = {0};
    struct gguf_draft *d;
    for (size_t i = 0; i < BASE_COUNT(texts); i++)
        tokens[i] = (struct base_view){texts[i], strlen(texts[i])};
    assert_ok(gguf_draft_create(&d, &base_alloc_default, "memory"));
    assert_ok(
        gguf_draft_string(d, "tokenizer.ggml.model", (struct base_view){model, strlen(model)}));
    assert_ok(gguf_draft_strings(d, "tokenizer.ggml.tokens", tokens, BASE_COUNT(texts)));
    assert_ok(gguf_draft_f32s(d, "tokenizer.ggml.scores", scores, BASE_COUNT(texts)));
    assert_ok(gguf_draft_u32(d, "tokenizer.ggml.unknown_token_id", 1));
    assert_ok(gguf_draft_u32(d, "tokenizer.ggml.bos_token_id", 2));
    assert_ok(gguf_draft_u32(d, "tokenizer.ggml.eos_token_id", 3));
    assert_ok(gguf_draft_u32(d, "tokenizer.ggml.seperator_token_id", 3));
    if (pair)
        assert_ok(gguf_draft_i32s(d, "tokenizer.infer.pair_between", pair, n));
    assert_ok(gguf_draft_finish(&d, file));
    return model_vocab_load(out, &base_alloc_default, *file);
}

static void test_pairs_of_other_writers(void **state)
{
    static const int32_t own[] = {0, 3}, far_off[] = {5}, many[] = {3, 3, 3, 3, 3};
    static const struct {
        const char *model;
        const int32_t *pair;
        size_t n;
        infer_status status;
        int32_t n_between, second_type;
        infer_token first;
    } cases[] = {
        {"bert", NULL, 0, INFER_OK, 1, 1, 3},
        {"t5", NULL, 0, INFER_OK, 2, 0, 3},
        {"t5", own, 2, INFER_OK, 2, 0, 0},
        {"bert", far_off, 1, INFER_ERR_FORMAT, 0, 0, 0},
        {"bert", many, 5, INFER_ERR_FORMAT, 0, 0, 0},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct model_vocab *vocab = NULL;
        struct gguf_file *file = NULL;
        int32_t n = 0;
        assert_int_equal(load_vocab(&vocab, &file, cases[i].model, cases[i].pair, cases[i].n),
                         cases[i].status);
        if (cases[i].status == INFER_OK) {
            assert_int_equal(model_vocab_between(vocab, &n)[0], cases[i].first);
            assert_int_equal(n, cases[i].n_between);
            assert_int_equal(model_vocab_second_type(vocab), cases[i].second_type);
        }
        model_vocab_destroy(&vocab);
        gguf_close(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_beside_the_model),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_ways_of_pooling),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_numbers_of_gguf),
        cmocka_unit_test(test_templates_of_pairs),
        cmocka_unit_test(test_too_much_between),
        cmocka_unit_test(test_pairs_of_other_writers),
    };
    return cmocka_run_group_tests_name("pooling", tests, NULL, NULL);
}
