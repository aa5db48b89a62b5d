/* From a graph with empty moves to the automaton: empty moves are followed, rules that cannot end
 * and ways into them are dropped, rules that would call themselves at once are refused, nodes with
 * the same ways out become one. */
#include "base/error.h"
#include "base/hash.h"
#include "sample/grammar_graph.h"

#include <string.h>

#define NONE     UINT32_MAX
#define WORK_MAX 200000000u /* nodes that all searches may look at */

/* Lists by node: items of node n stand at order[first[n]] .. order[first[n + 1] - 1]. */
struct index {
    uint32_t *first, *order;
};

struct reduce {
    const struct base_alloc *a;
    struct grammar_graph *g;
    struct infer_grammar *out;
    uint32_t root;
    struct index empties, edges, calls;
    uint32_t *id;      /* of a graph node in the automaton, or NONE */
    uint32_t *todo;    /* graph nodes to make, in the order of their ids; a start twice */
    uint8_t *is_start; /* of todo: as a rule's start, which never accepts */
    uint32_t n_todo;
    uint32_t *starts; /* of a rule, its start's id */
    uint32_t *mark;   /* the last search that met a graph node */
    uint32_t *stack;
    uint64_t work;
    uint32_t *call_number; /* of a graph call in call_table, or NONE */
    uint32_t *call_mark;   /* the last node that a call of call_table was put into */
    size_t edges_capacity, calls_capacity, table_capacity, nodes_capacity;
    uint32_t *table_slots; /* hash of call_table */
    size_t n_table_slots;
};

static infer_status make_index(struct index *ix, const struct base_alloc *a, uint32_t n_nodes,
                               const void *items, size_t n, size_t item_bytes)
{
    ix->first = base_new(a, (size_t)n_nodes + 1, sizeof *ix->first);
    ix->order = base_new_raw(a, n, sizeof *ix->order);
    if (!ix->first || !ix->order)
        return INFER_ERR_NO_MEMORY;
    const char *p = items;
    uint32_t from;
    for (size_t i = 0; i < n; i++) {
        memcpy(&from, p + i * item_bytes, sizeof from); /* each item begins with it */
        ix->first[from + 1]++;
    }
    for (uint32_t i = 0; i < n_nodes; i++)
        ix->first[i + 1] += ix->first[i];
    for (size_t i = n; i-- > 0;) {
        memcpy(&from, p + i * item_bytes, sizeof from);
        ix->order[--ix->first[from + 1]] = (uint32_t)i;
    }
    /* Every entry went one place to the front. */
    memmove(ix->first, ix->first + 1, n_nodes * sizeof *ix->first);
    ix->first[n_nodes] = (uint32_t)n;
    return INFER_OK;
}

static void release_index(struct index *ix, const struct base_alloc *a)
{
    base_free(a, ix->first);
    base_free(a, ix->order);
}

/* --------------------------------------------------------------- nullable */

static int reaches_end(struct reduce *r, const struct graph_rule *rule, uint32_t stamp)
{
    uint32_t n = 0;
    r->stack[n++] = rule->start;
    r->mark[rule->start] = stamp;
    while (n) {
        uint32_t node = r->stack[--n];
        r->work++;
        if (node == rule->end)
            return 1;
        for (uint32_t i = r->empties.first[node]; i < r->empties.first[node + 1]; i++) {
            uint32_t to = r->g->empties.data[r->empties.order[i]].to;
            if (r->mark[to] != stamp) {
                r->mark[to] = stamp;
                r->stack[n++] = to;
            }
        }
        for (uint32_t i = r->calls.first[node]; i < r->calls.first[node + 1]; i++) {
            const struct graph_call *call = &r->g->calls.data[r->calls.order[i]];
            if (r->g->rules.data[call->rule].nullable && r->mark[call->to] != stamp) {
                r->mark[call->to] = stamp;
                r->stack[n++] = call->to;
            }
        }
    }
    return 0;
}

static infer_status check_work(const struct reduce *r)
{
    if (r->work <= WORK_MAX)
        return INFER_OK;
    return base_error(INFER_ERR_LIMIT, "the grammar's rules are too entangled to compile");
}

static infer_status find_nullable(struct reduce *r, uint32_t *stamp)
{
    infer_status st = INFER_OK;
    for (int changed = 1; changed && st == INFER_OK;) {
        changed = 0;
        for (size_t i = r->g->rules.size; i-- > 0;) {
            struct graph_rule *rule = &r->g->rules.data[i];
            if (rule->nullable || !reaches_end(r, rule, ++*stamp))
                continue;
            rule->nullable = 1;
            changed = 1;
        }
        st = check_work(r);
    }
    return st;
}

