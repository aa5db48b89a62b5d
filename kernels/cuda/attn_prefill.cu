/* Attention of many rows (FlashAttention-2; Dao, arXiv:2307.08691): a block takes 128 or 64 query
 * vectors of a KV head and goes through the keys they see in tiles of 64; while tensor cores work
 * on one, the next is copied. Queries, weights and quantised numbers are rounded to the 16-bit
 * type; scores and sums are floats.
 *
 * Of 128 vectors four warps take 32 each, so that what is read from shared memory serves two
 * products, and two such blocks fit an SM; heads of 256 leave registers for 16 vectors a warp. Of
 * 64 vectors each of four warps takes 16: more reads a product, but twice the blocks where few
 * rows would leave SMs idle.
 *
 * What is done once a block is kept in short loops: unrolled over the accumulators it would be
 * most of the code, and fetching that takes longer than a tile. */
#include "kernels/cuda/attn_tile.cuh"

#define KEYS   64 /* of a tile */
#define STAGES 2

/* Shared memory: two tiles of keys and values as they lie in the cache (16-bit: with the rows'
 * padding), for quantised caches one as F16, and the queries as fragments. The outputs take the
 * place of them all at the end. */
template <attn_kind kind, int d, bool small> struct layout {
    using vector = attn_vector<kind, d>;
    static constexpr int queries = small ? 64 : 128;
    static constexpr int rows = d <= 128 && !small ? 2 : 1;              /* of 16 vectors, a warp */
    static constexpr int sub = d == 64 || (small && d <= 128) ? 64 : 32; /* keys at once */
    static constexpr int threads = queries / 16 / rows * KERN_WARP;
    static constexpr int raw = KEYS * vector::raw, wide = KEYS * vector::wide;
    static constexpr int ring = STAGES * 2 * raw;
    static constexpr int tiles = ring + (vector::quantised ? 2 * wide : 0);
    static constexpr size_t bytes = tiles + queries * d * 2;
    static constexpr int o_stride = d + 8; /* floats of an output in shared memory */
    static_assert(bytes >= (size_t)queries * o_stride * 4, "outputs fit");
};

/* What is to be known of a vector of the tile: the keys it sees, its row and head. */
struct place {
    int low, high, row, head;
};

static __device__ __forceinline__ void find_places(const struct attn_params &p,
                                                   const struct attn_work &w, struct place *places,
                                                   int queries)
{
    for (int v = threadIdx.x; v < queries; v += blockDim.x) {
        struct place at = {0, -1, 0, 0};
        if (v < w.n) {
            at.high = attn_pos(p, w, v);
            at.low = attn_first_seen(p, at.high);
            at.row = at.high - w.seq.first_pos + w.seq.row;
            at.head = attn_head(p, w, v);
        }
        places[v] = at;
    }
}

/* A lane's share: of each 16 vectors g = lane / 4 and g + 8. */
template <int d, int rows> struct state {
    float m[rows][2], l[rows][2]; /* l: of this lane's keys */
    float o[rows][d / 8][4];
    int all_from, all_to; /* keys that every vector of the warp sees, */
    int any_from, any_to; /* and any: to is one behind */
};

template <int d, int rows>
static __device__ __forceinline__ void start(const struct attn_params &p, const struct attn_work &w,
                                             const struct place *places, struct state<d, rows> *st)
{
    const int v = threadIdx.x / KERN_WARP * 16 * rows, n = min(16 * rows, w.n - v);
    st->all_from = st->all_to = st->any_from = st->any_to = 0;
    if (n > 0) {
        const int first = places[v].high, last = places[v + n - 1].high;
        st->any_from = places[v].low;
        st->any_to = last + 1;
        st->all_from = attn_first_seen(p, last);
        st->all_to = first + 1;
    }
#pragma unroll
    for (int row = 0; row < rows; row++) {
        st->m[row][0] = st->m[row][1] = -INFINITY;
        st->l[row][0] = st->l[row][1] = 0.0f;
#pragma unroll
        for (int i = 0; i < d / 8; i++)
#pragma unroll
            for (int k = 0; k < 4; k++)
                st->o[row][i][k] = 0.0f;
    }
}

