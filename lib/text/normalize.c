/* The steps of normalisation, each from one buffer into the next. */
#include "text/normalize.h"

#include "base/error.h"
#include "text/unicode.h"

#include <utf8proc.h>

enum step {
    STEP_NFC,
    STEP_NFD,
    STEP_NFKC,
    STEP_NFKD,
    STEP_LOWERCASE,
    STEP_STRIP_ACCENTS,
    STEP_STRIP_LEFT,
    STEP_STRIP_RIGHT,
    STEP_SQUEEZE,
    STEP_SQUEEZE_SPACE,
    STEP_NMT,
    STEP_CHARSMAP,
    STEP_PREPEND,
    STEP_REPLACE,
    STEP_REPLACE_REGEX
};

static const struct {
    const char *name;
    int32_t n_arguments;
} step_names[] = {
    [STEP_NFC] = {"nfc", 0},
    [STEP_NFD] = {"nfd", 0},
    [STEP_NFKC] = {"nfkc", 0},
    [STEP_NFKD] = {"nfkd", 0},
    [STEP_LOWERCASE] = {"lowercase", 0},
    [STEP_STRIP_ACCENTS] = {"strip_accents", 0},
    [STEP_STRIP_LEFT] = {"strip_left", 0},
    [STEP_STRIP_RIGHT] = {"strip_right", 0},
    [STEP_SQUEEZE] = {"squeeze", 0},
    [STEP_SQUEEZE_SPACE] = {"squeeze_space", 0},
    [STEP_NMT] = {"nmt", 0},
    [STEP_CHARSMAP] = {"charsmap", 0},
    [STEP_PREPEND] = {"prepend", 1},
    [STEP_REPLACE] = {"replace", 2},
    [STEP_REPLACE_REGEX] = {"replace_regex", 2},
};

static int32_t find_step(struct base_view name)
{
    for (size_t i = 0; i < BASE_COUNT(step_names); i++)
        if (base_view_equal(name, step_names[i].name))
            return (int32_t)i;
    return -1;
}

/* One step out of `words`; gives back how many of them it took. */
static infer_status add_step(struct text_normalizer *z, const struct base_view *words, size_t n,
                             size_t *used)
{
    int32_t what = find_step(words[0]);
    if (what < 0)
        return base_error(INFER_ERR_UNSUPPORTED, "normalisation step '%.*s' is not known",
                          (int)BASE_MIN(words[0].size, (size_t)64), words[0].data);
    size_t arguments = (size_t)step_names[what].n_arguments;
    if (n - 1 < arguments)
        return base_error(INFER_ERR_FORMAT, "normalisation step '%s' needs %zu arguments",
                          step_names[what].name, arguments);
    if (z->n == TEXT_NORMALIZER_MAX_STEPS)
        return base_error(INFER_ERR_LIMIT, "more than %d normalisation steps",
                          TEXT_NORMALIZER_MAX_STEPS);
    struct text_normal_step *step = &z->steps[z->n];
    *step = (struct text_normal_step){.what = what};
    *used = 1 + arguments;
    if (what == STEP_PREPEND)
        step->to = words[1];
    if (what == STEP_REPLACE || what == STEP_REPLACE_REGEX) {
        step->from = words[1];
        step->to = words[2];
    }
    if (what == STEP_REPLACE && step->from.size == 0)
        return base_error(INFER_ERR_FORMAT, "normalisation step 'replace' has nothing to look for");
    z->n++;
    if (what == STEP_REPLACE_REGEX)
        return text_regex_create(&step->regex, &z->alloc, step->from, TEXT_REGEX_FOREIGN);
    return INFER_OK;
}

infer_status text_normalizer_init(struct text_normalizer *z, const struct base_alloc *a,
                                  const struct base_view *steps, size_t n,
                                  struct base_view charsmap)
{
    *z = (struct text_normalizer){.alloc = *a};
    infer_status st = text_charsmap_init(&z->charsmap, charsmap);
    for (size_t i = 0, used = 0; i < n && st == INFER_OK; i += used)
        st = add_step(z, steps + i, n - i, &used);
    if (st != INFER_OK)
        text_normalizer_release(z);
    return st;
}

void text_normalizer_release(struct text_normalizer *z)
{
    for (int32_t i = 0; i < z->n; i++)
        text_regex_destroy(&z->steps[i].regex);
    z->n = 0;
}

