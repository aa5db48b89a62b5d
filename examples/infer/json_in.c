/* Reading JSON: the check knows the grammar, what walks behind it need not. */
#include "json_in.h"

#include "utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
    const char *at, *end;
    const char *wrong; /* the reason, once there is one */
};

static int refuse(struct check *c, const char *reason)
{
    c->wrong = reason;
    return -1;
}

static void skip_space(struct check *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The four digits of \uXXXX, or -1. */
static int32_t unit(const char *s, const char *end)
{
    int32_t code = 0;
    if (end - s < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex(s[i]);
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* From the letter behind the backslash on. */
static int check_escape(struct check *c)
{
    if (c->at == c->end || !*c->at || !strchr("\"\\/bfnrtu", *c->at))
        return refuse(c, "an escape that JSON does not have");
    if (*c->at++ != 'u')
        return 0;
    int32_t code = unit(c->at, c->end);
    if (code < 0)
        return refuse(c, "four hexadecimal digits are expected");
    if (code >= 0xdc00 && code <= 0xdfff)
        return refuse(c, "half of a surrogate pair");
    if (code >= 0xd800 && code <= 0xdbff) {
        int32_t low = c->end - c->at >= 10 && c->at[4] == '\\' && c->at[5] == 'u'
                          ? unit(c->at + 6, c->end)
                          : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return refuse(c, "half of a surrogate pair");
        c->at += 6;
    }
    c->at += 4;
    return 0;
}

/* From the opening quote to behind the closing one. */
static int check_string(struct check *c)
{
    for (c->at++; c->at < c->end;) {
        unsigned char byte = (unsigned char)*c->at;
        size_t skip, size;
        if (byte == '"') {
            c->at++;
            return 0;
        }
        if (byte < 0x20)
            return refuse(c, "a control character in a string");
        if (byte == '\\') {
            c->at++;
            if (check_escape(c) != 0)
                return -1;
            continue;
        }
        size = utf8_character((const unsigned char *)c->at, (size_t)(c->end - c->at), &skip);
        if (size == 0)
            return refuse(c, "bytes that are no UTF-8");
        c->at += size;
    }
    return refuse(c, "a string that does not end");
}

static int check_digits(struct check *c)
{
    if (c->at == c->end || !is_digit(*c->at))
        return refuse(c, "a digit is expected");
    while (c->at < c->end && is_digit(*c->at))
        c->at++;
    return 0;
}

static int check_number(struct check *c)
{
    c->at += *c->at == '-';
    if (c->at < c->end && *c->at == '0')
        c->at++; /* and nothing before the point */
    else if (check_digits(c) != 0)
        return -1;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (check_digits(c) != 0)
            return -1;
    }
    if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        c->at += c->at < c->end && (*c->at == '+' || *c->at == '-');
        return check_digits(c);
    }
    return 0;
}

static int check_word(struct check *c)
{
    static const char *const words[] = {"null", "true", "false"};
    for (size_t i = 0; i < 3; i++) {
        size_t size = strlen(words[i]);
        if ((size_t)(c->end - c->at) >= size && memcmp(c->at, words[i], size) == 0) {
            c->at += size;
            return 0;
        }
    }
    return refuse(c, "a value is expected");
}

static int check_value(struct check *c, int depth);

static int check_member(struct check *c, int depth, int is_object)
{
    skip_space(c);
    if (is_object) {
        if (c->at == c->end || *c->at != '"')
            return refuse(c, "a name in quotes is expected");
        if (check_string(c) != 0)
            return -1;
        skip_space(c);
        if (c->at == c->end || *c->at != ':')
            return refuse(c, "a colon is expected");
        c->at++;
    }
    return check_value(c, depth + 1);
}

static int check_container(struct check *c, int depth)
{
    int is_object = *c->at++ == '{';
    char close = is_object ? '}' : ']';
    if (depth == JSON_IN_DEPTH)
        return refuse(c, "nested too deep");
    skip_space(c);
    if (c->at < c->end && *c->at == close) {
        c->at++;
        return 0;
    }
    for (;;) {
        if (check_member(c, depth, is_object) != 0)
            return -1;
        skip_space(c);
        if (c->at < c->end && *c->at == close) {
            c->at++;
            return 0;
        }
        if (c->at == c->end || *c->at != ',')
            return refuse(c, is_object ? "a comma or } is expected" : "a comma or ] is expected");
        c->at++;
    }
}

static int check_value(struct check *c, int depth)
{
    skip_space(c);
    if (c->at == c->end)
        return refuse(c, "a value is expected");
    if (*c->at == '{' || *c->at == '[')
        return check_container(c, depth);
    if (*c->at == '"')
        return check_string(c);
    if (*c->at == '-' || is_digit(*c->at))
        return check_number(c);
    return check_word(c);
}

static struct json_value value_of(const char *begin, const char *end)
{
    enum json_kind kind = *begin == '{'                    ? JSON_OBJECT
                          : *begin == '['                  ? JSON_ARRAY
                          : *begin == '"'                  ? JSON_TEXT
                          : *begin == 'n'                  ? JSON_NULL
                          : *begin == 't' || *begin == 'f' ? JSON_BOOL
                                                           : JSON_NUMBER;
    return (struct json_value){kind, begin, (size_t)(end - begin)};
}

int json_in_check(struct json_value *out, const char *text, size_t size, char *error,
                  size_t error_size)
{
    struct check c = {.at = text, .end = text + size};
    const char *begin, *end;
    int status;
    skip_space(&c);
    begin = c.at;
    status = check_value(&c, 0);
    end = c.at;
    skip_space(&c);
    if (status == 0 && c.at < c.end)
        status = refuse(&c, "something follows the value");
    if (status == 0)
        *out = value_of(begin, end);
    else
        snprintf(error, error_size, "column %zu: %s", (size_t)(c.at - text) + 1, c.wrong);
    return status;
}

static const char *past_space(const char *s)
{
    return s + strspn(s, " \t\r\n");
}

static const char *past_string(const char *s)
{
    for (s++; *s != '"'; s++)
        s += *s == '\\';
    return s + 1;
}

/* Behind a value that was checked. */
static const char *past_value(const char *s)
{
    size_t depth = 0;
    if (*s != '{' && *s != '[' && *s != '"')
        return s + strcspn(s, ",]} \t\r\n");
    do {
        if (*s == '"') {
            s = past_string(s);
            continue;
        }
        depth += *s == '{' || *s == '[';
        depth -= *s == '}' || *s == ']';
        s++;
    } while (depth > 0);
    return s;
}

struct json_walk json_walk_begin(const struct json_value *container)
{
    return (struct json_walk){past_space(container->text + 1), container->kind == JSON_OBJECT};
}

int json_walk_next(struct json_walk *walk, struct json_value *key, struct json_value *value)
{
    const char *begin = walk->at, *end;
    if (*begin == ']' || *begin == '}')
        return 0;
    if (walk->is_object) {
        end = past_string(begin);
        *key = value_of(begin, end);
        begin = past_space(past_space(end) + 1); /* behind the colon */
    }
    end = past_value(begin);
    *value = value_of(begin, end);
    walk->at = past_space(end);
    if (*walk->at == ',')
        walk->at = past_space(walk->at + 1);
    return 1;
}

static void append_code(struct buffer *out, uint32_t code)
{
    char s[4];
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; code >>= 6)
        s[i] = (char)(0x80 | (code & 0x3f));
    s[0] = (char)(first[n] | code);
    buffer_append(out, s, n);
}

