/* Conjunctions to alternatives: references, "allOf", "anyOf" and "oneOf". */
#include "base/error.h"
#include "sample/json_schema.h"

#include "base/str.h"

#include <string.h>

#define ALTERNATIVES_MAX 1024   /* of one conjunction */
#define WORK_MAX         200000 /* of all */
#define EXPANDING_MAX    100    /* schemas that refer to schemas at one place */

static const struct base_view nothing = {"", 0};

/* ------------------------------------------------------------ conjunctions */

void schema_add(struct schema *s, struct schema_all *all, const struct base_json *schema)
{
    size_t at = 0;
    if (schema->type == BASE_JSON_TRUE || schema_failed(s))
        return;
    while (at < all->n && all->data[at] < schema)
        at++;
    if (at < all->n && all->data[at] == schema)
        return;
    const struct base_json **data = base_arena_new(&s->b->arena, all->n + 1, sizeof *data);
    if (!data) {
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
        return;
    }
    if (at)
        memcpy(data, all->data, at * sizeof *data);
    data[at] = schema;
    if (all->n > at)
        memcpy(data + at + 1, all->data + at, (all->n - at) * sizeof *data);
    all->data = data;
    all->n++;
}

static void push(struct schema *s, struct schema_alternatives *list, struct schema_all alt)
{
    if (list->size >= ALTERNATIVES_MAX || ++s->n_alternatives > WORK_MAX)
        schema_fail(s, NULL, INFER_ERR_LIMIT, "\"anyOf\" and \"oneOf\" multiply to too many cases",
                    nothing);
    if (!schema_failed(s) && base_array_push(&s->alloc, list, alt) != INFER_OK)
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
}

static struct schema_alternatives copy(struct schema *s, const struct schema_alternatives *list)
{
    struct schema_alternatives out = {0};
    for (size_t i = 0; i < list->size; i++)
        push(s, &out, list->data[i]);
    return out;
}

/* -------------------------------------------------------------- references */

/* "~1" and "~0" of JSON pointers, "%41" of URIs; returns 0 where they are none. */
static int unescape(struct schema *s, struct base_str *out, struct base_view part)
{
    base_str_clear(out);
    for (size_t i = 0; i < part.size; i++) {
        char c = part.data[i];
        if (c == '%' && i + 2 < part.size) {
            unsigned value = 0;
            for (size_t k = 1; k <= 2; k++) {
                char h = part.data[i + k];
                unsigned d = h >= '0' && h <= '9'   ? (unsigned)(h - '0')
                             : h >= 'a' && h <= 'f' ? (unsigned)(h - 'a' + 10)
                             : h >= 'A' && h <= 'F' ? (unsigned)(h - 'A' + 10)
                                                    : 16;
                if (d > 15)
                    return 0;
                value = value << 4 | d;
            }
            c = (char)value;
            i += 2;
        }
        if (base_str_put(out, c) != INFER_OK) {
            grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
            return 0;
        }
    }
    size_t n = 0;
    for (size_t i = 0; i < out->size; i++) {
        char c = out->data[i];
        if (c == '~' && i + 1 < out->size && (out->data[i + 1] == '0' || out->data[i + 1] == '1'))
            c = out->data[++i] == '0' ? '~' : '/';
        out->data[n++] = c;
    }
    out->size = n;
    return 1;
}

static const struct base_json *child(const struct base_json *v, const struct base_str *name)
{
    if (v->type == BASE_JSON_OBJECT)
        for (uint32_t i = 0; i < v->n; i++) {
            struct base_view key = v->as.member[i].key;
            if (key.size == name->size && (!key.size || !memcmp(key.data, name->data, key.size)))
                return &v->as.member[i].value;
        }
    if (v->type == BASE_JSON_ARRAY && name->size && name->size < 10) {
        size_t index = 0;
        for (size_t i = 0; i < name->size; i++) {
            if (name->data[i] < '0' || name->data[i] > '9')
                return NULL;
            index = 10 * index + (size_t)(name->data[i] - '0');
        }
        return base_json_at(v, index);
    }
    return NULL;
}

