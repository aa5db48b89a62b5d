/* Reads tokenizer.* keys of GGUF.
 *
 * Where a key is absent, the defaults are those of llama.cpp, which writes most
 * such files (src/llama-vocab.cpp, loading of the vocabulary): SentencePiece models
 * begin with BOS 1, end with EOS 2, have UNK 0, add BOS and a space; byte-level
 * models add BOS only with the pre-tokenizers of Llama 3 and Tekken. One default
 * is not taken over: byte-level models without a BOS or EOS key have none here,
 * where llama.cpp takes token 11, which is right for Falcon alone. */
#include "model/vocab.h"

#include "base/error.h"
#include "base/str.h"
#include "text/pretokenize.h"

#include <inttypes.h>

#define KEY(name) "tokenizer.ggml." name
#define OWN(name) "tokenizer.infer." name /* doc/tokenizers.md */

struct model_vocab {
    struct base_arena arena;
    struct text_vocab text;
    struct text_tokenizer *tokenizer;
    struct base_view chat_template;
    infer_token between[MODEL_BETWEEN_MAX];
    int32_t n_between, second_type;
    int32_t ranked;              /* merges say what merges, not scores */
    const char *pre, *bos, *eos; /* 0-terminated, in the arena */
};

/* An absent key leaves the preset value. */
static infer_status optional(infer_status st)
{
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

static infer_status read_kind(struct text_vocab *v, const struct gguf_file *file)
{
    struct base_view model;
    infer_status st = gguf_get_string(file, KEY("model"), &model);
    if (st != INFER_OK)
        return st;
    v->pre = (struct base_view){"", 0};
    static const struct {
        const char *model;
        int32_t kind;
    } kinds[] = {{"llama", TEXT_SPM},
                 {"gpt2", TEXT_BPE},
                 {"bert", TEXT_WORDPIECE},
                 {"t5", TEXT_UNIGRAM},
                 {"gemma4", TEXT_SPM}};
    for (size_t i = 0; i < BASE_COUNT(kinds) && !v->kind; i++)
        if (base_view_equal(model, kinds[i].model))
            v->kind = kinds[i].kind;
    if (!v->kind)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "key \"" KEY("model") "\" is '%.*s', supported are llama, gpt2, bert, t5 "
                                                "and gemma4",
                          (int)BASE_MIN(model.size, (size_t)64), model.data);
    st = optional(gguf_get_string(file, KEY("pre"), &v->pre));
    if (base_view_equal(model, "gemma4"))
        v->pre = (struct base_view){"gemma4", strlen("gemma4")};
    return st;
}

/* Byte-level models have a pre-tokenizer, and that may say that they are none. */
static infer_status preset_bpe(struct text_vocab *v, int has_patterns)
{
    uint32_t flags = 0;
    infer_status st = has_patterns ? INFER_OK : text_pretokenizer_flags(v->pre, &flags);
    if (st != INFER_OK)
        return base_error_prefix(st, "key \"" KEY("pre") "\"");
    v->add_bos = (flags & TEXT_PRE_ADD_BOS) != 0;
    if (flags & TEXT_PRE_CHARS) {
        v->kind = TEXT_SPM;
        v->splits_lines = 1;
    }
    return INFER_OK;
}

static infer_status preset(struct model_vocab *m, const struct gguf_file *file)
{
    struct text_vocab *v = &m->text;
    v->bos = v->eos = v->eot = v->unk = v->pad = -1;
    m->ranked = v->kind == TEXT_BPE || base_view_equal(v->pre, "gemma4");
    if (m->ranked)
        return preset_bpe(v, gguf_find(file, OWN("patterns")) != NULL);
    switch (v->kind) {
    case TEXT_SPM:
        v->bos = 1;
        v->eos = 2;
        v->unk = 0;
        v->add_bos = 1;
        v->add_space_prefix = TEXT_PREFIX_SPACE;
        break;
    case TEXT_WORDPIECE:
        v->bos = 101;
        v->eos = 102;
        v->unk = 100;
        v->pad = 0;
        v->add_bos = v->add_eos = 1;
        break;
    default:
        v->eos = 1;
        v->unk = 2;
        v->pad = 0;
        v->add_eos = 1;
    }
    int32_t ranked = 0;
    infer_status st = optional(gguf_get_bool(file, OWN("ranked"), &ranked));
    m->ranked = ranked;
    return st;
}

