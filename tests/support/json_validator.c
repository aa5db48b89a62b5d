/* JSON Schema, value by value; patterns are PCRE2's. */
#include "support/json_validator.h"

#include <math.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

static size_t length_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static int matches(const char *pattern, const char *text)
{
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &error, &at, NULL);
    if (!code)
        abort();
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(code, NULL);
    int found = pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0, 0, match, NULL) >= 0;
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    return found;
}

static const json_t *resolve(const json_t *root, const char *ref)
{
    const json_t *v = root;
    char part[256];
    for (ref++; *ref == '/' && v;) {
        size_t n = strcspn(ref + 1, "/"), k = 0;
        for (size_t i = 0; i < n && k + 1 < sizeof part; i++) {
            char c = ref[1 + i];
            if (c == '~') {
                c = ref[2 + i] == '1' ? '/' : '~';
                i++;
            } else if (c == '%') {
                char hex[3] = {ref[2 + i], ref[3 + i], 0};
                c = (char)strtol(hex, NULL, 16);
                i += 2;
            }
            part[k++] = c;
        }
        part[k] = 0;
        v = json_is_array(v) ? json_array_get(v, (size_t)atoi(part)) : json_object_get(v, part);
        ref += 1 + n;
    }
    return v;
}

static int has_type(const json_t *value, const char *type)
{
    if (strcmp(type, "integer") == 0)
        return json_is_integer(value) ||
               (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)));
    return (strcmp(type, "null") == 0 && json_is_null(value)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
           (strcmp(type, "object") == 0 && json_is_object(value)) ||
           (strcmp(type, "array") == 0 && json_is_array(value)) ||
           (strcmp(type, "string") == 0 && json_is_string(value)) ||
           (strcmp(type, "number") == 0 && json_is_number(value));
}

static int same(const json_t *x, const json_t *y)
{
    size_t i;
    const char *key;
    json_t *item;
    if (json_is_number(x) && json_is_number(y))
        return json_number_value(x) == json_number_value(y);
    if (json_typeof(x) != json_typeof(y))
        return 0;
    if (json_is_array(x)) {
        if (json_array_size(x) != json_array_size(y))
            return 0;
        json_array_foreach((json_t *)x, i, item) if (!same(item, json_array_get(y, i))) return 0;
        return 1;
    }
    if (json_is_object(x)) {
        if (json_object_size(x) != json_object_size(y))
            return 0;
        json_object_foreach((json_t *)x, key,
                            item) if (!json_object_get(y, key) ||
                                      !same(item, json_object_get(y, key))) return 0;
        return 1;
    }
    return json_equal(x, y);
}

static int type_valid(const json_t *schema, const json_t *value)
{
    size_t i;
    json_t *item;
    const json_t *type = json_object_get(schema, "type"), *list = json_object_get(schema, "enum");
    const json_t *one = json_object_get(schema, "const");
    int ok = 0;
    if (json_is_string(type) && !has_type(value, json_string_value(type)))
        return 0;
    json_array_foreach((json_t *)type, i, item) ok |= has_type(value, json_string_value(item));
    if (json_is_array(type) && !ok)
        return 0;
    ok = 0;
    json_array_foreach((json_t *)list, i, item) ok |= same(item, value);
    return (!list || ok) && (!one || same(one, value));
}

static int number_valid(const json_t *schema, const json_t *value)
{
    double x = json_number_value(value);
    const json_t *v;
    if ((v = json_object_get(schema, "minimum")) && x < json_number_value(v))
        return 0;
    if ((v = json_object_get(schema, "maximum")) && x > json_number_value(v))
        return 0;
    if ((v = json_object_get(schema, "exclusiveMinimum")) && x <= json_number_value(v))
        return 0;
    if ((v = json_object_get(schema, "exclusiveMaximum")) && x >= json_number_value(v))
        return 0;
    v = json_object_get(schema, "multipleOf");
    double ratio = v ? x / json_number_value(v) : 0;
    return fabs(ratio - round(ratio)) < 1e-6 * fmax(1, fabs(ratio));
}

static int counts_valid(const json_t *schema, size_t n, const char *min, const char *max)
{
    const json_t *low = json_object_get(schema, min), *high = json_object_get(schema, max);
    return (!low || (double)n >= json_number_value(low)) &&
           (!high || (double)n <= json_number_value(high));
}

static int array_valid(const json_t *root, const json_t *schema, const json_t *value)
{
    size_t i;
    json_t *item;
    const json_t *prefix = json_object_get(schema, "prefixItems");
    const json_t *items = json_object_get(schema, "items");
    if (!counts_valid(schema, json_array_size(value), "minItems", "maxItems"))
        return 0;
    json_array_foreach((json_t *)value, i, item)
    {
        const json_t *s = i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
        if (s && !json_valid(root, s, item))
            return 0;
    }
    return 1;
}

static int object_valid(const json_t *root, const json_t *schema, const json_t *value)
{
    size_t i;
    const char *key, *pattern;
    json_t *item, *s;
    const json_t *names = json_object_get(schema, "propertyNames");
    const json_t *others = json_object_get(schema, "additionalProperties");
    if (!counts_valid(schema, json_object_size(value), "minProperties", "maxProperties"))
        return 0;
    json_array_foreach(json_object_get(schema, "required"), i,
                       item) if (!json_object_get(value, json_string_value(item))) return 0;
    json_object_foreach((json_t *)value, key, item)
    {
        int known = 0, ok = 1;
        if ((s = json_object_get(json_object_get(schema, "properties"), key))) {
            known = 1;
            ok &= json_valid(root, s, item);
        }
        json_object_foreach(json_object_get(schema, "patternProperties"), pattern,
                            s) if (matches(pattern, key))
        {
            known = 1;
            ok &= json_valid(root, s, item);
        }
        if (!known && others)
            ok &= json_valid(root, others, item);
        if (names) {
            json_t *name = json_string(key);
            ok &= json_valid(root, names, name);
            json_decref(name);
        }
        if (!ok)
            return 0;
    }
    return 1;
}

static int applicators_valid(const json_t *root, const json_t *schema, const json_t *value)
{
    size_t i;
    json_t *item;
    int n = 0;
    const json_t *ref = json_object_get(schema, "$ref"), *list;
    if (ref && !json_valid(root, resolve(root, json_string_value(ref)), value))
        return 0;
    json_array_foreach(json_object_get(schema, "allOf"), i,
                       item) if (!json_valid(root, item, value)) return 0;
    list = json_object_get(schema, "anyOf");
    json_array_foreach((json_t *)list, i, item) n += json_valid(root, item, value);
    if (list && n == 0)
        return 0;
    n = 0;
    list = json_object_get(schema, "oneOf");
    json_array_foreach((json_t *)list, i, item) n += json_valid(root, item, value);
    return !list || n == 1;
}

int json_valid(const json_t *root, const json_t *schema, const json_t *value)
{
    const json_t *pattern = json_object_get(schema, "pattern");
    if (json_is_boolean(schema))
        return json_is_true(schema);
    if (!type_valid(schema, value) || !applicators_valid(root, schema, value))
        return 0;
    if (json_is_number(value))
        return number_valid(schema, value);
    if (json_is_array(value))
        return array_valid(root, schema, value);
    if (json_is_object(value))
        return object_valid(root, schema, value);
    if (!json_is_string(value))
        return 1;
    return counts_valid(schema, length_of(json_string_value(value)), "minLength", "maxLength") &&
           (!pattern || matches(json_string_value(pattern), json_string_value(value)));
}
