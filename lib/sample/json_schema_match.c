/* Whether a value that a schema names ("enum", "const", a member's name) matches others too. */
#include "sample/json_schema.h"

#include <math.h>
#include <string.h>

static int same_text(struct base_view x, struct base_view y)
{
    return x.size == y.size && (!x.size || memcmp(x.data, y.data, x.size) == 0);
}

static int same_members(const struct base_json *x, const struct base_json *y)
{
    for (uint32_t i = 0; i < x->n; i++) {
        const struct base_json *other = NULL;
        for (uint32_t k = 0; k < y->n && !other; k++)
            if (same_text(x->as.member[i].key, y->as.member[k].key))
                other = &y->as.member[k].value;
        if (!other || !schema_same_value(&x->as.member[i].value, other))
            return 0;
    }
    return 1;
}

int schema_same_value(const struct base_json *x, const struct base_json *y)
{
    int64_t i, k;
    double f, g;
    if (base_json_i64(x, &i) && base_json_i64(y, &k))
        return i == k;
    if (base_json_f64(x, &f) && base_json_f64(y, &g))
        return f == g;
    if (x->type != y->type || x->n != y->n)
        return 0;
    if (x->type == BASE_JSON_STRING)
        return same_text(x->as.text, y->as.text);
    if (x->type == BASE_JSON_OBJECT)
        return same_members(x, y);
    for (uint32_t e = 0; x->type == BASE_JSON_ARRAY && e < x->n; e++)
        if (!schema_same_value(&x->as.items[e], &y->as.items[e]))
            return 0;
    return 1;
}

static int type_of(const struct base_json *v)
{
    int64_t i;
    double f;
    switch (v->type) {
    case BASE_JSON_NULL:
        return SCHEMA_NULL;
    case BASE_JSON_FALSE:
    case BASE_JSON_TRUE:
        return SCHEMA_BOOLEAN;
    case BASE_JSON_STRING:
        return SCHEMA_STRING;
    case BASE_JSON_ARRAY:
        return SCHEMA_ARRAY;
    case BASE_JSON_OBJECT:
        return SCHEMA_OBJECT;
    default:
        if (base_json_i64(v, &i) || (base_json_f64(v, &f) && f == floor(f)))
            return SCHEMA_INTEGER;
        return SCHEMA_FRACTION;
    }
}

static int is_named(const struct schema_all *alt, const struct base_json *v)
{
    for (size_t i = 0; i < alt->n; i++) {
        const struct base_json *list = base_json_get(alt->data[i], "enum");
        const struct base_json *one = base_json_get(alt->data[i], "const");
        int found = !base_json_is(list, BASE_JSON_ARRAY);
        for (uint32_t k = 0; !found && k < list->n; k++)
            found = schema_same_value(&list->as.items[k], v);
        if (!found || (one && !schema_same_value(one, v)))
            return 0;
    }
    return 1;
}

static int array_matches(struct schema *s, const struct schema_all *alt, const struct base_json *v)
{
    if (v->n < schema_highest(s, alt, "minItems") || v->n > schema_lowest(s, alt, "maxItems"))
        return 0;
    for (size_t i = 0; i < alt->n; i++)
        if (base_json_is(base_json_get(alt->data[i], "uniqueItems"), BASE_JSON_TRUE))
            for (uint32_t x = 0; x < v->n; x++)
                for (uint32_t y = 0; y < x; y++)
                    if (schema_same_value(&v->as.items[x], &v->as.items[y]))
                        return 0;
    for (uint32_t i = 0; i < v->n && !schema_failed(s); i++) {
        struct schema_all all = schema_element(s, alt, i);
        if (!schema_matches_all(s, &all, &v->as.items[i]))
            return 0;
    }
    return 1;
}

static int has_required(const struct schema_all *alt, const struct base_json *v)
{
    for (size_t i = 0; i < alt->n; i++) {
        const struct base_json *required = base_json_get(alt->data[i], "required");
        for (uint32_t k = 0; base_json_is(required, BASE_JSON_ARRAY) && k < required->n; k++) {
            struct base_view name;
            int found = !base_json_string(&required->as.items[k], &name);
            for (uint32_t m = 0; !found && m < v->n; m++)
                found = same_text(v->as.member[m].key, name);
            if (!found)
                return 0;
        }
    }
    return 1;
}

static int object_matches(struct schema *s, const struct schema_all *alt, const struct base_json *v)
{
    if (v->n < schema_highest(s, alt, "minProperties") ||
        v->n > schema_lowest(s, alt, "maxProperties") || !has_required(alt, v))
        return 0;
    struct schema_all names = {0};
    for (size_t i = 0; i < alt->n; i++) {
        const struct base_json *schema = base_json_get(alt->data[i], "propertyNames");
        if (schema)
            schema_add(s, &names, schema);
    }
    for (uint32_t i = 0; i < v->n && !schema_failed(s); i++) {
        struct base_json name = {.type = BASE_JSON_STRING, .as.text = v->as.member[i].key};
        struct schema_all all = schema_member(s, alt, v->as.member[i].key);
        if (!schema_matches_all(s, &all, &v->as.member[i].value) ||
            !schema_matches_all(s, &names, &name))
            return 0;
    }
    return 1;
}

int schema_matches(struct schema *s, const struct schema_all *alt, const struct base_json *v)
{
    int type = type_of(v);
    if (!(schema_types(s, alt) & type) || !is_named(alt, v) || schema_failed(s))
        return 0;
    switch (type) {
    case SCHEMA_STRING:
        return schema_string_matches(s, alt, v->as.text);
    case SCHEMA_ARRAY:
        return array_matches(s, alt, v);
    case SCHEMA_OBJECT:
        return object_matches(s, alt, v);
    case SCHEMA_INTEGER:
    case SCHEMA_FRACTION:
        return schema_number_matches(s, alt, v);
    default:
        return 1;
    }
}

int schema_matches_all(struct schema *s, const struct schema_all *all, const struct base_json *v)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->data[i]->type == BASE_JSON_FALSE)
            return 0;
    struct schema_alternatives alts = schema_expand(s, all);
    for (size_t i = 0; i < alts.size && !schema_failed(s); i++)
        if (schema_matches(s, &alts.data[i], v))
            return 1;
    return 0;
}
