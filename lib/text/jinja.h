/* The language of chat templates, Jinja2 with the settings model publishers
 * use: values a context is made of, compiled templates, rendering. */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include "base/str.h"

enum jinja_kind {
    JINJA_MISSING, /* no value at all, such as an argument that was not given */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    /* What follows is only made by a template while it runs. */
    JINJA_VIEW,     /* what dict.items(), keys() and values() give */
    JINJA_ITERATOR, /* what lazy filters give: can be walked once */
    JINJA_RANGE,
    JINJA_NAMESPACE,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_METHOD, /* a function bound to the value it was looked up on */
    JINJA_LOOP,
    JINJA_CYCLER,
    JINJA_JOINER
};

/* Small and copied freely; what it points to lives in a heap. */
struct jinja_value {
    uint8_t kind; /* enum jinja_kind */
    uint8_t flag; /* of a string, a view or an undefined value: see jinja_internal.h */
    uint8_t of;   /* of an undefined value: the kind of the object that lacks it */
    union {
        int boolean;
        int64_t integer;
        double real;
        struct base_view text; /* UTF-8, borrowed, not terminated */
        struct jinja_list *list;
        struct jinja_dict *dict;
        struct jinja_range *range;
        struct jinja_macro *macro;
        struct jinja_method *method;
        struct jinja_loop *loop;
        struct jinja_cycler *cycler;
        const struct jinja_callable *function;
    };
};

/* Where values live; they die together. The first failure sticks in `status`
 * (its sentence is the thread's error) and later calls do nothing, so that a
 * caller building a context checks once, at the end. */
struct jinja_heap {
    struct base_arena arena;
    size_t limit_bytes; /* 0 = none */
    infer_status status;
};

void jinja_heap_init(struct jinja_heap *h, const struct base_alloc *a, size_t limit_bytes);
void jinja_heap_release(struct jinja_heap *h);

struct jinja_value jinja_none(void);
struct jinja_value jinja_bool(int value);
struct jinja_value jinja_int(int64_t value);
struct jinja_value jinja_float(double value);
/* Borrows the text, which must outlive the value. */
struct jinja_value jinja_string(const char *text, size_t size);
struct jinja_value jinja_list(struct jinja_heap *h);
struct jinja_value jinja_dict(struct jinja_heap *h);
void jinja_list_push(struct jinja_heap *h, struct jinja_value list, struct jinja_value item);
/* Keeps the order of first insertion; an existing key gets the new value. */
void jinja_dict_set(struct jinja_heap *h, struct jinja_value dict, struct jinja_value key,
                    struct jinja_value value);

/* The host's wall clock for strftime_now; templates cannot read a clock. */
struct jinja_time {
    int year, month, day; /* month and day from 1 */
    int hour, minute, second;
};

/* 0 and untouched `out` for what is no time of the years 0 to 9999. The text is a date, or a date
 * and a time, as in "2025-01-15T12:00:00"; a zone is not understood but for a final Z. */
int jinja_time_from_unix(int64_t seconds, struct jinja_time *out); /* since 1970, UTC */
int jinja_time_parse(struct base_view text, struct jinja_time *out);

/* Zero means the default. */
struct jinja_limits {
    uint64_t steps;      /* evaluated nodes, plus work on long texts and lists: 50 million */
    size_t memory_bytes; /* of the values made by one render: 256 MiB */
    size_t output_bytes; /* of the rendered text and of any text in the making: 64 MiB */
    uint32_t depth;      /* of nested evaluation and of nested values: 400 */
};

struct jinja_options {
    const struct jinja_time *now; /* NULL: strftime_now is not defined */
    struct jinja_limits limits;
};

/* Immutable once made: any number of threads may render it. */
struct jinja_template;

/* FORMAT, with line and column, where the text breaks the grammar; UNSUPPORTED,
 * naming what and where, for what this interpreter lacks; LIMIT for a template
 * that is too long or nested too deeply. */
infer_status jinja_template_create(struct jinja_template **out, const struct base_alloc *a,
                                   const char *source, size_t size);
void jinja_template_destroy(struct jinja_template **t);

/* Appends the rendered text to `out`; on failure `out` is as it was. `context`
 * is a dict of the template's variables; `options` may be NULL.
 * INVALID with the template's own words if it calls raise_exception, or with
 * line and column where it cannot be evaluated; LIMIT past a bound. */
infer_status jinja_template_render(const struct jinja_template *t, const struct base_alloc *a,
                                   struct jinja_value context, const struct jinja_options *options,
                                   struct base_str *out);

#endif
