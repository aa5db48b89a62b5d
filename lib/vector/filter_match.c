/* A filter held against one JSON text. */
#include "vector/filter_node.h"

#include "base/error.h"

/* What of a condition a scalar meets: bit 0, and of ranges bit 0 for low and bit 1 for high. */
static int meets(const struct filter_node *node, const struct vector_value *v)
{
    int32_t low = 0, high = node->n_values, met = 0;
    switch (node->type) {
    case FILTER_IN:
        while (low < high) {
            int32_t middle = low + (high - low) / 2;
            int order = vector_value_compare(v, &node->values[middle]);
            if (!order)
                return 1;
            if (order < 0)
                high = middle;
            else
                low = middle + 1;
        }
        return 0;
    case FILTER_RANGE:
        if (node->low.is_set && v->kind == node->low.value.kind)
            met |= vector_value_compare(v, &node->low.value) >= node->low.strict;
        if (node->high.is_set && v->kind == node->high.value.kind)
            met |= (vector_value_compare(v, &node->high.value) <= -node->high.strict) << 1;
        return met;
    default:
        return vector_value_has_prefix(v, node->prefix);
    }
}

/* 1, 0, or -1 for damage. */
static int condition_passes(const struct filter_node *node, const struct vector_found_value *found)
{
    struct vector_found_value element;
    struct vector_value v;
    const char *at = NULL;
    const int all = node->type == FILTER_RANGE ? node->low.is_set | node->high.is_set << 1 : 1;
    int met = 0, more, scalar;
    if (node->type == FILTER_EXISTS)
        return found->type != VECTOR_FOUND_NOTHING;
    if (found->type != VECTOR_FOUND_ARRAY) {
        scalar = vector_found_scalar(found, &v);
        return scalar > 0 ? meets(node, &v) == all : scalar;
    }
    while ((more = vector_found_element(found, &at, &element)) > 0) {
        scalar = vector_found_scalar(&element, &v);
        if (scalar < 0)
            return -1;
        if (scalar && (met |= meets(node, &v)) == all)
            return 1;
    }
    return more;
}

static int filter_passes(const struct filter_node *node, const struct vector_found_value *found)
{
    int passes;
    if (node->type > FILTER_NOT)
        return condition_passes(node, &found[node->path]);
    if (node->type == FILTER_NOT) {
        passes = filter_passes(node->child, found);
        return passes < 0 ? passes : !passes;
    }
    for (const struct filter_node *c = node->child; c; c = c->next) {
        passes = filter_passes(c, found);
        if (passes < 0 || passes == (node->type == FILTER_OR))
            return passes;
    }
    return node->type == FILTER_AND;
}

infer_status vector_filter_test(const struct vector_filter *filter, const char *json, size_t size,
                                int32_t *passes)
{
    struct vector_found_value found[VECTOR_PATHS_MAX];
    infer_status st = vector_paths_find(filter->paths, json, json ? size : 0, found);
    if (st != INFER_OK)
        return st;
    int result = filter_passes(filter->root, found);
    if (result < 0)
        return base_error(INFER_ERR_FORMAT,
                          "a value in the metadata is no JSON as it was written: it was damaged");
    *passes = result;
    return INFER_OK;
}
