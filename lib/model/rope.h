/* Rotary positions: frequencies of a model, with its scaling. */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include "model/arch.h"

struct model_rope {
    int32_t n_pairs;
    float magnitude;   /* cosines and sines are multiplied by it (YaRN) */
    float attn_growth; /* scores are multiplied by its square (DeepSeek's YaRN) */
    double *frequency; /* n_pairs radians a position; in the arena it was made with */
    /* LongRoPE: from position n_near on, other frequencies; NULL without. */
    double *far;
    int32_t n_near;
};

/* What a file may say about frequencies one by one (n_pairs each, or NULL): divisors for all
 * positions (Llama 3.1), or for near and far ones (LongRoPE). */
struct model_rope_factors {
    const float *all, *near, *far;
};

struct model_rope_config {
    int32_t n_rot;
    float base;
    int32_t plain; /* the file's scaling is not for these layers */
    struct model_rope_factors factors;
};

/* YaRN: how much longer queries and keys become by `factor` (arXiv:2309.00071, section 3.4). */
double model_rope_growth(double factor, double mscale);

/* Magnitude of a GGUF file with YaRN whose attn_factor is 1. `log_multiplier` is the number of
 * config.json's mscale_all_dim, a tenth of it in files with latent attention; 0: none. Of mscale
 * GGUF has no word: it is taken to be 1, with latent attention the same as mscale_all_dim. */
double model_rope_usual_magnitude(double factor, double log_multiplier, int32_t latent);

/* Reads <arch>.rope.scaling.* (none, linear, yarn, longrope). */
infer_status model_rope_init(struct model_rope *rope, struct base_arena *arena,
                             const struct model_arch *arch, const struct model_hparams *hp,
                             const struct gguf_file *file, const struct model_rope_config *config);

/* n_pairs cosines, then n_pairs sines, for kern_rope_fn. */
void model_rope_row(const struct model_rope *rope, int32_t position, float *cs);

#endif
