/* A step of one sequence as one kernel: all layers, by blocks that stay, one on each
 * multiprocessor, and meet at a barrier between what depends on each other. Between kernels a step
 * loses, each time, the end of the one, a launch, and the begin of the next; here the next
 * product's first weights are on their way before its x is waited for, and no block is placed anew.
 * Products and attention are those of few.cuh and attn_decode.cuh, sums in the same order. */
#include "kernels/cuda/mega.cuh"

#include <cuda_runtime_api.h>

/* ------------------------------------------------------------------ the kernel */

#define TYPE(dtype, elements, body, side) few_type<kern_read_##dtype, elements, body, side, false>

/* Asks for the first weights of a product: each warp for itself, when it has done the one before.
 */
static __device__ __forceinline__ void begin_product(struct few_walk &walk,
                                                     const struct mega_op &op, unsigned char *ring)
{
    switch (op.kind) {
#define CASE(dtype, ...)                                                                           \
    case MEGA_##dtype:                                                                             \
        few_begin<TYPE(dtype, __VA_ARGS__)>(walk, op.job, ring, 0);                                \
        break;
        MEGA_TYPES(CASE)
#undef CASE
    default:
        break;
    }
}

/* `x` has room for the row. False where the operation is none. */
static __device__ __forceinline__ bool run_product(struct few_walk &walk, const struct mega_op &op,
                                                   unsigned char *x, unsigned char *ring)
{
    switch (op.kind) {
#define CASE(dtype, ...)                                                                           \
    case MEGA_##dtype: {                                                                           \
        using type = TYPE(dtype, __VA_ARGS__);                                                     \
        few_prepare<type, 1, MEGA_HELD>(x, op.job.args, op.job.args.x, op.job.k, op.job.n_units,   \
                                        1);                                                        \
        few_finish<type, 1, mega_stages<type>(), mega_stages<type>()>(walk, op.job, x, ring, 0, 0, \
                                                                      1);                          \
        return true;                                                                               \
    }
        MEGA_TYPES(CASE)
#undef CASE
    default:
        return false;
    }
}

/* Parts of the keys: as many as there are blocks for, and none shorter than is worth its joining.
 */
static __device__ __forceinline__ int32_t splits_of(const struct attn_params &p)
{
    const int32_t length = p.seqs[0].first_pos + 1;
    const int32_t span = p.a.window > 0 ? min(p.a.window + 1, length) : length;
    const int32_t n = min((int32_t)gridDim.x / p.a.n_head_kv,
                          (span + ATTN_SPLIT_KEYS_MIN - 1) / ATTN_SPLIT_KEYS_MIN);
    return max(1, min(n, ATTN_SPLITS_MAX));
}

/* Unit u: a KV head and a part of its keys. */
static __device__ __forceinline__ bool work_of(const struct attn_params &p, int32_t u,
                                               struct attn_work *w)
{
    w->head_kv = u / p.n_splits;
    w->split = u % p.n_splits;
    return attn_work_at(p, ATTN_QUERIES_FEW, ATTN_WARPS * ATTN_KEYS, 0, 0, w);
}

/* Attention of the row; keys of earlier steps are asked for before the grid is waited for. */
template <attn_kind kind, int d>
static __device__ __forceinline__ void run_attn(struct mega_op &op, unsigned char *shared,
                                                const struct kern_grid &grid)
{
    const struct attn_params &p = op.attn;
    if (threadIdx.x == 0)
        op.attn.n_splits = splits_of(p);
    __syncthreads();
    const int32_t n = p.a.n_head_kv * p.n_splits, stages = attn_stages(d);
    bool first = true;
    for (int32_t u = blockIdx.x; u < n; u += gridDim.x) {
        struct attn_work w;
        struct attn_tiles t;
        int fetched = 0;
        const bool live = work_of(p, u, &w);
        if (live && threadIdx.x < ATTN_THREADS)
            fetched = attn_begin<kind, d, true>(p, w, shared, stages, t);
        if (first)
            kern_grid_met(grid);
        first = false;
        t.stages = stages;
        if (live)
            attn_finish<kind, d, true, MEGA_THREADS>(p, w, shared, t, fetched);
        __syncthreads(); /* the next unit takes its place */
    }
    if (first)
        kern_grid_met(grid);
}

template <int d>
static __device__ __forceinline__ void run_attn_of(struct mega_op &op, unsigned char *shared,
                                                   const struct kern_grid &grid)
{
    switch (op.kind) {
#define CASE(cache, kind)                                                                          \
    case MEGA_ATTN_##kind:                                                                         \
        run_attn<ATTN_##kind, d>(op, shared, grid);                                                \
        break;
        MEGA_CACHES(CASE)
#undef CASE
    default:
        break;
    }
}

