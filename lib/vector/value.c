/* Comparing values: numbers exactly, strings by bytes, also while they are still escaped. */
#include "vector/value.h"

#include <string.h>

static void set_integer(struct vector_value *v, int64_t i)
{
    v->kind = VECTOR_NUMBER;
    v->real = (double)i;
    /* 2^63 is no int64 */
    v->rest = v->real == 0x1p63 ? (int32_t)(i - INT64_MAX) - 1 : (int32_t)(i - (int64_t)v->real);
}

static void set_number(struct vector_value *v, const struct base_json *number)
{
    if (number->type == BASE_JSON_INT) {
        set_integer(v, number->as.integer);
    } else {
        v->kind = VECTOR_NUMBER;
        v->real = number->as.real + 0.0; /* -0 is 0 */
        v->rest = 0;
    }
}

int vector_value_of(struct vector_value *out, const struct base_json *v)
{
    *out = (struct vector_value){0};
    switch (v->type) {
    case BASE_JSON_NULL:
        out->kind = VECTOR_NULL;
        return 1;
    case BASE_JSON_FALSE:
        out->kind = VECTOR_FALSE;
        return 1;
    case BASE_JSON_TRUE:
        out->kind = VECTOR_TRUE;
        return 1;
    case BASE_JSON_INT:
    case BASE_JSON_REAL:
        set_number(out, v);
        return 1;
    case BASE_JSON_STRING:
        out->kind = VECTOR_STRING;
        out->text = v->as.text;
        return 1;
    default:
        return 0;
    }
}

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

/* Does it follow the grammar of numbers? base_json_number() relies on that. */
static int is_number(const char *p, const char *end)
{
    const char *digits = p += p < end && *p == '-';
    p = skip_digits(p, end);
    if (p == digits || (*digits == '0' && p - digits > 1))
        return 0;
    if (p < end && *p == '.') {
        digits = ++p;
        p = skip_digits(p, end);
        if (p == digits)
            return 0;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        digits = p += p < end && (*p == '-' || *p == '+');
        p = skip_digits(p, end);
        if (p == digits)
            return 0;
    }
    return p == end;
}

int vector_value_number(struct vector_value *out, const char *text, size_t size)
{
    struct base_json number;
    *out = (struct vector_value){0};
    if (!is_number(text, text + size) || !base_json_number(&number, text, size))
        return 0;
    set_number(out, &number);
    return 1;
}

static int32_t hex4(const char *p, const char *end)
{
    int32_t unit = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int c = p[i] | 0x20;
        if (p[i] >= '0' && p[i] <= '9')
            unit = unit * 16 + (p[i] - '0');
        else if (c >= 'a' && c <= 'f')
            unit = unit * 16 + (c - 'a' + 10);
        else
            return -1;
    }
    return unit;
}

static int put_utf8(char out[4], int32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* What begins with the backslash at *at: its bytes, never more than it takes itself. Damaged text
 * stands for itself. */
static int decode_escape(const char **at, const char *end, char out[4])
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    const char *p = *at + 1, *name;
    if (p == end || (*p != 'u' && !(name = memchr(names, *p, 8)))) {
        *at = p;
        out[0] = '\\';
        return 1;
    }
    if (*p != 'u') {
        *at = p + 1;
        out[0] = bytes[name - names];
        return 1;
    }
    int32_t c = hex4(p + 1, end);
    if (c < 0) {
        *at = p;
        out[0] = '\\';
        return 1;
    }
    p += 5;
    if (c >= 0xd800 && c <= 0xdbff && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        int32_t low = hex4(p + 2, end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    *at = p;
    return put_utf8(out, c);
}

size_t vector_text_decode(char *out, struct base_view raw)
{
    const char *p = raw.data, *end = p + raw.size;
    char unit[4];
    size_t n = 0;
    while (p < end) {
        if (*p != '\\') {
            out[n++] = *p++;
            continue;
        }
        int size = decode_escape(&p, end, unit);
        memcpy(out + n, unit, (size_t)size);
        n += (size_t)size;
    }
    return n;
}

/* The order of an escaped text and another; with `prefix` 0 also where `a` only begins with b. */
static int compare_escaped(struct base_view a, struct base_view b, int prefix)
{
    const char *p = a.data, *end = p + a.size;
    size_t at = 0;
    while (p < end && at < b.size) {
        char unit[4];
        int n = 1;
        if (*p == '\\')
            n = decode_escape(&p, end, unit);
        else
            unit[0] = *p++;
        size_t shared = BASE_MIN((size_t)n, b.size - at);
        int order = memcmp(unit, b.data + at, shared);
        if (order)
            return order;
        at += shared;
        if (shared < (size_t)n)
            return prefix ? 0 : 1;
    }
    if (at < b.size)
        return -1;
    return p < end && !prefix;
}

int vector_text_compare(struct base_view a, int escaped, struct base_view b)
{
    if (escaped)
        return compare_escaped(a, b, 0);
    size_t shared = BASE_MIN(a.size, b.size);
    int order = shared ? memcmp(a.data, b.data, shared) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

int vector_value_compare(const struct vector_value *a, const struct vector_value *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->kind == VECTOR_STRING)
        return vector_text_compare(a->text, a->escaped, b->text);
    if (a->kind != VECTOR_NUMBER)
        return 0;
    if (a->real != b->real)
        return a->real < b->real ? -1 : 1;
    return (a->rest > b->rest) - (a->rest < b->rest);
}

int vector_value_has_prefix(const struct vector_value *a, struct base_view prefix)
{
    if (a->kind != VECTOR_STRING)
        return 0;
    if (a->escaped)
        return compare_escaped(a->text, prefix, 1) == 0;
    return a->text.size >= prefix.size &&
           (!prefix.size || memcmp(a->text.data, prefix.data, prefix.size) == 0);
}
