/* Template source into tokens: text outside of tags, and what tags are made of. */
#include "text/jinja_node.h"

#include "base/error.h"
#include "text/jinja_internal.h"
#include "text/unicode.h"

#include <stdio.h>
#include <utf8proc.h>

#define MAX_BRACKETS 256

struct lexer {
    const struct base_alloc *alloc;
    jinja_tokens *out;
    const char *text;
    size_t size, at;
    size_t marked; /* position that line and column belong to */
    uint32_t line, column;
    int line_starting; /* the last piece ended in a newline */
    char brackets[MAX_BRACKETS];
    size_t n_brackets;
};

/* Positions only move forward, so that counting lines stays linear. */
static void mark(struct lexer *lx, size_t to)
{
    for (; lx->marked < to; lx->marked++) {
        if (lx->text[lx->marked] == '\n') {
            lx->line++;
            lx->column = 1;
        } else if (((unsigned char)lx->text[lx->marked] & 0xc0) != 0x80) {
            lx->column++;
        }
    }
}

static infer_status emit(struct lexer *lx, enum jinja_token_kind kind, size_t from, size_t to)
{
    mark(lx, from);
    struct jinja_token token = {(uint8_t)kind, lx->line, lx->column, {lx->text + from, to - from}};
    return base_array_push(lx->alloc, lx->out, token);
}

static infer_status fail(struct lexer *lx, size_t at, const char *what)
{
    mark(lx, at);
    return base_error(INFER_ERR_FORMAT, "line %u, column %u: %s", lx->line, lx->column, what);
}

static int looking_at(const struct lexer *lx, size_t at, const char *text)
{
    size_t n = strlen(text);
    return lx->size - at >= n && memcmp(lx->text + at, text, n) == 0;
}

static size_t skip_space(const struct lexer *lx, size_t at)
{
    struct base_view rest = {lx->text + at, lx->size - at};
    return lx->size - jinja_text_strip(rest, NULL, JINJA_STRIP_LEFT).size;
}

/* The end of a tag at `at`, such as "%}": its length with the white space it
 * takes away, or 0. "+" (where allowed) keeps the newline that a plain end eats. */
static size_t tag_end(const struct lexer *lx, size_t at, const char *close, int eats_newline)
{
    size_t from = at;
    char sign = at < lx->size && (lx->text[at] == '-' || (eats_newline && lx->text[at] == '+'))
                    ? lx->text[at++]
                    : 0;
    if (!looking_at(lx, at, close))
        return 0;
    at += 2;
    if (sign == '-')
        at = skip_space(lx, at);
    else if (!sign && eats_newline && at < lx->size && lx->text[at] == '\n')
        at++;
    return at - from;
}

/* Text between the last tag and one that begins at `tag`, with the white space
 * removed that the new tag takes away on its left. */
static infer_status emit_data(struct lexer *lx, size_t tag, char sign, int is_variable)
{
    struct base_view data = {lx->text + lx->at, tag - lx->at};
    if (sign == '-') {
        data = jinja_text_strip(data, NULL, JINJA_STRIP_RIGHT);
    } else if (sign != '+' && !is_variable) {
        size_t line = data.size;
        while (line > 0 && data.data[line - 1] != '\n')
            line--;
        struct base_view indent = {data.data + line, data.size - line};
        if ((line > 0 || lx->line_starting) &&
            jinja_text_strip(indent, NULL, JINJA_STRIP_BOTH).size == 0)
            data.size = line;
    }
    return data.size ? emit(lx, JINJA_T_DATA, lx->at, lx->at + data.size) : INFER_OK;
}

static void advance(struct lexer *lx, size_t to)
{
    lx->at = to;
    lx->line_starting = to > 0 && lx->text[to - 1] == '\n';
}

static infer_status lex_comment(struct lexer *lx, size_t tag, size_t body)
{
    for (size_t i = body; i < lx->size; i++) {
        /* "-" or "+" before the end belongs to it. */
        size_t n = tag_end(lx, i, "#}", 1);
        if (n) {
            advance(lx, i + n);
            return INFER_OK;
        }
    }
    if (body == lx->size) { /* Jinja2 forgives this one */
        advance(lx, body);
        return INFER_OK;
    }
    return fail(lx, tag, "this comment has no end '#}'");
}

/* After "{%" and its sign: the length of "raw %}" or 0. */
static size_t raw_begin(const struct lexer *lx, size_t at)
{
    size_t i = skip_space(lx, at);
    if (!looking_at(lx, i, "raw"))
        return 0;
    i = skip_space(lx, i + 3);
    size_t n = tag_end(lx, i, "%}", 0);
    return n ? i + n - at : 0;
}

