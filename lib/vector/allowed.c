/* Which rows of a part a search may find: those of a namespace that a filter leaves. What indexes
 * of fields cannot say stands in the metadata of each row; where that is much to read it is put
 * off, and what was read is kept. */
#include "vector/filter_cache.h"
#include "vector/state.h"

#include <string.h>

#define WAIT_ROWS 512 /* fewer are read at once, and not kept */

static size_t words_of(const struct index_allowed *w)
{
    return ((size_t)w->rows.n + 63) / 64;
}

static int32_t count(const uint64_t *bits, size_t n_words)
{
    int32_t n = 0;
    for (size_t i = 0; i < n_words; i++)
        n += __builtin_popcountll(bits[i]);
    return n;
}

/* The filter by indexes alone; *any_open: `open` was written. */
static infer_status sets_of(struct index_allowed *w, uint64_t *open, const struct vector_ids *ids,
                            const struct base_alloc *a, int32_t *any_open)
{
    const size_t n_words = words_of(w);
    const uint64_t *bits = w->group < 0 ? NULL : vector_ids_bits(ids, w->group);
    uint64_t *marked = NULL;
    infer_status st = vector_filter_sets(w->filter, w->meta, w->rows.n, w->own, open, any_open);
    if (st != INFER_OK)
        return st;
    if (w->group >= 0 && !bits) {
        if (!(marked = base_new(a, n_words, sizeof *marked)))
            return INFER_ERR_NO_MEMORY;
        vector_ids_mark(ids, w->group, w->rows.n, marked);
        bits = marked;
    }
    for (size_t i = 0; *any_open && i < n_words; i++)
        w->own[i] |= open[i];
    for (size_t i = 0; bits && i < n_words; i++)
        w->own[i] &= bits[i];
    for (size_t i = 0; *any_open && bits && i < n_words; i++)
        open[i] &= bits[i];
    base_free(a, marked);
    return INFER_OK;
}

/* What was kept, and the rows that came since. */
static void sets_since(struct index_allowed *w, uint64_t *open, const struct vector_ids *ids)
{
    const struct vector_kept *kept = w->kept;
    memset(w->own, 0, 2 * words_of(w) * sizeof *w->own);
    memcpy(w->own, kept->bits, ((size_t)kept->n_rows + 63) / 64 * sizeof *w->own);
    for (int32_t row = kept->n_rows; row < w->rows.n; row++)
        if (w->group < 0 || vector_ids_space_of(ids, row) == w->group) {
            open[row / 64] |= UINT64_C(1) << row % 64;
            w->own[row / 64] |= UINT64_C(1) << row % 64;
        }
}

static infer_status filter_rows(struct index_allowed *w, const struct vector_ids *ids,
                                const struct base_alloc *a, int32_t in_space, int32_t may_wait)
{
    const size_t n_words = words_of(w);
    int32_t any_open = 1;
    infer_status st = INFER_OK;
    w->kept = vector_filter_find(w->filter, w->meta, w->group, &w->spent);
    w->spent_before = w->spent;
    if (w->kept && w->kept->n_rows == w->rows.n) {
        w->rows.bits = w->kept->bits;
        w->rows.n_set = w->kept->n_set;
        return INFER_OK;
    }
    if (w->kept && w->kept->n_rows > w->rows.n) /* a reader of earlier days */
        vector_kept_release(&w->kept);
    if (!(w->own = base_new_raw(a, 2 * n_words, sizeof *w->own)))
        return INFER_ERR_NO_MEMORY;
    uint64_t *open = w->own + n_words;
    w->rows.bits = w->own;
    /* Where the namespace is small, or no index helps, its rows alone are asked. */
    if (w->kept) {
        sets_since(w, open, ids);
    } else if (w->group < 0 || (in_space > w->rows.n / 16 &&
                                vector_filter_most(w->filter, w->meta, w->rows.n) < in_space)) {
        st = sets_of(w, open, ids, a, &any_open);
    } else {
        memset(w->own, 0, n_words * sizeof *w->own);
        vector_ids_mark(ids, w->group, w->rows.n, w->own);
        memcpy(open, w->own, n_words * sizeof *open);
    }
    if (st != INFER_OK)
        return st;
    w->rows.n_set = count(w->own, n_words);
    w->n_open = any_open ? count(open, n_words) : 0;
    if (!w->n_open)
        return INFER_OK;
    w->open = open;
    if (!may_wait || w->n_open < WAIT_ROWS)
        return index_allowed_read(w);
    if (w->rows.n_set == w->rows.n)
        w->rows.bits = NULL;
    return INFER_OK;
}

