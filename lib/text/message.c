/* Reads an answer as it comes: text between markers goes to where the state says. */
#include "text/message.h"

void text_message_init(struct text_message *m, const struct base_alloc *a, int32_t format,
                       int in_reasoning)
{
    *m = (struct text_message){.alloc = *a, .format = &text_message_formats[format]};
    m->state = m->format->first;
    if (in_reasoning && format != TEXT_MESSAGE_PLAIN)
        m->state = TEXT_IN_REASONING;
    base_arena_init(&m->arena, &m->alloc);
    base_str_init(&m->pending, &m->alloc, 0);
    base_str_init(&m->reasoning, &m->alloc, 0);
    base_str_init(&m->content, &m->alloc, 0);
    base_str_init(&m->header, &m->alloc, 0);
    base_str_init(&m->body, &m->alloc, 0);
    base_str_init(&m->opening, &m->alloc, 0);
}

void text_message_release(struct text_message *m)
{
    base_str_release(&m->pending);
    base_str_release(&m->reasoning);
    base_str_release(&m->content);
    base_str_release(&m->header);
    base_str_release(&m->body);
    base_str_release(&m->opening);
    base_array_release(&m->alloc, &m->calls);
    base_arena_release(&m->arena);
}

static int is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* An answer that is a call from its first brace on. */
static void look_for_bare_call(struct text_message *m, const char *text, size_t size)
{
    size_t i = 0;
    if (m->begun || m->state != TEXT_IN_CONTENT)
        return;
    while (i < size && is_space(text[i]))
        i++;
    m->begun = i < size;
    if (i == size || !m->format->bare || text[i] != '{')
        return;
    base_str_clear(&m->opening);
    base_str_clear(&m->body);
    m->state = TEXT_IN_CALL;
}

static infer_status emit(struct text_message *m, const char *text, size_t size)
{
    if (!size)
        return INFER_OK;
    struct base_str *to = m->state == TEXT_IN_CONTENT     ? &m->content
                          : m->state == TEXT_IN_REASONING ? &m->reasoning
                          : m->state == TEXT_IN_CALL      ? &m->body
                                                          : &m->header;
    return base_str_append(to, text, size);
}

/* The call ends with `marker`, or with the text ("" then). What is none goes to the content. */
static infer_status close_call(struct text_message *m, const char *marker)
{
    size_t n = 0;
    infer_status st = INFER_OK;
    if (m->state != TEXT_IN_CALL)
        return INFER_OK;
    st = text_message_read_calls(m, &n);
    m->state = TEXT_IN_CONTENT;
    if (st != INFER_OK || n)
        return st;
    st = base_str_append(&m->content, m->opening.size ? m->opening.data : "", m->opening.size);
    if (st == INFER_OK && m->body.size)
        st = base_str_append(&m->content, m->body.data, m->body.size);
    return st == INFER_OK ? base_str_append(&m->content, marker, strlen(marker)) : st;
}

/* "<|channel|>analysis" and the like: where the text behind it goes. */
static uint8_t state_of_header(const struct base_str *h)
{
    static const char mark[] = "<|channel|>", analysis[] = "analysis";
    if (!h->size)
        return TEXT_IN_CONTENT;
    if (memmem(h->data, h->size, "to=", 3))
        return TEXT_IN_CALL;
    const char *at = memmem(h->data, h->size, mark, sizeof mark - 1);
    size_t left = at ? h->size - (size_t)(at - h->data) - (sizeof mark - 1) : 0;
    int is_analysis = left >= sizeof analysis - 1 &&
                      memcmp(at + sizeof mark - 1, analysis, sizeof analysis - 1) == 0;
    return is_analysis ? TEXT_IN_REASONING : TEXT_IN_CONTENT;
}

static infer_status open_call(struct text_message *m, const char *marker)
{
    base_str_clear(&m->body);
    base_str_clear(&m->opening);
    return base_str_append(&m->opening, marker, strlen(marker));
}

/* Reasoning ends. If its beginning stood in the prompt, all so far was reasoning. */
static infer_status end_thought(struct text_message *m, const char *marker)
{
    if (m->state != TEXT_IN_CONTENT)
        return INFER_OK;
    if (m->reasoning.size || m->calls.size)
        return base_str_append(&m->content, marker, strlen(marker));
    struct base_str content = m->content;
    m->content = m->reasoning;
    m->reasoning = content;
    m->begun = 0;
    return INFER_OK;
}

