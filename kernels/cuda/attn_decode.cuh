/* Attention of a few rows of each sequence: bound by reading the cache. A block takes all query
 * vectors of a KV head (at most 16) and a part of the keys; each of its warps goes through tiles
 * of 16 keys on its own, with the next ones on their way, and what the warps have is joined at
 * the end. Tensor cores do the products: as plain sums of floats they would take longer than the
 * bytes once a group has 4 heads.
 *
 * Nothing is lost to 16-bit queries and weights: each is two numbers, rounded and rest. Eight
 * vectors or fewer fill half of the 16 rows of a product, and their rests the other half, free of
 * charge; more vectors take two products.
 *
 * For the kernel of its own (attn_decode.cu) and for the one of a whole step (mega.cu), whose
 * blocks have more threads: those beyond ATTN_THREADS help to join. */
#ifndef KERNELS_CUDA_ATTN_DECODE_CUH
#define KERNELS_CUDA_ATTN_DECODE_CUH

#include "kernels/cuda/attn_front.cuh"
#include "kernels/cuda/attn_tile.cuh"

#define ATTN_WARPS   4
#define ATTN_THREADS (ATTN_WARPS * KERN_WARP)
#define ATTN_KEYS    16 /* of a tile */

static_assert(ATTN_WARPS * ATTN_KEYS == ATTN_PART_GRAIN, "parts are whole rounds of the warps");

/* Shared memory: queries as fragments; for each warp a ring of tiles as they lie in the cache
 * (16-bit: with the rows' padding), and for quantised caches one as F16. */
template <attn_kind kind, int d, bool few> struct layout {
    using vector = attn_vector<kind, d>;
    static constexpr int raw = ATTN_KEYS * vector::raw, wide = ATTN_KEYS * vector::wide;
    static constexpr int queries = d / 16 * KERN_WARP * 16 * (few ? 1 : 2);
    static constexpr int widened = vector::quantised ? 2 * wide : 0;
};

/* Tiles of a warp that are on their way, with the one that it reads: as many as leave room for two
 * blocks an SM. */
static constexpr __host__ __device__ int attn_stages(int d)
{
    return d == 256 ? 2 : d == 128 ? 3 : 4;
}

template <attn_kind kind, int d, bool few> static size_t attn_shared(int stages)
{
    using part = layout<kind, d, few>;
    return part::queries + ATTN_WARPS * ((size_t)stages * 2 * part::raw + part::widened);
}

/* Query vectors 16 dims at a time as the fragments of each lane; the rests in rows 8-15 (few) or
 * in fragments of their own behind the others. All reads are on their way before the first is
 * needed. `near`: they lie in shared memory, or NULL. */
template <attn_kind kind, int d, bool few>
static __device__ __forceinline__ void load_queries(const struct attn_params &p,
                                                    const struct attn_work &w, const float *near,
                                                    uint4 *fragments)
{
    constexpr int n_fragments = d / 16 * KERN_WARP,
                  n = (n_fragments + ATTN_THREADS - 1) / ATTN_THREADS;
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int v[2] = {lane / 4, lane / 4 + 8};
    float2 x[n][4];
#pragma unroll
    for (int r = 0; r < (few ? 1 : 2); r++) {
        const float *q = v[r] < w.n ? (near ? near + v[r] * d : attn_query(p, w, v[r])) : NULL;
        q = q ? q + lane % 4 * 2 : NULL;
#pragma unroll
        for (int i = 0; i < n; i++)
#pragma unroll
            for (int part = 0; part < 2; part++) {
                const int dim = (i * ATTN_WARPS + warp) * 16 + part * 8;
                x[i][part * 2 + r] =
                    q && dim < d ? *(const float2 *)(q + dim) : make_float2(0.0f, 0.0f);
            }
    }
#pragma unroll
    for (int i = 0; i < n; i++) {
        const int at = i * ATTN_THREADS + (int)threadIdx.x;
        uint32_t hi[4], lo[4];
        if (at >= n_fragments)
            break;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float2 y = x[i][few ? k / 2 * 2 : k];
            hi[k] = attn_pack<kind>(y.x * p.score_scale, y.y * p.score_scale);
            lo[k] = attn_pack_rest<kind>(hi[k], y.x * p.score_scale, y.y * p.score_scale);
        }
        if (few) {
            fragments[at] = make_uint4(hi[0], lo[0], hi[2], lo[2]);
        } else {
            fragments[at] = make_uint4(hi[0], hi[1], hi[2], hi[3]);
            fragments[n_fragments + at] = make_uint4(lo[0], lo[1], lo[2], lo[3]);
        }
    }
}

