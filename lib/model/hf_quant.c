/* Quantised checkpoints: the method, and which of the stored tensors make up one. */
#include "model/hf_quant.h"

#include "base/error.h"
#include "model/hf_unpack.h"

#include <stdio.h>

#define NAME_MAX_BYTES 512
#define SHOW(view)     (int)BASE_MIN((view).size, (size_t)64), (view).data

static infer_status refuse(struct base_view what)
{
    return base_error(
        INFER_ERR_UNSUPPORTED,
        "config.json: checkpoints quantised by \"%.*s\" are not supported (supported: "
        "fp8, awq, gptq, compressed-tensors, mxfp4, modelopt)",
        SHOW(what));
}

/* A small number; what does not fit becomes another one that nothing supports. */
static int32_t member_int(const struct base_json *v, const char *key, int32_t missing)
{
    int64_t value = missing;
    base_json_i64(base_json_get(v, key), &value);
    return (int32_t)BASE_MIN(BASE_MAX(value, INT32_MIN), INT32_MAX);
}

static infer_status read_awq(struct model_hf_quant *q, const struct base_json *config)
{
    struct base_view version = {"gemm", 4};
    base_json_string(base_json_get(config, "version"), &version);
    q->bits = member_int(config, "bits", member_int(config, "w_bit", 4));
    if (q->bits != 4 || (!base_view_equal(version, "gemm") && !base_view_equal(version, "GEMM")))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: awq with %d bits and packing \"%.*s\", supported is 4 bits "
                          "and gemm",
                          q->bits, SHOW(version));
    return INFER_OK;
}

static infer_status read_gptq(struct model_hf_quant *q, const struct base_json *config)
{
    struct base_view format = {"gptq", 4};
    base_json_string(base_json_get(config, "checkpoint_format"), &format);
    q->bits = member_int(config, "bits", 4);
    q->zero_offset = base_view_equal(format, "gptq_v2") ? 0 : 1;
    if ((q->bits != 2 && q->bits != 4 && q->bits != 8) ||
        (q->zero_offset && !base_view_equal(format, "gptq")))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: gptq with %d bits in format \"%.*s\", supported are 2, 4 "
                          "and 8 bits in gptq and gptq_v2",
                          q->bits, SHOW(format));
    return INFER_OK;
}

/* One group of layers. Which of the formats a tensor has is seen from its parts, but for the width
 * of whole numbers in words, which must be the same everywhere. */
static infer_status read_group(struct model_hf_quant *q, struct base_view format, int32_t bits)
{
    static const struct {
        const char *name;
        int32_t bits;
    } known[] = {{"int-quantized", 8},
                 {"float-quantized", 8},
                 {"naive-quantized", 8},
                 {"nvfp4-pack-quantized", 4},
                 {"mxfp4-pack-quantized", 4}};
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_view_equal(format, known[i].name) && bits == known[i].bits)
            return INFER_OK;
    if (!base_view_equal(format, "pack-quantized") || (bits != 4 && bits != 8))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: compressed-tensors of format \"%.*s\" with %d bits is not "
                          "supported",
                          SHOW(format), bits);
    if (q->bits && bits != q->bits)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "config.json: compressed-tensors with several widths of weights");
    q->bits = bits;
    return INFER_OK;
}

static infer_status read_compressed(struct model_hf_quant *q, const struct base_json *config)
{
    const struct base_json *groups = base_json_get(config, "config_groups");
    struct base_view format = {"", 0};
    infer_status st = INFER_OK;
    base_json_string(base_json_get(config, "format"), &format);
    if (base_view_equal(format, "dense")) { /* nothing is packed */
        q->method = MODEL_HF_NOT_QUANTIZED;
        return INFER_OK;
    }
    if (!base_json_is(groups, BASE_JSON_OBJECT) || !groups->n)
        return read_group(q, format, 0);
    for (uint32_t i = 0; i < groups->n && st == INFER_OK; i++) {
        const struct base_json *group = &groups->as.member[i].value;
        struct base_view own = format;
        base_json_string(base_json_get(group, "format"), &own);
        st = read_group(q, own, member_int(base_json_get(group, "weights"), "num_bits", 0));
    }
    return st;
}

