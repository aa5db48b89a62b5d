/* Interned sets of stacks, and steps between states. */
#include "sample/grammar_machine.h"

#include "base/hash.h"

#include <string.h>

/* --------------------------------------------------------------- interning */

static void fail(struct grammar_machine *m, infer_status st)
{
    if (m->status == INFER_OK)
        m->status = st;
}

static uint64_t hash_items(const struct grammar_item *items, size_t n, int is_state)
{
    return n ? base_hash64(items, n * sizeof *items, (uint64_t)is_state) : 1;
}

static infer_status grow_slots(struct grammar_machine *m)
{
    size_t n_slots = m->n_slots ? 2 * m->n_slots : 256;
    uint32_t *slots = base_new_raw(&m->alloc, n_slots, sizeof *slots);
    if (!slots)
        return INFER_ERR_NO_MEMORY;
    memset(slots, 0xFF, n_slots * sizeof *slots);
    for (size_t i = 0; i < m->sets.size; i++) {
        const struct grammar_set *s = &m->sets.data[i];
        size_t slot = hash_items(m->items.data + s->first, s->n, s->is_state) & (n_slots - 1);
        while (slots[slot] != GRAMMAR_UNKNOWN)
            slot = (slot + 1) & (n_slots - 1);
        slots[slot] = (uint32_t)i;
    }
    base_free(&m->alloc, m->slots);
    m->slots = slots;
    m->n_slots = n_slots;
    return INFER_OK;
}

static uint32_t depth_below(const struct grammar_machine *m, const struct grammar_item *items,
                            size_t n)
{
    uint32_t depth = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].what != GRAMMAR_END)
            depth = BASE_MAX(depth, m->sets.data[items[i].below].depth);
    return depth;
}

static uint32_t add_set(struct grammar_machine *m, const struct grammar_item *items, size_t n,
                        int is_state)
{
    struct grammar_set set = {.first = (uint32_t)m->items.size,
                              .n = (uint32_t)n,
                              .next = GRAMMAR_UNKNOWN,
                              .plain = GRAMMAR_UNKNOWN,
                              .word = GRAMMAR_UNKNOWN,
                              .is_state = (uint8_t)is_state};
    set.depth = depth_below(m, items, n) + !is_state;
    infer_status st = base_array_reserve(&m->alloc, &m->items, n);
    if (st == INFER_OK && m->n_slots < 2 * (m->sets.size + 1))
        st = grow_slots(m);
    if (st == INFER_OK)
        st = base_array_push(&m->alloc, &m->sets, set);
    if (st != INFER_OK) {
        fail(m, st);
        return is_state ? GRAMMAR_DEAD : GRAMMAR_BOTTOM;
    }
    if (n)
        memcpy(m->items.data + m->items.size, items, n * sizeof *items);
    m->items.size += n;
    return (uint32_t)m->sets.size - 1;
}

/* `items` are sorted and stand outside of m->items. */
static uint32_t intern(struct grammar_machine *m, const struct grammar_item *items, size_t n,
                       int is_state)
{
    uint64_t hash = hash_items(items, n, is_state);
    for (size_t slot = hash & (m->n_slots - 1); m->slots[slot] != GRAMMAR_UNKNOWN;
         slot = (slot + 1) & (m->n_slots - 1)) {
        const struct grammar_set *s = &m->sets.data[m->slots[slot]];
        if (s->n == n && s->is_state == is_state &&
            (!n || memcmp(m->items.data + s->first, items, n * sizeof *items) == 0))
            return m->slots[slot];
    }
    uint32_t id = add_set(m, items, n, is_state);
    if (m->status != INFER_OK)
        return id;
    size_t slot = hash & (m->n_slots - 1);
    while (m->slots[slot] != GRAMMAR_UNKNOWN)
        slot = (slot + 1) & (m->n_slots - 1);
    m->slots[slot] = id;
    return id;
}

/* ----------------------------------------------------------------- joining */

static int is_before(struct grammar_item a, struct grammar_item b)
{
    return a.what != b.what ? a.what < b.what : a.count < b.count;
}

