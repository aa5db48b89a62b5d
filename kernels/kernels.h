/* The arithmetic of the library: pure functions on pointers. No malloc, no
 * locks, no errors: callers guarantee every precondition written here.
 *
 * One sub-table a family. kern_init_cpu() first stores the plain C reference
 * (kernels/ref, the definition of each entry), then what the processor allows,
 * weakest to strongest, as dav1d does. list.h names every entry and drives the
 * test and benchmark program.
 *
 * Batch-invariant means: the value of one output element does not depend on
 * how many rows are in the call, nor on which range a thread was given. Every
 * entry here but gemm.run_bf16 is batch-invariant for a given set of CPU flags, and so is that
 * where gemm.bf16_stable says so.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "base/types.h"

/* Tables by element type are indexed with infer_dtype directly. */
#define KERN_DTYPES 67

/* ------------------------------------------------------------------ quant */

/* Expands k elements of a row (k a multiple of the type's block). Bit-exact. */
typedef void kern_dequant_fn(float *dst, const void *src, int32_t k);

/* Narrows k floats to F32, F16, BF16 or F8_E4M3, round to nearest even (F8_E4M3: at most 448, what
 * is beyond, infinities too, becomes that), or to a quantised vector of the KV cache (see
 * kern_kv_bytes()). Bit-exact; NaN stays NaN. Quantised: the scale of a block is rounded to a half
 * first, codes are to the nearest of the values that then exist (of two equally near the even
 * code); a block with NaN or infinity, or whose scale or least value is beyond a half, becomes all
 * NaN. */
typedef void kern_narrow_fn(void *dst, const float *src, int32_t k);

/* Quantises k floats of a row (k a multiple of the type's block), finite ones of at most 65504
 * (NVFP4: 2688, larger ones are cut to it). Types of one scale a block equal the format's
 * reference bit for bit; where scales are searched, the error is that of the format's reference
 * at most, to a percent. Bit-exact. */
typedef void kern_quantize_fn(void *dst, const float *src, int32_t k);

/* Q8 activations: one row of k floats (k a multiple of 32) becomes
 *   int8_t  q[k]        q = rint(x / amax * 127), amax over each 32; two roundings
 *                       to float, so that neither large nor tiny blocks overflow
 *   float   d[k / 32]   amax / 127 (0 where amax is 0)
 *   int16_t s[k / 16]   sum of q over each 16
 * in this order, without gaps. Rows are kern_act_q8_bytes(k) apart and start on
 * 64 bytes. Bit-exact over finite input; a block with NaN or infinity gets
 * d = NaN and q = 0, so that the result is NaN too. */
typedef void kern_act_q8_fn(void *dst, const float *src, int32_t k);

/* Writes elements begin .. end - 1 of such a row alone, both multiples of 32: parts of different
 * threads make the row that one call would have made. */
typedef void kern_act_q8_part_fn(void *dst, const float *src, int32_t k, int32_t begin,
                                 int32_t end);

static inline size_t kern_act_q8_bytes(int32_t k)
{
    size_t n = (size_t)k;
    return BASE_ALIGN_UP(n + n / 32 * 4 + n / 16 * 2, (size_t)64);
}

/* Activations of rounded products: as Q8 rows, with one scale for KERN_FAST_SPAN elements:
 *   int8_t  q[k]        q = rint(x / amax * 127), amax over each span
 *   float   d[spans]    amax / 127, as in Q8 rows
 *   int32_t s[spans]    sum of q over each span
 * where the last of the spans may be shorter. Rows are kern_act_fast_bytes(k) apart. */
#define KERN_FAST_SPAN 256

static inline size_t kern_act_fast_bytes(int32_t k)
{
    return BASE_ALIGN_UP((size_t)k + BASE_DIV_UP((size_t)k, (size_t)KERN_FAST_SPAN) * 8,
                         (size_t)64);
}

/* Weight rows are packed by sixteens, so that they are read as one stream, a lane a row. Of a
 * group of KERN_PACK_ROWS rows the blocks follow each other along k; in a group's block the columns
 * of bytes of the plain block follow each other: the column of `width` bytes at offset o of the
 * plain blocks becomes 16 pieces of that many bytes, a row each, at 16 * o. Columns are of 4 bytes,
 * but for one that a type may have for a scale of 1 or 2 bytes. A group takes the bytes of its
 * rows; rows behind the last whole group stay as they are. */
