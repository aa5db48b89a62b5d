/* Automata of lengths and texts, their intersections and differences, and the way back to
 * expressions. */
#include "base/error.h"
#include "base/hash.h"
#include "sample/regex_dfa.h"
#include "text/unicode.h"

#include <string.h>

static infer_status too_large(void)
{
    return base_error(INFER_ERR_LIMIT,
                      "a string's patterns and lengths together need more than %u states",
                      REGEX_STATES_MAX);
}

static infer_status new_dfa(struct regex_dfa *d, struct grammar_builder *b, uint32_t n_states,
                            uint32_t n_intervals)
{
    if (n_states > REGEX_STATES_MAX || (uint64_t)n_states * n_intervals > REGEX_TABLE_MAX ||
        b->arena.used_bytes > b->max_bytes)
        return too_large();
    *d = (struct regex_dfa){.n_states = n_states, .n_intervals = n_intervals};
    d->begins = base_arena_new(&b->arena, n_intervals, sizeof *d->begins);
    d->next = base_arena_new(&b->arena, (size_t)n_states * n_intervals, sizeof *d->next);
    d->accepts = base_arena_new(&b->arena, n_states, 1);
    return d->begins && d->next && d->accepts ? INFER_OK : INFER_ERR_NO_MEMORY;
}

infer_status regex_of_length(struct regex_dfa *out, struct grammar_builder *b, uint32_t min,
                             uint32_t max)
{
    uint32_t last = max == GRAMMAR_UNBOUNDED ? min : max;
    if (last >= REGEX_STATES_MAX)
        return too_large();
    infer_status st = new_dfa(out, b, last + 1, 1);
    if (st != INFER_OK)
        return st;
    for (uint32_t i = 0; i <= last; i++) {
        out->accepts[i] = i >= min;
        out->next[i] = i < last ? i + 1 : max == GRAMMAR_UNBOUNDED ? i : REGEX_DEAD;
    }
    return INFER_OK;
}

infer_status regex_of_texts(struct regex_dfa *out, struct grammar_builder *b,
                            const struct base_view *texts, size_t n)
{
    grammar_list items = {0};
    for (size_t i = 0; i < n; i++)
        grammar_list_add(b, &items, grammar_bytes(b, texts[i].data, texts[i].size));
    const struct grammar_expr *any = grammar_alt(b, items.data, items.size);
    base_array_release(&b->alloc, &items);
    return b->status == INFER_OK ? regex_compile(out, b, any, 0) : b->status;
}

