/* Attention of encoders (FlashAttention-2; Dao, arXiv:2307.08691): every row of a text sees the
 * others of its text. A block takes 64 queries of a head, 16 a warp, and goes through the keys in
 * tiles; there is no cache, keys and values are read as the products left them, F32, and narrowed
 * on the way into shared memory.
 *
 * Tensor cores multiply numbers of 16 bits. Where the weights have no more either, factors become
 * F16. Where they are F32, a factor is the sum of three numbers of BF16, which together have its 24
 * bits, and a product is the six of theirs that matter (Henry, Tang and Heinecke,
 * arXiv:1904.06376): that is still faster than products of F32, and errs no more. */
#include "kernels/cuda/attn_tile.cuh"

#define WARPS   4
#define THREADS (WARPS * KERN_WARP)
#define QUERIES KERN_CUDA_TEXT_QUERIES
static_assert(QUERIES == WARPS * 16, "a warp takes 16");

/* Shared memory: a tile of keys and one of values, each part by part, and the queries as fragments.
 * It stays below the 99 KiB that a block may have on the smallest card. */
template <int d, bool exact> struct layout {
    static constexpr attn_kind kind = exact ? ATTN_BF16 : ATTN_F16;
    static constexpr int parts = exact ? 3 : 1;
    static constexpr int keys = exact && d > 32 ? 32 : 64;
    static constexpr int blocks = d < 128 ? 4 : exact ? 2 : 3; /* that an SM has room for */
    static constexpr int part = keys * (d + 8);                /* elements */
    static constexpr int fragments = d / 16 * KERN_WARP;       /* of a part of a warp's queries */
    static constexpr size_t tiles = (size_t)2 * parts * part * 2;
    static constexpr size_t bytes = tiles + (size_t)parts * WARPS * fragments * 16;
    static_assert(bytes <= 99 * 1024, "a block fits");
};

struct text_params {
    struct kern_cuda_text_args a;
    float score_scale; /* of q.k, in units of log 2 */
    int wide;          /* four neighbours are read and stored at once */
};

/* What a block does. */
struct text_work {
    struct kern_cuda_text_tile tile;
    int head, head_kv;
    int begin, end; /* keys that any of its queries sees */
    float slope;
};

/* How much a score falls a position (ALiBi; Press et al., arXiv:2108.12409), in units of log 2. */
static __device__ __forceinline__ float slope_of(int head, int n_heads)
{
    int n = 1;
    while (2 * n <= n_heads)
        n *= 2;
    const double power = head < n ? -8.0 * (head + 1) / n : -4.0 * (2 * (head - n) + 1) / n;
    return (float)(exp2(power) * 1.4426950408889634);
}

static __device__ __forceinline__ struct text_work work_of(const struct text_params &p)
{
    struct text_work w;
    const int tile = (int)blockIdx.x / p.a.n_head;
    w.head = (int)blockIdx.x - tile * p.a.n_head;
    w.head_kv = w.head / (p.a.n_head / p.a.n_head_kv);
    w.tile = p.a.tiles[tile];
    w.begin = 0;
    w.end = w.tile.n;
    if (p.a.reach > 0) {
        w.begin = max(w.tile.first - p.a.reach, 0);
        w.end = min(w.tile.first + QUERIES + p.a.reach, w.tile.n);
    }
    w.slope = p.a.alibi ? slope_of(w.head, p.a.n_head) : 0.0f;
    return w;
}

/* Elements at .. at + 3 of a vector of n. */
static __device__ __forceinline__ float4 load_four(const float *x, int at, int n, bool wide)
{
    if (wide && at < n)
        return *(const float4 *)(x + at);
    return make_float4(at < n ? x[at] : 0.0f, at + 1 < n ? x[at + 1] : 0.0f,
                       at + 2 < n ? x[at + 2] : 0.0f, at + 3 < n ? x[at + 3] : 0.0f);
}

/* NaN stays what it is. */
static __device__ __forceinline__ float saturated(float x)
{
    x = x > 65504.0f ? 65504.0f : x;
    return x < -65504.0f ? -65504.0f : x;
}