#define KERN_PACK_ROWS 16

struct kern_pack_layout {
    uint16_t block_bytes, block_elements;
    uint16_t narrow_at, narrow_bytes; /* the column that is not of 4 bytes; narrow_bytes 0: none */
};

/* NULL: the type has no packed form, and its products take plain rows alone. */
const struct kern_pack_layout *kern_pack_layout_of(infer_dtype type);

/* A group of n_blocks blocks from rows `stride` bytes apart; dst overlaps none of them. Bit-exact.
 */
typedef void kern_pack_fn(void *dst, const void *src, size_t stride,
                          const struct kern_pack_layout *layout, int32_t n_blocks);

/* Row number `row` of a group, as it was. Bit-exact. */
typedef void kern_unpack_fn(void *dst, const void *group, int32_t row,
                            const struct kern_pack_layout *layout, int32_t n_blocks);

struct kern_quant {
    kern_dequant_fn *dequant[KERN_DTYPES];
    kern_narrow_fn *narrow[KERN_DTYPES];
    kern_quantize_fn *quantize[KERN_DTYPES]; /* NULL: types that need knowledge of activations */
    kern_act_q8_fn *act_q8;
    kern_act_q8_part_fn *act_q8_part;
    kern_act_q8_fn *act_fast;
    kern_pack_fn *pack;
    kern_unpack_fn *unpack;
};

/* ------------------------------------------------------------------- gemm */

/* y[m][n] = scale * x[m][k] . w[n][k]^T (+ bias[n]) (+ y). Weight rows are n outputs of
 * k inputs in their file's layout; x is float rows or Q8 rows, as act[] says
 * for the weight's type. */
struct kern_gemm_args {
    const void *w;     /* row r at w + r * w_stride */
    size_t w_stride;   /* bytes */
    const void *x;     /* row i at x + i * x_stride */
    size_t x_stride;   /* bytes */
    float *y;          /* element (i, r) at y[i * y_stride + r] */
    size_t y_stride;   /* floats */
    const float *bias; /* n floats or NULL */
    int32_t m, n, k;
    int32_t accumulate; /* non-zero: added to what y holds (residual) */
    const float *scale; /* one number for the whole matrix, or NULL: 1 */
    int32_t packed;     /* non-zero: w is packed (kern_pack_fn), group g at w + 16 * g * w_stride */
};

static inline float kern_gemm_scale(const struct kern_gemm_args *args)
{
    return args->scale ? *args->scale : 1;
}

/* Computes output columns n_begin .. n_end - 1 for all m rows; ranges of
 * different threads do not overlap. Ranges of a multiple of 32 columns waste no
 * vector lanes. Weight rows and float x rows need no alignment. */
typedef void kern_gemm_fn(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end);

enum { KERN_ACT_F32 = 0, KERN_ACT_Q8 = 1 };

#define KERN_FAST_LEAST 0x1p-100f

struct kern_gemm {
    kern_gemm_fn *run[KERN_DTYPES]; /* NULL: no product for this weight type */
    /* As run, for x of BF16: products are summed in floats in an order of the processor, and with
     * subnormal numbers taken as 0. Batch-invariant only where bf16_stable says so. x_stride is a
     * multiple of 2; faster where it is an odd multiple of 64. */
    kern_gemm_fn *run_bf16[KERN_DTYPES];
    /* As run of quantised weights, for x of act_fast: weights are rounded to eight bits with one
     * scale for KERN_FAST_SPAN inputs of a row. Each is off by at most 0.76 / 127 of the most that
     * the factors of the row's blocks admit there, and 0 where that is below KERN_FAST_LEAST.
     * Batch-invariant, but other numbers than those of run. */
    kern_gemm_fn *run_fast[KERN_DTYPES];
    uint8_t act[KERN_DTYPES];         /* KERN_ACT_*: what x must be for run */
    uint8_t bf16_rows[KERN_DTYPES];   /* from so many rows on run_bf16 is faster; 0: it never is */
    uint8_t bf16_stable[KERN_DTYPES]; /* non-zero: it is batch-invariant, and never slower */
    uint8_t fast_rows[KERN_DTYPES];   /* the same of run_fast */
    int32_t sgemm_rows;       /* from so many rows on SGEMM outdoes run of floats; 0: never */
    int32_t packed_is_faster; /* products of quantised weights gain from kern_pack_fn */
    int32_t packed_floats_are_faster; /* and those of F32, F16 and BF16 */
};