static const struct base_json *resolve(struct schema *s, const struct base_json *at)
{
    struct base_view ref;
    struct base_str name;
    if (!base_json_string(base_json_get(at, "$ref"), &ref)) {
        schema_fail(s, at, INFER_ERR_FORMAT, "\"$ref\" is no string", nothing);
        return NULL;
    }
    if (!ref.size || ref.data[0] != '#' || (ref.size > 1 && ref.data[1] != '/')) {
        schema_fail(s, at, INFER_ERR_UNSUPPORTED,
                    "only references within the schema (\"#/...\") are supported, not ", ref);
        return NULL;
    }
    const struct base_json *v = s->root;
    base_str_init(&name, &s->alloc, 0);
    for (size_t i = 1; i < ref.size && v;) {
        size_t end = ++i;
        while (end < ref.size && ref.data[end] != '/')
            end++;
        v = unescape(s, &name, (struct base_view){ref.data + i, end - i}) ? child(v, &name) : NULL;
        i = end;
    }
    base_str_release(&name);
    if (!v)
        schema_fail(s, at, INFER_ERR_NOT_FOUND, "nothing is where \"$ref\" points: ", ref);
    else if (v->type != BASE_JSON_OBJECT && v->type != BASE_JSON_TRUE && v->type != BASE_JSON_FALSE)
        schema_fail(s, at, INFER_ERR_FORMAT, "\"$ref\" points to no schema: ", ref);
    return schema_failed(s) ? NULL : v;
}

/* --------------------------------------------------------------- expanding */

static void expand_one(struct schema *s, struct schema_alternatives *list,
                       const struct base_json *schema);

static const struct base_json *list_of(struct schema *s, const struct base_json *schema,
                                       const char *keyword)
{
    const struct base_json *list = base_json_get(schema, keyword);
    if (list && (list->type != BASE_JSON_ARRAY || list->n == 0)) {
        schema_fail(s, schema, INFER_ERR_FORMAT,
                    "no array of schemas: ", (struct base_view){keyword, strlen(keyword)});
        return NULL;
    }
    return list;
}

/* Whether no value can be under both. */
static int disjoint(struct schema *s, const struct schema_all *x, const struct schema_all *y)
{
    struct schema_all both = *x;
    for (size_t i = 0; i < y->n; i++)
        schema_add(s, &both, y->data[i]);
    return schema_alternative(s, &both)->kind == GRAMMAR_NEVER;
}

/* "oneOf" forbids what two of its schemas allow; an automaton that chooses among them does not
 * know, so it must be impossible. */
static void check_disjoint(struct schema *s, const struct base_json *schema,
                           const struct schema_alternatives *parts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < i; k++)
            for (size_t x = 0; x < parts[i].size; x++)
                for (size_t y = 0; y < parts[k].size && !schema_failed(s); y++)
                    if (!disjoint(s, &parts[i].data[x], &parts[k].data[y]))
                        schema_fail(s, schema, INFER_ERR_UNSUPPORTED,
                                    "\"oneOf\" with schemas that one value may match at once "
                                    "(\"anyOf\" allows that)",
                                    nothing);
}

static void expand_choice(struct schema *s, struct schema_alternatives *list,
                          const struct base_json *schema, const char *keyword, int exclusive)
{
    const struct base_json *choice = list_of(s, schema, keyword);
    if (!choice || schema_failed(s))
        return;
    struct schema_alternatives *parts = base_new(&s->alloc, choice->n, sizeof *parts);
    struct schema_alternatives out = {0};
    if (!parts) {
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
        return;
    }
    for (uint32_t i = 0; i < choice->n && !schema_failed(s); i++) {
        parts[i] = copy(s, list);
        expand_one(s, &parts[i], &choice->as.items[i]);
        for (size_t k = 0; k < parts[i].size; k++)
            push(s, &out, parts[i].data[k]);
    }
    if (exclusive)
        check_disjoint(s, schema, parts, choice->n);
    for (uint32_t i = 0; i < choice->n; i++)
        base_array_release(&s->alloc, &parts[i]);
    base_free(&s->alloc, parts);
    base_array_release(&s->alloc, list);
    *list = out;
}

