/* One pass over a JSON text ahead of its parser: UTF-8, surrogates, depth, sizes. */
#include "base/json_scan.h"

#include "base/array.h"
#include "base/error.h"

#include <string.h>

struct scan {
    const unsigned char *p, *end;
    struct json_counts *counts;
    size_t open[BASE_JSON_MAX_DEPTH]; /* which container is open at each depth */
    size_t depth;
    const char *what; /* of a refusal, which is at `p` */
};

infer_status json_error_at(infer_status status, const char *text, size_t size, size_t at,
                           const char *what)
{
    size_t line = 1, begin = 0;
    at = BASE_MIN(at, size);
    for (size_t i = 0; i < at; i++)
        if (text[i] == '\n') {
            line++;
            begin = i + 1;
        }
    return base_error(status, "line %zu, column %zu: %s", line, at - begin + 1, what);
}

static int is_tail(const unsigned char *p, const unsigned char *end, int n)
{
    if (end - p < n)
        return 0;
    for (int i = 0; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return 1;
}

/* Length of the legal UTF-8 sequence at `p`, which is not ASCII; 0 if it is none. The second
 * byte decides about overlong forms, surrogates and what lies beyond U+10FFFF. */
static int utf8_length(const unsigned char *p, const unsigned char *end)
{
    unsigned char c = p[0];
    if (c >= 0xc2 && c <= 0xdf)
        return is_tail(p + 1, end, 1) ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef)
        return is_tail(p + 1, end, 2) && !(c == 0xe0 && p[1] < 0xa0) && !(c == 0xed && p[1] > 0x9f)
                   ? 3
                   : 0;
    if (c >= 0xf0 && c <= 0xf4)
        return is_tail(p + 1, end, 3) && !(c == 0xf0 && p[1] < 0x90) && !(c == 0xf4 && p[1] > 0x8f)
                   ? 4
                   : 0;
    return 0;
}

/* Four hexadecimal digits after "\u", or -1. */
static int32_t escape_unit(const unsigned char *p, const unsigned char *end)
{
    int32_t unit = 0;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
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

static int scan_escape(struct scan *s)
{
    int32_t unit = escape_unit(s->p, s->end);
    if (unit < 0xd800 || unit > 0xdfff) {
        s->p += BASE_MIN(s->end - s->p, 2); /* whether it is an escape, the parser says */
        return 1;
    }
    int32_t low = escape_unit(s->p + 6, s->end);
    if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff) {
        s->what = "half of a surrogate pair";
        return 0;
    }
    s->p += 12;
    return 1;
}

/* From behind the opening quote to behind the closing one, or to the end. */
static int scan_string(struct scan *s)
{
    while (s->p < s->end) {
        unsigned char c = *s->p;
        if (c == '"') {
            s->p++;
            return 1;
        }
        if (c == '\\') {
            if (!scan_escape(s))
                return 0;
        } else if (c < 0x80) {
            s->p++;
        } else {
            int n = utf8_length(s->p, s->end);
            if (!n) {
                s->what = "invalid UTF-8";
                return 0;
            }
            s->p += n;
        }
    }
    return 1;
}

static infer_status scan_open(struct scan *s, const struct base_alloc *a)
{
    if (s->depth == BASE_JSON_MAX_DEPTH) {
        s->what = "arrays and objects are nested deeper than 256";
        return INFER_ERR_LIMIT;
    }
    struct json_counts *c = s->counts;
    if (c->n == c->capacity) {
        infer_status st =
            base_array_grow(a, (void **)&c->commas, c->n, &c->capacity, sizeof *c->commas, 1);
        if (st != INFER_OK)
            return st;
    }
    c->commas[c->n] = 0;
    s->open[s->depth++] = c->n++;
    return INFER_OK;
}

static infer_status scan_all(struct scan *s, const struct base_alloc *a)
{
    infer_status st = INFER_OK;
    while (s->p < s->end && st == INFER_OK) {
        switch (*s->p) {
        case '"':
            s->p++;
            st = scan_string(s) ? INFER_OK : INFER_ERR_FORMAT;
            continue;
        case '[':
        case '{':
            st = scan_open(s, a);
            break;
        case ']':
        case '}':
            s->depth -= s->depth > 0; /* the parser refuses what does not match */
            break;
        case ',':
            if (s->depth)
                s->counts->commas[s->open[s->depth - 1]]++;
            break;
        default:
            if (*s->p >= 0x80 || (*s->p < ' ' && !strchr("\t\n\r", *s->p)) || !*s->p) {
                s->what = "a character that is no part of JSON";
                st = INFER_ERR_FORMAT;
            }
        }
        s->p += st == INFER_OK;
    }
    return st;
}

infer_status json_scan(struct json_counts *counts, const struct base_alloc *a, const char *text,
                       size_t size)
{
    struct scan s = {.p = (const unsigned char *)text, .counts = counts};
    if (size > UINT32_MAX)
        return base_error(INFER_ERR_LIMIT, "a JSON text of %zu bytes; the limit is 4 GiB", size);
    s.end = s.p + size;
    infer_status st = scan_all(&s, a);
    if (st == INFER_OK || st == INFER_ERR_NO_MEMORY)
        return st;
    return json_error_at(st, text, size, (size_t)(s.p - (const unsigned char *)text), s.what);
}