void text_normal_work_init(struct text_normal_work *w, const struct base_alloc *a)
{
    *w = (struct text_normal_work){0};
    base_str_init(&w->a, a, 0);
    base_str_init(&w->b, a, 0);
}

void text_normal_work_release(struct text_normal_work *w)
{
    if (!w->a.alloc)
        return;
    base_array_release(w->a.alloc, &w->code_points);
    base_str_release(&w->a);
    base_str_release(&w->b);
}

static infer_status put_char(struct base_str *out, uint32_t cp)
{
    char utf8[TEXT_UTF8_MAX];
    return base_str_append(out, utf8, text_utf8_put(cp, utf8));
}

/* The character at the front, or -1 for a byte that is none; its length. */
static int32_t char_at(struct base_view in, size_t i, size_t *length)
{
    uint32_t cp;
    int n = text_utf8_next(in.data + i, in.size - i, &cp);
    *length = n > 0 ? (size_t)n : 1;
    return n > 0 ? (int32_t)cp : -1;
}

/* Control characters of the NMT models, and the spaces that they see as one. */
static int is_nmt_removed(int32_t cp)
{
    return (cp >= 0x1 && cp <= 0x8) || cp == 0xB || (cp >= 0xE && cp <= 0x1F) || cp == 0x7F ||
           cp == 0x8F || cp == 0x9F;
}

static int is_nmt_space(int32_t cp)
{
    return cp == 0x9 || cp == 0xA || cp == 0xC || cp == 0xD || cp == 0x1680 ||
           (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 || cp == 0x2581 ||
           cp == 0xFEFF || cp == 0xFFFD;
}

static int is_mark(utf8proc_category_t c)
{
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
}

static infer_status map_char(struct base_str *out, int32_t what, int32_t cp)
{
    switch (what) {
    case STEP_LOWERCASE:
        if (cp == 0x130) /* the one character whose lower case is two */
            return base_str_append(out, "i\xCC\x87", 3);
        return put_char(out, (uint32_t)utf8proc_tolower(cp));
    case STEP_STRIP_ACCENTS:
        if (cp >= 0x300 && is_mark(utf8proc_category(cp)))
            return INFER_OK;
        break;
    default: /* STEP_NMT */
        if (is_nmt_removed(cp))
            return INFER_OK;
        if (is_nmt_space(cp))
            return base_str_put(out, ' ');
    }
    return put_char(out, (uint32_t)cp);
}

static infer_status map_chars(int32_t what, struct base_view in, struct base_str *out)
{
    infer_status st = INFER_OK;
    for (size_t i = 0, n; i < in.size && st == INFER_OK; i += n) {
        int32_t cp = char_at(in, i, &n);
        st = cp < 0 ? base_str_put(out, in.data[i]) : map_char(out, what, cp);
    }
    return st;
}

/* Bytes of the white space at the front; `wide` counts more than U+0020. */
static size_t space_at(struct base_view in, size_t i, int wide)
{
    size_t n;
    int32_t cp = char_at(in, i, &n);
    if (cp < 0x80)
        return cp == ' ' || (wide && cp >= '\t' && cp <= '\r');
    return wide && text_is_space((uint32_t)cp) ? n : 0;
}

static infer_status squeeze(struct base_view in, struct base_str *out, int wide)
{
    infer_status st = INFER_OK;
    size_t start = out->size;
    for (size_t i = 0, n; i < in.size && st == INFER_OK;) {
        size_t word = i;
        while (i < in.size && !space_at(in, i, wide)) {
            (void)char_at(in, i, &n);
            i += n;
        }
        if (i > word && out->size > start)
            st = base_str_put(out, ' ');
        if (st == INFER_OK)
            st = base_str_append(out, in.data + word, i - word);
        while (i < in.size && (n = space_at(in, i, wide)) > 0)
            i += n;
    }
    return st;
}

static infer_status strip(struct base_view in, struct base_str *out, int left)
{
    size_t from = 0, to = in.size, n, end = 0;
    while (left && from < to && (n = space_at(in, from, 1)) > 0)
        from += n;
    for (size_t i = from; !left && i < in.size; i += n) {
        int space = space_at(in, i, 1) > 0;
        (void)char_at(in, i, &n);
        if (!space)
            end = i + n;
    }
    return base_str_append(out, in.data + from, (left ? to : end) - from);
}

static infer_status apply_charsmap(const struct text_charsmap *m, struct base_view in,
                                   struct base_str *out)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < in.size && st == INFER_OK;) {
        struct base_view to;
        size_t n = text_charsmap_find(m, in.data + i, in.size - i, &to);
        if (n == 0) {
            int32_t cp = char_at(in, i, &n);
            to = cp < 0 ? (struct base_view){TEXT_REPLACEMENT_UTF8, 3}
                        : (struct base_view){in.data + i, n};
        }
        st = base_str_append(out, to.data, to.size);
        i += n;
    }
    return st;
}

