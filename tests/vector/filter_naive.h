/* Filters as doc/filters.md has them, over trees: slow, plain, and apart from lib/vector. */
#ifndef TESTS_VECTOR_FILTER_NAIVE_H
#define TESTS_VECTOR_FILTER_NAIVE_H

#include "base/json.h"

/* `filter` is one that vector_filter_parse() takes; `metadata` may be NULL. */
int naive_passes(const struct base_json *filter, const struct base_json *metadata);

#endif
