/* Operators of arithmetic. */
#include "text/jinja_internal.h"

#include <math.h>

int jinja_defined(struct jinja_render *r, struct jinja_value v)
{
    int n = (int)BASE_MIN(v.text.size, (size_t)400);
    if (v.kind != JINJA_UNDEFINED)
        return v.kind != JINJA_MISSING && !jinja_failed(r);
    if (v.flag == JINJA_LACKS_VARIABLE)
        jinja_fail(r, INFER_ERR_INVALID, "'%.*s' is undefined", n, v.text.data);
    else if (v.flag == JINJA_LACKS_MEMBER && v.of == JINJA_NONE)
        jinja_fail(r, INFER_ERR_INVALID, "'None' has no attribute '%.*s'", n, v.text.data);
    else if (v.flag == JINJA_LACKS_MEMBER)
        jinja_fail(r, INFER_ERR_INVALID, "'%s object' has no attribute '%.*s'",
                   jinja_type_name(v.of), n, v.text.data);
    else if (v.flag == JINJA_LACKS_SAFETY)
        jinja_fail(r, INFER_ERR_INVALID, "access to attribute '%.*s' of '%s' object is unsafe", n,
                   v.text.data, jinja_type_name(v.of));
    else
        jinja_fail(r, INFER_ERR_INVALID, "%.*s", n, v.text.data);
    return 0;
}

static const char *sign_of(uint8_t op)
{
    switch (op) {
    case JINJA_T_ADD:
        return "+";
    case JINJA_T_SUB:
        return "-";
    case JINJA_T_MUL:
        return "*";
    case JINJA_T_DIV:
        return "/";
    case JINJA_T_FLOORDIV:
        return "//";
    case JINJA_T_MOD:
        return "%";
    default:
        return "**";
    }
}

static struct jinja_value too_big(struct jinja_render *r)
{
    return jinja_fail(r, INFER_ERR_LIMIT, "an integer of more than 64 bits is not supported");
}

static struct jinja_value power_int(struct jinja_render *r, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    if (exponent < 0 && base == 0)
        return jinja_fail(r, INFER_ERR_INVALID, "0.0 cannot be raised to a negative power");
    if (exponent < 0)
        return jinja_float(pow((double)base, (double)exponent));
    if (base == 0 || base == 1 || base == -1)
        return jinja_int(exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? 1 : base);
    for (; exponent > 0; exponent--) /* overflows after 63 rounds at most */
        if (__builtin_mul_overflow(result, base, &result))
            return too_big(r);
    return jinja_int(result);
}

static struct jinja_value divide_int(struct jinja_render *r, uint8_t op, int64_t a, int64_t b)
{
    if (b == 0)
        return jinja_fail(r, INFER_ERR_INVALID,
                          op == JINJA_T_DIV ? "division by zero"
                                            : "integer division or modulo by zero");
    if (op == JINJA_T_DIV)
        return jinja_float((double)a / (double)b);
    if (b == -1) {
        if (op == JINJA_T_MOD)
            return jinja_int(0);
        return a == INT64_MIN ? too_big(r) : jinja_int(-a);
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) { /* Python rounds down */
        quotient--;
        rest += b;
    }
    return jinja_int(op == JINJA_T_MOD ? rest : quotient);
}

static struct jinja_value operate_int(struct jinja_render *r, uint8_t op, int64_t a, int64_t b)
{
    int64_t result = 0;
    int overflow = 0;
    switch (op) {
    case JINJA_T_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case JINJA_T_SUB:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_T_MUL:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_T_POW:
        return power_int(r, a, b);
    default:
        return divide_int(r, op, a, b);
    }
    return overflow ? too_big(r) : jinja_int(result);
}

static struct jinja_value divide_float(struct jinja_render *r, uint8_t op, double a, double b)
{
    if (b == 0)
        return jinja_fail(r, INFER_ERR_INVALID,
                          op == JINJA_T_DIV        ? "float division by zero"
                          : op == JINJA_T_FLOORDIV ? "float floor division by zero"
                                                   : "float modulo");
    if (op == JINJA_T_DIV)
        return jinja_float(a / b);
    double rest = fmod(a, b);
    double quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        rest += b;
        quotient -= 1;
    } else if (rest == 0) {
        rest = copysign(0.0, b);
    }
    if (op == JINJA_T_MOD)
        return jinja_float(rest);
    double down = floor(quotient);
    return jinja_float(quotient == 0           ? copysign(0.0, a / b)
                       : quotient - down > 0.5 ? down + 1
                                               : down);
}

static struct jinja_value operate_float(struct jinja_render *r, uint8_t op, double a, double b)
{
    switch (op) {
    case JINJA_T_ADD:
        return jinja_float(a + b);
    case JINJA_T_SUB:
        return jinja_float(a - b);
    case JINJA_T_MUL:
        return jinja_float(a * b);
    case JINJA_T_POW:
        if (a == 0 && b < 0)
            return jinja_fail(r, INFER_ERR_INVALID, "0.0 cannot be raised to a negative power");
        if (a < 0 && b == b && b - b == 0 && b != floor(b))
            return jinja_fail(r, INFER_ERR_UNSUPPORTED, "complex numbers are not supported");
        if (isinf(pow(a, b)) && !isinf(a) && !isinf(b))
            return jinja_fail(r, INFER_ERR_INVALID, "the result of ** is too large");
        return jinja_float(pow(a, b));
    default:
        return divide_float(r, op, a, b);
    }
}

