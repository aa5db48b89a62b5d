/* The filter tojson, as publishers' tools define it: json.dumps without the
 * HTML escapes of plain Jinja, non-ASCII characters kept. */
#include "text/jinja_internal.h"

#include <stdio.h>

struct json_style {
    int ascii, sort_keys;
    int lines; /* one item a line */
    struct base_view indent, item_separator, key_separator;
    size_t level;
};

static void dump(struct jinja_render *r, struct json_style *s, struct jinja_value v);

static void dump_escape(struct jinja_render *r, uint32_t unit)
{
    char text[16];
    snprintf(text, sizeof text, "\\u%04x", (unsigned)unit);
    jinja_write_text(r, text);
}

static void dump_char(struct jinja_render *r, const struct json_style *s, struct base_view c,
                      uint32_t cp)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *simple = cp < 0x80 && cp ? strchr(from, (int)cp) : NULL;
    if (simple) {
        jinja_write_char(r, '\\');
        jinja_write_char(r, to[simple - from]);
    } else if (cp < 0x20 || (s->ascii && cp == 0x7f)) {
        dump_escape(r, cp);
    } else if (cp < 0x80 || !s->ascii) {
        jinja_write(r, c.data, c.size);
    } else if (cp < 0x10000) {
        dump_escape(r, cp);
    } else {
        dump_escape(r, 0xd800 + ((cp - 0x10000) >> 10));
        dump_escape(r, 0xdc00 + ((cp - 0x10000) & 0x3ff));
    }
}

static void dump_text(struct jinja_render *r, const struct json_style *s, struct base_view text)
{
    jinja_write_char(r, '"');
    while (text.size && !jinja_failed(r)) {
        size_t plain = 0;
        while (plain < text.size && (unsigned char)text.data[plain] >= 0x20 &&
               text.data[plain] != '"' && text.data[plain] != '\\' &&
               (!s->ascii || (unsigned char)text.data[plain] < 0x7f))
            plain++;
        if (plain) {
            jinja_write(r, text.data, plain);
        } else {
            uint32_t cp;
            plain = jinja_text_next(text, &cp);
            dump_char(r, s, (struct base_view){text.data, plain}, cp);
        }
        text.data += plain;
        text.size -= plain;
    }
    jinja_write_char(r, '"');
}

static void dump_float(struct jinja_render *r, double v)
{
    char text[JINJA_NUMBER_MAX];
    jinja_charge(r, JINJA_NUMBER_MAX);
    size_t n = jinja_float_repr(v, text);
    if (v != v)
        jinja_write_text(r, "NaN");
    else if (v - v != 0)
        jinja_write_text(r, v < 0 ? "-Infinity" : "Infinity");
    else
        jinja_write(r, text, n);
}

static void dump_break(struct jinja_render *r, const struct json_style *s)
{
    if (!s->lines)
        return;
    jinja_write_char(r, '\n');
    jinja_write_fill(r, s->indent.data, s->indent.size, (int64_t)s->level);
}

/* Keys are texts in JSON: numbers and constants are written as theirs. */
static void dump_key(struct jinja_render *r, const struct json_style *s, struct jinja_value key)
{
    switch (key.kind) {
    case JINJA_STRING:
        dump_text(r, s, key.text);
        break;
    case JINJA_NONE:
        jinja_write_text(r, "\"null\"");
        break;
    case JINJA_BOOL:
        jinja_write_text(r, key.boolean ? "\"true\"" : "\"false\"");
        break;
    case JINJA_INT:
    case JINJA_FLOAT:
        jinja_write_char(r, '"');
        if (key.kind == JINJA_FLOAT)
            dump_float(r, key.real);
        else
            jinja_print(r, key);
        jinja_write_char(r, '"');
        break;
    default:
        jinja_fail(r, INFER_ERR_INVALID, "keys must be str, int, float, bool or None, not %s",
                   jinja_type_name(key.kind));
    }
}

