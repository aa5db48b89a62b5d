/* SentencePiece BPE: scores turned into a table of pairs, encoding word by word. */
#include "text/spm.h"

#include "base/error.h"
#include "text/ranks.h"
#include "text/unicode.h"

#include <string.h>

/* Splitting a token tries every place in it; longer ones are refused (LIMIT). */
#define MAX_TOKEN_BYTES 1024

/* Higher scores merge first: a number that falls as the score rises. Equal scores
 * stay equal, and the leftmost pair wins. */
static uint32_t priority_of(float score)
{
    uint32_t bits;
    float positive_zero = score + 0.0f;
    memcpy(&bits, &positive_zero, sizeof bits);
    return bits & 0x80000000u ? bits : 0x7FFFFFFFu - bits;
}

static uint32_t char_symbol(const struct text_spm *spm, uint32_t cp)
{
    if (cp < BASE_COUNT(spm->ascii))
        return spm->ascii[cp];
    const struct text_pair *known = text_pairs_find(&spm->pairs, TEXT_SYMBOL_NONE, cp);
    return known ? known->merged : TEXT_SYMBOL_CHAR | cp;
}

/* Symbol of a part of a token: a token, or a character that is none; NONE otherwise. */
static uint32_t part_symbol(const struct base_map *ids, const char *text, size_t size)
{
    infer_token id = base_map_get(ids, text, size, -1);
    if (id >= 0)
        return (uint32_t)id;
    uint32_t cp;
    return (size_t)text_utf8_next(text, size, &cp) == size ? TEXT_SYMBOL_CHAR | cp
                                                           : TEXT_SYMBOL_NONE;
}

/* SentencePiece merges two neighbours whenever their joined text is a token. So a
 * token can come from each place that cuts it into two possible symbols. Without
 * `ids` only single characters are added: merges follow from elsewhere. */
static infer_status add_token(struct text_spm *spm, const struct base_map *ids, uint32_t id,
                              struct base_view text, float score)
{
    uint32_t cp;
    size_t first = (size_t)text_utf8_next(text.data, text.size, &cp);
    if (first == text.size) {
        if (cp < BASE_COUNT(spm->ascii))
            spm->ascii[cp] = id;
        return text_pairs_add(&spm->pairs, TEXT_SYMBOL_NONE, cp, 0, id);
    }
    if (text.size > MAX_TOKEN_BYTES)
        return base_error(INFER_ERR_LIMIT, "token %u has %zu bytes, at most %d are supported", id,
                          text.size, MAX_TOKEN_BYTES);
    uint32_t priority = priority_of(score);
    for (size_t i = first; ids && i < text.size;) {
        uint32_t left = part_symbol(ids, text.data, i);
        uint32_t right = part_symbol(ids, text.data + i, text.size - i);
        if (left != TEXT_SYMBOL_NONE && right != TEXT_SYMBOL_NONE) {
            infer_status st = text_pairs_add(&spm->pairs, left, right, priority, id);
            if (st < 0)
                return st;
        }
        i += (size_t)text_utf8_next(text.data + i, text.size - i, &cp);
    }
    return INFER_OK;
}

int text_spm_crosses_space(struct base_view text)
{
    int word = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t cp;
        i += (size_t)text_utf8_next(text.data + i, text.size - i, &cp);
        int space = cp == TEXT_SPM_SPACE_CHAR || cp == ' ';
        if (word && space)
            return 1;
        word = !space;
    }
    return 0;
}

static infer_status load_tokens(struct text_spm *spm, const struct text_vocab *vocab,
                                const struct base_map *ids)
{
    for (size_t i = 0; i < vocab->n_tokens; i++) {
        struct base_view text = vocab->tokens[i];
        int32_t type = text_vocab_type(vocab, i);
        if (type == TEXT_TOKEN_BYTE) {
            int byte = text_vocab_byte(text);
            if (spm->bytes[byte] < 0)
                spm->bytes[byte] = (infer_token)i;
        }
        if (type != TEXT_TOKEN_NORMAL || text.size == 0 ||
            base_map_get(ids, text.data, text.size, -1) != (int32_t)i)
            continue;
        float score = vocab->ranked ? 0 : vocab->scores[i];
        if (score != score)
            return base_error(INFER_ERR_FORMAT, "the score of token %zu is not a number", i);
        infer_status st = add_token(spm, vocab->ranked ? NULL : ids, (uint32_t)i, text, score);
        if (st < 0)
            return st;
        if (text_spm_crosses_space(text))
            spm->splits_at_space = 0;
    }
    return INFER_OK;
}