/* An array of strings; its views go into the arena. */
static infer_status read_strings(struct model_vocab *m, const struct gguf_file *file,
                                 const char *key, const struct base_view **out, size_t *n)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv)
        return base_error(INFER_ERR_NOT_FOUND, "key \"%s\" is absent", key);
    if (kv->type != GGUF_ARRAY || kv->element_type != GGUF_STRING) {
        char type[64];
        return base_error(INFER_ERR_FORMAT, "key \"%s\" has the type %s, expected an array of str",
                          key, gguf_kv_type_name(kv, type, sizeof type));
    }
    struct base_view *views = base_arena_new(&m->arena, kv->n, sizeof *views);
    if (!views)
        return INFER_ERR_NO_MEMORY;
    *out = views;
    *n = (size_t)kv->n;
    return gguf_array_strings(kv, views);
}

/* A key that holds one value for each token: NULL if absent. */
static infer_status find_column(const struct text_vocab *v, const struct gguf_file *file,
                                const char *key, const struct gguf_kv **out)
{
    *out = gguf_find(file, key);
    if (*out && (*out)->type == GGUF_ARRAY && (*out)->n != v->n_tokens)
        return base_error(INFER_ERR_FORMAT,
                          "key \"%s\" has %" PRIu64 " elements, expected one for each of the %zu "
                          "tokens",
                          key, (*out)->n, v->n_tokens);
    return INFER_OK;
}

/* Types are checked before memory is taken: a single value has n == 1. */
static infer_status read_columns(struct model_vocab *m, const struct gguf_file *file)
{
    struct text_vocab *v = &m->text;
    const struct gguf_kv *scores, *types;
    infer_status st = find_column(v, file, KEY("scores"), &scores);
    if (st == INFER_OK)
        st = find_column(v, file, KEY("token_type"), &types);
    if (st != INFER_OK)
        return st;
    int scored = v->kind == TEXT_UNIGRAM || (v->kind == TEXT_SPM && !m->ranked);
    if (scored && !scores)
        return base_error(INFER_ERR_NOT_FOUND, "key \"" KEY("scores") "\" is absent");
    if (scored) { /* other vocabularies may carry scores, all without meaning */
        float *values = base_arena_new(&m->arena, scores->n, sizeof *values);
        if (!values)
            return INFER_ERR_NO_MEMORY;
        v->scores = values;
        st = gguf_array_f32(scores, values);
    }
    if (st == INFER_OK && types) {
        int32_t *values = base_arena_new(&m->arena, types->n, sizeof *values);
        if (!values)
            return INFER_ERR_NO_MEMORY;
        v->types = values;
        st = gguf_array_i32(types, values);
    }
    return st;
}

static infer_status read_id(const struct text_vocab *v, const struct gguf_file *file,
                            const char *key, infer_token *out)
{
    int64_t id = -1;
    infer_status st = gguf_get_i64(file, key, &id);
    if (st == INFER_ERR_NOT_FOUND) {
        /* A default that this vocabulary is too small for is no token at all. */
        if (*out >= 0 && (size_t)*out >= v->n_tokens)
            *out = -1;
        return INFER_OK;
    }
    if (st != INFER_OK)
        return st;
    if (id < 0 || (uint64_t)id >= v->n_tokens)
        return base_error(INFER_ERR_FORMAT, "key \"%s\" is %" PRId64 ", expected a token below %zu",
                          key, id, v->n_tokens);
    *out = (infer_token)id;
    return INFER_OK;
}

/* What BERT calls CLS and SEP stands where others have BOS and EOS. */
static infer_status read_ids(struct text_vocab *v, const struct gguf_file *file)
{
    int bert = v->kind == TEXT_WORDPIECE;
    const struct {
        const char *key;
        infer_token *out;
        int skip;
    } ids[] = {
        {KEY("cls_token_id"), &v->bos, !bert}, {KEY("bos_token_id"), &v->bos, 0},
        {KEY("eos_token_id"), &v->eos, bert},  {KEY("seperator_token_id"), &v->eos, !bert},
        {KEY("eot_token_id"), &v->eot, 0},     {KEY("unknown_token_id"), &v->unk, 0},
        {KEY("padding_token_id"), &v->pad, 0},
    };
    infer_status st = INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(ids) && st == INFER_OK; i++)
        if (!ids[i].skip)
            st = read_id(v, file, ids[i].key, ids[i].out);
    return st;
}

