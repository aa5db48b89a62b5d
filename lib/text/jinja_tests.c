/* What can stand after `is`. */
#include "text/jinja_internal.h"

#define TEST(name, condition)                                                                      \
    static struct jinja_value name(struct jinja_render *r, const struct jinja_call *c)             \
    {                                                                                              \
        BASE_UNUSED(r);                                                                            \
        return jinja_bool(condition);                                                              \
    }

TEST(test_defined, c->self.kind != JINJA_UNDEFINED)
TEST(test_undefined, c->self.kind == JINJA_UNDEFINED)
TEST(test_none, c->self.kind == JINJA_NONE)
TEST(test_boolean, c->self.kind == JINJA_BOOL)
TEST(test_true, c->self.kind == JINJA_BOOL && c->self.boolean)
TEST(test_false, c->self.kind == JINJA_BOOL && !c->self.boolean)
TEST(test_integer, c->self.kind == JINJA_INT)
TEST(test_float, c->self.kind == JINJA_FLOAT)
TEST(test_number, c->self.kind >= JINJA_BOOL && c->self.kind <= JINJA_FLOAT)
TEST(test_string, c->self.kind == JINJA_STRING)
TEST(test_mapping, c->self.kind == JINJA_DICT)
TEST(test_iterable, jinja_iterable(c->self))
TEST(test_sequence, c->self.kind == JINJA_UNDEFINED || c->self.kind == JINJA_RANGE ||
                        (c->self.kind >= JINJA_STRING && c->self.kind <= JINJA_DICT))
TEST(test_callable, c->self.kind == JINJA_UNDEFINED || c->self.kind == JINJA_LOOP ||
                        c->self.kind == JINJA_JOINER ||
                        (c->self.kind >= JINJA_MACRO && c->self.kind <= JINJA_METHOD))
TEST(test_escaped, c->self.kind == JINJA_STRING && (c->self.flag & JINJA_TEXT_SAFE))
TEST(test_in, jinja_contains(r, c->self, c->a[0]))
TEST(test_eq, jinja_equal(r, c->self, c->a[0]))
TEST(test_ne, !jinja_equal(r, c->self, c->a[0]))
TEST(test_lt, jinja_order(r, c->self, c->a[0], "<") == -1)
TEST(test_le, jinja_order(r, c->self, c->a[0], "<=") <= 0)
TEST(test_gt, jinja_order(r, c->self, c->a[0], ">") == 1)
TEST(test_filter, c->self.kind == JINJA_STRING && jinja_find_filter(c->self.text) != NULL)
TEST(test_test, c->self.kind == JINJA_STRING && jinja_find_test(c->self.text) != NULL)

static struct jinja_value test_ge(struct jinja_render *r, const struct jinja_call *c)
{
    int order = jinja_order(r, c->self, c->a[0], ">=");
    return jinja_bool(order == 0 || order == 1);
}

/* Identity: scalars of one kind are the same when equal, the rest when one object. */
static struct jinja_value test_sameas(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value a = c->self, b = c->a[0];
    BASE_UNUSED(r);
    if (a.kind != b.kind)
        return jinja_bool(0);
    return jinja_bool(a.kind < JINJA_LIST ? jinja_same_key(a, b) : a.list == b.list);
}

static struct jinja_value divides(struct jinja_render *r, const struct jinja_call *c,
                                  struct jinja_value by, int64_t rest)
{
    struct jinja_value v = jinja_binary(r, JINJA_T_MOD, c->self, by);
    return jinja_failed(r) ? v : jinja_bool(jinja_equal(r, v, jinja_int(rest)));
}

static struct jinja_value test_odd(struct jinja_render *r, const struct jinja_call *c)
{
    return divides(r, c, jinja_int(2), 1);
}

static struct jinja_value test_even(struct jinja_render *r, const struct jinja_call *c)
{
    return divides(r, c, jinja_int(2), 0);
}

static struct jinja_value test_divisibleby(struct jinja_render *r, const struct jinja_call *c)
{
    return divides(r, c, c->a[0], 0);
}

/* `is lower` and `is upper` are the methods of texts, for any value's text. */
static struct jinja_value ask_text(struct jinja_render *r, const struct jinja_call *c,
                                   const char *method)
{
    struct jinja_args none = {0};
    return jinja_invoke(r, jinja_find_text_test(jinja_view_of(method)), jinja_str(r, c->self),
                        &none, "test");
}

static struct jinja_value test_lower(struct jinja_render *r, const struct jinja_call *c)
{
    return ask_text(r, c, "islower");
}

static struct jinja_value test_upper(struct jinja_render *r, const struct jinja_call *c)
{
    return ask_text(r, c, "isupper");
}

static const struct jinja_callable tests[] = {
    {"defined", test_defined, ""},
    {"string", test_string, ""},
    {"none", test_none, ""},
    {"mapping", test_mapping, ""},
    {"iterable", test_iterable, ""},
    {"sequence", test_sequence, ""},
    {"undefined", test_undefined, ""},
    {"boolean", test_boolean, ""},
    {"true", test_true, ""},
    {"false", test_false, ""},
    {"number", test_number, ""},
    {"integer", test_integer, ""},
    {"float", test_float, ""},
    {"in", test_in, "seq"},
    {"equalto", test_eq, "/other"},
    {"eq", test_eq, "/other"},
    {"==", test_eq, "/other"},
    {"ne", test_ne, "/other"},
    {"!=", test_ne, "/other"},
    {"lt", test_lt, "/other"},
    {"<", test_lt, "/other"},
    {"lessthan", test_lt, "/other"},
    {"le", test_le, "/other"},
    {"<=", test_le, "/other"},
    {"gt", test_gt, "/other"},
    {">", test_gt, "/other"},
    {"greaterthan", test_gt, "/other"},
    {"ge", test_ge, "/other"},
    {">=", test_ge, "/other"},
    {"odd", test_odd, ""},
    {"even", test_even, ""},
    {"divisibleby", test_divisibleby, "num"},
    {"lower", test_lower, ""},
    {"upper", test_upper, ""},
    {"callable", test_callable, ""},
    {"sameas", test_sameas, "other"},
    {"escaped", test_escaped, ""},
    {"filter", test_filter, ""},
    {"test", test_test, ""},
};

const struct jinja_callable *jinja_find_test(struct base_view name)
{
    return jinja_find_in(tests, BASE_COUNT(tests), name);
}