static uint32_t interval_of(const struct regex_dfa *d, uint32_t cp)
{
    uint32_t low = 0, high = d->n_intervals;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (d->begins[middle] <= cp)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---------------------------------------------------------------- products */

struct product {
    struct grammar_builder *b;
    const struct regex_dfa *x, *y;
    int how;
    uint32_t *begins, *in_x, *in_y; /* common intervals, and where they lie in both */
    uint32_t n_intervals;
    BASE_ARRAY(uint64_t) pairs; /* states of x << 32 | of y, DEAD among them */
    BASE_ARRAY(uint32_t) next;
    uint32_t *slots, n_slots;
};

static infer_status find_common(struct product *p)
{
    uint32_t n = p->x->n_intervals + p->y->n_intervals, i = 0, k = 0;
    p->begins = base_arena_new(&p->b->arena, n, sizeof *p->begins);
    p->in_x = base_arena_new(&p->b->arena, n, sizeof *p->in_x);
    p->in_y = base_arena_new(&p->b->arena, n, sizeof *p->in_y);
    if (!p->begins || !p->in_x || !p->in_y)
        return INFER_ERR_NO_MEMORY;
    while (i < p->x->n_intervals || k < p->y->n_intervals) {
        uint32_t x = i < p->x->n_intervals ? p->x->begins[i] : UINT32_MAX;
        uint32_t y = k < p->y->n_intervals ? p->y->begins[k] : UINT32_MAX;
        uint32_t begin = BASE_MIN(x, y);
        i += x == begin;
        k += y == begin;
        p->begins[p->n_intervals] = begin;
        p->in_x[p->n_intervals] = i - 1; /* both begin with 0 */
        p->in_y[p->n_intervals++] = k - 1;
    }
    return INFER_OK;
}

/* Where x is dead, nothing can be accepted any more; where y is, a difference still can. */
static int is_dead(const struct product *p, uint32_t x, uint32_t y)
{
    return x == REGEX_DEAD || (y == REGEX_DEAD && p->how == REGEX_AND);
}

static infer_status pair_state(struct product *p, uint32_t x, uint32_t y, uint32_t *state)
{
    uint64_t pair = (uint64_t)x << 32 | y;
    if (is_dead(p, x, y)) {
        *state = REGEX_DEAD;
        return INFER_OK;
    }
    uint32_t slot = (uint32_t)base_hash64(&pair, sizeof pair, 0) & (p->n_slots - 1);
    for (; p->slots[slot] != REGEX_DEAD; slot = (slot + 1) & (p->n_slots - 1)) {
        *state = p->slots[slot];
        if (p->pairs.data[*state] == pair)
            return INFER_OK;
    }
    if (p->pairs.size >= REGEX_STATES_MAX || (p->pairs.size + 1) * p->n_intervals > REGEX_TABLE_MAX)
        return too_large();
    *state = p->slots[slot] = (uint32_t)p->pairs.size;
    return base_array_push(&p->b->alloc, &p->pairs, pair);
}

static infer_status explore(struct product *p)
{
    uint32_t state;
    infer_status st = pair_state(p, 0, 0, &state);
    for (size_t i = 0; st == INFER_OK && i < p->pairs.size; i++) {
        uint32_t x = (uint32_t)(p->pairs.data[i] >> 32), y = (uint32_t)p->pairs.data[i];
        st = base_array_reserve(&p->b->alloc, &p->next, p->n_intervals);
        for (uint32_t k = 0; st == INFER_OK && k < p->n_intervals; k++) {
            uint32_t to_x = p->x->next[x * p->x->n_intervals + p->in_x[k]];
            uint32_t to_y =
                y == REGEX_DEAD ? REGEX_DEAD : p->y->next[y * p->y->n_intervals + p->in_y[k]];
            st = pair_state(p, to_x, to_y, &state);
            p->next.data[p->next.size++] = state;
        }
    }
    return st;
}

infer_status regex_combine(struct regex_dfa *out, struct grammar_builder *b,
                           const struct regex_dfa *x, const struct regex_dfa *y, int how)
{
    struct product p = {.b = b, .x = x, .y = y, .how = how, .n_slots = 1u << 15};
    struct regex_dfa d;
    infer_status st = find_common(&p);
    p.slots = base_new_raw(&b->alloc, p.n_slots, sizeof *p.slots);
    if (!p.slots)
        st = INFER_ERR_NO_MEMORY;
    if (st == INFER_OK) {
        memset(p.slots, 0xFF, p.n_slots * sizeof *p.slots);
        st = explore(&p);
    }
    if (st == INFER_OK)
        st = new_dfa(&d, b, (uint32_t)p.pairs.size, p.n_intervals);
    if (st == INFER_OK) {
        memcpy(d.begins, p.begins, p.n_intervals * sizeof *d.begins);
        memcpy(d.next, p.next.data, p.next.size * sizeof *d.next);
        for (size_t i = 0; i < p.pairs.size; i++) {
            uint32_t in_x = (uint32_t)(p.pairs.data[i] >> 32), in_y = (uint32_t)p.pairs.data[i];
            int other = in_y != REGEX_DEAD && y->accepts[in_y];
            d.accepts[i] = x->accepts[in_x] && (how == REGEX_AND ? other : !other);
        }
        *out = d;
    }
    base_array_release(&b->alloc, &p.pairs);
    base_array_release(&b->alloc, &p.next);
    base_free(&b->alloc, p.slots);
    return st;
}

/* --------------------------------------------------------------- questions */

int regex_is_empty(const struct regex_dfa *d, struct grammar_builder *b)
{
    BASE_UNUSED(b);
    for (uint32_t i = 0; i < d->n_states; i++) /* only states that can be reached are made */
        if (d->accepts[i])
            return 0;
    return 1;
}

int regex_accepts(const struct regex_dfa *d, struct base_view text)
{
    uint32_t state = 0;
    for (size_t i = 0; i < text.size && state != REGEX_DEAD;) {
        uint32_t cp;
        int n = text_utf8_next(text.data + i, text.size - i, &cp);
        if (n <= 0)
            return 0;
        i += (size_t)n;
        state = d->next[state * d->n_intervals + interval_of(d, cp)];
    }
    return state != REGEX_DEAD && d->accepts[state];
}

/* ------------------------------------------------------------- expressions */

static const struct grammar_expr *escape_of(struct grammar_builder *b, uint32_t cp)
{
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; i + 1 < sizeof letters; i += 2)
        if ((uint32_t)letters[i] == cp)
            return grammar_bytes(b, (const char[]){'\\', letters[i + 1]}, 2);
    return NULL;
}

