/* The template language: features against Jinja2, errors, bounds, failing allocations. */
#include "support/test.h"

#include "base/error.h"
#include "jinja_cases.h"
#include "support/test_alloc.h"
#include "text/jinja_from_json.h"

static const struct jinja_time noon = {2025, 1, 15, 12, 0, 0};

static struct jinja_value context_make(struct jinja_heap *h, const char *text)
{
    const struct base_json *json;
    jinja_heap_init(h, &base_alloc_default, 0);
    assert_ok(base_json_parse(&json, &h->arena, text, strlen(text)));
    struct jinja_value context = jinja_from_json(h, json, NULL, NULL);
    assert_int_equal(h->status, INFER_OK);
    return context;
}

static infer_status render(const struct base_alloc *a, const char *source, const char *context,
                           struct jinja_limits limits, struct base_str *out)
{
    struct jinja_template *t = NULL;
    struct jinja_options options = {.now = &noon, .limits = limits};
    struct jinja_heap heap;
    struct jinja_value variables = context_make(&heap, context ? context : context_json);
    infer_status st = jinja_template_create(&t, a, source, strlen(source));
    if (st == INFER_OK)
        st = jinja_template_render(t, a, variables, &options, out);
    else
        assert_null(t);
    jinja_template_destroy(&t);
    jinja_heap_release(&heap);
    return st;
}

static void check_cases(const struct jinja_case *cases, size_t n)
{
    struct jinja_heap heap;
    struct jinja_options options = {.now = &noon};
    struct jinja_value context = context_make(&heap, context_json);
    for (size_t i = 0; i < n; i++) {
        struct jinja_template *t = NULL;
        struct base_str out;
        base_str_init(&out, &base_alloc_default, 0);
        assert_ok(jinja_template_create(&t, &base_alloc_default, cases[i].source,
                                        strlen(cases[i].source)));
        infer_status st = jinja_template_render(t, &base_alloc_default, context, &options, &out);
        if (st != INFER_OK)
            fail_msg("%s\ngave %d: %s", cases[i].source, (int)st, base_error_text());
        assert_string_equal(out.data, cases[i].expected);
        base_str_release(&out);
        jinja_template_destroy(&t);
    }
    jinja_heap_release(&heap);
}

#define CASES(name)                                                                                \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        check_cases(name##_cases, BASE_COUNT(name##_cases));                                       \
    }

CASES(printing)
CASES(arithmetic)
CASES(comparing)
CASES(reaching)
CASES(texts)
CASES(formats)
CASES(numbers)
CASES(lists)
CASES(json)
CASES(tests)
CASES(markup)
CASES(loops)
CASES(scopes)
CASES(white_space)

