/* Filters over values of any kind, and the lookup of all filters. */
#include "text/jinja_internal.h"

#include <math.h>

static struct jinja_value filter_default(struct jinja_render *r, const struct jinja_call *c)
{
    BASE_UNUSED(r);
    int absent = c->self.kind == JINJA_UNDEFINED || (jinja_truth(c->a[1]) && !jinja_truth(c->self));
    if (!absent)
        return c->self;
    return c->a[0].kind == JINJA_MISSING ? jinja_string("", 0) : c->a[0];
}

static struct jinja_value filter_length(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t n = jinja_length(r, c->self);
    if (n < 0)
        return jinja_fail(r, INFER_ERR_INVALID, "object of type '%s' has no len()",
                          jinja_type_name(c->self.kind));
    return jinja_int(n);
}

static struct jinja_value filter_abs(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t i;
    if (c->self.kind == JINJA_FLOAT)
        return jinja_float(fabs(c->self.real));
    if (jinja_as_int(c->self, &i))
        return i < 0 ? jinja_negate(r, jinja_int(i)) : jinja_int(i);
    if (jinja_defined(r, c->self))
        jinja_fail(r, INFER_ERR_INVALID, "bad operand type for abs(): '%s'",
                   jinja_type_name(c->self.kind));
    return jinja_no_value();
}

/* A float cut to an integer; `fallback` where there is none. */
static struct jinja_value truncate_float(double v, struct jinja_value fallback)
{
    if (!(v > -0x1p63 && v < 0x1p63))
        return fallback;
    return jinja_int((int64_t)v);
}

static struct jinja_value filter_int(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value fallback = c->a[0].kind == JINJA_MISSING ? jinja_int(0) : c->a[0];
    int64_t base = 10, i;
    double real;
    if (c->a[1].kind != JINJA_MISSING && (!jinja_as_int(c->a[1], &base) || base < 0 || base > 36))
        return jinja_fail(r, INFER_ERR_INVALID, "int: the base must be 0 or from 2 to 36");
    switch (c->self.kind) {
    case JINJA_STRING:
        jinja_charge(r, c->self.text.size);
        if (jinja_parse_int(c->self.text, (int)base, &i))
            return jinja_int(i);
        return jinja_parse_float(c->self.text, &real) ? truncate_float(real, fallback) : fallback;
    case JINJA_FLOAT:
        return truncate_float(c->self.real, fallback);
    case JINJA_UNDEFINED:
        jinja_defined(r, c->self);
        return jinja_no_value();
    default:
        return jinja_as_int(c->self, &i) ? jinja_int(i) : fallback;
    }
}

static struct jinja_value filter_float(struct jinja_render *r, const struct jinja_call *c)
{
    double v;
    if (c->self.kind == JINJA_UNDEFINED) {
        jinja_defined(r, c->self);
        return jinja_no_value();
    }
    if (jinja_as_number(c->self, &v))
        return jinja_float(v);
    if (c->self.kind == JINJA_STRING) {
        jinja_charge(r, c->self.text.size);
        jinja_charge(r, JINJA_NUMBER_MAX);
        if (jinja_parse_float(c->self.text, &v))
            return jinja_float(v);
    }
    return c->a[0].kind == JINJA_MISSING ? jinja_float(0.0) : c->a[0];
}

/* Integers only change where the precision is negative, which no template uses. */
static struct jinja_value round_common(struct jinja_render *r, struct jinja_value v, int64_t digits)
{
    int64_t i;
    if (jinja_as_int(v, &i))
        return digits >= 0 ? jinja_int(i)
                           : truncate_float(jinja_round_decimal((double)i, (int)digits), v);
    BASE_UNUSED(r);
    return jinja_float(jinja_round_decimal(v.real, (int)digits));
}

static struct jinja_value filter_round(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t digits = 0;
    double v;
    struct jinja_value method = c->a[1];
    if (!jinja_defined(r, c->self))
        return jinja_no_value();
    if (!jinja_as_number(c->self, &v) ||
        (c->a[0].kind != JINJA_MISSING && !jinja_as_int(c->a[0], &digits)))
        return jinja_fail(r, INFER_ERR_INVALID, "round needs a number and a whole precision");
    digits = BASE_MIN(BASE_MAX(digits, (int64_t)-300), (int64_t)300);
    if (method.kind == JINJA_MISSING ||
        (method.kind == JINJA_STRING && base_view_equal(method.text, "common")))
        return round_common(r, c->self, digits);
    int up = method.kind == JINJA_STRING && base_view_equal(method.text, "ceil");
    if (!up && !(method.kind == JINJA_STRING && base_view_equal(method.text, "floor")))
        return jinja_fail(r, INFER_ERR_INVALID, "method must be common, ceil or floor");
    double unit = pow(10.0, (double)digits);
    return jinja_float((up ? ceil(v * unit) : floor(v * unit)) / unit);
}

static struct jinja_value filter_safe(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value text = jinja_str(r, c->self);
    text.flag |= JINJA_TEXT_SAFE;
    return text;
}

static struct jinja_value filter_escape(struct jinja_render *r, const struct jinja_call *c)
{
    return jinja_escape(r, c->self);
}

static struct jinja_value filter_forceescape(struct jinja_render *r, const struct jinja_call *c)
{
    return jinja_escape(r, jinja_str(r, c->self));
}

static struct jinja_value filter_string(struct jinja_render *r, const struct jinja_call *c)
{
    return c->self.kind == JINJA_STRING ? c->self : jinja_str(r, c->self);
}

static struct jinja_value filter_attr(struct jinja_render *r, const struct jinja_call *c)
{
    if (c->a[0].kind != JINJA_STRING)
        return jinja_fail(r, INFER_ERR_INVALID, "attr needs a name");
    if (c->self.kind == JINJA_DICT && !jinja_find_method(JINJA_DICT, c->a[0].text) &&
        !jinja_mutates(JINJA_DICT, c->a[0].text))
        return jinja_lacking(c->self, c->a[0].text);
    return jinja_attribute(r, c->self, c->a[0].text);
}

static const struct jinja_callable filters[] = {
    {"tojson", jinja_filter_tojson, "ensure_ascii? indent? separators? sort_keys?"},
    {"length", filter_length, ""},
    {"count", filter_length, ""},
    {"default", filter_default, "default_value? boolean?"},
    {"d", filter_default, "default_value? boolean?"},
    {"string", filter_string, ""},
    {"safe", filter_safe, ""},
    {"int", filter_int, "default? base?"},
    {"float", filter_float, "default?"},
    {"abs", filter_abs, ""},
    {"round", filter_round, "precision? method?"},
    {"e", filter_escape, ""},
    {"escape", filter_escape, ""},
    {"forceescape", filter_forceescape, ""},
    {"attr", filter_attr, "name"},
    /* Known to Jinja2, but of no use in a prompt or different from run to run. */
    {"random", NULL, "*"},
    {"pprint", NULL, "*"},
    {"urlize", NULL, "*"},
    {"xmlattr", NULL, "*"},
    {"striptags", NULL, "*"},
    {"wordwrap", NULL, "*"},
    {"filesizeformat", NULL, "*"},
};

const struct jinja_callable *jinja_find_filter(struct base_view name)
{
    const struct jinja_callable *f = jinja_find_in(filters, BASE_COUNT(filters), name);
    if (!f)
        f = jinja_find_filter_of_texts(name);
    return f ? f : jinja_find_filter_of_lists(name);
}
