/* A filter over all rows. Every condition gives two sets of bits: rows that pass for certain, and
 * rows that are open, because the field is not indexed or the row is newer than the index. AND, OR
 * and NOT keep to that (Kleene's logic of three values), and what is open in the end is read as
 * text. */
#include "vector/filter_node.h"
#include "vector/meta_index.h"

#include "base/error.h"

#include <string.h>

#define ROUGH_SPANS 16  /* of a list's values, looked up to see which condition to begin with */
#define TEXT_COST   128 /* reading a row's text, in rows of a column that are walked over */

struct run {
    const struct vector_filter *filter;
    const struct vector_meta *meta;
    struct vector_meta_index *index;
    struct base_alloc alloc;
    int32_t n_rows;
    size_t n_words;
};

struct sets {
    uint64_t *yes, *open; /* never a row in both */
    int32_t any_open;     /* 0: `open` is empty, and not written */
};

struct estimate {
    int64_t least, most; /* rows that pass */
    int64_t work;        /* rows of columns to walk over */
    int32_t blind;       /* nothing below is indexed */
};

struct ranked {
    const struct filter_node *node;
    struct estimate estimate;
};

static infer_status damaged(const struct run *r, const struct filter_node *node)
{
    struct base_view name = r->filter->names[node->path];
    return base_error(INFER_ERR_FORMAT, "the index of the metadata's field \"%.*s\" is damaged",
                      (int)BASE_MIN(name.size, (size_t)64), name.data);
}

/* ------------------------------------------------------------------ spans of a column */

/* Values within the bounds that are wanted: 1 low, 2 high. */
static int range_span(const struct vector_column *c, const struct filter_node *node, int which,
                      struct vector_span *span)
{
    const int32_t kind = node->low.is_set ? node->low.value.kind : node->high.value.kind;
    *span = (struct vector_span){c->first[kind], c->first[kind + 1]};
    if ((which & 1) && node->low.is_set &&
        !vector_column_seek(c, &node->low.value, node->low.strict, &span->begin))
        return 0;
    return !(which & 2) || !node->high.is_set ||
           vector_column_seek(c, &node->high.value, !node->high.strict, &span->end);
}

/* Number i of the spans of a condition. */
static int span_of(const struct vector_column *c, const struct filter_node *node, int32_t i,
                   struct vector_span *span)
{
    if (node->type == FILTER_IN)
        return vector_column_find(c, &node->values[i], span);
    if (node->type == FILTER_PREFIX)
        return vector_column_find_prefix(c, node->prefix, span);
    return range_span(c, node, 3, span);
}

static int32_t n_spans(const struct filter_node *node)
{
    return node->type == FILTER_IN ? node->n_values : 1;
}

/* Do both bounds have to be met by one value? Not where rows have several. */
static int is_split(const struct vector_column *c, const struct filter_node *node)
{
    return node->type == FILTER_RANGE && node->low.is_set && node->high.is_set && c->many;
}

/* ------------------------------------------------------------------ estimates */

/* Places of a condition, and rows that it has for certain. Where it is `rough`, a long list is
 * judged by some of its values: estimates are made again at every AND above. */
static int count_of(const struct vector_column *c, const struct filter_node *node, int rough,
                    uint64_t *sum, uint64_t *largest)
{
    const int32_t n_looked = rough ? BASE_MIN(n_spans(node), ROUGH_SPANS) : n_spans(node);
    const int32_t step = n_looked ? n_spans(node) / n_looked : 1;
    *sum = *largest = 0;
    if (node->type == FILTER_EXISTS) {
        *sum = *largest = (uint64_t)c->n_present;
        return 1;
    }
    if (is_split(c, node)) { /* the smaller of both says at most how many */
        struct vector_span low, high;
        uint64_t n_low, n_high;
        if (!range_span(c, node, 1, &low) || !range_span(c, node, 2, &high) ||
            !vector_column_count(c, low, &n_low) || !vector_column_count(c, high, &n_high))
            return 0;
        *sum = BASE_MIN(n_low, n_high);
        return 1;
    }
    for (int32_t i = 0; i < n_looked; i++) {
        struct vector_span span;
        uint64_t n;
        if (!span_of(c, node, i * step, &span) || !vector_column_count(c, span, &n))
            return 0;
        *sum += n;
        /* places of several values may be of one row */
        *largest = BASE_MAX(*largest, span.end - span.begin == 1 || !c->many ? n : 0);
    }
    *sum *= (uint64_t)step;
    if (!c->many)
        *largest = *sum;
    return 1;
}