/* Starts the copies of the 16 slots from key j on. What no vector sees becomes zero, but in
 * quantised tiles, where attn_widen_tile() sees to it. */
template <attn_kind kind, int d>
static __device__ __forceinline__ void fetch(const struct attn_work &w, unsigned char *tile,
                                             const uint8_t *src, size_t slot, int j)
{
    const int lane = threadIdx.x % KERN_WARP;
    if constexpr (attn_vector<kind, d>::quantised) {
        for (int i = lane; i < attn_vector<kind, d>::bytes; i += KERN_WARP)
            kern_copy_async(tile + i * 16, src + i * 16, 16);
    } else {
        constexpr int units = d / 8;                  /* of a row */
        constexpr bool even = KERN_WARP % units == 0; /* whole rows at a time */
        const int row = even ? lane / units : 0;
        unsigned char *to = tile + row * (d + 8) * 2 + lane % units * 16;
        src += row * slot + lane % units * 16;
#pragma unroll
        for (int i = 0; i < d / 16; i++) {
            const int unit = i * KERN_WARP + lane;
            const int key = even ? i * (KERN_WARP / units) + row : unit / units;
            const int bytes = j + key >= w.seen && j + key < w.end ? 16 : 0;
            if (even) {
                kern_copy_async(to, src, bytes);
                to += KERN_WARP / units * (d + 8) * 2;
                src += KERN_WARP / units * slot;
            } else {
                const int at = (unit % units - lane % units) * 16;
                kern_copy_async(to + key * (d + 8) * 2 + at, src + key * slot + at, bytes);
            }
        }
    }
}

/* The softmax so far of a lane's vectors: g = lane / 4 and, unless few, g + 8. o holds pairs of
 * columns as a product leaves them. */
template <int d> struct state {
    float m[2], l[2]; /* l: of this lane's keys */
    float o[d / 8][4];
    int low[2], pos[2]; /* keys that each sees */
};

template <attn_kind kind, int d, bool few>
static __device__ __forceinline__ void scores_of(float s[2][4], const uint4 *fragments,
                                                 const uint16_t *k)
{
    const int lane = threadIdx.x % KERN_WARP;
#pragma unroll
    for (int i = 0; i < 4; i++)
        s[0][i] = s[1][i] = 0.0f;
#pragma unroll
    for (int step = 0; step < d / 16; step++) {
        uint32_t b[4];
        attn_keys<d>(b, k, step * 16);
#pragma unroll
        for (int part = 0; part < (few ? 1 : 2); part++) {
            const uint4 q = fragments[(part * (d / 16) + step) * KERN_WARP + lane];
            const uint32_t a[4] = {q.x, q.y, q.z, q.w};
            attn_mma<kind>(s[0], a, b);
            attn_mma<kind>(s[1], a, b + 2);
        }
    }
}

/* Scores become weights in place; o and l are brought to the new maximum. r: the lane's first or
 * second vector. */
