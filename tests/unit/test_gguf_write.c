/* GGUF writer: what is written is read back; interrupted files are finished, byte for byte as
 * if nothing had happened; no failure leaves a file under the final name. */
#include "gguf_sample.h"
#include "support/test_alloc.h"

#include "format/gguf_draft.h"
#include "format/gguf_write.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_TENSORS 5

static char folder[] = "/tmp/gguf_write.XXXXXX";
static char path[64], part[80], state_path[96];

static int set_up(void **state)
{
    BASE_UNUSED(state);
    strcpy(folder, "/tmp/gguf_write.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    snprintf(part, sizeof part, "%s.part", path);
    snprintf(state_path, sizeof state_path, "%s.part.state", path);
    return 0;
}

static int tear_down(void **state)
{
    BASE_UNUSED(state);
    unlink(path);
    unlink(part);
    unlink(state_path);
    return rmdir(folder); /* fails if anything else was left there */
}

static int exists(const char *name)
{
    return access(name, F_OK) == 0;
}

/* Keys of every type and tensors of odd sizes, one of them larger than a piece of the writer. */
static struct gguf_file *new_plan(uint32_t alignment)
{
    static const uint64_t dims[N_TENSORS][2] = {{3, 1}, {7, 5}, {1000, 700}, {1, 1}, {33, 9}};
    uint8_t *bytes;
    struct gguf_file *keys = open_built(sample(), &bytes), *plan;
    struct gguf_draft *d;
    char name[16];
    assert_ok(gguf_draft_create(&d, &base_alloc_default, "plan"));
    assert_ok(gguf_draft_copy_keys(d, keys));
    if (alignment)
        assert_ok(gguf_draft_u32(d, "general.alignment", alignment));
    for (int i = 0; i < N_TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_ok(gguf_draft_tensor(d, name, INFER_DTYPE_F32, 2, dims[i], NULL, NULL));
    }
    assert_ok(gguf_draft_finish(&d, &plan));
    gguf_close(&keys);
    free(bytes);
    return plan;
}

static uint8_t byte_of(size_t tensor, uint64_t i)
{
    return (uint8_t)(i * 31 + i / 251 + tensor * 7);
}

/* One tensor in puts of uneven sizes. */
static infer_status put_tensor(struct gguf_writer *w, const struct gguf_tensor *t, size_t i)
{
    uint64_t size = 1;
    infer_status st = INFER_OK;
    uint8_t *data = malloc(t->bytes);
    for (uint64_t at = 0; at < t->bytes; at++)
        data[at] = byte_of(i, at);
    for (uint64_t at = 0; at < t->bytes && st == INFER_OK; at += size, size = size * 3 + 1) {
        size = BASE_MIN(size, t->bytes - at);
        st = gguf_writer_put(w, data + at, size);
    }
    free(data);
    return st == INFER_OK ? gguf_writer_end_tensor(w) : st;
}

/* Writes tensors up to `stop`; commits if that is all. `made` counts those of this call. */
static infer_status write_until(const struct gguf_file *plan, uint64_t hash, size_t stop,
                                size_t *made)
{
    struct gguf_writer *w = NULL;
    infer_status st = gguf_writer_open(&w, &base_alloc_default, path, plan, hash);
    *made = 0;
    for (size_t i = w ? gguf_writer_next(w) : stop; st == INFER_OK && i < stop; i++, ++*made)
        st = put_tensor(w, gguf_tensor_at(plan, i), i);
    if (st == INFER_OK && stop == N_TENSORS)
        st = gguf_writer_commit(&w);
    gguf_writer_destroy(&w, 1);
    return st;
}

static char *whole_file(const struct gguf_file *plan, size_t *size)
{
    size_t made;
    assert_ok(write_until(plan, 1, N_TENSORS, &made));
    assert_int_equal(made, N_TENSORS);
    assert_false(exists(part));
    assert_false(exists(state_path));
    char *bytes = test_read(path, size);
    unlink(path);
    return bytes;
}

static void assert_same_file(const char *want, size_t want_size)
{
    size_t size;
    char *got = test_read(path, &size);
    assert_int_equal(size, want_size);
    assert_memory_equal(got, want, size);
    free(got);
    assert_false(exists(part));
    assert_false(exists(state_path));
}

static void read_back(uint32_t alignment)
{
    struct gguf_file *plan = new_plan(alignment), *file;
    size_t made;
    struct stat info;
    assert_ok(write_until(plan, 1, N_TENSORS, &made));
    assert_ok(gguf_open(&file, &base_alloc_default, path, 0));
    assert_int_equal(gguf_version(file), 3);
    assert_int_equal(gguf_n_kv(file), gguf_n_kv(plan));
    for (size_t i = 0; i < gguf_n_kv(plan); i++) {
        const struct gguf_kv *a = gguf_kv_at(plan, i), *b = gguf_kv_at(file, i);
        assert_int_equal(a->key.size, b->key.size);
        assert_memory_equal(a->key.data, b->key.data, a->key.size);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->element_type, b->element_type);
        assert_int_equal(a->n, b->n);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    assert_int_equal(gguf_n_tensors(file), N_TENSORS);
    for (size_t i = 0; i < N_TENSORS; i++) {
        const struct gguf_tensor *a = gguf_tensor_at(plan, i), *b = gguf_tensor_at(file, i);
        assert_true(base_view_equal(b->name, a->name.data));
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->n_dims, b->n_dims);
        assert_memory_equal(a->dims, b->dims, sizeof a->dims);
        assert_int_equal(b->offset % (alignment ? alignment : 32), 0);
        for (uint64_t at = 0; at < b->bytes; at++)
            assert_int_equal(b->data[at], byte_of(i, at));
    }
    gguf_close(&file);
    assert_int_equal(stat(path, &info), 0);
    struct gguf_writer *w;
    assert_ok(gguf_writer_open(&w, &base_alloc_default, path, plan, 1));
    assert_true(gguf_writer_bytes(w) == (uint64_t)info.st_size);
    gguf_writer_destroy(&w, 0);
    assert_null(w);
    gguf_writer_destroy(&w, 0);
    assert_false(exists(part));
    assert_false(exists(state_path));
    gguf_close(&plan);
}

