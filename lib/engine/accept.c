/* Verification: sampling goes on as long as it gives the drafted tokens. */
#include "engine/accept.h"

#include "engine/prefix.h"

int accept_next(struct infer_request *r, size_t n)
{
    struct request_draft *d = &r->draft;
    for (size_t i = r->tokens.size - n; i < r->tokens.size; i++) {
        if (d->n_tried == d->n || d->tokens[d->n_tried++] != r->tokens.data[i].token)
            return 0;
        d->n_right++;
        r->n_computed++; /* its row has its keys and values */
    }
    return 1;
}

static void keep_right(struct infer_request *r)
{
    struct request_draft *d = &r->draft;
    struct engine_stats *stats = &r->session->stats;
    d->n_drafted += d->n;
    d->n_accepted += d->n_right;
    stats->n_drafted_tokens += (uint64_t)d->n;
    stats->n_accepted_tokens += (uint64_t)d->n_right;
    draft_pace_record_add(&d->record, d->n_right, d->n_tried);
    d->n = d->n_right = d->n_tried = 0;
    prefix_keep_of(r);
    cache_table_trim(&r->table, r->n_computed);
}

void accept_settle(struct infer_request *r)
{
    struct request_draft *d = &r->draft;
    if (d->n)
        keep_right(r);
    if (d->n_computed > r->n_computed) { /* the draft model's drafts, used or not */
        d->n_computed = r->n_computed;
        cache_table_trim(&d->table, d->n_computed);
    }
}
