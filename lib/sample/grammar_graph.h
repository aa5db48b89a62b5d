/* The automaton while it is made: nodes with empty moves, before reduction. */
#ifndef SAMPLE_GRAMMAR_GRAPH_H
#define SAMPLE_GRAMMAR_GRAPH_H

#include "sample/grammar.h"

#define GRAPH_MAX (1u << 20) /* nodes, edges, calls, each */

struct graph_edge {
    uint32_t from, to;
    uint8_t lo, hi;
};

struct graph_empty {
    uint32_t from, to;
};

struct graph_call {
    uint32_t from, to, rule, min, max;
};

struct graph_rule {
    struct base_view name;
    uint32_t start, end;
    int nullable;
};

struct grammar_graph {
    struct base_alloc alloc;
    uint32_t n_nodes;
    BASE_ARRAY(struct graph_edge) edges;
    BASE_ARRAY(struct graph_empty) empties;
    BASE_ARRAY(struct graph_call) calls;
    BASE_ARRAY(struct graph_rule) rules;
};

/* Thompson's construction, a rule at a time. */
infer_status grammar_graph_build(struct grammar_graph *g, const struct grammar_builder *b);
void grammar_graph_release(struct grammar_graph *g);

/* Takes empty moves, dead ends and doubles away. */
infer_status grammar_graph_reduce(struct infer_grammar *out, const struct grammar_graph *g,
                                  uint32_t root);

#endif
