/* Patterns to deterministic automata: Thompson's construction over characters, then subsets (Rabin
 * and Scott 1959). "^" can only be passed before the first character, "$" behind the last. */
#include "sample/regex_dfa.h"

#include "base/error.h"
#include "base/hash.h"
#include "text/unicode.h"

#include <string.h>

#define NFA_MAX  50000u
#define WORK_MAX UINT64_C(50000000) /* of all patterns of a grammar */

enum { EMPTY, AT_BEGIN, AT_END, CHARS };

struct nfa_edge {
    uint32_t from, to;
    uint32_t lo, hi; /* characters, later intervals */
    int32_t kind;
};

struct subset {
    uint32_t first, n; /* in `members` */
};

struct regex_build {
    struct grammar_builder *b;
    const struct base_alloc *a;
    uint32_t n_nodes;
    BASE_ARRAY(struct nfa_edge) edges;
    uint32_t *first, *order; /* edges by node */
    BASE_ARRAY(uint32_t) begins;
    BASE_ARRAY(uint32_t) members;
    BASE_ARRAY(struct subset) subsets;
    BASE_ARRAY(uint32_t) next;
    BASE_ARRAY(uint8_t) accepts;
    uint32_t *slots; /* subsets by hash */
    uint32_t n_slots;
    uint32_t *mark, *stack, stamp;
    uint64_t work;
    uint32_t end;
    int depth;
    infer_status status;
};

static void fail(struct regex_build *r, infer_status st)
{
    if (r->status == INFER_OK)
        r->status = st;
}

static void too_large(struct regex_build *r)
{
    if (r->status == INFER_OK)
        r->status = base_error(INFER_ERR_LIMIT,
                               "the regular expression needs an automaton of more than %u states",
                               REGEX_STATES_MAX);
}

static uint32_t new_node(struct regex_build *r)
{
    if (r->n_nodes >= NFA_MAX)
        too_large(r);
    return r->status == INFER_OK ? r->n_nodes++ : 0;
}

static void add_edge(struct regex_build *r, uint32_t from, uint32_t to, int32_t kind, uint32_t lo,
                     uint32_t hi)
{
    if (r->edges.size >= 8 * NFA_MAX)
        too_large(r);
    if (r->status == INFER_OK)
        fail(r, base_array_push(r->a, &r->edges, ((struct nfa_edge){from, to, lo, hi, kind})));
}

/* -------------------------------------------------------------------- NFA */

static void add(struct regex_build *r, const struct grammar_expr *e, uint32_t from, uint32_t to);

static void add_bytes(struct regex_build *r, struct base_view text, uint32_t from, uint32_t to)
{
    if (!text.size)
        add_edge(r, from, to, EMPTY, 0, 0);
    for (size_t i = 0; i < text.size && r->status == INFER_OK;) {
        uint32_t cp = TEXT_REPLACEMENT;
        int n = text_utf8_next(text.data + i, text.size - i, &cp);
        i += n > 0 ? (size_t)n : 1;
        uint32_t next = i >= text.size ? to : new_node(r);
        add_edge(r, from, next, CHARS, cp, cp);
        from = next;
    }
}

static void add_repeat(struct regex_build *r, const struct grammar_expr *e, uint32_t from,
                       uint32_t to)
{
    uint32_t min = e->as.repeat.min, max = e->as.repeat.max;
    uint32_t copies = max == GRAMMAR_UNBOUNDED ? BASE_MAX(min, 1) : max;
    for (uint32_t i = 0; i < copies && r->status == INFER_OK; i++) {
        uint32_t begin = new_node(r), end = new_node(r);
        add_edge(r, from, begin, EMPTY, 0, 0);
        if (i >= min)
            add_edge(r, from, to, EMPTY, 0, 0);
        add(r, e->as.repeat.body, begin, end);
        if (max == GRAMMAR_UNBOUNDED && i + 1 == copies)
            add_edge(r, end, begin, EMPTY, 0, 0);
        from = end;
    }
    add_edge(r, from, to, EMPTY, 0, 0);
}

