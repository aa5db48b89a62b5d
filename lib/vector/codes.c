/* Codes of few bits an element, and queries that are compared with them. */
#include "vector/codes.h"

#include "base/rng.h"
#include "vector/sums.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define FACTORS_BYTES 12 /* scale, base of scores, base of building */
#define NOTE_BYTES    16
#define FIT_ROUNDS    3 /* the step between levels changes by less than a percent then */

/* Codes of short vectors get more bits: their error falls with the root of the dims, and of a
 * cache line it is all the same how much is read. */
static int32_t bits_for(int32_t padded)
{
    return padded <= 48 ? 8 : padded <= 192 ? 4 : 2;
}

static void draw_signs(float *signs, size_t n, uint64_t seed)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};

    for (size_t i = 0; i < n; i += 128) {
        const uint32_t counter[4] = {(uint32_t)(i / 128), 0, 0, 0};
        uint32_t words[4];

        base_rng_philox(words, counter, key);
        for (size_t j = 0; j < 128 && i + j < n; j++) {
            signs[i + j] = words[j / 32] >> j % 32 & 1 ? 1.0f : -1.0f;
        }
    }
}

infer_status vector_coder_create(struct vector_coder **out, const struct base_alloc *a,
                                 const struct infer_kernels *kernels,
                                 const struct vector_shape *shape, uint64_t seed,
                                 const float *centre)
{
    const size_t dims = (size_t)shape->dims;
    struct vector_coder *c = base_new(a, 1, sizeof(*c));

    if (!c) {
        return INFER_ERR_NO_MEMORY;
    }
    c->alloc = *a;
    c->kernels = kernels;
    c->dims = shape->dims;
    c->metric = shape->metric;
    c->padded = BASE_ALIGN_UP(shape->dims, 16);
    c->bits = bits_for(c->padded);
    c->body = c->padded * c->bits / 8;
    c->slot = BASE_ALIGN_UP(c->body + FACTORS_BYTES, 64);
    c->n_blocks = BASE_DIV_UP(c->body, 64);
    c->note_at = c->slot - NOTE_BYTES >= c->body + FACTORS_BYTES ? c->slot - NOTE_BYTES : 0;
    c->seed = seed;
    c->estimate = c->bits == 2   ? kernels->vector.estimate2
                  : c->bits == 4 ? kernels->vector.estimate4
                                 : kernels->vector.estimate8;
    c->signs = base_new(a, (size_t)c->padded * KERN_VECTOR_ROUNDS, sizeof(*c->signs));
    c->centre = base_new(a, dims, sizeof(*c->centre));
    if (!c->signs || !c->centre) {
        vector_coder_destroy(&c);
        return INFER_ERR_NO_MEMORY;
    }
    draw_signs(c->signs, (size_t)c->padded * KERN_VECTOR_ROUNDS, seed);
    if (centre) {
        memcpy(c->centre, centre, dims * sizeof(*c->centre));
    }
    *out = c;
    return INFER_OK;
}

void vector_coder_destroy(struct vector_coder **coder)
{
    struct vector_coder *c = *coder;

    *coder = NULL;
    if (c) {
        struct base_alloc a = c->alloc;

        base_free(&a, c->signs);
        base_free(&a, c->centre);
        base_free(&a, c);
    }
}

uint64_t vector_coder_bytes(const struct vector_coder *coder)
{
    return sizeof(*coder) + (uint64_t)coder->padded * KERN_VECTOR_ROUNDS * sizeof(float) +
           (uint64_t)coder->dims * sizeof(float);
}

/* What the vector has beyond the centre, rotated; its squared length and its product with the
 * centre before that. */
static void rotate_rest(const struct vector_coder *c, float *rest, const float *vector,
                        double *square, double *product)
{
    for (int32_t i = 0; i < c->dims; i++) {
        rest[i] = vector[i] - c->centre[i];
    }
    *square = vector_sum_products(rest, rest, c->dims);
    *product = vector_sum_products(rest, c->centre, c->dims);
    memset(rest + c->dims, 0, (size_t)(c->padded - c->dims) * sizeof(*rest));
    c->kernels->vector.rotate(rest, c->signs, c->padded);
}

/* ------------------------------------------------------------------ codes */

/* Rounds to the levels (u - half) * step; <x, w> and <w, w> of w = u - half. */
static void round_to_levels(const float *x, float *levels, int32_t n, float step, int32_t most,
                            double *dot, double *square)
{
    const float half = (float)most * 0.5f, scale = 1.0f / step;
    double xw = 0.0, ww = 0.0;

    for (int32_t at = 0; at < n; at += 16) {
        float a = 0.0f, b = 0.0f;

        for (int32_t i = at; i < at + 16; i++) {
            float u = x[i] * scale + half + 0.5f;

            u = u < 0.0f ? 0.0f : u > (float)most ? (float)most : u;
            levels[i] = (float)(int32_t)u;
            a += x[i] * (levels[i] - half);
            b += (levels[i] - half) * (levels[i] - half);
        }
        xw += (double)a;
        ww += (double)b;
    }
    *dot = xw;
    *square = ww;
}

/* Of normally distributed elements the best step between evenly spaced levels (Max, 1960), or such
 * that 8 bits hold them all. */
