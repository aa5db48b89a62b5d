/* What the attention kernels share: which keys a block of threads takes, how a score becomes a
 * weight, and how parts of a softmax are joined.
 *
 * The query vectors of a KV head are counted as kern_attn_fn does: vector i of a sequence is row
 * i / group under head head_kv * group + i % group. A block takes a tile of successive ones. */
#ifndef KERNELS_CUDA_ATTN_CUH
#define KERNELS_CUDA_ATTN_CUH

#include "kernels/cuda/device.cuh"

#define ATTN_LOG2E 1.4426950408889634f

/* The keys of one tile of queries are cut into at most so many parts, and not at all once there
 * are so many blocks without. */
#define ATTN_SPLITS_MAX     64
#define ATTN_BLOCKS_MAX     264
#define ATTN_QUERIES_MAX    16  /* of a tile whose keys are cut */
#define ATTN_SPLIT_KEYS_MIN 128 /* joining takes as long as reading some hundred keys */
#define ATTN_QUERIES_FEW    8   /* of the smaller of those tiles */
#ifndef ATTN_FIXED_BLOCKS
#define ATTN_FIXED_BLOCKS 4096 /* for parts at fixed places; tests have fewer */
#endif

#define ATTN_WIDE 512 /* elements of a head that attn_wide.cu takes */

struct attn_params {
    struct kern_cuda_attn_args a; /* a.batch is the host's */
    const struct kern_cuda_seq *seqs;
    int32_t group, n_tiles, n_splits;
    int32_t queries;   /* vectors of a tile */
    float score_scale; /* of q.k, in units of log 2 unless there is a softcap */
    /* Parts: tickets, then (max, sum) of each vector, then vectors of o_stride floats. */
    unsigned *tickets;
    float *stats, *o;
    int32_t o_stride;
    int32_t part;       /* keys of a part, if cut at its multiples; 0: cut to fill the card */
    int32_t first_part; /* of a tile that this launch takes */
    int32_t front;      /* the rows' own queries, keys and values come as the products left them */
    struct kern_cuda_store_args store;
};

/* Parts that are cut at fixed places begin on multiples of this: each warp of a kernel can then
 * take the same keys of them, whatever tile they are looked at from. */
#define ATTN_PART_GRAIN 64

/* Keys begin .. end - 1 for vectors first .. first + n - 1. */
struct attn_work {
    struct kern_cuda_seq seq;
    const int32_t *blocks;
    int32_t head_kv, first, n;
    int32_t begin, end;
    int32_t seen;            /* the first that any of the vectors sees */
    int32_t split, n_active; /* of n_active parts that are not empty */
    int32_t tile;            /* among all of the launch */
};

static __device__ __forceinline__ int32_t attn_first_seen(const struct attn_params &p, int32_t pos)
{
    const int32_t window = p.a.window > 0 && pos >= p.a.window ? pos - p.a.window + 1 : 0;
    const int32_t chunk = p.a.chunk > 0 ? pos - pos % p.a.chunk : 0;
    return max(window, chunk);
}

/* The row of a vector among those of its sequence. Divisions are long on a card: the usual step of
 * one row does without. */
static __device__ __forceinline__ int32_t attn_row(const struct attn_params &p,
                                                   const struct attn_work &w, int32_t vector)
{
    return w.seq.n_rows == 1 ? 0 : (w.first + vector) / p.group;
}

/* Where tile and sequence are known. False where the block has nothing to do. Parts begin on
 * multiples of 16, which no block of the cache crosses. The cut depends on the sequence's own
 * length and on n_splits alone, so a row's bits depend on the other sequences only by what the
 * launcher derives n_splits from; cut at fixed places, on nothing but the row's own position, as a
 * part of which it sees nothing adds zeros. */
