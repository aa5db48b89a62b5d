/* Numbers as texts and back, the same in every locale: the C library is only
 * given and asked for digits and exponents, never for a decimal point. */
#include "text/jinja_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_DIGITS 800 /* of a decimal text; more cannot change a double */

int jinja_as_int(struct jinja_value v, int64_t *out)
{
    if (v.kind != JINJA_INT && v.kind != JINJA_BOOL)
        return 0;
    *out = v.kind == JINJA_INT ? v.integer : v.boolean;
    return 1;
}

int jinja_as_number(struct jinja_value v, double *out)
{
    int64_t integer;
    if (v.kind == JINJA_FLOAT) {
        *out = v.real;
        return 1;
    }
    if (!jinja_as_int(v, &integer))
        return 0;
    *out = (double)integer;
    return 1;
}

/* Replaces whatever stands for the decimal point by '.'. */
static size_t fix_point(char *text)
{
    size_t n = 0;
    int replaced = 0;
    for (const char *s = text; *s; s++) {
        char c = *s;
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+') {
            text[n++] = c;
        } else if (!replaced) {
            text[n++] = '.';
            replaced = 1;
        }
    }
    text[n] = 0;
    return n;
}

static size_t special(double v, char out[JINJA_NUMBER_MAX])
{
    strcpy(out, v != v ? "nan" : v < 0 ? "-inf" : "inf");
    return strlen(out);
}

/* The decimal digits of a finite value that give it back, fewest first; returns
 * their number and the exponent of the first one. */
static int shortest_digits(double v, char digits[20], int *exponent)
{
    char text[64];
    /* Up to 15 digits always survive, but for the tiny numbers with fewer bits. */
    for (int n = v < 0x1p-1022 ? 1 : 15; n <= 17; n++) {
        char plain[64]; /* the same number without a decimal point, for strtod */
        snprintf(text, sizeof text, "%.*e", n - 1, v);
        fix_point(text);
        size_t k = 0;
        for (const char *s = text; *s && *s != 'e'; s++)
            if (*s != '.')
                plain[k++] = *s;
        snprintf(plain + k, sizeof plain - k, "e%d", atoi(strchr(text, 'e') + 1) - (n - 1));
        if (strtod(plain, NULL) == v)
            break;
    }
    int count = 0;
    for (const char *s = text; *s && *s != 'e'; s++)
        if (*s >= '0' && *s <= '9')
            digits[count++] = *s;
    *exponent = atoi(strchr(text, 'e') + 1);
    while (count > 1 && digits[count - 1] == '0')
        count--;
    return count;
}

