/* Checkpoints of whole numbers: AWQ, GPTQ, compressed-tensors.
 *
 * All of them mean w[n][k] = (u[n][k] - zero[n][g]) * scale[n][g] with g the group of input k, and
 * differ in how u, zero and scale are packed:
 *
 *   GPTQ        u along k in 32-bit words [k / per][n], zeros along n [g][n / per], less 1 in
 *               version 1; g_idx may give any order of groups
 *   AWQ         u along n [k][n / 8], zeros likewise [g][n / 8], eight outputs in the order
 *               0 2 4 6 1 3 5 7 from the lowest bits up
 *   compressed  u along k [n][k / per], zeros along n [n / per][g]; or bytes with a sign [n][k]
 */
#include "model/hf_unpack.h"

#include "base/error.h"
#include "kernels/kernels.h"
#include "kernels/quant_blocks.h"

#include <math.h>

#define TILE        32 /* rows unpacked together: what is packed along n is read in whole words */
#define HALF_MAX    65504.0f
#define HALF_NORMAL 0x1p-14f
#define SHOW(view)  (int)BASE_MIN((view).size, (size_t)128), (view).data

struct ints {
    struct model_hf *hf;
    const struct safetensors_tensor *q;
    uint64_t n, k, group, n_groups;
    uint32_t bits, per; /* numbers a word; 1: bytes with a sign */
    int32_t middle;     /* the zero of symmetric weights */
    float *scale;       /* [n][n_groups] */
    int16_t *zero;      /* the same */
    int32_t *order;     /* group of each input, or NULL where they follow each other */
    struct infer_kernels kernels;
};

static uint32_t word_at(const uint8_t *data, uint64_t i)
{
    const uint8_t *p = data + 4 * i;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Where output c % 8 of a word of AWQ lies. */
static uint32_t awq_shift(uint64_t c)
{
    static const uint8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return 4u * place[c % 8];
}

static infer_status wrong_shape(const struct ints *p, const struct safetensors_tensor *t,
                                const char *what)
{
    return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" does not fit its %s%s%.*s",
                      SHOW(p->q->name), what, t ? " " : "",
                      t ? (int)BASE_MIN(t->name.size, 128) : 0, t ? t->name.data : "");
}

static int is_matrix(const struct safetensors_tensor *t, int32_t type, uint64_t rows, uint64_t cols)
{
    return t->type == type && t->n_dims == 2 && t->dims[0] == rows && t->dims[1] == cols;
}

/* The matrix' size from the shape of its packed numbers. */
static infer_status read_shape(struct ints *p)
{
    const struct safetensors_tensor *q = p->q;
    enum model_hf_method method = p->hf->quant.method;
    if (q->n_dims != 2 || (q->type != SAFETENSORS_I32 && q->type != SAFETENSORS_I8) ||
        (q->type == SAFETENSORS_I8 && method != MODEL_HF_COMPRESSED))
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" is no matrix of packed numbers",
                          SHOW(q->name));
    p->bits = q->type == SAFETENSORS_I8 ? 8 : (uint32_t)p->hf->quant.bits;
    p->per = q->type == SAFETENSORS_I8 ? 1 : 32 / p->bits;
    p->middle = p->per == 1 ? 0 : 1 << (p->bits - 1);
    if (q->dims[0] > INT32_MAX / 32 || q->dims[1] > INT32_MAX / 32)
        return base_error(INFER_ERR_LIMIT, "tensor \"%.*s\" is too large", SHOW(q->name));
    p->n = method == MODEL_HF_GPTQ ? q->dims[1] : q->dims[0];
    p->k = method == MODEL_HF_GPTQ ? q->dims[0] * p->per : q->dims[1] * p->per;
    if (method == MODEL_HF_AWQ) {
        p->n = q->dims[1] * p->per;
        p->k = q->dims[0];
    }
    if (!p->n || !p->k)
        return wrong_shape(p, NULL, "use: it is empty");
    /* The last word of a row may be filled up. */
    const struct safetensors_tensor *shape =
        model_hf_part(p->hf, q->name, ".weight_packed", ".weight_shape");
    if (shape && shape->type == SAFETENSORS_I64 && shape->n == 2) {
        int64_t real;
        memcpy(&real, shape->data + 8, sizeof real);
        if (real < 1 || (uint64_t)real > p->k || p->k - (uint64_t)real >= p->per)
            return wrong_shape(p, shape, "shape");
        p->k = (uint64_t)real;
    }
    return INFER_OK;
}

