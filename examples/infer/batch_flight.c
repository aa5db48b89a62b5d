/* Events of a request become one line of JSON. */
#include "batch_flight.h"

#include "host.h"

#include <string.h>

static void take_event(struct batch_flight *flight, const infer_event *event)
{
    buffer_append(&flight->text, event->text, event->text_size);
    if (event->type == INFER_EVENT_FINISH) {
        flight->finish = event->finish;
        return;
    }
    json_int(&flight->tokens, NULL, event->token);
    if (flight->want_logprobs)
        json_float(&flight->logprobs, NULL, event->logprob);
    if (!flight->want_top)
        return;
    json_open(&flight->top, NULL, '[');
    for (size_t i = 0; i < event->n_top && event->top[i].token >= 0; i++) {
        json_open(&flight->top, NULL, '{');
        json_int(&flight->top, "token", event->top[i].token);
        json_float(&flight->top, "logprob", event->top[i].logprob);
        json_close(&flight->top, '}');
    }
    json_close(&flight->top, ']');
}

enum flight_state batch_flight_poll(struct batch_flight *flight)
{
    infer_event event = {.struct_size = sizeof event};
    infer_status status;
    while ((status = infer_request_poll(flight->request, &event)) == INFER_OK)
        take_event(flight, &event);
    return status == INFER_AGAIN  ? FLIGHT_RUNS
           : status == INFER_DONE ? FLIGHT_ENDED
                                  : FLIGHT_FAILED;
}

static void begin(struct json_out *json, const struct buffer *id, uint64_t number)
{
    json_open(json, NULL, '{');
    if (id->size)
        json_raw(json, "id", id->data, id->size);
    json_uint(json, "line", number);
}

static void end(struct json_out *json)
{
    json_close(json, '}');
    buffer_append(&json->buffer, "\n", 1);
}

static void splice(struct json_out *json, const char *key, const struct json_out *elements)
{
    json_open(json, key, '[');
    buffer_append(&json->buffer, elements->buffer.data, elements->buffer.size);
    json->buffer.failed |= elements->buffer.failed;
    json_close(json, ']');
}

static void add_prompt_logprobs(const struct batch_flight *flight, struct json_out *json)
{
    size_t n = 0;
    const float *logprobs = infer_request_prompt_logprobs(flight->request, &n);
    json_open(json, "prompt_logprobs", '[');
    for (size_t i = 0; logprobs && i < n; i++)
        json_float(json, NULL, logprobs[i]);
    json_close(json, ']');
}

void batch_flight_result(const struct batch_flight *flight, const infer_request_info *info,
                         struct json_out *json)
{
    begin(json, &flight->id, flight->number);
    json_int(json, "prompt_tokens", info->n_prompt_tokens);
    json_int(json, "cached_tokens", info->n_cached_tokens);
    splice(json, "tokens", &flight->tokens);
    json_text(json, "text", flight->text.data, flight->text.size);
    json->buffer.failed |= flight->text.failed;
    json_string(json, "finish_reason", host_finish_name(flight->finish));
    if (flight->want_logprobs)
        splice(json, "logprobs", &flight->logprobs);
    if (flight->want_top)
        splice(json, "top_logprobs", &flight->top);
    if (flight->want_prompt)
        add_prompt_logprobs(flight, json);
    json_double(json, "queue_ms", (double)info->queue_ns / 1e6);
    json_double(json, "prefill_ms", (double)info->prefill_ns / 1e6);
    json_double(json, "decode_ms", (double)info->decode_ns / 1e6);
    end(json);
}

void batch_error_result(const struct buffer *id, uint64_t number, const char *error,
                        struct json_out *json)
{
    begin(json, id, number);
    json_string(json, "error", error);
    end(json);
}

void batch_flight_free(struct batch_flight *flight)
{
    infer_request_destroy(&flight->request);
    buffer_free(&flight->id);
    buffer_free(&flight->text);
    buffer_free(&flight->tokens.buffer);
    buffer_free(&flight->logprobs.buffer);
    buffer_free(&flight->top.buffer);
    memset(flight, 0, sizeof *flight);
}
