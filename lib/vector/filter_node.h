/* A filter as its parser leaves it. Only the filter_*.c files include this. */
#ifndef VECTOR_FILTER_NODE_H
#define VECTOR_FILTER_NODE_H

#include "vector/filter.h"
#include "vector/paths.h"

enum {
    FILTER_AND, /* of no children: all rows */
    FILTER_OR,
    FILTER_NOT, /* of one child */
    FILTER_EXISTS,
    FILTER_IN, /* one of the values, which are in order and differ */
    FILTER_RANGE,
    FILTER_PREFIX
};

struct filter_bound {
    int32_t is_set, strict;
    struct vector_value value;
};

struct filter_node {
    int32_t type;
    int32_t path;       /* of a condition */
    int32_t n_children; /* as the next two */
    struct filter_node *child, *next;
    int32_t n_values;
    struct vector_value *values;
    /* An element at or above `low`, and one at or below `high`; of arrays they may be two. */
    struct filter_bound low, high;
    struct base_view prefix;
};

struct vector_filter {
    struct base_alloc alloc;
    struct base_arena arena; /* the text and its tree, nodes, names */
    struct base_view text;
    struct filter_node *root;
    struct vector_paths *paths;
    struct base_view *names; /* of the paths */
    int32_t n_paths;
};

#endif
