/* The tokens, merges and added tokens of a tokenizer's files. */
#include "base/error.h"
#include "base/str.h"
#include "model/hf_tokenizer_internal.h"
#include "text/pieces.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SPARE_IDS 65536 /* holes that a vocabulary may have beyond twice its tokens */

int hf_json_text(const struct base_json *j, const char *key, struct base_view *out)
{
    return base_json_string(base_json_get(j, key), out);
}

int hf_json_flag(const struct base_json *j, const char *key, int missing)
{
    int32_t value = missing;
    (void)base_json_bool(base_json_get(j, key), &value);
    return value != 0;
}

int hf_json_type_is(const struct base_json *j, const char *type)
{
    struct base_view text;
    return hf_json_text(j, "type", &text) && base_view_equal(text, type);
}

infer_status hf_unsupported(const char *part, const struct base_json *j)
{
    struct base_view type = {"of no type", 10};
    (void)hf_json_text(j, "type", &type);
    return base_error(INFER_ERR_UNSUPPORTED, "tokenizer.json: %s '%.*s' is not supported", part,
                      (int)BASE_MIN(type.size, (size_t)64), type.data);
}

/* Models often have more rows of embeddings than tokens: their ids are unused tokens. */
static size_t padded(const struct hf_vocab *v, size_t n)
{
    int64_t rows = 0;
    if (!base_json_i64(base_json_get(v->files->model, "vocab_size"), &rows))
        (void)base_json_i64(base_json_path(v->files->model, "text_config.vocab_size"), &rows);
    return rows > 0 && (uint64_t)rows > n && (uint64_t)rows < 2 * (uint64_t)n + SPARE_IDS
               ? (size_t)rows
               : n;
}

infer_status hf_vocab_reserve(struct hf_vocab *v, size_t n)
{
    n = padded(v, n);
    v->tokens = base_arena_new(&v->arena, n, sizeof *v->tokens);
    v->scores = base_arena_new(&v->arena, n, sizeof *v->scores);
    v->types = base_arena_new(&v->arena, n, sizeof *v->types);
    v->flags = base_arena_new(&v->arena, n, sizeof *v->flags);
    if (!v->tokens || !v->scores || !v->types || !v->flags)
        return INFER_ERR_NO_MEMORY;
    v->n_tokens = n;
    return INFER_OK;
}

infer_status hf_vocab_put(struct hf_vocab *v, struct base_view text, int64_t id, int32_t type)
{
    if (id < 0 || (uint64_t)id >= v->n_tokens)
        return base_error(INFER_ERR_FORMAT, "token '%.*s' has the id %" PRId64,
                          (int)BASE_MIN(text.size, (size_t)64), text.data, id);
    if (v->tokens[id].data)
        return base_error(INFER_ERR_FORMAT, "tokens '%.*s' and '%.*s' have the same id %" PRId64,
                          (int)BASE_MIN(v->tokens[id].size, (size_t)64), v->tokens[id].data,
                          (int)BASE_MIN(text.size, (size_t)64), text.data, id);
    v->tokens[id] = text;
    v->types[id] = type;
    return INFER_OK;
}

infer_token hf_vocab_id(const struct hf_vocab *v, struct base_view text)
{
    return base_map_get(&v->ids, text.data, text.size, -1);
}

/* Makes room for the ids of `objects` (text to id) and of added tokens (a list, or an object
 * of numbers). */
static infer_status count_ids(struct hf_vocab *v, const struct base_json *vocab,
                              const struct base_json *added, const struct base_json *decoder,
                              const struct base_json *extra)
{
    int64_t top = base_json_is(vocab, BASE_JSON_ARRAY) ? (int64_t)vocab->n - 1 : -1, id;
    size_t n = vocab ? vocab->n : 0;
    const struct base_json *objects[] = {vocab, extra};
    for (size_t k = 0; k < BASE_COUNT(objects); k++)
        for (size_t i = 0; base_json_is(objects[k], BASE_JSON_OBJECT) && i < objects[k]->n; i++)
            if (base_json_i64(&objects[k]->as.member[i].value, &id))
                top = BASE_MAX(top, id);
    for (size_t i = 0; base_json_is(added, BASE_JSON_ARRAY) && i < added->n; i++, n++)
        if (base_json_i64(base_json_get(&added->as.items[i], "id"), &id))
            top = BASE_MAX(top, id);
    for (size_t i = 0; base_json_is(decoder, BASE_JSON_OBJECT) && i < decoder->n; i++, n++) {
        char digits[24];
        struct base_view key = decoder->as.member[i].key;
        snprintf(digits, sizeof digits, "%.*s", (int)BASE_MIN(key.size, sizeof digits - 1),
                 key.data);
        top = BASE_MAX(top, (int64_t)strtoll(digits, NULL, 10));
    }
    if (top < 0)
        return base_error(INFER_ERR_FORMAT, "the vocabulary is empty");
    if ((uint64_t)top >= 2 * (uint64_t)n + SPARE_IDS || top >= INT32_MAX)
        return base_error(INFER_ERR_LIMIT, "a vocabulary of %zu tokens has the id %" PRId64, n,
                          top);
    return hf_vocab_reserve(v, (size_t)top + 1);
}

