/* Kernels over rows of activations: norms, gates, changes of form, the largest of a row. */
#include "kernels/cuda/rows.cuh"

#include <float.h>

/* -------------------------------------------------------------------- norms */

/* Pieces of a row that a thread keeps in registers: rows of up to 16384 are read once, and y may
 * be x. What is longer is read again, by the thread that will write it. */
#define KEEP        4
#define THREADS_FEW 128

struct norm_job {
    void *y;
    size_t y_stride; /* bytes */
    const float *x;
    size_t x_stride;
    const float *w, *b;
    float *keep;
    const float *row_factor; /* by row of y, or NULL */
    int32_t n, layer, x_div, plain;
    int32_t join; /* y = (y + scale * ...) * factor */
    float eps, scale, factor;
};

struct norm_factors {
    double mean, factor;
};

template <int W> struct norm_row {
    const float *x;
    int n_pieces;
    kern_piece<W> kept[KEEP];
};

template <int W> static __device__ __forceinline__ void row_read(struct norm_row<W> *row)
{
#pragma unroll
    for (int k = 0; k < KEEP; k++) {
        const int i = threadIdx.x + k * blockDim.x;
        if (i < row->n_pieces)
            row->kept[k] = kern_piece_load<W>(row->x + (size_t)i * W);
        else
            row->kept[k] = kern_piece_fill<W>(0.0f);
    }
}

template <int W>
static __device__ __forceinline__ double piece_sum(const kern_piece<W> &x, double mean, bool square)
{
    double sum = 0.0;
#pragma unroll
    for (int e = 0; e < W; e++) {
        const double d = (double)x.v[e] - mean;
        sum += square ? d * d : d;
    }
    return sum;
}

/* Of the whole row, given to each thread: sum of x - mean, or of its square. */
template <int W>
static __device__ __forceinline__ double row_sum(const struct norm_row<W> *row, double mean,
                                                 bool square)
{
    double sum = 0.0;
#pragma unroll
    for (int k = 0; k < KEEP; k++)
        if (threadIdx.x + k * blockDim.x < (unsigned)row->n_pieces)
            sum += piece_sum<W>(row->kept[k], mean, square);
    for (int i = threadIdx.x + KEEP * blockDim.x; i < row->n_pieces; i += blockDim.x)
        sum += piece_sum<W>(kern_piece_load<W>(row->x + (size_t)i * W), mean, square);
    return kern_block_sum(sum);
}

template <int W>
static __device__ __forceinline__ struct norm_factors row_factors(const struct norm_row<W> *row,
                                                                  const struct norm_job *job)
{
    struct norm_factors f = {0.0, 1.0};
    if (job->plain)
        return f;
    if (job->layer)
        f.mean = row_sum<W>(row, 0.0, false) / (double)job->n;
    f.factor = 1.0 / sqrt(row_sum<W>(row, f.mean, true) / (double)job->n + (double)job->eps);
    return f;
}

/* Piece i of the result from piece i of the input. Weights are loaded where the row ends before
 * the piece, too, as no lane may be missing in kern_store_row(): hence `inside`. */
template <int W, int rows>
static __device__ __forceinline__ void row_write(const struct norm_job *job, void *y, int i,
                                                 bool inside, kern_piece<W> x,
                                                 const struct norm_factors &f)
{
    kern_piece<W> w = kern_piece_fill<W>(1.0f), b = kern_piece_fill<W>(0.0f);
    if (inside && job->w)
        w = kern_piece_load<W>(job->w + (size_t)i * W);
    if (inside && job->b)
        b = kern_piece_load<W>(job->b + (size_t)i * W);
#pragma unroll
    for (int e = 0; e < W; e++)
        x.v[e] = (float)(((double)x.v[e] - f.mean) * f.factor * (double)w.v[e] + (double)b.v[e]);
    if (job->join && inside) {
        const kern_piece<W> old = kern_piece_load<W>((const float *)y + (size_t)i * W);
#pragma unroll
        for (int e = 0; e < W; e++)
            x.v[e] = fmaf(job->scale, x.v[e], old.v[e]) * job->factor;
    }
    if (job->row_factor) {
        const float factor = job->row_factor[blockIdx.x];
#pragma unroll
        for (int e = 0; e < W; e++)
            x.v[e] *= factor;
    }
    if (job->keep && inside)
        kern_piece_store<W>(job->keep + (size_t)blockIdx.x * job->n + (size_t)i * W, x);
    if constexpr (rows == KERN_CUDA_ROWS_F8)
        kern_store_f8((uint8_t *)job->y, job->y_stride, i, inside, x);
    else
        kern_store_row<W, rows>(y, job->n, i, inside, x);
}