static const struct {
    const char *source;
    infer_status status;
    const char *sentence;
} errors[] = {
    {"{{ }}", INFER_ERR_FORMAT, "line 1, column 4: expected an expression, got '}}'"},
    {"a\n{% if x %}\n  b", INFER_ERR_FORMAT, "line 3, column 4: the template ends before 'elif'"},
    {"{% for x in y %}{% endif %}", INFER_ERR_FORMAT, "line 1, column 20: unknown tag 'endif'"},
    {"é\n {% foo %}", INFER_ERR_FORMAT, "line 2, column 5: unknown tag 'foo'"},
    {"é {{ (1 }}", INFER_ERR_FORMAT, "line 1, column 9: unexpected '}', expected ')'"},
    {"{{ 1) }}", INFER_ERR_FORMAT, "line 1, column 5: unexpected ')'"},
    {"{{ 'abc }}", INFER_ERR_FORMAT, "line 1, column 4: this string has no end"},
    {"{{ @ }}", INFER_ERR_FORMAT, "line 1, column 4: unexpected character '@'"},
    {"x\n{# y", INFER_ERR_FORMAT, "line 2, column 1: this comment has no end '#}'"},
    {"{% raw %} y", INFER_ERR_FORMAT, "line 1, column 1: this raw block has no '{% endraw %}'"},
    {"{% set 1 = 2 %}", INFER_ERR_FORMAT, "line 1, column 8: cannot assign to this expression"},
    {"{{ f(a=1, 2) }}", INFER_ERR_FORMAT,
     "line 1, column 5: the arguments of this call are out of order"},
    {"{% break %}", INFER_ERR_FORMAT, "line 1, column 4: 'break' outside of a loop"},
    {"{% macro m(a=1, b) %}{% endmacro %}", INFER_ERR_FORMAT,
     "line 1, column 17: a parameter without a default follows one with a default"},
    {"{{ '\\ud800' }}", INFER_ERR_FORMAT,
     "line 1, column 5: U+D800 in a string is not a character"},
    {"ab\xff", INFER_ERR_FORMAT, "the template is not UTF-8 at byte 2"},
    {"{% include 'x' %}", INFER_ERR_UNSUPPORTED,
     "line 1, column 4: the tag 'include' is not supported"},
    {"\n{{ 1 | nope }}", INFER_ERR_UNSUPPORTED,
     "line 2, column 8: the filter 'nope' is not supported"},
    {"{{ 1 | random }}", INFER_ERR_UNSUPPORTED,
     "line 1, column 8: the filter 'random' is not supported"},
    {"{{ 1 is nope }}", INFER_ERR_UNSUPPORTED,
     "line 1, column 9: the test 'nope' is not supported"},
    {"{% if yes %}{{ 1 | nope }}{% endif %}", INFER_ERR_UNSUPPORTED,
     "line 1, column 20: the filter 'nope' is not supported"},
    {"{{ nums | map('nope') | list }}", INFER_ERR_UNSUPPORTED,
     "line 1, column 11: the filter 'nope' is not supported"},
    {"{{ 'a'.encode() }}", INFER_ERR_UNSUPPORTED,
     "line 1, column 14: the method 'encode' is not supported"},
    {"{{ 99999999999999999999 }}", INFER_ERR_UNSUPPORTED,
     "line 1, column 4: an integer of more than 64 bits is not supported"},
    {"{{ d.keys }}", INFER_ERR_UNSUPPORTED, "line 1, column 1: printing a method is not supported"},
    {"{{ raise_exception('Only "
     "\xc3\xa9! %s') }}",
     INFER_ERR_INVALID, "Only \xc3\xa9! %s"},
    {"\n\n{{ missing.foo }}", INFER_ERR_INVALID, "line 3, column 11: 'missing' is undefined"},
    {"{{ d.zz + 1 }}", INFER_ERR_INVALID, "line 1, column 9: 'dict object' has no attribute 'zz'"},
    {"{{ nil.x.y }}", INFER_ERR_INVALID, "line 1, column 9: 'None' has no attribute 'x'"},
    {"{{ nums.append(1) }}", INFER_ERR_INVALID,
     "line 1, column 15: access to attribute 'append' of 'list' object is unsafe"},
    {"{{ 'a' + 1 }}", INFER_ERR_INVALID,
     "line 1, column 8: can only concatenate str (not \"int\") to str"},
    {"{{ 1 < 'a' }}", INFER_ERR_INVALID,
     "line 1, column 6: '<' not supported between instances of 'int' and 'str'"},
    {"{{ 1 // 0 }}", INFER_ERR_INVALID, "line 1, column 6: integer division or modulo by zero"},
    {"{{ missing | tojson }}", INFER_ERR_INVALID,
     "line 1, column 14: Object of type Undefined is not JSON serializable"},
    {"{{ words | map('upper') | tojson }}", INFER_ERR_INVALID,
     "line 1, column 27: Object of type generator is not JSON serializable"},
    {"{% for a, b in [(1,2,3)] %}{% endfor %}", INFER_ERR_INVALID,
     "line 1, column 4: too many values to unpack (expected 2)"},
    {"{% set d.x = 1 %}", INFER_ERR_INVALID,
     "line 1, column 4: cannot assign attribute on non-namespace object"},
    {"{{ {[1]: 2} }}", INFER_ERR_INVALID, "line 1, column 4: unhashable type: 'list'"},
    {"{{ 'a' | trim(foo=1) }}", INFER_ERR_INVALID,
     "line 1, column 10: filter 'trim' got an unexpected keyword argument 'foo'"},
    {"{{ 'abc'.replace('a') }}", INFER_ERR_INVALID,
     "line 1, column 17: method 'replace' needs the argument 'new'"},
    {"{{ 5() }}", INFER_ERR_INVALID,
     "line 1, column 5: 'int' object is not callable with these arguments"},
    {"{{ 9223372036854775807 + 1 }}", INFER_ERR_LIMIT,
     "line 1, column 24: an integer of more than 64 bits is not supported"},
    {"{{ range(100001) }}", INFER_ERR_LIMIT, "line 1, column 9: a range of more than 100000 items"},
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(errors); i++) {
        struct base_str out;
        base_str_init(&out, &base_alloc_default, 0);
        assert_ok(base_str_append(&out, "kept", 4));
        infer_status st =
            render(&base_alloc_default, errors[i].source, NULL, (struct jinja_limits){0}, &out);
        if (st != errors[i].status)
            fail_msg("%s\ngave %d: %s", errors[i].source, (int)st, base_error_text());
        assert_string_equal(base_error_text(), errors[i].sentence);
        assert_string_equal(out.data, "kept"); /* what stood there before the failure */
        base_str_release(&out);
    }
}

