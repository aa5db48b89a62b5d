/* Some fields of JSON texts, found in one pass over each and without a tree. A path is names joined
 * by dots, through nested objects; where a text has the whole path as one name at the top, that one
 * counts. */
#ifndef VECTOR_PATHS_H
#define VECTOR_PATHS_H

#include "vector/value.h"

#define VECTOR_PATHS_MAX 256 /* paths of one set */
#define VECTOR_NAMES_MAX 32  /* names of a path */

enum {
    VECTOR_FOUND_NOTHING,
    VECTOR_FOUND_WORD, /* null, true, false */
    VECTOR_FOUND_NUMBER,
    VECTOR_FOUND_STRING, /* what is between the quotes */
    VECTOR_FOUND_ARRAY,
    VECTOR_FOUND_OBJECT /* that it is one, no more */
};

struct vector_found_value {
    uint8_t type;
    uint8_t escaped; /* a string with backslashes */
    uint8_t literal; /* the whole path was a name */
    uint32_t size;
    const char *data;
};

struct vector_paths;

/* `paths` differ, and stay where they are. LIMIT: too many, or of too many names. */
infer_status vector_paths_create(struct vector_paths **out, const struct base_alloc *a,
                                 const struct base_view *paths, int32_t n);
void vector_paths_destroy(struct vector_paths **paths);

/* found[i] is of path i. The text was checked before (vector_meta_check); one that was damaged
 * since gives FORMAT, or values that it might have had. */
infer_status vector_paths_find(const struct vector_paths *paths, const char *json, size_t size,
                               struct vector_found_value *found);

/* The scalar that was found: 0 for an array and an object, -1 for damage. */
int vector_found_scalar(const struct vector_found_value *found, struct vector_value *out);
/* Elements of an array one after the other: *at begins as NULL. 0 behind the last, -1: damage. */
int vector_found_element(const struct vector_found_value *array, const char **at,
                         struct vector_found_value *out);

#endif
