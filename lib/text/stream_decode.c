/* Tokens to text as they come, holding back what is not yet a character. */
#include "text/stream_decode.h"

#include "base/error.h"
#include "text/unicode.h"

void text_decoder_init(struct text_decoder *d, const struct text_tokenizer *tokenizer, int special,
                       int continuing)
{
    const struct text_vocab *v = text_tokenizer_vocab(tokenizer);
    *d = (struct text_decoder){.tokenizer = tokenizer, .special = special};
    int prefixed = v->kind == TEXT_WORDPIECE ||
                   (v->add_space_prefix && !(v->add_space_prefix & TEXT_PREFIX_BEHIND));
    d->at_start = prefixed && !continuing;
}

/* Appends the characters of `bytes`, U+FFFD for what is none; returns through `rest` how
 * many bytes at the end may still become one. */
static infer_status append_characters(struct base_str *out, const char *bytes, size_t size,
                                      size_t *rest)
{
    size_t i = 0;
    *rest = 0;
    while (i < size) {
        size_t valid = text_utf8_valid_prefix(bytes + i, size - i);
        infer_status st = base_str_append(out, bytes + i, valid);
        i += valid;
        if (st == INFER_OK && i < size) {
            uint32_t cp;
            int bad = text_utf8_next(bytes + i, size - i, &cp);
            if (bad == 0) {
                *rest = size - i;
                return INFER_OK;
            }
            st = base_str_append(out, TEXT_REPLACEMENT_UTF8, strlen(TEXT_REPLACEMENT_UTF8));
            i += (size_t)-bad;
        }
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

/* Adds bytes of the piece to the pending ones until nothing is pending; gives back how many
 * bytes of the piece that took. */
static infer_status finish_pending(struct text_decoder *d, struct base_str *out,
                                   struct base_view piece, size_t *used)
{
    size_t i = 0;
    while (i < piece.size && d->n_pending) {
        d->pending[d->n_pending++] = (uint8_t)piece.data[i++];
        size_t n = (size_t)d->n_pending, rest;
        infer_status st = append_characters(out, (const char *)d->pending, n, &rest);
        if (st != INFER_OK)
            return st;
        memmove(d->pending, d->pending + n - rest, rest);
        d->n_pending = (int32_t)rest;
    }
    *used = i;
    return INFER_OK;
}

infer_status text_decoder_push(struct text_decoder *d, infer_token token, struct base_str *out)
{
    size_t n_tokens = text_tokenizer_vocab(d->tokenizer)->n_tokens;
    if (token < 0 || (size_t)token >= n_tokens)
        return base_error(INFER_ERR_INVALID, "token %d is outside the vocabulary of %zu",
                          (int)token, n_tokens);
    struct base_view piece = text_tokenizer_piece_view(d->tokenizer, token, d->special);
    if (piece.size == 0)
        return INFER_OK;
    /* Nothing changes unless all of the piece could be written. */
    struct text_decoder next = *d;
    size_t before = out->size, used = 0, rest = 0;
    if (next.at_start && piece.data[0] == ' ') {
        piece.data++;
        piece.size--;
    }
    next.at_start = 0;
    infer_status st = finish_pending(&next, out, piece, &used);
    if (st == INFER_OK && used < piece.size) {
        st = append_characters(out, piece.data + used, piece.size - used, &rest);
        memcpy(next.pending, piece.data + piece.size - rest, rest);
        next.n_pending = (int32_t)rest;
    }
    if (st != INFER_OK) {
        out->size = before;
        if (out->data)
            out->data[before] = 0;
        return st;
    }
    *d = next;
    return INFER_OK;
}

infer_status text_decoder_finish(struct text_decoder *d, struct base_str *out)
{
    if (!d->n_pending)
        return INFER_OK;
    infer_status st = base_str_append(out, TEXT_REPLACEMENT_UTF8, strlen(TEXT_REPLACEMENT_UTF8));
    if (st == INFER_OK)
        d->n_pending = 0;
    return st;
}
