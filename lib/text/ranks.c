/* Reads merges: each must name two tokens and make a third. */
#include "text/ranks.h"

#include "base/error.h"
#include "base/str.h"
#include "text/pieces.h"

struct loader {
    struct text_pairs *pairs;
    const struct text_vocab *vocab;
    const struct base_map *ids;
    struct base_map others; /* tokens of other types; made when a merge needs it */
    struct base_str joined;
};

static infer_status bad_merge(size_t i, struct base_view merge, const char *what)
{
    return base_error(INFER_ERR_FORMAT, "merge %zu '%.*s': %s", i,
                      (int)BASE_MIN(merge.size, (size_t)64), merge.data, what);
}

/* User-defined tokens may also come of merges; those of other types never do: -2. */
static infer_status find_other(struct loader *l, struct base_view text, infer_token *id)
{
    infer_status st = INFER_OK;
    if (*id >= 0)
        return INFER_OK;
    if (!l->others.slots) {
        st = base_map_init(&l->others, &l->pairs->alloc, 64);
        for (size_t i = 0; i < l->vocab->n_tokens && st >= 0; i++)
            if (text_vocab_type(l->vocab, i) != TEXT_TOKEN_NORMAL)
                st = base_map_add(
                    &l->others, l->vocab->tokens[i].data, l->vocab->tokens[i].size,
                    text_vocab_type(l->vocab, i) == TEXT_TOKEN_USER_DEFINED ? (int32_t)i : -2);
    }
    if (st >= 0)
        *id = base_map_get(&l->others, text.data, text.size, -1);
    return st < 0 ? st : INFER_OK;
}

static infer_status add_merge(struct loader *l, size_t i, struct base_view merge)
{
    /* The first character may itself be a space in vocabularies that do not escape it. */
    const char *space = merge.size > 2 ? memchr(merge.data + 1, ' ', merge.size - 1) : NULL;
    if (!space)
        return bad_merge(i, merge, "expected two tokens separated by a space");
    struct base_view parts[3] = {{merge.data, (size_t)(space - merge.data)}};
    parts[1] = (struct base_view){space + 1, merge.size - parts[0].size - 1};
    base_str_clear(&l->joined);
    infer_status st = base_str_append(&l->joined, parts[0].data, parts[0].size);
    if (st == INFER_OK)
        st = base_str_append(&l->joined, parts[1].data, parts[1].size);
    parts[2] = (struct base_view){l->joined.data, l->joined.size};
    infer_token id[3] = {-1, -1, -1};
    for (int k = 0; k < 3 && st == INFER_OK; k++) {
        id[k] = base_map_get(l->ids, parts[k].data, parts[k].size, -1);
        st = find_other(l, parts[k], &id[k]);
    }
    if (st != INFER_OK)
        return st;
    if (id[0] == -1 || id[1] == -1 || id[2] == -1)
        return bad_merge(i, merge,
                         id[0] == -1   ? "the left part is not a token"
                         : id[1] == -1 ? "the right part is not a token"
                                       : "the result is not a token");
    if (id[0] < 0 || id[1] < 0 || id[2] < 0)
        return INFER_OK;
    st = text_pairs_add(l->pairs, (uint32_t)id[0], (uint32_t)id[1], (uint32_t)i, (uint32_t)id[2]);
    return st == INFER_AGAIN ? INFER_OK : st; /* written twice: the first rank holds */
}

infer_status text_ranks_load(struct text_pairs *pairs, const struct base_alloc *a,
                             const struct text_vocab *vocab, const struct base_map *ids)
{
    if (vocab->n_merges >= TEXT_PRIORITY_NONE)
        return base_error(INFER_ERR_LIMIT, "%zu merges are too many", vocab->n_merges);
    struct loader l = {.pairs = pairs, .vocab = vocab, .ids = ids};
    base_str_init(&l.joined, a, 0);
    infer_status st = INFER_OK;
    for (size_t i = 0; i < vocab->n_merges && st == INFER_OK; i++)
        st = add_merge(&l, i, vocab->merges[i]);
    base_str_release(&l.joined);
    base_map_release(&l.others);
    return st;
}
