/* What a model's answer consists of: reasoning, content and calls of tools, by the markers that its
 * chat template taught it. Text may come in pieces of any size; the result does not depend on how
 * it was cut. What cannot be read as a call stays content, markers and all. */
#ifndef TEXT_MESSAGE_H
#define TEXT_MESSAGE_H

#include "base/array.h"
#include "base/str.h"

/* Values of infer_message_format. */
enum {
    TEXT_MESSAGE_PLAIN = 0,
    TEXT_MESSAGE_THINK = 1,    /* <think> alone */
    TEXT_MESSAGE_HERMES = 2,   /* <tool_call>{...}</tool_call>: Hermes, Qwen, Granite ... */
    TEXT_MESSAGE_LLAMA3 = 3,   /* {"name": ..., "parameters": ...} or <|python_tag|> */
    TEXT_MESSAGE_MISTRAL = 4,  /* [TOOL_CALLS][...] or [TOOL_CALLS]name[ARGS]{...} */
    TEXT_MESSAGE_DEEPSEEK = 5, /* <|tool calls begin|> and so on, with their own bars */
    TEXT_MESSAGE_HARMONY = 6,  /* <|channel|>...<|message|>...: gpt-oss */
    TEXT_MESSAGE_FORMATS
};

/* States of the reader, as bits. */
enum {
    TEXT_IN_CONTENT = 1,
    TEXT_IN_REASONING = 2,
    TEXT_IN_CALL = 4,
    TEXT_IN_HEADER = 8 /* between <|start|> and <|message|> */
};

enum {
    TEXT_MARK_MOVE,    /* to another state; the marker itself goes */
    TEXT_MARK_OPEN,    /* a call begins, after the end of one that was open */
    TEXT_MARK_CLOSE,   /* the call is whole */
    TEXT_MARK_THOUGHT, /* reasoning ends */
    TEXT_MARK_HEADER,  /* joins the header, which <|start|> begins anew */
    TEXT_MARK_MESSAGE, /* the header is whole */
};

struct text_marker {
    const char *text;
    uint8_t in, act, to; /* states where it counts; what it does; the state that follows */
};

/* Strings end with a 0 and live as long as the message. */
struct text_call_of_tool {
    const char *name, *arguments, *id;
    size_t arguments_size;
    int32_t is_json;
};

struct text_message_format {
    int32_t format;
    const char *needles[3]; /* one of them in a chat template: this is the format */
    char lead;              /* first byte of all markers */
    uint8_t first;          /* state at the beginning */
    uint8_t bare;           /* an answer that begins with a brace is a call */
    const struct text_marker *markers;
    size_t n_markers;
};

extern const struct text_message_format text_message_formats[TEXT_MESSAGE_FORMATS];

/* By what a chat template contains. */
int32_t text_message_format_of(const char *chat_template, size_t size);

struct text_message {
    struct base_alloc alloc;
    struct base_arena arena; /* of calls */
    const struct text_message_format *format;
    uint8_t state;
    int32_t finished, begun; /* begun: the content has more than white space */
    struct base_str pending; /* the beginning of a marker, perhaps */
    struct base_str reasoning, content, header, body;
    struct base_str opening; /* the marker before `body` */
    BASE_ARRAY(struct text_call_of_tool) calls;
};

/* `format` is below TEXT_MESSAGE_FORMATS. `in_reasoning`: the prompt ended inside reasoning. */
void text_message_init(struct text_message *m, const struct base_alloc *a, int32_t format,
                       int in_reasoning);
infer_status text_message_push(struct text_message *m, const char *text, size_t size);
/* Nothing follows: what was held back and calls without an end are read. */
infer_status text_message_finish(struct text_message *m);
void text_message_release(struct text_message *m);

/* In message_calls.c: reads `body` as calls of the format. *n of them were added, 0 if it is none.
 * NO_MEMORY is the only error. */
infer_status text_message_read_calls(struct text_message *m, size_t *n);
/* Adds one whose parts are known. */
infer_status text_message_add_call(struct text_message *m, struct base_view name,
                                   struct base_view arguments, struct base_view id);

#endif
