/* infer batch: requests from lines of JSON, many in flight through one session, results as lines of
 * JSON in the order in which they end. The window of requests in flight is bounded, so memory does
 * not grow with the file. */
#include "adapter_arg.h"
#include "batch_file.h"
#include "batch_flight.h"
#include "batch_line.h"
#include "command.h"
#include "grammar_args.h"
#include "host.h"
#include "line_reader.h"
#include "sampling_args.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX   ((size_t)16 << 20) /* a prompt of a million tokens as ids takes half */
#define DEFAULT_REQUESTS 64
#define STEP_TOKENS      256 /* as the library's default */

struct batch {
    struct host host;
    struct sampling_args sampling;
    struct grammar_args grammar_args;
    const char *in, *out, *adapter_path;
    int64_t max_tokens, kv_tokens;
    int resume, force, timing, as_json;
    infer_kv_cache *cache;
    infer_adapter *adapter;
    infer_grammar *grammar;
    struct batch_defaults defaults;
    struct grammar_cache grammars;
    struct line_reader reader;
    struct batch_file file;
    struct batch_line line; /* read and not yet submitted, where is_pending */
    int is_pending, is_blocked, is_ended;
    struct batch_flight *flights;
    size_t n_flights, n_slots;
    struct terminal_bar bar;
    uint64_t in_bytes, done_bytes; /* of the input: 0 where its size is not known */
    uint64_t n_done, n_failed, n_skipped, n_prompt, n_cached, n_generated;
};

static volatile sig_atomic_t interrupts;

/* The first lets what is in flight end, the second drops it, the third is the system's. */
static void on_interrupt(int signal_number)
{
    interrupts++;
    if (interrupts >= 2)
        signal(signal_number, SIG_DFL);
}

