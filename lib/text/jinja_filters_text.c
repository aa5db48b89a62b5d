/* Filters over texts. */
#include "text/jinja_internal.h"

#include <stdio.h>

/* The text of a value; one marked safe stays so. */
static struct jinja_value soft(struct jinja_render *r, struct jinja_value v)
{
    return v.kind == JINJA_STRING ? v : jinja_str(r, v);
}

static struct jinja_value change_case(struct jinja_render *r, const struct jinja_call *c,
                                      enum jinja_case to)
{
    struct jinja_value text = soft(r, c->self);
    if (jinja_failed(r))
        return text;
    size_t begin = jinja_capture_begin(r);
    jinja_write_case(r, text.text, to);
    struct jinja_value out = jinja_capture_end(r, begin);
    out.flag = text.flag & JINJA_TEXT_SAFE;
    return out;
}

static struct jinja_value filter_upper(struct jinja_render *r, const struct jinja_call *c)
{
    return change_case(r, c, JINJA_UPPER);
}

static struct jinja_value filter_lower(struct jinja_render *r, const struct jinja_call *c)
{
    return change_case(r, c, JINJA_LOWER);
}

static struct jinja_value filter_capitalize(struct jinja_render *r, const struct jinja_call *c)
{
    return change_case(r, c, JINJA_CAPITAL);
}

/* A word begins after white space or one of - ( { [ <, other than for str.title(). */
static struct jinja_value filter_title(struct jinja_render *r, const struct jinja_call *c)
{
    struct base_view rest = soft(r, c->self).text;
    if (jinja_failed(r))
        return jinja_no_value();
    size_t begin = jinja_capture_begin(r);
    while (rest.size && !jinja_failed(r)) {
        uint32_t cp;
        size_t first = jinja_text_next(rest, &cp), end = first;
        int separator = jinja_char_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp));
        while (!separator && end < rest.size) {
            size_t n = jinja_text_next((struct base_view){rest.data + end, rest.size - end}, &cp);
            if (jinja_char_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp)))
                break;
            end += n;
        }
        jinja_write_case(r, (struct base_view){rest.data, first}, JINJA_UPPER);
        jinja_write_case(r, (struct base_view){rest.data + first, end - first}, JINJA_LOWER);
        rest.data += end;
        rest.size -= end;
    }
    return jinja_capture_end(r, begin);
}

static struct jinja_value filter_trim(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value chars = c->a[0];
    struct jinja_args args = {&chars, chars.kind != JINJA_MISSING, NULL, 0};
    const struct jinja_callable *method = jinja_find_text_method(jinja_view_of("strip"));
    return jinja_invoke(r, method, soft(r, c->self), &args, "filter");
}

static struct jinja_value filter_replace(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value at[3] = {jinja_str(r, c->a[0]), jinja_str(r, c->a[1]), c->a[2]};
    struct jinja_args args = {at, c->a[2].kind == JINJA_MISSING ? 2 : 3, NULL, 0};
    if (c->a[2].kind == JINJA_NONE)
        args.n = 2;
    const struct jinja_callable *method = jinja_find_text_method(jinja_view_of("replace"));
    return jinja_invoke(r, method, jinja_str(r, c->self), &args, "filter");
}

static struct jinja_value filter_indent(struct jinja_render *r, const struct jinja_call *c)
{
    struct base_view pad = {" ", 1};
    int64_t times = 4;
    int first = jinja_truth(c->a[1]), blank = jinja_truth(c->a[2]);
    if (!jinja_defined(r, c->self))
        return jinja_no_value();
    if (c->a[0].kind == JINJA_STRING) {
        pad = c->a[0].text;
        times = 1;
    } else if (c->a[0].kind != JINJA_MISSING && !jinja_as_int(c->a[0], &times)) {
        return jinja_fail(r, INFER_ERR_INVALID, "indent: the width must be a number or a text");
    }
    if (c->self.kind != JINJA_STRING)
        return jinja_fail(r, INFER_ERR_INVALID, "indent needs a text, not %s",
                          jinja_type_name(c->self.kind));
    struct base_view rest = c->self.text;
    size_t begin = jinja_capture_begin(r);
    /* A newline is added and the lines split: a text that ends in one keeps it. */
    for (int line = 0; (line == 0 || rest.size) && !jinja_failed(r); line++) {
        size_t before = rest.size;
        struct base_view text = jinja_next_line(&rest, 0);
        int ended = before != text.size;
        if (line == 0 ? first : (blank || text.size))
            jinja_write_fill(r, pad.data, pad.size, pad.size ? times : 0);
        jinja_write(r, text.data, text.size);
        if (rest.size || ended)
            jinja_write_char(r, '\n');
        if (ended && !rest.size && blank)
            jinja_write_fill(r, pad.data, pad.size, pad.size ? times : 0);
    }
    struct jinja_value out = jinja_capture_end(r, begin);
    out.flag = c->self.flag & JINJA_TEXT_SAFE;
    return out;
}

static struct jinja_value filter_center(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value width = c->a[0].kind == JINJA_MISSING ? jinja_int(80) : c->a[0];
    struct jinja_args args = {&width, 1, NULL, 0};
    const struct jinja_callable *method = jinja_find_text_method(jinja_view_of("center"));
    return jinja_invoke(r, method, soft(r, c->self), &args, "filter");
}

