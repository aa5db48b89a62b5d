/* Verification: sampling goes on as long as it gives the drafted tokens. */
#include "engine/accept.h"

#include "engine/prefix.h"

int accept_next(struct infer_request *r)
{
    struct request_draft *d = &r->draft;
    if (d->n_tried == d->n)
        return 0;
    int right = d->tokens[d->n_tried++] == r->tokens.data[r->tokens.size - 1].token;
    d->n_right += right;
    r->n_computed += right; /* the next row has its keys and values */
    return right;
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
