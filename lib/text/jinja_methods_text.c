/* Methods of texts. */
#include "text/jinja_internal.h"

static struct jinja_value keep_safe(struct jinja_value v, struct jinja_value from)
{
    if (v.kind == JINJA_STRING)
        v.flag |= from.flag & JINJA_TEXT_SAFE;
    return v;
}

static struct jinja_value part(struct jinja_value self, size_t from, size_t size)
{
    return jinja_text((struct base_view){self.text.data + from, size}, self.flag & JINJA_TEXT_SAFE);
}

/* The text of a required argument, or a failure and 0. */
static int need_text(struct jinja_render *r, const struct jinja_call *c, int i)
{
    if (c->a[i].kind == JINJA_STRING)
        return 1;
    if (jinja_defined(r, c->a[i]))
        jinja_fail(r, INFER_ERR_INVALID, "%s: expected a text, not %s", c->function->name,
                   jinja_type_name(c->a[i].kind));
    return 0;
}

/* A whole number, or `fallback` where it is left out (or, as in Python, None). */
static int64_t number_or(struct jinja_render *r, const struct jinja_call *c, int i,
                         int64_t fallback)
{
    int64_t v = fallback;
    if (c->a[i].kind != JINJA_MISSING && c->a[i].kind != JINJA_NONE && !jinja_as_int(c->a[i], &v) &&
        jinja_defined(r, c->a[i]))
        jinja_fail(r, INFER_ERR_INVALID, "%s: expected a whole number, not %s", c->function->name,
                   jinja_type_name(c->a[i].kind));
    return v;
}

/* Searching from the end, or for one of many characters, compares again and again. */
static void charge_search(struct jinja_render *r, struct base_view text, struct base_view what)
{
    jinja_charge(r, text.size * (what.size / 16 + 1));
}

static struct jinja_value strip(struct jinja_render *r, const struct jinja_call *c, int sides)
{
    int plain = c->a[0].kind == JINJA_MISSING || c->a[0].kind == JINJA_NONE;
    if (!plain && !need_text(r, c, 0))
        return jinja_no_value();
    charge_search(r, c->self.text, plain ? (struct base_view){0} : c->a[0].text);
    return jinja_text(jinja_text_strip(c->self.text, plain ? NULL : &c->a[0].text, sides),
                      c->self.flag & JINJA_TEXT_SAFE);
}

static struct jinja_value text_strip(struct jinja_render *r, const struct jinja_call *c)
{
    return strip(r, c, JINJA_STRIP_BOTH);
}

static struct jinja_value text_lstrip(struct jinja_render *r, const struct jinja_call *c)
{
    return strip(r, c, JINJA_STRIP_LEFT);
}

static struct jinja_value text_rstrip(struct jinja_render *r, const struct jinja_call *c)
{
    return strip(r, c, JINJA_STRIP_RIGHT);
}

static struct jinja_value with_case(struct jinja_render *r, const struct jinja_call *c,
                                    enum jinja_case to)
{
    size_t begin = jinja_capture_begin(r);
    jinja_write_case(r, c->self.text, to);
    return keep_safe(jinja_capture_end(r, begin), c->self);
}

static struct jinja_value text_upper(struct jinja_render *r, const struct jinja_call *c)
{
    return with_case(r, c, JINJA_UPPER);
}

static struct jinja_value text_lower(struct jinja_render *r, const struct jinja_call *c)
{
    return with_case(r, c, JINJA_LOWER);
}

static struct jinja_value text_title(struct jinja_render *r, const struct jinja_call *c)
{
    return with_case(r, c, JINJA_TITLE);
}

static struct jinja_value text_capitalize(struct jinja_render *r, const struct jinja_call *c)
{
    return with_case(r, c, JINJA_CAPITAL);
}

static struct jinja_value text_swapcase(struct jinja_render *r, const struct jinja_call *c)
{
    return with_case(r, c, JINJA_SWAP);
}

static struct jinja_value text_casefold(struct jinja_render *r, const struct jinja_call *c)
{
    return with_case(r, c, JINJA_FOLD);
}

/* The piece [start, end) that arguments i and i + 1 name, in characters; 0 if
 * start lies behind the end. `offset` is where it begins, in characters. */
