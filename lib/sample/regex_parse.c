/* Regular expressions of ECMA-262, as JSON Schema has them: what is regular, and no more. */
#include "base/error.h"
#include "sample/regex_dfa.h"
#include "text/unicode.h"

#include <string.h>

#define DEPTH_MAX  200
#define REPEAT_MAX 1000000000u

struct regex {
    struct grammar_builder *b;
    const char *text, *at, *end;
    int depth;
    infer_status status;
};

static void fail(struct regex *p, infer_status status, const char *what)
{
    if (p->status == INFER_OK && p->b->status == INFER_OK)
        p->status = base_error(status, "regular expression, column %zu: %s",
                               (size_t)(p->at - p->text) + 1, what);
}

static int failed(const struct regex *p)
{
    return p->status != INFER_OK || p->b->status != INFER_OK;
}

static int peek(const struct regex *p)
{
    return p->at < p->end ? (uint8_t)*p->at : -1;
}

static int looks_at(const struct regex *p, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(p->end - p->at) >= n && memcmp(p->at, text, n) == 0;
}

/* -------------------------------------------------------------- characters */

static const struct charset_range digits[] = {{'0', '9'}};
static const struct charset_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct charset_range spaces[] = {
    {'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF},
};
static const struct charset_range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

static void add(struct regex *p, struct charset *set, uint32_t lo, uint32_t hi)
{
    if (!failed(p) && charset_add(set, &p->b->alloc, lo, hi) != INFER_OK)
        p->status = INFER_ERR_NO_MEMORY;
}

static void add_ranges(struct regex *p, struct charset *set, const struct charset_range *ranges,
                       size_t n, int inverted)
{
    struct charset part = {0};
    for (size_t i = 0; i < n; i++)
        add(p, &part, ranges[i].lo, ranges[i].hi);
    charset_finish(&part);
    if (inverted && !failed(p) && charset_invert(&part, &p->b->alloc) != INFER_OK)
        p->status = INFER_ERR_NO_MEMORY;
    if (!failed(p) && charset_add_all(set, &p->b->alloc, &part) != INFER_OK)
        p->status = INFER_ERR_NO_MEMORY;
    charset_release(&part, &p->b->alloc);
}

/* \d and its like: adds the set and gives 1. */
static int class_escape(struct regex *p, int c, struct charset *set)
{
    switch (c) {
    case 'd':
    case 'D':
        add_ranges(p, set, digits, BASE_COUNT(digits), c == 'D');
        return 1;
    case 'w':
    case 'W':
        add_ranges(p, set, words, BASE_COUNT(words), c == 'W');
        return 1;
    case 's':
    case 'S':
        add_ranges(p, set, spaces, BASE_COUNT(spaces), c == 'S');
        return 1;
    default:
        return 0;
    }
}

static uint32_t hex(struct regex *p, int n_digits)
{
    uint32_t value = 0;
    for (int i = 0; i < n_digits; i++) {
        int c = peek(p);
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) {
            fail(p, INFER_ERR_FORMAT, "a hexadecimal digit is expected");
            return 0;
        }
        value = value << 4 | (uint32_t)d;
        p->at++;
    }
    return value;
}

/* \u1234, \u{12345}, and pairs of surrogates. */
static uint32_t unicode_escape(struct regex *p)
{
    uint32_t cp = 0;
    if (peek(p) == '{') {
        for (p->at++; peek(p) != '}' && cp <= CHARSET_LAST && !failed(p);)
            cp = cp << 4 | hex(p, 1);
        p->at += !failed(p);
    } else {
        cp = hex(p, 4);
        if (cp >= 0xD800 && cp <= 0xDBFF && looks_at(p, "\\u")) {
            p->at += 2;
            uint32_t low = hex(p, 4);
            cp = low >= 0xDC00 && low <= 0xDFFF ? 0x10000 + ((cp - 0xD800) << 10) + low - 0xDC00
                                                : 0xD800;
        }
    }
    if (cp > CHARSET_LAST || (cp >= 0xD800 && cp <= 0xDFFF))
        fail(p, INFER_ERR_FORMAT, "the escape names no character");
    return cp;
}