static const struct {
    const char *source;
    struct jinja_limits limits;
    const char *sentence; /* a part of it */
} bounds[] = {
    {"{% set r = range(99999) | list %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
     {0},
     "steps"},
    {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
     {0},
     "bytes"},
    {"{% for i in range(9) %}{{ i }}{% endfor %}", {.steps = 20}, "more than 20 steps"},
    {"{{ 'x' * 1000000000 }}", {0}, "longer than 67108864 bytes"},
    {"{{ 'x' * 101 }}", {.output_bytes = 100}, "longer than 100 bytes"},
    {"{{ [0] * 1000000000000 }}", {0}, "more than 268435456 bytes"},
    {"{{ [nums] * 100000 }}", {.memory_bytes = 1 << 20}, "more than 1048576 bytes"},
    {"{{ ('x' * 60000000) | upper | tojson }}", {.memory_bytes = 1 << 20}, "bytes"},
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {0}, "more than 400 levels"},
    {"{% for n in tree recursive %}{{ loop(tree) }}{% endfor %}", {0}, "more than 400 levels"},
    {"{% set ns = namespace(v=[]) %}{% for i in range(9999) %}{% set ns.v = [ns.v] %}{% endfor %}"
     "{{ ns.v }}",
     {0},
     "more than 400 levels"},
    {"{% set ns = namespace(a=[], b=[]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
     "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
     {.steps = 2000000},
     "steps"},
    {"{% set ns = namespace(a=()) %}{% for i in range(60) %}{% set ns.a = (ns.a, ns.a) %}"
     "{% endfor %}{{ {ns.a: 1} }}",
     {0},
     "unhashable"},
    {"{% set ns = namespace() %}{% set ns.n = ns %}{{ ns }}", {0}, "more than 400 levels"},
    {"{% set a = 'a' * 200000 %}{% for i in range(99999) %}{% if 'b' in a %}{% endif %}{% endfor "
     "%}",
     {.steps = 2000000},
     "steps"},
    {"{% set a = 'a' * 400000 %}{{ a.rfind('b' + 'a' * 200000) }}", {.steps = 2000000}, "steps"},
    {"{{ range(99999) | list | batch(1, 1) | list | length * (range(99999) | slice(99999) | list"
     " | length) }}{{ range(1000) | batch(99999999999, 'x') | list }}",
     {0},
     "bytes"},
    {"{{ '%999999999999d' % 1 }}", {0}, "longer than"},
    {"{{ '{:>999999999999}'.format(1) }}", {0}, "longer than"},
};

static void test_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(bounds); i++) {
        struct base_str out;
        base_str_init(&out, &base_alloc_default, 0);
        infer_status st =
            render(&base_alloc_default, bounds[i].source, NULL, bounds[i].limits, &out);
        if (st != INFER_ERR_LIMIT && !strstr(bounds[i].sentence, "unhashable"))
            fail_msg("%s\ngave %d: %s", bounds[i].source, (int)st, base_error_text());
        if (!strstr(base_error_text(), bounds[i].sentence))
            fail_msg("%s\ngave: %s", bounds[i].source, base_error_text());
        assert_int_equal(out.size, 0);
        base_str_release(&out);
    }
}