static void expand_object(struct schema *s, struct schema_alternatives *list,
                          const struct base_json *schema)
{
    schema_check(s, schema);
    for (size_t i = 0; i < list->size; i++)
        schema_add(s, &list->data[i], schema);
    if (base_json_get(schema, "$ref")) {
        const struct base_json *target = resolve(s, schema);
        if (target)
            expand_one(s, list, target);
    }
    const struct base_json *all = list_of(s, schema, "allOf");
    for (uint32_t i = 0; all && i < all->n && !schema_failed(s); i++)
        expand_one(s, list, &all->as.items[i]);
    expand_choice(s, list, schema, "anyOf", 0);
    expand_choice(s, list, schema, "oneOf", 1);
}

static void expand_one(struct schema *s, struct schema_alternatives *list,
                       const struct base_json *schema)
{
    if (schema_failed(s) || !list->size || schema->type == BASE_JSON_TRUE)
        return;
    if (schema->type == BASE_JSON_FALSE) {
        list->size = 0;
        return;
    }
    if (schema->type != BASE_JSON_OBJECT) {
        schema_fail(s, schema, INFER_ERR_FORMAT, "a schema is an object, true or false", nothing);
        return;
    }
    if (++s->expanding > EXPANDING_MAX)
        schema_fail(s, schema, INFER_ERR_INVALID, "the schema refers to itself without end",
                    nothing);
    else
        expand_object(s, list, schema);
    s->expanding--;
}

/* The builder's arena keeps the sets, the list is moved there. */
struct schema_alternatives schema_expand(struct schema *s, const struct schema_all *all)
{
    struct schema_alternatives list = {0}, kept = {0};
    int outer = s->expanding;
    s->expanding = 0;
    push(s, &list, (struct schema_all){0});
    for (size_t i = 0; i < all->n && !schema_failed(s); i++)
        expand_one(s, &list, all->data[i]);
    s->expanding = outer;
    if (!schema_failed(s) && list.size) {
        kept.data = base_arena_new(&s->b->arena, list.size, sizeof *kept.data);
        if (kept.data) {
            memcpy(kept.data, list.data, list.size * sizeof *kept.data);
            kept.size = list.size;
        } else {
            grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
        }
    }
    base_array_release(&s->alloc, &list);
    return kept;
}

/* ------------------------------------------------------------------- types */

static int type_of_name(struct schema *s, const struct base_json *schema,
                        const struct base_json *name)
{
    static const struct {
        const char *name;
        int types;
    } known[] = {{"null", SCHEMA_NULL},
                 {"boolean", SCHEMA_BOOLEAN},
                 {"object", SCHEMA_OBJECT},
                 {"array", SCHEMA_ARRAY},
                 {"string", SCHEMA_STRING},
                 {"integer", SCHEMA_INTEGER},
                 {"number", SCHEMA_INTEGER | SCHEMA_FRACTION}};
    struct base_view text = nothing;
    for (size_t i = 0; base_json_string(name, &text) && i < BASE_COUNT(known); i++)
        if (base_view_equal(text, known[i].name))
            return known[i].types;
    schema_fail(s, schema, INFER_ERR_FORMAT, "no type has this name: ", text);
    return 0;
}

int schema_types(struct schema *s, const struct schema_all *alt)
{
    int types = SCHEMA_ANY;
    for (size_t i = 0; i < alt->n; i++) {
        const struct base_json *type = base_json_get(alt->data[i], "type");
        int allowed = 0;
        if (!type)
            continue;
        if (type->type != BASE_JSON_ARRAY)
            allowed = type_of_name(s, alt->data[i], type);
        for (uint32_t k = 0; type->type == BASE_JSON_ARRAY && k < type->n; k++)
            allowed |= type_of_name(s, alt->data[i], &type->as.items[k]);
        types &= allowed;
    }
    return types;
}
