/* Truth, equality, order and membership of values, as Python has them. */
#include "text/jinja_internal.h"

int jinja_truth(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return 0;
    case JINJA_BOOL:
        return v.boolean;
    case JINJA_INT:
        return v.integer != 0;
    case JINJA_FLOAT:
        return v.real != 0;
    case JINJA_STRING:
        return v.text.size != 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        return v.list->size != 0;
    case JINJA_DICT:
        return v.dict->size != 0;
    case JINJA_RANGE:
        return jinja_range_size(v.range) != 0;
    default:
        return 1;
    }
}

static int is_number(struct jinja_value v)
{
    return v.kind == JINJA_BOOL || v.kind == JINJA_INT || v.kind == JINJA_FLOAT;
}

/* -1, 0, 1, or 2 where one is not a number. Exact also where an integer has more
 * digits than a double can hold. */
static int order_numbers(struct jinja_value a, struct jinja_value b)
{
    int64_t i, j;
    double x, y;
    int a_int = jinja_as_int(a, &i), b_int = jinja_as_int(b, &j);
    if (a_int && b_int)
        return i < j ? -1 : i > j;
    if (a_int && !b_int)
        return order_numbers(b, a) == 2 ? 2 : -order_numbers(b, a);
    jinja_as_number(a, &x);
    if (!b_int) {
        jinja_as_number(b, &y);
        return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
    }
    if (x != x)
        return 2;
    if (x >= 0x1p63)
        return 1;
    if (x < -0x1p63)
        return -1;
    int64_t whole = (int64_t)x;
    double rest = x - (double)whole;
    return whole != j ? (whole < j ? -1 : 1) : rest < 0 ? -1 : rest > 0;
}

int jinja_compare_text(struct base_view a, struct base_view b)
{
    size_t n = BASE_MIN(a.size, b.size);
    int c = n ? memcmp(a.data, b.data, n) : 0;
    return c ? (c < 0 ? -1 : 1) : a.size < b.size ? -1 : a.size > b.size;
}

int jinja_same_key(struct jinja_value a, struct jinja_value b)
{
    if (is_number(a) && is_number(b))
        return order_numbers(a, b) == 0;
    if (a.kind != b.kind)
        return 0;
    switch (a.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return 1;
    case JINJA_STRING:
        return a.text.size == b.text.size && jinja_compare_text(a.text, b.text) == 0;
    case JINJA_TUPLE:
        if (a.list->size != b.list->size)
            return 0;
        for (size_t i = 0; i < a.list->size; i++)
            if (!jinja_same_key(a.list->items[i], b.list->items[i]))
                return 0;
        return 1;
    default:
        return a.list == b.list;
    }
}

static int equal_lists(struct jinja_render *r, const struct jinja_list *a,
                       const struct jinja_list *b)
{
    if (a == b)
        return 1;
    if (a->size != b->size)
        return 0;
    for (size_t i = 0; i < a->size && !jinja_failed(r); i++)
        if (!jinja_equal(r, a->items[i], b->items[i]))
            return 0;
    return !jinja_failed(r);
}

static int equal_dicts(struct jinja_render *r, const struct jinja_dict *a,
                       const struct jinja_dict *b)
{
    if (a == b)
        return 1;
    if (a->size != b->size)
        return 0;
    for (size_t i = 0; i < a->size && !jinja_failed(r); i++) {
        const struct jinja_value *other = jinja_dict_find(b, a->entries[i].key);
        if (!other || !jinja_equal(r, a->entries[i].value, *other))
            return 0;
    }
    return !jinja_failed(r);
}

static int equal_ranges(const struct jinja_range *a, const struct jinja_range *b)
{
    int64_t n = jinja_range_size(a);
    return n == jinja_range_size(b) &&
           (n == 0 || (a->start == b->start && (n == 1 || a->step == b->step)));
}

