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
    const struct device_cublas_args args = {card_w.data, stride, card_x.data, stride, card_y.data,
                                            y_stride,    m,      n,           k,      accumulate};
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

static void test_products_on_a_card(void **state)
{
    static const int32_t shapes[][3] = {/* m, n, k */
                                        {1, 8, 16},
                                        {17, 72, 264},
                                        {129, 256, 512},
                                        {300, 136, 1032},
                                        {257, 64, 4096}};
    const struct device_config config = {.index = 1};
    struct infer_device *device = NULL;
    struct device_cublas *cublas = NULL;
    BASE_UNUSED(state);
    if (device_count() < 2) {
        print_message("skipped: no GPU for products by cuBLASLt\n");
        skip();
    }
    assert_ok(device_create(&device, &config));
    if (device_cublas_create(device, &cublas) == INFER_ERR_UNSUPPORTED) {
        print_message("skipped: %s\n", base_error_text());
        device_release(&device);
        skip();
    }
    assert_non_null(cublas);
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        for (int32_t accumulate = 0; accumulate < 2; accumulate++)
            check_product(device, cublas, shapes[i][0], shapes[i][1], shapes[i][2], accumulate);
    device_cublas_destroy(&cublas);
    assert_null(cublas);
    device_release(&device);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_absent_library_is_refused),
        cmocka_unit_test(test_products_on_a_card),
    };
    if (argc > 1) /* those that need no card */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("cublas", tests, NULL, NULL);
}