static __device__ __forceinline__ bool attn_work_at(const struct attn_params &p, int32_t queries,
                                                    int32_t grain, int32_t tile, int32_t sequence,
                                                    struct attn_work *w)
{
    w->seq = p.seqs[sequence];
    w->tile = (sequence * p.a.n_head_kv + w->head_kv) * p.n_tiles + tile;
    w->blocks = p.a.kv.tables + (size_t)sequence * p.a.kv.table_stride;
    w->first = tile * queries;
    w->n = min(queries, w->seq.n_rows * p.group - w->first);
    if (w->n <= 0)
        return false;
    const int32_t low = w->seq.first_pos + attn_row(p, *w, 0);
    const int32_t high = w->seq.first_pos + attn_row(p, *w, w->n - 1);
    w->seen = attn_first_seen(p, low);
    if (p.part > 0) {
        const int32_t first = w->seen / p.part, at = (first + w->split) * p.part;
        w->n_active = high / p.part - first + 1;
        w->begin = max(at, w->seen / 16 * 16);
        w->end = min(at + p.part, high + 1);
        return w->split < w->n_active;
    }
    const int32_t begin = w->seen / 16 * 16, n_keys = high + 1 - begin;
    int32_t part = n_keys;
    w->n_active = 1;
    if (p.n_splits > 1) {
        part = ((n_keys + p.n_splits - 1) / p.n_splits + grain - 1) / grain * grain;
        w->n_active = (n_keys + part - 1) / part;
    }
    w->begin = begin + w->split * part;
    w->end = min(w->begin + part, high + 1);
    return w->split < w->n_active;
}

/* The work of a block of a grid of (tiles and their parts, KV heads, sequences). */
static __device__ __forceinline__ bool attn_work_of(const struct attn_params &p, int32_t queries,
                                                    int32_t grain, struct attn_work *w)
{
    int32_t tile = 0;
    w->split = (int32_t)blockIdx.x;
    if (p.n_tiles > 1) {
        tile = p.n_tiles - 1 - (int32_t)blockIdx.x / p.n_splits; /* longest first */
        w->split = (int32_t)blockIdx.x % p.n_splits;
    }
    w->split += p.first_part;
    w->head_kv = (int32_t)blockIdx.y;
    return attn_work_at(p, queries, grain, tile, (int32_t)blockIdx.z, w);
}

static __device__ __forceinline__ int32_t attn_pos(const struct attn_params &p,
                                                   const struct attn_work &w, int32_t vector)
{
    return w.seq.first_pos + attn_row(p, w, vector);
}

static __device__ __forceinline__ int32_t attn_head(const struct attn_params &p,
                                                    const struct attn_work &w, int32_t vector)
{
    return w.head_kv * p.group + w.first + vector - attn_row(p, w, vector) * p.group;
}

static __device__ __forceinline__ const float *attn_query(const struct attn_params &p,
                                                          const struct attn_work &w, int32_t vector)
{
    const size_t row = (size_t)(w.seq.row + attn_row(p, w, vector));
    return p.a.q + row * p.a.q_stride + (size_t)attn_head(p, w, vector) * p.a.head_dim;
}

/* Bytes from block 0 of the layer to the slot of key j. */
static __device__ __forceinline__ size_t attn_slot(const struct attn_params &p,
                                                   const struct attn_work &w, int32_t block,
                                                   int32_t j, size_t slot)
{
    const int32_t tokens = p.a.kv.block_tokens;
    return (size_t)block * p.a.kv.block_stride +
           (size_t)(w.head_kv * tokens + (j & (tokens - 1))) * slot;
}

/* A product of q and k times score_scale as a score in units of log 2. */
static __device__ __forceinline__ float attn_score(const struct attn_params &p, float s)
{
    return p.a.softcap > 0.0f ? ATTN_LOG2E * p.a.softcap * tanhf(s) : s;
}