static void add(struct regex_build *r, const struct grammar_expr *e, uint32_t from, uint32_t to)
{
    if (r->status != INFER_OK)
        return;
    if (++r->depth > 1000)
        too_large(r);
    switch (e->kind) {
    case GRAMMAR_BYTES:
        add_bytes(r, e->as.bytes, from, to);
        break;
    case GRAMMAR_CHARS:
        for (uint32_t i = 0; i < e->n; i++)
            add_edge(r, from, to, CHARS, e->as.ranges[i].lo, e->as.ranges[i].hi);
        break;
    case GRAMMAR_SEQ:
        for (uint32_t i = 0; i < e->n && r->status == INFER_OK; i++) {
            uint32_t next = i + 1 == e->n ? to : new_node(r);
            add(r, e->as.items[i], from, next);
            from = next;
        }
        break;
    case GRAMMAR_ALT:
        for (uint32_t i = 0; i < e->n; i++)
            add(r, e->as.items[i], from, to);
        break;
    case GRAMMAR_REPEAT:
        add_repeat(r, e, from, to);
        break;
    case GRAMMAR_TEXT_BEGIN:
        add_edge(r, from, to, AT_BEGIN, 0, 0);
        break;
    case GRAMMAR_TEXT_END:
        add_edge(r, from, to, AT_END, 0, 0);
        break;
    default: /* GRAMMAR_NEVER; others do not come from patterns */
        break;
    }
    r->depth--;
}

/* --------------------------------------------------------------- intervals */

static void sink(uint32_t *x, size_t i, size_t n)
{
    uint32_t item = x[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && x[child + 1] > x[child])
            child++;
        if (x[child] <= item)
            break;
        x[i] = x[child];
    }
    x[i] = item;
}

static void sort(uint32_t *x, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sink(x, i, n);
    for (size_t left = n; left-- > 1;) {
        uint32_t top = x[0];
        x[0] = x[left];
        x[left] = top;
        sink(x, 0, left);
    }
}

static uint32_t interval_of(const uint32_t *begins, size_t n, uint32_t cp)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (begins[middle] <= cp)
            low = middle;
        else
            high = middle;
    }
    return (uint32_t)low;
}

static void find_intervals(struct regex_build *r)
{
    fail(r, base_array_reserve(r->a, &r->begins, 2 * r->edges.size + 1));
    if (r->status != INFER_OK)
        return;
    r->begins.data[r->begins.size++] = 0;
    for (size_t i = 0; i < r->edges.size; i++) {
        const struct nfa_edge *e = &r->edges.data[i];
        if (e->kind != CHARS)
            continue;
        r->begins.data[r->begins.size++] = e->lo;
        if (e->hi < CHARSET_LAST)
            r->begins.data[r->begins.size++] = e->hi + 1;
    }
    sort(r->begins.data, r->begins.size);
    size_t n = 0;
    for (size_t i = 0; i < r->begins.size; i++)
        if (n == 0 || r->begins.data[n - 1] != r->begins.data[i])
            r->begins.data[n++] = r->begins.data[i];
    r->begins.size = n;
    for (size_t i = 0; i < r->edges.size; i++) {
        struct nfa_edge *e = &r->edges.data[i];
        if (e->kind == CHARS) {
            e->lo = interval_of(r->begins.data, n, e->lo);
            e->hi = interval_of(r->begins.data, n, e->hi);
        }
    }
}

/* ----------------------------------------------------------------- subsets */

