/* Public: <infer/convert.h>. */
#include "model/convert.h"
#include "handle.h"
#include "model/source.h"

#include <infer/convert.h>

static infer_status convert(struct model_convert_result *result, const char *src, const char *dst,
                            const struct model_convert_config *config,
                            const struct model_source_options *source)
{
    struct gguf_file *file = NULL;
    infer_status st = model_source_open(&file, config->alloc, src, source);
    if (st == INFER_OK)
        st = model_convert(result, file, dst, config);
    gguf_close(&file);
    return st;
}

infer_status infer_convert(infer_convert_info *out, const char *src, const char *dst,
                           const infer_convert_options *options)
{
    infer_convert_options o;
    struct base_alloc alloc;
    struct infer_device *device = NULL;
    struct model_convert_result result = {0};
    REQUIRE(src);
    REQUIRE(dst);
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_convert_options");
    if (st == INFER_OK && out)
        st = base_info_check(out, "infer_convert_info");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &base_alloc_default);
    if (st != INFER_OK)
        return st;
    if (o.device)
        device = device_retain(o.device);
    else
        st = device_create(&device, &(struct device_config){.alloc = &alloc});
    if (st != INFER_OK)
        return st;
    struct model_convert_config config = {.alloc = &alloc,
                                          .device = device,
                                          .progress = o.progress,
                                          .progress_user_data = o.progress_user_data,
                                          .type = o.type,
                                          .output_type = o.output_type,
                                          .embedding_type = o.embedding_type,
                                          .pure = o.pure,
                                          .allow_requantize = o.allow_requantize,
                                          .disable_resume = o.disable_resume};
    struct model_source_options source = {.hub_dir = o.hub_dir,
                                          .verify_files = o.verify_files,
                                          .keep_f8 = model_convert_keeps_f8(&config)};
    st = convert(&result, src, dst, &config, &source);
    device_release(&device);
    if (st != INFER_OK || !out)
        return st;
    infer_convert_info full = {.bytes = result.bytes,
                               .n_tensors = result.n_tensors,
                               .n_resumed = result.n_resumed,
                               .n_fallback = result.n_fallback};
    return base_info_copy(out, &full, sizeof full, "infer_convert_info");
}
