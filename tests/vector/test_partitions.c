/* Partitions: what they find for all metrics, under filters that go along with the query and
 * against it and beside deleted rows; files of them, whole
 * and damaged; memory that runs out; and how a graph comes and goes. */
#include "../support/test_alloc.h"
#include "disk.h"
#include "space_sample.h"
#include "vector/parts.h"

enum { DIMS = 64, ROWS = 6000, QUERIES = 30, CENTRES = 60 };

static struct infer_kernels kernels;
static float queries[QUERIES * DIMS];

static struct vector_space *grow(const struct base_alloc *a, int32_t n, int32_t metric,
                                 int32_t type, struct base_pool *pool)
{
    struct vector_space_config config = sample_config(a, &kernels, DIMS, metric, type);
    float *rows = malloc((size_t)n * DIMS * sizeof(float));
    struct vector_space *space;
    int32_t first;

    config.no_graph = 1;
    sample_fill(rows, n, DIMS, CENTRES, 1);
    assert_ok(vector_space_create(&space, &config));
    assert_ok(vector_space_add(space, rows, n, &first, NULL));
    free(rows);
    assert_ok(vector_space_tune(space, pool));
    return space;
}

/* Made once, and only read. */
static struct vector_space *spaces[3];
static const int32_t kinds[][2] = {{INFER_METRIC_COSINE, INFER_INDEX_F16},
                                   {INFER_METRIC_DOT, INFER_INDEX_I8},
                                   {INFER_METRIC_L2, INFER_INDEX_F16}};

static int make_spaces(void **state)
{
    for (size_t i = 0; i < BASE_COUNT(spaces); i++) {
        spaces[i] = grow(&base_alloc_default, ROWS, kinds[i][0], kinds[i][1], NULL);
    }
    return disk_make_folder(state);
}

static int drop_spaces(void **state)
{
    for (size_t i = 0; i < BASE_COUNT(spaces); i++) {
        vector_space_destroy(&spaces[i]);
    }
    return disk_remove_folder(state);
}

/* ------------------------------------------------------------------ recall */

static void all_metrics_reach_what_is_asked_for(void **state)
{
    static const float recalls[] = {0.9f, 0.99f};
    (void)state;

    for (size_t i = 0; i < BASE_COUNT(kinds); i++) {
        struct vector_space *space = spaces[i];
        struct vector_search search = {.k = 10, .n_rows = ROWS};

        for (size_t j = 0; j < BASE_COUNT(recalls); j++) {
            double recall;

            search.recall = recalls[j];
            recall = sample_recall(space, queries, QUERIES, DIMS, &search, INFER_SEARCH_PARTITIONS);
            if (recall < (double)recalls[j] - 0.02) {
                fail_msg("metric %d: recall %.3f, not %g", (int)kinds[i][0], recall,
                         (double)recalls[j]);
            }
        }
        search.recall = 0.0f;
        search.ef = 40;
        assert_true(sample_recall(space, queries, QUERIES, DIMS, &search, INFER_SEARCH_PARTITIONS) >
                    0.9);
    }
}

/* Far fewer rows than there are are compared, more with a longer reach, and all with the longest.
 */
static void more_is_read_with_a_longer_reach(void **state)
{
    struct vector_space *space = spaces[0];
    static const float reaches[] = {-0.6f, 0.1f, INFINITY};
    struct vector_scratch *scratch;
    int64_t n_compared[3] = {0};
    (void)state;

    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (size_t j = 0; j < BASE_COUNT(reaches); j++) {
        for (int32_t i = 0; i < QUERIES; i++) {
            const struct vector_search search = {
                .query = queries + (size_t)i * DIMS, .k = 10, .reach = &reaches[j], .n_rows = ROWS};
            struct vector_found found[10];
            struct vector_how how;
            int32_t n_found;

            assert_ok(vector_space_search(space, scratch, &search, found, &n_found, &how));
            n_compared[j] += how.n_compared;
        }
    }
    assert_true(n_compared[0] < n_compared[1] && n_compared[1] < n_compared[2]);
    assert_true(n_compared[0] < QUERIES * ROWS / 3 && n_compared[2] > QUERIES * ROWS);
    vector_scratch_destroy(&scratch);
}

