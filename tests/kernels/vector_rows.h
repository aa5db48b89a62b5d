/* Rows and queries for the checks of vector kernels. */
#ifndef TESTS_KERNELS_VECTOR_ROWS_H
#define TESTS_KERNELS_VECTOR_ROWS_H

#include "check.h"

enum { ROWS_MAX = 41 };

struct rows {
    const void *at[ROWS_MAX];
    float scales[ROWS_MAX];
    int32_t n;
};

/* Rows each in a buffer of its own, against a guard page. */
void vector_make_rows(struct check *c, struct rows *rows, infer_dtype type, int32_t n,
                      int32_t dims);
void vector_fill_query(struct check *c, int8_t *query, int32_t dims); /* bytes, -127 .. 127 */

#endif
