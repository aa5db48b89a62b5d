/* Finite automata over characters: what regular expressions, lengths and lists of names become
 * where they must be combined (a string that matches two patterns, a key that is none of these
 * names). Deterministic; a missing way leads to the state REGEX_DEAD. */
#ifndef SAMPLE_REGEX_DFA_H
#define SAMPLE_REGEX_DFA_H

#include "sample/grammar_expr.h"

#define REGEX_DEAD       UINT32_MAX
#define REGEX_STATES_MAX 10000u
#define REGEX_TABLE_MAX  (1u << 22) /* states times intervals */

struct regex_dfa {
    uint32_t n_states, n_intervals; /* state 0 is the start */
    uint32_t *begins;               /* of the intervals, rising; the first is 0 */
    uint32_t *next;                 /* n_states * n_intervals */
    uint8_t *accepts;
};

/* Anchors in an expression; in grammars themselves they have no place. */
enum { GRAMMAR_TEXT_BEGIN = 100, GRAMMAR_TEXT_END };

/* A pattern's syntax tree: GRAMMAR_BYTES, CHARS, SEQ, ALT, REPEAT, NEVER and the anchors. FORMAT
 * with the column, UNSUPPORTED (lookaround, back references and the like, by name). */
infer_status regex_parse(const struct grammar_expr **out, struct grammar_builder *b,
                         struct base_view pattern);

/* Memory is from the arena of `b`. `search`: the pattern may match anywhere in the text, else it
 * is the whole text. LIMIT where the automaton would be too large. */
infer_status regex_compile(struct regex_dfa *out, struct grammar_builder *b,
                           const struct grammar_expr *tree, int search);
/* Texts of min .. max characters. */
infer_status regex_of_length(struct regex_dfa *out, struct grammar_builder *b, uint32_t min,
                             uint32_t max);
/* Exactly these texts (UTF-8). */
infer_status regex_of_texts(struct regex_dfa *out, struct grammar_builder *b,
                            const struct base_view *texts, size_t n);

enum { REGEX_AND, REGEX_AND_NOT };
infer_status regex_combine(struct regex_dfa *out, struct grammar_builder *b,
                           const struct regex_dfa *x, const struct regex_dfa *y, int how);

int regex_is_empty(const struct regex_dfa *d, struct grammar_builder *b); /* 1 on failure too */
int regex_accepts(const struct regex_dfa *d, struct base_view text);

/* As an expression; `json`: inside of a JSON string, with the escapes that it needs. */
const struct grammar_expr *regex_expr(struct grammar_builder *b, const struct regex_dfa *d,
                                      int json);
/* One character of a set, so written. */
const struct grammar_expr *regex_json_chars(struct grammar_builder *b, const struct charset *set);

#endif