static void test_read_back(void **state)
{
    BASE_UNUSED(state);
    read_back(0);
    read_back(4096);
    read_back(8);
}

/* A draft of no tensors is a file of keys, as a vocabulary is. */
static void test_no_tensors(void **state)
{
    BASE_UNUSED(state);
    struct gguf_draft *d;
    struct gguf_file *plan, *file;
    struct gguf_writer *w;
    assert_ok(gguf_draft_create(&d, &base_alloc_default, "plan"));
    assert_ok(gguf_draft_u32(d, "a", 5));
    assert_ok(gguf_draft_finish(&d, &plan));
    assert_ok(gguf_writer_open(&w, &base_alloc_default, path, plan, 0));
    assert_int_equal(gguf_writer_next(w), 0);
    assert_ok(gguf_writer_commit(&w));
    assert_null(w);
    assert_ok(gguf_open(&file, &base_alloc_default, path, 0));
    assert_int_equal(gguf_n_kv(file), 1);
    gguf_close(&file);
    gguf_close(&plan);
}

static void test_resumed(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *plan = new_plan(0);
    size_t size, made;
    char *want = whole_file(plan, &size);
    for (size_t stop = 0; stop < N_TENSORS; stop++) {
        assert_ok(write_until(plan, 1, stop, &made));
        assert_true(exists(part));
        assert_false(exists(path));
        assert_ok(write_until(plan, 1, N_TENSORS, &made));
        assert_int_equal(made, N_TENSORS - stop);
        assert_same_file(want, size);
        unlink(path);
    }
    free(want);
    gguf_close(&plan);
}

