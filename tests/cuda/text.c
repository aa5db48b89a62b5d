/* Kernels of encoders and embeddings against the reference. */
#include "base/types.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <math.h>

static void assert_near(float got, double expected, double bound, size_t at)
{
    if (!(fabs((double)got - expected) <= bound))
        fail_msg("element %zu is %.9g, expected %.9g within %.3g", at, (double)got, expected,
                 bound);
}

/* ----------------------------------------------------------------- attention */

#define TEXTS 4

struct attn_case {
    int32_t n[TEXTS]; /* rows of the texts */
    int32_t n_head, n_head_kv, head_dim, reach, alibi;
    float scale, size; /* size: of queries and keys */
};

static const struct attn_case attn_cases[] = {
    {{1, 17, 0, 33}, 3, 3, 12, 0, 0, 0.3f, 2}, {{64, 2, 5, 0}, 2, 1, 32, 0, 1, 0.2f, 1},
    {{65, 1, 16, 0}, 2, 1, 64, 0, 0, 0.2f, 1}, {{33, 15, 0, 1}, 1, 1, 80, 4, 0, 0.1f, 2},
    {{90, 3, 0, 0}, 1, 1, 32, 20, 0, 0.2f, 1}, {{31, 18, 0, 0}, 2, 2, 30, 3, 1, 0.2f, 1},
    {{40, 0, 0, 0}, 1, 1, 128, 0, 0, 0.1f, 2}, {{70, 0, 0, 0}, 3, 1, 7, 0, 0, 0.4f, 3},
};

struct attn_test {
    const struct attn_case *c;
    int32_t first[TEXTS + 1]; /* of the texts' rows */
    size_t q_floats, stride, width;
    float *qkv, *card_qkv;
    float *want;
};

static void attn_open(struct attn_test *t, const struct attn_case *c, uint64_t *seed)
{
    const size_t dim = (size_t)c->head_dim;
    *t = (struct attn_test){
        .c = c, .q_floats = (size_t)c->n_head * dim, .width = (size_t)c->n_head * dim};
    t->stride = t->q_floats + 2 * (size_t)c->n_head_kv * dim;
    for (int i = 0; i < TEXTS; i++)
        t->first[i + 1] = t->first[i] + c->n[i];
    const size_t rows = (size_t)t->first[TEXTS];
    t->qkv = random_floats(seed, rows * t->stride, c->size);
    t->want = malloc(rows * t->width * sizeof *t->want);
    t->card_qkv = card_new(t->qkv, rows * t->stride * sizeof *t->qkv);
}

static void attn_close(struct attn_test *t)
{
    card_free(t->card_qkv);
    free(t->qkv);
    free(t->want);
}

/* As the model has it. */
static float slope_of(int32_t head, int32_t n_heads)
{
    int32_t n = 1;
    while (2 * n <= n_heads)
        n *= 2;
    return (float)(head < n ? exp2(-8.0 * (head + 1) / n) : exp2(-4.0 * (2 * (head - n) + 1) / n));
}

static void attn_reference(struct attn_test *t)
{
    const struct attn_case *c = t->c;
    for (int32_t i = 0; i < TEXTS; i++)
        for (int32_t head = 0; head < c->n_head; head++) {
            const size_t dim = (size_t)c->head_dim, row = (size_t)t->first[i];
            const size_t kv = t->q_floats + (size_t)(head / (c->n_head / c->n_head_kv)) * dim;
            const float *x = t->qkv + row * t->stride;
            const struct kern_attn_text_args args = {
                .q = x + (size_t)head * dim,
                .k = x + kv,
                .v = x + kv + (size_t)c->n_head_kv * dim,
                .q_stride = t->stride,
                .k_stride = t->stride,
                .v_stride = t->stride,
                .out = t->want + row * t->width + (size_t)head * dim,
                .out_stride = t->width,
                .n = c->n[i],
                .head_dim = c->head_dim,
                .reach = c->reach,
                .scale = c->scale,
                .slope = c->alibi ? slope_of(head, c->n_head) : 0,
            };
            kern_attn_text_ref(&args, 0, c->n[i]);
        }
}