/* The warp's own: 16 dims of 16 vectors a fragment, 16 bytes a lane. */
template <attn_kind kind, int d, int rows>
static __device__ __forceinline__ void load_queries(const struct attn_params &p,
                                                    const struct attn_work &w,
                                                    const struct place *places, uint4 *fragments)
{
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
#pragma unroll 1
    for (int row = 0; row < rows; row++) {
        const int v = (warp * rows + row) * 16 + lane / 4;
        const float *q[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const struct place at = places[v + r * 8];
            q[r] = v + r * 8 < w.n
                       ? p.a.q + (size_t)at.row * p.a.q_stride + (size_t)at.head * d + lane % 4 * 2
                       : NULL;
        }
#pragma unroll 4
        for (int step = 0; step < d / 16; step++) {
            float2 x[4];
            uint32_t a[4];
#pragma unroll
            for (int k = 0; k < 4; k++)
                x[k] = q[k % 2] ? *(const float2 *)(q[k % 2] + step * 16 + k / 2 * 8)
                                : make_float2(0.0f, 0.0f);
#pragma unroll
            for (int k = 0; k < 4; k++)
                a[k] = attn_pack<kind>(x[k].x * p.score_scale, x[k].y * p.score_scale);
            fragments[(row * (d / 16) + step) * KERN_WARP + lane] =
                make_uint4(a[0], a[1], a[2], a[3]);
        }
    }
}

/* Copies of tiles, whose blocks are looked up one tile ahead. Of 16-bit vectors the threads take
 * `at_once` at a time, 16 bytes each; the blocks of 16 are the same for all threads. */
template <attn_kind kind, int d, int threads> struct plain_ahead {
    using vector = attn_vector<kind, d>;
    static constexpr int units = d / 8; /* of a vector */
    static constexpr int at_once = units == 12 ? 8 : threads / units;
    static_assert(at_once <= 16 && 16 % at_once == 0 && at_once * units <= threads, "steps");
    int32_t block[KEYS / 16];

    __device__ __forceinline__ void look_up(const struct attn_work &w, int j, int shift)
    {
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++)
            block[i] = j + i * 16 < w.end ? w.blocks[(j + i * 16) >> shift] : 0;
    }

    /* Rows that no vector of the block sees become zero. */
    __device__ __forceinline__ void fetch(const struct attn_params &p, const struct attn_work &w,
                                          unsigned char *tile, int raw, int j) const
    {
        const int row = (int)threadIdx.x / units, at = (int)threadIdx.x % units * 16;
        const int tokens = p.a.kv.block_tokens, first = w.head_kv * tokens + row;
        const uint8_t *k = p.a.kv.k + (size_t)first * p.a.kv.k_slot + at;
        const uint8_t *v = p.a.kv.v + (size_t)first * p.a.kv.v_slot + at;
        const unsigned k_slot = (unsigned)p.a.kv.k_slot, v_slot = (unsigned)p.a.kv.v_slot;
        tile += row * vector::wide + at;
        if (row >= at_once)
            return;
#pragma unroll
        for (int i = 0; i < KEYS / at_once; i++) {
            const size_t from = (size_t)block[i * at_once / 16] * p.a.kv.block_stride;
            const unsigned slot = (unsigned)((j + i * at_once) & (tokens - 1));
            const int key = j + i * at_once + row;
            const int bytes = key >= w.seen && key < w.end ? 16 : 0;
            unsigned char *to = tile + i * at_once * vector::wide;
            kern_copy_async(to, k + from + slot * k_slot, bytes);
            kern_copy_async(to + raw, v + from + slot * v_slot, bytes);
        }
    }
};

/* Quantised vectors lie behind each other without a gap, 16 in a block at least;
 * attn_widen_tile() sees to what is not seen. */
