/* Tests of memory that every kind of device must pass. */
#ifndef TESTS_UNIT_DEVICE_MEMORY_H
#define TESTS_UNIT_DEVICE_MEMORY_H

#include "device/device.h"
#include "device/workspace.h"
#include "support/test.h"

static inline struct infer_device *open_device(int32_t index)
{
    struct infer_device *device = NULL;
    const struct device_config config = {.index = index, .n_threads = 1};
    assert_ok(device_create(&device, &config));
    return device;
}

static inline void buffers_hold_what_was_put(struct infer_device *device)
{
    uint8_t in[300], out[300];
    struct device_buffer a, b;
    for (int i = 0; i < 300; i++)
        in[i] = (uint8_t)(i * 7);
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 300, &a));
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 200, &b));
    assert_int_equal((uintptr_t)a.data % BASE_CACHE_LINE, 0);
    assert_int_equal(atomic_load(&device->used_bytes), 500);

    assert_ok(device_buffer_upload(&a, 0, in, 300));
    assert_ok(device_buffer_fill(&b, 0, 0xee, 200));
    assert_ok(device_buffer_copy(&b, 11, &a, 100, 150));
    assert_ok(device_buffer_copy(&a, 0, &a, 200, 100)); /* ranges that touch */
    assert_ok(device->ops->sync(device));
    assert_ok(device_buffer_download(out, &b, 0, 200));
    for (int i = 0; i < 200; i++)
        assert_int_equal(out[i], i >= 11 && i < 161 ? in[100 + i - 11] : 0xee);
    assert_ok(device_buffer_download(out, &a, 5, 290));
    for (int i = 5; i < 295; i++)
        assert_int_equal(out[i - 5], i < 100 ? in[200 + i] : in[i]);

    device_buffer_free(&a);
    device_buffer_free(&a);
    device_buffer_free(&b);
    device_buffer_free(NULL);
    assert_int_equal(atomic_load(&device->used_bytes), 0);
}

static inline void ranges_are_checked(struct infer_device *device)
{
    char bytes[64] = {0};
    struct device_buffer a, b;
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 64, &a));
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 0, &b));
    assert_int_equal(device_buffer_upload(&a, 60, bytes, 5), INFER_ERR_INVALID);
    assert_int_equal(device_buffer_upload(&a, 65, bytes, 0), INFER_ERR_INVALID);
    assert_int_equal(device_buffer_upload(&a, SIZE_MAX, bytes, 2), INFER_ERR_INVALID);
    assert_int_equal(device_buffer_download(bytes, &a, 1, SIZE_MAX), INFER_ERR_INVALID);
    assert_int_equal(device_buffer_fill(&b, 0, 1, 1), INFER_ERR_INVALID);
    assert_int_equal(device_buffer_copy(&b, 0, &a, 0, 1), INFER_ERR_INVALID);
    assert_int_equal(device_buffer_copy(&a, 0, &b, 0, 1), INFER_ERR_INVALID);
    assert_int_equal(device_buffer_copy(&a, 0, &a, 31, 32), INFER_ERR_INVALID); /* overlap */
    assert_ok(device_buffer_copy(&a, 0, &a, 32, 32));
    assert_ok(device_buffer_upload(&a, 64, bytes, 0));
    device_buffer_free(&a);
    device_buffer_free(&b);
}

/* Ranges anywhere in the buffer, 20 MiB together, in no order; some are neighbours, some empty. Two
 * lists are on their way at once; what is launched behind them overwrites what they read. */