static infer_status read_modelopt(const struct base_json *config)
{
    static const char *const known[] = {"FP8", "NVFP4", "W4A16_NVFP4", "FP8_PB_WO",
                                        "FP8_PER_CHANNEL_PER_TOKEN"};
    struct base_view algo = {"", 0};
    base_json_string(base_json_get(config, "quant_algo"), &algo);
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_view_equal(algo, known[i]))
            return INFER_OK;
    return base_error(INFER_ERR_UNSUPPORTED,
                      "quantisation by ModelOpt with quant_algo \"%.*s\" is not supported "
                      "(supported: FP8, NVFP4)",
                      SHOW(algo));
}

static void read_fp8(struct model_hf_quant *q, const struct base_json *config)
{
    const struct base_json *block = base_json_get(config, "weight_block_size");
    base_json_i64(base_json_at(block, 0), &q->block_rows);
    base_json_i64(base_json_at(block, 1), &q->block_cols);
}

infer_status model_hf_quant_read(struct model_hf *hf)
{
    static const struct {
        const char *name;
        enum model_hf_method method;
    } methods[] = {
        {"fp8", MODEL_HF_FP8},           {"fbgemm_fp8", MODEL_HF_FP8},
        {"awq", MODEL_HF_AWQ},           {"gptq", MODEL_HF_GPTQ},
        {"mxfp4", MODEL_HF_MXFP4},       {"compressed-tensors", MODEL_HF_COMPRESSED},
        {"modelopt", MODEL_HF_MODELOPT},
    };
    const struct base_json *config = model_hf_get(hf, "quantization_config");
    struct model_hf_quant *q = &hf->quant;
    struct base_view name = {"", 0};
    if (!config)
        config = model_hf_get(hf, "compression_config");
    if (!config &&
        (config = base_json_get(hf_dir_json(hf->dir, HF_QUANT), "quantization")) != NULL) {
        q->method = MODEL_HF_MODELOPT;
        return read_modelopt(config);
    }
    if (!config)
        return INFER_OK;
    base_json_string(base_json_get(config, "quant_method"), &name);
    for (size_t i = 0; i < BASE_COUNT(methods); i++)
        if (base_view_equal(name, methods[i].name))
            q->method = methods[i].method;
    switch (q->method) {
    case MODEL_HF_NOT_QUANTIZED:
        return refuse(name);
    case MODEL_HF_FP8:
        read_fp8(q, config);
        return INFER_OK;
    case MODEL_HF_AWQ:
        return read_awq(q, config);
    case MODEL_HF_GPTQ:
        return read_gptq(q, config);
    case MODEL_HF_COMPRESSED:
        return read_compressed(q, config);
    case MODEL_HF_MODELOPT:
        return read_modelopt(config);
    default:
        return INFER_OK;
    }
}

/* How a method writes the main part, and what that is called unpacked. */
static const struct {
    enum model_hf_method method;
    const char *stored, *plain;
} mains[] = {
    {MODEL_HF_AWQ, ".qweight", ".weight"},
    {MODEL_HF_GPTQ, ".qweight", ".weight"},
    {MODEL_HF_COMPRESSED, ".weight_packed", ".weight"},
    {MODEL_HF_MXFP4, "_blocks", ""},
};

/* Parts that belong to another tensor. */
static const char *const sides[] = {
    ".weight_scale_inv",
    ".weight_scale",
    ".weight_zero_point",
    ".weight_g_idx",
    ".weight_shape",
    ".input_scale",
    ".input_zero_point",
    ".output_scale",
    ".qzeros",
    ".scales",
    ".g_idx",
    "_scales",
    ".activation_scale",
    ".input_scale_ub",
    ".weight_scale_2",
    ".k_proj.k_scale",
    ".v_proj.v_scale",
    ".weight_global_scale",
    ".input_global_scale",
};

