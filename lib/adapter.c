/* Public: <infer/adapter.h>. */
#include "model/lora.h"

#include "handle.h"

#include <infer/adapter.h>

infer_status infer_adapter_load(infer_adapter **out, infer_model *model, const char *path,
                                const infer_adapter_options *options)
{
    REQUIRE(out);
    REQUIRE(model);
    REQUIRE(path);
    infer_adapter_options o;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_adapter_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &model->alloc);
    if (st != INFER_OK)
        return st;
    if (!model->arch)
        return base_error(INFER_ERR_INVALID, "%s was loaded with vocabulary_only", model->path);
    struct model_lora_config config = {.alloc = &alloc, .max_bytes = o.max_bytes};
    return model_lora_load(out, model, path, &config);
}

void infer_adapter_destroy(infer_adapter **adapter)
{
    if (adapter)
        model_lora_release(adapter);
}

infer_status infer_adapter_get_info(const infer_adapter *a, infer_adapter_info *info)
{
    REQUIRE(a);
    infer_adapter_info full = {
        .name = a->name,
        .path = a->path,
        .digest = a->digest,
        .n_parameters = a->n_parameters,
        .memory_bytes = sizeof *a + a->arena.used_bytes + a->matrices.used_bytes + a->card.bytes,
        .n_matrices = a->n_matrices,
        .rank = a->max_rank,
    };
    return base_info_copy(info, &full, sizeof full, "infer_adapter_info");
}
