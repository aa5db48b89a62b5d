/* The way of a text to its tokens: special tokens are found, what stands between them is
 * normalised and given to the vocabulary's kind. */
#include "text/guard.h"
#include "text/tokenizer_internal.h"
#include "text/unicode.h"

struct encoder {
    const struct text_tokenizer *t;
    struct text_call call;
    struct text_splitter splitter; /* BPE */
};

static int has_prefix(const struct text_vocab *v, struct base_view text, int at_start)
{
    if (!v->add_space_prefix || ((v->add_space_prefix & TEXT_PREFIX_FIRST) && !at_start))
        return 0;
    if (!(v->add_space_prefix & TEXT_PREFIX_MISSING))
        return 1;
    return text.data[0] != ' ' && (v->kind == TEXT_BPE || text.size < strlen(TEXT_SPM_SPACE) ||
                                   memcmp(text.data, TEXT_SPM_SPACE, strlen(TEXT_SPM_SPACE)) != 0);
}

/* Spaces as the vocabulary writes them, with one more in front or behind. */
static infer_status escape_spaces(const struct text_vocab *v, struct text_call *c, int prefix,
                                  struct base_view *text)
{
    const char *space = v->kind == TEXT_BPE || v->plain_spaces ? " " : TEXT_SPM_SPACE;
    size_t n = strlen(space);
    int behind = v->add_space_prefix & TEXT_PREFIX_BEHIND;
    struct base_str *out = &c->word;
    base_str_clear(out);
    infer_status st = prefix && !behind ? base_str_append(out, space, n) : INFER_OK;
    for (size_t i = 0; i < text->size && st == INFER_OK;) {
        const char *at = memchr(text->data + i, ' ', text->size - i);
        size_t run = at ? (size_t)(at - text->data) - i : text->size - i;
        st = base_str_append(out, text->data + i, run);
        if (at && st == INFER_OK)
            st = base_str_append(out, space, n);
        i += run + (at != NULL);
    }
    if (st == INFER_OK && prefix && behind)
        st = base_str_append(out, space, n);
    *text = (struct base_view){out->data, out->size};
    return st == INFER_OK ? text_call_keep(c, text) : st;
}

/* The text between two special tokens. */
static infer_status encode_plain(struct encoder *e, struct base_view text, int at_start)
{
    const struct text_tokenizer *t = e->t;
    struct text_call *c = &e->call;
    const char *before = text.data;
    infer_status st = INFER_OK;
    if (t->normalizer.n)
        st = text_normalize(&t->normalizer, &c->normal, &text);
    if (st != INFER_OK || text.size == 0)
        return st;
    int prefix = has_prefix(&t->vocab, text, at_start);
    if (t->vocab.kind == TEXT_UNIGRAM || (t->vocab.kind == TEXT_BPE && prefix))
        st = escape_spaces(&t->vocab, c, prefix, &text);
    else if (text.data != before)
        st = text_call_keep(c, &text);
    if (st != INFER_OK)
        return st;
    switch (t->vocab.kind) {
    case TEXT_BPE:
        return text_bpe_encode(&t->as.bpe, c, &e->splitter, text.data, text.size);
    case TEXT_SPM:
        return text_spm_encode(&t->as.spm, c, prefix, text.data, text.size);
    case TEXT_WORDPIECE:
        return text_wordpiece_encode(&t->as.wordpiece, c, text.data, text.size);
    default:
        return text_unigram_encode(&t->as.unigram, c, text.data, text.size);
    }
}

/* The same without the marks of text_tokenizer_guard(). */
static infer_status encode_unmarked(struct encoder *e, struct base_view text, int at_start)
{
    const char *p = text.data, *end = text.data + text.size;
    const char *mark = memmem(p, text.size, TEXT_GUARD_MARK, TEXT_GUARD_BYTES);
    if (!mark)
        return encode_plain(e, text, at_start);
    struct base_str *plain = &e->call.word;
    infer_status st = INFER_OK;
    base_str_clear(plain);
    for (; mark && st == INFER_OK;
         mark = memmem(p, (size_t)(end - p), TEXT_GUARD_MARK, TEXT_GUARD_BYTES)) {
        st = base_str_append(plain, p, (size_t)(mark - p));
        p = mark + TEXT_GUARD_BYTES;
    }
    if (st == INFER_OK)
        st = base_str_append(plain, p, (size_t)(end - p));
    text = (struct base_view){plain->data, plain->size};
    if (st == INFER_OK)
        st = text_call_keep(&e->call, &text);
    return st == INFER_OK && text.size ? encode_plain(e, text, at_start) : st;
}

