/* WordPiece: BERT's cleaning of words, and greedy matching in a trie. */
#include "text/wordpiece.h"

#include "base/error.h"
#include "text/pieces.h"
#include "text/unicode.h"

#include <utf8proc.h>

#define MAX_DECOMPOSED 8 /* code points of one character's canonical decomposition; 4 occur */

static int begins_with(struct base_view text, const char *start)
{
    size_t n = strlen(start);
    return text.size >= n && memcmp(text.data, start, n) == 0;
}

int text_wordpiece_has_hashes(const struct text_vocab *vocab)
{
    size_t hashes = 0, spaces = 0;
    for (size_t i = 0; i < vocab->n_tokens; i++) {
        hashes += vocab->tokens[i].size > 2 && begins_with(vocab->tokens[i], "##");
        spaces += begins_with(vocab->tokens[i], TEXT_SPM_SPACE);
    }
    return hashes > spaces;
}

static infer_status add_tokens(struct text_wordpiece *w, const struct text_vocab *vocab)
{
    int hashes = text_wordpiece_has_hashes(vocab);
    infer_status st = INFER_OK;
    for (size_t i = 0; i < vocab->n_tokens && st == INFER_OK; i++) {
        struct base_view text = vocab->tokens[i];
        if (text_vocab_type(vocab, i) != TEXT_TOKEN_NORMAL)
            continue;
        const char *mark = hashes ? "##" : TEXT_SPM_SPACE;
        int marked = begins_with(text, mark);
        if (marked && text.size > strlen(mark)) {
            text.data += strlen(mark);
            text.size -= strlen(mark);
        } else if (marked) {
            marked = !hashes; /* a sign of its own */
        }
        st = text_trie_add(&w->trie, marked == hashes, text, (infer_token)i);
    }
    return st;
}

infer_status text_wordpiece_init(struct text_wordpiece *w, const struct base_alloc *a,
                                 const struct text_vocab *vocab)
{
    *w = (struct text_wordpiece){
        .unk = vocab->unk, .max_chars = vocab->max_word_chars, .keep = vocab->bert_keep};
    if (vocab->unk < 0)
        return base_error(INFER_ERR_FORMAT, "a WordPiece vocabulary needs an unknown token");
    infer_status st = text_trie_init(&w->trie, a, 4 * vocab->n_tokens);
    if (st == INFER_OK)
        st = add_tokens(w, vocab);
    if (st != INFER_OK)
        text_wordpiece_release(w);
    return st;
}

void text_wordpiece_release(struct text_wordpiece *w)
{
    text_trie_release(&w->trie);
}

size_t text_wordpiece_bytes(const struct text_wordpiece *w)
{
    return text_trie_bytes(&w->trie);
}

/* Takes the longest token at the front until the word is spent; a rest that no token begins
 * makes the whole word unknown. */
static infer_status put_word(const struct text_wordpiece *w, struct text_call *c,
                             struct base_view word)
{
    const uint8_t *p = (const uint8_t *)word.data;
    size_t start = c->out->size, chars = 0;
    for (size_t i = 0; w->max_chars && i < word.size; i++)
        chars += (p[i] & 0xC0) != 0x80;
    size_t i = chars > w->max_chars ? word.size + 1 : 0;
    while (i < word.size) {
        infer_token best = -1;
        size_t end = i, at = i;
        struct text_trie_edge edge = w->trie.first[i > 0][p[at++]];
        for (;;) {
            if (edge.token >= 0) {
                best = edge.token;
                end = at;
            }
            if (!edge.node || at == word.size)
                break;
            edge = text_trie_step(&w->trie, edge.node, p[at++]);
        }
        if (best < 0)
            break;
        if (base_array_push(c->a, c->out, best) != INFER_OK)
            return INFER_ERR_NO_MEMORY;
        i = end;
    }
    if (i == word.size)
        return INFER_OK;
    c->out->size = start;
    return base_array_push(c->a, c->out, w->unk);
}

