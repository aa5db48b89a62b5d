/* Rotary position embedding (Su et al., arXiv:2104.09864) and its scalings:
 * linear (Chen et al., arXiv:2306.15595) and YaRN (Peng et al., arXiv:2309.00071). */
#include "model/rope.h"

#include "base/error.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>

#define PI 3.14159265358979323846

struct scaling {
    int yarn;
    float factor, attn_factor, beta_fast, beta_slow;
    int32_t n_context; /* the model was first trained with */
};

static infer_status get_f32(const struct gguf_file *file, const struct model_arch *arch,
                            const char *name, float *out)
{
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.%s", arch->name, name);
    infer_status st = gguf_get_f32(file, key, out);
    if (st == INFER_OK && !(*out > 0 && *out < 1e9f))
        return base_error(INFER_ERR_FORMAT, "metadata key %s is %g, expected more than 0", key,
                          (double)*out);
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

static infer_status read_scaling(struct scaling *s, const struct gguf_file *file,
                                 const struct model_arch *arch, const struct model_hparams *hp)
{
    char key[128];
    struct base_view type = {0};
    *s = (struct scaling){
        .factor = 1, .attn_factor = 1, .beta_fast = 32, .beta_slow = 1, .n_context = hp->n_context};
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch->name);
    infer_status st = gguf_get_string(file, key, &type);
    if (st == INFER_ERR_NOT_FOUND) { /* files of 2023 had only this */
        snprintf(key, sizeof key, "%s.rope.scale_linear", arch->name);
        st = gguf_get_f32(file, key, &s->factor);
        return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
    }
    if (st != INFER_OK)
        return st;
    if (base_view_equal(type, "none"))
        return INFER_OK;
    s->yarn = base_view_equal(type, "yarn");
    if (!s->yarn && !base_view_equal(type, "linear"))
        return base_error(INFER_ERR_UNSUPPORTED, "rope scaling type \"%.*s\" is not supported",
                          (int)BASE_MIN(type.size, (size_t)64), type.data);
    if ((st = get_f32(file, arch, "factor", &s->factor)) != INFER_OK ||
        (st = get_f32(file, arch, "attn_factor", &s->attn_factor)) != INFER_OK ||
        (st = get_f32(file, arch, "yarn_beta_fast", &s->beta_fast)) != INFER_OK ||
        (st = get_f32(file, arch, "yarn_beta_slow", &s->beta_slow)) != INFER_OK)
        return st;
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", arch->name);
    st = gguf_get_i32(file, key, &s->n_context);
    if (st == INFER_OK && s->n_context < 1)
        return base_error(INFER_ERR_FORMAT, "metadata key %s must be positive", key);
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

/* Index of the pair that turns `turns` times over the original context (arXiv:2309.00071, eq. 15).
 */
static double pair_of_turns(double turns, const struct model_hparams *hp, const struct scaling *s)
{
    return hp->n_rot * log(s->n_context / (turns * 2 * PI)) / (2 * log((double)hp->rope_base));
}

/* Pairs that turn often keep their frequency, slow ones are interpolated. */
static double yarn_keep(int32_t pair, double low, double high)
{
    double ramp = (pair - low) / fmax(high - low, 0.001);
    return 1 - fmin(fmax(ramp, 0), 1);
}

infer_status model_rope_init(struct model_rope *rope, struct base_arena *arena,
                             const struct model_arch *arch, const struct model_hparams *hp,
                             const struct gguf_file *file, const float *factors)
{
    struct scaling s;
    infer_status st = read_scaling(&s, file, arch, hp);
    if (st != INFER_OK)
        return st;
    rope->n_pairs = hp->n_rot / 2;
    rope->magnitude = 1;
    rope->frequency = base_arena_new(arena, (size_t)rope->n_pairs, sizeof *rope->frequency);
    if (!rope->frequency)
        return INFER_ERR_NO_MEMORY;
    double low = 0, high = 0;
    if (s.yarn) {
        low = fmax(floor(pair_of_turns(s.beta_fast, hp, &s)), 0);
        high = fmin(ceil(pair_of_turns(s.beta_slow, hp, &s)), hp->n_rot - 1);
        rope->magnitude = s.attn_factor;
        if (s.factor > 1)
            rope->magnitude *= (float)(1 + 0.1 * log((double)s.factor));
    }
    for (int32_t i = 0; i < rope->n_pairs; i++) {
        double f = pow((double)hp->rope_base, -2.0 * i / hp->n_rot);
        double keep = s.yarn ? yarn_keep(i, low, high) : 0;
        f = f * keep + f / s.factor * (1 - keep);
        if (factors && !(factors[i] > 0))
            return base_error(INFER_ERR_FORMAT,
                              "tensor rope_freqs.weight element %d is %g, expected more than 0", i,
                              (double)factors[i]);
        rope->frequency[i] = factors ? f / factors[i] : f;
    }
    return INFER_OK;
}

void model_rope_row(const struct model_rope *rope, int32_t position, float *cs)
{
    for (int32_t i = 0; i < rope->n_pairs; i++) {
        double angle = position * rope->frequency[i];
        cs[i] = (float)cos(angle) * rope->magnitude;
        cs[i + rope->n_pairs] = (float)sin(angle) * rope->magnitude;
    }
}
