/* Expressions to a graph with empty moves (Thompson, CACM 11 (1968)). Short repetitions are
 * written out; long ones become counted calls, so that {1,1000000} costs no more than {1,2}. */
#include "base/error.h"
#include "sample/grammar_graph.h"

#include <string.h>

#define DEPTH_MAX     1000
#define WRITE_OUT_MAX 64 /* nodes that a repetition may take, written out */

struct build {
    struct grammar_graph *g;
    const struct base_alloc *a;
    BASE_ARRAY(const struct grammar_expr *) bodies; /* of rules, those of counted calls too */
    infer_status status;
    int depth;
};

static void fail(struct build *b, infer_status st)
{
    if (b->status == INFER_OK)
        b->status = st;
}

static int is_full(struct build *b, size_t n)
{
    if (n < GRAPH_MAX)
        return 0;
    if (b->status == INFER_OK)
        b->status = base_error(INFER_ERR_LIMIT, "the grammar needs more than %u states", GRAPH_MAX);
    return 1;
}

static uint32_t new_node(struct build *b)
{
    return is_full(b, b->g->n_nodes) ? 0 : b->g->n_nodes++;
}

static void add_empty(struct build *b, uint32_t from, uint32_t to)
{
    if (b->status == INFER_OK && !is_full(b, b->g->empties.size))
        fail(b, base_array_push(b->a, &b->g->empties, ((struct graph_empty){from, to})));
}

static void add_edge(struct build *b, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to)
{
    if (b->status == INFER_OK && !is_full(b, b->g->edges.size))
        fail(b, base_array_push(b->a, &b->g->edges, ((struct graph_edge){from, to, lo, hi})));
}

static void add_call(struct build *b, uint32_t from, uint32_t rule, uint32_t min, uint32_t max,
                     uint32_t to)
{
    if (min == 0)
        add_empty(b, from, to);
    struct graph_call call = {from, to, rule, BASE_MAX(min, 1), max};
    if (b->status == INFER_OK && !is_full(b, b->g->calls.size))
        fail(b, base_array_push(b->a, &b->g->calls, call));
}

static uint32_t add_rule(struct build *b, struct base_view name, const struct grammar_expr *body)
{
    struct graph_rule rule = {.name = name, .start = new_node(b), .end = new_node(b)};
    if (b->status != INFER_OK || is_full(b, b->bodies.size))
        return 0;
    fail(b, base_array_push(b->a, &b->g->rules, rule));
    if (b->status == INFER_OK)
        fail(b, base_array_push(b->a, &b->bodies, body));
    return b->status == INFER_OK ? (uint32_t)b->bodies.size - 1 : 0;
}

/* ------------------------------------------------------------------- UTF-8 */

static uint32_t put(uint32_t cp, uint8_t out[4])
{
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    uint32_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (uint32_t i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (uint8_t)(0x80 | (cp & 0x3F));
    out[0] = (uint8_t)((0xF00u >> n & 0xFF) | cp);
    return n;
}

/* Bytes at[i] of both ends differ in no place before i; behind it both run over all values. */
static void add_sequence(struct build *b, uint32_t from, const uint8_t *lo, const uint8_t *hi,
                         uint32_t n, uint32_t to)
{
    for (uint32_t i = 0; i < n && b->status == INFER_OK; i++) {
        uint32_t next = i + 1 == n ? to : new_node(b);
        add_edge(b, from, lo[i], hi[i], next);
        from = next;
    }
}

/* A range of characters of one length is split where its bytes would not be ranges. */
static void add_range(struct build *b, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const struct charset_range parts[] = {
        {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, CHARSET_LAST}};
    for (size_t p = 0; p < BASE_COUNT(parts); p++) {
        uint32_t at = BASE_MAX(lo, parts[p].lo), last = BASE_MIN(hi, parts[p].hi);
        while (at <= last) {
            /* The longest run from `at` in which the tail runs over all its values. */
            uint32_t end = at, span = 1;
            while (at >= 0x80 && at % (span * 64) == 0 && at + (span * 64 - 1) <= last &&
                   span < (1u << 12))
                span *= 64;
            if (at < 0x80)
                end = last;
            else /* and over some values of the byte before it */
                end = BASE_MIN(last - (last + 1 - at) % span, (at | (span * 64 - 1)));
            uint8_t first[4], final[4];
            uint32_t n = put(at, first);
            put(end, final);
            add_sequence(b, from, first, final, n, to);
            at = end + 1;
        }
    }
}

/* ------------------------------------------------------------- expressions */

static void add(struct build *b, const struct grammar_expr *e, uint32_t from, uint32_t to);

/* Nodes that an expression takes, as far as it matters. */
static uint32_t cost(const struct grammar_expr *e, uint32_t limit)
{
    uint32_t sum = 1;
    switch (e->kind) {
    case GRAMMAR_BYTES:
        return (uint32_t)BASE_MIN(e->as.bytes.size, limit);
    case GRAMMAR_CHARS:
        return e->as.ranges[e->n - 1].hi < 0x80 ? 1 : 6;
    case GRAMMAR_SEQ:
    case GRAMMAR_ALT:
        for (uint32_t i = 0; i < e->n && sum < limit; i++)
            sum += cost(e->as.items[i], limit - sum);
        return sum;
    case GRAMMAR_REPEAT:
    case GRAMMAR_GRAPH:
        return limit;
    default:
        return 1;
    }
}

static void add_written_out(struct build *b, const struct grammar_expr *e, uint32_t from,
                            uint32_t to)
{
    const struct grammar_expr *body = e->as.repeat.body;
    for (uint32_t i = 0; i < e->as.repeat.max && b->status == INFER_OK; i++) {
        uint32_t next = i + 1 == e->as.repeat.max ? to : new_node(b);
        if (i >= e->as.repeat.min)
            add_empty(b, from, to);
        add(b, body, from, next);
        from = next;
    }
}

static void add_repeat(struct build *b, const struct grammar_expr *e, uint32_t from, uint32_t to)
{
    const struct grammar_expr *body = e->as.repeat.body;
    uint32_t min = e->as.repeat.min, max = e->as.repeat.max;
    if (max == GRAMMAR_UNBOUNDED && min <= 1) {
        uint32_t begin = new_node(b), end = new_node(b);
        add_empty(b, from, begin);
        add(b, body, begin, end);
        add_empty(b, end, begin);
        add_empty(b, end, to);
        if (min == 0)
            add_empty(b, from, to);
    } else if (max == 1 || (max != GRAMMAR_UNBOUNDED &&
                            (uint64_t)cost(body, WRITE_OUT_MAX) * max <= WRITE_OUT_MAX)) {
        add_written_out(b, e, from, to);
    } else if (body->kind == GRAMMAR_RULE) {
        add_call(b, from, body->n, min, max, to);
    } else {
        add_call(b, from, add_rule(b, (struct base_view){"a repetition", 12}, body), min, max, to);
    }
}

static void add_graph(struct build *b, const struct grammar_expr *e, uint32_t from, uint32_t to)
{
    uint32_t first = b->g->n_nodes;
    for (uint32_t i = 0; i < e->as.graph.n_states; i++) {
        uint32_t node = new_node(b);
        if (e->as.graph.accepts[i])
            add_empty(b, node, to);
    }
    add_empty(b, from, first);
    for (uint32_t i = 0; i < e->n && b->status == INFER_OK; i++) {
        const struct grammar_arc *arc = &e->as.graph.arcs[i];
        add(b, arc->label, first + arc->from, first + arc->to);
    }
}

static void add_seq(struct build *b, const struct grammar_expr *e, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < e->n && b->status == INFER_OK; i++) {
        uint32_t next = i + 1 == e->n ? to : new_node(b);
        add(b, e->as.items[i], from, next);
        from = next;
    }
}

