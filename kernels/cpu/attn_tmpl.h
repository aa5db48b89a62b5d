/* Paged causal attention over the words of reg_<isa>.h.
 *
 * A query vector is one head of one row. Those of a call are taken in runs; queries
 * are read and sums kept where the caller has them, or, where a width is no multiple
 * of a register, in padded copies. A run walks the tiles of KERN_ATTN_TILE positions it sees,
 * in pieces that lie side by side, and each piece of K and V serves all of its vectors; few
 * vectors take several tiles in one step, so that there is enough independent work. What happens
 * to one vector depends on nothing but its own position:
 *   score    the products of a lane in order of dimension, then the lanes in the
 *            order of reg_transpose_sum()
 *   maximum  after each tile; sum and output are brought to it
 *   output   value vectors in order of position, one fused product each
 * so that any cut into rows, calls, runs and steps gives the same bits. */
#include "kernels/cpu/attn_tile_tmpl.h"
#include "kernels/cpu/init.h"

#include <math.h>
#include <string.h>

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

    for (int32_t j = REG; j < PIECE; j += REG) {
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
    const int32_t hidden = BASE_MAX(r->seen_begin[0] - start, 0);
    const int32_t seen = BASE_MIN(r->seen_end[r->n - 1] - start, (int32_t)TILE);
    struct tile t = {start, 0, r->n, hidden / PIECE, BASE_DIV_UP(seen, (int32_t)PIECE), slot};

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

/* Where the vectors of the piece at a position lie in K or V; it never spans two blocks. */
KERN_INLINE struct vectors piece_vectors(const struct run *r, struct part_of_pool part,
                                         int32_t start)
{
    const struct kern_attn_args *a = r->args;
    const size_t block = (size_t)a->blocks[start / a->block_tokens];
    const size_t slot =
        (size_t)r->head_kv * (size_t)a->block_tokens + (size_t)(start % a->block_tokens);

    return (struct vectors){part.data + block * a->block_stride + slot * part.slot, part.slot,
                            part.used};
}

/* The piece to ask for: nothing where there is none. */
KERN_INLINE struct vectors piece_ahead(const struct run *r, struct part_of_pool part, int32_t start,
                                       int32_t stop)
{
    return start < stop ? piece_vectors(r, part, start) : (struct vectors){part.data, 0, 0};
}

/* What a run reads, up to the position `stop`; `few`: for few vectors. */
struct source {
    struct part_of_pool keys, values;
    int32_t stop;
    int few;
};

KERN_INLINE struct part_of_pool part_of(const uint8_t *data, size_t slot, int32_t width, int kind)
{
    const size_t used = kern_kv_bytes(kind, width);

    return (struct part_of_pool){data, slot ? slot : used, used};
}

/* Scores of one tile. Vectors of narrow elements are widened once if more than two passes over
 * them follow. */
KERN_INLINE void score_tile(struct run *r, const struct tile *t, const struct source *src, int kind)
{
    const int32_t dim = r->args->head_dim;
    const int direct = src->few && r->dim == dim;
    const int32_t steps = BASE_DIV_UP((t->end - t->begin) * PIECE, (int32_t)REG) * r->dim / REG;

    for (int32_t piece = t->piece_begin; piece < t->piece_end; piece++) {
        const int32_t start = t->start + piece * PIECE;
        const struct vectors k = piece_vectors(r, src->keys, start);
        const struct vectors ahead = piece_ahead(r, src->values, start, src->stop);
        struct ahead soon = ahead_of(ahead, direct ? steps : PIECE);

        if (direct) {
            score(r, t, piece, k, &soon, kind);
        } else {
            const struct vectors widened = widen(r->widened, k, soon, dim, kind);

            soon.lines = 0;
            score(r, t, piece, widened, &soon, KIND_F32);
        }
    }
}

/* And its values: all pieces together, or, where they are widened and too long, one by one.
 * Meanwhile the keys `distance` positions later are asked for. */
KERN_INLINE void add_tile(struct run *r, const struct tile *t, const struct source *src,
                          int32_t distance, int kind)
{
    const int direct = src->few && r->dim_v == r->head_dim_v;
    const int whole = direct || TILE * r->dim_v <= WIDENED_FLOATS;
    const int32_t passes = BASE_DIV_UP((t->end - t->begin) * r->dim_v, REG_SUMS * REG);
    struct values v = {.first = 1};

    for (int32_t piece = t->piece_begin; piece < t->piece_end; piece++) {
        const int32_t start = t->start + piece * PIECE;
        float *widened = r->widened + (whole ? piece * PIECE * r->dim_v : 0);
        const struct vectors ahead = piece_ahead(r, src->keys, start + distance, src->stop);

        v.v[piece] = piece_vectors(r, src->values, start);
        v.soon[piece] = ahead_of(ahead, direct ? PIECE * passes : PIECE);
        if (!direct) {
            v.v[piece] = widen(widened, v.v[piece], v.soon[piece], r->head_dim_v, kind);
            v.soon[piece].lines = 0;
        }
        if (!whole || piece + 1 == t->piece_end) {
            v.begin = whole ? t->piece_begin : piece;
            v.end = piece + 1;
            if (direct) {
                add_values(r, t, &v, kind);
            } else {
                add_values(r, t, &v, KIND_F32);
            }
            v.first = 0;
        }
    }
}

/* n_tiles tiles from position `start` on, of those before `src->stop`. */
KERN_INLINE void run_step(struct run *r, int32_t start, int32_t n_tiles, const struct source *src,
                          int kind)
{
    struct tile tiles[STEP_TILES];

    memset(r->shrink, 0, sizeof(r->shrink));
    for (int32_t i = 0; i < n_tiles; i++) {
        tiles[i] = tile_at(r, start + i * TILE, i * r->n);
        score_tile(r, &tiles[i], src, kind);
    }
    weigh(r, tiles, n_tiles);
    for (int32_t i = 0; i < n_tiles; i++) {
        add_tile(r, &tiles[i], src, n_tiles * TILE, kind);
    }
}

KERN_INLINE void run_all(struct run *r, int kind)
{
    const struct kern_attn_args *a = r->args;
    const struct source src = {part_of(a->k, a->k_slot, a->head_dim, kind),
                               part_of(a->v, a->v_slot, r->head_dim_v, kind), r->seen_end[r->n - 1],
                               kind == KIND_F32 || r->n <= 2 * REG_ROWS};
    const int32_t bytes = (int32_t)(TILE * kern_kv_bytes(kind, a->head_dim));
    const int32_t fit = BASE_MIN(SLOTS / r->n, (int32_t)STEP_TILES);
    const int32_t per_step = BASE_MAX(BASE_MIN(fit, STEP_BYTES / bytes), 1);
    int32_t at = r->seen_begin[0] / TILE * TILE;

    while (at < src.stop) {
        const int32_t n_tiles = BASE_MIN(BASE_DIV_UP(src.stop - at, (int32_t)TILE), per_step);

        run_step(r, at, n_tiles, &src, kind);
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
    int32_t longest;

    r.args = args;
    r.head_kv = head_kv;
    r.group = args->n_head / args->n_head_kv;
    r.head_dim_v = args->head_dim_v ? args->head_dim_v : args->head_dim;
    r.dim = BASE_ALIGN_UP(args->head_dim, (int32_t)REG);
    r.dim_v = BASE_ALIGN_UP(r.head_dim_v, (int32_t)REG);
    longest = run_longest(&r);
    for (r.first = begin; r.first < end; r.first += r.n) {
        r.n = BASE_MIN(longest, end - r.first);
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

static void paged_f8(const struct kern_attn_args *args, int32_t head_kv, int32_t begin, int32_t end)
{
    paged(args, head_kv, begin, end, KIND_F8);
}
