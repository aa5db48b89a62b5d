/* Methods of dicts, lists and the template's own objects; lookup of all methods. */
#include "text/jinja_internal.h"

static struct jinja_value dict_view(struct jinja_render *r, const struct jinja_call *c, int which)
{
    const struct jinja_dict *d = c->self.dict;
    struct jinja_value view = jinja_list_of(r, JINJA_VIEW, d->size);
    jinja_charge(r, d->size);
    for (size_t i = 0; i < d->size && !jinja_failed(r); i++) {
        const struct jinja_entry *e = &d->entries[i];
        view.list->items[view.list->size++] = which == JINJA_VIEW_KEYS ? e->key
                                              : which == JINJA_VIEW_VALUES
                                                  ? e->value
                                                  : jinja_pair(r, e->key, e->value);
    }
    view.flag = (uint8_t)which;
    return view;
}

static struct jinja_value dict_keys(struct jinja_render *r, const struct jinja_call *c)
{
    return dict_view(r, c, JINJA_VIEW_KEYS);
}

static struct jinja_value dict_values(struct jinja_render *r, const struct jinja_call *c)
{
    return dict_view(r, c, JINJA_VIEW_VALUES);
}

static struct jinja_value dict_items(struct jinja_render *r, const struct jinja_call *c)
{
    return dict_view(r, c, JINJA_VIEW_ITEMS);
}

static struct jinja_value dict_get(struct jinja_render *r, const struct jinja_call *c)
{
    if (!jinja_hashable(c->a[0]))
        return jinja_fail(r, INFER_ERR_INVALID, "unhashable type: '%s'",
                          jinja_type_name(c->a[0].kind));
    const struct jinja_value *v = jinja_dict_find(c->self.dict, c->a[0]);
    return v ? *v : c->a[1].kind == JINJA_MISSING ? jinja_none() : c->a[1];
}

static struct jinja_value dict_copy(struct jinja_render *r, const struct jinja_call *c)
{
    BASE_UNUSED(r);
    return c->self; /* nothing can change either of them */
}

static struct jinja_value list_count(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t n = 0;
    for (size_t i = 0; i < c->self.list->size && !jinja_failed(r); i++)
        n += jinja_equal(r, c->self.list->items[i], c->a[0]);
    return jinja_int(n);
}

static struct jinja_value list_index(struct jinja_render *r, const struct jinja_call *c)
{
    for (size_t i = 0; i < c->self.list->size && !jinja_failed(r); i++)
        if (jinja_equal(r, c->self.list->items[i], c->a[0]))
            return jinja_int((int64_t)i);
    return jinja_fail(r, INFER_ERR_INVALID, "the value is not in the list");
}

static struct jinja_value loop_cycle(struct jinja_render *r, const struct jinja_call *c)
{
    if (c->args->n == 0 || c->args->n_named)
        return jinja_fail(r, INFER_ERR_INVALID, "no items for cycling given");
    return c->args->at[c->self.loop->index % c->args->n];
}

static struct jinja_value loop_changed(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value now = jinja_list_of(r, JINJA_TUPLE, c->args->n);
    if (jinja_failed(r))
        return now;
    if (c->args->n)
        memcpy(now.list->items, c->args->at, c->args->n * sizeof *c->args->at);
    now.list->size = c->args->n;
    struct jinja_value before = c->self.loop->changed;
    if (before.kind != JINJA_MISSING && jinja_equal(r, before, now))
        return jinja_bool(0);
    c->self.loop->changed = now;
    return jinja_bool(1);
}

static struct jinja_value cycler_next(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_cycler *cycler = c->self.cycler;
    struct jinja_value v = cycler->items.items[cycler->position];
    BASE_UNUSED(r);
    cycler->position = (cycler->position + 1) % cycler->items.size;
    return v;
}

static struct jinja_value cycler_reset(struct jinja_render *r, const struct jinja_call *c)
{
    BASE_UNUSED(r);
    c->self.cycler->position = 0;
    return jinja_none();
}

static const struct jinja_callable dict_methods[] = {
    {"get", dict_get, "/key default?"}, {"items", dict_items, ""}, {"keys", dict_keys, ""},
    {"values", dict_values, ""},        {"copy", dict_copy, ""},   {"fromkeys", NULL, "*"},
};

static const struct jinja_callable list_methods[] = {
    {"count", list_count, "/value"},
    {"index", list_index, "/value"},
    {"copy", dict_copy, ""},
};

static const struct jinja_callable loop_methods[] = {
    {"cycle", loop_cycle, "*"},
    {"changed", loop_changed, "*"},
};

static const struct jinja_callable cycler_methods[] = {
    {"next", cycler_next, ""},
    {"reset", cycler_reset, ""},
};

const struct jinja_callable *jinja_find_method(uint8_t kind, struct base_view name)
{
    switch (kind) {
    case JINJA_STRING: {
        const struct jinja_callable *f = jinja_find_text_method(name);
        return f ? f : jinja_find_text_test(name);
    }
    case JINJA_DICT:
        return jinja_find_in(dict_methods, BASE_COUNT(dict_methods), name);
    case JINJA_LIST:
        return jinja_find_in(list_methods, BASE_COUNT(list_methods), name);
    case JINJA_TUPLE: /* has no copy() */
        return jinja_find_in(list_methods, 2, name);
    case JINJA_LOOP:
        return jinja_find_in(loop_methods, BASE_COUNT(loop_methods), name);
    case JINJA_CYCLER:
        return jinja_find_in(cycler_methods, BASE_COUNT(cycler_methods), name);
    default:
        return NULL;
    }
}

int jinja_mutates(uint8_t kind, struct base_view name)
{
    static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
    static const char *const of_lists[] = {"append", "clear",  "extend",  "insert",
                                           "pop",    "remove", "reverse", "sort"};
    const char *const *names = kind == JINJA_DICT ? of_dicts : of_lists;
    size_t n = kind == JINJA_DICT   ? BASE_COUNT(of_dicts)
               : kind == JINJA_LIST ? BASE_COUNT(of_lists)
                                    : 0;
    for (size_t i = 0; i < n; i++)
        if (base_view_equal(name, names[i]))
            return 1;
    return 0;
}
