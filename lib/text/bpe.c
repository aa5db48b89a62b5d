/* Byte-level BPE: table of merges, encoding of words and of stray bytes. */
#include "text/bpe.h"

#include "base/error.h"
#include "base/str.h"
#include "text/unicode.h"

static infer_token find_id(const struct base_map *ids, const char *text, size_t size)
{
    return base_map_get(ids, text, size, -1);
}

static infer_status bad_merge(size_t i, struct base_view merge, const char *what)
{
    return base_error(INFER_ERR_FORMAT, "merge %zu '%.*s': %s", i,
                      (int)BASE_MIN(merge.size, (size_t)64), merge.data, what);
}

static infer_status add_merge(struct text_bpe *bpe, const struct base_map *ids, size_t i,
                              struct base_view merge, struct base_str *joined)
{
    /* The first character may itself be a space in vocabularies that do not escape it. */
    const char *space = merge.size > 2 ? memchr(merge.data + 1, ' ', merge.size - 1) : NULL;
    if (!space)
        return bad_merge(i, merge, "expected two tokens separated by a space");
    size_t left_size = (size_t)(space - merge.data), right_size = merge.size - left_size - 1;
    base_str_clear(joined);
    infer_status st = base_str_append(joined, merge.data, left_size);
    if (st == INFER_OK)
        st = base_str_append(joined, space + 1, right_size);
    if (st != INFER_OK)
        return st;
    infer_token left = find_id(ids, merge.data, left_size);
    infer_token right = find_id(ids, space + 1, right_size);
    infer_token whole = find_id(ids, joined->data, joined->size);
    if (left < 0 || right < 0 || whole < 0)
        return bad_merge(i, merge,
                         left < 0    ? "the left part is not a token"
                         : right < 0 ? "the right part is not a token"
                                     : "the result is not a token");
    st = text_pairs_add(&bpe->pairs, (uint32_t)left, (uint32_t)right, (uint32_t)i, (uint32_t)whole);
    return st == INFER_AGAIN ? INFER_OK : st; /* written twice: the first rank holds */
}

static infer_status load_merges(struct text_bpe *bpe, const struct text_vocab *vocab,
                                const struct base_map *ids)
{
    if (vocab->n_merges >= TEXT_PRIORITY_NONE)
        return base_error(INFER_ERR_LIMIT, "%zu merges are too many", vocab->n_merges);
    infer_status st = text_pairs_init(&bpe->pairs, &bpe->alloc, vocab->n_merges);
    struct base_str joined;
    base_str_init(&joined, &bpe->alloc, 0);
    for (size_t i = 0; i < vocab->n_merges && st == INFER_OK; i++)
        st = add_merge(bpe, ids, i, vocab->merges[i], &joined);
    base_str_release(&joined);
    return st;
}

static infer_status load_words(struct text_bpe *bpe, const struct text_vocab *vocab,
                               const struct text_pieces *pieces)
{
    infer_status st = base_map_init(&bpe->words, &bpe->alloc, vocab->n_tokens);
    for (size_t i = 0; i < vocab->n_tokens && st == INFER_OK; i++) {
        struct base_view piece = text_pieces_get(pieces, (infer_token)i);
        if (piece.size == 0 || text_vocab_type(vocab, i) != TEXT_TOKEN_NORMAL)
            continue;
        st = base_map_add(&bpe->words, piece.data, piece.size, (int32_t)i);
        if (st == INFER_AGAIN)
            st = INFER_OK;
    }
    return st;
}

/* Bytes without a token are written as U+FFFD, or as the unknown token. Many
 * vocabularies leave out the 13 bytes that UTF-8 never holds. */
static infer_status choose_substitute(struct text_bpe *bpe, const struct text_vocab *vocab)
{
    int missing = -1;
    for (int b = 0; b < 256 && missing < 0; b++)
        if (bpe->bytes[b] < 0)
            missing = b;
    if (missing < 0)
        return INFER_OK;
    struct text_merge_work work = {0};
    infer_status st = INFER_OK;
    int whole = 1;
    for (const char *p = TEXT_REPLACEMENT_UTF8; *p && st == INFER_OK; p++) {
        infer_token id = bpe->bytes[(uint8_t)*p];
        whole = whole && id >= 0;
        st = base_array_push(&bpe->alloc, &work.symbols, (uint32_t)id);
    }
    if (st == INFER_OK && whole) {
        st = text_merge(&bpe->pairs, &bpe->alloc, &work);
        for (size_t i = 0; i < work.symbols.size && st == INFER_OK; i++)
            bpe->substitute[bpe->n_substitute++] = (infer_token)work.symbols.data[i];
    } else if (st == INFER_OK && vocab->unk >= 0) {
        bpe->substitute[bpe->n_substitute++] = vocab->unk;
    } else if (st == INFER_OK) {
        st = base_error(INFER_ERR_FORMAT,
                        "no token for byte 0x%02X, none for U+FFFD and no unknown token", missing);
    }
    text_merge_work_release(&work, &bpe->alloc);
    return st;
}