/* Half of the rows for each query: the nearest ones, the farthest, or any. */
static void filters_along_and_against_the_query_keep_the_recall(void **state)
{
    static uint64_t bits[(ROWS + 63) / 64];
    struct vector_space *space = spaces[2];
    struct vector_found *all = malloc(ROWS * sizeof(*all));
    struct vector_scratch *scratch;
    double sums[4] = {0.0};
    const float all_of_them = INFINITY;
    int32_t n_partitions = 0;
    (void)state;

    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (int32_t q = 0; q < QUERIES; q++) {
        const float *query = queries + (size_t)q * DIMS;

        for (int32_t kind = 0; kind < 3; kind++) {
            struct vector_search search = {
                .query = query, .k = ROWS, .recall = 1.0f, .n_rows = ROWS};
            struct vector_found found[10];
            struct vector_how how;
            int32_t n_found;

            assert_ok(vector_space_search(space, scratch, &search, all, &n_found, &how));
            memset(bits, 0, sizeof(bits));
            for (int32_t i = 0; i < ROWS / 2; i++) {
                const int32_t at = kind == 0 ? i : kind == 1 ? ROWS - 1 - i : i * 2;

                bits[all[at].row / 64] |= UINT64_C(1) << all[at].row % 64;
            }
            search = (struct vector_search){.query = query,
                                            .k = 10,
                                            .recall = 0.96f,
                                            .n_rows = ROWS,
                                            .allowed = {bits, ROWS, ROWS / 2}};
            sums[kind] += sample_recall(space, query, 1, DIMS, &search, 0);
            assert_ok(vector_space_search(space, scratch, &search, found, &n_found, &how));
            assert_int_equal(n_found, 10);
            n_partitions += how.path == INFER_SEARCH_PARTITIONS;
            if (kind == 1) { /* codes alone cannot tell rows apart that are far off */
                search.reach = &all_of_them;
                sums[3] += sample_recall(space, query, 1, DIMS, &search, INFER_SEARCH_PARTITIONS);
            }
        }
    }
    for (int32_t kind = 0; kind < 4; kind++) {
        if (sums[kind] / QUERIES < 0.95) {
            fail_msg("filter %d: recall %.3f", (int)kind, sums[kind] / QUERIES);
        }
    }
    if (n_partitions <= QUERIES) {
        fail_msg("%d of %d filtered searches read partitions", (int)n_partitions, 3 * QUERIES);
    }
    vector_scratch_destroy(&scratch);
    free(all);
}

/* What the reach was measured with says nothing of these. */
static void queries_far_from_all_rows_are_answered_as_well(void **state)
{
    const struct vector_search search = {.k = 10, .recall = 0.95f, .n_rows = ROWS};
    float far[10 * DIMS];
    uint64_t seed = 8;
    (void)state;

    for (int32_t i = 0; i < 10 * DIMS; i++) {
        far[i] = 9.0f * test_randf(&seed);
    }
    assert_true(sample_recall(spaces[2], far, 10, DIMS, &search, INFER_SEARCH_FLAT) >= 0.95);
}

static void dead_rows_are_never_found_and_the_others_are(void **state)
{
    static _Atomic uint64_t dead[(ROWS + 63) / 64];
    struct vector_space *space = spaces[0];
    const struct vector_search search = {.k = 10, .recall = 0.95f, .dead = dead, .n_rows = ROWS};
    uint64_t seed = 3;
    (void)state;

    for (int32_t i = 0; i < ROWS; i++) {
        dead[i / 64] |= (uint64_t)(test_rand(&seed) % 3 == 0) << i % 64;
    }
    assert_true(sample_recall(space, queries, QUERIES, DIMS, &search, INFER_SEARCH_PARTITIONS) >=
                0.94);
    for (size_t i = 0; i < BASE_COUNT(dead); i++) {
        dead[i] = UINT64_MAX;
    }
    sample_recall(space, queries, 3, DIMS, &search, 0); /* all of them are read to be sure */
}

