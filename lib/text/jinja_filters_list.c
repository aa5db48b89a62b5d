/* Filters over lists and dicts. */
#include "text/jinja_internal.h"

static struct jinja_value lower_case(struct jinja_render *r, struct jinja_value v)
{
    if (v.kind != JINJA_STRING || jinja_failed(r))
        return v;
    size_t begin = jinja_capture_begin(r);
    jinja_write_case(r, v.text, JINJA_LOWER);
    return jinja_capture_end(r, begin);
}

/* What an item is sorted or told apart by. */
static struct jinja_value key_of(struct jinja_render *r, struct jinja_value item,
                                 struct jinja_value attribute, int case_sensitive)
{
    struct jinja_value key = jinja_path(r, item, attribute);
    return case_sensitive ? key : lower_case(r, key);
}

static struct jinja_value filter_join(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value separator =
        c->a[0].kind == JINJA_MISSING ? jinja_string("", 0) : jinja_str(r, c->a[0]);
    struct jinja_list items = jinja_walk(r, c->self);
    size_t begin = jinja_capture_begin(r);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_value item = jinja_path(r, items.items[i], c->a[1]);
        if (i)
            jinja_write(r, separator.text.data, separator.text.size);
        if (!jinja_failed(r))
            jinja_print(r, item);
    }
    return jinja_capture_end(r, begin);
}

static struct jinja_value filter_list(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value out = jinja_list_of(r, JINJA_LIST, items.size);
    if (items.size && !jinja_failed(r))
        memcpy(out.list->items, items.items, items.size * sizeof *items.items);
    if (!jinja_failed(r))
        out.list->size = items.size;
    return out;
}

static struct jinja_value filter_first(struct jinja_render *r, const struct jinja_call *c)
{
    uint32_t cp;
    if (c->self.kind == JINJA_STRING && c->self.text.size)
        return jinja_string(c->self.text.data, jinja_text_next(c->self.text, &cp));
    if (c->self.kind == JINJA_ITERATOR && c->self.list->taken < c->self.list->size)
        return c->self.list->items[c->self.list->taken++];
    struct jinja_list items = jinja_walk(r, c->self);
    if (jinja_failed(r))
        return jinja_no_value();
    return items.size ? items.items[0] : jinja_hint("No first item, sequence was empty.");
}

static struct jinja_value filter_last(struct jinja_render *r, const struct jinja_call *c)
{
    uint32_t cp;
    if (c->self.kind == JINJA_STRING && c->self.text.size) {
        size_t n = jinja_text_previous(c->self.text, &cp);
        return jinja_string(c->self.text.data + c->self.text.size - n, n);
    }
    if (c->self.kind == JINJA_ITERATOR)
        return jinja_fail(r, INFER_ERR_INVALID, "'generator' object is not reversible");
    struct jinja_list items = jinja_walk(r, c->self);
    if (jinja_failed(r))
        return jinja_no_value();
    return items.size ? items.items[items.size - 1]
                      : jinja_hint("No last item, sequence was empty.");
}

static struct jinja_value filter_items(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_args none = {0};
    if (c->self.kind == JINJA_UNDEFINED)
        return jinja_list_of(r, JINJA_ITERATOR, 0);
    if (c->self.kind != JINJA_DICT)
        return jinja_fail(r, INFER_ERR_INVALID, "Can only get item pairs from a mapping.");
    struct jinja_value v = jinja_invoke(r, jinja_find_method(JINJA_DICT, jinja_view_of("items")),
                                        c->self, &none, "filter");
    v.kind = jinja_failed(r) ? JINJA_MISSING : JINJA_ITERATOR;
    return v;
}

static struct jinja_value filter_reverse(struct jinja_render *r, const struct jinja_call *c)
{
    const struct jinja_value backwards[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
    if (c->self.kind == JINJA_STRING) {
        struct jinja_value v = jinja_slice(r, c->self, backwards);
        return v;
    }
    struct jinja_list items = jinja_walk(r, c->self);
    int lazy = c->self.kind != JINJA_ITERATOR && c->self.kind != JINJA_UNDEFINED;
    struct jinja_value out = jinja_list_of(r, lazy ? JINJA_ITERATOR : JINJA_LIST, items.size);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++)
        out.list->items[out.list->size++] = items.items[items.size - 1 - i];
    return out;
}

