/* Checks and timing of kernels/<level>/quant*: everything bit for bit. */
#include "check.h"
#include "kernels/quant_blocks.h"
#include "kv.h"
#include "quant_golden.h"
#include "weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Equal bits, or both NaN: which of two NaN a product keeps is the processor's choice. */
static void same_floats(struct check *c, const float *got, const float *want, size_t n,
                        const char *what)
{
    for (size_t i = 0; i < n; i++) {
        if (!(isnan(got[i]) && isnan(want[i])) &&
            !check_true(c, memcmp(got + i, want + i, 4) == 0,
                        "%s: element %zu of %zu is %a, expected %a", what, i, n, (double)got[i],
                        (double)want[i])) {
            return;
        }
    }
}

/* ---------------------------------------------------------------- dequant */

/* Any bytes are a legal block: scales that are infinite or NaN come too. */
static void dequant_random(struct check *c, int32_t n_blocks, size_t align)
{
    const struct weights_type t = weights_type_of(c->dtype);
    const size_t k = (size_t)n_blocks * (size_t)t.block;
    uint8_t *src = check_buffer(c, (size_t)n_blocks * t.bytes, align);
    float *got = check_floats(c, k), *again = check_floats(c, k), *want = check_floats(c, k);

    check_fill_bytes(c, src, (size_t)n_blocks * t.bytes);
    c->ref->quant.dequant[t.dtype](want, src, (int32_t)k);
    c->dut->quant.dequant[t.dtype](got, src, (int32_t)k);
    same_floats(c, got, want, k, "random blocks");
    c->dut->quant.dequant[t.dtype](again, src, (int32_t)k);
    check_same_bytes(c, again, got, k * 4, "%d blocks repeated", (int)n_blocks);
    check_release(c);
}

/* splitmix64 (Steele et al. 2014) from state 1: the bytes that the golden sums belong to. */
static void fill_golden(uint8_t *p, size_t bytes)
{
    uint64_t state = 1;

    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        memcpy(p + i, &z, BASE_MIN(bytes - i, sizeof(z)));
    }
}

static uint64_t golden_sum(const float *x, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0x7fc00000u;

        if (!isnan(x[i])) {
            memcpy(&bits, x + i, sizeof(bits));
        }
        h = (h ^ bits) * 0x100000001b3u;
    }
    return h;
}

/* A few blocks float by float; many of any bytes (scales of NaN, infinity, zero and
 * subnormal numbers come by chance) by one sum. */
static void dequant_golden(struct check *c)
{
    const struct weights_type t = weights_type_of(c->dtype);
    const size_t n = (size_t)t.block * GOLDEN_MANY, bytes = t.bytes * GOLDEN_MANY;
    int found = 0;

    for (size_t i = 0; i < BASE_COUNT(goldens); i++) {
        if (goldens[i].dtype == c->dtype) {
            const struct golden *g = &goldens[i];
            float *got = check_floats(c, g->n), *many = check_floats(c, n);
            uint8_t *src = check_buffer(c, bytes, 1);

            c->dut->quant.dequant[c->dtype](got, g->blocks, (int32_t)g->n);
            check_same_bytes(c, got, g->floats, g->n * 4, "golden blocks");
            fill_golden(src, bytes);
            c->dut->quant.dequant[c->dtype](many, src, (int32_t)n);
            check_true(c, golden_sum(many, n) == g->sum, "the sum of golden blocks is wrong");
            check_release(c);
            found = 1;
        }
    }
    check_true(c, found == (t.block > 1), "golden blocks are missing");
}