static struct jinja_value repeat_text(struct jinja_render *r, struct jinja_value v, int64_t times)
{
    size_t begin = jinja_capture_begin(r);
    if (v.text.size)
        jinja_write_fill(r, v.text.data, v.text.size, times);
    struct jinja_value out = jinja_capture_end(r, begin);
    out.flag = v.flag & JINJA_TEXT_SAFE;
    return out;
}

static struct jinja_value repeat_list(struct jinja_render *r, struct jinja_value v, int64_t times)
{
    size_t n = v.list->size, total;
    if (times <= 0 || n == 0)
        return jinja_list_of(r, v.kind, 0);
    if (__builtin_mul_overflow(n, (size_t)times, &total))
        total = SIZE_MAX;
    struct jinja_value out = jinja_list_of(r, v.kind, total);
    jinja_charge(r, jinja_failed(r) ? 0 : total);
    while (!jinja_failed(r) && out.list->size < total) {
        memcpy(out.list->items + out.list->size, v.list->items, n * sizeof *v.list->items);
        out.list->size += n;
    }
    return out;
}

static struct jinja_value add_lists(struct jinja_render *r, struct jinja_value a,
                                    struct jinja_value b)
{
    struct jinja_value out = jinja_list_of(r, a.kind, a.list->size + b.list->size);
    if (jinja_failed(r))
        return out;
    if (a.list->size)
        memcpy(out.list->items, a.list->items, a.list->size * sizeof *a.list->items);
    if (b.list->size)
        memcpy(out.list->items + a.list->size, b.list->items, b.list->size * sizeof *a.list->items);
    out.list->size = a.list->size + b.list->size;
    jinja_charge(r, out.list->size);
    return out;
}

/* + and * of texts and lists; JINJA_MISSING if they do not apply. */
static struct jinja_value operate_sequences(struct jinja_render *r, uint8_t op,
                                            struct jinja_value a, struct jinja_value b)
{
    int64_t times;
    if (op == JINJA_T_ADD && a.kind == b.kind) {
        if (a.kind == JINJA_STRING)
            return jinja_concat(r, a, b);
        if (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)
            return add_lists(r, a, b);
    }
    if (op != JINJA_T_MUL)
        return jinja_no_value();
    if (jinja_as_int(a, &times)) {
        struct jinja_value swap = a;
        a = b;
        b = swap;
    }
    if (!jinja_as_int(b, &times))
        return jinja_no_value();
    if (a.kind == JINJA_STRING)
        return repeat_text(r, a, times);
    if (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)
        return repeat_list(r, a, times);
    return jinja_no_value();
}

struct jinja_value jinja_binary(struct jinja_render *r, uint8_t op, struct jinja_value a,
                                struct jinja_value b)
{
    int64_t i, j;
    double x, y;
    if (op == JINJA_T_MOD && a.kind == JINJA_STRING)
        return jinja_format_percent(r, a, b);
    if (!jinja_defined(r, a) || !jinja_defined(r, b))
        return jinja_no_value();
    if (jinja_as_int(a, &i) && jinja_as_int(b, &j))
        return operate_int(r, op, i, j);
    if (jinja_as_number(a, &x) && jinja_as_number(b, &y))
        return operate_float(r, op, x, y);
    struct jinja_value v = operate_sequences(r, op, a, b);
    if (v.kind != JINJA_MISSING || jinja_failed(r))
        return v;
    if (op == JINJA_T_ADD && a.kind == JINJA_STRING)
        return jinja_fail(r, INFER_ERR_INVALID, "can only concatenate str (not \"%s\") to str",
                          jinja_type_name(b.kind));
    return jinja_fail(r, INFER_ERR_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'",
                      sign_of(op), jinja_type_name(a.kind), jinja_type_name(b.kind));
}

static struct jinja_value bad_sign(struct jinja_render *r, struct jinja_value v, const char *sign)
{
    if (jinja_defined(r, v))
        jinja_fail(r, INFER_ERR_INVALID, "bad operand type for unary %s: '%s'", sign,
                   jinja_type_name(v.kind));
    return jinja_no_value();
}

struct jinja_value jinja_negate(struct jinja_render *r, struct jinja_value v)
{
    int64_t i;
    if (v.kind == JINJA_FLOAT)
        return jinja_float(-v.real);
    if (!jinja_as_int(v, &i))
        return bad_sign(r, v, "-");
    return i == INT64_MIN ? too_big(r) : jinja_int(-i);
}

struct jinja_value jinja_plus(struct jinja_render *r, struct jinja_value v)
{
    int64_t i;
    if (v.kind == JINJA_FLOAT)
        return v;
    return jinja_as_int(v, &i) ? jinja_int(i) : bad_sign(r, v, "+");
}