/* Texts first .. last - 1, as on the card; rows of `out_stride` bytes at `out`. */
static void attn_launch(const struct attn_test *t, int32_t first, int32_t last, void *out,
                        size_t out_stride, int32_t out_rows, int32_t exact)
{
    struct kern_cuda_text_tile tiles[TEXTS * 3];
    const struct attn_case *c = t->c;
    int32_t n = 0;
    for (int32_t i = last - 1; i >= first; i--)
        for (int32_t at = 0; at < c->n[i]; at += KERN_CUDA_TEXT_QUERIES)
            tiles[n++] = (struct kern_cuda_text_tile){t->first[i], c->n[i], at};
    struct kern_cuda_text_tile *card_tiles = card_new(tiles, (size_t)n * sizeof *tiles);
    const struct kern_cuda_text_args args = {
        .q = t->card_qkv,
        .k = t->card_qkv + t->q_floats,
        .v = t->card_qkv + t->q_floats + c->n_head_kv * c->head_dim,
        .stride = t->stride,
        .out = out,
        .out_stride = out_stride,
        .out_rows = out_rows,
        .n_head = c->n_head,
        .n_head_kv = c->n_head_kv,
        .head_dim = c->head_dim,
        .reach = c->reach,
        .scale = c->scale,
        .alibi = c->alibi,
        .exact = exact,
        .tiles = card_tiles,
        .n_tiles = n,
    };
    assert_int_equal(kern_cuda_text_attend(&args, NULL), 0);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    card_free(card_tiles);
}

/* Bounds are relative to the largest value: 2^-20 for 24 bits, F16 rounds queries, keys and values
 * by 2^-11 each, and scores of this size carry the first two into the weights. */
static void check_attention(struct attn_test *t, int32_t exact, int32_t narrow)
{
    const struct attn_case *c = t->c;
    const size_t rows = (size_t)t->first[TEXTS], out_stride = t->width * 4 + 16;
    const double bound = (exact ? 0x1p-20 : 0x1p-7) * (double)c->size, ulp = narrow ? 0x1p-8 : 0;
    uint8_t *out = card_new(NULL, rows * out_stride), *got = malloc(rows * out_stride);
    uint8_t *alone = malloc(rows * out_stride);
    attn_launch(t, 0, TEXTS, out, out_stride, narrow, exact);
    card_get(got, out, rows * out_stride);
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *row = got + i * out_stride;
        const size_t bytes = t->width * (narrow ? 2 : 4);
        for (size_t d = 0; d < t->width; d++) {
            const double want = (double)t->want[i * t->width + d];
            const float x = narrow ? kern_float_of_bf16(kern_load_u16(row + 2 * d))
                                   : ((const float *)(const void *)row)[d];
            assert_near(x, want, bound + ulp * fabs(want), i * t->width + d);
        }
        for (size_t k = bytes; k < out_stride; k++)
            assert_int_equal(row[k], 0xff);
    }
    for (int32_t i = 0; i < TEXTS && !exact; i++) /* the same bits alone, in their own places */
        attn_launch(t, i, i + 1, out, out_stride, narrow, exact);
    card_get(alone, out, rows * out_stride);
    assert_memory_equal(alone, got, rows * out_stride);
    card_free(out);
    free(got);
    free(alone);
}

static void test_attention_is_the_references(void **state)
{
    uint64_t seed = 3;
    (void)state;
    card_needed("attention of texts");
    for (size_t i = 0; i < BASE_COUNT(attn_cases); i++) {
        struct attn_test t;
        attn_open(&t, &attn_cases[i], &seed);
        attn_reference(&t);
        check_attention(&t, 1, i % 2 == 1);
        check_attention(&t, 0, i % 2 == 0);
        attn_close(&t);
    }
}

/* What is no number in one text is in none of the others; numbers beyond F16 are its largest. */
static void test_texts_do_not_touch(void **state)
{
    const struct attn_case c = {{20, 9, 30, 0}, 1, 1, 32, 0, 0, 0.2f, 1};
    uint64_t seed = 4;
    struct attn_test t;
    (void)state;
    card_needed("attention of texts");
    attn_open(&t, &c, &seed);
    attn_reference(&t);
    for (size_t i = 20 * t.stride; i < 29 * t.stride; i++)
        t.qkv[i] = i % 2 ? NAN : INFINITY;
    t.qkv[29 * t.stride + 64] = 1e9f; /* a value of the third text */
    card_free(t.card_qkv);
    t.card_qkv = card_new(t.qkv, 59 * t.stride * sizeof *t.qkv);
    float *out = card_new(NULL, 59 * 32 * sizeof *out), *got = malloc(59 * 32 * sizeof *got);
    attn_launch(&t, 0, TEXTS, out, 32 * sizeof *out, KERN_CUDA_ROWS_F32, 0);
    card_get(got, out, 59 * 32 * sizeof *out);
    for (size_t i = 0; i < 20 * 32; i++)
        assert_near(got[i], (double)t.want[i], 0x1p-7, i);
    assert_true(isnan(got[22 * 32]));
    for (size_t i = 29 * 32; i < 59 * 32; i++)
        assert_true(isfinite(got[i]));
    assert_true(got[29 * 32] > 100 && got[29 * 32] <= 65504);
    const struct kern_cuda_text_args longer = {.head_dim = KERN_CUDA_TEXT_HEAD_MAX + 1,
                                               .n_tiles = 1};
    assert_int_equal(kern_cuda_text_attend(&longer, NULL), (int32_t)cudaErrorInvalidValue);
    card_free(out);
    free(got);
    attn_close(&t);
}

