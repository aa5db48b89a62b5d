/* tokenizer.json and its like, a part at a time: what each part does to a text, what is refused
 * and by which name, and that no failing allocation leaks. The corpora of the fuzz targets
 * serve as small whole files. */
#include "support/test.h"
#include "support/test_alloc.h"

#include "base/json.h"
#include "base/str.h"
#include "format/sentencepiece.h"
#include "model/hf_pattern.h"
#include "model/hf_tokenizer.h"
#include "model/vocab.h"
#include "text/normalize.h"
#include "text/stream_decode.h"

static struct base_view view(const char *text)
{
    return (struct base_view){text, strlen(text)};
}

struct loaded {
    struct base_arena arena;
    struct gguf_draft *draft;
    struct gguf_file *file;
    struct model_vocab *vocab;
};

static infer_status load(struct loaded *l, const struct base_alloc *a, const char *json,
                         size_t size)
{
    const struct base_json *root = NULL;
    *l = (struct loaded){0};
    base_arena_init(&l->arena, a);
    infer_status st = base_json_parse(&root, &l->arena, json, size);
    struct hf_tokenizer_files files = {.tokenizer = root,
                                       .config = base_json_get(root, "config"),
                                       .model = base_json_get(root, "model_config"),
                                       .generation = base_json_get(root, "generation")};
    if (st == INFER_OK)
        st = gguf_draft_create(&l->draft, a, "test");
    if (st == INFER_OK)
        st = hf_tokenizer_write(l->draft, a, &files);
    if (st == INFER_OK)
        st = gguf_draft_finish(&l->draft, &l->file);
    return st == INFER_OK ? model_vocab_load(&l->vocab, a, l->file) : st;
}

static void unload(struct loaded *l)
{
    model_vocab_destroy(&l->vocab);
    gguf_close(&l->file);
    gguf_draft_destroy(&l->draft);
    base_arena_release(&l->arena);
}

/* The tokens of a text as the vocabulary writes them, joined with "|". */
static const char *tokens(const struct model_vocab *vocab, const char *text, uint32_t flags)
{
    static char joined[2048];
    const struct text_vocab *v = model_vocab_text(vocab);
    text_tokens ids = {0};
    size_t n = 0;
    assert_ok(text_tokenizer_encode(model_vocab_tokenizer(vocab), &base_alloc_default, text,
                                    strlen(text), flags, &ids));
    for (size_t i = 0; i < ids.size; i++) {
        struct base_view t = v->tokens[ids.data[i]];
        assert_true(n + t.size + 2 < sizeof joined);
        memcpy(joined + n, t.data, t.size);
        n += t.size;
        joined[n++] = '|';
    }
    joined[n ? n - 1 : 0] = 0;
    base_array_release(&base_alloc_default, &ids);
    return joined;
}

#define SP      "\xE2\x96\x81"
#define SPECIAL TEXT_ENCODE_SPECIAL

/* A vocabulary of single letters over characters, with a part to try. */
#define CHARS(added, parts)                                                                        \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true}" added "]," parts        \
    ",\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"" SP            \
    "\":1,\"a\":2,\"b\":3,\"c\":4,\"ab\":5,\"" SP "a\":6},\"merges\":[[\"a\",\"b\"],[\"" SP        \
    "\",\"a\"]]}}"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SP "\"}"
#define METASPACE(scheme)                                                                          \
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" SP                              \
    "\",\"prepend_scheme\":\"" scheme "\"}"
#define ADDED(flag)                                                                                \
    ",{\"id\":7,\"content\":\"<x>\",\"special\":true,\"" flag                                      \
    "\":true},{\"id\":8,\"content\":\"cc\"}"

/* The same over bytes. */
#define BYTES(normalizer, pre)                                                                     \
    "{\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre                                        \
    ",\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\","       \
    "\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"1\":3,\"\xC4\xA0\":4,\"-\":5,\"aa\":6,\"11\":7,"         \
    "\"ba\":8,\"--\":9,\"\xC4\xA0"                                                                 \
    "a\":10,\"bb\":11},\"merges\":[\"a a\",\"1 1\",\"b a\",\"- -\","                               \
    "\"\xC4\xA0 a\",\"b b\"]}}"
#define SPLIT(pattern, behavior)                                                                   \
    "{\"type\":\"Split\",\"pattern\":" pattern ",\"behavior\":\"" behavior "\"}"

