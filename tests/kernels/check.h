/* Checks every kernel against the plain C reference, one instruction set after
 * the other, and times both. Modelled on the idea of dav1d's checkasm: one
 * program, driven by kernels/list.h, one file a family.
 *
 * For each level of the processor an entry whose pointer differs from the level
 * below is handed to check_<family>_<member>(); the reference itself is the
 * first level, so properties that need no second implementation are held by it
 * too. Under --bench the entry goes to bench_<family>_<member>() instead. */
#ifndef TESTS_KERNELS_CHECK_H
#define TESTS_KERNELS_CHECK_H

#include "kernels/kernels.h"
#include "kernels/list.h"

struct check_buffer;

struct check {
    const struct infer_kernels *ref; /* the reference: what is right */
    const struct infer_kernels *dut; /* the level under test; equals ref at level "ref" */
    infer_dtype dtype;               /* of the entry; -1 where it has none */
    uint64_t rng;                    /* seeded per entry: the same for every level */
    int failures;
    const char *level; /* "ref", "avx2", ... */
    const char *entry; /* "attn.paged[F16]" */
    struct check_buffer *buffers;
    const struct check_options *options;
};

struct check_options {
    uint64_t seed;
    int bench;
    int rounds;        /* random shapes of the costly families */
    const char *level; /* the one to check, or NULL */
    const char *only;  /* substring an entry's name must contain, or NULL */
};

/* Of the reference itself few rounds want the small shapes alone: it has no blocks of rows, and a
 * sanitizer makes it ten times as slow. */
static inline int check_is_brief(const struct check *c)
{
    return c->dut == c->ref && c->options->rounds < 10;
}

typedef void check_fn(struct check *c);

/* check_norm_rms, bench_norm_rms, ...: see kernels/list.h. */
#define CHECK_DECLARE(family, member)                                                              \
    check_fn check_##family##_##member;                                                            \
    check_fn bench_##family##_##member;
#define CHECK_DECLARE_TYPED(family, member, dtype) CHECK_DECLARE(family, member)
KERN_LIST(CHECK_DECLARE, CHECK_DECLARE_TYPED)

/* ---- random input: uniform, with a share of hard values on request */

uint32_t check_u32(struct check *c);
int32_t check_range(struct check *c, int32_t low, int32_t high); /* both included */
float check_uniform(struct check *c, float low, float high);
void check_fill(struct check *c, float *dst, size_t n, float low, float high);
void check_fill_bytes(struct check *c, void *dst, size_t bytes);

/* ---- buffers: zeroed, freed and verified by check_release()
 *
 * The end of the buffer lies against a page that cannot be touched, as closely
 * as `align` allows (1 for bytes, sizeof(float) for floats whose start shall be
 * misaligned for wide loads, 64 where the contract promises it); the bytes
 * before it and the slack after it are canaries. Reading or writing outside
 * fails the entry. */
void *check_buffer(struct check *c, size_t bytes, size_t align);
float *check_floats(struct check *c, size_t n); /* align 4 */
void check_release(struct check *c);

/* ---- verdicts: each prints at most a few lines per entry; the format says where */

/* |got - want| <= atol + rtol * |want| everywhere, NaN and infinities alike,
 * and sum (got - want)^2 <= nmse * sum want^2 over the finite values. */
struct check_bound {
    double atol, rtol, nmse;
};

int check_close(struct check *c, const float *got, const float *want, size_t n,
                struct check_bound bound, const char *format, ...) BASE_PRINTF(6, 7);
int check_same_bytes(struct check *c, const void *got, const void *want, size_t bytes,
                     const char *format, ...) BASE_PRINTF(5, 6);
int check_true(struct check *c, int condition, const char *format, ...) BASE_PRINTF(3, 4);

/* ---- timing
 *
 * Runs `call` with each table and reports the median: warm (the same data
 * again) and, where `cold` is set, after the caches were swept: for calls of
 * tens of microseconds, next to which reading the clock is nothing. `work` is what
 * one call moves or computes; unit "B" is printed as GB/s, "flop" as GFLOP/s. */
typedef void check_call_fn(const struct infer_kernels *kernels, void *arg);

struct check_work {
    double amount;
    const char *unit;
    int cold;
};

void check_time(struct check *c, const char *label, check_call_fn *call, void *arg,
                struct check_work work);

#endif
