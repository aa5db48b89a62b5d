/* Rotary position embedding (Su et al., arXiv:2104.09864) and its scalings:
 * linear (Chen et al., arXiv:2306.15595), YaRN (Peng et al., arXiv:2309.00071) and LongRoPE
 * (Ding et al., arXiv:2402.13753). */
#include "model/rope.h"

#include "base/error.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PI 3.14159265358979323846

struct scaling {
    int yarn, far;
    int32_t truncate; /* YaRN's ramp begins and ends at whole pairs */
    float factor, attn_factor, beta_fast, beta_slow;
    float log_multiplier; /* model_rope_usual_magnitude() */
    int32_t n_context;    /* the model was first trained with */
};

double model_rope_growth(double factor, double mscale)
{
    return factor > 1 ? 1 + 0.1 * mscale * log(factor) : 1;
}

double model_rope_usual_magnitude(double factor, double log_multiplier, int32_t latent)
{
    double all = latent ? 10 * log_multiplier : log_multiplier;
    if (all == 0)
        return model_rope_growth(factor, 1);
    return latent ? 1 : model_rope_growth(factor, 1) / model_rope_growth(factor, all);
}

/* Zero stands for an absent multiplier. */
static infer_status get_f32(const struct gguf_file *file, const struct model_arch *arch,
                            const char *name, float *out)
{
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.%s", arch->name, name);
    infer_status st = gguf_get_f32(file, key, out);
    int zero = st == INFER_OK && *out == 0 && strcmp(name, "yarn_log_multiplier") == 0;
    if (st == INFER_OK && !zero && !(*out > 0 && *out < 1e9f))
        return base_error(INFER_ERR_FORMAT, "metadata key %s is %g, expected more than 0", key,
                          (double)*out);
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

static infer_status read_scaling(struct scaling *s, const struct gguf_file *file,
                                 const struct model_arch *arch, const struct model_hparams *hp)
{
    char key[128];
    struct base_view type = {0};
    *s = (struct scaling){.factor = 1,
                          .attn_factor = 1,
                          .beta_fast = 32,
                          .beta_slow = 1,
                          .truncate = !(arch->traits & MODEL_YARN_EXACT),
                          .n_context = hp->n_context};
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
    s->far = base_view_equal(type, "longrope");
    if (!s->yarn && !s->far && !base_view_equal(type, "linear"))
        return base_error(INFER_ERR_UNSUPPORTED, "rope scaling type \"%.*s\" is not supported",
                          (int)BASE_MIN(type.size, (size_t)64), type.data);
    if ((st = get_f32(file, arch, "factor", &s->factor)) != INFER_OK ||
        (st = get_f32(file, arch, "attn_factor", &s->attn_factor)) != INFER_OK ||
        (st = get_f32(file, arch, "yarn_log_multiplier", &s->log_multiplier)) != INFER_OK ||
        (st = get_f32(file, arch, "yarn_beta_fast", &s->beta_fast)) != INFER_OK ||
        (st = get_f32(file, arch, "yarn_beta_slow", &s->beta_slow)) != INFER_OK)
        return st;
    snprintf(key, sizeof key, "%s.rope.scaling.yarn_truncate", arch->name);
    st = gguf_get_bool(file, key, &s->truncate);
    if (st != INFER_OK && st != INFER_ERR_NOT_FOUND)
        return st;
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", arch->name);
    st = gguf_get_i32(file, key, &s->n_context);
    if (st == INFER_OK && s->n_context < 1)
        return base_error(INFER_ERR_FORMAT, "metadata key %s must be positive", key);
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

/* Index of the pair that turns `turns` times over the original context (arXiv:2309.00071, eq. 15).
 */
static double pair_of_turns(double turns, const struct model_rope_config *c,
                            const struct scaling *s)
{
    return c->n_rot * log(s->n_context / (turns * 2 * PI)) / (2 * log((double)c->base));
}

/* Pairs that turn often keep their frequency, slow ones are interpolated. */
static double yarn_keep(int32_t pair, double low, double high)
{
    double ramp = (pair - low) / fmax(high - low, 0.001);
    return 1 - fmin(fmax(ramp, 0), 1);
}

/* Frequencies, before divisors of single pairs. */
static void fill(struct model_rope *rope, const struct model_rope_config *c,
                 const struct scaling *s)
{
    double low = 0, high = 0;
    if (s->yarn) {
        low = pair_of_turns(s->beta_fast, c, s);
        high = pair_of_turns(s->beta_slow, c, s);
        low = fmax(s->truncate ? floor(low) : low, 0);
        high = fmin(s->truncate ? ceil(high) : high, c->n_rot - 1);
    }
    for (int32_t i = 0; i < rope->n_pairs; i++) {
        double f = pow((double)c->base, -2.0 * i / c->n_rot);
        double keep = s->yarn ? yarn_keep(i, low, high) : 0;
        rope->frequency[i] = f * keep + f / s->factor * (1 - keep);
    }
}

static infer_status divide(double *out, const double *frequency, const float *factors, int32_t n,
                           const char *name)
{
    for (int32_t i = 0; i < n; i++) {
        if (!(factors[i] > 0))
            return base_error(INFER_ERR_FORMAT,
                              "tensor %s.weight element %d is %g, expected more than 0", name, i,
                              (double)factors[i]);
        out[i] = frequency[i] / factors[i];
    }
    return INFER_OK;
}

static float magnitude(const struct scaling *s, const struct model_hparams *hp)
{
    if (s->far && s->attn_factor == 1 && hp->n_context > s->n_context) /* LongRoPE, section 3.3 */
        return (float)sqrt(1 + log((double)hp->n_context / s->n_context) / log(s->n_context));
    if (!s->yarn)
        return s->attn_factor;
    return s->attn_factor * (float)model_rope_usual_magnitude(
                                (double)s->factor, (double)s->log_multiplier, hp->kv_lora > 0);
}

infer_status model_rope_init(struct model_rope *rope, struct base_arena *arena,
                             const struct model_arch *arch, const struct model_hparams *hp,
                             const struct gguf_file *file, const struct model_rope_config *config)
{
    const struct model_rope_factors *factors = &config->factors;
    struct scaling s = {.factor = 1, .attn_factor = 1, .n_context = hp->n_context};
    infer_status st = config->plain ? INFER_OK : read_scaling(&s, file, arch, hp);
    if (st != INFER_OK)
        return st;
    size_t n = (size_t)config->n_rot / 2;
    int far = s.far && factors->near && factors->far;
    if (s.far)
        s.factor = 1; /* the tensors hold it pair by pair */
    *rope = (struct model_rope){.n_pairs = (int32_t)n, .attn_growth = 1, .n_near = INT32_MAX};
    rope->frequency = base_arena_new(arena, n, sizeof *rope->frequency);
    rope->far = far ? base_arena_new(arena, n, sizeof *rope->far) : NULL;
    if (!rope->frequency || (far && !rope->far))
        return INFER_ERR_NO_MEMORY;
    rope->magnitude = magnitude(&s, hp);
    if (s.yarn && hp->kv_lora) /* DeepSeek */
        rope->attn_growth =
            (float)model_rope_growth((double)s.factor, 10 * (double)s.log_multiplier);
    fill(rope, config, &s);
    if (factors->all)
        return divide(rope->frequency, rope->frequency, factors->all, rope->n_pairs, "rope_freqs");
    if (!far)
        return INFER_OK;
    rope->n_near = s.n_context;
    st = divide(rope->far, rope->frequency, factors->far, rope->n_pairs, "rope_factors_long");
    if (st != INFER_OK)
        return st;
    return divide(rope->frequency, rope->frequency, factors->near, rope->n_pairs,
                  "rope_factors_short");
}

void model_rope_row(const struct model_rope *rope, int32_t position, float *cs)
{
    const double *frequency = position < rope->n_near ? rope->frequency : rope->far;
    for (int32_t i = 0; i < rope->n_pairs; i++) {
        double angle = position * frequency[i];
        cs[i] = (float)cos(angle) * rope->magnitude;
        cs[i + rope->n_pairs] = (float)sin(angle) * rope->magnitude;
    }
}
