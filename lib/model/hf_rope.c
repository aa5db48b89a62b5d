/* Rotary positions of config.json: the base, how much of a head turns, and scalings. */
#include "model/hf.h"

#include "base/error.h"
#include "model/arch.h"
#include "model/rope.h"

#include <math.h>

#define PI          3.14159265358979323846
#define MAX_FACTORS 4096
#define KEY_MAX     160

/* Since version 5 of transformers everything is in "rope_parameters", which may hold one object
 * for each type of layer; before there were "rope_theta" and "rope_scaling". */
struct rope {
    const struct base_json *full;   /* of layers that see everything; may be NULL */
    const struct base_json *window; /* of layers with a window, where they differ */
    double theta;
    int32_t n_rot;
};

static double real(const struct base_json *v, const char *key, double missing)
{
    base_json_f64(base_json_get(v, key), &missing);
    return missing;
}

static void find_rope(struct rope *r, const struct model_hf *hf)
{
    r->full = model_hf_get(hf, "rope_parameters");
    if (!r->full)
        r->full = model_hf_get(hf, "rope_scaling");
    const struct base_json *by_type = base_json_get(r->full, "full_attention");
    if (by_type) {
        r->window = base_json_get(r->full, "sliding_attention");
        r->full = by_type;
    }
    double theta = model_hf_real(hf, "rope_theta", model_hf_real(hf, "rotary_emb_base", 0));
    r->theta = real(r->full, "rope_theta", theta);
}

static int32_t rotated(const struct model_hf *hf, const struct rope *r)
{
    double part = model_hf_real(hf, "partial_rotary_factor", model_hf_real(hf, "rotary_pct", 1));
    part = real(r->full, "partial_rotary_factor", part);
    int64_t n = model_hf_int(hf, "rotary_dim", model_hf_int(hf, "qk_rope_head_dim", 0));
    struct base_view type;
    if (base_json_string(base_json_get(r->full, "rope_type"), &type) &&
        base_view_equal(type, "proportional"))
        return hf->head_dim;
    if (n > 0 && n <= MAX_FACTORS)
        return (int32_t)n;
    return part > 0 && part <= 1 ? (int32_t)(hf->head_dim * part) : hf->head_dim;
}

static infer_status add_factors(struct model_hf *hf, const char *name, float *factors, int32_t n)
{
    struct model_hf_value v = {.type = INFER_DTYPE_F32,
                               .n_dims = 1,
                               .dims = {(uint64_t)n, 1, 1, 1},
                               .data = (const uint8_t *)factors};
    return model_hf_add(hf, name, &v, 0);
}

/* Llama 3.1 and later: slow pairs are slowed down by the factor, fast ones stay, those between
 * change smoothly (as transformers computes them). */
static infer_status scale_llama3(struct model_hf *hf, const struct rope *r)
{
    double factor = real(r->full, "factor", 8), low = real(r->full, "low_freq_factor", 1);
    double high = real(r->full, "high_freq_factor", 4);
    double context = real(r->full, "original_max_position_embeddings", 8192);
    int32_t n = r->n_rot / 2;
    if (!(factor > 0 && low > 0 && high > low && context > 0) || !isfinite((float)factor) || n < 1)
        return base_error(INFER_ERR_FORMAT, "config.json: rope_scaling of type llama3 has a number "
                                            "out of range");
    float *factors = gguf_draft_memory(hf->draft, (size_t)n, sizeof *factors);
    if (!factors)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n; i++) {
        double wave = 2 * PI * pow(r->theta, 2.0 * i / r->n_rot);
        double smooth = (context / wave - low) / (high - low);
        factors[i] = (float)(wave < context / high  ? 1
                             : wave > context / low ? factor
                                                    : 1 / ((1 - smooth) / factor + smooth));
    }
    return add_factors(hf, "rope_freqs.weight", factors, n);
}

static infer_status add_list(struct model_hf *hf, const struct rope *r, const char *key,
                             const char *name)
{
    const struct base_json *list = base_json_get(r->full, key);
    if (!base_json_is(list, BASE_JSON_ARRAY) || (int32_t)list->n != r->n_rot / 2)
        return base_error(INFER_ERR_FORMAT,
                          "config.json: \"%s\" of the rotary scaling is no list of %d numbers", key,
                          r->n_rot / 2);
    float *factors = gguf_draft_memory(hf->draft, list->n, sizeof *factors);
    if (!factors)
        return INFER_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < list->n; i++) {
        double f = 0;
        base_json_f64(&list->as.items[i], &f);
        factors[i] = (float)f;
        if (!(factors[i] > 0) || !isfinite(factors[i]))
            return base_error(INFER_ERR_FORMAT,
                              "config.json: number %u of \"%s\" of the rotary scaling is %g", i,
                              key, f);
    }
    return add_factors(hf, name, factors, (int32_t)list->n);
}

