/* The Prometheus text: every line parses, histograms are whole, and the numbers add up to what the
 * requests themselves say. Under both sets of names. */
#include "support/engine.h"

#include <ctype.h>

#define N_REQUESTS 12

static char *read_metrics(const infer_session *session)
{
    size_t size = 0;
    assert_int_equal(infer_session_metrics(session, NULL, &size), INFER_OK);
    size_t capacity = size + 1;
    char *text = malloc(capacity);
    assert_int_equal(infer_session_metrics(session, text, &capacity), INFER_OK);
    assert_int_equal(strlen(text), size);
    return text;
}

static const char *skip_name(const char *at)
{
    assert_true(isalpha((unsigned char)*at) || *at == '_' || *at == ':');
    while (isalnum((unsigned char)*at) || *at == '_' || *at == ':')
        at++;
    return at;
}

/* name="value", with \\, \" and \n; up to and with the closing brace. */
static const char *skip_labels(const char *at)
{
    while (*at != '}') {
        at = skip_name(at);
        assert_memory_equal(at, "=\"", 2);
        for (at += 2; *at != '"'; at++) {
            assert_true(*at && *at != '\n');
            if (*at == '\\') {
                at++;
                assert_true(*at == '\\' || *at == '"' || *at == 'n');
            }
        }
        at++;
        assert_true(*at == ',' || *at == '}');
        at += *at == ',';
    }
    return at + 1;
}

/* Text exposition format 0.0.4. Gives back the number of samples. */
static int parse(const char *text)
{
    char typed[128] = "";
    int n = 0;
    for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
        assert_non_null(strchr(at, '\n'));
        if (sscanf(at, "# TYPE %127s", typed) == 1 || strncmp(at, "# HELP ", 7) == 0)
            continue;
        char *after;
        const char *end = skip_name(at);
        assert_memory_equal(at, typed, strlen(typed)); /* samples follow their type */
        if (*end == '{')
            end = skip_labels(end + 1);
        assert_int_equal(*end, ' ');
        strtod(end + 1, &after);
        assert_true(after > end + 1 && *after == '\n');
        n++;
    }
    return n;
}

/* The value of the sample that begins with `name`, and where the next one may be looked for. */
static double value_at(const char *text, const char *name, const char **next)
{
    char line[256];
    snprintf(line, sizeof line, "\n%s", name);
    const char *at = strstr(text, line);
    if (!at)
        fail_msg("no sample %s", name);
    const char *end = strchr(at + 1, '\n');
    *next = end;
    while (end[-1] != ' ')
        end--;
    return strtod(end, NULL);
}

static double value(const char *text, const char *name)
{
    const char *next;
    return value_at(text, name, &next);
}

/* Buckets never fall, the last is the count. Gives back the count and the sum. */
static double check_histogram(const char *text, const char *name, double *sum)
{
    char line[128];
    double last = 0, count;
    snprintf(line, sizeof line, "%s_count", name);
    count = value(text, line);
    snprintf(line, sizeof line, "%s_sum", name);
    *sum = value(text, line);
    snprintf(line, sizeof line, "%s_bucket", name);
    const char *at = text;
    for (int i = 0; i < 23; i++) {
        double v = value_at(at, line, &at);
        assert_true(v >= last);
        last = v;
    }
    assert_true(last == count);
    return count;
}

struct totals {
    double prompt, generated, cached, queue, first, gaps;
};

/* Some end by length, some are cancelled, one passes its deadline at once. */
static struct totals run(struct engine *e)
{
    struct totals t = {0};
    infer_request *requests[N_REQUESTS];
    for (int i = 0; i < N_REQUESTS; i++) {
        infer_request_options o = {.struct_size = sizeof o,
                                   .prompt = "Once upon a time there was a fox.",
                                   .max_tokens = 3 + i,
                                   .ignore_eos = 1};
        o.deadline_ns = i == 11 ? 1 : 0;
        assert_int_equal(infer_session_submit(&requests[i], e->session, &o), INFER_OK);
        if (i == 9 || i == 10)
            infer_request_cancel(requests[i]);
    }
    while (infer_session_step(e->session) == INFER_OK)
        continue;
    for (int i = 0; i < N_REQUESTS; i++) {
        infer_request_info info = {.struct_size = sizeof info};
        assert_int_equal(infer_request_get_info(requests[i], &info), INFER_OK);
        t.prompt += (double)info.n_prompt_tokens;
        t.generated += (double)info.n_generated_tokens;
        t.cached += (double)info.n_cached_tokens;
        t.queue += (double)info.queue_ns * 1e-9;
        if (info.first_token_ns) {
            t.first += (double)(info.first_token_ns - info.submitted_ns) * 1e-9;
            t.gaps += (double)info.n_generated_tokens - 1;
        }
        infer_request_destroy(&requests[i]);
    }
    return t;
}

static void open_named(struct engine *e, infer_metrics_names names, const char *model_name)
{
    struct engine_setup setup = {.n_threads = 1};
    engine_open(e, test_source(TINY_MODEL), &setup);
    infer_session_destroy(&e->session);
    infer_session_options o = {.struct_size = sizeof o,
                               .kv_cache = e->cache,
                               .max_requests = 4,
                               .metrics_names = names,
                               .model_name = model_name};
    assert_int_equal(infer_session_create(&e->session, e->model, &o), INFER_OK);
}

