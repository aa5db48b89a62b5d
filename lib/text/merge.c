/* Pair table and merge loop of byte-pair encoding (Sennrich et al. 2016). */
#include "text/merge.h"

#include "base/error.h"

#include <string.h>

#define EMPTY_KEY  UINT64_MAX
#define SHORT_WORD 32 /* symbols; measured: the plain loop wins up to about here */
#define NO_LINK    UINT32_MAX
#define MIN_LOG2   4
#define MAX_LOG2   40

static uint64_t pair_key(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

/* Multiply-shift hashing, Dietzfelbinger et al. 1997. Folding first lets both
 * halves of the key reach the high bits. */
static size_t slot_of(const struct text_pairs *p, uint64_t key)
{
    key ^= key >> 29;
    return (size_t)((key * p->multiplier) >> p->shift);
}

static size_t n_slots(const struct text_pairs *p)
{
    return (size_t)1 << (64 - p->shift);
}

static infer_status allocate(struct text_pairs *p, int log2)
{
    size_t n = (size_t)1 << log2;
    p->shift = 64 - log2;
    p->slots = base_new_raw(&p->alloc, n, sizeof *p->slots);
    if (!p->slots)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        p->slots[i] = (struct text_pair){EMPTY_KEY, TEXT_PRIORITY_NONE, TEXT_SYMBOL_NONE};
    return INFER_OK;
}

infer_status text_pairs_init(struct text_pairs *p, const struct base_alloc *a, size_t expected)
{
    int log2 = MIN_LOG2;
    while (log2 < MAX_LOG2 && ((size_t)1 << log2) < expected + expected / 2)
        log2++;
    *p = (struct text_pairs){.alloc = *a};
    infer_status st = allocate(p, log2);
    p->multiplier = ((uint64_t)(uintptr_t)p->slots * 0x9E3779B97F4A7C15u) ^ 0xBF58476D1CE4E5B9u;
    p->multiplier |= 1;
    return st;
}

void text_pairs_release(struct text_pairs *p)
{
    base_free(&p->alloc, p->slots);
    p->slots = NULL;
}

size_t text_pairs_bytes(const struct text_pairs *p)
{
    return p->slots ? n_slots(p) * sizeof *p->slots : 0;
}

static struct text_pair *find(const struct text_pairs *p, uint64_t key)
{
    size_t mask = n_slots(p) - 1;
    for (size_t i = slot_of(p, key);; i = (i + 1) & mask) {
        struct text_pair *s = &p->slots[i];
        if (s->key == key || s->key == EMPTY_KEY)
            return s;
    }
}

static infer_status grow(struct text_pairs *p)
{
    struct text_pairs bigger = *p;
    if (allocate(&bigger, 64 - p->shift + 1) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n_slots(p); i++)
        if (p->slots[i].key != EMPTY_KEY)
            *find(&bigger, p->slots[i].key) = p->slots[i];
    text_pairs_release(p);
    *p = bigger;
    return INFER_OK;
}

infer_status text_pairs_add(struct text_pairs *p, uint32_t left, uint32_t right, uint32_t priority,
                            uint32_t merged)
{
    uint64_t key = pair_key(left, right);
    struct text_pair *s = find(p, key);
    if (s->key == key)
        return INFER_AGAIN;
    if ((p->n_used + 1) * 4 > n_slots(p) * 3) {
        infer_status st = grow(p);
        if (st != INFER_OK)
            return st;
        s = find(p, key);
    }
    *s = (struct text_pair){key, priority, merged};
    p->n_used++;
    return INFER_OK;
}

const struct text_pair *text_pairs_find(const struct text_pairs *p, uint32_t left, uint32_t right)
{
    const struct text_pair *s = find(p, pair_key(left, right));
    return s->key == EMPTY_KEY ? NULL : s;
}

struct text_pair *text_pairs_edit(struct text_pairs *p, uint32_t left, uint32_t right)
{
    struct text_pair *s = find(p, pair_key(left, right));
    return s->key == EMPTY_KEY ? NULL : s;
}

void text_merge_work_release(struct text_merge_work *w, const struct base_alloc *a)
{
    base_array_release(a, &w->symbols);
    base_array_release(a, &w->links);
    base_array_release(a, &w->heap);
}

/* A miss leaves what an empty slot holds: no priority, no symbol. */
static const struct text_pair *pair_at(const struct text_pairs *p, uint32_t left, uint32_t right)
{
    return find(p, pair_key(left, right));
}

static size_t merge_short(const struct text_pairs *p, uint32_t *symbols, size_t n)
{
    uint32_t priority[SHORT_WORD], merged[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++) {
        const struct text_pair *pair = pair_at(p, symbols[i], symbols[i + 1]);
        priority[i] = pair->priority;
        merged[i] = pair->merged;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (priority[i] < priority[best])
                best = i;
        if (priority[best] == TEXT_PRIORITY_NONE)
            break;
        symbols[best] = merged[best];
        n--;
        size_t tail = n - best - 1;
        memmove(symbols + best + 1, symbols + best + 2, tail * sizeof *symbols);
        if (tail) {
            memmove(priority + best, priority + best + 1, tail * sizeof *priority);
            memmove(merged + best, merged + best + 1, tail * sizeof *merged);
            const struct text_pair *pair = pair_at(p, symbols[best], symbols[best + 1]);
            priority[best] = pair->priority;
            merged[best] = pair->merged;
        }
        if (best > 0) {
            const struct text_pair *pair = pair_at(p, symbols[best - 1], symbols[best]);
            priority[best - 1] = pair->priority;
            merged[best - 1] = pair->merged;
        }
    }
    return n;
}

static infer_status heap_push(const struct base_alloc *a, struct text_merge_work *w, uint64_t value)
{
    if (base_array_push(a, &w->heap, value) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    uint64_t *h = w->heap.data;
    size_t i = w->heap.size - 1;
    while (i > 0 && h[(i - 1) / 2] > value) {
        h[i] = h[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h[i] = value;
    return INFER_OK;
}

static uint64_t heap_pop(struct text_merge_work *w)
{
    uint64_t *h = w->heap.data;
    uint64_t top = h[0], last = h[--w->heap.size];
    size_t n = w->heap.size, i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && h[child + 1] < h[child])
            child++;
        if (h[child] >= last)
            break;
        h[i] = h[child];
        i = child;
    }
    if (n)
        h[i] = last;
    return top;
}

/* Looks up the pair that begins at link `i` and queues it. */
static infer_status consider(const struct text_pairs *p, const struct base_alloc *a,
                             struct text_merge_work *w, uint32_t i)
{
    struct text_link *l = &w->links.data[i];
    l->priority = TEXT_PRIORITY_NONE;
    if (l->next == NO_LINK)
        return INFER_OK;
    const struct text_pair *pair = pair_at(p, l->symbol, w->links.data[l->next].symbol);
    if (pair->priority == TEXT_PRIORITY_NONE)
        return INFER_OK;
    l->priority = pair->priority;
    l->merged = pair->merged;
    return heap_push(a, w, (uint64_t)pair->priority << 32 | i);
}

static infer_status merge_long(const struct text_pairs *p, const struct base_alloc *a,
                               struct text_merge_work *w)
{
    size_t n = w->symbols.size;
    if (n >= NO_LINK)
        return base_error(INFER_ERR_LIMIT, "a word of %zu characters is too long to encode", n);
    w->links.size = w->heap.size = 0;
    infer_status st = base_array_reserve(a, &w->links, n);
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        w->links.data[w->links.size++] = (struct text_link){
            .symbol = w->symbols.data[i],
            .prev = i ? (uint32_t)(i - 1) : NO_LINK,
            .next = i + 1 < n ? (uint32_t)(i + 1) : NO_LINK,
        };
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = consider(p, a, w, (uint32_t)i);

    while (st == INFER_OK && w->heap.size) {
        uint64_t top = heap_pop(w);
        uint32_t i = (uint32_t)top;
        struct text_link *l = &w->links.data[i];
        /* Entries are never removed: one that no longer tells the truth is stale. */
        if (l->priority != (uint32_t)(top >> 32))
            continue;
        struct text_link *gone = &w->links.data[l->next];
        l->symbol = l->merged;
        l->next = gone->next;
        gone->priority = TEXT_PRIORITY_NONE;
        if (l->next != NO_LINK)
            w->links.data[l->next].prev = i;
        st = consider(p, a, w, i);
        if (st == INFER_OK && l->prev != NO_LINK)
            st = consider(p, a, w, l->prev);
    }
    if (st != INFER_OK)
        return st;
    w->symbols.size = 0;
    for (uint32_t i = 0; i != NO_LINK; i = w->links.data[i].next)
        w->symbols.data[w->symbols.size++] = w->links.data[i].symbol;
    return INFER_OK;
}

infer_status text_merge(const struct text_pairs *p, const struct base_alloc *a,
                        struct text_merge_work *w)
{
    if (w->symbols.size > SHORT_WORD)
        return merge_long(p, a, w);
    w->symbols.size = merge_short(p, w->symbols.data, w->symbols.size);
    return INFER_OK;
}
