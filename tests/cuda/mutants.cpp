/* Kernels with mistakes planted: each must be caught by the emulation or by AddressSanitizer, and
 * the same kernel without the mistake must not. Every mutant runs in a child process. */
#include "kernels/cuda/grid.cuh"

#include "cuda/emulate_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 128
#define ROWS    5
#define WIDTH   96

enum mistake {
    NONE,
    NO_BARRIER,
    NO_WARP_BARRIER,
    WRONG_STRIDE,
    PAST_THE_ROWS,
    PAST_SHARED,
    SWAPPED_FRAGMENTS,
    DIVERGENT_SHUFFLE,
    SHUFFLE_IN_HALF_A_WARP,
    SHUFFLES_OF_DIFFERENT_LINES,
    BARRIER_IN_A_BRANCH,
    UNINITIALISED_SHARED,
    TOO_MANY_THREADS,
    NO_GRID_BARRIER,
    A_BLOCK_THAT_DOES_NOT_ARRIVE,
    NO_BARRIER_BEFORE_ARRIVAL,
    NO_SECOND_BARRIER,
    TOO_MANY_BLOCKS,
};

/* A thread reads what another wrote. */
template <mistake m> static __global__ void reverse(float *y, const float *x)
{
    KERN_SHARED_BYTES(shared);
    float *row = (float *)shared;
    const int i = (int)threadIdx.x;
    kern_wait();
    if (m != UNINITIALISED_SHARED || i != 7)
        row[i] = x[blockIdx.x * THREADS + i];
    if (m == PAST_SHARED && i == THREADS - 1)
        row[THREADS] = 0;
    if (m == BARRIER_IN_A_BRANCH) {
        if (i / KERN_WARP == 0)
            return;
        if (i / KERN_WARP == 1)
            __syncwarp(0x7fffffff);
    } else if (m != NO_BARRIER) {
        __syncthreads();
    }
    y[blockIdx.x * THREADS + i] = row[THREADS - 1 - i];
}

/* Sums of rows, one warp each. */
template <mistake m> static __global__ void sums(float *y, const float *x)
{
    const int lane = (int)threadIdx.x, row = (int)blockIdx.x;
    const int stride = m == WRONG_STRIDE ? WIDTH - 1 : WIDTH;
    const int n = m == PAST_THE_ROWS ? WIDTH + KERN_WARP : WIDTH;
    float sum = 0;
    kern_wait();
    for (int i = lane; i < n; i += KERN_WARP)
        sum += x[row * stride + i];
    if (m == DIVERGENT_SHUFFLE) { /* lanes without work are gone */
        if (lane < 20)
            sum = kern_warp_sum(sum);
    } else if (m == SHUFFLE_IN_HALF_A_WARP) {
        for (int step = 16; step > 0; step /= 2)
            sum += __shfl_xor_sync(0xffffu, sum, step);
    } else if (m == SHUFFLES_OF_DIFFERENT_LINES) {
        if (lane % 2 == 0)
            sum += __shfl_xor_sync(0xffffffffu, sum, 16);
        else
            sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    } else {
        sum = kern_warp_sum(sum);
    }
    if (lane == 0)
        y[row] = sum;
}

/* Within a warp, through shared memory. */
template <mistake m> static __global__ void neighbours(float *y, const float *x)
{
    __shared__ float row[KERN_WARP];
    const int lane = (int)threadIdx.x;
    kern_wait();
    row[lane] = x[blockIdx.x * KERN_WARP + lane];
    if (m != NO_WARP_BARRIER)
        __syncwarp();
    y[blockIdx.x * KERN_WARP + lane] = row[(lane + 1) % KERN_WARP];
}

static uint32_t pair(int low, int high)
{
    __nv_bfloat16 l = __float2bfloat16_rn((float)low), h = __float2bfloat16_rn((float)high);
    uint16_t bits[2];
    memcpy(&bits[0], (const void *)&l, 2);
    memcpy(&bits[1], (const void *)&h, 2);
    return (uint32_t)bits[1] << 16 | bits[0];
}

static int left_at(int row, int k)
{
    return (row * 3 + k * 5) % 7 - 3;
}

static int right_at(int column, int k)
{
    return (column * 2 + k * 3) % 5 - 2;
}

template <mistake m> static __global__ void product(float *y)
{
    const int g = (int)threadIdx.x / 4, t = (int)threadIdx.x % 4;
    uint32_t a[4], b[2];
    float d[4] = {0, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        const int row = g + i % 2 * 8, k = t * 2 + i / 2 * 8;
        a[i] = pair(left_at(row, k), left_at(row, k + 1));
    }
    for (int i = 0; i < 2; i++)
        b[i] = pair(right_at(g, t * 2 + i * 8), right_at(g, t * 2 + i * 8 + 1));
    if (m == SWAPPED_FRAGMENTS)
        std::swap(a[1], a[2]);
    kern_wait();
    kern_mma_bf16(d, a, b);
    for (int i = 0; i < 4; i++)
        y[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];
}

