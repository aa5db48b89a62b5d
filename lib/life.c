/* Public: <infer/life.h>. */
#include "attach.h"
#include "handle.h"

#include <infer/life.h>

infer_status infer_model_evict(infer_model *model)
{
    REQUIRE(model);
    return model_evict(model);
}

infer_status infer_model_restore(infer_model *model, const infer_model_restore_options *options)
{
    REQUIRE(model);
    infer_model_restore_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_model_restore_options");
    if (st == INFER_OK && o.reserved)
        st = base_error(INFER_ERR_INVALID, "infer_model_restore_options.reserved is %u, not 0",
                        (unsigned)o.reserved);
    if (st != INFER_OK)
        return st;
    const struct model_restore_config config = {.progress = o.progress,
                                                .progress_user_data = o.progress_user_data,
                                                .read_weights = o.read_weights};
    return model_restore(model, &config);
}

infer_status infer_session_swap_model(infer_session *session, infer_model *model,
                                      const infer_swap_options *options)
{
    REQUIRE(session);
    REQUIRE(model);
    infer_swap_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_swap_options");
    if (st == INFER_OK && o.reserved)
        st = base_error(INFER_ERR_INVALID, "infer_swap_options.reserved is %u, not 0",
                        (unsigned)o.reserved);
    const struct attach what = {o.kv_cache, o.draft_model, o.n_context};
    if (st == INFER_OK)
        st = attach_check(model, &what);
    if (st != INFER_OK)
        return st;
    /* Or wanted when it made the session. */
    int32_t wanted = o.n_context ? o.n_context : session->n_context_asked;
    struct session_swap swap = {.draft = o.draft_model,
                                .n_context = session_context(model, wanted),
                                .n_context_asked = wanted,
                                .model_name = o.model_name};
    st = attach_cache(&swap.kv, model, o.kv_cache, &session->alloc);
    if (st == INFER_OK)
        st = session_swap(session, model, &swap);
    kv_cache_release(&swap.kv);
    return st;
}
