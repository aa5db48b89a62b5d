/* Checkpoints of 8-bit floats with scales. */
#include "model/hf_unpack.h"

#include "base/error.h"
#include "kernels/quant_blocks.h"

#include <math.h>

#define SHOW(view) (int)BASE_MIN((view).size, (size_t)128), (view).data

struct fp8 {
    const struct safetensors_tensor *t;
    uint64_t n, k;
    uint64_t rows, cols, scales_a_row; /* of a block; what one row of scales covers */
    float *scale;
    struct infer_kernels kernels;
};

/* A scale for everything, for each row, or for each block of rows and columns. */
static infer_status find_blocks(struct fp8 *p, const struct model_hf *hf,
                                const struct safetensors_tensor *s)
{
    uint64_t br = (uint64_t)hf->quant.block_rows, bc = (uint64_t)hf->quant.block_cols;
    p->cols = p->k;
    p->scales_a_row = 1;
    if (s->n == 1) {
        p->rows = p->n;
        return INFER_OK;
    }
    if (s->n == p->n && (s->n_dims == 1 || (s->n_dims == 2 && s->dims[0] == p->n))) {
        p->rows = 1;
        return INFER_OK;
    }
    if (hf->quant.block_rows > 0 && hf->quant.block_cols > 0 && s->n_dims == 2 &&
        s->dims[0] == BASE_DIV_UP(p->n, br) && s->dims[1] == BASE_DIV_UP(p->k, bc)) {
        p->rows = br;
        p->cols = bc;
        p->scales_a_row = s->dims[1];
        return INFER_OK;
    }
    return base_error(INFER_ERR_FORMAT,
                      "tensor \"%.*s\": its scales are neither one, nor one a row, nor one for "
                      "each block of %lld x %lld",
                      SHOW(p->t->name), (long long)hf->quant.block_rows,
                      (long long)hf->quant.block_cols);
}

/* Powers of two in 8 bits (F8_E8M0), or floats. */
static infer_status read_scales(struct fp8 *p, struct model_hf *hf,
                                const struct safetensors_tensor *s)
{
    struct model_hf_value v;
    infer_status st = INFER_OK;
    p->scale = base_new(&hf->alloc, (size_t)s->n, sizeof *p->scale);
    if (!p->scale)
        return INFER_ERR_NO_MEMORY;
    if (s->type == SAFETENSORS_F8_E8M0 || s->type == SAFETENSORS_U8) {
        for (uint64_t i = 0; i < s->n; i++)
            p->scale[i] = ldexpf(1, (int)s->data[i] - 127);
    } else {
        st = model_hf_plain(hf, s, &v);
        kern_dequant_fn *dequant = st == INFER_OK ? p->kernels.quant.dequant[v.type] : NULL;
        if (st == INFER_OK && (!dequant || s->n > INT32_MAX))
            st = base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" holds no scales", SHOW(s->name));
        if (st == INFER_OK)
            dequant(p->scale, v.data, (int32_t)s->n);
    }
    for (uint64_t i = 0; i < s->n && st == INFER_OK; i++)
        if (!isfinite(p->scale[i]))
            st = base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" has the scale %g", SHOW(s->name),
                            (double)p->scale[i]);
    return st;
}

static void matrix_of(struct model_hf_value *out, infer_dtype type, const struct fp8 *p,
                      const void *data)
{
    out->type = type;
    out->n_dims = 2;
    out->dims[0] = p->k;
    out->dims[1] = p->n;
    out->data = data;
}

static infer_status write_rows(struct fp8 *p, struct model_hf *hf, struct model_hf_value *out)
{
    infer_dtype from =
        p->t->type == SAFETENSORS_F8_E4M3 ? INFER_DTYPE_F8_E4M3 : INFER_DTYPE_F8_E5M2;
    uint16_t *data = gguf_draft_memory(hf->draft, (size_t)(p->n * p->k), sizeof *data);
    float *row = base_new(&hf->alloc, (size_t)p->k, sizeof *row);
    if (data && row)
        for (uint64_t i = 0; i < p->n; i++) {
            const float *scale = p->scale + i / p->rows * p->scales_a_row;
            p->kernels.quant.dequant[from](row, p->t->data + i * p->k, (int32_t)p->k);
            for (uint64_t c = 0; c < p->k; c++)
                row[c] *= scale[c / p->cols];
            p->kernels.quant.narrow[INFER_DTYPE_BF16](data + i * p->k, row, (int32_t)p->k);
        }
    base_free(&hf->alloc, row);
    matrix_of(out, INFER_DTYPE_BF16, p, data);
    return data && row ? INFER_OK : INFER_ERR_NO_MEMORY;
}

/* Whether blocks of F8_128 have one scale each. */
static int fits_blocks(const struct fp8 *p)
{
    return p->t->type == SAFETENSORS_F8_E4M3 && p->k % KERN_F8 == 0 && p->cols % KERN_F8 == 0;
}

/* The codes as they are; a block with a NaN is NaN as a whole. */
static infer_status write_blocks(struct fp8 *p, struct model_hf *hf, struct model_hf_value *out)
{
    uint64_t in_row = p->k / KERN_F8;
    struct kern_f8_128 *b = gguf_draft_memory(hf->draft, (size_t)(p->n * in_row), sizeof *b);
    const uint8_t *q = p->t->data;
    if (!b)
        return INFER_ERR_NO_MEMORY;
    matrix_of(out, INFER_DTYPE_F8_128, p, b);
    for (uint64_t i = 0; i < p->n; i++) {
        const float *scale = p->scale + i / p->rows * p->scales_a_row;
        for (uint64_t j = 0; j < in_row; j++, b++, q += KERN_F8) {
            float d = scale[j * KERN_F8 / p->cols];
            for (int c = 0; c < KERN_F8; c++)
                d = (q[c] & 0x7f) == 0x7f ? NAN : d;
            memcpy(b->d, &d, sizeof d);
            memcpy(b->q, q, KERN_F8);
        }
    }
    return INFER_OK;
}

infer_status model_hf_unpack_fp8(struct model_hf *hf, const struct safetensors_tensor *t,
                                 struct model_hf_value *out)
{
    struct fp8 p = {.t = t};
    const struct safetensors_tensor *s = model_hf_part(hf, t->name, ".weight", ".weight_scale_inv");
    if (!s)
        s = model_hf_part(hf, t->name, ".weight", ".weight_scale");
    if (!s || !s->n || !t->n || t->n_dims != 2 || t->dims[1] > INT32_MAX)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" is no matrix with scales",
                          SHOW(t->name));
    kern_init_cpu(&p.kernels, 0);
    p.n = t->dims[0];
    p.k = t->dims[1];
    infer_status st = find_blocks(&p, hf, s);
    if (st == INFER_OK)
        st = read_scales(&p, hf, s);
    if (st == INFER_OK)
        st = hf->quant.keep_f8 && hf->whole_rows && fits_blocks(&p) ? write_blocks(&p, hf, out)
                                                                    : write_rows(&p, hf, out);
    base_free(&hf->alloc, p.scale);
    return st;
}