static infer_status act(struct text_message *m, const struct text_marker *marker)
{
    infer_status st = INFER_OK;
    switch (marker->act) {
    case TEXT_MARK_OPEN:
        st = close_call(m, "");
        if (st == INFER_OK)
            st = open_call(m, marker->text);
        break;
    case TEXT_MARK_CLOSE:
        st = close_call(m, marker->text);
        base_str_clear(&m->header);
        break;
    case TEXT_MARK_HEADER:
        st = close_call(m, "");
        if (m->state != TEXT_IN_HEADER || strcmp(marker->text, "<|start|>") == 0)
            base_str_clear(&m->header);
        if (st == INFER_OK)
            st = base_str_append(&m->header, marker->text, strlen(marker->text));
        break;
    case TEXT_MARK_MESSAGE:
        m->state = state_of_header(&m->header);
        return m->state == TEXT_IN_CALL ? open_call(m, "") : INFER_OK;
    case TEXT_MARK_THOUGHT:
        st = end_thought(m, marker->text);
        break;
    default:
        break;
    }
    m->state = marker->to;
    return st;
}

static int begins_with(const char *text, size_t size, const char *marker, size_t n)
{
    return size >= n && memcmp(text, marker, n) == 0;
}

/* The marker at `text`, or NULL; *partial: the text may be the beginning of one. */
static const struct text_marker *marker_at(const struct text_message *m, const char *text,
                                           size_t size, int *partial)
{
    *partial = 0;
    for (size_t i = 0; i < m->format->n_markers; i++) {
        const struct text_marker *k = &m->format->markers[i];
        size_t n = strlen(k->text);
        if (!(k->in & m->state))
            continue;
        if (begins_with(text, size, k->text, n))
            return k;
        *partial |= size < n && memcmp(text, k->text, size) == 0;
    }
    return NULL;
}

/* The next marker in pending from *from on; what comes before it is emitted and passed. */
static infer_status next_marker(struct text_message *m, size_t *from, int last,
                                const struct text_marker **found)
{
    const char *text = m->pending.data;
    size_t size = m->pending.size, at = *from;
    *found = NULL;
    look_for_bare_call(m, text + at, size - at);
    for (; at < size; at++) {
        int partial = 0;
        const char *lead = memchr(text + at, m->format->lead, size - at);
        at = lead ? (size_t)(lead - text) : size;
        if (lead && (*found = marker_at(m, lead, size - at, &partial)))
            break;
        if (!lead || (partial && !last))
            break;
    }
    infer_status st = emit(m, text + *from, at - *from);
    *from = at;
    return st;
}

static infer_status read(struct text_message *m, int last)
{
    size_t from = 0;
    infer_status st = INFER_OK;
    while (st == INFER_OK && from < m->pending.size) {
        const struct text_marker *marker;
        size_t before = from;
        st = next_marker(m, &from, last, &marker);
        if (st != INFER_OK || (!marker && from == before))
            break;
        if (!marker)
            continue;
        st = act(m, marker);
        from += strlen(marker->text);
    }
    size_t left = m->pending.size - from;
    if (left)
        memmove(m->pending.data, m->pending.data + from, left);
    m->pending.size = left;
    return st;
}

infer_status text_message_push(struct text_message *m, const char *text, size_t size)
{
    if (!m->format->n_markers)
        return base_str_append(&m->content, text, size);
    infer_status st = base_str_append(&m->pending, text, size);
    return st == INFER_OK ? read(m, 0) : st;
}

infer_status text_message_finish(struct text_message *m)
{
    infer_status st = m->format->n_markers ? read(m, 1) : INFER_OK;
    if (m->finished)
        return st;
    m->finished = 1;
    if (st == INFER_OK)
        st = close_call(m, "");
    /* A header that was cut says nothing; text without any is an answer. */
    if (st == INFER_OK && m->state == TEXT_IN_HEADER && m->header.size &&
        !memmem(m->header.data, m->header.size, "<|", 2))
        st = base_str_append(&m->content, m->header.data, m->header.size);
    return st;
}