static void test_parts(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text, *tokens;
    } rows[] = {
        {CHARS("", "\"normalizer\":" REPLACE), "ab a", "ab|" SP "a"},
        {CHARS("", "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
                   "\"prepend\":\"" SP "\"}," REPLACE "]}"),
         "ab a", SP "|ab|" SP "a"},
        {CHARS(ADDED("lstrip"), METASPACE("always")), "a <x> a", SP "a|<x>|" SP "a"},
        {CHARS(ADDED("rstrip"), METASPACE("first")), "a <x>  a", SP "a|" SP "|<x>|a"},
        {CHARS(ADDED("single_word"), METASPACE("never")), "a<x>a <x> b",
         "a|<unk>|<unk>|<unk>|a|" SP "|<x>|" SP "|b"},
        {CHARS(ADDED("normalized"), METASPACE("first")), "<x>a cc", "<x>|a|" SP "|cc"},
        {CHARS("", METASPACE("always")), " a", SP "a"},
        {CHARS("", METASPACE("always")), "zz", SP "|<unk>|<unk>"},
        {BYTES("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"), "a a",
         "\xC4\xA0"
         "a|\xC4\xA0"
         "a"},
        {BYTES("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"),
         "11--aabb", "11|--|aa|bb"},
        {BYTES("{\"type\":\"Lowercase\"}", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"),
         "AAb", "aa|b"},
        {BYTES("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":"
               "\"StripAccents\"}]}",
               "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"),
         "\xC3\xA1"
         "a",
         "aa"},
        {BYTES("null", SPLIT("{\"String\":\"a\"}", "Isolated")), "baab", "b|a|a|b"},
        {BYTES("null", SPLIT("{\"String\":\"a\"}", "Removed")), "baabab", "b|b|b"},
        {BYTES("null", SPLIT("{\"Regex\":\"a\"}", "Contiguous")), "baab", "b|aa|b"},
        {BYTES("null", SPLIT("{\"String\":\"a\"}", "MergedWithPrevious")), "bbaab", "b|ba|a|b"},
        {BYTES("null", SPLIT("{\"String\":\"b\"}", "MergedWithNext")), "aabab", "aa|ba|b"},
        {BYTES("null", "{\"type\":\"Digits\",\"individual_digits\":true}"), "11aa", "1|1|aa"},
        {BYTES("null", "{\"type\":\"Digits\",\"individual_digits\":false}"), "11aa", "11|aa"},
        {BYTES("null", "{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"}"), "--aa", "-|-|aa"},
        {BYTES("null", "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}"), "a--a", "a|--|a"},
        {BYTES("null", "{\"type\":\"WhitespaceSplit\"}"), " aa  bb ", "aa|bb"},
        {BYTES("null", "{\"type\":\"Whitespace\"}"), "aa-- bb", "aa|--|bb"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        struct loaded l;
        assert_ok(load(&l, &base_alloc_default, rows[i].json, strlen(rows[i].json)));
        const char *got = tokens(l.vocab, rows[i].text, SPECIAL);
        if (strcmp(got, rows[i].tokens) != 0)
            fail_msg("row %zu: '%s' became '%s', expected '%s'", i, rows[i].text, got,
                     rows[i].tokens);
        unload(&l);
    }
}

static const struct {
    const char *json;
    infer_status status;
    const char *words;
} refusals[] = {
    {"{}", INFER_ERR_FORMAT, "model is absent"},
    {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", INFER_ERR_UNSUPPORTED, "WordLevel"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]},\"decoder\":{\"type\":"
     "\"ByteLevel\"}}",
     INFER_ERR_FORMAT, "model.vocab"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]},\"decoder\":{"
     "\"type\":\"ByteLevel\"}}",
     INFER_ERR_FORMAT, "the same id 1"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2000000},\"merges\":[]},\"decoder\":{"
     "\"type\":\"ByteLevel\"}}",
     INFER_ERR_LIMIT, "2000000"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]},\"decoder\":{"
     "\"type\":\"ByteLevel\"}}",
     INFER_ERR_FORMAT, "empty"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[1]},\"decoder\":{\"type\":"
     "\"ByteLevel\"}}",
     INFER_ERR_FORMAT, "merge 0"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":"
     "\"</w>\"},\"decoder\":{\"type\":\"ByteLevel\"}}",
     INFER_ERR_UNSUPPORTED, "end_of_word_suffix '</w>'"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", INFER_ERR_UNSUPPORTED,
     "over characters"},
    {BYTES("{\"type\":\"Unknown\"}", "null"), INFER_ERR_UNSUPPORTED, "normalizer 'Unknown'"},
    {BYTES("null", "{\"type\":\"UnicodeScripts\"}"), INFER_ERR_UNSUPPORTED,
     "pre_tokenizer 'UnicodeScripts'"},
    {BYTES("null", SPLIT("{\"Regex\":\"[a[b]]\"}", "Isolated")), INFER_ERR_UNSUPPORTED,
     "a set within a set"},
    {BYTES("null", SPLIT("{\"Regex\":\"(a\"}", "Isolated")), INFER_ERR_FORMAT, "'(a'"},
    {BYTES("null", SPLIT("{\"Regex\":\"a\"}", "Elsewhere")), INFER_ERR_UNSUPPORTED, "'Elsewhere'"},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\"]]}}", INFER_ERR_FORMAT,
     "token 0"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]]},\"config\":{}}", INFER_ERR_FORMAT,
     "unknown token"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"****\"},\"model\":{"
     "\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",0]]}}",
     INFER_ERR_FORMAT, "base64"},
    {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"},"
     "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",0]]}}",
     INFER_ERR_FORMAT, "character map"},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
     "\"id\":\"none\"}}]},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\",0]]}}",
     INFER_ERR_FORMAT, "'none'"},
    {"{\"post_processor\":{\"type\":\"Odd\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"
     "\"vocab\":[[\"a\",0]]}}",
     INFER_ERR_UNSUPPORTED, "post_processor 'Odd'"},
    {"{\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"@@\",\"vocab\":{"
     "\"a\":0}}}",
     INFER_ERR_UNSUPPORTED, "'@@'"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(refusals); i++) {
        struct loaded l;
        struct test_alloc a;
        test_alloc_init(&a);
        infer_status st = load(&l, &a.alloc, refusals[i].json, strlen(refusals[i].json));
        if (st != refusals[i].status ||
            (st != INFER_OK && !strstr(test_error_text(), refusals[i].words)))
            fail_msg("row %zu gave %d '%s', expected %d and '%s'", i, (int)st, test_error_text(),
                     (int)refusals[i].status, refusals[i].words);
        unload(&l);
        assert_int_equal(a.live_blocks, 0);
    }
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *onig, *pcre;
    } rows[] = {
        {"\\s+(?!\\S)", "\\p{WSpace}+(?!\\P{WSpace})"},
        {"[^\\s\\p{L}\\d]", "[^\\p{WSpace}\\p{L}\\p{Nd}]"},
        {"\\h+", "[0-9A-Fa-f]+"},
        {"(?m:.)(?i:a)(?-m:b)", "(?s:.)(?i:a)(?-s:b)"},
        {"[\\p{Lu}\\p{M}&&[^\\p{Han}]]*", "(?:(?![\\p{sc:Han}])[\\p{Lu}\\p{M}])*"},
        {"[a&&[b]]", "(?:(?=[b])[a])"},
        {"\xE4\xB8\x80\\u00e9\n", "\\x{4E00}\\x{00e9}\\n"},
        {"^a{,3}$", "(?m:^)a{0,3}(?m:$)"},
        {"[[:alpha:]]\\[", "[[:alpha:]]\\["},
        {"a?+b++", "a?+b++"},
        {"\\p{^L}\\P{Hiragana}[\\p{Letter}]", "\\P{L}\\P{sc:Hiragana}[\\p{L}]"},
    };
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 0);
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        base_str_clear(&out);
        assert_ok(hf_pattern_translate(view(rows[i].onig), &out));
        assert_string_equal(out.data, rows[i].pcre);
        struct text_regex *re = NULL;
        assert_ok(text_regex_create(&re, &base_alloc_default,
                                    (struct base_view){out.data, out.size}, TEXT_REGEX_FOREIGN));
        text_regex_destroy(&re);
    }
    static const char *const bad[] = {"[a", "\\pL", "\\", "[\\W]", "[a[b]]", "[^a&&[b]]", "\\u12"};
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        assert_int_equal(hf_pattern_translate(view(bad[i]), &out), INFER_ERR_UNSUPPORTED);
    base_str_clear(&out);
    assert_ok(hf_pattern_quote(view("a.b|\n"), &out));
    assert_string_equal(out.data, "a\\.b\\|\\n");
    base_str_release(&out);
}

