/* Trees of tokens: sorting, nodes, sets of plain tokens. */
#include "text/token_tree.h"

#include "text/tokenizer_internal.h"
#include "text/unicode.h"

#include <stdatomic.h>

#define TOKEN_BYTES_MAX 255

struct entry {
    uint64_t key; /* the first eight bytes, in the order of their values */
    infer_token token;
};

static struct base_view piece_of(const struct text_tokenizer *t, infer_token token)
{
    return text_tokenizer_piece_view(t, token, 0);
}

static uint64_t key_of(struct base_view piece)
{
    uint64_t key = 0;
    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (i < piece.size ? (uint8_t)piece.data[i] : 0);
    return key;
}

static int is_before(const struct text_tokenizer *t, struct entry a, struct entry b)
{
    if (a.key != b.key)
        return a.key < b.key;
    struct base_view x = piece_of(t, a.token), y = piece_of(t, b.token);
    int order = memcmp(x.data, y.data, BASE_MIN(x.size, y.size));
    if (order != 0)
        return order < 0;
    return x.size != y.size ? x.size < y.size : a.token < b.token;
}

/* Merges runs of growing length between two arrays; returns the one that is sorted. */
static struct entry *sort(const struct text_tokenizer *t, struct entry *from, struct entry *to,
                          size_t n)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t i = begin, i_end = BASE_MIN(begin + width, n);
            size_t k = i_end, k_end = BASE_MIN(begin + 2 * width, n);
            for (size_t out = begin; out < k_end; out++) {
                int left = k == k_end || (i < i_end && !is_before(t, from[k], from[i]));
                to[out] = left ? from[i++] : from[k++];
            }
        }
        struct entry *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

/* Characters of a plain token; 0 for any other. */
static size_t plain_chars(struct base_view piece)
{
    size_t n = 0;
    for (size_t i = 0; i < piece.size; n++) {
        uint32_t cp;
        int size = text_utf8_next(piece.data + i, piece.size - i, &cp);
        if (size <= 0 || cp < 0x20 || cp == 0x7F || cp == '"' || cp == '\\')
            return 0;
        i += (size_t)size;
    }
    return n <= TEXT_PLAIN_MAX ? n : 0;
}

/* Whether all bytes from `from` on are ASCII letters and digits. */
static int is_word(struct base_view piece, size_t from)
{
    for (size_t i = from; i < piece.size; i++) {
        char c = piece.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')))
            return 0;
    }
    return 1;
}

/* Tokens come in the order of their bytes, so the nodes of the last one are a prefix of most of
 * the next one's. */
struct growth {
    struct text_token_nodes *nodes;
    struct base_view last;
    infer_token last_token;
    uint32_t open[TOKEN_BYTES_MAX + 1];
    size_t n_open;
};

static void close_nodes(struct growth *g, size_t depth)
{
    while (g->n_open > depth)
        g->nodes->data[g->open[--g->n_open]].end = (uint32_t)g->nodes->size;
}

static infer_status add_token(struct text_token_tree *tree, struct growth *g,
                              struct base_view piece, infer_token token)
{
    size_t common = 0;
    while (common < g->n_open && common < piece.size && piece.data[common] == g->last.data[common])
        common++;
    if (common == piece.size && common == g->last.size)
        return base_array_push(&tree->alloc, &tree->twins,
                               ((struct text_token_twin){token, g->last_token}));
    close_nodes(g, common);
    infer_status st = base_array_reserve(&tree->alloc, g->nodes, piece.size - common);
    if (st != INFER_OK)
        return st;
    for (size_t d = common; d < piece.size; d++) {
        g->open[g->n_open++] = (uint32_t)g->nodes->size;
        g->nodes->data[g->nodes->size++] = (struct text_token_node){
            .token = -1, .byte = (uint8_t)piece.data[d], .depth = (uint8_t)d};
    }
    g->nodes->data[g->nodes->size - 1].token = token;
    g->last = piece;
    g->last_token = token;
    return INFER_OK;
}

static infer_status add_tokens(struct text_token_tree *tree, const struct text_tokenizer *t,
                               const struct entry *entries, size_t n)
{
    struct growth words = {.nodes = &tree->words}, plain = {.nodes = &tree->plain};
    struct growth joined = {.nodes = &tree->joined}, other = {.nodes = &tree->other};
    for (size_t i = 0; i < n; i++) {
        struct base_view piece = piece_of(t, entries[i].token);
        size_t chars = plain_chars(piece);
        int word = chars && is_word(piece, 0);
        int is_joined = chars && !word && !((uint8_t)piece.data[0] & 0x80) && is_word(piece, 1);
        infer_status st = add_token(tree,
                                    word        ? &words
                                    : is_joined ? &joined
                                    : chars     ? &plain
                                                : &other,
                                    piece, entries[i].token);
        if (st != INFER_OK)
            return st;
        for (size_t k = chars; chars && k <= TEXT_PLAIN_MAX; k++) {
            text_token_set_add(text_token_tree_upto(tree, 0, k), entries[i].token);
            if (word)
                text_token_set_add(text_token_tree_upto(tree, 1, k), entries[i].token);
        }
    }
    close_nodes(&words, 0);
    close_nodes(&joined, 0);
    close_nodes(&plain, 0);
    close_nodes(&other, 0);
    return INFER_OK;
}

