/* Oniguruma (Ruby's syntax) to PCRE2: classes that differ in what they hold, intersections of
 * sets, anchors, and everything beyond ASCII by its number. */
#include "model/hf_pattern.h"

#include "base/error.h"

#define SPACE "\\p{WSpace}"
#define WORD  "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"
#define HEX   "0-9A-Fa-f"

struct translator {
    const char *p, *end;
    struct base_view whole;
    struct base_str *out;
};

static infer_status unsupported(const struct translator *t, const char *what)
{
    return base_error(INFER_ERR_UNSUPPORTED, "pattern '%.*s': %s is not supported",
                      (int)BASE_MIN(t->whole.size, (size_t)160), t->whole.data, what);
}

static infer_status put(struct translator *t, const char *text)
{
    return base_str_append(t->out, text, strlen(text));
}

/* A character that stands for itself. */
static infer_status put_literal(struct translator *t)
{
    static const struct {
        char c;
        const char *text;
    } controls[] = {{'\r', "\\r"}, {'\n', "\\n"}, {'\t', "\\t"}, {'\f', "\\f"}, {'\v', "\\x{B}"}};
    uint8_t lead = (uint8_t)*t->p;
    for (size_t i = 0; i < BASE_COUNT(controls); i++)
        if (*t->p == controls[i].c) {
            t->p++;
            return put(t, controls[i].text);
        }
    if (lead < 0x80)
        return base_str_put(t->out, *t->p++);
    /* JSON was checked to be valid UTF-8. */
    int n = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t cp = lead & (0x7Fu >> n);
    for (int i = 1; i < n && t->p + i < t->end; i++)
        cp = cp << 6 | ((uint8_t)t->p[i] & 0x3Fu);
    t->p += BASE_MIN((ptrdiff_t)n, t->end - t->p);
    return base_str_appendf(t->out, "\\x{%X}", (unsigned)cp);
}

/* \uHHHH, the letter already passed. */
static infer_status put_code_point(struct translator *t)
{
    if (t->end - t->p < 4)
        return unsupported(t, "a broken \\u");
    infer_status st = base_str_appendf(t->out, "\\x{%.4s}", t->p);
    t->p += 4;
    return st;
}

/* \p{Name}: what Oniguruma takes from POSIX and scripts, which PCRE2 would widen by their
 * extensions; the letter is passed already. */
static infer_status put_property(struct translator *t, char letter)
{
    static const struct {
        const char *name, *text;
    } names[] = {{"Letter", "L"},
                 {"Mark", "M"},
                 {"Number", "N"},
                 {"Punctuation", "P"},
                 {"Symbol", "S"},
                 {"Separator", "Z"},
                 {"Other", "C"},

                 {"Digit", "Nd"},
                 {"Upper", "Lu"},
                 {"Lower", "Ll"},
                 {"Alpha", "Alphabetic"},
                 {"Space", "WSpace"},
                 {"White_Space", "WSpace"},
                 {"Alphabetic", "Alphabetic"},
                 {"Uppercase", "Uppercase"},
                 {"Lowercase", "Lowercase"},
                 {"Emoji", "Emoji"},
                 {"Ideographic", "Ideographic"},
                 {"Any", "Any"}};
    const char *close = memchr(t->p, '}', (size_t)(t->end - t->p));
    if (t->p == t->end || *t->p != '{' || !close)
        return unsupported(t, "a property without braces");
    int negated = t->p[1] == '^';
    struct base_view name = {t->p + 1 + negated, (size_t)(close - t->p) - 1 - (size_t)negated};
    const char *prefix = name.size > 2 ? "sc:" : "";
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (base_view_equal(name, names[i].name)) {
            name = (struct base_view){names[i].text, strlen(names[i].text)};
            prefix = "";
            break;
        }
    t->p = close + 1;
    return base_str_appendf(t->out, "\\%c{%s%.*s}", negated ? (letter == 'p' ? 'P' : 'p') : letter,
                            prefix, (int)name.size, name.data);
}

/* What follows a backslash, which is passed with it. */
static infer_status put_escape(struct translator *t, int in_set)
{
    static const struct {
        char c;
        const char *in, *out;
    } classes[] = {
        {'s', SPACE, SPACE},         {'S', "\\P{WSpace}", "\\P{WSpace}"},
        {'d', "\\p{Nd}", "\\p{Nd}"}, {'D', "\\P{Nd}", "\\P{Nd}"},
        {'w', WORD, "[" WORD "]"},   {'W', NULL, "[^" WORD "]"},
        {'h', HEX, "[" HEX "]"},     {'H', NULL, "[^" HEX "]"},
    };
    if (++t->p == t->end)
        return unsupported(t, "a backslash at the end");
    char c = *t->p;
    for (size_t i = 0; i < BASE_COUNT(classes); i++) {
        if (classes[i].c != c)
            continue;
        const char *text = in_set ? classes[i].in : classes[i].out;
        t->p++;
        return text ? put(t, text) : unsupported(t, "a negated class within a set");
    }
    if (c == 'p' || c == 'P') {
        t->p++;
        return put_property(t, c);
    }
    if (c == 'u') {
        t->p++;
        return put_code_point(t);
    }
    if ((uint8_t)c >= 0x80)
        return put_literal(t);
    infer_status st = base_str_put(t->out, '\\');
    if (st == INFER_OK)
        st = base_str_put(t->out, c);
    t->p++;
    return st;
}

