/* Public: <infer/message.h>. */
#include "text/message.h"
#include "handle.h"

#include <infer/message.h>

_Static_assert((int)INFER_MESSAGE_THINK == (int)TEXT_MESSAGE_THINK &&
                   (int)INFER_MESSAGE_HERMES == (int)TEXT_MESSAGE_HERMES &&
                   (int)INFER_MESSAGE_LLAMA3 == (int)TEXT_MESSAGE_LLAMA3 &&
                   (int)INFER_MESSAGE_MISTRAL == (int)TEXT_MESSAGE_MISTRAL &&
                   (int)INFER_MESSAGE_DEEPSEEK == (int)TEXT_MESSAGE_DEEPSEEK &&
                   (int)INFER_MESSAGE_HARMONY == (int)TEXT_MESSAGE_HARMONY,
               "formats are the internal ones");

struct infer_message_reader {
    struct base_alloc alloc;
    struct text_message message;
    BASE_ARRAY(infer_tool_call) calls; /* as the host sees them */
};

infer_message_format infer_message_format_of(const char *chat_template)
{
    return chat_template ? text_message_format_of(chat_template, strlen(chat_template))
                         : INFER_MESSAGE_PLAIN;
}

infer_status infer_message_reader_create(infer_message_reader **out,
                                         const infer_message_options *options)
{
    REQUIRE(out);
    infer_message_options o;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_message_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &base_alloc_default);
    if (st != INFER_OK)
        return st;
    if (o.format < 0 || o.format >= TEXT_MESSAGE_FORMATS)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_message_format %d is not known", o.format);
    struct infer_message_reader *m = base_new(&alloc, 1, sizeof *m);
    if (!m)
        return INFER_ERR_NO_MEMORY;
    m->alloc = alloc;
    text_message_init(&m->message, &m->alloc, o.format, o.in_reasoning);
    *out = m;
    return INFER_OK;
}

void infer_message_reader_destroy(infer_message_reader **message)
{
    if (!message || !*message)
        return;
    struct infer_message_reader *m = *message;
    const struct base_alloc alloc = m->alloc;
    text_message_release(&m->message);
    base_array_release(&alloc, &m->calls);
    base_free(&alloc, m);
    *message = NULL;
}

/* Room for the calls is made here, so that looking at them cannot fail. */
static infer_status show_calls(struct infer_message_reader *m)
{
    size_t n = m->message.calls.size, shown = m->calls.size;
    infer_status st = base_array_reserve(&m->alloc, &m->calls, n - shown);
    for (size_t i = shown; i < n && st == INFER_OK; i++) {
        const struct text_call_of_tool *call = &m->message.calls.data[i];
        m->calls.data[m->calls.size++] = (infer_tool_call){.name = call->name,
                                                           .arguments = call->arguments,
                                                           .arguments_size = call->arguments_size,
                                                           .id = call->id,
                                                           .is_json = call->is_json};
    }
    return st;
}

infer_status infer_message_reader_push(infer_message_reader *message, const char *text, size_t size)
{
    REQUIRE(message);
    if (size)
        REQUIRE(text);
    if (message->message.finished)
        return base_error(INFER_ERR_INVALID, "the message is finished");
    infer_status st = size ? text_message_push(&message->message, text, size) : INFER_OK;
    return st == INFER_OK ? show_calls(message) : st;
}

infer_status infer_message_reader_finish(infer_message_reader *message)
{
    REQUIRE(message);
    if (message->message.finished)
        return base_error(INFER_ERR_INVALID, "the message is finished");
    infer_status st = text_message_finish(&message->message);
    return st == INFER_OK ? show_calls(message) : st;
}

static int is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static const char *trimmed(const struct base_str *s, size_t *size)
{
    size_t from = 0, to = s->size;
    while (from < to && is_space(s->data[from]))
        from++;
    while (to > from && is_space(s->data[to - 1]))
        to--;
    *size = to - from;
    return s->data ? s->data + from : "";
}

infer_status infer_message_reader_get(infer_message_reader *message, infer_message_parts *parts)
{
    REQUIRE(message);
    infer_message_parts full = {.tool_calls = message->calls.data,
                                .n_tool_calls = message->calls.size,
                                .format = message->message.format->format};
    full.reasoning = trimmed(&message->message.reasoning, &full.reasoning_size);
    full.content = trimmed(&message->message.content, &full.content_size);
    return base_info_copy(parts, &full, sizeof full, "infer_message_parts");
}

infer_status infer_message_parse(infer_message_reader **out, const char *text, size_t size,
                                 const infer_message_options *options)
{
    REQUIRE(out);
    infer_message_reader *m = NULL;
    infer_status st = infer_message_reader_create(&m, options);
    if (st == INFER_OK)
        st = infer_message_reader_push(m, text, size);
    if (st == INFER_OK)
        st = infer_message_reader_finish(m);
    if (st == INFER_OK)
        *out = m;
    else
        infer_message_reader_destroy(&m);
    return st;
}
