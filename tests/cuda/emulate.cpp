/* Fibers, barriers and warp operations behind emulate.h. */
#include "cuda/emulate_warp.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sys/mman.h>
#include <vector>

#ifdef EMULATE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES ((size_t)256 << 10)
#define ENTRY_BYTES ((size_t)4 << 10) /* of the frames that enter a kernel, at the top */
#define GUARD_BYTES ((size_t)4096)

emulated_position emulated;
unsigned char *emulated_shared;

namespace
{
enum class wait_for { nothing, block, warp, grid };

struct block_state;

struct fiber {
    block_state *block;
    void *stack_pointer;
    unsigned char *stack; /* behind its guard page */
    bool done;
    wait_for waits;
    unsigned generation;            /* waited for to change */
    int line;                       /* of the warp operation waited in */
    const volatile uint64_t *count; /* of the grid, waited for to reach `target` */
    uint64_t target;
    uint3 thread;
};

struct warp {
    int count, ended, line;
    unsigned generation, mask;
    /* What the lanes give; the operation before may still be read from the other half. */
    uint64_t values[2][LANES][VALUES];
};

/* Shared memory that kernels name by a key. */
struct named_memory {
    const void *key;
    void *data;
};

/* A block that runs: all of a cooperative grid, else one at a time. */
struct block_state {
    uint3 index;
    int first; /* of its fibers */
    int n_live, barrier_count;
    bool by_warps; /* each goes as far as it can without the others */
    unsigned barrier_generation;
    unsigned char *shared;
    std::vector<warp> warps;
    std::vector<named_memory> named;
};

/* The stacks go at exit, so that nothing is said to leak. */
struct fiber_list : std::vector<fiber> {
    ~fiber_list()
    {
        for (fiber &f : *this)
            if (f.stack)
                munmap(f.stack - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
    }
};

fiber_list fibers;
block_state *block; /* whose fiber runs */
fiber *current;
void *main_stack;
std::function<void()> kernel_body;
int n_threads; /* of a block */
std::minstd_rand order_of(1);
#ifdef EMULATE_ASAN
const void *main_bottom;
size_t main_bytes;
#endif
} // namespace

extern "C" void emulated_switch(void **save, void *to);
#if defined(__x86_64__)
__asm__(".text\n.globl emulated_switch\nemulated_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
#else
#error "the emulation switches stacks on x86-64 alone"
#endif

/* Of a thread in its block. */
static int index_of(const fiber *f)
{
    return (int)(f - fibers.data()) - f->block->first;
}

static warp &own_warp(void)
{
    return block->warps[(size_t)index_of(current) / LANES];
}

void *emulated_block_memory(const void *key, size_t bytes)
{
    for (const named_memory &m : block->named)
        if (m.key == key)
            return m.data;
    void *data = malloc(bytes);
    if (!data)
        abort();
    memset(data, 0xff, bytes);
    block->named.push_back({key, data});
    return data;
}

int emulated_lane(void)
{
    return index_of(current) % LANES;
}

static void tell_thread(const fiber &f)
{
    fprintf(stderr, "emulation:   thread %u,%u,%u ", f.thread.x, f.thread.y, f.thread.z);
    if (f.done)
        fprintf(stderr, "has ended\n");
    else if (f.waits == wait_for::block)
        fprintf(stderr, "waits at __syncthreads()\n");
    else if (f.waits == wait_for::warp)
        fprintf(stderr, "waits in a warp operation at line %d\n", f.line);
    else if (f.waits == wait_for::grid)
        fprintf(stderr, "waits for %llu blocks of the grid, of which %llu have come\n",
                (unsigned long long)f.target, (unsigned long long)*f.count);
    else
        fprintf(stderr, "runs\n");
}

/* One thread of each state is named. */
[[noreturn]] void broken(const char *format, ...)
{
    va_list list;
    fprintf(stderr, "emulation: block %u,%u,%u: ", emulated.block.x, emulated.block.y,
            emulated.block.z);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
    for (int i = 0, told = 0; i < n_threads && told < 8; i++) {
        const fiber &f = fibers[(size_t)(block->first + i)];
        const fiber &before = fibers[(size_t)(block->first + (i ? i - 1 : 0))];
        if (i == 0 || f.done != before.done || f.waits != before.waits || f.line != before.line) {
            tell_thread(f);
            told++;
        }
    }
    abort();
}

static void yield(bool ends)
{
    fiber *self = current;
#ifdef EMULATE_ASAN
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(ends ? nullptr : &fake, main_bottom, main_bytes);
    emulated_switch(&self->stack_pointer, main_stack);
    __sanitizer_finish_switch_fiber(fake, &main_bottom, &main_bytes);
#else
    (void)ends;
    emulated_switch(&self->stack_pointer, main_stack);
#endif
}

static void enter_block(block_state *b)
{
    block = b;
    emulated.block = b->index;
    emulated_shared = b->shared;
}

static void resume(fiber *f)
{
    current = f;
    emulated.thread = f->thread;
#ifdef EMULATE_ASAN
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, f->stack, STACK_BYTES);
    emulated_switch(&main_stack, f->stack_pointer);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    emulated_switch(&main_stack, f->stack_pointer);
#endif
}

static void open_block_barrier(void)
{
    block->barrier_count = 0;
    block->barrier_generation++;
}

static void enter_fiber(void)
{
#ifdef EMULATE_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &main_bottom, &main_bytes);
#endif
    kernel_body();
    current->done = true;
    own_warp().ended++;
    block->n_live--;
    if (block->n_live > 0 &&
        block->barrier_count == block->n_live) /* the others wait: those that ended do not count */
        open_block_barrier();
    yield(true);
    abort(); /* nobody resumes it */
}

void emulated_block_barrier(void)
{
    if (++block->barrier_count == block->n_live) {
        open_block_barrier();
        return;
    }
    current->waits = wait_for::block;
    current->generation = block->barrier_generation;
    yield(false);
    current->waits = wait_for::nothing;
}

void kern_grid_wait(const uint64_t *count, uint64_t target)
{
    if (*(const volatile uint64_t *)count >= target)
        return;
    current->waits = wait_for::grid;
    current->count = count;
    current->target = target;
    yield(false);
    current->waits = wait_for::nothing;
}

void emulated_warp_barrier(unsigned mask, int line)
{
    warp &w = own_warp();
    int first = index_of(current) / LANES * LANES, left = n_threads - first;
    unsigned present = left >= LANES ? ~0u : (1u << left) - 1;
    if (!(mask >> emulated_lane() & 1))
        broken("lane %d calls a warp operation at line %d whose mask %08x leaves it out",
               emulated_lane(), line, mask);
    if (w.count == 0) {
        w.line = line;
        w.mask = mask;
    } else if (w.line != line || w.mask != mask) {
        broken("lanes of a warp meet in different operations: line %d, mask %08x, and line %d, "
               "mask %08x",
               w.line, w.mask, line, mask);
    }
    if (++w.count == __builtin_popcount(mask & present)) {
        w.count = 0;
        w.generation++;
        return;
    }
    current->waits = wait_for::warp;
    current->generation = w.generation;
    current->line = line;
    yield(false);
    current->waits = wait_for::nothing;
}

const uint64_t (*gather(unsigned mask, const uint64_t *own, int n, int line))[VALUES]
{
    warp &w = own_warp();
    uint64_t(*values)[VALUES] = w.values[w.generation & 1];
    for (int i = 0; i < n; i++)
        values[emulated_lane()][i] = own[i];
    emulated_warp_barrier(mask, line);
    return values;
}

uint64_t emulated_exchange(unsigned mask, uint64_t value, int source, int line)
{
    if (!(mask >> source & 1))
        broken("lane %d reads lane %d at line %d, which mask %08x leaves out", emulated_lane(),
               source, line, mask);
    return gather(mask, &value, 1, line)[source][0];
}

unsigned emulated_ballot(unsigned mask, int predicate, int line)
{
    const uint64_t own = predicate != 0;
    const uint64_t(*values)[VALUES] = gather(mask, &own, 1, line);
    unsigned bits = 0;
    for (int lane = 0; lane < LANES; lane++)
        if (mask >> lane & 1)
            bits |= (unsigned)values[lane][0] << lane;
    return bits;
}

/* ----------------------------------------------------------- blocks, grids */

static void start_fiber(int i)
{
    fiber *f = &fibers[(size_t)(block->first + i)];
    f->block = block;
    if (!f->stack) {
        void *p = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED || mprotect(p, GUARD_BYTES, PROT_NONE) != 0) {
            perror("emulation: a stack");
            abort();
        }
        f->stack = (unsigned char *)p + GUARD_BYTES;
    }
#ifdef EMULATE_ASAN /* the two frames that its last thread never left */
    __asan_unpoison_memory_region(f->stack + STACK_BYTES - ENTRY_BYTES, ENTRY_BYTES);
#endif
    void **top = (void **)(f->stack + STACK_BYTES);
    *--top = NULL;
    *--top = (void *)enter_fiber;
    for (int k = 0; k < 6; k++)
        *--top = NULL;
    f->stack_pointer = top;
    f->done = false;
    f->waits = wait_for::nothing;
    f->line = 0;
    unsigned n = (unsigned)i;
    const dim3 *d = &emulated.block_dim;
    f->thread = {n % d->x, n / d->x % d->y, n / (d->x * d->y)};
}

