/* Paged causal attention, reference: one query head at a time, one key after
 * the other, with a running maximum in double. */
#include "kernels/ref/kv_block.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* Element i of a vector of the KV cache. */
typedef double load_fn(const uint8_t *src, int32_t i);

/* A KV type and how it is read. */
struct kind {
    infer_dtype type;
    load_fn *load;
};

static double load_f32(const uint8_t *src, int32_t i)
{
    float x;

    memcpy(&x, src + (size_t)i * sizeof(x), sizeof(x));
    return (double)x;
}

static double load_f16(const uint8_t *src, int32_t i)
{
    uint16_t bits;
    uint32_t exponent, mantissa, wide;
    float x;

    memcpy(&bits, src + (size_t)i * sizeof(bits), sizeof(bits));
    exponent = bits >> 10 & 0x1fu;
    mantissa = bits & 0x3ffu;
    if (exponent == 0) { /* zero and subnormal: units of 2^-24 */
        x = (float)mantissa * 0x1p-24f;
    } else { /* from bias 15 to 127; all ones stay all ones */
        wide = (exponent == 0x1f ? 0xffu : exponent + 112u) << 23 | mantissa << 13;
        memcpy(&x, &wide, sizeof(x));
    }
    return bits & 0x8000u ? -(double)x : (double)x;
}

static double load_bf16(const uint8_t *src, int32_t i)
{
    uint16_t bits;
    uint32_t wide;
    float x;

    memcpy(&bits, src + (size_t)i * sizeof(bits), sizeof(bits));
    wide = (uint32_t)bits << 16;
    memcpy(&x, &wide, sizeof(x));
    return (double)x;
}

static double load_q8(const uint8_t *src, int32_t i)
{
    const uint8_t *block = src + (size_t)(i / KERN_KV_BLOCK) * KERN_KV_Q8_BYTES;

    return load_f16(block, 0) * (double)(int8_t)block[2 + i % KERN_KV_BLOCK];
}

static double load_q4(const uint8_t *src, int32_t i)
{
    const uint8_t *block = src + (size_t)(i / KERN_KV_BLOCK) * KERN_KV_Q4_BYTES;
    const int pair = block[4 + i % KERN_KV_BLOCK / 2];

    return load_f16(block, 0) * (double)(i % 2 ? pair >> 4 : pair & 15) + load_f16(block, 1);
}

static double load_f8(const uint8_t *src, int32_t i)
{
    const int exponent = src[i] >> 3 & 15, fraction = src[i] & 7;
    double x = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);

    if (exponent == 15 && fraction == 7) {
        x = (double)NAN;
    }
    return src[i] & 0x80 ? -x : x;
}

/* The softmax so far: sum and acc are relative to exp(max). */
struct state {
    double max;
    double sum;
    double acc[KERN_ATTN_HEAD_MAX];
};

/* Brings sum and acc to the larger of max and s. */
static void state_raise(struct state *st, double s, int32_t head_dim)
{
    double shrink;

    if (s <= st->max) {
        return; /* not taken for NaN, which poisons the row */
    }
    shrink = exp(st->max - s); /* from -infinity: 0, and sum and acc are 0 */
    st->sum *= shrink;
    for (int32_t i = 0; i < head_dim; i++) {
        st->acc[i] *= shrink;
    }
    st->max = s;
}

/* The weight of a score relative to max, which is raised to it. Where every
 * score so far is -infinity, exp(s - max) has no value: such a weight is 0. */
static double state_weigh(struct state *st, double s, int32_t head_dim)
{
    double weight;

    state_raise(st, s, head_dim);
    weight = s == (double)-INFINITY ? 0.0 : exp(s - st->max);
    st->sum += weight;
    return weight;
}

static void state_add(struct state *st, double s, const uint8_t *v, int32_t head_dim, load_fn *load)
{
    const double weight = state_weigh(st, s, head_dim);

    for (int32_t i = 0; i < head_dim; i++) {
        st->acc[i] += weight * load(v, i);
    }
}

static double score(const struct kern_attn_args *a, const float *q, const uint8_t *k, load_fn *load)
{
    double s = 0.0;

    for (int32_t i = 0; i < a->head_dim; i++) {
        s += (double)q[i] * load(k, i);
    }
    s *= (double)a->scale;
    if (a->softcap > 0.0f) {
        s = (double)a->softcap * tanh(s / (double)a->softcap);
    }
    return s;
}