/* Rounds that use one row of shared memory: a warp that is ahead takes it from the others. */
template <mistake m> static __global__ void rounds(float *y, const float *x)
{
    __shared__ float row[THREADS];
    const int i = (int)threadIdx.x;
    kern_wait();
    for (int round = 0; round < 2; round++) {
        row[i] = x[blockIdx.x * THREADS + i] + (float)round;
        __syncthreads();
        y[(round * ROWS + blockIdx.x) * THREADS + i] = row[THREADS - 1 - i];
        if (m != NO_SECOND_BARRIER)
            __syncthreads();
        else
            __syncwarp();
    }
}

/* In each of two rounds a block reads what the one beside it has written in the round before. */
template <mistake m> static __global__ void relay(float *y, uint64_t *arrived)
{
    struct kern_grid grid = {arrived, 0};
    const int i = (int)threadIdx.x, own = (int)blockIdx.x, n = (int)gridDim.x;
    for (int round = 0; round < 2; round++) {
        float *to = y + (round * n + own) * THREADS;
        const float *from = y + ((round - 1) * n + (own + 1) % n) * THREADS;
        for (int wait = 0; wait < i / KERN_WARP; wait++) /* warps come one behind the other */
            __syncwarp();
        to[i] = round ? from[THREADS - 1 - i] + 1 : (float)(own * THREADS + i);
        if (round == 0 && m == NO_BARRIER_BEFORE_ARRIVAL) {
            if (i == 0)
                grid.target = (kern_grid_arrive(arrived) / n + 1) * n;
            kern_grid_met(grid);
        } else if (round == 0 && (m != A_BLOCK_THAT_DOES_NOT_ARRIVE || own != 1)) {
            kern_grid_meet(grid);
            if (m != NO_GRID_BARRIER)
                kern_grid_met(grid);
        }
    }
}

/* ------------------------------------------------------------------ trials */

static float *card_floats(size_t n)
{
    void *p = nullptr;
    if (cudaMalloc(&p, n * sizeof(float)) != cudaSuccess)
        abort();
    for (size_t i = 0; i < n; i++)
        ((float *)p)[i] = (float)(i % 61) + 1;
    return (float *)p;
}

static bool done(int32_t launched)
{
    return launched == 0 && cudaDeviceSynchronize() == cudaSuccess;
}

template <mistake m> static bool reverse_is_right(void)
{
    float *x = card_floats(ROWS * THREADS), *y = card_floats(ROWS * THREADS);
    const unsigned threads = m == TOO_MANY_THREADS ? 1025 : THREADS;
    bool right = done(
        kern_launch(reverse<m>, dim3(ROWS), dim3(threads), THREADS * sizeof(float), nullptr, y, x));
    for (int i = 0; i < ROWS * THREADS; i++)
        right = right && y[i] == x[i / THREADS * THREADS + THREADS - 1 - i % THREADS];
    cudaFree(x);
    cudaFree(y);
    return right;
}

template <mistake m> static bool rounds_are_right(void)
{
    const int n = ROWS * THREADS;
    float *x = card_floats(n), *y = card_floats(2 * n);
    bool right = done(kern_launch(rounds<m>, dim3(ROWS), dim3(THREADS), 0, nullptr, y, x));
    for (int i = 0; i < 2 * n; i++)
        right = right &&
                y[i] == x[i % n / THREADS * THREADS + THREADS - 1 - i % THREADS] + (float)(i / n);
    cudaFree(x);
    cudaFree(y);
    return right;
}

template <mistake m> static bool sums_are_right(void)
{
    float *x = card_floats(ROWS * WIDTH), *y = card_floats(ROWS);
    bool right = done(kern_launch(sums<m>, dim3(ROWS), dim3(KERN_WARP), 0, nullptr, y, x));
    for (int row = 0; row < ROWS; row++) {
        float sum = 0;
        for (int i = 0; i < WIDTH; i++)
            sum += x[row * WIDTH + i];
        right = right && y[row] == sum;
    }
    cudaFree(x);
    cudaFree(y);
    return right;
}

template <mistake m> static bool neighbours_are_right(void)
{
    const int n = ROWS * KERN_WARP;
    float *x = card_floats(n), *y = card_floats(n);
    bool right = done(kern_launch(neighbours<m>, dim3(ROWS), dim3(KERN_WARP), 0, nullptr, y, x));
    for (int i = 0; i < n; i++)
        right = right && y[i] == x[i / KERN_WARP * KERN_WARP + (i + 1) % KERN_WARP];
    cudaFree(x);
    cudaFree(y);
    return right;
}

template <mistake m> static bool product_is_right(void)
{
    float *y = card_floats(16 * 8);
    bool right = done(kern_launch(product<m>, dim3(1), dim3(KERN_WARP), 0, nullptr, y));
    for (int i = 0; i < 16 * 8; i++) {
        int sum = 0;
        for (int k = 0; k < 16; k++)
            sum += left_at(i / 8, k) * right_at(i % 8, k);
        right = right && y[i] == (float)sum;
    }
    cudaFree(y);
    return right;
}

