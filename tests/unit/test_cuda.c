/* NVIDIA GPUs: memory, the host's context, each kernel against kernels/ref.
 * Without a GPU, or in a build without CUDA, every test is skipped by name. */
#include "device/cuda_device.h"
#include "kernels/cuda/cuda_kernels.h"
#include "support/test.h"
#include "unit/device_memory.h"

#include <dlfcn.h>
#include <math.h>

static void need_gpu(const char *test)
{
    if (device_count() > 1)
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

static void gpus_describe_themselves(void **state)
{
    (void)state;
    need_gpu(__func__);
    for (int32_t index = 1; index < device_count(); index++) {
        struct device_description d;
        struct infer_device *device = open_device(index);
        assert_ok(device_describe(device, &d));
        assert_int_equal(d.kind, DEVICE_CUDA);
        assert_int_equal(d.index, index);
        assert_int_equal(d.n_threads, 0);
        assert_true(d.compute_capability >= 80);
        assert_true(d.total_bytes > 1u << 30 && d.free_bytes <= d.total_bytes);
        assert_non_null(device_cuda_kernels(device));
        print_message("%s, compute capability %d, %llu MiB\n", d.name, d.compute_capability,
                      (unsigned long long)d.total_bytes >> 20);
        device_release(&device);
    }
}

static void gpu_memory(void **state)
{
    (void)state;
    need_gpu(__func__);
    for (int32_t index = 1; index < device_count(); index++)
        memory_of(index);
}

/* 64 MiB each way, so that more than a staging buffer is moved. */
static void large_buffers_round_trip(void **state)
{
    (void)state;
    need_gpu(__func__);
    const size_t n = 16 << 20;
    uint32_t *in = malloc(n * 4), *out = malloc(n * 4);
    uint64_t rand = 1;
    for (size_t i = 0; i < n; i++)
        in[i] = test_rand(&rand);
    struct infer_device *device = open_device(1);
    struct device_buffer a, b;
    assert_ok(device_buffer_alloc(device, n * 4, &a));
    assert_ok(device_buffer_alloc(device, n * 4, &b));
    assert_ok(device_buffer_upload(&a, 0, in, n * 4));
    assert_ok(device_buffer_copy(&b, 0, &a, 0, n * 4));
    assert_ok(device_buffer_download(out, &b, 0, n * 4));
    assert_memory_equal(in, out, n * 4);
    device_buffer_free(&a);
    device_buffer_free(&b);
    device_release(&device);
    free(in);
    free(out);
}

/* A host that uses CUDA itself must find its thread as it left it: here,
 * without any context. */
static void the_threads_context_is_put_back(void **state)
{
    (void)state;
    need_gpu(__func__);
    union {
        void *symbol;
        int (*get)(void **context);
    } driver = {0};
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    assert_non_null(library);
    driver.symbol = dlsym(library, "cuCtxGetCurrent");
    assert_non_null(driver.symbol);

    void *context = NULL, *stream = NULL, *before = NULL;
    assert_int_equal(driver.get(&before), 0);
    struct infer_device *device = open_device(1);
    struct device_buffer buffer;
    assert_ok(device_buffer_alloc(device, 1000, &buffer));
    assert_ok(device_buffer_fill(&buffer, 0, 1, 1000));
    assert_int_equal(driver.get(&context), 0);
    assert_ptr_equal(context, before);
    assert_ok(device_cuda_enter(device, &stream));
    assert_non_null(stream);
    assert_int_equal(driver.get(&context), 0);
    assert_non_null(context);
    device_cuda_leave(device);
    device_buffer_free(&buffer);
    device_release(&device);
    assert_int_equal(driver.get(&context), 0);
    assert_ptr_equal(context, before);
    dlclose(library);
}

/* ----------------------------------------------------------------- kernels */

struct rms_case {
    int32_t n_rows, n;
    int with_weights, in_place;
    size_t shift; /* floats that the rows start off their alignment */
};

struct rms_memory {
    struct infer_device *device;
    struct device_buffer x, w, y;
    float *host_x, *host_w, *host_y, *expected;
};

#define RMS_FLOATS (96 * 20000)
#define CANARY     0x55

static void rms_launch(struct rms_memory *m, const struct rms_case *c, int32_t first_row,
                       int32_t n_rows)
{
    void *stream = NULL;
    const size_t offset = c->shift + (size_t)first_row * (size_t)c->n;
    float *x = (float *)m->x.data + offset;
    float *y = c->in_place ? x : (float *)m->y.data + offset;
    const float *w = c->with_weights ? (const float *)m->w.data + c->shift : NULL;
    assert_ok(device_cuda_enter(m->device, &stream));
    const int32_t launched =
        device_cuda_kernels(m->device)->norm.rms(y, x, w, n_rows, c->n, 1e-5f, stream);
    const infer_status st = device_cuda_check(m->device, launched, "norm.rms");
    device_cuda_leave(m->device);
    assert_ok(st);
}

/* Everything behind and before the rows keeps its canary. */
static void rms_run(struct rms_memory *m, const struct rms_case *c, float *out)
{
    const size_t n = (size_t)c->n_rows * (size_t)c->n, end = c->shift + n;
    const struct device_buffer *result = c->in_place ? &m->x : &m->y;
    assert_ok(device_buffer_fill(&m->x, 0, CANARY, (end + 8) * 4));
    assert_ok(device_buffer_fill(&m->y, 0, CANARY, (end + 8) * 4));
    assert_ok(device_buffer_upload(&m->x, c->shift * 4, m->host_x, n * 4));
    assert_ok(device_buffer_upload(&m->w, c->shift * 4, m->host_w, (size_t)c->n * 4));
    rms_launch(m, c, 0, c->n_rows);
    assert_ok(m->device->ops->sync(m->device));
    uint8_t edge[32];
    assert_ok(device_buffer_download(edge, result, end * 4, 32));
    for (size_t i = 0; i < 32; i++)
        assert_int_equal(edge[i], CANARY);
    assert_ok(device_buffer_download(edge, result, 0, c->shift * 4));
    for (size_t i = 0; i < c->shift * 4; i++)
        assert_int_equal(edge[i], CANARY);
    assert_ok(device_buffer_download(out, result, c->shift * 4, n * 4));
}

static void rms_matches_the_reference(struct rms_memory *m, const struct rms_case *c)
{
    struct infer_kernels reference;
    kern_init_cpu(&reference, 0);
    const size_t n = (size_t)c->n;
    rms_run(m, c, m->host_y);
    for (int32_t row = 0; row < c->n_rows; row++)
        reference.norm.rms(m->expected + (size_t)row * n, m->host_x + (size_t)row * n,
                           c->with_weights ? m->host_w : NULL, c->n, 1e-5f);
    for (size_t i = 0; i < n * (size_t)c->n_rows; i++) {
        const float error = fabsf(m->host_y[i] - m->expected[i]);
        if (!(error <= 1e-6f + 2e-6f * fabsf(m->expected[i])))
            fail_msg("rows %d n %d weights %d in place %d shift %zu: element %zu is %.9g, not %.9g",
                     c->n_rows, c->n, c->with_weights, c->in_place, c->shift, i,
                     (double)m->host_y[i], (double)m->expected[i]);
    }
    /* The same again, bit for bit, and the last row alone as in the batch. */
    rms_run(m, c, m->expected);
    assert_memory_equal(m->host_y, m->expected, n * (size_t)c->n_rows * 4);
    if (c->in_place)
        return;
    rms_launch(m, c, c->n_rows - 1, 1);
    const size_t last = (size_t)(c->n_rows - 1) * n;
    assert_ok(device_buffer_download(m->expected, &m->y, (c->shift + last) * 4, n * 4));
    assert_memory_equal(m->host_y + last, m->expected, n * 4);
}

static void rms_memory_open(struct rms_memory *m, int32_t index)
{
    const size_t bytes = (RMS_FLOATS + 64) * sizeof(float);
    uint64_t rand = 9;
    m->device = open_device(index);
    assert_ok(device_buffer_alloc(m->device, bytes, &m->x));
    assert_ok(device_buffer_alloc(m->device, bytes, &m->w));
    assert_ok(device_buffer_alloc(m->device, bytes, &m->y));
    m->host_x = malloc(bytes);
    m->host_w = malloc(bytes);
    m->host_y = malloc(bytes);
    m->expected = malloc(bytes);
    for (size_t i = 0; i < RMS_FLOATS; i++) {
        m->host_x[i] = test_randf(&rand) * 4;
        m->host_w[i] = test_randf(&rand);
    }
}

static void rms_memory_close(struct rms_memory *m)
{
    device_buffer_free(&m->x);
    device_buffer_free(&m->w);
    device_buffer_free(&m->y);
    device_release(&m->device);
    free(m->host_x);
    free(m->host_w);
    free(m->host_y);
    free(m->expected);
}

static void norm_rms(void **state)
{
    (void)state;
    need_gpu(__func__);
    const int32_t widths[] = {1,    3,    4,    31,   32,    33,    128,
                              1000, 1023, 4096, 5120, 16384, 16388, 20000};
    const int32_t rows[] = {1, 3, 77};
    for (int32_t index = 1; index < device_count(); index++) {
        struct rms_memory m;
        rms_memory_open(&m, index);
        for (size_t i = 0; i < BASE_COUNT(widths) * BASE_COUNT(rows) * 8; i++) {
            const struct rms_case c = {.n = widths[i / 24],
                                       .n_rows = rows[i / 8 % 3],
                                       .with_weights = i & 1,
                                       .in_place = i >> 1 & 1,
                                       .shift = i >> 2 & 1};
            rms_matches_the_reference(&m, &c);
        }
        rms_memory_close(&m);
    }
}

static void norm_rms_keeps_nan_in_its_row(void **state)
{
    (void)state;
    need_gpu(__func__);
    struct rms_memory m;
    const struct rms_case c = {.n = 256, .n_rows = 3};
    rms_memory_open(&m, 1);
    m.host_x[256 + 17] = NAN;
    memset(m.host_x + 512, 0, 256 * sizeof(float)); /* a row of zeros stays one */
    rms_run(&m, &c, m.host_y);
    for (int i = 0; i < 256; i++) {
        assert_true(isfinite(m.host_y[i]));
        assert_true(isnan(m.host_y[256 + i]));
        assert_true(m.host_y[512 + i] == 0.0f);
    }
    rms_memory_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_describe_themselves),
        cmocka_unit_test(gpu_memory),
        cmocka_unit_test(large_buffers_round_trip),
        cmocka_unit_test(the_threads_context_is_put_back),
        cmocka_unit_test(norm_rms),
        cmocka_unit_test(norm_rms_keeps_nan_in_its_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