/* Appends what the escape at `s`, behind its backslash, stands for; returns what follows. */
static const char *unescape(const char *s, const char *end, struct buffer *out)
{
    static const char letters[] = "bfnrt", bytes[] = "\b\f\n\r\t";
    const char *found = strchr(letters, *s);
    if (*s == 'u') {
        uint32_t code = (uint32_t)unit(s + 1, end);
        s += 5;
        if (code >= 0xd800 && code <= 0xdbff) {
            code = 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)unit(s + 2, end) - 0xdc00);
            s += 6;
        }
        append_code(out, code);
        return s;
    }
    buffer_append(out, found ? bytes + (found - letters) : s, 1);
    return s + 1;
}

int json_in_text(const struct json_value *value, struct buffer *out)
{
    const char *s = value->text + 1, *end = value->text + value->size - 1;
    if (value->kind != JSON_TEXT)
        return -1;
    buffer_append(out, "", 0); /* "" too is a text */
    while (s < end) {
        const char *stop = memchr(s, '\\', (size_t)(end - s));
        size_t plain = stop ? (size_t)(stop - s) : (size_t)(end - s);
        buffer_append(out, s, plain);
        s += plain;
        if (stop)
            s = unescape(s + 1, end, out);
    }
    return 0;
}

int json_in_bool(const struct json_value *value, int32_t *out)
{
    if (value->kind != JSON_BOOL)
        return -1;
    *out = *value->text == 't';
    return 0;
}

int json_in_f64(const struct json_value *value, double *out)
{
    double x;
    if (value->kind != JSON_NUMBER)
        return -1;
    x = strtod(value->text, NULL); /* ends at what follows the number, at the latest at the 0 */
    if (!isfinite(x))
        return -1;
    *out = x;
    return 0;
}

int json_in_i64(const struct json_value *value, int64_t *out)
{
    double x;
    if (value->kind != JSON_NUMBER)
        return -1;
    if (memchr(value->text, '.', value->size) || memchr(value->text, 'e', value->size) ||
        memchr(value->text, 'E', value->size)) {
        if (json_in_f64(value, &x) != 0 || x != floor(x) || fabs(x) > 9007199254740992.0)
            return -1;
        *out = (int64_t)x;
        return 0;
    }
    errno = 0;
    long long n = strtoll(value->text, NULL, 10);
    if (errno)
        return -1;
    *out = n;
    return 0;
}

int json_in_u64(const struct json_value *value, uint64_t *out)
{
    int64_t n;
    if (json_in_i64(value, &n) == 0) {
        *out = (uint64_t)n;
        return n < 0 ? -1 : 0;
    }
    if (value->kind != JSON_NUMBER || value->text[0] == '-' ||
        strspn(value->text, "0123456789") != value->size)
        return -1;
    errno = 0;
    *out = strtoull(value->text, NULL, 10);
    return errno ? -1 : 0;
}