/* ----------------------------------------------------- embeddings, positions */

static void check_embed(int32_t n, int32_t n_types, int more, int norm, int layer)
{
    enum { ROWS = 5 };
    const int32_t type_of[ROWS] = {0, 1, 0, 7, 1};
    uint64_t seed = (uint64_t)n;
    const size_t width = (size_t)n, floats = ROWS * width;
    float *x = random_floats(&seed, floats, 2), *add = random_floats(&seed, floats, 1);
    float *types = random_floats(&seed, 2 * width, 1), *w = random_floats(&seed, width, 1);
    float *b = random_floats(&seed, width, 1), *got = malloc(floats * sizeof *got);
    struct kern_norm ref;
    kern_norm_init_ref(&ref);
    struct kern_cuda_text_embed_args args = {
        .x = card_new(x, floats * 4),
        .types = n_types ? card_new(types, 2 * width * 4) : NULL,
        .type_of = card_new(type_of, sizeof type_of),
        .n_types = n_types,
        .more = more ? card_new(add, floats * 4) : NULL,
        .w = norm ? card_new(w, width * 4) : NULL,
        .b = norm ? card_new(b, width * 4) : NULL,
        .n_rows = ROWS,
        .n = n,
        .layer = layer,
        .eps = 1e-5f,
    };
    assert_int_equal(kern_cuda_text_embed(&args, NULL), 0);
    card_get(got, args.x, floats * 4);
    for (size_t i = 0; i < floats; i++) {
        const size_t type = (size_t)BASE_MIN(type_of[i / width], n_types - 1);
        x[i] += n_types ? types[type * width + i % width] : 0;
        x[i] += more ? add[i] : 0;
    }
    for (size_t i = 0; i < ROWS && norm; i++) {
        if (layer)
            ref.layer(x + i * width, x + i * width, w, b, n, 1e-5f);
        else
            ref.rms(x + i * width, x + i * width, w, n, 1e-5f);
    }
    for (size_t i = 0; i < floats; i++)
        assert_near(got[i], (double)x[i], 0x1p-22 * fabs((double)x[i]) + 1e-30, i);
    const void *const cards[] = {args.x, args.types, args.type_of, args.more, args.w, args.b};
    for (size_t i = 0; i < BASE_COUNT(cards); i++)
        card_free((void *)(uintptr_t)cards[i]);
    free(x), free(add), free(types), free(w), free(b), free(got);
}

static void test_embeddings_are_sums_and_a_norm(void **state)
{
    (void)state;
    card_needed("embeddings of texts");
    check_embed(48, 2, 1, 1, 1);
    check_embed(1028, 1, 0, 1, 0);
    check_embed(7, 0, 1, 1, 1);
    check_embed(30, 2, 1, 0, 1);
}

static void test_rotation_is_the_references(void **state)
{
    enum { ROWS = 3, HEADS = 3, DIM = 20, ROT = 12, STRIDE = 70 };
    uint64_t seed = 5;
    struct kern_rope ref;
    (void)state;
    card_needed("rotation of texts");
    kern_rope_init_ref(&ref);
    for (int32_t pairs = 0; pairs < 2; pairs++) {
        float *x = random_floats(&seed, ROWS * STRIDE, 2),
              *cs = random_floats(&seed, ROWS * ROT, 1);
        float *card = card_new(x, ROWS * STRIDE * 4), *card_cs = card_new(cs, ROWS * ROT * 4);
        float *got = malloc(ROWS * STRIDE * 4);
        assert_int_equal(
            kern_cuda_text_rotate(card, STRIDE, card_cs, ROWS, HEADS, DIM, ROT, pairs, NULL), 0);
        card_get(got, card, ROWS * STRIDE * 4);
        for (size_t i = 0; i < ROWS; i++)
            (pairs ? ref.pairs : ref.halves)(x + i * STRIDE, HEADS, DIM, ROT, cs + i * ROT);
        for (size_t i = 0; i < ROWS * STRIDE; i++)
            assert_near(got[i], (double)x[i], i % STRIDE < HEADS * DIM ? 1e-6 : 0, i);
        card_free(card);
        card_free(card_cs);
        free(x), free(cs), free(got);
    }
}

