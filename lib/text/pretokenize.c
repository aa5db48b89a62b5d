/* Pre-tokenizers: rows of the table or patterns of a file, and the walk over a text. */
#include "text/pretokenize.h"

#include "base/error.h"
#include "base/str.h"
#include "text/pretokenize_table.h"

#include <string.h>

struct text_pretokenizer {
    struct base_alloc alloc;
    struct text_regex *patterns[TEXT_PRE_MAX_PATTERNS];
    int32_t uses[TEXT_PRE_MAX_PATTERNS];
    int32_t n;
};

static int holds_name(const char *names, struct base_view name)
{
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, " ");
        if (n == name.size && memcmp(p, name.data, n) == 0)
            return 1;
        p += n;
        p += *p == ' ';
    }
    return 0;
}

static const struct pretokenizer_row *find_row(struct base_view name)
{
    if (name.size == 0)
        name = (struct base_view){"default", strlen("default")};
    for (size_t i = 0; i < BASE_COUNT(pretokenizers); i++)
        if (holds_name(pretokenizers[i].names, name))
            return &pretokenizers[i];
    base_error(INFER_ERR_UNSUPPORTED, "pre-tokenizer '%.*s' is not known to this version",
               (int)BASE_MIN(name.size, (size_t)64), name.data);
    return NULL;
}

infer_status text_pretokenizer_flags(struct base_view name, uint32_t *flags)
{
    const struct pretokenizer_row *row = find_row(name);
    if (!row)
        return INFER_ERR_UNSUPPORTED;
    *flags = row->flags;
    return INFER_OK;
}

static infer_status add_pattern(struct text_pretokenizer *pre, struct base_view pattern,
                                uint32_t steps, int32_t use)
{
    infer_status st = text_regex_create(&pre->patterns[pre->n], &pre->alloc, pattern, steps);
    if (st == INFER_OK)
        pre->uses[pre->n++] = use;
    return st;
}

infer_status text_pretokenizer_create(struct text_pretokenizer **out, const struct base_alloc *a,
                                      struct base_view name)
{
    const struct pretokenizer_row *row = find_row(name);
    if (!row)
        return INFER_ERR_UNSUPPORTED;
    struct text_pretokenizer *pre = base_new(a, 1, sizeof *pre);
    if (!pre)
        return INFER_ERR_NO_MEMORY;
    pre->alloc = *a;
    infer_status st = INFER_OK;
    for (int i = 0; i < TEXT_PRE_MAX_PATTERNS && row->patterns[i] && st == INFER_OK; i++)
        st = add_pattern(pre, (struct base_view){row->patterns[i], strlen(row->patterns[i])},
                         TEXT_REGEX_TRUSTED, TEXT_PRE_SPLIT);
    if (st != INFER_OK)
        text_pretokenizer_destroy(&pre);
    *out = pre;
    return st;
}

infer_status text_pretokenizer_compile(struct text_pretokenizer **out, const struct base_alloc *a,
                                       const struct base_view *patterns, const int32_t *uses,
                                       size_t n)
{
    *out = NULL;
    if (n > TEXT_PRE_MAX_PATTERNS)
        return base_error(INFER_ERR_LIMIT,
                          "a pre-tokenizer of %zu patterns, at most %d are "
                          "supported",
                          n, TEXT_PRE_MAX_PATTERNS);
    struct text_pretokenizer *pre = base_new(a, 1, sizeof *pre);
    if (!pre)
        return INFER_ERR_NO_MEMORY;
    pre->alloc = *a;
    infer_status st = INFER_OK;
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        int32_t use = uses ? uses[i] : TEXT_PRE_SPLIT;
        if (use < TEXT_PRE_SPLIT || use > TEXT_PRE_DROP)
            st = base_error(INFER_ERR_FORMAT,
                            "pre-tokenizer pattern %zu has use %d, expected %d "
                            "to %d",
                            i, (int)use, TEXT_PRE_SPLIT, TEXT_PRE_DROP);
        else
            st = add_pattern(pre, patterns[i], TEXT_REGEX_FOREIGN, use);
    }
    if (st != INFER_OK)
        text_pretokenizer_destroy(&pre);
    *out = pre;
    return st;
}