/* "\u00" and two digits, for the control characters of a set that begin with the digit `high`. */
static const struct grammar_expr *long_escapes(struct grammar_builder *b, const struct charset *set,
                                               uint32_t high)
{
    static const char digits[] = "0123456789abcdef";
    grammar_list low = {0};
    for (uint32_t i = 0; i < 16; i++) {
        if (!charset_has(set, high << 4 | i))
            continue;
        grammar_list_add(b, &low, grammar_byte(b, (uint8_t)digits[i], (uint8_t)digits[i]));
        if (i >= 10)
            grammar_list_add(b, &low,
                             grammar_byte(b, (uint8_t)(digits[i] - 32), (uint8_t)(digits[i] - 32)));
    }
    const struct grammar_expr *any = grammar_alt(b, low.data, low.size);
    base_array_release(&b->alloc, &low);
    return grammar_seq(b, GRAMMAR_ITEMS(grammar_text(b, high ? "\\u001" : "\\u000"), any));
}

const struct grammar_expr *regex_json_chars(struct grammar_builder *b, const struct charset *set)
{
    static const struct charset_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, CHARSET_LAST}};
    static const uint32_t short_ones[] = {'"', '\\', '\b', '\f', '\n', '\r', '\t'};
    struct charset raw = {0};
    grammar_list items = {0};
    infer_status st = INFER_OK;
    for (size_t i = 0; i < set->size && st == INFER_OK; i++)
        for (size_t k = 0; k < BASE_COUNT(plain) && st == INFER_OK; k++) {
            uint32_t lo = BASE_MAX(set->data[i].lo, plain[k].lo);
            uint32_t hi = BASE_MIN(set->data[i].hi, plain[k].hi);
            if (lo <= hi)
                st = charset_add(&raw, &b->alloc, lo, hi);
        }
    grammar_builder_fail(b, st);
    charset_finish(&raw);
    grammar_list_add(b, &items, grammar_chars(b, &raw));
    charset_release(&raw, &b->alloc);
    for (size_t i = 0; i < BASE_COUNT(short_ones); i++)
        if (charset_has(set, short_ones[i]))
            grammar_list_add(b, &items, escape_of(b, short_ones[i]));
    grammar_list_add(b, &items, long_escapes(b, set, 0));
    grammar_list_add(b, &items, long_escapes(b, set, 1));
    const struct grammar_expr *e = grammar_alt(b, items.data, items.size);
    base_array_release(&b->alloc, &items);
    return e;
}

/* The characters that lead from one state to another. */
static infer_status label_of(struct charset *set, const struct base_alloc *a,
                             const struct regex_dfa *d, uint32_t from, uint32_t to)
{
    infer_status st = INFER_OK;
    set->size = 0;
    for (uint32_t i = 0; i < d->n_intervals && st == INFER_OK; i++)
        if (d->next[from * d->n_intervals + i] == to)
            st = charset_add(set, a, d->begins[i],
                             i + 1 < d->n_intervals ? d->begins[i + 1] - 1 : CHARSET_LAST);
    charset_finish(set);
    return st;
}

const struct grammar_expr *regex_expr(struct grammar_builder *b, const struct regex_dfa *d,
                                      int json)
{
    BASE_ARRAY(struct grammar_arc) arcs = {0};
    struct charset set = {0};
    infer_status st = INFER_OK;
    uint32_t *seen = base_new(&b->alloc, d->n_states, sizeof *seen);
    if (!seen)
        st = INFER_ERR_NO_MEMORY;
    for (uint32_t from = 0; from < d->n_states && st == INFER_OK; from++)
        for (uint32_t i = 0; i < d->n_intervals && st == INFER_OK; i++) {
            uint32_t to = d->next[from * d->n_intervals + i];
            if (to == REGEX_DEAD || seen[to] == from + 1)
                continue;
            seen[to] = from + 1;
            st = label_of(&set, &b->alloc, d, from, to);
            const struct grammar_expr *label =
                json ? regex_json_chars(b, &set) : grammar_chars(b, &set);
            if (st == INFER_OK)
                st = base_array_push(&b->alloc, &arcs, ((struct grammar_arc){from, to, label}));
            if (st == INFER_OK)
                st = b->status;
        }
    grammar_builder_fail(b, st);
    const struct grammar_expr *e = grammar_graph(b, arcs.data, arcs.size, d->accepts, d->n_states);
    base_array_release(&b->alloc, &arcs);
    charset_release(&set, &b->alloc);
    base_free(&b->alloc, seen);
    return e;
}
