/* Paged causal attention over the words of reg_<isa>.h.
 *
 * A query vector is one head of one row. Those of a call are taken in runs; queries
 * are read and sums kept where the caller has them, or, where a width is no multiple
 * of a register, in padded copies. A run walks the tiles of KERN_ATTN_TILE positions it sees,
 * and each tile of K and V serves all of its vectors; few vectors take several
 * tiles in one step, so that there is enough independent work. What happens to
 * one vector depends on nothing but its own position:
 *   score    the products of a lane in order of dimension, then the lanes in the
 *            order of reg_transpose_sum()
 *   maximum  after each tile; sum and output are brought to it
 *   output   value vectors in order of position, one fused product each
 * so that any cut into rows, calls, runs and steps gives the same bits. */
#include "kernels/cpu/attn_load_tmpl.h"
#include "kernels/cpu/init.h"

#include <math.h>
#include <string.h>

enum {
    TILE = KERN_ATTN_TILE,
    RUN_FLOATS = 1536, /* of the padded vectors of a run */
    SLOTS = 64,        /* vectors of a run, times tiles of a step, at most */
    STEP_TILES = 8
};

struct run {
    const struct kern_attn_args *args;
    int32_t head_kv;
    int32_t group; /* query heads of the KV head */
    int32_t first; /* row * group + head of the first query vector */
    int32_t n;     /* query vectors */
    int32_t head_dim_v;
    int32_t dim, dim_v;        /* head_dim, head_dim_v rounded up to REG; what is beyond is 0 */
    int32_t seen_begin[SLOTS]; /* first position that a vector sees */
    int32_t seen_end[SLOTS];   /* the one after its last */
    float max[SLOTS];          /* of the scores so far */
    float base[SLOTS];         /* max after the tile, or 0 where it is -infinity */
    _Alignas(BASE_CACHE_LINE) float shrink[SLOTS];       /* exp(max before the tile - base) */
    _Alignas(BASE_CACHE_LINE) float sum[SLOTS][TILE];    /* of weights, by position modulo TILE */
    _Alignas(BASE_CACHE_LINE) float weight[SLOTS][TILE]; /* of a step: scores, then weights */
    const float *q[SLOTS];                               /* `dim` floats each */
    float *acc[SLOTS];                                   /* `dim_v` each: sum of weight * value */
    _Alignas(BASE_CACHE_LINE) float padded_q[RUN_FLOATS];
    _Alignas(BASE_CACHE_LINE) float padded_acc[RUN_FLOATS];
    _Alignas(BASE_CACHE_LINE) float widened[TILE * KERN_ATTN_HEAD_MAX];
};

_Static_assert(sizeof(struct run) <= 64 << 10, "a run lies on the stack");

/* One tile of a step. Weight, base and shrink of vector i are at slot + i. */
struct tile {
    int32_t start;      /* its first position */
    int32_t begin, end; /* the vectors that see some of it */
    int32_t slot;
};

/* ------------------------------------------------------------------ scores */

/* q.k of n query vectors with the tile; as many keys at a time as fill one
 * reg_transpose_sum(). */
KERN_INLINE void score_rows(struct run *r, const struct tile *t, int32_t at, int n,
                            struct vectors k, int kind)
{
    const int cols = n == 1 ? REG : n == 2 ? REG / 2 : REG / 4;
    const float *q[4];

    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        q[i] = r->q[at + i];
    }
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
                    load_kind(kind_at(key + (size_t)c * k.stride, d, kind), kind_in(d, kind), kind);

                KERN_UNROLL
                for (int i = 0; i < n; i++) {
                    sums[i * cols + c] = reg_fma(reg_load(q[i] + d), kd, sums[i * cols + c]);
                }
            }
        }
        reg_store(out, reg_transpose_sum(sums));
        for (int i = 0; i < n; i++) {
            memcpy(&r->weight[t->slot + at + i][j], out + i * cols, (size_t)cols * sizeof(float));
        }
    }
}

