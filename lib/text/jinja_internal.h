/* Shared by the parts of the interpreter: the state of one render, the objects
 * a running template makes, and the operations on values.
 *
 * Errors stick: the first failure sets heap.status and every function that is
 * called afterwards does nothing and returns JINJA_MISSING. Code therefore
 * checks jinja_failed() only where it would otherwise use a result or loop. */
#ifndef TEXT_JINJA_INTERNAL_H
#define TEXT_JINJA_INTERNAL_H

#include "text/jinja_node.h"

/* jinja_value.flag of a string */
enum {
    JINJA_TEXT_SAFE = 1,    /* marked by the filter `safe`: joining escapes the other side */
    JINJA_TEXT_GROWABLE = 2 /* a jinja_growable stands before its first byte */
};

/* jinja_value.flag of an undefined value: what its text says */
enum {
    JINJA_LACKS_VARIABLE, /* the name of the variable */
    JINJA_LACKS_MEMBER,   /* the name of the attribute; `of` is the object's kind */
    JINJA_LACKS_HINT,     /* a whole sentence */
    JINJA_LACKS_SAFETY    /* the name of a method that would change `of` */
};

/* jinja_value.flag of a tuple: made by groupby, its parts have names */
enum { JINJA_TUPLE_GROUP = 1 };

/* jinja_value.flag of a view */
enum { JINJA_VIEW_KEYS, JINJA_VIEW_VALUES, JINJA_VIEW_ITEMS };

struct jinja_list {
    struct jinja_value *items;
    size_t size, capacity;
    size_t taken; /* of an iterator: how many were walked already */
};

struct jinja_entry {
    struct jinja_value key, value;
    uint64_t hash;
};

struct jinja_dict {
    struct jinja_entry *entries;
    size_t size, capacity;
    uint32_t *index; /* open addressing over entry number + 1; NULL while small */
    size_t n_index;
};

struct jinja_range {
    int64_t start, stop, step;
};

struct jinja_growable {
    size_t used, capacity;
    char bytes[];
};

struct jinja_variable {
    jinja_symbol name;
    struct jinja_value value;
};

/* Lookup goes outwards. The outermost scope is an array over all symbols. */
struct jinja_scope {
    struct jinja_scope *outer;
    BASE_ARRAY(struct jinja_variable) variables;
};

struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* where it was defined */
};

struct jinja_method {
    const struct jinja_callable *function;
    struct jinja_value self;
};

struct jinja_loop {
    const struct jinja_node *node;
    struct jinja_scope *outer;
    struct jinja_list items;
    size_t index;
    uint32_t depth;
    struct jinja_value changed; /* arguments of the last call of changed() */
};

struct jinja_cycler { /* also a joiner: items[0] is its separator */
    struct jinja_list items;
    size_t position;
};

struct jinja_named {
    struct base_view name;
    struct jinja_value value;
};

struct jinja_args {
    struct jinja_value *at;
    size_t n;
    struct jinja_named *named;
    size_t n_named;
};

#define JINJA_MAX_PARAMETERS 5

/* One call of a built-in: arguments are bound to the parameters in order, those
 * not given are JINJA_MISSING. */
struct jinja_call {
    const struct jinja_callable *function;
    struct jinja_value self;
    struct jinja_value a[JINJA_MAX_PARAMETERS];
    const struct jinja_args *args;
};

struct jinja_render;
typedef struct jinja_value (*jinja_fn)(struct jinja_render *r, const struct jinja_call *call);

/* A filter, test, method or global function. `parameters` lists names separated
 * by spaces; "?" after a name: may be left out; "/" in front: none may be given
 * by name; "*": the function reads call->args itself. `fn` is NULL for what is
 * known but not supported. */
struct jinja_callable {
    const char *name;
    jinja_fn fn;
    const char *parameters;
};

struct jinja_render {
    struct jinja_heap heap;
    const struct jinja_template *template;
    const struct jinja_time *now;
    struct jinja_limits limits;
    uint64_t steps;
    uint32_t depth;
    const struct jinja_node *at; /* for the position in errors */
    struct base_str *out;
    size_t out_base; /* where this render's text begins */
    struct jinja_value captured;
    struct jinja_value *globals; /* by symbol */
    struct jinja_scope *scope;
};

