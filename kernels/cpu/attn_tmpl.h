/* Paged causal attention over the words of reg_<isa>.h.
 *
 * A query vector is one head of one row. Those of a call are taken in runs that
 * fit a fixed buffer; a run walks the tiles of KERN_ATTN_TILE positions it sees,
 * and each tile of K and V serves all of its query vectors. What happens to one
 * vector depends on nothing but its own position:
 *   score    the products of a lane in order of dimension, then the lanes in the
 *            order of reg_transpose_sum()
 *   maximum  after each tile; sum and output are brought to it
 *   output   value vectors in order of position, one fused product each
 * so that any cut into rows, calls and runs gives the same bits. */
#include "kernels/cpu/init.h"

#include <math.h>
#include <string.h>

enum {
    TILE = KERN_ATTN_TILE,
    RUN_MAX = 64,      /* query vectors of a run at most */
    RUN_FLOATS = 3072, /* and their floats */
    KIND_F32 = INFER_DTYPE_F32,
    KIND_F16 = INFER_DTYPE_F16,
    KIND_BF16 = INFER_DTYPE_BF16
};

struct run {
    const struct kern_attn_args *args;
    int32_t head_kv;
    int32_t group; /* query heads of the KV head */
    int32_t first; /* row * group + head of the first query vector */
    int32_t n;     /* query vectors */
    int32_t dim;   /* head_dim rounded up to REG; what is beyond is 0 */
    float q[RUN_FLOATS];
    float acc[RUN_FLOATS];                 /* sum of weight * value */
    float weight[RUN_MAX][TILE];           /* scores, then their weights */
    float sum[RUN_MAX][TILE];              /* of the weights, by position modulo TILE */
    float max[RUN_MAX];                    /* of the scores so far */
    float base[RUN_MAX];                   /* max, or 0 where it is -infinity */
    float shrink[RUN_MAX];                 /* exp(previous max - max) */
    float tile[TILE * KERN_ATTN_HEAD_MAX]; /* K, then V, widened */
};

/* K or V vectors of a tile. */
struct vectors {
    const uint8_t *data;
    size_t stride; /* bytes */
};

/* ---------------------------------------------------------------- elements */

KERN_INLINE size_t kind_bytes(int kind)
{
    return kind == KIND_F32 ? 4 : 2;
}

KERN_INLINE reg load_kind(const uint8_t *p, int kind)
{
    if (kind == KIND_F16) {
        return reg_load_f16(p);
    }
    return kind == KIND_BF16 ? reg_load_bf16(p) : reg_load(p);
}

/* The tile as floats, `dim` apart, zeros after head_dim. */
KERN_INLINE struct vectors widen(struct run *r, struct vectors src, int kind)
{
    const int32_t head_dim = r->args->head_dim;
    const int32_t whole = head_dim / REG * REG;

    for (int32_t j = 0; j < TILE; j++) {
        const uint8_t *from = src.data + (size_t)j * src.stride;
        float *to = r->tile + j * r->dim;

        for (int32_t d = 0; d < whole; d += REG) {
            reg_store(to + d, load_kind(from + (size_t)d * kind_bytes(kind), kind));
        }
        if (whole < head_dim) {
            uint8_t rest[REG * sizeof(float)] = {0};

            memcpy(rest, from + (size_t)whole * kind_bytes(kind),
                   (size_t)(head_dim - whole) * kind_bytes(kind));
            reg_store(to + whole, load_kind(rest, kind));
        }
    }
    return (struct vectors){(const uint8_t *)r->tile, (size_t)r->dim * sizeof(float)};
}

/* ------------------------------------------------------------------ scores */

/* q.k of n query vectors with the tile; as many keys at a time as fill one
 * reg_transpose_sum(). */