template <int W, int rows>
static __global__ void __launch_bounds__(KERN_BLOCK_MAX, 1) norm(const struct norm_job job)
{
    kern_wait();
    struct norm_row<W> row;
    row.x = job.x + (size_t)(blockIdx.x / (unsigned)job.x_div) * job.x_stride;
    row.n_pieces = job.n / W;
    row_read<W>(&row);
    const struct norm_factors f = row_factors<W>(&row, &job);
    kern_release();
    void *y = (uint8_t *)job.y + (size_t)blockIdx.x * job.y_stride;
#pragma unroll
    for (int k = 0; k < KEEP; k++) {
        const int first = k * blockDim.x, i = first + threadIdx.x;
        if (first < row.n_pieces)
            row_write<W, rows>(&job, y, i, i < row.n_pieces, row.kept[k], f);
    }
    for (int first = KEEP * blockDim.x; first < row.n_pieces; first += blockDim.x) {
        const int i = first + threadIdx.x;
        kern_piece<W> x = kern_piece_fill<W>(0.0f);
        if (i < row.n_pieces)
            x = kern_piece_load<W>(row.x + (size_t)i * W);
        row_write<W, rows>(&job, y, i, i < row.n_pieces, x, f);
    }
}

/* Whole warps, as many as keep the row in registers but a few at least. They follow from n alone,
 * and so does the order of sums; several blocks are on a multiprocessor at a time. */
static int threads_for(int n_pieces)
{
    int threads = (n_pieces + KEEP - 1) / KEEP;
    threads = BASE_MAX(threads, BASE_MIN(n_pieces, THREADS_FEW));
    threads = BASE_ALIGN_UP(threads, KERN_WARP);
    return BASE_MIN(threads, KERN_BLOCK_MAX);
}

static int32_t launch_norm(const struct norm_job *job, int32_t n_rows, int32_t rows, void *stream)
{
    if (n_rows <= 0 || job->n <= 0)
        return 0;
    const bool wide = job->n % 4 == 0 && job->x_stride % 4 == 0 && job->y_stride % 16 == 0 &&
                      kern_on_16_bytes(job->y, job->x, job->w, job->b) &&
                      kern_on_16_bytes(job->keep, NULL, NULL, NULL);
    const dim3 grid((unsigned)n_rows), block((unsigned)threads_for(wide ? job->n / 4 : job->n));
    switch (rows) {
    case KERN_CUDA_ROWS_F32:
        return kern_launch(wide ? norm<4, KERN_CUDA_ROWS_F32> : norm<1, KERN_CUDA_ROWS_F32>, grid,
                           block, 0, stream, *job);
    case KERN_CUDA_ROWS_BF16:
        return kern_launch(wide ? norm<4, KERN_CUDA_ROWS_BF16> : norm<1, KERN_CUDA_ROWS_BF16>, grid,
                           block, 0, stream, *job);
    default:
        if (!wide || job->n % (rows == KERN_CUDA_ROWS_F8 ? 128 : 32) != 0)
            return (int32_t)cudaErrorInvalidValue;
        return kern_launch(rows == KERN_CUDA_ROWS_F8 ? norm<4, KERN_CUDA_ROWS_F8>
                                                     : norm<4, KERN_CUDA_ROWS_Q8>,
                           grid, block, 0, stream, *job);
    }
}

extern "C" int32_t kern_cuda_rows_norm(const struct kern_cuda_norm_args *args, void *stream)
{
    struct norm_job job = {};
    job.y = args->y;
    job.y_stride = args->y_stride;
    job.x = args->x;
    job.x_stride = args->x_stride;
    job.w = args->w;
    job.b = args->layer ? args->b : NULL;
    job.keep = args->keep;
    job.row_factor = args->factor;
    job.x_div = BASE_MAX(args->x_div, 1);
    job.plain = args->plain;
    job.n = args->n;
    job.layer = args->layer;
    job.eps = args->eps;
    return launch_norm(&job, args->n_rows, args->rows_type, stream);
}