/* ------------------------------------------------------------------- norm */

struct kern_norm {
    /* y = x / sqrt(mean(x^2) + eps) * w; one row of n; y may be x; w may be NULL
     * (ones). The mean is taken in double: no finite row overflows. A row with NaN
     * or infinity gives what the formula gives. */
    void (*rms)(float *y, const float *x, const float *w, int32_t n, float eps);
    /* y = (x - mean(x)) / sqrt(var(x) + eps) * w + b; w and b may be NULL; else as rms. */
    void (*layer)(float *y, const float *x, const float *w, const float *b, int32_t n, float eps);
};

/* ------------------------------------------------------------------- rope */

/* Rotates the first n_rot elements of each of n_heads vectors (head_dim apart)
 * in place. cs holds n_rot/2 cosines, then n_rot/2 sines (magnitude scaling
 * included). pairs: elements (2i, 2i+1); halves: (i, i + n_rot/2). */
typedef void kern_rope_fn(float *x, int32_t n_heads, int32_t head_dim, int32_t n_rot,
                          const float *cs);

struct kern_rope {
    kern_rope_fn *pairs;
    kern_rope_fn *halves;
};

/* -------------------------------------------------------------- attention */

/* Bytes of a vector of n elements in the KV cache: keys or values of one head at one position.
 * F32, F16, BF16 and F8_E4M3 are plain. Q8 (INFER_DTYPE_Q8_0) and Q4 (INFER_DTYPE_Q4_1) are blocks
 * of 32 elements, of which the last may be shorter, n elements in Q8   half d, int8_t q[n] d * q Q4
 * half d, half m, uint8_t q[(n + 1) / 2]    d * q + m, element 2i in the low half of byte i, 2i + 1
 * in the high half so that the first elements of a vector are a vector. */
static inline size_t kern_kv_bytes(infer_dtype type, int32_t n)
{
    const size_t k = (size_t)n, blocks = (k + 31) / 32;

    switch (type) {
    case INFER_DTYPE_F32:
        return 4 * k;
    case INFER_DTYPE_Q8_0:
        return 2 * blocks + k;
    case INFER_DTYPE_Q4_1:
        return 4 * blocks + (k + 1) / 2;
    case INFER_DTYPE_F8_E4M3:
        return k;
    default:
        return 2 * k;
    }
}

/* Causal attention of the query rows of ONE sequence over its paged KV.
 *
 * A block holds, for this layer, K as [n_head_kv][block_tokens] slots of k_slot bytes, each
 * begun by a vector of head_dim elements, and V as [n_head_kv][block_tokens] slots of v_slot
 * bytes with vectors of head_dim_v, of the table's type. v may be k: where values are the
 * first elements of the keys (a latent), they are stored once. Position p of the sequence
 * lies in block blocks[p / block_tokens], slot p % block_tokens. Query row i stands at
 * position first_pos + i and sees positions max(0, pos - window + 1, pos - pos % chunk)
 * .. pos (0: no such bound). Query head h uses KV head h / (n_head / n_head_kv).
 *   s_j = scale * q.k_j; if softcap > 0: s = softcap * tanh(s / softcap)
 *   out = sum_j exp(s_j - max) v_j / (sum_j exp(s_j - max) [+ exp(sink_h - max)])
 * Keys are taken in runs of KERN_ATTN_TILE absolute positions with a running
 * maximum (online softmax; Milakov and Gimelshein, arXiv:1805.02867), so a row's
 * value does not depend on how the sequence was cut into calls.
 *
 * A row's value depends on nothing it does not see: hidden slots of a block may
 * hold anything, NaN included, and the block table is not read where no row of
 * the call sees the block. A score of -infinity weighs 0, and where there is no
 * other the output is 0; a score of NaN or +infinity makes the output NaN. */