static void dump_dict(struct jinja_render *r, struct json_style *s, const struct jinja_dict *d)
{
    struct jinja_value *keys = jinja_new(r, d->size, sizeof *keys);
    struct jinja_value *values = jinja_new(r, d->size, sizeof *values);
    for (size_t i = 0; i < d->size && !jinja_failed(r); i++) {
        keys[i] = d->entries[i].key;
        values[i] = d->entries[i].value;
    }
    if (s->sort_keys && !jinja_failed(r))
        jinja_sort(r, keys, values, d->size, 0);
    jinja_write_char(r, '{');
    s->level++;
    for (size_t i = 0; i < d->size && !jinja_failed(r); i++) {
        if (i)
            jinja_write(r, s->item_separator.data, s->item_separator.size);
        dump_break(r, s);
        dump_key(r, s, keys[i]);
        jinja_write(r, s->key_separator.data, s->key_separator.size);
        dump(r, s, values[i]);
    }
    s->level--;
    if (d->size)
        dump_break(r, s);
    jinja_write_char(r, '}');
}

static void dump_list(struct jinja_render *r, struct json_style *s, const struct jinja_list *list)
{
    jinja_write_char(r, '[');
    s->level++;
    for (size_t i = 0; i < list->size && !jinja_failed(r); i++) {
        if (i)
            jinja_write(r, s->item_separator.data, s->item_separator.size);
        dump_break(r, s);
        dump(r, s, list->items[i]);
    }
    s->level--;
    if (list->size)
        dump_break(r, s);
    jinja_write_char(r, ']');
}

static void dump(struct jinja_render *r, struct json_style *s, struct jinja_value v)
{
    if (!jinja_enter(r))
        return;
    switch (v.kind) {
    case JINJA_NONE:
        jinja_write_text(r, "null");
        break;
    case JINJA_BOOL:
        jinja_write_text(r, v.boolean ? "true" : "false");
        break;
    case JINJA_INT:
        jinja_print(r, v);
        break;
    case JINJA_FLOAT:
        dump_float(r, v.real);
        break;
    case JINJA_STRING:
        dump_text(r, s, v.text);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        dump_list(r, s, v.list);
        break;
    case JINJA_DICT:
        dump_dict(r, s, v.dict);
        break;
    default:
        jinja_fail(r, INFER_ERR_INVALID, "Object of type %s is not JSON serializable",
                   jinja_type_name(v.kind));
    }
    jinja_leave(r);
}

static int read_indent(struct jinja_render *r, struct json_style *s, struct jinja_value indent)
{
    static const char spaces[] = "                                                                ";
    int64_t width;
    if (indent.kind == JINJA_MISSING || indent.kind == JINJA_NONE)
        return 1;
    s->lines = 1;
    s->item_separator = jinja_view_of(",");
    if (indent.kind == JINJA_STRING) {
        s->indent = indent.text;
        return 1;
    }
    if (!jinja_as_int(indent, &width) || width > (int64_t)sizeof spaces - 1) {
        jinja_fail(r, INFER_ERR_INVALID, "tojson: indent must be a text or a number up to %zu",
                   sizeof spaces - 1);
        return 0;
    }
    s->indent = (struct base_view){spaces, (size_t)BASE_MAX(width, 0)};
    return 1;
}

static int read_separators(struct jinja_render *r, struct json_style *s, struct jinja_value pair)
{
    if (pair.kind == JINJA_MISSING || pair.kind == JINJA_NONE)
        return 1;
    if ((pair.kind != JINJA_LIST && pair.kind != JINJA_TUPLE) || pair.list->size != 2 ||
        pair.list->items[0].kind != JINJA_STRING || pair.list->items[1].kind != JINJA_STRING) {
        jinja_fail(r, INFER_ERR_INVALID, "tojson: separators must be a pair of texts");
        return 0;
    }
    s->item_separator = pair.list->items[0].text;
    s->key_separator = pair.list->items[1].text;
    return 1;
}

/* tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false) */
struct jinja_value jinja_filter_tojson(struct jinja_render *r, const struct jinja_call *c)
{
    struct json_style style = {.ascii = jinja_truth(c->a[0]),
                               .sort_keys = jinja_truth(c->a[3]),
                               .item_separator = jinja_view_of(", "),
                               .key_separator = jinja_view_of(": ")};
    if (!read_indent(r, &style, c->a[1]) || !read_separators(r, &style, c->a[2]))
        return jinja_no_value();
    size_t begin = jinja_capture_begin(r);
    dump(r, &style, c->self);
    return jinja_capture_end(r, begin);
}
