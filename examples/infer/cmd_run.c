/* infer run: continue one prompt, as streamed text or as one JSON object. */
#include "adapter_arg.h"
#include "buffer.h"
#include "command.h"
#include "grammar_args.h"
#include "host.h"
#include "json_out.h"
#include "sampling_args.h"
#include "terminal.h"
#include "tokens.h"

#include <stdio.h>
#include <stdlib.h>

struct run {
    struct host host;
    struct sampling_args sampling;
    struct grammar_args grammar_args;
    infer_grammar *grammar;
    struct args_list stop;
    const char *prompt, *prompt_file, *prompt_ids, *adapter_path;
    infer_adapter *adapter;
    float adapter_scale;
    int64_t max_tokens;
    int ignore_eos, special, timing, as_json;
    struct tokens ids;       /* of --prompt-ids */
    struct buffer file;      /* of --prompt-file */
    infer_request *request;  /* owns the prompt's tokens */
    struct buffer text;      /* generated, for JSON */
    struct json_out tokens;  /* generated: the elements of "tokens" */
    struct json_out chances; /* and of "logprobs" */
    infer_finish finish;
};

static enum args_result parse(struct run *run, int argc, char **argv)
{
    const struct args_option options[] = {
        HOST_RUN_OPTIONS(run->host),
        ARGS_ROW_MIN(ARGS_COUNT, "--context", "N", run->host.want.context, 1,
                     "tokens that prompt and answer may span (default: the model's)"),
        ARGS_ROW(ARGS_TEXT, "--adapter", "PATH[=SCALE]", run->adapter_path,
                 "a LoRA adapter: PEFT folder or GGUF file"),
        ARGS_ROW(ARGS_TEXT, "--prompt", "TEXT", run->prompt,
                 "the prompt; BOS is added as the model says"),
        ARGS_ROW(ARGS_TEXT, "--prompt-file", "FILE", run->prompt_file,
                 "the prompt from a file, - for stdin"),
        ARGS_ROW(ARGS_TEXT, "--prompt-ids", "IDS", run->prompt_ids,
                 "the prompt as token ids, taken as they are"),
        ARGS_ROW(ARGS_FLAG, "--special", NULL, run->special,
                 "control tokens written in the prompt are meant"),
        ARGS_ROW(ARGS_COUNT, "--max-tokens", "N", run->max_tokens,
                 "stop after N tokens (0: when the model ends)"),
        ARGS_ROW(ARGS_LIST, "--stop", "TEXT", run->stop, "end before this text; may be repeated"),
        ARGS_ROW(ARGS_FLAG, "--ignore-eos", NULL, run->ignore_eos,
                 "end tokens do not end the text"),
        SAMPLING_OPTIONS(run->sampling),
        GRAMMAR_OPTIONS(run->grammar_args),
        SPECULATE_OPTIONS(run->host.speculate),
        ARGS_ROW(ARGS_FLAG, "--timing", NULL, run->timing, "times and token counts on stderr"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, run->as_json,
                 "one JSON object instead of streamed text"),
    };
    const struct args_command command = {
        "run", "Continues a prompt until the model ends, a limit or a stop text.", options,
        sizeof options / sizeof options[0]};
    return args_parse(&command, argc, argv);
}

/* Exactly one source of the prompt; files and ids are read here, before the model. */
static int read_prompt(struct run *run)
{
    int n = (run->prompt != NULL) + (run->prompt_file != NULL) + (run->prompt_ids != NULL);
    if (n != 1)
        return args_wrong("run", "one of --prompt, --prompt-file and --prompt-ids is needed");
    if (run->prompt_ids)
        return tokens_parse(&run->ids, "run", "--prompt-ids", run->prompt_ids);
    if (run->prompt_file)
        return buffer_read(&run->file, run->prompt_file) == 0 ? STATUS_OK : STATUS_FAILED;
    buffer_append_text(&run->file, run->prompt);
    return STATUS_OK;
}

static int submit(struct run *run)
{
    infer_request_options options = {.struct_size = sizeof options};
    infer_sampling sampling;
    if (sampling_resolve(&run->sampling, run->host.model, &sampling) != STATUS_OK)
        return STATUS_FAILED;
    if (run->prompt_ids) {
        options.tokens = run->ids.ids;
        options.n_tokens = run->ids.n;
    } else {
        options.prompt = run->file.data;
        options.prompt_size = run->file.size;
    }
    options.sampling = &sampling;
    options.stop = run->stop.items;
    options.n_stop = run->stop.n;
    options.max_tokens = run->max_tokens;
    options.ignore_eos = run->ignore_eos;
    options.parse_special = run->special;
    options.logprobs = run->as_json;
    speculate_request(&run->host.speculate, &options);
    options.adapter = run->adapter;
    options.adapter_scale = run->adapter_scale;
    options.grammar = run->grammar;
    if (infer_session_submit(&run->request, run->host.session, &options) != INFER_OK)
        return host_failed();
    return STATUS_OK;
}

