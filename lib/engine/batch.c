/* Flat tokens, sequence offsets, block tables. */
#include "engine/batch.h"

#include "engine/adapt.h"

/* Logits of a row are wanted where the sequence ends (to sample), and on prompt
 * rows that are scored. */
static int wants_logits(const struct infer_request *r, int32_t position)
{
    int32_t next = position + 1;
    if (next >= request_length(r)) /* the last one, or a draft */
        return !r->prefill_only;
    return r->prompt_logprobs && next < r->n_prompt && next > r->n_prompt_scored;
}

static infer_token token_at(const struct infer_request *r, int32_t position)
{
    int32_t length = request_length(r);
    return position < length ? request_token_at(r, position) : r->draft.tokens[position - length];
}

static void add_rows(struct infer_session *s, struct infer_request *r, int32_t n_rows)
{
    for (int32_t i = 0; i < n_rows; i++) {
        int32_t position = r->n_computed + i, row = s->batch.n_rows++;
        s->tokens[row] = token_at(r, position);
        s->stats.n_prompt_tokens += position < r->n_prompt;
        if (wants_logits(r, position)) {
            s->output_rows[s->n_outputs] = row;
            s->outputs[s->n_outputs++] = (struct engine_output){r, position};
        }
    }
}

void batch_build(struct infer_session *s)
{
    s->n_outputs = 0;
    adapt_group(s);
    s->batch = (struct model_batch){
        .tokens = s->tokens, .seqs = s->seqs, .n_seqs = s->n_parts, .kv = s->kv->views};
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        const int32_t **tables = s->tables + (size_t)i * CACHE_GROUPS_MAX;
        for (int32_t g = 0; g < CACHE_GROUPS_MAX; g++)
            tables[g] = r->table.ids[g];
        s->seqs[i] = (struct model_batch_seq){.blocks = tables,
                                              .first_pos = r->n_computed,
                                              .row = s->batch.n_rows,
                                              .n_rows = s->parts[i].n_rows};
        adapt_add_rows(s, r, s->parts[i].n_rows);
        add_rows(s, r, s->parts[i].n_rows);
        r->n_computed += s->parts[i].n_rows - r->draft.n; /* drafts count when they are right */
    }
}
