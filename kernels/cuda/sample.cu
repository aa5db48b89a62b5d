/* Sampling: from a row of logits to one token, one block a row, nothing sorted. Two passes over a
 * row that a draw is made of as usual: its highest score, then its weights, in which the few
 * entries that top-k and top-p can keep are listed in shared memory. Where more than the list holds
 * could stay (flat rows, equal scores), passes over the row narrow down where the cut is. */
#include "kernels/cuda/sample_row.cuh"

/* The k-th largest among the largest of parts of a row is not above the k-th largest of all, and
 * not many entries lie above it while k is well below the number of parts. */
#define PARTS_FEW     (SAMPLE_THREADS / 4)
#define K_FEW         (PARTS_FEW / 2)
#define K_MANY        (SAMPLE_THREADS * 3 / 4)
#define PARTS_OF_MASS K_FEW /* where top-p alone is on: as many for a try */

/* ------------------------------------------------------------------ first guess */

/* An order that at least k entries, and few more, are not before: of the threads' largest the k-th,
 * or somewhat less. 0: none is known. */
static __device__ uint64_t guess(struct work *work, const struct survey *s, int n, int k)
{
    struct sample_list *list = &work->list;
    if (n <= SAMPLE_LISTED || k > K_MANY)
        return 0;
    const int each = k <= K_FEW ? SAMPLE_THREADS / PARTS_FEW : 1;
    const int n_parts = SAMPLE_THREADS / each;
    __syncthreads();
    if ((int)threadIdx.x < n_parts) {
        float high = work->part[threadIdx.x];
        for (int i = 1; i < each; i++)
            high = fmaxf(high, work->part[threadIdx.x + i * n_parts]);
        list->score[threadIdx.x] = high;
        list->weight[threadIdx.x] = 1.0f;
        list->id[threadIdx.x] = 0;
    }
    if (threadIdx.x == 0)
        list->n = n_parts;
    __syncthreads();
    struct sample_range range = {sample_order(s->lowest, SAMPLE_ID_MASK),
                                 sample_order(s->best.value, 0) + 1, 0, (unsigned)n_parts};
    for (int i = 0; i < 4 && range.inside > 8; i++)
        list_narrow<SAMPLE_BY_SCORE>(list, k, &range);
    return range.low & ~(uint64_t)SAMPLE_ID_MASK;
}

/* ------------------------------------------------------------------ the draw */

static __device__ __forceinline__ sample_weight target_of(const struct kern_cuda_sample_row *p,
                                                          sample_weight total)
{
    const double u = sample_uniform(p->seed, p->sequence, p->position);
    return min((sample_weight)(u * (double)total), total - 1);
}

/* Of the pieces from `begin` on, no more than a warp has lanes. */
template <int W>
static __device__ void draw_piece(const struct row *row, int begin, int end, sample_weight target,
                                  int *token)
{
    const int lane = threadIdx.x % KERN_WARP, i = begin + lane;
    kern_piece<W> x = kern_piece_fill<W>(-INFINITY);
    sample_weight weight[W], mine = 0;
    if (i < end)
        x = masked<W>(row, kern_piece_load<W>(row->x + (size_t)i * W), i);
#pragma unroll
    for (int e = 0; e < W; e++) {
        weight[e] = i < end ? sample_fixed(weight_of(row, x.v[e], i * W + e)) : 0;
        mine += weight[e];
    }
    sample_weight upto = mine;
    for (int step = 1; step < KERN_WARP; step *= 2) {
        const sample_weight other = __shfl_up_sync(0xffffffffu, upto, step);
        if (lane >= step)
            upto += other;
    }
    if (upto <= target || upto - mine > target)
        return;
    sample_weight sum = upto - mine;
    int chosen = i * W;
#pragma unroll
    for (int e = 0; e < W; e++) {
        chosen = sum <= target ? i * W + e : chosen;
        sum += weight[e];
    }
    *token = chosen;
}

/* The token at which the weight by rising id exceeds `target`; of_warp[] has the sums of the whole
 * row. */
template <int W>
static __device__ int draw_row(const struct row *row, struct work *work, sample_weight target)
{
    __shared__ int token;
    int begin = 0, end = row->n / W;
    for (;;) {
        const int run = run_of(begin, end);
        int warp = 0;
        while (warp + 1 < SAMPLE_WARPS && work->of_warp[warp] <= target)
            target -= work->of_warp[warp++];
        begin += warp * run;
        end = min(begin + run, end);
        if (run == KERN_WARP)
            break;
        const struct entries none = {0, 0};
        weigh<W, SAMPLE_BY_SCORE>(row, begin, end, work->of_warp, NULL, none);
    }
    if (threadIdx.x < KERN_WARP)
        draw_piece<W>(row, begin, end, target, &token);
    __syncthreads();
    return token;
}

static __device__ __forceinline__ sample_weight mass_of(float p, sample_weight total)
{
    const double mass = ceil((double)p * (double)total);
    return max((sample_weight)mass, (sample_weight)1);
}