extern "C" int32_t kern_cuda_rows_join(const struct kern_cuda_join_args *args, void *stream)
{
    struct norm_job job = {};
    job.y = args->x;
    job.y_stride = (size_t)args->n * sizeof *args->x;
    job.x = args->branch;
    job.x_stride = (size_t)args->n;
    job.w = args->w;
    job.b = args->layer && args->w ? args->b : NULL;
    job.n = args->n;
    job.layer = args->layer;
    job.x_div = 1;
    job.plain = !args->w;
    job.join = 1;
    job.eps = args->eps;
    job.scale = args->scale;
    job.factor = args->factor;
    return launch_norm(&job, args->n_rows, KERN_CUDA_ROWS_F32, stream);
}

/* ---------------------------------------------------------- gates and forms */

#define FLAT_THREADS 256

static __device__ __forceinline__ float activation(float g, int act)
{
    switch (act) {
    case KERN_CUDA_ACT_SILU:
        return g / (1.0f + expf(-g));
    case KERN_CUDA_ACT_GELU: /* erfc loses no digits where erf is near -1 */
        return 0.5f * g * erfcf(-g * 0.70710678118654752f);
    case KERN_CUDA_ACT_GELU_TANH:
        return g / (1.0f + expf(-1.5957691216057308f * (g + 0.044715f * g * g * g)));
    case KERN_CUDA_ACT_RELU:
        return g <= 0.0f ? 0.0f : g; /* NaN stays */
    case KERN_CUDA_ACT_RELU2:
        g = g <= 0.0f ? 0.0f : g;
        return g * g;
    case KERN_CUDA_ACT_SWIGLU_OAI:
        g = g > 7.0f ? 7.0f : g;
        return g / (1.0f + expf(-1.702f * g));
    default:
        return g;
    }
}

/* Blocks are (row, run of pieces). */
template <int W, int rows>
static __global__ void __launch_bounds__(FLAT_THREADS) gate_rows(const struct kern_cuda_gate_args a)
{
    kern_wait();
    const int i = blockIdx.y * FLAT_THREADS + threadIdx.x;
    const bool inside = i < a.n / W;
    const size_t row = blockIdx.x, at = (size_t)i * W;
    kern_piece<W> g = kern_piece_fill<W>(0.0f), u = kern_piece_fill<W>(1.0f);
    if (inside)
        g = kern_piece_load<W>(a.gate + row * a.stride + at);
    if (inside && a.up)
        u = kern_piece_load<W>(a.up + row * a.up_stride + at);
    const float factor = a.factor ? a.factor[row] : 1.0f;
    kern_release();
#pragma unroll
    for (int e = 0; e < W; e++) {
        g.v[e] = activation(g.v[e], a.act);
        if (a.up && a.act == KERN_CUDA_ACT_SWIGLU_OAI)
            u.v[e] = (u.v[e] > 7.0f ? 7.0f : u.v[e] < -7.0f ? -7.0f : u.v[e]) + 1.0f;
        if (a.up)
            g.v[e] *= u.v[e];
        if (a.factor)
            g.v[e] *= factor;
    }
    if constexpr (rows == KERN_CUDA_ROWS_F8)
        kern_store_f8((uint8_t *)a.y, a.y_stride, i, inside, g);
    else
        kern_store_row<W, rows>((uint8_t *)a.y + row * a.y_stride, a.n, i, inside, g);
}

extern "C" int32_t kern_cuda_rows_gate(const struct kern_cuda_gate_args *args, void *stream)
{
    const int32_t n = args->n, rows_type = args->rows_type;
    if (args->n_rows <= 0 || n <= 0)
        return 0;
    const bool wide = n % 4 == 0 && args->stride % 4 == 0 && args->up_stride % 4 == 0 &&
                      args->y_stride % 16 == 0 &&
                      kern_on_16_bytes(args->y, args->gate, args->up, NULL);
    const int pieces = wide ? n / 4 : n;
    const dim3 grid((unsigned)args->n_rows, (unsigned)((pieces + FLAT_THREADS - 1) / FLAT_THREADS));
    void (*kernel)(const struct kern_cuda_gate_args);
    if (rows_type == KERN_CUDA_ROWS_F32)
        kernel = wide ? gate_rows<4, KERN_CUDA_ROWS_F32> : gate_rows<1, KERN_CUDA_ROWS_F32>;
    else if (rows_type == KERN_CUDA_ROWS_BF16)
        kernel = wide ? gate_rows<4, KERN_CUDA_ROWS_BF16> : gate_rows<1, KERN_CUDA_ROWS_BF16>;
    else if (wide && rows_type == KERN_CUDA_ROWS_Q8 && n % 32 == 0)
        kernel = gate_rows<4, KERN_CUDA_ROWS_Q8>;
    else if (wide && rows_type == KERN_CUDA_ROWS_F8 && n % 128 == 0)
        kernel = gate_rows<4, KERN_CUDA_ROWS_F8>;
    else
        return (int32_t)cudaErrorInvalidValue;
    return kern_launch(kernel, grid, dim3(FLAT_THREADS), 0, stream, *args);
}

