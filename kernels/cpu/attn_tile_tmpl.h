/* Template: a run of query vectors and what one tile of positions does to it, for attn_tmpl.h: its
 * scores, their softmax, its values. */
#include "kernels/cpu/attn_load_tmpl.h"

#include <math.h>
#include <string.h>

enum {
    TILE = KERN_ATTN_TILE,
    RUN_FLOATS = 1536, /* of the padded vectors of a run */
    SLOTS = 64,        /* vectors of a run, times tiles of a step, at most */
    STEP_TILES = 4,
    WIDENED_FLOATS = PIECE * KERN_ATTN_HEAD_MAX,
    STEP_BYTES = 8 << 10 /* of keys, and as many of values: what is asked for a step before */
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
    _Alignas(BASE_CACHE_LINE) float sum[SLOTS][PIECE];   /* of weights, by position modulo PIECE */
    _Alignas(BASE_CACHE_LINE) float weight[SLOTS][TILE]; /* of a step: scores, then weights */
    const float *q[SLOTS];                               /* `dim` floats each */
    float *acc[SLOTS];                                   /* `dim_v` each: sum of weight * value */
    _Alignas(BASE_CACHE_LINE) float padded_q[RUN_FLOATS];
    _Alignas(BASE_CACHE_LINE) float padded_acc[RUN_FLOATS];
    _Alignas(BASE_CACHE_LINE) float widened[WIDENED_FLOATS];
};

_Static_assert(sizeof(struct run) <= 64 << 10, "a run lies on the stack");

/* One tile of a step. Weight, base and shrink of vector i are at slot + i. */
struct tile {
    int32_t start;                  /* its first position */
    int32_t begin, end;             /* the vectors that see some of it */
    int32_t piece_begin, piece_end; /* the pieces of which some is seen */
    int32_t slot;
};

/* ------------------------------------------------------------------ scores */

/* q.k of n query vectors with a piece of the tile; as many keys at a time as fill one
 * reg_transpose_sum(). */
KERN_INLINE void score_rows(struct run *r, const struct tile *t, int32_t piece, int32_t at, int n,
                            struct vectors k, struct ahead *soon, int kind)
{
    const int cols = n == 1 ? REG : n == 2 ? REG / 2 : REG / 4;
    const float *q[4];

    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        q[i] = r->q[at + i];
    }
    for (int32_t j = 0; j < PIECE; j += cols) {
        const uint8_t *key = k.data + (size_t)j * k.stride;
        reg sums[REG];
        float out[REG];

        KERN_UNROLL
        for (int i = 0; i < REG; i++) {
            sums[i] = reg_zero();
        }
        for (int32_t d = 0; d < r->dim; d += REG) {
            ask(soon);
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
            memcpy(&r->weight[t->slot + at + i][piece * PIECE + j], out + i * cols,
                   (size_t)cols * sizeof(float));
        }
    }
}

KERN_INLINE void score(struct run *r, const struct tile *t, int32_t piece, struct vectors k,
                       struct ahead *soon, int kind)
{
    int32_t at = t->begin;

