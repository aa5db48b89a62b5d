/* Paged attention: the choice of a kernel, and the one that takes whatever the fast ones do not
 * (F32 caches, other lengths of heads, odd strides). */
#include "kernels/cuda/attn.cuh"
#include "kernels/cuda/block_float.cuh"

#include <cuda_runtime_api.h>

#define QUERIES 8
#define KEYS    16 /* of a tile: a thread for each score */
#define THREADS (QUERIES * KEYS)

static __device__ float half_at(const uint8_t *p)
{
    return __half2float(__ushort_as_half(*(const unsigned short *)p));
}

/* Element i of a vector of the cache. */
static __device__ float element(infer_dtype type, const uint8_t *p, int32_t i)
{
    switch (type) {
    case INFER_DTYPE_F32:
        return ((const float *)p)[i];
    case INFER_DTYPE_F16:
        return half_at(p + 2 * i);
    case INFER_DTYPE_BF16:
        return __uint_as_float((uint32_t)((const uint16_t *)p)[i] << 16);
    case INFER_DTYPE_F8_E4M3:
        return kern_read_F8_E4M3::number(p[i]);
    case INFER_DTYPE_Q8_0:
        p += i / 32 * 34;
        return half_at(p) * (float)(int8_t)p[2 + i % 32];
    default: {
        p += i / 32 * 20;
        const int32_t pair = p[4 + i % 32 / 2];
        return half_at(p) * (float)(i % 2 ? pair >> 4 : pair & 15) + half_at(p + 2);
    }
    }
}

/* Vectors of the keys from j on, `stride` floats apart; those of keys beyond the part are left. */
static __device__ void load_tile(const struct attn_params &p, const struct attn_work &w,
                                 float *tile, int32_t stride, int32_t j, bool values)
{
    const uint8_t *part = values ? p.a.kv.v : p.a.kv.k;
    const size_t slot = values ? p.a.kv.v_slot : p.a.kv.k_slot;
    const int32_t dim = values ? p.a.head_dim_v : p.a.head_dim;
    const uint8_t *src = part + attn_slot(p, w, w.blocks[j / p.a.kv.block_tokens], j, slot);
    const int32_t n = min(KEYS, w.end - j) * dim;
    for (int32_t i = threadIdx.x; i < n; i += THREADS)
        tile[i / dim * stride + i % dim] =
            element(p.a.kv.type, src + (size_t)(i / dim) * slot, i % dim);
}

/* One thread a score; a query's 16 are neighbours in a warp. Returns what the sums so far shrink
 * by; a hidden key's weight is -1. */
