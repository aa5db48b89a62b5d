/* Spaces in files: the same answers as before, damage that does no harm, memory that runs out, and
 * merging. */
#include "../support/test_alloc.h"
#include "disk.h"
#include "space_sample.h"

enum { DIMS = 24, ROWS = 1400, QUERIES = 30 };

static struct infer_kernels kernels;

static struct vector_space *grow(const struct base_alloc *a, int32_t n, int32_t metric,
                                 int32_t type, uint64_t seed)
{
    const struct vector_space_config config = sample_config(a, &kernels, DIMS, metric, type);
    float *rows = malloc((size_t)n * DIMS * sizeof(float));
    struct vector_space *space;
    int32_t first;

    sample_fill(rows, n, DIMS, 25, seed);
    assert_ok(vector_space_create(&space, &config));
    assert_ok(vector_space_add(space, rows, n, &first, NULL));
    free(rows);
    return space;
}

static void write_to(const struct vector_space *space, const char *path)
{
    struct vector_file_writer *writer;

    assert_ok(vector_file_create(&writer, &base_alloc_default, path, "segment"));
    assert_ok(vector_space_write(space, writer));
    assert_ok(vector_file_finish(&writer));
}

static void search_all(const struct vector_space *space, const float *queries, int32_t n_rows,
                       struct vector_found *found, int32_t *n_found)
{
    struct vector_scratch *scratch;

    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (int32_t i = 0; i < QUERIES; i++) {
        const struct vector_search search = {.query = queries + (size_t)i * DIMS,
                                             .k = 10,
                                             .ef = i % 2 ? 40 : 0,
                                             .recall = 0.95f,
                                             .n_rows = n_rows};
        struct vector_how how;

        assert_ok(vector_space_search(space, scratch, &search, found + i * 10, &n_found[i], &how));
    }
    vector_scratch_destroy(&scratch);
}

static void a_file_answers_as_the_space_that_was_written(void **state)
{
    static const int32_t types[] = {INFER_INDEX_F16, INFER_INDEX_I8, INFER_INDEX_BINARY};
    static const int32_t sizes[] = {ROWS, 30};
    float queries[QUERIES * DIMS];
    (void)state;

    sample_fill(queries, QUERIES, DIMS, 25, 2);
    for (size_t t = 0; t < BASE_COUNT(types) * BASE_COUNT(sizes); t++) {
        const int32_t type = types[t / 2], n = sizes[t % 2];
        const struct vector_space_config config =
            sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_DOT, type);
        struct vector_space *space = grow(&base_alloc_default, n, INFER_METRIC_DOT, type, 1);
        struct vector_space *opened;
        struct vector_found found[2][QUERIES * 10];
        struct vector_file *file;
        int32_t n_found[2][QUERIES], first;
        float x[DIMS] = {1}, y[DIMS];

        memset(found, 0, sizeof(found));
        assert_ok(vector_space_tune(space, NULL));
        write_to(space, disk_path("space"));
        assert_ok(vector_file_open(&file, &base_alloc_default, disk_path("space"), "segment", 1));
        assert_ok(vector_space_open(&opened, &config, file));
        assert_int_equal(vector_space_size(opened), n);
        assert_int_equal(vector_space_add(opened, x, 1, &first, NULL), INFER_ERR_UNSUPPORTED);
        search_all(space, queries, n, found[0], n_found[0]);
        search_all(opened, queries, n, found[1], n_found[1]);
        assert_memory_equal(n_found[0], n_found[1], sizeof(n_found[0]));
        assert_memory_equal(found[0], found[1], sizeof(found[0]));
        vector_space_get(space, n - 1, x);
        vector_space_get(opened, n - 1, y);
        assert_memory_equal(x, y, sizeof(x));
        vector_space_destroy(&opened);
        vector_file_close(&file);
        vector_space_destroy(&space);
    }
    remove(disk_path("space"));
}

static void a_file_of_another_shape_is_refused(void **state)
{
    struct vector_space *space = grow(&base_alloc_default, 50, INFER_METRIC_L2, INFER_INDEX_F16, 1);
    struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_F16);
    struct vector_space *opened = NULL;
    struct vector_file *file;
    (void)state;

    write_to(space, disk_path("space"));
    assert_ok(vector_file_open(&file, &base_alloc_default, disk_path("space"), "segment", 1));
    config.shape.dims--;
    assert_int_equal(vector_space_open(&opened, &config, file), INFER_ERR_FORMAT);
    config.shape.dims++;
    config.shape.metric = INFER_METRIC_DOT;
    assert_int_equal(vector_space_open(&opened, &config, file), INFER_ERR_FORMAT);
    assert_null(opened);
    vector_file_close(&file);
    vector_space_destroy(&space);
    remove(disk_path("space"));
}

