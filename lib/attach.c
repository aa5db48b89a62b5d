/* Models behind sessions. */
#include "attach.h"

#include "base/error.h"
#include "engine/draft_model.h"

infer_status attach_check(const infer_model *model, const struct attach *what)
{
    if (!model->arch)
        return base_error(INFER_ERR_INVALID, "%s was loaded with vocabulary_only", model->path);
    if (what->n_context < 0)
        return base_error(INFER_ERR_INVALID, "n_context is %d, expected 0 to %d", what->n_context,
                          model->hp.n_context);
    if (what->n_context > model->hp.n_context)
        return base_error(INFER_ERR_LIMIT, "n_context is %d and the model was made for %d",
                          what->n_context, model->hp.n_context);
    if (what->kv_cache && what->kv_cache->model != model)
        return base_error(INFER_ERR_INVALID, "the KV cache was made for another model");
    return what->draft_model ? draft_model_check(model, what->draft_model) : INFER_OK;
}

infer_status attach_cache(infer_kv_cache **out, infer_model *model, infer_kv_cache *given,
                          const struct base_alloc *alloc)
{
    const struct kv_cache_config config = {.alloc = alloc,
                                           .type = model_kv_default_type(model),
                                           .block_tokens = KV_CACHE_BLOCK_TOKENS};
    if (!given)
        return kv_cache_create(out, model, &config);
    *out = kv_cache_retain(given);
    return INFER_OK;
}
