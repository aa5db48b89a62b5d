/* Layout of one value: format specifications such as ">10.2f", and printf's. */
#include "text/jinja_internal.h"

#include <math.h>
#include <stdio.h>

#define MAX_PRECISION 100 /* longer fractions are all zeros or noise */

void jinja_write_layout(struct jinja_render *r, const struct jinja_layout *l, const char *prefix,
                        struct base_view body, int numeric)
{
    int64_t size = (int64_t)(strlen(prefix) + jinja_text_length(body));
    int64_t room = BASE_MAX(l->width - size, (int64_t)0);
    char align = l->align ? l->align : numeric ? '>' : '<';
    int64_t left = align == '>' ? room : align == '^' ? room / 2 : 0;
    jinja_charge(r, body.size);
    jinja_write_fill(r, l->fill.data, l->fill.size, left);
    jinja_write_text(r, prefix);
    if (align == '=')
        jinja_write_fill(r, l->fill.data, l->fill.size, room);
    jinja_write(r, body.data, body.size);
    if (align == '<' || align == '^')
        jinja_write_fill(r, l->fill.data, l->fill.size, room - left);
}

/* Digits with a separator every `every` ones from the right; returns the length. */
static size_t group_digits(const char *digits, size_t n, char separator, size_t every, char *out)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && separator && (n - i) % every == 0)
            out[k++] = separator;
        out[k++] = digits[i];
    }
    return k;
}

