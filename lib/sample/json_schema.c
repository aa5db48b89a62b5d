/* JSON Schema: from the text to the root's rule; values; what all types share. */
#include "sample/json_schema.h"

#include "base/error.h"
#include "base/str.h"
#include "sample/decimal.h"
#include "sample/grammar_read.h"

#include <string.h>

#define DEPTH_MAX  400
#define RULES_MAX  50000
#define INDENT_MAX 40

/* ------------------------------------------------------------------ errors */

/* Appends the path from `from` to the value `to`; 0 if it is not below. */
static int find_path(struct base_str *path, const struct base_json *from,
                     const struct base_json *to)
{
    size_t size = path->size;
    if (from == to)
        return 1;
    for (uint32_t i = 0; from->type == BASE_JSON_ARRAY && i < from->n; i++) {
        if (base_str_appendf(path, "/%u", i) == INFER_OK && find_path(path, &from->as.items[i], to))
            return 1;
        path->size = size;
    }
    for (uint32_t i = 0; from->type == BASE_JSON_OBJECT && i < from->n; i++) {
        struct base_view key = from->as.member[i].key;
        if (base_str_appendf(path, "/%.*s", (int)BASE_MIN(key.size, 60), key.data) == INFER_OK &&
            find_path(path, &from->as.member[i].value, to))
            return 1;
        path->size = size;
    }
    return 0;
}

infer_status schema_fail(struct schema *s, const struct base_json *at, infer_status status,
                         const char *what, struct base_view name)
{
    struct base_str path;
    if (schema_failed(s))
        return s->b->status;
    base_str_init(&path, &s->alloc, 400);
    if (at)
        find_path(&path, s->root, at);
    if (path.data)
        path.data[path.size] = 0;
    grammar_builder_fail(
        s->b, base_error(status, "schema, at #%s: %s%.*s", path.size ? path.data : "", what,
                         (int)BASE_MIN(name.size, 100), name.data ? name.data : ""));
    base_str_release(&path);
    return status;
}

/* ------------------------------------------------------------------- words */

/* Between tokens: nothing, a space, or a line end and the next line's indent. */
const struct grammar_expr *schema_space(struct schema *s)
{
    struct grammar_builder *b = s->b;
    static const struct charset_range indent[] = {{'\t', '\t'}, {' ', ' '}};
    if (s->compact)
        return grammar_empty(b);
    const struct charset set = {.data = (struct charset_range *)indent, .size = 2};
    const struct grammar_expr *line =
        grammar_seq(b, GRAMMAR_ITEMS(grammar_text(b, "\n"),
                                     grammar_repeat(b, grammar_chars(b, &set), 0, INDENT_MAX)));
    return grammar_repeat(b, grammar_alt(b, GRAMMAR_ITEMS(grammar_text(b, " "), line)), 0, 1);
}

const struct grammar_expr *schema_quoted(struct schema *s, struct base_view text)
{
    struct grammar_builder *b = s->b;
    grammar_list items = {0};
    size_t plain = 0;
    grammar_list_add(b, &items, grammar_text(b, "\""));
    for (size_t i = 0; i <= text.size; i++) {
        uint8_t c = i < text.size ? (uint8_t)text.data[i] : 0;
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        grammar_list_add(b, &items, grammar_bytes(b, text.data + plain, i - plain));
        struct charset_range one = {c, c};
        if (i < text.size)
            grammar_list_add(b, &items,
                             regex_json_chars(b, &(struct charset){.data = &one, .size = 1}));
        plain = i + 1;
    }
    grammar_list_add(b, &items, grammar_text(b, "\""));
    const struct grammar_expr *e = grammar_seq(b, items.data, items.size);
    base_array_release(&b->alloc, &items);
    return e;
}

/* ------------------------------------------------------------------ values */