static infer_status read_flags(struct text_vocab *v, const struct gguf_file *file)
{
    int32_t prefix = v->add_space_prefix != 0;
    infer_status st = optional(gguf_get_bool(file, KEY("add_bos_token"), &v->add_bos));
    if (base_view_equal(v->pre, "gemma4")) /* files of this family deny it wrongly */
        v->add_bos = v->bos >= 0;
    if (st == INFER_OK && v->kind == TEXT_WORDPIECE)
        st = optional(gguf_get_bool(file, KEY("add_sep_token"), &v->add_eos));
    else if (st == INFER_OK)
        st = optional(gguf_get_bool(file, KEY("add_eos_token"), &v->add_eos));
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, KEY("add_space_prefix"), &prefix));
    v->add_space_prefix = prefix ? TEXT_PREFIX_SPACE : 0;
    if (st == INFER_OK)
        st = optional(gguf_get_i32(file, OWN("space_prefix"), &v->add_space_prefix));
    return st;
}

/* Bytes; their number is checked by who reads them. */
static infer_status read_charsmap(struct text_vocab *v, const struct gguf_file *file)
{
    const char *key = KEY("precompiled_charsmap");
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv)
        return INFER_OK;
    if (kv->type != GGUF_ARRAY || (kv->element_type != GGUF_U8 && kv->element_type != GGUF_I8)) {
        char type[64];
        return base_error(INFER_ERR_FORMAT, "key \"%s\" has the type %s, expected an array of u8",
                          key, gguf_kv_type_name(kv, type, sizeof type));
    }
    v->charsmap = (struct base_view){(const char *)kv->data, (size_t)kv->bytes};
    return INFER_OK;
}

/* Own keys say it all; without them, what llama.cpp's keys mean. */
static infer_status read_normalizer(struct model_vocab *m, const struct gguf_file *file)
{
    struct text_vocab *v = &m->text;
    infer_status st = read_charsmap(v, file);
    if (st != INFER_OK)
        return st;
    if (gguf_find(file, OWN("normalizer")))
        return read_strings(m, file, OWN("normalizer"), &v->normalizer, &v->n_normalizer);
    if (v->kind != TEXT_UNIGRAM && v->kind != TEXT_SPM)
        return INFER_OK;
    static const struct base_view steps[] = {{"charsmap", 8}, {"squeeze", 7}};
    int32_t squeeze = 0, suffix = 0, escape = 1;
    st = optional(gguf_get_bool(file, KEY("remove_extra_whitespaces"), &squeeze));
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, KEY("treat_whitespace_as_suffix"), &suffix));
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, KEY("escape_whitespaces"), &escape));
    int map = v->kind == TEXT_UNIGRAM || v->charsmap.size;
    v->normalizer = map ? steps : steps + 1;
    v->n_normalizer = (size_t)(map + (squeeze != 0));
    if (suffix && v->add_space_prefix)
        v->add_space_prefix |= TEXT_PREFIX_BEHIND;
    v->plain_spaces = !escape && v->kind == TEXT_UNIGRAM;
    return st;
}

static infer_status read_bert(struct text_vocab *v, const struct gguf_file *file)
{
    int32_t lowercase = 1, accents, keep = 0, chars = 0;
    infer_status st = optional(gguf_get_bool(file, KEY("normalizer.lowercase"), &lowercase));
    accents = lowercase;
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, KEY("normalizer.strip_accents"), &accents));
    keep |= lowercase ? 0 : TEXT_BERT_KEEP_CASE;
    keep |= accents ? 0 : TEXT_BERT_KEEP_ACCENTS;
    if (st == INFER_OK)
        st = optional(gguf_get_i32(file, OWN("bert_keep"), &keep));
    if (st == INFER_OK)
        st = optional(gguf_get_i32(file, OWN("max_word_chars"), &chars));
    v->bert_keep = (uint32_t)keep;
    v->max_word_chars = (uint32_t)BASE_MAX(chars, 0);
    return st;
}