/* The members of a set up to its end or to "&&", whose place is left. */
static infer_status put_members(struct translator *t)
{
    infer_status st = INFER_OK;
    const char *first = t->p;
    while (t->p < t->end && st == INFER_OK) {
        if (*t->p == ']' && t->p > first)
            return INFER_OK;
        if (t->end - t->p >= 2 && t->p[0] == '&' && t->p[1] == '&')
            return INFER_OK;
        if (*t->p == '[' && t->end - t->p >= 2 && t->p[1] == ':') { /* [:alpha:] */
            const char *close = memmem(t->p, (size_t)(t->end - t->p), ":]", 2);
            if (!close)
                return unsupported(t, "an open set");
            st = base_str_append(t->out, t->p, (size_t)(close + 2 - t->p));
            t->p = close + 2;
        } else if (*t->p == '[') {
            return unsupported(t, "a set within a set");
        } else {
            st = *t->p == '\\' ? put_escape(t, 1) : put_literal(t);
        }
    }
    return st == INFER_OK ? unsupported(t, "an open set") : st;
}

/* [...], and [...&&[...]] as a look at what stands there before it is taken. */
static infer_status put_set(struct translator *t)
{
    struct base_str members;
    const char *mark = ++t->p;
    struct base_str *out = t->out;
    int negated = t->p < t->end && *t->p == '^';
    t->p += negated;
    base_str_init(&members, out->alloc, 0);
    t->out = &members;
    infer_status st = put_members(t);
    t->out = out;
    int crossed = st == INFER_OK && *t->p == '&';
    if (crossed && (negated || t->end - t->p < 4 || t->p[2] != '['))
        st = unsupported(t, "this intersection of sets");
    if (st == INFER_OK && crossed) {
        t->p += 3;
        int without = t->p < t->end && *t->p == '^';
        t->p += without;
        st = put(t, without ? "(?:(?![" : "(?:(?=[");
        if (st == INFER_OK)
            st = put_members(t);
        if (st == INFER_OK && (t->end - t->p < 2 || t->p[0] != ']' || t->p[1] != ']'))
            st = unsupported(t, "more than one intersection of sets");
        t->p++;
        if (st == INFER_OK)
            st = put(t, "])");
    }
    if (st == INFER_OK)
        st = put(t, negated ? "[^" : "[");
    if (st == INFER_OK)
        st = base_str_append(out, members.data ? members.data : mark, members.size);
    if (st == INFER_OK)
        st = put(t, crossed ? "])" : "]");
    t->p++;
    base_str_release(&members);
    return st;
}

/* (?imx-imx: Ruby's m is what others call s. */
static infer_status put_group(struct translator *t)
{
    infer_status st = put(t, "(");
    t->p++;
    if (t->p == t->end || *t->p != '?')
        return st;
    if (st == INFER_OK)
        st = put(t, "?");
    for (t->p++; t->p < t->end && st == INFER_OK && strchr("imx-", *t->p) && *t->p; t->p++)
        st = base_str_put(t->out, *t->p == 'm' ? 's' : *t->p);
    return st;
}

infer_status hf_pattern_translate(struct base_view pattern, struct base_str *out)
{
    struct translator t = {pattern.data, pattern.data + pattern.size, pattern, out};
    infer_status st = INFER_OK;
    while (t.p < t.end && st == INFER_OK) {
        switch (*t.p) {
        case '\\':
            st = put_escape(&t, 0);
            break;
        case '[':
            st = put_set(&t);
            break;
        case '(':
            st = put_group(&t);
            break;
        case '^': /* of every line */
        case '$':
            st = put(&t, *t.p++ == '^' ? "(?m:^)" : "(?m:$)");
            break;
        case '{':
            st = put(&t, t.p + 1 < t.end && t.p[1] == ',' ? "{0" : "{");
            t.p++;
            break;
        default:
            st = put_literal(&t);
        }
    }
    return st;
}

infer_status hf_pattern_quote(struct base_view text, struct base_str *out)
{
    struct translator t = {text.data, text.data + text.size, text, out};
    infer_status st = INFER_OK;
    while (t.p < t.end && st == INFER_OK) {
        if (strchr("\\^$.[]|()?*+{}#", *t.p) && *t.p)
            st = base_str_put(out, '\\');
        if (st == INFER_OK)
            st = put_literal(&t);
    }
    return st;
}
