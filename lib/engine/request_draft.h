/* What a request that speculates has of its own; all the stepping thread's. */
#ifndef ENGINE_REQUEST_DRAFT_H
#define ENGINE_REQUEST_DRAFT_H

#include "cache/paged.h"
#include "engine/draft_pace.h"
#include "engine/ngram.h"

#include <infer/request.h>

struct request_draft {
    infer_speculation kind; /* OFF, NGRAM or DRAFT */
    int32_t max;
    infer_token *tokens; /* max */
    int32_t n;           /* drafted in this step */
    int32_t n_right;     /* of them, found right so far */
    int32_t n_tried;     /* of them, compared so far */
    int32_t wanted;      /* that the draft model shall make */
    struct draft_pace_record record;
    struct ngram_index ngram; /* of NGRAM */
    struct cache_table table; /* of DRAFT: in the draft model's cache */
    int32_t n_computed;       /* positions in it */
    _Atomic int64_t n_drafted, n_accepted;
};

#endif
