/* JSON as values of the template language, for the tests of templates. */
#ifndef TESTS_SUPPORT_JINJA_JSON_H
#define TESTS_SUPPORT_JINJA_JSON_H

#include "text/jinja.h"

#include <jansson.h>

/* The value borrows its texts from `json`. */
static inline struct jinja_value jinja_from_json(struct jinja_heap *h, const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_NULL:
        return jinja_none();
    case JSON_TRUE:
    case JSON_FALSE:
        return jinja_bool(json_is_true(json));
    case JSON_INTEGER:
        return jinja_int(json_integer_value(json));
    case JSON_REAL:
        return jinja_float(json_real_value(json));
    case JSON_STRING:
        return jinja_string(json_string_value(json), json_string_length(json));
    case JSON_ARRAY: {
        struct jinja_value list = jinja_list(h);
        for (size_t i = 0; i < json_array_size(json); i++)
            jinja_list_push(h, list, jinja_from_json(h, json_array_get(json, i)));
        return list;
    }
    default: {
        struct jinja_value dict = jinja_dict(h);
        for (void *it = json_object_iter((json_t *)(uintptr_t)json); it;
             it = json_object_iter_next((json_t *)(uintptr_t)json, it)) {
            const char *key = json_object_iter_key(it);
            struct jinja_value value = jinja_from_json(h, json_object_iter_value(it));
            jinja_dict_set(h, dict, jinja_string(key, strlen(key)), value);
        }
        return dict;
    }
    }
}

#endif
