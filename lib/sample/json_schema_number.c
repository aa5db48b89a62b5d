/* Numbers: bounds and multiples as automata over their digits.
 *
 * Integers are written without fraction and exponent, zero as "0". A number under bounds or
 * "multipleOf" is written without exponent, negative zero is not; any other number as JSON has
 * it. */
#include "sample/json_schema.h"

#include "sample/decimal.h"

#include <math.h>
#include <string.h>

#define FACTOR_MAX 1000 /* of multipleOf: its digits as a whole number */
#define PLACES_MAX 12   /* of multipleOf, behind the point */

/* A bound in digits; `exclusive`: the bound itself is out. */
struct bound {
    struct base_view whole, fraction;
    double value;
    int given, exclusive, negative;
};

struct limits {
    struct bound low, high;
    uint32_t factor, places; /* a multiple of factor / 10^places; factor 0: of nothing */
};

/* ---------------------------------------------------------------- keywords */

static struct base_view keep(struct schema *s, const struct base_str *text)
{
    char *copy = base_arena_strdup(&s->b->arena, text->data ? text->data : "", text->size);
    if (!copy)
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
    return (struct base_view){copy, copy ? text->size : 0};
}

static struct decimal decimal_of(const struct base_json *v)
{
    return v->type == BASE_JSON_INT ? decimal_of_i64(v->as.integer) : decimal_of_f64(v->as.real);
}