static struct jinja_value sorted(struct jinja_render *r, struct jinja_list items,
                                 struct jinja_value attribute, int case_sensitive, int reverse)
{
    struct jinja_value out = jinja_list_of(r, JINJA_LIST, items.size);
    struct jinja_value *keys = jinja_new(r, items.size, sizeof *keys);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        keys[i] = key_of(r, items.items[i], attribute, case_sensitive);
        out.list->items[out.list->size++] = items.items[i];
    }
    if (!jinja_failed(r))
        jinja_sort(r, keys, out.list->items, items.size, reverse);
    return out;
}

/* "a,b" sorts by several attributes: the least important first, as sorting is stable. */
static struct jinja_value filter_sort(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value attribute = c->a[2];
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value out;
    if (attribute.kind != JINJA_STRING)
        return sorted(r, items, attribute, jinja_truth(c->a[1]), jinja_truth(c->a[0]));
    size_t end = attribute.text.size;
    do {
        size_t from = end;
        while (from > 0 && attribute.text.data[from - 1] != ',')
            from--;
        struct jinja_value part = jinja_string(attribute.text.data + from, end - from);
        out = sorted(r, items, part, jinja_truth(c->a[1]), jinja_truth(c->a[0]));
        if (jinja_failed(r))
            break;
        items = *out.list;
        end = from ? from - 1 : 0;
        if (from == 0)
            break;
    } while (1);
    return out;
}

static struct jinja_value filter_dictsort(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_args none = {0};
    int by_value = c->a[1].kind == JINJA_STRING && base_view_equal(c->a[1].text, "value");
    if (!jinja_defined(r, c->self))
        return jinja_no_value();
    if (c->self.kind != JINJA_DICT)
        return jinja_fail(r, INFER_ERR_INVALID, "'%s object' has no attribute 'items'",
                          jinja_type_name(c->self.kind));
    if (c->a[1].kind != JINJA_MISSING && !by_value &&
        !(c->a[1].kind == JINJA_STRING && base_view_equal(c->a[1].text, "key")))
        return jinja_fail(r, INFER_ERR_INVALID, "You can only sort by either \"key\" or \"value\"");
    struct jinja_value items = jinja_invoke(
        r, jinja_find_method(JINJA_DICT, jinja_view_of("items")), c->self, &none, "filter");
    return sorted(r, jinja_walk(r, items), jinja_int(by_value), jinja_truth(c->a[0]),
                  jinja_truth(c->a[2]));
}

static struct jinja_value filter_unique(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value out = jinja_list_of(r, JINJA_ITERATOR, items.size);
    struct jinja_value seen = jinja_dict(&r->heap);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_value key = key_of(r, items.items[i], c->a[1], jinja_truth(c->a[0]));
        if (jinja_failed(r) || jinja_dict_find(seen.dict, key))
            continue;
        jinja_put(r, seen, key, jinja_none());
        out.list->items[out.list->size++] = items.items[i];
    }
    return out;
}

static struct jinja_value extreme(struct jinja_render *r, const struct jinja_call *c, int sign)
{
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value best = {0}, best_key = {0};
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_value key = key_of(r, items.items[i], c->a[1], jinja_truth(c->a[0]));
        if (i && jinja_order(r, key, best_key, sign < 0 ? "<" : ">") != sign)
            continue;
        best = items.items[i];
        best_key = key;
    }
    return items.size ? best : jinja_hint("No aggregated item, sequence was empty.");
}

static struct jinja_value filter_min(struct jinja_render *r, const struct jinja_call *c)
{
    return extreme(r, c, -1);
}

static struct jinja_value filter_max(struct jinja_render *r, const struct jinja_call *c)
{
    return extreme(r, c, 1);
}

