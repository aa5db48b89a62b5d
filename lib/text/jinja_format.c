/* Formatting by pattern: `"%s" % x` and "{}".format(x). */
#include "text/jinja_internal.h"

/* ---- printf style ---- */

struct percent {
    struct jinja_render *r;
    struct base_view rest;
    struct jinja_value values;
    size_t next; /* of the positional values */
    int safe;
};

static struct jinja_value next_value(struct percent *p)
{
    if (p->values.kind == JINJA_TUPLE) {
        if (p->next < p->values.list->size)
            return p->values.list->items[p->next++];
    } else if (p->next++ == 0) {
        return p->values;
    }
    return jinja_fail(p->r, INFER_ERR_INVALID, "not enough arguments for format string");
}

static char peek(const struct percent *p)
{
    return p->rest.size ? p->rest.data[0] : 0;
}

static char take(struct percent *p)
{
    char c = peek(p);
    if (p->rest.size) {
        p->rest.data++;
        p->rest.size--;
    }
    return c;
}

/* "(name)" picks from a dict. */
static struct jinja_value named_value(struct percent *p)
{
    const char *end = memchr(p->rest.data, ')', p->rest.size);
    if (!end || p->values.kind != JINJA_DICT)
        return jinja_fail(p->r, INFER_ERR_INVALID,
                          end ? "format requires a mapping" : "incomplete format key");
    size_t n = (size_t)(end - p->rest.data);
    const struct jinja_value *v = jinja_dict_get(p->values.dict, p->rest.data, n);
    if (!v)
        return jinja_fail(p->r, INFER_ERR_INVALID, "format: no value named '%.*s'",
                          (int)BASE_MIN(n, (size_t)64), p->rest.data);
    p->rest.data += n + 1;
    p->rest.size -= n + 1;
    return *v;
}

/* Digits or "*"; `fallback` where there are none. */
static int64_t take_number(struct percent *p, int64_t fallback)
{
    int64_t n = 0;
    int digits = 0;
    if (peek(p) == '*') {
        take(p);
        if (!jinja_as_int(next_value(p), &n) && !jinja_failed(p->r))
            jinja_fail(p->r, INFER_ERR_INVALID, "* wants int");
        return n;
    }
    for (; peek(p) >= '0' && peek(p) <= '9'; digits = 1) {
        n = n * 10 + (take(p) - '0');
        n = BASE_MIN(n, (int64_t)1 << 40);
    }
    return digits ? n : fallback;
}

static void write_number(struct percent *p, struct jinja_layout *l, struct jinja_value v)
{
    int64_t i;
    double real;
    int whole = memchr("diuxXo", l->type, 6) != NULL;
    if (l->type == 'i' || l->type == 'u')
        l->type = 'd';
    if (!jinja_as_number(v, &real)) {
        if (jinja_defined(p->r, v))
            jinja_fail(p->r, INFER_ERR_INVALID, "%%%c format: a number is required, not %s",
                       l->type, jinja_type_name(v.kind));
    } else if (!whole) {
        if (l->precision < 0)
            l->precision = 6;
        jinja_write_float(p->r, l, real);
    } else if (jinja_as_int(v, &i)) {
        l->precision = -1;
        jinja_write_int(p->r, l, i);
    } else if (l->type != 'd' || !(real > -0x1p63 && real < 0x1p63)) {
        jinja_fail(p->r, INFER_ERR_INVALID, "%%%c format: an integer is required, not float",
                   l->type);
    } else {
        l->precision = -1;
        jinja_write_int(p->r, l, (int64_t)real);
    }
}

static void write_text(struct percent *p, struct jinja_layout *l, struct jinja_value v)
{
    struct jinja_value text;
    int64_t cp;
    if (l->type == 'r' || l->type == 'a') {
        size_t begin = jinja_capture_begin(p->r);
        jinja_repr(p->r, v);
        text = jinja_capture_end(p->r, begin);
    } else if (l->type == 'c' && jinja_as_int(v, &cp)) {
        jinja_fail(p->r, INFER_ERR_UNSUPPORTED, "%%c of a number is not supported");
        return;
    } else {
        text = p->safe && v.kind == JINJA_STRING ? v : jinja_str(p->r, v);
    }
    if (p->safe)
        text = jinja_escape(p->r, text);
    if (jinja_failed(p->r))
        return;
    if (l->precision >= 0)
        text.text.size = jinja_text_offset(text.text, (size_t)l->precision);
    jinja_write_layout(p->r, l, "", text.text, 0);
}

