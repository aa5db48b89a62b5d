/* Rotary positions: frequencies of a model, with its scaling. */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include "model/arch.h"

struct model_rope {
    int32_t n_pairs;
    float magnitude;   /* cosines and sines are multiplied by it (YaRN) */
    double *frequency; /* n_pairs radians a position; in the arena it was made with */
};

/* Reads <arch>.rope.scaling.* (none, linear, yarn); `factors` (n_pairs or NULL)
 * divide the frequencies one by one, as Llama 3.1's rope_freqs tensor says. */
infer_status model_rope_init(struct model_rope *rope, struct base_arena *arena,
                             const struct model_arch *arch, const struct model_hparams *hp,
                             const struct gguf_file *file, const float *factors);

/* n_pairs cosines, then n_pairs sines, for kern_rope_fn. */
void model_rope_row(const struct model_rope *rope, int32_t position, float *cs);

#endif