extern "C" int32_t kern_cuda_rows_convert(void *y, size_t y_stride, int32_t rows_type,
                                          const float *x, size_t x_stride, int32_t n_rows,
                                          int32_t n, void *stream)
{
    struct kern_cuda_gate_args args = {};
    args.y = y;
    args.y_stride = y_stride;
    args.rows_type = rows_type;
    args.gate = x;
    args.stride = x_stride;
    args.act = KERN_CUDA_ACT_NONE;
    args.n_rows = n_rows;
    args.n = n;
    return kern_cuda_rows_gate(&args, stream);
}

/* --------------------------------------------------------------------- bias */

template <int W>
static __global__ void __launch_bounds__(FLAT_THREADS)
    add_bias(float *y, size_t stride, const float *__restrict__ bias, int n)
{
    kern_wait();
    kern_release();
    const int i = blockIdx.y * FLAT_THREADS + threadIdx.x;
    if (i >= n / W)
        return;
    float *at = y + (size_t)blockIdx.x * stride + (size_t)i * W;
    kern_piece<W> v = kern_piece_load<W>(at);
    const kern_piece<W> b = kern_piece_load<W>(bias + (size_t)i * W);
#pragma unroll
    for (int e = 0; e < W; e++)
        v.v[e] += b.v[e];
    kern_piece_store<W>(at, v);
}

extern "C" int32_t kern_cuda_rows_add_bias(float *y, size_t stride, const float *bias,
                                           int32_t n_rows, int32_t n, void *cuda_stream)
{
    if (n_rows <= 0 || n <= 0)
        return 0;
    const bool wide = n % 4 == 0 && stride % 4 == 0 && kern_on_16_bytes(y, bias, NULL, NULL);
    const int pieces = wide ? n / 4 : n;
    const dim3 grid((unsigned)n_rows, (unsigned)((pieces + FLAT_THREADS - 1) / FLAT_THREADS));
    return kern_launch(wide ? add_bias<4> : add_bias<1>, grid, dim3(FLAT_THREADS), 0, cuda_stream,
                       y, stride, bias, n);
}

/* ------------------------------------------------------------------- gather */

template <int W>
static __global__ void __launch_bounds__(FLAT_THREADS)
    gather(float *y, const float *x, const int32_t *ids, int n)
{
    kern_wait();
    kern_release();
    const int i = blockIdx.y * FLAT_THREADS + threadIdx.x;
    if (i < n / W)
        kern_piece_store<W>(y + (size_t)blockIdx.x * n + (size_t)i * W,
                            kern_piece_load<W>(x + (size_t)ids[blockIdx.x] * n + (size_t)i * W));
}

extern "C" int32_t kern_cuda_rows_gather(float *y, const float *x, const int32_t *ids,
                                         int32_t n_ids, int32_t n, void *stream)
{
    if (n_ids <= 0 || n <= 0)
        return 0;
    const bool wide = n % 4 == 0 && kern_on_16_bytes(y, x, NULL, NULL);
    const int pieces = wide ? n / 4 : n;
    const dim3 grid((unsigned)n_ids, (unsigned)((pieces + FLAT_THREADS - 1) / FLAT_THREADS));
    return kern_launch(wide ? gather<4> : gather<1>, grid, dim3(FLAT_THREADS), 0, stream, y, x, ids,
                       n);
}

/* ------------------------------------------------------------------- logits */