/* Damage is found again, and reported, by those who walk. */
static struct estimate estimate_condition(const struct run *r, const struct filter_node *node,
                                          int rough)
{
    struct estimate e = {.most = r->n_rows};
    const struct vector_meta_field *f =
        vector_meta_index_field(r->index, r->filter->names[node->path]);
    e.blind = !f || !f->stack.n;
    for (int32_t i = 0; !e.blind && i < f->stack.n; i++) {
        uint64_t sum, largest;
        if (f->stack.columns[i]->begin >= r->n_rows ||
            !count_of(f->stack.columns[i], node, rough, &sum, &largest))
            continue;
        e.work += (int64_t)sum;
        e.least += (int64_t)largest;
    }
    if (!e.blind) { /* rows that came after the reader may be among those counted */
        e.most = BASE_MIN(e.most, e.work + BASE_MAX(r->n_rows - r->index->end, 0));
        e.least = BASE_MIN(e.least, (int64_t)r->n_rows);
        e.least = BASE_MAX(e.least - BASE_MAX(r->index->end - r->n_rows, 0), 0);
    }
    return e;
}

static struct estimate estimate(const struct run *r, const struct filter_node *node, int rough)
{
    if (node->type > FILTER_NOT)
        return estimate_condition(r, node, rough);
    struct estimate all = {.blind = node->child != NULL};
    if (node->type == FILTER_AND)
        all.least = all.most = r->n_rows;
    for (const struct filter_node *c = node->child; c; c = c->next) {
        struct estimate e = estimate(r, c, rough);
        all.work += e.work;
        all.blind &= e.blind;
        if (node->type == FILTER_NOT) {
            all.least = r->n_rows - e.most;
            all.most = r->n_rows - e.least;
        } else if (node->type == FILTER_AND) { /* each may drop other rows */
            all.least = BASE_MAX(all.least + e.least - r->n_rows, 0);
            all.most = BASE_MIN(all.most, e.most);
        } else {
            all.least = BASE_MAX(all.least, e.least);
            all.most = BASE_MIN(all.most + e.most, (int64_t)r->n_rows);
        }
    }
    return all;
}

int32_t vector_filter_most(const struct vector_filter *filter, const struct vector_meta *meta,
                           int32_t n_rows)
{
    const int32_t size = vector_meta_size(meta);
    struct run r = {.filter = filter, .meta = meta, .n_rows = BASE_MIN(n_rows, size)};
    r.index = vector_meta_index_hold(meta);
    struct estimate e = estimate(&r, filter->root, 0);
    vector_meta_index_drop(&r.index);
    return (int32_t)e.most;
}

/* ------------------------------------------------------------------ sets */

/* Rows begin .. n_rows. */
static void set_from(const struct run *r, uint64_t *bits, int32_t begin)
{
    if (begin >= r->n_rows)
        return;
    size_t w = (size_t)begin / 64;
    bits[w] |= UINT64_MAX << (begin % 64);
    while (++w < r->n_words)
        bits[w] = UINT64_MAX;
    if (r->n_rows % 64)
        bits[r->n_words - 1] &= (UINT64_C(1) << (r->n_rows % 64)) - 1;
}

static void clear(const struct run *r, uint64_t *bits)
{
    memset(bits, 0, r->n_words * sizeof *bits);
}

static void open_from(const struct run *r, struct sets *s, int32_t begin)
{
    s->any_open = begin < r->n_rows;
    if (!s->any_open)
        return;
    clear(r, s->open);
    set_from(r, s->open, begin);
}

static int64_t count_candidates(const struct run *r, const struct sets *s)
{
    int64_t n = 0;
    for (size_t w = 0; w < r->n_words; w++)
        n += __builtin_popcountll(s->yes[w] | (s->any_open ? s->open[w] : 0));
    return n;
}

static infer_status new_sets(const struct run *r, struct sets *s)
{
    *s = (struct sets){.yes = base_new_raw(&r->alloc, 2 * r->n_words, sizeof *s->yes)};
    if (!s->yes)
        return INFER_ERR_NO_MEMORY;
    s->open = s->yes + r->n_words;
    return INFER_OK;
}

static void and_sets(const struct run *r, struct sets *a, const struct sets *b)
{
    for (size_t w = 0; w < r->n_words; w++) {
        uint64_t may_a = a->yes[w] | (a->any_open ? a->open[w] : 0);
        uint64_t may_b = b->yes[w] | (b->any_open ? b->open[w] : 0);
        a->yes[w] &= b->yes[w];
        a->open[w] = may_a & may_b & ~a->yes[w];
    }
    a->any_open |= b->any_open;
}

