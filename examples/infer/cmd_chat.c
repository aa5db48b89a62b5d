/* infer chat: a conversation on the terminal, or over a pipe line by line. The
 * history goes along with every turn; the model's template makes it a prompt. */
#include "buffer.h"
#include "command.h"
#include "grammar_args.h"
#include "host.h"
#include "json_out.h"
#include "sampling_args.h"
#include "terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat {
    struct host host;
    struct sampling_args sampling_args;
    infer_sampling sampling;
    struct grammar_args grammar_args;
    infer_grammar *grammar; /* of every answer */
    const char *system, *tools;
    struct args_list variables; /* of the template, NAME=JSON */
    struct buffer context;      /* JSON object of tools and variables; empty without any */
    int64_t max_tokens;
    int as_json, echo, interactive;
    infer_message *messages; /* contents are on the heap, roles are literals */
    size_t n_messages, capacity;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Ctrl-C ends the running answer. Without SA_RESTART it also wakes the prompt. */
static void catch_interrupts(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, NULL);
}

static int append(struct chat *chat, const char *role, const char *content)
{
    char *copy = strdup(content ? content : "");
    if (copy && chat->n_messages == chat->capacity) {
        size_t capacity = chat->capacity ? 2 * chat->capacity : 16;
        infer_message *grown = realloc(chat->messages, capacity * sizeof *grown);
        if (grown) {
            chat->messages = grown;
            chat->capacity = capacity;
        }
    }
    if (!copy || chat->n_messages == chat->capacity) {
        free(copy);
        terminal_error("no memory for the conversation");
        return STATUS_FAILED;
    }
    chat->messages[chat->n_messages++] = (infer_message){.role = role, .content = copy};
    return STATUS_OK;
}

static void drop_last(struct chat *chat)
{
    free((char *)chat->messages[--chat->n_messages].content);
}

/* Back to the system message, if there is one. */
static void clear(struct chat *chat)
{
    while (chat->n_messages > (chat->system ? 1 : 0))
        drop_last(chat);
}

static int print_answer(const infer_request *request, infer_finish finish,
                        const struct buffer *answer)
{
    struct json_out json = {0};
    infer_request_info info = {.struct_size = sizeof info};
    if (infer_request_get_info(request, &info) != INFER_OK)
        return host_failed();
    json_open(&json, NULL, '{');
    json_text(&json, "text", answer->data, answer->size);
    json_string(&json, "finish_reason", host_finish_name(finish));
    json_int(&json, "prompt_tokens", info.n_prompt_tokens);
    json_int(&json, "cached_tokens", info.n_cached_tokens);
    json_int(&json, "tokens", info.n_generated_tokens);
    if (info.n_drafted_tokens) {
        json_int(&json, "drafted_tokens", info.n_drafted_tokens);
        json_int(&json, "accepted_tokens", info.n_accepted_tokens);
    }
    json_close(&json, '}');
    return json_print(&json);
}

/* Streams the answer to what was said last and collects it for the history. */
static int stream(struct chat *chat, infer_request *request, struct buffer *answer)
{
    infer_event event = {.struct_size = sizeof event};
    infer_finish finish = INFER_FINISH_NONE;
    infer_status status;
    while ((status = infer_request_next(request, &event)) == INFER_OK) {
        buffer_append(answer, event.text, event.text_size);
        if (event.type == INFER_EVENT_FINISH)
            finish = event.finish;
        if (!chat->as_json) {
            fwrite(event.text, 1, event.text_size, stdout);
            fflush(stdout);
        }
        if (interrupted || ferror(stdout))
            infer_request_cancel(request);
    }
    if (!chat->as_json) {
        putchar('\n');
        fflush(stdout); /* whoever is on the other side of a pipe waits for the line */
    }
    if (status != INFER_DONE)
        return host_failed();
    if (finish == INFER_FINISH_CONTEXT)
        terminal_error("the answer was cut: the context is full (/clear starts anew)");
    return chat->as_json ? print_answer(request, finish, answer) : STATUS_OK;
}

static int answer(struct chat *chat, const char *line)
{
    infer_request_options options = {.struct_size = sizeof options};
    infer_request *request = NULL;
    struct buffer text = {0};
    int status = append(chat, "user", line);
    if (status != STATUS_OK)
        return status;
    interrupted = 0;
    options.messages = chat->messages;
    options.n_messages = chat->n_messages;
    options.context = chat->context.data;
    options.sampling = &chat->sampling;
    options.max_tokens = chat->max_tokens;
    options.grammar = chat->grammar;
    speculate_request(&chat->host.speculate, &options);
    if (infer_session_submit(&request, chat->host.session, &options) != INFER_OK)
        status = host_failed();
    else
        status = stream(chat, request, &text);
    infer_request_destroy(&request);
    if (status == STATUS_OK)
        status = append(chat, "assistant", text.data);
    if (status != STATUS_OK)
        drop_last(chat); /* a question without an answer would confuse the template */
    buffer_free(&text);
    return status;
}

