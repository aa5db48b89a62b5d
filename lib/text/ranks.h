/* Merges as files write them, "left right" in the order of their ranks, into a table of pairs. */
#ifndef TEXT_RANKS_H
#define TEXT_RANKS_H

#include "base/map.h"
#include "text/merge.h"
#include "text/tokenizer.h"

/* Adds to `pairs`; `ids` maps the texts of the normal tokens. FORMAT names the merge. Merges of
 * control tokens have no use and are passed over. */
infer_status text_ranks_load(struct text_pairs *pairs, const struct base_alloc *a,
                             const struct text_vocab *vocab, const struct base_map *ids);

#endif
