/* Attention with values of 512 elements, for latents (latent.cu) and for heads whose keys are as
 * wide (attn_wide.cu): the kernel, the one that joins parts, and what launches them.
 *
 * A block of threads takes the query vectors of many heads, or rows, and reads each key once. Tiles
 * of 32 keys go through shared memory. Scores: each warp takes a quarter of the dims for half of
 * the keys, of which its queries stay in registers, or, of more than 16 vectors, for half of these.
 * Weights: some threads a vector. Sums: each warp has 64 of the 512 columns of all vectors in
 * registers.
 *
 * Of 16 vectors nothing is lost to 16-bit queries and weights (attn_decode.cuh); 64 vectors, which
 * are bound by the tensor cores, are rounded, as in attn_prefill.cu. Parts of a long sequence are
 * joined by a kernel of its own: a block that did it for all vectors of a tile would be slow. */
#ifndef KERNELS_CUDA_ATTN_WIDE_LAUNCH_CUH
#define KERNELS_CUDA_ATTN_WIDE_LAUNCH_CUH

#include "kernels/cuda/attn_wide.cuh"

#include <cuda_runtime_api.h>

/* Tiles on their way. Latents go round `stages` places. Keys and values that lie apart have a place
 * each: the values of a tile arrive while its scores are made, and the next keys while they are
 * summed up. Where a card has room for one place alone, they take turns in it. */
struct supply {
    struct ahead keys, values;
    int stage, stages; /* stage: of latents, where the next goes */
};

template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void fetch_keys(const struct attn_params &p,
                                                  const struct attn_work &w,
                                                  const struct places &at, struct supply &t)
{
    using part = layout<kind, width, tiles>;
    unsigned char *to = at.ring + (part::apart ? 0 : t.stage) * part::raw;
    fetch<kind, width, tiles>(p, w, t.keys, to, p.a.kv.k, p.a.kv.k_slot);
    t.stage = t.stage + 1 == t.stages ? 0 : t.stage + 1;
}

template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void fetch_values(const struct attn_params &p,
                                                    const struct attn_work &w,
                                                    const struct places &at, struct supply &t)
{
    unsigned char *to = at.ring + (t.stages - 1) * layout<kind, width, tiles>::raw;
    fetch<kind, width, tiles>(p, w, t.values, to, p.a.kv.v, p.a.kv.v_slot);
}

/* The tile as it is multiplied, once all threads have met: as it arrived, or widened. */
template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ const uint16_t *
widened(const struct attn_work &w, const struct places &at, const unsigned char *raw, int j)
{
    if constexpr (layout<kind, width, tiles>::vector::quantised) {
        attn_widen_tile<kind, width>(w, at.wide, raw, KEYS, j, threadIdx.x, THREADS);
        __syncthreads();
        return at.wide;
    } else {
        return (const uint16_t *)raw;
    }
}

/* Waits for the keys from j on, and asks for what comes next where there is a place for it. */
template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ const uint16_t *
keys_from(const struct attn_params &p, const struct attn_work &w, const struct places &at,
          struct supply &t, int j)
{
    using part = layout<kind, width, tiles>;
    const unsigned char *raw = at.ring;
    if constexpr (part::apart) {
        if (t.stages == 1) { /* the place is that of the values before, which are read until now */
            __syncthreads();
            fetch_keys<kind, width, tiles>(p, w, at, t);
        }
        kern_copy_wait<0>();
        __syncthreads();
        if (t.stages > 1)
            fetch_values<kind, width, tiles>(p, w, at, t);
    } else {
        raw += (t.stage + 1 == t.stages ? 0 : t.stage + 1) * part::raw;
        if (t.stages > 1) /* else the place is that of the tile before, which is read until now */
            kern_copy_wait<0>();
        __syncthreads();
        fetch_keys<kind, width, tiles>(p, w, at, t);
        if (t.stages == 1) {
            kern_copy_wait<0>();
            __syncthreads();
        }
    }
    return widened<kind, width, tiles>(w, at, raw, j);
}