static __device__ float weigh(const struct attn_params &p, const float *q, const float *k,
                              bool seen, float *m, float *l, float *weight)
{
    float s = -INFINITY;
    if (seen) {
        float product = 0.0f;
        for (int32_t i = 0; i < p.a.head_dim; i++)
            product += q[i] * k[i];
        s = attn_score(p, product * p.score_scale);
    }
    float most = s;
    for (int32_t step = KEYS / 2; step > 0; step /= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    most = fmaxf(most, *m);
    const float base = attn_base(most), shrink = exp2f(*m - base);
    const float e = seen ? exp2f(s - base) : 0.0f;
    float sum = e;
    for (int32_t step = KEYS / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    *l = *l * shrink + sum;
    *m = most;
    *weight = seen ? e : -1.0f;
    return shrink;
}

/* acc[q][i] over the values of a tile; thread by columns. */
static __device__ void add_values(const struct attn_params &p, const struct attn_work &w,
                                  float *acc, const float *tile, int32_t stride,
                                  const float (*weight)[KEYS], const float *shrink)
{
    for (int32_t i = threadIdx.x; i < p.a.head_dim_v; i += THREADS)
        for (int32_t v = 0; v < w.n; v++) {
            float sum = acc[v * p.o_stride + i] * shrink[v];
            for (int32_t j = 0; j < KEYS; j++)
                if (weight[v][j] >= 0.0f || weight[v][j] != weight[v][j])
                    sum += weight[v][j] * tile[j * stride + i];
            acc[v * p.o_stride + i] = sum;
        }
}

static int32_t tile_stride(const struct kern_cuda_attn_args *a)
{
    return max(a->head_dim, a->head_dim_v) | 1; /* odd: keys in different banks */
}

static __global__ void __launch_bounds__(THREADS, 8) attend(struct attn_params p, int32_t stride)
{
    KERN_SHARED_BYTES(shared);
    __shared__ float weight[QUERIES][KEYS], shrink[QUERIES], maxima[QUERIES], sums[QUERIES];
    float *acc = (float *)shared, *q = acc + QUERIES * p.o_stride;
    float *tile = q + QUERIES * p.a.head_dim;
    struct attn_work w;
    kern_release();
    kern_wait();
    if (!attn_work_of(p, QUERIES, KEYS, &w))
        return;
    for (int32_t v = 0; v < w.n; v++)
        for (int32_t i = threadIdx.x; i < p.a.head_dim; i += THREADS)
            q[v * p.a.head_dim + i] = attn_query(p, w, v)[i];
    for (int32_t i = threadIdx.x; i < QUERIES * p.o_stride; i += THREADS)
        acc[i] = 0.0f;
    const int32_t own = threadIdx.x / KEYS, key = threadIdx.x % KEYS;
    const int32_t pos = own < w.n ? attn_pos(p, w, own) : -1;
    const int32_t low = own < w.n ? attn_first_seen(p, pos) : 0;
    float m = -INFINITY, l = 0.0f;
    for (int32_t j = w.begin; j < w.end; j += KEYS) {
        const int32_t at = j + key;
        float own_weight;
        __syncthreads();
        load_tile(p, w, tile, stride, j, false);
        __syncthreads();
        const float own_shrink = weigh(p, q + own * p.a.head_dim, tile + key * stride,
                                       at >= low && at <= pos && at < w.end, &m, &l, &own_weight);
        weight[own][key] = own_weight;
        if (key == 0)
            shrink[own] = own_shrink;
        __syncthreads();
        load_tile(p, w, tile, stride, j, true);
        __syncthreads();
        add_values(p, w, acc, tile, stride, weight, shrink);
    }
    if (key == 0) {
        maxima[own] = m;
        sums[own] = l;
    }
    __syncthreads();
    attn_end(p, w, QUERIES, acc, p.o_stride, maxima, sums);
}

static int32_t attend_launch(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    const int32_t stride = tile_stride(&p->a);
    const size_t floats =
        (size_t)QUERIES * p->o_stride + (size_t)QUERIES * p->a.head_dim + (size_t)KEYS * stride;
    const dim3 grid(p->n_tiles * p->n_splits, p->a.n_head_kv, n_seqs);
    const size_t least = QUERIES * ATTN_SPLITS_MAX; /* attn_end() */
    return kern_launch(attend, grid, dim3(THREADS), max(floats, least) * sizeof(float), stream, *p,
                       stride);
}

/* ---------------------------------------------------------------- the choice */

#define STATS_AT BASE_ALIGN_UP(ATTN_BLOCKS_MAX * sizeof(unsigned), (size_t)256)
#define O_AT     (STATS_AT + (size_t)ATTN_BLOCKS_MAX * ATTN_QUERIES_MAX * 2 * sizeof(float))

/* One size for all batches: keys are only cut where blocks are few, so that the tickets of every
 * launch lie in the same place, whatever its shape. */
extern "C" size_t kern_cuda_attn_scratch(int32_t n_head, int32_t head_dim_v, int32_t n_seqs,
                                         int32_t n_rows)
{
    const size_t row = BASE_ALIGN_UP((size_t)head_dim_v, (size_t)4) * sizeof(float);
    (void)n_head;
    (void)n_seqs;
    (void)n_rows;
    const size_t own = O_AT + (size_t)ATTN_BLOCKS_MAX * ATTN_QUERIES_MAX * row;
    return head_dim_v < ATTN_WIDE ? own : BASE_MAX(own, kern_attn_wide_scratch(false));
}

/* Tickets and parts of the tiles of a launch, or what is known so far of each row's heads. */
#define FIXED_STATS_AT BASE_ALIGN_UP(ATTN_FIXED_BLOCKS * sizeof(unsigned), (size_t)256)

static size_t fixed_vectors(int32_t n_head, int32_t n_rows)
{
    return BASE_MAX((size_t)ATTN_FIXED_BLOCKS * ATTN_QUERIES_MAX, (size_t)n_head * (size_t)n_rows);
}

extern "C" size_t kern_cuda_attn_scratch_fixed(int32_t n_head, int32_t head_dim_v, int32_t n_rows)
{
    const size_t row = BASE_ALIGN_UP((size_t)head_dim_v, (size_t)4) * sizeof(float);
    const size_t own = FIXED_STATS_AT + fixed_vectors(n_head, n_rows) * (2 * sizeof(float) + row);
    return head_dim_v < ATTN_WIDE ? own : BASE_MAX(own, kern_attn_wide_scratch(true));
}

/* Multiples of 16 bytes wherever the kernels with tensor cores read and write. */
static bool is_aligned(const struct kern_cuda_attn_args *a)
{
    const struct kern_cuda_kv *kv = &a->kv;
    const uintptr_t at = (uintptr_t)a->q | (uintptr_t)kv->k | (uintptr_t)kv->v | kv->block_stride |
                         a->q_stride * sizeof(float);
    const bool plain = kv->type == INFER_DTYPE_F16 || kv->type == INFER_DTYPE_BF16;
    const size_t packed = kern_kv_bytes(kv->type, a->head_dim);
    const bool slots =
        plain ? (kv->k_slot | kv->v_slot) % 16 == 0 : kv->k_slot == packed && kv->v_slot == packed;
    return kv->type != INFER_DTYPE_F32 && at % 16 == 0 && slots;
}

/* Lengths that the fast kernels know. */
static bool is_fast(const struct kern_cuda_attn_args *a)
{
    const int32_t d = a->head_dim;
    return d == a->head_dim_v && (d == 64 || d == 96 || d == 128 || d == 256) && is_aligned(a);
}

static bool is_wide(const struct kern_cuda_attn_args *a)
{
    return a->head_dim == ATTN_WIDE && a->head_dim_v == ATTN_WIDE && is_aligned(a);
}

/* As many parts as fill the card with two blocks an SM. Known from bounds on the host, so that a
 * captured graph stays true; how long a part is, each block derives from its own sequence. */
static int32_t splits_for(const struct kern_cuda_attn_args *a, int64_t n_blocks)
{
    const int32_t span = a->window > 0 ? min(a->window + a->batch->seq_rows, a->batch->seq_length)
                                       : a->batch->seq_length;
    if (n_blocks > ATTN_BLOCKS_MAX / 2)
        return 1;
    const int32_t n = min((int32_t)(ATTN_BLOCKS_MAX / n_blocks),
                          (span + ATTN_SPLIT_KEYS_MIN - 1) / ATTN_SPLIT_KEYS_MIN);
    return max(1, min(n, ATTN_SPLITS_MAX));
}

/* Tiles of `queries` vectors, and parts of their keys where there is scratch to join them. */
void kern_attn_cut(struct attn_params *p, int32_t queries)
{
    const struct kern_cuda_attn_args *a = &p->a;
    const int64_t vectors = (int64_t)a->batch->seq_rows * p->group;
    unsigned char *scratch = (unsigned char *)a->scratch;
    p->queries = queries;
    p->n_tiles = (int32_t)((vectors + queries - 1) / queries);
    p->n_splits = 1;
    if (queries > ATTN_QUERIES_MAX || !scratch ||
        a->scratch_bytes <
            kern_cuda_attn_scratch(a->n_head, a->head_dim_v, a->batch->n_seqs, a->batch->n_rows))
        return;
    p->tickets = (unsigned *)scratch;
    p->stats = (float *)(scratch + STATS_AT);
    p->o = (float *)(scratch + O_AT);
    p->n_splits = splits_for(a, (int64_t)a->batch->n_seqs * a->n_head_kv * p->n_tiles);
}

/* Fewer large tiles than this are cut into small ones, which take longer together, but less each:
 * two blocks for each SM. */
#define LARGE_TILES_MIN ATTN_BLOCKS_MAX

static int32_t attend_fast(struct attn_params *p, void *stream)
{
    const int64_t vectors = (int64_t)p->a.batch->seq_rows * p->group;
    const int32_t n_seqs = p->a.batch->n_seqs;
    if (vectors > 64) {
        const int64_t large = (vectors + 127) / 128 * n_seqs * p->a.n_head_kv;
        kern_attn_cut(p, large < LARGE_TILES_MIN ? 64 : 128);
        return kern_attn_prefill(p, n_seqs, stream);
    }
    kern_attn_cut(p, vectors > ATTN_QUERIES_FEW ? 16 : ATTN_QUERIES_FEW);
    return vectors > ATTN_QUERIES_FEW ? kern_attn_decode(p, n_seqs, stream)
                                      : kern_attn_decode_few(p, n_seqs, stream);
}

/* Whatever takes the tiles in the usual way; cudaErrorInvalidValue: the card has no room for the
 * fast ones. */
typedef int32_t launch_fn(const struct attn_params *p, int32_t n_seqs, void *stream);

/* Parts of p->a.part keys: each with a block of its own where so many blocks have room for their
 * results, else one after the other for all tiles at once. */
static int32_t attend_fixed(struct attn_params *p, int32_t queries, launch_fn *launch, void *stream)
{
    const struct kern_cuda_attn_args *a = &p->a;
    const int32_t n_seqs = a->batch->n_seqs, length = a->batch->seq_length;
    const int32_t span = a->window > 0 ? min(a->window + a->batch->seq_rows, length) : length;
    const int32_t n_parts = min(span / a->part + 2, (length + a->part - 1) / a->part);
    const size_t n_vectors = fixed_vectors(a->n_head, a->batch->n_rows);
    unsigned char *scratch = (unsigned char *)a->scratch;
    int32_t error = 0;
    if (!scratch || a->part % ATTN_PART_GRAIN ||
        a->scratch_bytes < kern_cuda_attn_scratch_fixed(a->n_head, a->head_dim_v, a->batch->n_rows))
        return cudaErrorInvalidConfiguration;
    p->part = a->part;
    p->queries = queries;
    p->n_tiles = (int32_t)(((int64_t)a->batch->seq_rows * p->group + queries - 1) / queries);
    p->n_splits = n_parts;
    p->tickets = (unsigned *)scratch;
    p->stats = (float *)(scratch + FIXED_STATS_AT);
    p->o = (float *)(scratch + FIXED_STATS_AT + n_vectors * 2 * sizeof(float));
    if ((int64_t)n_seqs * a->n_head_kv * p->n_tiles * n_parts <= ATTN_FIXED_BLOCKS)
        return launch(p, n_seqs, stream);
    p->tickets = NULL;
    p->n_splits = 1;
    for (p->first_part = 0; p->first_part < n_parts && !error; p->first_part++)
        error = launch(p, n_seqs, stream);
    return error;
}

/* Whether the fast kernel can store the rows in front: one of each sequence, heads that need no
 * other, and multiples of 16 bytes wherever it reads. */
static bool has_front(const struct attn_params *p, const struct kern_cuda_store_args *s)
{
    const uintptr_t at = (uintptr_t)s->q | (uintptr_t)s->k | (uintptr_t)s->v | (uintptr_t)s->cs |
                         (s->q_stride | s->k_stride | s->v_stride) * sizeof(float);
    const size_t turns = s->cs ? s->cs_stride | (size_t)s->n_rot : 0;
    const bool whole = (s->q_norm && s->q_norm_n != s->head_dim) ||
                       (s->k && s->k_norm && s->k_norm_n != s->head_dim);
    return p->a.part == 0 && p->a.batch->seq_rows == 1 && p->group <= ATTN_QUERIES_FEW &&
           !s->gates && !whole && at % 16 == 0 && turns % 4 == 0 && s->n_rot <= s->head_dim;
}

int32_t kern_attn_params(struct attn_params *out, const struct kern_cuda_attn_args *args)
{
    struct attn_params p = {};
    p.a = *args;
    p.a.head_dim_v = args->head_dim_v ? args->head_dim_v : args->head_dim;
    if (!p.a.kv.k_slot)
        p.a.kv.k_slot = kern_kv_bytes(p.a.kv.type, p.a.head_dim);
    if (!p.a.kv.v_slot)
        p.a.kv.v_slot = kern_kv_bytes(p.a.kv.type, p.a.head_dim_v);
    p.seqs = args->batch->seqs;
    p.group = args->n_head / args->n_head_kv;
    p.score_scale = args->softcap > 0.0f ? args->scale / args->softcap : args->scale * ATTN_LOG2E;
    p.o_stride = BASE_ALIGN_UP(p.a.head_dim_v, 4);
    const bool fast = is_fast(&p.a);
    if (fast && args->store && has_front(&p, args->store)) {
        p.front = 1;
        p.store = *args->store;
    }
    *out = p;
    return fast;
}

extern "C" int32_t kern_cuda_attn_paged(const struct kern_cuda_attn_args *args, void *stream)
{
    const struct kern_cuda_batch *batch = args->batch;
    struct attn_params p;
    if (batch->n_rows <= 0 || batch->n_seqs <= 0)
        return 0;
    const bool fast = kern_attn_params(&p, args), wide = is_wide(&p.a);
    int32_t error = args->store && !p.front ? kern_cuda_attn_store(args->store, stream) : 0;
    if (error)
        return error;
    if (fast || wide) {
        error = wide           ? kern_attn_wide(&p, stream)
                : p.a.part > 0 ? attend_fixed(&p, 16, kern_attn_decode, stream)
                               : attend_fast(&p, stream);
        if (error != cudaErrorInvalidValue)
            return error;
        (void)cudaGetLastError(); /* the card has too little shared memory */
        error = p.front ? kern_cuda_attn_store(args->store, stream) : 0;
        if (error)
            return error;
    }
    if (p.a.part > 0)
        return attend_fixed(&p, QUERIES, attend_launch, stream);
    kern_attn_cut(&p, QUERIES);
    return attend_launch(&p, batch->n_seqs, stream);
}
