/* Dropping ways that never reach an end, and making one of nodes with the same ways out. */
#include "sample/grammar_trim.h"

#include "base/error.h"
#include "base/hash.h"

#include <string.h>

#define NONE   UINT32_MAX
#define ROUNDS 16 /* of merging; each joins the nodes in front of what the last one joined */

/* --------------------------------------------------------------- dead ends */

struct alive {
    struct infer_grammar *g;
    uint8_t *node;                 /* reaches the end of its rule */
    uint32_t *first_in, *in;       /* nodes with an edge to a node; */
    uint32_t *first_call, *called; /* nodes that make a call of the table */
    uint32_t *first_use, *uses;    /* calls that begin or go on at a node */
    uint32_t *stack;
    uint32_t n_stack;
};

static void mark(struct alive *v, uint32_t node)
{
    if (v->node[node])
        return;
    v->node[node] = 1;
    v->stack[v->n_stack++] = node;
}

static void spread(struct alive *v)
{
    while (v->n_stack) {
        uint32_t node = v->stack[--v->n_stack];
        for (uint32_t i = v->first_in[node]; i < v->first_in[node + 1]; i++)
            mark(v, v->in[i]);
        for (uint32_t i = v->first_use[node]; i < v->first_use[node + 1]; i++) {
            uint32_t number = v->uses[i];
            const struct grammar_call *call = &v->g->call_table[number];
            if (!v->node[call->start] || !v->node[call->ret])
                continue;
            for (uint32_t k = v->first_call[number]; k < v->first_call[number + 1]; k++)
                mark(v, v->called[k]);
        }
    }
}

static void sums(uint32_t *first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        first[i + 1] += first[i];
}

/* Counting sorts: first how many there are of each, then where each list begins. */
static void count_ways(struct alive *v)
{
    const struct infer_grammar *g = v->g;
    for (size_t i = 0; i < g->n_edges; i++)
        v->first_in[g->edges[i].target + 1]++;
    for (size_t i = 0; i < g->n_calls; i++)
        v->first_call[g->calls[i] + 1]++;
    for (size_t i = 0; i < g->n_call_table; i++) {
        v->first_use[g->call_table[i].start + 1]++;
        v->first_use[g->call_table[i].ret + 1]++;
    }
    sums(v->first_in, g->n_nodes);
    sums(v->first_call, g->n_call_table);
    sums(v->first_use, g->n_nodes);
}

static infer_status fill_ways(struct alive *v)
{
    const struct infer_grammar *g = v->g;
    size_t n = BASE_MAX(g->n_nodes, g->n_call_table);
    uint32_t *at = base_new_raw(&g->alloc, n, sizeof *at);
    if (!at)
        return INFER_ERR_NO_MEMORY;
    memcpy(at, v->first_in, g->n_nodes * sizeof *at);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].n_edges; k++)
            v->in[at[g->edges[g->nodes[i].edges + k].target]++] = i;
    memcpy(at, v->first_call, g->n_call_table * sizeof *at);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; k < g->nodes[i].n_calls; k++)
            v->called[at[g->calls[g->nodes[i].calls + k]]++] = i;
    memcpy(at, v->first_use, g->n_nodes * sizeof *at);
    for (uint32_t i = 0; i < g->n_call_table; i++) {
        v->uses[at[g->call_table[i].start]++] = i;
        v->uses[at[g->call_table[i].ret]++] = i;
    }
    base_free(&g->alloc, at);
    return INFER_OK;
}

static infer_status find_alive(struct alive *v)
{
    const struct infer_grammar *g = v->g;
    const struct base_alloc *a = &g->alloc;
    v->node = base_new(a, g->n_nodes, 1);
    v->first_in = base_new(a, g->n_nodes + 1, sizeof *v->first_in);
    v->in = base_new_raw(a, g->n_edges, sizeof *v->in);
    v->first_call = base_new(a, g->n_call_table + 1, sizeof *v->first_call);
    v->called = base_new_raw(a, g->n_calls, sizeof *v->called);
    v->first_use = base_new(a, g->n_nodes + 1, sizeof *v->first_use);
    v->uses = base_new_raw(a, 2 * g->n_call_table, sizeof *v->uses);
    v->stack = base_new_raw(a, g->n_nodes, sizeof *v->stack);
    if (!v->node || !v->first_in || !v->in || !v->first_call || !v->called || !v->first_use ||
        !v->uses || !v->stack)
        return INFER_ERR_NO_MEMORY;
    count_ways(v);
    infer_status st = fill_ways(v);
    if (st != INFER_OK)
        return st;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].accepts)
            mark(v, i);
    spread(v);
    return INFER_OK;
}