static void write_conversion(struct percent *p)
{
    struct jinja_layout l = {.precision = -1, .align = '>', .fill = {" ", 1}};
    struct jinja_value v = {0};
    int named = peek(p) == '(';
    if (named) {
        take(p);
        v = named_value(p);
        p->next = 1;
    }
    int zero = 0;
    for (char flag; (flag = peek(p)) && memchr("-+ #0", flag, 5); take(p)) {
        if (flag == '-')
            l.align = '<';
        else if (flag == '0')
            zero = 1;
        else if (flag == '#')
            l.alternate = 1;
        else if (l.sign != '+')
            l.sign = flag;
    }
    l.width = take_number(p, 0);
    if (peek(p) == '.') {
        take(p);
        int64_t precision = take_number(p, 0);
        l.precision = (int)BASE_MIN(BASE_MAX(precision, 0), (int64_t)1 << 30);
    }
    if (l.width < 0) {
        l.align = '<';
        l.width = -l.width;
    }
    l.type = take(p);
    if (l.type == '%' || jinja_failed(p->r)) {
        jinja_write_char(p->r, '%');
        return;
    }
    if (!named)
        v = next_value(p);
    if (jinja_failed(p->r))
        return;
    if (l.type && memchr("diuxXoeEfFgG", l.type, 12)) {
        if (zero && l.align != '<') {
            l.fill = (struct base_view){"0", 1};
            l.align = '=';
        }
        write_number(p, &l, v);
    } else if (l.type && memchr("srac", l.type, 4)) {
        write_text(p, &l, v);
    } else {
        jinja_fail(p->r, INFER_ERR_INVALID, "unsupported format character or incomplete format");
    }
}

/* Python takes these for a collection of named values, of which some may go unused. */
static int is_subscriptable(struct jinja_value v)
{
    return v.kind == JINJA_DICT || v.kind == JINJA_LIST || v.kind == JINJA_RANGE ||
           v.kind == JINJA_UNDEFINED;
}

struct jinja_value jinja_format_percent(struct jinja_render *r, struct jinja_value text,
                                        struct jinja_value values)
{
    struct percent p = {r, text.text, values, 0, text.flag & JINJA_TEXT_SAFE};
    size_t begin = jinja_capture_begin(r);
    while (p.rest.size && !jinja_failed(r)) {
        const char *percent = memchr(p.rest.data, '%', p.rest.size);
        size_t n = percent ? (size_t)(percent - p.rest.data) : p.rest.size;
        jinja_write(r, p.rest.data, n);
        p.rest.data += n;
        p.rest.size -= n;
        if (take(&p))
            write_conversion(&p);
    }
    int positional = values.kind == JINJA_TUPLE;
    if ((positional && p.next < values.list->size) ||
        (!positional && p.next == 0 && !is_subscriptable(values)))
        jinja_fail(r, INFER_ERR_INVALID, "not all arguments converted during string formatting");
    struct jinja_value out = jinja_capture_end(r, begin);
    out.flag = (uint8_t)p.safe;
    return out;
}

/* ---- braces ---- */

struct braces {
    struct jinja_render *r;
    const struct jinja_args *args;
    int64_t next; /* of the fields without a number; -1 once numbers were given */
    int numbered;
    int safe;
};

static void write_braces(struct braces *b, struct base_view text, int depth);

static struct jinja_value first_of_field(struct braces *b, struct base_view name)
{
    int64_t index = -1;
    int digits = name.size > 0;
    for (size_t i = 0; i < name.size; i++)
        digits &= name.data[i] >= '0' && name.data[i] <= '9';
    if (name.size == 0 || digits) {
        if (b->numbered && b->numbered != 1 + digits)
            return jinja_fail(b->r, INFER_ERR_INVALID,
                              "cannot mix automatic and manual field numbering");
        b->numbered = 1 + digits;
        if (!digits)
            index = b->next++;
        else if (!jinja_parse_int(name, 10, &index))
            index = INT64_MAX;
        if (index < 0 || (uint64_t)index >= b->args->n)
            return jinja_fail(b->r, INFER_ERR_INVALID,
                              "Replacement index %lld out of range for positional args tuple",
                              (long long)index);
        return b->args->at[index];
    }
    for (size_t i = 0; i < b->args->n_named; i++)
        if (jinja_compare_text(b->args->named[i].name, name) == 0)
            return b->args->named[i].value;
    return jinja_fail(b->r, INFER_ERR_INVALID, "format: no value named '%.*s'",
                      (int)BASE_MIN(name.size, (size_t)64), name.data);
}