/* When keys that lie apart have been read: the next, or the values in their place. */
template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ void
fetch_behind_scores(const struct attn_params &p, const struct attn_work &w, const struct places &at,
                    struct supply &t)
{
    if constexpr (layout<kind, width, tiles>::apart) {
        if (t.stages > 1)
            fetch_keys<kind, width, tiles>(p, w, at, t);
        else
            fetch_values<kind, width, tiles>(p, w, at, t);
    }
}

/* Waits for the values and for all threads' weights behind weigh(); those of latents are at k. */
template <attn_kind kind, int width, int tiles>
static __device__ __forceinline__ const uint16_t *
values_from(const struct attn_work &w, const struct places &at, const struct supply &t,
            const uint16_t *k, int j)
{
    using part = layout<kind, width, tiles>;
    if constexpr (part::apart) {
        if (t.stages > 1)
            kern_copy_wait<1>(); /* all but the next keys */
        else
            kern_copy_wait<0>();
        __syncthreads();
        return widened<kind, width, tiles>(w, at, at.ring + (t.stages - 1) * part::raw, j);
    } else {
        __syncthreads();
        return k;
    }
}

/* The sums of a block, whose vectors have maxima m and sums l, become rows, or wait for the other
 * parts. */
template <attn_kind kind, int width, int tiles, bool serial>
static __device__ __forceinline__ void finish(const struct attn_params &p,
                                              const struct sums<tiles> &o, float m, float l,
                                              struct factors &f)
{
    using part = layout<kind, width, tiles>;
    const int row = threadIdx.x / part::lanes;
    struct attn_work w; /* anew: the loop has no registers to keep it in */
    (void)attn_work_of(p, part::rows, KEYS, &w);
    const bool whole = serial || w.n_active == 1;
    __syncthreads(); /* factors have been read */
    if (threadIdx.x % part::lanes == 0) {
        f.m[row] = m;
        f.l[row] = whole && row < w.n ? attn_norm(p, attn_head(p, w, row), m, l) : l;
    }
    __syncthreads();
    if (whole)
        store<tiles>(p, w, o, f.l);
    else
        leave<tiles>(p, w, o, f);
}

/* Ahead of the wait are read what attn_decode.cu reads there. `serial`: one block takes all parts
 * of a tile, which are cut at fixed places. */
template <attn_kind kind, int width, int tiles, bool serial>
static __global__ void __launch_bounds__(THREADS, tiles == 1 && !serial ? 2 : 1)
    wide(const __grid_constant__ struct attn_params p, int stages)
{
    using part = layout<kind, width, tiles>;
    KERN_SHARED_BYTES(shared);
    __shared__ struct factors f;
    const struct places at = places_of<kind, width, tiles>(shared);
    const int row = threadIdx.x / part::lanes;
    struct attn_work w;
    kern_release();
    if (!attn_work_of(p, part::rows, KEYS, &w)) {
        kern_wait();
        return;
    }
    if (serial)
        w.end = w.seq.first_pos + attn_row(p, w, w.n - 1) + 1;
    const int begin = part::apart && p.part > 0 ? w.begin / KEYS * KEYS : w.begin;
    struct supply t = {{begin, {}}, {begin, {}}, 0, stages};
    look_up<part::apart>(p, w, t.keys);
    if (part::apart)
        look_up<part::apart>(p, w, t.values);
    int fetched = 0;
#pragma unroll 1
    for (; fetched < stages - 1 && t.keys.next + KEYS <= w.seq.first_pos; fetched++)
        fetch_keys<kind, width, tiles>(p, w, at, t);
    kern_wait();
#pragma unroll 1
    for (; fetched < stages - 1; fetched++)
        fetch_keys<kind, width, tiles>(p, w, at, t);

    struct kept_queries<width> q;
    struct softmax st = {-INFINITY, 0.0f, 0, row < w.n ? attn_pos(p, w, row) : -1};
    if (part::apart && row < w.n)
        st.low = attn_first_seen(p, st.pos);
    struct sums<tiles> o = {
    };
    struct all_parts<tiles> all = {
        {}, -INFINITY, 0.0f, 0
    };
    if constexpr (part::exact)
        keep_queries<kind, width>(p, w, &q, (uint4 *)at.queries);
    else
        share_queries<kind, width, part::rows>(p, w, at.queries);
#pragma unroll 1
    for (int j = begin; j < w.end; j += KEYS) {
        const uint16_t *k = keys_from<kind, width, tiles>(p, w, at, t, j);
        score<kind, width, tiles>(q, at, k);
        __syncthreads();
        fetch_behind_scores<kind, width, tiles>(p, w, at, t);
        weigh<kind, width, tiles>(p, w, at, &st, f.shrink, j);
        const uint16_t *v = values_from<kind, width, tiles>(w, at, t, k, j);
        add_values<kind, width, tiles>(&o, at, f.shrink, v);
        if constexpr (serial)
            if ((j + KEYS) % p.part == 0 || j + KEYS >= w.end)
                fold<kind, width, tiles>(&all, &o, &st, f);
    }
    kern_copy_wait<0>();
    finish<kind, width, tiles, serial>(p, serial ? all.o : o, serial ? all.m : st.m,
                                       serial ? all.l : sum_of_row<part::lanes>(st.l), f);
}