/* All 256 values of an 8-bit float, as its definition gives them. */
static void dequant_all_8bit(struct check *c)
{
    uint8_t *src = check_buffer(c, 256, 1);
    float *got = check_floats(c, 256), *want = check_floats(c, 256);
    const int e4m3 = c->dtype == INFER_DTYPE_F8_E4M3;
    const int bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15;

    for (int i = 0; i < 256; i++) {
        const int exponent = (i & 0x7f) >> bits, fraction = i & ((1 << bits) - 1);
        float size = exponent ? ldexpf((float)(fraction | 1 << bits), exponent - bias - bits)
                              : ldexpf((float)fraction, 1 - bias - bits);

        if (e4m3 && (i & 0x7f) == 0x7f) {
            size = NAN;
        } else if (!e4m3 && exponent == 31) {
            size = fraction ? NAN : INFINITY;
        }
        src[i] = (uint8_t)i;
        want[i] = i & 0x80 ? -size : size;
    }
    c->dut->quant.dequant[c->dtype](got, src, 256);
    same_floats(c, got, want, 256, "all values");
    check_release(c);
}

/* All 65536 values, whose meaning the format's definition gives directly. */
static void dequant_all_16bit(struct check *c)
{
    uint16_t *src = check_buffer(c, 65536 * sizeof(*src), sizeof(*src));
    float *got = check_floats(c, 65536), *want = check_floats(c, 65536);
    const int bits = c->dtype == INFER_DTYPE_F16 ? 10 : 7;
    const int bias = c->dtype == INFER_DTYPE_F16 ? 15 : 127;

    for (int i = 0; i < 65536; i++) {
        const int exponent = (i & 0x7fff) >> bits, fraction = i & ((1 << bits) - 1);
        const int top = (1 << (15 - bits)) - 1;
        float size = exponent ? ldexpf((float)(fraction | 1 << bits), exponent - bias - bits)
                              : ldexpf((float)fraction, 1 - bias - bits);

        if (exponent == top) {
            size = fraction ? NAN : INFINITY;
        }
        src[i] = (uint16_t)i;
        want[i] = i & 0x8000 ? -size : size;
    }
    c->dut->quant.dequant[c->dtype](got, src, 65536);
    same_floats(c, got, want, 65536, "all values");
    check_release(c);
}

void check_quant_dequant(struct check *c)
{
    dequant_golden(c);
    if (c->dtype == INFER_DTYPE_F16 || c->dtype == INFER_DTYPE_BF16) {
        dequant_all_16bit(c);
    }
    if (c->dtype == INFER_DTYPE_F8_E4M3 || c->dtype == INFER_DTYPE_F8_E5M2) {
        dequant_all_8bit(c);
    }
    for (int32_t n = 0; n < 40; n++) {
        dequant_random(c, n, 1);
        dequant_random(c, n, 2);
        dequant_random(c, n, 64);
    }
}

/* ----------------------------------------------------------------- narrow */

/* Any bits are a legal float; every third value is moved next to where the
 * rounding of F16 and BF16 changes its mind. */
static void fill_any_bits(struct check *c, float *x, size_t n)
{
    check_fill_bytes(c, x, n * 4);
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t near[4] = {0x8000u, 0x7fffu, 0x1000u, 0x0fffu};
        uint32_t bits = check_u32(c);

        bits = (bits & 0xffff0000u & ~(bits % 2 << 31)) + near[bits % 4];
        if (bits / 4 % 2) { /* in the range of halves and their subnormals */
            bits = (bits & 0x8fffffffu) | 0x30000000u;
        }
        if (c->dtype == INFER_DTYPE_F8_E4M3) { /* also where it is to round, and about its range */
            bits = (bits & ~0xfffffu) | (uint32_t[]){0x80000u, 0x7ffffu, 0x80001u, 0}[bits % 4];
            bits = (bits & 0x87ffffffu) | (bits & 1u << 28 ? 0x40000000u : 0x38000000u);
        }
        memcpy(x + i, &bits, 4);
    }
}

static void narrow_random(struct check *c, int32_t n)
{
    const size_t size = weights_type_of(c->dtype).bytes;
    float *src = check_floats(c, (size_t)n);
    uint8_t *got = check_buffer(c, (size_t)n * size, size);
    uint8_t *want = check_buffer(c, (size_t)n * size, size);

    fill_any_bits(c, src, (size_t)n);
    c->ref->quant.narrow[c->dtype](want, src, n);
    c->dut->quant.narrow[c->dtype](got, src, n);
    check_same_bytes(c, got, want, (size_t)n * size, "narrow n=%d", (int)n);
    check_release(c);
}

