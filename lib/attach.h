/* A model and what runs it behind a session: what both making a session and swapping its model
 * check. */
#ifndef LIB_ATTACH_H
#define LIB_ATTACH_H

#include "engine/session.h"

struct attach {
    infer_kv_cache *kv_cache;
    infer_model *draft_model;
    int32_t n_context;
};

infer_status attach_check(const infer_model *model, const struct attach *what);
/* The cache that was given, or one with default options; the caller releases it. */
infer_status attach_cache(infer_kv_cache **out, infer_model *model, infer_kv_cache *given,
                          const struct base_alloc *alloc);

#endif