static int ends_with(struct base_view v, const char *text)
{
    size_t n = strlen(text);
    return v.size >= n && memcmp(v.data + v.size - n, text, n) == 0;
}

/* Writes `v` with the ending `from` replaced by `to`. */
static int exchange(char out[NAME_MAX_BYTES], struct base_view v, const char *from, const char *to)
{
    int n = snprintf(out, NAME_MAX_BYTES, "%.*s%s",
                     (int)BASE_MIN(v.size - strlen(from), (size_t)NAME_MAX_BYTES), v.data, to);
    return n > 0 && n < NAME_MAX_BYTES;
}

const struct safetensors_tensor *model_hf_part(const struct model_hf *hf, struct base_view stored,
                                               const char *ending, const char *part)
{
    char name[NAME_MAX_BYTES];
    if (!ends_with(stored, ending) || !exchange(name, stored, ending, part))
        return NULL;
    return hf_dir_tensor(hf->dir, (struct base_view){name, strlen(name)});
}

/* A plain name whose values need a scale that lies beside it. */
static int has_scale(const struct model_hf *hf, struct base_view stored)
{
    const struct safetensors_tensor *t = hf_dir_tensor(hf->dir, stored);
    if (!t || (t->type != SAFETENSORS_F8_E4M3 && t->type != SAFETENSORS_F8_E5M2 &&
               t->type != SAFETENSORS_I8 && t->type != SAFETENSORS_U8))
        return 0;
    return model_hf_part(hf, stored, ".weight", ".weight_scale_inv") ||
           model_hf_part(hf, stored, ".weight", ".weight_scale");
}

infer_status model_hf_quant_find(struct model_hf *hf, struct base_view stored, int *packed,
                                 char *plain)
{
    char ignored[NAME_MAX_BYTES];
    *packed = 0;
    if (hf->quant.method == MODEL_HF_NOT_QUANTIZED)
        return INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(mains); i++)
        if (mains[i].method == hf->quant.method && ends_with(stored, mains[i].stored)) {
            *packed = 1;
            if (!exchange(plain ? plain : ignored, stored, mains[i].stored, mains[i].plain))
                return base_error(INFER_ERR_LIMIT, "the name of a tensor is too long");
            return INFER_OK;
        }
    for (size_t i = 0; i < BASE_COUNT(sides); i++)
        if (ends_with(stored, sides[i])) {
            *packed = -1;
            return INFER_OK;
        }
    if (has_scale(hf, stored)) {
        *packed = 1;
        if (!exchange(plain ? plain : ignored, stored, "", ""))
            return base_error(INFER_ERR_LIMIT, "the name of a tensor is too long");
    }
    return INFER_OK;
}

const struct safetensors_tensor *model_hf_quant_stored(const struct model_hf *hf,
                                                       struct base_view plain)
{
    for (size_t i = 0; i < BASE_COUNT(mains); i++)
        if (mains[i].method == hf->quant.method) {
            const struct safetensors_tensor *t =
                model_hf_part(hf, plain, mains[i].plain, mains[i].stored);
            if (t)
                return t;
        }
    return NULL;
}

infer_status model_hf_quant_value(struct model_hf *hf, const struct safetensors_tensor *t,
                                  struct model_hf_value *out)
{
    *out = (struct model_hf_value){.name = t->name, .dims = {1, 1, 1, 1}};
    if (t->type == SAFETENSORS_F8_E4M3 || t->type == SAFETENSORS_F8_E5M2)
        return model_hf_unpack_fp8(hf, t, out);
    if (hf->quant.method == MODEL_HF_MXFP4)
        return model_hf_unpack_mxfp4(hf, t, out);
    if (t->type == SAFETENSORS_U8)
        return model_hf_unpack_fp4(hf, t, out);
    return model_hf_unpack_int(hf, t, out);
}