static int window(struct jinja_render *r, const struct jinja_call *c, int i, struct base_view *out,
                  int64_t *offset)
{
    jinja_charge(r, c->self.text.size);
    *out = c->self.text;
    *offset = 0;
    if (c->a[i].kind == JINJA_MISSING)
        return 1;
    int64_t size = (int64_t)jinja_text_length(c->self.text);
    int64_t start = number_or(r, c, i, 0), end = number_or(r, c, i + 1, size);
    start = start < 0 ? BASE_MAX(start + size, 0) : start;
    end = end < 0 ? BASE_MAX(end + size, 0) : BASE_MIN(end, size);
    if (jinja_failed(r) || start > size || start > end)
        return 0;
    size_t from = jinja_text_offset(c->self.text, (size_t)start);
    *out = (struct base_view){c->self.text.data + from, c->self.text.size - from};
    out->size = jinja_text_offset(*out, (size_t)(end - start));
    *offset = start;
    return 1;
}

static int affix(struct base_view text, struct base_view what, int at_end)
{
    return text.size >= what.size &&
           memcmp(text.data + (at_end ? text.size - what.size : 0), what.data, what.size) == 0;
}

static struct jinja_value has_affix(struct jinja_render *r, const struct jinja_call *c, int at_end)
{
    struct base_view text;
    int64_t offset;
    int inside = window(r, c, 1, &text, &offset);
    if (c->a[0].kind != JINJA_TUPLE)
        return need_text(r, c, 0) ? jinja_bool(inside && affix(text, c->a[0].text, at_end))
                                  : jinja_no_value();
    for (size_t i = 0; inside && i < c->a[0].list->size; i++) {
        struct jinja_value v = c->a[0].list->items[i];
        if (v.kind != JINJA_STRING)
            return jinja_fail(r, INFER_ERR_INVALID, "%s: expected texts, not %s", c->function->name,
                              jinja_type_name(v.kind));
        if (affix(text, v.text, at_end))
            return jinja_bool(1);
    }
    return jinja_bool(0);
}

static struct jinja_value text_startswith(struct jinja_render *r, const struct jinja_call *c)
{
    return has_affix(r, c, 0);
}

static struct jinja_value text_endswith(struct jinja_render *r, const struct jinja_call *c)
{
    return has_affix(r, c, 1);
}

static struct jinja_value find(struct jinja_render *r, const struct jinja_call *c, int last,
                               int must)
{
    struct base_view text;
    int64_t offset;
    if (!need_text(r, c, 0))
        return jinja_no_value();
    size_t at = SIZE_MAX;
    charge_search(r, c->self.text, c->a[0].text);
    if (!jinja_failed(r) && window(r, c, 1, &text, &offset))
        at = last ? jinja_text_find_last(text, c->a[0].text)
                  : jinja_text_find(text, c->a[0].text, 0);
    if (at == SIZE_MAX)
        return must ? jinja_fail(r, INFER_ERR_INVALID, "substring not found") : jinja_int(-1);
    return jinja_int(offset + (int64_t)jinja_text_length((struct base_view){text.data, at}));
}

static struct jinja_value text_find(struct jinja_render *r, const struct jinja_call *c)
{
    return find(r, c, 0, 0);
}

static struct jinja_value text_rfind(struct jinja_render *r, const struct jinja_call *c)
{
    return find(r, c, 1, 0);
}

static struct jinja_value text_index(struct jinja_render *r, const struct jinja_call *c)
{
    return find(r, c, 0, 1);
}

static struct jinja_value text_rindex(struct jinja_render *r, const struct jinja_call *c)
{
    return find(r, c, 1, 1);
}

static struct jinja_value text_count(struct jinja_render *r, const struct jinja_call *c)
{
    struct base_view text;
    int64_t offset, n = 0;
    if (!need_text(r, c, 0) || !window(r, c, 1, &text, &offset))
        return jinja_failed(r) ? jinja_no_value() : jinja_int(0);
    if (c->a[0].text.size == 0)
        return jinja_int((int64_t)jinja_text_length(text) + 1);
    for (size_t at = 0; (at = jinja_text_find(text, c->a[0].text, at)) != SIZE_MAX; n++)
        at += c->a[0].text.size;
    return jinja_int(n);
}