static const struct grammar_expr *number_literal(struct schema *s, const struct base_json *v)
{
    struct base_str out;
    int64_t i;
    struct decimal d = base_json_i64(v, &i) ? decimal_of_i64(i) : decimal_of_f64(v->as.real);
    base_str_init(&out, &s->alloc, 0);
    grammar_builder_fail(s->b, decimal_print(&d, &out));
    const struct grammar_expr *e = grammar_bytes(s->b, out.data ? out.data : "", out.size);
    base_str_release(&out);
    return e;
}

static const struct grammar_expr *literal(struct schema *s, const struct base_json *v);

static const struct grammar_expr *list_literal(struct schema *s, const struct base_json *v)
{
    struct grammar_builder *b = s->b;
    int is_object = v->type == BASE_JSON_OBJECT;
    grammar_list items = {0};
    grammar_list_add(b, &items, grammar_text(b, is_object ? "{" : "["));
    for (uint32_t i = 0; i < v->n; i++) {
        grammar_list_add(b, &items, i ? grammar_text(b, ",") : grammar_empty(b));
        grammar_list_add(b, &items, schema_space(s));
        if (is_object) {
            grammar_list_add(b, &items, schema_quoted(s, v->as.member[i].key));
            grammar_list_add(b, &items, grammar_text(b, ":"));
            grammar_list_add(b, &items, schema_space(s));
        }
        grammar_list_add(b, &items,
                         literal(s, is_object ? &v->as.member[i].value : &v->as.items[i]));
    }
    grammar_list_add(b, &items, schema_space(s));
    grammar_list_add(b, &items, grammar_text(b, is_object ? "}" : "]"));
    const struct grammar_expr *e = grammar_seq(b, items.data, items.size);
    base_array_release(&b->alloc, &items);
    return e;
}

static const struct grammar_expr *literal(struct schema *s, const struct base_json *v)
{
    switch (v->type) {
    case BASE_JSON_NULL:
        return grammar_text(s->b, "null");
    case BASE_JSON_FALSE:
        return grammar_text(s->b, "false");
    case BASE_JSON_TRUE:
        return grammar_text(s->b, "true");
    case BASE_JSON_STRING:
        return schema_quoted(s, v->as.text);
    case BASE_JSON_ARRAY:
    case BASE_JSON_OBJECT:
        return list_literal(s, v);
    default:
        return number_literal(s, v);
    }
}

/* The values that "enum" and "const" of one schema name, as an array. */
static const struct base_json *candidates(struct schema *s, const struct schema_all *alt)
{
    for (size_t i = 0; i < alt->n; i++) {
        const struct base_json *list = base_json_get(alt->data[i], "enum");
        const struct base_json *one = base_json_get(alt->data[i], "const");
        struct base_json *array;
        if (!one && list)
            return list;
        if (!one)
            continue;
        array = base_arena_new(&s->b->arena, 1, sizeof *array);
        if (!array) {
            grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
            return NULL;
        }
        *array = (struct base_json){.type = BASE_JSON_ARRAY, .n = 1, .as.items = one};
        return array;
    }
    return NULL;
}

static const struct grammar_expr *one_of_values(struct schema *s, const struct schema_all *alt,
                                                const struct base_json *values)
{
    grammar_list items = {0};
    for (uint32_t i = 0; i < values->n && !schema_failed(s); i++)
        if (schema_matches(s, alt, &values->as.items[i]))
            grammar_list_add(s->b, &items, literal(s, &values->as.items[i]));
    const struct grammar_expr *e = grammar_alt(s->b, items.data, items.size);
    base_array_release(&s->b->alloc, &items);
    return e;
}

