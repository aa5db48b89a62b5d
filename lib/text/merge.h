/* The merging engine under both kinds of BPE: a table of pairs that may become
 * one symbol, and the loop that always merges the best pair, leftmost first. */
#ifndef TEXT_MERGE_H
#define TEXT_MERGE_H

#include "base/array.h"

/* A symbol is a token id, or one of these where no token exists: */
#define TEXT_SYMBOL_CHAR 0x80000000u /* | code point */
#define TEXT_SYMBOL_BYTE 0xC0000000u /* | byte */
#define TEXT_SYMBOL_NONE 0xFFFFFFFFu

#define TEXT_PRIORITY_NONE 0xFFFFFFFFu

struct text_pair {
    uint64_t key;      /* left << 32 | right */
    uint32_t priority; /* lower merges first */
    uint32_t merged;   /* symbol */
};

struct text_pairs {
    struct base_alloc alloc;
    struct text_pair *slots;
    size_t n_used;
    uint64_t multiplier; /* odd; differs per table, so that a file cannot aim at one slot */
    int32_t shift;       /* slots: 2^(64 - shift) */
};

infer_status text_pairs_init(struct text_pairs *p, const struct base_alloc *a, size_t expected);
void text_pairs_release(struct text_pairs *p);
size_t text_pairs_bytes(const struct text_pairs *p);

/* A pair that is already there keeps its entry and gives INFER_AGAIN. */
infer_status text_pairs_add(struct text_pairs *p, uint32_t left, uint32_t right, uint32_t priority,
                            uint32_t merged);

/* The pair, or NULL. */
const struct text_pair *text_pairs_find(const struct text_pairs *p, uint32_t left, uint32_t right);
struct text_pair *text_pairs_edit(struct text_pairs *p, uint32_t left, uint32_t right);

/* Place of one symbol of a long word; `priority` is that of merging it with `next`. */
struct text_link {
    uint32_t symbol, prev, next, priority, merged;
};

/* Scratch of the loop; kept between words so that it grows once. */
struct text_merge_work {
    BASE_ARRAY(uint32_t) symbols;       /* in: the word; out: what it merged into */
    BASE_ARRAY(struct text_link) links; /* long words only */
    BASE_ARRAY(uint64_t) heap;          /* priority << 32 | index into links */
};

void text_merge_work_release(struct text_merge_work *w, const struct base_alloc *a);

/* Merges w->symbols in place: quadratic but fast for a short word, O(n log n)
 * for a long one. */
infer_status text_merge(const struct text_pairs *p, const struct base_alloc *a,
                        struct text_merge_work *w);

#endif
