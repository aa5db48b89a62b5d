/* JSON values as the grammars write them: members in the order in which a schema names them,
 * whole numbers without fraction, with or without white space. */
#ifndef TESTS_UNIT_JSON_TEXT_H
#define TESTS_UNIT_JSON_TEXT_H

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct json_text {
    char data[65536];
    size_t size;
    const char *names[512]; /* of properties, in the order of the schema */
    size_t n_names;
    int spaces;
};

static void json_text_put(struct json_text *t, const char *text)
{
    size_t n = strlen(text);
    assert_true(t->size + n < sizeof t->data);
    memcpy(t->data + t->size, text, n + 1);
    t->size += n;
}

static void json_text_name(struct json_text *t, const char *name)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (strcmp(t->names[i], name) == 0)
            return;
    if (t->n_names < 512)
        t->names[t->n_names++] = name;
}

/* Names of all "properties" first, then those that are only required. */
static void json_text_names(struct json_text *t, const json_t *schema, int required)
{
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_array(schema))
        json_array_foreach((json_t *)schema, i, value) json_text_names(t, value, required);
    json_object_foreach((json_t *)schema, key, value)
    {
        const char *name;
        json_t *inner;
        if (!required && (strcmp(key, "properties") == 0 || strcmp(key, "const") == 0))
            json_object_foreach(value, name, inner) json_text_name(t, name);
        if (required && strcmp(key, "required") == 0 && json_is_array(value))
            json_array_foreach(value, i, inner) if (json_is_string(inner))
                json_text_name(t, json_string_value(inner));
        json_text_names(t, value, required);
    }
}

static void json_text_value(struct json_text *t, const json_t *v);

static void json_text_line(struct json_text *t)
{
    if (t->spaces)
        json_text_put(t, t->spaces == 1 ? " " : "\n  ");
}

static void json_text_string(struct json_text *t, const char *text, size_t size)
{
    json_t *s = json_stringn(text, size);
    char *out = json_dumps(s, JSON_ENCODE_ANY);
    json_text_put(t, out);
    free(out);
    json_decref(s);
}

static void json_text_member(struct json_text *t, const char *key, const json_t *v, int *n)
{
    if ((*n)++)
        json_text_put(t, ",");
    json_text_line(t);
    json_text_string(t, key, strlen(key));
    json_text_put(t, ":");
    if (t->spaces)
        json_text_put(t, " ");
    json_text_value(t, v);
}

static void json_text_object(struct json_text *t, const json_t *v)
{
    const char *key;
    json_t *value;
    int n = 0;
    json_text_put(t, "{");
    for (size_t i = 0; i < t->n_names; i++)
        if ((value = json_object_get(v, t->names[i])))
            json_text_member(t, t->names[i], value, &n);
    json_object_foreach((json_t *)v, key, value)
    {
        int named = 0;
        for (size_t i = 0; i < t->n_names; i++)
            named |= strcmp(key, t->names[i]) == 0;
        if (!named)
            json_text_member(t, key, value, &n);
    }
    json_text_line(t);
    json_text_put(t, "}");
}

static void json_text_real(struct json_text *t, double x)
{
    char text[64];
    if (x == floor(x) && fabs(x) < 1e15) {
        snprintf(text, sizeof text, "%.0f", x);
    } else {
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, x);
            if (strtod(text, NULL) == x)
                break;
        }
        if (strchr(text, 'e') && fabs(x) < 1 && fabs(x) > 1e-12) { /* no exponent */
            snprintf(text, sizeof text, "%.20f", x);
            size_t n = strlen(text);
            while (strtod(text, NULL) == x && n > 3) {
                char last = text[--n];
                text[n] = 0;
                if (strtod(text, NULL) != x) {
                    text[n] = last;
                    break;
                }
            }
        }
    }
    json_text_put(t, text);
}

static void json_text_value(struct json_text *t, const json_t *v)
{
    size_t i;
    json_t *item;
    char number[32];
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        json_text_object(t, v);
        break;
    case JSON_ARRAY:
        json_text_put(t, "[");
        json_array_foreach((json_t *)v, i, item)
        {
            if (i)
                json_text_put(t, ",");
            json_text_line(t);
            json_text_value(t, item);
        }
        json_text_line(t);
        json_text_put(t, "]");
        break;
    case JSON_STRING:
        json_text_string(t, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        json_text_put(t, number);
        break;
    case JSON_REAL:
        json_text_real(t, json_real_value(v));
        break;
    default:
        json_text_put(t, json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
    }
}

#endif