KERN_INLINE void score_rows(struct run *r, int32_t at, int n, struct vectors k, int kind)
{
    const int cols = n == 1 ? REG : n == 2 ? REG / 2 : REG / 4;
    const float *q = r->q + at * r->dim;

    for (int32_t j = 0; j < TILE; j += cols) {
        const uint8_t *key = k.data + (size_t)j * k.stride;
        reg sums[REG];
        float out[REG];

        KERN_UNROLL
        for (int i = 0; i < REG; i++) {
            sums[i] = reg_zero();
        }
        for (int32_t d = 0; d < r->dim; d += REG) {
            KERN_UNROLL
            for (int c = 0; c < cols; c++) {
                const reg kd =
                    load_kind(key + (size_t)c * k.stride + (size_t)d * kind_bytes(kind), kind);

                KERN_UNROLL
                for (int i = 0; i < n; i++) {
                    sums[i * cols + c] =
                        reg_fma(reg_load(q + i * r->dim + d), kd, sums[i * cols + c]);
                }
            }
        }
        reg_store(out, reg_transpose_sum(sums));
        for (int i = 0; i < n; i++) {
            memcpy(&r->weight[at + i][j], out + i * cols, (size_t)cols * sizeof(float));
        }
    }
}

KERN_INLINE void score(struct run *r, int32_t begin, int32_t end, struct vectors k, int kind)
{
    for (; end - begin >= REG_ROWS; begin += REG_ROWS) {
        score_rows(r, begin, REG_ROWS, k, kind);
    }
    if (end - begin == 3) {
        score_rows(r, begin, 3, k, kind);
    } else if (end - begin == 2) {
        score_rows(r, begin, 2, k, kind);
    } else if (end - begin == 1) {
        score_rows(r, begin, 1, k, kind);
    }
}

/* ------------------------------------------------------------------ values */

/* acc = acc * shrink + sum of weight * v, for n query vectors and `cols`
 * registers of dimensions. */
KERN_INLINE void add_part(struct run *r, int32_t at, int n, int cols, int32_t d, struct vectors v,
                          int32_t begin, int32_t end, int kind)
{
    float *acc = r->acc + at * r->dim + d;
    const uint8_t *value = v.data + (size_t)d * kind_bytes(kind);
    reg sums[REG_SUMS];

    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            sums[i * cols + c] =
                reg_mul(reg_load(acc + i * r->dim + c * REG), reg_set1(r->shrink[at + i]));
        }
    }
    for (int32_t j = begin; j < end; j++) {
        const uint8_t *vj = value + (size_t)j * v.stride;

        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            const reg vc = load_kind(vj + (size_t)(c * REG) * kind_bytes(kind), kind);

            KERN_UNROLL
            for (int i = 0; i < n; i++) {
                sums[i * cols + c] =
                    reg_fma(reg_set1(r->weight[at + i][j]), vc, sums[i * cols + c]);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            reg_store(acc + i * r->dim + c * REG, sums[i * cols + c]);
        }
    }
}

KERN_INLINE void add_rows(struct run *r, int32_t at, int n, struct vectors v, int32_t begin,
                          int32_t end, int kind)
{
    const int wide = REG_SUMS / (n == 3 ? 4 : n);
    int32_t d = 0;

    for (; d + wide * REG <= r->dim; d += wide * REG) {
        add_part(r, at, n, wide, d, v, begin, end, kind);
    }
    for (; d < r->dim; d += REG) {
        add_part(r, at, n, 1, d, v, begin, end, kind);
    }
}

/* The first position that query vector i sees, and the one after its last. */
KERN_INLINE int32_t seen_begin(const struct run *r, int32_t i)
{
    const int32_t pos = r->args->first_pos + (r->first + i) / r->group;

    return r->args->window > 0 && pos >= r->args->window ? pos - r->args->window + 1 : 0;
}

KERN_INLINE int32_t seen_end(const struct run *r, int32_t i)
{
    return r->args->first_pos + (r->first + i) / r->group + 1;
}

/* What vector i sees of the tile at position `start`. */
KERN_INLINE int32_t tile_begin(const struct run *r, int32_t i, int32_t start)
{
    return BASE_MAX(seen_begin(r, i) - start, 0);
}

KERN_INLINE int32_t tile_end(const struct run *r, int32_t i, int32_t start)
{
    return BASE_MIN(seen_end(r, i) - start, (int32_t)TILE);
}

/* Neighbours that see the same part of the tile go together. A value that a
 * vector does not see is never multiplied, not even by 0: it may be NaN. */