/* What a 16-bit type holds survives the way to float and back; a NaN may become quiet. */
static void narrow_round_trip(struct check *c)
{
    const uint16_t top = c->dtype == INFER_DTYPE_F16 ? 0x7c00 : 0x7f80;
    const uint16_t quiet = c->dtype == INFER_DTYPE_F16 ? 0x200 : 0x40;
    uint16_t *all = check_buffer(c, 65536 * 2, 2), *back = check_buffer(c, 65536 * 2, 2);
    float *wide = check_floats(c, 65536);

    for (int i = 0; i < 65536; i++) {
        all[i] = (uint16_t)i;
    }
    c->ref->quant.dequant[c->dtype](wide, all, 65536);
    c->dut->quant.narrow[c->dtype](back, wide, 65536);
    for (int i = 0; i < 65536; i++) {
        const uint16_t want = (uint16_t)(i | ((i & 0x7fff) > top ? quiet : 0));

        check_true(c, back[i] == want, "0x%04x came back as 0x%04x", (unsigned)i,
                   (unsigned)back[i]);
    }
    check_release(c);
}

/* Ties go to even; the largest finite value is kept, half a step more is infinity. */
static void narrow_known(struct check *c)
{
    static const float f16_in[8] = {0x1.002p0f,  0x1.006p0f, 65519.0f,   65520.0f,
                                    -0x1.8p-24f, 0x1p-25f,   0x1.8p-25f, -0.0f};
    static const uint16_t f16_out[8] = {0x3c00, 0x3c02, 0x7bff, 0x7c00, 0x8002, 0, 1, 0x8000};
    static const float bf16_in[8] = {0x1.01p0f,    0x1.03p0f, 0x1.fefffep127f, 0x1.ffp127f,
                                     -0x1.8p-133f, 0x1p-134f, 0x1.8p-134f,     -0.0f};
    static const uint16_t bf16_out[8] = {0x3f80, 0x3f82, 0x7f7f, 0x7f80, 0x8002, 0, 1, 0x8000};
    const int is_f16 = c->dtype == INFER_DTYPE_F16;
    uint16_t got[8];

    c->dut->quant.narrow[c->dtype](got, is_f16 ? f16_in : bf16_in, 8);
    check_same_bytes(c, got, is_f16 ? f16_out : bf16_out, sizeof(got), "ties and limits");
}

/* All numbers of E4M3, halves of the way between neighbours and what lies beside them, against the
 * nearest of all by its distance; what is beyond the largest is the largest. */
static void narrow_f8(struct check *c)
{
    float *x = check_floats(c, 127 * 8);
    double value[127];
    uint8_t got[127 * 8];
    int n = 0;

    for (int i = 0; i < 127; i++) {
        value[i] = kv_e4m3_value((uint8_t)i);
    }
    for (int i = 0; i < 127; i++) {
        const float half = (float)(i < 126 ? (value[i] + value[i + 1]) / 2 : 464.0);

        x[n++] = (float)value[i];
        x[n++] = -(float)value[i];
        x[n++] = half;
        x[n++] = nextafterf(half, 0.0f);
        x[n++] = nextafterf(half, 1e30f);
        x[n++] = -half;
        x[n++] = i % 2 ? 1e30f : -(float)INFINITY;
        x[n++] = i % 2 ? 1e-30f : 0x1p-149f;
    }
    c->dut->quant.narrow[c->dtype](got, x, n);
    for (int i = 0; i < n; i++) {
        int best = 0;

        for (int k = 1; k < 127; k++) {
            const double closer =
                fabs(value[k] - fabs((double)x[i])) - fabs(value[best] - fabs((double)x[i]));
            best = closer < 0 || (closer == 0 && k % 2 == 0) || isinf(x[i]) ? k : best;
        }
        check_true(c, got[i] == (best | (signbit(x[i]) ? 0x80 : 0)), "%g became 0x%02x",
                   (double)x[i], (unsigned)got[i]);
    }
    check_release(c);
}