/* ------------------------------------------------------------ empty moves */

static infer_status grow(struct reduce *r, void **data, size_t n, size_t *capacity, size_t bytes)
{
    if (n >= 4 * (size_t)GRAPH_MAX)
        return base_error(INFER_ERR_LIMIT, "the grammar needs more than %u edges", 4 * GRAPH_MAX);
    return base_array_grow(r->a, data, n, capacity, bytes, 1);
}

static uint32_t node_of(struct reduce *r, uint32_t graph_node)
{
    if (r->id[graph_node] == NONE) {
        r->id[graph_node] = r->n_todo;
        r->is_start[r->n_todo] = 0;
        r->todo[r->n_todo++] = graph_node;
    }
    return r->id[graph_node];
}

static uint32_t start_of(struct reduce *r, uint32_t rule)
{
    if (r->starts[rule] == NONE) {
        r->starts[rule] = r->n_todo;
        r->is_start[r->n_todo] = 1;
        r->todo[r->n_todo++] = r->g->rules.data[rule].start;
    }
    return r->starts[rule];
}

static infer_status put_edge(struct reduce *r, const struct graph_edge *e)
{
    struct infer_grammar *out = r->out;
    struct grammar_edge edge = {node_of(r, e->to), e->lo, e->hi};
    infer_status st =
        grow(r, (void **)&out->edges, out->n_edges, &r->edges_capacity, sizeof *out->edges);
    if (st == INFER_OK)
        out->edges[out->n_edges++] = edge;
    return st;
}

static int edge_is_before(struct grammar_edge a, struct grammar_edge b)
{
    if (a.lo != b.lo || a.hi != b.hi)
        return a.lo != b.lo ? a.lo < b.lo : a.hi < b.hi;
    return a.target < b.target;
}

static void sink(struct grammar_edge *e, size_t i, size_t n)
{
    struct grammar_edge item = e[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && edge_is_before(e[child], e[child + 1]))
            child++;
        if (!edge_is_before(item, e[child]))
            break;
        e[i] = e[child];
    }
    e[i] = item;
}

/* Sorts a node's edges and drops doubles; returns how many are left. */
static size_t sort_edges(struct grammar_edge *e, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sink(e, i, n);
    for (size_t left = n; left-- > 1;) {
        struct grammar_edge top = e[0];
        e[0] = e[left];
        e[left] = top;
        sink(e, 0, left);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || edge_is_before(e[kept - 1], e[i]))
            e[kept++] = e[i];
    return kept;
}

static infer_status call_number(struct reduce *r, struct grammar_call call, uint32_t *number)
{
    struct infer_grammar *out = r->out;
    uint64_t hash = base_hash64(&call, sizeof call, 0);
    size_t slot = hash & (r->n_table_slots - 1);
    for (; r->table_slots[slot] != NONE; slot = (slot + 1) & (r->n_table_slots - 1)) {
        *number = r->table_slots[slot];
        if (memcmp(&out->call_table[*number], &call, sizeof call) == 0)
            return INFER_OK;
    }
    infer_status st = grow(r, (void **)&out->call_table, out->n_call_table, &r->table_capacity,
                           sizeof *out->call_table);
    if (st != INFER_OK)
        return st;
    *number = (uint32_t)out->n_call_table++;
    out->call_table[*number] = call;
    r->table_slots[slot] = *number;
    return INFER_OK;
}

static infer_status put_call(struct reduce *r, uint32_t graph_call, uint32_t stamp)
{
    struct infer_grammar *out = r->out;
    const struct graph_call *c = &r->g->calls.data[graph_call];
    infer_status st = INFER_OK;
    if (r->call_number[graph_call] == NONE) {
        struct grammar_call call = {start_of(r, c->rule), node_of(r, c->to), c->min, c->max};
        if (r->g->rules.data[c->rule].nullable)
            call.min = 1;
        st = call_number(r, call, &r->call_number[graph_call]);
    }
    uint32_t number = r->call_number[graph_call];
    if (st != INFER_OK || r->call_mark[number] == stamp)
        return st;
    r->call_mark[number] = stamp;
    st = grow(r, (void **)&out->calls, out->n_calls, &r->calls_capacity, sizeof *out->calls);
    if (st == INFER_OK)
        out->calls[out->n_calls++] = number;
    return st;
}

