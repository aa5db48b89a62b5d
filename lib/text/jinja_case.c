/* Upper, lower and title case of texts, as Python maps them. */
#include "text/jinja_case_table.h"
#include "text/jinja_internal.h"
#include "text/unicode.h"

#include <utf8proc.h>

static void write_char(struct jinja_render *r, uint32_t cp)
{
    char utf8[TEXT_UTF8_MAX];
    jinja_write(r, utf8, text_utf8_put(cp, utf8));
}

static int write_special(struct jinja_render *r, uint32_t cp, int title)
{
    size_t low = 0, high = BASE_COUNT(special_cases);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (special_cases[mid].from < cp)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == BASE_COUNT(special_cases) || special_cases[low].from != cp)
        return 0;
    const uint16_t *to = title ? special_cases[low].title : special_cases[low].upper;
    for (int i = 0; i < 3 && to[i]; i++)
        write_char(r, to[i]);
    return 1;
}

static void write_upper(struct jinja_render *r, uint32_t cp, int title)
{
    if (cp >= 0x80 && write_special(r, cp, title))
        return;
    write_char(r, (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)cp)
                                   : utf8proc_toupper((utf8proc_int32_t)cp)));
}

enum jinja_cased jinja_char_case(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    if (c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT)
        return c == UTF8PROC_CATEGORY_LU   ? JINJA_IS_UPPER
               : c == UTF8PROC_CATEGORY_LL ? JINJA_IS_LOWER
                                           : JINJA_IS_TITLE;
    for (size_t i = 0; i < BASE_COUNT(other_lower) && cp >= other_lower[i].first; i++)
        if (cp <= other_lower[i].last)
            return JINJA_IS_LOWER;
    for (size_t i = 0; i < BASE_COUNT(other_upper) && cp >= other_upper[i].first; i++)
        if (cp <= other_upper[i].last)
            return JINJA_IS_UPPER;
    return JINJA_NO_CASE;
}

static int is_cased(uint32_t cp)
{
    return jinja_char_case(cp) != JINJA_NO_CASE;
}

static int is_case_ignorable(uint32_t cp)
{
    /* Punctuation inside of words (Word_Break MidLetter, MidNumLet, Single_Quote). */
    static const uint16_t inside[] = {'\'',   '.',    ':',    0xb7,   0x387,  0x55f,
                                      0x5f4,  0x2018, 0x2019, 0x2024, 0x2027, 0xfe13,
                                      0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    for (size_t i = 0; i < BASE_COUNT(inside); i++)
        if (cp == inside[i])
            return 1;
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK;
}

/* A sigma that ends a word has a form of its own. */
static int is_final_sigma(struct base_view before, struct base_view after)
{
    uint32_t cp = 0;
    size_t n;
    while ((n = jinja_text_previous(before, &cp)) && is_case_ignorable(cp))
        before.size -= n;
    if (!n || !is_cased(cp))
        return 0;
    while ((n = jinja_text_next(after, &cp)) && is_case_ignorable(cp)) {
        after.data += n;
        after.size -= n;
    }
    return !n || !is_cased(cp);
}

static void write_lower(struct jinja_render *r, struct base_view text, size_t at, size_t n,
                        uint32_t cp)
{
    struct base_view before = {text.data, at};
    struct base_view after = {text.data + at + n, text.size - at - n};
    if (cp == 0x130) { /* capital I with dot */
        write_char(r, 'i');
        write_char(r, 0x307);
    } else if (cp == 0x3a3) {
        write_char(r, is_final_sigma(before, after) ? 0x3c2 : 0x3c3);
    } else {
        write_char(r, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
    }
}

static void write_fold(struct jinja_render *r, uint32_t cp)
{
    utf8proc_int32_t folded[8];
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, folded, (utf8proc_ssize_t)BASE_COUNT(folded),
                                UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < (utf8proc_ssize_t)BASE_COUNT(folded); i++)
        write_char(r, (uint32_t)folded[i]);
}

/* One character of a text that is not plain ASCII or whose case depends on its place. */
static void write_cased(struct jinja_render *r, struct base_view text, size_t at, size_t n,
                        uint32_t cp, enum jinja_case to, int word_start)
{
    enum jinja_cased is = jinja_char_case(cp);
    switch (to) {
    case JINJA_UPPER:
        write_upper(r, cp, 0);
        break;
    case JINJA_TITLE:
    case JINJA_CAPITAL:
        if (word_start)
            write_upper(r, cp, 1);
        else
            write_lower(r, text, at, n, cp);
        break;
    case JINJA_SWAP:
        if (is == JINJA_IS_UPPER)
            write_lower(r, text, at, n, cp);
        else if (is == JINJA_IS_LOWER)
            write_upper(r, cp, 0);
        else
            write_char(r, cp);
        break;
    case JINJA_FOLD:
        write_fold(r, cp);
        break;
    default:
        write_lower(r, text, at, n, cp);
    }
}

static char ascii_case(char c, enum jinja_case to, int word_start)
{
    int lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z';
    int raise = to == JINJA_UPPER || (to == JINJA_SWAP && lower) ||
                ((to == JINJA_TITLE || to == JINJA_CAPITAL) && word_start);
    return (char)(raise ? c - (lower ? 'a' - 'A' : 0) : c + (upper ? 'a' - 'A' : 0));
}

/* The ASCII characters from `at` on; their number is returned. */
static size_t write_ascii(struct jinja_render *r, struct base_view text, size_t at,
                          enum jinja_case to, int *in_word)
{
    char block[512];
    size_t n = 0;
    while (n < sizeof block && at + n < text.size && !(text.data[at + n] & 0x80)) {
        char c = text.data[at + n];
        block[n] = ascii_case(c, to, to == JINJA_CAPITAL ? at + n == 0 : !*in_word);
        *in_word = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        n++;
    }
    jinja_write(r, block, n);
    return n;
}

void jinja_write_case(struct jinja_render *r, struct base_view text, enum jinja_case to)
{
    int in_word = 0;
    for (size_t at = 0; at < text.size && !jinja_failed(r);) {
        uint32_t cp;
        struct base_view rest = {text.data + at, text.size - at};
        size_t n = write_ascii(r, text, at, to, &in_word);
        if (n == 0) {
            n = jinja_text_next(rest, &cp);
            if (cp == TEXT_REPLACEMENT)
                jinja_write(r, rest.data, n);
            else
                write_cased(r, text, at, n, cp, to, to == JINJA_CAPITAL ? at == 0 : !in_word);
            in_word = is_cased(cp);
        }
        at += n;
    }
}