static void assert_close(double a, double b)
{
    if (!(a - b < 1e-9 * (1 + b) && b - a < 1e-9 * (1 + b)))
        fail_msg("%.17g is not %.17g", a, b);
}

static void test_own_names(void **state)
{
    (void)state;
    struct engine e;
    double sum;
    open_named(&e, INFER_METRICS_INFER, NULL);
    struct totals t = run(&e);
    char *text = read_metrics(e.session);
    assert_true(parse(text) > 12 * 25);
    assert_null(strstr(text, "vllm"));
    assert_null(strstr(text, "model_name"));
    assert_close(value(text, "infer_requests_submitted_total "), N_REQUESTS);
    assert_close(value(text, "infer_requests_finished_total "), N_REQUESTS - 3);
    assert_close(value(text, "infer_requests_cancelled_total "), 2);
    assert_close(value(text, "infer_requests_expired_total "), 1);
    assert_close(value(text, "infer_generated_tokens_total "), t.generated);
    assert_close(value(text, "infer_cached_prompt_tokens_total "), t.cached);
    assert_close(check_histogram(text, "infer_request_seconds", &sum), N_REQUESTS);
    assert_close(check_histogram(text, "infer_queue_seconds", &sum), N_REQUESTS - 3);
    assert_close(sum, t.queue);
    assert_close(check_histogram(text, "infer_time_to_first_token_seconds", &sum), N_REQUESTS - 3);
    assert_close(sum, t.first);
    assert_close(check_histogram(text, "infer_inter_token_latency_seconds", &sum), t.gaps);
    check_histogram(text, "infer_request_generated_tokens", &sum);
    assert_close(sum, t.generated);
    check_histogram(text, "infer_request_prompt_tokens", &sum);
    assert_close(sum, t.prompt);
    assert_close(check_histogram(text, "infer_step_seconds", &sum),
                 value(text, "infer_steps_total "));
    assert_close(sum, value(text, "infer_step_seconds_total "));
    assert_true(sum >= value(text, "infer_compute_seconds_total "));
    free(text);
    engine_close(&e);
}

static void test_vllm_names(void **state)
{
    (void)state;
    struct engine e;
    double sum, all = 0;
    open_named(&e, INFER_METRICS_VLLM, "org/\"tiny\"\\q8\n0");
    struct totals t = run(&e);
    char *text = read_metrics(e.session);
    assert_true(parse(text) > 12 * 25);
    assert_non_null(strstr(text, "{model_name=\"org/\\\"tiny\\\"\\\\q8\\n0\",engine=\"0\"} "));
    static const char *const names[] = {
        "vllm:num_requests_waiting{",       "vllm:num_requests_running{",
        "vllm:kv_cache_usage_perc{",        "vllm:num_preemptions_total{",
        "vllm:prefix_cache_queries_total{", "vllm:prefix_cache_hits_total{"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        value(text, names[i]);
    assert_close(value(text, "vllm:cache_config_info{"), 1);
    assert_non_null(strstr(text, "block_size=\"16\",num_gpu_blocks=\""));
    assert_close(value(text, "vllm:generation_tokens_total{"), t.generated);
    const char *at = text;
    for (int i = 0; i < 5; i++)
        all += value_at(at, "vllm:request_success_total{", &at);
    assert_close(all, N_REQUESTS);
    static const char *const histograms[] = {
        "vllm:e2e_request_latency_seconds",    "vllm:request_queue_time_seconds",
        "vllm:request_prefill_time_seconds",   "vllm:request_decode_time_seconds",
        "vllm:request_inference_time_seconds", "vllm:time_to_first_token_seconds",
        "vllm:inter_token_latency_seconds",    "vllm:iteration_tokens_total",
        "vllm:request_prompt_tokens",          "vllm:request_generation_tokens"};
    for (size_t i = 0; i < sizeof histograms / sizeof *histograms; i++)
        assert_true(check_histogram(text, histograms[i], &sum) > 0);
    assert_close(sum, t.generated);
    free(text);
    engine_close(&e);
}

static void test_refused_options(void **state)
{
    (void)state;
    struct engine e;
    infer_session *session = NULL;
    open_named(&e, INFER_METRICS_VLLM, NULL);
    char *text = read_metrics(e.session);
    assert_non_null(strstr(text, "model_name=\"/")); /* the path */
    assert_non_null(strstr(text, "tiny-q8_0.gguf\",engine"));
    free(text);
    infer_session_options o = {.struct_size = sizeof o, .metrics_names = 2};
    assert_int_equal(infer_session_create(&session, e.model, &o), INFER_ERR_UNSUPPORTED);
    o = (infer_session_options){.struct_size = sizeof o, .max_tenant_queue = -1};
    assert_int_equal(infer_session_create(&session, e.model, &o), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "max_tenant_queue"));
    infer_request *request = NULL;
    infer_request_options r = {.struct_size = sizeof r, .prompt = "a", .reserved = 1};
    assert_int_equal(infer_session_submit(&request, e.session, &r), INFER_ERR_INVALID);
    assert_null(session);
    assert_null(request);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_names),
        cmocka_unit_test(test_vllm_names),
        cmocka_unit_test(test_refused_options),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
