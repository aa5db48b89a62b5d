/* Byte trie over control and user-defined tokens. */
#include "text/special.h"

#include "base/error.h"

#include <string.h>

infer_status text_special_init(struct text_special *s, const struct base_alloc *a)
{
    memset(s, 0, sizeof *s);
    struct text_special_node root = {.token = -1};
    return base_array_push(a, &s->nodes, root);
}

void text_special_release(struct text_special *s, const struct base_alloc *a)
{
    base_array_release(a, &s->nodes);
}

static uint32_t child_of(const struct text_special *s, uint32_t node, uint8_t byte)
{
    if (node == 0)
        return s->first[byte];
    uint32_t i = s->nodes.data[node].child;
    while (i && s->nodes.data[i].byte != byte)
        i = s->nodes.data[i].sibling;
    return i;
}

static infer_status add_child(struct text_special *s, const struct base_alloc *a, uint32_t node,
                              uint8_t byte, uint32_t *out)
{
    if (s->nodes.size >= UINT32_MAX)
        return base_error(INFER_ERR_LIMIT, "special tokens need more than %u trie nodes",
                          UINT32_MAX);
    uint32_t fresh = (uint32_t)s->nodes.size;
    struct text_special_node n = {.token = -1, .byte = byte};
    n.sibling = node ? s->nodes.data[node].child : 0;
    if (base_array_push(a, &s->nodes, n) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    if (node)
        s->nodes.data[node].child = fresh;
    else
        s->first[byte] = fresh;
    *out = fresh;
    return INFER_OK;
}

infer_status text_special_add(struct text_special *s, const struct base_alloc *a,
                              struct base_view text, infer_token token, int control)
{
    if (text.size > TEXT_SPECIAL_MAX_BYTES)
        return base_error(INFER_ERR_LIMIT,
                          "special token %d has %zu bytes, at most %d are supported", (int)token,
                          text.size, TEXT_SPECIAL_MAX_BYTES);
    uint32_t node = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        uint32_t next = child_of(s, node, byte);
        if (!next) {
            infer_status st = add_child(s, a, node, byte, &next);
            if (st != INFER_OK)
                return st;
        }
        node = next;
    }
    if (node && s->nodes.data[node].token < 0) {
        s->nodes.data[node].token = token;
        s->nodes.data[node].control = control != 0;
    }
    return INFER_OK;
}

infer_token text_special_find(const struct text_special *s, const char *text, size_t size,
                              size_t from, int control, size_t *at, size_t *length)
{
    for (size_t i = from; i < size; i++) {
        uint32_t node = s->first[(uint8_t)text[i]];
        if (!node)
            continue;
        infer_token best = -1;
        for (size_t end = i + 1;; end++) {
            const struct text_special_node *n = &s->nodes.data[node];
            if (n->token >= 0 && (control || !n->control)) {
                best = n->token;
                *length = end - i;
            }
            if (end == size || (node = child_of(s, node, (uint8_t)text[end])) == 0)
                break;
        }
        if (best >= 0) {
            *at = i;
            return best;
        }
    }
    return -1;
}

infer_token text_special_get(const struct text_special *s, struct base_view text)
{
    uint32_t node = 0;
    for (size_t i = 0; i < text.size; i++) {
        node = child_of(s, node, (uint8_t)text.data[i]);
        if (!node)
            return -1;
    }
    return node ? s->nodes.data[node].token : -1;
}