    for (; t->end - at >= REG_ROWS; at += REG_ROWS) {
        score_rows(r, t, piece, at, REG_ROWS, k, soon, kind);
    }
    switch (t->end - at) {
    case 3:
        score_rows(r, t, piece, at, 3, k, soon, kind);
        break;
    case 2:
        score_rows(r, t, piece, at, 2, k, soon, kind);
        break;
    case 1:
        score_rows(r, t, piece, at, 1, k, soon, kind);
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

/* Values of a tile, or of one piece of it. */
struct values {
    int32_t begin, end; /* pieces */
    int first;          /* nothing of the tile was added yet */
    struct vectors v[PIECES];
    struct ahead soon[PIECES];
};

/* sums += weight * v over the part of a piece that the vectors see. */
KERN_INLINE void add_piece(struct run *r, reg *sums, int32_t slot, int n, int cols,
                           struct values *v, int32_t piece, int32_t d, int32_t in, struct part seen,
                           int kind)
{
    const int32_t begin = BASE_MAX(seen.begin, piece * PIECE);
    const int32_t end = BASE_MIN(seen.end, (piece + 1) * PIECE);
    const size_t stride = v->v[piece].stride;
    const uint8_t *value =
        kind_at(v->v[piece].data, d, kind) + (size_t)(begin - piece * PIECE) * stride;

    for (int32_t j = begin; j < end; j++, value += stride) {
        ask(&v->soon[piece]);
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            const reg vc = load_kind(value, in + c * REG, kind);

            KERN_UNROLL
            for (int i = 0; i < n; i++) {
                sums[i * cols + c] =
                    reg_fma(reg_set1(r->weight[slot + i][j]), vc, sums[i * cols + c]);
            }
        }
    }
}

/* acc = acc * shrink + sum of weight * v, for n query vectors whose weights are
 * at `slot` and `cols` registers of dimensions from d on, which is `in` after kind_at(d). */
KERN_INLINE void add_part(struct run *r, int32_t at, int32_t slot, int n, int cols, int32_t d,
                          int32_t in, struct values *v, struct part seen, int kind)
{
    float *acc[4];
    reg sums[REG_SUMS];

    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        const reg shrink = reg_set1(v->first ? r->shrink[slot + i] : 1.0f);

        acc[i] = r->acc[at + i] + d;
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            sums[i * cols + c] = reg_mul(reg_load(acc[i] + c * REG), shrink);
        }
    }
    for (int32_t piece = v->begin; piece < v->end; piece++) {
        add_piece(r, sums, slot, n, cols, v, piece, d, in, seen, kind);
    }
    KERN_UNROLL
    for (int i = 0; i < n; i++) {
        KERN_UNROLL
        for (int c = 0; c < cols; c++) {
            reg_store(acc[i] + c * REG, sums[i * cols + c]);
        }
    }
}

KERN_INLINE void add_rows(struct run *r, const struct tile *t, int32_t at, int n, struct values *v,
                          struct part seen, int kind)
{
    const int wide = REG_SUMS / (n == 3 ? 4 : n);
    const int32_t slot = t->slot + at;
    int32_t d = 0; /* a wide step takes whole blocks of quantised vectors, or a part of one */

    for (; d + wide * REG <= r->dim_v; d += wide * REG) {
        add_part(r, at, slot, n, wide, d, kind_in(d, kind), v, seen, kind);
    }
    for (; wide > 4 && d + 4 * REG <= r->dim_v; d += 4 * REG) {
        add_part(r, at, slot, n, 4, d, kind_in(d, kind), v, seen, kind);
    }
    for (; d < r->dim_v; d += REG) {
        add_part(r, at, slot, n, 1, d, kind_in(d, kind), v, seen, kind);
    }
}

KERN_INLINE struct part seen_part(const struct run *r, const struct tile *t, int32_t i)
{
    return (struct part){BASE_MAX(r->seen_begin[i] - t->start, 0),
                         BASE_MIN(r->seen_end[i] - t->start, (int32_t)TILE)};
}

/* Neighbours that see the same part of the tile go together. A value that a
 * vector does not see is never multiplied, not even by 0: it may be NaN. */
KERN_INLINE void add_values(struct run *r, const struct tile *t, struct values *v, int kind)
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

    for (int32_t lane = 0; lane < PIECE; lane += REG) {
        reg sum = reg_mul(reg_load(r->sum[i] + lane), shrink);

        for (int32_t j = lane; j < TILE; j += PIECE) {
            const reg w = reg_exp(reg_sub(reg_load(weight + j), base));

            reg_store(weight + j, w);
            sum = reg_add(sum, w);
        }
        reg_store(r->sum[i] + lane, sum);
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
