/* Random input, guarded buffers and comparison for the kernel checks. */
#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 0xa5, LINES_MAX = 5 };

/* ---------------------------------------------------------------- random */

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t check_u32(struct check *c)
{
    return (uint32_t)(next(&c->rng) >> 32);
}

int32_t check_range(struct check *c, int32_t low, int32_t high)
{
    return low + (int32_t)(check_u32(c) % (uint32_t)(high - low + 1));
}

float check_uniform(struct check *c, float low, float high)
{
    return low + (high - low) * (float)(check_u32(c) >> 8) * 0x1p-24f;
}

void check_fill(struct check *c, float *dst, size_t n, float low, float high)
{
    for (size_t i = 0; i < n; i++) {
        dst[i] = check_uniform(c, low, high);
    }
}

void check_fill_bytes(struct check *c, void *dst, size_t bytes)
{
    uint8_t *p = dst;

    for (size_t i = 0; i < bytes; i++) {
        p[i] = (uint8_t)check_u32(c);
    }
}

/* --------------------------------------------------------------- buffers */

struct check_buffer {
    struct check_buffer *below;
    uint8_t *map;     /* pages that may be touched, then one that may not */
    size_t map_bytes; /* without the last page */
    size_t page;
    uint8_t *data;
    size_t bytes;
};

void *check_buffer(struct check *c, size_t bytes, size_t align)
{
    struct check_buffer *b = calloc(1, sizeof(*b));
    /* One in four lies further from the wall, so that sizes which are a
     * multiple of a vector meet misaligned starts too. */
    const uint32_t draw = check_u32(c);
    const size_t slack = draw % 4 == 0 ? (draw / 4 % 15 + 1) * align : 0;
    uintptr_t end;

    if (!b) {
        abort();
    }
    b->page = (size_t)sysconf(_SC_PAGESIZE);
    b->bytes = bytes;
    b->map_bytes = BASE_ALIGN_UP(bytes + slack + align + 64, b->page);
    b->map = mmap(NULL, b->map_bytes + b->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    if (b->map == MAP_FAILED || mprotect(b->map + b->map_bytes, b->page, PROT_NONE)) {
        abort();
    }
    memset(b->map, CANARY, b->map_bytes);
    end = (uintptr_t)(b->map + b->map_bytes);
    b->data = b->map + b->map_bytes - (end - (end - bytes - slack) / align * align);
    memset(b->data, 0, bytes);
    b->below = c->buffers;
    c->buffers = b;
    return b->data;
}

float *check_floats(struct check *c, size_t n)
{
    return check_buffer(c, n * sizeof(float), sizeof(float));
}

static int canaries_intact(const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        if (*p++ != CANARY) {
            return 0;
        }
    }
    return 1;
}

void check_release(struct check *c)
{
    while (c->buffers) {
        struct check_buffer *b = c->buffers;

        check_true(c, canaries_intact(b->map, b->data), "write before a buffer of %zu bytes",
                   b->bytes);
        check_true(c, canaries_intact(b->data + b->bytes, b->map + b->map_bytes),
                   "write after a buffer of %zu bytes", b->bytes);
        c->buffers = b->below;
        munmap(b->map, b->map_bytes + b->page);
        free(b);
    }
}

/* -------------------------------------------------------------- verdicts */

/* Counts the failure; true while it should still be printed. */
static int fail(struct check *c)
{
    c->failures++;
    if (c->failures == LINES_MAX + 1) {
        printf("#   %s %s: more failures follow\n", c->level, c->entry);
    }
    return c->failures <= LINES_MAX;
}

static void print_where(struct check *c, const char *format, va_list args)
{
    printf("#   %s %s: ", c->level, c->entry);
    vprintf(format, args);
}

int check_true(struct check *c, int condition, const char *format, ...)
{
    va_list args;

    if (condition) {
        return 1;
    }
    if (fail(c)) {
        va_start(args, format);
        print_where(c, format, args);
        va_end(args);
        printf("\n");
    }
    return 0;
}

static int close_enough(float got, float want, struct check_bound bound)
{
    if (isnan(want) || isnan(got)) {
        return isnan(want) && isnan(got);
    }
    if (isinf(want) || isinf(got)) {
        return want == got;
    }
    return fabs((double)got - (double)want) <= bound.atol + bound.rtol * fabs((double)want);
}

int check_close(struct check *c, const float *got, const float *want, size_t n,
                struct check_bound bound, const char *format, ...)
{
    double error = 0.0, power = 0.0;
    size_t bad = n;
    va_list args;

    for (size_t i = 0; i < n; i++) {
        if (!close_enough(got[i], want[i], bound) && bad == n) {
            bad = i;
        }
        if (isfinite(got[i]) && isfinite(want[i])) {
            const double d = (double)got[i] - (double)want[i];

            error += d * d;
            power += (double)want[i] * (double)want[i];
        }
    }
    if (bad == n && error <= bound.nmse * power + bound.atol * bound.atol * (double)n) {
        return 1;
    }
    if (fail(c)) {
        va_start(args, format);
        print_where(c, format, args);
        va_end(args);
        if (bad < n) {
            printf(": element %zu of %zu is %.9g, reference %.9g\n", bad, n, (double)got[bad],
                   (double)want[bad]);
        } else {
            printf(": NMSE %.3g over %zu elements\n", error / power, n);
        }
    }
    return 0;
}

int check_same_bytes(struct check *c, const void *got, const void *want, size_t bytes,
                     const char *format, ...)
{
    const uint8_t *g = got;
    const uint8_t *w = want;
    va_list args;

    for (size_t i = 0; i < bytes; i++) {
        if (g[i] == w[i]) {
            continue;
        }
        if (fail(c)) {
            va_start(args, format);
            print_where(c, format, args);
            va_end(args);
            printf(": byte %zu of %zu is 0x%02x, expected 0x%02x\n", i, bytes, g[i], w[i]);
        }
        return 0;
    }
    return 1;
}