/* The head's own frequencies, of which the slow ones stand still: whole heads are rotated, by
 * divisors that leave nothing of those. */
static infer_status scale_proportional(struct model_hf *hf, const struct rope *r)
{
    double part = real(r->full, "partial_rotary_factor", 1), factor = real(r->full, "factor", 1);
    int32_t n = r->n_rot / 2;
    if (!(part > 0 && part <= 1 && factor > 0) || !isfinite((float)factor) || n < 1 ||
        n > MAX_FACTORS)
        return base_error(INFER_ERR_FORMAT, "config.json: rope_parameters of type proportional "
                                            "have a number out of range");
    float *factors = gguf_draft_memory(hf->draft, (size_t)n, sizeof *factors);
    if (!factors)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n; i++)
        factors[i] = i < (int32_t)(part * r->n_rot / 2) ? (float)factor : 1e30f;
    return add_factors(hf, "rope_freqs.weight", factors, n);
}

/* Factors for short and for long texts (arXiv:2402.13753), as Phi 3 has them. */
static infer_status scale_longrope(struct model_hf *hf, const struct rope *r)
{
    double context = model_hf_real(hf, "max_position_embeddings", 0);
    double first = real(r->full, "original_max_position_embeddings",
                        model_hf_real(hf, "original_max_position_embeddings", context));
    if (!(first >= 2) || first > INT32_MAX)
        return base_error(INFER_ERR_FORMAT, "config.json: original_max_position_embeddings is %g",
                          first);
    double growth = context / first;
    double magnitude = growth > 1 ? sqrt(1 + log(growth) / log(first)) : 1;
    magnitude = real(r->full, "attention_factor", magnitude);
    infer_status st = model_hf_set_string(hf, "rope.scaling.type", "longrope");
    if (st == INFER_OK)
        st = model_hf_set_u32(hf, "rope.scaling.original_context_length", (uint32_t)first);
    if (st == INFER_OK)
        st = model_hf_set_f32(hf, "rope.scaling.attn_factor", magnitude);
    if (st == INFER_OK)
        st = add_list(hf, r, "long_factor", "rope_factors_long.weight");
    return st == INFER_OK ? add_list(hf, r, "short_factor", "rope_factors_short.weight") : st;
}

/* The magnitude as transformers has it, told as GGUF's readers find it: what differs from their
 * own idea becomes attn_factor. Only some of them look for a multiplier. */
static infer_status scale_magnitude(struct model_hf *hf, const struct base_json *yarn,
                                    double factor)
{
    double all = real(yarn, "mscale_all_dim", 0), mscale = real(yarn, "mscale", 0);
    int latent = model_hf_int(hf, "kv_lora_rank", 0) > 0;
    double told = latent ? 0.1 * all : hf->arch->yarn_multiplier ? all : 0;
    double want = all != 0 && mscale != 0
                      ? model_rope_growth(factor, mscale) / model_rope_growth(factor, all)
                      : model_rope_growth(factor, 1);
    base_json_f64(base_json_get(yarn, "attention_factor"), &want);
    double rest = want / model_rope_usual_magnitude(factor, told, latent);
    infer_status st =
        told != 0 ? model_hf_set_f32(hf, "rope.scaling.yarn_log_multiplier", told) : INFER_OK;
    if (st == INFER_OK && fabs(rest - 1) > 1e-7)
        st = model_hf_set_f32(hf, "rope.scaling.attn_factor", rest);
    return st;
}

static infer_status scale_yarn(struct model_hf *hf, const struct rope *r)
{
    static const struct model_hf_key rows[] = {
        {"beta_fast", "rope.scaling.yarn_beta_fast", MODEL_HF_F32},
        {"beta_slow", "rope.scaling.yarn_beta_slow", MODEL_HF_F32},
    };
    double factor = real(r->full, "factor", 0), value;
    double first = real(r->full, "original_max_position_embeddings",
                        model_hf_real(hf, "max_position_embeddings", 0));
    if (!(factor >= 1) || !(first >= 1) || first > INT32_MAX)
        return base_error(INFER_ERR_FORMAT, "config.json: YaRN with factor %g over %g positions",
                          factor, first);
    infer_status st = model_hf_set_string(hf, "rope.scaling.type", "yarn");
    if (st == INFER_OK)
        st = model_hf_set_f32(hf, "rope.scaling.factor", factor);
    if (st == INFER_OK)
        st = model_hf_set_u32(hf, "rope.scaling.original_context_length", (uint32_t)first);
    for (size_t i = 0; i < BASE_COUNT(rows) && st == INFER_OK; i++)
        if (base_json_f64(base_json_get(r->full, rows[i].from), &value))
            st = model_hf_set_f32(hf, rows[i].to, value);
    int32_t truncate = 0;
    if (st == INFER_OK && base_json_bool(base_json_get(r->full, "truncate"), &truncate))
        st = model_hf_set_bool(hf, "rope.scaling.yarn_truncate", truncate);
    return st == INFER_OK ? scale_magnitude(hf, r->full, factor) : st;
}

