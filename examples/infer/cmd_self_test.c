/* infer self-test: whether the model gives the same answer in every way here. */
#include "command.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"

#include <stdio.h>

struct self_test {
    struct host host;
    int64_t prompt, gen, batch, budget_mib, seconds;
    int as_json;
    infer_self_test_report report;
};

static const char *state_name(infer_check_state state)
{
    return state == INFER_CHECK_PASSED   ? "passed"
           : state == INFER_CHECK_FAILED ? "FAILED"
                                         : "skipped";
}

static infer_status run(struct self_test *t)
{
    struct terminal_bar bar = {0};
    infer_self_test_options options = {.struct_size = sizeof options};
    options.progress = terminal_progress;
    options.progress_user_data = &bar;
    options.n_prompt_tokens = (int32_t)t->prompt;
    options.n_tokens = (int32_t)t->gen;
    options.max_batch = (int32_t)t->batch;
    options.budget_bytes = (uint64_t)t->budget_mib << 20;
    options.time_limit_ns = (uint64_t)t->seconds * 1000000000u;
    options.kv_type = t->host.kv_type;
    t->report.struct_size = sizeof t->report;
    infer_status status = infer_model_self_test(&t->report, t->host.model, &options);
    terminal_bar_clear(&bar);
    return status;
}

static void print_table(const infer_self_test_report *r)
{
    for (int32_t i = 0; i < r->n_checks; i++) {
        const infer_check_result *c = &r->checks[i];
        printf("%-12s %s", c->name, state_name(c->state));
        if (*c->reason)
            printf(": %s\n", c->reason);
        else
            printf("  %d tokens, %.1f ms\n", (int)c->n_compared, (double)c->time_ns * 1e-6);
    }
    printf(
        "%d passed, %d failed, %d skipped; %d + %d tokens, up to %d requests in a step, %.1f MiB\n",
        (int)r->n_passed, (int)r->n_failed, (int)r->n_skipped, (int)r->n_prompt_tokens,
        (int)r->n_tokens, (int)r->batch, (double)r->peak_bytes / (1 << 20));
}

static int print_json(const infer_self_test_report *r)
{
    struct json_out json = {0};
    json_open(&json, NULL, '{');
    json_int(&json, "passed", r->n_passed);
    json_int(&json, "failed", r->n_failed);
    json_int(&json, "skipped", r->n_skipped);
    json_int(&json, "prompt_tokens", r->n_prompt_tokens);
    json_int(&json, "tokens", r->n_tokens);
    json_int(&json, "batch", r->batch);
    json_uint(&json, "peak_bytes", r->peak_bytes);
    json_open(&json, "checks", '[');
    for (int32_t i = 0; i < r->n_checks; i++) {
        json_open(&json, NULL, '{');
        json_string(&json, "name", r->checks[i].name);
        json_string(&json, "state", state_name(r->checks[i].state));
        json_string(&json, "reason", r->checks[i].reason);
        json_int(&json, "compared", r->checks[i].n_compared);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_close(&json, '}');
    return json_print(&json);
}

int command_self_test(int argc, char **argv)
{
    struct self_test t = {0};
    const struct args_option options[] = {
        HOST_MODEL_OPTIONS(t.host),
        HOST_KV_OPTION(t.host),
        ARGS_ROW_MIN(ARGS_COUNT, "--threads", "N", t.host.threads, 1,
                     "CPU threads (default: one per core)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--prompt", "N", t.prompt, 1, "tokens of the prompt (100)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--gen", "N", t.gen, 1, "tokens of the answer (16)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--batch", "N", t.batch, 2, "requests in a step (64)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--budget", "MIB", t.budget_mib, 1,
                     "memory beside the weights at most (1024)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--seconds", "N", t.seconds, 1,
                     "skip what is not done by then (no limit)"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, t.as_json, "everything as one JSON object"),
    };
    const struct args_command command = {
        "self-test",
        "Computes one request alone, in chunks, on other threads, cached, forked, preempted,\n"
        "drafted and in a batch, and compares every logit to the last bit.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    int status = host_open(&t.host, 0);
    if (status == STATUS_OK) {
        infer_status result = run(&t);
        if (!t.as_json && t.report.n_checks)
            print_table(&t.report);
        if (result != INFER_OK)
            status = host_failed();
        else if (t.as_json)
            status = print_json(&t.report);
    }
    host_close(&t.host);
    return status;
}