void check_quant_narrow(struct check *c)
{
    if (c->dtype == INFER_DTYPE_Q8_0 || c->dtype == INFER_DTYPE_Q4_1) {
        check_kv_narrow(c);
        return;
    }
    if (c->dtype == INFER_DTYPE_F8_E4M3) {
        narrow_f8(c);
    } else if (c->dtype != INFER_DTYPE_F32) {
        narrow_known(c);
        narrow_round_trip(c);
    }
    for (int32_t n = 0; n < 100; n++) {
        narrow_random(c, n);
    }
    narrow_random(c, 20000);
}

/* ----------------------------------------------------------------- act_q8 */

static size_t act_used_bytes(int32_t k)
{
    return (size_t)k + (size_t)k / 32 * 4 + (size_t)k / 16 * 2;
}

/* What the contract says of one block, derived without the reference. */
static void act_block_holds(struct check *c, const struct kern_act_row *row, const float *x, int b)
{
    const int8_t *q = row->q + b * 32;
    const float d = row->d[b];
    int sum[2] = {0, 0};
    int peak = 0;
    float amax = 0.0f;

    for (int i = 0; i < 32; i++) {
        amax = fmaxf(amax, fabsf(x[b * 32 + i]));
        peak = BASE_MAX(peak, abs(q[i]));
        sum[i / 16] += q[i];
        check_true(c, fabs((double)d * q[i] - (double)x[b * 32 + i]) <= 0.50001 * (double)d,
                   "block %d element %d: %g became %d * %g", b, i, (double)x[b * 32 + i], q[i],
                   (double)d);
    }
    check_true(c, d == amax / 127.0f, "block %d: d is %g", b, (double)d);
    check_true(c, peak == (amax > 0.0f ? 127 : 0), "block %d: largest q is %d", b, peak);
    check_true(c, row->s[2 * b] == sum[0] && row->s[2 * b + 1] == sum[1],
               "block %d: sums are %d, %d", b, row->s[2 * b], row->s[2 * b + 1]);
}

static void act_random(struct check *c, int32_t k, float scale)
{
    float *x = check_floats(c, (size_t)k);
    uint8_t *got = check_buffer(c, act_used_bytes(k), 64);
    uint8_t *want = check_buffer(c, act_used_bytes(k), 64);
    const struct kern_act_row row = kern_act_row_of(got, k);

    check_fill(c, x, (size_t)k, -1.0f, 1.0f);
    for (int32_t i = 0; i < k; i++) {
        x[i] *= scale;
    }
    if (k > 64 && check_u32(c) % 2) {
        memset(x + 32, 0, 32 * sizeof(*x));
    }
    c->ref->quant.act_q8(want, x, k);
    c->dut->quant.act_q8(got, x, k);
    check_same_bytes(c, got, want, act_used_bytes(k), "k=%d scale %g", (int)k, (double)scale);
    for (int b = 0; b < k / 32; b++) {
        act_block_holds(c, &row, x, b);
    }
    check_release(c);
}

/* The block that holds it has a NaN scale and no values; the others do not notice. */
static void act_special(struct check *c, int32_t k, float value)
{
    float *x = check_floats(c, (size_t)k);
    uint8_t *got = check_buffer(c, act_used_bytes(k), 64);
    const struct kern_act_row row = kern_act_row_of(got, k);
    const int at = check_range(c, 0, k - 1);

    check_fill(c, x, (size_t)k, -1.0f, 1.0f);
    x[at] = value;
    c->dut->quant.act_q8(got, x, k);
    for (int b = 0; b < k / 32; b++) {
        if (b != at / 32) {
            act_block_holds(c, &row, x, b);
            continue;
        }
        check_true(c, isnan(row.d[b]), "%g gave d = %g", (double)value, (double)row.d[b]);
        for (int i = 0; i < 32; i++) {
            check_true(c, row.q[b * 32 + i] == 0, "%g gave q = %d", (double)value,
                       row.q[b * 32 + i]);
        }
        check_true(c, row.s[2 * b] == 0 && row.s[2 * b + 1] == 0, "%g gave a sum", (double)value);
    }
    check_release(c);
}

