/* The registry of devices and the CPU; test_cuda.c goes on with GPUs. */
#include "base/thread.h"
#include "support/test.h"
#include "support/test_alloc.h"
#include "unit/device_memory.h"

#include <dlfcn.h>

/* ------------------------------------------------------------- the registry */

/* First of all tests: a program that asks for no GPU loads no driver. */
static void the_cpu_needs_no_gpu_driver(void **state)
{
    (void)state;
    struct infer_device *device = open_device(0);
    assert_null(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD));
    device_release(&device);
}

static void device_0_is_the_cpu(void **state)
{
    (void)state;
    struct device_description d;
    struct infer_device *device = NULL;
    const struct device_config config = {.n_threads = 2};
    assert_ok(device_create(&device, &config));
    assert_ok(device_describe(device, &d));
    assert_int_equal(d.kind, DEVICE_CPU);
    assert_int_equal(d.index, 0);
    assert_int_equal(d.n_threads, 2);
    assert_int_equal(d.compute_capability, 0);
    assert_true(strlen(d.name) > 2 && d.name[0] != ' ' && d.name[strlen(d.name) - 1] != ' ');
    assert_true(d.total_bytes > 1 << 20 && d.free_bytes <= d.total_bytes);
    assert_int_equal(d.used_bytes, 0);
    device_release(&device);
    device_release(&device);

    const struct device_config all = {0};
    assert_ok(device_create(&device, &all));
    assert_int_equal(base_pool_threads(device->pool), base_cpu_count());
    device_release(&device);
}

static void a_device_that_does_not_exist_is_refused(void **state)
{
    (void)state;
    const int32_t indices[] = {-1, INT32_MIN, device_count(), INT32_MAX};
    for (size_t i = 0; i < BASE_COUNT(indices); i++) {
        struct infer_device *device = NULL;
        const struct device_config config = {.index = indices[i], .n_threads = 1};
        assert_int_equal(device_create(&device, &config), INFER_ERR_INVALID);
        assert_null(device);
        assert_non_null(strstr(test_error_text(), "does not exist"));
    }
}

static void references_keep_a_device(void **state)
{
    (void)state;
    struct test_alloc t;
    test_alloc_init(&t);
    struct infer_device *first = NULL, *second;
    const struct device_config config = {.n_threads = 1, .alloc = &t.alloc};
    assert_ok(device_create(&first, &config));
    second = device_retain(first);
    device_release(&first);
    assert_null(first);
    assert_true(t.live_blocks > 0);
    struct device_buffer buffer;
    assert_ok(device_buffer_alloc(second, DEVICE_WORKSPACE, 10, &buffer));
    device_buffer_free(&buffer);
    device_release(&second);
    assert_int_equal(t.live_blocks, 0);
}

static void flags_mask_the_kernels(void **state)
{
    (void)state;
    struct infer_device *best = open_device(0), *plain = NULL;
    const struct device_config config = {.n_threads = 1, .disabled_cpu_flags = UINT32_MAX};
    assert_ok(device_create(&plain, &config));
    assert_string_equal(plain->kernels.name, "ref");
    struct infer_kernels reference;
    kern_init_cpu(&reference, 0);
    assert_memory_equal(&plain->kernels, &reference, sizeof reference);
    kern_init_cpu(&reference, kern_cpu_flags());
    assert_memory_equal(&best->kernels, &reference, sizeof reference);
    device_release(&best);
    device_release(&plain);
}

static void add_part(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    (void)thread;
    for (int32_t i = begin; i < end; i++)
        ((int32_t *)arg)[i] += i;
}

static void the_pool_runs_every_part_once(void **state)
{
    (void)state;
    struct infer_device *device = NULL;
    const struct device_config config = {.n_threads = 3};
    int32_t values[1000] = {0};
    assert_ok(device_create(&device, &config));
    base_pool_run(device->pool, add_part, values, 1000, 16);
    for (int32_t i = 0; i < 1000; i++)
        assert_int_equal(values[i], i);
    device_release(&device);
}