/* jinja_state.c: failures, bounds, text under construction */
static inline int jinja_failed(const struct jinja_render *r)
{
    return r->heap.status != INFER_OK;
}
/* "line L, column C: ..."; returns JINJA_MISSING. */
struct jinja_value jinja_fail(struct jinja_render *r, infer_status status, const char *fmt, ...)
    BASE_PRINTF(3, 4);
struct jinja_value jinja_no_value(void);
void *jinja_heap_new(struct jinja_heap *h, size_t n, size_t size);
void *jinja_new(struct jinja_render *r, size_t n, size_t size);
/* Accounts for work over `n` small things (bytes of text, items of a list). */
void jinja_charge(struct jinja_render *r, size_t n);
int jinja_enter(struct jinja_render *r); /* 0 and a failure when too deep */
void jinja_leave(struct jinja_render *r);
void jinja_write(struct jinja_render *r, const char *text, size_t size);
void jinja_write_text(struct jinja_render *r, const char *text);
void jinja_write_char(struct jinja_render *r, char c);
void jinja_write_fill(struct jinja_render *r, const char *fill, size_t size, int64_t count);
/* Text is built at the end of the output and cut off again as a value. */
size_t jinja_capture_begin(const struct jinja_render *r);
struct jinja_value jinja_capture_end(struct jinja_render *r, size_t begin);

/* jinja_value.c */
struct jinja_value jinja_undefined(struct base_view name);
struct jinja_value jinja_lacking(struct jinja_value object, struct base_view name);
struct jinja_value jinja_hint(const char *sentence);
struct jinja_value jinja_text(struct base_view text, int flag);
struct jinja_value jinja_copy(struct jinja_render *r, const char *text, size_t size);
struct jinja_value jinja_list_of(struct jinja_render *r, uint8_t kind, size_t n);
struct jinja_value jinja_pair(struct jinja_render *r, struct jinja_value a, struct jinja_value b);
/* NULL if absent or if the key cannot be one. */
const struct jinja_value *jinja_dict_find(const struct jinja_dict *d, struct jinja_value key);
const struct jinja_value *jinja_dict_get(const struct jinja_dict *d, const char *key, size_t size);
void jinja_put(struct jinja_render *r, struct jinja_value dict, struct jinja_value key,
               struct jinja_value value);
int jinja_hashable(struct jinja_value v); /* whether it can be a key */
const char *jinja_type_name(uint8_t kind);

static inline int jinja_is(struct jinja_value v, enum jinja_kind kind)
{
    return v.kind == kind;
}
static inline struct base_view jinja_view_of(const char *text)
{
    return (struct base_view){text, strlen(text)};
}

/* jinja_compare.c */
int jinja_truth(struct jinja_value v);
int jinja_equal(struct jinja_render *r, struct jinja_value a, struct jinja_value b);
/* Plain comparison of two dict keys: scalars and tuples of them. */
int jinja_same_key(struct jinja_value a, struct jinja_value b);
/* -1, 0, 1, or 2 beside a NaN; fails for kinds that have no order. `sign` is the
 * operator that the error names. */
int jinja_order(struct jinja_render *r, struct jinja_value a, struct jinja_value b,
                const char *sign);
int jinja_contains(struct jinja_render *r, struct jinja_value item, struct jinja_value in);
int jinja_compare_text(struct base_view a, struct base_view b); /* -1, 0 or 1 */

/* jinja_print.c */
void jinja_print(struct jinja_render *r, struct jinja_value v);
void jinja_repr(struct jinja_render *r, struct jinja_value v);
struct jinja_value jinja_str(struct jinja_render *r, struct jinja_value v);

/* jinja_number.c: numbers as texts, in no locale */
#define JINJA_NUMBER_MAX 512
size_t jinja_float_repr(double v, char out[JINJA_NUMBER_MAX]);
/* As printf with one of e, f, g; precision at most 100. */
size_t jinja_float_format(double v, char conversion, int precision, int alternate,
                          char out[JINJA_NUMBER_MAX]);
