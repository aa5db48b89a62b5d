/* "normalizer" and "pre_tokenizer" of tokenizer.json: steps, patterns, and where spaces go. */
#include "base/error.h"
#include "base/str.h"
#include "model/hf_base64.h"
#include "model/hf_pattern.h"
#include "model/hf_tokenizer_internal.h"

#define MAX_DEPTH 8 /* of sequences in sequences */
#define SPACE     "\xE2\x96\x81"
/* What Rust calls punctuation: that of Unicode, and the rest of ASCII's signs. */
#define PUNCTUATION "\\p{P}$+<=>^~|`"

static infer_status add_word(struct hf_vocab *v, struct base_view word)
{
    if (v->n_steps == HF_MAX_STEPS)
        return base_error(INFER_ERR_LIMIT, "tokenizer.json: normalizer has too many steps");
    v->steps[v->n_steps++] = word;
    return INFER_OK;
}

infer_status hf_vocab_step(struct hf_vocab *v, const char *name)
{
    return add_word(v, (struct base_view){name, strlen(name)});
}

/* The pattern of a Replace or Split; `plain` says that it was text, which is quoted on wish. */
static infer_status read_pattern(struct hf_vocab *v, const struct base_json *j, int quote,
                                 struct base_view *out, int *plain)
{
    struct base_view text;
    struct base_str s;
    base_str_init(&s, &v->arena.alloc, 0);
    infer_status st = INFER_OK;
    *plain = 0;
    if (base_json_string(j, &text) || hf_json_text(j, "String", &text)) {
        *plain = 1;
        st = quote ? hf_pattern_quote(text, &s) : base_str_append(&s, text.data, text.size);
    } else if (hf_json_text(j, "Regex", &text)) {
        st = hf_pattern_translate(text, &s);
    } else {
        st = base_error(INFER_ERR_UNSUPPORTED,
                        "tokenizer.json: a pattern that is neither String nor Regex");
    }
    if (st == INFER_OK) {
        out->data = base_arena_strdup(&v->arena, s.data ? s.data : "", s.size);
        out->size = s.size;
        st = out->data ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    base_str_release(&s);
    return st;
}

/* Spaces become U+2581 in the vocabularies of SentencePiece: their encoders do that anyway. */
static infer_status read_replace(struct hf_vocab *v, const struct base_json *j)
{
    struct base_view from, to = {"", 0};
    int plain;
    infer_status st = read_pattern(v, base_json_get(j, "pattern"), 0, &from, &plain);
    if (st != INFER_OK)
        return st;
    if (!hf_json_text(j, "content", &to))
        return base_error(INFER_ERR_FORMAT, "tokenizer.json: normalizer Replace has no content");
    if (plain && base_view_equal(from, " ") && base_view_equal(to, SPACE)) {
        v->escapes_spaces = 1;
        return INFER_OK;
    }
    st = hf_vocab_step(v, plain ? "replace" : "replace_regex");
    if (st == INFER_OK)
        st = add_word(v, from);
    return st == INFER_OK ? add_word(v, to) : st;
}

static infer_status read_prepend(struct hf_vocab *v, const struct base_json *j)
{
    struct base_view text = {"", 0};
    (void)hf_json_text(j, "prepend", &text);
    if (base_view_equal(text, SPACE)) {
        v->space_prefix = TEXT_PREFIX_SPACE;
        return INFER_OK;
    }
    infer_status st = hf_vocab_step(v, "prepend");
    return st == INFER_OK ? add_word(v, text) : st;
}

static infer_status read_charsmap(struct hf_vocab *v, const struct base_json *j)
{
    struct base_view text;
    if (!hf_json_text(j, "precompiled_charsmap", &text))
        return base_error(INFER_ERR_FORMAT,
                          "tokenizer.json: normalizer Precompiled has no precompiled_charsmap");
    char *bytes = base_arena_new(&v->arena, text.size / 4 * 3 + 3, 1);
    if (!bytes)
        return INFER_ERR_NO_MEMORY;
    size_t n = 0;
    if (!hf_base64_decode(text, bytes, &n))
        return base_error(INFER_ERR_FORMAT,
                          "tokenizer.json: normalizer Precompiled is no valid base64");
    v->charsmap = (struct base_view){bytes, n};
    return hf_vocab_step(v, "charsmap");
}

static infer_status read_bert(struct hf_vocab *v, const struct base_json *j)
{
    int lower = hf_json_flag(j, "lowercase", 1);
    int accents = hf_json_flag(j, "strip_accents", lower);
    if (v->kind != HF_WORDPIECE)
        return hf_unsupported("normalizer (of another model than WordPiece)", j);
    v->bert_keep = (lower ? 0 : TEXT_BERT_KEEP_CASE) | (accents ? 0 : TEXT_BERT_KEEP_ACCENTS) |
                   (hf_json_flag(j, "handle_chinese_chars", 1) ? 0 : TEXT_BERT_KEEP_CJK) |
                   (hf_json_flag(j, "clean_text", 1) ? 0 : TEXT_BERT_KEEP_CONTROL);
    return INFER_OK;
}

static infer_status read_strip(struct hf_vocab *v, const struct base_json *j)
{
    infer_status st = INFER_OK;
    if (hf_json_flag(j, "strip_left", 1))
        st = hf_vocab_step(v, "strip_left");
    if (st == INFER_OK && hf_json_flag(j, "strip_right", 1))
        st = hf_vocab_step(v, "strip_right");
    return st;
}

static infer_status read_step(struct hf_vocab *v, const struct base_json *j)
{
    static const struct {
        const char *type, *step;
    } simple[] = {{"NFC", "nfc"},
                  {"NFD", "nfd"},
                  {"NFKC", "nfkc"},
                  {"NFKD", "nfkd"},
                  {"Lowercase", "lowercase"},
                  {"StripAccents", "strip_accents"},
                  {"Nmt", "nmt"}};
    for (size_t i = 0; i < BASE_COUNT(simple); i++)
        if (hf_json_type_is(j, simple[i].type))
            return hf_vocab_step(v, simple[i].step);
    if (hf_json_type_is(j, "Replace"))
        return read_replace(v, j);
    if (hf_json_type_is(j, "Prepend"))
        return read_prepend(v, j);
    if (hf_json_type_is(j, "Precompiled"))
        return read_charsmap(v, j);
    if (hf_json_type_is(j, "BertNormalizer"))
        return read_bert(v, j);
    if (hf_json_type_is(j, "Strip"))
        return read_strip(v, j);
    if (hf_json_type_is(j, "ByteLevel")) {
        v->is_byte_level = 1;
        return INFER_OK;
    }
    return hf_unsupported("normalizer", j);
}

/* Calls `read` for a part, or for all parts of a sequence in their order. */
static infer_status each_part(struct hf_vocab *v, const struct base_json *j, const char *list,
                              int depth,
                              infer_status (*read)(struct hf_vocab *, const struct base_json *))
{
    if (!j || base_json_is(j, BASE_JSON_NULL))
        return INFER_OK;
    if (!hf_json_type_is(j, "Sequence"))
        return read(v, j);
    const struct base_json *parts = base_json_get(j, list);
    if (!base_json_is(parts, BASE_JSON_ARRAY) || depth == MAX_DEPTH)
        return base_error(INFER_ERR_FORMAT, "tokenizer.json: a Sequence without %s, or too deep",
                          list);
    infer_status st = INFER_OK;
    for (size_t i = 0; i < parts->n && st == INFER_OK; i++)
        st = each_part(v, &parts->as.items[i], list, depth + 1, read);
    return st;
}

infer_status hf_vocab_read_normalizer(struct hf_vocab *v, const struct base_json *j)
{
    if (v->kind == HF_WORDPIECE) /* without BertNormalizer nothing is changed */
        v->bert_keep = TEXT_BERT_KEEP_CASE | TEXT_BERT_KEEP_ACCENTS | TEXT_BERT_KEEP_CJK |
                       TEXT_BERT_KEEP_CONTROL;
    return each_part(v, j, "normalizers", 0, read_step);
}

static infer_status add_pattern(struct hf_vocab *v, struct base_view pattern, int32_t use)
{
    if (v->n_patterns == TEXT_PRE_MAX_PATTERNS)
        return base_error(INFER_ERR_LIMIT, "tokenizer.json: pre_tokenizer has more than %d parts",
                          TEXT_PRE_MAX_PATTERNS);
    v->uses[v->n_patterns] = use;
    v->patterns[v->n_patterns++] = text_pretokenizer_spelling(pattern);
    return INFER_OK;
}

infer_status hf_vocab_pattern(struct hf_vocab *v, const char *pattern, int32_t use)
{
    struct base_str s;
    base_str_init(&s, &v->arena.alloc, 0);
    infer_status st = hf_pattern_translate((struct base_view){pattern, strlen(pattern)}, &s);
    const char *copy = NULL;
    if (st == INFER_OK) {
        copy = base_arena_strdup(&v->arena, s.data, s.size);
        st = copy ? add_pattern(v, (struct base_view){copy, s.size}, use) : INFER_ERR_NO_MEMORY;
    }
    base_str_release(&s);
    return st;
}

/* prefix PATTERN suffix */
static infer_status wrap_pattern(struct hf_vocab *v, const char *prefix, struct base_view pattern,
                                 const char *suffix)
{
    struct base_str s;
    base_str_init(&s, &v->arena.alloc, 0);
    infer_status st = base_str_append(&s, prefix, strlen(prefix));
    if (st == INFER_OK)
        st = base_str_append(&s, pattern.data, pattern.size);
    if (st == INFER_OK)
        st = base_str_append(&s, suffix, strlen(suffix));
    const char *copy = st == INFER_OK ? base_arena_strdup(&v->arena, s.data, s.size) : NULL;
    if (st == INFER_OK)
        st = copy ? add_pattern(v, (struct base_view){copy, s.size}, TEXT_PRE_SPLIT)
                  : INFER_ERR_NO_MEMORY;
    base_str_release(&s);
    return st;
}

/* Behaviours of Split and Punctuation, all told as matches and gaps that are pieces. */
static infer_status add_behaviour(struct hf_vocab *v, const struct base_json *j,
                                  struct base_view pattern, struct base_view repeated)
{
    struct base_view how = {"Isolated", 8};
    (void)hf_json_text(j, "behavior", &how);
    int invert = hf_json_flag(j, "invert", 0);
    if (base_view_equal(how, "Isolated"))
        return add_pattern(v, pattern, TEXT_PRE_SPLIT);
    if (base_view_equal(how, "Removed"))
        return add_pattern(v, pattern, invert ? TEXT_PRE_KEEP : TEXT_PRE_DROP);
    if (!invert && base_view_equal(how, "Contiguous"))
        return repeated.size ? add_pattern(v, repeated, TEXT_PRE_SPLIT)
                             : wrap_pattern(v, "(?:", pattern, ")+");
    if (!invert && base_view_equal(how, "MergedWithPrevious"))
        return wrap_pattern(v, "\\G(?s:.*?)(?:", pattern, ")");
    if (!invert && base_view_equal(how, "MergedWithNext")) {
        struct base_str s;
        base_str_init(&s, &v->arena.alloc, 0);
        infer_status st = base_str_appendf(&s, ")(?s:(?!%.*s).)*", (int)pattern.size, pattern.data);
        if (st == INFER_OK)
            st = wrap_pattern(v, "(?:", pattern, s.data);
        base_str_release(&s);
        return st;
    }
    return base_error(INFER_ERR_UNSUPPORTED,
                      "tokenizer.json: pre_tokenizer behavior '%.*s'%s is not supported",
                      (int)BASE_MIN(how.size, (size_t)64), how.data, invert ? ", inverted," : "");
}

/* A pattern after the bytes became characters of the alphabet: only digits mean the same. */
static int only_digits(struct base_view pattern)
{
    for (size_t i = 0; i < pattern.size; i++)
        if (!strchr("[0-9]{,}", pattern.data[i]))
            return 0;
    return 1;
}

static infer_status read_split(struct hf_vocab *v, const struct base_json *j)
{
    struct base_view pattern, how = {"", 0};
    int plain;
    infer_status st = read_pattern(v, base_json_get(j, "pattern"), 1, &pattern, &plain);
    if (st != INFER_OK)
        return st;
    (void)hf_json_text(j, "behavior", &how);
    /* Spaces are U+2581 by then: there is nothing left to split at. */
    if (v->kind == HF_CHAR_BPE && v->escapes_spaces && plain && base_view_equal(pattern, " "))
        return INFER_OK;
    if (v->kind == HF_CHAR_BPE)
        return hf_unsupported("pre_tokenizer (of a BPE over characters)", j);
    if (v->is_byte_level && v->n_patterns && !only_digits(pattern))
        return hf_unsupported("pre_tokenizer after ByteLevel", j);
    return add_behaviour(v, j, pattern, (struct base_view){"", 0});
}

static infer_status read_byte_level(struct hf_vocab *v, const struct base_json *j)
{
    v->is_byte_level = 1;
    if (hf_json_flag(j, "add_prefix_space", 1)) {
        if (v->n_patterns)
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tokenizer.json: pre_tokenizer ByteLevel with add_prefix_space "
                              "behind others is not supported");
        v->space_prefix = TEXT_PREFIX_SPACE | TEXT_PREFIX_MISSING;
    }
    if (!hf_json_flag(j, "use_regex", 1))
        return INFER_OK;
    return hf_vocab_pattern(v,
                            "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
                            "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                            TEXT_PRE_SPLIT);
}

static infer_status read_metaspace(struct hf_vocab *v, const struct base_json *j)
{
    struct base_view replacement = {SPACE, 3}, scheme = {"always", 6};
    (void)hf_json_text(j, "replacement", &replacement);
    if (!base_view_equal(replacement, SPACE) || v->kind == HF_BYTE_BPE || v->kind == HF_WORDPIECE)
        return hf_unsupported("pre_tokenizer (with this replacement or model)", j);
    if (!hf_json_text(j, "prepend_scheme", &scheme) && !hf_json_flag(j, "add_prefix_space", 1))
        scheme = (struct base_view){"never", 5};
    v->escapes_spaces = 1;
    if (base_view_equal(scheme, "always"))
        v->space_prefix = TEXT_PREFIX_SPACE | TEXT_PREFIX_MISSING;
    else if (base_view_equal(scheme, "first"))
        v->space_prefix = TEXT_PREFIX_SPACE | TEXT_PREFIX_MISSING | TEXT_PREFIX_FIRST;
    return INFER_OK;
}

/* Spaces part words and vanish; in a unigram vocabulary each word then begins with U+2581. */
static infer_status read_white_space(struct hf_vocab *v, const struct base_json *j)
{
    if (v->kind == HF_UNIGRAM)
        return hf_vocab_step(v, "squeeze_space");
    if (v->kind == HF_BYTE_BPE)
        return hf_vocab_pattern(v, "\\s+", TEXT_PRE_DROP);
    return hf_unsupported("pre_tokenizer", j);
}

static infer_status read_digits(struct hf_vocab *v, const struct base_json *j)
{
    if (v->kind != HF_BYTE_BPE)
        return hf_unsupported("pre_tokenizer (of this model)", j);
    /* Falcon does this when bytes are characters already, some of which look like digits; no
     * merge of its vocabulary crosses such a place. */
    if (v->is_byte_level && v->n_patterns)
        return INFER_OK;
    return hf_vocab_pattern(v, hf_json_flag(j, "individual_digits", 0) ? "\\p{N}" : "\\p{N}+",
                            TEXT_PRE_SPLIT);
}

static infer_status read_pre(struct hf_vocab *v, const struct base_json *j)
{
    if (hf_json_type_is(j, "Metaspace"))
        return read_metaspace(v, j);
    if (hf_json_type_is(j, "BertPreTokenizer") && v->kind == HF_WORDPIECE)
        return INFER_OK; /* what WordPiece does by itself */
    if (hf_json_type_is(j, "WhitespaceSplit"))
        return read_white_space(v, j);
    if (v->kind == HF_WORDPIECE || v->kind == HF_UNIGRAM)
        return hf_unsupported("pre_tokenizer", j);
    if (hf_json_type_is(j, "Split"))
        return read_split(v, j);
    if (hf_json_type_is(j, "ByteLevel"))
        return read_byte_level(v, j);
    if (hf_json_type_is(j, "Digits"))
        return read_digits(v, j);
    if (hf_json_type_is(j, "Punctuation"))
        return add_behaviour(
            v, j, (struct base_view){"[" PUNCTUATION "]", sizeof "[" PUNCTUATION "]" - 1},
            (struct base_view){"[" PUNCTUATION "]+", sizeof "[" PUNCTUATION "]+" - 1});
    if (hf_json_type_is(j, "Whitespace"))
        return hf_vocab_pattern(v, "\\w+|[^\\w\\s]+", TEXT_PRE_KEEP);
    return hf_unsupported("pre_tokenizer", j);
}

infer_status hf_vocab_read_pre_tokenizer(struct hf_vocab *v, const struct base_json *j)
{
    return each_part(v, j, "pretokenizers", 0, read_pre);
}
