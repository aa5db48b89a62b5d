/* NVIDIA GPUs: memory, the host's context, each kernel against kernels/ref.
 * Without a GPU, or in a build without CUDA, every test is skipped by name. */
#include "device/cuda_device.h"
#include "support/test.h"
#include "unit/device_memory.h"

#include <dlfcn.h>

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
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, n * 4, &a));
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, n * 4, &b));
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
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 1000, &buffer));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_describe_themselves),
        cmocka_unit_test(gpu_memory),
        cmocka_unit_test(large_buffers_round_trip),
        cmocka_unit_test(the_threads_context_is_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