static bool can_run(const fiber *f)
{
    if (f->done)
        return false;
    if (f->waits == wait_for::block)
        return f->generation != block->barrier_generation;
    if (f->waits == wait_for::warp)
        return f->generation != block->warps[(size_t)index_of(f) / LANES].generation;
    if (f->waits == wait_for::grid)
        return *f->count >= f->target;
    return true;
}

/* As std::shuffle(), which is a tenth of all time. */
static void shuffle(int *order, int n)
{
    for (int i = n; i > 1; i--)
        std::swap(order[i - 1], order[order_of() % (unsigned)i]);
}

/* The zone behind dynamic shared memory is watched by AddressSanitizer, else looked at after the
 * block. */
static size_t zone_bytes(size_t shared_bytes)
{
    return (shared_bytes + 127) / 128 * 128 + 1024;
}

static void start_block(block_state *b, uint3 index, int first, size_t shared_bytes)
{
    const size_t bytes = zone_bytes(shared_bytes);
    *b = block_state{};
    b->index = index;
    b->first = first;
    b->n_live = n_threads;
    b->by_warps = order_of() % 2;
    b->warps.assign(((size_t)n_threads + LANES - 1) / LANES, warp{});
    b->shared = (unsigned char *)aligned_alloc(128, bytes);
    if (!b->shared)
        abort();
    memset(b->shared, 0xff, bytes);
#ifdef EMULATE_ASAN
    __asan_poison_memory_region(b->shared + shared_bytes, bytes - shared_bytes);
#endif
    enter_block(b);
    for (int i = 0; i < n_threads; i++)
        start_fiber(i);
}

