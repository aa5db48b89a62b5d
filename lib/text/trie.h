/* A byte trie over tokens: every token that begins at a place of a text, in one walk. */
#ifndef TEXT_TRIE_H
#define TEXT_TRIE_H

#include "text/merge.h"

/* Longer tokens are refused (LIMIT), so that walks from every place stay linear. */
#define TEXT_TRIE_MAX_BYTES 1024
#define TEXT_TRIE_ROOTS     2

struct text_trie_edge {
    uint32_t node;     /* 0: there is none */
    infer_token token; /* that ends here, or -1 */
};

struct text_trie {
    struct base_alloc alloc;
    /* Out of the roots by byte; all others in `edges`: (node, byte) -> (token, node). */
    struct text_trie_edge first[TEXT_TRIE_ROOTS][256];
    struct text_pairs edges;
    uint32_t n_nodes;
};

infer_status text_trie_init(struct text_trie *t, const struct base_alloc *a, size_t expected_bytes);
void text_trie_release(struct text_trie *t); /* also of a zeroed one */
size_t text_trie_bytes(const struct text_trie *t);

/* The first of two tokens with one text wins. Empty texts are ignored. */
infer_status text_trie_add(struct text_trie *t, int root, struct base_view text, infer_token token);

static inline struct text_trie_edge text_trie_step(const struct text_trie *t, uint32_t node,
                                                   uint8_t byte)
{
    const struct text_pair *edge = text_pairs_find(&t->edges, node, byte);
    if (!edge)
        return (struct text_trie_edge){0, -1};
    return (struct text_trie_edge){edge->merged, (infer_token)edge->priority};
}

#endif
