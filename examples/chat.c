/* A conversation of several turns: the history goes along as messages, and the
 * model's own template turns it into a prompt.  chat MODEL < lines */
#include <infer/infer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TURNS 64

struct chat {
    infer_session *session;
    infer_message messages[2 * MAX_TURNS];
    size_t n_messages;
};

static int append(struct chat *chat, const char *role, const char *content, size_t size)
{
    char *copy = malloc(size + 1);
    if (!copy)
        return -1;
    memcpy(copy, content, size);
    copy[size] = 0;
    chat->messages[chat->n_messages++] = (infer_message){.role = role, .content = copy};
    return 0;
}

/* Adds text to the answer so far, which is a string on the heap. */
static int extend(char **answer, size_t *size, const infer_event *event)
{
    char *longer = realloc(*answer, *size + event->text_size + 1);
    if (!longer)
        return -1;
    memcpy(longer + *size, event->text, event->text_size);
    *answer = longer;
    *size += event->text_size;
    longer[*size] = 0;
    return 0;
}

/* One turn: the question is the last message already; the answer becomes the next. */
static int turn(struct chat *chat)
{
    infer_request_options options = {.struct_size = sizeof options};
    infer_event event = {.struct_size = sizeof event};
    infer_request *request = NULL;
    char *answer = NULL;
    size_t size = 0;
    infer_status status;
    options.messages = chat->messages;
    options.n_messages = chat->n_messages;
    status = infer_session_submit(&request, chat->session, &options);
    while (status == INFER_OK && (status = infer_request_next(request, &event)) == INFER_OK) {
        fwrite(event.text, 1, event.text_size, stdout);
        fflush(stdout);
        if (extend(&answer, &size, &event) != 0)
            break;
    }
    puts("");
    infer_request_destroy(&request);
    if (status == INFER_DONE && answer && append(chat, "assistant", answer, size) != 0)
        status = INFER_ERR_NO_MEMORY;
    free(answer);
    return status == INFER_DONE ? 0 : -1;
}

static int converse(struct chat *chat)
{
    char line[4096];
    while (chat->n_messages < 2 * MAX_TURNS && fgets(line, sizeof line, stdin)) {
        size_t size = strcspn(line, "\n");
        if (size == 0)
            continue;
        if (append(chat, "user", line, size) != 0 || turn(chat) != 0)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct chat chat;
    infer_model *model = NULL;
    int failed = 1;
    if (argc != 2) {
        fprintf(stderr, "usage: chat MODEL\n");
        return 2;
    }
    if (infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_session_create(&chat.session, model, NULL) == 0)
        failed = converse(&chat);
    if (failed)
        fprintf(stderr, "%s\n", infer_last_error());
    while (chat.n_messages > 0)
        free((char *)chat.messages[--chat.n_messages].content);
    infer_session_destroy(&chat.session);
    infer_model_destroy(&model);
    return failed ? 1 : 0;
}
