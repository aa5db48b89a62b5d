/**
 * @file message.h
 * What an answer consists of: reasoning, content, and calls of tools, read out of generated text by
 * the markers of the model's format. The text itself stays what it is. Markers that are control
 * tokens are in it with show_special of infer_request_options.
 */
#ifndef INFER_MESSAGE_H
#define INFER_MESSAGE_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How a model marks reasoning and calls of tools. */
typedef int32_t infer_message_format;

enum {
    INFER_MESSAGE_PLAIN = 0,    /**< nothing is marked */
    INFER_MESSAGE_THINK = 1,    /**< <think> ... </think> alone */
    INFER_MESSAGE_HERMES = 2,   /**< also <tool_call>{...}</tool_call>: Hermes, Qwen, Granite ...;
                                     inside also <function=...><parameter=...> of Qwen3-Coder */
    INFER_MESSAGE_LLAMA3 = 3,   /**< an answer that begins with a brace, or <|python_tag|>{...} */
    INFER_MESSAGE_MISTRAL = 4,  /**< [TOOL_CALLS] before JSON or name[ARGS]{...}, and [THINK] */
    INFER_MESSAGE_DEEPSEEK = 5, /**< DeepSeek's R1, V3 and later, and <think> */
    INFER_MESSAGE_HARMONY = 6   /**< channels of gpt-oss */
};

/** A call that a model wants made. Strings live as long as the message and end with a 0. */
typedef struct infer_tool_call {
    const char *name;
    const char *arguments; /**< JSON, as the model wrote it */
    size_t arguments_size;
    const char *id;      /**< "" where the format has none */
    int32_t is_json;     /**< 1: `arguments` is JSON; 0: code or damaged */
    int32_t reserved[3]; /**< 0 */
} infer_tool_call;

/** Valid until the next call on the message. White space around texts is not part of them. */
typedef struct infer_message_parts {
    size_t struct_size;
    const char *reasoning;
    size_t reasoning_size;
    const char *content;
    size_t content_size;
    const infer_tool_call *tool_calls;
    size_t n_tool_calls;
    infer_message_format format;
} infer_message_parts;

typedef struct infer_message_options {
    size_t struct_size;
    const infer_allocator *allocator; /**< NULL: the C library's */
    infer_message_format format;
    int32_t in_reasoning; /**< 1: the prompt ended inside reasoning, as some templates do. Without
                               it, an end of reasoning that never began makes all before it
                               reasoning, which until then was content */
} infer_message_options;

/** A message being read. */
typedef struct infer_message_reader infer_message_reader;

/**
 * The format of a model, by what its chat template (chat_template of infer_model_info) contains.
 * @return INFER_MESSAGE_PLAIN for NULL and for templates without known markers
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_message_format infer_message_format_of(const char *chat_template);

/** @param options  NULL: a plain message. @return INFER_OK, INFER_ERR_INVALID,
 *  INFER_ERR_UNSUPPORTED (format), INFER_ERR_NO_MEMORY. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_message_reader_create(infer_message_reader **out,
                                                   const infer_message_options *options);

/** NULL-safe. Thread-safety: once per handle. Since: 0.1 */
INFER_API void infer_message_reader_destroy(infer_message_reader **message);

/**
 * Takes more of the answer: what infer_event.text holds, or pieces of any size. Any bytes are
 * legal.
 * @return INFER_OK, INFER_ERR_INVALID (the message is finished), INFER_ERR_NO_MEMORY (it then can
 *         only be destroyed)
 * Thread-safety: one thread at a time per message. Since: 0.1
 */
INFER_API infer_status infer_message_reader_push(infer_message_reader *message, const char *text,
                                                 size_t size);

/** Says that nothing follows: what may have become a marker is text, and a call without an end is
 *  read. @return as infer_message_reader_push(). Thread-safety: as there. Since: 0.1 */
INFER_API infer_status infer_message_reader_finish(infer_message_reader *message);

/**
 * What is known so far. Texts only grow at their end as more is pushed, and a call appears when it
 * is whole. What looks like a call and cannot be read as one is content, markers and all. Set
 * parts->struct_size first.
 * @return INFER_OK or INFER_ERR_INVALID. Thread-safety: as infer_message_reader_push(). Since: 0.1
 */
INFER_API infer_status infer_message_reader_get(infer_message_reader *message,
                                                infer_message_parts *parts);

/** A whole answer at once: create, push and finish. @return as these.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_message_parse(infer_message_reader **out, const char *text,
                                           size_t size, const infer_message_options *options);

#ifdef __cplusplus
}
#endif

#endif