KERN_INLINE void add_values(struct run *r, int32_t at, int32_t stop, int32_t start,
                            struct vectors v, int kind)
{
    while (at < stop) {
        const int32_t begin = tile_begin(r, at, start);
        const int32_t end = tile_end(r, at, start);
        int32_t n = 1;

        while (n < REG_ROWS && at + n < stop && tile_begin(r, at + n, start) == begin &&
               tile_end(r, at + n, start) == end) {
            n++;
        }
        if (n == 4) {
            add_rows(r, at, 4, v, begin, end, kind);
        } else if (n == 3) {
            add_rows(r, at, 3, v, begin, end, kind);
        } else if (n == 2) {
            add_rows(r, at, 2, v, begin, end, kind);
        } else {
            add_rows(r, at, 1, v, begin, end, kind);
        }
        at += n;
    }
}

/* ----------------------------------------------------------------- softmax */

/* Scales the scores of vector i, hides what it does not see, raises its maximum.
 * NaN is passed over here; its weight will be NaN. */
static void raise_max(struct run *r, int32_t i, int32_t start)
{
    const struct kern_attn_args *a = r->args;
    const int32_t begin = tile_begin(r, i, start);
    const int32_t end = tile_end(r, i, start);
    const float before = r->max[i];
    reg max = reg_set1(before);

    for (int32_t j = 0; j < TILE; j += REG) {
        reg s = reg_mul(reg_load(r->weight[i] + j), reg_set1(a->scale));

        if (a->softcap > 0.0f) {
            s = reg_mul(reg_tanh(reg_div(s, reg_set1(a->softcap))), reg_set1(a->softcap));
        }
        s = reg_keep(s, BASE_MIN(BASE_MAX(begin - j, 0), (int32_t)REG),
                     BASE_MIN(BASE_MAX(end - j, 0), (int32_t)REG), reg_set1(-INFINITY));
        max = reg_max(s, max);
        reg_store(r->weight[i] + j, s);
    }
    r->max[i] = reg_max_all(max);
    r->base[i] = r->max[i] == -INFINITY ? 0.0f : r->max[i];
    r->shrink[i] = before - r->base[i];
}

/* Scores of vectors begin .. end - 1 become weights. */
static void weigh(struct run *r, int32_t begin, int32_t end, int32_t start)
{
    for (int32_t i = begin; i < end; i++) {
        raise_max(r, i, start);
    }
    for (int32_t i = begin; i < end; i += REG) {
        const int32_t n = BASE_MIN(end - i, (int32_t)REG);

        reg_store_part(r->shrink + i, n, reg_exp(reg_load_part(r->shrink + i, n)));
    }
    for (int32_t i = begin; i < end; i++) {
        for (int32_t j = 0; j < TILE; j += REG) {
            const reg s = reg_load(r->weight[i] + j);
            const reg w = reg_exp(reg_sub(s, reg_set1(r->base[i])));
            const reg sum = reg_load(r->sum[i] + j);

            reg_store(r->weight[i] + j, w);
            reg_store(r->sum[i] + j, reg_fma(sum, reg_set1(r->shrink[i]), w));
        }
    }
}

/* --------------------------------------------------------------------- runs */

static void run_open(struct run *r)
{
    const struct kern_attn_args *a = r->args;

    for (int32_t i = 0; i < r->n; i++) {
        const int32_t row = (r->first + i) / r->group;
        const int32_t head = r->head_kv * r->group + (r->first + i) % r->group;
        float *q = r->q + i * r->dim;

        memcpy(q, a->q + (size_t)row * a->q_stride + (size_t)head * (size_t)a->head_dim,
               (size_t)a->head_dim * sizeof(*q));
        memset(q + a->head_dim, 0, (size_t)(r->dim - a->head_dim) * sizeof(*q));
        r->max[i] = -INFINITY;
    }
    memset(r->acc, 0, (size_t)(r->n * r->dim) * sizeof(*r->acc));
    memset(r->sum, 0, (size_t)r->n * sizeof(*r->sum));
}

static float exp_one(float x)
{
    float out[REG];

    reg_store(out, reg_exp(reg_set1(x)));
    return out[0];
}