int jinja_equal(struct jinja_render *r, struct jinja_value a, struct jinja_value b)
{
    int same;
    if (!jinja_enter(r))
        return 0;
    if (a.kind == b.kind && a.kind == JINJA_STRING)
        jinja_charge(r, a.text.size);
    if (a.kind != b.kind)
        same = jinja_same_key(a, b);
    else if (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)
        same = equal_lists(r, a.list, b.list);
    else if (a.kind == JINJA_DICT)
        same = equal_dicts(r, a.dict, b.dict);
    else if (a.kind == JINJA_RANGE)
        same = equal_ranges(a.range, b.range);
    else
        same = jinja_same_key(a, b);
    jinja_leave(r);
    return same;
}

static int no_order(struct jinja_render *r, struct jinja_value a, struct jinja_value b,
                    const char *sign)
{
    jinja_fail(r, INFER_ERR_INVALID, "'%s' not supported between instances of '%s' and '%s'", sign,
               jinja_type_name(a.kind), jinja_type_name(b.kind));
    return 0;
}

static int order_lists(struct jinja_render *r, const struct jinja_list *a,
                       const struct jinja_list *b, const char *sign)
{
    for (size_t i = 0; i < a->size && i < b->size && !jinja_failed(r); i++)
        if (!jinja_equal(r, a->items[i], b->items[i]))
            return jinja_order(r, a->items[i], b->items[i], sign);
    return a->size < b->size ? -1 : a->size > b->size;
}

int jinja_order(struct jinja_render *r, struct jinja_value a, struct jinja_value b,
                const char *sign)
{
    int order;
    if (!jinja_defined(r, a) || !jinja_defined(r, b) || !jinja_enter(r))
        return 0;
    if (is_number(a) && is_number(b)) {
        order = order_numbers(a, b);
    } else if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        jinja_charge(r, BASE_MIN(a.text.size, b.text.size));
        order = jinja_compare_text(a.text, b.text);
    } else if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        order = order_lists(r, a.list, b.list, sign);
    } else {
        order = no_order(r, a, b, sign);
    }
    jinja_leave(r);
    return order;
}

static int in_range(struct jinja_value item, const struct jinja_range *range)
{
    int64_t i, n = jinja_range_size(range);
    double real;
    if (!jinja_as_int(item, &i)) {
        if (!jinja_as_number(item, &real) || real < -9e18 || real > 9e18 ||
            real != (double)(int64_t)real)
            return 0;
        i = (int64_t)real;
    }
    if (n == 0)
        return 0;
    int64_t last = range->start + (n - 1) * range->step;
    return i >= BASE_MIN(range->start, last) && i <= BASE_MAX(range->start, last) &&
           (i - range->start) % range->step == 0;
}

int jinja_contains(struct jinja_render *r, struct jinja_value item, struct jinja_value in)
{
    switch (in.kind) {
    case JINJA_STRING:
        if (!jinja_defined(r, item))
            return 0;
        if (item.kind != JINJA_STRING) {
            jinja_fail(r, INFER_ERR_INVALID,
                       "'in <string>' requires string as left operand, not %s",
                       jinja_type_name(item.kind));
            return 0;
        }
        jinja_charge(r, in.text.size);
        return jinja_text_find(in.text, item.text, 0) != SIZE_MAX;
    case JINJA_DICT:
        if (!jinja_hashable(item))
            jinja_fail(r, INFER_ERR_INVALID, "unhashable type: '%s'", jinja_type_name(item.kind));
        return !jinja_failed(r) && jinja_dict_find(in.dict, item) != NULL;
    case JINJA_RANGE:
        return in_range(item, in.range);
    default:
        break;
    }
    if (!jinja_iterable(in)) {
        jinja_fail(r, INFER_ERR_INVALID, "argument of type '%s' is not iterable",
                   jinja_type_name(in.kind));
        return 0;
    }
    struct jinja_list items = jinja_walk(r, in);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++)
        if (jinja_equal(r, items.items[i], item))
            return 1;
    return 0;
}
