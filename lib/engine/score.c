/* Scoring: a request for each item, in one flight. */
#include "engine/score.h"

#include "engine/flight.h"

#include <string.h>

static void fill(void *data, size_t i, struct request_config *config)
{
    const struct score_item *item = (const struct score_item *)data + i;
    config->prompt = item->tokens;
    config->n_prompt = (size_t)item->n_tokens;
    config->prompt_logprobs = 1;
    config->score_from = item->from;
    config->rival = item->rival;
}

static infer_status collect(void *data, size_t i, const struct infer_request *r)
{
    struct score_item *item = (struct score_item *)data + i;
    memcpy(item->logprobs, r->prompt_logprobs + item->from,
           (size_t)(item->n_tokens - item->from) * sizeof *item->logprobs);
    item->is_greedy = r->is_greedy;
    return INFER_OK;
}

infer_status score_run(struct infer_session *s, const struct request_config *base,
                       struct score_item *items, size_t n, int32_t n_shared)
{
    const struct flight flight = {.session = s,
                                  .base = base,
                                  .what = "scoring",
                                  .n = n,
                                  .n_shared = n_shared,
                                  .data = items,
                                  .fill = fill,
                                  .collect = collect};
    return flight_run(&flight);
}