static infer_status read_numbers(struct model_vocab *m, const struct gguf_file *file,
                                 const char *key, size_t n, int32_t **out)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    *out = NULL;
    if (!kv)
        return INFER_OK;
    if (kv->type != GGUF_ARRAY || kv->n != n)
        return base_error(INFER_ERR_FORMAT, "key \"%s\" has %" PRIu64 " elements, expected %zu",
                          key, kv->n, n);
    *out = base_arena_new(&m->arena, n, sizeof **out);
    return *out ? gguf_array_i32(kv, *out) : INFER_ERR_NO_MEMORY;
}

/* What is between the texts of a pair. Without a key: two ends in the vocabularies of RoBERTa and
 * XLM-R, which have no types of tokens, else one. */
static infer_status read_pair(struct model_vocab *m, const struct gguf_file *file)
{
    const struct text_vocab *v = &m->text;
    const struct gguf_kv *kv = gguf_find(file, OWN("pair_between"));
    int twice = v->kind == TEXT_UNIGRAM || base_view_equal(v->pre, "roberta-bpe");
    int32_t *values = NULL;
    m->n_between = v->eos < 0 ? 0 : twice ? 2 : 1;
    for (int32_t i = 0; i < m->n_between; i++)
        m->between[i] = v->eos;
    m->second_type = v->kind == TEXT_WORDPIECE;
    infer_status st = optional(gguf_get_bool(file, OWN("pair_types"), &m->second_type));
    if (st != INFER_OK || !kv)
        return st;
    if (kv->type == GGUF_ARRAY && kv->n > MODEL_BETWEEN_MAX)
        return base_error(INFER_ERR_FORMAT,
                          "key \"" OWN("pair_between") "\" has %" PRIu64 " elements, at most %d",
                          kv->n, MODEL_BETWEEN_MAX);
    st = read_numbers(m, file, OWN("pair_between"), (size_t)kv->n, &values);
    m->n_between = st == INFER_OK ? (int32_t)kv->n : 0;
    for (int32_t i = 0; i < m->n_between; i++) {
        if (values[i] < 0 || (size_t)values[i] >= v->n_tokens)
            return base_error(INFER_ERR_FORMAT,
                              "key \"" OWN("pair_between") "\" names token %d of "
                                                           "%zu",
                              values[i], v->n_tokens);
        m->between[i] = values[i];
    }
    return st;
}

static infer_status read_token_flags(struct model_vocab *m, const struct gguf_file *file)
{
    int32_t *values;
    struct text_vocab *v = &m->text;
    infer_status st = read_numbers(m, file, OWN("token_flags"), v->n_tokens, &values);
    if (st != INFER_OK || !values)
        return st;
    uint8_t *flags = base_arena_new(&m->arena, v->n_tokens, sizeof *flags);
    if (!flags)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < v->n_tokens; i++)
        flags[i] = (uint8_t)(values[i] & 0xFF);
    v->flags = flags;
    return INFER_OK;
}

/* The keys of this library's own, each of which may be absent. */
static infer_status read_own(struct model_vocab *m, const struct gguf_file *file)
{
    struct text_vocab *v = &m->text;
    int32_t ignore = 0, fuse = 1, *uses = NULL;
    infer_status st = gguf_get_bool(file, OWN("ignore_merges"), &ignore);
    if (st == INFER_OK)
        v->ignore_merges = ignore ? 1 : -1;
    st = optional(st);
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, OWN("fuse_unknown"), &fuse));
    v->keeps_unknowns = !fuse;
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, OWN("float_scores"), &v->float_scores));
    if (st == INFER_OK && v->kind == TEXT_BPE && gguf_find(file, OWN("patterns"))) {
        st = read_strings(m, file, OWN("patterns"), &v->patterns, &v->n_patterns);
        if (st == INFER_OK)
            st = read_numbers(m, file, OWN("pattern_uses"), v->n_patterns, &uses);
        v->pattern_uses = uses;
    }
    return st == INFER_OK ? read_token_flags(m, file) : st;
}

