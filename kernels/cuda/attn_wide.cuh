/* What a block of attention with values of 512 elements (attn_wide_launch.cuh) does, step by step:
 * tiles of keys and values into shared memory, queries, scores, weights, sums, and how it ends.
 *
 * `width`: elements of a key. Keys of 512 have values that lie apart from them, as in the caches of
 * other heads; wider ones are latents, whose first 512 elements are their values. */
#ifndef KERNELS_CUDA_ATTN_WIDE_CUH
#define KERNELS_CUDA_ATTN_WIDE_CUH

#include "kernels/cuda/attn_tile.cuh"

#define WIDTH_V ATTN_WIDE
#define KEYS    32 /* of a tile */
#define WARPS   8
#define THREADS (WARPS * KERN_WARP)
#define COLUMNS (WIDTH_V / WARPS) /* of a warp's sums */
#define SLICES  4                 /* of the dims, in scores */

/* Elements of a row of scores and of weights in shared memory: rows lie in different banks. */
#define ROW (KEYS + 8)

static_assert(ATTN_PART_GRAIN % KEYS == 0, "parts are whole tiles of keys");
static_assert(WARPS == 2 * SLICES && KEYS == 32);

/* `tiles`: of 16 query vectors. */
template <attn_kind kind, int width, int tiles> struct layout {
    using vector = attn_vector<kind, width>;
    static constexpr bool apart = width == WIDTH_V; /* values from keys */
    static constexpr int steps = width / 16;
    static_assert(steps % SLICES == 0);
    static constexpr bool exact = tiles == 1;
    static constexpr int rows = tiles * 16;
    static constexpr int lanes = THREADS / rows,
                         each = KEYS / lanes; /* threads and keys of a row */
    static constexpr int raw = KEYS * vector::raw;
    static constexpr int queries = exact ? steps * KERN_WARP * 16 : rows * vector::wide;
    static constexpr int widened = vector::quantised ? KEYS * vector::wide : 0;
    static constexpr int scores = SLICES * rows * ROW * (int)sizeof(float);
    static constexpr int weights = rows * ROW * 2 * (exact ? 2 : 1);
    static constexpr int fixed = queries + widened + scores + weights;
};

/* What lies where. */
struct places {
    uint16_t *queries, *wide, *weights; /* of 16 vectors the rests alone; weights, then rests */
    float *scores;
    unsigned char *ring;
};

/* By rows of a tile: what sums are multiplied by, and in the end the maximum and the sum, or what
 * normalises. */
struct factors {
    float shrink[64], m[64], l[64];
};

template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ struct places places_of(unsigned char *shared)
{
    using part = layout<kind, width, tiles>;
    struct places at;
    at.queries = (uint16_t *)shared;
    at.wide = (uint16_t *)(shared + part::queries);
    at.scores = (float *)(shared + part::queries + part::widened);
    at.weights = (uint16_t *)(shared + part::queries + part::widened + part::scores);
    at.ring = shared + part::fixed;
    return at;
}

/* -------------------------------------------------------- tiles of keys and values */

/* The tile that is fetched next, of keys or of values, and the blocks of its halves, looked up
 * while another arrives. */
struct ahead {
    int next;
    int32_t blocks[2];
};

/* Parts at fixed places are cut into the same tiles whatever window begins within them: no half of
 * a tile ahead of that is looked up. */
template <bool apart>
static __device__ __forceinline__ void look_up(const struct attn_params &p,
                                               const struct attn_work &w, struct ahead &t)
{
    const int shift = 31 - __clz(p.a.kv.block_tokens);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int j = t.next + h * 16;
        t.blocks[h] = j < w.end && (!apart || j >= w.begin) ? w.blocks[j >> shift] : 0;
    }
}

/* Starts the copies of a tile from `base` by all threads. Slots that no vector sees become zero, in
 * quantised tiles by attn_widen_tile(). */