/* One line of input. Returns 0 at the end of the input. */
static int read_line(const struct chat *chat, char **line, size_t *capacity)
{
    ssize_t n;
    interrupted = 0;
    if (chat->interactive) {
        int colours = terminal_colours(stdout);
        printf("%s> %s", colours ? "\033[1m" : "", colours ? "\033[0m" : "");
        fflush(stdout);
    }
    n = getline(line, capacity, stdin);
    if (n < 0) {
        if (chat->interactive)
            putchar('\n');
        return 0;
    }
    while (n > 0 && ((*line)[n - 1] == '\n' || (*line)[n - 1] == '\r'))
        (*line)[--n] = 0;
    return 1;
}

/* On a terminal a failed turn is told and the conversation goes on; in a pipe
 * nobody could react, so it ends. */
static int converse(struct chat *chat)
{
    char *line = NULL;
    size_t capacity = 0;
    int status = STATUS_OK;
    if (chat->interactive)
        puts("/clear forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer.");
    while (status == STATUS_OK && !ferror(stdout) && read_line(chat, &line, &capacity)) {
        if (strcmp(line, "/exit") == 0)
            break;
        if (strcmp(line, "/clear") == 0)
            clear(chat);
        else if (*line) {
            if (chat->echo)
                printf("> %s\n", line);
            status = answer(chat, line);
        }
        if (chat->interactive)
            status = STATUS_OK;
    }
    free(line);
    return status;
}

static int is_name(const char *text, size_t size)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return size > 0 && strspn(text, letters) >= size;
}

/* Tools and variables as the JSON object that goes along with every turn. */
static int make_context(struct chat *chat)
{
    struct json_out json = {0};
    struct buffer tools = {0};
    int status = STATUS_OK;
    if (!chat->tools && chat->variables.n == 0)
        return STATUS_OK;
    json_open(&json, NULL, '{');
    if (chat->tools && buffer_read(&tools, chat->tools) != 0)
        status = STATUS_FAILED;
    else if (chat->tools)
        json_raw(&json, "tools", tools.data, tools.size);
    for (size_t i = 0; i < chat->variables.n && status == STATUS_OK; i++) {
        const char *item = chat->variables.items[i], *equals = strchr(item, '=');
        if (!equals || !is_name(item, (size_t)(equals - item))) {
            status = args_wrong("chat", "--set is \"%s\", expected NAME=JSON", item);
            break;
        }
        char *name = strndup(item, (size_t)(equals - item));
        json_raw(&json, name ? name : "", equals + 1, strlen(equals + 1));
        json.buffer.failed |= !name;
        free(name);
    }
    json_close(&json, '}');
    if (status == STATUS_OK && json.buffer.failed) {
        terminal_error("no memory for the tools");
        status = STATUS_FAILED;
    }
    buffer_free(&tools);
    chat->context = json.buffer;
    return status;
}

static int work(struct chat *chat)
{
    int status = speculate_check(&chat->host.speculate, "chat");
    if (status == STATUS_OK)
        status = make_context(chat);
    if (status == STATUS_OK)
        status = grammar_resolve(&chat->grammar_args, "chat", &chat->grammar);
    if (status == STATUS_OK)
        status = host_open(&chat->host, 0);
    if (status == STATUS_OK)
        status = host_open_session(&chat->host, NULL);
    if (status == STATUS_OK)
        status = sampling_resolve(&chat->sampling_args, chat->host.model, &chat->sampling);
    if (status == STATUS_OK && chat->system)
        status = append(chat, "system", chat->system);
    if (status != STATUS_OK)
        return status;
    chat->echo = chat->echo && !chat->as_json;
    chat->interactive = !chat->as_json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    catch_interrupts();
    return converse(chat);
}

int command_chat(int argc, char **argv)
{
    struct chat chat = {0};
    const struct args_option options[] = {
        HOST_RUN_OPTIONS(chat.host),
        ARGS_ROW_MIN(ARGS_COUNT, "--context", "N", chat.host.want.context, 1,
                     "tokens that the conversation may span (default: the model's)"),
        ARGS_ROW(ARGS_TEXT, "--system", "TEXT", chat.system, "what the model shall know or be"),
        ARGS_ROW(ARGS_TEXT, "--tools", "FILE", chat.tools, "tools the model may call, a JSON list"),
        ARGS_ROW(ARGS_LIST, "--set", "NAME=JSON", chat.variables,
                 "a variable of the chat template, such as enable_thinking=false"),
        ARGS_ROW(ARGS_COUNT, "--max-tokens", "N", chat.max_tokens,
                 "stop each answer after N tokens (0: when the model ends)"),
        SAMPLING_OPTIONS(chat.sampling_args),
        GRAMMAR_OPTIONS(chat.grammar_args),
        SPECULATE_OPTIONS(chat.host.speculate),
        ARGS_ROW(ARGS_FLAG, "--echo", NULL, chat.echo,
                 "repeat each line, for transcripts of pipes"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, chat.as_json, "one JSON object a line per answer"),
    };
    const struct args_command command = {
        "chat",
        "Reads lines from stdin and streams an answer to each. /clear forgets the\n"
        "conversation, /exit or the end of the input leaves, Ctrl-C stops an answer.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = work(&chat);
    while (chat.n_messages > 0)
        drop_last(&chat);
    free(chat.messages);
    buffer_free(&chat.context);
    infer_grammar_destroy(&chat.grammar);
    host_close(&chat.host);
    return status;
}
