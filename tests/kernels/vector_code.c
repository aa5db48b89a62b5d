/* Checks and timing of kernels/<level>/vector_code*: estimates by codes, and the rotation. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CODES_MAX = 37, BLOCKS_MAX = 40 };

static kern_vector_estimate_fn *entry_of(const struct infer_kernels *k, int32_t bits)
{
    return bits == 2 ? k->vector.estimate2 : bits == 4 ? k->vector.estimate4 : k->vector.estimate8;
}

/* Codes against guard pages, with their floats at the end. Of 8 bits, bytes are 127 at most. */
static void make_codes(struct check *c, const void **codes, int32_t n, int32_t n_blocks,
                       int32_t bits, int largest)
{
    for (int32_t i = 0; i < n; i++) {
        const size_t bytes = (size_t)n_blocks * 64;
        uint8_t *code = check_buffer(c, bytes + 8, 1);
        const float factors[2] = {check_uniform(c, -0.1f, 0.1f), check_uniform(c, -3.0f, 3.0f)};

        check_fill_bytes(c, code, bytes);
        for (size_t t = 0; t < bytes; t++) {
            code[t] = largest ? 255 : code[t];
            code[t] &= bits == 8 ? 127 : 255;
        }
        memcpy(code + bytes, factors, sizeof(factors));
        codes[i] = code;
    }
}

static void estimate_random(struct check *c, int32_t bits, int32_t n, int32_t n_blocks, int largest)
{
    const size_t bytes = (size_t)n_blocks * 64 * (size_t)(8 / bits);
    const void *codes[CODES_MAX];
    int8_t *query = check_buffer(c, bytes, 1);
    float *want = check_floats(c, (size_t)n), *got = check_floats(c, (size_t)n);
    const struct kern_vector_estimate args = {.query = query,
                                              .n_blocks = n_blocks,
                                              .scale_at = n_blocks * 64,
                                              .base_at = n_blocks * 64 + 4,
                                              .scale = check_uniform(c, 0.0f, 0.01f),
                                              .shift = check_uniform(c, -2.0f, 2.0f)};

    check_fill_bytes(c, query, bytes);
    for (size_t i = 0; i < bytes; i++) {
        query[i] = largest ? (i % 2 && largest == 2 ? 127 : -127) : query[i] == -128 ? 0 : query[i];
    }
    make_codes(c, codes, n, n_blocks, bits, largest);
    entry_of(c->ref, bits)(want, codes, n, &args);
    entry_of(c->dut, bits)(got, codes, n, &args);
    check_same_bytes(c, got, want, (size_t)n * 4, "%d bits, n=%d, blocks=%d", (int)bits, (int)n,
                     (int)n_blocks);
    for (int32_t i = 0; i < n; i++) {
        entry_of(c->dut, bits)(got + i, codes + i, 1, &args);
    }
    check_same_bytes(c, got, want, (size_t)n * 4, "%d bits, one a call, n=%d", (int)bits, (int)n);
    check_release(c);
}

/* Fields 1, 2, 3 ... of one byte, against a query of one number in each. */
static void estimate_known(struct check *c, int32_t bits)
{
    const int32_t fields = 8 / bits;
    const float factors[2] = {2.0f, 100.0f};
    uint8_t *code = check_buffer(c, 72, 1);
    int8_t *query = check_buffer(c, (size_t)fields * 64, 1);
    float *got = check_floats(c, 1);
    const void *codes[1] = {code};
    const struct kern_vector_estimate args = {
        .query = query, .n_blocks = 1, .scale_at = 64, .base_at = 68, .scale = 0.5f, .shift = 3.0f};
    int32_t sum = 0;
    float want;

    for (int32_t j = 0; j < fields; j++) {
        const int32_t u = j + 1 < 1 << bits ? j + 1 : 1;

        code[5] = (uint8_t)(code[5] | u << j * bits);
        query[j * 64 + 5] = (int8_t)(10 * (j + 1));
        query[j * 64 + 6] = 77; /* against a code of 0 */
        sum += u * 10 * (j + 1);
    }
    memcpy(code + 64, factors, sizeof(factors));
    want = 2.0f * (0.5f * (float)sum - 3.0f) + 100.0f;
    entry_of(c->dut, bits)(got, codes, 1, &args);
    check_same_bytes(c, got, &want, 4, "%d bits, by hand", (int)bits);
    check_release(c);
}

static void check_estimate(struct check *c, int32_t bits)
{
    estimate_known(c, bits);
    for (int32_t n_blocks = 1; n_blocks <= 6; n_blocks++) {
        for (int32_t n = 1; n <= 9; n++) {
            estimate_random(c, bits, n, n_blocks, 0);
        }
    }
    estimate_random(c, bits, CODES_MAX, BLOCKS_MAX, 0);
    estimate_random(c, bits, 6, BLOCKS_MAX, 1);
    estimate_random(c, bits, 6, BLOCKS_MAX, 2);
}

void check_vector_estimate2(struct check *c)
{
    check_estimate(c, 2);
}

