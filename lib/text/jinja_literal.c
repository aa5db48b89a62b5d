/* Literals of the template language: the values of number and string tokens. */
#include "text/jinja_parse.h"

#include "text/unicode.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* \xhh, \uhhhh, \Uhhhhhhhh: `n` digits from text[at]. */
static infer_status unescape_hex(struct jinja_parser *p, const struct jinja_token *token, size_t at,
                                 size_t n, struct base_str *out)
{
    uint32_t cp = 0;
    for (size_t i = 0; i < n; i++) {
        int d = at + i < token->text.size ? hex_digit(token->text.data[at + i]) : -1;
        if (d < 0) {
            jinja_parse_fail(p, token, INFER_ERR_FORMAT, "truncated \\%c escape in a string",
                             token->text.data[at - 1]);
            return p->status;
        }
        cp = cp << 4 | (uint32_t)d;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) {
        jinja_parse_fail(p, token, INFER_ERR_FORMAT, "U+%04X in a string is not a character", cp);
        return p->status;
    }
    char utf8[TEXT_UTF8_MAX];
    return base_str_append(out, utf8, text_utf8_put(cp, utf8));
}

static infer_status unescape_octal(const struct jinja_token *token, size_t *at,
                                   struct base_str *out)
{
    uint32_t cp = 0;
    for (int i = 0; i < 3 && *at < token->text.size; i++, (*at)++) {
        char c = token->text.data[*at];
        if (c < '0' || c > '7')
            break;
        cp = cp << 3 | (uint32_t)(c - '0');
    }
    char utf8[TEXT_UTF8_MAX];
    return base_str_append(out, utf8, text_utf8_put(cp, utf8));
}

/* One escape; `at` stands on the character after the backslash and moves past it. */
static infer_status unescape_one(struct jinja_parser *p, const struct jinja_token *token,
                                 size_t *at, struct base_str *out)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = token->text.data[*at];
    const char *simple = memchr(from, c, sizeof from - 1);
    if (c >= '0' && c <= '7')
        return unescape_octal(token, at, out);
    (*at)++;
    if (simple)
        return base_str_put(out, to[simple - from]);
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits) {
        size_t start = *at;
        *at += digits;
        return unescape_hex(p, token, start, digits, out);
    }
    if (c == 'N') {
        jinja_parse_fail(p, token, INFER_ERR_UNSUPPORTED,
                         "\\N escapes (characters by name) are not supported");
        return p->status;
    }
    if (c == '\n')
        return INFER_OK;
    infer_status st = base_str_put(out, '\\');
    return st == INFER_OK ? base_str_put(out, c) : st;
}

infer_status jinja_unescape(struct jinja_parser *p, const struct jinja_token *token,
                            struct base_str *out)
{
    infer_status st = INFER_OK;
    const char *text = token->text.data;
    for (size_t i = 0; st == INFER_OK && i < token->text.size;) {
        const char *slash = memchr(text + i, '\\', token->text.size - i);
        size_t n = slash ? (size_t)(slash - text) - i : token->text.size - i;
        st = base_str_append(out, text + i, n);
        i += n;
        if (slash && st == INFER_OK) {
            i++; /* the lexer made sure that something follows the backslash */
            st = unescape_one(p, token, &i, out);
        }
    }
    return st;
}

static struct jinja_value string_literal(struct jinja_parser *p, const struct jinja_token *token)
{
    if (!memchr(token->text.data, '\\', token->text.size))
        return jinja_string(token->text.data, token->text.size);
    struct base_str text;
    base_str_init(&text, &p->t->alloc, 0);
    struct jinja_value v = jinja_no_value();
    infer_status st = jinja_unescape(p, token, &text);
    if (st == INFER_OK) {
        char *copy = base_arena_strdup(&p->t->arena, text.data, text.size);
        if (copy)
            v = jinja_string(copy, text.size);
        else
            st = INFER_ERR_NO_MEMORY;
    }
    if (st != INFER_OK)
        jinja_parse_give_up(p, st);
    base_str_release(&text);
    return v;
}

struct jinja_value jinja_literal(struct jinja_parser *p, const struct jinja_token *token)
{
    int64_t integer = 0;
    double real = 0;
    switch (token->kind) {
    case JINJA_T_STRING:
        return string_literal(p, token);
    case JINJA_T_INTEGER:
        if (!jinja_parse_int(token->text, 0, &integer))
            jinja_parse_fail(p, token, INFER_ERR_UNSUPPORTED,
                             "an integer of more than 64 bits is not supported");
        return jinja_int(integer);
    default:
        jinja_parse_float(token->text, &real);
        return jinja_float(real);
    }
}