/* Everything that leaves the nodes met without a byte belongs to the first of them. */
static infer_status make_node(struct reduce *r, uint32_t at, uint32_t stamp, const uint8_t *ends)
{
    uint32_t n = 0;
    infer_status st = INFER_OK;
    struct grammar_node node = {.edges = (uint32_t)r->out->n_edges,
                                .calls = (uint32_t)r->out->n_calls};
    r->stack[n++] = r->todo[at];
    r->mark[r->todo[at]] = stamp;
    while (n && st == INFER_OK) {
        uint32_t from = r->stack[--n];
        node.accepts |= ends[from] && !r->is_start[at];
        r->work++;
        for (uint32_t i = r->edges.first[from]; i < r->edges.first[from + 1] && st == INFER_OK; i++)
            st = put_edge(r, &r->g->edges.data[r->edges.order[i]]);
        for (uint32_t i = r->empties.first[from]; i < r->empties.first[from + 1]; i++) {
            uint32_t to = r->g->empties.data[r->empties.order[i]].to;
            if (r->mark[to] != stamp) {
                r->mark[to] = stamp;
                r->stack[n++] = to;
            }
        }
        for (uint32_t i = r->calls.first[from]; i < r->calls.first[from + 1] && st == INFER_OK;
             i++) {
            const struct graph_call *call = &r->g->calls.data[r->calls.order[i]];
            st = put_call(r, r->calls.order[i], stamp);
            if (r->g->rules.data[call->rule].nullable && r->mark[call->to] != stamp) {
                r->mark[call->to] = stamp;
                r->stack[n++] = call->to;
            }
        }
    }
    if (st == INFER_OK)
        st = check_work(r);
    if (st == INFER_OK)
        st = grow(r, (void **)&r->out->nodes, r->out->n_nodes, &r->nodes_capacity, sizeof node);
    if (st != INFER_OK)
        return st;
    node.n_edges = (uint32_t)sort_edges(r->out->edges + node.edges, r->out->n_edges - node.edges);
    r->out->n_edges = node.edges + node.n_edges;
    node.n_calls = (uint32_t)r->out->n_calls - node.calls;
    r->out->nodes[r->out->n_nodes++] = node;
    return INFER_OK;
}

static infer_status make_nodes(struct reduce *r, uint32_t stamp)
{
    uint8_t *ends = base_new(r->a, r->g->n_nodes, 1);
    if (!ends)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < r->g->rules.size; i++)
        ends[r->g->rules.data[i].end] = 1;
    infer_status st = INFER_OK;
    r->out->start = node_of(r, r->g->rules.data[r->root].start); /* accepts, if the root does */
    for (uint32_t i = 0; i < r->n_todo && st == INFER_OK; i++)
        st = make_node(r, i, ++stamp, ends);
    base_free(r->a, ends);
    return st;
}

/* ------------------------------------------------------------------ order */

static infer_status allocate(struct reduce *r)
{
    const struct grammar_graph *g = r->g;
    size_t n = g->n_nodes, n_rules = g->rules.size;
    infer_status st = make_index(&r->empties, r->a, g->n_nodes, g->empties.data, g->empties.size,
                                 sizeof *g->empties.data);
    if (st == INFER_OK)
        st = make_index(&r->edges, r->a, g->n_nodes, g->edges.data, g->edges.size,
                        sizeof *g->edges.data);
    if (st == INFER_OK)
        st = make_index(&r->calls, r->a, g->n_nodes, g->calls.data, g->calls.size,
                        sizeof *g->calls.data);
    if (st != INFER_OK)
        return st;
    r->id = base_new_raw(r->a, n, sizeof *r->id);
    r->todo = base_new_raw(r->a, n + n_rules, sizeof *r->todo);
    r->is_start = base_new_raw(r->a, n + n_rules, 1);
    r->starts = base_new_raw(r->a, n_rules, sizeof *r->starts);
    r->mark = base_new(r->a, n, sizeof *r->mark);
    r->stack = base_new_raw(r->a, n, sizeof *r->stack);
    r->call_number = base_new_raw(r->a, g->calls.size, sizeof *r->call_number);
    r->call_mark = base_new(r->a, g->calls.size, sizeof *r->call_mark);
    for (r->n_table_slots = 16; r->n_table_slots < 2 * g->calls.size + 2;)
        r->n_table_slots *= 2;
    r->table_slots = base_new_raw(r->a, r->n_table_slots, sizeof *r->table_slots);
    if (!r->id || !r->todo || !r->is_start || !r->starts || !r->mark || !r->stack ||
        !r->table_slots || !r->call_number || !r->call_mark)
        return INFER_ERR_NO_MEMORY;
    memset(r->call_number, 0xFF, g->calls.size * sizeof *r->call_number);
    memset(r->id, 0xFF, n * sizeof *r->id);
    memset(r->starts, 0xFF, n_rules * sizeof *r->starts);
    memset(r->table_slots, 0xFF, r->n_table_slots * sizeof *r->table_slots);
    return INFER_OK;
}