static void or_sets(const struct run *r, struct sets *a, const struct sets *b)
{
    for (size_t w = 0; w < r->n_words; w++) {
        uint64_t open = (a->any_open ? a->open[w] : 0) | (b->any_open ? b->open[w] : 0);
        a->yes[w] |= b->yes[w];
        a->open[w] = open & ~a->yes[w];
    }
    a->any_open |= b->any_open;
}

static void not_sets(const struct run *r, struct sets *s)
{
    for (size_t w = 0; w < r->n_words; w++)
        s->yes[w] = ~(s->yes[w] | (s->any_open ? s->open[w] : 0));
    if (r->n_rows % 64)
        s->yes[r->n_words - 1] &= (UINT64_C(1) << (r->n_rows % 64)) - 1;
}

/* What is certain so far is left to the texts. */
static void open_all(const struct run *r, struct sets *s)
{
    for (size_t w = 0; w < r->n_words; w++) {
        s->open[w] = s->yes[w] | (s->any_open ? s->open[w] : 0);
        s->yes[w] = 0;
    }
    s->any_open = 1;
}

/* ------------------------------------------------------------------ conditions */

/* which: as range_span(). */
static int set_ranges(const struct run *r, const struct vector_meta_field *f,
                      const struct filter_node *node, int which, uint64_t *bits)
{
    for (int32_t i = 0; i < f->stack.n; i++) {
        const struct vector_column *c = f->stack.columns[i];
        struct vector_span span;
        if (c->begin < r->n_rows &&
            (!range_span(c, node, which, &span) || !vector_column_set(c, span, r->n_rows, 1, bits)))
            return 0;
    }
    return 1;
}

static int set_spans(const struct run *r, const struct vector_column *c,
                     const struct filter_node *node, uint64_t *bits)
{
    const int32_t n = n_spans(node);
    if (node->type == FILTER_EXISTS) {
        vector_column_set_present(c, r->n_rows, bits);
        return 1;
    }
    for (int32_t i = 0; i < n; i++) {
        struct vector_span span;
        if (!span_of(c, node, i, &span) || !vector_column_set(c, span, r->n_rows, n == 1, bits))
            return 0;
    }
    return 1;
}

static infer_status run_condition(const struct run *r, const struct filter_node *node,
                                  struct sets *out)
{
    const struct vector_meta_field *f =
        vector_meta_index_field(r->index, r->filter->names[node->path]);
    int split = 0, ok = 1;
    clear(r, out->yes);
    if (!f || !f->stack.n) {
        open_from(r, out, 0);
        return INFER_OK;
    }
    for (int32_t i = 0; i < f->stack.n; i++)
        split |= is_split(f->stack.columns[i], node);
    if (split) { /* `open` is not in use yet */
        clear(r, out->open);
        ok = set_ranges(r, f, node, 1, out->yes) && set_ranges(r, f, node, 2, out->open);
        for (size_t w = 0; w < r->n_words; w++)
            out->yes[w] &= out->open[w];
    }
    for (int32_t i = 0; i < f->stack.n && !split && ok; i++)
        ok = f->stack.columns[i]->begin >= r->n_rows ||
             set_spans(r, f->stack.columns[i], node, out->yes);
    open_from(r, out, r->index->end);
    return ok ? INFER_OK : damaged(r, node);
}

/* ------------------------------------------------------------------ groups */

static infer_status run_node(const struct run *r, const struct filter_node *node, struct sets *out);

static int comes_before(const struct ranked *a, const struct ranked *b)
{
    if (a->estimate.blind != b->estimate.blind)
        return !a->estimate.blind;
    return a->estimate.most < b->estimate.most;
}

/* By shell sort: hostile filters have thousands. */
static void rank(const struct run *r, const struct filter_node *node, struct ranked *ranked)
{
    int32_t n = 0;
    for (const struct filter_node *c = node->child; c; c = c->next)
        ranked[n++] = (struct ranked){c, estimate(r, c, 1)};
    for (int32_t gap = n / 2; gap; gap /= 2)
        for (int32_t i = gap; i < n; i++) {
            struct ranked moved = ranked[i];
            int32_t j = i;
            for (; j >= gap && comes_before(&moved, &ranked[j - gap]); j -= gap)
                ranked[j] = ranked[j - gap];
            ranked[j] = moved;
        }
}

/* The rarest first. As soon as the texts of what is left are quicker to read than the columns of
 * the next, which knows no less about them, they are. */