KERN_INLINE void score(struct run *r, const struct tile *t, struct vectors k, int kind)
{
    int32_t at = t->begin;

    for (; t->end - at >= REG_ROWS; at += REG_ROWS) {
        score_rows(r, t, at, REG_ROWS, k, kind);
    }
    switch (t->end - at) {
    case 3:
        score_rows(r, t, at, 3, k, kind);
        break;
    case 2:
        score_rows(r, t, at, 2, k, kind);
        break;
    case 1:
        score_rows(r, t, at, 1, k, kind);
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------ values */

/* The positions of a tile that a vector sees, counted from its start. */
struct part {
    int32_t begin, end;
};

/* acc = acc * shrink + sum of weight * v, for n query vectors whose weights are
 * at `slot` and `cols` registers of dimensions from d on, which is `in` after kind_at(d). */
KERN_INLINE void add_part(struct run *r, int32_t at, int32_t slot, int n, int cols, int32_t d,
                          int32_t in, struct vectors v, struct part seen, int kind)
{
    float *acc[4];
    const uint8_t *value = kind_at(v.data, d, kind);
    reg sums[REG_SUMS];

    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        acc[i] = r->acc[at + i] + d;
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            sums[i * cols + c] = reg_mul(reg_load(acc[i] + c * REG), reg_set1(r->shrink[slot + i]));
        }
    }
    for (int32_t j = seen.begin; j < seen.end; j++) {
        const uint8_t *vj = value + (size_t)j * v.stride;

        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            const reg vc = load_kind(vj, in + c * REG, kind);

            KERN_UNROLL
            for (int i = 0; i < n; i++) {
                sums[i * cols + c] =
                    reg_fma(reg_set1(r->weight[slot + i][j]), vc, sums[i * cols + c]);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            reg_store(acc[i] + c * REG, sums[i * cols + c]);
        }
    }
}

KERN_INLINE void add_rows(struct run *r, const struct tile *t, int32_t at, int n, struct vectors v,
                          struct part seen, int kind)
{
    const int wide = REG_SUMS / (n == 3 ? 4 : n);
    int32_t d = 0; /* a wide step takes whole blocks of quantised vectors, or a part of one */

    for (; d + wide * REG <= r->dim_v; d += wide * REG) {
        add_part(r, at, t->slot + at, n, wide, d, kind_in(d, kind), v, seen, kind);
    }
    for (; d < r->dim_v; d += REG) {
        add_part(r, at, t->slot + at, n, 1, d, kind_in(d, kind), v, seen, kind);
    }
}

KERN_INLINE struct part seen_part(const struct run *r, const struct tile *t, int32_t i)
{
    return (struct part){BASE_MAX(r->seen_begin[i] - t->start, 0),
                         BASE_MIN(r->seen_end[i] - t->start, (int32_t)TILE)};
}

/* Neighbours that see the same part of the tile go together. A value that a
 * vector does not see is never multiplied, not even by 0: it may be NaN. */
KERN_INLINE void add_values(struct run *r, const struct tile *t, struct vectors v, int kind)
{
    for (int32_t at = t->begin, n; at < t->end; at += n) {
        const struct part seen = seen_part(r, t, at);

        for (n = 1; n < REG_ROWS && at + n < t->end; n++) {
            const struct part next = seen_part(r, t, at + n);

            if (next.begin != seen.begin || next.end != seen.end) {
                break;
            }
        }
        switch (n) {
        case 4:
            add_rows(r, t, at, 4, v, seen, kind);
            break;
        case 3:
            add_rows(r, t, at, 3, v, seen, kind);
            break;
        case 2:
            add_rows(r, t, at, 2, v, seen, kind);
            break;
        default:
            add_rows(r, t, at, 1, v, seen, kind);
        }
    }
}

/* ----------------------------------------------------------------- softmax */

/* Scales the scores of vector i and hides what it does not see; base becomes
 * their maximum. NaN is passed over here; its weight will be NaN. */
static void finish_scores(struct run *r, const struct tile *t, int32_t i)
{
    const struct kern_attn_args *a = r->args;
    const struct part seen = seen_part(r, t, i);
    float *weight = r->weight[t->slot + i];
    reg max = reg_set1(-INFINITY);

    for (int32_t j = 0; j < TILE; j += REG) {
        reg s = reg_mul(reg_load(weight + j), reg_set1(a->scale));

        if (a->softcap > 0.0f) {
            s = reg_mul(reg_tanh(reg_div(s, reg_set1(a->softcap))), reg_set1(a->softcap));
        }
        s = reg_keep(s, BASE_MIN(BASE_MAX(seen.begin - j, 0), (int32_t)REG),
                     BASE_MIN(BASE_MAX(seen.end - j, 0), (int32_t)REG), reg_set1(-INFINITY));
        max = reg_max(s, max);
        reg_store(weight + j, s);
    }
    r->base[t->slot + i] = reg_max_all(max);
}

/* Raises the maximum of vector i by a tile's. */
static void raise_max(struct run *r, const struct tile *t, int32_t i)
{
    const float before = r->max[i];
    const float max = BASE_MAX(r->base[t->slot + i], before);

    r->max[i] = max;
    r->base[t->slot + i] = max == -INFINITY ? 0.0f : max;
    r->shrink[t->slot + i] = before - r->base[t->slot + i];
}