/* `count` times `open`, then `middle`, then `count` times `close`. */
static infer_status create_nested(size_t count, const char *open, const char *middle,
                                  const char *close)
{
    struct jinja_template *t = NULL;
    struct base_str source;
    base_str_init(&source, &base_alloc_default, 0);
    for (size_t i = 0; i < count; i++)
        assert_ok(base_str_append(&source, open, strlen(open)));
    assert_ok(base_str_append(&source, middle, strlen(middle)));
    for (size_t i = 0; i < count; i++)
        assert_ok(base_str_append(&source, close, strlen(close)));
    infer_status st = jinja_template_create(&t, &base_alloc_default, source.data, source.size);
    jinja_template_destroy(&t);
    base_str_release(&source);
    return st;
}

static void test_nesting_of_source(void **state)
{
    (void)state;
    static const char *const tags[][2] = {{"{% if x %}", "{% endif %}"},
                                          {"{% for x in y %}", "{% endfor %}"}};
    for (size_t i = 0; i < BASE_COUNT(tags); i++) {
        assert_int_equal(create_nested(20, tags[i][0], "", tags[i][1]), INFER_OK);
        assert_int_equal(create_nested(30000, tags[i][0], "", tags[i][1]), INFER_ERR_LIMIT);
    }
    assert_int_equal(create_nested(0, "", "{{ ((((1)))) + [[[1]]][0][0][0] }}", ""), INFER_OK);
    /* One expression each, as long as the template may be. */
    static const char *const open[] = {"(", "[", "not ", "-", "x.y + ", "x.", "x ** "};
    for (size_t i = 0; i < BASE_COUNT(open); i++) {
        struct base_str source;
        struct jinja_template *t = NULL;
        base_str_init(&source, &base_alloc_default, 0);
        assert_ok(base_str_append(&source, "{{ ", 3));
        for (size_t k = 0; k < 50000; k++)
            assert_ok(base_str_append(&source, open[i], strlen(open[i])));
        infer_status st = jinja_template_create(&t, &base_alloc_default, source.data, source.size);
        assert_true(st == INFER_ERR_LIMIT || st == INFER_ERR_FORMAT);
        assert_null(t);
        base_str_release(&source);
    }
    assert_int_equal(create_nested(1 << 20, "x", "", "y"), INFER_ERR_LIMIT);
}

/* Text that grows piece by piece keeps room behind it: memory stays linear. */
static void test_growing_text(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "{% set ns = namespace(t='') %}{% for i in range(20000) %}"
        "{% set ns.t = ns.t ~ 'abcdefghij' %}{% endfor %}{{ ns.t | length }}",
        "{% set ns = namespace(t='') %}{% for i in range(20000) %}"
        "{% set ns.t = ns.t + ('abcde' + 'fghij') %}{% endfor %}{{ ns.t | length }}",
    };
    for (size_t i = 0; i < BASE_COUNT(sources); i++) {
        struct base_str out;
        struct jinja_limits limits = {.memory_bytes = 16 << 20};
        base_str_init(&out, &base_alloc_default, 0);
        assert_ok(render(&base_alloc_default, sources[i], NULL, limits, &out));
        assert_string_equal(out.data, "200000");
        base_str_release(&out);
    }
    struct base_str out; /* two texts that share their beginning do not disturb each other */
    base_str_init(&out, &base_alloc_default, 0);
    assert_ok(
        render(&base_alloc_default,
               "{% set a = 'x' * 300 + 'y' %}{% set b = a + 'b' * 300 %}{% set b2 = b + 'B' %}"
               "{% set c = b + 'C' %}{{ b2[-2:] }}{{ c[-2:] }}{{ b[-2:] }}{{ a[-1] }}",
               NULL, (struct jinja_limits){0}, &out));
    assert_string_equal(out.data, "bBbCbby");
    base_str_release(&out);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(a, b='x' * 99) %}{{ a }}{{ caller() }}{% endmacro %}"
        "{% set big %}{{ messages | tojson(indent=2) }}{% endset %}"
        "{% for x in nums | sort if x > 0 %}{{ loop.index ~ x ~ d.items() | list }}"
        "{% call m(x, b=[1, {'a': \"b\\n\" 'c'}]) %}{{ '%5.2f' % x }}{% endcall %}{% endfor %}"
        "{{ big * 2000 + 'x' }}{{ ([1, 2] * 5000) | join('-') | upper | length }}";
    int failures = 0;
    for (size_t n = 1;; n++) {
        struct test_alloc a;
        struct base_str out;
        test_alloc_init(&a);
        a.fail_at = n;
        base_str_init(&out, &a.alloc, 0);
        infer_status st = render(&a.alloc, source, NULL, (struct jinja_limits){0}, &out);
        base_str_release(&out);
        assert_int_equal(a.live_blocks, 0);
        if (st == INFER_OK)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        failures++;
    }
    assert_true(failures > 20);
}