/* Operation i of the step, by all threads; a barrier is still needed. */
static __device__ __forceinline__ void load_op(struct mega_op *near, const struct kern_cuda_mega &m,
                                               int32_t i)
{
    uint64_t *to = (uint64_t *)&near[i % MEGA_NEAR];
    if (i < m.n_ops)
        for (int k = threadIdx.x; k < (int)(sizeof *near / sizeof *to); k += blockDim.x)
            to[k] = m.ops[i].words[k];
}

/* While attention works, it wants the registers in which the warp's walk over the next product's
 * weights lies: all lanes are at the same place, but for their 16 bytes. */
static __device__ __forceinline__ void park(struct few_walk *to, const struct few_walk &walk)
{
    if (threadIdx.x % KERN_WARP == 0)
        *to = walk;
    __syncwarp();
}

static __device__ __forceinline__ struct few_walk unpark(const struct few_walk *from)
{
    const int lane16 = threadIdx.x % KERN_WARP * 16;
    struct few_walk walk = *from;
    walk.source.body += lane16;
    walk.source.side += walk.source.side ? lane16 : 0;
    walk.source.body_left -= lane16;
    walk.source.side_left -= lane16;
    return walk;
}

/* ------------------------------------------------------------------- the choice */

/* In the order of the numbers, and of equal ones the first above those behind it; NaN above all. */
static __device__ __forceinline__ unsigned long long key_of(float x, int32_t at)
{
    if (x != x)
        return ~0ull;
    const uint32_t bits = __float_as_uint(x + 0.0f); /* -0 is 0 */
    const uint32_t order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (unsigned long long)order << 32 | (uint32_t)~at;
}

/* -1 where the largest is a NaN, infinite, or none. */
static __device__ __forceinline__ int32_t chosen_of(unsigned long long key)
{
    const uint32_t order = (uint32_t)(key >> 32);
    return order <= 0x007fffffu || order >= 0xff800000u ? -1 : (int32_t) ~(uint32_t)key;
}

/* Each block has a share of the numbers; the largest of all is counted by the second word behind
 * the barrier's, which the first block sets back. */
static __device__ __forceinline__ void choose(const struct kern_cuda_mega_choice &c,
                                              struct kern_grid &grid)
{
    KERN_SHARED(unsigned long long, of_warp, [MEGA_WARPS]);
    unsigned long long best = 0, *all = (unsigned long long *)grid.arrived + 1;
    for (int32_t i = blockIdx.x * MEGA_THREADS + threadIdx.x; i < c.n;
         i += gridDim.x * MEGA_THREADS) {
        float x = c.scale * c.x[i];
        if (c.cap > 0.0f)
            x = c.cap * tanhf(x / c.cap);
        best = max(best, key_of(x, i));
    }
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        best = max(best, __shfl_xor_sync(0xffffffffu, best, step));
    if (threadIdx.x % KERN_WARP == 0)
        of_warp[threadIdx.x / KERN_WARP] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < MEGA_WARPS; w++)
            best = max(best, of_warp[w]);
        atomicMax(all, best);
    }
    kern_grid_meet(grid);
    if (blockIdx.x > 0)
        return;
    kern_grid_met(grid);
    if (threadIdx.x == 0) {
        const int32_t id = chosen_of(*(volatile unsigned long long *)all);
        *all = 0;
        c.ids[0] = id;
        if (c.to)
            (*c.to)[0] = id;
    }
}

/* Heads of d. */
template <int d>
static __global__ void __launch_bounds__(MEGA_THREADS, 1)
    mega_step(const __grid_constant__ struct kern_cuda_mega m)
{
#ifdef MEGA_IS_BUILT
    KERN_SHARED_BYTES(shared);
    KERN_SHARED(struct mega_op, near, [MEGA_NEAR]);
    KERN_SHARED(struct few_walk, parked, [MEGA_WARPS]);
    struct kern_grid grid = {m.arrived, 0};
    struct few_walk walk;
    for (int32_t i = 0; i < MEGA_NEAR; i++)
        load_op(near, m, i);
    __syncthreads();
#pragma unroll 1
    for (int32_t i = -1; i < m.n_ops; i++) { /* -1: nothing but the begin of the first */
        int32_t next = 0;
        unsigned char *rest = shared + MEGA_WARPS * MEGA_RING + kern_nothing();
        unsigned char *ring = rest + (int)(threadIdx.x / KERN_WARP - MEGA_WARPS) * MEGA_RING;
        if (i >= 0 && near[i % MEGA_NEAR].kind >= MEGA_ATTN) {
            next = m.n_ops;
            park(&parked[threadIdx.x / KERN_WARP], walk);
            run_attn_of<d>(near[i % MEGA_NEAR], rest, grid);
            walk = unpark(&parked[threadIdx.x / KERN_WARP]);
        } else if (i >= 0) {
            const struct mega_op &op = near[i % MEGA_NEAR];
            next = op.next;
            if (i > 0 && !op.same)
                kern_grid_met(grid);
            run_product(walk, op, rest, ring);
        }
        if (next < m.n_ops)
            begin_product(walk, near[next % MEGA_NEAR], ring);
        if (i < 0)
            continue;
        if (i + 1 < m.n_ops && !near[(i + 1) % MEGA_NEAR].same)
            kern_grid_meet(grid);
        else
            __syncthreads();
        load_op(near, m, i + MEGA_NEAR);
    }
    if (m.choice.n > 0) {
        kern_grid_meet(grid);
        kern_grid_met(grid);
        choose(m.choice, grid);
    }
#endif
}