static int is_cjk(uint32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
           (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static int is_ascii_sign(uint32_t cp)
{
    return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') ||
           (cp >= '{' && cp <= '~');
}

static int is_sign(uint32_t cp)
{
    if (cp < 0x80)
        return is_ascii_sign(cp);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* Control, format, private and unassigned characters, and what stands for no character. */
static int is_removed(uint32_t cp)
{
    if (cp == 0 || cp == TEXT_REPLACEMENT)
        return 1;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
    return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CN ||
           k == UTF8PROC_CATEGORY_CO || k == UTF8PROC_CATEGORY_CS;
}

/* Ends the word that is being spelled in c->word. */
static infer_status end_word(const struct text_wordpiece *w, struct text_call *c)
{
    if (c->word.size == 0)
        return INFER_OK;
    infer_status st = put_word(w, c, (struct base_view){c->word.data, c->word.size});
    base_str_clear(&c->word);
    return st;
}

static infer_status put_char(const struct text_wordpiece *w, struct text_call *c, uint32_t cp)
{
    char utf8[TEXT_UTF8_MAX];
    infer_status st = INFER_OK;
    if (text_is_space(cp))
        return end_word(w, c);
    if (cp == 0x130 && !(w->keep & TEXT_BERT_KEEP_CASE)) /* lower case of two characters */
        return base_str_append(&c->word, "i\xCC\x87", 3);
    if (!(w->keep & TEXT_BERT_KEEP_CASE))
        cp = cp < 0x80 ? (cp >= 'A' && cp <= 'Z' ? cp + 32 : cp)
                       : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    int alone = is_sign(cp) || (is_cjk(cp) && !(w->keep & TEXT_BERT_KEEP_CJK));
    if (alone)
        st = end_word(w, c);
    if (st == INFER_OK)
        st = base_str_append(&c->word, utf8, text_utf8_put(cp, utf8));
    return st == INFER_OK && alone ? end_word(w, c) : st;
}

/* Without its accents: those that decomposition sets free are marks, which go. */
static infer_status put_plain(const struct text_wordpiece *w, struct text_call *c, uint32_t cp)
{
    utf8proc_int32_t parts[MAX_DECOMPOSED];
    int last = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, MAX_DECOMPOSED,
                                                 UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
    infer_status st = INFER_OK;
    for (utf8proc_ssize_t i = 0; i < n && i < MAX_DECOMPOSED && st == INFER_OK; i++)
        if (utf8proc_category(parts[i]) != UTF8PROC_CATEGORY_MN)
            st = put_char(w, c, (uint32_t)parts[i]);
    return st;
}

/* Text between white space of ASCII: what becomes of it depends on nothing around it. */
static infer_status put_chunk(const struct text_wordpiece *w, struct text_call *c,
                              struct base_view chunk)
{
    infer_status st = INFER_OK;
    base_str_clear(&c->word);
    for (size_t i = 0; i < chunk.size && st == INFER_OK;) {
        uint32_t cp;
        int n = text_utf8_next(chunk.data + i, chunk.size - i, &cp);
        if (n <= 0) { /* what is no character */
            cp = TEXT_REPLACEMENT;
            n = n < 0 ? -n : (int)(chunk.size - i);
        }
        i += (size_t)n;
        if (!(w->keep & TEXT_BERT_KEEP_CONTROL) && !text_is_space(cp) && is_removed(cp))
            continue;
        st = cp >= 0x80 && !(w->keep & TEXT_BERT_KEEP_ACCENTS) ? put_plain(w, c, cp)
                                                               : put_char(w, c, cp);
    }
    return st == INFER_OK ? end_word(w, c) : st;
}

static int is_ascii_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

infer_status text_wordpiece_encode(const struct text_wordpiece *w, struct text_call *call,
                                   const char *text, size_t size)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < size && st == INFER_OK;) {
        size_t from = i;
        while (i < size && !is_ascii_space(text[i]))
            i++;
        struct base_view chunk = {text + from, i - from};
        struct text_seen *slot = NULL;
        size_t at = call->out->size;
        if (chunk.size)
            st = text_call_recall(call, chunk, &slot);
        if (chunk.size && st == INFER_OK) {
            st = put_chunk(w, call, chunk);
            if (st == INFER_OK)
                text_call_remember(call, slot, at);
        } else if (st == INFER_DONE) {
            st = INFER_OK;
        }
        while (i < size && is_ascii_space(text[i]))
            i++;
    }
    return st;
}
