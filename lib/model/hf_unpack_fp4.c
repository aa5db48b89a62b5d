/* Checkpoints of 4-bit floats (E2M1): MXFP4 with powers of two for 32 elements, NVFP4 with 8-bit
 * floats for 16 and one number for the whole matrix. Stored are neighbours in one byte, the first
 * in its low half, and the scales apart; blocks of GGUF begin with their scales and pair elements
 * that are half a run apart. */
#include "model/hf_unpack.h"

#include "base/error.h"
#include "kernels/quant_blocks.h"

#include <math.h>

#define NV_RUN       16 /* elements of an NVFP4 scale */
#define SHOW(view)   (int)BASE_MIN((view).size, (size_t)128), (view).data
#define NV_SCALES    (KERN_NVFP4 / NV_RUN)
#define E4M3_NAN     0x7f
#define E4M3_LARGEST 0x7e

/* n elements, two a byte: element i of the first half shares a byte with i of the second. */
static void pair_halves(uint8_t *to, const uint8_t *from, int n)
{
    for (int i = 0; i < n / 4; i++) {
        uint8_t low = from[i], high = from[i + n / 4];
        to[2 * i] = (uint8_t)((low & 15) | (high & 15) << 4);
        to[2 * i + 1] = (uint8_t)(low >> 4 | (high >> 4) << 4);
    }
}

static struct kern_mxfp4 *mx_blocks(struct model_hf *hf, const struct safetensors_tensor *t,
                                    const struct safetensors_tensor *s)
{
    struct kern_mxfp4 *blocks = gguf_draft_memory(hf->draft, (size_t)s->n, sizeof *blocks);
    for (uint64_t b = 0; blocks && b < s->n; b++) {
        blocks[b].e = s->data[b];
        pair_halves(blocks[b].q, t->data + b * (KERN_BLOCK / 2), KERN_BLOCK);
    }
    return blocks;
}

infer_status model_hf_unpack_mxfp4(struct model_hf *hf, const struct safetensors_tensor *t,
                                   struct model_hf_value *out)
{
    const struct safetensors_tensor *s = model_hf_part(hf, t->name, "_blocks", "_scales");
    int32_t d = t->n_dims;
    if (!s || t->type != SAFETENSORS_U8 || s->type != SAFETENSORS_U8 || (d != 3 && d != 4) ||
        s->n_dims != d - 1 || t->dims[d - 1] != KERN_BLOCK / 2 || s->n * 16 != t->n || !t->n ||
        memcmp(s->dims, t->dims, (size_t)(d - 1) * sizeof s->dims[0]) != 0)
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\" is no blocks of MXFP4 with their scales", SHOW(t->name));
    out->data = (const uint8_t *)mx_blocks(hf, t, s);
    out->type = INFER_DTYPE_MXFP4;
    out->n_dims = d - 1;
    out->dims[0] = t->dims[d - 2] * KERN_BLOCK;
    for (int32_t i = 1; i < d - 1; i++)
        out->dims[i] = t->dims[d - 2 - i];
    return out->data ? INFER_OK : INFER_ERR_NO_MEMORY;
}

/* ---------------------------------------------------- matrices of bytes */

/* "<stem>.weight" or "<stem>.weight_packed" -> the tensor "<stem><part>". */
static const struct safetensors_tensor *side(const struct model_hf *hf,
                                             const struct safetensors_tensor *t, const char *part)
{
    const struct safetensors_tensor *s = model_hf_part(hf, t->name, ".weight_packed", part);
    return s ? s : model_hf_part(hf, t->name, ".weight", part);
}

/* The number for the whole matrix: compressed-tensors has what the scales were multiplied by
 * before they were rounded, ModelOpt what they are to be multiplied by. */
static infer_status whole_scale(float *out, const struct model_hf *hf,
                                const struct safetensors_tensor *t)
{
    const struct safetensors_tensor *divisor = side(hf, t, ".weight_global_scale");
    const struct safetensors_tensor *factor = side(hf, t, ".weight_scale_2");
    const struct safetensors_tensor *s = divisor ? divisor : factor;
    float value = 1;
    if (s && (s->type != SAFETENSORS_F32 || s->n != 1))
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is no number of type F32",
                          SHOW(s->name));
    if (s)
        memcpy(&value, s->data, sizeof value);
    *out = divisor ? 1 / value : value;
    if (!isfinite(*out) || !(*out > 0))
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is %g", SHOW(s->name), (double)value);
    return INFER_OK;
}

static infer_status nv_blocks(struct model_hf *hf, const struct safetensors_tensor *t,
                              const struct safetensors_tensor *s, struct model_hf_value *out)
{
    uint64_t n = t->n * 2 / KERN_NVFP4;
    struct kern_nvfp4 *blocks = gguf_draft_memory(hf->draft, (size_t)n, sizeof *blocks);
    if (!blocks)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t b = 0; b < n; b++)
        for (int i = 0; i < NV_SCALES; i++) {
            uint8_t scale = s->data[b * NV_SCALES + (uint64_t)i];
            if (scale > E4M3_LARGEST) /* a sign, or NaN */
                return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" holds no scales",
                                  SHOW(s->name));
            blocks[b].d[i] = scale;
            pair_halves(blocks[b].q + i * NV_RUN / 2,
                        t->data + (b * NV_SCALES + (uint64_t)i) * (NV_RUN / 2), NV_RUN);
        }
    out->type = INFER_DTYPE_NVFP4;
    out->data = (const uint8_t *)blocks;
    return whole_scale(&out->scale, hf, t);
}

infer_status model_hf_unpack_fp4(struct model_hf *hf, const struct safetensors_tensor *t,
                                 struct model_hf_value *out)
{
    const struct safetensors_tensor *s = side(hf, t, ".weight_scale");
    int nv = s && s->type == SAFETENSORS_F8_E4M3;
    uint64_t run = nv ? NV_RUN : KERN_BLOCK, block = nv ? KERN_NVFP4 : KERN_BLOCK;
    if (!s || t->type != SAFETENSORS_U8 || (!nv && s->type != SAFETENSORS_U8) || t->n_dims != 2 ||
        s->n_dims != 2 || s->dims[0] != t->dims[0] || s->dims[1] * run != t->dims[1] * 2 || !t->n)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is no 4-bit floats with their scales",
                          SHOW(t->name));
    if (t->dims[1] * 2 % block)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor \"%.*s\" has rows of %llu, not of whole "
                          "blocks of %llu",
                          SHOW(t->name), (unsigned long long)(t->dims[1] * 2),
                          (unsigned long long)block);
    out->n_dims = 2;
    out->dims[0] = t->dims[1] * 2;
    out->dims[1] = t->dims[0];
    if (nv)
        return nv_blocks(hf, t, s, out);
    out->type = INFER_DTYPE_MXFP4;
    out->data = (const uint8_t *)mx_blocks(hf, t, s);
    return out->data ? INFER_OK : INFER_ERR_NO_MEMORY;
}