static struct jinja_value text_replace(struct jinja_render *r, const struct jinja_call *c)
{
    if (!need_text(r, c, 0) || !need_text(r, c, 1))
        return jinja_no_value();
    struct base_view text = c->self.text, old = c->a[0].text;
    int64_t left = number_or(r, c, 2, -1);
    struct jinja_value new_text =
        c->self.flag & JINJA_TEXT_SAFE ? jinja_escape(r, c->a[1]) : c->a[1];
    size_t begin = jinja_capture_begin(r), at = 0;
    jinja_charge(r, text.size);
    while (left != 0 && !jinja_failed(r)) {
        size_t found = jinja_text_find(text, old, at);
        if (found == SIZE_MAX)
            break;
        jinja_write(r, text.data + at, found - at);
        jinja_write(r, new_text.text.data, new_text.text.size);
        at = found + old.size;
        left--;
        if (old.size == 0) { /* between all characters */
            if (at == text.size)
                break;
            uint32_t cp;
            size_t n = jinja_text_next((struct base_view){text.data + at, text.size - at}, &cp);
            jinja_write(r, text.data + at, n);
            at += n;
        }
    }
    jinja_write(r, text.data + at, text.size - at);
    return keep_safe(jinja_capture_end(r, begin), c->self);
}

static struct jinja_value text_join(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_list items = jinja_walk(r, c->a[0]);
    int safe = c->self.flag & JINJA_TEXT_SAFE;
    size_t begin = jinja_capture_begin(r);
    for (size_t i = 0; i < items.size && !jinja_failed(r); i++) {
        struct jinja_value item = safe ? jinja_escape(r, items.items[i]) : items.items[i];
        if (item.kind != JINJA_STRING)
            return jinja_fail(r, INFER_ERR_INVALID,
                              "sequence item %zu: expected str instance, %s found", i,
                              jinja_type_name(item.kind));
        if (i)
            jinja_write(r, c->self.text.data, c->self.text.size);
        jinja_write(r, item.text.data, item.text.size);
    }
    return keep_safe(jinja_capture_end(r, begin), c->self);
}

/* split() and rsplit() without a separator: at runs of white space. */
static void split_space(struct jinja_render *r, const struct jinja_call *c, struct jinja_value out,
                        int64_t limit, int from_right)
{
    int side = from_right ? JINJA_STRIP_RIGHT : JINJA_STRIP_LEFT;
    struct base_view rest = jinja_text_strip(c->self.text, NULL, side);
    while (rest.size && !jinja_failed(r)) {
        size_t size = limit == 0 ? rest.size : 0; /* past the limit the rest is one piece */
        uint32_t cp;
        while (size < rest.size) {
            struct base_view left = {rest.data + (from_right ? 0 : size), rest.size - size};
            size_t n = from_right ? jinja_text_previous(left, &cp) : jinja_text_next(left, &cp);
            if (jinja_char_space(cp))
                break;
            size += n;
        }
        size_t at = (size_t)(rest.data - c->self.text.data) + (from_right ? rest.size - size : 0);
        jinja_list_push(&r->heap, out, part(c->self, at, size));
        jinja_charge(r, size);
        rest.data += from_right ? 0 : size;
        rest.size -= size;
        rest = jinja_text_strip(rest, NULL, side);
        limit--;
    }
}

static void split_at(struct jinja_render *r, const struct jinja_call *c, struct jinja_value out,
                     int64_t limit, int from_right)
{
    struct base_view rest = c->self.text, separator = c->a[0].text;
    while (limit-- != 0 && !jinja_failed(r)) {
        size_t found = from_right ? jinja_text_find_last(rest, separator)
                                  : jinja_text_find(rest, separator, 0);
        if (found == SIZE_MAX)
            break;
        size_t after = found + separator.size, base = (size_t)(rest.data - c->self.text.data);
        jinja_list_push(&r->heap, out,
                        from_right ? part(c->self, base + after, rest.size - after)
                                   : part(c->self, base, found));
        jinja_charge(r, 0);
        if (!from_right) {
            rest.data += after;
            rest.size -= after;
        } else {
            rest.size = found;
        }
    }
    jinja_list_push(&r->heap, out,
                    part(c->self, (size_t)(rest.data - c->self.text.data), rest.size));
}