/* 2 to the power of x, within two places; what a float has no normal number for becomes zero. */
static __device__ __forceinline__ float attn_exp2(float x)
{
#ifdef KERN_CUDA_EMULATED
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* What exponents are relative to: never -infinity, from which differences have no value. */
static __device__ __forceinline__ float attn_base(float maximum)
{
    return maximum == -INFINITY ? 0.0f : maximum;
}

/* The factor that brings a part with maximum m and sum l to one; the sink joins the sum. */
static __device__ __forceinline__ float attn_norm(const struct attn_params &p, int32_t head,
                                                  float m, float l)
{
    if (p.a.sinks) {
        const float sink = p.a.sinks[head] * ATTN_LOG2E, base = attn_base(fmaxf(m, sink));
        const float shrink = attn_exp2(m - base);
        l = fmaf(l, shrink, attn_exp2(sink - base));
        return l == 0.0f ? 0.0f : shrink / l;
    }
    return l == 0.0f ? 0.0f : 1.0f / l;
}

/* Elements i .. i + n - 1 (n <= 4) of the output of a row under a head. */
static __device__ __forceinline__ void attn_store_at(const struct attn_params &p, int32_t row,
                                                     int32_t head, int32_t i, int32_t n,
                                                     const float *value)
{
    const size_t at = (size_t)head * p.a.head_dim_v + (size_t)i;
    unsigned char *out = (unsigned char *)p.a.out + (size_t)row * p.a.out_stride;
    const bool narrow = p.a.out_rows == KERN_CUDA_ROWS_BF16;
    float x[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int32_t k = 0; k < 4; k++)
        x[k] = k < n ? value[k] : 0.0f;
    if (p.a.gates) {
        const float *gates = p.a.gates + (size_t)row * p.a.n_head * p.a.head_dim_v + at;
#pragma unroll
        for (int32_t k = 0; k < 4; k++)
            if (k < n)
                x[k] = __fdividef(x[k], 1.0f + attn_exp2(-gates[k] * ATTN_LOG2E));
    }
    out += at * (narrow ? 2 : 4);
    if (n == 4 && !narrow && ((uintptr_t)out & 15) == 0) {
        *(float4 *)out = make_float4(x[0], x[1], x[2], x[3]);
        return;
    }
#pragma unroll
    for (int32_t k = 0; k < 4; k++) {
        if (k >= n)
            break;
        if (narrow)
            ((__nv_bfloat16 *)out)[k] = __float2bfloat16_rn(x[k]);
        else
            ((float *)out)[k] = x[k];
    }
}

static __device__ __forceinline__ void attn_store(const struct attn_params &p,
                                                  const struct attn_work &w, int32_t vector,
                                                  int32_t i, int32_t n, const float *value)
{
    const int32_t row = w.seq.row + attn_row(p, w, vector);
    attn_store_at(p, row, attn_head(p, w, vector), i, n, value);
}

/* The number of those who came before, of `most` + 1 in all. Each sees what the ones before it, and
 * all threads that met them at a barrier, had written. */
static __device__ __forceinline__ int32_t attn_ticket(unsigned *ticket, unsigned most)
{
#ifdef KERN_CUDA_EMULATED
    return (int32_t)atomicInc(ticket, most);
#else
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(__cvta_generic_to_global(ticket)), "r"(most)
                 : "memory");
    return (int32_t)before;
#endif
}

/* What each of at most ATTN_SPLITS_MAX parts of vector v counts for, by a warp; part0: the first of
 * the tile's, in vectors. */
static __device__ __forceinline__ void attn_part_weights(const struct attn_params &p,
                                                         const struct attn_work &w, size_t part0,
                                                         int32_t queries, int32_t v, float *weight)
{
    const int32_t lane = threadIdx.x % KERN_WARP;
    float m[2], l[2];
    for (int32_t k = 0; k < 2; k++) {
        const int32_t i = lane + k * KERN_WARP;
        const float *at = p.stats + (part0 + (size_t)i * queries + v) * 2;
        m[k] = i < w.n_active ? __ldcg(at) : -INFINITY;
        l[k] = i < w.n_active ? __ldcg(at + 1) : 0.0f;
    }
    const float most = kern_warp_max(fmaxf(m[0], m[1])), base = attn_base(most);
    m[0] = attn_exp2(m[0] - base);
    m[1] = attn_exp2(m[1] - base);
    const float sum = kern_warp_sum(l[0] * m[0] + l[1] * m[1]);
    const float norm = attn_norm(p, attn_head(p, w, v), most, sum);
    weight[lane] = m[0] * norm;
    weight[lane + KERN_WARP] = m[1] * norm;
}

/* Elements 4 quad .. 4 quad + 3 of vector v from its parts, in their order. */
static __device__ __forceinline__ void attn_join_quad(const struct attn_params &p,
                                                      const struct attn_work &w, size_t part0,
                                                      int32_t queries, int32_t v, int32_t quad,
                                                      const float *weight)
{
    const float *o = p.o + (part0 + v) * p.o_stride + quad * 4;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 8
    for (int32_t k = 0; k < w.n_active; k++) {
        const float4 x = __ldcg((const float4 *)(o + (size_t)k * queries * p.o_stride));
        const float f = weight[k];
        sum[0] += f * x.x;
        sum[1] += f * x.y;
        sum[2] += f * x.z;
        sum[3] += f * x.w;
    }
    attn_store(p, w, v, quad * 4, min(4, p.a.head_dim_v - quad * 4), sum);
}

