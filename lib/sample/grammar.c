/* Life of a compiled grammar. */
#include "sample/grammar.h"

#include "sample/grammar_graph.h"
#include "sample/grammar_machine.h"
#include "sample/grammar_trim.h"

static infer_status compile(struct infer_grammar *g, const struct grammar_builder *b, uint32_t root)
{
    struct grammar_graph graph;
    infer_status st = grammar_graph_build(&graph, b);
    if (st == INFER_OK)
        st = grammar_graph_reduce(g, &graph, root);
    grammar_graph_release(&graph);
    if (st == INFER_OK)
        st = grammar_trim(g);
    if (st == INFER_OK)
        grammar_classify(g);
    return st;
}

infer_status grammar_compile(struct infer_grammar **out, struct grammar_builder *b, uint32_t root)
{
    if (b->status != INFER_OK)
        return b->status;
    struct infer_grammar *g = base_new(&b->alloc, 1, sizeof *g);
    if (!g)
        return INFER_ERR_NO_MEMORY;
    g->refs = 1;
    g->alloc = b->alloc;
    pthread_mutex_init(&g->lock, NULL);
    infer_status st = compile(g, b, root);
    if (st != INFER_OK)
        grammar_release(&g);
    else
        *out = g;
    return st;
}

struct infer_grammar *grammar_retain(struct infer_grammar *grammar)
{
    atomic_fetch_add(&grammar->refs, 1);
    return grammar;
}

void grammar_release(struct infer_grammar **handle)
{
    struct infer_grammar *g = *handle;
    *handle = NULL;
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    const struct base_alloc a = g->alloc;
    grammar_machines_destroy(g);
    pthread_mutex_destroy(&g->lock);
    base_free(&a, g->nodes);
    base_free(&a, g->edges);
    base_free(&a, g->calls);
    base_free(&a, g->call_table);
    base_free(&a, g);
}

size_t grammar_memory_bytes(struct infer_grammar *g)
{
    return sizeof *g + g->n_nodes * sizeof *g->nodes + g->n_edges * sizeof *g->edges +
           g->n_calls * sizeof *g->calls + g->n_call_table * sizeof *g->call_table +
           grammar_machines_bytes(g);
}
