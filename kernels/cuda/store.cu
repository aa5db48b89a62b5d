/* Between the products and attention: queries are shaped, keys and values go into the cache. */
#include "kernels/cuda/rows.cuh"

/* ----------------------------------------------------------------- rotations */

#define ROPE_THREADS 128

static __global__ void __launch_bounds__(ROPE_THREADS)
    rope_angles(float *cs, const int32_t *pos, int n_rows, const double *frequency,
                const double *far, int n_near, int n_pairs, float magnitude)
{
    kern_wait();
    kern_release();
    const int at = blockIdx.x * ROPE_THREADS + threadIdx.x, row = at / n_pairs, i = at % n_pairs;
    if (row >= n_rows)
        return;
    const int position = pos[row];
    const double angle = position * (far && position >= n_near ? far : frequency)[i];
    float *to = cs + (size_t)row * 2 * n_pairs;
    to[i] = (float)cos(angle) * magnitude;
    to[n_pairs + i] = (float)sin(angle) * magnitude;
}

extern "C" int32_t kern_cuda_attn_rope(float *cs, const int32_t *pos, int32_t n_rows,
                                       const double *frequency, const double *far, int32_t n_near,
                                       int32_t n_pairs, float magnitude, void *stream)
{
    if (n_rows <= 0 || n_pairs <= 0)
        return 0;
    const unsigned blocks =
        ((unsigned)n_rows * (unsigned)n_pairs + ROPE_THREADS - 1) / ROPE_THREADS;
    return kern_launch(rope_angles, dim3(blocks), dim3(ROPE_THREADS), 0, stream, cs, pos, n_rows,
                       frequency, far, n_near, n_pairs, magnitude);
}

/* ------------------------------------------------------------------- narrowing */

#define KV_BLOCK 32
#define KV_NAN   0x7e00u

/* As kernels/ref/half.h has it, NaN included. */
static __device__ __forceinline__ uint32_t half_bits(float x)
{
    const uint32_t bits = __float_as_uint(x), size = bits & 0x7fffffffu;
    if (size > 0x7f800000u)
        return (bits >> 16 & 0x8000u) | 0x7e00u | (size >> 13 & 0x3ffu);
    return __half_as_ushort(__float2half_rn(x));
}

static __device__ __forceinline__ float of_half(uint32_t bits)
{
    return __half2float(__ushort_as_half((unsigned short)bits));
}