/* Even an empty array is one: nodes point into them. */
static infer_status reserve(struct reduce *r)
{
    struct infer_grammar *out = r->out;
    infer_status st = grow(r, (void **)&out->edges, 0, &r->edges_capacity, sizeof *out->edges);
    if (st == INFER_OK)
        st = grow(r, (void **)&out->calls, 0, &r->calls_capacity, sizeof *out->calls);
    if (st == INFER_OK)
        st = grow(r, (void **)&out->call_table, 0, &r->table_capacity, sizeof *out->call_table);
    return st;
}

/* The rule whose start has this id. */
static struct base_view rule_name(const struct reduce *r, uint32_t start)
{
    for (size_t i = 0; i < r->g->rules.size; i++)
        if (r->starts[i] == start)
            return r->g->rules.data[i].name;
    return (struct base_view){"", 0};
}

/* Depth first along the calls that stand at the beginning; a way back to a rule that is still
 * open is left recursion. Starts are few, so the stack holds (node, next call). */
static infer_status check_recursion(struct reduce *r)
{
    const struct infer_grammar *out = r->out;
    infer_status st = INFER_OK;
    uint8_t *state = base_new(r->a, out->n_nodes, 1); /* 1: open, 2: done */
    uint32_t *next = base_new(r->a, out->n_nodes, sizeof *next);
    uint32_t *path = base_new_raw(r->a, out->n_nodes, sizeof *path);
    if (!state || !next || !path)
        st = INFER_ERR_NO_MEMORY;
    for (size_t i = 0; st == INFER_OK && i < out->n_nodes; i++) {
        uint32_t n = 0;
        if (state[i] == 0 && r->is_start[i]) {
            path[n++] = (uint32_t)i;
            state[i] = 1;
        }
        while (n && st == INFER_OK) {
            uint32_t at = path[n - 1];
            const struct grammar_node *node = &out->nodes[at];
            if (next[at] == node->n_calls) {
                state[at] = 2;
                n--;
                continue;
            }
            uint32_t to = out->call_table[out->calls[node->calls + next[at]++]].start;
            struct base_view name = rule_name(r, to);
            if (state[to] == 1)
                st = base_error(INFER_ERR_INVALID,
                                "rule \"%.*s\" calls itself before it matches anything (left "
                                "recursion): write it as a repetition",
                                (int)BASE_MIN(name.size, 100), name.data);
            if (state[to] == 0) {
                state[to] = 1;
                path[n++] = to;
            }
        }
    }
    base_free(r->a, state);
    base_free(r->a, next);
    base_free(r->a, path);
    return st;
}

infer_status grammar_graph_reduce(struct infer_grammar *out, const struct grammar_graph *g,
                                  uint32_t root)
{
    uint32_t stamp = 0;
    struct reduce r = {.a = &g->alloc, .g = (struct grammar_graph *)g, .out = out, .root = root};
    infer_status st = allocate(&r);
    if (st == INFER_OK)
        st = reserve(&r);
    if (st == INFER_OK)
        st = find_nullable(&r, &stamp);
    if (st == INFER_OK)
        st = make_nodes(&r, stamp);
    if (st == INFER_OK)
        st = check_recursion(&r);
    release_index(&r.empties, r.a);
    release_index(&r.edges, r.a);
    release_index(&r.calls, r.a);
    base_free(r.a, r.id);
    base_free(r.a, r.todo);
    base_free(r.a, r.is_start);
    base_free(r.a, r.starts);
    base_free(r.a, r.mark);
    base_free(r.a, r.stack);
    base_free(r.a, r.table_slots);
    base_free(r.a, r.call_number);
    base_free(r.a, r.call_mark);
    return st;
}