static struct jinja_value filter_sum(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value total = c->a[1].kind == JINJA_MISSING ? jinja_int(0) : c->a[1];
    if (total.kind == JINJA_STRING)
        return jinja_fail(r, INFER_ERR_INVALID,
                          "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++)
        total = jinja_binary(r, JINJA_T_ADD, total, jinja_path(r, items.items[i], c->a[0]));
    return total;
}

static struct jinja_value filter_batch(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t count;
    if (!jinja_as_int(c->a[0], &count) || count < 1)
        return jinja_fail(r, INFER_ERR_INVALID, "batch needs a number of at least 1");
    struct jinja_list items = jinja_walk(r, c->self);
    size_t n = (uint64_t)count > items.size ? BASE_MAX(items.size, (size_t)1) : (size_t)count;
    struct jinja_value out = jinja_list_of(r, JINJA_ITERATOR, BASE_DIV_UP(items.size, n));
    for (size_t i = 0; i < items.size && !jinja_failed(r); i += n) {
        struct jinja_value row = jinja_list_of(r, JINJA_LIST, n);
        for (size_t k = i; k < items.size && k < i + n && !jinja_failed(r); k++)
            row.list->items[row.list->size++] = items.items[k];
        while (!jinja_failed(r) && c->a[1].kind > JINJA_NONE && (int64_t)row.list->size < count) {
            jinja_list_push(&r->heap, row, c->a[1]);
            jinja_charge(r, 0);
        }
        if (!jinja_failed(r))
            out.list->items[out.list->size++] = row;
    }
    return out;
}

static struct jinja_value filter_slice(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t slices;
    struct jinja_list items = jinja_walk(r, c->self);
    if (!jinja_as_int(c->a[0], &slices) || slices < 1)
        return jinja_fail(r, INFER_ERR_INVALID, "slice needs a number of at least 1");
    int64_t each = (int64_t)items.size / slices, extra = (int64_t)items.size % slices;
    struct jinja_value out = jinja_list_of(r, JINJA_ITERATOR, (size_t)slices);
    size_t from = 0;
    for (int64_t s = 0; s < slices && !jinja_failed(r); s++) {
        size_t n = (size_t)(each + (s < extra));
        struct jinja_value row = jinja_list_of(r, JINJA_LIST, n + 1);
        jinja_charge(r, n);
        for (size_t i = 0; i < n && !jinja_failed(r); i++)
            row.list->items[row.list->size++] = items.items[from + i];
        if (c->a[1].kind > JINJA_NONE && s >= extra)
            jinja_list_push(&r->heap, row, c->a[1]);
        if (!jinja_failed(r))
            out.list->items[out.list->size++] = row;
        from += n;
    }
    return out;
}

/* Pairs of a key and the items that have it, in the order of the keys. */
static struct jinja_value filter_groupby(struct jinja_render *r, const struct jinja_call *c)
{
    int sensitive = jinja_truth(c->a[2]);
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value list = sorted(r, items, c->a[0], sensitive, 0);
    struct jinja_value out = jinja_list(&r->heap), group = {0}, last = {0};
    if (c->a[1].kind > JINJA_NONE)
        return jinja_fail(r, INFER_ERR_UNSUPPORTED, "groupby with a default is not supported");
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_value item = list.list->items[i];
        struct jinja_value key = key_of(r, item, c->a[0], sensitive);
        if (i == 0 || !jinja_equal(r, key, last)) {
            group = jinja_list(&r->heap);
            struct jinja_value named = jinja_pair(r, jinja_path(r, item, c->a[0]), group);
            named.flag = JINJA_TUPLE_GROUP;
            jinja_list_push(&r->heap, out, named);
        }
        jinja_list_push(&r->heap, group, item);
        last = key;
    }
    return out;
}

static const struct jinja_callable *find_or_fail(struct jinja_render *r, struct jinja_value name,
                                                 int test)
{
    if (name.kind != JINJA_STRING) {
        jinja_fail(r, INFER_ERR_INVALID, "the name of a %s must be a text",
                   test ? "test" : "filter");
        return NULL;
    }
    const struct jinja_callable *f =
        test ? jinja_find_test(name.text) : jinja_find_filter(name.text);
    if (!f)
        jinja_fail(r, INFER_ERR_UNSUPPORTED, "the %s '%.*s' is not supported",
                   test ? "test" : "filter", (int)BASE_MIN(name.text.size, (size_t)64),
                   name.text.data);
    return f;
}

static const struct jinja_value *named(const struct jinja_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (base_view_equal(args->named[i].name, name))
            return &args->named[i].value;
    return NULL;
}