static void drop_dead(struct infer_grammar *g, const uint8_t *alive)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        struct grammar_node *node = &g->nodes[i];
        uint32_t n = 0;
        for (uint32_t k = 0; k < node->n_edges; k++) {
            struct grammar_edge e = g->edges[node->edges + k];
            if (alive[e.target])
                g->edges[node->edges + n++] = e;
        }
        node->n_edges = n;
        n = 0;
        for (uint32_t k = 0; k < node->n_calls; k++) {
            uint32_t number = g->calls[node->calls + k];
            if (alive[g->call_table[number].start] && alive[g->call_table[number].ret])
                g->calls[node->calls + n++] = number;
        }
        node->n_calls = n;
    }
}

static infer_status drop_dead_ends(struct infer_grammar *g)
{
    struct alive v = {.g = g};
    infer_status st = find_alive(&v);
    if (st == INFER_OK && !v.node[g->start])
        st = base_error(INFER_ERR_INVALID, "no text matches the grammar");
    if (st == INFER_OK)
        drop_dead(g, v.node);
    base_free(&g->alloc, v.node);
    base_free(&g->alloc, v.first_in);
    base_free(&g->alloc, v.in);
    base_free(&g->alloc, v.first_call);
    base_free(&g->alloc, v.called);
    base_free(&g->alloc, v.first_use);
    base_free(&g->alloc, v.uses);
    base_free(&g->alloc, v.stack);
    return st;
}

/* ----------------------------------------------------------------- doubles */

static uint64_t hash_node(const struct infer_grammar *g, const struct grammar_node *n)
{
    uint64_t h = n->accepts;
    for (uint32_t i = 0; i < n->n_edges; i++) {
        const struct grammar_edge *e = &g->edges[n->edges + i];
        h = (h ^ ((uint64_t)e->target << 16 | e->lo << 8 | e->hi)) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 29;
    }
    return n->n_calls ? base_hash64(g->calls + n->calls, n->n_calls * sizeof *g->calls, h) : h;
}

static int same_node(const struct infer_grammar *g, const struct grammar_node *a,
                     const struct grammar_node *b)
{
    if (a->accepts != b->accepts || a->n_edges != b->n_edges || a->n_calls != b->n_calls)
        return 0;
    for (uint32_t i = 0; i < a->n_edges; i++) {
        const struct grammar_edge *x = &g->edges[a->edges + i], *y = &g->edges[b->edges + i];
        if (x->target != y->target || x->lo != y->lo || x->hi != y->hi)
            return 0;
    }
    return !a->n_calls ||
           memcmp(g->calls + a->calls, g->calls + b->calls, a->n_calls * sizeof *g->calls) == 0;
}

/* Sets to[i] to the first node that is as node i; returns how many are different. */
static size_t find_doubles(const struct infer_grammar *g, uint32_t *to, uint32_t *slots,
                           size_t n_slots)
{
    size_t different = 0;
    memset(slots, 0xFF, n_slots * sizeof *slots);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        size_t slot = hash_node(g, &g->nodes[i]) & (n_slots - 1);
        while (slots[slot] != NONE && !same_node(g, &g->nodes[slots[slot]], &g->nodes[i]))
            slot = (slot + 1) & (n_slots - 1);
        if (slots[slot] == NONE) {
            slots[slot] = i;
            different++;
        }
        to[i] = slots[slot];
    }
    return different;
}

static void rename_targets(struct infer_grammar *g, const uint32_t *to)
{
    for (size_t i = 0; i < g->n_edges; i++)
        if (to[g->edges[i].target] != NONE)
            g->edges[i].target = to[g->edges[i].target];
    for (size_t i = 0; i < g->n_call_table; i++) {
        struct grammar_call *call = &g->call_table[i];
        call->start = to[call->start] != NONE ? to[call->start] : 0;
        call->ret = to[call->ret] != NONE ? to[call->ret] : 0;
    }
    g->start = to[g->start];
}