static infer_status prepare(struct regex_build *r)
{
    size_t n = r->n_nodes;
    r->first = base_new(r->a, n + 2, sizeof *r->first);
    r->order = base_new_raw(r->a, r->edges.size, sizeof *r->order);
    r->mark = base_new(r->a, n, sizeof *r->mark);
    r->stack = base_new_raw(r->a, n, sizeof *r->stack);
    r->n_slots = 1u << 15; /* above twice REGEX_STATES_MAX */
    r->slots = base_new_raw(r->a, r->n_slots, sizeof *r->slots);
    if (!r->first || !r->order || !r->mark || !r->stack || !r->slots)
        return INFER_ERR_NO_MEMORY;
    memset(r->slots, 0xFF, r->n_slots * sizeof *r->slots);
    for (size_t i = 0; i < r->edges.size; i++)
        r->first[r->edges.data[i].from + 2]++;
    for (size_t i = 0; i < n; i++)
        r->first[i + 2] += r->first[i + 1];
    for (size_t i = 0; i < r->edges.size; i++)
        r->order[r->first[r->edges.data[i].from + 1]++] = (uint32_t)i;
    return INFER_OK;
}

/* Follows empty moves from the members of a set that begins at `from`; the anchors as told. */
static void close_set(struct regex_build *r, size_t from, int begin, int end)
{
    uint32_t n = 0;
    for (size_t i = from; i < r->members.size; i++)
        r->stack[n++] = r->members.data[i];
    while (n && r->status == INFER_OK) {
        uint32_t node = r->stack[--n];
        for (uint32_t i = r->first[node]; i < r->first[node + 1]; i++) {
            const struct nfa_edge *e = &r->edges.data[r->order[i]];
            r->work++;
            if (!(e->kind == EMPTY || (e->kind == AT_BEGIN && begin) ||
                  (e->kind == AT_END && end)) ||
                r->mark[e->to] == r->stamp)
                continue;
            r->mark[e->to] = r->stamp;
            fail(r, base_array_push(r->a, &r->members, e->to));
            r->stack[n++] = e->to;
        }
    }
}

static void put(struct regex_build *r, uint32_t node)
{
    if (r->mark[node] == r->stamp)
        return;
    r->mark[node] = r->stamp;
    if (r->status == INFER_OK)
        fail(r, base_array_push(r->a, &r->members, node));
}

/* Whether the text may end in this set, whose members end the list. */
static uint8_t set_accepts(struct regex_build *r, size_t from, int begin)
{
    size_t size = r->members.size;
    uint8_t accepts = 0;
    r->stamp++;
    for (size_t i = from; i < size; i++)
        r->mark[r->members.data[i]] = r->stamp;
    close_set(r, from, begin, 1);
    for (size_t i = from; i < r->members.size; i++)
        accepts |= r->members.data[i] == r->end;
    r->members.size = size;
    return accepts;
}

/* The state of the set whose members stand from `from` on; the start is a state of its own. */
static uint32_t state_of(struct regex_build *r, size_t from, int begin)
{
    size_t n = r->members.size - from;
    if (!n || r->status != INFER_OK)
        return REGEX_DEAD;
    sort(r->members.data + from, n);
    uint32_t slot =
        (uint32_t)base_hash64(r->members.data + from, n * sizeof(uint32_t), 0) & (r->n_slots - 1);
    for (; !begin && r->slots[slot] != REGEX_DEAD; slot = (slot + 1) & (r->n_slots - 1)) {
        const struct subset *s = &r->subsets.data[r->slots[slot]];
        if (s->n == n &&
            memcmp(r->members.data + s->first, r->members.data + from, n * sizeof(uint32_t)) == 0) {
            r->members.size = from;
            return r->slots[slot];
        }
    }
    if (r->subsets.size >= REGEX_STATES_MAX || r->b->work + r->work > WORK_MAX ||
        (r->subsets.size + 1) * r->begins.size > REGEX_TABLE_MAX)
        too_large(r);
    uint8_t accepts = set_accepts(r, from, begin);
    if (r->status == INFER_OK)
        fail(r, base_array_push(r->a, &r->accepts, accepts));
    if (r->status == INFER_OK)
        fail(r, base_array_push(r->a, &r->subsets, ((struct subset){(uint32_t)from, (uint32_t)n})));
    if (r->status != INFER_OK)
        return REGEX_DEAD;
    if (!begin)
        r->slots[slot] = (uint32_t)r->subsets.size - 1;
    return (uint32_t)r->subsets.size - 1;
}