/* ----------------------------------------------------------------- building */

static struct vector_partitions *build(const struct vector_space *space)
{
    const struct vector_graph *graph = space->graph;
    struct vector_partitions *p;
    struct vector_view view;

    vector_vectors_view(space->vectors, &view);
    assert_ok(vector_partitions_build(&p, &base_alloc_default, &view, graph->coder, 1, NULL));
    return p;
}

/* All rows alike: the other partitions are left out. */
static void copies_of_one_vector_are_one_partition(void **state)
{
    struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_COSINE, INFER_INDEX_F16);
    const struct vector_search search = {.k = 10, .recall = 0.9f, .n_rows = ROWS};
    float *rows = malloc((size_t)ROWS * DIMS * sizeof(float));
    struct vector_space *space;
    struct vector_partitions *p;
    int32_t first;
    (void)state;

    config.no_graph = 1;
    for (int32_t i = 0; i < ROWS * DIMS; i++) {
        rows[i] = queries[i % DIMS];
    }
    assert_ok(vector_space_create(&space, &config));
    assert_ok(vector_space_add(space, rows, ROWS, &first, NULL));
    p = build(space);
    assert_int_equal(p->n, 1);
    assert_true(p->radius[0] < 0.01f);
    atomic_store(&space->partitions, p);
    assert_true(sample_recall(space, queries, 2, DIMS, &search, 0) >= 1.0);
    vector_space_destroy(&space);
    free(rows);
}

static infer_status build_few(const struct base_alloc *a, const struct vector_space *space)
{
    const struct vector_graph *graph = space->graph;
    struct vector_partitions *p = NULL;
    struct vector_view view;
    infer_status status;

    vector_vectors_view(space->vectors, &view);
    status = vector_partitions_build(&p, a, &view, graph->coder, 1, NULL);
    assert_true((status == INFER_OK) == (p != NULL));
    vector_partitions_destroy(&p);
    return status;
}

static void any_allocation_of_building_may_fail(void **state)
{
    struct vector_space *space =
        grow(&base_alloc_default, 1100, INFER_METRIC_COSINE, INFER_INDEX_F16, NULL);
    struct test_alloc t;
    size_t n_calls;
    (void)state;

    test_alloc_init(&t);
    assert_ok(build_few(&t.alloc, space));
    n_calls = t.n_calls;
    assert_true(n_calls > 30);
    for (size_t i = 1; i <= n_calls; i++) {
        test_alloc_init(&t);
        t.fail_at = i;
        assert_int_equal(build_few(&t.alloc, space), INFER_ERR_NO_MEMORY);
        assert_int_equal(t.live_blocks, 0);
    }
    vector_space_destroy(&space);
}