static void take_event(struct run *run, const infer_event *event)
{
    if (event->type == INFER_EVENT_FINISH)
        run->finish = event->finish;
    if (!run->as_json) {
        fwrite(event->text, 1, event->text_size, stdout);
        fflush(stdout);
        if (ferror(stdout)) /* nobody reads on: no need to go on */
            infer_request_cancel(run->request);
        return;
    }
    buffer_append(&run->text, event->text, event->text_size);
    if (event->type == INFER_EVENT_TOKEN) {
        json_int(&run->tokens, NULL, event->token);
        json_float(&run->chances, NULL, event->logprob);
    }
}

static int generate(struct run *run)
{
    infer_event event = {.struct_size = sizeof event};
    infer_status status;
    while ((status = infer_request_next(run->request, &event)) == INFER_OK)
        take_event(run, &event);
    if (!run->as_json)
        putchar('\n');
    return status == INFER_DONE ? STATUS_OK : host_failed();
}

static void splice(struct json_out *json, const char *key, struct json_out *elements)
{
    json_open(json, key, '[');
    buffer_append(&json->buffer, elements->buffer.data, elements->buffer.size);
    json->buffer.failed |= elements->buffer.failed;
    json_close(json, ']');
}

static int print_json(struct run *run)
{
    struct json_out json = {0};
    infer_request_info info = {.struct_size = sizeof info};
    const infer_token *prompt;
    size_t n = 0;
    if (infer_request_get_info(run->request, &info) != INFER_OK)
        return host_failed();
    prompt = infer_request_prompt(run->request, &n);
    json_open(&json, NULL, '{');
    json_tokens(&json, "prompt_tokens", prompt, n);
    splice(&json, "tokens", &run->tokens);
    json_text(&json, "text", run->text.data, run->text.size);
    json.buffer.failed |= run->text.failed;
    json_string(&json, "finish_reason", host_finish_name(run->finish));
    json_int(&json, "cached_tokens", info.n_cached_tokens);
    if (run->host.speculate.kind) {
        json_int(&json, "drafted_tokens", info.n_drafted_tokens);
        json_int(&json, "accepted_tokens", info.n_accepted_tokens);
    }
    splice(&json, "logprobs", &run->chances);
    json_close(&json, '}');
    return json_print(&json);
}

static void print_timing(const infer_request *request)
{
    infer_request_info info = {.struct_size = sizeof info};
    if (infer_request_get_info(request, &info) != INFER_OK)
        return;
    fprintf(stderr, "prompt: %lld tokens (%lld cached) in %.1f ms; generated: %lld in %.1f ms\n",
            (long long)info.n_prompt_tokens, (long long)info.n_cached_tokens,
            (double)info.prefill_ns / 1e6, (long long)info.n_generated_tokens,
            (double)info.decode_ns / 1e6);
    if (info.n_drafted_tokens)
        fprintf(stderr, "drafted: %lld tokens, %lld right\n", (long long)info.n_drafted_tokens,
                (long long)info.n_accepted_tokens);
}

static int work(struct run *run)
{
    int status = speculate_check(&run->host.speculate, "run");
    if (status == STATUS_OK)
        status = read_prompt(run);
    if (status == STATUS_OK)
        status = grammar_resolve(&run->grammar_args, "run", &run->grammar);
    if (status == STATUS_OK)
        status = host_open(&run->host, 0);
    if (status == STATUS_OK)
        status = adapter_open(&run->adapter, &run->adapter_scale, run->host.model, "run",
                              run->adapter_path);
    if (status == STATUS_OK)
        status = host_open_session(&run->host, NULL);
    if (status == STATUS_OK)
        status = submit(run);
    if (status == STATUS_OK)
        status = generate(run);
    if (status == STATUS_OK && run->as_json)
        status = print_json(run);
    if (status == STATUS_OK && run->timing)
        print_timing(run->request);
    return status;
}

int command_run(int argc, char **argv)
{
    struct run run = {0};
    enum args_result parsed = parse(&run, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = work(&run);
    infer_request_destroy(&run.request);
    infer_adapter_destroy(&run.adapter);
    infer_grammar_destroy(&run.grammar);
    host_close(&run.host);
    tokens_free(&run.ids);
    buffer_free(&run.file);
    buffer_free(&run.text);
    buffer_free(&run.tokens.buffer);
    buffer_free(&run.chances.buffer);
    return status;
}
