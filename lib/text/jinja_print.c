/* Values as text: what `{{ x }}` prints, and Python's repr inside of containers. */
#include "text/jinja_internal.h"

#include <stdio.h>

static void print_float(struct jinja_render *r, double v)
{
    char text[JINJA_NUMBER_MAX];
    jinja_charge(r, JINJA_NUMBER_MAX); /* finding the shortest digits is slow */
    size_t n = jinja_float_repr(v, text);
    jinja_write(r, text, n);
}

static void print_int(struct jinja_render *r, int64_t v)
{
    char text[32];
    jinja_write(r, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v));
}

static void repr_char(struct jinja_render *r, struct base_view c, uint32_t cp, char quote)
{
    char text[16];
    const char *format = cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x";
    if (cp == (unsigned char)quote || cp == '\\')
        snprintf(text, sizeof text, "\\%c", (char)cp);
    else if (cp == '\n' || cp == '\r' || cp == '\t')
        snprintf(text, sizeof text, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else if (!jinja_char_printable(cp))
        snprintf(text, sizeof text, format, (unsigned)cp);
    else
        text[0] = 0;
    if (text[0])
        jinja_write_text(r, text);
    else
        jinja_write(r, c.data, c.size);
}

static void repr_text(struct jinja_render *r, struct base_view text)
{
    char quote = '\'';
    if (memchr(text.data, '\'', text.size) && !memchr(text.data, '"', text.size))
        quote = '"';
    jinja_write_char(r, quote);
    while (text.size && !jinja_failed(r)) {
        size_t plain = 0; /* runs of plain ASCII are written at once */
        while (plain < text.size && text.data[plain] >= 0x20 && text.data[plain] < 0x7f &&
               text.data[plain] != quote && text.data[plain] != '\\')
            plain++;
        if (plain) {
            jinja_write(r, text.data, plain);
        } else {
            uint32_t cp;
            plain = jinja_text_next(text, &cp);
            repr_char(r, (struct base_view){text.data, plain}, cp, quote);
        }
        text.data += plain;
        text.size -= plain;
    }
    jinja_write_char(r, quote);
}

static void repr_items(struct jinja_render *r, const struct jinja_list *list, const char *open,
                       const char *close)
{
    jinja_write_text(r, open);
    for (size_t i = 0; i < list->size && !jinja_failed(r); i++) {
        if (i)
            jinja_write_text(r, ", ");
        jinja_repr(r, list->items[i]);
    }
    jinja_write_text(r, close);
}

static void repr_dict(struct jinja_render *r, const struct jinja_dict *d)
{
    jinja_write_char(r, '{');
    for (size_t i = 0; i < d->size && !jinja_failed(r); i++) {
        if (i)
            jinja_write_text(r, ", ");
        jinja_repr(r, d->entries[i].key);
        jinja_write_text(r, ": ");
        jinja_repr(r, d->entries[i].value);
    }
    jinja_write_char(r, '}');
}

static void repr_range(struct jinja_render *r, const struct jinja_range *range)
{
    jinja_write_text(r, "range(");
    print_int(r, range->start);
    jinja_write_text(r, ", ");
    print_int(r, range->stop);
    if (range->step != 1) {
        jinja_write_text(r, ", ");
        print_int(r, range->step);
    }
    jinja_write_char(r, ')');
}

static void repr_macro(struct jinja_render *r, const struct jinja_macro *macro)
{
    jinja_symbol name = macro->node->macro.name;
    jinja_write_text(r, "<Macro ");
    if (name < 0)
        jinja_write_text(r, "anonymous");
    else
        repr_text(r, r->template->names[name]);
    jinja_write_char(r, '>');
}

static void repr_object(struct jinja_render *r, struct jinja_value v)
{
    static const char *const views[] = {"dict_keys([", "dict_values([", "dict_items(["};
    char text[64];
    switch (v.kind) {
    case JINJA_LIST:
        repr_items(r, v.list, "[", "]");
        break;
    case JINJA_TUPLE:
        repr_items(r, v.list, "(", v.list->size == 1 ? ",)" : ")");
        break;
    case JINJA_VIEW:
        repr_items(r, v.list, views[v.flag], "])");
        break;
    case JINJA_DICT:
        repr_dict(r, v.dict);
        break;
    case JINJA_NAMESPACE:
        jinja_write_text(r, "<Namespace ");
        repr_dict(r, v.dict);
        jinja_write_char(r, '>');
        break;
    case JINJA_RANGE:
        repr_range(r, v.range);
        break;
    case JINJA_MACRO:
        repr_macro(r, v.macro);
        break;
    case JINJA_LOOP:
        snprintf(text, sizeof text, "<LoopContext %zu/%zu>", v.loop->index + 1, v.loop->items.size);
        jinja_write_text(r, text);
        break;
    default: /* Python prints an address, which is never meant */
        jinja_fail(r, INFER_ERR_UNSUPPORTED, "printing a %s is not supported",
                   jinja_type_name(v.kind));
    }
}

void jinja_repr(struct jinja_render *r, struct jinja_value v)
{
    if (!jinja_enter(r))
        return;
    if (v.kind == JINJA_STRING) {
        if (v.flag & JINJA_TEXT_SAFE)
            jinja_write_text(r, "Markup(");
        repr_text(r, v.text);
        if (v.flag & JINJA_TEXT_SAFE)
            jinja_write_char(r, ')');
    } else if (v.kind == JINJA_UNDEFINED) {
        jinja_write_text(r, "Undefined");
    } else if (v.kind < JINJA_LIST) {
        jinja_print(r, v);
    } else {
        repr_object(r, v);
    }
    jinja_leave(r);
}

void jinja_print(struct jinja_render *r, struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
        break;
    case JINJA_NONE:
        jinja_write_text(r, "None");
        break;
    case JINJA_BOOL:
        jinja_write_text(r, v.boolean ? "True" : "False");
        break;
    case JINJA_INT:
        print_int(r, v.integer);
        break;
    case JINJA_FLOAT:
        print_float(r, v.real);
        break;
    case JINJA_STRING:
        jinja_write(r, v.text.data, v.text.size);
        break;
    default:
        jinja_repr(r, v);
    }
}

struct jinja_value jinja_str(struct jinja_render *r, struct jinja_value v)
{
    if (v.kind == JINJA_STRING) {
        v.flag &= (uint8_t)~JINJA_TEXT_SAFE;
        return v;
    }
    size_t begin = jinja_capture_begin(r);
    jinja_print(r, v);
    return jinja_capture_end(r, begin);
}