/* The slot of position j in a part whose slots are `slot` bytes long. */
static const uint8_t *slot_at(const struct kern_attn_args *a, const uint8_t *part, size_t slot,
                              int32_t head_kv, int32_t j)
{
    const size_t block = (size_t)a->blocks[j / a->block_tokens] * a->block_stride;
    const size_t index = (size_t)head_kv * (size_t)a->block_tokens + (size_t)(j % a->block_tokens);

    return part + block + index * slot;
}

static int32_t first_seen(const struct kern_attn_args *a, int32_t pos)
{
    const int32_t window = a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0;
    const int32_t chunk = a->chunk > 0 ? pos - pos % a->chunk : 0;

    return BASE_MAX(window, chunk);
}

static void attend(const struct kern_attn_args *a, int32_t head, int32_t row, struct kind kind)
{
    const int32_t dim_v = a->head_dim_v ? a->head_dim_v : a->head_dim;
    const size_t k_slot = a->k_slot ? a->k_slot : kern_kv_bytes(kind.type, a->head_dim);
    const size_t v_slot = a->v_slot ? a->v_slot : kern_kv_bytes(kind.type, dim_v);
    const float *q = a->q + (size_t)row * a->q_stride + (size_t)head * (size_t)a->head_dim;
    float *out = a->out + (size_t)row * a->out_stride + (size_t)head * (size_t)dim_v;
    const int32_t head_kv = head / (a->n_head / a->n_head_kv);
    const int32_t pos = a->first_pos + row;
    struct state st = {.max = -INFINITY};

    for (int32_t j = first_seen(a, pos); j <= pos; j++) {
        const uint8_t *k = slot_at(a, a->k, k_slot, head_kv, j);
        const uint8_t *v = slot_at(a, a->v, v_slot, head_kv, j);

        state_add(&st, score(a, q, k, kind.load), v, dim_v, kind.load);
    }
    if (a->sinks) {
        state_weigh(&st, (double)a->sinks[head], dim_v);
    }
    for (int32_t i = 0; i < dim_v; i++) {
        out[i] = st.sum == 0.0 ? 0.0f : (float)(st.acc[i] / st.sum);
    }
}

static void attend_group(const struct kern_attn_args *a, int32_t head_kv, int32_t begin,
                         int32_t end, struct kind kind)
{
    const int32_t group = a->n_head / a->n_head_kv;

    for (int32_t i = begin; i < end; i++) {
        attend(a, head_kv * group + i % group, i / group, kind);
    }
}

static void paged_f32(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                      int32_t end)
{
    attend_group(args, head_kv, begin, end, (struct kind){INFER_DTYPE_F32, load_f32});
}

static void paged_f16(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                      int32_t end)
{
    attend_group(args, head_kv, begin, end, (struct kind){INFER_DTYPE_F16, load_f16});
}

static void paged_bf16(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                       int32_t end)
{
    attend_group(args, head_kv, begin, end, (struct kind){INFER_DTYPE_BF16, load_bf16});
}

static void paged_q8(const struct kern_attn_args *args, int32_t head_kv, int32_t begin, int32_t end)
{
    attend_group(args, head_kv, begin, end, (struct kind){INFER_DTYPE_Q8_0, load_q8});
}

static void paged_q4(const struct kern_attn_args *args, int32_t head_kv, int32_t begin, int32_t end)
{
    attend_group(args, head_kv, begin, end, (struct kind){INFER_DTYPE_Q4_1, load_q4});
}

static void paged_f8(const struct kern_attn_args *args, int32_t head_kv, int32_t begin, int32_t end)
{
    attend_group(args, head_kv, begin, end, (struct kind){INFER_DTYPE_F8_E4M3, load_f8});
}

void kern_attn_init_ref(struct kern_attn *attn)
{
    attn->paged[INFER_DTYPE_F32] = paged_f32;
    attn->paged[INFER_DTYPE_F16] = paged_f16;
    attn->paged[INFER_DTYPE_BF16] = paged_bf16;
    attn->paged[INFER_DTYPE_Q8_0] = paged_q8;
    attn->paged[INFER_DTYPE_Q4_1] = paged_q4;
    attn->paged[INFER_DTYPE_F8_E4M3] = paged_f8;
    attn->text = kern_attn_text_ref;
    attn->rotate = kern_rotate_ref;
}
