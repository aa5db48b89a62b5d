/* A request of a batch while it runs: what its events said so far, and the line that it ends as. */
#ifndef INFER_BATCH_FLIGHT_H
#define INFER_BATCH_FLIGHT_H

#include "json_out.h"

#include <infer/infer.h>

struct batch_flight {
    infer_request *request;
    struct buffer id; /* as JSON; empty where the line has none */
    uint64_t number;  /* of the line */
    size_t bytes;     /* of the line */
    int want_logprobs, want_top, want_prompt;
    struct buffer text;
    struct json_out tokens, logprobs, top; /* elements of the lists of these names */
    infer_finish finish;
};

enum flight_state { FLIGHT_RUNS, FLIGHT_ENDED, FLIGHT_FAILED };

/* Takes the events that are ready; runs no step. */
enum flight_state batch_flight_poll(struct batch_flight *flight);

/* The line of a request that ended, or of one that failed or never was. Each ends in a newline. */
void batch_flight_result(const struct batch_flight *flight, const infer_request_info *info,
                         struct json_out *json);
void batch_error_result(const struct buffer *id, uint64_t number, const char *error,
                        struct json_out *json);

void batch_flight_free(struct batch_flight *flight);

#endif
