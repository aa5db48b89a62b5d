/* Pre-tokenizers on PCRE2, compiled once and matched without heap or recursion. */
#include "text/pretokenize.h"

#include "base/error.h"
#include "text/pretokenize_table.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* The patterns match in steps proportional to the text; these bounds turn a
 * mistake in the table into an error instead of a hang. */
#define MATCH_LIMIT  UINT32_C(1000000000)
#define HEAP_LIMIT_K (64 * 1024)

struct text_pretokenizer {
    struct base_alloc alloc; /* PCRE2 keeps a pointer to it */
    pcre2_general_context *context;
    pcre2_match_context *limits;
    pcre2_code *codes[TEXT_PRE_MAX_PATTERNS];
    int32_t jit[TEXT_PRE_MAX_PATTERNS]; /* machine code was made */
    int32_t n;
};

static void *pcre_alloc(size_t size, void *user_data)
{
    return base_new_raw(user_data, size, 1);
}

static void pcre_free(void *ptr, void *user_data)
{
    base_free(user_data, ptr);
}

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

static infer_status compile(struct text_pretokenizer *pre, const char *pattern)
{
    pcre2_compile_context *context = pcre2_compile_context_create(pre->context);
    if (!context)
        return INFER_ERR_NO_MEMORY; /* pcre_alloc set the sentence */
    int error;
    PCRE2_SIZE at;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &at, context);
    pcre2_compile_context_free(context);
    if (!code) {
        if (error == PCRE2_ERROR_HEAP_FAILED)
            return INFER_ERR_NO_MEMORY;
        return base_error(INFER_ERR_INTERNAL, "pre-tokenizer pattern fails at offset %zu: PCRE2 %d",
                          (size_t)at, error);
    }
    pre->jit[pre->n] = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
    pre->codes[pre->n++] = code;
    return INFER_OK;
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
    infer_status st = INFER_ERR_NO_MEMORY;
    pre->context = pcre2_general_context_create(pcre_alloc, pcre_free, &pre->alloc);
    if (!pre->context)
        goto fail;
    pre->limits = pcre2_match_context_create(pre->context);
    if (!pre->limits)
        goto fail;
    pcre2_set_match_limit(pre->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(pre->limits, HEAP_LIMIT_K);
    st = INFER_OK;
    for (int i = 0; i < TEXT_PRE_MAX_PATTERNS && row->patterns[i] && st == INFER_OK; i++)
        st = compile(pre, row->patterns[i]);
    if (st != INFER_OK)
        goto fail;
    *out = pre;
    return INFER_OK;
fail:
    text_pretokenizer_destroy(&pre);
    return st;
}

void text_pretokenizer_destroy(struct text_pretokenizer **pre)
{
    struct text_pretokenizer *p = *pre;
    if (!p)
        return;
    for (int i = 0; i < p->n; i++)
        pcre2_code_free(p->codes[i]);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->context);
    struct base_alloc alloc = p->alloc;
    base_free(&alloc, p);
    *pre = NULL;
}

size_t text_pretokenizer_bytes(const struct text_pretokenizer *pre)
{
    size_t total = sizeof *pre;
    for (int i = 0; i < pre->n; i++) {
        size_t code = 0, jit = 0;
        pcre2_pattern_info(pre->codes[i], PCRE2_INFO_SIZE, &code);
        pcre2_pattern_info(pre->codes[i], PCRE2_INFO_JITSIZE, &jit);
        total += code + jit;
    }
    return total;
}

infer_status text_splitter_init(struct text_splitter *s, const struct text_pretokenizer *pre,
                                const struct base_alloc *a)
{
    *s = (struct text_splitter){.pre = pre, .alloc = *a, .depth = -1};
    s->context = pcre2_general_context_create(pcre_alloc, pcre_free, &s->alloc);
    if (!s->context)
        return INFER_ERR_NO_MEMORY;
    s->match = pcre2_match_data_create(1, s->context);
    return s->match ? INFER_OK : INFER_ERR_NO_MEMORY;
}

void text_splitter_release(struct text_splitter *s)
{
    pcre2_match_data_free(s->match);
    pcre2_general_context_free(s->context);
    s->match = s->context = NULL;
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
    PCRE2_SPTR subject = (PCRE2_SPTR)s->text + l->from;
    size_t size = l->to - l->from, start = l->next - l->from;
    const pcre2_code *code = s->pre->codes[k];
    /* The text was validated once; checking it again for each word would be quadratic. */
    int rc =
        s->pre->jit[k]
            ? pcre2_jit_match(code, subject, size, start, 0, s->match, s->pre->limits)
            : pcre2_match(code, subject, size, start, PCRE2_NO_UTF_CHECK, s->match, s->pre->limits);
    if (rc == PCRE2_ERROR_NOMEMORY)
        return base_error(INFER_ERR_NO_MEMORY, "out of memory in pre-tokenizer pattern %d", k);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return base_error(INFER_ERR_LIMIT,
                          "pre-tokenizer pattern %d gave up at byte %zu of the text: PCRE2 %d", k,
                          l->next, rc);
    l->match_from = l->match_to = l->to;
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(s->match);
    if (rc >= 0 && ovector[1] > ovector[0]) {
        l->match_from = l->from + ovector[0];
        l->match_to = l->from + ovector[1];
    }
    return INFER_OK;
}

infer_status text_splitter_next(struct text_splitter *s, struct base_view *piece)
{
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
        l->next = from < l->match_from ? l->match_from : l->match_to;
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