static void test_time(void **state)
{
    (void)state;
    static const char source[] = "{{ strftime_now is defined }}";
    struct jinja_template *t = NULL;
    struct jinja_heap heap;
    struct base_str out;
    jinja_heap_init(&heap, &base_alloc_default, 0);
    base_str_init(&out, &base_alloc_default, 0);
    assert_ok(jinja_template_create(&t, &base_alloc_default, source, strlen(source)));
    struct jinja_value context = jinja_dict(&heap);
    assert_ok(jinja_template_render(t, &base_alloc_default, context, NULL, &out));
    assert_string_equal(out.data, "False"); /* no clock but the host's */
    assert_int_equal(jinja_template_render(t, &base_alloc_default, jinja_none(), NULL, &out),
                     INFER_ERR_INVALID);
    jinja_template_destroy(&t);
    jinja_heap_release(&heap);
    base_str_release(&out);
}

/* Bytes that are no UTF-8 count as one character each and pass through. */
static void test_illegal_bytes(void **state)
{
    (void)state;
    static const char source[] = "{{ m | length }}{{ m[1] }}{{ m | upper }}{{ m | tojson }}";
    struct jinja_template *t = NULL;
    struct jinja_heap heap;
    struct base_str out;
    jinja_heap_init(&heap, &base_alloc_default, 0);
    base_str_init(&out, &base_alloc_default, 0);
    struct jinja_value context = jinja_dict(&heap);
    jinja_dict_set(&heap, context, jinja_string("m", 1), jinja_string("a\xff\xc3z", 4));
    assert_ok(jinja_template_create(&t, &base_alloc_default, source, strlen(source)));
    assert_ok(jinja_template_render(t, &base_alloc_default, context, NULL, &out));
    assert_string_equal(out.data, "4\xff"
                                  "A\xff\xc3Z\"a\xff\xc3z\"");
    jinja_template_destroy(&t);
    jinja_heap_release(&heap);
    base_str_release(&out);
}

static void test_dicts(void **state)
{
    (void)state;
    struct jinja_heap heap;
    struct jinja_template *t = NULL;
    struct base_str out;
    char keys[1000][8];
    static const char source[] =
        "{{ d | length }} {{ d.k0 }} {{ d.k999 }} {{ d.k500 }} {{ 'k1000' in d }} "
        "{{ (d | list)[998] }}";
    jinja_heap_init(&heap, &base_alloc_default, 0);
    base_str_init(&out, &base_alloc_default, 0);
    struct jinja_value context = jinja_dict(&heap), d = jinja_dict(&heap);
    jinja_dict_set(&heap, context, jinja_string("d", 1), d);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            snprintf(keys[i], sizeof keys[i], "k%d", i);
            jinja_dict_set(&heap, d, jinja_string(keys[i], strlen(keys[i])), jinja_int(i + round));
        }
    assert_int_equal(heap.status, INFER_OK);
    assert_ok(jinja_template_create(&t, &base_alloc_default, source, strlen(source)));
    assert_ok(jinja_template_render(t, &base_alloc_default, context, NULL, &out));
    assert_string_equal(out.data, "1000 1 1000 501 False k998");
    jinja_dict_set(&heap, d, jinja_list(&heap), jinja_none()); /* no key */
    assert_int_equal(heap.status, INFER_ERR_INVALID);
    jinja_template_destroy(&t);
    jinja_heap_release(&heap);
    base_str_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_printing),
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_comparing),
        cmocka_unit_test(test_reaching),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_tests),
        cmocka_unit_test(test_markup),
        cmocka_unit_test(test_loops),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_white_space),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_nesting_of_source),
        cmocka_unit_test(test_growing_text),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_illegal_bytes),
        cmocka_unit_test(test_dicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