/* Two launches over one count, as a step follows the other. */
template <mistake m> static bool relay_is_right(void)
{
    const int n_blocks = 5;
    float *y = card_floats(2 * n_blocks * THREADS);
    void *arrived = nullptr;
    emulated_set_processors(m == TOO_MANY_BLOCKS ? n_blocks - 1 : n_blocks);
    bool right = cudaMalloc(&arrived, 8) == cudaSuccess && cudaMemset(arrived, 0, 8) == cudaSuccess;
    for (int launch = 0; launch < 2; launch++) {
        right = right && cudaMemset(y, 0xff, 2 * n_blocks * THREADS * 4) == cudaSuccess;
        right = right && done(kern_launch_cooperative(relay<m>, dim3(n_blocks), dim3(THREADS), 0,
                                                      nullptr, y, (uint64_t *)arrived));
        for (int b = 0; b < n_blocks; b++)
            for (int i = 0; i < THREADS; i++)
                right = right && y[(n_blocks + b) * THREADS + i] ==
                                     (float)((b + 1) % n_blocks * THREADS + THREADS - i);
    }
    cudaFree(y);
    cudaFree(arrived);
    return right;
}

struct trial {
    const char *name;
    bool (*is_right)(void);
    bool shall_be;
    const char *says; /* in what the child prints; NULL: a wrong result will do */
};

/* Runs a trial in a child, whose words are read back. */
static bool runs_as_it_shall(const trial *t)
{
    int ends[2], status = 0;
    char text[16384];
    size_t n = 0;
    ssize_t got;
    if (pipe(ends) != 0)
        return false;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(t->is_right() ? 0 : 3);
    }
    close(ends[1]);
    while ((got = read(ends[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = 0;
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return false;
    const bool right = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const bool told = !t->says || strstr(text, t->says);
    if (right != t->shall_be || !told)
        printf("# status %d, said: %.400s\n", status, text);
    return right == t->shall_be && told;
}

#ifdef EMULATE_ASAN
#define READ_PAST "heap-buffer-overflow"
#define PAST_ZONE "use-after-poison"
#else
#define READ_PAST nullptr /* the sum is wrong all the same */
#define PAST_ZONE "dynamic shared memory"
#endif

int main(void)
{
    const trial trials[] = {
        {"reverse", reverse_is_right<NONE>, true, nullptr},
        {"rounds", rounds_are_right<NONE>, true, nullptr},
        {"sums", sums_are_right<NONE>, true, nullptr},
        {"neighbours", neighbours_are_right<NONE>, true, nullptr},
        {"product", product_is_right<NONE>, true, nullptr},
        {"relay", relay_is_right<NONE>, true, nullptr},
        {"a missing barrier of the grid", relay_is_right<NO_GRID_BARRIER>, false, nullptr},
        {"a block that does not arrive", relay_is_right<A_BLOCK_THAT_DOES_NOT_ARRIVE>, false,
         "the blocks of the grid wait"},
        {"a block that arrives before its threads", relay_is_right<NO_BARRIER_BEFORE_ARRIVAL>,
         false, nullptr},
        {"more blocks than the card holds", relay_is_right<TOO_MANY_BLOCKS>, false, nullptr},
        {"a missing block barrier", reverse_is_right<NO_BARRIER>, false, nullptr},
        {"a missing barrier between rounds", rounds_are_right<NO_SECOND_BARRIER>, false, nullptr},
        {"a missing warp barrier", neighbours_are_right<NO_WARP_BARRIER>, false, nullptr},
        {"a wrong stride", sums_are_right<WRONG_STRIDE>, false, nullptr},
        {"a read past the rows", sums_are_right<PAST_THE_ROWS>, false, READ_PAST},
        {"a write past shared memory", reverse_is_right<PAST_SHARED>, false, PAST_ZONE},
        {"shared memory read before it is written", reverse_is_right<UNINITIALISED_SHARED>, false,
         nullptr},
        {"swapped fragments", product_is_right<SWAPPED_FRAGMENTS>, false, nullptr},
        {"a shuffle that some lanes do not reach", sums_are_right<DIVERGENT_SHUFFLE>, false,
         "wait for each other"},
        {"a shuffle whose mask leaves lanes out", sums_are_right<SHUFFLE_IN_HALF_A_WARP>, false,
         "leaves"},
        {"a shuffle in each branch", sums_are_right<SHUFFLES_OF_DIFFERENT_LINES>, false,
         "different operations"},
        {"a warp barrier that a lane of its mask does not call",
         reverse_is_right<BARRIER_IN_A_BRANCH>, false, "leaves it out"},
        {"a block of too many threads", reverse_is_right<TOO_MANY_THREADS>, false, nullptr},
    };
    const size_t n = sizeof trials / sizeof *trials;
    int failed = 0;
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        const bool ok = runs_as_it_shall(&trials[i]);
        printf("%s %zu - %s\n", ok ? "ok" : "not ok", i + 1, trials[i].name);
        failed += !ok;
    }
    return failed != 0;
}