/* All that can stay is in the list, whose weights and those of all entries are given. */
static __device__ int draw_listed(const struct kern_cuda_sample_row *p, struct sample_list *list,
                                  sample_weight total)
{
    const struct sample_range all = {0, (uint64_t)1 << (32 + SAMPLE_ID_BITS), 0, 0};
    struct sample_range range = all;
    if (p->top_k > 0) {
        list_find<SAMPLE_BY_SCORE>(list, p->top_k, &range);
        total = list_drop<SAMPLE_BY_SCORE>(list, range.low, 0.0f);
    }
    if (p->top_p < 1.0f) {
        range = all;
        list_find<SAMPLE_BY_WEIGHT>(list, mass_of(p->top_p, total), &range);
        list_drop<SAMPLE_BY_WEIGHT>(list, range.low, 0.0f);
    }
    total = list_drop<SAMPLE_BY_WEIGHT>(list, 0, p->min_p);
    __syncthreads();
    return list_draw(list, target_of(p, total));
}

template <int W>
static __device__ int draw(const struct kern_cuda_sample_row *p, struct row *row, struct work *work,
                           const struct survey *s)
{
    const int n_pieces = row->n / W;
    const bool by_mass = p->top_p < 1.0f;
    const struct entries none = {0, 0};
    if (p->top_k > 0 || by_mass) {
        const struct entries wanted = {
            guess(work, s, row->n, p->top_k > 0 ? p->top_k : PARTS_OF_MASS), UINT64_MAX};
        const sample_weight total =
            weigh<W, SAMPLE_BY_SCORE>(row, 0, n_pieces, work->of_warp, &work->list, wanted);
        bool listed = !is_full(&work->list);
        if (listed && wanted.low && p->top_k <= 0) /* is what was guessed enough? */
            listed = list_drop<SAMPLE_BY_SCORE>(&work->list, 0, 0.0f) >= mass_of(p->top_p, total);
        if (listed)
            return draw_listed(p, &work->list, total);
        if (p->top_k > 0)
            row->rule.by_score = cut_row<W, SAMPLE_BY_SCORE>(row, work, p->top_k);
        if (by_mass)
            row->rule.by_weight = cut_row<W, SAMPLE_BY_WEIGHT>(
                row, work,
                mass_of(p->top_p,
                        weigh<W, SAMPLE_BY_SCORE>(row, 0, n_pieces, work->of_warp, NULL, none)));
    }
    row->rule.least = p->min_p;
    const sample_weight total =
        weigh<W, SAMPLE_BY_SCORE>(row, 0, n_pieces, work->of_warp, NULL, none);
    return draw_row<W>(row, work, target_of(p, total));
}

/* ------------------------------------------------------- penalties and what they undo */

static __device__ void adjust(const struct kern_cuda_sample_args *args,
                              const struct kern_cuda_sample_row *p, float *x)
{
    const struct kern_cuda_sample_bias *bias =
        (const struct kern_cuda_sample_bias *)(args->pool + p->bias_at);
    const struct kern_cuda_sample_count *counts =
        (const struct kern_cuda_sample_count *)(args->pool + p->counts_at);
    for (unsigned i = threadIdx.x; i < p->n_bias; i += SAMPLE_THREADS) {
        const float v = x[bias[i].token];
        args->saved[p->bias_at + i] = v;
        x[bias[i].token] = v + bias[i].bias;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < p->n_counts; i += SAMPLE_THREADS) {
        const uint32_t drawn = counts[i].count >> 1;
        float v = x[counts[i].token];
        args->saved[p->counts_at + i] = v;
        if (counts[i].count & 1)
            v = v > 0.0f ? v / p->repetition : v * p->repetition;
        if (drawn && v >= -FLT_MAX)
            v -= __fadd_rn(__fmul_rn((float)drawn, p->frequency), p->presence);
        x[counts[i].token] = v;
    }
    __syncthreads();
}

static __device__ void put_back(const struct kern_cuda_sample_args *args,
                                const struct kern_cuda_sample_row *p, float *x)
{
    const int32_t *bias = (const int32_t *)(args->pool + p->bias_at);
    const int32_t *counts = (const int32_t *)(args->pool + p->counts_at);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < p->n_counts; i += SAMPLE_THREADS)
        x[counts[2 * i]] = args->saved[p->counts_at + i];
    __syncthreads();
    for (unsigned i = threadIdx.x; i < p->n_bias; i += SAMPLE_THREADS)
        x[bias[2 * i]] = args->saved[p->bias_at + i];
    __syncthreads();
}

/* ----------------------------------------------------------- log-probabilities */