static void test_known_patterns_get_names(void **state)
{
    (void)state;
    static const struct {
        const char *json, *name;
    } rows[] = {
        {BYTES("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"), "gpt-2"},
        {BYTES(
             "null",
             SPLIT("{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]"
                   "?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]"
                   "+|\\\\s+(?!\\\\S)|\\\\s+\"}",
                   "Isolated")),
         "qwen2"},
        {BYTES("null",
               SPLIT("{\"Regex\":\"'(?i:[sdmt]|ll|ve|re)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?+\\\\p{L}"
                     "+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]++[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]|"
                     "\\\\s+(?!\\\\S)|\\\\s+\"}",
                     "Removed\",\"invert\":true,\"x\":\"")),
         "dbrx"},
        {BYTES("null", SPLIT("{\"Regex\":\"\\\\p{N}+\"}", "Isolated")), ""},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        struct loaded l;
        assert_ok(load(&l, &base_alloc_default, rows[i].json, strlen(rows[i].json)));
        assert_string_equal(model_vocab_pre(l.vocab), rows[i].name);
        unload(&l);
    }
}

static const struct {
    const char *steps[4];
    const char *from, *to;
} normals[] = {
    {{"nfc"}, "e\xCC\x81x a", "\xC3\xA9x a"},
    {{"nfd"}, "\xC3\xA9", "e\xCC\x81"},
    {{"nfkc"},
     "\xEF\xBC\xA1\xC2\xBD",
     "A1\xE2\x81\x84"
     "2"},
    {{"nfkd"}, "\xEF\xAC\x81", "fi"},
    {{"nfc"}, "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"}, /* Hangul */
    {{"nfc"},
     "a\xCC\x81\xFF"
     "e\xCC\x81",
     "\xC3\xA1\xFF\xC3\xA9"},
    {{"lowercase"}, "A\xC4\xB0\xCE\xA3", "ai\xCC\x87\xCF\x83"},
    {{"strip_accents"}, "e\xCC\x81", "e"},
    {{"strip_left"},
     " \xE3\x80\x80"
     "a ",
     "a "},
    {{"strip_right"}, " a\xC2\xA0\n", " a"},
    {{"squeeze"}, "  a   b \n ", "a b \n"},
    {{"squeeze_space"}, " \n a\t\xE3\x80\x80 b ", "a b"},
    {{"squeeze"}, "   ", ""},
    {{"nmt"},
     "a\tb\x01"
     "c\xE2\x80\x8B",
     "a bc "},
    {{"prepend", "_"}, "a", "_a"},
    {{"prepend", "_"}, "", ""},
    {{"replace", "``", "\""}, "``a``", "\"a\""},
    {{"replace_regex", " {2,}", " "}, "a   b c", "a b c"},
    {{"replace_regex", "x*", "y"}, "ab", "ab"}, /* empty matches change nothing */
    {{"charsmap"}, "a\xFF", "a\xEF\xBF\xBD"},
    {{"lowercase", "strip_left", "nfc"}, " \xC3\x89 ", "\xC3\xA9 "},
};

