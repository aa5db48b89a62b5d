/* Byte trie in the pair table of byte-pair encoding. */
#include "text/trie.h"

#include "base/error.h"

infer_status text_trie_init(struct text_trie *t, const struct base_alloc *a, size_t expected_bytes)
{
    *t = (struct text_trie){.alloc = *a};
    for (int root = 0; root < TEXT_TRIE_ROOTS; root++)
        for (int b = 0; b < 256; b++)
            t->first[root][b].token = -1;
    return text_pairs_init(&t->edges, a, expected_bytes);
}

void text_trie_release(struct text_trie *t)
{
    if (t->edges.slots)
        text_pairs_release(&t->edges);
}

size_t text_trie_bytes(const struct text_trie *t)
{
    return text_pairs_bytes(&t->edges);
}

/* A new edge leads to a new node; -1 as a priority is "no token" on both sides. */
static infer_status enter(struct text_trie *t, uint32_t node, uint8_t byte, uint32_t *next,
                          struct text_pair **edge)
{
    *edge = text_pairs_edit(&t->edges, node, byte);
    if (!*edge) {
        if (t->n_nodes == UINT32_MAX - 1)
            return base_error(INFER_ERR_LIMIT, "a vocabulary with too much text");
        infer_status st = text_pairs_add(&t->edges, node, byte, TEXT_PRIORITY_NONE, ++t->n_nodes);
        if (st != INFER_OK)
            return st;
        *edge = text_pairs_edit(&t->edges, node, byte);
    }
    *next = (*edge)->merged;
    return INFER_OK;
}

infer_status text_trie_add(struct text_trie *t, int root, struct base_view text, infer_token token)
{
    if (text.size == 0)
        return INFER_OK;
    if (text.size > TEXT_TRIE_MAX_BYTES)
        return base_error(INFER_ERR_LIMIT, "token %d has %zu bytes, at most %d are supported",
                          (int)token, text.size, TEXT_TRIE_MAX_BYTES);
    struct text_trie_edge *first = &t->first[root][(uint8_t)text.data[0]];
    if (!first->node)
        first->node = ++t->n_nodes;
    uint32_t node = first->node;
    struct text_pair *edge = NULL;
    for (size_t i = 1; i < text.size; i++) {
        infer_status st = enter(t, node, (uint8_t)text.data[i], &node, &edge);
        if (st != INFER_OK)
            return st;
    }
    if (!edge && first->token < 0)
        first->token = token;
    else if (edge && edge->priority == TEXT_PRIORITY_NONE)
        edge->priority = (uint32_t)token;
    return INFER_OK;
}