/* The n_top entries of the list from `cut` on, in their order. */
static __device__ void write_top(const struct sample_list *list, uint64_t cut, double norm,
                                 struct kern_cuda_sample_top *top)
{
    for (unsigned i = threadIdx.x; i < list->n; i += SAMPLE_THREADS) {
        const uint64_t mine = listed_order<SAMPLE_BY_SCORE>(list, i);
        if (mine < cut)
            continue;
        unsigned rank = 0;
        for (unsigned k = 0; k < list->n; k++)
            rank += listed_order<SAMPLE_BY_SCORE>(list, k) > mine;
        top[rank].token = list->id[i];
        top[rank].logprob = (float)((double)list->score[i] - norm);
    }
}

/* Of the logits as the model gave them. */
template <int W>
static __device__ void likely(const struct kern_cuda_sample_row *p, struct row *row,
                              struct work *work, const struct survey *s,
                              struct kern_cuda_sample_top *top)
{
    const uint64_t low = p->n_top ? guess(work, s, row->n, p->n_top) : 0;
    const struct entries wanted = {p->n_top ? low : UINT64_MAX, UINT64_MAX};
    row->high = s->best.value;
    row->scale = 1.0f;
    row->lightest = FLT_MIN; /* what has no weight is to be listed, too */
    const sample_weight total =
        weigh<W, SAMPLE_BY_SCORE>(row, 0, row->n / W, work->of_warp, &work->list, wanted);
    const double norm = (double)row->high + log((double)total / (double)SAMPLE_ONE);
    if (p->n_top) {
        struct sample_range range = {low, (uint64_t)1 << (32 + SAMPLE_ID_BITS), 0, 0};
        if (is_full(&work->list)) { /* lists what is at the cut alone */
            const uint64_t cut = cut_row<W, SAMPLE_BY_SCORE>(row, work, p->n_top);
            const struct entries exact = {cut, UINT64_MAX};
            weigh<W, SAMPLE_BY_SCORE>(row, 0, row->n / W, work->of_warp, &work->list, exact);
            range.low = cut;
        } else {
            list_find<SAMPLE_BY_SCORE>(&work->list, p->n_top, &range);
        }
        write_top(&work->list, range.low, norm, top);
    }
    row->lightest = 0.0f;
    if (threadIdx.x == 0)
        work->norm = norm;
    __syncthreads();
}

/* ------------------------------------------------------------------ the kernel */

/* -1: the host shall say what is wrong. */
template <int W>
static __device__ int choose(const struct kern_cuda_sample_args *args,
                             const struct kern_cuda_sample_row *p, float *x, struct work *work)
{
    const bool adjusted = p->n_bias || p->n_counts;
    struct row row = {x, NULL, args->n, 0.0f, 1.0f, 0.0f, {0, 0, 0.0f}};
    struct survey s;
    if (p->logprob) {
        s = look<W>(&row, work->part);
        if (s.broken || !(s.best.value >= -FLT_MAX))
            return -1;
        likely<W>(p, &row, work, &s,
                  p->n_top ? args->top + (size_t)blockIdx.x * args->top_stride : NULL);
    }
    if (adjusted)
        adjust(args, p, x);
    if (p->masked)
        row.mask = (const uint32_t *)(args->pool + p->mask_at);
    if (!p->logprob || adjusted || p->masked)
        s = look<W>(&row, work->part);
    int token = s.best.at;
    if (s.broken || !(s.best.value >= -FLT_MAX)) {
        token = -1;
    } else if (p->kind == KERN_CUDA_PICK_DRAW) {
        row.high = s.best.value;
        row.scale = p->scale;
        token = draw<W>(p, &row, work, &s);
    }
    if (adjusted)
        put_back(args, p, x);
    return token;
}

template <int W>
static __global__ void __launch_bounds__(SAMPLE_THREADS, 1)
    sample(const struct kern_cuda_sample_args args)
{
    __shared__ struct work work;
    __shared__ struct kern_cuda_sample_row p;
    kern_wait();
    kern_release();
    float *x = args.logits + (size_t)blockIdx.x * args.n;
    if (threadIdx.x == 0)
        p = args.rows[blockIdx.x];
    __syncthreads();
    const int token = p.kind == KERN_CUDA_PICK_NONE ? -1 : choose<W>(&args, &p, x, &work);
    if (threadIdx.x > 0)
        return;
    args.ids[blockIdx.x] = token;
    if (p.logprob && token >= 0)
        args.logprobs[blockIdx.x] = (float)((double)x[token] - work.norm);
}

extern "C" int32_t kern_cuda_rows_sample(const struct kern_cuda_sample_args *args, void *stream)
{
    if (args->n_rows <= 0)
        return 0;
    if (args->n < 1 || args->n > KERN_CUDA_SAMPLE_VOCAB_MAX)
        return (int32_t)cudaErrorInvalidValue;
    const bool wide = args->n % 4 == 0 && kern_on_16_bytes(args->logits, NULL, NULL, NULL);
    return kern_launch(wide ? sample<4> : sample<1>, dim3((unsigned)args->n_rows),
                       dim3(SAMPLE_THREADS), 0, stream, *args);
}
