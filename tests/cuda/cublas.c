/* cuBLASLt: refused where it is absent, and its products on a card. */
#include "support/test.h"

#include <dlfcn.h>

static int absent;

static void *test_dlopen(const char *file, int flags)
{
    return absent ? NULL : dlopen(file, flags);
}

#define dlopen test_dlopen
#include "../../lib/device/cublas.c"
#undef dlopen

#include "kernels/ref/half.h"

#include <math.h>

static void test_absent_library_is_refused(void **state)
{
    struct infer_device device = {0};
    struct device_cublas *cublas = (struct device_cublas *)&device;
    BASE_UNUSED(state);
    absent = 1;
    assert_int_equal(device_cublas_create(&device, &cublas), INFER_ERR_UNSUPPORTED);
    assert_null(cublas);
    assert_non_null(strstr(base_error_text(), "libcublasLt.so.13"));
    absent = 0;
    device_cublas_destroy(&cublas);
}

static uint64_t random_state = 11;

/* BF16 rows on the device, and the numbers as floats. */
static struct device_buffer random_rows(struct infer_device *device, float *numbers, size_t n)
{
    struct device_buffer buffer;
    uint16_t *bits = malloc(2 * n);
    for (size_t i = 0; i < n; i++) {
        bits[i] = kern_bf16_of_float(test_randf(&random_state));
        numbers[i] = kern_float_of_bf16(bits[i]);
    }
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 2 * n, &buffer));
    assert_ok(device_buffer_upload(&buffer, 0, bits, 2 * n));
    free(bits);
    return buffer;
}

/* A product that is not transposed, has a wrong stride or adds what it should not errs by far more
 * than k roundings of floats. */
static void check_product(struct infer_device *device, struct device_cublas *cublas, int32_t m,
                          int32_t n, int32_t k, int32_t accumulate)
{
    const size_t pad = 8, rows = (size_t)m, w_rows = (size_t)n, stride = (size_t)k + pad;
    const size_t y_stride = w_rows + 4;
    float *w = malloc(4 * w_rows * stride), *x = malloc(4 * rows * stride);
    float *before = malloc(4 * rows * y_stride), *y = malloc(4 * rows * y_stride);
    struct device_buffer card_w = random_rows(device, w, w_rows * stride);
    struct device_buffer card_x = random_rows(device, x, rows * stride), card_y;
    for (size_t i = 0; i < rows * y_stride; i++)
        before[i] = accumulate || i % y_stride >= w_rows ? test_randf(&random_state) : NAN;
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 4 * rows * y_stride, &card_y));
    assert_ok(device_buffer_upload(&card_y, 0, before, 4 * rows * y_stride));
    const struct device_cublas_args args = {.w = card_w.data,
                                            .w_stride = stride,
                                            .x = card_x.data,
                                            .x_stride = stride,
                                            .y = card_y.data,
                                            .y_stride = y_stride,
                                            .m = m,
                                            .n = n,
                                            .k = k,
                                            .accumulate = accumulate};
    assert_ok(device_cublas_gemm(cublas, &args));
    assert_ok(device_buffer_download(y, &card_y, 0, 4 * rows * y_stride));
    for (size_t i = 0; i < rows; i++) {
        const float *line = y + i * y_stride, *was = before + i * y_stride;
        for (size_t r = 0; r < w_rows; r++) {
            double sum = accumulate ? (double)was[r] : 0, size = fabs(sum);
            for (size_t j = 0; j < (size_t)k; j++) {
                const double product = (double)w[r * stride + j] * (double)x[i * stride + j];
                sum += product;
                size += fabs(product);
            }
            assert_true(fabs((double)line[r] - sum) <= 0x1p-22 * (4 + k / 64.0) * size);
        }
        assert_memory_equal(line + n, was + n, 4 * (y_stride - w_rows));
    }
    device_buffer_free(&card_w);
    device_buffer_free(&card_x);
    device_buffer_free(&card_y);
    free(w);
    free(x);
    free(before);
    free(y);
}