static infer_status read_keys(struct model_vocab *m, const struct gguf_file *file)
{
    struct text_vocab *v = &m->text;
    infer_status st = read_kind(v, file);
    if (st == INFER_OK)
        st = preset(m, file);
    if (st == INFER_OK)
        st = read_strings(m, file, KEY("tokens"), &v->tokens, &v->n_tokens);
    if (st == INFER_OK)
        st = read_columns(m, file);
    v->ranked = m->ranked;
    if (st == INFER_OK && m->ranked)
        st = read_strings(m, file, KEY("merges"), &v->merges, &v->n_merges);
    if (st == INFER_OK)
        st = read_ids(v, file);
    if (st == INFER_OK)
        st = read_flags(v, file);
    if (st == INFER_OK)
        st = read_normalizer(m, file);
    if (st == INFER_OK && v->kind == TEXT_WORDPIECE)
        st = read_bert(v, file);
    if (st == INFER_OK)
        st = read_own(m, file);
    if (st == INFER_OK)
        st = read_pair(m, file);
    if (st == INFER_OK)
        st = optional(gguf_get_string(file, "tokenizer.chat_template", &m->chat_template));
    return st;
}

/* The text of a token as a C string; "" for an absent one. */
static infer_status copy_text(struct model_vocab *m, struct base_view text, const char **out)
{
    *out = base_arena_strdup(&m->arena, text.data, text.size);
    return *out ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static struct base_view token_text(const struct text_vocab *v, infer_token token)
{
    return token >= 0 ? v->tokens[token] : (struct base_view){"", 0};
}

static infer_status copy_texts(struct model_vocab *m)
{
    infer_status st = copy_text(m, m->text.pre, &m->pre);
    if (st == INFER_OK)
        st = copy_text(m, token_text(&m->text, m->text.bos), &m->bos);
    if (st == INFER_OK)
        st = copy_text(m, token_text(&m->text, m->text.eos), &m->eos);
    return st;
}

infer_status model_vocab_load(struct model_vocab **out, const struct base_alloc *a,
                              const struct gguf_file *file)
{
    struct model_vocab *m = base_new(a, 1, sizeof *m);
    if (!m)
        return INFER_ERR_NO_MEMORY;
    base_arena_init(&m->arena, a);
    infer_status st = read_keys(m, file);
    if (st == INFER_OK)
        st = copy_texts(m);
    if (st == INFER_OK) {
        st = text_tokenizer_create(&m->tokenizer, a, &m->text);
        if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
            base_error_prefix(st, "keys \"" KEY("*") "\"");
    }
    if (st != INFER_OK) {
        model_vocab_destroy(&m);
        return st;
    }
    *out = m;
    return INFER_OK;
}

void model_vocab_destroy(struct model_vocab **vocab)
{
    struct model_vocab *m = *vocab;
    if (!m)
        return;
    struct base_alloc alloc = m->arena.alloc;
    text_tokenizer_destroy(&m->tokenizer);
    base_arena_release(&m->arena);
    base_free(&alloc, m);
    *vocab = NULL;
}

const struct text_tokenizer *model_vocab_tokenizer(const struct model_vocab *vocab)
{
    return vocab->tokenizer;
}

const struct text_vocab *model_vocab_text(const struct model_vocab *vocab)
{
    return &vocab->text;
}

struct base_view model_vocab_chat_template(const struct model_vocab *vocab)
{
    return vocab->chat_template;
}

const infer_token *model_vocab_between(const struct model_vocab *vocab, int32_t *n)
{
    *n = vocab->n_between;
    return vocab->between;
}

int32_t model_vocab_second_type(const struct model_vocab *vocab)
{
    return vocab->second_type;
}

size_t model_vocab_memory_bytes(const struct model_vocab *vocab)
{
    return sizeof *vocab + vocab->arena.used_bytes + text_tokenizer_memory_bytes(vocab->tokenizer);
}

const struct base_alloc *model_vocab_alloc(const struct model_vocab *vocab)
{
    return &vocab->arena.alloc;
}

const char *model_vocab_pre(const struct model_vocab *vocab)
{
    return vocab->pre;
}

const char *model_vocab_bos_text(const struct model_vocab *vocab)
{
    return vocab->bos;
}

const char *model_vocab_eos_text(const struct model_vocab *vocab)
{
    return vocab->eos;
}
