/* A compiled grammar: one pushdown automaton over bytes. Immutable and shared; the machines that
 * run it (grammar_machine.h) keep what they find out about it, one a vocabulary.
 *
 * A rule is a graph without empty moves: nodes with edges on bytes, calls of other rules, and a
 * mark where the rule may end. No rule begins by calling itself, so what may come next is found
 * in finitely many moves; from every node the end can be reached, so no choice is a dead end. */
#ifndef SAMPLE_GRAMMAR_H
#define SAMPLE_GRAMMAR_H

#include "base/hash.h"
#include "sample/grammar_expr.h"

#include <pthread.h>
#include <stdatomic.h>

struct grammar_edge {
    uint32_t target;
    uint8_t lo, hi;
};

/* Runs the rule that begins at `start` between `min` and `max` times, then goes on at `ret`.
 * What is counted is never empty: that a rule may be empty stands in its callers' edges. */
struct grammar_call {
    uint32_t start, ret;
    uint32_t min, max; /* 1 .. GRAMMAR_UNBOUNDED */
};

struct grammar_node {
    uint32_t edges, calls; /* the first of each, in their arrays */
    uint32_t n_edges, n_calls;
    uint32_t accepts; /* the rule may end here */
};

struct grammar_machine;

struct infer_grammar {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    struct grammar_node *nodes;
    struct grammar_edge *edges; /* of one node by rising `lo` */
    uint32_t *calls;            /* of one node; numbers in `call_table` */
    struct grammar_call *call_table;
    size_t n_nodes, n_edges, n_calls, n_call_table;
    uint32_t start;
    struct base_hash128 digest; /* of what it was made from, not of how it was compiled */

    uint8_t classes[256];    /* bytes of one class go the same ways */
    uint8_t class_byte[256]; /* one byte of each class, */
    uint16_t class_size[256];
    int32_t n_classes;

    pthread_mutex_t lock; /* of the list of machines */
    struct grammar_machine *machines;
};

/* LIMIT (too large), INVALID (left recursion, by the rule's name; no text at all matches),
 * NO_MEMORY. */
infer_status grammar_compile(struct infer_grammar **out, struct grammar_builder *b, uint32_t root);
struct infer_grammar *grammar_retain(struct infer_grammar *grammar);
void grammar_release(struct infer_grammar **grammar); /* NULL-safe, sets NULL */

/* Bytes of the automaton and of all its machines. */
size_t grammar_memory_bytes(struct infer_grammar *grammar);

#endif