/* ------------------------------------------------------------------ the plan */

/* What a block can have beside the rings: the largest shared memory of a card that is aimed at,
 * less what the kernel names by itself. */
#define REST_MAX (227 * 1024 - MEGA_WARPS * MEGA_RING - 6 * 1024)

#define UNSUPPORTED ((int32_t)cudaErrorNotSupported)

static struct mega_op *add_op(struct kern_cuda_mega_plan *plan, int32_t kind, size_t rest)
{
    if (plan->n_ops == plan->room || rest > REST_MAX)
        return nullptr;
    struct mega_op *op = (struct mega_op *)&plan->ops[plan->n_ops++];
    memset((void *)op, 0, sizeof(struct kern_cuda_mega_op));
    op->kind = kind;
    plan->rest_bytes = rest > plan->rest_bytes ? rest : plan->rest_bytes;
    return op;
}

/* The parts of a product that are of one type (kern_few_launch_fn). */
template <typename Type, int32_t kind>
static int32_t record_product(const struct kern_few_job *job, bool gated, void *plan_of)
{
    struct kern_cuda_mega_plan *plan = (struct kern_cuda_mega_plan *)plan_of;
    struct kern_few_job filled = *job;
    if (plan->choice.x || job->args.m != 1 || job->args.expert || job->args.out_scale)
        return UNSUPPORTED;
    few_fill<Type>(filled, gated);
    filled.stages = mega_stages<Type>();
    struct mega_op *op = add_op(plan, kind, few_x_bytes<Type>(filled.n_units));
    if (!op)
        return UNSUPPORTED;
    op->same = plan->in_product++ > 0;
    op->job = filled;
    return 0;
}

static kern_few_launch_fn *recorder_of(infer_dtype type)
{
    switch (type) {
#define CASE(dtype, ...)                                                                           \
    case INFER_DTYPE_##dtype:                                                                      \
        return record_product<TYPE(dtype, __VA_ARGS__), MEGA_##dtype>;
        MEGA_TYPES(CASE)
#undef CASE
    default:
        return nullptr;
    }
}

static int32_t record_few(const struct kern_cuda_few_args *args, void *plan)
{
    ((struct kern_cuda_mega_plan *)plan)->in_product = 0;
    const int32_t error = kern_few_by_type(args, recorder_of, plan);
    return error == (int32_t)cudaErrorInvalidValue ? UNSUPPORTED : error;
}

/* The kind of attention for a cache, and its shared memory; MEGA_NONE: there is none. */
template <int d> static int32_t attn_kind_of(infer_dtype type, size_t *rest)
{
    switch (type) {
#define CASE(cache, kind)                                                                          \
    case INFER_DTYPE_##cache:                                                                      \
        *rest = attn_shared<ATTN_##kind, d, true>(attn_stages(d));                                 \
        return MEGA_ATTN_##kind;
        MEGA_CACHES(CASE)
#undef CASE
    default:
        return MEGA_NONE;
    }
}

static int32_t record_paged(const struct kern_cuda_attn_args *args, void *plan_of)
{
    struct kern_cuda_mega_plan *plan = (struct kern_cuda_mega_plan *)plan_of;
    struct attn_params p;
    if (plan->choice.x || args->batch->n_seqs != 1 || args->batch->n_rows != 1 ||
        !kern_attn_params(&p, args) || !p.front)
        return UNSUPPORTED;
    kern_attn_cut(&p, ATTN_QUERIES_FEW);
    size_t rest = 0;
    const int32_t dim = p.a.head_dim;
    const int32_t kind = dim == 64    ? attn_kind_of<64>(p.a.kv.type, &rest)
                         : dim == 128 ? attn_kind_of<128>(p.a.kv.type, &rest)
                                      : (int32_t)MEGA_NONE;
    if (!p.tickets || kind == MEGA_NONE || (plan->head_dim && plan->head_dim != dim))
        return UNSUPPORTED;
    struct mega_op *op = add_op(plan, kind, rest);
    if (!op)
        return UNSUPPORTED;
    plan->head_dim = dim;
    op->attn = p;
    op->attn.a.batch = nullptr;
    op->attn.store.batch = nullptr;
    op->attn.a.store = nullptr;
    return 0;
}