#define FORMAT_AT 28 /* in the section space.head */

/* Of a space of few rows, which has no graph. */
static void another_format_is_refused_by_its_number(void **state)
{
    static const char *const names[] = {"space.head", "vectors", "vector notes"};
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_F16);
    struct vector_space *space = grow(&base_alloc_default, 50, INFER_METRIC_L2, INFER_INDEX_F16, 1);
    (void)state;

    write_to(space, disk_path("space"));
    vector_space_destroy(&space);
    for (int32_t format = 0; format < 3; format++) {
        struct vector_file_writer *writer;
        struct vector_file *file;

        assert_ok(vector_file_open(&file, &base_alloc_default, disk_path("space"), "segment", 1));
        assert_ok(vector_file_create(&writer, &base_alloc_default, disk_path("other"), "segment"));
        for (size_t i = 0; i < BASE_COUNT(names); i++) {
            const uint8_t *data;
            size_t size;
            uint8_t *copy;

            assert_ok(vector_file_find(file, names[i], &data, &size));
            copy = malloc(size);
            memcpy(copy, data, size);
            if (i == 0) {
                memcpy(copy + FORMAT_AT, &format, sizeof(format));
            }
            assert_ok(vector_file_section(writer, names[i], copy, size));
            free(copy);
        }
        assert_ok(vector_file_finish(&writer));
        vector_file_close(&file);
        assert_ok(vector_file_open(&file, &base_alloc_default, disk_path("other"), "segment", 1));
        if (format == 1) {
            assert_ok(vector_space_open(&space, &config, file));
            vector_space_destroy(&space);
        } else {
            assert_int_equal(vector_space_open(&space, &config, file), INFER_ERR_FORMAT);
            assert_non_null(strstr(base_error_text(), format ? "format 2" : "format 0"));
        }
        vector_file_close(&file);
    }
    remove(disk_path("other"));
    remove(disk_path("space"));
}

/* ------------------------------------------------------------------ damage */

static const char *const others[] = {"vectors"};
static const char *const sections[] = {"space.head",     "graph.head",   "graph.hubs",
                                       "graph.links",    "graph.centre", "graph.codes",
                                       "graph.hub_codes"};

/* The file again, with words of one section changed, or with a section cut short: what a checksum
 * does not see, since it is made anew. */
static void write_damaged(const struct vector_file *file, size_t which, uint64_t *state)
{
    struct vector_file_writer *writer;
    const uint8_t *data;
    size_t size;

    assert_ok(vector_file_create(&writer, &base_alloc_default, disk_path("damaged"), "segment"));
    for (size_t i = 0; i < BASE_COUNT(sections); i++) {
        uint8_t *copy;

        assert_ok(vector_file_find(file, sections[i], &data, &size));
        copy = malloc(size + 1);
        memcpy(copy, data, size);
        if (i == which) {
            const uint32_t n = 1 + test_rand(state) % (size < 200 ? 2 : 400);

            for (uint32_t j = 0; j < n; j++) {
                static const uint32_t values[] = {0,          1,          0x7fffffff, 0x80000000,
                                                  0xfffffffe, 0xffffffff, 0x7f800000, 0x7fc00000};
                const uint32_t random = test_rand(state);
                const uint32_t value = random % 9 < 8 ? values[random % 9] : test_rand(state);

                memcpy(copy + test_rand(state) % (size / 4) * 4, &value, 4);
            }
            if (test_rand(state) % 8 == 0) {
                size -= 1 + test_rand(state) % (size < 100 ? size : 100);
            }
        }
        assert_ok(vector_file_section(writer, sections[i], copy, size));
        free(copy);
    }
    for (size_t i = 0; i < BASE_COUNT(others); i++) {
        assert_ok(vector_file_find(file, others[i], &data, &size));
        assert_ok(vector_file_section(writer, others[i], data, size));
    }
    assert_ok(vector_file_finish(&writer));
}