/* Of sources without a graph a merge makes one, and of those with one none, as is asked for. */
static void merging_gives_a_graph_or_takes_it(void **state)
{
    struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_F16);
    struct vector_search search = {.k = 10, .recall = 0.9f, .n_rows = 1500};
    struct vector_partitions *partitions;
    struct vector_space *with, *without;
    const float reach = 0.0f;
    struct vector_source source = {spaces[2], NULL, 1500};
    (void)state;

    assert_int_equal(vector_space_lacks_graph(spaces[2]), 0); /* its owner wants none */
    assert_ok(vector_space_merge(&with, &config, &source, 1, NULL, NULL, NULL));
    search.ef = 60;
    assert_true(sample_recall(with, queries, QUERIES, DIMS, &search, INFER_SEARCH_GRAPH) > 0.9);
    partitions = build(with); /* both at once */
    atomic_store(&with->partitions, partitions);
    search.reach = &reach;
    search.ef = 0;
    assert_true(sample_recall(with, queries, QUERIES, DIMS, &search, INFER_SEARCH_PARTITIONS) >
                0.9);
    search.reach = NULL;
    source.space = with;
    config.no_graph = 1;
    assert_ok(vector_space_merge(&without, &config, &source, 1, NULL, NULL, NULL));
    assert_int_equal(((struct vector_graph *)without->graph)->degree, 0);
    sample_recall(without, queries, 2, DIMS, &search, INFER_SEARCH_FLAT);
    vector_space_destroy(&with);
    vector_space_destroy(&without);
}

/* -------------------------------------------------------------------- files */

static void write_to(const struct vector_space *space, const char *path)
{
    struct vector_file_writer *writer;

    assert_ok(vector_file_create(&writer, &base_alloc_default, path, "segment"));
    assert_ok(vector_space_write(space, writer));
    assert_ok(vector_file_finish(&writer));
}

/* Every other query under a filter that all rows pass, and none is dead. */
static void search_all(const struct vector_space *space, struct vector_found *found,
                       int32_t *n_found, int32_t n_rows)
{
    static _Atomic uint64_t dead[(ROWS + 63) / 64];
    static uint64_t all[(ROWS + 63) / 64];
    struct vector_scratch *scratch;

    memset(all, 0xff, sizeof(all));
    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (int32_t i = 0; i < QUERIES; i++) {
        struct vector_search search = {
            .query = queries + (size_t)i * DIMS, .k = 10, .recall = 0.95f, .n_rows = n_rows};
        struct vector_how how;

        if (i % 2) {
            search.dead = dead;
            search.allowed = (struct vector_rows){.bits = all, .n = ROWS, .n_set = ROWS};
        }

        assert_ok(vector_space_search(space, scratch, &search, found + i * 10, &n_found[i], &how));
        for (int32_t j = 0; j < n_found[i]; j++) {
            assert_in_range(found[i * 10 + j].row, 0, n_rows - 1);
        }
    }
    vector_scratch_destroy(&scratch);
}

static void a_file_answers_as_the_space_that_was_written(void **state)
{
    struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_DOT, INFER_INDEX_I8);
    struct vector_space *space = spaces[1];
    struct vector_space *opened;
    struct vector_found found[2][QUERIES * 10];
    struct vector_file *file;
    int32_t n_found[2][QUERIES];
    (void)state;

    memset(found, 0, sizeof(found));
    write_to(space, disk_path("space"));
    assert_ok(vector_file_open(&file, &base_alloc_default, disk_path("space"), "segment", 1));
    assert_ok(vector_space_open(&opened, &config, file));
    assert_int_equal(vector_space_lacks_graph(opened), 1);
    search_all(space, found[0], n_found[0], ROWS);
    search_all(opened, found[1], n_found[1], ROWS);
    assert_memory_equal(n_found[0], n_found[1], sizeof(n_found[0]));
    assert_memory_equal(found[0], found[1], sizeof(found[0]));
    vector_space_destroy(&opened);
    vector_file_close(&file);
    remove(disk_path("space"));
}

static const char *const sections[] = {
    "partitions.head",  "partitions.begin", "partitions.rows", "partitions.radius",
    "partitions.codes", "graph.head",       "space.head",      "graph.centre",
    "graph.codes",      "graph.hubs",       "graph.links",     "graph.hub_codes",
    "vectors"};

