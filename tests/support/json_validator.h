/* A validator for the part of JSON Schema that grammars are made of, written for tests: it walks
 * the value, where the library walks the schema. */
#ifndef TESTS_SUPPORT_JSON_VALIDATOR_H
#define TESTS_SUPPORT_JSON_VALIDATOR_H

#include <jansson.h>

/* Whether `value` is valid under `schema`, a part of `root`. Formats are not looked at. */
int json_valid(const json_t *root, const json_t *schema, const json_t *value);

#endif