static struct jinja_value split(struct jinja_render *r, const struct jinja_call *c, int from_right)
{
    struct jinja_value out = jinja_list(&r->heap);
    int64_t limit = number_or(r, c, 1, -1);
    int at_space = c->a[0].kind == JINJA_MISSING || c->a[0].kind == JINJA_NONE;
    if (!at_space && !need_text(r, c, 0))
        return jinja_no_value();
    charge_search(r, c->self.text, at_space ? (struct base_view){0} : c->a[0].text);
    if (jinja_failed(r))
        return jinja_no_value();
    if (at_space)
        split_space(r, c, out, limit, from_right);
    else if (c->a[0].text.size == 0)
        return jinja_fail(r, INFER_ERR_INVALID, "empty separator");
    else
        split_at(r, c, out, limit, from_right);
    for (size_t i = 0; from_right && !jinja_failed(r) && i < out.list->size / 2; i++) {
        struct jinja_value swap = out.list->items[i];
        out.list->items[i] = out.list->items[out.list->size - 1 - i];
        out.list->items[out.list->size - 1 - i] = swap;
    }
    return out;
}

static struct jinja_value text_split(struct jinja_render *r, const struct jinja_call *c)
{
    return split(r, c, 0);
}

static struct jinja_value text_rsplit(struct jinja_render *r, const struct jinja_call *c)
{
    return split(r, c, 1);
}

static struct jinja_value text_splitlines(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value out = jinja_list(&r->heap);
    struct base_view rest = c->self.text;
    jinja_charge(r, rest.size);
    while (rest.size && !jinja_failed(r)) {
        struct base_view line = jinja_next_line(&rest, jinja_truth(c->a[0]));
        jinja_list_push(&r->heap, out, jinja_text(line, c->self.flag & JINJA_TEXT_SAFE));
        jinja_charge(r, 0);
    }
    return out;
}

static struct jinja_value partition(struct jinja_render *r, const struct jinja_call *c, int last)
{
    if (!need_text(r, c, 0))
        return jinja_no_value();
    if (c->a[0].text.size == 0)
        return jinja_fail(r, INFER_ERR_INVALID, "empty separator");
    size_t size = c->self.text.size, n = c->a[0].text.size;
    charge_search(r, c->self.text, c->a[0].text);
    if (jinja_failed(r))
        return jinja_no_value();
    size_t at = last ? jinja_text_find_last(c->self.text, c->a[0].text)
                     : jinja_text_find(c->self.text, c->a[0].text, 0);
    size_t cut[4] = {0, at, at + n, size};
    if (at == SIZE_MAX) {
        cut[1] = cut[2] = last ? 0 : size;
    }
    struct jinja_value out = jinja_list_of(r, JINJA_TUPLE, 3);
    for (size_t i = 0; i < 3 && !jinja_failed(r); i++)
        out.list->items[out.list->size++] = part(c->self, cut[i], cut[i + 1] - cut[i]);
    return out;
}

static struct jinja_value text_partition(struct jinja_render *r, const struct jinja_call *c)
{
    return partition(r, c, 0);
}

static struct jinja_value text_rpartition(struct jinja_render *r, const struct jinja_call *c)
{
    return partition(r, c, 1);
}

static struct jinja_value text_removeprefix(struct jinja_render *r, const struct jinja_call *c)
{
    if (!need_text(r, c, 0))
        return jinja_no_value();
    size_t n = affix(c->self.text, c->a[0].text, 0) ? c->a[0].text.size : 0;
    return part(c->self, n, c->self.text.size - n);
}

static struct jinja_value text_removesuffix(struct jinja_render *r, const struct jinja_call *c)
{
    if (!need_text(r, c, 0))
        return jinja_no_value();
    size_t n = affix(c->self.text, c->a[0].text, 1) ? c->a[0].text.size : 0;
    return part(c->self, 0, c->self.text.size - n);
}