static infer_status fill_behind(struct text_token_tree *tree)
{
    const struct text_token_node *data = tree->joined.data;
    size_t n = 0;
    for (size_t i = 0; i < tree->joined.size; i = data[i].end)
        n++;
    tree->behind = base_new(&tree->alloc, n * tree->n_words, sizeof *tree->behind);
    if (!tree->behind)
        return INFER_ERR_NO_MEMORY;
    uint64_t *set = tree->behind;
    for (size_t i = 0; i < tree->joined.size; set += tree->n_words)
        for (const size_t end = data[i].end; i < end; i++)
            if (data[i].token >= 0)
                text_token_set_add(set, data[i].token);
    return INFER_OK;
}

/* Whether a token stands for text that may be generated. */
static int is_text(const struct text_tokenizer *t, infer_token token)
{
    size_t size = piece_of(t, token).size;
    return size > 0 && size <= TOKEN_BYTES_MAX && !text_tokenizer_is_end(t, token) &&
           text_vocab_type(text_tokenizer_vocab(t), (size_t)token) != TEXT_TOKEN_UNUSED;
}

static infer_status fill(struct text_token_tree *tree, const struct text_tokenizer *t)
{
    struct entry *entries = base_new_raw(&tree->alloc, 2 * tree->n_tokens, sizeof *entries);
    if (!entries)
        return INFER_ERR_NO_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < tree->n_tokens; i++) {
        infer_token token = (infer_token)i;
        if (text_tokenizer_is_end(t, token))
            text_token_set_add(tree->ends, token);
        else if (is_text(t, token))
            entries[n++] = (struct entry){key_of(piece_of(t, token)), token};
    }
    infer_status st = add_tokens(tree, t, sort(t, entries, entries + n, n), n);
    base_free(&tree->alloc, entries);
    return st == INFER_OK ? fill_behind(tree) : st;
}

infer_status text_token_tree_create(struct text_token_tree **out, const struct base_alloc *a,
                                    const struct text_tokenizer *tokenizer)
{
    struct text_token_tree *tree = base_new(a, 1, sizeof *tree);
    if (!tree)
        return INFER_ERR_NO_MEMORY;
    tree->refs = 1;
    tree->alloc = *a;
    tree->n_tokens = text_tokenizer_vocab(tokenizer)->n_tokens;
    tree->n_words = (tree->n_tokens + 63) / 64;
    tree->upto = base_new(a, 2 * (TEXT_PLAIN_MAX + 1) * tree->n_words, sizeof *tree->upto);
    tree->ends = base_new(a, tree->n_words, sizeof *tree->ends);
    infer_status st = tree->upto && tree->ends ? fill(tree, tokenizer) : INFER_ERR_NO_MEMORY;
    if (st != INFER_OK)
        text_token_tree_release(&tree);
    else
        *out = tree;
    return st;
}

infer_status text_tokenizer_tree(struct text_token_tree **out,
                                 const struct text_tokenizer *tokenizer)
{
    /* Immutable but for this one place, which the lock guards. */
    struct text_tokenizer *t = (struct text_tokenizer *)tokenizer;
    infer_status st = INFER_OK;
    pthread_mutex_lock(&t->tree_lock);
    if (!t->tree)
        st = text_token_tree_create(&t->tree, &t->alloc, t);
    if (st == INFER_OK)
        *out = text_token_tree_retain(t->tree);
    pthread_mutex_unlock(&t->tree_lock);
    return st;
}

struct text_token_tree *text_token_tree_retain(struct text_token_tree *tree)
{
    atomic_fetch_add(&tree->refs, 1);
    return tree;
}

void text_token_tree_release(struct text_token_tree **handle)
{
    struct text_token_tree *tree = *handle;
    *handle = NULL;
    if (!tree || atomic_fetch_sub(&tree->refs, 1) != 1)
        return;
    const struct base_alloc a = tree->alloc;
    base_free(&a, tree->words.data);
    base_free(&a, tree->joined.data);
    base_free(&a, tree->plain.data);
    base_free(&a, tree->other.data);
    base_free(&a, tree->twins.data);
    base_free(&a, tree->upto);
    base_free(&a, tree->behind);
    base_free(&a, tree->ends);
    base_free(&a, tree);
}