struct kern_attn_args {
    const float *q;        /* row i at q + i * q_stride: n_head vectors of head_dim */
    size_t q_stride;       /* floats */
    float *out;            /* row i at out + i * out_stride: n_head vectors of head_dim_v;
                              overlaps nothing else, and is written before it is whole */
    size_t out_stride;     /* floats */
    const uint8_t *k, *v;  /* block 0 of the pool, this layer: K and V part; any alignment */
    size_t block_stride;   /* bytes from a block to the next in the pool */
    const int32_t *blocks; /* block table of the sequence */
    int32_t block_tokens;  /* 16, 32 or 64 */
    int32_t first_pos;
    int32_t n_head, n_head_kv, head_dim;
    int32_t head_dim_v;    /* 0: head_dim */
    size_t k_slot, v_slot; /* bytes from a slot to the next; 0: those of a vector */
    int32_t window;        /* 0 or more */
    int32_t chunk;         /* > 0: also nothing before pos - pos % chunk is seen */
    float scale, softcap;
    const float *sinks; /* n_head floats or NULL */
};

#define KERN_ATTN_TILE      32
#define KERN_ATTN_GROUP_MAX 128 /* n_head / n_head_kv at most */
#define KERN_ATTN_HEAD_MAX  576 /* head_dim and head_dim_v at most */

/* Query vectors begin .. end - 1 of one KV head: row i / group under query head
 * head_kv * group + i % group, group = n_head / n_head_kv. */
typedef void kern_attn_fn(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                          int32_t end);

/* Attention of one head over the rows of ONE text, all of which are there: query row i sees rows
 * max(0, i - reach) .. min(n - 1, i + reach) (reach 0: all).
 *   s_j = scale * q_i.k_j - slope * |i - j|
 *   out_i = sum_j exp(s_j - max) v_j / sum_j exp(s_j - max)
 * Any cut of the rows into calls gives the same bits. Finite values that a row does not see change
 * nothing of it; NaN and infinity among those may. */
struct kern_attn_text_args {
    const float *q, *k, *v; /* row i at q + i * stride: a vector of head_dim; alike k and v */
    size_t q_stride, k_stride, v_stride; /* floats */
    float *out;                          /* row i at out + i * out_stride; overlaps nothing else */
    size_t out_stride;
    int32_t n, head_dim; /* rows of the text; head_dim at most KERN_ATTN_HEAD_MAX */
    int32_t reach;
    float scale, slope;
    float *scratch; /* kern_attn_text_floats() of them, aligned to a cache line */
};

/* Query rows that share a pass over the keys. */
#define KERN_ATTN_TEXT_ROWS 12

static inline size_t kern_attn_text_floats(int32_t n, int32_t head_dim)
{
    return BASE_ALIGN_UP((size_t)n, (size_t)32) * (size_t)(head_dim + KERN_ATTN_TEXT_ROWS);
}

/* Query rows begin .. end - 1. */
typedef void kern_attn_text_fn(const struct kern_attn_text_args *args, int32_t begin, int32_t end);

/* x = H x for one vector of n, where H is orthonormal: Hadamard matrices of the largest power of
 * two that divides n, side by side. Bit-exact; H is its own inverse but for rounding. Products of
 * two vectors stay what they are when both are turned, and what was in one element is in many: a
 * key with a few large channels loses less when it is quantised (Ashkboos et al., QuaRot,
 * arXiv:2404.00456). */
typedef void kern_rotate_fn(float *x, int32_t n);

struct kern_attn {
    kern_attn_fn *paged[KERN_DTYPES]; /* by KV type: F32, F16, BF16, Q8_0, Q4_1 */
    kern_attn_text_fn *text;
    kern_rotate_fn *rotate;
};

/* -------------------------------------------------------- recurrent state */

/* What a layer carries from row to row instead of keys and values. Each call takes rows of
 * ONE sequence in order, starting from the state that the call before left (zeros where the
 * sequence begins) and leaving its own: any cut of the rows into calls gives the same bits,
 * and so does any cut of the channels or heads into ranges. State is F32. */

/* Causal depthwise convolution.
 *   y[i][c] = f(bias[c] + sum_j w[c][j] * x[i - (width - 1) + j][c]), j = 0 .. width - 1
 * where rows before the first are those of the state, oldest first; f = SiLU or nothing. */
struct kern_conv_args {
    const float *x; /* row i at x + i * x_stride: n_channels */
    size_t x_stride;
    float *y; /* row i at y + i * y_stride; may be x with its stride */
    size_t y_stride;
    const float *w;    /* [n_channels][width] */
    const float *bias; /* n_channels floats or NULL */
    float *state;      /* [width - 1][n_channels]: the last inputs */
    int32_t n_rows, n_channels;
    int32_t width; /* 1 .. KERN_CONV_WIDTH_MAX */
    int32_t silu;
};

