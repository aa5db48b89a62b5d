/* Functions that every template can call. */
#include "text/jinja_internal.h"

#include "base/error.h"

#include <stdio.h>

#define MAX_RANGE 100000 /* as in Jinja2's sandbox */

static struct jinja_value global_range(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t at[3] = {0, 0, 1};
    size_t n = c->a[1].kind == JINJA_MISSING ? 1 : c->a[2].kind == JINJA_MISSING ? 2 : 3;
    for (size_t i = 0; i < n; i++) {
        int64_t *to = n == 1 ? &at[1] : &at[i];
        if (!jinja_defined(r, c->a[i]))
            return jinja_no_value();
        if (!jinja_as_int(c->a[i], to))
            return jinja_fail(r, INFER_ERR_INVALID,
                              "'%s' object cannot be interpreted as an integer",
                              jinja_type_name(c->a[i].kind));
    }
    if (at[2] == 0)
        return jinja_fail(r, INFER_ERR_INVALID, "range() arg 3 must not be zero");
    struct jinja_range *range = jinja_new(r, 1, sizeof *range);
    if (!range)
        return jinja_no_value();
    *range = (struct jinja_range){at[0], at[1], at[2]};
    if (jinja_range_size(range) > MAX_RANGE)
        return jinja_fail(r, INFER_ERR_LIMIT, "a range of more than %d items", MAX_RANGE);
    return (struct jinja_value){.kind = JINJA_RANGE, .range = range};
}

/* dict(mapping or pairs, name=value ...), also what a namespace begins with. */
static struct jinja_value make_dict(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value dict = jinja_dict(&r->heap);
    if (c->args->n > 1)
        return jinja_fail(r, INFER_ERR_INVALID, "%s expected at most 1 argument, got %zu",
                          c->function->name, c->args->n);
    struct jinja_value from = c->args->n ? c->args->at[0] : jinja_no_value();
    if (from.kind == JINJA_DICT) {
        for (size_t i = 0; i < from.dict->size && !jinja_failed(r); i++)
            jinja_put(r, dict, from.dict->entries[i].key, from.dict->entries[i].value);
        jinja_charge(r, from.dict->size);
    } else if (from.kind != JINJA_MISSING) {
        struct jinja_list pairs = jinja_walk(r, from);
        for (size_t i = 0; i < pairs.size && !jinja_failed(r); i++) {
            struct jinja_list pair = jinja_walk(r, pairs.items[i]);
            if (pair.size == 2)
                jinja_put(r, dict, pair.items[0], pair.items[1]);
            else
                jinja_fail(r, INFER_ERR_INVALID,
                           "a dict is made of pairs, element %zu has length %zu", i, pair.size);
        }
    }
    for (size_t i = 0; i < c->args->n_named && !jinja_failed(r); i++)
        jinja_put(r, dict, jinja_text(c->args->named[i].name, 0), c->args->named[i].value);
    return jinja_failed(r) ? jinja_no_value() : dict;
}

static struct jinja_value global_namespace(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value v = make_dict(r, c);
    if (!jinja_failed(r))
        v.kind = JINJA_NAMESPACE;
    return v;
}

static struct jinja_value new_cycler(struct jinja_render *r, uint8_t kind,
                                     const struct jinja_value *items, size_t n)
{
    struct jinja_cycler *cycler = jinja_new(r, 1, sizeof *cycler);
    struct jinja_value *copy = jinja_new(r, n, sizeof *copy);
    if (!cycler || !copy)
        return jinja_no_value();
    memcpy(copy, items, n * sizeof *copy);
    cycler->items = (struct jinja_list){.items = copy, .size = n};
    return (struct jinja_value){.kind = kind, .cycler = cycler};
}

static struct jinja_value global_cycler(struct jinja_render *r, const struct jinja_call *c)
{
    if (c->args->n == 0 || c->args->n_named)
        return jinja_fail(r, INFER_ERR_INVALID, "cycler: at least one item has to be provided");
    return new_cycler(r, JINJA_CYCLER, c->args->at, c->args->n);
}

static struct jinja_value global_joiner(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value separator = c->a[0].kind == JINJA_MISSING ? jinja_string(", ", 2) : c->a[0];
    return new_cycler(r, JINJA_JOINER, &separator, 1);
}

/* The template's own sentence is the error, without a position before it. */
static struct jinja_value global_raise(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value text = jinja_str(r, c->a[0]);
    if (jinja_failed(r))
        return text;
    r->heap.status =
        base_error(INFER_ERR_INVALID, "%.*s", (int)BASE_MIN(text.text.size, (size_t)BASE_ERROR_MAX),
                   text.text.data);
    return jinja_no_value();
}

/* Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static int weekday(const struct jinja_time *t) /* 0 = Sunday */
{
    int64_t days = days_of(t->year, t->month, t->day);
    return (int)(((days + 4) % 7 + 7) % 7);
}