static inline void lists_are_moved(struct infer_device *device)
{
    enum { N = 900 };
    const size_t bytes = (size_t)20 << 20, half = bytes / 2;
    uint8_t *in = malloc(bytes), *out = malloc(bytes), *back = malloc(bytes);
    struct device_range *ranges = calloc(N, sizeof *ranges);
    struct device_buffer a;
    struct device_fetch f[2];
    uint64_t seed = 5;
    size_t at[2] = {0, half};
    for (size_t i = 0; i < bytes; i++)
        in[i] = (uint8_t)(i * 2654435761u >> 13);
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, bytes, &a));
    for (int i = 0; i < N; i++) { /* from both halves in turn, or one behind the other */
        const int h = i % 8 == 7 ? (i + 1) % 2 : i % 2;
        const size_t left = half * (size_t)(h + 1) - at[h];
        size_t n = i % 50 == 0 ? 0 : test_rand(&seed) % 40000;
        n = i >= N - 2 || n > left ? left : n;
        ranges[i] = (struct device_range){at[h], in + at[h], n};
        at[h] += n;
    }
    assert_ok(device_buffer_fill(&a, 0, 1, bytes));
    assert_ok(device_buffer_put(&a, ranges, N));
    memset(in, 0xAA, bytes); /* it has been read */
    for (size_t i = 0; i < bytes; i++)
        in[i] = (uint8_t)(i * 2654435761u >> 13);
    assert_ok(device_buffer_download(back, &a, 0, bytes));
    assert_memory_equal(back, in, bytes);

    for (int i = 0; i < N; i++)
        ranges[i].host = out + ranges[i].at;
    memset(out, 0, bytes);
    assert_ok(device_fetch_begin(&f[0], &a, ranges, 40));
    assert_ok(device_fetch_begin(&f[1], &a, ranges + 40, N - 40));
    for (int i = 0; i < 2; i++) {
        assert_ok(device_fetch_order(&f[i]));
        for (int32_t k = 0; k < device_fetch_launched(&f[i]); k++)
            assert_ok(device_buffer_fill(&a, ranges[40 * i + k].at, 7, ranges[40 * i + k].bytes));
    }
    assert_ok(device_fetch_end(&f[1]));
    assert_ok(device_fetch_end(&f[0]));
    assert_memory_equal(out, in, bytes);

    /* What was launched before is fetched, though nobody has waited for it. */
    assert_ok(device_buffer_fill(&a, 0, 9, bytes));
    assert_ok(device_fetch_begin(&f[0], &a, ranges, N));
    assert_ok(device_fetch_end(&f[0]));
    for (size_t i = 0; i < bytes; i += 64)
        assert_int_equal(out[i], 9);

    const struct device_range bad[] = {{0, out, 10}, {bytes - 4, out, 5}};
    assert_int_equal(device_fetch_begin(&f[0], &a, bad, 2), INFER_ERR_INVALID);
    assert_ok(device_fetch_end(&f[0]));
    assert_int_equal(device_buffer_put(&a, bad, 2), INFER_ERR_INVALID);
    assert_ok(device_buffer_put(&a, NULL, 0));
    assert_ok(device_fetch_begin(&f[0], &a, NULL, 0));
    assert_ok(device_fetch_end(&f[0]));
    device_buffer_free(&a);
    free(in), free(out), free(back), free(ranges);
}

static inline void the_budget_holds(int32_t index)
{
    struct infer_device *device = NULL;
    struct device_buffer a, b, c = {0};
    const struct device_config config = {.index = index, .n_threads = 1, .budget_bytes = 1000};
    assert_ok(device_create(&device, &config));
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 600, &a));
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 400, &b));
    assert_int_equal(device_buffer_alloc(device, DEVICE_WORKSPACE, 1, &c), INFER_ERR_LIMIT);
    assert_non_null(strstr(test_error_text(), "budget of 1000 bytes"));
    assert_null(c.data);
    device_buffer_free(&a);
    assert_int_equal(device_buffer_alloc(device, DEVICE_WORKSPACE, SIZE_MAX, &c), INFER_ERR_LIMIT);
    assert_ok(device_buffer_alloc(device, DEVICE_WORKSPACE, 600, &c));
    device_buffer_free(&b);
    device_buffer_free(&c);
    device_release(&device);
}