/* A block joins the parts of one vector, if it has several. */
#define JOIN_THREADS (WIDTH_V / 4)

static __global__ void __launch_bounds__(JOIN_THREADS)
    join(const __grid_constant__ struct attn_params p, int queries)
{
    __shared__ float weight[ATTN_SPLITS_MAX];
    const int tile = (int)blockIdx.x / queries, v = (int)blockIdx.x % queries;
    struct attn_work w;
    w.split = 0;
    w.head_kv = (int)blockIdx.y;
    kern_release();
    const bool active = attn_work_at(p, queries, KEYS, tile, (int)blockIdx.z, &w) && v < w.n;
    kern_wait();
    if (!active || w.n_active == 1)
        return;
    const size_t part0 = (size_t)w.tile * p.n_splits * queries;
    if (p.part > 0) {
        attn_fixed_quad(p, w, part0, queries, v, threadIdx.x);
        return;
    }
    if (threadIdx.x < KERN_WARP)
        attn_part_weights(p, w, part0, queries, v, weight);
    __syncthreads();
    attn_join_quad(p, w, part0, queries, v, threadIdx.x, weight);
}

/* ------------------------------------------------------------------------ launchers */

/* Query vectors of all parts of a launch at most, whose results wait for being joined: half as many
 * blocks of 16 vectors as parts at fixed places have in attn.cuh, or so many that the card is full,
 * with two of 16 or one of 64 on each multiprocessor. */
#define VECTORS       (ATTN_BLOCKS_MAX * 32)
#define VECTORS_FIXED (ATTN_FIXED_BLOCKS * 8)

/* Behind the tickets of the other kernels, which may take turns with this one. */
#define STATS_AT                                                                                   \
    BASE_ALIGN_UP(BASE_MAX(ATTN_FIXED_BLOCKS, ATTN_BLOCKS_MAX) * sizeof(unsigned), (size_t)256)

static size_t vectors_of(bool fixed)
{
    return fixed ? VECTORS_FIXED : VECTORS;
}

template <attn_kind kind, int width, int tiles, bool serial>
static int32_t launch(const struct attn_params *p, void *stream)
{
    using part = layout<kind, width, tiles>;
    const dim3 grid(p->n_tiles * p->n_splits, p->a.n_head_kv, p->a.batch->n_seqs);
    int32_t error = 0;
    for (int stages = 2; stages >= 1; stages--) {
        error = kern_launch(wide<kind, width, tiles, serial>, grid, dim3(THREADS),
                            (size_t)part::fixed + (size_t)stages * part::raw, stream, *p, stages);
        if (error != cudaErrorInvalidValue)
            break;
        (void)cudaGetLastError(); /* the card has too little shared memory */
    }
    return error;
}