static const struct safetensors_tensor *part(const struct ints *p, const char *old,
                                             const char *compressed)
{
    if (p->hf->quant.method != MODEL_HF_COMPRESSED)
        return model_hf_part(p->hf, p->q->name, ".qweight", old);
    return model_hf_part(p->hf, p->q->name, p->per == 1 ? ".weight" : ".weight_packed", compressed);
}

static infer_status read_scales(struct ints *p)
{
    struct model_hf_value v;
    const struct safetensors_tensor *t = part(p, ".scales", ".weight_scale");
    int by_group = p->hf->quant.method != MODEL_HF_COMPRESSED; /* [g][n] */
    if (!t)
        return wrong_shape(p, NULL, "scales: there are none");
    int whole = !by_group && t->n == 1; /* one scale for all */
    int by_row = !by_group && t->n_dims == 1 && t->n == p->n;
    if (!whole && !by_row && (t->n_dims != 2 || t->dims[by_group] != p->n))
        return wrong_shape(p, t, "scales");
    p->n_groups = whole || by_row ? 1 : t->dims[!by_group];
    if (!p->n_groups || p->n_groups > p->k)
        return wrong_shape(p, t, "scales");
    p->group = BASE_DIV_UP(p->k, p->n_groups);
    if (BASE_DIV_UP(p->k, p->group) != p->n_groups)
        return wrong_shape(p, t, "scales");
    infer_status st = model_hf_plain(p->hf, t, &v);
    if (st != INFER_OK)
        return st;
    kern_dequant_fn *dequant = p->kernels.quant.dequant[v.type];
    p->scale = base_new(&p->hf->alloc, (size_t)(p->n * p->n_groups), sizeof *p->scale);
    float *stored = base_new(&p->hf->alloc, (size_t)t->n, sizeof *stored);
    if (!dequant || t->n > INT32_MAX)
        st = wrong_shape(p, t, "scales");
    else if (!p->scale || !stored)
        st = INFER_ERR_NO_MEMORY;
    else
        dequant(stored, v.data, (int32_t)t->n);
    for (uint64_t i = 0; st == INFER_OK && i < p->n; i++)
        for (uint64_t g = 0; g < p->n_groups; g++) {
            float s = stored[whole ? 0 : by_group ? g * p->n + i : i * p->n_groups + g];
            p->scale[i * p->n_groups + g] = s;
            if (!isfinite(s))
                st = base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" has the scale %g", SHOW(t->name),
                                (double)s);
        }
    base_free(&p->hf->alloc, stored);
    return st;
}

static int32_t zero_at(const struct ints *p, const struct safetensors_tensor *t, uint64_t i,
                       uint64_t g)
{
    uint32_t mask = (1u << p->bits) - 1;
    switch (p->hf->quant.method) {
    case MODEL_HF_AWQ:
        return (int32_t)(word_at(t->data, g * (p->n / 8) + i / 8) >> awq_shift(i) & mask);
    case MODEL_HF_GPTQ:
        return (int32_t)(word_at(t->data, g * (p->n / p->per) + i / p->per) >>
                             p->bits * (uint32_t)(i % p->per) &
                         mask) +
               p->hf->quant.zero_offset;
    default:
        break;
    }
    if (p->per == 1)
        return (int8_t)t->data[i * p->n_groups + g];
    return (int32_t)(word_at(t->data, i / p->per * p->n_groups + g) >>
                         p->bits * (uint32_t)(i % p->per) &
                     mask);
}

static infer_status read_zeros(struct ints *p)
{
    const struct safetensors_tensor *t = part(p, ".qzeros", ".weight_zero_point");
    p->zero = base_new(&p->hf->alloc, (size_t)(p->n * p->n_groups), sizeof *p->zero);
    if (!p->zero)
        return INFER_ERR_NO_MEMORY;
    int fits = 1;
    if (t && p->hf->quant.method == MODEL_HF_COMPRESSED)
        fits = p->per == 1 ? t->type == SAFETENSORS_I8 && t->n == p->n * p->n_groups
                           : is_matrix(t, SAFETENSORS_I32, BASE_DIV_UP(p->n, p->per), p->n_groups);
    else if (t)
        fits = p->n % p->per == 0 && is_matrix(t, SAFETENSORS_I32, p->n_groups, p->n / p->per);
    if (!fits)
        return wrong_shape(p, t, "zeros");
    for (uint64_t i = 0; i < p->n; i++)
        for (uint64_t g = 0; g < p->n_groups; g++)
            p->zero[i * p->n_groups + g] = (int16_t)(t ? zero_at(p, t, i, g) : p->middle);
    return INFER_OK;
}