/* 1 if the whole text (with Python's spaces and underscores) is a number. */
int jinja_parse_float(struct base_view text, double *out);
int jinja_parse_int(struct base_view text, int base, int64_t *out);
int jinja_as_number(struct jinja_value v, double *out); /* bool, int or float */
int jinja_as_int(struct jinja_value v, int64_t *out);   /* bool or int */
double jinja_round_decimal(double v, int digits);

/* jinja_json.c */
struct jinja_value jinja_filter_tojson(struct jinja_render *r, const struct jinja_call *c);

/* jinja_time.c */
struct jinja_value jinja_function_strftime_now(struct jinja_render *r, const struct jinja_call *c);

/* jinja_text.c: operations over characters */
size_t jinja_text_length(struct base_view text);
/* Bytes of the character at the front (1 for an illegal byte), its value in `cp`. */
size_t jinja_text_next(struct base_view text, uint32_t *cp);
size_t jinja_text_previous(struct base_view text, uint32_t *cp);
size_t jinja_text_offset(struct base_view text, size_t n_chars); /* bytes of the first n */
int jinja_char_space(uint32_t cp);
int jinja_char_printable(uint32_t cp);
enum { JINJA_STRIP_LEFT = 1, JINJA_STRIP_RIGHT = 2, JINJA_STRIP_BOTH = 3 };
/* `chars` NULL: white space. */
struct base_view jinja_text_strip(struct base_view text, const struct base_view *chars, int sides);
enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_TITLE, JINJA_CAPITAL, JINJA_SWAP, JINJA_FOLD };
/* jinja_case.c */
enum jinja_cased { JINJA_NO_CASE, JINJA_IS_LOWER, JINJA_IS_UPPER, JINJA_IS_TITLE };
enum jinja_cased jinja_char_case(uint32_t cp);
void jinja_write_case(struct jinja_render *r, struct base_view text, enum jinja_case to);
/* Offset of `part` in `text` at or after `from`, or SIZE_MAX. */
size_t jinja_text_find(struct base_view text, struct base_view part, size_t from);
size_t jinja_text_find_last(struct base_view text, struct base_view part);
struct jinja_value jinja_concat(struct jinja_render *r, struct jinja_value a, struct jinja_value b);
struct jinja_value jinja_escape(struct jinja_render *r, struct jinja_value v);
struct base_view jinja_next_line(struct base_view *rest, int keep_end);

/* jinja_format.c */
struct jinja_value jinja_format_percent(struct jinja_render *r, struct jinja_value text,
                                        struct jinja_value values);
struct jinja_value jinja_format_braces(struct jinja_render *r, struct jinja_value text,
                                       const struct jinja_args *args);
/* jinja_format_spec.c */
void jinja_write_spec(struct jinja_render *r, struct jinja_value v, struct base_view spec);
/* Lays out one number or text as printf and format specifications do. */
struct jinja_layout {
    int64_t width;
    int precision; /* -1: none */
    char align;    /* '<', '>', '^', '=' or 0 */
    char sign;     /* '+', ' ' or 0 */
    char group;    /* ',', '_' or 0 */
    int alternate;
    struct base_view fill; /* one character */
    char type;             /* 0: by the value */
};
void jinja_write_layout(struct jinja_render *r, const struct jinja_layout *l, const char *prefix,
                        struct base_view body, int numeric);
void jinja_write_int(struct jinja_render *r, const struct jinja_layout *l, int64_t v);
void jinja_write_float(struct jinja_render *r, const struct jinja_layout *l, double v);

/* jinja_access.c: members, items and walking */
struct jinja_value jinja_attribute(struct jinja_render *r, struct jinja_value object,
                                   struct base_view name);
struct jinja_value jinja_item(struct jinja_render *r, struct jinja_value object,
                              struct jinja_value key);
struct jinja_value jinja_slice(struct jinja_render *r, struct jinja_value object,
                               const struct jinja_value bounds[3]);