static size_t digits_of(uint64_t v, unsigned base, int upper, char out[72])
{
    char reversed[72];
    size_t n = 0;
    do {
        reversed[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[v % base];
        v /= base;
    } while (v);
    for (size_t i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

static void make_prefix(char out[4], int negative, char sign, const char *base)
{
    snprintf(out, 4, "%s%s", negative ? "-" : sign == '+' ? "+" : sign == ' ' ? " " : "", base);
}

void jinja_write_int(struct jinja_render *r, const struct jinja_layout *l, int64_t v)
{
    char digits[72], grouped[128], prefix[4];
    unsigned base = l->type == 'x' || l->type == 'X' ? 16
                    : l->type == 'o'                 ? 8
                    : l->type == 'b'                 ? 2
                                                     : 10;
    const char *mark = !l->alternate ? ""
                       : base == 16  ? (l->type == 'X' ? "0X" : "0x")
                       : base == 8   ? "0o"
                       : base == 2   ? "0b"
                                     : "";
    uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t n = digits_of(magnitude, base, l->type == 'X', digits);
    size_t size = group_digits(digits, n, l->group, base == 10 ? 3 : 4, grouped);
    make_prefix(prefix, v < 0, l->sign, mark);
    jinja_write_layout(r, l, prefix, (struct base_view){grouped, size}, 1);
}

void jinja_write_float(struct jinja_render *r, const struct jinja_layout *l, double v)
{
    char text[JINJA_NUMBER_MAX], grouped[JINJA_NUMBER_MAX + 128], prefix[4];
    char conversion = l->type == '%' ? 'f' : (char)(l->type | 0x20);
    int negative = signbit(v) && v == v;
    int upper = l->type >= 'A' && l->type <= 'Z';
    if (l->precision > MAX_PRECISION) {
        jinja_fail(r, INFER_ERR_LIMIT, "a precision of more than %d digits", MAX_PRECISION);
        return;
    }
    jinja_charge(r, JINJA_NUMBER_MAX);
    double magnitude = fabs(v) * (l->type == '%' ? 100 : 1);
    size_t n;
    if (l->type == 0 && l->precision < 0)
        n = jinja_float_repr(magnitude, text);
    else
        n = jinja_float_format(magnitude, l->type ? conversion : 'g',
                               l->precision < 0 ? 6 : l->precision, l->alternate, text);
    size_t whole = 0;
    while (whole < n && text[whole] >= '0' && text[whole] <= '9')
        whole++;
    size_t k = group_digits(text, whole, l->group, 3, grouped);
    memcpy(grouped + k, text + whole, n - whole);
    k += n - whole;
    for (size_t i = 0; upper && i < k; i++)
        if (grouped[i] >= 'a' && grouped[i] <= 'z')
            grouped[i] = (char)(grouped[i] - 'a' + 'A');
    if (l->type == '%')
        grouped[k++] = '%';
    make_prefix(prefix, negative, l->sign, "");
    jinja_write_layout(r, l, prefix, (struct base_view){grouped, k}, 1);
}

static int is_align(char c)
{
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static size_t read_digits(struct base_view spec, size_t i, int64_t *out)
{
    for (*out = 0; i < spec.size && spec.data[i] >= '0' && spec.data[i] <= '9'; i++)
        *out = BASE_MIN(*out * 10 + (spec.data[i] - '0'), (int64_t)1 << 30);
    return i;
}

/* [[fill]align][sign][#][0][width][group][.precision][type]; 0 if it is not one. */
static int parse_spec(struct base_view spec, struct jinja_layout *l)
{
    size_t i = 0;
    uint32_t cp;
    int64_t number;
    *l = (struct jinja_layout){.precision = -1, .fill = {" ", 1}};
    size_t first = spec.size ? jinja_text_next(spec, &cp) : 0;
    if (first && first < spec.size && is_align(spec.data[first])) {
        l->fill.data = spec.data;
        l->fill.size = first;
        l->align = spec.data[first];
        i = first + 1;
    } else if (spec.size && is_align(spec.data[0])) {
        l->align = spec.data[i++];
    }
    if (i < spec.size && memchr("+- ", spec.data[i], 3))
        l->sign = spec.data[i++];
    if (i < spec.size && spec.data[i] == '#') {
        l->alternate = 1;
        i++;
    }
    if (i < spec.size && spec.data[i] == '0') {
        if (!l->align) {
            l->align = '=';
            l->fill = (struct base_view){"0", 1};
        }
        i++;
    }
    i = read_digits(spec, i, &l->width);
    if (i < spec.size && (spec.data[i] == ',' || spec.data[i] == '_'))
        l->group = spec.data[i++];
    if (i < spec.size && spec.data[i] == '.') {
        size_t end = read_digits(spec, i + 1, &number);
        if (end == i + 1)
            return 0;
        l->precision = (int)number;
        i = end;
    }
    if (i < spec.size)
        l->type = spec.data[i++];
    return i == spec.size;
}

static struct jinja_value bad_spec(struct jinja_render *r, struct jinja_value v,
                                   struct base_view spec)
{
    return jinja_fail(r, INFER_ERR_INVALID, "format: '%.*s' does not suit a value of type %s",
                      (int)BASE_MIN(spec.size, (size_t)64), spec.data, jinja_type_name(v.kind));
}

static void write_number(struct jinja_render *r, struct jinja_value v, struct jinja_layout *l,
                         struct base_view spec)
{
    int64_t i;
    double real;
    int whole = jinja_as_int(v, &i);
    jinja_as_number(v, &real);
    if (l->group && l->align == '=' && l->width) {
        jinja_fail(r, INFER_ERR_UNSUPPORTED,
                   "format: zero padding together with a separator is not supported");
    } else if (whole && (!l->type || memchr("dxXobn", l->type, 6)) && l->precision < 0) {
        jinja_write_int(r, l, i);
    } else if ((!whole && !l->type && l->precision >= 0) || l->type == 'n') {
        jinja_fail(r, INFER_ERR_UNSUPPORTED, "format: '%.*s' is not supported",
                   (int)BASE_MIN(spec.size, (size_t)64), spec.data);
    } else if ((!l->type && !whole) || (l->type && memchr("eEfFgG%", l->type, 7))) {
        jinja_write_float(r, l, real);
    } else {
        bad_spec(r, v, spec);
    }
}

void jinja_write_spec(struct jinja_render *r, struct jinja_value v, struct base_view spec)
{
    struct jinja_layout l;
    if (spec.size == 0) {
        jinja_print(r, v);
        return;
    }
    if (!parse_spec(spec, &l)) {
        bad_spec(r, v, spec);
    } else if (v.kind == JINJA_STRING) {
        if ((l.type && l.type != 's') || l.sign || l.alternate || l.group ||
            (l.align == '=' && l.fill.data[0] != '0')) {
            bad_spec(r, v, spec);
            return;
        }
        if (l.align == '=')
            l.align = '<';
        if (l.precision >= 0)
            v.text.size = jinja_text_offset(v.text, (size_t)l.precision);
        jinja_write_layout(r, &l, "", v.text, 0);
    } else if (v.kind == JINJA_INT || v.kind == JINJA_FLOAT || v.kind == JINJA_BOOL) {
        write_number(r, v, &l, spec);
    } else {
        bad_spec(r, v, spec);
    }
}