/* Runs of line ends that are tokens: no merges lead to them in such vocabularies. */
static void find_lines(struct text_spm *spm, const struct base_map *ids)
{
    char lines[TEXT_SPM_MAX_LINES];
    memset(lines, '\n', sizeof lines);
    for (size_t n = 0; n < TEXT_SPM_MAX_LINES; n++)
        spm->lines[n] = spm->splits_lines ? base_map_get(ids, lines, n + 1, -1) : -1;
}

infer_status text_spm_init(struct text_spm *spm, const struct base_alloc *a,
                           const struct text_vocab *vocab, const struct base_map *ids)
{
    *spm = (struct text_spm){
        .unk = vocab->unk, .keeps_unknowns = vocab->keeps_unknowns, .splits_at_space = 1};
    if (!vocab->scores && !vocab->ranked)
        return base_error(INFER_ERR_FORMAT, "a SentencePiece vocabulary needs scores or merges");
    spm->splits_lines = vocab->splits_lines;
    find_lines(spm, ids);
    for (uint32_t i = 0; i < BASE_COUNT(spm->ascii); i++)
        spm->ascii[i] = TEXT_SYMBOL_CHAR | i;
    for (size_t i = 0; i < BASE_COUNT(spm->bytes); i++)
        spm->bytes[i] = -1;
    infer_status st = text_pairs_init(&spm->pairs, a, 2 * vocab->n_tokens);
    if (st == INFER_OK)
        st = load_tokens(spm, vocab, ids);
    if (st == INFER_OK && vocab->ranked)
        st = text_ranks_load(&spm->pairs, a, vocab, ids);
    for (int b = 0; b < 256 && st == INFER_OK; b++) {
        if (spm->bytes[b] >= 0)
            continue;
        if (spm->unk < 0)
            st = base_error(INFER_ERR_FORMAT, "no token for byte 0x%02X and no unknown token", b);
    }
    if (st != INFER_OK)
        text_spm_release(spm);
    return st;
}

void text_spm_release(struct text_spm *spm)
{
    text_pairs_release(&spm->pairs);
}

size_t text_spm_bytes(const struct text_spm *spm)
{
    return text_pairs_bytes(&spm->pairs);
}

/* A character without a token: its bytes if all of them have tokens, else the
 * unknown token, one for a run of such characters as SentencePiece does it. */
static infer_status put_char(const struct text_spm *spm, struct text_call *c, uint32_t cp)
{
    char text[TEXT_UTF8_MAX];
    size_t n = text_utf8_put(cp, text);
    int known = 1;
    for (size_t i = 0; i < n; i++)
        known = known && spm->bytes[(uint8_t)text[i]] >= 0;
    if (!known) {
        if (!spm->keeps_unknowns && c->out->size > c->start &&
            c->out->data[c->out->size - 1] == spm->unk)
            return INFER_OK;
        return base_array_push(c->a, c->out, spm->unk);
    }
    for (size_t i = 0; i < n; i++)
        if (base_array_push(c->a, c->out, spm->bytes[(uint8_t)text[i]]) != INFER_OK)
            return INFER_ERR_NO_MEMORY;
    return INFER_OK;
}

static infer_status put_symbol(const struct text_spm *spm, struct text_call *c, uint32_t symbol)
{
    if (symbol < TEXT_SYMBOL_CHAR)
        return base_array_push(c->a, c->out, (infer_token)symbol);
    if (symbol < TEXT_SYMBOL_BYTE)
        return put_char(spm, c, symbol & ~TEXT_SYMBOL_CHAR);
    return base_array_push(c->a, c->out, spm->bytes[(uint8_t)symbol]);
}