/* Two numbers in the parts that are multiplied. */
template <bool exact>
static __device__ __forceinline__ void cut(uint32_t out[], float low, float high)
{
    if constexpr (exact) {
#pragma unroll
        for (int i = 0; i < 3; i++) {
            out[i] = attn_pack<ATTN_BF16>(low, high);
            low -= kern_bf16_low(out[i]);
            high -= kern_bf16_high(out[i]);
        }
    } else {
        out[0] = attn_pack<ATTN_F16>(saturated(low), saturated(high));
    }
}

/* Rows of a tile, of which the text has n, and zeros up to `padded`; loads are under way together.
 */
template <int d, bool exact>
static __device__ __forceinline__ void load_tile(const struct text_params &p, uint16_t *to,
                                                 const float *from, int n, int padded)
{
    using shape = layout<d, exact>;
    constexpr int units = d / 4, together = 4;
    for (int first = threadIdx.x; first < padded * units; first += together * THREADS) {
        float4 x[together];
#pragma unroll
        for (int k = 0; k < together; k++) {
            const int i = first + k * THREADS, row = i / units;
            x[k] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (row < n)
                x[k] =
                    load_four(from + (size_t)row * p.a.stride, i % units * 4, p.a.head_dim, p.wide);
        }
#pragma unroll
        for (int k = 0; k < together; k++) {
            const int i = first + k * THREADS, row = i / units;
            uint32_t low[shape::parts], high[shape::parts];
            if (row >= padded)
                break;
            cut<exact>(low, x[k].x, x[k].y);
            cut<exact>(high, x[k].z, x[k].w);
#pragma unroll
            for (int part = 0; part < shape::parts; part++)
                *(uint2 *)(to + part * shape::part + row * (d + 8) + i % units * 4) =
                    make_uint2(low[part], high[part]);
        }
    }
}

/* The warp's own 16, 16 dims a fragment, 16 bytes a lane. */
template <int d, bool exact>
static __device__ __forceinline__ void load_queries(const struct text_params &p,
                                                    const struct text_work &w, uint4 *q)
{
    using shape = layout<d, exact>;
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int v = w.tile.first + warp * 16 + lane / 4;
    const float *from = p.a.q + (size_t)(w.tile.row + v) * p.a.stride + w.head * p.a.head_dim;
#pragma unroll 2
    for (int step = 0; step < d / 16; step++) {
        uint32_t a[4][shape::parts];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int at = step * 16 + k / 2 * 8 + lane % 4 * 2;
            const float *x = from + (size_t)(k % 2 * 8) * p.a.stride + at;
            const bool there = v + k % 2 * 8 < w.tile.n;
            const float low = there && at < p.a.head_dim ? x[0] : 0.0f;
            const float high = there && at + 1 < p.a.head_dim ? x[1] : 0.0f;
            cut<exact>(a[k], low * p.score_scale, high * p.score_scale);
        }
#pragma unroll
        for (int part = 0; part < shape::parts; part++)
            q[part * shape::fragments + step * KERN_WARP + lane] =
                make_uint4(a[0][part], a[1][part], a[2][part], a[3][part]);
    }
}

/* sum += the products of the parts of a and b, but for those below the last bit. */
template <int d, bool exact>
static __device__ __forceinline__ void
multiply(float sum[4], const uint32_t a[layout<d, exact>::parts][4],
         const uint32_t b[layout<d, exact>::parts][4], int upper)
{
    constexpr int parts = layout<d, exact>::parts;
#pragma unroll
    for (int i = parts - 1; i >= 0; i--)
#pragma unroll
        for (int k = parts - 1 - i; k >= 0; k--)
            attn_mma<layout<d, exact>::kind>(sum, a[i], b[k] + upper * 2);
}

