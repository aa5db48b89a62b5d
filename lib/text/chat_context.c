/* The variables of a chat template, collected. */
#include "text/chat_context.h"

#include "base/clock.h"
#include "base/error.h"
#include "text/jinja_from_json.h"
#include "text/jinja_internal.h"

void text_chat_context_init(struct text_chat_context *c, const struct base_alloc *a,
                            const struct text_tokenizer *guard)
{
    *c = (struct text_chat_context){.guard = guard};
    jinja_heap_init(&c->heap, a, 0);
    c->variables = jinja_dict(&c->heap);
    c->has_now = jinja_time_from_unix(base_clock_unix(), &c->now);
}

void text_chat_context_release(struct text_chat_context *c)
{
    jinja_heap_release(&c->heap);
}

static void set(struct text_chat_context *c, struct jinja_value dict, const char *name,
                struct jinja_value value)
{
    jinja_dict_set(&c->heap, dict, jinja_string(name, strlen(name)), value);
}

int text_chat_context_has(const struct text_chat_context *c, const char *name)
{
    return c->heap.status == INFER_OK &&
           jinja_dict_get(c->variables.dict, name, strlen(name)) != NULL;
}

infer_status text_chat_context_default(struct text_chat_context *c, const char *name,
                                       struct jinja_value value)
{
    if (c->heap.status == INFER_OK && !text_chat_context_has(c, name))
        set(c, c->variables, name, value);
    return c->heap.status;
}

/* A text in which nothing is guarded stays where it is. */
static struct base_view guard_text(struct jinja_heap *h, struct base_view text, void *user_data)
{
    const struct text_tokenizer *guard = user_data;
    struct base_str guarded;
    if (!guard || !text.size || h->status != INFER_OK)
        return text;
    base_str_init(&guarded, &h->arena.alloc, 0);
    h->status = text_tokenizer_guard(guard, text.data, text.size, &guarded);
    if (h->status == INFER_OK &&
        (guarded.size != text.size || memcmp(guarded.data, text.data, text.size) != 0)) {
        const char *copy = base_arena_strdup(&h->arena, guarded.data, guarded.size);
        if (copy)
            text = (struct base_view){copy, guarded.size};
        else
            h->status = INFER_ERR_NO_MEMORY;
    }
    base_str_release(&guarded);
    return text;
}

static struct jinja_value convert(struct text_chat_context *c, const struct base_json *json,
                                  int trusted)
{
    void *guard = trusted ? NULL : (void *)(uintptr_t)c->guard;
    return jinja_from_json(&c->heap, json, guard_text, guard);
}

static int is_trusted(struct base_view role)
{
    return role.data && (base_view_equal(role, "system") || base_view_equal(role, "assistant"));
}

static struct jinja_value convert_messages(struct text_chat_context *c,
                                           const struct base_json *json)
{
    struct jinja_value list = jinja_list(&c->heap);
    if (json->type != BASE_JSON_ARRAY)
        c->heap.status = base_error(INFER_ERR_INVALID, "messages: expected a list of objects");
    for (uint32_t i = 0; i < json->n && c->heap.status == INFER_OK; i++) {
        const struct base_json *message = &json->as.items[i];
        struct base_view role = {NULL, 0};
        base_json_string(base_json_get(message, "role"), &role);
        if (message->type == BASE_JSON_OBJECT)
            jinja_list_push(&c->heap, list, convert(c, message, is_trusted(role)));
        else
            c->heap.status =
                base_error(INFER_ERR_INVALID, "messages[%u]: expected an object", (unsigned)i);
    }
    return list;
}

static infer_status set_time(struct text_chat_context *c, const struct base_json *json)
{
    struct base_view text;
    double seconds;
    if (base_json_is(json, BASE_JSON_NULL)) {
        c->has_now = 0;
        return INFER_OK;
    }
    c->has_now = (base_json_string(json, &text) && jinja_time_parse(text, &c->now)) ||
                 (base_json_f64(json, &seconds) && seconds >= 0 && seconds <= 1e12 &&
                  jinja_time_from_unix((int64_t)seconds, &c->now));
    return c->has_now ? INFER_OK
                      : base_error(INFER_ERR_INVALID,
                                   "strftime_now: expected seconds since 1970, a date as "
                                   "\"2025-01-15\", a time as \"2025-01-15T12:00:00\" or null");
}

static infer_status add_member(struct text_chat_context *c, const struct base_json_member *m)
{
    struct jinja_value value;
    if (base_view_equal(m->key, "strftime_now"))
        return set_time(c, &m->value);
    if (base_view_equal(m->key, "messages"))
        value = convert_messages(c, &m->value);
    else
        value = convert(c, &m->value, m->value.type == BASE_JSON_STRING);
    jinja_dict_set(&c->heap, c->variables, jinja_string(m->key.data, m->key.size), value);
    return c->heap.status;
}

infer_status text_chat_context_add_json(struct text_chat_context *c, const char *json, size_t size)
{
    const struct base_json *root;
    infer_status st = c->heap.status;
    if (st == INFER_OK)
        st = base_json_parse(&root, &c->heap.arena, json, size);
    if (st == INFER_OK && root->type != BASE_JSON_OBJECT)
        st = base_error(INFER_ERR_INVALID, "expected a JSON object of variables");
    for (uint32_t i = 0; st == INFER_OK && i < root->n; i++)
        st = add_member(c, &root->as.member[i]);
    return st;
}

infer_status text_chat_context_add_messages(struct text_chat_context *c,
                                            const struct text_message *messages, size_t n)
{
    struct jinja_heap *h = &c->heap;
    if (text_chat_context_has(c, "messages"))
        return base_error(INFER_ERR_INVALID, "there are two conversations: messages, and "
                                             "\"messages\" of the context");
    struct jinja_value list = jinja_list(h);
    for (size_t i = 0; i < n && h->status == INFER_OK; i++) {
        struct jinja_value message = jinja_dict(h);
        void *guard = is_trusted(messages[i].role) ? NULL : (void *)(uintptr_t)c->guard;
        struct base_view content = guard_text(h, messages[i].content, guard);
        struct base_view role = guard_text(h, messages[i].role, guard);
        set(c, message, "role", jinja_string(role.data ? role.data : "", role.size));
        set(c, message, "content", jinja_string(content.data ? content.data : "", content.size));
        jinja_list_push(h, list, message);
    }
    if (h->status == INFER_OK)
        set(c, c->variables, "messages", list);
    return h->status;
}
