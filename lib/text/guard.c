/* Breaks control tokens that are written out in strangers' text. */
#include "text/guard.h"

#include "base/str.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Appends text as it is, but for marks that were there before. */
static infer_status append_unmarked(struct base_str *out, const char *text, size_t size)
{
    infer_status st = INFER_OK;
    while (size && st == INFER_OK) {
        const char *mark = memmem(text, size, TEXT_GUARD_MARK, TEXT_GUARD_BYTES);
        size_t n = mark ? (size_t)(mark - text) : size;
        st = base_str_append(out, text, n);
        if (st == INFER_OK && mark)
            st = base_str_append(out, REPLACEMENT, sizeof REPLACEMENT - 1);
        n += mark ? TEXT_GUARD_BYTES : 0;
        text += n;
        size -= n;
    }
    return st;
}

/* Bytes of the first character of a token's text. */
static size_t first_character(const char *text, size_t size)
{
    size_t n = 1;
    while (n < size && ((unsigned char)text[n] & 0xc0) == 0x80)
        n++;
    return n;
}

infer_status text_guard(const struct text_special *special, const struct text_vocab *vocab,
                        const char *text, size_t size, struct base_str *out)
{
    infer_status st = INFER_OK;
    size_t done = 0;
    for (size_t from = 0; from < size && st == INFER_OK;) {
        size_t at = size, length = 0;
        infer_token token = text_special_find(special, text, size, from, 1, &at, &length);
        if (token < 0)
            break;
        /* The search goes on inside the token: another one may lie across its end. */
        from = at + first_character(text + at, length);
        if (!vocab->types || vocab->types[token] != TEXT_TOKEN_CONTROL)
            continue;
        st = append_unmarked(out, text + done, from - done);
        if (st == INFER_OK)
            st = base_str_append(out, TEXT_GUARD_MARK, TEXT_GUARD_BYTES);
        done = from;
    }
    return st == INFER_OK ? append_unmarked(out, text + done, size - done) : st;
}