static void add_bytes(struct build *b, struct base_view bytes, uint32_t from, uint32_t to)
{
    const uint8_t *data = (const uint8_t *)bytes.data;
    if (bytes.size == 0)
        add_empty(b, from, to);
    for (size_t i = 0; i < bytes.size && b->status == INFER_OK; i++) {
        uint32_t next = i + 1 == bytes.size ? to : new_node(b);
        add_edge(b, from, data[i], data[i], next);
        from = next;
    }
}

static void add(struct build *b, const struct grammar_expr *e, uint32_t from, uint32_t to)
{
    if (b->status != INFER_OK)
        return;
    if (++b->depth > DEPTH_MAX)
        fail(b, base_error(INFER_ERR_LIMIT, "the grammar nests more than %d levels", DEPTH_MAX));
    switch (e->kind) {
    case GRAMMAR_BYTES:
        add_bytes(b, e->as.bytes, from, to);
        break;
    case GRAMMAR_CHARS:
        for (uint32_t i = 0; i < e->n && b->status == INFER_OK; i++)
            add_range(b, from, e->as.ranges[i].lo, e->as.ranges[i].hi, to);
        break;
    case GRAMMAR_BYTE:
        add_edge(b, from, e->as.byte.lo, e->as.byte.hi, to);
        break;
    case GRAMMAR_SEQ:
        add_seq(b, e, from, to);
        break;
    case GRAMMAR_ALT:
        for (uint32_t i = 0; i < e->n; i++)
            add(b, e->as.items[i], from, to);
        break;
    case GRAMMAR_REPEAT:
        add_repeat(b, e, from, to);
        break;
    case GRAMMAR_RULE:
        add_call(b, from, e->n, 1, 1, to);
        break;
    case GRAMMAR_GRAPH:
        add_graph(b, e, from, to);
        break;
    default: /* GRAMMAR_NEVER: no way */
        break;
    }
    b->depth--;
}

infer_status grammar_graph_build(struct grammar_graph *g, const struct grammar_builder *builder)
{
    *g = (struct grammar_graph){.alloc = builder->alloc};
    struct build b = {.g = g, .a = &g->alloc};
    for (size_t i = 0; i < builder->rules.size && b.status == INFER_OK; i++)
        add_rule(&b, builder->rules.data[i].name, builder->rules.data[i].body);
    /* The list grows by the bodies of counted calls. */
    for (size_t i = 0; i < b.bodies.size && b.status == INFER_OK; i++)
        if (b.bodies.data[i])
            add(&b, b.bodies.data[i], g->rules.data[i].start, g->rules.data[i].end);
    base_array_release(&g->alloc, &b.bodies);
    return b.status;
}

void grammar_graph_release(struct grammar_graph *g)
{
    base_array_release(&g->alloc, &g->edges);
    base_array_release(&g->alloc, &g->empties);
    base_array_release(&g->alloc, &g->calls);
    base_array_release(&g->alloc, &g->rules);
}