void check_quant_act_q8(struct check *c)
{
    for (int32_t k = 0; k <= 32 * 20; k += 32) {
        act_random(c, k, 1.0f);
        act_random(c, k, 3.4e38f);
        act_random(c, k, 1.0e-30f);
    }
    act_random(c, 11008, 20.0f);
    for (int i = 0; i < 40; i++) {
        const int32_t k = 32 * check_range(c, 1, 12);

        act_special(c, k, NAN);
        act_special(c, k, INFINITY);
        act_special(c, k, -INFINITY);
    }
}

/* Two parts in either order are the row; what lies outside of them stays. */
void check_quant_act_q8_part(struct check *c)
{
    for (int i = 0; i < 200; i++) {
        const int32_t k = 32 * check_range(c, 1, 20), cut = 32 * check_range(c, 0, k / 32);
        float *x = check_floats(c, (size_t)k);
        uint8_t *got = check_buffer(c, act_used_bytes(k), 64);
        uint8_t *want = check_buffer(c, act_used_bytes(k), 64);
        const struct kern_act_row row = kern_act_row_of(got, k);

        check_fill(c, x, (size_t)k, -1.0f, 1.0f);
        x[check_range(c, 0, k - 1)] = i % 4 ? 0.0f : NAN;
        memset(got, 0x55, act_used_bytes(k));
        c->ref->quant.act_q8(want, x, k);
        c->dut->quant.act_q8_part(got, x, k, cut, k);
        for (int32_t b = 0; b < cut / 32; b++) {
            check_true(c,
                       row.q[32 * b] == 0x55 && row.q[32 * b + 31] == 0x55 &&
                           row.s[2 * b] == 0x5555 && row.s[2 * b + 1] == 0x5555,
                       "k=%d: the part from %d wrote block %d", (int)k, (int)cut, (int)b);
        }
        c->dut->quant.act_q8_part(got, x, k, 0, cut);
        check_same_bytes(c, got, want, act_used_bytes(k), "k=%d cut at %d", (int)k, (int)cut);
        check_release(c);
    }
}

/* --------------------------------------------------------------- act_fast */

static size_t fast_used_bytes(int32_t k)
{
    return (size_t)k + (size_t)BASE_DIV_UP(k, KERN_FAST_SPAN) * 8;
}

/* What the contract says of a span, derived without the reference; `at` holds no number: -1. */
static void fast_span_holds(struct check *c, const struct kern_fast_row *row, const float *x,
                            int32_t k, int32_t span, int32_t at)
{
    const int32_t first = span * KERN_FAST_SPAN, end = BASE_MIN(first + KERN_FAST_SPAN, k);
    const int lost = at >= first && at < end;
    const float d = row->d[span];
    int32_t sum = 0, peak = 0;
    float amax = 0.0f;

    for (int32_t i = first; i < end; i++) {
        amax = fmaxf(amax, fabsf(x[i]));
        peak = BASE_MAX(peak, abs(row->q[i]));
        sum += row->q[i];
        check_true(c, lost || fabs((double)d * row->q[i] - (double)x[i]) <= 0.50001 * (double)d,
                   "element %d: %g became %d * %g", (int)i, (double)x[i], row->q[i], (double)d);
    }
    check_true(c, lost ? isnan(d) : d == amax / 127.0f, "span %d: d is %g", (int)span, (double)d);
    check_true(c, peak == (lost || amax == 0.0f ? 0 : 127), "span %d: largest q is %d", (int)span,
               (int)peak);
    check_true(c, row->s[span] == sum, "span %d: the sum is %d, not %d", (int)span,
               (int)row->s[span], (int)sum);
}