static infer_status put_object(struct hf_vocab *v, const struct base_json *vocab)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < vocab->n && st == INFER_OK; i++) {
        int64_t id = -1;
        const struct base_json_member *m = &vocab->as.member[i];
        if (!base_json_i64(&m->value, &id))
            return base_error(INFER_ERR_FORMAT, "token '%.*s' has no integer for an id",
                              (int)BASE_MIN(m->key.size, (size_t)64), m->key.data);
        st = hf_vocab_put(v, m->key, id, TEXT_TOKEN_NORMAL);
    }
    return st;
}

/* Unigram: [["text", score], ...] */
static infer_status put_scored(struct hf_vocab *v, const struct base_json *vocab)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < vocab->n && st == INFER_OK; i++) {
        struct base_view text;
        double score;
        if (!base_json_string(base_json_at(&vocab->as.items[i], 0), &text) ||
            !base_json_f64(base_json_at(&vocab->as.items[i], 1), &score))
            return base_error(INFER_ERR_FORMAT,
                              "tokenizer.json: token %zu of model.vocab, expected [text, score]",
                              i);
        st = hf_vocab_put(v, text, (int64_t)i, TEXT_TOKEN_NORMAL);
        v->scores[i] = (float)score;
    }
    return st;
}

/* One added token. Those of a SentencePiece-like vocabulary that are but spaces are reached by
 * merging, too, and mean the same there: they stay normal. */
static infer_status add_token(struct hf_vocab *v, int64_t id, const struct base_json *j)
{
    struct base_view text;
    if (!hf_json_text(j, "content", &text))
        return base_error(INFER_ERR_FORMAT, "an added token without content");
    if (id < 0 || (uint64_t)id >= v->n_tokens)
        return base_error(INFER_ERR_FORMAT, "the added token '%.*s' has the id %" PRId64,
                          (int)BASE_MIN(text.size, (size_t)64), text.data, id);
    int special = hf_json_flag(j, "special", 0);
    int known = v->tokens[id].data != NULL;
    if (known && !special && v->kind == HF_CHAR_BPE &&
        memmem(text.data, text.size, "\xE2\x96\x81", 3))
        return INFER_OK;
    v->tokens[id] = text;
    v->types[id] = special ? TEXT_TOKEN_CONTROL : TEXT_TOKEN_USER_DEFINED;
    v->flags[id] = (hf_json_flag(j, "lstrip", 0) ? TEXT_TOKEN_STRIP_LEFT : 0) |
                   (hf_json_flag(j, "rstrip", 0) ? TEXT_TOKEN_STRIP_RIGHT : 0) |
                   (hf_json_flag(j, "single_word", 0) ? TEXT_TOKEN_ALONE : 0);
    return INFER_OK;
}

infer_status hf_vocab_add_tokens(struct hf_vocab *v)
{
    const struct base_json *list = base_json_get(v->files->tokenizer, "added_tokens");
    const struct base_json *decoder = base_json_get(v->files->config, "added_tokens_decoder");
    const struct base_json *extra = v->files->added;
    infer_status st = INFER_OK;
    if (base_json_is(list, BASE_JSON_ARRAY)) {
        for (size_t i = 0; i < list->n && st == INFER_OK; i++) {
            int64_t id = -1;
            (void)base_json_i64(base_json_get(&list->as.items[i], "id"), &id);
            st = add_token(v, id, &list->as.items[i]);
        }
        return st;
    }
    for (size_t i = 0; base_json_is(extra, BASE_JSON_OBJECT) && i < extra->n && st == INFER_OK;
         i++) {
        int64_t id;
        const struct base_json_member *m = &extra->as.member[i];
        if (base_json_i64(&m->value, &id) && id >= 0 && (uint64_t)id < v->n_tokens &&
            !v->tokens[id].data)
            st = hf_vocab_put(v, m->key, id, TEXT_TOKEN_CONTROL);
    }
    for (size_t i = 0; base_json_is(decoder, BASE_JSON_OBJECT) && i < decoder->n && st == INFER_OK;
         i++) {
        char digits[24];
        const struct base_json_member *m = &decoder->as.member[i];
        snprintf(digits, sizeof digits, "%.*s", (int)BASE_MIN(m->key.size, sizeof digits - 1),
                 m->key.data);
        st = add_token(v, (int64_t)strtoll(digits, NULL, 10), &m->value);
    }
    return st;
}

