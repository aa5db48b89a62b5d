/* Matrices on the card: the cut of their blocks, and rows read back as numbers. */
#include "cuda/weights.h"

#include <math.h>

static void test_cut_has_every_byte_in_its_place(void **state)
{
    uint64_t rng = 3;
    (void)state;
    card_needed("split");
    for (size_t t = 0; t < BASE_COUNT(weights_types); t++) {
        const struct kern_cuda_layout *l = kern_cuda_layout_of(weights_types[t]);
        const int32_t n_blocks = 3, k = n_blocks * l->block_elements, n = 5;
        struct weights w = weights_new(&rng, weights_types[t], n, 1, k, 3);
        const size_t body_stride = w.matrix.body_stride, side_stride = w.matrix.side_stride;
        uint8_t *body = malloc((size_t)n * body_stride + 1);
        uint8_t *side = malloc((size_t)n * side_stride + 1);
        assert_int_equal(body_stride % 16, 0);
        assert_int_equal(l->body_bytes + l->side_bytes, l->block_bytes);
        card_get(body, w.body, (size_t)n * body_stride);
        if (w.side)
            card_get(side, w.side, (size_t)n * side_stride);
        for (size_t r = 0; r < (size_t)n; r++) {
            for (size_t b = 0; b < (size_t)n_blocks; b++) {
                const uint8_t *block = w.file + r * w.stride + b * l->block_bytes;
                const uint8_t *own = side + r * side_stride + b * l->side_bytes;
                const size_t behind = (size_t)l->side_bytes - l->body_at;
                assert_memory_equal(body + r * body_stride + b * l->body_bytes, block + l->body_at,
                                    l->body_bytes);
                if (w.side) {
                    assert_memory_equal(own, block, l->body_at);
                    assert_memory_equal(own + l->body_at, block + l->body_at + l->body_bytes,
                                        behind);
                }
            }
            for (size_t i = (size_t)n_blocks * l->body_bytes; i < body_stride; i++)
                assert_int_equal(body[r * body_stride + i], 0);
        }
        free(body);
        free(side);
        weights_free(&w);
    }
}

static int same_float(float a, float b)
{
    return (isnan(a) && isnan(b)) || kern_bits_of_float(a) == kern_bits_of_float(b);
}

static void check_rows(const struct weights *w, const int32_t *ids, int32_t first, int32_t n_ids,
                       float scale)
{
    const size_t count = (size_t)n_ids * (size_t)w->k;
    int32_t *card_ids = ids ? card_new(ids, (size_t)n_ids * sizeof *ids) : NULL;
    float *y = card_new(NULL, (count + 1) * sizeof(float)), *got = malloc((count + 1) * 4);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        const int32_t type = bf16 ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_F32;
        assert_int_equal(
            kern_cuda_product_rows(y, type, &w->matrix, card_ids, first, n_ids, scale, NULL), 0);
        card_get(got, y, (count + 1) * sizeof(float));
        for (size_t i = 0; i < count; i++) {
            const size_t row =
                (size_t)(ids ? ids[i / (size_t)w->k] : first + (int32_t)(i / (size_t)w->k));
            const float value = w->numbers[row * (size_t)w->k + i % (size_t)w->k] * scale;
            const float is =
                bf16 ? kern_float_of_bf16(kern_load_u16((uint16_t *)(void *)got + i)) : got[i];
            const float want = bf16 ? kern_float_of_bf16(kern_bf16_of_float(value)) : value;
            if (!same_float(is, want))
                fail_msg("type %d, element %zu of %zu: %.9g instead of %.9g", (int)w->type, i,
                         count, (double)is, (double)want);
        }
        if (!bf16)
            assert_true(isnan(got[count]));
    }
    free(got);
    card_free(y);
    if (card_ids)
        card_free(card_ids);
}

