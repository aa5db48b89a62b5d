/* Finds tokens that are written out in a text, such as <|eot_id|>: leftmost
 * first, longest first, in one pass over a byte trie. */
#ifndef TEXT_SPECIAL_H
#define TEXT_SPECIAL_H

#include "base/array.h"

struct text_special_node {
    uint32_t child, sibling; /* 0 where absent: the root is nobody's child */
    infer_token token;       /* that ends here, or -1 */
    uint8_t byte;
    uint8_t control; /* the token counts only if control tokens are asked for */
};

struct text_special {
    BASE_ARRAY(struct text_special_node) nodes;
    uint32_t first[256]; /* children of the root by byte: most text stops here */
};

/* Longer tokens are refused (LIMIT), so that looking for them stays linear. */
#define TEXT_SPECIAL_MAX_BYTES 1024

infer_status text_special_init(struct text_special *s, const struct base_alloc *a);
void text_special_release(struct text_special *s, const struct base_alloc *a);

/* The first of two tokens with one text wins. Empty texts are ignored. */
infer_status text_special_add(struct text_special *s, const struct base_alloc *a,
                              struct base_view text, infer_token token, int control);

/* Looks for the first token at or after `from`. Returns its id and its place, or -1. */
infer_token text_special_find(const struct text_special *s, const char *text, size_t size,
                              size_t from, int control, size_t *at, size_t *length);

/* The token whose whole text this is, or -1. */
infer_token text_special_get(const struct text_special *s, struct base_view text);

#endif