void check_vector_estimate4(struct check *c)
{
    check_estimate(c, 4);
}

void check_vector_estimate8(struct check *c)
{
    check_estimate(c, 8);
}

/* -------------------------------------------------------------- rotation */

static void rotate_random(struct check *c, int32_t n)
{
    float *x = check_floats(c, (size_t)n), *want = check_floats(c, (size_t)n);
    float *signs = check_floats(c, (size_t)n * KERN_VECTOR_ROUNDS);
    double before = 0.0, after = 0.0;

    check_fill(c, x, (size_t)n, -2.0f, 2.0f);
    memcpy(want, x, (size_t)n * 4);
    for (int32_t i = 0; i < n * KERN_VECTOR_ROUNDS; i++) {
        signs[i] = check_u32(c) & 1 ? 1.0f : -1.0f;
    }
    c->ref->vector.rotate(want, signs, n);
    for (int32_t i = 0; i < n; i++) {
        before += (double)x[i] * (double)x[i];
    }
    c->dut->vector.rotate(x, signs, n);
    check_same_bytes(c, x, want, (size_t)n * 4, "n=%d", (int)n);
    for (int32_t i = 0; i < n; i++) {
        after += (double)x[i] * (double)x[i];
    }
    check_true(c, fabs(after - before) <= 1e-5 * before,
               "n=%d: the squared length went from %g to %g", (int)n, before, after);
    check_release(c);
}

/* Of 16 all are one transform: four of them without signs are none at all, and one that is not 0
 * spreads over the rest when n is larger. */
static void rotate_known(struct check *c)
{
    float *x = check_floats(c, 48), *want = check_floats(c, 16);
    float *signs = check_floats(c, (size_t)48 * KERN_VECTOR_ROUNDS);
    int n_zero = 0;

    for (int32_t i = 0; i < 48 * KERN_VECTOR_ROUNDS; i++) {
        signs[i] = 1.0f;
    }
    x[3] = want[3] = 8.0f;
    c->dut->vector.rotate(x, signs, 16);
    check_same_bytes(c, x, want, 64, "a transform is its own inverse");
    memset(x, 0, 48 * 4);
    x[0] = 1.0f;
    c->dut->vector.rotate(x, signs, 48);
    for (int32_t i = 0; i < 48; i++) {
        n_zero += x[i] == 0.0f;
    }
    check_true(c, n_zero < 12, "%d of 48 stayed 0", n_zero); /* some cancel without signs */
    check_release(c);
}

void check_vector_rotate(struct check *c)
{
    rotate_known(c);
    for (int32_t n = 16; n <= 1040; n += n < 200 ? 16 : 208) {
        rotate_random(c, n);
    }
    rotate_random(c, 8192);
}

/* ---------------------------------------------------------------- timing */

struct call {
    float out[CODES_MAX];
    const void *codes[CODES_MAX];
    struct kern_vector_estimate args;
    int32_t bits, n;
    float *x, *signs;
};

static void call_estimate(const struct infer_kernels *kernels, void *arg)
{
    struct call *call = arg;

    entry_of(kernels, call->bits)(call->out, call->codes, call->n, &call->args);
}

/* Codes of 384 dims, as many as neighbours. */
static void bench_estimate(struct check *c, int32_t bits)
{
    struct call call = {.bits = bits, .n = 16};
    const int32_t n_blocks = (384 * bits / 8 + 63) / 64;
    char label[32];

    call.args = (struct kern_vector_estimate){
        .query = check_buffer(c, (size_t)n_blocks * 64 * (size_t)(8 / bits), 64),
        .n_blocks = n_blocks,
        .scale_at = n_blocks * 64,
        .base_at = n_blocks * 64 + 4,
        .scale = 1.0f};
    make_codes(c, call.codes, call.n, n_blocks, bits, 0);
    snprintf(label, sizeof(label), "16 x 384");
    check_time(c, label, call_estimate, &call,
               (struct check_work){16.0 * 384.0 * bits / 8.0, "B", 0});
    check_release(c);
}

void bench_vector_estimate2(struct check *c)
{
    bench_estimate(c, 2);
}

void bench_vector_estimate4(struct check *c)
{
    bench_estimate(c, 4);
}

void bench_vector_estimate8(struct check *c)
{
    bench_estimate(c, 8);
}

static void call_rotate(const struct infer_kernels *kernels, void *arg)
{
    struct call *call = arg;

    kernels->vector.rotate(call->x, call->signs, call->n);
}

void bench_vector_rotate(struct check *c)
{
    struct call call = {.n = 384};

    call.x = check_floats(c, 384);
    call.signs = check_floats(c, (size_t)384 * KERN_VECTOR_ROUNDS);
    for (int32_t i = 0; i < 384 * KERN_VECTOR_ROUNDS; i++) {
        call.signs[i] = 1.0f;
    }
    check_fill(c, call.x, 384, -1.0f, 1.0f);
    check_time(c, "384", call_rotate, &call, (struct check_work){384.0 * 4.0, "B", 0});
    check_release(c);
}