static void end_block(block_state *b, size_t shared_bytes)
{
    const size_t bytes = zone_bytes(shared_bytes);
    enter_block(b);
#ifdef EMULATE_ASAN
    __asan_unpoison_memory_region(b->shared + shared_bytes, bytes - shared_bytes);
#else
    for (size_t i = shared_bytes; i < bytes; i++)
        if (b->shared[i] != 0xff)
            broken("byte %zu of %zu bytes of dynamic shared memory was written", i, shared_bytes);
#endif
    free(b->shared);
    for (const named_memory &m : b->named)
        free(m.data);
}

/* Warps one behind the other, any first, each as far as it can without the others. */
static bool run_warps(block_state *b)
{
    const int n = (n_threads + LANES - 1) / LANES, first = (int)(order_of() % (unsigned)n);
    bool progress = false;
    for (int k = 0; k < n; k++) {
        const int warp = (first + k) % n;
        for (bool on = true; on;) {
            on = false;
            const int start = (int)(order_of() % LANES);
            for (int lane = 0; lane < LANES; lane++) {
                const int i = warp * LANES + (start + lane) % LANES;
                if (i < n_threads && can_run(&fibers[(size_t)(b->first + i)])) {
                    resume(&fibers[(size_t)(b->first + i)]);
                    progress = on = true;
                }
            }
        }
    }
    return progress;
}

