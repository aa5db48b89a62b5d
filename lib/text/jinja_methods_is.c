/* Methods of texts that ask what kind of characters they are made of. */
#include "text/jinja_internal.h"

#include <utf8proc.h>

enum character {
    LETTER = 1,
    DECIMAL = 2,
    NUMERIC = 4,
    SPACE = 8,
    LOWER = 16,
    UPPER = 32,
    PRINTABLE = 64,
    ASCII = 128,
    TITLE = 256
};

/* By category alone: Python also counts ideographs that mean numbers as NUMERIC. */
static unsigned describe(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    unsigned is = 0;
    if (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO)
        is |= LETTER;
    if (c == UTF8PROC_CATEGORY_ND)
        is |= DECIMAL | NUMERIC;
    if (c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO)
        is |= NUMERIC;
    enum jinja_cased cased = jinja_char_case(cp);
    is |= cased == JINJA_IS_LOWER ? LOWER : cased == JINJA_IS_UPPER ? UPPER : 0u;
    is |= cased == JINJA_IS_TITLE ? TITLE : 0u;
    if (jinja_char_space(cp))
        is |= SPACE;
    if (jinja_char_printable(cp))
        is |= PRINTABLE;
    if (cp < 0x80)
        is |= ASCII;
    return is;
}

/* Whether each character is one of `any`, and what an empty text is. */
static struct jinja_value all(struct jinja_render *r, const struct jinja_call *c, unsigned any,
                              int empty)
{
    struct base_view rest = c->self.text;
    jinja_charge(r, rest.size);
    if (rest.size == 0)
        return jinja_bool(empty);
    while (rest.size) {
        uint32_t cp;
        size_t n = jinja_text_next(rest, &cp);
        if (!(describe(cp) & any))
            return jinja_bool(0);
        rest.data += n;
        rest.size -= n;
    }
    return jinja_bool(1);
}

/* Some character is `wanted` and none is one of `never`. */
static struct jinja_value cased(struct jinja_render *r, const struct jinja_call *c, unsigned wanted,
                                unsigned never)
{
    struct base_view rest = c->self.text;
    int found = 0;
    jinja_charge(r, rest.size);
    while (rest.size) {
        uint32_t cp;
        size_t n = jinja_text_next(rest, &cp);
        unsigned is = describe(cp);
        if (is & never)
            return jinja_bool(0);
        found |= (is & wanted) != 0;
        rest.data += n;
        rest.size -= n;
    }
    return jinja_bool(found);
}

static struct jinja_value text_isalpha(struct jinja_render *r, const struct jinja_call *c)
{
    return all(r, c, LETTER, 0);
}

static struct jinja_value text_isalnum(struct jinja_render *r, const struct jinja_call *c)
{
    return all(r, c, LETTER | NUMERIC, 0);
}

static struct jinja_value text_isdecimal(struct jinja_render *r, const struct jinja_call *c)
{
    return all(r, c, DECIMAL, 0);
}

static struct jinja_value text_isnumeric(struct jinja_render *r, const struct jinja_call *c)
{
    return all(r, c, NUMERIC, 0);
}

static struct jinja_value text_isspace(struct jinja_render *r, const struct jinja_call *c)
{
    return all(r, c, SPACE, 0);
}

static struct jinja_value text_isprintable(struct jinja_render *r, const struct jinja_call *c)
{
    return all(r, c, PRINTABLE, 1);
}

static struct jinja_value text_isascii(struct jinja_render *r, const struct jinja_call *c)
{
    return all(r, c, ASCII, 1);
}

static struct jinja_value text_islower(struct jinja_render *r, const struct jinja_call *c)
{
    return cased(r, c, LOWER, UPPER | TITLE);
}

static struct jinja_value text_isupper(struct jinja_render *r, const struct jinja_call *c)
{
    return cased(r, c, UPPER, LOWER | TITLE);
}

static const struct jinja_callable methods[] = {
    {"isalpha", text_isalpha, ""},
    {"isalnum", text_isalnum, ""},
    {"isdecimal", text_isdecimal, ""},
    {"isdigit", text_isdecimal, ""},
    {"isnumeric", text_isnumeric, ""},
    {"isspace", text_isspace, ""},
    {"isprintable", text_isprintable, ""},
    {"isascii", text_isascii, ""},
    {"islower", text_islower, ""},
    {"isupper", text_isupper, ""},
    {"istitle", NULL, "*"},
    {"isidentifier", NULL, "*"},
};

const struct jinja_callable *jinja_find_text_test(struct base_view name)
{
    return jinja_find_in(methods, BASE_COUNT(methods), name);
}
