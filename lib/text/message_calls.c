/* Calls of tools in the forms that models write them: JSON, names before JSON, XML. */
#include "text/message.h"

#include "base/json.h"

/* A text and how far it was read. */
struct cursor {
    const char *text;
    size_t size, at;
};

static int is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct base_view trim(struct base_view v)
{
    while (v.size && is_space(v.data[0]))
        v.data++, v.size--;
    while (v.size && is_space(v.data[v.size - 1]))
        v.size--;
    return v;
}

static void skip(struct cursor *c, const char *more)
{
    while (c->at < c->size &&
           (is_space(c->text[c->at]) || (c->text[c->at] && strchr(more, c->text[c->at]))))
        c->at++;
}

/* The JSON value at the cursor, by its brackets and quotes alone; empty if it has no end. */
static struct base_view take_value(struct cursor *c)
{
    size_t from = c->at, depth = 0;
    for (; c->at < c->size; c->at++) {
        char k = c->text[c->at];
        if (k == '"') {
            for (c->at++; c->at < c->size && c->text[c->at] != '"'; c->at++)
                c->at += c->text[c->at] == '\\';
            if (c->at >= c->size)
                return (struct base_view){NULL, 0};
        } else if (k == '{' || k == '[') {
            depth++;
        } else if ((k == '}' || k == ']') && depth) {
            depth--;
        } else if (depth || !(k == ',' || k == '}' || k == ']' || is_space(k))) {
            continue;
        } else {
            return (struct base_view){c->text + from, c->at - from};
        }
        if (!depth) {
            c->at++;
            break;
        }
    }
    return depth ? (struct base_view){NULL, 0} : (struct base_view){c->text + from, c->at - from};
}

/* The text of a member of a JSON object that is known to be one; empty if it is not there. */
static struct base_view member_text(struct base_view object, const char *key)
{
    struct cursor c = {object.data, object.size, 1};
    for (;;) {
        skip(&c, ",");
        if (c.at >= c.size || c.text[c.at] != '"')
            return (struct base_view){NULL, 0};
        struct base_view name = take_value(&c);
        skip(&c, ":");
        struct base_view value = take_value(&c);
        if (name.size < 2 || !value.size)
            return (struct base_view){NULL, 0};
        name = (struct base_view){name.data + 1, name.size - 2};
        if (base_view_equal(name, key))
            return value;
    }
}

static infer_status parse(const struct base_json **out, struct base_arena *arena,
                          struct base_view text)
{
    infer_status st = base_json_parse(out, arena, text.data, text.size);
    if (st == INFER_OK || st == INFER_ERR_NO_MEMORY)
        return st;
    *out = NULL;
    return INFER_OK;
}

infer_status text_message_add_call(struct text_message *m, struct base_view name,
                                   struct base_view arguments, struct base_view id)
{
    struct text_call_of_tool call = {.arguments_size = arguments.size};
    struct base_arena scratch;
    const struct base_json *v = NULL;
    base_arena_init(&scratch, &m->alloc);
    infer_status st = parse(&v, &scratch, arguments);
    call.is_json = v != NULL;
    base_arena_release(&scratch);
    if (st != INFER_OK)
        return st;
    call.name = base_arena_strdup(&m->arena, name.data, name.size);
    call.arguments = base_arena_strdup(&m->arena, arguments.data, arguments.size);
    call.id = base_arena_strdup(&m->arena, id.size ? id.data : "", id.size);
    if (!call.name || !call.arguments || !call.id)
        return INFER_ERR_NO_MEMORY;
    return base_array_push(&m->alloc, &m->calls, call);
}

/* ---------------------------------------------------------------------- JSON */