static infer_status run_and(const struct run *r, const struct filter_node *node, struct sets *out)
{
    struct sets next = {0};
    struct ranked *ranked = base_new_raw(&r->alloc, (size_t)node->n_children, sizeof *ranked);
    infer_status st = ranked ? INFER_OK : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        rank(r, node, ranked);
    if (st == INFER_OK)
        st = run_node(r, ranked[0].node, out);
    for (int32_t i = 1; i < node->n_children && st == INFER_OK; i++) {
        const struct estimate *e = &ranked[i].estimate;
        int64_t left = count_candidates(r, out);
        if (!left)
            break;
        if (e->blind || e->work + (int64_t)r->n_words > left * TEXT_COST) {
            open_all(r, out);
            break;
        }
        if (!next.yes)
            st = new_sets(r, &next);
        if (st == INFER_OK)
            st = run_node(r, ranked[i].node, &next);
        if (st == INFER_OK)
            and_sets(r, out, &next);
    }
    base_free(&r->alloc, next.yes);
    base_free(&r->alloc, ranked);
    return st;
}

static infer_status run_or(const struct run *r, const struct filter_node *node, struct sets *out)
{
    struct sets next;
    infer_status st = new_sets(r, &next);
    clear(r, out->yes);
    out->any_open = 0;
    for (const struct filter_node *c = node->child; c && st == INFER_OK; c = c->next) {
        st = run_node(r, c, &next);
        if (st == INFER_OK)
            or_sets(r, out, &next);
    }
    base_free(&r->alloc, next.yes);
    return st;
}

static infer_status run_node(const struct run *r, const struct filter_node *node, struct sets *out)
{
    if (node->type > FILTER_NOT)
        return run_condition(r, node, out);
    if (node->type == FILTER_NOT) {
        infer_status st = run_node(r, node->child, out);
        not_sets(r, out);
        return st;
    }
    if (node->n_children == 1)
        return run_node(r, node->child, out);
    if (node->n_children)
        return node->type == FILTER_AND ? run_and(r, node, out) : run_or(r, node, out);
    out->any_open = 0;
    clear(r, out->yes);
    set_from(r, out->yes, 0);
    return INFER_OK;
}

/* ------------------------------------------------------------------ rows */

infer_status vector_filter_ask(const struct vector_filter *filter, const struct vector_meta *meta,
                               int32_t row, int32_t *passes)
{
    const char *json;
    size_t size;
    infer_status st = vector_meta_text(meta, row, &json, &size);
    return st == INFER_OK ? vector_filter_test(filter, json, size, passes) : st;
}

static infer_status read_open(const struct vector_filter *filter, const struct vector_meta *meta,
                              size_t n_words, uint64_t *yes, const uint64_t *open)
{
    for (size_t w = 0; w < n_words; w++)
        for (uint64_t left = open[w]; left; left &= left - 1) {
            const int32_t row = (int32_t)(w * 64) + __builtin_ctzll(left);
            int32_t passes;
            infer_status st = vector_filter_ask(filter, meta, row, &passes);
            if (st != INFER_OK)
                return st;
            yes[w] |= (uint64_t)passes << (row % 64);
        }
    return INFER_OK;
}

infer_status vector_filter_sets(const struct vector_filter *filter, const struct vector_meta *meta,
                                int32_t n_rows, uint64_t *yes, uint64_t *open, int32_t *any_open)
{
    struct run r = {.filter = filter, .meta = meta, .alloc = filter->alloc, .n_rows = n_rows};
    struct sets s = {.yes = yes, .open = open};
    if (n_rows < 0 || n_rows > vector_meta_size(meta))
        return base_error(INFER_ERR_INVALID, "a filter over %d rows of metadata; there are %d",
                          n_rows, vector_meta_size(meta));
    r.n_words = ((size_t)n_rows + 63) / 64;
    r.index = vector_meta_index_hold(meta);
    infer_status st = run_node(&r, filter->root, &s);
    vector_meta_index_drop(&r.index);
    *any_open = s.any_open;
    return st;
}

infer_status vector_filter_rows(const struct vector_filter *filter, const struct vector_meta *meta,
                                int32_t n_rows, uint64_t *bits, int32_t *n_set)
{
    const size_t n_words = ((size_t)BASE_MAX(n_rows, 0) + 63) / 64;
    int32_t any_open, n = 0;
    uint64_t *open = base_new_raw(&filter->alloc, n_words, sizeof *open);
    if (!open)
        return INFER_ERR_NO_MEMORY;
    infer_status st = vector_filter_sets(filter, meta, n_rows, bits, open, &any_open);
    if (st == INFER_OK && any_open)
        st = read_open(filter, meta, n_words, bits, open);
    base_free(&filter->alloc, open);
    for (size_t w = 0; w < n_words && st == INFER_OK; w++)
        n += __builtin_popcountll(bits[w]);
    if (st == INFER_OK)
        *n_set = n;
    return st;
}
