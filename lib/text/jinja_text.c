/* Texts as sequences of characters: walking, stripping, searching, joining. */
#include "text/jinja_internal.h"
#include "text/unicode.h"

#include <utf8proc.h>

#define GROWABLE_MIN 256 /* shorter results of joining are made to measure */

size_t jinja_text_next(struct base_view text, uint32_t *cp)
{
    int n = text_utf8_next(text.data, text.size, cp);
    if (n > 0)
        return (size_t)n;
    *cp = TEXT_REPLACEMENT; /* an illegal byte stands for itself */
    return text.size ? 1 : 0;
}

size_t jinja_text_previous(struct base_view text, uint32_t *cp)
{
    for (size_t n = 1; n <= TEXT_UTF8_MAX && n <= text.size; n++) {
        const char *p = text.data + text.size - n;
        if (((unsigned char)*p & 0xc0) == 0x80)
            continue;
        if (text_utf8_next(p, n, cp) == (int)n)
            return n;
        break;
    }
    *cp = TEXT_REPLACEMENT;
    return text.size ? 1 : 0;
}

size_t jinja_text_length(struct base_view text)
{
    size_t n = 0;
    uint32_t cp;
    while (text.size) {
        size_t bytes = jinja_text_next(text, &cp);
        text.data += bytes;
        text.size -= bytes;
        n++;
    }
    return n;
}

size_t jinja_text_offset(struct base_view text, size_t n_chars)
{
    const char *start = text.data;
    uint32_t cp;
    while (text.size && n_chars--) {
        size_t bytes = jinja_text_next(text, &cp);
        text.data += bytes;
        text.size -= bytes;
    }
    return (size_t)(text.data - start);
}

int jinja_char_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

int jinja_char_printable(uint32_t cp)
{
    if (cp < 0x7f)
        return cp >= 0x20;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c != UTF8PROC_CATEGORY_CN && c < UTF8PROC_CATEGORY_ZS;
}

static int strips(uint32_t cp, struct base_view c, const struct base_view *chars)
{
    if (!chars)
        return jinja_char_space(cp);
    return jinja_text_find(*chars, c, 0) != SIZE_MAX;
}

struct base_view jinja_text_strip(struct base_view text, const struct base_view *chars, int sides)
{
    uint32_t cp;
    while ((sides & JINJA_STRIP_LEFT) && text.size) {
        size_t n = jinja_text_next(text, &cp);
        if (!strips(cp, (struct base_view){text.data, n}, chars))
            break;
        text.data += n;
        text.size -= n;
    }
    while ((sides & JINJA_STRIP_RIGHT) && text.size) {
        size_t n = jinja_text_previous(text, &cp);
        if (!strips(cp, (struct base_view){text.data + text.size - n, n}, chars))
            break;
        text.size -= n;
    }
    return text;
}

size_t jinja_text_find(struct base_view text, struct base_view part, size_t from)
{
    if (from > text.size || part.size > text.size - from)
        return SIZE_MAX;
    if (part.size == 0)
        return from;
    const char *found = memmem(text.data + from, text.size - from, part.data, part.size);
    return found ? (size_t)(found - text.data) : SIZE_MAX;
}

size_t jinja_text_find_last(struct base_view text, struct base_view part)
{
    if (part.size == 0)
        return text.size;
    for (size_t i = text.size; i >= part.size; i--) {
        const char *p = text.data + i - part.size;
        if (*p == *part.data && memcmp(p, part.data, part.size) == 0)
            return i - part.size;
    }
    return SIZE_MAX;
}

