/* Decimal digits of numbers. */
#include "sample/decimal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void trim(struct decimal *d)
{
    while (d->n && d->digits[d->n - 1] == '0')
        d->n--;
    if (!d->n)
        d->exponent = d->negative = 0;
}

struct decimal decimal_of_i64(int64_t v)
{
    struct decimal d = {.negative = v < 0};
    char text[DECIMAL_DIGITS];
    uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)magnitude);
    memcpy(d.digits, text, (size_t)n);
    d.n = d.exponent = magnitude ? n : 0;
    trim(&d);
    return d;
}

/* Rounds to n digits; what the C library writes between them depends on the locale. */
static struct decimal rounded(double v, int n)
{
    struct decimal d = {.negative = v < 0};
    char text[64];
    snprintf(text, sizeof text, "%.*e", n - 1, fabs(v));
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9' && d.n < DECIMAL_DIGITS)
            d.digits[d.n++] = *p;
    d.exponent = *p ? atoi(p + 1) + 1 : 0;
    return d;
}

static double value_of(const struct decimal *d)
{
    char text[64]; /* a whole number and an exponent: no decimal point */
    snprintf(text, sizeof text, "%.*se%d", d->n, d->digits, d->exponent - d->n);
    return strtod(text, NULL);
}

struct decimal decimal_of_f64(double v)
{
    struct decimal d = {0};
    for (int n = 1; n <= 17; n++) {
        d = rounded(v, n);
        if (value_of(&d) == fabs(v))
            break;
    }
    trim(&d);
    return d;
}

int decimal_is_integer(const struct decimal *d)
{
    return d->n <= d->exponent || d->n == 0;
}

infer_status decimal_split(const struct decimal *d, struct base_str *whole,
                           struct base_str *fraction)
{
    infer_status st = INFER_OK;
    for (int i = 0; i < d->exponent && st == INFER_OK; i++)
        st = base_str_put(whole, i < d->n ? d->digits[i] : '0');
    if (st == INFER_OK && !whole->size)
        st = base_str_put(whole, '0');
    for (int at = BASE_MIN(d->exponent, d->n); at < d->n && st == INFER_OK; at++)
        st = base_str_put(fraction, at < 0 ? '0' : d->digits[at]);
    return st;
}

infer_status decimal_print(const struct decimal *d, struct base_str *out)
{
    struct base_str whole, fraction;
    infer_status st = d->negative ? base_str_put(out, '-') : INFER_OK;
    if (st == INFER_OK && d->n && (d->exponent > 21 || d->exponent < -6)) {
        st = base_str_put(out, d->digits[0]);
        if (st == INFER_OK && d->n > 1)
            st = base_str_appendf(out, ".%.*s", d->n - 1, d->digits + 1);
        return st == INFER_OK ? base_str_appendf(out, "e%d", d->exponent - 1) : st;
    }
    base_str_init(&whole, out->alloc, 0);
    base_str_init(&fraction, out->alloc, 0);
    if (st == INFER_OK)
        st = decimal_split(d, &whole, &fraction);
    if (st == INFER_OK)
        st = base_str_append(out, whole.data, whole.size);
    if (st == INFER_OK && fraction.size)
        st = base_str_appendf(out, ".%s", fraction.data);
    base_str_release(&whole);
    base_str_release(&fraction);
    return st;
}
