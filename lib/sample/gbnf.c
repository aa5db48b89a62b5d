/* GBNF: rules of literals, character classes, groups, alternatives and repetitions. */
#include "base/error.h"
#include "base/map.h"
#include "base/str.h"
#include "sample/grammar_read.h"
#include "text/unicode.h"

#include <string.h>

#define DEPTH_MAX  200
#define REPEAT_MAX 1000000000u /* what {m,n} may say */
#define NESTED_MAX 1000000u    /* product of repetitions directly inside each other */

struct gbnf {
    struct grammar_builder *b;
    const char *text, *at, *end;
    struct base_map names;
    BASE_ARRAY(uint8_t) defined; /* of each rule */
    int depth;
    infer_status status;
};

/* ------------------------------------------------------------------ errors */

static infer_status fail(struct gbnf *p, infer_status status, const char *what)
{
    if (p->status != INFER_OK || p->b->status != INFER_OK)
        return INFER_ERR_FORMAT; /* the first failure counts */
    size_t line = 1, column = 1;
    for (const char *c = p->text; c < p->at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    return p->status = base_error(status, "line %zu, column %zu: %s", line, column, what);
}

static int failed(const struct gbnf *p)
{
    return p->status != INFER_OK || p->b->status != INFER_OK;
}

/* ------------------------------------------------------------------- words */

static int peek(const struct gbnf *p)
{
    return p->at < p->end ? (uint8_t)*p->at : -1;
}

static int is_word(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static void skip_space(struct gbnf *p, int newlines)
{
    for (;;) {
        int c = peek(p);
        if (c == '#')
            while (peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r')
                p->at++;
        else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r')))
            p->at++;
        else
            return;
    }
}

static struct base_view word(struct gbnf *p)
{
    struct base_view name = {p->at, 0};
    while (is_word(peek(p)))
        p->at++;
    name.size = (size_t)(p->at - name.data);
    if (!name.size)
        fail(p, INFER_ERR_FORMAT, "the name of a rule is expected");
    if (name.size > 256)
        fail(p, INFER_ERR_LIMIT, "a rule's name of more than 256 bytes");
    return name;
}

static uint32_t rule_named(struct gbnf *p, struct base_view name)
{
    int32_t known = base_map_get(&p->names, name.data, name.size, -1);
    if (known >= 0 || failed(p))
        return known >= 0 ? (uint32_t)known : 0;
    uint32_t rule = grammar_rule_new(p->b, name.data, name.size);
    if (p->b->status == INFER_OK &&
        base_map_add(&p->names, name.data, name.size, (int32_t)rule) != INFER_OK)
        p->status = INFER_ERR_NO_MEMORY;
    while (!failed(p) && p->defined.size <= rule)
        if (base_array_push(&p->b->alloc, &p->defined, 0) != INFER_OK)
            p->status = INFER_ERR_NO_MEMORY;
    return rule;
}

/* -------------------------------------------------------------- characters */

static uint32_t hex(struct gbnf *p, int digits)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++, p->at++) {
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
    }
    if (value > CHARSET_LAST || (value >= 0xD800 && value <= 0xDFFF))
        fail(p, INFER_ERR_FORMAT, "the escape names no character");
    return value;
}

static uint32_t escape(struct gbnf *p)
{
    int c = peek(p);
    p->at += c >= 0;
    switch (c) {
    case 'x':
        return hex(p, 2);
    case 'u':
        return hex(p, 4);
    case 'U':
        return hex(p, 8);
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '^':
    case '-':
        return (uint32_t)c;
    default:
        p->at -= c >= 0;
        fail(p, INFER_ERR_FORMAT, "no escape is written so");
        return 0;
    }
}

/* One character of a literal or a class. */
static uint32_t character(struct gbnf *p)
{
    uint32_t cp = 0;
    if (peek(p) == '\\') {
        p->at++;
        return escape(p);
    }
    int n = text_utf8_next(p->at, (size_t)(p->end - p->at), &cp);
    if (n <= 0)
        fail(p, INFER_ERR_FORMAT, p->at == p->end ? "the text ends too early" : "no valid UTF-8");
    else
        p->at += n;
    return cp;
}

static const struct grammar_expr *literal(struct gbnf *p)
{
    struct base_str text;
    base_str_init(&text, &p->b->alloc, 0);
    p->at++;
    while (peek(p) != '"' && !failed(p)) {
        char bytes[TEXT_UTF8_MAX];
        uint32_t cp = character(p);
        if (!failed(p) && base_str_append(&text, bytes, text_utf8_put(cp, bytes)) != INFER_OK)
            p->status = INFER_ERR_NO_MEMORY;
    }
    p->at += !failed(p);
    const struct grammar_expr *e = grammar_bytes(p->b, text.data ? text.data : "", text.size);
    base_str_release(&text);
    return e;
}

static const struct grammar_expr *char_class(struct gbnf *p)
{
    struct charset set = {0};
    const struct base_alloc *a = &p->b->alloc;
    p->at++;
    int inverted = peek(p) == '^';
    p->at += inverted;
    while (peek(p) != ']' && !failed(p)) {
        uint32_t lo = character(p), hi = lo;
        if (peek(p) == '-' && p->end - p->at > 1 && p->at[1] != ']') {
            p->at++;
            hi = character(p);
        }
        if (hi < lo)
            fail(p, INFER_ERR_FORMAT, "a range of characters runs backwards");
        if (!failed(p) && charset_add(&set, a, lo, hi) != INFER_OK)
            p->status = INFER_ERR_NO_MEMORY;
    }
    p->at += !failed(p);
    charset_finish(&set);
    if (inverted && !failed(p) && charset_invert(&set, a) != INFER_OK)
        p->status = INFER_ERR_NO_MEMORY;
    const struct grammar_expr *e = grammar_chars(p->b, &set);
    charset_release(&set, a);
    return e;
}

static const struct grammar_expr *any_char(struct gbnf *p)
{
    struct charset_range all = {0, CHARSET_LAST};
    p->at++;
    return grammar_chars(p->b, &(struct charset){.data = &all, .size = 1});
}

/* ------------------------------------------------------------- expressions */

static const struct grammar_expr *alternatives(struct gbnf *p, int nested);

static uint32_t number(struct gbnf *p)
{
    uint32_t n = 0;
    if (!(peek(p) >= '0' && peek(p) <= '9'))
        fail(p, INFER_ERR_FORMAT, "a number is expected");
    for (; peek(p) >= '0' && peek(p) <= '9' && !failed(p); p->at++) {
        n = 10 * n + (uint32_t)(peek(p) - '0');
        if (n > REPEAT_MAX)
            fail(p, INFER_ERR_LIMIT, "a repetition of more than 1000000000 times");
        if (failed(p))
            return 0;
    }
    return n;
}

/* Repetitions of repetitions can be read in as many ways as their product. */
static int nests_too_much(const struct grammar_expr *e)
{
    uint64_t product = 1;
    for (; e->kind == GRAMMAR_REPEAT; e = e->as.repeat.body)
        if (e->as.repeat.max != GRAMMAR_UNBOUNDED &&
            (product *= BASE_MAX(e->as.repeat.max, 1)) > NESTED_MAX &&
            e->as.repeat.body->kind == GRAMMAR_REPEAT)
            return 1;
    return 0;
}

static const struct grammar_expr *braces(struct gbnf *p, const struct grammar_expr *e, int nested)
{
    p->at++;
    skip_space(p, nested);
    uint32_t min = number(p), max = min;
    skip_space(p, nested);
    if (peek(p) == ',') {
        p->at++;
        skip_space(p, nested);
        max = peek(p) == '}' ? GRAMMAR_UNBOUNDED : number(p);
        skip_space(p, nested);
    }
    if (peek(p) != '}')
        fail(p, INFER_ERR_FORMAT, "\"}\" is expected");
    if (max < min)
        fail(p, INFER_ERR_FORMAT, "a repetition's maximum is below its minimum");
    p->at += !failed(p);
    return failed(p) ? e : grammar_repeat(p->b, e, min, max);
}

static const struct grammar_expr *postfix(struct gbnf *p, const struct grammar_expr *e, int nested)
{
    for (int n = 0; !failed(p); n++) {
        const char *before = p->at;
        skip_space(p, nested);
        int c = peek(p);
        if (c == '{')
            e = braces(p, e, nested);
        else if (c == '*' || c == '+' || c == '?')
            e = grammar_repeat(p->b, e, c == '+', c == '?' ? 1 : GRAMMAR_UNBOUNDED);
        else {
            p->at = before;
            break;
        }
        p->at += c != '{';
        if (!failed(p) && (n > DEPTH_MAX || nests_too_much(e)))
            fail(p, INFER_ERR_LIMIT, "repetitions of repetitions are too many");
    }
    return e;
}

static const struct grammar_expr *group(struct gbnf *p)
{
    p->at++;
    if (++p->depth > DEPTH_MAX)
        fail(p, INFER_ERR_LIMIT, "groups nest more than 200 deep");
    const struct grammar_expr *e = failed(p) ? grammar_never(p->b) : alternatives(p, 1);
    p->depth--;
    skip_space(p, 1);
    if (peek(p) != ')')
        fail(p, INFER_ERR_FORMAT, "\")\" is expected");
    p->at += !failed(p);
    return e;
}

/* The next item of a sequence, or NULL where it ends. */
static const struct grammar_expr *item(struct gbnf *p)
{
    int c = peek(p);
    if (c == '"')
        return literal(p);
    if (c == '[')
        return char_class(p);
    if (c == '.')
        return any_char(p);
    if (c == '(')
        return group(p);
    if (c == '<' || c == '!') {
        fail(p, INFER_ERR_UNSUPPORTED,
             "tokens by number or name (\"<[1]>\", \"!<a>\") are not "
             "supported: a grammar is over text");
        return NULL;
    }
    return is_word(c) ? grammar_call(p->b, rule_named(p, word(p))) : NULL;
}

static const struct grammar_expr *sequence(struct gbnf *p, int nested)
{
    grammar_list items = {0};
    while (!failed(p)) {
        skip_space(p, nested);
        const struct grammar_expr *e = item(p);
        if (!e)
            break;
        grammar_list_add(p->b, &items, postfix(p, e, nested));
    }
    const struct grammar_expr *e = grammar_seq(p->b, items.data, items.size);
    base_array_release(&p->b->alloc, &items);
    return e;
}

static const struct grammar_expr *alternatives(struct gbnf *p, int nested)
{
    grammar_list items = {0};
    for (;;) {
        grammar_list_add(p->b, &items, sequence(p, nested));
        if (failed(p) || peek(p) != '|')
            break;
        p->at++;
        skip_space(p, 1);
    }
    const struct grammar_expr *e = grammar_alt(p->b, items.data, items.size);
    base_array_release(&p->b->alloc, &items);
    return e;
}

static void rule(struct gbnf *p)
{
    const char *begin = p->at;
    struct base_view name = word(p);
    if (failed(p))
        return;
    uint32_t id = rule_named(p, name);
    skip_space(p, 0);
    if (p->end - p->at < 3 || memcmp(p->at, "::=", 3) != 0) {
        fail(p, INFER_ERR_FORMAT, "\"::=\" is expected");
        return;
    }
    p->at += 3;
    skip_space(p, 1);
    const struct grammar_expr *body = alternatives(p, 0);
    if (!failed(p) && peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r')
        fail(p, INFER_ERR_FORMAT, "the end of the rule is expected");
    if (failed(p))
        return;
    if (p->defined.data[id]) {
        p->at = begin;
        fail(p, INFER_ERR_FORMAT, "the rule is defined already");
        return;
    }
    p->defined.data[id] = 1;
    grammar_rule_set(p->b, id, body);
}

static infer_status check_rules(struct gbnf *p, const char *root, uint32_t *out)
{
    int32_t id = base_map_get(&p->names, root, strlen(root), -1);
    if (id < 0 || !p->defined.data[id])
        return base_error(INFER_ERR_NOT_FOUND, "the grammar has no rule \"%.100s\"", root);
    for (size_t i = 0; i < p->defined.size; i++) {
        struct base_view name = p->b->rules.data[i].name;
        if (!p->defined.data[i])
            return base_error(INFER_ERR_NOT_FOUND, "rule \"%.*s\" is called and nowhere defined",
                              (int)BASE_MIN(name.size, 100), name.data);
    }
    *out = (uint32_t)id;
    return INFER_OK;
}

infer_status grammar_read_gbnf(struct grammar_builder *b, struct base_view text, const char *root,
                               uint32_t *out)
{
    struct gbnf p = {.b = b, .text = text.data, .at = text.data, .end = text.data + text.size};
    infer_status st = base_map_init(&p.names, &b->alloc, 64);
    if (st != INFER_OK)
        return st;
    for (skip_space(&p, 1); !failed(&p) && p.at < p.end; skip_space(&p, 1))
        rule(&p);
    st = p.status != INFER_OK ? p.status : b->status;
    if (st == INFER_OK)
        st = check_rules(&p, root, out);
    base_map_release(&p.names);
    base_array_release(&b->alloc, &p.defined);
    return st;
}
