/* The tokens of a vocabulary by their bytes: trees that lie in arrays in the order of a walk, so
 * that a search over all tokens goes from front to back and leaps over what cannot match.
 *
 * Plain tokens are those that could stand inside a JSON string as they are: whole characters, no
 * control characters, quotes and backslashes, at most TEXT_PLAIN_MAX of them. They have a tree of
 * their own, and sets by their number of characters: where any character may follow, such
 * a set is the answer and no walk is needed. Of the plain tokens, those of ASCII letters and digits
 * alone are set apart once more, for patterns that allow these and not much else, and so are those
 * of one other ASCII character and such a word, or nothing: they are nearly all the rest. */
#ifndef TEXT_TOKEN_TREE_H
#define TEXT_TOKEN_TREE_H

#include "text/tokenizer.h"

#define TEXT_PLAIN_MAX 32

struct text_token_node {
    uint32_t end;      /* the first node behind this one's descendants */
    infer_token token; /* that ends here, or -1 */
    uint8_t byte, depth;
};

struct text_token_nodes {
    struct text_token_node *data;
    size_t size, capacity;
};

struct text_token_twin {
    infer_token token, of; /* the same bytes as `of`, which is in a tree */
};

struct text_token_tree {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    size_t n_tokens, n_words;                            /* a set of tokens is n_words of 64 bits */
    struct text_token_nodes words, joined, plain, other; /* plain: neither word nor joined */
    BASE_ARRAY(struct text_token_twin) twins;
    uint64_t *upto;   /* TEXT_PLAIN_MAX + 1 sets: plain tokens of at most so many characters, words
                         among them; then the same of words alone */
    uint64_t *behind; /* for each first character of `joined`, in its order, all its tokens */
    uint64_t *ends;   /* tokens that end a generation */
};

/* Tokens without text, end tokens and those longer than 255 bytes are in no tree. */
infer_status text_token_tree_create(struct text_token_tree **out, const struct base_alloc *a,
                                    const struct text_tokenizer *tokenizer);
/* The tokenizer's own tree, made by the first call and kept; the caller gets a reference. */
infer_status text_tokenizer_tree(struct text_token_tree **out,
                                 const struct text_tokenizer *tokenizer);
struct text_token_tree *text_token_tree_retain(struct text_token_tree *tree);
void text_token_tree_release(struct text_token_tree **tree); /* NULL-safe, sets NULL */

static inline uint64_t *text_token_tree_upto(const struct text_token_tree *t, int words,
                                             size_t n_chars)
{
    return t->upto + (n_chars + (words ? TEXT_PLAIN_MAX + 1 : 0)) * t->n_words;
}

static inline void text_token_set_add(uint64_t *set, infer_token token)
{
    set[(uint32_t)token / 64] |= UINT64_C(1) << ((uint32_t)token % 64);
}

static inline void text_token_set_remove(uint64_t *set, infer_token token)
{
    set[(uint32_t)token / 64] &= ~(UINT64_C(1) << ((uint32_t)token % 64));
}

static inline int text_token_set_has(const uint64_t *set, infer_token token)
{
    return (int)(set[(uint32_t)token / 64] >> ((uint32_t)token % 64) & 1);
}

#endif