/* Cuts the first line off `rest`, by Python's splitlines. */
struct base_view jinja_next_line(struct base_view *rest, int keep_end)
{
    struct base_view line = {rest->data, 0}, left = *rest;
    size_t ending = 0;
    uint32_t cp;
    while (left.size && !ending) {
        size_t n = jinja_text_next(left, &cp);
        if (cp == '\r' && left.size > 1 && left.data[1] == '\n')
            ending = 2;
        else if ((cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 ||
                 cp == 0x2028 || cp == 0x2029)
            ending = n;
        else
            line.size += n;
        n = ending ? ending : n;
        left.data += n;
        left.size -= n;
    }
    if (keep_end)
        line.size += ending;
    *rest = left;
    return line;
}

static struct jinja_growable *growable_of(struct jinja_value v)
{
    return v.flag & JINJA_TEXT_GROWABLE
               ? (struct jinja_growable *)(void *)((char *)(uintptr_t)v.text.data -
                                                   offsetof(struct jinja_growable, bytes))
               : NULL;
}

/* A text that is built up piece by piece in a loop would need memory by the
 * square of its length if every sum were a new text. So long sums keep room
 * behind them: a text is never changed, but the bytes after its end may become
 * part of a longer one that shares its beginning. */
static struct jinja_value join(struct jinja_render *r, struct jinja_value a, struct jinja_value b,
                               int flag)
{
    size_t size = a.text.size + b.text.size;
    struct jinja_growable *g = growable_of(a);
    jinja_charge(r, b.text.size);
    if (g && g->used == a.text.size && g->capacity - g->used >= b.text.size) {
        memcpy(g->bytes + g->used, b.text.data, b.text.size);
        g->used = size;
        return jinja_text((struct base_view){g->bytes, size}, flag | JINJA_TEXT_GROWABLE);
    }
    size_t capacity = g && g->used == a.text.size ? size * 2 : size;
    jinja_charge(r, a.text.size);
    if (size < GROWABLE_MIN) {
        char *bytes = jinja_new(r, size, 1);
        if (!bytes)
            return jinja_no_value();
        memcpy(bytes, a.text.data, a.text.size);
        memcpy(bytes + a.text.size, b.text.data, b.text.size);
        return jinja_text((struct base_view){bytes, size}, flag);
    }
    g = jinja_new(r, sizeof *g + capacity, 1);
    if (!g)
        return jinja_no_value();
    g->used = size;
    g->capacity = capacity;
    memcpy(g->bytes, a.text.data, a.text.size);
    memcpy(g->bytes + a.text.size, b.text.data, b.text.size);
    return jinja_text((struct base_view){g->bytes, size}, flag | JINJA_TEXT_GROWABLE);
}

struct jinja_value jinja_concat(struct jinja_render *r, struct jinja_value a, struct jinja_value b)
{
    int safe = (a.flag | b.flag) & JINJA_TEXT_SAFE;
    if (safe) {
        a = jinja_escape(r, a);
        b = jinja_escape(r, b);
    }
    if (jinja_failed(r))
        return jinja_no_value();
    if (b.text.size == 0 || a.text.size == 0) {
        struct jinja_value v = b.text.size == 0 ? a : b;
        v.flag = (uint8_t)((v.flag & JINJA_TEXT_GROWABLE) | safe);
        return v;
    }
    return join(r, a, b, safe);
}

struct jinja_value jinja_escape(struct jinja_render *r, struct jinja_value v)
{
    static const char from[] = "&<>\"'";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    if (v.kind != JINJA_STRING)
        v = jinja_str(r, v);
    if (jinja_failed(r) || (v.flag & JINJA_TEXT_SAFE))
        return v;
    size_t begin = jinja_capture_begin(r), plain = 0;
    for (size_t i = 0; i < v.text.size; i++) {
        const char *c = v.text.data[i] ? strchr(from, v.text.data[i]) : NULL;
        if (!c)
            continue;
        jinja_write(r, v.text.data + plain, i - plain);
        jinja_write_text(r, to[c - from]);
        plain = i + 1;
    }
    jinja_write(r, v.text.data + plain, v.text.size - plain);
    v = jinja_capture_end(r, begin);
    v.flag = JINJA_TEXT_SAFE;
    return v;
}