/* "a.b.0" walked from the object, as filters do with `attribute`. */
struct jinja_value jinja_path(struct jinja_render *r, struct jinja_value object,
                              struct jinja_value path);
/* The items of anything that can be walked, as a list; an iterator is used up. */
struct jinja_list jinja_walk(struct jinja_render *r, struct jinja_value v);
int jinja_iterable(struct jinja_value v);
/* Number of items or characters; -1 for what has no length. */
int64_t jinja_length(struct jinja_render *r, struct jinja_value v);
int64_t jinja_range_size(const struct jinja_range *range);

/* jinja_operate.c */
struct jinja_value jinja_binary(struct jinja_render *r, uint8_t op, struct jinja_value a,
                                struct jinja_value b);
struct jinja_value jinja_negate(struct jinja_render *r, struct jinja_value v);
struct jinja_value jinja_plus(struct jinja_render *r, struct jinja_value v);
/* Fails with the sentence of an undefined value; any other kind passes. */
int jinja_defined(struct jinja_render *r, struct jinja_value v);

/* jinja_call.c */
struct jinja_value jinja_invoke(struct jinja_render *r, const struct jinja_callable *f,
                                struct jinja_value self, const struct jinja_args *args,
                                const char *what);
struct jinja_value jinja_call_value(struct jinja_render *r, struct jinja_value callee,
                                    const struct jinja_args *args);
int jinja_evaluate_args(struct jinja_render *r, const struct jinja_arguments *from,
                        struct jinja_args *out);
struct jinja_value jinja_macro_value(struct jinja_render *r, const struct jinja_node *node);

/* jinja_expr.c */
struct jinja_value jinja_evaluate(struct jinja_render *r, const struct jinja_node *node);

/* jinja_eval.c */
enum jinja_flow { JINJA_GO_ON, JINJA_BREAK, JINJA_CONTINUE };
enum jinja_flow jinja_run(struct jinja_render *r, struct jinja_nodes body);
struct jinja_value jinja_scoped_text(struct jinja_render *r, struct jinja_nodes body);
/* jinja_loop.c */
enum jinja_flow jinja_run_for(struct jinja_render *r, const struct jinja_node *node);
struct jinja_value jinja_loop_again(struct jinja_render *r, struct jinja_loop *loop,
                                    struct jinja_value items);
struct jinja_value jinja_loop_member(struct jinja_render *r, struct jinja_value loop,
                                     struct base_view name);

/* jinja_scope.c */
struct jinja_scope *jinja_scope_push(struct jinja_render *r, struct jinja_scope *outer);
struct jinja_value jinja_lookup(struct jinja_render *r, jinja_symbol name);
void jinja_assign(struct jinja_render *r, jinja_symbol name, struct jinja_value value);
void jinja_assign_target(struct jinja_render *r, const struct jinja_node *target,
                         struct jinja_value value);

/* Tables; NULL where the name is unknown. */
const struct jinja_callable *jinja_find_filter(struct base_view name); /* jinja_filters.c */
const struct jinja_callable *jinja_find_filter_of_lists(struct base_view name);
const struct jinja_callable *jinja_find_filter_of_texts(struct base_view name);
const struct jinja_callable *jinja_find_test(struct base_view name);     /* jinja_tests.c */
const struct jinja_callable *jinja_find_function(struct base_view name); /* jinja_globals.c */
const struct jinja_callable *jinja_find_method(uint8_t kind, struct base_view name);
const struct jinja_callable *jinja_find_text_method(struct base_view name);
const struct jinja_callable *jinja_find_text_test(struct base_view name);
const struct jinja_callable *jinja_find_in(const struct jinja_callable *table, size_t n,
                                           struct base_view name);
/* 1 if the name is a method that would change the object. */
int jinja_mutates(uint8_t kind, struct base_view name);

/* jinja_sort.c: stable; `keys` is reordered along with `items`. */
void jinja_sort(struct jinja_render *r, struct jinja_value *keys, struct jinja_value *items,
                size_t n, int reverse);

#endif