template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void fetch(const struct attn_params &p, const struct attn_work &w,
                                             struct ahead &t, unsigned char *to,
                                             const uint8_t *base, size_t slot)
{
    using part = layout<kind, width, tiles>;
    using vector = typename part::vector;
    if (t.next < w.end) {
        const int second = t.next + 16 < w.end ? 1 : 0;
        const uint8_t *upper = base + attn_slot(p, w, t.blocks[0], t.next, slot);
        const uint8_t *lower =
            second ? base + attn_slot(p, w, t.blocks[1], t.next + 16, slot) : upper;
        if constexpr (vector::quantised) {
            const int n = (1 + second) * vector::bytes; /* 16 vectors are so many pieces */
            for (int i = threadIdx.x; i < n; i += THREADS)
                kern_copy_async(
                    to + i * 16,
                    i < vector::bytes ? upper + i * 16 : lower + (i - vector::bytes) * 16, 16);
        } else {
            constexpr int units = width / 8; /* of a vector */
            static_assert(KEYS * units % THREADS == 0);
#pragma unroll 3
            for (int i = 0; i < KEYS * units / THREADS; i++) {
                const int unit = i * THREADS + (int)threadIdx.x, key = unit / units;
                const int at = unit % units * 16, j = t.next + key;
                kern_copy_async(to + key * vector::wide + at,
                                (key < 16 ? upper : lower) + key % 16 * slot + at,
                                j < w.end && (!part::apart || j >= w.seen) ? 16 : 0);
            }
        }
        t.next += KEYS;
        look_up<part::apart>(p, w, t);
    }
    kern_copy_commit();
}

/* ------------------------------------------------------------------------ queries */

/* A quarter of the dims of 16 vectors as the fragments of a lane, rounded; what that leaves lies in
 * shared memory. */
template <int width> struct kept_queries {
    uint32_t v[width / 16 / SLICES][4];
};

template <attn_kind kind, int width>
static __device__ __forceinline__ void keep_queries(const struct attn_params &p,
                                                    const struct attn_work &w,
                                                    struct kept_queries<width> *q, uint4 *rests)
{
    constexpr int steps = width / 16 / SLICES;
    const int lane = threadIdx.x % KERN_WARP, slice = threadIdx.x / KERN_WARP % 4;
    const float *from[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int v = lane / 4 + r * 8;
        from[r] = v < w.n ? attn_query(p, w, v) + slice * (width / 4) + lane % 4 * 2 : NULL;
    }
#pragma unroll
    for (int i = 0; i < steps; i++) {
        uint32_t rest[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float2 x = make_float2(0.0f, 0.0f);
            if (from[k % 2])
                x = *(const float2 *)(from[k % 2] + i * 16 + k / 2 * 8);
            x.x *= p.score_scale;
            x.y *= p.score_scale;
            q->v[i][k] = attn_pack<kind>(x.x, x.y);
            rest[k] = attn_pack_rest<kind>(q->v[i][k], x.x, x.y);
        }
        if (threadIdx.x < THREADS / 2) /* the other half has the same */
            rests[(slice * steps + i) * KERN_WARP + lane] =
                make_uint4(rest[0], rest[1], rest[2], rest[3]);
    }
}

/* All dims of `rows` vectors, rounded, in shared memory. */
template <attn_kind kind, int width, int rows>
static __device__ __forceinline__ void share_queries(const struct attn_params &p,
                                                     const struct attn_work &w, uint16_t *to)
{
    constexpr int quads = width / 4;
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * quads; i += THREADS) {
        const int v = i / quads, quad = i % quads;
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (v < w.n)
            x = *(const float4 *)(attn_query(p, w, v) + quad * 4);
        *(uint2 *)(to + v * (width + 8) + quad * 4) =
            make_uint2(attn_pack<kind>(x.x * p.score_scale, x.y * p.score_scale),
                       attn_pack<kind>(x.z * p.score_scale, x.w * p.score_scale));
    }
}