static void catch_interrupts(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt; /* without SA_RESTART: waiting for a line ends */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static enum args_result parse(struct batch *b, int argc, char **argv)
{
    const struct args_option options[] = {
        HOST_RUN_OPTIONS(b->host),
        ARGS_ROW_MIN(ARGS_COUNT, "--context", "N", b->host.want.context, 1,
                     "tokens that prompt and answer may span (default: the model's)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--kv-tokens", "N", b->kv_tokens, 1,
                     "a KV cache of N tokens (default: one context, 16 MiB to 4 GiB)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--max-requests", "N", b->host.want.max_requests, 1,
                     "requests running at once, as many wait (default: 64)"),
        ARGS_ROW(ARGS_TEXT, "--adapter", "PATH[=SCALE]", b->adapter_path,
                 "a LoRA adapter: PEFT folder or GGUF file"),
        ARGS_ROW(ARGS_TEXT, "--in", "FILE", b->in, "the requests (default: -, stdin)"),
        ARGS_ROW(ARGS_TEXT, "--out", "FILE", b->out, "the results (default: -, stdout)"),
        ARGS_ROW(ARGS_FLAG, "--resume", NULL, b->resume,
                 "skip what has a result in the file, and add the others"),
        ARGS_ROW(ARGS_FLAG, "--force", NULL, b->force, "replace the file if it exists"),
        ARGS_ROW(ARGS_COUNT, "--max-tokens", "N", b->max_tokens,
                 "of lines without max_tokens (0: when the model ends)"),
        SAMPLING_OPTIONS(b->sampling),
        GRAMMAR_OPTIONS(b->grammar_args),
        ARGS_ROW(ARGS_FLAG, "--timing", NULL, b->timing, "counts and speed on stderr"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, b->as_json, "JSON lines, the only form there is"),
    };
    const struct args_command command = {
        .name = "batch",
        .summary = "Runs many requests, a line of JSON each, and writes a line of JSON for each\n"
                   "as it ends. Options are what holds where a line says nothing.",
        .options = options,
        .n_options = sizeof options / sizeof options[0]};
    return args_parse(&command, argc, argv);
}

static int open_input(struct batch *b)
{
    struct stat in, out;
    int has_in;
    b->reader = (struct line_reader){.fd = STDIN_FILENO, .limit = LINE_BYTES_MAX};
    if (strcmp(b->in, "-") != 0)
        b->reader.fd = open(b->in, O_RDONLY | O_CLOEXEC);
    if (b->reader.fd < 0) {
        terminal_error("cannot open %s: %s", b->in, strerror(errno));
        return STATUS_FAILED;
    }
    has_in = fstat(b->reader.fd, &in) == 0 && S_ISREG(in.st_mode);
    if (has_in)
        b->in_bytes = (uint64_t)in.st_size;
    if (has_in && strcmp(b->out, "-") != 0 && stat(b->out, &out) == 0 && in.st_dev == out.st_dev &&
        in.st_ino == out.st_ino)
        return args_wrong("batch", "--in and --out are one file");
    return STATUS_OK;
}

/* A cache where its size is asked for, else the session makes one. */
static int open_cache(struct batch *b)
{
    infer_kv_cache_options options = {.struct_size = sizeof options};
    infer_memory_estimate estimate = {.struct_size = sizeof estimate};
    if (b->kv_tokens == 0)
        return STATUS_OK;
    if (infer_model_memory(b->host.model, b->kv_tokens, &estimate) != INFER_OK)
        return host_failed();
    options.budget_bytes = estimate.kv_bytes;
    if (infer_kv_cache_create(&b->cache, b->host.model, &options) != INFER_OK)
        return host_failed();
    return STATUS_OK;
}

static int open_session(struct batch *b)
{
    int64_t *max_requests = &b->host.want.max_requests;
    if (*max_requests == 0)
        *max_requests = DEFAULT_REQUESTS;
    b->host.want.max_queue = *max_requests;
    if (*max_requests > STEP_TOKENS) /* a step needs a token for each */
        b->host.want.step_tokens = *max_requests;
    b->n_slots = 2 * (size_t)*max_requests;
    int status = host_open_session(&b->host, b->cache);
    if (status != STATUS_OK)
        return status;
    b->flights = calloc(b->n_slots, sizeof *b->flights);
    if (!b->flights) {
        terminal_error("no memory for %zu requests", b->n_slots);
        return STATUS_FAILED;
    }
    return STATUS_OK;
}

static int open_all(struct batch *b)
{
    struct batch_defaults *d = &b->defaults;
    int status = open_input(b);
    if (status == STATUS_OK)
        status = grammar_resolve(&b->grammar_args, "batch", &b->grammar);
    if (status == STATUS_OK)
        status = host_open(&b->host, 0);
    if (status == STATUS_OK)
        status =
            adapter_open(&b->adapter, &d->adapter_scale, b->host.model, "batch", b->adapter_path);
    if (status == STATUS_OK)
        status = sampling_resolve(&b->sampling, b->host.model, &d->sampling);
    if (status == STATUS_OK)
        status = open_cache(b);
    if (status == STATUS_OK)
        status = open_session(b);
    d->max_tokens = b->max_tokens;
    d->grammar = b->grammar;
    d->adapter = b->adapter;
    return status == STATUS_OK ? batch_file_open(&b->file, b->out, b->resume, b->force) : status;
}

static void show_progress(struct batch *b, size_t line_bytes)
{
    char stage[64];
    b->done_bytes += line_bytes + 1;
    if (b->in_bytes == 0)
        return;
    snprintf(stage, sizeof stage, "%llu done, %llu failed", (unsigned long long)b->n_done,
             (unsigned long long)b->n_failed);
    terminal_progress((double)b->done_bytes / (double)b->in_bytes, stage, &b->bar);
}

static int write_result(struct batch *b, struct json_out *json)
{
    int status = STATUS_FAILED;
    if (!b->file.is_regular)
        terminal_bar_clear(&b->bar); /* the output may be the same terminal */
    if (json->buffer.failed)
        terminal_error("no memory for a result");
    else
        status = batch_file_write(&b->file, json->buffer.data, json->buffer.size);
    buffer_free(&json->buffer);
    return status;
}

static int write_error(struct batch *b, const struct buffer *id, uint64_t number, size_t line_bytes,
                       const char *error)
{
    struct json_out json = {0};
    int status;
    batch_error_result(id, number, error, &json);
    status = write_result(b, &json);
    b->n_done++;
    b->n_failed++;
    show_progress(b, line_bytes);
    return status;
}

/* A request that ended, failed, or was cancelled by a second signal: that one leaves no line. */
static int land(struct batch *b, struct batch_flight *flight, enum flight_state state)
{
    infer_request_info info = {.struct_size = sizeof info};
    struct json_out json = {0};
    int status;
    if (state == FLIGHT_FAILED)
        return write_error(b, &flight->id, flight->number, flight->bytes,
                           infer_request_error(flight->request));
    if (flight->finish == INFER_FINISH_CANCELLED)
        return STATUS_OK;
    if (infer_request_get_info(flight->request, &info) != INFER_OK)
        return host_failed();
    batch_flight_result(flight, &info, &json);
    status = write_result(b, &json);
    b->n_done++;
    b->n_prompt += (uint64_t)info.n_prompt_tokens;
    b->n_cached += (uint64_t)info.n_cached_tokens;
    b->n_generated += (uint64_t)info.n_generated_tokens;
    show_progress(b, flight->bytes);
    return status;
}

static int collect(struct batch *b)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < b->n_flights && status == STATUS_OK;) {
        struct batch_flight *flight = &b->flights[i];
        enum flight_state state = batch_flight_poll(flight);
        if (state == FLIGHT_RUNS) {
            i++;
            continue;
        }
        status = land(b, flight, state);
        batch_flight_free(flight);
        *flight = b->flights[--b->n_flights];
        memset(&b->flights[b->n_flights], 0, sizeof *flight);
        b->is_blocked = 0;
    }
    return status;
}