#define KERN_CONV_WIDTH_MAX 8

/* Channels begin .. end - 1. */
typedef void kern_conv_fn(const struct kern_conv_args *args, int32_t begin, int32_t end);

/* The scan of Mamba 2 (Dao and Gu, arXiv:2405.21060, with a scalar A a head).
 *   t = softplus(dt + dt_bias), clamped to dt_min .. dt_max; S = exp(t * a) * S + t * x B^T
 *   y = S C + d * x
 * for state S[head_dim][d_state] of each head; heads h of one n_head / n_group share B and C. */
struct kern_scan_args {
    const float *x; /* row i at x + i * x_stride: n_head vectors of head_dim */
    size_t x_stride;
    const float *dt; /* row i at dt + i * dt_stride: n_head */
    size_t dt_stride;
    const float *b, *c; /* row i at b + i * bc_stride: n_group vectors of d_state */
    size_t bc_stride;
    const float *a;       /* n_head, negative */
    const float *d;       /* n_head or NULL: 0 */
    const float *dt_bias; /* n_head or NULL: 0 */
    float dt_min, dt_max; /* dt_max 0: not clamped */
    float *state;         /* [n_head][head_dim][d_state] */
    float *y;             /* row i at y + i * y_stride, as x; overlaps no input */
    size_t y_stride;
    int32_t n_rows, n_head, n_group, head_dim, d_state;
};

/* Heads begin .. end - 1. */
typedef void kern_scan_fn(const struct kern_scan_args *args, int32_t begin, int32_t end);

/* The gated delta rule (Yang, Kautz and Hatamizadeh, arXiv:2412.06464).
 *   g = exp(a * softplus(alpha + dt_bias)), u = sigmoid(beta)
 *   S = g * S;  S = S + k (u * (v - S^T k))^T;  y = scale * S^T q
 * for state S[k_dim][v_dim] of each value head. q and k are first divided by
 * sqrt(sum of their squares + eps). Value head h uses key head h / (n_head / n_head_k), or
 * h % n_head_k where `tiled`. */
struct kern_delta_args {
    const float *q, *k; /* row i at q + i * qk_stride: n_head_k vectors of k_dim */
    size_t qk_stride;
    const float *v; /* row i at v + i * v_stride: n_head vectors of v_dim */
    size_t v_stride;
    const float *alpha, *beta; /* row i at alpha + i * ab_stride: n_head */
    size_t ab_stride;
    const float *a;       /* n_head, negative */
    const float *dt_bias; /* n_head or NULL: 0 */
    float *state;         /* [n_head][k_dim][v_dim] */
    float *y;             /* row i at y + i * y_stride, as v; overlaps no input */
    size_t y_stride;
    float scale, eps;
    int32_t n_rows, n_head, n_head_k;
    int32_t k_dim; /* at most KERN_DELTA_KEY_MAX */
    int32_t v_dim;
    int32_t tiled;
};

#define KERN_DELTA_KEY_MAX 256

/* Value heads begin .. end - 1. */
typedef void kern_delta_fn(const struct kern_delta_args *args, int32_t begin, int32_t end);

struct kern_ssm {
    kern_conv_fn *conv;
    kern_scan_fn *scan;
    kern_delta_fn *delta;
};

/* ------------------------------------------------------------ elementwise */

/* y = f(gate) * up for one row of n; up NULL: ones; y may be gate or up. Where f's formula
 * gives NaN or infinity, so does the kernel. */
typedef void kern_gate_fn(float *y, const float *gate, const float *up, int32_t n);

