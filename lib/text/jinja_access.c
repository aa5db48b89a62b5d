/* Reaching into values: members, items, slices, walking, lengths. */
#include "text/jinja_internal.h"

int64_t jinja_range_size(const struct jinja_range *range)
{
    int64_t low = range->step > 0 ? range->start : range->stop;
    int64_t high = range->step > 0 ? range->stop : range->start;
    uint64_t step = range->step > 0 ? (uint64_t)range->step : 0 - (uint64_t)range->step;
    if (high <= low)
        return 0;
    uint64_t n = ((uint64_t)high - (uint64_t)low - 1) / step + 1;
    return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

int jinja_iterable(struct jinja_value v)
{
    return v.kind == JINJA_UNDEFINED || (v.kind >= JINJA_STRING && v.kind <= JINJA_RANGE) ||
           v.kind == JINJA_LOOP;
}

int64_t jinja_length(struct jinja_render *r, struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_UNDEFINED:
        return 0;
    case JINJA_STRING:
        jinja_charge(r, v.text.size);
        return (int64_t)jinja_text_length(v.text);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        return (int64_t)v.list->size;
    case JINJA_DICT:
        return (int64_t)v.dict->size;
    case JINJA_RANGE:
        return jinja_range_size(v.range);
    case JINJA_LOOP:
        return (int64_t)v.loop->items.size;
    default:
        return -1;
    }
}

static struct jinja_list walk_text(struct jinja_render *r, struct base_view text)
{
    struct jinja_list out = {0};
    jinja_charge(r, text.size);
    size_t n = jinja_text_length(text);
    out.items = jinja_new(r, n, sizeof *out.items);
    while (text.size && out.items) {
        uint32_t cp;
        size_t bytes = jinja_text_next(text, &cp);
        out.items[out.size++] = jinja_string(text.data, bytes);
        text.data += bytes;
        text.size -= bytes;
    }
    return out;
}

static struct jinja_list walk_dict(struct jinja_render *r, const struct jinja_dict *d)
{
    struct jinja_list out = {.items = jinja_new(r, d->size, sizeof *out.items)};
    jinja_charge(r, d->size);
    for (; out.items && out.size < d->size; out.size++)
        out.items[out.size] = d->entries[out.size].key;
    return out;
}

static struct jinja_list walk_range(struct jinja_render *r, const struct jinja_range *range)
{
    size_t n = (size_t)jinja_range_size(range);
    struct jinja_list out = {.items = jinja_new(r, n, sizeof *out.items)};
    jinja_charge(r, n);
    for (; out.items && out.size < n; out.size++)
        out.items[out.size] = jinja_int(range->start + (int64_t)out.size * range->step);
    return out;
}

struct jinja_list jinja_walk(struct jinja_render *r, struct jinja_value v)
{
    struct jinja_list out = {0};
    if (jinja_failed(r))
        return out;
    switch (v.kind) {
    case JINJA_UNDEFINED:
        break;
    case JINJA_STRING:
        out = walk_text(r, v.text);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        out = *v.list;
        jinja_charge(r, out.size);
        break;
    case JINJA_ITERATOR:
        out.size = v.list->size - v.list->taken;
        out.items = out.size ? v.list->items + v.list->taken : NULL;
        v.list->taken = v.list->size;
        jinja_charge(r, out.size);
        break;
    case JINJA_DICT:
        out = walk_dict(r, v.dict);
        break;
    case JINJA_RANGE:
        out = walk_range(r, v.range);
        break;
    default:
        jinja_fail(r, INFER_ERR_INVALID, "'%s' object is not iterable", jinja_type_name(v.kind));
    }
    return jinja_failed(r) ? (struct jinja_list){0} : out;
}

static struct jinja_value bind(struct jinja_render *r, struct jinja_value self,
                               const struct jinja_callable *function)
{
    struct jinja_method *m = jinja_new(r, 1, sizeof *m);
    if (!m)
        return jinja_no_value();
    *m = (struct jinja_method){function, self};
    return (struct jinja_value){.kind = JINJA_METHOD, .method = m};
}

static struct jinja_value unsafe(struct jinja_value object, struct base_view name)
{
    struct jinja_value v = jinja_lacking(object, name);
    v.flag = JINJA_LACKS_SAFETY;
    return v;
}