template <int d, bool few>
static __device__ __forceinline__ void weigh(const struct attn_params &p, const struct attn_work &w,
                                             struct state<d> *st, float s[2][4], int r, int j)
{
    float most = st->m[r];
    if (few) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[i / 2][i % 2] += s[i / 2][2 + i % 2];
    }
    if (p.a.softcap > 0.0f) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[i / 2][r * 2 + i % 2] = attn_score(p, s[i / 2][r * 2 + i % 2]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int key = j + i / 2 * 8 + threadIdx.x % 4 * 2 + i % 2;
        float *x = &s[i / 2][r * 2 + i % 2];
        if (key < st->low[r] || key > st->pos[r] || key >= w.end)
            *x = -INFINITY;
        most = fmaxf(most, *x);
    }
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
    const float base = attn_base(most), shrink = attn_exp2(st->m[r] - base);
    st->m[r] = most;
    st->l[r] *= shrink;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float *x = &s[i / 2][r * 2 + i % 2];
        *x = attn_exp2(*x - base);
        st->l[r] += *x;
    }
#pragma unroll
    for (int i = 0; i < d / 8; i++)
#pragma unroll
        for (int k = 0; k < (few ? 4 : 2); k++)
            st->o[i][r * 2 + k] *= shrink;
}

template <attn_kind kind, int d, bool few>
static __device__ __forceinline__ void add_values(struct state<d> *st, const float s[2][4],
                                                  const uint16_t *v)
{
    uint32_t hi[4], lo[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float *x = &s[i / 2][few ? 0 : i % 2 * 2];
        hi[i] = attn_pack<kind>(x[0], x[1]);
        lo[i] = attn_pack_rest<kind>(hi[i], x[0], x[1]);
        if (few && i % 2)
            hi[i] = lo[i];
    }
#pragma unroll
    for (int step = 0; step < d / 16; step++) {
        uint32_t b[4];
        attn_values<d>(b, v, step * 16);
        attn_mma<kind>(st->o[step * 2], hi, b);
        attn_mma<kind>(st->o[step * 2 + 1], hi, b + 2);
        if (!few) {
            attn_mma<kind>(st->o[step * 2], lo, b);
            attn_mma<kind>(st->o[step * 2 + 1], lo, b + 2);
        }
    }
}

/* What the warps have, one behind the other in `o`, joined in the place of the first. */
template <int d, bool few, int threads>
static __device__ __forceinline__ void
join_warps(const struct attn_params &p, const struct attn_work &w, struct state<d> *st, float *o)
{
    constexpr int queries = few ? 8 : 16, stride = d + 8;
    KERN_SHARED(float, maxima, [ATTN_WARPS][16]);
    KERN_SHARED(float, sums, [ATTN_WARPS][16]);
    KERN_SHARED(float, all_m, [16]);
    KERN_SHARED(float, all_l, [16]);
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    __syncthreads(); /* tiles have been read: o lies in their place */
#pragma unroll
    for (int r = 0; r < (few ? 1 : 2); r++) {
        if (threads > ATTN_THREADS && warp >= ATTN_WARPS)
            break;
        float l = st->l[r];
        l += __shfl_xor_sync(0xffffffffu, l, 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        const int v = lane / 4 + r * 8;
        if (lane % 4 == 0) {
            maxima[warp][v] = st->m[r];
            sums[warp][v] = l;
        }
        float *to = o + (warp * queries + v) * stride + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < d / 8; i++) {
            float2 x = make_float2(st->o[i][r * 2], st->o[i][r * 2 + 1]);
            if (few) {
                x.x += st->o[i][2];
                x.y += st->o[i][3];
            }
            *(float2 *)(to + i * 8) = x;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < queries * (d / 4); i += threads) {
        const int v = i / (d / 4), quad = i % (d / 4);
        float most = -INFINITY, l = 0.0f;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int k = 0; k < ATTN_WARPS; k++)
            most = fmaxf(most, maxima[k][v]);
        for (int k = 0; k < ATTN_WARPS; k++) {
            const float f = attn_exp2(maxima[k][v] - attn_base(most));
            const float4 x = *(const float4 *)(o + (k * queries + v) * stride + quad * 4);
            l += f * sums[k][v];
            sum.x += f * x.x;
            sum.y += f * x.y;
            sum.z += f * x.z;
            sum.w += f * x.w;
        }
        *(float4 *)(o + v * stride + quad * 4) = sum;
        if (quad == 0) {
            all_m[v] = most;
            all_l[v] = l;
        }
    }
    __syncthreads();
    attn_end<!few>(p, w, queries, o, stride, all_m, all_l);
}