/* g_idx, unless it says what the order of inputs says anyway. */
static infer_status read_order(struct ints *p)
{
    const struct safetensors_tensor *t = part(p, ".g_idx", ".weight_g_idx");
    int plain = 1;
    if (!t)
        return INFER_OK;
    if (t->type != SAFETENSORS_I32 || t->n != p->k)
        return wrong_shape(p, t, "order of groups");
    p->order = base_new(&p->hf->alloc, (size_t)p->k, sizeof *p->order);
    if (!p->order)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t i = 0; i < p->k; i++) {
        uint32_t g = word_at(t->data, i);
        if (g >= p->n_groups)
            return wrong_shape(p, t, "order of groups");
        p->order[i] = (int32_t)g;
        plain &= g == i / p->group;
    }
    if (plain) {
        base_free(&p->hf->alloc, p->order);
        p->order = NULL;
    }
    return INFER_OK;
}

/* u of rows `row` to `row + count` into q[count][k]. */
static void unpack_rows(const struct ints *p, uint64_t row, uint64_t count, int16_t *q)
{
    const uint8_t *data = p->q->data;
    uint32_t mask = (1u << p->bits) - 1;
    uint64_t k = p->k, words = BASE_DIV_UP(k, p->per);
    if (p->per == 1) {
        for (uint64_t i = 0; i < count * k; i++)
            q[i] = (int8_t)data[row * k + i];
    } else if (p->hf->quant.method == MODEL_HF_AWQ) {
        for (uint64_t c = 0; c < k; c++)
            for (uint64_t t = 0; t < count; t++)
                q[t * k + c] =
                    (int16_t)(word_at(data, c * (p->n / 8) + (row + t) / 8) >> awq_shift(row + t) &
                              mask);
    } else {
        int by_word = p->hf->quant.method == MODEL_HF_GPTQ; /* words of all rows side by side */
        for (uint64_t w = 0; w < words; w++)
            for (uint64_t t = 0; t < count; t++) {
                uint32_t word = word_at(data, by_word ? w * p->n + row + t : (row + t) * words + w);
                for (uint64_t c = w * p->per; c < k && c < (w + 1) * p->per; c++, word >>= p->bits)
                    q[t * k + c] = (int16_t)(word & mask);
            }
    }
}

/* Blocks take scales as halves: exact for those that are stored so, else one rounding as long
 * as the half is a normal number. */
static int scales_fit(const struct ints *p)
{
    for (uint64_t i = 0; i < p->n * p->n_groups; i++) {
        uint16_t half;
        float back, s = p->scale[i];
        p->kernels.quant.narrow[INFER_DTYPE_F16](&half, &s, 1);
        p->kernels.quant.dequant[INFER_DTYPE_F16](&back, &half, 1);
        if (back != s && !(fabsf(s) >= HALF_NORMAL && isfinite(back)))
            return 0;
    }
    return 1;
}

static infer_dtype choose_type(const struct ints *p)
{
    int symmetric = 1;
    float largest = 0;
    for (uint64_t i = 0; i < p->n * p->n_groups; i++) {
        symmetric &= p->zero[i] == p->middle;
        largest = fmaxf(largest, fabsf(p->scale[i]));
    }
    int blocks = !p->order && p->k % KERN_BLOCK == 0 && p->group % KERN_BLOCK == 0 && scales_fit(p);
    if (blocks && symmetric && p->bits == 4)
        return INFER_DTYPE_Q4_0;
    if (blocks && (symmetric || p->bits <= 4))
        return INFER_DTYPE_Q8_0;
    return largest * 512 < HALF_MAX ? INFER_DTYPE_F16 : INFER_DTYPE_F32;
}

static uint64_t group_of(const struct ints *p, uint64_t c)
{
    return p->order ? (uint64_t)p->order[c] : c / p->group;
}