/* Bytes of white space at the front of a text, and at its end from `from` on. */
static size_t space_ahead(const char *text, size_t size)
{
    size_t i = 0;
    uint32_t cp;
    int n;
    while ((n = text_utf8_next(text + i, size - i, &cp)) > 0 && text_is_space(cp))
        i += (size_t)n;
    return i;
}

static size_t space_behind(const char *text, size_t size)
{
    size_t end = size;
    while (end > 0) {
        size_t i = end - 1;
        while (i > 0 && end - i < TEXT_UTF8_MAX && ((uint8_t)text[i] & 0xC0) == 0x80)
            i--;
        uint32_t cp;
        int n = text_utf8_next(text + i, end - i, &cp);
        if (n <= 0 || (size_t)n != end - i || !text_is_space(cp))
            break;
        end = i;
    }
    return size - end;
}

/* Whether nothing of a word touches the token at `at`. */
static int stands_alone(const char *text, size_t size, size_t at, size_t length)
{
    size_t i = at;
    while (i > 0 && at - i < TEXT_UTF8_MAX) {
        i--;
        if (((uint8_t)text[i] & 0xC0) != 0x80)
            break;
    }
    return !(at > 0 && text_is_word(text + i, at - i)) &&
           !(at + length < size && text_is_word(text + at + length, size - at - length));
}

struct found {
    infer_token token; /* or -1 */
    size_t at, end;    /* with the white space that it swallows */
};

static struct found find_special(const struct text_tokenizer *t, const char *text, size_t size,
                                 size_t from, int control)
{
    struct found f = {-1, size, size};
    for (size_t start = from; start < size;) {
        size_t at = size, length = 0;
        infer_token token =
            text_special_find(&t->special, text, size, start, control, &at, &length);
        if (token < 0)
            break;
        uint8_t flags = t->vocab.flags ? t->vocab.flags[token] : 0;
        start = at + length;
        if ((flags & TEXT_TOKEN_ALONE) && !stands_alone(text, size, at, length))
            continue;
        f = (struct found){token, at, start};
        if (flags & TEXT_TOKEN_STRIP_LEFT)
            f.at -= space_behind(text + from, at - from);
        if (flags & TEXT_TOKEN_STRIP_RIGHT)
            f.end += space_ahead(text + start, size - start);
        break;
    }
    return f;
}

static infer_status encode_text(struct encoder *e, const char *text, size_t size, uint32_t flags)
{
    infer_status st = INFER_OK;
    for (size_t from = 0; from < size && st == INFER_OK;) {
        struct found f = find_special(e->t, text, size, from, (flags & TEXT_ENCODE_SPECIAL) != 0);
        struct base_view plain = {text + from, f.at - from};
        if (plain.size)
            st = flags & TEXT_ENCODE_GUARDED ? encode_unmarked(e, plain, from == 0)
                                             : encode_plain(e, plain, from == 0);
        if (st == INFER_OK && f.token >= 0)
            st = base_array_push(e->call.a, e->call.out, f.token);
        from = f.end;
    }
    return st;
}

infer_status text_tokenizer_encode(const struct text_tokenizer *tokenizer,
                                   const struct base_alloc *a, const char *text, size_t size,
                                   uint32_t flags, text_tokens *out)
{
    const struct text_vocab *v = &tokenizer->vocab;
    size_t start = out->size;
    int add = (flags & TEXT_ENCODE_ADD) != 0;
    struct encoder e = {.t = tokenizer};
    infer_status st = text_call_init(&e.call, a, out, size);
    if (st == INFER_OK && v->kind == TEXT_BPE)
        st = text_splitter_init(&e.splitter, tokenizer->as.bpe.pre, a);
    if (st == INFER_OK && add && v->add_bos)
        st = base_array_push(a, out, v->bos);
    if (st == INFER_OK)
        st = encode_text(&e, text, size, flags);
    if (st == INFER_OK && add && v->add_eos)
        st = base_array_push(a, out, v->eos);
    if (st != INFER_OK)
        out->size = start;
    text_splitter_release(&e.splitter);
    text_call_release(&e.call);
    return st;
}
