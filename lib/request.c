/* Public: <infer/request.h>. */
#include "engine/session.h"
#include "handle.h"
#include "submit.h"

#include <infer/request.h>

static infer_status next_event(infer_request *request, infer_event *event, int wait)
{
    REQUIRE(request);
    REQUIRE(event);
    infer_event full;
    /* The caller's struct is checked before an event is taken for it. */
    infer_status st = base_info_check(event, "infer_event");
    if (st == INFER_OK)
        st = session_next(request, &full, wait);
    return st == INFER_OK ? base_info_copy(event, &full, sizeof full, "infer_event") : st;
}

infer_status infer_request_next(infer_request *request, infer_event *event)
{
    return next_event(request, event, 1);
}

infer_status infer_request_poll(infer_request *request, infer_event *event)
{
    return next_event(request, event, 0);
}

infer_status infer_request_fork(infer_request **out, infer_request *source,
                                const infer_fork_options *options)
{
    REQUIRE(out);
    REQUIRE(source);
    infer_fork_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_fork_options");
    return st == INFER_OK ? submit_fork(out, source, &o) : st;
}

void infer_request_cancel(infer_request *request)
{
    if (request)
        session_cancel(request);
}

void infer_request_destroy(infer_request **request)
{
    if (!request || !*request)
        return;
    session_drop(*request);
    *request = NULL;
}

infer_status infer_request_get_info(const infer_request *request, infer_request_info *info)
{
    REQUIRE(request);
    const infer_request *r = request;
    pthread_mutex_lock(&r->session->line->lock);
    infer_request_info full = {
        .queue_ns = r->start_ns ? r->start_ns - r->submit_ns : 0,
        .prefill_ns = r->first_ns ? r->first_ns - r->start_ns : 0,
        .decode_ns = r->first_ns ? r->last_ns - r->first_ns : 0,
        .n_prompt_tokens = r->n_prompt,
        .n_cached_tokens = r->n_cached,
        .n_generated_tokens = (int64_t)r->tokens.size,
        .status = r->status,
        .finish = r->finish,
        .logprob_sum = r->logprob_sum,
        .id = r->serial,
        .submitted_ns = r->submit_ns,
        .scheduled_ns = r->start_ns,
        .first_token_ns = r->first_ns,
        .last_token_ns = r->last_ns,
        .finished_ns = r->finish_ns,
        .n_preempted = r->n_preempted,
        .n_drafted_tokens = r->draft.n_drafted,
        .n_accepted_tokens = r->draft.n_accepted,
        .n_swapped = r->n_swapped,
    };
    pthread_mutex_unlock(&r->session->line->lock);
    return base_info_copy(info, &full, sizeof full, "infer_request_info");
}

const char *infer_request_error(const infer_request *request)
{
    if (!request)
        return "";
    pthread_mutex_lock(&request->session->line->lock);
    int failed = request->state == REQUEST_FINISHED && request->status < 0;
    pthread_mutex_unlock(&request->session->line->lock);
    return failed ? request->error : "";
}

const infer_token *infer_request_prompt(const infer_request *request, size_t *n)
{
    if (n)
        *n = request ? (size_t)request->n_prompt : 0;
    return request ? request->prompt : NULL;
}

/* Complete once something follows the prompt: a token or the end. */
static int is_scored(const infer_request *request)
{
    if (!request || !request->prompt_logprobs)
        return 0;
    pthread_mutex_lock(&request->session->line->lock);
    int complete =
        request->tokens.size || (request->state == REQUEST_FINISHED && request->status == INFER_OK);
    pthread_mutex_unlock(&request->session->line->lock);
    return complete;
}

const float *infer_request_prompt_logprobs(const infer_request *request, size_t *n)
{
    int complete = is_scored(request);
    if (n)
        *n = complete ? (size_t)request->n_prompt : 0;
    return complete ? request->prompt_logprobs : NULL;
}

const infer_top_logprob *infer_request_prompt_top_logprobs(const infer_request *request, size_t *n)
{
    int complete = is_scored(request) && request->prompt_top;
    if (n)
        *n = complete ? (size_t)request->n_prompt : 0;
    return complete ? request->prompt_top : NULL;
}