struct kern_unary {
    /* f(g) = g * sigmoid(g). A gate below -88 may give 0; one of -infinity gives NaN, as the
     * formula does. */
    kern_gate_fn *silu_mul;
    kern_gate_fn *gelu_mul;      /* g / 2 * (1 + erf(g / sqrt 2)) */
    kern_gate_fn *gelu_tanh_mul; /* g / 2 * (1 + tanh(sqrt(2 / pi) * (g + 0.044715 g^3))) */
    kern_gate_fn *relu_mul;      /* max(g, 0) */
    kern_gate_fn *relu2_mul;     /* max(g, 0)^2 */
    kern_gate_fn *sigmoid_mul;   /* 1 / (1 + exp(-g)) */
    /* g' = min(g, 7), u' = clamp(up, -7, 7): g' * sigmoid(1.702 g') * (u' + 1); up not NULL. */
    kern_gate_fn *swiglu_oai;
    /* y += a * x */
    void (*axpy)(float *y, float a, const float *x, int32_t n);
    /* y = cap * tanh(x / cap); y may be x */
    void (*softcap)(float *y, const float *x, float cap, int32_t n);
    /* y += x */
    void (*add)(float *y, const float *x, int32_t n);
    /* y = exp(x * scale - max) / sum; y may be x; returns log(sum) + max, the
     * log-sum-exp of the scaled row. An entry of -infinity becomes exactly 0. A
     * row of nothing else becomes all 0 and returns -infinity, as does an empty
     * one; a row with NaN or +infinity becomes all NaN and returns NaN. */
    float (*softmax)(float *y, const float *x, float scale, int32_t n);
};

/* ----------------------------------------------------------------- vector */

/* One query compared with the n rows that a list of pointers gives, anywhere in memory: rows ahead
 * are prefetched. The value of a row does not depend on the others. Rows are of F32, F16, BF16, or
 * of I8 with a scale for each row (`scales`; NULL: 1; other types have none), and need no
 * alignment. dot: sum of query * row; l2: sum of (query - row)^2. */
typedef void kern_vector_fn(float *out, const float *query, const void *const *rows,
                            const float *scales, int32_t n, int32_t dims);

/* The same with a query of signed bytes, -127 .. 127, and rows of signed bytes. Bit-exact. */
typedef void kern_vector_i8_fn(int32_t *out, const int8_t *query, const void *const *rows,
                               int32_t n, int32_t dims);

/* How many bits of query and row differ; `bytes` is a multiple of 8. Bit-exact. */
typedef void kern_vector_bits_fn(int32_t *out, const void *query, const void *const *rows,
                                 int32_t n, int32_t bytes);

/* A row of F32, F16 or BF16 as signed bytes: rint(x * factor), at most 127 in size. Finite input;
 * others give any byte. Bit-exact. */
typedef void kern_vector_code_fn(int8_t *dst, const void *src, float factor, int32_t dims);

/* Finite floats as signed bytes, by the largest: dst = rint(x * (127 / max)), returns max / 127. A
 * max below 2^-120 gives zeros and 0. Bit-exact. */
typedef float kern_vector_quantize_fn(int8_t *dst, const float *src, int32_t dims);

/* dst = src / length, returns the length, both from a sum in double; dst may be src. Finite input.
 * A row of zeros stays one and returns 0. */
typedef float kern_vector_normalize_fn(float *dst, const float *src, int32_t dims);

/* Many queries compared with many rows by their bytes, of which only the pairs leave that may be
 * wanted. Queries lie in panels of KERN_VECTOR_PANEL (kern_vector_pack()). With the dot product d
 * of the bytes, a pair is a hit where
 *   scale * d + length * row.length + error * row.error + square * row.square >= least
 * within rounding: row.scale * d is what the row's floats would give about, the next two bound what
 * quantising changed, the last turns products into distances. */
#define KERN_VECTOR_PANEL 16

struct kern_vector_note { /* of a row */
    float scale, length, error, square;
};

struct kern_vector_limits { /* of a panel's queries; least of infinity: no hits */
    float length[KERN_VECTOR_PANEL], error[KERN_VECTOR_PANEL], square[KERN_VECTOR_PANEL];
    float least[KERN_VECTOR_PANEL];
};

struct kern_vector_hit {
    int32_t row, query; /* of the call; query counts through all panels */
};

struct kern_vector_tile {
    const int8_t *panels;                    /* kern_vector_panel_bytes(dims) apart, on 64 bytes */
    const struct kern_vector_limits *limits; /* one a panel, on 64 bytes */
    const void *const *rows; /* dims bytes each and what is missing to 4, which count for nothing */
    const struct kern_vector_note *notes; /* one a row */
    int32_t n_panels, n_rows, dims;
    /* Rows that are asked of memory meanwhile: n_rows pointers and bytes of each; NULL: none. */
    const void *const *ahead;
    int32_t ahead_bytes;
};

