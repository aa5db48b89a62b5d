/* Vectors of texts. Rows are added up in the order of their tokens, so that a vector depends on
 * neither batch nor chunks. */
#include "engine/embed.h"

#include "engine/flight.h"
#include "model/encode.h"

#include <math.h>
#include <string.h>

infer_status embed_open(struct infer_session *s)
{
    struct engine_encode *e = &s->encode;
    const size_t n = (size_t)s->max_requests;
    const int32_t n_labels = model_head_labels(s->model);
    e->offsets = base_new(&s->alloc, n + 1, sizeof *e->offsets);
    e->types = base_new(&s->alloc, (size_t)s->step_tokens, sizeof *e->types);
    e->labels = base_new(&s->alloc, n * (size_t)n_labels, sizeof *e->labels);
    if (!e->offsets || !e->types || !e->labels)
        return INFER_ERR_NO_MEMORY;
    return model_encoder_open(&e->encoder, &s->alloc, s->model, s->step_tokens,
                              s->numerics == INFER_NUMERICS_FAST,
                              s->numerics == INFER_NUMERICS_INVARIANT);
}

void embed_close(struct infer_session *s)
{
    model_encoder_close(&s->encode.encoder);
    base_free(&s->alloc, s->encode.offsets);
    base_free(&s->alloc, s->encode.types);
    base_free(&s->alloc, s->encode.labels);
    base_free(&s->alloc, s->encode.folds);
}

/* The first token whose row is wanted. */
static int32_t first_wanted(enum model_pooling_kind pooling, int32_t from, int32_t n_tokens)
{
    if (pooling == MODEL_POOLING_LAST)
        return n_tokens - 1;
    return pooling == MODEL_POOLING_CLS ? 0 : from;
}

infer_status embed_init(struct infer_request *r, const struct request_embed *given)
{
    struct request_embed *e = &r->embed;
    const struct infer_model *model = r->session->model;
    if (!given) {
        if (!r->session->encode.encoder)
            return INFER_OK;
        return base_error(INFER_ERR_UNSUPPORTED,
                          "%s is an encoder: it embeds texts, and generates and scores none",
                          model->path);
    }
    *e = *given;
    e->next = first_wanted(e->pooling, e->from, r->n_prompt);
    e->vector = base_new(&r->alloc, (size_t)(e->n_labels ? e->n_labels : model->hp.n_embd),
                         sizeof *e->vector);
    return e->vector ? INFER_OK : INFER_ERR_NO_MEMORY;
}

void embed_release(struct infer_request *r)
{
    base_free(&r->alloc, r->embed.vector);
}

/* -------------------------------------------------------------------- steps */

/* Behind the last row that is wanted. */
static int32_t end_wanted(const struct infer_request *r)
{
    return r->embed.pooling == MODEL_POOLING_CLS ? 1 : r->n_prompt;
}

/* Rows of tokens e->next .. end - 1, of which `row` is that of token `first`. */
static struct model_fold fold_of(struct infer_request *r, int32_t first, int32_t row, int32_t end)
{
    struct request_embed *e = &r->embed;
    return (struct model_fold){.vector = e->vector,
                               .row = row + e->next - first,
                               .n_rows = end - e->next,
                               .begun = e->next > e->from,
                               .kind = e->pooling};
}

/* Texts first .. first + n - 1 of the step, which want the same of the encoder. */
static void describe(struct infer_session *s, int32_t first, int32_t n,
                     struct model_encode_batch *out)
{
    struct engine_encode *e = &s->encode;
    const int32_t begin = s->seqs[first].row;
    int typed = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct model_batch_seq *seq = &s->seqs[first + i];
        const int32_t second = s->parts[first + i].request->embed.second;
        e->offsets[i] = seq->row - begin;
        typed |= second > 0;
        for (int32_t k = 0; k < seq->n_rows; k++)
            e->types[seq->row + k] = second > 0 && k >= second;
    }
    e->offsets[n] = s->seqs[first + n - 1].row + s->seqs[first + n - 1].n_rows - begin;
    *out = (struct model_encode_batch){.tokens = s->tokens + begin,
                                       .types = typed ? e->types + begin : NULL,
                                       .offsets = e->offsets,
                                       .n_texts = n};
}

static infer_status encode(struct infer_session *s, int32_t first, int32_t n)
{
    struct engine_encode *e = &s->encode;
    const int32_t n_labels = s->parts[first].request->embed.n_labels;
    struct model_encode_batch batch;
    describe(s, first, n, &batch);
    for (int32_t i = 0; i < n && !n_labels; i++) {
        struct infer_request *r = s->parts[first + i].request;
        e->folds[i] = fold_of(r, 0, e->offsets[i], end_wanted(r));
    }
    infer_status st = n_labels ? model_encoder_classify(e->encoder, &batch, e->labels)
                               : model_encoder_fold(e->encoder, &batch, e->folds, n);
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        struct infer_request *r = s->parts[first + i].request;
        if (n_labels)
            memcpy(r->embed.vector, e->labels + (size_t)i * (size_t)n_labels,
                   (size_t)n_labels * sizeof *e->labels);
        else
            r->embed.next = end_wanted(r);
    }
    return st;
}