static void take_bound(struct schema *s, const struct base_json *schema, const char *keyword,
                       int exclusive, int is_low, struct bound *b)
{
    const struct base_json *v = base_json_get(schema, keyword);
    double value;
    if (!v || schema_failed(s))
        return;
    if (!base_json_f64(v, &value) || !isfinite(value)) {
        schema_fail(s, schema, INFER_ERR_FORMAT,
                    "no number: ", (struct base_view){keyword, strlen(keyword)});
        return;
    }
    if (b->given && (is_low ? value < b->value : value > b->value))
        return;
    exclusive |= b->given && value == b->value && b->exclusive;
    struct decimal d = decimal_of(v);
    struct base_str whole, fraction;
    base_str_init(&whole, &s->alloc, 0);
    base_str_init(&fraction, &s->alloc, 0);
    grammar_builder_fail(s->b, decimal_split(&d, &whole, &fraction));
    *b = (struct bound){.whole = keep(s, &whole),
                        .fraction = keep(s, &fraction),
                        .value = value,
                        .given = 1,
                        .exclusive = exclusive,
                        .negative = d.negative};
    base_str_release(&whole);
    base_str_release(&fraction);
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void take_multiple(struct schema *s, const struct base_json *schema, struct limits *l)
{
    const struct base_json *v = base_json_get(schema, "multipleOf");
    double value;
    if (!v || schema_failed(s))
        return;
    if (!base_json_f64(v, &value) || !(value > 0) || !isfinite(value)) {
        schema_fail(s, schema, INFER_ERR_FORMAT, "\"multipleOf\" is no number above 0",
                    (struct base_view){0});
        return;
    }
    struct decimal d = decimal_of(v);
    uint64_t factor = 0;
    int places = BASE_MAX(d.n - d.exponent, 0);
    for (int i = 0; i < BASE_MAX(d.n, d.exponent) && factor <= FACTOR_MAX; i++)
        factor = 10 * factor + (uint64_t)(i < d.n ? d.digits[i] - '0' : 0);
    if (factor > FACTOR_MAX || places > PLACES_MAX || factor == 0 || (l->factor && l->places)) {
        schema_fail(s, schema, INFER_ERR_UNSUPPORTED,
                    "this \"multipleOf\" has too many digits: at most 1000, or that with the "
                    "point moved",
                    (struct base_view){0});
        return;
    }
    if (l->factor && places) {
        schema_fail(s, schema, INFER_ERR_UNSUPPORTED, "several \"multipleOf\" with fractions",
                    (struct base_view){0});
        return;
    }
    if (l->factor)
        factor = factor / gcd((uint32_t)factor, l->factor) * l->factor;
    if (factor > FACTOR_MAX * FACTOR_MAX / 200)
        schema_fail(s, schema, INFER_ERR_LIMIT, "the common multiple is too large",
                    (struct base_view){0});
    l->factor = (uint32_t)factor;
    l->places = (uint32_t)places;
}

static struct limits limits_of(struct schema *s, const struct schema_all *alt)
{
    struct limits l = {0};
    for (size_t i = 0; i < alt->n && !schema_failed(s); i++) {
        take_bound(s, alt->data[i], "minimum", 0, 1, &l.low);
        take_bound(s, alt->data[i], "exclusiveMinimum", 1, 1, &l.low);
        take_bound(s, alt->data[i], "maximum", 0, 0, &l.high);
        take_bound(s, alt->data[i], "exclusiveMaximum", 1, 0, &l.high);
        take_multiple(s, alt->data[i], &l);
    }
    return l;
}

/* ------------------------------------------------------------------ digits */

static const struct grammar_expr *digit(struct schema *s, int lo, int hi)
{
    struct charset_range r = {(uint32_t)('0' + lo), (uint32_t)('0' + hi)};
    if (lo > hi)
        return grammar_never(s->b);
    return grammar_chars(s->b, &(struct charset){.data = &r, .size = 1});
}

static const struct grammar_expr *digits(struct schema *s, size_t min, uint32_t max)
{
    return grammar_repeat(s->b, digit(s, 0, 9), (uint32_t)min, max);
}

/* Behind the point, "." included or nothing: at least the digits of f, which end in no zero. */
static const struct grammar_expr *fraction_from(struct schema *s, struct base_view f, size_t i,
                                                int exclusive)
{
    struct grammar_builder *b = s->b;
    if (i == f.size) {
        const struct grammar_expr *more = grammar_seq(
            b, GRAMMAR_ITEMS(grammar_repeat(b, grammar_text(b, "0"), 0, GRAMMAR_UNBOUNDED),
                             digit(s, 1, 9), digits(s, 0, GRAMMAR_UNBOUNDED)));
        return exclusive ? more : digits(s, 0, GRAMMAR_UNBOUNDED);
    }
    int d = f.data[i] - '0';
    return grammar_alt(
        b,
        GRAMMAR_ITEMS(
            grammar_seq(b, GRAMMAR_ITEMS(digit(s, d + 1, 9), digits(s, 0, GRAMMAR_UNBOUNDED))),
            grammar_seq(b, GRAMMAR_ITEMS(digit(s, d, d), fraction_from(s, f, i + 1, exclusive)))));
}

/* At most the digits of f. */
static const struct grammar_expr *fraction_to(struct schema *s, struct base_view f, size_t i,
                                              int exclusive)
{
    struct grammar_builder *b = s->b;
    if (i == f.size)
        return exclusive ? grammar_never(b)
                         : grammar_repeat(b, grammar_text(b, "0"), 0, GRAMMAR_UNBOUNDED);
    int d = f.data[i] - '0';
    return grammar_alt(
        b, GRAMMAR_ITEMS(
               i ? grammar_empty(b) : grammar_never(b), /* fewer digits are less */
               grammar_seq(b, GRAMMAR_ITEMS(digit(s, 0, d - 1), digits(s, 0, GRAMMAR_UNBOUNDED))),
               grammar_seq(b, GRAMMAR_ITEMS(digit(s, d, d), fraction_to(s, f, i + 1, exclusive)))));
}

static const struct grammar_expr *pointed(struct schema *s, const struct grammar_expr *fraction)
{
    return grammar_seq(s->b, GRAMMAR_ITEMS(grammar_text(s->b, "."), fraction));
}

/* Whole parts above w (`above`) or below it, then any fraction. The first digit is no zero, but for
 * zero itself. */
static const struct grammar_expr *whole_beside(struct schema *s, struct base_view w, int above)
{
    struct grammar_builder *b = s->b;
    grammar_list items = {0};
    for (size_t i = 0; i < w.size; i++) { /* equal up to digit i, which differs */
        int d = w.data[i] - '0';
        int first = i == 0 && w.size > 1;
        const struct grammar_expr *differs =
            above ? digit(s, d + 1, 9) : digit(s, first ? 1 : 0, d - 1);
        grammar_list_add(
            b, &items,
            grammar_seq(b, GRAMMAR_ITEMS(grammar_bytes(b, w.data, i), differs,
                                         digits(s, w.size - 1 - i, (uint32_t)(w.size - 1 - i)))));
    }
    if (above) /* longer, */
        grammar_list_add(
            b, &items,
            grammar_seq(b, GRAMMAR_ITEMS(digit(s, 1, 9), digits(s, w.size, GRAMMAR_UNBOUNDED))));
    else if (w.size > 1) { /* or shorter */
        grammar_list_add(b, &items, grammar_text(b, "0"));
        grammar_list_add(
            b, &items,
            grammar_seq(b, GRAMMAR_ITEMS(digit(s, 1, 9), digits(s, 0, (uint32_t)w.size - 2))));
    }
    const struct grammar_expr *whole = grammar_alt(b, items.data, items.size);
    base_array_release(&b->alloc, &items);
    return grammar_seq(
        b,
        GRAMMAR_ITEMS(whole, grammar_repeat(b, pointed(s, digits(s, 1, GRAMMAR_UNBOUNDED)), 0, 1)));
}

/* Magnitudes from the bound up, or up to it. */
static const struct grammar_expr *magnitude(struct schema *s, const struct bound *bound, int above)
{
    struct grammar_builder *b = s->b;
    const struct grammar_expr *whole = grammar_bytes(b, bound->whole.data, bound->whole.size);
    const struct grammar_expr *fraction;
    int bare; /* the whole part alone is in */
    if (above) {
        bare = !bound->fraction.size && !bound->exclusive;
        fraction = bare ? digits(s, 1, GRAMMAR_UNBOUNDED)
                        : fraction_from(s, bound->fraction, 0, bound->exclusive);
    } else {
        bare = bound->fraction.size || !bound->exclusive;
        fraction = bound->fraction.size ? fraction_to(s, bound->fraction, 0, bound->exclusive)
                   : bound->exclusive
                       ? grammar_never(b)
                       : grammar_repeat(b, grammar_text(b, "0"), 1, GRAMMAR_UNBOUNDED);
    }
    const struct grammar_expr *equal = grammar_seq(
        b, GRAMMAR_ITEMS(
               whole, grammar_alt(b, GRAMMAR_ITEMS(pointed(s, fraction),
                                                   bare ? grammar_empty(b) : grammar_never(b)))));
    return grammar_alt(b, GRAMMAR_ITEMS(whole_beside(s, bound->whole, above), equal));
}

/* ---------------------------------------------------------------- automata */

static int restrict_to(struct schema *s, struct regex_dfa *d, const struct grammar_expr *tree)
{
    struct regex_dfa more;
    infer_status st = s->b->status;
    if (st == INFER_OK)
        st = regex_compile(&more, s->b, tree, 0);
    if (st == INFER_OK)
        st = regex_combine(d, s->b, d, &more, REGEX_AND);
    grammar_builder_fail(s->b, st);
    return st == INFER_OK;
}

/* Both signs as one expression: magnitudes of numbers from 0 on, and of those below. */
static const struct grammar_expr *both_signs(struct schema *s, const struct grammar_expr *plus,
                                             const struct grammar_expr *minus)
{
    return grammar_alt(
        s->b,
        GRAMMAR_ITEMS(plus, grammar_seq(s->b, GRAMMAR_ITEMS(grammar_text(s->b, "-"), minus))));
}

static const struct grammar_expr *any_magnitude(struct schema *s, int positive)
{
    struct bound zero = {.whole = {"0", 1}, .exclusive = positive};
    return magnitude(s, &zero, 1);
}

/* The syntax, then one bound after the other. */
static void apply_bounds(struct schema *s, const struct limits *l, struct regex_dfa *d)
{
    const struct grammar_expr *never = grammar_never(s->b);
    infer_status st =
        regex_compile(d, s->b, both_signs(s, any_magnitude(s, 0), any_magnitude(s, 1)), 0);
    grammar_builder_fail(s->b, st);
    if (st != INFER_OK)
        return;
    if (l->low.given && l->low.negative)
        restrict_to(s, d, both_signs(s, any_magnitude(s, 0), magnitude(s, &l->low, 0)));
    else if (l->low.given)
        restrict_to(s, d, both_signs(s, magnitude(s, &l->low, 1), never));
    if (schema_failed(s) || !l->high.given)
        return;
    if (l->high.negative) {
        restrict_to(s, d, both_signs(s, never, magnitude(s, &l->high, 1)));
    } else {
        restrict_to(s, d, both_signs(s, magnitude(s, &l->high, 0), any_magnitude(s, 1)));
    }
}

static uint32_t power_mod(uint32_t places, uint32_t factor)
{
    uint64_t p = 1 % factor;
    for (uint32_t i = 0; i < places; i++)
        p = p * 10 % factor;
    return (uint32_t)p;
}

/* Digits with the point left out, modulo the factor: state 0 is the start, then come a state for
 * each rest before the point, one for each behind it, one for each and one digit there, and so on.
 * Zeros and signs in wrong places are the syntax's care. */
static int multiples(struct schema *s, const struct limits *l, struct regex_dfa *out)
{
    enum { MINUS = 1, POINT = 2, DIGIT = 4, N = DIGIT + 11 };
    static const uint32_t begins[N] = {0,   '-', '.', '/', '0', '1', '2',    '3',
                                       '4', '5', '6', '7', '8', '9', '9' + 1};
    const uint32_t factor = l->factor, groups = l->places + 2;
    struct regex_dfa d = {.n_states = 1 + factor * groups, .n_intervals = N};
    d.begins = base_arena_new(&s->b->arena, N, sizeof *d.begins);
    d.next = base_arena_new(&s->b->arena, (size_t)d.n_states * N, sizeof *d.next);
    d.accepts = base_arena_new(&s->b->arena, d.n_states, 1);
    if (!d.begins || !d.next || !d.accepts) {
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
        return 0;
    }
    memcpy(d.begins, begins, sizeof begins);
    memset(d.next, 0xFF, (size_t)d.n_states * N * sizeof *d.next);
    d.next[MINUS] = 0;
    for (uint32_t i = 0; i < 10; i++)
        d.next[DIGIT + i] = 1 + i % factor;
    for (uint32_t g = 0; g < groups; g++)
        for (uint32_t r = 0; r < factor; r++) {
            uint32_t behind = g ? g - 1 : 0; /* digits behind the point */
            uint32_t *next = d.next + (size_t)(1 + r + factor * g) * N;
            d.accepts[1 + r + factor * g] =
                (uint64_t)r * power_mod(l->places - behind, factor) % factor == 0;
            if (g == 0)
                next[POINT] = 1 + r + factor;
            for (uint32_t i = 0; i < 10 && (g == 0 || behind < l->places); i++)
                next[DIGIT + i] = 1 + (10 * r + i) % factor + factor * (g ? g + 1 : 0);
        }
    *out = d;
    return 1;
}

/* ------------------------------------------------------------- expressions */

static const struct grammar_expr *integer(struct schema *s)
{
    struct grammar_builder *b = s->b;
    const struct grammar_expr *sign = grammar_repeat(b, grammar_text(b, "-"), 0, 1);
    return grammar_alt(
        b, GRAMMAR_ITEMS(grammar_text(b, "0"),
                         grammar_seq(b, GRAMMAR_ITEMS(sign, digit(s, 1, 9),
                                                      digits(s, 0, GRAMMAR_UNBOUNDED)))));
}

static const struct grammar_expr *any_number(struct schema *s)
{
    struct grammar_builder *b = s->b;
    static const struct charset_range e[] = {{'E', 'E'}, {'e', 'e'}},
                                      signs[] = {{'+', '+'}, {'-', '-'}};
#define SET(ranges)                                                                                \
    grammar_chars(b, &(struct charset){.data = (struct charset_range *)(ranges), .size = 2})
    const struct grammar_expr *some = digits(s, 1, GRAMMAR_UNBOUNDED);
    const struct grammar_expr *whole = grammar_alt(
        b, GRAMMAR_ITEMS(
               grammar_text(b, "0"),
               grammar_seq(b, GRAMMAR_ITEMS(digit(s, 1, 9), digits(s, 0, GRAMMAR_UNBOUNDED)))));
    const struct grammar_expr *exponent =
        grammar_seq(b, GRAMMAR_ITEMS(SET(e), grammar_repeat(b, SET(signs), 0, 1), some));
#undef SET
    return grammar_seq(b, GRAMMAR_ITEMS(grammar_repeat(b, grammar_text(b, "-"), 0, 1), whole,
                                        grammar_repeat(b, pointed(s, some), 0, 1),
                                        grammar_repeat(b, exponent, 0, 1)));
}

const struct grammar_expr *schema_number(struct schema *s, const struct schema_all *alt, int types)
{
    struct limits l = limits_of(s, alt);
    struct regex_dfa d, more;
    if (schema_failed(s))
        return grammar_never(s->b);
    if (!l.low.given && !l.high.given && !l.factor)
        return types & SCHEMA_FRACTION ? any_number(s) : integer(s);
    apply_bounds(s, &l, &d);
    if (!schema_failed(s) && !(types & SCHEMA_FRACTION))
        restrict_to(s, &d, integer(s));
    if (!schema_failed(s) && l.factor && multiples(s, &l, &more))
        grammar_builder_fail(s->b, regex_combine(&d, s->b, &d, &more, REGEX_AND));
    if (schema_failed(s) || regex_is_empty(&d, s->b))
        return grammar_never(s->b);
    return regex_expr(s->b, &d, 0);
}

/* ---------------------------------------------------------------- matching */

static int is_multiple(const struct limits *l, struct decimal d)
{
    uint64_t rest = 0;
    if (!l->factor)
        return 1;
    if (d.n - d.exponent > (int)l->places)
        return 0;
    for (int i = 0; i < d.exponent + (int)l->places; i++)
        rest = (10 * rest + (uint64_t)(i < d.n ? d.digits[i] - '0' : 0)) % l->factor;
    return rest == 0;
}

int schema_number_matches(struct schema *s, const struct schema_all *alt, const struct base_json *v)
{
    struct limits l = limits_of(s, alt);
    double x = 0;
    if (schema_failed(s) || !base_json_f64(v, &x) || !isfinite(x))
        return 0;
    if (l.low.given && (x < l.low.value || (l.low.exclusive && x == l.low.value)))
        return 0;
    if (l.high.given && (x > l.high.value || (l.high.exclusive && x == l.high.value)))
        return 0;
    return is_multiple(&l, decimal_of(v));
}