template <attn_kind kind, int d, int threads> struct packed_ahead {
    using vector = attn_vector<kind, d>;
    static constexpr int units = vector::bytes * KEYS / 16, n = (units + threads - 1) / threads;
    int32_t block[n];

    /* The first of the 16 keys of copy i, from the first of the tile. */
    static __device__ __forceinline__ int key_of(int i)
    {
        return (i * threads + (int)threadIdx.x) / vector::bytes * 16;
    }

    __device__ __forceinline__ void look_up(const struct attn_work &w, int j, int shift)
    {
#pragma unroll
        for (int i = 0; i < n; i++)
            block[i] = j + key_of(i) < w.end ? w.blocks[(j + key_of(i)) >> shift] : -1;
    }

    __device__ __forceinline__ void fetch(const struct attn_params &p, const struct attn_work &w,
                                          unsigned char *tile, int raw, int j) const
    {
#pragma unroll
        for (int i = 0; i < n; i++) {
            const int unit = i * threads + (int)threadIdx.x, key = j + key_of(i);
            if (unit >= units || block[i] < 0)
                break;
            const size_t from = attn_slot(p, w, block[i], key, vector::bytes);
            const int at = unit % vector::bytes * 16;
            kern_copy_async(tile + unit * 16, p.a.kv.k + from + at, 16);
            kern_copy_async(tile + raw + unit * 16, p.a.kv.v + from + at, 16);
        }
    }
};

template <bool quantised, attn_kind kind, int d, int threads> struct ahead_of {
    using type = plain_ahead<kind, d, threads>;
};
template <attn_kind kind, int d, int threads> struct ahead_of<true, kind, d, threads> {
    using type = packed_ahead<kind, d, threads>;
};

/* q: the warp's fragments; k: `sub` keys. */
template <attn_kind kind, int d, int rows, int sub>
static __device__ __forceinline__ void scores_of(float s[rows][sub / 8][4], const uint4 *q,
                                                 const uint16_t *k)
{
#pragma unroll
    for (int i = 0; i < rows * sub / 2; i++)
        s[i / (sub / 2)][i / 4 % (sub / 8)][i % 4] = 0.0f;
#pragma unroll
    for (int step = 0; step < d / 16; step++) {
        uint32_t a[rows][4];
#pragma unroll
        for (int row = 0; row < rows; row++) {
            const uint4 x = q[(row * (d / 16) + step) * KERN_WARP + threadIdx.x % KERN_WARP];
            a[row][0] = x.x;
            a[row][1] = x.y;
            a[row][2] = x.z;
            a[row][3] = x.w;
        }
#pragma unroll
        for (int i = 0; i < sub / 16; i++) {
            uint32_t b[4];
            attn_keys<d>(b, k + i * 16 * (d + 8), step * 16);
#pragma unroll
            for (int row = 0; row < rows; row++) {
                attn_mma<kind>(s[row][i * 2], a[row], b);
                attn_mma<kind>(s[row][i * 2 + 1], a[row], b + 2);
            }
        }
    }
}

/* Hides from two vectors, v and v + 8, what they do not see of the keys from j on. */
template <int sub>
static __device__ __forceinline__ void hide(const struct place *places, float s[sub / 8][4], int v,
                                            int j)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int low = places[v + r * 8].low, high = places[v + r * 8].high;
#pragma unroll
        for (int i = 0; i < sub / 4; i++) {
            const int key = j + i / 2 * 8 + threadIdx.x % 4 * 2 + i % 2;
            if (key < low || key > high)
                s[i / 2][r * 2 + i % 2] = -INFINITY;
        }
    }
}

/* As attn_score(), short: its error is a small part of what rounding the products' factors does. */
static __device__ __forceinline__ float cap(const struct attn_params &p, float s)
{
    const float e = attn_exp2(2.0f * ATTN_LOG2E * s);
    return ATTN_LOG2E * p.a.softcap * (1.0f - __fdividef(2.0f, e + 1.0f));
}