/* Nodes that can be reached get new numbers in their old order. */
static void reach(const struct infer_grammar *g, uint32_t *id, uint32_t *stack)
{
    uint32_t n = 0;
    memset(id, 0xFF, g->n_nodes * sizeof *id);
    id[g->start] = 0;
    stack[n++] = g->start;
    while (n) {
        const struct grammar_node *node = &g->nodes[stack[--n]];
        for (uint32_t i = 0; i < node->n_edges + 2 * node->n_calls; i++) {
            uint32_t to;
            if (i < node->n_edges) {
                to = g->edges[node->edges + i].target;
            } else {
                uint32_t k = i - node->n_edges;
                const struct grammar_call *call = &g->call_table[g->calls[node->calls + k / 2]];
                to = k % 2 ? call->ret : call->start;
            }
            if (id[to] == NONE) {
                id[to] = 0;
                stack[n++] = to;
            }
        }
    }
    for (size_t i = 0; i < g->n_nodes; i++)
        if (id[i] != NONE)
            id[i] = n++;
}

static void compact(struct infer_grammar *g, const uint32_t *id)
{
    size_t n_nodes = 0, n_edges = 0, n_calls = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        if (id[i] == NONE)
            continue;
        struct grammar_node node = g->nodes[i];
        if (node.n_edges)
            memmove(g->edges + n_edges, g->edges + node.edges, node.n_edges * sizeof *g->edges);
        if (node.n_calls)
            memmove(g->calls + n_calls, g->calls + node.calls, node.n_calls * sizeof *g->calls);
        node.edges = (uint32_t)n_edges;
        node.calls = (uint32_t)n_calls;
        n_edges += node.n_edges;
        n_calls += node.n_calls;
        g->nodes[n_nodes++] = node;
    }
    g->n_nodes = n_nodes;
    g->n_edges = n_edges;
    g->n_calls = n_calls;
    rename_targets(g, id);
}

infer_status grammar_trim(struct infer_grammar *g)
{
    infer_status st = drop_dead_ends(g);
    if (st != INFER_OK)
        return st;
    size_t n_slots = 16;
    while (n_slots < 2 * g->n_nodes)
        n_slots *= 2;
    uint32_t *to = base_new_raw(&g->alloc, g->n_nodes, sizeof *to);
    uint32_t *slots = base_new_raw(&g->alloc, n_slots, sizeof *slots);
    if (to && slots) {
        reach(g, to, slots);
        compact(g, to);
        size_t before = g->n_nodes, different = 0;
        for (int i = 0; i < ROUNDS && different < before; i++) {
            before = different ? different : before;
            different = find_doubles(g, to, slots, n_slots);
            rename_targets(g, to);
        }
        reach(g, to, slots);
        compact(g, to);
    } else {
        st = INFER_ERR_NO_MEMORY;
    }
    base_free(&g->alloc, to);
    base_free(&g->alloc, slots);
    return st;
}

/* ----------------------------------------------------------------- classes */

/* Where the bytes of UTF-8 change their meaning, and what plain tokens leave out. */
static const uint16_t borders[] = {0x20, 0x22, 0x23, 0x5C, 0x5D, 0x7F, 0x80, 0x90, 0xA0, 0xC0,
                                   0xC2, 0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4, 0xF5};

void grammar_classify(struct infer_grammar *g)
{
    uint8_t begins[257] = {[0] = 1};
    for (size_t i = 0; i < BASE_COUNT(borders); i++)
        begins[borders[i]] = 1;
    for (size_t i = 0; i < g->n_edges; i++) {
        begins[g->edges[i].lo] = 1;
        begins[g->edges[i].hi + 1] = 1;
    }
    g->n_classes = 0;
    for (size_t byte = 0; byte < 256; byte++) {
        if (begins[byte]) {
            g->class_byte[g->n_classes] = (uint8_t)byte;
            g->class_size[g->n_classes++] = 0;
        }
        g->classes[byte] = (uint8_t)(g->n_classes - 1);
        g->class_size[g->n_classes - 1]++;
    }
}
