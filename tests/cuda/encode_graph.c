/* Small batches of texts on a GPU, on the model's floor: what is replayed from graphs has the bits
 * of what is walked, whatever fills it up; and large ones, which have no graphs. */
#include "device/backend.h"
#include "model/encoder_fixture.h"
#include "model/gpu/gpu.h"
#ifdef EMULATED
#include "cuda/emulate_cublas.h"
#include "cuda/emulate_runtime.h"
#endif

#include <math.h>

static void need_gpu(const char *test)
{
    if (device_cuda_count() > 0)
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

#define MADE_TEXTS 4
#define MADE_ROWS  80
#define MADE_DIMS  48

/* Texts of these lengths. */
struct made_batch {
    infer_token tokens[MADE_ROWS];
    uint8_t types[MADE_ROWS];
    int32_t offsets[MADE_TEXTS + 1];
    struct model_encode_batch batch;
};

struct made_vectors {
    float of[MADE_TEXTS][MADE_DIMS];
};

static void batch_make(struct made_batch *b, const int32_t lengths[MADE_TEXTS], int32_t seed)
{
    *b = (struct made_batch){.batch = {b->tokens, b->types, b->offsets, MADE_TEXTS}};
    for (int32_t i = 0; i < MADE_TEXTS; i++)
        b->offsets[i + 1] = b->offsets[i] + lengths[i];
    assert_in_range(b->offsets[MADE_TEXTS], 1, MADE_ROWS);
    for (int32_t k = 0; k < b->offsets[MADE_TEXTS]; k++) {
        b->tokens[k] = 1 + (k * 37 + seed * 101) % 250;
        b->types[k] = (k + seed) % 3 == 0;
    }
}

static infer_status try_vectors(struct model_encoder *encoder, const struct made_batch *b,
                                struct made_vectors *out)
{
    struct model_fold folds[MADE_TEXTS];
    memset(out, 0, sizeof *out);
    for (int32_t i = 0; i < MADE_TEXTS; i++)
        folds[i] = (struct model_fold){.vector = out->of[i],
                                       .row = b->offsets[i],
                                       .n_rows = b->offsets[i + 1] - b->offsets[i],
                                       .kind = MODEL_POOLING_MEAN};
    return model_encoder_fold(encoder, &b->batch, folds, MADE_TEXTS);
}

static void open_made(struct encoder_case *e, const char *path, struct model_encoder **walker)
{
    const int32_t most = MADE_ROWS;
    encoder_open(e, path, &(const struct encoder_setup){.device = 1, .max_tokens = most});
    assert_int_equal(e->model->hp.n_embd, MADE_DIMS);
    assert_ok(model_encoder_open(walker, &base_alloc_default, e->model, most, 0, 0));
}

/* Kernel by kernel, by an encoder of its own. */
static void walk(struct encoder_case *e, struct model_encoder *walker, const struct made_batch *b,
                 struct made_vectors *out)
{
    e->model->gpu->ways |= GPU_WAY_WALKED;
    assert_ok(try_vectors(walker, b, out));
    e->model->gpu->ways &= ~(uint32_t)GPU_WAY_WALKED;
}

static long n_calls(void)
{
#ifdef EMULATED
    return emulated_calls();
#else
    return 0;
#endif
}

/* Of calls of the runtime: a replay makes few, however many layers there are. */
static void check_calls(long calls, int replayed)
{
#ifdef EMULATED
    if (replayed)
        assert_in_range(calls, 3, 12);
    else
        assert_in_range(calls, 24, 1000);
#else
    (void)calls;
    (void)replayed;
#endif
}

static void check(struct model_encoder *encoder, const struct made_batch *b,
                  const struct made_vectors *want)
{
    struct made_vectors got;
    assert_ok(try_vectors(encoder, b, &got));
    assert_memory_equal(&got, want, sizeof got);
}

static void open_cublas(int there)
{
#ifdef EMULATED
    emulated_cublas_set_version(there ? 120901 : 0);
#else
    (void)there;
#endif
}

/* Positions, types and tiles change within a shape; neither what fills it up nor what a larger
 * batch left there changes a bit. */
static void replayed_texts_are_walked_texts(void **state)
{
    enum { OF_ONE_SHAPE = 3, N };
    static const int32_t lengths[N][MADE_TEXTS] = {
        {5, 6, 5, 0}, {3, 4, 2, 0}, {1, 1, 1, 9}, {12, 0, 0, 0}};
    struct encoder_made f;
    struct encoder_case e;
    struct model_encoder *walker = NULL;
    struct made_batch batches[N];
    struct made_vectors want[N];
    (void)state;
    need_gpu("texts that are replayed");
    encoder_make(&f, "bert", "BF16", NULL, NULL);
    open_cublas(1);
    open_made(&e, f.path, &walker);
    for (int i = N - 1; i >= 0; i--) { /* in another order, so that other rows are left behind */
        batch_make(&batches[i], lengths[i], i);
        walk(&e, walker, &batches[i], &want[i]);
    }
    for (int k = 0; k < 5; k++) { /* walked, captured, replayed */
        const long before = n_calls();
        check(e.encoder, &batches[k % OF_ONE_SHAPE], &want[k % OF_ONE_SHAPE]);
        if (k != 1)
            check_calls(n_calls() - before, k > 1);
    }
    check(e.encoder, &batches[OF_ONE_SHAPE], &want[OF_ONE_SHAPE]);
    assert_ok(model_evict(e.model)); /* weights that lie elsewhere then */
    assert_ok(model_restore(e.model, &(const struct model_restore_config){0}));
    check(e.encoder, &batches[0], &want[0]);
#ifdef EMULATED
    assert_true(emulated_cublas_products(0) > 0);
#endif
    model_encoder_close(&walker);
    encoder_close(&e);
    open_cublas(0);
    encoder_made_remove(&f);
}

/* Of several tiles, with windows: a walk, a capture of other texts, a replay. */
static void long_texts_are_replayed(void **state)
{
    static const int32_t lengths[][MADE_TEXTS] = {{3, 66, 0, 0}, {65, 0, 1, 1}};
    struct encoder_made f;
    struct encoder_case e;
    struct made_batch batches[2];
    struct made_vectors want, other;
    (void)state;
    need_gpu("long texts that are replayed");
    batch_make(&batches[0], lengths[0], 0);
    batch_make(&batches[1], lengths[1], 1);
    encoder_make(&f, "modern", "BF16", NULL, NULL);
    open_cublas(1);
    encoder_open(&e, f.path, &(const struct encoder_setup){.device = 1, .max_tokens = MADE_ROWS});
    assert_ok(try_vectors(e.encoder, &batches[0], &want));
    assert_ok(try_vectors(e.encoder, &batches[1], &other));
    const long before = n_calls();
    check(e.encoder, &batches[0], &want);
    check_calls(n_calls() - before, 1);
    encoder_close(&e);
    open_cublas(0);
    encoder_made_remove(&f);
}

#define LARGE_TEXTS 33
#define LARGE_TEXT  16 /* together more than graphs are for */

static void a_large_batch_is_walked(void **state)
{
    struct encoder_made f;
    struct encoder_case e;
    static infer_token tokens[LARGE_TEXTS * LARGE_TEXT];
    float vectors[LARGE_TEXTS][MADE_DIMS] = {{0}}, alone[MADE_DIMS] = {0};
    int32_t offsets[LARGE_TEXTS + 1] = {0};
    struct model_fold folds[LARGE_TEXTS];
    const struct model_encode_batch batch = {tokens, NULL, offsets, LARGE_TEXTS};
    const struct model_encode_batch last = {tokens + (LARGE_TEXTS - 1) * LARGE_TEXT, NULL, offsets,
                                            1};
    (void)state;
    need_gpu("a large batch");
    for (int32_t i = 0; i < LARGE_TEXTS; i++) {
        offsets[i + 1] = offsets[i] + LARGE_TEXT;
        folds[i] = (struct model_fold){vectors[i], offsets[i], LARGE_TEXT, 0, MODEL_POOLING_MEAN};
    }
    for (int32_t k = 0; k < LARGE_TEXTS * LARGE_TEXT; k++)
        tokens[k] = (k * 37 + 5) % 250;
    open_cublas(1);
    encoder_make(&f, "distilbert", "BF16", NULL, NULL);
    encoder_open(&e, f.path, &(const struct encoder_setup){.device = 1, .max_tokens = 528});
    assert_ok(model_encoder_fold(e.encoder, &batch, folds, LARGE_TEXTS));
    const struct model_fold fold = {alone, 0, LARGE_TEXT, 0, MODEL_POOLING_MEAN};
    assert_ok(model_encoder_fold(e.encoder, &last, &fold, 1));
    assert_true(encoder_distance(alone, vectors[LARGE_TEXTS - 1], MADE_DIMS) < 1e-3);
    encoder_close(&e);
    open_cublas(0);
    encoder_made_remove(&f);
}

/* Token 0, with which batches are filled up, is no number. */
static void spoil(const char *name, size_t n_dims, const uint64_t *dims, float *values, void *data)
{
    (void)n_dims;
    (void)dims;
    (void)data;
    for (int i = 0; i < MADE_DIMS && strstr(name, "word_embeddings"); i++)
        values[i] = NAN;
}

static void what_fills_up_spoils_nothing(void **state)
{
    static const int32_t lengths[][MADE_TEXTS] = {{3, 4, 2, 0}, {5, 6, 5, 0}};
    struct encoder_made clean, spoilt;
    struct encoder_case e;
    struct model_encoder *walker = NULL;
    struct made_batch batch, broken;
    struct made_vectors want, got;
    (void)state;
    need_gpu("batches that are filled up");
    batch_make(&batch, lengths[0], 0);
    batch_make(&broken, lengths[1], 1);
    memset(broken.tokens, 0, sizeof broken.tokens);
    encoder_make(&clean, "distilbert", "F32", NULL, NULL);
    open_made(&e, clean.path, &walker);
    walk(&e, walker, &batch, &want);
    model_encoder_close(&walker);
    encoder_close(&e);
    encoder_make(&spoilt, "distilbert", "F32", spoil, NULL);
    open_made(&e, spoilt.path, &walker);
    for (int i = 0; i < 4; i++) {
        assert_ok(try_vectors(e.encoder, i % 2 ? &batch : &broken, &got));
        if (i % 2)
            assert_memory_equal(&got, &want, sizeof got);
        else
            assert_true(isnan(got.of[0][0]));
    }
    model_encoder_close(&walker);
    encoder_close(&e);
    encoder_made_remove(&clean);
    encoder_made_remove(&spoilt);
}

#ifdef EMULATED

/* Call `fail_at` fails from where a batch is captured on, that was walked before; then all is as if
 * nothing had been. */
static long fail_once(const struct encoder_case *e, const struct made_batch *b, long fail_at,
                      const struct made_vectors *want)
{
    struct model_encoder *encoder = NULL;
    struct made_vectors got;
    long calls = 0;
    assert_ok(model_encoder_open(&encoder, &base_alloc_default, e->model, 16, 0, 0));
    for (int i = 0; i < 3; i++) {
        const long before = emulated_calls();
        emulated_fail_after(i == 1 ? fail_at : 0, cudaErrorMemoryAllocation);
        const infer_status st = try_vectors(encoder, b, &got);
        emulated_fail_after(0, cudaSuccess);
        if (i == 1)
            calls = emulated_calls() - before;
        if (st == INFER_OK)
            assert_memory_equal(&got, want, sizeof got);
        else
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_true(st == INFER_OK || (i == 1 && fail_at));
    }
    model_encoder_close(&encoder);
    return calls;
}

/* Every call but most of those between begin and end of the capture, which are launches alike. */
static void calls_fail_while_texts_are_captured(void **state)
{
    static const int32_t lengths[MADE_TEXTS] = {2, 0, 1, 0};
    struct encoder_made f;
    struct encoder_case e;
    struct model_encoder *walker = NULL;
    struct made_batch batch;
    struct made_vectors want;
    (void)state;
    need_gpu("failures while texts are captured");
    batch_make(&batch, lengths, 0);
    encoder_make(&f, "distilbert", "BF16", NULL, NULL);
    open_cublas(1);
    open_made(&e, f.path, &walker);
    walk(&e, walker, &batch, &want);
    const long all = fail_once(&e, &batch, 0, &want);
    for (long n = 1; n <= all; n += n > 3 && n < all - 8 ? 7 : 1)
        fail_once(&e, &batch, n, &want);
    print_message("  %ld calls\n", all);
    model_encoder_close(&walker);
    encoder_close(&e);
    open_cublas(0);
    encoder_made_remove(&f);
}

#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replayed_texts_are_walked_texts),
        cmocka_unit_test(long_texts_are_replayed),
        cmocka_unit_test(a_large_batch_is_walked),
        cmocka_unit_test(what_fills_up_spoils_nothing),
#ifdef EMULATED
        cmocka_unit_test(calls_fail_while_texts_are_captured),
#endif
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    open_cublas(0); /* not there, but where a test says so */
    return cmocka_run_group_tests_name("graphs of texts", tests, NULL, NULL) != 0;
}