/* Scores of the first n keys of a tile, rounded up to 16. */
template <int d, bool exact>
static __device__ __forceinline__ void scores_of(float s[layout<d, exact>::keys / 8][4],
                                                 const uint4 *q, const uint16_t *k, int n)
{
    using shape = layout<d, exact>;
#pragma unroll
    for (int i = 0; i < shape::keys / 2; i++)
        s[i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int step = 0; step < d / 16; step++) {
        uint32_t a[shape::parts][4], b[shape::parts][4];
#pragma unroll
        for (int part = 0; part < shape::parts; part++) {
            const uint4 x = q[part * shape::fragments + step * KERN_WARP + threadIdx.x % KERN_WARP];
            a[part][0] = x.x;
            a[part][1] = x.y;
            a[part][2] = x.z;
            a[part][3] = x.w;
        }
#pragma unroll
        for (int i = 0; i < shape::keys / 16; i++) {
            if (i * 16 >= n)
                break;
#pragma unroll
            for (int part = 0; part < shape::parts; part++)
                attn_keys<d>(b[part], k + part * shape::part + i * 16 * (d + 8), step * 16);
            multiply<d, exact>(s[i * 2], a, b, 0);
            multiply<d, exact>(s[i * 2 + 1], a, b, 1);
        }
    }
}

/* Whether any of the warp's queries sees any of the keys from j on. */
static __device__ __forceinline__ bool sees(const struct text_params &p, const struct text_work &w,
                                            int j, int keys)
{
    const int v = w.tile.first + (int)threadIdx.x / KERN_WARP * 16;
    if (v >= w.tile.n)
        return false;
    return p.a.reach <= 0 || (j <= v + 15 + p.a.reach && j + keys > v - p.a.reach);
}

/* What distance does to the scores of keys from j on, and where there is nothing to see. */
template <int keys>
static __device__ __forceinline__ void place(const struct text_params &p, const struct text_work &w,
                                             float s[keys / 8][4], int j)
{
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int v = w.tile.first + warp * 16;
    const int from = p.a.reach > 0 ? v + 15 - p.a.reach : 0;
    const int to = p.a.reach > 0 ? min(w.end, v + p.a.reach + 1) : w.end;
    if (j >= from && j + keys <= to && w.slope == 0.0f)
        return;
#pragma unroll
    for (int i = 0; i < keys / 2; i++) {
        const int key = j + i / 4 * 8 + lane % 4 * 2 + i % 2;
        const int distance = abs(key - (v + lane / 4 + i / 2 % 2 * 8));
        float *x = &s[i / 4][i % 4];
        *x -= w.slope * (float)distance;
        if (key >= w.end || (p.a.reach > 0 && distance > p.a.reach))
            *x = -INFINITY;
    }
}

template <int d, bool exact>
static __device__ __forceinline__ void add_values(float o[d / 8][4],
                                                  const float s[layout<d, exact>::keys / 8][4],
                                                  const uint16_t *v, int n)
{
    using shape = layout<d, exact>;
#pragma unroll
    for (int i = 0; i < shape::keys / 16; i++) {
        uint32_t a[shape::parts][4];
        if (i * 16 >= n)
            break;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t x[shape::parts];
            cut<exact>(x, s[i * 2 + k / 2][k % 2 * 2], s[i * 2 + k / 2][k % 2 * 2 + 1]);
#pragma unroll
            for (int part = 0; part < shape::parts; part++)
                a[part][k] = x[part];
        }
#pragma unroll
        for (int step = 0; step < d / 16; step++) {
            uint32_t b[shape::parts][4];
#pragma unroll
            for (int part = 0; part < shape::parts; part++)
                attn_values<d>(b[part], v + part * shape::part + i * 16 * (d + 8), step * 16);
            multiply<d, exact>(o[step * 2], a, b, 0);
            multiply<d, exact>(o[step * 2 + 1], a, b, 1);
        }
    }
}

/* Elements at and at + 1 of a row's output. */
static __device__ __forceinline__ void store_pair(const struct text_params &p, unsigned char *out,
                                                  int at, float low, float high)
{
    const int n = p.a.head_dim;
    if (p.a.out_rows == KERN_CUDA_ROWS_BF16) {
        __nv_bfloat16 *y = (__nv_bfloat16 *)out + at;
        if (p.wide && at < n)
            *(uint32_t *)y = attn_pack<ATTN_BF16>(low, high);
        else if (at < n)
            *y = __float2bfloat16_rn(low);
        if (!p.wide && at + 1 < n)
            y[1] = __float2bfloat16_rn(high);
        return;
    }
    float *y = (float *)out + at;
    if (p.wide && at < n)
        *(float2 *)y = make_float2(low, high);
    else if (at < n)
        *y = low;
    if (!p.wide && at + 1 < n)
        y[1] = high;
}