static void weigh_scores(struct run *r, const struct tile *t, int32_t i)
{
    float *weight = r->weight[t->slot + i];
    const reg base = reg_set1(r->base[t->slot + i]);
    const reg shrink = reg_set1(r->shrink[t->slot + i]);

    for (int32_t j = 0; j < TILE; j += REG) {
        const reg w = reg_exp(reg_sub(reg_load(weight + j), base));

        reg_store(weight + j, w);
        reg_store(r->sum[i] + j, reg_fma(reg_load(r->sum[i] + j), shrink, w));
    }
}

/* The scores of a step become weights. */
static void weigh(struct run *r, const struct tile *tiles, int32_t n_tiles)
{
    for (const struct tile *t = tiles; t < tiles + n_tiles; t++) {
        for (int32_t i = t->begin; i < t->end; i++) {
            finish_scores(r, t, i);
        }
    }
    for (const struct tile *t = tiles; t < tiles + n_tiles; t++) {
        for (int32_t i = t->begin; i < t->end; i++) {
            raise_max(r, t, i);
        }
    }
    for (int32_t slot = 0; slot < n_tiles * r->n; slot += REG) {
        reg_store(r->shrink + slot, reg_exp(reg_load(r->shrink + slot)));
    }
    for (const struct tile *t = tiles; t < tiles + n_tiles; t++) {
        for (int32_t i = t->begin; i < t->end; i++) {
            weigh_scores(r, t, i);
        }
    }
}

/* --------------------------------------------------------------------- runs */

static int32_t first_seen(const struct kern_attn_args *a, int32_t pos)
{
    const int32_t window = a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0;
    const int32_t chunk = a->chunk > 0 ? pos - pos % a->chunk : 0;

    return BASE_MAX(window, chunk);
}

/* Where the output of a vector goes. */
static float *run_out(const struct run *r, int32_t i)
{
    const int32_t row = (r->first + i) / r->group;
    const int32_t head = r->head_kv * r->group + (r->first + i) % r->group;

    return r->args->out + (size_t)row * r->args->out_stride + (size_t)(head * r->head_dim_v);
}

static void run_open(struct run *r)
{
    const struct kern_attn_args *a = r->args;

    for (int32_t i = 0; i < r->n; i++) {
        const int32_t row = (r->first + i) / r->group;
        const int32_t head = r->head_kv * r->group + (r->first + i) % r->group;
        const float *q = a->q + (size_t)row * a->q_stride + (size_t)(head * a->head_dim);

        r->seen_begin[i] = first_seen(a, a->first_pos + row);
        r->seen_end[i] = a->first_pos + row + 1;
        r->max[i] = -INFINITY;
        r->q[i] = q;
        if (r->dim != a->head_dim) {
            float *copy = r->padded_q + i * r->dim;

            memcpy(copy, q, (size_t)a->head_dim * sizeof(*q));
            memset(copy + a->head_dim, 0, (size_t)(r->dim - a->head_dim) * sizeof(*q));
            r->q[i] = copy;
        }
        r->acc[i] = r->dim_v == r->head_dim_v ? run_out(r, i) : r->padded_acc + i * r->dim_v;
        memset(r->acc[i], 0, (size_t)r->dim_v * sizeof(float));
    }
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
    const int32_t head = r->head_kv * r->group + (r->first + i) % r->group;
    const float *acc = r->acc[i];
    float *out = run_out(r, i);
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
    /* The weights sum up to 0 where every score is -infinity: the output is 0, whatever
     * the values are. */
    for (int32_t d = 0; d < r->head_dim_v; d += REG) {
        const reg mean = reg_mul(reg_load(acc + d), reg_set1(factor / total));

        reg_store_part(out + d, BASE_MIN(r->head_dim_v - d, (int32_t)REG),
                       total == 0.0f ? reg_zero() : mean);
    }
}

/* The tile at position `start`: a row before it sees nothing of it, nor does a
 * row whose window begins after it. */
static struct tile tile_at(const struct run *r, int32_t start, int32_t slot)
{
    struct tile t = {start, 0, r->n, slot};

    while (t.begin < t.end && r->seen_end[t.begin] <= start) {
        t.begin++;
    }
    while (t.begin < t.end && r->seen_begin[t.end - 1] >= start + TILE) {
        t.end--;
    }
    return t;
}

/* K or V of this layer in the pool. */
struct part_of_pool {
    const uint8_t *data; /* in block 0 */
    size_t slot;         /* bytes from a vector to the next */
    size_t used;         /* of them */
};

/* Where the tile's vectors lie in K or V; a tile never spans two blocks. */
KERN_INLINE struct vectors tile_vectors(const struct run *r, struct part_of_pool part,
                                        int32_t start)
{
    const struct kern_attn_args *a = r->args;
    const size_t block = (size_t)a->blocks[start / a->block_tokens];
    const size_t slot =
        (size_t)r->head_kv * (size_t)a->block_tokens + (size_t)(start % a->block_tokens);

    return (struct vectors){part.data + block * a->block_stride + slot * part.slot, part.slot};
}