/* y = (y + scale * row) * factor, whose sum the card may round once or twice. */
static void check_added(const struct weights *w, const int32_t *ids, int32_t n_ids, uint64_t *rng)
{
    const float scale = -1.3f, factor = 0.7f;
    const size_t count = (size_t)n_ids * (size_t)w->k;
    int32_t *card_ids = card_new(ids, (size_t)n_ids * sizeof *ids);
    float *y = malloc((count + 1) * sizeof *y), *got = malloc((count + 1) * sizeof *got);
    for (size_t i = 0; i <= count; i++)
        y[i] = test_randf(rng);
    float *y_card = card_new(y, (count + 1) * sizeof *y);
    assert_int_equal(
        kern_cuda_product_add_rows(y_card, &w->matrix, card_ids, n_ids, scale, factor, NULL), 0);
    card_get(got, y_card, (count + 1) * sizeof *got);
    for (size_t i = 0; i < count; i++) {
        const float value =
            w->numbers[(size_t)ids[i / (size_t)w->k] * (size_t)w->k + i % (size_t)w->k] * scale;
        const double want = ((double)y[i] + (double)value) * (double)factor;
        const double bound = 0x1p-22 * (fabs((double)y[i]) + fabs((double)value));
        if (isnan(value) ? !isnan(got[i]) : !(fabs((double)got[i] - want) <= bound))
            fail_msg("type %d, element %zu: %.9g instead of %.9g", (int)w->type, i, (double)got[i],
                     want);
    }
    assert_true(got[count] == y[count]);
    free(y), free(got);
    card_free(y_card), card_free(card_ids);
}

static void test_rows_equal_the_reference_bit_for_bit(void **state)
{
    static const int32_t ids[] = {4, 0, 4, 6, 2};
    uint64_t rng = 5;
    (void)state;
    card_needed("rows");
    for (size_t t = 0; t < BASE_COUNT(weights_types); t++) {
        const struct kern_cuda_layout *l = kern_cuda_layout_of(weights_types[t]);
        static const int32_t counts[] = {1, 5, 12};
        for (size_t c = 0; c < BASE_COUNT(counts); c++) {
            const int32_t k =
                l->block_elements == 1 ? 37 * counts[c] : counts[c] * l->block_elements;
            struct weights w = weights_new(&rng, weights_types[t], 7, 1, k, c);
            check_rows(&w, ids, 0, BASE_COUNT(ids), 1.0f);
            check_rows(&w, NULL, 2, 4, 0.73f);
            check_added(&w, ids, BASE_COUNT(ids) - (int32_t)c, &rng);
            weights_free(&w);
        }
    }
}

/* Scales of 128 elements in the order of cuBLASLt, and nothing behind them. */
static void test_scales_lie_side_by_side(void **state)
{
    static const int32_t shapes[][4] = {/* n, blocks, first, of n */
                                        {1, 1, 0, 1},
                                        {70, 3, 5, 64},
                                        {33, 35, 0, 33},
                                        {40, 64, 7, 33}};
    uint64_t rng = 6;
    (void)state;
    card_needed("scales");
    for (size_t s = 0; s < BASE_COUNT(shapes); s++) {
        const int32_t blocks = shapes[s][1], first = shapes[s][2], n = shapes[s][3];
        const size_t count = (size_t)n * (size_t)blocks;
        struct weights w = weights_new(&rng, INFER_DTYPE_F8_128, shapes[s][0], 1, blocks * 128, 0);
        float *y = card_new(NULL, (count + 1) * 4), *got = malloc((count + 1) * 4);
        assert_int_equal(kern_cuda_product_scales(y, &w.matrix, first, n, NULL), 0);
        card_get(got, y, (count + 1) * 4);
        for (size_t i = 0; i < count; i++) {
            const size_t row = (size_t)first + i % (size_t)n, block = i / (size_t)n;
            assert_memory_equal(got + i, w.file + row * w.stride + block * 132, 4);
        }
        assert_true(isnan(got[count]));
        card_free(y);
        free(got);
        weights_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_has_every_byte_in_its_place),
        cmocka_unit_test(test_rows_equal_the_reference_bit_for_bit),
        cmocka_unit_test(test_scales_lie_side_by_side),
    };
    return cmocka_run_group_tests_name("cuda split", tests, NULL, NULL);
}
