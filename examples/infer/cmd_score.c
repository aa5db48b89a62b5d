/* infer score: the perplexity of a text. The text is cut into windows, each a
 * request of its own that starts afresh (with BOS where the model wants it), and
 * every next token inside a window is scored. A rest shorter than a window is
 * left out, unless it is all there is. */
#include "buffer.h"
#include "command.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"
#include "tokens.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_FLIGHT      32 /* windows that the session may batch together */
#define DEFAULT_WINDOW 512

struct score {
    struct host host;
    const char *file;
    int64_t window, max_tokens;
    int special, as_json;
    struct buffer text;
    struct tokens tokens;
    infer_token bos;   /* first of every window, or -1 */
    size_t per_window; /* tokens of the text in a window */
    size_t n_windows;
    infer_token *scratch;               /* the tokens of one window */
    infer_request *requests[IN_FLIGHT]; /* window w is in slot w % IN_FLIGHT */
    double nll;
    size_t n_scored;
};

/* The model's context, but at most DEFAULT_WINDOW, where no window is given. */
static int choose_window(struct score *score)
{
    infer_model_info info = {.struct_size = sizeof info};
    if (infer_model_get_info(score->host.model, &info) != INFER_OK)
        return host_failed();
    if (score->window == 0)
        score->window = info.n_context < DEFAULT_WINDOW ? info.n_context : DEFAULT_WINDOW;
    if (score->window > info.n_context) {
        terminal_error("--window is %lld, the context of %s is %d", (long long)score->window,
                       score->host.path, (int)info.n_context);
        return STATUS_FAILED;
    }
    score->host.want.context = score->window;
    return STATUS_OK;
}

static int cut(struct score *score)
{
    infer_encode_options options = {
        .struct_size = sizeof options, .disable_bos_eos = 1, .parse_special = score->special};
    infer_tokenizer_info info = {.struct_size = sizeof info};
    const infer_tokenizer *tokenizer = infer_model_tokenizer(score->host.model);
    int status = tokens_encode(&score->tokens, score->host.model, score->text.data,
                               score->text.size, &options);
    if (status != STATUS_OK)
        return status;
    if (infer_tokenizer_get_info(tokenizer, &info) != INFER_OK)
        return host_failed();
    score->bos = info.add_bos ? info.bos : -1;
    if (score->max_tokens > 0 && (uint64_t)score->max_tokens < score->tokens.n)
        score->tokens.n = (size_t)score->max_tokens;
    score->per_window = (size_t)score->window - (score->bos >= 0);
    if (score->tokens.n < score->per_window)
        score->per_window = score->tokens.n;
    if (score->per_window + (score->bos >= 0) < 2) {
        terminal_error("%s has %zu tokens, too few to score", score->file, score->tokens.n);
        return STATUS_FAILED;
    }
    score->n_windows = score->tokens.n / score->per_window;
    score->scratch = malloc((score->per_window + 1) * sizeof *score->scratch);
    if (!score->scratch) {
        terminal_error("no memory for a window");
        return STATUS_FAILED;
    }
    return STATUS_OK;
}

static int submit(struct score *score, size_t window)
{
    infer_request_options options = {.struct_size = sizeof options};
    size_t n = 0;
    if (score->bos >= 0)
        score->scratch[n++] = score->bos;
    memcpy(score->scratch + n, score->tokens.ids + window * score->per_window,
           score->per_window * sizeof *score->scratch);
    options.tokens = score->scratch;
    options.n_tokens = n + score->per_window;
    options.prefill_only = 1;
    options.prompt_logprobs = 1;
    if (infer_session_submit(&score->requests[window % IN_FLIGHT], score->host.session, &options) !=
        INFER_OK)
        return host_failed();
    return STATUS_OK;
}

static int collect(struct score *score, size_t window)
{
    infer_request **request = &score->requests[window % IN_FLIGHT];
    infer_event event = {.struct_size = sizeof event};
    const float *logprobs;
    infer_status status;
    size_t n = 0;
    do
        status = infer_request_next(*request, &event);
    while (status == INFER_OK);
    if (status != INFER_DONE)
        return host_failed();
    logprobs = infer_request_prompt_logprobs(*request, &n);
    for (size_t i = 1; logprobs && i < n; i++)
        score->nll -= (double)logprobs[i];
    score->n_scored += logprobs ? n - 1 : 0;
    infer_request_destroy(request);
    return STATUS_OK;
}

/* Keeps the session full: a window is submitted for each that is collected. */
static int score_windows(struct score *score)
{
    struct terminal_bar bar = {0};
    int status = STATUS_OK;
    for (size_t w = 0; w < score->n_windows + IN_FLIGHT && status == STATUS_OK; w++) {
        if (w >= IN_FLIGHT && w - IN_FLIGHT < score->n_windows) {
            status = collect(score, w - IN_FLIGHT);
            terminal_progress((double)(w - IN_FLIGHT + 1) / (double)score->n_windows, "scoring",
                              &bar);
        }
        if (w < score->n_windows && status == STATUS_OK)
            status = submit(score, w);
    }
    terminal_bar_clear(&bar);
    return status;
}

static int print_score(const struct score *score)
{
    struct json_out json = {0};
    double nll = score->nll / (double)score->n_scored;
    if (!score->as_json) {
        printf("perplexity %.6f  (nll %.6f over %zu tokens, window %lld)\n", exp(nll), nll,
               score->n_scored, (long long)score->window);
        return STATUS_OK;
    }
    json_open(&json, NULL, '{');
    json_int(&json, "window", score->window);
    json_uint(&json, "scored_tokens", score->n_scored);
    json_double(&json, "nll", nll);
    json_double(&json, "perplexity", exp(nll));
    json_close(&json, '}');
    return json_print(&json);
}

static int work(struct score *score)
{
    int status = buffer_read(&score->text, score->file) == 0 ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK)
        status = host_open(&score->host, 0);
    if (status == STATUS_OK)
        status = choose_window(score);
    if (status == STATUS_OK)
        status = cut(score);
    if (status == STATUS_OK)
        status = host_open_session(&score->host, NULL);
    if (status == STATUS_OK)
        status = score_windows(score);
    return status == STATUS_OK ? print_score(score) : status;
}

int command_score(int argc, char **argv)
{
    struct score score = {0};
    const struct args_option options[] = {
        HOST_RUN_OPTIONS(score.host),
        ARGS_ROW_REQUIRED("--file", "FILE", score.file, "the text, - for stdin"),
        ARGS_ROW_MIN(ARGS_COUNT, "--window", "N", score.window, 2,
                     "positions of a window (default: the context, at most 512)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--max-tokens", "N", score.max_tokens, 1,
                     "use the first N tokens of the text (default: all)"),
        ARGS_ROW(ARGS_FLAG, "--special", NULL, score.special,
                 "control tokens written in the text count as such"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, score.as_json,
                 "{\"window\":n,\"scored_tokens\":n,\"nll\":x,\"perplexity\":x}"),
    };
    const struct args_command command = {
        "score",
        "Prints the perplexity of a text: it is cut into windows, and every next token\n"
        "inside a window is scored. A rest shorter than a window is left out.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = work(&score);
    for (size_t i = 0; i < IN_FLIGHT; i++)
        infer_request_destroy(&score.requests[i]);
    host_close(&score.host);
    tokens_free(&score.tokens);
    buffer_free(&score.text);
    free(score.scratch);
    return status;
}