/* Skips the test where a card or cuBLASLt is missing. */
static void open_card(struct infer_device **device, struct device_cublas **cublas)
{
    const struct device_config config = {.index = 1};
    *device = NULL;
    *cublas = NULL;
    if (device_count() < 2) {
        print_message("skipped: no GPU for products by cuBLASLt\n");
        skip();
    }
    assert_ok(device_create(device, &config));
    if (device_cublas_create(*device, cublas) == INFER_ERR_UNSUPPORTED) {
        print_message("skipped: %s\n", base_error_text());
        device_release(device);
        skip();
    }
    assert_non_null(*cublas);
}

static void test_products_on_a_card(void **state)
{
    static const int32_t shapes[][3] = {/* m, n, k */
                                        {1, 8, 16},
                                        {17, 72, 264},
                                        {129, 256, 512},
#ifndef EMULATED /* slowly */
                                        {257, 64, 4096},
#endif
                                        {300, 136, 1032}};
    struct infer_device *device;
    struct device_cublas *cublas;
    BASE_UNUSED(state);
    open_card(&device, &cublas);
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        for (int32_t accumulate = 0; accumulate < 2; accumulate++)
            check_product(device, cublas, shapes[i][0], shapes[i][1], shapes[i][2], accumulate);
    device_cublas_destroy(&cublas);
    assert_null(cublas);
    device_release(&device);
}

/* Numbers of the device from the host's. */
static struct device_buffer on_card(struct infer_device *device, const void *host, size_t bytes)
{
    struct device_buffer buffer;
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, bytes, &buffer));
    assert_ok(device_buffer_upload(&buffer, 0, host, bytes));
    return buffer;
}

/* Codes and their scales, [block][row]; no NaN. */
static void random_f8(uint8_t *codes, size_t stride, float *scales, size_t rows, size_t blocks)
{
    for (size_t i = 0; i < rows * stride; i++) {
        codes[i] = (uint8_t)test_rand(&random_state);
        codes[i] = (uint8_t)(codes[i] ^ ((codes[i] & 127) == 127));
    }
    for (size_t i = 0; i < rows * blocks; i++)
        scales[i] = exp2f(3 * test_randf(&random_state));
}

static double f8_number(const uint8_t *codes, size_t stride, const float *scales, size_t rows,
                        size_t row, size_t k)
{
    return (double)kern_float_of_e4m3(codes[row * stride + k]) *
           (double)scales[k / 128 * rows + row];
}

/* Tensor cores keep fewer bits of sums of E4M3 than a float has, block by block; a scale of another
 * row or block errs by its factor. */
static void check_f8(struct infer_device *device, struct device_cublas *cublas, int32_t m,
                     int32_t n, int32_t k, int32_t accumulate)
{
    const size_t rows = (size_t)m, w_rows = (size_t)n, blocks = (size_t)k / 128;
    const size_t stride = (size_t)k + 16, y_stride = w_rows + 4;
    uint8_t *w = malloc(w_rows * stride), *x = malloc(rows * stride);
    float *w_scales = malloc(4 * w_rows * blocks), *x_scales = malloc(4 * rows * blocks);
    float *before = malloc(4 * rows * y_stride), *y = malloc(4 * rows * y_stride);
    random_f8(w, stride, w_scales, w_rows, blocks);
    random_f8(x, stride, x_scales, rows, blocks);
    for (size_t i = 0; i < rows * y_stride; i++)
        before[i] = accumulate || i % y_stride >= w_rows ? 1e5f * test_randf(&random_state) : NAN;
    struct device_buffer buffers[] = {
        on_card(device, w, w_rows * stride), on_card(device, x, rows * stride),
        on_card(device, w_scales, 4 * w_rows * blocks),
        on_card(device, x_scales, 4 * rows * blocks), on_card(device, before, 4 * rows * y_stride)};
    const struct device_cublas_args args = {.w = buffers[0].data,
                                            .w_stride = stride,
                                            .x = buffers[1].data,
                                            .x_stride = stride,
                                            .y = buffers[4].data,
                                            .y_stride = y_stride,
                                            .m = m,
                                            .n = n,
                                            .k = k,
                                            .accumulate = accumulate,
                                            .w_scales = buffers[2].data,
                                            .x_scales = buffers[3].data,
                                            .scale = 0.75f};
    int32_t offered = 0;
    assert_ok(device_cublas_offers(cublas, &args, &offered));
    assert_true(offered);
    assert_ok(device_cublas_gemm(cublas, &args));
    assert_ok(device_buffer_download(y, &buffers[4], 0, 4 * rows * y_stride));
    for (size_t i = 0; i < rows; i++) {
        for (size_t r = 0; r < w_rows; r++) {
            const float was = before[i * y_stride + r];
            double sum = 0, size = 0;
            for (size_t j = 0; j < (size_t)k; j++) {
                const double product = f8_number(w, stride, w_scales, w_rows, r, j) *
                                       f8_number(x, stride, x_scales, rows, i, j);
                sum += product;
                size += fabs(product);
            }
            sum = 0.75 * sum + (accumulate ? (double)was : 0);
            size += accumulate ? fabs((double)was) : 0;
            assert_true(fabs((double)y[i * y_stride + r] - sum) <= 0x1p-11 * size);
        }
        assert_memory_equal(y + i * y_stride + n, before + i * y_stride + n,
                            4 * (y_stride - w_rows));
    }
    for (size_t i = 0; i < BASE_COUNT(buffers); i++)
        device_buffer_free(&buffers[i]);
    free(w), free(x), free(w_scales), free(x_scales), free(before), free(y);
}

