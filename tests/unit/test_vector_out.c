/* Vectors that the infer command writes: what is read of the files is what was written, what does
 * not fit is refused, and a file is whole or as it was before. */
#include "support/test.h"

#include "vector_out.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIMS 5
#define ROWS 3

static char folder[256], path[300];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/infer-rows-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* nothing is left in it */
}

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const float values[ROWS][DIMS] = {{0, 1, 2, 255, 17}, {3, 0, 0, 1, 200}, {9, 8, 7, 6, 5}};
static const float any[ROWS][DIMS] = {{0.1f, -1e-30f, 3.4e38f, -0.0f, 1.0f / 3},
                                      {1e-45f, 2, -2, 16777217.0f, 0.5f},
                                      {-7.25f, 1e10f, 3, 4, 5}};

static void write_rows(const char *name, const char *format, const float rows[ROWS][DIMS])
{
    static const char metadata[] = "{\"a\": [1,\n 2],\r\n\"b\": \"x\"}";
    static const char *const ids[] = {"one", "t\"wo\\", "\xc3\xa4"}, *const spaces[] = {"", "n\ts",
                                                                                        ""};
    struct vector_out out;
    assert_int_equal(vector_out_open(&out, in_folder(name), format), 0);
    for (int i = 0; i < ROWS; i++) {
        const struct vector_row row = {.id = ids[i],
                                       .ns = spaces[i],
                                       .vector = rows[i],
                                       .dims = DIMS,
                                       .metadata = i == 1 ? metadata : NULL,
                                       .metadata_size = sizeof metadata - 1};
        assert_int_equal(vector_out_row(&out, &row), 0);
        assert_int_not_equal(access(path, F_OK), 0); /* not before it is whole */
    }
    assert_int_equal(out.n_rows, ROWS);
    assert_int_equal(vector_out_close(&out, 1), 0);
}

/* And takes the file away. */
static void check_rows(const char *name, const char *format, const float rows[ROWS][DIMS],
                       int with_names)
{
    struct vector_in in;
    struct vector_row row;
    assert_int_equal(vector_in_open(&in, in_folder(name), format), 0);
    for (int i = 0; i < ROWS; i++) {
        if (vector_in_next(&in, &row) != 1)
            fail_msg("%s", in.error);
        assert_int_equal(row.dims, DIMS);
        assert_memory_equal(row.vector, rows[i], sizeof rows[i]);
        if (!with_names)
            continue;
        assert_string_equal(row.id, i == 0 ? "one" : i == 1 ? "t\"wo\\" : "\xc3\xa4");
        assert_string_equal(row.ns, i == 1 ? "n\ts" : "");
        assert_int_equal(row.metadata != NULL, i == 1);
        if (i == 1) /* a line is one line: its ends became spaces */
            assert_memory_equal(row.metadata, "{\"a\": [1,  2],  \"b\": \"x\"}", row.metadata_size);
    }
    assert_int_equal(vector_in_next(&in, &row), 0);
    vector_in_close(&in);
    assert_int_equal(unlink(path), 0);
}

