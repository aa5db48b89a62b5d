/* Byte strings, numbered as they come and found by their bytes: namespaces and ids of a part that
 * grows. One writer beside any number of readers, who see the numbers below a count that they came
 * with. The same name may come again: the newest number below the count is found. */
#ifndef VECTOR_NAMES_H
#define VECTOR_NAMES_H

#include "base/alloc.h"

#define VECTOR_NAME_MAX 255 /* bytes of a name */

struct vector_names;

infer_status vector_names_create(struct vector_names **out, const struct base_alloc *a);
void vector_names_destroy(struct vector_names **names);
/* Room for n names more, `bytes` long together, so that add cannot fail. */
infer_status vector_names_reserve(struct vector_names *names, int32_t n, size_t bytes);
/* Names of different groups differ. Returns the number. */
int32_t vector_names_add(struct vector_names *names, uint32_t group, struct base_view name);
/* The newest below `below`, or -1. */
int32_t vector_names_find(const struct vector_names *names, uint32_t group, struct base_view name,
                          int32_t below);
struct base_view vector_names_get(const struct vector_names *names, int32_t number);
uint32_t vector_names_group(const struct vector_names *names, int32_t number);
uint64_t vector_names_bytes(const struct vector_names *names); /* allocated */

/* Order of bytes, the shorter first. */
int vector_names_compare(struct base_view a, struct base_view b);

#endif
