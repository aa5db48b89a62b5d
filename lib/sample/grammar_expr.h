/* Expressions that all front ends (GBNF, regular expressions, JSON Schema, choices) build, and
 * that become one pushdown automaton over bytes.
 *
 * A builder remembers its first failure and gives a harmless expression from then on, so that
 * front ends build without looking after each call; `status` is looked at once at the end. */
#ifndef SAMPLE_GRAMMAR_EXPR_H
#define SAMPLE_GRAMMAR_EXPR_H

#include "base/array.h"
#include "sample/charset.h"

enum {
    GRAMMAR_NEVER, /* matches nothing */
    GRAMMAR_BYTES, /* this text; the empty one too */
    GRAMMAR_CHARS, /* one character of a set, in UTF-8 */
    GRAMMAR_BYTE,  /* one byte of a range */
    GRAMMAR_SEQ,
    GRAMMAR_ALT,
    GRAMMAR_REPEAT,
    GRAMMAR_RULE,
    GRAMMAR_GRAPH /* a finite automaton whose labels are expressions */
};

#define GRAMMAR_UNBOUNDED UINT32_MAX

struct grammar_expr;

struct grammar_arc {
    uint32_t from, to;
    const struct grammar_expr *label;
};

struct grammar_expr {
    int32_t kind;
    uint32_t n; /* items, ranges or arcs; the number of a rule */
    union {
        struct base_view bytes;
        const struct charset_range *ranges;
        const struct grammar_expr **items;
        struct {
            const struct grammar_expr *body;
            uint32_t min, max;
        } repeat;
        struct {
            uint8_t lo, hi;
        } byte;
        struct {
            const struct grammar_arc *arcs;
            const uint8_t *accepts; /* of each state; state 0 is the start */
            uint32_t n_states;
        } graph;
    } as;
};

struct grammar_rule {
    struct base_view name; /* for sentences */
    const struct grammar_expr *body;
};

typedef BASE_ARRAY(const struct grammar_expr *) grammar_list;

struct grammar_builder {
    struct base_alloc alloc;
    struct base_arena arena;
    BASE_ARRAY(struct grammar_rule) rules;
    size_t max_bytes; /* of the arena */
    uint64_t work;    /* that patterns took so far */
    infer_status status;
};

void grammar_builder_init(struct grammar_builder *b, const struct base_alloc *a);
void grammar_builder_release(struct grammar_builder *b);
/* Keeps the first failure. */
void grammar_builder_fail(struct grammar_builder *b, infer_status status);

/* A rule without a body yet; the name is copied. */
uint32_t grammar_rule_new(struct grammar_builder *b, const char *name, size_t size);
void grammar_rule_set(struct grammar_builder *b, uint32_t rule, const struct grammar_expr *body);

const struct grammar_expr *grammar_never(struct grammar_builder *b);
const struct grammar_expr *grammar_empty(struct grammar_builder *b);
const struct grammar_expr *grammar_bytes(struct grammar_builder *b, const char *text, size_t size);
const struct grammar_expr *grammar_text(struct grammar_builder *b, const char *text);
const struct grammar_expr *grammar_chars(struct grammar_builder *b, const struct charset *set);
const struct grammar_expr *grammar_byte(struct grammar_builder *b, uint8_t lo, uint8_t hi);
const struct grammar_expr *grammar_seq(struct grammar_builder *b,
                                       const struct grammar_expr *const *items, size_t n);
const struct grammar_expr *grammar_alt(struct grammar_builder *b,
                                       const struct grammar_expr *const *items, size_t n);
const struct grammar_expr *grammar_repeat(struct grammar_builder *b,
                                          const struct grammar_expr *body, uint32_t min,
                                          uint32_t max);
const struct grammar_expr *grammar_call(struct grammar_builder *b, uint32_t rule);
/* The arcs and flags are copied. */
const struct grammar_expr *grammar_graph(struct grammar_builder *b, const struct grammar_arc *arcs,
                                         size_t n_arcs, const uint8_t *accepts, size_t n_states);

/* grammar_seq of the expressions named, and the same for alternatives. */
#define GRAMMAR_ITEMS(...)                                                                         \
    (const struct grammar_expr *const[]){__VA_ARGS__},                                             \
        sizeof((const struct grammar_expr *const[]){__VA_ARGS__}) / sizeof(void *)

/* Appends to a list whose memory is the builder's allocator's. */
void grammar_list_add(struct grammar_builder *b, grammar_list *list,
                      const struct grammar_expr *item);

#endif