/* The parts of a tile joined, by the block that finishes last, in the order of the parts. */
static __device__ __forceinline__ void
attn_join(const struct attn_params &p, const struct attn_work &w, int32_t queries, float *weight)
{
    const size_t part0 = (size_t)w.tile * p.n_splits * queries;
    const int32_t n_warps = blockDim.x / KERN_WARP;
    for (int32_t v = threadIdx.x / KERN_WARP; v < w.n; v += n_warps)
        attn_part_weights(p, w, part0, queries, v, weight + v * ATTN_SPLITS_MAX);
    __syncthreads();
    const int32_t n_quads = p.o_stride / 4;
    for (int32_t i = threadIdx.x; i < w.n * n_quads; i += blockDim.x)
        attn_join_quad(p, w, part0, queries, i / n_quads, i % n_quads,
                       weight + i / n_quads * ATTN_SPLITS_MAX);
}

/* ------------------------------------------------------- parts at fixed places */

/* What is known of a vector, elements of it, and what the next part adds: always in this order and
 * with these roundings, whether one block takes the parts or one after the other does. */
struct attn_sofar {
    float m, l, o[4];
};

static __device__ __forceinline__ void attn_fold(struct attn_sofar *s, float m, float l,
                                                 const float4 &o)
{
    const float most = fmaxf(s->m, m), base = attn_base(most);
    const float old = attn_exp2(s->m - base), added = attn_exp2(m - base);
    s->m = most;
    s->l = fmaf(s->l, old, __fmul_rn(l, added));
    s->o[0] = fmaf(s->o[0], old, __fmul_rn(o.x, added));
    s->o[1] = fmaf(s->o[1], old, __fmul_rn(o.y, added));
    s->o[2] = fmaf(s->o[2], old, __fmul_rn(o.z, added));
    s->o[3] = fmaf(s->o[3], old, __fmul_rn(o.w, added));
}

static __device__ __forceinline__ struct attn_sofar attn_begin(float m, float l, const float4 &o)
{
    return {m, l, {o.x, o.y, o.z, o.w}};
}

static __device__ __forceinline__ void attn_finish(const struct attn_params &p,
                                                   const struct attn_work &w, int32_t v,
                                                   int32_t quad, const struct attn_sofar &s)
{
    const float norm = attn_norm(p, attn_head(p, w, v), s.m, s.l);
    const float y[4] = {__fmul_rn(s.o[0], norm), __fmul_rn(s.o[1], norm), __fmul_rn(s.o[2], norm),
                        __fmul_rn(s.o[3], norm)};
    attn_store(p, w, v, quad * 4, min(4, p.a.head_dim_v - quad * 4), y);
}

/* attn_join_quad() of them. */
static __device__ __forceinline__ void attn_fixed_quad(const struct attn_params &p,
                                                       const struct attn_work &w, size_t part0,
                                                       int32_t queries, int32_t v, int32_t quad)
{
    struct attn_sofar s;
    for (int32_t k = 0; k < w.n_active; k++) {
        const size_t at = part0 + (size_t)k * queries + v;
        const float m = __ldcg(p.stats + at * 2), l = __ldcg(p.stats + at * 2 + 1);
        const float4 o = __ldcg((const float4 *)(p.o + at * p.o_stride + quad * 4));
        if (k == 0)
            s = attn_begin(m, l, o);
        else
            attn_fold(&s, m, l, o);
    }
    attn_finish(p, w, v, quad, s);
}

/* attn_join() of them. */
static __device__ __forceinline__ void attn_join_fixed(const struct attn_params &p,
                                                       const struct attn_work &w, int32_t queries)
{
    const size_t part0 = (size_t)w.tile * p.n_splits * queries;
    const int32_t n_quads = p.o_stride / 4;
    for (int32_t i = threadIdx.x; i < w.n * n_quads; i += blockDim.x)
        attn_fixed_quad(p, w, part0, queries, i / n_quads, i % n_quads);
}