/* Ids without a token get the names that llama.cpp gives them. */
infer_status hf_vocab_fill(struct hf_vocab *v)
{
    infer_status st = base_map_init(&v->ids, &v->arena.alloc, v->n_tokens);
    for (size_t i = 0; i < v->n_tokens && st >= 0; i++) {
        if (!v->tokens[i].data) {
            char name[32];
            int n = snprintf(name, sizeof name, "[PAD%zu]", i);
            char *copy = base_arena_strdup(&v->arena, name, (size_t)n);
            if (!copy)
                return INFER_ERR_NO_MEMORY;
            v->tokens[i] = (struct base_view){copy, (size_t)n};
            v->types[i] = TEXT_TOKEN_UNUSED;
        }
        int byte = v->types[i] == TEXT_TOKEN_NORMAL ? text_vocab_byte(v->tokens[i]) : -1;
        if (byte >= 0 && (v->kind == HF_CHAR_BPE || v->kind == HF_UNIGRAM))
            v->types[i] = TEXT_TOKEN_BYTE;
        st = base_map_add(&v->ids, v->tokens[i].data, v->tokens[i].size, (int32_t)i);
    }
    return st < 0 ? st : INFER_OK;
}

/* "left right", or the pair ["left", "right"]. */
static infer_status read_merge(struct hf_vocab *v, const struct base_json *j, size_t i)
{
    struct base_view left, right;
    if (base_json_string(j, &v->merges[i]))
        return INFER_OK;
    if (!base_json_string(base_json_at(j, 0), &left) ||
        !base_json_string(base_json_at(j, 1), &right))
        return base_error(INFER_ERR_FORMAT, "tokenizer.json: merge %zu is no pair of texts", i);
    if (left.size > 1 && memchr(left.data + 1, ' ', left.size - 1))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tokenizer.json: merge %zu has a space in its left part", i);
    char *text = base_arena_new(&v->arena, left.size + right.size + 1, 1);
    if (!text)
        return INFER_ERR_NO_MEMORY;
    memcpy(text, left.data, left.size);
    text[left.size] = ' ';
    memcpy(text + left.size + 1, right.data, right.size);
    v->merges[i] = (struct base_view){text, left.size + right.size + 1};
    return INFER_OK;
}

static infer_status read_merges(struct hf_vocab *v, const struct base_json *merges)
{
    if (!base_json_is(merges, BASE_JSON_ARRAY))
        return base_error(INFER_ERR_FORMAT, "tokenizer.json: model.merges is no array");
    v->merges = base_arena_new(&v->arena, merges->n, sizeof *v->merges);
    if (!v->merges)
        return INFER_ERR_NO_MEMORY;
    v->n_merges = merges->n;
    infer_status st = INFER_OK;
    for (size_t i = 0; i < merges->n && st == INFER_OK; i++)
        st = read_merge(v, &merges->as.items[i], i);
    return st;
}

static infer_status read_bpe(struct hf_vocab *v, const struct base_json *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    struct base_view text;
    for (size_t i = 0; i < BASE_COUNT(affixes); i++)
        if (hf_json_text(model, affixes[i], &text) && text.size)
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tokenizer.json: model.%s '%.*s' is not supported", affixes[i],
                              (int)BASE_MIN(text.size, (size_t)64), text.data);
    v->ignore_merges = hf_json_flag(model, "ignore_merges", 0);
    v->keeps_unknowns = !hf_json_flag(model, "fuse_unk", 0);
    return read_merges(v, base_json_get(model, "merges"));
}

static infer_status read_wordpiece(struct hf_vocab *v, const struct base_json *model)
{
    struct base_view prefix = {"##", 2};
    int64_t chars = 100;
    (void)hf_json_text(model, "continuing_subword_prefix", &prefix);
    if (!base_view_equal(prefix, "##"))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tokenizer.json: model.continuing_subword_prefix '%.*s', supported is ##",
                          (int)BASE_MIN(prefix.size, (size_t)64), prefix.data);
    (void)base_json_i64(base_json_get(model, "max_input_chars_per_word"), &chars);
    v->max_word_chars = (int32_t)BASE_MIN(BASE_MAX(chars, 0), (int64_t)INT32_MAX);
    return INFER_OK;
}