const struct grammar_expr *schema_alternative(struct schema *s, const struct schema_all *alt)
{
    struct grammar_builder *b = s->b;
    int types = schema_types(s, alt);
    const struct base_json *values = candidates(s, alt);
    if (values)
        return one_of_values(s, alt, values);
    grammar_list items = {0};
    if (types & SCHEMA_OBJECT)
        grammar_list_add(b, &items, schema_object(s, alt));
    if (types & SCHEMA_ARRAY)
        grammar_list_add(b, &items, schema_array(s, alt));
    if (types & SCHEMA_STRING)
        grammar_list_add(b, &items, schema_string(s, alt));
    if (types & (SCHEMA_INTEGER | SCHEMA_FRACTION))
        grammar_list_add(b, &items, schema_number(s, alt, types));
    if (types & SCHEMA_BOOLEAN) {
        grammar_list_add(b, &items, grammar_text(b, "true"));
        grammar_list_add(b, &items, grammar_text(b, "false"));
    }
    if (types & SCHEMA_NULL)
        grammar_list_add(b, &items, grammar_text(b, "null"));
    const struct grammar_expr *e = grammar_alt(b, items.data, items.size);
    base_array_release(&b->alloc, &items);
    return e;
}

static const struct grammar_expr *body(struct schema *s, const struct schema_all *all)
{
    struct schema_alternatives alts = schema_expand(s, all);
    grammar_list items = {0};
    for (size_t i = 0; i < alts.size && !schema_failed(s); i++)
        grammar_list_add(s->b, &items, schema_alternative(s, &alts.data[i]));
    const struct grammar_expr *e = grammar_alt(s->b, items.data, items.size);
    base_array_release(&s->b->alloc, &items);
    return e;
}

/* A rule that is finished and matches nothing is said to be so, one that is still open is not. */
static const struct grammar_expr *call(struct schema *s, uint32_t rule)
{
    if (!schema_failed(s) && s->finished.data[rule] &&
        s->b->rules.data[rule].body->kind == GRAMMAR_NEVER)
        return grammar_never(s->b);
    return grammar_call(s->b, rule);
}

static uint32_t new_rule(struct schema *s, const char *name)
{
    uint32_t rule = grammar_rule_new(s->b, name, strlen(name));
    if (rule > RULES_MAX)
        schema_fail(s, NULL, INFER_ERR_LIMIT, "the schema has too many parts",
                    (struct base_view){0});
    while (!schema_failed(s) && s->finished.size <= rule)
        if (base_array_push(&s->alloc, &s->finished, 0) != INFER_OK)
            grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
    return rule;
}

const struct grammar_expr *schema_value(struct schema *s, const struct schema_all *all)
{
    const char *key = all->n ? (const char *)all->data : "any";
    size_t size = all->n ? all->n * sizeof(void *) : 3;
    for (size_t i = 0; i < all->n; i++)
        if (all->data[i]->type == BASE_JSON_FALSE)
            return grammar_never(s->b);
    if (schema_failed(s))
        return grammar_never(s->b);
    int32_t known = base_map_get(&s->rules, key, size, -1);
    if (known >= 0)
        return call(s, (uint32_t)known);
    if (++s->depth > DEPTH_MAX)
        schema_fail(s, NULL, INFER_ERR_LIMIT, "the schema nests too deep", (struct base_view){0});
    uint32_t rule = new_rule(s, "value");
    if (!schema_failed(s) && base_map_add(&s->rules, key, size, (int32_t)rule) != INFER_OK)
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
    const struct grammar_expr *e = schema_failed(s) ? grammar_never(s->b) : body(s, all);
    grammar_rule_set(s->b, rule, e);
    if (!schema_failed(s))
        s->finished.data[rule] = 1;
    s->depth--;
    return schema_failed(s) ? grammar_never(s->b) : call(s, rule);
}

/* ------------------------------------------------------------------- start */

