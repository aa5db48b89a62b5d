/* The formats of answers, one row each. */
#include "text/message.h"

#define THINK                                                                                      \
    {"<think>", TEXT_IN_CONTENT, TEXT_MARK_MOVE, TEXT_IN_REASONING},                               \
    {                                                                                              \
        "</think>", TEXT_IN_REASONING | TEXT_IN_CONTENT, TEXT_MARK_THOUGHT, TEXT_IN_CONTENT        \
    }

#define ANYWHERE (TEXT_IN_CONTENT | TEXT_IN_REASONING | TEXT_IN_CALL | TEXT_IN_HEADER)

static const struct text_marker think[] = {THINK};

static const struct text_marker hermes[] = {
    THINK,
    {"<tool_call>", TEXT_IN_CONTENT | TEXT_IN_CALL, TEXT_MARK_OPEN, TEXT_IN_CALL},
    {"</tool_call>", TEXT_IN_CALL, TEXT_MARK_CLOSE, TEXT_IN_CONTENT},
};

static const struct text_marker llama3[] = {
    {"<|python_tag|>", TEXT_IN_CONTENT | TEXT_IN_CALL, TEXT_MARK_OPEN, TEXT_IN_CALL},
    {"<|eom_id|>", TEXT_IN_CALL, TEXT_MARK_CLOSE, TEXT_IN_CONTENT},
    {"<|eot_id|>", TEXT_IN_CALL, TEXT_MARK_CLOSE, TEXT_IN_CONTENT},
};

static const struct text_marker mistral[] = {
    {"[THINK]", TEXT_IN_CONTENT, TEXT_MARK_MOVE, TEXT_IN_REASONING},
    {"[/THINK]", TEXT_IN_REASONING | TEXT_IN_CONTENT, TEXT_MARK_THOUGHT, TEXT_IN_CONTENT},
    {"[TOOL_CALLS]", TEXT_IN_CONTENT | TEXT_IN_CALL, TEXT_MARK_OPEN, TEXT_IN_CALL},
};

static const struct text_marker deepseek[] = {
    THINK,
    {"<｜tool▁calls▁begin｜>", TEXT_IN_CONTENT, TEXT_MARK_MOVE, TEXT_IN_CONTENT},
    {"<｜tool▁calls▁end｜>", TEXT_IN_CONTENT, TEXT_MARK_MOVE, TEXT_IN_CONTENT},
    {"<｜tool▁call▁begin｜>", TEXT_IN_CONTENT | TEXT_IN_CALL, TEXT_MARK_OPEN, TEXT_IN_CALL},
    {"<｜tool▁call▁end｜>", TEXT_IN_CALL, TEXT_MARK_CLOSE, TEXT_IN_CONTENT},
};

static const struct text_marker harmony[] = {
    {"<|start|>", ANYWHERE, TEXT_MARK_HEADER, TEXT_IN_HEADER},
    {"<|channel|>", ANYWHERE, TEXT_MARK_HEADER, TEXT_IN_HEADER},
    {"<|constrain|>", TEXT_IN_HEADER, TEXT_MARK_HEADER, TEXT_IN_HEADER},
    {"<|message|>", TEXT_IN_HEADER, TEXT_MARK_MESSAGE, TEXT_IN_CONTENT},
    {"<|end|>", ANYWHERE, TEXT_MARK_CLOSE, TEXT_IN_HEADER},
    {"<|call|>", ANYWHERE, TEXT_MARK_CLOSE, TEXT_IN_HEADER},
    {"<|return|>", ANYWHERE, TEXT_MARK_CLOSE, TEXT_IN_HEADER},
};

#define MARKERS(rows) rows, BASE_COUNT(rows)

const struct text_message_format text_message_formats[TEXT_MESSAGE_FORMATS] = {
    {TEXT_MESSAGE_PLAIN, {NULL}, 0, TEXT_IN_CONTENT, 0, NULL, 0},
    {TEXT_MESSAGE_THINK,
     {"<arg_key>", "</think>", NULL}, /* calls of GLM are not read */
     '<',
     TEXT_IN_CONTENT,
     0,
     MARKERS(think)},
    {TEXT_MESSAGE_HERMES, {"<tool_call>", NULL}, '<', TEXT_IN_CONTENT, 0, MARKERS(hermes)},
    {TEXT_MESSAGE_LLAMA3,
     {"<|python_tag|>", "\"parameters\": dictionary", NULL},
     '<',
     TEXT_IN_CONTENT,
     1,
     MARKERS(llama3)},
    {TEXT_MESSAGE_MISTRAL, {"[TOOL_CALLS]", NULL}, '[', TEXT_IN_CONTENT, 0, MARKERS(mistral)},
    {TEXT_MESSAGE_DEEPSEEK,
     {"<｜tool▁call▁begin｜>", NULL},
     '<',
     TEXT_IN_CONTENT,
     0,
     MARKERS(deepseek)},
    {TEXT_MESSAGE_HARMONY, {"<|channel|>", NULL}, '<', TEXT_IN_HEADER, 0, MARKERS(harmony)},
};

/* A needle of a later row is rarer: other formats' templates do not contain it. Only GLM's, in
 * the first, comes before all. */
int32_t text_message_format_of(const char *chat_template, size_t size)
{
    const char *glm = text_message_formats[TEXT_MESSAGE_THINK].needles[0];
    if (memmem(chat_template, size, glm, strlen(glm)))
        return TEXT_MESSAGE_THINK;
    for (int32_t f = TEXT_MESSAGE_FORMATS - 1; f > TEXT_MESSAGE_PLAIN; f--)
        for (const char *const *needle = text_message_formats[f].needles; *needle; needle++)
            if (memmem(chat_template, size, *needle, strlen(*needle)))
                return f;
    return TEXT_MESSAGE_PLAIN;
}
