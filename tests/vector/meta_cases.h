/* Metadata and filters by chance, over few fields and few values, so that much of it meets. */
#ifndef TESTS_VECTOR_META_CASES_H
#define TESTS_VECTOR_META_CASES_H

#include "support/test.h"
#include "support/test_alloc.h"

#include "base/json.h"
#include "base/str.h"
#include "vector/filter.h"
#include "vector/meta.h"

#define CASE_FIELDS 5
extern const char *const case_fields[CASE_FIELDS];

/* A fifth of them none: `out` stays empty. */
void case_metadata(struct base_str *out, uint64_t *state);
void case_filter(struct base_str *out, uint64_t *state);

/* Rows, with their trees for the plain reader. */
struct case_rows {
    struct base_arena arena;
    const struct base_json **trees;
    struct base_str *texts;
    int32_t n;
};

/* Rows whose texts the caller writes in between. */
void case_rows_start(struct case_rows *rows, int32_t n);
void case_rows_parse(struct case_rows *rows);
/* Rows by chance. */
void case_rows_init(struct case_rows *rows, int32_t n, uint64_t *state);
void case_rows_release(struct case_rows *rows);
void case_rows_add(const struct case_rows *rows, struct vector_meta *meta, int32_t begin,
                   int32_t end);

/* Fails unless `meta` gives for `filter` what the plain reader gives, for rows below n_rows. Row i
 * of meta is row which[i] (NULL: i). Returns how many pass. */
int32_t case_check(const struct case_rows *rows, const struct vector_meta *meta,
                   const struct base_str *filter, int32_t n_rows, const int32_t *which);

#endif
