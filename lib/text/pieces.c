/* Token texts as vocabularies write them, turned into plain bytes. */
#include "text/pieces.h"

#include "base/error.h"
#include "text/unicode.h"
#include "text/wordpiece.h"

#include <string.h>

int32_t text_vocab_type(const struct text_vocab *vocab, size_t token)
{
    if (vocab->types)
        return vocab->types[token] ? vocab->types[token] : TEXT_TOKEN_NORMAL;
    if ((vocab->kind == TEXT_SPM || vocab->kind == TEXT_UNIGRAM) &&
        text_vocab_byte(vocab->tokens[token]) >= 0)
        return TEXT_TOKEN_BYTE;
    return TEXT_TOKEN_NORMAL;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int text_vocab_byte(struct base_view text)
{
    if (text.size != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* Printable bytes of Latin-1 stand for themselves; the 68 others follow from U+0100 on,
 * in their own order. */
static int is_printable(unsigned byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

uint32_t text_alphabet_char(uint8_t byte)
{
    if (is_printable(byte))
        return byte;
    if (byte <= ' ')
        return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int text_alphabet_byte(uint32_t cp)
{
    if (cp < 0x100)
        return is_printable(cp) ? (int)cp : -1;
    if (cp <= 0x120)
        return (int)(cp - 0x100);
    if (cp <= 0x142)
        return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

/* These write at most text.size bytes, the third one more. */
static size_t decode_alphabet(struct base_view text, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t cp;
        size_t length = (size_t)text_utf8_next(text.data + i, text.size - i, &cp);
        int byte = text_alphabet_byte(cp);
        if (byte >= 0) {
            out[n++] = (char)byte;
        } else {
            memcpy(out + n, text.data + i, length);
            n += length;
        }
        i += length;
    }
    return n;
}

static size_t decode_spaces(struct base_view text, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size;) {
        if (text.size - i >= 3 && memcmp(text.data + i, TEXT_SPM_SPACE, 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = text.data[i++];
        }
    }
    return n;
}

static size_t decode_hashes(struct base_view text, char *out)
{
    int inner = text.size > 2 && memcmp(text.data, "##", 2) == 0;
    if (!inner)
        out[0] = ' ';
    size_t skip = inner ? 2 : 0, n = text.size - skip;
    memcpy(out + !inner, text.data + skip, n);
    return n + !inner;
}

static infer_status decode(const struct text_vocab *vocab, int hashes, size_t token, char *out,
                           size_t *n)
{
    struct base_view text = vocab->tokens[token];
    switch (text_vocab_type(vocab, token)) {
    case TEXT_TOKEN_NORMAL:
        if (text_utf8_valid_prefix(text.data, text.size) != text.size)
            return base_error(INFER_ERR_FORMAT, "token %zu is not valid UTF-8", token);
        *n = vocab->kind == TEXT_BPE ? decode_alphabet(text, out)
             : hashes                ? decode_hashes(text, out)
                                     : decode_spaces(text, out);
        return INFER_OK;
    case TEXT_TOKEN_BYTE: {
        int byte = text_vocab_byte(text);
        if (byte < 0)
            return base_error(INFER_ERR_FORMAT,
                              "byte token %zu is '%.*s', expected the form <0xXX>", token,
                              (int)BASE_MIN(text.size, (size_t)32), text.data);
        out[0] = (char)byte;
        *n = 1;
        return INFER_OK;
    }
    default:
        if (text.size)
            memcpy(out, text.data, text.size);
        *n = text.size;
        return INFER_OK;
    }
}

infer_status text_pieces_init(struct text_pieces *p, const struct base_alloc *a,
                              const struct text_vocab *vocab)
{
    size_t total = 0;
    for (size_t i = 0; i < vocab->n_tokens; i++)
        if (__builtin_add_overflow(total, vocab->tokens[i].size, &total) || total > UINT32_MAX)
            return base_error(INFER_ERR_LIMIT, "the vocabulary holds more than 4 GiB of text");
    int hashes = vocab->kind == TEXT_WORDPIECE && text_wordpiece_has_hashes(vocab);
    if (hashes && (total += vocab->n_tokens) > UINT32_MAX)
        return base_error(INFER_ERR_LIMIT, "the vocabulary holds more than 4 GiB of text");
    *p = (struct text_pieces){.n_tokens = vocab->n_tokens};
    p->offsets = base_new(a, vocab->n_tokens + 1, sizeof *p->offsets);
    p->bytes = base_new_raw(a, total, 1);
    infer_status st = p->offsets && p->bytes ? INFER_OK : INFER_ERR_NO_MEMORY;
    size_t used = 0;
    for (size_t i = 0; i < vocab->n_tokens && st == INFER_OK; i++) {
        size_t n = 0;
        st = decode(vocab, hashes, i, p->bytes + used, &n);
        used += n;
        p->offsets[i + 1] = (uint32_t)used;
    }
    if (st != INFER_OK)
        text_pieces_release(p, a);
    return st;
}

void text_pieces_release(struct text_pieces *p, const struct base_alloc *a)
{
    base_free(a, p->offsets);
    base_free(a, p->bytes);
    p->offsets = NULL;
    p->bytes = NULL;
}