/* ------------------------------------------------------------------- scores, weights */

/* Scores of 16 keys from k on, over a quarter of the dims, in two chains of products. */
template <attn_kind kind, int width>
static __device__ __forceinline__ void score_16(const struct kept_queries<width> &q,
                                                const uint4 *rests, const uint16_t *k, int slice,
                                                float *to)
{
    constexpr int steps = width / 16 / SLICES;
    const int lane = threadIdx.x % KERN_WARP;
    float s[2][2][4] = {};
#pragma unroll
    for (int i = 0; i < steps; i++) {
        const int step = slice * steps + i;
        const uint4 own = rests[step * KERN_WARP + lane];
        const uint32_t rest[4] = {own.x, own.y, own.z, own.w};
        uint32_t b[4];
        attn_keys<width>(b, k, step * 16);
        attn_mma<kind>(s[0][0], q.v[i], b);
        attn_mma<kind>(s[0][1], q.v[i], b + 2);
        attn_mma<kind>(s[1][0], rest, b);
        attn_mma<kind>(s[1][1], rest, b + 2);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        *(float2 *)(to + i % 2 * 8 * ROW + i / 2 * 8) =
            make_float2(s[0][i / 2][i % 2 * 2] + s[1][i / 2][i % 2 * 2],
                        s[0][i / 2][i % 2 * 2 + 1] + s[1][i / 2][i % 2 * 2 + 1]);
}

/* Scores of 32 vectors, from q on, and of all keys, over a quarter of the dims: what is read of
 * shared memory meets twice as much as it would of 16. */
template <attn_kind kind, int width>
static __device__ __forceinline__ void score_32(const uint16_t *q, const uint16_t *k, int slice,
                                                float *to)
{
    constexpr int steps = width / 16 / SLICES;
    const int lane = threadIdx.x % KERN_WARP;
    float s[2][4][4] = {};
    q += lane % 16 * (width + 8) + lane / 16 * 8;
#pragma unroll
    for (int i = 0; i < steps; i++) {
        const int dim = (slice * steps + i) * 16;
        uint32_t a[2][4];
#pragma unroll
        for (int m = 0; m < 2; m++)
            kern_load_matrix(a[m], q + m * 16 * (width + 8) + dim);
#pragma unroll
        for (int keys = 0; keys < KEYS / 16; keys++) {
            uint32_t b[4];
            attn_keys<width>(b, k + keys * 16 * (width + 8), dim);
#pragma unroll
            for (int m = 0; m < 2; m++) {
                attn_mma<kind>(s[m][keys * 2], a[m], b);
                attn_mma<kind>(s[m][keys * 2 + 1], a[m], b + 2);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int i = 0; i < 8; i++)
            *(float2 *)(to + (m * 16 + i % 2 * 8) * ROW + i / 2 * 8) =
                make_float2(s[m][i / 2][i % 2 * 2], s[m][i / 2][i % 2 * 2 + 1]);
}

/* A warp's part of the scores: a quarter of the dims for a half of the keys, or of the vectors. */
template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void score(const struct kept_queries<width> &q,
                                             const struct places &at, const uint16_t *k)
{
    using part = layout<kind, width, tiles>;
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int slice = warp % SLICES, second = warp / SLICES;
    float *to = at.scores + (slice * part::rows + lane / 4) * ROW + lane % 4 * 2;
    if constexpr (part::exact)
        score_16<kind, width>(q, (const uint4 *)at.queries, k + second * 16 * (width + 8), slice,
                              to + second * 16);
    else
        score_32<kind, width>(at.queries + second * 32 * (width + 8), k, slice,
                              to + second * 32 * ROW);
}

/* The softmax so far of a thread's vector; l is of the thread's own keys. */
struct softmax {
    float m, l;
    int low, pos; /* the first and the last key that the vector sees */
};

/* Scores of the tile from key j on become weights; how far sums shrink goes to `shrink`. */
template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void weigh(const struct attn_params &p, const struct attn_work &w,
                                             const struct places &at, struct softmax *st,
                                             float *shrink, int j)
{
    using part = layout<kind, width, tiles>;
    const int row = threadIdx.x / part::lanes, first = threadIdx.x % part::lanes * part::each;
    float x[part::each], most = st->m;
#pragma unroll
    for (int i = 0; i < part::each; i++) {
        const float *s = at.scores + row * ROW + first + i;
        x[i] = s[0];
#pragma unroll
        for (int slice = 1; slice < SLICES; slice++)
            x[i] += s[slice * part::rows * ROW];
        x[i] = attn_score(p, x[i]);
        const int key = j + first + i;
        if (key > st->pos || key >= w.end || (part::apart && key < st->low))
            x[i] = -INFINITY;
        most = fmaxf(most, x[i]);
    }
#pragma unroll
    for (int step = 1; step < part::lanes; step *= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    const float base = attn_base(most), factor = attn_exp2(st->m - base);
    st->m = most;
    st->l *= factor;
#pragma unroll
    for (int i = 0; i < part::each; i++) {
        x[i] = attn_exp2(x[i] - base);
        st->l += x[i];
    }
    if (first == 0)
        shrink[row] = factor;
    uint32_t *hi = (uint32_t *)(at.weights + row * ROW + first);
#pragma unroll
    for (int i = 0; i < part::each / 2; i++) {
        const uint32_t pair = attn_pack<kind>(x[2 * i], x[2 * i + 1]);
        hi[i] = pair;
        if (part::exact)
            hi[part::rows * ROW / 2 + i] = attn_pack_rest<kind>(pair, x[2 * i], x[2 * i + 1]);
    }
}

/* A warp's columns of the sums, as products leave them. */
template <int tiles> struct sums {
    float v[tiles][COLUMNS / 8][4];
};

template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void add_values(struct sums<tiles> *o, const struct places &at,
                                                  const float *shrink, const uint16_t *v)
{
    using part = layout<kind, width, tiles>;
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
#pragma unroll
    for (int m = 0; m < tiles; m++) {
        const float f[2] = {shrink[m * 16 + lane / 4], shrink[m * 16 + lane / 4 + 8]};
        /* A maximum seldom changes once some keys have been seen. */
        if (!__any_sync(0xffffffffu, !(f[0] == 1.0f && f[1] == 1.0f)))
            continue;
#pragma unroll
        for (int i = 0; i < COLUMNS / 8; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                o->v[m][i][e] *= f[e / 2];
    }
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++) {
        const uint16_t *from = at.weights + lane % 16 * ROW + step * 16 + lane / 16 * 8;
        uint32_t hi[tiles][4], lo[4];
#pragma unroll
        for (int m = 0; m < tiles; m++)
            kern_load_matrix(hi[m], from + m * 16 * ROW);
        if (part::exact)
            kern_load_matrix(lo, from + part::rows * ROW);
#pragma unroll
        for (int i = 0; i < COLUMNS / 16; i++) {
            uint32_t b[4];
            attn_values<width>(b, v + step * 16 * (width + 8), warp * COLUMNS + i * 16);
#pragma unroll
            for (int m = 0; m < tiles; m++) {
                attn_mma<kind>(o->v[m][i * 2], hi[m], b);
                attn_mma<kind>(o->v[m][i * 2 + 1], hi[m], b + 2);
            }
            if (part::exact) {
                attn_mma<kind>(o->v[0][i * 2], lo, b);
                attn_mma<kind>(o->v[0][i * 2 + 1], lo, b + 2);
            }
        }
    }
}

/* -------------------------------------------------------------------------- ends */

template <int lanes> static __device__ __forceinline__ float sum_of_row(float l)
{
#pragma unroll
    for (int step = 1; step < lanes; step *= 2)
        l += __shfl_xor_sync(0xffffffffu, l, step);
    return l;
}

/* Calls f(row, column, four) for the elements of a lane, four of a row at a time: lanes that are
 * neighbours exchange halves of theirs. */
template <int tiles, typename F>
static __device__ __forceinline__ void each_four(const struct sums<tiles> &o, F f)
{
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP, odd = lane % 2;
#pragma unroll
    for (int m = 0; m < tiles; m++)
#pragma unroll
        for (int i = 0; i < COLUMNS / 8; i++) {
            const float *v = o.v[m][i];
            const float x = __shfl_xor_sync(0xffffffffu, odd ? v[0] : v[2], 1);
            const float y = __shfl_xor_sync(0xffffffffu, odd ? v[1] : v[3], 1);
            const float4 four = odd ? make_float4(x, y, v[2], v[3]) : make_float4(v[0], v[1], x, y);
            f(m * 16 + odd * 8 + lane / 4, warp * COLUMNS + i * 8 + lane % 4 / 2 * 4, four);
        }
}

/* Normed rows of the output. */
template <int tiles>
static __device__ __forceinline__ void store(const struct attn_params &p, const struct attn_work &w,
                                             const struct sums<tiles> &o, const float *norm)
{
    each_four(o, [&](int row, int column, const float4 &x) {
        if (row >= w.n)
            return;
        const float f = norm[row];
        const float y[4] = {__fmul_rn(x.x, f), __fmul_rn(x.y, f), __fmul_rn(x.z, f),
                            __fmul_rn(x.w, f)};
        attn_store(p, w, row, column, 4, y);
    });
}

/* A part of several, for join(). */
template <int tiles>
static __device__ __forceinline__ void leave(const struct attn_params &p, const struct attn_work &w,
                                             const struct sums<tiles> &o, const struct factors &f)
{
    const size_t first = ((size_t)w.tile * p.n_splits + w.split) * (tiles * 16);
    each_four(o, [&](int row, int column, const float4 &x) {
        if (row < w.n)
            *(float4 *)(p.o + (first + row) * p.o_stride + column) = x;
    });
    for (int v = threadIdx.x; v < w.n; v += THREADS) {
        p.stats[(first + v) * 2] = f.m[v];
        p.stats[(first + v) * 2 + 1] = f.l[v];
    }
}

/* Parts that one block takes one behind the other: sums of all so far, with the roundings of
 * attn_fold(). */
template <int tiles> struct all_parts {
    struct sums<tiles> o;
    float m, l; /* of the thread's vector */
    int n;
};

template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void fold(struct all_parts<tiles> *all, struct sums<tiles> *o,
                                            struct softmax *st, struct factors &f)
{
    using part = layout<kind, width, tiles>;
    const int row = threadIdx.x / part::lanes, lane = threadIdx.x % KERN_WARP;
    const float l = sum_of_row<part::lanes>(st->l);
    struct attn_sofar s = {all->m, all->l, {}};
    const float most = fmaxf(s.m, st->m), base = attn_base(most);
    if (threadIdx.x % part::lanes == 0) {
        f.m[row] = attn_exp2(s.m - base);
        f.l[row] = attn_exp2(st->m - base);
    }
    attn_fold(&s, st->m, l, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    all->m = all->n ? s.m : st->m;
    all->l = all->n ? s.l : l;
    st->m = -INFINITY;
    st->l = 0.0f;
    __syncthreads();
#pragma unroll
    for (int m = 0; m < tiles; m++)
#pragma unroll
        for (int i = 0; i < COLUMNS / 8; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int v = m * 16 + lane / 4 + e / 2 * 8;
                float *sum = &all->o.v[m][i][e], *added = &o->v[m][i][e];
                *sum = all->n ? fmaf(*sum, f.m[v], __fmul_rn(*added, f.l[v])) : *added;
                *added = 0.0f;
            }
    all->n++;
}

#endif