/* Writes the hits in any order, room for all pairs, and returns how many. */
typedef int32_t kern_vector_tile_fn(struct kern_vector_hit *hits,
                                    const struct kern_vector_tile *args);

static inline size_t kern_vector_panel_bytes(int32_t dims)
{
    return (size_t)64 * (((size_t)dims + 3) / 4 + 1);
}

/* A panel of up to KERN_VECTOR_PANEL queries, -127 .. 127: by fours of elements, in these by
 * queries; then the sum of each query's bytes as int32_t. Queries that are not there are 0. */
void kern_vector_pack(int8_t *panel, const int8_t *queries, size_t stride, int32_t n, int32_t dims);

/* Rows estimated by their codes (lib/vector/codes.h), for one query of signed bytes. A code is
 * n_blocks blocks of 64 bytes, each of 8 / bits fields: field j of byte t is bits j * bits .. of
 * it, a number without sign (of 8 bits: 127 at most), and stands against query byte (block * 8 /
 * bits + j) * 64 + t, -127 .. 127. With the sum of the products and two floats that lie in the
 * code's bytes, at any place, out = code's scale * (scale * sum - shift) + code's base Blocks are
 * read whole; where the query is 0 a code may hold anything. Bit-exact. */
struct kern_vector_estimate {
    const int8_t *query;
    int32_t n_blocks;
    int32_t scale_at, base_at; /* offsets in a code */
    float scale, shift;
};

typedef void kern_vector_estimate_fn(float *out, const void *const *codes, int32_t n,
                                     const struct kern_vector_estimate *args);

/* Rotates n floats, n a multiple of 16, in place, about at random: KERN_VECTOR_ROUNDS times each is
 * multiplied by its sign (n a round, 1 or -1) and a Hadamard transform applied to the first, in odd
 * rounds the last p of them, p the largest power of two up to n. Bit-exact. */
#define KERN_VECTOR_ROUNDS 4

typedef void kern_vector_rotate_fn(float *x, const float *signs, int32_t n);

struct kern_vector {
    kern_vector_fn *dot[KERN_DTYPES]; /* F32, F16, BF16, I8 */
    kern_vector_fn *l2[KERN_DTYPES];
    kern_vector_i8_fn *dot_i8;
    kern_vector_bits_fn *hamming;
    kern_vector_code_fn *code[KERN_DTYPES]; /* F32, F16, BF16 */
    kern_vector_quantize_fn *quantize;
    kern_vector_normalize_fn *normalize;
    kern_vector_tile_fn *tile;
    kern_vector_estimate_fn *estimate2, *estimate4, *estimate8;
    kern_vector_rotate_fn *rotate;
};

/* ------------------------------------------------------------- the tables */

struct infer_kernels {
    struct kern_quant quant;
    struct kern_gemm gemm;
    struct kern_norm norm;
    struct kern_rope rope;
    struct kern_attn attn;
    struct kern_ssm ssm;
    struct kern_unary unary;
    struct kern_vector vector;
    const char *name; /* strongest level in use, as doc/kernels.md lists them */
};

enum {
    KERN_CPU_AVX2 = 1 << 0,   /* with FMA and F16C */
    KERN_CPU_AVX512 = 1 << 1, /* F, BW, DQ, VL */
    KERN_CPU_AVX512VNNI = 1 << 2,
    KERN_CPU_AVX512BF16 = 1 << 3,
    KERN_CPU_NEON = 1 << 4,
    KERN_CPU_AMX = 1 << 5,          /* TILE, INT8, BF16, and tiles to be had from the system */
    KERN_CPU_NEON_DOTPROD = 1 << 6, /* FEAT_DotProd */
    KERN_CPU_NEON_I8MM = 1 << 7     /* FEAT_I8MM */
};

/* What this processor and operating system allow. */
uint32_t kern_cpu_flags(void);

/* Linux saves tiles, 8 KiB more for each thread, only for processes that have asked for it, and for
 * good: an alternate signal stack then needs the room. Whether it does now. kern_init_cpu() asks
 * where the mask leaves AMX. */
int kern_cpu_ask_for_tiles(void);

/* Fills the whole table; flags = 0 gives the reference alone. */
void kern_init_cpu(struct infer_kernels *kernels, uint32_t flags);

#endif