static void test_normalizer(void **state)
{
    (void)state;
    struct text_normal_work work;
    text_normal_work_init(&work, &base_alloc_default);
    for (size_t i = 0; i < BASE_COUNT(normals); i++) {
        struct text_normalizer z;
        struct base_view steps[4], text = view(normals[i].from);
        size_t n = 0;
        for (; n < 4 && normals[i].steps[n]; n++)
            steps[n] = view(normals[i].steps[n]);
        assert_ok(text_normalizer_init(&z, &base_alloc_default, steps, n, view("")));
        assert_ok(text_normalize(&z, &work, &text));
        if (text.size != strlen(normals[i].to) || memcmp(text.data, normals[i].to, text.size) != 0)
            fail_msg("row %zu: '%s' became '%.*s', expected '%s'", i, normals[i].from,
                     (int)text.size, text.data, normals[i].to);
        text_normalizer_release(&z);
    }
    text_normal_work_release(&work);
    struct text_normalizer z;
    struct base_view bad[] = {view("odd"), view("replace"), view("x")};
    assert_int_equal(text_normalizer_init(&z, &base_alloc_default, bad, 1, view("")),
                     INFER_ERR_UNSUPPORTED);
    assert_int_equal(text_normalizer_init(&z, &base_alloc_default, bad + 1, 2, view("")),
                     INFER_ERR_FORMAT);
}