static struct jinja_value filter_truncate(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t length = 255, leeway = 5, size;
    struct jinja_value end = c->a[2].kind == JINJA_MISSING ? jinja_string("...", 3) : c->a[2];
    if (end.kind != JINJA_STRING ||
        (c->a[0].kind != JINJA_MISSING && !jinja_as_int(c->a[0], &length)) ||
        (c->a[3].kind > JINJA_NONE && !jinja_as_int(c->a[3], &leeway)))
        return jinja_fail(r, INFER_ERR_INVALID, "truncate needs a text and whole numbers");
    int64_t keep = length - jinja_length(r, end);
    if (keep < 0 || leeway < 0)
        return jinja_fail(r, INFER_ERR_INVALID, "truncate: the length is too small");
    size = jinja_length(r, c->self);
    if (size >= 0 && (size <= length || size - length <= leeway))
        return c->self;
    if (c->self.kind != JINJA_STRING)
        return jinja_fail(r, INFER_ERR_INVALID, "truncate needs a text, not %s",
                          jinja_type_name(c->self.kind));
    struct base_view text = {c->self.text.data, jinja_text_offset(c->self.text, (size_t)keep)};
    if (!jinja_truth(c->a[1])) {
        size_t space = jinja_text_find_last(text, jinja_view_of(" "));
        text.size = space == SIZE_MAX ? text.size : space;
    }
    return jinja_concat(r, jinja_text(text, c->self.flag & JINJA_TEXT_SAFE), end);
}

static struct jinja_value filter_wordcount(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value text = soft(r, c->self);
    struct base_view rest = text.text;
    int64_t count = 0;
    int in_word = 0;
    if (jinja_failed(r))
        return text;
    jinja_charge(r, rest.size);
    const struct jinja_callable *isalnum = jinja_find_text_test(jinja_view_of("isalnum"));
    while (rest.size && !jinja_failed(r)) {
        uint32_t cp;
        size_t n = jinja_text_next(rest, &cp);
        struct jinja_args none = {0};
        int word = cp == '_' || jinja_truth(jinja_invoke(r, isalnum, jinja_string(rest.data, n),
                                                         &none, "filter"));
        count += word && !in_word;
        in_word = word;
        rest.data += n;
        rest.size -= n;
    }
    return jinja_int(count);
}

static struct jinja_value filter_format(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value text = soft(r, c->self), values;
    if (c->args->n && c->args->n_named)
        return jinja_fail(r, INFER_ERR_INVALID,
                          "format takes arguments by position or by name, not both");
    if (c->args->n_named) {
        values = jinja_dict(&r->heap);
        for (size_t i = 0; i < c->args->n_named && !jinja_failed(r); i++)
            jinja_put(r, values, jinja_text(c->args->named[i].name, 0), c->args->named[i].value);
    } else {
        values = jinja_list_of(r, JINJA_TUPLE, c->args->n);
        for (size_t i = 0; i < c->args->n && !jinja_failed(r); i++)
            values.list->items[values.list->size++] = c->args->at[i];
    }
    return jinja_failed(r) ? text : jinja_format_percent(r, text, values);
}

static void quote_url(struct jinja_render *r, struct base_view text, int query)
{
    for (size_t i = 0; i < text.size && !jinja_failed(r); i++) {
        char hex[8], c = text.data[i];
        if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
            (c && strchr("_.-~", c)) || (c == '/' && !query)) {
            jinja_write_char(r, c);
        } else if (c == ' ' && query) {
            jinja_write_char(r, '+');
        } else {
            snprintf(hex, sizeof hex, "%%%02X", (unsigned char)c);
            jinja_write_text(r, hex);
        }
    }
}

static struct jinja_value filter_urlencode(struct jinja_render *r, const struct jinja_call *c)
{
    size_t begin;
    if (c->self.kind == JINJA_STRING || !jinja_iterable(c->self)) {
        struct jinja_value text = jinja_str(r, c->self);
        begin = jinja_capture_begin(r);
        quote_url(r, text.text, 0);
        return jinja_capture_end(r, begin);
    }
    struct jinja_value pairs = c->self;
    if (pairs.kind == JINJA_DICT) {
        struct jinja_args none = {0};
        pairs = jinja_invoke(r, jinja_find_method(JINJA_DICT, jinja_view_of("items")), pairs, &none,
                             "filter");
    }
    struct jinja_list items = jinja_walk(r, pairs);
    begin = jinja_capture_begin(r);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_list pair = jinja_walk(r, items.items[i]);
        if (pair.size != 2)
            return jinja_fail(r, INFER_ERR_INVALID, "urlencode needs pairs");
        if (i)
            jinja_write_char(r, '&');
        quote_url(r, jinja_str(r, pair.items[0]).text, 1);
        jinja_write_char(r, '=');
        quote_url(r, jinja_str(r, pair.items[1]).text, 1);
    }
    return jinja_capture_end(r, begin);
}

static const struct jinja_callable filters[] = {
    {"trim", filter_trim, "chars?"},
    {"upper", filter_upper, ""},
    {"lower", filter_lower, ""},
    {"replace", filter_replace, "old new count?"},
    {"indent", filter_indent, "width? first? blank?"},
    {"title", filter_title, ""},
    {"capitalize", filter_capitalize, ""},
    {"format", filter_format, "*"},
    {"center", filter_center, "width?"},
    {"truncate", filter_truncate, "length? killwords? end? leeway?"},
    {"wordcount", filter_wordcount, ""},
    {"urlencode", filter_urlencode, ""},
};

const struct jinja_callable *jinja_find_filter_of_texts(struct base_view name)
{
    return jinja_find_in(filters, BASE_COUNT(filters), name);
}
