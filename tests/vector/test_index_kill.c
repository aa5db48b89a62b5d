/* A process that writes to an index is killed, again and again: what was acknowledged is there,
 * what was not is there wholly or not at all, and the index opens. INFER_INDEX_KILLS is how often.
 */
#include "index_support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS 40

static void step(struct model *m, struct infer_index *index)
{
    const int what = (int)(test_rand(&m->random) % 20);
    const int n = 1 + (int)(test_rand(&m->random) % 20);
    if (what < 13)
        model_upsert(m, index, n);
    else if (what < 18)
        model_delete(m, index, n);
    else if (what == 18)
        model_delete_kind(m, index);
    else if (index)
        assert_ok(vector_index_compact(index));
}

/* A byte goes into the pipe for each write that was acknowledged. */
static void write_until_killed(struct model m, const char *path, int out)
{
    struct infer_index *index = NULL;
    const struct vector_index_config config = model_config(&base_alloc_default, path);
    if (vector_index_open(&index, &config) != INFER_OK) {
        print_message("# %s\n", test_error_text());
        _exit(3);
    }
    for (;;) {
        step(&m, index);
        if (write(out, "+", 1) != 1)
            _exit(4);
    }
}

static int run_child(const struct model *m, const char *path, unsigned wait_us)
{
    int ends[2], status, n = 0;
    char bytes[256];
    ssize_t got;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        write_until_killed(*m, path, ends[1]);
    }
    close(ends[1]);
    usleep(wait_us);
    kill(child, SIGKILL);
    while ((got = read(ends[0], bytes, sizeof bytes)) > 0)
        n += (int)got;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    return n;
}

static void test_kills(void **state)
{
    const char *asked = getenv("INFER_INDEX_KILLS");
    const int kills = asked ? atoi(asked) : KILLS;
    char *path = index_folder();
    struct model m = {.random = 2026};
    uint64_t when = 1;
    int acknowledged = 0, in_flight = 0;
    (void)state;
    for (int i = 0; i < kills; i++) {
        struct infer_index *index = NULL;
        const struct vector_index_config config = model_config(&base_alloc_default, path);
        /* Most are killed in their work, some while they open. */
        const unsigned wait = test_rand(&when) % (i % 4 ? 40000 : 4000);
        const int n = run_child(&m, path, wait);
        for (int k = 0; k < n; k++)
            step(&m, NULL);
        acknowledged += n;
        assert_ok(vector_index_open(&index, &config));
        if (!model_is(&m, index)) { /* then the write that was under way is there */
            step(&m, NULL);
            in_flight++;
            assert_true(model_is(&m, index));
        }
        model_check(&m, index);
        if (i % 4 == 0)
            assert_ok(vector_index_verify(index));
        vector_index_close(&index);
    }
    print_message("# %d writes were acknowledged and %d were under way in %d kills\n", acknowledged,
                  in_flight, kills);
    assert_true(acknowledged > kills / 4);
    index_folder_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kills)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