static void write_q4(const struct ints *p, uint64_t row, const int16_t *u, uint8_t *out)
{
    struct kern_q4_0 *b = (struct kern_q4_0 *)out;
    for (uint64_t c = 0; c < p->k; c += KERN_BLOCK, b++, u += KERN_BLOCK) {
        p->kernels.quant.narrow[INFER_DTYPE_F16](b->d,
                                                 &p->scale[row * p->n_groups + group_of(p, c)], 1);
        for (int i = 0; i < KERN_BLOCK / 2; i++)
            b->q[i] = (uint8_t)(u[i] | u[i + KERN_BLOCK / 2] << 4);
    }
}

static void write_q8(const struct ints *p, uint64_t row, const int16_t *u, uint8_t *out)
{
    struct kern_q8_0 *b = (struct kern_q8_0 *)out;
    for (uint64_t c = 0; c < p->k; c += KERN_BLOCK, b++, u += KERN_BLOCK) {
        uint64_t at = row * p->n_groups + group_of(p, c);
        p->kernels.quant.narrow[INFER_DTYPE_F16](b->d, &p->scale[at], 1);
        for (int i = 0; i < KERN_BLOCK; i++)
            b->q[i] = (int8_t)(u[i] - p->zero[at]);
    }
}

static void write_floats(const struct ints *p, uint64_t row, const int16_t *u, infer_dtype type,
                         float *buffer, uint8_t *out)
{
    for (uint64_t c = 0; c < p->k; c++) {
        uint64_t at = row * p->n_groups + group_of(p, c);
        buffer[c] = (float)(u[c] - p->zero[at]) * p->scale[at];
    }
    p->kernels.quant.narrow[type](out, buffer, (int32_t)p->k);
}

static infer_status write_all(const struct ints *p, struct model_hf_value *out)
{
    const struct base_alloc *a = &p->hf->alloc;
    infer_dtype type = choose_type(p);
    size_t row_bytes = (size_t)p->k * (type == INFER_DTYPE_F32 ? 4 : 2);
    if (type == INFER_DTYPE_Q4_0)
        row_bytes = (size_t)p->k / KERN_BLOCK * sizeof(struct kern_q4_0);
    if (type == INFER_DTYPE_Q8_0)
        row_bytes = (size_t)p->k / KERN_BLOCK * sizeof(struct kern_q8_0);
    uint8_t *data = gguf_draft_memory(p->hf->draft, (size_t)p->n, row_bytes);
    int16_t *u = base_new(a, TILE * (size_t)p->k, sizeof *u);
    float *buffer = base_new(a, (size_t)p->k, sizeof *buffer);
    infer_status st = data && u && buffer ? INFER_OK : INFER_ERR_NO_MEMORY;
    for (uint64_t row = 0; row < p->n && st == INFER_OK; row += TILE) {
        uint64_t count = BASE_MIN(p->n - row, TILE);
        unpack_rows(p, row, count, u);
        for (uint64_t t = 0; t < count; t++) {
            const int16_t *from = u + t * p->k;
            uint8_t *to = data + (row + t) * row_bytes;
            if (type == INFER_DTYPE_Q4_0)
                write_q4(p, row + t, from, to);
            else if (type == INFER_DTYPE_Q8_0)
                write_q8(p, row + t, from, to);
            else
                write_floats(p, row + t, from, type, buffer, to);
        }
    }
    base_free(a, u);
    base_free(a, buffer);
    out->type = type;
    out->n_dims = 2;
    out->dims[0] = p->k;
    out->dims[1] = p->n;
    out->data = data;
    return st;
}

infer_status model_hf_unpack_int(struct model_hf *hf, const struct safetensors_tensor *t,
                                 struct model_hf_value *out)
{
    struct ints p = {.hf = hf, .q = t};
    kern_init_cpu(&p.kernels, 0);
    infer_status st = read_shape(&p);
    if (st == INFER_OK)
        st = read_scales(&p);
    if (st == INFER_OK)
        st = read_zeros(&p);
    if (st == INFER_OK)
        st = read_order(&p);
    if (st == INFER_OK)
        st = write_all(&p, out);
    base_free(&hf->alloc, p.scale);
    base_free(&hf->alloc, p.zero);
    base_free(&hf->alloc, p.order);
    return st;
}
