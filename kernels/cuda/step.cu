/* What a step brings in from the host, and what it answers: words of pinned memory that the card
 * reads and writes by itself, in launches like any other. A copy instead would wait for the copy
 * engine, and the kernel behind it for the copy: several microseconds between every two steps. */
#include "kernels/cuda/device.cuh"

#define STEP_THREADS 256
/* Of one piece at most: enough that tables of many sequences keep the bus busy. */
#define STEP_BLOCKS 16
/* Words that a thread has under way: each is a journey to the host. */
#define STEP_AHEAD 4

static __device__ void take_tokens(const struct kern_cuda_begin_args *a)
{
    for (int i = blockIdx.y * STEP_THREADS + threadIdx.x; i < a->n_rows;
         i += gridDim.y * STEP_THREADS) {
        const int32_t source = a->source[i];
        a->tokens[i] = source >= 0 ? max(a->chosen[source], 0) : a->new_tokens[i];
    }
}

static __device__ void take_words(const struct kern_cuda_words *p)
{
    const int n = p->rows * p->width, step = gridDim.y * STEP_THREADS;
    for (int first = blockIdx.y * STEP_THREADS + threadIdx.x; first < n;
         first += STEP_AHEAD * step) {
        int32_t ahead[STEP_AHEAD];
#pragma unroll
        for (int k = 0; k < STEP_AHEAD; k++) {
            const int i = first + k * step;
            ahead[k] = i < n ? p->from[(size_t)(i / p->width) * p->pitch + i % p->width] : 0;
        }
#pragma unroll
        for (int k = 0; k < STEP_AHEAD; k++) {
            const int i = first + k * step;
            if (i < n)
                p->to[(size_t)(i / p->width) * p->pitch + i % p->width] = ahead[k];
        }
    }
}

static __global__ void __launch_bounds__(STEP_THREADS)
    begin(const __grid_constant__ struct kern_cuda_begin_args a)
{
    kern_wait();
    kern_release();
    if ((int)blockIdx.x < a.n_pieces)
        take_words(&a.pieces[blockIdx.x]);
    else
        take_tokens(&a);
}

extern "C" int32_t kern_cuda_step_begin(const struct kern_cuda_begin_args *args, void *stream)
{
    if (args->n_pieces < 0 || args->n_pieces > KERN_CUDA_PIECES)
        return (int32_t)cudaErrorInvalidValue;
    int most = args->n_rows;
    for (int i = 0; i < args->n_pieces; i++)
        most = max(most, args->pieces[i].rows * args->pieces[i].width);
    const int wanted = (most + STEP_THREADS * STEP_AHEAD - 1) / (STEP_THREADS * STEP_AHEAD);
    return kern_launch(
        begin, dim3((unsigned)args->n_pieces + 1, (unsigned)min(max(wanted, 1), STEP_BLOCKS)),
        dim3(STEP_THREADS), 0, stream, *args);
}

static __global__ void __launch_bounds__(STEP_THREADS)
    answer(int32_t *const *to, const int32_t *ids, int n)
{
    kern_wait();
    kern_release();
    const int i = blockIdx.x * STEP_THREADS + threadIdx.x;
    if (i < n)
        (*to)[i] = ids[i];
}

extern "C" int32_t kern_cuda_step_answer(int32_t *const *to, const int32_t *ids, int32_t n,
                                         void *stream)
{
    if (n <= 0)
        return 0;
    return kern_launch(answer, dim3((unsigned)((n + STEP_THREADS - 1) / STEP_THREADS)),
                       dim3(STEP_THREADS), 0, stream, to, ids, n);
}
