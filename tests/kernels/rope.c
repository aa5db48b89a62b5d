/* Checks and timing of kernels/<level>/rope*. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct check_bound bound = {.atol = 1e-6, .rtol = 1e-6, .nmse = 1e-13};

static kern_rope_fn *rope_of(const struct infer_kernels *kernels, int in_halves)
{
    return in_halves ? kernels->rope.halves : kernels->rope.pairs;
}

static void random_shape(struct check *c, int in_halves, int32_t n_heads, int32_t head_dim,
                         int32_t n_rot)
{
    const size_t n = (size_t)n_heads * (size_t)head_dim;
    kern_rope_fn *rope = rope_of(c->dut, in_halves);
    float *x = check_floats(c, n);
    float *y = check_floats(c, n);
    float *alone = check_floats(c, n);
    float *want = check_floats(c, n);
    float *cs = check_floats(c, (size_t)n_rot);

    check_fill(c, x, n, -2.0f, 2.0f);
    check_fill(c, cs, (size_t)n_rot, -1.0f, 1.0f);
    memcpy(want, x, n * 4);
    memcpy(y, x, n * 4);
    memcpy(alone, x, n * 4);
    rope_of(c->ref, in_halves)(want, n_heads, head_dim, n_rot, cs);
    rope(y, n_heads, head_dim, n_rot, cs);
    check_close(c, y, want, n, bound, "%d heads of %d, %d rotated", (int)n_heads, (int)head_dim,
                (int)n_rot);
    for (int32_t h = 0; h < n_heads; h++) {
        const float *tail = x + (size_t)h * (size_t)head_dim + n_rot;

        check_same_bytes(c, tail - x + y, tail, (size_t)(head_dim - n_rot) * 4,
                         "elements beyond %d", (int)n_rot);
        rope(alone + (size_t)h * (size_t)head_dim, 1, head_dim, n_rot, cs);
    }
    check_same_bytes(c, alone, y, n * 4, "one head a call, %d rotated", (int)n_rot);
    check_release(c);
}

/* A quarter turn sends (a, b) to (-b, a); which elements pair up is the point. */
static void known(struct check *c, int in_halves)
{
    static const float quarter[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    static const float as_pairs[10] = {-2, 1, -4, 3, -6, 5, -8, 7, 9, 10};
    static const float as_halves[10] = {-5, -6, -7, -8, 1, 2, 3, 4, 9, 10};
    float *x = check_floats(c, 10);

    for (int i = 0; i < 10; i++) {
        x[i] = (float)(i + 1);
    }
    rope_of(c->dut, in_halves)(x, 1, 10, 8, quarter);
    check_close(c, x, in_halves ? as_halves : as_pairs, 10, (struct check_bound){0, 0, 0},
                "quarter turn");
    check_release(c);
}

/* A NaN stays within the pair it belongs to. */
static void special(struct check *c, int in_halves, int32_t n_rot)
{
    float *x = check_floats(c, (size_t)n_rot);
    float *want = check_floats(c, (size_t)n_rot);
    float *cs = check_floats(c, (size_t)n_rot);

    check_fill(c, x, (size_t)n_rot, -1.0f, 1.0f);
    check_fill(c, cs, (size_t)n_rot, 0.1f, 1.0f);
    x[check_range(c, 0, n_rot - 1)] = check_u32(c) % 2 ? NAN : INFINITY;
    memcpy(want, x, (size_t)n_rot * 4);
    rope_of(c->ref, in_halves)(want, 1, n_rot, n_rot, cs);
    rope_of(c->dut, in_halves)(x, 1, n_rot, n_rot, cs);
    check_close(c, x, want, (size_t)n_rot, bound, "NaN or infinity in %d", (int)n_rot);
    check_release(c);
}

static void check_rope(struct check *c, int in_halves)
{
    static const int32_t rotated[] = {0, 2, 4, 6, 8, 14, 16, 18, 30, 32, 34, 64, 80, 96, 128, 130};

    known(c, in_halves);
    for (size_t i = 0; i < BASE_COUNT(rotated); i++) {
        random_shape(c, in_halves, 3, rotated[i], rotated[i]);
        random_shape(c, in_halves, 2, rotated[i] + 1, rotated[i]);
        random_shape(c, in_halves, 1, rotated[i] + 48, rotated[i]);
    }
    random_shape(c, in_halves, 0, 64, 64);
    for (int i = 0; i < 50; i++) {
        const int32_t n_rot = 2 * check_range(c, 1, 80);

        random_shape(c, in_halves, check_range(c, 1, 9), n_rot + check_range(c, 0, 20), n_rot);
        special(c, in_halves, n_rot);
    }
}

void check_rope_pairs(struct check *c)
{
    check_rope(c, 0);
}

void check_rope_halves(struct check *c)
{
    check_rope(c, 1);
}

struct call {
    float *x, *cs;
    int32_t n_heads, head_dim;
    int in_halves;
};

static void call_rope(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    rope_of(kernels, a->in_halves)(a->x, a->n_heads, a->head_dim, a->head_dim, a->cs);
}

static void bench_rope(struct check *c, int in_halves)
{
    const int32_t head_dims[] = {64, 128};

    for (size_t i = 0; i < BASE_COUNT(head_dims); i++) {
        const size_t n = 32 * (size_t)head_dims[i];
        struct call a = {check_buffer(c, n * 4, 64), check_buffer(c, (size_t)head_dims[i] * 4, 64),
                         32, head_dims[i], in_halves};
        const struct check_work work = {8.0 * (double)n, "B", 0};
        char label[32];

        snprintf(label, sizeof(label), "32 heads of %d", (int)head_dims[i]);
        check_fill(c, a.x, n, -1.0f, 1.0f);
        for (int32_t j = 0; j < head_dims[i] / 2; j++) {
            a.cs[j] = cosf((float)j);
            a.cs[head_dims[i] / 2 + j] = sinf((float)j);
        }
        check_time(c, label, call_rope, &a, work);
        check_release(c);
    }
}

void bench_rope_pairs(struct check *c)
{
    bench_rope(c, 0);
}

void bench_rope_halves(struct check *c)
{
    bench_rope(c, 1);
}