infer_status text_bpe_init(struct text_bpe *bpe, const struct base_alloc *a,
                           const struct text_vocab *vocab, const struct base_map *ids,
                           const struct text_pieces *pieces)
{
    *bpe = (struct text_bpe){.alloc = *a};
    for (int b = 0; b < 256; b++) {
        char text[TEXT_UTF8_MAX];
        bpe->bytes[b] = find_id(ids, text, text_utf8_put(text_alphabet_char((uint8_t)b), text));
    }
    uint32_t flags = 0;
    infer_status st = text_pretokenizer_flags(vocab->pre, &flags);
    if (st == INFER_OK)
        st = text_pretokenizer_create(&bpe->pre, a, vocab->pre);
    if (st == INFER_OK)
        st = load_merges(bpe, vocab, ids);
    if (st == INFER_OK && (flags & TEXT_PRE_IGNORE_MERGES))
        st = load_words(bpe, vocab, pieces);
    if (st == INFER_OK)
        st = choose_substitute(bpe, vocab);
    if (st != INFER_OK)
        text_bpe_release(bpe);
    return st;
}

void text_bpe_release(struct text_bpe *bpe)
{
    text_pretokenizer_destroy(&bpe->pre);
    text_pairs_release(&bpe->pairs);
    base_map_release(&bpe->words);
}

size_t text_bpe_bytes(const struct text_bpe *bpe)
{
    return text_pretokenizer_bytes(bpe->pre) + text_pairs_bytes(&bpe->pairs) +
           bpe->words.n_slots * sizeof *bpe->words.slots;
}

static infer_status put_byte(const struct text_bpe *bpe, struct text_call *c, uint8_t byte)
{
    infer_token id = bpe->bytes[byte];
    if (id >= 0)
        return base_array_push(c->a, c->out, id);
    for (int i = 0; i < bpe->n_substitute; i++)
        if (base_array_push(c->a, c->out, bpe->substitute[i]) != INFER_OK)
            return INFER_ERR_NO_MEMORY;
    return INFER_OK;
}

static infer_status merge_word(const struct text_bpe *bpe, struct text_call *c,
                               struct base_view word)
{
    text_tokens *out = c->out;
    infer_token id = base_map_get(&bpe->words, word.data, word.size, -1);
    if (id >= 0)
        return base_array_push(c->a, out, id);
    c->work.symbols.size = 0;
    if (base_array_reserve(c->a, &c->work.symbols, word.size) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    uint32_t *symbols = c->work.symbols.data;
    for (size_t i = 0; i < word.size; i++) {
        uint8_t byte = (uint8_t)word.data[i];
        symbols[i] = bpe->bytes[byte] >= 0 ? (uint32_t)bpe->bytes[byte] : TEXT_SYMBOL_BYTE | byte;
    }
    c->work.symbols.size = word.size;
    infer_status st = text_merge(&bpe->pairs, c->a, &c->work);
    if (st == INFER_OK)
        st = base_array_reserve(c->a, out, c->work.symbols.size);
    for (size_t i = 0; i < c->work.symbols.size && st == INFER_OK; i++) {
        uint32_t symbol = c->work.symbols.data[i];
        if (symbol < TEXT_SYMBOL_CHAR)
            st = base_array_push(c->a, out, (infer_token)symbol);
        else
            st = put_byte(bpe, c, (uint8_t)symbol);
    }
    return st;
}

static infer_status put_word(const struct text_bpe *bpe, struct text_call *c, struct base_view word)
{
    struct text_seen *slot;
    infer_status st = text_call_recall(c, word, &slot);
    if (st != INFER_OK)
        return st == INFER_DONE ? INFER_OK : st;
    size_t at = c->out->size;
    st = merge_word(bpe, c, word);
    if (st == INFER_OK)
        text_call_remember(c, slot, at);
    return st;
}

infer_status text_bpe_encode(const struct text_bpe *bpe, struct text_call *call,
                             struct text_splitter *splitter, const char *text, size_t size)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < size && st == INFER_OK;) {
        size_t valid = text_utf8_valid_prefix(text + i, size - i);
        if (valid == 0) { /* words end at what is no character */
            st = put_byte(bpe, call, (uint8_t)text[i++]);
            continue;
        }
        text_splitter_begin(splitter, text + i, valid);
        struct base_view word;
        while (st == INFER_OK && (st = text_splitter_next(splitter, &word)) == INFER_OK)
            st = put_word(bpe, call, word);
        if (st == INFER_DONE)
            st = INFER_OK;
        i += valid;
    }
    return st;
}
