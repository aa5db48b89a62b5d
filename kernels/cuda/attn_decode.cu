/* Attention of a few rows of each sequence: bound by reading the cache. A block takes all query
 * vectors of a KV head (at most 16) and a part of the keys; each of its warps goes through tiles
 * of 16 keys on its own, with the next ones on their way, and what the warps have is joined at
 * the end. Tensor cores do the products: as plain sums of floats they would take longer than the
 * bytes once a group has 4 heads.
 *
 * Nothing is lost to 16-bit queries and weights: each is two numbers, rounded and rest. Eight
 * vectors or fewer fill half of the 16 rows of a product, and their rests the other half, free of
 * charge; more vectors take two products. */
#include "kernels/cuda/attn_tile.cuh"

#include <cuda_runtime_api.h>

#define WARPS   4
#define THREADS (WARPS * KERN_WARP)
#define KEYS    16 /* of a tile */
static_assert(WARPS * KEYS == ATTN_PART_GRAIN, "parts are whole rounds of the warps");

/* Shared memory: queries as fragments; for each warp a ring of tiles as they lie in the cache
 * (16-bit: with the rows' padding), and for quantised caches one as F16. */
template <attn_kind kind, int d, bool few> struct layout {
    using vector = attn_vector<kind, d>;
    static constexpr int raw = KEYS * vector::raw, wide = KEYS * vector::wide;
    static constexpr int queries = d / 16 * KERN_WARP * 16 * (few ? 1 : 2);
    static constexpr int widened = vector::quantised ? 2 * wide : 0;
};

/* Query vectors 16 dims at a time as the fragments of each lane; the rests in rows 8-15 (few) or
 * in fragments of their own behind the others. All reads are on their way before the first is
 * needed. */