/* What the object itself has, beside the items it holds; JINJA_MISSING if nothing. */
static struct jinja_value own_member(struct jinja_render *r, struct jinja_value object,
                                     struct base_view name)
{
    if (object.kind == JINJA_NAMESPACE) {
        const struct jinja_value *v = jinja_dict_get(object.dict, name.data, name.size);
        return v ? *v : jinja_no_value();
    }
    if (object.kind == JINJA_LOOP) {
        struct jinja_value v = jinja_loop_member(r, object, name);
        if (v.kind != JINJA_MISSING)
            return v;
    }
    if (object.kind == JINJA_CYCLER && base_view_equal(name, "current"))
        return object.cycler->items.items[object.cycler->position];
    if (object.kind == JINJA_MACRO && base_view_equal(name, "name") &&
        object.macro->node->macro.name >= 0)
        return jinja_text(r->template->names[object.macro->node->macro.name], 0);
    if (object.kind == JINJA_TUPLE && object.flag == JINJA_TUPLE_GROUP) {
        if (base_view_equal(name, "grouper"))
            return object.list->items[0];
        if (base_view_equal(name, "list"))
            return object.list->items[1];
    }
    if (jinja_mutates(object.kind, name))
        return unsafe(object, name);
    const struct jinja_callable *f = jinja_find_method(object.kind, name);
    return f ? bind(r, object, f) : jinja_no_value();
}

struct jinja_value jinja_attribute(struct jinja_render *r, struct jinja_value object,
                                   struct base_view name)
{
    if (!jinja_defined(r, object))
        return jinja_no_value();
    struct jinja_value own = own_member(r, object, name);
    if (own.kind != JINJA_MISSING || jinja_failed(r))
        return own;
    if (object.kind == JINJA_DICT) {
        const struct jinja_value *v = jinja_dict_get(object.dict, name.data, name.size);
        if (v)
            return *v;
    }
    return jinja_lacking(object, name);
}

/* Moves a negative index to the front; 0 if it is out of range. */
static int normalize(int64_t *index, int64_t size)
{
    if (*index < 0)
        *index += size;
    return *index >= 0 && *index < size;
}

static struct jinja_value text_item(struct jinja_render *r, struct jinja_value v, int64_t index)
{
    uint32_t cp;
    jinja_charge(r, v.text.size);
    if (!normalize(&index, (int64_t)jinja_text_length(v.text)))
        return jinja_no_value();
    size_t from = jinja_text_offset(v.text, (size_t)index);
    struct base_view rest = {v.text.data + from, v.text.size - from};
    rest.size = jinja_text_next(rest, &cp);
    return jinja_text(rest, v.flag & JINJA_TEXT_SAFE);
}

/* JINJA_MISSING where the object has no such item. */
static struct jinja_value own_item(struct jinja_render *r, struct jinja_value object,
                                   struct jinja_value key)
{
    int64_t index;
    if (object.kind == JINJA_DICT) {
        const struct jinja_value *v = jinja_dict_find(object.dict, key);
        return v ? *v : jinja_no_value();
    }
    if (!jinja_as_int(key, &index))
        return jinja_no_value();
    if (object.kind == JINJA_STRING)
        return text_item(r, object, index);
    if (object.kind == JINJA_LIST || object.kind == JINJA_TUPLE)
        return normalize(&index, (int64_t)object.list->size) ? object.list->items[index]
                                                             : jinja_no_value();
    if (object.kind == JINJA_RANGE && normalize(&index, jinja_range_size(object.range)))
        return jinja_int(object.range->start + index * object.range->step);
    return jinja_no_value();
}

struct jinja_value jinja_item(struct jinja_render *r, struct jinja_value object,
                              struct jinja_value key)
{
    if (!jinja_defined(r, object))
        return jinja_no_value();
    struct jinja_value v = own_item(r, object, key);
    if (v.kind != JINJA_MISSING || jinja_failed(r))
        return v;
    if (key.kind == JINJA_STRING) {
        v = own_member(r, object, key.text);
        return v.kind != JINJA_MISSING ? v : jinja_lacking(object, key.text);
    }
    size_t begin = jinja_capture_begin(r);
    jinja_write_text(r, jinja_type_name(object.kind));
    jinja_write_text(r, " object has no element ");
    jinja_repr(r, key);
    struct jinja_value sentence = jinja_capture_end(r, begin);
    v = jinja_hint("");
    v.text = sentence.text;
    return jinja_failed(r) ? jinja_no_value() : v;
}

