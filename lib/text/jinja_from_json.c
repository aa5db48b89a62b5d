/* JSON as values of the template language. The parser has bounded the depth. */
#include "text/jinja_from_json.h"

struct walk {
    struct jinja_heap *heap;
    jinja_json_text_fn text;
    void *user_data;
};

static struct jinja_value convert(const struct walk *w, const struct base_json *json);

static struct jinja_value convert_text(const struct walk *w, struct base_view text)
{
    if (w->text)
        text = w->text(w->heap, text, w->user_data);
    return jinja_string(text.data ? text.data : "", text.size);
}

static struct jinja_value convert_array(const struct walk *w, const struct base_json *json)
{
    struct jinja_value list = jinja_list(w->heap);
    for (uint32_t i = 0; i < json->n && w->heap->status == INFER_OK; i++)
        jinja_list_push(w->heap, list, convert(w, &json->as.items[i]));
    return list;
}

static struct jinja_value convert_object(const struct walk *w, const struct base_json *json)
{
    struct jinja_value dict = jinja_dict(w->heap);
    for (uint32_t i = 0; i < json->n && w->heap->status == INFER_OK; i++) {
        const struct base_json_member *m = &json->as.member[i];
        jinja_dict_set(w->heap, dict, convert_text(w, m->key), convert(w, &m->value));
    }
    return dict;
}

static struct jinja_value convert(const struct walk *w, const struct base_json *json)
{
    switch (json->type) {
    case BASE_JSON_FALSE:
    case BASE_JSON_TRUE:
        return jinja_bool(json->type == BASE_JSON_TRUE);
    case BASE_JSON_INT:
        return jinja_int(json->as.integer);
    case BASE_JSON_REAL:
        return jinja_float(json->as.real);
    case BASE_JSON_STRING:
        return convert_text(w, json->as.text);
    case BASE_JSON_ARRAY:
        return convert_array(w, json);
    case BASE_JSON_OBJECT:
        return convert_object(w, json);
    default:
        return jinja_none();
    }
}

struct jinja_value jinja_from_json(struct jinja_heap *h, const struct base_json *json,
                                   jinja_json_text_fn text, void *user_data)
{
    return convert(&(struct walk){h, text, user_data}, json);
}