template <attn_kind kind, int d, bool few>
static __device__ __forceinline__ void load_queries(const struct attn_params &p,
                                                    const struct attn_work &w, uint4 *fragments)
{
    constexpr int n_fragments = d / 16 * KERN_WARP, n = (n_fragments + THREADS - 1) / THREADS;
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int v[2] = {lane / 4, lane / 4 + 8};
    float2 x[n][4];
#pragma unroll
    for (int r = 0; r < (few ? 1 : 2); r++) {
        const float *q = v[r] < w.n ? attn_query(p, w, v[r]) + lane % 4 * 2 : NULL;
#pragma unroll
        for (int i = 0; i < n; i++)
#pragma unroll
            for (int part = 0; part < 2; part++) {
                const int dim = (i * WARPS + warp) * 16 + part * 8;
                x[i][part * 2 + r] =
                    q && dim < d ? *(const float2 *)(q + dim) : make_float2(0.0f, 0.0f);
            }
    }
#pragma unroll
    for (int i = 0; i < n; i++) {
        const int at = i * THREADS + (int)threadIdx.x;
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
template <int d, bool few>
static __device__ __forceinline__ void
join_warps(const struct attn_params &p, const struct attn_work &w, struct state<d> *st, float *o)
{
    constexpr int queries = few ? 8 : 16, stride = d + 8;
    __shared__ float maxima[WARPS][16], sums[WARPS][16], all_m[16], all_l[16];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    __syncthreads(); /* tiles have been read: o lies in their place */
#pragma unroll
    for (int r = 0; r < (few ? 1 : 2); r++) {
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
    for (int i = threadIdx.x; i < queries * (d / 4); i += THREADS) {
        const int v = i / (d / 4), quad = i % (d / 4);
        float most = -INFINITY, l = 0.0f;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int k = 0; k < WARPS; k++)
            most = fmaxf(most, maxima[k][v]);
        for (int k = 0; k < WARPS; k++) {
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
    attn_end(p, w, queries, o, stride, all_m, all_l);
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

/* Ahead of the wait are read: what describes the step, and keys and values of earlier steps. A step
 * begins with a copy of its description, behind which its first kernel waits for all that was
 * before; no later kernel of the step starts ahead of that one, none writes the description, and
 * its own rows, from first_pos on, are all that it stores in the cache. */
template <attn_kind kind, int d, bool few>
static __global__ void __launch_bounds__(THREADS, 2) decode(struct attn_params p, int stages)
{
    using part = layout<kind, d, few>;
    KERN_SHARED_BYTES(shared);
    uint4 *fragments = (uint4 *)shared;
    const int warp = threadIdx.x / KERN_WARP;
    unsigned char *ring = shared + part::queries + warp * (stages * 2 * part::raw + part::widened);
    uint16_t *wide = (uint16_t *)(ring + stages * 2 * part::raw);
    struct attn_work w;
    struct state<d> st;
    kern_release();
    if (!attn_work_of(p, few ? 8 : 16, WARPS * KEYS, &w)) {
        kern_wait();
        return;
    }
    int first = w.begin + warp * KEYS;
    if (p.part > 0) { /* the same keys for the same warp, wherever the part begins to be seen */
        first = w.begin / ATTN_PART_GRAIN * ATTN_PART_GRAIN + warp * KEYS;
        first += first < w.begin ? WARPS * KEYS : 0;
    }
    const int shift = 31 - __clz(p.a.kv.block_tokens);
    /* A lane holds the block of one of the warp's next 32 tiles. */
    auto look_up = [&](int j) {
        j += (int)threadIdx.x % KERN_WARP * (WARPS * KEYS);
        return j < w.end ? w.blocks[j >> shift] : 0;
    };
    int next = first, n_fetched = 0; /* the key that the next tile to fetch begins with */
    int32_t blocks = look_up(first);
    auto fetch_next = [&](int stage) {
        if (next < w.end) {
            const int32_t block = __shfl_sync(0xffffffffu, blocks, n_fetched);
            unsigned char *to = ring + stage * 2 * part::raw;
            const size_t k_slot = p.a.kv.k_slot, v_slot = p.a.kv.v_slot;
            fetch<kind, d>(w, to, p.a.kv.k + attn_slot(p, w, block, next, k_slot), k_slot, next);
            fetch<kind, d>(w, to + part::raw, p.a.kv.v + attn_slot(p, w, block, next, v_slot),
                           v_slot, next);
            next += WARPS * KEYS;
            if (++n_fetched == KERN_WARP) {
                blocks = look_up(next);
                n_fetched = 0;
            }
        }
        kern_copy_commit();
    };
#pragma unroll 1
    for (int i = 0; i < stages - 1; i++) {
        if (next + KEYS > w.seq.first_pos)
            kern_wait();
        fetch_next(i);
    }
    kern_wait();
    load_queries<kind, d, few>(p, w, fragments);
    start<d>(p, w, &st);
    __syncthreads();
    for (int j = first, stage = 0; j < w.end; j += WARPS * KEYS) {
        const unsigned char *tile = ring + stage * 2 * part::raw;
        const uint16_t *k = (const uint16_t *)tile, *v = (const uint16_t *)(tile + part::raw);
        float s[2][4];
        fetch_next(stage == 0 ? stages - 1 : stage - 1);
        wait_for_tile(stages);
        if (part::vector::quantised) {
            k = wide;
            v = wide + part::wide / 2;
            const int lane = threadIdx.x % KERN_WARP;
#pragma unroll 1
            for (int i = 0; i < 2; i++)
                attn_widen_tile<kind, d>(w, wide + i * (part::wide / 2), tile + i * part::raw, KEYS,
                                         j, lane, KERN_WARP);
            __syncwarp();
        }
        scores_of<kind, d, few>(s, fragments, k);
        weigh<d, few>(p, w, &st, s, 0, j);
        if (!few)
            weigh<d, few>(p, w, &st, s, 1, j);
        add_values<kind, d, few>(&st, s, v);
        __syncwarp(); /* the tile is free */
        stage = stage + 1 == stages ? 0 : stage + 1;
    }
    kern_copy_wait<0>();
    join_warps<d, few>(p, w, &st, (float *)(shared + part::queries));
}

/* As many tiles on their way as leave room for two blocks an SM, or as a smaller card holds. */
template <attn_kind kind, int d, bool few>
static int32_t launch(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    using part = layout<kind, d, few>;
    const dim3 grid(p->n_tiles * p->n_splits, p->a.n_head_kv, n_seqs);
    int32_t error = 0;
    for (int stages = d == 256 ? 2 : d == 128 ? 3 : 4; stages >= 2; stages--) {
        const size_t own = (size_t)stages * 2 * part::raw + part::widened;
        error = kern_launch(decode<kind, d, few>, grid, dim3(THREADS), part::queries + WARPS * own,
                            stream, *p, stages);
        if (error != cudaErrorInvalidValue)
            break;
    }
    return error;
}

template <attn_kind kind, bool few>
static int32_t launch_kind(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    switch (p->a.head_dim) {
    case 64:
        return launch<kind, 64, few>(p, n_seqs, stream);
    case 96:
        return launch<kind, 96, few>(p, n_seqs, stream);
    case 128:
        return launch<kind, 128, few>(p, n_seqs, stream);
    default:
        return launch<kind, 256, few>(p, n_seqs, stream);
    }
}

template <bool few>
static int32_t launch_type(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    switch (p->a.kv.type) {
    case INFER_DTYPE_BF16:
        return launch_kind<ATTN_BF16, few>(p, n_seqs, stream);
    case INFER_DTYPE_F16:
        return launch_kind<ATTN_F16, few>(p, n_seqs, stream);
    case INFER_DTYPE_F8_E4M3:
        return launch_kind<ATTN_F8, few>(p, n_seqs, stream);
    case INFER_DTYPE_Q8_0:
        return launch_kind<ATTN_Q8, few>(p, n_seqs, stream);
    default:
        return launch_kind<ATTN_Q4, few>(p, n_seqs, stream);
    }
}

int32_t kern_attn_decode_few(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    return launch_type<true>(p, n_seqs, stream);
}

int32_t kern_attn_decode(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    return launch_type<false>(p, n_seqs, stream);
}
