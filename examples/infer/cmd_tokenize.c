/* infer tokenize and infer detokenize: text to ids and back. A file that holds a
 * vocabulary alone is enough. */
#include "buffer.h"
#include "command.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"
#include "tokens.h"

#include <stdio.h>
#include <stdlib.h>

struct tokenize {
    struct host host;
    const char *text, *file;
    int no_special, special, as_json;
    struct buffer input;
    struct tokens tokens;
};

static int print_tokens(const struct tokens *tokens, int as_json)
{
    struct json_out json = {0};
    if (!as_json) {
        for (size_t i = 0; i < tokens->n; i++)
            printf("%s%d", i ? " " : "", (int)tokens->ids[i]);
        putchar('\n');
        return STATUS_OK;
    }
    json_open(&json, NULL, '{');
    json_tokens(&json, "tokens", tokens->ids, tokens->n);
    json_close(&json, '}');
    return json_print(&json);
}

static int tokenize(struct tokenize *job)
{
    infer_encode_options options = {.struct_size = sizeof options};
    int status;
    if (!job->text == !job->file)
        return args_wrong("tokenize", "one of --text and --file is needed");
    if (job->text)
        buffer_append_text(&job->input, job->text);
    else if (buffer_read(&job->input, job->file) != 0)
        return STATUS_FAILED;
    options.disable_bos_eos = job->no_special;
    options.parse_special = job->special;
    status = host_open(&job->host, 1);
    if (status == STATUS_OK)
        status = tokens_encode(&job->tokens, job->host.model, job->input.data, job->input.size,
                               &options);
    return status == STATUS_OK ? print_tokens(&job->tokens, job->as_json) : status;
}

int command_tokenize(int argc, char **argv)
{
    struct tokenize job = {0};
    const struct args_option options[] = {
        HOST_MODEL_OPTIONS(job.host),
        ARGS_ROW(ARGS_TEXT, "--text", "TEXT", job.text, "the text"),
        ARGS_ROW(ARGS_TEXT, "--file", "FILE", job.file, "the text from a file, - for stdin"),
        ARGS_ROW(ARGS_FLAG, "--no-special", NULL, job.no_special, "add neither BOS nor EOS"),
        ARGS_ROW(ARGS_FLAG, "--special", NULL, job.special,
                 "control tokens written in the text are meant"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, job.as_json, "{\"tokens\":[...]}"),
    };
    const struct args_command command = {"tokenize", "Prints the token ids of a text.", options,
                                         sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = tokenize(&job);
    host_close(&job.host);
    tokens_free(&job.tokens);
    buffer_free(&job.input);
    return status;
}

struct detokenize {
    struct host host;
    const char *ids;
    int special, as_json;
    struct tokens tokens;
    char *text;
    size_t size;
};

static int decode(struct detokenize *job)
{
    const infer_tokenizer *tokenizer = infer_model_tokenizer(job->host.model);
    infer_decode_options options = {.struct_size = sizeof options};
    options.show_special = job->special;
    if (infer_tokenizer_decode(tokenizer, job->tokens.ids, job->tokens.n, &options, NULL,
                               &job->size) != INFER_OK)
        return host_failed();
    job->text = malloc(job->size + 1);
    if (!job->text) {
        terminal_error("no memory for %zu bytes of text", job->size);
        return STATUS_FAILED;
    }
    if (infer_tokenizer_decode(tokenizer, job->tokens.ids, job->tokens.n, &options, job->text,
                               &job->size) != INFER_OK)
        return host_failed();
    return STATUS_OK;
}

static int print_text(const struct detokenize *job)
{
    struct json_out json = {0};
    if (!job->as_json) {
        fwrite(job->text, 1, job->size, stdout);
        putchar('\n');
        return STATUS_OK;
    }
    json_open(&json, NULL, '{');
    json_text(&json, "text", job->text, job->size);
    json_close(&json, '}');
    return json_print(&json);
}

static int detokenize(struct detokenize *job)
{
    int status = tokens_parse(&job->tokens, "detokenize", "--ids", job->ids);
    if (status == STATUS_OK)
        status = host_open(&job->host, 1);
    if (status == STATUS_OK)
        status = decode(job);
    return status == STATUS_OK ? print_text(job) : status;
}

int command_detokenize(int argc, char **argv)
{
    struct detokenize job = {0};
    const struct args_option options[] = {
        HOST_MODEL_OPTIONS(job.host),
        ARGS_ROW_REQUIRED("--ids", "IDS", job.ids, "token ids, such as \"1,2,3\""),
        ARGS_ROW(ARGS_FLAG, "--special", NULL, job.special, "show control tokens by name"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, job.as_json, "{\"text\":\"...\"}"),
    };
    const struct args_command command = {"detokenize", "Prints the text of token ids.", options,
                                         sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = detokenize(&job);
    host_close(&job.host);
    tokens_free(&job.tokens);
    free(job.text);
    return status;
}