/* One conversion of strftime in the C locale; 0 if it is not known. */
static int write_time(struct jinja_render *r, const struct jinja_time *t, char conversion, int bare)
{
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    int year_day = (int)(days_of(t->year, t->month, t->day) - days_of(t->year, 1, 1)) + 1;
    int number = -1, width = bare ? 1 : 2;
    char text[64] = "";
    switch (conversion) {
    case 'Y':
        number = t->year;
        width = 1;
        break;
    case 'm':
        number = t->month;
        break;
    case 'd':
        number = t->day;
        break;
    case 'H':
        number = t->hour;
        break;
    case 'I':
        number = t->hour % 12 ? t->hour % 12 : 12;
        break;
    case 'M':
        number = t->minute;
        break;
    case 'S':
        number = t->second;
        break;
    case 'y':
        number = t->year % 100;
        break;
    case 'j':
        number = year_day;
        width = bare ? 1 : 3;
        break;
    case 'w':
        number = weekday(t);
        width = 1;
        break;
    case 'u':
        number = weekday(t) ? weekday(t) : 7;
        width = 1;
        break;
    case 'e':
        snprintf(text, sizeof text, bare ? "%d" : "%2d", t->day);
        break;
    case 'A':
        snprintf(text, sizeof text, "%s", days[weekday(t)]);
        break;
    case 'a':
        snprintf(text, sizeof text, "%.3s", days[weekday(t)]);
        break;
    case 'B':
        snprintf(text, sizeof text, "%s", months[t->month - 1]);
        break;
    case 'b':
    case 'h':
        snprintf(text, sizeof text, "%.3s", months[t->month - 1]);
        break;
    case 'p':
        snprintf(text, sizeof text, "%s", t->hour < 12 ? "AM" : "PM");
        break;
    case 'F':
        snprintf(text, sizeof text, "%d-%02d-%02d", t->year, t->month, t->day);
        break;
    case 'D':
        snprintf(text, sizeof text, "%02d/%02d/%02d", t->month, t->day, t->year % 100);
        break;
    case 'T':
        snprintf(text, sizeof text, "%02d:%02d:%02d", t->hour, t->minute, t->second);
        break;
    case 'R':
        snprintf(text, sizeof text, "%02d:%02d", t->hour, t->minute);
        break;
    case 'n':
        snprintf(text, sizeof text, "\n");
        break;
    case 't':
        snprintf(text, sizeof text, "\t");
        break;
    case '%':
        snprintf(text, sizeof text, "%%");
        break;
    default:
        return 0;
    }
    if (number >= 0)
        snprintf(text, sizeof text, "%0*d", width, number);
    jinja_write_text(r, text);
    return 1;
}

static struct jinja_value global_strftime_now(struct jinja_render *r, const struct jinja_call *c)
{
    const struct jinja_time *t = r->now;
    if (c->a[0].kind != JINJA_STRING)
        return jinja_fail(r, INFER_ERR_INVALID, "strftime_now: the format must be a text");
    if (t->month < 1 || t->month > 12 || t->day < 1 || t->day > 31 || t->year < 0 || t->hour < 0 ||
        t->hour > 23 || t->minute < 0 || t->minute > 59 || t->second < 0 || t->second > 61)
        return jinja_fail(r, INFER_ERR_INVALID, "strftime_now: the host's time is not a time");
    struct base_view f = c->a[0].text;
    size_t begin = jinja_capture_begin(r);
    for (size_t i = 0; i < f.size && !jinja_failed(r); i++) {
        if (f.data[i] != '%' || i + 1 == f.size) {
            jinja_write_char(r, f.data[i]);
            continue;
        }
        int bare = f.data[i + 1] == '-' && i + 2 < f.size;
        i += bare ? 2 : 1;
        if (!write_time(r, t, f.data[i], bare))
            jinja_fail(r, INFER_ERR_UNSUPPORTED, "strftime_now: %%%c is not supported", f.data[i]);
    }
    return jinja_capture_end(r, begin);
}

static const struct jinja_callable functions[] = {
    {"range", global_range, "/start stop? step?"},
    {"dict", make_dict, "*"},
    {"namespace", global_namespace, "*"},
    {"cycler", global_cycler, "*"},
    {"joiner", global_joiner, "sep?"},
    {"raise_exception", global_raise, "message"},
    {"strftime_now", global_strftime_now, "format"},
    {"lipsum", NULL, "*"},
};

const struct jinja_callable *jinja_find_in(const struct jinja_callable *table, size_t n,
                                           struct base_view name)
{
    for (size_t i = 0; i < n; i++)
        if (base_view_equal(name, table[i].name))
            return &table[i];
    return NULL;
}

const struct jinja_callable *jinja_find_function(struct base_view name)
{
    return jinja_find_in(functions, BASE_COUNT(functions), name);
}