/* Any character of a string, in each way that JSON can write it; surrogates only in pairs. */
static const struct grammar_expr *any_character(struct schema *s)
{
    struct grammar_builder *b = s->b;
    static const struct charset_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, CHARSET_LAST}};
    static const struct charset_range shorts[] = {{'"', '"'}, {'/', '/'}, {'\\', '\\'}, {'b', 'b'},
                                                  {'f', 'f'}, {'n', 'n'}, {'r', 'r'},   {'t', 't'}};
    static const struct charset_range hex[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    static const struct charset_range not_d[] = {
        {'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}};
    static const struct charset_range d[] = {{'D', 'D'}, {'d', 'd'}}, low[] = {{'0', '7'}};
    static const struct charset_range high[] = {{'8', '9'}, {'A', 'B'}, {'a', 'b'}};
    static const struct charset_range later[] = {{'C', 'F'}, {'c', 'f'}};
#define SET(ranges)                                                                                \
    grammar_chars(b, &(struct charset){.data = (struct charset_range *)(ranges),                   \
                                       .size = BASE_COUNT(ranges)})
    const struct grammar_expr *two = grammar_repeat(b, SET(hex), 2, 2);
    const struct grammar_expr *single =
        grammar_alt(b, GRAMMAR_ITEMS(grammar_seq(b, GRAMMAR_ITEMS(SET(not_d), SET(hex), two)),
                                     grammar_seq(b, GRAMMAR_ITEMS(SET(d), SET(low), two))));
    const struct grammar_expr *pair = grammar_seq(
        b, GRAMMAR_ITEMS(SET(d), SET(high), two, grammar_text(b, "\\u"), SET(d), SET(later), two));
    const struct grammar_expr *escape = grammar_alt(
        b,
        GRAMMAR_ITEMS(SET(shorts),
                      grammar_seq(b, GRAMMAR_ITEMS(grammar_text(b, "u"),
                                                   grammar_alt(b, GRAMMAR_ITEMS(single, pair))))));
    return grammar_alt(
        b, GRAMMAR_ITEMS(SET(plain), grammar_seq(b, GRAMMAR_ITEMS(grammar_text(b, "\\"), escape))));
#undef SET
}

static void define_strings(struct schema *s)
{
    struct grammar_builder *b = s->b;
    s->character = new_rule(s, "character");
    s->string = new_rule(s, "string");
    const struct grammar_expr *c = any_character(s), *quote = grammar_text(b, "\"");
    grammar_rule_set(b, s->character, c);
    grammar_rule_set(
        b, s->string,
        grammar_seq(b, GRAMMAR_ITEMS(quote, grammar_repeat(b, c, 0, GRAMMAR_UNBOUNDED), quote)));
    if (!schema_failed(s))
        s->finished.data[s->character] = s->finished.data[s->string] = 1;
}

static infer_status compile(struct schema *s, uint32_t *rule)
{
    struct schema_all all = {0};
    define_strings(s);
    schema_add(s, &all, s->root);
    const struct grammar_expr *e = schema_value(s, &all);
    if (!schema_failed(s) && e->kind == GRAMMAR_NEVER)
        schema_fail(s, NULL, INFER_ERR_INVALID, "no value can match it", (struct base_view){0});
    *rule = new_rule(s, "root");
    grammar_rule_set(s->b, *rule, e);
    return s->b->status;
}

infer_status grammar_read_json_schema(struct grammar_builder *b, struct base_view text, int compact,
                                      uint32_t *rule)
{
    static const char any_object[] = "{\"type\":\"object\"}";
    struct schema s = {.b = b, .alloc = b->alloc, .compact = compact};
    if (!text.data)
        text = (struct base_view){any_object, sizeof any_object - 1};
    infer_status st = base_json_parse(&s.root, &b->arena, text.data, text.size);
    if (st != INFER_OK)
        return base_error_prefix(st, "schema");
    if (s.root->type != BASE_JSON_OBJECT && s.root->type != BASE_JSON_TRUE &&
        s.root->type != BASE_JSON_FALSE)
        return base_error(INFER_ERR_FORMAT, "a schema is an object, true or false");
    st = base_map_init(&s.rules, &b->alloc, 64);
    if (st == INFER_OK)
        st = base_map_init(&s.patterns, &b->alloc, 16);
    if (st == INFER_OK)
        st = compile(&s, rule);
    base_map_release(&s.rules);
    base_map_release(&s.patterns);
    base_array_release(&b->alloc, &s.dfas);
    base_array_release(&b->alloc, &s.finished);
    return st;
}