/* What becomes of the head's product: how it is scaled, which is the largest, and who is told. Each
 * once, behind the last operation. */
static int32_t record_logits(float *x, float scale, float cap, size_t n, void *plan_of)
{
    struct kern_cuda_mega_choice *c = &((struct kern_cuda_mega_plan *)plan_of)->choice;
    if (c->n || c->x || n > INT32_MAX || !(scale > 0.0f))
        return UNSUPPORTED;
    c->x = x;
    c->scale = scale;
    c->cap = cap;
    return 0;
}

static int32_t record_argmax(int32_t *ids, const float *x, int32_t n_rows, int32_t n, void *plan_of)
{
    struct kern_cuda_mega_choice *c = &((struct kern_cuda_mega_plan *)plan_of)->choice;
    if (c->n || n_rows != 1 || n <= 0 || (c->x && c->x != x))
        return UNSUPPORTED;
    if (!c->x) {
        c->scale = 1.0f;
        c->cap = 0.0f;
    }
    c->x = x;
    c->ids = ids;
    c->n = n;
    return 0;
}

static int32_t record_answer(int32_t *const *to, const int32_t *ids, int32_t n, void *plan_of)
{
    struct kern_cuda_mega_choice *c = &((struct kern_cuda_mega_plan *)plan_of)->choice;
    if (n != 1 || !c->n || c->to || c->ids != ids)
        return UNSUPPORTED;
    c->to = to;
    return 0;
}

/* In place of a launcher that has no operation. */
template <typename... Args> static int32_t refuse(Args...)
{
    return UNSUPPORTED;
}

extern "C" void kern_cuda_mega_record(struct kern_cuda *table)
{
    table->product.split = refuse;
    table->product.rows = refuse;
    table->product.add_rows = refuse;
    table->product.scales = refuse;
    table->product.few = record_few;
    table->product.many = refuse;
    table->rows.norm = refuse;
    table->rows.convert = refuse;
    table->rows.gate = refuse;
    table->rows.join = refuse;
    table->rows.add_bias = refuse;
    table->rows.gather = refuse;
    table->rows.logits = record_logits;
    table->rows.argmax = record_argmax;
    table->rows.sample = refuse;
    table->attn.rope = refuse;
    table->attn.store = refuse;
    table->attn.paged = record_paged;
    table->moe.route = refuse;
    table->moe.sort = refuse;
    table->moe.combine = refuse;
    table->lora.down = refuse;
    table->lora.up = refuse;
    table->latent.store = refuse;
    table->latent.attend = refuse;
    table->recur.scan = refuse;
    table->recur.delta = refuse;
    table->recur.finish = refuse;
    table->step.answer = record_answer;
}

/* The product behind each operation, whose weights are asked for as soon as the one before it is
 * done with its own. The first operation is one, else nothing would be on its way. */
static bool link_ops(struct kern_cuda_mega_plan *plan)
{
    int32_t next = plan->n_ops;
    for (int32_t i = plan->n_ops - 1; i >= 0; i--) {
        struct mega_op *op = (struct mega_op *)&plan->ops[i];
        op->next = next;
        if (op->kind < MEGA_ATTN)
            next = i;
        if (op->next - i >= MEGA_NEAR && op->next < plan->n_ops)
            return false;
    }
    return plan->n_ops > 0 && next == 0;
}

typedef void mega_kernel(const struct kern_cuda_mega m);

static mega_kernel *kernel_of(int32_t head_dim)
{
    return head_dim == 64 ? mega_step<64> : mega_step<128>;
}

extern "C" int32_t kern_cuda_mega_fit(struct kern_cuda_mega *out, struct kern_cuda_mega_plan *plan)
{
    struct kern_cuda_mega m = {};
    if (!link_ops(plan) || plan->head_dim == 0)
        return UNSUPPORTED;
    m.n_ops = plan->n_ops;
    m.head_dim = plan->head_dim;
    m.choice = plan->choice;
    m.shared_bytes = MEGA_WARPS * MEGA_RING + plan->rest_bytes;
    const int32_t error =
        kern_cooperative_blocks(&m.n_blocks, kernel_of(m.head_dim), MEGA_THREADS, m.shared_bytes);
    *out = m;
    return error ? error : m.n_blocks > 0 ? 0 : UNSUPPORTED;
}

extern "C" int32_t kern_cuda_mega_launch(const struct kern_cuda_mega *m, void *stream)
{
    return kern_launch_cooperative(kernel_of(m->head_dim), dim3((unsigned)m->n_blocks),
                                   dim3(MEGA_THREADS), m->shared_bytes, stream, *m);
}