/* ------------------------------------------------------------------- pooling */

static double folded(const float *x, const struct kern_cuda_text_fold *f, int32_t n, int32_t column)
{
    double y = f->largest ? -INFINITY : 0;
    for (int32_t i = f->row; i < f->row + f->n_rows; i++) {
        const double v = (double)x[(size_t)i * (size_t)n + (size_t)column];
        y = f->largest ? fmax(y, v) : y + v;
    }
    return f->n_rows ? y * (double)f->scale : 0;
}

static void test_pooling(void **state)
{
    static const int32_t sizes[] = {1, 30, 48, 132};
    static const struct kern_cuda_text_fold folds[] = {
        {0, 1, 0, 1}, {3, 37, 0, 1.0f / 37}, {0, 41, 1, 1}, {40, 1, 1, 1},
        {7, 9, 0, 1}, {9, 0, 0, 1},          {12, 0, 1, 1}, {2, 8, 1, 1},
    };
    enum { ROWS = 41, N = BASE_COUNT(folds) };
    uint64_t seed = 6;
    (void)state;
    card_needed("pooling");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        const int32_t n = sizes[s];
        const size_t width = (size_t)n;
        float *x = random_floats(&seed, ROWS * width, 3), *got = malloc(N * width * 4);
        x[40 * width] = NAN; /* of the second, third and fourth */
        float *card = card_new(x, ROWS * width * 4), *out = card_new(NULL, N * width * 4);
        struct kern_cuda_text_fold *card_folds = card_new(folds, sizeof folds);
        assert_int_equal(kern_cuda_text_pool(out, card, card_folds, N, n, NULL), 0);
        card_get(got, out, N * width * 4);
        for (size_t i = 0; i < N * width; i++) {
            const struct kern_cuda_text_fold *f = &folds[i / width];
            if (i % width == 0 && f->row + f->n_rows > 40 && f->n_rows)
                assert_true(isnan(got[i]));
            else
                assert_near(got[i], folded(x, f, n, (int32_t)(i % width)), 0x1p-18, i);
        }
        card_free(card);
        card_free(out);
        card_free(card_folds);
        free(x), free(got);
    }
}

/* ----------------------------------------------- a norm in two forms at once */

static void test_norms_are_kept_as_well(void **state)
{
    enum { ROWS = 3, N = 96 };
    uint64_t seed = 7;
    (void)state;
    card_needed("norms of texts");
    for (int32_t form = KERN_CUDA_ROWS_BF16; form <= KERN_CUDA_ROWS_Q8; form++) {
        const size_t floats = (size_t)ROWS * N, stride = N * 4;
        float *x = random_floats(&seed, floats, 2), *w = random_floats(&seed, N, 1);
        float *card = card_new(x, floats * 4), *card_w = card_new(w, N * 4);
        uint8_t *y = card_new(NULL, ROWS * stride), *again = card_new(NULL, ROWS * stride);
        uint8_t got[ROWS * N * 4], want[ROWS * N * 4];
        float *plain = card_new(NULL, floats * 4);
        struct kern_cuda_norm_args args = {.y = plain,
                                           .y_stride = N * 4,
                                           .x = card,
                                           .x_stride = N,
                                           .w = card_w,
                                           .n_rows = ROWS,
                                           .n = N,
                                           .rows_type = KERN_CUDA_ROWS_F32,
                                           .layer = 1,
                                           .eps = 1e-5f};
        assert_int_equal(kern_cuda_rows_norm(&args, NULL), 0);
        args.y = y;
        args.y_stride = stride;
        args.rows_type = form;
        args.keep = card;
        assert_int_equal(kern_cuda_rows_norm(&args, NULL), 0);
        card_get(got, card, floats * 4);
        card_get(want, plain, floats * 4);
        assert_memory_equal(got, want, floats * 4);
        assert_int_equal(kern_cuda_rows_convert(again, stride, form, plain, N, ROWS, N, NULL), 0);
        card_get(got, y, ROWS * stride);
        card_get(want, again, ROWS * stride);
        assert_memory_equal(got, want, ROWS * stride);
        void *const cards[] = {card, card_w, y, again, plain};
        for (size_t i = 0; i < BASE_COUNT(cards); i++)
            card_free(cards[i]);
        free(x), free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_is_the_references),
        cmocka_unit_test(test_texts_do_not_touch),
        cmocka_unit_test(test_embeddings_are_sums_and_a_norm),
        cmocka_unit_test(test_rotation_is_the_references),
        cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_norms_are_kept_as_well),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL) != 0;
}
