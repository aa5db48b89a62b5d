/* A folder that several use at once: readers beside a writer, writers that are killed. */
#include "folder_sample.h"

#include "vector/log.h"

#include <sys/prctl.h>
#include <sys/wait.h>

/* An index whose one segment changes all the time: the new one is named, the old one dropped. The
 * segment holds its number, the log that of the segment before. */
static void write_for_ever(void)
{
    struct vector_folder *f = NULL;
    const struct vector_manifest *m;
    char name[600];
    if (open_folder(&f, 0, 1, &m) != INFER_OK)
        _exit(1);
    for (;;) {
        struct vector_manifest next = *m;
        struct vector_file_writer *w = NULL;
        struct vector_log *log = NULL;
        const uint64_t number = m->next_file, old = number - 2;
        next.segments = &number;
        next.n_segments = 1;
        next.next_file = number + 2;
        next.first_log = number + 1;
        if (vector_folder_name(f, "segment", number, name, sizeof name) != INFER_OK ||
            vector_file_create(&w, &base_alloc_default, name, "segment") != INFER_OK ||
            vector_file_section(w, "number", &number, sizeof number) != INFER_OK ||
            vector_file_finish(&w) != INFER_OK ||
            vector_folder_name(f, "log", number + 1, name, sizeof name) != INFER_OK ||
            vector_log_open(&log, &base_alloc_default, name, 0, NULL, NULL) != INFER_OK ||
            vector_folder_commit(f, &next) != INFER_OK)
            _exit(1);
        vector_log_close(&log);
        vector_folder_drop(f, "segment", old);
        vector_folder_drop(f, "log", old + 1);
    }
}

/* What is there is one segment and its log, whole. */
static infer_status check_index(const struct vector_manifest *m, void *user)
{
    struct vector_folder *f = user;
    for (int32_t i = 0; i < m->n_segments; i++) {
        struct vector_file *file = NULL;
        const void *number;
        char name[600];
        uint64_t logs[16];
        int32_t n = 0;
        assert_ok(vector_folder_name(f, "segment", m->segments[i], name, sizeof name));
        infer_status st = vector_file_open(&file, &base_alloc_default, name, "segment", 1);
        if (st != INFER_OK)
            return st;
        assert_ok(vector_file_array(file, "number", &number, 1, sizeof(uint64_t)));
        assert_memory_equal(number, &m->segments[i], sizeof(uint64_t));
        vector_file_close(&file);
        assert_ok(vector_folder_logs(f, logs, &n, 16));
        if (!n) /* the writer was faster */
            return base_error(INFER_ERR_NOT_FOUND, "no log");
    }
    return INFER_OK;
}

static uint64_t wait_for(uint64_t generation)
{
    struct vector_folder *f;
    const struct vector_manifest *m;
    uint64_t now = 0;
    for (int i = 0; i < 2000 && now < generation; i++) {
        usleep(1000);
        assert_ok(open_folder(&f, 1, 1, &m));
        now = m->generation;
        vector_folder_close(&f);
    }
    return now;
}

/* Readers beside a writer who is killed in the end; the next one finds all that is named and
 * nothing else. */
static void test_readers_and_kills(void **state)
{
    (void)state;
    const char *rounds = getenv("INFER_TEST_KILLS");
    const int n_rounds = rounds ? atoi(rounds) : 15;
    struct vector_folder *f;
    const struct vector_manifest *m;
    uint64_t seed = 9;
    assert_ok(open_folder(&f, 0, 0, &m));
    vector_folder_close(&f);
    for (int round = 0; round < n_rounds; round++) {
        int status;
        assert_ok(open_folder(&f, 1, 1, &m));
        const uint64_t before = m->generation;
        fflush(NULL); /* ThreadSanitizer writes what is buffered even at _exit() */
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* if the test fails */
            write_for_ever();
        }
        assert_true(wait_for(before + 1) > before);
        for (int i = 0; i < 20; i++)
            assert_ok(vector_folder_load(f, check_index, f));
        struct vector_folder *other;
        assert_int_equal(open_folder(&other, 0, 1, &m), INFER_ERR_BUSY);
        usleep(test_rand(&seed) % 3000);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        vector_folder_close(&f);
        assert_ok(open_folder(&f, 0, 1, &m));
        assert_true(m->generation > before);
        assert_ok(vector_folder_load(f, check_index, f));
        /* segment, log, perhaps the log of the commit that was not made, manifest, lock */
        assert_in_range(disk_count(disk_path("index")), 4, 5);
        vector_folder_close(&f);
    }
    empty("index");
}

static infer_status find_nothing(const struct vector_manifest *m, void *user)
{
    (void)m;
    ++*(int *)user;
    return base_error(INFER_ERR_NOT_FOUND, "segment-00000009 is not there");
}

/* A file that is missing without a newer manifest is no reason to wait. */
static void test_missing_file(void **state)
{
    (void)state;
    struct vector_folder *f;
    const struct vector_manifest *m;
    int n = 0;
    assert_ok(open_folder(&f, 0, 0, &m));
    assert_int_equal(vector_folder_load(f, find_nothing, &n), INFER_ERR_FORMAT);
    vector_folder_close(&f);
    assert_ok(open_folder(&f, 1, 0, &m));
    assert_int_equal(vector_folder_load(f, find_nothing, &n), INFER_ERR_FORMAT);
    assert_says("segment-00000009");
    assert_int_equal(n, 2);
    vector_folder_close(&f);
    empty("index");
}

int main(void)
{
    fail_calls_slow(-1); /* the system keeps what is written when a process dies */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_and_kills),
        cmocka_unit_test(test_missing_file),
    };
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
