/* Weights in the layout of the device's kernels: a copy that replaces the pages of the file. */
#ifndef MODEL_PACK_H
#define MODEL_PACK_H

#include "format/gguf.h"
#include "model/weights.h"

#include <infer/model.h>

struct model_pack_config {
    struct infer_device *device;
    struct base_arena *arena; /* of tables; lives as long as the weights */
    const struct gguf_file *file;
    int32_t n_layers;
    int32_t floats; /* F32, F16 and BF16 too, whose sums then have another order */
    infer_pack how;
    /* Called between matrices with 0 to 1; another status than INFER_OK ends the packing with it.
     */
    infer_status (*report)(void *arg, double fraction);
    void *report_arg;
};

/* Packs every matrix that products read, on all threads of the device, and lets go of the file's
 * pages behind it, so that no second copy stays in memory: weights that loading made itself are
 * packed for INFER_PACK_ON alone. `out` holds the copies and stays empty where nothing is packed:
 * INFER_PACK_OFF, INFER_PACK_AUTO without kernels that gain from it or without room. On an error
 * the weights may point into `out`, which the caller frees with them. */
infer_status model_pack(struct device_buffer *out, struct model_weights *weights,
                        const struct model_pack_config *config);

#endif