static infer_status lex_raw(struct lexer *lx, size_t tag, size_t body)
{
    advance(lx, body);
    for (size_t i = body; i < lx->size; i++) {
        if (!looking_at(lx, i, "{%"))
            continue;
        size_t j = i + 2;
        char sign = j < lx->size && (lx->text[j] == '-' || lx->text[j] == '+') ? lx->text[j++] : 0;
        j = skip_space(lx, j);
        if (!looking_at(lx, j, "endraw"))
            continue;
        j = skip_space(lx, j + 6);
        size_t n = tag_end(lx, j, "%}", 1);
        if (!n)
            continue;
        infer_status st = emit_data(lx, i, sign, 0);
        advance(lx, j + n);
        return st;
    }
    if (body == lx->size)
        return INFER_OK;
    return fail(lx, tag, "this raw block has no '{% endraw %}'");
}

static size_t lex_digits(const struct lexer *lx, size_t at, int base)
{
    size_t end = at;
    for (size_t i = at; i < lx->size; i++) {
        char c = lx->text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : 99;
        if (digit < base)
            end = i + 1;
        else if (c != '_' || (i > at && lx->text[i - 1] == '_'))
            break;
    }
    return end;
}

/* The end of a float at `at`, or `at` if there is none. */
static size_t lex_float(const struct lexer *lx, size_t at)
{
    if (at > 0 && lx->text[at - 1] == '.')
        return at;
    size_t whole = lex_digits(lx, at, 10);
    size_t end = whole;
    if (whole < lx->size && lx->text[whole] == '.')
        end = lex_digits(lx, whole + 1, 10);
    if (end == whole + 1)
        end = whole;
    int fraction = end > whole;
    size_t e = end;
    if (e < lx->size && (lx->text[e] == 'e' || lx->text[e] == 'E')) {
        e++;
        if (e < lx->size && (lx->text[e] == '+' || lx->text[e] == '-'))
            e++;
        size_t exponent = lex_digits(lx, e, 10);
        if (exponent > e)
            return exponent;
    }
    return fraction ? end : at;
}

static size_t lex_integer(const struct lexer *lx, size_t at)
{
    if (lx->text[at] == '0') {
        char x = at + 1 < lx->size ? (char)(lx->text[at + 1] | 0x20) : 0;
        int base = x == 'b' ? 2 : x == 'o' ? 8 : x == 'x' ? 16 : 0;
        size_t end = base ? lex_digits(lx, at + 2, base) : 0;
        if (base && end > at + 2)
            return end;
        return lex_digits(lx, at, 1); /* only zeros may follow a zero */
    }
    return lex_digits(lx, at, 10);
}

static size_t lex_name(const struct lexer *lx, size_t at)
{
    while (at < lx->size) {
        uint32_t cp;
        size_t n = jinja_text_next((struct base_view){lx->text + at, lx->size - at}, &cp);
        int word;
        if (cp < 0x80) {
            word =
                cp == '_' || (cp >= '0' && cp <= '9') || ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z');
        } else {
            utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
            word = (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO) ||
                   (cat >= UTF8PROC_CATEGORY_MN && cat <= UTF8PROC_CATEGORY_NL);
        }
        if (!word)
            break;
        at += n;
    }
    return at;
}

static infer_status lex_string(struct lexer *lx)
{
    char quote = lx->text[lx->at];
    for (size_t i = lx->at + 1; i < lx->size; i++) {
        if (lx->text[i] == '\\') {
            i++;
        } else if (lx->text[i] == quote) {
            infer_status st = emit(lx, JINJA_T_STRING, lx->at + 1, i);
            advance(lx, i + 1);
            return st;
        }
    }
    return fail(lx, lx->at, "this string has no end");
}

static const struct {
    char text[3];
    uint8_t kind;
} operators[] = {
    {"//", JINJA_T_FLOORDIV}, {"**", JINJA_T_POW},      {"==", JINJA_T_EQ},
    {"!=", JINJA_T_NE},       {">=", JINJA_T_GE},       {"<=", JINJA_T_LE},
    {"+", JINJA_T_ADD},       {"-", JINJA_T_SUB},       {"/", JINJA_T_DIV},
    {"*", JINJA_T_MUL},       {"%", JINJA_T_MOD},       {"~", JINJA_T_TILDE},
    {"[", JINJA_T_LBRACKET},  {"]", JINJA_T_RBRACKET},  {"(", JINJA_T_LPAREN},
    {")", JINJA_T_RPAREN},    {"{", JINJA_T_LBRACE},    {"}", JINJA_T_RBRACE},
    {">", JINJA_T_GT},        {"<", JINJA_T_LT},        {"=", JINJA_T_ASSIGN},
    {".", JINJA_T_DOT},       {":", JINJA_T_COLON},     {"|", JINJA_T_PIPE},
    {",", JINJA_T_COMMA},     {";", JINJA_T_SEMICOLON},
};