static float first_step(const struct vector_coder *c, const float *x, double square)
{
    float largest = 0.0f;

    if (c->bits == 2) {
        return 0.996f * sqrtf((float)(square / (double)c->padded));
    }
    if (c->bits == 4) {
        return 0.335f * sqrtf((float)(square / (double)c->padded));
    }
    for (int32_t i = 0; i < c->padded; i++) {
        largest = fmaxf(largest, fabsf(x[i]));
    }
    return largest / 63.5f;
}

static void pack_levels(const struct vector_coder *c, uint8_t *slot, const float *levels)
{
    memset(slot, 0, (size_t)c->slot);
    for (int32_t j = 0; j < 8 / c->bits; j++) {
        const float *from = levels + (size_t)j * (size_t)c->body;

        for (int32_t t = 0; t < c->body; t++) {
            slot[t] = (uint8_t)(slot[t] | (uint32_t)from[t] << j * c->bits);
        }
    }
}

float vector_coder_encode(const struct vector_coder *c, uint8_t *slot, const float *vector,
                          float *room)
{
    const int32_t most = c->bits == 8 ? 127 : (1 << c->bits) - 1;
    float *rest = room, *levels = room + c->padded, factors[3], step;
    double square, product, xw = 0.0, ww = 0.0;

    rotate_rest(c, rest, vector, &square, &product);
    step = first_step(c, rest, square);
    if (!(step > 1e-30f) || !(step < 1e30f)) { /* at the centre, or beyond what floats can do */
        memset(slot, 0, (size_t)c->slot);
        xw = 0.0;
    } else {
        for (int32_t round = 0; round < FIT_ROUNDS; round++) {
            round_to_levels(rest, levels, c->padded, step, most, &xw, &ww);
            step = (float)(xw / ww);
        }
        pack_levels(c, slot, levels);
    }
    factors[0] = xw > 0.0 ? (float)(square / xw) : 0.0f;
    factors[2] = (float)(square * -0.5);
    factors[1] = c->metric == INFER_METRIC_L2 ? factors[2] : (float)product;
    if (c->metric == INFER_METRIC_COSINE) {
        factors[2] = factors[1]; /* of vectors of length 1 both orders are the same */
    }
    memcpy(slot + c->body, factors, sizeof(factors));
    return xw > 0.0
               ? (float)sqrt(fmax(0.0, square * ww / (xw * xw) - 1.0) * square / (double)c->padded)
               : 0.0f;
}

/* ---------------------------------------------------------------- queries */

static size_t query_bytes(const struct vector_coder *c)
{
    return (size_t)c->n_blocks * 64 * (size_t)(8 / c->bits);
}

size_t vector_code_query_bytes(const struct vector_coder *coder)
{
    return query_bytes(coder) + BASE_ALIGN_UP((size_t)coder->padded * sizeof(float), (size_t)64);
}

/* Returns their sum. */
static int32_t round_to_bytes(int8_t *bytes, const float *from, int32_t n, float scale)
{
    int32_t sum = 0;

    for (int32_t i = 0; i < n; i++) {
        const float x = from[i] * scale;
        /* a damaged centre makes anything */
        const float y = fabsf(x) < 127.4f ? x + (x < 0.0f ? -0.5f : 0.5f) : 0.0f;

        bytes[i] = (int8_t)(int32_t)y;
        sum += (int32_t)y;
    }
    return sum;
}

void vector_code_query_set(struct vector_code_query *query, void *room,
                           const struct vector_coder *c, const float *vector,
                           enum vector_order order)
{
    const int32_t most = c->bits == 8 ? 127 : (1 << c->bits) - 1, fields = 8 / c->bits;
    int8_t *bytes = room;
    float *rest = (float *)(void *)(bytes + query_bytes(c)), largest = 0.0f, scale;
    double square, product;
    int32_t sum = 0;

    rotate_rest(c, rest, vector, &square, &product);
    for (int32_t i = 0; i < c->padded; i++) {
        largest = fabsf(rest[i]) > largest ? fabsf(rest[i]) : largest;
    }
    scale = largest > 1e-30f && largest < 1e30f ? 127.0f / largest : 0.0f;
    memset(bytes, 0, query_bytes(c));
    for (int32_t j = 0; j < fields; j++) {
        for (int32_t at = 0; at < c->body; at += 64) {
            sum += round_to_bytes(bytes + (size_t)(at / 64 * fields + j) * 64,
                                  rest + j * c->body + at, BASE_MIN(64, c->body - at), scale);
        }
    }
    scale = scale > 0.0f ? largest / 127.0f : 0.0f;
    query->args = (struct kern_vector_estimate){
        .query = bytes,
        .n_blocks = c->n_blocks,
        .scale_at = c->body,
        .base_at = c->body + (order == VECTOR_ORDER_BUILD ? 8 : 4),
        .scale = scale,
        .shift = scale * (float)sum * (float)most * 0.5f,
    };
    query->error = c->noise * (float)sqrt(square);
    if (c->metric == INFER_METRIC_L2) {
        query->factor = 2.0f;
        query->base = (float)-square;
    } else { /* <o, q> = <o - c, q - c> + <o - c, c> + <c, q - c> + <c, c> */
        query->factor = 1.0f;
        query->base = (float)(product + vector_sum_products(c->centre, c->centre, c->dims));
    }
}