/* "0.name[key]": the argument and the way into it. */
static struct jinja_value field_value(struct braces *b, struct base_view field)
{
    size_t n = 0;
    while (n < field.size && field.data[n] != '.' && field.data[n] != '[')
        n++;
    struct jinja_value v = first_of_field(b, (struct base_view){field.data, n});
    while (n < field.size && !jinja_failed(b->r)) {
        int bracket = field.data[n++] == '[';
        size_t end = n;
        while (end < field.size && (bracket ? field.data[end] != ']'
                                            : field.data[end] != '.' && field.data[end] != '['))
            end++;
        struct base_view key = {field.data + n, end - n};
        int64_t number;
        if (key.size == 0 || (bracket && end == field.size))
            return jinja_fail(b->r, INFER_ERR_INVALID, "Empty attribute in format string");
        if (!bracket)
            v = jinja_attribute(b->r, v, key);
        else if (key.data[0] >= '0' && key.data[0] <= '9' && jinja_parse_int(key, 10, &number))
            v = jinja_item(b->r, v, jinja_int(number));
        else
            v = jinja_item(b->r, v, jinja_text(key, 0));
        n = end + bracket;
    }
    return v;
}

/* One replacement field, without its braces: name!conversion:spec. */
static void write_field(struct braces *b, struct base_view field, int depth)
{
    size_t name = 0, brackets = 0;
    while (name < field.size &&
           (brackets || (field.data[name] != '!' && field.data[name] != ':'))) {
        brackets += field.data[name] == '[';
        brackets -= brackets && field.data[name] == ']';
        name++;
    }
    struct jinja_value v = field_value(b, (struct base_view){field.data, name});
    size_t at = name;
    if (at < field.size && field.data[at] == '!') {
        char conversion = at + 1 < field.size ? field.data[at + 1] : 0;
        at += 2;
        if ((conversion != 's' && conversion != 'r') ||
            (at < field.size && field.data[at] != ':')) {
            jinja_fail(b->r, INFER_ERR_INVALID, "format: unknown conversion after '!'");
            return;
        }
        size_t begin = jinja_capture_begin(b->r);
        if (conversion == 'r')
            jinja_repr(b->r, v);
        else
            jinja_print(b->r, v);
        v = jinja_capture_end(b->r, begin);
    }
    struct base_view spec = {"", 0};
    if (at < field.size) { /* the specification may hold fields itself */
        size_t begin = jinja_capture_begin(b->r);
        write_braces(b, (struct base_view){field.data + at + 1, field.size - at - 1}, depth + 1);
        spec = jinja_capture_end(b->r, begin).text;
    }
    if (jinja_failed(b->r))
        return;
    size_t begin = jinja_capture_begin(b->r);
    jinja_write_spec(b->r, v, spec);
    if (!b->safe)
        return;
    struct jinja_value text = jinja_capture_end(b->r, begin);
    if (v.kind == JINJA_STRING)
        text.flag = v.flag & JINJA_TEXT_SAFE;
    jinja_print(b->r, jinja_escape(b->r, text));
}

static void write_braces(struct braces *b, struct base_view text, int depth)
{
    if (depth > 2) {
        jinja_fail(b->r, INFER_ERR_INVALID, "format: fields are nested too deeply");
        return;
    }
    for (size_t i = 0; i < text.size && !jinja_failed(b->r);) {
        size_t plain = i;
        while (plain < text.size && text.data[plain] != '{' && text.data[plain] != '}')
            plain++;
        jinja_write(b->r, text.data + i, plain - i);
        i = plain;
        if (i == text.size)
            break;
        if (i + 1 < text.size && text.data[i + 1] == text.data[i] && depth == 0) {
            jinja_write_char(b->r, text.data[i]);
            i += 2;
            continue;
        }
        size_t end = i + 1, level = 1;
        while (text.data[i] == '{' && end < text.size && level) {
            level += text.data[end] == '{';
            level -= text.data[end] == '}';
            end++;
        }
        if (level) {
            jinja_fail(b->r, INFER_ERR_INVALID, "format: single '%c' in the pattern", text.data[i]);
            return;
        }
        write_field(b, (struct base_view){text.data + i + 1, end - i - 2}, depth);
        i = end;
    }
}

struct jinja_value jinja_format_braces(struct jinja_render *r, struct jinja_value text,
                                       const struct jinja_args *args)
{
    struct braces b = {.r = r, .args = args, .safe = text.flag & JINJA_TEXT_SAFE};
    size_t begin = jinja_capture_begin(r);
    write_braces(&b, text.text, 0);
    struct jinja_value out = jinja_capture_end(r, begin);
    out.flag = (uint8_t)b.safe;
    return out;
}