infer_status hf_vocab_read_json(struct hf_vocab *v)
{
    const struct base_json *root = v->files->tokenizer, *model = base_json_get(root, "model");
    const struct base_json *vocab = base_json_get(model, "vocab");
    int list = v->kind == HF_UNIGRAM;
    if (!base_json_is(vocab, list ? BASE_JSON_ARRAY : BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "tokenizer.json: model.vocab is absent or no %s",
                          list ? "array" : "object");
    infer_status st = count_ids(v, vocab, base_json_get(root, "added_tokens"), NULL, NULL);
    if (st == INFER_OK)
        st = list ? put_scored(v, vocab) : put_object(v, vocab);
    if (st == INFER_OK && (v->kind == HF_BYTE_BPE || v->kind == HF_CHAR_BPE))
        st = read_bpe(v, model);
    if (st == INFER_OK && v->kind == HF_WORDPIECE)
        st = read_wordpiece(v, model);
    if (st == INFER_OK)
        st = hf_vocab_add_tokens(v);
    return st == INFER_OK ? hf_vocab_fill(v) : st;
}

/* Lines without their ends; each is handed to `add`. */
static infer_status each_line(struct hf_vocab *v, struct base_view text,
                              infer_status (*add)(struct hf_vocab *, struct base_view, size_t))
{
    infer_status st = INFER_OK;
    size_t line = 0;
    for (size_t i = 0; i < text.size && st == INFER_OK; line++) {
        const char *end = memchr(text.data + i, '\n', text.size - i);
        size_t n = end ? (size_t)(end - text.data) - i : text.size - i, next = i + n + 1;
        if (n && text.data[i + n - 1] == '\r')
            n--;
        st = add(v, (struct base_view){text.data + i, n}, line);
        i = next;
    }
    return st;
}

static infer_status add_merge_line(struct hf_vocab *v, struct base_view line, size_t number)
{
    int comment = number == 0 && line.size > 8 && memcmp(line.data, "#version", 8) == 0;
    if (line.size && !comment)
        v->merges[v->n_merges++] = line;
    return INFER_OK;
}

static size_t count_lines(struct base_view text)
{
    size_t n = 1;
    for (size_t i = 0; i < text.size; i++)
        n += text.data[i] == '\n';
    return n;
}

infer_status hf_vocab_read_vocab_json(struct hf_vocab *v)
{
    const struct hf_tokenizer_files *f = v->files;
    if (!base_json_is(f->vocab_json, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "vocab.json is no object");
    if (!f->merges.data)
        return base_error(INFER_ERR_NOT_FOUND, "vocab.json needs merges.txt beside it");
    infer_status st = count_ids(v, f->vocab_json, NULL,
                                base_json_get(f->config, "added_tokens_decoder"), f->added);
    if (st == INFER_OK)
        st = put_object(v, f->vocab_json);
    v->merges = base_arena_new(&v->arena, count_lines(f->merges), sizeof *v->merges);
    if (!v->merges)
        return INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = each_line(v, f->merges, add_merge_line);
    if (st == INFER_OK)
        st = hf_vocab_add_tokens(v);
    return st == INFER_OK ? hf_vocab_fill(v) : st;
}

static infer_status add_vocab_line(struct hf_vocab *v, struct base_view line, size_t number)
{
    return line.size ? hf_vocab_put(v, line, (int64_t)number, TEXT_TOKEN_NORMAL) : INFER_OK;
}

infer_status hf_vocab_read_vocab_txt(struct hf_vocab *v)
{
    static const char *const names[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    struct base_view text = v->files->vocab_txt;
    size_t n = count_lines(text);
    if (text.size && text.data[text.size - 1] == '\n')
        n--;
    infer_status st = hf_vocab_reserve(v, n);
    if (st == INFER_OK)
        st = each_line(v, text, add_vocab_line);
    for (size_t i = 0; st == INFER_OK && i < n; i++)
        for (size_t k = 0; k < BASE_COUNT(names); k++)
            if (v->tokens[i].data && base_view_equal(v->tokens[i], names[k]))
                v->types[i] = TEXT_TOKEN_CONTROL;
    if (st == INFER_OK)
        st = hf_vocab_add_tokens(v);
    return st == INFER_OK ? hf_vocab_fill(v) : st;
}
