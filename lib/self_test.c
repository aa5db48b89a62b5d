/* Public: <infer/self_test.h>. */
#include "engine/self_test.h"

#include "handle.h"
#include "model/encode.h"

#define BUDGET_BYTES ((uint64_t)1 << 30)
#define N_PROMPT     100
#define N_TOKENS     16
#define BATCH        64
#define BATCH_MAX    256

static infer_status check_options(const infer_self_test_options *o, const infer_model *model)
{
    if (!model->arch)
        return base_error(INFER_ERR_INVALID, "%s was loaded with vocabulary_only", model->path);
    if (model_is_encoder(model))
        return base_error(INFER_ERR_UNSUPPORTED, "%s is an encoder, which generates nothing",
                          model->path);
    if (o->n_prompt_tokens < 0 || o->n_tokens < 0)
        return base_error(INFER_ERR_INVALID,
                          "n_prompt_tokens is %d and n_tokens %d, expected 0 "
                          "or more",
                          o->n_prompt_tokens, o->n_tokens);
    if (o->max_batch < 0 || o->max_batch == 1 || o->max_batch > BATCH_MAX)
        return base_error(INFER_ERR_INVALID, "max_batch is %d, expected 2 to %d, or 0",
                          o->max_batch, BATCH_MAX);
    return INFER_OK;
}

/* The lengths that were asked for, or those that fit the context. */
static infer_status set_lengths(struct self_test_config *c, const infer_self_test_options *o,
                                int32_t n_context)
{
    int64_t room = (int64_t)n_context - 1;
    c->n_tokens = o->n_tokens ? o->n_tokens : (int32_t)BASE_MAX(BASE_MIN(N_TOKENS, room / 2), 1);
    room -= c->n_tokens;
    c->n_prompt = o->n_prompt_tokens ? o->n_prompt_tokens : (int32_t)BASE_MIN(N_PROMPT, room);
    if (c->n_prompt < 1 || c->n_prompt > room)
        return base_error(INFER_ERR_LIMIT, "%d + %d tokens and one more, and the context holds %d",
                          BASE_MAX(c->n_prompt, 1), c->n_tokens, n_context);
    return INFER_OK;
}

infer_status infer_model_self_test(infer_self_test_report *report, infer_model *model,
                                   const infer_self_test_options *options)
{
    REQUIRE(report);
    REQUIRE(model);
    infer_self_test_options o;
    infer_self_test_report full;
    struct base_alloc alloc;
    infer_status st = base_info_check(report, "infer_self_test_report");
    if (st == INFER_OK)
        st = base_options_copy(&o, sizeof o, options, "infer_self_test_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &model->alloc);
    if (st == INFER_OK)
        st = check_options(&o, model);
    if (st != INFER_OK)
        return st;
    struct self_test_config config = {
        .alloc = &alloc,
        .progress = o.progress,
        .progress_user_data = o.progress_user_data,
        .budget_bytes = o.budget_bytes ? o.budget_bytes : BUDGET_BYTES,
        .time_limit_ns = o.time_limit_ns,
        .max_batch = o.max_batch ? o.max_batch : BATCH,
        .seed = o.seed,
    };
    st = handle_kv_type(&config.kv_type, o.kv_type, model_kv_default_type(model));
    if (st == INFER_OK)
        st = set_lengths(&config, &o, model->hp.n_context);
    if (st != INFER_OK)
        return st;
    st = self_test_run(&full, model, &config);
    infer_status copied = base_info_copy(report, &full, sizeof full, "infer_self_test_report");
    return st == INFER_OK ? copied : st;
}