static __device__ __forceinline__ uint32_t bf16_bits(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

/* As kern_e4m3_of_float(). */
static __device__ __forceinline__ uint32_t e4m3_bits(float x)
{
    const uint32_t bits = __float_as_uint(x), size = bits & 0x7fffffffu, sign = bits >> 24 & 0x80u;
    if (size >= 0x43e00000u)
        return sign | (size > 0x7f800000u ? 0x7fu : 0x7eu);
    if (size < 0x3c800000u)
        return sign | (__float_as_uint(__uint_as_float(size) + 16384.0f) - 0x46800000u);
    return sign | (size - 0x3c000000u + 0x7ffffu + (size >> 20 & 1u)) >> 20;
}

static __device__ __forceinline__ bool half_is_finite(uint32_t bits)
{
    return (bits & 0x7c00u) != 0x7c00u;
}

/* Integers in the order of the floats, NaN outermost; its own inverse. */
static __device__ __forceinline__ int in_order(int bits)
{
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

static __device__ __forceinline__ int code(float v, int low, int high)
{
    const float c = rintf(v);
    return c <= (float)low ? low : c >= (float)high ? high : (int)c;
}

static __device__ __forceinline__ int warp_max(int value)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        value = max(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

/* Slots lie anywhere, so that halves are stored by bytes. */
static __device__ __forceinline__ void store_bytes(uint8_t *dst, uint32_t bits)
{
    dst[0] = (uint8_t)(bits & 0xff);
    dst[1] = (uint8_t)(bits >> 8);
}

/* One block: lane i has element i, of which there are n. */
static __device__ __forceinline__ void narrow_q8(uint8_t *dst, float x, int n)
{
    const int lane = threadIdx.x % KERN_WARP;
    const int amax = warp_max(lane < n ? __float_as_int(x) & 0x7fffffff : 0);
    uint32_t bits = half_bits(__int_as_float(amax) / 127.0f);
    bits = half_is_finite(bits) ? bits : KV_NAN;
    const float d = of_half(bits);
    if (lane == 0)
        store_bytes(dst, bits);
    if (lane < n)
        dst[2 + lane] = (uint8_t)(d > 0.0f ? code(x / d, -127, 127) : 0);
}

static __device__ __forceinline__ void narrow_q4(uint8_t *dst, float x, int n)
{
    const int lane = threadIdx.x % KERN_WARP, order = in_order(__float_as_int(x));
    const float high = __int_as_float(in_order(warp_max(lane < n ? order : INT32_MIN)));
    const float low = __int_as_float(in_order(~warp_max(lane < n ? ~order : INT32_MIN)));
    uint32_t m_bits = half_bits(low);
    const float range = high - of_half(m_bits);
    uint32_t d_bits = half_bits(range > 0.0f ? range / 15.0f : range * 0.0f);
    if (!half_is_finite(m_bits) || !half_is_finite(d_bits))
        m_bits = d_bits = KV_NAN;
    d_bits &= 0x7fffu;
    const float d = of_half(d_bits), m = of_half(m_bits);
    const int q = d > 0.0f && lane < n ? code((x - m) / d, 0, 15) : 0;
    const int next = __shfl_down_sync(0xffffffffu, q, 1);
    if (lane == 0) {
        store_bytes(dst, d_bits);
        store_bytes(dst + 2, m_bits);
    }
    if (lane % 2 == 0 && lane < n)
        dst[4 + lane / 2] = (uint8_t)(q | next << 4);
}

/* One vector of n from shared memory, by a warp (kern_narrow_fn). */
static __device__ void narrow(uint8_t *dst, const float *x, int n, int type)
{
    const int lane = threadIdx.x % KERN_WARP;
#pragma unroll 1
    for (int at = 0; at < n; at += KV_BLOCK) {
        const int i = at + lane, left = n - at < KV_BLOCK ? n - at : KV_BLOCK;
        const float value = i < n ? x[i] : 0.0f;
        if (type == INFER_DTYPE_Q8_0)
            narrow_q8(dst + at / KV_BLOCK * (KV_BLOCK + 2), value, left);
        else if (type == INFER_DTYPE_Q4_1)
            narrow_q4(dst + at / KV_BLOCK * (KV_BLOCK / 2 + 4), value, left);
        else if (i < n && type == INFER_DTYPE_F8_E4M3)
            dst[i] = (uint8_t)e4m3_bits(value);
        else if (i < n && type == INFER_DTYPE_F32)
            ((float *)dst)[i] = value;
        else if (i < n)
            ((uint16_t *)dst)[i] =
                (uint16_t)(type == INFER_DTYPE_F16 ? half_bits(value) : bf16_bits(value));
    }
}

/* ------------------------------------------------------------------- the vectors */

#define STORE_THREADS_MAX 512

enum { QUERIES, KEYS, VALUES };

struct store_job {
    struct kern_cuda_store_args args;
    struct kern_cuda_batch batch;
    int32_t parts[3]; /* blocks of a row, by kind */
    int32_t heads[3]; /* that a block takes */
};

/* The heads that a block has in shared memory. */
struct vectors {
    float *x, *cs;
    uint8_t *page; /* that keys or values go to */
    int kind, first, n, dim;
    const float *norm; /* weights, in shared memory, too: `norm_own` of them for each head */
    int norm_own, norm_whole;
};

static __device__ __forceinline__ struct vectors my_vectors(const struct store_job *job)
{
    const struct kern_cuda_store_args *a = &job->args;
    struct vectors v = {};
    int part = blockIdx.y;
    while (part >= job->parts[v.kind])
        part -= job->parts[v.kind++];
    v.first = part * job->heads[v.kind];
    v.n = min(job->heads[v.kind], (v.kind == QUERIES ? a->n_head : a->n_head_kv) - v.first);
    v.dim = v.kind == VALUES ? a->head_dim_v : a->head_dim;
    if (v.kind == VALUES)
        return v;
    v.norm = v.kind == QUERIES ? a->q_norm : a->k_norm;
    v.norm_whole = v.norm && (v.kind == QUERIES ? a->q_norm_n : a->k_norm_n) != a->head_dim;
    v.norm_own = v.norm_whole || (v.kind == QUERIES ? a->q_norm_each : a->k_norm_each);
    return v;
}

/* n elements by `step` threads, of which this is number `first`. */
static __device__ __forceinline__ void copy(float *to, const float *from, int n, int first,
                                            int step)
{
    const int wide = (((uintptr_t)to | (uintptr_t)from) & 15) == 0 ? n / 4 : 0;
#pragma unroll 2
    for (int i = first; i < wide; i += step)
        ((float4 *)to)[i] = ((const float4 *)from)[i];
#pragma unroll 1
    for (int i = 4 * wide + first; i < n; i += step)
        to[i] = from[i];
}

/* Head, gate, head, gate ... of a row, which this block has all of: a warp a head. */
static __device__ __forceinline__ void load_gated(const struct store_job *job,
                                                  const struct vectors *v, size_t row)
{
    const struct kern_cuda_store_args *a = &job->args;
    const int lane = threadIdx.x % KERN_WARP;
    for (int h = threadIdx.x / KERN_WARP; h < v->n; h += blockDim.x / KERN_WARP) {
        const float *from = a->q + row * a->q_stride + (size_t)2 * h * v->dim;
        copy(v->x + h * v->dim, from, v->dim, lane, KERN_WARP);
        copy(a->gates + (row * a->n_head + h) * v->dim, from + v->dim, v->dim, lane, KERN_WARP);
    }
}

/* Parts shared memory and brings the norm's weights there, for which no kernel is waited. */
static __device__ __forceinline__ void load_weights(const struct store_job *job, struct vectors *v,
                                                    float *shared)
{
    const int n = v->norm ? v->dim * (v->norm_own ? v->n : 1) : 0;
    float *weights = shared + BASE_ALIGN_UP(job->args.n_rot, 4);
    v->cs = shared;
    v->x = weights + BASE_ALIGN_UP(n, 4);
    if (n == 0)
        return;
    copy(weights, v->norm + (v->norm_own ? v->first * v->dim : 0), n, threadIdx.x, blockDim.x);
    v->norm = weights;
}

static __device__ __forceinline__ void load_vectors(const struct store_job *job,
                                                    const struct vectors *v, size_t row)
{
    const struct kern_cuda_store_args *a = &job->args;
    const size_t at = (size_t)v->first * v->dim;
    const int n = v->n * v->dim, first = threadIdx.x, step = blockDim.x;
    if (v->kind == QUERIES && a->gates)
        load_gated(job, v, row);
    else if (v->kind == QUERIES)
        copy(v->x, a->q + row * a->q_stride + at, n, first, step);
    else if (v->kind == VALUES && a->v)
        copy(v->x, a->v + row * a->v_stride + at, n, first, step);
    else /* keys stay as they are in memory, so that values can be made of them */
        copy(v->x, a->k + row * a->k_stride + at, n, first, step);
    if (v->kind != VALUES && a->cs)
        copy(v->cs, a->cs + row * a->cs_stride, a->n_rot, first, step);
}

/* ------------------------------------------------------------------------ norms */

/* What of x, `step` threads of which each begins at `first`, goes into a sum. */
static __device__ __forceinline__ double sum_of(const float *x, int n, int first, int step,
                                                double mean, bool square)
{
    double sum = 0.0;
#pragma unroll 2
    for (int i = first; i < n; i += step) {
        const double d = (double)x[i] - mean;
        sum += square ? d * d : d;
    }
    return sum;
}

static __device__ __forceinline__ void scale_of(float *x, const float *w, int n, int first,
                                                int step, double mean, double factor)
{
#pragma unroll 2
    for (int i = first; i < n; i += step)
        x[i] = (float)(((double)x[i] - mean) * factor * (w ? (double)w[i] : 1.0));
}

static __device__ __forceinline__ double factor_of(double squares, int n, float eps)
{
    return 1.0 / sqrt(squares / (double)n + (double)eps);
}

/* Over all heads of the row, which this block has. */
static __device__ void norm_whole(const struct store_job *job, const struct vectors *v)
{
    const int n = v->n * v->dim, first = threadIdx.x, step = blockDim.x;
    double mean = 0.0;
    __syncthreads();
    if (job->args.norm_layer)
        mean = kern_block_sum(sum_of(v->x, n, first, step, 0.0, false)) / (double)n;
    const double squares = kern_block_sum(sum_of(v->x, n, first, step, mean, true));
    scale_of(v->x, v->norm, n, first, step, mean, factor_of(squares, n, job->args.eps));
    __syncthreads();
}

/* Each warp over its heads, one after the other. */
static __device__ void norm_heads(const struct store_job *job, const struct vectors *v)
{
    const int lane = threadIdx.x % KERN_WARP, n = v->dim;
    for (int h = threadIdx.x / KERN_WARP; h < v->n; h += blockDim.x / KERN_WARP) {
        float *x = v->x + h * n;
        const float *w = v->norm && v->norm_own ? v->norm + h * n : v->norm;
        double mean = 0.0;
        if (job->args.norm_layer)
            mean = kern_warp_sum_double(sum_of(x, n, lane, KERN_WARP, 0.0, false)) / (double)n;
        const double squares = kern_warp_sum_double(sum_of(x, n, lane, KERN_WARP, mean, true));
        scale_of(x, w, n, lane, KERN_WARP, mean, factor_of(squares, n, job->args.eps));
        __syncwarp();
    }
}

static __device__ __forceinline__ void norm_vectors(const struct store_job *job,
                                                    const struct vectors *v)
{
    if (v->norm_whole)
        norm_whole(job, v);
    else
        norm_heads(job, v);
}

/* --------------------------------------------------------- a warp and one vector */

/* In double as the reference: products of floats are exact there. */
static __device__ __forceinline__ void rope(float *x, const float *cs, int n_rot, int pairs)
{
    const int n_pairs = n_rot / 2;
#pragma unroll 2
    for (int i = threadIdx.x % KERN_WARP; i < n_pairs; i += KERN_WARP) {
        float *a = x + (pairs ? 2 * i : i), *b = a + (pairs ? 1 : n_pairs);
        const double va = (double)*a, vb = (double)*b;
        const double c = (double)cs[i], s = (double)cs[n_pairs + i];
        *a = (float)(va * c - vb * s);
        *b = (float)(va * s + vb * c);
    }
    __syncwarp();
}

static __device__ __forceinline__ void grow(const struct kern_cuda_store_args *a, float *x, int n,
                                            int position)
{
    const double turns = floor((double)(position + a->grow_offset) / max(a->grow_length, 1));
    const float factor = (float)(1.0 + (double)a->grow_scale * log1p(turns));
#pragma unroll 2
    for (int i = threadIdx.x % KERN_WARP; i < n; i += KERN_WARP)
        x[i] *= factor;
    __syncwarp();
}

/* kern_rotate_fn: transforms of the largest power of two that divides n, side by side. */
static __device__ __forceinline__ void hadamard(float *x, int n)
{
    const int power = n & -n, lane = threadIdx.x % KERN_WARP;
    if (power == 1)
        return;
    for (int step = 1; step < power; step *= 2) {
#pragma unroll 2
        for (int i = lane; i < n / 2; i += KERN_WARP) {
            const int at = i / step * 2 * step + i % step;
            const float a = x[at], b = x[at + step];
            x[at] = a + b;
            x[at + step] = a - b;
        }
        __syncwarp();
    }
    const float scale = 1.0f / sqrtf((float)power);
#pragma unroll 2
    for (int i = lane; i < n; i += KERN_WARP)
        x[i] *= scale;
    __syncwarp();
}

static __device__ __forceinline__ uint8_t *page_of(const struct kern_cuda_kv *kv, int sequence,
                                                   int position, bool value)
{
    const int32_t *table = kv->tables + (size_t)sequence * kv->table_stride;
    return (value ? kv->v : kv->k) + (size_t)table[position / kv->block_tokens] * kv->block_stride;
}

static __device__ __forceinline__ void
finish_vector(const struct store_job *job, const struct vectors *v, int h, size_t row, int position)
{
    const struct kern_cuda_store_args *a = &job->args;
    const int lane = threadIdx.x % KERN_WARP, head = v->first + h;
    float *x = v->x + h * v->dim;
    if (v->kind == QUERIES && a->grow_scale > 0.0f)
        grow(a, x, v->dim, position);
    if (v->kind != VALUES && a->rotated)
        hadamard(x, v->dim);
    if (v->kind == QUERIES) {
        copy(a->q + row * a->q_stride + (size_t)head * v->dim, x, v->dim, lane, KERN_WARP);
    } else {
        const int tokens = a->kv.block_tokens;
        const size_t slot = (size_t)head * tokens + position % tokens;
        narrow(v->page + slot * (v->kind == VALUES ? a->kv.v_slot : a->kv.k_slot), x, v->dim,
               a->kv.type);
    }
}

/* Of so few rows the page is looked up ahead of the wait; of more, whose blocks come one after the
 * other and find nothing to wait for, while vectors arrive. */
#define FEW_ROWS 64

/* Blocks are (row, some heads of queries, keys or values). */
static __global__ void __launch_bounds__(STORE_THREADS_MAX, 2) store(const struct store_job job)
{
    KERN_SHARED_BYTES(shared);
    const struct kern_cuda_store_args *a = &job.args;
    kern_release();
    struct vectors v = my_vectors(&job);
    const size_t row = blockIdx.x;
    const int n_warps = blockDim.x / KERN_WARP;
    /* Written by the copy that begins a step, not by a kernel. */
    const int sequence = job.batch.seq_of[row], position = job.batch.pos[row];
    const bool few = job.batch.n_rows <= FEW_ROWS, gated = v.kind == QUERIES && a->gates;
    load_weights(&job, &v, (float *)shared);
    if (few && v.kind != QUERIES && sequence >= 0)
        v.page = page_of(&a->kv, sequence, position, v.kind == VALUES);
    kern_wait();
    if (!gated) /* not behind the sequence: both are on their way together */
        load_vectors(&job, &v, row);
    if (sequence < 0)
        return;
    if (gated)
        load_vectors(&job, &v, row);
    if (!few && v.kind != QUERIES)
        v.page = page_of(&a->kv, sequence, position, v.kind == VALUES);
    __syncthreads();
    if (v.kind == VALUES ? a->v_norm : v.norm && !a->norm_late)
        norm_vectors(&job, &v);
    if (v.kind != VALUES && a->cs)
        for (int h = threadIdx.x / KERN_WARP; h < v.n; h += n_warps)
            rope(v.x + h * v.dim, v.cs, a->n_rot, a->rope_pairs);
    if (v.kind != VALUES && ((v.norm && a->norm_late) || a->unit))
        norm_vectors(&job, &v);
    for (int h = threadIdx.x / KERN_WARP; h < v.n; h += n_warps)
        finish_vector(&job, &v, h, row, position);
}

/* Warps, and so heads, of a block where heads do not wait for each other. */
#define STORE_WARPS 4

/* Heads of one kind: all in one block where `whole`, else one for each warp. */
static void part_heads(struct store_job *job, int kind, int n_heads, bool whole)
{
    job->heads[kind] = whole ? n_heads : STORE_WARPS;
    job->parts[kind] = (n_heads + job->heads[kind] - 1) / job->heads[kind];
}

/* Of shared memory, for vectors and the weights of their norm. */
static size_t floats_of(int n_heads, int dim, const float *norm, bool own)
{
    const size_t n = (size_t)n_heads * (size_t)dim, weights = own ? n : (size_t)dim;
    return n + (norm ? BASE_ALIGN_UP(weights, (size_t)4) : 0);
}

extern "C" int32_t kern_cuda_attn_store(const struct kern_cuda_store_args *args, void *stream)
{
    struct store_job job = {};
    const int dim = args->head_dim, dim_v = args->head_dim_v;
    const bool whole_q = args->gates || (args->q_norm && args->q_norm_n != dim);
    const bool whole_k = args->k && args->k_norm && args->k_norm_n != dim;
    job.args = *args;
    job.batch = *args->batch;
    if (job.batch.n_rows <= 0)
        return 0;
    part_heads(&job, QUERIES, args->n_head, whole_q);
    if (args->k)
        part_heads(&job, KEYS, args->n_head_kv, whole_k);
    if (args->k && args->kv.v != args->kv.k)
        part_heads(&job, VALUES, args->n_head_kv, false);
    size_t floats = (size_t)job.heads[VALUES] * (size_t)dim_v;
    floats = BASE_MAX(
        floats, floats_of(job.heads[QUERIES], dim, args->q_norm, whole_q || args->q_norm_each));
    floats = BASE_MAX(floats,
                      floats_of(job.heads[KEYS], dim, args->k_norm, whole_k || args->k_norm_each));
    floats += BASE_ALIGN_UP((size_t)args->n_rot, (size_t)4);
    const unsigned parts = (unsigned)(job.parts[QUERIES] + job.parts[KEYS] + job.parts[VALUES]);
    const unsigned threads = whole_q || whole_k ? STORE_THREADS_MAX : STORE_WARPS * KERN_WARP;
    return kern_launch(store, dim3((unsigned)job.batch.n_rows, parts), dim3(threads), floats * 4,
                       stream, job);
}