static void threads_may_be_pinned(void **state)
{
    (void)state;
    struct infer_device *device = NULL;
    struct device_config config = {.pin_threads = 1};
    int32_t values[100] = {0};
    assert_ok(device_create(&device, &config));
    assert_true(base_pool_threads(device->pool) >= base_cpu_count());
    base_pool_run(device->pool, add_part, values, 100, 1);
    assert_int_equal(values[99], 99);
    device_release(&device);
    config.n_threads = 4096;
    assert_int_equal(device_create(&device, &config), INFER_ERR_LIMIT);
    assert_non_null(strstr(test_error_text(), "4096 threads cannot be pinned to"));
}

static void every_allocation_of_a_device_may_fail(void **state)
{
    (void)state;
    size_t failed = 0;
    for (;; failed++) {
        struct test_alloc t;
        test_alloc_init(&t);
        t.fail_at = failed + 1;
        struct infer_device *device = NULL;
        const struct device_config config = {.n_threads = 2, .alloc = &t.alloc};
        infer_status st = device_create(&device, &config);
        device_release(&device);
        assert_int_equal(t.live_blocks, 0);
        if (st == INFER_OK)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
    }
    assert_true(failed >= 4); /* the device, its pool, the pool's threads, their shares */
}

/* ------------------------------------------------------------------- memory */

static void cpu_memory(void **state)
{
    (void)state;
    memory_of(0);
}

static void a_step_with_reserved_scratch_allocates_nothing(void **state)
{
    (void)state;
    struct test_alloc t;
    test_alloc_init(&t);
    struct infer_device *device = NULL;
    const struct device_config config = {.n_threads = 1, .alloc = &t.alloc};
    struct device_workspace ws;
    assert_ok(device_create(&device, &config));
    device_workspace_init(&ws, device);
    assert_ok(device_workspace_reserve(&ws, 10000));
    const size_t calls = t.n_calls;
    for (int step = 0; step < 10; step++) {
        assert_ok(device_workspace_reserve(&ws, 10000 - (size_t)step));
        for (int i = 0; i < 10; i++)
            memset(device_workspace_take(&ws, 900), step, 900);
    }
    assert_int_equal(t.n_calls, calls);
    device_workspace_release(&ws);
    device_release(&device);
    assert_int_equal(t.live_blocks, 0);
}

/* ---------------------------------------------------------------- OpenBLAS */

static void openblas_multiplies_where_it_is_installed(void **state)
{
    (void)state;
    enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
    const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 0, 2, 0, 1, 1}; /* 2x3, 2x3 */
    float c[4] = {0};
    device_sgemm_fn *sgemm = NULL;
    infer_status st = device_openblas(&sgemm);
    if (st != INFER_OK) {
        assert_int_equal(st, INFER_ERR_UNSUPPORTED);
        assert_non_null(strstr(test_error_text(), "openblas"));
        assert_null(sgemm);
        print_message("skipped: OpenBLAS is absent\n");
        skip();
    }
    sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, 2, 2, 3, 1.0f, a, 3, b, 3, 0.0f, c, 2);
    const float expected[] = {7, 5, 16, 11};
    assert_memory_equal(c, expected, sizeof c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_needs_no_gpu_driver),
        cmocka_unit_test(device_0_is_the_cpu),
        cmocka_unit_test(a_device_that_does_not_exist_is_refused),
        cmocka_unit_test(references_keep_a_device),
        cmocka_unit_test(flags_mask_the_kernels),
        cmocka_unit_test(the_pool_runs_every_part_once),
        cmocka_unit_test(threads_may_be_pinned),
        cmocka_unit_test(every_allocation_of_a_device_may_fail),
        cmocka_unit_test(cpu_memory),
        cmocka_unit_test(a_step_with_reserved_scratch_allocates_nothing),
        cmocka_unit_test(openblas_multiplies_where_it_is_installed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