infer_status embed_encode(struct infer_session *s)
{
    infer_status st = INFER_OK;
    for (int32_t first = 0, n; first < s->n_parts && st == INFER_OK; first += n) {
        const int32_t n_labels = s->parts[first].request->embed.n_labels;
        n = 1;
        while (first + n < s->n_parts && s->parts[first + n].request->embed.n_labels == n_labels)
            n++;
        st = encode(s, first, n);
    }
    return st;
}

infer_status embed_take(struct infer_session *s)
{
    struct model_fold *folds = s->encode.folds;
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        const struct model_batch_seq *seq = &s->seqs[i];
        if (!request_embed_is(&r->embed))
            continue;
        /* What is computed again after a preemption is in the vector already. */
        const int32_t end = BASE_MIN(seq->first_pos + seq->n_rows, end_wanted(r));
        if (r->embed.next < end)
            folds[n++] = fold_of(r, seq->first_pos, seq->row, end);
    }
    infer_status st = n ? model_final_fold(&s->ws, folds, n) : INFER_OK;
    for (int32_t i = 0; i < s->n_parts && st == INFER_OK; i++) {
        struct infer_request *r = s->parts[i].request;
        const int32_t end = s->seqs[i].first_pos + s->seqs[i].n_rows;
        if (request_embed_is(&r->embed))
            r->embed.next = BASE_MAX(r->embed.next, BASE_MIN(end, end_wanted(r)));
    }
    return st;
}

/* -------------------------------------------------------------------- calls */

struct embedding {
    const struct embed_how *how;
    const struct embed_item *items;
    struct request_embed embed; /* of the request that is being made */
    float *out;
};

static void fill(void *data, size_t i, struct request_config *config)
{
    struct embedding *c = data;
    const struct embed_item *item = &c->items[i];
    c->embed = (struct request_embed){.pooling = c->how->pooling,
                                      .n_labels = c->how->n_labels,
                                      .from = item->from,
                                      .second = item->second};
    config->prompt = item->tokens;
    config->n_prompt = (size_t)item->n_tokens;
    config->embed = &c->embed;
}

static infer_status check_numbers(const struct infer_request *r, const float *x, int32_t n,
                                  size_t i)
{
    for (int32_t k = 0; k < n; k++)
        if (!isfinite(x[k]))
            return base_error(INFER_ERR_INVALID,
                              "%s: what it makes of texts[%zu] are not numbers: its weights are "
                              "damaged",
                              r->session->model->path, i);
    return INFER_OK;
}

static infer_status collect(void *data, size_t i, const struct infer_request *r)
{
    const struct embedding *c = data;
    const struct embed_how *how = c->how;
    const int32_t n = how->n_labels ? how->n_labels : how->dims;
    float *out = c->out + i * (size_t)n;
    double sum = 0, scale = 1;
    memcpy(out, r->embed.vector, (size_t)n * sizeof *out);
    infer_status st = check_numbers(r, out, n, i);
    if (st != INFER_OK || how->n_labels)
        return st;
    if (how->pooling == MODEL_POOLING_MEAN)
        scale = 1.0 / (double)(r->n_prompt - r->embed.from);
    for (int32_t k = 0; k < n; k++)
        sum += (double)out[k] * (double)out[k];
    if (how->normalize && sum > 0)
        scale = 1 / sqrt(sum);
    for (int32_t k = 0; k < n; k++)
        out[k] = (float)((double)out[k] * scale);
    return INFER_OK;
}

/* Leading tokens that all texts have and whose rows none of them wants: the prompt. */
static int32_t shared_tokens(const struct embed_how *how, const struct embed_item *items, size_t n)
{
    int32_t shared = INT32_MAX;
    for (size_t i = 0; i < n && shared > 0; i++) {
        const struct embed_item *item = &items[i];
        const int32_t most = first_wanted(how->pooling, item->from, item->n_tokens);
        int32_t same = 0;
        shared = BASE_MIN(shared, BASE_MIN(most, item->n_tokens - 1));
        while (same < shared && item->tokens[same] == items[0].tokens[same])
            same++;
        shared = BASE_MIN(shared, same);
    }
    return shared;
}

/* Fewer are computed sooner than shared. */
#define SHARED_MIN 8

infer_status embed_run(struct infer_session *s, const struct request_config *base,
                       const struct embed_how *how, const struct embed_item *items, size_t n,
                       float *out)
{
    struct embedding c = {.how = how, .items = items, .out = out};
    struct flight flight = {.session = s,
                            .base = base,
                            .what = "embedding",
                            .n = n,
                            .data = &c,
                            .fill = fill,
                            .collect = collect};
    if (!s->encode.encoder && n > 1) {
        const int32_t shared = shared_tokens(how, items, n);
        flight.n_shared = shared < SHARED_MIN ? 0 : shared;
    }
    return flight_run(&flight);
}