static infer_status replace(const struct text_normal_step *s, struct base_view in,
                            struct base_str *out)
{
    const char *p = in.data, *end = in.data + in.size, *at;
    infer_status st = INFER_OK;
    while (st == INFER_OK &&
           (at = memmem(p, (size_t)(end - p), s->from.data, s->from.size)) != NULL) {
        st = base_str_append(out, p, (size_t)(at - p));
        if (st == INFER_OK)
            st = base_str_append(out, s->to.data, s->to.size);
        p = at + s->from.size;
    }
    return st == INFER_OK ? base_str_append(out, p, (size_t)(end - p)) : st;
}

/* Within what is valid UTF-8; other bytes are kept. */
static infer_status replace_regex(const struct text_normal_step *s, struct base_view in,
                                  struct base_str *out)
{
    struct text_matcher m;
    infer_status st = text_matcher_init(&m, out->alloc);
    for (size_t i = 0; i < in.size && st == INFER_OK;) {
        size_t valid = text_utf8_valid_prefix(in.data + i, in.size - i), at = 0;
        while (at < valid && st == INFER_OK) {
            size_t from, to;
            st = text_regex_search(s->regex, &m, in.data + i, valid, at, &from, &to);
            if (st == INFER_OK)
                st = base_str_append(out, in.data + i + at, from - at);
            if (st == INFER_OK && to > from)
                st = base_str_append(out, s->to.data, s->to.size);
            at = to;
        }
        i += valid;
        if (i < in.size && st == INFER_OK)
            st = base_str_put(out, in.data[i++]);
    }
    text_matcher_release(&m);
    return st;
}

static infer_status apply(const struct text_normalizer *z, const struct text_normal_step *s,
                          struct base_view in, struct text_normal_work *w, struct base_str *out)
{
    infer_status st;
    switch (s->what) {
    case STEP_NFC:
    case STEP_NFD:
    case STEP_NFKC:
    case STEP_NFKD:
        return text_form_append((enum text_form)(s->what - STEP_NFC + TEXT_NFC), in.data, in.size,
                                &w->code_points, out);
    case STEP_STRIP_LEFT:
    case STEP_STRIP_RIGHT:
        return strip(in, out, s->what == STEP_STRIP_LEFT);
    case STEP_SQUEEZE:
    case STEP_SQUEEZE_SPACE:
        return squeeze(in, out, s->what == STEP_SQUEEZE_SPACE);
    case STEP_CHARSMAP:
        return apply_charsmap(&z->charsmap, in, out);
    case STEP_PREPEND:
        st = base_str_append(out, s->to.data, s->to.size);
        return st == INFER_OK ? base_str_append(out, in.data, in.size) : st;
    case STEP_REPLACE:
        return replace(s, in, out);
    case STEP_REPLACE_REGEX:
        return replace_regex(s, in, out);
    default:
        return map_chars(s->what, in, out);
    }
}

infer_status text_normalize(const struct text_normalizer *z, struct text_normal_work *w,
                            struct base_view *text)
{
    struct base_str *out = &w->a;
    for (int32_t i = 0; i < z->n && text->size; i++) {
        const struct text_normal_step *s = &z->steps[i];
        if (s->what <= STEP_NFKD &&
            text_form_stable((enum text_form)(s->what - STEP_NFC + TEXT_NFC), text->data,
                             text->size) == text->size)
            continue;
        base_str_clear(out);
        infer_status st = apply(z, s, *text, w, out);
        if (st != INFER_OK)
            return st;
        *text = (struct base_view){out->data ? out->data : "", out->size};
        out = out == &w->a ? &w->b : &w->a;
    }
    return INFER_OK;
}