/* map(attribute="a.b", default=x): the attribute of each item. */
static struct jinja_value map_attribute(struct jinja_render *r, const struct jinja_call *c)
{
    const struct jinja_value *attribute = named(c->args, "attribute");
    const struct jinja_value *fallback = named(c->args, "default");
    if (!attribute || c->args->n_named != 1u + (fallback != NULL))
        return jinja_fail(r, INFER_ERR_INVALID, "map needs a filter or attribute=name");
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value out = jinja_list_of(r, JINJA_ITERATOR, items.size);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_value v = jinja_path(r, items.items[i], *attribute);
        if (v.kind == JINJA_UNDEFINED && fallback && fallback->kind != JINJA_NONE)
            v = *fallback;
        out.list->items[out.list->size++] = v;
    }
    return out;
}

static struct jinja_value filter_map(struct jinja_render *r, const struct jinja_call *c)
{
    if (!jinja_truth(c->self))
        return jinja_list_of(r, JINJA_ITERATOR, 0);
    if (c->args->n == 0)
        return map_attribute(r, c);
    struct jinja_args rest = {c->args->at + 1, c->args->n - 1, c->args->named, c->args->n_named};
    const struct jinja_callable *f = find_or_fail(r, c->args->at[0], 0);
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value out = jinja_list_of(r, JINJA_ITERATOR, items.size);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++)
        out.list->items[out.list->size++] = jinja_invoke(r, f, items.items[i], &rest, "filter");
    return out;
}

/* select, reject and their forms that look at an attribute. */
static struct jinja_value pick(struct jinja_render *r, const struct jinja_call *c, int by_attribute,
                               int wanted)
{
    size_t n = by_attribute;
    if (!jinja_truth(c->self))
        return jinja_list_of(r, JINJA_ITERATOR, 0);
    if (c->args->n < n)
        return jinja_fail(r, INFER_ERR_INVALID, "%s needs the name of an attribute",
                          c->function->name);
    const struct jinja_callable *test = NULL;
    struct jinja_args rest = {NULL, 0, c->args->named, c->args->n_named};
    if (c->args->n > n) {
        test = find_or_fail(r, c->args->at[n], 1);
        rest.at = c->args->at + n + 1;
        rest.n = c->args->n - n - 1;
    }
    struct jinja_list items = jinja_walk(r, c->self);
    struct jinja_value out = jinja_list_of(r, JINJA_ITERATOR, items.size);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_value v =
            by_attribute ? jinja_path(r, items.items[i], c->args->at[0]) : items.items[i];
        if (test && !jinja_failed(r))
            v = jinja_invoke(r, test, v, &rest, "test");
        if (jinja_truth(v) == wanted)
            out.list->items[out.list->size++] = items.items[i];
    }
    return out;
}

static struct jinja_value filter_select(struct jinja_render *r, const struct jinja_call *c)
{
    return pick(r, c, 0, 1);
}

static struct jinja_value filter_reject(struct jinja_render *r, const struct jinja_call *c)
{
    return pick(r, c, 0, 0);
}

static struct jinja_value filter_selectattr(struct jinja_render *r, const struct jinja_call *c)
{
    return pick(r, c, 1, 1);
}

static struct jinja_value filter_rejectattr(struct jinja_render *r, const struct jinja_call *c)
{
    return pick(r, c, 1, 0);
}

static const struct jinja_callable filters[] = {
    {"join", filter_join, "d? attribute?"},
    {"list", filter_list, ""},
    {"first", filter_first, ""},
    {"last", filter_last, ""},
    {"items", filter_items, ""},
    {"map", filter_map, "*"},
    {"select", filter_select, "*"},
    {"reject", filter_reject, "*"},
    {"selectattr", filter_selectattr, "*"},
    {"rejectattr", filter_rejectattr, "*"},
    {"dictsort", filter_dictsort, "case_sensitive? by? reverse?"},
    {"sort", filter_sort, "reverse? case_sensitive? attribute?"},
    {"unique", filter_unique, "case_sensitive? attribute?"},
    {"reverse", filter_reverse, ""},
    {"min", filter_min, "case_sensitive? attribute?"},
    {"max", filter_max, "case_sensitive? attribute?"},
    {"sum", filter_sum, "attribute? start?"},
    {"batch", filter_batch, "linecount fill_with?"},
    {"slice", filter_slice, "slices fill_with?"},
    {"groupby", filter_groupby, "attribute default? case_sensitive?"},
};

const struct jinja_callable *jinja_find_filter_of_lists(struct base_view name)
{
    return jinja_find_in(filters, BASE_COUNT(filters), name);
}