template <int d>
static __device__ __forceinline__ void start(const struct attn_params &p, const struct attn_work &w,
                                             struct state<d> *st)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int v = threadIdx.x % KERN_WARP / 4 + r * 8;
        st->m[r] = -INFINITY;
        st->l[r] = 0.0f;
        st->pos[r] = v < w.n ? attn_pos(p, w, v) : -1;
        st->low[r] = v < w.n ? attn_first_seen(p, st->pos[r]) : 0;
    }
#pragma unroll
    for (int i = 0; i < d / 8; i++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            st->o[i][k] = 0.0f;
}

/* All tiles but the last `stages` - 1 have arrived. */
static __device__ __forceinline__ void wait_for_tile(int stages)
{
    if (stages == 4)
        kern_copy_wait<3>();
    else if (stages == 3)
        kern_copy_wait<2>();
    else
        kern_copy_wait<1>();
    __syncwarp();
}

/* A warp's tiles: those on their way and the next one. A lane holds the block of one of the next
 * 32. */
struct attn_tiles {
    unsigned char *ring;
    int first, next, n_fetched, shift, stages; /* next: the key that it begins with */
    int32_t blocks;
};

static __device__ __forceinline__ int32_t attn_look_up(const struct attn_work &w, int shift, int j)
{
    j += (int)threadIdx.x % KERN_WARP * (ATTN_WARPS * ATTN_KEYS);
    return j < w.end ? w.blocks[j >> shift] : 0;
}

template <attn_kind kind, int d>
static __device__ __forceinline__ void
fetch_next(const struct attn_params &p, const struct attn_work &w, struct attn_tiles &t, int stage)
{
    constexpr int raw = ATTN_KEYS * attn_vector<kind, d>::raw;
    if (t.next < w.end) {
        const int32_t block = __shfl_sync(0xffffffffu, t.blocks, t.n_fetched);
        unsigned char *to = t.ring + stage * 2 * raw;
        const size_t k_slot = p.a.kv.k_slot, v_slot = p.a.kv.v_slot;
        fetch<kind, d>(w, to, p.a.kv.k + attn_slot(p, w, block, t.next, k_slot), k_slot, t.next);
        fetch<kind, d>(w, to + raw, p.a.kv.v + attn_slot(p, w, block, t.next, v_slot), v_slot,
                       t.next);
        t.next += ATTN_WARPS * ATTN_KEYS;
        if (++t.n_fetched == KERN_WARP) {
            t.blocks = attn_look_up(w, t.shift, t.next);
            t.n_fetched = 0;
        }
    }
    kern_copy_commit();
}

/* By the first ATTN_WARPS warps: asks for tiles that hold keys of earlier steps alone; returns how
 * many. */
template <attn_kind kind, int d, bool few>
static __device__ __forceinline__ int attn_begin(const struct attn_params &p,
                                                 const struct attn_work &w, unsigned char *shared,
                                                 int stages, struct attn_tiles &t)
{
    using part = layout<kind, d, few>;
    const int warp = threadIdx.x / KERN_WARP;
    t.ring = shared + part::queries + warp * (stages * 2 * part::raw + part::widened);
    t.first = w.begin + warp * ATTN_KEYS;
    if (!few &&
        p.part > 0) { /* the same keys for the same warp, wherever the part begins to be seen */
        t.first = w.begin / ATTN_PART_GRAIN * ATTN_PART_GRAIN + warp * ATTN_KEYS;
        t.first += t.first < w.begin ? ATTN_WARPS * ATTN_KEYS : 0;
    }
    t.next = t.first;
    t.shift = 31 - __clz(p.a.kv.block_tokens);
    t.stages = stages;
    t.n_fetched = 0;
    t.blocks = attn_look_up(w, t.shift, t.first);
    int i = 0;
#pragma unroll 1
    for (; i < stages - 1 && t.next + ATTN_KEYS <= w.seq.first_pos; i++)
        fetch_next<kind, d>(p, w, t, i);
    return i;
}