struct base_view text_pretokenizer_spelling(struct base_view pattern)
{
    for (size_t i = 0; i < BASE_COUNT(pretokenizer_spellings); i++)
        if (base_view_equal(pattern, pretokenizer_spellings[i].other))
            return (struct base_view){pretokenizer_spellings[i].ours,
                                      strlen(pretokenizer_spellings[i].ours)};
    return pattern;
}

const char *text_pretokenizer_name(const struct base_view *patterns, size_t n, uint32_t flags,
                                   uint32_t *found_flags)
{
    const char *best = NULL;
    for (size_t i = 0; i < BASE_COUNT(pretokenizers); i++) {
        const struct pretokenizer_row *row = &pretokenizers[i];
        size_t k = 0;
        while (k < n && k < TEXT_PRE_MAX_PATTERNS && row->patterns[k] &&
               base_view_equal(patterns[k], row->patterns[k]))
            k++;
        if (k < n || (k < TEXT_PRE_MAX_PATTERNS && row->patterns[k]))
            continue;
        int fits = !((row->flags ^ flags) & TEXT_PRE_IGNORE_MERGES);
        if (best && !fits)
            continue;
        best = row->names;
        *found_flags = row->flags;
        if (fits)
            break;
    }
    return best;
}

void text_pretokenizer_destroy(struct text_pretokenizer **pre)
{
    struct text_pretokenizer *p = *pre;
    if (!p)
        return;
    for (int i = 0; i < p->n; i++)
        text_regex_destroy(&p->patterns[i]);
    struct base_alloc alloc = p->alloc;
    base_free(&alloc, p);
    *pre = NULL;
}

size_t text_pretokenizer_bytes(const struct text_pretokenizer *pre)
{
    size_t total = sizeof *pre;
    for (int i = 0; i < pre->n; i++)
        total += text_regex_bytes(pre->patterns[i]);
    return total;
}

infer_status text_splitter_init(struct text_splitter *s, const struct text_pretokenizer *pre,
                                const struct base_alloc *a)
{
    *s = (struct text_splitter){.pre = pre, .depth = -1};
    return text_matcher_init(&s->matcher, a);
}

void text_splitter_release(struct text_splitter *s)
{
    text_matcher_release(&s->matcher);
}

void text_splitter_begin(struct text_splitter *s, const char *text, size_t size)
{
    s->text = text;
    s->depth = 0;
    s->levels[0] = (struct text_splitter_level){.to = size};
}

/* Finds the next match of pattern `k`; where there is none, the match is empty and at the end. */
static infer_status search(struct text_splitter *s, int k, struct text_splitter_level *l)
{
    size_t from, to;
    infer_status st = text_regex_search(s->pre->patterns[k], &s->matcher, s->text + l->from,
                                        l->to - l->from, l->next - l->from, &from, &to);
    if (st != INFER_OK)
        return base_error_prefix(st, "pre-tokenizer pattern %d", k);
    l->match_from = l->from + from;
    l->match_to = l->from + to;
    return INFER_OK;
}

infer_status text_splitter_next(struct text_splitter *s, struct base_view *piece)
{
    if (s->pre->n == 0) { /* no pattern: the text is one piece */
        *piece = (struct base_view){s->text, s->levels[0].to};
        infer_status st = s->depth < 0 || piece->size == 0 ? INFER_DONE : INFER_OK;
        s->depth = -1;
        return st;
    }
    while (s->depth >= 0) {
        struct text_splitter_level *l = &s->levels[s->depth];
        if (l->next == l->to) {
            s->depth--;
            continue;
        }
        if (l->match_to <= l->next) {
            infer_status st = search(s, s->depth, l);
            if (st != INFER_OK)
                return st;
        }
        /* First the gap before the match, then the match itself. */
        size_t from = l->next;
        int is_gap = from < l->match_from;
        l->next = is_gap ? l->match_from : l->match_to;
        if (s->pre->uses[s->depth] == (is_gap ? TEXT_PRE_KEEP : TEXT_PRE_DROP))
            continue;
        if (s->depth + 1 < s->pre->n) {
            s->levels[++s->depth] =
                (struct text_splitter_level){.from = from, .to = l->next, .next = from};
            continue;
        }
        *piece = (struct base_view){s->text + from, l->next - from};
        return INFER_OK;
    }
    return INFER_DONE;
}