/* `share`: how much of the room goes to the left, 0 none, 1 all, 2 half. */
static struct jinja_value justify(struct jinja_render *r, const struct jinja_call *c, int share)
{
    struct base_view fill = {" ", 1};
    int64_t width = number_or(r, c, 0, 0), size = jinja_length(r, c->self);
    if (c->a[1].kind != JINJA_MISSING) {
        if (!need_text(r, c, 1))
            return jinja_no_value();
        fill = c->a[1].text;
        if (jinja_text_length(fill) != 1)
            return jinja_fail(r, INFER_ERR_INVALID,
                              "the fill character must be exactly one character long");
    }
    if (jinja_failed(r) || width <= size)
        return c->self;
    int64_t room = width - size;
    int64_t left = share == 0 ? 0 : share == 1 ? room : room / 2 + (room & width & 1);
    size_t begin = jinja_capture_begin(r);
    jinja_write_fill(r, fill.data, fill.size, left);
    jinja_write(r, c->self.text.data, c->self.text.size);
    jinja_write_fill(r, fill.data, fill.size, room - left);
    return keep_safe(jinja_capture_end(r, begin), c->self);
}

static struct jinja_value text_ljust(struct jinja_render *r, const struct jinja_call *c)
{
    return justify(r, c, 0);
}

static struct jinja_value text_rjust(struct jinja_render *r, const struct jinja_call *c)
{
    return justify(r, c, 1);
}

static struct jinja_value text_center(struct jinja_render *r, const struct jinja_call *c)
{
    return justify(r, c, 2);
}

static struct jinja_value text_zfill(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t width = number_or(r, c, 0, 0), size = jinja_length(r, c->self);
    size_t sign = c->self.text.size && (c->self.text.data[0] == '-' || c->self.text.data[0] == '+');
    size_t begin = jinja_capture_begin(r);
    jinja_write(r, c->self.text.data, sign);
    jinja_write_fill(r, "0", 1, width - size);
    jinja_write(r, c->self.text.data + sign, c->self.text.size - sign);
    return keep_safe(jinja_capture_end(r, begin), c->self);
}

static struct jinja_value text_format(struct jinja_render *r, const struct jinja_call *c)
{
    return jinja_format_braces(r, c->self, c->args);
}

static const struct jinja_callable methods[] = {
    {"strip", text_strip, "/chars?"},
    {"lstrip", text_lstrip, "/chars?"},
    {"rstrip", text_rstrip, "/chars?"},
    {"split", text_split, "sep? maxsplit?"},
    {"startswith", text_startswith, "/prefix start? end?"},
    {"endswith", text_endswith, "/suffix start? end?"},
    {"replace", text_replace, "/old new count?"},
    {"upper", text_upper, ""},
    {"lower", text_lower, ""},
    {"title", text_title, ""},
    {"capitalize", text_capitalize, ""},
    {"swapcase", text_swapcase, ""},
    {"casefold", text_casefold, ""},
    {"format", text_format, "*"},
    {"join", text_join, "/iterable"},
    {"find", text_find, "/sub start? end?"},
    {"rfind", text_rfind, "/sub start? end?"},
    {"index", text_index, "/sub start? end?"},
    {"rindex", text_rindex, "/sub start? end?"},
    {"count", text_count, "/sub start? end?"},
    {"rsplit", text_rsplit, "sep? maxsplit?"},
    {"splitlines", text_splitlines, "keepends?"},
    {"partition", text_partition, "/sep"},
    {"rpartition", text_rpartition, "/sep"},
    {"removeprefix", text_removeprefix, "/prefix"},
    {"removesuffix", text_removesuffix, "/suffix"},
    {"ljust", text_ljust, "/width fillchar?"},
    {"rjust", text_rjust, "/width fillchar?"},
    {"center", text_center, "/width fillchar?"},
    {"zfill", text_zfill, "/width"},
    {"encode", NULL, "*"},
    {"expandtabs", NULL, "*"},
    {"format_map", NULL, "*"},
    {"maketrans", NULL, "*"},
    {"translate", NULL, "*"},
};

const struct jinja_callable *jinja_find_text_method(struct base_view name)
{
    return jinja_find_in(methods, BASE_COUNT(methods), name);
}