/* An escape that stands for one character; p->at is behind the letter `c`. */
static uint32_t char_escape(struct regex *p, int c)
{
    static const char controls[] = "t\tn\nr\rf\fv\v";
    const char *control = c > 0 ? strchr(controls, c) : NULL;
    if (control && (control - controls) % 2 == 0)
        return (uint8_t)control[1];
    if (c == 'x')
        return hex(p, 2);
    if (c == 'u')
        return unicode_escape(p);
    if (c == '0' && !(peek(p) >= '0' && peek(p) <= '9'))
        return 0;
    if (c == 'c' && ((peek(p) >= 'a' && peek(p) <= 'z') || (peek(p) >= 'A' && peek(p) <= 'Z')))
        return (uint32_t)(*p->at++ & 0x1F);
    p->at--;
    if (c == 'p' || c == 'P')
        fail(p, INFER_ERR_UNSUPPORTED, "Unicode properties (\\p) are not supported");
    else if (c == 'b' || c == 'B')
        fail(p, INFER_ERR_UNSUPPORTED, "word boundaries (\\b) are not supported");
    else if ((c >= '0' && c <= '9') || c == 'k')
        fail(p, INFER_ERR_UNSUPPORTED, "back references are not supported");
    else if (c < 0x21 || c > 0x7E || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        fail(p, INFER_ERR_FORMAT, "no escape is written so");
    else
        p->at++;
    return (uint32_t)c;
}

static uint32_t plain_char(struct regex *p)
{
    uint32_t cp = 0;
    int n = text_utf8_next(p->at, (size_t)(p->end - p->at), &cp);
    if (n <= 0)
        fail(p, INFER_ERR_FORMAT, p->at == p->end ? "the expression ends too early" : "no UTF-8");
    else
        p->at += n;
    return cp;
}

/* A member of a class: one character, or a set (then *is_set). */
static uint32_t class_member(struct regex *p, struct charset *set, int *is_set)
{
    *is_set = 0;
    if (peek(p) != '\\')
        return plain_char(p);
    p->at++;
    int c = peek(p);
    p->at += c >= 0;
    if (c == 'b')
        return '\b';
    *is_set = class_escape(p, c, set);
    return *is_set ? 0 : char_escape(p, c);
}

static const struct grammar_expr *finish_set(struct regex *p, struct charset *set, int inverted)
{
    charset_finish(set);
    if (inverted && !failed(p) && charset_invert(set, &p->b->alloc) != INFER_OK)
        p->status = INFER_ERR_NO_MEMORY;
    const struct grammar_expr *e = grammar_chars(p->b, set);
    charset_release(set, &p->b->alloc);
    return e;
}

static const struct grammar_expr *char_class(struct regex *p)
{
    struct charset set = {0};
    int inverted = looks_at(p, "[^");
    p->at += 1 + inverted;
    while (peek(p) != ']' && !failed(p)) {
        int is_set, to_set;
        uint32_t lo = class_member(p, &set, &is_set), hi = lo;
        if (peek(p) == '-' && p->end - p->at > 1 && p->at[1] != ']') {
            p->at++;
            hi = class_member(p, &set, &to_set);
            if (is_set || to_set) { /* the dash stands for itself */
                add(p, &set, '-', '-');
                if (!to_set)
                    add(p, &set, hi, hi);
                hi = lo;
            } else if (hi < lo) {
                fail(p, INFER_ERR_FORMAT, "a range of characters runs backwards");
            }
        }
        if (!is_set)
            add(p, &set, lo, hi);
    }
    p->at += !failed(p);
    return finish_set(p, &set, inverted);
}

/* ------------------------------------------------------------- expressions */

static const struct grammar_expr *alternatives(struct regex *p);

static const struct grammar_expr *anchor(struct regex *p, int32_t kind)
{
    struct grammar_expr *e =
        p->b->status == INFER_OK ? base_arena_new(&p->b->arena, 1, sizeof *e) : NULL;
    if (!e) {
        grammar_builder_fail(p->b, INFER_ERR_NO_MEMORY);
        return grammar_never(p->b);
    }
    e->kind = kind;
    return e;
}

static const struct grammar_expr *group(struct regex *p)
{
    p->at++;
    if (looks_at(p, "?:")) {
        p->at += 2;
    } else if (looks_at(p, "?=") || looks_at(p, "?!")) {
        fail(p, INFER_ERR_UNSUPPORTED, "lookahead is not supported");
    } else if (looks_at(p, "?<=") || looks_at(p, "?<!")) {
        fail(p, INFER_ERR_UNSUPPORTED, "lookbehind is not supported");
    } else if (looks_at(p, "?<")) {
        while (peek(p) >= 0 && peek(p) != '>')
            p->at++;
        p->at += peek(p) == '>';
    } else if (peek(p) == '?') {
        fail(p, INFER_ERR_UNSUPPORTED, "flags inside of an expression are not supported");
    }
    if (++p->depth > DEPTH_MAX)
        fail(p, INFER_ERR_LIMIT, "groups nest more than 200 deep");
    const struct grammar_expr *e = failed(p) ? grammar_never(p->b) : alternatives(p);
    p->depth--;
    if (peek(p) != ')')
        fail(p, INFER_ERR_FORMAT, "\")\" is expected");
    p->at += !failed(p);
    return e;
}

static const struct grammar_expr *one_char(struct regex *p, uint32_t cp)
{
    char bytes[TEXT_UTF8_MAX];
    return grammar_bytes(p->b, bytes, text_utf8_put(cp, bytes));
}

static const struct grammar_expr *escape(struct regex *p)
{
    struct charset set = {0};
    p->at++;
    int c = peek(p);
    if (c < 0)
        fail(p, INFER_ERR_FORMAT, "the expression ends in a backslash");
    p->at += c >= 0;
    if (class_escape(p, c, &set))
        return finish_set(p, &set, 0);
    uint32_t cp = failed(p) ? 0 : char_escape(p, c);
    return failed(p) ? grammar_never(p->b) : one_char(p, cp);
}

static const struct grammar_expr *dot(struct regex *p)
{
    struct charset set = {0};
    p->at++;
    add_ranges(p, &set, line_ends, BASE_COUNT(line_ends), 1);
    return finish_set(p, &set, 0);
}

static const struct grammar_expr *atom(struct regex *p)
{
    switch (peek(p)) {
    case '(':
        return group(p);
    case '[':
        return char_class(p);
    case '\\':
        return escape(p);
    case '.':
        return dot(p);
    case '^':
        p->at++;
        return anchor(p, GRAMMAR_TEXT_BEGIN);
    case '$':
        p->at++;
        return anchor(p, GRAMMAR_TEXT_END);
    case '*':
    case '+':
    case '?':
        fail(p, INFER_ERR_FORMAT, "there is nothing to repeat");
        return grammar_never(p->b);
    default:
        break;
    }
    uint32_t cp = plain_char(p);
    return failed(p) ? grammar_never(p->b) : one_char(p, cp);
}

static int number(struct regex *p, const char **at, uint32_t *out)
{
    uint64_t n = 0;
    const char *begin = *at;
    for (; *at < p->end && **at >= '0' && **at <= '9'; ++*at)
        n = BASE_MIN(10 * n + (uint64_t)(**at - '0'), (uint64_t)REPEAT_MAX + 1);
    *out = (uint32_t)n;
    return *at > begin;
}

/* {m}, {m,} or {m,n}; braces that are none of these stand for themselves. */
static int braces(struct regex *p, uint32_t *min, uint32_t *max)
{
    const char *at = p->at + 1;
    if (!number(p, &at, min))
        return 0;
    *max = *min;
    if (at < p->end && *at == ',') {
        at++;
        if (!number(p, &at, max))
            *max = GRAMMAR_UNBOUNDED;
    }
    if (at == p->end || *at != '}')
        return 0;
    if (*min > REPEAT_MAX || (*max > REPEAT_MAX && *max != GRAMMAR_UNBOUNDED))
        fail(p, INFER_ERR_LIMIT, "a repetition of more than 1000000000 times");
    if (*max < *min)
        fail(p, INFER_ERR_FORMAT, "a repetition's maximum is below its minimum");
    p->at = at + 1;
    return 1;
}

static const struct grammar_expr *repeated(struct regex *p)
{
    const struct grammar_expr *e = atom(p);
    for (int n = 0; !failed(p); n++) {
        uint32_t min = 0, max = GRAMMAR_UNBOUNDED;
        int c = peek(p);
        if (c == '*' || c == '+' || c == '?') {
            min = c == '+';
            max = c == '?' ? 1 : GRAMMAR_UNBOUNDED;
            p->at++;
        } else if (c != '{' || !braces(p, &min, &max)) {
            break;
        }
        if (n)
            fail(p, INFER_ERR_FORMAT, "a repetition of a repetition");
        e = grammar_repeat(p->b, e, min, max);
        p->at += peek(p) == '?'; /* lazy: the same texts match */
        if (peek(p) == '+')
            fail(p, INFER_ERR_UNSUPPORTED, "possessive repetitions are not supported");
    }
    return e;
}

static const struct grammar_expr *sequence(struct regex *p)
{
    grammar_list items = {0};
    while (!failed(p) && peek(p) >= 0 && peek(p) != '|' && peek(p) != ')')
        grammar_list_add(p->b, &items, repeated(p));
    const struct grammar_expr *e = grammar_seq(p->b, items.data, items.size);
    base_array_release(&p->b->alloc, &items);
    return e;
}

static const struct grammar_expr *alternatives(struct regex *p)
{
    grammar_list items = {0};
    for (;;) {
        grammar_list_add(p->b, &items, sequence(p));
        if (failed(p) || peek(p) != '|')
            break;
        p->at++;
    }
    const struct grammar_expr *e = grammar_alt(p->b, items.data, items.size);
    base_array_release(&p->b->alloc, &items);
    return e;
}

infer_status regex_parse(const struct grammar_expr **out, struct grammar_builder *b,
                         struct base_view pattern)
{
    struct regex p = {
        .b = b, .text = pattern.data, .at = pattern.data, .end = pattern.data + pattern.size};
    const struct grammar_expr *e = alternatives(&p);
    if (!failed(&p) && p.at != p.end)
        fail(&p, INFER_ERR_FORMAT, "\")\" without \"(\"");
    if (failed(&p))
        return p.status != INFER_OK ? p.status : b->status;
    *out = e;
    return INFER_OK;
}