/* {"name": ..., "arguments" or "parameters": ...}, perhaps inside "function". INFER_DONE: none. */
static infer_status add_object(struct text_message *m, const struct base_json *v,
                               struct base_view text)
{
    static const char *const keys[] = {"arguments", "parameters"};
    struct base_view name = {NULL, 0}, id = {"", 0}, arguments = {"{}", 2};
    base_json_string(base_json_get(v, "id"), &id);
    const struct base_json *inner = base_json_get(v, "function");
    if (base_json_is(inner, BASE_JSON_OBJECT)) {
        text = member_text(text, "function");
        v = inner;
    }
    if (!text.size || !base_json_string(base_json_get(v, "name"), &name) || !name.size)
        return INFER_DONE;
    for (size_t i = 0; i < BASE_COUNT(keys); i++) {
        const struct base_json *value = base_json_get(v, keys[i]);
        if (!value || base_json_is(value, BASE_JSON_NULL))
            continue;
        if (base_json_is(value, BASE_JSON_OBJECT))
            arguments = member_text(text, keys[i]);
        else if (!base_json_string(value, &arguments))
            return INFER_DONE;
        if (!arguments.data)
            return INFER_DONE;
        break;
    }
    return text_message_add_call(m, name, arguments, id);
}

static infer_status add_value(struct text_message *m, const struct base_json *v,
                              struct base_view text)
{
    if (base_json_is(v, BASE_JSON_OBJECT))
        return add_object(m, v, text);
    if (!base_json_is(v, BASE_JSON_ARRAY) || !v->n)
        return INFER_DONE;
    struct cursor c = {text.data, text.size, 1};
    infer_status st = INFER_OK;
    for (uint32_t i = 0; i < v->n && st == INFER_OK; i++) {
        const struct base_json *item = base_json_at(v, i);
        skip(&c, ",");
        struct base_view item_text = take_value(&c);
        st = base_json_is(item, BASE_JSON_OBJECT) ? add_object(m, item, item_text) : INFER_DONE;
    }
    return st;
}

/* Values in a row, with semicolons, commas or space between them. */
static infer_status read_json(struct text_message *m, struct base_view body)
{
    struct cursor c = {body.data, body.size, 0};
    infer_status st = INFER_OK;
    for (skip(&c, ";,"); c.at < c.size && st == INFER_OK; skip(&c, ";,")) {
        const struct base_json *v = NULL;
        struct base_arena scratch;
        if (c.text[c.at] != '{' && c.text[c.at] != '[')
            return INFER_DONE;
        struct base_view text = take_value(&c);
        if (!text.size)
            return INFER_DONE;
        base_arena_init(&scratch, &m->alloc);
        st = parse(&v, &scratch, text);
        if (st == INFER_OK)
            st = v ? add_value(m, v, text) : INFER_DONE;
        base_arena_release(&scratch);
    }
    return st;
}

/* ------------------------------------------------------------ names before it */

/* Cuts `v` at a mark: what is before it is returned, what is behind stays. Empty: no mark. */
static struct base_view cut(struct base_view *v, const char *mark)
{
    const char *at = v->size ? memmem(v->data, v->size, mark, strlen(mark)) : NULL;
    if (!at)
        return (struct base_view){NULL, 0};
    struct base_view before = {v->data, (size_t)(at - v->data)};
    v->data = at + strlen(mark);
    v->size -= before.size + strlen(mark);
    return before;
}

/* name[ARGS]{...} or name[CALL_ID]id[ARGS]{...} */
static infer_status read_mistral(struct text_message *m, struct base_view body)
{
    struct base_view id = {"", 0}, name = trim(cut(&body, "[ARGS]"));
    struct base_view rest = name, before = cut(&rest, "[CALL_ID]");
    if (before.data) {
        id = trim(rest);
        name = trim(before);
    }
    body = trim(body);
    if (!name.size || !body.size || body.data[0] != '{')
        return INFER_DONE;
    return text_message_add_call(m, name, body, id);
}

/* name, mark, {...}; or type, mark, name, and the object in a block of code. */
static infer_status read_deepseek(struct text_message *m, struct base_view body)
{
    static const char mark[] = "<｜tool▁sep｜>";
    struct base_view id = {"", 0}, name = trim(cut(&body, mark)), rest = trim(body);
    if (!name.size)
        return INFER_DONE;
    if (rest.size && rest.data[0] == '{')
        return text_message_add_call(m, name, rest, id);
    name = trim(cut(&rest, "\n"));
    cut(&rest, "```json");
    struct base_view inside = cut(&rest, "```");
    rest = trim(inside.data ? inside : rest);
    if (!name.size || !rest.size || rest.data[0] != '{')
        return INFER_DONE;
    return text_message_add_call(m, name, rest, id);
}