static infer_status find_allowed(struct index_allowed *w, const struct vector_ids *ids,
                                 const struct base_alloc *a, const struct base_view *space,
                                 int32_t may_wait)
{
    int32_t in_space = w->rows.n;
    w->group = -1;
    if (space) {
        const int32_t s = vector_ids_space(ids, *space);
        if (s < 0)
            return INFER_OK;
        if (vector_ids_spaces(ids) > 1) { /* else all rows are in it */
            w->group = s;
            in_space = BASE_MIN(vector_ids_count(ids, s), w->rows.n);
        }
    }
    if (!w->rows.n)
        return INFER_OK;
    if (w->filter)
        return filter_rows(w, ids, a, in_space, may_wait);
    w->rows.n_set = in_space;
    if (w->group < 0 || (w->rows.bits = vector_ids_bits(ids, w->group)) != NULL)
        return INFER_OK;
    if (!(w->own = base_new(a, words_of(w), sizeof *w->own)))
        return INFER_ERR_NO_MEMORY;
    w->rows.bits = w->own;
    w->rows.n_set = vector_ids_mark(ids, w->group, w->rows.n, w->own);
    return INFER_OK;
}

infer_status index_allowed_find(struct index_allowed *allowed, const struct index_seen *seen,
                                const struct base_alloc *a, const struct base_view *space,
                                const struct vector_filter *filter, int32_t may_wait)
{
    *allowed = (struct index_allowed){
        .rows = {.n = seen->n_rows}, .meta = seen->part->meta, .filter = filter};
    infer_status st = find_allowed(allowed, seen->part->ids, a, space, may_wait);
    if (st != INFER_OK)
        index_allowed_release(allowed, a);
    return st;
}

infer_status index_allowed_ask(const struct index_allowed *allowed, int32_t row, int32_t *passes)
{
    *passes = 1;
    if (!allowed->open || !(allowed->open[row / 64] >> row % 64 & 1))
        return INFER_OK;
    return vector_filter_ask(allowed->filter, allowed->meta, row, passes);
}

/* Of deleted rows too: what is kept must hold for readers who see them. */
infer_status index_allowed_read(struct index_allowed *allowed)
{
    struct index_allowed *w = allowed;
    const size_t n_words = words_of(w);
    if (!w->open)
        return INFER_OK;
    for (size_t i = 0; i < n_words; i++)
        for (uint64_t left = w->open[i]; left; left &= left - 1) {
            int32_t passes;
            infer_status st = vector_filter_ask(w->filter, w->meta,
                                                (int32_t)i * 64 + __builtin_ctzll(left), &passes);
            if (st != INFER_OK)
                return st;
            if (!passes)
                w->own[i] &= ~(left & -left);
        }
    w->rows.bits = w->own;
    w->rows.n_set = count(w->own, n_words);
    w->open = NULL;
    if (w->kept || w->n_open >= WAIT_ROWS)
        vector_filter_keep(w->filter, w->meta, w->group, w->own, w->rows.n, 0);
    return INFER_OK;
}

void index_allowed_release(struct index_allowed *allowed, const struct base_alloc *a)
{
    if (allowed->spent > allowed->spent_before)
        vector_filter_keep(allowed->filter, allowed->meta, allowed->group, NULL, 0,
                           allowed->spent - allowed->spent_before);
    vector_kept_release(&allowed->kept);
    base_free(a, allowed->own);
    allowed->own = NULL;
    allowed->open = NULL;
}