/* Marks without end on one letter, which ordering naively takes quadratic time. */
static void test_long_marks(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    struct text_normalizer z;
    struct text_normal_work work;
    struct base_view step = view("nfc");
    char *text = malloc(SIZE);
    assert_non_null(text);
    for (size_t i = 0; i + 4 <= SIZE; i += 4)
        memcpy(text + i, "\xCC\x81\xCC\xA7", 4);
    struct base_view v = {text, SIZE};
    text_normal_work_init(&work, &base_alloc_default);
    assert_ok(text_normalizer_init(&z, &base_alloc_default, &step, 1, view("")));
    assert_ok(text_normalize(&z, &work, &v));
    assert_int_equal(v.size, SIZE);
    text_normalizer_release(&z);
    text_normal_work_release(&work);
    free(text);
}

/* Any bytes as a map: no read outside of them, however its links lead. */
static void test_hostile_charsmap(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        size_t units = 1 + test_rand(&seed) % 64, size = 4 + 4 * units + 8;
        uint8_t *blob = malloc(size);
        assert_non_null(blob);
        for (size_t i = 0; i < size; i++)
            blob[i] = (uint8_t)(test_rand(&seed) >> (test_rand(&seed) % 9));
        uint32_t bytes = (uint32_t)(4 * units);
        memcpy(blob, &bytes, 4);
        blob[size - 1] = 0;
        struct text_charsmap m;
        assert_ok(text_charsmap_init(&m, (struct base_view){(const char *)blob, size}));
        char text[64];
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)test_rand(&seed);
        for (size_t i = 0; i < sizeof text; i++) {
            struct base_view to;
            size_t n = text_charsmap_find(&m, text + i, sizeof text - i, &to);
            assert_true(n <= sizeof text - i);
        }
        free(blob);
    }
    struct text_charsmap m;
    assert_int_equal(text_charsmap_init(&m, (struct base_view){"\1", 1}), INFER_ERR_FORMAT);
    assert_int_equal(text_charsmap_init(&m, (struct base_view){"\x08\0\0\0abcd", 8}),
                     INFER_ERR_FORMAT);
    assert_int_equal(text_charsmap_init(&m, (struct base_view){"\4\0\0\0abcdx", 9}),
                     INFER_ERR_FORMAT);
}