static void damage_gives_errors_or_wrong_answers_and_no_harm(void **state)
{
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_F16);
    struct vector_space *space =
        grow(&base_alloc_default, ROWS, INFER_METRIC_L2, INFER_INDEX_F16, 1);
    float queries[QUERIES * DIMS];
    struct vector_file *file;
    uint64_t seed = 4;
    int32_t n_refused = 0, n_opened = 0;
    (void)state;

    sample_fill(queries, QUERIES, DIMS, 25, 2);
    write_to(space, disk_path("space"));
    vector_space_destroy(&space);
    assert_ok(vector_file_open(&file, &base_alloc_default, disk_path("space"), "segment", 1));
    for (size_t i = 0; i < 12 * BASE_COUNT(sections); i++) {
        struct vector_found found[QUERIES * 10];
        struct vector_file *damaged;
        int32_t n_found[QUERIES];
        infer_status status;

        write_damaged(file, i % BASE_COUNT(sections), &seed);
        assert_ok(
            vector_file_open(&damaged, &base_alloc_default, disk_path("damaged"), "segment", 0));
        status = vector_space_open(&space, &config, damaged);
        if (status) {
            assert_int_equal(status, INFER_ERR_FORMAT);
            assert_true(strlen(base_error_text()) > 0);
            n_refused++;
        } else {
            search_all(space, queries, ROWS, found, n_found);
            for (int32_t q = 0; q < QUERIES; q++) {
                for (int32_t j = 0; j < n_found[q]; j++) {
                    assert_in_range(found[q * 10 + j].row, 0, ROWS - 1);
                }
            }
            vector_space_destroy(&space);
            n_opened++;
        }
        vector_file_close(&damaged);
        remove(disk_path("damaged"));
    }
    assert_true(n_refused > 5 && n_opened > 20);
    vector_file_close(&file);
    remove(disk_path("space"));
}

/* ------------------------------------------------------------------ memory */

/* Everything once; INFER_OK or INFER_ERR_NO_MEMORY, and nothing is left behind. What was refused
 * has left the space as it was. */
static infer_status do_everything(const struct base_alloc *a, const float *rows)
{
    struct vector_space_config config =
        sample_config(a, &kernels, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F16);
    struct vector_space *space = NULL, *merged = NULL;
    struct vector_scratch *scratch = NULL;
    struct vector_source sources[1];
    struct vector_found found[10];
    struct vector_how how;
    const struct vector_search search = {.query = rows, .k = 10, .ef = 30, .n_rows = 1100};
    int32_t first, n_found;
    infer_status status;

    config.effort = 8;
    config.degree = 4;
    status = vector_space_create(&space, &config);
    for (int32_t at = 0; at < 1100 && !status; at += 1000) {
        const int32_t n = at ? 100 : 1000;

        status = vector_space_add(space, rows + (size_t)at * DIMS, n, &first, NULL);
        assert_int_equal(vector_space_size(space), status ? at : at + n);
    }
    if (!status) {
        status = vector_scratch_create(&scratch, a);
    }
    if (!status) {
        status = vector_space_search(space, scratch, &search, found, &n_found, &how);
    }
    if (!status) {
        sources[0] = (struct vector_source){space, NULL, 1100};
        status = vector_space_merge(&merged, &config, sources, 1, NULL, NULL, NULL);
    }
    vector_scratch_destroy(&scratch);
    vector_space_destroy(&merged);
    vector_space_destroy(&space);
    return status;
}

static void any_allocation_may_fail(void **state)
{
    float *rows = malloc((size_t)1100 * DIMS * sizeof(float));
    struct test_alloc t;
    size_t n_calls;
    (void)state;

    sample_fill(rows, 1100, DIMS, 25, 1);
    test_alloc_init(&t);
    assert_ok(do_everything(&t.alloc, rows));
    assert_int_equal(t.live_blocks, 0);
    n_calls = t.n_calls;
    assert_true(n_calls > 30);
    for (size_t i = 1; i <= n_calls; i++) {
        test_alloc_init(&t);
        t.fail_at = i;
        assert_int_equal(do_everything(&t.alloc, rows), INFER_ERR_NO_MEMORY);
        assert_int_equal(t.live_blocks, 0);
    }
    free(rows);
}

/* ----------------------------------------------------------------- merging */

static int32_t kill_some(uint64_t *dead, int32_t n, uint32_t percent, uint64_t seed)
{
    int32_t n_dead = 0;

    memset(dead, 0, (size_t)(n + 63) / 64 * 8);
    for (int32_t i = 0; i < n; i++) {
        if (test_rand(&seed) % 100 < percent) {
            dead[i / 64] |= UINT64_C(1) << i % 64;
            n_dead++;
        }
    }
    return n_dead;
}