template <int W>
static __global__ void __launch_bounds__(FLAT_THREADS)
    logits(float *x, float scale, float cap, size_t n_pieces)
{
    kern_wait();
    kern_release();
    const size_t i = (size_t)blockIdx.x * FLAT_THREADS + threadIdx.x;
    if (i >= n_pieces)
        return;
    kern_piece<W> v = kern_piece_load<W>(x + i * W);
#pragma unroll
    for (int e = 0; e < W; e++) {
        v.v[e] *= scale;
        if (cap > 0.0f)
            v.v[e] = cap * tanhf(v.v[e] / cap);
    }
    kern_piece_store<W>(x + i * W, v);
}

extern "C" int32_t kern_cuda_rows_logits(float *x, float scale, float cap, size_t n, void *stream)
{
    if (n == 0)
        return 0;
    const bool wide = n % 4 == 0 && kern_on_16_bytes(x, NULL, NULL, NULL);
    const size_t pieces = wide ? n / 4 : n;
    return kern_launch(wide ? logits<4> : logits<1>,
                       dim3((unsigned)((pieces + FLAT_THREADS - 1) / FLAT_THREADS)),
                       dim3(FLAT_THREADS), 0, stream, x, scale, cap, pieces);
}

/* ------------------------------------------------------------------- argmax */

/* Pieces that a thread has under way. */
#define ARGMAX_AHEAD 8

/* Of the pieces that this thread reads: the largest element, and whether there is a NaN. A piece
 * counts by its largest element; which that is, is looked up once at the end. */
template <int W>
static __device__ __forceinline__ struct largest scan_row(const float *x, int n, int *nan)
{
    struct largest best = {-INFINITY, INT32_MAX};
    const int n_pieces = n / W;
    for (int first = threadIdx.x; first < n_pieces; first += ARGMAX_AHEAD * KERN_BLOCK_MAX) {
        kern_piece<W> ahead[ARGMAX_AHEAD];
#pragma unroll
        for (int k = 0; k < ARGMAX_AHEAD; k++) {
            const int i = first + k * KERN_BLOCK_MAX;
            ahead[k] = i < n_pieces ? kern_piece_load<W>(x + (size_t)i * W)
                                    : kern_piece_fill<W>(-INFINITY);
        }
#pragma unroll
        for (int k = 0; k < ARGMAX_AHEAD; k++) {
            const int i = first + k * KERN_BLOCK_MAX;
            float top = ahead[k].v[0];
#pragma unroll
            for (int e = 0; e < W; e++) {
                *nan |= ahead[k].v[e] != ahead[k].v[e];
                top = fmaxf(top, ahead[k].v[e]);
            }
            if (i < n_pieces && (top > best.value || best.at == INT32_MAX)) {
                best.value = top;
                best.at = i;
            }
        }
    }
    if (best.at != INT32_MAX) {
        const kern_piece<W> piece = kern_piece_load<W>(x + (size_t)best.at * W);
        best.at *= W;
#pragma unroll
        for (int e = W - 1; e >= 0; e--)
            best.at = piece.v[e] == best.value ? best.at / W * W + e : best.at;
    }
    return best;
}

template <int W>
static __global__ void __launch_bounds__(KERN_BLOCK_MAX, 1)
    argmax(int32_t *ids, const float *x, int n)
{
    __shared__ struct largest of_warp[KERN_WARP];
    __shared__ int nan_of_warp[KERN_WARP];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    kern_wait();
    int nan = 0;
    struct largest best = warp_largest(scan_row<W>(x + (size_t)blockIdx.x * n, n, &nan));
    nan = __any_sync(0xffffffffu, nan);
    kern_release();
    if (lane == 0) {
        of_warp[warp] = best;
        nan_of_warp[warp] = nan;
    }
    __syncthreads();
    if (warp > 0)
        return;
    best = warp_largest(of_warp[lane]);
    nan = __any_sync(0xffffffffu, nan_of_warp[lane]);
    if (lane == 0)
        ids[blockIdx.x] = nan || !(fabsf(best.value) <= FLT_MAX) ? -1 : best.at;
}

extern "C" int32_t kern_cuda_rows_argmax(int32_t *ids, const float *x, int32_t n_rows, int32_t n,
                                         void *stream)
{
    if (n_rows <= 0 || n <= 0)
        return 0;
    const bool wide = n % 4 == 0 && kern_on_16_bytes(x, NULL, NULL, NULL);
    return kern_launch(wide ? argmax<4> : argmax<1>, dim3((unsigned)n_rows), dim3(KERN_BLOCK_MAX),
                       0, stream, ids, x, n);
}
