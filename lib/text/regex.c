/* PCRE2, compiled once and matched without heap or recursion. */
#include "text/regex.h"

#include "base/error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define HEAP_LIMIT_K (64 * 1024)
#define MAX_PATTERN  (64 * 1024) /* bytes; compiled forms are bounded by it */

struct text_regex {
    struct base_alloc alloc; /* PCRE2 keeps a pointer to it */
    pcre2_general_context *context;
    pcre2_match_context *limits;
    pcre2_code *code;
    int32_t jit; /* machine code was made */
};

static void *pcre_alloc(size_t size, void *user_data)
{
    return base_new_raw(user_data, size, 1);
}

static void pcre_free(void *ptr, void *user_data)
{
    base_free(user_data, ptr);
}

static infer_status compile(struct text_regex *re, struct base_view pattern)
{
    if (pattern.size > MAX_PATTERN)
        return base_error(INFER_ERR_LIMIT, "a pattern of %zu bytes, at most %d are supported",
                          pattern.size, MAX_PATTERN);
    pcre2_compile_context *context = pcre2_compile_context_create(re->context);
    if (!context)
        return INFER_ERR_NO_MEMORY; /* pcre_alloc set the sentence */
    int error;
    PCRE2_SIZE at;
    re->code = pcre2_compile((PCRE2_SPTR)pattern.data, pattern.size,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C,
                             &error, &at, context);
    pcre2_compile_context_free(context);
    if (!re->code) {
        if (error == PCRE2_ERROR_HEAP_FAILED)
            return INFER_ERR_NO_MEMORY;
        char why[120];
        if (pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why) < 0)
            why[0] = 0;
        return base_error(INFER_ERR_FORMAT, "pattern '%.*s' fails at offset %zu: %s",
                          (int)BASE_MIN(pattern.size, (size_t)120), pattern.data, (size_t)at, why);
    }
    re->jit = pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE) == 0;
    return INFER_OK;
}

infer_status text_regex_create(struct text_regex **out, const struct base_alloc *a,
                               struct base_view pattern, uint32_t steps)
{
    struct text_regex *re = base_new(a, 1, sizeof *re);
    if (!re)
        return INFER_ERR_NO_MEMORY;
    re->alloc = *a;
    infer_status st = INFER_ERR_NO_MEMORY;
    re->context = pcre2_general_context_create(pcre_alloc, pcre_free, &re->alloc);
    if (re->context)
        re->limits = pcre2_match_context_create(re->context);
    if (re->limits) {
        pcre2_set_match_limit(re->limits, steps);
        pcre2_set_heap_limit(re->limits, HEAP_LIMIT_K);
        st = compile(re, pattern);
    }
    if (st != INFER_OK) {
        text_regex_destroy(&re);
        return st;
    }
    *out = re;
    return INFER_OK;
}

void text_regex_destroy(struct text_regex **regex)
{
    struct text_regex *re = *regex;
    if (!re)
        return;
    pcre2_code_free(re->code);
    pcre2_match_context_free(re->limits);
    pcre2_general_context_free(re->context);
    struct base_alloc alloc = re->alloc;
    base_free(&alloc, re);
    *regex = NULL;
}

size_t text_regex_bytes(const struct text_regex *regex)
{
    size_t code = 0, jit = 0;
    pcre2_pattern_info(regex->code, PCRE2_INFO_SIZE, &code);
    pcre2_pattern_info(regex->code, PCRE2_INFO_JITSIZE, &jit);
    return sizeof *regex + code + jit;
}

infer_status text_matcher_init(struct text_matcher *m, const struct base_alloc *a)
{
    *m = (struct text_matcher){.alloc = *a};
    m->context = pcre2_general_context_create(pcre_alloc, pcre_free, &m->alloc);
    if (!m->context)
        return INFER_ERR_NO_MEMORY;
    m->match = pcre2_match_data_create(1, m->context);
    return m->match ? INFER_OK : INFER_ERR_NO_MEMORY;
}

void text_matcher_release(struct text_matcher *m)
{
    pcre2_match_data_free(m->match);
    pcre2_general_context_free(m->context);
    m->match = m->context = NULL;
}

infer_status text_regex_search(const struct text_regex *re, struct text_matcher *m,
                               const char *text, size_t size, size_t start, size_t *from,
                               size_t *to)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    /* The text was validated once; checking it again for each word would be quadratic. */
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (re->jit)
        rc = pcre2_jit_match(re->code, subject, size, start, 0, m->match, re->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* few patterns on few texts: the interpreter has more */
        rc = pcre2_match(re->code, subject, size, start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         m->match, re->limits);
    if (rc == PCRE2_ERROR_NOMEMORY)
        return base_error(INFER_ERR_NO_MEMORY, "out of memory in a pattern");
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return base_error(INFER_ERR_LIMIT, "a pattern gave up at byte %zu of the text: PCRE2 %d",
                          start, rc);
    *from = *to = size;
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(m->match);
    if (rc >= 0 && ovector[1] > ovector[0]) {
        *from = ovector[0];
        *to = ovector[1];
    }
    return INFER_OK;
}