size_t jinja_float_repr(double v, char out[JINJA_NUMBER_MAX])
{
    char digits[20];
    int exponent, n = 0;
    if (v != v || v - v != 0)
        return special(v, out);
    int count = shortest_digits(fabs(v), digits, &exponent);
    if (signbit(v))
        out[n++] = '-';
    if (exponent < -4 || exponent >= 16) {
        n += snprintf(out + n, 40, "%c%s%.*se%c%02d", digits[0], count > 1 ? "." : "", count - 1,
                      digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        n += snprintf(out + n, 40, "0.%.*s%.*s", -exponent - 1, "0000", count, digits);
    } else {
        int whole = exponent + 1;
        for (int i = 0; i < whole; i++)
            out[n++] = i < count ? digits[i] : '0';
        out[n++] = '.';
        for (int i = whole; i < count; i++)
            out[n++] = digits[i];
        if (count <= whole)
            out[n++] = '0';
    }
    out[n] = 0;
    return (size_t)n;
}

size_t jinja_float_format(double v, char conversion, int precision, int alternate,
                          char out[JINJA_NUMBER_MAX])
{
    const char format[] = {'%',
                           alternate ? '#' : '.',
                           alternate ? '.' : '*',
                           alternate ? '*' : conversion,
                           alternate ? conversion : 0,
                           0};
    if (v != v || v - v != 0)
        return special(v, out);
    snprintf(out, JINJA_NUMBER_MAX, format, precision, v);
    return fix_point(out);
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* digits of `text` from `i`, with single underscores between them */
static size_t take_digits(struct base_view text, size_t i, char *out, size_t *n, int *dropped)
{
    size_t start = i;
    while (i < text.size &&
           (is_digit(text.data[i]) || (text.data[i] == '_' && i > start && i + 1 < text.size &&
                                       is_digit(text.data[i - 1]) && is_digit(text.data[i + 1])))) {
        if (text.data[i] != '_') {
            if (*n < MAX_DIGITS)
                out[(*n)++] = text.data[i];
            else
                ++*dropped;
        }
        i++;
    }
    return i;
}

static int parse_special(struct base_view text, double *out)
{
    static const struct {
        const char *name;
        double value;
    } names[] = {{"inf", INFINITY}, {"infinity", INFINITY}, {"nan", NAN}};
    char lower[10];
    if (text.size >= sizeof lower)
        return 0;
    for (size_t i = 0; i < text.size; i++)
        lower[i] = (char)(text.data[i] | 0x20);
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (strlen(names[i].name) == text.size && memcmp(names[i].name, lower, text.size) == 0) {
            *out = names[i].value;
            return 1;
        }
    }
    return 0;
}

/* The exponent at `i`, which is "e" and a number, or the end. */
static int parse_exponent(struct base_view text, size_t i, int64_t *exponent)
{
    char digits[MAX_DIGITS];
    size_t n = 0;
    int dropped = 0, negative = 0;
    *exponent = 0;
    if (i == text.size)
        return 1;
    if ((text.data[i] | 0x20) != 'e')
        return 0;
    i++;
    if (i < text.size && (text.data[i] == '-' || text.data[i] == '+'))
        negative = text.data[i++] == '-';
    size_t end = take_digits(text, i, digits, &n, &dropped);
    if (end == i || end != text.size)
        return 0;
    for (size_t k = 0; k < n && *exponent < 1000000; k++)
        *exponent = *exponent * 10 + (digits[k] - '0');
    if (negative)
        *exponent = -*exponent;
    return 1;
}

int jinja_parse_float(struct base_view text, double *out)
{
    char digits[MAX_DIGITS + 32];
    size_t n = 0, i = 0;
    int dropped = 0, ignored = 0, negative = 0;
    int64_t exponent;
    text = jinja_text_strip(text, NULL, JINJA_STRIP_BOTH);
    if (text.size && (text.data[0] == '-' || text.data[0] == '+')) {
        negative = text.data[0] == '-';
        text.data++;
        text.size--;
    }
    if (!parse_special(text, out)) {
        i = take_digits(text, 0, digits, &n, &dropped);
        size_t fraction = 0;
        if (i < text.size && text.data[i] == '.') {
            size_t whole = n;
            i = take_digits(text, i + 1, digits, &n, &ignored);
            fraction = n - whole;
        }
        if (n == 0 || !parse_exponent(text, i, &exponent))
            return 0;
        exponent += dropped - (int64_t)fraction;
        snprintf(digits + n, sizeof digits - n, "e%lld", (long long)exponent);
        *out = strtod(digits, NULL);
    }
    if (negative)
        *out = -*out;
    return 1;
}

/* "0x" and its like; base 0 takes the base from it. */
static size_t int_prefix(struct base_view text, int *base)
{
    char x = text.size > 2 && text.data[0] == '0' ? (char)(text.data[1] | 0x20) : 0;
    int named = x == 'x' ? 16 : x == 'o' ? 8 : x == 'b' ? 2 : 0;
    if (named && (*base == 0 || *base == named)) {
        *base = named;
        return text.data[2] == '_' ? 3 : 2;
    }
    if (*base == 0)
        *base = 10;
    return 0;
}

int jinja_parse_int(struct base_view text, int base, int64_t *out)
{
    int negative = 0, last_digit = 0;
    int64_t value = 0;
    text = jinja_text_strip(text, NULL, JINJA_STRIP_BOTH);
    if (text.size && (text.data[0] == '-' || text.data[0] == '+')) {
        negative = text.data[0] == '-';
        text.data++;
        text.size--;
    }
    for (size_t i = int_prefix(text, &base); i < text.size; i++) {
        char c = text.data[i];
        int d = is_digit(c)                              ? c - '0'
                : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10
                                                         : 99;
        if (c == '_' && last_digit) {
            last_digit = 0;
            continue;
        }
        if (d >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_sub_overflow(value, d, &value)) /* downwards, to reach the lowest one */
            return 0;
        last_digit = 1;
    }
    if (!last_digit || (!negative && value == INT64_MIN))
        return 0;
    *out = negative ? value : -value;
    return 1;
}

double jinja_round_decimal(double v, int digits)
{
    char text[JINJA_NUMBER_MAX];
    double out;
    if (v != v || v - v != 0 || digits > 60)
        return v;
    if (digits < 0) {
        double unit = pow(10.0, -digits);
        return rint(v / unit) * unit;
    }
    size_t n = jinja_float_format(v, 'f', digits, 0, text);
    return jinja_parse_float((struct base_view){text, n}, &out) ? out : v;
}