/* The file again, with words of one section changed or some of it missing, under new checksums. */
static void write_damaged(const struct vector_file *file, size_t which, uint64_t *state)
{
    static const uint32_t values[] = {0,          1,          0x7fffffff, 0x80000000,
                                      0xfffffffe, 0xffffffff, 0x7f800000, 0x7fc00000};
    struct vector_file_writer *writer;

    assert_ok(vector_file_create(&writer, &base_alloc_default, disk_path("damaged"), "segment"));
    for (size_t i = 0; i < BASE_COUNT(sections); i++) {
        const uint8_t *data;
        size_t size;
        uint8_t *copy;

        assert_ok(vector_file_find(file, sections[i], &data, &size));
        copy = malloc(size + 1);
        memcpy(copy, data, size);
        for (uint32_t j = 0; i == which && size && j < 1 + test_rand(state) % 3; j++) {
            const uint32_t random = test_rand(state);
            const uint32_t value = random % 12 < 8 ? values[random % 8] : random % ROWS;

            memcpy(copy + test_rand(state) % (size / 4) * 4, &value, 4);
        }
        if (i == which && size && test_rand(state) % 8 == 0) {
            size -= 1 + test_rand(state) % BASE_MIN(size, (size_t)100);
        }
        assert_ok(vector_file_section(writer, sections[i], copy, size));
        free(copy);
    }
    assert_ok(vector_file_finish(&writer));
}

static void damage_gives_errors_or_wrong_answers_and_no_harm(void **state)
{
    const struct vector_space_config config =
        sample_config(&base_alloc_default, &kernels, DIMS, INFER_METRIC_L2, INFER_INDEX_F16);
    struct vector_space *space;
    struct vector_file *file;
    uint64_t seed = 4;
    int32_t n_refused[5] = {0}, n_opened = 0;
    (void)state;

    write_to(spaces[2], disk_path("space"));
    assert_ok(vector_file_open(&file, &base_alloc_default, disk_path("space"), "segment", 1));
    for (size_t i = 0; i < 100; i++) {
        const size_t which = i % 5 < 4 ? i % 5 : 4 + i / 5 % 5;
        struct vector_found found[QUERIES * 10];
        struct vector_file *damaged;
        int32_t n_found[QUERIES];
        infer_status status;

        write_damaged(file, which, &seed);
        assert_ok(
            vector_file_open(&damaged, &base_alloc_default, disk_path("damaged"), "segment", 0));
        status = vector_space_open(&space, &config, damaged);
        if (status) {
            assert_int_equal(status, INFER_ERR_FORMAT);
            assert_true(strlen(base_error_text()) > 0);
            n_refused[BASE_MIN(which, (size_t)4)]++;
        } else {
            search_all(space, found, n_found, ROWS);
            vector_space_destroy(&space);
            n_opened++;
        }
        vector_file_close(&damaged);
        remove(disk_path("damaged"));
    }
    /* Parts that do not follow each other; of rows it is seen only that there are as many. */
    assert_true(n_refused[0] > 5 && n_refused[1] >= 19 && n_refused[2] > 0 && n_refused[3] > 5);
    assert_true(n_opened > 15);
    vector_file_close(&file);
    remove(disk_path("space"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_metrics_reach_what_is_asked_for),
        cmocka_unit_test(more_is_read_with_a_longer_reach),
        cmocka_unit_test(filters_along_and_against_the_query_keep_the_recall),
        cmocka_unit_test(queries_far_from_all_rows_are_answered_as_well),
        cmocka_unit_test(dead_rows_are_never_found_and_the_others_are),
        cmocka_unit_test(copies_of_one_vector_are_one_partition),
        cmocka_unit_test(any_allocation_of_building_may_fail),
        cmocka_unit_test(merging_gives_a_graph_or_takes_it),
        cmocka_unit_test(a_file_answers_as_the_space_that_was_written),
        cmocka_unit_test(damage_gives_errors_or_wrong_answers_and_no_harm),
    };
    kern_init_cpu(&kernels, ~0u);
    sample_fill(queries, QUERIES, DIMS, CENTRES, 2);
    return cmocka_run_group_tests(tests, make_spaces, drop_spaces);
}
