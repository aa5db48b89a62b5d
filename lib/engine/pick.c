/* From what a request asks to what the card is told of its row. */
#include "engine/pick.h"

/* Tokens that penalties look back on, of all rows together. */
#define COUNTS ((size_t)1 << 16)

infer_status pick_open(struct infer_session *s)
{
    if (!s->ws.gpu)
        return INFER_OK;
    s->picks = base_new(&s->alloc, (size_t)s->ws.max_outputs, sizeof *s->picks);
    s->counts = base_new_raw(&s->alloc, COUNTS, sizeof *s->counts);
    return s->picks && s->counts ? INFER_OK : INFER_ERR_NO_MEMORY;
}

void pick_close(struct infer_session *s)
{
    base_free(&s->alloc, s->picks);
    base_free(&s->alloc, s->counts);
}

/* The grammar's mask, or that of a generation which must not end yet. 0: the host shall see why it
 * cannot be had. */
static int mask(struct infer_request *r, int32_t n_vocab, struct model_pick *pick)
{
    const int may_end = (int64_t)r->tokens.size >= r->min_tokens;
    size_t n_allowed;
    if (!r->matcher.grammar) {
        pick->mask = may_end ? NULL : r->no_ends;
        pick->n_mask = (size_t)n_vocab;
        return 1;
    }
    r->matcher.no_ends = r->ignore_eos || !may_end;
    pick->n_mask = grammar_matcher_tokens(&r->matcher);
    return grammar_matcher_mask(&r->matcher, &pick->mask, &n_allowed) == INFER_OK;
}

_Static_assert(sizeof(struct sample_bias) == sizeof(struct model_pick_bias) &&
                   sizeof(struct sample_count) == sizeof(struct model_pick_count) &&
                   sizeof(struct sample_candidate) == sizeof(struct model_pick_top),
               "lists of the sampler are those of the model's floor");

static struct model_pick pick_of(const struct infer_request *r, int32_t position,
                                 const struct sample_description *d,
                                 const struct sample_count *counts)
{
    const struct sample_params *p = d->params;
    return (struct model_pick){.want = MODEL_WANT_TOKEN,
                               .temperature = p->temperature,
                               .top_p = p->top_p,
                               .min_p = p->min_p,
                               .top_k = p->top_k,
                               .repetition = p->repetition_penalty,
                               .frequency = p->frequency_penalty,
                               .presence = p->presence_penalty,
                               .seed = p->seed,
                               .sequence = p->sequence,
                               .position = (uint64_t)position + 1,
                               .bias = (const struct model_pick_bias *)p->bias,
                               .n_bias = p->n_bias,
                               .counts = (const struct model_pick_count *)counts,
                               .n_counts = d->n_counts,
                               .want_logprob = r->logprobs,
                               .n_top = r->n_top};
}

/* Whether what is chosen behind drafts does not depend on them. */
static int is_free(const struct infer_request *r, const struct sample_description *d)
{
    const struct sample_params *p = d->params;
    return !r->matcher.grammar && p->repetition_penalty == 1 && p->frequency_penalty == 0 &&
           p->presence_penalty == 0 && ((int64_t)r->tokens.size >= r->min_tokens || !r->no_ends);
}

/* Whether the highest logit, of all tokens, is all that is asked of a row. */
static int takes_best(const struct infer_request *r, int32_t position)
{
    int may_end = (int64_t)r->tokens.size >= r->min_tokens || !r->no_ends;
    return position + 1 >= request_length(r) && sampler_takes_best(r->sampler) && !r->logprobs &&
           !r->n_top && !r->want_logits && !r->logits_fn && !r->matcher.grammar && may_end;
}

/* Bias and penalties would need lists, and penalties the last token as well. */
int pick_by_step(const struct infer_session *s, const struct infer_request *r, int32_t position,
                 struct model_pick *pick)
{
    struct sample_description d;
    if (takes_best(r, position)) {
        *pick = (struct model_pick){.want = MODEL_WANT_TOKEN, .repetition = 1};
        return 1;
    }
    if (position + 1 < request_length(r) || r->want_logits || r->logits_fn ||
        s->model->hp.n_vocab > MODEL_PICK_VOCAB_MAX || r->n_top > MODEL_PICK_TOP_MAX ||
        !sampler_describe(r->sampler, NULL, 0, &d) || d.n_counts || d.params->n_bias ||
        !is_free(r, &d))
        return 0;
    *pick = pick_of(r, position, &d, NULL);
    return 1;
}

int pick_is_best(const struct model_pick *pick)
{
    return pick->temperature <= 0 && !pick->want_logprob && !pick->n_top;
}

/* `n_counts` of s->counts are taken. */
static struct model_pick wish(struct infer_session *s, const struct engine_output *output,
                              size_t *n_counts)
{
    const struct model_pick logits = {.want = MODEL_WANT_LOGITS};
    struct infer_request *r = output->request;
    struct sample_count *counts = s->counts + *n_counts;
    struct sample_description d;
    if (!r)
        return (struct model_pick){.want = MODEL_WANT_NOTHING};
    if (takes_best(r, output->position))
        return (struct model_pick){.want = MODEL_WANT_TOKEN, .repetition = 1};
    if (output->position + 1 < request_length(r) || r->want_logits || r->logits_fn ||
        !sampler_describe(r->sampler, counts, COUNTS - *n_counts, &d))
        return logits;
    if (output->position + 1 > request_length(r) && !is_free(r, &d))
        return logits;
    struct model_pick pick = pick_of(r, output->position, &d, counts);
    *n_counts += d.n_counts;
    return mask(r, s->model->hp.n_vocab, &pick) ? pick : logits;
}

struct model_pick *pick_rows(struct infer_session *s, int32_t first, int32_t n)
{
    size_t n_counts = 0;
    for (int32_t i = 0; s->picks && i < n; i++)
        s->picks[i] = wish(s, &s->outputs[first + i], &n_counts);
    return s->picks;
}

struct model_pick *pick_chosen(struct infer_session *s, int32_t first, int32_t n)
{
    const struct model_choice *chosen = &s->ws.chosen;
    for (int32_t i = 0; i < n; i++) {
        const struct infer_request *r = s->outputs[first + i].request;
        struct model_pick *pick = &s->picks[i];
        *pick = (struct model_pick){.want = MODEL_WANT_TOKEN, .token = chosen->tokens[first + i]};
        if (!r || (!r->logprobs && !r->n_top))
            continue;
        pick->logprob = chosen->logprobs[first + i];
        pick->top = chosen->top + (size_t)(first + i) * MODEL_PICK_TOP_MAX;
        pick->n_top_found = BASE_MIN(r->n_top, s->model->hp.n_vocab);
    }
    return s->picks;
}