/* Files end, journals end, bytes change: what cannot be trusted is written again. */
static void test_damaged_remains(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *plan = new_plan(0);
    size_t size, made;
    char *want = whole_file(plan, &size);
    const struct {
        const char *name;
        long cut, flip; /* -1: not */
        size_t made;
    } cases[] = {
        {part, -1, 0, 5},        {part, -1, 30, 5},       {part, 10, -1, 5},
        {part, 0, -1, 5},        {state_path, 0, -1, 5},  {state_path, 23, -1, 5},
        {state_path, -1, 9, 5},  {state_path, 24, -1, 5}, {state_path, 31, -1, 5},
        {state_path, 32, -1, 4}, {state_path, 45, -1, 3}, {state_path, -1, 24, 5},
        {state_path, -1, 40, 3},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        assert_ok(write_until(plan, 1, 4, &made));
        FILE *f = fopen(cases[i].name, "r+b");
        if (cases[i].cut >= 0)
            assert_int_equal(ftruncate(fileno(f), cases[i].cut), 0);
        if (cases[i].flip >= 0) {
            fseek(f, cases[i].flip, SEEK_SET);
            int c = fgetc(f);
            fseek(f, cases[i].flip, SEEK_SET);
            fputc(c ^ 1, f);
        }
        fclose(f);
        assert_ok(write_until(plan, 1, N_TENSORS, &made));
        if (made != cases[i].made)
            fail_msg("case %zu wrote %zu tensors, %zu were expected", i, made, cases[i].made);
        assert_same_file(want, size);
        unlink(path);
    }
    /* A byte of the third tensor: two are kept. */
    struct gguf_file *done;
    assert_ok(write_until(plan, 1, 4, &made));
    FILE *f = fopen(path, "wb");
    fwrite(want, 1, size, f);
    fclose(f);
    assert_ok(gguf_open(&done, &base_alloc_default, path, 0));
    long at = (long)gguf_tensor_at(done, 2)->offset + 2000000;
    gguf_close(&done);
    f = fopen(part, "r+b");
    fseek(f, at, SEEK_SET);
    fputc(want[at] ^ 4, f);
    fclose(f);
    assert_ok(write_until(plan, 1, N_TENSORS, &made));
    assert_int_equal(made, 3);
    assert_same_file(want, size);
    free(want);
    gguf_close(&plan);
}

static void test_other_plan(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *plan = new_plan(0), *other = new_plan(64);
    size_t size, made;
    char *want = whole_file(plan, &size);
    assert_ok(write_until(plan, 2, 3, &made)); /* another hash */
    assert_ok(write_until(plan, 1, 2, &made));
    assert_int_equal(made, 2);
    assert_ok(write_until(other, 1, 3, &made)); /* other keys */
    assert_int_equal(made, 3);
    assert_ok(write_until(plan, 1, N_TENSORS, &made));
    assert_int_equal(made, 5);
    assert_same_file(want, size);
    free(want);
    gguf_close(&plan);
    gguf_close(&other);
}

/* The disk is full at every place: IO with the path, then the file is finished. */
static void test_disk_full(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *plan = new_plan(0);
    size_t size, made;
    char *want = whole_file(plan, &size);
    struct rlimit old, small;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    const size_t limits[] = {0, 10, 100, 2000, size / 2, size - 33, size - 1};
    for (size_t i = 0; i < BASE_COUNT(limits); i++) {
        small = old;
        small.rlim_cur = limits[i];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        infer_status st = write_until(plan, 1, N_TENSORS, &made);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(st, INFER_ERR_IO);
        assert_says(part);
        assert_says(strerror(EFBIG));
        assert_false(exists(path));
        assert_ok(write_until(plan, 1, N_TENSORS, &made));
        assert_same_file(want, size);
        unlink(path);
    }
    free(want);
    gguf_close(&plan);
}

