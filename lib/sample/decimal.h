/* Numbers in decimal digits, the shortest that mean the same double, in every locale. */
#ifndef SAMPLE_DECIMAL_H
#define SAMPLE_DECIMAL_H

#include "base/str.h"

#define DECIMAL_DIGITS 24

/* 0.d1 d2 d3 ... times ten to the power `exponent`; no zeros at either end; zero has no digits. */
struct decimal {
    char digits[DECIMAL_DIGITS];
    int n, exponent, negative;
};

struct decimal decimal_of_i64(int64_t v);
struct decimal decimal_of_f64(double v); /* finite */
int decimal_is_integer(const struct decimal *d);

/* Digits before and behind the point; the first is "0" where there are none. */
infer_status decimal_split(const struct decimal *d, struct base_str *whole,
                           struct base_str *fraction);
/* As JSON. */
infer_status decimal_print(const struct decimal *d, struct base_str *out);

#endif
