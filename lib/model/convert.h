/* Writing a model as a GGUF file with other element types. */
#ifndef MODEL_CONVERT_H
#define MODEL_CONVERT_H

#include "device/device.h"
#include "format/gguf.h"

struct model_convert_config {
    const struct base_alloc *alloc;
    struct infer_device *device; /* its threads and kernels; a CPU */
    infer_progress_fn progress;
    void *progress_user_data;
    const char *type;           /* "Q4_K_M" (mix.h); NULL or "keep": types stay as they are */
    const char *output_type;    /* of output.weight; NULL: as `type` says */
    const char *embedding_type; /* of token_embd.weight */
    int32_t pure;               /* every matrix gets the type itself */
    int32_t allow_requantize;
    int32_t disable_resume;
};

struct model_convert_result {
    uint64_t bytes;                           /* of the file */
    int64_t n_tensors, n_resumed, n_fallback; /* found done; of another type for their shape */
};

/* Converts what is open already. Errors name path and tensor: IO, BUSY, INVALID, UNSUPPORTED,
 * FORMAT (NaN, infinity, values beyond a type), CANCELLED, NO_MEMORY. An interrupted file stays
 * as "<dst>.part" for a later call, but where the host cancelled, too. */
infer_status model_convert(struct model_convert_result *out, const struct gguf_file *src,
                           const char *dst, const struct model_convert_config *config);

/* Whether matrices of FP8 in a folder should come as F8_128 and not as BF16: the type asked for has
 * a place for their codes. */
int model_convert_keeps_f8(const struct model_convert_config *config);

#endif