/* Each thread that can go on does so once, or, in half of the blocks, warp by warp for longer: what
 * warps hand on to each other without a barrier is not there yet, or no more. False: none can. */
static bool run_round(block_state *b, std::vector<int> &order)
{
    bool progress = false;
    enter_block(b);
    if (b->by_warps)
        return run_warps(b);
    shuffle(order.data(), n_threads);
    for (int i : order) {
        fiber *f = &fibers[(size_t)(b->first + i)];
        if (!can_run(f))
            continue;
        progress = true;
        resume(f);
    }
    return progress;
}

static std::vector<int> begin_grid(dim3 grid, dim3 block_dim, const std::function<void()> &body,
                                   size_t n_blocks)
{
    emulated.grid_dim = grid;
    emulated.block_dim = block_dim;
    n_threads = (int)(block_dim.x * block_dim.y * block_dim.z);
    kernel_body = body;
    if (fibers.size() < n_blocks * (size_t)n_threads)
        fibers.resize(n_blocks * (size_t)n_threads);
    std::vector<int> order((size_t)n_threads);
    for (int i = 0; i < n_threads; i++)
        order[(size_t)i] = i;
    return order;
}

static uint3 index_in(dim3 grid, uint64_t b)
{
    return {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
            (unsigned)(b / grid.x / grid.y)};
}

/* Blocks run one after another, beginning with any, since a grid promises no order. */
void emulated_run(dim3 grid, dim3 block_dim, size_t shared_bytes, const std::function<void()> &body)
{
    std::vector<int> order = begin_grid(grid, block_dim, body, 1);
    const uint64_t n = (uint64_t)grid.x * grid.y * grid.z, first = order_of() % n;
    for (uint64_t i = 0; i < n; i++) {
        block_state b;
        start_block(&b, index_in(grid, (first + i) % n), 0, shared_bytes);
        while (b.n_live > 0)
            if (!run_round(&b, order))
                broken("its threads wait for each other");
        end_block(&b, shared_bytes);
    }
    kernel_body = nullptr;
}

/* All blocks are there at once. One of them, any, goes a step, or as far as it can without the
 * others, then another: who does not wait for the grid where he should reads what is not there. */
void emulated_run_together(dim3 grid, dim3 block_dim, size_t shared_bytes,
                           const std::function<void()> &body)
{
    const size_t n = (size_t)grid.x * grid.y * grid.z;
    std::vector<int> order = begin_grid(grid, block_dim, body, n), turns(n);
    std::vector<block_state> blocks(n);
    bool progress = true;
    for (size_t i = 0; i < n; i++) {
        start_block(&blocks[i], index_in(grid, i), (int)i * n_threads, shared_bytes);
        turns[i] = (int)i;
    }
    while (progress) {
        progress = false;
        shuffle(turns.data(), (int)n);
        for (int i : turns) {
            bool on = true, far = order_of() % 2;
            for (int round = 0; on && (far || round == 0); round++) {
                on = blocks[(size_t)i].n_live > 0 && run_round(&blocks[(size_t)i], order);
                progress = progress || on;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        enter_block(&blocks[i]);
        if (blocks[i].n_live > 0)
            broken("the blocks of the grid wait for each other");
    }
    for (size_t i = 0; i < n; i++)
        end_block(&blocks[i], shared_bytes);
    kernel_body = nullptr;
}
