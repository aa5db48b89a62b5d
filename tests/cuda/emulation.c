/* The emulated runtime itself: what it promises to the tests that run on it. */
#include "cuda/card.h"
#include "cuda/emulate_runtime.h"
#include "support/test.h"

#include <dlfcn.h>

/* A host that does not wait finds the old bytes. */
static void work_waits_in_its_stream(void **state)
{
    (void)state;
    cudaStream_t stream;
    unsigned char *pinned, *card = card_new(NULL, 64), pageable[64];
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMallocHost((void **)&pinned, 64), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    memset(pinned, 1, 64);
    assert_int_equal(cudaMemsetAsync(card, 7, 64, stream), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(pinned, card, 64, cudaMemcpyDeviceToHost, stream),
                     cudaSuccess);
    assert_int_equal(pinned[63], 1);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(pinned[63], 7);

    /* Pinned memory is read when the work runs, pageable memory at once. */
    assert_int_equal(cudaMemcpyAsync(card, pinned, 32, cudaMemcpyHostToDevice, stream),
                     cudaSuccess);
    memset(pageable, 3, 64);
    assert_int_equal(cudaMemcpyAsync(card + 32, pageable, 32, cudaMemcpyHostToDevice, stream),
                     cudaSuccess);
    memset(pinned, 9, 64);
    memset(pageable, 4, 64);
    assert_int_equal(cudaMemcpyAsync(pageable, card, 64, cudaMemcpyDeviceToHost, stream),
                     cudaSuccess);
    assert_int_equal(pageable[0], 9);
    assert_int_equal(pageable[32], 3);
    assert_int_equal(cudaFreeHost(pinned), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    card_free(card);
}

static void events_order_streams(void **state)
{
    (void)state;
    cudaStream_t one, two;
    cudaEvent_t event;
    unsigned char *card = card_new(NULL, 64), *pinned;
    assert_int_equal(cudaMallocHost((void **)&pinned, 64), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    for (int ordered = 0; ordered < 2; ordered++) {
        assert_int_equal(cudaMemset(card, 1, 64), cudaSuccess);
        assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        assert_int_equal(cudaMemsetAsync(card, 5, 64, one), cudaSuccess);
        assert_int_equal(cudaEventRecord(event, one), cudaSuccess);
        if (ordered)
            assert_int_equal(cudaStreamWaitEvent(two, event, 0), cudaSuccess);
        assert_int_equal(cudaMemcpyAsync(pinned, card, 64, cudaMemcpyDeviceToHost, two),
                         cudaSuccess);
        assert_int_equal(cudaStreamSynchronize(two), cudaSuccess);
        assert_int_equal(pinned[0], ordered ? 5 : 1);
        assert_int_equal(cudaEventSynchronize(event), cudaSuccess);
    }
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(one), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(two), cudaSuccess);
    assert_int_equal(cudaFreeHost(pinned), cudaSuccess);
    card_free(card);
}

static void graphs_replay_what_was_captured(void **state)
{
    (void)state;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    enum cudaStreamCaptureStatus status;
    unsigned char *from = card_new(NULL, 64), *to = card_new(NULL, 64), out[64];
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(cudaStreamIsCapturing(stream, &status), cudaSuccess);
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    assert_int_equal(cudaMemcpyAsync(to, from, 32, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(from, 2, 64, stream), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    for (int i = 0; i < 3; i++) {
        card_get(out, to, 64);
        assert_int_equal(out[0], i < 2 ? 0xff : 2);
        assert_int_equal(out[32], 0xff);
        assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
    }
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess); /* the last launch still waits */
    card_get(out, from, 64);
    assert_int_equal(out[63], 2);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    card_free(from);
    card_free(to);
}

/* Each of them ends the capture, as on a card. */
static void captures_refuse_what_cannot_be_recorded(void **state)
{
    (void)state;
    cudaStream_t stream;
    cudaGraph_t graph;
    void *p;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    for (int what = 0; what < 3; what++) {
        assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                         cudaSuccess);
        assert_int_equal(what == 0   ? cudaMalloc(&p, 64)
                         : what == 1 ? cudaStreamSynchronize(stream)
                                     : cudaDeviceSynchronize(),
                         cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
        assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    }
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
}

/* What the first of two streams writes while the second one reads it. */
static unsigned char read_beside(enum emulated_order order, uint64_t seed, int ordered)
{
    cudaStream_t one, two;
    cudaEvent_t event;
    unsigned char *card = card_new(NULL, 64), *pinned, first;
    emulated_set_order(order, seed);
    assert_int_equal(cudaMallocHost((void **)&pinned, 64), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    memset(pinned, 0, 64);
    assert_int_equal(cudaMemset(card, 1, 64), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(card, 5, 64, one), cudaSuccess);
    assert_int_equal(cudaEventRecord(event, one), cudaSuccess);
    if (ordered)
        assert_int_equal(cudaStreamWaitEvent(two, event, 0), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(pinned, card, 64, cudaMemcpyDeviceToHost, two), cudaSuccess);
    first = pinned[0]; /* nothing was waited for yet */
    if (first == 0) {
        assert_int_equal(cudaStreamSynchronize(two), cudaSuccess);
        first = 10 + pinned[0];
    }
    assert_int_equal(cudaStreamDestroy(one), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(two), cudaSuccess);
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
    assert_int_equal(cudaFreeHost(pinned), cudaSuccess);
    card_free(card);
    emulated_set_order(EMULATED_LAZY, 0);
    return first;
}

static void work_is_done_in_the_order_that_is_set(void **state)
{
    unsigned seen = 0;
    (void)state;
    assert_int_equal(read_beside(EMULATED_LAZY, 0, 0), 11);
    assert_int_equal(read_beside(EMULATED_LAZY, 0, 1), 15);
    assert_int_equal(read_beside(EMULATED_EAGER, 0, 0), 5);
    assert_int_equal(read_beside(EMULATED_EAGER, 0, 1), 5);
    assert_int_equal(read_beside(EMULATED_NEWEST, 0, 0), 1);
    assert_int_equal(read_beside(EMULATED_NEWEST, 0, 1), 5);
    assert_int_equal(read_beside(EMULATED_OLDEST, 0, 0), 15);
    assert_int_equal(read_beside(EMULATED_OLDEST, 0, 1), 15);
    for (uint64_t seed = 0; seed < 40; seed++) {
        seen |= 1u << read_beside(EMULATED_RANDOM, seed, 0);
        assert_int_equal(read_beside(EMULATED_RANDOM, seed, 1) % 10, 5);
    }
    assert_int_equal(seen, 1u << 1 | 1u << 5 | 1u << 11 | 1u << 15);
}

static void memory_ends_and_is_checked(void **state)
{
    (void)state;
    const size_t used = emulated_memory_used();
    unsigned char *card = card_new(NULL, 100), byte = 0;
    void *p;
    size_t free_bytes, total;
    assert_int_equal(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
    assert_int_equal(total, (size_t)4 << 30);
    assert_int_equal(free_bytes, total - used - 100);
    assert_int_equal(cudaMalloc(&p, free_bytes + 1), cudaErrorMemoryAllocation);
    assert_null(p);
    assert_int_equal(cudaMemcpy(card + 100, &byte, 1, cudaMemcpyHostToDevice),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(card, card + 50, 51, cudaMemcpyDeviceToDevice),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(&byte, &byte, 1, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemset(card + 1, 0, 100), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(card + 1), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    card_free(card);
    assert_int_equal(emulated_memory_used(), used);
}

static void calls_fail_when_told(void **state)
{
    (void)state;
    void *p = NULL;
    emulated_fail_after(2, cudaErrorMemoryAllocation);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(cudaMalloc(&p, 64), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&p, 64), cudaSuccess);

    emulated_fail_after(1, cudaErrorLaunchFailure); /* a lost card stays lost */
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaMemset(p, 0, 64), cudaErrorLaunchFailure);
    assert_int_equal(cudaFree(p), cudaErrorLaunchFailure);
    assert_int_equal(emulated_memory_used(), 64); /* as all that is in it */
    assert_int_equal(cudaDeviceReset(), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(emulated_memory_used(), 0);
}

/* ---------------------------------------------------------------- contexts */

struct driver {
    int (*create)(void **context, unsigned flags, int device);
    int (*destroy)(void *context);
    int (*push)(void *context);
    int (*pop)(void **context);
};

static void open_driver(struct driver *d)
{
    static const char *const names[] = {"cuCtxCreate_v2", "cuCtxDestroy_v2", "cuCtxPushCurrent_v2",
                                        "cuCtxPopCurrent_v2"};
    int n;
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *symbols[4];
    assert_non_null(library);
    assert_int_equal(cudaGetDeviceCount(&n), cudaSuccess); /* as it initialises a driver */
    for (int i = 0; i < 4; i++) {
        symbols[i] = dlsym(library, names[i]);
        assert_non_null(symbols[i]);
    }
    memcpy(d, symbols, sizeof *d);
}

/* What a context has is no other's, is lost with it alone, and goes when it is destroyed. */
static void contexts_end_with_all_that_is_theirs(void **state)
{
    (void)state;
    struct driver driver;
    void *one, *two, *popped;
    unsigned char *card, *other, byte = 0;
    cudaStream_t stream;
    cudaEvent_t event;
    const size_t used = emulated_memory_used();
    open_driver(&driver);
    const int before = emulated_contexts();
    assert_int_equal(driver.create(&one, 0, 0), 0);
    assert_int_equal(cudaMalloc((void **)&card, 64), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(driver.create(&two, 0, 0), 0); /* and it is current */
    assert_int_equal(emulated_contexts(), before + 2);
    assert_int_equal(cudaMemset(card, 0, 64), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(card), cudaErrorInvalidValue);
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaEventRecord(event, NULL), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaMalloc((void **)&other, 64), cudaSuccess);
    assert_int_equal(driver.pop(&popped), 0);
    assert_ptr_equal(popped, two);

    assert_int_equal(emulated_lose(stream), cudaSuccess); /* nobody knows yet */
    assert_int_equal(cudaMemsetAsync(card, 0, 64, stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
    assert_int_equal(card[0], 0xff); /* work behind it is not done */
    assert_int_equal(cudaStreamDestroy(stream), cudaErrorIllegalAddress);
    assert_int_equal(cudaFree(card), cudaErrorIllegalAddress);
    assert_int_equal(driver.push(two), 0);
    assert_int_equal(cudaMemcpy(&byte, other, 1, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_int_equal(driver.destroy(one), 0);
    assert_int_equal(driver.push(one), cudaErrorContextIsDestroyed);
    assert_int_equal(cudaMemset(card, 0, 64), cudaErrorInvalidValue);
    assert_int_equal(emulated_memory_used(), used + 64);
    assert_int_equal(driver.destroy(two), 0);
    assert_int_equal(driver.pop(&popped), 0); /* the one that was destroyed while current */
    assert_ptr_equal(popped, one);
    assert_int_equal(emulated_memory_used(), used);
    assert_int_equal(emulated_contexts(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_waits_in_its_stream),
        cmocka_unit_test(events_order_streams),
        cmocka_unit_test(graphs_replay_what_was_captured),
        cmocka_unit_test(captures_refuse_what_cannot_be_recorded),
        cmocka_unit_test(work_is_done_in_the_order_that_is_set),
        cmocka_unit_test(memory_ends_and_is_checked),
        cmocka_unit_test(calls_fail_when_told),
        cmocka_unit_test(contexts_end_with_all_that_is_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