/* A process that is killed anywhere, even inside a write, leaves what the next one finishes. */
static void test_killed(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *plan = new_plan(0);
    size_t size, made;
    char *want = whole_file(plan, &size);
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct gguf_writer *w;
            if (gguf_writer_open(&w, &base_alloc_default, path, plan, 1) != INFER_OK)
                _exit(1);
            for (size_t i = gguf_writer_next(w); i < N_TENSORS; i++)
                put_tensor(w, gguf_tensor_at(plan, i), i);
            for (;;)
                pause();
        }
        assert_true(child > 0);
        usleep((useconds_t)(round * 700));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        assert_false(exists(path));
        assert_ok(write_until(plan, 1, N_TENSORS, &made));
        assert_same_file(want, size);
        unlink(path);
    }
    free(want);
    gguf_close(&plan);
}

static void test_refusals(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *plan = new_plan(0);
    struct gguf_writer *w, *second = NULL;
    struct gguf_draft *d;
    assert_ok(gguf_writer_open(&w, &base_alloc_default, path, plan, 1));
    assert_int_equal(gguf_writer_open(&second, &base_alloc_default, path, plan, 1), INFER_ERR_BUSY);
    assert_says(part);
    assert_null(second);
    assert_int_equal(gguf_writer_end_tensor(w), INFER_ERR_INTERNAL);
    assert_says("\"t0\" has 12 bytes, 0 were written");
    assert_int_equal(gguf_writer_commit(&w), INFER_ERR_INTERNAL);
    assert_says("0 of 5 tensors");
    gguf_writer_destroy(&w, 0);
    gguf_close(&plan);

    assert_ok(gguf_draft_create(&d, &base_alloc_default, "plan"));
    assert_ok(gguf_draft_tensor(d, "f8", INFER_DTYPE_F32, 1, one_dim, NULL, NULL));
    assert_ok(gguf_draft_finish(&d, &plan));
    assert_int_equal(gguf_writer_open(&w, &base_alloc_default, "/nowhere/m.gguf", plan, 1),
                     INFER_ERR_IO);
    assert_says("/nowhere/m.gguf.part: cannot create");
    assert_int_equal(gguf_writer_open(&w, &base_alloc_default, "/dev/full/m", plan, 1),
                     INFER_ERR_IO);
    assert_int_equal(mkdir(path, 0777), 0); /* a folder where the file should be */
    assert_ok(gguf_writer_open(&w, &base_alloc_default, path, plan, 1));
    uint8_t zeros[32] = {0};
    assert_ok(gguf_writer_put(w, zeros, 32));
    assert_ok(gguf_writer_end_tensor(w));
    assert_int_equal(gguf_writer_commit(&w), INFER_ERR_IO);
    assert_says("cannot rename");
    gguf_writer_destroy(&w, 0);
    assert_int_equal(rmdir(path), 0);
    gguf_close(&plan);
}

/* Each allocation refused in turn: NO_MEMORY, nothing leaks, and then it works. */
static void test_no_memory(void **state)
{
    BASE_UNUSED(state);
    struct gguf_file *plan = new_plan(0);
    infer_status st = INFER_ERR_NO_MEMORY;
    size_t n = 0;
    while (st != INFER_OK) {
        struct test_alloc t;
        struct gguf_writer *w = NULL;
        test_alloc_init(&t);
        t.fail_at = ++n;
        st = gguf_writer_open(&w, &t.alloc, path, plan, 1);
        for (size_t i = w ? gguf_writer_next(w) : 0; st == INFER_OK && i < N_TENSORS; i++)
            st = put_tensor(w, gguf_tensor_at(plan, i), i);
        if (st == INFER_OK)
            st = gguf_writer_commit(&w);
        gguf_writer_destroy(&w, 1);
        if (st != INFER_OK)
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_int_equal(t.live_blocks, 0);
        assert_true(n < 1000);
    }
    assert_true(n > 5);
    gguf_close(&plan);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_read_back),       TEST(test_no_tensors), TEST(test_resumed),
        TEST(test_damaged_remains), TEST(test_other_plan), TEST(test_disk_full),
        TEST(test_killed),          TEST(test_refusals),   TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