static void fast_random(struct check *c, int32_t k, float scale, float value)
{
    float *x = check_floats(c, (size_t)k);
    uint8_t *got = check_buffer(c, fast_used_bytes(k), 64);
    uint8_t *want = check_buffer(c, fast_used_bytes(k), 64);
    const struct kern_fast_row row = kern_fast_row_of(got, k);
    const int32_t at = k > 0 && !isfinite(value) ? check_range(c, 0, k - 1) : -1;

    check_fill(c, x, (size_t)k, -1.0f, 1.0f);
    for (int32_t i = 0; i < k; i++) {
        x[i] *= scale;
    }
    if (k > KERN_FAST_SPAN && check_u32(c) % 2) {
        memset(x, 0, KERN_FAST_SPAN * sizeof(*x));
    }
    if (at >= 0) {
        x[at] = value;
    }
    c->ref->quant.act_fast(want, x, k);
    c->dut->quant.act_fast(got, x, k);
    if (at < 0) {
        check_same_bytes(c, got, want, fast_used_bytes(k), "k=%d scale %g", (int)k, (double)scale);
    }
    for (int32_t i = 0; i < BASE_DIV_UP(k, KERN_FAST_SPAN); i++) {
        fast_span_holds(c, &row, x, k, i, at);
    }
    check_release(c);
}

void check_quant_act_fast(struct check *c)
{
    for (int32_t k = 0; k <= 32 * 20; k += 32) {
        fast_random(c, k, 1.0f, 0.0f);
        fast_random(c, k, 3.4e38f, 0.0f);
        fast_random(c, k, 1.0e-30f, 0.0f);
        fast_random(c, k, 1.0f, NAN);
        fast_random(c, k, 1.0f, INFINITY);
        fast_random(c, k, 1.0f, -INFINITY);
    }
    fast_random(c, 11008, 20.0f, 0.0f);
}

/* ---------------------------------------------------------------- timing */

struct call {
    void *dst;
    const void *src;
    int32_t k;
    infer_dtype dtype;
};

static void call_dequant(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->quant.dequant[a->dtype](a->dst, a->src, a->k);
}

static void call_narrow(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->quant.narrow[a->dtype](a->dst, a->src, a->k);
}

static void call_act_q8(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->quant.act_q8(a->dst, a->src, a->k);
}

static void call_act_fast(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->quant.act_fast(a->dst, a->src, a->k);
}

static void call_act_q8_part(const struct infer_kernels *kernels, void *arg)
{
    struct call *a = arg;

    kernels->quant.act_q8_part(a->dst, a->src, a->k, 0, a->k);
}

enum { BENCH_K = 4096 };

static void bench(struct check *c, check_call_fn *fn, size_t src_bytes, size_t dst_bytes)
{
    void *src = check_buffer(c, src_bytes, 64);
    struct call a = {check_buffer(c, dst_bytes, 64), src, BENCH_K, c->dtype};
    const struct check_work work = {(double)(src_bytes + dst_bytes), "B", 0};

    if (src_bytes == BENCH_K * sizeof(float)) {
        check_fill(c, src, BENCH_K, -1.0f, 1.0f);
    }
    check_time(c, "k=4096", fn, &a, work);
    check_release(c);
}

void bench_quant_dequant(struct check *c)
{
    const struct weights_type t = weights_type_of(c->dtype);

    bench(c, call_dequant, (size_t)(BENCH_K / t.block) * t.bytes, BENCH_K * sizeof(float));
}

void bench_quant_narrow(struct check *c)
{
    bench(c, call_narrow, BENCH_K * sizeof(float), kern_kv_bytes(c->dtype, BENCH_K));
}

void bench_quant_act_q8(struct check *c)
{
    bench(c, call_act_q8, BENCH_K * sizeof(float), kern_act_q8_bytes(BENCH_K));
}

void bench_quant_act_q8_part(struct check *c)
{
    bench(c, call_act_q8_part, BENCH_K * sizeof(float), kern_act_q8_bytes(BENCH_K));
}

void bench_quant_act_fast(struct check *c)
{
    bench(c, call_act_fast, BENCH_K * sizeof(float), kern_act_fast_bytes(BENCH_K));
}