static inline void each_purpose_has_a_budget(int32_t index)
{
    struct infer_device *device = NULL;
    struct device_buffer a, b, c = {0};
    struct device_description d;
    const struct device_config config = {.index = index,
                                         .n_threads = 1,
                                         .budget_bytes = 1000,
                                         .budgets = {[DEVICE_KV] = 500, [DEVICE_WEIGHTS] = 2000}};
    assert_ok(device_create(&device, &config));
    assert_ok(device_buffer_alloc(device, DEVICE_KV, 400, &a));
    assert_int_equal(device_buffer_alloc(device, DEVICE_KV, 101, &c), INFER_ERR_LIMIT);
    assert_non_null(strstr(test_error_text(), "budget of 500 bytes for KV caches"));
    assert_ok(device_buffer_alloc(device, DEVICE_WEIGHTS, 600, &b));
    assert_int_equal(device_buffer_alloc(device, DEVICE_WEIGHTS, 1, &c), INFER_ERR_LIMIT);
    assert_non_null(strstr(test_error_text(), "budget of 1000 bytes, of which 1000 are used"));
    assert_ok(device_describe(device, &d));
    assert_int_equal(d.used[DEVICE_KV], 400);
    assert_int_equal(d.used[DEVICE_WEIGHTS], 600);
    device_buffer_free(&a);
    device_buffer_free(&b);
    assert_ok(device_describe(device, &d));
    assert_int_equal(d.used[DEVICE_KV] + d.used[DEVICE_WEIGHTS] + d.used_bytes, 0);
    device_release(&device);
}

static inline void more_than_there_is_gives_no_memory(struct infer_device *device)
{
    struct device_buffer buffer = {0};
    assert_int_equal(device_buffer_alloc(device, DEVICE_WORKSPACE, SIZE_MAX / 4, &buffer),
                     INFER_ERR_NO_MEMORY);
    assert_null(buffer.data);
    assert_int_equal(atomic_load(&device->used_bytes), 0);
}

static inline void workspace_hands_out_and_rewinds(struct infer_device *device)
{
    struct device_workspace ws;
    device_workspace_init(&ws, device);
    assert_ok(device_workspace_reserve(&ws, 0));
    assert_ok(device_workspace_reserve(&ws, device_workspace_need(10) + 100));
    char *a = device_workspace_take(&ws, 10), *b = device_workspace_take(&ws, 100);
    assert_non_null(a);
    assert_int_equal((uintptr_t)a % BASE_CACHE_LINE, 0);
    assert_int_equal(b - a, BASE_CACHE_LINE);
    assert_null(device_workspace_take(&ws, 1)); /* the last take may end unaligned */
    assert_non_null(strstr(test_error_text(), "scratch"));

    const uint64_t held = atomic_load(&device->used_bytes);
    assert_ok(device_workspace_reserve(&ws, 20)); /* smaller: the same memory, from its start */
    assert_ptr_equal(device_workspace_take(&ws, 10), a);
    assert_int_equal(atomic_load(&device->used_bytes), held);
    assert_int_equal(device_workspace_reserve(&ws, SIZE_MAX / 4), INFER_ERR_NO_MEMORY);
    assert_int_equal(atomic_load(&device->used_bytes), held); /* what was there stays */
    const size_t mark = ws.used;
    b = device_workspace_take(&ws, 20);
    ws.used = mark;
    assert_ptr_equal(device_workspace_take(&ws, 20), b);
    assert_ok(device_workspace_reserve(&ws, 4096));
    assert_non_null(device_workspace_take(&ws, 4096));
    device_workspace_release(&ws);
    assert_int_equal(atomic_load(&device->used_bytes), 0);
}

static inline void memory_of(int32_t index)
{
    struct infer_device *device = open_device(index);
    buffers_hold_what_was_put(device);
    ranges_are_checked(device);
    lists_are_moved(device);
    the_budget_holds(index);
    each_purpose_has_a_budget(index);
    more_than_there_is_gives_no_memory(device);
    workspace_hands_out_and_rewinds(device);
    device_release(&device);
}

#endif