static void drop_pending(struct batch *b)
{
    batch_line_free(&b->line);
    b->is_pending = 0;
}

static int submit(struct batch *b)
{
    struct batch_flight *flight = &b->flights[b->n_flights];
    const infer_request_options *options = &b->line.options;
    infer_status st = infer_session_submit(&flight->request, b->host.session, options);
    int status = STATUS_OK;
    if (st != INFER_OK && infer_status_retryable(st) && b->n_flights > 0) {
        b->is_blocked = 1; /* until one in flight has ended: the line stays */
        return STATUS_OK;
    }
    if (st == INFER_OK) {
        flight->id = b->line.id;
        b->line.id = (struct buffer){0};
        flight->number = b->reader.number;
        flight->bytes = b->reader.size;
        flight->want_logprobs = options->logprobs;
        flight->want_top = options->n_top_logprobs > 0;
        flight->want_prompt = options->prompt_logprobs;
        b->n_flights++;
    } else {
        status = write_error(b, &b->line.id, b->reader.number, b->reader.size, infer_last_error());
    }
    drop_pending(b);
    return status;
}

/* The line that was read: skipped, refused, or pending. */
static int take_line(struct batch *b, enum line_result result)
{
    struct line_reader *r = &b->reader;
    int bad;
    if (result == LINE_READ && strspn(r->text, " \t\r") == r->size) { /* empty */
        b->done_bytes += r->size + 1;
        return STATUS_OK;
    }
    bad = result == LINE_TOO_LONG;
    if (bad) {
        b->line = (struct batch_line){0};
        snprintf(b->line.error, sizeof b->line.error, "the line is longer than %zu MiB",
                 LINE_BYTES_MAX >> 20);
    } else {
        bad = batch_line_read(&b->line, &b->defaults, &b->grammars, r->text, r->size) != 0;
    }
    b->is_pending = 1;
    if (batch_file_has(&b->file, &b->line.id, r->number)) {
        b->n_skipped++;
        drop_pending(b);
        show_progress(b, r->size);
        return STATUS_OK;
    }
    if (!bad)
        return STATUS_OK;
    int status = write_error(b, &b->line.id, r->number, r->size, b->line.error);
    drop_pending(b);
    return status;
}

/* Submits lines as long as there are some and the window has room. Waits for one only where
 * nothing is in flight. */