/* Python's slice.indices(); 0 where the bounds are not numbers. */
static int slice_bounds(const struct jinja_value bounds[3], int64_t size, int64_t out[3])
{
    int64_t step = 1;
    if (bounds[2].kind > JINJA_NONE && !jinja_as_int(bounds[2], &step))
        return 0;
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? size - 1 : size;
    for (int i = 0; i < 2; i++) {
        out[i] = (i == 0) == (step < 0) ? high : low;
        if (bounds[i].kind == JINJA_NONE || bounds[i].kind == JINJA_MISSING)
            continue;
        if (!jinja_as_int(bounds[i], &out[i]))
            return 0;
        if (out[i] < 0)
            out[i] += size;
        out[i] = out[i] < low ? low : out[i] > high ? high : out[i];
    }
    out[2] = step;
    return 1;
}

static struct jinja_value slice_text(struct jinja_render *r, struct jinja_value v,
                                     const int64_t at[3], int64_t n)
{
    int flag = v.flag & JINJA_TEXT_SAFE;
    jinja_charge(r, v.text.size);
    if (at[2] == 1 || n == 0) {
        size_t from = n ? jinja_text_offset(v.text, (size_t)at[0]) : 0;
        struct base_view rest = {v.text.data + from, v.text.size - from};
        rest.size = jinja_text_offset(rest, (size_t)n);
        return jinja_text(rest, flag);
    }
    struct jinja_list chars = walk_text(r, v.text);
    size_t begin = jinja_capture_begin(r);
    for (int64_t i = 0; i < n && !jinja_failed(r); i++) {
        struct base_view c = chars.items[at[0] + i * at[2]].text;
        jinja_write(r, c.data, c.size);
    }
    v = jinja_capture_end(r, begin);
    v.flag = (uint8_t)flag;
    return v;
}

struct jinja_value jinja_slice(struct jinja_render *r, struct jinja_value object,
                               const struct jinja_value bounds[3])
{
    int64_t at[3];
    if (!jinja_defined(r, object))
        return jinja_no_value();
    int sliceable = object.kind == JINJA_STRING || object.kind == JINJA_LIST ||
                    object.kind == JINJA_TUPLE || object.kind == JINJA_RANGE;
    if (!sliceable || !slice_bounds(bounds, jinja_length(r, object), at))
        return jinja_fail(r, INFER_ERR_INVALID,
                          sliceable ? "slice indices must be integers or None"
                                    : "'%s' object cannot be sliced",
                          jinja_type_name(object.kind));
    if (at[2] == 0)
        return jinja_fail(r, INFER_ERR_INVALID, "slice step cannot be zero");
    struct jinja_range picked = {at[0], at[1], at[2]};
    int64_t n = jinja_range_size(&picked);
    if (object.kind == JINJA_STRING)
        return slice_text(r, object, at, n);
    if (object.kind == JINJA_RANGE) {
        struct jinja_range *range = jinja_new(r, 1, sizeof *range);
        if (!range)
            return jinja_no_value();
        *range = (struct jinja_range){object.range->start + at[0] * object.range->step,
                                      object.range->start + at[1] * object.range->step,
                                      object.range->step * at[2]};
        return (struct jinja_value){.kind = JINJA_RANGE, .range = range};
    }
    struct jinja_value out = jinja_list_of(r, object.kind, (size_t)n);
    jinja_charge(r, (size_t)n);
    for (int64_t i = 0; i < n && !jinja_failed(r); i++)
        out.list->items[out.list->size++] = object.list->items[at[0] + i * at[2]];
    return out;
}

struct jinja_value jinja_path(struct jinja_render *r, struct jinja_value object,
                              struct jinja_value path)
{
    if (path.kind == JINJA_MISSING || path.kind == JINJA_NONE)
        return object;
    if (path.kind != JINJA_STRING)
        return jinja_item(r, object, path);
    struct base_view rest = path.text;
    for (;;) {
        const char *dot = rest.size ? memchr(rest.data, '.', rest.size) : NULL;
        struct base_view part = {rest.data, dot ? (size_t)(dot - rest.data) : rest.size};
        int64_t number;
        int digits = part.size > 0;
        for (size_t i = 0; i < part.size; i++)
            digits &= part.data[i] >= '0' && part.data[i] <= '9';
        digits = digits && jinja_parse_int(part, 10, &number);
        object = jinja_item(r, object, digits ? jinja_int(number) : jinja_text(part, 0));
        if (!dot || jinja_failed(r))
            return object;
        rest.size -= part.size + 1;
        rest.data = dot + 1;
    }
}