/* attn_end() where parts are launched one after the other: a vector's place is by row and head. */
static __device__ __forceinline__ void attn_end_next(const struct attn_params &p,
                                                     const struct attn_work &w, const float *o,
                                                     int32_t stride, const float *m, const float *l)
{
    const int32_t n_quads = p.o_stride / 4;
    const bool is_last = w.split == w.n_active - 1;
    for (int32_t i = threadIdx.x; i < w.n * n_quads; i += blockDim.x) {
        const int32_t v = i / n_quads, quad = i % n_quads;
        const size_t row = (size_t)(w.seq.row + attn_row(p, w, v));
        const size_t at = row * p.a.n_head + attn_head(p, w, v);
        float4 *place = (float4 *)(p.o + at * p.o_stride + quad * 4);
        const float4 x = *(const float4 *)(o + (size_t)v * stride + quad * 4);
        struct attn_sofar s = attn_begin(m[v], l[v], x);
        if (w.split > 0) {
            s = attn_begin(p.stats[at * 2], p.stats[at * 2 + 1], *place);
            attn_fold(&s, m[v], l[v], x);
        }
        if (is_last)
            attn_finish(p, w, v, quad, s);
        else
            *place = make_float4(s.o[0], s.o[1], s.o[2], s.o[3]);
    }
    if (is_last)
        return;
    __syncthreads(); /* all have read what is written now */
    for (int32_t v = threadIdx.x; v < w.n; v += blockDim.x) {
        const size_t row = (size_t)(w.seq.row + attn_row(p, w, v));
        float *stats = p.stats + (row * p.a.n_head + attn_head(p, w, v)) * 2;
        const float4 none = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        struct attn_sofar s = attn_begin(m[v], l[v], none);
        if (w.split > 0) {
            s = attn_begin(stats[0], stats[1], none);
            attn_fold(&s, m[v], l[v], none);
        }
        stats[0] = s.m;
        stats[1] = s.l;
    }
}

/* Ends a block whose vectors v lie in shared memory at o + v * stride, relative to exp2(m[v]),
 * with the sums l[v]; all threads come here behind a barrier. o has room for ATTN_SPLITS_MAX floats
 * a vector. `fixed`: parts may lie at fixed places. */
template <bool fixed = true>
static __device__ __forceinline__ void
attn_end(const struct attn_params &p, const struct attn_work &w, int32_t queries, float *o,
         int32_t stride, const float *m, const float *l)
{
    KERN_SHARED(bool, last, );
    const int32_t n_quads = p.o_stride / 4;
    if (fixed && p.part > 0 && !p.tickets) {
        attn_end_next(p, w, o, stride, m, l);
        return;
    }
    const bool whole = w.n_active == 1;
    const size_t part = ((size_t)w.tile * p.n_splits + w.split - p.first_part) * queries;
    for (int32_t i = threadIdx.x; i < w.n * n_quads; i += blockDim.x) {
        const int32_t v = i / n_quads, quad = i % n_quads;
        float4 x = *(const float4 *)(o + (size_t)v * stride + quad * 4);
        if (!whole) {
            *(float4 *)(p.o + (part + v) * p.o_stride + quad * 4) = x;
            continue;
        }
        const float norm = attn_norm(p, attn_head(p, w, v), m[v], l[v]);
        const float y[4] = {__fmul_rn(x.x, norm), __fmul_rn(x.y, norm), __fmul_rn(x.z, norm),
                            __fmul_rn(x.w, norm)};
        attn_store(p, w, v, quad * 4, min(4, p.a.head_dim_v - quad * 4), y);
    }
    if (whole)
        return;
    for (int32_t v = threadIdx.x; v < w.n; v += blockDim.x) {
        p.stats[(part + v) * 2] = m[v];
        p.stats[(part + v) * 2 + 1] = l[v];
    }
    __syncthreads();
    if (threadIdx.x == 0)
        last = attn_ticket(p.tickets + w.tile, (unsigned)w.n_active - 1) == w.n_active - 1;
    __syncthreads();
    if (!last)
        return;
    if (p.part > 0)
        attn_join_fixed(p, w, queries);
    else
        attn_join(p, w, queries, o); /* which has been read */
}

/* What a launch hands on, but for the cut; whether the kernels with tensor cores take it. */
int32_t kern_attn_params(struct attn_params *out, const struct kern_cuda_attn_args *args);

/* Tiles of `queries` vectors, and parts of their keys where there is scratch to join them. */
void kern_attn_cut(struct attn_params *p, int32_t queries);

/* Heads of ATTN_WIDE elements, with scratch of kern_attn_wide_scratch() bytes at least, where what
 * kern_cuda_attn_paged() calls aligned; *p gets its cut. */
int32_t kern_attn_wide(struct attn_params *p, void *stream);
size_t kern_attn_wide_scratch(bool fixed);

/* Launchers of the two kernels with tensor cores (attn_decode.cu, attn_prefill.cu); both want
 * what kern_cuda_attn_paged() calls fast. */
typedef int32_t kern_attn_launch_fn(const struct attn_params *p, int32_t n_seqs, void *stream);
kern_attn_launch_fn kern_attn_decode_few; /* tiles of 8 vectors */
kern_attn_launch_fn kern_attn_decode;     /* of 16 */
kern_attn_launch_fn kern_attn_prefill;    /* of 128 or 64 */

#endif