/* The union of two sets of stacks; what both have is joined below. The depth of the recursion is
 * that of the stacks. */
static uint32_t join(struct grammar_machine *m, uint32_t a, uint32_t b)
{
    if (a == b || m->status != INFER_OK)
        return a;
    struct grammar_joined *known = &m->joined[(a * 31 + b) % GRAMMAR_JOINED];
    if (known->a == a && known->b == b)
        return known->result;
    const struct grammar_set x = m->sets.data[a], y = m->sets.data[b];
    const size_t base = m->out.size;
    if (x.n + y.n > GRAMMAR_ITEMS_MAX)
        m->overflow = 1;
    if (m->status == INFER_OK && base_array_reserve(&m->alloc, &m->out, x.n + y.n) != INFER_OK)
        fail(m, INFER_ERR_NO_MEMORY);
    uint32_t i = 0, k = 0;
    while ((i < x.n || k < y.n) && m->status == INFER_OK && !m->overflow) {
        struct grammar_item p = {0}, q = {0}, next;
        if (i < x.n)
            p = m->items.data[x.first + i];
        if (k < y.n)
            q = m->items.data[y.first + k];
        int left = i < x.n && (k == y.n || !is_before(q, p));
        int right = k < y.n && (i == x.n || !is_before(p, q));
        next = left ? p : q;
        if (left && right && p.what != GRAMMAR_END)
            next.below = join(m, p.below, q.below);
        /* Joining may have moved the array, but has taken away what it put there. */
        m->out.data[m->out.size++] = next;
        i += (uint32_t)left;
        k += (uint32_t)right;
    }
    uint32_t id = a;
    if (m->status == INFER_OK && !m->overflow) {
        id = intern(m, m->out.data + base, m->out.size - base, 0);
        if (m->status == INFER_OK)
            *known = (struct grammar_joined){a, b, id};
    }
    m->out.size = base;
    return id;
}

/* ----------------------------------------------------------------- closing */

static void clear_seen(struct grammar_machine *m)
{
    if (m->n_seen)
        memset(m->seen.data, 0xFF, m->seen.capacity * sizeof *m->seen.data);
    m->n_seen = 0;
}