template <int d>
static __device__ __forceinline__ void store(const struct text_params &p, const struct text_work &w,
                                             const float o[d / 8][4], const float l[2])
{
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const size_t head =
        (size_t)w.head * p.a.head_dim * (p.a.out_rows == KERN_CUDA_ROWS_BF16 ? 2 : sizeof(float));
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int v = w.tile.first + warp * 16 + lane / 4 + r * 8;
        float sum = l[r] + __shfl_xor_sync(0xffffffffu, l[r], 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float norm = 1.0f / sum;
        unsigned char *out =
            (unsigned char *)p.a.out + (size_t)(w.tile.row + v) * p.a.out_stride + head;
        if (v >= w.tile.n)
            continue;
#pragma unroll
        for (int i = 0; i < d / 8; i++)
            store_pair(p, out, i * 8 + lane % 4 * 2, o[i][r * 2] * norm, o[i][r * 2 + 1] * norm);
    }
}

template <int d, bool exact>
static __global__ void __launch_bounds__(THREADS, layout<d, exact>::blocks)
    attend(const struct text_params p)
{
    using shape = layout<d, exact>;
    KERN_SHARED_BYTES(shared);
    uint16_t *k = (uint16_t *)shared, *v = k + shape::parts * shape::part;
    uint4 *q = (uint4 *)(shared + shape::tiles) +
               threadIdx.x / KERN_WARP * shape::parts * shape::fragments;
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f}, o[d / 8][4];
    kern_wait();
    kern_release();
    const struct text_work w = work_of(p);
    const size_t at = (size_t)w.tile.row * p.a.stride + w.head_kv * p.a.head_dim;
    load_queries<d, exact>(p, w, q);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < d / 2; i++)
        o[i / 4][i % 4] = 0.0f;
    for (int j = w.begin; j < w.end; j += shape::keys) {
        const int n = min(shape::keys, w.end - j), padded = (n + 15) / 16 * 16;
        float s[shape::keys / 8][4];
        __syncthreads(); /* the tile before has been read */
        load_tile<d, exact>(p, k, p.a.k + at + (size_t)j * p.a.stride, n, padded);
        load_tile<d, exact>(p, v, p.a.v + at + (size_t)j * p.a.stride, n, padded);
        __syncthreads();
        if (!sees(p, w, j, n))
            continue;
        scores_of<d, exact>(s, q, k, n);
        place<shape::keys>(p, w, s, j);
        attn_weigh<d, shape::keys>(m, l, o, s);
        add_values<d, exact>(o, s, v, n);
    }
    store<d>(p, w, o, l);
}

template <int d> static int32_t launch(const struct text_params *p, void *stream)
{
    const dim3 grid((unsigned)(p->a.n_tiles * p->a.n_head));
    return p->a.exact ? kern_launch(attend<d, true>, grid, dim3(THREADS), layout<d, true>::bytes,
                                    stream, *p)
                      : kern_launch(attend<d, false>, grid, dim3(THREADS), layout<d, false>::bytes,
                                    stream, *p);
}

extern "C" int32_t kern_cuda_text_attend(const struct kern_cuda_text_args *args, void *stream)
{
    struct text_params p = {};
    const uintptr_t at = (uintptr_t)args->q | (uintptr_t)args->k | (uintptr_t)args->v |
                         (uintptr_t)args->out | args->out_stride | args->stride * sizeof(float) |
                         (size_t)args->head_dim * sizeof(float);
    if (args->n_tiles <= 0)
        return 0;
    if (args->head_dim > KERN_CUDA_TEXT_HEAD_MAX)
        return (int32_t)cudaErrorInvalidValue;
    p.a = *args;
    p.score_scale = args->scale * ATTN_LOG2E;
    p.wide = (at & 15) == 0;
    if (args->head_dim <= 32)
        return launch<32>(&p, stream);
    return args->head_dim <= 64 ? launch<64>(&p, stream) : launch<128>(&p, stream);
}