static void test_e4m3_on_a_card(void **state)
{
    static const int32_t shapes[][3] = {/* m, n, k */
                                        {4, 16, 128},
                                        {52, 48, 384},
                                        {68, 272, 128},
                                        {76, 64, 1024},
                                        {12, 32, 2048}};
    struct infer_device *device;
    struct device_cublas *cublas;
    BASE_UNUSED(state);
    open_card(&device, &cublas);
    if (!device_cublas_has_f8(cublas)) {
        print_message("skipped: no products of E4M3 with scales for 128 elements\n");
        device_cublas_destroy(&cublas);
        device_release(&device);
        skip();
    }
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        for (int32_t accumulate = 0; accumulate < 2; accumulate++)
            check_f8(device, cublas, shapes[i][0], shapes[i][1], shapes[i][2], accumulate);
    device_cublas_destroy(&cublas);
    device_release(&device);
}

#ifdef EMULATED
#include "cuda/emulate_cublas.h"

/* What this cuBLASLt has not is no error until it is asked to do it. */
static void test_e4m3_is_not_offered(void **state)
{
    const struct device_config config = {.index = 1};
    struct device_cublas_args args = {.w_stride = 256,
                                      .x_stride = 256,
                                      .y_stride = 32,
                                      .m = 8,
                                      .n = 32,
                                      .k = 256,
                                      .w_scales = (const void *)16,
                                      .x_scales = (const void *)16};
    struct infer_device *device = NULL;
    struct device_cublas *cublas = NULL;
    int32_t offered = 1;
    BASE_UNUSED(state);
    assert_ok(device_create(&device, &config));
    assert_ok(device_cublas_create(device, &cublas));
    emulated_cublas_set_version(120805);
    assert_false(device_cublas_has_f8(cublas));
    emulated_cublas_set_version(130000);
    assert_true(device_cublas_has_f8(cublas));
    device->compute_capability = 100;
    assert_false(device_cublas_has_f8(cublas));
    device->compute_capability = 90;
    emulated_cublas_set_least(64);
    assert_ok(device_cublas_offers(cublas, &args, &offered));
    assert_false(offered);
    assert_int_equal(device_cublas_gemm(cublas, &args), INFER_ERR_DEVICE);
    emulated_cublas_set_least(0);
    assert_ok(device_cublas_offers(cublas, &args, &offered));
    assert_false(offered); /* the answer is kept */
    args.n = 48;
    args.y_stride = 48;
    assert_ok(device_cublas_offers(cublas, &args, &offered));
    assert_true(offered);
    args.x_scales = (const void *)20; /* not on 16 bytes: the library says no */
    args.k = 128;
    assert_ok(device_cublas_offers(cublas, &args, &offered));
    assert_false(offered);
    device_cublas_destroy(&cublas);
    device_release(&device);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_absent_library_is_refused),
        cmocka_unit_test(test_products_on_a_card),
        cmocka_unit_test(test_e4m3_on_a_card),
#ifdef EMULATED
        cmocka_unit_test(test_e4m3_is_not_offered),
#endif
    };
    if (argc > 1) /* those that need no card */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("cublas", tests, NULL, NULL);
}