static void test_round_trips(void **state)
{
    static const struct {
        const char *name, *format;
        int is_whole, has_names;
    } files[] = {{"a.fvecs", NULL, 0, 0},    {"a.bvecs", NULL, 1, 0}, {"a.ivecs", NULL, 1, 0},
                 {"a.npy", NULL, 0, 0},      {"a.jsonl", NULL, 0, 1}, {"a.txt", "fvecs", 0, 0},
                 {"a.fvecs", "ndjson", 0, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const float(*rows)[DIMS] = files[i].is_whole ? values : any;
        write_rows(files[i].name, files[i].format, rows);
        check_rows(files[i].name, files[i].format, rows, files[i].has_names);
    }
}

static void refuse(const char *name, const struct vector_row *row, const char *sentence)
{
    struct vector_out out;
    const struct vector_row good = {.id = "first", .ns = "", .vector = values[0], .dims = DIMS};
    assert_int_equal(vector_out_open(&out, in_folder(name), NULL), 0);
    assert_int_equal(vector_out_row(&out, &good), 0);
    assert_int_equal(vector_out_row(&out, row), -1);
    if (!strstr(out.error, sentence) || !strstr(out.error, "\"bad\""))
        fail_msg("\"%s\" does not say \"%s\"", out.error, sentence);
    assert_int_equal(out.n_rows, 1);
    assert_int_equal(vector_out_close(&out, 0), 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void test_what_does_not_fit(void **state)
{
    static const float half[DIMS] = {1, 0.5f}, large[DIMS] = {256}, below[DIMS] = {-1},
                       huge[DIMS] = {16777218}, none[DIMS] = {0, 0, 0, NAN};
    struct vector_out out;
    (void)state;
#define BAD(v, n) (&(struct vector_row){.id = "bad", .ns = "", .vector = (v), .dims = (n)})
    refuse("b.bvecs", BAD(half, DIMS), "element 1");
    refuse("b.bvecs", BAD(large, DIMS), "from 0 to 255");
    refuse("b.bvecs", BAD(below, DIMS), "element 0");
    refuse("b.ivecs", BAD(huge, DIMS), "from -16777216 to 16777216");
    refuse("b.ivecs", BAD(none, DIMS), "element 3");
    refuse("b.jsonl", BAD(values[0], DIMS - 1), "has 4 elements, those before have 5");
    refuse("b.npy", BAD(values[0], 0), "has 0 elements");
    refuse("b.fvecs", BAD(values[0], VECTOR_DIMS_MAX + 1), "elements");
#undef BAD
    assert_int_equal(vector_out_open(&out, in_folder("b.csv"), NULL), -1);
    assert_non_null(strstr(out.error, ".npy or .jsonl"));
    assert_int_equal(vector_out_close(&out, 0), 0);
    assert_int_equal(vector_out_open(&out, "-", "npy"), -1);
    assert_non_null(strstr(out.error, "stdout"));
    assert_int_equal(vector_out_close(&out, 0), 0);
    assert_int_equal(vector_out_open(&out, in_folder("none/b.npy"), NULL), -1);
    assert_non_null(strstr(out.error, "cannot create"));
    assert_int_equal(vector_out_close(&out, 0), 0);
}

/* What was there stays until the new file is whole. */
static void test_what_was_there(void **state)
{
    struct vector_out out;
    const struct vector_row row = {.id = "a", .ns = "", .vector = values[2], .dims = DIMS};
    struct rlimit limit, full;
    (void)state;
    write_rows("c.fvecs", NULL, any);
    assert_int_equal(vector_out_open(&out, in_folder("c.fvecs"), NULL), 0);
    assert_int_equal(vector_out_row(&out, &row), 0);
    assert_int_equal(vector_out_close(&out, 0), 0); /* given up */
    check_rows("c.fvecs", NULL, any, 0);

    write_rows("c.npy", NULL, any);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    full = limit;
    full.rlim_cur = 130; /* the head and no row fit: as a disk that is full */
    assert_int_equal(vector_out_open(&out, in_folder("c.npy"), NULL), 0);
    assert_int_equal(vector_out_row(&out, &row), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    const int status = vector_out_close(&out, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, -1);
    assert_non_null(strstr(out.error, "cannot write"));
    check_rows("c.npy", NULL, any, 0);

    assert_int_equal(mkdir(in_folder("c.jsonl"), 0700), 0); /* a folder has its name */
    assert_int_equal(vector_out_open(&out, path, NULL), 0);
    assert_int_equal(vector_out_row(&out, &row), 0);
    assert_int_equal(vector_out_close(&out, 1), -1);
    assert_non_null(strstr(out.error, "cannot put it in its place"));
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_what_was_there),
    };
    return cmocka_run_group_tests_name("vector_out", tests, make_folder, remove_folder);
}