/* The header names the function, the body is what it gets. */
static infer_status read_harmony(struct text_message *m)
{
    static const char prefix[] = "functions.";
    struct base_view header = {m->header.data, m->header.size}, id = {"", 0};
    cut(&header, "to=");
    size_t n = 0;
    while (n < header.size && !is_space(header.data[n]) && header.data[n] != '<')
        n++;
    struct base_view name = {header.data, n};
    struct base_view body = {m->body.size ? m->body.data : "", m->body.size};
    if (name.size > sizeof prefix - 1 && memcmp(name.data, prefix, sizeof prefix - 1) == 0) {
        name.data += sizeof prefix - 1;
        name.size -= sizeof prefix - 1;
    }
    return name.size ? text_message_add_call(m, name, trim(body), id) : INFER_DONE;
}

/* ----------------------------------------------------------------------- XML */

static infer_status append_string(struct base_str *out, struct base_view text)
{
    infer_status st = base_str_put(out, '"');
    for (size_t i = 0; i < text.size && st == INFER_OK; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '"' || c == '\\')
            st = base_str_appendf(out, "\\%c", c);
        else if (c < 0x20)
            st = base_str_appendf(out, "\\u%04x", c);
        else
            st = base_str_put(out, (char)c);
    }
    return st == INFER_OK ? base_str_put(out, '"') : st;
}

/* A value that is JSON and no string stands for itself, any other is a string. */
static infer_status append_value(struct text_message *m, struct base_str *out,
                                 struct base_view text)
{
    const struct base_json *v = NULL;
    struct base_arena scratch;
    base_arena_init(&scratch, &m->alloc);
    infer_status st = text.size ? parse(&v, &scratch, text) : INFER_OK;
    int plain = v && !base_json_is(v, BASE_JSON_STRING);
    base_arena_release(&scratch);
    if (st != INFER_OK)
        return st;
    return plain ? base_str_append(out, text.data, text.size) : append_string(out, text);
}

/* <function=name><parameter=key>value</parameter>...</function> */
static infer_status read_xml(struct text_message *m, struct base_view body)
{
    struct base_str out;
    infer_status st = INFER_OK;
    cut(&body, "<function=");
    struct base_view name = trim(cut(&body, ">")), id = {"", 0};
    if (!name.size)
        return INFER_DONE;
    base_str_init(&out, &m->alloc, 0);
    st = base_str_put(&out, '{');
    for (int n = 0; st == INFER_OK && cut(&body, "<parameter=").data; n++) {
        struct base_view key = trim(cut(&body, ">")), value = cut(&body, "</parameter>");
        if (!key.size || !value.data) {
            st = INFER_DONE;
            break;
        }
        if (n)
            st = base_str_append(&out, ", ", 2);
        if (st == INFER_OK)
            st = append_string(&out, key);
        if (st == INFER_OK)
            st = base_str_append(&out, ": ", 2);
        if (st == INFER_OK)
            st = append_value(m, &out, trim(value));
    }
    if (st == INFER_OK)
        st = base_str_put(&out, '}');
    if (st == INFER_OK)
        st = text_message_add_call(m, name, (struct base_view){out.data, out.size}, id);
    base_str_release(&out);
    return st;
}

static infer_status read_body(struct text_message *m, struct base_view body)
{
    int is_json = body.size && (body.data[0] == '{' || body.data[0] == '[');
    switch (m->format->format) {
    case TEXT_MESSAGE_HARMONY:
        return read_harmony(m);
    case TEXT_MESSAGE_DEEPSEEK:
        return read_deepseek(m, body);
    case TEXT_MESSAGE_MISTRAL:
        return is_json ? read_json(m, body) : read_mistral(m, body);
    default:
        if (body.size && body.data[0] == '<')
            return read_xml(m, body);
        return is_json ? read_json(m, body) : INFER_DONE;
    }
}

infer_status text_message_read_calls(struct text_message *m, size_t *n)
{
    size_t before = m->calls.size;
    infer_status st = read_body(m, trim((struct base_view){m->body.data, m->body.size}));
    if (st != INFER_OK)
        m->calls.size = before;
    *n = m->calls.size - before;
    return st == INFER_DONE ? INFER_OK : st;
}
