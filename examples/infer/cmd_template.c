/* infer template: a conversation as the model will read it, byte for byte. */
#include "buffer.h"
#include "command.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"

#include <stdio.h>
#include <stdlib.h>

struct template
{
    struct host host;
    const char *template_path, *context_path;
    struct buffer source, context;
    int as_json;
};

static infer_status render(const struct template *t, char *text, size_t *size)
{
    const struct buffer *c = &t->context;
    if (t->host.model)
        return infer_model_render_context(t->host.model, c->data, c->size, text, size);
    return infer_template_render(t->source.data, t->source.size, c->data, c->size, NULL, text,
                                 size);
}

static int print(const struct template *t, const char *text, size_t size)
{
    struct json_out json = {0};
    if (!t->as_json) {
        fwrite(text, 1, size, stdout);
        return STATUS_OK;
    }
    json_open(&json, NULL, '{');
    json_text(&json, "text", text, size);
    json_close(&json, '}');
    return json_print(&json);
}

static int render_and_print(const struct template *t)
{
    size_t size = 0;
    if (render(t, NULL, &size) != INFER_OK)
        return host_failed();
    char *text = malloc(size + 1);
    if (!text) {
        terminal_error("no memory for the text");
        return STATUS_FAILED;
    }
    size++;
    int status = render(t, text, &size) == INFER_OK ? print(t, text, size) : host_failed();
    free(text);
    return status;
}

static int work(struct template *t)
{
    if (!t->host.path == !t->template_path)
        return args_wrong("template", "one of --model and --template is needed");
    if (buffer_read(&t->context, t->context_path) != 0)
        return STATUS_FAILED;
    int status = STATUS_OK;
    if (t->host.path)
        status = host_open(&t->host, 1);
    else if (buffer_read(&t->source, t->template_path) != 0)
        status = STATUS_FAILED;
    return status == STATUS_OK ? render_and_print(t) : status;
}

int command_template(int argc, char **argv)
{
    struct template t = {0};
    const struct args_option options[] = {
        ARGS_ROW(ARGS_TEXT, "--model", "MODEL", t.host.path, "the model whose template it is"),
        ARGS_ROW(ARGS_TEXT, "--template", "FILE", t.template_path, "a template (Jinja) instead"),
        ARGS_ROW_REQUIRED("--context", "FILE", t.context_path,
                          "JSON object of the template's variables, - for stdin"),
        ARGS_ROW(ARGS_FLAG, "--verbose", NULL, t.host.verbose, "say on stderr what is chosen"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, t.as_json, "the text as one JSON object"),
    };
    const struct args_command command = {
        .name = "template",
        .summary = "Renders a conversation with a chat template and prints it, byte for byte.\n"
                   "The context holds messages, tools, documents, add_generation_prompt,\n"
                   "bos_token, eos_token, strftime_now and what else the template knows.",
        .options = options,
        .n_options = sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    int status = work(&t);
    host_close(&t.host);
    buffer_free(&t.source);
    buffer_free(&t.context);
    return status;
}