static void test_broken_sentencepiece(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t size;
        const char *words;
    } rows[] = {
        {"\x0A", 1, "ends within a number"},
        {"\x0A\x05\x0A\x09"
         "abc",
         7, "longer than its message"},
        {"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 11, "byte"},
        {"\x08\x01", 2, "wrong type"},
        {"\x0B", 1, "wire type"},
        {"\x02", 1, "field number"},
        {"\x0A\x02\x18\x09", 4, "unknown type"},
        {"\x12\x02\x18\x01", 4, "without pieces"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        struct sentencepiece s;
        infer_status st = sentencepiece_read(&s, &base_alloc_default,
                                             (struct base_view){rows[i].data, rows[i].size});
        if (st != INFER_ERR_FORMAT || !strstr(test_error_text(), rows[i].words))
            fail_msg("row %zu gave %d '%s', expected '%s'", i, (int)st, test_error_text(),
                     rows[i].words);
    }
}

/* Gemma 4 as GGUF files have it: merges of characters, lines apart, runs of line ends whole. */
static void test_gemma4(void **state)
{
    (void)state;
    struct base_view texts[] = {view("<unk>"), view("<bos>"),  view(SP),      view("a"),
                                view("b"),     view("\n"),     view("\n\n"),  view("ab"),
                                view(SP "ab"), view("<0xFF>"), view("<turn>")};
    struct base_view merges[] = {view("a b"), view(SP " ab")};
    int32_t types[] = {2, 3, 1, 1, 1, 1, 1, 1, 1, 6, 3};
    struct gguf_draft *d = NULL;
    struct gguf_file *file = NULL;
    struct model_vocab *vocab = NULL;
    assert_ok(gguf_draft_create(&d, &base_alloc_default, "gemma4"));
    assert_ok(gguf_draft_string(d, "tokenizer.ggml.model", view("gemma4")));
    assert_ok(gguf_draft_strings(d, "tokenizer.ggml.tokens", texts, BASE_COUNT(texts)));
    assert_ok(gguf_draft_i32s(d, "tokenizer.ggml.token_type", types, BASE_COUNT(types)));
    assert_ok(gguf_draft_strings(d, "tokenizer.ggml.merges", merges, BASE_COUNT(merges)));
    assert_ok(gguf_draft_u32(d, "tokenizer.ggml.bos_token_id", 1));
    assert_ok(gguf_draft_u32(d, "tokenizer.ggml.unknown_token_id", 0));
    assert_ok(gguf_draft_bool(d, "tokenizer.ggml.add_bos_token", 0));
    assert_ok(gguf_draft_finish(&d, &file));
    assert_ok(model_vocab_load(&vocab, &base_alloc_default, file));
    assert_string_equal(tokens(vocab, "ab ab\n\nab\n\n\n", TEXT_ENCODE_ADD),
                        "<bos>|ab|" SP "ab|\n\n|ab|\n|\n|\n");
    model_vocab_destroy(&vocab);
    gguf_close(&file);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    static const char *const names[] = {"bpe-behaviours", "bpe-bytes", "chars", "wordpiece",
                                        "unigram"};
    for (size_t k = 0; k < BASE_COUNT(names); k++) {
        char path[128];
        size_t size;
        snprintf(path, sizeof path, "tests/fuzz/corpus/tokenizer_json/%s", names[k]);
        char *json = test_read(test_source(path), &size);
        size_t n = 1;
        for (int done = 0; !done; n++) {
            struct test_alloc a;
            struct loaded l;
            test_alloc_init(&a);
            a.fail_at = n;
            text_tokens ids = {0};
            infer_status st = load(&l, &a.alloc, json, size);
            if (st == INFER_OK)
                st = text_tokenizer_encode(model_vocab_tokenizer(l.vocab), &a.alloc,
                                           "Hello \xC3\xA9"
                                           "e\xCC\x81 abab, 12",
                                           20, SPECIAL | TEXT_ENCODE_ADD, &ids);
            done = a.n_calls < n;
            if (st != INFER_OK && (done || st != INFER_ERR_NO_MEMORY))
                fail_msg("%s, allocation %zu: %d '%s'", names[k], n, (int)st, test_error_text());
            base_array_release(&a.alloc, &ids);
            unload(&l);
            assert_int_equal(a.live_blocks, 0);
        }
        assert_true(n > 20);
        free(json);
    }
}

/* The ids of a text come back as the text, its words with one space between them. */
static void test_decoding(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text, *back;
    } rows[] = {
        {"wordpiece", "Hello,  hello 123", "hello , hello 123"},
        {"unigram", " abab  ab ", "abab ab"},
        {"chars", "ab hel", "ab hel"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        char path[128];
        size_t size;
        struct loaded l;
        snprintf(path, sizeof path, "tests/fuzz/corpus/tokenizer_json/%s", rows[i].file);
        char *json = test_read(test_source(path), &size);
        assert_ok(load(&l, &base_alloc_default, json, size));
        text_tokens ids = {0};
        struct base_str back;
        struct text_decoder decoder;
        const struct text_tokenizer *t = model_vocab_tokenizer(l.vocab);
        base_str_init(&back, &base_alloc_default, 0);
        assert_ok(text_tokenizer_encode(t, &base_alloc_default, rows[i].text, strlen(rows[i].text),
                                        TEXT_ENCODE_ADD, &ids));
        text_decoder_init(&decoder, t, 0, 0);
        for (size_t k = 0; k < ids.size; k++)
            assert_ok(text_decoder_push(&decoder, ids.data[k], &back));
        assert_ok(text_decoder_finish(&decoder, &back));
        assert_string_equal(back.data, rows[i].back);
        base_str_release(&back);
        base_array_release(&base_alloc_default, &ids);
        unload(&l);
        free(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_known_patterns_get_names),
        cmocka_unit_test(test_normalizer),
        cmocka_unit_test(test_long_marks),
        cmocka_unit_test(test_hostile_charsmap),
        cmocka_unit_test(test_broken_sentencepiece),
        cmocka_unit_test(test_gemma4),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
