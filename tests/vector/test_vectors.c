/* Stored vectors: what comes back of each type, growing, files, limits, failing allocations. */
#include "../support/test.h"
#include "../support/test_alloc.h"

#include "vector/flat.h"

#include <infer/index.h>
#include <math.h>
#include <unistd.h>

static struct infer_kernels kernels;

static const int32_t types[] = {INFER_INDEX_F32, INFER_INDEX_F16, INFER_INDEX_BF16, INFER_INDEX_I8,
                                INFER_INDEX_BINARY};
static const int32_t metrics[] = {INFER_METRIC_COSINE, INFER_METRIC_DOT, INFER_METRIC_L2};

static struct vector_space_config config_of(const struct base_alloc *a, int32_t dims,
                                            int32_t metric, int32_t type)
{
    return (struct vector_space_config){
        .alloc = a, .kernels = &kernels, .shape = {dims, metric, type}};
}

static float *random_vectors(int32_t n, int32_t dims, uint64_t seed)
{
    float *x = malloc((size_t)n * (size_t)dims * sizeof(*x));

    for (int32_t i = 0; i < n * dims; i++) {
        x[i] = 3.0f * test_randf(&seed);
    }
    return x;
}

static double length_of(const float *x, int32_t n)
{
    double sum = 0.0;

    for (int32_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sqrt(sum);
}

/* How far element x of a vector may be from what was handed in. F16 has a smallest step. */
static double lost(int32_t type, double x, double max, double length)
{
    static const double share[] = {0x1p-22, 0x1p-10, 0x1p-7};

    return type == INFER_INDEX_I8 ? max * 0.51 / 127 + 0.02 * fabs(x)
                                  : share[type] * fabs(x) + 0x1p-24 * length;
}

static void check_row(const struct vector_view *view, int32_t row, const float *x)
{
    const int32_t dims = view->shape.dims;
    const double length = length_of(x, dims);
    float *got = malloc((size_t)dims * sizeof(*got));
    double max = 0.0;

    for (int32_t i = 0; i < dims; i++) {
        max = fmax(max, fabs((double)x[i]));
    }
    vector_view_get(view, row, got);
    for (int32_t i = 0; i < dims; i++) {
        const double d = fabs((double)got[i] - (double)x[i]);

        if (view->shape.type == INFER_INDEX_BINARY) {
            assert_true(got[i] == (x[i] >= 0.0f ? 1.0f : -1.0f));
        } else {
            assert_true(d <= lost(view->shape.type, (double)x[i], max, length));
        }
    }
    if (view->shape.metric == INFER_METRIC_COSINE && view->shape.type != INFER_INDEX_BINARY) {
        vector_view_load(view, row, got);
        assert_true(fabs(length_of(got, dims) - 1.0) < 1e-6);
    }
    free(got);
}

static void what_was_stored_comes_back_as_precisely_as_its_type(void **state)
{
    static const int32_t dims[] = {1, 7, 64, 384, 1536, 8192};

    BASE_UNUSED(state);
    for (size_t t = 0; t < 15 * BASE_COUNT(dims); t++) {
        const int32_t d = dims[t / 15], n = 40;
        const struct vector_space_config config =
            config_of(&base_alloc_default, d, metrics[t % 3], types[t / 3 % 5]);
        float *x = random_vectors(n, d, t + 1);
        struct vector_vectors *v;
        struct vector_view view;
        int32_t first;

        assert_ok(vector_vectors_create(&v, &config));
        assert_ok(vector_vectors_check(&config.shape, x, n));
        assert_ok(vector_vectors_add(v, x, 1, &first, NULL));
        assert_int_equal(first, 0);
        assert_ok(vector_vectors_add(v, x + d, n - 1, &first, NULL));
        assert_int_equal(first, 1);
        assert_int_equal(vector_vectors_size(v), n);
        vector_vectors_view(v, &view);
        for (int32_t i = 0; i < n; i++) {
            check_row(&view, i, x + i * d);
        }
        vector_vectors_destroy(&v);
        assert_null(v);
        free(x);
    }
}

static void a_vector_is_most_like_itself_by_cosine(void **state)
{
    const int32_t d = 384;

    BASE_UNUSED(state);
    for (size_t t = 0; t < 4; t++) {
        const struct vector_space_config config =
            config_of(&base_alloc_default, d, INFER_METRIC_COSINE, types[t]);
        float *x = random_vectors(1, d, 77);
        void *memory = aligned_alloc(64, vector_query_bytes(&config.shape));
        struct vector_vectors *v;
        struct vector_query query;
        struct vector_view view;
        const int32_t rows[4] = {0, 1, -1, 0};
        float scores[4];
        int32_t first;

        assert_ok(vector_vectors_create(&v, &config));
        assert_ok(vector_vectors_add(v, x, 1, &first, NULL));
        vector_vectors_view(v, &view);
        vector_query_set(&query, memory, &view, x);
        vector_view_score(&view, &query, rows, 4, scores);
        assert_true(scores[0] <= 1.0f && scores[0] > (t < 3 ? 0.99999f : 0.9998f));
        assert_true(scores[1] == -INFINITY && scores[2] == -INFINITY); /* not there */
        assert_true(scores[3] == scores[0]);
        free(memory);
        vector_vectors_destroy(&v);
        free(x);
    }
}

static void no_cosine_is_beyond_one(void **state)
{
    enum { D = 33, N = 300 };
    const struct vector_space_config config =
        config_of(&base_alloc_default, D, INFER_METRIC_COSINE, INFER_INDEX_F32);
    void *memory = aligned_alloc(64, vector_query_bytes(&config.shape));
    float *x = random_vectors(N, D, 9);
    struct vector_vectors *v;
    struct vector_view view;
    int32_t first;

    BASE_UNUSED(state);
    assert_ok(vector_vectors_create(&v, &config));
    assert_ok(vector_vectors_add(v, x, N, &first, NULL));
    vector_vectors_view(v, &view);
    for (int32_t i = 0; i < N; i++) {
        struct vector_query query;
        float score;

        vector_query_set(&query, memory, &view, x + i * D);
        vector_view_score(&view, &query, &i, 1, &score);
        assert_true(score <= 1.0f && score > 0.999999f);
        assert_true(vector_distance(INFER_METRIC_COSINE, score) >= 0.0f);
    }
    vector_vectors_destroy(&v);
    free(memory);
    free(x);
}

static void what_cannot_be_stored_is_refused_by_name(void **state)
{
    float x[4] = {1.0f, 2.0f, 3.0f, 4.0f}, zeros[2] = {0.0f, -0.0f};
    struct vector_shape shape = {2, INFER_METRIC_L2, INFER_INDEX_F16};

    BASE_UNUSED(state);
    assert_ok(vector_vectors_check(&shape, x, 2));
    x[3] = NAN;
    assert_int_equal(vector_vectors_check(&shape, x, 2), INFER_ERR_INVALID);
    assert_non_null(strstr(test_error_text(), "element 1 of vector 1"));
    x[3] = 65505.0f;
    assert_int_equal(vector_vectors_check(&shape, x, 2), INFER_ERR_INVALID);
    shape.metric = INFER_METRIC_COSINE; /* is kept at length 1 */
    assert_ok(vector_vectors_check(&shape, x, 2));
    assert_int_equal(vector_vectors_check(&shape, zeros, 1), INFER_ERR_INVALID);
    shape.metric = INFER_METRIC_DOT;
    assert_ok(vector_vectors_check(&shape, zeros, 1));
    shape.type = INFER_INDEX_F32;
    x[3] = 2e18f;
    assert_int_equal(vector_vectors_check(&shape, x, 2), INFER_ERR_INVALID);
    x[3] = -INFINITY;
    assert_int_equal(vector_vectors_check(&shape, x, 2), INFER_ERR_INVALID);
}

static void bounds_of_what_bytes_lose_hold(void **state)
{
    const int32_t d = 100, n = 50;

    BASE_UNUSED(state);
    for (size_t t = 0; t < 12; t++) {
        const struct vector_space_config config =
            config_of(&base_alloc_default, d, metrics[t % 3], types[t / 3]);
        float *x = random_vectors(n, d, t + 100), *y = malloc((size_t)d * 4);
        int8_t bytes[100];
        struct vector_vectors *v;
        struct vector_view view;
        int32_t first;

        x[5] = 200.0f; /* one element that is much larger */
        assert_ok(vector_vectors_create(&v, &config));
        assert_ok(vector_vectors_add(v, x, n, &first, NULL));
        vector_vectors_view(v, &view);
        for (int32_t i = 0; i < n; i++) {
            const struct vector_note *note = vector_view_note(&view, i);
            const void *row = vector_view_row(&view, i);
            double sum = 0.0;

            vector_view_load(&view, i, y);
            if (types[t / 3] == INFER_INDEX_I8) {
                memcpy(bytes, row, sizeof(bytes));
            } else {
                kernels.vector.code[view.dtype](bytes, row, 1.0f / note->scale, d);
            }
            for (int32_t j = 0; j < d; j++) {
                const double e = (double)y[j] - (double)(note->scale * note->factor) * bytes[j];

                sum += e * e;
            }
            assert_true(sqrt(sum) <=
                        (double)(note->error * note->factor) * 1.000001 + 1e-6 * length_of(y, d));
            assert_true((double)note->error <= (types[t / 3] == INFER_INDEX_I8 ? 0.0 : 8.0));
            if (config.shape.metric != INFER_METRIC_COSINE) {
                assert_true((double)note->length >= length_of(y, d) &&
                            (double)note->length <= length_of(y, d) * 1.000001);
            } else {
                assert_true(fabs((double)note->length / length_of(x + i * d, d) - 1.0) < 1e-6);
            }
        }
        vector_vectors_destroy(&v);
        free(x);
        free(y);
    }
}

static void rows_of_others_are_taken_as_they_are(void **state)
{
    static const int32_t rows[] = {9, 0, 31, 4};

    BASE_UNUSED(state);
    for (size_t t = 0; t < 5; t++) {
        const struct vector_space_config config =
            config_of(&base_alloc_default, 33, INFER_METRIC_COSINE, types[t]);
        float *x = random_vectors(32, 33, 8), a[33], b[33];
        struct vector_vectors *from, *to;
        struct vector_view from_view, to_view;
        int32_t first;

        assert_ok(vector_vectors_create(&from, &config));
        assert_ok(vector_vectors_create(&to, &config));
        assert_ok(vector_vectors_add(from, x, 32, &first, NULL));
        assert_ok(vector_vectors_add(to, x, 2, &first, NULL));
        vector_vectors_view(from, &from_view);
        assert_ok(vector_vectors_add_rows(to, &from_view, rows, 4, &first));
        assert_int_equal(first, 2);
        vector_vectors_view(to, &to_view);
        for (int32_t i = 0; i < 4; i++) {
            vector_view_get(&from_view, rows[i], a);
            vector_view_get(&to_view, 2 + i, b);
            assert_memory_equal(a, b, sizeof(a));
        }
        vector_vectors_destroy(&from);
        vector_vectors_destroy(&to);
        free(x);
    }
}

static void rows_beyond_the_limit_are_refused(void **state)
{
    struct vector_space_config config =
        config_of(&base_alloc_default, 3, INFER_METRIC_L2, INFER_INDEX_F32);
    float *x = random_vectors(9, 3, 1);
    struct vector_vectors *v;
    int32_t first;

    BASE_UNUSED(state);
    config.max_rows = 8;
    assert_ok(vector_vectors_create(&v, &config));
    assert_ok(vector_vectors_add(v, x, 5, &first, NULL));
    assert_int_equal(vector_vectors_add(v, x, 4, &first, NULL), INFER_ERR_LIMIT);
    assert_int_equal(vector_vectors_size(v), 5);
    assert_ok(vector_vectors_add(v, x, 3, &first, NULL));
    vector_vectors_destroy(&v);
    free(x);
}

static void failing_allocations_leave_what_was_there(void **state)
{
    const int32_t d = 2048, n = 320; /* many chunks, and a directory that grows */
    float *x = random_vectors(n, d, 3);

    BASE_UNUSED(state);
    for (size_t fail_at = 1;; fail_at++) {
        struct test_alloc t;
        struct vector_space_config config;
        struct vector_vectors *v = NULL;
        struct vector_view view;
        infer_status status;
        int32_t first = -7;

        test_alloc_init(&t);
        t.fail_at = fail_at;
        config = config_of(&t.alloc, d, INFER_METRIC_DOT, INFER_INDEX_F16);
        status = vector_vectors_create(&v, &config);
        if (!status) {
            for (int32_t i = 0; i < n && !status; i += 64) {
                status = vector_vectors_add(v, x + i * d, 64, &first, NULL);
                if (status) {
                    assert_int_equal(vector_vectors_size(v), i);
                    vector_vectors_view(v, &view);
                    for (int32_t r = 0; r < i; r += 31) {
                        check_row(&view, r, x + r * d);
                    }
                    status =
                        vector_vectors_add(v, x + i * d, 64, &first, NULL); /* memory is back */
                    assert_ok(status);
                }
            }
            assert_int_equal(vector_vectors_size(v), n);
            assert_true(vector_vectors_bytes(v) >= t.live_bytes / 2 &&
                        vector_vectors_bytes(v) <= t.live_bytes);
            vector_vectors_destroy(&v);
        } else {
            assert_int_equal(status, INFER_ERR_NO_MEMORY);
        }
        assert_int_equal(t.live_blocks, 0);
        if (t.n_calls < fail_at) {
            break;
        }
    }
    free(x);
}

/* ------------------------------------------------------------------ files */

static void make_path(char *path)
{
    strcpy(path, "/tmp/infer-vectors-XXXXXX");
    assert_non_null(mkdtemp(path));
    strcat(path, "/vectors");
}

static void remove_path(char *path)
{
    remove(path);
    *strrchr(path, '/') = 0;
    assert_int_equal(rmdir(path), 0);
}

static void write_file(const char *path, const struct vector_vectors *v)
{
    struct vector_file_writer *w;

    assert_ok(vector_file_create(&w, &base_alloc_default, path, "test"));
    assert_ok(vector_vectors_write(v, 1, w));
    assert_ok(vector_file_finish(&w));
}

static void a_file_holds_the_same_rows(void **state)
{
    char path[64];

    BASE_UNUSED(state);
    make_path(path);
    for (size_t t = 0; t < 15; t++) {
        const struct vector_space_config config =
            config_of(&base_alloc_default, 90, metrics[t % 3], types[t / 3]);
        const int32_t n = t == 4 ? 0 : 700;
        float *x = random_vectors(700, 90, 2), a[90], b[90];
        struct vector_vectors *v, *fixed;
        struct vector_view view, fixed_view;
        struct vector_file *file;
        int32_t first;

        assert_ok(vector_vectors_create(&v, &config));
        assert_ok(vector_vectors_add(v, x, n, &first, NULL));
        write_file(path, v);
        assert_ok(vector_file_open(&file, &base_alloc_default, path, "test", 1));
        assert_ok(vector_vectors_open(&fixed, &config, file, n, NULL, 0));
        vector_vectors_view(v, &view);
        vector_vectors_view(fixed, &fixed_view);
        assert_int_equal(fixed_view.n, n);
        for (int32_t i = 0; i < n; i++) {
            vector_view_get(&view, i, a);
            vector_view_get(&fixed_view, i, b);
            assert_memory_equal(a, b, sizeof(a));
        }
        assert_int_equal(vector_vectors_add(fixed, x, 1, &first, NULL), INFER_ERR_UNSUPPORTED);
        vector_vectors_destroy(&fixed);
        assert_int_equal(vector_vectors_open(&fixed, &config, file, n + 1, NULL, 0),
                         INFER_ERR_FORMAT);
        assert_int_equal(vector_vectors_open(&fixed, &config, file, -1, NULL, 0), INFER_ERR_FORMAT);
        vector_file_close(&file);
        vector_vectors_destroy(&v);
        free(x);
    }
    remove_path(path);
}

/* Any bytes as rows and notes: scores of any kind, and no harm under the sanitizers. */
static void damaged_sections_do_no_harm(void **state)
{
    const int32_t d = 20, n = 64;
    uint8_t junk[64 * 80];
    uint64_t seed = 4;
    char path[64];

    BASE_UNUSED(state);
    make_path(path);
    for (size_t i = 0; i < sizeof(junk); i++) {
        junk[i] = (uint8_t)(test_rand(&seed) % 3 ? test_rand(&seed) : 0xff);
    }
    for (size_t t = 0; t < 15; t++) {
        const struct vector_space_config config =
            config_of(&base_alloc_default, d, metrics[t % 3], types[t / 3]);
        static const size_t row_bytes[] = {80, 40, 40, 20, 8};
        void *memory = aligned_alloc(64, vector_query_bytes(&config.shape) + 64);
        struct vector_file_writer *w;
        struct vector_file *file;
        struct vector_vectors *v;
        struct vector_view view;
        struct vector_query query;
        struct vector_flat flat = {.alloc = &base_alloc_default, .n_rows = n};
        struct vector_flat_query queries[9];
        struct vector_found found[9 * 7];
        int32_t rows[64];
        float x[20], scores[64];

        assert_ok(vector_file_create(&w, &base_alloc_default, path, "test"));
        assert_ok(vector_file_section(w, "vectors", junk, (size_t)n * row_bytes[t / 3]));
        if (t / 3 < 4) {
            assert_ok(vector_file_section(w, "vector notes", junk + 7, (size_t)n * 16));
        }
        assert_ok(vector_file_finish(&w));
        assert_ok(vector_file_open(&file, &base_alloc_default, path, "test", 1));
        assert_ok(vector_vectors_open(&v, &config, file, n, NULL, 0));
        vector_vectors_view(v, &view);
        for (int32_t i = 0; i < n; i++) {
            rows[i] = (int32_t)test_rand(&seed) >> (i % 2 ? 0 : 26);
            vector_view_get(&view, rows[i], x);
        }
        for (int32_t i = 0; i < d; i++) {
            x[i] = (float)i - 3.5f;
        }
        vector_query_set(&query, memory, &view, x);
        vector_view_score(&view, &query, rows, n, scores);
        assert_true(scores[1] == -INFINITY);
        for (int32_t i = 0; i < 9; i++) {
            queries[i] = (struct vector_flat_query){.query = x, .k = 7, .found = &found[i * 7]};
        }
        assert_ok(vector_flat_search(&view, &flat, queries, 1));
        assert_ok(vector_flat_search(&view, &flat, queries, 9));
        for (int32_t i = 0; i < queries[8].n_found; i++) {
            assert_in_range(queries[8].found[i].row, 0, n - 1);
        }
        vector_vectors_destroy(&v);
        vector_file_close(&file);
        free(memory);
    }
    remove_path(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_stored_comes_back_as_precisely_as_its_type),
        cmocka_unit_test(a_vector_is_most_like_itself_by_cosine),
        cmocka_unit_test(no_cosine_is_beyond_one),
        cmocka_unit_test(what_cannot_be_stored_is_refused_by_name),
        cmocka_unit_test(bounds_of_what_bytes_lose_hold),
        cmocka_unit_test(rows_of_others_are_taken_as_they_are),
        cmocka_unit_test(rows_beyond_the_limit_are_refused),
        cmocka_unit_test(failing_allocations_leave_what_was_there),
        cmocka_unit_test(a_file_holds_the_same_rows),
        cmocka_unit_test(damaged_sections_do_no_harm),
    };

    kern_init_cpu(&kernels, ~0u);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