static void merging_keeps_order_and_recall(void **state)
{
    static const int32_t types[] = {INFER_INDEX_F16, INFER_INDEX_BINARY};
    static const uint32_t percents[] = {0, 8, 40};
    enum { LARGE = 3000 };
    float queries[QUERIES * DIMS];
    (void)state;

    sample_fill(queries, QUERIES, DIMS, 25, 2);
    for (size_t i = 0; i < BASE_COUNT(types) * BASE_COUNT(percents); i++) {
        const int32_t type = types[i / 3];
        const struct vector_space_config config =
            sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, type);
        uint64_t dead[(LARGE + 63) / 64];
        struct vector_space *merged, *anew;
        struct vector_source sources[3] = {
            {grow(&base_alloc_default, 300, INFER_METRIC_L2, type, 11), NULL, 300},
            {grow(&base_alloc_default, LARGE, INFER_METRIC_L2, type, 12), dead, LARGE},
            {grow(&base_alloc_default, 700, INFER_METRIC_L2, type, 13), NULL, 650},
        };
        const int32_t n = 950 + LARGE - kill_some(dead, LARGE, percents[i % 3], 6);
        const struct vector_search search = {.k = 10, .ef = 24, .n_rows = n};
        float *rows = malloc((size_t)n * DIMS * sizeof(float)), x[DIMS];
        int32_t row = 0, first;
        double kept, built;

        assert_ok(vector_space_merge(&merged, &config, sources, 3, NULL, NULL, NULL));
        assert_int_equal(vector_space_size(merged), n);
        for (int32_t s = 0; s < 3; s++) {
            for (int32_t r = 0; r < sources[s].n_rows; r++) {
                if (!sources[s].dead || !(sources[s].dead[r / 64] >> r % 64 & 1)) {
                    vector_space_get(sources[s].space, r, x);
                    vector_space_get(merged, row, rows + (size_t)row * DIMS);
                    assert_memory_equal(x, rows + (size_t)row * DIMS, sizeof(x));
                    row++;
                }
            }
        }
        assert_ok(vector_space_create(&anew, &config));
        assert_ok(vector_space_add(anew, rows, n, &first, NULL));
        kept = sample_recall(merged, queries, QUERIES, DIMS, &search, 0);
        built = sample_recall(anew, queries, QUERIES, DIMS, &search, 0);
        if (kept < built - 0.02 || kept < 0.9) {
            fail_msg("type %d, %u %% dead: recall %.3f, %.3f built anew", (int)type,
                     percents[i % 3], kept, built);
        }
        vector_space_destroy(&anew);
        vector_space_destroy(&merged);
        for (int32_t s = 0; s < 3; s++) {
            struct vector_space *source = (struct vector_space *)(uintptr_t)sources[s].space;

            vector_space_destroy(&source);
        }
        free(rows);
    }
}

static int32_t cancel(double fraction, const char *stage, void *user)
{
    int32_t *calls = user;

    assert_true(fraction >= 0.0 && fraction <= 1.0 && stage[0]);
    return --*calls == 0;
}

static void merging_tells_its_progress_and_can_be_cancelled(void **state)
{
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_I8);
    struct vector_space *space =
        grow(&base_alloc_default, ROWS, INFER_METRIC_L2, INFER_INDEX_I8, 1);
    const struct vector_source source = {space, NULL, ROWS};
    struct vector_space *merged = NULL;
    (void)state;

    for (int32_t at = 1; at <= 3; at++) {
        int32_t calls = at;

        assert_int_equal(vector_space_merge(&merged, &config, &source, 1, NULL, cancel, &calls),
                         INFER_ERR_CANCELLED);
        assert_null(merged);
    }
    {
        int32_t calls = 1000;

        assert_ok(vector_space_merge(&merged, &config, &source, 1, NULL, cancel, &calls));
        assert_int_equal(vector_space_size(merged), ROWS);
    }
    vector_space_destroy(&merged);
    vector_space_destroy(&space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_answers_as_the_space_that_was_written),
        cmocka_unit_test(a_file_of_another_shape_is_refused),
        cmocka_unit_test(another_format_is_refused_by_its_number),
        cmocka_unit_test(damage_gives_errors_or_wrong_answers_and_no_harm),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(merging_keeps_order_and_recall),
        cmocka_unit_test(merging_tells_its_progress_and_can_be_cancelled),
    };
    kern_init_cpu(&kernels, ~0u);
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
