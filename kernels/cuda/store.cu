/* Between the products and attention: queries are shaped, keys and values go into the cache. */
#include "kernels/cuda/store.cuh"

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

/* Head, gate, head, gate ... of a row, which this block has all of: a warp a head. */
static __device__ __forceinline__ void load_gated(const struct store_job *job,
                                                  const struct vectors *v, size_t row)
{
    const struct kern_cuda_store_args *a = &job->args;
    const int lane = threadIdx.x % KERN_WARP;
    for (int h = threadIdx.x / KERN_WARP; h < v->n; h += blockDim.x / KERN_WARP) {
        const float *from = a->q + row * a->q_stride + (size_t)2 * h * v->dim;
        store_copy(v->x + h * v->dim, from, v->dim, lane, KERN_WARP);
        store_copy(a->gates + (row * a->n_head + h) * v->dim, from + v->dim, v->dim, lane,
                   KERN_WARP);
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
    store_copy(weights, v->norm + (v->norm_own ? v->first * v->dim : 0), n, threadIdx.x,
               blockDim.x);
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
        store_copy(v->x, a->q + row * a->q_stride + at, n, first, step);
    else if (v->kind == VALUES && a->v)
        store_copy(v->x, a->v + row * a->v_stride + at, n, first, step);
    else /* keys stay as they are in memory, so that values can be made of them */
        store_copy(v->x, a->k + row * a->k_stride + at, n, first, step);
    if (v->kind != VALUES && a->cs)
        store_copy(v->cs, a->cs + row * a->cs_stride, a->n_rot, first, step);
}

/* ------------------------------------------------------------------------ norms */

/* Over all heads of the row, which this block has. */
static __device__ void norm_whole(const struct store_job *job, const struct vectors *v)
{
    const int n = v->n * v->dim, first = threadIdx.x, step = blockDim.x;
    double mean = 0.0;
    __syncthreads();
    if (job->args.norm_layer)
        mean = kern_block_sum(store_sum_of(v->x, n, first, step, 0.0, false)) / (double)n;
    const double squares = kern_block_sum(store_sum_of(v->x, n, first, step, mean, true));
    store_scale_of(v->x, v->norm, n, first, step, mean, store_factor_of(squares, n, job->args.eps));
    __syncthreads();
}

/* Each warp over its heads, one after the other. */
static __device__ void norm_heads(const struct store_job *job, const struct vectors *v)
{
    const int n = v->dim;
    for (int h = threadIdx.x / KERN_WARP; h < v->n; h += blockDim.x / KERN_WARP)
        store_norm_one(v->x + h * n, v->norm && v->norm_own ? v->norm + h * n : v->norm, n,
                       job->args.norm_layer, job->args.eps);
}

static __device__ __forceinline__ void norm_vectors(const struct store_job *job,
                                                    const struct vectors *v)
{
    if (v->norm_whole)
        norm_whole(job, v);
    else
        norm_heads(job, v);
}

static __device__ __forceinline__ void
finish_vector(const struct store_job *job, const struct vectors *v, int h, size_t row, int position)
{
    const struct kern_cuda_store_args *a = &job->args;
    const int lane = threadIdx.x % KERN_WARP, head = v->first + h;
    float *x = v->x + h * v->dim;
    if (v->kind == QUERIES && a->grow_scale > 0.0f)
        store_grow(a, x, v->dim, position);
    if (v->kind != VALUES && a->rotated)
        store_hadamard(x, v->dim);
    if (v->kind == QUERIES) {
        store_copy(a->q + row * a->q_stride + (size_t)head * v->dim, x, v->dim, lane, KERN_WARP);
    } else {
        const int tokens = a->kv.block_tokens;
        const size_t slot = (size_t)head * tokens + position % tokens;
        store_narrow(v->page + slot * (v->kind == VALUES ? a->kv.v_slot : a->kv.k_slot), x, v->dim,
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
    /* Written by what begins a step, which is done by now (see attn_decode.cu). */
    const int sequence = job.batch.seq_of[row], position = job.batch.pos[row];
    const bool few = job.batch.n_rows <= FEW_ROWS, gated = v.kind == QUERIES && a->gates;
    load_weights(&job, &v, (float *)shared);
    if (few && v.kind != QUERIES && sequence >= 0)
        v.page = store_page_of(&a->kv, sequence, position, v.kind == VALUES);
    kern_wait();
    if (!gated) /* not behind the sequence: both are on their way together */
        load_vectors(&job, &v, row);
    if (sequence < 0)
        return;
    if (gated)
        load_vectors(&job, &v, row);
    if (!few && v.kind != QUERIES)
        v.page = store_page_of(&a->kv, sequence, position, v.kind == VALUES);
    __syncthreads();
    if (v.kind == VALUES ? a->v_norm : v.norm && !a->norm_late)
        norm_vectors(&job, &v);
    if (v.kind != VALUES && a->cs)
        for (int h = threadIdx.x / KERN_WARP; h < v.n; h += n_warps)
            store_rope(v.x + h * v.dim, v.cs, a->n_rot, a->rope_pairs);
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