/* Writes the symbols of `text` behind those already there. */
static infer_status spell(const struct text_spm *spm, struct text_call *c, const char *text,
                          size_t size)
{
    if (base_array_reserve(c->a, &c->work.symbols, size) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    uint32_t *symbols = c->work.symbols.data + c->work.symbols.size;
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        uint8_t byte = (uint8_t)text[i];
        uint32_t cp;
        int length;
        if (byte == ' ') {
            symbols[n++] = char_symbol(spm, TEXT_SPM_SPACE_CHAR);
            i++;
        } else if (byte < 0x80) {
            symbols[n++] = spm->ascii[byte];
            i++;
        } else if ((length = text_utf8_next(text + i, size - i, &cp)) > 0) {
            symbols[n++] = char_symbol(spm, cp);
            i += (size_t)length;
        } else {
            symbols[n++] = spm->bytes[byte] >= 0 ? TEXT_SYMBOL_BYTE | byte
                                                 : char_symbol(spm, TEXT_REPLACEMENT);
            i++;
        }
    }
    c->work.symbols.size += n;
    return INFER_OK;
}

static infer_status put_spelled(const struct text_spm *spm, struct text_call *c)
{
    infer_status st = text_merge(&spm->pairs, c->a, &c->work);
    for (size_t i = 0; i < c->work.symbols.size && st == INFER_OK; i++)
        st = put_symbol(spm, c, c->work.symbols.data[i]);
    return st;
}

static infer_status put_word(const struct text_spm *spm, struct text_call *c, struct base_view word)
{
    struct text_seen *slot;
    infer_status st = text_call_recall(c, word, &slot);
    if (st != INFER_OK)
        return st == INFER_DONE ? INFER_OK : st;
    size_t at = c->out->size;
    c->work.symbols.size = 0;
    st = spell(spm, c, word.data, word.size);
    if (st == INFER_OK)
        st = put_spelled(spm, c);
    /* What begins with the unknown token may have been joined to one before it. */
    if (st == INFER_OK && c->out->size > at && c->out->data[at] != spm->unk)
        text_call_remember(c, slot, at);
    return st;
}

/* Length of the space at the front of a text, in either spelling; else 0. */
static size_t space_length(const char *text, size_t size)
{
    if (size >= 1 && text[0] == ' ')
        return 1;
    return size >= 3 && memcmp(text, TEXT_SPM_SPACE, 3) == 0 ? 3 : 0;
}

size_t text_spm_word_length(const char *text, size_t size)
{
    size_t i = 0, n;
    while ((n = space_length(text + i, size - i)) > 0)
        i += n;
    while (i < size && text[i] != ' ' &&
           (text[i] != TEXT_SPM_SPACE[0] || !space_length(text + i, size - i)))
        i++;
    return i;
}

/* Up to where line ends begin or cease. */
static size_t line_length(const char *text, size_t size)
{
    size_t i = 1;
    while (i < size && (text[i] == '\n') == (text[0] == '\n'))
        i++;
    return i;
}

infer_status text_spm_encode(const struct text_spm *spm, struct text_call *call, int prefix,
                             const char *text, size_t size)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < size && st == INFER_OK;) {
        size_t n = spm->splits_lines ? line_length(text + i, size - i) : size - i;
        infer_token lines = text[i] == '\n' && n <= TEXT_SPM_MAX_LINES ? spm->lines[n - 1] : -1;
        if (spm->splits_at_space)
            n = lines >= 0 ? n : text_spm_word_length(text + i, n);
        if (lines >= 0 && (i > 0 || !prefix)) {
            st = base_array_push(call->a, call->out, lines);
        } else if (i > 0 || !prefix) {
            st = put_word(spm, call, (struct base_view){text + i, n});
        } else {
            call->work.symbols.size = 0;
            st = spell(spm, call, " ", 1);
            if (st == INFER_OK)
                st = spell(spm, call, text, n);
            if (st == INFER_OK)
                st = put_spelled(spm, call);
        }
        i += n;
    }
    return st;
}