template <int width, int tiles, bool serial>
static int32_t launch_type(const struct attn_params *p, void *stream)
{
    switch (p->a.kv.type) {
    case INFER_DTYPE_BF16:
        return launch<ATTN_BF16, width, tiles, serial>(p, stream);
    case INFER_DTYPE_F16:
        return launch<ATTN_F16, width, tiles, serial>(p, stream);
    case INFER_DTYPE_F8_E4M3:
        return launch<ATTN_F8, width, tiles, serial>(p, stream);
    case INFER_DTYPE_Q8_0:
        return launch<ATTN_Q8, width, tiles, serial>(p, stream);
    default:
        return launch<ATTN_Q4, width, tiles, serial>(p, stream);
    }
}

static int32_t launch_join(const struct attn_params *p, void *stream)
{
    const dim3 grid((unsigned)(p->n_tiles * p->queries), (unsigned)p->a.n_head_kv,
                    (unsigned)p->a.batch->n_seqs);
    if (p->n_splits == 1)
        return 0;
    return kern_launch(join, grid, dim3(JOIN_THREADS), 0, stream, *p, p->queries);
}

/* As many parts as fill the card, none so short that joining takes as long as reading. */
#define SPLIT_KEYS_MIN(queries) ((queries) > 16 ? 2 * ATTN_SPLIT_KEYS_MIN : ATTN_SPLIT_KEYS_MIN)

static int32_t splits_for(const struct attn_params *p, int64_t tiles, int32_t span)
{
    const int64_t room = VECTORS / p->queries;
    const int32_t least = SPLIT_KEYS_MIN(p->queries);
    const int32_t longest = (span + least - 1) / least;
    return (int32_t)max((int64_t)1,
                        min(min(room / tiles, (int64_t)longest), (int64_t)ATTN_SPLITS_MAX));
}

template <int width>
static int32_t attend_tiles(struct attn_params *p, int32_t queries, void *stream)
{
    const struct kern_cuda_batch *batch = p->a.batch;
    const int32_t part = p->a.part, length = batch->seq_length;
    const int32_t span = p->a.window > 0 ? min(p->a.window + batch->seq_rows, length) : length;
    p->queries = queries;
    p->n_tiles = (int32_t)(((int64_t)batch->seq_rows * p->group + queries - 1) / queries);
    p->part = part;
    const int64_t tiles = (int64_t)batch->n_seqs * p->a.n_head_kv * p->n_tiles;
    p->n_splits =
        part > 0 ? min(span / part + 2, (length + part - 1) / part) : splits_for(p, tiles, span);
    const bool serial = part > 0 && tiles * p->n_splits * queries > VECTORS_FIXED;
    if (serial)
        p->n_splits = 1;
    const int32_t error = queries > 16 ? launch_type<width, 4, false>(p, stream)
                          : serial     ? launch_type<width, 1, true>(p, stream)
                                       : launch_type<width, 1, false>(p, stream);
    return error ? error : launch_join(p, stream);
}

/* Where scratch has room behind STATS_AT; cudaErrorInvalidValue: the card has too little shared
 * memory. */
template <int width> static int32_t attend(struct attn_params *p, void *stream)
{
    p->stats = (float *)((unsigned char *)p->a.scratch + STATS_AT);
    p->o = p->stats + vectors_of(p->a.part > 0) * 2;
    const bool large = p->a.part == 0 && (int64_t)p->a.batch->seq_rows * p->group > 32;
    const int32_t error = attend_tiles<width>(p, large ? 64 : 16, stream);
    return error == cudaErrorInvalidValue && large ? attend_tiles<width>(p, 16, stream) : error;
}

#endif
