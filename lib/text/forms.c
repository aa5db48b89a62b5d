/* Normalisation forms: stretches that cannot change are copied, the rest goes through
 * utf8proc in short segments. */
#include "text/forms.h"

#include "base/error.h"
#include "text/unicode.h"

#include <utf8proc.h>

#define SEGMENT_BYTES ((size_t)256)

/* Characters that are their own NFC and combine with nothing before them. */
static int is_stable_nfc(uint32_t cp)
{
    return cp < 0x300 || (cp >= 0x400 && cp <= 0x482) || (cp >= 0x2010 && cp <= 0x2027) ||
           (cp >= 0x3001 && cp <= 0x3029) || (cp >= 0x3041 && cp <= 0x3096) ||
           (cp >= 0x30A0 && cp <= 0x30FF) || (cp >= 0x4E00 && cp <= 0x9FFF) ||
           (cp >= 0xAC00 && cp <= 0xD7A3);
}

/* Whether a segment may end before this character: it combines with nothing before it. */
static int begins_segment(uint32_t cp)
{
    if (cp < 0x300)
        return 1;
    if (cp >= 0x1160 && cp <= 0x11FF) /* vowels and finals of Hangul */
        return 0;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c != UTF8PROC_CATEGORY_MN && c != UTF8PROC_CATEGORY_MC && c != UTF8PROC_CATEGORY_ME;
}

static int is_stable(enum text_form form, uint32_t cp)
{
    return form == TEXT_NFC ? is_stable_nfc(cp) : cp < 0x80;
}

size_t text_form_stable(enum text_form form, const char *text, size_t size)
{
    size_t i = 0, before = 0;
    while (i < size) {
        uint32_t cp;
        if ((uint8_t)text[i] < 0x80) {
            before = i++;
            continue;
        }
        int n = text_utf8_next(text + i, size - i, &cp);
        if (n <= 0) { /* no character: nothing combines with it */
            i += n < 0 ? (size_t)-n : 1;
            before = i;
            continue;
        }
        if (!is_stable(form, cp))
            return before; /* the character before may combine with this one */
        before = i;
        i += (size_t)n;
    }
    return size;
}

/* A segment from its first character on: ends before a stable character or, in long ones,
 * wherever it may. `*valid` is 0 where no character stands at the front. */
static size_t segment_length(enum text_form form, const char *text, size_t size, int *valid)
{
    size_t i = 0;
    *valid = 1;
    while (i < size) {
        uint32_t cp;
        int n = text_utf8_next(text + i, size - i, &cp);
        if (n <= 0) {
            *valid = i > 0;
            return i ? i : n < 0 ? (size_t)-n : size;
        }
        if (i > 0 && (is_stable(form, cp) || (i >= SEGMENT_BYTES && begins_segment(cp)) ||
                      i >= 4 * SEGMENT_BYTES))
            break;
        i += (size_t)n;
    }
    return i;
}

static infer_status convert(enum text_form form, const char *text, size_t size,
                            text_code_points *work, struct base_str *out)
{
    static const utf8proc_option_t options[] = {
        [TEXT_NFC] = UTF8PROC_COMPOSE,
        [TEXT_NFD] = UTF8PROC_DECOMPOSE,
        [TEXT_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [TEXT_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    const utf8proc_option_t o = options[form] | UTF8PROC_STABLE;
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t n = utf8proc_decompose(bytes, (utf8proc_ssize_t)size, NULL, 0, o);
    work->size = 0;
    if (n >= 0 && base_array_reserve(out->alloc, work, (size_t)n) != INFER_OK)
        return INFER_ERR_NO_MEMORY;
    if (n >= 0)
        n = utf8proc_decompose(bytes, (utf8proc_ssize_t)size, work->data, n, o);
    if (n >= 0)
        n = utf8proc_normalize_utf32(work->data, n, o);
    if (n < 0)
        return base_error(INFER_ERR_INTERNAL, "normalising a text: utf8proc %d", (int)n);
    infer_status st = INFER_OK;
    for (utf8proc_ssize_t i = 0; i < n && st == INFER_OK; i++) {
        char utf8[TEXT_UTF8_MAX];
        st = base_str_append(out, utf8, text_utf8_put((uint32_t)work->data[i], utf8));
    }
    return st;
}

infer_status text_form_append(enum text_form form, const char *text, size_t size,
                              text_code_points *work, struct base_str *out)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < size && st == INFER_OK;) {
        size_t n = text_form_stable(form, text + i, size - i);
        st = base_str_append(out, text + i, n);
        i += n;
        if (i == size || st != INFER_OK)
            break;
        int valid;
        n = segment_length(form, text + i, size - i, &valid);
        st = valid ? convert(form, text + i, n, work, out) : base_str_append(out, text + i, n);
        i += n;
    }
    return st;
}
