/* Attention over latents (cuda_latent.h): the cache holds one vector a token, which is the key of
 * all heads, and whose first 512 elements are their value. So a block of threads takes the query
 * vectors of many heads and reads each latent once, for scores and for sums (the absorbed form of
 * DeepSeek-V2, arXiv:2405.04434, section 2.1.2).
 *
 * Tiles of 32 keys go through shared memory, the next on its way meanwhile where a card has room.
 * Scores: each warp takes a quarter of the dims for half of the keys, of which its queries stay in
 * registers, or, of more than 16 vectors, for half of these. Weights: some threads a vector. Sums:
 * each warp has 64 of the 512 columns of all vectors in registers.
 *
 * Of 16 vectors nothing is lost to 16-bit queries and weights (attn_decode.cuh); 64 vectors, which
 * are bound by the tensor cores, are rounded, as in attn_prefill.cu. Parts of a long sequence are
 * joined by a kernel of its own: a block that did it for all vectors of a tile would be slow. */
#include "kernels/cuda/latent.cuh"

#include <cuda_runtime_api.h>

/* The sums of a block, whose vectors have maxima m and sums l, become rows, or wait for the other
 * parts. */
template <attn_kind kind, int tiles, bool serial>
static __device__ __forceinline__ void finish(const struct attn_params &p,
                                              const struct sums<tiles> &o, float m, float l,
                                              struct factors &f)
{
    using part = layout<kind, tiles>;
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
template <attn_kind kind, int tiles, bool serial>
static __global__ void __launch_bounds__(THREADS, tiles == 1 && !serial ? 2 : 1)
    latent(const __grid_constant__ struct attn_params p, int stages)
{
    using part = layout<kind, tiles>;
    KERN_SHARED_BYTES(shared);
    __shared__ struct factors f;
    const struct places at = places_of<kind, tiles>(shared);
    const int row = threadIdx.x / part::lanes;
    struct attn_work w;
    kern_release();
    if (!attn_work_of(p, part::rows, KEYS, &w)) {
        kern_wait();
        return;
    }
    if (serial)
        w.end = w.seq.first_pos + attn_row(p, w, w.n - 1) + 1;
    struct ahead t = {w.begin, 0, {}};
    look_up(p, w, t);
    int fetched = 0;
#pragma unroll 1
    for (; fetched < stages - 1 && t.next + KEYS <= w.seq.first_pos; fetched++)
        fetch<kind, tiles>(p, w, t, at.ring, stages);
    kern_wait();
#pragma unroll 1
    for (; fetched < stages - 1; fetched++)
        fetch<kind, tiles>(p, w, t, at.ring, stages);

    struct kept_queries q;
    struct softmax st = {-INFINITY, 0.0f, row < w.n ? attn_pos(p, w, row) : -1};
    struct sums<tiles> o = {
    };
    struct all_parts<tiles> all = {
        {}, -INFINITY, 0.0f, 0
    };
    if constexpr (part::exact)
        keep_queries<kind>(p, w, &q, (uint4 *)at.queries);
    else
        share_queries<kind, part::rows>(p, w, at.queries);
#pragma unroll 1
    for (int j = w.begin; j < w.end; j += KEYS) {
        const unsigned char *raw = at.ring + (t.stage + 1 == stages ? 0 : t.stage + 1) * part::raw;
        const uint16_t *k = part::vector::quantised ? at.wide : (const uint16_t *)raw;
        if (stages > 1) /* else the place is that of the tile before, which is read until now */
            kern_copy_wait<0>();
        __syncthreads();
        fetch<kind, tiles>(p, w, t, at.ring, stages);
        if (stages == 1) {
            kern_copy_wait<0>();
            __syncthreads();
        }
        if constexpr (part::vector::quantised) {
            attn_widen_tile<kind, WIDTH>(w, at.wide, raw, KEYS, j, threadIdx.x, THREADS);
            __syncthreads();
        }
        score<kind, tiles>(q, at, k);
        __syncthreads();
        weigh<kind, tiles>(p, w, at, &st, f.shrink, j);
        __syncthreads();
        add_values<kind, tiles>(&o, at, f.shrink, k);
        if constexpr (serial)
            if ((j + KEYS) % p.part == 0 || j + KEYS >= w.end)
                fold<kind, tiles>(&all, &o, &st, f);
    }
    kern_copy_wait<0>();
    finish<kind, tiles, serial>(p, serial ? all.o : o, serial ? all.m : st.m,
                                serial ? all.l : sum_of_row<part::lanes>(st.l), f);
}

/* A block joins the parts of one vector, if it has several. */
#define JOIN_THREADS (WIDTH_V / 4)

static __global__ void __launch_bounds__(JOIN_THREADS)
    latent_join(const __grid_constant__ struct attn_params p, int queries)
{
    __shared__ float weight[ATTN_SPLITS_MAX];
    const int tile = (int)blockIdx.x / queries, v = (int)blockIdx.x % queries;
    struct attn_work w;
    w.split = w.head_kv = 0;
    kern_release();
    const bool active = attn_work_at(p, queries, KEYS, tile, (int)blockIdx.y, &w) && v < w.n;
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

/* Behind the tickets of the plain kernel, which may take turns with this one. */
#define STATS_AT                                                                                   \
    BASE_ALIGN_UP(BASE_MAX(ATTN_FIXED_BLOCKS, ATTN_BLOCKS_MAX) * sizeof(unsigned), (size_t)256)

static size_t vectors_of(int32_t fixed)
{
    return fixed ? VECTORS_FIXED : VECTORS;
}

extern "C" size_t kern_cuda_latent_scratch(int32_t head_dim_v, int32_t n_vectors, int32_t fixed)
{
    const size_t row = BASE_ALIGN_UP((size_t)head_dim_v, (size_t)4) + 2;
    const size_t own = STATS_AT + vectors_of(fixed) * row * sizeof(float);
    const size_t plain = fixed ? kern_cuda_attn_scratch_fixed(1, head_dim_v, n_vectors)
                               : kern_cuda_attn_scratch(1, head_dim_v, 1, n_vectors);
    return BASE_MAX(own, plain);
}

template <attn_kind kind, int tiles, bool serial>
static int32_t launch(const struct attn_params *p, void *stream)
{
    using part = layout<kind, tiles>;
    const dim3 grid(p->n_tiles * p->n_splits, 1, p->a.batch->n_seqs);
    int32_t error = 0;
    for (int stages = 2; stages >= 1; stages--) {
        error = kern_launch(latent<kind, tiles, serial>, grid, dim3(THREADS),
                            (size_t)part::fixed + (size_t)stages * part::raw, stream, *p, stages);
        if (error != cudaErrorInvalidValue)
            break;
        (void)cudaGetLastError(); /* the card has too little shared memory */
    }
    return error;
}

template <int tiles, bool serial>
static int32_t launch_type(const struct attn_params *p, void *stream)
{
    switch (p->a.kv.type) {
    case INFER_DTYPE_BF16:
        return launch<ATTN_BF16, tiles, serial>(p, stream);
    case INFER_DTYPE_F16:
        return launch<ATTN_F16, tiles, serial>(p, stream);
    case INFER_DTYPE_F8_E4M3:
        return launch<ATTN_F8, tiles, serial>(p, stream);
    case INFER_DTYPE_Q8_0:
        return launch<ATTN_Q8, tiles, serial>(p, stream);
    default:
        return launch<ATTN_Q4, tiles, serial>(p, stream);
    }
}

static int32_t launch_join(const struct attn_params *p, void *stream)
{
    const dim3 grid((unsigned)(p->n_tiles * p->queries), (unsigned)p->a.batch->n_seqs);
    if (p->n_splits == 1)
        return 0;
    return kern_launch(latent_join, grid, dim3(JOIN_THREADS), 0, stream, *p, p->queries);
}

/* As many parts as fill the card, none so short that joining takes as long as reading. */
#define SPLIT_KEYS_MIN(queries) ((queries) > 16 ? 2 * ATTN_SPLIT_KEYS_MIN : ATTN_SPLIT_KEYS_MIN)

static int32_t splits_for(const struct attn_params *p)
{
    const int64_t room = VECTORS / p->queries;
    const int64_t tiles = (int64_t)p->a.batch->n_seqs * p->n_tiles;
    const int32_t least = SPLIT_KEYS_MIN(p->queries);
    const int32_t longest = (p->a.batch->seq_length + least - 1) / least;
    return (int32_t)max((int64_t)1,
                        min(min(room / tiles, (int64_t)longest), (int64_t)ATTN_SPLITS_MAX));
}

static int32_t attend(struct attn_params *p, int32_t queries, void *stream)
{
    const int32_t part = p->a.part, n_seqs = p->a.batch->n_seqs;
    p->queries = queries;
    p->n_tiles = (int32_t)(((int64_t)p->a.batch->seq_rows * p->group + queries - 1) / queries);
    p->part = part;
    p->n_splits = part > 0 ? (p->a.batch->seq_length + part - 1) / part : splits_for(p);
    const bool serial =
        part > 0 && (int64_t)n_seqs * p->n_tiles * p->n_splits * queries > VECTORS_FIXED;
    if (serial)
        p->n_splits = 1;
    const int32_t error = queries > 16 ? launch_type<4, false>(p, stream)
                          : serial     ? launch_type<1, true>(p, stream)
                                       : launch_type<1, false>(p, stream);
    return error ? error : launch_join(p, stream);
}

/* Multiples of 16 bytes wherever the kernel reads, and what it knows. */
static bool is_fast(const struct kern_cuda_attn_args *a)
{
    const struct kern_cuda_kv *kv = &a->kv;
    const uintptr_t at =
        (uintptr_t)a->q | (uintptr_t)kv->k | kv->block_stride | a->q_stride * sizeof(float);
    const bool plain = kv->type == INFER_DTYPE_F16 || kv->type == INFER_DTYPE_BF16;
    const bool slots = plain ? kv->k_slot % 16 == 0 : kv->k_slot == kern_kv_bytes(kv->type, WIDTH);
    return kv->type != INFER_DTYPE_F32 && at % 16 == 0 && slots && a->head_dim == WIDTH &&
           a->head_dim_v == WIDTH_V && a->window == 0 && a->chunk == 0;
}

extern "C" int32_t kern_cuda_latent_attend(const struct kern_cuda_attn_args *args, void *stream)
{
    const struct kern_cuda_batch *batch = args->batch;
    struct attn_params p;
    if (batch->n_rows <= 0 || batch->n_seqs <= 0)
        return 0;
    if (args->n_head_kv != 1 || args->kv.v != args->kv.k || args->store ||
        args->part % ATTN_PART_GRAIN || !args->scratch ||
        args->scratch_bytes < kern_cuda_latent_scratch(
                                  args->head_dim_v, args->n_head * batch->n_rows, args->part > 0))
        return cudaErrorInvalidConfiguration;
    if (!is_fast(args))
        return kern_cuda_attn_paged(args, stream);
    (void)kern_attn_params(&p, args);
    p.stats = (float *)((unsigned char *)args->scratch + STATS_AT);
    p.o = p.stats + vectors_of(args->part > 0) * 2;
    const bool large = args->part == 0 && (int64_t)batch->seq_rows * p.group > 32;
    int32_t error = attend(&p, large ? 64 : 16, stream);
    if (error == cudaErrorInvalidValue && large)
        error = attend(&p, 16, stream);
    return error == cudaErrorInvalidValue ? kern_cuda_attn_paged(args, stream) : error;
}