static infer_status balance(struct lexer *lx, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (lx->n_brackets == MAX_BRACKETS) {
            mark(lx, lx->at);
            return base_error(INFER_ERR_LIMIT, "line %u, column %u: more than %d nested brackets",
                              lx->line, lx->column, MAX_BRACKETS);
        }
        lx->brackets[lx->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        char what[64];
        if (lx->n_brackets == 0) {
            snprintf(what, sizeof what, "unexpected '%c'", c);
            return fail(lx, lx->at, what);
        }
        char expected = lx->brackets[--lx->n_brackets];
        if (expected != c) {
            snprintf(what, sizeof what, "unexpected '%c', expected '%c'", c, expected);
            return fail(lx, lx->at, what);
        }
    }
    return INFER_OK;
}

static infer_status lex_operator(struct lexer *lx)
{
    for (size_t i = 0; i < BASE_COUNT(operators); i++) {
        if (!looking_at(lx, lx->at, operators[i].text))
            continue;
        size_t n = strlen(operators[i].text);
        infer_status st = balance(lx, operators[i].text[0]);
        if (st == INFER_OK)
            st = emit(lx, operators[i].kind, lx->at, lx->at + n);
        advance(lx, lx->at + n);
        return st;
    }
    char what[64];
    uint32_t cp;
    size_t n = jinja_text_next((struct base_view){lx->text + lx->at, lx->size - lx->at}, &cp);
    snprintf(what, sizeof what, "unexpected character '%.*s'", (int)n, lx->text + lx->at);
    return fail(lx, lx->at, what);
}

/* One token inside of a tag. */
static infer_status lex_inside(struct lexer *lx)
{
    size_t end;
    char c = lx->text[lx->at];
    if (c >= '0' && c <= '9') {
        end = lex_float(lx, lx->at);
        enum jinja_token_kind kind = end > lx->at ? JINJA_T_FLOAT : JINJA_T_INTEGER;
        if (end == lx->at)
            end = lex_integer(lx, lx->at);
        infer_status st = emit(lx, kind, lx->at, end);
        advance(lx, end);
        return st;
    }
    end = lex_name(lx, lx->at);
    if (end > lx->at) {
        infer_status st = emit(lx, JINJA_T_NAME, lx->at, end);
        advance(lx, end);
        return st;
    }
    if (c == '\'' || c == '"')
        return lex_string(lx);
    return lex_operator(lx);
}

static infer_status lex_tag(struct lexer *lx, size_t tag, size_t body, int is_variable)
{
    infer_status st =
        emit(lx, is_variable ? JINJA_T_VARIABLE_BEGIN : JINJA_T_BLOCK_BEGIN, tag, body);
    advance(lx, body);
    lx->n_brackets = 0;
    while (st == INFER_OK) {
        size_t n =
            lx->n_brackets ? 0 : tag_end(lx, lx->at, is_variable ? "}}" : "%}", !is_variable);
        if (n) {
            st = emit(lx, is_variable ? JINJA_T_VARIABLE_END : JINJA_T_BLOCK_END, lx->at,
                      lx->at + n);
            advance(lx, lx->at + n);
            return st;
        }
        size_t next = skip_space(lx, lx->at);
        if (next == lx->size) /* the parser reports what was expected here */
            return (lx->at = next, INFER_OK);
        if (next > lx->at)
            advance(lx, next);
        else
            st = lex_inside(lx);
    }
    return st;
}

/* The next "{{", "{%" or "{#" at or after the current position. */
static size_t find_tag(const struct lexer *lx)
{
    const char *p = lx->text + lx->at, *end = lx->text + lx->size;
    while ((p = memchr(p, '{', (size_t)(end - p))) != NULL) {
        if (end - p < 2)
            break;
        if (p[1] == '{' || p[1] == '%' || p[1] == '#')
            return (size_t)(p - lx->text);
        p++;
    }
    return lx->size;
}

static infer_status lex_next(struct lexer *lx)
{
    size_t tag = find_tag(lx);
    if (tag == lx->size) {
        infer_status st = emit(lx, JINJA_T_DATA, lx->at, lx->size);
        advance(lx, lx->size);
        return st;
    }
    size_t body = tag + 2;
    char kind = lx->text[tag + 1];
    char sign =
        body < lx->size && (lx->text[body] == '-' || lx->text[body] == '+') ? lx->text[body++] : 0;
    infer_status st = emit_data(lx, tag, sign, kind == '{');
    if (st != INFER_OK)
        return st;
    if (kind == '#')
        return lex_comment(lx, tag, body);
    size_t raw = kind == '%' ? raw_begin(lx, body) : 0;
    if (raw)
        return lex_raw(lx, tag, body + raw);
    return lex_tag(lx, tag, body, kind == '{');
}

infer_status jinja_lex(jinja_tokens *out, const struct base_alloc *a, struct base_view source)
{
    struct lexer lx = {.alloc = a,
                       .out = out,
                       .text = source.data,
                       .size = source.size,
                       .line = 1,
                       .column = 1,
                       .line_starting = 1};
    infer_status st = INFER_OK;
    while (st == INFER_OK && lx.at < lx.size)
        st = lex_next(&lx);
    return st == INFER_OK ? emit(&lx, JINJA_T_EOF, lx.size, lx.size) : st;
}