static void make_steps(struct regex_build *r, uint32_t state)
{
    size_t n = r->begins.size;
    fail(r, base_array_reserve(r->a, &r->next, n));
    for (uint32_t symbol = 0; symbol < n && r->status == INFER_OK; symbol++) {
        const struct subset set = r->subsets.data[state];
        size_t from = r->members.size;
        r->stamp++;
        for (uint32_t i = 0; i < set.n; i++) {
            uint32_t node = r->members.data[set.first + i];
            for (uint32_t k = r->first[node]; k < r->first[node + 1]; k++) {
                const struct nfa_edge *e = &r->edges.data[r->order[k]];
                r->work++;
                if (e->kind == CHARS && e->lo <= symbol && symbol <= e->hi)
                    put(r, e->to);
            }
        }
        close_set(r, from, 0, 0);
        uint32_t to = state_of(r, from, 0);
        r->next.data[r->next.size++] = to;
    }
}

/* To the builder's arena. */
static void *keep(struct regex_build *r, const void *data, size_t n, size_t size)
{
    if (r->b->arena.used_bytes > r->b->max_bytes)
        too_large(r);
    void *copy = r->status == INFER_OK ? base_arena_new(&r->b->arena, n, size) : NULL;
    if (copy)
        memcpy(copy, data, n * size);
    else
        fail(r, INFER_ERR_NO_MEMORY);
    return copy;
}

static void build(struct regex_build *r, const struct grammar_expr *tree, int search)
{
    uint32_t start = new_node(r), begin = new_node(r), matched = new_node(r);
    r->end = new_node(r);
    add_edge(r, start, begin, EMPTY, 0, 0);
    add(r, tree, begin, matched);
    add_edge(r, matched, r->end, EMPTY, 0, 0);
    if (search) {
        add_edge(r, start, start, CHARS, 0, CHARSET_LAST);
        add_edge(r, r->end, r->end, CHARS, 0, CHARSET_LAST);
    }
    find_intervals(r);
    if (r->status == INFER_OK)
        fail(r, prepare(r));
    if (r->status != INFER_OK)
        return;
    r->stamp = 1;
    put(r, start);
    close_set(r, 0, 1, 0);
    state_of(r, 0, 1);
    for (uint32_t i = 0; i < r->subsets.size && r->status == INFER_OK; i++)
        make_steps(r, i);
}

infer_status regex_compile(struct regex_dfa *out, struct grammar_builder *b,
                           const struct grammar_expr *tree, int search)
{
    struct regex_build r = {.b = b, .a = &b->alloc, .status = b->status};
    if (r.status == INFER_OK)
        build(&r, tree, search);
    struct regex_dfa d = {.n_states = (uint32_t)r.subsets.size,
                          .n_intervals = (uint32_t)r.begins.size};
    d.begins = keep(&r, r.begins.data, r.begins.size, sizeof *d.begins);
    d.next = keep(&r, r.next.data, r.next.size, sizeof *d.next);
    d.accepts = keep(&r, r.accepts.data, r.accepts.size, 1);
    if (r.status == INFER_OK)
        *out = d;
    base_array_release(r.a, &r.edges);
    base_array_release(r.a, &r.begins);
    base_array_release(r.a, &r.members);
    base_array_release(r.a, &r.subsets);
    base_array_release(r.a, &r.next);
    base_array_release(r.a, &r.accepts);
    base_free(r.a, r.first);
    base_free(r.a, r.order);
    base_free(r.a, r.slots);
    base_free(r.a, r.mark);
    base_free(r.a, r.stack);
    b->work += r.work;
    return r.status;
}