/* Output of query vector i: its sum divided by the weights, the sink's among them. */
static void run_close(const struct run *r, int32_t i)
{
    const struct kern_attn_args *a = r->args;
    const int32_t row = (r->first + i) / r->group;
    const int32_t head = r->head_kv * r->group + (r->first + i) % r->group;
    const float *acc = r->acc + i * r->dim;
    float *out = a->out + (size_t)row * a->out_stride + (size_t)head * (size_t)a->head_dim;
    reg lanes = reg_load(r->sum[i]);
    float total, factor = 1.0f;

    for (int32_t j = REG; j < TILE; j += REG) {
        lanes = reg_add(lanes, reg_load(r->sum[i] + j));
    }
    total = reg_sum_all(lanes);
    if (a->sinks && a->sinks[head] != -INFINITY) {
        const float max = a->sinks[head] > r->max[i] ? a->sinks[head] : r->max[i];

        factor = exp_one(r->max[i] - max);
        total = total * factor + exp_one(a->sinks[head] - max);
    }
    /* The weights sum up to 0 where every score is -infinity. */
    factor = total == 0.0f ? 0.0f : factor / total;
    for (int32_t d = 0; d < a->head_dim; d += REG) {
        reg_store_part(out + d, BASE_MIN(a->head_dim - d, (int32_t)REG),
                       reg_mul(reg_load(acc + d), reg_set1(factor)));
    }
}

/* The tile at position `start`, for the vectors that see some of it: those of
 * a row at or after its start whose window reaches back to its end. */
KERN_INLINE void run_tile(struct run *r, int32_t start, int kind)
{
    const struct kern_attn_args *a = r->args;
    const size_t vector = (size_t)a->head_dim * kind_bytes(kind);
    const size_t slot =
        (size_t)r->head_kv * (size_t)a->block_tokens + (size_t)(start % a->block_tokens);
    const size_t offset =
        (size_t)a->blocks[start / a->block_tokens] * a->block_stride + slot * vector;
    struct vectors k = {a->k + offset, vector};
    struct vectors v = {a->v + offset, vector};
    int32_t begin = 0, end = r->n;

    while (begin < end && seen_end(r, begin) <= start) {
        begin++;
    }
    while (begin < end && seen_begin(r, end - 1) >= start + TILE) {
        end--;
    }
    if (a->head_dim == r->dim && (kind == KIND_F32 || end - begin <= REG_ROWS)) {
        score(r, begin, end, k, kind);
        weigh(r, begin, end, start);
        add_values(r, begin, end, start, v, kind);
    } else {
        score(r, begin, end, widen(r, k, kind), KIND_F32);
        weigh(r, begin, end, start);
        add_values(r, begin, end, start, widen(r, v, kind), KIND_F32);
    }
}

KERN_INLINE void paged(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                       int32_t end, int kind)
{
    struct run r;
    int32_t stop, longest;

    r.args = args;
    r.head_kv = head_kv;
    r.group = args->n_head / args->n_head_kv;
    r.dim = BASE_ALIGN_UP(args->head_dim, (int32_t)REG);
    longest = BASE_MIN(RUN_FLOATS / r.dim, (int32_t)RUN_MAX);
    longest = BASE_MAX(longest / REG_ROWS * REG_ROWS, 1);
    stop = end * r.group;
    for (r.first = begin * r.group; r.first < stop; r.first += r.n) {
        r.n = BASE_MIN(longest, stop - r.first);
        run_open(&r);
        for (int32_t at = seen_begin(&r, 0) / TILE * TILE; at < seen_end(&r, r.n - 1); at += TILE) {
            run_tile(&r, at, kind);
        }
        for (int32_t i = 0; i < r.n; i++) {
            run_close(&r, i);
        }
    }
}

static void paged_f32(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                      int32_t end)
{
    paged(args, head_kv, begin, end, KIND_F32);
}

static void paged_f16(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                      int32_t end)
{
    paged(args, head_kv, begin, end, KIND_F16);
}

static void paged_bf16(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                       int32_t end)
{
    paged(args, head_kv, begin, end, KIND_BF16);
}
