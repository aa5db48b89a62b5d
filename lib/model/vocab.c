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

struct model_vocab {
    struct base_arena arena;
    struct text_vocab text;
    struct text_tokenizer *tokenizer;
    struct base_view chat_template;
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
    if (base_view_equal(model, "llama"))
        v->kind = TEXT_SPM;
    else if (base_view_equal(model, "gpt2"))
        v->kind = TEXT_BPE;
    else
        return base_error(INFER_ERR_UNSUPPORTED,
                          "key \"" KEY("model") "\" is '%.*s', supported are llama and gpt2",
                          (int)BASE_MIN(model.size, (size_t)64), model.data);
    v->pre = (struct base_view){"", 0};
    return optional(gguf_get_string(file, KEY("pre"), &v->pre));
}

static infer_status preset(struct text_vocab *v)
{
    v->bos = v->eos = v->eot = v->unk = v->pad = -1;
    if (v->kind == TEXT_SPM) {
        v->bos = 1;
        v->eos = 2;
        v->unk = 0;
        v->add_bos = v->add_space_prefix = 1;
        return INFER_OK;
    }
    uint32_t flags;
    infer_status st = text_pretokenizer_flags(v->pre, &flags);
    if (st != INFER_OK)
        return base_error_prefix(st, "key \"" KEY("pre") "\"");
    v->add_bos = (flags & TEXT_PRE_ADD_BOS) != 0;
    return INFER_OK;
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
    if (v->kind == TEXT_SPM && !scores)
        return base_error(INFER_ERR_NOT_FOUND, "key \"" KEY("scores") "\" is absent");
    if (v->kind == TEXT_SPM) { /* byte-level vocabularies may carry scores, all without meaning */
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

static infer_status read_ids(struct text_vocab *v, const struct gguf_file *file)
{
    const struct {
        const char *key;
        infer_token *out;
    } ids[] = {
        {KEY("bos_token_id"), &v->bos},     {KEY("eos_token_id"), &v->eos},
        {KEY("eot_token_id"), &v->eot},     {KEY("unknown_token_id"), &v->unk},
        {KEY("padding_token_id"), &v->pad},
    };
    for (size_t i = 0; i < BASE_COUNT(ids); i++) {
        int64_t id = -1;
        infer_status st = gguf_get_i64(file, ids[i].key, &id);
        if (st == INFER_ERR_NOT_FOUND) {
            /* A default that this vocabulary is too small for is no token at all. */
            if (*ids[i].out >= 0 && (size_t)*ids[i].out >= v->n_tokens)
                *ids[i].out = -1;
            continue;
        }
        if (st != INFER_OK)
            return st;
        if (id < 0 || (uint64_t)id >= v->n_tokens)
            return base_error(INFER_ERR_FORMAT,
                              "key \"%s\" is %" PRId64 ", expected a token below %zu", ids[i].key,
                              id, v->n_tokens);
        *ids[i].out = (infer_token)id;
    }
    return INFER_OK;
}

static infer_status read_flags(struct text_vocab *v, const struct gguf_file *file)
{
    infer_status st = optional(gguf_get_bool(file, KEY("add_bos_token"), &v->add_bos));
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, KEY("add_eos_token"), &v->add_eos));
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, KEY("add_space_prefix"), &v->add_space_prefix));
    return st;
}

static infer_status read_keys(struct model_vocab *m, const struct gguf_file *file)
{
    struct text_vocab *v = &m->text;
    infer_status st = read_kind(v, file);
    if (st == INFER_OK)
        st = preset(v);
    if (st == INFER_OK)
        st = read_strings(m, file, KEY("tokens"), &v->tokens, &v->n_tokens);
    if (st == INFER_OK)
        st = read_columns(m, file);
    if (st == INFER_OK && v->kind == TEXT_BPE)
        st = read_strings(m, file, KEY("merges"), &v->merges, &v->n_merges);
    if (st == INFER_OK)
        st = read_ids(v, file);
    if (st == INFER_OK)
        st = read_flags(v, file);
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