template <attn_kind kind, int d, int rows, int sub>
static __device__ __forceinline__ void
add_values(float o[rows][d / 8][4], const float s[rows][sub / 8][4], const uint16_t *v)
{
#pragma unroll
    for (int i = 0; i < sub / 16; i++) {
        uint32_t a[rows][4];
#pragma unroll
        for (int k = 0; k < rows * 4; k++) {
            const float *x = &s[k / 4][i * 2 + k % 4 / 2][k % 2 * 2];
            a[k / 4][k % 4] = attn_pack<kind>(x[0], x[1]);
        }
#pragma unroll
        for (int step = 0; step < d / 16; step++) {
            uint32_t b[4];
            attn_values<d>(b, v + i * 16 * (d + 8), step * 16);
#pragma unroll
            for (int row = 0; row < rows; row++) {
                attn_mma<kind>(o[row][step * 2], a[row], b);
                attn_mma<kind>(o[row][step * 2 + 1], a[row], b + 2);
            }
        }
    }
}

/* Through shared memory, where the warp has a part of its own: whole rows go out. */
template <int d, int rows>
static __device__ __forceinline__ void store(const struct attn_params &p, const struct attn_work &w,
                                             const struct place *places, float *shared,
                                             const struct state<d, rows> &st)
{
    constexpr int stride = d + 8;
    const int lane = threadIdx.x % KERN_WARP, first = threadIdx.x / KERN_WARP * rows * 16;
    shared += first * stride;
#pragma unroll
    for (int k = 0; k < rows * 2; k++) {
        const int v = k / 2 * 16 + lane / 4 + k % 2 * 8;
        float l = st.l[k / 2][k % 2];
        l += __shfl_xor_sync(0xffffffffu, l, 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        const float norm = attn_norm(p, places[first + v].head, st.m[k / 2][k % 2], l);
#pragma unroll
        for (int i = 0; i < d / 8; i++) {
            const float *o = &st.o[k / 2][i][k % 2 * 2];
            *(float2 *)(shared + v * stride + i * 8 + lane % 4 * 2) =
                make_float2(o[0] * norm, o[1] * norm);
        }
    }
    __syncwarp();
    const int n = min(rows * 16, w.n - first);
#pragma unroll 2
    for (int i = lane; i < n * (d / 4); i += KERN_WARP) {
        const int v = i / (d / 4), at = i % (d / 4) * 4;
        const float4 x = *(const float4 *)(shared + v * stride + at);
        const float y[4] = {x.x, x.y, x.z, x.w};
        attn_store_at(p, places[first + v].row, places[first + v].head, at, 4, y);
    }
}

/* Takes the tile from key j on into the softmax of a warp. */
template <attn_kind kind, int d, bool small>
static __device__ __forceinline__ void take(const struct attn_params &p, const struct place *places,
                                            struct state<d, layout<kind, d, small>::rows> *st,
                                            const uint4 *q, const uint16_t *k, const uint16_t *v,
                                            int j)
{
    constexpr int rows = layout<kind, d, small>::rows, sub = layout<kind, d, small>::sub;
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
#pragma unroll 1
    for (int at = 0; at < KEYS; at += sub) {
        const int from = j + at, to = from + sub;
        float s[rows][sub / 8][4];
        if (from >= st->any_to || to <= st->any_from)
            continue;
        scores_of<kind, d, rows, sub>(s, q, k + at * (d + 8));
        if (p.a.softcap > 0.0f) {
#pragma unroll
            for (int i = 0; i < rows * sub / 2; i++) {
                float *x = &s[i / (sub / 2)][i / 4 % (sub / 8)][i % 4];
                *x = cap(p, *x);
            }
        }
        const bool whole = from >= st->all_from && to <= st->all_to;
#pragma unroll
        for (int row = 0; row < rows; row++) {
            if (!whole)
                hide<sub>(places, s[row], (warp * rows + row) * 16 + lane / 4, from);
            attn_weigh<d, sub>(st->m[row], st->l[row], st->o[row], s[row]);
        }
        add_values<kind, d, rows, sub>(st->o, s, v + at * (d + 8));
    }
}

template <attn_kind kind, int d, bool small>
static __global__ void __launch_bounds__(layout<kind, d, small>::threads)
    prefill(struct attn_params p)
{
    using part = layout<kind, d, small>;
    constexpr bool quantised = part::vector::quantised;
    KERN_SHARED_BYTES(shared);
    __shared__ struct place places[part::queries];
    uint4 *q = (uint4 *)(shared + part::tiles) +
               threadIdx.x / KERN_WARP * part::rows * (d / 16) * KERN_WARP;
    struct attn_work w;
    struct state<d, part::rows> st;
    typename ahead_of<quantised, kind, d, part::threads>::type next;
    kern_release();
    w.split = 0;
    w.head_kv = (int32_t)blockIdx.x;
    /* The longest tiles of all heads and sequences first. */
    if (!attn_work_at(p, part::queries, KEYS, p.n_tiles - 1 - (int32_t)blockIdx.z,
                      (int32_t)blockIdx.y, &w)) {
        kern_wait();
        return;
    }
    const int shift = 31 - __clz(p.a.kv.block_tokens);
    next.look_up(w, w.begin, shift);
    kern_wait(); /* what a step uploads, no kernel writes (see attn_decode.cu) */
    next.fetch(p, w, shared, part::raw, w.begin);
    kern_copy_commit();
    next.look_up(w, w.begin + KEYS, shift);
    find_places(p, w, places, part::queries);
    __syncthreads();
    load_queries<kind, d, part::rows>(p, w, places, q);
    start<d, part::rows>(p, w, places, &st);
    for (int j = w.begin, stage = 0; j < w.end; j += KEYS, stage ^= 1) {
        const unsigned char *tile = shared + stage * 2 * part::raw;
        const uint16_t *k = (const uint16_t *)tile, *v = (const uint16_t *)(tile + part::raw);
        kern_copy_wait<0>();
        __syncthreads(); /* this tile is there, and the one before has been read */
        if (j + KEYS < w.end) {
            next.fetch(p, w, shared + (stage ^ 1) * 2 * part::raw, part::raw, j + KEYS);
            next.look_up(w, j + 2 * KEYS, shift);
        }
        kern_copy_commit();
        if (quantised) {
            uint16_t *wide = (uint16_t *)(shared + part::ring);
#pragma unroll 1
            for (int i = 0; i < 2; i++)
                attn_widen_tile<kind, d>(w, wide + i * (part::wide / 2), tile + i * part::raw, KEYS,
                                         j, threadIdx.x, part::threads);
            k = wide;
            v = wide + part::wide / 2;
            __syncthreads();
        }
        take<kind, d, small>(p, places, &st, q, k, v, j);
    }
    __syncthreads(); /* all has been read: outputs take its place */
    store<d, part::rows>(p, w, places, (float *)shared, st);
}

template <attn_kind kind, int d, bool small>
static int32_t launch(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    const dim3 grid(p->a.n_head_kv, n_seqs, p->n_tiles);
    return kern_launch(prefill<kind, d, small>, grid, dim3(layout<kind, d, small>::threads),
                       layout<kind, d, small>::bytes, stream, *p);
}

template <attn_kind kind, bool small>
static int32_t launch_kind(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    switch (p->a.head_dim) {
    case 64:
        return launch<kind, 64, small>(p, n_seqs, stream);
    case 96:
        return launch<kind, 96, small>(p, n_seqs, stream);
    case 128:
        return launch<kind, 128, small>(p, n_seqs, stream);
    default:
        return launch<kind, 256, small>(p, n_seqs, stream);
    }
}

template <bool small>
static int32_t launch_type(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    switch (p->a.kv.type) {
    case INFER_DTYPE_BF16:
        return launch_kind<ATTN_BF16, small>(p, n_seqs, stream);
    case INFER_DTYPE_F16:
        return launch_kind<ATTN_F16, small>(p, n_seqs, stream);
    case INFER_DTYPE_F8_E4M3:
        return launch_kind<ATTN_F8, small>(p, n_seqs, stream);
    case INFER_DTYPE_Q8_0:
        return launch_kind<ATTN_Q8, small>(p, n_seqs, stream);
    default:
        return launch_kind<ATTN_Q4, small>(p, n_seqs, stream);
    }
}

int32_t kern_attn_prefill(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    return p->queries == 64 ? launch_type<true>(p, n_seqs, stream)
                            : launch_type<false>(p, n_seqs, stream);
}
