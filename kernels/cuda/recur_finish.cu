/* Behind the states: what was read is gated and normalised, and the convolution gets what it
 * carries to the next rows. Until now its inputs have to stay, since all heads of a group read
 * them. */
#include "kernels/cuda/recur.cuh"
#include "kernels/cuda/rows.cuh"

#define KEEP     4 /* pieces of a unit that a thread keeps in registers */
#define UNITS    (RECUR_THREADS / KERN_WARP)
#define CHANNELS RECUR_THREADS

struct finish_job {
    struct recur_job recur;
    struct kern_cuda_recur_finish_args a;
    int32_t blocks; /* of units; behind them come those of channels, for each sequence */
    int32_t ratio;  /* heads of a group, where units are heads */
};

/* ------------------------------------------------------------- the convolution */

static __device__ __forceinline__ const float *input_of(const struct recur_job &job, int row,
                                                        int channel, size_t *stride)
{
    const struct kern_cuda_recur_args &a = job.a;
    const int of_groups = a.n_group * a.depth, ratio = a.n_head / a.n_group;
    const int value = channel - a.value_at, write = channel - a.write_at;
    const int read = channel - a.read_at;
    if (value >= 0 && value < a.n_head * a.dim) {
        *stride = a.value.stride;
        return recur_of_head(a.value, row, value / a.dim, ratio) + value % a.dim;
    }
    if (write >= 0 && write < of_groups) {
        *stride = a.write.stride;
        return recur_of_group(a.write, row, write / a.depth) + write % a.depth;
    }
    *stride = a.read.stride;
    return recur_of_group(a.read, row, read / a.depth) + read % a.depth;
}

static __device__ __forceinline__ void carry(const struct recur_job &job, int block)
{
    const int of_seq = (job.a.n_channels + CHANNELS - 1) / CHANNELS;
    const struct recur_seq seq = recur_seq_of(job, block / of_seq);
    const int channel = block % of_seq * CHANNELS + (int)threadIdx.x, carried = job.a.width - 1;
    if (seq.rows.n_rows <= 0 || (int)threadIdx.x >= CHANNELS || channel >= job.a.n_channels)
        return;
    size_t stride;
    const float *x = input_of(job, seq.rows.row, channel, &stride);
    float in[KERN_CONV_WIDTH_MAX - 1];
#pragma unroll
    for (int j = 0; j < KERN_CONV_WIDTH_MAX - 1; j++)
        if (j < carried)
            in[j] = recur_input(job, seq, x, stride, channel, seq.rows.n_rows - carried + j);
#pragma unroll
    for (int j = 0; j < KERN_CONV_WIDTH_MAX - 1; j++)
        if (j < carried)
            seq.carried[(size_t)j * job.a.n_channels + channel] = in[j];
}

/* -------------------------------------------------------------- norm and gate */

template <int W> struct unit {
    const float *y, *z, *norm;
    bool gate_first;
};

/* What the norm is over, piece i of it. */
template <int W>
static __device__ __forceinline__ kern_piece<W> unit_input(const struct unit<W> &u, int i)
{
    kern_piece<W> x = kern_piece_load<W>(u.y + (size_t)i * W);
    if (!u.gate_first)
        return x;
    const kern_piece<W> z = kern_piece_load<W>(u.z + (size_t)i * W);
#pragma unroll
    for (int e = 0; e < W; e++)
        x.v[e] *= recur_silu(z.v[e]);
    return x;
}

template <int W>
static __device__ __forceinline__ kern_piece<W> unit_output(const struct unit<W> &u, int i,
                                                            kern_piece<W> x, double factor)
{
    kern_piece<W> w = kern_piece_fill<W>(1.0f);
    if (u.norm)
        w = kern_piece_load<W>(u.norm + (size_t)i * W);
#pragma unroll
    for (int e = 0; e < W; e++)
        x.v[e] = (float)((double)x.v[e] * factor * (double)w.v[e]);
    if (u.gate_first)
        return x;
    const kern_piece<W> z = kern_piece_load<W>(u.z + (size_t)i * W);
#pragma unroll
    for (int e = 0; e < W; e++)
        x.v[e] *= recur_silu(z.v[e]);
    return x;
}

/* A unit by `n` threads, of which this is number `me`: a warp or a block. What does not fit into
 * registers is read again, by the thread that writes it. */
