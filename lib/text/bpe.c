/* Byte-level BPE: encoding of words and of stray bytes. */
#include "text/bpe.h"

#include "base/error.h"
#include "text/ranks.h"
#include "text/unicode.h"

static infer_token find_id(const struct base_map *ids, const char *text, size_t size)
{
    return base_map_get(ids, text, size, -1);
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

static infer_status make_splitter(struct text_bpe *bpe, const struct text_vocab *vocab,
                                  uint32_t *flags)
{
    infer_status st = INFER_OK;
    if (vocab->patterns) {
        st = text_pretokenizer_compile(&bpe->pre, &bpe->alloc, vocab->patterns, vocab->pattern_uses,
                                       vocab->n_patterns);
    } else {
        st = text_pretokenizer_flags(vocab->pre, flags);
        if (st == INFER_OK)
            st = text_pretokenizer_create(&bpe->pre, &bpe->alloc, vocab->pre);
    }
    if (vocab->ignore_merges)
        *flags = vocab->ignore_merges > 0 ? TEXT_PRE_IGNORE_MERGES : 0;
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
    infer_status st = make_splitter(bpe, vocab, &flags);
    if (st == INFER_OK)
        st = text_pairs_init(&bpe->pairs, a, vocab->n_merges);
    if (st == INFER_OK)
        st = text_ranks_load(&bpe->pairs, a, vocab, ids);
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