/* Blocks lie anywhere in the pool: no processor guesses where the next one is. */
KERN_INLINE void prefetch(const struct run *r, struct part_of_pool part, int32_t start,
                          int32_t stop)
{
    if (start < stop) {
        const struct vectors next = tile_vectors(r, part, start);

        for (size_t i = 0; i < TILE * part.slot - (part.slot - part.used); i += BASE_CACHE_LINE) {
            __builtin_prefetch((const char *)next.data + i, 0, 3);
        }
    }
}

KERN_INLINE struct part_of_pool part_of(const uint8_t *data, size_t slot, int32_t width, int kind)
{
    const size_t used = kern_kv_bytes(kind, width);

    return (struct part_of_pool){data, slot ? slot : used, used};
}

/* n_tiles tiles from position `start` on, of those before `stop`. Vectors of
 * narrow elements are widened once if more than two passes over them follow. */
KERN_INLINE void run_step(struct run *r, int32_t start, int32_t n_tiles, int32_t stop, int kind)
{
    const struct kern_attn_args *a = r->args;
    const struct part_of_pool keys = part_of(a->k, a->k_slot, a->head_dim, kind);
    const struct part_of_pool values = part_of(a->v, a->v_slot, r->head_dim_v, kind);
    const int few = kind == KIND_F32 || r->n <= 2 * REG_ROWS;
    struct tile tiles[STEP_TILES];

    memset(r->shrink, 0, sizeof(r->shrink));
    for (int32_t i = 0; i < n_tiles; i++) {
        const struct vectors k = tile_vectors(r, keys, start + i * TILE);

        tiles[i] = tile_at(r, start + i * TILE, i * r->n);
        prefetch(r, keys, start + (i + 1) * TILE, stop);
        if (few && r->dim == a->head_dim) {
            score(r, &tiles[i], k, kind);
        } else {
            score(r, &tiles[i], widen(r->widened, k, a->head_dim, kind), KIND_F32);
        }
    }
    weigh(r, tiles, n_tiles);
    for (int32_t i = 0; i < n_tiles; i++) {
        const struct vectors v = tile_vectors(r, values, start + i * TILE);

        prefetch(r, values, start + (i + 1) * TILE, stop);
        if (few && r->dim_v == r->head_dim_v) {
            add_values(r, &tiles[i], v, kind);
        } else {
            add_values(r, &tiles[i], widen(r->widened, v, r->head_dim_v, kind), KIND_F32);
        }
    }
}

KERN_INLINE void run_all(struct run *r, int kind)
{
    const int32_t per_step = BASE_MIN(SLOTS / r->n, (int32_t)STEP_TILES);
    const int32_t stop = r->seen_end[r->n - 1];
    int32_t at = r->seen_begin[0] / TILE * TILE;

    while (at < stop) {
        const int32_t n_tiles = BASE_MIN(BASE_DIV_UP(stop - at, (int32_t)TILE), per_step);

        run_step(r, at, n_tiles, stop, kind);
        at += n_tiles * TILE;
    }
}

/* Vectors of a run: what the padded copies hold, if there are any. */
static int32_t run_longest(const struct run *r)
{
    int32_t longest = SLOTS;

    if (r->dim != r->args->head_dim) {
        longest = BASE_MIN(longest, RUN_FLOATS / r->dim);
    }
    if (r->dim_v != r->head_dim_v) {
        longest = BASE_MIN(longest, RUN_FLOATS / r->dim_v);
    }
    return BASE_MAX(longest / REG_ROWS * REG_ROWS, 1);
}

KERN_INLINE void paged(const struct kern_attn_args *args, int32_t head_kv, int32_t begin,
                       int32_t end, int kind)
{
    struct run r;
    int32_t stop, longest;

    r.args = args;
    r.head_kv = head_kv;
    r.group = args->n_head / args->n_head_kv;
    r.head_dim_v = args->head_dim_v ? args->head_dim_v : args->head_dim;
    r.dim = BASE_ALIGN_UP(args->head_dim, (int32_t)REG);
    r.dim_v = BASE_ALIGN_UP(r.head_dim_v, (int32_t)REG);
    longest = run_longest(&r);
    stop = end * r.group;
    for (r.first = begin * r.group; r.first < stop; r.first += r.n) {
        r.n = BASE_MIN(longest, stop - r.first);
        run_open(&r);
        run_all(&r, kind);
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

static void paged_q8(const struct kern_attn_args *args, int32_t head_kv, int32_t begin, int32_t end)
{
    paged(args, head_kv, begin, end, KIND_Q8);
}

static void paged_q4(const struct kern_attn_args *args, int32_t head_kv, int32_t begin, int32_t end)
{
    paged(args, head_kv, begin, end, KIND_Q4);
}