template <int W, int rows, bool warp>
static __device__ __forceinline__ void finish_unit(const struct finish_job &job, int row, int index,
                                                   int me, int n)
{
    const struct kern_cuda_recur_finish_args &a = job.a;
    const int n_pieces = a.n / W, first_piece = index * n_pieces, width = a.n_units * a.n;
    struct unit<W> u;
    u.y = job.recur.a.y + (size_t)row * width + (size_t)index * a.n;
    u.z = recur_of_head(a.z, row, index, job.ratio);
    u.norm = a.norm ? a.norm + (size_t)index * a.norm_step : NULL;
    u.gate_first = a.gate_first != 0;
    kern_piece<W> kept[KEEP];
    double sum = 0.0, factor = 1.0;
#pragma unroll
    for (int k = 0; k < KEEP; k++) {
        const int i = me + k * n;
        kept[k] = kern_piece_fill<W>(0.0f);
        if (i < n_pieces)
            kept[k] = unit_input<W>(u, i);
#pragma unroll
        for (int e = 0; e < W; e++)
            sum += (double)kept[k].v[e] * (double)kept[k].v[e];
    }
    for (int i = me + KEEP * n; i < n_pieces; i += n) {
        const kern_piece<W> x = unit_input<W>(u, i);
#pragma unroll
        for (int e = 0; e < W; e++)
            sum += (double)x.v[e] * (double)x.v[e];
    }
    if (a.norm)
        factor = 1.0 / sqrt((warp ? kern_warp_sum_double(sum) : kern_block_sum(sum)) / (double)a.n +
                            (double)a.norm_eps);
    void *out = (uint8_t *)a.out + (size_t)row * a.out_stride;
#pragma unroll
    for (int k = 0; k < KEEP; k++) {
        const int i = me + k * n;
        if (k * n < n_pieces) {
            const bool inside = i < n_pieces;
            kern_piece<W> x = kept[k];
            if (inside)
                x = unit_output<W>(u, i, x, factor);
            kern_store_row<W, rows>(out, width, first_piece + i, inside, x);
        }
    }
    for (int first = KEEP * n; first < n_pieces; first += n) {
        const int i = first + me;
        const bool inside = i < n_pieces;
        kern_piece<W> x = kern_piece_fill<W>(0.0f);
        if (inside)
            x = unit_output<W>(u, i, unit_input<W>(u, i), factor);
        kern_store_row<W, rows>(out, width, first_piece + i, inside, x);
    }
}

/* Units that a warp keeps in registers are a warp's, others a block's. */
template <int W, int rows, bool warp>
static __global__ void __launch_bounds__(KERN_BLOCK_MAX, 1) finish(const struct finish_job job)
{
    kern_wait();
    kern_release();
    if ((int)blockIdx.x >= job.blocks) {
        carry(job.recur, (int)blockIdx.x - job.blocks);
        return;
    }
    const int lane = threadIdx.x % KERN_WARP;
    const int at = warp ? (int)blockIdx.x * UNITS + (int)threadIdx.x / KERN_WARP : (int)blockIdx.x;
    const int row = at / job.a.n_units;
    if (row >= job.recur.batch.n_rows || job.recur.batch.seq_of[row] < 0)
        return;
    finish_unit<W, rows, warp>(job, row, at % job.a.n_units, warp ? lane : (int)threadIdx.x,
                               warp ? KERN_WARP : (int)blockDim.x);
}

typedef void finish_kernel(const struct finish_job job);

template <int W, bool warp> static finish_kernel *kernel_of(int rows)
{
    return rows == KERN_CUDA_ROWS_F32 ? finish<W, KERN_CUDA_ROWS_F32, warp>
                                      : finish<W, KERN_CUDA_ROWS_BF16, warp>;
}

static bool is_wide(const struct kern_cuda_recur_finish_args *a)
{
    const struct kern_cuda_recur_part *z = &a->z;
    return a->n % 4 == 0 && z->stride % 4 == 0 && z->outer % 4 == 0 && z->inner % 4 == 0 &&
           a->norm_step % 4 == 0 && a->out_stride % 16 == 0 &&
           kern_on_16_bytes(a->recur->y, z->x, a->norm, a->out);
}

extern "C" int32_t kern_cuda_recur_finish(const struct kern_cuda_recur_finish_args *args,
                                          void *stream)
{
    const struct kern_cuda_recur_args *r = args->recur;
    if (args->rows_type < 0 || args->rows_type > KERN_CUDA_ROWS_Q8)
        return (int32_t)cudaErrorInvalidValue;
    if (r->batch->n_seqs <= 0 || r->batch->n_rows <= 0)
        return 0;
    const bool wide = is_wide(args);
    const int pieces = args->n / (wide ? 4 : 1), units = r->batch->n_rows * args->n_units;
    const bool warp = pieces <= KEEP * KERN_WARP;
    struct finish_job job = {};
    job.recur.a = *r;
    job.recur.batch = *r->batch;
    job.recur.a.batch = NULL;
    job.a = *args;
    job.a.recur = NULL;
    job.ratio = args->n_units == r->n_head ? r->n_head / r->n_group : 1;
    job.blocks = warp ? (units + UNITS - 1) / UNITS : units;
    int threads = BASE_ALIGN_UP((pieces + KEEP - 1) / KEEP, KERN_WARP);
    threads = BASE_MIN(BASE_MAX(threads, RECUR_THREADS), KERN_BLOCK_MAX);
    const int channels = (r->n_channels + CHANNELS - 1) / CHANNELS * r->batch->n_seqs;
    finish_kernel *kernel =
        wide ? (warp ? kernel_of<4, true>(args->rows_type) : kernel_of<4, false>(args->rows_type))
             : (warp ? kernel_of<1, true>(args->rows_type) : kernel_of<1, false>(args->rows_type));
    if (args->rows_type == KERN_CUDA_ROWS_Q8) {
        if (!wide || args->n % 32 != 0)
            return (int32_t)cudaErrorInvalidValue;
        kernel = warp ? finish<4, KERN_CUDA_ROWS_Q8, true> : finish<4, KERN_CUDA_ROWS_Q8, false>;
    }
    return kern_launch(kernel, dim3((unsigned)(job.blocks + channels)),
                       dim3((unsigned)(warp ? RECUR_THREADS : threads)), 0, stream, job);
}