template <attn_kind kind, int d, bool few>
static __device__ __forceinline__ void
attn_tile(const struct attn_params &p, const struct attn_work &w, struct state<d> *st,
          const uint4 *fragments, const struct attn_tiles &t, int stage, int j)
{
    using part = layout<kind, d, few>;
    const unsigned char *tile = t.ring + stage * 2 * part::raw;
    const uint16_t *k = (const uint16_t *)tile, *v = (const uint16_t *)(tile + part::raw);
    float s[2][4];
    if (part::vector::quantised) {
        uint16_t *wide = (uint16_t *)(t.ring + t.stages * 2 * part::raw);
        k = wide;
        v = wide + part::wide / 2;
        const int lane = threadIdx.x % KERN_WARP;
#pragma unroll 1
        for (int i = 0; i < 2; i++)
            attn_widen_tile<kind, d>(w, wide + i * (part::wide / 2), tile + i * part::raw,
                                     ATTN_KEYS, j, lane, KERN_WARP);
        __syncwarp();
    }
    scores_of<kind, d, few>(s, fragments, k);
    weigh<d, few>(p, w, st, s, 0, j);
    if (!few)
        weigh<d, few>(p, w, st, s, 1, j);
    add_values<kind, d, few>(st, s, v);
    __syncwarp(); /* the tile is free */
}

/* Shared memory that no tile is on its way to ahead of attn_finish(): where the front works. */
template <attn_kind kind, int d, bool few>
static __device__ __forceinline__ float *attn_free(unsigned char *shared, int stages)
{
    using part = layout<kind, d, few>;
    const int at = part::vector::quantised ? stages : stages - 1;
    static_assert(2 * part::wide >= ATTN_FRONT_FLOATS(d) * (int)sizeof(float));
    return (float *)(shared + part::queries + at * 2 * part::raw);
}

/* All threads of the block, when what was before is done; `fetched` tiles are on their way. */
template <attn_kind kind, int d, bool few, int threads>
static __device__ __forceinline__ void attn_finish(const struct attn_params &p,
                                                   const struct attn_work &w, unsigned char *shared,
                                                   struct attn_tiles &t, int fetched)
{
    using part = layout<kind, d, few>;
    uint4 *fragments = (uint4 *)shared;
    const bool mine = threads == ATTN_THREADS || threadIdx.x < ATTN_THREADS;
    const float *near = NULL;
    struct state<d> st;
    if constexpr (few) {
        if (p.front) {
            float *x = attn_free<kind, d, few>(shared, t.stages);
            attn_front<d>(p, w, x);
            near = x;
        }
    }
    if (mine) {
#pragma unroll 1
        for (int i = fetched; i < t.stages - 1; i++)
            fetch_next<kind, d>(p, w, t, i);
        load_queries<kind, d, few>(p, w, near, fragments);
        start<d>(p, w, &st);
    }
    __syncthreads();
    if (mine) {
        for (int j = t.first, stage = 0; j < w.end; j += ATTN_WARPS * ATTN_KEYS) {
            fetch_next<kind, d>(p, w, t, stage == 0 ? t.stages - 1 : stage - 1);
            wait_for_tile(t.stages);
            attn_tile<kind, d, few>(p, w, &st, fragments, t, stage, j);
            stage = stage + 1 == t.stages ? 0 : stage + 1;
        }
        kern_copy_wait<0>();
    }
    join_warps<d, few, threads>(p, w, &st, (float *)(shared + part::queries));
}

#endif