static int fill(struct batch *b)
{
    int status = STATUS_OK;
    while (status == STATUS_OK && b->n_flights < b->n_slots && !b->is_blocked && !interrupts) {
        enum line_result result;
        if (b->is_pending) {
            status = submit(b);
            continue;
        }
        result = b->is_ended ? LINE_END : line_reader_next(&b->reader, b->n_flights == 0);
        if (result == LINE_END)
            b->is_ended = 1;
        if (result == LINE_END || result == LINE_LATER)
            break;
        if (result == LINE_FAILED) {
            terminal_error("cannot read %s: %s", b->in, strerror(errno));
            status = STATUS_FAILED;
        } else {
            status = take_line(b, result);
        }
    }
    return status;
}

static int step(struct batch *b)
{
    infer_status st = infer_session_step(b->host.session);
    if (st < 0)
        return host_failed();
    return collect(b);
}

static void cancel_all(struct batch *b)
{
    for (size_t i = 0; i < b->n_flights; i++)
        infer_request_cancel(b->flights[i].request);
}

static int run(struct batch *b)
{
    int status = STATUS_OK;
    catch_interrupts();
    while (status == STATUS_OK) {
        status = fill(b);
        if (interrupts >= 2)
            cancel_all(b);
        if (status == STATUS_OK && b->n_flights > 0)
            status = step(b);
        else if (b->is_ended || interrupts)
            break;
    }
    terminal_bar_clear(&b->bar);
    return status;
}

static void print_timing(const struct batch *b, double seconds)
{
    fprintf(stderr,
            "%llu requests, %llu failed, %llu skipped in %.3f s; prompts: %llu tokens (%llu "
            "cached); generated: %llu, %.1f tokens/s\n",
            (unsigned long long)b->n_done, (unsigned long long)b->n_failed,
            (unsigned long long)b->n_skipped, seconds, (unsigned long long)b->n_prompt,
            (unsigned long long)b->n_cached, (unsigned long long)b->n_generated,
            (double)b->n_generated / seconds);
}

/* The exit status of a run whose lines were all written. */
static int conclude(const struct batch *b)
{
    uint64_t n_failed = b->n_failed + b->file.n_failed;
    if (interrupts) {
        terminal_error("interrupted after %llu results%s", (unsigned long long)b->n_done,
                       b->file.is_regular ? "; --resume goes on" : "");
        return STATUS_FAILED;
    }
    if (n_failed == 0)
        return STATUS_OK;
    terminal_error("%llu of %llu requests failed", (unsigned long long)n_failed,
                   (unsigned long long)(b->n_done + b->file.n_lines));
    return STATUS_FAILED;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void release(struct batch *b)
{
    for (size_t i = 0; i < b->n_flights; i++)
        batch_flight_free(&b->flights[i]);
    free(b->flights);
    if (b->is_pending)
        drop_pending(b);
    line_reader_free(&b->reader);
    if (b->reader.fd > STDERR_FILENO)
        close(b->reader.fd);
    grammar_cache_free(&b->grammars);
    infer_grammar_destroy(&b->grammar);
    infer_adapter_destroy(&b->adapter);
    infer_kv_cache_destroy(&b->cache);
    host_close(&b->host);
}

int command_batch(int argc, char **argv)
{
    struct batch b = {.in = "-", .out = "-", .reader = {.fd = -1}, .file = {.fd = -1}};
    enum args_result parsed = parse(&b, argc, argv);
    int status, closed;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    if (b.resume && b.force)
        return args_wrong("batch", "only one of --resume and --force");
    if (b.resume && strcmp(b.out, "-") == 0)
        return args_wrong("batch", "--resume needs the file: --out FILE");
    status = open_all(&b);
    if (status == STATUS_OK) {
        double begin = now();
        status = run(&b);
        if (b.timing)
            print_timing(&b, now() - begin);
        if (status == STATUS_OK)
            status = conclude(&b);
    }
    closed = batch_file_close(&b.file);
    release(&b);
    return status == STATUS_OK ? closed : status;
}