static int grow_seen(struct grammar_machine *m)
{
    size_t n = m->seen.capacity ? 2 * m->seen.capacity : 64;
    uint64_t *old = m->seen.data, *bigger = base_new_raw(&m->alloc, n, sizeof *bigger);
    if (!bigger) {
        fail(m, INFER_ERR_NO_MEMORY);
        return 0;
    }
    memset(bigger, 0xFF, n * sizeof *bigger);
    for (size_t i = 0; i < m->seen.capacity; i++) {
        if (old[i] == UINT64_MAX)
            continue;
        size_t slot = (old[i] * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (n - 1);
        while (bigger[slot] != UINT64_MAX)
            slot = (slot + 1) & (n - 1);
        bigger[slot] = old[i];
    }
    base_free(&m->alloc, old);
    m->seen.data = bigger;
    m->seen.capacity = n;
    return 1;
}

/* Whether this pair is met for the first time in this closing. */
static int is_new(struct grammar_machine *m, uint64_t pair)
{
    if (2 * (m->n_seen + 1) > m->seen.capacity && !grow_seen(m))
        return 0;
    size_t slot = (pair * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (m->seen.capacity - 1);
    for (; m->seen.data[slot] != UINT64_MAX; slot = (slot + 1) & (m->seen.capacity - 1))
        if (m->seen.data[slot] == pair)
            return 0;
    m->seen.data[slot] = pair;
    m->n_seen++;
    return 1;
}

static void visit(struct grammar_machine *m, uint32_t node, uint32_t stacks)
{
    uint64_t pair = (uint64_t)node << 32 | stacks;
    if (is_new(m, pair) && base_array_push(&m->alloc, &m->todo, pair) != INFER_OK)
        fail(m, INFER_ERR_NO_MEMORY);
}

static void put_out(struct grammar_machine *m, struct grammar_item item)
{
    m->overflow |= m->out.size >= GRAMMAR_ITEMS_MAX;
    if (!m->overflow && base_array_push(&m->alloc, &m->out, item) != INFER_OK)
        fail(m, INFER_ERR_NO_MEMORY);
}

/* Runs call `number` for the count-th time. */
static void enter(struct grammar_machine *m, uint32_t number, uint32_t count, uint32_t below)
{
    const struct grammar_call *call = &m->grammar->call_table[number];
    const struct grammar_node *ret = &m->grammar->nodes[call->ret];
    if (call->max == 1 && ret->accepts && !ret->n_edges && !ret->n_calls) {
        visit(m, call->start, below); /* nothing is left to do afterwards: the caller goes */
        return;
    }
    /* Beyond the minimum of an unbounded count, all counts are the same. */
    if (call->max == GRAMMAR_UNBOUNDED)
        count = BASE_MIN(count, call->min);
    if (m->sets.data[below].depth >= GRAMMAR_DEPTH_MAX)
        return;
    struct grammar_item frame = {number, count, below};
    visit(m, call->start, intern(m, &frame, 1, 0));
}

/* A rule has ended: whatever stands on top of these stacks goes on. */
static void leave(struct grammar_machine *m, uint32_t stacks)
{
    if (!is_new(m, (uint64_t)GRAMMAR_END << 32 | stacks))
        return;
    const struct grammar_set set = m->sets.data[stacks];
    for (uint32_t i = 0; i < set.n && m->status == INFER_OK; i++) {
        const struct grammar_item frame = m->items.data[set.first + i];
        if (frame.what == GRAMMAR_END) {
            put_out(m, frame);
            continue;
        }
        const struct grammar_call *call = &m->grammar->call_table[frame.what];
        if (call->max == GRAMMAR_UNBOUNDED || frame.count < call->max)
            enter(m, frame.what, frame.count + 1, frame.below);
        if (frame.count >= call->min)
            visit(m, call->ret, frame.below);
    }
}

static void sort_out(struct grammar_machine *m)
{
    /* Shell's sort: lists are short, and long ones nearly sorted. */
    struct grammar_item *x = m->out.data;
    for (size_t gap = m->out.size / 2; gap > 0; gap /= 2)
        for (size_t i = gap; i < m->out.size; i++) {
            struct grammar_item item = x[i];
            size_t k = i;
            for (; k >= gap && is_before(item, x[k - gap]); k -= gap)
                x[k] = x[k - gap];
            x[k] = item;
        }
}

/* What waits in m->todo becomes a state. */
static uint32_t close_state(struct grammar_machine *m)
{
    m->out.size = 0;
    m->overflow = 0;
    while (m->todo.size && m->status == INFER_OK && !m->overflow) {
        uint64_t pair = m->todo.data[--m->todo.size];
        uint32_t at = (uint32_t)(pair >> 32), stacks = (uint32_t)pair;
        const struct grammar_node *node = &m->grammar->nodes[at];
        if (node->n_edges)
            put_out(m, (struct grammar_item){at, 0, stacks});
        for (uint32_t i = 0; i < node->n_calls && m->status == INFER_OK; i++)
            enter(m, m->grammar->calls[node->calls + i], 1, stacks);
        if (node->accepts)
            leave(m, stacks);
    }
    m->todo.size = 0;
    clear_seen(m);
    sort_out(m);
    /* Joining works behind the list. */
    size_t n = 0, size = m->out.size;
    for (size_t i = 0; i < size && m->status == INFER_OK && !m->overflow; i++) {
        struct grammar_item item = m->out.data[i];
        if (n && m->out.data[n - 1].what == item.what) {
            uint32_t below = join(m, m->out.data[n - 1].below, item.below);
            m->out.data[n - 1].below = below;
        } else {
            m->out.data[n++] = item;
        }
    }
    uint32_t id = GRAMMAR_DEAD;
    m->overflows += m->overflow;
    if (m->status == INFER_OK && !m->overflow)
        id = intern(m, m->out.data, n, 1);
    m->out.size = 0;
    return id;
}

/* Most bytes of most states have one way, and many the same one: its state is remembered. */
uint32_t grammar_machine_close(struct grammar_machine *m, uint32_t node, uint32_t stacks)
{
    struct grammar_closed *known = &m->closed[(node * 31 + stacks) % GRAMMAR_CLOSED];
    if (known->node == node && known->stacks == stacks)
        return known->state;
    visit(m, node, stacks);
    uint32_t state = close_state(m);
    if (m->status == INFER_OK)
        *known = (struct grammar_closed){node, stacks, state};
    return state;
}

static uint32_t step(struct grammar_machine *m, uint32_t state, uint8_t byte)
{
    const struct grammar_set set = m->sets.data[state];
    uint32_t n = 0, node_to = 0, stacks = 0;
    for (uint32_t i = 0; i < set.n; i++) {
        const struct grammar_item item = m->items.data[set.first + i];
        if (item.what == GRAMMAR_END)
            continue;
        const struct grammar_node *node = &m->grammar->nodes[item.what];
        const struct grammar_edge *e = m->grammar->edges + node->edges;
        for (uint32_t k = 0; k < node->n_edges && e[k].lo <= byte; k++) {
            if (byte > e[k].hi)
                continue;
            if (n++)
                visit(m, e[k].target, item.below);
            if (n == 2)
                visit(m, node_to, stacks);
            node_to = e[k].target;
            stacks = item.below;
        }
    }
    if (n == 0)
        return GRAMMAR_DEAD;
    return n == 1 ? grammar_machine_close(m, node_to, stacks) : close_state(m);
}

uint32_t grammar_machine_step_class(struct grammar_machine *m, uint32_t state, uint32_t c)
{
    if (m->status != INFER_OK)
        return GRAMMAR_DEAD;
    uint32_t block = m->sets.data[state].next;
    if (block == GRAMMAR_UNKNOWN) {
        size_t n = (size_t)m->grammar->n_classes;
        block = (uint32_t)m->steps.size;
        if (base_array_reserve(&m->alloc, &m->steps, n) != INFER_OK) {
            fail(m, INFER_ERR_NO_MEMORY);
            return GRAMMAR_DEAD;
        }
        memset(m->steps.data + block, 0xFF, n * sizeof *m->steps.data);
        m->steps.size += n;
        m->sets.data[state].next = block;
    }
    uint32_t to = m->steps.data[block + c];
    if (to == GRAMMAR_UNKNOWN) {
        to = step(m, state, m->grammar->class_byte[c]);
        if (m->status == INFER_OK)
            m->steps.data[block + c] = to;
    }
    return to;
}

int grammar_machine_accepts(const struct grammar_machine *m, uint32_t state)
{
    const struct grammar_set *set = &m->sets.data[state];
    return set->n && m->items.data[set->first + set->n - 1].what == GRAMMAR_END;
}

/* -------------------------------------------------------------------- life */

static infer_status start(struct grammar_machine *m)
{
    const struct grammar_item bottom = {GRAMMAR_END, 0, 0};
    m->items.size = m->sets.size = m->steps.size = m->out.size = m->todo.size = 0;
    m->n_seen = 0;
    if (m->seen.capacity)
        memset(m->seen.data, 0xFF, m->seen.capacity * sizeof *m->seen.data);
    m->status = INFER_OK;
    memset(m->mask_owner, 0xFF, sizeof m->mask_owner);
    memset(m->joined, 0xFF, sizeof m->joined);
    memset(m->closed, 0xFF, sizeof m->closed);
    memset(m->behind, 0xFF, sizeof m->behind);
    if (!m->n_slots && grow_slots(m) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    memset(m->slots, 0xFF, m->n_slots * sizeof *m->slots);
    m->epoch++;
    intern(m, &bottom, 1, 0);
    intern(m, &bottom, 0, 1);
    if (m->status == INFER_OK)
        visit(m, m->grammar->start, GRAMMAR_BOTTOM);
    m->start = close_state(m);
    return m->status;
}

static size_t cache_bytes(const struct grammar_machine *m)
{
    return m->items.capacity * sizeof *m->items.data + m->sets.capacity * sizeof *m->sets.data +
           m->steps.capacity * sizeof *m->steps.data + m->n_slots * sizeof *m->slots;
}

infer_status grammar_machine_tidy(struct grammar_machine *m)
{
    if (m->status == INFER_OK && cache_bytes(m) <= GRAMMAR_CACHE_BYTES)
        return INFER_OK;
    base_array_release(&m->alloc, &m->items);
    base_array_release(&m->alloc, &m->sets);
    base_array_release(&m->alloc, &m->steps);
    base_free(&m->alloc, m->slots);
    m->slots = NULL;
    m->n_slots = 0;
    return start(m);
}

static void destroy(struct grammar_machine *m)
{
    const struct base_alloc a = m->alloc;
    base_free(&a, m->items.data);
    base_free(&a, m->sets.data);
    base_free(&a, m->steps.data);
    base_free(&a, m->slots);
    base_free(&a, m->out.data);
    base_free(&a, m->todo.data);
    base_free(&a, m->seen.data);
    for (size_t i = 0; i <= GRAMMAR_MASKS; i++)
        base_free(&a, m->masks[i]);
    text_token_tree_release(&m->tree);
    pthread_mutex_destroy(&m->lock);
    base_free(&a, m);
}

static infer_status create(struct grammar_machine **out, struct infer_grammar *g,
                           struct text_token_tree *tree)
{
    struct grammar_machine *m = base_new(&g->alloc, 1, sizeof *m);
    if (!m)
        return INFER_ERR_NO_MEMORY;
    m->alloc = g->alloc;
    m->grammar = g;
    pthread_mutex_init(&m->lock, NULL);
    if (tree)
        m->tree = text_token_tree_retain(tree);
    infer_status st = start(m);
    if (st != INFER_OK)
        destroy(m);
    else
        *out = m;
    return st;
}

infer_status grammar_machine_get(struct grammar_machine **out, struct infer_grammar *g,
                                 struct text_token_tree *tree)
{
    infer_status st = INFER_OK;
    pthread_mutex_lock(&g->lock);
    struct grammar_machine *m = g->machines;
    while (m && m->tree != tree)
        m = m->link;
    if (!m && (st = create(&m, g, tree)) == INFER_OK) {
        m->link = g->machines;
        g->machines = m;
    }
    if (st == INFER_OK) {
        m->users++;
        *out = m;
    }
    pthread_mutex_unlock(&g->lock);
    return st;
}

/* The last few that were used are kept for the next request. */
void grammar_machine_put(struct grammar_machine *machine)
{
    struct infer_grammar *g = machine->grammar;
    pthread_mutex_lock(&g->lock);
    machine->users--;
    struct grammar_machine **at = &g->machines;
    while (*at != machine)
        at = &(*at)->link;
    *at = machine->link;
    machine->link = g->machines;
    g->machines = machine;
    int idle = 0;
    for (at = &g->machines; *at;) {
        struct grammar_machine *m = *at;
        idle += !m->users;
        if (m->users || idle <= GRAMMAR_IDLE_MACHINES) {
            at = &m->link;
            continue;
        }
        *at = m->link;
        destroy(m);
    }
    pthread_mutex_unlock(&g->lock);
}

void grammar_machines_destroy(struct infer_grammar *g)
{
    while (g->machines) {
        struct grammar_machine *next = g->machines->link;
        destroy(g->machines);
        g->machines = next;
    }
}

size_t grammar_machines_bytes(struct infer_grammar *g)
{
    size_t bytes = 0;
    pthread_mutex_lock(&g->lock);
    for (const struct grammar_machine *m = g->machines; m; m = m->link) {
        bytes += sizeof *m + cache_bytes(m);
        for (size_t i = 0; i < GRAMMAR_MASKS; i++)
            bytes += m->masks[i] ? m->tree->n_words * sizeof *m->masks[i] : 0;
    }
    pthread_mutex_unlock(&g->lock);
    return bytes;
}