static infer_status scale(struct model_hf *hf, const struct rope *r)
{
    struct base_view type = {"default", 7};
    if (!base_json_string(base_json_get(r->full, "rope_type"), &type))
        base_json_string(base_json_get(r->full, "type"), &type);
    if (base_view_equal(type, "linear")) {
        infer_status st = model_hf_set_string(hf, "rope.scaling.type", "linear");
        return st == INFER_OK
                   ? model_hf_set_f32(hf, "rope.scaling.factor", real(r->full, "factor", 1))
                   : st;
    }
    if (base_view_equal(type, "llama3"))
        return scale_llama3(hf, r);
    if (base_view_equal(type, "proportional"))
        return scale_proportional(hf, r);
    if (base_view_equal(type, "yarn"))
        return scale_yarn(hf, r);
    if (base_view_equal(type, "longrope") || base_view_equal(type, "su"))
        return scale_longrope(hf, r);
    if (base_view_equal(type, "dynamic")) /* changes nothing up to max_position_embeddings */
        return INFER_OK;
    if (!base_view_equal(type, "default") && !base_view_equal(type, "mrope"))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: rotary scaling of type \"%.*s\" is not supported",
                          (int)BASE_MIN(type.size, (size_t)64), type.data);
    return INFER_OK;
}

/* How many pairs turn by time, height and width of an image, of which text has one. GGUF's
 * readers expect four numbers. */
static infer_status set_sections(struct model_hf *hf, const struct rope *r)
{
    const struct base_json *list = base_json_get(r->full, "mrope_section");
    int32_t sections[4] = {0};
    if (!base_json_is(list, BASE_JSON_ARRAY))
        return INFER_OK;
    for (uint32_t i = 0; i < list->n && i < BASE_COUNT(sections); i++) {
        int64_t n = -1;
        if (!base_json_i64(&list->as.items[i], &n) || n < 0 || n > MAX_FACTORS)
            return base_error(INFER_ERR_FORMAT,
                              "config.json: \"mrope_section\" is no list of numbers of pairs");
        sections[i] = (int32_t)n;
    }
    return model_hf_set_i32s(hf, "rope.dimension_sections", sections, BASE_COUNT(sections));
}

/* Bases are written even where config.json leaves them out: other readers of GGUF take 10000. */
static infer_status set_bases(struct model_hf *hf, struct rope *r)
{
    const struct model_arch *arch = model_arch_find((struct base_view){hf->name, strlen(hf->name)});
    const struct model_hparams *usual = &arch->defaults;
    double window = real(r->window, "rope_theta", model_hf_real(hf, "rope_local_base_freq", 0));
    infer_status st = INFER_OK;
    if (arch->rope == MODEL_ROPE_NONE)
        return INFER_OK;
    if (!(r->theta > 0))
        r->theta = usual->rope_base > 0 ? (double)usual->rope_base : 10000;
    if (!(window > 0))
        window = (double)usual->rope_base_window;
    if (r->n_rot > 0)
        st = model_hf_set_f32(hf, "rope.freq_base", r->theta);
    if (st == INFER_OK && window > 0)
        st = model_hf_set_f32(hf, "rope.freq_base_swa", window);
    return st;
}

infer_status model_hf_rope(struct model_hf *hf)
{
    struct rope r = {0};
    find_rope(&r, hf);
    r.n_rot = rotated(hf, &r);
    if (r.theta < 0)
        return base_error(INFER_ERR_FORMAT, "config.json: rope_theta is %g", r.theta);
    infer_status st = set_bases(hf, &r);
    if (st == INFER_OK && r.n_rot > 0)
        st = model_hf_set_u32(hf, "rope.dimension_count", (uint32_t)r.n_rot);
    if (st == INFER_OK)
        st = set_sections(hf, &r);
    return st == INFER_OK ? scale(hf, &r) : st;
}
