/* Memory of the card for the kernel tests, which are built twice: for a GPU with the CUDA runtime,
 * and for none with the emulation in its place. */
#ifndef TESTS_CUDA_CARD_H
#define TESTS_CUDA_CARD_H

#include "support/test.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

/* Freed by card_free(). Bytes are 0xff (NaN) beyond what `host` gives. */
static inline void *card_new(const void *host, size_t bytes)
{
    void *p = NULL;
    assert_int_equal(cudaMalloc(&p, bytes ? bytes : 1), cudaSuccess);
    if (host)
        assert_int_equal(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    else
        assert_int_equal(cudaMemset(p, 0xff, bytes), cudaSuccess);
    return p;
}

/* Waits for all work, too. */
static inline void card_get(void *host, const void *card, size_t bytes)
{
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(cudaMemcpy(host, card, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
}

static inline void card_free(void *p)
{
    assert_int_equal(cudaFree(p), cudaSuccess);
}

/* n floats of -scale to scale; freed by the caller. */
static inline float *random_floats(uint64_t *state, size_t n, float scale)
{
    float *x = malloc((n + !n) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = test_randf(state) * scale;
    return x;
}

/* Skips the test where there is neither a card nor the emulation. */
static inline void card_needed(const char *test)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess && n > 0)
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

#endif
